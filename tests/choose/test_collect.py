"""The command that keeps the catalog, against indexes on 127.0.0.1: what the catalog says, and one release more."""

import importlib.util
import json
import re
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from uvtorch import catalog as catalogs
from uvtorch.backend import Backend, parse

CATALOG = catalogs.load()
TOOL = Path(__file__).parents[2] / "tools" / "collect_catalog.py"
TAGS = {
    "linux_x86_64": "manylinux_2_28_x86_64",
    "linux_aarch64": "manylinux2014_aarch64",
    "windows_amd64": "win_amd64",
    "windows_arm64": "win_arm64",
    "macos_arm64": "macosx_11_0_arm64",
    "macos_x86_64": "macosx_10_9_x86_64",
}
NEW = {"cpu": ("linux_x86_64", "macos_arm64"), "cu132": ("linux_x86_64",), "cu134": ("linux_x86_64",)}
"""Where 2.16.0 is, for Python 3.12."""


class Indexes:
    """A server of pages by path, which counts what it is asked."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.busy: set[str] = set()
        self.asked: list[str] = []
        indexes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                indexes.asked.append(self.path)
                code = 503 if self.path in indexes.busy else 200 if self.path in indexes.pages else 403
                indexes.busy.discard(self.path)
                body = indexes.pages.get(self.path, "").encode() if code == 200 else b""
                self.send_response(code)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def list(self, index: str, name: str, files: list[str]) -> None:
        links = (f'<a href="/files/{file.replace("+", "%2B")}#sha256=0">{file}</a>' for file in files)
        self.pages[f"/{index}/{name}/"] = "<html><body>" + "\n".join(links) + "</body></html>"


def wheels(backend: str, version: str, platform: str, pythons: frozenset[str], name: str = "torch") -> list[str]:
    local = "" if platform.startswith("macos") else f"+{backend}"
    plain = {python: f"cp{python.replace('.', '').rstrip('t')}" for python in pythons}
    return [
        f"{name}-{version}{local}-{tag}-{tag}{'t' * python.endswith('t')}-{TAGS[platform]}.whl"
        for python, tag in plain.items()
    ]


@pytest.fixture
def indexes() -> Iterator[Indexes]:
    """What the catalog says, one release more, and what is to be passed over."""
    found = Indexes()
    for backend, index in CATALOG.builds.items():
        files = [
            file
            for release, cells in index.items()
            for platform, build in cells.items()
            for file in wheels(str(backend), release, platform, build.pythons)
        ]
        noise = ["torch-1.11.0-cp39-cp39-manylinux2014_aarch64.whl", "torch-2.17.0rc1+cpu-cp312-cp312-win_amd64.whl"]
        found.list(f"whl/{backend}", "torch", [*files, *noise, "torch-2.99.0+other-cp312-cp312-win_amd64.whl", "x.whl"])
        found.list(f"whl/{backend}", "torchvision", [f"torchvision-0.29.2+{backend}-cp312-cp312-win_amd64.whl"])
    for name, platforms in NEW.items():
        more = [file for one in platforms for file in wheels(name, "2.16.0", one, frozenset(["3.12"]))]
        page = found.pages.get(f"/whl/{name}/torch/", "")
        found.list(f"whl/{name}", "torch", more)
        found.pages[f"/whl/{name}/torch/"] += page
    own = wheels("", "2.16.0", "macos_arm64", frozenset(["3.12"]))[0].replace("macosx_11_0_arm64", "{}")
    files = [own.format("manylinux_2_28_x86_64"), own.format("win_amd64")]
    rows = [{"filename": one, "url": f"/files/{one}", "upload-time": "2026-12-23T10:00:00Z"} for one in files]
    found.pages["/simple/torch/"] = json.dumps({"files": rows})
    found.pages[f"/files/{files[0]}.metadata"] = (
        "Requires-Dist: sympy\nRequires-Dist: cuda-toolkit[cublas]==13.2.1; sys_platform == 'linux'\n"
    )
    found.list("simple", "torchvision", ["torchvision-0.30.0-py3-none-any.whl", "torchvision-0.20.0-py3-none-any.whl"])
    found.pages["/files/torchvision-0.30.0-py3-none-any.whl.metadata"] = "Requires-Dist: torch>=2.16.0\n"
    found.list("simple", "torchcodec", ["torchcodec-0.18.0-py3-none-any.whl"])
    threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The command, on a copy of the catalog and without pauses."""
    if not TOOL.exists():
        pytest.skip("the maintainer's commands are not part of an sdist")
    spec = importlib.util.spec_from_file_location("collect_catalog", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in catalogs.texts().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "CATALOG", tmp_path)
    monkeypatch.setattr(module.Pages, "pause", 0)
    return module


def test_what_the_program_writes_is_what_the_files_hold(tool: types.ModuleType) -> None:
    """A change by hand has the form that the program writes."""
    texts = catalogs.texts()
    assert tool.builds_toml(CATALOG) == texts["builds.toml"]
    assert tool.pairs_toml(texts["pairs.toml"], {}, CATALOG.releases, []) == texts["pairs.toml"]
    assert tool.kernels_toml(texts["kernels.toml"], CATALOG, []) == texts["kernels.toml"]


def test_a_new_release_is_collected_shown_and_written_when_told(
    tool: types.ModuleType, indexes: Indexes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, before = tmp_path / "collected.json", (tmp_path / "builds.toml").read_bytes()
    where = ["--index-base", f"{indexes.url}/whl", "--default-index", f"{indexes.url}/simple"]
    arguments = [*where, "--cache", str(tmp_path / "cache")]
    indexes.busy.add("/whl/cu132/torch/")
    assert tool.main([*arguments, "--save", str(saved)]) == 0
    shown = capsys.readouterr()
    assert f"[1] {indexes.url}/whl/cpu/torch/" in shown.err
    assert indexes.asked.count("/whl/cu132/torch/") == 2  # it was busy, and is asked again
    assert '+"2.16.0" = "2026-12-23"\n' in shown.out
    assert (tmp_path / "builds.toml").read_bytes() == before
    notes = shown.out.partition("To look at:")[2]
    assert "- cu134 has torch 2.16.0: kernels.toml needs rows of its kernels first" in notes
    assert "- torchcodec 0.18.0 says nothing of torch: taken to go with 2.11.0-" in notes
    assert "- cu132 2.16.0 on linux_x86_64: its kernels are taken to be those of 2.15.0" in notes
    assert "gone from its index" not in notes

    # What was read is not asked for again, and can be read without the network.
    indexes.asked.clear()
    assert tool.main(arguments) == 0
    assert indexes.asked == []
    assert tool.main(["--collected", str(saved), "--write"]) == 0
    new = catalogs.read({name: (tmp_path / name).read_text(encoding="utf-8") for name in catalogs.FILES})
    assert new.newest == "2.16.0"
    cu132 = new.builds[Backend("cu", (13, 2))]["2.16.0"]
    assert {key: (build.pythons, build.certainty) for key, build in cu132.items()} == {
        "linux_x86_64": (frozenset(["3.12"]), "server")
    }
    assert new.builds.keys() == CATALOG.builds.keys()
    assert new.pypi["2.16.0"] == {
        "linux_x86_64": (parse("cu132"), frozenset(["3.12"])),
        "windows_amd64": (Backend("cpu"), frozenset(["3.12"])),
    }
    kernels = new.kernels[Backend("cu", (13, 2)), "2.16.0", "linux_x86_64"]
    assert kernels.codes == CATALOG.kernels[Backend("cu", (13, 2)), "2.15.0", "linux_x86_64"].codes
    assert kernels.certainty == "inferred"
    assert new.pairs["torchvision"]["0.30.0"] == ("2.16.0",)
    assert "2.16.0" in new.pairs["torchcodec"]["0.18.0"]
    # What was there is there: seen now, where it was a guess before.
    for backend, index in CATALOG.builds.items():
        for release, cells in index.items():
            assert {key: build.pythons for key, build in new.builds[backend][release].items()} == {
                key: build.pythons for key, build in cells.items()
            }
    assert all(
        one.certainty in tool.SEEN for index in new.builds.values() for row in index.values() for one in row.values()
    )


def test_what_would_not_hold_together_is_not_written_and_a_silent_index_is_an_error(
    tool: types.ModuleType, indexes: Indexes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--default-index", f"{indexes.url}/simple", "--cache", str(tmp_path / "cache"), "--write"]
    before = (tmp_path / "builds.toml").read_bytes()
    assert tool.main(["--index-base", "http://127.0.0.1:1/whl", *where]) == 1
    assert "Connection refused" in capsys.readouterr().err
    del indexes.pages["/simple/torch/"]
    assert tool.main(["--index-base", f"{indexes.url}/whl", *where]) == 1
    assert "builds.toml: 2.16.0: PyPI's wheel is not known" in capsys.readouterr().err
    assert (tmp_path / "builds.toml").read_bytes() == before


def test_the_weekly_workflow_runs_it_with_pinned_actions_and_no_more_rights_than_it_needs() -> None:
    path = TOOL.parents[1] / ".github" / "workflows" / "catalog.yml"
    if not path.exists():
        pytest.skip("the workflows are not part of an sdist")
    text = path.read_text(encoding="utf-8")
    assert "python tools/collect_catalog.py --write" in text
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name) and re.match(r" # v\d", said) for name, said in used)
    assert "\npermissions: {}\n" in text
    assert sorted(re.findall(r"^ +([\w-]+): write", text, re.MULTILINE)) == ["contents", "pull-requests"]

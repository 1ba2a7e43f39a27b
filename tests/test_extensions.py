"""Packages compiled against torch: the table, and `uvtorch add` of them against stand-ins for their indexes."""

import io
import re
import tarfile
import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.choose.catalog_faults import CERTAINTIES
from tests.index.contents import LINUX
from tests.index.project import Project
from tests.index.wheels import Wheel
from uvtorch import catalog
from uvtorch.backend import PLATFORMS, Backend
from uvtorch.errors import UsageError
from uvtorch.packages import extension_names, normalize, roles
from uvtorch.steps import extensions

pytest_plugins = ["tests.index.fixtures"]

PACKAGED = Path(catalog.__file__).with_name("extensions.toml").read_text(encoding="utf-8")
CU130 = Backend("cu", (13, 0))
PYTHONS = ("cp311", "cp312", "cp313", "cp314")


def linux(name: str, version: str, *requires: str) -> list[Wheel]:
    return [Wheel(name, version, f"{python}-{python}-{LINUX}", requires) for python in PYTHONS]


def astral(backend: str) -> list[Wheel]:
    """As on wheels.astral.sh: each wheel requires the torch that its local version names."""
    dotted = f"cu.{backend[2:4]}.{backend[4:]}" if backend != "cpu" else "cpu"
    known = {"cu126": ("2.10", "2.11"), "cu128": ("2.9", "2.10", "2.11"), "cu130": ("2.10", "2.11"), "cpu": ("2.11",)}
    found = []
    for torch in known.get(backend, ()):
        if backend != "cpu":
            for version in ("2.8.2", "2.8.3.post1"):
                found += linux("flash-attn", f"{version}+{dotted}.torch.{torch}", f"torch=={torch}.*", "numpy")
            if torch != "2.11":
                found += linux("mamba-ssm", f"2.3.2+{dotted}.torch.{torch}", f"torch=={torch}.*")
        found += linux("torch-scatter", f"2.1.2+{dotted}.torch.{torch}", f"torch=={torch}.*")
    return found


def pyg(torch: str, backend: str) -> list[Wheel]:
    """As on data.pyg.org: wheels that do not say which torch they need."""
    if torch not in ("2.9", "2.10", "2.11") or backend not in ("cpu", "cu128", "cu130"):
        return []
    local = f"+pt{torch.replace('.', '')}{backend}"
    found = linux("torch-sparse", f"0.6.18{local}", "numpy")
    return found + linux("torch-cluster", f"1.6.3{local}") if torch != "2.11" else found


def natten() -> list[Wheel]:
    """As on whl.natten.org: one page for all, told apart by exact versions. Fewer here than the table lists."""
    rows = [("0.21.6", "2.11", "cu130"), ("0.21.6", "2.11", "cu126"), ("0.21.6", "2.10", "cu128")]
    return [
        wheel
        for version, torch, backend in rows
        for wheel in linux("natten", f"{version}+torch{torch.replace('.', '')}0{backend}", "torch")
    ]


class Handler(BaseHTTPRequestHandler):
    """Serves `/astral/simple/<backend>/<name>/`, `/pyg/whl/torch-<release>+<backend>.html`, `/natten`."""

    protocol_version = "HTTP/1.1"
    wheels: dict[str, Wheel] = {}  # noqa: RUF012
    down = False
    silent = False

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0]).rstrip("/")
        name = path.rpartition("/")[2]
        found: list[Wheel] = []
        if name.removesuffix(".metadata") in self.wheels and name.removesuffix(".metadata").endswith(".whl"):
            wheel = self.wheels[name.removesuffix(".metadata")]
            return self.send(200, wheel.metadata if name.endswith(".metadata") else wheel.content)
        if match := re.fullmatch(r"/astral/simple/(\w+)/([a-z0-9-]+)", path):
            found = [wheel for wheel in astral(match[1]) if wheel.name == match[2]]
        elif match := re.fullmatch(r"/pyg/whl/torch-(\d+\.\d+)\.0\+(\w+)\.html", path):
            found = pyg(match[1], match[2])
        elif path == "/natten":
            found = natten()
        if self.silent:
            time.sleep(4)
        if self.down:
            return self.send(500, b"out of order")
        if not found:
            return self.send(404, b"not found")
        self.wheels.update({wheel.filename: wheel for wheel in found})
        folder = "" if path.startswith("/astral") else "/files/"
        links = "\n".join(wheel.link().replace('href="', f'href="{folder}') for wheel in found)
        return self.send(200, f"<!DOCTYPE html>\n<html><body>\n{links}\n</body></html>\n".encode(), "text/html")

    do_HEAD = do_GET  # noqa: N815

    def send(self, code: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture(scope="session")
def stand_in() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def demo(project: Project, stand_in: str, tmp_path: Path) -> Project:
    """A project as `uv init` makes it, with the table's indexes on this machine."""
    table = tmp_path / "extensions.toml"
    text = PACKAGED.replace("https://wheels.astral.sh/", f"{stand_in}/astral/")
    text = text.replace("https://data.pyg.org/", f"{stand_in}/pyg/").replace(
        "https://whl.natten.org", f"{stand_in}/natten"
    )
    assert "https://" not in re.sub(r'source = ".*"', "", text)
    table.write_text(text, encoding="utf-8")
    project.environment["UVTORCH_EXTENSIONS"] = str(table)
    return project


def uv(project: Project) -> dict[str, object]:
    found: dict[str, object] = project.data["tool"]["uv"]
    return found


def anchors(project: Project) -> list[str]:
    found: list[str] = project.data.get("dependency-groups", {}).get("uvtorch", [])
    return found


def indexes(project: Project) -> dict[str, tuple[str, object, object]]:
    rows = project.data.get("tool", {}).get("uv", {}).get("index", [])
    return {
        row["name"]: (re.sub(r"http://127\.0\.0\.1:\d+", "", row["url"]), row.get("format"), row.get("explicit"))
        for row in rows
    }


def sound(project: Project) -> dict[str, str]:
    """Plain uv is content; what it installs."""
    project.uv("lock", "--check").must()
    project.uv("sync", "--locked").must()
    return project.installed()


# An index has builds


@pytest.mark.parametrize(
    ("machine", "backend", "version"),
    [
        ("h200-580", "cu130", "2.8.3.post1+cu.13.0.torch.2.11"),
        ("h100-535", "cu126", "2.8.3.post1+cu.12.6.torch.2.11"),
        ("h100-570", "cu126", "2.8.3.post1+cu.12.6.torch.2.11"),
    ],
)
def test_flash_attn_comes_from_its_index_with_a_torch_to_match(
    demo: Project, machine: str, backend: str, version: str
) -> None:
    done = demo.uvtorch("add", "flash-attn", machine=machine).must()
    assert indexes(demo)[f"astral-{backend}"] == (f"/astral/simple/{backend}/", None, True)
    assert demo.data["tool"]["uv"]["sources"]["flash-attn"] == [{"index": f"astral-{backend}"}]
    assert demo.data["project"]["dependencies"] == ["flash-attn>=2.8.3.post1"]
    assert anchors(demo) == ["torch"]
    installed = sound(demo)
    assert installed["flash-attn"] == version
    assert installed["torch"] == f"2.11.0+{backend}"
    (said,) = done.ours
    assert said.startswith("uvtorch: flash-attn 2.8.3.post1 from ")
    assert f"built for torch 2.11: using {backend} (torch 2.11.0)" in said

    before = demo.state()
    again = demo.uvtorch("add", "flash-attn", machine=machine).must()
    assert demo.state() == before
    assert not again.ours


def test_the_requests_torch_decides_which_build(demo: Project) -> None:
    demo.uvtorch("add", "torch==2.10.*", "flash-attn", machine="h200-580").must()
    installed = sound(demo)
    assert installed["flash-attn"] == "2.8.3.post1+cu.13.0.torch.2.10"
    assert installed["torch"] == "2.10.0+cu130"
    assert anchors(demo) == []


def test_an_unbounded_torch_is_kept_at_a_release_that_has_a_build(demo: Project) -> None:
    demo.uvtorch("add", "torch", "flash-attn", "torchvision", machine="h200-580").must()
    installed = sound(demo)
    assert installed["torch"] == "2.11.0+cu130"
    assert installed["torchvision"] == "0.26.0+cu130"
    assert demo.data["project"]["dependencies"] == ["flash-attn>=2.8.3.post1", "torch>=2.11.0", "torchvision>=0.26.0"]
    demo.uv("lock", "--upgrade").must()  # and stays there
    assert sound(demo) == installed


def test_two_extensions_meet_at_a_torch_that_both_have(demo: Project) -> None:
    demo.uvtorch("add", "flash-attn", "mamba-ssm", machine="h200-580").must()
    installed = sound(demo)
    assert installed["mamba-ssm"] == "2.3.2+cu.13.0.torch.2.10"
    assert installed["flash-attn"] == "2.8.3.post1+cu.13.0.torch.2.10"
    assert installed["torch"] == "2.10.0+cu130"


@pytest.mark.parametrize("how", ["--torch-backend", "UV_TORCH_BACKEND", "configuration"])
def test_a_backend_that_is_named_is_taken(demo: Project, how: str) -> None:
    if how == "configuration":
        demo.append('\n[tool.uvtorch]\nbackend = "cu128"\n')
    option = [how, "cu128"] if how.startswith("-") else []
    env = {how: "cu128"} if how.startswith("UV") else {}
    demo.uvtorch("add", "flash-attn", *option, machine="h200-580", **env).must()
    assert sound(demo)["flash-attn"] == "2.8.3.post1+cu.12.8.torch.2.11"
    assert list(indexes(demo)) == ["pytorch-cu128", "astral-cu128"]


def test_a_pinned_project_keeps_its_backend_and_its_index(demo: Project) -> None:
    demo.append(
        '\n[tool.uv.sources]\ntorch = { index = "pt" }  # ours\n'
        '\n[[tool.uv.index]]\nname = "pt"\nurl = "BASE/cu126"\nexplicit = true\n'
    )
    demo.uvtorch("add", "torch", "flash-attn", machine="h200-580").must()
    assert list(indexes(demo)) == ["pt", "astral-cu126"]
    assert "# ours" in demo.text
    assert sound(demo)["torch"] == "2.11.0+cu126"


def test_a_cpu_build_where_there_is_one(demo: Project) -> None:
    demo.uvtorch("add", "torch-scatter", machine="cpu-only").must()
    installed = sound(demo)
    assert installed["torch-scatter"] == "2.1.2+cpu.torch.2.11"
    assert installed["torch"] == "2.11.0+cpu"


def test_pytorchs_own_index_has_some(demo: Project) -> None:
    demo.uvtorch("add", "xformers", machine="h200-580").must()
    assert demo.data["tool"]["uv"]["sources"]["xformers"] == [{"index": "pytorch-cu130"}]
    installed = sound(demo)
    assert installed["xformers"] == "0.0.35+cu130"
    assert installed["torch"] == "2.11.0+cu130"
    demo.uvtorch("remove", "xformers").must()
    assert indexes(demo) == {}
    assert anchors(demo) == []


def test_a_page_of_links_bounds_torch(demo: Project) -> None:
    done = demo.uvtorch("add", "torch", "torch-sparse", machine="h200-580").must()
    assert indexes(demo)["pyg-2.11-cu130"] == ("/pyg/whl/torch-2.11.0+cu130.html", "flat", True)
    assert anchors(demo) == ["torch==2.11.*"]
    assert demo.data["project"]["dependencies"] == ["torch>=2.11.0", "torch-sparse>=0.6.18"]
    assert "warning: " not in done.err
    installed = sound(demo)
    assert installed["torch-sparse"] == "0.6.18+pt211cu130"
    assert installed["torch"] == "2.11.0+cu130"
    demo.uvtorch("remove", "torch-sparse").must()
    assert anchors(demo) == []
    assert list(indexes(demo)) == ["pytorch-cu130"]
    sound(demo)


def test_index_and_pages_are_used_together(demo: Project) -> None:
    demo.uvtorch("add", "torch", "torch-scatter", "torch-sparse", "torch-cluster", machine="h200-580").must()
    installed = sound(demo)
    assert installed["torch"] == "2.10.0+cu130"
    assert installed["torch-scatter"] == "2.1.2+cu.13.0.torch.2.10"
    assert installed["torch-sparse"] == "0.6.18+pt210cu130"
    assert installed["torch-cluster"] == "1.6.3+pt210cu130"
    assert list(indexes(demo)) == ["pytorch-cu130", "astral-cu130", "pyg-2.10-cu130"]
    demo.uvtorch("remove", "torch-cluster").must()
    assert anchors(demo) == ["torch==2.10.*"]
    assert list(indexes(demo)) == ["pytorch-cu130", "astral-cu130", "pyg-2.10-cu130"]


def test_what_does_not_require_torch_meets_a_torch_that_comes_later(demo: Project) -> None:
    demo.uvtorch("add", "torch-sparse", machine="cpu-only").must()
    assert sound(demo)["torch-sparse"] == "0.6.18+pt211cpu"
    demo.uvtorch("add", "torch", machine="cpu-only").must()
    installed = sound(demo)
    assert installed["torch"] == "2.11.0+cpu"
    assert installed["torch-sparse"] == "0.6.18+pt211cpu"


@pytest.mark.parametrize(("backend", "torch"), [("cu130", "2.11.0"), ("cu126", "2.11.0"), ("cu128", "2.10.0")])
def test_one_page_for_all_needs_the_exact_version(demo: Project, backend: str, torch: str) -> None:
    demo.uvtorch("add", "natten", "--torch-backend", backend, machine="h200-580").must()
    local = f"torch{torch.replace('.', '')}{backend}"
    assert anchors(demo) == [f"torch=={torch.removesuffix('.0')}.*", f"natten==0.21.6+{local}"]
    assert demo.data["project"]["dependencies"] == ["natten>=0.21.6"]
    installed = sound(demo)
    assert installed["natten"] == f"0.21.6+{local}"
    assert installed["torch"] == f"{torch}+{backend}"
    demo.uvtorch("remove", "natten").must()
    assert anchors(demo) == []
    assert indexes(demo) == {}


def test_removing_takes_all_along(demo: Project) -> None:
    initial = demo.text
    demo.uvtorch("add", "flash-attn", machine="h200-580").must()
    demo.uvtorch("remove", "flash-attn").must()
    assert demo.text == initial
    assert "torch" not in demo.installed()


def test_an_index_that_another_extension_uses_stays(demo: Project) -> None:
    demo.uvtorch("add", "flash-attn", "torch-scatter", machine="h200-580").must()
    demo.uvtorch("remove", "flash-attn").must()
    assert list(indexes(demo)) == ["pytorch-cu130", "astral-cu130"]
    assert anchors(demo) == ["torch"]
    assert sound(demo)["torch"] == "2.11.0+cu130"


def test_another_backend_takes_the_extensions_along(demo: Project) -> None:
    demo.uvtorch("add", "torch", "flash-attn", machine="h200-580").must()
    demo.uvtorch("torch", "use", "cu126").must()
    assert list(indexes(demo)) == ["astral-cu126", "pytorch-cu126"]
    installed = sound(demo)
    assert installed["flash-attn"] == "2.8.3.post1+cu.12.6.torch.2.11"
    assert installed["torch"] == "2.11.0+cu126"
    before = demo.state()
    demo.uvtorch("torch", "use", "xpu").must(1)  # no extension there: uv says so
    assert demo.state() == before


def test_another_backend_takes_pages_and_bounds_along(demo: Project) -> None:
    demo.uvtorch("add", "torch", "torch-sparse", machine="h200-580").must()
    demo.uvtorch("torch", "use", "cpu").must()
    assert anchors(demo) == ["torch==2.11.*"]
    assert indexes(demo)["pyg-2.11-cpu"] == ("/pyg/whl/torch-2.11.0+cpu.html", "flat", True)
    assert sound(demo)["torch-sparse"] == "0.6.18+pt211cpu"


def test_another_backend_takes_exact_builds_along(demo: Project) -> None:
    demo.uvtorch("add", "torch", "natten", machine="h200-580").must()
    demo.uvtorch("torch", "use", "cu126").must()
    assert anchors(demo) == ["natten==0.21.6+torch2110cu126", "torch==2.11.*"]
    assert sound(demo)["natten"] == "0.21.6+torch2110cu126"


# No index has a build


def warning(err: str) -> str:
    (row,) = [row for row in err.splitlines() if row.startswith("warning: ")]
    return row


def test_a_build_from_source_is_announced_with_what_it_needs(demo: Project) -> None:
    demo.uvtorch("add", "torch", machine="h200-580").must()
    before = demo.state()
    done = demo.uvtorch("add", "flash-attn", machine="h200-580").must(1)  # the default index here has none to build
    said = warning(done.err)
    assert said.startswith(
        "warning: no index known for flash-attn has a build for torch 2.15.0 and cu130; torch 2.11 has"
    )
    assert "`uvtorch add 'torch==2.11.*' flash-attn`" in said
    assert "nvcc of CUDA 13.0" in said
    assert "no-build-isolation-package" in said
    assert "extra-build-dependencies" in said
    assert demo.state() == before


BACKEND = """\
import os, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "flash_attn-2.8.3-py3-none-any.whl"
    info = "flash_attn-2.8.3.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        metadata = "Metadata-Version: 2.1\\nName: flash-attn\\nVersion: 2.8.3\\nRequires-Dist: torch\\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def test_a_build_from_source_goes_on_with_the_right_torch(demo: Project, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    with tarfile.open(sources / "flash_attn-2.8.3.tar.gz", "w:gz") as archive:
        build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        info = "Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n"
        for name, text in (("backend.py", BACKEND), ("pyproject.toml", build), ("PKG-INFO", info)):
            member = tarfile.TarInfo(f"flash_attn-2.8.3/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    demo.append(f"\n[tool.uv]\nfind-links = ['{sources}']\n")
    done = demo.uvtorch("add", "flash-attn", machine="cpu-only").must()
    assert "uv will build it from source" in warning(done.err)
    assert anchors(demo) == ["torch"]
    installed = sound(demo)
    assert installed["flash-attn"] == "2.8.3"
    assert installed["torch"] == "2.15.0+cpu"


@pytest.mark.parametrize(
    ("machine", "package", "needs"),
    [
        ("cpu-only", "flash-attn", "nvcc, and a torch for CUDA"),
        ("mi300x-gfx942", "torch-scatter", "a C++ compiler"),
        ("windows-rtx5090-572", "flash-attn", "nvcc of CUDA 12.8"),
        ("h200-580", "adan", "nvcc of CUDA 13.0"),
    ],
)
def test_machines_without_a_build(demo: Project, machine: str, package: str, needs: str) -> None:
    before = demo.state()
    done = demo.uvtorch("add", package, machine=machine).must(1)
    assert f"uv will build it from source, which needs {needs}, and torch at build time" in warning(done.err)
    assert demo.state() == before


def test_what_pypi_has_wheels_of_is_not_built(demo: Project) -> None:
    done = demo.uvtorch("add", "xformers", machine="cpu-only")
    assert "build it from source" not in done.err
    assert warning(done.err).endswith("PyPI's may be for another torch or CUDA")


def test_an_index_that_says_nothing_is_not_waited_for(demo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than two seconds, however long uv itself would wait for it."""
    monkeypatch.setattr(Handler, "silent", True)
    bare = demo.uv("add", "flash-attn")
    done = demo.uvtorch("add", "flash-attn", machine="h200-580", UV_HTTP_TIMEOUT="60").must(bare.code)
    assert "could not be asked" in warning(done.err)


def test_an_index_that_is_out_of_order_is_no_no(demo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv goes on as without uvtorch, with a warning."""
    monkeypatch.setattr(Handler, "down", True)
    bare = demo.uv("add", "flash-attn")
    before = demo.state()
    done = demo.uvtorch("add", "flash-attn", machine="h200-580").must(bare.code)
    assert "could not be asked (HTTP status server error (500" in warning(done.err)
    assert warning(done.err).endswith("flash-attn is left to uv, and may be built for another torch or CUDA")
    assert demo.state() == before


def test_an_index_that_the_user_names_is_the_users_affair(demo: Project, stand_in: str) -> None:
    index = f"house={stand_in}/astral/simple/cu128/"
    demo.uvtorch("add", "torch==2.11.*", "--torch-backend", "cu128").must()
    done = demo.uvtorch("add", "flash-attn", "--index", index, machine="broken-mismatch").must()
    assert demo.data["tool"]["uv"]["sources"]["flash-attn"] == {"index": "house"}
    assert "warning" not in done.err


SEVERAL = (
    '\n[project.optional-dependencies]\ncpu = ["torch"]\ngpu = ["torch"]\n\n[tool.uv]\n'
    'conflicts = [[{ extra = "cpu" }, { extra = "gpu" }]]\n\n[tool.uv.sources]\n'
    'torch = [{ index = "a", extra = "cpu" }, { index = "b", extra = "gpu" }]\n'
    '\n[[tool.uv.index]]\nname = "a"\nurl = "BASE/cpu"\nexplicit = true\n'
    '\n[[tool.uv.index]]\nname = "b"\nurl = "BASE/cu130"\nexplicit = true\n'
)


def test_one_choice_of_several_backends_gets_its_build(demo: Project) -> None:
    demo.append(SEVERAL)
    demo.uvtorch("add", "--optional", "gpu", "flash-attn", machine="cpu-only").must()
    assert demo.data["tool"]["uv"]["sources"]["flash-attn"] == [{"index": "astral-cu130", "extra": "gpu"}]
    extras = demo.data["project"]["optional-dependencies"]
    assert extras == {"cpu": ["torch"], "gpu": ["flash-attn>=2.8.3.post1", "torch"]}
    demo.uv("lock", "--check").must()
    demo.uv("sync", "--locked", "--extra", "gpu").must()
    installed = demo.installed()
    assert installed["flash-attn"] == "2.8.3.post1+cu.13.0.torch.2.11"
    assert installed["torch"] == "2.11.0+cu130"
    demo.uv("sync", "--locked", "--extra", "cpu").must()
    assert demo.installed()["torch"].endswith("+cpu")
    assert "flash-attn" not in demo.installed()


def test_a_choice_has_to_be_named(demo: Project) -> None:
    demo.append(SEVERAL)
    before = demo.state()
    done = demo.uvtorch("add", "flash-attn", machine="h200-580").must(1)
    assert "`uvtorch add --optional gpu flash-attn` adds it to that choice" in warning(done.err)
    assert demo.state() == before
    done = demo.uvtorch("add", "--optional", "cpu", "flash-attn", machine="h200-580").must(1)
    assert "needs nvcc, and a torch for CUDA" in warning(done.err)
    assert demo.state() == before


def test_a_dry_run_shows_it_all(demo: Project) -> None:
    before = demo.state()
    done = demo.uvtorch("add", "torch-sparse", "torch", "--dry-run", machine="h200-580").must()
    assert demo.state() == before
    assert '+format = "flat"' in done.out
    assert '+    "torch==2.11.*",' in done.out
    assert done.out.endswith("$ uv add torch-sparse torch\n")


def test_a_failure_restores_every_file(demo: Project, tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\n[ "$1" = add ] && exit 7\nexec "{demo.home.uv}" "$@"\n')
    uv.chmod(0o755)
    before = demo.state()
    demo.uvtorch("add", "flash-attn", machine="h200-580", UVTORCH_UV=str(uv)).must(7)
    assert demo.state() == before


# The table


def known_indexes() -> dict[str, extensions.Index]:
    return {index.name: index for one in extensions.table({}).values() for index in one.indexes}


def test_the_table_holds_together() -> None:
    data, found, indexes = tomllib.loads(PACKAGED), extensions.table({}), known_indexes()
    assert indexes.keys() == data["index"].keys()
    for name, row in data["index"].items():
        assert row["certainty"] in CERTAINTIES, name
        assert row["source"], name
        assert set(row["platforms"].split()) <= set(PLATFORMS), name
        assert "-" not in name, "a dash separates its name from what follows"
        url, index = row.get("url"), indexes[name]
        # Where no part of the URL is the backend, only exact versions tell builds apart.
        assert bool(index.builds) == (url is not None and "{backend}" not in url), name
        assert {backend for _, backend in index.builds} <= index.backends, name
        assert not (index.flat and index.declares), "pages of links are not asked what their wheels declare"
    for name, row in data["build"].items():
        assert row["certainty"] in CERTAINTIES, name
        assert row["source"], name
    assert all(name == normalize(name) and one.indexes for name, one in found.items())


def test_the_door_knows_the_same_names() -> None:
    names = set(extensions.table({}))
    assert names >= {
        "flash-attn", "xformers", "torch-scatter", "torch-sparse", "torch-cluster", "torch-spline-conv", "pyg-lib",
        "vllm", "natten", "causal-conv1d", "mamba-ssm",
    }  # fmt: skip
    assert names <= extension_names()
    assert not {"", "torch", "requests", "flash", "flash-attn-9"} & extension_names()
    pins = {name for name, role in roles().items() if role == "pin"}
    assert not names & pins


@pytest.mark.parametrize(
    ("wrong", "right", "fault"),
    [
        ("https://wheels.astral.sh", "http://wheels.astral.sh", "not encrypted"),
        ("https://wheels.astral.sh", "http://127.0.0.1.example.com", "not encrypted"),
        ("https://wheels.astral.sh", "https://me:x@wheels.astral.sh", "https://****@wheels.astral.sh"),
        ("simple/{backend}/", "simple/{backend}/}", "a brace in the URL"),
        ("simple/{backend}/", "simple/{backend:>9999999999}/", "a brace in the URL"),
        ("[index.pyg]\nurl", "[index.p-yg]\nurl", "cannot be read"),
        ('platforms = "linux_x86_64 linux_aarch64"', "platforms = 12", "cannot be read"),
        ('"0.21.7+torch2130{backend}"', "12", "cannot be read"),
        ('indexes = ["astral"]', 'indexes = "astral"', "cannot be read"),
        ('build = "cuda"', 'build = ["cuda"]', "cannot be read"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_found(wrong: str, right: str, fault: str, tmp_path: Path) -> None:
    assert PACKAGED.count(wrong) >= 1
    changed = PACKAGED.replace(wrong, right, 1)
    path = tmp_path / "table.toml"
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(fault)):
        extensions.table({"UVTORCH_EXTENSIONS": str(path)})


@pytest.mark.parametrize("content", [None, "=", "[index.x]\nbackends = 'cu'\nplatforms = ''\n[package]\n", "index = 3"])
def test_a_table_that_cannot_be_read_is_an_error(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "table.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="cannot be read"):
        extensions.table({"UVTORCH_EXTENSIONS": str(path)})


def test_urls_and_names() -> None:
    rows = known_indexes()
    assert rows["astral"].located(CU130, "2.12", "B") == "https://wheels.astral.sh/simple/cu130/"
    assert rows["astral"].written_name(CU130, "2.12") == "astral-cu130"
    assert rows["pyg"].located(CU130, "2.12", "B") == "https://data.pyg.org/whl/torch-2.12.0+cu130.html"
    assert rows["pyg"].written_name(CU130, "2.12") == "pyg-2.12-cu130"
    assert rows["natten"].located(CU130, "2.12", "B") == "https://whl.natten.org"
    assert rows["natten"].written_name(CU130, "2.12") == "natten"
    assert rows["natten"].builds["2.12", CU130] == "0.21.7+torch2120cu130"
    assert rows["pytorch"].located(CU130, "2.12", "B/") == "B/cu130"
    assert rows["pytorch"].written_name(CU130, "2.12") == "pytorch-cu130"
    for name in ("astral", "pyg", "natten"):
        assert rows[name].wrote(rows[name].written_name(CU130, "2.12"), rows[name].located(CU130, "2.12", "B"))
    for name, url in (
        ("house", "https://wheels.astral.sh/simple/cu130/"),
        ("astral-cu130", "https://example.com/simple/cu130/"),
        ("pytorch-cu130", "https://download.pytorch.org/whl/cu130"),
    ):
        assert not any(row.wrote(name, url) for row in rows.values())

"""What uv is asked: the whole command line of each question, and what becomes of the answer. No uv runs here.

That uv takes these command lines and answers so is for the tests on the real uv.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_subprocess import FakeProcess

from tests.conftest import MACHINES
from uvtorch import index_query, uv
from uvtorch.argv import parse
from uvtorch.backend import Backend
from uvtorch.backend import parse as parse_backend
from uvtorch.choose import Decision, Request
from uvtorch.errors import NoBuild, UsageError
from uvtorch.session import Session
from uvtorch.steps import resolve, route

BASE = "https://example.com/whl"
CU126 = Backend("cu", (12, 6))
COMPILE = ["uv", "pip", "compile", "-q", "--no-header", "--no-annotate"]
ON_LINUX = ["--python-platform", "x86_64-manylinux_2_28"]


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., Session]:
    """A session on the machine with an H100, whose uv is called `uv`."""

    def begin(*words: str) -> Session:
        made = Session(parse([*words]), {"UVTORCH_HARDWARE": str(MACHINES / "h100-570.json"), "HOME": str(tmp_path)})
        made.__dict__["uv"] = "uv"
        return made

    return begin


def test_an_index_is_asked_with_nothing_of_the_users_configuration(
    fp: FakeProcess, session: Callable[..., Session]
) -> None:
    asked = [
        *COMPILE,
        "--no-config",
        "--default-index",
        f"{BASE}/cu126",
        "--no-deps",
        *ON_LINUX,
        "--python-version",
        "3.12",
        "-",
    ]
    fp.register(asked, stdout="torch==2.99.0+cu126\n")
    here = session("torch", "explain")
    request = Request(("torch==2.99.0",), "3.12")
    found = index_query.settle(Decision(None, ask=(CU126,)), here.machine, request, here.catalog, BASE, "uv")
    assert (found.backend, found.torch) == (CU126, "2.99.0")
    assert [*fp.calls] == [asked]


def test_the_next_index_is_asked_where_one_has_nothing_and_none_after_one_that_is_down(
    fp: FakeProcess, session: Callable[..., Session]
) -> None:
    here, backends = session("torch", "explain"), (CU126, Backend("cu", (12, 4)))
    questions = [
        [*COMPILE, "--no-config", "--default-index", f"{BASE}/{one}", "--no-deps", *ON_LINUX, "-"] for one in backends
    ]
    fp.register(questions[0], returncode=1)
    fp.register(questions[1], returncode=2, stderr="error: no\n  cause: connection refused\n")
    with pytest.raises(NoBuild, match=r"cu124 could not be asked \(connection refused\)"):
        index_query.settle(Decision(None, ask=backends), here.machine, Request(("torch==9",)), here.catalog, BASE, "uv")
    assert [*fp.calls] == questions


def test_a_nightly_index_is_asked_for_what_comes_with_torch(fp: FakeProcess) -> None:
    nightly = parse_backend("nightly/rocm7.2")
    assert nightly
    url = f"{BASE}/nightly/rocm7.2"
    asked = [*COMPILE, "--no-config", "--default-index", url, "--prerelease", "allow", *ON_LINUX, "-"]
    fp.register(asked, stdout="numpy==2.1\ntorch==2.16.0.dev1+rocm7.2\ntriton-rocm==3.6.0+git1\n")
    assert index_query.nightly_companions(nightly, Request(), BASE, "uv") == ("triton-rocm",)
    assert [*fp.calls] == [asked]


def test_a_mirror_that_is_no_index_is_asked_once_more_as_a_page_of_links(fp: FakeProcess) -> None:
    url, rest = f"{BASE}/cu126", [*ON_LINUX, "-"]
    first = [*COMPILE, "--no-config", "--no-deps", "--default-index", url, *rest]
    second = [*COMPILE, "--no-config", "--no-deps", "--no-index", "--find-links", f"{url}/", *rest]
    fp.register(first, returncode=1)
    fp.register(second)
    with pytest.raises(UsageError, match="flat page of links"):
        index_query.check_mirror("uv", url, None)
    assert [*fp.calls] == [first, second]


def test_requirements_are_stdin_and_the_backend_of_the_environment_is_kept_from_uv(
    fp: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_TORCH_BACKEND", "cpu")
    given: list[object] = []
    process = fp.register([*COMPILE, "-"], stdin_callable=given.append)
    index_query.compiled("uv", (), Request(("torch", "numpy")), "")
    assert given == ["torch\nnumpy\n"]
    assert "UV_TORCH_BACKEND" not in (process.calls[0].kwargs or {})["env"]
    assert "UV_HTTP_RETRIES" not in (process.calls[0].kwargs or {})["env"]


def test_who_does_not_wait_gives_an_index_two_seconds(fp: FakeProcess) -> None:
    process = fp.register(["uv", "lock"])
    uv.ask("uv", ["lock"], patient=False)
    env = (process.calls[0].kwargs or {})["env"]
    assert {env[name] for name in ("UV_HTTP_CONNECT_TIMEOUT", "UV_HTTP_TIMEOUT")} == {"2"}


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("pip install torch", ["--no-project"]),
        ("pip install --system torch", ["--no-project", "--system"]),
        ("pip install -p 3.13 torch", ["--no-project", "3.13"]),
        ("--no-config pip install torch", ["--no-config", "--no-project"]),
        ("tool install torch", ["--no-project", "--system"]),
        ("tool run --python 3.11 --from torch python", ["--no-project", "--system", "3.11"]),
    ],
)
def test_the_python_that_is_installed_into_is_found_as_the_command_would(
    typed: str, asked: list[str], fp: FakeProcess, session: Callable[..., Session], tmp_path: Path
) -> None:
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("version_info = 3.12.4\n")
    fp.register(["uv", "python", "find", *asked], stdout=f"{environment}/bin/python\n")
    python, installed = route.target_of(session(*typed.split()))
    assert (python, installed is not None) == ("3.12", "pip install" in typed)
    assert [*fp.calls] == [["uv", "python", "find", *asked]]


def test_whether_this_uv_knows_a_backend_is_asked_of_the_verb(fp: FakeProcess, session: Callable[..., Session]) -> None:
    asked = ["uv", "pip", "install", "--torch-backend", "cu126", "--help"]
    fp.register(asked, occurrences=1)
    assert route.knows(session("pip", "install", "torch"), "cu126")
    fp.register(asked, returncode=2)
    assert not route.knows(session("pip", "install", "torch"), "cu126")


def test_what_a_script_resolves_to_is_exported_with_the_options_that_were_given(
    fp: FakeProcess, session: Callable[..., Session], tmp_path: Path
) -> None:
    path = tmp_path / "train.py"
    path.write_text('# /// script\n# dependencies = ["timm"]\n# ///\n')
    asked = ["uv", "export", "--offline", "--index", "https://example.com/simple", "--quiet", "--script", str(path)]
    fp.register(
        [*asked, "--format", "pylock.toml"],
        stdout='[[packages]]\nname = "torch"\nversion = "2.9.1"\n[[packages]]\nname = "timm"\nversion = "1.0"\n',
    )
    here = session("--offline", "add", "--index", "https://example.com/simple", "--script", str(path), "timm")
    assert resolve._resolved_in_script(here) == {"torch": "2.9.1"}

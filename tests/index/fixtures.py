"""The fixtures of tests that run the real uv against the indexes: `pytest_plugins = ["tests.index.fixtures"]`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.index.forked import FORKED
from tests.index.project import MACHINES, Home, Project, Shell
from tests.index.server import IndexServer
from tests.situations import Make, Situation


@pytest.fixture(scope="session")
def index_server() -> Iterator[IndexServer]:
    """PyTorch's indexes and a default index; one server a test process."""
    with IndexServer() as server:
        yield server


@pytest.fixture
def tmp_path(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """For the real uv the same path in each test: a Python at a path that is new to uv is started to ask what it is."""
    if "home" not in request.fixturenames:
        yield tmp_path
        return
    place = tmp_path_factory.getbasetemp() / "place"
    place.mkdir()
    yield place
    place.rename(tmp_path / "place")
    cache = request.getfixturevalue("home").environment["UV_CACHE_DIR"]
    shutil.rmtree(Path(cache, "environments-v2"), ignore_errors=True)  # those of scripts, by their paths


@pytest.fixture(scope="session")
def real_uv() -> str:
    """The uv that the extra `test` installs beside the interpreter, else the one on PATH."""
    found = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
    assert found, "these tests run the real uv"
    return found


@pytest.fixture(scope="session")
def home(index_server: IndexServer, real_uv: str, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An environment for uv in which nothing comes from outside: its own cache, configuration and default index."""
    root = tmp_path_factory.mktemp("home")
    config = root / "config" / "uv" / "uv.toml"
    config.parent.mkdir(parents=True)
    # In a file: from UV_DEFAULT_INDEX, `uv add` would write the index into the project.
    config.write_text(f'[[index]]\nurl = "{index_server.default}"\ndefault = true\n', encoding="utf-8")
    environment = {
        "PATH": os.pathsep.join([os.path.dirname(real_uv), os.environ.get("PATH", os.defpath)]),
        "HOME": str(root),
        "XDG_CONFIG_HOME": str(root / "config"),
        "XDG_DATA_HOME": str(root / "data"),
        "UV_CACHE_DIR": str(root / "cache"),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "UV_LINK_MODE": "copy",
        "UVTORCH_INDEX_BASE": index_server.base,
        "HTTP_PROXY": "http://127.0.0.1:9",  # nobody listens there: what is not on this machine cannot be reached
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
        "NO_COLOR": "1",
        "PYTHONWARNINGS": "error",
    }
    for name in ("PYTHONPATH", "SYSTEMROOT"):  # where uvtorch is found; Windows opens no socket without the other
        if name in os.environ:
            environment[name] = os.environ[name]
    return Home(index_server, real_uv, environment)


@pytest.fixture(scope="session")
def initialized(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `uv init` makes."""
    path = tmp_path_factory.mktemp("initialized") / "demo"
    path.mkdir()
    Project(home, path).uv("init", "--vcs", "none").must()
    return path


@pytest.fixture
def project(home: Home, initialized: Path, tmp_path: Path) -> Project:
    """A project as `uv init` makes it."""
    shutil.copytree(initialized, tmp_path / "demo")
    return Project(home, tmp_path / "demo")


@pytest.fixture
def empty(home: Home, tmp_path: Path) -> Callable[[str], Project]:
    """Makes a project in a directory of its own with this pyproject.toml, in which `BASE` is the indexes' URL."""

    def make(text: str) -> Project:
        path = tmp_path / "made"
        path.mkdir(exist_ok=True)
        return Project(home, path).write(text)

    return make


@pytest.fixture
def make(home: Home, tmp_path: Path) -> Iterator[Make]:
    """Makes a project of this pyproject.toml; in the end each remedy that it was told is typed."""
    (tmp_path / "made").mkdir()
    project = Situation(home, tmp_path / "made")
    yield project.write
    project.type_what_was_told()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a documented block as a person would: in a shell, in the project, with uvtorch and uv on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(where: Project, text: str) -> None:
        environment = {**where.environment, "UVTORCH_HARDWARE": str(MACHINES / "h200-580.json")}
        environment["PATH"] = os.pathsep.join([str(folder), environment["PATH"]])
        channel = FORKED.program(folder / "uvtorch", environment)
        done = subprocess.run(
            ["sh", "-exc", text],
            cwd=where.path,
            env=environment,
            pass_fds=[channel],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "error: " not in done.stderr

    return run

"""What every test can rely on: nothing of the machine it runs on gets into it, or out of it, by accident.

The guard: no test reaches the network, the machine's own GPUs, or a program that is not its own, unless it says so.

- In this process only loopback addresses can be connected to or looked up; children get a proxy that refuses all else.
- `libnvidia-ml` is loaded only from below pytest's temporary directory, where tests put their stand-in. What detects
  hardware by the environment, here or in a child, finds a machine without a GPU.
- uvtorch, running in this process, starts only programs below the temporary directory: those a test has made. The
  marker `processes` lifts this. What a test starts itself, it has said.
- uv's and uvtorch's variables are not those of whoever runs the tests.
"""

import gc
import ipaddress
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.index.forked import FORKED

MACHINES = Path(__file__).parent / "machines"

# What is compiled is kept also where others do without: assertions are rewritten, which takes a process some seconds.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# First on PATH, where uv looks for a Python: what stands there otherwise may start shells before it starts one (pyenv).
os.environ["PATH"] = os.pathsep.join([os.path.dirname(os.path.realpath(sys.executable)), os.environ.get("PATH", "")])

# In memory where that has room and starts programs: uvtorch waits for the disk with each file, hundreds of times here.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and os.path.isdir("/dev/shm"):
    memory = os.statvfs("/dev/shm")
    if memory.f_bavail * memory.f_frsize > 2**31 and not memory.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = "/dev/shm"


class _Guard:
    """Python's own audit events, looked at while a test runs. An audit hook cannot be taken away again."""

    def __init__(self) -> None:
        self.on = False
        self.own = ""
        """Where tests make programs and libraries."""
        self.processes = False
        self.standin = False
        """A test's own NVML has been loaded; the library's name means that one from then on."""

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "socket.connect":
            self._connect(args[1])
        elif event == "socket.getaddrinfo":
            self._connect((args[0],))
        elif event == "ctypes.dlopen":
            self._load(args[0])
        elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.startfile"):
            self._start(args[0], args[1])
        elif event == "os.system" and _by_uvtorch():
            raise AssertionError("uvtorch asks a shell")

    def _connect(self, address: Any) -> None:
        if not isinstance(address, tuple) or address[0] in (None, "", b"", "localhost", b"localhost"):
            return
        host = os.fsdecode(address[0])
        try:
            if ipaddress.ip_address(host).is_loopback:
                return
        except ValueError:
            pass
        raise AssertionError(f"a test reaches the network: {host}")

    def _load(self, name: Any) -> None:
        text = str(name)
        if "nvidia-ml" not in text and "nvml" not in text:
            return
        if text.startswith(self.own):
            self.standin = True
        elif not self.standin:
            raise AssertionError(f"a test loads the machine's own {text}")

    def _start(self, program: Any, arguments: Any) -> None:
        words = [os.fsdecode(word) for word in arguments] if isinstance(arguments, list | tuple) else []
        if any(word.endswith("ask_nvml.py") for word in words):
            if not words[-1].startswith(self.own):
                raise AssertionError("a test asks the machine's own NVML")
            return
        path = os.path.abspath(os.fsdecode(program))
        if not self.processes and not path.startswith(self.own) and _by_uvtorch():
            raise AssertionError(f"uvtorch starts {path}, which the test did not make")


def _by_uvtorch() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__", "").partition(".")[0] == "uvtorch":
            return True
    return False


_guard = _Guard()
sys.addaudithook(_guard)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "processes: uvtorch may start programs that the test did not make")


def pytest_collection_finish() -> None:
    """What was collected lives to the end: the search for garbage, a tenth of the tests' time, passes over it."""
    gc.collect()
    gc.freeze()


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def guard(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    for name in [*os.environ]:
        if name == "UV" or name.startswith(("UV_", "UVTORCH_")):
            monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    # One each: a command that was run in this process, and ended in an error, may still have its lock.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_NUMBERS)}"))
    monkeypatch.setenv("UVTORCH_HARDWARE", str(MACHINES / "cpu-only.json"))
    _guard.own = str(tmp_path_factory.getbasetemp().resolve()) + os.sep
    _guard.processes = request.node.get_closest_marker("processes") is not None
    _guard.standin = False
    _guard.on = True
    yield
    _guard.on = False


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script `uvtorch`, as installers write it, in a directory of its own."""
    path = tmp_path_factory.mktemp("launcher") / "uvtorch"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom uvtorch.cli import main\nsys.exit(main())\n")
    path.chmod(0o755)
    return path


class Done(NamedTuple):
    """How a command ended: its exit code (negative: by which signal), stdout and stderr."""

    code: int
    out: bytes
    err: bytes

    def refused(self, code: int = 2) -> str:
        """The message of a refusal: one `error:` line, then hints, nothing on stdout and no traceback."""
        first, *rest = self.err.decode().splitlines()
        assert (self.code, self.out) == (code, b""), self
        assert first.startswith("error: "), self
        assert all(row.startswith("hint: ") for row in rest), self
        return first.removeprefix("error: ")


Uvtorch = Callable[..., Done]


@pytest.fixture
def uvtorch(tmp_path: Path) -> Uvtorch:
    """Runs uvtorch in a process of its own, in an empty directory, with `UVTORCH_UV` and nothing else of uv's."""
    directory = tmp_path / "here"
    directory.mkdir()

    def run(
        *args: str | bytes,
        uv: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes = b"",
    ) -> Done:
        environment = dict(os.environ if env is None else env)
        if uv is not None:
            environment["UVTORCH_UV"] = str(uv)
        done = FORKED.run(args, cwd or directory, environment, stdin)
        return Done(done.returncode, done.stdout, done.stderr)

    return run

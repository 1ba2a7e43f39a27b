"""A command line that uvtorch does not act on reaches uv as it is: held against a uv that records its start."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Uvtorch
from tests.recording_uv import RecordingUv
from uvtorch import cli, uv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the recording uv asks /proc")


@pytest.fixture
def recording(tmp_path: Path) -> RecordingUv:
    return RecordingUv(tmp_path / "bin" / "uv")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [""],
        ["", "", "--", ""],
        ["pip", "list"],
        ["pip", "install", "--torch-backend", "cpu", "requests"],
        ["--", "add", "torch"],
        ["run", "--", "pytest", "--", "-k", "x"],
        ["run", "pytest", "--auto", "--torch-backend", "cu126"],
        ["run", "-m", "pytest", "--help"],
        ["tool", "run", "--", "--", "x"],
        ["init", "--", "-x"],
        ["sync", "--dry-run"],
        ["add", "torch", "--no-such-option"],
        ["sync", "--no-such-option=1", "--version"],
        ["remove", "numpy", "--bounds"],
        ["two words", "a\tb", "c\nd", "'\"$HOME`x`\\"],
        ["caf\u00e9", "\u65e5\u672c\u8a9e", "\U0001f525", "e\u0301"],
        [b"\xff\xfe", b"run\x80", b"--\xff=\xfe"],
        ["run", b"\xff", "--torch-backend"],
        ["python", *(f"argument {number}" for number in range(2000))],
        ["x" * 100_000],
        ["-", "-q"],
        ["-qq", "--color=never", "pip", "tree"],
        ["help", "venv"],
        ["version", "--short"],
        ["torches"],
    ],
    ids=lambda argv: repr(argv)[:40],
)
def test_arguments_reach_uv_to_the_byte(argv: list[str | bytes], uvtorch: Uvtorch, recording: RecordingUv) -> None:
    done = uvtorch(*argv, uv=recording.path)
    assert (done.code, done.err) == (0, b"")
    assert recording.call.argv == [os.fsencode(word) for word in argv]


def test_run_auto_keeps_both_double_dashes(uvtorch: Uvtorch, recording: RecordingUv) -> None:
    assert uvtorch("run", "--auto", "--", "pytest", "--", "-k", "x", uv=recording.path).code == 0
    assert recording.call.argv == [b"run", b"--", b"pytest", b"--", b"-k", b"x"]


@pytest.mark.parametrize("code", [0, 1, 2, 77, 255])
def test_the_exit_code_is_uvs(code: int, uvtorch: Uvtorch, tmp_path: Path) -> None:
    assert uvtorch("pip", "list", uv=RecordingUv(tmp_path / "bin" / "uv", f"exit {code}").path).code == code


def test_a_verb_without_its_torch_and_none_are_uvs_to_refuse_and_ours_are_named(
    uvtorch: Uvtorch, tmp_path: Path
) -> None:
    bare = b"hint: `uvtorch torch` is about PyTorch's builds, and `uvtorch --help` shows what else it adds\n"
    doctor = b"hint: did you mean `uvtorch torch doctor`?\n"
    for number, (code, words, hint) in enumerate(
        (
            (2, ["doctor", "--fix"], doctor),
            (0, ["doctor", "--fix"], b""),
            (2, [], bare),
            (2, ["--offline"], b""),
            (1, [], b""),
        )
    ):
        fake = RecordingUv(tmp_path / str(number) / "uv", f"exit {code}")
        done = uvtorch(*words, uv=fake.path)
        assert (done.code, done.out, done.err) == (code, b"", hint)
        assert fake.call.argv == [word.encode() for word in words]


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT", "SEGV", "PIPE"])
def test_a_uv_that_a_signal_ends_is_seen_to_end_by_it(name: str, uvtorch: Uvtorch, tmp_path: Path) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", f"kill -{name} $$; sleep 5")
    assert uvtorch("pip", "list", uv=fake.path).code == -signal.Signals[f"SIG{name}"]


def test_it_is_the_same_process(launcher: Path, recording: RecordingUv, tmp_path: Path) -> None:
    with subprocess.Popen(
        [launcher, "pip", "list"], env={"UVTORCH_UV": str(recording.path), "LANG": "C.UTF-8"}, cwd=tmp_path
    ) as process:
        process.wait()
    assert recording.call.pid == process.pid


def test_streams_are_inherited(uvtorch: Uvtorch, tmp_path: Path) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "cat; echo to stderr >&2")
    content = os.urandom(200_000)
    done = uvtorch("pip", "install", "-r", "-", uv=fake.path, stdin=content)
    assert done == (0, content, b"to stderr\n")


def test_stdin_is_not_read_ahead(launcher: Path, tmp_path: Path) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "head -c 2 >/dev/null")
    file = tmp_path / "stdin"
    file.write_bytes(b"ab" + b"rest")
    env = {"UVTORCH_UV": str(fake.path), "PATH": os.defpath}
    with file.open("rb", buffering=0) as stdin:
        subprocess.run([launcher, "pip", "list"], stdin=stdin, env=env, check=True)
        assert stdin.read() == b"rest"


@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_terminal_stays_one(which: tuple[int, ...], launcher: Path, recording: RecordingUv, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    streams = [theirs if fd in which else subprocess.DEVNULL for fd in range(3)]
    command = [str(launcher), "pip", "list"]
    env = {"UVTORCH_UV": str(recording.path), "PATH": os.defpath}
    subprocess.run(command, stdin=streams[0], stdout=streams[1], stderr=streams[2], env=env, check=True, cwd=tmp_path)
    os.close(ours)
    os.close(theirs)
    assert recording.call.terminals == frozenset(which)


def test_the_working_directory_stays(uvtorch: Uvtorch, recording: RecordingUv, tmp_path: Path) -> None:
    directory = tmp_path / "caf\u00e9 au lait"
    directory.mkdir()
    uvtorch("pip", "list", uv=recording.path, cwd=directory)
    assert recording.call.cwd == directory


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"LANG": "C"},
        {"LANG": "C", "LC_CTYPE": "C"},
        {"LC_CTYPE": "POSIX"},
        {"LC_CTYPE": "C.UTF-8"},
        {"LC_CTYPE": "en_US.UTF-8"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C.UTF-8", "LC_CTYPE": "C"},
        {"PYTHONUTF8": "0", "LANG": "C"},
        {"UV": "/nowhere/uv", "UV_TORCH_BACKEND": "cu126", "UVTORCH_INDEX_BASE": "http://127.0.0.1:1"},
        {"EMPTY": "", "SIGN": "=", "LINES\n": "a\nb", "\udcff": "\udcfe"},
    ],
    ids=str,
)
def test_the_environment_stays(more: dict[str, str], uvtorch: Uvtorch, recording: RecordingUv) -> None:
    given = {"PATH": os.defpath, "UVTORCH_UV": str(recording.path), **more}
    assert uvtorch("pip", "list", env=given).code == 0
    received = recording.call.environment
    # What the kernel passes on as one string cannot be told apart: compare it so.
    assert sorted(b"=".join(pair) for pair in received.items()) == sorted(
        os.fsencode(f"{name}={value}") for name, value in given.items()
    )


def test_the_environment_stays_where_uvtorch_waits(uvtorch: Uvtorch, recording: RecordingUv) -> None:
    given = {"PATH": os.defpath, "UVTORCH_UV": str(recording.path), "LANG": "C"}
    assert uvtorch("sync", "--help", env=given).code == 0
    assert recording.call.environment == {os.fsencode(name): os.fsencode(value) for name, value in given.items()}


@pytest.mark.parametrize("arguments", [["pip", "list"], ["sync", "--help"]], ids=["exec", "wait"])
def test_signals_are_as_a_shell_sets_them(arguments: list[str], uvtorch: Uvtorch, recording: RecordingUv) -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and exec would pass that on."""
    assert uvtorch(*arguments, uv=recording.path).code == 0
    assert not recording.call.ignores(signal.SIGPIPE)
    assert not recording.call.ignores(signal.SIGXFSZ)
    assert not recording.call.ignores(signal.SIGINT)
    assert recording.call.blocked == 0


@pytest.mark.parametrize("arguments", [["pip", "list"], ["sync", "--help"]], ids=["exec", "wait"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_ignored_signals_stay_ignored(
    arguments: list[str], number: signal.Signals, launcher: Path, recording: RecordingUv, tmp_path: Path
) -> None:
    """As nohup ignores SIGHUP, and a shell SIGINT for its background jobs."""
    env = {"UVTORCH_UV": str(recording.path), "PATH": os.defpath}
    command = ["sh", "-c", f'trap "" {number.name[3:]}; "$@"', "sh", str(launcher), *arguments]
    subprocess.run(command, env=env, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert recording.call.ignores(number)


@pytest.mark.parametrize("arguments", [["pip", "list"], ["sync", "--help"]], ids=["exec", "wait"])
def test_file_descriptors_are_inherited(arguments: list[str], launcher: Path, tmp_path: Path) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "ls /proc/$$/fd >fds; echo x >&7")
    theirs = tmp_path / "theirs"
    env = {"UVTORCH_UV": str(fake.path), "PATH": os.defpath}
    seen = []
    for program in (fake.path, launcher):
        command = ["sh", "-c", 'exec "$@" 7>"$0"', str(theirs), str(program), *arguments]
        subprocess.run(command, env=env, cwd=tmp_path, check=True, capture_output=True)
        assert theirs.read_bytes() == b"x\n"
        seen.append((tmp_path / "fds").read_text())
    assert seen[0] == seen[1], "neither more nor less than without uvtorch"


IMPORTED = """\
import os, sys
start = set(sys.modules)
opened = []
def hook(event, args):
    if event == "open":
        opened.append(str(args[0]))
    if event == "os.exec":
        print(sorted(set(sys.modules) - start))
        print([name for name in opened if not name.endswith((".py", ".pyc"))])
        sys.stdout.flush()
        os._exit(0)
sys.addaudithook(hook)
sys.argv = ["uvtorch", *sys.argv[1:]]
from uvtorch.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["pip", "list"],
        ["pip", "install", "six"],
        ["tool", "run", "-w", "six", "x", "torch"],
        ["tree"],
        ["--quiet", "venv"],
        ["run", "--", "x"],
        ["init"],
    ],
)
def test_handing_over_imports_nothing_and_reads_nothing(
    arguments: list[str], recording: RecordingUv, tmp_path: Path
) -> None:
    """The start-up cost of everything else is what a user would feel on every command."""
    (tmp_path / "pyproject.toml").write_text("not TOML")
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({_home()!r})\n{IMPORTED}", *arguments],
        env={"UVTORCH_UV": str(recording.path), "LANG": "C.UTF-8"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    modules, opened = done.stdout.splitlines()
    assert modules == str(["uvtorch", "uvtorch.argv", "uvtorch.cli", "uvtorch.uv"])
    read = [name for name in eval(opened) if name != str(recording.path)]
    if arguments[0] == "run":  # `auto = true` may stand in a pyproject.toml here or above
        read = [name for name in read if os.path.basename(name) != "pyproject.toml"]
    assert read == []


def _home() -> str:
    return str(Path(cli.__file__).parents[1])


def test_a_version_is_uvs_then_ours(uvtorch: Uvtorch, recording: RecordingUv) -> None:
    from uvtorch import __version__

    done = uvtorch("--version", uv=recording.path)
    assert done == (0, f"uv 0.13.8 (recorded)\nuvtorch {__version__}\n".encode(), b"")
    assert uvtorch("-V", uv=recording.path) == (0, f"uvtorch {__version__}\n".encode(), b"")
    assert [call.argv for call in recording.calls] == [[b"--version"], [b"-V"]]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["add", "--help"], ["help"], ["help", "sync"]])
def test_where_uv_fails_its_code_is_all(arguments: list[str], uvtorch: Uvtorch, tmp_path: Path) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "exit 7", version_code=7)
    done = uvtorch(*arguments, uv=fake.path)
    assert done.code == 7
    assert b"uvtorch" not in done.out


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["--help"], ["--torch-backend", "--auto", "--dry-run", "torch <VERB>"]),
        (["-h"], ["--torch-backend", "--auto", "--dry-run", "torch <VERB>"]),
        (["--help", "add"], ["--torch-backend", "--auto", "--dry-run", "torch <VERB>"]),
        (["help"], ["--torch-backend", "--auto", "--dry-run", "torch <VERB>"]),
        (["add", "--help"], ["--torch-backend", "--dry-run"]),
        (["-q", "add", "torch", "-h"], ["--torch-backend", "--dry-run"]),
        (["help", "add"], ["--torch-backend", "--dry-run"]),
        (["remove", "--help"], ["--dry-run"]),
        (["sync", "--auto", "--help"], ["--torch-backend", "--auto"]),
        (["run", "--help"], ["--torch-backend", "--auto"]),
        (["export", "--help"], ["--torch-backend", "--auto"]),
        (["lock", "--help"], ["--torch-backend"]),
        (["pip", "--help"], []),
        (["run", "pytest", "--help"], []),
    ],
    ids=str,
)
def test_help_is_uvs_then_what_is_added(
    arguments: list[str], ours: list[str], uvtorch: Uvtorch, tmp_path: Path
) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "echo help of uv")
    done = uvtorch(*arguments, uv=fake.path)
    first, *added = done.out.decode().splitlines()
    assert (done.code, done.err, first) == (0, b"", "help of uv")
    assert fake.call.argv == [word.encode() for word in arguments if word != "--auto"]  # which uv lacks
    text = "\n".join(added)
    assert ("uvtorch adds:" in text) == bool(ours)
    options = {"--torch-backend", "--auto", "--dry-run", "torch <VERB>"}
    rows = [row.strip() for row in added]
    assert {name for name in options if any(row.startswith(name) or row.endswith(name) for row in rows)} == set(ours)


def test_help_on_our_own_verb_is_ours(uvtorch: Uvtorch, recording: RecordingUv) -> None:
    assert b"detect" in uvtorch("help", "torch", uv=recording.path).out
    assert recording.calls == []


def test_on_windows_uvtorch_waits_and_exits_with_uvs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """exec would return to the caller at once, with 0."""
    monkeypatch.setattr(uv, "WINDOWS", True)
    fake = RecordingUv(tmp_path / "bin" / "uv", "exit 77")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as end:
        uv.hand_over(str(fake.path), ["pip", "list", "--", ""])
    assert end.value.code == 77
    assert fake.call.argv == [b"pip", b"list", b"--", b""]
    assert fake.call.pid != os.getpid()
    assert not fake.call.ignores(signal.SIGINT), "an ignored Ctrl-C would be ignored by uv as well"
    assert signal.getsignal(signal.SIGINT) == before


def test_on_windows_a_ctrl_c_ends_uv_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console sends it to both; uvtorch goes on waiting."""
    monkeypatch.setattr(uv, "WINDOWS", True)
    fake = RecordingUv(
        tmp_path / "bin" / "uv", f"kill -INT {os.getpid()}; sleep 0.1; touch '{tmp_path}/cleaned'; exit 3"
    )
    with uv.Interrupted() as interrupted:
        assert uv.run(str(fake.path), ["sync"], interrupted) == 3
    assert interrupted.code == 130
    assert (tmp_path / "cleaned").exists()


def test_on_windows_a_status_that_python_cannot_exit_with_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        def __init__(self, *_: object, **__: object) -> None: ...

        def wait(self) -> int:
            return 0xC000013A

    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.setattr(uv, "WINDOWS", True)
    monkeypatch.delattr(os, "POSIX_SPAWN_DUP2")
    for code in (uv.run("uv", [], uv.Interrupted()), uv.run_quietly("uv", [], uv.Interrupted())[0]):
        assert code & 0xFFFFFFFF == 0xC000013A
        assert code == -1073741510

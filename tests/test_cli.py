"""The door: what uvtorch takes on, what it hands over, and that no user meets a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MACHINES, Done, Uvtorch
from tests.recording_uv import RecordingUv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs of POSIX")

TOML = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = []\n'
UNPINNED = TOML.replace("[]", '["torch"]')


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    path = tmp_path / "demo"
    path.mkdir()
    (path / "pyproject.toml").write_text(TOML)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> RecordingUv:
    return RecordingUv(tmp_path / "bin" / "uv")


def test_an_add_edits_and_then_uv_adds(demo: Path, uvtorch: Uvtorch, recording: RecordingUv) -> None:
    done = uvtorch("-q", "add", "--dev", "torch", "--torch-backend", "cpu", "--", "pillow", uv=recording.path, cwd=demo)
    assert done == (0, b"", b"")
    assert recording.commands[0] == ["-q", "add", "--dev", "torch", "--", "pillow"]
    assert 'url = "https://download.pytorch.org/whl/cpu"' in (demo / "pyproject.toml").read_text()


@pytest.mark.parametrize("where", ["--directory", "--project", "UV_WORKING_DIR", "UV_PROJECT"])
def test_the_project_is_where_uv_finds_it(
    where: str, demo: Path, uvtorch: Uvtorch, recording: RecordingUv, tmp_path: Path
) -> None:
    option = [where, "demo"] if where.startswith("--") else []
    env = {**os.environ, **({} if option else {where: "demo"})}
    for arguments in (
        [*option, "add", "torch", "--torch-backend", "cpu"],
        ["add", "torch", "--torch-backend=cpu", *option],
    ):
        (demo / "pyproject.toml").write_text(TOML)
        assert uvtorch(*arguments, uv=recording.path, cwd=tmp_path, env=env).code == 0
        assert "pytorch-cpu" in (demo / "pyproject.toml").read_text()
    expected = [*option, "add", "torch"], ["add", "torch", *option]
    assert [command for command in recording.commands if "add" in command] == [*expected]


def test_dry_run_shows_and_does_nothing(demo: Path, uvtorch: Uvtorch) -> None:
    done = uvtorch("add", "torch", "--torch-backend", "cpu", "--dry-run", uv=Path("/nowhere/uv"), cwd=demo)
    assert (done.code, done.err) == (0, b"")
    assert b"+++ b/pyproject.toml\n" in done.out
    assert b"\n$ uv add torch\n" in done.out
    assert [path.name for path in demo.iterdir()] == ["pyproject.toml"]
    assert (demo / "pyproject.toml").read_text() == TOML


@pytest.mark.parametrize("verb", ["sync", "run", "export"])
@pytest.mark.parametrize("how", ["--auto", "--torch-backend", "UV_TORCH_BACKEND", "auto = true"])
def test_every_way_to_ask_for_the_choice(
    verb: str, how: str, demo: Path, uvtorch: Uvtorch, recording: RecordingUv
) -> None:
    (demo / "pyproject.toml").write_text(UNPINNED + ("[tool.uvtorch]\nauto = true\n" if "=" in how else ""))
    option = {"--auto": ["--auto"], "--torch-backend": ["--torch-backend", "cpu"]}.get(how, [])
    env = {**os.environ, **({how: "cpu"} if how == "UV_TORCH_BACKEND" else {})}
    command = ["true"] if verb == "run" else []
    assert uvtorch(verb, *option, *command, uv=recording.path, cwd=demo, env=env).code == 0
    assert "pytorch-cpu" in (demo / "pyproject.toml").read_text()
    assert recording.commands[-1] == [verb, *command]


@pytest.mark.parametrize("verb", ["sync", "run", "export", "lock", "add", "remove"])
def test_without_being_asked_the_project_stays(verb: str, demo: Path, uvtorch: Uvtorch, recording: RecordingUv) -> None:
    (demo / "pyproject.toml").write_text(UNPINNED)
    arguments = {"run": ["true"], "add": ["attrs"], "remove": ["attrs"]}.get(verb, [])
    assert uvtorch(verb, *arguments, uv=recording.path, cwd=demo).code == 0
    assert recording.commands[0] == [verb, *arguments]
    assert (demo / "pyproject.toml").read_text() == UNPINNED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "torch", "--torch-backend"], "--torch-backend needs a backend"),
        (["add", "torch", "--torch-backend=cuda"], "--torch-backend: `cuda` is not a backend"),
        (["add", "torch", "--dry-run=yes"], "--dry-run takes no value, and got `yes`"),
        (["add", "attrs", "--dry-run="], "--dry-run takes no value, and got ``"),
        (["sync", "--auto=yes"], "--auto takes no value, and got `yes`"),
        (["sync", "--auto", "--torch-backend", "cpu"], "the options ask for two backends: auto and cpu"),
        (["sync", "--auto", "--no-such"], "uvtorch does not know the option --no-such of `uv sync`"),
        (["run", "--no-such", "--auto", "x"], "uvtorch does not know the option --no-such of `uv run`"),
        (["--no-such", "torch", "detect"], "uvtorch does not know the option --no-such"),
        (["torch", "no-such"], "no such command 'no-such'"),
        (["torch", "detect", "--color", "purple"], "--color purple is none of auto, always, never"),
        (["torch", "detect", "--no-such"], "no such option"),
        (["--directory", "nowhere", "add", "torch"], "there is no directory nowhere to work in"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_one_error(
    arguments: list[str], message: str, demo: Path, uvtorch: Uvtorch, recording: RecordingUv
) -> None:
    (demo / "pyproject.toml").write_text(UNPINNED)
    assert uvtorch(*arguments, uv=recording.path, cwd=demo).refused().startswith(message)
    assert recording.calls == []
    assert (demo / "pyproject.toml").read_text() == UNPINNED


def missing(path: Path) -> None:
    path.unlink()


def content(raw: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(raw)

    return write


def read_only(path: Path) -> None:
    path.chmod(0o444)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


BROKEN = {
    "missing": (missing, "no `pyproject.toml` found in"),
    "a directory": (a_directory, "no `pyproject.toml` found in"),
    "a loop": (a_loop, "no `pyproject.toml` found in"),
    "not TOML": (content(b"[project"), "is not TOML"),
    "not UTF-8": (content(b"[project]\nname = '\xff'\n"), "is not UTF-8"),
    "UTF-16": (content(TOML.encode("utf-16")), "is not UTF-8"),
    "empty": (content(b"\n"), "has no `[project]` table"),
    "no project": (content(b"[tool.uv]\n"), "has no `[project]` table"),
    "read-only": (read_only, "is read-only"),
    "nested": (content(b"a = " + b"[" * 100_000), "is nested too deeply"),
    "wrong types": (content(b"[project]\nname = 1\ndependencies = 'torch'\n[tool]\nuv = 3\n"), ""),
    "wrong sources": (content(TOML.encode() + b"[tool.uv]\nindex = 1\nsources = []\n"), ""),
}


@pytest.mark.parametrize("state", BROKEN)
def test_a_project_that_is_not_well_is_one_error(
    state: str, demo: Path, uvtorch: Uvtorch, recording: RecordingUv
) -> None:
    toml = demo / "pyproject.toml"
    make, message = BROKEN[state]
    make(toml)
    before = toml.read_bytes() if toml.is_file() else None
    done = uvtorch("add", "torch", "--torch-backend", "cpu", uv=recording.path, cwd=demo)
    error, *hints = [row for row in done.err.decode().splitlines() if not row.startswith("uvtorch: ")]
    assert (done.code, done.out) == (2, b"")
    assert error.startswith("error: ")
    assert message in error
    assert all(hint.startswith("hint: ") for hint in hints)
    assert (toml.read_bytes() if toml.is_file() else None) == before
    assert recording.commands == []
    assert len([*demo.iterdir()]) == (state != "missing")


@pytest.mark.parametrize("state", BROKEN)
@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "attrs"], ["remove", "attrs"], ["lock"], ["sync"], ["sync", "--auto"], ["run", "--auto", "true"],
        ["export", "--auto"], ["lock", "--torch-backend", "cpu"], ["add", "torch", "--dry-run"], ["remove", "torch"],
        ["torch", "explain"], ["torch", "backends"], ["torch", "use", "cpu"], ["torch", "doctor"], ["torch", "detect"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_verb_answers_with_a_traceback(
    arguments: list[str], state: str, demo: Path, recording: RecordingUv, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from uvtorch import cli, uv

    class HandedOver(BaseException):
        pass

    def hand_over(path: str, args: object) -> None:
        raise HandedOver

    BROKEN[state][0](demo / "pyproject.toml")
    monkeypatch.chdir(demo)
    monkeypatch.setattr(uv, "hand_over", hand_over)
    monkeypatch.setattr(sys, "argv", ["uvtorch", *arguments])
    monkeypatch.setenv("UVTORCH_UV", str(recording.path))
    try:
        code = cli.run()
    except HandedOver:
        return
    assert code in (0, 1, 2)
    err = capfd.readouterr().err
    assert (code == 2) == ("error: " in err)
    assert err.count("error: ") <= 1


def run(launcher: Path, redirection: str, *arguments: str, uv: Path, cwd: Path) -> Done:
    """uvtorch with its streams as a shell sets them up."""
    command = ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash", str(launcher), *arguments]
    env = {"PATH": os.environ["PATH"], "UVTORCH_UV": str(uv), "UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json")}
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


OUTPUT = [
    ["torch", "detect", "--json"],
    ["--version"],
    ["add", "torch", "--dry-run"],
    ["sync", "-h"],
]


@pytest.mark.parametrize("arguments", OUTPUT, ids=" ".join)
@pytest.mark.parametrize("redirection", ["| true", ">&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_an_output_that_is_closed_is_no_traceback(
    arguments: list[str], redirection: str, launcher: Path, demo: Path, recording: RecordingUv
) -> None:
    done = run(launcher, redirection, *arguments, uv=recording.path, cwd=demo)
    assert b"Traceback" not in done.err
    assert b"Exception ignored" not in done.err
    assert b"lost sys.stderr" not in done.err
    if redirection == ">/dev/full":
        assert (done.code, done.err.splitlines()[-1]) == (2, b"error: cannot write the output: No space left on device")
    elif "&-" in redirection:
        assert (done.code, done.out, done.err) == (0, b"", b"")
    else:
        # The pipe may have been closed before, or after; click says 1 where we say 141.
        assert done.code in (0, 1, 141)
        assert (done.out, done.err) == (b"", b"")


def test_a_closed_stderr_does_not_send_errors_to_stdout(launcher: Path, demo: Path, recording: RecordingUv) -> None:
    done = run(launcher, "2>&-", "add", "torch", "--torch-backend", "x", uv=recording.path, cwd=demo)
    assert done == (2, b"", b"")
    done = run(launcher, "2>&-", "add", "torch", "--torch-backend", "cpu", uv=recording.path, cwd=demo)
    assert done == (0, b"", b"")


@pytest.mark.parametrize(
    "arguments", [["pip", "list"], ["--version"], ["sync"], ["run", "x"], ["add", "attrs"], ["lock"]], ids=" ".join
)
def test_in_a_directory_that_is_gone_uv_speaks(
    arguments: list[str], launcher: Path, tmp_path: Path, recording: RecordingUv
) -> None:
    done = in_a_directory_that_is_gone(arguments, launcher, tmp_path, recording)
    assert done.code == 0
    assert b"Traceback" not in done.err
    assert recording.call.argv == [word.encode() for word in arguments]


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "torch"],
        ["sync", "--auto"],
        ["torch", "explain"],
        ["add", "torch", "--dry-run"],
    ],
    ids=" ".join,
)
def test_in_a_directory_that_is_gone_there_is_no_project(
    arguments: list[str], launcher: Path, tmp_path: Path, recording: RecordingUv
) -> None:
    done = in_a_directory_that_is_gone(arguments, launcher, tmp_path, recording)
    assert done.refused() == "the current directory does not exist any more"


def in_a_directory_that_is_gone(arguments: list[str], launcher: Path, tmp_path: Path, recording: RecordingUv) -> Done:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", str(launcher), *arguments]
    env = {"PATH": os.defpath, "UVTORCH_UV": str(recording.path), "UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json")}
    done = subprocess.run(command, env=env, cwd=gone, capture_output=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["torch", "list"], ["torch", "detect"], ["add", "torch", "--dry-run"]]
)
def test_an_output_that_is_no_unicode_gets_it_escaped(
    arguments: list[str], demo: Path, uvtorch: Uvtorch, recording: RecordingUv
) -> None:
    text = TOML.replace("demo", "demo").replace("[]", "[] # caf\u00e9 \u65e5")
    (demo / "pyproject.toml").write_text(text)
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = uvtorch(*arguments, uv=recording.path, cwd=demo, env=env)
    assert (done.code, done.err) == (0, b"")
    assert done.out.isascii()


def test_names_that_are_no_unicode_are_shown(tmp_path: Path, uvtorch: Uvtorch, recording: RecordingUv) -> None:
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    odd.mkdir()
    (odd / "pyproject.toml").write_text(TOML)
    env = {**os.environ, "LANG": "C.UTF-8"}
    arguments = ["--project", os.fsencode(odd.name), "add", "torch", "--torch-backend", "cpu"]
    done = uvtorch(*arguments, "--dry-run", uv=recording.path, cwd=tmp_path, env=env)
    assert (done.code, done.err) == (0, b"")
    assert b"pytorch-cpu" in done.out
    assert uvtorch(*arguments, uv=recording.path, cwd=tmp_path, env=env).code == 0
    assert b"--project\0\xff\0" in b"\0".join(recording.calls[-1].argv) + b"\0"


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvtorch import cli

    def fail(words: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_act", fail)
    with pytest.raises(ZeroDivisionError):
        cli.run()


def test_python_dash_m_is_the_same(demo: Path, recording: RecordingUv) -> None:
    env = {**os.environ, "UVTORCH_UV": str(recording.path)}
    command = [sys.executable, "-m", "uvtorch", "pip", "list", "--", ""]
    assert subprocess.run(command, env=env, cwd=demo, check=True).returncode == 0
    assert recording.call.argv == [b"pip", b"list", b"--", b""]


def test_a_backend_that_is_none_is_told_before_a_project_that_is_missing(tmp_path: Path, uvtorch: Uvtorch) -> None:
    done = uvtorch("sync", "--torch-backend", "foo", uv=Path("/nowhere/uv"), cwd=tmp_path)
    assert done.refused().startswith("--torch-backend: `foo` is not a backend")

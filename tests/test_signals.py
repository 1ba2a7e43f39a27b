"""Interrupted: uv gets the signal, once, and time to clean up; the files are as before; the exit code tells.

Real processes. A command that edits (`add torch --torch-backend cpu`) is one where uvtorch waits for uv.
"""

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.index.project import MACHINES
from tests.recording_uv import ActingUv, RecordingUv

pytest_plugins = ["tests.index.fixtures"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

TOML = b'# mine\r\n[project]\r\nname = "demo"\r\nversion = "0.1.0"\r\nrequires-python = ">=3.11"\r\ndependencies = []'
ADD = ["add", "torch", "--torch-backend", "cpu"]

# Waits for signals; says each one; on the first of `ends` it takes its time to clean up, then exits with `code`.
WAITING = """
import pathlib
def on(number, frame):
    name = signal.Signals(number).name
    say(name)
    if name in {ends!r}:
        time.sleep(0.15)
        pathlib.Path("cleaned").touch()
        say("cleaned")
        os._exit({code})
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
    if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
        signal.signal(getattr(signal, name), on)
pathlib.Path("pyproject.toml").write_text(pathlib.Path("pyproject.toml").read_text().replace("[]", '["torch"]'))
pathlib.Path("uv.lock").write_text("half a lock")
say("ready")
while not released():
    time.sleep(0.01)
"""
# Takes over the terminal that is its stdin, as a login shell does, then starts the command.
IN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def until(true: Callable[[], object], what: str) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError(f"never: {what}")


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "pyproject.toml").write_bytes(TOML)
    return directory


def as_before(demo: Path) -> bool:
    """The files are, to the byte, and nothing of uvtorch's is left lying about."""
    left = {path.name for path in demo.iterdir()} - {"cleaned", ".venv"}
    return left == {"pyproject.toml"} and (demo / "pyproject.toml").read_bytes() == TOML


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(launcher: Path, demo: Path) -> Iterator[Start]:
    """Starts uvtorch in `demo`, away from any terminal; ends what is left of it."""
    started: list[subprocess.Popen[bytes]] = []

    def go(
        fake: ActingUv | RecordingUv | str, *args: str, wrapper: tuple[str, ...] = (), **env: str
    ) -> "subprocess.Popen[bytes]":
        path = fake if isinstance(fake, str) else str(fake.path)
        environment = {**os.environ, "UVTORCH_UV": path, "UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json"), **env}
        process = subprocess.Popen(
            [*wrapper, str(launcher), *(args or ADD)],
            cwd=demo,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield go
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def waiting(tmp_path: Path, *ends: str, code: int = 1) -> ActingUv:
    return ActingUv(tmp_path / "uv", WAITING.format(ends=ends, code=code))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_to_uvtorch_alone_reaches_uv_once_and_undoes_all(
    name: str, start: Start, tmp_path: Path, demo: Path
) -> None:
    fake = waiting(tmp_path, name)
    process = start(fake)
    until(lambda: fake.said, "uv is there")
    assert b"pytorch-cpu" in (demo / "pyproject.toml").read_bytes()
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.Signals[name], err
    assert fake.said == ["ready", name, "cleaned"]
    assert as_before(demo)
    assert out == b""
    assert b"Traceback" not in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_lock_that_was_there_is_as_before(name: str, start: Start, tmp_path: Path, demo: Path) -> None:
    lock = bytes(range(256))
    (demo / "uv.lock").write_bytes(lock)
    (demo / "uv.lock").chmod(0o640)
    fake = waiting(tmp_path, name)
    process = start(fake)
    until(lambda: fake.said, "uv is there")
    process.send_signal(signal.Signals[name])
    process.communicate(timeout=30)
    assert (demo / "uv.lock").read_bytes() == lock
    assert (demo / "uv.lock").stat().st_mode & 0o777 == 0o640
    assert (demo / "pyproject.toml").read_bytes() == TOML


def test_a_uv_that_does_not_care_ends_by_the_signal(start: Start, tmp_path: Path, demo: Path) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "echo x >uv.lock; exec sleep 60")
    process = start(fake)
    until((demo / "uv.lock").exists, "uv is there")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert as_before(demo)


def test_a_uv_that_finishes_all_the_same_has_finished(start: Start, tmp_path: Path, demo: Path) -> None:
    fake = waiting(tmp_path)
    process = start(fake)
    until(lambda: fake.said, "uv is there")
    process.send_signal(signal.SIGINT)
    until(lambda: "SIGINT" in fake.said, "the signal is there")
    fake.release()
    _, err = process.communicate(timeout=30)
    # It may have been the last command, or uvtorch stopped before the next one: never something in between.
    assert process.returncode in (0, 130), err
    assert (process.returncode == 130) == as_before(demo)


def test_ignored_signals_are_not_heard(start: Start, tmp_path: Path) -> None:
    """As under nohup."""
    fake = waiting(tmp_path, "SIGHUP")
    process = start(fake, wrapper=("sh", "-c", 'trap "" HUP; exec "$@"', "sh"))
    until(lambda: fake.said, "uv is there")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    fake.release()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert "SIGHUP" not in fake.said


def test_stopping_uvtorch_leaves_uv_at_work(start: Start, tmp_path: Path) -> None:
    fake = waiting(tmp_path)
    process = start(fake)
    until(lambda: fake.said, "uv is there")
    process.send_signal(signal.SIGSTOP)
    fake.release()
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_parent_that_ignores_its_children_does_not_hide_how_uv_ended(
    start: Start, tmp_path: Path, demo: Path
) -> None:
    fake = RecordingUv(tmp_path / "bin" / "uv", "exit 77")
    wrapper = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = start(fake, wrapper=(sys.executable, "-c", wrapper))
    process.communicate(timeout=30)
    assert process.returncode == 77
    assert as_before(demo)


class Terminal:
    """uvtorch as a terminal's foreground job."""

    def __init__(self, launcher: Path, fake: ActingUv, demo: Path, *args: str) -> None:
        self.keyboard, theirs = pty.openpty()
        env = {**os.environ, "UVTORCH_UV": str(fake.path), "UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, launcher, *(args or ADD)],
            cwd=demo,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def press(self, key: bytes) -> None:
        os.write(self.keyboard, key)

    def end(self) -> int:
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            os.close(self.keyboard)


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT")])
def test_a_key_reaches_uv_exactly_once(key: bytes, name: str, launcher: Path, tmp_path: Path, demo: Path) -> None:
    """The terminal sends it to uv as well: passed on, it would come twice, and uv may take the second for "at once"."""
    fake = waiting(tmp_path, name)
    terminal = Terminal(launcher, fake, demo)
    until(lambda: fake.said, "uv is there")
    terminal.press(key)
    assert terminal.end() == 128 + signal.Signals[name]
    assert fake.said == ["ready", name, "cleaned"]
    assert as_before(demo)


def test_a_second_ctrl_c_reaches_uv_too(launcher: Path, tmp_path: Path, demo: Path) -> None:
    fake = waiting(tmp_path, "SIGTERM")
    terminal = Terminal(launcher, fake, demo)
    until(lambda: fake.said, "uv is there")
    for count in (1, 2, 3):
        terminal.press(b"\x03")
        until(lambda: fake.said.count("SIGINT") >= count, "uv hears it")  # noqa: B023
        time.sleep(0.05)
        assert fake.said == ["ready", *["SIGINT"] * count]
    terminal.process.terminate()
    assert terminal.end() == 143
    assert as_before(demo)


def test_a_signal_to_uvtorch_alone_reaches_uv_in_a_terminal_too(launcher: Path, tmp_path: Path, demo: Path) -> None:
    """`kill -INT` from elsewhere, while uvtorch is the foreground job: nobody has told uv."""
    fake = waiting(tmp_path, "SIGINT")
    terminal = Terminal(launcher, fake, demo)
    until(lambda: fake.said, "uv is there")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert fake.said == ["ready", "SIGINT", "cleaned"]
    assert as_before(demo)


def test_a_terminal_that_hangs_up_reaches_uv_once(launcher: Path, tmp_path: Path, demo: Path) -> None:
    fake = waiting(tmp_path, "SIGHUP")
    terminal = Terminal(launcher, fake, demo)
    until(lambda: fake.said, "uv is there")
    os.close(terminal.keyboard)
    terminal.keyboard = os.open(os.devnull, os.O_RDONLY)
    assert terminal.end() == 129
    assert fake.said == ["ready", "SIGHUP", "cleaned"]
    assert as_before(demo)


def test_a_key_reaches_what_uvtorch_became(launcher: Path, tmp_path: Path, demo: Path) -> None:
    """Handed over, there is nobody in between; uv's way to end is the one that is seen."""
    fake = ActingUv(tmp_path / "uv", 'signal.signal(signal.SIGINT, signal.SIG_DFL); say("ready"); time.sleep(60)')
    terminal = Terminal(launcher, fake, demo, "pip", "list")
    until(lambda: fake.said, "uv is there")
    terminal.press(b"\x03")
    assert terminal.end() == -signal.SIGINT


def test_ctrl_c_while_uvtorch_decides_writes_nothing(start: Start, tmp_path: Path, demo: Path) -> None:
    """Held up by a description of the hardware on standard input that never ends."""
    pipe = tmp_path / "stdin"
    os.mkfifo(pipe)
    wrapper = ("/bin/sh", "-c", 'exec "$@" <"$0"', str(pipe))
    process = start("/nowhere/uv", "add", "torch", wrapper=wrapper, UVTORCH_HARDWARE="-")
    with pipe.open("wb", buffering=0) as writer:
        writer.write(b"{")
        until(lambda: fcntl.ioctl(writer, termios.FIONREAD, bytes(4)) == bytes(4), "uvtorch reads")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert as_before(demo)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_real_uv_interrupted_while_it_resolves(
    name: str, start: Start, tmp_path: Path, demo: Path, real_uv: str
) -> None:
    """An index that never answers. By then uv has written its requirement; on SIGTERM it leaves it there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        base = f"http://127.0.0.1:{server.getsockname()[1]}"
        process = start(
            real_uv,
            "add", "torch", "--torch-backend", "cpu", "--default-index", f"{base}/simple",
            UVTORCH_INDEX_BASE=f"{base}/whl",
            UV_CACHE_DIR=str(tmp_path / "cache"),
            UV_PYTHON=sys.executable,
        )  # fmt: skip
        connection, _ = server.accept()
        with connection:
            assert b"torch" in (demo / "pyproject.toml").read_bytes()
            process.send_signal(signal.Signals[name])
            _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.Signals[name], err
    assert b"Traceback" not in err
    assert as_before(demo)

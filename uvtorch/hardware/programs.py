"""Starting a vendor's program: by absolute path, without a shell, with a clean locale, bounded in time and output."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from uvtorch.errors import UsageError
from uvtorch.hardware import sysfs

if TYPE_CHECKING:
    import subprocess
    import threading

OUTPUT_LIMIT = 256 * 1024
SHORT_S, LONG_S = 2.0, 15.0
"""How long a probe may take: where nothing says that the hardware works, and where its driver is loaded. A node of
eight GPUs without persistence mode needs more than 2 s to answer for the first time."""


class Result(NamedTuple):
    """How a program ended."""

    code: int | None  # Its exit code, -n where signal n ended it; None if it did not start, or was killed here
    output: str  # stdout and stderr together, at most `OUTPUT_LIMIT` bytes
    failure: str = ""
    """Why there is no code: `took more than 2 s`, `wrote more than 262144 bytes`, or why it did not start."""
    hung: bool = False  # It was killed because its time was over

    @property
    def fault(self) -> str:
        """Why there is no answer; empty where the program did its work."""
        return self.failure or (f"exit code {self.code}: {sysfs.first_line(self.output)}" if self.code else "")


def limit(env: Mapping[str, str], *, alive: bool) -> float:
    """How many seconds a probe may take. `alive`: its driver is loaded and has device files.

    Raises UsageError for an UVTORCH_PROBE_TIMEOUT that is not a number of seconds.
    """
    text = env.get("UVTORCH_PROBE_TIMEOUT", "").strip()
    if not text:
        return LONG_S if alive else SHORT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(
            f"UVTORCH_PROBE_TIMEOUT={sysfs.plain(text, 80)} is not a number of seconds",
            "It is how long a driver may take to answer, between 0 and 3600, such as 30.",
        )
    return seconds


def find(name: str, env: Mapping[str, str], root: str, places: Sequence[str]) -> str | None:
    """The first of `places` that is a program, else the first `name` in PATH; as an absolute path for starting it.

    Folders of PATH that are not absolute are passed over: `.` and an empty entry mean whatever folder one is in.
    """
    folders = [folder for folder in env.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    paths = [sysfs.at(root, path) for path in (*places, *(f"{folder}/{name}" for folder in folders))]
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def run(
    argv: Sequence[str], env: Mapping[str, str], seconds: float, *, late: Callable[[], None] | None = None
) -> Result:
    """Run a program to its end, or kill it and its children after `seconds` or `OUTPUT_LIMIT` bytes.

    They are killed too when SIGTERM, SIGHUP or Ctrl-C ends us. One that cannot even be killed (it sleeps in a driver)
    is left behind. `argv[0]` is an absolute path. `late` is called once the program has taken `SHORT_S`.
    """
    import subprocess  # noqa: PLC0415  7 ms with the next, and most machines without a GPU need neither
    import threading  # noqa: PLC0415  see above

    try:
        child = subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_plain_locale(env),
            cwd=os.path.dirname(argv[0]),
            start_new_session=os.name == "posix",
        )
    except (OSError, ValueError) as error:
        return Result(None, "", f"could not be started: {getattr(error, 'strerror', None) or error}")
    output = bytearray()
    # A thread rather than select(): the same on Windows. It sleeps in read() of a pipe, which never holds up an exit.
    reader = threading.Thread(target=_collect, args=(child.stdout, output), daemon=True)
    code: int | None = None
    with _ended_with_us(child):
        try:
            reader.start()
            if _ends(reader, seconds, late) and len(output) <= OUTPUT_LIMIT:
                code = child.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:
                _kill(child)
    try:
        child.wait(0.5)
    except subprocess.TimeoutExpired:
        child.returncode = -9  # left behind: it sleeps in the kernel, and nobody shall wait for it
    text = output[:OUTPUT_LIMIT].decode("utf-8", "replace")
    if code is None and len(output) > OUTPUT_LIMIT:
        return Result(None, text, f"wrote more than {OUTPUT_LIMIT} bytes")
    return Result(code, text) if code is not None else Result(None, text, f"took more than {seconds:g} s", hung=True)


def _plain_locale(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(("LC_", "LANG"))} | {"LC_ALL": "C"}


def _ends(reader: "threading.Thread", seconds: float, late: Callable[[], None] | None) -> bool:
    """Whether a thread ends within `seconds`."""
    reader.join(min(seconds, SHORT_S))
    if reader.is_alive() and seconds > SHORT_S:
        if late is not None:
            late()
        reader.join(seconds - SHORT_S)
    reader.join(0.05)  # the time may be over because we were stopped (Ctrl-Z), and the reader had no turn yet
    return not reader.is_alive()


def _collect(pipe: IO[bytes], output: bytearray) -> None:
    with pipe:
        while len(output) <= OUTPUT_LIMIT and (part := pipe.read(65536)):
            output.extend(part)


@contextmanager
def _ended_with_us(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pass on what ends us: the program is in a session of its own, where no terminal's signal reaches it."""

    def end(number: int, _: object) -> None:
        _kill(child)
        signal.signal(number, before[number])
        signal.raise_signal(number)

    numbers = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # Windows has no SIGHUP
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, end)
    except ValueError:
        before = {}  # only the main thread may set handlers
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill a program and its children (its process group, which it leads)."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # Windows has no groups
        child.kill()

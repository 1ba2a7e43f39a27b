"""Starting a vendor's program: by absolute path, without a shell, with a clean locale, bounded in time and output."""

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from uvtorch.errors import UsageError

if TYPE_CHECKING:
    import subprocess

OUTPUT_LIMIT = 256 * 1024
SHORT_S, LONG_S = 2.0, 15.0
"""How long a probe may take: where nothing says that the hardware works, and where its driver is loaded. A node of
eight GPUs without persistence mode needs more than 2 s to answer for the first time."""


def plain(text: str, limit: int = 300) -> str:
    """One line that is safe to print: control characters and runs of blanks become one blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())[:limit]


class Result(NamedTuple):
    """How a program ended."""

    code: int | None  # Its exit code, -n where signal n ended it; None if it did not start, or was killed here
    output: str  # stdout and stderr together, at most `OUTPUT_LIMIT` bytes
    failure: str = ""
    """Why there is no code: `took more than 2 s`, `wrote more than 262144 bytes`, or why it did not start."""
    hung: bool = False  # It was killed because its time was over


def limit(env: Mapping[str, str], *, alive: bool) -> float:
    """How many seconds a probe may take. `alive`: its driver is loaded and has device files.

    Raises UsageError for an UVTORCH_PROBE_TIMEOUT that is not a number of seconds.
    """
    text = env.get("UVTORCH_PROBE_TIMEOUT", "").strip()
    if text and not (re.fullmatch(r"[0-9]{1,4}(\.[0-9]{,9})?", text, re.ASCII) and 0 < float(text) <= 3600):
        raise UsageError(
            f"UVTORCH_PROBE_TIMEOUT={plain(text, 80)} is not a number of seconds",
            "It is how long a driver may take to answer, between 0 and 3600, such as 30.",
        )
    return float(text) if text else LONG_S if alive else SHORT_S


def run(
    argv: Sequence[str], env: Mapping[str, str], seconds: float, *, late: Callable[[], None] | None = None
) -> Result:
    """Run a program to its end, or kill it and its children after `seconds` or `OUTPUT_LIMIT` bytes.

    They are killed too when SIGTERM, SIGHUP or Ctrl-C ends us. One that cannot even be killed (it sleeps in a driver)
    is left behind. `argv[0]` is an absolute path. `late` is called once the program has taken `SHORT_S`.
    """
    import subprocess  # noqa: PLC0415  7 ms with the next, and most machines without a GPU need neither
    import threading  # noqa: PLC0415  see above

    english = {name: value for name, value in env.items() if not name.startswith(("LC_", "LANG"))} | {"LC_ALL": "C"}
    try:
        child = subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=english,
            cwd=os.path.dirname(argv[0]),
            start_new_session=os.name == "posix",
        )
    except (OSError, ValueError) as error:
        return Result(None, "", f"could not be started: {getattr(error, 'strerror', None) or error}")
    output = bytearray()

    def follow() -> None:
        assert child.stdout
        with child.stdout as pipe:
            while len(output) <= OUTPUT_LIMIT and (part := pipe.read(65536)):
                output.extend(part)
        if len(output) > OUTPUT_LIMIT:
            _kill(child)
        child.wait()

    # A thread rather than select(): the same on Windows. It sleeps in read() of a pipe, which never holds up an exit.
    follower = threading.Thread(target=follow, daemon=True)
    with _ended_with_us(child):
        follower.start()
        follower.join(min(seconds, SHORT_S))
        if late and follower.is_alive() and seconds > SHORT_S:
            late()
        # A little in any case: the time may be over because we were stopped (Ctrl-Z), and the thread had no turn yet.
        follower.join(max(seconds - SHORT_S, 0.05))
        hung = follower.is_alive()
    follower.join(0.5)
    if follower.is_alive():
        child.returncode = -9  # left behind: it sleeps in the kernel, and nobody shall wait for it
    text = output[:OUTPUT_LIMIT].decode("utf-8", "replace")
    if len(output) > OUTPUT_LIMIT:
        return Result(None, text, f"wrote more than {OUTPUT_LIMIT} bytes")
    return Result(None, text, f"took more than {seconds:g} s", hung=True) if hung else Result(child.returncode, text)


@contextmanager
def _ended_with_us(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the program if it is there at the end, or when a signal ends us: its session gets none of a terminal's."""

    def end(number: int, _: object) -> None:
        _kill(child)
        signal.signal(number, before[number])
        signal.raise_signal(number)

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has no SIGHUP
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None, end):
                before[number] = handler
                signal.signal(number, end)
    except ValueError:
        pass  # only the main thread may set handlers
    try:
        yield
    finally:
        if child.poll() is None:
            _kill(child)
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill a program and its children (its process group, which it leads)."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # Windows has no groups
        child.kill()

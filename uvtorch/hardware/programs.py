"""Starting a program: by absolute path, without a shell, in the C locale, for a limited time."""

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from uvtorch.errors import UsageError

if TYPE_CHECKING:
    import subprocess

Tell = Callable[[str], None]
OUTPUT_LIMIT = 256 * 1024
SHORT_S, LONG_S = 2.0, 15.0  # eight GPUs without persistence mode need more than 2 s for their first answer


def plain(text: str, limit: int = 300) -> str:
    """One line that is safe to print: control characters and runs of blanks become one blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())[:limit]


class Result(NamedTuple):
    """How a program ended."""

    code: int | None  # Its exit code, -n where signal n ended it; None if it did not start, or was killed here
    output: str  # stdout and stderr together, at most `OUTPUT_LIMIT` bytes
    failure: str = ""  # Why there is no code: `took more than 2 s`, or why it did not start
    hung: bool = False  # It was killed because its time was over


def limit(env: Mapping[str, str], *, alive: bool) -> float:
    """How many seconds a probe may take: UVTORCH_PROBE_TIMEOUT, else 2, or 15 where its driver is `alive`.

    Raises UsageError for a variable that is not a number of seconds.
    """
    text = env.get("UVTORCH_PROBE_TIMEOUT", "").strip()
    if text and not (re.fullmatch(r"[0-9]{1,4}(\.[0-9]{,9})?", text, re.ASCII) and 0 < float(text) <= 3600):
        raise UsageError(
            f"UVTORCH_PROBE_TIMEOUT={plain(text, 80)} is not a number of seconds",
            "It is how long a driver may take to answer, between 0 and 3600, such as 30.",
        )
    return float(text) if text else LONG_S if alive else SHORT_S


def run(
    argv: Sequence[str], env: Mapping[str, str], seconds: float, *, whom: str = "", tell: Tell | None = None
) -> Result:
    """Run a program (an absolute path) to its end, or kill it and its children after `seconds`.

    They are killed too when a signal ends us. One that cannot be killed, as it sleeps in a driver, is left behind.
    Where `whom` has taken `SHORT_S` and may take more, `tell` is told.
    """
    import subprocess  # noqa: PLC0415  7 ms, and most machines without a GPU need none

    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**env, "LC_ALL": "C"},  # above LANG and its like
            cwd=os.path.dirname(argv[0]),
            start_new_session=os.name == "posix",
        )
    except (OSError, ValueError) as error:
        return Result(None, "", f"could not be started: {getattr(error, 'strerror', None) or error}")

    def wait(seconds: float) -> tuple[str, bool]:
        """What it has written until now, and whether it ended within `seconds`."""
        try:
            output, ended = child.communicate(timeout=seconds)[0], True
        except subprocess.TimeoutExpired as error:
            output, ended = error.output or b"", False
        return output[:OUTPUT_LIMIT].decode("utf-8", "replace"), ended

    with _ended_with_us(child):
        output, ended = wait(min(seconds, SHORT_S))
        if not ended and seconds > SHORT_S and tell:
            waiting = f"waiting for up to {seconds:g} s (UVTORCH_PROBE_TIMEOUT sets the limit)"
            tell(f"{whom} has not answered yet; {waiting}")
        if not ended:  # a moment in any case: the time may be over because we were stopped (Ctrl-Z)
            output, ended = wait(max(seconds - SHORT_S, 0.05))
    if ended:
        return Result(child.returncode, output)
    output, ended = wait(0.5)
    if not ended and child.stdout:  # left behind: it sleeps in the kernel, and nobody shall wait for it
        child.returncode = -9
        child.stdout.close()
    return Result(None, output, f"took more than {seconds:g} s", hung=True)


@contextmanager
def _ended_with_us(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the program, which gets no signal of a terminal's, if it is there at the end or when a signal ends us."""

    def end(number: int, _: object) -> None:
        _kill(child)
        signal.signal(number, before[number])
        signal.raise_signal(number)

    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP
    before = {number: it for number in numbers if (it := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        if child.poll() is None:
            _kill(child)
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)  # its children too: it leads their group
    except (AttributeError, OSError):  # Windows has no groups
        child.kill()

"""Starting a vendor's program: by absolute path, without a shell, with a clean locale, bounded in time and output."""

import os
from collections.abc import Mapping

from uvtorch.named import NamedTuple

OUTPUT_LIMIT = 256 * 1024


class Result(NamedTuple):
    """How a program ended."""

    code: int | None
    """Its exit code; None if it did not start, or was killed."""
    output: str
    """stdout and stderr together, at most `OUTPUT_LIMIT` bytes."""
    failure: str = ""
    """Why there is no code: `took more than 2 s`, `wrote more than 262144 bytes`, or why it did not start."""


def run(argv: tuple[str, ...], env: Mapping[str, str], seconds: float) -> Result:
    """Run a program to its end, or kill it and its children after `seconds` or `OUTPUT_LIMIT` bytes.

    One that cannot even be killed (it sleeps in a driver) is left behind. `argv[0]` is an absolute path.
    """
    import subprocess
    import threading

    clean = {name: value for name, value in env.items() if not name.startswith(("LC_", "LANG"))}
    clean["LC_ALL"] = "C"
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=clean,
            cwd=os.path.dirname(argv[0]),
            start_new_session=os.name == "posix",
        )
    except (OSError, ValueError) as error:
        return Result(None, "", f"could not be started: {getattr(error, 'strerror', None) or error}")
    assert child.stdout is not None
    fd = child.stdout.fileno()
    parts: list[bytes] = []
    ended = threading.Event()

    def collect() -> None:
        room = OUTPUT_LIMIT + 1
        try:
            while room > 0 and (part := os.read(fd, min(room, 65536))):
                parts.append(part)
                room -= len(part)
        except OSError:
            pass
        ended.set()

    # A thread rather than select(): the same on Windows. It sleeps in read() of a pipe, which never holds up an exit.
    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    in_time = ended.wait(seconds)
    output = b"".join(parts)
    too_much = len(output) > OUTPUT_LIMIT
    try:
        code: int | None = child.wait(0.1) if in_time and not too_much else None
    except subprocess.TimeoutExpired:
        code = None
    if code is None:
        _kill(child.pid)
        child.kill()
        try:
            child.wait(0.05)
        except subprocess.TimeoutExpired:
            child.returncode = -9  # left behind: it sleeps in the kernel, and nobody shall wait for it
    reader.join(0.05)
    if not reader.is_alive():
        child.stdout.close()
    failure = ""
    if code is None:
        failure = f"wrote more than {OUTPUT_LIMIT} bytes" if too_much else f"took more than {seconds:g} s"
    return Result(code, output[:OUTPUT_LIMIT].decode("utf-8", "replace"), failure)


def _kill(pid: int) -> None:
    """Kill a program and its children (its process group, which it leads)."""
    if os.name != "posix":
        return
    import signal

    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass

"""The real uv: find it, become it, run it, ask it. The only module that starts uv.

Lies on the hand-over path: what only waiting or Windows needs is imported there.
"""

import _signal  # type: ignore[import-not-found]  # `signal` would import enum, a third of the whole hand-over
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

WINDOWS = os.name == "nt"
_IGNORED_BY_PYTHON = [number for name in ("SIGPIPE", "SIGXFSZ") if (number := getattr(_signal, name, None))]
EXECUTABLE = "uv.exe" if WINDOWS else "uv"

MINIMUM = (0, 5, 3)
"""The oldest uv that takes what uvtorch writes: explicit indexes as sources, several sources for a package, `extra`
selectors and `conflicts`. Measured: 0.4.20 ignores `[[tool.uv.index]]` with a warning and installs PyPI's torch."""


def find(env: "Mapping[str, str]") -> str:
    """The path of the real uv, never of uvtorch itself under uv's name.

    `UVTORCH_UV`, else `UV` (which uv sets for its children), else the first on `PATH`, else one installed beside
    uvtorch (the extra `uvtorch[uv]`). Raises UvNotFound where there is none, or where `UVTORCH_UV` names none.
    """
    chosen = env.get("UVTORCH_UV")
    if chosen:
        path = chosen if os.path.dirname(chosen) else _on_path(chosen, env)
        if path and _is_program(path) and not _is_uvtorch(path):
            return path
        from uvtorch.errors import UvNotFound

        reason = "is uvtorch itself" if path and _is_program(path) else "is not a program that can be run"
        raise UvNotFound(f"UVTORCH_UV={chosen} {reason}", "set it to the path of the real uv, or unset it")
    path = env.get("UV", "")
    if os.path.isabs(path) and _is_program(path) and not _is_uvtorch(path):
        return path
    found = _on_path(EXECUTABLE, env)
    if found:
        return found
    for folder in (os.path.dirname(sys.executable), os.path.dirname(os.path.abspath(sys.argv[0]))):
        path = os.path.join(folder, EXECUTABLE)
        if _is_program(path) and not _is_uvtorch(path):
            return path
    from uvtorch.errors import UvNotFound

    raise UvNotFound(
        "there is no uv on PATH",
        "install it: https://docs.astral.sh/uv/getting-started/installation/",
        "or let pip bring one beside uvtorch: pip install 'uvtorch[uv]'",
        "or name it: UVTORCH_UV=/path/to/uv",
    )


def _on_path(name: str, env: "Mapping[str, str]") -> str | None:
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        if not folder and WINDOWS:
            continue
        path = os.path.join(folder or os.curdir, name)
        if _is_program(path) and not _is_uvtorch(path):
            return path
    return None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_uvtorch(path: str) -> bool:
    """Whether this file starts uvtorch: the running script, a link to it, another console script, a wrapper."""
    try:
        if os.path.samefile(path, sys.argv[0]):
            return True
    except OSError:
        pass
    try:
        if os.path.getsize(path) > 1_000_000:  # uv is tens of megabytes, a launcher kilobytes
            return False
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return False
    return b"uvtorch.cli" in text or b"-m uvtorch" in text or b'uvtorch "$@"' in text or b"uvtorch %*" in text


def hand_over(path: str, args: "Sequence[str]") -> "NoReturn":
    """Become uv: same process, streams, terminal and working directory, and the environment uvtorch was given.

    On Windows, where exec would return to the caller at once with 0, wait for uv and exit with its code.
    """
    if WINDOWS:
        sys.exit(_run_windows(path, args))
    for number in _IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)  # exec would keep them ignored
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(path, [path, *args], environment())
    except OSError as error:
        raise _cannot_start(path, error) from None


def environment() -> dict[str, str]:
    """The environment uvtorch was given: without the LC_CTYPE that Python sets for itself in the C locale (PEP 538)."""
    env = dict(os.environ)
    if env.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8") and not env.get("LC_ALL"):
        try:
            with open("/proc/self/environ", "rb") as file:
                given = file.read().split(b"\0")
        except OSError:
            return env
        if not any(entry.startswith(b"LC_CTYPE=") for entry in given):
            del env["LC_CTYPE"]
    return env


def _cannot_start(path: str, error: OSError) -> Exception:
    from uvtorch.errors import UvNotFound

    return UvNotFound(f"cannot start {path}: {error.strerror or error}", "set UVTORCH_UV to a uv that runs here")


class Interrupted:
    """Signals that came while uv was running. `code` is the exit code for them, 0 where none came.

    A context: inside, SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end uvtorch but reach uv, so that uv can clean up and
    uvtorch can undo its edits afterwards.
    """

    def __init__(self) -> None:
        self.code = 0
        self._pid = 0
        self._previous: list[tuple[int, object]] = []

    def __enter__(self) -> "Interrupted":
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
            number = getattr(_signal, name, None)
            # What was ignored when uvtorch started (nohup, a shell's background job) stays so, for uv too.
            if number is not None and _signal.getsignal(number) != _signal.SIG_IGN:
                self._previous.append((number, _signal.signal(number, self._receive)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous:
            _signal.signal(number, previous)

    def _receive(self, number: int, _frame: object) -> None:
        again = self.code != 0
        self.code = 128 + number
        if self._pid and (again or not self._uv_has_it_too(number)):
            self.forward()

    def _uv_has_it_too(self, number: int) -> bool:
        """Whether the terminal sent this to its whole foreground group, uv included: Ctrl-C and Ctrl-\\."""  # noqa: D301
        if number not in (_signal.SIGINT, getattr(_signal, "SIGQUIT", _signal.SIGINT)):
            return False
        try:
            terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        except OSError:
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False
        finally:
            os.close(terminal)

    def forward(self) -> None:
        """Send uv the last signal that came."""
        try:
            os.kill(self._pid, self.code - 128)
        except ProcessLookupError:
            pass

    def wait(self, pid: int) -> int:
        """Wait for uv; its exit code, 128+n where signal n ended it."""
        self._pid = pid
        if self.code:  # came between the last look and the start
            self.forward()
        _, status = os.waitpid(pid, 0)
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code


def run(path: str, args: "Sequence[str]", interrupted: Interrupted) -> int:
    """Run uv with everything inherited, wait for it and return its exit code, 128+n where signal n ended it.

    Raises UvNotFound where it cannot be started. Signals go through `interrupted`, which must be entered.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if WINDOWS:
        return _run_windows(path, args)
    try:
        # Not subprocess: it costs as much as all the rest here, and closes the descriptors that exec would pass on.
        pid = os.posix_spawn(path, [path, *args], environment(), setsigdef=_IGNORED_BY_PYTHON)
    except OSError as error:
        raise _cannot_start(path, error) from None
    return interrupted.wait(pid)


def _run_windows(path: str, args: "Sequence[str]") -> int:
    """Run uv and wait, as Windows needs it: a console's Ctrl-C reaches uv by itself, and must not end uvtorch first."""
    import subprocess

    previous = _signal.signal(_signal.SIGINT, lambda *_: None)  # a function, not SIG_IGN, which uv would inherit
    try:
        code = subprocess.Popen([path, *args], close_fds=False).wait()
    except OSError as error:
        raise _cannot_start(path, error) from None
    finally:
        _signal.signal(_signal.SIGINT, previous)
    return 128 - code if code < 0 else code


def ask(path: str, args: "Sequence[str]", given: str = "", directory: str | None = None) -> tuple[int, str, str]:
    """Run uv for its answer: exit code, stdout and stderr. `given` is its stdin, `directory` its working directory.

    Raises UvNotFound where it cannot be started.
    """
    import subprocess

    try:
        done = subprocess.run(
            [path, *args],
            input=given,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=directory,
            env=environment(),
            check=False,
        )
    except OSError as error:
        raise _cannot_start(path, error) from None
    return done.returncode, done.stdout, done.stderr


def require(path: str, minimum: tuple[int, ...] = MINIMUM) -> None:
    """Raise UvTooOld if this uv is older than `minimum`. One that does not tell its version is given the benefit."""
    _, out, _ = ask(path, ["--version"])
    words = out.split()
    number = words[1] if len(words) > 1 and words[0] == "uv" else ""
    parts = number.partition("+")[0].split(".")
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < minimum:
        from uvtorch.errors import UvTooOld

        needed = ".".join(map(str, minimum))
        raise UvTooOld(
            f"{path} is uv {number}; a package from an index of its own needs uv {needed} or newer",
            "update it: `uv self update`, or the way it was installed",
            "or name a newer one: UVTORCH_UV=/path/to/uv",
        )

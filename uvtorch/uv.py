"""The real uv: find it, become it, run it, ask it. The only module that starts uv; lies on the hand-over path."""

import _signal  # type: ignore[import-not-found]  # `signal` would import enum, a third of the whole hand-over
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from signal import struct_siginfo
    from typing import NoReturn

WINDOWS = os.name == "nt"
_IGNORED_BY_PYTHON = [number for name in ("SIGPIPE", "SIGXFSZ") if (number := getattr(_signal, name, None))]
EXECUTABLE = "uv.exe" if WINDOWS else "uv"

MINIMUM = (0, 5, 3)
"""The oldest uv with explicit indexes as sources, several sources for a package, `extra` selectors and `conflicts`.
Measured: 0.4.20 ignores `[[tool.uv.index]]` with a warning and installs PyPI's torch."""


def find(env: "Mapping[str, str]") -> str:
    """The path of the real uv, never of uvtorch itself under uv's name.

    `UVTORCH_UV`, else `UV` (which uv sets for its children), else the first on `PATH`, else one installed beside
    uvtorch. Raises UvNotFound.
    """
    named = env.get("UVTORCH_UV")
    ourselves = None
    for path in _candidates(named, env):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            if not _is_uvtorch(path):
                return path
            ourselves = ourselves or path
    from uvtorch.errors import UvNotFound

    if named:
        reason = "is uvtorch itself" if ourselves else "is not a program that can be run"
        raise UvNotFound(f"UVTORCH_UV={named} {reason}", "set it to the path of the real uv, or unset it")
    raise UvNotFound(
        "there is no uv on PATH" + (f"; {ourselves} is uvtorch itself" if ourselves else ""),
        "install it as https://docs.astral.sh/uv/getting-started/installation/ says",
        "or let pip put one beside uvtorch: pip install uv",
        "or name it: UVTORCH_UV=/path/to/uv",
    )


def _candidates(named: str | None, env: "Mapping[str, str]") -> list[str]:
    if named:
        name = named if not WINDOWS or named.lower().endswith(".exe") else named + ".exe"
        return [name] if os.path.dirname(name) else _on_path(name, env)
    beside = filter(None, (os.path.dirname(sys.executable), os.path.dirname(sys.argv[0])))
    calling = [path] if os.path.isabs(path := env.get("UV", "")) else []
    return [*calling, *_on_path(EXECUTABLE, env), *(os.path.join(folder, EXECUTABLE) for folder in beside)]


def _on_path(name: str, env: "Mapping[str, str]") -> list[str]:
    """Where on `PATH` a program may be; not in `.` or an empty entry, which is whatever folder one is in."""
    folders = env.get("PATH", os.defpath).split(os.pathsep)
    return [os.path.join(folder, name) for folder in folders if os.path.isabs(folder)]


def _is_uvtorch(path: str) -> bool:
    try:
        if os.path.exists(sys.argv[0]) and os.path.samefile(path, sys.argv[0]):
            return True
        if os.path.getsize(path) > 1_000_000:  # uv is tens of megabytes, a launcher kilobytes
            return False
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return False
    if b"uvtorch" not in text:
        return False
    import re

    # It is named as a program or module, not as a directory on the way to another, or in a comment.
    program = rb"(^|[ \t/\\\"'=;&|(`]|-m)uvtorch([ \t\"';&|)`]|$|\.cli|\.__main__|\.exe)"
    return any(re.search(program, line) for line in text.splitlines() if line[:1] != b"#" or line[:2] == b"#!")


def hand_over(path: str, args: "Sequence[str]") -> "NoReturn":
    """Become uv: the same process, streams, terminal, directory, and the environment that uvtorch was given.

    On Windows, where exec would return to the caller at once with 0, wait for uv and exit with its code.
    """
    if WINDOWS:
        with Interrupted() as interrupted:
            code = run(path, args, interrupted)
        sys.exit(code)
    _flush()
    for number in _IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)  # exec would keep them ignored
    try:
        os.execve(path, [path, *args], environment())
    except (OSError, ValueError) as error:
        raise _cannot_start(path, error) from None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed when Python started
            stream.flush()


def environment() -> dict[str, str]:
    """The environment as it was given: without the LC_CTYPE that Python sets in the C locale (PEP 538)."""
    env = dict(os.environ)
    if env.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8") and not env.get("LC_ALL"):
        try:
            with open("/proc/self/environ", "rb") as file:
                given = b"\0" + file.read()
        except OSError:
            return env
        del env["LC_CTYPE"]
        _, named, rest = given.partition(b"\0LC_CTYPE=")
        if named:
            env["LC_CTYPE"] = os.fsdecode(rest.partition(b"\0")[0])
    return env


def _cannot_start(path: str, error: OSError | ValueError) -> Exception:
    from uvtorch.errors import ProjectError, UvNotFound

    if isinstance(error, ValueError):
        return ProjectError("a name with a NUL, as TOML can write it, cannot be given to uv")
    return UvNotFound(f"cannot start {path}: {error.strerror or error}", "set UVTORCH_UV to a uv that runs here")


class Interrupted:
    """Signals that came while uv was running. `code` is the exit code for them, 0 where none came.

    Inside, SIGINT, SIGTERM, SIGHUP and SIGQUIT reach uv, once, so that uv can clean up and uvtorch undo its edits.
    SIGTSTP stops both. `look` is called now and then while uv runs, on Linux.
    """

    def __init__(self, look: "Callable[[], None] | None" = None) -> None:
        self.code = 0
        self._look = look
        self._pid = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupted":
        if self._previous:  # entered already
            return self
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGBREAK"):
            number = getattr(_signal, name, None)
            # What is ignored from the start (nohup, a shell's background job) stays so, for uv too.
            if number is not None and _signal.getsignal(number) != _signal.SIG_IGN:
                self._previous[number] = _signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        while self._previous:
            _signal.signal(*self._previous.popitem())

    def run(self, start: "Callable[[Iterable[int]], int]") -> int:
        """Start uv and wait for it; its exit code.

        `start` gets the signals to block in uv, and returns its process id. On Linux, which tells who sent a signal,
        they wait in a queue: a key's went to the terminal's foreground group, uv included, others are passed on.
        """
        if not hasattr(_signal, "sigtimedwait"):
            self._pid = start(())
            if self.code:  # came while uv was being started
                self._forward()
            _, status = os.waitpid(self._pid, 0)
            self._pid = 0
            return _exit_code(status)
        queued = {*self._previous, _signal.SIGCHLD}
        usual = _signal.pthread_sigmask(_signal.SIG_BLOCK, queued)
        # Ignored, as a careless parent may leave it, it would have the kernel forget how uv ended.
        of_children = _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        try:
            early = _signal.sigpending() & self._previous.keys() - {_signal.SIGTSTP}
            if early:
                return 128 + int(min(early))
            self._pid = start(usual)
            while True:
                # The limit is also for a thread, left behind by some library, that takes SIGCHLD in our place.
                told = _signal.sigtimedwait(queued, 0.05 if self._look else 1)
                if told:
                    self._pass_on(told)
                elif self._look:
                    self._look()
                pid, status = os.waitpid(self._pid, os.WNOHANG)
                if pid:
                    return _exit_code(status)
        finally:
            self._pid = 0
            _signal.signal(_signal.SIGCHLD, of_children)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, usual)

    def _pass_on(self, told: "struct_siginfo") -> None:
        # A hangup of the terminal goes to the session's leader, which is uvtorch where no shell is.
        alone = told.si_signo == _signal.SIGHUP and os.getsid(0) == os.getpid()
        self._take(told.si_signo, told.si_code > 0 and not alone)

    def _receive(self, number: int, _frame: object) -> None:
        self._take(number, self.code == 0 and self._uv_has_it_too(number))

    def _take(self, number: int, uv_has_it: bool) -> None:
        if number == getattr(_signal, "SIGTSTP", 0):
            self._stop_both(uv_has_it)
        elif number in self._previous:
            self.code = 128 + number
            if self._pid and not uv_has_it:
                self._forward()

    def _stop_both(self, uv_has_it: bool) -> None:
        if self._pid and not uv_has_it:
            os.kill(self._pid, _signal.SIGTSTP)
        _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGTSTP)
        usual = _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {_signal.SIGTSTP})  # here it stops
        _signal.pthread_sigmask(_signal.SIG_SETMASK, usual)
        _signal.signal(_signal.SIGTSTP, self._receive)
        if self._pid:
            os.kill(self._pid, _signal.SIGCONT)

    def _uv_has_it_too(self, number: int) -> bool:
        """Whether a key may have sent this to the terminal's whole foreground group."""
        if number in (_signal.SIGTERM, getattr(_signal, "SIGHUP", 0)):
            return False
        try:
            with open("/dev/tty", "rb") as terminal:
                return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
        except OSError:
            return False

    def _forward(self) -> None:
        try:
            os.kill(self._pid, self.code - 128)
        except ProcessLookupError:
            pass


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def run(
    path: str,
    args: "Sequence[str]",
    interrupted: Interrupted,
    stderr: int | None = None,
    variables: "Mapping[str, str] | None" = None,
) -> int:
    """Run uv with everything inherited and wait for it; its exit code, 128+n where signal n ended it.

    `stderr` is a descriptor in its place; `variables` are set where they are unset. Signals go through `interrupted`,
    which must be entered. Raises UvNotFound.
    """
    _flush()
    env = {**(variables or {}), **environment()}
    command = [path, *args]

    def start(blocked: "Iterable[int]") -> int:
        # Not subprocess: it costs as much as all the rest here, and closes the descriptors that exec would pass on.
        actions = [] if stderr is None else [(os.POSIX_SPAWN_DUP2, stderr, 2)]
        reset = _IGNORED_BY_PYTHON
        return os.posix_spawn(path, command, env, file_actions=actions, setsigdef=reset, setsigmask=blocked)

    try:
        if not WINDOWS:
            return interrupted.run(start)
        import subprocess

        code = subprocess.Popen(command, close_fds=False, stderr=stderr, env=env).wait()
        return code - (1 << 32) if code >= 1 << 31 else code  # 0xC000013A, a Ctrl-C, as sys.exit can pass it on
    except (OSError, ValueError) as error:
        raise _cannot_start(path, error) from None


IMPATIENT = {"UV_HTTP_CONNECT_TIMEOUT": "2", "UV_HTTP_RETRIES": "0"}
"""Variables of uv's: an index that cannot be reached is given up after two seconds."""


def run_quietly(path: str, args: "Sequence[str]", interrupted: Interrupted, *, patient: bool = True) -> tuple[int, str]:
    """`run` with stderr held back; the exit code and what uv said, in colour where it would have been."""
    from tempfile import TemporaryFile

    terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    # Not `--color always`: uv takes that option once, and the user's own words come before this variable.
    colour = {"FORCE_COLOR": "1"} if terminal else {}
    with TemporaryFile() as file:
        code = run(path, args, interrupted, file.fileno(), colour if patient else colour | IMPATIENT)
        file.seek(0)
        return code, file.read().decode("utf-8", "replace")


def ask(path: str, args: "Sequence[str]", given: str = "", *, patient: bool = True) -> tuple[int, str, str]:
    """Run uv for its answer: exit code, stdout and stderr. `given` is its stdin.

    Not `patient`: an index that cannot be reached, or says nothing, is given up after two seconds. Raises UvNotFound.
    """
    import subprocess

    env = environment()
    env.pop("UV_TORCH_BACKEND", None)  # `uv pip` would look at that index instead of the one that is asked about
    if not patient:
        env |= {**IMPATIENT, "UV_HTTP_TIMEOUT": "2"}
    try:
        done = subprocess.run(
            [path, *args], input=given, capture_output=True, encoding="utf-8", errors="replace", env=env, check=False
        )
    except (OSError, ValueError) as error:
        raise _cannot_start(path, error) from None
    return done.returncode, done.stdout, done.stderr


def require(path: str) -> None:
    """Raise UvTooOld if this uv says that it is older than `MINIMUM`, or UvNotFound."""
    words = ask(path, ["--version"])[1].split()
    number = words[1] if len(words) > 1 and words[0] == "uv" else ""
    parts = number.partition("+")[0].split(".")
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < MINIMUM:
        needed = ".".join(map(str, MINIMUM))
        from uvtorch.errors import UvTooOld

        raise UvTooOld(
            f"{path} is uv {number}; a package from an index of its own needs uv {needed} or newer",
            "update it the way it was installed: `uv self update` after uv's own installer, else pip or brew",
            "or name a newer one: UVTORCH_UV=/path/to/uv",
        )

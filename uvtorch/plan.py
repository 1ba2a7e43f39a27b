"""What a verb will do, shown or done: edits of files, then command lines for uv; all of it or nothing."""

import os
import stat
import sys

from uvtorch import uv
from uvtorch.errors import ProjectError
from uvtorch.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from io import FileIO


class Edit(NamedTuple):
    """A file's bytes before and after."""

    path: str
    before: bytes
    after: bytes


class Plan(NamedTuple):
    """What a verb compiled to. Nothing has happened yet."""

    commands: tuple[tuple[str, ...], ...] = ()
    """uv's arguments, one tuple a command. If one of them fails, all is undone and nothing after it runs."""
    edits: tuple[Edit, ...] = ()
    guarded: tuple[str, ...] = ()
    """Files besides the edited ones that uv may change and that are restored if it fails; they need not exist."""
    decisions: tuple[str, ...] = ()
    """What was decided and why, a line each."""
    warnings: tuple[str, ...] = ()
    then: "Callable[[], Plan] | None" = None
    """What follows from what uv has written (uv.lock): compiled once the commands have succeeded, undone with them. Its
    `last` is not run."""
    closing: tuple[tuple[str, ...], ...] = ()
    """More commands, after what follows; a failure undoes everything as well."""
    last: tuple[str, ...] | None = None
    """uv's arguments for what is not to be undone: uvtorch becomes this uv at the end. So for `uv run`, whose exit code
    is the command's own, and wherever there is nothing to undo."""
    styled: tuple[str, ...] = ()
    """Files that keep their line breaks and BOM, whatever uv makes of them."""
    remembered: tuple[str, bytes] | None = None
    """A file beside the environment and its content, written for the next time (`recall`) before uv takes over."""


def hand_over(argv: "Sequence[str]", *warnings: str) -> Plan:
    """The plan for what is uv's own affair."""
    return Plan(last=tuple(argv), warnings=warnings)


def report(plan: Plan, quiet: bool) -> None:
    """Write the decisions and the warnings to stderr, none of them where `quiet`."""
    if quiet or sys.stderr is None:  # closed: print would take stdout in its place
        return
    for line in plan.decisions:
        print(f"uvtorch: {line}", file=sys.stderr)
    for line in plan.warnings:
        print(f"warning: {line}", file=sys.stderr)


def show(plan: Plan) -> str:
    """The plan as a person reads it: decisions, a unified diff of each edited file, the uv command lines."""
    lines = [f"# {line}" for line in plan.decisions]
    lines += [f"# warning: {line}" for line in plan.warnings]
    for edit in plan.edits:
        lines += _diff(edit)
    for command in (*plan.commands, *plan.closing, *((plan.last,) if plan.last is not None else ())):
        lines.append("$ " + _quoted(("uv", *command)))
    return "\n".join(lines) + "\n"


def _diff(edit: Edit) -> list[str]:
    """As `patch` reads it: to the byte, carriage returns and a missing last newline included."""
    from difflib import unified_diff

    def split(raw: bytes) -> list[str]:
        *lines, rest = raw.decode("utf-8", "surrogateescape").split("\n")
        return [line + "\n" for line in lines] + ([rest] if rest else [])

    name = _relative(edit.path)
    rows = []
    for row in unified_diff(split(edit.before), split(edit.after), f"a/{name}", f"b/{name}"):
        rows += [row[:-1]] if row.endswith("\n") else [row, "\\ No newline at end of file"]
    return rows


def _relative(path: str) -> str:
    try:
        return os.path.relpath(path)
    except (OSError, ValueError):  # no working directory any more; another drive
        return path


def _quoted(command: "Sequence[str]") -> str:
    if uv.WINDOWS:
        from subprocess import list2cmdline

        return list2cmdline(command)
    from shlex import join

    return join(command)


def apply(plan: Plan, path: str, quiet: bool = False) -> int:
    """Do it with the uv at `path`: write the edits, run uv, undo everything if it fails or is interrupted.

    Returns uv's exit code, or 128+n after signal n; does not return where `plan.last` is set and all went well. What
    follow-ups have to say is reported, unless `quiet`. Raises ProjectError, with every file as it was, where a file
    cannot be written.
    """
    if plan.last is not None and not (plan.commands or plan.edits or plan.then or plan.closing):
        if plan.remembered is not None:
            try:
                write(*plan.remembered)
            except OSError:
                pass  # then it is worked out again the next time
        uv.hand_over(path, plan.last)
    if plan.edits:
        uv.require(path)
    with uv.Interrupted() as interrupted:
        course = _Course(path, interrupted, quiet, {})
        try:
            code = _carry_out(plan, course)
            if plan.last is not None:
                code = code or interrupted.code
        except BaseException:
            _restore(course.before)
            raise
        if code:
            _restore(course.before)
            return interrupted.code or code
    if plan.last is not None:
        uv.hand_over(path, plan.last)
    return 0


class _Saved(NamedTuple):
    """A file as it was. Without content: there was no such file."""

    content: bytes | None
    mode: int | None


class _Course(NamedTuple):
    """What one run of `apply` shares with its steps."""

    uv: str
    interrupted: uv.Interrupted
    quiet: bool
    before: dict[str, _Saved]
    """Every file that may change, as it was before all."""


def _carry_out(plan: Plan, course: _Course) -> int:
    for path in (*(edit.path for edit in plan.edits), *plan.guarded, *plan.styled):
        if path not in course.before:
            course.before[path] = _saved(path)
    for edit in plan.edits:
        _write_checked(edit)
    code = _run_all(plan.commands, course)
    if code == 0 and plan.then:
        follow = plan.then()
        report(follow, course.quiet)
        code = _carry_out(follow, course)
    code = code or _run_all(plan.closing, course)
    if code == 0:
        for path in plan.styled:
            _restyle(path, course.before[path])
    return code


def _restyle(path: str, before: "_Saved") -> None:
    model, now = before.content, _saved(path).content
    if model is None or now is None or not (b"\r" in model or model.startswith(b"\xef\xbb\xbf")):
        return
    from uvtorch.edit import restyled

    after = restyled(now, model)
    if after != now:
        _write_checked(Edit(path, now, after))


def _run_all(commands: "Sequence[Sequence[str]]", course: _Course) -> int:
    for command in commands:
        code = course.interrupted.code or uv.run(course.uv, command, course.interrupted)
        if code:
            return code
    return 0


def _saved(path: str) -> _Saved:
    try:
        with open(path, "rb") as file:
            return _Saved(file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
    except FileNotFoundError:
        return _Saved(None, None)
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None


def _restore(before: "Mapping[str, _Saved]") -> None:
    """Put every file back that is not as it was. Raises ProjectError, after all were tried, if some could not be."""
    failures = []
    for path, saved in before.items():
        try:
            if _saved(path).content == saved.content:
                continue
            if saved.content is None:
                os.unlink(path)
            else:
                write(path, saved.content, saved.mode)
        except OSError as error:
            failures.append(f"{path} ({error.strerror})")
        except ProjectError as error:
            failures.append(str(error))
    if failures:
        raise ProjectError(f"uv failed, and not all could be put back: {', '.join(failures)}")


def _write_checked(edit: Edit) -> None:
    if _saved(edit.path).content != edit.before:
        raise ProjectError(f"{edit.path} changed while uvtorch was reading it", "run the command again")
    if edit.after == edit.before:
        return
    # A read-only file would not stop a rename over it, nor root: its owner's word is what counts.
    if not os.stat(edit.path).st_mode & 0o222 or not os.access(edit.path, os.W_OK):
        raise ProjectError(f"{edit.path} is read-only", "make it writable, or see what would change with --dry-run")
    try:
        write(edit.path, edit.after)
    except OSError as error:
        raise ProjectError(f"cannot write {edit.path}: {error.strerror}") from None


def write(path: str, content: bytes, mode: int | None = None) -> None:
    """Replace a file's content at once: a reader sees the old or the new, and a link, the mode and the owner stay.

    Where no new file can take its place (no new file is allowed there, it is a mount, it has other names, its owner is
    another) the content is written in place. A file that is missing is made, with `mode`. Raises OSError.
    """
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        with open(path, "xb") as file:
            file.write(content)
        if mode is not None:
            os.chmod(path, mode)
        return
    if status.st_nlink > 1 or not _replace(path, content, status):
        _overwrite(path, content)


def _replace(path: str, content: bytes, status: os.stat_result) -> bool:
    """Let a new file take its place; False, with nothing changed, where that would lose what it is."""
    temporary = os.path.join(os.path.dirname(path), f".uvtorch-{os.getpid()}")  # short: names have a limit
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except (PermissionError, FileExistsError):
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        try:
            new = os.stat(temporary)
            if (new.st_uid, new.st_gid) != (status.st_uid, status.st_gid):
                os.chown(temporary, status.st_uid, status.st_gid)
            os.chmod(temporary, stat.S_IMODE(status.st_mode))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            return False
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def _overwrite(path: str, content: bytes) -> None:
    with open(path, "r+b", buffering=0) as file:
        before = file.read()
        try:
            _fill(file, content)
        except BaseException:
            _fill(file, before)
            raise


def _fill(file: "FileIO", content: bytes) -> None:
    file.seek(0)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate()

"""What a verb will do, shown or done: edits of files, then command lines for uv; all of it or nothing."""

import os
import sys
from typing import NamedTuple

from uvtorch import uv
from uvtorch.errors import ProjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
    """What follows from what uv has written (uv.lock): compiled once the commands have succeeded, undone with them."""
    closing: tuple[tuple[str, ...], ...] = ()
    """More commands, after what follows; a failure undoes everything as well."""
    last: tuple[str, ...] | None = None
    """uv's arguments for what is not to be undone: uvtorch becomes this uv at the end. So for `uv run`, whose exit code
    is the command's own, and wherever there is nothing to undo."""


def hand_over(argv: "Sequence[str]", *warnings: str) -> Plan:
    """The plan for what is uv's own affair."""
    return Plan(last=tuple(argv), warnings=warnings)


def report(plan: Plan, quiet: bool) -> None:
    """Write the decisions and the warnings to stderr, none of them where `quiet`."""
    if quiet:
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
    from difflib import unified_diff

    def split(raw: bytes) -> list[str]:
        return raw.decode("utf-8-sig").splitlines()

    name = os.path.relpath(edit.path)
    return list(unified_diff(split(edit.before), split(edit.after), f"a/{name}", f"b/{name}", lineterm=""))


def _quoted(command: "Sequence[str]") -> str:
    if uv.WINDOWS:
        from subprocess import list2cmdline

        return list2cmdline(command)
    from shlex import join

    return join(command)


def apply(plan: Plan, path: str) -> int:
    """Do it with the uv at `path`: write the edits, run uv, undo everything if it fails or is interrupted.

    Returns uv's exit code, or 128+n after signal n; does not return where `plan.last` is set and all went well. Raises
    ProjectError, with every file as it was, where a file cannot be written.
    """
    if plan.last is not None and not plan.commands:
        uv.hand_over(path, plan.last)
    if plan.edits:
        uv.require(path)
    with uv.Interrupted() as interrupted:
        snapshots = [_Snapshot(edit.path, edit.before) for edit in plan.edits]
        edited = {edit.path for edit in plan.edits}
        snapshots += [_Snapshot(name, _read(name)) for name in plan.guarded if name not in edited]
        try:
            code = _carry_out(plan, path, interrupted)
        except BaseException:
            _restore(snapshots)
            raise
        if code:
            _restore(snapshots)
            return interrupted.code or code
    if plan.last is not None:
        uv.hand_over(path, plan.last)
    return 0


def _carry_out(plan: Plan, path: str, interrupted: uv.Interrupted) -> int:
    for edit in plan.edits:
        _write_checked(edit)
    code = _run_all(plan.commands, path, interrupted)
    if code == 0 and plan.then:
        code = _carry_out(plan.then(), path, interrupted)
    return code or _run_all(plan.closing, path, interrupted)


def _run_all(commands: "Sequence[Sequence[str]]", path: str, interrupted: uv.Interrupted) -> int:
    for command in commands:
        code = interrupted.code or uv.run(path, command, interrupted)
        if code:
            return code
    return 0


class _Snapshot(NamedTuple):
    path: str
    content: bytes | None
    """None: there was no such file."""


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _restore(snapshots: "Sequence[_Snapshot]") -> None:
    for path, content in snapshots:
        if _read(path) == content:
            continue
        try:
            if content is None:
                os.unlink(path)
            else:
                write(path, content)
        except OSError as error:
            raise ProjectError(f"uv failed, and {path} could not be put back: {error.strerror}") from None


def _write_checked(edit: Edit) -> None:
    if _read(edit.path) != edit.before:
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


def write(path: str, content: bytes) -> None:
    """Replace a file's content at once: a reader sees the old or the new, and a link, the mode and the owner stay.

    Where the directory allows no new file, the content is written in place. Raises OSError.
    """
    path = os.path.realpath(path)
    temporary = f"{path}.uvtorch-{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except OSError:
        with open(path, "wb") as file:
            file.write(content)
        return
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        if os.path.exists(path):
            status = os.stat(path)
            if hasattr(os, "chown") and status.st_uid != os.geteuid():
                os.chown(temporary, status.st_uid, status.st_gid)
            os.chmod(temporary, status.st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

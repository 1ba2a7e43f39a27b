"""uv's own `add`, `remove` or `lock`, then what its lock calls for. Most bring nothing of PyTorch's: imports little."""

import os
from collections.abc import Callable, Sequence

from uvtorch import files
from uvtorch.argv import CommandLine
from uvtorch.command import Command
from uvtorch.errors import ProjectError
from uvtorch.packages import begins_with, brings_torch, configures, extension_names, pinned_in, roles, rows_in
from uvtorch.transaction import Transaction, content


def names_pytorch(command: Command) -> bool:
    """Whether what is named may be PyTorch's, or compiled against it. A script has no lock to tell it later.

    To an `add` bare names of what is pinned do not count: there is nothing to choose.
    """
    line = command.line
    texts = {text for text in line.positionals if (name := begins_with(text)) in roles() or name in extension_names()}
    other = line.verb != "add" or line.options or line.ours or command.env.get("UV_TORCH_BACKEND")
    if other or "torch" not in texts:
        return bool(texts) or line.has("--requirements", "--script")
    path = files.find_project(command.directory)
    return path is None or not texts <= pinned_in(content(path)) - extension_names()


def watch(
    command: Command, edit: Callable[[Transaction], object] | None = None, *, warnings: Sequence[str] = ()
) -> int:
    """Run uv's own command after `edit`, then see to its lock; plain uv where there is none to come."""
    line = command.line
    command.claim()
    paths = _files(command)
    if paths is None:
        return command.hand_over(*warnings)
    with command.transaction() as tx:
        tx.guard(*paths)  # `--package` names a file that a command line alone does not tell
        tx.warn(*warnings)
        if edit is not None:
            edit(tx)
        before = content(paths[1])
        late = line.verb == "add" and not command.unsynced and brings_torch(line.positionals, line.values("--extra"))
        if tx.dry and line.verb == "add":
            tx.say("what it brings along of PyTorch is pinned once uv has locked")
        # Syncing at once would install gigabytes of a build that is replaced a moment later.
        tx.uv(*(line.with_options("--no-sync") if late else line.argv))
        if late or not _is_settled(line, paths, before):
            from uvtorch.steps.follow import follow_and_sync  # noqa: PLC0415  a plain `add` loads nothing that it does not need

            asked = line.ours_has("--torch-backend")  # acts on the whole lock, also where nothing is new in it
            follow_and_sync(command, tx, b"" if asked else before, late=late)
    return tx.code


def _files(command: Command) -> tuple[str, str] | None:
    """The project's file and its lock; None where none is made."""
    leaves_lock = command.line.has("--script", "--no-sources", "--check", "--dry-run")
    if leaves_lock or command.sources_off or command.frozen:
        return None
    try:
        path = files.find_project(command.directory)
        if path is None or not (files.may_be_member(path) or command.line.has("--package")):
            return None if path is None else (path, os.path.join(os.path.dirname(path), "uv.lock"))
        from uvtorch.session import Session  # noqa: PLC0415  a plain `add` loads nothing that it does not need

        site = Session(command.line, command.env).required_site
    except ProjectError:  # uv says better what is wrong
        return None
    return site.manifest.path, site.lock


def _is_settled(line: CommandLine, paths: tuple[str, str], before: bytes) -> bool:
    """Whether PyTorch's packages are locked as they were and no more is asked."""
    text, after = map(content, paths)
    if line.ours_has("--torch-backend") or line.has("--upgrade", "--upgrade-package"):
        return False
    # What is removed may leave names in the group `uvtorch` that nothing needs any more.
    plain = b"uvtorch" not in text if line.verb == "remove" else line.verb == "add" and not configures(text)
    return after == before or (plain and rows_in(before) == rows_in(after))

"""uv's own `add`, `remove` or `lock`, and then what its lock calls for."""

import tomllib
from collections.abc import Sequence

from uvtorch import uv
from uvtorch.argv import CommandLine
from uvtorch.errors import NoBuild, ProjectError
from uvtorch.packages import dependents
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import bare_requirement, named_by
from uvtorch.session import Session
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_lock, pytorch_rows, unfit
from uvtorch.steps.pins import content, pins_of
from uvtorch.steps.resolve import pin_script


def watch(session: Session, file: PyProject | None = None, *, warnings: Sequence[str] = ()) -> int:
    """Run uv's own command, then see to its lock; plain uv where there is no project or no lock to come.

    `file` holds edits of the project's file that go before it.
    """
    line = session.line
    if line.verb == "add" and line.has("--script") and not session.sources_off:
        return _watch_script(session, warnings)
    if line.has("--script", "--no-sources", "--check", "--dry-run") or session.sources_off or session.frozen:
        return session.hand_over(*warnings)
    try:
        site = session.site
    except ProjectError:  # uv says better what is wrong
        return session.hand_over(*warnings)
    if site is None:
        return session.hand_over(*warnings)
    with session.transaction() as tx:
        tx.guard(site.manifest.path, site.lock)
        tx.warn(*warnings)
        if file is not None:
            tx.keep_style(site.manifest.path, site.manifest.raw)
            session.edit(tx, site.manifest.path, file)
        before = content(site.lock)
        late = line.verb == "add" and not session.unsynced and brings_torch(line)
        if tx.dry:
            tx.say("what it brings along of PyTorch is pinned once uv has locked")
        # Syncing at once would install gigabytes of a build that is replaced a moment later.
        tx.uv(*(line.with_options("--no-sync") if late else line.argv))
        changed = not _is_settled(session, before) and follow_lock(session, tx, before)
        if (late or changed) and line.verb in ("add", "remove") and not session.unsynced:
            command, more = choices.sync_command(session)
            tx.warn(*more)
            tx.uv(*command)
    return tx.code


def _watch_script(session: Session, warnings: Sequence[str]) -> int:
    """Let uv add to a script; name PyTorch packages that come along among its dependencies, with their index."""
    try:
        pinned = bool(pins_of(session))
    except ProjectError:  # uv says better what is wrong
        return session.hand_over(*warnings)
    with session.transaction() as tx:
        path = session.required_site.manifest.path
        tx.guard(path, session.required_site.lock)
        tx.warn(*warnings)
        tx.uv(*session.line.argv)
        if not tx.dry:
            session.reread()
            if not pinned and (versions := _resolved(session)).get("torch"):
                try:
                    pin_script(session, tx, session.wanted(), versions)
                except NoBuild as error:
                    tx.warn(unfit(versions["torch"], error))
    return tx.code


def _resolved(session: Session) -> dict[str, str]:
    """The PyTorch packages that uv resolves for a script, with their versions: a script is not locked as a rule."""
    path = session.required_site.manifest.path
    code, out, _ = uv.ask(session.uv, ["export", "--quiet", "--script", path, "--format", "pylock.toml"])
    rows = tomllib.loads(out).get("packages", []) if code == 0 else []
    return {row["name"]: row.get("version", "") for row in rows if session.project.is_pinned(row["name"])}


def _is_settled(session: Session, before: bytes) -> bool:
    """Whether an `add` left PyTorch's packages as they were, so that there is nothing to look at."""
    if session.line.verb != "add" or session.line.ours_has("--torch-backend") or session.project.config.packages:
        return False
    return pytorch_rows(before) == pytorch_rows(content(session.required_site.lock))


def brings_torch(line: CommandLine) -> bool:
    """Whether an `add` names a package that is known to require torch."""
    known = dependents()
    for text in line.positionals:
        name = named_by(text)
        if name is None:
            continue
        extras = [*bare_requirement(text).partition("[")[2].rstrip("] ").split(","), *line.values("--extra")]
        if name in known and (not known[name] or known[name] in (extra.strip() for extra in extras)):
            return True
    return False

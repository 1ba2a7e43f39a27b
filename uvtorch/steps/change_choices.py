"""Changing what a project's backend choices hold: edit, lock, bound, follow the lock, sync to the one that fits."""

from collections.abc import Collection, Sequence

from uvtorch.argv import forwarded
from uvtorch.project import Target
from uvtorch.project.pyproject import PyProject
from uvtorch.session import Session
from uvtorch.steps import choices
from uvtorch.steps.bounds import bound_fresh
from uvtorch.steps.follow import follow_lock
from uvtorch.transaction import Transaction, content


def change_choices(
    session: Session,
    tx: Transaction,
    file: PyProject,
    ours: Collection[int | None],
    text: str,
    fresh: Sequence[tuple[str, Target]] = (),
) -> None:
    """Write the edits of `file`, run uv's own command for the words that are not `ours`, by their places, and lock.

    Bare requirements that are `fresh` are bounded by what was locked, as `uv add` does. `text` is the decision to say.
    """
    line, site = session.line, session.required_site
    locking = not session.frozen
    bounding = bool(fresh) and locking and not line.has("--raw")
    tx.say(text + ("; bounds follow from the lock, as with `uv add`" if bounding else ""))
    sync = None if session.unsynced else choices.sync_command(session)
    if sync:
        tx.warn(*sync[1])
    before = content(site.lock)
    session.edit(tx, file)
    if line.has("--requirements") or not set(line.positionals_at) <= set(ours):
        tx.uv(*session.without_sync(word for at, word in enumerate(line.argv) if at not in ours))
    if locking:
        tx.uv("lock", *forwarded(line, "lock", again=False))
        if bounding:
            bound_fresh(session, tx, fresh, line.value("--bounds"))
        follow_lock(session, tx, before)
    if sync:
        tx.uv(*sync[0])

"""Changing what a project's backend choices hold: edit, lock, bound, follow the lock, sync to the one that fits."""

from collections.abc import Sequence

from uvtorch.argv import options_for
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
    commands: Sequence[Sequence[str]],
    text: str,
    fresh: Sequence[tuple[str, Target]] = (),
) -> None:
    """Write the edits of `file`, run uv's own `commands`, and lock.

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
    session.begin(tx, file)
    for command in commands:
        tx.uv(*command)
    if locking:
        tx.uv("lock", *options_for(line, "lock"))
        if bounding:
            bound_fresh(session, tx, fresh, line.value("--bounds"))
        follow_lock(session, tx, before)
    if sync:
        tx.uv(*sync[0])

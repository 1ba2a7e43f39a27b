"""`uvtorch remove`: PyTorch packages with what only they needed; all else as uv has it."""

from uvtorch import edits
from uvtorch.packages import extension_names, normalize, roles
from uvtorch.project import Project, Target
from uvtorch.project.model import BASE
from uvtorch.session import Session
from uvtorch.steps import extensions
from uvtorch.steps.follow import change_choices, users_of
from uvtorch.steps.watch import watch


def remove(session: Session) -> int:
    """Run uv's own command, after the edits that uv does not make. Raises UvtorchError.

    uv takes a package's sources out; what uvtorch wrote is ours to take out, and what is still needed is named in the
    group.
    """
    if session.site is None:
        return session.hand_over()  # uv says what is missing
    project = session.project
    gone = {normalize(text) for text in session.line.positionals}
    file = session.file()
    if gone & extension_names():
        extensions.leave(session, file, gone)
    pinned = any(project.is_pinned(name) for name in gone)
    if pinned and project.selectable():
        return _remove_from_choices(session)
    if pinned:
        names = (*gone, *edits.in_group(project))
        edits.unpin(file, project, users_of(session, names, without=gone), gone, session.target)
    if not (pinned and session.is_script):
        return watch(session, lambda tx: session.edit(tx, file))
    with session.transaction() as tx:
        session.edit(tx, file)
        tx.uv(*session.line.argv)
    return tx.code


def _remove_from_choices(session: Session) -> int:
    line, project = session.line, session.project
    target, file = session.target, session.file()
    chosen = [choice.target for choice in edits.editable(project) if target in (None, choice.target)]
    held = {place: _held(project, place) for place in (*chosen, *([] if target else [BASE]))}
    typed = dict(zip(line.positionals_at, map(normalize, line.positionals), strict=True))
    asked = {name for name in typed.values() if project.is_pinned(name)}
    asked &= set().union(*map(held.__getitem__, chosen))
    if not asked:
        return session.hand_over()
    ours = asked.union(*(_lonely(project, packages - asked) for packages in held.values()))
    edits.take_away(file, sorted(ours), [*held])
    names = ", ".join(str(place) for place, packages in held.items() if packages & ours)
    gone = {at for at, name in typed.items() if name in ours}
    with session.transaction() as tx:
        change_choices(session, tx, file, gone, f"{', '.join(sorted(asked))} out of {names}")
    return tx.code


def _held(project: Project, place: Target) -> set[str]:
    own = [item for item in project.requirements if item.via is None and not item.inherited]
    return {item.package for item in own if item.target == place}


def _lonely(project: Project, left: set[str]) -> set[str]:
    return set() if any(map(project.is_pinned, left)) else {one for one in left if roles().get(one) == "companion"}

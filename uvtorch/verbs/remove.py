"""`uvtorch remove`: PyTorch packages with what only they needed, out of every backend choice; all else as uv has it."""

from uvtorch.edits import extensions, offer, pin
from uvtorch.packages import extension_names, normalize, roles
from uvtorch.project import Project, Target
from uvtorch.session import Session
from uvtorch.steps import choices
from uvtorch.steps.follow import change_choices, users_of
from uvtorch.steps.watch import watch


def remove(session: Session) -> int:
    """Run uv's own command, after the edits that uv does not make.

    uv takes a package's sources out with its last requirement. What uvtorch wrote for it is ours to take out, and what
    was required directly is named in the group where the packages that stay still need it.
    Raises UvtorchError where the project cannot be read.
    """
    if session.site is None:
        return session.hand_over()  # uv says what is missing
    project = session.project
    gone = {normalize(text) for text in session.line.positionals}
    file = session.file()
    if any(name in extension_names() for name in gone):
        extensions.remove(file, project, session.env, gone)
    pinned = any(project.is_pinned(name) for name in gone)
    if pinned and project.selectable():
        return _remove_from_choices(session)
    if pinned:
        names = (*gone, *pin.in_group(project))
        pin.unpin(file, project, users_of(session, names, without=gone), gone, choices.target_of(session.line))
    if not (pinned and session.is_script):
        return watch(session, lambda tx: session.edit(tx, file))
    with session.transaction() as tx:
        session.edit(tx, file)
        tx.uv(*session.line.argv)
    return tx.code


def _remove_from_choices(session: Session) -> int:
    """Out of every choice, with their sources; out of one if one is named. Other names go as uv has it."""
    line, project = session.line, session.project
    target = choices.target_of(line)
    chosen = choices.choices_in(target, offer.editable(project))
    places = [choice.target for choice in chosen] + ([Target("base")] if target is None else [])
    present = {(item.package, item.target) for item in project.requirements if item.via is None and not item.inherited}
    asked = {
        normalize(name)
        for name in line.positionals
        if project.is_pinned(normalize(name)) and any((normalize(name), choice.target) in present for choice in chosen)
    }
    if not asked:
        return session.hand_over()
    ours = asked | _lonely_companions(session.project, present, places, asked)
    file = session.file()
    offer.take_away(file, sorted(ours), places)
    names = ", ".join(str(place) for place in places if any((name, place) in present for name in ours))
    gone = {at for at, text in zip(line.positionals_at, line.positionals, strict=True) if normalize(text) in ours}
    with session.transaction() as tx:
        change_choices(session, tx, file, gone, f"{', '.join(sorted(asked))} out of {names}")
    return tx.code


def _lonely_companions(
    project: Project, present: set[tuple[str, Target]], places: list[Target], gone: set[str]
) -> set[str]:
    """The Tritons that are left without a PyTorch package: they are there for torch alone."""
    found: set[str] = set()
    for place in places:
        held = {name for name, where in present if where == place}
        if not any(project.is_pinned(name) for name in held - gone):
            found |= {name for name in held if roles().get(name) == "companion"}
    return found

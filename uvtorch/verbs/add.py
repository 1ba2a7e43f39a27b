"""`uvtorch add`: PyTorch packages with the index that serves this machine; all else as uv has it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from uvtorch.backend import Backend, from_url
from uvtorch.choose import Decision
from uvtorch.edits import offer, pin
from uvtorch.errors import NoBuild, ProjectError, UsageError
from uvtorch.kept import Saved
from uvtorch.packages import begins_with, extension_names
from uvtorch.project import Choice, Project, Source, Target
from uvtorch.project.model import GROUP
from uvtorch.project.outside import given
from uvtorch.requirement import bare_requirement, named_by
from uvtorch.session import Origin, Session, Wanted, requirements_of
from uvtorch.steps import choices
from uvtorch.steps.change_choices import change_choices
from uvtorch.steps.follow import follow_and_sync, unfit
from uvtorch.steps.pins import Change, pins_of
from uvtorch.steps.requested import Requested, requested_by, words_with
from uvtorch.steps.resolve import (
    NO_SOLUTION,
    brought,
    decide_for,
    decision_for_release,
    is_from_own_index,
    leaves_to_pypi,
    locked,
    newest_torch,
    pins_unsaid,
    rollback,
    tell_decision,
    tell_pypi,
)
from uvtorch.steps.script import pin_script
from uvtorch.steps.watch import watch
from uvtorch.transaction import Transaction, UvFailedError, content, quoted


def add(session: Session) -> int:
    """Add what the command line names; where that is no PyTorch package, or the user names the index, as uv does.

    Raises UvtorchError where it cannot be done.
    """
    line = session.line
    if session.sources_off or line.has("--no-index"):
        return _leave_to_uv(session, "sources or indexes are switched off")
    project = session.project
    if not session.is_script and not project.has_project:
        raise ProjectError(f"{project.origin} has no `[project]` table", "`uv init --bare` makes a project")
    requested = requested_by(session)
    url = _own_index(session)
    code, warnings = (None, ()) if url else _add_extensions(session, requested)
    if code is not None:
        return code
    if not requested:
        return _add_to_script(session, warnings) if session.is_script else watch(session, warnings=warnings)
    if url:
        return _leave_to_uv(session, f"{url} is named as the index to use")
    with session.transaction() as tx:
        tx.warn(*warnings)
        if apart := project.by_local_version():
            raise ProjectError(
                f"{' and '.join(str(one.target) for one in apart)} are told apart by the local version of torch",
                f"write {requested[0].package} into each, with its local version",
            )
        if project.selectable():
            _add_to_choices(session, tx, requested)
        else:
            _add_pinned(session, tx, requested)
    return tx.code


def _add_extensions(session: Session, requested: Sequence[Requested]) -> tuple[int | None, tuple[str, ...]]:
    """The exit code where packages compiled against torch were added, and warnings for when uv adds them."""
    named = extension_names().intersection(map(begins_with, session.line.positionals))
    if not named and "UVTORCH_EXTENSIONS" not in session.env:
        return None, ()
    from uvtorch.steps.extensions import add_extensions  # noqa: PLC0415  `add torch` loads nothing that it does not need

    return add_extensions(session, requested)


def _leave_to_uv(session: Session, reason: str) -> int:
    """Hand over; but not in silence where uvtorch was told to choose."""
    if session.line.ours_has("--torch-backend"):
        raise UsageError(f"--torch-backend has nothing to do here: {reason}")
    return session.hand_over()


def _own_index(session: Session) -> str | None:
    """An index of a backend that the user names by option or variable: then uv is told all it needs."""
    urls = [*session.line.values("--find-links"), *(one.url for one in given(session.line, session.env))]
    return next(filter(from_url, urls), None)


def _add_to_script(session: Session, warnings: Sequence[str]) -> int:
    """Let uv add to a script; name PyTorch packages that come along among its dependencies, with their index."""
    pinned = bool(pins_of(session))
    with session.transaction() as tx:
        tx.warn(*warnings)
        tx.uv(*session.line.argv)
        if not (tx.dry or pinned):
            session.reread()
            try:
                pin_script(session, tx, session.wanted())
            except NoBuild as error:
                tx.warn(unfit("", error))
    return tx.code


# One build for the project


def _add_pinned(session: Session, tx: Transaction, requested: Sequence[Requested]) -> None:
    texts = [item.text for item in requested]
    pins = pins_of(session) or pins_unsaid(session)
    wanted = session.wanted(texts)
    anew = wanted.insists and (wanted.auto or any(one.backend != wanted.backend for one in pins))
    if pins and not anew:
        _add_like(session, tx, requested, pins, wanted)
        return
    if not wanted.insists and is_from_own_index(session):
        tx.uv(*session.line.argv)
        return
    if wanted.origin == Origin.LOCAL_VERSION:  # its marker may leave it out here
        wanted = session.wanted(texts, session.machine)
    backend = session.backend_for(wanted)
    asked = _asked(session, requested)
    decision = session.decide(asked, backend)
    if leaves_to_pypi(session, backend):
        tell_pypi(tx, decision)
        tx.uv(*session.line.argv)
        return
    session.begin_script()
    _add_chosen(session, tx, requested, Chosen(asked, decision, backend))
    if not session.is_script:
        tx.say(f"the pin counts {_for_whom(decision)}: `uvtorch torch backends --help` shows how to offer several")


def _for_whom(decision: Decision) -> str:
    systems = dict.fromkeys(key.partition("_")[0].capitalize() for key in sorted(decision.platforms or ()))
    return "for all who install the project" + (f" on {' or '.join(systems)}" if systems else "")


class Chosen(NamedTuple):
    """What was decided for the requirements that are asked for, from a backend that somebody names (None: nobody)."""

    asked: tuple[str, ...]
    decision: Decision
    backend: Backend | None


def _add_chosen(session: Session, tx: Transaction, requested: Sequence[Requested], chosen: Chosen) -> None:
    """Pin, let uv add, and see whether it resolved the torch that was chosen for.

    Where something is known to bear on that, the environment waits for the lock, and uv's words for the outcome.
    """
    before = content(session.required_site.lock)
    start = tx.mark()
    decision = chosen.decision
    follows = not (session.is_script or session.frozen)
    careful = follows and session.may_resolve_otherwise
    command, said = _pinned_command(session, tx, requested, decision), ""
    if careful:
        code, said = tx.try_quietly(*session.without_sync(command))
    else:
        tell_decision(tx, decision, None)
        code = tx.attempt(*command)
    changed = follows and not tx.dry and _resolves_otherwise(session, chosen, code)
    if changed:
        _add_for_resolution(session, tx, requested, chosen, start, spoken=code != 0 and not careful)
    elif code:
        tx.end(code, said)
    elif careful:
        tx.tell(said)
        tell_decision(tx, decision, None if tx.dry else newest_torch(locked(session), decision.backend))
    follow_and_sync(session, tx, before, late=careful or changed)


def _standing(project: Project, requested: Sequence[Requested]) -> tuple[str, ...]:
    """The project's own requirements that stay as they are: uv replaces one that is added with a specifier."""
    replaced = {item.package for item in requested if item.text.strip() != bare_requirement(item.text)}
    return tuple(text for text in requirements_of(project) if named_by(text) not in replaced)


def _pinned_command(
    session: Session,
    tx: Transaction,
    requested: Sequence[Requested],
    decision: Decision,
    transitive: Sequence[str] = (),
) -> list[str]:
    """Write the pins of a decision; the arguments with which uv adds under them."""
    own = _standing(session.project, requested)
    keeping = (*own, *(item.text for item in requested if item.position is None))
    change = Change(session, tx)
    change.to(decision, tuple(dict.fromkeys(item.package for item in requested)), transitive, keeping=keeping)
    change.write()
    return words_with(session, requested, decision)


def _add_for_resolution(
    session: Session,
    tx: Transaction,
    requested: Sequence[Requested],
    chosen: Chosen,
    start: Mapping[str, Saved],
    *,
    spoken: bool,
) -> None:
    """Add without the pin, choose for what uv resolves then, and add anew under that. `spoken`: uv has said why.

    Anew, for the bounds that uv wrote without the pin are those of the default index's releases.
    """
    first = tx.failure
    rollback(session, tx, start)
    code, said = tx.try_quietly(*session.without_sync(words_with(session, requested, None)))
    session.reread()
    torch, transitive = newest_torch(locked(session)), brought(session)
    if code or torch is None:
        tx.end(*(first if first[0] else (code, "" if spoken else said)))
    rollback(session, tx, start)
    decision = decide_for(session, chosen.asked, torch, chosen.backend)
    if (decision.backend, decision.bounds) == (chosen.decision.backend, chosen.decision.bounds):  # no other way
        tx.end(*(first if first[0] else (NO_SOLUTION, "")))
    tx.uv(*session.without_sync(_pinned_command(session, tx, requested, decision, transitive)))
    session.reread()
    tell_decision(tx, decision, newest_torch(locked(session), decision.backend))


def _resolves_otherwise(session: Session, chosen: Chosen, code: int) -> bool:
    """Whether uv found no solution under the pin, or an older torch that another build or other bounds serve better."""
    if code:
        return code == NO_SOLUTION and chosen.backend is None
    session.reread()
    decision, torch = chosen.decision, newest_torch(locked(session), chosen.decision.backend)
    if torch is None:
        return False
    better = decision_for_release(session, chosen.asked, torch, decision, chosen.backend)
    return better.backend != decision.backend or not set(better.bounds) <= set(decision.bounds)


# Where the project is pinned already


def _add_like(
    session: Session, tx: Transaction, requested: Sequence[Requested], pins: Sequence[Source], wanted: Wanted
) -> None:
    """Add packages to a project that is pinned: from where its others come."""
    project = session.project
    packages = tuple(dict.fromkeys(item.package for item in requested))
    words = [*session.line.argv]
    if wanted.origin == Origin.LOCAL_VERSION:
        words = words_with(session, requested, None)
    before = content(session.required_site.lock)
    if not _is_settled(project, packages):
        decision = _bounds_beside(session, requested, pins)
        words = words_with(session, requested, decision) if decision and decision.bounds else words
        file = session.file()
        pin.like(file, project, packages, pins, torch=decision.torch if decision else None)
        if session.edit(tx, file):
            indexes = ", ".join(dict.fromkeys(one.index for one in pins if one.index))
            tx.say(f"{', '.join(packages)} from {indexes}, as the project has it")
    code = tx.attempt(*words)
    if code:
        _tell_what_repins(session, tx, requested, pins)
        tx.end(code, "")
    follow_and_sync(session, tx, before)


def _is_settled(project: Project, packages: Sequence[str]) -> bool:
    """Whether all of these have sources, and torch is named: then there is nothing to edit."""
    have = {source.package for source in project.sources}
    named = {item.package for item in project.requirements}
    grouped = {item.package for item in project.requirements if item.target == GROUP}
    return have.issuperset(packages) and not grouped.intersection(packages) and "torch" in {*named, *packages}


def _bounds_beside(session: Session, requested: Sequence[Requested], pins: Sequence[Source]) -> Decision | None:
    """What the torch that the project has asks of the packages that are added: torchaudio names no torch by itself."""
    backend = pins[0].backend
    torch = newest_torch(locked(session), backend)
    fixed = (f"torch=={torch}",) if torch and "torch" not in {item.package for item in requested} else ()
    try:
        return session.decide((*_asked(session, requested), *fixed), backend)
    except NoBuild:
        return None


def _tell_what_repins(
    session: Session, tx: Transaction, requested: Sequence[Requested], pins: Sequence[Source]
) -> None:
    """Say that the pinned index cannot serve what is added, and which command chooses another."""
    backend, texts = pins[0].backend, _asked(session, requested)
    with suppress(NoBuild):
        if not _serves(session, texts, backend) and (anew := session.decide(texts)).torch is not None:
            command = quoted(("uvtorch", *session.line.with_options("--torch-backend", "auto")))
            tx.warn(
                f"the index of {backend}, where the project is pinned, cannot serve that; "
                f"`{command}` chooses a build anew ({anew.backend} here)"
            )


def _asked(session: Session, requested: Sequence[Requested]) -> tuple[str, ...]:
    """What is added, and the project's own requirements that stay beside it."""
    return (*(item.text for item in requested), *_standing(session.project, requested))


def _serves(session: Session, texts: Sequence[str], backend: Backend | None) -> bool:
    """Whether nothing is known against an index's having what these requirements ask for."""
    if backend not in session.catalog.builds or backend is None:
        return True
    torch, lacking = session.decide(texts, backend).torch, session.catalog.lacking
    return torch is not None and not any(torch in lacking.get((named_by(one) or "", backend), ()) for one in texts)


# Several builds to choose from


def _add_to_choices(session: Session, tx: Transaction, requested: Sequence[Requested]) -> None:
    """Into every choice, with the sources that torch has there; into one if one is named.

    Other requirements of the same command line go where uv puts them. Raises ProjectError where a choice has no index
    to take them from, UsageError for what is not written in the requirement itself; and as `_meant`.
    """
    project = session.project
    if session.line.has("--extra", "--marker", "-m") or any(item.position is None for item in requested):
        raise UsageError(
            "the project offers several builds of PyTorch, and each gets a requirement as it is typed",
            f"with its extras and marker: `uvtorch add \"{requested[0].package} ; sys_platform == 'linux'\"`",
        )
    chosen, full = _meant(session, requested)
    have = {(item.package, item.target) for item in project.requirements}
    file = session.file()
    for item, own in zip(requested, choices.places_for(session, chosen, [one.text for one in requested]), strict=True):
        texts = {place.text for place in own.values()}
        alike = texts.pop() if len(texts) == 1 else item.text
        offer.place(file, project, item.package, own, alike if full else None)
    places = (Target("base"), *(choice.target for choice in chosen))
    fresh = [(item.package, place) for item in requested for place in places if (item.package, place) not in have]
    names = ", ".join(item.package for item in requested)
    text = f"{names} into {', '.join(str(choice.target) for choice in chosen)}"
    try:
        change_choices(session, tx, file, {item.position for item in requested}, text, fresh)
    except UvFailedError:
        asked, offered = _asked(session, requested), [one.backend for one in chosen if one.backend]
        with suppress(NoBuild):
            able = [one for one in offered if _serves(session, asked, one)]
            if able != offered and (best := session.decide(asked).backend):
                others = " ".join(map(str, dict.fromkeys((*able, best))))
                tx.warn(
                    f"not every index of the choices can serve that; `uvtorch torch backends {others}` offers others"
                )
        raise


def _meant(session: Session, requested: Sequence[Requested]) -> tuple[tuple[Choice, ...], bool]:
    """The choices that the command line means, and whether those are all.

    Raises UsageError for a target that is no choice, NoBuild where a backend is named that no choice has.
    """
    project, target = session.project, choices.target_of(session.line)
    offered = offer.editable(project)
    chosen = choices.choices_in(target, offered)
    if target is not None and not chosen:
        names = ", ".join(str(choice.target) for choice in offered)
        raise UsageError(
            f"{requested[0].package} in {target} would come from PyPI, whatever backend is chosen",
            f"without a target it goes into every choice ({names}); `uv add` puts it there as it is",
        )
    wanted = session.wanted([item.text for item in requested])
    if wanted.backend and wanted.insists:
        stated = {row.target for row in project.choices() if row.backend == wanted.backend}
        chosen = tuple(choice for choice in chosen if choice.target in stated)
        if not chosen:
            raise choices.no_such_choice(project.choices(), wanted.backend)
    return chosen, target is None and len(chosen) == len(offered)

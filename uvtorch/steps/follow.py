"""What a new lock calls for: packages that came along, and those that nothing needs any more."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from uvtorch import edits
from uvtorch.argv import forwarded, torch_backend
from uvtorch.catalog import number
from uvtorch.command import Command
from uvtorch.errors import MachineError, NoBuild
from uvtorch.packages import extension_names, rows_in
from uvtorch.project import Environment, Source
from uvtorch.project.choices import torch_first
from uvtorch.project.lock import Lock, stray
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import MAIN_PLATFORMS
from uvtorch.session import Session, Wanted
from uvtorch.steps import choices
from uvtorch.steps.pins import bound_anew, pins_of, unbounded
from uvtorch.steps.resolve import NO_SOLUTION, brought, left_to_uv, newest_torch, pin_and_lock, pin_transitive
from uvtorch.transaction import Transaction, content


def follow_and_sync(command: Command, tx: Transaction, before: bytes, *, late: bool = False) -> None:
    """See to the lock that uv's own command left; sync where that changed it, or is `late`."""
    session = command if isinstance(command, Session) else Session(command.line, command.env, dry=command.dry)
    changed = follow_lock(session, tx, before)
    if (late or changed) and command.line.verb in ("add", "remove") and not command.unsynced:
        sync, warnings = choices.sync_command(session)
        tx.warn(*warnings)
        tx.uv(*sync)
    upgrades = command.line.has("--upgrade") or "torch" in command.line.values("--upgrade-package")
    if upgrades and command.line.verb == "lock" and not tx.dry:
        tx.say(*_newer_elsewhere(session))


def _newer_elsewhere(session: Session) -> Iterator[str]:
    """A newer torch that runs here, from another index than the pinned one."""
    backend = next((one.backend for one in pins_of(session) if one.package == "torch"), None)
    texts = session.requirements
    with suppress(NoBuild, MachineError):
        here = session.decide(texts, backend).torch if backend else None
        best = session.decide(texts).torch if here and here == newest_torch(session.locked(), backend) else None
        if here and best and number(best) > number(here):
            why = f"torch {best} is not on the index of {backend}, where the project is pinned"
            yield f"{why}; `uvtorch torch use auto` moves it"


def _strays(session: Session, lock: Lock) -> tuple[str, ...]:
    """What some platform gets from elsewhere."""
    pinning = (one for one in session.projects if any(one.is_pytorch(source.package) for source in one.sources))
    project = next(pinning, session.project)
    environments = [Environment(platform) for platform in MAIN_PLATFORMS]
    named = {package.name for one in environments for package in stray(lock, project, one)}
    # What the user requires directly without a source is the user's word, and doctor's.
    return torch_first(sorted(named.difference(session.packages)))


def follow_lock(session: Session, tx: Transaction, before: bytes) -> bool:
    """See to uv's new lock, which was `before`; whether the project was edited and locked again.

    What came along is named in the group `uvtorch`, or in every backend choice: so the sources apply to it.
    """
    if tx.dry or session.is_script or content(session.required_site.lock) == before:
        return False
    session.reread()
    lock = session.locked()
    if not lock.named("torch"):
        return _torch_is_gone(session, tx, before)
    if session.project.selectable():
        return _into_choices(session, tx, _strays(session, lock))
    if pins := pins_of(session):
        return _keep_pinned(session, tx, lock, pins, before)
    return session.line.verb == "add" and _first_time(session, tx, lock, before)


def _first_time(session: Session, tx: Transaction, lock: Lock, before: bytes) -> bool:
    project, wanted, said = session.project, session.wanted(), left_to_uv(session)
    if said is not None or any(project.is_pinned(source.package) for source in project.sources):
        tx.say(*(said or ()))
        return False
    new = [one.name for one in lock.packages if project.is_pinned(one.name) and not _was_locked(one.name, before)]
    return bool(new or wanted.insists) and pin_transitive(session, tx, wanted)


def pin_project(
    session: Session, tx: Transaction, wanted: Wanted, command: Sequence[str] | None = None, *, lock: bool
) -> bool:
    """Pin the workspace for what it names, else for the torch that comes along, and lock; whether it is pinned.

    `lock`: have uv resolve what comes along first. `command`: the user's own `uv lock`.
    """
    if session.packages:
        pinned = pin_and_lock(session, tx, wanted, command)
        if pinned:
            follow_lock(session, tx, b"")
        elif command:
            tx.uv(*command)
        return pinned
    code, said = tx.attempt(*(command or session.relock), quietly=True) if lock else (0, "")
    if code:
        tx.end(code, said)
    session.reread()
    pinned = pin_transitive(session, tx, wanted)
    if command and not pinned:
        tx.tell(said)
    return pinned


def _torch_is_gone(session: Session, tx: Transaction, before: bytes) -> bool:
    if session.line.verb == "add" and session.line.ours_has("--torch-backend"):
        tx.warn(f"--torch-backend {torch_backend(session.line)} has nothing to do: nothing here needs torch")
    if not rows_in(before) or session.project.pytorch_packages():
        return False
    file = session.file()
    edits.unpin_all(file, session.project)
    return _edited(session, tx, file)


def _edited(session: Session, tx: Transaction, file: PyProject) -> bool:
    if not session.edit(tx, file):
        return False
    tx.uv(*session.relock)
    return True


def _into_choices(session: Session, tx: Transaction, names: Sequence[str]) -> bool:
    file, project = session.file(), session.project
    for name, places in zip(names, choices.places_for(session, project.selectable(), names), strict=True):
        edits.place(file, project, name, places)
    if not names or not _edited(session, tx, file):
        return False
    tx.say(f"{', '.join(names)} came along: taken from every backend choice")
    return True


def _keep_pinned(session: Session, tx: Transaction, lock: Lock, pins: Sequence[Source], before: bytes) -> bool:
    names = _strays(session, lock)
    if session.line.verb == "add" and _pinned_anew(session, tx, pins, names, before):
        return True
    if not any(one.backend for one in pins):  # a private mirror: what comes along now is its business too
        names = tuple(name for name in brought(session) if not _was_locked(name, before))
    if names:
        return _take_along(session, tx, pins, names, newest_torch(lock, pins[0].backend))
    file = session.file()
    edits.unpin(file, session.project, users_of(session, edits.in_group(session.project)))
    _edited(session, tx, file)
    return False  # what goes from the group changes no environment


def _pinned_anew(
    session: Session, tx: Transaction, pins: Sequence[Source], names: Sequence[str], before: bytes
) -> bool:
    wanted = session.wanted()
    other = not before if wanted.auto else wanted.backend and any(one.backend != wanted.backend for one in pins)
    return bool(other and (names or wanted.explicit)) and pin_transitive(session, tx, wanted)


def _take_along(
    session: Session, tx: Transaction, pins: Sequence[Source], names: Sequence[str], torch: str | None
) -> bool:
    start, file, along = tx.mark(), session.file(), f"{', '.join(names)} came along"
    edits.pin_like(file, session.project, (), pins, names, torch)
    if not session.edit(tx, file):
        return False
    code, said = tx.attempt(*session.relock, quietly=True)
    if code and code != NO_SOLUTION:
        tx.end(code, said)
    if code:
        tx.rollback(start)
        session.reread()
        tx.warn(f"{along} from the default index: the index of the project's torch cannot serve what needs it")
        return False
    tx.tell(said)
    tx.say(f"{along}: taken from the project's index")
    return True


def _was_locked(name: str, before: bytes) -> bool:
    return f'\nname = "{name}"'.encode() in before.replace(b"\r\n", b"\n")


def users_of(session: Session, names: Iterable[str], without: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """For each name the locked packages that require it, `without` left out, and siblings, which have own sources."""
    lock, project = session.locked(), session.project
    if not lock.named("torch"):
        return {}
    without = set(without)
    siblings = () if session.required_site.at_root else session.projects[1:]
    ignored = {*without, *(one.name for one in siblings)} | (set() if session.is_dynamic else {project.name})
    users = {name: tuple(user for user in lock.dependents(name) if user not in ignored) for name in names}
    if "torch" in users:  # what is compiled against torch needs it, whether it says so or not
        compiled = {item.package for item in project.requirements if item.package in extension_names()} - without
        users["torch"] += tuple(sorted(compiled))
    return users


def change_choices(session: Session, tx: Transaction, file: PyProject, ours: Collection[int | None], text: str) -> None:
    """Write the edits of `file`, say `text`, run uv's command for the words not at the positions `ours`, and lock."""
    line, locks = session.line, not session.frozen
    before, standing = content(session.required_site.lock), {one.place for one in unbounded(session)}
    sync, warnings = ((), ()) if session.unsynced else choices.sync_command(session)  # to the choice that there is now
    session.edit(tx, file)
    fresh = [] if line.has("--raw") or not locks else [one for one in unbounded(session) if one.place not in standing]
    tx.say(text + ("; bounds follow from the lock, as with `uv add`" if fresh else ""))
    tx.warn(*warnings)
    if line.has("--requirements") or not set(line.positionals_at) <= set(ours):
        tx.uv(*session.without_sync(word for at, word in enumerate(line.argv) if at not in ours))
    if locks:
        tx.uv("lock", *forwarded(line, "lock", again=False))
        session.reread()
        bound_anew(session, tx, fresh, line.value("--bounds"))
        follow_lock(session, tx, before)
    if sync:
        tx.uv(*sync)

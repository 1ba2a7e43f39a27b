"""uv's resolution decides: pin, let uv lock, read what it locked, choose for that, and lock again where it differs.

A requirement's text does not tell what uv resolves: other packages cap torch, constraints and overrides apply,
dependencies are dynamic or bring an index of their own. So the choice for the text is tried first; where uv finds no
solution under it, or locks another torch than the one that was chosen for, the choice is made anew for what came out.
At most two more runs of `uv lock` follow from that.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from uvtorch.backend import Backend
from uvtorch.catalog import number
from uvtorch.choose import Decision
from uvtorch.edits import pin
from uvtorch.errors import NoBuild, ProjectError
from uvtorch.kept import Saved
from uvtorch.markers import can_hold
from uvtorch.project import Source
from uvtorch.project.lock import Lock
from uvtorch.requirement import allows, bare_requirement, named_by, without_local
from uvtorch.session import Origin, Session, Wanted, decision_line
from uvtorch.steps import choices
from uvtorch.steps.bounds import Lowering, bound_anew, decide_lowering, lower_bounds, take_bounds_away
from uvtorch.steps.pins import Change, pins_of, torch_first, workspace_packages, workspace_requirements
from uvtorch.transaction import Transaction


def newest_torch(lock: Lock, backend: Backend | None = None) -> str | None:
    """The release of torch that a lock holds, of a backend's index where it holds one from there; None: none.

    One that is there for no platform (`override-dependencies = ["torch; sys_platform == 'never'"]`) is none.
    """
    rows = lock.named("torch") if _is_required(lock) else ()
    own = [row for row in rows if backend and row.backend and row.backend.name == backend.name]
    versions = [(row.version or "").partition("+")[0] for row in own or rows]
    return max(versions, key=number, default=None)


def _is_required(lock: Lock) -> bool:
    """Whether anything requires torch on any platform."""
    for package in lock.packages:
        tables = package.tables() if package.mentions("torch") else {}
        groups = (*tables.get("optional-dependencies", {}).values(), *tables.get("dev-dependencies", {}).values())
        for row in (*tables.get("dependencies", ()), *(row for rows in groups for row in rows)):
            marker = row.get("marker")
            if row.get("name") == "torch" and (marker is None or "extra" in marker or can_hold(marker)):
                return True
    return False


def pin_and_lock(session: Session, tx: Transaction, wanted: Wanted, command: Sequence[str] | None = None) -> bool:
    """Pin the whole workspace to the build for this machine (or to the one asked for) and lock; whether it is pinned.

    Nothing is pinned where uv resolves no torch. An explicit word for a backend takes local versions out of the
    requirements, and lowers a lower bound that alone stands in the way. `command`: the user's own `uv lock`.
    """
    backend = session.backend_for(wanted)
    site = session.required_site
    before = tx.mark()
    requirements = workspace_requirements(session)
    if anew := speaks_up(session, wanted):
        requirements = tuple(map(without_local, requirements))
    try:
        choice = (
            decide_lowering(session, requirements, backend) if anew else Lowering(session.decide(requirements, backend))
        )
    except NoBuild as refusal:  # uv may resolve another torch than the text says: overrides replace it
        if backend or tx.dry:
            raise
        return _pin_for_resolution(session, tx, before, wanted, refusal=refusal)
    decision = choice.decision
    if leaves_to_pypi(session, backend):
        tell_pypi(tx, decision)
        return False
    relock = command or choices.relock_command(session)
    choice, code, said = _lock_pinned(session, tx, before, choice, relock, anew=anew)
    if code == 0:
        torch = None if tx.dry else newest_torch(locked(session), decision.backend)
        if torch is None and not tx.dry and os.path.exists(site.lock):  # overridden or excluded: nothing to choose
            rollback(session, tx, before)
            return False
        better = decision_for_release(session, requirements, torch, decision, backend) if torch else decision
        if better.backend == decision.backend:
            tx.tell(said)
            _keep_beside(session, tx, decision, better)
            tell_decision(tx, decision, torch)
            bound_anew(session, tx, choice.lowered)
            return True
    elif backend or code != NO_SOLUTION:
        tell_decision(tx, decision, None)
        tx.fail()
    rollback(session, tx, before)
    return _pin_for_resolution(session, tx, before, wanted, choice)


def _lock_pinned(
    session: Session,
    tx: Transaction,
    before: Mapping[str, Saved],
    choice: Lowering,
    relock: Sequence[str],
    *,
    anew: bool,
) -> tuple[Lowering, int, str]:
    """Pin and lock; once more with bounds lowered that may ask for what this index lacks. Uv's code and words."""
    write_pins(session, tx, choice, anew)
    code, said = tx.try_quietly(*relock)
    if code == NO_SOLUTION and anew and not choice.lowered:
        rollback(session, tx, before)
        choice = choice._replace(lowered=tuple(lower_bounds(session)))
        write_pins(session, tx, choice, anew)
        code, said = tx.try_quietly(*relock)
    return choice, code, said


def _pin_for_resolution(
    session: Session,
    tx: Transaction,
    before: Mapping[str, Saved],
    wanted: Wanted,
    choice: Lowering | None = None,
    refusal: NoBuild | None = None,
) -> bool:
    """Resolve without a pin, choose for what came out, pin, lock again.

    Raises `refusal`, why the text had no build, where what uv resolves has none either.
    """
    first = tx.failure
    lowered = choice.lowered if choice else ()
    change = Change(session, tx)
    change.take_out()
    take_bounds_away(change, lowered)
    change.strip_local_versions()
    change.write()
    code, _ = tx.try_quietly(*choices.relock_command(session))
    if code and refusal:
        raise refusal
    if code and choice:
        tell_decision(tx, choice.decision, None)
        tx.end(*(first if first[0] else tx.failure))
    check_unsaid(session, wanted)
    torch = newest_torch(locked(session))
    if torch is None or pins_unsaid(session):
        rollback(session, tx, before)
        return False
    try:
        decision = decide_for(session, workspace_requirements(session), torch, None)
    except NoBuild as error:
        raise refusal or error from None
    write_pins(session, tx, Lowering(decision), anew=False, transitive=brought(session))
    tx.uv(*choices.relock_command(session))
    tell_decision(tx, decision, newest_torch(locked(session), decision.backend))
    bound_anew(session, tx, lowered)
    return True


def speaks_up(session: Session, wanted: Wanted) -> bool:
    """Whether the user names a backend, or `auto`, in so many words: then what stands in the way gives way."""
    return wanted.origin == Origin.OPTION and not session.line.ours_has("--auto")


def write_pins(session: Session, tx: Transaction, choice: Lowering, anew: bool, transitive: Sequence[str] = ()) -> bool:
    """Write the pins and the bounds that go with them; `anew`: local versions in the requirements give way."""
    change = Change(session, tx)
    take_bounds_away(change, choice.lowered)
    if anew:
        change.strip_local_versions()
    change.to(choice.decision, (), transitive, keeping=() if anew else None)
    _keep_within(session, change, choice.decision)
    return change.write()


def _keep_beside(session: Session, tx: Transaction, decision: Decision, resolved: Decision) -> None:
    """Write the bounds that the torch which uv resolved asks for beyond those of the decision, and lock again."""
    if set(resolved.bounds) - set(decision.bounds):
        change = Change(session, tx)
        _keep_within(session, change, resolved)
        if change.write():
            tx.uv(*choices.relock_command(session), "--quiet")


def _keep_within(session: Session, change: Change, decision: Decision) -> None:
    """Write the bounds of a decision for the packages that the workspace names."""
    bounds = dict(decision.bounds)
    names = workspace_packages(session)
    pin.bound(change.files[0][2], [(name, bounds[name]) for name in names if name in bounds])


def leaves_to_pypi(session: Session, backend: Backend | None) -> bool:
    """Whether the machine is a Mac that nobody named a backend on: PyPI's wheel is right, for it and for the others."""
    return backend is None and session.machine.platform.system == "macos"


def tell_pypi(tx: Transaction, decision: Decision) -> None:
    """Say that PyPI's build is left in place on a Mac."""
    release = f" (torch {decision.torch})" if decision.torch else ""
    tx.say(f"using PyPI's build{release}: it is the right one on macOS; nothing is pinned")


NO_SOLUTION = 1
"""uv's exit code where requirements cannot be solved together."""
OUT_OF_REACH = 2
"""uv's exit code for all other errors, such as an index that cannot be reached."""


def rollback(session: Session, tx: Transaction, mark: Mapping[str, Saved]) -> None:
    """Put the files back as they were at the mark, and read them anew."""
    tx.rollback(mark)
    session.reread()


def locked(session: Session) -> Lock:
    """The lock as it is now."""
    return choices.read(session.required_site.lock)


def tell_decision(tx: Transaction, decision: Decision, torch: str | None, prefix: str = "") -> None:
    """Say what was decided, with the torch that uv locked."""
    tx.say(prefix + decision_line(decision, torch), *decision.beyond(torch or decision.torch))
    tx.warn(*decision.warnings)


def decision_for_release(
    session: Session, requirements: Sequence[str], torch: str, decision: Decision, backend: Backend | None = None
) -> Decision:
    """The decision for the release that uv locked under a decision; the same decision where nothing better fits it."""
    if torch == decision.torch or not decision.torch or number(torch) > number(decision.torch):
        return decision
    try:
        return session.decide(_resolved(requirements, torch), backend)
    except NoBuild:
        return decision


def _resolved(requirements: Sequence[str], torch: str) -> tuple[str, ...]:
    """The requirements with the torch that uv resolved; overrides may have replaced what the text says of it."""
    texts = (without_local(text) for text in requirements)
    fits = (bare_requirement(text) if named_by(text) == "torch" and not allows(text, torch) else text for text in texts)
    return (*fits, f"torch=={torch}")


def decide_for(session: Session, requirements: Sequence[str], torch: str, backend: Backend | None) -> Decision:
    """The decision for the torch that uv resolved without a pin, or for an older one: what needs torch may admit it.

    Raises NoBuild, for the torch that was resolved, where no such build fits.
    """
    exact = _resolved(requirements, torch)
    with suppress(NoBuild):
        return session.decide((*exact[:-1], f"torch<={torch}"), backend)
    return session.decide(exact, backend)


def selected_pins(session: Session) -> tuple[Source, ...]:
    """Sources for an extra or a group alone: of a member, or of a root whose choices a member cannot select."""
    rows = [(one, project) for project in session.projects for one in project.sources if one.index]
    return tuple(one for one, project in rows if project.is_pinned(one.package) and can_hold(one.marker))


def pins_unsaid(session: Session) -> tuple[Source, ...]:
    """Where torch comes from, by the lock or a sibling's extra, though no source of a project's base says so.

    An extra or group of one backend pins it in a workspace's member; or a dependency from a repository or a path does,
    whose own sources uv applies: another index beside that is an error.
    """
    found = selected_pins(session)
    if found and len({one.url for one in found}) == 1:
        return tuple(one._replace(extra=None, group=None) for one in found)
    lock, members = locked(session), {project.name for project in session.projects}
    local = {one.name for one in lock.packages if one.kind != "registry"} - members
    if found or local.isdisjoint(lock.dependents("torch")):
        return ()
    builds = (one for one in lock.named("torch") if one.kind == "registry" and one.backend)
    return tuple(Source("torch", one.backend.index_name, one.location, one.backend) for one in builds if one.backend)


def check_unsaid(session: Session, wanted: Wanted) -> None:
    """Raise ProjectError where a dependency pins torch to another backend than the one that is asked for."""
    pins = () if pins_of(session) else pins_unsaid(session)
    if (
        pins
        and speaks_up(session, wanted)
        and (wanted.backend or session.decide(("torch",)).backend) != pins[0].backend
    ):
        raise ProjectError(
            f"a dependency pins torch to {pins[0].backend}, and another index beside that is an error for uv",
            "change the index in that dependency, or take it as a package without sources",
        )


def is_from_own_index(session: Session) -> bool:
    """Whether an index of the user's own serves torch to every package, as its local version tells: PyPI has none."""
    builds = locked(session).named("torch")
    return any(one.kind == "registry" and not one.backend and "+" in (one.version or "") for one in builds)


def brought(session: Session) -> tuple[str, ...]:
    """The PyTorch packages of the lock that no requirement of the workspace names."""
    direct = workspace_packages(session)
    project = session.project
    names = {package.name for package in locked(session).packages if project.is_pinned(package.name)}
    return torch_first(name for name in names if name not in direct)

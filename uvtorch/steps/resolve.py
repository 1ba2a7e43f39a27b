"""uv's resolution decides: pin, let uv lock, read what it locked, choose for that, and lock again where it differs.

A requirement's text does not tell what uv resolves: other packages cap torch, constraints and overrides apply,
dependencies are dynamic or bring an index of their own. So the choice for the text is tried first; where uv finds no
solution under it, or locks another torch than was chosen for, the choice is made anew for what came out. At most two
more runs of `uv lock` follow.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from uvtorch.backend import Backend
from uvtorch.catalog import number
from uvtorch.choose import Decision
from uvtorch.errors import NoBuild, ProjectError
from uvtorch.markers import can_hold
from uvtorch.packages import rows_in
from uvtorch.project import Source
from uvtorch.project.choices import torch_first
from uvtorch.project.lock import Lock
from uvtorch.requirement import allows, bare_requirement, named_by, without_local
from uvtorch.session import Session, Wanted, decision_line
from uvtorch.steps import choices
from uvtorch.steps.choices import locked
from uvtorch.steps.pins import (
    Change,
    Lowered,
    bound_anew,
    decide_lowering,
    lower_bounds,
    pins_of,
    workspace_packages,
    workspace_requirements,
)
from uvtorch.transaction import Transaction, content

NO_SOLUTION = 1
"""uv's exit code where requirements cannot be solved together."""
OUT_OF_REACH = 2
"""uv's exit code for all other errors, such as an index that cannot be reached."""


def newest_torch(lock: Lock, backend: Backend | None = None) -> str | None:
    """The release of torch that a lock holds, of a backend's index where it holds one from there; None: none.

    One that is there for no platform (`override-dependencies = ["torch; sys_platform == 'never'"]`) is none.
    """
    rows = lock.named("torch") if any(marker is None or can_hold(marker) for marker in _markers(lock)) else ()
    own = [row for row in rows if backend and row.backend and row.backend.name == backend.name]
    versions = [(row.version or "").partition("+")[0] for row in own or rows]
    return max(versions, key=number, default=None)


def _markers(lock: Lock) -> Iterator[str | None]:
    """Where torch is required, those of extras aside: uv tells these from each other in the marker."""
    for tables in (package.tables() for package in lock.packages if package.mentions("torch")):
        groups = (tables.get(name, {}).values() for name in ("optional-dependencies", "dev-dependencies"))
        for rows in (tables.get("dependencies", ()), *(rows for group in groups for rows in group)):
            found = (row.get("marker") for row in rows if row.get("name") == "torch")
            yield from (None if marker and "extra" in marker else marker for marker in found)


class Outcome(NamedTuple):
    """What became of one run of uv under the pins of a decision, without pins where that names no backend."""

    decision: Decision
    code: int
    said: str
    torch: str | None
    """The release that uv locked, None: none; empty where the lock tells nothing."""
    told: bool
    """Whether the decision has been told."""


class Pinning:
    """What a build is chosen for. A command says how it writes the pins and what uv is asked to resolve under them."""

    loud = False
    """uv speaks, and syncs, at the first run: nothing is known that has it resolve another torch than is expected."""
    patient = True
    """Whether uv waits for an index that cannot be reached."""

    def __init__(self, session: Session, tx: Transaction, wanted: Wanted, requirements: Iterable[str]) -> None:
        self.session, self.tx, self.wanted = session, tx, wanted
        self.requirements = tuple(requirements)
        self._start: Mapping[str, bytes | None] | None = None
        """The files before the first run; each run begins with them."""
        self._locks = not (tx.dry or session.is_script or session.frozen)

    @property
    def backend(self) -> Backend | None:
        """The one that somebody names."""
        return self.session.backend_for(self.wanted)

    def write(self, decision: Decision, along: Sequence[str]) -> Sequence[str]:
        """Write the pins, with those of packages that came along; uv's arguments after that.

        A decision that names no backend: take all pins out.
        """
        raise NotImplementedError

    def loosen(self) -> bool:
        """Have `write` leave out what may stand in the way and nobody asked for; whether there is such a thing."""
        return False

    def settle(self, decision: Decision, refusal: NoBuild | None = None) -> Decision | None:
        """Pin for what the text suggests (no backend: `refusal` says why), then for what uv makes of it.

        The decision that holds in the end, told. None, and the files as before: uv resolves no torch, or a dependency
        says where it comes from. Where uv fails everything is undone; raises NoBuild where no build fits.
        """
        if decision.backend is None:
            return self._without_pins(refusal)
        first = self._under(decision)
        if first.code == NO_SOLUTION and self.loosen():
            first = self._under(decision)
        if first.code and (self.backend or first.code != NO_SOLUTION or not self._locks):
            self.end(first)
        if first.code == 0 and first.torch is not None:
            better = self.refined(decision, first.torch)
            if better.backend == decision.backend:
                bounded = set(better.bounds) <= set(decision.bounds)
                return self.tell(first if bounded else self._under(better))
        if first.code or first.torch:
            return self._without_pins(refusal, first)
        self.undo()  # overridden or excluded: nothing to choose
        return None

    def _without_pins(self, refusal: NoBuild | None, first: Outcome | None = None) -> Decision | None:
        """Resolve without pins, and pin for what comes out. `first`: what came of pins for the text."""
        free = self._under(Decision(None))
        if free.code and refusal:
            raise refusal
        if free.code:
            self.end(first if first and first.code else free)
        along, other_says = brought(self.session), says_dependency(self.session, self.wanted)
        if free.torch is None or other_says:
            self.undo()
            return None
        try:
            return self.tell(self.for_release(free.torch, along))
        except NoBuild as error:
            raise refusal or error from None

    def for_release(self, torch: str, along: Sequence[str]) -> Outcome:
        """Pin for the torch that uv resolved without pins; an older one only if what needs it admits that.

        Raises NoBuild where no build of it fits.
        """
        decision = self.decide_for(torch)
        outcome = self._under(decision, along)
        if outcome.code == NO_SOLUTION and decision.torch != torch:
            self.undo()
            return self._under(self.session.decide((f"torch=={torch}",), self.backend), along)
        return outcome

    def decide_for(self, torch: str) -> Decision:
        """The decision for the torch that uv resolved without a pin, or for an older one: what needs it may admit that.

        Raises NoBuild, for the torch that was resolved, where no such build fits.
        """
        with suppress(NoBuild):
            return self._decide_with(torch, "<=")
        return self._decide_with(torch)

    def refined(self, decision: Decision, torch: str) -> Decision:
        """The decision for the older release that uv resolved under one ("": unknown); the same if none is better."""
        if torch and decision.torch and number(torch) < number(decision.torch):
            with suppress(NoBuild):
                return self._decide_with(torch)
        return decision

    def _decide_with(self, torch: str, relation: str = "==") -> Decision:
        """Choose for the requirements and a release; overrides may have replaced what the text says of torch."""
        texts = map(without_local, self.requirements)
        mended = (
            bare_requirement(one) if named_by(one) == "torch" and not allows(one, torch) else one for one in texts
        )
        return self.session.decide((*mended, f"torch{relation}{torch}"), self.backend)

    def undo(self) -> None:
        """Put the files back as they were before the first run."""
        if self._start is not None:
            rollback(self.session, self.tx, self._start)

    def end(self, outcome: Outcome) -> NoReturn:
        """Undo everything and end as uv did."""
        if outcome.decision.backend and not outcome.told:
            tell_decision(self.tx, outcome.decision, None)
        self.tx.end(outcome.code, outcome.said)

    def _under(self, decision: Decision, along: Sequence[str] = ()) -> Outcome:
        session, tx, loud = self.session, self.tx, self.loud
        self.undo()
        if self._start is None:
            self._start = tx.mark()
        words = self.write(decision, along)
        if decision.backend and loud:
            tell_decision(tx, decision, None)
        code, said = tx.attempt(*words, quietly=not loud, patient=self.patient)
        self.loud = False  # once is enough
        session.reread()
        torch: str | None = ""
        if self._locks and not code and os.path.exists(session.required_site.lock):
            torch = newest_torch(locked(session), decision.backend)
        return Outcome(decision, code, said, torch, loud)

    def tell(self, outcome: Outcome, along: Sequence[str] = ()) -> Decision:
        """Tell what was pinned, uv's words first; where uv failed, undo everything and end as it did."""
        if outcome.code:
            self.end(outcome)
        self.tx.tell(outcome.said)
        if not outcome.told:
            tell_decision(self.tx, outcome.decision, outcome.torch, along)
        return outcome.decision


class WorkspacePinning(Pinning):
    """Pins in every file of the workspace, and `uv lock`; `command` is the user's own.

    An explicit word for a backend takes local versions out of the requirements, and lowers a lower bound that alone
    stands in the way.
    """

    def __init__(self, session: Session, tx: Transaction, wanted: Wanted, command: Sequence[str] | None = None) -> None:
        requirements = workspace_requirements(session)
        super().__init__(session, tx, wanted, map(without_local, requirements) if wanted.explicit else requirements)
        self.command = command or choices.relock_command(session)
        self.lowered: Sequence[Lowered] = ()

    def write(self, decision: Decision, along: Sequence[str] = ()) -> Sequence[str]:
        """See Pinning."""
        self.edit(decision, along)
        return self.command

    def edit(self, decision: Decision, along: Sequence[str] = ()) -> bool:
        """Write the pins and the bounds that go with them; whether that changed anything."""
        change, explicit = Change(self.session, self.tx), self.wanted.explicit
        change.take_bounds_away(self.lowered)
        if explicit or not decision.backend:
            change.strip_local_versions()
        if decision.backend:
            change.to(decision, (), along, keeping=() if explicit else None)
        else:
            change.take_out()
        return change.write()

    def loosen(self) -> bool:
        """See Pinning: lower bounds like those that `uv add` writes may ask for what this index lacks."""
        if self.lowered or not self.wanted.explicit:
            return False
        self.lowered = tuple(lower_bounds(self.session))
        return bool(self.lowered)

    def decide(self) -> Decision:
        """What the requirements' text suggests. Raises NoBuild."""
        if self.wanted.explicit:
            decision, self.lowered = decide_lowering(self.session, self.requirements, self.backend)
            return decision
        try:
            return self.session.decide(self.requirements, self.backend)
        except NoBuild as error:
            raise NoBuild(str(error), *error.hints, *self._without_bounds()) from None

    def _without_bounds(self) -> Iterator[str]:
        """The remedy where lower bounds alone stand in the way of every build."""
        with suppress(NoBuild):
            decision, lowered = decide_lowering(self.session, self.requirements, None)
            if lowered:
                texts = " and ".join(one.before for one in lowered)
                yield f"`--torch-backend auto` lowers {texts} and takes {decision.backend}"


def pin_and_lock(session: Session, tx: Transaction, wanted: Wanted, command: Sequence[str] | None = None) -> bool:
    """Pin the whole workspace to the build for this machine (or to the one asked for) and lock; whether it is pinned.

    Nothing is pinned where uv resolves no torch. `command`: the user's own `uv lock`.
    """
    pinning, decision, refusal = WorkspacePinning(session, tx, wanted, command), Decision(None), None
    try:
        decision = pinning.decide()
    except NoBuild as error:  # uv may resolve another torch than the text says: overrides replace it
        if pinning.backend or tx.dry:
            raise
        refusal = error
    if refusal is None and leaves_to_pypi(session, pinning.backend):
        tell_pypi(tx, decision)
        return False
    if pinning.settle(decision, refusal) is None:
        return False
    bound_anew(session, tx, pinning.lowered)
    return True


def pin_transitive(session: Session, tx: Transaction, wanted: Wanted) -> bool:
    """Pin for the PyTorch packages that only other packages need, as the lock has them, and lock again.

    Whether anything was pinned. Where no build fits, a warning: nobody asked for torch by name.
    """
    torch, pinning = newest_torch(locked(session)), WorkspacePinning(session, tx, wanted)
    if torch is None or leaves_to_pypi(session, pinning.backend) or says_dependency(session, wanted):
        return False
    names, pinning.patient = brought(session), wanted.explicit
    try:
        outcome = pinning.for_release(torch, names)
    except NoBuild as error:
        if wanted.explicit:
            raise
        tx.warn(unfit(torch, error))
        return False
    if outcome.code in (NO_SOLUTION, OUT_OF_REACH) and not wanted.explicit:
        pinning.undo()  # without uvtorch the command would have worked
        why = ": what needs it cannot be solved with {0}"
        if outcome.code == OUT_OF_REACH:
            why = ", as uv could not lock it from the index of {0}; `uvtorch torch use {0}` tries again"
        tx.warn(f"torch {torch} came along from PyPI" + why.format(outcome.decision.backend))
        return False
    pinning.tell(outcome, names)
    return True


def unfit(torch: str, error: NoBuild) -> str:
    """The warning for a torch that came along and has no build for this machine: nobody asked for it by name."""
    why = ". ".join([str(error).rstrip("."), *error.hints[:1]])
    return f"{f'torch {torch}'.strip()} came along from PyPI and may not run here: {why}"


def leaves_to_pypi(session: Session, backend: Backend | None) -> bool:
    """Whether the machine is a Mac that nobody named a backend on: PyPI's wheel is right, for it and for the others."""
    return backend is None and session.machine.platform.system == "macos"


def tell_pypi(tx: Transaction, decision: Decision) -> None:
    """Say that PyPI's build is left in place on a Mac."""
    release = f" (torch {decision.torch})" if decision.torch else ""
    tx.say(f"using PyPI's build{release}: it is the right one on macOS; nothing is pinned")


def rollback(session: Session, tx: Transaction, mark: Mapping[str, bytes | None]) -> None:
    """Put the files back as they were at the mark, and read them anew."""
    tx.rollback(mark)
    session.reread()


def tell_decision(tx: Transaction, decision: Decision, torch: str | None, along: Sequence[str] = ()) -> None:
    """Say what was decided, with the torch that uv locked, and for which packages that came `along` with others."""
    prefix = f"{', '.join(along)} came along: " if along else ""
    tx.say(prefix + decision_line(decision, torch), *decision.beyond(torch or decision.torch))
    tx.warn(*decision.warnings)


# Who else says where torch comes from


def selected_pins(session: Session) -> tuple[Source, ...]:
    """Sources for an extra or a group alone: of a member, or of a root whose choices a member cannot select."""
    rows = [(one, project) for project in session.projects for one in project.sources if one.index]
    return tuple(one for one, project in rows if project.is_pinned(one.package) and can_hold(one.marker))


def pins_unsaid(session: Session) -> tuple[Source, ...]:
    """Where torch comes from, by the lock or a sibling's extra, though no source of a project's base says so.

    An extra or group of one backend pins it in a workspace's member; or a dependency from a repository or a path does,
    whose own sources uv applies: another index beside that is an error.
    """
    if found := selected_pins(session):
        one_url = len({one.url for one in found}) == 1
        return tuple(one._replace(extra=None, group=None) for one in found) if one_url else ()
    lock, members = locked(session), {project.name for project in session.projects}
    local = {one.name for one in lock.packages if one.kind != "registry"} - members
    builds = [] if local.isdisjoint(lock.dependents("torch")) else lock.named("torch")
    rows = [(one.backend, one.location) for one in builds if one.kind == "registry"]
    return tuple(Source("torch", backend.index_name, url, backend) for backend, url in rows if backend)


def says_dependency(session: Session, wanted: Wanted) -> bool:
    """Whether a dependency says where torch comes from. Raises ProjectError where another backend is asked for."""
    pins = () if pins_of(session) else pins_unsaid(session)
    if pins and wanted.explicit and (wanted.backend or session.decide(("torch",)).backend) != pins[0].backend:
        raise ProjectError(
            f"a dependency pins torch to {pins[0].backend}, and another index beside that is an error for uv",
            "change the index in that dependency, or take it as a package without sources",
        )
    return bool(pins)


def left_to_uv(session: Session) -> tuple[str, ...] | None:
    """Lines to say where uv has torch from elsewhere, which no pin may replace; None: it has it from PyPI, or not yet.

    Wheel variants, if it found and locked them (PEP 825, its preview `wheel-variants`); or an index of the user's own
    that serves every package, as torch's local version tells: PyPI has none.
    """
    if b"\nvariants-json" in b"".join(rows_in(content(session.required_site.lock))):
        return ("torch is locked with wheel variants: uv takes the one that fits, nothing is pinned",)
    builds = [one for one in locked(session).named("torch") if one.kind == "registry" and not one.backend]
    return () if any("+" in (one.version or "") for one in builds) else None


def brought(session: Session) -> tuple[str, ...]:
    """The PyTorch packages of the lock that no requirement of the workspace names."""
    names = {package.name for package in locked(session).packages if session.project.is_pinned(package.name)}
    return torch_first(sorted(names.difference(workspace_packages(session))))

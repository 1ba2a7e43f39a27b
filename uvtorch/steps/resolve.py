"""uv's resolution decides: pin, let uv lock, read what it locked, choose for that, and lock again where it differs.

A requirement's text does not tell what uv resolves: other packages cap torch, constraints and overrides apply,
dependencies are dynamic or bring an index of their own. So the choice for the text is tried first; where uv finds no
solution under it, or locks another torch than the one that was chosen for, the choice is made anew for what came out.
At most two more runs of `uv lock` follow from that.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from uvtorch.argv import is_set
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
from uvtorch.session import Origin, Session, Wanted, decision_line
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
        if better := self._better(decision, first):
            return self.tell(first if better is decision else self._under(better))
        if first.code or first.torch:
            return self._without_pins(refusal, first)
        self.undo()  # overridden or excluded: nothing to choose
        return None

    def _better(self, decision: Decision, outcome: Outcome) -> Decision | None:
        """The same, or with the bounds that the torch which uv locked asks for; None: another backend, or no torch."""
        if outcome.code or not outcome.torch:
            return None if outcome.code or outcome.torch is None else decision
        better = decision_for_release(self.session, self.requirements, outcome.torch, decision, self.backend)
        if better.backend != decision.backend:
            return None
        return decision if set(better.bounds) <= set(decision.bounds) else better

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
        decision = decide_for(self.session, self.requirements, torch, self.backend)
        outcome = self._under(decision, along)
        if outcome.code == NO_SOLUTION and decision.torch != torch:
            self.undo()
            return self._under(self.session.decide((f"torch=={torch}",), self.backend), along)
        return outcome

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
        self.anew = speaks_up(session, wanted)
        requirements = workspace_requirements(session)
        super().__init__(session, tx, wanted, map(without_local, requirements) if self.anew else requirements)
        self.command = command or choices.relock_command(session)
        self.lowered: Sequence[Lowered] = ()

    def write(self, decision: Decision, along: Sequence[str] = ()) -> Sequence[str]:
        """See Pinning."""
        self.edit(decision, along)
        return self.command

    def edit(self, decision: Decision, along: Sequence[str] = ()) -> bool:
        """Write the pins and the bounds that go with them; whether that changed anything."""
        change = Change(self.session, self.tx)
        change.take_bounds_away(self.lowered)
        if self.anew or not decision.backend:
            change.strip_local_versions()
        if decision.backend:
            change.to(decision, (), along, keeping=() if self.anew else None)
        else:
            change.take_out()
        return change.write()

    def loosen(self) -> bool:
        """See Pinning: lower bounds like those that `uv add` writes may ask for what this index lacks."""
        if not self.anew or self.lowered:
            return False
        self.lowered = tuple(lower_bounds(self.session))
        return bool(self.lowered)

    def decide(self) -> Decision:
        """What the requirements' text suggests. Raises NoBuild."""
        if self.anew:
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
    names, pinning.patient = brought(session), speaks_up(session, wanted)
    try:
        outcome = pinning.for_release(torch, names)
    except NoBuild as error:
        if pinning.patient:
            raise
        tx.warn(unfit(torch, error))
        return False
    if outcome.code in (NO_SOLUTION, OUT_OF_REACH) and not pinning.patient:
        pinning.undo()  # without uvtorch the command would have worked
        why = f": what needs it cannot be solved with {outcome.decision.backend}"
        if outcome.code == OUT_OF_REACH:
            why = f", as uv could not lock it from the index of {outcome.decision.backend}; "
            why += f"`uvtorch torch use {outcome.decision.backend}` tries again"
        tx.warn(f"torch {torch} came along from PyPI{why}")
        return False
    pinning.tell(outcome, names)
    return True


def unfit(torch: str, error: NoBuild) -> str:
    """The warning for a torch that came along and has no build for this machine: nobody asked for it by name."""
    why = ". ".join([str(error).rstrip("."), *error.hints[:1]])
    return f"{f'torch {torch}'.strip()} came along from PyPI and may not run here: {why}"


def speaks_up(session: Session, wanted: Wanted) -> bool:
    """Whether the user names a backend, or `auto`, in so many words: then what stands in the way gives way."""
    return wanted.origin == Origin.OPTION and not session.line.ours_has("--auto")


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


def rollback(session: Session, tx: Transaction, mark: Mapping[str, bytes | None]) -> None:
    """Put the files back as they were at the mark, and read them anew."""
    tx.rollback(mark)
    session.reread()


def tell_decision(tx: Transaction, decision: Decision, torch: str | None, along: Sequence[str] = ()) -> None:
    """Say what was decided, with the torch that uv locked, and for which packages that came `along` with others."""
    prefix = f"{', '.join(along)} came along: " if along else ""
    tx.say(prefix + decision_line(decision, torch), *decision.beyond(torch or decision.torch))
    tx.warn(*decision.warnings)


def decision_for_release(
    session: Session, requirements: Sequence[str], torch: str, decision: Decision, backend: Backend | None = None
) -> Decision:
    """The decision for the release that uv resolved under a decision ("": none); the same where nothing better fits."""
    if not torch or torch == decision.torch or not decision.torch or number(torch) > number(decision.torch):
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
    if len({one.url for one in found}) == 1:
        return tuple(one._replace(extra=None, group=None) for one in found)
    return () if found else _of_dependencies(session)


def _of_dependencies(session: Session) -> tuple[Source, ...]:
    lock, members = locked(session), {project.name for project in session.projects}
    local = {one.name for one in lock.packages if one.kind != "registry"} - members
    builds = [] if local.isdisjoint(lock.dependents("torch")) else lock.named("torch")
    found = [(one.backend, one.location) for one in builds if one.kind == "registry"]
    return tuple(Source("torch", backend.index_name, url, backend) for backend, url in found if backend)


def says_dependency(session: Session, wanted: Wanted) -> bool:
    """Whether a dependency says where torch comes from. Raises ProjectError where another backend is asked for."""
    pins = () if pins_of(session) else pins_unsaid(session)
    if not pins:
        return False
    if speaks_up(session, wanted) and (wanted.backend or session.decide(("torch",)).backend) != pins[0].backend:
        raise ProjectError(
            f"a dependency pins torch to {pins[0].backend}, and another index beside that is an error for uv",
            "change the index in that dependency, or take it as a package without sources",
        )
    return True


def is_from_own_index(session: Session) -> bool:
    """Whether an index of the user's own serves torch to every package, as its local version tells: PyPI has none."""
    builds = locked(session).named("torch")
    return any(one.kind == "registry" and not one.backend and "+" in (one.version or "") for one in builds)


VARIANTS = "torch is locked with wheel variants: uv takes the one that fits, nothing is pinned"


def has_variants(session: Session) -> bool:
    """Whether uv found variants of torch on the index, and locked them (PEP 825, its preview `wheel-variants`)."""
    return b"\nvariants-json" in b"".join(rows_in(content(session.required_site.lock)))


def wants_variants(session: Session) -> bool:
    """Whether that preview feature is on: then uv is to look for variants before anything is pinned."""
    line, env = session.line, session.env
    named = " ".join((*line.values("--preview-features"), env.get("UV_PREVIEW_FEATURES", "")))
    return "wheel-variants" in named or line.has("--preview") or is_set(env, "UV_PREVIEW")


def brought(session: Session) -> tuple[str, ...]:
    """The PyTorch packages of the lock that no requirement of the workspace names."""
    direct = workspace_packages(session)
    project = session.project
    names = {package.name for package in locked(session).packages if project.is_pinned(package.name)}
    return torch_first(sorted(names.difference(direct)))

"""uv's resolution decides: pin, let uv lock, read what it locked, choose for that, and lock again where it differs.

A requirement's text does not tell what uv resolves: other packages cap torch, constraints and overrides apply,
dependencies are dynamic or bring an index of their own. So the choice for the text is tried first, then that for what
came out: at most two more runs of `uv lock`.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import NamedTuple, NoReturn

from uvtorch import uv
from uvtorch.argv import forwarded
from uvtorch.backend import Backend
from uvtorch.catalog import number
from uvtorch.choose import Decision
from uvtorch.errors import NoBuild, ProjectError
from uvtorch.packages import rows_in
from uvtorch.project.choices import torch_first
from uvtorch.project.lock import Lock
from uvtorch.project.model import BASE
from uvtorch.requirement import allows, bare_requirement, can_hold, named_by, without_local
from uvtorch.session import Session, Wanted, decision_line
from uvtorch.steps.pins import (
    Change,
    Lowered,
    bound_anew,
    decide_lowering,
    lower_bounds,
    pins_of,
    pins_unsaid,
    with_bound,
)
from uvtorch.transaction import Transaction, content

NO_SOLUTION = 1
"""uv's exit code where requirements cannot be solved together."""
OUT_OF_REACH = 2
"""uv's exit code for its other errors."""


def newest_torch(lock: Lock, backend: Backend | None = None) -> str | None:
    """The newest torch of a lock, from the backend's index if any is; None: none.

    One for no platform (`override-dependencies = ["torch; sys_platform == 'never'"]`) is none.
    """
    rows = lock.named("torch") if any(map(can_hold, _markers(lock))) else ()
    own = [row for row in rows if backend and row.backend == backend]
    return max(((row.version or "").partition("+")[0] for row in own or rows), key=number, default=None)


def _markers(lock: Lock) -> Iterator[str | None]:
    for tables in (package.tables() for package in lock.packages if package.mentions("torch")):
        extras, groups = tables.get("optional-dependencies", {}), tables.get("dev-dependencies", {})
        for row in chain(tables.get("dependencies", ()), *extras.values(), *groups.values()):
            if row["name"] == "torch":
                yield row.get("marker")


def _is_capped(decision: Decision, torch: str) -> bool:
    """Whether uv would resolve no newer torch without pins: the index has all up to the one that was chosen for."""
    if decision.table is None or decision.backend is None:
        return False
    there = {row.release for row in decision.table.of(decision.backend) if row.fault is None}
    newer = (one for one in decision.table.need.releases if number(torch) < number(one))
    return there.issuperset(one for one in newer if number(one) <= number(decision.torch or ""))


class Outcome(NamedTuple):
    """What became of one run of uv under the pins of a decision."""

    decision: Decision
    code: int
    said: str
    torch: str | None
    """The release that uv locked; None: none; "": the lock does not tell."""


class Pinning:
    """What a build is chosen for. A command says how it writes pins, and what uv resolves."""

    loud = False
    """uv speaks, and syncs, at the first run: it is expected to resolve what the text says."""
    patient = True
    """Whether uv waits for an index that cannot be reached."""

    def __init__(self, session: Session, tx: Transaction, wanted: Wanted, requirements: Iterable[str]) -> None:
        self.session, self.tx, self.wanted = session, tx, wanted
        self.requirements = tuple(requirements)
        self._start: Mapping[str, bytes | None] | None = None
        """The files before the first run: each run begins with them."""
        self._told: Decision | None = None
        self.free: Lock | None = None  # What uv resolved without pins
        self._resolves = not (tx.dry or session.frozen)

    @property
    def backend(self) -> Backend | None:
        """The one that somebody names."""
        return self.session.backend_for(self.wanted)

    def write(self, decision: Decision, along: Sequence[str]) -> Sequence[str]:
        """Write the pins, or take all out for a decision that names no backend; uv's arguments after that."""
        raise NotImplementedError

    def loosen(self) -> bool:
        """Have `write` leave out what may stand in the way and nobody asked for; whether there is any."""
        return False

    def settle(self, decision: Decision, refusal: NoBuild | None = None) -> Decision | None:
        """Pin for what the text suggests (no backend: `refusal` says why), then for what uv makes of it.

        The decision that holds, told. None, and the files as before: uv resolves no torch, or a dependency says where
        it comes from. Raises NoBuild where no build fits; where uv fails, the transaction ends.
        """
        if decision.backend is None:
            return self._without_pins(refusal)
        first = self._under(decision)
        if first.code == NO_SOLUTION and self.loosen() and self.backend:
            first = self._under(decision)
        if first.code and (self.backend or first.code != NO_SOLUTION or not self._resolves):
            self.end(first)
        if first.code == 0 and first.torch is not None:
            better = self.refined(decision, first.torch)
            same = better.backend == decision.backend
            if same and set(better.bounds) <= set(decision.bounds):
                return self.tell(first)
            if same or _is_capped(decision, first.torch):
                second = self._under(better, () if same else brought(self.session))
                if same or second.torch == better.torch:
                    return self.tell(second)
        if first.code or first.torch:
            return self._without_pins(refusal, first)
        self.undo()  # overridden or excluded: nothing to choose
        return None

    def _without_pins(self, refusal: NoBuild | None, first: Outcome | None = None) -> Decision | None:
        free = self._under(Decision(None))
        if free.code and refusal:
            raise refusal
        if free.code:
            self.end(first if first and first.code else free)
        self.free = self.session.locked()
        along, other_says = brought(self.session), says_dependency(self.session, self.wanted)
        if not free.torch or other_says:
            self.undo()
            return None
        try:
            return self.tell(self.for_release(free.torch, along))
        except NoBuild as error:
            raise refusal or error from None

    def for_release(self, torch: str, along: Sequence[str]) -> Outcome:
        """Pin for the torch that uv resolved without pins."""
        decision = self.decide_for(torch)
        outcome = self._under(decision, along)
        if outcome.code == NO_SOLUTION and decision.torch != torch:
            self.undo()
            return self._under(self.session.decide((f"torch=={torch}",), self.backend), along)
        return outcome

    def decide_for(self, torch: str) -> Decision:
        """The decision for the torch that uv resolved without pins, or an older one. Raises NoBuild."""
        with suppress(NoBuild):
            return self._decide_with(torch, "<=")
        return self._decide_with(torch)

    def refined(self, decision: Decision, torch: str) -> Decision:
        """The decision for the older release that uv resolved ("": unknown); the same if none is better."""
        if torch and decision.torch and number(torch) < number(decision.torch):
            with suppress(NoBuild):
                return self._decide_with(torch)
        return decision

    def _decide_with(self, torch: str, relation: str = "==") -> Decision:
        """Choose for a release, whatever the requirements say of torch: overrides may replace it."""
        texts = map(without_local, self.requirements)
        mended = (
            bare_requirement(one) if named_by(one) == "torch" and not allows(one, torch) else one for one in texts
        )
        return self.session.decide((*mended, f"torch{relation}{torch}"), self.backend)

    def undo(self) -> None:
        """Put the files back."""
        if self._start is not None:
            self.tx.rollback(self._start)
            self.session.reread()

    def end(self, outcome: Outcome) -> NoReturn:
        """Undo everything and end as uv did."""
        if outcome.decision.backend:
            self.tell_decision(outcome.decision)
        self.tx.end(outcome.code, outcome.said)

    def _under(self, decision: Decision, along: Sequence[str] = ()) -> Outcome:
        session, tx, loud = self.session, self.tx, self.loud
        self.undo()
        if self._start is None:
            self._start = tx.mark()
        words = self.write(decision, along)
        if decision.backend and loud:
            self.tell_decision(decision)
        code, said = tx.attempt(*words, quietly=not loud, patient=self.patient)
        self.loud = False  # once is enough
        session.reread()
        return Outcome(decision, code, said, "" if code or not self._resolves else self._resolved(decision.backend))

    def _resolved(self, backend: Backend | None) -> str | None:
        """The release that uv resolved, as `Outcome.torch`."""
        session = self.session
        if session.is_script:
            others = session.project.packages_in(BASE) - {*session.packages}
            return _resolved_in_script(session).get("torch", "").partition("+")[0] if others else ""
        return newest_torch(session.locked(), backend) if os.path.exists(session.required_site.lock) else ""

    def tell(self, outcome: Outcome, along: Sequence[str] = ()) -> Decision:
        """Tell uv's words and what was pinned; where uv failed, end as it did."""
        if outcome.code:
            self.end(outcome)
        self.tx.tell(outcome.said)
        self.tell_decision(outcome.decision, outcome.torch, along)
        return outcome.decision

    def tell_decision(self, decision: Decision, torch: str | None = None, along: Sequence[str] = ()) -> None:
        """Say once what was decided, with the torch that is locked, and which packages came `along`."""
        if decision is not self._told:
            prefix = f"{', '.join(along)} came along: " if along else ""
            self.tx.say(prefix + decision_line(decision, torch), *decision.beyond(torch or decision.torch))
            self.tx.warn(*decision.warnings)
        self._told = decision

    def leave_to_pypi(self, decision: Decision) -> bool:
        """Whether PyPI's build is left in place, as on a Mac; that is told."""
        release = f" (torch {decision.torch})" if decision.torch else ""
        if leaves := leaves_to_pypi(self.session, self.backend):
            self.tx.say(f"using PyPI's build{release}: it is the right one on macOS; nothing is pinned")
            if limit := dict(decision.bounds).get("torch"):  # uv locks for all, and torch has ended for Intel Macs
                self.tx.warn(
                    f'newer releases have no wheels for this Mac: `uvtorch add "torch{limit}"` takes one that has'
                )
        return leaves


class WorkspacePinning(Pinning):
    """Pins in every file of the workspace, and `uv lock`; `command` is the user's own.

    An explicit word takes local versions out, and lowers lower bounds that alone stand in the way.
    """

    def __init__(self, session: Session, tx: Transaction, wanted: Wanted, command: Sequence[str] | None = None) -> None:
        requirements = session.requirements
        super().__init__(session, tx, wanted, map(without_local, requirements) if wanted.explicit else requirements)
        self.command = command or session.relock
        self.lowered: Sequence[Lowered] = ()

    def write(self, decision: Decision, along: Sequence[str] = ()) -> Sequence[str]:
        """See Pinning."""
        self.edit(decision, along)
        return self.command

    def edit(self, decision: Decision, along: Sequence[str] = ()) -> bool:
        """Write the pins and their bounds; whether that changed anything."""
        change, explicit = Change(self.session, self.tx), self.wanted.explicit
        known = self.free if self.free and newest_torch(self.free) == (decision.torch or "") else None
        change.bound_anew(self.lowered, known)
        if explicit or not decision.backend:
            change.strip_local_versions()
        if decision.backend:
            change.to(decision, (), along, keeping=() if explicit else None)
        else:
            change.take_out()
        return change.write()

    def loosen(self) -> bool:
        """See Pinning: lower bounds may ask for what this index lacks."""
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
        with suppress(NoBuild):
            decision, lowered = decide_lowering(self.session, self.requirements, None)
            if lowered:
                texts = " and ".join(one.before for one in lowered)
                yield f"`--torch-backend auto` lowers {texts} and takes {decision.backend}"


def pin_and_lock(session: Session, tx: Transaction, wanted: Wanted, command: Sequence[str] | None = None) -> bool:
    """Pin the workspace for this machine, or as asked for, and lock; whether it is pinned. Raises NoBuild.

    Nothing is where uv resolves no torch. `command`: the user's own `uv lock`.
    """
    pinning, decision, refusal = WorkspacePinning(session, tx, wanted, command), Decision(None), None
    try:
        decision = pinning.decide()
    except NoBuild as error:  # uv may resolve another torch than the text says: overrides replace it
        if pinning.backend or tx.dry:
            raise
        refusal = error
    if (not refusal and pinning.leave_to_pypi(decision)) or pinning.settle(decision, refusal) is None:
        return False
    bound_anew(session, tx, pinning.lowered)
    return True


def pin_transitive(session: Session, tx: Transaction, wanted: Wanted) -> bool:
    """The same for a locked torch that only other packages need.

    Where no build fits, a warning: nobody asked for torch.
    """
    torch, pinning = newest_torch(session.locked()), WorkspacePinning(session, tx, wanted)
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
        why = ", as uv could not lock it from the index of {0}; `uvtorch torch use {0}` tries again"
        if outcome.code == NO_SOLUTION:
            why = ": what needs it cannot be solved with {0}"
        tx.warn(f"torch {torch} came along from PyPI" + why.format(outcome.decision.backend))
        return False
    pinning.tell(outcome, names)
    return True


def unfit(torch: str, error: NoBuild) -> str:
    """The warning for a torch that came along and has no build here."""
    why = ". ".join([str(error).rstrip("."), *error.hints[:1]])
    return f"{f'torch {torch}'.strip()} came along from PyPI and may not run here: {why}"


def leaves_to_pypi(session: Session, backend: Backend | None) -> bool:
    """Whether this is a Mac and nobody named a backend: PyPI's wheel is right there."""
    return backend is None and session.machine.platform.system == "macos"


# Who else says where torch comes from


def says_dependency(session: Session, wanted: Wanted) -> bool:
    """Whether a dependency says where torch comes from. ProjectError where another backend is asked for."""
    pins = () if pins_of(session) else pins_unsaid(session)
    if pins and wanted.explicit and (wanted.backend or session.decide(("torch",)).backend) != pins[0].backend:
        raise ProjectError(
            f"a dependency pins torch to {pins[0].backend}, and another index beside that is an error for uv",
            "change the index in that dependency, or take it as a package without sources",
        )
    return bool(pins)


def left_to_uv(session: Session) -> tuple[str, ...] | None:
    """What to say where no pin may replace the torch that uv locked; None: one may.

    Those are wheel variants (PEP 825, uv's preview `wheel-variants`), and builds from an index of the user's own, as
    the local version tells: PyPI has none.
    """
    if b"\nvariants-json" in b"".join(rows_in(content(session.required_site.lock))):
        return ("torch is locked with wheel variants: uv takes the one that fits, nothing is pinned",)
    builds = [one for one in session.locked().named("torch") if one.kind == "registry" and not one.backend]
    return () if any("+" in (one.version or "") for one in builds) else None


def brought(session: Session) -> tuple[str, ...]:
    """The locked PyTorch packages that no requirement of the workspace names."""
    names = {package.name for package in session.locked().packages if session.project.is_pinned(package.name)}
    return torch_first(sorted(names.difference(session.packages)))


# Scripts with inline metadata (PEP 723); uv locks one only where its user does


def pin_script(session: Session, tx: Transaction, wanted: Wanted) -> tuple[str, ...]:
    """Pin a script, and name what comes along among its dependencies; what is pinned anew. Raises NoBuild."""
    direct, pinning = session.packages, WorkspacePinning(session, tx, wanted)
    versions = {} if direct and pins_of(session) else _resolved_in_script(session)
    torch = versions.get("torch", "").partition("+")[0]
    if not direct and not torch:
        return ()
    by_text = direct or pinning.backend
    decision = pinning.refined(pinning.decide(), torch) if by_text else pinning.decide_for(torch)
    if pinning.leave_to_pypi(decision):
        return ()
    along = torch_first(sorted(versions.keys() - {*direct}))
    changed = pinning.edit(decision, along)
    tx.say(*(f"lowered {one.before} to {with_bound(one.before)}" for one in pinning.lowered))
    pinning.tell_decision(decision, None, along)
    return (*session.packages, *decision.companions) if changed else ()


def _resolved_in_script(session: Session) -> dict[str, str]:
    path = session.required_site.manifest.path
    command = ("export", *forwarded(session.line, "lock"), "--quiet", "--script", path, "--format", "pylock.toml")
    code, out, _ = uv.ask(session.uv, command)
    rows = tomllib.loads(out).get("packages", []) if code == 0 else []
    return {row["name"]: row.get("version", "") for row in rows if session.project.is_pinned(row["name"])}


def reinstalled(packages: Iterable[str]) -> tuple[str, ...]:
    """The options that have uv put these in anew: it keeps what satisfies a requirement."""
    return tuple(word for name in packages for word in ("--reinstall-package", name))


def put_in_place(session: Session, tx: Transaction, packages: Sequence[str] = (), *, begin: bool = False) -> None:
    """Lock the project; put what a script pins into its lock and its environment, which `begin` makes."""
    site, relock = session.required_site, session.relock
    if not session.is_script:
        tx.uv(*relock)
    elif begin or environment_of(session):
        tx.uv("sync", *relock[1:], "--script", site.manifest.path, *reinstalled(packages))
    elif os.path.exists(site.lock):
        tx.uv(*relock, "--script", site.manifest.path)


def out_of_place(session: Session) -> tuple[str, ...]:
    """What the script's environment has from another backend than it pins."""
    from uvtorch import environment  # noqa: PLC0415  `sync --auto` in a project need not wait for it

    pins = {pin.backend for pin in session.project.pins(session.machine.platform)}
    place = environment_of(session) if pins and None not in pins else None
    present = environment.read(place) if place else None
    return tuple(one.name for one in present.builds if one.backend and one.backend not in pins) if present else ()


def environment_of(session: Session) -> str | None:
    """Where uv keeps the script's environment; None where it has made none yet."""
    path = session.required_site.manifest.path
    code, out, _ = uv.ask(session.uv, ("python", "find", *forwarded(session.line), "--script", path))
    place = os.path.dirname(os.path.dirname(out.strip()))
    kept = os.path.basename(os.path.dirname(place)).startswith("environments-")  # in uv's cache
    return place if code == 0 and kept else None

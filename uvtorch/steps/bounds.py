"""Lower bounds as `uv add` writes them, and lowering one that stands in the way of every build for a machine."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from packaging.version import Version

from uvtorch.backend import Backend, same_url
from uvtorch.choose import Decision
from uvtorch.errors import NoBuild
from uvtorch.project import Project, Target
from uvtorch.project.lock import Lock
from uvtorch.requirement import bare_requirement, parse
from uvtorch.session import Session
from uvtorch.steps import choices
from uvtorch.steps.pins import Change
from uvtorch.transaction import Transaction


class Lowered(NamedTuple):
    """A requirement without a bound, and as it was before it lost one that stood in the way of every build."""

    manifest: str
    target: Target
    package: str
    before: str


def decide_lowering(
    session: Session, requirements: Sequence[str], backend: Backend | None
) -> tuple[Decision, tuple[Lowered, ...]]:
    """The decision; where only a lower bound like the one that `uv add` writes stands in its way, without such bounds.

    Only a single `>=` of a direct requirement counts: nobody asked for it. Raises NoBuild as `Session.decide` does.
    """
    decision, refusal = None, None
    try:
        decision = session.decide(requirements, backend)
        if decision.torch or not _knows(session, decision.backend):
            return decision, ()
    except NoBuild as error:
        refusal = error
    if lowered := tuple(lower_bounds(session)):
        with suppress(NoBuild):
            found = session.decide(without_bounds(requirements, lowered), backend)
            if found.torch or refusal:
                return found, lowered
    if decision is None:
        raise refusal or AssertionError
    return decision, ()


def would_lower(session: Session, requirements: Sequence[str]) -> Iterator[str]:
    """The remedy where such a lower bound alone stands in the way of every build."""
    with suppress(NoBuild):
        decision, lowered = decide_lowering(session, requirements, None)
        if lowered:
            texts = " and ".join(one.before for one in lowered)
            yield f"`--torch-backend auto` lowers {texts} and takes {decision.backend}"


def _knows(session: Session, backend: Backend | None) -> bool:
    return backend is not None and not backend.channel and backend in session.catalog.builds


def lower_bounds(session: Session) -> Iterator[Lowered]:
    """The single `>=` bounds of the workspace's direct PyTorch requirements."""
    for manifest, project in session.files:
        for item in project.pytorch_requirements():
            specifiers = list(parse(item.text).specifier)
            alone = sum((one.target, one.package) == (item.target, item.package) for one in project.requirements) == 1
            if alone and len(specifiers) == 1 and specifiers[0].operator == ">=" and item.via is None:
                yield Lowered(manifest.path, item.target, item.package, item.text)


def without_bound(text: str) -> str:
    """`torch[opt]>=2.15.0 ; m` without its specifier."""
    _, semicolon, tail = text.partition(";")
    return bare_requirement(text) + (f" ;{tail}" if semicolon else "")


def without_bounds(requirements: Iterable[str], lowered: Iterable[Lowered]) -> tuple[str, ...]:
    """The same requirements, those that are lowered without their bounds."""
    texts = {one.before: without_bound(one.before) for one in lowered}
    return tuple(texts.get(text, text) for text in requirements)


def bound_anew(session: Session, tx: Transaction, lowered: Sequence[Lowered], kind: str | None = None) -> None:
    """Write the bounds that the lock admits, as `uv add --bounds KIND` does, and say which were lowered.

    `lowered`: requirements that stand without a bound now, each as it was before. A bound that the lock meets is put
    back as it was.
    """
    if tx.dry or not lowered:
        return
    lock = choices.locked(session)
    told: dict[str, None] = {}
    change = Change(session, tx)
    for path, project, file in change.files:
        for one in [one for one in lowered if one.manifest == path]:
            if lowest := lowest_locked(lock, project, one.package, one.target):
                text = _within(one.before, lowest, kind)
                file.set_requirement(one.target, one.package, text)
                if text != one.before and parse(one.before).specifier:
                    told[f"{one.before.partition(';')[0].strip()} to {text.partition(' ;')[0]}"] = None
    if change.write():
        tx.uv(*choices.relock_command(session), "--quiet")
    if told:
        tx.say(f"lowered {' and '.join(told)}")


def _within(text: str, lowest: Version, kind: str | None) -> str:
    """The requirement as it is where its bound admits a version, else with the bound that `uv add` writes for that."""
    specifier = parse(text).specifier
    if specifier and lowest in specifier:
        return text
    head, semicolon, tail = text.partition(";")
    return bare_requirement(head) + bound(lowest.public, kind) + (f" ;{tail}" if semicolon else "")


def bare(session: Session, standing: Sequence[Lowered] = ()) -> list[Lowered]:
    """The project's own PyTorch requirements that have no bound, but for those that stood so before."""
    path, items = session.required_site.manifest.path, session.project.pytorch_requirements()
    found = [Lowered(path, one.target, one.package, one.text) for one in items if not parse(one.text).specifier]
    places = [(one.target, one.package) for one in standing]
    return [one for one in found if (one.target, one.package) not in places]


def take_bounds_away(change: Change, lowered: Sequence[Lowered]) -> None:
    """Take lower bounds away; `bound_anew` writes those that the lock admits."""
    for path, _, file in change.files:
        for one in lowered:
            if one.manifest == path:
                file.set_requirement(one.target, one.package, without_bound(one.before))


def lowest_locked(lock: Lock, project: Project, package: str, target: Target) -> Version | None:
    """The lowest version of a package that its own indexes gave to a target, else that the lock holds at all.

    The base is resolved with each choice, so it must admit what each of them has.
    """
    urls = [one.url for one in project.sources if (one.package, one.target) == (package, target)]
    found = [(Version(row.version), row.location) for row in lock.named(package) if row.version]
    own = [version for version, url in found if same_url(url, *urls)]
    return min(own or [version for version, _ in found], default=None)


def bound(version: str, kind: str | None) -> str:
    """The specifier that `uv add --bounds KIND` writes for a version; `lower` if no kind is given."""
    if kind == "exact":
        return f"=={version}"
    if kind not in ("major", "minor"):
        return f">={version}"
    digits = [int(part) for part in (version + ".0.0").split(".")[:3] if part.isdigit()]
    place = (kind == "minor") + (digits[0] == 0)  # below 1.0 each part stands for the one before it
    upper = [*digits[:place], digits[place] + 1, 0, 0][:3]
    return f">={version},<{'.'.join(map(str, upper))}"

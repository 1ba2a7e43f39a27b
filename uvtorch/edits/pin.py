"""Pins: the sources, the explicit index and the group requirements that take PyTorch's packages from one backend."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from uvtorch.backend import Backend, marker, same_url
from uvtorch.choose import Decision
from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS, extension_names, normalize, roles
from uvtorch.project import Project, Source, Target
from uvtorch.project.pyproject import PyProject, SourceEntry
from uvtorch.requirement import named_by

GROUP = Target("group", ANCHORS)
"""uv applies a source to direct requirements only: what no requirement of the user's names is named in this group.

A group that is not a default group is locked with the rest, is never installed by itself and stays out of published
metadata; a constraint would not route the package, an override would erase what other packages ask of it
(https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources).
"""


class NamedIndex(NamedTuple):
    """An index as the project names it."""

    name: str
    url: str


def index_for(project: Project, backend: Backend, base: str) -> NamedIndex:
    """The project's own index with this backend's URL, under its own name; else the one that uvtorch writes."""
    url = backend.index_url(base)
    for index in project.indexes:
        if index.name and same_url(index.url, url):
            return NamedIndex(index.name, index.url)
    return NamedIndex(backend.index_name, url)


def to(
    file: PyProject,
    project: Project,
    packages: Sequence[str],
    decision: Decision,
    base: str,
    *,
    transitive: Sequence[str] = (),
    staying: Sequence[str] | None = None,
) -> None:
    """Take `packages` (normalized; those that the command is about to add included) from the decision's backend.

    Every PyTorch package that the project names is pinned with them: two builds in one environment do not work. So are
    those that only other packages require: `transitive`, and those in the group already. What an earlier pin needs no
    more goes: its index, its Triton.

    `staying` are the requirements that stay as they are written (None: all of the project's): one with a local version
    and no marker can be met by the backend's index alone, so its source holds on every platform.
    Raises ProjectError where the project takes one of them from a repository, a path or a wheel.
    """
    assert decision.backend is not None  # a refusal has no pins
    index = index_for(project, decision.backend, base)
    where = marker(decision.platforms)
    texts = [item.text for item in project.pytorch_requirements()] if staying is None else staying
    everywhere = {named_by(text) for text in texts if "+" in text and ";" not in text}
    direct = tuple(dict.fromkeys((*packages, *_direct(project))))
    group = _group_requirements(direct, dict.fromkeys((*in_group(project), *transitive)), decision, where)
    pinned = dict.fromkeys((*direct, *(name for name, _ in group)))
    for source in foreign(project):
        if source.package in pinned:
            raise ProjectError(
                f"{project.origin} takes {source.package} from {source.url or source.kind}, which a pin would replace",
                "remove that source first, if that is what you want",
            )
    stale = _stale(project, pinned)
    for package in pinned:
        file.set_sources(package, [SourceEntry(index.name, None if package in everywhere else where)])
    for package in stale:
        file.remove_sources(package)
    _set_group(file, project, group)
    _move_extensions(file, project, decision.backend)
    for name in _unused_indexes(project, index, frozenset((*pinned, *stale))):
        file.remove_index(name)
    if not any(one.name == index.name and one.inherited and one.explicit for one in project.indexes):
        file.set_index(index.name, index.url)


def like(
    file: PyProject,
    project: Project,
    packages: Iterable[str],
    pins: Sequence[Source],
    transitive: Sequence[str] = (),
) -> None:
    """Take `packages` from where the project already takes its PyTorch packages: the same entries.

    `transitive` are those that only other packages require: they are named in the group. Where the pins are a workspace
    sibling's, its index is written here as well.
    """
    model = "torch" if "torch" in [pin.package for pin in pins] else pins[0].package
    entries = [SourceEntry(pin.index or "", pin.marker) for pin in pins if pin.package == model]
    packages = tuple(packages)
    have = {source.package for source in project.sources}
    wanted = dict.fromkeys((*packages, *transitive))
    if {*wanted, *_direct(project), *in_group(project)}.isdisjoint(("torch",)):
        wanted["torch"] = None
        transitive = ("torch", *transitive)
    for name in wanted:
        if name not in have:
            file.set_sources(name, entries)
    known = {index.name for index in project.indexes}
    for pin in pins:
        if pin.index and pin.index not in known and pin.url:
            file.set_index(pin.index, pin.url)
    for name in transitive:
        file.add_requirement(GROUP, name)
    _leave_group(file, project, packages)


def _leave_group(file: PyProject, project: Project, packages: Sequence[str]) -> None:
    """Take packages that the user names from now on out of the group."""
    # The group is for what nobody names; `uv add` would otherwise leave two requirements to keep in step. One that
    # bounds the release stays: the machine needs it whoever names the package.
    present = [item for item in project.requirements if item.target.name == ANCHORS]
    gone = [item.package for item in present if item.package in packages and normalize(item.text) == item.package]
    if gone and len(gone) == len(present):
        _remove_group(file, project)
    else:
        for name in gone:
            file.remove_requirement(GROUP, name)


def bound(file: PyProject, limits: Iterable[tuple[str, str]]) -> None:
    """Keep packages within (package, specifier) limits without touching the user's requirements."""
    for name, limit in limits:
        file.set_requirement(GROUP, name, name + limit)


def unpin(
    file: PyProject, project: Project, gone: set[str], target: Target | None, users: Mapping[str, Sequence[str]]
) -> None:
    """The edits beside `uv remove` of `gone` from `target` (None: the project's dependencies).

    `users`: for each PyTorch package of the lock, the packages that require it, the project itself and what is removed
    left out. What they need stays routed: the group names it from then on. Where nothing needs a PyTorch package any
    more, all that uvtorch wrote goes.
    """
    where = target or Target("base")
    named = [item for item in project.requirements if project.is_pinned(item.package) and item.target.name != ANCHORS]
    stay = {item.package for item in named if not (item.package in gone and item.target == where)}
    grouped = set(in_group(project))
    candidates = ({item.package for item in named} & gone | grouped) - stay
    needed = candidates - _idle({name: users.get(name, ()) for name in candidates})
    if not stay and not needed:
        unpin_all(file, project, gone)
        return
    if "torch" in gone - stay:  # its sisters need it, whatever the lock says
        needed.add("torch")
    for name in sorted(needed - grouped):
        if _has_source(project, name):
            file.add_requirement(GROUP, name)


def unpin_all(file: PyProject, project: Project, gone: AbstractSet[str] = frozenset()) -> None:
    """Take out all that uvtorch wrote, where no PyTorch package is left once `gone` are removed.

    uv takes out the sources of what it removes, but no index.
    """
    present = [item.package for item in project.requirements if item.target.name == ANCHORS]
    ours = {name for name in present if name in roles() or project.is_pinned(name)}
    if ours and ours == set(present):
        _remove_group(file, project)
    for name in sorted(ours):
        if ours != set(present):
            file.remove_requirement(GROUP, name)
        if name not in gone and _has_source(project, name):
            file.remove_sources(name)
    for name in _abandoned_indexes(project, ours | gone):
        file.remove_index(name)


def take_out(file: PyProject, project: Project) -> None:
    """Take every pin out: sources from PyTorch's indexes, those indexes, and what uvtorch put into its group.

    The requirements stay. A source that is no backend's index (a house's index, a repository) is the user's own.
    """
    present = [item.package for item in project.requirements if item.target.name == ANCHORS]
    ours = {name for name in present if name in roles()}
    if ours:
        if ours == set(present):
            _remove_group(file, project)
        else:
            for name in sorted(ours):
                file.remove_requirement(GROUP, name)
    pinned = {one.package for one in project.sources if one.backend and not one.inherited}
    pinned = {name for name in pinned if project.is_pytorch(name) or name in extension_names()}
    for name in sorted(pinned):
        file.remove_sources(name)
    for name in _unused_after(project, pinned):
        file.remove_index(name)


def _unused_after(project: Project, released: AbstractSet[str]) -> list[str]:
    """The backends' indexes that no source names once the sources of `released` are gone."""
    used = {source.index for source in project.sources if source.package not in released}
    return [
        index.name
        for index in project.indexes
        if index.name and index.name not in used and index.explicit and index.backend and not index.inherited
    ]


def remove_unneeded(file: PyProject, project: Project, users: Mapping[str, Sequence[str]]) -> None:
    """Take packages out of the group that nothing requires any more, with their sources.

    `users`: for each of them the locked packages that require it, the project itself left out.
    """
    idle = _idle(users) - set(_direct(project))
    if not idle:
        return
    if not _direct(project) and idle.issuperset(in_group(project)):
        unpin_all(file, project)
        return
    if idle.issuperset(item.package for item in project.requirements if item.target.name == ANCHORS):
        _remove_group(file, project)
    else:
        for name in sorted(idle):
            file.remove_requirement(GROUP, name)
    for name in sorted(idle):
        if _has_source(project, name):
            file.remove_sources(name)


def _remove_group(file: PyProject, project: Project) -> None:
    """Take the whole group out; in a script, which has no groups, what is read as its group."""
    if not file.script:
        file.remove_target(GROUP)
        return
    for item in project.requirements:
        if item.target == GROUP:
            file.remove_requirement(GROUP, item.package)


def in_group(project: Project) -> tuple[str, ...]:
    """The pinned packages that the group names: Triton goes with the backend, other packages' builds with those."""
    return tuple(
        item.package for item in project.requirements if item.target.name == ANCHORS and project.is_pinned(item.package)
    )


def foreign(project: Project) -> tuple[Source, ...]:
    """The project's own sources of PyTorch packages that are no index: a repository, a path, a wheel."""
    return tuple(
        source
        for source in project.sources
        if source.kind != "index" and not source.inherited and project.is_pinned(source.package)
    )


def _abandoned_indexes(project: Project, released: AbstractSet[str]) -> list[str]:
    """Indexes under the name that uvtorch gives them, for sources of `released` only: nobody else wrote them for more.

    One that the user named stays, as with `uv remove`. Left in place, ours would be no harm (it is explicit), but the
    next `uvtorch add` may choose another.
    """
    used = {source.index for source in project.sources if source.package in released}
    return [
        name
        for name in _unused_after(project, released)
        if name in used and any(one.name == name == one.backend.index_name for one in project.indexes if one.backend)
    ]


def _idle(users: Mapping[str, Sequence[str]]) -> set[str]:
    """The packages that nothing requires, or only packages of which that is true as well."""
    idle: set[str] = set()
    while more := {name for name, names in users.items() if name not in idle and idle.issuperset(names)}:
        idle |= more
    return idle


def _has_source(project: Project, package: str) -> bool:
    return any(source.package == package and not source.inherited for source in project.sources)


def _direct(project: Project) -> tuple[str, ...]:
    """The PyTorch packages that a requirement of the user's own names."""
    own = {item.package for item in project.requirements if item.target.name != ANCHORS}
    return tuple(name for name in project.pytorch_packages() if name in own)


def _group_requirements(
    direct: Sequence[str], transitive: Iterable[str], decision: Decision, where: str | None
) -> list[tuple[str, str]]:
    """(package, requirement) of everything that must be named for its source to apply."""
    bounds = dict(decision.bounds)
    names = [name for name in dict.fromkeys(("torch", *transitive)) if name not in direct]
    rows = [(name, name + bounds.get(name, "")) for name in names]
    return rows + [(name, f"{name} ; {where}" if where else name) for name in decision.companions]


def _set_group(file: PyProject, project: Project, rows: list[tuple[str, str]]) -> None:
    present = [item for item in project.requirements if item.target.name == ANCHORS]
    # An exact release is that of the builds which the project has of other packages: it stays.
    fixed = {item.package for item in present if "==" in item.text.partition(";")[0]}
    wanted = {name for name, _ in rows} | fixed
    if present and not wanted and all(item.package in roles() for item in present):
        _remove_group(file, project)
        return
    for item in present:
        if item.package not in wanted and item.package in roles():
            file.remove_requirement(GROUP, item.package)
    for name, text in rows:
        if name not in fixed:
            file.set_requirement(GROUP, name, text)


def _move_extensions(file: PyProject, project: Project, backend: Backend) -> None:
    """Take what is compiled against torch for the new backend: the same index, of that backend.

    Whether it has a build there, uv will say: silence would leave a build for another CUDA.
    """
    old = {one.backend for one in project.sources if project.is_pinned(one.package) and one.index}
    for name in [one.name for one in old if one is not None and one != backend]:
        _move_extensions_from(file, project, name, backend.name)


def _move_extensions_from(file: PyProject, project: Project, old: str, new: str) -> None:
    own = {index.name: index for index in project.indexes if index.name and not index.inherited}
    for source in project.sources:
        if source.package in extension_names() and source.index in own and source.index.endswith(f"-{old}"):
            name, url = source.index.removesuffix(old) + new, own[source.index].url.replace(old, new)
            entries = [one for one in project.sources if one.package == source.package]
            file.set_sources(source.package, [SourceEntry(name, one.marker) for one in entries])
            file.set_index(name, url, flat=url.endswith(".html"))
            file.remove_index(source.index)
    for item in project.requirements:
        if item.target.name == ANCHORS and item.package in extension_names() and item.text.endswith(old):
            file.set_requirement(GROUP, item.package, item.text.replace(old, new))


def _stale(project: Project, pinned: dict[str, None]) -> list[str]:
    """An earlier backend's Triton that has a source; one that the user requires is left alone."""
    own = {item.package for item in project.requirements if item.target.name != ANCHORS}
    return [
        source.package
        for source in project.sources
        if roles().get(source.package) == "companion"
        and source.package not in pinned
        and source.package not in own
        and source.backend is not None
        and not source.inherited
    ]


def _unused_indexes(project: Project, kept: NamedIndex, pinned: frozenset[str]) -> list[str]:
    """Indexes of an earlier backend that no source names any more once `pinned` are taken from `kept` or from none."""
    before = {source.index for source in project.sources if source.package in pinned and source.index}
    return [name for name in _unused_after(project, pinned) if name in before - {kept.name}]

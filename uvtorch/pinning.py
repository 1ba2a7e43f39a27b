"""From a project and a decision to the edits that pin PyTorch's packages, as contract and uv need them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from uvtorch import edit
from uvtorch.backend import Backend, marker, same_url
from uvtorch.choose import Decision
from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS, extension, named_by, normalize, roles
from uvtorch.project import Project, Source, Target

_GROUP = edit.Target("group", ANCHORS)


class Indexed(NamedTuple):
    """The index a backend's packages come from, and whether it has yet to be written."""

    name: str
    url: str


def index_for(project: Project, backend: Backend, base: str) -> Indexed:
    """The project's own index with this backend's URL, under its own name; else the one that uvtorch writes."""
    url = backend.index_url(base)
    for index in project.indexes:
        if index.name and same_url(index.url, url):
            return Indexed(index.name, index.url)
    return Indexed(backend.index_name, url)


def operations(
    project: Project,
    packages: tuple[str, ...],
    decision: Decision,
    base: str,
    transitive: tuple[str, ...] = (),
    staying: Sequence[str] | None = None,
) -> list[edit.Operation]:
    """The edits that take `packages` (normalized, those that the command is about to add included) from `decision`.

    Every PyTorch package that the project names is pinned with them: two builds in one environment do not work; and
    those that only other packages require, `transitive` and those that have anchors already. What an earlier pin needs
    no more goes: its index, its companions.

    `staying` are the requirements that stay as they are written (None: all of the project's): one with a local version
    and no marker can be met by the backend's index alone, so its source holds on every platform.
    """
    assert decision.backend is not None  # a refusal has no pins
    index = index_for(project, decision.backend, base)
    where = marker(decision.platforms)
    texts = [item.text for item in project.pytorch_requirements()] if staying is None else staying
    everywhere = {named_by(text) for text in texts if "+" in text and ";" not in text}
    direct = tuple(dict.fromkeys((*packages, *_direct(project))))
    anchors = _anchors(direct, dict.fromkeys((*anchored(project), *transitive)), decision, where)
    pinned = dict.fromkeys((*direct, *(name for name, _ in anchors)))
    for source in foreign(project):
        if source.package in pinned:
            raise ProjectError(
                f"{project.origin} takes {source.package} from {source.url or source.kind}, which a pin would replace",
                "take that source out first, if that is what you want",
            )
    stale = _stale(project, pinned)
    edits: list[edit.Operation] = [
        edit.SetSources(package, (edit.Source(index.name, None if package in everywhere else where),))
        for package in pinned
    ]
    edits += [edit.RemoveSources(package) for package in stale]
    edits += _anchor_edits(project, anchors)
    edits += _moved_extensions(project, decision.backend)
    edits += _unused_indexes(project, index, frozenset((*pinned, *stale)))
    inherited = any(one.name == index.name and one.inherited and one.explicit for one in project.indexes)
    if not inherited:
        edits.append(edit.SetIndex(index.name, index.url))
    return edits


def _moved_extensions(project: Project, backend: Backend) -> list[edit.Operation]:
    """The edits that take what is compiled against torch for the new backend: the same index, of that backend.

    Whether it has a build there, uv will say: silence would leave a build for another CUDA.
    """
    old = {one.backend for one in project.sources if project.is_pinned(one.package) and one.kind == "index"}
    names = [one.name for one in old if one is not None and one != backend]
    own = {index.name: index for index in project.indexes if index.name and not index.inherited}
    edits: list[edit.Operation] = []
    for name in names:
        moved = {
            source.package: own[source.index]
            for source in project.sources
            if extension(source.package) and source.index in own and source.index.endswith(f"-{name}")
        }
        for package, index in moved.items():
            new = f"{(index.name or '').removesuffix(name)}{backend.name}"
            entries = [one for one in project.sources if one.package == package]
            edits.append(edit.SetSources(package, tuple(edit.Source(new, one.marker) for one in entries)))
            url = index.url.replace(name, backend.name)
            edits.append(edit.SetIndex(new, url, flat=url.endswith(".html")))
        edits += [edit.RemoveIndex(index) for index in dict.fromkeys(one.name for one in moved.values()) if index]
        edits += [
            edit.SetRequirement(_GROUP, item.package, item.text.replace(name, backend.name))
            for item in project.requirements
            if item.target.name == ANCHORS and extension(item.package) and item.text.endswith(name)
        ]
    return edits


def in_script(project: Project, operations: Iterable[edit.Operation]) -> list[edit.Operation]:
    """The same edits for a script, which has no groups: its anchors stand among its dependencies."""
    base = edit.Target("base")
    edits: list[edit.Operation] = []
    for operation in operations:
        if isinstance(operation, edit.RemoveTarget) and operation.target == _GROUP:
            edits += [
                edit.RemoveRequirement(base, item.package)
                for item in project.requirements
                if item.target.name == ANCHORS
            ]
        elif (
            isinstance(operation, edit.AddRequirement | edit.SetRequirement | edit.RemoveRequirement)
            and operation.target == _GROUP
        ):
            edits.append(operation._replace(target=base))
        else:
            edits.append(operation)
    return edits


def foreign(project: Project) -> tuple[Source, ...]:
    """The project's own sources of PyTorch packages that are no index: a repository, a path, a wheel."""
    return tuple(
        source
        for source in project.sources
        if source.kind != "index" and not source.inherited and project.is_pinned(source.package)
    )


def like(
    project: Project, packages: tuple[str, ...], pins: tuple[Source, ...], transitive: tuple[str, ...] = ()
) -> list[edit.Operation]:
    """The edits that take `packages` from where the project already takes its PyTorch packages: the same entries.

    `transitive` are those that only other packages require: they get anchors.
    """
    named = [pin.package for pin in pins]
    model = "torch" if "torch" in named else named[0]
    entries = tuple(
        edit.Source(source.index, source.marker)
        for source in project.sources
        if source.package == model and source.index and source.extra is None and source.group is None
    )
    have = {source.package for source in project.sources}
    wanted = dict.fromkeys((*packages, *transitive))
    missing = {*wanted, *_direct(project), *anchored(project)}.isdisjoint(("torch",))
    if missing:
        wanted["torch"] = None
        transitive = ("torch", *transitive)
    edits: list[edit.Operation] = [edit.SetSources(name, entries) for name in wanted if name not in have]
    edits += [edit.AddRequirement(_GROUP, name) for name in transitive]
    # An anchor is for what nobody names; `uv add` would otherwise leave two requirements to keep in step. One that
    # bounds the release stays: the machine needs it whoever names the package.
    in_group = [item for item in project.requirements if item.target.name == ANCHORS]
    gone = [item.package for item in in_group if item.package in packages and normalize(item.text) == item.package]
    if gone and len(gone) == len(in_group):
        return [*edits, edit.RemoveTarget(_GROUP)]
    return edits + [edit.RemoveRequirement(_GROUP, name) for name in gone]


def without(
    project: Project, gone: set[str], target: Target | None, users: Mapping[str, tuple[str, ...]]
) -> list[edit.Operation]:
    """The edits beside `uv remove` of `gone` from `target` (None: the project's dependencies).

    `users`: for each PyTorch package of the lock, the packages that require it, the project itself and what is removed
    left out. What they need stays routed: an anchor takes the place of a direct requirement. Where nothing needs a
    PyTorch package any more, the anchors go, with their sources and the index that uvtorch wrote for them.
    """
    where = target or Target("base")
    named = [item for item in project.requirements if project.is_pinned(item.package) and item.target.name != ANCHORS]
    stay = {item.package for item in named if not (item.package in gone and item.target == where)}
    anchors = set(anchored(project))
    candidates = ({item.package for item in named} & gone | anchors) - stay
    needed = candidates - _idle({name: users.get(name, ()) for name in candidates})
    if not stay and not needed:
        return forsaken(project, gone)
    if "torch" in gone - stay:  # its sisters need it, whatever the lock says
        needed.add("torch")
    return [edit.AddRequirement(_GROUP, name) for name in sorted(needed - anchors) if _has_source(project, name)]


def forsaken(project: Project, gone: AbstractSet[str] = frozenset()) -> list[edit.Operation]:
    """The edits that take out all that uvtorch wrote, where no PyTorch package is left once `gone` are removed.

    uv takes out the sources of what it removes, no index.
    """
    present = [item.package for item in project.requirements if item.target.name == ANCHORS]
    ours = {name for name in present if name in roles() or project.is_pinned(name)}
    edits: list[edit.Operation] = []
    if ours:
        last = ours == set(present)
        edits += [edit.RemoveTarget(_GROUP)] if last else [edit.RemoveRequirement(_GROUP, one) for one in sorted(ours)]
        edits += [edit.RemoveSources(name) for name in sorted(ours - gone) if _has_source(project, name)]
    return edits + _abandoned_indexes(project, ours | gone)


def _abandoned_indexes(project: Project, released: AbstractSet[str]) -> list[edit.Operation]:
    """Indexes under the name that uvtorch gives them, for sources of `released` only: nobody else wrote them for more.

    One that the user named stays, as with `uv remove`. Left in place, ours would be no harm (it is explicit), but the
    next `uvtorch add` may choose another.
    """
    kept = {source.index for source in project.sources if source.package not in released}
    used = {source.index for source in project.sources if source.package in released} - kept
    return [
        edit.RemoveIndex(index.name)
        for index in project.indexes
        if index.name in used
        and index.explicit
        and not index.inherited
        and index.backend is not None
        and index.name == index.backend.index_name
    ]


def _idle(users: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The packages that nothing requires, or only packages of which that is true as well."""
    idle: set[str] = set()
    while more := {name for name, names in users.items() if name not in idle and idle.issuperset(names)}:
        idle |= more
    return idle


def anchored(project: Project) -> tuple[str, ...]:
    """The pinned packages that have an anchor: companions go with the backend, other packages' builds with those."""
    return tuple(
        item.package for item in project.requirements if item.target.name == ANCHORS and project.is_pinned(item.package)
    )


def unneeded(project: Project, dependents: Mapping[str, tuple[str, ...]]) -> list[edit.Operation]:
    """The edits that take out the anchors of packages that nothing requires any more.

    `dependents`: for each anchored package the locked packages that require it, the project itself left out.
    """
    idle = _idle(dependents) - set(_direct(project))
    if not idle:
        return []
    if not _direct(project) and idle.issuperset(anchored(project)):
        return forsaken(project)
    edits: list[edit.Operation] = [edit.RemoveRequirement(_GROUP, name) for name in sorted(idle)]
    if idle.issuperset(item.package for item in project.requirements if item.target.name == ANCHORS):
        edits = [edit.RemoveTarget(_GROUP)]
    return edits + [edit.RemoveSources(name) for name in sorted(idle) if _has_source(project, name)]


def _has_source(project: Project, package: str) -> bool:
    return any(source.package == package and not source.inherited for source in project.sources)


def _direct(project: Project) -> tuple[str, ...]:
    """The PyTorch packages that a requirement of the user's own names."""
    own = {item.package for item in project.requirements if item.target.name != ANCHORS}
    return tuple(name for name in project.pytorch_packages() if name in own)


def _anchors(
    direct: tuple[str, ...], transitive: Iterable[str], decision: Decision, where: str | None
) -> list[tuple[str, str]]:
    """(package, requirement) of everything that must be named for its source to apply."""
    bounds = dict(decision.bounds)
    names = [name for name in dict.fromkeys(("torch", *transitive)) if name not in direct]
    anchors = [(name, name + bounds.get(name, "")) for name in names]
    return anchors + [(name, f"{name} ; {where}" if where else name) for name in decision.companions]


def _anchor_edits(project: Project, anchors: list[tuple[str, str]]) -> list[edit.Operation]:
    wanted = {name for name, _ in anchors}
    # An exact release is that of the builds which the project has of other packages: it stays.
    in_group = [item for item in project.requirements if item.target.name == ANCHORS]
    fixed = {item.package for item in in_group if "==" in item.text.partition(";")[0]}
    anchors = [(name, text) for name, text in anchors if name not in fixed]
    wanted |= fixed
    present = [item.package for item in in_group]
    edits: list[edit.Operation] = [
        edit.RemoveRequirement(_GROUP, name) for name in present if name not in wanted and name in roles()
    ]
    if present and not wanted and all(name in roles() for name in present):
        return [edit.RemoveTarget(_GROUP)]
    return edits + [edit.SetRequirement(_GROUP, name, text) for name, text in anchors]


def _stale(project: Project, pinned: dict[str, None]) -> list[str]:
    """An earlier backend's companions that have a source, those that the user requires left alone."""
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


def _unused_indexes(project: Project, kept: Indexed, pinned: frozenset[str]) -> list[edit.Operation]:
    """Indexes of an earlier backend that no source names any more once `pinned` are taken from `kept` or from none."""
    before = {source.index for source in project.sources if source.package in pinned and source.index}
    after = {source.index for source in project.sources if source.package not in pinned}
    return [
        edit.RemoveIndex(index.name)
        for index in project.indexes
        if index.name in before - after - {kept.name} and index.explicit and index.backend is not None
    ]


def bounds(limits: list[tuple[str, str]]) -> list[edit.Operation]:
    """The edits that keep packages within (package, specifier) limits without touching the user's requirements."""
    return [edit.SetRequirement(_GROUP, name, name + limit) for name, limit in limits]


def unlocalized(requirement: str) -> str:
    """A requirement without local versions: `torch==2.9.1+cu126` is `torch==2.9.1`.

    The source names the backend; with the local version in the requirement the lock could not be solved for platforms
    whose wheels come from elsewhere.
    """
    head, semicolon, tail = requirement.partition(";")
    parts = [part.split("+", 1)[0].rstrip() if "+" in part else part for part in head.split(",")]
    return ",".join(parts) + (" ;" + tail if semicolon else "")


def bounded(requirement: str, bound: str) -> str:
    """A requirement with one more specifier: `torch` and `<2.12` make `torch<2.12`, before any marker."""
    head, semicolon, tail = requirement.partition(";")
    head = head.rstrip()
    comma = "," if any(sign in head for sign in "<>=!~") else ""
    return f"{head}{comma}{bound}" + (f" ;{tail}" if semicolon else "")

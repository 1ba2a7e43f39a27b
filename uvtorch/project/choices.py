"""Which extras and dependency groups choose a build of PyTorch. Pure.

What a choice gives follows uv's own rules, measured with uv 0.13.8: a source with an `extra` binds to the requirement
written in that extra, one with a `group` to the requirements of that group and of those it includes; neither reaches
an extra or group that merely brings the choice in (`gpu = ["proj[cu128]"]`), which gets PyPI's build. A source whose
extra or group stands in no conflict set leaks into the base (`_leaking`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.packages import normalize, roles
from uvtorch.project.facts import Choice, Item, Project, Requirement, Source, Target
from uvtorch.project.markers import Environment, holds

BASE = Target("base")


class _Build(NamedTuple):
    """Where a package comes from."""

    backend: Backend | None
    origin: str
    stated: bool


def stated(project: Project) -> tuple[Choice, ...]:
    """The choices that sources state on any platform: a row for each name and backend, torch's first."""
    own = _rows(project, (source for source in project.sources if project.is_pytorch(source.package)))
    rows = {(row.target, row.backend, row.origin): row for row in own}
    for row in _of_members(project, stated):
        first = rows.setdefault((row.target, row.backend, row.origin), row)
        names = tuple(dict.fromkeys((*first.packages, *row.packages)))
        rows[row.target, row.backend, row.origin] = first._replace(packages=names)
    return tuple(rows.values())


def others(project: Project) -> tuple[Choice, ...]:
    """The same for packages that are not PyTorch's own but come from an index named after a backend (vllm, natten)."""
    sources = (source for source in project.sources if not project.is_pytorch(source.package) and source.backend)
    return _rows(project, sources)


def on_platform(project: Project, environment: Environment) -> tuple[Choice, ...]:
    """The choices there, one row a name; empty where the project states none.

    Besides what sources state: a base with PyTorch packages of its own, and extras or groups of PyTorch packages
    alone that conflict with a choice, give what no source says (`stated` is False). The base comes last.
    """
    rows = stated(project)
    if not rows:
        return ()
    named = tuple(dict.fromkeys(row.target for row in rows if row.kind != "base"))
    found: dict[Target, Choice] = {}
    for target in (*named, *_unpinned_alternatives(project, named)):
        builds = _builds(project, target, environment)
        if builds:
            found[target] = _choice(project, target, builds)
    theirs = list(_of_members(project, lambda member: on_platform(member, environment)))
    for row in theirs:
        if row.kind != "base":
            found.setdefault(row.target, row)
    base = _base(project, list(found.values()), environment) or next(
        (row for row in theirs if row.kind == "base"), None
    )
    return (*found.values(), base) if base else tuple(found.values())


def gaps(project: Project) -> tuple[str, ...]:
    """Sources that bind to nothing, which uv refuses: `torch is not in extra cpu`."""
    required = {(normalize(item.target.name or ""), item.target.kind, item.package) for item in project.requirements}
    return tuple(
        dict.fromkeys(
            f"{source.package} is not in {source.target.kind} {source.target.name}"
            for source in project.sources
            if source.target != BASE
            and not source.inherited
            and (normalize(source.target.name or ""), source.target.kind, source.package) not in required
        )
    )


def conflicting(project: Project, target: Target) -> frozenset[Target]:
    """The extras and groups that stand in a conflict set with this one, under their declared spelling."""
    found: set[Target] = set()
    for items in project.conflicts:
        members = _targets(project, items)
        if target in members:
            found |= members
    return frozenset(found - {target})


def _of_members(project: Project, rows: Callable[[Project], tuple[Choice, ...]]) -> Iterator[Choice]:
    """The members' rows under the names by which they are selected from this project.

    Together, those are their own; otherwise the extra, group or base of whatever requirement asks for the member.
    """
    for member in project.members:
        for row in rows(member):
            if project.together:
                yield row
            elif row.kind != "group":
                for item in project.requirements:
                    asked = item.target == BASE if row.kind == "base" else normalize(row.name or "") in item.extras
                    if item.package == member.name and asked:
                        kind, name = item.target
                        yield row._replace(kind=kind, name=name, aliases=_aliases(project, item.target))


def _targets(project: Project, items: Iterable[Item]) -> set[Target]:
    """The extras and groups of a conflict set that can be selected from this project."""
    return {
        Target(item.kind, project.declared(item.kind, item.name) or item.name)
        for item in items
        if (item.kind in ("extra", "group") and item.package in (None, project.name))
        or (item.kind == "group" and item.package == project.root_name and not project.declared("group", item.name))
    }


def _leaking(project: Project, targets: Iterable[Target]) -> tuple[Target, ...]:
    """Those of the targets whose sources reach the base as well.

    uv resolves the base apart from the members of a conflict set. It goes through the sets in their order and passes
    over one of which less than two members are left, so with {a, b}, {a, c}, {b, c} the base gets what `c` gets.
    """
    apart: set[Target] = set()
    for items in project.conflicts:
        left = _targets(project, items) - apart
        if len(left) + len([item for item in items if item.package not in (None, project.name)]) > 1:
            apart |= left
    return tuple(target for target in targets if target not in apart)


def _rows(project: Project, sources: Iterable[Source]) -> tuple[Choice, ...]:
    rows: dict[tuple[Target, Backend | None, str], list[str]] = {}
    for source in sorted(sources, key=lambda source: source.package != "torch"):
        build = _of_source(source)
        if build and _reachable(project, source):
            rows.setdefault((source.target, build.backend, build.origin), []).append(source.package)
    return tuple(
        Choice(*target, backend, tuple(dict.fromkeys(names)), origin, aliases=_aliases(project, target))
        for (target, backend, origin), names in rows.items()
    )


def _of_source(source: Source) -> _Build | None:
    """What an index or a URL gives; None for a repository or a path, which chooses no backend."""
    if source.kind not in ("index", "url"):
        return None
    origin = "index" if source.backend else "pypi" if source.is_pypi else "unknown"
    return _Build(source.backend, origin, stated=True)


def _reachable(project: Project, source: Source) -> bool:
    """Whether this project can select it. From a member, the root's extras cannot be named, its groups can."""
    if not source.inherited or source.target == BASE:
        return True
    if source.extra is not None:
        return project.declared("extra", source.extra) is not None
    return bool(project.pytorch_packages())


def _choice(project: Project, target: Target, builds: dict[str, _Build]) -> Choice:
    """One row of packages and where each comes from: torch's build (else the first stated one) speaks for all."""
    main = builds.get("torch") or next(
        (build for build in builds.values() if build.stated), next(iter(builds.values()))
    )
    names = tuple(
        name for name, build in builds.items() if build.backend == main.backend and build.origin == main.origin
    )
    return Choice(*target, main.backend, names, main.origin, main.stated, _aliases(project, target))


def _builds(project: Project, target: Target, environment: Environment) -> dict[str, _Build]:
    """Where each PyTorch package that a target brings comes from on a platform, torch first."""
    sources: dict[str, _Build] = {}
    for own in (True, False):  # what the target's own sources leave open, those without selector fill
        for source in project.sources:
            build = _of_source(source)
            wanted = target if own else BASE
            if not build or source.target != wanted or source.package in sources:
                continue
            if project.is_pytorch(source.package) and holds(source.marker, environment):
                sources[source.package] = build
    required = [
        item.package
        for item in _required(project, target)
        if project.is_pytorch(item.package) and _applies(item, environment)
    ]
    stated_here = [
        source.package for source in project.sources if source.target == target and project.is_pytorch(source.package)
    ]
    anywhere = {item.package for item in _required(project, target)}
    # A source without its requirement is a fault that uv refuses (`gaps`); until it is mended the source speaks.
    names = required + [name for name in stated_here if name not in anywhere and name in sources]
    default = _default_build(project)
    names = sorted(dict.fromkeys(names), key=lambda name: name != "torch")
    return {name: sources.get(name, default) for name in names}


def _required(project: Project, target: Target) -> list[Requirement]:
    """A target's requirements; the base's include those of default groups that choose nothing: they come unasked."""
    if target.kind != "base":
        name = normalize(target.name or "")
        return [item for item in project.requirements if item.target.kind == target.kind and _is(item, name)]
    choosing = {source.target for source in project.sources if _of_source(source)}
    along = {Target("group", group) for group in project.default_groups} - choosing
    return [item for item in project.requirements if item.target == BASE or item.target in along]


def _is(item: Requirement, name: str) -> bool:
    return normalize(item.target.name or "") == name


def _applies(item: Requirement, environment: Environment) -> bool:
    return holds(item.marker, environment)


def _default_build(project: Project) -> _Build:
    """What a PyTorch package without a source comes from: an index that is not explicit, else PyPI."""
    for index in project.indexes:
        if index.backend and not index.explicit:
            return _Build(index.backend, "index", stated=False)
    return _Build(None, "pypi", stated=False)


def _base(project: Project, named: list[Choice], environment: Environment) -> Choice | None:
    """What comes with no choice made; None where that is no PyTorch at all."""
    pins = [source for source in project.pins(environment) if _of_source(source)]
    builds = _builds(project, BASE, environment)
    if any(build.stated for build in builds.values()):
        return _choice(project, BASE, builds)
    if not builds:
        # Pins without a requirement of the base: they serve extras, groups, or the members of a workspace.
        pinned_only = {source.package: _of_source(source) for source in pins}
        rows = {name: build for name, build in pinned_only.items() if build}
        return _choice(project, BASE, dict(sorted(rows.items(), key=lambda row: row[0] != "torch"))) if rows else None
    leaky = {row.target: row for row in named if row.stated and set(row.packages) & set(builds)}
    for target in _leaking(project, leaky)[:1]:
        row = leaky[target]
        return Choice("base", None, row.backend, row.packages, row.origin, stated=False)
    # Triton alone is no build of PyTorch.
    return _choice(project, BASE, builds) if any(map(project.is_pinned, builds)) else None


def _unpinned_alternatives(project: Project, named: tuple[Target, ...]) -> tuple[Target, ...]:
    """Extras and groups without a source that stand where a choice could: `torch` against `torch-cpu`."""
    pytorch = frozenset(roles()) | {item.package for target in named for item in _required(project, target)}
    found = []
    for target in dict.fromkeys(other for choice in named for other in sorted(conflicting(project, choice))):
        packages = {item.package for item in _required(project, target)}
        if target not in named and any(map(project.is_pinned, packages)) and packages <= pytorch:
            found.append(target)
    return tuple(found)


def _aliases(project: Project, target: Target) -> tuple[str, ...]:
    """The extras (`gpu = ["proj[cu128]"]`) or groups (`include-group`) that bring a target in, at any depth."""
    if target.kind == "base":
        return ()
    edges: list[tuple[str, str]] = []
    if target.kind == "group":
        edges = [(normalize(outer), normalize(inner)) for outer, inner in project.includes]
    else:
        for item in project.requirements:
            if item.target.kind == "extra" and item.package == project.name:
                edges += [(normalize(item.target.name or ""), extra) for extra in item.extras]
    reached = {normalize(target.name or "")}
    while True:
        more = {outer for outer, inner in edges if inner in reached} - reached
        if not more:
            break
        reached |= more
    names = project.extras if target.kind == "extra" else project.groups
    return tuple(name for name in names if normalize(name) in reached and name != target.name)

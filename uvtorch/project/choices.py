"""What a project says about PyTorch, and which of its extras and groups choose a build. Pure.

As measured with uv 0.13.8, a source with an `extra` binds to the requirement in that extra, one with a `group` to those
of the group and of the groups it includes; what merely brings the choice in (`gpu = ["proj[cu128]"]`) gets PyPI's
build. A source whose extra or group stands in no conflict set leaks into the base (`_apart`).
https://docs.astral.sh/uv/guides/integration/pytorch/#configuring-accelerators-with-optional-dependencies
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import product
from typing import NamedTuple, TypeVar

from uvtorch.backend import parse
from uvtorch.machine import Platform
from uvtorch.packages import roles
from uvtorch.project.indexes import Index, vendor
from uvtorch.project.model import BASE, GROUP, Choice, Config, Item, Origin, Requirement, Source, Target
from uvtorch.requirement import Environment, can_hold, holds

Node = TypeVar("Node", bound=Hashable)


class Project(NamedTuple):
    """What pyproject.toml and its workspace's root say."""

    name: str | None = None
    requires_python: str | None = None
    requirements: tuple[Requirement, ...] = ()
    """Those of a group are repeated in each group that includes it."""
    indexes: tuple[Index, ...] = ()
    """In order of priority, those of a workspace's root last."""
    sources: tuple[Source, ...] = ()
    """A member's for a package replace the root's."""
    conflicts: tuple[tuple[Item, ...], ...] = ()
    own_conflicts: tuple[tuple[Item, ...], ...] = ()
    """Those not of the workspace's root."""
    default_groups: tuple[str, ...] = ()
    """Those that uv installs unasked, `"all"` spelled out."""
    config: Config = Config()
    has_project: bool = False
    targets: tuple[Target, ...] = ()
    """The extras and groups declared, the groups last."""
    includes: tuple[tuple[Target, Target], ...] = ()
    """(group, group it includes directly)."""
    origin: str = "pyproject.toml"
    root_name: str | None = None
    """The workspace root's, where the project is a member."""
    members: "tuple[Project, ...]" = ()
    """The workspace's other members, where the project is its root."""
    together: bool = False
    """The members are installed with it: `--all-packages`, or a root that is no project."""

    def is_pytorch(self, package: str) -> bool:
        """Whether a package's source decides the build of PyTorch: torch, its sisters, its compiler, `packages`.

        One that merely has builds for single backends (vllm, torchao) does not.
        """
        return roles().get(package) in ("pin", "companion") or package in self.config.packages

    def is_pinned(self, package: str) -> bool:
        """The same without the compiler: what comes from the backend's index for any backend."""
        return roles().get(package) == "pin" or package in self.config.packages

    def pytorch_packages(self) -> tuple[str, ...]:
        """The pinned packages that requirements of the project and of its members name, torch first."""
        own = [item.package for item in self.requirements if self.is_pinned(item.package) and not item.inherited]
        asked = {item.package for item in self.requirements}
        for member in self.members:
            if self.together or member.name in asked:
                own += member.pytorch_packages()
        return torch_first(own)

    @property
    def pytorch_direct(self) -> tuple[str, ...]:
        """Those that not just the group `uvtorch` names."""
        own = {item.package for item in self.requirements if item.target != GROUP}
        return tuple(name for name in self.pytorch_packages() if name in own)

    @property
    def grouped(self) -> tuple[Requirement, ...]:
        """The requirements of the group `uvtorch`."""
        return tuple(item for item in self.requirements if item.target == GROUP)

    @property
    def with_members(self) -> "tuple[Project, ...]":
        """The project and its members."""
        return (self, *self.members)

    @property
    def every_source(self) -> tuple[Source, ...]:
        """The sources of both."""
        return tuple(source for project in self.with_members for source in project.sources)

    @property
    def every_requirement(self) -> tuple[Requirement, ...]:
        """The requirements of both."""
        return tuple(item for project in self.with_members for item in project.requirements)

    @property
    def own_sources(self) -> tuple[Source, ...]:
        """The sources that are not the workspace root's."""
        return tuple(source for source in self.sources if not source.inherited)

    @property
    def own_indexes(self) -> dict[str, Index]:
        """The indexes with a name that are not the workspace root's, by name."""
        return {index.name: index for index in self.indexes if index.name and not index.inherited}

    def packages_in(self, target: Target) -> set[str]:
        """The packages that the requirements of a target name."""
        return {item.package for item in self.requirements if item.target == target}

    def required(self, target: Target) -> list[Requirement]:
        """A target's requirements; with the base come default groups that choose nothing."""
        targets = {target}
        if target == BASE:
            defaults = {Target("group", group) for group in self.default_groups}
            targets |= defaults - {source.target for source in self.sources if source.chooses}
        return [item for item in self.requirements if item.target in targets]

    def pytorch_requirements(self) -> tuple[Requirement, ...]:
        """The requirements of pinned packages, where they are written."""
        own = (item for item in self.requirements if item.via is None and not item.inherited)
        return tuple(item for item in own if self.is_pinned(item.package))

    def sources_on(self, place: Environment | Platform) -> tuple[Source, ...]:
        """The sources of PyTorch packages whose marker holds there."""
        return tuple(one for one in self.sources if self.is_pytorch(one.package) and holds(one.marker, place))

    def pins(self, place: Environment | Platform) -> tuple[Source, ...]:
        """Those of them that hold whatever extra or group is chosen."""
        return tuple(source for source in self.sources_on(place) if source.target == BASE)

    @property
    def conflict_members(self) -> frozenset[Target]:
        """The extras and groups that stand in a conflict set, also of other projects."""
        return frozenset(item.target for items in self.conflicts for item in items if item.target)

    @property
    def brings(self) -> tuple[tuple[Target, Target], ...]:
        """(an extra or group, one that it brings in): `include-group`, `gpu = ["proj[cu128]"]`."""
        own = (item for item in self.requirements if item.package == self.name and item.target != BASE)
        return (*self.includes, *((item.target, Target("extra", extra)) for item in own for extra in item.extras))

    def choices(self) -> tuple[Choice, ...]:
        """The choices that sources state on any platform, a row for each backend that a name can mean."""
        rows: dict[object, Choice] = {}
        for row in (*_stated(self), *_of_members(self, Project.choices)):
            found = rows.setdefault((row.target, row.backend, row.origin), row)
            packages = torch_first(found.packages + row.packages)
            rows[row.target, row.backend, row.origin] = found._replace(packages=packages)
        return tuple(rows.values())

    def selectable(self) -> tuple[Choice, ...]:
        """The extras and groups among them."""
        return tuple(choice for choice in self.choices() if choice.kind != "base")

    def by_local_version(self) -> tuple[Choice, ...]:
        """Conflicting extras and groups that name a backend by local version alone: `cpu = ["torch==2.9.1+cpu"]`."""
        found: dict[Target, Choice] = {}
        for item in self.requirements:
            if item.package == "torch" and item.target in self.conflict_members:
                local = item.text.partition(";")[0].partition("+")[2].partition(",")[0].strip()
                if backend := parse(local):
                    found[item.target] = Choice(item.target, backend, ("torch",))
        return tuple(found.values()) if len(found) > 1 else ()

    def choices_for(self, place: Environment | Platform) -> tuple[Choice, ...]:
        """The choices on one platform, one row a name, the base last; empty where sources state none.

        Not `stated` by a source are a base with PyTorch packages of its own, and extras or groups of PyTorch packages
        alone that conflict with a choice.
        """
        rows = self.choices()
        named = tuple(dict.fromkeys(row.target for row in rows if row.kind != "base"))
        found: dict[Target, Choice] = {}
        for target in (*named, *_unpinned_alternatives(self, named)):
            if builds := _builds(self, target, place):
                found[target] = _choice(self, target, builds)
        if rows and (base := _base(self, [*found.values()], place)):
            found[BASE] = base
        for row in _of_members(self, lambda member: member.choices_for(place)) if rows else ():
            found.setdefault(row.target, row)
        return tuple(sorted(found.values(), key=lambda row: row.kind == "base"))


def conflicting(project: Project, target: Target) -> frozenset[Target]:
    """The extras and groups that stand in a conflict set with this one."""
    sets = [members for items in project.conflicts if target in (members := _targets(project, items))]
    return frozenset().union(*sets) - {target}


def reached(start: Iterable[Node], edges: Iterable[tuple[Node, Node]]) -> set[Node]:
    """All that can be reached along edges (from, to), the start included."""
    found, edges = set(start), tuple(edges)
    while more := {end for begin, end in edges if begin in found} - found:
        found |= more
    return found


def torch_first(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once, torch before the others."""
    return tuple(sorted(dict.fromkeys(names), key=lambda name: name != "torch"))


def _build(source: Source) -> Choice:
    if source.is_pypi:
        return Choice(source.target, None, (source.package,), "pypi")
    origin: Origin = "index" if source.backend else "unknown"
    return Choice(source.target, source.named, (source.package,), origin, vendor=vendor(source.url or ""))


def _choice(project: Project, target: Target, builds: dict[str, Choice]) -> Choice:
    """One row for all packages: torch's build speaks for all, else the first that a source states."""
    main = builds.get("torch", min(builds.values(), key=lambda build: not build.stated))
    alike = (name for name, build in builds.items() if (build.backend, build.origin) == (main.backend, main.origin))
    return main._replace(target=target, packages=tuple(alike), aliases=_aliases(project, target))


def _stated(project: Project) -> Iterator[Choice]:
    for source in sorted(project.sources, key=lambda source: source.package != "torch"):
        # A selector offers a choice even where its marker is a mistake; without one, such a marker pins nothing.
        offers = source.target != BASE or can_hold(source.marker)
        if source.chooses and offers and project.is_pytorch(source.package) and _reachable(project, source):
            yield _build(source)._replace(aliases=_aliases(project, source.target))


def _reachable(project: Project, source: Source) -> bool:
    """Whether this project can select it: a member can name its root's groups, not its extras."""
    if not source.inherited or source.target == BASE:
        return True
    return source.target in project.targets if source.extra else bool(project.pytorch_packages())


def _of_members(project: Project, rows: Callable[[Project], tuple[Choice, ...]]) -> Iterator[Choice]:
    for member in project.members:
        if project.together:
            yield from rows(member)
            continue
        asking = [item for item in project.requirements if item.package == member.name]
        for row, item in product(rows(member), asking):
            if row.target in [Target("extra", extra) for extra in item.extras] or row.target == BASE == item.target:
                yield row._replace(target=item.target, aliases=_aliases(project, item.target))


def _aliases(project: Project, target: Target) -> tuple[str, ...]:
    """The extras (`gpu = ["proj[cu128]"]`) or groups (`include-group`) that bring a target in, at any depth."""
    bringing = reached({target}, [(inner, outer) for outer, inner in project.brings]) - {target}
    return tuple(one.name for one in project.targets if one in bringing and one.kind == target.kind and one.name)


def _builds(project: Project, target: Target, place: Environment | Platform) -> dict[str, Choice]:
    sources = [one for one in project.sources_on(place) if one.chooses and one.target in (BASE, target)]
    # The first of several counts, a target's own before those of the base.
    sources.sort(key=lambda source: source.target != target)
    bound = {source.package: _build(source) for source in reversed(sources)}
    required = [item for item in project.required(target) if project.is_pytorch(item.package)]
    names = [item.package for item in required if holds(item.marker, place)]
    # A source without its requirement is a fault that uv refuses; until it is fixed the source speaks.
    asked = {item.package for item in required}
    names += [source.package for source in sources if source.target == target and source.package not in asked]
    return {name: bound.get(name) or _unsourced(project) for name in torch_first(names)}


def _unsourced(project: Project) -> Choice:
    """What a package without a source gets: the build of the first index that is not explicit, else PyPI's."""
    backend = next((index.backend for index in project.indexes if index.backend and not index.explicit), None)
    return Choice(BASE, backend, (), "index" if backend else "pypi", stated=False)


def _base(project: Project, named: list[Choice], place: Environment | Platform) -> Choice | None:
    """What comes with no choice made."""
    builds = _builds(project, BASE, place)
    if any(build.stated for build in builds.values()):
        return _choice(project, BASE, builds)
    apart = _apart(project)
    for row in named:  # the first source that leaks into the base
        if row.stated and row.target not in apart and set(row.packages) & set(builds):
            return row._replace(target=BASE, stated=False, aliases=())
    # Triton alone is no build of PyTorch.
    return _choice(project, BASE, builds) if any(map(project.is_pinned, builds)) else None


def _apart(project: Project) -> set[Target]:
    """The extras and groups apart from which uv resolves the base, so that their sources do not reach it.

    It goes through the conflict sets and passes over one of which less than two members are left: with {a, b}, {a, c},
    {b, c} the base gets what `c` gets.
    """
    apart: set[Target] = set()
    for items in project.conflicts:
        left = _targets(project, items) - apart
        if len(left) + len([item for item in items if item.package not in (None, project.name)]) > 1:
            apart |= left
    return apart


def _targets(project: Project, items: Iterable[Item]) -> set[Target]:
    return {
        item.target
        for item in items
        if item.target
        and (
            item.package in (None, project.name)
            or (item.kind == "group" and item.package == project.root_name and item.target not in project.targets)
        )
    }


def _unpinned_alternatives(project: Project, named: tuple[Target, ...]) -> Iterator[Target]:
    """Extras and groups without a source that stand where a choice could: `torch` against `torch-cpu`."""
    pytorch = frozenset(roles()) | {item.package for target in named for item in project.required(target)}
    for target in dict.fromkeys(other for choice in named for other in sorted(conflicting(project, choice))):
        packages = {item.package for item in project.required(target)}
        if target not in named and any(map(project.is_pinned, packages)) and packages <= pytorch:
            yield target

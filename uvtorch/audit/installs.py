"""What a uv.lock would install: the PyTorch builds that each platform gets under each selection of extras and groups.

Pure. uv locks several builds of a package side by side and says on each dependency for which platforms and selections
it holds; so builds are mixed only if one walk from the project meets both.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from uvtorch.machine import Platform
from uvtorch.packages import ANCHORS, normalize
from uvtorch.project import Environment, Project, Target
from uvtorch.project.lock import Lock, Package
from uvtorch.project.markers import holds

PLATFORMS: Final = (
    Platform("linux", "x86_64"),
    Platform("linux", "aarch64"),
    Platform("windows", "x86_64"),
    Platform("macos", "arm64"),
)
"""The platforms that a lock is looked at for. Intel Macs and Windows on Arm have few builds, and those from PyPI."""

_EDGE: Final = re.compile(
    r'\{ name = "(?P<name>[^"\\]+)"'
    r'(?:, version = "(?P<version>[^"\\]+)")?'
    r'(?:, source = \{ [a-z]+ = "(?P<location>[^"\\]*)"[^}]*\})?'
    r"(?:, extra = \[(?P<extras>[^\]]*)\])?"
    r'(?:, marker = "(?P<marker>[^"\\]*)")? \}'
)
_LIST: Final = re.compile(r'^"?([^\s="]+)"? = \[(.*?)\]$', re.MULTILINE | re.DOTALL)
_STRING: Final = re.compile(r'"([^"\\]*)"')
_PYTHON: Final = re.compile(r"python_(?:full_)?version [<>=!]+ '(3\.[0-9]+)")


class Edge(NamedTuple):
    """One dependency of a locked package."""

    name: str
    version: str | None
    location: str | None
    extras: tuple[str, ...]
    marker: str | None


class Node(NamedTuple):
    """A locked package's dependencies: its own, those of its extras and those of its groups."""

    own: tuple[Edge, ...]
    extras: Mapping[str, tuple[Edge, ...]]
    groups: Mapping[str, tuple[Edge, ...]]

    def edges(self) -> Iterator[Edge]:
        """All of them."""
        yield from self.own
        for edges in (*self.extras.values(), *self.groups.values()):
            yield from edges


class Selection(NamedTuple):
    """The extras and groups that a sync selects, normalized, and how a person says so."""

    extras: frozenset[str]
    groups: frozenset[str]
    options: str
    """`--extra cpu`; empty: none."""


class Situation(NamedTuple):
    """A platform, a Python and a selection."""

    platform: Platform
    python: str
    selection: Selection


class Installed(NamedTuple):
    """The PyTorch packages that one situation gets."""

    situation: Situation
    packages: tuple[Package, ...]


def installed(
    lock: Lock, project: Project, selections: Iterable[Selection], platforms: Iterable[Platform]
) -> Iterator[Installed]:
    """The builds of PyTorch's packages for every platform, Python and selection that can be told apart."""
    names = {package.name for package in lock.packages if project.is_pytorch(package.name)}
    if not names:
        return
    graph = _Graph(lock, names)
    chosen = tuple(selections)
    situations = [
        Situation(platform, python, selection)
        for platform in platforms
        for python in graph.pythons(lock.requires_python)
        if supports(lock, Environment(platform, python))
        for selection in chosen
    ]
    reached = graph.reached(_roots(lock, project), project.name or "", situations)
    rows = [(at, mask) for at, mask in sorted(reached.items()) if lock.packages[at].name in names]
    for number, situation in enumerate(situations):
        yield Installed(situation, tuple(lock.packages[at] for at, mask in rows if mask >> number & 1))


def supports(lock: Lock, environment: Environment) -> bool:
    """Whether the lock is made for an environment (`[tool.uv] environments`)."""
    return not lock.supported or any(holds(marker, environment) for marker in lock.supported)


def selections(project: Project, full: bool = True) -> tuple[Selection, ...]:
    """No choice, then each extra and group that stands in a conflict set; each with what conflicts with nothing.

    `full`: with every extra and group that can be selected along, for uv resolves them together; else with the default
    groups alone.
    """
    apart = {
        Target(item.kind, normalize(item.name))
        for items in project.conflicts
        for item in items
        if item.kind != "package" and item.package in (None, project.name, project.root_name)
    }
    everything = [
        *(Target("extra", normalize(name)) for name in project.extras),
        *(Target("group", normalize(name)) for name in project.groups if name != ANCHORS),
    ]
    defaults = {Target("group", normalize(name)) for name in project.default_groups}
    brings = {target: _brought(project, target) for target in everything}
    free = [target for target in everything if not ({target} | brings[target]) & apart]
    if not full:
        free = [target for target in free if target in defaults]
    off = [target for target in everything if target in defaults and ({target} | brings[target]) & apart]
    found = []
    for chosen in (None, *(target for target in everything if target in apart)):
        targets = set(free) if chosen is None else {*free, chosen}
        targets |= {inner for target in targets for inner in brings.get(target, set())}
        words = [] if chosen is None or chosen in defaults else [f"--{chosen.kind} {chosen.name}"]
        words += [f"--no-group {target.name}" for target in off if target != chosen]
        found.append(
            Selection(
                frozenset(target.name or "" for target in targets if target.kind == "extra"),
                frozenset(target.name or "" for target in targets if target.kind == "group"),
                " ".join(words),
            )
        )
    return tuple(found)


def _brought(project: Project, target: Target) -> set[Target]:
    """The extras or groups that a target brings in, at any depth."""
    edges: list[tuple[Target, Target]] = [
        (Target("group", normalize(outer)), Target("group", normalize(inner))) for outer, inner in project.includes
    ]
    for item in project.requirements:
        if item.package == project.name and item.target.kind != "base":
            own = Target(item.target.kind, normalize(item.target.name or ""))
            edges += [(own, Target("extra", extra)) for extra in item.extras]
    reached = {target}
    while more := {inner for outer, inner in edges if outer in reached} - reached:
        reached |= more
    return reached - {target}


def _roots(lock: Lock, project: Project) -> tuple[int, ...]:
    """The project's own place in the lock; where it has none, those of its workspace's members."""
    names = {project.name} if project.name else set()
    if project.together or not names:
        names |= {member.name for member in project.members if member.name}
    local = ("virtual", "editable", "directory")
    return tuple(at for at, package in enumerate(lock.packages) if package.kind in local and package.name in names)


class _Graph:
    """The part of a lock that leads to some packages."""

    def __init__(self, lock: Lock, wanted: Iterable[str]) -> None:
        self.packages = lock.packages
        self.by_name: dict[str, list[int]] = {}
        for at, package in enumerate(lock.packages):
            self.by_name.setdefault(package.name, []).append(at)
        raw = [_raw(package) for package in lock.packages]
        users: dict[str, list[int]] = {}
        for at, node in enumerate(raw):
            for name in node.names():
                users.setdefault(name, []).append(at)
        relevant: set[str] = set()
        queue = list(wanted)
        while queue:
            name = queue.pop()
            if name not in relevant:
                relevant.add(name)
                queue += [lock.packages[at].name for at in users.get(name, ())]
        self.nodes = {at: raw[at].node(relevant) for name in relevant for at in self.by_name.get(name, ())}

    def pythons(self, requires_python: str | None) -> tuple[str, ...]:
        """A Python for each side of every boundary that a marker on the way draws."""
        markers = {edge.marker for node in self.nodes.values() for edge in node.edges() if edge.marker}
        found = {text for marker in markers for text in _PYTHON.findall(marker)}
        lowest = re.search(r">=? *(3\.[0-9]+)", requires_python or "")
        floor = int(lowest[1].partition(".")[2]) if lowest else 10
        minors = {floor} | {int(text[2:]) + more for text in found for more in (0, 1)}
        return tuple(f"3.{minor}" for minor in sorted(minors) if minor >= floor)[:6]

    def reached(self, roots: Iterable[int], project: str, situations: Sequence[Situation]) -> dict[int, int]:
        """The positions of the packages that are installed, each with the situations in which it is, as a bit mask.

        One pass for all situations: a walk for each would take a second in a large lock.
        """
        roots = [at for at in roots if at in self.nodes]
        active = [
            {_encoded("extra", project, name) for name in situation.selection.extras}
            | {_encoded("group", project, name) for name in situation.selection.groups}
            | {f"project-{len(project)}-{project}"}
            for situation in situations
        ]
        while True:
            reached, selected = self._pass(roots, _Masks(situations, active))
            more = False
            for (name, extra), mask in selected.items():
                for number, names in enumerate(active):
                    encoded = _encoded("extra", name, extra)
                    if mask >> number & 1 and encoded not in names:
                        names.add(encoded)
                        more = more or any(encoded in marker for marker in self._extra_markers())
            if not more:
                return reached

    def _extra_markers(self) -> set[str]:
        return {
            edge.marker
            for node in self.nodes.values()
            for edge in node.edges()
            if edge.marker and "extra" in edge.marker
        }

    def _pass(self, roots: Iterable[int], masks: "_Masks") -> tuple[dict[int, int], dict[tuple[str, str], int]]:
        """What is reached; and the extras that are asked for on the way, each with the situations."""
        found: dict[tuple[int, str], int] = {}
        selected: dict[tuple[str, str], int] = {}
        queue: deque[tuple[int, str]] = deque()
        waiting: set[tuple[int, str]] = set()

        def arrive(state: tuple[int, str], mask: int) -> None:
            before = found.get(state, 0)
            if mask & ~before:
                found[state] = before | mask
                if state not in waiting:
                    waiting.add(state)
                    queue.append(state)

        def follow(edges: Iterable[Edge], mask: int) -> None:
            for edge in edges:
                there = mask & masks.of(edge.marker) if edge.marker is not None else mask
                if not there:
                    continue
                for at, where in self._targets(edge, masks):
                    if here := there & where:
                        arrive((at, ""), here)
                        for extra in edge.extras:
                            arrive((at, extra), here)
                            selected[edge.name, extra] = selected.get((edge.name, extra), 0) | here

        for at in roots:
            arrive((at, ""), masks.all)
            for extra in self.nodes[at].extras:
                arrive((at, extra), masks.selecting("extra", extra))
            for group, edges in self.nodes[at].groups.items():
                follow(edges, masks.selecting("group", group))
        while queue:
            state = queue.popleft()
            waiting.discard(state)
            at, extra = state
            node = self.nodes[at]
            follow(node.extras.get(extra, ()) if extra else node.own, found[state])
        reached: dict[int, int] = {}
        for (at, _), mask in found.items():
            reached[at] = reached.get(at, 0) | mask
        return reached, selected

    def _targets(self, edge: Edge, masks: "_Masks") -> list[tuple[int, int]]:
        """The rows that an edge leads to, each with the situations in which it does."""
        rows = self.by_name.get(edge.name, [])
        if len(rows) > 1:
            packages = self.packages
            rows = [
                at
                for at in rows
                if (edge.version is None or packages[at].version == edge.version)
                and (edge.location is None or packages[at].location == edge.location)
            ]
        if len(rows) == 1:
            return [(rows[0], masks.all)]
        return [(at, masks.of_any(self.packages[at].resolution_markers)) for at in rows]


class _Masks:
    """The situations in which markers hold, as bit masks."""

    def __init__(self, situations: Sequence[Situation], active: Sequence[set[str]]) -> None:
        self.situations = situations
        self.all = (1 << len(situations)) - 1
        self.known: dict[str, int] = {}
        self.plain: dict[Environment, int] = {}
        self.full: list[Environment] = []
        for number, (situation, extras) in enumerate(zip(situations, active, strict=True)):
            environment = Environment(situation.platform, situation.python)
            self.plain[environment] = self.plain.get(environment, 0) | 1 << number
            self.full.append(environment._replace(extras=frozenset(extras)))

    def of(self, marker: str) -> int:
        """Where a marker holds."""
        mask = self.known.get(marker)
        if mask is None:
            if "extra" in marker:
                mask = sum(1 << number for number, environment in enumerate(self.full) if holds(marker, environment))
            else:
                mask = sum(bits for environment, bits in self.plain.items() if holds(marker, environment))
            self.known[marker] = mask
        return mask

    def of_any(self, markers: Iterable[str]) -> int:
        """Where one of them holds; everywhere if there are none."""
        found, some = 0, False
        for marker in markers:
            found |= self.of(marker)
            some = True
        return found if some else self.all

    def selecting(self, kind: str, name: str) -> int:
        """Where an extra or group of the project is selected."""
        mask = 0
        for number, (_, _, selection) in enumerate(self.situations):
            if name in (selection.extras if kind == "extra" else selection.groups):
                mask |= 1 << number
        return mask


def _encoded(kind: str, package: str, name: str) -> str:
    """How uv's markers name an extra or group of a package: `extra-4-demo-cpu`."""
    return f"{kind}-{len(package)}-{package}-{name}"


class _Raw(NamedTuple):
    """A package's lists of dependencies as text."""

    own: str
    extras: tuple[tuple[str, str], ...]
    groups: tuple[tuple[str, str], ...]

    def names(self) -> set[str]:
        found = set(_NAME.findall(self.own))
        for _, text in (*self.extras, *self.groups):
            found.update(_NAME.findall(text))
        return found

    def node(self, relevant: set[str]) -> Node:
        return Node(
            _edges(self.own, relevant),
            {name: _edges(text, relevant) for name, text in self.extras},
            {name: _edges(text, relevant) for name, text in self.groups},
        )


_NAME: Final = re.compile(r'\{ name = "([^"\\]+)"')


def _raw(package: Package) -> _Raw:
    if package.parsed is not None:
        tables = package.parsed
        return _Raw(
            _written(tables.get("dependencies", ())),
            tuple((name, _written(rows)) for name, rows in tables.get("optional-dependencies", {}).items()),
            tuple((name, _written(rows)) for name, rows in tables.get("dev-dependencies", {}).items()),
        )
    text = package.text
    own = ""
    start = text.find("\ndependencies = [")
    if start >= 0:
        end = text.find("\n", start + 1)
        if text[end - 1] == "[":
            end = text.find("\n]", start)
        own = text[start:end]
    return _Raw(own, _lists(text, "optional-dependencies"), _lists(text, "dev-dependencies"))


def _lists(text: str, table: str) -> tuple[tuple[str, str], ...]:
    start = text.find(f"\n[package.{table}]\n")
    if start < 0:
        return ()
    end = text.find("\n[package.", start + 1)
    rows = _LIST.findall(text[start : end if end >= 0 else len(text)])
    return tuple((normalize(name), rest) for name, rest in rows)


def _written(rows: Iterable[Mapping[str, object]]) -> str:
    """Parsed dependencies as uv writes them."""
    lines = []
    for row in rows:
        parts = [f'name = "{row["name"]}"']
        if "version" in row:
            parts.append(f'version = "{row["version"]}"')
        source = row.get("source")
        if isinstance(source, Mapping) and source:
            kind, location = next(iter(source.items()))
            parts.append(f'source = {{ {kind} = "{location}" }}')
        extras = row.get("extra")
        if isinstance(extras, list):
            parts.append("extra = [" + ", ".join(f'"{extra}"' for extra in extras) + "]")
        if "marker" in row:
            parts.append(f'marker = "{row["marker"]}"')
        lines.append("{ " + ", ".join(parts) + " }")
    return "\n".join(lines)


def _edges(text: str, relevant: set[str]) -> tuple[Edge, ...]:
    return tuple(
        Edge(
            match["name"],
            match["version"],
            match["location"],
            tuple(_STRING.findall(match["extras"] or "")),
            match["marker"],
        )
        for match in _EDGE.finditer(text)
        if match["name"] in relevant
    )

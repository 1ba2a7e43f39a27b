"""What can be asked of a pyproject.toml or a script's metadata, and what each request means for the parsed document.

An operation compiles, against the parsed document, to *changes* at exact paths. A change is made twice: on the plain
dictionaries here (`perform`) and on the text (`splice`); `apply` compares the two.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from uvtorch.backend import same_url
from uvtorch.edit.scan import Path
from uvtorch.edit.splice import PRUNED
from uvtorch.errors import ProjectError
from uvtorch.packages import normalize

Table = dict[str, Any]


class Target(NamedTuple):
    """A list of requirements: `base` (project.dependencies), or the `extra` or `group` called `name`."""

    kind: str
    name: str = ""
    package: str | None = None
    """In conflicts only: the workspace member that the extra or group belongs to."""


class Source(NamedTuple):
    """One entry of `tool.uv.sources`."""

    index: str  # type: ignore[assignment]  # uv's own name for it; nobody looks for a position in a source
    marker: str | None = None
    extra: str | None = None
    group: str | None = None


class SetIndex(NamedTuple):
    """An index of that name and URL exists; if it does already, nothing but `explicit` is touched."""

    name: str
    url: str
    explicit: bool = True
    flat: bool = False
    """A page of links, for an index that is yet to be written."""


class NameIndex(NamedTuple):
    """The index of that URL that has no name is called `name`."""

    url: str
    name: str


class RemoveIndex(NamedTuple):
    """No index of that name exists."""

    name: str


class SetSources(NamedTuple):
    """The package's sources are exactly these, in any order; none at all is `RemoveSources`."""

    package: str
    entries: tuple[Source, ...]


class RemoveSources(NamedTuple):
    """The package has no sources."""

    package: str


class AddRequirement(NamedTuple):
    """The target lists the requirement. A bare name is content with any requirement of that package."""

    target: Target
    requirement: str


class SetRequirement(NamedTuple):
    """The target lists the package once, as this requirement, which takes the place of those it had."""

    target: Target
    package: str
    requirement: str


class RemoveRequirement(NamedTuple):
    """The target does not list the package. The list itself stays."""

    target: Target
    package: str


class RemoveTarget(NamedTuple):
    """The target does not exist."""

    target: Target


class SetConflicts(NamedTuple):
    """`tool.uv.conflicts` is exactly these sets, in any order; none: the key is absent."""

    sets: tuple[tuple[Target, ...], ...]


class SetDefaultGroups(NamedTuple):
    """`tool.uv.default-groups` is these groups, `"all"`, or absent (None)."""

    groups: tuple[str, ...] | str | None


class SetPrerelease(NamedTuple):
    """`tool.uv.prerelease` is this value, or absent (None)."""

    value: str | None


class RequireEnvironments(NamedTuple):
    """What `tool.uv.environments` lists, `tool.uv.required-environments` lists instead, after what it has."""


Operation = (
    SetIndex
    | NameIndex
    | RemoveIndex
    | SetSources
    | RemoveSources
    | AddRequirement
    | SetRequirement
    | RemoveRequirement
    | RemoveTarget
    | SetConflicts
    | SetDefaultGroups
    | SetPrerelease
    | RequireEnvironments
)


class Put(NamedTuple):
    """The value at `path` is `value`; `wrap`: a list is written with one element a line."""

    path: Path
    value: object
    wrap: bool = False


class Drop(NamedTuple):
    """Nothing is at `path`."""

    path: Path


class Relist(NamedTuple):
    """The list at `path` consists of `steps`.

    Each is (old position, None), an item kept; (old position, new), one replaced; or (None, new), one appended. Old
    positions ascend and come before appended items.
    """

    path: Path
    steps: tuple[tuple[int | None, object], ...]


class AddTable(NamedTuple):
    """The array of tables at `path` has `table` as another element at its end."""

    path: Path
    table: Table


Change = Put | Drop | Relist | AddTable

_UV: Final = ("tool", "uv")
_NAME: Final = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*")


def changes(operation: Operation, data: Table, *, script: bool = False) -> list[Change]:
    """What the operation changes in the document `data`: nothing, where it already holds.

    Raises ProjectError where the document does not have the shape that uv reads, or the operation contradicts it.
    """
    match operation:
        case SetIndex():
            return _set_index(operation, data)
        case NameIndex(url, name):
            matches = [
                at
                for at, index in enumerate(_indexes(data))
                if index.get("name") is None and same_url(str(index.get("url")), url)
            ]
            return [Put((*_UV, "index", at, "name"), name) for at in matches[:1]]
        case RemoveIndex(name):
            found = [at for at, index in enumerate(_indexes(data)) if index.get("name") == name]
            return [Drop((*_UV, "index", at)) for at in reversed(found)]
        case SetSources(package, entries):
            return _set_sources(package, entries, data)
        case RemoveSources(package):
            return _set_sources(package, (), data)
        case AddRequirement(target, requirement):
            return _add_requirement(target, requirement, data, script)
        case SetRequirement(target, package, requirement):
            return _set_requirements(target, package, [requirement], data, script)
        case RemoveRequirement(target, package):
            return _set_requirements(target, package, [], data, script)
        case RemoveTarget(target):
            path = _target_path(target, data, script)
            return [Drop(path)] if _get(data, path) is not None else []
        case SetConflicts(sets):
            return _set_conflicts(sets, data)
        case SetDefaultGroups(groups):
            value = list(groups) if isinstance(groups, tuple) else groups
            return _set_key((*_UV, "default-groups"), value, data)
        case SetPrerelease(value):
            return _set_key((*_UV, "prerelease"), value, data)
        case RequireEnvironments():
            return _require_environments(data)


def perform(change: Change, data: Table) -> None:
    """Make the change on the plain document."""
    at: Any = data
    for key in change.path[:-1]:
        at = at[key] if isinstance(key, int) else at.setdefault(key, {})
    last = change.path[-1]
    match change:
        case Put(_, value):
            at[last] = value
        case Drop():
            del at[last]
        case AddTable(_, table):
            at.setdefault(last, []).append(table)
        case Relist(_, steps):
            old = at.get(last, [])
            at[last] = [old[index] if new is None and index is not None else new for index, new in steps]


def pruned(data: Table) -> Table:
    """The document without tables and lists that mean the same empty as absent; changes and returns it."""
    for path in (*PRUNED, (*_UV, "index"), _UV, ("tool",)):
        at: Any = data
        for key in path[:-1]:
            at = at.get(key, {}) if isinstance(at, dict) else {}
        if isinstance(at, dict) and at.get(path[-1]) in ({}, []):
            del at[path[-1]]
    return data


def _get(data: Table, path: Path) -> Any:
    """The value at `path`, None if there is none; every key before the last must lead to a table."""
    at: Any = data
    for position, key in enumerate(path):
        if at is None:
            return None
        if not isinstance(at, dict):
            raise ProjectError(f"{_dotted(path[:position])} is not a table")
        at = at.get(key)
    return at


def _table(data: Table, path: Path) -> Table:
    found = _get(data, path)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ProjectError(f"{_dotted(path)} is not a table")
    return found


def _list(data: Table, path: Path) -> list[Any]:
    found = _get(data, path)
    if found is None:
        return []
    if not isinstance(found, list):
        raise ProjectError(f"{_dotted(path)} is not a list")
    return found


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _spelled(table: Table, name: str, path: Path) -> str:
    """The key that means `name`, as the table spells it; `name` itself if none does."""
    found = [key for key in table if normalize(key) == normalize(name)]
    if len(found) > 1:
        raise ProjectError(f"{_dotted(path)} has {name} twice: {', '.join(found)}", "keep one of them")
    return found[0] if found else name


def _set_key(path: Path, value: object, data: Table) -> list[Change]:
    have = _get(data, path)
    if have == value:
        return []
    return [Drop(path)] if value is None else [Put(path, value)]


def _require_environments(data: Table) -> list[Change]:
    path, required = (*_UV, "environments"), (*_UV, "required-environments")
    have, wanted = _get(data, path), _get(data, required)
    if have is None:
        return []
    moved = [value if isinstance(value, list) else [value] for value in (wanted, have) if value is not None]
    return [Put(required, list(dict.fromkeys(marker for markers in moved for marker in markers))), Drop(path)]


def _indexes(data: Table) -> list[Table]:
    path = (*_UV, "index")
    found = _list(data, path)
    if not all(isinstance(index, dict) for index in found):
        raise ProjectError(f"{_dotted(path)} is not a list of tables")
    return found


def _set_index(operation: SetIndex, data: Table) -> list[Change]:
    path = (*_UV, "index")
    for at, index in enumerate(_indexes(data)):
        if index.get("name") == operation.name:
            url = index.get("url")
            if not isinstance(url, str) or not same_url(url, operation.url):
                raise ProjectError(
                    f"the index {operation.name} has another URL: {url}, not {operation.url}",
                    f"rename the index {operation.name} in tool.uv.index, or give it that URL",
                )
            if operation.explicit and index.get("explicit") is not True:
                return [Put((*path, at, "explicit"), True)]
            return []
    table: Table = {"name": operation.name, "url": operation.url}
    table |= {"format": "flat"} if operation.flat else {}
    table |= {"explicit": True} if operation.explicit else {}
    return [AddTable(path, table)]


def _set_sources(package: str, entries: tuple[Source, ...], data: Table) -> list[Change]:
    sources = _table(data, (*_UV, "sources"))
    path = (*_UV, "sources", _spelled(sources, package, (*_UV, "sources")))
    have = sources.get(path[-1])
    want = [
        {key: getattr(entry, key) for key in ("index", "extra", "group", "marker") if getattr(entry, key) is not None}
        for entry in entries
    ]
    if not want:
        return [] if have is None else [Drop(path)]
    if have is not None:
        items = have if isinstance(have, list) else [have]
        steps = _merge(items, want, _same_source)
        if _unchanged(steps, items):
            return []
        if isinstance(have, list) and have:
            return [Relist(path, steps)]
    return [Put(path, want, wrap=len(want) > 1)]


def _same_source(one: object, other: object) -> bool:
    return _source_meaning(one) == _source_meaning(other)


def _source_meaning(source: object) -> object:
    if not isinstance(source, dict):
        return source
    meaning = dict(source)
    for key, plain in (("marker", _squeezed), ("extra", normalize), ("group", normalize)):
        if isinstance(meaning.get(key), str):
            meaning[key] = plain(meaning[key])
    return meaning


def _squeezed(text: str) -> str:
    """A marker or a specifier without what does not count: spaces and the kind of quotes."""
    return "".join(text.split()).replace('"', "'")


def _merge(
    have: list[Any], want: list[Any], same: Callable[[object, object], bool]
) -> tuple[tuple[int | None, object], ...]:
    """The steps (see `Relist`) from one list to another whose order does not matter, keeping what is in both."""
    missing = list(want)
    kept: set[int] = set()
    for at, item in enumerate(have):
        for wanted in missing:
            if same(item, wanted):
                missing.remove(wanted)
                kept.add(at)
                break
    steps: list[tuple[int | None, object]] = []
    for at in range(len(have)):
        if at in kept:
            steps.append((at, None))
        elif missing:
            steps.append((at, missing.pop(0)))
    return (*steps, *((None, new) for new in missing))


def _unchanged(steps: tuple[tuple[int | None, object], ...], have: list[Any]) -> bool:
    return len(steps) == len(have) and all(new is None for _, new in steps)


def _target_path(target: Target, data: Table, script: bool) -> Path:
    if script:
        if target.kind != "base":
            raise ProjectError(f"a script has no {target.kind}s: {target.name}")
        return ("dependencies",)
    if target.kind == "group":
        table: Path = ("dependency-groups",)
        return (*table, _spelled(_table(data, table), target.name, table))
    if target.kind == "base":
        return ("project", "dependencies")
    table = ("project", "optional-dependencies")
    return (*table, _spelled(_table(data, table), target.name, table))


def _check_writable(path: Path, data: Table) -> None:
    """Raise ProjectError where pyproject.toml is not the place for this list of requirements."""
    if path[0] == "project":
        if "project" not in data:
            raise ProjectError("there is no [project] table", "`uv init --bare` writes one")
        if path[1] in _list(data, ("project", "dynamic")):
            raise ProjectError(f"project.{path[1]} is dynamic: its build backend says what it is, not pyproject.toml")


def _package(requirement: object) -> str | None:
    match = _NAME.match(requirement) if isinstance(requirement, str) else None
    return normalize(match[1]) if match else None


def _same_requirement(one: object, other: object) -> bool:
    return _package(one) == _package(other) is not None and _rest(str(one)) == _rest(str(other))


def _rest(requirement: str) -> str:
    """What follows the name."""
    return _squeezed(_NAME.sub("", requirement, count=1))


def _add_requirement(target: Target, requirement: str, data: Table, script: bool) -> list[Change]:
    path = _target_path(target, data, script)
    have = _list(data, path)
    for item in have:
        if _same_requirement(item, requirement) or (_package(item) == _package(requirement) and not _rest(requirement)):
            return []
    _check_writable(path, data)
    return [Relist(path, (*((at, None) for at in range(len(have))), (None, requirement)))]


def _set_requirements(target: Target, package: str, requirements: list[str], data: Table, script: bool) -> list[Change]:
    path = _target_path(target, data, script)
    have = _list(data, path)
    mine = [at for at, item in enumerate(have) if _package(item) == normalize(package)]
    merged = _merge([have[at] for at in mine], list(requirements), _same_requirement)
    if _unchanged(merged, mine):
        return []
    _check_writable(path, data)
    kept: dict[int, object] = {at: None for at in range(len(have)) if at not in mine}
    kept.update({mine[old]: new for old, new in merged if old is not None})
    return [Relist(path, (*sorted(kept.items()), *((None, new) for old, new in merged if old is None)))]


def _set_conflicts(sets: tuple[tuple[Target, ...], ...], data: Table) -> list[Change]:
    path = (*_UV, "conflicts")
    have = _list(data, path)
    if not sets:
        return [Drop(path)] if _get(data, path) is not None else []
    want = [[_conflict(target) for target in members] for members in sets]
    steps = _merge(have, want, _same_conflict)
    return [] if _unchanged(steps, have) else [Relist(path, steps)]


def _conflict(target: Target) -> Table:
    named = {} if target.kind == "base" else {target.kind: target.name}
    return ({"package": target.package} if target.package else {}) | named


def _same_conflict(one: object, other: object) -> bool:
    return _conflict_meaning(one) == _conflict_meaning(other)


def _conflict_meaning(members: object) -> object:
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        return None
    return {tuple(sorted((key, normalize(str(value))) for key, value in member.items())) for member in members}

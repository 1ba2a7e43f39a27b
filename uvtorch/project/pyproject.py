"""pyproject.toml and script metadata as something to edit: bytes in, bytes out."""

import copy
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence, Set
from typing import Any, Final, NoReturn

from uvtorch.backend import same_url
from uvtorch.errors import ProjectError
from uvtorch.packages import normalize
from uvtorch.project.model import BASE, GROUP, Item, Source, Target
from uvtorch.project.script import as_project, find_block
from uvtorch.project.tables import check
from uvtorch.requirement import understood

Keys = tuple[str, ...]

_UV: Final = ("tool", "uv")
_INDEX: Final = (*_UV, "index")
_SOURCES: Final = (*_UV, "sources")
_EXTRAS: Final = ("project", "optional-dependencies")
_GROUPS: Final = ("dependency-groups",)


class PyProject:
    """pyproject.toml, or a script's inline metadata block, in the file's own style.

    An edit says what shall hold, and touches nothing else; `render` brings the text in line with that. Raises
    ProjectError, naming `origin`: not UTF-8, not TOML, no script block, not the shape that uv reads (UsageError in
    `[tool.uvtorch]`); from an edit that harms.
    """

    def __init__(self, raw: bytes, origin: str = "pyproject.toml", *, script: bool = False) -> None:
        self.raw = raw
        self.script = script
        self._origin = origin
        self._block = find_block(raw, origin, script=script)
        self._before = self._block.parsed(origin)
        check(as_project(self._before) if script else self._before, origin)
        self._data = copy.deepcopy(self._before)

    def set_index(self, name: str, url: str, *, flat: bool = False) -> None:
        """An explicit index of that name and URL exists. One of that URL without a name gets this one.

        `flat`: a new one is a page of links.
        """
        named = [index for index in self._get(_INDEX) if index.get("name") == name]
        nameless = [index for index in self._get(_INDEX) if not index.keys() & {"name", "default"}]
        index = next(iter(named + [index for index in nameless if same_url(index.get("url"), url)]), None)
        if index is None:
            index = {"name": name, "url": url} | ({"format": "flat"} if flat else {})
            self.put(_INDEX, [*self._get(_INDEX), index])
        elif not same_url(index.get("url"), url):
            hint = f"rename the index {name} in tool.uv.index, or give it that URL"
            self._refuse(f"the index {name} has another URL: {index.get('url')}, not {url}", hint)
        index |= {"name": name, "explicit": True}

    def move_indexes(self, urls: Mapping[str, str], base: str) -> None:
        """The indexes of these names have these URLs; `[tool.uvtorch] index-base`, where there is one, is `base`."""
        for index in self._get(_INDEX):
            url = urls.get(index.get("name", ""))
            if url and not same_url(url, index.get("url")):
                index["url"] = url
        path = ("tool", "uvtorch", "index-base")
        if self._get(path):
            self.put(path, base)

    def remove_index(self, name: str) -> None:
        """No index of that name exists."""
        self.put(_INDEX, [index for index in self._get(_INDEX) if index.get("name") != name])

    def indexes_used(self, gone: Collection[str] = ()) -> set[str]:
        """The names of the indexes that sources name, but for those of the packages `gone`."""
        rows = [row for name, have in self._get(_SOURCES).items() if normalize(name) not in gone for row in _rows(have)]
        return {row["index"] for row in rows if "index" in row}

    def set_sources(self, package: str, entries: Sequence[Source], at: Collection[Target] | None = None) -> None:
        """The package's sources (`at`: those for these places) are exactly these, in any order."""
        path = self._spelled(_SOURCES, package)
        have = _rows(self._get(path))
        keys = ("index", "extra", "group", "marker")
        places = [Source(package, extra=row.get("extra"), group=row.get("group")).target for row in have]
        want = [row for row, place in zip(have, places, strict=True) if at is not None and place not in at]
        want += [{key: value for key in keys if (value := getattr(row, key)) is not None} for row in entries]
        if (merged := _merged(have, want, _meaning)) != have:
            self.put(path, merged or None)

    def remove_sources(self, package: str) -> None:
        """The package has no sources."""
        self.set_sources(package, ())

    def add_requirement(self, target: Target, text: str) -> None:
        """The target lists the requirement; for a bare name, any of that package."""
        path = self._target_path(target)
        meaning = _package if re.fullmatch(r"\s*[\w.-]+\s*", text) else understood
        if meaning(text) not in map(meaning, self._get(path)):
            self.put(path, [*self._get(path), text])

    def set_requirement(self, target: Target, package: str, *texts: str) -> None:
        """The target's requirements of the package are these."""
        path, package = self._target_path(target), normalize(package)
        have = self._get(path)
        merged = _merged(have, texts, understood, lambda item: _package(item) == package)
        if merged != [*have]:
            self.put(path, merged)

    def remove_requirement(self, target: Target, package: str) -> None:
        """The target does not list the package."""
        self.set_requirement(target, package)

    def leave_group(self, packages: Set[str]) -> None:
        """The group `uvtorch` lists none of these packages; with the last one it goes."""
        listed = self._get(self._target_path(GROUP))
        if listed and not self.script and {*map(_package, listed)} <= packages:
            self.remove_target(GROUP)
        else:
            for package in sorted(packages):
                self.remove_requirement(GROUP, package)

    def remove_target(self, target: Target) -> None:
        """The extra or group (or the project's list) does not exist."""
        self.put(self._target_path(target), None)

    def set_conflicts(self, sets: Sequence[Sequence[Item]]) -> None:
        """`tool.uv.conflicts` is exactly these sets, in any order; none: it is absent."""
        want = [
            [({"package": item.package} if item.package else {}) | {item.kind: item.name} for item in one]
            for one in sets
        ]
        path = (*_UV, "conflicts")
        self.put(path, _merged(self._get(path), want, _meaning) if sets else None)

    def exclude_from_defaults(self, targets: Iterable[Target]) -> None:
        """The groups among these are no default groups: uv refuses two that conflict."""
        gone, path = {target for target in targets if target.kind == "group"}, (*_UV, "default-groups")
        if gone and (have := self._get(path)):
            groups = self._get(_GROUPS) if have == "all" else have
            self.put(path, [name for name in groups if Target("group", name) not in gone])

    def put(self, path: Keys, value: object) -> None:
        """The value at `path` is this one; None: there is none."""
        table, key = self._get(path[:-1]), path[-1]
        if table.get(key) == value:
            return
        if value is None:
            del table[key]
            return
        if path[0] == "project" and "project" not in self._data:
            self._refuse("there is no [project] table", "`uv init --bare` writes one")
        if path[0] == "project" and path[1] in _rows(self._data["project"].get("dynamic")):
            self._refuse(f"project.{path[1]} is dynamic: its build backend says what it is, not pyproject.toml")
        table = self._data
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[key] = value

    def render(self) -> bytes:
        """The file as edited. ProjectError where tomlkit cannot, or the text would not mean what was asked."""
        if _pruned(self._before) == _pruned(self._data):
            return self.raw
        from uvtorch.project.document import Document  # noqa: PLC0415  tomlkit is for those who change something

        document = Document(self._block.text)
        try:
            document.change((), self._before, self._data)
            raw = self._block.with_text(str(document)).encode()
            written = find_block(raw, self._origin, script=self.script).parsed(self._origin)
        except Exception as error:  # whatever tomlkit raises
            where = ".".join(map(str, document.at)) or "that line"
            hint = f"write {where} as plain tables and lists, one key a line"
            self._refuse(f"{where} cannot be understood ({error})", hint)
        if _pruned(written) != _pruned(self._data):
            self._refuse("the result would not mean what was asked")
        return raw

    def _refuse(self, reason: str, *hints: str) -> NoReturn:
        raise ProjectError(f"cannot edit {self._origin} without harm: {reason}", *hints)

    def _get(self, path: Keys) -> Any:
        at: Any = self._data
        for key in path:
            at = at.get(key, {})
        return at

    def _spelled(self, table: Keys, name: str) -> Keys:
        return (*table, next((key for key in self._get(table) if normalize(key) == normalize(name)), name))

    def _target_path(self, target: Target) -> Keys:
        if not self.script:
            table = {"base": ("project",), "extra": _EXTRAS, "group": _GROUPS}[target.kind]
            return self._spelled(table, target.name or "dependencies")
        if target not in (BASE, GROUP):
            self._refuse(f"a script has no {target.kind}s: {target.name}")
        return ("dependencies",)


def _pruned(data: Any) -> Any:
    """What to compare: without empty tables and an empty list of indexes, which mean none. nan is nan."""
    if isinstance(data, list):
        return [*map(_pruned, data)]
    if not isinstance(data, dict):
        return repr(data)
    pruned = {key: _pruned(value) for key, value in data.items()}
    return {key: value for key, value in pruned.items() if value != {} and (key, value) != ("index", [])}


def _merged(
    have: Iterable[Any], want: Iterable[Any], meaning: Callable[[Any], Hashable], mine: Callable[[Any], bool] = bool
) -> list[Any]:
    """The list with what is wanted in the place of what is `mine`; what is in both stays as it is."""
    missing = {meaning(item): item for item in want}
    kept = [item if not mine(item) or missing.pop(meaning(item), None) else None for item in have]
    fresh = iter(missing.values())
    return [one for item in kept if (one := item or next(fresh, None))] + [*fresh]


def _rows(sources: Any) -> list[Any]:
    return sources if isinstance(sources, list) else [sources] if sources else []


def _meaning(entry: Any) -> Hashable:
    if isinstance(entry, list):
        return frozenset(map(_meaning, entry))
    plain = {key: re.sub(r"\s", "", str(value)).replace('"', "'") for key, value in entry.items()}
    return frozenset((key, value if key in ("index", "marker") else normalize(value)) for key, value in plain.items())


def _package(requirement: object) -> str | None:
    read = understood(requirement)
    return normalize(read.name) if read else None

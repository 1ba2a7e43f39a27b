"""pyproject.toml and script metadata as something to edit: bytes in, bytes out, nothing read or written.

Each method of `PyProject` says what shall hold. It changes the parsed document and the text in step; `render` lets
`tomllib` confirm that the text means what the document says.
"""

import copy
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from packaging.requirements import Requirement

from uvtorch.backend import same_url
from uvtorch.errors import ProjectError, UsageError
from uvtorch.packages import normalize
from uvtorch.project.model import BASE, GROUP, Item, Source, Target
from uvtorch.project.script import BOM, as_project, begin_script, find_block
from uvtorch.project.shape import check
from uvtorch.requirement import parse

Table = dict[str, Any]
Keys = tuple[str, ...]
_T = TypeVar("_T")

__all__ = ["PyProject", "SourceEntry", "begin_script", "restyled"]

_UV: Final = ("tool", "uv")
_INDEX: Final = (*_UV, "index")
_INDEX_BASE: Final = ("tool", "uvtorch", "index-base")
_SOURCES: Final = (*_UV, "sources")
_CONFLICTS: Final = (*_UV, "conflicts")
_EXTRAS: Final = ("project", "optional-dependencies")
_GROUPS: Final = ("dependency-groups",)
_PLAIN: Final[dict[str, Callable[[str], str]]] = {
    "marker": lambda text: "".join(text.split()).replace('"', "'"),
    **dict.fromkeys(("extra", "group", "package"), normalize),
}
"""What counts of a value; of others, all."""
_NAME: Final = re.compile(r"\s*[\w.-]+\s*")


class SourceEntry(NamedTuple):
    """One entry of `[tool.uv.sources]`."""

    index: str  # type: ignore[assignment]  # uv's own name for it; nobody looks for a position in a source
    marker: str | None = None
    extra: str | None = None
    group: str | None = None


class PyProject:
    """pyproject.toml, or a script's inline metadata block, as bytes in the file's own style.

    Edits are idempotent and touch nothing but what they are about. Raises ProjectError, naming `origin`: not UTF-8, not
    TOML, no script block, not the shape that uv reads (UsageError in `[tool.uvtorch]`); from an edit that harms.
    """

    def __init__(self, raw: bytes, origin: str = "pyproject.toml", *, script: bool = False) -> None:
        self.raw = raw
        self.script = script
        self._origin = origin
        self._block = find_block(raw, origin, script=script)
        self._before = self._block.parsed(origin, _number)
        check(as_project(self._before) if script else self._before, origin)
        self._data = copy.deepcopy(self._before)

    def set_index(self, name: str, url: str, explicit: bool = True, *, flat: bool = False) -> None:
        """An index of that name and URL exists; if it does already, nothing but `explicit` is touched.

        `flat`: it is a page of links, for an index that is yet to be written.
        """
        indexes = self._list(_INDEX)
        for index in indexes:
            if index.get("name") == name:
                have = index.get("url")
                if not have or not same_url(have, url):
                    self._refuse(
                        f"the index {name} has another URL: {have}, not {url}",
                        f"rename the index {name} in tool.uv.index, or give it that URL",
                    )
                if explicit and index.get("explicit") is not True:
                    index["explicit"] = True
                return
        table: Table = {"name": name, "url": url}
        table |= {"format": "flat"} if flat else {}
        table |= {"explicit": True} if explicit else {}
        self._put(_INDEX, [*indexes, table])

    def name_index(self, url: str, name: str) -> None:
        """The index of that URL that has no name is called `name`."""
        for index in self._list(_INDEX):
            if index.get("name") is None and same_url(str(index.get("url")), url):
                index["name"] = name
                return

    def move_index(self, name: str, url: str) -> None:
        """The index of that name has this URL."""
        for index in self._list(_INDEX):
            if index.get("name") == name and not same_url(str(index.get("url")), url):
                index["url"] = url

    def move_index_base(self, url: str) -> None:
        """`[tool.uvtorch] index-base` is this URL, where there is one."""
        if _INDEX_BASE[-1] in self._table(_INDEX_BASE[:-1]):
            self._put(_INDEX_BASE, url)

    def remove_index(self, name: str) -> None:
        """No index of that name exists."""
        indexes = self._list(_INDEX)
        indexes[:] = [index for index in indexes if index.get("name") != name]

    def indexes_used(self, gone: Collection[str] = ()) -> set[str]:
        """The names of the indexes that sources name, those of the packages `gone` left out."""
        sources = {name: rows for name, rows in self._table(_SOURCES).items() if normalize(name) not in gone}
        return {str(row["index"]) for rows in sources.values() for row in _rows(rows) if "index" in row}

    def set_sources(
        self,
        package: str,
        entries: Sequence[SourceEntry | Source],
        *,
        keeping: Callable[[Target], bool] = lambda _: False,
    ) -> None:
        """The package's sources are exactly these, in any order, after those for what is kept; none: it has none."""
        sources = self._table(_SOURCES)
        path = (*_SOURCES, self._spelled(sources, package, _SOURCES))
        have = sources.get(path[-1])
        keys = ("index", "extra", "group", "marker")
        kept = [row for row in _rows(have) if keeping(self._place(row))]
        want = kept + [{key: value for key in keys if (value := getattr(row, key)) is not None} for row in entries]
        whole = _merged(_rows(have), want, _meaning) if have else want
        if not want:
            self._put(path, None)
        elif whole not in (have, [have]):
            self._put(path, whole)

    def _place(self, source: Table) -> Target:
        """The extra or group that selects a source, as the file declares it; else the base."""
        for kind, path in (("extra", _EXTRAS), ("group", _GROUPS)):
            if name := source.get(kind):
                return Target(kind, self._spelled(self._table(path), name, path))  # type: ignore[arg-type]
        return BASE

    def remove_sources(self, package: str) -> None:
        """The package has no sources."""
        self.set_sources(package, ())

    def add_requirement(self, target: Target, text: str) -> None:
        """The target lists the requirement. A bare name is content with any requirement of that package."""
        path = self._target_path(target)
        have = self._list(path)
        meaning = _package if _NAME.fullmatch(text) else _requirement
        if meaning(text) not in map(meaning, have):
            self._put(path, [*have, text])

    def set_requirement(self, target: Target, package: str, *texts: str) -> None:
        """The target lists the package once, as this requirement, which takes the place of those it had."""
        path, package = self._target_path(target), normalize(package)
        have = self._list(path)
        want = _merged(have, texts, _requirement, lambda item: _package(item) == package)
        if want != have:
            self._put(path, want)

    def remove_requirement(self, target: Target, package: str) -> None:
        """The target does not list the package. The list itself stays."""
        self.set_requirement(target, package)

    def leave_group(self, packages: AbstractSet[str]) -> None:
        """The group `uvtorch` lists none of these packages; with the last one it goes."""
        listed = self._list(self._target_path(GROUP))
        if listed and not self.script and all(_package(item) in packages for item in listed):
            self.remove_target(GROUP)
            return
        for package in sorted(packages):
            self.remove_requirement(GROUP, package)

    def remove_target(self, target: Target) -> None:
        """The extra or group (or the project's list) does not exist. A script's list stays: it holds more."""
        path = self._target_path(target)
        if not self.script or target.kind == "base":
            self._put(path, None)

    def set_conflicts(self, sets: Sequence[Sequence[Item]]) -> None:
        """`tool.uv.conflicts` is exactly these sets, in any order; none: the key is absent."""
        want = [
            [({"package": item.package} if item.package else {}) | {item.kind: item.name} for item in one]
            for one in sets
        ]
        self._put(_CONFLICTS, _merged(self._list(_CONFLICTS), want, _meaning) if sets else None)

    def exclude_from_defaults(self, targets: Iterable[Target]) -> None:
        """These groups are no default groups; `"all"` is spelled out for that, as uv refuses two that conflict."""
        names = {normalize(target.name or "") for target in targets if target.kind == "group"}
        have = self._table(_UV).get("default-groups")
        if names and have:
            groups = self._table(_GROUPS) if have == "all" else have
            self.set_setting("default-groups", [name for name in groups if normalize(name) not in names])

    def set_setting(self, key: str, value: object) -> None:
        """The key of `[tool.uv]` has this value, or is absent (None)."""
        self._put((*_UV, key), value)

    def render(self) -> bytes:
        """The file as edited; `raw` itself where nothing changed.

        Raises ProjectError where tomlkit cannot make the change, where the text would not mean exactly what was asked,
        or would lose a comment.
        """
        if _pruned(self._before) == _pruned(self._data):
            return self.raw
        from uvtorch.project.document import Document  # noqa: PLC0415  tomlkit is for those who change something

        document, before = None, self._block.text
        try:
            document = Document(before.replace("\r\n", "\n"))
            document.change((), self._before, self._data)
            text = restyled(str(document).encode(), before.encode()).decode()
            written = tomllib.loads(text, parse_float=_number)
        except Exception as error:  # whatever tomlkit raises
            where = _dotted(document.at) if document else "that line"
            hint = f"write {where} as plain tables and lists, one key a line"
            self._refuse(f"{where} cannot be understood ({error})", hint)
        if _pruned(written) != _pruned(self._data):
            self._refuse("the result would not mean what was asked")
        return self._block.with_text(text).encode()

    def _refuse(self, reason: str, *hints: str) -> NoReturn:
        raise ProjectError(f"cannot edit {self._origin} without harm: {reason}", *hints)

    def _put(self, path: Keys, value: object) -> None:
        """The value at `path` is this one; None: there is none.

        Raises ProjectError where pyproject.toml is not the place for this list of requirements.
        """
        at = self._table(path[:-1])
        if at.get(path[-1]) == value:
            return
        if path[0] == "project" and value is not None and not self.script:
            if "project" not in self._data:
                self._refuse("there is no [project] table", "`uv init --bare` writes one")
            if path[1] in _rows(self._data["project"].get("dynamic")):
                field = f"project.{path[1]}"
                self._refuse(f"{field} is dynamic: its build backend says what it is, not pyproject.toml")
        at = self._data
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = value
        if value is None:
            del at[path[-1]]

    def _table(self, path: Keys) -> Table:
        """The table at `path`; an empty one if there is none."""
        at: Any = self._data
        for key in path:
            at = at.get(key, {})
        return at  # type: ignore[no-any-return]

    def _list(self, path: Keys) -> list[Any]:
        """The list at `path`; an empty one if there is none."""
        return self._table(path[:-1]).get(path[-1], [])  # type: ignore[no-any-return]

    def _spelled(self, table: Table, name: str, path: Keys) -> str:
        """The key that means `name`, as the table spells it; `name` itself if none does."""
        found = [key for key in table if normalize(key) == normalize(name)]
        if len(found) > 1:
            self._refuse(f"{_dotted(path)} has {name} twice: {', '.join(found)}", "keep one of them")
        return found[0] if found else name

    def _target_path(self, target: Target) -> Keys:
        name = target.name or ""
        if self.script:
            if target.kind != "base" and target != GROUP:
                self._refuse(f"a script has no {target.kind}s: {name}")
            return ("dependencies",)
        if target.kind == "base":
            return ("project", "dependencies")
        table = _GROUPS if target.kind == "group" else _EXTRAS
        return (*table, self._spelled(self._table(table), name, table))


def restyled(now: bytes, model: bytes) -> bytes:
    """`now` with the BOM and the line breaks of `model`, an earlier state of the same file.

    `uv add` writes every line break as LF and drops a BOM. Lines that are still there, or changed, get back the break
    they had, new ones the one that `model` mostly has. What is not UTF-8 is returned as it is.
    """
    if b"\r" not in model and not model.startswith(BOM.encode()):
        return now
    try:
        text, old = now.decode("utf-8-sig"), model.decode("utf-8-sig")
    except UnicodeDecodeError:
        return now
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    models = [line.removesuffix("\r") for line in old.split("\n")]
    breaks = [line[-1:] == "\r" for line in old.split("\n")]
    wanted = [old.count("\r\n") * 2 > old.count("\n")] * len(lines)
    for _, at, end, was, was_end in SequenceMatcher(None, lines, models, autojunk=False).get_opcodes():
        size = min(end - at, was_end - was, len(breaks) - 1 - was)  # what follows the last break has none to give
        wanted[at : at + size] = breaks[was : was + size]
    wanted[-1] = False
    bom = BOM if model.startswith(BOM.encode()) else ""
    return (bom + "\n".join(line + "\r" * cr for line, cr in zip(lines, wanted, strict=True))).encode()


def _number(text: str) -> tuple[str]:
    """A number with a point as its text in a tuple: it compares as written, and nan equals itself."""
    return (text,)


def _pruned(data: Table) -> Table:
    """The document without tables and lists that mean the same empty as absent."""
    data = copy.deepcopy(data)
    for path in (_SOURCES, _EXTRAS, _GROUPS, _INDEX, _UV, ("tool",)):
        at: Any = data
        for key in path[:-1]:
            at = at.get(key, {}) if isinstance(at, dict) else {}
        if isinstance(at, dict) and at.get(path[-1]) in ({}, []):
            del at[path[-1]]
    return data


def _dotted(path: Iterable[object]) -> str:
    return ".".join(map(str, path))


def _merged(
    have: Sequence[Any],
    want: Sequence[Any],
    meaning: Callable[[Any], object],
    mine: Callable[[Any], bool] = lambda _: True,
) -> list[Any]:
    """The list with what is wanted, in any order, in the place of what is `mine`; what is in both stays as it is."""
    missing = list(want)
    kept = [not mine(item) for item in have]
    for at, item in enumerate(have):
        same = next((one for one in missing if meaning(one) == meaning(item) is not None), None)
        if same is not None and not kept[at]:
            missing.remove(same)
            kept[at] = True
    merged = [item if kept[at] else missing.pop(0) for at, item in enumerate(have) if kept[at] or missing]
    return merged + missing


def _rows(sources: Any) -> list[Any]:
    """The entries of a package's sources, however they are written."""
    return sources if isinstance(sources, list) else [sources] if sources else []


def _meaning(entry: Any) -> object:
    """What an entry of sources or a conflict set says: spelling does not count, nor the order of a set."""
    if isinstance(entry, list):
        return set(map(_meaning, entry))
    return frozenset((key, _PLAIN.get(key, str)(value)) for key, value in entry.items())


def _requirement(text: object) -> Requirement | None:
    """What the text means; None where it is not a requirement, such as a group that includes another."""
    try:
        return parse(text) if isinstance(text, str) else None
    except UsageError:
        return None


def _package(requirement: object) -> str | None:
    read = _requirement(requirement)
    return normalize(read.name) if read else None

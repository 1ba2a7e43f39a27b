"""A TOML document as its lines, for edits that move nothing else: tomlkit is given the lines below each header alone.

In its own tree a comment above a header goes with the table before it, split tables lose what is appended, and arrays
lose comments.
"""

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from difflib import SequenceMatcher
from functools import cached_property
from itertools import count
from operator import add
from typing import Any, Final, NamedTuple, cast

import tomlkit
from tomlkit.items import Array, Comment, Null, Whitespace

from uvtorch.project.script import lines

Path = tuple[str | int, ...]
"""Where a value is: keys, and positions in arrays of tables."""

_INDEX: Final = ("tool", "uv", "index")
_LIKE: Final[dict[Path, Path]] = {("tool", "uv", "sources"): _INDEX, ("dependency-groups",): ("project", "")}
"""New tables that go where another would: sources above the indexes."""


class _Row(NamedTuple):
    """A header (the first one is empty), a pair (which has a value), or a comment or blank line (without a path)."""

    head: str
    path: Path | None = None
    table: Path = ()
    """The path of its header."""
    value: str = ""
    tail: str = ""

    @property
    def is_header(self) -> bool:
        return self.path is not None and not self.value

    @property
    def indent(self) -> str:
        return self.head[: len(self.head) - len(self.head.lstrip(" \t"))]


_BLANK: Final = _Row("\n")


class Document:
    """A valid TOML text, its line breaks LF. Raises what tomlkit raises, while it works on what is `at`."""

    def __init__(self, text: str) -> None:
        self.at: Path = ()
        self._open_end = bool(text) and not text.endswith("\n")
        self._text = text + "\n" * self._open_end

    @cached_property
    def _rows(self) -> list[_Row]:
        tables = [""]
        for line in lines(self._text):
            if re.match(r"[ \t]*\[.*\][ \t]*(#.*)?$", line):
                with suppress(ValueError):  # within a string or an array: what is above it is not whole
                    tomllib.loads(tables[-1])
                    tables.append("")
            tables[-1] += line
        rows, numbers = list[_Row](), count()
        for header, newline, body in [("", "", tables[0]), *(text.partition("\n") for text in tables[1:])]:
            path = _path(header, numbers)
            rows += [_Row(header + newline, path, path), *_below(path, body)]
        for line, now in zip(lines(self._text), lines(_joined(rows)), strict=False):
            if line != now:
                raise ValueError(f"`{line.strip()}` would not be kept as it is")
        return rows

    def __str__(self) -> str:
        return _joined(self._rows).removesuffix("\n" * self._open_end)

    def change(self, path: Path, old: Any, new: Any) -> None:
        """What is at `path` means `new` instead of `old`; None: there is nothing."""
        if old == new:
            return
        self.at = path
        for at, row in enumerate(self._rows):
            if row.value and row.path == path and new is not None:
                self._rows[at] = row._replace(value=_edited(row.value, row.indent, old, new))
                return
        old = old or type(new)()
        if path == _INDEX:
            stay, added = _aligned(old, new)
            old, new = dict(enumerate(old)), dict(enumerate([*stay, *added]))
        if isinstance(new, dict) and isinstance(old, dict):
            for key in {**old, **new}:
                self.change((*path, key), old.get(key), new.get(key))
        else:
            self._drop(path)
            if new is not None:
                self._add(path, new)

    def _add(self, path: Path, value: object) -> None:
        rows = self._rows
        beside = [at for at, row in enumerate(rows) if _within(row.path, path[:-1]) and _within(path, row.table)]
        at = beside[-1] if beside else self._begin(path[:-1])
        above, keys = rows[at], path[len(rows[at].table) :]
        text = f"{above.indent}{tomlkit.key(map(str, keys)).as_string()} = {written(value, above.indent)}\n"
        rows[at + 1 : at + 1] = [*_below(above.table, text), *[_BLANK] * (at == 0)]

    def _begin(self, path: Path) -> int:
        """A new header with blank lines around it. Comments right above the next one stay with that."""
        rows, at = self._rows, self._place(path)
        while at < len(rows) and rows[at - 1].head.lstrip().startswith("#"):
            at -= 1
        name = tomlkit.key([key for key in path if isinstance(key, str)]).as_string()
        header = _Row(f"[{name}]\n" if isinstance(path[-1], str) else f"[[{name}]]\n", path, path)
        gap = rows[at - 1].head.strip() != ""
        rows[at:at] = [*[_BLANK] * gap, header, *[_BLANK] * (at < len(rows))]
        return at + gap

    def _place(self, path: Path) -> int:
        """Where a new table goes: above those in it, else below the last of the nearest ones."""
        rows, like = self._rows, _LIKE.get(path, path)
        *headers, end = [at for at, row in enumerate(rows) if row.is_header] + [len(rows)]
        above = [at for at in headers if _within(rows[at].table, path) or _within(rows[at].table, like)]
        nearest = max(headers, key=lambda at: (sum(_within(rows[at].table, like[:n]) for n in range(len(like))), at))
        return [*above, *(at for at in headers if at > nearest), end][0]

    def _drop(self, path: Path) -> None:
        """Remove what is at `path`, however it is written, and a header that has no pair left below it."""
        ours = {row for row in self._rows if _within(row.path, path)}
        emptied = (
            {row.table for row in ours} - {row.table for row in self._rows if row.value and row not in ours} - {()}
        )
        kept: list[_Row] = []
        for row in self._rows:
            if row.is_header and row.table in emptied:
                kept[-1:] = [above for above in kept[-1:] if above.head.strip()]  # with the blank line above it
            elif row not in ours:
                kept.append(row)
        self._rows[:] = kept


def _edited(text: str, outer: str, old: Any, new: Any) -> str:
    if not isinstance(old, list) or not isinstance(new, list):
        return written(new, outer)
    values, gaps, comma = _taken_apart(text)
    if "\n" in text:
        return _edited_lines(values, gaps, comma, outer, old, new)
    if not isinstance((*old, 0)[0], str):
        return written(new, outer)
    known = dict(zip(map(repr, old), values, strict=True))
    texts = [known.get(repr(value)) or written(value) for value in new]
    return f"[{gaps[0]}{', '.join(texts)}{comma}{gaps[-1]}]" if new else "[]"


def _edited_lines(values: list[str], gaps: list[str], comma: str, outer: str, old: list[Any], new: list[Any]) -> str:
    """An array of several lines: an element a line, as uv does it, with the comments above and behind it."""
    indent = next((gap.rpartition("\n")[2] for gap in reversed(gaps[:-1]) if "\n" in gap), outer + "    ")
    ends = [*[indent] * len(values), outer]
    gaps = [gap if "\n" in gap else f"\n{end}" for gap, end in zip(gaps, ends, strict=True)]
    stay, added = _aligned(old, new)
    for at in reversed(range(len(old))):
        if stay[at] is None:
            gaps[at : at + 2] = [gaps[at].rpartition("\n")[0] + "\n" + gaps[at + 1].partition("\n")[2]]
            del values[at]
        elif stay[at] != old[at]:
            values[at] = written(stay[at], indent)
    for value in added:
        behind, _, below = gaps[-1].partition("\n")
        gaps[-1:] = [f"{behind}\n{indent}", f"\n{below}"]
        values.append(written(value, indent))
    return f"[{','.join(map(add, gaps, values))}{comma * bool(values)}{gaps[-1]}]"


def _taken_apart(array: str) -> tuple[list[str], list[str], str]:
    """The elements; what is before, between and behind them but for the commas; the comma behind the last."""
    values: list[str] = []
    gaps, comma = [""], ","
    for token in cast("Array", tomlkit.value(array))._iter_items():
        text = token.as_string()
        if not isinstance(token, Whitespace | Comment | Null):
            values.append(text)
            gaps.append("")
            comma = ""
        elif isinstance(token, Whitespace) and "," in text:
            gaps[-1] += text[:-1].rstrip(" \t")
            comma = ","
        else:
            gaps[-1] += text
    return values, gaps, comma


def _aligned(old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    """What becomes of each element of the old list (None: it goes), and what comes behind them."""
    stay = [None] * len(old)
    matcher = SequenceMatcher(None, [*map(repr, old)], [*map(repr, new)], autojunk=False)
    for _, low, high, new_low, new_high in matcher.get_opcodes():
        size = min(high - low, new_high - new_low)
        stay[low : low + size] = new[new_low : new_low + size]
    kept = len(old) - stay.count(None)
    return (stay, new[kept:]) if [*filter(None, stay)] == new[:kept] else ([None] * len(old), new)


def written(value: object, indent: str | None = None) -> str:
    """A value as TOML. With an indent, an array has an element a line, unless that is a single table."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{tomlkit.key(key).as_string()} = {written(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        if indent is None or not value or (len(value) == 1 and isinstance(value[0], dict)):
            return f"[{', '.join(map(written, value))}]"
        deeper = indent + "    "
        return "".join(["[\n", *(f"{deeper}{written(item, deeper)},\n" for item in value), indent, "]"])
    if isinstance(value, str) and '"' in value and "'" not in value and value.isprintable():  # that spares escapes
        return tomlkit.string(value, literal=True).as_string()
    return str(tomlkit.item(value).as_string())


def _below(table: Path, body: str) -> Iterator[_Row]:
    for pair in tomlkit.parse(body).body:
        alone = tomlkit.document()
        alone.body.append(pair)
        text = alone.as_string()
        if pair[0] is None:
            yield from (_Row(line, table=table) for line in lines(text))
        else:
            key, item = tomlkit.key_value(text)
            head, value = item.trivia.indent + key.as_string() + key.sep, item.as_string()
            yield _Row(head, (*table, *(part.key for part in key)), table, value, text[len(head + value) :])


def _path(header: str, numbers: Iterator[int]) -> Path:
    """The path of a header's table; indexes are numbered."""
    path: Path = ()
    table: Any = tomllib.loads(header)
    while table not in ({}, [{}]):
        ((key, table),) = table.items()
        path += (key,)
    return (*path, next(numbers)) if path == _INDEX else path


def _joined(rows: list[_Row]) -> str:
    return "".join(row.head + row.value + row.tail for row in rows)


def _within(path: Path | None, prefix: Path) -> bool:
    return path is not None and path[: len(prefix)] == prefix

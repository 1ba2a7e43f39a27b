"""A TOML document in tomlkit's hands, its tables laid out in one row, so that an edit moves nothing else.

In tomlkit's own tree a comment above a header belongs to the table before it, and goes with that; a table that is split
over the file is reached through a proxy that loses what is appended; a new table gets no blank line. So each header has
a name of its own while tomlkit parses and writes: no table is part of another, and between two headers there is a list
of pairs, comments and blank lines in the order of the file.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Array, Comment, InlineTable, Item, Key, Null, Table, Whitespace

Path = tuple[str | int, ...]
"""Where a value is: keys, and positions in lists."""

_Row = tuple[Key | None, Item]

_KEY: Final = r"""[ \t]*(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*"""
_KEYS: Final = rf"{_KEY}(?:\.{_KEY})*"
_HEADER: Final = re.compile(rf"(?m)^([ \t]*)(\[\[{_KEYS}\]\]|\[{_KEYS}\])(?=[ \t]*(?:#|$))")
"""What looks like a header. In a string or an array it is given back as it was too: its stand-in is a valid array."""
_STAND_IN: Final = "uvtorch-header-"
_UNIT: Final = re.compile(
    r"^([ \t]*)\S[^\n]*=[ \t]*\[[ \t]*(?:#[^\n]*)?\n(?:\s*#[^\n]*\n)*([ \t]*)[^\s\]#]", re.MULTILINE
)
_SOURCES: Final = ("tool", "uv", "sources")
_INDEX: Final = ("tool", "uv", "index")

_PRUNED: Final[tuple[Path, ...]] = (
    _SOURCES,
    ("project", "optional-dependencies"),
    ("dependency-groups",),
    ("tool", "uv"),
)
"""Tables whose header goes with their last pair: empty, they mean what absent ones mean."""

_BESIDE: Final[dict[Path, tuple[Path, ...]]] = {
    _INDEX: (_INDEX, _SOURCES, ("tool", "uv")),
    ("dependency-groups",): (("project",),),
}
"""Where a new table goes: after the last section below the first of these that has one. Others: after their parent."""


class _Section(NamedTuple):
    """A header and the pairs below it, as positions in the row; the root has no header."""

    path: Path
    start: int
    pairs: dict[int, Path]

    @property
    def end(self) -> int:
        """Behind its last pair."""
        return max(self.pairs, default=self.start if self.path else -1) + 1


class Document:
    """A valid TOML text to change, its line breaks LF. What tomlkit cannot take raises what tomlkit raises."""

    def __init__(self, text: str) -> None:
        self.at: Path = ()
        self._headers: list[str] = []
        self._open_end = bool(text) and not text.endswith("\n")
        self._rows = self._parsed(text + "\n" * self._open_end)
        units = (match[2].removeprefix(match[1]) for match in _UNIT.finditer(text))
        self._unit = next(filter(None, units), "    ")
        kept = zip(text.split("\n"), str(self).split("\n"), strict=True)
        if changed := next((number for number, (line, now) in enumerate(kept, 1) if line != now), None):
            raise ValueError(f"line {changed} would not be kept as it is")

    def __str__(self) -> str:
        whole = Container(True)
        whole.body.extend(self._rows)
        text = re.sub(rf'\["{_STAND_IN}(\d+)"\]', lambda match: self._headers[int(match[1])], whole.as_string())
        return text.removesuffix("\n") if self._open_end else text

    def change(self, path: Path, old: Any, new: Any) -> None:
        """What is at `path` means `new` and no longer `old`; None: there is nothing."""
        if old == new:
            return
        self.at = path
        at = self._pair_at(path)
        if old is None and (isinstance(new, dict) or path == _INDEX):
            old = type(new)()
        if new is None:
            self._drop(path)
        elif at is None and type(old) is type(new) is dict:
            for key in {**old, **new}:
                self.change((*path, key), old.get(key), new.get(key))
        elif not (type(old) is type(new) is list and self._change_list(path, old, new, at)):
            self._put(path, new, at)

    def _change_list(self, path: Path, old: list[Any], new: list[Any], at: int | None) -> bool:
        """Elements replaced where they were, removed, or added at the end; False where that does not lead to `new`."""
        stay: dict[int, Any] = {}
        matcher = SequenceMatcher(None, list(map(repr, old)), list(map(repr, new)), autojunk=False)
        for _, low, high, new_low, new_high in matcher.get_opcodes():
            stay.update(zip(range(low, high), new[new_low:new_high], strict=False))
        if list(stay.values()) != new[: len(stay)]:
            return False
        if at is None:
            for position in reversed(range(len(old))):
                self.change((*path, position), old[position], stay.get(position))
            for table in new[len(stay) :]:
                self._new_section("[[]]", path, "".join(self._pair((key,), value) for key, value in table.items()))
            return True
        before = _comments((None, token) for token in self._value(at)._iter_items())  # what is behind it stays
        array = _List(self._value(at), self._unit)
        for position in reversed(range(len(old))):
            if position not in stay:
                array.remove(position)
            elif old[position] != stay[position]:
                array.replace(position, stay[position])
        for value in new[len(stay) :]:
            array.append(value, wrap=_wraps(path, [*old, value]))
        if lost := before - _comments([(None, tomlkit.value(str(array)))]) - array.gone:
            raise ValueError(f"a comment would be lost: {next(iter(lost))}")
        self._set(at, str(array))
        return True

    def _put(self, path: Path, value: object, at: int | None) -> None:
        """The value at `path` written anew: in the pair at that position, or beside what is near."""
        if at is not None:
            self._set(at, written(value, self._value(at).trivia.indent, self._unit, wrap=_wraps(path, value)))
            return
        self._drop(path)
        beside = self._beside(path)
        if not beside:
            self._new_section("[]", path[:-1], self._pair(path[-1:], value, wrap=_wraps(path, value)))
            return
        indent = self._value(max(beside.pairs)).trivia.indent if beside.pairs else ""
        pair = self._pair(path[len(beside.path) :], value, indent, wrap=_wraps(path, value))
        if beside.path or beside.pairs:
            self._rows[beside.end : beside.end] = self._parsed(pair)
        else:
            self._spaced(self._tail(beside.end), pair)

    def _beside(self, path: Path) -> _Section | None:
        """The section for a new pair: that of its table, else one with dotted keys of that table, and only those."""
        found = None
        for section in self._sections():
            if section.path == path[:-1]:
                return section
            pairs = {at: pair for at, pair in section.pairs.items() if _within(pair, path[:-1])}
            if pairs and len(section.path) < len(path) - 1:
                found = section._replace(pairs=pairs)
        return found

    def _pair_at(self, path: Path) -> int | None:
        pairs = (pair for section in self._sections() for pair in section.pairs.items())
        return next((at for at, keys in pairs if keys == path), None)

    def _value(self, at: int) -> Any:
        _, rows, slot = _leaf(self._rows, at)
        return rows[slot][1]

    def _set(self, at: int, text: str) -> None:
        """Another value for a pair, with what stood around the old one."""
        _, rows, slot = _leaf(self._rows, at)
        value = tomlkit.value(text)
        value._trivia = rows[slot][1].trivia
        rows[slot] = rows[slot][0], value

    def _pair(self, keys: Path, value: object, indent: str = "", *, wrap: bool = False) -> str:
        return f"{indent}{tomlkit.key(map(str, keys)).as_string()} = {written(value, indent, self._unit, wrap=wrap)}\n"

    def _drop(self, path: Path) -> None:
        """What is at `path` removed, in whichever form it is written; comments above it stay."""
        for section in reversed(self._sections()):
            pairs = [at for at in section.pairs if _within(section.pairs[at], path)]
            others = [
                row for at, row in enumerate(self._rows[: section.end]) if at >= section.start and at not in pairs
            ]
            emptied = pairs and section.path in _PRUNED and not _comments(others) and len(pairs) == len(section.pairs)
            if emptied or (section.path and _within(section.path, path)):
                self._cut(section.start, section.end)
            else:
                for at in reversed(pairs):
                    self._cut(at, at + 1)

    def _new_section(self, kind: str, path: Path, pairs: str) -> None:
        """A new header with its pairs: contract 4 has the sources before the indexes, beside other tables of uv."""
        block = kind.replace("[]", f"[{tomlkit.key(map(str, path)).as_string()}]") + "\n" + pairs
        sections = self._sections()
        followers = [one for one in sections if _within(one.path, path) or (path, one.path[:-1]) == (_SOURCES, _INDEX)]
        if followers and kind == "[]":
            at = followers[0].start
            while self._is_comment(at - 1):
                at -= 1
            self._spaced(at, block)
            return
        for prefix in filter(None, _BESIDE.get(path, (path[:-1],))):
            ends = [one.end for one in sections if any(_within(at, prefix) for at in (one.path, *one.pairs.values()))]
            if ends:
                self._spaced(self._tail(ends[-1]), block)
                return
        self._spaced(len(self._rows), block)

    def _parsed(self, text: str) -> list[_Row]:
        """The rows of a text, whose headers are remembered."""

        def stand_in(header: re.Match[str]) -> str:
            self._headers.append(header[2])
            return f'{header[1]}["{_STAND_IN}{len(self._headers) - 1}"]'

        rows: list[_Row] = []
        for key, item in tomlkit.parse(_HEADER.sub(stand_in, text)).body:
            rows.append((key, item))
            if isinstance(item, Table) and key and not key.is_dotted():
                rows += item.value.body
                item.value.body.clear()
        return rows

    def _sections(self) -> list[_Section]:
        section = _Section((), 0, {})
        sections = [section]
        counts: Counter[Path] = Counter()
        for at, (key, _) in enumerate(self._rows):
            if key and key.key.startswith(_STAND_IN):
                header = self._headers[int(key.key.removeprefix(_STAND_IN))]
                path: Path = ()
                for name in tomlkit.key_value(header.strip("[]") + " = 0")[0]:
                    path += (counts[path] - 1, name.key) if path in counts else (name.key,)
                if header.startswith("[["):
                    counts[path] += 1
                    path += (counts[path] - 1,)
                section = _Section(path, at, {})
                sections.append(section)
            elif key:
                section.pairs[at] = section.path + _leaf(self._rows, at)[0]
        return sections

    def _tail(self, end: int) -> int:
        """The end of a section with the comment lines right below it, unless they run on into the next header."""
        at = end
        while self._is_comment(at):
            at += 1
        return at if self._is_blank(at) else end

    def _is_blank(self, at: int) -> bool:
        """Whether the row at that position is a blank line, or the text begins or ends there."""
        return not 0 <= at < len(self._rows) or isinstance(self._rows[at][1], Whitespace)

    def _is_comment(self, at: int) -> bool:
        return not self._is_blank(at) and isinstance(self._rows[at][1], Comment)

    def _spaced(self, at: int, text: str) -> None:
        """The rows of `text` inserted with a blank line on either side."""
        blank: list[_Row] = [(None, Whitespace("\n"))]
        above, below = blank[self._is_blank(at - 1) :], blank[self._is_blank(at) :]
        self._rows[at:at] = [*above, *self._parsed(text), *below]

    def _cut(self, start: int, end: int) -> None:
        """Rows removed, and with them one of the two blank lines that would meet."""
        if self._is_blank(end) and not start:
            end += 1
        elif self._is_blank(end) and self._is_blank(start - 1):
            start -= 1
        del self._rows[start:end]


@dataclass
class _Entry:
    """An element of an array with what stands around it."""

    lead: str
    """Between it and the one before: spaces, line breaks, lines of comments."""
    value: str
    comments: Counter[str] = field(default_factory=Counter)
    gap: str = ""
    """Between it and its comma."""
    tail: str = ""
    """The comment behind it on its line."""

    @property
    def on_own_line(self) -> bool:
        """Whether a line begins with it."""
        return "\n" in self.lead


class _List:
    """The elements of an array. tomlkit's own insertions and removals misplace comments, and with them commas."""

    def __init__(self, array: Array, unit: str) -> None:
        self._outer, self._unit = array.trivia.indent, unit
        self._many_lines = "\n" in array.as_string()
        self._entries: list[_Entry] = []
        self._trailing = False
        self.gone: Counter[str] = Counter()
        lead = ""
        for token in array._iter_items():
            text, last = token.as_string(), self._entries[-1] if self._entries else None
            if last and isinstance(token, Whitespace) and "," in text:
                last.gap, last.tail, lead = last.tail + lead + text[:-1], "", ""
                self._trailing = True
            elif last and isinstance(token, Comment) and "\n" not in lead:
                last.tail, lead = lead + text, ""
            elif isinstance(token, Whitespace | Comment | Null):
                lead += text
            else:
                self._entries.append(_Entry(lead, text, _comments([(None, token)])))
                self._trailing, lead = False, ""
        self._closing = lead

    def __str__(self) -> str:
        parts = ["["]
        for entry in self._entries:
            comma = entry.gap + "," if self._trailing or entry is not self._entries[-1] else ""
            parts += entry.lead, entry.value, comma, entry.tail
        if self._entries and self._entries[-1].tail and "\n" not in self._closing:
            parts.append("\n")
        return "".join([*parts, self._closing, "]"])

    def _indent(self, position: int) -> str:
        """The indentation of the line of an element, or of one to come."""
        leads = [entry.lead for entry in self._entries[: position + 1] if entry.on_own_line]
        comments_only = "" if self._entries else self._closing.lstrip("\n")
        if comments_only.lstrip().startswith("#"):
            return comments_only[: -len(comments_only.lstrip())]
        if leads:
            return leads[-1].rpartition("\n")[2]
        opened = position == len(self._entries) and (not self._entries or "\n" in self._closing)
        return self._outer + self._unit if opened else self._outer

    def replace(self, position: int, value: object) -> None:
        """Another value for an element."""
        entry = self._entries[position]
        self.gone += entry.comments
        entry.value = written(value, self._indent(position), self._unit, wrap=self._many_lines)

    def append(self, value: object, *, wrap: bool) -> None:
        """An element at the end, laid out as those before it; `wrap`: as uv does, the first opens up an empty list."""
        outgrown = len(self._entries) < 2 and not isinstance(value, str if self._entries else dict)
        if wrap and outgrown and not self._many_lines:
            for entry in self._entries:
                entry.lead = f"\n{self._outer}{self._unit}"
            self._closing, self._many_lines, self._trailing = f"\n{self._outer}", True, True
        indent = self._indent(len(self._entries))
        text = written(value, indent, self._unit, wrap=self._many_lines)
        above, line_break, below = self._closing.rpartition("\n")
        if self._entries:
            lead = f"\n{indent}" if self._many_lines else " "
        elif line_break:
            self._trailing = True
            lead, self._closing = f"{above}\n{indent}", "\n" + below
        else:
            lead = self._closing = ""
        self._entries.append(_Entry(lead, text))

    def remove(self, position: int) -> None:
        """An element removed with the comment behind it, unless others are on its line."""
        entry = self._entries.pop(position)
        closing = _Entry(self._closing, "")
        following = [*self._entries, closing][position]
        kept = entry.lead.rpartition("\n")[0] if entry.on_own_line else entry.tail
        if following.on_own_line or (following is closing and not kept.strip()):
            following.lead = kept + following.lead
        elif following is closing:
            following.lead = kept + ("\n" if entry.on_own_line else following.lead)
        elif entry.on_own_line or position == 0:
            following.lead = entry.lead
        if not self._entries and not closing.lead.strip() and not closing.on_own_line:
            closing.lead = ""
        self._closing = closing.lead
        self.gone += entry.comments + Counter([entry.tail.strip()] * entry.on_own_line)


def written(value: object, indent: str = "", unit: str = "    ", *, wrap: bool = False) -> str:
    """A value as TOML; `wrap`: lists with one element a line. A tuple holds a number as it is to be written."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{tomlkit.key(key).as_string()} = {written(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        if not wrap or not value:
            return "[" + ", ".join(map(written, value)) + "]"
        deeper = indent + unit
        lines = [f"{deeper}{written(item, deeper, unit, wrap=wrap)},\n" for item in value]
        return "".join(["[\n", *lines, indent, "]"])
    if isinstance(value, str):  # in single quotes where that saves escapes
        literal = '"' in value and "'" not in value and value.isprintable()
        return tomlkit.string(value, literal=literal).as_string()
    return str(value[0] if isinstance(value, tuple) else tomlkit.item(value).as_string())


def _wraps(path: Path, value: object) -> bool:
    """Whether the list is written with one element a line: not the short ones among uv's settings."""
    setting = path[:2] == _SOURCES[:2] and path[2:3] not in (("sources",), ("conflicts",))
    return isinstance(value, list) and not setting and (len(value) > 1 or not all(isinstance(i, dict) for i in value))


def _within(path: Path, prefix: Path) -> bool:
    """Whether `path` is `prefix` or lies below it."""
    return path[: len(prefix)] == prefix


def _leaf(rows: list[_Row], at: int) -> tuple[Path, list[_Row], int]:
    """The keys of a pair, and where its value is: behind dotted keys, tomlkit has it in tables of its own."""
    keys: Path = ()
    while True:
        key, item = rows[at]
        keys += (key.key,) if key else ()
        if not isinstance(item, Table):
            return keys, rows, at
        rows, at = item.value.body, 0


def _comments(rows: Iterable[_Row]) -> Counter[str]:
    """Every comment in the rows, and how often it is there."""
    found: Counter[str] = Counter()
    for _, item in rows:
        if not isinstance(item, Whitespace) and item.trivia.comment:
            found[item.trivia.comment] += 1
        if isinstance(item, Array):
            found += _comments((None, token) for token in item._iter_items())
        elif isinstance(item, Table | InlineTable):
            found += _comments(item.value.body)
    return found

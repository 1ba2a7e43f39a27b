"""Where everything stands in a TOML text: sections, pairs and values with their offsets.

Only for text that `tomllib` has accepted: it locates, it does not validate. No byte is copied or normalized, so an
edit is a splice of the original text. Reads TOML 1.1 too (line breaks in inline tables).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

Path = tuple[str | int, ...]
"""Where a value is in the parsed document: keys, and positions in arrays (of values or of tables)."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_SCALAR: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|[^,\]}#\s](?:[^,\]}#\r\n]*[^,\]}#\s])?",
    re.DOTALL,
)


class Value(NamedTuple):
    """A value's span. `kind` is `[` (array), `{` (inline table) or empty (anything else)."""

    kind: str
    start: int
    end: int
    items: "tuple[Item, ...]" = ()


class Item(NamedTuple):
    """An element of an array (no keys) or a pair of an inline table."""

    start: int
    keys: tuple[str, ...]
    value: Value
    comma: int | None
    """Offset of the comma that follows, None if none does."""


class Pair(NamedTuple):
    """A key and its value on lines of their own."""

    path: Path
    start: int
    """Start of its first line."""
    key_start: int
    value: Value
    end: int
    """Start of the line after it."""


class Section(NamedTuple):
    """A header and the pairs below it; the first section of a text is its root, which has no header."""

    path: Path
    """Ends in its position for an element of an array of tables."""
    start: int
    body: int
    """Start of the line after the header."""
    pairs: list[Pair]

    @property
    def end(self) -> int:
        """Start of the line after its last pair."""
        return self.pairs[-1].end if self.pairs else self.body


def within(path: Path, prefix: Path) -> bool:
    """Whether `path` is `prefix` or lies below it."""
    return path[: len(prefix)] == prefix


def line_end(text: str, position: int) -> int:
    """Start of the line after the one that `position` is on."""
    found = text.find("\n", position)
    return len(text) if found < 0 else found + 1


def line_start(text: str, position: int) -> int:
    """Start of the line that `position` is on."""
    return text.rfind("\n", 0, position) + 1


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _keys(text: str, position: int) -> tuple[tuple[str, ...], int]:
    """The dotted key at `position`, and the offset of what follows it and its spaces."""
    keys: list[str] = []
    while True:
        position = _skip(_SPACE, text, position)
        end = _skip(_KEY, text, position)
        key = text[position:end]
        if key[0] == "'":
            key = key[1:-1]
        elif key[0] == '"':
            key = _unquoted(key)
        keys.append(key)
        position = _skip(_SPACE, text, end)
        if text[position] != ".":
            return tuple(keys), position
        position += 1


def _unquoted(key: str) -> str:
    if "\\" not in key:
        return key[1:-1]
    import tomllib

    return str(tomllib.loads(f"key = {key}")["key"])


def _value(text: str, start: int) -> Value:
    kind = text[start]
    if kind not in "[{":
        return Value("", start, _skip(_SCALAR, text, start))
    items: list[Item] = []
    position = _skip(_BLANK, text, start + 1)
    while text[position] not in "]}":
        item_start = position
        keys: tuple[str, ...] = ()
        if kind == "{":
            keys, position = _keys(text, position)
            position = _skip(_BLANK, text, position + 1)
        value = _value(text, position)
        position = _skip(_BLANK, text, value.end)
        comma = None
        if text[position] == ",":
            comma = position
            position = _skip(_BLANK, text, position + 1)
        items.append(Item(item_start, keys, value, comma))
    return Value(kind, start, position + 1, tuple(items))


@lru_cache(maxsize=2)
def scan(text: str) -> tuple[Section, ...]:
    """The sections of a text in its order. The text ends in a line break or is empty."""
    section = Section((), 0, 0, [])
    sections = [section]
    counts: dict[Path, int] = {}
    position = _skip(_BLANK, text, 0)
    while position < len(text):
        start = line_start(text, position)
        if text[position] == "[":
            array = text[position + 1] == "["
            keys, position = _keys(text, position + 1 + array)
            path: Path = ()
            for key in keys[:-1]:
                path += (key,)
                if path in counts:
                    path += (counts[path] - 1,)
            path += (keys[-1],)
            if array:
                counts[path] = counts.get(path, 0) + 1
                path += (counts[path] - 1,)
            position = line_end(text, position)
            section = Section(path, start, position, [])
            sections.append(section)
        else:
            key_start = position
            keys, position = _keys(text, position)
            value = _value(text, _skip(_SPACE, text, position + 1))
            position = line_end(text, value.end)
            section.pairs.append(Pair(section.path + keys, start, key_start, value, position))
        position = _skip(_BLANK, text, position)
    return tuple(sections)

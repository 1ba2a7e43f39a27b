"""Changes to a TOML text as splices of it: every byte outside a change stays what and where it was.

Each function takes a text that ends in a line break (or is empty), as `scan` does, and returns the changed one. What
to change, and whether it may be changed at all, was decided before (`operations`).
"""

from typing import Final, NamedTuple

from uvtorch.edit.scan import Pair, Path, Section, Value, line_end, line_start, scan, within

PRUNED: Final[tuple[Path, ...]] = (
    ("tool", "uv", "sources"),
    ("project", "optional-dependencies"),
    ("dependency-groups",),
)
"""Tables whose header goes with their last pair: empty, they mean what absent ones mean."""

_BESIDE: Final[dict[Path, tuple[Path, ...]]] = {
    ("tool", "uv", "index"): (("tool", "uv", "index"), ("tool", "uv", "sources"), ("tool", "uv")),
    ("dependency-groups",): (("project",),),
}
"""Where a new table goes: after the last section below the first of these that has one. Others: after their parent."""


class _Spot(NamedTuple):
    """A value, and the array or inline table that holds it as the item at `position`, if one does."""

    value: Value
    holder: Value | None = None
    position: int = 0


def put(text: str, path: Path, value: object, *, wrap: bool = False) -> str:
    """The value at `path` replaced or added; `wrap` writes a list with one element a line."""
    spot = _locate(text, path)
    if spot:
        wrap = wrap and (spot.holder is None or _lines(text, spot.holder))
        rendered = _render(text, value, _indent(text, spot.value.start), wrap)
        return _splice(text, spot.value.start, spot.value.end, rendered)
    return _insert(drop(text, path), path, value, wrap)


def drop(text: str, path: Path) -> str:
    """What is at `path` removed, in whichever form it is written; comments above it stay."""
    spot = _locate(text, path)
    if spot and spot.holder:
        return _without_item(text, spot.holder, spot.position)
    emptied: Path | None = None
    spans = []
    for section in scan(text):
        if within(section.path, path):
            spans.append((section.start, section.end))
            continue
        pairs = [pair for pair in section.pairs if within(pair.path, path)]
        spans += [(pair.start, pair.end) for pair in pairs]
        if pairs and len(pairs) == len(section.pairs):
            emptied = section.path
    for start, end in reversed(spans):
        text = _cut(text, start, end)
    if not spans and (dotted := _dotted_item(text, path)):
        return drop(_without_item(text, *dotted), path)
    if emptied in PRUNED:
        for section in scan(text):
            header = text[section.start : line_end(text, section.body)]
            if section.path == emptied and not section.pairs and "#" not in header:
                return _cut(text, section.start, section.body)
    return text


def change_list(text: str, path: Path, steps: "tuple[tuple[int | None, object], ...]", whole: list[object]) -> str:
    """The list at `path` changed item by item (see `operations.Relist`), or written anew as `whole`.

    Items that stay keep their text, their comments and their order.
    """
    spot = _locate(text, path)
    wrap = len(whole) > 1 or not isinstance(whole[0], dict) if whole else False
    if not spot or spot.value.kind != "[":
        return put(text, path, whole, wrap=wrap)
    outgrown = len(spot.value.items) < len(whole) and not (spot.value.items and isinstance(whole[0], str))
    if outgrown and len(spot.value.items) < 2 and not spot.holder and not _lines(text, spot.value):
        return put(text, path, whole, wrap=wrap)
    kept = {old: new for old, new in steps if old is not None}
    for index in reversed(range(len(spot.value.items))):
        if index not in kept:
            text = drop(text, (*path, index))
    for index, new in enumerate(kept.values()):
        if new is not None:
            text = put(text, (*path, index), new, wrap=True)
    for old, new in steps:
        if old is None and (spot := _locate(text, path)):
            text = _with_item(text, spot.value, "", new, wrap=True)
    return text


def add_table(text: str, path: Path, table: dict[str, object]) -> str:
    """Another element at the end of the array of tables at `path`, in the form the array already has."""
    spot = _locate(text, path)
    if spot:
        return _with_item(text, spot.value, "", table)
    if any(_locate(text, path[:cut]) for cut in range(1, len(path))):
        return _insert(text, path, [table], wrap=False)
    body = "".join(f"{_key(key)} = {_render(text, value, '', wrap=False)}\n" for key, value in table.items())
    return _new_section(text, path, f"[[{_dotted(path)}]]\n{body}")


def line_break(text: str) -> str:
    """The line break that the text mostly has."""
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


def _locate(text: str, path: Path) -> _Spot | None:
    """The value that is written at exactly `path`; None for what is spread over sections or dotted keys."""
    for section in scan(text):
        if within(path, section.path):
            for pair in section.pairs:
                if within(path, pair.path):
                    return _descend(_Spot(pair.value), pair.path, path)
    return None


def _descend(spot: _Spot, at: Path, path: Path) -> _Spot | None:
    if at == path:
        return spot
    for index, item in enumerate(spot.value.items):
        below = at + (item.keys or (index,))
        if within(path, below):
            return _descend(_Spot(item.value, spot.value, index), below, path)
    return None


def _dotted_item(text: str, path: Path) -> tuple[Value, int] | None:
    """A pair of an inline table whose dotted key leads below `path`."""
    for cut in range(len(path) - 1, 0, -1):
        spot = _locate(text, path[:cut])
        if spot:
            for index, item in enumerate(spot.value.items):
                if within(item.keys, path[cut:]):
                    return spot.value, index
            return None
    return None


def _insert(text: str, path: Path, value: object, wrap: bool) -> str:
    """A pair at `path`, where nothing is yet."""
    for cut in range(len(path) - 1, 0, -1):
        holder = _locate(text, path[:cut])
        if holder:
            return _with_item(text, holder.value, f"{_dotted(path[cut:])} = ", value)
    beside: tuple[Section, Pair] | None = None
    for section in scan(text):
        if section.path == path[:-1]:
            return _insert_pair(text, section, path, value, wrap)
        if len(section.path) < len(path) - 1:
            for pair in section.pairs:
                if within(pair.path, path[:-1]):
                    beside = section, pair
    if beside:
        section, pair = beside
        return _insert_pair(text, section._replace(pairs=[pair]), path, value, wrap)
    body = f"{_key(path[-1])} = {_render(text, value, '', wrap)}\n"
    return _new_section(text, path[:-1], f"[{_dotted(path[:-1])}]\n{body}")


def _insert_pair(text: str, section: Section, path: Path, value: object, wrap: bool) -> str:
    """A pair after the last pair of `section`."""
    at = section.end if section.pairs or section.path else _tail(text, section)
    indent = _indent(text, section.pairs[-1].start if section.pairs else section.start)
    line = f"{indent}{_dotted(path[len(section.path) :])} = {_render(text, value, indent, wrap)}\n"
    if not section.path and not section.pairs:
        return _spaced(text, at, line)
    return _splice(text, at, at, line)


def _new_section(text: str, path: Path, block: str) -> str:
    """A new header with its pairs: contract 4 has the sources before the indexes, beside other tables of uv."""
    sections = scan(text)
    before = [path] if path != ("tool", "uv", "sources") else [path, ("tool", "uv", "index")]
    followers = [section for prefix in before for section in sections if within(section.path, prefix)]
    if followers and not block.startswith("[["):
        follower = followers[0]
        return _spaced(text, _head(text, sections[sections.index(follower) - 1].end, follower.start), block)
    for prefix in _BESIDE.get(path, (path[:-1],)):
        beside = [
            section
            for section in sections
            if prefix and (within(section.path, prefix) or any(within(pair.path, prefix) for pair in section.pairs))
        ]
        if beside:
            return _spaced(text, _tail(text, beside[-1]), block)
    return _spaced(text, len(text), block)


def _head(text: str, floor: int, start: int) -> int:
    """Start of the comment lines right above the header at `start`; what is before `floor` is no comment."""
    while start > floor and text[line_start(text, start - 1) : start].lstrip().startswith("#"):
        start = line_start(text, start - 1)
    return start


def _tail(text: str, section: Section) -> int:
    """End of a section with the comment lines right below it, unless they run on into the next header."""
    end = section.end
    while text[end : line_end(text, end)].lstrip().startswith("#"):
        end = line_end(text, end)
    return end if _blank_line(text, end) else section.end


def _blank_line(text: str, position: int) -> bool:
    """Whether the line at `position` is blank, or the text ends there."""
    return not text[position : line_end(text, position)].strip()


def _spaced(text: str, at: int, block: str) -> str:
    """`block` inserted with a blank line on either side."""
    if at and not _blank_line(text, line_start(text, at - 1)):
        block = "\n" + block
    if not _blank_line(text, at):
        block += "\n"
    return _splice(text, at, at, block)


def _cut(text: str, start: int, end: int) -> str:
    """Whole lines removed, and with them one of the two blank lines that would meet."""
    if _blank_line(text, end):
        if not start:
            end = line_end(text, end)
        elif _blank_line(text, line_start(text, start - 1)):
            start = line_start(text, start - 1)
    return text[:start] + text[end:]


def _lines(text: str, value: Value) -> bool:
    return "\n" in text[value.start : value.end]


def _with_item(text: str, holder: Value, key: str, value: object, *, wrap: bool = False) -> str:
    """An item at the end of an array or an inline table, laid out as those before it."""
    close = holder.end - 1
    if not _lines(text, holder):
        item = key + _render(text, value, "", wrap=False)
        if not holder.items:
            pad = " " if holder.kind == "{" else ""
            return _splice(text, holder.start + 1, close, f"{pad}{item}{pad}")
        last = holder.items[-1]
        if last.comma is None:
            return _splice(text, last.value.end, last.value.end, f", {item}")
        return _splice(text, last.comma + 1, last.comma + 1, f" {item},")
    first_line_end = line_end(text, holder.start)
    deeper = _indent(text, holder.start) + _unit(text)
    if not holder.items:
        comment = text[first_line_end:close].strip()
        indent = _indent(text, text.index(comment, first_line_end)) if comment else deeper
        at = line_start(text, close)
        return _splice(text, at, at, f"{indent}{key}{_render(text, value, indent, wrap)},\n")
    last = holder.items[-1]
    stop = last.value.end if last.comma is None else last.comma + 1
    indent = _indent(text, last.start) if last.start >= first_line_end else deeper
    item = key + _render(text, value, indent, wrap)
    if "\n" in text[stop:close]:
        at = line_end(text, stop)
        text = _splice(text, at, at, f"{indent}{item}{',' if last.comma is not None else ''}\n")
        return text if last.comma is not None else _splice(text, stop, stop, ",")
    lead = f"\n{indent}" if last.start >= first_line_end else " "
    return _splice(text, stop, stop, f",{lead}{item}" if last.comma is None else f"{lead}{item},")


def _without_item(text: str, holder: Value, index: int) -> str:
    """An item removed from an array or an inline table, with its comma and the comment behind it on its line."""
    item = holder.items[index]
    before = holder.items[index - 1] if index else None
    start = item.start
    end = item.value.end if item.comma is None else item.comma + 1
    last = index == len(holder.items) - 1
    comma = before.comma if before and last and item.comma is None else None
    line, rest = line_start(text, start), text[end : line_end(text, end)]
    if line > holder.start and not text[line:start].strip() and (rest.lstrip() + "#")[0] == "#" and rest.endswith("\n"):
        start, end = line, line_end(text, end)
    elif item.comma is None:
        floor = holder.start + 1 if comma is None else comma + 1
        if not text[floor:start].strip():
            start = floor
        start = floor + len(text[floor:start].rstrip(" \t"))
        end = end if before else end + len(text[end:]) - len(text[end:].lstrip(" \t"))
    else:
        end += len(text[end:]) - len(text[end:].lstrip(" \t"))
        if text[end] in "\r\n]}#":
            start = line + len(text[line:start].rstrip(" \t"))
            if text[end] == "#" and text[start - 1] == ",":
                end -= 1
    text = text[:start] + text[end:]
    return text if comma is None else text[:comma] + text[comma + 1 :]


def _splice(text: str, start: int, end: int, new: str) -> str:
    """`new` in place of a span, its line breaks the ones that the text mostly has."""
    return text[:start] + new.replace("\n", line_break(text)) + text[end:]


def _indent(text: str, position: int) -> str:
    """The spaces that the line of `position` begins with."""
    line = text[line_start(text, position) : line_end(text, position)]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    """One step of indentation, as the first list with an element on a line of its own has it."""
    for section in scan(text):
        for pair in section.pairs:
            value = pair.value
            if value.kind == "[" and value.items and value.items[0].start >= line_end(text, value.start):
                step = _indent(text, value.items[0].start).removeprefix(_indent(text, pair.start))
                if step:
                    return step
    return "    "


def _render(text: str, value: object, indent: str, wrap: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_render(text, item, '', False)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        if not wrap or not value:
            return "[" + ", ".join(_render(text, item, "", False) for item in value) + "]"
        deeper = indent + _unit(text)
        lines = "".join(f"{deeper}{_render(text, item, deeper, wrap)},\n" for item in value)
        return f"[\n{lines}{indent}]"
    return _string(str(value))


def _string(value: str) -> str:
    """A TOML string: in double quotes, or in single ones where that saves escapes."""
    if '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    value = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char >= " " and char != "\x7f" else f"\\u{ord(char):04x}" for char in value) + '"'


def _key(key: str | int) -> str:
    text = str(key)
    bare = text.replace("-", "").replace("_", "")
    return text if text and text.isascii() and (bare.isalnum() or not bare) else _string(text)


def _dotted(path: Path) -> str:
    return ".".join(_key(key) for key in path if isinstance(key, str))

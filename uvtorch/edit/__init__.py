"""Lossless edits of pyproject.toml and of script metadata: bytes in, bytes out, nothing read or written.

Comments, order, quoting, line breaks, a BOM and a missing last line break stay as they are. The text is spliced
rather than parsed and printed: no TOML library keeps every byte of what people write (CRLF, tables out of order).
`tomllib` vouches for the result.
"""

from collections.abc import Iterable
from typing import Any

from uvtorch.edit import splice
from uvtorch.edit.operations import (
    AddRequirement,
    AddTable,
    Change,
    Drop,
    NameIndex,
    Operation,
    Put,
    Relist,
    RemoveIndex,
    RemoveRequirement,
    RemoveSources,
    RemoveTarget,
    RequireEnvironments,
    SetConflicts,
    SetDefaultGroups,
    SetIndex,
    SetPrerelease,
    SetRequirement,
    SetSources,
    Source,
    Target,
    changes,
    perform,
    pruned,
)
from uvtorch.errors import ProjectError

__all__ = [
    "AddRequirement",
    "NameIndex",
    "Operation",
    "RemoveIndex",
    "RemoveRequirement",
    "RemoveSources",
    "RemoveTarget",
    "RequireEnvironments",
    "SetConflicts",
    "SetDefaultGroups",
    "SetIndex",
    "SetPrerelease",
    "SetRequirement",
    "SetSources",
    "Source",
    "Target",
    "apply",
    "apply_script",
    "begin_script",
    "restyled",
]

_BOM = "\ufeff"


def apply(raw: bytes, operations: Iterable[Operation], origin: str = "pyproject.toml") -> bytes:
    """The file with the operations applied in order; the same bytes where they already hold.

    Raises ProjectError, naming `origin`: not UTF-8, not TOML, not the shape that uv reads, an operation that
    contradicts the file, or a result that would not mean exactly what was asked or would change when done again.
    """
    text = _decoded(raw, origin)
    bom = _BOM if text.startswith(_BOM) else ""
    return (bom + _edited(text[len(bom) :], tuple(operations), origin)).encode()


def apply_script(raw: bytes, operations: Iterable[Operation], origin: str = "script.py") -> bytes:
    """The same for the `# /// script` block of a Python file (PEP 723); all outside the block is untouched.

    `Target("base")` is the block's `dependencies`; extras and groups are refused. Raises ProjectError as `apply`
    does, and where there is no block or more than one.
    """
    lines = _lines(_decoded(raw, origin))
    start, end = _block(lines, origin)
    old = lines[start:end]
    text = "".join(line[2:] if line.startswith("# ") else line[1:] for line in old)
    new = _edited(text, tuple(operations), origin, lines_above=start)
    if new == text:
        return raw
    from difflib import SequenceMatcher

    commented = ["#" + (" " + line if line.strip() else line) for line in _lines(new)]
    contents = _lines(text), _lines(new)
    # Lines that stay are taken from the file: a blank one may be written `#` or `# `.
    for _, low, high, new_low, new_high in SequenceMatcher(None, *contents, autojunk=False).get_opcodes():
        if contents[0][low:high] == contents[1][new_low:new_high]:
            commented[new_low:new_high] = old[low:high]
    return "".join([*lines[:start], *commented, *lines[end:]]).encode()


def begin_script(raw: bytes, python: str | None) -> bytes:
    """A script without a block with an empty one, where `uv add --script` begins it; `python`: its minor version."""
    text = _decoded(raw, "script")
    bom = _BOM if text.startswith(_BOM) else ""
    above, *below = _lines(text[len(bom) :]) or [""]
    if not above.startswith("#!"):
        above, below = "", [above, *below]
    newline = "\r\n" if "\r\n" in text else "\n"
    if above and not above.endswith("\n"):
        above += newline
    block = ["# /// script", "# dependencies = []", "# ///"]
    if python:
        block.insert(1, f'# requires-python = ">={python}"')
    if below and below[0].startswith("#"):
        block.append("")  # or the comment would go on
    return "".join([bom, above, *(row + newline for row in block), *below]).encode()


def restyled(raw: bytes, model: bytes) -> bytes:
    """`raw` with the BOM and the line breaks of `model`, an earlier state of the same file.

    `uv add` writes every line break as LF and drops a BOM. Lines that are still there get back the break they had, new
    ones the one that `model` mostly has. What is not UTF-8 is returned as it is.
    """
    if b"\r" not in model and not model.startswith(_BOM.encode()):
        return raw
    from difflib import SequenceMatcher

    try:
        text, old = raw.decode("utf-8-sig"), model.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    models = [line.removesuffix("\r") for line in old.split("\n")]
    breaks = [line[-1:] == "\r" for line in old.split("\n")]
    wanted = [splice.line_break(old) == "\r\n"] * len(lines)
    for at, was, size in SequenceMatcher(None, lines, models, autojunk=False).get_matching_blocks():
        size = min(size, len(breaks) - 1 - was)  # noqa: PLW2901  # what follows the last break has none to give
        wanted[at : at + size] = breaks[was : was + size]
    wanted[-1] = False
    bom = _BOM if model.startswith(_BOM.encode()) else ""
    return (bom + "\n".join(line + "\r" * cr for line, cr in zip(lines, wanted, strict=True))).encode()


def _decoded(raw: bytes, origin: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ProjectError(
            f"{origin} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start} (line {line})",
            "save it as UTF-8",
        ) from None


def _lines(text: str) -> list[str]:
    """The lines with their line breaks. Unlike `str.splitlines`, as TOML counts them: U+2028 and others end none."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


def _block(lines: list[str], origin: str) -> tuple[int, int]:
    """The lines between `# /// script` and its `# ///`, which is the last one in the run of comment lines."""
    bare = [line.rstrip("\r\n") for line in lines]
    found = []
    at = 0
    while at < len(bare):
        end = at + 1
        if bare[at] == "# /// script":
            while end < len(bare) and (bare[end] == "#" or bare[end].startswith("# ")):
                end += 1
            closing = [line for line in range(at + 1, end) if bare[line] == "# ///"]
            if closing:
                found.append((at + 1, closing[-1]))
                end = closing[-1] + 1
        at = end
    if not found:
        raise ProjectError(f"{origin} has no `# /// script` block", f"`uv init --script {origin}` writes one")
    if len(found) > 1:
        raise ProjectError(f"{origin} has {len(found)} `# /// script` blocks; Python allows one")
    return found[0]


def _parsed(text: str, origin: str) -> dict[str, Any]:
    """The document. Numbers with a point stay text: they compare as written, and nan equals itself."""
    import tomllib

    try:
        return tomllib.loads(text, parse_float=str)
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{origin} is not valid TOML: {error}") from None
    except RecursionError:
        raise ProjectError(f"{origin} is nested too deeply to be read") from None


def _edited(text: str, operations: tuple[Operation, ...], origin: str, lines_above: int = 0) -> str:
    """The edited text of a pyproject.toml, or of a script's block, which has lines of the script above it."""
    script = lines_above > 0
    data = _parsed("\n" * lines_above + text, origin)
    open_end = bool(text) and not text.endswith("\n")
    whole = text + splice.line_break(text) if open_end else text
    try:
        result = _run(whole, data, operations, script)
        if result == whole:
            return text
        written = _parsed(result, f"what would be written to {origin}")
        if pruned(written) != pruned(data):
            raise ProjectError("the result would not mean what was asked")
        if _run(result, written, operations, script) != result:
            raise ProjectError("doing the same again would change it again")
    except ProjectError as error:
        raise ProjectError(f"cannot edit {origin} without harm: {error}", *error.hints) from None
    return result.removesuffix("\n").removesuffix("\r") if open_end else result


def _run(text: str, data: dict[str, Any], operations: tuple[Operation, ...], script: bool) -> str:
    """The text with the operations applied, and `data` changed in step."""
    for operation in operations:
        for change in changes(operation, data, script=script):
            perform(change, data)
            text = _spliced(text, change, data)
    return text


def _spliced(text: str, change: Change, data: dict[str, Any]) -> str:
    match change:
        case Put(path, value, wrap):
            return splice.put(text, path, value, wrap=wrap)
        case Drop(path):
            return splice.drop(text, path)
        case AddTable(path, table):
            return splice.add_table(text, path, table)
        case Relist(path, steps):
            whole: Any = data
            for key in path:
                whole = whole[key]
            return splice.change_list(text, path, steps, whole)

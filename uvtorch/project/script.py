"""Where a file's TOML is: all of a pyproject.toml, or the `# /// script` block of a Python file (PEP 723)."""

import copy
import re
import tomllib
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS, roles
from uvtorch.requirement import named_by

BOM = "\ufeff"
_BLOCK = r"(?m)^\ufeff?# /// script\r?\n((?:#(?: [^\n]*)?\r?\n)*)(?=# ///\r?$)"
"""It ends with the last `# ///` in the run of comment lines."""


class Block(NamedTuple):
    """Where the TOML in a file's text is, and whether it is commented out."""

    file: str
    start: int
    end: int
    commented: bool

    @property
    def text(self) -> str:
        """The TOML, its line breaks LF."""
        text = self.file[self.start : self.end].replace("\r\n", "\n")
        return re.sub(r"(?m)^# ?", "", text) if self.commented else text

    def parsed(self, origin: str) -> dict[str, Any]:
        """What it says. Raises ProjectError where it is not TOML, with its line in the file."""
        fault = f"{origin}: its inline metadata is not TOML" if self.commented else f"{origin} is not TOML"
        try:
            data = tomllib.loads("\n" * self.file.count("\n", 0, self.start) + self.text)
            copy.deepcopy(data)  # dots in a key nest deeper than Python copies, and than uv reads (0.13.9 stops at 80)
        except ValueError as error:  # besides TOMLDecodeError: a number with more digits than Python reads
            raise ProjectError(f"{fault}: {error}") from None
        except RecursionError:
            raise ProjectError(f"{fault}: it is nested too deeply") from None
        return data

    def with_text(self, text: str) -> str:
        """The whole file with another TOML in the block.

        Lines that stay are taken from the file: a blank one may be commented out as `#` or `# `, line breaks may be
        mixed. Others get the line break of most lines.
        """
        new = lines(text)
        matches = SequenceMatcher(None, lines(self.text), new, autojunk=False).get_matching_blocks()
        if self.commented:
            new = ["# " + line if line.strip() else "#" + line for line in new]
        if self.file.count("\r\n") * 2 > self.file.count("\n"):
            new = [line.replace("\n", "\r\n") for line in new]
        as_they_are = lines(self.file[self.start : self.end])
        for at, start, size in matches:
            new[start : start + size] = as_they_are[at : at + size]
        return self.file[: self.start] + "".join(new) + self.file[self.end :]


def find_block(raw: bytes, origin: str, *, script: bool = False) -> Block:
    """The TOML of a file. Raises ProjectError: not UTF-8, and a script without just one block."""
    text = decoded(raw, origin)
    if not script:
        return Block(text, len(text) - len(text.removeprefix(BOM)), len(text), commented=False)
    found = _blocks(text)
    if not found:
        raise ProjectError(f"{origin} has no `# /// script` block", f"`uv init --script {origin}` writes one")
    if len(found) > 1:
        raise ProjectError(f"{origin} has {len(found)} `# /// script` blocks; Python allows one")
    return found[0]


def script_block(text: str) -> str | None:
    """The TOML in a script's first block."""
    return next((block.text for block in _blocks(text)), None)


def _blocks(text: str) -> list[Block]:
    return [Block(text, *match.span(1), commented=True) for match in re.finditer(_BLOCK, text)]


def begin_script(raw: bytes, python: str | None) -> bytes:
    """A script with an empty block, where `uv add --script` begins it. `python`: its minor version."""
    text = decoded(raw, "script").removeprefix(BOM).replace("\r\n", "\n")
    first, _, below = text.partition("\n") if text.startswith("#!") else ("", "", text)
    rows = [first, "# /// script", python and f'# requires-python = ">={python}"', "# dependencies = []", "# ///"]
    gap = "\n" * below.startswith("#")  # or the comment would go on
    return restyled(("".join(f"{row}\n" for row in rows if row) + gap + below).encode(), raw)


def restyled(now: bytes, model: bytes) -> bytes:
    """`now` (unless not UTF-8) with the BOM and line breaks of `model`, an earlier state: `uv add` drops them."""
    try:
        text = now.decode("utf-8-sig").replace("\r\n", "\n")
        return find_block(model, "").with_text(text).encode()
    except (UnicodeDecodeError, ProjectError):
        return now


def as_project(block: Mapping[str, object]) -> dict[str, object]:
    """The block as a project's tables.

    A script has no groups: the group `uvtorch` is among its dependencies. Triton is read as that group's, so that it
    comes and goes with its backend.
    """
    project = {key: block[key] for key in ("dependencies", "requires-python") if key in block}
    listed, companions = project.get("dependencies"), list[object]()
    if isinstance(listed, list):
        companions = [row for row in listed if roles().get(named_by(row) or "") == "companion"]
        project["dependencies"] = [row for row in listed if row not in companions]
    groups = {ANCHORS: companions} if companions else {}
    return {"project": project, "dependency-groups": groups, "tool": block.get("tool", {})}


def decoded(raw: bytes, origin: str) -> str:
    """The text of a file. Raises ProjectError where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = f"{origin} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}"
        raise ProjectError(fault, "save it as UTF-8") from None


def lines(text: str) -> list[str]:
    """The lines with their line breaks, as TOML counts them: unlike for `str.splitlines`, U+2028 ends none."""
    return re.findall(r"[^\n]*\n|[^\n]+$", text)

"""The `# /// script` block of a Python file (PEP 723): the TOML text that it comments out, and what it says."""

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import NamedTuple

from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS, roles
from uvtorch.requirement import named_by

BOM = "\ufeff"


_BLOCK = re.compile(r"^# /// script\r?\n((?:#(?: [^\n]*)?\r?\n)*)(?=# ///\r?$)", re.MULTILINE)
"""Its end is the last `# ///` in the run of comment lines; TOML counts lines by LF alone, not U+2028 and others."""


class Block(NamedTuple):
    """The block in the text of a file: where its own lines begin and end."""

    file: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """The TOML text."""
        return re.sub(r"(?m)^# ?", "", self.file[self.start : self.end])

    def with_text(self, text: str) -> str:
        """The whole file with another TOML text in the block; all outside stays."""
        commented = ["#" + (" " + line if line.strip() else line) for line in _lines(text)]
        lines, old, new = _lines(self.file[self.start : self.end]), _lines(self.text), _lines(text)
        # Lines that stay are taken from the file: a blank one may be written `#` or `# `.
        for at, start, size in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
            commented[start : start + size] = lines[at : at + size]
        return self.file[: self.start] + "".join(commented) + self.file[self.end :]


def find_block(text: str, origin: str) -> Block:
    """The block; ProjectError unless there is just one."""
    found = [Block(text, *match.span(1)) for match in _BLOCK.finditer(text)]
    if not found:
        raise ProjectError(f"{origin} has no `# /// script` block", f"`uv init --script {origin}` writes one")
    if len(found) > 1:
        raise ProjectError(f"{origin} has {len(found)} `# /// script` blocks; Python allows one")
    return found[0]


def script_block(text: str) -> str | None:
    """The TOML in a script's block, None where there is no such block."""
    text = text.replace("\r\n", "\n")
    match = _BLOCK.search(text)
    return Block(text, *match.span(1)).text if match else None


def begin_script(raw: bytes, python: str | None) -> bytes:
    """A script without a block with an empty one, where `uv add --script` begins it; `python`: its minor version."""
    text = decoded(raw, "script")
    bom = BOM if text.startswith(BOM) else ""
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


def as_project(block: Mapping[str, object]) -> dict[str, object]:
    """The block as a project's tables.

    A script has no groups: what uvtorch would name in the group `uvtorch` stands among its dependencies. Triton is read
    as that group's, so that it comes and goes with its backend.
    """
    project = {key: block[key] for key in ("dependencies", "requires-python") if key in block}
    dependencies = project.get("dependencies")
    groups: dict[str, object] = {}
    if isinstance(dependencies, list):
        names = roles()
        texts = [text for text in dependencies if isinstance(text, str)]
        companions = [text for text in texts if names.get(named_by(text) or "") == "companion"]
        if companions:
            project["dependencies"] = [text for text in dependencies if text not in companions]
            groups[ANCHORS] = companions
    return {"project": project, "dependency-groups": groups, "tool": block.get("tool", {})}


def decoded(raw: bytes, origin: str) -> str:
    """The text of a file; ProjectError with the place where it is not UTF-8."""
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
    return re.findall(r"[^\n]*\n|[^\n]+$", text)

"""Requirements that a command names in its words and files."""

import os
import tomllib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from uvtorch import files
from uvtorch.choose import Decision
from uvtorch.errors import UvtorchError
from uvtorch.locate import current_directory
from uvtorch.packages import normalize
from uvtorch.project import read
from uvtorch.project.script import script_block
from uvtorch.requirement import named_by, within, without_local
from uvtorch.session import Session


class Requested(NamedTuple):
    """A PyTorch package that the command line adds."""

    package: str
    """Normalized."""
    text: str
    position: int | None = None
    """Where it stands in `CommandLine.argv`; None: in a requirements file."""


def requested_by(session: Session) -> tuple[Requested, ...]:
    """The PyTorch packages that the words and the requirements files name."""
    line, directory = session.line, current_directory(session.line, session.env)
    rows: list[tuple[str, int | None]] = [*zip(line.positionals, line.positionals_at, strict=True)]
    for path in line.values("--requirements"):
        file = path if path == "-" else os.path.join(directory, path)
        rows += ((text, None) for text in requirements_in(file))
    named = (Requested(named_by(text) or "", text, position) for text, position in rows)
    return tuple(one for one in named if session.project.is_pinned(one.package))


def words_with(session: Session, requested: Sequence[Requested], decision: Decision) -> list[str]:
    """uv's arguments, PyTorch's requirements without local versions and within the decision's bounds."""
    words, bounds = [*session.line.argv], dict(decision.bounds)
    for item in requested:
        if item.position is not None:
            words[item.position] = within(without_local(item.text), bounds)
    return words


def requirements_in(path: str, keys: Collection[str] = ("base",), seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The requirements in a file as pip reads them, with those of `-r` files.

    pyproject.toml and scripts give what their metadata requires, pyproject.toml for `keys`: `base`, `extra NAME` (`*`:
    all), `group NAME`. A file that cannot be read gives nothing: uv says so better.
    """
    text = None if path in seen else files.text(path)
    if text is None:
        return
    if path.endswith((".toml", ".py")):
        yield from _metadata_requirements(path, text, keys)
        return
    for row in text.replace("\\\n", " ").splitlines():
        entry = row.partition(" #")[0].strip()
        if entry.startswith(("-r", "--requirement")):
            name = entry.removeprefix("--requirement").removeprefix("-r").lstrip(" =")
            yield from requirements_in(os.path.join(os.path.dirname(path), name), keys, seen | {path})
        elif entry and not entry.startswith(("#", "-")):
            yield entry.partition(" --")[0].rstrip()


def _metadata_requirements(path: str, text: str, keys: Collection[str]) -> Iterator[str]:
    script = path.endswith(".py")
    try:
        data = tomllib.loads((script_block(text) or "") if script else text)
        project = read({"project": data} if script else data)
    except (tomllib.TOMLDecodeError, UvtorchError):
        return
    named = {*map(normalize, keys)}
    for item in project.requirements:
        if not named.isdisjoint((normalize(str(item.target)), f"{item.target.kind} *")):
            yield item.text

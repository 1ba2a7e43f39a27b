"""The PyTorch packages that an `add` names, and uv's arguments for them."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from uvtorch.choose import Decision
from uvtorch.locate import current_directory
from uvtorch.requirement import named_by, within, without_local
from uvtorch.requirements_file import requirements_in
from uvtorch.session import Session


class Requested(NamedTuple):
    """A PyTorch package that the command line adds."""

    package: str
    """Normalized."""
    text: str
    position: int | None = None
    """Where it stands in `CommandLine.argv`; None: in a requirements file."""


def requested_by(session: Session) -> tuple[Requested, ...]:
    """The PyTorch packages among the requirements and in the requirements files."""
    line, project = session.line, session.project
    directory = current_directory(line, session.env)
    files = (os.path.join(directory, path) for path in line.values("--requirements"))
    rows: list[tuple[str, int | None]] = [*zip(line.positionals, line.positionals_at, strict=True)]
    rows += ((text, None) for path in files for text in requirements_in(path))
    named = ((named_by(text) or "", text, position) for text, position in rows)
    return tuple(Requested(*row) for row in named if project.is_pinned(row[0]))


def words_with(session: Session, requested: Sequence[Requested], decision: Decision | None) -> list[str]:
    """The arguments for uv, the PyTorch requirements without local versions and within the decision's bounds."""
    words = [*session.line.argv]
    bounds = dict(decision.bounds) if decision else {}
    for item in requested:
        if item.position is not None:
            words[item.position] = within(without_local(item.text), bounds)
    return words

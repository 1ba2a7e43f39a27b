"""What is wrong with a project, why it matters, and what fixes it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from uvtorch.project.pyproject import PyProject

Command = tuple[str, ...]
FIX: Command = ("uvtorch", "torch", "doctor", "--fix")
"""The command for what edits of pyproject.toml and another lock fix."""

ROOT = "{root}"
"""In a command: the directory of the workspace's root, which only the caller knows."""

FIX_ROOT: Command = ("uvtorch", "--project", ROOT, "torch", "doctor", "--fix")
"""The same for what stands in the pyproject.toml of the workspace's root."""

USE: Command = ("uvtorch", "torch", "use")

Edits = Mapping[str, Callable[[PyProject], None]]
"""Changes of pyproject.toml, by the package or the `index NAME` whose entry they replace."""

NO_EDITS: Final[Edits] = MappingProxyType({})


class Finding(NamedTuple):
    """One thing that is wrong."""

    code: str  # Stable, for programs: `mixed-builds`
    severity: Literal["error", "warning"]
    """`error`: an environment does not work, or not everywhere; `warning`: it works by luck, or leaves a GPU idle."""
    message: str  # What is wrong and why it matters, in sentences
    command: Command | None = None  # The argv of what fixes it; None where a person has to decide
    edits: Edits = NO_EDITS
    """With `command` `FIX`: the edits of pyproject.toml, after which the project is locked again."""
    upgrade: tuple[str, ...] = ()
    """With `command` `FIX`: what to resolve again, as values of `uv lock --upgrade-package`."""

    @property
    def fixable(self) -> bool:
        """Whether `doctor --fix` fixes it, in pyproject.toml and uv.lock alone."""
        return bool(self.edits or self.upgrade)


def error(
    code: str, message: str, edits: Edits = NO_EDITS, upgrade: tuple[str, ...] = (), fix: Command | None = None
) -> Finding:
    """An error that a command fixes, or these edits and another resolution; for a person to decide without either."""
    return Finding(code, "error", message, fix or (FIX if edits or upgrade else None), edits, upgrade)


def warning(code: str, message: str, edits: Edits = NO_EDITS, fix: Command | None = None) -> Finding:
    """The same as a warning."""
    return error(code, message, edits, fix=fix)._replace(severity="warning")

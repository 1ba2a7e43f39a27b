"""Edits as tuples, so that tests can list them, repeat them and ask what they speak of."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from uvtorch.project import model
from uvtorch.project.model import Item, Target
from uvtorch.project.pyproject import PyProject


class Source(NamedTuple):
    index: str  # type: ignore[assignment]  # nobody looks for a position in a source
    marker: str | None = None
    extra: str | None = None
    group: str | None = None


class SetIndex(NamedTuple):
    name: str
    url: str
    flat: bool = False


class RemoveIndex(NamedTuple):
    name: str


class SetSources(NamedTuple):
    package: str
    entries: tuple[Source, ...]


class RemoveSources(NamedTuple):
    package: str


class AddRequirement(NamedTuple):
    target: Target
    requirement: str


class SetRequirement(NamedTuple):
    target: Target
    package: str
    requirement: str


class RemoveRequirement(NamedTuple):
    target: Target
    package: str


class RemoveTarget(NamedTuple):
    target: Target


class SetConflicts(NamedTuple):
    sets: tuple[tuple[Item, ...], ...]


class SetDefaultGroups(NamedTuple):
    groups: tuple[str, ...] | str | None


class SetPrerelease(NamedTuple):
    value: str | None


Operation = (
    SetIndex
    | RemoveIndex
    | SetSources
    | RemoveSources
    | AddRequirement
    | SetRequirement
    | RemoveRequirement
    | RemoveTarget
    | SetConflicts
    | SetDefaultGroups
    | SetPrerelease
)

_METHODS: dict[type, Callable[..., None]] = {
    SetIndex: PyProject.set_index,
    RemoveIndex: PyProject.remove_index,
    RemoveSources: PyProject.remove_sources,
    AddRequirement: PyProject.add_requirement,
    SetRequirement: PyProject.set_requirement,
    RemoveRequirement: PyProject.remove_requirement,
    RemoveTarget: PyProject.remove_target,
    SetConflicts: PyProject.set_conflicts,
}


def apply(
    raw: bytes, operations: Iterable[Operation], origin: str = "pyproject.toml", *, script: bool = False
) -> bytes:
    """The file with the edits made in order."""
    project = PyProject(raw, origin, script=script)
    for operation in operations:
        match operation:
            case SetIndex(name, url, flat):
                project.set_index(name, url, flat=flat)
            case SetSources(package, entries):
                project.set_sources(package, [model.Source(package, **entry._asdict()) for entry in entries])
            case SetDefaultGroups(groups):
                project.put(("tool", "uv", "default-groups"), list(groups) if isinstance(groups, tuple) else groups)
            case SetPrerelease(value):
                project.put(("tool", "uv", "prerelease"), value)
            case _:
                _METHODS[type(operation)](project, *operation)
    return project.render()


def apply_script(raw: bytes, operations: Iterable[Operation], origin: str = "script.py") -> bytes:
    """The same in a script's block."""
    return apply(raw, operations, origin, script=True)

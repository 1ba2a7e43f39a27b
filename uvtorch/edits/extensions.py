"""Packages compiled against torch: taken from the index with their builds, explicitly; and taken out again."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from uvtorch import cuda_extensions
from uvtorch.backend import Backend
from uvtorch.cuda_extensions import Extensions, Index
from uvtorch.edits.pin import GROUP
from uvtorch.project import Choice, Project
from uvtorch.project.pyproject import PyProject, SourceEntry


class Found(NamedTuple):
    """Where an extension is taken from."""

    package: str
    """Normalized."""
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    version: str
    """What the index has; for one page with every build, what has to be named."""


def take(
    file: PyProject,
    project: Project,
    found: Sequence[Found],
    backend: Backend,
    torch: str,
    base: str,
    choice: Choice | None = None,
) -> None:
    """Take extensions from their indexes, for one backend choice or for all, and keep torch at its minor release.

    The source has no marker: where the index has no wheel uv says so, instead of building PyPI's on that platform.
    """
    for item in found:
        url = item.index.located(backend, torch, base)
        name = item.index.written_name(backend, torch)
        name = next((one.name for one in project.indexes if one.name and one.url.rstrip("/") == url.rstrip("/")), name)
        entry = SourceEntry(name)
        file.set_sources(item.package, [entry._replace(**{choice.kind: choice.name or ""}) if choice else entry])
        file.set_index(name, url, flat=item.index.flat)
        if item.index.builds:
            file.set_requirement(GROUP, item.package, f"{item.package}=={item.version}")
    if not all(item.index.declares for item in found):
        file.set_requirement(GROUP, "torch", f"torch=={torch}.*")


def remove(file: PyProject, project: Project, env: Mapping[str, str], gone: set[str]) -> None:
    """The edits beside `uv remove` of extensions: indexes that uvtorch wrote for them, bounds that they needed."""
    table = cuda_extensions.table(env)
    leaving = gone & table.packages.keys()
    if not leaving:
        return
    kept = {source.index for source in project.sources if source.package not in leaving}
    used = {source.index for source in project.sources if source.package in leaving} - kept
    for one in project.indexes:
        if one.name and one.name in used and not one.inherited and table.wrote(one.name, one.url):
            file.remove_index(one.name)
    for package in [item.package for item in project.requirements if item.target == GROUP]:
        if package in leaving:
            file.remove_requirement(GROUP, package)
    if used and not any(_is_silent(table, index) for index in kept if index):
        _free_torch(file, project, leaving)


def _is_silent(table: Extensions, name: str) -> bool:
    """Whether the wheels of an index that uvtorch wrote do not say which torch they need."""
    index = table.indexes.get(name.partition("-")[0])
    return index is not None and not index.declares


def _free_torch(file: PyProject, project: Project, leaving: AbstractSet[str]) -> None:
    """Take out the exact release of torch that extensions without a word of their own needed."""
    grouped = [item for item in project.requirements if item.target == GROUP and item.package not in leaving]
    if not any(item.package == "torch" and "==" in item.text for item in grouped):
        return
    if not any(one.package == "torch" and one.target != GROUP for one in project.requirements):
        file.set_requirement(GROUP, "torch", "torch")
    elif len(grouped) == 1:
        file.remove_target(GROUP)
    else:
        file.remove_requirement(GROUP, "torch")

"""Packages compiled against torch: taken from the index with their builds, explicitly; and taken out again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from uvtorch import cuda_extensions
from uvtorch.backend import Backend, same_url
from uvtorch.cuda_extensions import Index
from uvtorch.project import Choice, Project
from uvtorch.project.model import GROUP
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
        known = (one.name for one in project.indexes if one.name and same_url(one.url, url))
        name = next(known, item.index.written_name(backend, torch))
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
    kept = file.indexes_used(leaving)
    left = {source.index for source in project.own_sources if source.package in leaving} - kept
    for name in left & project.own_indexes.keys():
        if name and table.wrote(name, project.own_indexes[name].url):
            file.remove_index(name)
    file.leave_group(leaving)
    # Wheels of some indexes do not say which torch they need: that release stays as long as one of them is there.
    silent = {name for name, index in table.indexes.items() if not index.declares}
    exact = any(item.package == "torch" and "==" in item.text for item in project.grouped)
    if exact and left and silent.isdisjoint(name.partition("-")[0] for name in kept):
        if "torch" in project.pytorch_direct:
            file.leave_group({"torch"})
        else:
            file.set_requirement(GROUP, "torch", "torch")

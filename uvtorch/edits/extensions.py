"""Packages compiled against torch: taken from the index with their builds, explicitly; and taken out again."""

from collections.abc import Mapping, Sequence

from uvtorch import cuda_extensions
from uvtorch.backend import same_url
from uvtorch.cuda_extensions import Found
from uvtorch.project import Choice, Project
from uvtorch.project.model import GROUP
from uvtorch.project.pyproject import PyProject, SourceEntry


def take(file: PyProject, project: Project, found: Sequence[Found], torch: str, choice: Choice | None = None) -> None:
    """Take extensions from their indexes, for one backend choice or for all, and keep torch at its minor release.

    The source has no marker: where the index has no wheel uv says so, instead of building PyPI's on that platform.
    """
    for item in found:
        known = (one.name for one in project.indexes if one.name and same_url(one.url, item.url))
        name = next(known, item.name)
        entry = SourceEntry(name)
        file.set_sources(item.package, [entry._replace(**{choice.kind: choice.name or ""}) if choice else entry])
        file.set_index(name, item.url, flat=item.index.flat)
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
    for name, index in project.own_indexes.items():
        if name and name in left and table.wrote(name, index.url):
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

"""The audit: what is wrong with a project's PyTorch packages, told from pyproject.toml and uv.lock alone. Pure.

| code | what |
| --- | --- |
| `index-not-explicit` | uv takes any package it finds on a PyTorch index from there |
| `index-twice` | two indexes of one name, which uv refuses, or of one URL |
| `index-ignored` | `[tool.uv] index` does not count beside a uv.toml |
| `index-unused` | no source names a PyTorch index, so it does nothing |
| `index-missing` | a source names an index that is not defined |
| `source-binds-nothing` | a source for an extra or group that does not list the package |
| `marker-never-true` | a source that no platform can use |
| `environments-drop-platform` | `environments` excludes a platform that the project has a source for |
| `no-wheels` | a pin, or a locked build, that no platform it is meant for can install |
| `companion-missing` | ROCm's or XPU's Triton is not taken from the same index |
| `generic-from-pytorch-index` | the lock has numpy and the like from a PyTorch index |
| `mixed-builds` | one environment gets PyTorch packages of two backends |
| `not-anchored` | a PyTorch package that something else brings comes from elsewhere than the pins say |
| `lock-outdated` | the lock has a required PyTorch package from elsewhere than the pins say |
| `source-leaked` | a git or path dependency brings its own index for PyTorch |
"""

from uvtorch.audit import configuration, locked
from uvtorch.audit.finding import MEND, Finding
from uvtorch.catalog import Catalog
from uvtorch.project import Environment, Project
from uvtorch.project.lock import Lock

__all__ = ["MEND", "Finding", "audit"]


def audit(
    project: Project,
    lock: Lock | None,
    catalog: Catalog,
    *,
    uv_toml: str | None = None,
    here: Environment | None = None,
) -> tuple[Finding, ...]:
    """Everything that is wrong, in pyproject.toml first; empty for a project that is well.

    `lock`: None where there is none. `uv_toml`: the name of a uv.toml beside the pyproject.toml that uv reads its
    settings from. `here`: the platform and Python at hand, for which the lock must do in any case.
    """
    found = configuration.findings(project, catalog, uv_toml)
    if lock is not None:
        found += locked.findings(project, lock, catalog, here)
    return tuple(dict.fromkeys(found))

"""The audit: what is wrong with a project's PyTorch packages, told from pyproject.toml, uv.lock and uv's answers. Pure.

| code | what |
| --- | --- |
| `index-not-explicit` | uv takes any package it finds on a PyTorch index from there |
| `index-outside` | uv.toml or a variable of uv's names a PyTorch index for every package |
| `index-unused` | no source names a PyTorch index, so it does nothing |
| `conflicts-missing` | extras or groups that choose a build can be selected together |
| `marker-never-true` | a source that no platform can use |
| `release-missing` | the pinned index has no torch that the requirement allows |
| `no-wheels` | a locked build that no platform it is meant for can install |
| `companion-missing` | ROCm's or XPU's Triton is not taken from the same index |
| `generic-from-pytorch-index` | the lock has numpy and the like from a PyTorch index |
| `mixed-builds` | one environment gets PyTorch packages of two backends |
| `torchaudio-mismatch` | torchaudio 2.11 or newer beside an older torch: importing it fails |
| `not-anchored` | a PyTorch package that something else brings comes from elsewhere than the pins say |
| `lock-outdated` | the lock does not follow from pyproject.toml |
| `source-leaked` | a git or path dependency brings its own index for PyTorch |
"""

from uvtorch.audit import config, lock
from uvtorch.audit.case import Case, Finding

__all__ = ["Case", "Finding", "findings"]


def findings(case: Case) -> tuple[Finding, ...]:
    """What is wrong with the project and its lock, in pyproject.toml first; empty for a project in order."""
    found = [*config.check(case), *(lock.check(case, case.lock) if case.lock else ())]
    return tuple({(one.code, one.message): one for one in found}.values())

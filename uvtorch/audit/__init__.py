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

from collections.abc import Iterable

from uvtorch.audit import config, lock
from uvtorch.audit.case import Case
from uvtorch.audit.exports import Export, Selection, read_export, selections
from uvtorch.audit.finding import FIX, Finding

__all__ = ["FIX", "Case", "Export", "Finding", "Selection", "findings", "read_export", "selections", "unique"]


def findings(case: Case) -> tuple[Finding, ...]:
    """What is wrong with the project and its lock, in pyproject.toml first; empty for a project in order."""
    found = [finding for check in config.CHECKS for finding in check(case)]
    found += [finding for check in lock.CHECKS if case.lock for finding in check(case, case.lock)]
    return unique(found)


def unique(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, each once."""
    return tuple({(one.code, one.message): one for one in found}.values())

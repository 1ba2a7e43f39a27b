"""What is wrong with a project's PyTorch packages, by its files and uv's answers. docs/doctor.md has all codes."""

from uvtorch.audit import config, lock
from uvtorch.audit.case import Case, Finding

__all__ = ["Case", "Finding", "findings"]


def findings(case: Case) -> tuple[Finding, ...]:
    """What is wrong with the project and its lock, in pyproject.toml first; empty for a project in order."""
    found = [*config.check(case), *(lock.check(case, case.lock) if case.lock else ())]
    return tuple({(one.code, one.message): one for one in found}.values())

"""Requirements and version specifiers, read lightly.

`packaging` takes 30 ms to import, more than all else that a plain `torch==2.9.1` needs, so the plain forms (a name, and
clauses of release numbers) are read here; markers, URLs and every other version go to `packaging`.
"""

from typing import NamedTuple

from uvtorch.errors import UsageError
from uvtorch.packages import normalize

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_MARKER_NAMES = (
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
    "extra",
)
_OPERATORS = ("===", "==", "!=", "~=", ">=", "<=", ">", "<")


class Clause(NamedTuple):
    """One `operator version` of a specifier, its local version taken out."""

    operator: str
    version: str
    local: str | None = None
    """`cu124` of `==2.5.1+cu124`."""


class Wish(NamedTuple):
    """A PEP 508 requirement, as far as the choice needs it."""

    package: str
    """Normalized."""
    text: str
    clauses: tuple[Clause, ...] = ()
    marker: str | None = None
    url: str | None = None


def wish(text: str) -> Wish:
    """Read a PEP 508 requirement. UsageError if it is none."""
    end = next((at for at, char in enumerate(text) if char not in _NAME), len(text))
    name, rest = text[:end], text[end:].strip()
    if name and not (rest.startswith("[") or "@" in rest or ";" in rest or "(" in rest or "=== " in rest):
        clauses = _plain(rest)
        if clauses is not None and name[0].isalnum() and name[-1].isalnum():
            return Wish(normalize(name), text, clauses)
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as fault:
        raise UsageError(f"{text!r} is not a requirement: {str(fault).splitlines()[0]}") from None
    return Wish(
        normalize(requirement.name),
        text,
        tuple(_clause(clause.operator, clause.version) for clause in requirement.specifier),
        str(requirement.marker) if requirement.marker else None,
        requirement.url,
    )


def clauses(specifier: str) -> tuple[Clause, ...]:
    """Read a PEP 440 specifier set such as a project's `requires-python`. UsageError if it is none."""
    plain = _plain(specifier.strip())
    if plain is not None:
        return plain
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return tuple(_clause(clause.operator, clause.version) for clause in SpecifierSet(specifier))
    except InvalidSpecifier as fault:
        raise UsageError(f"{specifier!r} is not a version specifier: {fault}") from None


def allows(specifier: tuple[Clause, ...], version: str) -> bool:
    """Whether every clause admits `version`, a final release such as `2.9.1`."""
    return all(_admits(clause, version) for clause in specifier)


def applies(marker: str, environment: dict[str, str]) -> bool:
    """Whether a marker holds in an environment (PEP 508 names; those missing are taken as empty)."""
    from packaging.markers import Marker

    return Marker(marker).evaluate({**dict.fromkeys(_MARKER_NAMES, ""), **environment})


def _plain(text: str) -> tuple[Clause, ...] | None:
    """The clauses of a specifier of release numbers; None for anything else, which `packaging` reads."""
    if not text:
        return ()
    found = []
    for part in text.split(","):
        clause = part.strip()
        operator = next((operator for operator in _OPERATORS if clause.startswith(operator)), None)
        if operator is None or operator == "===":
            return None
        version = clause[len(operator) :].strip()
        release = version.removesuffix(".*") if operator in ("==", "!=") else version
        release, plus, local = release.partition("+")
        if plus and (operator != "==" or not local.replace(".", "").isalnum() or version.endswith(".*")):
            return None
        numbers = release.split(".")
        if not all(number.isascii() and number.isdigit() for number in numbers):
            return None
        if operator == "~=" and len(numbers) < 2:
            return None
        found.append(_clause(operator, version))
    return tuple(found)


def _clause(operator: str, version: str) -> Clause:
    release, plus, local = version.partition("+")
    if plus and operator in ("==", "==="):
        return Clause("==", release, local.lower().replace("-", ".").replace("_", "."))
    return Clause(operator, version)


def _admits(clause: Clause, version: str) -> bool:
    wanted = clause.version.removesuffix(".*")
    if not all(number.isascii() and number.isdigit() for number in wanted.split(".")) or clause.operator == "===":
        from packaging.specifiers import Specifier

        return Specifier(clause.operator + clause.version).contains(version, prereleases=True)
    mine, theirs = _numbers(version), _numbers(wanted)
    if clause.operator == "~=":
        return mine >= theirs and _prefixed(version, wanted.rpartition(".")[0])
    if clause.version.endswith(".*"):
        return _prefixed(version, wanted) == (clause.operator == "==")
    return {
        "==": mine == theirs,
        "!=": mine != theirs,
        ">=": mine >= theirs,
        "<=": mine <= theirs,
        ">": mine > theirs,
        "<": mine < theirs,
    }[clause.operator]


def _numbers(text: str) -> tuple[int, ...]:
    numbers = [int(part) for part in text.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _prefixed(version: str, prefix: str) -> bool:
    """Whether a release begins with the numbers of another: 2.9 and 2.9.1 with 2.9; short ones padded with zeros."""
    mine = [int(part) for part in version.split(".")]
    theirs = [int(part) for part in prefix.split(".")]
    mine += [0] * (len(theirs) - len(mine))
    return mine[: len(theirs)] == theirs

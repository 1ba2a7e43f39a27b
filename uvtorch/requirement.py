"""Requirements and specifiers: one reading of each text, by `packaging`, and edits that keep the user's spelling."""

import re
from collections.abc import Mapping
from functools import cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from uvtorch.errors import UsageError
from uvtorch.packages import extras_of, normalize

# Texts, which `re` compiles when they are used: most commands use one or two, and compiling takes a millisecond each.
_STAR = r"(>=?|<=?|~=)(\s*[0-9][0-9.]*)\.\*"
_COMMA = r"([<>=!~]=?=?\s*[\w.+*!-]+)(?=\s*[<>=!~])"
_LOCAL = r"(===?\s*[^\s,;()+]+)\+[\w.-]+"
_NAME = r"^\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*"
_END = r"(?:\s*,)?(\s*\)?\s*)$"


@cache
def parse(text: str) -> Requirement:
    """Read a PEP 508 requirement, `six>=1.*` and `six>=1<3` as uv does: `six>=1`, `six>=1,<3`. Raises UsageError."""
    try:
        return Requirement(text)
    except InvalidRequirement as fault:
        head, semicolon, marker = text.partition(";")
        lenient = re.sub(_COMMA, r"\1,", re.sub(_STAR, r"\1\2", head)) + semicolon + marker
        if lenient != text and "@" not in head:
            return parse(lenient)
        raise UsageError(f"{text!r} is not a requirement: {str(fault).splitlines()[0]}") from None


@cache
def specifiers(text: str) -> SpecifierSet:
    """Read a PEP 440 specifier set, such as `requires-python`. UsageError if it is none."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as fault:
        raise UsageError(f"{text!r} is not a version specifier: {fault}") from None


def understood(text: object) -> Requirement | None:
    """The requirement; None where it is none, such as a group that includes another."""
    try:
        return parse(text) if isinstance(text, str) else None
    except UsageError:
        return None


def named_by(text: object) -> str | None:
    """The normalized name of what an index can serve; None for a URL, a path or no requirement."""
    requirement = understood(text)
    return None if requirement is None or requirement.url else normalize(requirement.name)


def bare_requirement(text: str) -> str:
    """A requirement without version and marker: `torch[opt] >= 2 ; m` is `torch[opt]`."""
    return re.split(r"[<>=!~(;]", text, maxsplit=1)[0].strip()


@cache
def without_local(text: str) -> str:
    """A requirement without the local version of its `==` clauses: `torch==2.9.1+cu126 ; m` is `torch==2.9.1 ; m`."""
    head, semicolon, marker = text.partition(";")
    if "+" not in head or "@" in head:
        return text
    return re.sub(_LOCAL, r"\1", head) + semicolon + marker


def within(text: str, bounds: Mapping[str, str]) -> str:
    """A requirement with its package's bound, if there is one, as one more clause; the rest as it is written."""
    name = named_by(text)
    if not name or name not in bounds:
        return text
    head, semicolon, marker = text.partition(";")
    clause = f",{bounds[name]}" if parse(text).specifier else bounds[name]
    return re.sub(_END, lambda end: clause + end[1], head, count=1) + semicolon + marker


@cache
def allows(text: str, version: str) -> bool:
    """Whether a requirement's clauses, local versions aside, admit a release, be it a pre-release."""
    return parse(without_local(text)).specifier.contains(version, prereleases=True)


def with_extras(text: str, told: str) -> str:
    """A requirement with the extras of another one besides its own; the rest as it is written."""
    extras = ",".join(dict.fromkeys((*extras_of(text), *extras_of(told))))
    return re.sub(_NAME, rf"\1{extras and f'[{extras}]'}", text, count=1)

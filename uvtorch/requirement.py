"""Requirements, specifiers and markers, as `packaging` reads them; and edits that keep the user's spelling."""

import re
import sys
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Final, NamedTuple

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion

from uvtorch.backend import PLATFORMS
from uvtorch.errors import ProjectError, UsageError
from uvtorch.machine import Platform
from uvtorch.packages import extras_of, normalize


@cache
def parse(text: str) -> Requirement:
    """Read a PEP 508 requirement, `six>=1.*` and `six>=1<3` as uv does: `six>=1`, `six>=1,<3`. Raises UsageError."""
    try:
        return Requirement(text)
    except InvalidRequirement as fault:
        head, semicolon, marker = text.partition(";")
        lenient = re.sub(r"(>=?|<=?|~=)(\s*[0-9][0-9.]*)\.\*", r"\1\2", head)
        lenient = re.sub(r"([<>=!~]=?=?\s*[\w.+*!-]+)(?=\s*[<>=!~])", r"\1,", lenient)
        if lenient != head and "@" not in head:
            return parse(lenient + semicolon + marker)
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
    """A requirement without local versions: `torch==2.9.1+cu126 ; m` is `torch==2.9.1 ; m`."""
    head, semicolon, marker = text.partition(";")
    if "+" not in head or "@" in head:
        return text
    return re.sub(r"(===?\s*[^\s,;()+]+)\+[\w.-]+", r"\1", head) + semicolon + marker


def within(text: str, bounds: Mapping[str, str]) -> str:
    """A requirement with its package's bound, if any, as one more clause; the rest as it is written."""
    name = named_by(text)
    if not name or name not in bounds:
        return text
    head, semicolon, marker = text.partition(";")
    clause = f",{bounds[name]}" if parse(text).specifier else bounds[name]
    return re.sub(r"(?:\s*,)?(\s*\)?\s*)$", lambda end: clause + end[1], head, count=1) + semicolon + marker


@cache
def allows(text: str, version: str) -> bool:
    """Whether a requirement, local versions aside, admits a release, be it a pre-release."""
    return parse(without_local(text)).specifier.contains(version, prereleases=True)


def with_extras(text: str, told: str) -> str:
    """A requirement with the extras of another one besides its own; the rest as it is written."""
    extras = ",".join(dict.fromkeys((*extras_of(text), *extras_of(told))))
    return re.sub(r"^\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*", rf"\1{extras and f'[{extras}]'}", text, count=1)


_SYSTEMS: Final = {
    "linux": ("linux", "Linux", "posix", {"arm64": "aarch64"}),
    "windows": ("win32", "Windows", "nt", {"x86_64": "AMD64", "arm64": "ARM64", "aarch64": "ARM64"}),
    "macos": ("darwin", "Darwin", "posix", {"aarch64": "arm64"}),
}
"""`sys_platform`, `platform_system`, `os_name`, and `platform_machine` where it has another name."""

_VALUES: Final = {
    "sys_platform": ("linux", "win32", "darwin", "cygwin", "emscripten", "wasi", "android", "ios"),
    "platform_system": ("Linux", "Windows", "Darwin", "Java", "Emscripten", "Android", "FreeBSD", "iOS"),
    "os_name": ("posix", "nt", "java"),
    "extra": (),
}
_WORDS: Final = {"win64", "macos", "macosx", "osx", *(word.lower() for words in _VALUES.values() for word in words)}
"""What platforms are called, by these variables or by nobody."""

_COMPARISON: Final = r"""(?P<left>[a-z_.]+|'[^']*'|"[^"]*")(?P<op>\s*[=!]=\s*)(?P<right>[a-z_.]+|'[^']*'|"[^"]*")"""


class Environment(NamedTuple):
    """What markers are evaluated against."""

    platform: Platform
    python: str | None = None
    """`3.12`, `3.12.4` or `3.14t`; whatever is no version of CPython: the interpreter that runs uvtorch."""

    def values(self) -> dict[str, str]:
        """The marker variables of PEP 508. None is that of the machine which runs uvtorch.

        packaging before 26 refuses to compare the empty string with a version.
        """
        system, machine = self.platform.system, self.platform.machine
        sys_platform, platform_system, os_name, machines = _SYSTEMS.get(system, (system, system, "posix", {}))
        python = (self.python or "").removesuffix("t")
        if not python.replace(".", "").isdigit():
            python = "{}.{}.{}".format(*sys.version_info[:3])
        full = python if python.count(".") > 1 else f"{python}.0"
        return {
            "sys_platform": sys_platform,
            "platform_system": platform_system,
            "os_name": os_name,
            "platform_machine": machines.get(machine, machine),
            "platform_release": "0",
            "platform_version": "0",
            "python_version": ".".join(python.split(".")[:2]),
            "python_full_version": full,
            "implementation_name": "cpython",
            "implementation_version": full,
            "platform_python_implementation": "CPython",
            "extra": "",
        }


MAIN_PLATFORMS: Final = (
    Platform("linux", "x86_64"),
    Platform("linux", "aarch64"),
    Platform("windows", "x86_64"),
    Platform("macos", "arm64"),
)
"""One for each set of PyTorch's builds that a project can tell apart."""

EVERYWHERE: Final = tuple(
    Platform(system, {"amd64": "x86_64"}.get(machine, machine))
    for system, _, machine in (key.partition("_") for key in PLATFORMS)
)
"""Those that PyTorch has wheels for."""
PYTHONS: Final = tuple(f"3.{minor}" for minor in range(8, 17))
"""Those that PyTorch 2 has or may soon have wheels for."""

_parsed = cache(Marker)


@cache
def holds(marker: str | None, place: Environment | Platform) -> bool:
    """Whether a marker is true there; none always is. Raises ProjectError for one that is not well formed."""
    if marker is None or not marker.strip():
        return True
    environment = place if isinstance(place, Environment) else Environment(place)
    try:
        return _parsed(marker).evaluate(environment.values())
    except (InvalidMarker, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName) as error:
        reason = str(error).splitlines()[0]
        raise ProjectError(f"the marker {marker!r} cannot be read: {reason}") from None


@cache
def can_hold(marker: str | None) -> bool:
    """Whether a marker is true on any platform that PyTorch has wheels for, as one that cannot be read may be.

    Which extra is selected is left open.
    """
    true = "python_version > '0'"
    marker = marker and re.sub(_COMPARISON, lambda match: true if "extra" in match.group(1, 3) else match[0], marker)
    try:
        return any(holds(marker, Environment(platform, python)) for platform, python in product(EVERYWHERE, PYTHONS))
    except ProjectError:
        return True


def dead(marker: str) -> tuple[str, ...]:
    """The comparisons of a source's marker that no platform can change: `sys_platform == 'Linux' is never true`.

    So is an `extra`, by which uv binds no source.
    """
    found = []
    for match in re.finditer(_COMPARISON, marker):
        variable, value = sorted(match.group("left", "right"), key=lambda side: side[0] in "'\"")
        known = _VALUES.get(variable.replace(".", "_"))
        text = value[1:-1]
        if known is not None and value[0] in "'\"" and text not in known and (text.lower() in _WORDS or not known):
            op = match["op"].strip()
            found.append(f"{variable} {op} '{text}' is {'never' if op == '==' else 'always'} true")
    return tuple(found)

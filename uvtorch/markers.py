"""Environment markers on a described machine: for the project's, and for those of requirements in the choice. Pure."""

import re
import sys
from functools import cache
from itertools import product
from typing import Final, NamedTuple

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.version import InvalidVersion

from uvtorch.backend import PLATFORMS
from uvtorch.errors import ProjectError
from uvtorch.machine import Platform

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
    """What markers are evaluated against: a platform and a Python."""

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

    An `extra` is one: uv binds no source to an extra by its marker.
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

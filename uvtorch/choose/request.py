"""A request, and what it admits on one machine: which known torch releases, for which Pythons. Pure."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from packaging.requirements import Requirement

from uvtorch.backend import CHANNELS, PLATFORMS, Backend, parse
from uvtorch.catalog import PYTHONS, Catalog, number
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.packages import normalize, roles
from uvtorch.requirement import allows, specifiers
from uvtorch.requirement import parse as parse_requirement

PLAIN = tuple(tag for tag in PYTHONS if not tag.endswith("t"))
"""Every Python with a GIL."""


class Request(NamedTuple):
    """What the command and the project ask of PyTorch."""

    requirements: tuple[str, ...] = ()
    """PEP 508 requirements of all PyTorch packages that the lock must serve: those on the command line and those the
    project already has. Which index has torchaudio, torchvision and the like is part of the choice."""
    python: str | None = None
    """The interpreter the project uses, `3.12`, `3.14t` or `pypy3.10`; None where it is not known."""
    requires_python: str | None = None
    """The project's `requires-python`, a PEP 440 specifier set: the lock is solved for its oldest Python too."""
    backend: Backend | None = None
    """Asked for by name: an option, an environment variable, configuration. It is obeyed."""


class Need(NamedTuple):
    """A request, read for one machine."""

    releases: tuple[str, ...]
    """The known torch releases that meet all of it, newest first."""
    possible: tuple[str, ...]
    """Those and the ones that uv may take too, because a package's wheels do not say that they need another torch."""
    text: str
    """For messages: `torch==2.15.0`, or `torch`."""
    wishes: tuple[str, ...]
    """The requirements that apply on this platform."""
    pythons: frozenset[str]
    packages: frozenset[str] = frozenset()
    """The PyTorch packages that are asked for."""
    oldest: "Need | None" = None
    """The same for the oldest Python of requires-python, for which uv solves too; None where that adds nothing."""
    open: bool = False
    """Whether a torch newer than the catalog would be admitted."""
    conflict: str | None = None
    """Why no torch can satisfy all of it, though each requirement alone can be."""
    lacking: tuple[str, ...] = ()
    """Clauses on versions of other packages that count for nothing because they have no wheel for these Pythons."""


def read(machine: Machine, request: Request, catalog: Catalog) -> Need:
    """Read a request for one machine. UsageError for one that cannot be read."""
    tags = _pythons(request)
    newest = max(tags & set(PLAIN), key=number, default=None)
    need = _read(machine, request, tags, request.python or newest, catalog)
    oldest = _oldest(request.requires_python)
    if oldest is None or oldest in tags & frozenset([request.python]):
        return need
    below = _read(machine, request, frozenset([oldest]), oldest, catalog)
    return need._replace(oldest=below) if below.packages or not need.packages else need


def _read(machine: Machine, request: Request, tags: frozenset[str], python: str | None, catalog: Catalog) -> Need:
    counting = (text for text in request.requirements if _counts(text, catalog))
    wishes = tuple(text for text in counting if _applies(text, machine.platform.key, python))
    admitted = {text: _admitted(text, tags, catalog) for text in wishes}
    firm = (known for text, known in admitted.items() if not any(_wants([text], *loose) for loose in catalog.loose))
    releases = _common(catalog, admitted.values())
    return Need(
        releases,
        possible=_common(catalog, [*firm]),
        text=_text(wishes),
        wishes=wishes,
        pythons=tags,
        packages=frozenset(map(_name, wishes)),
        open=all(_is_open(text, catalog) for text in wishes),
        conflict=None if releases else _conflict(admitted),
        lacking=_lacking(wishes, tags, catalog),
    )


def _lacking(wishes: tuple[str, ...], tags: frozenset[str], catalog: Catalog) -> tuple[str, ...]:
    pairs = (pair for pair, has in catalog.paired_pythons.items() if not has & tags and _wants(wishes, *pair))
    return tuple(f"{package} {version} has no wheel for {python_text(tags)}" for package, version in pairs)


def _wants(wishes: Iterable[str], package: str, version: str) -> bool:
    return any(_name(text) == package and allows(text, version) for text in wishes)


def _common(catalog: Catalog, admitted: Collection[frozenset[str]]) -> tuple[str, ...]:
    return tuple(one for one in reversed(catalog.releases) if all(one in releases for releases in admitted))


def local_backend(requirements: Sequence[str], machine: Machine | None = None) -> Backend | None:
    """The backend that local versions in `requirements` name (`torch==2.9.1+cu126`), or None.

    With a machine, only requirements whose marker holds there count. UsageError if two name different backends for
    one platform, whichever that is.
    """
    local = [(text, named) for text in requirements for named in [_named(parse_requirement(text))] if named]
    for key in PLATFORMS if local else ():
        here = {named: text for text, named in local if _applies(text, key, None)}
        if len(here) > 1:
            one, other = list(here.items())[:2]
            raise UsageError(
                f"{one[1]} and {other[1]} name two backends, {one[0]} and {other[0]}",
                "use the same local version on all PyTorch packages, or none",
            )
    return next((named for text, named in local if machine is None or _applies(text, machine.platform.key, None)), None)


def python_text(pythons: frozenset[str]) -> str:
    """The Pythons of a request in a clause."""
    only = next(iter(pythons), "")
    return f"Python {only}" if len(pythons) == 1 else "any Python of requires-python"


def _name(text: str) -> str:
    return normalize(parse_requirement(text).name)


def _counts(text: str, catalog: Catalog) -> bool:
    name = _name(text)
    return not parse_requirement(text).url and (name == "torch" or name in catalog.pairs)


def _conflict(admitted: dict[str, frozenset[str]]) -> str | None:
    if not all(admitted.values()):
        return None
    spans = {text: sorted(known, key=number) for text, known in admitted.items()}
    says = (f"{text} means torch {' to '.join(dict.fromkeys((span[0], span[-1])))}" for text, span in spans.items())
    return f"No torch satisfies all requirements: {'; '.join(says)}"


def _text(wishes: Iterable[str]) -> str:
    """Requirements for a message: those of torch that say a version, else those of other packages, else `torch`."""
    bounded = [text for text in wishes if parse_requirement(text).specifier]
    torch = [text for text in bounded if _name(text) == "torch"]
    return " and ".join(text.partition(";")[0].strip() for text in torch or bounded) or "torch"


def _admitted(text: str, tags: frozenset[str], catalog: Catalog) -> frozenset[str]:
    """The known torch releases that one requirement admits, by itself or through the package's pairs."""
    package = _name(text)
    if package == "torch":
        return frozenset(release for release in catalog.releases if allows(text, release))
    return frozenset(
        release
        for version, torch in catalog.pairs[package].items()
        if allows(text, version) and _has_wheel(package, version, tags, catalog)
        for release in torch
    )


def _has_wheel(package: str, version: str, tags: frozenset[str], catalog: Catalog) -> bool:
    known = catalog.paired_pythons.get((package, version))
    return known is None or bool(known & tags)


def _is_open(text: str, catalog: Catalog) -> bool:
    package, newest = _name(text), catalog.newest
    major, minor, patch = number(newest)[:3]
    if package == "torch":
        later = (f"{major}.{minor}.{patch + 1}", f"{major}.{minor + 1}.0", f"{major + 1}.0.0")
        return any(allows(text, version) for version in later)
    pairs = catalog.pairs[package].items()
    return allows(text, "9999") or any(newest in torch and torch[1:] and allows(text, one) for one, torch in pairs)


def _pythons(request: Request) -> frozenset[str]:
    """The Pythons that a wheel may be for: the one used, else all that requires-python allows, not free-threaded."""
    if request.python:
        return frozenset([request.python])
    if not request.requires_python:
        return frozenset(PLAIN)
    return frozenset(tag for tag in PLAIN if _within(request.requires_python, tag))


@cache
def _within(requires_python: str, tag: str) -> bool:
    wanted = specifiers(requires_python)
    return any(wanted.contains(f"{tag}.{patch}") for patch in range(30))


def _oldest(requires_python: str | None) -> str | None:
    """The oldest Python that the lock is for. uv leaves upper limits aside, so the newest ones do not count."""
    if not requires_python:
        return None
    return next((tag for tag in ("3.6", "3.7", *PLAIN) if _within(requires_python, tag)), None)


def _applies(text: str, platform: str, python: str | None) -> bool:
    """Whether a requirement's marker holds on a platform; one that cannot be told without a Python is taken to hold."""
    marker = parse_requirement(text).marker
    if marker is None:
        return True
    system, _, machine = platform.partition("_")
    sys_platform, os_name = {"windows": ("win32", "nt"), "macos": ("darwin", "posix")}.get(system, (system, "posix"))
    minor = (python or "3.12").removesuffix("t")
    minor = minor if minor.replace(".", "").isdigit() else "3.12"
    return marker.evaluate(
        {
            "sys_platform": sys_platform,
            "platform_system": "Darwin" if system == "macos" else system.capitalize(),
            "os_name": os_name,
            "platform_machine": machine.upper() if system == "windows" else machine,
            "python_version": minor,
            "python_full_version": f"{minor}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
    )


def _named(requirement: Requirement) -> Backend | None:
    """The backend of a requirement's local version; a development version's is on the nightly channel."""
    if normalize(requirement.name) not in roles():
        return None
    for clause in requirement.specifier:
        version, _, local = clause.version.partition("+")
        backend = parse(local.lower().replace("-", ".").replace("_", ".")) if local else None
        if backend:
            return backend._replace(channel=CHANNELS[1]) if ".dev" in version else backend
    return None

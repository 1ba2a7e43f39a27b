"""A request, and what it admits on one machine: which known torch releases, for which Pythons. Pure."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from uvtorch.backend import CHANNELS, Backend
from uvtorch.backend import parse as parse_backend
from uvtorch.catalog import PYTHONS, Catalog, number
from uvtorch.errors import UsageError
from uvtorch.machine import Machine, Platform
from uvtorch.markers import EVERYWHERE, Environment, holds
from uvtorch.packages import roles
from uvtorch.requirement import allows, named_by, parse, specifiers

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


class Wish(NamedTuple):
    """A requirement that counts on a platform."""

    text: str
    package: str
    versions: dict[str, tuple[str, ...]]
    """The known versions that it allows -> the torch releases that each goes with; of torch, each with itself."""
    lacking: frozenset[str]
    """Those without a wheel for the Pythons in question, though torch has one."""
    releases: tuple[str, ...]
    """The known torch releases that it admits, by itself or through the package's pairs, oldest first."""


class Need(NamedTuple):
    """A request, read for one machine."""

    wishes: tuple[Wish, ...]
    packages: tuple[str, ...]
    """The PyTorch packages that are asked for."""
    pythons: frozenset[str]
    """Those that a wheel may be for."""
    releases: tuple[str, ...]
    """The known torch releases that meet all of it, newest first."""
    possible: tuple[str, ...]
    """Those and the ones that uv may take too, because a package's wheels do not say that they need another torch."""
    open: bool
    """Whether a torch newer than the catalog would be admitted."""
    oldest: "Need | None" = None
    """The same for the oldest Python of requires-python, for which uv solves too; None where that adds nothing."""

    @property
    def text(self) -> str:
        """For messages: the requirements of torch that say a version, else those of other packages, else `torch`."""
        bounded = [wish for wish in self.wishes if parse(wish.text).specifier]
        counting = [wish for wish in bounded if wish.package == "torch"] or bounded
        return " and ".join(wish.text.partition(";")[0].strip() for wish in counting) or "torch"

    @property
    def conflict(self) -> str | None:
        """Why no torch can satisfy all of it, though each requirement alone can be."""
        if self.releases or not all(wish.releases for wish in self.wishes):
            return None
        spans = ((wish.text, dict.fromkeys((wish.releases[0], wish.releases[-1]))) for wish in self.wishes)
        says = (f"{text} means torch {' to '.join(span)}" for text, span in spans)
        return f"No torch satisfies all requirements: {'; '.join(says)}"


def read(machine: Machine, request: Request, catalog: Catalog) -> Need:
    """Read a request for one machine. UsageError for one that cannot be read."""
    allowed = [tag for tag in ("3.6", "3.7", *PLAIN) if _within(request.requires_python or "", tag)]
    pythons = frozenset([request.python] if request.python else allowed)
    need = _read(machine, request, pythons, catalog)
    # uv solves for the oldest Python of requires-python, and leaves its upper limits aside.
    if not request.requires_python or allowed[:1] in ([], [request.python]):
        return need
    oldest = _read(machine, request, frozenset(allowed[:1]), catalog)
    return need._replace(oldest=oldest) if oldest.wishes or not need.wishes else need


def _read(machine: Machine, request: Request, pythons: frozenset[str], catalog: Catalog) -> Need:
    newest = max(pythons, key=number, default=None)
    counting = (text for text in request.requirements if applies(text, machine.platform, newest))
    wishes = tuple(_wish(text, pythons, catalog) for text in counting if named_by(text) in ("torch", *catalog.pairs))
    # What a wheel does not require, uv does not see.
    firm = [wish for wish in wishes if not any((wish.package, one) in catalog.loose for one in wish.versions)]
    is_open = all(_is_open(wish, catalog.newest) for wish in wishes)
    packages = tuple(sorted({wish.package for wish in wishes}))
    return Need(wishes, packages, pythons, _common(wishes, catalog), _common(firm, catalog), is_open)


def _wish(text: str, pythons: frozenset[str], catalog: Catalog) -> Wish:
    package = named_by(text) or ""
    known = catalog.pairs.get(package) or {release: (release,) for release in catalog.releases}
    versions = {version: torch for version, torch in known.items() if allows(text, version)}
    wheels = ((version, catalog.paired_pythons.get((package, version))) for version in versions)
    lacking = frozenset(version for version, has in wheels if has and not has & pythons)
    admitted = {release for version, torch in versions.items() if version not in lacking for release in torch}
    return Wish(text, package, versions, lacking, tuple(filter(admitted.__contains__, catalog.releases)))


def _common(wishes: Iterable[Wish], catalog: Catalog) -> tuple[str, ...]:
    """The releases that all wishes admit, newest first."""
    return tuple(one for one in reversed(catalog.releases) if all(one in wish.releases for wish in wishes))


def _is_open(wish: Wish, newest: str) -> bool:
    major, minor, patch = number(newest)[:3]
    if wish.package == "torch":
        later = (f"{major}.{minor}.{patch + 1}", f"{major}.{minor + 1}.0", f"{major + 1}.0.0")
        return any(allows(wish.text, version) for version in later)
    return allows(wish.text, "9999") or any(newest in torch and torch[1:] for torch in wish.versions.values())


@cache
def _within(requires_python: str, tag: str) -> bool:
    wanted = specifiers(requires_python)
    return any(wanted.contains(f"{tag}.{patch}") for patch in range(30))


def python_text(pythons: frozenset[str]) -> str:
    """The Pythons of a request in a clause."""
    return f"Python {next(iter(pythons))}" if len(pythons) == 1 else "any Python of requires-python"


def applies(text: str, platform: Platform, python: str | None = None) -> bool:
    """Whether a requirement's marker holds on a platform; with Python 3.12 where no version of CPython is given."""
    marker, known = parse(text).marker, python if python and python[0].isdigit() else "3.12"
    return marker is None or holds(str(marker), Environment(platform, known))


def local_backend(requirements: Sequence[str], machine: Machine | None = None) -> Backend | None:
    """The backend that local versions in `requirements` name (`torch==2.9.1+cu126`), or None.

    With a machine, only requirements whose marker holds there count. UsageError if two name different backends for
    one platform, whichever that is.
    """
    local = {text: named for text in requirements if (named := _local(text))}
    for platform in EVERYWHERE if local else ():
        here = {named: text for text, named in local.items() if applies(text, platform)}
        if len(here) > 1:
            names, texts = [*map(str, here)][:2], [*here.values()][:2]
            raise UsageError(
                f"{' and '.join(texts)} name two backends, {' and '.join(names)}",
                "use the same local version on all PyTorch packages, or none",
            )
    return next((named for text, named in local.items() if machine is None or applies(text, machine.platform)), None)


def _local(text: str) -> Backend | None:
    """The backend of a requirement's local version; a development version's is on the nightly channel."""
    clauses = [*parse(text).specifier] if named_by(text) in roles() else []
    for version, _, local in (clause.version.partition("+") for clause in clauses):
        if backend := parse_backend(local.lower().replace("-", ".").replace("_", ".")):
            return backend._replace(channel=CHANNELS[1]) if ".dev" in version else backend
    return None

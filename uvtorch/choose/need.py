"""A request read for one machine: which known torch releases it admits, for which Pythons. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from uvtorch.backend import CHANNELS, PLATFORMS, Backend, parse
from uvtorch.catalog import PYTHONS, Catalog, number
from uvtorch.choose.decision import Request
from uvtorch.choose.fit import python_text
from uvtorch.choose.specifier import Wish, allows, applies, clauses, wish
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.packages import roles


class Need(NamedTuple):
    """A request, read for one machine."""

    releases: tuple[str, ...]
    """The known torch releases it admits, newest first."""
    text: str
    """For messages: `torch==2.15.0`, or `torch`."""
    wishes: tuple[Wish, ...]
    """Those that apply on this platform."""
    pythons: frozenset[str]
    conflict: str | None = None
    """Why no torch can satisfy all of it, though each requirement alone can be."""
    lacking: tuple[str, ...] = ()
    """Clauses on versions of other packages that count for nothing because they have no wheel for these Pythons."""


def read(machine: Machine, request: Request, catalog: Catalog) -> Need:
    """Read a request for one machine. UsageError for one that cannot be read."""
    platform = machine.platform.key
    tags = _pythons(request)
    newest = max(tags & set(PYTHONS[: PYTHONS.index("3.13t")]), key=number, default=None)
    wishes = [item for item in map(wish, request.requirements) if not item.url]
    wishes = [item for item in wishes if item.package == "torch" or item.package in catalog.pairs]
    wishes = [item for item in wishes if _applies(item, platform, request.python or newest)]
    releases = [*reversed(catalog.releases)]
    admitted = {item: _admitted(item, releases, tags, catalog) for item in wishes}
    common = [release for release in releases if all(release in known for known in admitted.values())]
    conflict = None
    if not common and admitted and all(admitted.values()):
        said = [_says(item, known) for item, known in admitted.items()]
        conflict = f"No torch satisfies all requirements: {'; '.join(said)}."
    lacking = [
        f"{package} {version} has no wheel for {python_text(tags)}"
        for (package, version), known in catalog.paired_pythons.items()
        if not known & tags and any(item.package == package and allows(item.clauses, version) for item in wishes)
    ]
    return Need(tuple(common), wishes_text(wishes), tuple(wishes), tags, conflict, tuple(lacking))


def local_backend(requirements: Sequence[str], machine: Machine | None = None) -> Backend | None:
    """The backend that local versions in `requirements` name (`torch==2.9.1+cu126`), or None.

    With a machine, only requirements whose marker holds there count. UsageError if two name different backends for
    one platform, whichever that is.
    """
    local = [(item, named) for item in map(wish, requirements) for named in [_named(item)] if named]
    if not local:
        return None
    for key in PLATFORMS:
        here = {named: item.text for item, named in local if _applies(item, key, None)}
        if len(here) > 1:
            one, other = list(here.items())[:2]
            raise UsageError(
                f"{one[1]} and {other[1]} name two backends, {one[0]} and {other[0]}",
                "use the same local version on all PyTorch packages, or none",
            )
    for item, named in local:
        if machine is None or _applies(item, machine.platform.key, None):
            return named
    return None


def _says(item: Wish, known: frozenset[str]) -> str:
    ordered = sorted(known, key=number)
    span = ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
    return f"{item.text} means torch {span}"


def wishes_text(wishes: Sequence[Wish]) -> str:
    """Requirements for a message: those of torch that say a version, else those of other packages, else `torch`."""
    texts = [item.text.partition(";")[0].strip() for item in wishes]
    torch = [text for text, item in zip(texts, wishes, strict=True) if item.package == "torch" and item.clauses]
    return " and ".join(torch or [text for text, item in zip(texts, wishes, strict=True) if item.clauses]) or "torch"


def _admitted(item: Wish, releases: Sequence[str], tags: frozenset[str], catalog: Catalog) -> frozenset[str]:
    """The known torch releases that one requirement admits, by itself or through the package's pairs."""
    if item.package == "torch":
        return frozenset(release for release in releases if allows(item.clauses, release))
    found: set[str] = set()
    for version, torch in catalog.pairs[item.package].items():
        known = catalog.paired_pythons.get((item.package, version))
        if allows(item.clauses, version) and (known is None or known & tags):
            found.update(torch)
    return frozenset(found)


def _pythons(request: Request) -> frozenset[str]:
    """The Pythons that a wheel may be for: the one used, else all that requires-python allows, not free-threaded."""
    if request.python:
        parts = request.python.removeprefix("cpython").lstrip("@-").split(".")
        threaded = request.python.endswith(("t", "+freethreaded"))
        minor = "".join(char for char in (parts[1] if len(parts) > 1 else "") if char.isdigit())
        return frozenset([f"{parts[0]}.{minor}{'t' if threaded else ''}"])
    plain = [tag for tag in PYTHONS if not tag.endswith("t")]
    if not request.requires_python:
        return frozenset(plain)
    wanted = clauses(request.requires_python)
    return frozenset(tag for tag in plain if any(allows(wanted, f"{tag}.{patch}") for patch in range(30)))


def _applies(item: Wish, platform: str, python: str | None) -> bool:
    """Whether a requirement's marker holds on a platform; one that cannot be told without a Python is taken to hold."""
    if item.marker is None:
        return True
    system, _, machine = platform.partition("_")
    names = {
        "linux": ("linux", "Linux", "posix"),
        "windows": ("win32", "Windows", "nt"),
        "macos": ("darwin", "Darwin", "posix"),
    }
    sys_platform, platform_system, os_name = names.get(system, (system, system.capitalize(), "posix"))
    minor = (python or "3.12").removesuffix("t")
    return applies(
        item.marker,
        {
            "sys_platform": sys_platform,
            "platform_system": platform_system,
            "os_name": os_name,
            "platform_machine": machine.upper() if system == "windows" else machine,
            "python_version": minor,
            "python_full_version": f"{minor}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        },
    )


def _named(item: Wish) -> Backend | None:
    """The backend of a requirement's local version; a development version's is on the nightly channel."""
    if item.package not in roles():
        return None
    for clause in item.clauses:
        backend = parse(clause.local) if clause.local else None
        if backend:
            return backend._replace(channel=CHANNELS[1]) if ".dev" in clause.version else backend
    return None

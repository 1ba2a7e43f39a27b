"""A request, read for one machine, and its table: each build once, with what keeps it from running. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from uvtorch.backend import CHANNELS, Backend
from uvtorch.backend import parse as parse_backend
from uvtorch.catalog import PYTHONS, Catalog, number
from uvtorch.choose.compatibility import STEPS, Fault, Hardware, Judge, for_backend, platform_name, select
from uvtorch.errors import UsageError
from uvtorch.machine import Gpu, Machine, Platform
from uvtorch.markers import EVERYWHERE, Environment, holds
from uvtorch.packages import roles
from uvtorch.requirement import allows, named_by, parse, specifiers

PLAIN = tuple(tag for tag in PYTHONS if not tag.endswith("t"))
"""Every Python with a GIL."""


class Request(NamedTuple):
    """What the command and the project ask of PyTorch."""

    requirements: tuple[str, ...] = ()
    """PEP 508 requirements of all PyTorch packages that the lock must serve, those that the project already has too."""
    python: str | None = None
    """The project's interpreter, `3.12`, `3.14t` or `pypy3.10`; None where it is not known."""
    requires_python: str | None = None
    """The project's, a PEP 440 specifier set: the lock is solved for its oldest Python too."""
    backend: Backend | None = None
    """Asked for by name, and obeyed."""


class Wish(NamedTuple):
    """A requirement that counts on a platform."""

    text: str
    package: str
    versions: dict[str, tuple[str, ...]]
    """The known versions that it allows -> the torch releases that each goes with."""
    lacking: frozenset[str]
    """Those without a wheel for the Pythons in question, though torch has one."""
    releases: tuple[str, ...]
    """The known torch releases that it admits, oldest first."""


class Need(NamedTuple):
    """A request, read for one machine."""

    wishes: tuple[Wish, ...]
    packages: tuple[str, ...]
    pythons: frozenset[str]
    """Those that a wheel may be for."""
    releases: tuple[str, ...]
    """The known torch releases that meet all of it, newest first."""
    possible: tuple[str, ...]
    """Those and the ones that uv may take too, as a package's wheels do not say that they need another torch."""
    open: bool
    """Whether a torch newer than the catalog is admitted."""
    oldest: "Need | None" = None
    """The same for the oldest Python of requires-python, where that adds something."""

    @property
    def text(self) -> str:
        """The requirements of torch that say a version, else those of other packages, else `torch`."""
        bounded = [wish for wish in self.wishes if parse(wish.text).specifier]
        counting = [wish for wish in bounded if wish.package == "torch"] or bounded
        return " and ".join(wish.text.partition(";")[0].strip() for wish in counting) or "torch"

    @property
    def conflict(self) -> str | None:
        """Why no torch satisfies all of it, though each requirement alone can be met."""
        if self.releases or not all(wish.releases for wish in self.wishes):
            return None
        spans = ((wish.text, dict.fromkeys((wish.releases[0], wish.releases[-1]))) for wish in self.wishes)
        says = (f"{text} means torch {' to '.join(span)}" for text, span in spans)
        return f"No torch satisfies all requirements: {'; '.join(says)}"


def _needed(machine: Machine, request: Request, catalog: Catalog) -> Need:
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

    With a machine, only those whose marker holds there count. UsageError if two differ on any one platform.
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


class Row(NamedTuple):
    """One build; `str` of one that does not run is a sentence: `torch 2.15.0 needs a driver >= 580`."""

    backend: Backend
    release: str
    requested: bool
    """Whether the request admits this release."""
    fault: Fault | None
    preference: tuple[object, ...] = ()
    """Sort key among rows of one family and one release."""

    def __str__(self) -> str:
        return f"torch {self.release} {self.fault}"

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key of the choice: the newest torch, then the preferred build of it."""
        return number(self.release), self.preference

    @property
    def miss(self) -> tuple[object, ...]:
        """Sort key of refusals: the greatest is the nearest miss."""
        return STEPS.index(self.fault.step) if self.fault else len(STEPS), self.order

    def fails(self, *steps: str) -> bool:
        """Whether it does not run for one of these reasons."""
        return self.fault is not None and self.fault.step in steps


class Table(NamedTuple):
    """What `evaluate` found."""

    judge: Judge
    asked: Request
    need: Need
    hardware: Hardware
    rows: tuple[Row, ...]
    """Backends in descending rank, each with its releases, newest first."""

    def best(self, requested: bool = True, backend: Backend | None = None) -> Row | None:
        """The row to take of those that run, among the requested ones or all, of one backend or all."""
        rows = (row for row in self.rows if row.fault is None and backend in (None, row.backend))
        return max((row for row in rows if row.requested or not requested), key=lambda row: row.order, default=None)

    def of(self, backend: Backend) -> list[Row]:
        """The requested rows of one backend, newest first."""
        return [row for row in self.rows if row.backend == backend and row.requested]

    def taken(self, backend: Backend, release: str | None = None) -> Row | None:
        """The row that uv takes: the newest for this Python, as it knows nothing of kernels and drivers."""
        rows = [row for row in self.of(backend) if release in (None, row.release)]
        return next((row for row in rows if not row.fails("python")), next(iter(rows), None))

    def find(self, backend: Backend | None, release: str | None) -> Row | None:
        """One row."""
        return next((row for row in self.rows if (row.backend, row.release) == (backend, release)), None)

    def again(
        self, machine: Machine | None = None, asked: Request | None = None, backend: Backend | None = None
    ) -> "Table":
        """The table of another machine or request, or of one backend."""
        return evaluate(machine or self.judge.machine, asked or self.asked, self.judge.catalog, backend)


def evaluate(machine: Machine, asked: Request, catalog: Catalog, backend: Backend | None = None) -> Table:
    """Judge every build for a machine and a request; `asked.backend` does not count.

    `backend`: on the GPUs that it is for, whichever the choice would be for. UsageError for what cannot be read.
    """
    judge, need = Judge(machine, catalog), _needed(machine, asked, catalog)
    hardware = Hardware(backend.family, for_backend(judge, backend)) if backend else select(judge)
    backends = sorted(catalog.builds, key=lambda one: one.rank, reverse=True)
    return Table(
        judge, asked, need, hardware, tuple(row for one in backends for row in _rows(judge, hardware, one, need))
    )


def _rows(judge: Judge, hardware: Hardware, backend: Backend, need: Need) -> Iterator[Row]:
    used, newest, said = hardware.gpus, judge.catalog.newest, judge.unsupported or hardware.rejects(backend)
    wrong = Fault("gpu", said) if said else None
    major, *others = judge.preference(backend)
    ranges = {} if wrong else {one: _oldest_fault(judge, used, backend, need, one) for one in (True, False)}
    for release in reversed(judge.catalog.builds[backend]):
        requested = release in need.releases
        fault = wrong or _fault(judge, used, backend, release, need) or ranges[requested]
        # uv may take a later build than the newest of the catalog: one that may soon drop the GPU comes second.
        lasts = release != newest or not judge.is_last_in(used, backend, release)
        yield Row(backend, release, requested, fault, (major, lasts, *others))


def _fault(judge: Judge, used: tuple[Gpu, ...], backend: Backend, release: str, need: Need) -> Fault | None:
    if wheel := _wheel_fault(judge, backend, release, need):
        return wheel
    kernels = judge.kernel_fault(used, backend, release)
    return kernels if kernels and kernels.step == "kernels" else judge.driver_fault(backend) or kernels


def _wheel_fault(judge: Judge, backend: Backend, release: str, need: Need) -> Fault | None:
    build, where = judge.catalog.build(backend, release, judge.platform), platform_name(judge.platform)
    if build is None:
        return Fault("platform", f"has no wheel for {where}")
    if need.pythons.isdisjoint(build.pythons):
        return Fault("python", f"has no wheel for {python_text(need.pythons)} on {where}")
    lacks = [name for name in need.packages if release in judge.catalog.lacking.get((name, backend), ())]
    missing = Fault("package", f"has no {' and no '.join(lacks)} on the index of {backend}") if lacks else None
    return judge.system_fault(backend, release) or missing


def _oldest_fault(judge: Judge, used: tuple[Gpu, ...], backend: Backend, need: Need, requested: bool) -> Fault | None:
    """What is wrong with a backend that has no release for the oldest Python of requires-python: uv cannot lock."""
    if need.oldest is None:
        return None
    known = [one for one in judge.catalog.builds[backend] if not requested or one in need.oldest.releases]
    if any(_fault(judge, used, backend, release, need.oldest) is None for release in known):
        return None
    why = f"requires-python allows it, and {backend} has none for it"
    return Fault("range", f"has no wheel for {python_text(need.oldest.pythons)}; {why}")

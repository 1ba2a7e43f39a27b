"""A request, read for one machine, and its table: each build, with what keeps it from running, in words. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

from uvtorch.backend import CHANNELS, Backend
from uvtorch.backend import parse as parse_backend
from uvtorch.catalog import PYTHONS, Catalog, number
from uvtorch.choose.compatibility import (
    JETSONS,
    KIND,
    STEPS,
    Fault,
    Hardware,
    Judge,
    capability,
    for_backend,
    kinds,
    labels,
    platform_name,
    select,
)
from uvtorch.errors import UsageError
from uvtorch.machine import Driver, Gpu, Machine, Platform
from uvtorch.packages import has_build, roles
from uvtorch.requirement import EVERYWHERE, Environment, allows, holds, named_by, parse, specifiers

CPU = Backend("cpu")
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
    """The backend of a local version; a development version's is on the nightly channel."""
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
        """The row to take of those that run, among the requested ones or all."""
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
    """What is wrong with a backend without a release for the oldest Python of requires-python: uv cannot lock."""
    if need.oldest is None:
        return None
    known = [one for one in judge.catalog.builds[backend] if not requested or one in need.oldest.releases]
    if any(_fault(judge, used, backend, release, need.oldest) is None for release in known):
        return None
    why = f"requires-python allows it, and {backend} has none for it"
    return Fault("range", f"has no wheel for {python_text(need.oldest.pythons)}; {why}")


# What is said of it


def why(table: Table, backend: Backend) -> str:
    """Why a backend is taken, one clause."""
    judge, machine, gpus = table.judge, table.judge.machine, labels(table.hardware.gpus)
    if judge.platform == "macos_arm64":
        return "macOS: the default wheel has Metal (MPS)"
    if judge.platform == "macos_x86_64":
        return "macOS on Intel: torch ends at 2.2.2"
    if backend.family == "cpu":
        return "no GPU that PyTorch can use" if machine.gpus or machine.problems else "no GPU"
    if backend.family != "cu":
        return gpus
    how = "" if judge.is_native(backend) else f" ({backend} by minor-version compatibility)"
    return f"driver {judge.driver.version or '?'} supports CUDA {'.'.join(map(str, judge.cuda or '?'))}{how}; {gpus}"


def absent(table: Table, backend: Backend) -> str:
    """Why a backend has none of the releases that are asked for."""
    return f"its index has torch {span(table, backend)}, not {table.need.text}"


def span(table: Table, backend: Backend) -> str:
    """The known releases of a backend: `2.0.0 to 2.7.1`."""
    index = [*table.judge.catalog.builds[backend]]
    return " to ".join(dict.fromkeys((index[0], index[-1])))


def warnings(table: Table, chosen: Row) -> Iterator[str]:
    """What to say beside a choice."""
    judge, backend = table.judge, chosen.backend
    yield from table.hardware.warnings
    cuda = table.hardware.gpus if backend.family == "cu" else ()
    if blind := [gpu for gpu in cuda if capability(gpu) is None]:
        yield f"the compute capability of {labels(blind)} is not known, so {backend} is chosen by the driver alone"
    if unknown := [gpu for gpu in cuda if judge.is_newer(gpu)]:
        known = f"is newer than uvtorch's catalog (as of {judge.catalog.as_of})"
        yield f"{labels(unknown)} {known}; {backend} is the newest build that this driver runs"
    unbuilt = (name for name in table.need.packages if not has_build(name, backend, chosen.release))
    yield from (f"{name} has no build for {backend}: it comes from the default index, for the CPU" for name in unbuilt)
    ranged = (row for row in table.rows if row.requested and row.fails("range"))
    lost = max(ranged, key=lambda row: row.order, default=None)
    if lost and table.need.oldest and number(lost.release) > number(chosen.release):
        oldest = f"requires-python allows {python_text(table.need.oldest.pythons)}"
        yield f"{oldest}, which {lost.backend} has no torch for: without it, {_fits(lost)}"


def _fits(row: Row) -> str:
    return f"torch {row.release} ({row.backend}) fits"


def newest_fit(table: Table) -> tuple[Row | None, str]:
    """What fits of all releases, and a sentence that says so."""
    fits = table.best(requested=False)
    return fits, f"The newest that fits is {fits.release} ({fits.backend})." if fits else ""


def refusal(table: Table) -> tuple[str, tuple[str, ...]]:
    """(refusal, hints) where no build of the machine's family fits."""
    hardware = table.hardware
    rows = [row for row in table.rows if row.backend.family == hardware.family]
    asked = (row for row in rows if row.requested)
    nearest = max(asked, key=lambda row: (number(row.release), row.miss), default=None)
    # Whether some build is not ruled out by the GPU itself.
    here = [row for row in rows if not row.fails("platform")]
    possible = not here or not all(row.fails("kernels") for row in here)
    fits, newest = newest_fit(table) if possible else (None, "")
    if nearest is None:
        said = f"torch {table.need.releases[0]} has no {KIND[hardware.family]} build"
    elif possible:
        said = str(nearest)
    else:
        together = " together" if len(kinds(hardware.gpus)) > 1 else ""
        where = platform_name(table.judge.platform)
        said = f"No known PyTorch build for {where} has kernels for {labels(hardware.gpus)}{together}"
    return f"{said}. {newest}".strip(), tuple(_hints(table, nearest, possible, fits))


def _hints(table: Table, nearest: Row | None, possible: bool, fits: Row | None) -> Iterator[str]:
    judge, ranged = table.judge, nearest if nearest and nearest.fails("range") else None
    if ranged and (build := judge.catalog.build(ranged.backend, ranged.release, judge.platform)):
        yield f'with requires-python = ">={min(build.pythons & set(PLAIN), key=number)}", {_fits(ranged)}'
    for wish in table.need.wishes:
        lacking = sorted(wish.lacking, key=number)
        yield from (f"{wish.package} {one} has no wheel for {python_text(table.need.pythons)}" for one in lacking)
    if possible:
        yield from _other_driver(table)
    if possible and not fits and not ranged:
        yield from _other_python(table)
    yield from _gpu_sets(table)
    if judge.machine.platform.tegra or any(capability(gpu) in JETSONS for gpu in table.hardware.gpus):
        yield "builds for Jetsons are on NVIDIA's own Jetson index"
    cpu = table.again(backend=CPU).best() if table.hardware.family != "cpu" else None
    if cpu:
        yield f"`--torch-backend cpu` gives torch {cpu.release} without the GPU"


def _other_driver(table: Table) -> Iterator[str]:
    machine, here = table.judge.machine, number(table.judge.driver.version)
    majors = sorted(table.judge.catalog.minimum_driver) if table.hardware.family == "cu" else []
    for least in map(table.judge.least_driver, majors):
        fits = table.again(machine._replace(nvidia_driver=Driver(least))).best() if here < number(least) else None
        if fits:
            yield f"with a driver >= {least}, {_fits(fits)}"


def _other_python(table: Table) -> Iterator[str]:
    for tag in sorted(PLAIN, key=number, reverse=True):
        other = table.again(asked=table.asked._replace(python=tag, requires_python=None))
        if fits := other.best() or other.best(requested=False):
            yield f"with Python {tag}, {_fits(fits)}"
            return


def _gpu_sets(table: Table) -> Iterator[str]:
    """The largest sets of kinds of GPUs that one build serves, where none serves all."""
    here = kinds(table.hardware.gpus)
    variable = "CUDA_VISIBLE_DEVICES" if table.hardware.family == "cu" else "HIP_VISIBLE_DEVICES"
    found: list[set[Gpu]] = []
    for some in (some for size in range(min(len(here), 6) - 1, 0, -1) for some in combinations(here, size)):
        served = any(set(some) <= larger for larger in found)
        fits = None if served else table.again(table.judge.machine._replace(gpus=some)).best()
        if fits:
            found.append(set(some))
            yield f"with only {labels(some)} visible ({variable}), {_fits(fits)}"

"""The words of the choice: reasons, warnings, refusals and hints. Pure."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import number, since
from uvtorch.choose.compatibility import JETSONS, KIND, capability, kinds, labels, platform_name
from uvtorch.choose.table import PLAIN, Row, Table, python_text
from uvtorch.machine import Driver, Gpu
from uvtorch.packages import has_build

ASKED = "asked for"
CPU = Backend("cpu")


class Candidate(NamedTuple):
    """A backend, the newest torch it could give for a request, and what was made of it."""

    backend: Backend
    torch: str | None
    accepted: bool
    reason: str
    """Why it was rejected or accepted, a clause in ASCII."""
    certainty: str = ""
    """One of `catalog.CERTAINTIES`: that this build exists."""


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
    driver = machine.nvidia_driver.version if machine.nvidia_driver else "?"
    how = "" if judge.is_native(backend) else f" ({backend} by minor-version compatibility)"
    return f"driver {driver} supports CUDA {'.'.join(map(str, judge.cuda or '?'))}{how}; {gpus}"


def warnings(table: Table, chosen: Row) -> Iterator[str]:
    """What to say beside a choice: GPUs passed over, GPUs that are not known, what requires-python costs."""
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


def candidates(table: Table, taken: Backend | None, torch: str | None, reason: str) -> Iterator[Candidate]:
    """Every backend, highest first, one that is not known before them; `taken`, `torch`, `reason`: the choice."""
    judge, chosen = table.judge, None if reason == ASKED else table.find(taken, torch)
    known = dict.fromkeys(row.backend for row in table.rows)
    for backend in known if taken is None or taken in known else [taken, *known]:
        release, said = (torch, reason) if backend == taken else _rejected(table, backend, chosen)
        if reason == ASKED and backend != taken:
            said = f"{taken} is {ASKED}"
        build = judge.catalog.build(backend, release, judge.platform)
        yield Candidate(backend, release, backend == taken, said, build.certainty if build else "")


def _rejected(table: Table, backend: Backend, chosen: Row | None) -> tuple[str | None, str]:
    """(the release that a backend could give, why it is not taken)."""
    shown = table.best(backend=backend) or max(table.of(backend), key=lambda row: row.miss, default=None)
    if shown:
        return shown.release, str(shown.fault or _not_taken(table, shown, chosen))
    newest = next(row for row in table.rows if row.backend == backend)
    if newest.fails("gpu"):
        return None, str(newest.fault)
    return None, "the requirements contradict" if table.need.conflict else f"has torch {_span(table, backend)} only"


def absent(table: Table, backend: Backend) -> str:
    """Why a backend has none of the releases that are asked for."""
    return f"its index has torch {_span(table, backend)}, not {table.need.text}"


def _span(table: Table, backend: Backend) -> str:
    """The known releases of a backend: `2.0.0 to 2.7.1`."""
    index = [*table.judge.catalog.builds[backend]]
    return " to ".join(dict.fromkeys((index[0], index[-1])))


def _not_taken(table: Table, row: Row, chosen: Row | None) -> str:
    """Why a row that runs is not taken."""
    judge, backend = table.judge, row.backend
    if chosen is None:
        return "runs here, but is not on offer"
    better, native = chosen.backend, judge.is_native(backend)
    split, cuda = since(backend, judge.catalog.split), ".".join(map(str, better.version[:1]))
    rules = (
        (row.release != chosen.release, f"here, but ends at torch {row.release}: {better} has {chosen.release}"),
        (split, f"here, but needs rocm-sdk packages for every GPU; {better} brings its libraries"),
        (backend.family != "cu", f"here, but {better} is newer"),
        (backend.version[:1] != better.version[:1], f"here, but the driver also runs CUDA {cuda}: {better}"),
        (not native and judge.is_native(better), f"by minor-version compatibility only; {better} natively"),
        (native, f"here, but {better} is newer and as native"),
        (True, f"here, but {better} is nearer to the driver"),
    )
    return f"runs {next(text for holds, text in rules if holds)}"


def refusal(table: Table) -> tuple[str, tuple[str, ...]]:
    """(refusal, hints) where no build of the machine's family fits."""
    rows = [row for row in table.rows if row.backend.family == table.hardware.family]
    asked = (row for row in rows if row.requested)
    nearest = max(asked, key=lambda row: (number(row.release), row.miss), default=None)
    # Whether some build is not ruled out by the GPU itself.
    here = [row for row in rows if not row.fails("platform")]
    possible = not here or not all(row.fails("kernels") for row in here)
    fits = table.best(requested=False) if possible else None
    newest = f" The newest that fits is {fits.release} ({fits.backend})." if fits else ""
    return _sentence(table, nearest, possible) + newest, tuple(_hints(table, nearest, possible, fits))


def _sentence(table: Table, nearest: Row | None, possible: bool) -> str:
    hardware = table.hardware
    if nearest is None:
        return f"torch {table.need.releases[0]} has no {KIND[hardware.family]} build."
    if possible:
        return f"{nearest}."
    together = " together" if len(kinds(hardware.gpus)) > 1 else ""
    where = platform_name(table.judge.platform)
    return f"No known PyTorch build for {where} has kernels for {labels(hardware.gpus)}{together}."


def _hints(table: Table, nearest: Row | None, possible: bool, fits: Row | None) -> Iterator[str]:
    """What would fit."""
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
    """What the request would get with the least driver of each CUDA major."""
    machine = table.judge.machine
    here = number(machine.nvidia_driver.version) if machine.nvidia_driver else ()
    majors = sorted(table.judge.catalog.minimum_driver) if table.hardware.family == "cu" else []
    for least in map(table.judge.least_driver, majors):
        fits = table.again(machine._replace(nvidia_driver=Driver(least))).best() if here < number(least) else None
        if fits:
            yield f"with a driver >= {least}, {_fits(fits)}"


def _other_python(table: Table) -> Iterator[str]:
    """The newest Python with which something would fit."""
    for tag in sorted(PLAIN, key=number, reverse=True):
        other = table.again(asked=table.asked._replace(python=tag, requires_python=None))
        if fits := other.best() or other.best(requested=False):
            yield f"with Python {tag}, {_fits(fits)}"
            return


def _gpu_sets(table: Table) -> Iterator[str]:
    """For GPUs that no build serves together: the largest sets of their kinds that one build serves."""
    here = kinds(table.hardware.gpus)
    variable = "CUDA_VISIBLE_DEVICES" if table.hardware.family == "cu" else "HIP_VISIBLE_DEVICES"
    found: list[set[Gpu]] = []
    for some in (some for size in range(min(len(here), 6) - 1, 0, -1) for some in combinations(here, size)):
        served = any(set(some) <= larger for larger in found)
        fits = None if served else table.again(table.judge.machine._replace(gpus=some)).best()
        if fits:
            found.append(set(some))
            yield f"with only {labels(some)} visible ({variable}), {_fits(fits)}"

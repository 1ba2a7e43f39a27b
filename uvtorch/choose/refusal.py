"""Refusals: the nearest miss in a sentence, and hints on what would fit. Pure."""

from collections.abc import Iterator
from itertools import combinations

from uvtorch.catalog import number
from uvtorch.choose.compatibility import Judge, capability, label, labels, platform_name
from uvtorch.choose.gpus import JETSONS, KIND
from uvtorch.choose.reasons import CPU
from uvtorch.choose.request import PLAIN, python_text
from uvtorch.choose.table import Row, Table
from uvtorch.machine import Driver, Gpu


def refusal(table: Table) -> tuple[str, tuple[str, ...]]:
    """(refusal, hints) where no build of the machine's family fits: the nearest miss, then what would fit."""
    rows = [row for row in table.rows if row.backend.family == table.hardware.family]
    asked = (row for row in rows if row.requested)
    nearest = max(asked, key=lambda row: (number(row.release), row.miss), default=None)
    possible = _is_possible(rows)
    fits = table.best(requested=False) if possible else None
    newest = f" The newest that fits is {fits.release} ({fits.backend})." if fits else ""
    ranged = _other_range(table.judge, nearest)
    hints = [*ranged, *_other_package(table)]
    if possible:
        hints += [*_other_driver(table), *(() if fits or ranged else _other_python(table))]
    return _sentence(table, nearest, possible) + newest, (*hints, *_gpu_sets(table), *_elsewhere(table))


def _is_possible(rows: list[Row]) -> bool:
    """Whether some build is not ruled out by the GPU itself."""
    here = [row for row in rows if not row.fails("release", "platform")]
    return not here or not all(row.fails("kernels") for row in here)


def _sentence(table: Table, nearest: Row | None, possible: bool) -> str:
    hardware = table.hardware
    if nearest is None:
        return f"torch {table.need.releases[0]} has no {KIND[hardware.family]} build."
    if possible:
        return f"torch {nearest.release} {nearest.fault}."
    together = " together" if len({label(gpu) for gpu in hardware.gpus}) > 1 else ""
    where = platform_name(table.judge.platform)
    return f"No known PyTorch build for {where} has kernels for {labels(hardware.gpus)}{together}."


def _elsewhere(table: Table) -> Iterator[str]:
    """NVIDIA's own index for a Jetson, and the CPU build."""
    judge, gpus = table.judge, table.hardware.gpus
    if judge.machine.platform.tegra or any(capability(gpu) in JETSONS for gpu in gpus):
        yield "builds for Jetsons are on NVIDIA's own Jetson index"
    cpu = table.again(backend=CPU).best()
    if cpu and table.hardware.family != "cpu":
        yield f"`--torch-backend cpu` gives torch {cpu.release} without the GPU"


def _fits(row: Row) -> str:
    return f"torch {row.release} ({row.backend}) fits"


def _other_range(judge: Judge, row: Row | None) -> list[str]:
    """The requires-python with which the nearest miss would do."""
    if row is None or not row.fails("range"):
        return []
    pythons = judge.catalog.builds[row.backend][row.release][judge.platform].pythons
    first = min(pythons & set(PLAIN), key=number, default=None)
    return [f'with requires-python = ">={first}", {_fits(row)}'] if first else []


def _other_package(table: Table) -> Iterator[str]:
    for wish in table.need.wishes:
        versions = sorted(wish.lacking, key=number)
        yield from (f"{wish.package} {one} has no wheel for {python_text(table.need.pythons)}" for one in versions)


def _other_driver(table: Table) -> Iterator[str]:
    """What the request would get with the least driver of each CUDA major."""
    machine = table.judge.machine
    here = number(machine.nvidia_driver.version) if machine.nvidia_driver else ()
    for major in sorted(table.judge.catalog.minimum_driver) if table.hardware.family == "cu" else ():
        least = table.judge.least_driver(major)
        if here < number(least) and (fits := table.again(machine._replace(nvidia_driver=Driver(least))).best()):
            yield f"with a driver >= {least}, {_fits(fits)}"


def _other_python(table: Table) -> list[str]:
    """The newest Python with which something would fit."""
    for tag in sorted(PLAIN, key=number, reverse=True):
        other = table.again(asked=table.asked._replace(python=tag, requires_python=None))
        if fits := other.best() or other.best(requested=False):
            return [f"with Python {tag}, {_fits(fits)}"]
    return []


def _gpu_sets(table: Table) -> Iterator[str]:
    """For GPUs that no build serves together: the largest sets of their kinds that one build serves."""
    machine, hardware = table.judge.machine, table.hardware
    kinds = list({label(gpu): gpu for gpu in hardware.gpus}.values())
    variable = "CUDA_VISIBLE_DEVICES" if hardware.family == "cu" else "HIP_VISIBLE_DEVICES"
    found: list[tuple[Gpu, ...]] = []
    for some in (some for size in range(min(len(kinds), 6) - 1, 0, -1) for some in combinations(kinds, size)):
        if any(set(some) <= set(larger) for larger in found):
            continue
        if fits := table.again(machine._replace(gpus=some)).best():
            found.append(some)
            yield f"with only {labels(some)} visible ({variable}), {_fits(fits)}"

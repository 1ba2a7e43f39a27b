"""The words: why a backend is taken or rejected, what a refusal says and what it names instead. Pure."""

from itertools import combinations

from uvtorch.backend import Backend
from uvtorch.catalog import PYTHONS, Catalog, number, pythons
from uvtorch.choose import fit
from uvtorch.choose.decision import Candidate
from uvtorch.choose.need import Need
from uvtorch.machine import Driver, Gpu, Machine

JETSONS = ((5, 3), (6, 2), (7, 2), (8, 7))
"""Compute capabilities that only Jetsons have."""


def why(machine: Machine, hardware: fit.Hardware, backend: Backend, catalog: Catalog) -> str:
    """Why a backend is taken, one clause."""
    if backend.family == "cpu":
        if machine.platform.system == "macos":
            arm = machine.platform.key == "macos_arm64"
            return "macOS: the default wheel has Metal (MPS)" if arm else "macOS on Intel: torch ends at 2.2.2"
        return "no GPU that PyTorch can use" if machine.gpus or machine.problems else "no GPU"
    names = fit.labels(hardware.gpus)
    if backend.family != "cu":
        return names
    driver = machine.nvidia_driver
    cuda = fit.driver_cuda(driver, machine.platform.system, catalog)
    text = f"driver {driver.version if driver else '?'} supports CUDA {'.'.join(map(str, cuda or ('?',)))}"
    compatible = "" if fit.is_native(machine, backend, catalog) else f" ({backend} by minor-version compatibility)"
    return f"{text}{compatible}; {names}"


def candidates(
    machine: Machine, need: Need, hardware: fit.Hardware, best: tuple[Backend, str] | None, catalog: Catalog
) -> tuple[Candidate, ...]:
    """Every backend of the catalog, highest first, with what was made of it."""
    found = []
    for backend in sorted(catalog.builds, key=lambda backend: backend.rank, reverse=True):
        index = catalog.builds[backend]
        offered = [release for release in need.releases if release in index]
        release = offered[0] if offered else None
        fits = None
        reason = ""
        if backend.family != hardware.family:
            reason = wrong_family(backend, hardware)
        elif not offered:
            last = list(index)
            reason = f"has torch {last[0]} to {last[-1]} only" if len(last) > 1 else f"has torch {last[0]} only"
        else:
            faults = [(fit.fault(machine, hardware.gpus, backend, one, need.pythons, catalog), one) for one in offered]
            fits = next((one for fault, one in faults if fault is None), None)
            release = fits or max(faults, key=lambda pair: (step(pair[0]), number(pair[1])))[1]
            reason = next((str(fault) for fault, one in faults if one == release and fault), "")
        accepted = best is not None and (backend, fits) == best
        if accepted:
            reason = why(machine, hardware, backend, catalog)
        elif fits and best:
            reason = _worse(machine, backend, fits, best, catalog)
        elif fits:
            idle = backend.family == "cpu" and hardware.gpus
            reason = f"would leave {fit.labels(hardware.gpus)} idle" if idle else "runs here, but is not on offer"
        cell = index.get(release or "", {}).get(machine.platform.key)
        native = backend.family == hardware.family and fit.is_native(machine, backend, catalog)
        found.append(Candidate(backend, release, accepted, reason, native, cell.certainty if cell else ""))
    return tuple(found)


def _worse(machine: Machine, backend: Backend, release: str, best: tuple[Backend, str], catalog: Catalog) -> str:
    """Why a backend that fits is not the one taken."""
    if release != best[1]:
        return f"runs here, but ends at torch {release}: {best[0]} has {best[1]}"
    if backend.family == "cu" and backend.version[0] != best[0].version[0]:
        return f"runs here, but the driver also runs CUDA {best[0].version[0]}: {best[0]}"
    if backend.family == "cu":
        mine, theirs = (fit.is_native(machine, one, catalog) for one in (backend, best[0]))
        if theirs and not mine:
            return f"runs by minor-version compatibility only; {best[0]} natively"
        return f"runs here, but {best[0]} is {'newer and as native' if mine else 'nearer to the driver'}"
    if backend in catalog.split:
        return f"runs here, but needs rocm-sdk packages for every GPU; {best[0]} brings its libraries"
    return f"runs here, but {best[0]} is newer"


def wrong_family(backend: Backend, hardware: fit.Hardware) -> str:
    """Why a backend of another family than the machine's is not taken."""
    if backend.family == "cpu":
        return f"would leave {fit.labels(hardware.gpus)} idle"
    maker = {"cu": "NVIDIA", "rocm": "AMD", "xpu": "Intel"}[backend.family]
    return f"for {maker} GPUs; this machine has {fit.labels(hardware.gpus) or 'no GPU that PyTorch can use'}"


def none_fits(catalog: Catalog, need: Need, reason: str) -> tuple[Candidate, ...]:
    """Every backend as rejected for one reason."""
    return tuple(
        Candidate(
            backend, next((release for release in need.releases if release in index), None), False, reason.rstrip(".")
        )
        for backend, index in sorted(catalog.builds.items(), key=lambda item: item[0].rank, reverse=True)
    )


def refusal(machine: Machine, need: Need, hardware: fit.Hardware, catalog: Catalog) -> tuple[str, tuple[str, ...]]:
    """(refusal, hints) where no build of the machine's family fits: the nearest miss, then what would fit."""
    family, gpus = hardware.family, hardware.gpus
    served = {release for backend, index in catalog.builds.items() if backend.family == family for release in index}
    newest = next((release for release in need.releases if release in served), None)
    hints: list[str] = []
    possible = _kernels_exist(machine, hardware, catalog)
    if newest is None:
        kind = {"cu": "CUDA", "rocm": "ROCm", "xpu": "XPU", "cpu": "CPU"}[family]
        sentence = f"torch {need.releases[0]} has no {kind} build."
    elif not possible:
        together = " together" if len({fit.label(gpu) for gpu in gpus}) > 1 else ""
        where = fit.platform_name(machine.platform.key)
        sentence = f"No known PyTorch build for {where} has kernels for {fit.labels(gpus)}{together}."
    else:
        cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
        misses = [
            (fit.fault(machine, gpus, backend, newest, need.pythons, catalog), backend)
            for backend, index in catalog.builds.items()
            if backend.family == family and newest in index
        ]
        fault, _ = max(misses, key=lambda miss: (step(miss[0]), fit.preference(miss[1], cuda, catalog)))
        sentence = f"torch {newest} {fault}."
    every = tuple(reversed(catalog.releases))
    fits = fit.best_of(machine, gpus, every, need.pythons, family, catalog) if possible else None
    if fits:
        sentence += f" The newest that fits is {fits[1]} ({fits[0]})."
    hints += need.lacking
    if possible:
        hints += _other_driver(machine, need, hardware, catalog)
        hints += [] if fits else _other_python(machine, need, hardware, catalog)
    hints += _gpu_sets(machine, need, hardware, catalog)
    if machine.platform.tegra or any(fit.capability(gpu) in JETSONS for gpu in gpus):
        hints.append("builds for Jetsons are on NVIDIA's own Jetson index")
    if family != "cpu":
        cpu = fit.best_of(machine, (), need.releases, need.pythons, "cpu", catalog)
        if cpu:
            hints.append(f"--torch-backend cpu gives torch {cpu[1]} without the GPU")
    return sentence, tuple(hints)


def _kernels_exist(machine: Machine, hardware: fit.Hardware, catalog: Catalog) -> bool:
    """Whether any build for this platform has code for all the GPUs, driver and Python aside."""
    if hardware.family == "cpu":
        return True
    for backend, index in catalog.builds.items():
        for release, cells in index.items() if backend.family == hardware.family else ():
            if machine.platform.key in cells:
                fault = fit.kernel_fault(machine, hardware.gpus, backend, release, catalog)
                if fault is None or fault.step != "kernels":
                    return True
    return False


def _other_driver(machine: Machine, need: Need, hardware: fit.Hardware, catalog: Catalog) -> list[str]:
    """Hints: what the request would get with the least driver of each CUDA major."""
    if hardware.family != "cu":
        return []
    system = "windows" if machine.platform.system == "windows" else "linux"
    hints = []
    for _, row in sorted(catalog.minimum_driver.items()):
        other = machine._replace(nvidia_driver=Driver(row[system]))
        if machine.nvidia_driver and number(machine.nvidia_driver.version) >= number(row[system]):
            continue
        best = fit.best_of(other, hardware.gpus, need.releases, need.pythons, "cu", catalog)
        if best:
            hints.append(f"with a driver >= {row[system]}, torch {best[1]} ({best[0]}) fits")
    return hints


def _other_python(machine: Machine, need: Need, hardware: fit.Hardware, catalog: Catalog) -> list[str]:
    """Hints: the newest Python with which something would fit."""
    every = tuple(reversed(catalog.releases))
    if not fit.best_of(machine, hardware.gpus, every, frozenset(PYTHONS), hardware.family, catalog):
        return []
    for tag in sorted(pythons("3.9-3.15"), key=number, reverse=True):
        for releases in (need.releases, every):
            best = fit.best_of(machine, hardware.gpus, releases, frozenset([tag]), hardware.family, catalog)
            if best:
                return [f"with Python {tag}, torch {best[1]} ({best[0]}) fits"]
    return []


def _gpu_sets(machine: Machine, need: Need, hardware: fit.Hardware, catalog: Catalog) -> list[str]:
    """Hints for GPUs that no build serves together: the largest sets of their kinds that one build serves."""
    kinds = list({fit.label(gpu): gpu for gpu in hardware.gpus}.values())
    variable = "CUDA_VISIBLE_DEVICES" if hardware.family == "cu" else "HIP_VISIBLE_DEVICES"
    found: list[tuple[Gpu, ...]] = []
    hints = []
    for size in range(min(len(kinds), 6) - 1, 0, -1):
        for some in combinations(kinds, size):
            if any(set(some) <= set(larger) for larger in found):
                continue
            best = fit.best_of(machine, some, need.releases, need.pythons, hardware.family, catalog)
            if best:
                found.append(some)
                hints.append(f"with only {fit.labels(some)} visible ({variable}), torch {best[1]} ({best[0]}) fits")
    return hints


def step(fault: fit.Fault | None) -> int:
    """How near a miss a fault is: a later step is nearer."""
    return fit.STEPS.index(fault.step) if fault else len(fit.STEPS)

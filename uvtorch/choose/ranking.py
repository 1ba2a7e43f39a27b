"""Judging builds that a project already has: whether a pin runs here, and which of its choices is the best. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import PYTHONS, Catalog, number
from uvtorch.choose import fit, reasons, unknown
from uvtorch.choose.decision import Request
from uvtorch.choose.need import Need
from uvtorch.choose.need import read as read_need
from uvtorch.machine import Machine

CPU = Backend("cpu")


class Verdict(NamedTuple):
    """Whether a build runs on a machine, and why not."""

    runs: bool
    reason: str = ""
    """A clause if it does not run: `torch 2.15.0 needs a driver >= 580; this machine has 535.183.01`."""


class Option(NamedTuple):
    """What `rank_choices` made of one of the backends it was given."""

    backend: Backend | None
    """As given; None is what PyPI gives on this platform."""
    torch: str | None
    fits: bool
    reason: str
    native: bool = False


class Ranking(NamedTuple):
    """The best of a given set of backends."""

    best: int | None
    """Index of the best one in what was given; None if not even a CPU build is among them."""
    options: tuple[Option, ...]
    """One for each given, in the same order."""
    warnings: tuple[str, ...] = ()
    """Said where the best one does not use this machine's GPU."""


def runs_here(machine: Machine, backend: Backend, torch: str | None, catalog: Catalog) -> Verdict:
    """Whether a pinned build runs on this machine: (runs, reason).

    `torch` is the release that is locked or pinned; None asks whether any release of the backend runs. One that the
    catalog does not know is judged by its driver and by the newest known kernels of its backend.
    """
    unsupported = fit.unsupported_platform(machine.platform)
    if unsupported:
        return Verdict(False, unsupported.rstrip("."))
    gpus = fit.gpus_for(machine, backend, catalog)
    if backend.family != "cpu" and not gpus:
        problem = next(
            (problem for problem in machine.problems if fit.FAMILY.get(problem.vendor) == backend.family), None
        )
        maker = {"cu": "an NVIDIA", "rocm": "an AMD", "xpu": "an Intel"}[backend.family]
        return Verdict(False, problem.reason if problem else f"{backend} needs {maker} GPU, and none is visible here")
    stable = backend._replace(channel="")
    index = catalog.builds.get(stable, {})
    every = frozenset(PYTHONS)
    if torch is None or torch not in index:
        if not index or (torch is not None and torch not in catalog.releases):
            fault = unknown.fault(machine, gpus, stable, catalog)
            return Verdict(fault is None, f"{backend} {fault}" if fault else "")
        if torch is not None:
            return Verdict(False, f"torch {torch} is not built for {backend}")
    faults = [
        (release, fit.fault(machine, gpus, stable, release, every, catalog))
        for release in ([torch] if torch else reversed(index))
    ]
    if any(fault is None for _, fault in faults):
        return Verdict(True)
    release, worst = max(faults, key=lambda pair: fit.STEPS.index(pair[1].step) if pair[1] else -1)
    return Verdict(False, f"torch {release} ({backend}) {worst}")


def leaves_idle(machine: Machine, backend: Backend, torch: str | None, catalog: Catalog) -> str | None:
    """Why a pinned build leaves the GPU idle, a clause that names what would use it; None if it does not.

    True of a CPU build beside a GPU that some build of `torch` (None: of any release) would use.
    """
    if backend.family != "cpu" or fit.unsupported_platform(machine.platform):
        return None
    hardware = fit.hardware(machine, catalog)
    if hardware.refusal or hardware.family == "cpu":
        return None
    releases = (torch,) if torch in catalog.releases else tuple(reversed(catalog.releases))
    best = fit.best_of(machine, hardware.gpus, releases, frozenset(PYTHONS), hardware.family, catalog)
    if best is None:
        return None
    return f"{backend} leaves {fit.labels(hardware.gpus)} idle; {best[0]} would use it"


def rank_choices(
    machine: Machine,
    request: Request,
    backends: Sequence[Backend | None],
    catalog: Catalog,
    torch: Sequence[str | None] = (),
    requirements: Sequence[tuple[str, ...]] = (),
) -> Ranking:
    """Pick the best of the backends that a project offers.

    `backends`: one for each choice; None is the build that PyPI gives on this platform. `torch`: the release that each
    choice has locked, if known; else what uv would lock counts, the newest that is allowed on that backend, whether
    it runs here or not. `requirements`: those of each choice, where they are not `request.requirements` for all. The
    order is that of `choose`: builds that use the GPU, newest torch first; then the CPU build, with a warning if a GPU
    stays idle; then None. Without a GPU a CPU build comes before a larger one that would run as well. Between equals a
    named backend comes before PyPI's. `request.backend` and `request.families` do not count.
    """
    wanted = requirements or [request.requirements] * len(backends)
    read = {texts: read_need(machine, request._replace(requirements=texts), catalog) for texts in wanted}
    unsupported = fit.unsupported_platform(machine.platform)
    hardware = fit.Hardware("cpu") if unsupported else fit.hardware(machine, catalog)
    locked = [*torch, *([None] * len(backends))]
    options = tuple(
        _option(machine, read[wanted[at]], hardware, backend, locked[at], catalog)
        for at, backend in enumerate(backends)
    )
    cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)

    def order(at: int) -> tuple[object, ...]:
        option = options[at]
        real = option.backend or _pypi(machine, option.torch, catalog)[0] or CPU
        newest = number(option.torch) if option.torch else (0,)
        own = real.family == hardware.family
        return own, newest, fit.preference(real._replace(channel=""), cuda, catalog), option.backend is not None, -at

    fitting = [at for at, option in enumerate(options) if option.fits]
    gpu = hardware.family != "cpu"
    if fitting and not hardware.refusal:
        return Ranking(max(fitting, key=order), options, () if gpu else hardware.warnings)
    why = hardware.refusal or _nearest_miss(options, hardware.family) or "no choice is offered"
    spare = [at for at, backend in enumerate(backends) if backend and backend.family == "cpu"]
    spare += [at for at, backend in enumerate(backends) if backend is None]
    if not spare:
        return Ranking(None, options, (f"no backend choice fits this machine: {why.rstrip('.')}",))
    best = spare[0]
    if gpu or hardware.refusal:
        taken = "the CPU choice" if backends[best] else "what PyPI gives"
        return Ranking(best, options, (f"no GPU choice fits this machine ({why.rstrip('.')}): taking {taken}",))
    return Ranking(best, options, hardware.warnings)


def _nearest_miss(options: Sequence[Option], family: str) -> str | None:
    """Why a choice for this machine's GPU does not fit; else why another does not."""
    gpu = [option for option in options if option.backend is None or option.backend.family != "cpu"]
    near = [option for option in gpu if option.backend and option.backend.family == family]
    option = next(iter((*near, *gpu, *options)), None)
    if option is None or option.backend is None:
        return option.reason if option else None
    whose = f"{option.backend}'s" if option.reason.startswith("torch ") else str(option.backend)
    return f"{whose} {option.reason}"


def _option(
    machine: Machine, need: Need, hardware: fit.Hardware, backend: Backend | None, torch: str | None, catalog: Catalog
) -> Option:
    # A lock that no longer satisfies the requirements is about to be made anew.
    torch = None if torch in catalog.releases and torch not in need.releases else torch
    releases = (torch,) if torch in need.releases else need.releases
    if backend is None:
        return _pypi_option(machine, need, hardware, releases, catalog)
    stable = backend._replace(channel="")
    if hardware.refusal and backend.family != "cpu":
        return Option(backend, torch, False, hardware.refusal.rstrip("."))
    if backend.family != hardware.family:
        reason = reasons.wrong_family(backend, hardware)
        return Option(backend, torch, False, f"is {reason}" if reason.startswith("for ") else reason)
    index = catalog.builds.get(stable, {})
    native = fit.is_native(machine, stable, catalog)
    if not index or (torch is not None and torch not in catalog.releases) or not releases or backend.channel:
        fault = None if stable.family == "cpu" else unknown.fault(machine, hardware.gpus, stable, catalog)
        return Option(backend, torch, fault is None, str(fault or "not in the catalog; the driver runs it"), native)
    nearest: tuple[int, str] = (-1, f"has no torch that {need.text} admits")
    for release in releases:
        fault = fit.fault(machine, hardware.gpus, stable, release, need.pythons, catalog)
        if fault is None:
            return Option(backend, release, True, reasons.why(machine, hardware, stable, catalog), native)
        if fit.STEPS.index(fault.step) > nearest[0]:
            nearest = fit.STEPS.index(fault.step), f"torch {release} {fault}"
        if fault.step not in ("release", "python"):
            break  # uv takes the newest that the index has, and knows nothing of kernels and drivers
    return Option(backend, torch, False, nearest[1], native)


def _pypi_option(
    machine: Machine, need: Need, hardware: fit.Hardware, releases: Sequence[str], catalog: Catalog
) -> Option:
    """What PyPI gives: the newest release with a wheel here, whatever it was built for."""
    for release in releases:
        backend, tags = _pypi(machine, release, catalog)
        if backend is None or not tags & need.pythons or fit.libc_fault(machine.platform, release, catalog):
            continue
        if hardware.refusal:
            return Option(None, release, False, hardware.refusal.rstrip("."))
        if backend.family != hardware.family:
            # PyPI's CUDA build works without a GPU; no other family is on PyPI.
            runs = hardware.family == "cpu"
            reason = f"PyPI's torch {release} is the {backend} build"
            return Option(
                None, release, runs, reason if runs else f"{reason}: {reasons.wrong_family(backend, hardware)}"
            )
        fault = fit.fault(machine, hardware.gpus, backend, release, need.pythons, catalog)
        reason = (
            f"PyPI's torch {release} ({backend}) {fault}" if fault else reasons.why(machine, hardware, backend, catalog)
        )
        return Option(None, release, fault is None, reason, fit.is_native(machine, backend, catalog))
    return Option(None, None, False, "PyPI has no wheel for this platform and Python")


def _pypi(machine: Machine, release: str | None, catalog: Catalog) -> tuple[Backend | None, frozenset[str]]:
    return catalog.pypi.get(release or "", {}).get(machine.platform.key, (None, frozenset()))

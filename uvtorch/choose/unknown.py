"""What the catalog does not know: newer releases and backends, and which indexes to ask for them. Pure."""

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import fit
from uvtorch.choose.need import Need
from uvtorch.machine import Gpu, Machine


def is_known(need: Need, family: str, catalog: Catalog) -> bool:
    """Whether the catalog knows a release that the request admits, for this family."""
    served = {release for backend, index in catalog.builds.items() if backend.family == family for release in index}
    if any(release in served for release in need.releases):
        return True
    return any(release not in catalog.unseen or not _unseen(release, family, catalog) for release in need.releases)


def _unseen(release: str, family: str, catalog: Catalog) -> tuple[Backend, ...]:
    return tuple(backend for backend in catalog.unseen.get(release, ()) if backend.family == family)


def floor(need: Need, catalog: Catalog) -> str:
    """About the lowest release that a request admits; the newest known one where it has no lower end."""
    lows = [
        clause.version.removesuffix(".*")
        for item in need.wishes
        if item.package == "torch"
        for clause in item.clauses
        if clause.operator in ("==", "===", ">=", ">", "~=")
    ]
    highs = [
        clause.version
        for item in need.wishes
        if item.package == "torch"
        for clause in item.clauses
        if clause.operator in ("<", "<=")
    ]
    newest = list(catalog.releases)[-1]
    if lows:
        return max(lows, key=number)
    first = next(iter(catalog.releases))
    return "0" if any(number(high) <= number(first) for high in highs) else newest


def askable(machine: Machine, need: Need, hardware: fit.Hardware, floor: str, catalog: Catalog) -> tuple[Backend, ...]:
    """The indexes that may have a release the catalog does not know, best first."""
    family = hardware.family
    unseen = [backend for release in need.releases for backend in _unseen(release, family, catalog)]
    newest = list(catalog.releases)[-1]
    # The release before the wanted one: an index that ended before it gets no more builds.
    before = max(
        (release for release in catalog.releases if number(release) <= number(floor)), key=number, default=newest
    )
    alive = [
        backend
        for backend, index in catalog.builds.items()
        if backend.family == family and number(list(index)[-1]) >= number(before)
    ]
    if family == "rocm" and number(floor) >= number(newest):
        alive += [backend for release in catalog.unseen for backend in _unseen(release, family, catalog)]
    if number(floor) > number(newest):
        alive += [backend for backend in catalog.announced if backend.family == family]
    cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
    fitting = [
        backend for backend in dict.fromkeys(unseen or alive) if not fault(machine, hardware.gpus, backend, catalog)
    ]
    return tuple(sorted(fitting, key=lambda backend: fit.preference(backend, cuda, catalog), reverse=True))


def fault(machine: Machine, gpus: tuple[Gpu, ...], backend: Backend, catalog: Catalog) -> fit.Fault | None:
    """Why a release or a backend that the catalog does not know would not run here, as far as can be told.

    A GPU that the newest known kernels serve, or that is newer than all of them, is taken as served.
    """
    if backend.family == "cpu":
        return None
    if not may_serve(machine, backend, catalog):
        return fit.Fault("platform", f"has no wheels for {fit.platform_name(machine.platform.key)}")
    family = [(other, index) for other, index in catalog.builds.items() if other.family == backend.family]
    like, index = max(family, key=lambda pair: (pair[0] == backend, pair[0].version))
    release = next((one for one in reversed(index) if machine.platform.key in index[one]), None)
    if release:
        for gpu in gpus:
            missing = fit.kernel_fault(machine, (gpu,), like, release, catalog)
            if missing and missing.step == "kernels" and not _newer(gpu, like, release, machine, catalog):
                return fit.Fault("kernels", f"has no kernels for {fit.label(gpu)}")
    return fit.driver_fault(machine, backend, catalog) if backend.family == "cu" else None


def may_serve(machine: Machine, backend: Backend, catalog: Catalog) -> bool:
    """Whether a backend has, or if unknown would have, wheels for the machine's platform."""
    served = platforms(backend, None, catalog)
    return served is None or machine.platform.key in served


def platforms(backend: Backend, release: str | None, catalog: Catalog) -> frozenset[str] | None:
    """The platforms with wheels on an index: of a known release, else of the backend's or its family's newest one."""
    if backend.family == "cpu":
        return None
    stable = backend._replace(channel="")
    index = catalog.builds.get(stable, {})
    if release in index:
        return frozenset(index[release])
    like = [index] if index else [known for other, known in catalog.builds.items() if other.family == backend.family]
    if stable in catalog.builds and release is None:
        return frozenset(platform for cells in index.values() for platform in cells)
    newest = max((list(known)[-1] for known in like), key=number)
    return frozenset(platform for known in like for platform in known.get(newest, {}))


def _newer(gpu: Gpu, backend: Backend, release: str, machine: Machine, catalog: Catalog) -> bool:
    """Whether a GPU is newer than all that a build has kernels for, so that a later build may serve it."""
    if backend.family == "cu":
        kernels = catalog.kernels.get((backend, release, machine.platform.key))
        device = fit.capability(gpu)
        return kernels is not None and device is not None and device > max(kernels.codes)
    if backend.family == "rocm":
        return not any(gpu.architecture in devices.architectures for devices in catalog.devices.values())
    return False

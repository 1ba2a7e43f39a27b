"""What the catalog does not know: newer releases and backends, and which indexes to ask for them. Pure."""

from collections.abc import Iterable, Iterator

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number, since
from uvtorch.choose.compatibility import Fault, Judge, capability, label, platform_name
from uvtorch.choose.gpus import Hardware
from uvtorch.choose.request import Need
from uvtorch.machine import Gpu
from uvtorch.requirement import parse as parse_requirement
from uvtorch.requirement import without_local


def is_known(need: Need, family: str, catalog: Catalog) -> bool:
    """Whether the catalog knows a release that the request admits, for this family."""
    served = {release for backend, index in catalog.builds.items() if backend.family == family for release in index}
    return any(release in served or not any(_unseen([release], family, catalog)) for release in need.releases)


def _unseen(releases: Iterable[str], family: str, catalog: Catalog) -> Iterator[Backend]:
    for release in releases:
        yield from (backend for backend in catalog.unseen.get(release, ()) if backend.family == family)


def floor(need: Need, catalog: Catalog) -> str:
    """About the lowest release that a request admits; the newest known one where it has no lower end."""
    clauses = [
        (clause.operator, clause.version.removesuffix(".*"))
        for wish in need.wishes
        if wish.package == "torch"
        for clause in parse_requirement(without_local(wish.text)).specifier
    ]
    lows = [version for operator, version in clauses if operator in ("==", "===", ">=", ">", "~=")]
    highs = [number(version) for operator, version in clauses if operator in ("<", "<=")]
    ends_before = bool(highs) and min(highs) <= number(next(iter(catalog.releases)))
    return max(lows, key=number, default="0" if ends_before else catalog.newest)


def askable(judge: Judge, need: Need, hardware: Hardware, floor: str) -> tuple[Backend, ...]:
    """The indexes that may have a release the catalog does not know, best first."""
    family, catalog = hardware.family, judge.catalog
    backends = [*_unseen(need.releases, family, catalog)] or [*_growing(family, floor, catalog)]
    lacking = {backend for package, backend in catalog.lacking if package in need.packages}
    able = (backend for backend in dict.fromkeys(backends) if backend not in lacking)
    fitting = [backend for backend in able if not fault(judge, hardware.gpus, backend)]
    return tuple(sorted(fitting, key=judge.preference, reverse=True))


def _growing(family: str, floor: str, catalog: Catalog) -> Iterator[Backend]:
    """The backends of a family that get more builds: an index that ended before the wanted release does not."""
    known = (release for release in catalog.releases if number(release) <= number(floor))
    before = max(map(number, known), default=number(catalog.newest))
    for backend, index in catalog.builds.items():
        if backend.family == family and number(next(reversed(index))) >= before:
            yield backend
    if family == "rocm" and number(floor) >= number(catalog.newest):
        yield from _unseen(catalog.unseen, family, catalog)
    if number(floor) > number(catalog.newest):
        yield from (backend for backend in catalog.announced if backend.family == family)


def fault(judge: Judge, gpus: tuple[Gpu, ...], backend: Backend) -> Fault | None:
    """Why a release or a backend that the catalog does not know would not run here, as far as can be told.

    A GPU that the newest known kernels serve, or that is newer than all of them, is taken as served.
    """
    if backend.family == "cpu":
        return None
    served = platforms(backend, None, judge.catalog)
    if served is not None and judge.platform not in served:
        return Fault("platform", f"has no wheels for {platform_name(judge.platform)}")
    builds = sorted(judge.served(backend.family), key=lambda build: (build[0].version, number(build[1])))
    before = [build for build in builds if build[0].version <= backend.version]
    like = next(iter([*before[-1:], *builds[:1]]), None)  # the nearest that is known
    missing = [gpu for gpu in gpus if like and _lacks_kernels(judge, gpu, *like)]
    if missing:
        return Fault("kernels", f"has no kernels for {label(missing[0])}")
    return judge.driver_fault(backend) if backend.family == "cu" else None


def _lacks_kernels(judge: Judge, gpu: Gpu, backend: Backend, release: str) -> bool:
    """Whether a build does not serve a GPU, and no later one will, because the GPU is not newer than its kernels."""
    missing = judge.kernel_fault((gpu,), backend, release)
    if missing is None or missing.step != "kernels":
        return False
    if backend.family == "cu":
        device = capability(gpu)
        return device is not None and device <= judge.catalog.kernels[backend, release, judge.platform].codes[-1]
    return backend.family != "rocm" or gpu.architecture in judge.known_architectures


def platforms(backend: Backend, release: str | None, catalog: Catalog) -> frozenset[str] | None:
    """The platforms with wheels on an index: of that release, else of all; of an unknown index, as its family's.

    None for the CPU's, which has every platform.
    """
    if backend.family == "cpu":
        return None
    index = catalog.builds.get(backend._replace(channel=""), {})
    if index and release:
        return frozenset(index[release if release in index else next(reversed(index))])
    indexes = [index] if index else [known for other, known in catalog.builds.items() if other.family == backend.family]
    return frozenset(platform for known in indexes for cells in known.values() for platform in cells)


def companions(backend: Backend, release: str | None, catalog: Catalog) -> tuple[str, ...]:
    """Packages that torch requires and only this index has; of an unknown release, those of the newest."""
    known = release if release in catalog.releases else catalog.newest
    rows = (names for first, releases, names in catalog.companions if known in releases and since(backend, (first,)))
    return tuple(name for names in rows for name in names)

"""What the catalog does not know: newer releases and backends, and which indexes to ask for them. Pure."""

from collections.abc import Iterator

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number, since
from uvtorch.choose.compatibility import Fault, Judge, capability, label, platform_name
from uvtorch.choose.request import Need
from uvtorch.choose.table import Table
from uvtorch.machine import Gpu
from uvtorch.requirement import parse, without_local


def is_known(table: Table) -> bool:
    """Whether the catalog knows a release that the request admits, for the machine's family."""
    served = {row.release for row in table.rows if row.backend.family == table.hardware.family}
    return any(release in served or not _unseen(table, release) for release in table.need.releases)


def _unseen(table: Table, release: str) -> list[Backend]:
    """The backends of the machine's family that probably have a release, though nobody has seen it there."""
    backends = table.judge.catalog.unseen.get(release, ())
    return [backend for backend in backends if backend.family == table.hardware.family]


def floor(need: Need, catalog: Catalog) -> tuple[int, ...]:
    """About the lowest release that a request admits; the newest known one where it has no lower end."""
    torch = (wish.text for wish in need.wishes if wish.package == "torch")
    clauses = [clause for text in torch for clause in parse(without_local(text)).specifier]
    lows = [number(clause.version) for clause in clauses if clause.operator in ("==", "===", ">=", ">", "~=")]
    highs = [number(clause.version) for clause in clauses if clause.operator in ("<", "<=")]
    first, *_ = catalog.releases
    return max(lows, default=(0,) if highs and min(highs) <= number(first) else number(catalog.newest))


def askable(table: Table) -> tuple[Backend, ...]:
    """The indexes that may have a release the catalog does not know, best first."""
    judge, need, catalog = table.judge, table.need, table.judge.catalog
    backends = [backend for release in need.releases for backend in _unseen(table, release)] or [*_growing(table)]
    lacking = {backend for package, backend in catalog.lacking if package in need.packages}
    able = (backend for backend in dict.fromkeys(backends) if backend not in lacking)
    fitting = (backend for backend in able if not fault(judge, table.hardware.gpus, backend))
    return tuple(sorted(fitting, key=judge.preference, reverse=True))


def _growing(table: Table) -> Iterator[Backend]:
    """The backends of the machine's family that get more builds: an index that ended before does not."""
    catalog, family = table.judge.catalog, table.hardware.family
    low, newest = floor(table.need, catalog), number(catalog.newest)
    before = max((known for known in map(number, catalog.releases) if known <= low), default=newest)
    for backend, index in catalog.builds.items():
        if backend.family == family and number(next(reversed(index))) >= before:
            yield backend
    for release in catalog.unseen if low >= newest else ():
        yield from _unseen(table, release)
    if low > newest:
        yield from (backend for backend in catalog.announced if backend.family == family)


def fault(judge: Judge, gpus: tuple[Gpu, ...], backend: Backend) -> Fault | None:
    """Why a release or a backend that the catalog does not know would not run here, as far as can be told.

    A GPU that the newest known kernels serve, or that is newer than all of them, is taken as served.
    """
    served = platforms(backend, None, judge.catalog)
    if served is not None and judge.platform not in served:
        return Fault("platform", f"has no wheels for {platform_name(judge.platform)}")
    builds = sorted(judge.served(backend.family), key=lambda build: (build[0].version, number(build[1])))
    nearest = [build for build in builds if build[0].version <= backend.version][-1:] or builds[:1]
    missing = [gpu for gpu in gpus for build in nearest if _lacks_kernels(judge, gpu, *build)]
    return Fault("kernels", f"has no kernels for {label(missing[0])}") if missing else judge.driver_fault(backend)


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
    """The platforms with wheels on an index: of a release that it has, else of all; of an unknown one, as its family's.

    None for the CPU's, which has every platform.
    """
    if backend.family == "cpu":
        return None
    own = catalog.builds.get(backend._replace(channel=""))
    indexes = [own] if own else [index for one, index in catalog.builds.items() if one.family == backend.family]
    builds = (cells for index in indexes for one, cells in index.items() if release in (None, one))
    return frozenset(platform for cells in builds for platform in cells)


def companions(backend: Backend, release: str | None, catalog: Catalog) -> tuple[str, ...]:
    """Packages that torch requires and only this index has; of an unknown release, those of the newest."""
    known = release if release in catalog.releases else catalog.newest
    rows = (names for first, releases, names in catalog.companions if known in releases and since(backend, (first,)))
    return tuple(name for names in rows for name in names)

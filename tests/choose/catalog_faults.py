"""What is impossible or missing in a catalog: for the tests, and for tools/collect_catalog.py before it writes."""

import tomllib
from collections.abc import Iterator, Mapping

from uvtorch.backend import PLATFORMS
from uvtorch.catalog import PYTHONS, Catalog, incomplete, number

CERTAINTIES = ("server", "pypi", "url", "verified", "declared", "report", "inferred")
"""How sure a row is: the first four were seen, `declared` is an official statement, `report` is what users report,
`inferred` is not confirmed."""


def faults(catalog: Catalog) -> list[str]:
    """What is wrong with a catalog, one sentence each with the file it stands in; empty if it holds together."""
    checks = (incomplete, _releases, _builds, _kernels, _devices, _pypi, _pairs, _drivers)
    return [fault for check in checks for fault in check(catalog)]


def unsure(texts: Mapping[str, str]) -> list[str]:
    """The rows of the catalog's files that do not say how sure they are, or where they come from."""
    data = {name: tomllib.loads(text) for name, text in texts.items()}
    tables = {**data["builds.toml"]["builds"], **data["kernels.toml"], **data["wheels.toml"]}
    without = ("xpu_names", "announced", "pythons", "companions")  # a comment has the source of all
    rows = ((name, row) for name, rows in tables.items() if isinstance(rows, list) for row in rows)
    return [f"{name}, row {row}" for name, row in rows if name not in without and not _is_sure(row)]


def _is_sure(row: list[str]) -> bool:
    certain = [at for at, said in enumerate(row[:-1]) if said in CERTAINTIES]
    return bool(certain) and bool(row[certain[-1] + 1])


def _releases(catalog: Catalog) -> Iterator[str]:
    order = list(catalog.releases)
    if order != sorted(order, key=number):
        yield "builds.toml: the releases are not in order"
    if len(catalog.as_of.split("-")) != 3:
        yield f"builds.toml: as_of is no date: {catalog.as_of!r}"


def _builds(catalog: Catalog) -> Iterator[str]:
    for backend, index in catalog.builds.items():
        for release, cells in index.items():
            for platform, build in cells.items():
                yield from _cell(f"builds.toml: {backend} {release} on {platform}", platform, build.pythons)


def _kernels(catalog: Catalog) -> Iterator[str]:
    order = list(catalog.releases)
    for backend, release, platform in catalog.kernels:
        what = f"kernels.toml: {backend} {release} on {platform}"
        has = [order.index(known) for known, cells in catalog.builds.get(backend, {}).items() if platform in cells]
        # A row may span over a release that has no build, between two that have: 2.12.0 on cu129.
        if not has or not min(has) <= order.index(release) <= max(has):
            yield f"{what}: no such build"


def _devices(catalog: Catalog) -> Iterator[str]:
    for backend, devices in catalog.devices.items():
        what = f"kernels.toml: devices of {backend}"
        if backend not in catalog.builds:
            yield f"{what}: no such build"
        yield from (f"{what}: {gfx!r} is no gfx name" for gfx in devices if not _is_gfx(gfx))
    known = frozenset().union(*catalog.devices.values())
    for gfx, first in catalog.unusable:
        what = f"kernels.toml: rocm_unusable {gfx} from {first}"
        if gfx not in known:
            yield f"{what}: no row of devices names it"


def _pypi(catalog: Catalog) -> Iterator[str]:
    for release, wheels in catalog.pypi.items():
        for platform, (_, tags) in wheels.items():
            yield from _cell(f"builds.toml: PyPI's {release} on {platform}", platform, tags)
        for other in sorted({str(one) for one, _ in wheels.values() if release not in catalog.builds.get(one, {})}):
            yield f"builds.toml: PyPI's {release} is of {other}, which has no such release"


def _pairs(catalog: Catalog) -> Iterator[str]:
    for (package, version), tags in catalog.paired_pythons.items():
        if version not in catalog.pairs.get(package, {}) or not tags <= set(PYTHONS):
            yield f"wheels.toml: Pythons of {package} {version}: unknown version or Python"
    for package, backend in catalog.lacking:
        if package not in catalog.pairs or backend not in catalog.builds:
            yield f"wheels.toml: lacking {package} on {backend}: unknown package or backend"
    for (platform, _, release), least in catalog.oldest.items():
        if platform not in PLATFORMS or release not in catalog.releases or not least:
            yield f"wheels.toml: oldest {platform} {release}: unknown platform, release or version"


def _drivers(catalog: Catalog) -> Iterator[str]:
    for backend in catalog.builds:
        if backend.family == "cu" and backend.version[0] not in catalog.minimum_driver:
            yield f"drivers.toml: no minimum driver for {backend}"
    for system, rows in catalog.reports.items():
        if [cuda for _, cuda in rows] != sorted({cuda for _, cuda in rows}):
            yield f"drivers.toml: {system}: CUDA does not rise with the driver"
    for major, row in catalog.minimum_driver.items():
        if not row.keys() >= {"linux", "windows"} or not all(map(number, row.values())):
            yield f"drivers.toml: minimum driver of CUDA {major}: incomplete"


def _cell(what: str, platform: str, pythons: frozenset[str]) -> Iterator[str]:
    if platform not in PLATFORMS:
        yield f"{what}: unknown platform"
    if not pythons or not pythons <= set(PYTHONS):
        yield f"{what}: unknown Python or none"


def _is_gfx(text: str) -> bool:
    return text.startswith("gfx") and 6 <= len(text) <= 7 and all(digit in "0123456789abcdef" for digit in text[3:])

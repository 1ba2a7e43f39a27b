"""A catalog that is some releases old, beside today's indexes: what uv takes, whether it runs, and what was said."""

from typing import NamedTuple

from tests.choose.described import machine
from uvtorch import catalog as catalogs
from uvtorch.catalog import Catalog, number
from uvtorch.choose import Request, choose, evaluate
from uvtorch.requirement import allows

CATALOG = catalogs.load()
RELEASES = ("2.15.0", "2.14.1", "2.12.1", "2.11.0", "2.10.0")
DRIVERS = {"linux": ["450.80.02", "470.256.02", "535.183.01", "570.124.06", "575.57.08", "580.95.05", "595.58.03"]}
DRIVERS |= {
    "arm": ["560.35.05", "580.95.05", "595.58.03"],
    "windows": ["472.12", "536.40", "572.61", "576.57", "581.29"],
}
GPUS = {"linux": ["3.7", "5.2", "6.1", "7.0", "7.5", "8.0", "8.9", "9.0", "10.0", "12.0", "6.1 8.9"]}
GPUS |= {"arm": ["9.0", "10.0", "12.1"], "windows": ["6.1", "7.5", "8.9", "12.0"]}
MACHINES = [
    f"{system} {driver} {gpu}" for system, drivers in DRIVERS.items() for driver in drivers for gpu in GPUS[system]
]


class Figures(NamedTuple):
    """What a catalog that ends at a release does on the machines that it has a GPU build for."""

    last: str
    machines: int
    unusable: list[str]
    """Machines where the torch that uv takes does not run on the GPU."""
    misnamed: list[str]
    """Machines where the message names another torch than the one that uv takes."""


def cut(last: str) -> Catalog:
    """The catalog as it was with `last` as its newest release."""
    known = {release: date for release, date in CATALOG.releases.items() if number(release) <= number(last)}
    builds = {
        backend: {release: cells for release, cells in index.items() if release in known}
        for backend, index in CATALOG.builds.items()
    }
    builds = {backend: index for backend, index in builds.items() if index}
    return CATALOG._replace(
        releases=known,
        builds=builds,
        kernels={key: kernels for key, kernels in CATALOG.kernels.items() if key[1] in known},
        devices={backend: devices for backend, devices in CATALOG.devices.items() if backend in builds},
        pypi={release: wheels for release, wheels in CATALOG.pypi.items() if release in known},
        unseen={},
        pairs={
            package: {one: tuple(torch for torch in pairs if torch in known) for one, pairs in versions.items()}
            for package, versions in CATALOG.pairs.items()
        },
    )


def figures(last: str) -> Figures:
    """Choose with the old catalog, take what today's index gives under the bounds that were written, and judge that."""
    found = Figures(last, 0, [], [])
    for described in MACHINES:
        here = machine(described)
        decision = choose(here, Request(("torch",)), cut(last))
        if decision.backend is None or decision.backend.family == "cpu":
            continue
        found = found._replace(machines=found.machines + 1)
        index = CATALOG.builds[decision.backend].items()
        bound = f"torch{dict(decision.bounds).get('torch', '')}"
        got = [release for release, cells in index if here.platform.key in cells and allows(bound, release)][-1]
        said = f"{described}: {decision.backend} {decision.release}, uv takes {got}"
        today = evaluate(here, Request(), CATALOG).find(decision.backend, got)
        if today is None or today.fault:
            found.unusable.append(f"{said}: {today}")
        if not (
            number(got) >= number(decision.torch or "")
            if decision.release.endswith("or newer")
            else got == decision.torch
        ):
            found.misnamed.append(said)
    return found


def table() -> str:
    """The figures of every cut."""
    head = "catalog up to   NVIDIA machines   GPU unusable   another torch named than locked"
    rows = (
        f"{one.last:15} {one.machines:15} {len(one.unusable):14} {len(one.misnamed):33}"
        for one in map(figures, RELEASES)
    )
    return "\n".join([head, *rows])

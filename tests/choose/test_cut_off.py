"""A catalog that is some releases old, beside today's indexes: what uv takes still runs, and is what was said."""

import pytest

from tests.choose.described import machine
from uvtorch import catalog as catalogs
from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import Decision, Request, choose
from uvtorch.choose.compatibility import Judge
from uvtorch.choose.gpus import select
from uvtorch.choose.request import ANY
from uvtorch.machine import Machine
from uvtorch.requirement import allows

CATALOG = catalogs.load()
DRIVERS = {"linux": ["450.80.02", "470.256.02", "535.183.01", "570.124.06", "575.57.08", "580.95.05", "595.58.03"]}
DRIVERS["arm"] = ["560.35.05", "580.95.05", "595.58.03"]
DRIVERS["windows"] = ["472.12", "536.40", "572.61", "576.57", "581.29"]
GPUS = {"linux": ["3.7", "5.2", "6.1", "7.0", "7.5", "8.0", "8.9", "9.0", "10.0", "12.0", "6.1 8.9"]}
GPUS["arm"] = ["9.0", "10.0", "12.1"]
GPUS["windows"] = ["6.1", "7.5", "8.9", "12.0"]
MACHINES = [
    f"{system} {driver} {gpu}" for system, drivers in DRIVERS.items() for driver in drivers for gpu in GPUS[system]
]


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


def locked(here: Machine, backend: Backend, decision: Decision) -> str:
    """The torch that uv takes from today's index."""
    bound = dict(decision.bounds).get("torch", "")
    offered = [
        release
        for release, cells in CATALOG.builds[backend].items()
        if here.platform.key in cells and allows(f"torch{bound}", release)
    ]
    return offered[-1]


@pytest.mark.parametrize("last", ["2.15.0", "2.14.1", "2.12.1", "2.11.0", "2.10.0"])
def test_an_old_catalog_leaves_no_gpu_unusable_and_names_the_torch_that_is_locked(last: str) -> None:
    catalog = cut(last)
    wrong, judged = [], 0
    for described in MACHINES:
        here = machine(described)
        decision = choose(here, Request(("torch",)), catalog)
        if decision.backend is None or decision.backend.family == "cpu":
            continue
        judged += 1
        got = locked(here, decision.backend, decision)
        today = Judge(here, CATALOG)
        bad = today.fault(select(today).gpus, decision.backend, got, ANY)
        named = number(got) >= number(decision.torch or "") if decision.or_newer else got == decision.torch
        if bad or not named:
            wrong.append(f"{described}: {decision.backend} {decision.release}, locked {got}: {bad}")
    assert not wrong, "\n".join(wrong)
    assert judged >= 64

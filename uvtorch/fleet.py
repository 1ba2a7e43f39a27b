"""The smallest set of backends that serves many machines. Pure."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import Decision, Request, choose
from uvtorch.choose.compatibility import Judge, labels
from uvtorch.choose.table import Table
from uvtorch.machine import Machine

Worth = tuple[tuple[int, ...], tuple[object, ...]]
"""What a backend gives a machine: the torch release, and its `Row.preference`."""
_Rows = list[tuple[Mapping[Backend, Worth], list[int]]]
"""What each backend gives, and the places of the machines."""


class Unserved(NamedTuple):
    """Machines that are alike and that no build serves."""

    machines: tuple[int, ...]
    """Their places."""
    reason: str


class Served(NamedTuple):
    """What a set of backends does for the machines."""

    backends: tuple[Backend, ...]
    """In the order of `Backend.rank`."""
    unserved: tuple[Unserved, ...] = ()
    takes: Mapping[Backend, tuple[int, ...]] = {}
    """Which machines, by their places, take which."""


def smallest(machines: Sequence[Machine], request: Request, catalog: Catalog) -> Served:
    """The fewest backends such that every machine has one that uses its GPU (`cpu` where it has none).

    Served is a machine on which the newest torch that `request` allows on a backend runs, as uv takes that. Among sets
    of the same size, the one that gives the machines the newest torch, then what `choose` would prefer for them.
    """
    kinds: dict[Hashable, list[int]] = {}
    for place, machine in enumerate(machines):
        kinds.setdefault(_kind(machine, catalog), []).append(place)
    offers: dict[str, _Rows] = {}
    unserved = []
    for places in kinds.values():
        machine = machines[places[0]]
        decision = choose(machine, request._replace(backend=None), catalog)
        if fitting := _fitting(decision.table) if decision.backend and decision.table else {}:
            offers.setdefault(next(iter(fitting)).family, []).append((fitting, places))
        else:
            unserved.append(Unserved(tuple(places), _reason(machine, decision)))
    # No machine is served by two families, so each has its own smallest set.
    found = sorted(chain.from_iterable(map(_cover, offers.values())), key=lambda one: one.rank)
    takes: dict[Backend, tuple[int, ...]] = dict.fromkeys(found, ())
    for gives, places in chain.from_iterable(offers.values()):
        takes[max((one for one in found if one in gives), key=gives.__getitem__)] += tuple(places)
    return Served(tuple(found), tuple(unserved), takes)


def _kind(machine: Machine, catalog: Catalog) -> Hashable:
    judge = Judge(machine, catalog)
    runs = (judge.driver_fault(Backend("cu", (major, 0))) is None for major in catalog.minimum_driver)
    gpus = frozenset(
        gpu._replace(uuid=None, memory_mib=None, mig=False, name="")
        if gpu.compute_capability or gpu.architecture or gpu.pci_id
        else gpu
        for gpu in machine.gpus
    )
    drives = bool(judge.driver.version), judge.cuda, *runs
    return machine.platform._replace(container=False, wsl=False), gpus, drives, machine.problems


def _fitting(table: Table) -> dict[Backend, Worth]:
    """The backends of which what uv takes runs here, with what each gives."""
    rows = filter(None, map(table.taken, table.judge.catalog.builds))
    return {row.backend: (number(row.release), row.preference) for row in rows if row.fault is None}


def _reason(machine: Machine, decision: Decision) -> str:
    if decision.refusal:
        return decision.refusal.rstrip(".")
    if decision.backend and decision.torch:
        what = labels(machine.gpus) or "this machine"
        return f"{what} runs torch {decision.torch} ({decision.backend}) at most, and the project allows a newer one"
    return "the catalog does not know what is asked for"


def _cover(rows: _Rows) -> tuple[Backend, ...]:
    """The best of the smallest sets that serve every row."""
    backends = sorted({backend for fitting, _ in rows for backend in fitting}, key=lambda one: one.rank)
    needs = {frozenset(fitting) for fitting, _ in rows}
    sizes = (combinations(backends, size) for size in range(1, len(backends) + 1))
    covers = ([some for some in sets if not any(need.isdisjoint(some) for need in needs)] for sets in sizes)
    return max(next(filter(None, covers)), key=lambda subset: _worth(subset, rows))


def _worth(subset: tuple[Backend, ...], rows: _Rows) -> tuple[object, ...]:
    """To be compared: the releases that a set gives, newest first, with their machines; then the preferences."""
    counts: tuple[dict[object, int], dict[object, int]] = ({}, {})
    for fitting, places in rows:
        for value, count in zip(max(fitting[one] for one in subset if one in fitting), counts, strict=True):
            count[value] = count.get(value, 0) + len(places)
    return tuple(sorted(count.items(), reverse=True) for count in counts)

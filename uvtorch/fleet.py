"""The smallest set of backends that serves many machines. Pure."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import Request, choose, rank_choices
from uvtorch.machine import Machine


class Served(NamedTuple):
    """What a set of backends does for the machines."""

    backends: tuple[Backend, ...]
    """In the order of `Backend.rank`."""
    unserved: tuple[tuple[Machine, str], ...] = ()
    """Machines that no build fits, and why."""


def smallest(machines: Iterable[Machine], request: Request, catalog: Catalog) -> Served:
    """The fewest backends such that every machine has one that uses its GPU (`cpu` where it has none).

    Among sets of that size, the one that gives the machines the newest torch. Machines alike count once for each of
    them. Ignores `request.backend`.
    """
    kinds: dict[Machine, int] = {}
    for machine in machines:
        kind = machine._replace(probes=(), notes=())
        kinds[kind] = kinds.get(kind, 0) + 1
    offers: dict[Machine, dict[Backend, tuple[int, ...]]] = {}
    unserved = []
    for machine in kinds:
        fitting, why = _fitting(machine, request, catalog)
        if fitting:
            offers[machine] = fitting
        else:
            unserved.append((machine, why))
    return Served(_cover(offers, kinds), tuple(unserved))


def _fitting(machine: Machine, request: Request, catalog: Catalog) -> tuple[dict[Backend, tuple[int, ...]], str]:
    """The backends that run here with the newest torch each gives; why there are none."""
    decision = choose(machine, request._replace(backend=None), catalog)
    if decision.backend is None:
        return {}, decision.refusal or "no build is known for it"
    if decision.backend.family == "cpu":
        return {decision.backend: number(decision.torch) if decision.torch else ()}, ""
    known = [backend for backend in catalog.builds if backend.family == decision.backend.family]
    options = rank_choices(machine, request, known, catalog).options
    return {
        backend: number(option.torch) if option.torch else ()
        for backend, option in zip(known, options, strict=True)
        if option.fits
    }, ""


def _cover(
    offers: Mapping[Machine, Mapping[Backend, tuple[int, ...]]], counts: Mapping[Machine, int]
) -> tuple[Backend, ...]:
    backends = sorted({backend for fitting in offers.values() for backend in fitting}, key=lambda one: one.rank)
    needs = {frozenset(fitting) for fitting in offers.values()}
    for size in range(len(backends) + 1):
        covers = [
            subset for subset in combinations(backends, size) if all(not need.isdisjoint(subset) for need in needs)
        ]
        if covers:
            return max(covers, key=lambda subset: _worth(subset, offers, counts))
    return ()


def _worth(
    subset: tuple[Backend, ...],
    offers: Mapping[Machine, Mapping[Backend, tuple[int, ...]]],
    counts: Mapping[Machine, int],
) -> list[tuple[tuple[int, ...], int]]:
    """The torch releases that a set gives, newest first, with the number of machines: to be compared."""
    given: dict[tuple[int, ...], int] = {}
    for machine, fitting in offers.items():
        best = max(fitting[backend] for backend in subset if backend in fitting)
        given[best] = given.get(best, 0) + counts[machine]
    return sorted(given.items(), reverse=True)

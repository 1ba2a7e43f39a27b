"""The table of a machine and a request: each (backend, release) once, with what keeps it from running. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import gpus, request
from uvtorch.choose.compatibility import STEPS, Fault, Judge
from uvtorch.choose.gpus import Hardware
from uvtorch.choose.request import Need, Request
from uvtorch.machine import Gpu, Machine


class Row(NamedTuple):
    """One (backend, release)."""

    backend: Backend
    release: str
    requested: bool
    """Whether the request admits this release."""
    fault: Fault | None
    """Why it does not run here; None where it does."""
    preference: tuple[object, ...] = ()
    """Orders rows of one family and one release: the greatest is taken."""

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key of the choice: the newest torch first, then the preferred build of it."""
        return number(self.release), self.preference

    @property
    def miss(self) -> tuple[object, ...]:
        """Sort key of refusals: the nearest miss is the greatest."""
        return STEPS.index(self.fault.step) if self.fault else len(STEPS), number(self.release), self.preference

    def fails(self, *steps: str) -> bool:
        """Whether the row does not run for one of these reasons."""
        return self.fault is not None and self.fault.step in steps


class Table(NamedTuple):
    """What `evaluate` found."""

    judge: Judge
    need: Need
    hardware: Hardware
    rows: tuple[Row, ...]
    """Backends in descending rank, each with its releases, newest first."""

    def best(self, requested: bool = True) -> Row | None:
        """The row to take of those that run, among the requested ones or all; None if none runs."""
        return best(row for row in self.rows if row.requested or not requested)

    def of(self, backend: Backend) -> list[Row]:
        """The rows of one backend that the request admits, newest first."""
        return [row for row in self.rows if row.backend == backend and row.requested]

    def find(self, backend: Backend, release: str) -> Row | None:
        """One row."""
        return next((row for row in self.rows if (row.backend, row.release) == (backend, release)), None)


def evaluate(machine: Machine, asked: Request, catalog: Catalog) -> Table:
    """Judge every build of the catalog for a machine and a request; `asked.backend` does not count.

    UsageError for a request that cannot be read.
    """
    judge, need = Judge(machine, catalog), request.read(machine, asked, catalog)
    hardware = gpus.select(judge)
    rows: list[Row] = []
    for backend in ranked(catalog.builds):
        wrong = judge.unsupported or hardware.rejects(backend)
        if wrong:
            fault, index = Fault("gpu", wrong), catalog.builds[backend]
            rows += (Row(backend, release, release in need.releases, fault) for release in reversed(index))
        else:
            rows += backend_rows(judge, hardware.gpus, backend, need)
    return Table(judge, need, hardware, tuple(rows))


def backend_rows(judge: Judge, used: tuple[Gpu, ...], backend: Backend, need: Need) -> list[Row]:
    """The rows of one backend, newest first, where it has to run on the GPUs `used`."""
    major, *others = judge.preference(backend)
    index = judge.catalog.builds.get(backend, {})
    oldest = {requested: _oldest_fault(judge, used, backend, need, requested) for requested in (True, False)}
    found = []
    for release in reversed(index):
        requested = release in need.releases
        fault = judge.fault(used, backend, release, need) or oldest[requested]
        # uv may take a later build than the newest of the catalog: one that may soon drop the GPU comes second.
        lasts = release != judge.catalog.newest or not judge.is_last_in(used, backend, release)
        found.append(Row(backend, release, requested, fault, (major, lasts, *others)))
    return found


def _oldest_fault(judge: Judge, used: tuple[Gpu, ...], backend: Backend, need: Need, requested: bool) -> Fault | None:
    """What is wrong with a backend of which no release is for the oldest Python of requires-python: uv cannot lock."""
    below = need.oldest
    if below is None:
        return None
    known = [one for one in judge.catalog.builds.get(backend, {}) if not requested or one in below.releases]
    if any(judge.fault(used, backend, release, below) is None for release in known):
        return None
    here = f"requires-python allows it, and {backend} has none for it"
    return Fault("range", f"has no wheel for Python {next(iter(below.pythons))}", here)


def best_of(judge: Judge, used: tuple[Gpu, ...], family: str, need: Need, requested: bool = True) -> Row | None:
    """The best build of a family where it has to run on the GPUs `used`."""
    backends = (backend for backend in judge.catalog.builds if backend.family == family)
    rows = (row for backend in backends for row in backend_rows(judge, used, backend, need))
    return best(row for row in rows if row.requested or not requested)


def best(rows: Iterable[Row]) -> Row | None:
    """The row to take of those that run; None if none runs."""
    return max((row for row in rows if row.fault is None), key=lambda row: row.order, default=None)


def ranked(backends: Iterable[Backend]) -> list[Backend]:
    """Backends in descending rank."""
    return sorted(backends, key=lambda backend: backend.rank, reverse=True)

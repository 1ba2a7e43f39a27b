"""The table of a machine and a request: each (backend, release) once, with what keeps it from running. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import request
from uvtorch.choose.compatibility import STEPS, Fault, Hardware, Judge, for_backend, select
from uvtorch.choose.request import Need, Request, python_text
from uvtorch.machine import Gpu, Machine


class Row(NamedTuple):
    """One (backend, release); `str` of one that does not run is a sentence: `torch 2.15.0 needs a driver >= 580`."""

    backend: Backend
    release: str
    requested: bool
    """Whether the request admits this release."""
    fault: Fault | None
    """Why it does not run here; None where it does."""
    preference: tuple[object, ...] = ()
    """Orders rows of one family and one release: the greatest is taken."""

    def __str__(self) -> str:
        return f"torch {self.release} {self.fault}"

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key of the choice: the newest torch first, then the preferred build of it."""
        return number(self.release), self.preference

    @property
    def miss(self) -> tuple[object, ...]:
        """Sort key of refusals: the nearest miss is the greatest."""
        return STEPS.index(self.fault.step) if self.fault else len(STEPS), self.order

    def fails(self, *steps: str) -> bool:
        """Whether the row does not run for one of these reasons."""
        return self.fault is not None and self.fault.step in steps


class Table(NamedTuple):
    """What `evaluate` found."""

    judge: Judge
    asked: Request
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

    def find(self, backend: Backend | None, release: str | None) -> Row | None:
        """One row."""
        return next((row for row in self.rows if (row.backend, row.release) == (backend, release)), None)

    def again(
        self, machine: Machine | None = None, asked: Request | None = None, backend: Backend | None = None
    ) -> "Table":
        """The table of another machine, of another request, or of one backend."""
        return evaluate(machine or self.judge.machine, asked or self.asked, self.judge.catalog, backend)


def evaluate(machine: Machine, asked: Request, catalog: Catalog, backend: Backend | None = None) -> Table:
    """Judge every build of the catalog for a machine and a request; `asked.backend` does not count.

    `backend`: judge its builds on the GPUs that it is for, whichever the choice would be for. UsageError for a request
    that cannot be read.
    """
    judge, need = Judge(machine, catalog), request.read(machine, asked, catalog)
    hardware = Hardware(backend.family, for_backend(judge, backend)) if backend else select(judge)
    rows = (row for one in ranked(catalog.builds) for row in _rows(judge, hardware, one, need))
    return Table(judge, asked, need, hardware, tuple(rows))


def _rows(judge: Judge, hardware: Hardware, backend: Backend, need: Need) -> Iterator[Row]:
    """The rows of one backend, newest first."""
    used, newest, said = hardware.gpus, judge.catalog.newest, judge.unsupported or hardware.rejects(backend)
    wrong = Fault("gpu", said) if said else None
    major, *others = judge.preference(backend)
    ranges = {} if wrong else {one: _oldest_fault(judge, used, backend, need, one) for one in (True, False)}
    for release in reversed(judge.catalog.builds[backend]):
        requested = release in need.releases
        fault = wrong or judge.fault(used, backend, release, need) or ranges[requested]
        # uv may take a later build than the newest of the catalog: one that may soon drop the GPU comes second.
        lasts = release != newest or not judge.is_last_in(used, backend, release)
        yield Row(backend, release, requested, fault, (major, lasts, *others))


def _oldest_fault(judge: Judge, used: tuple[Gpu, ...], backend: Backend, need: Need, requested: bool) -> Fault | None:
    """What is wrong with a backend of which no release is for the oldest Python of requires-python: uv cannot lock."""
    if need.oldest is None:
        return None
    known = [one for one in judge.catalog.builds[backend] if not requested or one in need.oldest.releases]
    if any(judge.fault(used, backend, release, need.oldest) is None for release in known):
        return None
    why = f"requires-python allows it, and {backend} has none for it"
    return Fault("range", f"has no wheel for {python_text(need.oldest.pythons)}; {why}")


def best(rows: Iterable[Row]) -> Row | None:
    """The row to take of those that run; None if none runs."""
    return max((row for row in rows if row.fault is None), key=lambda row: row.order, default=None)


def ranked(backends: Iterable[Backend]) -> list[Backend]:
    """Backends in descending rank."""
    return sorted(backends, key=lambda backend: backend.rank, reverse=True)

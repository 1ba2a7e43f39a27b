"""uvtorch's choice and uv's own rule, both on every row of the decision table."""

from typing import NamedTuple

from tests.choose import uv_rule
from tests.choose.described import machine, request
from tests.choose.rows import ROWS
from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import choose, fit
from uvtorch.choose.need import read
from uvtorch.machine import Machine


class Score(NamedTuple):
    """Of the rows where some known build can be used, how many each rule gets right."""

    rows: int
    ours_runs: int
    ours_newest: int
    uv_runs: int
    uv_newest: int

    def __str__(self) -> str:
        return (
            f"of {self.rows} rows: a build that runs and uses the GPU: uvtorch {self.ours_runs}, uv {self.uv_runs}; "
            f"the newest torch that does: uvtorch {self.ours_newest}, uv {self.uv_newest}"
        )


def compare(catalog: Catalog) -> Score:
    """Both rules on every row of the decision table that names no backend and that some known build can serve."""
    counts = [0, 0, 0, 0, 0]
    for row in ROWS:
        here, asked = machine(row.machine), request(row.request)
        ours = choose(here, asked, catalog)
        if asked.backend or ours.backend is None or ours.torch is None or ours.backend.channel or "+" in row.request:
            continue
        theirs = uv_rule.choose(here, asked, catalog)
        pythons = read(here, asked, catalog).pythons
        newest = _newest(here, row.request, catalog)
        counts[0] += 1
        for at, pick in ((1, (ours.backend, ours.torch)), (3, theirs)):
            if pick and _runs(here, *pick, pythons, catalog):
                counts[at] += 1
                counts[at + 1] += pick[1] == newest
    return Score(*counts)


def _runs(here: Machine, backend: Backend, release: str, pythons: frozenset[str], catalog: Catalog) -> bool:
    """Whether a build runs and is for the GPUs that count."""
    hardware = fit.hardware(here, catalog)
    if backend.family != hardware.family:
        return False
    return fit.fault(here, hardware.gpus, backend, release, pythons, catalog) is None


def _newest(here: Machine, asked: str, catalog: Catalog) -> str | None:
    """The newest release with any build that runs, by trying them all."""
    need = read(here, request(asked), catalog)
    running = [
        release
        for backend, index in catalog.builds.items()
        for release in index
        if release in need.releases and _runs(here, backend, release, need.pythons, catalog)
    ]
    return max(running, key=number, default=None)

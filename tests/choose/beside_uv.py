"""uvtorch's choice and uv's own rule, both on every row of the decision table."""

from typing import NamedTuple

from tests.choose.described import machine, request
from tests.choose.rows import ROWS
from uvtorch.catalog import Catalog, number
from uvtorch.choose import choose, evaluate
from uvtorch.verbs.explain import auto


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
        theirs = auto(here, asked, catalog)
        runs = {
            (one.backend, one.release): one.requested for one in evaluate(here, asked, catalog).rows if not one.fault
        }
        newest = max((release for (_, release), requested in runs.items() if requested), key=number, default=None)
        counts[0] += 1
        for at, pick in ((1, (ours.backend, ours.torch)), (3, theirs)):
            if pick and pick in runs:
                counts[at] += 1
                counts[at + 1] += pick[1] == newest
    return Score(*counts)

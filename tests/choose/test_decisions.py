"""The table of decisions, and what a decision says beside its build."""

import pytest

from tests.choose.described import Row, machine, request
from tests.choose.rows import ROWS
from uvtorch import catalog as catalogs
from uvtorch.choose import Decision, choose

CATALOG = catalogs.load()


def shown(decision: Decision) -> str:
    if decision.ask:
        return " ".join(["ask", *map(str, decision.ask)])
    if decision.refusal:
        return decision.refusal
    bounds = [f"{package}{bound}" for package, bound in decision.bounds]
    return " ".join([str(decision.backend), decision.torch or "-", *bounds])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.machine} | {row.request}")
def test_decision(row: Row) -> None:
    decision = choose(machine(row.machine), request(row.request), CATALOG)
    assert shown(decision) == row.expected, row.why
    assert (decision.backend is None) == (decision.refusal is not None or bool(decision.ask))


def test_the_table_is_large_and_says_why() -> None:
    assert len(ROWS) >= 150
    assert all(row.why and row.source for row in ROWS)
    assert len({(row.machine, row.request) for row in ROWS}) == len(ROWS)

"""The table of decisions, and what a decision says beside its build."""

from collections.abc import Iterator
from pathlib import Path

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


def adversarial() -> Iterator[tuple[str, str, str, str]]:
    """(kind, machine, request, expected) of each row of the file."""
    kind = ""
    for line in (Path(__file__).parent / "adversarial.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            kind = line[2:]
        elif line:
            here, asked, expected = line.split(" | ")
            yield kind, here, asked, expected


@pytest.mark.parametrize(("kind", "here", "asked", "expected"), [*adversarial()])
def test_where_a_plausible_choice_is_wrong(kind: str, here: str, asked: str, expected: str) -> None:
    decision = choose(machine(here), request(asked), CATALOG)
    how, _, text = expected.partition(" ")
    if how == "refused":
        assert (decision.refusal or shown(decision)).startswith(text), kind
    elif how == "warns":
        assert text in " ".join(decision.warnings), kind
    else:
        assert shown(decision) == expected, kind


def test_the_table_is_large_and_says_why() -> None:
    assert len(ROWS) >= 150
    assert len([*adversarial()]) >= 108
    assert all(row.why and row.source for row in ROWS)
    assert len({(row.machine, row.request) for row in ROWS}) == len(ROWS)

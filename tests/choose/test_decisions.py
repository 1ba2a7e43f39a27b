"""The table of decisions, and what a decision says beside its build."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.choose.described import machine, request
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


def decided(here: str, asked: str) -> Decision:
    decision = choose(machine(here), request(asked), CATALOG)
    assert (decision.backend is None) == (decision.refusal is not None or bool(decision.ask))
    return decision


@pytest.mark.parametrize("here", dict.fromkeys(row.machine for row in ROWS))
def test_decisions_on_a_machine(here: str) -> None:
    for row in ROWS:
        if row.machine == here:
            assert (row.request, shown(decided(here, row.request))) == (row.request, row.expected), row.why


def adversarial() -> Iterator[tuple[str, str, str, str]]:
    """(kind, machine, request, expected) of each row of the file."""
    kind = ""
    for line in (Path(__file__).parent / "adversarial.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            kind = line[2:]
        elif line:
            here, asked, expected = line.split(" | ")
            yield kind, here, asked, expected


@pytest.mark.parametrize("kind", dict.fromkeys(row[0] for row in adversarial()))
def test_where_a_plausible_choice_is_wrong(kind: str) -> None:
    for _, here, asked, expected in (row for row in adversarial() if row[0] == kind):
        decision = decided(here, asked)
        how, _, text = expected.partition(" ")
        if how == "refused":
            assert (decision.refusal or shown(decision)).startswith(text), (here, asked)
        elif how == "warns":
            assert text in " ".join(decision.warnings), (here, asked)
        else:
            assert shown(decision) == expected, (here, asked)


def test_the_table_is_large_and_says_why() -> None:
    assert len(ROWS) >= 150
    assert len([*adversarial()]) >= 108
    assert all(row.why and row.source for row in ROWS)
    assert len({(row.machine, row.request) for row in ROWS}) == len(ROWS)

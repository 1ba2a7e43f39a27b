"""uv's own rule on the rows of the decision table: how often each picks a build that runs, and the newest that does."""

import pytest

from tests.choose import uv_rule
from tests.choose.beside_uv import compare
from tests.choose.described import machine, request
from uvtorch import catalog as catalogs

CATALOG = catalogs.load()


def test_every_choice_runs_and_is_the_newest_and_uv_falls_behind() -> None:
    score = compare(CATALOG)
    print(score)
    assert score.rows >= 150
    assert score.ours_runs == score.ours_newest == score.rows
    assert score.uv_newest < score.uv_runs < score.rows


@pytest.mark.parametrize(
    ("described", "asked", "expected"),
    [
        ("linux 580.95.05 9.0", "torch", "cu132 2.15.0"),
        ("linux 535.183.01 9.0", "torch", "cu129 2.13.0"),
        ("linux 520.61.05 8.6", "torch", "cu118 2.7.1"),
        ("linux 535.183.01 9.0", "torch==2.15.0", "cpu 2.15.0"),
        ("linux 535.183.01 9.0", "torch==2.14.1", "cu126 2.14.1"),
        ("linux 580.95.05 9.0", "torch==2.11.0", "cu130 2.11.0"),
        ("linux gfx1100", "torch", "rocm7.2 2.14.1"),
        ("linux apu:gfx1151", "torch", "rocm7.2 2.14.1"),
        ("linux gfx1100", "torch==2.15.0", "cpu 2.15.0"),
        ("windows 527.41 8.6", "torch", "cu118 2.7.1"),
        ("windows gfx1100", "torch", "cpu 2.15.0"),
    ],
)
def test_the_rule_is_what_uv_was_seen_to_do(described: str, asked: str, expected: str) -> None:
    # Measured with uv 0.13.8 against an index that followed the release matrix.
    found = uv_rule.choose(machine(described), request(asked), CATALOG)
    assert found
    assert f"{found[0]} {found[1]}" == expected

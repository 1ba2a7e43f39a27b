"""uv's own rule on the rows of the decision table: how often each picks a build that runs, and the newest that does."""

import shlex

import pytest

from tests.choose.beside_uv import compare
from tests.choose.described import machine, request
from uvtorch import catalog as catalogs
from uvtorch import hardware
from uvtorch.choose import Request
from uvtorch.verbs.explain import auto
from uvtorch.verbs.explain import compare as beside

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
    found = auto(machine(described), request(asked), CATALOG)
    assert found
    assert f"{found[0]} {found[1]}" == expected


@pytest.mark.parametrize(
    ("name", "plain", "automatic"),
    [
        ("gtx1080", ("cu132", "2.15.0", "does not run here"), ("cu132", "2.15.0", "does not run here")),
        ("rtx5090", ("cu132", "2.15.0", "does not run here"), ("cu129", "2.13.0", "runs here")),
        ("h100", ("cu132", "2.15.0", "does not run here"), ("cu129", "2.13.0", "runs here")),
        ("mi300x", ("cu132", "2.15.0", "leaves the GPU idle"), ("rocm7.2", "2.14.1", "runs here")),
        ("mi50", ("cu132", "2.15.0", "leaves the GPU idle"), ("rocm7.2", "2.14.1", "does not run here")),
        ("rtx5090-windows", ("cpu", "2.15.0", "leaves the GPU idle"), ("cu129", "2.9.0", "runs here")),
        ("jetson-orin", ("cu132", "2.15.0", "does not run here"), ("cu129", "2.13.0", "does not run here")),
        ("macbook", ("cpu", "2.15.0", "runs here"), ("cpu", "2.15.0", "runs here")),
    ],
)
def test_what_plain_uv_takes_on_a_described_machine(
    name: str, plain: tuple[str, str, str], automatic: tuple[str, str, str]
) -> None:
    found = beside(hardware.described()[name], Request(("torch",)), CATALOG)
    assert tuple((str(one.backend), one.option.torch, one.verdict) for one in found) == (plain, automatic)
    assert [one.command for one in found] == ["uv add torch", "uv pip install torch --torch-backend=auto"]


def test_what_plain_uv_cannot_find_is_said() -> None:
    for one in beside(hardware.described()["gtx1080"], Request(("torch==2.14.1",), "3.8"), CATALOG):
        assert (one.backend, one.option.fits, one.verdict) == (None, False, "finds no build")


def test_a_local_version_is_on_no_default_index_and_the_command_can_be_typed() -> None:
    asked = Request(("torch==2.9.1+cu126 ; sys_platform == 'linux'",))
    plain, automatic = beside(hardware.described()["h100"], asked, CATALOG)
    assert plain.verdict == "finds no build"
    assert (str(automatic.backend), automatic.option.torch, automatic.verdict) == ("cu126", "2.9.1", "runs here")
    assert shlex.split(plain.command) == ["uv", "add", *asked.requirements]

"""A project's own choices ranked, and its pins judged."""

import pytest

from tests.choose.described import machine, request
from uvtorch import catalog as catalogs
from uvtorch.audit import Case
from uvtorch.audit.machine import judge
from uvtorch.backend import Backend, parse
from uvtorch.choose import Ranking, Request, choose, rank_choices

CATALOG = catalogs.load()


def offered(text: str) -> list[Backend | None]:
    """`cpu cu126 pypi` as backends; `pypi` is None."""
    found = [None if name == "pypi" else parse(name) for name in text.split()]
    assert all(backend or name == "pypi" for backend, name in zip(found, text.split(), strict=True))
    return found


def rank(described: str, backends: str, asked: str = "torch", torch: tuple[str | None, ...] = ()) -> Ranking:
    return rank_choices(machine(described), request(asked), offered(backends), CATALOG, torch)


@pytest.mark.parametrize(
    ("described", "backends", "best"),
    [
        ("linux", "cpu cu126 cu130", "cpu"),
        ("linux 570.124.06 9.0", "cpu cu126 cu130", "cu126"),
        ("linux 580.95.05 9.0", "cpu cu126 cu130", "cu130"),
        ("linux 595.58.03 9.0", "cu130 cu132", "cu132"),
        ("linux 580.95.05 9.0", "cu132 cu130", "cu130"),
        ("linux 580.95.05 7.0", "cpu cu126 cu130", "cu126"),
        ("linux 570.124.06 12.0", "cpu cu126 cu128 cu129", "cu129"),
        ("linux 570.124.06 12.0", "cpu cu126 cu128", "cu128"),
        ("windows 572.61 12.0", "cpu cu128 cu129", "cu128"),
        ("linux gfx942", "cpu cu126 rocm6.4 rocm7.2", "rocm7.2"),
        ("linux 8086:56a0", "cpu xpu cu126", "xpu"),
        ("mac", "cpu cu126", "cpu"),
        ("mac", "cu126 pypi", "pypi"),
        ("linux", "cu126 pypi", "pypi"),
        ("linux 580.95.05 9.0", "cpu pypi", "pypi"),
        ("linux 595.58.03 9.0", "pypi cu132", "cu132"),
        ("linux 580.95.05 9.0", "cpu nightly/cu130", "nightly/cu130"),
        ("linux 580.95.05 9.0", "cpu cu140", "cpu"),
        ("linux 615.10 9.0", "cpu cu134", "cu134"),
    ],
)
def test_the_best_of_what_a_project_offers(described: str, backends: str, best: str) -> None:
    ranking = rank(described, backends)
    assert ranking.best is not None
    assert backends.split()[ranking.best] == best
    assert len(ranking.options) == len(backends.split())


def test_a_locked_release_counts_instead_of_the_newest() -> None:
    assert rank("linux 570.124.06 9.0", "cpu cu126 cu128").best == 1
    locked = rank("linux 570.124.06 9.0", "cpu cu126 cu128", torch=("2.9.1", "2.9.1", "2.9.1"))
    assert locked.best == 2
    assert locked.options[2].torch == "2.9.1"


def test_the_projects_requirement_counts() -> None:
    assert rank("linux 595.58.03 7.0", "cpu cu126 cu130", "torch==2.15.0").best == 0
    assert rank("linux 580.95.05 9.0", "cpu cu126 cu130", "torch<2.9").best == 1


def test_nothing_fits_gives_the_cpu_choice_with_a_warning() -> None:
    ranking = rank("linux 535.183.01 9.0", "cpu cu130")
    assert ranking.best == 0
    (said,) = ranking.warnings
    assert said.startswith("no GPU choice fits this machine (")
    assert "torch 2.15.0 needs a driver >= 580; this machine has 535.183.01): taking the CPU choice" in said
    assert not ranking.options[1].fits


def test_nothing_fits_and_no_cpu_choice_gives_none_with_a_warning() -> None:
    ranking = rank("linux 535.183.01 9.0", "cu130 cu132")
    assert ranking.best is None
    (said,) = ranking.warnings
    assert said.startswith("no backend choice fits this machine: ")
    assert said.endswith("torch 2.15.0 needs a driver >= 580; this machine has 535.183.01")
    assert rank("linux", "cu130").best is None
    (said,) = rank("linux", "cu130").warnings
    assert said.endswith("for NVIDIA GPUs; this machine has no GPU that PyTorch can use")


def test_a_broken_driver_gives_the_cpu_choice_and_says_why() -> None:
    ranking = rank("linux broken:nvidia", "cpu cu130")
    assert ranking.best == 0
    assert ranking.warnings == ("no GPU choice fits this machine (nvidia is broken): taking the CPU choice",)


def test_on_a_machine_without_gpu_the_cpu_choice_is_no_surprise() -> None:
    assert rank("linux", "cpu cu130").warnings == ()
    (said,) = rank("linux 8086:46a6", "cpu cu130").warnings
    assert "stays idle" in said


@pytest.mark.parametrize(
    ("described", "pin", "torch", "reason"),
    [
        ("linux 580.95.05 9.0", "cu130", None, ""),
        ("linux 580.95.05 9.0", "cu130", "2.15.0", ""),
        ("linux 580.95.05 9.0", "cu130", "2.16.0", ""),
        ("linux 550.144.03 9.0", "cu126", "2.14.1", ""),
        ("linux", "cpu", None, ""),
        ("linux 580.95.05 9.0", "cpu", "2.9.1", ""),
        (
            "linux 535.183.01 9.0",
            "cu130",
            "2.15.0",
            "torch 2.15.0 needs a driver >= 580; this machine has 535.183.01",
        ),
        (
            "linux 535.183.01 9.0",
            "cu130",
            None,
            "torch 2.15.0 needs a driver >= 580; this machine has 535.183.01",
        ),
        ("linux 535.183.01 9.0", "cu134", None, "it needs a driver >= 580; this machine has 535.183.01"),
        ("linux 595.58.03 7.0", "cu128", "2.11.0", "torch 2.11.0 has no kernels for GPU (7.0)"),
        ("linux 595.58.03 7.0", "cu128", None, ""),
        ("linux", "cu130", None, "cu130 needs an NVIDIA GPU, and none is visible here"),
        ("linux gfx942", "cu130", None, "cu130 needs an NVIDIA GPU, and none is visible here"),
        ("linux broken:nvidia", "cu130", None, "nvidia is broken"),
        ("linux gfx900", "rocm6.3", "2.9.1", ""),
        (
            "linux gfx900",
            "rocm7.2",
            "2.14.1",
            "torch 2.14.1 cannot be used: its rocBLAS has no kernels for gfx900",
        ),
        ("linux gfx900", "rocm7.14", None, "torch 2.14.1 has no kernels for Radeon (gfx900)"),
        ("linux 580.95.05 9.0", "cu126", "2.15.0", "its index has torch 2.6.0 to 2.14.1, not torch==2.15.0"),
        ("alpine", "cpu", None, "PyTorch has no wheels for musl libc (Alpine and the like); it needs glibc"),
        ("linux 580.95.05 9.0", "nightly/cu130", None, ""),
        ("intel-mac", "cpu", "2.9.1", "torch 2.9.1 has no wheel for macOS on Intel"),
    ],
)
def test_a_pin_is_judged_on_this_machine(described: str, pin: str, torch: str | None, reason: str) -> None:
    backend = parse(pin)
    assert backend
    asked = Request((f"torch=={torch}",) if torch else (), backend=backend)
    assert choose(machine(described), asked, CATALOG).fault == (reason or None)


@pytest.mark.parametrize(
    ("described", "pin", "torch", "reason"),
    [
        ("linux 580.95.05 9.0", "cpu", None, "cpu leaves GPU (9.0) idle; cu130 would use it"),
        ("linux 535.183.01 9.0", "cpu", "2.9.1", "cpu leaves GPU (9.0) idle; cu126 would use it"),
        ("linux 535.183.01 9.0", "cpu", "2.15.0", "cpu leaves GPU (9.0) idle; cu126 would use it"),
        ("linux gfx942", "cpu", None, "cpu leaves Radeon (gfx942) idle; rocm7.2 would use it"),
        ("linux 580.95.05 9.0", "cu126", None, None),
        ("linux", "cpu", None, None),
        ("linux broken:nvidia", "cpu", None, None),
        ("linux 8086:46a6", "cpu", None, None),
        ("mac", "cpu", None, None),
    ],
)
def test_a_cpu_pin_beside_a_usable_gpu_leaves_it_idle(
    described: str, pin: str, torch: str | None, reason: str | None
) -> None:
    backend = parse(pin)
    assert backend
    found = [*judge(Case(machine(described), CATALOG), backend, torch, "It")]
    assert [one.message for one in found] == ([f"It does not use this machine's GPU: {reason}."] if reason else [])

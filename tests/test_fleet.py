"""Fleets: the smallest set of backends for many machines, and the example that collects, locks and syncs."""

import json
import os
import random
import stat
import subprocess
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.examples import given
from tests.hardware.scenes import to_json
from tests.index.project import Home, Project
from uvtorch import catalog
from uvtorch.backend import Backend
from uvtorch.choose import Request, rank_choices
from uvtorch.fleet import Served, smallest
from uvtorch.machine import Driver, Machine, from_json

pytest_plugins = ["tests.index.fixtures"]

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "fleet"
KNOWN = {path.stem: from_json(path.read_bytes(), path.name) for path in (HERE / "machines").glob("*.json")}
CATALOG = catalog.load()
TORCH = Request(("torch",), python="3.12")


def served(*names: str, request: Request = TORCH) -> str:
    return " ".join(map(str, smallest([KNOWN[name] for name in names], request, CATALOG).backends))


def fleet(size: int, seed: int = 1) -> list[Machine]:
    """Nodes of a few kinds, no two alike: every one has its own GPUs' UUIDs, names and point release of the driver."""
    chance = random.Random(seed)
    kinds = ["cpu-only", "h100-535", "rtx4090-550", "h200-580", "b200-590", "v100-535", "mi300x-gfx942", "arc-b580"]
    found = []
    for number in range(size):
        machine = KNOWN[chance.choice(kinds)]
        gpus = tuple(
            gpu._replace(uuid=f"GPU-{number}-{at}", name=f"{gpu.name} #{number}") for at, gpu in enumerate(machine.gpus)
        )
        driver = machine.nvidia_driver
        if driver:
            driver = Driver(f"{driver.version.partition('.')[0]}.{100 + number % 80}.{number % 97:02}", driver.cuda)
        found.append(machine._replace(gpus=gpus, nvidia_driver=driver))
    return found


@pytest.mark.parametrize(
    ("machines", "backends"),
    [
        (["cpu-only"], "cpu"),
        (["macos-m3", "cpu-only", "windows-cpu"], "cpu"),
        (["rtx4090-550"], "cu126"),  # the newest torch for drivers below 580
        (["h200-580"], "cu130"),  # native: cu132 would run by minor-version compatibility
        (["h100-535", "v100-535", "rtx4090-550"], "cu126"),
        (["h100-535", "h200-580"], "cu126"),  # one serves both, though the newer could have a newer torch
        (["v100-535", "b200-590"], "cu126 cu130"),  # no index has kernels for both in its newest torch
        (["cpu-only", "h200-580", "mi300x-gfx942", "arc-b580"], "cpu xpu rocm7.2 cu130"),
        (["macos-m3", "rtx4090-550"], "cpu cu126"),
        (["t4-470", "rtx4090-550"], "cu118"),
    ],
)
def test_the_fewest_that_serve_all(machines: list[str], backends: str) -> None:
    assert served(*machines) == backends


def test_the_request_counts() -> None:
    pinned = Request(("torch==2.9.1",), python="3.12")
    assert served("rtx4090-550", "h200-580", request=pinned) == "cu129"  # cu126 to cu129 serve both
    assert served("mi300x-gfx942", request=pinned) == "rocm6.4"


def test_what_nothing_serves_is_told_with_its_places() -> None:
    machines = [KNOWN[name] for name in ("cpu-only", "broken-mismatch", "k80-470", "broken-mismatch", "alpine-musl")]
    found = smallest(machines, TORCH, CATALOG)
    assert found.backends == (Backend("cpu"),)
    assert [one.machines for one in found.unserved] == [(1, 3), (2,), (4,)]
    reasons = [one.reason for one in found.unserved]
    assert reasons[0].startswith("NVIDIA: the driver's library and its kernel module are of different versions")
    assert "K80" in reasons[1]
    assert "musl" in reasons[2]


def test_each_machine_is_named_with_the_backend_that_it_takes() -> None:
    found = smallest([KNOWN[name] for name in ("mi300x-gfx942", "cpu-only", "h100-535", "rtx4090-550")], TORCH, CATALOG)
    takes = {str(backend): places for backend, places in found.takes.items()}
    assert takes == {"cpu": (1,), "rocm7.2": (0,), "cu126": (2, 3)}


def test_a_release_that_uv_would_not_take_serves_nobody() -> None:
    """A V100 beside a B200 runs torch 2.10 at most, and an unbounded requirement gets a newer one."""
    found = smallest([KNOWN["v100-b200-580"]], TORCH, CATALOG)
    assert found.backends == ()
    assert "runs torch 2.10.0" in found.unserved[0].reason
    bounded = smallest([KNOWN["v100-b200-580"]], Request(("torch<2.11",), python="3.12"), CATALOG)
    assert [str(backend) for backend in bounded.backends] in (["cu128"], ["cu129"])


def test_no_machine_needs_nothing() -> None:
    assert smallest([], TORCH, CATALOG) == Served(())


@cache
def fitting_backends(name: str) -> frozenset[Backend | None]:
    options = rank_choices(KNOWN[name], TORCH, list(CATALOG.builds), CATALOG).options
    return frozenset(option.backend for option in options if option.fits)


@given(st.lists(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=6))
def test_every_machine_is_served_and_no_smaller_set_would_do(names: list[str]) -> None:
    found = smallest([KNOWN[name] for name in names], TORCH, CATALOG)
    left = {at for one in found.unserved for at in one.machines}
    needs = []
    for at, name in enumerate(names):
        if at in left:
            continue
        fitting = fitting_backends(name)
        assert fitting.intersection(found.backends)
        needs.append(fitting)
    every = sorted(set().union(*needs), key=str) if needs else []
    if found.backends:
        fewer = combinations(every, len(found.backends) - 1)
        assert not any(all(need.intersection(subset) for need in needs) for subset in fewer)


def test_a_thousand_machines_that_differ_are_few_kinds() -> None:
    machines = fleet(1000)
    assert len(set(machines)) > 800  # nodes without a GPU are all alike
    found = smallest(machines, TORCH, CATALOG)
    assert [str(backend) for backend in found.backends] == ["cpu", "xpu", "rocm7.2", "cu126", "cu130"]
    assert found.unserved == ()


def test_a_fleet_from_descriptions_to_every_node(home: Home, tmp_path: Path) -> None:
    """The example with 1,000 described machines: one set, one lock, and each kind of node gets its build from it."""
    project = Project(home, tmp_path)
    project.file.write_bytes((EXAMPLE / "pyproject.toml").read_bytes())
    (tmp_path / "machines").mkdir()
    machines = fleet(1000)
    paths = [f"machines/node{number:04}.json" for number in range(len(machines))]
    for path, machine in zip(paths, machines, strict=True):
        (tmp_path / path).write_text(to_json(machine))
    (tmp_path / "machines/node0000.json").write_text(to_json(KNOWN["broken-mismatch"]))
    project.uvtorch("torch", "backends", "--from", *paths, machine="windows-rtx5090-572").must()
    elsewhere = project.state()
    project.file.write_bytes((EXAMPLE / "pyproject.toml").read_bytes())
    done = project.uvtorch("torch", "backends", "--from", *paths).must()
    assert project.state() == elsewhere  # whoever types it
    assert "offering cpu, xpu, rocm7.2, cu126, cu130 as extras" in done.ours[0]
    for_whom = dict(row.removeprefix("uvtorch: ").split(": for ") for row in done.ours[1:])
    assert list(for_whom) == ["cpu", "xpu", "rocm7.2", "cu126", "cu130"]
    assert "warning: nothing serves machines/node0000.json: NVIDIA: the driver's library" in done.err
    locked = project.state()
    builds = {}
    for kind in ("cpu-only", "h100-535", "h200-580", "v100-535", "mi300x-gfx942", "arc-b580", "b200-590"):
        project.uvtorch("sync", "--auto", "--locked", machine=kind).must()
        found = project.installed()
        builds[kind] = found["torch"]
        assert found["torch"].partition("+")[2] == found["torchvision"].partition("+")[2]
    assert builds == {
        "cpu-only": "2.15.0+cpu",
        "h100-535": "2.14.1+cu126",
        "h200-580": "2.15.0+cu130",
        "v100-535": "2.14.1+cu126",
        "mi300x-gfx942": "2.14.1+rocm7.2",
        "arc-b580": "2.15.0+xpu",
        "b200-590": "2.15.0+cu130",
    }
    assert project.state() == locked


def test_a_description_that_cannot_be_read_is_one_error(home: Home, tmp_path: Path) -> None:
    project = Project(home, tmp_path)
    project.file.write_bytes((EXAMPLE / "pyproject.toml").read_bytes())
    (tmp_path / "half.json").write_text('{"schema": 1, "platform"')
    before = project.state()
    done = project.uvtorch("torch", "backends", "--from", "half.json").must(2)
    assert done.err.startswith("error: half.json is not a description of a machine")
    assert project.state() == before


def program(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
@pytest.mark.parametrize("engine", ["slurm", "kubernetes"])
def test_the_collecting_scripts_write_a_file_a_node(engine: str, tmp_path: Path) -> None:
    """With stand-ins for the cluster's programs that do what those do, as far as the scripts use them."""
    programs = tmp_path / "bin"
    programs.mkdir()
    described = HERE / "machines" / "h200-580.json"
    program(programs / "uvx", f'cat "{described}"\n')
    program(programs / "sinfo", "echo node1; echo node2; echo node2\n")
    program(
        programs / "srun",
        'test "$1 $2 $3 $4 $5" = "-N 2 --ntasks-per-node=1 -p gpu" || exit 9\nshift 5\n'
        'for node in node1 node2; do SLURMD_NODENAME=$node "$@" || exit; done\n',
    )
    program(
        programs / "kubectl",
        'case "$1" in get) printf "pod-a node1\\npod-b node2\\n" ;; exec) shift 3; "$@" ;; esac\n',
    )
    script = EXAMPLE / f"collect-{engine}.sh"
    (tmp_path / "work").mkdir()
    arguments = ["-p", "gpu"] if engine == "slurm" else []
    env = {"PATH": f"{programs}{os.pathsep}{os.defpath}"}
    done = subprocess.run(
        ["sh", str(script), *arguments], cwd=tmp_path / "work", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = sorted((tmp_path / "work" / "machines").iterdir())
    assert [path.name for path in found] == ["node1.json", "node2.json"]
    assert [json.loads(path.read_text())["schema"] for path in found] == [1, 1]

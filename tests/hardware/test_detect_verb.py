"""`torch detect`: the report, its JSON, and what detection costs in imports where there is no GPU."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.hardware.scenes import MACHINES
from uvtorch import machine
from uvtorch.argv import parse
from uvtorch.errors import MachineError
from uvtorch.machine import Gpu, Machine, Platform, Probe, Problem
from uvtorch.output import Output
from uvtorch.session import Session
from uvtorch.verbs import detect

NAMES = sorted(path.stem for path in MACHINES.glob("*.json"))


def run(capsys: pytest.CaptureFixture[str], env: Mapping[str, str], as_json: bool, described: str | None = None) -> str:
    words = [*(["--json"] if as_json else []), *(["--hardware", described] if described else [])]
    detect.detect.main(words, obj=Session(parse([]), env), standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_plain_and_at_most_100_columns_wide(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, {}, False, str(MACHINES / f"{name}.json"))
    assert text.isascii()
    assert all(len(line) <= 100 for line in text.splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_report_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    facts = Machine(
        Platform("linux", "aarch64", "glibc 2.35", wsl=True, container=True, tegra="R36.4.3"),
        (
            *[Gpu("nvidia", "NVIDIA H200", "9.0", memory_mib=143771)] * 8,
            Gpu("intel", "Intel UHD Graphics", pci_id="8086:4680"),
        ),
        machine.Driver("580.95.05", "13.0"),
        (
            Problem(
                "amd", "unreachable", "an AMD GPU is on the bus, but there is no /dev/kfd", "Start it with --device."
            ),
        ),
        ("HSA_OVERRIDE_GFX_VERSION=10.3.0 is in force.",),
        (Probe("nvml", "ok", "driver 580.95.05, 8 GPUs", 11.84), Probe("kfd", "absent", "", 0.0)),
    )
    detect.report(facts, Output(parse([]), {}))
    assert capsys.readouterr().out.splitlines() == [
        "platform       linux aarch64, glibc 2.35, Jetson R36.4.3, WSL, in a container",
        "NVIDIA driver  580.95.05 (CUDA 13.0)",
        "GPU            8 x NVIDIA H200, compute capability 9.0, 140 GiB",
        "               Intel UHD Graphics, not supported by PyTorch XPU",
        "unreachable    an AMD GPU is on the bus, but there is no /dev/kfd.",
        "               Start it with --device.",
        "note           HSA_OVERRIDE_GFX_VERSION=10.3.0 is in force.",
        "",
        "probe  result        time  what it said",
        "nvml   ok         11.8 ms  driver 580.95.05, 8 GPUs",
        "kfd    absent      0.0 ms",
    ]


def test_a_mac_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, {}, False, str(MACHINES / "macos-m3.json")).splitlines()[0] == "platform  macos 15.1 arm64"


def test_json_of_a_description_is_that_description(capsys: pytest.CaptureFixture[str]) -> None:
    path = MACHINES / "h200-580.json"
    assert run(capsys, {}, True, str(path)) == path.read_text()
    assert run(capsys, {"UVTORCH_HARDWARE": str(path)}, True) == path.read_text()


def test_the_option_wins_over_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    env = {"UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json")}
    assert "gfx942" in run(capsys, env, True, str(MACHINES / "mi300x-gfx942.json"))


def test_an_unreadable_description_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MachineError):
        run(capsys, {}, False, str(tmp_path / "none"))


def test_the_command_takes_its_environment_from_the_context() -> None:
    session = Session(parse([]), {"UVTORCH_HARDWARE": str(MACHINES / "arc-a770.json")})
    result = CliRunner().invoke(detect.detect, ["--json"], obj=session)
    assert result.exit_code == 0
    assert json.loads(result.output)["gpus"][0]["pci_id"] == "8086:56a0"


DETECT = (
    "import os; from uvtorch.argv import parse; from uvtorch.session import Session;"
    "from uvtorch.verbs.detect import detect; detect(['--json', *{}], obj=Session(parse([]), os.environ))"
)


def test_a_machine_read_from_standard_input_prints_the_same() -> None:
    """`detect --json | UVTORCH_HARDWARE=/dev/stdin detect --json`, with the times of the first."""
    first = subprocess.run([sys.executable, "-c", DETECT.format([])], capture_output=True, check=True)
    for env, described in (
        ({"UVTORCH_HARDWARE": "/dev/stdin"}, []),
        ({}, ["--hardware", "-"]),
        ({}, ["--hardware=/dev/stdin"]),
    ):
        command = [sys.executable, "-c", DETECT.format(described)]
        again = subprocess.run(command, input=first.stdout, capture_output=True, check=True, env=env)
        assert again.stdout == first.stdout


def test_without_a_gpu_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); from uvtorch import hardware; from uvtorch.hardware.scene import Host;"
        "from uvtorch.machine import Platform;"
        f"hardware.detect({{}}, root={str(tmp_path)!r}, host=Host(Platform('linux', 'x86_64', 'glibc 2.39'), '6.8.0'));"
        "print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    heavy = {
        "ctypes",
        "json",
        "dataclasses",
        "subprocess",
        "threading",
        "platform",
        "pathlib",
        "tomllib",
        "pynvml",
        "click",
    }
    assert not heavy & loaded
    own = {name for name in loaded if name.startswith("uvtorch")}
    assert own == {
        "uvtorch", "uvtorch.errors", "uvtorch.files", "uvtorch.machine", "uvtorch.hardware",
        *(f"uvtorch.hardware.{name}" for name in (
            "amd", "intel", "nvidia", "scene",
        )),
    }  # fmt: skip

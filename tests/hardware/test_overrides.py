"""uv's own variables: they replace detection as they do in uv."""

import subprocess
import sys
from pathlib import Path

import pytest
import uv

from tests.hardware.conftest import Detect
from tests.hardware.scenes import H100, LINUX, Scene, cards
from uvtorch import hardware
from uvtorch.errors import UsageError
from uvtorch.machine import Driver, Gpu


@pytest.mark.parametrize("version", ["550.144", "550.144.03", "550", "580.95.05", " 550.144 "])
def test_a_driver_version_stands_for_a_gpu_of_unknown_model(version: str, detect: Detect) -> None:
    machine = detect(Scene(env={"UV_CUDA_DRIVER_VERSION": version}))
    assert machine.nvidia_driver == Driver(version.strip())
    assert machine.gpus == (Gpu("nvidia", "NVIDIA GPU"),)
    assert f"UV_CUDA_DRIVER_VERSION={version.strip()} is in force" in machine.notes[0]


def test_an_architecture_stands_for_a_gpu(detect: Detect) -> None:
    machine = detect(Scene(env={"UV_AMD_GPU_ARCHITECTURE": "gfx942"}))
    assert [(gpu.vendor, gpu.architecture) for gpu in machine.gpus] == [("amd", "gfx942")]


def test_the_drivers_variable_comes_first(detect: Detect) -> None:
    machine = detect(Scene(env={"UV_CUDA_DRIVER_VERSION": "550.144", "UV_AMD_GPU_ARCHITECTURE": "gfx942"}))
    assert [gpu.vendor for gpu in machine.gpus] == ["nvidia"]


def test_no_hardware_is_asked_under_an_override(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, H100, UV_CUDA_DRIVER_VERSION="535.183.01"))
    assert machine.nvidia_driver == Driver("535.183.01")
    assert {probe.outcome for probe in machine.probes} == {"skipped"}


def test_an_empty_variable_is_an_unset_one(detect: Detect) -> None:
    machine = detect(Scene(env={"UV_CUDA_DRIVER_VERSION": "", "UV_AMD_GPU_ARCHITECTURE": "", "UVTORCH_HARDWARE": ""}))
    assert machine.gpus == ()
    assert {probe.outcome for probe in machine.probes} == {"absent"}


@pytest.mark.parametrize(
    "version", ["abc", "550.144-foo", "v550", "550..1", "550.", "1.2.3.4.5", "55\x1b[0m", "\u0665\u0665\u0660"]
)
def test_what_is_no_driver_version_is_an_error(version: str) -> None:
    with pytest.raises(UsageError, match="is not the version of an NVIDIA driver") as caught:
        hardware.detect({"UV_CUDA_DRIVER_VERSION": version}, host=LINUX)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("version", ["12.8", "13.0", "9.0"])
def test_a_version_of_cuda_is_not_taken_for_a_drivers(version: str) -> None:
    # uv takes it for an ancient driver and installs the CPU build.
    with pytest.raises(UsageError, match="looks like a version of CUDA"):
        hardware.detect({"UV_CUDA_DRIVER_VERSION": version}, host=LINUX)


@pytest.mark.parametrize(
    "architecture", ["1100", "GFX1100", "gfx90a:sramecc+:xnack-", "gfx", "gfx12345", "gfxyyyy", "MI300X"]
)
def test_what_is_no_architecture_is_an_error(architecture: str) -> None:
    with pytest.raises(UsageError, match="is not the name of an AMD GPU architecture"):
        hardware.detect({"UV_AMD_GPU_ARCHITECTURE": architecture}, host=LINUX)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("UV_CUDA_DRIVER_VERSION", "550.144.03", True),
        ("UV_CUDA_DRIVER_VERSION", " 550.144 ", True),
        ("UV_CUDA_DRIVER_VERSION", "", True),
        ("UV_CUDA_DRIVER_VERSION", "abc", False),
        ("UV_CUDA_DRIVER_VERSION", "550.144-foo", False),
        ("UV_AMD_GPU_ARCHITECTURE", "gfx1100", True),
        ("UV_AMD_GPU_ARCHITECTURE", "", True),
        ("UV_AMD_GPU_ARCHITECTURE", "1100", False),
        ("UV_AMD_GPU_ARCHITECTURE", "GFX1100", False),
    ],
)
def test_uv_reads_the_variables_the_same_way(name: str, value: str, accepted: bool, tmp_path: Path) -> None:
    command = [uv.find_uv_bin(), "pip", "compile", "--offline", "--no-config", "--torch-backend", "auto", "-"]
    command += ["--python", sys.executable]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path), name: value}
    result = subprocess.run(command, input=b"torch", capture_output=True, env=env, cwd=tmp_path, check=False)
    assert (b"Failed to parse environment variable" not in result.stderr) is accepted
    try:
        hardware.detect({name: value}, root=str(tmp_path), host=LINUX)
    except UsageError:
        assert not accepted
    else:
        assert accepted

"""The platform: system, machine, C library, WSL, containers, Jetsons, Macs."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import ARM, JETSON, LINUX, ORIN_RELEASE, Scene, lay_out
from uvtorch.hardware import scene as host
from uvtorch.hardware.scene import Host, parse_tegra_release
from uvtorch.hardware.scene import Scene as Looked
from uvtorch.machine import Platform, processor


def platform(
    files: dict[str, str], root: Path, of: Host = LINUX, env: Mapping[str, str] = MappingProxyType({})
) -> Platform:
    lay_out(root, files)
    return Looked(of, env, str(root)).platform


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "x86_64"), ("linux", "aarch64", "aarch64"), ("linux", "arm64", "aarch64"),
        ("macos", "arm64", "arm64"), ("windows", "AMD64", "x86_64"), ("windows", "ARM64", "arm64"),
        ("linux", "riscv64", "riscv64"), ("linux", "ppc64le", "ppc64le"),
    ],
)  # fmt: skip
def test_machines_have_the_contracts_names(system: str, machine: str, name: str) -> None:
    assert processor(system, machine) == name


@pytest.mark.skipif(sys.platform != "linux", reason="tells what Linux tells")
def test_this_host_is_told_as_the_kernel_has_it() -> None:
    here = host.this_host()
    assert here.platform.system == "linux"
    assert here.platform.machine == os.uname().machine
    assert here.release == os.uname().release
    assert here.platform.libc is None or here.platform.libc.split()[0] in ("glibc", "musl")


def test_musl_is_told_by_its_loader(tmp_path: Path) -> None:
    assert platform({}, tmp_path, LINUX._replace(platform=LINUX.platform._replace(libc=None))).libc is None
    assert (
        platform(
            {"/lib/ld-musl-x86_64.so.1": ""}, tmp_path, LINUX._replace(platform=LINUX.platform._replace(libc=None))
        ).libc
        == "musl"
    )
    assert platform({}, tmp_path).libc == LINUX.platform.libc


@pytest.mark.parametrize(
    ("release", "wsl"),
    [
        ("6.6.87.2-microsoft-standard-WSL2", True),
        ("4.4.0-19041-Microsoft", True),
        ("6.8.0-51-generic", False),
        ("5.15.0-1061-azure", False),
    ],
)
def test_wsl_is_told_by_its_kernel(release: str, wsl: bool, tmp_path: Path) -> None:
    assert platform({}, tmp_path, LINUX._replace(release=release)).wsl is wsl


@pytest.mark.parametrize(
    "files",
    [
        {"/.dockerenv": ""},
        {"/run/.containerenv": ""},
        {"/.singularity.d/labels.json": "{}"},
        {"/proc/1/cgroup": "12:pids:/docker/0123456789abcdef\n"},
        {"/proc/1/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-0123.scope\n"},
        {"/proc/1/cgroup": "1:name=systemd:/lxc/101\n"},
    ],
)
def test_containers_are_told_by_their_files(files: dict[str, str], tmp_path: Path) -> None:
    assert platform(files, tmp_path).container


@pytest.mark.parametrize("name", ["KUBERNETES_SERVICE_HOST", "container"])
def test_containers_are_told_by_their_environment(name: str, tmp_path: Path) -> None:
    assert platform({}, tmp_path, env={name: "x"}).container
    assert not platform({}, tmp_path, env={name: ""}).container


@pytest.mark.parametrize("text", ["0::/init.scope\n", "0::/\n", "1:name=systemd:/\n"])
def test_a_host_is_no_container(text: str, tmp_path: Path) -> None:
    assert not platform({"/proc/1/cgroup": text}, tmp_path).container


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (ORIN_RELEASE, "R36.4.3"),
        (
            "# R32 (release), REVISION: 7.4, GCID: 33514132, BOARD: t210ref, EABI: aarch64, DATE: Fri Jun  9\n",
            "R32.7.4",
        ),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n", "R38.2.0"),
        ("# R36 (release)", "R36"),
        ("# R36 (release), REVISION:", "R36"),
        ("", "unknown release"),
        ("\0\0", "unknown release"),
    ],
)
def test_l4ts_release_is_read(text: str, release: str) -> None:
    assert parse_tegra_release(text) == release


def test_a_jetson_is_told_by_its_file_or_its_kernel(tmp_path: Path) -> None:
    assert platform({}, tmp_path, JETSON).tegra == "unknown release"
    assert platform({}, tmp_path, ARM).tegra is None
    assert platform({"/etc/nv_tegra_release": ORIN_RELEASE}, tmp_path, ARM).tegra == "R36.4.3"


@pytest.mark.parametrize(
    ("chip", "capability"),
    [("tegra210", "5.3"), ("tegra186", "6.2"), ("tegra194", "7.2"), ("tegra234", "8.7"), ("tegra264", "11.0")],
)
def test_a_jetson_without_nvml_is_told_by_its_device_tree(chip: str, capability: str, detect: Detect) -> None:
    files = {"/proc/device-tree/compatible": f"nvidia,p0000\0nvidia,{chip}\0", "/dev/nvhost-ctrl-gpu": ""}
    machine = detect(Scene(JETSON, files))
    assert [gpu.compute_capability for gpu in machine.gpus] == [capability]


def test_a_container_on_a_jetson_without_device_files_has_no_gpu(detect: Detect) -> None:
    files = {"/proc/device-tree/compatible": "nvidia,tegra234\0", "/.dockerenv": ""}
    machine = detect(Scene(JETSON, files))
    assert machine.gpus == ()
    assert machine.problems[0].kind == "unreachable"


# Macs


def test_apple_silicon_has_its_gpu(detect: Detect) -> None:
    found = detect(Scene(Host(Platform("macos", "arm64"), chip="Apple M3")))
    assert [(gpu.vendor, gpu.name) for gpu in found.gpus] == [("apple", "Apple M3")]
    assert (found.notes, found.probes[0].outcome) == ((), "ok")


@pytest.mark.parametrize("chip", ["Apple M3", "VirtualApple @ 2.50GHz processor"])
def test_rosetta_is_told(chip: str, detect: Detect) -> None:
    found = detect(Scene(Host(Platform("macos", "x86_64"), chip=chip)))
    assert found.gpus == ()
    assert "Rosetta" in found.notes[0]
    assert "2.2.2" in found.notes[0]


def test_an_intel_mac_is_told_where_pytorch_ends(detect: Detect) -> None:
    found = detect(Scene(Host(Platform("macos", "x86_64"), chip="Intel(R) Core(TM) i7")))
    assert (found.gpus, found.probes[0].outcome) == ((), "absent")
    assert found.notes == ("PyTorch's wheels for Intel Macs end at 2.2.2.",)


def test_macos_has_its_version(detect: Detect) -> None:
    assert (
        detect(Scene(Host(Platform("macos", "arm64", os_version="13.6"), chip="Apple M1"))).platform.os_version
        == "13.6"
    )


def test_a_system_without_wheels_is_told(detect: Detect) -> None:
    machine = detect(Scene(Host(Platform("freebsd", "amd64"))))
    assert machine.notes == ("PyTorch has no wheels for freebsd.",)

"""NVIDIA without NVML: the kernel module's files, Jetsons, and what CUDA_VISIBLE_DEVICES leaves."""

from pathlib import Path

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import A100, H100, LINUX, SLICES, V100, WSL, Link, Scene, cards, module, nodes, pci
from tests.hardware.standin import Nvml, gpu_uuid
from uvtorch.hardware import nvidia
from uvtorch.hardware.scene import Scene as Looked
from uvtorch.machine import Driver, Gpu, Machine


def probes(machine: Machine) -> dict[str, str]:
    return {probe.probe: probe.outcome for probe in machine.probes}


# /proc/driver/nvidia/version, as people posted it

BANNERS = [
    (  # an open module
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder@U16-A24-9-2)  "
        "Thu Oct 10 12:15:00 UTC 2024\nGCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n",
        "565.57.01",
    ),
    (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  525.60.11  Release Build  "
        "(archlinux-builder@localhost)  \nGCC version:  gcc version 12.2.0 (GCC) \n",
        "525.60.11",
    ),
    (  # the closed one
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.182.03  Fri Feb 24 03:29:56 UTC 2023\n"
        "GCC version:  gcc version 9.4.0 (Ubuntu 9.4.0-1ubuntu1~20.04.1) \n",
        "470.182.03",
    ),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  375.74  Wed Jun 14 01:39:39 PDT 2017\n", "375.74"),
    ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  550.120  Fri Sep 13 11:01:10 UTC 2024", "550.120"),
    (  # a Jetson Orin NX with JetPack 5: L4T's release
        "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  35.3.1  Release Build  "
        "(buildbrain@mobile-u64-6289-d7000)  Sun Mar 19 08:09:33 PDT 2023\n",
        None,
    ),
    ("", None),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module\n", None),
    ("GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n", None),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.", None),
    ("\0" * 4096, None),
]


@pytest.mark.parametrize(("text", "version"), BANNERS)
def test_the_modules_banner_tells_the_version(text: str, version: str | None) -> None:
    assert nvidia.version_in(text) == version


BARE = {**module("550.144.03"), **nodes(2), **pci("0000:10:00.0", "10de:2684", "nvidia")}


def test_a_library_that_cannot_be_loaded_in_a_container_without_device_files_is_not_broken(detect: Detect) -> None:
    files = {**pci("0000:10:00.0", "10de:2684"), "/usr/lib64/libnvidia-ml.so.1": "not a library", "/.dockerenv": ""}
    assert [problem.kind for problem in detect(Scene(files=files)).problems] == ["unreachable"]


def test_files_alone_tell_the_driver(detect: Detect) -> None:
    machine = detect(Scene(files=BARE))
    assert machine.gpus == (Gpu("nvidia", "NVIDIA GPU"),)
    assert machine.nvidia_driver == Driver("550.144.03")
    assert machine.problems == ()


def test_the_sysfs_version_serves_where_proc_has_none(detect: Detect) -> None:
    files = {"/sys/module/nvidia/version": "535.183.01\n", **nodes(1)}
    assert detect(Scene(files=files)).nvidia_driver == Driver("535.183.01")


# WSL: no /proc and no /sys files of the driver


def test_a_library_that_cannot_be_loaded_on_wsl_is_a_broken_driver(detect: Detect) -> None:
    machine = detect(Scene(WSL, {"/dev/dxg": "", "/usr/lib/wsl/lib/libnvidia-ml.so.1": "not a library"}))
    assert [problem.kind for problem in machine.problems] == ["broken"]
    assert "wsl --update" in machine.problems[0].remedy


def test_wsl_without_an_nvidia_gpu_is_no_problem(detect: Detect) -> None:
    machine = detect(Scene(WSL, {"/dev/dxg": ""}))
    assert (machine.gpus, machine.problems, machine.platform.wsl) == ((), (), True)


# The three states


def test_a_gpu_bound_to_nouveau_on_a_machine_without_nvidias_driver(detect: Detect) -> None:
    machine = detect(Scene(files=pci("0000:01:00.0", "10de:1b80", "nouveau")))
    [problem] = machine.problems
    assert problem.kind == "unreachable"
    assert "not installed (nouveau has it)" in problem.reason
    assert problem.remedy == "Install NVIDIA's driver to use it."


def test_gpus_that_are_all_given_to_virtual_machines_are_unreachable(detect: Detect) -> None:
    files = {**pci("0000:01:00.0", "10de:2684", "vfio-pci"), **pci("0000:02:00.0", "10de:2684", "vfio-pci")}
    [problem] = detect(Scene(files=files, nvml=Nvml(init=9))).problems
    assert (problem.kind, problem.remedy) == ("unreachable", "")
    assert "handed to virtual machines (vfio-pci)" in problem.reason


def test_a_container_without_device_files_tells_the_hosts_driver(detect: Detect) -> None:
    scene = Scene(files={**module("570.124.06"), **pci("0000:01:00.0", "10de:2330", "nvidia")})
    machine = detect(scene._replace(env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}))
    [problem] = machine.problems
    assert problem.kind == "unreachable"
    assert "the host's driver is 570.124.06" in problem.reason
    assert "--gpus all" in problem.remedy
    assert machine.nvidia_driver is None, "a driver that cannot be reached decides nothing"


@pytest.mark.parametrize("code", [4, 9, 999])
def test_a_container_with_the_library_but_no_device_files_is_not_broken(code: int, detect: Detect) -> None:
    files = {**module("570.124.06"), **pci("0000:01:00.0", "10de:2330", "nvidia"), "/.dockerenv": ""}
    machine = detect(Scene(files=files, nvml=Nvml(init=code)))
    assert [problem.kind for problem in machine.problems] == ["unreachable"]
    assert machine.nvidia_driver is None


def test_a_library_that_answers_is_believed_without_device_files(detect: Detect) -> None:
    # Sandboxes with device files of their own kind.
    scene = cards("570.124.06", 12080, H100)
    files = {path: text for path, text in scene.files.items() if not path.startswith("/dev/")}
    machine = detect(scene._replace(files={**files, "/.dockerenv": ""}))
    assert [gpu.name for gpu in machine.gpus] == [H100.name]
    assert machine.problems == ()


def test_a_blocked_gpu_on_wsl_is_mended_on_windows(detect: Detect) -> None:
    scene = Scene(WSL, {"/dev/dxg": ""}, Nvml(init=17), "/usr/lib/wsl/lib")
    machine = detect(scene)
    assert machine.problems[0].kind == "broken"
    assert "wsl --update" in machine.problems[0].remedy


# CUDA_VISIBLE_DEVICES through the whole of detection (its rules: test_visible.py)


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles", "7"])
def test_no_gpu_is_left_visible(value: str, detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, H100, H100, CUDA_VISIBLE_DEVICES=value))
    empty = "''"
    assert machine.gpus == ()
    assert machine.notes == (f"CUDA_VISIBLE_DEVICES={value or empty} hides 2 of 2 NVIDIA GPUs.",)
    assert machine.problems == ()


def test_indexes_filter_gpus_that_are_alike(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, *[H100] * 4, CUDA_VISIBLE_DEVICES="2,0"))
    assert [gpu.uuid for gpu in machine.gpus] == [gpu_uuid(2), gpu_uuid(0)]


def test_indexes_do_not_filter_mixed_gpus_in_an_unknown_order(detect: Detect) -> None:
    machine = detect(cards("580.95.05", 13000, V100, H100, CUDA_VISIBLE_DEVICES="0"))
    assert len(machine.gpus) == 2
    assert "own order, which is not known here" in machine.notes[0]


def test_indexes_filter_mixed_gpus_in_bus_order(detect: Detect) -> None:
    scene = cards("580.95.05", 13000, V100, H100, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert [gpu.name for gpu in detect(scene).gpus] == [V100.name]


def test_a_uuid_filters_mixed_gpus(detect: Detect) -> None:
    machine = detect(cards("580.95.05", 13000, V100, H100, CUDA_VISIBLE_DEVICES=gpu_uuid(1)))
    assert [gpu.name for gpu in machine.gpus] == [H100.name]


def test_a_slices_uuid_filters(detect: Detect) -> None:
    split = A100._replace(mig=1, slices=SLICES)
    machine = detect(cards("550.144.03", 12040, split, A100, CUDA_VISIBLE_DEVICES=SLICES[0].uuid))
    assert [(gpu.name, gpu.mig, gpu.compute_capability) for gpu in machine.gpus] == [(SLICES[0].name, True, "8.0")]


def test_a_split_gpus_uuid_means_its_slices(detect: Detect) -> None:
    split = A100._replace(mig=1, slices=SLICES)
    machine = detect(cards("550.144.03", 12040, split, A100, CUDA_VISIBLE_DEVICES=gpu_uuid(0)))
    assert [gpu.uuid for gpu in machine.gpus] == [part.uuid for part in SLICES]


def test_uuids_filter_nothing_where_they_are_not_known(detect: Detect) -> None:
    machine = detect(Scene(LINUX, BARE, env={"CUDA_VISIBLE_DEVICES": gpu_uuid(1)}))
    assert machine.gpus == (Gpu("nvidia", "NVIDIA GPU"),)
    assert "by UUID or in CUDA's own order, which is not known here" in machine.notes[0]


def test_a_dangling_library_is_not_a_library(detect: Detect) -> None:
    machine = detect(Scene(files={"/usr/lib64/libnvidia-ml.so.1": Link("libnvidia-ml.so.570.1")}))
    assert (machine.problems, probes(machine)["nvml"]) == ((), "absent")


def test_the_loaders_cache_and_ld_library_path_lead_to_the_library(tmp_path: Path) -> None:
    root = tmp_path
    assert nvidia.find_library(Looked(LINUX, {}, str(root))) is None
    (root / "etc").mkdir()
    (root / "etc/ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1\0libnvidia-ml.so.1\0/usr/lib/libnvidia-ml.so.1\0")
    assert nvidia.find_library(Looked(LINUX, {}, str(root))) == "libnvidia-ml.so.1"
    (root / "opt/driver").mkdir(parents=True)
    (root / "opt/driver/libnvidia-ml.so.1").touch()
    env = {"LD_LIBRARY_PATH": "relative:/none:/opt/driver"}
    assert nvidia.find_library(Looked(LINUX, env, str(root))) == "/opt/driver/libnvidia-ml.so.1"

"""AMD: the KFD topology, ROCm's programs, and AMD's variables."""

from pathlib import Path

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import WSL, Scene, Script, amd, container, kfd, lay_out, pci, to_json
from uvtorch.hardware import amd as probe_amd
from uvtorch.machine import Gpu, Machine, from_json


def probes(machine: Machine) -> dict[str, str]:
    return {probe.probe: probe.outcome for probe in machine.probes}


@pytest.mark.parametrize(
    ("version", "architecture"),
    [
        (80003, "gfx803"),
        (90000, "gfx900"), (90006, "gfx906"), (90008, "gfx908"), (90010, "gfx90a"), (90012, "gfx90c"),
        (90402, "gfx942"), (90500, "gfx950"), (100300, "gfx1030"), (100306, "gfx1036"), (110000, "gfx1100"),
        (110003, "gfx1103"), (110501, "gfx1151"), (120001, "gfx1201"), (120500, "gfx1250"),
    ],
)  # fmt: skip
def test_target_versions_are_read_as_architectures(version: int, architecture: str) -> None:
    gpu = probe_amd.parse_properties(f"simd_count 304\nvendor_id 4098\ndevice_id 29857\ngfx_target_version {version}\n")
    assert gpu is not None
    assert gpu.architecture == architecture


@pytest.mark.parametrize(
    "text",
    [
        "cpu_cores_count 16\nsimd_count 0\ngfx_target_version 0\n",
        "simd_count 0\ngfx_target_version 110003\n",
        "max_simd_count 99\ngfx_target_version 110003\n",
        "simd_count x\ngfx_target_version y\n",
        "gfx_target_version",
        "",
        "\0" * 1000,
    ],
)
def test_what_is_not_a_gpu_is_none(text: str) -> None:
    assert probe_amd.parse_properties(text) is None


def test_a_card_comes_before_an_integrated_gpu(detect: Detect) -> None:
    machine = detect(amd(("1002:164e", 100306, ""), ("1002:744c", 110000, "")))
    assert [(gpu.architecture, gpu.integrated) for gpu in machine.gpus] == [("gfx1100", False), ("gfx1036", True)]


def test_nodes_are_counted_as_numbers(detect: Detect) -> None:
    machine = detect(amd(*[("1002:74a1", 90402, f"card {number}") for number in range(12)]))
    assert [gpu.name for gpu in machine.gpus] == [f"card {number}" for number in range(12)]


@pytest.mark.parametrize(
    ("env", "left", "hidden"),
    [
        ({"HIP_VISIBLE_DEVICES": "1"}, ["gfx1100"], "HIP_VISIBLE_DEVICES=1 hides 1 of 2"),
        ({"HIP_VISIBLE_DEVICES": ""}, [], "hides 2 of 2"),
        ({"HIP_VISIBLE_DEVICES": "-1"}, [], "hides 2 of 2"),
        ({"ROCR_VISIBLE_DEVICES": "0"}, ["gfx942"], "ROCR_VISIBLE_DEVICES=0 hides 1 of 2"),
        ({"ROCR_VISIBLE_DEVICES": "GPU-a1b2c3d4e5f60002"}, ["gfx1100"], "hides 1 of 2"),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, ["gfx1100"], "ROCR_VISIBLE_DEVICES=1 hides 1"),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1"}, [], "HIP_VISIBLE_DEVICES=1 hides 1 of 1"),
        ({"CUDA_VISIBLE_DEVICES": "0"}, ["gfx942"], "CUDA_VISIBLE_DEVICES=0 hides 1"),  # HIP takes it for its own
        ({"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}, ["gfx1100"], "HIP_VISIBLE_DEVICES=1"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["gfx942", "gfx1100"], ""),  # hides NVIDIA's only
    ],
)
def test_variables_hide_gpus(env: dict[str, str], left: list[str], hidden: str, detect: Detect) -> None:
    machine = detect(amd(("1002:74a1", 90402, ""), ("1002:744c", 110000, ""), **env))
    assert [gpu.architecture for gpu in machine.gpus] == left
    assert hidden in " ".join(machine.notes)


@pytest.mark.parametrize("value", ["10.3", "a.b.c", "10.3.0.1", "10.99.0", "10.3.-1"])
def test_a_malformed_gfx_override_changes_nothing(value: str, detect: Detect) -> None:
    machine = detect(amd(("1002:73df", 100301, ""), HSA_OVERRIDE_GFX_VERSION=value))
    assert machine.gpus[0].architecture == "gfx1031"


# ROCm's programs, where there is no KFD topology (ROCm on WSL, say)

ROCMINFO = """\
ROCk module is loaded
=====================
HSA System Attributes
=====================
Runtime Version:         1.18
*******
Agent 1
*******
  Name:                    AMD Ryzen 7 8845HS w/ Radeon 780M Graphics
  Uuid:                    CPU-XX
  Marketing Name:          AMD Ryzen 7 8845HS w/ Radeon 780M Graphics
  Device Type:             CPU
*******
Agent 2
*******
  Name:                    gfx1103
  Uuid:                    GPU-XX
  Marketing Name:          AMD Radeon Graphics
  Vendor Name:             AMD
  Device Type:             GPU
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx1103
    ISA 2
      Name:                    amdgcn-amd-amdhsa--gfx11-generic
*******
Agent 3
*******
  Name:                    gfx906
  Uuid:                    GPU-d48a706172fd5d11
  Marketing Name:          AMD Radeon VII
  Device Type:             GPU
*******
Agent 4
*******
  Name:                    aie2
  Uuid:                    AIE-XX
  Marketing Name:          AIE-ML
  Device Type:             DSP
*** Done ***
"""
RADEON = pci("0000:03:00.0", "1002:744c", None)


@pytest.mark.parametrize("width", [0, 80])  # it fills its lines with blanks
def test_rocminfo_is_read(width: int) -> None:
    text = "".join(f"{line:{width}}\n" for line in ROCMINFO.splitlines())
    assert probe_amd.parse_rocminfo(text) == [
        Gpu("amd", "AMD gfx1103", architecture="gfx1103", integrated=True),
        Gpu("amd", "AMD gfx906", architecture="gfx906"),
    ]


@pytest.mark.parametrize(
    "text", ["", "ROCk module is NOT loaded, possibly no GPU devices\n", ROCMINFO[:400], "x:" * 500_000]
)
def test_rocminfo_without_gpus_gives_none(text: str) -> None:
    assert probe_amd.parse_rocminfo(text) == []


INFO = Script(f"#!/bin/sh\ncat <<'EOF'\n{ROCMINFO}EOF\n")


def test_without_a_topology_rocminfo_is_asked(detect: Detect) -> None:
    machine = detect(Scene(files={**RADEON, "/opt/rocm/bin/rocminfo": INFO}))
    assert [gpu.architecture for gpu in machine.gpus] == ["gfx906", "gfx1103"]
    assert probes(machine)["rocminfo"] == "ok"


def test_a_failing_rocminfo_gives_no_gpu(detect: Detect) -> None:
    machine = detect(Scene(files={**RADEON, "/opt/rocm/bin/rocminfo": Script("#!/bin/sh\necho no; exit 1\n")}))
    assert machine.gpus == ()
    assert next(probe for probe in machine.probes if probe.probe == "rocminfo").detail == "exit code 1: no"


def test_rocminfo_is_taken_from_where_packages_install_it_only(
    detect: Detect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trap = Script("#!/bin/sh\nexit 3\n")
    lay_out(tmp_path, {"/rocminfo": trap, "/here/rocminfo": trap})
    env = {"PATH": f".::here:{tmp_path}:/bin:/usr/bin"}
    machine = detect(Scene(files={**RADEON, "/usr/bin/rocminfo": INFO}, env=env))
    assert probes(machine)["rocminfo"] == "ok"


def test_rocm_on_wsl_has_no_bus_and_no_topology(detect: Detect) -> None:
    machine = detect(Scene(WSL, {"/dev/dxg": "", "/opt/rocm/bin/rocminfo": INFO}))
    assert [gpu.architecture for gpu in machine.gpus] == ["gfx906", "gfx1103"]


def test_rocminfo_is_not_started_without_a_gpu(detect: Detect) -> None:
    machine = detect(Scene(files={"/opt/rocm/bin/rocminfo": INFO}))
    assert machine.gpus == ()
    assert "rocminfo" not in probes(machine)


def test_a_container_without_kfd_is_told_and_leads_to_no_gpu(detect: Detect) -> None:
    machine = detect(container(Scene(files=kfd(("1002:74a1", 90402, ""), dev=False))))
    [problem] = machine.problems
    assert (problem.vendor, problem.kind) == ("amd", "unreachable")
    assert "--device /dev/kfd" in problem.remedy


def test_a_container_has_the_gpus_whose_render_nodes_it_was_given(detect: Detect) -> None:
    files = kfd(("1002:74a1", 90402, "one"), ("1002:744c", 110000, "two"))
    machine = detect(container(Scene(files={**files, "/dev/dri/renderD129": ""})))
    assert [gpu.name for gpu in machine.gpus] == ["two"]


def test_a_container_with_kfd_but_no_render_nodes_has_no_gpu(detect: Detect) -> None:
    machine = detect(container(Scene(files=kfd(("1002:74a1", 90402, "")))))
    assert machine.gpus == ()
    assert machine.problems[0].kind == "unreachable"


def test_a_gpu_without_the_compute_driver_is_told(detect: Detect) -> None:
    machine = detect(Scene(files=RADEON))
    assert machine.problems[0].kind == "unreachable"
    assert "amdgpu" in machine.problems[0].remedy


@pytest.mark.parametrize("digits", ["9" * 23, "9" * 5000, "-1", "0x10", ""])
def test_absurd_numbers_in_a_topology_are_no_exception(digits: str, detect: Detect) -> None:
    files = kfd(("1002:74a1", 90402, ""))
    for path, text in files.items():
        if path.endswith("properties"):
            files[path] = "".join(f"{line.split()[0]} {digits}\n" for line in text.splitlines())
    machine = detect(Scene(files=files))
    assert from_json(to_json(machine), "it") == machine

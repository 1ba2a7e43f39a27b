"""Intel: which PCI devices PyTorch's XPU builds support."""

import os

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import OTHER_PCI, WSL, Scene, beside, cards, container, intel, kfd, module, nodes, pci
from tests.hardware.standin import Card, Nvml
from uvtorch.hardware import intel as table
from uvtorch.hardware.scene import parse_modalias


@pytest.mark.parametrize(
    ("device", "architecture", "supported"),
    [
        ("56a0", "dg2", True), ("5690", "dg2", True), ("56b1", "dg2", True), ("e20b", "bmg", True),
        ("e223", "bmg", True),
        ("0bd5", "pvc", True), ("7d55", "mtl-h", True), ("7dd5", "mtl-h", True), ("7d51", "arl-h", True),
        ("64a0", "lnl", True), ("6420", "lnl", True), ("b080", "ptl", True), ("b0a0", "ptl", True),
        ("7d45", "mtl-u", False), ("7d40", "mtl-u", False), ("7d67", "arl-s", False), ("7d41", "arl-u", False),
        ("56c0", "ats-m", False), ("fd80", "wcl", False), ("4905", "dg1", False), ("4680", "adl-s", False),
        ("9a49", "tgl", False), ("a7a0", "rpl-p", False),
    ],
)  # fmt: skip
def test_the_table_says_what_xpu_supports(device: str, architecture: str, supported: bool) -> None:
    row = table.lookup(f"8086:{device}")
    assert row is not None
    assert (row.architecture, row.supported) == (architecture, supported)


@pytest.mark.parametrize("pci_id", ["8086:3e92", "8086:ffff", "10de:56a0", "", None, "8086", "8086:56A00"])
def test_what_the_table_does_not_know_leads_to_no_xpu_build(pci_id: str | None) -> None:
    assert table.lookup(pci_id) is None


def test_ids_are_read_in_either_case() -> None:
    assert table.lookup("8086:56A0") == table.lookup("8086:56a0") is not None


def test_every_row_of_the_table_is_well_formed() -> None:
    path = os.path.join(os.path.dirname(table.__file__), "..", "catalog", "intel.txt")
    with open(path, encoding="ascii") as lines:
        rows = [line.split(maxsplit=4) for line in lines if not line.startswith("#")]
    assert len({row[0] for row in rows}) == len(rows)
    for device, _, xpu, kind, name in rows:
        assert len(device) == 4
        assert device == f"{int(device, 16):04x}"
        assert xpu in ("xpu", "-")
        assert kind in ("card", "integrated")
        assert name.startswith("Intel ")


def test_a_card_comes_before_processor_graphics(detect: Detect) -> None:
    scene = intel("8086:a780", "i915")
    files = {**scene.files, **pci("0000:03:00.0", "8086:56a0", "i915")}
    machine = detect(scene._replace(files=files))
    assert [gpu.pci_id for gpu in machine.gpus] == ["8086:56a0", "8086:a780"]


def test_processor_graphics_that_xpu_does_not_support_are_no_problem(detect: Detect) -> None:
    machine = detect(Scene(files=pci("0000:00:02.0", "8086:3e92", "i915")))
    assert machine.problems == ()
    assert machine.gpus[0].pci_id == "8086:3e92"
    assert machine.gpus[0].architecture is None


@pytest.mark.parametrize(("driver", "said"), [(None, "(xe or i915) does not have it"), ("vfio-pci", "vfio-pci has")])
def test_a_supported_gpu_without_its_driver_is_unreachable(driver: str | None, said: str, detect: Detect) -> None:
    machine = detect(intel("8086:e20b", driver))
    assert machine.gpus == ()
    assert machine.problems[0].kind == "unreachable"
    assert said in machine.problems[0].reason


def test_a_container_without_render_nodes_is_told(detect: Detect) -> None:
    machine = detect(container(Scene(files=pci("0000:03:00.0", "8086:56a0", "xe"))))
    assert machine.problems[0].kind == "unreachable"
    assert "--device /dev/dri" in machine.problems[0].remedy


def test_wsl_says_how_to_name_what_it_cannot_show(detect: Detect) -> None:
    probe = next(probe for probe in detect(Scene(WSL, {"/dev/dxg": ""})).probes if probe.probe == "intel")
    assert probe.detail == "Intel GPUs cannot be detected under WSL; use `--torch-backend xpu`"


def test_the_gpus_of_all_vendors_are_told(detect: Detect) -> None:
    old = cards("390.157", 9010, Card("GeForce GTX 680", "3.0", 2048), pci_id="10de:1180")
    files = {**kfd(("1002:744c", 110000, "")), **pci("0000:03:00.0", "8086:e20b", "xe"), "/dev/dri/renderD128": ""}
    machine = detect(beside(old, files))
    assert [gpu.vendor for gpu in machine.gpus] == ["nvidia", "amd", "intel"]
    assert machine.problems == ()


def test_a_broken_driver_hides_no_other_vendors_gpu(detect: Detect) -> None:
    files = {**module("570.124.06"), **nodes(1), **pci("0000:10:00.0", "10de:2330", "nvidia")}
    machine = detect(Scene(files={**files, **kfd(("1002:744c", 110000, ""))}, nvml=Nvml(init=18)))
    assert [problem.vendor for problem in machine.problems] == ["nvidia"]
    assert [gpu.vendor for gpu in machine.gpus] == ["amd"]


# The bus


def test_only_display_controllers_of_our_vendors_count(detect: Detect) -> None:
    network = pci("0000:00:1f.6", "8086:15bc", "e1000e", "02sc00")
    assert detect(Scene(files={**OTHER_PCI, **network})).gpus == ()


@pytest.mark.parametrize(
    ("text", "pci_id"),
    [
        ("pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00\n", "10de:2330"),
        ("pci:v00001002d000074A1sv00001002sd000074A1bc12sc00i00", "1002:74a1"),  # MI300X: an accelerator
        ("pci:v00008086d00007D1Dsv00001028sd00000CC9bc12sc00i00", None),  # Intel's NPU is one too
        ("pci:v00008086d000015BCsv00001028sd00000869bc02sc00i00", None),
        ("usb:v1D6Bp0002d0608", None),
        ("pci:v", None),
        ("", None),
    ],
)
def test_modalias_is_read(text: str, pci_id: str | None) -> None:
    assert parse_modalias(text) == pci_id

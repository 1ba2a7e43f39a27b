"""Windows, as far as it can be shown elsewhere: the registry's rows, and a driver that does not answer."""

from pathlib import Path

import pytest

from tests.hardware.scenes import WINDOWS, adapter
from uvtorch import hardware
from uvtorch.hardware import nvidia, scene
from uvtorch.machine import Machine


def test_adapters_are_read_from_the_registrys_values() -> None:
    assert scene.parse_adapters([adapter("10de:2684", "NVIDIA GeForce RTX 4090")]) == [
        scene.Device("10de:2684", None, "NVIDIA GeForce RTX 4090")
    ]


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"MatchingDeviceId": "pci\\cc_0300", "DriverDesc": "Microsoft Basic Display Adapter"},
        {"MatchingDeviceId": "PCI\\VEN_1AF4&DEV_1050", "DriverDesc": "Red Hat VirtIO GPU"},
        {"MatchingDeviceId": "root\\rdpidd", "DriverDesc": "Microsoft Remote Display Adapter"},
        {"MatchingDeviceId": "pci\\ven_10de", "DriverDesc": "no device"},
        {"MatchingDeviceId": "pci\\ven_10de&dev_zzzz"},
        {"MatchingDeviceId": 7},
    ],
)
def test_other_adapters_are_passed_over(row: dict[str, object]) -> None:
    assert scene.parse_adapters([row]) == []


def test_an_adapter_without_a_description_is_told_by_its_id() -> None:
    assert scene.parse_adapters([{"MatchingDeviceId": "PCI\\VEN_1002&DEV_744C"}]) == [
        scene.Device("1002:744c", None, "GPU")
    ]


def detect(root: Path, report: nvidia.Report, monkeypatch: pytest.MonkeyPatch, **env: str) -> Machine:
    monkeypatch.setattr(scene, "registry", lambda: [adapter("10de:2684", "NVIDIA GeForce RTX 4090")])
    monkeypatch.setattr(nvidia, "ask", lambda *_, **__: report)
    return hardware.detect(env, root=str(root), host=WINDOWS)


def test_an_adapter_that_nothing_can_ask_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = nvidia.Report("absent", "NVML Shared Library Not Found")
    machine = detect(tmp_path, missing, monkeypatch)
    assert [problem.kind for problem in machine.problems] == ["broken"]


def test_a_broken_driver_is_mended_the_windows_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = detect(tmp_path, nvidia.Report("failed", "GPU is lost", 15), monkeypatch)
    assert "Restart Windows" in machine.problems[0].remedy
    assert "nvidia-module" not in {probe.probe for probe in machine.probes}

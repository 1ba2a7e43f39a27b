"""The fingerprint changes with everything that detection depends on, and with nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.hardware.scenes import H100S, LINUX, every_vendor, lay_out, module, pci
from uvtorch import cache as module_itself
from uvtorch import hardware
from uvtorch.cache import fingerprint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="empty elsewhere")
KFD = "/sys/class/kfd/kfd/topology/nodes"
MACHINE = {**every_vendor(), "/proc/sys/kernel/random/boot_id": "7d1c\n", "/etc/ld.so.cache": "x"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, MACHINE)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "n", "6.8.0-51-generic", "#1", "x86_64")))
    return tmp_path


def test_the_same_machine_has_the_same_fingerprint(root: Path) -> None:
    assert fingerprint({}, root=str(root))
    assert fingerprint({}, root=str(root)) == fingerprint({"EDITOR": "vi"}, root=str(root))


CHANGES: dict[str, dict[str, str]] = {
    "the driver": module("580.95.05"),
    "the driver in sysfs": {"/sys/module/nvidia/version": "580.95.05\n"},
    "a device file": {"/dev/nvidia2": ""},
    "a render node": {"/dev/dri/renderD129": ""},
    "another GPU": pci("0000:11:00.0", "10de:2330", "nvidia"),
    "another model": pci("0000:10:00.0", "10de:2684"),
    "another architecture": {f"{KFD}/1/properties": "simd_count 304\ngfx_target_version 110000\n"},
    "a restart": {"/proc/sys/kernel/random/boot_id": "8e2d\n"},
    "libraries": {"/etc/ld.so.cache": "xy"},
    "a container": {"/.dockerenv": ""},
    "a MIG instance": {"/proc/driver/nvidia/capabilities/gpu0/mig/gi1/access": ""},
    "the kernel's own list of devices": {"/proc/bus/pci/devices": "1000\t10de2330\t1f\t0\tnvidia\n"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_machine_changes_it(name: str, root: Path) -> None:
    before = fingerprint({}, root=str(root))
    lay_out(root, CHANGES[name])
    assert fingerprint({}, root=str(root)) != before


def test_a_change_of_the_bound_driver_changes_it(root: Path) -> None:
    link = root / "sys/bus/pci/devices/0000:10:00.0/driver"
    before = fingerprint({}, root=str(root))
    link.unlink()
    link.symlink_to("../../../../bus/pci/drivers/vfio-pci")
    assert fingerprint({}, root=str(root)) != before


def test_the_kernels_list_counts_by_what_and_who(root: Path) -> None:
    digests = []
    for irq, driver in (("1f", "nvidia"), ("2a", "nvidia"), ("1f", "vfio-pci")):
        lay_out(root, {"/proc/bus/pci/devices": f"1000\t10de2330\t{irq}\t0\t{driver}\n0008\t1af41045\t0\n\n"})
        digests.append(fingerprint({}, root=str(root)))
    assert digests[0] == digests[1] != digests[2]  # an interrupt's number says nothing


@pytest.mark.parametrize("name", module_itself.VARIABLES)
def test_a_change_of_a_variable_changes_it(name: str, root: Path) -> None:
    values = [{}, {name: ""}, {name: "1"}]
    assert len({fingerprint(env, root=str(root)) for env in values}) == 3


class Recording(dict[str, str]):
    """An environment that knows what it was asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[object] = set()

    def get(self, name: object, default: Any = None) -> Any:
        self.asked.add(name)
        return self[str(name)] if super().__contains__(name) else default

    def __contains__(self, name: object) -> bool:
        self.asked.add(name)
        return super().__contains__(name)


def test_every_variable_that_detection_reads_is_one_of_them(root: Path) -> None:
    env = Recording({"CUDA_VISIBLE_DEVICES": "0", "PATH": "/none"})
    hardware.detect(env, root=str(root), host=LINUX)
    assert env.asked <= set(module_itself.VARIABLES)
    assert "HSA_OVERRIDE_GFX_VERSION" in env.asked


def test_a_description_counts_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    env = {"UVTORCH_HARDWARE": str(path)}
    absent = fingerprint(env)
    path.write_text("{}")
    first = fingerprint(env)
    os.utime(path, ns=(1, 1))
    assert len({absent, first, fingerprint(env)}) == 3


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_standard_input_is_not_known(path: str) -> None:
    assert fingerprint({"UVTORCH_HARDWARE": path}) == ""


def test_a_driver_without_a_version_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, {"/dev/nvidiactl": ""})
    assert fingerprint({}, root=str(tmp_path)) == ""


def test_wsl_windows_and_macos_are_not_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = "6.6.87.2-microsoft-standard-WSL2"
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "n", release, "#1", "x86_64")))
    assert fingerprint({}, root=str(root)) == ""
    for system in ("win32", "darwin"):
        monkeypatch.setattr(sys, "platform", system)
        assert fingerprint({}, root=str(root)) == ""


def test_it_is_cheap(tmp_path: Path) -> None:
    lay_out(tmp_path, H100S.files)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        fingerprint({}, root=str(tmp_path))
        times.append(time.perf_counter() - started)
    assert min(times) < 0.002


def test_it_imports_built_in_modules_only() -> None:
    code = (
        "import sys; before = set(sys.modules); from uvtorch.cache import fingerprint; fingerprint({});"
        "print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in result.stdout.split() if not name.startswith("uvtorch")} <= {"errno", "io"}

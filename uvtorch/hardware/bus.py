"""The GPUs on the bus: from sysfs on Linux, from the registry on Windows (not tried on a real machine yet)."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from uvtorch.hardware.programs import plain
from uvtorch.hardware.scene import Scene

NVIDIA, AMD, INTEL = "10de", "1002", "8086"
PCI = "/sys/bus/pci/devices"
ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


class Device(NamedTuple):
    """A display controller (PCI class 03), or an accelerator of AMD's (class 12, as which MI300 presents itself)."""

    vendor: str  # Four hexadecimal digits in lower case, as is `device`
    device: str
    driver: str | None = None  # Linux: the kernel driver bound to it: `nvidia`, `nouveau`, `amdgpu`, `xe`, `vfio-pci`
    name: str = ""  # Windows: what its driver registered, as the memory
    memory_mib: int | None = None

    @property
    def id(self) -> str:
        """`vendor:device`."""
        return f"{self.vendor}:{self.device}"


def devices(scene: Scene) -> list[Device]:
    """Every GPU of NVIDIA, AMD and Intel, in bus order."""
    if scene.platform.system == "windows":
        return parse_adapters(registry())
    found = []
    for address in scene.names(PCI):
        # One read instead of three: servers have hundreds of PCI functions.
        if ids := parse_modalias(scene.read(f"{PCI}/{address}/modalias", 200)):
            driver = None
            with suppress(OSError):
                driver = os.path.basename(os.readlink(scene.at(f"{PCI}/{address}/driver")))
            found.append(Device(*ids, driver))
    return found


def parse_modalias(text: str) -> tuple[str, str] | None:
    """(vendor, device) of a GPU's modalias, `pci:v000010DEd00002330sv...bc03sc02i00`; None for other devices."""
    match = re.match(r"pci:v0000(10de|1002|8086)d0000([0-9a-f]{4})\S*bc(03|12)sc", text.lower())
    return (match[1], match[2]) if match and (match[3] == "03" or match[1] == AMD) else None


def registry() -> list[dict[str, object]]:
    """The values of Windows' keys of display adapters."""
    rows: list[dict[str, object]] = []
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415  Windows only

        with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, ADAPTERS) as parent:
            for number in range(winreg.QueryInfoKey(parent)[0]):
                # Keys such as Properties are the system's own.
                with suppress(OSError), winreg.OpenKey(parent, winreg.EnumKey(parent, number)) as key:
                    values = [winreg.EnumValue(key, place) for place in range(winreg.QueryInfoKey(key)[1])]
                    rows.append({name: value for name, value, _ in values})
    return rows


def parse_adapters(rows: Iterable[Mapping[str, object]]) -> list[Device]:
    r"""Read `MatchingDeviceId`, like `pci\ven_10de&dev_2684&subsys_...`, `DriverDesc` and the memory's size."""
    found = []
    for row in rows:
        ids = re.search("ven_(10de|1002|8086)&dev_([0-9a-f]{4})", str(row.get("MatchingDeviceId", "")).lower())
        size = row.get("HardwareInformation.qwMemorySize")
        memory = size // 2**20 if isinstance(size, int) and size > 0 else None
        if ids:
            name = plain(str(row.get("DriverDesc", ""))) or "GPU"
            found.append(Device(ids[1], ids[2], None, name, memory))
    return found

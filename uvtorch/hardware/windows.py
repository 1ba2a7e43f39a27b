"""Windows: display adapters from the registry. Not yet tried on a real one."""

import sys
from collections.abc import Iterable, Mapping

from uvtorch.hardware import files, pci
from uvtorch.named import NamedTuple

ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


class Adapter(NamedTuple):
    """A display adapter as its driver registered it."""

    device: pci.Device
    name: str
    memory_mib: int | None = None


def adapters() -> tuple[Adapter, ...]:
    """The display adapters of NVIDIA, AMD and Intel; none off Windows."""
    if sys.platform != "win32":
        return ()
    import winreg

    rows: list[Mapping[str, object]] = []
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, ADAPTERS) as parent:
            for number in range(winreg.QueryInfoKey(parent)[0]):
                try:
                    with winreg.OpenKey(parent, winreg.EnumKey(parent, number)) as key:
                        values = [winreg.EnumValue(key, place) for place in range(winreg.QueryInfoKey(key)[1])]
                except OSError:
                    continue  # keys such as Properties are the system's own
                rows.append({name: value for name, value, _ in values})
    except OSError:
        return ()
    return parse_adapters(rows)


def parse_adapters(rows: Iterable[Mapping[str, object]]) -> tuple[Adapter, ...]:
    """Read the values of the registry's adapter keys: `MatchingDeviceId`, `DriverDesc`, the memory's size."""
    found = []
    for row in rows:
        ids = _ids(str(row.get("MatchingDeviceId", "")))
        if ids is None:
            continue
        memory = row.get("HardwareInformation.qwMemorySize")
        found.append(
            Adapter(
                pci.Device("", *ids, "windows"),
                files.plain(str(row.get("DriverDesc", ""))) or "GPU",
                memory // 2**20 if isinstance(memory, int) and memory > 0 else None,
            )
        )
    return tuple(found)


def _ids(text: str) -> tuple[str, str] | None:
    r"""(vendor, device) in `pci\ven_10de&dev_2684&subsys_...`; None for others and for vendors that are not ours."""
    lower = text.lower()
    vendor, device = (lower.partition(mark)[2][:4] for mark in ("ven_", "dev_"))
    if vendor not in (pci.NVIDIA, pci.AMD, pci.INTEL) or not pci.is_id(device):
        return None
    return vendor, device

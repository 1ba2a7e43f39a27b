"""Display devices on the PCI bus, from sysfs: what is there, whether or not a driver can use it."""

from typing import NamedTuple

from uvtorch.hardware import files

NVIDIA, AMD, INTEL = "10de", "1002", "8086"


class Device(NamedTuple):
    """A display controller (PCI class 03)."""

    address: str
    vendor: str
    """Four hexadecimal digits in lower case, as is `device`."""
    device: str
    driver: str | None
    """The kernel driver bound to it: `nvidia`, `nouveau`, `amdgpu`, `xe`, `vfio-pci`."""

    @property
    def id(self) -> str:
        """`vendor:device`."""
        return f"{self.vendor}:{self.device}"


def display_devices(root: str) -> tuple[Device, ...]:
    """Every display controller of NVIDIA, AMD and Intel, in bus order."""
    base = "/sys/bus/pci/devices"
    found = []
    for address in files.names(root, base):
        ids = _ids(root, f"{base}/{address}")
        if ids and ids[0] in (NVIDIA, AMD, INTEL):
            found.append(Device(address, *ids, files.link(root, f"{base}/{address}/driver")))
    return tuple(found)


def _ids(root: str, path: str) -> tuple[str, str] | None:
    """(vendor, device) if the device at `path` is a display controller."""
    # One read instead of three: servers have hundreds of PCI functions.
    modalias = files.read(root, f"{path}/modalias", 200)
    if modalias is not None:
        return parse_modalias(modalias)
    kind, vendor, device = (files.read(root, f"{path}/{name}", 20) or "" for name in ("class", "vendor", "device"))
    if not kind.startswith("0x03"):
        return None
    return vendor.strip().removeprefix("0x").lower(), device.strip().removeprefix("0x").lower()


def parse_modalias(text: str) -> tuple[str, str] | None:
    """(vendor, device) of a display controller's modalias, `pci:v000010DEd00002330sv...bc03sc02i00`; else None."""
    if not text.startswith("pci:v") or len(text) < 23 or text[13] != "d" or "bc03sc" not in text[22:]:
        return None
    return text[9:13].lower(), text[18:22].lower()

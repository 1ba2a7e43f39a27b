"""GPUs on the PCI bus, from sysfs: what is there, whether or not a driver can use it."""

from uvtorch.hardware import files
from uvtorch.named import NamedTuple

NVIDIA, AMD, INTEL = "10de", "1002", "8086"


class Device(NamedTuple):
    """A display controller (PCI class 03), or an accelerator of AMD's (class 12, as which MI300 presents itself)."""

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


def gpus(root: str) -> tuple[Device, ...]:
    """Every GPU of NVIDIA, AMD and Intel, in bus order."""
    base = "/sys/bus/pci/devices"
    found = []
    for address in files.names(root, base):
        ids = _ids(root, f"{base}/{address}")
        if ids and ids[0] in (NVIDIA, AMD, INTEL) and is_id(ids[1]):
            found.append(Device(address, *ids, files.link(root, f"{base}/{address}/driver")))
    return tuple(found)


def is_id(text: str) -> bool:
    """Whether it is a device's or vendor's number: four hexadecimal digits in lower case."""
    return len(text) == 4 and all(digit in "0123456789abcdef" for digit in text)


def _ids(root: str, path: str) -> tuple[str, str] | None:
    """(vendor, device) if the device at `path` is a GPU."""
    # One read instead of three: servers have hundreds of PCI functions.
    modalias = files.read(root, f"{path}/modalias", 200)
    if modalias is not None:
        return parse_modalias(modalias)
    kind, vendor, device = (files.read(root, f"{path}/{name}", 20) or "" for name in ("class", "vendor", "device"))
    ids = vendor.strip().removeprefix("0x").lower(), device.strip().removeprefix("0x").lower()
    return ids if kind.startswith("0x03") or (ids[0] == AMD and kind.startswith("0x12")) else None


def parse_modalias(text: str) -> tuple[str, str] | None:
    """(vendor, device) of a GPU's modalias, `pci:v000010DEd00002330sv...bc03sc02i00`; None for other devices."""
    if not text.startswith("pci:v") or len(text) < 23 or text[13] != "d":
        return None
    ids = text[9:13].lower(), text[18:22].lower()
    return ids if "bc03sc" in text[22:] or (ids[0] == AMD and "bc12sc" in text[22:]) else None

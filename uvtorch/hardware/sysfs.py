"""The machine's files under a root, read bounded and without raising; and the GPUs on the PCI bus as sysfs has them."""

import os
import re
from typing import NamedTuple

from uvtorch import files

NVIDIA, AMD, INTEL = "10de", "1002", "8086"
_MODALIAS = re.compile(r"pci:v0000(10de|1002|8086)d0000([0-9a-f]{4})\S*bc(03|12)sc")


def at(root: str, path: str) -> str:
    """The absolute `path` as seen under `root`."""
    return path if root == "/" else root.rstrip("/") + path


def read(root: str, path: str, limit: int = 65536) -> str:
    """The first `limit` bytes of a file as text; empty if it cannot be read."""
    try:
        return files.head(at(root, path), limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def names(root: str, path: str) -> list[str]:
    """The names in a directory, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(at(root, path)))
    except OSError:
        return []


def exists(root: str, path: str) -> bool:
    """Whether something is there."""
    return os.path.exists(at(root, path))


def plain(text: str, limit: int = 300) -> str:
    """One line that is safe to print: control characters and runs of blanks become one blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())[:limit]


def first_line(text: str) -> str:
    """The first line that is not blank, plain."""
    return next(filter(None, map(plain, text.splitlines())), "")


class Device(NamedTuple):
    """A display controller (PCI class 03), or an accelerator of AMD's (class 12, as which MI300 presents itself)."""

    vendor: str  # Four hexadecimal digits in lower case, as is `device`
    device: str
    driver: str | None  # The kernel driver bound to it: `nvidia`, `nouveau`, `amdgpu`, `xe`, `vfio-pci`

    @property
    def id(self) -> str:
        """`vendor:device`."""
        return f"{self.vendor}:{self.device}"


def gpus(root: str) -> list[Device]:
    """Every GPU of NVIDIA, AMD and Intel, in bus order."""
    base, found = "/sys/bus/pci/devices", []
    for address in names(root, base):
        # One read instead of three: servers have hundreds of PCI functions.
        modalias = read(root, f"{base}/{address}/modalias", 200)
        if ids := parse_modalias(modalias):
            try:
                driver = os.path.basename(os.readlink(at(root, f"{base}/{address}/driver")))
            except OSError:
                driver = None
            found.append(Device(*ids, driver))
    return found


def parse_modalias(text: str) -> tuple[str, str] | None:
    """(vendor, device) of a GPU's modalias, `pci:v000010DEd00002330sv...bc03sc02i00`; None for other devices."""
    match = _MODALIAS.match(text.lower())
    return (match[1], match[2]) if match and (match[3] == "03" or match[1] == AMD) else None

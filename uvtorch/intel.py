"""Intel's GPUs by PCI id: what they are, and which of them PyTorch's XPU builds support. Reads its own table only."""

import os
from functools import cache
from typing import NamedTuple


class IntelGpu(NamedTuple):
    """A row of `catalog/intel.txt`."""

    architecture: str | None  # Intel's short name for the chip: `dg2`, `bmg`, `pvc`, `mtl-h`
    supported: bool  # Whether PyTorch's XPU builds list it as supported hardware
    integrated: bool
    name: str


@cache
def _table() -> dict[str, IntelGpu]:
    path = os.path.join(os.path.dirname(__file__), "catalog", "intel.txt")
    with open(path, encoding="ascii") as lines:
        rows = [line.split(maxsplit=4) for line in lines if line.strip() and not line.startswith("#")]
    return {
        device: IntelGpu(architecture, xpu == "xpu", kind == "integrated", name.strip())
        for device, architecture, xpu, kind, name in rows
    }


def lookup(pci_id: str | None) -> IntelGpu | None:
    """The GPU with this PCI id (`8086:56a0`), None if the table does not know it: then it leads to no XPU build."""
    vendor, _, device = (pci_id or "").lower().partition(":")
    return _table().get(device) if vendor == "8086" else None


def supported(pci_id: str | None) -> bool:
    """Whether PyTorch's XPU builds support the GPU with this PCI id."""
    row = lookup(pci_id)
    return row is not None and row.supported

"""Intel: its GPUs by PCI id, and whether PyTorch's XPU builds support them."""

import os
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from uvtorch.hardware.scene import Device, Scene
from uvtorch.machine import Gpu, Problem


class IntelGpu(NamedTuple):
    """A row of `catalog/intel.txt`, which names its sources."""

    architecture: str | None  # Intel's short name for the chip: `dg2`, `bmg`, `pvc`, `mtl-h`
    supported: bool  # By PyTorch's XPU builds
    integrated: bool
    name: str


@cache
def _table() -> dict[str, IntelGpu]:
    path = os.path.join(os.path.dirname(__file__), "..", "catalog", "intel.txt")
    with open(path, encoding="ascii") as lines:
        rows = [line.split(maxsplit=4) for line in lines if not line.startswith("#")]
    return {
        device: IntelGpu(architecture, xpu == "xpu", kind == "integrated", name.strip())
        for device, architecture, xpu, kind, name in rows
    }


def lookup(pci_id: str | None) -> IntelGpu | None:
    """The GPU with this PCI id (`8086:56a0`); None, which leads to no XPU build, if the table lacks it."""
    vendor, _, device = (pci_id or "").lower().partition(":")
    return _table().get(device) if vendor == "8086" else None


def supported(pci_id: str | None) -> bool:
    """Whether PyTorch's XPU builds support the GPU with this PCI id."""
    row = lookup(pci_id)
    return row is not None and row.supported


def probe(scene: Scene, devices: Sequence[Device]) -> None:
    """Intel's GPUs: what XPU supports first, cards before graphics that are part of a processor.

    One that XPU supports but that has no driver or no device file here is a problem and not among the GPUs.
    """
    gpus = []
    for device in devices:
        row = lookup(device.id) or IntelGpu(None, False, True, device.name or "Intel graphics")
        if row.supported and (problem := _unreachable(device, row.name, scene)):
            scene.problems.append(problem)
        else:
            gpu = Gpu("intel", row.name, architecture=row.architecture, pci_id=device.id, integrated=row.integrated)
            gpus.append(gpu)
    wsl = "Intel GPUs cannot be detected under WSL; use `--torch-backend xpu`" if scene.platform.wsl else ""
    scene.probe("intel", "failed" if len(gpus) < len(devices) else "ok" if gpus else "absent", wsl)
    scene.gpus += sorted(gpus, key=lambda gpu: (not supported(gpu.pci_id), gpu.integrated))


def _unreachable(device: Device, name: str, scene: Scene) -> Problem | None:
    """What keeps XPU from a GPU on Linux."""
    if scene.platform.system != "linux":
        return None
    if device.driver not in ("xe", "i915"):
        lacking = "its driver (xe or i915) does not have it" + (f"; {device.driver} has" if device.driver else "")
        remedy = "Install Intel's GPU driver (kernel module xe)."
    elif not any(node.startswith("renderD") for node in scene.names("/dev/dri")):
        lacking = "there is no /dev/dri/renderD* device file"
        remedy = "Start the container with --device /dev/dri." if scene.platform.container else ""
    else:
        return None
    return Problem("intel", "unreachable", f"{name} ({device.id}) is on the bus, but {lacking}", remedy)

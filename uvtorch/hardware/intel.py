"""Intel: display devices on the PCI bus, and what PyTorch's XPU builds make of them."""

from collections.abc import Sequence

from uvtorch.hardware import sysfs
from uvtorch.hardware.scene import Scene
from uvtorch.intel import lookup
from uvtorch.machine import Gpu


def gpu(device: str, name: str | None = None, memory_mib: int | None = None) -> Gpu:
    """The GPU with this PCI device id; `name` is what the system calls it, used where the table has no name."""
    pci_id = f"{sysfs.INTEL}:{device}"
    row = lookup(pci_id)
    if row is None:
        return Gpu("intel", name or "Intel graphics", memory_mib=memory_mib, pci_id=pci_id, integrated=True)
    return Gpu("intel", row.name, None, row.architecture, memory_mib, pci_id=pci_id, integrated=row.integrated)


def supported(gpu: Gpu) -> bool:
    """Whether PyTorch's XPU builds support it."""
    row = lookup(gpu.pci_id)
    return row is not None and row.supported


def probe(scene: Scene, devices: Sequence[sysfs.Device]) -> None:
    """Intel's GPUs on Linux. Cards come before graphics that are part of a processor.

    A GPU that XPU supports but that has no driver or no device file here is a problem and not among the GPUs.
    """
    if not devices:
        wsl = "Intel GPUs cannot be detected under WSL; use `--torch-backend xpu`" if scene.platform.wsl else ""
        scene.probe("intel", "absent", wsl)
        return
    gpus, reasons = [], []
    for device in devices:
        found = gpu(device.device)
        lacking, remedy = _lacking(device, scene) if supported(found) else ("", "")
        if lacking:
            reasons.append(f"{found.name} ({device.id}) is on the bus, but {lacking}")
            scene.problem("intel", "unreachable", reasons[-1], remedy)
        else:
            gpus.append(found)
    gpus.sort(key=lambda gpu: (not supported(gpu), gpu.integrated))
    texts = [f"{gpu.name} ({gpu.pci_id}){'' if supported(gpu) else ', not supported by PyTorch XPU'}" for gpu in gpus]
    scene.probe("intel", "failed" if reasons else "ok", reasons[0] if reasons else ", ".join(dict.fromkeys(texts)))
    scene.gpus += gpus


def _lacking(device: sysfs.Device, scene: Scene) -> tuple[str, str]:
    """(what keeps XPU from a GPU that it supports, the remedy); empty where nothing does."""
    if device.driver not in ("xe", "i915"):
        other = f"; {device.driver} has" if device.driver else ""
        remedy = "Install Intel's GPU driver (kernel module xe)."
        return f"its driver (xe or i915) does not have it{other}", remedy
    if any(name.startswith("renderD") for name in sysfs.names(scene.root, "/dev/dri")):
        return "", ""
    remedy = "Start the container with --device /dev/dri." if scene.platform.container else ""
    return "there is no /dev/dri/renderD* device file", remedy

"""Intel: display devices on the bus, and what keeps PyTorch's XPU builds from them."""

from collections.abc import Sequence

from uvtorch.hardware.bus import Device
from uvtorch.hardware.scene import Scene
from uvtorch.intel import lookup, supported
from uvtorch.machine import Gpu, Problem


def probe(scene: Scene, devices: Sequence[Device]) -> None:
    """Intel's GPUs. Cards come before graphics that are part of a processor.

    A GPU that XPU supports but that has no driver or no device file here is a problem and not among the GPUs.
    """
    gpus, reasons = [], []
    for device in devices:
        gpu = _gpu(device)
        lacking, remedy = _lacking(device, scene)
        if lacking and supported(gpu.pci_id):
            reasons.append(f"{gpu.name} ({device.id}) is on the bus, but {lacking}")
            scene.problems.append(Problem("intel", "unreachable", reasons[-1], remedy))
        else:
            gpus.append(gpu)
    gpus.sort(key=lambda gpu: (not supported(gpu.pci_id), gpu.integrated))
    told = reasons[:1] or dict.fromkeys(f"{gpu.name} ({gpu.pci_id})" for gpu in gpus)
    if scene.platform.wsl and not devices:
        told = ["Intel GPUs cannot be detected under WSL; use `--torch-backend xpu`"]
    scene.probe("intel", "failed" if reasons else "ok" if gpus else "absent", ", ".join(told))
    scene.gpus += gpus


def _gpu(device: Device) -> Gpu:
    row = lookup(device.id)
    if row is None:
        name = device.name or "Intel graphics"
        return Gpu("intel", name, memory_mib=device.memory_mib, pci_id=device.id, integrated=True)
    facts = None, row.architecture, device.memory_mib
    return Gpu("intel", row.name, *facts, pci_id=device.id, integrated=row.integrated)


def _lacking(device: Device, scene: Scene) -> tuple[str, str]:
    """(what keeps XPU from a GPU on Linux, the remedy); empty where nothing does."""
    if scene.platform.system != "linux":
        return "", ""
    if device.driver not in ("xe", "i915"):
        other = f"; {device.driver} has" if device.driver else ""
        return f"its driver (xe or i915) does not have it{other}", "Install Intel's GPU driver (kernel module xe)."
    if any(name.startswith("renderD") for name in scene.names("/dev/dri")):
        return "", ""
    remedy = "Start the container with --device /dev/dri." if scene.platform.container else ""
    return "there is no /dev/dri/renderD* device file", remedy

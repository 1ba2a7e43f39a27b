"""Intel: display devices on the bus, and what keeps PyTorch's XPU builds from them."""

from collections.abc import Sequence

from uvtorch.hardware.scene import Device, Scene
from uvtorch.intel import IntelGpu, lookup, supported
from uvtorch.machine import Gpu, Problem


def probe(scene: Scene, devices: Sequence[Device]) -> None:
    """Intel's GPUs. Cards come before graphics that are part of a processor.

    A GPU that XPU supports but that has no driver or no device file here is a problem and not among the GPUs.
    """
    gpus, problems = [], []
    for device in devices:
        row = lookup(device.id) or IntelGpu(None, False, True, device.name or "Intel graphics")
        lacking, remedy = _lacking(device, scene) if row.supported else ("", "")
        if lacking:
            reason = f"{row.name} ({device.id}) is on the bus, but {lacking}"
            problems.append(Problem("intel", "unreachable", reason, remedy))
        else:
            facts = None, row.architecture, device.memory_mib, None, device.id
            gpus.append(Gpu("intel", row.name, *facts, integrated=row.integrated))
    wsl = "Intel GPUs cannot be detected under WSL; use `--torch-backend xpu`" if scene.platform.wsl else ""
    scene.probe("intel", "failed" if problems else "ok" if gpus else "absent", wsl)
    scene.gpus += sorted(gpus, key=lambda gpu: (not supported(gpu.pci_id), gpu.integrated))
    scene.problems += problems


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

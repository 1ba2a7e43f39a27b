"""Intel: display devices on the PCI bus, and what PyTorch's XPU builds make of them."""

from collections.abc import Iterable

from uvtorch.hardware import files, pci
from uvtorch.intel import lookup
from uvtorch.machine import Gpu, Platform, Probe, Problem


def gpu(device: str, name: str | None = None, memory_mib: int | None = None) -> Gpu:
    """The GPU with this PCI device id; `name` is what the system calls it, used where the table has no name."""
    pci_id = f"{pci.INTEL}:{device}"
    row = lookup(pci_id)
    if row is None:
        return Gpu("intel", name or "Intel graphics", memory_mib=memory_mib, pci_id=pci_id, integrated=True)
    return Gpu("intel", row.name, None, row.architecture, memory_mib, pci_id=pci_id, integrated=row.integrated)


def supported(gpu: Gpu) -> bool:
    """Whether PyTorch's XPU builds support it."""
    row = lookup(gpu.pci_id)
    return row is not None and row.supported


def probe(
    devices: Iterable[pci.Device], platform: Platform, root: str
) -> tuple[tuple[Gpu, ...], tuple[Problem, ...], Probe]:
    """(GPUs, problems, outcome). Cards come before graphics that are part of a processor.

    A GPU that XPU supports but that has no driver or no device file here is a problem and not among the GPUs.
    """
    gpus, problems = [], []
    for device in devices:
        found = gpu(device.device)
        if not supported(found):
            gpus.append(found)
        elif device.driver not in ("xe", "i915"):
            reason = f"{found.name} ({device.id}) is on the bus, but its driver (xe or i915) does not have it"
            if device.driver:
                reason += f"; {device.driver} has"
            problems.append(Problem("intel", "unreachable", reason, "Install Intel's GPU driver (kernel module xe)."))
        elif not any(name.startswith("renderD") for name in files.names(root, "/dev/dri")):
            reason = f"{found.name} ({device.id}) is on the bus, but there is no /dev/dri/renderD* device file"
            remedy = "Start the container with --device /dev/dri." if platform.container else ""
            problems.append(Problem("intel", "unreachable", reason, remedy))
        else:
            gpus.append(found)
    gpus.sort(key=lambda one: (not supported(one), one.integrated))
    if problems:
        return tuple(gpus), tuple(problems), Probe("intel", "failed", problems[0].reason)
    if not gpus:
        return (), (), Probe("intel", "absent")
    return tuple(gpus), (), Probe("intel", "ok", ", ".join(dict.fromkeys(map(_described, gpus))))


def _described(gpu: Gpu) -> str:
    return f"{gpu.name} ({gpu.pci_id})" + ("" if supported(gpu) else ", not supported by PyTorch XPU")

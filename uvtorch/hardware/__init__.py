"""Reading the machine: one module a vendor, each a probe (effect), parsers (pure) and frozen facts.

The ladder, first match first:

1. `UVTORCH_HARDWARE`: a description replaces detection, so that any machine can be planned for from any other.
2. `UV_CUDA_DRIVER_VERSION`, then `UV_AMD_GPU_ARCHITECTURE`: as in uv, no hardware is asked.
3. NVIDIA: NVML; else the kernel module's files; else nvidia-smi.
4. AMD: the KFD topology; else rocm_agent_enumerator; else rocminfo.
5. Intel: display devices on the PCI bus. Apple: the processor. Windows: adapters in the registry, then 3.

"Not found" is not "failed", and one probe's failure never hides another's result.
"""

from collections.abc import Mapping

from uvtorch.errors import UsageError
from uvtorch.hardware import amd, files, nvidia, pci
from uvtorch.hardware import host as hosts
from uvtorch.machine import Driver, Gpu, Machine, Platform, Probe


def detect(env: Mapping[str, str], *, root: str = "/", host: hosts.Host | None = None) -> Machine:
    """The machine as a process with this environment may use it.

    `root` and `host` replace the file system's root and the interpreter's own facts. No probe takes longer than 2 s.
    What is wrong with the machine is in `Machine.problems`; raises UsageError for a malformed override and MachineError
    for a description that cannot be read.
    """
    if described := env.get("UVTORCH_HARDWARE"):
        return read_description(described)
    host = host or hosts.this_host()
    platform = hosts.platform(host, env, root)
    return _overridden(env, platform) or _probed(host, platform, env, root)


def read_description(path: str) -> Machine:
    """The machine that a file describes; `-` and `/dev/stdin` are standard input. Raises MachineError."""
    from uvtorch import machine

    return machine.from_json(machine_bytes(path), path)


def machine_bytes(path: str) -> bytes:
    """The bytes of a description, at most one more than `machine.SIZE_LIMIT`. Raises MachineError."""
    import os

    from uvtorch.errors import MachineError
    from uvtorch.machine import SIZE_LIMIT

    try:
        # Standard input by its number: /dev/stdin cannot be opened where it is a socket, and is not on every system.
        fd = 0 if path in ("-", "/dev/stdin") else os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            parts, room = [], SIZE_LIMIT + 1
            while room > 0 and (part := os.read(fd, min(room, 65536))):
                parts.append(part)
                room -= len(part)
        finally:
            if fd:
                os.close(fd)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MachineError(
            f"the machine's description {path} cannot be read: {reason}",
            "Write one with `uvtorch torch detect --json > FILE` on the machine it describes.",
        ) from None
    return b"".join(parts)


def _overridden(env: Mapping[str, str], platform: Platform) -> Machine | None:
    """The machine that uv's own variables describe; None if neither is set (or is empty, which uv takes for unset)."""
    skipped = tuple(Probe(name, "skipped", "overridden by the environment") for name in ("nvml", "kfd", "intel"))
    if version := env.get("UV_CUDA_DRIVER_VERSION", "").strip():
        if not nvidia.is_version(version) and not (version.isascii() and version.isdigit()):
            raise UsageError(
                f"UV_CUDA_DRIVER_VERSION={files.plain(version, 80)} is not the version of an NVIDIA driver",
                "It is a driver's version such as 570.124.06, as nvidia-smi prints it.",
            )
        if int(version.partition(".")[0]) < 100:
            raise UsageError(
                f"UV_CUDA_DRIVER_VERSION={version} looks like a version of CUDA, not of NVIDIA's driver",
                "It is a driver's version such as 570.124.06, as nvidia-smi prints it.",
            )
        note = f"UV_CUDA_DRIVER_VERSION={version} is in force: no hardware was asked, so the GPU's model is not known."
        return Machine(platform, (Gpu("nvidia", "NVIDIA GPU"),), Driver(version), (), (note,), skipped)
    if architecture := env.get("UV_AMD_GPU_ARCHITECTURE", ""):
        if not amd.is_architecture(architecture):
            raise UsageError(
                f"UV_AMD_GPU_ARCHITECTURE={files.plain(architecture, 80)} is not the name of an AMD GPU architecture",
                "It is a name such as gfx942 or gfx1100, as rocminfo prints it.",
            )
        note = f"UV_AMD_GPU_ARCHITECTURE={architecture} is in force: no hardware was asked."
        gpu = Gpu("amd", f"AMD {architecture}", architecture=architecture, integrated=architecture in amd.INTEGRATED)
        return Machine(platform, (gpu,), None, (), (note,), skipped)
    return None


def _probed(host: hosts.Host, platform: Platform, env: Mapping[str, str], root: str) -> Machine:
    if platform.system == "macos":
        from uvtorch.hardware import apple

        gpus, notes, outcome = apple.probe(host)
        return Machine(platform, gpus, None, (), notes, (outcome,))
    if platform.system == "windows":
        return _windows(platform, env, root)
    if platform.system != "linux":
        return Machine(platform, notes=(f"PyTorch has no wheels for {platform.system}.",))
    devices = pci.gpus(root)
    one = nvidia.probe([device for device in devices if device.vendor == pci.NVIDIA], platform, env, root)
    other = amd.probe([device for device in devices if device.vendor == pci.AMD], platform, env, root)
    gpus, problems, notes = (*one.gpus, *other.gpus), (*one.problems, *other.problems), (*one.notes, *other.notes)
    probes = (*one.probes, *other.probes)
    if intels := [device for device in devices if device.vendor == pci.INTEL]:
        from uvtorch.hardware import intel

        found, faults, outcome = intel.probe(intels, platform, root)
        gpus, problems, probes = (*gpus, *found), (*problems, *faults), (*probes, outcome)
    else:
        detail = "WSL does not tell Intel GPUs: name xpu where there is one" if platform.wsl else ""
        probes = (*probes, Probe("intel", "absent", detail))
    if platform.libc and platform.libc.startswith("musl"):
        notes = (*notes, f"This system's C library is {platform.libc}; PyTorch has wheels for glibc only.")
    if platform.tegra:
        notes = (*notes, f"This is a Jetson (L4T {platform.tegra}).")
    return Machine(platform, gpus, one.driver, problems, notes, probes)


def _windows(platform: Platform, env: Mapping[str, str], root: str) -> Machine:
    from uvtorch.hardware import intel, windows

    adapters = windows.adapters()
    cards = [adapter.device for adapter in adapters if adapter.device.vendor == pci.NVIDIA]
    found = nvidia.probe_windows(cards, platform, env, root)
    others = tuple(
        intel.gpu(adapter.device.device, adapter.name, adapter.memory_mib)
        if adapter.device.vendor == pci.INTEL
        else Gpu("amd", adapter.name, memory_mib=adapter.memory_mib, pci_id=adapter.device.id)
        for adapter in adapters
        if adapter.device.vendor != pci.NVIDIA
    )
    probes = (*found.probes, Probe("adapters", "ok" if adapters else "absent", ", ".join(one.name for one in adapters)))
    return Machine(platform, (*found.gpus, *others), found.driver, found.problems, found.notes, probes)

"""NVIDIA: NVML, else the kernel module's files; and what stands between a GPU and its use.

The three states: usable (a driver and GPUs); broken (the driver is here and does not do its work: an error with its
remedy); unreachable (a GPU on the bus that nothing here could drive: a container without device files, no driver
installed, given to a virtual machine), which gives the CPU build and a line.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from uvtorch.hardware import nvml, programs, sysfs, visible
from uvtorch.hardware.nvml import Report
from uvtorch.hardware.scene import Scene, count
from uvtorch.machine import Driver, Gpu

LIBRARY = "libnvidia-ml.so.1"
LIBRARY_FOLDERS = (
    "/usr/lib/wsl/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia",  # Jetson
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",  # Google's container-optimized OS mounts it here, not always in the loader's cache
    "/run/opengl-driver/lib",  # NixOS
)
TEGRA_CHIPS = {
    "tegra210": ("5.3", "Jetson Nano / TX1"),
    "tegra186": ("6.2", "Jetson TX2"),
    "tegra194": ("7.2", "Jetson Xavier"),
    "tegra234": ("8.7", "Jetson Orin"),
    "tegra264": ("11.0", "Jetson Thor"),
}
"""Device-tree names of NVIDIA's embedded chips: (compute capability, name). Source: NVIDIA's list of CUDA GPUs."""

GIVE_CONTAINER = "Give the container the GPU: `docker run --gpus all`, or an nvidia.com/gpu resource in Kubernetes."
UPDATE_WSL = "Update NVIDIA's driver on Windows, run `wsl --update` and `wsl --shutdown` there, and try again."
INSTALL, REINSTALL = "Install NVIDIA's driver to use it.", "Reinstall NVIDIA's driver."
IF_IT_HANGS = (
    "Try `nvidia-smi`: if it is only slow, turn on persistence mode (nvidia-persistenced) or give it more time with "
    "UVTORCH_PROBE_TIMEOUT=60; if it hangs, look for Xid messages in `sudo dmesg` and restart the machine."
)


class Signs(NamedTuple):
    """What the file system tells without asking the driver."""

    devices: Sequence[sysfs.Device]  # GPUs on the bus
    gpu: bool  # There is a GPU: on the bus, behind the loaded kernel module, or a Jetson's
    nodes: bool  # There are device files
    library: str | None  # Where NVML's library was seen, or its bare name where only the loader knows
    module: str | None = None  # The version of the loaded kernel module, from /proc or /sys

    @property
    def given_away(self) -> bool:
        """Whether every GPU is handed to virtual machines."""
        return {device.driver for device in self.devices} == {"vfio-pci"}


def probe(scene: Scene, devices: Sequence[sysfs.Device]) -> None:
    """Ask about NVIDIA's hardware: on Linux where anything speaks of it, on Windows where it has an adapter."""
    signs = _look(scene, devices)
    if not (signs.nodes or signs.library):
        _unreachable(scene, signs)
        scene.probe("nvml", "absent", "".join(problem.reason for problem in scene.problems))
        return
    report = _ask_nvml(scene, signs)
    if report.code == nvml.DRIVER_NOT_LOADED and not (signs.gpu or scene.platform.wsl):
        # The driver's packages on a machine without a GPU, as cloud images have them.
        scene.probe("nvml", "absent", "NVIDIA's library without a GPU")
        return
    version = report.driver if is_version(report.driver) else signs.module
    driver = Driver(version, report.cuda) if version else None
    if report.failure:
        _failed(report, driver, scene, signs)
    else:
        scene.driver = driver
        _answered(report, scene, signs)


def _look(scene: Scene, devices: Sequence[sysfs.Device]) -> Signs:
    platform = scene.platform
    if platform.system == "windows":
        return Signs(devices, bool(devices), bool(devices), "nvml.dll" if devices else None)
    pattern = "nvidiactl|nvhost-gpu|nvhost-ctrl-gpu|nvgpu|nvidia[0-9]+" + ("|dxg" if platform.wsl else "")
    nodes = any(re.fullmatch(pattern, name) for name in sysfs.names(scene.root, "/dev"))
    version = parse_module_version(sysfs.read(scene.root, "/proc/driver/nvidia/version", 4096))
    version = version or sysfs.read(scene.root, "/sys/module/nvidia/version", 200).strip()
    # Jetsons before JetPack 6 tell L4T's release there (35.3.1), which no driver's version is comparable with.
    module = version if is_version(version) and int(version.partition(".")[0]) >= 100 else None
    gpu = bool(devices or module or platform.tegra)
    return Signs(devices, gpu, nodes, find_library(scene.env, scene.root), module)


def parse_module_version(text: str) -> str | None:
    """The version in /proc/driver/nvidia/version: the first word after `Module` that is one.

    `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (...)  Wed Feb 26 ...`
    """
    line = next((line for line in text.splitlines() if "NVRM version" in line), "")
    return next(filter(is_version, line.partition("Module")[2].split()), None)


def is_version(text: str | None) -> bool:
    """Whether it is a driver's version: two to four numbers, `570.124.06`."""
    return re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}", text or "") is not None


def find_library(env: Mapping[str, str], root: str) -> str | None:
    """Where NVML's library is: in the loader's folders, in the loader's cache (its bare name then), or None.

    Looks at files only: loading ctypes to ask the loader would cost more than all other probes together.
    """
    folders = [path for path in env.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    for folder in (*folders, *LIBRARY_FOLDERS):
        if sysfs.exists(root, f"{folder}/{LIBRARY}"):
            return f"{folder}/{LIBRARY}"
    return LIBRARY if LIBRARY in sysfs.read(root, "/etc/ld.so.cache", 4 * 2**20) else None


def _ask_nvml(scene: Scene, signs: Signs) -> Report:
    if signs.library is None:
        return Report(code=nvml.LIBRARY_NOT_FOUND, failure=f"{LIBRARY} not found", end="error")
    platform = scene.platform
    # Windows, WSL and Jetsons have no file that tells of a loaded module.
    alive = signs.nodes and bool(signs.module or platform.wsl or platform.tegra or platform.system == "windows")
    seconds = programs.limit(scene.env, alive=alive)
    # On the real machine the loader knows better than we where its libraries are, except in folders outside its
    # search; under another root its own libraries must not be touched.
    here = scene.root == "/"
    library = sysfs.at(scene.root, signs.library) if signs.library.startswith("/") or not here else None
    return nvml.ask(library, scene.env, seconds, late=scene.late("NVIDIA's driver", seconds), loader=here)


# What NVML answered


def _answered(report: Report, scene: Scene, signs: Signs) -> None:
    """NVML answered in full: the GPUs that CUDA will see."""
    whole = {device.number for device in report.devices}
    scene.probe("nvml", "ok", f"driver {report.driver}, {count(whole)}")
    for index, code, said in report.lost:
        scene.notes.append(f"NVIDIA GPU {index} does not answer: {_error(code, said)[0]}.")
    usable = [device for device in report.devices if device.usable]
    for number in sorted(whole - {device.number for device in usable}):
        scene.notes.append(f"NVIDIA GPU {number} is in MIG mode without an instance: CUDA skips it.")
    if not usable:
        _without_gpu(report, scene, signs)
    _see(scene, [device.gpu for device in usable], [device.parent for device in usable])


def _without_gpu(report: Report, scene: Scene, signs: Signs) -> None:
    """Say why a driver that answers has no GPU to offer; nothing where there is none."""
    if report.lost:
        reason, remedy = _error(*report.lost[0][1:])
    elif report.devices:
        reason = "every GPU is in MIG mode and none has an instance, so CUDA sees no device"
        remedy = "Create instances (`sudo nvidia-smi mig -cgi ... -C`) or turn MIG mode off (`sudo nvidia-smi -mig 0`)."
    elif scene.platform.container:
        reason = "NVIDIA's driver is here, but this container was given no GPU"
        scene.problem("nvidia", "unreachable", reason, GIVE_CONTAINER)
        return
    elif any(device.driver == "nvidia" for device in signs.devices):
        reason = f"the driver does not see the GPU ({signs.devices[0].id}) that is on the bus"
        remedy = "Look for NVRM messages in `sudo dmesg`: the driver may be too old for this GPU."
    else:
        return
    scene.problem("nvidia", "broken", f"NVIDIA: {reason}", remedy)


def _error(code: int | None, said: str) -> tuple[str, str]:
    """(reason, remedy) of an NVML error: known ones in our words, others in its own."""
    other = (
        f"the driver answers `{sysfs.plain(said)}`",
        "Look for NVRM messages in `sudo dmesg`, then restart the machine.",
    )
    return nvml.BROKEN.get(code or 0, other)


def _see(scene: Scene, gpus: list[Gpu], parents: Sequence[str | None] = ()) -> None:
    """Add the GPUs that CUDA_VISIBLE_DEVICES leaves."""
    alike = len({(gpu.name, gpu.compute_capability) for gpu in gpus}) == 1
    ordered = alike or scene.env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    scene.gpus += visible.apply(scene, "CUDA_VISIBLE_DEVICES", gpus, ordered=ordered, parents=parents)


# What stands in the way


def _unreachable(scene: Scene, signs: Signs) -> None:
    """Name a GPU that nobody here could drive; nothing where nothing speaks of one."""
    gpu = f"an NVIDIA GPU ({signs.devices[0].id})" if signs.devices else "an NVIDIA GPU"
    host = f" (the host's driver is {signs.module})" if signs.module else ""
    drivers = ", ".join(sorted(filter(None, {device.driver for device in signs.devices})))
    remedy = INSTALL
    if not signs.gpu:
        return
    if scene.platform.container:
        reason = f"{gpu} is on the bus, but this container has no NVIDIA device files{host}"
        remedy = GIVE_CONTAINER
    elif signs.given_away:
        reason, remedy = f"{gpu} is on the bus, but it is handed to virtual machines (vfio-pci)", ""
    elif signs.module:
        missing = "there are neither device files nor its library"
        reason = f"{gpu} is here with kernel module {signs.module}, but {missing}"
    elif not signs.devices:
        reason = "this is a Jetson, but there are neither NVIDIA's device files nor its library"
    else:
        reason = f"{gpu} is on the bus, but NVIDIA's driver is not installed{f' ({drivers} has it)' if drivers else ''}"
    scene.problem("nvidia", "unreachable", reason, remedy)


def _failed(report: Report, driver: Driver | None, scene: Scene, signs: Signs) -> None:
    """NVML gave no complete answer."""
    code = f" (error {report.code})" if report.code else ""
    scene.probe("nvml", "failed", sysfs.plain(report.failure) + code)
    if scene.platform.system != "windows":
        scene.probe("nvidia-module", "ok" if signs.module else "absent", signs.module or "")
    if report.end != "error" or report.code not in (None, nvml.LIBRARY_NOT_FOUND):
        _stuck(report, scene, signs)
    else:
        _without_nvml(report, driver, scene, signs)
    # A driver that cannot be reached decides nothing.
    if all(problem.kind == "broken" for problem in scene.problems):
        scene.driver = scene.driver or driver


def _stuck(report: Report, scene: Scene, signs: Signs) -> None:
    """NVML said why it cannot work, or hung, or crashed."""
    hung, platform = report.end == "hung", scene.platform
    if not (hung or signs.nodes) and (platform.container or signs.given_away):
        _unreachable(scene, signs)
        return
    reason, remedy = _reason(report, scene, signs)
    if platform.system == "windows":
        remedy = "Restart Windows; if that does not help, reinstall NVIDIA's driver."
    elif platform.wsl:
        remedy = UPDATE_WSL
    scene.problem("nvidia", "broken", f"NVIDIA: {reason}", remedy)
    if not hung:  # the driver's files in /proc would hang us, too
        scene.gpus += _module_gpus(scene.root)


def _reason(report: Report, scene: Scene, signs: Signs) -> tuple[str, str]:
    if report.end == "hung":
        return f"the driver does not answer ({report.failure})", IF_IT_HANGS
    if report.end == "crashed":
        return f"asking the driver failed: {report.failure}", REINSTALL
    reason, remedy = _error(report.code, report.failure)
    if report.code == nvml.DRIVER_NOT_LOADED and signs.module:
        reason = f"the driver {signs.module} is loaded, but its library cannot reach it"
        remedy = "Check that /dev/nvidiactl exists (`sudo nvidia-modprobe -c 0 -u`), else restart the machine."
    elif report.code == nvml.VERSION_MISMATCH:
        path = os.path.realpath(sysfs.at(scene.root, signs.library or ""))
        library = os.path.basename(path).removeprefix("libnvidia-ml.so.")
        versions = (("kernel module", signs.module), ("library", library))
        told = ", ".join(f"{what} {version}" for what, version in versions if is_version(version))
        reason += f" ({told})" if told else ""
    return reason, remedy


# Without NVML


def _without_nvml(report: Report, driver: Driver | None, scene: Scene, signs: Signs) -> None:
    """There is no NVML, or one that cannot be loaded: make do with the files. nvidia-smi asks the same library."""
    if scene.platform.container and not signs.nodes:
        _unreachable(scene, signs)
        return
    gpus = _gpus_of_files(driver, scene, signs)
    _see(scene, gpus)
    if not gpus and (signs.devices or (scene.platform.wsl and signs.library)):
        reason = f"NVIDIA: NVML cannot be asked ({sysfs.plain(report.failure)})"
        scene.problem("nvidia", "broken", reason, UPDATE_WSL if scene.platform.wsl else REINSTALL)


def _gpus_of_files(driver: Driver | None, scene: Scene, signs: Signs) -> list[Gpu]:
    """A Jetson's, those that the kernel module names, else as many as there must be where there is a driver."""
    unnamed = (len(signs.devices) or int(signs.nodes)) if driver else 0
    return _tegra_gpus(scene) or _module_gpus(scene.root) or [Gpu("nvidia", "NVIDIA GPU")] * unnamed


def _module_gpus(root: str) -> list[Gpu]:
    """GPUs by name only, from the `Model:` and `GPU UUID:` lines of /proc/driver/nvidia/gpus/*/information."""
    base, gpus = "/proc/driver/nvidia/gpus", []
    for address in sysfs.names(root, base):
        text = sysfs.read(root, f"{base}/{address}/information", 8192)
        model = re.search(r"^Model:[ \t]*(\S.*)$", text, re.MULTILINE)
        uuid = re.search(r"^GPU UUID:[ \t]*(GPU-[-0-9A-Za-z]+)[ \t]*$", text, re.MULTILINE)
        if model and (name := sysfs.plain(model[1])):
            gpus.append(Gpu("nvidia", name, uuid=uuid and uuid[1]))
    return gpus


def _tegra_gpus(scene: Scene) -> list[Gpu]:
    """The GPU of a Jetson without NVML, from its device tree."""
    text = sysfs.read(scene.root, "/proc/device-tree/compatible", 4096) if scene.platform.tegra else ""
    known = [TEGRA_CHIPS[chip] for chip in re.findall(r"nvidia,(\w+)", text) if chip in TEGRA_CHIPS]
    return [Gpu("nvidia", name, capability, integrated=True) for capability, name in known[:1]]

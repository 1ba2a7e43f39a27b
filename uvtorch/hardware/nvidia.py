"""NVIDIA: NVML, else the kernel module's files, else nvidia-smi; and what stands between a GPU and its use.

The three states: usable (a driver and GPUs); broken (the driver is here and does not do its work: an error with its
remedy); unreachable (a GPU on the bus that nothing here could drive: a container without device files, no driver
installed, given to a virtual machine), which gives the CPU build and a line.
"""

import os
import time
from collections.abc import Mapping, Sequence

from uvtorch.hardware import files, nvml, pci, visible
from uvtorch.hardware.nvml import Report
from uvtorch.machine import Driver, Gpu, Platform, Probe, Problem
from uvtorch.named import NamedTuple

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
PROGRAMS = (
    "/usr/bin/nvidia-smi",
    "/usr/lib/wsl/lib/nvidia-smi",
    "/usr/local/nvidia/bin/nvidia-smi",
    "/usr/local/bin/nvidia-smi",
    "/opt/bin/nvidia-smi",
    "/usr/sbin/nvidia-smi",
    "/run/current-system/sw/bin/nvidia-smi",
)
QUERY = "--query-gpu=driver_version,compute_cap,name"
PROGRAM_LIMIT_S = 1.7

TEGRA_CHIPS = {
    "tegra210": ("5.3", "Jetson Nano / TX1"),
    "tegra186": ("6.2", "Jetson TX2"),
    "tegra194": ("7.2", "Jetson Xavier"),
    "tegra234": ("8.7", "Jetson Orin"),
    "tegra264": ("11.0", "Jetson Thor"),
}
"""Device-tree names of NVIDIA's embedded chips: (compute capability, name). Source: NVIDIA's list of CUDA GPUs."""

GIVE_CONTAINER = "Give the container the GPU: `docker run --gpus all`, or an nvidia.com/gpu resource in Kubernetes."

# nvmlReturn_t -> (reason, remedy), for the errors that mean a driver which is there and does not work.
BROKEN = {
    nvml.NO_PERMISSION: (
        "no permission to use the GPU's device files",
        "Check the rights of /dev/nvidia*; where a group owns them (video, render), join it and log in again.",
    ),
    nvml.INSUFFICIENT_POWER: ("a GPU's external power cable is not connected", "Connect it, then restart the machine."),
    nvml.DRIVER_NOT_LOADED: (
        "the driver is installed, but its kernel module is not loaded",
        "Load it with `sudo modprobe nvidia`; after a kernel update, run `sudo dkms autoinstall` and restart.",
    ),
    nvml.IRQ_ISSUE: (
        "the kernel reports an interrupt problem with a GPU",
        "Look for NVRM messages in `sudo dmesg`, then restart the machine.",
    ),
    nvml.CORRUPTED_INFOROM: ("a GPU's infoROM is corrupted", "Look at `nvidia-smi -q`; the card may need service."),
    nvml.GPU_IS_LOST: (
        "a GPU is lost: it has fallen off the bus",
        "Look for Xid 79 in `sudo dmesg`, then restart the machine.",
    ),
    nvml.RESET_REQUIRED: ("a GPU needs a reset", "Run `sudo nvidia-smi --gpu-reset`, or restart the machine."),
    nvml.OPERATING_SYSTEM: (
        "the operating system blocks the GPU",
        "In a container, check the devices and the cgroup it was given; else see `sudo dmesg`.",
    ),
    nvml.LIB_RM_VERSION_MISMATCH: (
        "the driver's library and its kernel module are of different versions",
        "Restart the machine (the driver was updated while its old module stayed loaded).",
    ),
    nvml.UNKNOWN: (
        "the driver answers `Unknown Error`",
        "In a container: restart it (`systemctl daemon-reload` on the host takes its devices away); else the machine.",
    ),
}


class Findings(NamedTuple):
    """What is known of NVIDIA's hardware."""

    gpus: tuple[Gpu, ...] = ()
    driver: Driver | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()


def probe(devices: Sequence[pci.Device], platform: Platform, env: Mapping[str, str], root: str) -> Findings:
    """Ask about NVIDIA's hardware on Linux. `devices` are NVIDIA's GPUs on the PCI bus."""
    started = time.perf_counter()
    scene = _look(platform, env, root)
    if not (scene.module or scene.nodes or scene.library or devices or platform.tegra):
        return Findings(probes=(Probe("nvml", "absent", "", _ms(started)),))
    if not scene.nodes and not scene.library:
        return _unreachable(scene, devices, platform, started)
    return _ask(scene, devices, platform, env, root, started)


def probe_windows(devices: Sequence[pci.Device], platform: Platform, env: Mapping[str, str], root: str) -> Findings:
    """Ask about NVIDIA's hardware on Windows. `devices` are NVIDIA's adapters in the registry."""
    started = time.perf_counter()
    if not devices:
        return Findings(probes=(Probe("nvml", "absent", "", _ms(started)),))
    scene = Scene(None, True, "nvml.dll", windows_programs(env), windows=True)
    return _ask(scene, devices, platform, env, root, started)


def windows_programs(env: Mapping[str, str]) -> tuple[str, ...]:
    """Where NVIDIA's driver puts nvidia-smi on Windows, newest place first. Never the current folder, nor PATH."""
    windows = env.get("SystemRoot") or r"C:\Windows"
    programs = env.get("ProgramFiles") or r"C:\Program Files"
    return rf"{windows}\System32\nvidia-smi.exe", rf"{programs}\NVIDIA Corporation\NVSMI\nvidia-smi.exe"


class Scene(NamedTuple):
    """What the file system tells without asking the driver."""

    module: str | None
    """The version of the loaded kernel module, from /proc or /sys."""
    nodes: bool
    """There are device files."""
    library: str | None
    """Where NVML's library was seen, or its bare name where only the loader knows."""
    programs: tuple[str, ...] = PROGRAMS
    """Where nvidia-smi may be."""
    windows: bool = False


def _look(platform: Platform, env: Mapping[str, str], root: str) -> Scene:
    module = module_version(root)
    dev = files.names(root, "/dev")
    nodes = any(
        name in ("nvidiactl", "nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu") or (name[:6] == "nvidia" and name[6:].isdigit())
        for name in dev
    ) or (platform.wsl and "dxg" in dev)
    return Scene(module, nodes, find_library(env, root))


def module_version(root: str) -> str | None:
    """The loaded kernel module's version, from /proc/driver/nvidia/version or /sys/module/nvidia/version."""
    text = files.read(root, "/proc/driver/nvidia/version", 4096)
    version = parse_module_version(text) if text else None
    if version is None:
        text = (files.read(root, "/sys/module/nvidia/version", 200) or "").strip()
        version = text if is_version(text) else None
    # Jetsons before JetPack 6 tell L4T's release there (35.3.1), which no driver's version is comparable with.
    return None if version and int(version.partition(".")[0]) < 100 else version


def find_library(env: Mapping[str, str], root: str) -> str | None:
    """Where NVML's library is: in the loader's folders, in the loader's cache (its bare name then), or None.

    Looks at files only: loading ctypes to ask the loader would cost more than all other probes together.
    """
    paths = [path for path in env.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    for folder in (*paths, *LIBRARY_FOLDERS):
        if files.exists(root, f"{folder}/{LIBRARY}"):
            return f"{folder}/{LIBRARY}"
    cache = files.read_bytes(root, "/etc/ld.so.cache", 4 * 2**20) or b""
    return LIBRARY if LIBRARY.encode() in cache else None


def _unreachable(scene: Scene, devices: Sequence[pci.Device], platform: Platform, started: float) -> Findings:
    """A GPU nobody here could drive, or a driver without a GPU."""
    what = f"an NVIDIA GPU ({devices[0].id})" if devices else "an NVIDIA GPU"
    if not devices and not scene.module and not platform.tegra:
        return Findings(probes=(Probe("nvml", "absent", "NVIDIA's library without a GPU", _ms(started)),))
    remedy = "Install NVIDIA's driver to use it."
    if platform.container:
        reason = f"{what} is on the bus, but this container has no NVIDIA device files"
        if scene.module:
            reason += f" (the host's driver is {scene.module})"
        remedy = GIVE_CONTAINER
    elif devices and all(device.driver == "vfio-pci" for device in devices):
        reason, remedy = f"{what} is on the bus, but it is handed to virtual machines (vfio-pci)", ""
    elif scene.module:
        reason = f"{what} is here with kernel module {scene.module}, but there are neither device files nor its library"
    elif platform.tegra and not devices:
        reason = "this is a Jetson, but there are neither NVIDIA's device files nor its library"
    else:
        drivers = sorted({device.driver for device in devices if device.driver})
        reason = f"{what} is on the bus, but NVIDIA's driver is not installed" + (
            f" ({', '.join(drivers)} has it)" if drivers else ""
        )
    return Findings(
        problems=(Problem("nvidia", "unreachable", reason, remedy),),
        probes=(Probe("nvml", "absent", reason, _ms(started)),),
    )


def _ask(
    scene: Scene,
    devices: Sequence[pci.Device],
    platform: Platform,
    env: Mapping[str, str],
    root: str,
    started: float,
) -> Findings:
    if scene.library is None:
        report = Report(code=nvml.LIBRARY_NOT_FOUND, failure=f"{LIBRARY} not found")
    else:
        # On the real machine the loader knows better than we where its libraries are, except in folders outside its
        # search; under another root its own libraries must not be touched.
        report = Report()
        if root == "/":
            report = nvml.ask(None)
        if root != "/" or (report.code == nvml.LIBRARY_NOT_FOUND and scene.library.startswith("/")):
            report = nvml.ask(files.at(root, scene.library))
    version = report.driver if report.driver and is_version(report.driver) else scene.module
    driver = Driver(version, report.cuda) if version else None
    probes = [Probe("nvml", "failed" if report.failure else "ok", _told(report), _ms(started))]
    if not report.failure:
        return _answered(report, driver, devices, platform, env, probes)

    if not scene.windows:
        probes.append(Probe("nvidia-module", "ok" if scene.module else "absent", scene.module or ""))
    if report.code in BROKEN or report.hung or _crashed(report):
        probes.append(Probe("nvidia-smi", "skipped", "it asks the same library"))
        handed_on = devices and all(device.driver == "vfio-pci" for device in devices)
        no_gpu = report.code == nvml.DRIVER_NOT_LOADED and not (
            devices or scene.module or platform.tegra or platform.wsl
        )
        if no_gpu or (not report.hung and not scene.nodes and (platform.container or handed_on)):
            found = _unreachable(scene, devices, platform, started)
            # Without a problem: the driver's packages on a machine without a GPU, as cloud images have them.
            return found._replace(probes=tuple(probes)) if found.problems else found
        gpus = () if report.hung else _module_gpus(root)
        problem = _broken(report, scene, platform, root)
        return Findings(gpus, driver, (problem,), probes=tuple(probes))

    # No NVML, or one that pynvml cannot talk to: ask the program, then make do with the files.
    started = time.perf_counter()
    answer, outcome = _ask_program(scene, env, root)
    probes.append(outcome._replace(ms=_ms(started)))
    if answer.gpus:
        if answer.driver is None:
            answer = answer._replace(driver=driver)
        return _filtered(answer, (), env, probes)
    if answer.problems:
        if platform.container and not scene.nodes:
            return _unreachable(scene, devices, platform, started)._replace(probes=tuple(probes))
        return Findings((), driver, answer.problems, probes=tuple(probes))
    tegra = _tegra_gpus(platform, root)
    gpus = tegra or _module_gpus(root)
    if not gpus and driver is not None:
        gpus = (Gpu("nvidia", "NVIDIA GPU"),) * (len(devices) or int(scene.nodes))
    if not gpus and devices:
        reason = f"NVIDIA: neither NVML ({files.plain(report.failure)}) nor nvidia-smi can be asked for {devices[0].id}"
        problem = Problem("nvidia", "broken", reason, "Reinstall NVIDIA's driver.")
        return Findings((), driver, (problem,), probes=tuple(probes))
    return _filtered(Findings(gpus, driver), (), env, probes)


def _told(report: Report) -> str:
    if report.failure:
        code = f" (error {report.code})" if report.code is not None and report.code > 0 else ""
        return files.plain(report.failure) + code
    whole = sum(device.parent is None for device in report.devices)
    return f"driver {report.driver}, {whole} GPU{'' if whole == 1 else 's'}"


def _crashed(report: Report) -> bool:
    return report.failure.startswith("the library crashed")


def _broken(report: Report, scene: Scene, platform: Platform, root: str) -> Problem:
    if report.hung:
        reason = f"the driver does not answer ({report.failure})"
        remedy = (
            "Try `nvidia-smi`: if it is only slow, turn on persistence mode (nvidia-persistenced); if it hangs, look "
            "for Xid messages in `sudo dmesg` and restart the machine."
        )
    elif _crashed(report):
        reason, remedy = f"asking the driver failed: {report.failure}", "Reinstall NVIDIA's driver."
    else:
        reason, remedy = BROKEN[report.code if report.code is not None else nvml.UNKNOWN]
    if report.code == nvml.LIB_RM_VERSION_MISMATCH:
        library = library_version(scene.library, root)
        parts = [f"kernel module {scene.module}" if scene.module else "", f"library {library}" if library else ""]
        if any(parts):
            reason += f" ({', '.join(filter(None, parts))})"
    elif report.code == nvml.DRIVER_NOT_LOADED and scene.module:
        reason = f"the driver {scene.module} is loaded, but its library cannot reach it"
        remedy = "Check that /dev/nvidiactl exists (`sudo nvidia-modprobe -c 0 -u`), else restart the machine."
    if scene.windows:
        remedy = "Restart Windows; if that does not help, reinstall NVIDIA's driver."
    elif platform.wsl:
        remedy = "Update NVIDIA's driver on Windows, run `wsl --update` and `wsl --shutdown` there, and try again."
    return Problem("nvidia", "broken", f"NVIDIA: {reason}", remedy)


def library_version(library: str | None, root: str) -> str | None:
    """The version in the library's real file name, `libnvidia-ml.so.570.124.06`."""
    if library is None or not library.startswith("/"):
        return None
    version = os.path.basename(os.path.realpath(files.at(root, library))).removeprefix("libnvidia-ml.so.")
    return version if is_version(version) else None


def _answered(
    report: Report,
    driver: Driver | None,
    devices: Sequence[pci.Device],
    platform: Platform,
    env: Mapping[str, str],
    probes: list[Probe],
) -> Findings:
    """NVML answered in full: choose the GPUs that CUDA will see."""
    notes = []
    for index, code in report.lost:
        reason = BROKEN.get(code, (f"NVML error {code}", ""))[0]
        notes.append(f"NVIDIA GPU {index} does not answer: {reason}.")
    split = {device.number for device in report.devices if device.parent is not None}
    usable = []
    for device in report.devices:
        if device.mig and device.parent is None:
            if device.number not in split:
                notes.append(f"NVIDIA GPU {device.number} is in MIG mode without an instance: CUDA skips it.")
            continue
        usable.append(device)
    if not usable:
        problem = None
        if report.lost:
            reason, remedy = BROKEN.get(report.lost[0][1], (f"NVML error {report.lost[0][1]}", "Restart the machine."))
            problem = Problem("nvidia", "broken", f"NVIDIA: {reason}", remedy)
        elif report.devices:
            problem = Problem(
                "nvidia",
                "broken",
                "NVIDIA: every GPU is in MIG mode and none has an instance, so CUDA sees no device",
                "Create instances (`sudo nvidia-smi mig -cgi ... -C`) or turn MIG mode off (`sudo nvidia-smi -mig 0`).",
            )
        elif platform.container:
            problem = Problem(
                "nvidia",
                "unreachable",
                "NVIDIA's driver is here, but this container was given no GPU",
                GIVE_CONTAINER,
            )
        elif any(device.driver == "nvidia" for device in devices):
            problem = Problem(
                "nvidia",
                "broken",
                f"NVIDIA: the driver does not see the GPU ({devices[0].id}) that is on the bus",
                "Look for NVRM messages in `sudo dmesg`: the driver may be too old for this GPU.",
            )
        return Findings((), driver, (problem,) if problem else (), tuple(notes), tuple(probes))
    gpus = tuple(
        Gpu(
            "nvidia",
            files.plain(one.name),
            one.compute_capability,
            memory_mib=one.memory_mib,
            uuid=files.plain(one.uuid) if one.uuid else None,
            mig=one.mig,
        )
        for one in usable
    )
    return _filtered(Findings(gpus, driver, (), tuple(notes)), [one.parent for one in usable], env, probes)


def _filtered(
    found: Findings, parents: Sequence[str | None], env: Mapping[str, str], probes: Sequence[Probe]
) -> Findings:
    """Apply CUDA_VISIBLE_DEVICES."""
    found = found._replace(probes=tuple(probes))
    value = env.get("CUDA_VISIBLE_DEVICES")
    if value is None or not found.gpus:
        return found
    alike = len({(gpu.name, gpu.compute_capability) for gpu in found.gpus}) == 1
    setting = f"CUDA_VISIBLE_DEVICES={visible.shown(value)}"
    by_uuid = any(part.strip()[:4].upper() in ("GPU-", "MIG-") for part in value.split(","))
    if by_uuid and any(gpu.uuid is None for gpu in found.gpus):
        note = f"{setting} names GPUs by UUID, which is not known here: all are considered."
        return found._replace(notes=(*found.notes, note))
    shown = visible.select(
        value,
        [gpu.uuid for gpu in found.gpus],
        ordered=alike or env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID",
        parents=parents,
    )
    if not shown.certain:
        note = (
            f"{setting} counts GPUs in CUDA's own order, which is not known here: all are considered. "
            "With CUDA_DEVICE_ORDER=PCI_BUS_ID or UUIDs it is."
        )
    elif len(shown.kept) == len(found.gpus):
        return found
    else:
        hidden = len(found.gpus) - len(shown.kept)
        note = f"{setting} hides {hidden} of {len(found.gpus)} NVIDIA GPUs."
    return found._replace(gpus=tuple(found.gpus[place] for place in shown.kept), notes=(*found.notes, note))


def _ask_program(scene: Scene, env: Mapping[str, str], root: str) -> tuple[Findings, Probe]:
    from uvtorch.hardware import programs

    program = files.first_program(root, scene.programs) or (None if scene.windows else _on_path(env, root))
    if program is None:
        return Findings(), Probe("nvidia-smi", "absent")
    deadline = time.monotonic() + PROGRAM_LIMIT_S
    result = programs.run((program, QUERY, "--format=csv,noheader"), env, PROGRAM_LIMIT_S)
    gpus, driver = parse_query(result.output) if result.code == 0 else ((), None)
    if not gpus and result.code not in (None, 0) and "compute_cap" in result.output:
        # Before driver 510 it does not know the compute capability.
        query = (program, QUERY.replace("compute_cap,", ""), "--format=csv,noheader")
        result = programs.run(query, env, max(0.1, deadline - time.monotonic()))
        gpus, driver = parse_query(result.output, capability=False) if result.code == 0 else ((), None)
    if gpus:
        return Findings(gpus, driver), Probe("nvidia-smi", "ok", f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'}")
    said = next((line for line in map(files.plain, result.output.splitlines()) if line), "it told of no GPU")
    detail = result.failure or (f"exit code {result.code}: {said}" if result.code else said)
    if "no devices were found" in result.output.lower():
        return Findings(), Probe("nvidia-smi", "absent", said)
    problem = Problem("nvidia", "broken", f"NVIDIA: nvidia-smi fails: {detail}", "Reinstall NVIDIA's driver.")
    return Findings(problems=(problem,) if result.code or result.failure else ()), Probe("nvidia-smi", "failed", detail)


def _on_path(env: Mapping[str, str], root: str) -> str | None:
    """nvidia-smi in an absolute folder of PATH; never in the current one."""
    folders = [folder for folder in env.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    return files.first_program(root, tuple(f"{folder}/nvidia-smi" for folder in folders))


def parse_query(text: str, *, capability: bool = True) -> tuple[tuple[Gpu, ...], Driver | None]:
    """Read `nvidia-smi --query-gpu=driver_version,compute_cap,name --format=csv,noheader`: one line a GPU.

    Lines that are not of this form (warnings, `ERR!`) are passed over; a capability that is not told is None.
    """
    gpus, driver = [], None
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",", 2 if capability else 1)]
        if len(fields) != (3 if capability else 2) or not is_version(fields[0]):
            continue
        driver = driver or Driver(fields[0])
        major, dot, minor = fields[1].partition(".")
        known = capability and dot and major.isdecimal() and minor.isdecimal()
        name = files.plain(fields[-1])
        gpus.append(Gpu("nvidia", name if name[:1] not in ("", "[") else "NVIDIA GPU", fields[1] if known else None))
    return tuple(gpus), driver


def parse_module_version(text: str) -> str | None:
    """The version in /proc/driver/nvidia/version: the first word after `Module` that is one.

    `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (...)  Wed Feb 26 ...`
    """
    line = next((line for line in text.splitlines() if "NVRM version" in line), "")
    words = line.partition("Module")[2].split()
    return next((word for word in words if "." in word and is_version(word)), None)


def is_version(text: str) -> bool:
    """Whether it is a driver's version: two to four numbers, `570.124.06`."""
    parts = text.split(".")
    return 1 < len(parts) < 5 and all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts)


def _module_gpus(root: str) -> tuple[Gpu, ...]:
    """GPUs by name only, from /proc/driver/nvidia/gpus/*/information. Where the driver hangs, these hang with it."""
    base = "/proc/driver/nvidia/gpus"
    texts = (files.read(root, f"{base}/{address}/information", 8192) for address in files.names(root, base))
    return tuple(gpu for text in texts if text and (gpu := parse_information(text)))


def parse_information(text: str) -> Gpu | None:
    """The GPU in a file of /proc/driver/nvidia/gpus: its `Model:` and `GPU UUID:` lines."""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    uuid = fields.get("GPU UUID", "")
    model = files.plain(fields.get("Model", ""))
    known = uuid.startswith("GPU-") and "?" not in uuid
    return Gpu("nvidia", model, uuid=files.plain(uuid) if known else None) if model else None


def _tegra_gpus(platform: Platform, root: str) -> tuple[Gpu, ...]:
    """The GPU of a Jetson without NVML, from its device tree."""
    if platform.tegra is None:
        return ()
    for chip in (files.read(root, "/proc/device-tree/compatible", 4096) or "").split("\0"):
        known = TEGRA_CHIPS.get(chip.removeprefix("nvidia,"))
        if known:
            return (Gpu("nvidia", known[1], known[0], integrated=True),)
    return ()


def _ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)

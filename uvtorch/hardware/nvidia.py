"""NVIDIA: NVML, else the kernel module's files; and what keeps a GPU from being used (see `machine.Problem`)."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Literal, NamedTuple

from uvtorch.hardware.scene import Device, Scene, Tell, plain, run, time_limit
from uvtorch.machine import Driver, Gpu, Outcome, Problem

DRIVER_NOT_LOADED, VERSION_MISMATCH = 9, 18  # of nvmlReturn_t, in nvml.h
LIBRARY = "libnvidia-ml.so.1"
FOLDERS = (
    *("/usr/lib/wsl/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"),
    *("/usr/lib/aarch64-linux-gnu/nvidia", "/run/opengl-driver/lib"),  # Jetson, NixOS
    "/usr/local/nvidia/lib64",  # Google's container-optimized OS mounts it here, not always in the loader's cache
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
IF_IT_HANGS = (
    "Try `nvidia-smi`: if it is slow, turn on persistence mode (nvidia-persistenced) or set UVTORCH_PROBE_TIMEOUT=60; "
    "if it hangs, look for Xid messages in `sudo dmesg` and restart the machine."
)
WINDOWS_REMEDIES = {
    ("windows", False): "Restart Windows; if that does not help, reinstall NVIDIA's driver.",
    ("linux", True): "Update NVIDIA's driver on Windows, run `wsl --update` and `wsl --shutdown` there, and try again.",
}
"""(system, whether it is WSL) -> remedy."""
ERRORS = {
    4: (
        "no permission to use the GPU's device files",
        "Check the rights of /dev/nvidia*; where a group owns them (video, render), join it and log in again.",
    ),
    DRIVER_NOT_LOADED: (
        "the driver is installed, but its kernel module is not loaded",
        "Load it with `sudo modprobe nvidia`; after a kernel update, run `sudo dkms autoinstall` and restart.",
    ),
    15: (
        "a GPU is lost: it has fallen off the bus",
        "Look for Xid 79 in `sudo dmesg`, then restart the machine.",
    ),
    17: (
        "the operating system blocks the GPU",
        "In a container, check the devices and the cgroup it was given; else see `sudo dmesg`.",
    ),
    VERSION_MISMATCH: (
        "the driver's library and its kernel module are of different versions",
        "Restart the machine (the driver was updated while its old module stayed loaded).",
    ),
}
"""Code -> (reason, remedy)."""


class Signs(NamedTuple):
    """What files tell without asking the driver."""

    devices: Sequence[Device]  # GPUs on the bus
    nodes: bool  # There are device files
    library: str | None  # NVML's, as `find_library` has it
    module: str | None = None  # The version of the loaded kernel module


class Report(NamedTuple):
    """What NVML told. `absent`: there is none, or none that can be loaded, which says nothing of the driver."""

    end: Literal["answered", "absent", "failed", "hung"]
    failure: str = ""  # Why there is no complete answer, in words
    code: int | None = None  # The error that ended it, an `nvmlReturn_t`
    driver: str | None = None
    cuda: str | None = None  # The newest CUDA the driver supports, `12.8`
    gpus: Sequence[Gpu] = ()  # Those that CUDA uses, in bus order: whole ones, or the slices of one in MIG mode
    parents: Sequence[str | None] = ()  # For each, the UUID of the GPU that a slice belongs to, if it is one
    unsliced: Sequence[int] = ()  # Indexes of GPUs in MIG mode without a slice
    lost: Sequence[tuple[int, int, str]] = ()  # (index, error code, what it says) of GPUs that do not answer


def probe(scene: Scene, devices: Sequence[Device]) -> None:
    """NVIDIA's GPUs and driver."""
    signs = _look(scene, devices)
    report = _ask(scene, signs)
    version = version_in(report.driver, signs.module)
    driver = Driver(version, report.cuda) if version else None
    gpus = _gpus_of_files(scene, signs, driver) if report.end == "absent" else report.gpus
    states = (*_out_of_reach(scene, signs, report), (gpus, None, "", ""), *_broken(scene, signs, report))
    _, kind, reason, remedy = next(filter(itemgetter(0), states), (True, None, "", ""))
    if kind == BROKEN:
        reason, remedy = f"NVIDIA: {reason}", WINDOWS_REMEDIES.get((scene.platform.system, scene.platform.wsl), remedy)
    elif kind:
        gpus, driver = [], None if report.failure else driver  # one that cannot be reached decides nothing
    if kind:
        scene.problems.append(Problem("nvidia", kind, reason, remedy))
    scene.driver = driver
    _tell(scene, report, "failed" if kind == BROKEN else "absent")
    alike = len({(gpu.name, gpu.compute_capability) for gpu in gpus}) == 1
    ordered = alike or scene.env.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    scene.gpus += scene.visible("CUDA_VISIBLE_DEVICES", gpus, ordered=ordered, parents=report.parents)


def _tell(scene: Scene, report: Report, failed: Outcome) -> None:
    if report.failure:
        scene.probe("nvml", failed, plain(report.failure) + _bracketed("error", report.code))
    else:
        scene.probe("nvml", "ok", f"driver {report.driver}, {len(report.gpus)} GPU{'s' * (len(report.gpus) != 1)}")
    for number, code, said in report.lost:
        scene.notes.append(f"NVIDIA GPU {number} does not answer: {_error(code, said)[0]}.")
    for number in report.unsliced:
        scene.notes.append(f"NVIDIA GPU {number} is in MIG mode without an instance: CUDA skips it.")


def _bracketed(*words: object) -> str:
    """` (error 9)`; empty where a word is missing."""
    return f" ({' '.join(map(str, words))})" if all(words) else ""


def _look(scene: Scene, devices: Sequence[Device]) -> Signs:
    if scene.platform.system == "windows":
        return Signs(devices, bool(devices), "nvml.dll" if devices else None)
    pattern = re.compile("nvidiactl|nvhost-gpu|nvhost-ctrl-gpu|nvgpu|nvidia[0-9]+|dxg")  # dxg: WSL's
    nodes = any(map(pattern.fullmatch, scene.names("/dev")))
    files = "/proc/driver/nvidia/version", "/sys/module/nvidia/version"
    return Signs(devices, nodes, find_library(scene), version_in(*map(scene.read, files)))


def version_in(*texts: str | None) -> str | None:
    """The first driver's version in texts such as the kernel module's banner: `... Module for x86_64  570.124.06 ...`.

    Not L4T's release (35.3.1), which Jetsons before JetPack 6 tell there: no driver's version is comparable with it.
    """
    found = re.search(r"(?<![\w.])[1-9][0-9]{2,4}(\.[0-9]{1,5}){1,3}(?![\w.])", " ".join(filter(None, texts)))
    return found and found[0]


def find_library(scene: Scene) -> str | None:
    """Where NVML's library is; its bare name where only the loader's cache knows it."""
    # Asking the loader itself would cost the import of ctypes, more than all other probes together.
    folders = [path for path in scene.env.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    paths = (f"{folder}/{LIBRARY}" for folder in (*folders, *FOLDERS))
    cached = LIBRARY if LIBRARY in scene.read("/etc/ld.so.cache", 4 * 2**20) else None
    return next(filter(scene.exists, paths), cached)


def _ask(scene: Scene, signs: Signs) -> Report:
    if signs.library is None:
        return Report("absent", f"{LIBRARY} not found")
    platform = scene.platform
    windows = platform.system == "windows"
    # Windows, WSL and Jetsons have no file that tells of a loaded module.
    alive = signs.nodes and any((signs.module, windows, platform.wsl, platform.tegra))
    seconds = time_limit(scene.env, alive=alive)
    return ask(None if windows else scene.at(signs.library), scene.env, seconds, scene.tell)


AWAY, BROKEN = "unreachable", "broken"
State = tuple[object, str | None, str, str]
"""(condition, kind of problem, reason, remedy). The first whose condition holds says how things are."""


def _out_of_reach(scene: Scene, signs: Signs, report: Report) -> tuple[State, ...]:
    """Where nothing here could drive a GPU."""
    if signs.nodes or report.end in ("answered", "hung"):
        return ()
    away = signs.library is None or scene.platform.container
    partly = signs.module or scene.platform.tegra
    drivers = ", ".join(sorted(filter(None, {device.driver for device in signs.devices})))
    on_bus = f"an NVIDIA GPU{_bracketed(signs.devices[0].id) if signs.devices else ''} is on the bus, but"
    not_given = "this container has no NVIDIA device files" + _bracketed("the host's driver is", signs.module)
    not_installed = f"NVIDIA's driver is {'only partly' if partly else 'not'} installed"
    return (
        (away and not (signs.devices or partly), None, "", ""),
        (scene.platform.container, AWAY, f"{on_bus} {not_given}", GIVE_CONTAINER),
        (drivers == "vfio-pci", AWAY, f"{on_bus} it is handed to virtual machines (vfio-pci)", ""),
        (away, AWAY, f"{on_bus} {not_installed}" + _bracketed(drivers, "has it"), "Install NVIDIA's driver to use it."),
    )


def _broken(scene: Scene, signs: Signs, report: Report) -> tuple[State, ...]:
    """Where the driver does not do its work, or was given no GPU."""
    code = report.code
    reason, remedy = _error(code, report.failure)
    loaded = f"the driver {signs.module} is loaded, but its library cannot reach it"
    check = "Check that /dev/nvidiactl exists (`sudo nvidia-modprobe -c 0 -u`), else restart the machine."
    known = any((signs.devices, scene.platform.tegra, scene.platform.wsl and signs.library))
    lost: list[State] = [(True, BROKEN, *_error(code, said)) for _, code, said in report.lost]
    mig = "Create instances (`sudo nvidia-smi mig -cgi ... -C`) or turn MIG mode off (`sudo nvidia-smi -mig 0`)."
    given_none = "NVIDIA's driver is here, but this container was given no GPU"
    unseen = ", ".join(device.id for device in signs.devices if device.driver == "nvidia")
    nvrm = "Look for NVRM messages in `sudo dmesg`: the driver may be too old for this GPU."
    return (
        (report.end == "hung", BROKEN, f"the driver does not answer ({report.failure})", IF_IT_HANGS),
        (code == DRIVER_NOT_LOADED and signs.module, BROKEN, loaded, check),
        # The driver's packages on a machine without a GPU, as cloud images have them.
        (code == DRIVER_NOT_LOADED and not known, None, "", ""),
        (code == VERSION_MISMATCH, BROKEN, reason + _versions(scene, signs), remedy),
        (report.end == "failed", BROKEN, reason, remedy),
        (
            report.end == "absent",
            BROKEN if known else None,
            f"NVML cannot be asked ({plain(report.failure)})",
            "Reinstall NVIDIA's driver.",
        ),
        # It answered, and has no GPU that can be used.
        *lost,
        (report.unsliced, BROKEN, "every GPU is in MIG mode and none has an instance, so CUDA sees no device", mig),
        (scene.platform.container, AWAY, given_none, GIVE_CONTAINER),
        (unseen, BROKEN, f"the driver does not see the GPU ({unseen}) that is on the bus", nvrm),
    )


def _error(code: int | None, said: str) -> tuple[str, str]:
    restart = "Look for NVRM messages in `sudo dmesg`, then restart the container or the machine."
    return ERRORS.get(code or 0, (f"asking the driver failed: {plain(said)}", restart))


def _versions(scene: Scene, signs: Signs) -> str:
    library = os.path.basename(os.path.realpath(scene.at(signs.library or ""))).removeprefix("libnvidia-ml.so.")
    versions = {"kernel module": signs.module, "library": version_in(library)}
    return _bracketed(", ".join(f"{name} {version}" for name, version in versions.items() if version))


def _gpus_of_files(scene: Scene, signs: Signs, driver: Driver | None) -> list[Gpu]:
    """Without NVML: a Jetson's, else as many as a driver must have."""
    for chip, (capability, name) in TEGRA_CHIPS.items():
        if scene.platform.tegra and f"nvidia,{chip}" in scene.read("/proc/device-tree/compatible"):
            return [Gpu("nvidia", name, capability, integrated=True)]
    return [Gpu("nvidia", "NVIDIA GPU")] * (max(len(signs.devices), signs.nodes) if driver else 0)


def ask(library: str | None, env: Mapping[str, str], seconds: float, tell: Tell | None = None) -> Report:
    """Ask NVML, for at most `seconds`; `tell` is told when it takes long.

    `library` is a path, or a name for the system's loader; None: pynvml finds its own. A program asks (`ask_nvml.py`),
    as a GPU that fell off the bus hangs whoever does, and a thread that sleeps in a driver holds up exec and exit.
    """
    program = os.path.join(os.path.dirname(__file__), "ask_nvml.py")
    # It finds pynvml where this process does. -P: its own folder is not for imports.
    here = {**env, "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}
    argv = (sys.executable, "-P", program, str(int(seconds) + 1), *filter(None, (library,)))
    result = run(argv, here, seconds, whom="NVIDIA's driver", tell=tell)
    report = parse(result.output)
    if result.hung:
        return report._replace(failure=f"no answer within {seconds:g} s", end="hung")
    if report.end == "answered" or report.code:
        return report
    if result.code and result.code < 0:
        return report._replace(failure=f"the library crashed (signal {-result.code})", end="failed")
    return report._replace(failure=f"its program {result.failure or 'failed'}: {plain(result.output[-300:])}")


def parse(text: str) -> Report:
    """Read what the program printed. Never raises: what is missing makes a `failure`."""
    import json  # noqa: PLC0415  a machine without NVIDIA's driver needs none

    report = Report("absent", "it ended in the middle")
    for line in text.splitlines():
        try:
            row = json.loads(line)
            if "gpus" in row:
                row["parents"] = [gpu.pop("parent") for gpu in row["gpus"]]
                row["gpus"] = [Gpu("nvidia", plain(gpu.pop("name")), **gpu) for gpu in row["gpus"]]
            report = report._replace(**row)
        except (ValueError, TypeError, LookupError, RecursionError):
            continue  # a message of Python's or the library's
    return report

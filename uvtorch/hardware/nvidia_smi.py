"""nvidia-smi, which is asked where NVML cannot be."""

import re
from collections.abc import Mapping

from uvtorch.hardware import programs, sysfs
from uvtorch.hardware.scene import Scene, count
from uvtorch.machine import Driver, Gpu

FOLDERS = "/usr/bin /usr/lib/wsl/lib /usr/local/nvidia/bin /usr/local/bin /opt/bin /usr/sbin /run/current-system/sw/bin"
PROGRAMS = [f"{folder}/nvidia-smi" for folder in FOLDERS.split()]
QUERY = "--query-gpu=driver_version,compute_cap,name"


def ask(scene: Scene, *, alive: bool) -> tuple[list[Gpu], str]:
    """(GPUs, why it fails) as the program tells them; it tells the driver too. `alive`: the kernel module is loaded."""
    places = windows_programs(scene.env) if scene.platform.system == "windows" else PROGRAMS
    seconds, form = programs.limit(scene.env, alive=alive), "--format=csv,noheader"
    result = scene.ask("nvidia-smi", places, (QUERY, form), seconds, scene.env)
    capability = result is None or not (result.code and "compute_cap" in result.output)
    if not capability:  # before driver 510 it does not know the compute capability
        result = scene.ask("nvidia-smi", places, (QUERY.replace("compute_cap,", ""), form), seconds, scene.env)
    if result is None:
        return [], ""
    gpus, driver = parse_query(result.output, capability=capability) if result.code == 0 else ([], None)
    if gpus:
        scene.driver = driver
        scene.probe("nvidia-smi", "ok", count(gpus))
        return gpus, ""
    said = sysfs.first_line(result.output) or "it reported no GPU"
    if "no devices were found" in result.output.lower():
        scene.probe("nvidia-smi", "absent", said)
        return [], ""
    scene.probe("nvidia-smi", "failed", result.fault or said)
    return [], result.fault


def parse_query(text: str, *, capability: bool = True) -> tuple[list[Gpu], Driver | None]:
    """Read `nvidia-smi --query-gpu=driver_version,compute_cap,name --format=csv,noheader`: one line a GPU.

    Lines that are not of this form (warnings, `ERR!`) are passed over; a capability that is not told is None.
    """
    width = 3 if capability else 2
    gpus, driver = [], None
    for line in text.splitlines():
        row = [field.strip() for field in line.split(",", width - 1)]
        if len(row) == width and is_version(row[0]):
            driver = driver or Driver(row[0])
            known = capability and re.fullmatch(r"[0-9]+\.[0-9]+", row[1])
            name = sysfs.plain(row[-1])
            gpus.append(Gpu("nvidia", name if name[:1] not in ("", "[") else "NVIDIA GPU", row[1] if known else None))
    return gpus, driver


def windows_programs(env: Mapping[str, str]) -> list[str]:
    """Where NVIDIA's driver puts nvidia-smi on Windows, newest place first. Never the current folder, nor PATH."""
    windows = env.get("SystemRoot") or r"C:\Windows"
    folder = env.get("ProgramFiles") or r"C:\Program Files"
    return [rf"{windows}\System32\nvidia-smi.exe", rf"{folder}\NVIDIA Corporation\NVSMI\nvidia-smi.exe"]


def is_version(text: str) -> bool:
    """Whether it is a driver's version: two to four numbers, `570.124.06`."""
    return re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}", text) is not None

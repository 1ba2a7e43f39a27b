"""nvidia-smi, which is asked where NVML cannot be."""

import re
from collections.abc import Mapping

from uvtorch.hardware import programs, sysfs
from uvtorch.hardware.scene import Scene
from uvtorch.machine import Driver, Gpu

FOLDERS = "/usr/bin /usr/lib/wsl/lib /usr/local/nvidia/bin /usr/local/bin /opt/bin /usr/sbin /run/current-system/sw/bin"
FIELDS = ("driver_version,compute_cap,name", "driver_version,name")  # before driver 510 it has no compute_cap
VERSION = r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,3}"
_ROW = re.compile(rf"\s*({VERSION}),(?:\s*(?:([0-9]+\.[0-9]+)|\[[^],]*\]),)?\s*([0-9. ]*[^\s0-9.].*)")


def ask(scene: Scene, *, alive: bool) -> tuple[list[Gpu], str]:
    """(GPUs, why it fails) as the program tells them; it tells the driver too. `alive`: the kernel module is loaded."""

    def parse(text: str) -> list[Gpu]:
        gpus, scene.driver = parse_query(text)
        return gpus

    windows = scene.platform.system == "windows"
    places = windows_programs(scene.env) if windows else [f"{folder}/nvidia-smi" for folder in FOLDERS.split()]
    questions = [(f"--query-gpu={fields}", "--format=csv,noheader") for fields in FIELDS]
    return scene.ask("nvidia-smi", places, parse, programs.limit(scene.env, alive=alive), questions)


def parse_query(text: str) -> tuple[list[Gpu], Driver | None]:
    """Read `nvidia-smi --query-gpu=driver_version,compute_cap,name --format=csv,noheader`: one line a GPU.

    Lines that are not of this form (warnings, `ERR!`) are passed over; a capability that is not told is None.
    """
    rows = [match.groups("") for match in map(_ROW.fullmatch, text.splitlines()) if match]
    gpus = [
        Gpu("nvidia", (not name.startswith("[") and sysfs.plain(name)) or "NVIDIA GPU", capability or None)
        for _, capability, name in rows
    ]
    return gpus, Driver(rows[0][0]) if rows else None


def windows_programs(env: Mapping[str, str]) -> list[str]:
    """Where NVIDIA's driver puts nvidia-smi on Windows, newest place first. Never the current folder, nor PATH."""
    windows, folder = env.get("SystemRoot") or r"C:\Windows", env.get("ProgramFiles") or r"C:\Program Files"
    return [rf"{windows}\System32\nvidia-smi.exe", rf"{folder}\NVIDIA Corporation\NVSMI\nvidia-smi.exe"]


def is_version(text: str | None) -> bool:
    """Whether it is a driver's version: two to four numbers, `570.124.06`."""
    return re.fullmatch(VERSION, text or "") is not None

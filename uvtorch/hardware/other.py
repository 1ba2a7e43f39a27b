"""Macs, from sysctl; and Windows' display adapters, from the registry. Neither was tried on a real machine yet."""

import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from uvtorch.hardware import sysfs
from uvtorch.hardware.scene import Scene
from uvtorch.machine import Gpu

ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


class Mac(NamedTuple):
    """What sysctl tells of a Mac."""

    chip: str | None = None  # The processor, `Apple M3`
    translated: bool = False  # This process runs under Rosetta
    os_version: str | None = None
    """`13.6`. Not `platform.mac_ver()`, which gives 10.16 to interpreters built for older systems."""


def mac() -> Mac:
    """What this Mac tells; nothing off macOS."""
    if sys.platform != "darwin":
        return Mac()
    import ctypes  # noqa: PLC0415  Macs only

    libc = ctypes.CDLL(None)

    def sysctl(name: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = ctypes.c_size_t(256)
        failed = libc.sysctlbyname(name, buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
        return b"" if failed else buffer.raw[: size.value]

    chip, version = (
        sysctl(name).partition(b"\0")[0].decode("utf-8", "replace")
        for name in (b"machdep.cpu.brand_string", b"kern.osproductversion")
    )
    known = re.fullmatch(r"[0-9]+(\.[0-9]+)*", version)
    return Mac(chip or None, sysctl(b"sysctl.proc_translated")[:1] == b"\1", version if known else None)


def probe_mac(scene: Scene, facts: Mac) -> None:
    """The GPU of a Mac, and what the wheels for the interpreter's processor lack."""
    name = sysfs.plain(facts.chip or "") or "Apple GPU"
    if scene.platform.machine == "arm64":
        scene.gpus.append(Gpu("apple", name, integrated=True))
        scene.probe("apple", "ok", name)
    elif facts.translated:
        scene.notes.append(
            f"This Python is built for x86_64 and runs under Rosetta on {facts.chip or 'Apple silicon'}; PyTorch's "
            "wheels for x86_64 end at 2.2.2 and do not support MPS. An arm64 Python gets current ones."
        )
        scene.probe("apple", "ok", "Apple silicon under Rosetta")
    else:
        scene.notes.append("PyTorch's wheels for Intel Macs end at 2.2.2.")
        scene.probe("apple", "absent", "an Intel Mac")


Adapter = tuple[sysfs.Device, str, int | None]
"""A display adapter as its driver registered it, with its name and its memory in MiB."""


def adapters() -> list[Adapter]:
    """The display adapters of NVIDIA, AMD and Intel; none off Windows."""
    rows: list[Mapping[str, object]] = []
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415  Windows only

        with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, ADAPTERS) as parent:
            for number in range(winreg.QueryInfoKey(parent)[0]):
                # Keys such as Properties are the system's own.
                with suppress(OSError), winreg.OpenKey(parent, winreg.EnumKey(parent, number)) as key:
                    values = [winreg.EnumValue(key, place) for place in range(winreg.QueryInfoKey(key)[1])]
                    rows.append({name: value for name, value, _ in values})
    return parse_adapters(rows)


def parse_adapters(rows: Iterable[Mapping[str, object]]) -> list[Adapter]:
    r"""Read the values of the registry's adapter keys: `MatchingDeviceId`, `DriverDesc`, the memory's size.

    The first is like `pci\ven_10de&dev_2684&subsys_...`; vendors that are not ours are passed over.
    """
    found = []
    for row in rows:
        ids = re.search("ven_(10de|1002|8086)&dev_([0-9a-f]{4})", str(row.get("MatchingDeviceId", "")).lower())
        size = row.get("HardwareInformation.qwMemorySize")
        memory = size // 2**20 if isinstance(size, int) and size > 0 else None
        if ids:
            name = sysfs.plain(str(row.get("DriverDesc", ""))) or "GPU"
            found.append((sysfs.Device(ids[1], ids[2], "windows"), name, memory))
    return found

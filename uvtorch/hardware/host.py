"""What the running interpreter knows of its machine without reading files below a root."""

import os
import re
import sys
from typing import NamedTuple

from uvtorch.hardware import programs
from uvtorch.machine import processor


class Host(NamedTuple):
    """A system, as an interpreter on it sees it."""

    system: str  # `linux`, `windows`, `macos`, or Python's name for another one
    machine: str  # As the interpreter was built: `x86_64` for an x86_64 Python on an ARM machine
    release: str = ""  # The kernel's release: `6.6.87.2-microsoft-standard-WSL2`
    libc: str | None = None  # `glibc 2.36`; None for another one
    chip: str = ""  # A Mac's processor, `Apple M3`; `VirtualApple @ 2.50GHz` is what Rosetta tells
    os_version: str | None = None
    """A Mac's, `13.6`. Not `platform.mac_ver()`, which gives 10.16 to interpreters built for older systems."""


def this_host() -> Host:
    """The host this interpreter runs on."""
    if sys.platform == "win32":
        return Host("windows", "arm64" if "(arm64)" in sys.version.lower() else "x86_64")
    uname = os.uname()
    if sys.platform == "darwin":
        chip, version = map(_sysctl, ("machdep.cpu.brand_string", "kern.osproductversion"))
        known = re.fullmatch(r"[0-9]+(\.[0-9]+)*", version)
        return Host("macos", processor("macos", uname.machine), uname.release, None, chip, version if known else None)
    system = "linux" if sys.platform.startswith("linux") else sys.platform.rstrip("0123456789")
    machine = processor(system, uname.machine)
    if sys.maxsize < 2**32:
        # A 32-bit Python under a 64-bit kernel installs 32-bit wheels, of which PyTorch has none.
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    return Host(system, machine, uname.release, _libc())


def _sysctl(name: str) -> str:
    return programs.plain(programs.run(("/usr/sbin/sysctl", "-n", name), {}, programs.SHORT_S).output)


def _libc() -> str | None:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return None
    return version if version.startswith("glibc ") else None

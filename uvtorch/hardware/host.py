"""The platform: system, machine, libc, WSL, container, Jetson."""

import os
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple

from uvtorch.hardware import other, sysfs
from uvtorch.machine import Platform, processor

CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
"""The kubelet sets the first in every pod; `container` is systemd's convention, which podman and LXC follow."""
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv", "/.singularity.d")
CONTAINER_GROUPS = ("/docker", "/kubepods", "/lxc", "/libpod", "/containerd", "/machine.slice/")


class Host(NamedTuple):
    """What the running interpreter knows without reading a file."""

    system: str  # `linux`, `windows`, `macos`, or Python's name for another one
    machine: str  # As the interpreter was built: `x86_64` for an x86_64 Python on an ARM machine
    release: str = ""  # The kernel's release: `6.6.87.2-microsoft-standard-WSL2`
    libc: str | None = None
    mac: other.Mac = other.Mac()


def this_host() -> Host:
    """The host this interpreter runs on."""
    if sys.platform == "win32":
        return Host("windows", "arm64" if "(arm64)" in sys.version.lower() else "x86_64")
    uname = os.uname()
    if sys.platform == "darwin":
        return Host("macos", processor("macos", uname.machine), uname.release, mac=other.mac())
    system = "linux" if sys.platform.startswith("linux") else sys.platform.rstrip("0123456789")
    machine = processor(system, uname.machine)
    if sys.maxsize < 2**32:
        # A 32-bit Python under a 64-bit kernel installs 32-bit wheels, of which PyTorch has none.
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    return Host(system, machine, uname.release, libc())


def libc() -> str | None:
    """The process's C library, `glibc 2.36`; `musl` where the system's loader is that; None if it is neither."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        version = ""
    if version.startswith("glibc "):
        return version
    return "musl" if any(name.startswith("ld-musl-") for name in sysfs.names("/", "/lib")) else None


def platform(host: Host, env: Mapping[str, str], root: str) -> Platform:
    """The platform of `host`, with what the files under `root` and the environment tell about it."""
    if host.system != "linux":
        return Platform(host.system, host.machine, host.libc, os_version=host.mac.os_version)
    wsl = "microsoft" in host.release.lower()
    return Platform("linux", host.machine, host.libc, wsl, _is_container(env, root), _tegra(host, root))


def _is_container(env: Mapping[str, str], root: str) -> bool:
    groups = sysfs.read(root, "/proc/1/cgroup", 8192)
    told = any(map(env.get, CONTAINER_VARIABLES)) or any(word in groups for word in CONTAINER_GROUPS)
    return told or any(sysfs.exists(root, path) for path in CONTAINER_FILES)


def _tegra(host: Host, root: str) -> str | None:
    """A Jetson's release; None elsewhere."""
    release = sysfs.read(root, "/etc/nv_tegra_release", 4096)
    if host.machine == "aarch64" and (release or "tegra" in host.release.lower()):
        return parse_tegra_release(release)
    return None


def parse_tegra_release(text: str) -> str:
    """`R36.4.3` from /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, GCID: ..., BOARD: ...`."""
    major = re.search(r"\bR[0-9]{1,6}\b", text)
    minor = re.search(r"REVISION:\s*([0-9][0-9.]{,20})", text)
    return (f"{major[0]}.{minor[1]}" if minor else major[0]) if major else "unknown release"

"""The platform: system, machine, libc, WSL, container, Jetson."""

import os
import sys
from collections.abc import Mapping

from uvtorch.hardware import files
from uvtorch.machine import Platform
from uvtorch.named import NamedTuple


class Host(NamedTuple):
    """What the running interpreter knows without reading a file."""

    system: str
    """`linux`, `windows`, `macos`, or Python's name for another one."""
    machine: str
    """As the interpreter was built: `x86_64` for an x86_64 Python on an ARM machine."""
    release: str = ""
    """The kernel's release: `6.6.87.2-microsoft-standard-WSL2`."""
    libc: str | None = None
    chip: str | None = None
    """macOS: the processor, `Apple M3`."""
    translated: bool = False
    """macOS: the interpreter runs under Rosetta."""


def this_host() -> Host:
    """The host this interpreter runs on."""
    if sys.platform == "win32":
        return Host("windows", machine_name("windows", "arm64" if "(arm64)" in sys.version.lower() else "amd64"))
    uname = os.uname()
    if sys.platform == "darwin":
        from uvtorch.hardware import apple

        chip, translated = apple.processor()
        return Host("macos", machine_name("macos", uname.machine), uname.release, None, chip, translated)
    system = "linux" if sys.platform.startswith("linux") else sys.platform.rstrip("0123456789")
    machine = machine_name(system, uname.machine)
    if sys.maxsize < 2**32:
        # A 32-bit Python under a 64-bit kernel installs 32-bit wheels, of which PyTorch has none.
        machine = {"x86_64": "i686", "aarch64": "armv7l"}.get(machine, machine)
    return Host(system, machine, uname.release, libc())


def machine_name(system: str, machine: str) -> str:
    """The contract's name: `x86_64`, or `aarch64` on Linux and `arm64` elsewhere; others as they are."""
    machine = machine.lower()
    if machine in ("amd64", "x64", "x86_64"):
        return "x86_64"
    if machine in ("aarch64", "arm64"):
        return "aarch64" if system == "linux" else "arm64"
    return machine


def libc() -> str | None:
    """The process's C library, `glibc 2.36`; `musl` and its version where it is that; None if it is neither."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        version = None
    if version and version.startswith("glibc "):
        return version
    return musl("/")


def musl(root: str) -> str | None:
    """`musl 1.2.4` if the system's loader is musl's; `musl` if it does not tell its version."""
    loaders = [name for name in files.names(root, "/lib") if name.startswith("ld-musl-") and name.endswith(".so.1")]
    if not loaders:
        return None
    from uvtorch.hardware import programs

    return parse_musl(programs.run((files.at(root, f"/lib/{loaders[0]}"),), {}, 1.0).output)


def parse_musl(text: str) -> str:
    """`musl 1.2.4` from what musl's loader prints when it is started without arguments."""
    for line in text.splitlines():
        word, _, version = line.strip().partition(" ")
        if word == "Version" and version[:1].isdigit():
            return f"musl {files.plain(version, 40).split()[0]}"
    return "musl"


def platform(host: Host, env: Mapping[str, str], root: str) -> Platform:
    """The platform of `host`, with what the files under `root` and the environment tell about it."""
    linux = host.system == "linux"
    return Platform(
        host.system,
        host.machine,
        host.libc,
        wsl=linux and "microsoft" in host.release.lower(),
        container=linux and _in_container(env, root),
        tegra=_tegra(host, root) if linux and host.machine == "aarch64" else None,
    )


def _in_container(env: Mapping[str, str], root: str) -> bool:
    # The kubelet sets the first in every pod; `container` is systemd's convention, which podman and LXC follow.
    names = ("KUBERNETES_SERVICE_HOST", "container", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
    if any(env.get(name) for name in names):
        return True
    if any(files.exists(root, path) for path in ("/.dockerenv", "/run/.containerenv", "/.singularity.d")):
        return True
    groups = files.read(root, "/proc/1/cgroup", 8192) or ""
    return any(word in groups for word in ("/docker", "/kubepods", "/lxc", "/libpod", "/containerd", "/machine.slice/"))


def _tegra(host: Host, root: str) -> str | None:
    release = files.read(root, "/etc/nv_tegra_release", 4096)
    if release is not None:
        return parse_tegra_release(release)
    return "unknown release" if "tegra" in host.release.lower() else None


def parse_tegra_release(text: str) -> str:
    """`R36.4.3` from /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, GCID: ..., BOARD: ...`."""
    words = text.replace(",", " ").split()
    major = next((word for word in words if word[:1] == "R" and word[1:].isdigit()), None)
    if major is None:
        return "unknown release"
    minor = words[words.index("REVISION:") + 1] if "REVISION:" in words[:-1] else ""
    return files.plain(f"{major}.{minor}" if minor[:1].isdigit() else major, 40)

"""What detection depends on, so that a cached choice can be used again without asking a driver.

On the warm path of `--auto`: a few small files are read, and only built-in modules imported.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

VARIABLES = (
    "UVTORCH_HARDWARE", "UVTORCH_PROBE_TIMEOUT", "UV_CUDA_DRIVER_VERSION", "UV_AMD_GPU_ARCHITECTURE",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION", "LD_LIBRARY_PATH",
    "KUBERNETES_SERVICE_HOST", "container",
)  # fmt: skip
"""What detection reads from the environment."""

_MODULE = ("/sys/module/nvidia/version", "/proc/driver/nvidia/version")
_FILES = ("/proc/sys/kernel/random/boot_id", "/proc/device-tree/compatible", "/proc/1/cgroup")
_STATES = ("/etc/ld.so.cache", "/etc/nv_tegra_release", "/.dockerenv", "/run/.containerenv", "/.singularity.d", "/lib")


def fingerprint(env: "Mapping[str, str]", *, root: str = "/") -> str:
    """The same text as long as `hardware.detect(env)` would tell the same machine. It holds values of variables.

    Empty where files cannot tell, and nothing may be cached: on Windows, macOS and WSL, where a driver's version is
    in none, and where the machine is described on standard input.
    """
    described = env.get("UVTORCH_HARDWARE", "")
    if sys.platform != "linux" or described in ("-", "/dev/stdin"):
        return ""
    facts = [state(described)] if described else list(_machine(root.rstrip("/")))
    return "\0".join((*facts, *(f"{name}={env[name]}" for name in VARIABLES if name in env))) if facts else ""


def _machine(base: str) -> "Iterator[str]":
    """Nothing where no file tells the driver's version."""
    kernel = os.uname()
    devices = [name for name in _names(f"{base}/dev") if name.startswith(("nvidia", "nvhost", "nvgpu", "kfd", "dxg"))]
    versions = [_try(_read, base + path) for path in _MODULE]
    if "microsoft" in kernel.release.lower() or (any("nv" in name for name in devices) and not any(versions)):
        return
    yield from (kernel.release, kernel.machine, str(os.geteuid()), *devices, *versions)
    yield _try(os.confstr, "CS_GNU_LIBC_VERSION")
    yield from (_try(_read, base + path) for path in _FILES)
    yield from (state(base + path) for path in _STATES)  # musl's loader is in /lib
    yield from (*_names(f"{base}/dev/dri"), str(os.access(f"{base}/dev/kfd", os.R_OK | os.W_OK)))
    yield from _pci(base)
    topology, capabilities = f"{base}/sys/class/kfd/kfd/topology/nodes", f"{base}/proc/driver/nvidia/capabilities"
    yield from (_try(_read, f"{topology}/{node}/properties") for node in _names(topology))
    yield from (" ".join(_names(f"{capabilities}/{gpu}/mig")) for gpu in _names(capabilities))


def _pci(base: str) -> "Iterator[str]":
    rows = _try(_read, f"{base}/proc/bus/pci/devices").splitlines()  # one read: servers have hundreds of devices
    for fields in map(str.split, rows):
        if len(fields) > 1 and fields[1].startswith(("10de", "1002", "8086")):
            yield " ".join((*fields[:2], fields[-1]))
    pci = f"{base}/sys/bus/pci/devices"
    for address in _names(pci) if not rows else ():
        yield _try(_read, f"{pci}/{address}/modalias") + _try(os.readlink, f"{pci}/{address}/driver")


def _try(call: "Callable[[str], Any]", name: str) -> "Any":
    """What the call gives; empty where it gives nothing or fails."""
    try:
        return call(name) or ""
    except (OSError, ValueError):
        return ""


def _names(path: str) -> list[str]:
    return sorted(_try(os.listdir, path))


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(2**20).decode("utf-8", "replace")


def state(path: str) -> str:
    """The time, size and inode of a file; empty where there is none."""
    status = _try(os.stat, path)
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}" if status else ""

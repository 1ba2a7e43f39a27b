"""What `--auto` came to the last time, kept in `.venv`: reading TOML costs more than starting Python.

The inputs are compared by a hash: files by time, size and inode, options, variables, and a fingerprint of the hardware.
No variable's value is written: `.venv` ends in image layers. Imports little.
"""

import os
import sys

from uvtorch import __version__, files
from uvtorch.argv import CommandLine
from uvtorch.errors import ProjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from uvtorch.session import Session


def recall(line: CommandLine, env: "Mapping[str, str]") -> "tuple[tuple[str, ...], tuple[str, ...]] | None":
    """(options to add, lines to say) for a command that was worked out before, if nothing has changed since."""
    found = _record(line, env)
    if found is None or os.path.islink(found[0]):
        return None
    try:
        digest, *rows, end = files.read(found[0], 65536).decode().split("\n")
    except (OSError, ValueError):
        return None
    if digest != found[1] or end != "end":
        return None
    options, said = [], []
    for row in rows:
        kind, _, text = row.partition(" ")
        if kind == "say":
            said.append(text)
        elif kind in ("--extra", "--group", "--no-group") and text and text[0].isalnum():
            options += [kind, text]
        else:
            return None
    return tuple(options), tuple(said)


def remember(session: "Session", options: "Sequence[str]", said: "Sequence[str]", warned: "Sequence[str]") -> None:
    """Write the record by which `recall` finds this result again, if that is possible."""
    if session.dry or session.line.has("--dry-run") or session.is_script or session.catalog_directory:
        return
    found = _record(session.line, session.env)
    if found is None:
        return
    pairs = map(" ".join, zip(options[::2], options[1::2], strict=True))
    rows = [found[1], *pairs, *(f"say uvtorch: {text}" for text in said), *(f"say warning: {text}" for text in warned)]
    text = "\n".join([*rows, "end"])
    if text.splitlines() != [*rows, "end"]:  # a name with a line break in it
        return
    temporary = f"{found[0]}-{os.urandom(6).hex()}"
    try:
        files.create(temporary, text.encode("utf-8", "surrogateescape"))
        os.replace(temporary, found[0])
    except OSError:
        pass


def _directory(line: CommandLine, env: "Mapping[str, str]") -> str | None:
    """The project's, where it stands alone and decides, and not a workspace or a script."""
    if line.has("--script", "--package", "--all-packages", "--dry-run") or "UV_PROJECT_ENVIRONMENT" in env:
        return None
    try:
        script = files.script_of_run(line, env)
        project = files.find_project(files.project_directory(line, env))
    except ProjectError:
        return None
    if project is None or files.may_be_member(project) or (script and "# /// script" in (files.text(script) or "")):
        return None
    return os.path.dirname(project)


def _record(line: CommandLine, env: "Mapping[str, str]") -> tuple[str, str] | None:
    """The record's path, and a hash of the inputs; None for what is not remembered."""
    directory = _directory(line, env)
    if directory is None:
        return None
    environment = os.path.join(directory, ".venv")
    config = os.path.join(environment, "pyvenv.cfg")
    if not os.path.isfile(config):
        return None
    hardware = fingerprint(env)
    if not hardware:
        return None
    names = ("pyproject.toml", "uv.lock", "uv.toml", ".python-version", config)
    states = [state(os.path.join(directory, name)) for name in names]
    variables = sorted((name, value) for name, value in env.items() if name.startswith(("UV_", "UVTORCH_")))
    package = state(os.path.dirname(__file__))
    inputs = (__version__, package, directory, line.verb, line.options, line.ours, variables, states, hardware)
    return os.path.join(environment, f".uvtorch-{line.verb}"), _digest(repr(inputs))


def _digest(text: str) -> str:
    try:
        from _blake2 import blake2b  # noqa: PLC0415  only where there is an environment
    except ImportError:
        from hashlib import blake2b  # noqa: PLC0415  only where there is an environment
    return str(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest())


# What detection depends on, told without asking a driver: few small files are read, and only built-in modules imported

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

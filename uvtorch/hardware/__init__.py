"""Reading the machine, with one module for each vendor's probe.

A description (`UVTORCH_HARDWARE`) replaces detection, then uv's own variables do. Else all vendors are asked: one
probe's failure never hides another's result.
"""

import os
import re
from collections.abc import Mapping

from uvtorch import files, machine
from uvtorch.errors import MachineError, UsageError
from uvtorch.hardware import amd, intel, nvidia
from uvtorch.hardware.scene import Host, Scene, Tell, devices, plain, this_host
from uvtorch.machine import Driver, Gpu, Machine

_VENDORS = (("10de", nvidia.probe), ("1002", amd.probe), ("8086", intel.probe))
_DRIVER, _ARCHITECTURE = "UV_CUDA_DRIVER_VERSION", "UV_AMD_GPU_ARCHITECTURE"
_HINTS = {
    _DRIVER: "It is a driver's version such as 570.124.06, as nvidia-smi prints it.",
    _ARCHITECTURE: "It is a name such as gfx942 or gfx1100, as rocminfo prints it.",
}
_RULES = (
    (_DRIVER, r"\s*[0-9]{1,5}(\.[0-9]{1,5}){0,3}\s*", "is not the version of an NVIDIA driver"),
    # uv would take 12.8 for an ancient driver and install the CPU build.
    (_DRIVER, r"\s*0*[1-9][0-9]{2}.*", "looks like a version of CUDA, not of NVIDIA's driver"),
    (_ARCHITECTURE, amd.ARCHITECTURE, "is not the name of an AMD GPU architecture"),
)
"""(variable, what its value must match, what is wrong otherwise). An empty one is unset, as for uv."""


def detect(env: Mapping[str, str], *, root: str = "/", host: Host | None = None, tell: Tell | None = None) -> Machine:
    """The machine as a process with this environment may use it; what is wrong with it is in `Machine.problems`.

    `root` and `host` replace the file system's root and the interpreter's own facts. `tell` is told when a driver takes
    long (see `time_limit`). Raises UsageError for a malformed override, MachineError for an unreadable description.
    """
    if described := env.get("UVTORCH_HARDWARE"):
        return read_description(described)
    host = host or this_host()
    scene = Scene(host, env, root, tell)
    if _is_overridden(scene):
        for name in ("nvml", "kfd", "intel"):
            scene.probe(name, "skipped", "overridden by the environment")
    elif scene.platform.system in ("linux", "windows"):
        _look_at_bus(scene)
    elif scene.platform.system == "macos":
        _look_at_mac(scene, host.chip)
    else:
        scene.notes.append(f"PyTorch has no wheels for {scene.platform.system}.")
    return scene.machine()


def described() -> dict[str, Machine]:
    """The machines that uvtorch describes itself, by name."""
    import json  # noqa: PLC0415  detection needs no JSON

    with open(os.path.join(os.path.dirname(__file__), "machines.json"), "rb") as file:
        return {name: machine.from_json(json.dumps(row), name) for name, row in json.load(file).items()}


def read_description(path: str) -> Machine:
    """The machine that a regular file describes, else the one of this name in `described`. Raises MachineError.

    `-` and `/dev/stdin` are standard input.
    """
    try:
        if not os.path.exists(path) and (found := described().get(path)):
            return found
        if path in ("-", "/dev/stdin"):
            # By its number: /dev/stdin cannot be opened where it is a socket, and is not on every system.
            with open(0, "rb", closefd=False) as file:
                data = file.read(machine.SIZE_LIMIT + 1)
        else:
            data = files.read(path, machine.SIZE_LIMIT)
    except (OSError, ValueError) as error:
        from difflib import get_close_matches  # noqa: PLC0415  only what is mistyped needs it

        reason = getattr(error, "strerror", None) or error
        near = [f"did you mean {name}?" for name in get_close_matches(path, described(), 1)]
        raise MachineError(
            f"the machine's description {plain(path)} cannot be read: {reason}",
            *near,
            machine.HINT,
            "`uvtorch torch explain --hardware list` names the machines that uvtorch describes",
        ) from None
    return machine.from_json(data, plain(path))


def _is_overridden(scene: Scene) -> bool:
    """Whether uv's own variables describe the machine. Raises UsageError."""
    for variable, pattern, fault in _RULES:
        value = scene.env.get(variable, "")
        if value.strip() and not re.fullmatch(pattern, value):
            raise UsageError(f"{variable}={plain(value, 80)} {fault}", _HINTS[variable])
    if driver := scene.env.get(_DRIVER, "").strip():
        scene.driver = Driver(driver)
        scene.gpus.append(Gpu("nvidia", "NVIDIA GPU"))
        scene.notes.append(f"{_DRIVER}={driver} is in force: no hardware was asked, so the GPU's model is not known.")
    elif architecture := scene.env.get(_ARCHITECTURE, "").strip():
        scene.gpus.append(amd.gpu_of(architecture))
        scene.notes.append(f"{_ARCHITECTURE}={architecture} is in force: no hardware was asked.")
    return bool(scene.gpus)


def _look_at_bus(scene: Scene) -> None:
    found = devices(scene)
    for vendor, probe in _VENDORS:
        probe(scene, [device for device in found if device.id.startswith(vendor)])
    if (libc := str(scene.platform.libc)).startswith("musl"):
        scene.notes.append(f"This system's C library is {libc}; PyTorch has wheels for glibc only.")


def _look_at_mac(scene: Scene, chip: str) -> None:
    if scene.platform.machine == "arm64":
        scene.gpus.append(Gpu("apple", chip or "Apple GPU", integrated=True))
    elif "Apple" in chip:
        scene.notes.append(
            f"This Python is built for x86_64 and runs under Rosetta on {chip}; PyTorch's wheels for x86_64 end at "
            "2.2.2 and do not support MPS. An arm64 Python gets current ones."
        )
    else:
        scene.notes.append("PyTorch's wheels for Intel Macs end at 2.2.2.")
    scene.probe("apple", "absent" if "Intel" in chip else "ok", chip)

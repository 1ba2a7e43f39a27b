"""AMD: the KFD topology in sysfs, else rocminfo; and what environment variables leave of it."""

import os
import re
from collections.abc import Sequence

from uvtorch.hardware.scene import Device, Scene, plain, run, time_limit
from uvtorch.machine import Gpu, Problem

TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"
ROCMINFO = ("/opt/rocm/bin/rocminfo", "/usr/bin/rocminfo")  # AMD's own packages, a distribution's
ARCHITECTURE = "gfx[0-9a-f]{3,4}"

INTEGRATED = "gfx(90[29c]|1013|103[3567]|1103|115[0-3])"
"""Architectures that exist only as part of a processor. Source: LLVM, User Guide for AMDGPU Backend, its processors."""


def probe(scene: Scene, devices: Sequence[Device]) -> None:
    """AMD's GPUs: on Linux those that ROCm can use, cards before integrated ones; on Windows those on the bus."""
    if scene.platform.system == "windows":
        scene.gpus += [Gpu("amd", one.name, pci_id=one.id) for one in devices]
        return
    nodes = _topology(scene)
    gpus: Sequence[Gpu] = _given(nodes, scene) if nodes else _without_topology(scene, devices)
    # ROCR_VISIBLE_DEVICES acts below HIP, which counts what is left. HIP takes CUDA's variable where its own is unset.
    cuda = "HIP_VISIBLE_DEVICES" not in scene.env and scene.env.get("CUDA_VISIBLE_DEVICES")
    for variable in ("ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES" if cuda else "HIP_VISIBLE_DEVICES"):
        gpus = scene.visible(variable, gpus)
    scene.gpus += _overridden(sorted(gpus, key=lambda gpu: gpu.integrated), scene)


def _overridden(gpus: list[Gpu], scene: Scene) -> list[Gpu]:
    value = scene.env.get("HSA_OVERRIDE_GFX_VERSION", "")
    version = re.fullmatch(r"([0-9]{1,2})\.(0?[0-9]|1[0-5])\.(0?[0-9]|1[0-5])", value)
    if not gpus or not version:
        return gpus
    architecture = gfx(*map(int, version.groups()))
    scene.notes.append(f"HSA_OVERRIDE_GFX_VERSION={value}: {_architectures(gpus)} passes for {architecture}.")
    return [gpu._replace(architecture=architecture) for gpu in gpus]


def gfx(major: int, minor: int, stepping: int) -> str:
    """`gfx90a` from (9, 0, 10): the last two are one hexadecimal digit each."""
    return f"gfx{major}{minor:x}{stepping:x}"


def gpu_of(architecture: str) -> Gpu:
    """The GPU of which only the architecture is known."""
    integrated = re.fullmatch(INTEGRATED, architecture) is not None
    return Gpu("amd", f"AMD {architecture}", architecture=architecture, integrated=integrated)


def _architectures(gpus: Sequence[Gpu]) -> str:
    return ", ".join(dict.fromkeys(str(gpu.architecture) for gpu in gpus))


def _given(nodes: Sequence[tuple[int, Gpu]], scene: Scene) -> list[Gpu]:
    """The GPUs that this process was given, or a problem."""
    container = scene.platform.container
    # A container is given single GPUs by their render nodes; the topology shows all of the host's.
    given = [gpu for minor, gpu in nodes if not container or scene.exists(f"/dev/dri/renderD{minor}")]
    if given and scene.exists("/dev/kfd"):
        if not os.access(scene.at("/dev/kfd"), os.R_OK | os.W_OK):
            scene.notes.append("No permission to use /dev/kfd: ROCm needs this user in the groups render and video.")
        scene.probe("kfd", "ok", _architectures(given))
        return given
    missing = "/dev/dri has no device file for it" if scene.exists("/dev/kfd") else "there is no /dev/kfd device file"
    reason = f"an AMD GPU ({nodes[0][1].architecture}) is on the bus, but {missing}"
    remedy = "Start the container with --device /dev/kfd --device /dev/dri." if container else ""
    scene.probe("kfd", "failed", reason)
    scene.problems.append(Problem("amd", "unreachable", reason, remedy))
    return []


def _topology(scene: Scene) -> list[tuple[int, Gpu]]:
    """(minor number of its render node, GPU) for each in the KFD topology, in ROCm's order."""
    gpus = []
    for node in sorted(filter(str.isdecimal, scene.names(TOPOLOGY)), key=int):
        text = scene.read(f"{TOPOLOGY}/{node}/properties")
        if gpu := parse_properties(text):
            minor = _numbers(text).get("drm_render_minor", 0)
            name = plain(scene.read(f"/sys/class/drm/renderD{minor}/device/product_name", 200)) or gpu.name
            gpus.append((minor, gpu._replace(name=name)))
    return gpus


def _numbers(text: str) -> dict[str, int]:
    """The numbers in a file of KFD's, `name value` a line."""
    return {name: int(value) for name, value in re.findall(r"^(\w+) ([0-9]{1,23})$", text, re.MULTILINE | re.ASCII)}


def parse_properties(text: str) -> Gpu | None:
    """The GPU that a KFD node's properties describe; None for a processor."""
    numbers = _numbers(text)
    version = numbers.get("gfx_target_version", 0)
    if not version or not numbers.get("simd_count"):
        return None
    unique = numbers.get("unique_id")
    gpu = gpu_of(gfx(version // 10000, version // 100 % 100, version % 100))
    return gpu._replace(uuid=f"GPU-{unique:016x}" if unique else None)


def _without_topology(scene: Scene, devices: Sequence[Device]) -> list[Gpu]:
    """What rocminfo tells; a problem where it tells of no GPU on the bus."""
    scene.probe("kfd", "absent")
    program = next(filter(scene.exists, ROCMINFO), None)
    gpus = _ask_rocminfo(scene.at(program), scene) if program and (devices or scene.platform.wsl) else []
    if devices and not gpus:
        reason = f"an AMD GPU ({devices[0].id}) is on the bus, but the kernel does not offer it for computing"
        reason += f" (no KFD; {devices[0].driver or 'no driver'} has it)"
        remedy = "Load the amdgpu kernel module, if it supports this GPU."
        scene.problems.append(Problem("amd", "unreachable", reason, remedy))
    return gpus


def _ask_rocminfo(program: str, scene: Scene) -> list[Gpu]:
    # The variables are applied here, to every source alike.
    env = {name: value for name, value in scene.env.items() if not name.endswith("_VISIBLE_DEVICES")}
    result = run((program,), env, time_limit(scene.env, alive=False))
    if result.code != 0:
        scene.probe("rocminfo", "failed", result.failure or f"exit code {result.code}: {plain(result.output)}")
        return []
    gpus = parse_rocminfo(result.output)
    scene.probe("rocminfo", "ok" if gpus else "absent", _architectures(gpus))
    return gpus


def parse_rocminfo(text: str) -> list[Gpu]:
    """Read rocminfo: the agents that are named by an architecture."""
    return [gpu_of(name) for name in re.findall(rf"^ *Name: *({ARCHITECTURE}) *$", text, re.MULTILINE)]

"""AMD: the KFD topology in sysfs, else rocm_agent_enumerator or rocminfo; and AMD's environment variables."""

import os
import time
from collections.abc import Mapping, Sequence

from uvtorch.hardware import files, pci, visible
from uvtorch.machine import Gpu, Platform, Probe, Problem
from uvtorch.named import NamedTuple

TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"
ENUMERATORS = ("/opt/rocm/bin/rocm_agent_enumerator", "/usr/bin/rocm_agent_enumerator")
NAMES = ("/usr/share/libdrm/amdgpu.ids", "/opt/amdgpu/share/libdrm/amdgpu.ids")
INFOS = ("/opt/rocm/bin/rocminfo", "/usr/bin/rocminfo")
PROGRAM_LIMIT_S = 0.8
"""For each of the two programs, so that both together stay under 2 s."""

INTEGRATED = frozenset(
    f"gfx{digits}"
    for digits in ("902", "909", "90c", "1013", "1033", "1035", "1036", "1037", "1103", "1150", "1151", "1152", "1153")
)
"""Architectures that exist only as part of a processor. Source: LLVM, User Guide for AMDGPU Backend, its processors."""


class Findings(NamedTuple):
    """What is known of AMD's hardware."""

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()


def probe(devices: Sequence[pci.Device], platform: Platform, env: Mapping[str, str], root: str) -> Findings:
    """Ask about AMD's hardware on Linux. `devices` are AMD's GPUs on the PCI bus."""
    started = time.perf_counter()
    nodes = _topology(root)
    gpus = tuple(gpu for _, gpu in nodes)
    if not gpus and not devices and not (platform.wsl and files.exists(root, "/dev/dxg")):
        return Findings(probes=(Probe("kfd", "absent", "", _ms(started)),))
    if gpus and not files.exists(root, "/dev/kfd"):
        reason = f"an AMD GPU ({gpus[0].architecture}) is on the bus, but there is no /dev/kfd device file"
        remedy = "Start the container with --device /dev/kfd --device /dev/dri." if platform.container else ""
        return _unreachable(reason, remedy, Probe("kfd", "failed", reason, _ms(started)))
    if gpus and platform.container:
        # A container is given single GPUs by their render nodes; the topology shows all of the host's.
        gpus = tuple(gpu for minor, gpu in nodes if files.exists(root, f"/dev/dri/renderD{minor}"))
        if not gpus:
            reason = f"an AMD GPU ({nodes[0][1].architecture}) is on the bus, but /dev/dri has no device file for it"
            remedy = "Start the container with --device /dev/kfd --device /dev/dri."
            return _unreachable(reason, remedy, Probe("kfd", "failed", reason, _ms(started)))
    if gpus:
        detail = ", ".join(dict.fromkeys(str(gpu.architecture) for gpu in gpus))
        return _for_process(gpus, _rights(root), env, (Probe("kfd", "ok", detail, _ms(started)),))
    probes = [Probe("kfd", "absent", "", _ms(started))]
    gpus, outcomes = _ask_programs(env, root)
    probes += outcomes
    if gpus:
        return _for_process(gpus, (), env, tuple(probes))
    if not devices:
        return Findings(probes=tuple(probes))
    held = devices[0].driver
    reason = f"an AMD GPU ({devices[0].id}) is on the bus, but the kernel offers it to no compute program (no KFD; " + (
        f"{held} has it)" if held else "no driver has it)"
    )
    remedy = "" if held in ("radeon", "vfio-pci") else "Load the amdgpu kernel module."
    return _unreachable(reason, remedy, *probes)


def _unreachable(reason: str, remedy: str, *probes: Probe) -> Findings:
    return Findings((), (Problem("amd", "unreachable", reason, remedy),), (), probes)


def _rights(root: str) -> tuple[str, ...]:
    if os.access(files.at(root, "/dev/kfd"), os.R_OK | os.W_OK):
        return ()
    return ("No permission to use /dev/kfd: ROCm will see no GPU until this user joins the groups render and video.",)


def _topology(root: str) -> tuple[tuple[int, Gpu], ...]:
    """(minor number of its render node, GPU) for each GPU of the KFD topology, in its order, which is ROCm's."""
    nodes = sorted((name for name in files.names(root, TOPOLOGY) if name.isdecimal()), key=int)
    gpus = []
    for node in nodes:
        text = files.read(root, f"{TOPOLOGY}/{node}/properties")
        gpu = parse_properties(text) if text else None
        if gpu is None:
            continue
        memory = sum(
            parse_bank(files.read(root, f"{TOPOLOGY}/{node}/mem_banks/{bank}/properties", 4096) or "")
            for bank in files.names(root, f"{TOPOLOGY}/{node}/mem_banks")
        )
        minor = _property(text or "", "drm_render_minor") or 0
        name = _product(root, minor, gpu) or gpu.name
        gpus.append((minor, gpu._replace(name=name, memory_mib=memory // 2**20 or None)))
    return tuple(gpus)


def _product(root: str, minor: int, gpu: Gpu) -> str:
    """The product's name: servers' cards tell it, for others libdrm's table has it; empty where neither does."""
    folder = f"/sys/class/drm/renderD{minor}/device"
    told = files.plain(files.read(root, f"{folder}/product_name", 200) or "")
    revision = (files.read(root, f"{folder}/revision", 20) or "").strip().removeprefix("0x")
    if told or not revision or not gpu.pci_id:
        return told
    tables = (files.read(root, path, 2**20) for path in NAMES)
    return next((name for text in tables if text and (name := parse_names(text, gpu.pci_id[5:], revision))), "")


def parse_names(text: str, device: str, revision: str) -> str:
    """The name in libdrm's `amdgpu.ids`, by device and revision; empty if it has none."""
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",", 2)]
        if len(fields) == 3 and (fields[0].lower(), fields[1].lower()) == (device.lower(), revision.lower()):
            return files.plain(fields[2])
    return ""


def _property(text: str, name: str) -> int | None:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal() and len(value) < 24:
            return int(value)
    return None


def parse_properties(text: str) -> Gpu | None:
    """The GPU that a KFD node's properties describe; None for a processor."""
    version = _property(text, "gfx_target_version") or 0
    if not version or not _property(text, "simd_count"):
        return None
    architecture = gfx(version // 10000, version // 100 % 100, version % 100)
    vendor, device = _property(text, "vendor_id"), _property(text, "device_id")
    unique = _property(text, "unique_id")
    return Gpu(
        "amd",
        f"AMD {architecture}",
        architecture=architecture,
        uuid=f"GPU-{unique:016x}" if unique else None,
        pci_id=f"{vendor & 0xFFFF:04x}:{device & 0xFFFF:04x}" if vendor and device else None,
        # A node with processor cores and compute units is an APU, as the older ones are described.
        integrated=architecture in INTEGRATED or (_property(text, "cpu_cores_count") or 0) > 0,
    )


def gfx(major: int, minor: int, stepping: int) -> str:
    """`gfx90a` from (9, 0, 10): the last two are one hexadecimal digit each."""
    return f"gfx{major}{minor:x}{stepping:x}"


def parse_bank(text: str) -> int:
    """The bytes of a KFD memory bank that is the GPU's own (heap type 1 or 2); 0 for any other."""
    return (_property(text, "size_in_bytes") or 0) if _property(text, "heap_type") in (1, 2) else 0


def _ask_programs(env: Mapping[str, str], root: str) -> tuple[tuple[Gpu, ...], list[Probe]]:
    from uvtorch.hardware import programs

    probes = []
    # The variables are applied here, to every source alike.
    clean = {name: value for name, value in env.items() if not name.endswith("_VISIBLE_DEVICES")}
    for probe_name, paths, parse in (
        ("rocm_agent_enumerator", ENUMERATORS, parse_enumerator),
        ("rocminfo", INFOS, parse_rocminfo),
    ):
        started = time.perf_counter()
        program = files.first_program(root, paths)
        if program is None:
            probes.append(Probe(probe_name, "absent"))
            continue
        result = programs.run((program,), clean, PROGRAM_LIMIT_S)
        gpus = parse(result.output) if result.code == 0 else ()
        if gpus:
            probes.append(Probe(probe_name, "ok", f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'}", _ms(started)))
            return gpus, probes
        if result.code == 0:
            probes.append(Probe(probe_name, "absent", "it told of no GPU", _ms(started)))
            continue
        said = next((line for line in map(files.plain, result.output.splitlines()) if line), "")
        detail = result.failure or f"exit code {result.code}: {said}"
        probes.append(Probe(probe_name, "failed", detail, _ms(started)))
    return (), probes


def is_architecture(text: str) -> bool:
    """Whether it has the form of one: `gfx` and three or four hexadecimal digits in lower case."""
    digits = text[3:]
    return text.startswith("gfx") and 3 <= len(digits) <= 4 and all(digit in "0123456789abcdef" for digit in digits)


def parse_enumerator(text: str) -> tuple[Gpu, ...]:
    """Read rocm_agent_enumerator: an architecture a line, `gfx000` for the processor."""
    names = [line.strip() for line in text.splitlines()]
    return tuple(_named(name) for name in names if is_architecture(name) and name != "gfx000")


def parse_rocminfo(text: str) -> tuple[Gpu, ...]:
    """Read rocminfo: the agents whose `Device Type` is GPU."""
    gpus: list[Gpu] = []
    agent: dict[str, str] = {}

    def close() -> None:
        if agent.get("Device Type") == "GPU" and is_architecture(agent.get("Name", "")):
            gpu = _named(agent["Name"])
            name, uuid = files.plain(agent.get("Marketing Name", "")), agent.get("Uuid", "")
            known = uuid[:4] == "GPU-" and uuid[4:5] not in ("", "X")  # GPU-XX: it has none
            gpus.append(gpu._replace(name=name or gpu.name, uuid=files.plain(uuid) if known else None))
        agent.clear()

    for line in text.splitlines():
        if line.startswith("Agent "):
            close()
        name, colon, value = line.strip().partition(":")
        if colon:
            agent.setdefault(name.strip(), value.strip())  # the first `Name` is the agent's, later ones its parts'
    close()
    return tuple(gpus)


def _named(architecture: str) -> Gpu:
    return Gpu("amd", f"AMD {architecture}", architecture=architecture, integrated=architecture in INTEGRATED)


def _for_process(
    gpus: tuple[Gpu, ...], notes: tuple[str, ...], env: Mapping[str, str], probes: tuple[Probe, ...]
) -> Findings:
    """What a process with this environment sees, cards before graphics that are part of a processor."""
    told = list(notes)
    # ROCR_VISIBLE_DEVICES acts below HIP, which counts what is left. HIP takes CUDA's variable where its own is unset.
    names = ["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]
    if "HIP_VISIBLE_DEVICES" not in env and env.get("CUDA_VISIBLE_DEVICES"):
        names[1] = "CUDA_VISIBLE_DEVICES"
    for name in names:
        if (value := env.get(name)) is None or not gpus:
            continue
        shown = visible.select(value, [gpu.uuid for gpu in gpus], ordered=True)
        if len(shown.kept) < len(gpus):
            told.append(f"{name}={visible.shown(value)} hides {len(gpus) - len(shown.kept)} of {len(gpus)} AMD GPUs.")
        gpus = tuple(gpus[place] for place in shown.kept)
    gpus, override = _overridden(gpus, env)
    told += override
    return Findings(tuple(sorted(gpus, key=lambda gpu: gpu.integrated)), (), tuple(told), probes)


def _overridden(gpus: tuple[Gpu, ...], env: Mapping[str, str]) -> tuple[tuple[Gpu, ...], list[str]]:
    """Apply HSA_OVERRIDE_GFX_VERSION (`10.3.0`: every GPU passes for gfx1030)."""
    value = env.get("HSA_OVERRIDE_GFX_VERSION")
    if not value or not gpus:
        return gpus, []
    parts = value.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 3 for part in parts):
        return gpus, [f"HSA_OVERRIDE_GFX_VERSION={files.plain(value, 40)} is not like 10.3.0 and is ignored here."]
    major, minor, stepping = map(int, parts)
    if minor > 15 or stepping > 15:
        return gpus, [f"HSA_OVERRIDE_GFX_VERSION={files.plain(value, 40)} is not like 10.3.0 and is ignored here."]
    architecture = gfx(major, minor, stepping)
    real = ", ".join(dict.fromkeys(str(gpu.architecture) for gpu in gpus))
    note = f"HSA_OVERRIDE_GFX_VERSION={value}: {real} passes for {architecture}."
    return tuple(gpu._replace(architecture=architecture) for gpu in gpus), [note]


def _ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)

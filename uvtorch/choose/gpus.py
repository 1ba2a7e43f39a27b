"""Which of a machine's GPUs the build must run on, and what to say of the others. Pure."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.choose.compatibility import FAMILY, JETSONS, Judge, capability, labels, platform_name
from uvtorch.machine import Gpu, Machine

MAKER = {"cu": "NVIDIA", "rocm": "AMD", "xpu": "Intel"}
KIND = {"cu": "CUDA", "rocm": "ROCm", "xpu": "XPU", "cpu": "CPU"}

_NO_KERNELS = "no known PyTorch build has kernels for it"
_CPU_HINT = "`--torch-backend cpu` takes the CPU build"


class Hardware(NamedTuple):
    """The GPUs that count on a machine, and what to say of the others."""

    family: str
    """The backend family they need; `cpu` where no GPU counts."""
    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: str | None = None
    """A GPU is there that must not be passed over in silence, and no build can be chosen for it. One clause."""
    hints: tuple[str, ...] = ()

    def rejects(self, backend: Backend) -> str | None:
        """Why a backend of another family than the machine's is not taken; None for one of its own."""
        if self.refusal and backend.family != "cpu":
            return self.refusal
        if backend.family == self.family:
            return None
        here = labels(self.gpus) or "no GPU that PyTorch can use"
        maker = MAKER.get(backend.family)
        return f"for {maker} GPUs; this machine has {here}" if maker else f"would leave {here} idle"


def select(judge: Judge) -> Hardware:
    """Which GPUs of a machine the build must run on.

    One vendor's GPUs are taken: cards before GPUs in the processor, then NVIDIA, AMD, Intel. Passed over with a line,
    for the next vendor's, else for the CPU build:

    - a GPU that PyTorch has no build for and never will (`_hopeless`), and one without wheels on this platform;
    - a GPU whose device files a container does not have.

    A refusal, unless another vendor's GPUs can be used: an AMD card whose architecture no known build has kernels for,
    and a GPU whose driver is broken.
    """
    passed: list[str] = []
    refused: Hardware | None = None
    for vendor, found in _groups(judge.machine):
        gpus, said = _usable(judge, vendor, found)
        passed += said
        if found and not gpus:
            continue
        broken = _broken(judge.machine, vendor, gpus)
        wrong = broken or _unknown(judge, vendor, gpus)
        if wrong is None:
            return Hardware(FAMILY[vendor], gpus, (*passed, *([f"{refused.refusal}."] if refused else [])))
        refused = refused or wrong
        if broken:
            break
    unreachable = (one for one in judge.machine.problems if one.kind == "unreachable")
    visible = {gpu.vendor for gpu in judge.machine.gpus}
    passed += (f"{one.reason.rstrip('.')}: taking the CPU build" for one in unreachable if one.vendor not in visible)
    return refused or Hardware("cpu", (), tuple(passed))


def for_backend(judge: Judge, backend: Backend) -> tuple[Gpu, ...]:
    """The GPUs that a backend is for: cards before those in the processor, of Intel's the supported ones, if any."""
    gpus = tuple(gpu for gpu in judge.machine.gpus if FAMILY.get(gpu.vendor) == backend.family)
    if backend.family != "rocm":
        gpus = tuple(gpu for gpu in gpus if not _hopeless(judge, gpu)) or gpus
    return tuple(gpu for gpu in gpus if not gpu.integrated) or gpus


def _groups(machine: Machine) -> Iterator[tuple[str, tuple[Gpu, ...]]]:
    """(vendor, GPUs) in the order of preference; a vendor with a broken driver is there even without GPUs."""
    visible = {gpu.vendor for gpu in machine.gpus}
    for integrated, vendor in product((False, True), FAMILY):
        gpus = tuple(gpu for gpu in machine.gpus if (gpu.integrated, gpu.vendor) == (integrated, vendor))
        if gpus or (vendor not in visible and _broken(machine, vendor, ())):
            yield vendor, gpus


def _broken(machine: Machine, vendor: str, gpus: tuple[Gpu, ...]) -> Hardware | None:
    """The refusal for a vendor's broken driver, else None."""
    for problem in machine.problems:
        if (problem.vendor, problem.kind) == (vendor, "broken"):
            hints = tuple(filter(None, (problem.remedy, _CPU_HINT)))
            return Hardware("cpu", gpus, (), problem.reason.rstrip("."), hints)
    return None


def _usable(judge: Judge, vendor: str, gpus: tuple[Gpu, ...]) -> tuple[tuple[Gpu, ...], list[str]]:
    """Those of a vendor's GPUs that some build may use on this platform, and a line on the others."""
    family, where, unserved = FAMILY[vendor], judge.platform, ""
    if gpus and not any(judge.served(family)):
        other = judge.catalog.elsewhere.get((family, where), "").format(gfx=gpus[0].architecture or "gfxNNNN")
        unserved = f"PyTorch has no {KIND[family]} wheels for {platform_name(where)}{'; ' if other else ''}{other}"
    judged = [(gpu, unserved or _hopeless(judge, gpu)) for gpu in gpus]
    used = tuple(gpu for gpu, reason in judged if not reason)
    # An Intel GPU in the processor beside an Arc card is no news.
    reasons = () if vendor == "intel" and used else dict.fromkeys(reason for _, reason in judged if reason)
    return used, [f"{labels(gpu for gpu, why in judged if why == said)} stays idle: {said}" for said in reasons]


def _hopeless(judge: Judge, gpu: Gpu) -> str | None:
    """Why no build, whatever its release and driver, is worth using with this GPU; None where one may be."""
    if gpu.vendor == "intel":
        return None if judge.intel_supported(gpu) else "PyTorch's XPU backend does not support it"
    if gpu.vendor == "nvidia":
        return _NO_KERNELS if _never_compiled_for(judge, gpu) else None
    gfx = gpu.architecture
    unnamed = gfx and gpu.integrated and gfx not in judge.known_architectures
    return judge.catalog.idle.get(gfx or "") or (_NO_KERNELS if unnamed else None)


def _never_compiled_for(judge: Judge, gpu: Gpu) -> bool:
    """Whether an NVIDIA GPU is one that no build of any release has code for, and none will have.

    A Jetson is none of these: NVIDIA has builds for it.
    """
    device = capability(gpu)
    if device is None or device in JETSONS or judge.machine.platform.tegra or judge.is_newer(gpu):
        return False
    faults = (judge.kernel_fault((gpu,), *build) for build in judge.served("cu"))
    return all(fault is not None and fault.step == "kernels" for fault in faults)


def _unknown(judge: Judge, vendor: str, gpus: tuple[Gpu, ...]) -> Hardware | None:
    """The refusal for AMD cards that no known build has kernels for, else None."""
    if vendor != "amd" or any(gpu.architecture in judge.known_architectures for gpu in gpus):
        return None
    if any(gpu.architecture is None for gpu in gpus):
        hints = ("UV_AMD_GPU_ARCHITECTURE names it, such as gfx1100", _CPU_HINT)
        return Hardware("cpu", gpus, (), f"The architecture of {labels(gpus)} is not known", hints)
    relative = "HSA_OVERRIDE_GFX_VERSION makes ROCm treat it as a near relative, at your own risk"
    return Hardware("cpu", gpus, (), f"No known PyTorch build has kernels for {labels(gpus)}", (relative, _CPU_HINT))

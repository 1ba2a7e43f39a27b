"""Whether one build runs on one machine, and if not, why; and which of a machine's GPUs count. Pure.

A CUDA build runs where the driver is at least the minimum of its CUDA major (minor-version compatibility) and it has
compiled kernels for the GPU. A GPU that only its PTX would serve needs a driver whose own CUDA is at least the build's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Literal, NamedTuple, get_args

from uvtorch.backend import PLATFORMS, Backend
from uvtorch.catalog import Catalog, number, since
from uvtorch.hardware import intel
from uvtorch.machine import Driver, Gpu, Machine

FAMILY = {"nvidia": "cu", "amd": "rocm", "intel": "xpu"}
"""Vendor -> backend family."""
MAKER = {"cu": "NVIDIA", "rocm": "AMD", "xpu": "Intel"}
KIND = {"cu": "CUDA", "rocm": "ROCm", "xpu": "XPU", "cpu": "CPU"}

_NO_KERNELS = "no known PyTorch build has kernels for it"
_CPU_HINT = "`--torch-backend cpu` takes the CPU build"

JETSONS = ((5, 3), (6, 2), (7, 2), (8, 7))
"""Compute capabilities that only Jetsons have: they run no code for an older one of the same major."""

Step = Literal["gpu", "platform", "python", "system", "package", "kernels", "driver", "range"]
STEPS: tuple[Step, ...] = get_args(Step)
"""What a build can fail on, in the order in which it is checked: a later one is a nearer miss."""

_PLATFORM_NAMES = {
    "windows_amd64": "Windows",
    "windows_arm64": "Windows on Arm",
    "macos_arm64": "macOS on Apple silicon",
    "macos_x86_64": "macOS on Intel",
}


class Fault(NamedTuple):
    """Why a build does not run here: `torch 2.15.0` + the fault is a sentence."""

    step: Step
    text: str

    def __str__(self) -> str:
        return self.text


def platform_name(key: str) -> str:
    """A platform for people: `Linux x86_64`, `macOS on Intel`."""
    system, _, machine = key.partition("_")
    return _PLATFORM_NAMES.get(key) or f"{system.capitalize()} {machine}"


def label(gpu: Gpu) -> str:
    """`NVIDIA H100 (9.0)`, `MI300X (gfx942)`."""
    detail = gpu.compute_capability or (gpu.architecture if gpu.vendor == "amd" else None)
    return f"{gpu.name} ({detail})" if detail and detail not in gpu.name else gpu.name


def labels(gpus: Iterable[Gpu]) -> str:
    """All GPUs in a clause: `8 x NVIDIA H100 (9.0), NVIDIA T400 (7.5)`."""
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in Counter(map(label, gpus)).items())


def kinds(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """One GPU of each kind."""
    return tuple({label(gpu): gpu for gpu in gpus}.values())


def summary(machine: Machine) -> str:
    """A machine in a line: `Linux x86_64; glibc 2.39; NVIDIA H100 (9.0); driver 570.124.06 (CUDA 12.8)`."""
    platform, driver = machine.platform, machine.nvidia_driver
    parts = [platform_name(platform.key), platform.libc or platform.os_version, labels(machine.gpus) or "no GPU"]
    if driver:
        parts.append(f"driver {driver.version}{f' (CUDA {driver.cuda})' if driver.cuda else ''}")
    return "; ".join(filter(None, parts))


def capability(gpu: Gpu) -> tuple[int, ...] | None:
    """An NVIDIA GPU's compute capability as two numbers, None where it is not known."""
    found = number(gpu.compute_capability or "")
    return found if len(found) == 2 else None


def _runs_code(code: tuple[int, ...], device: tuple[int, ...], backend: Backend, platform: str) -> bool:
    """The rule in kernels.toml."""
    device = (11, 0) if device == (10, 1) else device
    allowed = device == (8, 7) and platform == "linux_aarch64" and backend.version >= (13, 2)
    if device in JETSONS and not allowed:
        return code == device
    return code[0] == device[0] and code <= device


class Judge:
    """What the catalog says of builds on one machine."""

    def __init__(self, machine: Machine, catalog: Catalog) -> None:
        self.machine = machine
        self.catalog = catalog
        self.platform = machine.platform.key
        self.driver = machine.nvidia_driver or Driver("")
        self._system = "windows" if machine.platform.system == "windows" else "linux"

    @cached_property
    def _branch(self) -> tuple[int, ...]:
        rows = reversed(self.catalog.reports.get(self._system, ()))
        return next((cuda for first, cuda in rows if first <= number(self.driver.version)), ())

    @cached_property
    def cuda(self) -> tuple[int, ...]:
        """The newest CUDA the driver supports natively: as it reports, else by its branch; empty where not known."""
        reported = number(self.driver.cuda or "")[:2]
        return reported if len(reported) == 2 else self._branch

    @cached_property
    def unsupported(self) -> str | None:
        """Why PyTorch has no wheel at all for this platform, a clause."""
        if (self.machine.platform.libc or "").startswith("musl"):
            return "PyTorch has no wheels for musl libc (Alpine and the like); it needs glibc"
        return None if self.platform in PLATFORMS else f"PyTorch has no wheels for {platform_name(self.platform)}"

    def least_driver(self, major: int) -> str:
        """The oldest driver for a CUDA major, that of the nearest one for those not in the table."""
        known = self.catalog.minimum_driver
        return known[min(max(major, min(known)), max(known))][self._system]

    def is_native(self, backend: Backend) -> bool:
        """Whether the driver's own CUDA is at least the build's; true of other families."""
        return backend.family != "cu" or backend.version <= self.cuda

    def preference(self, backend: Backend) -> tuple[object, ...]:
        """Sort key among backends of one family with the same torch: the greatest is best."""
        if backend.family != "cu":
            return 0, -sum(since(backend, first) for first in self.catalog.split), backend.rank
        native = self.is_native(backend)
        # Natively supported: the highest. By minor-version compatibility: the lowest, which differs least.
        return backend.version[0], native, backend.version[1] if native else -backend.version[1]

    def system_fault(self, backend: Backend, release: str) -> Fault | None:
        """Why the machine's glibc or macOS is too old for a build; one that is not known is new enough."""
        platform, known = self.machine.platform, self.catalog.oldest
        name, said = "glibc", (platform.libc or "").removeprefix("glibc ")
        if platform.system == "macos":
            name, said = "macOS", platform.os_version or ""
        least = known.get((self.platform, backend, release)) or known.get((self.platform, None, release), ())
        if not number(said) or number(said) >= least:
            return None
        return Fault("system", f"needs {name} >= {'.'.join(map(str, least))}; this machine has {said}")

    def driver_fault(self, backend: Backend) -> Fault | None:
        """Why the NVIDIA driver runs no build of a backend's CUDA major."""
        if backend.family != "cu":
            return None
        here, major = self.driver.version, backend.version[0]
        if not here:
            return Fault("driver", "needs an NVIDIA driver; its version here is not known")
        needed = f">= {self.least_driver(major)}"
        if self.cuda and self.cuda[0] < major > max(self.catalog.minimum_driver):
            needed = f"for CUDA {major}"
        elif number(here) >= number(self.least_driver(major)) or self._forward_compatible(major):
            return None
        return Fault("driver", f"needs a driver {needed}; this machine has {here}")

    def _forward_compatible(self, major: int) -> bool:
        """Whether NVIDIA's forward-compatibility package is in use: a libcuda newer than its kernel driver.

        On Linux, data-centre GPUs and from a driver on (https://docs.nvidia.com/deploy/cuda-compatibility/).
        """
        known = self.catalog.forward_driver
        if self.machine.platform.system != "linux" or not self._branch:
            return False
        newer = self.cuda > self._branch and self.cuda[0] >= major
        reached = number(self.driver.version) >= number(known.get(major) or known[max(known)])
        return newer and reached and not any("geforce" in gpu.name.lower() for gpu in self.machine.gpus)

    def kernel_fault(self, gpus: tuple[Gpu, ...], backend: Backend, release: str) -> Fault | None:
        """Why a build's kernels do not serve all of `gpus`; those of unknown capability are taken as served."""
        if backend.family == "rocm":
            return self._rocm_fault(gpus, backend, release)
        if backend.family == "xpu":
            missing = [gpu for gpu in gpus if not self.intel_supported(gpu)]
            return Fault("kernels", f"does not support {labels(missing)}") if missing else None
        faults = (self._cuda_fault(gpu, backend, release) for gpu in kinds(gpus) if backend.family == "cu")
        return next(filter(None, faults), None)

    def _rocm_fault(self, gpus: tuple[Gpu, ...], backend: Backend, release: str) -> Fault | None:
        devices = self.catalog.devices.get(backend, ())
        if missing := [gpu for gpu in gpus if gpu.architecture not in devices]:
            return Fault("kernels", f"has no kernels for {labels(missing)}")
        here = {gpu.architecture for gpu in gpus}
        for (gfx, first), (releases, reason) in self.catalog.unusable.items():
            if gfx in here and since(backend, first) and release in (releases or (release,)):
                return Fault("kernels", f"cannot be used: {reason}")
        return None

    def _cuda_fault(self, gpu: Gpu, backend: Backend, release: str) -> Fault | None:
        kernels, device = self.catalog.kernels.get((backend, release, self.platform)), capability(gpu)
        if kernels is None or device is None:
            return None
        compiled = any(_runs_code(code, device, backend, self.platform) for code in kernels.codes)
        if compiled or (self.is_newer(gpu) and (backend, release) == self._newest_native):
            return None
        if kernels.ptx is None or kernels.ptx > device:
            return Fault("kernels", f"has no kernels for {label(gpu)}")
        needed = f"needs a driver for CUDA {'.'.join(map(str, backend.version))}; this one is {self.driver.version}"
        return None if self.is_native(backend) else Fault("driver", f"has only PTX for {label(gpu)}: {needed}")

    @cached_property
    def _newest_native(self) -> tuple[Backend, str] | None:
        """The newest build of the newest CUDA that the driver supports: for GPUs newer than the catalog."""
        native = ((backend, release) for backend, release in self.served("cu") if self.is_native(backend))
        return max(native, key=_age, default=None)

    def served(self, family: str) -> Iterator[tuple[Backend, str]]:
        """The builds of a family that have a wheel for this platform."""
        for backend, index in self.catalog.of(family).items():
            yield from ((backend, release) for release, cells in index.items() if self.platform in cells)

    @cached_property
    def _newest_major(self) -> float:
        rows = self.catalog.kernels.items()
        codes = (kernels.codes[-1] for (*_, platform), kernels in rows if platform == self.platform)
        return max(codes, default=(float("inf"),))[0]

    def is_newer(self, gpu: Gpu) -> bool:
        """Whether an NVIDIA GPU is newer than all that some known build for this platform has code for."""
        device = capability(gpu)
        return device is not None and device[0] > self._newest_major

    @cached_property
    def known_architectures(self) -> frozenset[str]:
        """The AMD architectures that some build has kernels for."""
        return frozenset().union(*self.catalog.devices.values())

    def is_last_in(self, gpus: tuple[Gpu, ...], backend: Backend, release: str) -> bool:
        """Whether one of the GPUs is the oldest that a CUDA build has kernels for: later builds drop it first."""
        kernels = self.catalog.kernels.get((backend, release, self.platform))
        devices = filter(None, map(capability, gpus))
        return kernels is not None and any(device < kernels.codes[:2][-1] for device in devices)

    def unknown_fault(self, gpus: tuple[Gpu, ...], backend: Backend) -> Fault | None:
        """Why a release or backend that the catalog does not know would not run here, by the nearest known kernels.

        A GPU that is newer than those is taken as served.
        """
        stable, builds = backend._replace(channel=""), sorted(self.served(backend.family), key=_age)
        served = any(one == stable for one, _ in builds) if stable in self.catalog.builds else bool(builds)
        if not served and backend.family != "cpu":
            return Fault("platform", f"has no wheels for {platform_name(self.platform)}")
        nearest = [build for build in builds if build[0].version <= backend.version][-1:] or builds[:1]
        missing = [gpu for gpu in gpus for build in nearest if self._lacks_kernels(gpu, *build)]
        return Fault("kernels", f"has no kernels for {label(missing[0])}") if missing else self.driver_fault(backend)

    def _lacks_kernels(self, gpu: Gpu, backend: Backend, release: str) -> bool:
        """Whether a build does not serve a GPU that is not newer than its kernels."""
        missing = self.kernel_fault((gpu,), backend, release)
        if missing is None or missing.step != "kernels":
            return False
        if backend.family == "cu":
            device = capability(gpu)
            return device is not None and device <= self.catalog.kernels[backend, release, self.platform].codes[-1]
        return backend.family != "rocm" or gpu.architecture in self.known_architectures

    def intel_supported(self, gpu: Gpu) -> bool:
        """Whether PyTorch's XPU backend supports an Intel GPU: by PCI id, else by name."""
        name, known = gpu.name.lower(), intel.lookup(gpu.pci_id)
        named = not gpu.pci_id and any(part.lower() in name for part in self.catalog.intel_names)
        # The Data Center GPU Max has drivers for Linux only.
        elsewhere = self.platform != "linux_x86_64" and (known.architecture == "pvc" if known else "gpu max" in name)
        return not elsewhere and (known.supported if known else named)


def _age(build: tuple[Backend, str]) -> tuple[object, ...]:
    return build[0].version, number(build[1])


class Hardware(NamedTuple):
    """The GPUs that count on a machine, and what to say of the others."""

    family: str
    """Of the backends they need; `cpu` where no GPU counts."""
    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: str | None = None
    """Why nothing can be chosen for a GPU that must not be passed over in silence, a clause."""
    hints: tuple[str, ...] = ()

    def rejects(self, backend: Backend) -> str | None:
        """Why a backend of another family is not taken; None for one of this family."""
        if self.refusal and backend.family != "cpu":
            return self.refusal
        if backend.family == self.family:
            return None
        here = labels(self.gpus) or "no GPU that PyTorch can use"
        maker = MAKER.get(backend.family)
        return f"for {maker} GPUs; this machine has {here}" if maker else f"would leave {here} idle"


def select(judge: Judge) -> Hardware:
    """Which GPUs of a machine the build must run on.

    One vendor's: cards before GPUs in the processor, then NVIDIA, AMD, Intel. GPUs that PyTorch never will have a build
    for (`_hopeless`) and those out of a container's reach are passed over with a line. A broken driver, and AMD cards
    of an architecture that is not known, are a refusal unless another vendor's can be used.
    """
    passed: list[str] = []
    refused: Hardware | None = None
    visible = {gpu.vendor for gpu in judge.machine.gpus}
    for integrated, vendor in product((False, True), FAMILY):
        mine = [gpu for gpu in judge.machine.gpus if (_is_second(gpu), gpu.vendor) == (integrated, vendor)]
        gpus, idle = _usable(judge, mine)
        passed += idle
        broken = _broken(judge.machine, vendor, gpus) if gpus or vendor not in visible else None
        wrong = broken or _unknown(judge, vendor, gpus)
        if gpus and not wrong:
            return Hardware(FAMILY[vendor], gpus, (*passed, *([f"{refused.refusal}."] if refused else [])))
        refused = refused or wrong
        if broken:
            break
    hidden = (one for one in judge.machine.problems if one.kind == "unreachable" and one.vendor not in visible)
    passed += (f"{problem.reason.rstrip('.')}: taking the CPU build" for problem in hidden)
    return refused or Hardware("cpu", (), tuple(passed))


def _usable(judge: Judge, gpus: Sequence[Gpu]) -> tuple[tuple[Gpu, ...], list[str]]:
    idle = {gpu: reason for gpu in gpus if (reason := _hopeless(judge, gpu))}
    used = tuple(gpu for gpu in gpus if gpu not in idle)
    # An Intel GPU in the processor beside an Arc card is no news.
    reasons = () if used and used[0].vendor == "intel" else dict.fromkeys(idle.values())
    return used, [f"{labels(gpu for gpu in gpus if idle.get(gpu) == said)} stays idle: {said}" for said in reasons]


def for_backend(judge: Judge, backend: Backend) -> tuple[Gpu, ...]:
    """The GPUs that a backend is for; only those that some build may use, and only cards, where there are any."""
    gpus = tuple(gpu for gpu in judge.machine.gpus if FAMILY.get(gpu.vendor) == backend.family)
    if backend.family != "rocm":
        gpus = tuple(gpu for gpu in gpus if not _hopeless(judge, gpu)) or gpus
    return tuple(gpu for gpu in gpus if not _is_second(gpu)) or gpus


def _is_second(gpu: Gpu) -> bool:
    """A GPU in the processor, but for a Jetson's."""
    return gpu.integrated and gpu.vendor != "nvidia"


def _broken(machine: Machine, vendor: str, gpus: tuple[Gpu, ...]) -> Hardware | None:
    for problem in machine.problems:
        if (problem.vendor, problem.kind) == (vendor, "broken"):
            hints = tuple(filter(None, (problem.remedy, _CPU_HINT)))
            return Hardware("cpu", gpus, (), problem.reason.rstrip("."), hints)
    return None


def _hopeless(judge: Judge, gpu: Gpu) -> str | None:
    """Why no build, whatever its release and driver, is worth using with a GPU; None where one may be."""
    family, gfx = FAMILY[gpu.vendor], gpu.architecture or ""
    if not any(judge.served(family)):
        other = judge.catalog.elsewhere.get((family, judge.platform), "").format(gfx=gfx or "gfxNNNN")
        return f"PyTorch has no {KIND[family]} wheels for {platform_name(judge.platform)}{'; ' if other else ''}{other}"
    if gpu.vendor == "intel":
        return None if judge.intel_supported(gpu) else "PyTorch's XPU backend does not support it"
    if gpu.vendor == "nvidia":
        return _NO_KERNELS if _never_compiled_for(judge, gpu) else None
    unnamed = gfx and gpu.integrated and gfx not in judge.known_architectures
    return judge.catalog.idle.get(gfx) or (_NO_KERNELS if unnamed else None)


def _never_compiled_for(judge: Judge, gpu: Gpu) -> bool:
    """Whether no build has code for an NVIDIA GPU, and none will; NVIDIA has builds for Jetsons."""
    device = capability(gpu)
    if device is None or device in JETSONS or judge.machine.platform.tegra or judge.is_newer(gpu):
        return False
    faults = (judge.kernel_fault((gpu,), *build) for build in judge.served("cu"))
    return all(fault is not None and fault.step == "kernels" for fault in faults)


def _unknown(judge: Judge, vendor: str, gpus: tuple[Gpu, ...]) -> Hardware | None:
    if vendor != "amd" or not gpus or any(gpu.architecture in judge.known_architectures for gpu in gpus):
        return None
    said = f"No known PyTorch build has kernels for {labels(gpus)}"
    hint = "HSA_OVERRIDE_GFX_VERSION makes ROCm treat it as a near relative, at your own risk"
    if any(gpu.architecture is None for gpu in gpus):
        said = f"The architecture of {labels(gpus)} is not known"
        hint = "UV_AMD_GPU_ARCHITECTURE names it, such as gfx1100"
    return Hardware("cpu", gpus, (), said, (hint, _CPU_HINT))

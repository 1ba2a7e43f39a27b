"""Whether one build runs on one machine, and if not, why. Pure.

A CUDA build runs where the driver is at least the minimum of its CUDA major (minor-version compatibility) and it has
compiled kernels for the GPU. A GPU that only its PTX would serve needs a driver whose own CUDA is at least the build's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from uvtorch import intel
from uvtorch.backend import PLATFORMS, Backend
from uvtorch.catalog import Catalog, number, since
from uvtorch.choose.request import Need, python_text
from uvtorch.machine import Driver, Gpu, Machine

FAMILY = {"nvidia": "cu", "amd": "rocm", "intel": "xpu"}
"""Vendor -> backend family."""

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
    here: str = ""
    """What this machine has instead: `this machine has 535.183.01`."""

    def __str__(self) -> str:
        return f"{self.text}; {self.here}" if self.here else self.text


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


def summary(machine: Machine) -> str:
    """A machine in a line: `Linux x86_64; glibc 2.39; NVIDIA H100 (9.0); driver 570.124.06 (CUDA 12.8)`."""
    driver, system = machine.nvidia_driver, machine.platform.libc or machine.platform.os_version
    parts = [platform_name(machine.platform.key), *([system] if system else []), labels(machine.gpus) or "no GPU"]
    if driver:
        parts.append(f"driver {driver.version}{f' (CUDA {driver.cuda})' if driver.cuda else ''}")
    return "; ".join(parts)


def capability(gpu: Gpu) -> tuple[int, int] | None:
    """An NVIDIA GPU's compute capability as numbers, None where it is not known."""
    found = number(gpu.compute_capability or "")
    return (found[0], found[1]) if len(found) == 2 else None


def runs_code(code: tuple[int, int], device: tuple[int, int], backend: Backend, platform: str) -> bool:
    """Whether code compiled for one compute capability runs on a device of another (see kernels.toml)."""
    device = (11, 0) if device == (10, 1) else device
    allowed = device == (8, 7) and platform == "linux_aarch64" and backend.version >= (13, 2)
    if device in JETSONS and not allowed:
        return code == device
    return code[0] == device[0] and code[1] <= device[1]


class Judge:
    """What the catalog says of builds on one machine."""

    def __init__(self, machine: Machine, catalog: Catalog) -> None:
        self.machine = machine
        self.catalog = catalog
        self.platform = machine.platform.key
        self._system = "windows" if machine.platform.system == "windows" else "linux"

    @cached_property
    def _branch(self) -> tuple[int, int] | None:
        """The newest CUDA that the drivers of this one's branch support natively; None where not known."""
        version = number(self.machine.nvidia_driver.version) if self.machine.nvidia_driver else ()
        rows = self.catalog.reports.get(self._system, ())
        return next((cuda for first, cuda in reversed(rows) if first <= version), None)

    @cached_property
    def cuda(self) -> tuple[int, int] | None:
        """The newest CUDA the driver supports natively: as it reports, else by its branch; None where not known."""
        driver = self.machine.nvidia_driver
        reported = number(driver.cuda or "") if driver else ()
        return (reported[0], reported[1]) if len(reported) >= 2 else self._branch

    @cached_property
    def unsupported(self) -> str | None:
        """Why PyTorch has no wheel at all for this platform, one clause; None where it has."""
        if (self.machine.platform.libc or "").startswith("musl"):
            return "PyTorch has no wheels for musl libc (Alpine and the like); it needs glibc"
        if self.platform not in PLATFORMS:
            return f"PyTorch has no wheels for {platform_name(self.platform)}"
        return None

    def least_driver(self, major: int) -> str:
        """The oldest driver for a CUDA major; one older or newer than all of the table needs what the nearest needs."""
        known = self.catalog.minimum_driver
        return known[min(max(major, min(known)), max(known))][self._system]

    def is_native(self, backend: Backend) -> bool:
        """Whether the driver's own CUDA is at least the build's; builds of other families always run as they are."""
        return backend.family != "cu" or (self.cuda is not None and backend.version <= self.cuda)

    def preference(self, backend: Backend) -> tuple[object, ...]:
        """Sort key among backends of one family with the same torch: the greatest is taken."""
        if backend.family != "cu":
            return 0, -sum(since(backend, (first,)) for first in self.catalog.split), backend.rank
        native = self.is_native(backend)
        # Natively supported: the highest. By minor-version compatibility: the lowest, which differs least.
        return backend.version[0], native, backend.version[1] if native else -backend.version[1]

    def fault(self, gpus: tuple[Gpu, ...], backend: Backend, release: str, need: Need) -> Fault | None:
        """Why a build does not run here on all of `gpus` as `need` asks for it, or None if it does.

        What of the release is asked for (`need.releases`) does not count here.
        """
        wheel = self._wheel_fault(backend, release, need)
        if wheel:
            return wheel
        faults = filter(None, (self.driver_fault(backend), self.kernel_fault(gpus, backend, release)))
        return min(faults, key=lambda fault: STEPS.index(fault.step), default=None)

    def _wheel_fault(self, backend: Backend, release: str, need: Need) -> Fault | None:
        build, place = self.catalog.build(backend, release, self.platform), platform_name(self.platform)
        if build is None:
            return Fault("platform", f"has no wheel for {place}")
        if not need.pythons & build.pythons:
            return Fault("python", f"has no wheel for {python_text(need.pythons)} on {place}")
        lacks = [name for name in sorted(need.packages) if release in self.catalog.lacking.get((name, backend), ())]
        missing = Fault("package", f"has no {' and no '.join(lacks)} on the index of {backend}") if lacks else None
        return self.system_fault(backend, release) or missing

    def system_fault(self, backend: Backend, release: str) -> Fault | None:
        """Why the machine's glibc or macOS is too old for a build, or None; an unknown one is taken as new enough."""
        platform, known = self.machine.platform, self.catalog.oldest
        name, said = "glibc", (platform.libc or "").removeprefix("glibc ")
        least: tuple[int, ...] = (2, 17)
        if platform.system == "macos":
            name, said, least = "macOS", platform.os_version or "", (0, 0)
        least = known.get((self.platform, backend, release)) or known.get((self.platform, None, release), least)
        if not number(said) or number(said) >= least:
            return None
        return Fault("system", f"needs {name} >= {'.'.join(map(str, least))}", f"this machine has {said}")

    def driver_fault(self, backend: Backend) -> Fault | None:
        """Why the machine's NVIDIA driver does not run builds of a CUDA major, or None."""
        if backend.family != "cu":
            return None
        driver, major = self.machine.nvidia_driver, backend.version[0]
        if driver is None:
            return Fault("driver", "needs an NVIDIA driver", "its version here is not known")
        here, least = f"this machine has {driver.version}", self.least_driver(major)
        if self.cuda and self.cuda[0] < major > max(self.catalog.minimum_driver):
            return Fault("driver", f"needs a driver for CUDA {major}", here)
        if number(driver.version) >= number(least) or self._forward_compatible(driver, major):
            return None
        return Fault("driver", f"needs a driver >= {least}", here)

    def _forward_compatible(self, driver: Driver, major: int) -> bool:
        """Whether NVIDIA's forward-compatibility package is in use: a libcuda newer than its kernel driver.

        It works on Linux, on data-centre GPUs, from a driver of its own minimum on
        (https://docs.nvidia.com/deploy/cuda-compatibility/).
        """
        own, known = self._branch, self.catalog.forward_driver
        if self.machine.platform.system != "linux" or own is None or self.cuda is None:
            return False
        newer = self.cuda > own and self.cuda[0] >= major
        reached = number(driver.version) >= number(known.get(major) or known[max(known)])
        return newer and reached and not any("geforce" in gpu.name.lower() for gpu in self.machine.gpus)

    def kernel_fault(self, gpus: tuple[Gpu, ...], backend: Backend, release: str) -> Fault | None:
        """Why a build's kernels do not serve all of `gpus`, or None. GPUs of unknown capability are taken as served."""
        if backend.family == "rocm":
            return self._rocm_fault(gpus, backend, release)
        if backend.family == "xpu":
            missing = [gpu for gpu in gpus if not self.intel_supported(gpu)]
            return Fault("kernels", f"does not support {labels(missing)}") if missing else None
        kinds = {gpu[:3]: gpu for gpu in gpus if backend.family == "cu"}  # eight alike are judged once
        faults = (self._cuda_fault(gpu, backend, release) for gpu in kinds.values())
        return next(filter(None, faults), None)

    def _rocm_fault(self, gpus: tuple[Gpu, ...], backend: Backend, release: str) -> Fault | None:
        devices = self.catalog.devices.get(backend)
        if devices is None:
            return Fault("kernels", "is not known to have kernels for any GPU")
        missing = [gpu for gpu in gpus if gpu.architecture not in devices]
        if missing:
            return Fault("kernels", f"has no kernels for {labels(missing)}")
        here = {gpu.architecture for gpu in gpus}
        for (gfx, first), (releases, reason) in self.catalog.unusable.items():
            if gfx in here and since(backend, (first,)) and (not releases or release in releases):
                return Fault("kernels", f"cannot be used: {reason}")
        return None

    def _cuda_fault(self, gpu: Gpu, backend: Backend, release: str) -> Fault | None:
        kernels, device = self.catalog.kernels.get((backend, release, self.platform)), capability(gpu)
        if kernels is None or device is None:
            return None
        compiled = any(runs_code(code, device, backend, self.platform) for code in kernels.codes)
        if compiled or (self.is_newer(gpu) and (backend, release) == self._newest_native):
            return None
        if kernels.ptx is None or kernels.ptx > device:
            return Fault("kernels", f"has no kernels for {label(gpu)}")
        if self.is_native(backend):
            return None
        version = ".".join(map(str, backend.version))
        driver = self.machine.nvidia_driver
        here = f"this one is {driver.version if driver else 'none'}"
        return Fault("driver", f"has only PTX for {label(gpu)}: needs a driver for CUDA {version}", here)

    @cached_property
    def _newest_native(self) -> tuple[Backend, str] | None:
        """The newest build of the newest CUDA that the driver supports: to be tried on a GPU newer than the catalog."""
        native = ((backend, release) for backend, release in self.served("cu") if self.is_native(backend))
        return max(native, key=lambda build: (build[0].version, number(build[1])), default=None)

    def served(self, family: str) -> Iterator[tuple[Backend, str]]:
        """The builds of a family that have a wheel for this platform."""
        for backend, index in self.catalog.builds.items():
            if backend.family == family:
                yield from ((backend, release) for release, cells in index.items() if self.platform in cells)

    @cached_property
    def _newest_major(self) -> float:
        """The major of the newest compute capability that some known build for this platform has code for."""
        rows = self.catalog.kernels.items()
        codes = (kernels.codes[-1] for (*_, platform), kernels in rows if platform == self.platform)
        return max(codes, default=(float("inf"),))[0]

    def is_newer(self, gpu: Gpu) -> bool:
        """Whether an NVIDIA GPU is newer than every GPU that some known build for this platform has code for."""
        device = capability(gpu)
        return device is not None and device[0] > self._newest_major

    @cached_property
    def known_architectures(self) -> frozenset[str]:
        """The AMD architectures that some build has kernels for."""
        return frozenset().union(*self.catalog.devices.values())

    def is_last_in(self, gpus: tuple[Gpu, ...], backend: Backend, release: str) -> bool:
        """Whether a CUDA build has kernels for nothing older than one of the GPUs, which later builds drop first."""
        kernels = self.catalog.kernels.get((backend, release, self.platform))
        devices = [device for device in map(capability, gpus) if device]
        return kernels is not None and any(device < kernels.codes[:2][-1] for device in devices)

    def intel_supported(self, gpu: Gpu) -> bool:
        """Whether PyTorch's XPU backend supports an Intel GPU: by PCI id, else by name."""
        name, known = gpu.name.lower(), intel.lookup(gpu.pci_id)
        named = not gpu.pci_id and any(part.lower() in name for part in self.catalog.intel_names)
        # The Data Center GPU Max has drivers for Linux only.
        elsewhere = self.platform != "linux_x86_64" and (known.architecture == "pvc" if known else "gpu max" in name)
        return not elsewhere and (known.supported if known else named)

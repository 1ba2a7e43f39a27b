"""Whether one build runs on one machine, and which of the machine's GPUs a build would have to run on. Pure.

A CUDA build runs where the driver is at least the minimum of its CUDA major (minor-version compatibility) and it has
compiled kernels for the GPU. A GPU that only its PTX would serve needs a driver whose own CUDA is at least the build's.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from uvtorch import intel
from uvtorch.backend import PLATFORMS, Backend
from uvtorch.catalog import Catalog, number
from uvtorch.machine import Driver, Gpu, Machine, Platform

FAMILY = {"nvidia": "cu", "amd": "rocm", "intel": "xpu"}
"""Vendor -> backend family."""


STEPS = ("gpu", "release", "platform", "python", "libc", "kernels", "driver")
"""What a build can fail on, in the order in which it is checked: a later one is a nearer miss."""


class Fault(NamedTuple):
    """Why a build does not run here: `torch 2.15.0` + `text` is a sentence."""

    step: str
    text: str
    here: str = ""
    """What this machine has instead: `this machine has 535.183.01`."""

    def __str__(self) -> str:
        return f"{self.text}; {self.here}" if self.here else self.text


class Hardware(NamedTuple):
    """The GPUs that count on a machine, and what to say of the others."""

    family: str
    """The backend family they need; `cpu` where no GPU counts."""
    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: str | None = None
    """A GPU is there that must not be passed over in silence, and no build can be chosen for it."""
    hints: tuple[str, ...] = ()


def platform_name(key: str) -> str:
    """A platform for people: `Linux x86_64`, `macOS on Intel`."""
    names = {
        "windows_amd64": "Windows",
        "windows_arm64": "Windows on Arm",
        "macos_arm64": "macOS on Apple silicon",
        "macos_x86_64": "macOS on Intel",
    }
    system, _, machine = key.partition("_")
    return names.get(key) or f"{system.capitalize()} {machine}"


def unsupported_platform(platform: Platform) -> str | None:
    """Why PyTorch has no wheel at all for this platform, one sentence; None where it has."""
    if platform.libc and platform.libc.startswith("musl"):
        return "PyTorch has no wheels for musl libc (Alpine and the like); it needs glibc."
    if platform.key not in PLATFORMS:
        return f"PyTorch has no wheels for {platform_name(platform.key)}."
    return None


def label(gpu: Gpu) -> str:
    """`NVIDIA H100 (9.0)`, `MI300X (gfx942)`."""
    detail = gpu.compute_capability or (gpu.architecture if gpu.vendor == "amd" else None)
    return f"{gpu.name} ({detail})" if detail and detail not in gpu.name else gpu.name


def labels(gpus: tuple[Gpu, ...]) -> str:
    """All GPUs in a clause: `8 x NVIDIA H100 (9.0), NVIDIA T400 (7.5)`."""
    counts: dict[str, int] = {}
    for gpu in gpus:
        counts[label(gpu)] = counts.get(label(gpu), 0) + 1
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())


def driver_cuda(driver: Driver | None, system: str, catalog: Catalog) -> tuple[int, int] | None:
    """The newest CUDA a driver supports natively: as it reports, else by its branch; None where neither is known."""
    if driver is None:
        return None
    if driver.cuda:
        reported = number(driver.cuda)
        if len(reported) >= 2:
            return reported[0], reported[1]
    version = number(driver.version)
    rows = catalog.reports.get("windows" if system == "windows" else "linux", ())
    return next((cuda for first, cuda in reversed(rows) if first <= version), None)


def driver_fault(machine: Machine, backend: Backend, catalog: Catalog) -> Fault | None:
    """Why the machine's NVIDIA driver does not run builds of a CUDA major, or None."""
    driver, system = machine.nvidia_driver, machine.platform.system
    if driver is None:
        return Fault("driver", "needs an NVIDIA driver", "its version here is not known")
    known = catalog.minimum_driver
    major = backend.version[0]
    row = known.get(major)
    if row is None:
        # A major newer than all of the table needs at least the newest one's driver, an older one at most the oldest's.
        row = known[max(known) if major > max(known) else min(known)]
    least = row["windows" if system == "windows" else "linux"]
    cuda = driver_cuda(driver, system, catalog)
    if major > max(known) and cuda and cuda[0] < major:
        return Fault("driver", f"needs a driver for CUDA {major}", f"this machine has {driver.version}")
    # A libcuda newer than the kernel driver (forward compatibility packages) reports the CUDA that it brings.
    if number(driver.version) >= number(least) or number(driver.cuda or "")[:1] >= (major,):
        return None
    return Fault("driver", f"needs a driver >= {least}", f"this machine has {driver.version}")


def is_native(machine: Machine, backend: Backend, catalog: Catalog) -> bool:
    """Whether the driver's own CUDA is at least the build's; builds of other families always run as they are."""
    if backend.family != "cu":
        return True
    cuda = driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
    return cuda is not None and backend.version <= cuda


def runs_code(code: tuple[int, int], device: tuple[int, int], backend: Backend, platform: str) -> bool:
    """Whether code compiled for one compute capability runs on a device of another."""
    if device == (10, 1):
        device = (11, 0)
    if code[0] != device[0] or device[1] < code[1]:
        return False
    if device == (8, 7):
        return code == (8, 7) or (platform == "linux_aarch64" and backend.version >= (13, 2))
    return not (device in ((5, 3), (6, 2), (7, 2)) and code != device)


def kernel_fault(
    machine: Machine, gpus: tuple[Gpu, ...], backend: Backend, release: str, catalog: Catalog
) -> Fault | None:
    """Why a build's kernels do not serve all of `gpus`, or None. GPUs of unknown capability are taken as served."""
    if backend.family == "rocm":
        devices = catalog.devices.get(backend)
        if devices is None:
            return Fault("kernels", "is not known to have kernels for any GPU")
        missing = tuple(gpu for gpu in gpus if gpu.architecture not in devices.architectures)
        return Fault("kernels", f"has no kernels for {labels(missing)}") if missing else None
    if backend.family == "xpu":
        missing = tuple(gpu for gpu in gpus if not intel_supported(gpu, machine.platform.key, catalog))
        return Fault("kernels", f"does not support {labels(missing)}") if missing else None
    if backend.family != "cu":
        return None
    platform = machine.platform.key
    kernels = catalog.kernels.get((backend, release, platform))
    for gpu in gpus:
        device = capability(gpu)
        if kernels is None or device is None:
            continue
        if any(runs_code(code, device, backend, platform) for code in kernels.codes):
            continue
        if kernels.ptx is None or kernels.ptx > device:
            return Fault("kernels", f"has no kernels for {label(gpu)}")
        if not is_native(machine, backend, catalog):
            need = ".".join(map(str, backend.version))
            has = machine.nvidia_driver.version if machine.nvidia_driver else "none"
            return Fault(
                "driver", f"has only PTX for {label(gpu)}: needs a driver for CUDA {need}", f"this one is {has}"
            )
    return None


def capability(gpu: Gpu) -> tuple[int, int] | None:
    """An NVIDIA GPU's compute capability as numbers, None where it is not known."""
    found = number(gpu.compute_capability or "")
    return (found[0], found[1]) if len(found) == 2 else None


def intel_supported(gpu: Gpu, platform: str, catalog: Catalog) -> bool:
    """Whether PyTorch's XPU backend supports an Intel GPU: by PCI id, else by name."""
    if gpu.pci_id:
        known = intel.lookup(gpu.pci_id)
        architecture, supported = (known.architecture, known.supported) if known else ("", False)
    else:
        name = gpu.name.lower()
        architecture = "pvc" if "data center gpu max" in name else ""
        supported = any(part.lower() in name for part in catalog.intel_names)
    # The Data Center GPU Max has drivers for Linux only.
    return supported and (architecture != "pvc" or platform == "linux_x86_64")


def fault(
    machine: Machine,
    gpus: tuple[Gpu, ...],
    backend: Backend,
    release: str,
    pythons: frozenset[str],
    catalog: Catalog,
) -> Fault | None:
    """Why (backend, release) does not run on this machine with any of `pythons`, or None if it does.

    `gpus` are those it must run on; `pythons` as `3.12` or `3.14t`.
    """
    platform = machine.platform.key
    cells = catalog.builds.get(backend, {}).get(release)
    if cells is None:
        return Fault("release", f"is not built for {backend}")
    build = cells.get(platform)
    if build is None:
        return Fault("platform", f"has no wheel for {platform_name(platform)}")
    if not pythons & build.pythons:
        return Fault("python", f"has no wheel for {python_text(pythons)} on {platform_name(platform)}")
    libc = libc_fault(machine.platform, release, catalog)
    if libc:
        return libc
    if backend.family == "cpu":
        return None
    kernels = kernel_fault(machine, gpus, backend, release, catalog)
    if kernels and kernels.step == "kernels":
        return kernels
    return (driver_fault(machine, backend, catalog) if backend.family == "cu" else None) or kernels


def python_text(pythons: frozenset[str]) -> str:
    """The Pythons of a request in a clause."""
    only = next(iter(pythons), "")
    return f"Python {only}" if len(pythons) == 1 else "any Python of requires-python"


def libc_fault(platform: Platform, release: str, catalog: Catalog) -> Fault | None:
    """Why the machine's glibc is too old for a release's wheels, or None; an unknown one is taken as new enough."""
    if not platform.libc or not platform.libc.startswith("glibc "):
        return None
    mine = number(platform.libc.removeprefix("glibc "))
    least = (2, 17)
    for where, first, glibc in catalog.glibc:
        if where == platform.key and number(release) >= number(first):
            least = (glibc[0], glibc[1])
    if not mine or mine >= least:
        return None
    return Fault("libc", f"needs glibc >= {least[0]}.{least[1]}", f"this machine has {'.'.join(map(str, mine))}")


def hardware(machine: Machine, catalog: Catalog) -> Hardware:
    """Which GPUs of a machine the build must run on.

    One vendor's GPUs are taken: cards before GPUs in the processor, then NVIDIA, AMD, Intel. What is passed over:

    - a GPU for which PyTorch has no build on this platform at all (AMD on Windows, an Intel GPU that XPU does not
      support, an unsupported GPU inside an AMD processor): the next vendor's, else the CPU with one warning;
    - a GPU whose device files a container does not have: the same;
    - an AMD card whose architecture no known build has kernels for: the next vendor's with a warning, else a refusal;
    - a GPU whose driver is broken: a refusal, unless a vendor before it has usable GPUs.
    """
    broken = {problem.vendor: problem for problem in machine.problems if problem.kind == "broken"}
    passed: list[str] = []
    notes = [
        f"{problem.reason.rstrip('.')}: taking the CPU build"
        for problem in machine.problems
        if problem.kind == "unreachable" and not any(gpu.vendor == problem.vendor for gpu in machine.gpus)
    ]
    refused: Hardware | None = None
    for vendor, gpus in _groups(machine, broken.keys()):
        problem = broken.get(vendor)
        never = _never(machine, vendor, gpus, catalog) if gpus else None
        if never:
            passed.append(never)
            continue
        if problem:
            hints = ((problem.remedy,) if problem.remedy else ()) + ("for the CPU build say --torch-backend cpu",)
            return refused or Hardware("cpu", gpus, (), f"{problem.reason.rstrip('.')}.", hints)
        unknown = _unknown(vendor, gpus, catalog)
        if unknown:
            refused = refused or unknown
            continue
        # An Intel iGPU beside an Arc card is simply not used.
        used = tuple(gpu for gpu in gpus if vendor != "intel" or intel_supported(gpu, machine.platform.key, catalog))
        warnings = [refused.refusal] if refused and refused.refusal else []
        return Hardware(FAMILY[vendor], used, tuple(warnings))
    if refused:
        return refused
    return Hardware("cpu", (), tuple(passed + notes))


def _groups(machine: Machine, broken: Collection[str]) -> list[tuple[str, tuple[Gpu, ...]]]:
    """(vendor, GPUs) in the order of preference; a vendor with a broken driver is there even without GPUs."""
    found = []
    vendors = list(FAMILY)
    for integrated in (False, True):
        for vendor in vendors:
            gpus = tuple(
                gpu
                for gpu in machine.gpus
                if gpu.vendor == vendor and (gpu.integrated and vendor != "nvidia") == integrated
            )
            listed = any(gpu.vendor == vendor for gpu in machine.gpus)
            if gpus or (not integrated and not listed and vendor in broken):
                found.append((vendor, gpus))
    return found


def _never(machine: Machine, vendor: str, gpus: tuple[Gpu, ...], catalog: Catalog) -> str | None:
    """Why no build ever uses these GPUs on this platform, or None."""
    platform, family = machine.platform.key, FAMILY[vendor]
    served = any(
        platform in cells
        for backend, index in catalog.builds.items()
        if backend.family == family
        for cells in index.values()
    )
    if not served:
        other = (
            "; AMD publishes its own (repo.radeon.com)"
            if (vendor, machine.platform.system) == ("amd", "windows")
            else ""
        )
        where = platform_name(platform)
        kind = {"cu": "CUDA", "rocm": "ROCm", "xpu": "XPU"}[family]
        return f"{labels(gpus)} stays idle: PyTorch has no {kind} wheels for {where}{other}"
    if vendor == "intel" and not any(intel_supported(gpu, platform, catalog) for gpu in gpus):
        return f"{labels(gpus)} stays idle: PyTorch's XPU backend does not support it"
    if vendor == "amd" and all(gpu.integrated for gpu in gpus) and _unknown(vendor, gpus, catalog):
        return f"{labels(gpus)} stays idle: no known PyTorch build has kernels for it"
    return None


def _unknown(vendor: str, gpus: tuple[Gpu, ...], catalog: Catalog) -> Hardware | None:
    """The refusal for AMD cards that no known build has kernels for, else None."""
    if vendor != "amd":
        return None
    known = frozenset().union(*(devices.architectures for devices in catalog.devices.values()))
    if any(gpu.architecture in known for gpu in gpus):
        return None
    if any(gpu.architecture is None for gpu in gpus):
        hints = ("UV_AMD_GPU_ARCHITECTURE names it, such as gfx1100", "for the CPU build say --torch-backend cpu")
        return Hardware("cpu", gpus, (), f"The architecture of {labels(gpus)} is not known.", hints)
    return Hardware(
        "cpu",
        gpus,
        (),
        f"No known PyTorch build has kernels for {labels(gpus)}.",
        (
            "HSA_OVERRIDE_GFX_VERSION makes ROCm treat it as a near relative, at your own risk",
            "for the CPU build say --torch-backend cpu",
        ),
    )


def best_of(
    machine: Machine,
    gpus: tuple[Gpu, ...],
    releases: Sequence[str],
    tags: frozenset[str],
    family: str,
    catalog: Catalog,
) -> tuple[Backend, str] | None:
    """The best (backend, release) of a family, releases given newest first; None if none fits."""
    cuda = driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
    backends = [backend for backend in catalog.builds if backend.family == family]
    for release in releases:
        fitting = [
            backend
            for backend in backends
            if release in catalog.builds[backend] and not fault(machine, gpus, backend, release, tags, catalog)
        ]
        if fitting:
            return max(fitting, key=lambda backend: preference(backend, cuda, catalog)), release
    return None


def preference(backend: Backend, cuda: tuple[int, int] | None, catalog: Catalog) -> tuple[object, ...]:
    """Sort key among backends of one family with the same torch: the greatest is taken."""
    if backend.family != "cu":
        return 0, backend not in catalog.split, backend.rank
    native = cuda is not None and backend.version <= cuda
    # Natively supported: the highest. By minor-version compatibility: the lowest, which differs least.
    return backend.version[0], native, backend.version[1] if native else -backend.version[1]


def gpus_for(machine: Machine, backend: Backend, catalog: Catalog) -> tuple[Gpu, ...]:
    """The GPUs that a backend is for: cards before those in the processor, of Intel's the supported ones, if any."""
    gpus = tuple(gpu for gpu in machine.gpus if FAMILY.get(gpu.vendor) == backend.family)
    if backend.family == "cu":
        return gpus
    if backend.family == "xpu":
        gpus = tuple(gpu for gpu in gpus if intel_supported(gpu, machine.platform.key, catalog)) or gpus
    return tuple(gpu for gpu in gpus if not gpu.integrated) or gpus

"""uv's own rule for `--torch-backend auto`, written down from its published table (uv-torch backend.rs, uv 0.13.8).

By the driver all CUDA indexes that it may run, highest first, then the CPU's; the first index that has a match wins.
The compute capability does not count, of several GPUs the first one, of AMD's the lowest architecture.
"""

from uvtorch.backend import Backend, parse
from uvtorch.catalog import Catalog, number
from uvtorch.choose import Request
from uvtorch.choose.compatibility import Judge
from uvtorch.choose.request import read
from uvtorch.machine import Machine

CUDA = [f"cu{version}" for version in (132, 130, 129, 128, 126, 125, 124, 123, 122, 121, 120, 118, 117, 116)]
DRIVERS = {
    "linux": {13: "580", 12: "525.60.13", 11: "450.80.02"},
    "windows": {13: "580", 12: "528.33", 11: "452.39"},
}
ROCM6 = ("900", "906", "908", "90a", "942", "1030", "1100")
ROCM624 = (*ROCM6, "1101", "1102", "1200", "1201")
ROCM7 = (*ROCM624, "950")
AMD = {
    "6.0": ROCM6,
    "6.1": (*ROCM6, "1101"),
    "6.2": ROCM6,
    "6.2.4": ROCM624,
    "6.3": ROCM624,
    "6.4": ROCM624,
    "7.0": ROCM7,
    "7.1": ROCM7,
    "7.2": (*ROCM7, "1150", "1151"),
}


def indexes(machine: Machine) -> list[Backend]:
    """The indexes that uv searches on a machine, in order."""
    names: list[str] = []
    amd = sorted(gpu.architecture or "" for gpu in machine.gpus if gpu.vendor == "amd")
    if machine.nvidia_driver and machine.platform.system != "macos":
        least = DRIVERS["windows" if machine.platform.system == "windows" else "linux"]
        driver = number(machine.nvidia_driver.version)
        names = [name for name in CUDA if driver >= number(least[int(name[2:4])])]
    elif amd and machine.platform.system == "linux":
        gfx = amd[0].removeprefix("gfx")
        names = [f"rocm{version}" for version in sorted(AMD, key=number, reverse=True) if gfx in AMD[version]]
    elif any(gpu.vendor == "intel" for gpu in machine.gpus):
        names = ["xpu"]
    found = [parse(name) for name in [*names, "cpu"]]
    return [backend for backend in found if backend]


def choose(machine: Machine, request: Request, catalog: Catalog) -> tuple[Backend, str] | None:
    """The build that uv takes, None if it finds none."""
    need, judge = read(machine, request, catalog), Judge(machine, catalog)
    for backend in indexes(machine):
        for release in need.releases:
            build = catalog.builds.get(backend, {}).get(release, {}).get(machine.platform.key)
            if build and build.pythons & need.pythons and not judge.system_fault(backend, release):
                return backend, release
    return None

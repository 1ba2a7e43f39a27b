"""The machine as facts: what `uvtorch torch detect --json` prints and `UVTORCH_HARDWARE` reads back (schema 1).

Pure: types and their JSON form. The probes that fill it are in `hardware`.
"""

from typing import Final, NamedTuple

SCHEMA: Final = 1


class Platform(NamedTuple):
    """The operating system as PyTorch's wheels see it."""

    system: str
    """`linux`, `windows` or `macos`."""
    machine: str
    """`x86_64`, or `aarch64` (Linux) / `arm64` (Windows, macOS)."""
    libc: str | None = None
    """`glibc 2.36`, `musl 1.2` or None where it does not apply or is not known."""
    wsl: bool = False
    container: bool = False

    @property
    def key(self) -> str:
        """The catalog's key for this platform, such as `linux_x86_64`, `windows_amd64` or `macos_arm64`."""
        machine = {"aarch64": "arm64", "x86_64": "x86_64"}.get(self.machine, self.machine)
        if self.system == "linux":
            return f"linux_{'aarch64' if machine == 'arm64' else machine}"
        if self.system == "windows":
            return f"windows_{'amd64' if machine == 'x86_64' else machine}"
        return f"{self.system}_{machine}"


class Gpu(NamedTuple):
    """One visible GPU. What a vendor does not have, or could not be asked, is None."""

    vendor: str
    """`nvidia`, `amd`, `intel` or `apple`."""
    name: str
    compute_capability: str | None = None
    """NVIDIA: `9.0`."""
    architecture: str | None = None
    """AMD: `gfx942`."""
    memory_mib: int | None = None
    uuid: str | None = None
    pci_id: str | None = None
    """`vendor:device` in hexadecimal: `8086:56a0`."""
    mig: bool = False
    """NVIDIA: a MIG slice rather than a whole GPU."""
    integrated: bool = False
    """AMD, Intel: part of the processor rather than a card."""


class Driver(NamedTuple):
    """NVIDIA's driver."""

    version: str
    """`570.124.06`."""
    cuda: str | None = None
    """The newest CUDA it supports natively, as it reports: `12.8`."""


class Problem(NamedTuple):
    """Hardware that is there and cannot be used as it should."""

    vendor: str
    kind: str
    """`broken`: present but its driver does not answer, an error wherever a GPU build would be chosen;
    `unreachable`: on the bus of a container without device files, which gives the CPU build and one line."""
    reason: str
    remedy: str = ""


class Probe(NamedTuple):
    """How one probe ended."""

    probe: str
    outcome: str
    """`ok`, `absent`, `failed` or `skipped`."""
    detail: str = ""
    ms: float = 0.0


class Machine(NamedTuple):
    """Everything the choice may know of a machine."""

    platform: Platform
    gpus: tuple[Gpu, ...] = ()
    nvidia_driver: Driver | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """Facts worth a line to a person: an override in force, a GPU hidden by CUDA_VISIBLE_DEVICES, Rosetta."""
    probes: tuple[Probe, ...] = ()

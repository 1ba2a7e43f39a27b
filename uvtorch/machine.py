"""The machine as facts: what `uvtorch torch detect --json` prints and `UVTORCH_HARDWARE` reads back (schema 1).

Pure: types and their JSON form. The probes that fill it are in `hardware`.
"""

from uvtorch.errors import MachineError
from uvtorch.named import NamedTuple

SCHEMA = 1

SIZE_LIMIT = 1024 * 1024
"""The largest description that is read, in bytes. A machine with 16 GPUs in 112 MIG slices takes 30,000."""


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
    tegra: str | None = None
    """A Jetson: its L4T release, `R36.4.3`, or `unknown release`."""

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
    """AMD: `gfx942`. Intel: the chip's short name, `dg2` (see `uvtorch.intel`)."""
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
    `unreachable`: on the bus, but nothing here could drive it (a container without device files, no driver installed,
    given to a virtual machine), which gives the CPU build and one line."""
    reason: str
    """One clause without a full stop."""
    remedy: str = ""
    """What to do, as sentences; may be empty."""


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


_VENDORS = ("nvidia", "amd", "intel", "apple")
_OUTCOMES = ("ok", "absent", "failed", "skipped")
_KINDS = ("broken", "unreachable")


def to_json(machine: Machine) -> str:
    """The description of a machine: JSON of schema 1, the same text for the same machine."""
    import json

    platform = machine.platform
    described = {
        "schema": SCHEMA,
        "platform": {
            "system": platform.system,
            "machine": platform.machine,
            "libc": platform.libc,
            "wsl": platform.wsl,
            "container": platform.container,
            **({"tegra": platform.tegra} if platform.tegra else {}),
        },
        "gpus": [
            {name: value for name, value in gpu._asdict().items() if value is not None and value is not False}
            for gpu in machine.gpus
        ],
        "nvidia_driver": machine.nvidia_driver._asdict() if machine.nvidia_driver else None,
        "problems": [problem._asdict() for problem in machine.problems],
        "notes": list(machine.notes),
        "probes": [probe._asdict() for probe in machine.probes],
    }
    return json.dumps(described, indent=2)


def from_json(text: str | bytes, origin: str) -> Machine:
    """Read a description; `origin` names it in errors. Only `schema`, `platform.system` and `.machine` are required.

    Fields that this version does not know are passed over. Raises MachineError for anything that is not a description
    of schema 1: broken or truncated JSON, a newer schema, values of the wrong type or form, text that would act on a
    terminal, more than `SIZE_LIMIT` bytes.
    """
    import json

    if len(text) > SIZE_LIMIT:
        raise _unreadable(origin, f"it is larger than {SIZE_LIMIT} bytes")
    if not text.strip():
        raise _unreadable(origin, "it is empty")
    try:
        # Bytes may be UTF-8 with or without a byte order mark, or UTF-16, which PowerShell's `>` writes.
        data = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise _unreadable(origin, "it is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(origin, f"it is not valid JSON ({error})") from None
    return _Reader(origin).machine(data)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unreadable(origin: str, reason: str, *hints: str) -> MachineError:
    return MachineError(
        f"{origin} is not a description of a machine: {reason}",
        *(hints or ("Write one with `uvtorch torch detect --json > FILE` on the machine it describes.",)),
    )


class _Reader:
    """Takes a parsed description apart, field by field, with the field's place in every error."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def machine(self, data: object) -> Machine:
        top = self.row(data, "it")
        schema = top.get("schema")
        if type(schema) is not int or schema < 1:
            raise _unreadable(self.origin, '"schema" is missing or not a number')
        if schema > SCHEMA:
            raise _unreadable(
                self.origin, f"its schema {schema} is newer than this uvtorch, which reads {SCHEMA}", "Update uvtorch."
            )
        driver = top.get("nvidia_driver")
        return Machine(
            self.platform(self.row(top.get("platform"), '"platform"')),
            tuple(self.gpu(item, place) for item, place in self.items(top, "gpus")),
            None if driver is None else self.driver(self.row(driver, '"nvidia_driver"')),
            tuple(self.problem(item, place) for item, place in self.items(top, "problems")),
            tuple(self.plain(item, place) for item, place in self.items(top, "notes")),
            tuple(self.probe(item, place) for item, place in self.items(top, "probes")),
        )

    def platform(self, row: dict[str, object]) -> Platform:
        place = '"platform"'
        system = self.choice(row, "system", ("linux", "windows", "macos"), place)
        machine = self.text(row, "machine", place)
        if machine is None or not machine.replace("_", "").isalnum() or not machine.isascii():
            raise self.wrong(f"{place}.machine", "a processor architecture such as x86_64, aarch64 or arm64")
        machine = machine.lower()
        if machine in ("aarch64", "arm64"):
            machine = "aarch64" if system == "linux" else "arm64"
        return Platform(
            system,
            "x86_64" if machine in ("amd64", "x64") else machine,
            self.text(row, "libc", place),
            self.flag(row, "wsl", place),
            self.flag(row, "container", place),
            self.text(row, "tegra", place),
        )

    def gpu(self, item: object, place: str) -> Gpu:
        row = self.row(item, place)
        vendor = self.choice(row, "vendor", _VENDORS, place)
        capability = self.text(row, "compute_capability", place)
        if capability is not None and not (_is_version(capability) and capability.count(".") == 1):
            raise self.wrong(f"{place}.compute_capability", "two numbers such as 9.0")
        pci_id = self.text(row, "pci_id", place)
        if pci_id is not None and not (len(pci_id) == 9 and pci_id[4] == ":" and _is_hex(pci_id[:4] + pci_id[5:])):
            raise self.wrong(f"{place}.pci_id", "vendor and device in hexadecimal, such as 8086:56a0")
        memory = row.get("memory_mib")
        if memory is not None and not (type(memory) is int and 0 <= memory < 2**63):
            raise self.wrong(f"{place}.memory_mib", "a whole number")
        architecture = self.text(row, "architecture", place)
        if architecture is not None and not architecture.replace("-", "").isalnum():
            raise self.wrong(f"{place}.architecture", "a name such as gfx942")
        return Gpu(
            vendor,
            self.text(row, "name", place) or f"{vendor} GPU",
            capability,
            architecture,
            memory,
            self.text(row, "uuid", place),
            pci_id.lower() if pci_id else None,
            self.flag(row, "mig", place),
            self.flag(row, "integrated", place),
        )

    def driver(self, row: dict[str, object]) -> Driver:
        version, cuda = self.text(row, "version", '"nvidia_driver"'), self.text(row, "cuda", '"nvidia_driver"')
        if version is None or not _is_version(version):
            raise self.wrong('"nvidia_driver".version', "a driver's version such as 570.124.06")
        if cuda is not None and not (_is_version(cuda) and cuda.count(".") == 1):
            raise self.wrong('"nvidia_driver".cuda', "a version of CUDA such as 12.8")
        return Driver(version, cuda)

    def problem(self, item: object, place: str) -> Problem:
        row = self.row(item, place)
        return Problem(
            self.choice(row, "vendor", _VENDORS, place),
            self.choice(row, "kind", _KINDS, place),
            self.text(row, "reason", place) or "unknown",
            self.text(row, "remedy", place) or "",
        )

    def probe(self, item: object, place: str) -> Probe:
        row = self.row(item, place)
        ms = row.get("ms", 0.0)
        if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms < 1e9:
            raise self.wrong(f"{place}.ms", "a number of milliseconds")
        return Probe(
            self.text(row, "probe", place) or "unknown",
            self.choice(row, "outcome", _OUTCOMES, place),
            self.text(row, "detail", place) or "",
            float(ms),
        )

    def wrong(self, place: str, expected: str) -> MachineError:
        return _unreadable(self.origin, f"{place} must be {expected}")

    def row(self, value: object, place: str) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self.wrong(place, "an object")
        return value

    def items(self, row: dict[str, object], name: str) -> list[tuple[object, str]]:
        value = row.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > 4096:
            raise self.wrong(f'"{name}"', "a list of at most 4096")
        return [(item, f'"{name}"[{number}]') for number, item in enumerate(value)]

    def flag(self, row: dict[str, object], name: str, place: str) -> bool:
        value = row.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(f"{place}.{name}", "true or false")
        return bool(value)

    def text(self, row: dict[str, object], name: str, place: str) -> str | None:
        value = row.get(name)
        return None if value is None else self.plain(value, f"{place}.{name}")

    def plain(self, value: object, place: str) -> str:
        if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
            raise self.wrong(place, "one line of printable text")
        return value

    def choice(self, row: dict[str, object], name: str, choices: tuple[str, ...], place: str) -> str:
        value = row.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(f"{place}.{name}", f"{', '.join(choices[:-1])} or {choices[-1]}")
        return value


def _is_version(text: str) -> bool:
    return all(part.isascii() and part.isdigit() and len(part) < 7 for part in text.split("."))


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdefABCDEF" for char in text)

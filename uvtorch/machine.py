"""The machine as facts: what `uvtorch torch detect --json` prints and `UVTORCH_HARDWARE` reads back (schema 1).

Pure: types and their JSON form. The probes that fill it are in `hardware`.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from uvtorch.errors import MachineError

SCHEMA = 1

SIZE_LIMIT = 1024 * 1024
"""The largest description that is read, in bytes. A machine with 16 GPUs in 112 MIG slices takes 30,000."""

System = Literal["linux", "windows", "macos"]
Vendor = Literal["nvidia", "amd", "intel", "apple"]
ProblemKind = Literal["broken", "unreachable"]
Outcome = Literal["ok", "absent", "failed", "skipped"]


class Platform(NamedTuple):
    """The operating system as PyTorch's wheels see it."""

    system: str  # A `System`, or Python's name for another one
    machine: str  # `x86_64`, or `aarch64` (Linux) / `arm64` (Windows, macOS)
    libc: str | None = None  # `glibc 2.36`, `musl 1.2` or None where it does not apply or is not known
    wsl: bool = False
    container: bool = False
    tegra: str | None = None  # A Jetson: its L4T release, `R36.4.3`, or `unknown release`
    os_version: str | None = None
    """macOS: its version, `13.6`, which decides which wheels install. None elsewhere and where it is not known."""

    @property
    def key(self) -> str:
        """The catalog's key for this platform, such as `linux_x86_64`, `windows_amd64` or `macos_arm64`."""
        names = {("linux", "arm64"): "aarch64", ("windows", "x86_64"): "amd64"}
        machine = "arm64" if self.machine == "aarch64" else self.machine
        return f"{self.system}_{names.get((self.system, machine), machine)}"


class Gpu(NamedTuple):
    """One visible GPU. What a vendor does not have, or could not be asked, is None."""

    vendor: str  # A `Vendor`
    name: str
    compute_capability: str | None = None  # NVIDIA: `9.0`
    architecture: str | None = None  # AMD: `gfx942`. Intel: the chip's short name, `dg2` (see `uvtorch.intel`)
    memory_mib: int | None = None
    uuid: str | None = None
    pci_id: str | None = None  # `vendor:device` in hexadecimal: `8086:56a0`
    mig: bool = False  # NVIDIA: a MIG slice rather than a whole GPU
    integrated: bool = False  # AMD, Intel: part of the processor rather than a card


class Driver(NamedTuple):
    """NVIDIA's driver."""

    version: str  # `570.124.06`
    cuda: str | None = None  # The newest CUDA it supports natively, as it reports: `12.8`


class Problem(NamedTuple):
    """Hardware that is there and cannot be used as it should."""

    vendor: str
    kind: str
    """A `ProblemKind`. `broken`: present but its driver does not answer, an error wherever a GPU build would be chosen;
    `unreachable`: on the bus, but nothing here could drive it (a container without device files, no driver installed,
    given to a virtual machine), which gives the CPU build and one line."""
    reason: str  # One clause without a full stop
    remedy: str = ""  # What to do, as sentences; may be empty


class Probe(NamedTuple):
    """How one probe ended."""

    probe: str
    outcome: Outcome
    detail: str = ""
    ms: float = 0.0


class Machine(NamedTuple):
    """Everything the choice may know of a machine."""

    platform: Platform
    gpus: tuple[Gpu, ...] = ()  # Of all vendors, NVIDIA's first
    nvidia_driver: Driver | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """Facts worth a line to a person: an override in force, a GPU hidden by CUDA_VISIBLE_DEVICES, Rosetta."""
    probes: tuple[Probe, ...] = ()


def processor(system: str, machine: str) -> str:
    """The contract's name of a processor: `x86_64`, or `aarch64` on Linux and `arm64` elsewhere; others as they are."""
    machine = machine.lower()
    if machine in ("aarch64", "arm64"):
        return "aarch64" if system == "linux" else "arm64"
    return "x86_64" if machine in ("amd64", "x64") else machine


def to_document(machine: Machine) -> dict[str, object]:
    """The description of a machine as JSON has it, of schema 1: the same for the same machine."""
    platform, driver = machine.platform, machine.nvidia_driver
    names = ("system", "machine", "libc", "os_version", "wsl", "container", *(["tegra"] if platform.tegra else ()))
    gpus = [
        {name: value for name, value in gpu._asdict().items() if value is not None and value is not False}
        for gpu in machine.gpus
    ]
    return {
        "schema": SCHEMA,
        "platform": {name: getattr(platform, name) for name in names},
        "gpus": gpus,
        "nvidia_driver": driver and driver._asdict(),
        "problems": [problem._asdict() for problem in machine.problems],
        "notes": machine.notes,
        "probes": [probe._asdict() for probe in machine.probes],
    }


def from_json(text: str | bytes, origin: str) -> Machine:
    """Read a description; `origin` names it in errors. Only `schema`, `platform.system` and `.machine` are required.

    Fields that this version does not know are passed over. Raises MachineError for anything that is not a description
    of schema 1: broken or truncated JSON, a newer schema, values of the wrong type or form, text that would act on a
    terminal, more than `SIZE_LIMIT` bytes.
    """
    hint = "write one with `uvtorch torch detect --json > FILE` on the machine it describes"
    try:
        top = _object(_parsed(text), "it")
        schema = top.get("schema")
        if type(schema) is not int or schema < 1:
            raise ValueError('"schema" is missing or not a number')
        if schema > SCHEMA:
            hint = "update uvtorch"
            raise ValueError(f"its schema {schema} is newer than this uvtorch, which reads {SCHEMA}")
        return _machine(top)
    except ValueError as error:
        raise MachineError(f"{origin} is not a description of a machine: {error}", hint) from None


def _parsed(text: str | bytes) -> object:
    """The JSON. Bytes may be UTF-8 with or without a byte order mark, or UTF-16, which PowerShell's `>` writes."""
    import json  # noqa: PLC0415  who only handles the types, as the choice does, needs no JSON

    if len(text) > SIZE_LIMIT:
        raise ValueError(f"it is larger than {SIZE_LIMIT} bytes")
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({error})") from None


_Row = TypeVar("_Row", Platform, Gpu, Driver, Problem, Probe)
_LINE = "one line of printable text"
_KINDS = {"system": System, "vendor": Vendor, "kind": ProblemKind, "outcome": Outcome}
_WORDS = {name: get_args(kind) for name, kind in _KINDS.items()}
_VERSION, _TWO = r"\d{1,6}(\.\d{1,6})*", r"\d{1,6}\.\d{1,6}"
_FORMS: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("wsl", "container", "mig", "integrated"), ("True|False", "true or false", bool)),
    "memory_mib": (r"\d{1,18}", "a whole number", int),
    "ms": (r"\d[\d.e+-]{,24}", "a number of milliseconds", int, float),
    "machine": (r"\w*[^\W_]\w*", "a processor architecture such as x86_64, aarch64 or arm64"),
    "os_version": (_VERSION, "a version such as 13.6"),
    "compute_capability": (_TWO, "two numbers such as 9.0"),
    "architecture": ("-*[0-9A-Za-z][-0-9A-Za-z]*", "a name such as gfx942"),
    "pci_id": ("[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", "vendor and device in hexadecimal, such as 8086:56a0"),
    "version": (_VERSION, "a driver's version such as 570.124.06"),
    "cuda": (_TWO, "a version of CUDA such as 12.8"),
    **{name: ("|".join(words), f"{', '.join(words[:-1])} or {words[-1]}") for name, words in _WORDS.items()},
}
"""Field -> the pattern of its value, what that is in words, and its types where it is no text."""
_UNKNOWN = {"name": "", "reason": "unknown", "probe": "unknown"}
"""What stands for a text that is absent."""


def _machine(top: Mapping[str, object]) -> Machine:
    """Take a parsed description apart. Raises ValueError with the place of what is wrong."""
    platform, driver = _row(Platform, top.get("platform"), '"platform"'), top.get("nvidia_driver")
    for place, note in _items(top, "notes"):
        _check("note", note, place)
    gpus = (_row(Gpu, value, place) for place, value in _items(top, "gpus"))
    return Machine(
        platform._replace(machine=processor(platform.system, platform.machine)),
        tuple(
            one._replace(name=one.name or f"{one.vendor} GPU", pci_id=one.pci_id and one.pci_id.lower()) for one in gpus
        ),
        None if driver is None else _row(Driver, driver, '"nvidia_driver"'),
        tuple(_row(Problem, value, place) for place, value in _items(top, "problems")),
        tuple(str(note) for _, note in _items(top, "notes")),
        tuple(_row(Probe, value, place) for place, value in _items(top, "probes")),
    )


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be an object")
    return value


def _items(top: Mapping[str, object], name: str) -> list[tuple[str, object]]:
    """(place, value) of each item of a list; none where it is absent."""
    value = top.get(name)
    if value is not None and not (isinstance(value, list) and len(value) <= 4096):
        raise ValueError(f'"{name}" must be a list of at most 4096')
    return [(f'"{name}"[{number}]', item) for number, item in enumerate(value or ())]


def _row(kind: type[_Row], value: object, place: str) -> _Row:
    """The NamedTuple that an object describes. A field without a default is required, but for names."""
    values = _object(value, place)
    required = {name: _UNKNOWN.get(name) for name in kind._fields if name not in kind._field_defaults}
    given = required | {name: values[name] for name in kind._fields if values.get(name) is not None}
    for name, field in given.items():
        _check(name, field, f"{place}.{name}")
    return kind(**given)


def _check(name: str, value: Any, place: str) -> None:
    """Raise ValueError where the value of a field is not of its type and form."""
    pattern, expected, *types = _FORMS.get(name, (".*", _LINE))
    line = isinstance(value, str) and len(value) <= 4096 and value.isprintable()
    fits = type(value) in types if types else line
    if not fits or re.fullmatch(pattern, str(value), re.ASCII) is None:
        raise ValueError(f"{place} must be {expected if types or line or value is None else _LINE}")

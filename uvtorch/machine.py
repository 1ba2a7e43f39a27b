"""The machine as facts: what `torch detect --json` prints and `UVTORCH_HARDWARE` reads back (schema 1)."""

import re
from typing import Any, Literal, NamedTuple, get_args, get_origin

from uvtorch.errors import MachineError

SCHEMA = 1
HINT = "write one with `uvtorch torch detect --json > FILE` on the machine it describes"
SIZE_LIMIT = 1024 * 1024  # of a description, in bytes: 16 GPUs in 112 MIG slices take 30,000

Outcome = Literal["ok", "absent", "failed", "skipped"]


class Platform(NamedTuple):
    """The operating system as PyTorch's wheels see it."""

    system: str  # `linux`, `windows`, `macos`, or Python's name for another one
    machine: str  # `x86_64`, or `aarch64` (Linux) / `arm64` (Windows, macOS)
    libc: str | None = None  # Linux: `glibc 2.36`, `musl`; None where it is not known
    os_version: str | None = None  # macOS: `13.6`
    wsl: bool = False
    container: bool = False
    tegra: str | None = None  # A Jetson: its L4T release, `R36.4.3`, or `unknown release`

    @property
    def key(self) -> str:
        """The catalog's name of it: `linux_x86_64`, `windows_amd64`, `macos_arm64`."""
        return f"{self.system}_{self.machine}".replace("windows_x86_64", "windows_amd64")


class Gpu(NamedTuple):
    """One visible GPU. What its vendor does not have, or did not tell, is None."""

    vendor: str  # `nvidia`, `amd`, `intel`, `apple`
    name: str = "GPU"
    compute_capability: str | None = None  # NVIDIA: `9.0`
    architecture: str | None = None  # AMD: `gfx942`. Intel: the chip's short name, `dg2`
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
    # `broken`: its driver does not answer, an error wherever a GPU build would be chosen;
    # `unreachable`: on the bus, but nothing here could drive it, which gives the CPU build and one line.
    kind: str
    reason: str = "unknown"  # One clause
    remedy: str = ""  # Sentences


class Probe(NamedTuple):
    """How one probe ended."""

    probe: str = "unknown"
    outcome: str = "ok"  # An `Outcome`
    detail: str = ""
    ms: int | float = 0.0


class Machine(NamedTuple):
    """All that the choice may know of a machine."""

    platform: Platform
    gpus: tuple[Gpu, ...] = ()  # Of all vendors, NVIDIA's first
    nvidia_driver: Driver | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # For a person: an override in force, a GPU that is hidden
    probes: tuple[Probe, ...] = ()


def processor(system: str, machine: str) -> str:
    """A processor's name as in `Platform`; others than x86_64 and ARM as they are."""
    names = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}
    name = names.get(machine.lower(), machine.lower())
    return "aarch64" if name == "arm64" and system == "linux" else name


def to_document(machine: Machine) -> dict[str, object]:
    """The description of a machine, for JSON."""
    return {"schema": SCHEMA, **_plain(machine)}


def _plain(value: Any) -> Any:
    if not hasattr(value, "_fields"):
        return [_plain(item) for item in value] if isinstance(value, tuple) else value
    facts = {name: _plain(fact) for name, fact in value._asdict().items()}
    # Of a GPU, and of a Jetson, only what says something.
    brief = facts if isinstance(value, Gpu) else ("tegra",)
    return {name: fact for name, fact in facts.items() if name not in brief or not (fact is None or fact is False)}


def from_json(text: str | bytes, origin: str) -> Machine:
    """Read a description; `origin` names it in errors. Only `schema`, `platform.system` and `.machine` are required.

    Bytes may be UTF-8 or UTF-16, which PowerShell's `>` writes. Unknown fields are passed over. Raises MachineError for
    all but descriptions of schema 1, and for text that would act on a terminal.
    """
    import json  # noqa: PLC0415  who only handles the types, as the choice does, needs no JSON

    hint = HINT
    try:
        if len(text) > SIZE_LIMIT or not text.strip():
            raise ValueError(f"it is larger than {SIZE_LIMIT} bytes" if len(text) > SIZE_LIMIT else "it is empty")
        top = json.loads(text)
        schema = top.get("schema") if isinstance(top, dict) else SCHEMA
        if type(schema) is not int or schema < 1:
            raise ValueError('"schema" is missing or not a number')
        if schema > SCHEMA:
            hint = "update uvtorch"
            raise ValueError(f"its schema {schema} is newer than this uvtorch, which reads {SCHEMA}")
        machine: Machine = _read(Machine, top, "", "it")
    except (ValueError, RecursionError) as error:
        reason = error if type(error) is ValueError else f"it is not valid JSON ({error})"
        raise MachineError(f"{origin} is not a description of a machine: {reason}", hint) from None
    platform = machine.platform
    return machine._replace(platform=platform._replace(machine=processor(platform.system, platform.machine)))


_FORMS = {
    "system": ("linux|windows|macos", "linux, windows or macos"),
    "vendor": ("nvidia|amd|intel|apple", "nvidia, amd, intel or apple"),
    "kind": ("broken|unreachable", "broken or unreachable"),
    "outcome": ("ok|absent|failed|skipped", "ok, absent, failed or skipped"),
    **dict.fromkeys(("wsl", "container", "mig", "integrated"), ("True|False", "true or false")),
    "memory_mib": (r"\d{1,18}", "a whole number"),
    "ms": (r"\d[\d.e+-]{,24}", "a number of milliseconds"),
    "machine": (r"\w*[^\W_]\w*", "a processor architecture such as x86_64, aarch64 or arm64"),
    "os_version": (r"\d{1,6}(\.\d{1,6})*", "a version such as 13.6"),
    "compute_capability": (r"\d{1,6}\.\d{1,6}", "two numbers such as 9.0"),
    "architecture": ("-*[0-9A-Za-z][-0-9A-Za-z]*", "a name such as gfx942"),
    "pci_id": ("[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", "vendor and device in hexadecimal, such as 8086:56a0"),
    "version": (r"\d{1,6}(\.\d{1,6})*", "a driver's version such as 570.124.06"),
    "cuda": (r"\d{1,6}\.\d{1,6}", "a version of CUDA such as 12.8"),
}
"""Field -> the pattern of its value, and that in words; any printable line where there is none."""


def _read(kind: Any, value: Any, name: str, place: str) -> Any:
    """A value of a type as annotated above. Raises ValueError that names its place."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or len(value) > 4096:
            raise ValueError(f"{place} must be a list of at most 4096")
        return tuple(_read(get_args(kind)[0], item, name, f"{place}[{at}]") for at, item in enumerate(value))
    row = next((one for one in (kind, *get_args(kind)) if hasattr(one, "_fields")), None)
    if row is None:
        return _checked(kind, value, name, place)
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be an object")
    given = [field for field in row._fields if value.get(field) is not None or field not in row._field_defaults]
    of, where = row.__annotations__, '"{}"' if row is Machine else place + ".{}"
    return row(**{field: _read(of[field], value.get(field), field, where.format(field)) for field in given})


def _checked(kind: Any, value: Any, name: str, place: str) -> Any:
    line = "one line of printable text"
    pattern, expected = _FORMS.get(name, (".*", line))
    fits = isinstance(value, kind) and (not isinstance(value, str) or (len(value) <= 4096 and value.isprintable()))
    if not fits or re.fullmatch(pattern, str(value), re.ASCII) is None:
        raise ValueError(f"{place} must be {expected if fits or value is None or not isinstance('', kind) else line}")
    return value

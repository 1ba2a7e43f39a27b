"""Machines and requests in a few characters, for tables of decisions."""

import os
from typing import NamedTuple

from uvtorch import backend as backends
from uvtorch import machine as machines
from uvtorch.choose import Request
from uvtorch.machine import Driver, Gpu, Machine, Platform, Problem

MACHINES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "machines")


class Ventura(Platform):
    """A Mac that stays at macOS 13."""

    os_version = "13.6"


class Sonoma(Platform):
    """A Mac with macOS 14."""

    os_version = "14.5"


PLATFORMS = {
    "linux": Platform("linux", "x86_64", "glibc 2.36"),
    "arm": Platform("linux", "aarch64", "glibc 2.39"),
    "wsl": Platform("linux", "x86_64", "glibc 2.39", wsl=True),
    "windows": Platform("windows", "x86_64"),
    "windows-arm": Platform("windows", "arm64"),
    "mac": Platform("macos", "arm64"),
    "intel-mac": Platform("macos", "x86_64"),
    "mac13": Ventura("macos", "arm64"),
    "mac14": Sonoma("macos", "arm64"),
    "alpine": Platform("linux", "x86_64", "musl 1.2"),
    "centos7": Platform("linux", "x86_64", "glibc 2.17"),
    "riscv": Platform("linux", "riscv64", "glibc 2.39"),
    "unknown-libc": Platform("linux", "x86_64"),
}


def machine(text: str) -> Machine:
    """A machine from `PLATFORM [DRIVER] [GPU ...]`, or from `@NAME`, a description in tests/machines.

    A driver may say its CUDA (`535.54.03/13.0`). A GPU is a compute capability (`9.0`, `geforce:8.9`, `?` for one not
    known), a gfx name (`gfx942`; `apu:gfx90c` in the processor) or an Intel PCI id (`8086:56a0`); `broken:VENDOR` and
    `unreachable:VENDOR` are problems.
    """
    if text.startswith("@"):
        path = os.path.join(MACHINES, f"{text[1:]}.json")
        with open(path, "rb") as file:
            return machines.from_json(file.read(), path)
    platform, *rest = text.split()
    driver: Driver | None = None
    gpus: list[Gpu] = []
    problems: list[Problem] = []
    for word in rest:
        kind, _, value = word.partition(":")
        if kind in ("broken", "unreachable"):
            problems.append(Problem(value, kind, f"{value} is {kind}", "mend it"))
        elif kind == "apu":
            gpus.append(Gpu("amd", "APU", architecture=value, integrated=True))
        elif word.startswith("gfx"):
            gpus.append(Gpu("amd", "Radeon", architecture=word))
        elif kind == "8086":
            gpus.append(Gpu("intel", "Intel", pci_id=word))
        elif word == "apple":
            gpus.append(Gpu("apple", "Apple M3"))
        elif kind == "geforce":
            gpus.append(Gpu("nvidia", "NVIDIA GeForce", compute_capability=value))
        elif word == "?":
            gpus.append(Gpu("nvidia", "GPU"))
        elif driver is None and int(word.partition(".")[0]) > 99:
            version, _, cuda = word.partition("/")
            driver = Driver(version, cuda or None)
        else:
            gpus.append(Gpu("nvidia", "GPU", compute_capability=word))
    return Machine(PLATFORMS[platform], tuple(gpus), driver, tuple(problems))


def request(text: str) -> Request:
    """A request from words: requirements (`^` is a space), `python=3.12`, `requires-python=>=3.10`, `backend=cu126`."""
    requirements: list[str] = []
    fields: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals and name in ("python", "requires-python", "backend"):
            fields[name] = value
        else:
            requirements.append(word.replace("^", " "))
    named = backends.parse(fields["backend"]) if "backend" in fields else None
    assert named or "backend" not in fields, text
    return Request(tuple(requirements), fields.get("python"), fields.get("requires-python"), named)


class Row(NamedTuple):
    """One decision that must come out."""

    machine: str
    request: str
    expected: str
    """`cu126 2.14.1`, with bounds behind it (`torch<2.11`); or `ask cu132 cu130`; or the exact refusal."""
    why: str
    source: str

"""Builds and configures the stand-in for NVIDIA's management library (`standin.c`)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).with_name("standin.c")


class Slice(NamedTuple):
    name: str
    mib: int
    uuid: str


class Card(NamedTuple):
    name: str
    capability: str
    mib: int
    uuid: str | None = None
    mig: int = -1  # -1: it knows no MIG; 0: off; 1: on
    slices: tuple[Slice, ...] = ()
    code: int = 0  # what asking for its handle returns


class Nvml(NamedTuple):
    """What the stand-in answers."""

    driver: str = "570.124.06"
    cuda: int = 12080
    cards: tuple[Card, ...] = ()
    init: int = 0
    extra: tuple[str, ...] = ()
    old: bool = False

    def text(self) -> str:
        lines = [f"init {self.init}", f"driver {self.driver}", f"cuda {self.cuda}", *self.extra]
        for number, card in enumerate(self.cards):
            major, minor = card.capability.split(".")
            uuid = card.uuid or gpu_uuid(number)
            lines.append(f"gpu {card.code} {major} {minor} {card.mib * 2**20} {card.mig} {uuid} {card.name}")
            lines += [f"slice {part.mib * 2**20} {part.uuid} {part.name}" for part in card.slices]
        return "\n".join(lines) + "\n"


def gpu_uuid(number: int) -> str:
    return f"GPU-{number:08x}-1111-2222-3333-444444444444"


@cache
def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def need_compiler() -> str:
    if sys.platform != "linux":
        pytest.skip("the stand-in for libnvidia-ml.so.1 is a Linux library")
    found = compiler()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("the stand-in for libnvidia-ml.so.1 needs a C compiler, and CI must have one")
        pytest.skip("no C compiler (cc, gcc or clang) to build the stand-in for libnvidia-ml.so.1")
    return found


def build(folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compile the stand-in into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    command = [need_compiler(), "-shared", "-fPIC", "-O1", "-Wl,-soname,libnvidia-ml.so.1", *flags]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library

"""NVML, asked by a program of its own (`ask_nvml.py`): a GPU that fell off the bus hangs whoever asks the library.

A thread would not do: one in uninterruptible sleep holds up exec and exit. The program prints the driver's version
before it asks for GPUs, so that a hang loses only what comes after it.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from uvtorch.hardware import programs
from uvtorch.hardware.programs import plain
from uvtorch.machine import Gpu

DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_IS_LOST, VERSION_MISMATCH = 9, 12, 15, 18
"""Of nvmlReturn_t, in nvml.h."""


class Report(NamedTuple):
    """What NVML told."""

    driver: str | None = None
    cuda: str | None = None  # The newest CUDA the driver supports, `12.8`
    whole: int = 0  # How many GPUs could be asked
    gpus: tuple[Gpu, ...] = ()  # Those that CUDA uses, in PCI bus order: whole ones, or the slices of one in MIG mode
    parents: tuple[str | None, ...] = ()  # The UUID of the GPU that a slice belongs to (empty: not known), for each
    unsliced: tuple[int, ...] = ()  # Indexes of GPUs in MIG mode without a slice
    lost: tuple[tuple[int, int, str], ...] = ()  # (index, error code, what it says) of GPUs that could not be asked
    code: int | None = None  # The error that ended the conversation: an `nvmlReturn_t`
    failure: str = ""  # Why there is no complete answer: the error in words, a hang, a crash. Empty: all was said
    end: Literal["answered", "error", "hung", "crashed"] = "answered"

    @property
    def absent(self) -> bool:
        """There is no NVML, or none that can be loaded: it says nothing of the driver."""
        return self.end == "error" and self.code in (None, LIBRARY_NOT_FOUND)


def ask(library: str | None, env: Mapping[str, str], seconds: float, tell: programs.Tell | None = None) -> Report:
    """Ask NVML, for at most `seconds`. `tell` is told when it takes long.

    `library` is a path, or a name for the system's loader; None: pynvml finds its own.
    """
    program = os.path.join(os.path.dirname(__file__), "ask_nvml.py")
    # It lives with pynvml, wherever this process has that from. -P: its own folder is not for imports.
    here = {**env, "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}
    argv = (sys.executable, "-P", "-W", "ignore", program, str(int(seconds) + 1), *([library] if library else ()))
    result = programs.run(argv, here, seconds, whom="NVIDIA's driver", tell=tell)
    report = parse(result.output)
    if result.hung:
        return report._replace(failure=f"no answer within {seconds:g} s", end="hung")
    if not report.failure or report.code is not None:
        return report
    if (result.code or 0) < 0:
        return report._replace(failure=f"the library crashed (signal {-(result.code or 0)})", end="crashed")
    said = f"the program that asks it {result.failure or 'failed'}: {plain(result.output[-300:])}"
    return report._replace(failure=said)


def parse(text: str) -> Report:
    """Read what the program printed: a JSON object a line. What is missing makes a `failure`, never an exception."""
    import json  # noqa: PLC0415  a machine without NVIDIA's driver needs none

    report = Report(failure="it ended in the middle", end="error")
    for line in text.splitlines():
        try:
            row = json.loads(line)
            if "gpus" in row:
                row["gpus"] = [_gpu(**gpu) for gpu in row["gpus"]]
                row = {name: value if name == "whole" else tuple(value) for name, value in row.items()}
                row |= {"failure": "", "end": "answered"}
            report = report._replace(**row)
        except (ValueError, TypeError, LookupError, RecursionError):
            continue  # a message of Python's or the library's
    return report


def _gpu(name: str, uuid: str | None, **facts: Any) -> Gpu:
    return Gpu("nvidia", plain(name), uuid=uuid and plain(uuid), **facts)

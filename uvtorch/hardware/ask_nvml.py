"""The program that `nvidia.ask` runs: `ask_nvml.py SECONDS [LIBRARY]`. It imports nothing of uvtorch.

It prints a JSON object a line, with fields of `nvidia.Report`: those of the driver, then those of GPUs or an error.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pynvml


def main(arguments: Sequence[str]) -> None:
    """Ask, print, and leave without NVML's clean-up, which can hang too."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(arguments[0]))  # should whoever waits be killed
    out = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what the library or its helper (nvidia-modprobe) writes is not an answer
    os.dup2(null, 2)

    def say(**row: object) -> None:
        os.write(out, f"{json.dumps(row)}\n".encode())

    gpus: list[dict[str, Any]] = []
    unsliced, lost = [], []
    try:
        for library in arguments[1:]:  # pynvml asks for `libnvidia-ml.so.1` by name, which finds what is loaded
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        pynvml.nvmlInit()
        cuda = _optional(pynvml.nvmlSystemGetCudaDriverVersion)  # what _v2 says, but also where libcuda is missing
        version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        # Before GPUs are asked for: a hang loses only what comes after it.
        say(driver=pynvml.nvmlSystemGetDriverVersion(), cuda=version)
        for number in range(pynvml.nvmlDeviceGetCount()):
            try:
                found = _devices(pynvml.nvmlDeviceGetHandleByIndex(number))
                gpus += found
                if not found:
                    unsliced.append(number)
            except pynvml.NVMLError as error:
                lost.append((number, error.value, str(error)))
        say(end="answered", failure="", gpus=gpus, unsliced=unsliced, lost=lost)
    except (pynvml.NVMLError, OSError) as error:
        not_found = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        code = getattr(error, "value", not_found)
        say(end="absent" if code == not_found else "failed", failure=str(error), code=code)
    os._exit(0)


def _devices(whole: object) -> list[dict[str, Any]]:
    """A GPU, or the slices of one in MIG mode."""
    capability = ".".join(map(str, _optional(pynvml.nvmlDeviceGetCudaComputeCapability, whole, default=()))) or None
    model = _optional(pynvml.nvmlDeviceGetName, whole, default="NVIDIA GPU")
    mig = bool(_optional(pynvml.nvmlDeviceGetMigMode, whole, default=(0,))[0])
    places = range(_optional(pynvml.nvmlDeviceGetMaxMigDeviceCount, whole, default=0) if mig else 0)
    slices = (_optional(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, whole, place) for place in places)
    parent = _optional(pynvml.nvmlDeviceGetUUID, whole, default="") if mig else None
    shared = {"compute_capability": capability, "mig": mig, "parent": parent}
    gpus = []
    for device in filter(None, slices) if mig else (whole,):
        memory = getattr(_optional(pynvml.nvmlDeviceGetMemoryInfo, device), "total", 0) // 2**20 or None
        name = _optional(pynvml.nvmlDeviceGetName, device, default=model)
        uuid = _optional(pynvml.nvmlDeviceGetUUID, device)
        gpus.append({"name": name, "memory_mib": memory, "uuid": uuid, **shared})
    return gpus


def _optional(function: Callable[..., Any], *args: object, default: object = None) -> Any:
    """What NVML answers; the default where it does not know the question, or says nothing."""
    try:
        return function(*args) or default
    except (pynvml.NVMLError, ValueError) as error:
        if getattr(error, "value", None) == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        return default


if __name__ == "__main__":
    main(sys.argv[1:])

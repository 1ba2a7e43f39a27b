"""Apple: the processor and Rosetta, from sysctl."""

import sys

from uvtorch.hardware import files
from uvtorch.hardware.host import Host
from uvtorch.machine import Gpu, Probe


def processor() -> tuple[str | None, bool]:
    """(the processor's name, whether this process runs under Rosetta); (None, False) off macOS."""
    if sys.platform != "darwin":
        return None, False
    import ctypes

    def sysctl(name: bytes) -> bytes | None:
        libc = ctypes.CDLL(None)
        buffer = ctypes.create_string_buffer(256)
        size = ctypes.c_size_t(256)
        failed = libc.sysctlbyname(name, buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
        return None if failed else buffer.raw[: size.value]

    name = sysctl(b"machdep.cpu.brand_string")
    translated = sysctl(b"sysctl.proc_translated")
    return (
        name.split(b"\0")[0].decode("utf-8", "replace") if name else None,
        translated is not None and translated[:1] == b"\1",
    )


def probe(host: Host) -> tuple[tuple[Gpu, ...], tuple[str, ...], Probe]:
    """(GPUs, notes, outcome) of a Mac."""
    name = files.plain(host.chip or "") or "Apple GPU"
    if host.machine == "arm64":
        return (Gpu("apple", name, integrated=True),), (), Probe("apple", "ok", name)
    if host.translated:
        note = (
            f"This Python is an x86_64 one and runs under Rosetta on {host.chip or 'Apple silicon'}; PyTorch's wheels "
            "for x86_64 end at 2.2.2 and know no MPS. An arm64 Python gets current ones."
        )
        return (), (note,), Probe("apple", "ok", "Apple silicon under Rosetta")
    return (), ("PyTorch's wheels for Intel Macs end at 2.2.2.",), Probe("apple", "absent", "an Intel Mac")

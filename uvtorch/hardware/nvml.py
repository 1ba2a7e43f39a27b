"""NVML through pynvml, in a child process that can be abandoned: a GPU that fell off the bus hangs the library.

A thread would not do: one in uninterruptible sleep holds up exec and exit. The child tells what it learns line by line
(`driver 570.124.06`), so that a hang half way loses only what comes after it.
"""

import os
import time
from collections.abc import Callable

from uvtorch.named import NamedTuple

LIMIT_S = 1.8
"""How long NVML may take."""

KILL_S = 0.1
"""How long a killed child may take to end before it is left behind."""

OUTPUT_LIMIT = 1024 * 1024

# NVML's error codes; names and values as in nvml.h (nvmlReturn_t).
NO_PERMISSION, INSUFFICIENT_POWER, DRIVER_NOT_LOADED, IRQ_ISSUE, LIBRARY_NOT_FOUND = 4, 8, 9, 11, 12
CORRUPTED_INFOROM, GPU_IS_LOST, RESET_REQUIRED, OPERATING_SYSTEM, LIB_RM_VERSION_MISMATCH = 14, 15, 16, 17, 18
UNKNOWN = 999


class Device(NamedTuple):
    """A GPU, or a MIG slice of one."""

    number: int
    """NVML's index of the whole GPU: PCI bus order."""
    name: str = "NVIDIA GPU"
    compute_capability: str | None = None
    memory_mib: int | None = None
    uuid: str | None = None
    mig: bool = False
    """A GPU in MIG mode (`parent` is None), or a slice."""
    parent: str | None = None
    """The UUID of the GPU that a slice belongs to (empty: not known); None for a whole GPU."""


class Report(NamedTuple):
    """What NVML told."""

    driver: str | None = None
    cuda: str | None = None
    """The newest CUDA the driver supports, `12.8`."""
    devices: tuple[Device, ...] = ()
    """Whole GPUs in NVML's order, each followed by its MIG slices."""
    lost: tuple[tuple[int, int], ...] = ()
    """(index, error code) of GPUs that could not be asked."""
    code: int | None = None
    """The error that ended the conversation: an `nvmlReturn_t`."""
    failure: str = ""
    """Why there is no complete answer: the error in words, a hang, a crash. Empty: all was said."""
    hung: bool = False


def ask(library: str | None, limit: float = LIMIT_S) -> Report:
    """Ask NVML, for at most `limit` seconds.

    `library` is a path to load before pynvml looks for `libnvidia-ml.so.1` by name, which then finds it loaded.
    """
    return _in_thread(library, limit) if os.name == "nt" else _in_child(library, limit)


def _in_child(library: str | None, limit: float) -> Report:
    import select
    import warnings

    deadline = time.monotonic() + limit
    ends: tuple[int, ...] = ()
    try:
        ends = end, start = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12+ warns of a fork beside threads, whose locks could be held. The child takes none of theirs: it
            # imports (Python renews the import locks), calls NVML, writes to a pipe and leaves by _exit.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError as error:
        for fd in ends:
            os.close(fd)
        return Report(failure=f"no process could be started to ask it: {error.strerror}")
    if pid == 0:
        _child(library, start)
    os.close(start)
    parts: list[bytes] = []
    size, hung, ended = 0, False, False
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        while size < OUTPUT_LIMIT:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                hung = True
                break
            part = os.read(end, 65536)
            if not part:
                ended = True
                break
            parts.append(part)
            size += len(part)
    finally:
        os.close(end)
        # Not at the end of its output: a hang, a flood, or an exception such as Ctrl-C.
        status = _end(pid, at_once=not ended)
    report = parse(b"".join(parts).decode("utf-8", "replace"))
    if hung:
        return report._replace(failure=f"no answer within {limit:.1f} s", hung=True)
    if report.failure and status is not None and os.WIFSIGNALED(status):
        return report._replace(failure=f"the library crashed (signal {os.WTERMSIG(status)})")
    return report


def _end(pid: int, *, at_once: bool) -> int | None:
    """Wait a moment for the child; kill it; leave it behind if it cannot die (it sleeps in the driver)."""
    if at_once:
        _kill(pid)
    give_up = time.monotonic() + KILL_S
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None  # whoever started us ignores SIGCHLD: the system has taken it away
        if done:
            return status
        if time.monotonic() > give_up:
            if at_once:
                return None
            at_once = True
            give_up = time.monotonic() + KILL_S
            _kill(pid)
        time.sleep(0.001)


def _kill(pid: int) -> None:
    import signal

    for kill in (os.killpg, os.kill):  # the group first: NVML may have started nvidia-modprobe
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass


def _child(library: str | None, out: int) -> None:
    """The child's whole life. It never returns."""
    try:
        os.setsid()  # Ctrl-C is the parent's affair
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        out_fd = os.dup2(out, 3) if out != 3 else 3
        os.closerange(4, 65536)  # a child that cannot die must not hold anybody's pipe or lock

        def say(*words: object) -> None:
            line = " ".join(" ".join(str(word).split()) for word in words)
            os.write(out_fd, f"{line}\n".encode("utf-8", "replace"))

        tell(say, library)
    finally:
        os._exit(0)


def _in_thread(library: str | None, limit: float) -> Report:
    """Windows: it has no fork, and NVML does not hang a whole process there (a thread that waits ends with it)."""
    import threading

    lines: list[str] = []
    thread = threading.Thread(
        target=tell, args=(lambda *words: lines.append(" ".join(map(str, words))), library), daemon=True
    )
    thread.start()
    thread.join(limit)
    report = parse("".join(line + "\n" for line in list(lines)))
    if thread.is_alive():
        return report._replace(failure=f"no answer within {limit:.1f} s", hung=True)
    return report


def tell(say: Callable[..., None], library: str | None) -> None:
    """Ask NVML everything and `say` each answer, one line each; `end` last, or `error CODE TEXT`."""
    if library is not None:
        import ctypes

        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            say("error", LIBRARY_NOT_FOUND, error)
            return
    try:
        import pynvml
    except ImportError as error:
        say("error", -1, f"pynvml cannot be imported: {error}")
        return

    def optional(function: Callable[..., object], *args: object) -> object:
        """What NVML answers; None where this driver or this GPU does not know the question."""
        try:
            return function(*args)
        except (pynvml.NVMLError, ValueError):
            return None

    def say_memory_and_uuid(device: object) -> None:
        memory = optional(pynvml.nvmlDeviceGetMemoryInfo, device)
        if memory is not None:
            say("memory", getattr(memory, "total", 0))
        uuid = optional(pynvml.nvmlDeviceGetUUID, device)
        if uuid:
            say("uuid", uuid)

    try:
        pynvml.nvmlInit()
        say("driver", pynvml.nvmlSystemGetDriverVersion())
        cuda = optional(pynvml.nvmlSystemGetCudaDriverVersion_v2) or optional(pynvml.nvmlSystemGetCudaDriverVersion)
        if cuda:
            say("cuda", cuda)
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        say("error", error.value, error)
        return
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            say("gpu", index)
            name = optional(pynvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"
            say("name", name)
            try:
                say("cc", *pynvml.nvmlDeviceGetCudaComputeCapability(handle))
            except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
                pass  # drivers before 418
        except pynvml.NVMLError as error:
            say("lost", index, error.value)
            continue
        say_memory_and_uuid(handle)
        mode = optional(pynvml.nvmlDeviceGetMigMode, handle)
        if isinstance(mode, (list, tuple)) and mode[0]:
            say("mig")
            for place in range(int(str(optional(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0))):
                part = optional(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place)
                if part is None:
                    continue
                say("slice", optional(pynvml.nvmlDeviceGetName, part) or name)
                say_memory_and_uuid(part)
    say("end")


def parse(text: str) -> Report:
    """Read what `tell` said; what is missing at the end makes a `failure`, never an exception."""
    report = Report(failure="it ended in the middle")
    devices: list[Device] = []
    lost: list[tuple[int, int]] = []
    whole = 0  # the position of the GPU that slices belong to
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        first, _, after = rest.partition(" ")
        number = int(first) if first.lstrip("-").isdecimal() and len(first) < 12 else None
        if word == "driver":
            report = report._replace(driver=rest)
        elif word == "cuda" and number is not None:
            report = report._replace(cuda=f"{number // 1000}.{number % 1000 // 10}")
        elif word == "gpu" and number is not None:
            whole = len(devices)
            devices.append(Device(number))
        elif word == "slice" and devices:
            gpu = devices[whole]
            devices.append(gpu._replace(name=rest, memory_mib=None, uuid=None, parent=gpu.uuid or ""))
        elif word == "lost" and number is not None:
            lost.append((number, int(after) if after.isdecimal() else 999))
            if devices and devices[-1].number == number:
                devices.pop()
        elif word == "error":
            report = report._replace(code=number, failure=after or "error")
        elif word == "end":
            report = report._replace(failure="")
        elif devices:
            devices[-1] = _with(devices[-1], word, rest)
    return report._replace(devices=tuple(devices), lost=tuple(lost))


def _with(device: Device, word: str, value: str) -> Device:
    if word == "name":
        return device._replace(name=value)
    if word == "cc":
        return device._replace(compute_capability=value.replace(" ", "."))
    if word == "memory" and value.isdigit() and value != "0":
        return device._replace(memory_mib=int(value) // 2**20)
    if word == "uuid":
        return device._replace(uuid=value)
    if word == "mig":
        return device._replace(mig=True)
    return device

"""What the probes work with: the machine's files, programs and bus, and what was found so far."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, takewhile
from typing import TYPE_CHECKING, NamedTuple

from uvtorch import files
from uvtorch.errors import UsageError
from uvtorch.machine import Driver, Gpu, Machine, Outcome, Platform, Probe, Problem, processor

if TYPE_CHECKING:
    import subprocess

Tell = Callable[[str], None]
SHORT_S, LONG_S = 2.0, 15.0  # eight GPUs without persistence mode need more than 2 s for their first answer


class Host(NamedTuple):
    """What the interpreter knows without reading files."""

    platform: Platform  # As it was built: for x86_64, it may run on an ARM machine
    release: str = ""  # The kernel's: `6.6.87.2-microsoft-standard-WSL2`
    chip: str = ""  # A Mac's processor: `Apple M3`


def this_host() -> Host:
    """The host this interpreter runs on."""
    if sys.platform == "win32":
        return Host(Platform("windows", "arm64" if "(arm64)" in sys.version.lower() else "x86_64"))
    uname = os.uname()
    if sys.platform == "darwin":
        # Not platform.mac_ver(), which may say 10.16.
        facts = ("machdep.cpu.brand_string", "kern.osproductversion")
        chip, version = (plain(run(("/usr/sbin/sysctl", "-n", fact), {}, SHORT_S).output) for fact in facts)
        known = version if re.fullmatch(r"[0-9]+(\.[0-9]+)*", version) else None
        return Host(Platform("macos", processor("macos", uname.machine), os_version=known), chip=chip)
    glibc = "CS_GNU_LIBC_VERSION"
    libc = os.confstr(glibc) if glibc in os.confstr_names else None
    return Host(Platform(sys.platform, processor(sys.platform, uname.machine), libc), uname.release)


class Scene:
    """The machine as one process sees it; probes add what they find.

    Files are looked for below `root`. `tell` tells a person, while a probe takes long, what is waited for.
    """

    def __init__(self, host: Host, env: Mapping[str, str], root: str = "/", tell: Tell | None = None) -> None:
        self.env, self.root, self.tell = env, root, tell
        self.driver: Driver | None = None
        self.gpus: list[Gpu] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._probes: list[Probe] = []
        self._since = time.perf_counter()
        musl = "musl" if self.exists(f"/lib/ld-musl-{host.platform.machine}.so.1") else None
        self.platform = host.platform._replace(
            libc=host.platform.libc or musl,
            wsl="microsoft" in host.release.lower(),
            container=self._is_container(),
            tegra=self._tegra(host),
        )

    def _is_container(self) -> bool:
        variables = "KUBERNETES_SERVICE_HOST", "container"  # set by the kubelet; by podman, LXC and systemd
        paths = "/.dockerenv", "/run/.containerenv", "/.singularity.d"
        groups = "/docker|/kubepods|/lxc|/libpod|/containerd|/machine.slice/"
        signs = *map(self.env.get, variables), *map(self.exists, paths)
        return any(signs) or re.search(groups, self.read("/proc/1/cgroup")) is not None

    def _tegra(self, host: Host) -> str | None:
        release = self.read("/etc/nv_tegra_release")
        jetson = host.platform.machine == "aarch64" and (release or "tegra" in host.release.lower())
        return parse_tegra_release(release) if jetson else None

    def at(self, path: str) -> str:
        """Where an absolute path is."""
        return self.root.rstrip("/") + path

    def read(self, path: str, limit: int = 65536) -> str:
        """The first `limit` bytes of a file as text; empty if it cannot be read."""
        try:
            return files.head(self.at(path), limit).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""

    def names(self, path: str) -> list[str]:
        """The sorted names in a directory; none if it cannot be read."""
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        return os.path.exists(self.at(path))

    def probe(self, name: str, outcome: Outcome, detail: str = "") -> None:
        """Note how a probe ended, timed from the end of the one before."""
        now = time.perf_counter()
        self._probes.append(Probe(name, outcome, detail, round((now - self._since) * 1000, 1)))
        self._since = now

    def visible(
        self, variable: str, gpus: Sequence[Gpu], *, ordered: bool = True, parents: Sequence[str | None] = ()
    ) -> Sequence[Gpu]:
        """The GPUs of one vendor that a variable leaves (see `select`), with a note of what it does."""
        value = self.env.get(variable)
        if value is None or not gpus:
            return gpus
        setting = variable + "=" + (plain(value, 80) or "''")
        kept = select(value, [gpu.uuid for gpu in gpus], ordered=ordered, parents=parents)
        if kept is None:
            self.notes.append(
                f"{setting} names GPUs by UUID or in CUDA's own order, which is not known here: all are considered. "
                "With CUDA_DEVICE_ORDER=PCI_BUS_ID the order is."
            )
            return gpus
        if hidden := len(gpus) - len(kept):
            self.notes.append(f"{setting} hides {hidden} of {len(gpus)} {gpus[0].vendor.upper()} GPUs.")
        return [gpus[place] for place in kept]

    def machine(self) -> Machine:
        """What was found."""
        found = tuple(self.problems), tuple(self.notes), tuple(self._probes)
        return Machine(self.platform, tuple(self.gpus), self.driver, *found)


class Device(NamedTuple):
    """A display controller, or an accelerator of AMD's."""

    id: str  # `vendor:device` in lower case: `10de:2330`
    driver: str | None = None  # Linux: the kernel's that is bound to it: `nvidia`, `nouveau`, `amdgpu`, `vfio-pci`
    name: str = ""  # Windows: as its driver registered it


def devices(scene: Scene) -> list[Device]:
    """The GPUs of NVIDIA, AMD and Intel on the bus, in its order."""
    if scene.platform.system == "windows":
        return parse_adapters(registry())
    found = []
    for address in scene.names("/sys/bus/pci/devices"):
        folder = f"/sys/bus/pci/devices/{address}"
        # One read instead of three: servers have hundreds of PCI functions.
        if pci_id := parse_modalias(scene.read(f"{folder}/modalias")):
            driver = None
            with suppress(OSError):
                driver = os.path.basename(os.readlink(scene.at(f"{folder}/driver")))
            found.append(Device(pci_id, driver))
    return found


def parse_modalias(text: str) -> str | None:
    """`10de:2330` from a GPU's modalias, `pci:v000010DEd00002330sv...bc03sc02i00`; None for other devices."""
    # Class 03 is a display controller; AMD's MI300 is class 12, as is Intel's NPU.
    match = re.match(r"pci:v0000(10de|1002|8086)d0000([0-9a-f]{4})\S*bc(03|12)sc", text.lower())
    return f"{match[1]}:{match[2]}" if match and (match[3] == "03" or match[1] == "1002") else None


def registry() -> list[dict[str, object]]:
    """The values of Windows' keys of display adapters."""
    rows: list[dict[str, object]] = []
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415  Windows only

        adapters = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
        with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, adapters) as parent:
            for number in range(winreg.QueryInfoKey(parent)[0]):
                # Keys such as Properties are the system's own.
                with suppress(OSError), winreg.OpenKey(parent, winreg.EnumKey(parent, number)) as key:
                    values = [winreg.EnumValue(key, place) for place in range(winreg.QueryInfoKey(key)[1])]
                    rows.append({name: value for name, value, _ in values})
    return rows


def parse_adapters(rows: Iterable[Mapping[str, object]]) -> list[Device]:
    r"""Read `MatchingDeviceId`, like `pci\ven_10de&dev_2684&subsys_...`, and `DriverDesc`."""
    found = []
    for row in rows:
        match = re.search("ven_(10de|1002|8086)&dev_([0-9a-f]{4})", str(row.get("MatchingDeviceId", "")).lower())
        if match:
            name = plain(str(row.get("DriverDesc", ""))) or "GPU"
            found.append(Device(f"{match[1]}:{match[2]}", None, name))
    return found


def parse_tegra_release(text: str) -> str:
    """`R36.4.3` from /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, GCID: ..., BOARD: ...`."""
    found = re.search(r"\bR([0-9]{1,6})\b(?:.*?REVISION:\s*([0-9][0-9.]{,20}))?", text)
    return "R" + ".".join(filter(None, found.groups())) if found else "unknown release"


def select(
    value: str, uuids: Sequence[str | None], *, ordered: bool, parents: Sequence[str | None] = ()
) -> list[int] | None:
    """The positions that a variable's value keeps of GPUs with these UUIDs; None where what it goes by is not known.

    As CUDA reads it: entries are indexes or UUIDs (a unique beginning is enough; a split GPU's means its slices), and
    the first that names nothing (`-1`, an index too high, SLURM's `NoDevFiles`) ends the list. `ordered`: index n means
    position n. `parents`: the UUIDs of the GPUs that MIG slices belong to.
    """
    if None in uuids and re.search(r"(^|,)\s*(gpu|mig)-", value, re.IGNORECASE):
        return None
    known, owners = ([str(uuid).lower() for uuid in given] for given in (uuids, parents))
    matches = (_named(entry.strip(), known, owners) for entry in value.lower().split(","))
    kept = list(dict.fromkeys(chain(*takewhile(bool, matches))))
    if kept and not ordered and len(kept) < len(uuids) and re.search(r"(^|,)\s*[0-9]", value):
        return None
    return kept


def _named(entry: str, uuids: Sequence[str], parents: Sequence[str]) -> list[int]:
    if re.fullmatch("[0-9]{1,5}", entry):
        return [*range(len(uuids))][int(entry) :][:1]
    if not re.match("(gpu|mig)-.", entry):
        return []
    matches = [position for position, uuid in enumerate(uuids) if uuid.startswith(entry)]
    return matches if len(matches) == 1 else [position for position, uuid in enumerate(parents) if uuid == entry]


def plain(text: str, limit: int = 300) -> str:
    """One line that is safe to print: control characters and runs of blanks become one blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())[:limit]


class Result(NamedTuple):
    """How a program ended."""

    code: int | None  # Its exit code, -n where signal n ended it; None if it did not start, or was killed here
    output: str  # stdout and stderr together, at most 256 kB
    failure: str = ""  # Why there is no code: `took more than 2 s`
    hung: bool = False  # It was killed because its time was over


def time_limit(env: Mapping[str, str], *, alive: bool) -> float:
    """How many seconds a probe may take: UVTORCH_PROBE_TIMEOUT, else 2, or 15 where its driver is `alive`.

    Raises UsageError for a variable that is not a number of seconds.
    """
    text = env.get("UVTORCH_PROBE_TIMEOUT", "").strip()
    if text and not (re.fullmatch(r"[0-9]{1,4}(\.[0-9]{,9})?", text, re.ASCII) and 0 < float(text) <= 3600):
        raise UsageError(
            f"UVTORCH_PROBE_TIMEOUT={plain(text, 80)} is not a number of seconds",
            "It is how long a driver may take to answer, between 0 and 3600, such as 30.",
        )
    return float(text) if text else LONG_S if alive else SHORT_S


def run(
    argv: Sequence[str], env: Mapping[str, str], seconds: float, *, whom: str = "", tell: Tell | None = None
) -> Result:
    """Run a program (an absolute path); kill it and its children after `seconds`, or when a signal ends us.

    One that sleeps in a driver cannot be killed, and is left behind. `tell` is told when `whom` takes over `SHORT_S`.
    """
    import subprocess  # noqa: PLC0415  7 ms, and most machines without a GPU need none

    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**env, "LC_ALL": "C"},  # above LANG and its like
            cwd=os.path.dirname(argv[0]),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Result(None, "", f"could not be started: {getattr(error, 'strerror', None) or error}")

    def wait(seconds: float) -> tuple[str, bool]:
        """(what it has written until now, whether it ended)."""
        try:
            output, ended = child.communicate(timeout=seconds)[0], True
        except subprocess.TimeoutExpired as error:
            output, ended = error.output or b"", False
        return output[: 2**18].decode("utf-8", "replace"), ended

    with _ended_with_us(child):
        output, ended = wait(min(seconds, SHORT_S))
        if not ended and seconds > SHORT_S and tell:
            waiting = f"waiting for up to {seconds:g} s (UVTORCH_PROBE_TIMEOUT sets the limit)"
            tell(f"{whom} has not answered yet; {waiting}")
        if not ended:  # at least a moment: the time may be over because we were stopped (Ctrl-Z)
            output, ended = wait(max(seconds - SHORT_S, 0.05))
    if ended:
        return Result(child.returncode, output)
    output, ended = wait(0.5)
    if not ended and child.stdout:  # left behind: nobody shall wait for it
        child.returncode = -9
        child.stdout.close()
    return Result(None, output, f"took more than {seconds:g} s", hung=True)


@contextmanager
def _ended_with_us(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the program, which no terminal's signal reaches, at the end or when a signal ends us."""

    def end(number: int, _: object) -> None:
        _kill(child)
        signal.signal(number, before[number])
        signal.raise_signal(number)

    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP
    before = {number: it for number in numbers if (it := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        if child.poll() is None:
            _kill(child)
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)  # its children too: it leads their group
    except (AttributeError, OSError):  # Windows has no groups
        child.kill()

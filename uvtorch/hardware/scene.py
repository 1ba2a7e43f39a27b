"""What every vendor's probe works on: the machine that is looked at, and what was found so far."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sized

from uvtorch import files
from uvtorch.hardware.host import Host
from uvtorch.machine import Driver, Gpu, Machine, Outcome, Platform, Probe, Problem, ProblemKind, Vendor

CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
"""The kubelet sets the first in every pod; `container` is systemd's convention, which podman and LXC follow."""
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv", "/.singularity.d")
CONTAINER_GROUPS = ("/docker", "/kubepods", "/lxc", "/libpod", "/containerd", "/machine.slice/")


def to_nobody(text: str) -> None:
    """Tell nobody."""


class Scene:
    """The machine and the process that hardware is looked for; probes add what they find.

    `root` is the root of the file system: `/`, or where a test has laid one out. Its files are read bounded and without
    raising. `tell` tells a person, while a probe takes long, what is waited for.
    """

    def __init__(
        self, host: Host, env: Mapping[str, str], root: str = "/", tell: Callable[[str], None] = to_nobody
    ) -> None:
        self.env, self.root, self.tell = env, root, tell
        self.driver: Driver | None = None
        self.gpus: list[Gpu] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._probes: list[Probe] = []
        self._since = time.perf_counter()
        musl = "musl" if any(name.startswith("ld-musl-") for name in self.names("/lib")) else None
        wsl, tegra = "microsoft" in host.release.lower(), self._tegra(host)
        facts = host.libc or musl, wsl, self._is_container(), tegra, host.os_version
        self.platform = Platform(host.system, host.machine, *facts)

    def _is_container(self) -> bool:
        groups = self.read("/proc/1/cgroup", 8192)
        told = any(map(self.env.get, CONTAINER_VARIABLES)) or any(word in groups for word in CONTAINER_GROUPS)
        return told or any(map(self.exists, CONTAINER_FILES))

    def _tegra(self, host: Host) -> str | None:
        """A Jetson's release; None elsewhere."""
        release = self.read("/etc/nv_tegra_release", 4096)
        if host.machine == "aarch64" and (release or "tegra" in host.release.lower()):
            return parse_tegra_release(release)
        return None

    # Its files

    def at(self, path: str) -> str:
        """Where an absolute path is."""
        return path if self.root == "/" else self.root.rstrip("/") + path

    def read(self, path: str, limit: int = 65536) -> str:
        """The first `limit` bytes of a file as text; empty if it cannot be read."""
        try:
            return files.head(self.at(path), limit).decode("utf-8", "replace")
        except (OSError, ValueError):
            return ""

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none if it cannot be read."""
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether something is there."""
        return os.path.exists(self.at(path))

    # What was found

    def machine(self) -> Machine:
        """All of it."""
        found = tuple(self.problems), tuple(self.notes), tuple(self._probes)
        return Machine(self.platform, tuple(self.gpus), self.driver, *found)

    def probe(self, name: str, outcome: Outcome, detail: str = "") -> None:
        """Say how a probe ended; its time counts from the end of the one before."""
        now = time.perf_counter()
        self._probes.append(Probe(name, outcome, detail, round((now - self._since) * 1000, 1)))
        self._since = now

    def problem(self, vendor: Vendor, kind: ProblemKind, reason: str, remedy: str = "") -> None:
        """Say what keeps hardware from being used."""
        self.problems.append(Problem(vendor, kind, reason, remedy))

    def late(self, whom: str, seconds: float) -> Callable[[], None]:
        """What to do when `whom` takes long to answer, of the `seconds` it has."""
        return lambda: self.tell(
            f"{whom} has not answered yet; waiting for up to {seconds:g} s (UVTORCH_PROBE_TIMEOUT sets the limit)"
        )


def parse_tegra_release(text: str) -> str:
    """`R36.4.3` from /etc/nv_tegra_release: `# R36 (release), REVISION: 4.3, GCID: ..., BOARD: ...`."""
    found = re.search(r"\bR([0-9]{1,6})\b(?:.*?REVISION:\s*([0-9][0-9.]{,20}))?", text)
    return "R" + ".".join(filter(None, found.groups())) if found else "unknown release"


def count(gpus: Sized) -> str:
    """`1 GPU`, `8 GPUs`."""
    return f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'}"

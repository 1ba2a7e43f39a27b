"""What every vendor's probe works on: the machine that is looked at, and what was found so far."""

import time
from collections.abc import Callable, Mapping, Sized

from uvtorch.machine import Driver, Gpu, Machine, Outcome, Platform, Probe, Problem, ProblemKind, Vendor


class Scene:
    """The machine and the process that hardware is looked for; probes add what they find.

    `root` is the root of the file system: `/`, or where a test has laid one out. `tell` tells a person, while a probe
    takes long, what is waited for.
    """

    def __init__(self, platform: Platform, env: Mapping[str, str], root: str, tell: Callable[[str], None]) -> None:
        self.platform, self.env, self.root, self.tell = platform, env, root, tell
        self.driver: Driver | None = None
        self.gpus: list[Gpu] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._probes: list[Probe] = []
        self._since = time.perf_counter()

    def machine(self) -> Machine:
        """All that was found."""
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


def count(gpus: Sized) -> str:
    """`1 GPU`, `8 GPUs`."""
    return f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'}"

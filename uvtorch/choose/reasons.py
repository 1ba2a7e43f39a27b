"""The words: why a backend is taken or rejected, and what to say beside a choice. Pure."""

from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import number, since
from uvtorch.choose.compatibility import Judge, capability, labels
from uvtorch.choose.gpus import Hardware
from uvtorch.choose.table import Row, Table, best, ranked
from uvtorch.packages import has_build

ASKED = "asked for"
CPU = Backend("cpu")


class Candidate(NamedTuple):
    """One (backend, newest torch it could give for this request), and what was made of it."""

    backend: Backend
    torch: str | None
    accepted: bool
    reason: str
    """Why it was rejected, or why it was accepted: a clause a person can read, in ASCII."""
    native: bool = False
    """The driver's own CUDA is at least the build's (else it runs by minor-version compatibility)."""
    certainty: str = ""
    """How sure the catalog is that this build exists (`catalog.CERTAINTIES`)."""


def why(judge: Judge, hardware: Hardware, backend: Backend) -> str:
    """Why a backend is taken, one clause."""
    machine = judge.machine
    if backend.family == "cpu":
        if machine.platform.system == "macos":
            arm = judge.platform == "macos_arm64"
            return "macOS: the default wheel has Metal (MPS)" if arm else "macOS on Intel: torch ends at 2.2.2"
        return "no GPU that PyTorch can use" if machine.gpus or machine.problems else "no GPU"
    if backend.family != "cu":
        return labels(hardware.gpus)
    driver = machine.nvidia_driver.version if machine.nvidia_driver else "?"
    supports = f"driver {driver} supports CUDA {'.'.join(map(str, judge.cuda or '?'))}"
    how = "" if judge.is_native(backend) else f" ({backend} by minor-version compatibility)"
    return f"{supports}{how}; {labels(hardware.gpus)}"


def warnings(table: Table, chosen: Row) -> tuple[str, ...]:
    """What to say beside a choice: GPUs passed over, GPUs that are not known, what requires-python costs."""
    judge, backend = table.judge, chosen.backend
    said = list(table.hardware.warnings)
    cuda = table.hardware.gpus if backend.family == "cu" else ()
    if blind := [gpu for gpu in cuda if capability(gpu) is None]:
        said.append(
            f"the compute capability of {labels(blind)} is not known, so {backend} is chosen by the driver alone"
        )
    if unknown := [gpu for gpu in cuda if judge.is_newer(gpu)]:
        known = f"is newer than uvtorch's catalog (as of {judge.catalog.as_of})"
        said.append(f"{labels(unknown)} {known}; {backend} is the newest build that this driver runs")
    unbuilt = (name for name in sorted(table.need.packages) if not has_build(name, backend))
    said += (f"{name} has no build for {backend}: it comes from the default index, for the CPU" for name in unbuilt)
    return (*said, *_cost_of_range(table, chosen))


def _cost_of_range(table: Table, chosen: Row) -> list[str]:
    lost = (row for row in table.rows if row.requested and row.fails("range"))
    wider = max(lost, key=lambda row: row.order, default=None)
    if wider is None or table.need.oldest is None or number(wider.release) <= number(chosen.release):
        return []
    oldest = f"requires-python allows Python {next(iter(table.need.oldest.pythons))}"
    without = f"without it, torch {wider.release} ({wider.backend}) fits"
    return [f"{oldest}, which {wider.backend} has no torch for: {without}"]


def candidates(table: Table, taken: Backend | None, torch: str | None, reason: str) -> tuple[Candidate, ...]:
    """Every backend of the catalog, highest first, with what was made of it; `taken`, `torch`, `reason`: the choice.

    One that the catalog does not know comes before all others.
    """
    judge, chosen = table.judge, table.find(taken, torch)
    known = ranked(judge.catalog.builds)
    found = []
    for backend in known if taken is None or taken in known else [taken, *known]:
        release, why = (torch, reason) if backend == taken else _rejected(table, backend, chosen)
        if reason == ASKED and backend != taken:
            why = f"{taken} is {ASKED}"
        native = backend.family == table.hardware.family and judge.is_native(backend)
        build = judge.catalog.builds.get(backend, {}).get(release or "", {}).get(judge.platform)
        found.append(Candidate(backend, release, backend == taken, why, native, build.certainty if build else ""))
    return tuple(found)


def _rejected(table: Table, backend: Backend, chosen: Row | None) -> tuple[str | None, str]:
    """(the release that a backend could give, why it is not taken)."""
    rows, index = table.of(backend), [*table.judge.catalog.builds[backend]]
    newest = table.find(backend, index[-1])
    shown = best(rows) or max(rows, key=lambda row: row.miss, default=None)
    if shown:
        return shown.release, str(shown.fault or _not_taken(table, shown, chosen))
    if newest and newest.fails("gpu"):
        return None, str(newest.fault)
    span = " to ".join(dict.fromkeys((index[0], index[-1])))
    return None, "the requirements contradict" if table.need.conflict else f"has torch {span} only"


def _not_taken(table: Table, row: Row, chosen: Row | None) -> str:
    """Why a row that runs is not the one taken."""
    judge, backend = table.judge, row.backend
    if chosen is None:
        return "runs here, but is not on offer"
    better = chosen.backend
    if row.release != chosen.release:
        return f"runs here, but ends at torch {row.release}: {better} has {chosen.release}"
    if backend.family != "cu":
        split = since(backend, judge.catalog.split)
        libraries = f"needs rocm-sdk packages for every GPU; {better} brings its libraries"
        return f"runs here, but {libraries if split else f'{better} is newer'}"
    if backend.version[0] != better.version[0]:
        return f"runs here, but the driver also runs CUDA {better.version[0]}: {better}"
    if judge.is_native(better) and not judge.is_native(backend):
        return f"runs by minor-version compatibility only; {better} natively"
    return f"runs here, but {better} is {'newer and as native' if judge.is_native(backend) else 'nearer to the driver'}"

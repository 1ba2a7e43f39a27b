"""Judging builds that a project already has: whether a pin runs here, and which of its choices is the best. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import newer
from uvtorch.choose.compatibility import FAMILY, labels
from uvtorch.choose.gpus import MAKER, Hardware
from uvtorch.choose.messages import CPU, span, why
from uvtorch.choose.request import Request
from uvtorch.choose.table import Row, Table, evaluate
from uvtorch.machine import Machine


class Option(NamedTuple):
    """What `rank_choices` made of one of the backends it was given."""

    backend: Backend | None
    """As given; None is what PyPI gives on this platform."""
    torch: str | None
    fits: bool
    reason: str


class Ranking(NamedTuple):
    """The best of a given set of backends."""

    best: int | None
    """Index of the best one in what was given; None if not even a CPU build is among them."""
    options: tuple[Option, ...]
    """One for each given, in the same order."""
    warnings: tuple[str, ...] = ()
    """Said where the best one does not use this machine's GPU."""


def cannot_run(machine: Machine, backend: Backend, torch: str | None, catalog: Catalog) -> str | None:
    """Why a pinned build does not run on this machine, a clause that names what would be needed; None if it does.

    `torch` is the release that is locked or pinned; None asks whether any release of the backend runs.
    """
    return why_not(evaluate(machine, _of(torch), catalog, backend), backend)


def why_not(table: Table, backend: Backend) -> str | None:
    """Why no build of a backend that is admitted runs here, a clause; None if one does. `table` is of `backend`."""
    judge, used, rows = table.judge, table.hardware.gpus, table.of(backend)
    if judge.unsupported:
        return judge.unsupported
    unknown = newer.fault(judge, used, backend)
    counts = bool(used) or backend.family == "cpu"
    if not counts and not (unknown and unknown.step == "platform"):
        problems = (one.reason for one in judge.machine.problems if FAMILY.get(one.vendor) == backend.family)
        return next(problems, f"{backend} needs an {MAKER[backend.family]} GPU, and none is visible here")
    known = backend in judge.catalog.builds and bool(table.need.releases)
    return _missed(table, backend, rows if known and (counts or not rows) else None)


def _missed(table: Table, backend: Backend, rows: Sequence[Row] | None) -> str | None:
    """Why none of these rows of a backend runs, a clause; None if one does.

    Without rows, the catalog does not know it: it is judged by the driver and the newest known kernels of the backend.
    """
    if rows is None:
        unknown = newer.fault(table.judge, table.hardware.gpus, backend)
        return f"it {unknown}" if unknown else None
    if not rows:
        return f"its index has torch {span(table, backend)}, not {table.need.text}"
    nearest = max(rows, key=lambda row: row.miss)
    return str(nearest) if nearest.fault else None


def _of(torch: str | None) -> Request:
    return Request((f"torch=={torch}",) if torch else ())


def leaves_idle(machine: Machine, backend: Backend, torch: str | None, catalog: Catalog) -> str | None:
    """Why a pinned build leaves the GPU idle, a clause that names what would use it; None if it does not.

    True of a CPU build beside a GPU that some build of `torch` (None: of any release) would use.
    """
    table = evaluate(machine, _of(torch if torch in catalog.releases else None), catalog)
    fits = table.best()
    if backend.family != "cpu" or fits is None or fits.backend.family == "cpu":
        return None
    return f"{backend} leaves {labels(table.hardware.gpus)} idle; {fits.backend} would use it"


def rank_choices(
    machine: Machine,
    request: Request,
    backends: Sequence[Backend | None],
    catalog: Catalog,
    torch: Sequence[str | None] = (),
    requirements: Sequence[tuple[str, ...]] = (),
) -> Ranking:
    """Pick the best of the backends that a project offers.

    `backends`: one for each choice; None is the build that PyPI gives on this platform. `torch`: the release that each
    choice has locked, if known; else what uv would lock counts, the newest that is allowed on that backend, whether
    it runs here or not. `requirements`: those of each choice, where they are not `request.requirements` for all. The
    order is that of `choose`: builds that use the GPU, newest torch first; then the CPU build, with a warning if a GPU
    stays idle; then None. Without a GPU a CPU build comes before a larger one that would run as well. Between equals a
    named backend comes before PyPI's. `request.backend` does not count.
    """
    wanted = requirements or [request.requirements] * len(backends)
    first = evaluate(machine, request, catalog)
    tables = {texts: first.again(asked=request._replace(requirements=texts)) for texts in wanted}
    locked = torch or [None] * len(backends)
    options = tuple(
        _option(tables[texts], backend, release)
        for texts, backend, release in zip(wanted, backends, locked, strict=True)
    )

    def order(place: int) -> tuple[object, ...]:
        option = options[place]
        real = option.backend or catalog.on_pypi(option.torch, machine.platform.key)[0] or CPU
        newest, preference = number(option.torch or "0"), first.judge.preference(real._replace(channel=""))
        return real.family == first.hardware.family, newest, preference, option.backend is not None, -place

    fitting = [place for place, option in enumerate(options) if option.fits]
    if fitting and not first.hardware.refusal:
        unused = first.hardware.warnings if first.hardware.family == "cpu" else ()
        return Ranking(max(fitting, key=order), options, unused)
    return _spare(first.hardware, options)


def _spare(hardware: Hardware, options: tuple[Option, ...]) -> Ranking:
    """What is left where no choice fits: the CPU choice, else what PyPI gives, else none."""
    families = [option.backend.family if option.backend else "" for option in options]
    spare = next((families.index(family) for family in ("cpu", "") if family in families), None)
    if spare is not None and hardware.family == "cpu" and not hardware.refusal:
        return Ranking(spare, options, hardware.warnings)
    # Of those for this machine's GPU, else of others for a GPU.
    places = sorted(range(len(options)), key=lambda at: (families[at] != hardware.family, families[at] == "cpu"))
    misses = [f"{options[at].backend or 'PyPI'}: {options[at].reason}" for at in places]
    why = (hardware.refusal or next(iter(misses), "no choice is offered")).rstrip(".")
    if spare is None:
        return Ranking(None, options, (f"no backend choice fits this machine: {why}",))
    taken = "the CPU choice" if families[spare] else "what PyPI gives"
    return Ranking(spare, options, (f"no GPU choice fits this machine ({why}): taking {taken}",))


def _option(table: Table, backend: Backend | None, torch: str | None) -> Option:
    need, catalog = table.need, table.judge.catalog
    # A lock that no longer satisfies the requirements is about to be made anew.
    torch = None if torch in catalog.releases and torch not in need.releases else torch
    if backend is None:
        return _pypi_option(table, torch)
    if wrong := table.hardware.rejects(backend):
        return Option(backend, torch, False, wrong)
    if backend not in catalog.builds or not need.releases or torch not in (None, *catalog.releases):
        missed = _missed(table, backend, None)
        return Option(backend, torch, not missed, missed or "not in the catalog; the driver runs it")
    rows = [row for row in table.of(backend) if torch in (None, row.release)]
    # uv takes the newest that the index has for this Python, and knows nothing of kernels and drivers.
    rows = [row for row in rows if not row.fails("python")][:1] or rows[:1]
    missed = None if any(map(_runs, rows)) else _missed(table, backend, rows)
    return Option(backend, torch if missed else rows[0].release, not missed, missed or why(table, backend))


def _runs(row: Row) -> bool:
    """Whether a row runs; that a choice has nothing for the oldest Python is for uv to say when it locks."""
    return row.fault is None or row.fails("range")


def _pypi_option(table: Table, torch: str | None) -> Option:
    """What PyPI gives: the newest release with a wheel here, whatever it was built for."""
    judge, need, hardware = table.judge, table.need, table.hardware
    for release in (torch,) if torch in need.releases else need.releases:
        backend, tags = judge.catalog.on_pypi(release, judge.platform)
        if backend and tags & need.pythons and not judge.system_fault(backend, release):
            break
    else:
        return Option(None, None, False, "PyPI has no wheel for this platform and Python")
    row, ours = table.find(backend, release), hardware.rejects(backend) is None
    # PyPI's CUDA build works without a GPU; no other family is on PyPI.
    wrong = hardware.refusal or (hardware.rejects(backend) if hardware.family != "cpu" else None)
    if ours and row and not _runs(row):
        wrong = wrong or str(row.fault)
    said = wrong or why(table, backend if ours else CPU)
    return Option(None, release, not wrong, f"PyPI's torch {release} ({backend}): {said}")

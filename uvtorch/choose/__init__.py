"""The choice: (machine, request, catalog) -> Decision. Pure, no I/O.

Of the builds that run here, the newest torch that the request allows; for that torch, the newest CUDA major that the
driver runs, and within it the highest build that the driver supports natively, else the lowest by minor-version
compatibility. The CPU build where there is no GPU that PyTorch has or will have a build for; a refusal where another
release or driver would do. Releases that the catalog does not know are for the indexes to answer (`Decision.ask`).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number, since
from uvtorch.choose.compatibility import FAMILY, MAKER, Hardware, labels, platform_name
from uvtorch.choose.table import (
    CPU,
    Need,
    Request,
    Row,
    Table,
    Wish,
    absent,
    evaluate,
    local_backend,
    newest_fit,
    refusal,
    warnings,
    why,
)
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.packages import has_build
from uvtorch.requirement import parse, without_local

__all__ = ["Decision", "Option", "Ranking", "Request", "after_asking", "choose", "evaluate", "local_backend"]
__all__ += ["rank_choices"]

ASKED = "asked for"
"""The reason of a backend that was named."""
_OLD = {"cu": "cu117", "rocm": "rocm5.2"}
"""Family -> the newest backend with torch 1.13.1 (pytorch.org's page of previous versions: declared)."""


class Decision(NamedTuple):
    """What `choose` decided. Exactly one of `backend`, `refusal` and `ask` is set."""

    backend: Backend | None
    torch: str | None = None
    """The newest known torch release that the choice gives."""
    native: bool = False
    reason: str = ""
    """One clause: `driver 570.124.06 supports CUDA 12.8; H100 (9.0)`."""
    platforms: frozenset[str] | None = None
    """The platforms (`backend.PLATFORMS`) that have wheels of this torch on this index; None: all."""
    companions: tuple[str, ...] = ()
    """Packages torch needs from the same index by another name: `triton-rocm`."""
    bounds: tuple[tuple[str, str], ...] = ()
    """(package, specifier) without which uv would resolve to a build that cannot run: `("torch", "<2.12")`."""
    warnings: tuple[str, ...] = ()
    fault: str | None = None
    """Why the backend that was asked for does not run here, one clause."""
    refusal: str | None = None
    """One sentence saying what the request needs and what this machine has."""
    hints: tuple[str, ...] = ()
    """With a refusal: what would fit."""
    ask: tuple[Backend, ...] = ()
    """The indexes to ask, in this order, through uv, for a release that the catalog does not know."""
    table: Table | None = None
    newest: str = ""
    """The newest known release, where nothing keeps uv from a newer one."""

    def beyond(self, torch: str | None) -> tuple[str, ...]:
        """The line about a release that uv took and the catalog does not know."""
        if not torch or not self.newest or number(torch) <= number(self.newest):
            return ()
        refresh = "update uvtorch, or let UVTORCH_CATALOG name a newer copy"
        return (f"torch {torch} is newer than uvtorch's catalog, which ends at {self.newest}: {refresh}",)

    @property
    def release(self) -> str:
        """The torch that uv gives: `torch 2.14.1`, `torch 2.15.0 or newer`, or "" for none known."""
        newer = " or newer" if self.torch == self.newest else ""
        return f"torch {self.torch}{newer}" if self.torch else ""


def choose(machine: Machine, request: Request, catalog: Catalog) -> Decision:
    """Choose the build. UsageError for a request that cannot be read or names two backends."""
    local, asked = local_backend(request.requirements, machine), request.backend
    if local and asked and local != asked:
        raise UsageError(
            f"the requirement names the backend {local}, but {asked} is asked for",
            f"leave out one of them: the local version +{local.name}, or --torch-backend {asked}",
        )
    table = evaluate(machine, request, catalog)
    if named := asked or local:
        return _obey(table, named)
    if request.python and not request.python[0].isdigit():
        said = f"PyTorch is built for CPython only, and this project's Python is {request.python}."
        return _refuse(table, said, "`uv python pin 3.12` chooses CPython, unless --python or UV_PYTHON names another")
    if refused := table.judge.unsupported or table.hardware.refusal or table.need.conflict:
        return _refuse(table, f"{refused}.", *table.hardware.hints)
    if not _is_known(table):
        return _unknown(table)
    chosen = table.best()
    if chosen is None:
        sentence, hints = refusal(table)
        return _refuse(table, sentence, *hints)
    decided = _decide(table, chosen.backend, chosen.release, why(table, chosen.backend))
    return decided._replace(warnings=tuple(warnings(table, chosen)))


def _refuse(table: Table, said: str, *hints: str) -> Decision:
    return Decision(None, refusal=said, hints=hints, table=table)


def after_asking(decision: Decision, found: Backend | None, request: Request, catalog: Catalog) -> Decision:
    """Settle a decision whose `ask` was put to the indexes; `found`: the first that had a match."""
    if found is None:
        wanted, asked = " ".join(request.requirements) or "torch", ", ".join(map(str, decision.ask))
        return decision._replace(ask=(), refusal=f"No index that fits this machine has {wanted} (asked: {asked}).")
    return decision._replace(
        backend=found,
        reason=f"{decision.reason}; its index has it",
        newest=catalog.newest,
        ask=(),
        hints=(),
        platforms=_platforms(found, None, catalog),
        companions=_companions(found, None, catalog),
    )


def _decide(table: Table, backend: Backend, release: str | None, reason: str) -> Decision:
    catalog = table.judge.catalog
    bounds = _bounds(table.need, backend, release, catalog) if release else ()
    return Decision(
        backend,
        release,
        table.judge.is_native(backend),
        reason,
        _platforms(backend, release, catalog),
        _companions(backend, release, catalog),
        bounds,
        newest=catalog.newest if table.need.open and "torch" not in dict(bounds) else "",
        table=table,
    )


def _platforms(backend: Backend, release: str | None, catalog: Catalog) -> frozenset[str] | None:
    """The platforms with wheels of a release (None: of any) on an index, those of its family for an unknown one."""
    if backend.family == "cpu":
        return None
    own = catalog.builds.get(backend._replace(channel=""))
    indexes = [own] if own else catalog.of(backend.family).values()
    builds = (cells for index in indexes for one, cells in index.items() if release in (None, one))
    return frozenset(platform for cells in builds for platform in cells)


def _companions(backend: Backend, release: str | None, catalog: Catalog) -> tuple[str, ...]:
    known = release if release in catalog.releases else catalog.newest
    rows = (names for first, releases, names in catalog.companions if known in releases and since(backend, first))
    return tuple(name for names in rows for name in names)


def _bounds(need: Need, backend: Backend, release: str, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    index = catalog.builds.get(backend, {})
    above = [other for other in need.possible if other in index and number(other) > number(release)]
    limits = [("torch", version) for version in above[-1:]]
    limits += ((wish.package, version) for wish in need.wishes for version in _loose(wish, backend, release, catalog))
    return tuple(dict.fromkeys((package, f"<{first.removesuffix('.0')}") for package, first in limits))


def _loose(wish: Wish, backend: Backend, release: str, catalog: Catalog) -> list[str]:
    """The lowest version that does not go with this build and that uv would take all the same, if there is one."""
    cuda = () if has_build(wish.package, backend, release) else catalog.with_cuda.get(wish.package, ())
    paired = (version for version, torch in wish.versions.items() if release in torch and version not in cuda)
    last = max(map(number, paired), default=None)
    loose = [one for one in wish.versions if last and (wish.package, one) in catalog.loose and number(one) > last]
    return sorted(loose, key=number)[:1]


# What the catalog does not know: newer releases and backends


def _is_known(table: Table) -> bool:
    served = {row.release for row in table.rows if row.backend.family == table.hardware.family}
    return any(release in served or not _unseen(table, [release]) for release in table.need.releases)


def _unseen(table: Table, releases: Collection[str]) -> list[Backend]:
    backends = (backend for release in releases for backend in table.judge.catalog.unseen.get(release, ()))
    return [backend for backend in backends if backend.family == table.hardware.family]


def _lowest(table: Table) -> tuple[int, ...]:
    """About the lowest release that a request admits; the newest known one where it has no lower end."""
    torch = (wish.text for wish in table.need.wishes if wish.package == "torch")
    clauses = [clause for text in torch for clause in parse(without_local(text)).specifier]
    lows = [number(clause.version) for clause in clauses if clause.operator in ("==", "===", ">=", ">", "~=")]
    highs = [number(clause.version) for clause in clauses if clause.operator in ("<", "<=")]
    first, *_, last = map(number, table.judge.catalog.releases)
    return max(lows, default=(0,) if highs and min(highs) <= first else last)


def _unknown(table: Table) -> Decision:
    judge, family, catalog = table.judge, table.hardware.family, table.judge.catalog
    (_, newest), low = newest_fit(table), _lowest(table)

    def refuse(said: str, *hints: str) -> Decision:
        return _refuse(table, f"{table.need.text} is {said}. {newest}".strip(), *hints)

    if family in ("cpu", "xpu"):
        backend = Backend(family)
        if low > number(catalog.newest) and judge.platform not in [*catalog.builds[backend].values()][-1]:
            where = platform_name(judge.platform)
            return refuse(f"newer than uvtorch's catalog, and torch has no more wheels for {where}")
        # One index: nothing to choose, and uv says if it has it.
        decided = _decide(table, backend, None, why(table, backend))
        return decided._replace(warnings=table.hardware.warnings)
    if low < number(first := next(iter(catalog.releases))):
        way = f"name a backend that has it (`--torch-backend {_OLD[family]}` has torch 1.13.1), or take a"
        way += " newer torch; https://pytorch.org/get-started/previous-versions/ lists them"
        return refuse(f"older than uvtorch's catalog (torch {first} and later)", way)
    if ask := _askable(table, low):
        reason, hints = f"{table.need.text} is not in the catalog", (newest,) if newest else ()
        return Decision(None, reason=reason, hints=hints, warnings=table.hardware.warnings, ask=ask, table=table)
    here = f"{labels(table.hardware.gpus)}{' with this driver' if family == 'cu' else ''}"
    said = f"newer than uvtorch's catalog, and no backend that still gets new releases runs on {here}"
    return refuse(said, "`--torch-backend cpu` asks the CPU index for it")


def _askable(table: Table, low: tuple[int, ...]) -> tuple[Backend, ...]:
    judge, need = table.judge, table.need
    backends = _unseen(table, need.releases) or _growing(table, low)
    lacking = {backend for package, backend in judge.catalog.lacking if package in need.packages}
    unfit = (one for one in backends if one in lacking or judge.unknown_fault(table.hardware.gpus, one))
    return tuple(sorted({*backends}.difference(unfit), key=judge.preference, reverse=True))


def _growing(table: Table, low: tuple[int, ...]) -> list[Backend]:
    """The backends of the machine's family that get more builds: an index that ended before `low` does not."""
    catalog, family = table.judge.catalog, table.hardware.family
    before, newest = max(known for known in map(number, catalog.releases) if known <= low), number(catalog.newest)
    backends = [backend for backend, index in catalog.of(family).items() if number(next(reversed(index))) >= before]
    backends += _unseen(table, catalog.unseen) if low >= newest else []
    return backends + [backend for backend in catalog.announced if low > newest and backend.family == family]


# A build that is named: asked for, pinned or offered


def _obey(table: Table, backend: Backend) -> Decision:
    own = table.again(backend=backend)
    rows = own.of(backend)  # None of a nightly or test index: what it holds changes by the day
    # One that runs, else the newest with a wheel here, else the newest.
    with_wheel = (row for row in rows if not row.fails("platform", "python"))
    shown = own.best(backend=backend) or next(with_wheel, next(iter(rows), None))
    decided = _decide(table, backend, shown.release if shown else None, ASKED)
    fault = _misfit(own, backend, rows)
    return decided._replace(
        native=decided.native and (bool(own.hardware.gpus) or backend.family == "cpu"),
        warnings=(f"{backend} will not run on this machine: {fault}",) if fault else (),
        fault=fault,
    )


def _misfit(own: Table, backend: Backend, rows: Sequence[Row]) -> str | None:
    """Why no admitted build of a backend runs here, a clause; None if one does. `own`: its table."""
    judge, used = own.judge, own.hardware.gpus
    if judge.unsupported:
        return judge.unsupported
    unknown, counts = judge.unknown_fault(used, backend), bool(used) or backend.family == "cpu"
    if not counts and not (unknown and unknown.step == "platform"):
        problems = (one.reason for one in judge.machine.problems if FAMILY.get(one.vendor) == backend.family)
        return next(problems, f"{backend} needs an {MAKER[backend.family]} GPU, and none is visible here")
    if rows and counts:
        nearest = max(rows, key=lambda row: row.miss)
        return str(nearest) if nearest.fault else None
    if not rows and backend in judge.catalog.builds and own.need.releases:
        return absent(own, backend)
    return f"it {unknown}" if unknown else None


class Option(NamedTuple):
    """What one of the backends given to `rank_choices` is worth."""

    backend: Backend | None
    """None: what PyPI gives on this platform."""
    torch: str | None
    fits: bool
    reason: str

    @property
    def family(self) -> str:
        """The backend's; empty for PyPI's build."""
        return self.backend.family if self.backend else ""


class Ranking(NamedTuple):
    """What `rank_choices` found."""

    best: int | None
    """Index of the best one; None if not even a CPU build is among them."""
    options: tuple[Option, ...]
    """One for each given, in that order."""
    warnings: tuple[str, ...] = ()
    """Said where the best one does not use this machine's GPU."""


def rank_choices(
    machine: Machine,
    request: Request,
    backends: Sequence[Backend | None],
    catalog: Catalog,
    torch: Sequence[str | None] = (),
    requirements: Sequence[tuple[str, ...]] = (),
    last: Collection[int] = (),
) -> Ranking:
    """Pick the best of the backends that a project offers.

    `backends`: one for each choice; None is what PyPI gives on this platform. `torch`: the release that each has
    locked, else the newest allowed on that backend counts, as uv would lock it. `requirements`: those of each choice,
    where they are not `request.requirements`. `last`: the places of those that are taken only where no other fits.

    Builds that use the GPU come first, newest torch first; then the CPU build, with a warning if a GPU stays idle; then
    None. Between equals a named backend comes before PyPI's. `request.backend` does not count.
    """
    table = evaluate(machine, request, catalog)
    judge, hardware = table.judge, table.hardware
    wanted, locked = requirements or [request.requirements] * len(backends), torch or [None] * len(backends)
    tables = {texts: table.again(asked=request._replace(requirements=texts)) for texts in wanted}
    given = zip(wanted, backends, locked, strict=True)
    options = tuple(_option(tables[texts], backend, release) for texts, backend, release in given)

    def order(place: int) -> tuple[object, ...]:
        option = options[place]
        real = option.backend or catalog.on_pypi(option.torch, judge.platform)[0] or CPU
        newest = number(option.torch or "0")
        return real.family == hardware.family, newest, judge.preference(real), option.backend is not None

    fitting = [place for place, option in enumerate(options) if option.fits]
    if fitting and not hardware.refusal:
        unused = hardware.warnings if hardware.family == "cpu" else ()
        return Ranking(max([at for at in fitting if at not in last] or fitting, key=order), options, unused)
    return _spare(hardware, options)


def _spare(hardware: Hardware, options: tuple[Option, ...]) -> Ranking:
    families = [option.family for option in options]
    spare = next((families.index(family) for family in ("cpu", "") if family in families), None)
    if spare is not None and hardware.family == "cpu" and not hardware.refusal:
        return Ranking(spare, options, hardware.warnings)
    # Of those for this machine's GPU, else of others for a GPU.
    nearest = min(options, key=lambda one: (one.family != hardware.family, one.family == "cpu"), default=None)
    missed = f"{nearest.backend or 'PyPI'}: {nearest.reason}" if nearest else "no choice is offered"
    because = (hardware.refusal or missed).rstrip(".")
    if spare is None:
        return Ranking(None, options, (f"no backend choice fits this machine: {because}",))
    taken = "the CPU choice" if families[spare] else "what PyPI gives"
    return Ranking(spare, options, (f"no GPU choice fits this machine ({because}): taking {taken}",))


def _option(table: Table, backend: Backend | None, torch: str | None) -> Option:
    need, catalog = table.need, table.judge.catalog
    # A lock that no longer satisfies the requirements is about to be made anew.
    torch = None if torch in catalog.releases and torch not in need.releases else torch
    if backend is None:
        return _pypi_option(table, torch)
    if wrong := table.hardware.rejects(backend):
        return Option(backend, torch, False, wrong)
    if backend not in catalog.builds or not need.releases or torch not in (None, *catalog.releases):
        unknown = table.judge.unknown_fault(table.hardware.gpus, backend)
        return Option(
            backend, torch, not unknown, f"it {unknown}" if unknown else "not in the catalog; the driver runs it"
        )
    row = table.taken(backend, torch)
    if row and _runs(row):
        return Option(backend, row.release, True, why(table, backend))
    return Option(backend, torch, False, str(row) if row else absent(table, backend))


def _runs(row: Row) -> bool:
    # That a choice has nothing for the oldest Python is for uv to say when it locks.
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
    row, wrong = table.find(backend, release), hardware.refusal
    # PyPI's CUDA build works without a GPU; no other family is on PyPI.
    if row and not _runs(row) and not (row.fails("gpu") and hardware.family == "cpu"):
        wrong = wrong or str(row.fault)
    said = wrong or why(table, backend if backend.family == hardware.family else CPU)
    return Option(None, release, not wrong, f"PyPI's torch {release} ({backend}): {said}")

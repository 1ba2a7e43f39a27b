"""What `choose` decides. Pure."""

from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import newer, reasons
from uvtorch.choose.compatibility import labels, platform_name
from uvtorch.choose.ranking import why_not
from uvtorch.choose.reasons import Candidate
from uvtorch.choose.refusal import refusal
from uvtorch.choose.request import Need, Request, Wish, local_backend
from uvtorch.choose.table import Table, best, evaluate
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.packages import has_build

_OLD = {"cu": "cu117", "rocm": "rocm5.2"}
"""Family -> the newest backend with torch 1.13.1 (pytorch.org's page of previous versions: declared)."""


class Decision(NamedTuple):
    """What `choose` decided. Exactly one of `backend` and `refusal` is set, unless `ask` is not empty."""

    backend: Backend | None
    torch: str | None = None
    """The newest known torch release that the choice gives."""
    native: bool = False
    reason: str = ""
    """One clause for the decision line: `driver 570.124.06 supports CUDA 12.8; H100 (9.0)`."""
    platforms: frozenset[str] | None = None
    """The platforms that have wheels of this torch on this index (`backend.PLATFORMS` keys); None: all."""
    companions: tuple[str, ...] = ()
    """Packages torch needs from the same index by another name: `triton-rocm`."""
    bounds: tuple[tuple[str, str], ...] = ()
    """(package, specifier) bounds without which uv would resolve to a build that cannot run: `("torch", "<2.12")`."""
    warnings: tuple[str, ...] = ()
    refusal: str | None = None
    """One sentence saying what the request needs and what this machine has."""
    hints: tuple[str, ...] = ()
    """With a refusal: what would fit."""
    ask: tuple[Backend, ...] = ()
    """The catalog does not know the requested version or backend: ask these indexes, in this order, through uv."""
    table: Table | None = None
    """Every build, judged."""
    newest: str = ""
    """The newest release that the catalog knows, where nothing keeps uv from a newer one."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every backend of the catalog, highest first, with what was made of it."""
        return reasons.candidates(self.table, self.backend, self.torch, self.reason) if self.table else ()

    @property
    def or_newer(self) -> bool:
        """Whether `torch` is the newest that the catalog knows, and uv may take a newer one."""
        return bool(self.newest) and self.torch == self.newest

    def beyond(self, torch: str | None) -> tuple[str, ...]:
        """What to say of a release that uv took and the catalog does not know: one line at the most."""
        if not torch or not self.newest or number(torch) <= number(self.newest):
            return ()
        refresh = "update uvtorch, or let UVTORCH_CATALOG name a newer copy"
        return (f"torch {torch} is newer than uvtorch's catalog, which ends at {self.newest}: {refresh}",)

    @property
    def release(self) -> str:
        """The torch that uv gives, for a message: `torch 2.14.1`, `torch 2.15.0 or newer`, or "" for none known."""
        return f"torch {self.torch}{' or newer' if self.or_newer else ''}" if self.torch else ""


def choose(machine: Machine, request: Request, catalog: Catalog) -> Decision:
    """Choose the build for a machine and a request.

    UsageError for a request that cannot be read or contradicts itself: no requirement, two local versions, a local
    version beside another `request.backend`. Which of option, environment and configuration counts, the caller knows.
    """
    named = _named(machine, request)
    table = evaluate(machine, request, catalog)
    if named:
        return _obey(table, named)
    if request.python and not request.python[0].isdigit():
        said = f"PyTorch is built for CPython only, and this project's Python is {request.python}."
        way = "`uv python pin 3.12` chooses CPython, unless --python or UV_PYTHON names another"
        return Decision(None, refusal=said, hints=(way,), table=table)
    refused = table.judge.unsupported or table.hardware.refusal or table.need.conflict
    if refused:
        return Decision(None, refusal=f"{refused}.", hints=table.hardware.hints, table=table)
    if not newer.is_known(table.need, table.hardware.family, catalog):
        return _unknown(table)
    chosen = table.best()
    if chosen is None:
        sentence, hints = refusal(table)
        return Decision(None, refusal=sentence, hints=hints, table=table)
    return _decide(table, chosen.backend, chosen.release)._replace(
        reason=reasons.why(table.judge, table.hardware, chosen.backend),
        warnings=reasons.warnings(table, chosen),
    )


def _named(machine: Machine, request: Request) -> Backend | None:
    local, asked = local_backend(request.requirements, machine), request.backend
    if local and asked and local != asked:
        raise UsageError(
            f"the requirement names the backend {local}, but {asked} is asked for",
            f"leave out one of them: the local version +{local.name}, or --torch-backend {asked}",
        )
    return asked or local


def after_asking(decision: Decision, found: Backend | None, request: Request, catalog: Catalog) -> Decision:
    """Settle a decision whose `ask` was put to the indexes: `found` is the first that had a match, None if none had."""
    if found is None:
        wanted, asked = " ".join(request.requirements) or "torch", ", ".join(map(str, decision.ask))
        return decision._replace(ask=(), refusal=f"No index that fits this machine has {wanted} (asked: {asked}).")
    return decision._replace(
        backend=found,
        reason=f"{decision.reason}; its index has it",
        newest=catalog.newest,
        ask=(),
        hints=(),
        platforms=newer.platforms(found, None, catalog),
        companions=newer.companions(found, None, catalog),
    )


def _decide(table: Table, backend: Backend, release: str | None) -> Decision:
    catalog = table.judge.catalog
    bounds = _bounds(table.need, backend, release, catalog) if release else ()
    return Decision(
        backend,
        release,
        table.judge.is_native(backend),
        platforms=newer.platforms(backend, release, catalog),
        companions=newer.companions(backend, release, catalog),
        bounds=bounds,
        newest=catalog.newest if table.need.open and "torch" not in dict(bounds) else "",
        table=table,
    )


def _bounds(need: Need, backend: Backend, release: str, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    """Bounds on what uv would resolve to: torch on this index, and packages that do not say which torch they need."""
    index = catalog.builds.get(backend, {})
    above = [other for other in need.possible if other in index and number(other) > number(release)]
    limits = [("torch", above[-1] if above else None)]
    limits += ((wish.package, _limit(wish, backend, release, catalog)) for wish in need.wishes)
    return tuple(dict.fromkeys((package, _below(first)) for package, first in limits if first))


def _limit(wish: Wish, backend: Backend, release: str, catalog: Catalog) -> str | None:
    """The lowest version that does not go with this build and that uv would take all the same; None: there is none."""
    cuda = None if has_build(wish.package, backend) else catalog.with_cuda.get(wish.package)
    paired = [number(version) for version, torch in wish.versions.items() if release in torch]
    last = max((one for one in paired if not cuda or one < number(cuda)), default=None)
    loose = [one for one in wish.versions if last and (wish.package, one) in catalog.loose and number(one) > last]
    return min(loose, key=number, default=None)


def _below(version: str) -> str:
    while version.endswith(".0") and version.count(".") > 1:
        version = version.removesuffix(".0")
    return f"<{version}"


def _unknown(table: Table) -> Decision:
    """The decision for a request that admits only releases the catalog does not know."""
    judge, need, hardware, catalog = table.judge, table.need, table.hardware, table.judge.catalog
    fits, floor, first = table.best(requested=False), newer.floor(need, catalog), next(iter(catalog.releases))
    newest = f"The newest that fits is {fits.release} ({fits.backend})." if fits else ""

    def refuse(said: str, *hints: str) -> Decision:
        return Decision(None, refusal=f"{need.text} is {said}. {newest}".strip(), hints=hints, table=table)

    if hardware.family in ("cpu", "xpu"):
        backend = Backend(hardware.family)
        if number(floor) > number(catalog.newest) and judge.platform not in [*catalog.builds[backend].values()][-1]:
            where = platform_name(judge.platform)
            return refuse(f"newer than uvtorch's catalog, and torch has no more wheels for {where}")
        # One index: nothing to choose, and uv says if it has it.
        why = reasons.why(judge, hardware, backend)
        return _decide(table, backend, None)._replace(reason=why, warnings=hardware.warnings)
    if number(floor) < number(first):
        way = f"name a backend that has it (`--torch-backend {_OLD[hardware.family]}` has torch 1.13.1), or take a"
        way += " newer torch; https://pytorch.org/get-started/previous-versions/ lists them"
        return refuse(f"older than uvtorch's catalog (torch {first} and later)", way)
    ask = newer.askable(judge, need, hardware, floor)
    if ask:
        reason, hints = f"{need.text} is not in the catalog", (newest,) if newest else ()
        return Decision(None, reason=reason, hints=hints, warnings=hardware.warnings, ask=ask, table=table)
    here = f"{labels(hardware.gpus)}{' with this driver' if hardware.family == 'cu' else ''}"
    said = f"newer than uvtorch's catalog, and no backend that still gets new releases runs on {here}"
    return refuse(said, "`--torch-backend cpu` asks the CPU index for it")


def _obey(table: Table, backend: Backend) -> Decision:
    """The decision for a backend that was asked for, with one warning if it would not run here."""
    own = table.again(backend=backend)
    rows = own.of(backend)  # None of a nightly or test index: what it holds changes by the day
    # One that runs, else the newest with a wheel here, else the newest.
    shown = best(rows) or next((row for row in rows if not row.fails("platform", "python")), next(iter(rows), None))
    decided, fault = _decide(table, backend, shown.release if shown else None), why_not(own, backend)
    return decided._replace(
        reason=reasons.ASKED,
        native=decided.native and (bool(own.hardware.gpus) or backend.family == "cpu"),
        warnings=(f"{backend} will not run on this machine: {fault}",) if fault else (),
    )

"""What `choose` decides. Pure."""

from typing import NamedTuple

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import messages, newer
from uvtorch.choose.compatibility import labels, platform_name
from uvtorch.choose.messages import Candidate
from uvtorch.choose.ranking import why_not
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
        return tuple(messages.candidates(self.table, self.backend, self.torch, self.reason)) if self.table else ()

    def beyond(self, torch: str | None) -> tuple[str, ...]:
        """What to say of a release that uv took and the catalog does not know: one line at the most."""
        if not torch or not self.newest or number(torch) <= number(self.newest):
            return ()
        refresh = "update uvtorch, or let UVTORCH_CATALOG name a newer copy"
        return (f"torch {torch} is newer than uvtorch's catalog, which ends at {self.newest}: {refresh}",)

    @property
    def release(self) -> str:
        """The torch that uv gives, for a message: `torch 2.14.1`, `torch 2.15.0 or newer`, or "" for none known."""
        newer = " or newer" if self.torch == self.newest else ""
        return f"torch {self.torch}{newer}" if self.torch else ""


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
        return _refuse(table, said, "`uv python pin 3.12` chooses CPython, unless --python or UV_PYTHON names another")
    if refused := table.judge.unsupported or table.hardware.refusal or table.need.conflict:
        return _refuse(table, f"{refused}.", *table.hardware.hints)
    if not newer.is_known(table):
        return _unknown(table)
    chosen = table.best()
    if chosen is None:
        sentence, hints = messages.refusal(table)
        return _refuse(table, sentence, *hints)
    why, warnings = messages.why(table, chosen.backend), messages.warnings(table, chosen)
    return _decide(table, chosen.backend, chosen.release, why)._replace(warnings=tuple(warnings))


def _refuse(table: Table, said: str, *hints: str) -> Decision:
    return Decision(None, refusal=said, hints=hints, table=table)


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


def _decide(table: Table, backend: Backend, release: str | None, reason: str) -> Decision:
    catalog = table.judge.catalog
    bounds = _bounds(table.need, backend, release, catalog) if release else ()
    return Decision(
        backend,
        release,
        table.judge.is_native(backend),
        reason,
        newer.platforms(backend, release, catalog),
        newer.companions(backend, release, catalog),
        bounds,
        newest=catalog.newest if table.need.open and "torch" not in dict(bounds) else "",
        table=table,
    )


def _bounds(need: Need, backend: Backend, release: str, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    """Bounds on what uv would resolve to: torch on this index, and packages that do not say which torch they need."""
    index = catalog.builds.get(backend, {})
    above = [other for other in need.possible if other in index and number(other) > number(release)]
    limits = [("torch", version) for version in above[-1:]]
    limits += ((wish.package, version) for wish in need.wishes for version in _loose(wish, backend, release, catalog))
    return tuple(dict.fromkeys((package, f"<{first.removesuffix('.0')}") for package, first in limits))


def _loose(wish: Wish, backend: Backend, release: str, catalog: Catalog) -> list[str]:
    """The lowest version that does not go with this build and that uv would take all the same, if there is one."""
    cuda = None if has_build(wish.package, backend) else catalog.with_cuda.get(wish.package)
    paired = [number(version) for version, torch in wish.versions.items() if release in torch]
    last = max((one for one in paired if not cuda or one < number(cuda)), default=None)
    loose = [one for one in wish.versions if last and (wish.package, one) in catalog.loose and number(one) > last]
    return sorted(loose, key=number)[:1]


def _unknown(table: Table) -> Decision:
    """The decision for a request that admits only releases the catalog does not know."""
    judge, family, catalog = table.judge, table.hardware.family, table.judge.catalog
    fits, low = table.best(requested=False), newer.floor(table.need, catalog)
    newest = f"The newest that fits is {fits.release} ({fits.backend})." if fits else ""

    def refuse(said: str, *hints: str) -> Decision:
        return _refuse(table, f"{table.need.text} is {said}. {newest}".strip(), *hints)

    if family in ("cpu", "xpu"):
        backend = Backend(family)
        if low > number(catalog.newest) and judge.platform not in [*catalog.builds[backend].values()][-1]:
            where = platform_name(judge.platform)
            return refuse(f"newer than uvtorch's catalog, and torch has no more wheels for {where}")
        # One index: nothing to choose, and uv says if it has it.
        decided = _decide(table, backend, None, messages.why(table, backend))
        return decided._replace(warnings=table.hardware.warnings)
    if low < number(first := next(iter(catalog.releases))):
        way = f"name a backend that has it (`--torch-backend {_OLD[family]}` has torch 1.13.1), or take a"
        way += " newer torch; https://pytorch.org/get-started/previous-versions/ lists them"
        return refuse(f"older than uvtorch's catalog (torch {first} and later)", way)
    if ask := newer.askable(table):
        reason, hints = f"{table.need.text} is not in the catalog", (newest,) if newest else ()
        return Decision(None, reason=reason, hints=hints, warnings=table.hardware.warnings, ask=ask, table=table)
    here = f"{labels(table.hardware.gpus)}{' with this driver' if family == 'cu' else ''}"
    said = f"newer than uvtorch's catalog, and no backend that still gets new releases runs on {here}"
    return refuse(said, "`--torch-backend cpu` asks the CPU index for it")


def _obey(table: Table, backend: Backend) -> Decision:
    """The decision for a backend that was asked for, with one warning if it would not run here."""
    own = table.again(backend=backend)
    rows = own.of(backend)  # None of a nightly or test index: what it holds changes by the day
    # One that runs, else the newest with a wheel here, else the newest.
    shown = best(rows) or next((row for row in rows if not row.fails("platform", "python")), next(iter(rows), None))
    decided = _decide(table, backend, shown.release if shown else None, messages.ASKED)
    fault = why_not(own, backend)
    return decided._replace(
        native=decided.native and (bool(own.hardware.gpus) or backend.family == "cpu"),
        warnings=(f"{backend} will not run on this machine: {fault}",) if fault else (),
    )

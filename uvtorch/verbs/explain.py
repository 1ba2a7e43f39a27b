"""`uvtorch torch explain`: the choice, why each other candidate was rejected, and what plain uv would take."""

import shlex
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import click

from uvtorch import requirement
from uvtorch.backend import Backend, parse
from uvtorch.catalog import Catalog, number, since
from uvtorch.choose import ASKED, Decision, Option, Request, choose, evaluate, local_backend, rank_choices
from uvtorch.choose.compatibility import FAMILY, summary
from uvtorch.choose.table import Row, Table, span
from uvtorch.machine import Machine
from uvtorch.packages import normalize
from uvtorch.project import Project
from uvtorch.session import Session, requirements_of
from uvtorch.steps.verb import Verb, hardware_option, machine_of

EXAMPLES: Final = (
    ("explain", "The choice for this machine and project"),
    ("explain 'torch<2.8' torchvision", "The choice for these requirements"),
    ("explain --hardware gtx1080 --compare", "Another machine, beside what plain uv would take"),
)


@click.command(cls=Verb, examples=EXAMPLES)
@click.argument("requirements", nargs=-1, metavar="[REQUIREMENT]...")
@hardware_option("Choose for")
@click.option("--compare", "beside_uv", is_flag=True, help="Show what plain uv would take here, and whether it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--script", metavar="FILE", help="Choose for a script with inline metadata instead of the project.")
@click.pass_obj
def explain(
    session: Session,
    requirements: tuple[str, ...],
    described: str | None,
    beside_uv: bool,
    as_json: bool,
    script: str | None,
) -> None:
    """Show which build uvtorch chooses, and why no other."""
    session = Session(session.line, session.env, script)
    machine = machine_of(session, described)
    project, python = (session.project, session.python) if session.site else (Project(), None)
    request = Request(_merged(requirements, project), python, project.requires_python)
    decision, as_of = choose(machine, request, session.catalog), session.catalog.as_of
    compared = compare(machine, request, session.catalog) if beside_uv else ()
    if as_json:
        document = {**_document(decision, session.index_base), "catalog": as_of}
        session.out.json(document | ({"compare": [*map(_taken, compared)]} if beside_uv else {}))
        return
    rows = [*_outcome(decision, session.index_base), *_kept(project, machine)]
    rows += (("hint", hint) for hint in decision.hints)
    rows += (("warning", warning) for warning in decision.warnings)
    rows += _compared(compared)
    said = [", ".join(dict.fromkeys(request.requirements)) or "torch"]
    said += [f"Python {text}" for text in [request.python or request.requires_python] if text]
    rows += [("machine", summary(machine)), ("request", "; ".join(said)), ("catalog", f"as of {as_of}")]
    session.out.table(rows)
    session.out.text("")
    session.out.table(_table(candidates(decision)), ("", "backend", "torch", "why, or why not"))


def _merged(requirements: Sequence[str], project: Project) -> tuple[str, ...]:
    named = {normalize(requirement.parse(text).name) for text in requirements}
    return (*requirements, *(text for text in requirements_of(project) if requirement.named_by(text) not in named))


# Every candidate


class Candidate(NamedTuple):
    """A backend, the newest torch it could give for a request, and what was made of it."""

    backend: Backend
    torch: str | None
    accepted: bool
    reason: str
    """Why it was rejected or accepted, a clause in ASCII."""
    certainty: str = ""
    """How sure the catalog is that this build exists."""


def candidates(decision: Decision) -> Iterator[Candidate]:
    """Every backend, highest first, one that is not known before them."""
    table, taken, reason = decision.table, decision.backend, decision.reason
    if table is None:
        return
    chosen = None if reason == ASKED else table.find(taken, decision.torch)
    known = dict.fromkeys(row.backend for row in table.rows)
    for backend in known if taken is None or taken in known else [taken, *known]:
        release, said = (decision.torch, reason) if backend == taken else _rejected(table, backend, chosen)
        if reason == ASKED and backend != taken:
            said = f"{taken} is {ASKED}"
        build = table.judge.catalog.build(backend, release, table.judge.platform)
        yield Candidate(backend, release, backend == taken, said, build.certainty if build else "")


def _rejected(table: Table, backend: Backend, chosen: Row | None) -> tuple[str | None, str]:
    shown = table.best(backend=backend) or max(table.of(backend), key=lambda row: row.miss, default=None)
    if shown:
        return shown.release, str(shown.fault or _not_taken(table, shown, chosen))
    newest = next(row for row in table.rows if row.backend == backend)
    if newest.fails("gpu"):
        return None, str(newest.fault)
    return None, "the requirements contradict" if table.need.conflict else f"has torch {span(table, backend)} only"


def _not_taken(table: Table, row: Row, chosen: Row | None) -> str:
    judge, backend = table.judge, row.backend
    if chosen is None:
        return "runs here, but is not on offer"
    better, native = chosen.backend, judge.is_native(backend)
    split, cuda = since(backend, judge.catalog.split[0]), ".".join(map(str, better.version[:1]))
    rules = (
        (row.release != chosen.release, f"here, but ends at torch {row.release}: {better} has {chosen.release}"),
        (split, f"here, but needs rocm-sdk packages for every GPU; {better} brings its libraries"),
        (backend.family != "cu", f"here, but {better} is newer"),
        (backend.version[:1] != better.version[:1], f"here, but the driver also runs CUDA {cuda}: {better}"),
        (not native and judge.is_native(better), f"by minor-version compatibility only; {better} natively"),
        (native, f"here, but {better} is newer and as native"),
        (True, f"here, but {better} is nearer to the driver"),
    )
    return f"runs {next(text for holds, text in rules if holds)}"


# As JSON, and for people


def _document(decision: Decision, base: str) -> dict[str, object]:
    chosen = decision.backend and {
        "backend": str(decision.backend),
        "torch": decision.torch,
        "index_url": decision.backend.index_url(base),
        "native": decision.native,
        "reason": decision.reason,
        "platforms": sorted(decision.platforms) if decision.platforms is not None else None,
        "companions": decision.companions,
        "bounds": dict(decision.bounds),
    }
    return {
        "schema": 1,
        "chosen": chosen,
        "refusal": decision.refusal,
        "candidates": [
            {**candidate._asdict(), "backend": str(candidate.backend), "certainty": candidate.certainty or None}
            for candidate in candidates(decision)
        ],
        "hints": decision.hints,
        "warnings": decision.warnings,
        "ask": list(map(str, decision.ask)),
    }


def _outcome(decision: Decision, base: str) -> Iterator[tuple[str, str]]:
    if decision.backend:
        torch = f", {decision.release}" if decision.release else ""
        yield "chosen", f"{decision.backend}{torch}: {decision.reason}"
        yield "index", decision.backend.index_url(base)
        yield from (("bound", f"{package}{bound}") for package, bound in decision.bounds)
        yield from [("also", ", ".join(decision.companions))] if decision.companions else []
    elif decision.ask:
        yield "chosen", f"{decision.reason}; these indexes would be asked: {', '.join(map(str, decision.ask))}"
    else:
        yield "refused", decision.refusal or ""


def _kept(project: Project, machine: Machine) -> Iterator[tuple[str, str]]:
    pin = next((pin.backend for pin in project.pins(machine.platform) if pin.backend), None)
    if pin:
        yield "kept", f"{pin}, which the project pins: `add` keeps it, `uvtorch torch use` changes it"
    elif project.config.backend:
        yield "kept", f"{project.config.backend}, which [tool.uvtorch] names: `add` takes it"


def _table(rows: Iterable[Candidate]) -> Iterator[tuple[str, str, str, str]]:
    """(mark, backends, torch, reason), the chosen one first; neighbours rejected for one reason share a line."""
    chosen_first = sorted(rows, key=lambda candidate: not candidate.accepted)
    for (accepted, _, why), group in groupby(chosen_first, lambda one: (one.accepted, one.backend.family, one.reason)):
        alike = [*group]
        torch = {row.torch or "-" for row in alike}
        name = f"{alike[-1].backend}..{alike[0].backend}" if alike[1:] else str(alike[0].backend)
        guess = " (not yet seen on the index)" if accepted and alike[0].certainty == "inferred" else ""
        yield "*" if accepted else " ", name, torch.pop() if len(torch) == 1 else "", why + guess


# What plain uv takes


class Taken(NamedTuple):
    """What one command of plain uv takes."""

    command: str
    backend: Backend | None
    """None: it finds no build."""
    option: Option
    """The torch, whether it runs on the machine and uses its GPU, and why."""
    verdict: str
    """The same in two or three words: `runs here`, `leaves the GPU idle`."""


def compare(machine: Machine, request: Request, catalog: Catalog) -> tuple[Taken, Taken]:
    """What `uv add` and uv's `--torch-backend=auto` take for a request. UsageError for one that cannot be read."""

    def judged(backend: Backend | None, torch: str | None) -> Option:
        return rank_choices(machine, request, [backend], catalog, [torch]).options[0]

    def taken(command: str, backend: Backend | None, option: Option) -> Taken:
        verdict = "runs here" if option.fits else "does not run here" if backend else "finds no build"
        if backend and not option.fits and backend.family not in {FAMILY.get(gpu.vendor) for gpu in machine.gpus}:
            verdict = "leaves the GPU idle"
        return Taken(command, backend, option, verdict)

    found, local = auto(machine, request, catalog), local_backend(request.requirements, machine)
    nothing = Option(None, None, False, "no index of its list has a match")
    plain = nothing._replace(reason=f"PyPI has no {local} build by that name") if local else judged(None, None)
    pypi, _ = catalog.on_pypi(plain.torch, machine.platform.key)
    names, automatic = shlex.join(request.requirements or ["torch"]), judged(*found) if found else nothing
    return (
        taken(f"uv add {names}", pypi, plain),
        taken(f"uv pip install {names} --torch-backend=auto", found and found[0], automatic),
    )


def auto(machine: Machine, request: Request, catalog: Catalog) -> tuple[Backend, str] | None:
    """The build that uv takes with `--torch-backend=auto`: (backend, torch); None if it finds none.

    The first of the indexes that has a match; the rule and its source are in `catalog/uv.toml`.
    """
    table, local = evaluate(machine, request, catalog), local_backend(request.requirements)
    need, judge = table.need, table.judge
    for backend in (*filter(None, map(parse, _indexes(machine))), Backend("cpu")):
        for release in need.releases if local in (None, backend) else ():
            build = catalog.build(backend, release, judge.platform)
            if build and build.pythons & need.pythons and not judge.system_fault(backend, release):
                return backend, release
    return None


def _indexes(machine: Machine) -> list[str]:
    rule = tomllib.loads((Path(__file__).parents[1] / "catalog/uv.toml").read_text(encoding="utf-8"))
    system, vendors = machine.platform.system, {gpu.vendor for gpu in machine.gpus}
    if machine.nvidia_driver and system in ("linux", "windows"):
        driver = number(machine.nvidia_driver.version)
        majors = [major for major, least in rule["driver"].items() if driver >= number(least[system])]
        return [name for name in rule["cuda"].split() if name[2:4] in majors]
    if "amd" in vendors and system == "linux":
        first = min(gpu.architecture or "" for gpu in machine.gpus if gpu.vendor == "amd")
        return [name for name, architectures in rule["rocm"].items() if first in architectures.split()]
    return ["xpu"] if "intel" in vendors else []


def _taken(one: Taken) -> dict[str, object]:
    backend = str(one.backend) if one.backend else None
    return {"command": one.command, **one.option._asdict(), "backend": backend}


def _compared(compared: Iterable[Taken]) -> Iterator[tuple[str, str]]:
    for (label, by), one in zip((("uv add", ""), ("uv pip", "`--torch-backend=auto` ")), compared, strict=False):
        build = f"takes {one.backend}, torch {one.option.torch}: " if one.backend else ""
        yield label, f"{by}{build}{one.verdict}; {one.option.reason}"

"""`uvtorch torch explain`: the choice, and why each other candidate was rejected (contract 7)."""

import json
from collections.abc import Iterable, Mapping, Sequence

import click

from uvtorch import catalog, hardware, locate
from uvtorch.argv import parse
from uvtorch.backend import DEFAULT_INDEX_BASE
from uvtorch.choose import Candidate, Decision, Request, choose, fit
from uvtorch.choose.specifier import wish
from uvtorch.machine import Machine
from uvtorch.project import Project
from uvtorch.project import read as read_project
from uvtorch.verbs.deciding import interpreter, requirements_of

WIDTH = 100


def run(
    env: Mapping[str, str], directory: str, requirements: Sequence[str], described: str | None, as_json: bool
) -> str:
    """The text that the verb prints.

    A project in `directory` adds its own requirements (of packages not named in `requirements`), its Python and its
    index base. Raises MachineError, ProjectError and UsageError for what cannot be read.
    """
    machine = hardware.read_description(described) if described is not None else hardware.detect(env)
    site = locate.site(directory)
    project = Project()
    python = None
    if site is not None:
        root = None if site.root is site.manifest else site.root.data
        project = read_project(site.manifest.data, root, site.manifest.path)
        python = interpreter(parse(["add"]), env, site)
    request = request_of(requirements, project, python)
    base = env.get("UVTORCH_INDEX_BASE") or project.config.index_base or DEFAULT_INDEX_BASE
    decision = choose(machine, request, catalog.load())
    if as_json:
        return as_text(decision, base)
    return report(machine, request, decision, base, kept(project, machine))


def kept(project: Project, machine: Machine) -> str | None:
    """What the project pins or configures already, which `uvtorch add` keeps whatever is chosen; None if nothing."""
    pins = [pin for pin in project.pins(machine.platform) if pin.backend is not None]
    if pins:
        return f"{pins[0].backend}, which the project pins: `add` keeps it, `uvtorch torch use` changes it"
    if project.config.backend:
        return f"{project.config.backend}, which [tool.uvtorch] names: `add` takes it"
    return None


def request_of(requirements: Sequence[str], project: Project, python: str | None) -> Request:
    """What the command line and the project ask for together; the command line replaces a package's requirement."""
    named = {wish(text).package for text in requirements}
    own = [text for text in requirements_of(project) if wish(text).package not in named]
    return Request((*requirements, *own), python, project.requires_python)


def as_text(decision: Decision, base: str) -> str:
    """The decision as JSON, schema 1."""
    chosen = None
    if decision.backend:
        chosen = {
            "backend": str(decision.backend),
            "torch": decision.torch,
            "index_url": decision.backend.index_url(base),
            "native": decision.native,
            "reason": decision.reason,
            "platforms": sorted(decision.platforms) if decision.platforms is not None else None,
            "companions": list(decision.companions),
            "bounds": dict(decision.bounds),
        }
    candidates = [
        {
            "backend": str(candidate.backend),
            "torch": candidate.torch,
            "accepted": candidate.accepted,
            "reason": candidate.reason,
            "native": candidate.native,
            "certainty": candidate.certainty or None,
        }
        for candidate in decision.candidates
    ]
    document = {
        "schema": 1,
        "chosen": chosen,
        "refusal": decision.refusal,
        "candidates": candidates,
        "hints": list(decision.hints),
        "warnings": list(decision.warnings),
        "ask": [str(backend) for backend in decision.ask],
    }
    return json.dumps(document, indent=2)


def report(machine: Machine, request: Request, decision: Decision, base: str, keeps: str | None = None) -> str:
    """The decision for a person: what was asked, what was chosen, and the table of candidates, in ASCII."""
    rows = [("machine", _machine(machine)), ("request", _request(request))]
    if decision.backend:
        torch = f", torch {decision.torch}" if decision.torch else ""
        rows += [("chosen", f"{decision.backend}{torch}: {decision.reason}")]
        rows += [("index", decision.backend.index_url(base))]
        rows += [("bound", f"{package}{bound}") for package, bound in decision.bounds]
        rows += [("also", ", ".join(decision.companions))] if decision.companions else []
    elif decision.ask:
        rows += [("chosen", f"{decision.reason}; these indexes would be asked: {', '.join(map(str, decision.ask))}")]
    else:
        rows += [("refused", decision.refusal or "")]
    rows += [("kept", keeps)] if keeps else []
    rows += [("hint", hint) for hint in decision.hints]
    rows += [("warning", warning) for warning in decision.warnings]
    text = [line for label, value in rows for line in _wrapped(f"{label:8}  ", value)]
    table = [line for row in _rows(decision.candidates) for line in _row(*row)]
    return "\n".join([*text, "", *_row(" ", "backend", "torch", "why, or why not"), *table])


def _machine(machine: Machine) -> str:
    parts = [fit.platform_name(machine.platform.key), machine.platform.libc or ""]
    parts.append(fit.labels(machine.gpus) or "no GPU")
    if machine.nvidia_driver:
        cuda = f" (CUDA {machine.nvidia_driver.cuda})" if machine.nvidia_driver.cuda else ""
        parts.append(f"driver {machine.nvidia_driver.version}{cuda}")
    return "; ".join(part for part in parts if part)


def _request(request: Request) -> str:
    parts = [", ".join(request.requirements) or "torch"]
    if request.python:
        parts.append(f"Python {request.python}")
    elif request.requires_python:
        parts.append(f"Python {request.requires_python}")
    return "; ".join(parts)


def _rows(candidates: Iterable[Candidate]) -> list[tuple[str, str, str, str]]:
    """The table: the chosen one first, then the others; neighbours rejected for one reason share a line."""
    rows: list[tuple[str, list[str], str, str]] = []
    for candidate in sorted(candidates, key=lambda candidate: not candidate.accepted):
        mark, name, torch = "*" if candidate.accepted else " ", str(candidate.backend), candidate.torch or "-"
        guess = " (not yet seen on the index)" if candidate.accepted and candidate.certainty == "inferred" else ""
        reason = candidate.reason + guess
        last, names, known, why = rows[-1] if rows else ("*", [""], "", "")
        if (last, why) == (mark, reason) and names[-1][:2] == name[:2]:
            rows[-1] = (mark, [*names, name], known if known == torch else "", reason)
        else:
            rows.append((mark, [name], torch, reason))
    return [(mark, _names(names), torch, reason) for mark, names, torch, reason in rows]


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[-1]}..{names[0]}"


def _row(mark: str, backend: str, torch: str, reason: str) -> list[str]:
    return _wrapped(f"{mark} {backend:18} {torch:7} ", reason)


def _wrapped(label: str, text: str) -> list[str]:
    """`label text`, broken between words at the last column and continued under the text."""
    lines, line = [], label
    for word in text.encode("ascii", "replace").decode("ascii").split():
        if len(line) + len(word) > WIDTH and line.strip() != label.strip():
            lines.append(line.rstrip())
            line = " " * len(label)
        line += word + " "
    return [*lines, line.rstrip()]


@click.command()
@click.argument("requirements", nargs=-1, metavar="[REQUIREMENT]...")
@click.option(
    "--hardware", "described", metavar="FILE", help="Choose for the machine that FILE describes ('-': stdin)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain(context: click.Context, requirements: tuple[str, ...], described: str | None, as_json: bool) -> None:
    """Show which build uvtorch chooses, and why each other one was rejected."""
    click.echo(run(context.obj.env, context.obj.directory, requirements, described, as_json))

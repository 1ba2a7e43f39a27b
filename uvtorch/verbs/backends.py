"""`uvtorch torch backends`: what the project offers, or the set that it shall offer."""

import json
from collections.abc import Mapping, Sequence

import click

from uvtorch import catalog, fleet, hardware, offering
from uvtorch.argv import backend_name, carried
from uvtorch.backend import Backend, parse
from uvtorch.choose import Request, choose
from uvtorch.errors import NoBuild, ProjectError, UsageError
from uvtorch.machine import Machine
from uvtorch.packages import ANCHORS
from uvtorch.plan import Plan
from uvtorch.project import Choice, Project, selection
from uvtorch.verbs.deciding import Opened, edited, index_base, interpreter
from uvtorch.verbs.several import broken, rank
from uvtorch.verbs.sync import with_members
from uvtorch.verbs.torch import Context, Outcome
from uvtorch.verbs.use import required_project


def listing(context: Context, described: str | None, as_json: bool) -> str:
    """The choices of the project, whether each fits this machine (or a described one), and the one `--auto` takes."""
    opened = with_members(context.line, required_project(context))
    machine = hardware.read_description(described) if described is not None else hardware.detect(context.env)
    choices = opened.project.choices_for(machine.platform) or _single(opened, machine)
    ranking = rank(machine, opened, choices, interpreter(context.line, context.env, opened.site))
    rows = [
        {
            "kind": choice.kind,
            "name": choice.name,
            "backend": str(choice.backend) if choice.backend else None,
            "fits": option.fits,
            "reason": option.reason,
        }
        for choice, option in zip(choices, ranking.options, strict=True)
    ]
    best = choices[ranking.best] if ranking.best is not None else None
    warnings = ranking.warnings
    if problem := broken(machine, choices, ranking):  # --auto refuses
        best, warnings = None, (f"{problem.reason}: --auto refuses to choose",)
    if as_json:
        return json.dumps({"schema": 1, "choices": rows, "selected": best.name if best else None}, indent=2)
    if not choices:
        return "The project requires no PyTorch package."
    return _table(opened.project, choices, rows, best, warnings)


def _single(opened: Opened, machine: Machine) -> tuple[Choice, ...]:
    """A project without choices as one: what its pins give here, else PyPI's build."""
    project = opened.project
    packages = project.pytorch_packages()
    if not packages:
        return ()
    pins = [pin for pin in project.pins(machine.platform) if pin.kind == "index"]
    main = next((pin for pin in pins if pin.package == "torch"), pins[0] if pins else None)
    if main is None:
        return (Choice("base", None, None, packages, "pypi", stated=False),)
    return (Choice("base", None, main.backend, packages, "index" if main.backend else "unknown"),)


def _table(
    project: Project,
    choices: Sequence[Choice],
    rows: Sequence[Mapping[str, object]],
    best: Choice | None,
    warnings: Sequence[str],
) -> str:
    cells = []
    for choice, row in zip(choices, rows, strict=True):
        option = {"extra": f"--extra {choice.name}", "group": f"--group {choice.name}"}.get(choice.kind, "(no option)")
        build = row["backend"] or ("PyPI's build" if choice.origin == "pypi" else "unknown")
        cells.append(
            ("*" if choice is best else " ", option, str(build), "fits" if row["fits"] else "-", str(row["reason"]))
        )
    widths = [max(len(cell[column]) for cell in cells) for column in range(4)]
    lines = [
        "  ".join([*(cell[column].ljust(widths[column]) for column in range(4)), cell[4]]).rstrip() for cell in cells
    ]
    if best is not None:
        told = " ".join(selection.selection(project, best)) or "no option"
        lines.append(f"* --auto takes this one here: {told}")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings)])


def plan_set(context: Context, backends: Sequence[Backend], kind: str | None) -> Plan:
    """The edits after which the project offers exactly these backends, and the lock.

    `kind` is `extra` or `group`; None: what the project has, else extras. Raises ProjectError, NoBuild.
    """
    opened = required_project(context)
    project = opened.project
    if opened.site.manifest.script or not project.has_project:
        raise ProjectError(f"{project.origin} has no `[project]` table", "only a project can offer several backends")
    have = offering.stated(project)
    kinds = {choice.kind for choice in have}
    if kind is None:
        kind = next(iter(kinds), "extra")
    elif kinds and kinds != {kind}:
        raise UsageError(
            f"the project's choices are {'extras' if 'extra' in kinds else 'groups'} already",
            "leave out --as to add to them",
        )
    texts = offering.texts(project) or ("torch",)
    if not have and not project.pytorch_packages():
        raise ProjectError(f"{project.origin} requires no PyTorch package", "`uvtorch add torch` adds it")
    if not have and not offering.texts(project):
        raise ProjectError(
            f"{project.origin} requires {', '.join(project.pytorch_packages())} in an extra or group only",
            "move them to the project's dependencies first",
        )
    machine = hardware.detect(context.env)
    offers = [_offer(context, opened, machine, backend, texts) for backend in dict.fromkeys(backends)]
    edits = edited(opened, offering.operations(project, offers, kind, index_base(context.env, project)))
    names = ", ".join(str(offer.backend) for offer in offers)
    return Plan(
        (("lock", *carried(context.line)),),
        edits,
        (opened.site.manifest.path, opened.site.lock),
        (f"offering {names} as {kind}s: `uvtorch sync --auto` takes what fits, `uv sync --{kind} NAME` any",),
        _warnings(opened, kind, bool(have)),
    )


def _offer(
    context: Context, opened: Opened, machine: Machine, backend: Backend, texts: Sequence[str]
) -> offering.Offer:
    from uvtorch.pinning import unlocalized

    request = Request(
        tuple(map(unlocalized, texts)),
        python=interpreter(context.line, context.env, opened.site),
        requires_python=opened.project.requires_python,
        backend=backend,
    )
    known = catalog.load()
    decision = choose(machine, request, known)
    if decision.torch is None and not backend.channel and backend in known.builds:
        newest = max(known.builds[backend], key=catalog.number)
        raise NoBuild(
            f"no release on {backend} satisfies {', '.join(texts)}; its newest is {newest}",
            f"loosen the requirement in {opened.project.origin}, or leave {backend} out",
        )
    return offering.Offer(backend, decision)


def _warnings(opened: Opened, kind: str, had_choices: bool) -> tuple[str, ...]:
    project = opened.project
    warnings = []
    published = "build-system" in opened.site.manifest.data
    if kind == "extra" and not had_choices and published:
        warnings.append(
            f"published metadata changes: a plain `pip install {project.name}` will no longer bring torch;"
            " with --as groups the dependencies stay as they are"
        )
    elsewhere = sorted(
        {
            str(item.target)
            for item in project.pytorch_requirements()
            if item.target.kind != "base"
            and item.target not in {choice.target for choice in offering.stated(project)}
            and item.target.name != ANCHORS
        }
    )
    if elsewhere:
        warnings.append(f"PyTorch packages in {', '.join(elsewhere)} come from PyPI whatever is chosen")
    return tuple(warnings)


def serving(context: Context, files: Sequence[str]) -> tuple[tuple[Backend, ...], tuple[str, ...]]:
    """The smallest set of backends for the described machines, and lines about those that nothing serves.

    Raises MachineError for a file that cannot be read, NoBuild where no machine is served.
    """
    opened = required_project(context)
    request = Request(
        offering.texts(opened.project),
        python=interpreter(context.line, context.env, opened.site),
        requires_python=opened.project.requires_python,
    )
    served = fleet.smallest([hardware.read_description(path) for path in files], request, catalog.load())
    lines = tuple(_unserved(one, files) for one in served.unserved[:_TOLD])
    if len(served.unserved) > _TOLD:
        more = sum(len(one.machines) for one in served.unserved[_TOLD:])
        lines += (f"{more} more machines of {len(served.unserved) - _TOLD} kinds are not served",)
    if not served.backends:
        raise NoBuild("no build fits any of these machines", *lines)
    return served.backends, lines


_TOLD = 10
"""How many kinds of machines that nothing serves are told apart."""


def _unserved(one: fleet.Unserved, files: Sequence[str]) -> str:
    alike = len(one.machines) - 1
    more = f" and {alike} like it" if alike else ""
    return f"nothing serves {files[one.machines[0]]}{more}: {one.reason}"


@click.command()
@click.argument("names", metavar="[BACKEND]...", nargs=-1)
@click.option(
    "--from", "files", multiple=True, metavar="FILE", help="Serve the machine that FILE describes; repeatable."
)
@click.option("--as", "form", type=click.Choice(["extras", "groups"]), help="What the choices are. [default: extras]")
@click.option("--dry-run", is_flag=True, help="Print the edits and the uv command; change nothing.")
@click.option("--hardware", "described", metavar="FILE", help="List for the machine that FILE describes.")
@click.option("--json", "as_json", is_flag=True, help="List as JSON.")
@click.pass_context
def backends(
    context: click.Context,
    names: tuple[str, ...],
    files: tuple[str, ...],
    form: str | None,
    dry_run: bool,
    described: str | None,
    as_json: bool,
) -> Outcome | None:
    """List the project's backend choices, or set them.

    With --from, more FILEs may follow as arguments: the smallest set of backends that serves all those machines.
    """
    obj = context.obj
    if files:
        found, lines = serving(obj, (*files, *names))
        plan = plan_set(obj, found, _kind(form))
        return Outcome(plan._replace(warnings=(*plan.warnings, *lines)), dry_run)
    if names:
        wanted = [parse(backend_name(name, "torch backends")) for name in names if name != "auto"]
        if len(wanted) < len(names):
            raise UsageError(
                "`auto` is no backend to offer", "name backends, or use --from with machines' descriptions"
            )
        return Outcome(plan_set(obj, [one for one in wanted if one], _kind(form)), dry_run)
    click.echo(listing(obj, described, as_json))
    return None


def _kind(form: str | None) -> str | None:
    return form.removesuffix("s") if form else None

"""`uvtorch torch use BACKEND|auto`: re-pin the project's one backend, and lock."""

import click

from uvtorch import uv
from uvtorch.argv import backend_name, carried
from uvtorch.backend import parse
from uvtorch.choose import Request
from uvtorch.errors import ProjectError
from uvtorch.plan import Plan
from uvtorch.verbs.deciding import (
    Opened,
    decide,
    decision_line,
    edited,
    index_base,
    interpreter,
    open_project,
    requirements_of,
)
from uvtorch.verbs.torch import Context, Outcome


def plan_use(context: Context, backend: str) -> Plan:
    """The edits that take every PyTorch package of the project from `backend`'s index, and the lock.

    Raises UsageError for a name that is no backend, ProjectError for a project that has no PyTorch package or several
    backends, NoBuild where nothing fits.
    """
    from uvtorch import pinning
    from uvtorch.hardware import detect

    name = backend_name(backend, "torch use")
    opened = required_project(context)
    project = opened.project
    if project.selectable():
        raise ProjectError(
            f"{project.origin} offers several backends; each machine picks its own with --auto",
            "`uvtorch torch backends` lists them and changes the set",
        )
    packages = project.pytorch_packages()
    if not packages:
        raise ProjectError(f"{project.origin} requires no PyTorch package", "`uvtorch add torch` adds it")
    base = index_base(context.env, project)
    request = Request(
        requirements=requirements_of(project),
        python=interpreter(context.line, context.env, opened.site),
        requires_python=project.requires_python,
        backend=None if name == "auto" else parse(name),
    )
    decision = decide(detect(context.env), request, base, lambda: uv.find(context.env))
    bounds = dict(decision.bounds)
    operations = pinning.operations(project, packages, decision, base)
    operations += pinning.bounds([(name, bounds[name]) for name in packages if name in bounds])
    return Plan(
        (("lock", *carried(context.line)),),
        edited(opened, operations),
        (opened.site.manifest.path, opened.site.lock),
        (decision_line(decision),),
        decision.warnings,
    )


def required_project(context: Context) -> Opened:
    """The project that a `torch` verb works on. Raises ProjectError where there is none."""
    from uvtorch.verbs.deciding import missing

    opened = open_project(context.line, context.env)
    if opened is None:
        raise missing(context.line, context.env)
    return opened


@click.command()
@click.argument("backend", metavar="BACKEND|auto")
@click.option("--dry-run", is_flag=True, help="Print the decision, the edits and the uv command; change nothing.")
@click.pass_context
def use(context: click.Context, backend: str, dry_run: bool) -> Outcome:
    """Re-pin the project's one backend, and lock."""
    return Outcome(plan_use(context.obj, backend), dry_run)

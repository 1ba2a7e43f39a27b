"""`uvtorch run --with torch`: PyTorch packages beside the project's, or without a project."""

from collections.abc import Sequence

from uvtorch.choose import Decision, Request
from uvtorch.errors import UsageError
from uvtorch.project import Source, selection
from uvtorch.requirement import without_local
from uvtorch.session import Session, Wanted, decision_line
from uvtorch.steps import choices, route
from uvtorch.steps.pins import pin_here
from uvtorch.steps.resolve import leaves_to_pypi


def join(session: Session) -> None:
    """Add to the command line what has uv take the PyTorch packages of `--with` from the project's index, else ours.

    uv lays them over the project's environment: torch of another build would take the place of the project's. Raises
    UsageError where the command asks for such a build.
    """
    line = session.line
    requirements = route.named(session)
    if not requirements or route.names_index(session):
        return
    wanted = session.wanted(requirements, session.machine if any("+" in text for text in requirements) else None)
    pin = None if line.has("--no-project") or session.site is None else _pin(session)
    if leaves_to_pypi(session, wanted.backend):
        return
    if pin is not None:
        decision, url = _like(session, pin, wanted, requirements), pin.url or ""
    else:
        python = route.target_of(session).python
        decision = session.settle(Request(requirements, python, backend=wanted.backend))
        url = decision.backend.index_url(session.index_base) if decision.backend else ""
        session.out.say(decision_line(decision))
        session.out.warn(*decision.warnings)
    folder = route.project_for(session, decision, url, requirements)
    line.argv = line.with_options("--with-editable", folder)


def _pin(session: Session) -> Source | None:
    """The source of torch, or of another PyTorch package, in the project's environment as the command selects it."""
    project, machine = session.workspace, session.machine
    rows = project.selectable()
    wanted, said = session.wanted(), choices.options_of(session)
    named = selection.named(rows, said)
    if rows and not named and (wanted.auto or wanted.backend or project.config.auto):  # `sync` selects the same one
        fit = choices.fitting(session, machine, selection.open_to(project.choices_for(machine.platform), said))
        best = choices.choice_of(project, fit.choices, wanted.backend) if wanted.backend else fit.ranking.best
        named = () if best is None else (fit.choices[best],)
    targets = [row.target for row in named]
    found = [one for one in project.sources_on(machine.platform) if one.kind == "index" and one.target in targets]
    pin = pin_here(session.projects, machine.platform)
    return min([*found, *([pin] if pin else [])], key=lambda one: one.package != "torch", default=None)


def _like(session: Session, pin: Source, wanted: Wanted, requirements: Sequence[str]) -> Decision:
    """The project's own build, which nobody may ask otherwise."""
    asked, offered = wanted.backend, session.workspace.selectable()
    if wanted.auto and wanted.insists and not (offered or session.line.ours_has("--auto")):
        asked = session.decide(requirements).backend
    if asked and wanted.insists and asked != pin.backend:
        raise UsageError(
            f"--with asks for {', '.join(requirements)} from {asked}, and the project pins {pin.backend or pin.url}",
            "`uvtorch torch backends` lists what it offers"
            if offered
            else f"`uvtorch torch use {asked}` pins the project anew",
            "with `--no-project` the command runs without the project",
        )
    texts = [*map(without_local, requirements)]
    return session.decide(texts, pin.backend) if pin.backend else Decision(None)

"""`uvtorch torch backends`: what the project offers, or the set that it shall offer."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import click

from uvtorch import catalog, edits, fleet, hardware
from uvtorch.argv import backend_name
from uvtorch.backend import Backend, parse
from uvtorch.choose import Decision, choose
from uvtorch.edits import ChoiceKind
from uvtorch.errors import MachineError, NoBuild, ProjectError, UsageError
from uvtorch.machine import Machine
from uvtorch.project import Choice, Project
from uvtorch.project.model import BASE, GROUP
from uvtorch.requirement import EVERYWHERE, without_local
from uvtorch.session import Session
from uvtorch.steps import choices
from uvtorch.steps.pins import Change, Lowered, bound_anew, lower_bounds, unbounded, without_bounds
from uvtorch.steps.verb import Verb, hardware_option, machine_of


def listing(session: Session, described: str | None, as_json: bool) -> None:
    """Print the project's choices, whether each fits this machine (or a described one), and the one `--auto` takes."""
    project, machine = session.workspace, machine_of(session, described)
    offered, packages = project.choices_for(machine.platform) or choices.offered(project), project.pytorch_packages()
    unpinned = [Choice(BASE, None, packages, "pypi", stated=False)] if packages and not offered else []
    fit = choices.fitting(session, machine, offered or unpinned)
    best, lines = fit.best, [f"warning: {warning}" for warning in fit.warnings]
    if best:
        options = " ".join(choices.selection(project, best)) or "no option"
        lines.insert(0, f"* --auto takes this one here: {options}")
    if unpinned and machine.platform.system != "macos":
        best, lines = None, ["Nothing is pinned: `uvtorch sync --auto` pins what `uvtorch torch explain` shows."]
    try:
        choices.check_driver(session, machine, fit)
    except MachineError as error:
        best, lines = None, [f"warning: {str(error).rstrip('.')}: --auto refuses to choose"]
    if as_json:
        told = [
            {
                "kind": choice.kind,
                "name": choice.name,
                "backend": choice.backend and str(choice.backend),
                "fits": option.fits,
                "reason": option.reason,
            }
            for choice, option in fit.options.items()
        ]
        session.out.json({"schema": 1, "choices": told, "selected": best.name if best else None})
    elif fit.options:
        table = [
            (
                "*" if choice is best else "",
                " ".join(choice.target.words()) or "(no option)",
                choices.build_of(choice),
                "yes" if option.fits else "no",
                option.reason,
            )
            for choice, option in fit.options.items()
        ]
        session.out.table(table, ("", "option", "build", "fits", "why, or why not"))
        session.out.text(*lines)
    else:
        session.out.text("The project requires no PyTorch package.")


def set_choices(session: Session, backends: Sequence[Backend], named: ChoiceKind | None) -> int:
    """Make the project offer exactly these backends, and lock.

    `named` is `extra` or `group`; None: what the project has, else extras. Raises ProjectError, UsageError, NoBuild.
    """
    session.claim()
    project = session.project
    kind = _checked_kind(session, named)
    model = [item.text for item in edits.model_requirements(project)]
    offers, lowered = _offers(session, list(dict.fromkeys(backends)), model)
    bounds, standing = {one.package: one.before for one in lowered}, {one.place for one in unbounded(session)}
    with session.transaction() as tx:
        change = Change(session, tx)
        change.bound_anew(lowered)
        change.write()
        file = session.file()
        edits.offer(file, session.project, offers, kind, session.index_base)
        session.edit(tx, file)
        names = ", ".join(str(one.backend) for one in offers)
        tx.say(f"offering {names} as {kind}s: `uvtorch sync --auto` takes what fits, `uv sync --{kind} NAME` any")
        tx.warn(*_warnings(session, project, kind))
        tx.uv(*session.relock)
        moved = [one for one in unbounded(session) if one.package in bounds and one.place not in standing]
        others = [one for one in lowered if one.path != session.required_site.manifest.path]
        bound_anew(session, tx, [*(one._replace(before=bounds[one.package]) for one in moved), *others])
    return tx.code


def _checked_kind(session: Session, named: ChoiceKind | None) -> ChoiceKind:
    """Raises ProjectError where there can be no choices, UsageError for the wrong kind."""
    project = session.project
    if session.is_script or not project.has_project:
        raise ProjectError(f"{project.origin} has no `[project]` table", "only a project can offer several backends")
    have = {choice.kind for choice in edits.stated(project)}
    kind: ChoiceKind = named or ("group" if have == {"group"} else "extra")
    if have - {kind}:
        raise UsageError(f"the project's choices are {min(have)}s already", "leave out --as to add to them")
    if not have and not edits.model_requirements(project):
        raise ProjectError(
            f"the dependencies of {project.origin} name no PyTorch package", "`uvtorch add torch` adds one"
        )
    return kind


def _offers(
    session: Session, backends: Sequence[Backend], texts: Sequence[str]
) -> tuple[list[Decision], tuple[Lowered, ...]]:
    lowered = tuple(one for one in lower_bounds(session) if one.before in texts)
    try:
        return [_offer(session, backend, texts) for backend in backends], ()
    except NoBuild:
        texts = without_bounds(texts, lowered)
        with suppress(NoBuild):
            return [_offer(session, backend, texts) for backend in backends], lowered
        raise


def _offer(session: Session, backend: Backend, texts: Sequence[str]) -> Decision:
    request = session.request(list(map(without_local, texts)) or ["torch"], backend)
    decision = choose(Machine(EVERYWHERE[0]), request, session.catalog)  # whoever types this may have none of the GPUs
    if decision.torch is None and not backend.channel and backend in session.catalog.builds:
        newest = max(session.catalog.builds[backend], key=catalog.number)
        raise NoBuild(
            f"no release on {backend} satisfies {', '.join(texts)}; its newest is {newest}",
            f"loosen the requirement in {session.project.origin}, or leave {backend} out",
        )
    return decision._replace(backend=backend)


def _warnings(session: Session, project: Project, kind: str) -> Iterator[str]:
    have = {choice.target for choice in edits.stated(project)}
    if kind == "extra" and not have and "build-system" in session.required_site.manifest.data:
        yield (
            f"published metadata changes: a plain `pip install {project.name}` will no longer bring torch;"
            " with --as groups the dependencies stay as they are"
        )
    if targets := {item.target for item in project.pytorch_requirements()} - {BASE, GROUP, *have}:
        yield f"PyTorch packages in {', '.join(sorted(map(str, targets)))} come from PyPI whatever is chosen"


def serve(session: Session, files: Sequence[str], named: ChoiceKind | None) -> int:
    """Make the project offer the smallest set of backends for the machines that files describe; tell whom each serves.

    Raises MachineError for a file that cannot be read, NoBuild where no machine is served, and as `set_choices` does.
    """
    texts = [item.text for item in edits.model_requirements(session.project)]
    machines = [hardware.read_description(path) for path in files]
    served = fleet.smallest(machines, session.request(texts), session.catalog)

    def names(places: Sequence[int]) -> str:
        return ", ".join(files[place] for place in places)

    notes = [f"nothing serves {names(one.machines)}: {one.reason}" for one in served.unserved]
    if not served.backends:
        raise NoBuild("no build fits any of these machines", *notes)
    code = set_choices(session, served.backends, named)
    session.out.say(*(f"{backend}: for {names(places)}" for backend, places in served.takes.items()))
    session.out.warn(*notes)
    return code


@click.command(
    cls=Verb,
    examples=(
        ("backends", "What the project offers, and what fits here"),
        ("backends cpu cu126 cu130", "Offer these, one extra each"),
        ("backends --from laptop.json server.json", "The fewest that serve these machines"),
    ),
)
@click.argument("names", metavar="[BACKEND]...", nargs=-1)
@click.option(
    "--from", "files", multiple=True, metavar="FILE", help="Serve the machine that FILE describes; repeatable."
)
@click.option("--as", "form", type=click.Choice(["extras", "groups"]), help="What the choices are. [default: extras]")
@click.option("--dry-run", is_flag=True, help="Print the edits and the uv command; change nothing.")
@hardware_option("List for")
@click.option("--json", "as_json", is_flag=True, help="List as JSON.")
@click.pass_obj
def backends(
    session: Session,
    names: tuple[str, ...],
    files: tuple[str, ...],
    form: str | None,
    dry_run: bool,
    described: str | None,
    as_json: bool,
) -> int:
    """List the project's backend choices, or set them.

    With --from, more FILEs may follow as arguments: the smallest set of backends that serves all those machines.
    """
    session = Session(session.line, session.env, dry=dry_run)
    kinds: dict[str | None, ChoiceKind] = {"extras": "extra", "groups": "group"}
    kind = kinds.get(form)
    if files:
        return serve(session, (*files, *names), kind)
    if "auto" in names:
        raise UsageError("`auto` is no backend to offer", "name backends, or use --from with machines' descriptions")
    if names:
        parsed = (parse(backend_name(one, "torch backends")) for one in names)
        return set_choices(session, [*filter(None, parsed)], kind)
    listing(session, described, as_json)
    return 0

"""`uvtorch torch use BACKEND|auto|none`: pin the whole workspace, or a script, to one backend; or take the pins out."""

import click

from uvtorch.argv import backend_name
from uvtorch.backend import parse
from uvtorch.edits import offer
from uvtorch.errors import ProjectError
from uvtorch.session import Origin, Session, Wanted
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_lock, pin_transitive
from uvtorch.steps.pins import Change, workspace_packages
from uvtorch.steps.resolve import locked, pin_and_lock
from uvtorch.steps.script import pin_script, put_in_place
from uvtorch.transaction import Transaction


def run_use(session: Session, name: str) -> int:
    """Take every PyTorch package of the workspace from the backend's index, and lock; a script is not locked.

    A project of several choices becomes one of a single build again. Raises UsageError for a name that is no backend,
    ProjectError for a project that has no PyTorch package, NoBuild where nothing fits.
    """
    if name != "none":
        name = backend_name(name, "torch use")
    session.claim()
    with session.transaction() as tx:
        if name == "none":
            _take_out(session, tx)
        else:
            _pin(session, tx, Wanted(None if name == "auto" else parse(name), Origin.OPTION, auto=name == "auto"))
    return tx.code


def _take_out(session: Session, tx: Transaction) -> None:
    if session.project.selectable():
        raise ProjectError(
            f"{session.project.origin} offers several backends",
            "`uvtorch torch use BACKEND` makes it one of a single build first",
        )
    packages = tuple(one.package for one in session.project.sources if one.backend)
    change = Change(session, tx)
    change.take_out()
    if not change.write():
        tx.say("no PyTorch package is pinned here")
        return
    tx.say("the pins are out: uv takes PyTorch from the project's default index")
    if session.is_script:
        put_in_place(session, tx, packages)
    else:
        tx.uv(*choices.relock_command(session))


def _pin(session: Session, tx: Transaction, wanted: Wanted) -> None:
    if offer.stated(session.project):
        file = session.file()
        offer.withdraw(file, session.project)
        session.edit(tx, session.required_site.manifest.path, file)
        session.reread()
    if session.is_script:
        packages = pin_script(session, tx, wanted)
        if not (packages or workspace_packages(session)):
            name = session.project.origin
            raise ProjectError(f"{name} requires no PyTorch package", f"`uvtorch add --script {name} torch` adds one")
        if packages:
            put_in_place(session, tx, packages)
        return
    if workspace_packages(session):
        pin_and_lock(session, tx, wanted)
        follow_lock(session, tx, b"")
        return
    if not locked(session).named("torch"):
        raise ProjectError(f"{session.project.origin} requires no PyTorch package", "`uvtorch add torch` adds it")
    pin_transitive(session, tx, wanted)


@click.command()
@click.argument("backend", metavar="BACKEND|auto|none")
@click.option("--script", metavar="FILE", help="Pin this script instead of the project.")
@click.option("--dry-run", is_flag=True, help="Print the decision, the edits and the uv command; change nothing.")
@click.pass_obj
def use(session: Session, backend: str, script: str | None, dry_run: bool) -> int:
    """Pin the project's one backend anew, and lock; `none` takes the pins out."""
    return run_use(Session(session.line, session.env, script, dry=dry_run), backend)

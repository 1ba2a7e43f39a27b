"""`uvtorch torch use BACKEND|auto|none`: pin the workspace or a script to one backend, or take the pins out."""

import os

import click

from uvtorch import edits
from uvtorch.argv import backend_name
from uvtorch.backend import parse
from uvtorch.errors import ProjectError, UsageError
from uvtorch.index_query import check_mirror
from uvtorch.session import Session, Wanted
from uvtorch.steps.follow import pin_project
from uvtorch.steps.pins import Change
from uvtorch.steps.resolve import pin_script, put_in_place
from uvtorch.steps.verb import Verb
from uvtorch.transaction import Transaction, quoted


@click.command(
    cls=Verb,
    examples=(
        ("use auto", "The build that runs on this machine"),
        ("use cu126", "One that is named"),
        ("use cpu --script train.py", "A script instead of the project"),
        ("use none", "No pin any more: PyPI's build"),
    ),
)
@click.argument("backend", metavar="BACKEND|auto|none", required=False)
@click.option("--index-base", "base", metavar="URL", help="Take PyTorch's indexes from this mirror, here and later.")
@click.option("--script", metavar="FILE", help="Pin this script instead of the project.")
@click.option("--dry-run", is_flag=True, help="Print the decision, the edits and the uv command; change nothing.")
@click.pass_obj
def use(session: Session, backend: str | None, base: str | None, script: str | None, dry_run: bool) -> int:
    """Pin the project to one build, and lock.

    A name such as cu126, `auto` for what runs here, or `none` to take the pins out.
    """
    session = Session(session.line, session.env, script, dry=dry_run, base=base)
    if backend is None and base is None:
        missing = "torch use: missing argument BACKEND|auto|none"
        raise UsageError(missing, "`uvtorch torch use auto` chooses by hardware")
    if backend == "none" and base:
        raise UsageError("torch use: `none` takes the indexes out, and --index-base names one", "give one of the two")
    name = backend if backend in (None, "none") else backend_name(backend, "torch use")
    session.claim()
    with session.transaction() as tx:
        wanted = Wanted(parse(name or ""), "option")
        if base:
            _move(session, tx, wanted if name else None)
        if name == "none":
            _take_out(session, tx)
        elif name:
            _pin(session, tx, wanted)
            _tell_next(session, tx)
    return tx.code


def _move(session: Session, tx: Transaction, wanted: Wanted | None) -> None:
    """Take the indexes from another base, and lock unless a build is `wanted` besides."""
    base, change = session.index_base, Change(session, tx)
    urls = {url for project, file in change.files.values() for url in edits.move(file, project, base)}
    if wanted:
        backend = wanted.backend or session.decide(session.requirements).backend
        urls = {backend.index_url(base)} if backend else urls
    elif not urls:
        what = f"{session.project.origin} names no index of PyTorch's"
        raise ProjectError(what, "`uvtorch torch use auto --index-base URL` pins one")
    for url in sorted(urls):
        with session.out.working(f"asking {url}"):
            check_mirror(session.uv, url, session.python)
    change.write()
    if not wanted:
        tx.say(f"PyTorch comes from {base} now")
        put_in_place(session, tx)


def _take_out(session: Session, tx: Transaction) -> None:
    if session.project.selectable():
        raise ProjectError(
            f"{session.project.origin} offers several backends",
            "`uvtorch torch use auto` makes it one of a single build first",
        )
    packages = tuple(one.package for one in session.project.sources if one.backend)
    change = Change(session, tx)
    change.take_out()
    if not change.write():
        tx.say("no PyTorch package is pinned here")
        return
    tx.say("the pins are out: uv takes PyTorch from the default index")
    put_in_place(session, tx, packages)
    _tell_next(session, tx)


def _tell_next(session: Session, tx: Transaction) -> None:
    what = ("run", os.path.relpath(session.required_site.manifest.path)) if session.is_script else ("sync",)
    does = "runs with it" if session.is_script else "installs it"  # a script's environment may have it already
    tx.say(f"next: `{quoted(('uv', *what))}` {does}")


def _pin(session: Session, tx: Transaction, wanted: Wanted) -> None:
    before = session.project
    if edits.stated(before):
        file = session.file()
        edits.withdraw(file, before, session.index_base)
        session.edit(tx, file)
    found, option = bool(session.packages), ""
    if session.is_script:
        option = f" --script {before.origin}"
        if packages := pin_script(session, tx, wanted):
            put_in_place(session, tx, packages)
            found = True
    elif pin_project(session, tx, wanted, lock=not session.locked().named("torch")) or session.locked().named("torch"):
        found = True
    if not found:
        raise ProjectError(f"{before.origin} requires no PyTorch package", f"`uvtorch add{option} torch` adds one")
    if edits.stated(before):
        file = session.file()
        edits.sweep(file, before)
        session.edit(tx, file)

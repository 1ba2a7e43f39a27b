"""What `torch doctor` looks at: the machine, the project, its workspace and lock, uv's exports, the environment."""

import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from uvtorch import environment, files, uv
from uvtorch.argv import forwarded
from uvtorch.audit import Case, Export, Selection, read_export, selections
from uvtorch.errors import ProjectError, UvNotFound
from uvtorch.project.lock import Lock, read_lock
from uvtorch.session import Session, requirements_of
from uvtorch.steps.choices import fitting
from uvtorch.steps.script import environment_of


def examine(session: Session) -> Case:
    """Look at everything. Raises ProjectError, UsageError or MachineError for what cannot be looked at."""
    with session.out.working("looking at the project, its lock and its environment"):
        return _examine(session)


def _examine(session: Session) -> Case:
    site = session.site
    script = site is not None and site.manifest.script
    try:
        path: str | None = uv.find(session.env)
    except UvNotFound:
        path = None
    own = ("--script", os.path.relpath(site.manifest.path)) if site and script else ()
    case = Case(session.machine, session.catalog, uv=path, options=(*forwarded(session.line), *own), script=script)
    if site is None:
        return case
    place = environment_of(session) if script and path else session.environment
    choices = [one for one in session.workspace.choices_for(session.machine.platform) if one.kind != "base"]
    options = [*fitting(session, session.machine, choices).options.values()] if choices else ()
    case = case._replace(
        project=session.workspace,
        lock=_lock(site.lock),
        python=session.python,
        outside=session.outside,
        base=session.index_base,
        root=os.path.relpath(site.root.directory),
        members=tuple(member for _, member in session.siblings) if site.at_root else (),
        names=frozenset(project.name for project in session.projects),
        installed=environment.read(place) if place else None,
        requirements=requirements_of(session.workspace),
        choices=tuple(zip(choices, options, strict=True)),
    )
    return case._replace(exports=_exports(case))


def ask(case: Case, *words: str) -> tuple[int, str, str]:
    """Ask uv about the project or script: its exit code, stdout and stderr."""
    return uv.ask(case.uv, (*words, *case.options)) if case.uv else (127, "", "")


def _exports(case: Case) -> dict[Selection, Export | None]:
    """What uv exports of each selection; empty where no lock has PyTorch packages."""
    if case.lock is None or not any(case.project.is_pytorch(package.name) for package in case.lock.packages):
        return {}
    chosen = selections(case.project)
    with ThreadPoolExecutor() as pool:  # a lock of some megabytes takes uv a tenth of a second each time
        return dict(zip(chosen, pool.map(partial(_export, case), chosen), strict=True))


def _export(case: Case, selection: Selection) -> Export | None:
    together = ("--all-packages",) if case.project.together and case.project.members else ()
    words = ("export", "--frozen", "--quiet", "--no-header", "--format", "pylock.toml")
    code, out, _ = ask(case, *words, *together, *selection.options)
    try:
        return read_export(out, case.project.is_pytorch) if code == 0 else None
    except tomllib.TOMLDecodeError:
        return None


def _lock(path: str) -> Lock | None:
    try:
        return read_lock(files.read(path).decode(), os.path.relpath(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {error}", "recreate it with `uv lock`") from None

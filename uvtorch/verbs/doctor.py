"""`uvtorch torch doctor`: what is wrong here, why it matters, and the command that fixes each thing."""

import gc
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import click

from uvtorch import environment, files, uv
from uvtorch.argv import forwarded
from uvtorch.audit import (
    FIX,
    Case,
    Command,
    Finding,
    Package,
    config,
    error,
    lock,
    machine,
    read_export,
    selections,
    warning,
)
from uvtorch.choose.compatibility import summary
from uvtorch.errors import ProjectError, UvNotFound, UvTooOld
from uvtorch.output import Output
from uvtorch.packages import dependents
from uvtorch.project.lock import Lock, read_lock
from uvtorch.requirement import without_local
from uvtorch.session import Session
from uvtorch.steps.choices import fitting
from uvtorch.steps.pins import lower_bounds, without_bounds
from uvtorch.steps.resolve import environment_of
from uvtorch.steps.verb import Verb
from uvtorch.transaction import Transaction

LOCK: Final = ("uvtorch", "lock")

ROUNDS: Final = 4
"""How often `--fix` edits and locks: what one round brings to light, the next fixes."""

# Looking


def examine(session: Session) -> Case:
    """Look at the machine, the project, its workspace and lock, uv's exports and the environment.

    Raises ProjectError, UsageError or MachineError for what cannot be looked at.
    """
    with session.out.working("looking at the project, its lock and its environment"):
        case = _case(session)
        return case._replace(exports=_exports(case))


def _case(session: Session) -> Case:
    site = session.site
    try:
        path: str | None = uv.find(session.env)
    except UvNotFound:
        path = None
    case = Case(session.machine, session.catalog, uv=path, options=forwarded(session.line))
    if site is None:
        return case
    script, project = site.manifest.script, session.workspace
    place = environment_of(session) if script and path else session.environment
    choices = [one for one in project.choices_for(session.machine.platform) if one.kind != "base"]
    return case._replace(
        options=(*case.options, *(("--script", os.path.relpath(site.manifest.path)) if script else ())),
        kind="script" if script else "project",
        project=project,
        lock=_lock(site.lock),
        python=session.python,
        outside=session.outside,
        base=session.index_base,
        root=os.path.relpath(site.root.directory),
        members=session.projects[1:] if site.at_root else (),
        names=frozenset(one.name for one in session.projects),
        installed=environment.read(place) if place else None,
        requirements=tuple(map(without_local, without_bounds(session.requirements, lower_bounds(session)))),
        choices=tuple(fitting(session, session.machine, choices).options.items()) if choices else (),
    )


def _lock(path: str) -> Lock | None:
    try:
        return read_lock(files.read(path).decode(), os.path.relpath(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise ProjectError(f"cannot read {path}: {fault}", "recreate it with `uv lock`") from None


def _exports(case: Case) -> dict[str, tuple[Package, ...]]:
    if case.lock is None or not any(case.project.is_pytorch(package.name) for package in case.lock.packages):
        return {}
    chosen = selections(case.project)
    with ThreadPoolExecutor() as pool:  # a lock of some megabytes takes uv a tenth of a second each time
        return dict(zip(chosen, pool.map(partial(_export, case), chosen.values()), strict=True))


def _export(case: Case, options: Sequence[str]) -> tuple[Package, ...]:
    together = ("--all-packages",) if case.project.together and case.project.members else ()
    words = ("export", "--frozen", "--quiet", "--no-header", "--format", "pylock.toml")
    code, out, _ = _ask(case, *words, *together, *options)
    return read_export(out, case.project.is_pytorch) if code == 0 else ()


def _ask(case: Case, *words: str) -> tuple[int, str, str]:
    return uv.ask(case.uv, (*words, *case.options)) if case.uv else (127, "", "")


def _try(session: Session, place: environment.Venv | None) -> environment.Trial | None:
    if place is None or place.torch is None:
        return None
    with session.out.working("computing on every GPU"):
        return environment.attempt(place.interpreter, session.env)


# Judging


def diagnose(case: Case, env: Mapping[str, str], trial: environment.Trial | None = None) -> tuple[Finding, ...]:
    """Every finding: the machine's, uv's, the project's, the environment's; each with the command as typed here."""
    audited = _audited(case)
    lock_state = () if any(one.severity == "error" for one in audited) else _lock_state(case)
    found = (*_uv(env), *audited, *lock_state, *machine.check(case, trial))
    unique = {(one.code, one.message): one for one in found}
    return tuple(one._replace(fix=_typed(case, one.command)) for one in unique.values())


def _typed(case: Case, command: Command | None) -> Command | None:
    return command and (*command, *(() if "--project" in command else case.options))


def _audited(case: Case) -> list[Finding]:
    found = [*config.check(case), *(lock.check(case, case.lock) if case.lock else ())]
    for member in case.members:
        there = ("--project", os.path.dirname(member.origin))
        for one in config.check(case._replace(project=member, outside=())):
            words = one.command or ()
            if "--project" not in words:  # else it is the root's
                fix = (*words[:1], *there, *words[1:]) if words else None
                found.append(Finding(one.severity, one.code, f"{member.origin}: {one.message}", fix))
    return found


def _uv(env: Mapping[str, str]) -> Iterator[Finding]:
    try:
        uv.require(uv.find(env))
    except (UvNotFound, UvTooOld) as fault:
        code = "uv-missing" if isinstance(fault, UvNotFound) else "uv-too-old"
        yield error(code, f"{'; '.join((str(fault), *fault.hints))}.")


def _lock_state(case: Case) -> Iterator[Finding]:
    """What uv says of the lock; only where nothing else is to be corrected first. What keeps it from telling is none.

    Without a lock uv resolves, which tells what it refuses in pyproject.toml.
    """
    code, _, said = _ask(case, "lock", "--check" if case.lock else "--dry-run", "--offline", "--no-python-downloads")
    projects = (case.project, *case.members) if code else ()
    missing = [row for one in projects for row in config.releases(case._replace(project=one))]
    unsolved = "No solution found" in said
    # uv resolves only where the lock does not do, so a resolution that lacks the network says as much.
    if missing:
        yield from missing
    elif code and (unsolved or "Failed to " in said) and "network" not in said.lower():
        yield error("cannot-lock", f"uv cannot lock the project: {' '.join(said.partition('cause: ')[2].split())}")
    elif case.lock and (unsolved or "needs to be updated" in said):
        what = "uv.lock is out of date: it does not follow from pyproject.toml any more, and `uv sync --locked` fails."
        yield error("lock-outdated", what, LOCK)
    elif case.lock is None and case.kind == "project" and _brings_torch(case):
        what = "There is no uv.lock: which build of PyTorch is installed is decided anew by each `uv sync`."
        unpinned = not (case.pins or case.choices) and case.machine.platform.system != "macos"
        yield warning("lock-missing", what, case.use if unpinned and case.project.pytorch_packages() else LOCK)


def _brings_torch(case: Case) -> bool:
    named = {item.package for item in case.project.every_requirement}
    return not named.isdisjoint(dependents()) or bool(case.project.pytorch_packages())


# Fixing


def fix_files(session: Session, tx: Transaction, case: Case) -> Iterator[Finding]:
    """Make the edits that the findings call for and lock; then look again. Yields what it works on.

    Of two findings that touch the same, the first counts: its edit is the last.
    """
    for _ in range(1 if tx.dry else ROUNDS):
        file, found = session.file(), [one for one in _audited(case) if one.fixable]
        yield from found
        for one in reversed(found):
            if one.edit:
                one.edit(file)
        upgrade = dict.fromkeys(name for one in found for name in one.upgrade)
        if not session.edit(tx, file) and not upgrade:
            return
        if case.lock is not None or case.kind == "project":  # a script is locked only where its user wants that
            _lock_anew(tx, case, upgrade)
        session.reread()
        case = examine(session)


def _lock_anew(tx: Transaction, case: Case, upgrade: Iterable[str]) -> None:
    words = [word for name in upgrade for word in ("--upgrade-package", name)]
    code, said = tx.attempt("lock", *words, *case.options, quietly=True)
    if code:  # another index need not have the release that was locked
        tx.uv("lock", *(word.partition("==")[0] for word in words), *case.options)
    tx.tell(said if code == 0 else "")


# Saying


def report(out: Output, case: Case, findings: Sequence[Finding], trial: environment.Trial | None = None) -> None:
    """Print the findings for a person."""
    out.table(_header(case, trial))
    for finding in findings:
        out.table([(), (f"{finding.severity} [{finding.code}]",), ("", finding.message)])
        if finding.command:
            out.line(f"  fix: {shlex.join(finding.command)}")
    out.text("")
    if not findings:
        out.text("No problems found.")
        return
    by_fix = sum(finding.fixable for finding in findings)
    count = f"{len(findings)} problem{'s' if len(findings) > 1 else ''} found"
    fixes = f", {by_fix} of which `{shlex.join((*FIX, *case.options))}` fixes" if by_fix else ""
    out.text(f"{count}{fixes}.")


def _header(case: Case, trial: environment.Trial | None) -> Iterator[tuple[str, str]]:
    yield "machine", summary(case.machine)
    yield from (("", problem.reason) for problem in case.machine.problems if problem.kind != "broken")
    version = uv.ask(case.uv, ["--version"])[1].strip() or "unknown version" if case.uv else ""
    yield "uv", f"{version} ({case.uv})" if case.uv else "none"
    if case.root is None:
        yield "project", "none here"
        return
    yield case.kind, _project(case)
    yield "installed", _installed(case.installed)
    if trial is not None and not trial.failure:
        worked = ", ".join(name for name, fault in trial.devices if not fault) or "no GPU"
        yield "trial", f"torch {trial.version} imported; computed on {worked}"


def _project(case: Case) -> str:
    choices = ", ".join(dict.fromkeys(str(choice.target) for choice in case.project.selectable()))
    pins = ", ".join(sorted({str(pin.backend) for pin in case.pins if pin.backend}))
    release = case.release()
    locked = f"; torch {release} locked" if release else "" if case.lock else "; no lock"
    return f"{case.project.origin}: {f'choices {choices}' if choices else pins or 'no pin'}{locked}"


def _installed(place: environment.Venv | None) -> str:
    if place is None:
        return "no environment"
    torch = place.torch
    built = f" for {torch.backend}" if torch and torch.backend else ""
    return f"{f'torch {torch.version}{built}' if torch else 'no torch'} (Python {place.python}, {place.shown})"


EXAMPLES: Final = (
    ("doctor", "What is wrong, and how to fix it"),
    ("doctor --fix", "Fix what the files alone can fix"),
    ("doctor --run", "Also compute once on every GPU"),
)


@click.command(cls=Verb, examples=EXAMPLES)
@click.option("--script", metavar="FILE", help="Look at a script with inline metadata instead of the project.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--fix", is_flag=True, help="Fix what pyproject.toml and uv.lock alone can fix, then look again.")
@click.option("--run", "trial", is_flag=True, help="Also import the installed torch and compute once on every GPU.")
@click.option("--dry-run", is_flag=True, help="Print what --fix would do first; change nothing.")
@click.pass_obj
def doctor(session: Session, script: str | None, as_json: bool, fix: bool, trial: bool, dry_run: bool) -> int:
    """Look for what is wrong, with the fix for each thing.

    It looks at uv, the machine, the project, its lock and its environment.
    Exit code: 0 if nothing is wrong, 1 if something is, 2 if it could not look.
    """
    gc.disable()  # a short life; a large lock makes many small objects that all stay
    session = Session(session.line, session.env, script, dry=dry_run)
    if fix:
        session.claim()
    case = examine(session)
    worked_on: list[Finding] = []
    if (fix or session.dry) and case.root:
        with session.transaction() as tx:
            worked_on += fix_files(session, tx, case)
        if tx.code or tx.dry:
            return tx.code
        case = examine(session)
    tried = _try(session, case.installed) if trial else None
    findings = diagnose(case, session.env, tried)
    left = {one.message for one in findings}
    session.out.say(*dict.fromkeys(f"fixed {one.code}: {one.message}" for one in worked_on if one.message not in left))
    if as_json:
        keys = ("code", "severity", "message", "fix")
        rows = [{key: getattr(one, key) for key in keys} for one in findings]
        session.out.json({"schema": 1, "ok": not findings, "findings": rows})
    else:
        report(session.out, case, findings, tried)
    return 1 if findings else 0

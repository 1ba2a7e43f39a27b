"""`uvtorch torch doctor`: what is wrong here, why it matters, and the command that fixes each thing."""

import gc
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import click

from uvtorch import audit, environment, uv
from uvtorch.audit import FIX, Case, Finding, config, installed, machine
from uvtorch.audit.finding import ROOT, error, warning
from uvtorch.choose.compatibility import summary
from uvtorch.errors import UvNotFound, UvTooOld
from uvtorch.examination import ask, examine
from uvtorch.output import Output
from uvtorch.packages import dependents
from uvtorch.project import Project
from uvtorch.session import Session
from uvtorch.steps.verb import Verb
from uvtorch.transaction import Transaction

LOCK: Final = ("uvtorch", "lock")

ROUNDS: Final = 4
"""How often `--fix` edits and locks: what one round brings to light, the next fixes."""


def diagnose(case: Case, env: Mapping[str, str], trial: environment.Trial | None = None) -> tuple[Finding, ...]:
    """Every finding: the machine's, uv's, the project's, the environment's."""
    found = [*machine.gpus(case), *_uv(env), *(audited := _audited(case))]
    if not any(finding.severity == "error" for finding in audited):
        found += _lock_state(case)
    found += machine.builds(case)
    if case.installed is not None:
        found += [finding for check in installed.CHECKS for finding in check(case, case.installed)]
    if trial is not None:
        found += installed.tried(case, trial)
    return tuple(_typed(case, finding) for finding in audit.unique(found))


def _typed(case: Case, finding: Finding) -> Finding:
    """The finding with its command as it has to be typed here: for the same project or script."""
    if finding.command is None or case.root is None:
        return finding
    words = tuple(case.root if word == ROOT else word for word in finding.command)
    return finding._replace(command=words if "--project" in words else (*words, *case.options))


def _audited(case: Case) -> tuple[Finding, ...]:
    found = audit.findings(case)
    for member in case.members:
        there = ("--project", os.path.dirname(member.origin))
        for finding in audit.findings(case._replace(project=member, lock=None)):
            words = finding.command or ()
            if ROOT not in words:
                fix, what = (*words[:1], *there, *words[1:]) if words else None, f"{member.origin}: {finding.message}"
                found += (Finding(finding.code, finding.severity, what, fix),)
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
    code, _, said = ask(case, "lock", "--check" if case.lock else "--dry-run", "--offline", "--no-python-downloads")
    projects = (case.project, *case.members)
    missing = [row for one in projects for row in config.releases(case._replace(project=one))] if code else []
    unsolved = "No solution found" in said
    # uv resolves only where the lock does not do, so a resolution that lacks the network says as much.
    if missing:
        yield from missing
    elif code and (unsolved or "Failed to " in said) and "network" not in said.lower():
        yield error("cannot-lock", f"uv cannot lock the project: {' '.join(said.partition('cause: ')[2].split())}")
    elif case.lock and (unsolved or "needs to be updated" in said):
        what = "uv.lock is out of date: it does not follow from pyproject.toml any more, and `uv sync --locked` fails."
        yield error("lock-outdated", what, fix=LOCK)
    elif case.lock is None and not case.script and _concerns(case.project):
        what = "There is no uv.lock: which build of PyTorch is installed is decided anew by each `uv sync`."
        yield warning("lock-missing", what, fix=LOCK)


def _concerns(project: Project) -> bool:
    """Whether torch is installed, as far as that is known."""
    return bool(project.pytorch_packages()) or any(one.package in dependents() for one in project.every_requirement)


def fix_files(session: Session, tx: Transaction, case: Case) -> Iterator[Finding]:
    """Make the edits that the findings call for and lock; then look again. Yields what it works on.

    Of two findings that touch the same, the first counts.
    """
    for _ in range(1 if tx.dry else ROUNDS):
        file, found = session.file(), [finding for finding in _audited(case) if finding.fixable]
        yield from found
        edits = {key: edit for finding in reversed(found) for key, edit in finding.edits.items()}
        for edit in edits.values():
            edit(file)
        upgrade = dict.fromkeys(name for finding in found for name in finding.upgrade)
        if not session.edit(tx, file) and not upgrade:
            return
        if case.lock is not None or not case.script:  # a script is locked only where its user wants that
            _lock(tx, case, upgrade)
        session.reread()
        case = examine(session)


def _lock(tx: Transaction, case: Case, upgrade: Iterable[str]) -> None:
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
    choices = dict.fromkeys(str(choice.target) for choice in case.project.selectable())
    pins = sorted({str(pin.backend) for pin in case.pins if pin.backend})
    what = f"choices {', '.join(choices)}" if choices else ", ".join(pins) or "no pin"
    lock = f"; torch {case.release()} locked" if case.release() else "; no lock" if case.lock is None else ""
    return f"{case.project.origin}: {what}{lock}"


def _installed(present: environment.Venv | None) -> str:
    if present is None:
        return "no environment"
    built = f" for {present.torch.backend}" if present.torch and present.torch.backend else ""
    what = f"torch {present.torch.version}{built}" if present.torch else "no torch"
    return f"{what} (Python {present.python}, {os.path.relpath(present.path)})"


def _document(findings: Sequence[Finding]) -> dict[str, object]:
    rows = [
        {"code": one.code, "severity": one.severity, "message": one.message, "fix": one.command} for one in findings
    ]
    return {"schema": 1, "ok": not findings, "findings": rows}


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
    tried = None
    if trial and case.installed is not None and case.installed.torch is not None:
        with session.out.working("computing on every GPU"):
            tried = environment.attempt(case.installed.interpreter, session.env)
    findings = diagnose(case, session.env, tried)
    left = {one.message for one in findings}
    session.out.say(*dict.fromkeys(f"fixed {one.code}: {one.message}" for one in worked_on if one.message not in left))
    if as_json:
        session.out.json(_document(findings))
    else:
        report(session.out, case, findings, tried)
    return 1 if findings else 0

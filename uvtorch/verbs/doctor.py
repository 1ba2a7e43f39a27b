"""`uvtorch torch doctor`: what is wrong here, why it matters, and the command that mends each thing."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import click

from uvtorch import audit, catalog, edit, environment, uv
from uvtorch.audit import Finding
from uvtorch.backend import Backend, from_url
from uvtorch.choose import Request, choose, leaves_idle, runs_here
from uvtorch.errors import ProjectError, UvNotFound, UvTooOld
from uvtorch.machine import Machine
from uvtorch.plan import Edit, Plan, apply, report, show
from uvtorch.project import Environment, Project
from uvtorch.project import read as read_project
from uvtorch.project.lock import Lock, read_lock
from uvtorch.verbs.deciding import Opened, environment_of, interpreter, open_project, requirements_of
from uvtorch.verbs.several import rank
from uvtorch.verbs.torch import Context

ROUNDS = 4
"""How often `--fix` edits and locks: what one round brings to light, the next mends."""


class Case(NamedTuple):
    """All that a diagnosis goes by."""

    machine: Machine
    opened: Opened | None
    """None: no project here."""
    lock: Lock | None
    python: str | None
    uv_toml: str | None
    installed: environment.Environment | None


def examine(context: Context) -> Case:
    """Look at everything. Raises ProjectError, UsageError or MachineError for what cannot be looked at."""
    from uvtorch.hardware import detect

    opened = _open(context)
    machine = detect(context.env)
    if opened is None:
        return Case(machine, None, None, None, None, None)
    root = opened.site.root.directory
    beside = os.path.join(root, "uv.toml")
    return Case(
        machine,
        opened,
        _lock(opened.site.lock),
        interpreter(context.line, context.env, opened.site),
        os.path.relpath(beside) if os.path.isfile(beside) else None,
        environment.read(environment_of(context.env, opened.site)),
    )


def _open(context: Context) -> Opened | None:
    """The project, and at a workspace's root its members with it."""
    opened = open_project(context.line, context.env)
    if opened is None:
        return None
    site = opened.site
    if site.manifest is site.root and not site.manifest.script:
        members = tuple(member.data for member in site.members())
        if members:
            return opened._replace(project=read_project(site.root.data, None, opened.project.origin, members))
    return opened


def _lock(path: str) -> Lock | None:
    try:
        with open(path, encoding="utf-8") as file:
            return read_lock(file.read(), os.path.relpath(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {path}: {error}", "make it anew with: uv lock") from None


def diagnose(case: Case, env: Mapping[str, str], trial: environment.Trial | None = None) -> tuple[Finding, ...]:
    """Every finding: the machine's, uv's, the project's, the environment's."""
    found = [*_machine(case), *_uv(env)]
    if case.opened is not None:
        found += _audited(case)
        found += _pins(case)
        found += _installed(case)
    found += _library_path(case, env)
    if trial is not None:
        found += _tried(case, trial)
    return tuple(dict.fromkeys(found))


def _audited(case: Case) -> tuple[Finding, ...]:
    assert case.opened is not None
    here = Environment(case.machine.platform, (case.python or "").rstrip("t") or None)
    return audit.audit(case.opened.project, case.lock, catalog.load(), uv_toml=case.uv_toml, here=here)


def _machine(case: Case) -> Iterator[Finding]:
    for problem in case.machine.problems:
        if problem.kind == "broken":
            yield Finding(
                "gpu-broken",
                "error",
                f"{problem.reason}. No PyTorch build can use this GPU until that is mended. {problem.remedy}".strip(),
            )


def _uv(env: Mapping[str, str]) -> Iterator[Finding]:
    try:
        path = uv.find(env)
        uv.require(path)
    except UvNotFound as error:
        yield Finding("uv-missing", "error", ". ".join([_sentence(str(error)), *map(_sentence, error.hints)]) + ".")
    except UvTooOld as error:
        yield Finding("uv-too-old", "error", f"{_sentence(str(error))}.", ("uv", "self", "update"))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") if text[:1].islower() and " " in text[:12] else text.rstrip(".")


# The pins against the machine


def _pins(case: Case) -> Iterator[Finding]:
    assert case.opened is not None
    project, machine = case.opened.project, case.machine
    if any(problem.kind == "broken" for problem in machine.problems):
        return  # said already; a broken GPU says nothing about the pins
    choices = tuple(choice for choice in project.choices_for(machine.platform) if choice.kind != "base")
    if choices:
        options = rank(machine, case.opened, choices, case.python).options
        if not any(option.fits for option in options):
            why = options[0].reason
            request = Request(requirements_of(project), python=case.python, requires_python=project.requires_python)
            best = choose(machine, request, catalog.load()).backend
            offered = dict.fromkeys(choice.backend for choice in project.choices() if choice.backend)
            yield Finding(
                "no-choice-fits",
                "warning",
                f"None of the project's backend choices fits this machine ({why}).",
                ("uvtorch", "torch", "backends", *map(str, offered), str(best)) if best else None,
            )
        return
    locked = _locked_torch(case)
    pins = [pin for pin in project.pins(machine.platform) if pin.kind == "index" and not pin.is_pypi]
    pin = next((pin for pin in pins if pin.package == "torch"), pins[0] if pins else None)
    if pin is not None and pin.backend is not None:
        remedy = ("uvtorch", "torch", "use", "auto")
        yield from _suits(machine, pin.backend, locked, f"The project pins {pin.backend}, which", remedy)
    elif pin is None and locked is not None:
        backend = catalog.load().pypi.get(locked, {}).get(machine.platform.key, (None,))[0]
        if isinstance(backend, Backend):
            direct = bool(project.pytorch_packages())
            pin_it = ("uvtorch", "torch", "use", "auto") if direct else ("uvtorch", "add", "torch")
            what = f"Nothing pins PyTorch, so torch {locked} comes from PyPI, built for {backend}, which"
            if not (backend.family == "cu" and not machine.gpus):  # it works without a GPU
                yield from _suits(machine, backend, locked, what, pin_it)


def _suits(
    machine: Machine, backend: Backend, release: str | None, what: str, remedy: tuple[str, ...]
) -> Iterator[Finding]:
    verdict = runs_here(machine, backend, release, catalog.load())
    if not verdict.runs:
        # Without such a GPU the build still imports, and computes on the processor.
        severity = "error" if backend.family == "cpu" or environment.expects_gpu(backend, machine.gpus) else "warning"
        yield Finding("cannot-run-here", severity, f"{what} does not run on this machine: {verdict.reason}.", remedy)
    elif idle := leaves_idle(machine, backend, release, catalog.load()):
        yield Finding("gpu-idle", "warning", f"{what} does not use this machine's GPU: {idle}.", remedy)


def _locked_torch(case: Case) -> str | None:
    """The release of torch that this platform has in the lock, if it is one."""
    if case.lock is None:
        return None
    here = Environment(case.machine.platform, (case.python or "").rstrip("t") or None)
    releases = {(one.version or "").partition("+")[0] for one in case.lock.named("torch") if one.applies(here)}
    return releases.pop() if len(releases) == 1 else None


# What is installed


def _installed(case: Case) -> Iterator[Finding]:
    assert case.opened is not None
    if case.installed is None:
        return
    builds = case.installed.builds
    torch = case.installed.torch
    where = os.path.relpath(case.installed.path)
    for name in dict.fromkeys(build.name for build in builds):
        own = [build for build in builds if build.name == name]
        again = ("uv", "sync", "--reinstall-package", name)
        if len(own) > 1:
            versions = " and ".join(build.version for build in own)
            yield Finding("installed-twice", "error", f"{where} has the metadata of {name} {versions}.", again)
        elif own[0].broken:
            what = f"{name} {own[0].version} in {where} is not whole: {own[0].broken}."
            yield Finding("installed-broken", "error", what, again)
    if torch is None:
        return
    others = [build for build in builds if build.backend and torch.backend and build.backend != torch.backend]
    if others:
        all_of = ", ".join(f"{build.name} {build.version} ({build.backend})" for build in (torch, *others))
        yield Finding(
            "installed-mixed",
            "error",
            f"{where} has builds of different backends: {all_of}. Their compiled parts do not fit together.",
            _sync(case),
        )
    yield from _differs(case, torch, where)
    if torch.backend is not None and not others:
        told = _pinned_backends(case.opened.project, case.machine)
        release = torch.version.partition("+")[0]
        verdict = runs_here(case.machine, torch.backend, release, catalog.load())
        needless = torch.backend.family == "cu" and not case.machine.gpus and not told
        if not verdict.runs and torch.backend not in told and not needless and not _broken(case.machine):
            yield Finding(
                "installed-cannot-run",
                "error",
                f"torch {torch.version} in {where} is built for {torch.backend} and does not run on this machine: "
                f"{verdict.reason}.",
                _sync(case),
            )


def _broken(machine: Machine) -> bool:
    return any(problem.kind == "broken" for problem in machine.problems)


def _pinned_backends(project: Project, machine: Machine) -> set[Backend]:
    return {pin.backend for pin in project.pins(machine.platform) if pin.backend and pin.kind == "index"}


def _differs(case: Case, torch: environment.Build, where: str) -> Iterator[Finding]:
    """The installed torch is none of those that the lock has for this platform."""
    assert case.opened is not None
    if case.lock is None:
        return
    here = Environment(case.machine.platform, (case.python or "").rstrip("t") or None)
    rows = [one for one in case.lock.named("torch") if one.applies(here) and one.kind in ("registry", "url")]
    if not rows:
        return
    for row in rows:
        backend = from_url(row.location)
        same = (row.version or "").partition("+")[0] == torch.version.partition("+")[0]
        if row.version == torch.version and (backend is None or torch.backend in (None, backend)):
            return
        if same and backend is not None and backend == torch.backend:
            return
    versions = " or ".join(dict.fromkeys(row.version or "?" for row in rows))
    built = f" (built for {torch.backend})" if torch.backend else ""
    yield Finding(
        "installed-differs",
        "warning",
        f"{where} has torch {torch.version}{built}, and the lock has {versions} for this platform.",
        _sync(case),
    )


def _sync(case: Case) -> tuple[str, ...]:
    """The command that makes the environment what the lock says."""
    assert case.opened is not None
    several = bool(case.opened.project.selectable())
    return ("uvtorch", "sync", "--auto") if several else ("uv", "sync")


def _library_path(case: Case, env: Mapping[str, str]) -> Iterator[Finding]:
    variable = env.get("LD_LIBRARY_PATH", "")
    if not variable or case.machine.platform.system != "linux" or case.installed is None:
        return
    torch = case.installed.torch
    if torch is None or torch.backend is None or torch.backend.family != "cu":
        return
    found = environment.shadowing(variable, case.installed.libraries)
    if found:
        some = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        yield Finding(
            "library-path",
            "warning",
            f"LD_LIBRARY_PATH puts {some} before the libraries that torch brings: another release of cuDNN, cuBLAS or "
            "NCCL makes importing or using torch fail, or slow. Unset it, or take those directories out of it: torch "
            "needs none.",
        )


def _tried(case: Case, trial: environment.Trial) -> Iterator[Finding]:
    if trial.failure:
        yield Finding("torch-fails", "error", f"Importing torch fails: {trial.failure}.", _sync(case))
        return
    for name, fault in trial.devices:
        if fault:
            yield Finding("gpu-fails", "error", f"torch {trial.version} cannot compute on {name}: {fault}.")
    torch = case.installed.torch if case.installed else None
    if not trial.devices and torch and environment.expects_gpu(torch.backend, case.machine.gpus):
        yield Finding(
            "gpu-unseen",
            "error",
            f"torch {trial.version} is built for {torch.backend} and sees no GPU, though this machine has one: its "
            "driver may be too old, or its device files out of reach.",
        )


# Mending


def mend(context: Context, findings: Sequence[Finding], rounds: int = ROUNDS) -> Plan:
    """The edits that the findings call for, as far as they do not touch the same, and the lock; then the next round."""
    from uvtorch.argv import carried
    from uvtorch.verbs.deciding import edited

    opened = _open(context)
    if opened is None:
        return Plan()
    operations: list[edit.Operation] = []
    touched: set[object] = set()
    upgrade: dict[str, None] = {}
    for finding in findings:
        if finding.mendable and not touched & finding.touched:
            touched |= finding.touched
            operations += finding.edits
            upgrade.update(dict.fromkeys(finding.upgrade))
    edits: tuple[Edit, ...] = edited(opened, operations)
    if not edits and not upgrade:
        return Plan()
    words = [word for name in upgrade for word in ("--upgrade-package", name)]
    then = partial(_again, context, rounds - 1) if rounds > 1 else None
    guarded = (opened.site.manifest.path, opened.site.lock)
    return Plan((("lock", *words, *carried(context.line)),), edits, guarded, then=then)


def _again(context: Context, rounds: int) -> Plan:
    return mend(context, [one for one in _audited(examine(context)) if one.mendable], rounds)


# The verb


def _text(case: Case, findings: Sequence[Finding], env: Mapping[str, str], trial: environment.Trial | None) -> str:
    lines = [*_header(case, env)]
    if trial is not None and not trial.failure:
        worked = ", ".join(name for name, fault in trial.devices if not fault) or "no GPU"
        lines.append(f"trial      torch {trial.version} imported; computed on {worked}")
    for finding in findings:
        lines += ["", f"{finding.severity} [{finding.code}]", *_wrapped(finding.message)]
        if finding.command:
            lines.append(f"  mend: {' '.join(finding.command)}")
    lines.append("")
    if not findings:
        lines.append("Nothing is wrong.")
    else:
        by_fix = sum(finding.mendable for finding in findings)
        count = f"{len(findings)} thing{'s' if len(findings) > 1 else ''} found"
        lines.append(f"{count}, {by_fix} of which `uvtorch torch doctor --fix` mends." if by_fix else f"{count}.")
    return "\n".join(lines)


def _header(case: Case, env: Mapping[str, str]) -> Iterator[str]:
    platform, driver = case.machine.platform, case.machine.nvidia_driver
    gpus = ", ".join(dict.fromkeys(gpu.name for gpu in case.machine.gpus)) or "no GPU"
    yield f"machine    {platform.system} {platform.machine}, {gpus}" + (f", driver {driver.version}" if driver else "")
    for problem in case.machine.problems:
        if problem.kind != "broken":
            yield f"           {problem.reason}"
    try:
        path = uv.find(env)
        yield f"uv         {uv.ask(path, ['--version'])[1].strip() or 'unknown version'} ({path})"
    except UvNotFound:
        yield "uv         none"
    if case.opened is None:
        yield "project    none here"
        return
    project = case.opened.project
    choices = [str(choice.target) for choice in project.selectable()]
    pins = sorted(str(backend) for backend in _pinned_backends(project, case.machine))
    said = f"choices {', '.join(dict.fromkeys(choices))}" if choices else ", ".join(pins) or "no pin"
    locked = _locked_torch(case)
    lock = f"torch {locked} locked" if locked else "no uv.lock" if case.lock is None else ""
    yield f"project    {project.origin}: {said}" + (f"; {lock}" if lock else "")
    if case.installed is None:
        yield "installed  no environment"
    else:
        torch = case.installed.torch
        built = f" for {torch.backend}" if torch and torch.backend else ""
        what = f"torch {torch.version}{built}" if torch else "no torch"
        yield f"installed  {what} (Python {case.installed.python}, {os.path.relpath(case.installed.path)})"


def _wrapped(text: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, 98, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _json(findings: Sequence[Finding]) -> str:
    rows = [
        {
            "code": finding.code,
            "severity": finding.severity,
            "message": finding.message,
            "fix": list(finding.command) if finding.command else None,
        }
        for finding in findings
    ]
    return json.dumps({"schema": 1, "ok": not findings, "findings": rows}, indent=2)


def run(context: Context, as_json: bool, fix: bool, trial: bool, dry_run: bool) -> int:
    """Look, mend if asked to, look again, and print what is left. The exit code: 1 if anything is wrong, else 0."""
    case = examine(context)
    if fix or dry_run:
        plan = mend(context, _audited(case) if case.opened else ())
        if dry_run:
            click.echo(show(plan), nl=False)
            return 0
        if plan.commands:
            quiet = context.line.has("--quiet")
            report(plan, quiet)
            code = apply(plan, uv.find(context.env))
            if code:
                return code
            case = examine(context)
    tried = None
    if trial and case.installed is not None and case.installed.torch is not None:
        tried = environment.attempt(case.installed.interpreter, context.env)
    findings = diagnose(case, context.env, tried)
    click.echo(_json(findings) if as_json else _text(case, findings, context.env, tried))
    return 1 if findings else 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--fix", is_flag=True, help="Mend what pyproject.toml and uv.lock alone can mend, then look again.")
@click.option("--run", "trial", is_flag=True, help="Also import the installed torch and compute once on every GPU.")
@click.option("--dry-run", is_flag=True, help="Print what --fix would do first; change nothing.")
@click.pass_context
def doctor(context: click.Context, as_json: bool, fix: bool, trial: bool, dry_run: bool) -> int:
    """Look for what is wrong with uv, the machine, the project, its lock and its environment.

    Exit code: 0 if nothing is wrong, 1 if something is, 2 if it could not look.
    """
    import gc

    gc.disable()  # a short life; a large lock makes many small objects that all stay
    return run(context.obj, as_json, fix, trial, dry_run)

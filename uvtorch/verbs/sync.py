"""`uvtorch sync|run|export --auto` and `lock --torch-backend`: the build that fits this machine."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from uvtorch import argv as tables
from uvtorch.argv import CommandLine, is_set
from uvtorch.choose import Request
from uvtorch.errors import UsageError
from uvtorch.locate import current_directory, script_block
from uvtorch.machine import Machine
from uvtorch.plan import Plan, hand_over
from uvtorch.project import Project
from uvtorch.project import read as read_project
from uvtorch.verbs.deciding import (
    Asked,
    Opened,
    UvFinder,
    asked,
    decide,
    decision_line,
    edited,
    index_base,
    interpreter,
    missing,
    open_project,
    requirements_of,
)
from uvtorch.verbs.transitive import first_pin, follow, locked_torch

if TYPE_CHECKING:
    from uvtorch.edit import Operation


def compile_sync(line: CommandLine, env: Mapping[str, str], find_uv: UvFinder) -> Plan:
    """What the verb comes to.

    | the project | the plan |
    | --- | --- |
    | no PyTorch package anywhere, uv.lock included | plain uv |
    | PyTorch packages, no source for them | the choice is written, then uv runs |
    | pinned to a backend that runs here | plain uv |
    | pinned to one that cannot run here, or leaves the GPU idle | plain uv and one warning |
    | pinned, and another backend asked for by name | re-pinned |
    | several backends to choose from | the choice that fits here, as options; nothing is edited |

    Raises UvtorchError where it cannot be done.
    """
    if line.verb == "run" and line.has("--no-project", "--no-sync", "--help"):
        return hand_over(line.argv)
    opened = _open(line, env)
    if opened is None:
        if line.verb == "run":  # uv runs programs outside of projects as well
            return hand_over(line.argv)
        raise missing(line, env)
    wanted = asked(line, env)
    project = opened.project
    if not (wanted.backend or wanted.auto or (project.config.auto and line.verb != "lock")):
        return hand_over(line.argv)
    if line.has("--no-sources") or is_set(env, "UV_NO_SOURCES"):
        return hand_over(line.argv)
    opened = with_members(line, opened)
    projects = (opened.project, *opened.project.members)
    if opened.project.selectable():
        from uvtorch.verbs.several import compile_sync as compile_several

        return compile_several(line, env, opened, wanted)
    packages = tuple(dict.fromkeys(name for one in projects for name in one.pytorch_packages()))
    if not packages:
        return _pin_transitive(line, env, opened, find_uv)
    if any(source.kind == "index" and source.package in packages for one in projects for source in one.sources):
        return _pinned(line, env, opened, projects, wanted, find_uv)
    if not wanted.backend and any(source.kind != "index" for source in project.sources if source.package in packages):
        return hand_over(line.argv)  # a repository, a path, a wheel: the project says where it comes from
    return _pin(line, env, opened, projects, packages, wanted, find_uv)


def _open(line: CommandLine, env: Mapping[str, str]) -> Opened | None:
    """The project, or the script that `run` is given, where that has metadata of its own."""
    if line.verb == "run" and line.positionals and not line.has("--module", "-m"):
        path = line.positionals[0]
        if path.endswith(".py") or line.has("--script", "-s"):
            path = os.path.join(current_directory(line, env), path)
            if _has_metadata(path):
                return open_project(line, env, script=path)
    return open_project(line, env)


def _has_metadata(path: str) -> bool:
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return script_block(file.read()) is not None
    except OSError:
        return False


def with_members(line: CommandLine, opened: Opened) -> Opened:
    """The workspace's members along, where its root is what uv works on: their requirements end in the same lock."""
    site = opened.site
    if site.manifest.script or site.manifest is not site.root:
        return opened
    members = [member.data for member in site.members()]
    if not members:
        return opened
    origin = opened.project.origin
    project = read_project(site.manifest.data, None, origin, members, together=line.has("--all-packages"))
    return opened._replace(project=project)


def _pinned(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    projects: tuple[Project, ...],
    wanted: Asked,
    find_uv: UvFinder,
) -> Plan:
    """The project says where its packages come from: uv does the rest, unless another backend is asked for by name."""
    if wanted.backend and any(
        source.backend not in (None, wanted.backend)
        for one in projects
        for source in one.sources
        if one.is_pytorch(source.package)
    ):
        packages = tuple(dict.fromkeys(name for one in projects for name in one.pytorch_packages()))
        return _pin(line, env, opened, projects, packages, wanted, find_uv)
    from uvtorch.hardware import detect

    warnings = _mismatch(line, env, opened, projects, detect(env))
    if line.verb in ("run", "export") or opened.site.manifest.script or line.has("--frozen", "--locked", "--check"):
        return hand_over(line.argv, *warnings)
    return Plan((tuple(line.argv),), warnings=warnings, then=follow(line, env, find_uv, opened.site.lock))


def _mismatch(
    line: CommandLine, env: Mapping[str, str], opened: Opened, projects: tuple[Project, ...], machine: Machine
) -> tuple[str, ...]:
    """The warning that the pinned build does not run here, or leaves the GPU idle; nothing where it is right."""
    from uvtorch import catalog
    from uvtorch.choose import choose, rank_choices
    from uvtorch.verbs.several import locked_releases

    pins = [pin for one in projects for pin in one.pins(machine.platform) if pin.kind == "index"]
    torch = next((pin for pin in pins if pin.package == "torch"), pins[0] if pins else None)
    rows = opened.project.choices_for(machine.platform)
    base = next((row for row in rows if row.kind == "base"), None)  # a member's choice that the root asks for
    origin, backend = (base.origin, base.backend) if base else ("pypi", None)
    if torch is not None:
        origin, backend = "index", torch.backend
    if backend is None and origin != "pypi":
        return ()  # an index that does not say what it serves
    request = _request(line, env, opened, projects)
    locked = locked_releases(opened.site.lock, (backend,))
    option = rank_choices(machine, request, (backend,), catalog.load(), locked).options[0]
    if option.fits:
        return ()
    better = choose(machine, request, catalog.load()).backend
    # A local version in the requirements (`torch==2.6.0+cpu`) leaves no other backend to name.
    remedy = f"; `uvtorch lock --torch-backend {better}` re-pins the project" if better and better != backend else ""
    pinned = f"the project pins {backend}" if backend else "the project takes torch from PyPI on this platform"
    it = "it " if option.reason.startswith(("is ", "would ")) else ""
    return (f"{pinned}, but {it}{option.reason}{remedy}",)


def _request(line: CommandLine, env: Mapping[str, str], opened: Opened, projects: tuple[Project, ...]) -> Request:
    return Request(
        requirements=tuple(text for one in projects for text in requirements_of(one)),
        python=interpreter(line, env, opened.site),
        requires_python=opened.project.requires_python,
    )


def _pin(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    projects: tuple[Project, ...],
    packages: tuple[str, ...],
    wanted: Asked,
    find_uv: UvFinder,
) -> Plan:
    """Write the choice once, then let uv run: undone if uv fails."""
    from uvtorch import pinning
    from uvtorch.hardware import detect

    project = opened.project
    unpinned = not any(one.sources for one in projects)
    _check_free(line, env, opened, packages, None if unpinned else wanted)
    backend = wanted.backend or (None if wanted.auto else project.config.backend)
    base = index_base(env, project)
    request = _request(line, env, opened, projects)._replace(backend=backend)
    decision = decide(detect(env), request, base, find_uv)
    bounds = dict(decision.bounds)
    operations = pinning.operations(project, packages, decision, base, staying=request.requirements)
    operations += pinning.bounds([(name, bounds[name]) for name in packages if name in bounds])
    return _written(line, env, opened, operations, (decision_line(decision),), decision.warnings, find_uv)


def _pin_transitive(line: CommandLine, env: Mapping[str, str], opened: Opened, find_uv: UvFinder) -> Plan:
    """The same for a project whose lock has torch though nothing of its own requires it; else plain uv."""
    lock = None if opened.site.manifest.script else locked_torch(opened.site.lock)
    if lock is None:
        return hand_over(line.argv)
    _check_free(line, env, opened, ("torch",), None)
    operations, decisions, warnings = first_pin(line, env, opened, lock, find_uv)
    if not operations:
        return hand_over(line.argv, *warnings)
    return _written(line, env, opened, operations, decisions, warnings, find_uv)


def _check_free(
    line: CommandLine, env: Mapping[str, str], opened: Opened, packages: Sequence[str], wanted: Asked | None
) -> None:
    """Raise UsageError where an option or a variable forbids to change the lock.

    `wanted` is what the project's pin would become, None where it has none.
    """
    fixed = next((name for name in ("--locked", "--frozen", "--check", "--check-exists") if line.has(name)), None)
    fixed = fixed or next((name for name in ("UV_LOCKED", "UV_FROZEN") if is_set(env, name)), None)
    if fixed:
        origin = opened.project.origin
        raise UsageError(
            f"{origin} has to change for {wanted.backend}, and {fixed} forbids it"
            if wanted
            else f"{origin} names no index for {', '.join(packages)}, and {fixed} forbids to write one",
            f"run `uvtorch {_remedy(line)}` once and commit pyproject.toml and uv.lock",
        )


def _written(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    operations: "Sequence[Operation]",
    decisions: tuple[str, ...],
    warnings: tuple[str, ...],
    find_uv: UvFinder,
) -> Plan:
    edits = edited(opened, operations)
    command = tuple(line.argv)
    guarded = (opened.site.manifest.path, opened.site.lock)
    then = None if opened.site.manifest.script else follow(line, env, find_uv, opened.site.lock)
    if line.verb == "run":
        # Whether the program fails is no reason to undo the pins; whether uv can lock them is.
        return Plan((_lock_command(line, opened),), edits, guarded, decisions, warnings, then=then, last=command)
    return Plan((command,), edits, guarded, decisions, warnings, then=then)


def _remedy(line: CommandLine) -> str:
    ours = [word for name, value in line.ours for word in (name, value) if word]
    return " ".join(["lock", *ours] if line.verb == "lock" else ["sync", *(ours or ["--auto"])])


def _lock_command(line: CommandLine, opened: Opened) -> tuple[str, ...]:
    """The `uv lock` (for a script, `uv sync`) that does what this `uv run` does first, with the same options."""
    verb = "sync" if opened.site.manifest.script else "lock"
    known = tables.options(tables.GLOBAL_VALUES, tables.GLOBAL_FLAGS, *tables.VALUES["lock"], *tables.FLAGS["lock"])
    words = [verb]
    for name, value in line.options:
        if name in known:
            words += [name] if value is None else [name, value]
    if opened.site.manifest.script:
        words += ["--script", opened.site.manifest.path]
    return tuple(words)

"""PyTorch packages that other packages bring along: after uv has locked, take them from the right index too.

uv applies a source to direct requirements only, so `uv add timm` takes torch from PyPI whatever the sources say. The
packages found in the lock are named in a dependency group (`pinning.ANCHORS`), in a project of several backends in
every choice; nothing else of the project changes. Loaded for every `add`, `remove` and `lock`: imports little.
"""

import os
from collections.abc import Mapping
from functools import partial

from uvtorch.argv import CommandLine, is_set
from uvtorch.plan import Plan, hand_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from uvtorch.edit import Operation
    from uvtorch.project import Project
    from uvtorch.project.lock import Lock
    from uvtorch.verbs.deciding import Opened, UvFinder

_TORCH = b'\nname = "torch"\n'


def compile_watched(line: CommandLine, env: Mapping[str, str], find_uv: "UvFinder") -> Plan:
    """uv's own command, then what its lock calls for; plain uv where there is no project or no lock to come."""
    from uvtorch.locate import find, project_directory

    if line.has("--script", "--frozen", "--no-sources", "--check", "--dry-run") or is_set(env, "UV_FROZEN"):
        return hand_over(line.argv)
    manifest = find(project_directory(line, env))
    if manifest is None:
        return hand_over(line.argv)
    lock = lock_beside(manifest)
    plan = Plan((tuple(line.argv),), guarded=(manifest, lock), then=follow(line, env, find_uv, lock))
    if line.verb == "add" and not unsynced(line, env) and _brings_torch(line) and _TORCH not in content(lock):
        # Syncing at once would install gigabytes of a build that is replaced a moment later.
        command = tuple(line.with_options("--no-sync"))
        then = follow(line, env, find_uv, lock, resync=False)
        return plan._replace(commands=(command,), then=then, closing=(sync_command(line),))
    return plan


def lock_beside(manifest: str) -> str:
    """The uv.lock of a project: the nearest above it, else the one that uv is about to make."""
    directory = os.path.dirname(manifest)
    here = os.path.join(directory, "uv.lock")
    while True:
        path = os.path.join(directory, "uv.lock")
        if os.path.isfile(path):
            return path
        parent = os.path.dirname(directory)
        if parent == directory:
            return here
        directory = parent


def content(path: str) -> bytes:
    """A file's bytes, none where there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def unsynced(line: CommandLine, env: Mapping[str, str]) -> bool:
    """Whether uv is told to leave the environment alone."""
    return line.has("--no-sync", "--frozen") or is_set(env, "UV_NO_SYNC") or is_set(env, "UV_FROZEN")


def _brings_torch(line: CommandLine) -> bool:
    from uvtorch.packages import bare_requirement, dependents, named_by

    known = dependents()
    for text in line.positionals:
        name = named_by(text)
        if name is None:
            continue
        extras = bare_requirement(text).partition("[")[2].rstrip("] ").split(",")
        if name in known and (not known[name] or known[name] in (extra.strip() for extra in extras)):
            return True
    return False


def sync_command(line: CommandLine) -> tuple[str, ...]:
    """The sync that `uv add` does at its end: nothing is uninstalled, what was added is installed."""
    from uvtorch.argv import carried

    words = ["sync", "--inexact"]
    for option, selector in (("--optional", "--extra"), ("--group", "--group"), ("--package", "--package")):
        value = line.value(option)
        if value is not None:
            words += [selector, value]
    return (*words, *carried(line))


def locked_torch(path: str) -> "Lock | None":
    """The lock at `path` if torch is in it."""
    raw = content(path)
    if _TORCH not in raw:
        return None
    from uvtorch.project.lock import read_lock

    return read_lock(raw.decode("utf-8", "replace"), path)


def follow(
    line: CommandLine, env: Mapping[str, str], find_uv: "UvFinder", lock: str, resync: bool = True
) -> "Callable[[], Plan]":
    """The follow-up for a plan whose commands change this lock; it syncs again after an edit, where they did."""
    return partial(_followed, line, env, find_uv, lock, content(lock), resync)


def _followed(
    line: CommandLine, env: Mapping[str, str], find_uv: "UvFinder", path: str, before: bytes, resync: bool
) -> Plan:
    if content(path) == before:
        return Plan()
    lock = locked_torch(path)
    if lock is None:
        return Plan()
    from uvtorch.verbs.deciding import edited, open_project

    opened = open_project(line, env)
    if opened is None or opened.site.lock != path:
        return Plan()
    operations, decisions, warnings = _operations(line, env, opened, lock, find_uv)
    edits = edited(opened, operations)
    if not edits:
        return Plan(warnings=warnings)
    from uvtorch.argv import carried

    closing: tuple[tuple[str, ...], ...] = ()
    if resync and line.verb == "add" and not unsynced(line, env):
        closing = (sync_command(line),)
    elif resync and line.verb == "sync":
        closing = (tuple(line.argv),)
    relock = ("lock", *carried(line))
    return Plan((relock,), edits, decisions=decisions, warnings=warnings, closing=closing)


def _operations(
    line: CommandLine, env: Mapping[str, str], opened: "Opened", lock: "Lock", find_uv: "UvFinder"
) -> "tuple[list[Operation], tuple[str, ...], tuple[str, ...]]":
    from uvtorch import pinning
    from uvtorch.verbs.deciding import pins_of

    project = opened.project
    choices = tuple(choice for choice in project.choices() if choice.kind != "base")
    if choices:
        from uvtorch.verbs.deciding import Requested
        from uvtorch.verbs.several import placed

        names = _strays(project, lock)
        found = [change for name in names for change in placed(project, Requested(name, name), choices, base=False)]
        return found, _said(names, "every backend choice"), ()
    pins = pins_of(project)
    if pins:
        names = _strays(project, lock)
        if names:
            return pinning.like(project, (), pins, names), _said(names, "the project's index"), ()
        users = {name: lock.dependents(name) for name in pinning.anchored(project)}
        return pinning.unneeded(project, users), (), ()
    if project.pytorch_packages() or line.verb != "add":
        return [], (), ()
    return first_pin(line, env, opened, lock, find_uv)


def _strays(project: "Project", lock: "Lock") -> tuple[str, ...]:
    """The PyTorch packages that some platform gets from elsewhere than the project chose for it, torch first."""
    from uvtorch.machine import Platform
    from uvtorch.project import Environment
    from uvtorch.project.lock import stray

    platforms = (Platform("linux", "x86_64"), Platform("linux", "aarch64"), Platform("windows", "x86_64"))
    environments = [Environment(platform) for platform in (*platforms, Platform("macos", "arm64"))]
    named = {package.name for one in environments for package in stray(lock, project, one)}
    # What the user requires directly without a source is the user's word, and doctor's.
    return tuple(sorted(named - set(project.pytorch_packages()), key=lambda name: (name != "torch", name)))


def _said(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    return (f"{', '.join(names)} came along: taken from {where}",) if names else ()


def first_pin(
    line: CommandLine, env: Mapping[str, str], opened: "Opened", lock: "Lock", find_uv: "UvFinder"
) -> "tuple[list[Operation], tuple[str, ...], tuple[str, ...]]":
    """Pin a project whose PyTorch packages are all transitive: edits, decisions, warnings.

    Where no build fits, a warning: nobody asked for one. Nothing where the lock holds no PyTorch package.
    """
    from uvtorch import pinning
    from uvtorch.choose import Request
    from uvtorch.errors import NoBuild
    from uvtorch.hardware import detect
    from uvtorch.verbs.deciding import asked, decide, decision_line, index_base, interpreter

    project = opened.project
    names = tuple(dict.fromkeys(package.name for package in lock.packages if project.is_pinned(package.name)))
    if "torch" not in names:
        return [], (), ()
    wanted = asked(line, env)
    machine = detect(env)
    base = index_base(env, project)
    request = Request(
        python=interpreter(line, env, opened.site),
        requires_python=project.requires_python,
        backend=wanted.backend if wanted.backend or wanted.auto else project.config.backend,
    )
    locked = max(package.version or "" for package in lock.named("torch")).partition("+")[0]
    refusal: NoBuild | None = None
    # The lock says what the packages that need torch allow: the release it has, or perhaps an older one.
    for text in (f"torch=={locked}", f"torch<={locked}"):
        try:
            decision = decide(machine, request._replace(requirements=(text,)), base, find_uv)
        except NoBuild as error:
            refusal = refusal or error
            continue
        operations = pinning.operations(project, (), decision, base, transitive=names)
        brought = f"{', '.join(names)} came along"
        return operations, (f"{brought}: {decision_line(decision)}",), decision.warnings
    return [], (), (f"torch comes from PyPI, and may not run here: {refusal}",)

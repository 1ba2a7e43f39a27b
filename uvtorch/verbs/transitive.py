"""PyTorch packages that other packages bring along: after uv has locked, take them from the right index too.

uv applies a source to direct requirements only, so `uv add timm` takes torch from PyPI whatever the sources say. The
packages found in the lock are named in a dependency group (`pinning.ANCHORS`), in a project of several backends in
every choice; nothing else of the project changes. Loaded for every `add`, `remove` and `lock`: imports little.
"""

import os
from collections.abc import Iterable, Mapping
from functools import partial

from uvtorch.argv import CommandLine, frozen, is_set, unsynced
from uvtorch.errors import ProjectError
from uvtorch.plan import Plan, hand_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from uvtorch.choose import Decision
    from uvtorch.edit import Operation
    from uvtorch.project import Project
    from uvtorch.project.lock import Lock
    from uvtorch.verbs.deciding import Asked, Opened, UvFinder

    Outcome = tuple[list[Operation], tuple[str, ...], tuple[str, ...]]
    """Edits, decisions, warnings."""


def compile_watched(line: CommandLine, env: Mapping[str, str], find_uv: "UvFinder") -> Plan:
    """uv's own command, then what its lock calls for; plain uv where there is no project or no lock to come."""
    from uvtorch.locate import find, project_directory

    if line.has("--script", "--no-sources", "--check", "--dry-run") or frozen(line, env):
        return hand_over(line.argv)
    if is_set(env, "UV_NO_SOURCES"):
        return hand_over(line.argv)
    try:
        manifest = find(project_directory(line, env))
        lock = lock_of(manifest) if manifest is not None else ""
    except ProjectError:  # uv says better what is wrong
        return hand_over(line.argv)
    if manifest is None:
        return hand_over(line.argv)
    # What an `add` leaves as it is among PyTorch's packages it gives no reason to look at.
    brief = line.verb == "add" and not line.ours_has("--torch-backend") and not _configured(manifest)
    then = follow(line, env, find_uv, lock, brief=brief)
    plan = Plan((tuple(line.argv),), guarded=(manifest, lock), then=then)
    if line.ours_has("--dry-run"):
        plan = plan._replace(decisions=("what it brings along of PyTorch is pinned once uv has locked",))
    if line.verb == "add" and not unsynced(line, env) and _brings_torch(line):
        # Syncing at once would install gigabytes of a build that is replaced a moment later.
        command = tuple(line.with_options("--no-sync"))
        then = follow(line, env, find_uv, lock, resync=False, brief=brief)
        from uvtorch.verbs.deciding import open_project

        opened = open_project(line, env)
        closing = _closing(line, env, opened) if opened else (sync_command(line),)
        return plan._replace(commands=(command,), then=then, closing=closing)
    return plan


def _configured(manifest: str) -> bool:
    from uvtorch.packages import configures

    return configures(content(manifest))


def lock_of(manifest: str) -> str:
    """The uv.lock of a project, there already or about to be made: beside it, or beside its workspace's root.

    Raises ProjectError where the root has to be looked for and a file on the way cannot be read.
    """
    directory = os.path.dirname(manifest)
    here = os.path.join(directory, "uv.lock")
    from uvtorch.locate import find

    above = find(os.path.dirname(directory))
    if above is None or above == manifest:
        return here
    from uvtorch.locate import site

    found = site(directory)
    return found.lock if found else here


def content(path: str) -> bytes:
    """A file's bytes, none where there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _brings_torch(line: CommandLine) -> bool:
    from uvtorch.packages import bare_requirement, dependents, named_by

    known = dependents()
    for text in line.positionals:
        name = named_by(text)
        if name is None:
            continue
        extras = [*bare_requirement(text).partition("[")[2].rstrip("] ").split(","), *line.values("--extra")]
        if name in known and (not known[name] or known[name] in (extra.strip() for extra in extras)):
            return True
    return False


def sync_command(line: CommandLine) -> tuple[str, ...]:
    """The sync that `uv add` and `uv remove` do at their end: what is added is installed, and only `remove` uninstalls.

    As they do, it selects the target of the command besides the default groups.
    """
    from uvtorch.argv import options_for

    words = ["sync", *(["--inexact"] if line.verb == "add" else [])]
    for option, selector in (("--optional", "--extra"), ("--group", "--group"), ("--package", "--package")):
        value = line.value(option)
        if value is not None and (line.verb == "add" or option == "--package"):
            words += [selector, value]
    return (*words, *options_for(line, "sync"))


def locked_torch(path: str) -> "Lock | None":
    """The lock at `path` if torch is in it."""
    return _read(path, content(path))


def _read(path: str, raw: bytes) -> "Lock | None":
    if not _holds(raw, "torch"):
        return None
    from uvtorch.project.lock import read_lock

    return read_lock(raw.decode("utf-8", "replace"), path)


def _holds(raw: bytes, package: str) -> bool:
    """Whether a uv.lock has the package, told without reading it."""
    line = b'\nname = "' + package.encode() + b'"'
    return line + b"\n" in raw or line + b"\r\n" in raw


def _pytorch(raw: bytes) -> list[bytes]:
    """The pieces of a uv.lock that are packages of PyTorch's."""
    from uvtorch.packages import pinned

    found = []
    for name in sorted(pinned()):
        start = -1
        while (start := raw.find(b'\nname = "' + name.encode() + b'"', start + 1)) >= 0:
            end = raw.find(b"\n[[package]]", start)
            found.append(raw[start:end] if end >= 0 else raw[start:].rstrip())
    return found


def users_of(opened: "Opened", names: Iterable[str], without: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """For each name the locked packages that require it, the project itself and `without` left out."""
    lock = locked_torch(opened.site.lock)
    return _users(opened.project, lock, names, {*without}) if lock else {}


def _users(project: "Project", lock: "Lock", names: Iterable[str], without: set[str]) -> dict[str, tuple[str, ...]]:
    from uvtorch.packages import extension

    ignored = {project.name, *without}
    users = {name: tuple(user for user in lock.dependents(name) if user not in ignored) for name in names}
    if "torch" in users:  # what is compiled against torch needs it, whether it says so or not
        compiled = {item.package for item in project.requirements if extension(item.package)} - without
        users["torch"] += tuple(sorted(compiled))
    return users


def follow(
    line: CommandLine,
    env: Mapping[str, str],
    find_uv: "UvFinder",
    lock: str,
    *,
    resync: bool = True,
    brief: bool = False,
) -> "Callable[[], Plan]":
    """The follow-up for a plan whose commands change this lock; it syncs again after an edit, where they did.

    `brief`: there is nothing to do where they change none of PyTorch's packages.
    """
    return partial(_followed, line, env, find_uv, lock, content(lock), resync, brief)


def _followed(
    line: CommandLine, env: Mapping[str, str], find_uv: "UvFinder", path: str, before: bytes, resync: bool, brief: bool
) -> Plan:
    after = content(path)
    if brief and _pytorch(before) == _pytorch(after):
        return Plan()
    lock = _read(path, after) if after != before else None
    if lock is None and not (after != before and _holds(before, "torch")):
        return Plan(warnings=_unused_option(line, after))
    from uvtorch.verbs.deciding import edited, open_project

    opened = open_project(line, env)
    if opened is None or opened.site.lock != path:
        return Plan()
    if lock is None:
        from uvtorch import pinning

        operations = [] if opened.project.pytorch_packages() else pinning.forsaken(opened.project)
        edits = edited(opened, operations)
        return Plan((_relock(line),), edits) if edits else Plan()
    operations, decisions, warnings = _operations(line, env, opened, lock, before, find_uv)
    edits = edited(opened, operations)
    if not edits:
        return Plan(warnings=warnings)
    closing: tuple[tuple[str, ...], ...] = ()
    if resync and decisions:  # anchors that go change no environment
        if line.verb in ("add", "remove") and not unsynced(line, env):
            closing = _closing(line, env, opened)
        elif line.verb == "sync":
            closing = (tuple(line.argv),)
    return Plan((_relock(line),), edits, decisions=decisions, warnings=warnings, closing=closing)


def _closing(line: CommandLine, env: Mapping[str, str], opened: "Opened") -> tuple[tuple[str, ...], ...]:
    """The sync at the end; in a project of several backends, to the choice that fits here."""
    if opened.project.selectable():
        from uvtorch.verbs.several import sync_to_choice

        return sync_to_choice(line, env, opened)[0]
    return (sync_command(line),)


def _unused_option(line: CommandLine, lock: bytes) -> tuple[str, ...]:
    if line.verb != "add" or not line.ours_has("--torch-backend") or _holds(lock, "torch"):
        return ()
    from uvtorch.argv import torch_backend

    return (f"--torch-backend {torch_backend(line)} has nothing to do: nothing here needs torch",)


def _relock(line: CommandLine) -> tuple[str, ...]:
    """The `uv lock` that resolves as the command did, and upgrades nothing more."""
    from uvtorch.argv import options_for

    words = options_for(line, "lock")
    return ("lock", *(word for word in words if word not in ("--upgrade", "-U", "--locked", "--refresh")))


def _operations(
    line: CommandLine, env: Mapping[str, str], opened: "Opened", lock: "Lock", before: bytes, find_uv: "UvFinder"
) -> "Outcome":
    from uvtorch import pinning
    from uvtorch.verbs.deciding import OPTION, asked, pins_of

    project = opened.project
    choices = project.selectable()
    if choices:
        from uvtorch.verbs.deciding import Requested
        from uvtorch.verbs.several import placed

        names = _strays(project, lock)
        found = [change for name in names for change in placed(project, Requested(name, name), choices, base=False)]
        return found, _said(names, "every backend choice"), ()
    pins = pins_of(project)
    wanted = asked(line, env) if line.verb == "add" else None
    if pins:
        names = _strays(project, lock)
        other = wanted and wanted.backend and any(pin.backend != wanted.backend for pin in pins)
        if wanted and other and (names or wanted.origin == OPTION):
            return _named_pin(line, env, opened, lock, wanted, find_uv)
        if names:
            return pinning.like(project, (), pins, names), _said(names, "the project's index"), ()
        users = _users(project, lock, pinning.anchored(project), set())
        return pinning.unneeded(project, users), (), ()
    if wanted is None:
        return [], (), ()
    if wanted.backend and wanted.origin == OPTION:
        return _named_pin(line, env, opened, lock, wanted, find_uv)
    if any(project.is_pinned(source.package) for source in project.sources):  # a repository, a house's index
        return [], (), ()
    # What was in the lock before this command is no reason to change what the project does about it.
    new = [package.name for package in lock.packages if project.is_pinned(package.name)]
    if all(_holds(before, name) for name in new):
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
    return _torch_first(named - set(project.pytorch_packages()))


def _torch_first(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names), key=lambda name: (name != "torch", name)))


def _said(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    return (f"{', '.join(names)} came along: taken from {where}",) if names else ()


def first_pin(
    line: CommandLine, env: Mapping[str, str], opened: "Opened", lock: "Lock", find_uv: "UvFinder"
) -> "Outcome":
    """Pin a project that pins nothing, for the PyTorch packages in its lock: edits, decisions, warnings.

    Where no build fits, a warning: nobody asked for one. Nothing where the lock holds no PyTorch package.
    """
    from uvtorch.errors import NoBuild
    from uvtorch.verbs.deciding import asked

    wanted = asked(line, env)
    names = _brought(opened.project, lock)
    if "torch" not in {package.name for package in lock.packages}:
        return [], (), ()
    locked = _newest(lock)
    refusal: NoBuild | None = None
    # The lock has the newest torch that all else allows. An older one may do, if uv finds it does.
    for text in (f"torch=={locked}", f"torch<{locked}"):
        try:
            decision = _decided(line, env, opened, wanted, (text,), find_uv)
        except NoBuild as error:
            refusal = refusal or error
            continue
        if text.startswith("torch<") and not _admitted(line, opened, decision, find_uv):
            break
        return _pinned(env, opened, decision, names)
    assert refusal is not None
    why = ". ".join([str(refusal).rstrip("."), *refusal.hints[:1]])
    return [], (), (f"torch {locked} came along from PyPI and may not run here: {why}",)


def _named_pin(
    line: CommandLine,
    env: Mapping[str, str],
    opened: "Opened",
    lock: "Lock",
    wanted: "Asked",
    find_uv: "UvFinder",
) -> "Outcome":
    """Pin the project, again where it is pinned, to the backend that is asked for by name. Raises NoBuild."""
    from uvtorch.verbs.deciding import requirements_of

    decision = _decided(line, env, opened, wanted, requirements_of(opened.project), find_uv)
    return _pinned(env, opened, decision, _brought(opened.project, lock))


def _brought(project: "Project", lock: "Lock") -> tuple[str, ...]:
    """The PyTorch packages of the lock that no requirement of the project's own names."""
    direct = project.pytorch_packages()
    names = {package.name for package in lock.packages if project.is_pinned(package.name)}
    return _torch_first(name for name in names if name not in direct)


def _newest(lock: "Lock") -> str:
    from uvtorch.catalog import number

    versions = [(package.version or "").partition("+")[0] for package in lock.named("torch")]
    return max(versions, key=number)


def _decided(
    line: CommandLine,
    env: Mapping[str, str],
    opened: "Opened",
    wanted: "Asked",
    requirements: tuple[str, ...],
    find_uv: "UvFinder",
) -> "Decision":
    from uvtorch.choose import Request
    from uvtorch.hardware import detect
    from uvtorch.verbs.deciding import decide, index_base, interpreter, requirements_of

    project = opened.project
    request = Request(
        requirements=tuple(dict.fromkeys((*requirements, *requirements_of(project)))),
        python=interpreter(line, env, opened.site),
        requires_python=project.requires_python,
        backend=wanted.backend if wanted.backend or wanted.auto else project.config.backend,
    )
    return decide(detect(env), request, index_base(env, project), find_uv)


def _pinned(env: Mapping[str, str], opened: "Opened", decision: "Decision", names: tuple[str, ...]) -> "Outcome":
    from uvtorch import pinning
    from uvtorch.verbs.deciding import decision_line, index_base

    base = index_base(env, opened.project)
    operations = pinning.operations(opened.project, (), decision, base, transitive=names)
    brought = f"{', '.join(names)} came along: " if names else ""
    return operations, (f"{brought}{decision_line(decision)}",), decision.warnings


def _admitted(line: CommandLine, opened: "Opened", decision: "Decision", find_uv: "UvFinder") -> bool:
    """Whether uv can solve the project with the torch that was decided on, which is older than the one it locked.

    Asked before anything is written: a lock does not say which versions its packages would allow.
    """
    from uvtorch import uv
    from uvtorch.argv import carried

    manifest = opened.site.manifest
    command = ["pip", "compile", "-q", "--no-header", "--no-annotate", "--universal", "--all-extras", *carried(line)]
    for group in opened.project.groups:
        command += ["--group", f"{manifest.path}:{group}"]
    bound = f"torch<={decision.torch}" if decision.torch else "torch"
    code, _, _ = uv.ask(find_uv(), [*command, "--constraints", "-", manifest.path], given=f"{bound}\n")
    return code == 0

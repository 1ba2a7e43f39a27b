"""`uvtorch add`: PyTorch packages with the index that serves this machine; all else as uv has it."""

import os
from collections.abc import Iterator, Mapping

from uvtorch.argv import CommandLine, frozen, is_set
from uvtorch.errors import ProjectError, UsageError
from uvtorch.locate import current_directory, script_block
from uvtorch.packages import ANCHORS, extension, named_by
from uvtorch.plan import Edit, Plan, hand_over
from uvtorch.project import Project, Source
from uvtorch.verbs.deciding import (
    LOCAL_VERSION,
    Opened,
    Requested,
    UvFinder,
    asked,
    edited,
    missing,
    open_project,
    pins_of,
)
from uvtorch.verbs.transitive import compile_watched, follow


def compile_add(line: CommandLine, env: Mapping[str, str], find_uv: UvFinder) -> Plan:
    """What `add` comes to: where no PyTorch package is added, or the user names the index, what uv would do.

    Raises UvtorchError where it cannot be done.
    """
    if line.has("--no-sources", "--no-index") or is_set(env, "UV_NO_SOURCES"):
        return _left_to_uv(line, "sources or indexes are switched off")
    opened = open_project(line, env)
    if opened is None:
        raise missing(line, env)
    project = opened.project
    if not opened.site.manifest.script and not project.has_project:
        raise ProjectError(f"{project.origin} has no `[project]` table", "`uv init --bare` makes a project")
    requested = _requested(line, env, project)
    built = _extended(line, env, opened, requested, find_uv)
    if isinstance(built, Plan):
        return built
    plan = _compile(line, env, opened, requested, find_uv)
    return plan._replace(warnings=(*built, *plan.warnings))


def _extended(
    line: CommandLine, env: Mapping[str, str], opened: Opened, requested: tuple[Requested, ...], find_uv: UvFinder
) -> Plan | tuple[str, ...]:
    """The plan for packages compiled against torch, or what is to be said where they have no build for it."""
    if not any(extension(named_by(text) or "") for text in line.positionals) or _own_index(line):
        return ()
    if opened.site.manifest.script or frozen(line, env):
        return ()
    from uvtorch.verbs import extending

    wanted = extending.requested(line, env, opened.project)
    if not wanted or any(source.backend is None for source in _torch_sources(opened.project)):
        return ()
    choices = opened.project.selectable()
    if choices and requested:
        names = ", ".join(item.extension.package for item in wanted)
        return (f"{names} is left to uv: add it by itself, to the backend choice that it is built for",)
    if choices:
        return extending.compile_choice(line, env, opened, wanted, choices, find_uv)
    return extending.compile_add(line, env, opened, wanted, requested, find_uv)


def _torch_sources(project: Project) -> Iterator[Source]:
    return (source for source in project.sources if project.is_pinned(source.package))


def _compile(
    line: CommandLine, env: Mapping[str, str], opened: Opened, requested: tuple[Requested, ...], find_uv: UvFinder
) -> Plan:
    project = opened.project
    if not requested:
        return compile_watched(line, env, find_uv)
    url = _own_index(line)
    if url is not None:
        return _left_to_uv(line, f"{url} is named as the index to use")
    if project.selectable():
        from uvtorch.verbs.several import compile_add as compile_several

        return compile_several(line, env, opened, requested)
    if opened.site.manifest.script:
        raw = opened.site.manifest.raw
        plan = _compile_single(line, env, _begun(line, env, opened, find_uv), requested, find_uv)
        return plan._replace(edits=tuple(edit._replace(before=raw) for edit in plan.edits))
    plan = _compile_single(line, env, opened, requested, find_uv)
    if frozen(line, env):
        return plan
    return plan._replace(then=follow(line, env, find_uv, opened.site.lock))


def _begun(line: CommandLine, env: Mapping[str, str], opened: Opened, find_uv: UvFinder) -> Opened:
    """A script with metadata: where it has none, with the block that `uv add --script` begins, for the same Python."""
    manifest = opened.site.manifest
    if script_block(manifest.raw.decode("utf-8-sig")) is not None:
        return opened
    from uvtorch import uv
    from uvtorch.edit import begin_script

    wanted = [text for text in (line.value("--python") or env.get("UV_PYTHON"),) if text]
    command = ["--directory", current_directory(line, env), "python", "find", "--no-project", "--show-version"]
    code, out, _ = uv.ask(find_uv(), [*command, *wanted])
    python = ".".join(out.strip().split(".")[:2]) if code == 0 else None
    manifest = manifest._replace(raw=begin_script(manifest.raw, python))
    return opened._replace(site=opened.site._replace(manifest=manifest))


def _compile_single(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    requested: tuple[Requested, ...],
    find_uv: UvFinder,
) -> Plan:
    project, site = opened.project, opened.site
    argv = [*line.argv]
    texts = [item.text for item in requested]
    packages = tuple(dict.fromkeys(item.package for item in requested))
    pins = pins_of(project)
    wanted = asked(line, env, texts)
    if pins and (wanted.backend is None or all(pin.backend == wanted.backend for pin in pins)):
        edits = _edits_like(opened, packages, pins)
        kept = (f"{', '.join(packages)} from {_indexes(pins)}, as the project has it",) if edits else ()
        if wanted.origin == LOCAL_VERSION:
            from uvtorch import pinning

            for item in requested:
                if item.at is not None:
                    argv[item.at] = pinning.unlocalized(item.text)
        return _plan(opened, argv, edits, kept)
    from uvtorch import pinning
    from uvtorch.choose import Request
    from uvtorch.hardware import detect
    from uvtorch.verbs.deciding import decide, decision_line, index_base, interpreter, requirements_of

    machine = detect(env)
    if wanted.origin == LOCAL_VERSION:  # its marker may leave it out here
        wanted = asked(line, env, texts, machine)
    own = tuple(text for text in requirements_of(project) if named_by(text) not in packages)
    backend = wanted.backend if wanted.backend or wanted.auto else project.config.backend
    base = index_base(env, project)
    request = Request(
        requirements=(*texts, *own),
        python=interpreter(line, env, site),
        requires_python=project.requires_python,
        backend=backend,
    )
    decision = decide(machine, request, base, find_uv)
    bounds = dict(decision.bounds)
    for item in requested:
        if item.at is not None:
            text = pinning.unlocalized(item.text)
            argv[item.at] = pinning.bounded(text, bounds[item.package]) if item.package in bounds else text
    staying = (*own, *(item.text for item in requested if item.at is None))
    edits = edited(opened, pinning.operations(project, packages, decision, base, staying=staying))
    return _plan(opened, argv, edits, (decision_line(decision),), decision.warnings)


def _plan(
    opened: Opened,
    argv: list[str],
    edits: tuple[Edit, ...],
    decisions: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Plan:
    site = opened.site
    guarded = (site.manifest.path, site.lock)
    return Plan((tuple(argv),), edits, guarded, decisions, warnings, styled=(site.manifest.path,))


def _indexes(pins: tuple[Source, ...]) -> str:
    return ", ".join(dict.fromkeys(pin.index for pin in pins if pin.index))


def _edits_like(opened: Opened, packages: tuple[str, ...], pins: tuple[Source, ...]) -> tuple[Edit, ...]:
    """Pin `packages` as the project's others are, where they are not; nothing on the warm path."""
    project = opened.project
    have = {source.package for source in project.sources}
    named = {item.package for item in project.requirements}
    anchored = {item.package for item in project.requirements if item.target.name == ANCHORS}
    if have.issuperset(packages) and not anchored.intersection(packages) and "torch" in {*named, *packages}:
        return ()
    from uvtorch import pinning

    return edited(opened, pinning.like(project, packages, pins))


def _requested(line: CommandLine, env: Mapping[str, str], project: Project) -> tuple[Requested, ...]:
    """The PyTorch packages among the requirements and in the requirements files."""
    found = []
    for text, at in zip(line.positionals, line.positionals_at, strict=True):
        package = named_by(text)
        if package and project.is_pinned(package):
            found.append(Requested(package, text, at))
    directory = current_directory(line, env)
    for path in line.values("--requirements"):
        for text in requirements_in(os.path.join(directory, path)):
            package = named_by(text)
            if package and project.is_pinned(package):
                found.append(Requested(package, text))
    return tuple(found)


def requirements_in(path: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The requirements in a file as pip reads them: `-r` files included, comments and options left out.

    Files of other kinds that uv takes here (pyproject.toml, scripts) give what their metadata requires. A file that
    cannot be read gives nothing: uv says so better.
    """
    if path in seen:
        return
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return
    if path.endswith((".toml", ".py")):
        yield from _metadata_requirements(path, text)
        return
    for row in text.replace("\\\n", " ").splitlines():
        entry = row.partition(" #")[0].strip()
        if entry.startswith(("-r", "--requirement")):
            name = entry.removeprefix("--requirement").removeprefix("-r").lstrip(" =")
            yield from requirements_in(os.path.join(os.path.dirname(path), name), seen | {path})
        elif entry and not entry.startswith(("#", "-")):
            yield entry.partition(" --")[0].rstrip()


def _metadata_requirements(path: str, text: str) -> Iterator[str]:
    import tomllib

    try:
        data = tomllib.loads((script_block(text) or "") if path.endswith(".py") else text)
    except tomllib.TOMLDecodeError:
        return
    table = data if path.endswith(".py") else data.get("project", {})
    dependencies = table.get("dependencies", ()) if isinstance(table, dict) else ()
    yield from (entry for entry in dependencies if isinstance(entry, str))


def _own_index(line: CommandLine) -> str | None:
    """An index of a backend that the user names on the command line: then uv is told all it needs."""
    from uvtorch.backend import from_url

    for name in ("--index", "--default-index", "--index-url", "--extra-index-url", "--find-links"):
        for value in line.values(name):
            url = value.partition("=")[2] if "=" in value.partition("://")[0] else value
            if from_url(url):
                return url
    return None


def _left_to_uv(line: CommandLine, reason: str) -> Plan:
    """Hand over; but not in silence where uvtorch was told to choose."""
    if line.ours_has("--torch-backend"):
        raise UsageError(f"--torch-backend has nothing to do here: {reason}")
    return hand_over(line.argv)

"""What every verb that chooses has in common: the project, what is asked for, the machine, and the decision."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from uvtorch import locate
from uvtorch.argv import CommandLine, backend_name, torch_backend
from uvtorch.backend import DEFAULT_INDEX_BASE, Backend, parse
from uvtorch.errors import NoBuild, ProjectError, UsageError
from uvtorch.packages import ANCHORS, named_by, normalize, roles
from uvtorch.plan import Edit
from uvtorch.project import Project, Source
from uvtorch.project import read as read_project

if TYPE_CHECKING:
    from uvtorch.choose import Decision, Request  # not loaded where a project keeps the pins it has
    from uvtorch.edit import Operation
    from uvtorch.machine import Machine

AUTO: Final = "auto"
OPTION: Final = "--torch-backend"
VARIABLE: Final = "UV_TORCH_BACKEND"
LOCAL_VERSION: Final = "the requirement's local version"
"""What can ask for a backend: `Asked.origin`."""

UvFinder = Callable[[], str]
"""Gives the path of uv, looked up only where it is needed."""


class Opened(NamedTuple):
    """A project or a script, and what it says."""

    site: locate.Site
    project: Project


def open_project(line: CommandLine, env: Mapping[str, str], script: str | None = None) -> Opened | None:
    """What the command line works on, None where there is no pyproject.toml. Raises ProjectError as `locate` does.

    `script` is a Python file with metadata of its own that takes the project's place, as `--script` does.
    """
    script = script or line.value("--script")
    if script is not None:
        path = os.path.join(locate.current_directory(line, env), script)
        site: locate.Site | None = locate.script(path)
    else:
        site = locate.site(locate.project_directory(line, env), line.value("--package"))
    if site is None:
        return None
    root = None if site.root is site.manifest else site.root.data
    data = script_tables(site.manifest.data) if site.manifest.script else site.manifest.data
    return Opened(site, read_project(data, root, os.path.relpath(site.manifest.path)))


class Requested(NamedTuple):
    """A PyTorch package that the command line adds."""

    package: str
    """Normalized."""
    text: str
    at: int | None = None
    """Where it stands in `CommandLine.argv`; None: in a requirements file."""


def script_tables(block: Mapping[str, object]) -> dict[str, object]:
    """A script's inline metadata in the shape of a pyproject.toml.

    A script has no groups: what uvtorch would name in the group `uvtorch` stands among its dependencies. Companions
    are read as that group's, so that they come and go with their backend.
    """
    project = {key: block[key] for key in ("dependencies", "requires-python") if key in block}
    dependencies = project.get("dependencies")
    groups: dict[str, object] = {}
    if isinstance(dependencies, list):
        companions = [text for text in dependencies if isinstance(text, str) and _is_companion(text)]
        if companions:
            project["dependencies"] = [text for text in dependencies if text not in companions]
            groups[ANCHORS] = companions
    return {"project": project, "dependency-groups": groups, "tool": block.get("tool", {})}


def _is_companion(requirement: str) -> bool:
    return roles().get(named_by(requirement) or "") == "companion"


def missing(line: CommandLine, env: Mapping[str, str]) -> ProjectError:
    """The error for a directory without a project, as uv words it."""
    return ProjectError(
        f"no `pyproject.toml` found in {locate.project_directory(line, env)} or any parent directory",
        "`uv init` makes one, `--project` and `--directory` name another place",
    )


def edited(opened: Opened, operations: Iterable[Operation]) -> tuple[Edit, ...]:
    """The edit of the manifest that these operations come to; empty where the file says it all already."""
    from uvtorch import edit

    manifest = opened.site.manifest
    if manifest.script:
        from uvtorch.pinning import in_script

        after = edit.apply_script(manifest.raw, in_script(opened.project, operations), opened.project.origin)
    else:
        after = edit.apply(manifest.raw, operations, opened.project.origin)
    return (Edit(manifest.path, manifest.raw, after),) if after != manifest.raw else ()


class Asked(NamedTuple):
    """The backend that was asked for by name, or `auto`; and by what."""

    backend: Backend | None
    """None: nobody named one."""
    origin: str = ""
    auto: bool = False
    """Detection was asked for by an option or the environment."""


def asked(
    line: CommandLine, env: Mapping[str, str], requirements: Sequence[str] = (), machine: Machine | None = None
) -> Asked:
    """What asks for a backend, in order of precedence, up to the project's own pins, which the caller knows.

    `requirements` are those of the command line; their local versions count where their markers hold on `machine`
    (None: anywhere). Raises UsageError for a contradiction within the command line and for a value that names no
    backend.
    """
    option = torch_backend(line)
    local = None
    if any("+" in text for text in requirements):
        from uvtorch.choose import local_backend

        local = local_backend(requirements, machine)
    if option and option != AUTO:
        backend = parse(option)
        if local and backend and local.name != backend.name:
            raise UsageError(
                f"the requirements ask for {local} and --torch-backend for {backend}", "name one backend, once"
            )
        return Asked(backend, OPTION)
    if local:
        return Asked(local, LOCAL_VERSION)
    if option:
        return Asked(None, OPTION, auto=True)
    variable = env.get(VARIABLE)
    if variable:
        name = backend_name(variable, VARIABLE)
        return Asked(None if name == AUTO else parse(name), VARIABLE, auto=name == AUTO)
    return Asked(None)


def index_base(env: Mapping[str, str], project: Project) -> str:
    """Where the backends' indexes are: the environment, the project's configuration, PyTorch's own server."""
    return env.get("UVTORCH_INDEX_BASE") or project.config.index_base or DEFAULT_INDEX_BASE


def interpreter(line: CommandLine, env: Mapping[str, str], site: locate.Site) -> str | None:
    """The Python the project will use, as far as can be told without asking uv: `3.12`, `3.14t`; None: not told.

    `--python`, `UV_PYTHON`, `.python-version` beside the project or its workspace's root, the environment that exists.
    """
    for text in (line.value("--python"), env.get("UV_PYTHON")):
        if text:
            return _version_in(text)
    for folder in dict.fromkeys((site.manifest.directory, site.root.directory)):
        text = _first_line(os.path.join(folder, ".python-version"))
        if text:
            return _version_in(text)
    try:
        with open(os.path.join(environment_of(env, site), "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            settings = dict(row.split("=", 1) for row in file if "=" in row)
    except OSError:
        return None
    settings = {key.strip(): value.strip() for key, value in settings.items()}
    return _version_in(settings.get("version_info") or settings.get("version") or "")


def environment_of(env: Mapping[str, str], site: locate.Site) -> str:
    """The project's environment, which need not exist."""
    return os.path.join(site.root.directory, env.get("UV_PROJECT_ENVIRONMENT") or ".venv")


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((row.strip() for row in file if row.strip() and not row.startswith("#")), "")
    except OSError:
        return ""


def _version_in(request: str) -> str | None:
    """The minor version that a Python request names, `3.12` for `3.12`, `cpython@3.12.4`, `cpython-3.12.4-linux…`."""
    text = request.lower()
    for prefix in ("cpython", "python", "cp"):
        if text.startswith(prefix):
            text = text[len(prefix) :].lstrip("@-=")
            break
    text = text.partition("-")[0]
    free_threaded = "+freethreaded" in text or text.endswith("t")
    parts = text.partition("+")[0].rstrip("t").split(".")
    if len(parts) < 2 or not all(part.isdigit() for part in parts[:2]):
        return None
    return ".".join(parts[:2]) + ("t" if free_threaded else "")


def pins_of(project: Project) -> tuple[Source, ...]:
    """The sources that say, on some platform, where the project takes its PyTorch packages from, unselected."""
    return tuple(
        source
        for source in project.sources
        if source.extra is None
        and source.group is None
        and source.backend is not None
        and source.kind == "index"
        and project.is_pinned(source.package)
    )


def requirements_of(project: Project) -> tuple[str, ...]:
    """The project's own requirements of PyTorch packages, as it writes them.

    Those of extras and groups in a conflict set are resolved each apart, so they count only where there are no others.
    """
    items = project.pytorch_requirements()
    apart = {(item.kind, normalize(item.name)) for items in project.conflicts for item in items}
    together = [item.text for item in items if (item.target.kind, normalize(item.target.name or "")) not in apart]
    return tuple(together or [item.text for item in items])


def decide(machine: Machine, request: Request, base: str, find_uv: UvFinder) -> Decision:
    """Choose, asking the indexes through uv where the catalog does not know.

    Raises NoBuild where nothing fits, and where an index that must be asked cannot be.
    """
    from uvtorch import catalog
    from uvtorch.choose import choose

    decision = choose(machine, request, catalog.load())
    if decision.refusal:
        raise NoBuild(decision.refusal, *decision.hints)
    if decision.ask:
        from uvtorch.asking import settle

        return settle(decision, machine, request, base, find_uv())
    if decision.backend and decision.backend.channel:
        from uvtorch.asking import nightly_companions

        return decision._replace(companions=nightly_companions(decision.backend, request, base, find_uv()))
    return decision


def decision_line(decision: Decision) -> str:
    """The one line that tells a decision: `cu126 (torch 2.14.1): driver 570.124.06 …`."""
    release = f" (torch {decision.torch})" if decision.torch else ""
    reason = f": {decision.reason}" if decision.reason else ""
    return f"using {decision.backend}{release}{reason}"

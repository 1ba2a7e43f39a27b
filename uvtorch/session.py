"""What one command knows: its words, the project, the machine, what is asked for."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

from uvtorch import catalog, files, index_query, uv
from uvtorch.argv import INSTALLERS, CommandLine, backend_name, forwarded, torch_backend
from uvtorch.backend import DEFAULT_INDEX_BASE, Backend, parse
from uvtorch.catalog import Catalog
from uvtorch.choose import Decision, Request, choose, local_backend
from uvtorch.command import Command
from uvtorch.errors import NoBuild, ProjectError, UsageError
from uvtorch.hardware import detect
from uvtorch.machine import Machine
from uvtorch.packages import dependents
from uvtorch.project import Project, Target
from uvtorch.project import read as read_project
from uvtorch.project import workspace as workspaces
from uvtorch.project.choices import torch_first
from uvtorch.project.indexes import Index, check_index_url, configured, given, of_pytorch
from uvtorch.project.lock import Lock, read_lock
from uvtorch.project.pyproject import PyProject
from uvtorch.project.script import begin_script, script_block
from uvtorch.project.workspace import Manifest, Workspace
from uvtorch.requirement import named_by, without_local
from uvtorch.transaction import Transaction, content


class Wanted(NamedTuple):
    """The backend that was asked for by name, and by what."""

    backend: Backend | None = None
    origin: Literal["", "option", "--auto", "local version", "variable"] = ""

    @property
    def auto(self) -> bool:
        """Whether detection is asked for."""
        return self.backend is None and self.origin != ""

    @property
    def explicit(self) -> bool:
        """Whether the option says so: what stands in the way gives way."""
        return self.origin == "option"

    @property
    def insists(self) -> bool:
        """Whether the command line says so: it counts more than pins."""
        return self.origin in ("option", "local version")


class Session(Command):
    """One command and what it works on, each looked up once.

    Raises ProjectError, UsageError, MachineError, NoBuild, UvNotFound.
    """

    def __init__(
        self,
        line: CommandLine,
        env: Mapping[str, str],
        script: str | None = None,
        *,
        dry: bool = False,
        base: str | None = None,
    ) -> None:
        super().__init__(line, env, dry=dry)
        self._base = base
        self._script = script or self._script
        self._unwritten: dict[str, tuple[bytes, bytes]] = {}
        """Files as they are and as they will be, of a dry run and of a script that gets its first block."""

    @cached_property
    def site(self) -> Workspace | None:
        """The files that the command works on; None: no project."""
        if self._claim is None:
            self.repair()
        if self._script is not None:
            manifest = self._current(workspaces.read(self._script_path, script=True))
            return Workspace(manifest, manifest)
        try:
            found = workspaces.site(self.directory, self.line.value("--package"))
        except ProjectError:
            if self.line.verb not in INSTALLERS:  # there uv warns, and needs no project
                raise
            return None
        return Workspace(*map(self._current, found)) if found else None

    def _current(self, manifest: Manifest) -> Manifest:
        if manifest.path not in self._unwritten:
            return manifest
        return workspaces.manifest_of(manifest.path, self._unwritten[manifest.path][1], script=manifest.script)

    @property
    def required_site(self) -> Workspace:
        """The same. Raises ProjectError where there is none."""
        if self.site is None:
            raise ProjectError(
                f"no `pyproject.toml` found in {self.directory} or any parent directory",
                "`uv init` makes one, `--project` and `--directory` name another place",
            )
        return self.site

    @cached_property
    def project(self) -> Project:
        """The project or script, with what it inherits from its workspace's root."""
        return self.required_site.project()

    @cached_property
    def workspace(self) -> Project:
        """The project, at its workspace's root with the members' requirements."""
        root, project = self.required_site.root, self.project
        members = [manifest.data for manifest, _ in self.files[1:]] if self.required_site.at_root else []
        together = self.line.has("--all-packages")
        return read_project(root.data, None, project.origin, members, together) if members else project

    @cached_property
    def files(self) -> tuple[tuple[Manifest, Project], ...]:
        """Every project of the workspace with its file, this one first."""
        site = self.required_site
        others = [] if site.at_root else [site.root]
        if not site.manifest.script:
            others += map(self._current, site.members())
        return (site.manifest, self.project), *((manifest, site.project(manifest)) for manifest in others)

    @property
    def projects(self) -> tuple[Project, ...]:
        """The same without the files."""
        return tuple(project for _, project in self.files)

    @property
    def packages(self) -> tuple[str, ...]:
        """The PyTorch packages that the workspace requires."""
        return torch_first(sorted(name for project in self.projects for name in project.pytorch_packages()))

    @property
    def requirements(self) -> tuple[str, ...]:
        """The workspace's requirements of PyTorch packages; torch if it has none."""
        texts = dict.fromkeys(text for project in self.projects for text in requirements_of(project))
        return tuple(texts) or ("torch",)

    def locked(self) -> Lock:
        """The lock as it is now; empty where it cannot be read: uv says better what is wrong with it."""
        try:
            return read_lock(files.text(self.required_site.lock) or "")
        except ProjectError:
            return Lock()

    def reread(self) -> None:
        """Forget what the files said."""
        for name in ("site", "project", "workspace", "files"):
            self.__dict__.pop(name, None)

    @property
    def is_script(self) -> bool:
        """Whether it is a script with inline metadata."""
        return self.required_site.manifest.script

    def edit(self, tx: Transaction, file: PyProject, path: str | None = None) -> bool:
        """Write an edited file, by default the project's own; whether it changed, also in a dry run."""
        path, after = path or self.required_site.manifest.path, file.render()
        before = self._unwritten.get(path, (file.raw,))[0]
        if tx.dry and after != before:
            self._unwritten[path] = (before, after)
        else:
            self._unwritten.pop(path, None)
        self.reread()
        return tx.edit(path, before, after)

    def claim_unread(self) -> bool:
        """Claim what was read already; whether it has changed since."""
        if self._claim is not None and self._claim.held:
            return False
        known = self.files if self.site else ()
        self.claim()
        if all(content(manifest.path) == manifest.raw for manifest, _ in known):
            return False
        self.reread()
        return True

    @property
    def relock(self) -> tuple[str, ...]:
        """The `uv lock` that resolves as the command did, and upgrades nothing more."""
        return ("lock", *forwarded(self.line, "lock"))

    @property
    def target(self) -> Target | None:
        """The extra or group that `add` and `remove` are told to change; None: the project's dependencies."""
        extra, group = self.line.value("--optional"), self.line.value("--group")
        if extra is not None:
            return Target("extra", extra)
        return Target("group", group or "dev") if group is not None or self.line.has("--dev") else None

    @property
    def changed(self) -> Sequence[str]:
        """The files that uv may change."""
        site = self.site
        return (site.manifest.path, site.root.path, site.lock) if site else ()

    def begin_script(self) -> None:
        """Give a script without metadata the block that `uv add --script` begins."""
        manifest = self.required_site.manifest
        if manifest.script and script_block(manifest.raw.decode("utf-8-sig")) is None:
            directory = files.current_directory(self.line, self.env)
            command = ["--directory", directory, "python", "find", "--no-project", "--show-version"]
            named = self.line.value("--python") or self.env.get("UV_PYTHON")
            code, out, _ = uv.ask(self.uv, [*command, *([named] if named else [])])
            python = ".".join(out.strip().split(".")[:2]) if code == 0 else None
            self._unwritten[manifest.path] = (manifest.raw, begin_script(manifest.raw, python))
            self.reread()

    def file(self, manifest: Manifest | None = None) -> PyProject:
        """A file to edit: the project's own, or another of the workspace."""
        manifest = manifest or self.required_site.manifest
        return PyProject(manifest.raw, os.path.relpath(manifest.path), script=manifest.script)

    @cached_property
    def machine(self) -> Machine:
        """The machine, or the described one that stands for it."""
        with self.out.working("looking at the hardware"):
            return detect(self.env, tell=lambda note: self.out.tell("note", note))

    @cached_property
    def catalog(self) -> Catalog:
        """The table of builds."""
        return catalog.load(self.catalog_directory)

    @cached_property
    def catalog_directory(self) -> str | None:
        """The copy of the catalog that is configured."""
        named, site = self.env.get("UVTORCH_CATALOG"), self.site
        if named or site is None or not self.project.config.catalog:
            return named or None
        own = "catalog" in site.manifest.data.get("tool", {}).get("uvtorch", {})
        return os.path.join((site.manifest if own else site.root).directory, self.project.config.catalog)

    @cached_property
    def index_base(self) -> str:
        """Where the backends' indexes are: option, variable, configuration, the project's pins, PyTorch's own."""
        for named, origin in ((self._base, "--index-base"), (self.env.get("UVTORCH_INDEX_BASE"), "UVTORCH_INDEX_BASE")):
            if named:
                return check_index_url(named, origin)
        return (self.site and (self.project.config.index_base or _base_of_pins(self.project))) or DEFAULT_INDEX_BASE

    @cached_property
    def outside(self) -> tuple[Index, ...]:
        """PyTorch's indexes that options, variables and configuration files give uv for every package."""
        root = self.required_site.root
        data = {} if root.script else root.data
        found = (*given(self.line, self.env), *configured(root.directory, data, self.line, self.env))
        return tuple(of_pytorch(found, (self.index_base, DEFAULT_INDEX_BASE)))

    @cached_property
    def python(self) -> str | None:
        """The Python that the project will use: `3.12`, `3.14t`, `pypy3.10`; None: not told.

        By `--python`, `UV_PYTHON`, `.python-version` beside the project or the root, the environment there is.
        """
        if text := self.line.value("--python") or self.env.get("UV_PYTHON"):
            return minor_version(text)
        site = self.required_site
        for folder in (site.manifest.directory, site.root.directory):
            text = files.text(os.path.join(folder, ".python-version")) or ""
            if row := re.search(r"^\s*([^#\s]\S*)", text, re.MULTILINE):
                return minor_version(row[1])
        text = files.text(os.path.join(self.environment, "pyvenv.cfg")) or ""
        told = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(\S+)", text, re.MULTILINE))
        return minor_version(told.get("implementation", "") + (told.get("version_info") or told.get("version", "")))

    @property
    def environment(self) -> str:
        """Where the project's environment is or will be."""
        return os.path.join(self.required_site.root.directory, self.env.get("UV_PROJECT_ENVIRONMENT") or ".venv")

    @property
    def _settings(self) -> Mapping[str, Any]:
        return (self.required_site.root.data.get("tool") or {}).get("uv") or {}

    @property
    def is_dynamic(self) -> bool:
        """Whether the build backend tells what the project requires."""
        table = self.required_site.manifest.data.get("project") or {}
        return not {"dependencies", "optional-dependencies"}.isdisjoint(table.get("dynamic", ()))

    @property
    def may_resolve_otherwise(self) -> bool:
        """Whether uv may resolve another torch than the requirements' text suggests."""
        names, known = ("constraint-", "override-", "exclude-", "resolution"), dependents()
        return bool(
            self.files[1:]
            or self.is_dynamic
            or any(key.startswith(names) for key in self._settings)
            or any(one.kind != "index" for one in self.project.sources)
            or any(item.package in known for item in self.project.requirements)
        )

    def wanted(self, requirements: Sequence[str] = (), *, here: bool = False) -> Wanted:
        """What asks for a backend: the option, else a local version in `requirements`, else the environment.

        `here`: only local versions whose markers hold on this machine count. Raises UsageError for a contradiction or a
        value that names no backend.
        """
        option = torch_backend(self.line)
        backend = parse(option or "")  # `auto` is none
        named = any("+" in text for text in requirements)
        local = local_backend(requirements, self.machine if here else None) if named else None
        if backend and local and local.name != backend.name:
            raise UsageError(
                f"the requirements ask for {local} and --torch-backend for {backend}", "name one backend, once"
            )
        if local and not backend:
            return Wanted(local, "local version")
        variable, auto = self.env.get("UV_TORCH_BACKEND"), self.line.ours_has("--auto")
        if variable and (auto or not option):  # --auto says no more than `auto = true`
            return Wanted(parse(backend_name(variable, "UV_TORCH_BACKEND")), "variable")
        return Wanted(backend, "--auto" if auto else "option") if option else Wanted()

    def backend_for(self, wanted: Wanted) -> Backend | None:
        """That asked for, else the configured one unless detection is asked for."""
        detection = self.site is None or (wanted.auto and wanted.origin != "--auto")
        return wanted.backend or (None if detection else self.project.config.backend)

    def decide(self, requirements: Sequence[str], backend: Backend | None = None) -> Decision:
        """Choose for these requirements, as `settle` does."""
        return self.settle(self.request(requirements, backend))

    def settle(self, request: Request) -> Decision:
        """Choose for a request, asking the indexes through uv where the catalog does not know.

        Raises NoBuild where nothing fits or an index cannot be asked.
        """
        decision = choose(self.machine, request, self.catalog)
        if decision.refusal:
            raise NoBuild(decision.refusal, *map(self._as_typed, decision.hints))
        if decision.ask:
            with self.out.working(f"asking the indexes of {', '.join(map(str, decision.ask))}"):
                return index_query.settle(decision, self.machine, request, self.catalog, self.index_base, self.uv)
        if decision.backend and decision.backend.channel:
            with self.out.working(f"asking the index of {decision.backend}"):
                names = index_query.nightly_companions(decision.backend, request, self.index_base, self.uv)
            return decision._replace(companions=names)
        return decision

    def _as_typed(self, hint: str) -> str:
        """A remedy as `torch use` takes it."""
        command = "`uvtorch torch use \\1" + (f" --script {self._script}`" if self._script else "`")
        return re.sub("`--torch-backend ([^ `]+)`", command, hint) if self.line.verb == "torch" else hint

    def request(self, requirements: Sequence[str], backend: Backend | None = None) -> Request:
        """The request for this project's Pythons, within its constraints."""
        names = {"torch", *map(named_by, requirements)}
        constraints = self._settings.get("constraint-dependencies", ()) if self.site else ()
        within = (text for text in constraints if named_by(text) in names)
        return Request(
            requirements=tuple(dict.fromkeys((*requirements, *within))),
            python=self.python,
            requires_python=self.project.requires_python,
            backend=backend,
        )


def requirements_of(project: Project) -> tuple[str, ...]:
    """The project's own requirements of PyTorch packages, as it writes them.

    Those of extras and groups in conflict count only where there are no others, and without what tells them apart.
    """
    items = project.pytorch_requirements()
    together = [item.text for item in items if item.target not in project.conflict_members]
    return tuple(together or [without_local(item.text) for item in items])


def _base_of_pins(project: Project) -> str | None:
    pins = [one for one in project.sources if one.package == "torch" and one.kind == "index" and one.backend]
    urls = (((one.url or "").rstrip("/"), f"/{one.backend}") for one in pins)
    bases = {url.removesuffix(end) for url, end in urls if url.endswith(end)}
    return bases.pop() if len(bases) == 1 else None


def decision_line(decision: Decision, torch: str | None = None) -> str:
    """`using cu126 (torch 2.14.1): driver …`; `torch`: the release that uv locked."""
    told = f"torch {torch}" if torch else decision.release
    release = f" ({told})" if told else ""
    reason = f": {decision.reason}" if decision.reason else ""
    return f"using {decision.backend}{release}{reason}"


_PYTHON = re.compile(
    r"(cpython|python|cp|pypy|pp|graalpy|graalvm|gp)?[@=-]*(?:3\.?([0-9]+)(?![^.t+-]))?(?=(\.?\w*(?:t|\+freethreaded)\b)?)"
)
_OTHERS = {"pypy": "pypy", "pp": "pypy", "graalpy": "graalpy", "graalvm": "graalpy", "gp": "graalpy"}
"""How uv names implementations that are not CPython."""


def minor_version(request: str) -> str | None:
    """`3.12` for a request such as `cpython@3.12.4`, `cp312`, `cpython-3.12.4-linux…`; None: it names no version.

    Another implementation keeps its name, `pypy3.10` or `graalpy`.
    """
    implementation, minor, free_threaded = _PYTHON.findall(request.lower())[0]  # it matches nothing as well
    other = _OTHERS.get(implementation, "")
    return f"{other}3.{int(minor)}{'t' if free_threaded else ''}" if minor else other or None

"""What is wrong with a project's PyTorch packages: what the checks go by, and what they find. Pure.

docs/doctor.md has a table of the codes.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from uvtorch.backend import DEFAULT_INDEX_BASE, PLATFORMS
from uvtorch.catalog import Catalog
from uvtorch.choose import Decision, Option, Request, choose
from uvtorch.environment import Venv
from uvtorch.machine import Machine, Platform
from uvtorch.project import Choice, Environment, Index, Project, Source, Target
from uvtorch.project.choices import reached
from uvtorch.project.indexes import catalogued, is_below
from uvtorch.project.lock import Lock
from uvtorch.project.model import GROUP
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import PYTHONS, holds

# What uv exports of a lock. It locks several builds of a package side by side; `uv export --format pylock.toml` says in
# 20 ms what one selection of extras and groups gets (https://docs.astral.sh/uv/concepts/projects/export/).

_NAME: Final = re.compile(r'name = "([^"\\]+)"')
_TAGS: Final = {"linux": "linux", "windows": "win", "macos": "macosx"}
"""What the platform tags of a system's wheels have."""


class Package(NamedTuple):
    """A package of an export."""

    name: str
    version: str
    url: str  # The index's URL; empty for what comes from a repository, a path or the URL of a file
    marker: str | None
    wheels: tuple[str, ...]  # The names of its wheels
    sdist: bool

    @property
    def release(self) -> str:
        """The version without its local part."""
        return self.version.partition("+")[0]

    @property
    def platforms(self) -> set[str]:
        """The platforms, as keys, that it has wheels for."""
        tags = [wheel.rpartition("-")[2] for wheel in self.wheels]
        return {platform for platform in PLATFORMS if any(_is_for(platform, tag) for tag in tags)}


def _is_for(platform: str, tag: str) -> bool:
    system, _, machine = platform.partition("_")
    return re.search(rf"^any|{_TAGS[system]}\w*_({machine}|universal2)", tag) is not None


def read_export(text: str, wanted: Callable[[str], bool]) -> tuple[Package, ...]:
    """The packages of a pylock.toml, as uv writes it, that are wanted; the tables of others are not parsed.

    Raises tomllib.TOMLDecodeError.
    """
    named = ((_NAME.match(piece), piece) for piece in text.split("\n[[packages]]\n"))
    wanted_pieces = (piece for name, piece in named if name and wanted(name[1]))
    return tuple(_package(tomllib.loads(piece.partition("\n[")[0])) for piece in wanted_pieces)


def _package(row: Mapping[str, Any]) -> Package:
    files = (str(wheel.get("name") or wheel.get("url") or wheel.get("path")) for wheel in row.get("wheels", ()))
    wheels = tuple(file.partition("#")[0].rpartition("/")[2] for file in files)
    return Package(row["name"], row.get("version", ""), row.get("index", ""), row.get("marker"), wheels, "sdist" in row)


def selections(project: Project) -> dict[str, tuple[str, ...]]:
    """No choice, then each extra and group that stands in a conflict set; each with all that conflicts with nothing.

    How a person selects it (`--extra cpu`; empty: no choice is made) -> the options of `uv export`. uv resolves the
    extras and groups of no conflict set together, so they are looked at together.
    """
    owners = project.with_members if project.together else (project,)
    every = dict.fromkeys(target for owner in owners for target in owner.targets)
    apart = {target for owner in owners for target in owner.conflict_members}
    edges = [edge for owner in owners for edge in owner.brings]
    bound = [target for target in every if target == GROUP or reached((target,), edges) & apart]
    defaults = {Target("group", name) for owner in owners for name in owner.default_groups}
    chosen = (None, *(target for target in bound if target in apart))
    return dict(_selection(one, [other for other in bound if other != one], defaults) for one in chosen)


def _selection(chosen: Target | None, left_out: list[Target], defaults: set[Target]) -> tuple[str, tuple[str, ...]]:
    label = [f"--no-group {target.name}" for target in left_out if target in defaults]
    if chosen and chosen not in defaults:
        label.insert(0, " ".join(chosen.words()))
    options = (word for target in left_out for word in target.words("--no-"))
    return " ".join(label), ("--all-extras", "--all-groups", *options)


class Installed(NamedTuple):
    """The PyTorch packages that one environment gets."""

    platform: Platform
    label: str  # The selection's
    packages: tuple[Package, ...]

    @property
    def torch(self) -> str:
        """The release of torch; empty where there is none."""
        return next((package.release for package in self.packages if package.name == "torch"), "")


def installed(
    lock: Lock, exports: Mapping[str, tuple[Package, ...]], platforms: Iterable[Platform]
) -> tuple[Installed, ...]:
    """What every platform, Python and selection gets, each different set of packages of a platform once."""
    found = {}
    for (label, export), platform, python in product(exports.items(), platforms, PYTHONS):
        environment = Environment(platform, python)
        if lock.supports(environment):
            packages = tuple(package for package in export if holds(package.marker, environment))
            found[platform.key, label, packages] = Installed(platform, label, packages)
    return tuple(found.values())


# Findings

Command = tuple[str, ...]
FIX: Final[Command] = ("uvtorch", "torch", "doctor", "--fix")
USE: Final[Command] = ("uvtorch", "torch", "use")
Edit = Callable[[PyProject], None]


class Finding(NamedTuple):
    """One thing that is wrong."""

    severity: Literal["error", "warning"]
    """`error`: an environment does not work, or not everywhere; `warning`: it works by luck, or leaves a GPU idle."""
    code: str  # Stable, for programs: `mixed-builds`
    message: str  # What is wrong and why it matters, in sentences
    fix: Command | None = None  # What a person types, where `doctor --fix` does not fix it
    edit: Edit | None = None  # The change of pyproject.toml with which `doctor --fix` does
    upgrade: tuple[str, ...] = ()  # What it locks anew, as values of `uv lock --upgrade-package`

    @property
    def fixable(self) -> bool:
        """Whether `doctor --fix` fixes it, in pyproject.toml and uv.lock alone."""
        return self.edit is not None or bool(self.upgrade)

    @property
    def command(self) -> Command | None:
        """The argv of what fixes it; None where a person has to decide."""
        return self.fix or (FIX if self.fixable else None)


error = partial(Finding, "error")
warning = partial(Finding, "warning")


class Case(NamedTuple):
    """All that was looked at."""

    machine: Machine
    catalog: Catalog
    project: Project = Project()
    """The project or script, at a workspace's root with its members; empty where there is none."""
    lock: Lock | None = None
    exports: Mapping[str, tuple[Package, ...]] = MappingProxyType({})
    """PyTorch's packages in what uv exports for each selection (`selections`); empty: that was not asked."""
    python: str | None = None
    outside: tuple[Index, ...] = ()
    """The PyTorch indexes that uv is given for every package, outside of pyproject.toml."""
    base: str = DEFAULT_INDEX_BASE  # Where PyTorch's indexes are
    root: str | None = None  # The directory of the workspace's root, as it is typed; None: there is no project
    kind: Literal["project", "script"] = "project"
    members: tuple[Project, ...] = ()  # The workspace's members, each as seen by itself, where the project is the root
    names: frozenset[str | None] = frozenset()  # Those of all the workspace's projects
    installed: Venv | None = None
    uv: str | None = None  # The path of uv
    options: tuple[str, ...] = ()  # Those that make uv work on the same project or script
    requirements: tuple[str, ...] = ()  # Those of PyTorch packages, without the lower bounds that `torch use` lowers
    choices: tuple[tuple[Choice, Option], ...] = ()
    """The extras and groups that choose a backend, each with what it is worth here."""

    @property
    def here(self) -> Environment:
        """The platform and Python at hand."""
        return Environment(self.machine.platform, self.python)

    @property
    def pins(self) -> tuple[Source, ...]:
        """The sources of the project and its members that name an index here, whatever is selected."""
        pins = (pin for project in self.project.with_members for pin in project.pins(self.here))
        return tuple(pin for pin in pins if pin.kind == "index")

    @property
    def request(self) -> Request:
        """What is required."""
        return Request(self.requirements, python=self.python, requires_python=self.project.requires_python)

    @property
    def best(self) -> Decision:
        """What the machine decides for that."""
        return choose(self.machine, self.request, self.catalog)

    @property
    def use(self) -> Command | None:
        """The command that takes the best build; None where it would refuse: none fits, or a file says which comes."""
        files = any(one.kind != "index" and self.project.is_pinned(one.package) for one in self.project.every_source)
        return None if self.best.refusal or files else (*USE, "auto")

    def is_own(self, url: str) -> bool:
        """Whether it is PyTorch's server, or what stands in its place."""
        return is_below(url, DEFAULT_INDEX_BASE, self.base, self.project.config.index_base)

    def serves_pytorch(self, index: Index) -> bool:
        """Whether it has PyTorch's own builds, and the old copies of generic packages beside them.

        PyTorch's server has, and a mirror: an index of a backend that PyTorch's packages are taken from. What any other
        host has is not known: `…/whl/cu128` may hold one project's kernels
        (https://docs.flashinfer.ai/installation.html).
        """
        sources = (one for one in self.project.every_source if one.kind == "index" and one.index == index.name)
        taken = {source.package for source in sources}
        alike = index.ends_in_backend and "torch" in f"{index.name} {index.url}"
        mirror = any(map(self.project.is_pinned, taken)) if taken else alike
        return self.is_own(index.url) or (mirror and catalogued(index.url) is not None)

    def fix_in_root(self, index: Index) -> Command | None:
        """What makes an index explicit that stands in the pyproject.toml of the workspace's root, where it can."""
        if not index.inherited or index.explicit or index.legacy or index.default:
            return None
        return ("uvtorch", "--project", self.root or ".", *FIX[1:])

    def locked_torch(self) -> tuple[Package, ...]:
        """The builds of torch that the lock has for this platform and Python, under any selection."""
        rows = {row: None for export in self.exports.values() for row in export}
        return tuple(row for row in rows if row.name == "torch" and holds(row.marker, self.here))

    def release(self) -> str | None:
        """The release of torch that this platform has in the lock, if it is one."""
        releases = {row.release for row in self.locked_torch()}
        return releases.pop() if len(releases) == 1 else None

    @property
    def sync(self) -> Command:
        """The command that makes the environment what the lock says."""
        if self.kind == "script" and self.installed:  # uv keeps what satisfies the version, whatever its index
            anew = (("--reinstall-package", build.name) for build in self.installed.builds)
            return ("uv", "sync", *(word for words in anew for word in words))
        return ("uvtorch", "sync", "--auto") if self.project.selectable() else ("uv", "sync")

"""What the checks go by, as values; and indexes, sources and platforms as they see them. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, product
from types import MappingProxyType
from typing import Final, NamedTuple

from uvtorch.audit.exports import Export, Package, Selection
from uvtorch.backend import DEFAULT_INDEX_BASE, PLATFORMS, same_url
from uvtorch.catalog import Catalog
from uvtorch.choose import Option
from uvtorch.choose.compatibility import platform_name
from uvtorch.environment import Venv
from uvtorch.machine import Machine
from uvtorch.markers import EVERYWHERE, PYTHONS, holds
from uvtorch.project import Choice, Environment, Index, Project, Source
from uvtorch.project.lock import Lock
from uvtorch.project.pyproject import SourceEntry
from uvtorch.project.workspace import Workspace

_VENDORS: Final = re.compile(r"/jp\d|jetson|nvidia|/gfx|rocm-rel|/xpu/us")
"""Parts of the URLs of vendors' own builds (Jetson's, AMD's, Intel's), whose last part may be a backend's name."""


class Hosts(NamedTuple):
    """Which URLs serve PyTorch's own builds, and the old copies of generic packages beside them.

    PyTorch's server and the one configured in its place; and a mirror: an index that ends in a backend's name and that
    the project takes PyTorch's packages from. What any other host has there is not known: `…/whl/cu128` may hold one
    project's kernels (https://docs.flashinfer.ai/installation.html), `…/jp6/cu126` the builds for Jetson.
    """

    roots: tuple[str, ...]
    mirrors: tuple[str, ...]

    def own(self, url: str) -> bool:
        """Whether it is PyTorch's server, or what the configuration names in its place."""
        return f"{url}/".startswith(tuple(f"{root}/" for root in self.roots))

    def known(self, url: str | None) -> bool:
        """Whether it serves PyTorch's own builds."""
        return url is not None and (self.own(url) or same_url(url, *self.mirrors))


class Case(NamedTuple):
    """All that was looked at."""

    machine: Machine
    catalog: Catalog
    project: Project = Project()
    """The project or script, at a workspace's root with its members; empty where there is none."""
    lock: Lock | None = None
    exports: Mapping[Selection, Export | None] = MappingProxyType({})
    """What uv exports for each selection that can be told apart; empty where that was not asked."""
    python: str | None = None
    outside: tuple[Index, ...] = ()
    """The PyTorch indexes that uv is given for every package, outside of pyproject.toml."""
    base: str = DEFAULT_INDEX_BASE  # Where PyTorch's indexes are
    site: Workspace | None = None
    members: tuple[Project, ...] = ()  # The workspace's members, each as seen by itself, where the project is the root
    installed: Venv | None = None
    uv: str | None = None  # The path of uv
    options: tuple[str, ...] = ()  # Those that make uv work on the same project or script
    requirements: tuple[str, ...] = ()  # The project's own requirements of PyTorch packages
    rank: Callable[[Machine, Sequence[Choice]], Sequence[Option]] = lambda _machine, _choices: ()
    """What backend choices are worth on a machine."""

    @property
    def script(self) -> bool:
        """Whether it is a script."""
        return self.site is not None and self.site.manifest.script

    @property
    def broken(self) -> bool:
        """Whether a GPU's driver does not answer: that is said once, and says nothing about the builds."""
        return any(problem.kind == "broken" for problem in self.machine.problems)

    @property
    def here(self) -> Environment:
        """The platform and Python at hand."""
        return Environment(self.machine.platform, (self.python or "").rstrip("t") or None)

    @property
    def hosts(self) -> Hosts:
        """Which URLs serve PyTorch's own builds."""
        roots = (DEFAULT_INDEX_BASE, self.base, self.project.config.index_base)
        mirrors = tuple(index.url for index in self.project.indexes if _is_mirror(self.project, index))
        return Hosts(tuple(root.rstrip("/") for root in roots if root), mirrors)

    @property
    def pins(self) -> tuple[Source, ...]:
        """The sources of the project and its members that name an index here, whatever is selected."""
        pins = chain(*(project.pins(self.here) for project in together(self.project)))
        return tuple(pin for pin in pins if pin.kind == "index")

    def locked_torch(self) -> tuple[Package, ...]:
        """The builds of torch that the lock has for this platform and Python, under any selection."""
        rows = chain(*(export.packages for export in self.exports.values() if export))
        return tuple(dict.fromkeys(row for row in rows if row.name == "torch" and holds(row.marker, self.here)))

    def release(self) -> str | None:
        """The release of torch that this platform has in the lock, if it is one."""
        releases = {row.release for row in self.locked_torch()}
        return releases.pop() if len(releases) == 1 else None

    def choices(self) -> tuple[tuple[Choice, Option], ...]:
        """The extras and groups that choose a backend, each with what it is worth here."""
        choices = tuple(one for one in self.project.choices_for(self.machine.platform) if one.kind != "base")
        return tuple(zip(choices, self.rank(self.machine, choices), strict=True)) if choices else ()

    @property
    def sync(self) -> tuple[str, ...]:
        """The command that makes the environment what the lock says."""
        if self.script and self.installed:  # uv keeps what satisfies the version, whatever its index
            anew = (("--reinstall-package", build.name) for build in self.installed.builds)
            return ("uv", "sync", *(word for words in anew for word in words))
        return ("uvtorch", "sync", "--auto") if self.project.selectable() else ("uv", "sync")


def _is_mirror(project: Project, index: Index) -> bool:
    if index.backend is None or _VENDORS.search(index.url):
        return False
    packages = {
        source.package for source in all_sources(project) if source.kind == "index" and source.index == index.name
    }
    alike = ends_in_backend(index) and "torch" in f"{index.name} {index.url}"
    return any(map(project.is_pinned, packages)) if packages else alike


def ends_in_backend(index: Index) -> bool:
    """Whether an index is laid out as PyTorch's are: its URL ends in the backend and nothing else."""
    url = index.url.rstrip("/").removesuffix("/+simple").removesuffix("/simple")
    return index.backend is not None and url.endswith(f"/{index.backend.name}")


def entry(source: Source, index: str | None = None) -> SourceEntry:
    """A source that names an index, as an edit writes it."""
    return SourceEntry(index or source.index or "", source.marker, source.extra, source.group)


def entries(project: Project, package: str) -> tuple[Source, ...]:
    """The package's sources in the project's own file."""
    return tuple(source for source in project.sources if source.package == package and not source.inherited)


def rewritable(sources: Sequence[Source]) -> bool:
    """Whether edits can write these sources: they all name an index."""
    return all(source.kind == "index" for source in sources)


def together(project: Project) -> tuple[Project, ...]:
    """The project and the members read with it."""
    return (project, *project.members)


def all_sources(project: Project) -> Iterator[Source]:
    """The sources of the project and of the members read with it."""
    return chain(*(one.sources for one in together(project)))


def required(project: Project) -> set[str]:
    """What the project and the members read with it require themselves: what a source reaches."""
    return {item.package for one in together(project) for item in one.requirements}


def platforms_text(platforms: set[str]) -> str:
    """Platform keys as a person reads them: `Linux x86_64 and macOS on Apple silicon`."""
    names = [platform_name(key) for key in sorted(platforms, key=[*PLATFORMS, *platforms].index)]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


@cache
def places(marker: str | None) -> frozenset[tuple[str, str]]:
    """The platforms and Pythons on which a marker holds."""
    every = product(EVERYWHERE, PYTHONS)
    return frozenset((place.key, python) for place, python in every if holds(marker, Environment(place, python)))

"""What uv exports of a lock: the PyTorch builds that an environment gets. Pure.

uv locks several builds of a package side by side; which of them an environment gets follows from its platform, its
Python and the extras and groups that are selected. `uv export --format pylock.toml` answers that for one selection, in
20 ms: version, marker, index and wheels of each package (https://docs.astral.sh/uv/concepts/projects/export/).
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, Final, NamedTuple

from uvtorch.errors import UsageError
from uvtorch.machine import Platform
from uvtorch.markers import PYTHONS, holds
from uvtorch.project import Environment, Project, Target
from uvtorch.project.choices import reached
from uvtorch.project.lock import Lock
from uvtorch.project.model import GROUP
from uvtorch.requirement import specifiers

_NAME: Final = re.compile(r'name = "([^"\\]+)"')
_TAGS: Final = {
    "linux_x86_64": re.compile(r"any|.*linux.*_x86_64"),
    "linux_aarch64": re.compile(r"any|.*linux.*_aarch64"),
    "windows_amd64": re.compile(r"any|win_amd64"),
    "windows_arm64": re.compile(r"any|win_arm64"),
    "macos_arm64": re.compile(r"any|macosx.*(arm64|universal2)"),
    "macos_x86_64": re.compile(r"any|macosx.*(x86_64|universal2)"),
}
"""The wheels' platform tags that a platform installs."""


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

    def installs_on(self, platform: str) -> bool:
        """Whether a platform, by its key, has something to install."""
        return self.sdist or not self.wheels or platform in self.platforms

    @property
    def platforms(self) -> set[str]:
        """The platforms, as keys, that it has wheels for."""
        tags = {part for wheel in self.wheels for part in wheel.removesuffix(".whl").rpartition("-")[2].split(".")}
        return {platform for platform, pattern in _TAGS.items() if any(map(pattern.fullmatch, tags))}


class Export(NamedTuple):
    """PyTorch's packages in an export."""

    requires_python: str
    packages: tuple[Package, ...]


class Selection(NamedTuple):
    """Extras and groups that are selected together."""

    label: str  # How a person selects them, `--extra cpu`; empty: no choice is made
    options: tuple[str, ...]  # The same for `uv export`, with all that conflicts with nothing


def read_export(text: str, wanted: Callable[[str], bool]) -> Export:
    """Read a pylock.toml as uv writes it. Only the tables of the packages that are wanted are parsed.

    Raises tomllib.TOMLDecodeError.
    """
    head, *pieces = text.split("\n[[packages]]\n")
    named = ((_NAME.match(piece), piece) for piece in pieces)
    found = [_package(tomllib.loads(piece.partition("\n[")[0])) for name, piece in named if name and wanted(name[1])]
    return Export(tomllib.loads(head).get("requires-python", ""), tuple(found))


def _package(row: Mapping[str, Any]) -> Package:
    files = (str(wheel.get("name") or wheel.get("url") or wheel.get("path")) for wheel in row.get("wheels", ()))
    wheels = tuple(file.partition("#")[0].rpartition("/")[2] for file in files)
    return Package(row["name"], row.get("version", ""), row.get("index", ""), row.get("marker"), wheels, "sdist" in row)


def selections(project: Project) -> tuple[Selection, ...]:
    """No choice, then each extra and group that stands in a conflict set; each with all that conflicts with nothing.

    uv resolves the extras and groups of no conflict set together, so they are looked at together.
    """
    owners = project.with_members if project.together else (project,)
    every = dict.fromkeys(target for owner in owners for target in owner.targets if target != GROUP)
    names = {project.root_name, None, *(owner.name for owner in owners)}
    items = (item for owner in owners for items in owner.conflicts for item in items if item.package in names)
    apart = {item.target for item in items if item.target}
    edges = [edge for owner in owners for edge in owner.brings]
    bound = [target for target in every if reached((target,), edges) & apart]
    return tuple(_selection(owners, bound, chosen) for chosen in (None, *filter(apart.__contains__, every)))


def _selection(owners: tuple[Project, ...], bound: list[Target], chosen: Target | None) -> Selection:
    """What is bound to conflict sets is left out, but for what is chosen."""
    others = [target for target in bound if target != chosen]
    defaults = {Target("group", name) for owner in owners for name in owner.default_groups}
    label = [f"--no-group {target.name}" for target in others if target in defaults]
    if chosen and chosen not in defaults:
        label.insert(0, f"--{chosen.kind} {chosen.name}")
    anchors = [GROUP] if any(GROUP in owner.targets for owner in owners) else []
    options = [word for target in (*others, *anchors) for word in (f"--no-{target.kind}", target.name or "")]
    return Selection(" ".join(label), ("--all-extras", "--all-groups", *options))


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
    lock: Lock, exports: Mapping[Selection, Export | None], platforms: Iterable[Platform]
) -> tuple[Installed, ...]:
    """What every platform, Python and selection gets, each different set of packages of a platform once."""
    platforms = tuple(platforms)
    found = {}
    for selection, export in exports.items():
        for platform, python in product(platforms, _pythons(export.requires_python)) if export else ():
            environment = Environment(platform, python)
            if export and lock.supports(environment):
                packages = tuple(package for package in export.packages if holds(package.marker, environment))
                found[platform.key, selection.label, packages] = Installed(platform, selection.label, packages)
    return tuple(found.values())


def _pythons(requires_python: str) -> tuple[str, ...]:
    try:
        allowed = specifiers(requires_python)
    except UsageError:
        return PYTHONS
    return tuple(python for python in PYTHONS if any(allowed.contains(f"{python}.{micro}") for micro in (0, 99)))

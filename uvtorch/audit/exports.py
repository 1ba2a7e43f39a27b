"""What uv exports of a lock: the PyTorch builds that an environment gets. Pure.

uv locks several builds of a package side by side. `uv export --format pylock.toml` says in 20 ms what one selection of
extras and groups gets: each package's version, marker, index and wheels
(https://docs.astral.sh/uv/concepts/projects/export/).
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, Final, NamedTuple

from uvtorch.backend import PLATFORMS
from uvtorch.machine import Platform
from uvtorch.project import Environment, Project, Target
from uvtorch.project.choices import reached
from uvtorch.project.lock import Lock
from uvtorch.project.model import GROUP
from uvtorch.requirement import PYTHONS, holds

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

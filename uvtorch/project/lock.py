"""uv.lock, as far as PyTorch is concerned. Pure.

`tomllib` takes a second over a lock of 2,000 packages. So one that looks as uv writes it is cut at each `[[package]]`,
of which the head is read, and the tables when they are asked for; any other is parsed as a whole.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from uvtorch.backend import Backend, same_url
from uvtorch.errors import ProjectError
from uvtorch.packages import has_build, normalize
from uvtorch.project.choices import Project
from uvtorch.project.indexes import pytorch_backend, vendor
from uvtorch.project.model import BASE, Source
from uvtorch.requirement import Environment, holds

_CUT: Final = "\n[[package]]\n"
_HEAD: Final = re.compile(
    r'name = "([^"\\]+)"\n(?:version = "([^"\\]+)"\n)?source = \{ ([a-z]+) = "([^"\\]*)"[^\n]*\}\n?'
)
"""Name, version, kind, location."""


class Package(NamedTuple):
    """One locked package; a name is there as often as the lock has builds of it."""

    name: str
    """Normalized."""
    version: str | None
    """None where a build backend tells it."""
    kind: str
    """`registry`, `git`, `url`, `path`, `directory`, `editable` or `virtual`."""
    location: str
    """A registry's URL, or the place of the rest and of flat indexes."""
    piece: str | dict[str, Any]
    """All that the lock says about it, as TOML or parsed."""

    @property
    def backend(self) -> Backend | None:
        """The backend that its URL names; None for builds that are not PyTorch's."""
        return pytorch_backend(self.location, self.name) if self.kind in ("registry", "url", "path") else None

    @property
    def dependencies(self) -> tuple[str, ...]:
        """What it and its extras (not its groups) depend on, on any platform."""
        tables = self.tables()
        lists = (tables.get("dependencies", ()), *tables.get("optional-dependencies", {}).values())
        return tuple(dict.fromkeys(row["name"] for rows in lists for row in rows))

    def tables(self) -> dict[str, Any]:
        """The same, parsed."""
        return _tables(self.piece) if isinstance(self.piece, str) else self.piece

    def mentions(self, name: str) -> bool:
        """Whether it may depend on a package: that is told without parsing."""
        return not isinstance(self.piece, str) or f'name = "{name}"' in self.piece

    def applies(self, environment: Environment) -> bool:
        """Whether it is meant for a platform under some selection."""
        markers = self.tables().get("resolution-markers", ())
        return not markers or any("extra" in marker or holds(marker, environment) for marker in markers)


@cache
def _tables(text: str) -> dict[str, Any]:
    (tables,) = tomllib.loads(f"[[package]]\n{text}")["package"]
    return dict(tables)


class Lock(NamedTuple):
    """What a uv.lock holds."""

    packages: tuple[Package, ...] = ()
    supported: tuple[str, ...] = ()
    """Markers of the environments that it is made for; empty: all."""

    def supports(self, environment: Environment) -> bool:
        """Whether it is made for an environment (`[tool.uv] environments`)."""
        return not self.supported or any(holds(marker, environment) for marker in self.supported)

    def named(self, name: str) -> tuple[Package, ...]:
        """The builds of a package, by its normalized name."""
        return tuple(package for package in self.packages if package.name == name)

    def dependents(self, name: str) -> tuple[str, ...]:
        """What depends on a package directly, on any platform."""
        rows = (package for package in self.packages if package.mentions(name))
        return tuple(dict.fromkeys(package.name for package in rows if name in package.dependencies))


@lru_cache(maxsize=2)  # as it is, and as it was
def read_lock(text: str, origin: str = "uv.lock") -> Lock:
    """Read the text of a uv.lock; `origin` names it in messages. Raises ProjectError if it is not one."""
    text = text.replace("\r\n", "\n")
    head, *pieces = text.split(_CUT)
    matches = [match for piece in pieces if (match := _HEAD.match(piece))]
    cut = head.startswith("version = ") and 0 < text.count("\n[[") == len(pieces) == len(matches)
    try:
        data = tomllib.loads(head if cut else text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"{origin} is not TOML: {error}") from None
    read = (Package(match[1], match[2], match[3], match[4], match.string) for match in matches)
    return Lock(
        tuple(read if cut else _parsed(data.get("package", []), origin)), tuple(data.get("supported-markers", ()))
    )


def _parsed(rows: Any, origin: str) -> Iterator[Package]:
    for row in rows if isinstance(rows, list) else [rows]:
        source = row.get("source") if isinstance(row, dict) else None
        if not isinstance(source, dict) or not source or not isinstance(row.get("name"), str):
            raise _unreadable(f"{origin}: a package has no name or no source")
        kind, location = next(iter(source.items()))
        yield Package(normalize(row["name"]), row.get("version"), kind, str(location), row)


def _unreadable(text: str) -> ProjectError:
    return ProjectError(text, "recreate it with `uv lock`")


def _chosen(project: Project, environment: Environment) -> list[Source]:
    there = [source for one in project.with_members for source in one.sources_on(environment) if source.url]
    return [one for one in there if one.backend or vendor(one.url or "")]


def stray(lock: Lock, project: Project, environment: Environment) -> tuple[Package, ...]:
    """The pinned packages that a platform gets from elsewhere than the indexes chosen for it; none where none is.

    Where several builds are offered, whose base may well be PyPI's: those of which no choice has a build.
    """
    sources = _chosen(project, environment)
    several = any(source.target != BASE for source in sources)
    found: list[Package] = []
    for name in filter(project.is_pinned, dict.fromkeys(package.name for package in lock.packages)):
        builds = [package for package in lock.named(name) if package.applies(environment)]
        elsewhere = [one for one in builds if not same_url(one.location, *(row.url for row in sources))]
        served = any(has_build(name, source.backend) for source in sources)
        if served and (not several or elsewhere == builds):
            found += elsewhere
    return tuple(found)

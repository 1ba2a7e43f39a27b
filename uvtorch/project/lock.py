"""uv.lock, as far as PyTorch is concerned: packages and where they came from. Pure: from its text to values.

A lock of 2,000 packages holds megabytes of hashes, and `tomllib` takes a second and more over them. uv writes the file
itself, one `[[package]]` after another, so the file is cut there and of each package only the head is read; its full
tables are parsed when they are asked for. A file that does not look that way is parsed as a whole.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from uvtorch.backend import Backend, same_url
from uvtorch.errors import ProjectError
from uvtorch.markers import Environment, holds
from uvtorch.packages import has_build, normalize
from uvtorch.project.choices import Project
from uvtorch.project.indexes import pytorch_backend, vendor
from uvtorch.project.model import BASE, Source

_CUT: Final = "\n[[package]]\n"
_HEAD: Final = re.compile(
    r'name = "([^"\\]+)"\n(?:version = "([^"\\]+)"\n)?source = \{ ([a-z]+) = "([^"\\]*)"[^\n]*\}\n?'
)
"""Name, version, kind and location."""


class Package(NamedTuple):
    """One locked package; a name is there as often as the lock has builds of it."""

    name: str
    """Normalized."""
    version: str | None
    """None for a project whose build backend tells its version."""
    kind: str
    """`registry`, `git`, `url`, `path`, `directory`, `editable` or `virtual`."""
    location: str
    """The registry's URL (a folder's path for a flat index), or the place of the rest."""
    piece: str | dict[str, Any]
    """All that the lock says about it: TOML, or tables where the lock had to be parsed as a whole."""

    @property
    def backend(self) -> Backend | None:
        """The PyTorch backend that the index's or the wheel's URL names; None for builds that are not PyTorch's."""
        return pytorch_backend(self.location, self.name) if self.kind in ("registry", "url", "path") else None

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The names it depends on, whatever the platform, with those of its extras, without those of its groups."""
        tables = self.tables()
        lists = (tables.get("dependencies", ()), *tables.get("optional-dependencies", {}).values())
        return tuple(dict.fromkeys(row["name"] for rows in lists for row in rows))

    def tables(self) -> dict[str, Any]:
        """All that the lock says about it, parsed."""
        return _tables(self.piece) if isinstance(self.piece, str) else self.piece

    def mentions(self, name: str) -> bool:
        """Whether it may depend on a package in some way, told without parsing its tables."""
        return not isinstance(self.piece, str) or f'name = "{name}"' in self.piece

    def applies(self, environment: Environment) -> bool:
        """Whether it is meant for a platform, under some choice of extras and groups."""
        markers = self.tables().get("resolution-markers", ())
        return not markers or any("extra" in marker or holds(marker, environment) for marker in markers)


@cache
def _tables(text: str) -> dict[str, Any]:
    (tables,) = tomllib.loads(f"[[package]]\n{text}")["package"]
    return dict(tables)


class Lock(NamedTuple):
    """The packages of a uv.lock in its order."""

    packages: tuple[Package, ...] = ()
    supported: tuple[str, ...] = ()
    """The markers of the environments that the lock is made for; empty: all."""

    def supports(self, environment: Environment) -> bool:
        """Whether the lock is made for an environment (`[tool.uv] environments`)."""
        return not self.supported or any(holds(marker, environment) for marker in self.supported)

    def named(self, name: str) -> tuple[Package, ...]:
        """All builds of a package, by its normalized name."""
        return tuple(package for package in self.packages if package.name == name)

    def dependents(self, name: str) -> tuple[str, ...]:
        """The names of the packages that depend on `name` directly, whatever the platform."""
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
    rows = data.get("package", [])
    if not isinstance(rows, list):
        raise _unreadable(f"{origin}: `package` must be an array of tables")
    read = (Package(match[1], match[2], match[3], match[4], match.string) for match in matches)
    return Lock(tuple(read if cut else _parsed(rows, origin)), tuple(data.get("supported-markers", ())))


def _parsed(rows: list[Any], origin: str) -> Iterator[Package]:
    for row in rows:
        source = row.get("source") if isinstance(row, dict) else None
        if not isinstance(source, dict) or not source or not isinstance(row.get("name"), str):
            raise _unreadable(f"{origin}: a package has no name or no source")
        kind, location = next(iter(source.items()))
        yield Package(normalize(row["name"]), row.get("version"), kind, str(location), row)


def _unreadable(text: str) -> ProjectError:
    return ProjectError(text, "recreate it with `uv lock`")


def _chosen(project: Project, environment: Environment) -> list[Source]:
    """The sources on a platform that take builds from PyTorch's indexes or a vendor's, those of members included."""
    there = (source for one in project.with_members for source in one.sources_on(environment))
    return [one for one in there if one.url and (one.backend or vendor(one.url))]


def stray(lock: Lock, project: Project, environment: Environment) -> tuple[Package, ...]:
    """The pinned packages that a platform gets from anywhere but the indexes the project chose for them.

    With one pin, that is any build from elsewhere; in a project of several choices, whose base may well be PyPI's,
    a package of which no choice has a build. Empty where the project chooses nothing on that platform.
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

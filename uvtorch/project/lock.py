"""uv.lock, as far as PyTorch is concerned: packages and where they came from.

A lock of 2,000 packages holds megabytes of hashes, and `tomllib` takes a second and more over them. uv writes the file
itself, one `[[package]]` after another, so the file is cut there and of each package only the head is read; its full
tables are parsed when they are asked for. A file that does not look that way is parsed as a whole.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from uvtorch.backend import Backend, from_url, same_url
from uvtorch.errors import ProjectError
from uvtorch.packages import normalize, roles
from uvtorch.project.facts import Project
from uvtorch.project.markers import Environment, holds

_CUT: Final = "\n[[package]]\n"
_HEAD: Final = re.compile(
    r'name = "(?P<name>[^"\\]+)"\n'
    r'(?:version = "(?P<version>[^"\\]+)"\n)?'
    r'source = \{ (?P<kind>[a-z]+) = "(?P<location>[^"\\]*)"[^\n]*\}\n?'
)
_DEPENDENCIES: Final = re.compile(r"^dependencies = \[(.*?)\]$", re.MULTILINE | re.DOTALL)
_NAME: Final = re.compile(r'\{ name = "([^"\\]+)"')
_MARKERS: Final = re.compile(r"^resolution-markers = \[(.*?)\]$", re.MULTILINE | re.DOTALL)
_STRING: Final = re.compile(r'"([^"\\]*)"')
_SUPPORTED: Final = re.compile(r"^supported-markers = \[(.*?)\]$", re.MULTILINE | re.DOTALL)
_REQUIRES_PYTHON: Final = re.compile(r'^requires-python = "([^"\\]+)"', re.MULTILINE)


class Package(NamedTuple):
    """One locked package; a name is there as often as the lock has builds of it."""

    name: str
    """Normalized."""
    version: str | None
    """None for a project whose build backend tells its version."""
    kind: str
    """`registry`, `git`, `url`, `path`, `directory`, `editable` or `virtual`."""
    location: str
    """The registry's URL, or the place of the rest."""
    text: str
    """The package's own piece of the lock, in TOML."""
    parsed: dict[str, Any] | None = None
    """The same as tables, where the lock had to be parsed as a whole."""

    @property
    def registry(self) -> str | None:
        """The URL of the index it comes from; None for what comes from elsewhere."""
        return self.location if self.kind == "registry" else None

    @property
    def backend(self) -> Backend | None:
        """The backend that the index's or the wheel's URL names."""
        return from_url(self.location) if self.kind in ("registry", "url", "path") else None

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The names it depends on, whatever the platform, without those of its extras and groups."""
        if self.parsed is not None:
            names = [row["name"] for row in self.parsed.get("dependencies", ())]
        else:
            found = _DEPENDENCIES.search(self.text)
            names = _NAME.findall(found[1]) if found else []
        return tuple(dict.fromkeys(names))

    @property
    def resolution_markers(self) -> tuple[str, ...]:
        """The markers of the environments that it is meant for; empty: all of the lock's."""
        if self.parsed is not None:
            return tuple(self.parsed.get("resolution-markers", ()))
        found = _MARKERS.search(self.text)
        return tuple(_STRING.findall(found[1])) if found else ()

    def tables(self) -> dict[str, Any]:
        """All that the lock says about it, parsed."""
        if self.parsed is not None:
            return self.parsed
        import tomllib

        (tables,) = tomllib.loads(f"[[package]]\n{self.text}")["package"]
        return dict(tables)

    def applies(self, environment: Environment) -> bool:
        """Whether it is meant for a platform, under some choice of extras and groups."""
        markers = self.resolution_markers
        return not markers or any("extra" in marker or holds(marker, environment) for marker in markers)


class Lock(NamedTuple):
    """The packages of a uv.lock in its order."""

    packages: tuple[Package, ...] = ()
    requires_python: str | None = None
    supported: tuple[str, ...] = ()
    """The markers of the environments that the lock is made for; empty: all."""

    def named(self, name: str) -> tuple[Package, ...]:
        """All builds of a package, by its normalized name."""
        return tuple(package for package in self.packages if package.name == name)

    def pytorch(self) -> tuple[Package, ...]:
        """The packages that PyTorch's own indexes serve by right."""
        known = roles()
        return tuple(package for package in self.packages if package.name in known)

    def dependents(self, name: str) -> tuple[str, ...]:
        """The names of the packages that depend on `name` directly, whatever the platform."""
        rows = (package for package in self.packages if name in package.text or package.parsed is not None)
        return tuple(dict.fromkeys(package.name for package in rows if name in package.dependencies))


def read_lock(text: str, origin: str = "uv.lock", only: str | None = None) -> Lock:
    """Read the text of a uv.lock; `origin` names it in messages. Raises ProjectError if it is not one.

    `only` is the one package that the caller wants to see, by its normalized name: the others may be left out.
    """
    head, *pieces = text.replace("\r\n", "\n").split(_CUT)
    if only is not None and pieces:
        start = f'name = "{only}"\n'
        pieces = [piece for piece in pieces if piece.startswith(start)]
        if not pieces and head.startswith("version = "):
            return Lock()
    if not pieces or not head.startswith("version = "):
        return _by_tomllib(text, origin)
    found = []
    for piece in pieces:
        match = _HEAD.match(piece)
        if match is None or "\n[[" in piece:
            return _by_tomllib(text, origin)
        found.append(Package(match["name"], match["version"], match["kind"], match["location"], piece))
    python = _REQUIRES_PYTHON.search(head)
    supported = _SUPPORTED.search(head)
    return Lock(tuple(found), python[1] if python else None, tuple(_STRING.findall(supported[1])) if supported else ())


def stray(lock: Lock, project: Project, environment: Environment) -> tuple[Package, ...]:
    """The pinned packages that a platform gets from anywhere but the indexes the project chose for them.

    With one pin, that is any build from elsewhere; in a project of several choices, whose base may well be PyPI's,
    a package of which no choice has a build. Empty where the project chooses nothing on that platform.
    """
    sources = [
        source
        for source in project.sources
        if project.is_pytorch(source.package) and source.backend and source.url and holds(source.marker, environment)
    ]
    if not sources:
        return ()
    several = any(source.extra is not None or source.group is not None for source in sources)
    builds: dict[str, list[Package]] = {}
    for package in lock.packages:
        if project.is_pinned(package.name) and package.applies(environment):
            builds.setdefault(package.name, []).append(package)

    def chosen(package: Package) -> bool:
        return any(same_url(package.location, source.url or "") for source in sources)

    found: list[Package] = []
    for packages in builds.values():
        elsewhere = [package for package in packages if not chosen(package)]
        if not several or len(elsewhere) == len(packages):
            found += elsewhere
    return tuple(found)


def _by_tomllib(text: str, origin: str) -> Lock:
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{origin} is not TOML: {error}", "make it anew with: uv lock") from None
    packages = data.get("package", [])
    if not isinstance(packages, list):
        raise ProjectError(f"{origin}: `package` must be an array of tables", "make it anew with: uv lock")
    return Lock(
        tuple(_packages(packages, origin)), data.get("requires-python"), tuple(data.get("supported-markers", ()))
    )


def _packages(rows: list[Any], origin: str) -> Iterator[Package]:
    for row in rows:
        source = row.get("source") if isinstance(row, dict) else None
        if not isinstance(source, dict) or not source or not isinstance(row.get("name"), str):
            raise ProjectError(f"{origin}: a package has no name or no source", "make it anew with: uv lock")
        kind, location = next(iter(source.items()))
        yield Package(normalize(row["name"]), row.get("version"), kind, str(location), "", row)

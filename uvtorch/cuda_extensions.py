"""Packages compiled against torch (flash-attn, torch-scatter, …): which indexes have wheels of them. Pure.

The table is `catalog/extensions.toml`. Which builds an index has today, only the index knows.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from uvtorch import files
from uvtorch.backend import Backend, parse
from uvtorch.errors import UsageError
from uvtorch.project.hosts import check_index_url


class Index(NamedTuple):
    """An index of extensions."""

    name: str
    url: str | None  # With `{backend}` and `{torch}` (a minor release); None: the backend's own PyTorch index
    backends: frozenset[Backend]
    platforms: frozenset[str]
    flat: bool  # A page of links
    declares: bool  # Its wheels require the torch they were built for
    builds: Mapping[tuple[str, Backend], str]
    """(minor torch release, backend) -> the exact version to name there; empty: the index tells them apart."""

    def located(self, backend: Backend, torch: str, base: str) -> str:
        """Its URL for a backend and a minor torch release; `base` is where PyTorch's indexes are."""
        if self.url is None:
            return backend.index_url(base)
        return _filled(self.url, backend=backend.name, torch=torch)

    def written_name(self, backend: Backend, torch: str) -> str:
        """What it is called in a project: `astral-cu130`, `pyg-2.12-cu130`."""
        if self.url is None:
            return backend.index_name
        varying = (("{torch}", torch), ("{backend}", backend.name))
        return "-".join((self.name, *(text for placeholder, text in varying if placeholder in self.url)))

    def wrote(self, name: str, url: str) -> bool:
        """Whether uvtorch writes an index of that name and URL for it."""
        url_begins = self.url is not None and url.startswith(self.url.partition("{")[0])
        return url_begins and name.partition("-")[0] == self.name


class Extension(NamedTuple):
    """A package that is compiled against torch."""

    package: str  # Normalized
    indexes: tuple[Index, ...]  # In order of preference
    build: Mapping[str, str]  # What a build needs for `cuda` and for `other` backends; empty: PyPI has wheels
    text: str = ""  # The requirement that the command line adds

    def offered(self, backend: Backend, platform: str) -> tuple[Index, ...]:
        """The indexes that may have wheels of it for a backend on a platform."""
        rows = () if backend.channel else self.indexes
        return tuple(index for index in rows if backend in index.backends and platform in index.platforms)

    def needs(self, backend: Backend | None) -> str:
        """What a build from source needs for a backend; None: not known."""
        if backend is None or backend.family != "cu":
            return self.build["other"]
        return _filled(self.build["cuda"], cuda=".".join(map(str, backend.version)))


def table(env: Mapping[str, str]) -> Mapping[str, Extension]:
    """The extensions by name: uvtorch's own table, or the file that `UVTORCH_EXTENSIONS` names.

    Raises UsageError where that cannot be read, or holds a URL that may not be written into a project.
    """
    path = env.get("UVTORCH_EXTENSIONS") or os.path.join(os.path.dirname(__file__), "catalog", "extensions.toml")
    try:
        data = tomllib.loads(files.read(path).decode())
        indexes = {name: _index(name, row) for name, row in data["index"].items()}
        builds = {name: {key: str(row[key]) for key in ("cuda", "other")} for name, row in data["build"].items()}
        return {
            name: Extension(name, tuple(indexes[index] for index in row["indexes"]), builds[row["build"]])
            for name, row in data["package"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"UVTORCH_EXTENSIONS={path} cannot be read: {reason}") from None


def _index(name: str, row: Mapping[str, Any]) -> Index:
    url = row.get("url")
    if url is not None:
        filled = check_index_url(_filled(url, backend="cu126", torch="2.9"), f"the URL of index {name}")
        if not {"{", "}"}.isdisjoint(filled):
            raise ValueError(f"a brace in the URL of index {name}")
    builds = {
        (torch, backend): _filled(version, backend=backend.name)
        for torch, names, version in row.get("builds", ())
        for backend in _backends(names)
    }
    backends, platforms = frozenset(_backends(row["backends"])), frozenset(row["platforms"].split())
    return Index(name, url, backends, platforms, bool(row.get("flat")), bool(row.get("declares")), builds)


def _filled(text: str, **values: str) -> str:
    """The text with its placeholders filled in. `str.format` would stop at a stray brace."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _backends(names: str) -> Iterator[Backend]:
    for name in names.split():
        backend = parse(name)
        if backend is None:
            raise ValueError(f"{name!r} is not a backend")
        yield backend

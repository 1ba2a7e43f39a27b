"""Packages compiled against torch (flash-attn, torch-scatter, …): which indexes have wheels of them. Pure.

The table is `catalog/extensions.toml`. Which builds an index has today, only the index knows.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from uvtorch import files
from uvtorch.backend import PLATFORMS, Backend, parse
from uvtorch.catalog import CERTAINTIES
from uvtorch.errors import UsageError
from uvtorch.packages import normalize
from uvtorch.project.hosts import check_index_url


class Index(NamedTuple):
    """An index of extensions. `{backend}` and `{torch}` (a minor release) in its URL are to be filled in."""

    name: str
    url: str | None
    """None: the backend's own PyTorch index."""
    backends: frozenset[Backend]
    platforms: frozenset[str]
    certainty: str
    source: str
    flat: bool = False
    """A page of links instead of an index."""
    declares: bool = False
    """Its wheels require the torch they were built for."""
    builds: Mapping[tuple[str, Backend], str] = {}
    """(minor torch release, backend) -> the exact version; empty: the index tells them apart."""

    def located(self, backend: Backend, torch: str, base: str) -> str:
        """Its URL for a backend and a minor torch release; `base` is where PyTorch's indexes are."""
        if self.url is None:
            return backend.index_url(base)
        return _filled(self.url, backend=backend.name, torch=torch)

    def written_name(self, backend: Backend, torch: str) -> str:
        """The name it gets in a project: `astral-cu130`, `pyg-2.12-cu130`."""
        if self.url is None:
            return backend.index_name
        parts = (self.name, *([torch] if "{torch}" in self.url else []))
        return "-".join((*parts, *([backend.name] if "{backend}" in self.url else [])))

    def version(self, backend: Backend, torch: str) -> str | None:
        """The exact version that has to be named there; None where the index has but one build to give."""
        return self.builds.get((torch, backend))

    def serves(self, backend: Backend, platform: str) -> bool:
        """Whether it may have wheels for a backend on a platform."""
        return not backend.channel and backend in self.backends and platform in self.platforms


class Build(NamedTuple):
    """What a build from source needs."""

    cuda: str
    """On a CUDA backend; `{cuda}` is to be filled in. Empty: nothing is built, for PyPI has wheels."""
    other: str
    certainty: str
    source: str

    def needs(self, backend: Backend | None) -> str:
        """The words for a backend; None: not known."""
        if backend is None or backend.family != "cu":
            return self.other
        return _filled(self.cuda, cuda=".".join(map(str, backend.version)))


class Extension(NamedTuple):
    """A package that is compiled against torch."""

    package: str
    indexes: tuple[Index, ...]
    """In order of preference."""
    build: Build

    def offered(self, backend: Backend, platform: str) -> tuple[Index, ...]:
        """The indexes that may have it."""
        return tuple(index for index in self.indexes if index.serves(backend, platform))


class Extensions(NamedTuple):
    """The table."""

    indexes: Mapping[str, Index]
    packages: Mapping[str, Extension]

    def wrote(self, name: str, url: str) -> bool:
        """Whether an index of a project is one that uvtorch writes for an extension: by its name and URL."""
        for index in self.indexes.values():
            if index.url is not None:
                head, tail = index.url.partition("{")[0], index.url.rpartition("}")[2]
                if name.partition("-")[0] == index.name and url.startswith(head) and url.endswith(tail):
                    return True
        return False


def table(env: Mapping[str, str]) -> Extensions:
    """The table of this version of uvtorch, or the file that `UVTORCH_EXTENSIONS` names.

    Raises UsageError where that file cannot be read or does not hold together.
    """
    path = env.get("UVTORCH_EXTENSIONS")
    if not path:
        return load()
    try:
        found = read(files.read(path).decode())
    except OSError as error:
        raise UsageError(f"UVTORCH_EXTENSIONS={path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"UVTORCH_EXTENSIONS={path} cannot be read: {error}") from None
    faults = validate(found)
    if faults:
        raise UsageError(f"UVTORCH_EXTENSIONS={path}: {faults[0]}")
    return found


@cache
def load() -> Extensions:
    """The table of this version of uvtorch."""
    path = os.path.join(os.path.dirname(__file__), "catalog", "extensions.toml")
    return read(files.read(path).decode())


def read(text: str) -> Extensions:
    """The table from its text. ValueError, KeyError, TypeError or AttributeError for a row that cannot be read."""
    data = tomllib.loads(text)
    indexes = {name: _index(name, _checked(name, row)) for name, row in data["index"].items()}
    builds = {name: Build(**_checked(name, row)) for name, row in data["build"].items()}
    packages = {
        name: Extension(name, tuple(indexes[index] for index in row["indexes"]), builds[row["build"]])
        for name, row in data["package"].items()
        if _checked(name, row)
    }
    return Extensions(indexes, packages)


_TYPES = {"flat": bool, "declares": bool, "builds": list, "indexes": list}
"""Key -> its type; that of all others is str."""


def _checked(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row; ValueError where a value is of another type than the key's, TypeError or AttributeError for no row."""
    for key, value in row.items():
        if type(value) is not _TYPES.get(key, str):
            raise ValueError(f"`{key}` of {name} is {value!r}")
    builds = row.get("builds", ())
    if not all(len(build) == 3 and all(isinstance(text, str) for text in build) for build in builds):
        raise ValueError(f"`builds` of {name} are not all [torch, backends, version]")
    return row


def _filled(text: str, **values: str) -> str:
    """The text with its placeholders filled in. Not `str.format`: a stray brace is no reason to stop."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _index(name: str, row: Mapping[str, Any]) -> Index:
    return Index(
        name,
        row.get("url"),
        frozenset(_backends(row["backends"])),
        frozenset(row["platforms"].split()),
        row.get("certainty", ""),
        row.get("source", ""),
        row.get("flat", False),
        row.get("declares", False),
        {
            (torch, backend): _filled(version, backend=backend.name)
            for torch, names, version in row.get("builds", ())
            for backend in _backends(names)
        },
    )


def _backends(names: str) -> Iterable[Backend]:
    for name in names.split():
        backend = parse(name)
        if backend is None:
            raise ValueError(f"{name!r} is not a backend")
        yield backend


def validate(found: Extensions) -> list[str]:
    """What is impossible or missing in the table, one sentence each; empty if it holds together.

    Raises UsageError for a URL that may not be written into a file.
    """
    faults = [f"index {index.name}: {fault}" for index in found.indexes.values() for fault in _index_faults(index)]
    for one in found.packages.values():
        rules = {
            "not a normalized name": one.package != normalize(one.package),
            "certainty or source of its build": one.build.certainty not in CERTAINTIES or not one.build.source,
            "no index": not one.indexes,
        }
        faults += [f"package {one.package}: {fault}" for fault, holds in rules.items() if holds]
    return faults


def _index_faults(index: Index) -> list[str]:
    url = _filled(index.url or "", backend="cu126", torch="2.9")
    if url:
        check_index_url(url, f"the URL of index {index.name}")
    single = index.url is not None and "{backend}" not in index.url
    rules = {
        f"certainty {index.certainty!r}, source {index.source!r}": index.certainty not in CERTAINTIES
        or not index.source,
        "unknown platform": not index.platforms <= set(PLATFORMS),
        "a dash separates its name from what follows": "-" in index.name,
        "a brace in its URL": "{" in url or "}" in url,
        "a URL without {backend} needs `builds`, and one with it has none": single != bool(index.builds),
        "builds for backends that it does not have": not {named for _, named in index.builds} <= index.backends,
        "pages of links are not asked what their wheels declare": index.flat and index.declares,
    }
    return [fault for fault, holds in rules.items() if holds]

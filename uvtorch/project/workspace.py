"""Which files a command works on: the project uv would find, its workspace, the lock of both; or a script."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from glob import glob
from typing import Any, NamedTuple

from uvtorch import files
from uvtorch.errors import ProjectError
from uvtorch.packages import normalize
from uvtorch.project.choices import Project
from uvtorch.project.script import as_project, decoded, find_block, script_block
from uvtorch.project.tables import read as read_tables


class Manifest(NamedTuple):
    """The file of a project's or a script's requirements, as it was read."""

    path: str
    raw: bytes
    data: Mapping[str, Any]
    script: bool = False
    """A Python file, of whose inline metadata (PEP 723) `data` is."""

    @property
    def directory(self) -> str:
        """The directory the file is in."""
        return os.path.dirname(self.path)


class Workspace(NamedTuple):
    """Where a command works: the manifest that it changes, and the root of the workspace around it."""

    manifest: Manifest
    root: Manifest
    """The manifest itself where there is no workspace."""

    @property
    def at_root(self) -> bool:
        """Whether the manifest is the root."""
        return self.manifest.path == self.root.path

    @property
    def lock(self) -> str:
        """Its path."""
        return self.manifest.path + ".lock" if self.manifest.script else os.path.join(self.root.directory, "uv.lock")

    def members(self) -> Iterator[Manifest]:
        """The workspace's other members: what the root's `members` globs find, less `exclude`, as for uv.

        Raises ProjectError where one cannot be read.
        """
        for path in _member_directories(self.root):
            file = os.path.join(path, "pyproject.toml")
            if os.path.isfile(file) and file not in (self.manifest.path, self.root.path):
                yield read(file)

    def project(self, manifest: Manifest | None = None) -> Project:
        """What a file of the workspace says (None: the manifest), read below the root.

        Raises ProjectError and UsageError as `uvtorch.project.read` does.
        """
        manifest = manifest or self.manifest
        root = None if manifest.path == self.root.path else self.root.data
        data = as_project(manifest.data) if manifest.script else manifest.data
        return read_tables(data, root, os.path.relpath(manifest.path))


def read(path: str, *, script: bool = False) -> Manifest:
    """Read a pyproject.toml or a script. Raises ProjectError where it cannot be read, is not UTF-8 or not TOML."""
    try:
        return manifest_of(path, files.read(path), script=script)
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None


@cache
def manifest_of(path: str, raw: bytes, *, script: bool = False) -> Manifest:
    """The manifest with this content. Raises ProjectError where it is not UTF-8 or not TOML."""
    bare = script and script_block(decoded(raw, path)) is None
    data = {} if bare else find_block(raw, path, script=script).parsed(path)
    return Manifest(os.path.abspath(path) if script else path, raw, data, script)


def site(directory: str, package: str | None = None) -> Workspace | None:
    """The project that uv would work on in `directory`, or its workspace's member `package`; None: no project.

    Raises ProjectError where a file cannot be read, and where there is no such member.
    """
    path = files.find_project(directory)
    if path is None:
        return None
    manifest = read(path)
    here = Workspace(manifest, _root(manifest))
    if package is None:
        return here
    for member in (manifest, here.root, *here.members()):
        if normalize(str(_table(member.data, "project").get("name", ""))) == normalize(package):
            return Workspace(member, here.root)
    raise ProjectError(f"the workspace at {here.root.directory} has no package `{package}`")


def _table(data: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        inner = data.get(key)
        data = inner if isinstance(inner, Mapping) else {}
    return data


def _root(manifest: Manifest) -> Manifest:
    """The workspace's root: the nearest pyproject.toml above decides, as for uv."""
    path = files.project_above(manifest.path)
    if path is None or isinstance(_table(manifest.data, "tool", "uv").get("workspace"), Mapping):
        return manifest
    candidate = read(path)
    inside = os.path.realpath(manifest.directory) in map(os.path.realpath, _member_directories(candidate))
    return candidate if inside else manifest


def _member_directories(root: Manifest) -> list[str]:
    table = _table(root.data, "tool", "uv", "workspace")
    found: dict[str, str] = {}
    for key in ("members", "exclude"):
        patterns = table.get(key)
        for pattern in patterns if isinstance(patterns, list) else ():
            for name in sorted(glob(str(pattern), root_dir=root.directory, recursive=True, include_hidden=True)):
                path = os.path.normpath(os.path.join(root.directory, name))
                if key == "members":
                    found.setdefault(os.path.realpath(path), path)
                else:
                    found.pop(os.path.realpath(path), None)
    return list(found.values())

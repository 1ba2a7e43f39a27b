"""Which files a command works on: the project uv would find, its workspace's root, its lock; or a script."""

import os
from typing import NamedTuple

from uvtorch.errors import ProjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from uvtorch.argv import CommandLine


class Manifest(NamedTuple):
    """The file that names a project's (or a script's) requirements, as it was read."""

    path: str
    raw: bytes
    data: "Mapping[str, Any]"
    script: bool = False
    """A Python file with inline metadata (PEP 723); `data` is that block's."""

    @property
    def directory(self) -> str:
        """The directory the file is in."""
        return os.path.dirname(self.path)


class Site(NamedTuple):
    """Where a command works: the manifest it changes, the workspace around it and the lock of both."""

    manifest: Manifest
    root: Manifest
    """The workspace's root; the manifest itself where there is no workspace around it."""

    @property
    def lock(self) -> str:
        """The path of the lock, which need not exist."""
        if self.manifest.script:
            return self.manifest.path + ".lock"
        return os.path.join(self.root.directory, "uv.lock")

    def members(self) -> "Iterator[Manifest]":
        """The workspace's other members, in uv's terms: what the root's `members` globs find, less `exclude`."""
        for path in _member_directories(self.root):
            file = os.path.join(path, "pyproject.toml")
            if os.path.isfile(file) and file not in (self.manifest.path, self.root.path):
                yield read(file)


def current_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv works: `--directory` or `UV_WORKING_DIR`. Paths on the command line are relative to it."""
    return os.path.normpath(os.path.join(os.getcwd(), line.value("--directory") or env.get("UV_WORKING_DIR") or ""))


def project_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv looks for a project: `--project` or `UV_PROJECT`, relative to the current directory."""
    directory = line.value("--project") or env.get("UV_PROJECT") or ""
    return os.path.normpath(os.path.join(current_directory(line, env), directory))


def read(path: str) -> Manifest:
    """Read a pyproject.toml. Raises ProjectError where it cannot be read, is not UTF-8 or not TOML."""
    import tomllib

    raw = _bytes(path)
    try:
        return Manifest(path, raw, tomllib.loads(raw.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path} is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}") from None
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path} is not TOML: {error}") from None


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None


def find(directory: str) -> str | None:
    """The pyproject.toml in `directory` or the nearest of its parents, as uv looks for it."""
    while True:
        path = os.path.join(directory, "pyproject.toml")
        if os.path.isfile(path):
            return path
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def site(directory: str, package: str | None = None) -> Site | None:
    """The project uv would work on in `directory`, None where there is none.

    `package` is the member that `--package` names. Raises ProjectError where a file cannot be read, or where the
    workspace has no such member.
    """
    path = find(directory)
    if path is None:
        return None
    manifest = read(path)
    here = Site(manifest, _root(manifest))
    if package is None or _name(manifest) == package:
        return here
    for member in (here.root, *here.members()):
        if _name(member) == package:
            return Site(member, here.root)
    raise ProjectError(f"the workspace at {here.root.directory} has no package `{package}`")


def _name(manifest: Manifest) -> str | None:
    project = manifest.data.get("project")
    name = project.get("name") if isinstance(project, dict) else None
    return name if isinstance(name, str) else None


def _workspace(data: "Mapping[str, Any]") -> "Mapping[str, Any] | None":
    table: Any = data
    for key in ("tool", "uv", "workspace"):
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def _root(manifest: Manifest) -> Manifest:
    if _workspace(manifest.data) is not None:
        return manifest
    directory = os.path.dirname(manifest.directory)
    while path := find(directory):
        candidate = read(path)
        if _workspace(candidate.data) is not None:
            inside = any(os.path.samefile(member, manifest.directory) for member in _member_directories(candidate))
            return candidate if inside else manifest
        above = os.path.dirname(candidate.directory)
        if above == candidate.directory:
            break
        directory = above
    return manifest


def _member_directories(root: Manifest) -> "Iterator[str]":
    from glob import glob

    workspace = _workspace(root.data) or {}
    excluded = {
        os.path.realpath(path)
        for pattern in workspace.get("exclude", ())
        for path in glob(os.path.join(root.directory, pattern))
    }
    seen = set()
    for pattern in workspace.get("members", ()):
        for path in sorted(glob(os.path.join(root.directory, pattern))):
            real = os.path.realpath(path)
            if os.path.isdir(path) and real not in excluded and real not in seen:
                seen.add(real)
                yield os.path.normpath(path)


def script(path: str) -> Site:
    """The script that `--script` names. Raises ProjectError where it cannot be read or its metadata is not TOML."""
    import tomllib

    raw = _bytes(path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProjectError(f"{path} is not UTF-8") from None
    try:
        data = tomllib.loads(script_block(text) or "")
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path}: its inline metadata is not TOML: {error}") from None
    manifest = Manifest(os.path.abspath(path), raw, data, script=True)
    return Site(manifest, manifest)


def script_block(text: str) -> str | None:
    """The TOML in a script's `# /// script` block (PEP 723), None where there is no such block."""
    lines: list[str] | None = None
    for line in text.splitlines():
        if lines is None:
            if line.rstrip() == "# /// script":
                lines = []
        elif line.rstrip() == "# ///":
            return "\n".join(lines) + "\n"
        elif line == "#" or line.startswith("# "):
            lines.append(line[2:])
        else:
            lines = None
    return None

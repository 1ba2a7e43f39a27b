"""Which files a command works on: the project uv would find, its workspace's root, its lock; or a script."""

import os

from uvtorch.errors import ProjectError
from uvtorch.named import NamedTuple
from uvtorch.packages import normalize

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
    """Where uv works: `--directory` or `UV_WORKING_DIR`. Paths on the command line are relative to it.

    Raises ProjectError where there is no such directory.
    """
    try:
        here = os.getcwd()
    except OSError:
        raise ProjectError("the current directory does not exist any more") from None
    named = line.value("--directory") or env.get("UV_WORKING_DIR")
    if not named:
        return here
    directory = os.path.realpath(os.path.join(here, named))  # uv changes to it: its parents are the real ones
    if not os.path.isdir(directory):
        raise ProjectError(f"there is no directory {named} to work in")
    return directory


def project_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv looks for a project: `--project` or `UV_PROJECT`, relative to the current directory.

    A pyproject.toml may stand for its directory. Raises ProjectError where there is no such directory.
    """
    here = current_directory(line, env)
    named = line.value("--project") or env.get("UV_PROJECT")
    if not named:
        return here
    directory = os.path.normpath(os.path.join(here, named))
    if os.path.basename(directory) == "pyproject.toml" and os.path.isfile(directory):
        return os.path.dirname(directory)
    if not os.path.isdir(directory):
        raise ProjectError(f"the project directory {named} does not exist")
    return directory


def read(path: str) -> Manifest:
    """Read a pyproject.toml. Raises ProjectError where it cannot be read, is not UTF-8 or not TOML."""
    raw = _bytes(path)
    return Manifest(path, raw, _toml(_text(path, raw), f"{path} is not TOML"))


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None


def _text(path: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + len(raw) - len(error.object)  # the codec counts from behind the BOM
        line = raw.count(b"\n", 0, at) + 1
        raise ProjectError(f"{path} is not UTF-8: byte 0x{raw[at]:02x} in line {line}") from None


def _toml(text: str, fault: str) -> "Mapping[str, Any]":
    import tomllib

    try:
        return tomllib.loads(text)
    except ValueError as error:  # besides TOMLDecodeError: a number with more digits than Python reads
        raise ProjectError(f"{fault}: {error}") from None
    except RecursionError:
        raise ProjectError(f"{fault}: it is nested too deeply") from None


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
    if package is None:
        return here
    wanted = normalize(package)
    if _name(manifest) == wanted:
        return here
    for member in (here.root, *here.members()):
        if _name(member) == wanted:
            return Site(member, here.root)
    raise ProjectError(f"the workspace at {here.root.directory} has no package `{package}`")


def _name(manifest: Manifest) -> str | None:
    project = manifest.data.get("project")
    name = project.get("name") if isinstance(project, dict) else None
    return normalize(name) if isinstance(name, str) else None


def _workspace(data: "Mapping[str, Any]") -> "Mapping[str, Any] | None":
    table: Any = data
    for key in ("tool", "uv", "workspace"):
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def _root(manifest: Manifest) -> Manifest:
    """The workspace's root: the nearest pyproject.toml above decides, as for uv, be it a workspace's or not."""
    if _workspace(manifest.data) is not None:
        return manifest
    above = os.path.dirname(manifest.directory)
    path = find(above) if above != manifest.directory else None
    if path is None:
        return manifest
    candidate = read(path)
    here = os.path.realpath(manifest.directory)
    inside = any(os.path.realpath(member) == here for member in _member_directories(candidate))
    return candidate if inside else manifest


def _member_directories(root: Manifest) -> "Iterator[str]":
    excluded = {os.path.realpath(path) for path in _globbed(root, "exclude")}
    seen = set()
    for path in _globbed(root, "members"):
        real = os.path.realpath(path)
        if os.path.isdir(path) and real not in excluded and real not in seen:
            seen.add(real)
            yield path


def _globbed(root: Manifest, key: str) -> "Iterator[str]":
    from glob import glob

    patterns = (_workspace(root.data) or {}).get(key)
    for pattern in patterns if isinstance(patterns, list) else ():
        if isinstance(pattern, str):
            for path in sorted(glob(pattern, root_dir=root.directory, recursive=True, include_hidden=True)):
                yield os.path.normpath(os.path.join(root.directory, path))


def script(path: str) -> Site:
    """The script that `--script` names. Raises ProjectError where it cannot be read or its metadata is not TOML."""
    raw = _bytes(path)
    block = script_block(_text(path, raw)) or ""
    data = _toml(block, f"{path}: its inline metadata is not TOML")
    manifest = Manifest(os.path.abspath(path), raw, data, script=True)
    return Site(manifest, manifest)


def script_block(text: str) -> str | None:
    """The TOML in a script's `# /// script` block (PEP 723), None where there is no such block.

    The block ends with the last `# ///` of the comment that it opens.
    """
    lines: list[str] = []
    end: int | None = None
    inside = False
    for line in text.split("\n"):
        row = line.removesuffix("\r")
        if not inside:
            inside = row == "# /// script"
        elif row == "#" or row.startswith("# "):
            if row == "# ///":
                end = len(lines)
            lines.append(row[2:])
        elif end is not None:
            break
        else:
            lines, inside = [], False
    return None if end is None else "".join(f"{line}\n" for line in lines[:end])

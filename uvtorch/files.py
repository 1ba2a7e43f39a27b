"""Where uv looks for a project; files read with limits: a FIFO would wait, a device never end; replaced at once."""

import errno
import os
import stat
from io import FileIO

from uvtorch.errors import ProjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from uvtorch.argv import CommandLine

READ_AHEAD: set[int] = set()
"""Descriptors that were read before uv reads them: each is a file now, to be read from its start."""


def read(path: str, limit: int = 64 * 2**20) -> bytes:
    """The content of a regular file, of standard input (`-`) or of a descriptor (`/dev/fd/63`, a shell's `<(…)`).

    Raises OSError, also for what is none of these, a terminal, and for more than `limit` bytes of a file: the largest
    uv.lock that was seen has 6 million.
    """
    folder, _, name = path.rpartition("/")
    if path in ("-", "/dev/stdin"):
        return _given(0)
    if folder in ("/dev/fd", "/proc/self/fd") and name.isdecimal() and len(name) < 6:
        return _given(int(name))
    try:
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", path)
            content = file.read(limit + 1)
    except ValueError:  # a name with a NUL, which TOML can write
        raise OSError(errno.EINVAL, "it is not a file's name", path) from None
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes", path)
    return content


def _given(number: int) -> bytes:
    """What a descriptor holds, and keeps for uv."""
    import tempfile  # noqa: PLC0415  few commands read it

    if os.isatty(number):
        raise OSError(errno.EINVAL, "it is a terminal")
    with tempfile.TemporaryFile() as again, FileIO(number, closefd=False) as given:
        again.write(content := given.readall() or b"")
        again.seek(0)
        os.dup2(again.fileno(), number)
    READ_AHEAD.add(number)
    return content


def text(path: str) -> str | None:
    """A file's text, without a BOM and with U+FFFD for what is not UTF-8; None where `read` cannot read it."""
    try:
        return read(path).decode("utf-8-sig", "replace")
    except OSError:
        return None


def head(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file of any kind. Raises OSError and ValueError."""
    with open(path, "rb", opener=_open) as file:
        return file.read(limit) or b""


def of_user(named: str | None, default: str) -> str:
    """The folder that a variable of XDG's names, which must be absolute, else the default."""
    return named if named and os.path.isabs(named) else os.path.expanduser(default)


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for whoever writes it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write(path: str, content: bytes) -> None:
    """Replace a file's content, or create the file: a reader sees the old or the new; mode, owner and links stay.

    It is written in place where no new file can take its place: none is allowed there, it is a mount, it has other
    names or another owner. Raises OSError.
    """
    path = os.path.realpath(path)
    if not os.path.exists(path):
        with open(path, "xb") as file:
            file.write(content)
        return
    # A random name: in containers process ids come again, and a file left behind would stand in the way.
    temporary = os.path.join(os.path.dirname(path), f".uvtorch-{os.urandom(6).hex()}")
    try:
        if create(temporary, content, path, synced=True) and move(temporary, path):
            return
    except (PermissionError, FileExistsError):
        pass
    finally:
        _remove(temporary)
    with open(path, "r+b", buffering=0) as opened:
        before = opened.read()
        try:
            _fill(opened, content)
        except BaseException:
            _fill(opened, before)
            raise


def create(path: str, content: bytes, like: str | None = None, *, synced: bool = False) -> bool:
    """Make a new file in the place of any there; whether it has the owner, mode and attributes of the file `like`.

    Not `synced`, a crash soon after a rename may leave it empty. Raises OSError.
    """
    _remove(path)
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with FileIO(os.open(path, new, 0o600), "w") as file:
        _fill(file, content)
        if synced:
            os.fsync(file.fileno())
    return like is None or _become_like(like, path)


def move(source: str, target: str) -> bool:
    """Let a file take another's place by a rename; False, with nothing changed, where that would lose what it is."""
    target = os.path.realpath(target)
    try:
        if os.path.exists(target):
            old, new = os.stat(target), os.stat(source)
            if old.st_nlink > 1 or (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                return False
        os.replace(source, target)
    except OSError:
        return False
    return True


def _become_like(path: str, new: str) -> bool:
    try:
        status, own = os.stat(path), os.stat(new)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            os.chown(new, status.st_uid, status.st_gid)
        for name in os.listxattr(path) if hasattr(os, "listxattr") else ():
            if not name.startswith("security."):  # the kernel sets those
                os.setxattr(new, name, os.getxattr(path, name))
        os.chmod(new, stat.S_IMODE(status.st_mode))
    except OSError:
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _fill(file: FileIO, content: bytes) -> None:
    file.seek(0)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate()


def current_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv works: `--directory` or `UV_WORKING_DIR`. Raises ProjectError where there is no such directory."""
    try:
        here = os.getcwd()
    except OSError:
        raise ProjectError("the current directory does not exist any more") from None
    named = line.value("--directory") or env.get("UV_WORKING_DIR")
    directory = os.path.realpath(os.path.join(here, named)) if named else here  # uv changes to it
    if not os.path.isdir(directory):
        raise ProjectError(f"there is no directory {named} to work in")
    return directory


def project_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv looks for a project: `--project` or `UV_PROJECT`, a directory or its pyproject.toml. Raises as above."""
    here, named = current_directory(line, env), line.value("--project") or env.get("UV_PROJECT")
    directory = os.path.normpath(os.path.join(here, named)) if named else here
    if os.path.basename(directory) == "pyproject.toml" and os.path.isfile(directory):
        return os.path.dirname(directory)
    if not os.path.isdir(directory):
        raise ProjectError(f"the project directory {named} does not exist")
    return directory


def script_of_run(line: "CommandLine", env: "Mapping[str, str]") -> str | None:
    """The file that `run` is given, whose own metadata, if any, takes the project's place."""
    if line.verb != "run" or not line.positionals or line.has("--module", "-m"):
        return None
    path = os.path.join(current_directory(line, env), line.positionals[0])
    return path if path.endswith(".py") or line.has("--script", "-s") else None


def upwards(directory: str) -> "Iterator[str]":
    """The directory and its parents, the nearest first."""
    yield directory
    if (parent := os.path.dirname(directory)) != directory:
        yield from upwards(parent)


def find_project(directory: str) -> str | None:
    """The pyproject.toml in `directory` or the nearest of its parents."""
    paths = (os.path.join(folder, "pyproject.toml") for folder in upwards(directory))
    return next(filter(os.path.isfile, paths), None)


def project_above(path: str) -> str | None:
    """The nearest pyproject.toml above this one, which decides for uv."""
    found = find_project(os.path.dirname(os.path.dirname(path)))
    return None if found == path else found


def may_be_member(path: str) -> bool:
    """Whether the one above speaks of a workspace."""
    above = project_above(path)
    return above is not None and "workspace" in (text(above) or "workspace")

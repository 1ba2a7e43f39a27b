"""Replacing a file's content at once: a reader sees the old or the new, and its mode, owner and links stay."""

import os
import stat
from contextlib import suppress
from io import FileIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def write(path: str, content: bytes) -> None:
    """Replace a file's content.

    Where no new file can take its place (no new file is allowed there, it is a mount, it has other names, its owner is
    another) the content is written in place. A file that is missing is created. Raises OSError.
    """
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        with open(path, "xb") as file:
            file.write(content)
        return
    if status.st_nlink > 1 or not _replace(path, content, status):
        _overwrite(path, content)


def _replace(path: str, content: bytes, status: os.stat_result) -> bool:
    """Let a new file take its place; False, with nothing changed, where that would lose what it is."""
    # A random name: in containers a process id comes again, and a file that was left behind would stand in the way.
    temporary = os.path.join(os.path.dirname(path), f".uvtorch-{os.urandom(6).hex()}")
    try:
        descriptor = os.open(temporary, _NEW, 0o600)
    except (PermissionError, FileExistsError):
        return False
    done = False
    try:
        with FileIO(descriptor, "w") as file:
            _write_all(file, content)
            os.fsync(descriptor)  # else a crash may leave an empty file under the old name
        with suppress(OSError):
            _become_like(path, status, temporary)
            os.replace(temporary, path)
            done = True
    finally:
        if not done:
            os.unlink(temporary)
    return done


def create(path: str, content: bytes, like: str | None = None) -> None:
    """Make a new file in the place of any there; with owner, mode and attributes of another as far as allowed.

    It is not forced to the disk. Raises OSError.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)
    with FileIO(os.open(path, _NEW, 0o600), "w") as file:
        _write_all(file, content)
    if like is not None:
        with suppress(OSError):
            _become_like(like, os.stat(like), path)


def move(source: str, target: str) -> bool:
    """Let a file take another's place by a rename; False, with nothing changed, where that would lose what it is."""
    target = os.path.realpath(target)
    try:
        if os.path.exists(target):
            status, new = os.stat(target), os.stat(source)
            if status.st_nlink > 1 or (status.st_uid, status.st_gid) != (new.st_uid, new.st_gid):
                return False
        os.replace(source, target)
    except OSError:
        return False
    return True


def _become_like(path: str, status: os.stat_result, new: str) -> None:
    own = os.stat(new)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        os.chown(new, status.st_uid, status.st_gid)
    for name in os.listxattr(path) if hasattr(os, "listxattr") else ():
        if not name.startswith("security."):  # the kernel sets those
            os.setxattr(new, name, os.getxattr(path, name))
    os.chmod(new, stat.S_IMODE(status.st_mode))


def _overwrite(path: str, content: bytes) -> None:
    with open(path, "r+b", buffering=0) as file:
        before = file.read()
        try:
            _fill(file, content)
        except BaseException:
            _fill(file, before)
            raise


def _fill(file: FileIO, content: bytes) -> None:
    file.seek(0)
    _write_all(file, content)
    file.truncate()


def _write_all(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]

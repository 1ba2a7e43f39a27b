"""Replacing a file's content at once: a reader sees the old or the new, and its mode, owner and links stay."""

import os
import stat
from io import FileIO


def write(path: str, content: bytes, mode: int | None = None) -> None:
    """Replace a file's content.

    Where no new file can take its place (no new file is allowed there, it is a mount, it has other names, its owner is
    another) the content is written in place. A file that is missing is created, with `mode`. Raises OSError.
    """
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        with open(path, "xb") as file:
            file.write(content)
        if mode is not None:
            os.chmod(path, mode)
        return
    if status.st_nlink > 1 or not _replace(path, content, status):
        _overwrite(path, content)


def _replace(path: str, content: bytes, status: os.stat_result) -> bool:
    """Let a new file take its place; False, with nothing changed, where that would lose what it is."""
    # A random name: in containers a process id comes again, and a file that was left behind would stand in the way.
    temporary = os.path.join(os.path.dirname(path), f".uvtorch-{os.urandom(6).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except (PermissionError, FileExistsError):
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)  # else a crash may leave an empty file under the old name
        try:
            new = os.stat(temporary)
            if (new.st_uid, new.st_gid) != (status.st_uid, status.st_gid):
                os.chown(temporary, status.st_uid, status.st_gid)
            _copy_attributes(path, temporary)
            os.chmod(temporary, stat.S_IMODE(status.st_mode))
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            return False
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def _copy_attributes(source: str, target: str) -> None:
    """Keep extended attributes, where the system has them."""
    if hasattr(os, "listxattr"):
        for name in os.listxattr(source):
            if not name.startswith("security."):  # the kernel sets those
                os.setxattr(target, name, os.getxattr(source, name))


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
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate()

"""Reading files that others wrote. Only regular ones, of a limited size: a FIFO would wait, a device never end."""

import errno
import os
import stat

LIMIT = 64 * 2**20
"""In bytes; the largest uv.lock that was seen has 6 million."""


def read(path: str, limit: int = LIMIT) -> bytes:
    """A regular file's content. Raises OSError, also for what is no regular file and for more than `limit` bytes."""
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


def text(path: str) -> str | None:
    """A regular file's text, without a BOM and with U+FFFD for what is not UTF-8; None where it cannot be read."""
    try:
        return read(path).decode("utf-8-sig", "replace")
    except OSError:
        return None


def head(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a file of any kind. Raises OSError and ValueError."""
    with open(path, "rb", opener=_open) as file:
        return file.read(limit) or b""


def of_user(named: str | None, default: str) -> str:
    """The user's folder that a variable of XDG's names: absolute, as the specification has it, else the default."""
    return named if named and os.path.isabs(named) else os.path.expanduser(default)


def _open(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for whoever writes it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

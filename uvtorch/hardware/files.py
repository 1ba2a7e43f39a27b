"""Reading the machine's files under a root: bounded, and without raising."""

import os


def at(root: str, path: str) -> str:
    """The absolute `path` as seen under `root`."""
    return path if root == "/" else root.rstrip("/") + path


def read(root: str, path: str, limit: int = 65536) -> str | None:
    """The first `limit` bytes of a file as text, None if it cannot be read."""
    data = read_bytes(root, path, limit)
    return None if data is None else data.decode("utf-8", "replace")


def read_bytes(root: str, path: str, limit: int = 65536) -> bytes | None:
    """The first `limit` bytes of a file, None if it cannot be read."""
    try:
        # A pipe where a file is expected must not block.
        fd = os.open(at(root, path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError):
        return None
    try:
        parts = []
        while limit > 0 and (part := os.read(fd, min(limit, 65536))):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def names(root: str, path: str) -> list[str]:
    """The names in a directory, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(at(root, path)))
    except OSError:
        return []


def exists(root: str, path: str) -> bool:
    """Whether something is there."""
    return os.path.exists(at(root, path))


def link(root: str, path: str) -> str | None:
    """The last part of a symbolic link's target: in sysfs, the driver's name."""
    try:
        return os.path.basename(os.readlink(at(root, path)))
    except OSError:
        return None


def first_program(root: str, paths: tuple[str, ...]) -> str | None:
    """The first of `paths` that is an executable file, as an absolute path for starting it."""
    for path in paths:
        where = at(root, path)
        if os.path.isfile(where) and os.access(where, os.X_OK):
            return where
    return None


def plain(text: str, limit: int = 300) -> str:
    """One line that is safe to print: control characters and runs of blanks become one blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())[:limit]

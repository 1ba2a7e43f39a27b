"""A file as it was before a command, and whether it may be put back: not over what somebody else wrote meanwhile."""

import os
from collections.abc import Collection, Sequence

from uvtorch import atomic, files
from uvtorch.errors import ProjectError
from uvtorch.packages import begins_with

BESIDE = ".before-uvtorch"
"""Added to a file's name for its old text, where somebody else changed the file meanwhile."""
ANY = "*"
"""Among the names that uv may write: requirements whose names the command line does not tell (`-r`, a path, a URL)."""

_ATOM = rb"#[^\r\n]*|\"[^\"\n]*\"|'[^'\n]*'|[^\s,\[\]{}=\"'#]+"
_WORDS = frozenset(
    b"project dependencies optional-dependencies project.optional-dependencies dependency-groups dev-dependencies "
    b"tool.uv tool.uv.sources tool.uv.index tool.uv.workspace members index name url explicit default format workspace "
    b"git path editable package rev tag branch subdirectory marker extra group true false".split()
)
"""The keys that `uv add` and `uv remove` write."""


def read(path: str) -> bytes | None:
    """A file's content as it is, None where there is none. Raises ProjectError where it cannot be read."""
    try:
        return files.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None


class Kept:
    """A file that a command may change. `copy` is a file like it on the same disk, to put it back by a rename."""

    def __init__(self, path: str, saved: bytes | None, copy: str | None = None) -> None:
        self.path = path
        self.saved = saved
        self.copy = copy
        self.ours = [saved]
        """What was there, and what uvtorch or uv left there since. A kill may come before the last is written."""
        self.foreign = False
        """Whether somebody else has changed it."""
        self._theirs: bytes | None = None
        self.is_lock = path.endswith(".lock")
        self._seen: tuple[tuple[int, ...], bool] = ((), False)

    @property
    def row(self) -> str:
        """The path, whether it was there, and what was left there since, for the journal; a lock is always uv's."""
        parts = [os.fsencode(self.path), b"" if self.saved is None else b"old"]
        return " ".join(part.hex() for part in [*parts, *([] if self.is_lock else (text or b"" for text in self.ours))])

    def look(self, names: Collection[str]) -> None:
        """Notice, while uv is at work, what somebody else writes: uv may overwrite it with what it read before.

        Only what stays for two looks counts: a file may be half written.
        """
        try:
            status = os.stat(self.path)
        except OSError:
            return
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        last, judged = self._seen
        self._seen = (state, state == last)
        if state == last and not judged and (content := read(self.path)):
            self._judge(content, names, torn=False)

    def settle(self, names: Collection[str], *, torn: bool) -> None:
        """Take what is there now for uv's, or for somebody else's. `torn`: uv may not have written all."""
        content = read(self.path)
        self._judge(content, names, torn=torn)
        if content != self.ours[-1]:
            self.ours.append(content)

    def _judge(self, content: bytes | None, names: Collection[str], *, torn: bool) -> None:
        if content in self.ours or (content is not None and self.is_lock):
            return
        if content is None or not by_uv(self.ours[-1] or b"", content, names, torn=torn):  # uv deletes neither file
            self.foreign, self._theirs = True, content

    def put_back(self) -> str | None:
        """Put it back as it was. What to tell where somebody else's text stays instead. Raises OSError."""
        if self.foreign:
            return self._leave_theirs()
        if self.saved is None:
            if read(self.path) is not None:
                os.unlink(self.path)
        elif self.saved and read(self.path) != self.saved:
            self._write_old(self.path)
        return None

    def _leave_theirs(self) -> str:
        if self._theirs is not None and read(self.path) == self.ours[-1] != self._theirs:
            atomic.write(self.path, self._theirs)  # uv put back what it had read before
        what = "changed" if self._theirs is not None else "deleted"
        text = f"{relative(self.path)} was {what} by another program meanwhile and stays so"
        if not self.saved:
            return text
        beside, count = self.path + BESIDE, 1
        while read(beside) not in (None, self.saved):
            count += 1
            beside = f"{self.path}{BESIDE}-{count}"
        self._write_old(beside)
        return f"{text}; as it was before, it is {relative(beside)}"

    def _write_old(self, path: str) -> None:
        if not (self.copy and atomic.move(self.copy, path)):
            atomic.write(path, self.saved or b"")


def relative(path: str) -> str:
    """A path from here, as it is shown."""
    try:
        return os.path.relpath(path)
    except (OSError, ValueError):  # no working directory any more; another drive
        return path


def names_in(words: Sequence[str]) -> set[str]:
    """The names that uv, run with these words, may write requirements of."""
    names = set()
    for word in words:
        if word.startswith(("-r", "--requirement", ".")) or "/" in word or os.sep in word:
            names.add(ANY)
        elif not word.startswith("-"):
            names |= {begins_with(part) for part in word.replace(",", " ").split()}
    return names - {""}


def by_uv(before: bytes, after: bytes, names: Collection[str], *, torn: bool = False) -> bool:
    """Whether one text became the other by nothing but requirements, sources and indexes of these names.

    `uv add` may set an array in other lines, so line breaks do not count. `torn`: the end may be missing.
    """
    old, new = ([atom for atom in _atoms(text) if not _is_uvs(atom, names)] for text in (before, after))
    if sorted(old) == sorted(new):
        return True
    *whole, cut = new or [b""]
    begun = (*old[len(whole) :], *_WORDS, *map(str.encode, names))
    is_cut = torn and not after.endswith(b"\n") and whole == old[: len(whole)]
    return is_cut and any(atom.startswith(cut) for atom in begun)


def _atoms(text: bytes) -> list[bytes]:
    import re  # noqa: PLC0415  an `add` that changes nothing loads nothing that it does not need

    text = text.removeprefix(b"\xef\xbb\xbf")
    in_comment = b"# /// script" in text  # a script's metadata
    return re.findall(_ATOM, re.sub(rb"(?m)^# ?", b"", text) if in_comment else text)


def _is_uvs(atom: bytes, names: Collection[str]) -> bool:
    if atom in _WORDS:
        return True
    if atom.startswith(b"#"):
        return False
    text = atom.decode("utf-8", "replace")
    if "://" in text:  # an index, of an option or a variable
        return True
    return begins_with(text.strip("\"'")) in names or (ANY in names and (text[0] in "\"'" or text.isidentifier()))

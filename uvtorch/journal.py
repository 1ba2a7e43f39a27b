"""One command at a time changes a project, and what it began is undone where it fails or was killed.

The lock is a flock on a file in a folder of the user's. uv inherits it: it lasts until both have ended. The journal has
a copy of each file, made before anything is changed, on the same disk: a rename puts it back, on a full disk too. Who
gets the lock and finds a journal repairs first. Windows has no flock: nobody waits, files are put back from memory.
"""

import os
from binascii import crc32
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from errno import EACCES, EROFS

from uvtorch import files
from uvtorch.errors import ProjectError
from uvtorch.packages import begins_with

if os.name != "nt":
    import fcntl

BESIDE = ".before-uvtorch"
"""Added to a file's name for its old text, where somebody else has changed it."""
ANY = "*"
"""Among the names that uv may write: those that it reads elsewhere (`-r`, a path, a URL)."""

_WORDS = frozenset(
    b"project dependencies optional-dependencies project.optional-dependencies dependency-groups dev-dependencies "
    b"tool.uv tool.uv.sources tool.uv.index tool.uv.workspace members index name url explicit default format workspace "
    b"git path editable package rev tag branch subdirectory marker extra group true false".split()
)
"""The keys that `uv add` and `uv remove` write."""


class Claim:
    """A workspace, by its root's directory, or a script, which one command at a time may change."""

    def __init__(self, root: str, env: Mapping[str, str]) -> None:
        self.root = os.path.realpath(root)
        self._file: int | None = None
        self._in_state = False
        self._directory, name = (self.root, "") if os.path.isdir(self.root) else os.path.split(self.root)
        self._beside = os.path.join(self._directory, ".uvtorch-journal" + (name and f"-{name}"))
        self._folder = os.path.join(files.of_user(env.get("XDG_STATE_HOME"), "~/.local/state"), "uvtorch")
        # Two roots with one sum wait for one another, and repair what the other left; neither does harm.
        self._central = os.path.join(self._folder, f"{crc32(os.fsencode(self.root)):08x}.journal")

    @property
    def held(self) -> bool:
        """Whether this command has it."""
        return self._file is not None

    @property
    def place(self) -> str | None:
        """Where to keep a journal: beside the lock, or where the project is on another disk, there."""
        if self._file is None:
            return None
        same = self._in_state and os.stat(self._folder).st_dev == os.stat(self._directory).st_dev
        return self._central if same else self._beside

    @property
    def left_behind(self) -> bool:
        """Whether there is a journal, of a command at work or killed."""
        return os.path.lexists(self._central) or os.path.lexists(self._beside)

    def take(self, who: str, tell: Callable[[str], None], *, wait: bool = True) -> None:
        """Wait for whoever changes it, without `wait` not at all, and repair what was left behind.

        `who` is told to those who wait. Raises ProjectError where a repair fails.
        """
        if self._file is not None or os.name == "nt" or (file := self._open()) is None:
            return
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    return
                tell(f"waiting for {self._owner(file)}, which changes {self.root}")
                fcntl.flock(file, fcntl.LOCK_EX)
            last = self._owner(file)
            os.set_inheritable(file, True)  # for uv; `release` frees it for whatever else has inherited it
            if self._in_state:
                os.ftruncate(file, 0)
                os.pwrite(file, f"`{who}` (process {os.getpid()})\n".encode(), 0)
            self._file, file = file, -1
        except OSError:  # a file system without locks
            return
        finally:
            if file >= 0:
                os.close(file)
        for place in (self._central, self._beside):
            if os.path.lexists(place):
                Journal(place).repair(last, tell, None if place == self._central else self._directory)

    def release(self) -> None:
        """Let others at it."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def _owner(self, file: int) -> str:
        text = os.pread(file, 200, 0).decode("utf-8", "replace").strip() if self._in_state else ""
        return text or "another command"

    def _open(self) -> int | None:
        """What to lock: the project's directory where the user has no place for a file."""
        with suppress(OSError):
            os.makedirs(self._folder, 0o700, exist_ok=True)
            path = self._central.removesuffix("journal") + "lock"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._in_state = True
            return file
        with suppress(OSError):
            return os.open(self._directory, os.O_RDONLY)
        return None


class Journal:
    """The files of one command as they were. With a place, also on disk, from `begin` to `end`.

    `PLACE` is the record, `PLACE.0` and so on are the copies. The record names a copy before it is made, and is emptied
    before copies go: where one is missing, its file is as it was.
    """

    def __init__(self, place: str | None = None) -> None:
        self._place = place
        self._begun = False
        self.files: dict[str, Kept] = {}
        self.names: set[str] = set()

    def keep(self, path: str) -> None:
        """Remember a file as it is now. Raises ProjectError where it cannot be read or copied."""
        if path not in self.files:
            copy = f"{self._place}.{len(self.files)}" if self._place else None
            self.files[path] = kept = Kept(path, read(path), copy)
            if self._begun:
                self._write(kept)

    def begin(self, names: Collection[str] = ()) -> None:
        """Something is about to be changed, and uv may write these names. Raises ProjectError."""
        if not (self._begun and self.names.issuperset(names)):
            self.names |= set(names)
            self._write(*(() if self._begun else self.files.values()))

    def leave(self, path: str, content: bytes | None) -> None:
        """uvtorch is about to write this."""
        self.files[path].ours.append(content)
        self._write()

    def look(self) -> None:
        """Notice what others write while uv is at work."""
        for kept in self.files.values():
            kept.look(self.names)

    def settle(self, *, torn: bool) -> None:
        """Notice what uv left, which may be `torn`: not all that it meant to write."""
        for kept in self.files.values():
            kept.settle(self.names, torn=torn)

    def _write(self, *fresh: "Kept") -> None:
        """Write the record, then the copies of what is fresh. Not synced: only processes get killed."""
        if self._place is None:
            return
        first, self._begun = not self._begun, True
        record = self._place if first else f"{self._place}.new"
        rows = [" ".join(sorted(self.names)), *(kept.row for kept in self.files.values()), "end"]
        try:
            files.create(record, "\n".join(rows).encode())
            if not first:
                os.replace(record, self._place)
            for kept in fresh:
                if kept.copy and kept.saved is not None:
                    files.create(kept.copy, kept.saved, like=kept.path)
        except OSError as error:
            # Where there may be no new file, uv can hardly change anything, and may have no need to.
            if not first or error.errno not in (EACCES, EROFS):
                raise ProjectError(f"cannot keep copies of the project's files: {error.strerror}") from None
            self.end()
            self._place = None

    def end(self, most: int = 0) -> None:
        """All is well, or put back: forget the copies, of which there may be `most`."""
        if self._place is not None and self._begun:
            with suppress(OSError):
                os.truncate(self._place, 0)
            copies = range(most or len(self.files))
            for path in (*(f"{self._place}.{name}" for name in (*copies, "new")), self._place):
                with suppress(OSError):
                    os.unlink(path)

    def undo(self, tell: Callable[[str], None], *, torn: bool) -> list[str]:
        """Put every file back; which were changed. Raises ProjectError, after all were tried, if some cannot be."""
        done, failures = [], []
        for path, kept in self.files.items():
            try:
                kept.settle(self.names, torn=torn)
                changed = kept.ours[-1] != kept.saved
                if told := kept.put_back():
                    tell(told)
                elif changed:
                    done.append(path)
            except OSError as error:
                where = f"; as it was, it is {kept.copy}" if kept.copy else ""
                failures.append(f"{path} ({error.strerror}{where})")
            except ProjectError as error:
                failures.append(str(error))
        if failures:
            raise ProjectError(f"not all could be put back: {', '.join(failures)}")
        return done

    def repair(self, owner: str, tell: Callable[[str], None], inside: str | None) -> None:
        """Put back what its killed owner left half done, only `inside` a directory; raises ProjectError as `undo`."""
        place, self._begun = self._place or "", True
        began = os.lstat(place).st_mtime_ns
        with suppress(OSError, ValueError):  # one that was cut short, or is none of ours
            names, *rows, end = files.read(place).decode().split("\n")
            found = [_kept(row, f"{place}.{at}", inside) for at, row in enumerate(rows)]
            if end == "end" and not os.path.islink(place):
                self.names, self.files = set(names.split()), {kept.path: kept for kept in found if kept}
        for path in self.files:
            _sweep(os.path.dirname(path), began)
        if done := self.undo(tell, torn=True):
            tell(f"put back {' and '.join(map(relative, done))}: {owner} was killed")
        self.end(1000)  # more files than a workspace has


def _kept(row: str, copy: str, inside: str | None) -> "Kept | None":
    """The file of a row; None where it is put back already, or forged. Raises ValueError."""
    name, existed, *ours = map(bytes.fromhex, row.split(" "))
    path, saved = os.fsdecode(name), read(copy) if existed else None
    if bool(existed) == (saved is None) or os.path.islink(copy):
        return None
    if inside is not None and not os.path.realpath(path).startswith(inside + os.sep):
        return None
    kept = Kept(path, saved, copy)
    kept.ours += ours
    return kept


def _sweep(directory: str, began: int) -> None:
    """Remove temporary files, ours and uv's, of dead writers; what is older is somebody else's."""
    import re  # noqa: PLC0415  an `add` that changes nothing loads nothing that it does not need

    with suppress(OSError):
        for name in os.listdir(directory):
            if re.fullmatch(r"\.uvtorch-[0-9a-f]{12}|\.tmp[A-Za-z0-9]{6}", name):
                path = os.path.join(directory, name)
                if os.path.isfile(path) and os.stat(path).st_mtime_ns >= began:
                    os.unlink(path)


class Kept:
    """A file that a command may change, as it was. `copy` is on the same disk, to put it back by a rename."""

    def __init__(self, path: str, saved: bytes | None, copy: str | None = None) -> None:
        self.path = path
        self.saved = saved
        self.copy = copy
        self.ours = [saved]
        """What was there, and what uvtorch or uv left there since, or was about to."""
        self.foreign = False
        self._theirs: bytes | None = None
        self.is_lock = path.endswith(".lock")
        self._seen: tuple[tuple[int, ...], bool] = ((), False)

    @property
    def row(self) -> str:
        """For the journal: the path, whether it was there, and what was left there since; a lock is always uv's."""
        parts = [os.fsencode(self.path), b"" if self.saved is None else b"old"]
        return " ".join(part.hex() for part in [*parts, *([] if self.is_lock else (text or b"" for text in self.ours))])

    def look(self, names: Collection[str]) -> None:
        """Notice, while uv is at work, what somebody else writes: uv may overwrite it.

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
        """Take what is there now for uv's, which may be `torn`, or for somebody else's."""
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
        """Put it back, or tell that somebody else's text stays. Raises OSError."""
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
            files.write(self.path, self._theirs)  # uv put back what it had read before
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
        if not (self.copy and files.move(self.copy, path)):
            files.write(path, self.saved or b"")


def read(path: str) -> bytes | None:
    """A file's content as it is, None where there is none. Raises ProjectError where it cannot be read."""
    try:
        return files.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from None


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

    Line breaks do not count: `uv add` sets arrays anew. `torn`: the end may be missing.
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
    text = re.sub(rb"(?m)^# ?", b"", text) if in_comment else text
    return re.findall(rb"#[^\r\n]*|\"[^\"\n]*\"|'[^'\n]*'|[^\s,\[\]{}=\"'#]+", text)


def _is_uvs(atom: bytes, names: Collection[str]) -> bool:
    if atom in _WORDS:
        return True
    if atom.startswith(b"#"):
        return False
    text = atom.decode("utf-8", "replace")
    if "://" in text:  # an index, of an option or a variable
        return True
    return begins_with(text.strip("\"'")) in names or (ANY in names and (text[0] in "\"'" or text.isidentifier()))

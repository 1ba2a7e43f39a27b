"""One change of a project: edits of files and runs of uv, all of it or nothing; or shown instead of done."""

import os
from collections.abc import Callable, Mapping, Sequence

from uvtorch import files, uv
from uvtorch.errors import ProjectError
from uvtorch.journal import Claim, Journal, names_in, read, relative
from uvtorch.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn


class UvFailedError(Exception):
    """uv failed, or a signal came. Never leaves the transaction."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Transaction:
    """Everything that a command changes, or nothing.

    If uv fails, a signal comes or anything is raised, every file is put back, but not over what another program wrote;
    `code` is uv's exit code, or 128+n after signal n. Else uvtorch becomes the command that `become` named. With `dry`
    nothing is done: decisions, a unified diff and the commands are printed.

    `claim` is released at the end; without one, others are not kept away and nothing outlives a kill.
    """

    def __init__(
        self, find_uv: Callable[[], str], out: Output, *, dry: bool = False, claim: Claim | None = None
    ) -> None:
        self._find_uv = find_uv
        self._out = out
        self._claim = claim
        self._journal = Journal(claim.place if claim else None)
        self.dry = dry
        self.code = 0
        self._interrupted = uv.Interrupted(self._journal.look)
        """Entered with the first change: until then a signal ends uvtorch as any program."""
        self._edited = False
        self._last: tuple[str, ...] | None = None
        self._said: list[str] = []
        self._warned: list[str] = []
        self._edits: dict[str, tuple[bytes, bytes]] = {}
        self._commands: list[tuple[str, ...]] = []

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> bool:
        if self.dry:
            if error is None:
                self._show()
            return False
        try:
            self._close(error)
        finally:
            if self._claim is not None:
                self._claim.release()
            self._interrupted.__exit__()
        if error is None and self.code == 0 and self._last is not None:
            uv.hand_over(self._find_uv(), self._last)
        return isinstance(error, UvFailedError)

    def _close(self, error: BaseException | None) -> None:
        if error is None:
            self._restyle()
            self.code = self._interrupted.code if self._last is not None else 0
        elif isinstance(error, UvFailedError):
            self.code = self._interrupted.code or error.code
        if error is not None or self.code:
            self._journal.undo(self.warn, torn=self.code != 0)
        self._journal.end()

    def _begin(self, words: Sequence[str] = ()) -> None:
        self._interrupted.__enter__()
        self._journal.begin(names_in(words))

    def _raise_signalled(self) -> None:
        if self._interrupted.code:
            raise UvFailedError(self._interrupted.code)

    def guard(self, *paths: str) -> None:
        """Remember files, there or not, that uv may change. Raises ProjectError where one cannot be read."""
        if not self.dry:
            for path in paths:
                self._journal.keep(path)

    def edit(self, path: str, before: bytes, after: bytes) -> bool:
        """Replace a file's content; whether there was anything to change.

        Raises ProjectError where it is not as it was read or cannot be written, UvTooOld where uv would ignore it.
        """
        if after == before:
            return False
        if self.dry:
            self._edits[path] = (self._edits.get(path, (before,))[0], after)
            return True
        if not self._edited:
            uv.require(self._find_uv())
            self._edited = True
        self.guard(path)
        self._begin()
        self._write(path, before, after)
        return True

    def uv(self, *words: str) -> None:
        """Run uv. Where it fails, everything is undone and the transaction ends."""
        code, _ = self.attempt(*words)
        if code:
            raise UvFailedError(code)

    def attempt(self, *words: str, quietly: bool = False, patient: bool = True) -> tuple[int, str]:
        """Run uv; its exit code and, with `quietly`, what it said, held back for `tell`. A signal ends as for `uv`.

        Not `patient` (only with `quietly`): see `uv.IMPATIENT`.
        """
        if self.dry:
            self._commands.append(words)
            return 0, ""
        self._raise_signalled()
        path = self._find_uv()
        self._begin(words)
        for number in files.READ_AHEAD:  # uv may have read it before
            os.lseek(number, 0, os.SEEK_SET)
        if quietly:
            with self._out.working("resolving dependencies"):
                code, said = uv.run_quietly(path, words, self._interrupted, patient=patient)
        else:
            code, said = uv.run(path, words, self._interrupted), ""
        self._journal.settle(torn=code != 0)
        self._raise_signalled()
        return code, said

    def end(self, code: int, said: str = "") -> "NoReturn":
        """Pass on what uv said, undo everything and end with this exit code."""
        self.tell(said)
        raise UvFailedError(code)

    def mark(self) -> Mapping[str, bytes | None]:
        """The guarded files as they are now."""
        return {path: read(path) for path in self._journal.files}

    def rollback(self, mark: Mapping[str, bytes | None]) -> None:
        """Put the files back as they were at the mark; those guarded later, as they were at first."""
        if self.dry:
            return
        for path, kept in self._journal.files.items():
            if kept.foreign:
                raise ProjectError(f"{path} was changed by another program meanwhile", "run the command again")
            saved = mark.get(path, kept.saved)
            if read(path) != saved:
                self._put(path, saved)

    def become(self, words: Sequence[str]) -> None:
        """Become this uv once everything is done."""
        self._last = tuple(words)

    def say(self, *lines: str) -> None:
        """Tell what was decided, a line each."""
        self._said += lines
        if not self.dry:
            self._out.say(*lines)

    def warn(self, *lines: str) -> None:
        """Warn, a line each and each once. An empty line is none."""
        fresh = [line for line in lines if line and line not in self._warned]
        self._warned += fresh
        if not self.dry:
            self._out.warn(*fresh)

    def tell(self, text: str) -> None:
        """Pass on what uv said."""
        self._out.pass_on(text)

    def _restyle(self) -> None:
        """Give files their line breaks and BOM back: `uv add` writes LF and drops a BOM."""
        for path, kept in self._journal.files.items():
            model = kept.saved or b""
            if kept.is_lock or not (b"\r" in model or model.startswith(b"\xef\xbb\xbf")):
                continue
            from uvtorch.project.script import restyled  # noqa: PLC0415  a plain `add` loads nothing that it does not need

            now = read(path)
            if now is not None and (after := restyled(now, model)) != now:
                self._write(path, now, after)

    def _write(self, path: str, before: bytes, after: bytes) -> None:
        if read(path) != before:
            raise ProjectError(f"{path} changed while uvtorch was reading it", "run the command again")
        if is_read_only(path):
            raise ProjectError(f"{path} is read-only", "make it writable, or see what would change with --dry-run")
        self._put(path, after)

    def _put(self, path: str, content: bytes | None) -> None:
        self._journal.leave(path, content)
        try:
            if content is None:
                os.unlink(path)
            else:
                files.write(path, content)
        except OSError as error:
            raise ProjectError(f"cannot write {path}: {error.strerror}") from None

    def _show(self) -> None:
        lines = [f"# {line}" for line in self._said]
        lines += [f"# warning: {line}" for line in self._warned]
        for path, (before, after) in self._edits.items():
            lines += diff(path, before, after)
        lines += ["$ " + quoted(("uv", *command)) for command in (*self._commands, self._last) if command]
        self._out.script(lines)


def content(path: str) -> bytes:
    """A file's bytes, none where it cannot be read."""
    try:
        return files.read(path)
    except OSError:
        return b""


def is_read_only(path: str) -> bool:
    """Whether a file must not be edited, though root could, or a rename."""
    return not os.stat(path).st_mode & 0o222 or not os.access(path, os.W_OK)


def diff(path: str, before: bytes, after: bytes) -> list[str]:
    """The lines of a unified diff as `patch` reads it, to the byte."""
    from difflib import unified_diff  # noqa: PLC0415  only what is shown needs it

    from uvtorch.project.script import lines  # noqa: PLC0415  as above

    old, new = (lines(raw.decode("utf-8", "surrogateescape")) for raw in (before, after))
    name = relative(path)
    rows = []
    for row in unified_diff(old, new, f"a/{name}", f"b/{name}"):
        rows += [row[:-1]] if row.endswith("\n") else [row, "\\ No newline at end of file"]
    return rows


def quoted(command: Sequence[str]) -> str:
    """A command line as one types it on this system."""
    if uv.WINDOWS:
        from subprocess import list2cmdline  # noqa: PLC0415  only what is shown needs it

        return list2cmdline(command)
    from shlex import join  # noqa: PLC0415  only what is shown needs it

    return join(command)

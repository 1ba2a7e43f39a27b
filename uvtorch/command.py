"""One command as it was typed: what its words and the environment say. Reads no file, imports little."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from uvtorch import files, uv
from uvtorch.argv import CommandLine, is_set
from uvtorch.errors import ProjectError
from uvtorch.journal import Claim
from uvtorch.output import Output
from uvtorch.transaction import Transaction


class Command:
    """A command line and its environment. Raises ProjectError for a directory that is not there, UvNotFound.

    `dry`: nothing is to be changed, whatever the line says.
    """

    def __init__(self, line: CommandLine, env: Mapping[str, str], *, dry: bool = False) -> None:
        self.line = line
        self.env = env
        self.out = Output(line, env)
        self.dry = dry or line.ours_has("--dry-run")
        self._script = line.value("--script")
        self._claim: Claim | None = None

    @cached_property
    def uv(self) -> str:
        """The path of the real uv."""
        return uv.find(self.env)

    @cached_property
    def directory(self) -> str:
        """Where uv looks for a project."""
        return files.project_directory(self.line, self.env)

    @property
    def sources_off(self) -> bool:
        """Whether uv is told to ignore sources."""
        return self.line.has("--no-sources") or is_set(self.env, "UV_NO_SOURCES")

    @property
    def frozen(self) -> bool:
        """Whether uv is told to leave the lock alone."""
        return self.line.has("--frozen") or is_set(self.env, "UV_FROZEN")

    @property
    def unsynced(self) -> bool:
        """Whether uv is told to leave the environment alone."""
        return self.line.has("--no-sync") or is_set(self.env, "UV_NO_SYNC") or self.frozen

    def without_sync(self, words: Iterable[str]) -> list[str]:
        """uv's arguments, all up to its verb among them, with `--no-sync` where that is not told yet."""
        found = [*words]
        if not self.unsynced:
            found.insert(self.line.verb_at + 1, "--no-sync")
        return found

    def repair(self) -> None:
        """Put back what a killed command left half done."""
        # A torn pyproject.toml does not tell which of the folders above is its workspace's root.
        for root in [self._script_path] if self._script else files.upwards(self.directory):
            claim = Claim(root, self.env)
            if claim.left_behind and not self.dry:
                claim.take(self._name, self.out.say, wait=False)
                claim.release()

    def claim(self) -> None:
        """Be the only command that changes this project until a transaction ends. Call it before reading."""
        if self._claim is None and not (self.dry or self.line.has("--dry-run", "--check")):
            try:
                self.repair()  # a torn file does not say what belongs to a workspace
                root = self._root()
            except ProjectError:  # uv says better what is wrong
                return
            self._claim = Claim(root, self.env) if root else None
        if self._claim is not None:
            self._claim.take(self._name, self.out.say)

    def _root(self) -> str | None:
        """The script or the directory of the workspace's root; None where there is no project."""
        if self._script:
            return self._script_path
        path = files.find_project(self.directory)
        if path is not None and files.may_be_member(path):
            from uvtorch.project import workspace  # noqa: PLC0415  a plain `add` loads nothing that it does not need

            site = workspace.site(self.directory)
            return site.root.directory if site else None
        return path and os.path.dirname(path)

    @property
    def _script_path(self) -> str:
        return os.path.join(files.current_directory(self.line, self.env), self._script or "")

    @property
    def _name(self) -> str:
        words = self.line.positionals[:1] if self.line.verb == "torch" else []
        return " ".join(["uvtorch", self.line.verb or "", *words])

    def hand_over(self, *warnings: str, said: Sequence[str] = (), options: Sequence[str] = ()) -> int:
        """Let uv take over with the user's own command line and these options."""
        changes = self._claim is not None and self.line.verb in ("add", "remove", "lock")  # others wait for it
        words = self.line.with_options(*options)
        with self.transaction(changes=changes) as tx:
            tx.say(*said)
            tx.warn(*warnings)
            if changes:
                tx.uv(*words)
            else:
                tx.become(words)
        return tx.code

    def transaction(self, *, changes: bool = True) -> Transaction:
        """All changes of the project or none, and nobody else meanwhile; without `changes` nobody is kept away."""
        dry = self.dry or (changes and self.line.has("--dry-run"))  # uv's own: the edits would be made all the same
        if changes:
            self.claim()
        tx = Transaction(lambda: self.uv, self.out, dry=dry, claim=self._claim)
        tx.guard(*self.changed if changes else ())
        return tx

    @property
    def changed(self) -> Sequence[str]:
        """The files that uv may change."""
        if self._claim is None:
            return ()
        root = self._claim.root
        if self._script:
            return root, f"{root}.lock"
        return os.path.join(root, "pyproject.toml"), os.path.join(root, "uv.lock")

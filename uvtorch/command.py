"""One command as it was typed: what its words and the environment say by themselves. Reads no file, imports little."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from uvtorch import locate, uv
from uvtorch.argv import CommandLine, is_set
from uvtorch.output import Output
from uvtorch.transaction import Transaction


class Command:
    """A command line and its environment. `dry`: nothing is to be changed, whatever the line says.

    The errors are those of what is looked up: ProjectError for a directory that is not there, UvNotFound.
    """

    def __init__(self, line: CommandLine, env: Mapping[str, str], *, dry: bool = False) -> None:
        self.line = line
        self.env = env
        self.out = Output(line, env)
        self.dry = dry or line.ours_has("--dry-run")
        """Whether our own `--dry-run` is given."""

    @cached_property
    def uv(self) -> str:
        """The path of the real uv."""
        return uv.find(self.env)

    @cached_property
    def directory(self) -> str:
        """Where uv looks for a project."""
        return locate.project_directory(self.line, self.env)

    @property
    def sources_off(self) -> bool:
        """Whether uv is told to ignore sources."""
        return self.line.has("--no-sources") or is_set(self.env, "UV_NO_SOURCES")

    @property
    def frozen(self) -> bool:
        """Whether uv is told to leave the lock alone without looking at it."""
        return self.line.has("--frozen") or is_set(self.env, "UV_FROZEN")

    @property
    def unsynced(self) -> bool:
        """Whether uv is told to leave the environment alone."""
        return self.line.has("--no-sync") or is_set(self.env, "UV_NO_SYNC") or self.frozen

    def hand_over(self, *warnings: str, said: Sequence[str] = (), options: Sequence[str] = ()) -> int:
        """Let uv take over with the user's own command line and these options; shown only, with our `--dry-run`."""
        with self.transaction(shown=self.dry) as tx:
            tx.say(*said)
            tx.warn(*warnings)
            tx.become(self.line.with_options(*options) if options else self.line.argv)
        return tx.code

    def transaction(self, *, shown: bool | None = None) -> Transaction:
        """What changes the project: all of it or nothing.

        Only `shown` (None: with our `--dry-run`, and with uv's own, since the edits would be made all the same).
        """
        dry = self.dry or self.line.has("--dry-run") if shown is None else shown
        return Transaction(lambda: self.uv, self.out, dry=dry)

"""What is wrong with a project, why it matters, and what mends it."""

from typing import NamedTuple

from uvtorch import edit

MEND = ("uvtorch", "torch", "doctor", "--fix")
"""The command for what is mended by edits of pyproject.toml and by locking again."""


class Finding(NamedTuple):
    """One thing that is wrong."""

    code: str
    """Stable, for programs: `mixed-builds`."""
    severity: str
    """`error`: an environment does not work, or not everywhere; `warning`: it works by luck, or leaves a GPU idle."""
    message: str
    """What and why it matters, for a person: sentences."""
    command: tuple[str, ...] | None = None
    """The argv of the command that mends it; None where that takes a person's judgement."""
    edits: tuple[edit.Operation, ...] = ()
    """With `command` `MEND`: the edits of pyproject.toml, after which the project is locked again."""
    upgrade: tuple[str, ...] = ()
    """With `command` `MEND`: what the lock must resolve anew: values of `uv lock --upgrade-package`."""

    @property
    def mendable(self) -> bool:
        """Whether `doctor --fix` mends it: by nothing but pyproject.toml and uv.lock."""
        return bool(self.edits or self.upgrade)

    @property
    def touched(self) -> frozenset[object]:
        """What its edits change: two findings that touch the same are mended one after the other."""
        keys: set[object] = set()
        for operation in self.edits:
            match operation:
                case edit.SetSources() | edit.RemoveSources():
                    keys.add(("sources", operation.package))
                case edit.SetIndex() | edit.NameIndex() | edit.RemoveIndex():
                    keys.add(("index", operation.name))
                case _:
                    keys.add(operation)
        return frozenset(keys)

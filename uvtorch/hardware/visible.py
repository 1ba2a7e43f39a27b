"""Which GPUs the environment lets a process see: CUDA_VISIBLE_DEVICES and AMD's variables."""

from collections.abc import Sequence

from uvtorch.hardware import files
from uvtorch.named import NamedTuple


class Visible(NamedTuple):
    """What a variable leaves of a list of GPUs."""

    kept: tuple[int, ...]
    """Positions in the list."""
    certain: bool = True
    """False: the variable names some of the GPUs by an order that is not known, so all of them are kept."""


def select(value: str, uuids: Sequence[str | None], *, ordered: bool, parents: Sequence[str | None] = ()) -> Visible:
    """Apply a variable's value to GPUs with these UUIDs.

    The rules are CUDA's: entries are indexes or UUIDs (a unique beginning is enough), and the first entry that names
    nothing (`-1`, an index too high, a word such as SLURM's `NoDevFiles`) ends the list, so that an empty value hides
    everything. `ordered`: index n means position n. `parents` gives the UUID of the GPU that a MIG slice belongs to.
    """
    kept: list[int] = []
    indexes = 0
    for entry in map(str.strip, value.split(",")):
        if entry.isascii() and entry.isdigit():
            position = int(entry) if len(entry) < 6 else len(uuids)
            if position >= len(uuids):
                break
            indexes += 1
            matches = [position]
        else:
            matches = _named(entry, uuids, parents)
            if not matches:
                break
        kept += [position for position in matches if position not in kept]
    if indexes and not ordered and len(kept) < len(uuids):
        return Visible(tuple(range(len(uuids))), certain=False)
    return Visible(tuple(kept))


def shown(value: str) -> str:
    """A variable's value for a message."""
    return files.plain(value, 80) or "''"


def _named(entry: str, uuids: Sequence[str | None], parents: Sequence[str | None]) -> list[int]:
    """The positions that a UUID names: one, or for the older `MIG-GPU-UUID/instance/...` every slice of that GPU."""
    lower = entry.lower()
    if len(lower) < 5 or not lower.startswith(("gpu-", "mig-")):
        return []
    matches = [position for position, uuid in enumerate(uuids) if uuid and uuid.lower().startswith(lower)]
    if len(matches) == 1:
        return matches
    if lower.startswith("mig-gpu-") and not matches:
        parent = lower[4:].partition("/")[0]
        return [position for position, uuid in enumerate(parents) if uuid and uuid.lower() == parent]
    # The UUID of a whole GPU in MIG mode: CUDA takes its slices.
    return [position for position, uuid in enumerate(parents) if uuid and uuid.lower() == lower]

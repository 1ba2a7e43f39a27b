"""Which GPUs the environment lets a process see: CUDA_VISIBLE_DEVICES and AMD's variables."""

import re
from collections.abc import Sequence

from uvtorch.hardware.programs import plain
from uvtorch.hardware.scene import Scene
from uvtorch.machine import Gpu


def apply(
    scene: Scene, variable: str, gpus: list[Gpu], *, ordered: bool = True, parents: Sequence[str | None] = ()
) -> list[Gpu]:
    """The GPUs of one vendor that a variable leaves (see `select`), with a note of what it does."""
    value = scene.env.get(variable)
    if value is None or not gpus:
        return gpus
    setting, uuids = variable + "=" + (plain(value, 80) or "''"), [gpu.uuid for gpu in gpus]
    if None in uuids and re.search(r"(^|,)\s*(gpu|mig)-", value, re.IGNORECASE):
        scene.notes.append(f"{setting} names GPUs by UUID, which is not known here: all are considered.")
        return gpus
    kept, certain = select(value, uuids, ordered=ordered, parents=parents)
    if not certain:
        scene.notes.append(
            f"{setting} counts GPUs in CUDA's own order, which is not known here: all are considered. "
            "With CUDA_DEVICE_ORDER=PCI_BUS_ID or UUIDs it is."
        )
    elif hidden := len(gpus) - len(kept):
        scene.notes.append(f"{setting} hides {hidden} of {len(gpus)} {gpus[0].vendor.upper()} GPUs.")
    return [gpus[place] for place in kept]


def select(
    value: str, uuids: Sequence[str | None], *, ordered: bool, parents: Sequence[str | None] = ()
) -> tuple[list[int], bool]:
    """The positions that a variable's value keeps of GPUs with these UUIDs, and whether that is certain.

    It is not where GPUs are named by an order that is not known: then all are kept. The rules are CUDA's: entries are
    indexes or UUIDs (a unique beginning is enough; a split GPU's means its slices), and the first entry that names
    nothing (`-1`, an index too high, a word such as SLURM's `NoDevFiles`) ends the list, so that an empty value hides
    everything. `ordered`: index n means position n. `parents` gives the UUID of the GPU that a MIG slice belongs to.
    """
    kept: dict[int, None] = {}
    by_index = False
    known, owners = ([(uuid or "").lower() for uuid in given] for given in (uuids, parents))
    for entry in map(str.strip, value.lower().split(",")):
        index = re.fullmatch("[0-9]{1,5}", entry)
        matches = [int(entry)] if index else _named(entry, known, owners)
        if not matches or matches[0] >= len(uuids):
            break
        by_index |= index is not None
        kept |= dict.fromkeys(matches)
    if by_index and not ordered and len(kept) < len(uuids):
        return list(range(len(uuids))), False
    return list(kept), True


def _named(entry: str, uuids: Sequence[str], parents: Sequence[str]) -> list[int]:
    if not re.match("(gpu|mig)-.", entry):
        return []
    matches = [position for position, uuid in enumerate(uuids) if uuid.startswith(entry)]
    return matches if len(matches) == 1 else [position for position, uuid in enumerate(parents) if uuid == entry]

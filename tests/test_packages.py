"""The lists of names that the door reads: each name once, as the normalized form has it."""

from pathlib import Path

import pytest

import uvtorch
from uvtorch import packages

CATALOG = Path(uvtorch.__file__).parent / "catalog"


@pytest.mark.parametrize("file", ["packages.txt", "dependents.txt"])
def test_every_name_stands_once_and_normalized(file: str) -> None:
    rows = [row.split() for row in (CATALOG / file).read_text(encoding="ascii").splitlines() if row and row[0] != "#"]
    names = [row[0].partition("[")[0] for row in rows]
    assert len(names) == len(set(names))
    assert names == [packages.normalize(name) for name in names]


def test_every_role_is_one_that_is_explained() -> None:
    assert set(packages.roles().values()) == {"pin", "companion", "specific"}
    pinned = {name for name, role in packages.roles().items() if role == "pin"}
    assert {"torch", "torchvision", "torchaudio"} <= pinned
    assert pinned.isdisjoint(packages.dependents())

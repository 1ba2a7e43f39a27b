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
    assert {"torch", "torchvision", "torchaudio"} <= packages.pinned()
    assert packages.pinned().isdisjoint(packages.dependents())


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("Torch_Vision>=0.2", "torch-vision"),
        ("torch [opt-einsum] >= 2 ; sys_platform == 'linux'", "torch"),
        ("torch(>=2)", "torch"),
        ("torch @ https://example.com/torch.whl", None),
        ("git+https://example.com/torch", None),
        ("./torch-2.whl", None),
        ("", None),
    ],
)
def test_only_a_requirement_that_an_index_can_serve_names_a_package(requirement: str, name: str | None) -> None:
    assert packages.named_by(requirement) == name

"""The lists of names that the door reads, and what it tells from names and from a file without reading TOML."""

from pathlib import Path

import pytest

import uvtorch
from uvtorch import packages
from uvtorch.argv import parse
from uvtorch.command import Command
from uvtorch.steps.watch import names_pytorch

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


SOURCES = """\
[project]
name = "demo"

[tool.uv.sources]
torch = [{ index = "pt", marker = "sys_platform == 'linux'" }]
torchvision = [
  { index = "pt", marker = "sys_platform == 'linux'" },
]
torchaudio = { git = "https://example.com/audio" }
flash-attn = { index = "pt" }

[tool.uv]
torchcodec = { index = "pt" }
"""


def test_plain_pins_are_seen_without_reading_toml() -> None:
    assert packages.pinned_in(SOURCES.encode()) == {"torch", "torchvision", "flash-attn"}


@pytest.mark.parametrize("words", ["add torch", "add torch torchvision", "add torch requests", "add requests"])
def test_the_bare_names_of_pins_leave_nothing_to_choose(words: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(SOURCES)
    assert not names_pytorch(Command(parse(words.split()), {"UV_PROJECT": str(tmp_path)}))


@pytest.mark.parametrize(
    "words",
    [
        "add torchvision",
        "add torch>=2.9",
        "add torch torch[opt-einsum]",
        "add torch torchaudio",
        "add torch torchcodec",
        "add torch flash-attn",
        "add torch --dev",
        "add torch --dry-run",
        "remove torch",
    ],
)
def test_any_other_words_are_for_the_verb(words: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(SOURCES)
    assert names_pytorch(Command(parse(words.split()), {"UV_PROJECT": str(tmp_path)}))
    assert names_pytorch(Command(parse(["add", "torch"]), {"UV_PROJECT": str(tmp_path), "UV_TORCH_BACKEND": "cpu"}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sys_platform == 'linux'", "sys_platform == 'Linux'"),  # true nowhere
        ('index = "pt", marker', 'index = "pt", extra = "gpu", marker'),
        ('index = "pt", marker', 'index = "pt", group = "gpu", marker'),
        ('{ git = "https://example.com/audio" }', '{ path = "audio" }  # index = "pt"'),
        ("[tool.uv]\n", "[tool.uvtorch]\n"),
        ("[tool.uv]\n", '[dependency-groups]\nuvtorch = ["torchvision"]\n'),
        ("[tool.uv.sources]\n", "[ tool.uv.sources ]\n"),
        ("\n", "\r\n"),
    ],
)
def test_pins_that_need_a_closer_look_are_not(old: str, new: str) -> None:
    assert old in SOURCES
    assert not packages.pinned_in(SOURCES.replace(old, new).encode())

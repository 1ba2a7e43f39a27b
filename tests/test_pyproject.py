"""PyProject beyond its edits: when tomlkit is loaded, what the guards refuse, and where a script's anchors go."""

import subprocess
import sys
import tomllib

import pytest
import tomlkit
from tomlkit.items import Array

from tests.edits import AddRequirement, RemoveRequirement, SetIndex, apply
from uvtorch.backend import DEFAULT_INDEX_BASE
from uvtorch.edits import withdraw
from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS
from uvtorch.project import document, read
from uvtorch.project.model import Target
from uvtorch.project.pyproject import PyProject

RAW = b'[project]\ndependencies = [\n  "torch",\n  # arrays\n  "numpy", # fast\n]\n'
ASKED = """
import sys
from uvtorch.project.model import Target
from uvtorch.project.pyproject import PyProject
project = PyProject(b'[project]\\ndependencies = ["torch"]\\n')
project.add_requirement(Target("base"), sys.argv[1])
project.render()
print("tomlkit" in sys.modules)
"""


@pytest.mark.parametrize(("requirement", "loaded"), [("torch", "False"), ("numpy", "True")])
def test_tomlkit_is_loaded_for_a_change_only(requirement: str, loaded: str) -> None:
    run = subprocess.run([sys.executable, "-c", ASKED, requirement], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == loaded


def test_what_tomlkit_cannot_take_is_refused_with_the_table_to_rewrite(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> None:
        raise TypeError("unexpected")

    monkeypatch.setattr(tomlkit, "value", fail)
    with pytest.raises(
        ProjectError, match=r"^cannot edit p\.toml without harm: project\.dependencies cannot"
    ) as caught:
        apply(RAW, [RemoveRequirement(Target("base"), "numpy")], "p.toml")
    assert "project.dependencies" in caught.value.hints[0]


def test_a_value_that_tomlkit_writes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Array, "as_string", lambda _: '[\n  "torch",\n  # arrays\n  "numpy",\n]')
    with pytest.raises(ProjectError, match="would not be kept as it is"):
        apply(RAW, [RemoveRequirement(Target("base"), "numpy")])


def test_a_result_of_another_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "written", lambda *_, **__: '"rich"')
    with pytest.raises(ProjectError, match="would not mean what was asked"):
        apply(RAW, [AddRequirement(Target("base"), "scipy")])


def test_anchors_of_a_script_stand_among_its_dependencies() -> None:
    raw, anchors = b"# /// script\n# dependencies = []\n# ///\n", Target("group", ANCHORS)
    there = apply(raw, [AddRequirement(anchors, "torch")], script=True)
    assert there == raw.replace(b"[]", b'[\n#     "torch",\n# ]')
    assert apply(there, [RemoveRequirement(anchors, "torch")], script=True) == raw.replace(b"[]", b"[\n# ]")


def test_an_index_may_be_a_page_of_links() -> None:
    raw = apply(b"", [SetIndex("a", "https://example.com/a", flat=True)])
    assert raw == b'[[tool.uv.index]]\nname = "a"\nurl = "https://example.com/a"\nformat = "flat"\nexplicit = true\n'


def test_an_index_without_a_name_gets_one() -> None:
    raw = b'[[tool.uv.index]]\nurl = "https://example.com/a/"\n'
    named = apply(raw, [SetIndex("a", "https://example.com/a")])
    assert named == raw + b'name = "a"\nexplicit = true\n'
    assert apply(named, [SetIndex("b", "https://example.com/a")]).startswith(named)


def test_the_conflicts_of_a_workspaces_root_stay_there() -> None:
    member = b"""\
[project]
name = "member"
dependencies = ["six"]
optional-dependencies = { cpu = ["torch"], cu126 = ["torch"] }

[tool.uv]
conflicts = [[{ extra = "cpu" }, { extra = "cu126" }], [{ extra = "x", package = "other" }, { group = "y" }]]
sources.torch = [{ index = "pytorch-cpu", extra = "cpu" }, { index = "pytorch-cu126", extra = "cu126" }]
index = [
    { name = "pytorch-cpu", url = "https://download.pytorch.org/whl/cpu", explicit = true },
    { name = "pytorch-cu126", url = "https://download.pytorch.org/whl/cu126", explicit = true },
]
"""
    root = {"project": {"name": "root"}, "tool": {"uv": {"conflicts": [[{"extra": "a"}, {"extra": "b"}]]}}}
    file = PyProject(member)
    withdraw(file, read(tomllib.loads(member.decode()), root), DEFAULT_INDEX_BASE)
    after = tomllib.loads(file.render().decode())
    assert after["tool"]["uv"]["conflicts"] == [[{"extra": "x", "package": "other"}, {"group": "y"}]]
    assert after["project"]["dependencies"] == ["six", "torch"]

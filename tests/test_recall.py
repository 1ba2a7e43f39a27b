"""What `--auto` came to is remembered beside the environment, and forgotten as soon as anything it rests on changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import Done, Project

pytest_plugins = ["tests.index.fixtures"]

CHOICES = """\
[project]
name = "demo"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = []

[project.optional-dependencies]
cpu = ["torch"]
cu126 = ["torch"]

[tool.uv]
conflicts = [[{ extra = "cpu" }, { extra = "cu126" }]]

[tool.uv.sources]
torch = [{ index = "pytorch-cpu", extra = "cpu" }, { index = "pytorch-cu126", extra = "cu126" }]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "BASE/cpu"
explicit = true

[[tool.uv.index]]
name = "pytorch-cu126"
url = "BASE/cu126"
explicit = true
"""
AUTO = ("sync", "--auto")


@pytest.fixture
def settled(empty: Callable[[str], Project]) -> Project:
    """A project of two choices, synced, whose choice is remembered."""
    project = empty(CHOICES)
    project.uvtorch("sync", "--auto").must()
    project.uvtorch(*AUTO).must()
    assert record(project).is_file()
    return project


def record(project: Project) -> Path:
    return project.path / ".venv" / ".uvtorch-sync"


def recalled(project: Project, *args: str, machine: str = "cpu-only", **env: str) -> tuple[bool, Done]:
    """Run it; whether the project was not read for it, and how it ended."""
    done = project.uvtorch(*args, machine=machine, PYTHONPROFILEIMPORTTIME="1", **env).must()
    lines = [row for row in done.err.splitlines() if not row.startswith("import time:")]
    read = any(row.startswith("import time:") and row.endswith(" tomllib") for row in done.err.splitlines())
    return not read, Done(done.code, done.out, "\n".join(lines))


def test_the_same_command_is_not_worked_out_again(settled: Project) -> None:
    first = settled.uvtorch(*AUTO).must()
    again, done = recalled(settled, *AUTO)
    assert again
    assert done.ours == first.ours == ["uvtorch: using --extra cpu (cpu, torch 2.15.0): no GPU"]


def test_run_is_remembered_whatever_it_runs(settled: Project) -> None:
    command = ("run", "--auto", "python", "-c")
    settled.uvtorch(*command, "print(1)").must()
    settled.uvtorch(*AUTO).must()
    again, done = recalled(settled, *command, "import torch; print(torch.__version__)")
    assert again
    assert done.out == "2.15.0+cpu\n"


def touch_the_manifest(project: Project) -> None:
    project.append("\n# a comment\n")


def touch_the_lock(project: Project) -> None:
    os.utime(project.path / "uv.lock", ns=(1, 1))


def name_a_python(project: Project) -> None:
    (project.path / ".python-version").write_text("3.11\n")


def break_the_record(project: Project) -> None:
    record(project).write_bytes(record(project).read_bytes()[:-20])


def scramble_the_record(project: Project) -> None:
    record(project).write_bytes(b"\xff\xfe\n" * 3)


@pytest.mark.parametrize(
    "change", [touch_the_manifest, touch_the_lock, name_a_python, break_the_record, scramble_the_record]
)
def test_a_changed_file_is_read(settled: Project, change: Callable[[Project], None]) -> None:
    change(settled)
    again, done = recalled(settled, *AUTO)
    assert not again
    assert done.ours == ["uvtorch: using --extra cpu (cpu, torch 2.15.0): no GPU"]


def test_another_machine_makes_another_choice(settled: Project) -> None:
    again, done = recalled(settled, *AUTO, machine="h100-570")
    assert not again
    assert "--extra cu126" in done.ours[0]


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (("sync", "--auto", "--no-extra", "cpu"), {}),
        (("sync", "--torch-backend", "cu126"), {}),
        (AUTO, {"UV_TORCH_BACKEND": "cu126"}),
        (AUTO, {"UV_PYTHON_PREFERENCE": "system"}),
    ],
)
def test_other_options_and_variables_are_another_question(
    settled: Project, args: tuple[str, ...], env: dict[str, str]
) -> None:
    assert not recalled(settled, *args, **env)[0]


def test_a_script_with_metadata_is_no_business_of_the_project_s(settled: Project) -> None:
    script = settled.path / "script.py"
    script.write_text("print(1)\n")
    settled.uvtorch("run", "--auto", "script.py").must()
    assert recalled(settled, "run", "--auto", "script.py")[0]
    script.write_text("# /// script\n# dependencies = []\n# ///\nprint(2)\n")
    again, done = recalled(settled, "run", "--auto", "script.py")
    assert not again
    assert done.out == "2\n"


def test_a_record_that_cannot_be_written_is_no_harm(settled: Project) -> None:
    record(settled).unlink()
    record(settled).mkdir()
    again, done = recalled(settled, *AUTO)
    assert not again
    assert "--extra cpu" in done.ours[0]


def test_a_project_within_a_workspace_is_not_remembered(settled: Project) -> None:
    record(settled).unlink()
    above = settled.path.parent / "pyproject.toml"
    workspace = f'[tool.uv.workspace]\nmembers = ["{settled.path.name}"]\n'
    above.write_text('[project]\nname = "above"\nversion = "1"\n' + workspace)
    try:
        settled.uvtorch(*AUTO).must()
        assert not record(settled).exists()
        above.write_text(above.read_text().replace(workspace, ""))
        settled.uvtorch(*AUTO).must()
        assert record(settled).exists()
    finally:
        above.unlink()

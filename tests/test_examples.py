"""Each example in a copy: its commands are typed as its README has them, in one shell."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.index.project import Project, Shell
from tests.test_documentation import blocks

pytest_plugins = ["tests.index.fixtures"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the examples are typed into sh")

EXAMPLES = Path(__file__).parents[1] / "examples"
TYPED = ("several-backends", "workspace", "script", "library", "notebook", "makefile", "docker", "ci")
EXPECTED = {
    "several-backends": {"whl/cpu", "whl/cu126", "whl/cu130"},
    "workspace": {"whl/cpu"},
    "library": {"whl/cpu", "whl/cu126"},
    "notebook": {"whl/cu130"},
    "makefile": {"whl/cpu", "whl/cu126"},
    "docker": {"whl/cpu", "whl/cu126"},
    "ci": {"whl/cpu", "whl/cu126"},
}


def at_home(project: Project) -> None:
    """PyTorch's indexes on this machine."""
    text = project.file.read_text(encoding="utf-8") if project.file.exists() else ""
    if text:
        project.file.write_text(text.replace("https://download.pytorch.org/whl", project.home.server.base))


@pytest.mark.parametrize("name", TYPED)
def test_the_commands_work(name: str, project: Project, shell: Shell) -> None:
    if name == "makefile" and not shutil.which("make"):
        pytest.skip("there is no make")
    shutil.rmtree(project.path)
    shutil.copytree(EXAMPLES / name, project.path)
    # The default index of the tests has neither Jupyter nor a build backend, and its torch only a version.
    lines = [
        row.removeprefix("$ ")
        for block in blocks((EXAMPLES / name / "README.md").read_text(encoding="utf-8"), "console")
        for row in block.splitlines()
        if not row.startswith(("$ uv run --with jupyter", "$ uv build"))
    ]
    for path in (project.path / "gpus.py", project.path / "train.py"):
        if path.exists():
            head = path.read_text(encoding="utf-8").partition('"""')[0]
            path.write_text(f"{head}import torch\n", encoding="utf-8")
    at_home(project)
    shell(project, "\n".join(lines))
    if name in EXPECTED:
        indexes = {index for package in ("torch",) for _, index in project.locked()[package]}
        assert indexes - {"simple"} == EXPECTED[name]


def test_every_example_is_short_and_says_what_it_is() -> None:
    for folder in EXAMPLES.iterdir():
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert len(text.splitlines()) < 80, folder.name
    assert {path.name for path in EXAMPLES.iterdir()} >= {"quickstart", "fleet", *TYPED}


def test_the_notebook_is_one() -> None:
    data = json.loads((EXAMPLES / "notebook" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert data["nbformat"] == 4
    for cell in data["cells"]:
        compile("".join(cell["source"]), "notebook", "exec")


def test_images_for_machines_that_are_not_here(project: Project) -> None:
    """The Dockerfile's command line, for each machine; the files that are copied are there."""
    shutil.rmtree(project.path)
    shutil.copytree(EXAMPLES / "docker", project.path)
    at_home(project)
    project.uvtorch("lock").must()
    before = project.state()
    docker = (project.path / "Dockerfile").read_text(encoding="utf-8")
    (run,) = re.findall(r"^RUN UVTORCH_HARDWARE=\$\{MACHINE\} uvtorch (.*)$", docker, re.MULTILINE)
    for machine, build in (("cpu", "2.15.0+cpu"), ("gpu", "2.14.1+cu126")):
        for row in re.findall(r"^COPY (?!--from)(.*) \./$", docker, re.MULTILINE):
            assert all((project.path / name.replace("${MACHINE}", f"{machine}.json")).is_file() for name in row.split())
        project.uvtorch(*run.split(), UVTORCH_HARDWARE=f"{machine}.json").must()
        assert project.installed()["torch"] == build
    assert project.state() == before


def test_what_ci_runs(project: Project) -> None:
    shutil.rmtree(project.path)
    shutil.copytree(EXAMPLES / "ci", project.path)
    at_home(project)
    project.uvtorch("lock").must()
    (project.path / "train.py").write_text("import torch\n")
    before = project.state()
    workflow = (project.path / "ci.yml").read_text(encoding="utf-8")
    commands = re.findall(r"- run: uvtorch (.*)$", workflow, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        project.uvtorch(*command.split()).must()
    assert project.installed()["torch"] == "2.15.0+cpu"
    assert project.state() == before


def test_no_example_takes_uvtorch_from_an_index() -> None:
    """It is on none: what installs it by name would install somebody else's package."""
    for path in EXAMPLES.rglob("*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert not re.search(r"(pip|tool) install[^\n]*[ \"']uvtorch\b", text), path

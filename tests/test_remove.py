"""`uvtorch remove` in projects with one pin; `test_several` has those with several backends."""

from collections.abc import Callable

from tests.index.project import Project

pytest_plugins = ["tests.index.fixtures"]

Make = Callable[[str], Project]
HEAD = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\n'


def test_what_only_the_package_needed_goes_with_it(empty: Make) -> None:
    project = empty(HEAD + 'dependencies = ["numpy"]\n')
    before = project.data
    project.uvtorch("add", "torchvision", "--no-sync", machine="mi300x-gfx942").must()
    project.uvtorch("remove", "torchvision", "--no-sync").must()
    data = project.data
    assert data["project"] == before["project"]
    assert not data.get("dependency-groups")
    assert not data.get("tool", {}).get("uv", {}).get("sources")
    assert set(project.locked()) == {"numpy"}


def test_torch_is_still_needed_by_what_stays(empty: Make) -> None:
    project = empty(HEAD + "dependencies = []\n")
    project.uvtorch("add", "torch", "torchvision", "--no-sync", machine="rtx4090-550").must()
    project.uvtorch("remove", "torch", machine="rtx4090-550").must()
    assert project.data["project"]["dependencies"] == ["torchvision>=0.29.1"]
    assert project.installed()["torch"] == "2.14.1+cu126"
    project.check("cu126")


def test_a_package_that_is_not_there_is_uvs_error_and_changes_nothing(empty: Make) -> None:
    project = empty(HEAD + 'dependencies = ["torch"]\n')
    project.uvtorch("torch", "use", "cu126").must()
    before = project.state()
    done = project.uvtorch("remove", "torchvision")
    assert done.code == 2
    assert "torchvision" in done.err
    assert project.state() == before


def test_other_packages_are_uvs_affair(empty: Make) -> None:
    project = empty(HEAD + 'dependencies = ["torch", "numpy"]\n')
    project.uvtorch("torch", "use", "cu126").must()
    sources = project.data["tool"]
    project.uvtorch("remove", "numpy", "--no-sync").must()
    assert project.data["project"]["dependencies"] == ["torch"]
    assert project.data["tool"] == sources


def test_a_dry_run_shows_and_changes_nothing(empty: Make) -> None:
    project = empty(HEAD + 'dependencies = ["torch", "torchvision"]\n')
    project.uvtorch("torch", "use", "cu126").must()
    before = project.state()
    done = project.uvtorch("remove", "torch", "--dry-run").must()
    assert "$ uv remove torch\n" in done.out
    assert project.state() == before


def test_a_failure_leaves_every_byte(empty: Make) -> None:
    project = empty(HEAD + 'dependencies = ["torch", "numpy"]\n')
    project.uvtorch("torch", "use", "cu126").must()
    before = project.state()
    assert project.uvtorch("remove", "torch", "no-such-package").code != 0
    assert project.state() == before

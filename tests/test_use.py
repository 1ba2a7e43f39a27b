"""`uvtorch torch use` on the real uv: one pin, taken elsewhere with all that belongs to it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import Home, Project
from tests.test_command_lines import lay_out

pytest_plugins = ["tests.index.fixtures"]

Make = Callable[[str], Project]
LINUX = "sys_platform == 'linux' and platform_machine == 'x86_64'"
LINUX_WINDOWS = "sys_platform == 'linux' or sys_platform == 'win32'"


def fresh(*packages: str) -> str:
    listed = ", ".join(f'"{name}"' for name in packages)
    return f'[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = [{listed}]\n'


def indexes(project: Project) -> list[str]:
    return [index["name"] for index in project.data["tool"]["uv"]["index"]]


def test_every_package_moves_and_nothing_of_the_old_pin_stays(empty: Make) -> None:
    project = empty(fresh("torch", "torchvision", "torchaudio", "numpy"))
    project.uvtorch("torch", "use", "cu126").must()
    project.check("cu126")
    first, locked = project.file.read_bytes(), project.locked()
    project.uvtorch("torch", "use", "rocm7.2").must()
    data = project.data
    assert data["dependency-groups"] == {"uvtorch": [f"triton-rocm ; {LINUX}"]}
    assert data["tool"]["uv"]["sources"] == {
        name: [{"index": "pytorch-rocm7.2", "marker": LINUX}]
        for name in ("torch", "torchvision", "torchaudio", "triton-rocm")
    }
    assert indexes(project) == ["pytorch-rocm7.2"]
    project.check("rocm7.2", "--no-install-project")
    project.uvtorch("torch", "use", "cu126").must()
    assert (project.file.read_bytes(), project.locked()) == (first, locked)
    assert project.data["project"]["dependencies"] == ["torch", "torchvision", "torchaudio", "numpy"]


def test_what_to_run_next_is_told_and_works(empty: Make) -> None:
    project = empty(fresh("torch"))
    done = project.uvtorch("torch", "use", "cpu", "--project", ".").must()
    assert done.ours[-1] == "uvtorch: next: `uv sync --project .` installs it"
    project.uv("sync").must()
    assert project.installed()["torch"].endswith("+cpu")


def test_the_same_again_changes_no_byte(empty: Make) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "use", "cu128").must()
    before = project.state()
    project.uvtorch("torch", "use", "cu128").must()
    assert project.state() == before


@pytest.mark.parametrize(
    ("machine", "index"),
    [
        ("cpu-only", "pytorch-cpu"),
        ("rtx4090-550", "pytorch-cu126"),
        ("h200-580", "pytorch-cu130"),
        ("arc-b580", "pytorch-xpu"),
    ],
)
def test_auto_takes_what_fits_whatever_was_pinned(empty: Make, machine: str, index: str) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "use", "rocm7.2").must()
    done = project.uvtorch("torch", "use", "auto", machine=machine).must()
    assert indexes(project) == [index]
    assert done.ours[0].startswith(f"uvtorch: using {index.removeprefix('pytorch-')} (torch ")
    project.uv("lock", "--check").must()


def test_a_backend_for_another_machine_is_obeyed_with_a_warning(empty: Make) -> None:
    project = empty(fresh("torch"))
    done = project.uvtorch("torch", "use", "cu130", machine="rtx4090-550").must()
    assert "warning: cu130 will not run on this machine: torch 2.15.0 needs a driver >= 580" in done.err
    assert indexes(project) == ["pytorch-cu130"]


def test_a_dry_run_shows_and_changes_nothing(empty: Make) -> None:
    project = empty(fresh("torch"))
    before = project.state()
    done = project.uvtorch("torch", "use", "cu126", "--dry-run", machine="rtx4090-550").must()
    assert done.out.splitlines()[0] == "# using cu126 (torch 2.14.1): asked for"
    assert f'+torch = [{{ index = "pytorch-cu126", marker = "{LINUX_WINDOWS}" }}]' in done.out
    assert done.out.endswith("$ uv lock\n")
    assert project.state() == before


def test_a_lock_that_fails_leaves_everything_as_it_was(empty: Make) -> None:
    project = empty(fresh("torch==2.15.0"))
    project.uvtorch("torch", "use", "cpu").must()
    before = project.state()
    assert project.uvtorch("torch", "use", "cu126").code == 1
    assert project.state() == before


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        (fresh("numpy"), ["cpu"], "requires no PyTorch package"),
        (fresh("torch"), ["cuda"], "torch use: `cuda` is not a backend"),
        (fresh("torch"), [], "missing argument"),
        (fresh("torch"), ["cpu", "cu126"], "unexpected extra argument"),
    ],
)
def test_what_cannot_be_is_one_error(empty: Make, text: str, words: list[str], says: str) -> None:
    project = empty(text)
    before = project.state()
    done = project.uvtorch("torch", "use", *words).must(2)
    assert done.err.startswith("error: ")
    assert says in done.err
    assert project.state() == before


def test_no_project_is_one_error(home: Home, tmp_path: Path) -> None:
    done = Project(home, tmp_path).uvtorch("torch", "use", "cpu").must(2)
    assert done.err.startswith("error: no `pyproject.toml` found in")


def test_several_backends_are_made_one(home: Home, tmp_path: Path) -> None:
    """No one-way street: the choices go with their conflicts, and no empty table is left."""
    project = Project(home, lay_out("extras-documented", tmp_path))
    project.uvtorch("torch", "use", "none").must(2)
    project.uvtorch("torch", "use", "cpu").must()
    assert "conflicts" not in project.data["tool"]["uv"]
    assert "optional-dependencies" not in project.data["project"]
    assert {version.partition("+")[2] for version, _ in project.locked()["torch"]} <= {"cpu", ""}
    project.uv("lock", "--check").must()


def test_the_index_of_a_choice_that_becomes_the_pin_is_not_touched(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("extras-documented", tmp_path))
    project.write(
        project.text.replace("https://download.pytorch.org/whl", "BASE").replace('cu128"\n', 'cu128" # ours\n')
    )
    tables = project.data["tool"]["uv"]["index"]
    project.uvtorch("torch", "use", "cu128").must()
    assert 'name = "pytorch-cu128" # ours\n' in project.text
    assert project.data["tool"]["uv"]["index"] == tables[1:]


def test_a_pin_can_be_taken_out(empty: Make) -> None:
    project = empty(fresh("torch"))
    before = project.text
    project.uvtorch("torch", "use", "cu126").must()
    project.uvtorch("torch", "use", "none").must()
    assert project.text == before
    project.uv("lock", "--check").must()
    done = project.uvtorch("torch", "use", "none").must()
    assert done.ours == ["uvtorch: no PyTorch package is pinned here"]


def test_a_repository_as_source_is_not_replaced(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("torch-from-a-repository", tmp_path))
    before = project.state()
    done = project.uvtorch("torch", "use", "cpu").must(2)
    assert "takes torch from https://github.com/pytorch/pytorch, which a pin would replace" in done.err
    assert project.state() == before


def test_a_broken_driver_is_an_error_for_auto_alone(empty: Make) -> None:
    project = empty(fresh("torch"))
    assert "error: NVIDIA: " in project.uvtorch("torch", "use", "auto", machine="broken-mismatch").must(2).err
    project.uvtorch("torch", "use", "cu126", machine="broken-mismatch").must()


# Mirrors


def test_one_command_moves_a_project_to_a_mirror_where_it_stays(empty: Make) -> None:
    project = empty(fresh("torch", "numpy"))
    server, own = project.home.server, {"UVTORCH_INDEX_BASE": ""}
    project.uvtorch("torch", "use", "cu126").must()
    before = project.text
    done = project.uvtorch("torch", "use", "--index-base", f"{server.url}/mirror/", **own).must()
    assert done.ours == [f"uvtorch: PyTorch comes from {server.url}/mirror/ now"]
    assert ("2.14.1+cu126", "mirror/cu126") in project.locked()["torch"]
    project.uv("lock", "--check").must()
    project.uvtorch("torch", "use", "cpu", **own).must()  # another build, of the same mirror
    assert {index for _, index in project.locked()["torch"]} == {"mirror/cpu"}
    project.uvtorch("torch", "use", "cu126", "--index-base", server.base, **own).must()
    assert project.text == before


def test_choices_and_the_configuration_move_with_it(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("extras-documented", tmp_path))
    project.append('\n[tool.uvtorch]\nindex-base = "https://mirror.example.com/old"\n')
    base = f"{home.server.url}/mirror"
    project.uvtorch("torch", "use", "--index-base", base).must()
    assert {index["url"].rpartition("/")[0] for index in project.data["tool"]["uv"]["index"]} == {base}
    assert project.data["tool"]["uvtorch"]["index-base"] == base


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("HOST/flat", "is a flat page of links, not an index: it has no page for each package"),
        ("HOST/login", "is no index that has torch: its page for torch lists no wheel"),
        ("HOST/nowhere", "is no index that has torch: its page for torch lists no wheel"),
        ("HOST/whl/none", "returned a 403 Forbidden error"),
        ("HOST/down", "500 Internal Server Error"),
        ("http://127.0.0.1:9/whl", "Connection refused"),
        ("https://me:secret@mirror.example.com/whl", "holds credentials"),
        ("mirror.example.com", "is not a URL"),
    ],
)
def test_what_is_no_mirror_is_refused_with_the_reason(empty: Make, base: str, says: str) -> None:
    project = empty(fresh("torch") + PIN)
    before = project.state()
    base = base.replace("HOST", project.home.server.url)
    done = project.uvtorch("torch", "use", "--index-base", base, UV_HTTP_RETRIES="0").must(2)
    assert says in done.err.splitlines()[0]
    assert "secret" not in done.err
    assert project.state() == before


PIN = """
[tool.uv.sources]
torch = { index = "pytorch-cu126" }

[[tool.uv.index]]
name = "pytorch-cu126"
url = "BASE/cu126"
explicit = true
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["auto", "--index-base", "HOST/flat"], "/flat/cpu is a flat page of links"),
        (["--index-base", "HOST/mirror"], "names no index of PyTorch's"),
        (["none", "--index-base", "HOST/mirror"], "`none` takes the indexes out, and --index-base names one"),
    ],
)
def test_a_mirror_for_what_is_not_pinned(empty: Make, words: list[str], says: str) -> None:
    project = empty(fresh("torch"))
    before = project.state()
    done = project.uvtorch("torch", "use", *(word.replace("HOST", project.home.server.url) for word in words)).must(2)
    assert says in done.err.splitlines()[0]
    assert project.state() == before


# What a pin means later, and for others


def test_an_upgrade_keeps_the_pin_and_names_the_way_to_a_newer_torch(empty: Make) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "use", "cu126").must()
    before = project.text
    for words in (["--upgrade"], ["-P", "torch"]):
        done = project.uvtorch("lock", *words, machine="h200-580").must()
        assert done.ours == [
            "uvtorch: torch 2.15.0 is not on the index of cu126, where the project is pinned;"
            " `uvtorch torch use auto` moves it"
        ]
        assert project.text == before
    assert project.uvtorch("lock", "-P", "numpy", machine="h200-580").must().ours == []
    assert project.uvtorch("lock", "--upgrade", machine="rtx4090-550").must().ours == []  # it cannot run there
    project.file.write_text(project.file.read_text().replace('"torch"]', '"torch<2.12"]'))
    assert project.uvtorch("lock", "--upgrade", machine="h200-580").must().ours == []  # nor is it asked for


def test_a_published_project_is_told_once_what_the_pin_is_for(empty: Make) -> None:
    built = '\n[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n[tool.uv]\npackage = false\n'
    project = empty(fresh("torch").replace("dependencies", 'license = "MIT"\ndependencies') + built)
    hint = "the pin is for development: sources are not published, so users install the build that fits them"
    assert f"uvtorch: {hint}" in project.uvtorch("torch", "use", "cu126").must().ours
    assert hint not in project.uvtorch("torch", "use", "cpu").must().err
    private = empty(project.text.replace("license = ", 'classifiers = ["Private :: Do Not Upload"]\nlicense = '))
    private.uvtorch("torch", "use", "none").must()
    assert hint not in private.uvtorch("torch", "use", "cpu").must().err

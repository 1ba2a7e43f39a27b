"""PyTorch that other packages bring along, with the real uv: the right build, no trace elsewhere, and no cost."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import MACHINES, Project
from tests.index.wheels import Wheel
from tests.recording_uv import RecordingUv
from tests.situations import choices

pytest_plugins = ["tests.index.fixtures"]

Empty = Callable[[str], Project]

BEFORE_3_14 = pytest.mark.skipif(sys.version_info >= (3, 14), reason="torch 2.8 has no wheels for this Python")
BARE = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = []\n'


def anchors(project: Project) -> list[str] | None:
    found: list[str] | None = project.data.get("dependency-groups", {}).get("uvtorch")
    return found


def sources(project: Project) -> set[str]:
    return set(project.data.get("tool", {}).get("uv", {}).get("sources", {}))


def indexes(project: Project) -> list[str]:
    return [row["name"] for row in project.data.get("tool", {}).get("uv", {}).get("index", [])]


def fetched(project: Project, since: int) -> list[str]:
    """The wheels of PyTorch's packages that were downloaded from the default index."""
    rows = project.home.server.requests[since:]
    return [row for row in rows if row.startswith("/simple/torch") and row.endswith(".whl")]


# The first PyTorch package of a project is another package's


@pytest.mark.parametrize(
    ("requirement", "machine", "backend", "torch", "brought"),
    [
        ("timm", "cpu-only", "cpu", "2.15.0", ["torch", "torchvision"]),
        ("timm", "h200-580", "cu130", "2.15.0", ["torch", "torchvision"]),
        ("timm", "h100-535", "cu126", "2.14.1", ["torch", "torchvision"]),
        ("timm", "mi300x-gfx942", "rocm7.2", "2.14.1", ["torch", "torchvision"]),
        ("timm", "arc-b580", "xpu", "2.15.0", ["torch", "torchvision"]),
        ("any-models", "h200-580", "cu130", "2.15.0", ["torch", "torchvision"]),
        pytest.param("old-models", "h100-570", "cu128", "2.8.0", ["torch", "torchvision"], marks=BEFORE_3_14),
        ("capped-models", "h200-580", "cu130", "2.11.0", ["torch", "torchvision"]),
        ("sound-models", "h200-580", "cu130", "2.15.0", ["torch", "torchaudio", "torchvision"]),
        ("transformers[torch]", "h200-580", "cu130", "2.15.0", ["torch"]),
        ("accelerate", "h100-535", "cu126", "2.14.1", ["torch"]),
    ],
)
def test_it_is_taken_from_the_index_that_serves_the_machine(
    project: Project, requirement: str, machine: str, backend: str, torch: str, brought: list[str]
) -> None:
    done = project.uvtorch("add", requirement, machine=machine).must()
    companion = {"rocm7.2": ["triton-rocm"], "xpu": ["triton-xpu"]}.get(backend, [])
    named = anchors(project)
    assert named is not None
    assert [row.split(" ")[0].split("<")[0] for row in named] == [*brought, *companion]
    assert sources(project) == {*brought, *companion}
    assert indexes(project) == [f"pytorch-{backend}"]
    (dependency,) = project.data["project"]["dependencies"]
    assert dependency.startswith(requirement)
    assert project.installed()["torch"] == f"{torch}+{backend}"
    (said,) = done.ours
    assert said.startswith(f"uvtorch: {', '.join(sorted(brought))} came along: using {backend} (torch {torch}")
    project.check(backend)

    before = project.state()
    again = project.uvtorch("add", requirement, machine=machine).must()
    assert project.state() == before
    assert not again.ours


@pytest.mark.parametrize(("machine", "backend"), [("macos-m3", None), ("windows-rtx5090-572", "cu128")])
def test_other_systems_than_this_one(project: Project, machine: str, backend: str | None) -> None:
    """A Mac pins nothing: PyPI's wheel is right there, and it says nothing about the others' machines."""
    project.uvtorch("add", "timm", machine=machine).must()
    assert anchors(project) == (["torch", "torchvision"] if backend else None)
    project.check(backend)


def test_a_nightly_channel_brings_its_triton(project: Project) -> None:
    initial = project.text
    project.uvtorch("add", "timm", "--torch-backend", "nightly/cu130", machine="h200-580").must()
    assert sources(project) == {"torch", "torchvision", "triton"}
    assert ".dev" in project.installed()["torch"]
    project.uv("lock", "--check").must()
    project.uvtorch("remove", "timm").must()
    assert project.text == initial


def test_the_packages_extra_decides(project: Project) -> None:
    done = project.uvtorch("add", "transformers", machine="broken-mismatch").must()
    assert not done.err.count("uvtorch")
    assert anchors(project) is None
    project.check(None)


def test_what_is_published_has_no_trace_of_it(project: Project) -> None:
    plain = project.uv("add", "timm==1.0.22", "--frozen").must()
    assert plain.code == 0
    project.uv("build", "--wheel", "--out-dir", "plain").must()
    project.uvtorch("add", "timm==1.0.22", machine="h200-580").must()
    assert anchors(project) == ["torch", "torchvision"]
    project.uv("build", "--out-dir", "ours").must()

    def metadata(folder: str) -> str:
        (path,) = (project.path / folder).glob("*.whl")
        with zipfile.ZipFile(path) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            return wheel.read(name).decode()

    assert metadata("ours") == metadata("plain")
    assert "Requires-Dist: timm==1.0.22\n" in metadata("ours")
    assert "Requires-Dist: torch" not in metadata("ours")


def test_a_known_dependent_is_never_installed_with_the_wrong_build(project: Project) -> None:
    since = len(project.home.server.requests)
    project.uv("cache", "clean", "torch", "torchvision").must()
    project.uvtorch("add", "timm", "transformers", machine="h200-580").must()
    assert fetched(project, since) == []
    assert project.installed()["torch"] == "2.15.0+cu130"


def test_an_unknown_dependent_is_mended(project: Project) -> None:
    project.uv("cache", "clean", "torch", "torchvision").must()
    since = len(project.home.server.requests)
    done = project.uvtorch("add", "any-models", machine="h200-580").must()
    assert fetched(project, since) != []  # found in the lock only after uv had installed it, once
    assert project.installed()["torch"] == "2.15.0+cu130"
    assert "came along" in done.err


@pytest.mark.parametrize("how", ["option", "variable", "configuration"])
def test_a_backend_that_is_named_is_taken(project: Project, how: str) -> None:
    if how == "configuration":
        project.append('\n[tool.uvtorch]\nbackend = "cu126"\n')
    option = ["--torch-backend", "cu126"] if how == "option" else []
    env = {"UV_TORCH_BACKEND": "cu126"} if how == "variable" else {}
    project.uvtorch("add", "timm", *option, machine="cpu-only", **env).must()
    assert anchors(project) == ["torch", "torchvision"]
    project.check("cu126")


def test_the_option_beats_what_the_project_pins(project: Project) -> None:
    project.uvtorch("add", "torch", machine="h200-580").must()
    project.uvtorch("add", "timm", "--torch-backend", "cu126", machine="h200-580").must(
        1
    )  # torch>=2.15.0 is the user's
    project.uvtorch("remove", "torch").must()
    project.uvtorch("add", "transformers[torch]", machine="h200-580").must()
    project.check("cu130")
    project.uvtorch("add", "timm", "--torch-backend", "cu126", machine="h200-580").must()
    assert indexes(project) == ["pytorch-cu126"]
    assert anchors(project) == ["torch", "torchvision"]
    assert project.installed()["torch"] == "2.14.1+cu126"
    project.check("cu126")


def test_an_option_without_a_use_is_not_ignored_in_silence(project: Project) -> None:
    done = project.uvtorch("add", "toml-cli", "--torch-backend", "cu126").must()
    assert "warning: --torch-backend cu126 has nothing to do: nothing here needs torch" in done.err
    assert indexes(project) == []
    done = project.uvtorch("add", "numpy", UV_TORCH_BACKEND="cu126").must()
    assert "torch" not in done.err


def test_where_no_build_fits_one_line_says_so(project: Project) -> None:
    """Nobody asked for torch by name, so uv's result stays; but not in silence."""
    done = project.uvtorch("add", "newest-models", machine="h100-535").must()
    (row,) = [row for row in done.err.splitlines() if row.startswith("warning: ")]
    assert row.startswith("warning: torch 2.15.0 came along from PyPI and may not run here: torch")
    assert anchors(project) is None
    assert indexes(project) == []
    assert project.installed()["torch"] == "2.15.0"
    project.check(None)


def test_a_broken_driver_is_told_with_its_remedy(project: Project) -> None:
    done = project.uvtorch("add", "timm", machine="broken-mismatch").must()
    (row,) = [row for row in done.err.splitlines() if row.startswith("warning: ")]
    assert row.startswith(
        "warning: torch 2.15.0 came along from PyPI and may not run here: NVIDIA: the driver's library"
    )
    assert "Restart the machine" in row
    assert anchors(project) is None
    project.check(None)


# Projects that have PyTorch already


def test_a_pinned_project_takes_it_from_its_own_index(project: Project) -> None:
    project.uvtorch("add", "torch", machine="h100-535").must()
    done = project.uvtorch("add", "any-models", machine="broken-mismatch").must()  # pinned is pinned: nothing detected
    assert done.ours == ["uvtorch: torchvision came along: taken from the project's index"]
    assert anchors(project) == ["torchvision"]
    assert project.data["project"]["dependencies"] == ["any-models>=1.0", "torch>=2.14.1"]
    assert project.installed()["torchvision"] == "0.29.1+cu126"
    project.check("cu126")


def test_a_hand_written_pin_keeps_its_names(empty: Empty) -> None:
    project = empty(
        BARE.replace("[]", '["torch"]')
        + '\n[tool.uv.sources]\ntorch = [{ index = "pt", marker = "sys_platform == \'linux\'" }]  # ours\n'
        '\n[[tool.uv.index]]\nname = "pt"\nurl = "BASE/cu126/"\nexplicit = true\n'
    )
    project.uvtorch("add", "timm").must()
    data = project.data["tool"]["uv"]
    assert data["sources"]["torchvision"] == [{"index": "pt", "marker": "sys_platform == 'linux'"}]
    assert "# ours" in project.text
    project.check("cu126")


def test_an_unpinned_requirement_is_pinned_with_what_comes_along(project: Project) -> None:
    """As `uvtorch add torchvision` would: two builds in one environment do not work."""
    project.uv("add", "torch", "--no-sync").must()
    project.uvtorch("add", "any-models", machine="h200-580").must()
    assert anchors(project) == ["torchvision"]
    assert sources(project) == {"torch", "torchvision"}
    assert project.data["project"]["dependencies"] == ["any-models>=1.0", "torch>=2.15.0"]
    project.check("cu130")


@pytest.mark.parametrize("package", ["toml-cli", "accelerate"])
def test_what_brings_nothing_changes_nothing(project: Project, package: str) -> None:
    """PyPI's torch was there before: `torch doctor` says what that means."""
    project.uv("add", "torch", "--no-sync").must()
    project.uvtorch("add", package, machine="broken-mismatch").must()
    assert anchors(project) is None
    assert sources(project) == set()
    project.check(None)


def test_a_torch_from_elsewhere_is_left_alone(empty: Empty, tmp_path: Path) -> None:
    """An index that does not say what it serves: who chose it knows better."""
    house = tmp_path / "house"
    house.mkdir()
    for version in ("2.15.0", "2.14.1"):
        wheel = Wheel("torch", f"{version}+ours")
        (house / wheel.filename).write_bytes(wheel.content)
    project = empty(
        BARE.replace("[]", '["torch"]') + '\n[tool.uv.sources]\ntorch = { index = "house" }\n'
        f'\n[[tool.uv.index]]\nname = "house"\nurl = \'{house}\'\nformat = "flat"\nexplicit = true\n'
    )
    before = project.data["tool"]
    project.uvtorch("add", "any-models", machine="h200-580").must()
    assert project.data["tool"] == before
    assert anchors(project) is None
    assert project.installed()["torch"] == "2.15.0+ours"


def test_requirements_files_are_followed_too(project: Project) -> None:
    (project.path / "requirements.txt").write_text("any-models\n")
    project.uvtorch("add", "-r", "requirements.txt", machine="h200-580").must()
    assert anchors(project) == ["torch", "torchvision"]
    assert project.installed()["torch"] == "2.15.0+cu130"
    project.check("cu130")


@pytest.mark.parametrize("option", ["--project", "--directory"])
@pytest.mark.parametrize("package", ["timm", "any-models"])
def test_the_project_may_be_elsewhere(project: Project, tmp_path: Path, option: str, package: str) -> None:
    there = Project(project.home, tmp_path)
    there.uvtorch("add", package, option, "demo", machine="h200-580").must()
    assert anchors(project) == ["torch", "torchvision"]
    assert project.installed()["torch"] == "2.15.0+cu130"
    project.check("cu130")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]


def test_where_the_chosen_index_is_out_of_reach_the_add_is_as_with_uv(project: Project) -> None:
    """Nobody asked for torch by name; uv's own patience would be many seconds."""
    done = project.uvtorch("add", "timm", machine="h200-580", UVTORCH_INDEX_BASE="http://127.0.0.1:9/whl").must()
    assert "warning: torch 2.15.0 came along from PyPI, as uv could not lock it from the index of cu130" in done.err
    assert "`uvtorch torch use cu130` tries again" in done.err
    assert "tool" not in project.data
    assert project.data["project"]["dependencies"] == ["timm>=1.0.22"]
    unreachable = {"UVTORCH_INDEX_BASE": "http://127.0.0.1:9/whl", "UV_HTTP_RETRIES": "0"}
    named = project.uvtorch("add", "timm", "--torch-backend", "cu130", machine="h200-580", **unreachable)
    assert named.code == 2, "what was asked for is not dropped"
    project.uvtorch("torch", "use", "cu130", machine="h200-580").must()
    project.check("cu130")


def test_a_conflict_leaves_everything_as_it_was(project: Project) -> None:
    """The project's index has no such release: uv says so, and nothing is written."""
    project.uvtorch("add", "torch", "--torch-backend", "cu126").must()
    before = project.state()
    done = project.uvtorch("add", "newest-models").must(1)
    assert "No solution found" in done.err
    assert project.state() == before


SEVERAL = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = []\n' + choices(
    cpu="BASE/cpu", gpu="BASE/cu130"
)


def test_in_a_project_of_several_backends_the_choices_hold_it(empty: Empty) -> None:
    project = empty(SEVERAL)
    done = project.uvtorch("add", "timm", machine="h200-580").must()
    assert done.ours[-1] == "uvtorch: torchvision came along: taken from every backend choice"
    extras = project.data["project"]["optional-dependencies"]
    assert {name: [row.split(">")[0] for row in rows] for name, rows in extras.items()} == {
        "cpu": ["torch", "torchvision"],
        "gpu": ["torch", "torchvision"],
    }
    assert project.data["project"]["dependencies"] == ["timm>=1.0.22"]
    assert project.data["tool"]["uv"]["sources"]["torchvision"] == [
        {"index": "cpu", "extra": "cpu"},
        {"index": "gpu", "extra": "gpu"},
    ]
    assert "uvtorch" not in project.data.get("dependency-groups", {})
    project.uv("lock", "--check").must()
    for extra, local in (("cpu", "+cpu"), ("gpu", "+cu130")):
        project.uv("sync", "--locked", "--extra", extra).must()
        installed = project.installed()
        assert installed["torch"].endswith(local)
        assert installed["torchvision"].endswith(local)
    for name, rows in project.locked().items():
        if not name.startswith("torch"):
            assert {index for _, index in rows} == {"simple"}

    before = project.state()
    project.uvtorch("add", "timm", machine="h200-580").must()
    assert project.state() == before


# Taking it out again


def test_removing_the_package_removes_all_that_was_written_for_it(project: Project) -> None:
    initial = project.text
    project.uvtorch("add", "timm", machine="arc-b580").must()
    assert anchors(project)
    done = project.uvtorch("remove", "timm").must()
    assert project.text == initial
    assert "torch" not in project.locked()
    assert "torch" not in project.installed()
    assert not done.ours


def test_anchors_stay_while_another_package_needs_them(project: Project) -> None:
    project.uvtorch("add", "timm", "accelerate", machine="h200-580").must()
    assert anchors(project) == ["torch", "torchvision"]
    project.uvtorch("remove", "timm").must()
    assert anchors(project) == ["torch"]
    assert sources(project) == {"torch"}
    assert "torchvision" not in project.installed()
    project.check("cu130")


def test_an_anchor_goes_when_the_user_names_the_package(project: Project) -> None:
    project.uvtorch("add", "timm", machine="h200-580").must()
    project.uvtorch("add", "torchvision").must()
    assert anchors(project) == ["torch"]
    project.check("cu130")
    project.uvtorch("remove", "torchvision").must()
    assert anchors(project) == ["torch", "torchvision"]
    project.check("cu130")


def test_torch_that_is_still_needed_keeps_its_build(project: Project) -> None:
    project.uvtorch("add", "torch", "accelerate", machine="h200-580").must()
    assert anchors(project) is None
    project.uvtorch("remove", "torch").must()
    assert anchors(project) == ["torch"]
    assert project.data["project"]["dependencies"] == ["accelerate>=1.12.0"]
    project.check("cu130")


def test_an_index_that_somebody_else_named_stays(project: Project) -> None:
    index = '\n[[tool.uv.index]]\nname = "house"\nurl = "BASE/cu130"\nexplicit = true\n'
    project.append(index)
    project.uvtorch("add", "timm", machine="h200-580").must()
    assert indexes(project) == ["house"]
    project.check("cu130")
    project.uvtorch("remove", "timm").must()
    assert indexes(project) == ["house"]
    assert sources(project) == set()
    assert anchors(project) is None


@pytest.mark.parametrize("machine", ["h200-580", "arc-b580", "cpu-only"])
def test_the_last_package_takes_the_index_along(project: Project, machine: str) -> None:
    initial = project.text
    project.uvtorch("add", "torch", "torchvision", machine=machine).must()
    project.uvtorch("remove", "torchvision").must()
    assert len(indexes(project)) == 1
    project.uvtorch("remove", "torch").must()
    assert project.text == initial
    project.check(None)


def test_removing_from_one_target_leaves_the_other(project: Project) -> None:
    project.uvtorch("add", "torch", machine="h200-580").must()
    project.uvtorch("add", "--dev", "torch").must()
    project.uvtorch("remove", "torch").must()
    assert project.data["project"]["dependencies"] == []
    assert sources(project) == {"torch"}
    assert anchors(project) is None
    project.check("cu130")


def test_a_failing_remove_restores_every_file(project: Project, tmp_path: Path) -> None:
    project.uvtorch("add", "timm", machine="h200-580").must()
    uv = RecordingUv(tmp_path / "uv", f'[ "$1" = lock ] && exit 7\nexec "{project.home.uv}" "$@"')
    before = project.state()
    project.uvtorch("remove", "timm", UVTORCH_UV=str(uv.path)).must(7)
    assert project.state() == before


# Other verbs that change the lock


def test_lock_anchors_what_a_hand_added(project: Project) -> None:
    project.uvtorch("add", "torch", "--torch-backend", "cu126").must()
    project.uv("add", "--frozen", "any-models").must()
    done = project.uvtorch("lock").must()
    assert done.ours == ["uvtorch: torchvision came along: taken from the project's index"]
    assert anchors(project) == ["torchvision"]
    project.check("cu126")
    project.uv("remove", "--frozen", "any-models").must()
    project.uvtorch("lock").must()
    assert anchors(project) is None
    assert sources(project) == {"torch"}
    project.check("cu126")


def test_lock_decides_nothing_for_a_project_that_pins_nothing(project: Project) -> None:
    project.uv("add", "--frozen", "timm").must()
    before = project.text
    done = project.uvtorch("lock", machine="broken-mismatch").must()
    assert project.text == before
    assert not done.ours


def test_lock_with_a_backend_pins(project: Project) -> None:
    project.uv("add", "timm", "--no-sync").must()
    project.uvtorch("lock", "--torch-backend", "cu126").must()
    assert anchors(project) == ["torch", "torchvision"]
    project.check("cu126")


def test_sync_auto_pins_and_anchors(project: Project) -> None:
    project.uv("add", "timm", "--no-sync").must()
    project.uvtorch("sync", "--auto", machine="h200-580").must()
    assert anchors(project) == ["torch", "torchvision"]
    assert project.installed()["torch"] == "2.15.0+cu130"
    project.check("cu130")
    project.uv("add", "sound-models", "--frozen").must()
    done = project.uvtorch("sync", "--auto", machine="h200-580").must()
    assert "torchaudio came along" in done.err
    assert anchors(project) == ["torch", "torchvision", "torchaudio"]
    assert project.installed()["torchaudio"] == "2.11.0+cu130"
    project.check("cu130")


def test_run_and_export_auto_pin_too(project: Project) -> None:
    project.uv("add", "timm", "--no-sync").must()
    program = "import torch; print(torch.__version__)"
    done = project.uvtorch("run", "--auto", "python", "-c", program, machine="h200-580").must()
    assert done.out == "2.15.0+cu130\n"
    assert anchors(project) == ["torch", "torchvision"]
    project.check("cu130")
    done = project.uvtorch("export", "--auto", "--no-hashes", machine="h200-580").must()
    assert not done.ours
    assert "torch==2.15.0+cu130 ; sys_platform == 'linux' or sys_platform == 'win32'" in done.out


# Where the package is added, and what uv is told


@pytest.mark.parametrize(
    ("target", "selection"),
    [
        (["--dev"], []),
        (["--group", "train"], ["--group", "train"]),
        (["--optional", "vision"], ["--extra", "vision"]),
    ],
)
@pytest.mark.parametrize("package", ["timm", "any-models"])
def test_every_target_is_served(project: Project, package: str, target: list[str], selection: list[str]) -> None:
    project.uvtorch("add", package, *target, machine="h200-580").must()
    assert anchors(project) == ["torch", "torchvision"]
    assert project.data["project"]["dependencies"] == []
    assert project.installed()["torch"] == "2.15.0+cu130"
    project.check("cu130", *selection)
    project.uvtorch("remove", package, *target).must()
    assert anchors(project) is None
    assert indexes(project) == []


def test_no_sync_is_obeyed(project: Project) -> None:
    for option, package in (("--no-sync", "timm"), ("--no-sync", "any-models")):
        project.uvtorch("add", package, option, machine="h200-580").must()
        assert not (project.path / ".venv").exists()
    project.check("cu130")


def test_no_sync_by_the_environment(project: Project) -> None:
    project.uvtorch("add", "timm", machine="h200-580", UV_NO_SYNC="1").must()
    assert not (project.path / ".venv").exists()
    project.check("cu130")


def test_frozen_leaves_the_lock_alone(project: Project) -> None:
    project.uvtorch("add", "timm", "--frozen", machine="broken-mismatch").must()
    assert not (project.path / "uv.lock").exists()
    assert anchors(project) is None


def test_quiet_is_quiet(project: Project) -> None:
    done = project.uvtorch("add", "-q", "timm", machine="h200-580").must()
    assert done.err == ""
    project.check("cu130")


def test_a_dry_run_changes_nothing(project: Project) -> None:
    before = project.state()
    project.uvtorch("add", "timm", "--dry-run", machine="h200-580").must()
    assert project.state() == before
    assert not (project.path / ".venv").exists()


def test_options_of_the_command_reach_the_lock_and_the_sync(project: Project) -> None:
    """The second `uv lock` resolves as the first did."""
    project.uvtorch("add", "timm", "--resolution", "lowest-direct", "-p", sys.executable, machine="h200-580").must()
    project.uv("lock", "--check", "--resolution", "lowest-direct").must()


def workspace(project: Project) -> Path:
    member = project.path / "packages" / "lib"
    member.mkdir(parents=True)
    (member / "pyproject.toml").write_text(BARE.replace("demo", "lib"))
    project.append('\n[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    return member


@pytest.mark.parametrize("how", ["inside", "--package"])
def test_a_workspace_member_holds_its_own(project: Project, how: str) -> None:
    member = Project(project.home, workspace(project))
    root = project.text
    if how == "inside":
        member.uvtorch("add", "any-models", machine="h200-580").must()
    else:
        project.uvtorch("add", "any-models", "--package", "lib", machine="h200-580").must()
    assert anchors(member) == ["torch", "torchvision"]
    assert project.text == root
    project.check("cu130", "--all-packages")
    if how == "inside":
        member.uvtorch("remove", "any-models").must()
    else:
        project.uvtorch("remove", "any-models", "--package", "lib").must()
    assert anchors(member) is None
    project.check(None)


def test_a_script_is_left_to_uv(project: Project) -> None:
    script = project.path / "tool.py"
    script.write_text("# /// script\n# dependencies = []\n# ///\n")
    before = project.text
    project.uvtorch("add", "--script", "tool.py", "timm", machine="broken-mismatch").must()
    assert project.text == before
    assert "timm" in script.read_text()


# Nothing of ours


@pytest.mark.parametrize(
    "command",
    [
        ["add", "toml-cli"],
        ["add", "--dev", "toml-cli", "numpy>=2"],
        ["remove", "toml-cli"],
        ["lock"],
        ["lock", "--upgrade"],
    ],
)
def test_a_plain_command_is_one_call_of_uv_with_nothing_changed(
    uvtorch: Callable[..., object], tmp_path: Path, command: list[str]
) -> None:
    uv = RecordingUv(tmp_path / "uv", "echo '# changed' >> uv.lock")
    directory = tmp_path / "here"
    (directory / "pyproject.toml").write_text(BARE)
    (directory / "uv.lock").write_text("version = 1\n")
    uvtorch(*command, uv=uv.path, env={**os.environ, "UVTORCH_HARDWARE": str(MACHINES / "broken-mismatch.json")})
    assert uv.commands == [command]
    assert (directory / "pyproject.toml").read_text() == BARE


def test_a_pinned_project_gets_one_call_for_a_plain_package(project: Project, tmp_path: Path) -> None:
    project.uvtorch("add", "torch", machine="h200-580").must()
    before = project.data["tool"], project.data.get("dependency-groups")
    uv = RecordingUv(tmp_path / "uv", f'exec "{project.home.uv}" "$@"')
    done = project.uvtorch("add", "toml-cli", machine="broken-mismatch", UVTORCH_UV=str(uv.path)).must()
    assert uv.commands == [["add", "toml-cli"]]
    assert not done.ours
    assert (project.data["tool"], project.data.get("dependency-groups")) == before
    project.check("cu130")


# Failing


@pytest.mark.parametrize("package", ["timm", "any-models"])
@pytest.mark.parametrize("failing", ["lock", "sync"])
def test_a_failure_in_between_restores_every_file(project: Project, tmp_path: Path, package: str, failing: str) -> None:
    uv = RecordingUv(tmp_path / "uv", f'[ "$1" = {failing} ] && exit 7\nexec "{project.home.uv}" "$@"')
    before = project.state()
    project.uvtorch("add", package, machine="h200-580", UVTORCH_UV=str(uv.path)).must(7)
    assert project.state() == before
    assert uv.commands[-1][0] == failing


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ctrl_c_in_between_restores_every_file(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "locking"
    uv = RecordingUv(
        tmp_path / "uv", f'[ "$1" = lock ] && touch "{marker}" && exec sleep 30\nexec "{project.home.uv}" "$@"'
    )
    before = project.state()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvtorch", "add", "timm"],
        cwd=project.path,
        env={
            **project.environment,
            "UVTORCH_HARDWARE": str(MACHINES / "h200-580.json"),
            "UVTORCH_UV": str(uv.path),
        },
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marker.exists()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert project.state() == before

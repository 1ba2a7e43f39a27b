"""`uvtorch torch backends` on the real uv: a project that offers several backends, from whatever it was before."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.index.project import Home, Project
from tests.test_command_lines import lay_out

pytest_plugins = ["tests.index.fixtures"]

Make = Callable[[str], Project]
HEAD = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\n'
LINUX_WINDOWS = "sys_platform == 'linux' or sys_platform == 'win32'"
LINUX = "sys_platform == 'linux' and platform_machine == 'x86_64'"
WHEREVER_XPU = "(sys_platform == 'linux' and platform_machine == 'x86_64') or sys_platform == 'win32'"


def fresh(*packages: str) -> str:
    return f"{HEAD}dependencies = {json.dumps(list(packages))}\n"


def held(project: Project, kind: str = "extra") -> dict[str, list[str]]:
    data = project.data
    found: dict[str, list[str]] = (
        data["project"].get("optional-dependencies", {}) if kind == "extra" else data["dependency-groups"]
    )
    return found


def uv_tables(project: Project) -> dict[str, Any]:
    tables: dict[str, Any] = project.data["tool"]["uv"]
    return tables


def source(index: str, where: str | None, **selector: str) -> dict[str, str]:
    return {"index": index, **selector, **({"marker": where} if where else {})}


def test_a_fresh_project_gets_extras(empty: Make) -> None:
    project = empty(fresh("torch", "torchvision>=0.25", "numpy"))
    done = project.uvtorch("torch", "backends", "cpu", "cu126", "cu130").must()
    assert done.ours == [
        "uvtorch: offering cpu, cu126, cu130 as extras: `uvtorch sync --auto` takes what fits,"
        " `uv sync --extra NAME` any"
    ]
    assert project.data["project"]["dependencies"] == ["numpy"]
    assert held(project) == {name: ["torch", "torchvision>=0.25"] for name in ("cpu", "cu126", "cu130")}
    tables = uv_tables(project)
    assert tables["conflicts"] == [[{"extra": "cpu"}, {"extra": "cu126"}, {"extra": "cu130"}]]
    entries = [
        source("pytorch-cpu", None, extra="cpu"),
        source("pytorch-cu126", LINUX_WINDOWS, extra="cu126"),
        source("pytorch-cu130", LINUX_WINDOWS, extra="cu130"),
    ]
    assert tables["sources"] == {"torch": entries, "torchvision": entries}
    assert tables["index"] == [
        {"name": f"pytorch-{name}", "url": f"https://download.pytorch.org/whl/{name}", "explicit": True}
        for name in ("cpu", "cu126", "cu130")
    ]
    assert project.locked()["torch"] == {
        ("2.15.0", "whl/cpu"),
        ("2.15.0+cpu", "whl/cpu"),
        ("2.14.1+cu126", "whl/cu126"),
        ("2.15.0+cu130", "whl/cu130"),
        ("2.15.0", "simple"),
    }
    for extra in ("cpu", "cu126", "cu130"):
        project.uv("sync", "--locked", "--extra", extra).must()
    assert project.uv("sync", "--locked", "--extra", "cpu", "--extra", "cu126").code == 2
    before = project.state()
    project.uvtorch("torch", "backends", "cpu", "cu126", "cu130").must()
    assert project.state() == before


def test_groups_leave_the_dependencies_as_they_are(empty: Make) -> None:
    project = empty(fresh("torch", "numpy"))
    project.uvtorch("torch", "backends", "cpu", "cu126", "--as", "groups").must()
    assert project.data["project"]["dependencies"] == ["torch", "numpy"]
    assert held(project, "group") == {"cpu": ["torch"], "cu126": ["torch"]}
    assert uv_tables(project)["conflicts"] == [[{"group": "cpu"}, {"group": "cu126"}]]
    for machine, version in (("cpu-only", "2.15.0+cpu"), ("rtx4090-550", "2.14.1+cu126")):
        project.uvtorch("sync", "--auto", "--locked", machine=machine).must()
        assert project.installed()["torch"] == version
    before = project.state()
    project.uvtorch("torch", "backends", "cpu", "cu126").must()
    assert project.state() == before


def test_a_pinned_project_gives_its_pin_up(empty: Make) -> None:
    project = empty(fresh("numpy"))
    project.uvtorch("add", "torchvision", "--no-sync", machine="mi300x-gfx942").must()
    assert held(project, "group") == {"uvtorch": ["torch", f"triton-rocm ; {LINUX}"]}
    project.uvtorch("torch", "backends", "cu126", "rocm7.2").must()
    assert "dependency-groups" not in project.data
    assert project.data["project"]["dependencies"] == ["numpy"]
    assert held(project) == {
        "cu126": ["torch", "torchvision>=0.29.1"],
        "rocm7.2": ["torch", "torchvision>=0.29.1", f"triton-rocm ; {LINUX}"],
    }
    sources = uv_tables(project)["sources"]
    assert sources["triton-rocm"] == [source("pytorch-rocm7.2", LINUX, extra="rocm7.2")]
    assert [entry["extra"] for entry in sources["torch"]] == ["cu126", "rocm7.2"]
    project.uvtorch("sync", "--auto", machine="mi300x-gfx942").must()
    rows = project.installed().items()
    assert {name: version for name, version in rows if name.startswith(("torch", "triton"))} == {
        "torch": "2.14.1+rocm7.2",
        "torchvision": "0.29.1+rocm7.2",
        "triton-rocm": "3.6.0",
    }


def test_an_index_that_no_choice_uses_goes(empty: Make) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "use", "cu128").must()
    project.uvtorch("torch", "backends", "cpu", "cu126").must()
    assert [index["name"] for index in uv_tables(project)["index"]] == ["pytorch-cpu", "pytorch-cu126"]


def test_choices_are_added_and_dropped(empty: Make) -> None:
    project = empty(fresh("torch==2.9.1", "numpy"))
    project.uvtorch("torch", "backends", "cpu", "rocm6.4", "xpu").must()
    assert held(project) == {
        "cpu": ["torch==2.9.1"],
        "rocm6.4": ["torch==2.9.1", f"pytorch-triton-rocm ; {LINUX}"],
        "xpu": ["torch==2.9.1", f"pytorch-triton-xpu ; {WHEREVER_XPU}"],
    }
    for machine, version in (("mi300x-gfx942", "2.9.1+rocm6.4"), ("arc-b580", "2.9.1+xpu")):
        project.uvtorch("sync", "--auto", "--locked", machine=machine).must()
        assert project.installed()["torch"] == version
    project.uvtorch("torch", "backends", "cpu", "xpu", "cu128").must()
    assert held(project) == {
        "cpu": ["torch==2.9.1"],
        "xpu": ["torch==2.9.1", f"pytorch-triton-xpu ; {WHEREVER_XPU}"],
        "cu128": ["torch==2.9.1"],
    }
    tables = uv_tables(project)
    assert tables["conflicts"] == [[{"extra": "cpu"}, {"extra": "xpu"}, {"extra": "cu128"}]]
    assert set(tables["sources"]) == {"torch", "pytorch-triton-xpu"}
    assert [index["name"] for index in tables["index"]] == ["pytorch-cpu", "pytorch-xpu", "pytorch-cu128"]
    project.uv("lock", "--check").must()


def test_choices_keep_the_names_the_project_gave_them(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("extras-named-by-family", tmp_path))
    done = project.uvtorch("torch", "backends", "cpu", "cu126", "cu128", "--dry-run").must()
    assert '+    { extra = "cu128" },' in done.out or '{ extra = "cu128" }' in done.out
    assert "-gpu = [" not in done.out
    assert '-    { extra = "gpu" }' not in done.out
    assert '+cu128 = [\n+    "torch==2.7.1",\n+    "torchaudio==2.7.1",\n+]' in done.out


def test_groups_that_were_defaults_and_go_are_no_defaults_any_more(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("groups-with-default", tmp_path))
    text = project.file.read_text()
    project.file.write_text(
        text.replace("https://download.pytorch.org/whl", home.server.base).replace("pytest", "numpy")
    )
    project.uvtorch("torch", "backends", "cu126", "cu130").must()
    assert held(project, "group") == {
        "dev": ["numpy"],
        "cu130": ["torch", "torchvision"],
        "cu126": ["torch", "torchvision"],
    }
    assert uv_tables(project)["default-groups"] == ["dev"]
    assert uv_tables(project)["conflicts"] == [[{"group": "cu130"}, {"group": "cu126"}]]


def test_new_groups_are_no_defaults_where_all_groups_were(empty: Make) -> None:
    project = empty(fresh("torch") + '[dependency-groups]\nlint = ["toml-cli"]\n[tool.uv]\ndefault-groups = "all"\n')
    project.uvtorch("torch", "backends", "cpu", "cu126", "--as", "groups").must()
    assert uv_tables(project)["default-groups"] == ["lint"]
    project.uvtorch("sync", "--auto", machine="rtx4090-550").must()
    installed = project.installed()
    assert installed["torch"] == "2.14.1+cu126"
    assert "toml-cli" in installed


def test_conflicts_about_other_things_stay(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("conflicts-about-two-things", tmp_path))
    done = project.uvtorch("torch", "backends", "cpu", "cu130", "--dry-run").must()
    assert "onnx" not in "".join(row for row in done.out.splitlines() if row.startswith("-"))


def test_a_local_version_gives_way_to_the_choices(empty: Make) -> None:
    project = empty(fresh("torch==2.9.1+cu126"))
    project.uvtorch("torch", "backends", "cpu", "cu126").must()
    assert held(project) == {"cpu": ["torch==2.9.1"], "cu126": ["torch==2.9.1"]}
    assert ("2.9.1+cpu", "whl/cpu") in project.locked()["torch"]


def test_a_published_library_is_warned_and_groups_do_not_touch_it(empty: Make) -> None:
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    project = empty(fresh("torch") + build)
    done = project.uvtorch("torch", "backends", "cpu", "cu126", "--dry-run").must()
    assert "# warning: published metadata changes: a plain `pip install demo` will no longer bring torch" in done.out
    assert "with --as groups the dependencies stay as they are" in done.out
    assert "warning" not in project.uvtorch("torch", "backends", "cpu", "cu126", "--as", "groups", "--dry-run").out


def test_a_nightly_channel(empty: Make) -> None:
    project = empty(fresh("torch"))
    done = project.uvtorch("torch", "backends", "cu126", "nightly/cu130", "--dry-run").must()
    assert '+nightly-cu130 = [\n+    "torch",\n+]' in done.out
    assert 'extra = "nightly-cu130", marker' in done.out
    assert f'+url = "{project.home.server.base}/nightly/cu130"' in done.out


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        (fresh("numpy"), ["cpu", "cu126"], "name no PyTorch package"),
        (fresh("torch==2.15.0"), ["cpu", "cu126"], "no release on cu126 satisfies torch==2.15.0; its newest is 2.14.1"),
        (fresh("torch"), ["cpu", "auto"], "`auto` is no backend to offer"),
        (fresh("torch"), ["cpu", "cuda"], "torch backends: `cuda` is not a backend"),
        (fresh("torch"), ["cpu", "--as", "both"], "'both' is not one of 'extras', 'groups'"),
        (fresh("torch"), ["--from", "none.json"], "none.json"),
        (
            fresh("torch") + '[project.optional-dependencies]\ncpu = ["numpy"]\n',
            ["cpu", "cu126"],
            "the project has an extra `cpu` of its own",
        ),
        (
            fresh() + '[project.optional-dependencies]\nnn = ["torch"]\n',
            ["cpu", "cu126"],
            "name no PyTorch package",
        ),
        ("[tool.uv]\n", ["cpu", "cu126"], "has no `[project]` table"),
    ],
)
def test_what_cannot_be_is_an_error_and_changes_nothing(empty: Make, text: str, words: list[str], says: str) -> None:
    project = empty(text)
    before = project.state()
    done = project.uvtorch("torch", "backends", *words).must(2)
    assert says in done.err
    assert done.err.startswith("error: ")
    assert project.state() == before


def test_choices_of_one_form_are_not_mixed_with_the_other(empty: Make) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "backends", "cpu", "cu126").must()
    done = project.uvtorch("torch", "backends", "cpu", "cu130", "--as", "groups").must(2)
    assert "error: the project's choices are extras already" in done.err


def test_a_choice_that_something_refers_to_stays(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("recursive-extras", tmp_path))
    done = project.uvtorch("torch", "backends", "cpu", "cu126").must(2)
    assert "error: the extra `cu128` cannot go: gpu, workstation refers to it" in done.err


def test_a_lock_that_fails_leaves_everything_as_it_was(empty: Make) -> None:
    project = empty(fresh("torch", "no-such-package"))
    before = project.state()
    assert project.uvtorch("torch", "backends", "cpu", "cu126").code == 1
    assert project.state() == before


def test_a_dry_run_shows_and_changes_nothing(empty: Make) -> None:
    project = empty(fresh("torch"))
    before = project.state()
    done = project.uvtorch("torch", "backends", "cpu", "cu126", "--dry-run").must()
    assert done.out.startswith("# offering cpu, cu126 as extras")
    assert done.out.endswith("$ uv lock\n")
    assert tomllib.loads(project.file.read_text()) == tomllib.loads(fresh("torch"))
    assert project.state() == before


# Listing


def test_an_unpinned_project_is_said_to_be_pinned_by_auto(empty: Make) -> None:
    project = empty(fresh("torch"))
    out = project.uvtorch("torch", "backends", machine="rtx4090-550").must().out
    assert "PyPI's build" in out
    assert "`uvtorch sync --auto` pins" in out
    assert (
        "--auto takes this one here: no option" in project.uvtorch("torch", "backends", machine="macos-m3").must().out
    )


def test_the_listing_says_which_fits_and_why(empty: Make) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "backends", "cpu", "cu126", "cu130").must()
    before = project.state()
    assert project.uvtorch("torch", "backends", machine="rtx4090-550").must().out == (
        "   option         build  fits  why, or why not\n"
        "   --extra cpu    cpu    no    would leave NVIDIA GeForce RTX 4090 (8.9) idle\n"
        "*  --extra cu126  cu126  yes   driver 550.144.03 supports CUDA 12.4 (cu126 by minor-version\n"
        "                               compatibility); NVIDIA GeForce RTX 4090 (8.9)\n"
        "   --extra cu130  cu130  no    torch 2.15.0 needs a driver >= 580; this machine has 550.144.03\n"
        "* --auto takes this one here: --extra cu126\n"
    )
    listed = json.loads(project.uvtorch("torch", "backends", "--json", machine="h200-580").must().out)
    assert listed == {
        "schema": 1,
        "choices": [
            {
                "kind": "extra",
                "name": "cpu",
                "backend": "cpu",
                "fits": False,
                "reason": "would leave 8 x NVIDIA H200 (9.0) idle",
            },
            {
                "kind": "extra",
                "name": "cu126",
                "backend": "cu126",
                "fits": True,
                "reason": "driver 580.95.05 supports CUDA 13.0; 8 x NVIDIA H200 (9.0)",
            },
            {
                "kind": "extra",
                "name": "cu130",
                "backend": "cu130",
                "fits": True,
                "reason": "driver 580.95.05 supports CUDA 13.0; 8 x NVIDIA H200 (9.0)",
            },
        ],
        "selected": "cu130",
    }
    assert project.state() == before


def test_the_listing_of_other_projects(empty: Make) -> None:
    assert empty(fresh("numpy")).uvtorch("torch", "backends").must().out == (
        "The project requires no PyTorch package.\n"
    )
    listed = json.loads(empty(fresh("numpy")).uvtorch("torch", "backends", "--json").must().out)
    assert listed == {"schema": 1, "choices": [], "selected": None}
    project = empty(fresh("torch"))
    listed = json.loads(project.uvtorch("torch", "backends", "--json").must().out)
    assert [(row["kind"], row["name"], row["backend"]) for row in listed["choices"]] == [("base", None, None)]
    project.uvtorch("torch", "use", "cu126").must()
    listed = json.loads(project.uvtorch("torch", "backends", "--json").must().out)
    assert [(row["kind"], row["backend"], row["fits"]) for row in listed["choices"]] == [("base", "cu126", False)]


def test_the_listing_for_another_machine_and_for_a_broken_one(empty: Make) -> None:
    project = empty(fresh("torch"))
    project.uvtorch("torch", "backends", "cpu", "cu126").must()
    path = str(Path(__file__).parent / "machines" / "v100-535.json")
    listed = json.loads(project.uvtorch("torch", "backends", "--json", "--hardware", path).must().out)
    assert listed["selected"] == "cu126"
    listed = json.loads(project.uvtorch("torch", "backends", "--json", machine="broken-mismatch").must().out)
    assert listed["selected"] is None
    assert "--auto refuses to choose" in project.uvtorch("torch", "backends", machine="broken-mismatch").must().out


def test_a_workspaces_members_are_listed_from_its_root(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("workspace-without-a-root-project", tmp_path))
    listed = json.loads(project.uvtorch("torch", "backends", "--json", machine="h200-580").must().out)
    assert [row["name"] for row in listed["choices"]] == ["cpu", "cu128"]
    assert listed["selected"] == "cu128"

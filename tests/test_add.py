"""`uvtorch add` with the real uv: what it writes, that plain uv is content with it, that failing leaves no trace."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.index.project import Home, Project

pytest_plugins = ["tests.index.fixtures"]

Empty = Callable[[str], Project]

LINUX_WINDOWS = "sys_platform == 'linux' or sys_platform == 'win32'"
LINUX_X86_64 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
XPU = f"({LINUX_X86_64}) or sys_platform == 'win32'"
MARKERS = {
    "cpu": "",
    "cu126": LINUX_WINDOWS,
    "cu128": LINUX_WINDOWS,
    "cu130": LINUX_WINDOWS,
    "rocm6.4": LINUX_X86_64,
    "rocm7.2": LINUX_X86_64,
    "xpu": XPU,
}
COMPANIONS = {"rocm6.4": "pytorch-triton-rocm", "rocm7.2": "triton-rocm", "xpu": "triton-xpu"}

BARE = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = []\n'


def tables(backend: str, *packages: str, name: str = "") -> str:
    """The tables of the contract, as text."""
    marker = f', marker = "{MARKERS[backend]}"' if MARKERS[backend] else ""
    name = name or f"pytorch-{backend}"
    rows = "".join(f'{package} = [{{ index = "{name}"{marker} }}]\n' for package in packages)
    index = f'name = "{name}"\nurl = "https://download.pytorch.org/whl/{backend}"\nexplicit = true\n'
    return f"\n[tool.uv.sources]\n{rows}\n[[tool.uv.index]]\n{index}"


def written(initial: str, backend: str, requirements: str, *packages: str) -> str:
    """What `uv init` makes, with these requirements added by uv and the rest by uvtorch."""
    text = initial.replace("dependencies = []", f"dependencies = [\n{requirements}]")
    companion = COMPANIONS.get(backend)
    if companion:
        group = f'[dependency-groups]\nuvtorch = [\n    "{companion} ; {MARKERS[backend]}",\n]\n'
        text = text.replace("\n[build-system]", f"\n{group}\n[build-system]")
    return text + tables(backend, *packages, *([companion] if companion else []))


CASES = [
    # backend, machine that leads to it, what to add there, the bounds uv writes
    ("cpu", "cpu-only", "torch", ">=2.15.0", ">=0.29.2"),
    ("cu126", "h100-535", "torch", ">=2.14.1", ">=0.29.1"),
    ("cu128", "h100-570", "torch==2.11.0", "==2.11.0", ">=0.26.0"),
    ("cu130", "h200-580", "torch", ">=2.15.0", ">=0.29.2"),
    ("rocm6.4", "mi300x-gfx942", "torch==2.9.1", "==2.9.1", ">=0.24.1"),
    ("rocm7.2", "mi300x-gfx942", "torch", ">=2.14.1", ">=0.29.1"),
    ("xpu", "arc-b580", "torch", ">=2.15.0", ">=0.29.2"),
]


@pytest.mark.parametrize(
    ("backend", "machine", "requirement", "torch", "vision", "by_option"),
    [*((*row, False) for row in CASES), *((*row, True) for row in CASES[::3])],
    ids=[*(f"{row[0]}-detected" for row in CASES), *(f"{row[0]}-named" for row in CASES[::3])],
)
def test_writes_the_contract_and_plain_uv_is_content(
    project: Project, backend: str, machine: str, requirement: str, torch: str, vision: str, by_option: bool
) -> None:
    initial = project.text
    option = ["--torch-backend", backend] if by_option else []
    done = project.uvtorch("add", requirement, "torchvision", *option, machine=machine).must()
    systems = {"cpu": "", "rocm": " on Linux"}.get(backend.rstrip("0123456789."), " on Linux or Windows")
    said = [row.split(":")[1].split("(")[0].strip() for row in done.ours]
    assert said == [f"using {backend}", f"the pin counts for all who install the project{systems}"]

    requirements = f'    "torch{torch}",\n    "torchvision{vision}",\n'
    assert project.text == written(initial, backend, requirements, "torch", "torchvision")
    project.check(backend)
    assert project.installed()["torch"].endswith(f"+{backend}")

    before = project.state()
    project.uvtorch("add", requirement, "torchvision", *option, machine=machine).must()
    assert project.state() == before
    project.uvtorch("add", "torch", "torchvision", machine="h100-535").must()  # pinned is pinned: nothing is detected
    assert project.state() == before


def test_generic_packages_come_from_the_default_index(project: Project) -> None:
    project.uvtorch("add", "torch", "torchvision", machine="h200-580").must()
    locked = project.locked()
    assert locked["numpy"] == {("2.3.5", "simple")}
    assert locked["jinja2"] == {("3.1.6", "simple")}
    assert locked["filelock"] == {("3.20.0", "simple")}
    assert project.installed()["numpy"] == "2.3.5"


def test_the_auto_value_detects(project: Project) -> None:
    project.uvtorch("add", "torch", "--torch-backend=auto", machine="h200-580").must()
    project.check("cu130")


def test_platforms_without_the_backend_get_pypis_build(project: Project) -> None:
    project.uvtorch("add", "torch", "torchvision", "--torch-backend", "rocm6.4").must()
    platforms = project.by_platform()
    assert platforms["linux_x86_64"]["torch"] == "2.9.1+rocm6.4"
    assert platforms["linux_x86_64"]["pytorch-triton-rocm"] == "3.5.1"
    for platform in ("linux_aarch64", "windows", "macos"):
        assert "+" not in platforms[platform]["torch"]
        assert "pytorch-triton-rocm" not in platforms[platform]


# Failing


def test_a_release_that_does_not_exist_leaves_everything_as_it_was(project: Project) -> None:
    before = project.state()
    bare = project.uv("add", "torch==99", "--index", f"pytorch-cu130={project.home.server.base}/cu130")
    assert project.state() == before
    done = project.uvtorch("add", "torch==99", "--torch-backend", "cu130")
    assert done.code == bare.code == 1
    assert project.state() == before
    assert not (project.path / "uv.lock").exists()
    assert "No solution found" in done.err


def test_failing_restores_an_existing_lock(project: Project) -> None:
    project.uvtorch("add", "torch", "--torch-backend", "cu126").must()
    before = project.state()
    project.uvtorch("add", "torch==99").must(1)
    assert project.state() == before
    project.uvtorch("add", "torch==99", "--torch-backend", "cu130").must(1)
    for words in (["torchvizion"], ["torchvision", "torchvizion"]):  # no such package: uv says so
        assert "torchvizion was not found" in project.uvtorch("add", *words).must(1).err
    assert project.state() == before


def test_a_release_newer_than_the_catalog_is_asked_for(project: Project) -> None:
    """A machine with a GPU: the indexes say whether they have it for this machine, and these do not."""
    before = project.state()
    done = project.uvtorch("add", "torch==99", machine="h200-580").must(2)
    assert done.err.startswith("error: ")
    assert project.state() == before


def test_an_index_that_cannot_be_asked_is_no_no(project: Project) -> None:
    before = project.state()
    base = f"{project.home.server.url}/down"
    done = project.uvtorch("add", "torch==99", machine="h200-580", UVTORCH_INDEX_BASE=base, UV_HTTP_RETRIES="0").must(2)
    assert done.err.startswith("error: the catalog does not know this release, and ")
    assert f"{base}/cu13" in done.err
    assert project.state() == before


def test_nothing_fits_is_an_error_that_names_what_would(project: Project) -> None:
    before = project.state()
    done = project.uvtorch("add", "torch==2.15.0", machine="h100-535").must(2)
    assert done.err.splitlines()[0].startswith("error: torch 2.15.0 needs a driver >= 580; this machine has 535.")
    assert "The newest that fits is 2.14.1 (cu126)." in done.err
    assert project.state() == before


def test_a_broken_driver_is_an_error(project: Project) -> None:
    before = project.state()
    done = project.uvtorch("add", "torch", machine="broken-mismatch").must(2)
    assert done.err.startswith("error: NVIDIA: ")
    assert project.state() == before


def test_an_index_of_the_same_name_and_another_url_is_refused(empty: Empty) -> None:
    project = empty(BARE + '\n[[tool.uv.index]]\nname = "pytorch-cu128"\nurl = "https://example.com/cu128"\n')
    before = project.state()
    done = project.uvtorch("add", "torch", "--torch-backend", "cu128").must(2)
    assert done.err.startswith("error: ")
    assert "pytorch-cu128" in done.err
    assert "https://example.com/cu128" in done.err
    assert project.state() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no `pyproject.toml` found"),
        (b"[project\n", "is not TOML"),
        (b"[tool.black]\nline-length = 88\n", "no `[project]` table"),
        (b'[project]\nname = "d\xe9mo"\n', "is not UTF-8"),
        (b"\xff\xfe[\x00p\x00", "is not UTF-8"),
        (b'project = "demo"\n', "project"),
        (b'[project]\nname = "demo"\nversion = "1"\ndependencies = "torch"\n', "dependencies"),
    ],
    ids=["missing", "not-toml", "without-project", "latin-1", "utf-16", "project-is-text", "dependencies-is-text"],
)
def test_a_pyproject_that_cannot_be_used_is_one_error(project: Project, content: bytes | None, says: str) -> None:
    if content is None:
        project.file.unlink()
    else:
        project.file.write_bytes(content)
    before = project.state()
    done = project.uvtorch("add", "torch").must(2)
    rows = done.err.splitlines()
    assert rows[0].startswith("error: ")
    assert says in rows[0]
    assert all(row.startswith("hint: ") for row in rows[1:]), done.err
    assert project.state() == before


def test_a_read_only_pyproject_is_one_error(project: Project) -> None:
    os.chmod(project.file, stat.S_IRUSR)
    before = project.state()
    done = project.uvtorch("add", "torch").must(2)
    assert [row for row in done.err.splitlines() if row.startswith("error: ")] == [
        f"error: {project.file} is read-only"
    ]
    assert project.state() == before


# Where the requirement goes


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["--dev"], ("dependency-groups", "dev")),
        (["--group", "train"], ("dependency-groups", "train")),
        (["--optional", "train"], ("project", "optional-dependencies", "train")),
    ],
    ids=["dev", "group", "optional"],
)
def test_targets_are_uvs_affair_and_the_sources_apply(
    project: Project, options: list[str], where: tuple[str, ...]
) -> None:
    project.uvtorch("add", "torch", "torchvision", *options, machine="h200-580").must()
    table: Any = project.data
    for key in where:
        table = table[key]
    assert table == ["torch>=2.15.0", "torchvision>=0.29.2"]
    assert project.data["project"]["dependencies"] == []
    project.check("cu130", "--all-extras", "--all-groups")
    before = project.state()
    project.uvtorch("add", "torch", "torchvision", *options, machine="h200-580").must()
    assert project.state() == before


def test_a_requirements_file(project: Project) -> None:
    (project.path / "more.txt").write_text("torchvision  # pictures\n", encoding="utf-8")
    (project.path / "requirements.txt").write_text("# ours\nnumpy\ntorch<2.12\n-r more.txt\n", encoding="utf-8")
    project.uvtorch("add", "-r", "requirements.txt", machine="h200-580").must()
    assert set(project.data["tool"]["uv"]["sources"]) == {"torch", "torchvision"}
    project.check("cu130")
    assert project.by_platform()["linux_x86_64"]["torch"] == "2.11.0+cu130"


def test_a_requirements_file_without_pytorch_is_left_to_uv(project: Project) -> None:
    (project.path / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    done = project.uvtorch("add", "-r", "requirements.txt", machine="broken-mismatch").must()
    assert not done.ours
    assert "tool" not in project.data


@pytest.mark.parametrize("option", [(), ("--torch-backend", "cu128")])
def test_other_packages_are_left_to_uv(project: Project, option: tuple[str, ...]) -> None:
    done = project.uvtorch("add", "numpy", *option, machine="broken-mismatch").must()
    assert not done.ours
    assert "tool" not in project.data
    assert project.data["project"]["dependencies"] == ["numpy>=2.3.5"]


def test_a_workspace_member(empty: Empty) -> None:
    root = empty(BARE + '\n[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    member = root.path / "packages" / "model"
    member.mkdir(parents=True)
    (member / "pyproject.toml").write_text(BARE.replace("demo", "model"), encoding="utf-8")
    root.uv("lock").must()
    text = root.text
    root.uvtorch("add", "--package", "model", "torch", "torchvision", machine="h200-580").must()
    assert root.text == text
    one = Project(root.home, member)
    assert set(one.data["tool"]["uv"]["sources"]) == {"torch", "torchvision"}
    root.check("cu130", "--all-packages")
    before = root.state()
    one.uvtorch("add", "torch", "torchvision", machine="cpu-only").must()  # the same from inside the member
    assert root.state() == before
    root.uvtorch("add", "--package", "model", "torch==99", "--torch-backend", "cpu").must(1)
    assert root.state() == before
    done = root.uvtorch("add", "--package", "nobody", "torch").must(2)
    assert "has no package `nobody`" in done.err


def test_a_workspace_that_pins_at_its_root(empty: Empty) -> None:
    """uv takes a member's sources from the root where the member has none; a second pin would be a second build."""
    root = empty(BARE + '\n[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    root.uvtorch("add", "torch", machine="h100-535").must()
    member = root.path / "packages" / "model"
    member.mkdir(parents=True)
    (member / "pyproject.toml").write_text(BARE.replace("demo", "model"), encoding="utf-8")
    root.uvtorch("add", "--package", "model", "torchvision", machine="h200-580").must()
    root.check("cu126", "--all-packages")


def test_a_script(project: Project) -> None:
    script = project.path / "train.py"
    script.write_text('# /// script\n# requires-python = ">=3.11"\n# dependencies = []\n# ///\nimport torch\n')
    pyproject = project.file.read_bytes()
    project.uvtorch("add", "--script", "train.py", "torch", machine="h200-580").must()
    text = script.read_text().replace(project.home.server.base, "https://download.pytorch.org/whl")
    assert text.endswith("# ///\nimport torch\n")
    for row in (
        '#     "torch>=2.15.0",',
        f'# torch = [{{ index = "pytorch-cu130", marker = "{LINUX_WINDOWS}" }}]',
        '# name = "pytorch-cu130"',
        '# url = "https://download.pytorch.org/whl/cu130"',
        "# explicit = true",
    ):
        assert row in text.splitlines()
    assert project.file.read_bytes() == pyproject
    assert not (project.path / "uv.lock").exists()
    project.uv("lock", "--script", "train.py").must()
    assert {index for _, index in project.locked("train.py.lock")["torch"]} == {"whl/cu130", "simple"}
    before = project.state()
    project.uvtorch("add", "--script", "train.py", "torch", machine="h200-580").must()
    assert project.state() == before
    project.uvtorch("add", "--script", "train.py", "torch==99", "--torch-backend", "cu126").must(1)
    assert project.state() == before


@pytest.mark.parametrize(
    "text",
    [
        "import torch\n",
        "#!/usr/bin/env python\nimport torch\n",
        "#!/usr/bin/env python",
        "# a comment\n\nimport torch\n",
        '"""A docstring."""\r\nimport torch\r\n',
        "",
    ],
)
def test_a_script_without_metadata_is_begun_as_uv_begins_it(project: Project, text: str) -> None:
    mine, uvs = project.path / "mine.py", project.path / "uvs.py"
    mine.write_bytes(text.encode())
    uvs.write_bytes(text.encode())
    project.uvtorch("add", "--script", "mine.py", "torch", machine="h200-580").must()
    project.uv("add", "--script", "uvs.py", "torch").must()
    rows = [row for row in mine.read_bytes().decode().splitlines() if row]
    after = rows[rows.index("# explicit = true") + 1 :]
    before = rows[: rows.index("# [tool.uv.sources]") - 1]
    assert before + after == [row for row in uvs.read_bytes().decode().splitlines() if row]
    project.uv("lock", "--script", "mine.py").must()
    assert "whl/cu130" in {index for _, index in project.locked("mine.py.lock")["torch"]}
    state = project.state()
    project.uvtorch("add", "--script", "mine.py", "torch", machine="h200-580").must()
    assert project.state() == state


def test_a_script_without_metadata_is_given_back_as_it_was(project: Project) -> None:
    (project.path / "train.py").write_bytes(b"import torch\r\n")
    before = project.state()
    project.uvtorch("add", "--script", "train.py", "torch==99", "--torch-backend", "cpu").must(1)
    assert project.state() == before
    done = project.uvtorch("add", "--script", "none.py", "torch").must(2)
    assert done.err.startswith("error: cannot read ")


@pytest.mark.parametrize(
    ("packages", "backend"), [(["torchvision"], "cu130"), (["torch"], "xpu"), (["torch==2.9.1"], "rocm6.4")]
)
def test_a_script_has_no_groups_for_what_must_be_named(project: Project, packages: list[str], backend: str) -> None:
    """What else must come from the index is named in the script's dependencies."""
    script = project.path / "train.py"
    script.write_text('# /// script\n# requires-python = ">=3.11"\n# dependencies = []\n# ///\n')
    project.uvtorch("add", "--script", "train.py", *packages, "--torch-backend", backend).must()
    project.uv("lock", "--script", "train.py").must()
    locked = project.locked("train.py.lock")
    assert f"whl/{backend}" in {index for _, index in locked["torch"]}
    before = project.state()
    project.uvtorch("add", "--script", "train.py", *packages, "--torch-backend", backend).must()
    assert project.state() == before
    project.uvtorch("add", "--script", "train.py", *packages, "--torch-backend", "cpu").must()
    assert "triton" not in script.read_text()
    project.uv("lock", "--script", "train.py").must()
    assert {index for _, index in project.locked("train.py.lock")["torch"]} == {"whl/cpu"}


def test_frozen_edits_and_does_not_lock(project: Project) -> None:
    project.uvtorch("add", "torch", "--frozen", machine="h200-580").must()
    assert project.data["project"]["dependencies"] == ["torch"]
    assert project.text.endswith(tables("cu130", "torch"))
    assert not (project.path / "uv.lock").exists()
    project.uv("sync").must()
    project.check("cu130")


def test_no_sync_locks_and_does_not_install(project: Project) -> None:
    project.uvtorch("add", "torch", "--no-sync", machine="h200-580").must()
    assert not (project.path / ".venv").exists()
    project.check("cu130")


def test_the_place_of_the_project_may_be_given(project: Project, tmp_path: Path) -> None:
    outside = Project(project.home, tmp_path)
    for place in (["--directory", "demo"], ["--project", "demo"]):
        outside.uvtorch(*place, "add", "torch", machine="h200-580").must()
        project.check("cu130")
    before = project.state()
    outside.uvtorch("add", "torch", UV_PROJECT="demo").must()
    outside.uvtorch("add", "torch", "--directory=demo").must()
    assert project.state() == before


def test_options_of_uv_reach_uv(project: Project) -> None:
    project.uvtorch("add", "--bounds", "exact", "--", "torch", machine="h200-580").must()
    assert project.data["project"]["dependencies"] == ["torch==2.15.0"]
    project.check("cu130")


# Transitive torch


def test_torchvision_alone_brings_torch_from_the_same_index(project: Project) -> None:
    project.uvtorch("add", "torchvision", machine="h200-580").must()
    assert project.data["project"]["dependencies"] == ["torchvision>=0.29.2"]
    assert project.data["dependency-groups"] == {"uvtorch": ["torch"]}
    project.check("cu130")
    assert project.installed()["torch"] == "2.15.0+cu130"
    before = project.state()
    project.uvtorch("add", "torchvision", machine="cpu-only").must()
    assert project.state() == before


def test_adding_torch_later_takes_its_anchor_away(project: Project) -> None:
    project.uvtorch("add", "torchvision", machine="h200-580").must()
    project.uvtorch("add", "torch", machine="broken-mismatch").must()
    assert project.data["project"]["dependencies"] == ["torch>=2.15.0", "torchvision>=0.29.2"]
    assert "dependency-groups" not in project.data
    project.check("cu130")


@pytest.mark.parametrize(("backend", "torch"), [("rocm6.4", "2.9.1"), ("xpu", "2.15.0"), ("xpu", "2.9.1")])
def test_the_companion_is_anchored_and_follows(project: Project, backend: str, torch: str) -> None:
    project.uvtorch("add", f"torch=={torch}", "--torch-backend", backend).must()
    prefix = "pytorch-" if torch == "2.9.1" else ""
    name = f"{prefix}triton-{backend.rstrip('.64')}"
    assert project.data["dependency-groups"] == {"uvtorch": [f"{name} ; {MARKERS[backend]}"]}
    assert set(project.data["tool"]["uv"]["sources"]) == {"torch", name}
    project.check(backend)
    assert project.by_platform()["linux_x86_64"][name]
    project.uvtorch("add", "torch", "--torch-backend", "cpu").must()  # what another backend needs goes with it
    assert "dependency-groups" not in project.data
    assert set(project.data["tool"]["uv"]["sources"]) == {"torch"}
    project.check("cpu")


def test_a_loose_pair_is_bounded(project: Project) -> None:
    """torchaudio 2.11.0 asks for no torch: uv would put it beside torch 2.9.1, with which it does not work."""
    project.uvtorch("add", "torch==2.9.1", "torchaudio", machine="h100-570").must()
    assert project.by_platform()["linux_x86_64"]["torchaudio"] == "2.9.1+cu128"
    project.check("cu128")


def test_the_newest_torch_that_runs_is_a_bound(project: Project) -> None:
    """V100 and B200 in one machine: cu129 has kernels for both up to 2.10, and newer releases on the same index."""
    project.uvtorch("add", "torch", machine="v100-b200-580").must()
    assert project.by_platform()["linux_x86_64"]["torch"] == "2.10.0+cu129"
    project.check("cu129")


def test_an_anchor_that_bounds_the_release_stays(project: Project) -> None:
    project.uvtorch("add", "torchvision", machine="v100-b200-580").must()
    project.uvtorch("add", "torch", machine="v100-b200-580").must()
    project.uv("lock", "--upgrade").must()
    assert project.by_platform()["linux_x86_64"]["torch"] == "2.10.0+cu129"


# Who asks


def test_a_local_version_names_its_backend(project: Project) -> None:
    project.uvtorch("add", "torch==2.9.1+cu126", "torchvision", machine="h200-580").must()
    assert project.data["project"]["dependencies"][0] == "torch==2.9.1"
    project.check("cu126")
    assert project.installed()["torch"] == "2.9.1+cu126"
    before = project.state()
    project.uvtorch("add", "torch==2.9.1+cu126", "torchvision").must()
    assert project.state() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["torch==2.9.1+cu126", "--torch-backend", "cu128"], "cu126"),
        (["torch==2.9.1+cu126", "torchvision==0.24.1+cu128"], "cu128"),
        (["torch", "--torch-backend", "cu126", "--torch-backend", "cu128"], "cu128"),
        (["torch", "--torch-backend", "cuda"], "`cuda` is not a backend"),
        (["torch", "--torch-backend"], "needs a backend"),
        (["torch", "--torch-backend="], "needs a backend"),
        (["torch", "--no-sources", "--torch-backend", "cu128"], "switched off"),
    ],
)
def test_contradictions_are_refused(project: Project, arguments: list[str], says: str) -> None:
    before = project.state()
    done = project.uvtorch("add", *arguments).must(2)
    assert done.err.startswith("error: ")
    assert says in done.err
    assert project.state() == before


def test_precedence(empty: Empty) -> None:
    """Option, local version, the project's pins, environment, configuration, detection."""
    project = empty(BARE + '\n[tool.uvtorch]\nbackend = "cu128"\n')

    def chosen(*arguments: str, **env: str) -> str:
        done = project.uvtorch("add", *arguments, "--dry-run", machine="h200-580", **env).must()
        return done.out.splitlines()[0].removeprefix("# using ").split()[0]

    assert chosen("torch") == "cu128"
    assert chosen("torch", "--torch-backend", "auto") == "cu130"
    assert chosen("torch", UV_TORCH_BACKEND="auto") == "cu130"
    assert chosen("torch", UV_TORCH_BACKEND="cu126") == "cu126"
    assert chosen("torch==2.9.1+cpu", UV_TORCH_BACKEND="cu126") == "cpu"
    assert chosen("torch", "--torch-backend", "xpu", UV_TORCH_BACKEND="cu126") == "xpu"
    project.uvtorch("add", "torch").must()
    project.check("cu128")
    before = project.state()
    project.uvtorch("add", "torchvision", UV_TORCH_BACKEND="").must()
    project.check("cu128")
    assert before != project.state()
    kept = project.state()
    project.uvtorch("add", "torch", UV_TORCH_BACKEND="cu126").must()
    assert project.state() == kept
    assert chosen("torch", "--torch-backend", "auto") == "cu130"


def test_the_environment_names_a_backend(project: Project) -> None:
    project.uvtorch("add", "torch", machine="h200-580", UV_TORCH_BACKEND="cu126").must()
    project.check("cu126")
    done = project.uvtorch("add", "torch", UV_TORCH_BACKEND="cuda").must(2)
    assert done.err.startswith("error: UV_TORCH_BACKEND: `cuda` is not a backend")


def test_the_driver_override(project: Project) -> None:
    environment = {key: value for key, value in project.environment.items() if key != "UVTORCH_HARDWARE"}
    done = project.uvtorch(
        "torch", "detect", "--json", UVTORCH_HARDWARE="", UV_CUDA_DRIVER_VERSION="550.54.14", **environment
    )
    assert json.loads(done.must().out)["nvidia_driver"]["version"] == "550.54.14"
    done = project.uvtorch("add", "torch", "--dry-run", UVTORCH_HARDWARE="", UV_CUDA_DRIVER_VERSION="550.54.14").must()
    assert done.out.startswith("# using cu126 (torch 2.14.1)")


def test_a_description_may_come_through_standard_input(project: Project) -> None:
    text = (Path(__file__).parent / "machines" / "h200-580.json").read_text()
    done = project.uvtorch("add", "torch", "--dry-run", stdin=text, UVTORCH_HARDWARE="/dev/stdin").must()
    assert done.out.startswith("# using cu130")


def test_configuration(empty: Empty) -> None:
    project = empty(BARE + '\n[tool.uvtorch]\nbackend = "cu126"\nindex-base = "BASE/"\npackages = ["timm"]\n')
    del project.environment["UVTORCH_INDEX_BASE"]
    done = project.uvtorch("add", "timm", "--dry-run").must()
    assert "+timm = [" in done.out
    project.uvtorch("add", "torch").must()
    project.check("cu126")
    assert f'url = "{project.home.server.base}/cu126"' in project.file.read_text()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("bakend = 'cu128'", "backend, auto, index-base, packages"),
        ("backend = 'cuda'", "backend"),
        ("backend = 3", "backend"),
        ("auto = 'yes'", "auto"),
        ("packages = 'timm'", "packages"),
        ("index-base = 1", "index-base"),
    ],
)
def test_bad_configuration_is_an_error(empty: Empty, table: str, says: str) -> None:
    project = empty(f"{BARE}\n[tool.uvtorch]\n{table}\n")
    before = project.state()
    done = project.uvtorch("add", "torch").must(2)
    assert done.err.startswith("error: ")
    assert all(word in done.err for word in says.split(", "))
    assert project.state() == before


# What is there already


def test_an_index_with_the_same_url_is_reused_under_its_name(empty: Empty) -> None:
    project = empty(BARE + '\n[[tool.uv.index]]\nname = "mirror"\nurl = "BASE/cu128/"\nexplicit = true\n')
    project.uvtorch("add", "torch", "--torch-backend", "cu128").must()
    assert [index["name"] for index in project.data["tool"]["uv"]["index"]] == ["mirror"]
    assert project.data["tool"]["uv"]["sources"]["torch"][0]["index"] == "mirror"
    project.check("cu128")


def test_a_reused_index_becomes_explicit(empty: Empty) -> None:
    project = empty(BARE + '\n[[tool.uv.index]]\nname = "mirror"\nurl = "BASE/cu128"\n')
    project.uvtorch("add", "torch", "--torch-backend", "cu128").must()
    assert project.data["tool"]["uv"]["index"][0]["explicit"] is True
    project.check("cu128")


def test_another_backend_on_request_replaces_the_first(project: Project) -> None:
    initial = project.text
    project.uvtorch("add", "torch<2.12", "torchvision", "--torch-backend", "cu126").must()
    project.check("cu126")
    project.uvtorch("add", "torch<2.12", "--torch-backend", "cu130").must()
    requirements = '    "torch<2.12",\n    "torchvision>=0.26.0",\n'
    assert project.text == written(initial, "cu130", requirements, "torch", "torchvision")
    project.check("cu130")


def test_an_index_of_an_earlier_backend_stays_where_another_package_uses_it(project: Project) -> None:
    project.uvtorch("add", "torch", "--torch-backend", "cu126").must()
    text = project.file.read_text().replace(
        "[tool.uv.sources]\n", '[tool.uv.sources]\nnumpy = { index = "pytorch-cu126" }\n'
    )
    project.file.write_text(text)
    project.uvtorch("add", "torch", "--torch-backend", "cu130").must()
    assert [index["name"] for index in project.data["tool"]["uv"]["index"]] == ["pytorch-cu126", "pytorch-cu130"]


def test_adding_torchvision_later_detects_nothing(project: Project) -> None:
    project.uvtorch("add", "torch", machine="h100-535").must()
    done = project.uvtorch("add", "torchvision", machine="broken-mismatch").must()
    assert done.ours == ["uvtorch: torchvision from pytorch-cu126, as the project has it"]
    project.check("cu126")
    assert project.text.count("pytorch-cu126") == 3


def test_an_index_of_the_users_own_on_the_command_line_is_left_to_uv(project: Project) -> None:
    index = f"mine={project.home.server.base}/cu128"
    done = project.uvtorch("add", "torch", "--index", index, machine="broken-mismatch").must()
    assert not done.ours
    assert project.data["tool"]["uv"]["sources"]["torch"] == {"index": "mine"}


def test_every_other_byte_stays(project: Project) -> None:
    """Comments, odd quoting, the missing newline at the end, the file's mode."""
    text = (
        "# ours\n[project]\nname='demo'   # odd\nversion = \"0.1.0\"\nrequires-python = '>=3.11'\n"
        "dependencies = [\n  # pictures\n  'numpy',   # fast\n]\n\n[tool.other]\nkey   =   [1,2 , 3]"
    )
    project.file.write_text(text)
    project.file.chmod(0o640)
    project.uvtorch("add", "torch", "--frozen", "--torch-backend", "cu128").must()
    head, _, tail = text.partition("]\n\n")
    assert project.text == f'{head}  "torch",\n]\n\n{tail}\n{tables("cu128", "torch")}'
    assert stat.S_IMODE(project.file.stat().st_mode) == 0o640
    before = project.state()
    project.uvtorch("add", "torch", "--frozen").must()
    assert project.state() == before


def test_a_failing_add_gives_crlf_and_mark_back(project: Project) -> None:
    text = "\ufeff" + project.text.replace("\n", "\r\n") + "# end"
    project.file.write_bytes(text.encode())
    before = project.state()
    project.uvtorch("add", "torch==99", "--torch-backend", "cu128").must(1)
    assert project.state() == before


# What is said


def test_dry_run_shows_and_changes_nothing(project: Project) -> None:
    before = project.state()
    done = project.uvtorch("add", "torch", "torchvision", "--dry-run", "--no-sync", machine="h200-580").must()
    assert project.state() == before
    assert done.err == ""
    rows = done.out.replace(project.home.server.base, "BASE").splitlines()
    assert rows[0].startswith("# using cu130 (torch 2.15.0 or newer): ")
    assert rows[1].startswith("# the pin counts for all who install the project on Linux or Windows: ")
    assert rows[2:4] == ["--- a/pyproject.toml", "+++ b/pyproject.toml"]
    assert [row[1:] for row in rows[4:-1] if row.startswith("+")] == [
        "",
        "[tool.uv.sources]",
        f'torch = [{{ index = "pytorch-cu130", marker = "{LINUX_WINDOWS}" }}]',
        f'torchvision = [{{ index = "pytorch-cu130", marker = "{LINUX_WINDOWS}" }}]',
        "",
        "[[tool.uv.index]]",
        'name = "pytorch-cu130"',
        'url = "BASE/cu130"',
        "explicit = true",
    ]
    assert not [row for row in rows[4:-1] if row.startswith("-")]
    assert rows[-1] == "$ uv add torch torchvision --no-sync"


def test_dry_run_needs_neither_uv_nor_the_index(project: Project, tmp_path: Path) -> None:
    done = project.uvtorch(
        "add", "torch", "--dry-run", machine="h200-580",
        PATH="", UVTORCH_UV=str(tmp_path / "none"), UVTORCH_INDEX_BASE="http://127.0.0.1:9/whl",
    )  # fmt: skip
    assert done.must().out.startswith("# using cu130")


def test_one_line_a_decision_on_stderr(project: Project) -> None:
    done = project.uvtorch("add", "torch", machine="h200-580").must()
    assert done.out == ""
    assert len(done.ours) == 2
    assert done.ours[0].startswith("uvtorch: using cu130 (torch 2.15.0 or newer): ")
    assert done.ours[1].startswith("uvtorch: the pin counts for all who install the project on Linux or Windows: ")
    assert len(project.uvtorch("add", "torchvision").must().ours) == 1  # told once


@pytest.mark.parametrize("place", [["-q", "add"], ["add", "-q"], ["--quiet", "add"]])
def test_quiet_says_nothing(project: Project, place: list[str]) -> None:
    done = project.uvtorch(*place, "torch", machine="h200-580").must()
    assert (done.out, done.err) == ("", "")
    project.check("cu130")


def test_a_backend_that_cannot_run_here_is_obeyed_with_a_warning(project: Project) -> None:
    done = project.uvtorch("add", "torch", "--torch-backend", "cu130", machine="h100-535").must()
    assert [row for row in done.err.splitlines() if row.startswith("warning: cu130 will not run on this machine")]
    project.check("cu130")


def test_a_gpu_without_device_files_gives_the_cpu_build_and_says_so(project: Project) -> None:
    done = project.uvtorch("add", "torch", machine="unreachable-container").must()
    assert len([row for row in done.err.splitlines() if row.startswith("warning: ")]) == 1
    project.check("cpu")


# Afterwards


def test_plain_uv_goes_on_without_uvtorch(project: Project) -> None:
    project.uvtorch("add", "torchvision", machine="h200-580").must()
    project.uv("add", "numpy").must()
    project.uv("lock", "--upgrade").must()
    project.uv("sync").must()
    project.check("cu130")
    project.uv("remove", "torchvision").must()
    project.uv("sync").must()
    assert "torch" not in project.installed()


def test_the_published_metadata_knows_nothing_of_uvtorch(project: Project, tmp_path: Path) -> None:
    project.uvtorch("add", "torchvision", "--torch-backend", "rocm6.4").must()
    assert set(project.data["dependency-groups"]) == {"uvtorch"}
    project.uv("build", "--wheel", "--offline", "--out-dir", str(tmp_path / "dist")).must()
    import zipfile

    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("demo-0.1.0.dist-info/METADATA").decode()
    assert [row for row in metadata.splitlines() if row.startswith(("Requires-Dist", "Provides-Extra"))] == [
        "Requires-Dist: torchvision>=0.24.1"
    ]


def test_a_directory_with_spaces_and_other_letters(home: Home, initialized: Path, tmp_path: Path) -> None:
    shutil.copytree(initialized, tmp_path / "ein Großes $HOME 'x'")
    project = Project(home, tmp_path / "ein Großes $HOME 'x'")
    project.uvtorch("add", "torch", machine="h200-580").must()
    project.check("cu130")
    before = project.state()
    done = project.uvtorch("add", "torchvision", "--dry-run", machine="h200-580").must()
    assert done.out.splitlines()[1] == "--- a/pyproject.toml"
    assert project.state() == before


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_windows_line_breaks_and_a_byte_order_mark_stay(project: Project, verb: str) -> None:
    """Though uv writes the file anew with Unix line breaks and no mark."""
    initial = project.text
    project.file.write_bytes(("\ufeff" + initial.replace("\n", "\r\n")).encode())
    project.uvtorch("add", "torch", "--torch-backend", "cu128").must()
    result = written(initial, "cu128", '    "torch>=2.11.0",\n', "torch")
    assert project.text == "\ufeff" + result.replace("\n", "\r\n")
    project.uvtorch("add", "jinja2").must()
    assert project.text.count("\r\n") == project.text.count("\n")
    assert project.text.startswith("\ufeff")
    if verb == "remove":
        project.uvtorch("remove", "torch").must()
        assert project.file.read_bytes().startswith(b"\xef\xbb\xbf")
        assert project.text.count("\r\n") == project.text.count("\n")
        return
    project.check("cu128")
    before = project.state()
    project.uvtorch("add", "torch", "--torch-backend", "cu128").must()
    assert project.state() == before


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="torch 2.2.2 has no wheels for this Python")
def test_an_intel_mac_is_told_of_the_last_torch_that_it_can_install(project: Project) -> None:
    """PyPI has it, the index of these tests has not."""
    done = project.uvtorch("add", "torch", "--no-sync", machine="macos-intel").must()
    assert '`uvtorch add "torch<2.3"` takes one that has' in done.err
    assert "uv" not in project.data.get("tool", {})


def test_a_version_that_the_pinned_index_may_lack_is_told_with_the_way_to_another(project: Project) -> None:
    project.uvtorch("add", "torch", "--torch-backend", "cu126", "--no-sync", machine="h200-580").must()
    before = project.state()
    words = ("torchvision>=0.29.2", "--no-sync")
    done = project.uvtorch("add", *words, machine="h200-580").must(1)
    assert "may lack that; `uvtorch add --torch-backend auto 'torchvision>=0.29.2' --no-sync`" in done.err
    assert project.state() == before
    project.uvtorch("add", "--torch-backend", "auto", *words, machine="h200-580").must()
    project.check("cu130")

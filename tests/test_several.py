"""Projects with several backends on the real uv: the choice that fits each machine, and packages in every choice."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import Home, Project
from tests.test_command_lines import lay_out, told

pytest_plugins = ["tests.index.fixtures"]

MACHINES = {
    "cpu-only": ("cpu", "2.15.0+cpu", "0.29.2+cpu"),
    "rtx4090-550": ("cu126", "2.14.1+cu126", "0.29.1+cu126"),
    "h200-580": ("cu130", "2.15.0+cu130", "0.29.2+cu130"),
    "v100-535": ("cu126", "2.14.1+cu126", "0.29.1+cu126"),
}
FRESH = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = ["torch", "numpy"]\n'
EMPTY = FRESH.replace('"torch", "numpy"', "")
BASE_TOO = """\
[project]
name = "demo"
version = "0.1"
requires-python = ">=3.11"
dependencies = ["torch"]
[project.optional-dependencies]
cpu = ["torch"]
gpu = ["torch"]
[tool.uv]
conflicts = [[{ extra = "cpu" }, { extra = "gpu" }]]
[tool.uv.sources]
torch = [{ index = "a", extra = "cpu" }, { index = "b", extra = "gpu", marker = "sys_platform == 'linux'" }]
[[tool.uv.index]]
name = "a"
url = "BASE/cpu"
explicit = true
[[tool.uv.index]]
name = "b"
url = "BASE/cu126"
explicit = true
"""
DEFAULT_GROUP = """\
[project]
name = "demo"
version = "0.1"
requires-python = ">=3.11"
dependencies = []
[dependency-groups]
dev = ["toml-cli"]
cpu = ["torch"]
cu126 = ["torch"]
[tool.uv]
default-groups = ["dev", "cpu"]
conflicts = [[{ group = "cpu" }, { group = "cu126" }]]
[tool.uv.sources]
torch = [{ index = "a", group = "cpu" }, { index = "b", group = "cu126" }]
[[tool.uv.index]]
name = "a"
url = "BASE/cpu"
explicit = true
[[tool.uv.index]]
name = "b"
url = "BASE/cu126"
explicit = true
"""
Make = Callable[[str], Project]


@pytest.fixture(scope="module")
def offering(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project after `torch backends cpu cu126 cu130`."""
    path = tmp_path_factory.mktemp("offering") / "demo"
    path.mkdir()
    Project(home, path).write(FRESH).uvtorch("torch", "backends", "cpu", "cu126", "cu130").must()
    return path


@pytest.fixture
def several(home: Home, offering: Path, tmp_path: Path) -> Project:
    """A copy of that project."""
    shutil.copytree(offering, tmp_path / "demo")
    return Project(home, tmp_path / "demo")


def pytorch(project: Project) -> dict[str, str]:
    return {name: version for name, version in project.installed().items() if name.startswith("torch")}


def requirements(project: Project) -> dict[str, list[str]]:
    data = project.data
    places = {"base": data["project"]["dependencies"]}
    return {**places, **data["project"].get("optional-dependencies", {}), **data.get("dependency-groups", {})}


# Choosing


def test_each_machine_gets_its_build_from_one_unchanged_lock(several: Project) -> None:
    before = several.state()
    for machine, (extra, torch, _) in MACHINES.items():
        done = several.uvtorch("sync", "--auto", "--locked", machine=machine).must()
        assert done.ours[0].startswith(f"uvtorch: using --extra {extra} ({extra}, torch {torch.partition('+')[0]})")
        assert pytorch(several) == {"torch": torch}
    assert several.state() == before


def test_run_keeps_the_environment_that_sync_made(several: Project) -> None:
    several.uvtorch("sync", "--auto", machine="rtx4090-550").must()
    version = "import importlib.metadata as m; print(m.version('torch'))"
    for options in ([], ["--frozen"], ["--locked"]):
        done = several.uvtorch("run", "--auto", *options, "python", "-c", version, machine="rtx4090-550").must()
        assert done.out == "2.14.1+cu126\n"
        assert "Installed" not in done.err
    assert several.uv("run", "--no-sync", "python", "-c", version).must().out == "2.14.1+cu126\n"


def test_an_alias_gets_the_build_that_it_stands_for(several: Project) -> None:
    """uv takes the source of an extra only where that extra itself is named: by the alias alone it installs PyPI's."""
    table = "[project.optional-dependencies]\n"
    several.file.write_text(several.file.read_text().replace(table, f'{table}gpu = ["demo[cu126]"]\n'))
    several.uv("sync", "--extra", "gpu").must()
    assert pytorch(several) == {"torch": "2.15.0"}
    done = several.uvtorch("sync", "--auto", "--extra", "gpu").must()
    assert done.ours[0].startswith("uvtorch: using --extra cu126 ")
    assert pytorch(several) == {"torch": "2.14.1+cu126"}
    assert several.uvtorch("sync", "--auto", "--extra", "gpu", "--extra", "cu126", "--dry-run").must().ours == []


def test_configuration_and_environment_choose_without_an_option(several: Project) -> None:
    version = ("python", "-c", "import importlib.metadata as m; print(m.version('torch'))")
    assert several.uvtorch("run", *version, machine="cpu-only", UV_TORCH_BACKEND="cu130").must().out == "2.15.0+cu130\n"
    several.append("[tool.uvtorch]\nauto = true\n")
    assert several.uvtorch("run", *version, machine="rtx4090-550").must().out == "2.14.1+cu126\n"
    assert several.uvtorch("run", "--extra", "cpu", *version, machine="rtx4090-550").must().out == "2.15.0+cpu\n"


def test_export_writes_the_choice_and_nothing_else(several: Project) -> None:
    done = several.uvtorch("export", "--auto", "--no-hashes", "--no-annotate", "-q", machine="h200-580").must()
    assert [row for row in done.out.splitlines() if row.startswith("torch")] == [
        "torch==2.15.0 ; sys_platform != 'linux' and sys_platform != 'win32'",
        "torch==2.15.0+cu130 ; sys_platform == 'linux' or sys_platform == 'win32'",
    ]


def test_default_groups_in_the_way_are_switched_off_and_others_stay(empty: Make) -> None:
    project = empty(DEFAULT_GROUP)
    project.uvtorch("sync", "--auto", machine="rtx4090-550").must()
    assert pytorch(project) == {"torch": "2.14.1+cu126"}
    assert "toml-cli" in project.installed()
    project.uvtorch("sync", "--auto", "--no-default-groups", machine="rtx4090-550").must()
    assert pytorch(project) == {"torch": "2.14.1+cu126"}
    assert "toml-cli" not in project.installed()
    project.uvtorch("sync", "--auto", "--no-dev", machine="cpu-only").must()
    assert pytorch(project) == {"torch": "2.15.0+cpu"}


@pytest.mark.parametrize(
    ("layout", "words", "line"),
    [
        ("extras-documented", "sync --auto --extra cpu", "sync --extra cpu"),
        ("extras-documented", "sync --auto --extra=CPU", "sync --extra=CPU"),
        ("extras-documented", "sync --auto --all-extras", "sync --all-extras"),
        ("extras-documented", "sync --auto --no-extra cu128", "sync --extra cpu --no-extra cu128; a warning"),
        ("extras-documented", "sync --auto --group dev", "sync --extra cu128 --group dev"),
        ("extras-documented", "sync --auto --only-group dev", "sync --only-group dev"),
        ("extras-documented", "sync --auto --torch-backend auto", "sync --extra cu128"),
        ("extras-documented", "sync --torch-backend cpu", "sync --extra cpu; a warning"),
        ("extras-documented", "-q sync --auto --locked", "-q sync --extra cu128 --locked"),
        ("extras-documented", "run --auto -- pytest -- -k x", "run --extra cu128 -- pytest -- -k x"),
        ("extras-documented", "run --auto pytest --auto", "run --extra cu128 pytest --auto"),
        ("extras-documented", "run --auto --no-sync pytest", "run --no-sync pytest"),
        ("extras-documented", "export --auto --no-dev -o x.txt", "export --extra cu128 --no-dev -o x.txt"),
        ("extras-documented", "lock --torch-backend auto", "lock"),
        ("recursive-extras", "sync --auto --extra laptop", "sync --extra cpu --extra laptop"),
        ("groups-with-default", "sync --auto --group cpu", "sync --group cpu"),
        ("groups-with-default", "sync --auto --only-dev", "sync --only-dev"),
        ("groups-with-default", "sync --auto --no-group cpu", "sync --group cu130 --no-group cpu"),
        ("groups-with-default", "sync --auto --no-default-groups", "sync --group cu130 --no-default-groups"),
        ("groups-with-default", "sync --auto --no-group cu130", "sync --group cu128 --no-group cpu --no-group cu130"),
        ("groups-with-default", "export --auto --all-groups", "export --all-groups"),
        ("groups-default-all", "run --auto x", "run --extra gpu --no-group cpu x"),
        ("extras-documented", "sync --torch-backend cu126", "error: the project offers no cu126, only cpu, cu128"),
        ("extras-documented", "sync --auto --no-sources", "sync --no-sources"),
    ],
)
def test_the_users_own_options_win(
    layout: str, words: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(layout, tmp_path))
    assert told(words.split(), "h200-580") == line


def test_the_environment_counts_as_uv_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out("groups-with-default", tmp_path))
    assert told(["sync"], "h200-580", UV_TORCH_BACKEND="auto") == "sync --group cu130 --no-group cpu"
    assert told(["sync", "--auto"], "h200-580", UV_NO_DEFAULT_GROUPS="1") == "sync --group cu130"
    assert told(["sync", "--auto"], "h200-580", UV_NO_GROUP="cpu") == "sync --group cu130"
    assert told(["sync"], "h200-580", UV_TORCH_BACKEND="cu128") == "sync --group cu128 --no-group cpu"


@pytest.mark.parametrize("machine", ["broken-mismatch", "broken-not-loaded", "broken-lost", "slow-or-hung-580"])
def test_a_broken_driver_is_no_cpu_choice(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = json.loads((Path(__file__).parent / "machines" / f"{machine}.json").read_text())
    monkeypatch.chdir(lay_out("extras-documented", tmp_path))
    line = told(["sync", "--auto"], machine)
    if any(problem["kind"] == "broken" for problem in described["problems"]):
        assert line.startswith("error: NVIDIA: ")
    else:
        assert line == "sync --extra cu128"
    assert told(["sync", "--auto", "--extra", "cpu"], machine) == "sync --extra cpu"
    assert told(["sync", "--torch-backend", "cpu"], machine).startswith("sync --extra cpu")


def test_a_broken_driver_that_no_choice_would_use_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent / "layouts" / "extras-documented.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace("whl/cu128", "whl/rocm6.4"))
    monkeypatch.chdir(tmp_path)
    assert told(["sync", "--auto"], "broken-mismatch").startswith("sync --extra cpu")


def test_a_gpu_without_device_files_gets_the_cpu_choice_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out("extras-documented", tmp_path))
    assert told(["sync", "--auto"], "unreachable-container") == "sync --extra cpu; a warning"


def lock_of(*builds: tuple[str, str]) -> str:
    rows = [
        f'[[package]]\nname = "torch"\nversion = "{version}"\nsource = {{ registry = "{url}" }}\n'
        for version, url in builds
    ]
    return 'version = 1\nrequires-python = ">=3.11"\n\n' + "\n".join(rows)


WHL = "https://download.pytorch.org/whl"


@pytest.mark.parametrize(
    ("cu128", "words", "line"),
    [
        ("2.10.0+cu128", "sync --auto", "sync --extra cu128"),
        ("2.11.0+cu128", "sync --auto", "sync --extra cpu; a warning"),
        ("2.10.0+cu128", "sync --auto --upgrade", "sync --extra cpu --upgrade; a warning"),
        ("2.10.0+cu128", "sync --auto -P torch", "sync --extra cpu -P torch; a warning"),
        ("2.10.0+cu128", "sync --auto -P numpy", "sync --extra cu128 -P numpy"),
        ("2.6.0+cu128", "sync --auto", "sync --extra cpu; a warning"),  # no longer admitted: uv locks anew
    ],
)
def test_the_release_that_is_locked_is_judged_not_one_that_might_be(
    cu128: str, words: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out("extras-documented", tmp_path))
    (tmp_path / "uv.lock").write_text(lock_of(("2.15.0+cpu", f"{WHL}/cpu"), (cu128, f"{WHL}/cu128")))
    assert told(words.split(), "v100-580") == line  # Volta's kernels end with torch 2.10 on cu128


def test_constraints_bound_what_a_choice_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out("extras-documented", tmp_path))
    assert told(["sync", "--auto"], "v100-580") == "sync --extra cpu; a warning"
    file = tmp_path / "pyproject.toml"
    file.write_text(file.read_text().replace("[tool.uv]\n", '[tool.uv]\nconstraint-dependencies = ["torch<2.11"]\n'))
    assert told(["sync", "--auto"], "v100-580") == "sync --extra cu128"


@pytest.mark.parametrize("text", ["", "not a lock", "[[package]]\nname = 1\n"])
def test_a_lock_that_cannot_be_read_is_uvs_affair(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out("extras-documented", tmp_path))
    (tmp_path / "uv.lock").write_text(text)
    assert told(["sync", "--auto"], "h200-580") == "sync --extra cu128"


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("workspace-forwards-extras", []),
        ("workspace-forwards-extras", ["--all-packages"]),
        ("workspace-forwards-extras", ["--package", "member"]),
        ("workspace-forwards-groups", []),
        ("workspace-without-a-root-project", []),
        ("workspace-without-a-root-project", ["--all-packages"]),
        ("workspace-without-a-root-project", ["--package", "member"]),
        ("workspace-member-chooses", []),
        ("workspace-root-groups", []),
        ("workspace-root-sources-for-members-extras", []),
    ],
)
def test_choices_in_a_workspace(layout: str, options: list[str], home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out(layout, tmp_path))
    for path in tmp_path.rglob("pyproject.toml"):
        path.write_text(path.read_text().replace("https://download.pytorch.org/whl", home.server.base))
    for machine, backend in (("cpu-only", "cpu"), ("rtx4090-550", "cu128")):
        done = project.uvtorch("sync", "--auto", *options, machine=machine, UV_PROJECT_ENVIRONMENT="env").must()
        assert f" ({backend}, torch" in done.ours[0]
        environment = next(path for path in (tmp_path / "env", project.path / "env") if path.exists())
        freeze = project.uv("pip", "freeze", "--python", str(environment)).must().out.splitlines()
        assert [row.partition("+")[2] for row in freeze if row.startswith("torch==")] == [backend]


# Adding


def test_plain_uv_mixes_two_builds_and_uvtorch_does_not(home: Home, several: Project, tmp_path: Path) -> None:
    plain = Project(home, tmp_path / "plain")
    shutil.copytree(several.path, plain.path)
    plain.uv("add", "torchvision").must()
    plain.uv("sync", "--extra", "cu126").must()
    mixed = pytorch(plain)
    assert (mixed["torch"], mixed["torchvision"]) == (
        "2.14.1+cu126",
        "0.29.2",
    )  # the latter is PyPI's, for PyPI's torch

    several.uvtorch("add", "torchvision", machine="rtx4090-550").must()
    assert pytorch(several) == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126"}


def test_add_and_remove_in_every_choice(several: Project) -> None:
    before = several.state()
    done = several.uvtorch("add", "torchvision", machine="rtx4090-550").must()
    assert len(done.ours) == 1
    assert requirements(several) == {
        "base": ["numpy"],
        "cpu": ["torch", "torchvision>=0.29.2"],
        "cu126": ["torch", "torchvision>=0.29.1"],
        "cu130": ["torch", "torchvision>=0.29.2"],
    }
    sources = several.data["tool"]["uv"]["sources"]
    assert sources["torchvision"] == sources["torch"]
    after = several.state()
    several.uvtorch("add", "torchvision", machine="h200-580").must()
    assert several.state() == after
    for machine, (extra, torch, torchvision) in MACHINES.items():
        several.uvtorch("sync", "--auto", "--locked", machine=machine).must()
        assert pytorch(several) == {"torch": torch, "torchvision": torchvision}, extra
    several.uv("sync", "--extra", "cpu", "--locked").must()
    assert pytorch(several) == {"torch": "2.15.0+cpu", "torchvision": "0.29.2+cpu"}
    several.uv("lock", "--check").must()
    several.uvtorch("remove", "torchvision", machine="rtx4090-550").must()
    assert several.state() == before
    assert pytorch(several) == {"torch": "2.14.1+cu126"}


def test_removing_the_last_package_takes_what_was_there_for_it(empty: Make) -> None:
    project = empty(FRESH)
    project.uvtorch("torch", "backends", "cpu", "rocm7.2").must()
    project.uvtorch("remove", "torch", "--no-sync").must()
    assert requirements(project) == {"base": ["numpy"], "cpu": [], "rocm7.2": []}
    assert "sources" not in project.data["tool"]["uv"]
    assert set(project.locked()) == {"numpy"}


def test_torch_stays_where_another_package_needs_it(several: Project) -> None:
    several.uvtorch("add", "torchvision", "--no-sync").must()
    done = several.uvtorch("remove", "torch", machine="rtx4090-550").must()
    assert requirements(several)["cu126"] == ["torchvision>=0.29.1", "torch"], done.err
    assert pytorch(several) == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126"}


def test_only_the_choice_that_is_named(several: Project) -> None:
    several.uvtorch("add", "--optional", "cpu", "torchvision", "--no-sync").must()
    assert requirements(several)["cpu"] == ["torch", "torchvision>=0.29.2"]
    assert requirements(several)["cu126"] == ["torch"]
    assert several.data["tool"]["uv"]["sources"]["torchvision"] == [{"index": "pytorch-cpu", "extra": "cpu"}]
    several.uvtorch("add", "torchaudio", "--torch-backend", "cu130", "--no-sync").must()
    assert requirements(several)["cu130"] == ["torch", "torchaudio>=2.11.0"]
    assert requirements(several)["cpu"] == ["torch", "torchvision>=0.29.2"]
    several.uvtorch("remove", "--optional", "cpu", "torchvision", "--no-sync").must()
    assert requirements(several)["cpu"] == ["torch"]
    assert "torchvision" not in several.data["tool"]["uv"]["sources"]
    assert not (several.path / ".venv").exists()


def test_a_local_version_means_one_choice(several: Project) -> None:
    several.uvtorch("add", "torch==2.9.1+cu126", "--no-sync").must()
    found = requirements(several)
    assert [found[name] for name in ("cpu", "cu126", "cu130")] == [["torch"], ["torch==2.9.1"], ["torch"]]
    assert ("2.9.1+cu126", "whl/cu126") in several.locked()["torch"]
    before = several.state()
    done = several.uvtorch("add", "torch==2.9.1+cu128").must(2)
    assert "error: the project offers no cu128, only cpu, cu126, cu130\n" in done.err
    assert "`uvtorch torch backends cpu cu126 cu130 cu128` adds it" in done.err
    assert several.state() == before


def test_a_place_that_is_no_choice_is_refused(several: Project) -> None:
    before = several.state()
    for target in (["--dev"], ["--group", "viz"], ["--optional", "viz"]):
        done = several.uvtorch("add", "torchvision", *target).must(2)
        assert "would come from PyPI, whatever backend is chosen" in done.err
    assert several.state() == before


def test_other_packages_of_the_command_go_where_uv_puts_them(several: Project) -> None:
    several.uvtorch("add", "torchvision", "toml-cli", machine="rtx4090-550").must()
    assert requirements(several)["base"] == ["numpy", "toml-cli>=0.1"]
    assert pytorch(several) == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126"}
    assert "toml-cli" in several.installed()
    several.uvtorch("remove", "torchvision", "toml-cli", machine="rtx4090-550").must()
    assert requirements(several)["base"] == ["numpy"]
    assert pytorch(several) == {"torch": "2.14.1+cu126"}


def test_what_another_package_brings_along_comes_from_each_choice(several: Project) -> None:
    several.uvtorch("add", "torchaudio", "timm", machine="rtx4090-550").must()
    assert requirements(several)["cu126"] == ["torch", "torchaudio>=2.11.0", "torchvision"]
    assert pytorch(several) == {"torch": "2.14.1+cu126", "torchaudio": "2.11.0+cu126", "torchvision": "0.29.1+cu126"}


@pytest.mark.parametrize("target", [[], ["--group", "models"]])
def test_a_package_that_brings_torch_does_not_flip_the_environment(several: Project, target: list[str]) -> None:
    several.uvtorch("sync", "--auto", machine="rtx4090-550").must()
    done = several.uvtorch("add", "timm", *target, machine="rtx4090-550").must()
    assert requirements(several)["cu126"] == ["torch", "torchvision"]
    assert pytorch(several) == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126"}
    assert " - torch==" not in done.err
    assert "timm" in several.installed()


@pytest.mark.parametrize("words", ["-r r.txt", "torchvision --extra scipy", "torchvision -m python_version>'3.9'"])
def test_each_choice_gets_a_requirement_as_it_is_typed(several: Project, words: str) -> None:
    (several.path / "r.txt").write_text("torchvision  # pixels\ntoml-cli\n")
    before = several.state()
    done = several.uvtorch("add", *words.split()).must(2)
    assert several.state() == before
    several.uvtorch("add", *shlex.split(done.err.split("`")[1])[2:], "--no-sync").must()
    assert requirements(several)["cpu"] == ["torch", "torchvision>=0.29.2 ; sys_platform == 'linux'"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--raw"], "torchvision"),
        (["--bounds", "major", "--preview"], "torchvision>=0.29.2,<0.30.0"),
        (["--bounds", "minor", "--preview"], "torchvision>=0.29.2,<0.29.3"),
        (["--bounds", "exact", "--preview"], "torchvision==0.29.2"),
        (["--frozen"], "torchvision"),
    ],
)
def test_options_of_add_mean_what_they_mean_to_uv(several: Project, options: list[str], text: str) -> None:
    lock = several.state()["uv.lock"]
    several.uvtorch("add", "torchvision", "--no-sync", *options).must()
    assert requirements(several)["cpu"] == ["torch", text]
    assert (several.state()["uv.lock"] == lock) == ("--frozen" in options)


def test_a_requirement_that_is_there_keeps_its_version_when_extras_are_added(several: Project) -> None:
    several.uvtorch("add", "torch>=2.9", "--no-sync").must()
    several.uvtorch("add", "torch[opt-einsum]", "--frozen").must()
    found = requirements(several)
    assert [found[name] for name in ("cpu", "cu126", "cu130")] == [["torch[opt-einsum]>=2.9"]] * 3


@pytest.mark.parametrize("words", [["add", "torchvision==99"], ["add", "torchvision", "no-such-package"]])
def test_a_failure_leaves_every_byte(several: Project, words: list[str]) -> None:
    before = several.state()
    assert several.uvtorch(*words).code == 1
    assert several.state() == before
    assert several.uvtorch("add", "torchvision", "--locked").code != 0
    assert several.state() == before


def test_a_dry_run_shows_every_command_and_changes_nothing(several: Project) -> None:
    before = several.state()
    done = several.uvtorch("add", "torchvision", "toml-cli", "--dry-run", machine="rtx4090-550").must()
    assert [row for row in done.out.splitlines() if row.startswith("$")] == [
        "$ uv add --no-sync toml-cli",
        "$ uv lock",
        "$ uv sync --inexact --extra cu126",
    ]
    assert "+torchvision = [" in done.out
    done = several.uvtorch("remove", "torch", "--dry-run", machine="rtx4090-550").must()
    assert [row for row in done.out.splitlines() if row.startswith("$")][-1] == "$ uv sync --extra cu126"
    assert several.state() == before


def test_a_base_that_has_torch_too_keeps_step(empty: Make) -> None:
    project = empty(BASE_TOO)
    project.uvtorch("add", "torchvision", machine="rtx4090-550").must()
    assert requirements(project) == {
        "base": ["torch", "torchvision>=0.29.1"],
        "cpu": ["torch", "torchvision>=0.29.2"],
        "gpu": ["torch", "torchvision>=0.29.1"],
    }
    assert pytorch(project) == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126"}
    project.uv("sync", "--locked").must()
    assert pytorch(project) == {"torch": "2.15.0", "torchvision": "0.29.2"}
    project.uvtorch("remove", "torchvision", "--no-sync").must()
    assert requirements(project) == {"base": ["torch"], "cpu": ["torch"], "gpu": ["torch"]}


def test_groups_of_which_one_is_a_default(empty: Make) -> None:
    project = empty(DEFAULT_GROUP)
    project.uvtorch("add", "torchvision", machine="rtx4090-550").must()
    assert requirements(project)["cu126"] == ["torch", "torchvision>=0.29.1"]
    assert pytorch(project) == {"torch": "2.14.1+cu126", "torchvision": "0.29.1+cu126"}
    project.uvtorch("add", "--group", "cpu", "torchaudio", machine="cpu-only").must()
    assert requirements(project)["cpu"] == ["torch", "torchvision>=0.29.2", "torchaudio>=2.11.0"]
    assert pytorch(project)["torchaudio"] == "2.11.0+cpu"


def test_choices_of_the_workspaces_root_are_changed_there(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("workspace-root-groups", tmp_path))
    before = project.state()
    done = project.uvtorch("add", "torchvision").must(2)
    assert "the backend choices are those of the workspace's root (root)" in done.err
    assert "`--package root` changes them there" in done.err
    assert project.state() == before


def test_a_choice_without_an_index_has_none_to_give(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("wheels-by-url", tmp_path))
    done = project.uvtorch("add", "torchvision").must(2)
    assert "extra cpu takes torch from no index" in done.err


def test_an_alternative_without_a_source_gets_the_package_too(home: Home, tmp_path: Path) -> None:
    project = Project(home, lay_out("unpinned-alternative", tmp_path))
    project.uvtorch("add", "torchaudio", "--frozen").must()
    found = requirements(project)
    assert [found[name] for name in ("torch", "torch-cpu")] == [["torch", "torchvision", "torchaudio"]] * 2
    assert [source["extra"] for source in project.data["tool"]["uv"]["sources"]["torchaudio"]] == ["torch-cpu"]


def test_add_on_a_machine_with_a_broken_driver(several: Project) -> None:
    before = several.state()
    done = several.uvtorch("add", "torchvision", machine="broken-mismatch").must(2)
    assert "error: NVIDIA: the driver's library" in done.err
    assert "hint: `--no-sync` leaves the environment out of `add`" in done.err
    assert several.state() == before
    several.uvtorch("add", "torchvision", "--no-sync", machine="broken-mismatch").must()


def test_the_remedy_for_a_broken_driver_is_the_same_command_with_the_cpu_choice(several: Project) -> None:
    for words in (["sync", "--auto", "--locked"], ["run", "--auto", "python", "-c", "import torch; print(1)"]):
        done = several.uvtorch(*words, machine="broken-mismatch").must(2)
        (hint,) = (row for row in done.err.splitlines() if row.endswith("` takes the CPU choice"))
        several.uv(*shlex.split(hint.split("`")[1])[1:]).must()
        assert pytorch(several) == {"torch": "2.15.0+cpu"}

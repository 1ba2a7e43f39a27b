"""`uvtorch sync|run|export --auto` and `--torch-backend` with the real uv: every row of the contract's section 6."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import Done, Project

pytest_plugins = ["tests.index.fixtures"]

Empty = Callable[[str], Project]

BARE = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = {}\n'
WITHOUT = BARE.format('["numpy"]')
UNPINNED = BARE.format('["torch", "torchvision"]')

VERBS = {
    "sync": ("sync", "--auto"),
    "run": ("run", "--auto", "python", "-c", "import torch; print(torch.__version__)"),
    "export": ("export", "--auto", "--no-hashes", "--no-header", "--no-annotate"),
}

each_verb = pytest.mark.parametrize("verb", VERBS)


def with_sync(*rows: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Every row with `sync`, the first one with the other verbs too."""
    return [("sync", *row) for row in rows] + [(verb, *rows[0]) for verb in ("run", "export")]


def pinned(
    backend: str, requirements: str = '["torch", "torchvision"]', marker: str = "sys_platform != 'darwin'"
) -> str:
    """A project that a person pinned, in a person's style."""
    source = f'{{ index = "pt", marker = "{marker}" }}' if backend != "cpu" else '{ index = "pt" }'
    return (
        BARE.format(requirements)
        + f"\n[tool.uv.sources]\ntorch = {source}\ntorchvision = {source}\n"
        + f'\n[[tool.uv.index]]\nname = "pt"\nurl = "BASE/{backend}"\nexplicit = true\n'
    )


def warnings(done: Done) -> list[str]:
    return [row for row in done.err.splitlines() if row.startswith("warning: ")]


def shown(verb: str, project: Project, done: Done) -> str:
    """The torch that the verb installed, ran or exported."""
    if verb == "sync":
        return project.installed()["torch"]
    if verb == "run":
        return done.out.strip()
    return next(row for row in done.out.splitlines() if row.startswith("torch==") and "+" in row)


# No PyTorch package anywhere


@each_verb
def test_without_pytorch_it_is_plain_uv(empty: Empty, verb: str) -> None:
    project = empty(WITHOUT)
    before = project.state()
    command = [word.replace("torch", "numpy") for word in VERBS[verb]]
    done = project.uvtorch(*command, machine="broken-mismatch").must()
    assert not done.ours
    assert not warnings(done)
    assert project.state() == {**before, "uv.lock": project.state()["uv.lock"]}
    project.uvtorch(*command, "--locked" if verb != "run" else "x", machine="broken-mismatch").must()


def test_a_program_outside_of_any_project_runs(project: Project) -> None:
    project.file.unlink()
    done = project.uvtorch("run", "--auto", "python", "-c", "print(1)", machine="broken-mismatch").must()
    assert done.out == "1\n"
    assert project.uvtorch("sync", "--auto").must(2).err.startswith("error: no `pyproject.toml` found")


# PyTorch packages, no source for them


@pytest.mark.parametrize(
    ("verb", "machine", "backend", "torch"),
    with_sync(("h100-535", "cu126", "2.14.1"), ("h200-580", "cu130", "2.15.0"), ("cpu-only", "cpu", "2.15.0")),
)
def test_the_choice_is_written_once_then_uv_runs(
    empty: Empty, verb: str, machine: str, backend: str, torch: str
) -> None:
    project = empty(UNPINNED)
    done = project.uvtorch(*VERBS[verb], machine=machine).must()
    assert f"{torch}+{backend}" in shown(verb, project, done)
    assert len(done.ours) == 1
    assert done.ours[0].startswith(f"uvtorch: using {backend} (torch {torch}")
    marker = "" if backend == "cpu" else ", marker = \"sys_platform == 'linux' or sys_platform == 'win32'\""
    entry = f'[{{ index = "pytorch-{backend}"{marker} }}]'
    assert project.text == (
        f"{UNPINNED}\n[tool.uv.sources]\ntorch = {entry}\ntorchvision = {entry}\n\n[[tool.uv.index]]\n"
        f'name = "pytorch-{backend}"\nurl = "https://download.pytorch.org/whl/{backend}"\nexplicit = true\n'
    )
    project.check(backend)
    before = project.state()
    done = project.uvtorch(*VERBS[verb], machine=machine).must()
    assert project.state() == before
    assert not done.ours
    assert not warnings(done)


def test_companions_are_pinned_too(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.uvtorch("sync", "--auto", machine="arc-b580").must()
    assert set(project.data["tool"]["uv"]["sources"]) == {"torch", "torchvision", "triton-xpu"}
    project.check("xpu")


def test_torch_that_nobody_names_is_routed(empty: Empty) -> None:
    project = empty(BARE.format('["torchvision"]'))
    project.uvtorch("sync", "--auto", machine="h200-580").must()
    assert project.data["dependency-groups"] == {"uvtorch": ["torch"]}
    assert project.data["project"]["dependencies"] == ["torchvision"]
    project.check("cu130")


def test_a_bound_that_the_machine_needs_stays_out_of_the_requirements(empty: Empty) -> None:
    """cu129 has kernels for V100 and B200 up to torch 2.10, and newer releases on the same index."""
    project = empty(UNPINNED)
    project.uvtorch("sync", "--auto", machine="v100-b200-580").must()
    assert project.data["project"]["dependencies"] == ["torch", "torchvision"]
    assert project.by_platform()["linux_x86_64"]["torch"] == "2.10.0+cu129"
    project.check("cu129")


@pytest.mark.parametrize("where", ["group", "extra"])
def test_packages_of_a_group_or_an_extra_count(empty: Empty, where: str) -> None:
    table = "[dependency-groups]" if where == "group" else "[project.optional-dependencies]"
    project = empty(f'{BARE.format("[]")}\n{table}\ntrain = ["torch"]\n')
    project.uvtorch("sync", "--auto", f"--{where}", "train", machine="h200-580").must()
    assert project.installed()["torch"] == "2.15.0+cu130"
    project.check("cu130")


def test_every_other_byte_stays(empty: Empty) -> None:
    """CRLF, a byte order mark, comments, no newline at the end: `sync` has uv write nothing."""
    text = "\ufeff# ours\n" + UNPINNED.replace("dependencies", "dependencies   ") + "\n[tool.other]\nkey   = 'x' # y"
    project = empty("")
    project.file.write_bytes(text.replace("\n", "\r\n").encode())
    project.uvtorch("sync", "--auto", machine="h200-580").must()
    after = project.file.read_bytes()
    assert after.startswith(text.replace("\n", "\r\n").encode())
    assert after.count(b"\n") == after.count(b"\r\n")
    project.check("cu130")


FIXED = [("--locked", ""), ("--frozen", ""), ("", "UV_LOCKED"), ("", "UV_FROZEN")]


@each_verb
def test_what_may_not_change_is_not_changed(empty: Empty, verb: str) -> None:
    project = empty(UNPINNED)
    project.uv("lock").must()
    before = project.state()
    ways = [*FIXED, ("--check", "")] if verb == "sync" else FIXED

    def told(option: str, variable: str) -> Done:
        first, *rest = VERBS[verb]
        return project.uvtorch(
            first, *filter(None, [option]), *rest, machine="h200-580", **dict.fromkeys(filter(None, [variable]), "1")
        )

    for option, variable in ways:
        done = told(option, variable).must(2)
        rows = done.err.splitlines()
        assert rows[0].startswith("error: ")
        assert (option or variable) in rows[0]
        assert rows[1].startswith("hint: run `uvtorch torch use auto`")
        assert done.out == ""
        assert project.state() == before
    project.uvtorch("torch", "use", "auto", machine="h200-580").must()  # what the hint says
    project.uv("sync").must()  # what that says
    for option, variable in ways:
        assert not warnings(told(option, variable).must())


@each_verb
def test_a_variable_that_is_off_forbids_nothing(empty: Empty, verb: str) -> None:
    project = empty(UNPINNED)
    project.uvtorch(*VERBS[verb], machine="h200-580", UV_LOCKED="0", UV_FROZEN="false").must()
    project.check("cu130")


@each_verb
def test_a_lock_that_fails_leaves_everything_as_it_was(empty: Empty, verb: str) -> None:
    project = empty(BARE.format('["torch", "numpy==99"]'))
    before = project.state()
    bare = project.uv("lock").must(1)
    done = project.uvtorch(*VERBS[verb], machine="h200-580").must(bare.code)
    assert len(done.ours) == 1
    assert "No solution found" in done.err
    assert project.state() == before


@each_verb
def test_requirements_that_contradict_each_other_are_refused(empty: Empty, verb: str) -> None:
    project = empty(BARE.format('["torch==2.9.1", "torchvision==0.29.2"]'))
    before = project.state()
    done = project.uvtorch(*VERBS[verb], machine="h200-580").must(2)
    assert done.err.startswith("error: No torch satisfies all requirements: ")
    assert project.state() == before


@each_verb
def test_nothing_that_fits_is_refused(empty: Empty, verb: str) -> None:
    project = empty(BARE.format('["torch==2.15.0"]'))
    before = project.state()
    done = project.uvtorch(*VERBS[verb], machine="h100-535").must(2)
    assert "The newest that fits is 2.14.1 (cu126)." in done.err
    assert project.state() == before


def test_dry_run_shows_and_changes_nothing(empty: Empty) -> None:
    project = empty(UNPINNED)
    before = project.state()
    done = project.uvtorch("sync", "--auto", "--dry-run", "--extra", "x", machine="h200-580").must()
    rows = done.out.splitlines()
    assert rows[0].startswith("# using cu130")
    assert '+name = "pytorch-cu130"' in rows
    assert rows[-1].startswith("$ uv sync ")
    assert project.state() == before
    assert not (project.path / ".venv").exists()


@pytest.mark.parametrize("place", [["-q", "sync"], ["sync", "--quiet"]])
def test_quiet_says_nothing(empty: Empty, place: list[str]) -> None:
    project = empty(UNPINNED)
    done = project.uvtorch(*place, "--auto", machine="h200-580").must()
    assert (done.out, done.err) == ("", "")
    done = project.uvtorch(*place, "--auto", machine="h100-535").must()
    assert (done.out, done.err) == ("", "")


# Pinned to a backend that runs here


@pytest.mark.parametrize(
    ("verb", "backend", "machine"),
    with_sync(("cu126", "h100-535"), ("cu126", "h200-580"), ("cu130", "h200-580"), ("cpu", "cpu-only")),
)
def test_a_pin_that_runs_here_is_plain_uv(empty: Empty, verb: str, backend: str, machine: str) -> None:
    project = empty(pinned(backend))
    project.uv("lock").must()
    before = project.state()
    for option in ((), ("--locked",), ("--frozen",)):
        words = VERBS[verb]
        done = project.uvtorch(words[0], *option, *words[1:], machine=machine).must()
        assert f"+{backend}" in shown(verb, project, done)
        assert not done.ours
        assert not warnings(done)
        assert project.state() == before


# Pinned to a backend that cannot run here, or that leaves the GPU idle


@pytest.mark.parametrize(
    ("verb", "backend", "machine", "remedy"),
    with_sync(
        ("cu130", "h100-535", "cu126"),  # the driver is too old
        ("cu126", "rtx5090-595", "cu132"),  # no kernels
        ("cu126", "cpu-only", "cpu"),
        ("cu126", "mi300x-gfx942", "rocm7.2"),
        ("cpu", "h200-580", "cu130"),  # the GPU stays idle
        ("cpu", "arc-b580", "xpu"),
    ),
)
def test_a_pin_that_does_not_fit_is_plain_uv_and_one_warning(
    empty: Empty, verb: str, backend: str, machine: str, remedy: str
) -> None:
    project = empty(pinned(backend))
    project.uv("lock").must()
    before = project.state()
    done = project.uvtorch(*VERBS[verb], machine=machine).must()
    assert f"+{backend}" in shown(verb, project, done)
    assert not done.ours
    (warning,) = warnings(done)
    assert f"the project pins {backend}" in warning
    assert remedy in warning
    assert "`uvtorch " in warning
    assert project.state() == before


def test_the_remedy_that_the_warning_names_works(empty: Empty) -> None:
    project = empty(pinned("cu130"))
    (warning,) = warnings(project.uvtorch("sync", "--auto", machine="h100-535").must())
    command = warning.split("`uvtorch ")[1].split("`")[0].split()
    project.uvtorch(*command, machine="h100-535").must()
    project.check("cu126")
    assert not warnings(project.uvtorch("sync", "--auto", machine="h100-535").must())


# By name


def test_another_backend_by_name_is_written(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.uvtorch("sync", "--torch-backend", "cu126").must()
    project.check("cu126")
    before = project.state()
    project.uvtorch("sync", "--torch-backend", "cu126").must()
    assert project.state() == before
    project.uvtorch("sync", "--torch-backend=cu130").must()
    assert [index["name"] for index in project.data["tool"]["uv"]["index"]] == ["pytorch-cu130"]
    project.check("cu130")
    done = project.uvtorch("sync", "--torch-backend", "cpu", "--locked").must(2)
    assert "--locked" in done.err
    project.check("cu130")


def test_lock_writes_the_choice_and_installs_nothing(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.uvtorch("lock", "--torch-backend", "cu126").must()
    assert not (project.path / ".venv").exists()
    project.check("cu126")
    project.uvtorch("lock", "--torch-backend", "auto", "--check", machine="h100-535").must()


def test_lock_check_forbids_to_write(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.uv("lock").must()
    before = project.state()
    project.uvtorch("lock", "--torch-backend", "cu126", "--check").must(2)
    assert project.state() == before


@pytest.mark.parametrize("verb", ["sync", "lock", "export"])
def test_the_environment_names_a_backend(empty: Empty, verb: str) -> None:
    project = empty(UNPINNED)
    project.uvtorch(verb, machine="h200-580", UV_TORCH_BACKEND="cu126").must()
    project.check("cu126")
    project.uvtorch(verb, "--torch-backend", "cu130", UV_TORCH_BACKEND="cu126").must()
    project.check("cu130")


def test_configuration_may_ask_for_it(empty: Empty) -> None:
    project = empty(UNPINNED + "\n[tool.uvtorch]\nauto = true\n")
    project.uvtorch("sync", machine="h200-580").must()
    project.check("cu130")
    project = empty(UNPINNED + "\n[tool.uvtorch]\nauto = false\n")
    (project.path / "uv.lock").unlink()
    project.uvtorch("sync", machine="h200-580").must()
    assert "sources" not in project.text


def test_without_being_asked_it_is_plain_uv(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.uvtorch("sync", machine="h200-580").must()
    assert project.text == UNPINNED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sync", "--auto", "--torch-backend", "cu126"], "two backends"),
        (["sync", "--torch-backend", "cuda"], "`cuda` is not a backend"),
        (["lock", "--torch-backend"], "needs a backend"),
        (["run", "--torch-backend", "", "python"], "needs a backend"),
    ],
)
def test_contradictions_are_refused(empty: Empty, arguments: list[str], says: str) -> None:
    project = empty(UNPINNED)
    before = project.state()
    done = project.uvtorch(*arguments).must(2)
    assert done.err.startswith("error: ")
    assert says in done.err
    assert project.state() == before


def test_without_sources_there_is_nothing_to_choose(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.uvtorch("sync", "--auto", "--no-sources", machine="h200-580").must()
    assert project.text == UNPINNED


# run


def test_a_program_that_fails_keeps_the_pins(empty: Empty) -> None:
    project = empty(UNPINNED)
    code = "import sys; print(sys.argv[1:]); sys.exit(77)"
    done = project.uvtorch("run", "--auto", "--", "python", "-c", code, "--", "-k", "x", machine="h200-580").must(77)
    assert done.out == "['--', '-k', 'x']\n"
    project.check("cu130")


def test_a_programs_own_options_are_its_own(empty: Empty) -> None:
    project = empty(UNPINNED)
    done = project.uvtorch("run", "python", "-c", "import sys; print(sys.argv[1:])", "--auto", "--torch-backend", "x")
    assert done.must().out == "['--auto', '--torch-backend', 'x']\n"
    assert project.text == UNPINNED


def test_standard_input_reaches_the_program(empty: Empty) -> None:
    project = empty(UNPINNED)
    code = "import sys; print(sys.stdin.read().upper())"
    done = project.uvtorch("run", "--auto", "python", "-c", code, stdin="héllo", machine="h200-580").must()
    assert done.out == "HÉLLO\n"


@pytest.mark.parametrize("option", ["--no-project", "--no-sync"])
def test_run_without_the_project_chooses_nothing(empty: Empty, option: str) -> None:
    project = empty(UNPINNED)
    project.uvtorch("run", "--auto", option, "python", "-c", "", machine="broken-mismatch").must()
    assert project.text == UNPINNED


def test_a_script_is_pinned_in_its_own_metadata(empty: Empty) -> None:
    project = empty(UNPINNED)
    script = project.path / "train.py"
    script.write_text(
        '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["torch"]\n# ///\n'
        "import torch\nprint(torch.__version__)\n"
    )
    done = project.uvtorch("run", "--auto", "train.py", machine="h200-580").must()
    assert done.out == "2.15.0+cu130\n"
    assert 'index = "pytorch-cu130"' in script.read_text()
    assert project.text == UNPINNED
    before = project.state()
    project.uvtorch("run", "--auto", "train.py", machine="h200-580").must()
    assert project.state() == before


# Workspaces


@pytest.fixture
def workspace(empty: Empty) -> Callable[[str, str], Project]:
    def make(root: str, member: str) -> Project:
        project = empty(root + '\n[tool.uv.workspace]\nmembers = ["packages/*"]\n')
        folder = project.path / "packages" / "model"
        folder.mkdir(parents=True)
        Project(project.home, folder).write(member.replace("demo", "model"))
        return project

    return make


def test_a_members_packages_are_pinned_where_they_are_named(workspace: Callable[[str, str], Project]) -> None:
    """uv locks a workspace as one: torch in a member is the root's concern too."""
    project = workspace(BARE.format("[]"), UNPINNED)
    project.uvtorch("sync", "--auto", "--all-packages", machine="h200-580").must()
    project.check("cu130", "--all-packages")
    before = project.state()
    done = project.uvtorch("sync", "--auto", "--all-packages", machine="h200-580").must()
    assert project.state() == before
    assert not done.ours


def test_a_members_pin_is_a_pin(workspace: Callable[[str, str], Project]) -> None:
    project = workspace(BARE.format("[]"), pinned("cu130"))
    before = project.state()
    done = project.uvtorch("sync", "--auto", "--all-packages", machine="h100-535").must()
    assert len(warnings(done)) == 1
    assert project.state() == {**before, "uv.lock": project.state()["uv.lock"]}


def test_from_inside_a_member(workspace: Callable[[str, str], Project]) -> None:
    project = workspace(BARE.format("[]"), UNPINNED)
    member = Project(project.home, project.path / "packages" / "model")
    member.uvtorch("sync", "--auto", machine="h200-580").must()
    project.check("cu130", "--all-packages")


def test_the_place_of_the_project_may_be_given(empty: Empty, tmp_path: Path) -> None:
    project = empty(UNPINNED)
    outside = Project(project.home, tmp_path)
    outside.uvtorch("--directory", "made", "sync", "--auto", machine="h200-580").must()
    project.check("cu130")
    before = project.state()
    outside.uvtorch("sync", "--auto", "--project=made", machine="h200-580").must()
    outside.uvtorch("sync", "--auto", machine="h200-580", UV_WORKING_DIR="made").must()
    assert project.state() == before


@each_verb
def test_a_pyproject_that_cannot_be_used_is_one_error(empty: Empty, verb: str) -> None:
    project = empty("")
    for content in (b"[project\n", b'[project]\nname = "d\xe9mo"\n'):
        project.file.write_bytes(content)
        done = project.uvtorch(*VERBS[verb]).must(2)
        rows = done.err.splitlines()
        assert rows[0].startswith("error: ")
        assert all(row.startswith("hint: ") for row in rows[1:])
        assert project.state() == {"pyproject.toml": content}


def test_a_read_only_pyproject_is_one_error(empty: Empty) -> None:
    project = empty(UNPINNED)
    project.file.chmod(0o444)
    before = project.state()
    done = project.uvtorch("sync", "--auto").must(2)
    assert [row for row in done.err.splitlines() if row.startswith("error: ")] == [
        f"error: {project.file} is read-only"
    ]
    assert project.state() == before


def test_the_machine_is_not_asked_where_nothing_hangs_on_it(empty: Empty, tmp_path: Path) -> None:
    """A description that cannot be read is an error for whoever reads it."""
    project = empty(pinned("cu126"))
    project.uvtorch("sync", UVTORCH_HARDWARE=str(tmp_path / "none")).must()
    done = project.uvtorch("sync", "--auto", UVTORCH_HARDWARE=str(tmp_path / "none")).must(2)
    assert done.err.startswith("error: ")


def test_wheel_variants_in_the_lock_are_left_to_uv(empty: Callable[[str], Project]) -> None:
    """By a lock as uv writes it with its preview feature; no index has variants of torch yet."""
    project = empty('[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = ["torch"]\n')
    project.uv("lock").must()
    lock = project.path / "uv.lock"
    row = 'name = "torch"\nversion = "2.15.0"\n'
    text = lock.read_text()
    assert row in text
    lock.write_text(
        text.replace(row, f'{row}variants-json = {{ url = "https://example.com/torch-2.15.0-variants.json" }}\n')
    )
    before = project.state()
    done = project.uvtorch("sync", "--auto", UVTORCH_UV="/bin/true").must()
    assert done.ours == ["uvtorch: torch is locked with wheel variants: uv takes the one that fits, nothing is pinned"]
    assert project.state() == before
    assert project.uvtorch("sync", "--torch-backend", "cpu", "--dry-run").must().out.startswith("# using cpu")
    added = project.uvtorch("add", "torchvision", "--dry-run").must().out.splitlines()
    assert added == [
        "# torch is locked with wheel variants: uv takes the one that fits, nothing is pinned",
        "$ uv add torchvision",
    ]


@pytest.mark.parametrize("words", [["--preview-features", "wheel-variants"], ["--preview"]])
def test_uv_looks_for_wheel_variants_before_anything_is_pinned(
    empty: Callable[[str], Project], words: list[str]
) -> None:
    """The index has none, so the build is chosen as ever."""
    project = empty('[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = []\n')
    shown = project.uvtorch("add", *words, "torch", "--dry-run").must().out.splitlines()
    assert shown[0] == f"$ uv add --no-sync {' '.join(words)} torch"
    done = project.uvtorch("add", *words, "torch", "--no-sync").must()
    assert "uvtorch: using cpu" in done.err
    assert ("2.15.0+cpu", "whl/cpu") in project.locked()["torch"]

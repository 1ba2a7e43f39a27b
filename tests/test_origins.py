"""Where torch comes from is the user's word: mirrors, vendors' indexes, dependencies, siblings, options, scripts."""

import json
from pathlib import Path

import pytest

from tests.recording_uv import RecordingUv
from tests.situations import Make, body, source

pytest_plugins = ["tests.index.fixtures"]

# What the project does not say itself: a build backend, a path dependency

BACKEND = """
import os

def get_requires_for_build_wheel(settings=None):
    return []

get_requires_for_build_editable = get_requires_for_build_wheel

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = os.path.join(folder, "dyn-0.1.dist-info")
    os.makedirs(info)
    with open(os.path.join(info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.2\\nName: dyn\\nVersion: 0.1\\nRequires-Dist: torch<2.12\\n")
    return os.path.basename(info)

prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
"""
DYNAMIC = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.mark.parametrize(
    ("command", "machine", "torch"),
    [
        ("lock --torch-backend auto", "h100-570", "2.11.0+cu128"),
        ("lock --torch-backend cu126", "cpu-only", "2.11.0+cu126"),
        ("sync --auto --no-install-project", "cpu-only", "2.11.0+cpu"),
        ("torch use auto", "mi300x-gfx942", "2.11.0+rocm7.2"),
    ],
)
def test_dependencies_that_the_build_backend_tells(make: Make, command: str, machine: str, torch: str) -> None:
    text = body(name="dyn").replace("dependencies = []", 'dynamic = ["dependencies"]') + DYNAMIC
    project = make(text).put({"backend.py": BACKEND})
    project.uvtorch(*command.split(), machine=machine).must()
    project.versions(torch=torch)
    project.uvtorch("torch", "use", "cu130", machine=machine).must()
    project.versions(torch="2.11.0+cu130")


@pytest.mark.parametrize(("machine", "warned"), [("h200-580", True), ("h100-570", True), ("cpu-only", False)])
@pytest.mark.parametrize("command", ["sync --auto", "run --auto python -c pass"])
def test_a_dependency_that_brings_its_index(make: Make, command: str, machine: str, warned: bool) -> None:
    text = body("part", tool='sources = { part = { path = "../part" } }\n')
    project = make(text).put(
        {"../part/pyproject.toml": body("torch", name="part", tool="package = false\n" + source("whl/cpu", "torch"))}
    )
    project.uv("lock").must()
    before = project.state()
    done = project.uvtorch(*command.split(), machine=machine).must()
    assert project.state() == before
    assert ("warning: a dependency pins torch to cpu" in done.err) == warned
    project.versions(torch="2.15.0+cpu")


@pytest.mark.parametrize("own", [(), ("torch>=2.6",)])
def test_another_index_than_a_dependency_s_is_refused_before_uv_does(make: Make, own: tuple[str, ...]) -> None:
    project = make(body("part", *own, tool='sources = { part = { path = "../part" } }\n')).put(
        {"../part/pyproject.toml": body("torch", name="part", tool="package = false\n" + source("whl/cpu", "torch"))}
    )
    before = project.state()
    for command in ("torch use auto", *([] if own else ["lock --torch-backend cu126"])):
        assert "a dependency pins torch to cpu" in project.uvtorch(*command.split(), machine="h200-580").must(2).err
        assert project.state() == before
    project.uvtorch("sync", "--auto", machine="h200-580").must()
    project.uvtorch("add", "torchvision", "--no-sync", machine="h200-580").must()
    project.versions(torch="2.15.0+cpu", torchvision="0.29.2+cpu")


# One workspace, one lock, one build

WORKSPACE = "[tool.uv]\nenvironments = [\"sys_platform == 'linux' and platform_machine == 'x86_64'\"]\n"
WORKSPACE += '[tool.uv.workspace]\nmembers = ["libs/*"]\n'


def members(pinned: str, index: str, other: str) -> dict[str, str]:
    one = body(pinned, name="one").partition("\n[tool.uv]")[0] + source(index, "torch")
    return {"libs/one/pyproject.toml": one, "libs/two/pyproject.toml": body(other, name="two").partition("\n[tool")[0]}


@pytest.mark.parametrize("added", ["torchvision", "any-models"])
@pytest.mark.parametrize("where", ["libs/two", ""])
def test_a_sibling_s_pin_counts_for_add(make: Make, where: str, added: str) -> None:
    root = WORKSPACE if where else body(name="root") + '[tool.uv.workspace]\nmembers = ["libs/*"]\n'
    project = make(root).put(members("torch", "whl/cu126", "numpy"))
    project.uv("lock").must()
    project.member(where).uvtorch("add", added, "--no-sync", machine="h200-580").must()
    project.versions(torch="2.14.1+cu126", torchvision="0.29.1+cu126")


def test_an_extra_of_a_sibling_pins_for_all(make: Make) -> None:
    one = body(name="one").partition("\n[tool")[0] + '[project.optional-dependencies]\nml = ["torch"]\n'
    one += source("whl/cu126", "torch").replace(' "own" }', ' "own", extra = "ml" }')
    two = body("one[ml]", name="two").partition("\n[tool")[0] + "[tool.uv.sources]\none = { workspace = true }\n"
    project = make(WORKSPACE).put({"libs/one/pyproject.toml": one, "libs/two/pyproject.toml": two})
    project.uv("lock").must()
    project.member("libs/two").uvtorch("add", "torchvision", "--no-sync", machine="h200-580").must()
    project.versions(torch="2.14.1+cu126", torchvision="0.29.1+cu126")


def test_choices_of_a_sibling_say_nothing_of_a_member_that_asks_for_none(make: Make) -> None:
    two = body("one", name="two").partition("\n[tool")[0] + "[tool.uv.sources]\none = { workspace = true }\n"
    project = make(WORKSPACE).put({"libs/one/pyproject.toml": body("torch", name="one").partition("\n[tool")[0]})
    project.put({"libs/two/pyproject.toml": two})
    project.member("libs/one").uvtorch("torch", "backends", "cpu", "cu126").must()
    other = project.member("libs/two")
    assert "warning" not in other.uvtorch("export", "--auto", machine="h100-570").must().err
    other.uvtorch("torch", "doctor", machine="h100-570").must()


def test_torchaudio_is_as_old_as_the_torch_of_a_sibling(make: Make) -> None:
    project = make(WORKSPACE).put(members("torch==2.9.1", "whl/cu130", "numpy"))
    project.uv("lock").must()
    project.member("libs/two").uvtorch("add", "torchaudio", "--no-sync", machine="h200-580").must()
    project.versions(torch="2.9.1+cu130", torchaudio="2.9.1+cu130")


@pytest.mark.parametrize("where", ["", "libs/one"])
def test_a_root_is_edited_for_what_it_overrides_alone(make: Make, where: str) -> None:
    """A source reaches an override in the root's own file; else the members' pins are all there is to write."""
    project = make(WORKSPACE).put(members("torch", "whl/cpu", "numpy"))
    project.member(where).uvtorch("torch", "use", "auto", machine="h200-580").must()
    assert "sources" not in project.data["tool"]["uv"]
    before = project.state()
    project.member(where).uvtorch("torch", "use", "auto", machine="h200-580").must()
    assert project.state() == before
    override = '[tool.uv]\noverride-dependencies = ["torch==2.11.0"]'
    project.write(WORKSPACE.replace("[tool.uv]", override, 1)).member(where)
    project.member(where).uvtorch("torch", "use", "auto", machine="h100-570").must()
    project.versions(torch="2.11.0+cu128")


@pytest.mark.parametrize(
    ("where", "command"),
    [("libs/one", "torch use auto"), ("libs/two", "lock --torch-backend auto"), ("", "torch use auto")],
)
def test_a_workspace_is_pinned_anew_as_one(make: Make, where: str, command: str) -> None:
    project = make(WORKSPACE).put(members("torch", "whl/cpu", "torchvision"))
    project.uv("lock").must()
    project.member(where).uvtorch(*command.split(), machine="h200-580").must()
    project.versions(torch="2.15.0+cu130", torchvision="0.29.2+cu130")


def test_choices_of_a_root_leave_a_member_but_for_its_bound(make: Make) -> None:
    tables = '[tool.uv.sources]\none = { workspace = true }\n[tool.uv.workspace]\nmembers = ["one"]\n'
    root = body("torch>=2.15.0", "one", name="root", tool=tables)
    member = body("torch>=2.15.0", name="one").partition("\n[tool.uv]")[0]
    project = make(root).put({"one/pyproject.toml": member})
    project.uvtorch("torch", "backends", "cpu", "cu126").must()
    assert project.member("one").text == member.replace("2.15.0", "2.14.1")
    assert project.data["project"]["optional-dependencies"] == {"cpu": ["torch>=2.15.0"], "cu126": ["torch>=2.14.1"]}


# The user's own indexes


@pytest.mark.parametrize(
    ("added", "package", "version"),
    [
        ("torchvision", "torchvision", "0.24.1+cu128"),
        ("torchaudio", "torchaudio", "2.9.1+cu128"),
        ("timm", "torchvision", "0.24.1+cu128"),
    ],
)
def test_more_comes_from_a_mirror_that_names_no_backend(make: Make, added: str, package: str, version: str) -> None:
    project = make(body("torch==2.9.1", tool=source("house/wheels", "torch")))
    project.uv("lock").must()
    project.uvtorch("add", added, "--no-sync", machine="h200-580").must()
    project.versions(torch="2.9.1+cu128", **{package: version})
    assert {index for _, index in project.locked()[package]} == {"house/wheels"}


@pytest.mark.parametrize("marker", ["sys_platform == 'Linux'", "platform_system == 'linux'"])
def test_a_source_that_never_holds_is_no_pin(make: Make, marker: str) -> None:
    dead = source("whl/cpu", "torch").replace(' "own" }', f' "own", marker = "{marker}" }}')
    project = make(body("torch", tool=dead))
    done = project.uvtorch("sync", "--auto", machine="h100-570").must()
    assert "using cu126 (torch 2.14.1)" in done.err
    project.versions(torch="2.14.1+cu126")


@pytest.mark.parametrize("command", ["sync --auto", "lock --torch-backend auto", "add numpy", "add any-models"])
def test_a_mirror_is_kept_unless_a_backend_is_asked_for(make: Make, command: str) -> None:
    project = make(body("torch==2.9.1", tool=source("house/wheels", "torch")))
    project.uvtorch(*command.split(), machine="h200-580").must()
    anew = "auto" in command.rsplit(maxsplit=1)[-1] and "--torch-backend" in command
    project.versions(torch="2.9.1+cu130" if anew else "2.9.1+cu128")


@pytest.mark.parametrize("command", ["sync --auto", "add torchvision --no-sync", "add timm --no-sync"])
def test_an_index_of_the_user_s_own_for_every_package_is_kept(make: Make, command: str) -> None:
    index = 'index-strategy = "unsafe-best-match"\n[[tool.uv.index]]\nurl = "SERVER/house/wheels"\n'
    project = make(body("torch==2.9.1", tool=index))
    project.uv("lock").must()
    project.uvtorch(*command.split(), machine="h200-580").must()
    project.versions(torch="2.9.1+cu128")


JETSON = """
[tool.uv.sources]
torch = [{ index = "plain", group = "plain" }, { index = "board", group = "board" }, { index = "big", group = "big" }]

[[tool.uv.index]]
name = "plain"
url = "BASE/cpu"
explicit = true

[[tool.uv.index]]
name = "board"
url = "SERVER/jp6/cu126"
explicit = true

[[tool.uv.index]]
name = "big"
url = "BASE/cu130"
explicit = true

[dependency-groups]
plain = ["torch==2.11.0"]
board = ["torch==2.11.0"]
big = ["torch==2.11.0"]
"""


@pytest.mark.parametrize(
    ("machine", "group"),
    [
        ("orin-540", "board"),
        ("h200-580", "big"),
        ("gh200-560", "plain"),
        ("gtx1080-580", "plain"),
        ("cpu-only", "plain"),
    ],
)
def test_an_index_for_jetsons_is_for_them_alone(make: Make, machine: str, group: str) -> None:
    conflicts = 'conflicts = [[{ group = "plain" }, { group = "board" }, { group = "big" }]]\n'
    everywhere = body(tool=conflicts + JETSON).replace("environments", "# environments")
    done = make(everywhere).uvtorch("sync", "--auto", "--dry-run", machine=machine)
    assert f"--group {group}" in done.out + done.err
    assert ("warning" in done.err) == (group == "plain" and machine != "cpu-only")


@pytest.mark.parametrize("requirement", ["any-models", "accelerate"])
def test_a_source_for_what_another_package_needs_stays(make: Make, requirement: str) -> None:
    project = make(body(requirement, tool=source("whl/cpu", "torch", "torchvision")))
    for command in ("sync --auto", "export --auto", "run --auto python -c pass"):
        done = project.uvtorch(*command.split(), machine="h200-580").must()
        assert "using" not in done.err
    assert project.data["tool"]["uv"]["sources"]["torch"] == {"index": "own"}


def test_a_mac_pins_nothing(make: Make) -> None:
    for command in (
        "add torch --no-sync",
        "add timm --no-sync",
        "lock --torch-backend auto",
        "sync --auto --no-install-package torch",
    ):
        project = make(body())
        project.uvtorch(*command.split(), machine="macos-m3").must()
        assert "sources" not in project.data["tool"]["uv"]


def test_a_mac_locks_without_a_pin(make: Make) -> None:
    project = make(body("torch"))
    done = project.uvtorch("lock", "--torch-backend", "auto", machine="macos-m3").must()
    assert "nothing is pinned" in done.err
    project.uv("lock", "--check").must()
    assert "sources" not in project.data["tool"]["uv"]


# Options, pins, environment, configuration


@pytest.mark.parametrize(
    ("command", "torch"),
    [
        ("lock --torch-backend auto", "2.15.0+cu130"),
        ("sync --torch-backend auto", "2.15.0+cu130"),
        ("add torch==2.14.1 --torch-backend auto --no-sync", "2.14.1+cu130"),
        ("add torchvision --torch-backend auto --no-sync", "2.15.0+cu130"),
        ("add torchvision --torch-backend cu126 --no-sync", "2.14.1+cu126"),
        ("add numpy --torch-backend auto --no-sync", "2.15.0+cu130"),
        ("add numpy --torch-backend cu126 --no-sync", "2.14.1+cu126"),
        ("lock", "2.11.0+cu128"),
        ("sync --auto", "2.11.0+cu128"),
        ("add torchvision --no-sync", "2.11.0+cu128"),
    ],
)
def test_an_explicit_option_pins_anew(make: Make, command: str, torch: str) -> None:
    project = make(body("torch", tool=source("whl/cu128", "torch")))
    project.uvtorch(*command.split(), machine="h200-580").must()
    project.versions(torch=torch)


def test_an_add_that_the_pinned_index_cannot_serve_names_what_can(make: Make) -> None:
    project = make(body("torch", tool=source("whl/cu128", "torch")))
    before = project.state()
    done = project.uvtorch("add", "torch>=2.14", "--group", "ml", "--no-sync", machine="h200-580").must(1)
    assert "`uvtorch add --torch-backend auto 'torch>=2.14' --group ml --no-sync`" in done.err
    assert project.state() == before


@pytest.mark.parametrize("command", ["sync --auto", "add torchvision --no-sync", "lock", "export --auto"])
def test_a_pin_counts_before_the_environment(make: Make, command: str) -> None:
    project = make(body("torch", tool=source("whl/cu126", "torch")))
    project.uvtorch(*command.split(), machine="h200-580", UV_TORCH_BACKEND="cu130").must()
    project.versions(torch="2.14.1+cu126")


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("sync --auto", 'backend = "cu126"'),
        ("sync", 'backend = "cu126"\nauto = true'),
        ("run python -c pass", 'backend = "cu126"\nauto = true'),
        ("export --auto", 'backend = "cu126"\nauto = true'),
        ("add any-models --no-sync", 'backend = "cu126"'),
    ],
)
@pytest.mark.parametrize("requirement", ["torch", "timm"])
def test_a_configured_backend_counts_the_same_everywhere(make: Make, requirement: str, command: str, keys: str) -> None:
    project = make(f"{body(requirement)}\n[tool.uvtorch]\n{keys}\n")
    project.uvtorch(*command.split(), machine="h200-580").must()
    project.versions(torch="2.14.1+cu126")


WHEEL = "torch @ https://example.com/whl/{0}/torch-2.9.1%2B{0}-cp312-cp312-linux_x86_64.whl"


def test_a_wheel_that_a_requirement_names_is_kept(make: Make, tmp_path: Path) -> None:
    project = make(body(WHEEL.format("cu126") + " ; sys_platform == 'linux'"))
    before = project.state()
    recorded = RecordingUv(tmp_path / "uv", "exit 0")
    project.uvtorch("sync", "--auto", machine="h200-580", UVTORCH_UV=str(recorded.path)).must()
    assert recorded.commands == [["sync"]]
    for command in ("add torchvision", "torch use auto", "lock --torch-backend cpu"):
        assert "takes torch from https://example.com" in project.uvtorch(*command.split(), machine="h200-580").err
    assert project.state() == before


def test_wheels_choose_as_indexes_do(make: Make) -> None:
    extras = "".join(f'{name} = ["{WHEEL.format(name)}"]\n' for name in ("cpu", "cu126"))
    conflicts = 'conflicts = [[{ extra = "cpu" }, { extra = "cu126" }]]\n'
    project = make(body(tool=conflicts) + f"[project.optional-dependencies]\n{extras}")
    listed = project.uvtorch("torch", "backends", "--json", machine="h100-570").must()
    assert json.loads(listed.out)["selected"] == "cu126"
    preview = project.uvtorch("torch", "backends", "cpu", "cu128", "--dry-run").must().out
    assert '+    "torch",' in preview.splitlines()  # without the URL, which is another build's


@pytest.mark.parametrize("other", ["torch", "numpy"])
def test_what_a_sibling_needs_is_no_reason_to_keep_it(make: Make, other: str) -> None:
    project = make(WORKSPACE).put(members("torch", "whl/cu126", other))
    project.uv("lock").must()
    one = project.member("libs/one")
    one.uvtorch("remove", "torch", "--no-sync").must()
    assert "sources" not in one.text
    assert "uvtorch" not in one.text


# Scripts


def script(*requirements: str, index: str = "") -> str:
    rows = [f"dependencies = {json.dumps(requirements)}", *(source(index, "torch").splitlines() if index else ())]
    text = "\n".join(f"# {row}".rstrip() for row in ('requires-python = ">=3.11"', *rows))
    return f"# /// script\n{text}\n# ///\nfrom importlib.metadata import version\nprint('RUNS', version('torch'))\n"


@pytest.mark.parametrize(("machine", "torch"), [("h100-570", "2.14.1+cu126"), ("cpu-only", "2.15.0+cpu")])
@pytest.mark.parametrize("requirement", ["any-models", "accelerate"])
def test_a_script_names_the_torch_that_comes_along(make: Make, requirement: str, machine: str, torch: str) -> None:
    project = make(body()).put({"job.py": script()})
    project.uvtorch("add", "--script", "job.py", requirement, machine=machine).must()
    assert '"torch' in (project.path / "job.py").read_text()
    assert project.uv("run", "job.py").must().out == f"RUNS {torch}\n"


def test_an_installed_torch_of_another_build_is_replaced(make: Make) -> None:
    project = make(body()).put({"job.py": script("torch<2.12", "numpy")})
    assert project.uv("run", "job.py").must().out == "RUNS 2.11.0\n"
    for option, machine, torch in [
        ("--auto", "h100-570", "2.11.0+cu128"),
        ("--torch-backend=xpu", "h100-570", "2.11.0+xpu"),
        ("--torch-backend=auto", "cpu-only", "2.11.0+cpu"),
    ]:
        assert project.uvtorch("run", option, "job.py", machine=machine).must().out == f"RUNS {torch}\n"


def test_a_script_whose_pin_does_not_fit_is_named(make: Make) -> None:
    project = make(body()).put({"tools/job.py": script("torch>=2.6", index="whl/cu130")})
    done = project.uvtorch("run", "--auto", "tools/job.py", machine="h100-570").must()
    (warning,) = (row for row in done.err.splitlines() if row.startswith("warning: "))
    assert "job.py pins cu130" in warning
    assert "the project" not in warning


# What doctor names works

ON_SOME = body("torch ; sys_platform == 'linux'", "torch==2.9.1 ; sys_platform == 'darwin'", "torchvision")
ON_SOME = ON_SOME.partition("\n[tool.uv]")[0] + source("whl/cu130", "torch", "torchvision").replace(
    ' "own" }', ' "own", marker = "sys_platform != \'darwin\'" }'
)


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        (body("torch>=2.15.0", tool=source("whl/cu130", "torch")), "h100-570"),
        (body("torch==2.9.1+cu130", tool=source("whl/cu130", "torch")), "h100-570"),
        (body("torch", "torchvision", tool=source("whl/cpu", "torch", "torchvision")), "h200-580"),
        (body("torch", "torchvision", tool=source("whl/cu126", "torch")), "h200-580"),
        (body("torch==2.9.1", "torchaudio", tool=source("whl/cpu", "torch", "torchaudio")), "cpu-only"),
        (body("torch", tool=source("whl/cu126", "torch") + '\n[tool.uvtorch]\nbackend = "cu126"\n'), "cpu-only"),
        (body("any-models"), "mi300x-gfx942"),
        (ON_SOME, "h200-580"),
        (WORKSPACE + source("whl/cpu", "torch", "torchaudio"), "cpu-only"),
        (WORKSPACE, "h100-570"),
        (body("torch>=2.15.0", tool=source("whl/cpu", "torch")), "h100-570"),
    ],
)
def test_doctor_s_remedies_work(make: Make, text: str, machine: str) -> None:
    project = make(text)
    if "workspace" in text:
        project.put({"libs/one/pyproject.toml": body("torch==2.9.1", "torchaudio", name="one").partition("[tool")[0]})
    if text == WORKSPACE:  # whose members differ
        vision = body("torchvision", name="two").partition("[tool")[0] + source(
            "whl/cu126", "torchvision", name="vision"
        )
        project.put(members("torch==2.9.1", "whl/cu128", "numpy") | {"libs/two/pyproject.toml": vision})
    project.uv("lock").must()
    told: set[str] = set()
    for _ in range(4):
        done = project.uvtorch("torch", "doctor", "--json", machine=machine)
        findings = [row for row in json.loads(done.out)["findings"] if row["fix"]]
        if not findings:
            break
        assert findings[0]["message"] not in told, findings[0]
        told.add(findings[0]["message"])
        words = findings[0]["fix"]
        (project.uv if words[0] == "uv" else lambda *args: project.uvtorch(*args, machine=machine))(*words[1:]).must()
    else:
        raise AssertionError(findings)
    assert told


@pytest.mark.parametrize(("requirement", "index"), [("torch==2.15.0", "whl/cu126"), ("torch>=2.15.0,<3", "whl/cu130")])
def test_doctor_names_no_remedy_that_would_refuse(make: Make, requirement: str, index: str) -> None:
    project = make(body(requirement, tool=source(index, "torch")))
    if index == "whl/cu130":
        project.uv("lock").must()
    project.uvtorch("torch", "use", "auto", machine="h100-570").must(2)
    done = project.uvtorch("torch", "doctor", "--json", machine="h100-570")
    assert [row["fix"] for row in json.loads(done.out)["findings"]] == [None]


def test_a_cap_counts_for_add_to_a_script(make: Make) -> None:
    project = make(body()).put({"job.py": script("old-models")})
    project.uvtorch("add", "--script", "job.py", "torch", machine="h100-570").must()
    assert "whl/cu128" in (project.path / "job.py").read_text()
    assert project.uv("run", "job.py").must().out == "RUNS 2.8.0+cu128\n"

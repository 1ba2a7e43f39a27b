"""uv's resolution decides which torch is in question, on every verb: what comes along, caps, lower bounds."""

import json
import re
from pathlib import Path

import pytest

from tests.recording_uv import RecordingUv
from tests.situations import Make, body, choices, source, unchanged

pytest_plugins = ["tests.index.fixtures"]

# torch that only comes along, without a uv.lock


@pytest.mark.parametrize(
    ("package", "command", "machine", "torch"),
    [
        ("any-models", "sync --auto", "h200-580", "2.15.0+cu130"),
        ("any-models", "sync --torch-backend cu126", "cpu-only", "2.14.1+cu126"),
        ("timm", "run --auto python -c pass", "mi300x-gfx942", "2.14.1+rocm7.2"),
        ("accelerate", "run --torch-backend xpu python -c pass", "h200-580", "2.15.0+xpu"),
        ("capped-models", "lock --torch-backend auto", "h100-570", "2.11.0+cu128"),
        ("sound-models", "lock --torch-backend cu128", "cpu-only", "2.11.0+cu128"),
        ("old-models", "export --auto", "h100-570", "2.8.0+cu128"),
        ("transformers[torch]", "export --torch-backend cpu", "h200-580", "2.15.0+cpu"),
        ("capped-models", "torch use auto", "h100-570", "2.11.0+cu128"),
    ],
)
def test_torch_that_only_comes_along(make: Make, package: str, command: str, machine: str, torch: str) -> None:
    project = make(body(package))
    done = project.uvtorch(*command.split(), machine=machine).must()
    assert torch.partition("+")[2] in " ".join(done.ours)
    project.versions(torch=torch)
    assert project.data["project"]["dependencies"] == [package]
    before = project.state()
    project.uvtorch(*command.split(), machine=machine).must()
    assert project.state() == before


def test_a_lock_of_the_users_own_is_run_as_it_was_typed(make: Make, tmp_path: Path) -> None:
    """With its --upgrade, and uv's words, also where there is no torch to choose for."""
    project = make(body("filelock"))
    before = project.text
    recorded = RecordingUv(tmp_path / "uv", f'exec "{project.home.uv}" "$@"')
    done = project.uvtorch("lock", "--upgrade", "--torch-backend", "cpu", UVTORCH_UV=str(recorded.path)).must()
    assert recorded.commands == [["lock", "--upgrade"]]
    assert "Resolved" in done.err
    assert project.text == before


@pytest.mark.parametrize("command", ["sync --auto", "lock --torch-backend cu126", "export --auto"])
def test_an_extra_that_is_not_asked_for_brings_nothing(make: Make, command: str) -> None:
    """transformers needs torch by an extra of its own."""
    project = make(body("transformers"))
    before = project.state()
    assert not project.uvtorch(*command.split(), machine="h200-580").must().ours
    assert unchanged(before, project)


# What other packages and `[tool.uv]` say of torch

CAPS = [
    (("torch>=2.6", "old-models"), "", "h100-570", "2.8.0+cu128"),
    (("torch>=2.6", "capped-models"), "", "h200-580", "2.11.0+cu130"),
    (("torch", "first-models"), "", "h200-580", "2.6.0+cu126"),
    (("torch>=2.6",), 'constraint-dependencies = ["torch<2.9"]\n', "h100-570", "2.8.0+cu128"),
    (("torch", "torchvision"), 'constraint-dependencies = ["torchvision<0.25"]\n', "h100-570", "2.9.1+cu128"),
    (("torch>=2.15",), 'override-dependencies = ["torch==2.11.0"]\n', "h100-570", "2.11.0+cu128"),
    (("torch", "first-models"), 'exclude-dependencies = ["first-models"]\n', "h200-580", "2.15.0+cu130"),
]


VERBS = ("lock --torch-backend auto", "torch use auto", "sync --auto")


@pytest.mark.parametrize(
    ("case", "command"),
    [(case, VERBS[(number + more) % 3]) for number, case in enumerate(CAPS) for more in range(1 + (number % 5 == 0))],
)
def test_a_cap_that_the_text_does_not_tell(
    make: Make, case: tuple[tuple[str, ...], str, str, str], command: str
) -> None:
    requirements, tool, machine, torch = case
    project = make(body(*requirements, tool=tool))
    project.uvtorch(*command.split(), machine=machine).must()
    project.versions(torch=torch)


@pytest.mark.parametrize(
    ("requirements", "tool", "runs"),
    [
        (("torch>=2.6",), "", 1),
        (("torch>=2.6", "numpy"), 'constraint-dependencies = ["torch<2.9", "torchaudio<2"]\n', 1),
        (("torch>=2.6", "capped-models"), "", 2),
        (("torch>=2.15",), 'override-dependencies = ["torch==2.11.0"]\n', 2),
    ],
)
def test_uv_locks_as_often_as_it_takes(
    make: Make, tmp_path: Path, requirements: tuple[str, ...], tool: str, runs: int
) -> None:
    """Once where the text and the file's constraints tell what uv resolves, twice where another package caps torch.

    A lower bound that is overridden is not lowered.
    """
    project = make(body(*requirements, tool=tool))
    recorded = RecordingUv(tmp_path / "uv", f'exec "{project.home.uv}" "$@"')
    command = ("lock", "--torch-backend", "auto")
    project.uvtorch(*command, machine="h100-570", UVTORCH_UV=str(recorded.path)).must()
    assert recorded.commands == [["lock"]] * runs


@pytest.mark.parametrize("command", VERBS)
def test_what_is_too_new_is_not_chosen(make: Make, command: str) -> None:
    """`exclude-newer`, where the indexes tell when their files were uploaded."""
    project = make(body("torch", tool='exclude-newer = "2025-06-01T00:00:00Z"\n'))
    server = project.home.server.url
    env = {"UV_DEFAULT_INDEX": f"{server}/dated/simple", "UVTORCH_INDEX_BASE": f"{server}/dated/whl"}
    done = project.uvtorch(*command.split(), machine="h100-570", **env).must()
    assert "using cu128 (torch 2.9.1)" in done.err
    assert project.data["tool"]["uv"]["index"][0]["url"].endswith("/dated/whl/cu128")
    assert {version for version, _ in project.locked()["torch"]} == {"2.9.1+cu128"}


@pytest.mark.parametrize(("requirements", "tool", "machine", "torch"), CAPS[1:-2:2])
def test_a_cap_counts_for_add(make: Make, requirements: tuple[str, ...], tool: str, machine: str, torch: str) -> None:
    project = make(body(*requirements[1:], tool=tool))
    project.uvtorch("add", "torch", "torchvision", "--no-sync", machine=machine).must()
    project.versions(torch=torch)


@pytest.mark.parametrize(
    "command", ["sync --auto", "lock --torch-backend auto", "run --auto python -c pass", "add timm"]
)
@pytest.mark.parametrize(
    ("package", "tool"),
    [
        ("torch", "override-dependencies = [\"torch ; sys_platform == 'none'\"]\n"),
        ("accelerate", 'exclude-dependencies = ["torch"]\n'),
    ],
)
def test_a_torch_that_is_taken_away_is_not_chosen_for(make: Make, package: str, tool: str, command: str) -> None:
    project = make(body(package, "numpy", tool=tool))
    before = project.state()
    done = project.uvtorch(*command.split(), machine="h200-580").must()
    assert "add" in command or unchanged(before, project)
    assert "using" not in done.err
    assert "sources" not in project.data["tool"]["uv"]


# Lower bounds that nobody asked for


@pytest.mark.parametrize(
    ("command", "torch", "pinned"),
    [
        ("torch use auto", "2.14.1+cu126", True),
        ("torch use cu128", "2.11.0+cu128", False),
        ("sync --torch-backend auto", "2.14.1+cu126", False),
        ("run --torch-backend cu126 python -c pass", "2.14.1+cu126", True),
        ("lock --torch-backend cu126", "2.14.1+cu126", True),
    ],
)
def test_a_lower_bound_in_the_way_is_lowered_and_told(make: Make, command: str, torch: str, pinned: bool) -> None:
    project = make(body("torch>=2.15.0", tool=source("whl/cu130", "torch") if pinned else ""))
    done = project.uvtorch(*command.split(), machine="h100-570").must()
    project.versions(torch=torch)
    release = torch.partition("+")[0]
    assert f"lowered torch>=2.15.0 to torch>={release}" in done.err
    assert project.data["project"]["dependencies"] == [f"torch>={release}"]


def test_a_lower_bound_in_the_way_is_named_where_it_stays(make: Make) -> None:
    project = make(body("torch>=2.15.0"))
    done = project.uvtorch("sync", "--auto", machine="h100-570").must(2)
    assert "hint: `--torch-backend auto` lowers torch>=2.15.0 and takes cu126" in done.err
    script = project.path / "s.py"
    script.write_text('# /// script\n# requires-python = ">=3.11"\n# dependencies = ["torch>=2.15.0"]\n# ///\n')
    done = project.uvtorch("torch", "use", "auto", "--script", "s.py", machine="h100-570").must()
    assert "lowered torch>=2.15.0 to torch" in done.err


def test_a_bound_that_only_the_index_cannot_meet_is_lowered_as_well(make: Make) -> None:
    """Pairs do not tell which torchvision an index has: 0.29.2 goes with torch 2.14, and is not on cu126."""
    project = make(body("torch>=2.6", "torchvision>=0.29.2"))
    done = project.uvtorch("torch", "use", "auto", machine="h100-570").must()
    assert "lowered torchvision>=0.29.2 to torchvision>=0.29.1" in done.err
    assert project.data["project"]["dependencies"] == ["torch>=2.6", "torchvision>=0.29.1"]


def test_backends_lower_it_too(make: Make) -> None:
    project = make(body("torch>=2.15.0"))
    done = project.uvtorch("torch", "backends", "cpu", "cu126", machine="h100-570").must()
    assert "torch>=2.15.0" in done.err
    assert project.data["project"]["optional-dependencies"].keys() == {"cpu", "cu126"}
    assert "2.14.1+cu126" in {version for version, _ in project.locked()["torch"]}


CHOICES = choices(cpu="SERVER/whl/cpu", gpu="SERVER/whl/cu126")


@pytest.mark.parametrize(
    ("requirement", "command"),
    [
        ("torch", "torch use auto"),
        ("torch", "sync --auto"),
        ("torch", "lock --torch-backend auto"),
        ("", "add torch --no-sync"),
        (None, "sync --auto"),
        (None, "add torchvision"),
    ],
)
def test_the_ways_past_a_broken_driver_can_be_typed(make: Make, requirement: str | None, command: str) -> None:
    head = body().partition("\n[tool.uv]")[0]
    project = make(head + CHOICES if requirement is None else body(*filter(None, [requirement])))
    project.uvtorch(*command.split(), machine="broken-mismatch").must(2)
    assert project.told


@pytest.mark.parametrize("requirement", ["torch==2.15.0", "torch>=2.15,<2.16", "torch~=2.15.0"])
def test_what_somebody_asked_for_is_not_lowered(make: Make, requirement: str) -> None:
    project = make(body(requirement))
    before = project.state()
    done = project.uvtorch("torch", "use", "auto", machine="h100-570").must(2)
    assert "2.14.1 (cu126)" in done.err
    assert project.state() == before


# torchaudio names no torch from 2.11 on, and crashes with an older one


@pytest.mark.parametrize(
    ("requirements", "command", "torch"),
    [
        (("torch==2.9.1", "torchaudio"), "lock --torch-backend auto", "2.9.1"),
        (("torch==2.10.0", "torchaudio"), "torch use cu126", "2.10.0"),
        (("torch<2.10", "torchaudio"), "sync --auto", "2.9.1"),
        (("torch==2.10.0",), "add torchaudio --no-sync", "2.10.0"),
        (("torchaudio", "old-models"), "lock --torch-backend auto", "2.8.0"),
        (("torchaudio", "first-models"), "sync --auto", "2.6.0"),
        (("torchaudio", "torch", "old-models"), "torch use cpu", "2.8.0"),
        (("old-models",), "add torch torchaudio --optional audio --no-sync", "2.8.0"),
        (("torchaudio",), "add torch==2.9.1 --no-sync", "2.9.1"),
        (("first-models",), "add torch torchaudio --torch-backend cpu --no-sync", "2.6.0"),
    ],
)
def test_torchaudio_is_as_old_as_torch(make: Make, requirements: tuple[str, ...], command: str, torch: str) -> None:
    project = make(body(*requirements))
    project.uvtorch(*command.split(), machine="h100-570").must()
    found = project.locked()
    assert {version.partition("+")[0] for version, _ in found["torchaudio"]} == {torch}


@pytest.mark.parametrize("kind", ["extras", "groups"])
def test_torchaudio_is_as_old_as_the_torch_of_each_choice(make: Make, kind: str) -> None:
    project = make(body("torch==2.9.1"))
    project.uvtorch("torch", "backends", "cpu", "cu126", "--as", kind).must()
    project.uvtorch("add", "torchaudio", "--no-sync").must()
    project.uv("lock", "--check").must()
    own = {"2.9.1"} if kind == "groups" else set()
    assert {version for version, _ in project.locked()["torchaudio"]} == {"2.9.1+cpu", "2.9.1+cu126"} | own
    before = project.state()
    project.uvtorch("torch", "use", "cpu").must()
    project.write(body("torch==2.9.1", "torchaudio"))
    project.uvtorch("torch", "backends", "cpu", "cu126", "--as", kind).must()
    assert {version for version, _ in project.locked()["torchaudio"]} == {"2.9.1+cpu", "2.9.1+cu126"} | own
    assert project.state().keys() == before.keys()


def test_an_add_that_a_choice_cannot_serve_names_choices_that_can(make: Make) -> None:
    project = make(body("torch==2.9.1"))
    project.uvtorch("torch", "backends", "cpu", "cu128").must()
    before = project.state()
    done = project.uvtorch("add", "torch==2.14.1", "--no-sync", machine="h200-580").must(1)
    assert "`uvtorch torch backends cpu cu130` offers others" in done.err
    assert project.state() == before
    project.uvtorch("torch", "backends", "cpu", "cu130", machine="h200-580").must()
    project.uvtorch("add", "torch==2.14.1", "--no-sync", machine="h200-580").must()


def test_torchaudio_comes_to_a_pinned_torch(make: Make) -> None:
    project = make(body("torch==2.9.1", tool=source("whl/cu126", "torch")))
    project.uv("lock").must()
    project.uvtorch("add", "torchaudio", "--no-sync", machine="h100-570").must()
    project.versions(torch="2.9.1+cu126", torchaudio="2.9.1+cu126")


@pytest.mark.parametrize("several", [False, True])
def test_torchaudio_follows_to_an_older_torch(make: Make, several: bool) -> None:
    tool = "" if several else source("whl/cu126", "torch", "torchaudio")
    project = make(body("torch==2.11.0", "torchaudio", tool=tool))
    if several:
        project.uvtorch("torch", "backends", "cpu", "cu126").must()
    for torch in ("2.9.1", *([] if several else ["2.11.0"])):
        project.uvtorch("add", f"torch=={torch}", "--no-sync", machine="h100-570").must()
        assert {version.partition("+")[0] for version, _ in project.locked()["torchaudio"]} == {torch}


# Local versions


@pytest.mark.parametrize(
    ("before", "backend", "torch"),
    [
        ("torch==2.9.1+cu130", "auto", "2.9.1+cu128"),
        ("torch==2.11.0+cpu", "cu126", "2.11.0+cu126"),
        ("torch==2.11.0+cu128 ; sys_platform == 'linux'", "rocm7.2", "2.11.0+rocm7.2"),
        ("torch==2.9.1+cu130,>=2.6", "cpu", "2.9.1+cpu"),
    ],
)
@pytest.mark.parametrize("where", ["base", "group"])
def test_use_takes_a_local_version_out(make: Make, before: str, backend: str, torch: str, where: str) -> None:
    index = source(f"whl/{before.partition('+')[2].partition(' ')[0].partition(',')[0]}", "torch")
    text = body(before, tool=index)
    if where == "group":
        text = body(tool=index) + f'\n[dependency-groups]\ntrain = ["{before}"]\n'
    project = make(text)
    project.uv("lock").must()
    project.uvtorch("torch", "use", backend, machine="h100-570").must()
    project.versions(torch=torch)
    assert not re.search(r"2\.\d+\.\d\+", project.text)


APART = """
[tool.uv]
index-strategy = "unsafe-best-match"
environments = ["sys_platform == 'linux' and platform_machine == 'x86_64'"]
conflicts = [[{ KIND = "plain" }, { KIND = "fast" }]]

[[tool.uv.index]]
url = "BASE/cpu"

[[tool.uv.index]]
url = "BASE/cu128"

[TABLE]
plain = ["torch==2.11.0+cpu", "torchvision==0.26.0+cpu"]
fast = ["torch==2.11.0+cu128", "torchvision==0.26.0+cu128"]
"""


@pytest.mark.parametrize(
    ("kind", "table"), [("extra", "project.optional-dependencies"), ("group", "dependency-groups")]
)
@pytest.mark.parametrize(("machine", "torch"), [("h100-570", "2.11.0+cu128"), ("cpu-only", "2.11.0+cpu")])
def test_choices_told_apart_by_local_version(make: Make, kind: str, table: str, machine: str, torch: str) -> None:
    head = body().partition("\n[tool.uv]")[0]
    project = make(head + APART.replace("KIND", kind).replace("TABLE", table))
    project.uv("lock").must()
    before = project.state()
    project.uvtorch("sync", "--auto", machine=machine).must()
    assert project.state() == before
    assert project.installed()["torch"] == torch
    listed = json.loads(project.uvtorch("torch", "backends", "--json", machine=machine).must().out)
    assert listed["selected"] == ("fast" if "cu128" in torch else "plain")
    project.uvtorch("add", "torchaudio", machine=machine).must(2)
    project.uvtorch("torch", "explain", machine=machine).must()
    findings = json.loads(project.uvtorch("torch", "doctor", "--json", machine=machine).out)["findings"]
    assert [(one["code"], one["fix"]) for one in findings] == [("index-not-explicit", None)] * 2
    assert project.state() == before

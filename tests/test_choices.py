"""Backend choices recognized by structure, over the projects in `layouts/`, and what uv is told to select one."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from uvtorch.argv import parse
from uvtorch.machine import Platform
from uvtorch.project import Choice, Project, read
from uvtorch.session import Session
from uvtorch.steps.choices import Asked, options_of, selection

LAYOUTS = Path(__file__).parent / "layouts"
EXPECTED: dict[str, Any] = tomllib.loads((LAYOUTS / "expected.toml").read_text())
PLATFORMS = {
    "linux": Platform("linux", "x86_64"),
    "aarch64": Platform("linux", "aarch64"),
    "windows": Platform("windows", "x86_64"),
    "macos": Platform("macos", "arm64"),
}


def tables(name: str) -> dict[str, Any]:
    with (LAYOUTS / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def layout(name: str) -> Project:
    """A layout; beside it may be its workspace's root, `NAME.root.toml`, or a member of it, `NAME.member.toml`."""
    root = tables(f"{name}.root") if (LAYOUTS / f"{name}.root.toml").exists() else None
    members = [tables(f"{name}.member")] if (LAYOUTS / f"{name}.member.toml").exists() else []
    return read(tables(name), root, members=members)


def row(choice: Choice) -> str:
    also = f" (also {' '.join(choice.aliases)})" if choice.aliases else ""
    sign, target = "=" if choice.stated else "~", str(choice.target).replace(" ", ":")
    return f"{target} {sign} {choice.backend or choice.origin}: {' '.join(choice.packages)}{also}"


def asked(words: str = "") -> Asked:
    """What these options of `sync` ask for."""
    return options_of(Session(parse(["sync", *words.split()]), {}))


def chosen(name: str, target: str, platform: str = "linux") -> Choice:
    return next(choice for choice in layout(name).choices_for(PLATFORMS[platform]) if str(choice.target) == target)


def test_every_layout_has_its_expectations() -> None:
    names = {path.name.removesuffix(".toml") for path in LAYOUTS.glob("*.toml")} - {"expected"}
    assert {name for name in names if not name.endswith((".root", ".member"))} == set(EXPECTED)
    assert len(EXPECTED) >= 40


@pytest.mark.parametrize("name", EXPECTED)
def test_sources_state_the_choices(name: str) -> None:
    project = layout(name)
    assert [row(choice) for choice in project.choices()] == EXPECTED[name]["stated"]


@pytest.mark.parametrize("name", EXPECTED)
def test_choices_are_what_they_are_on_each_platform(name: str) -> None:
    project, expected = layout(name), EXPECTED[name]
    rows = {platform: project.choices_for(described) for platform, described in PLATFORMS.items()}
    assert {platform: [*map(row, choices)] for platform, choices in rows.items()} == {
        platform: expected.get(platform, expected["linux"]) for platform in PLATFORMS
    }
    for choices in rows.values():
        assert len({choice.target for choice in choices}) == len(choices)


@pytest.mark.parametrize("name", EXPECTED)
def test_uv_is_told_no_more_than_it_needs(name: str) -> None:
    project = layout(name)
    choices = project.choices_for(PLATFORMS["linux"])
    assert [" ".join(selection(project, choice)) for choice in choices] == EXPECTED[name]["select"]


def test_an_alias_names_its_choice() -> None:
    choices = layout("recursive-extras").choices_for(PLATFORMS["linux"])
    assert [choice.name for choice in asked("--extra workstation").named(choices)] == ["cu128"]


def test_an_alias_alone_is_completed_because_uv_would_take_another_build() -> None:
    project = layout("recursive-extras")
    cu128 = chosen("recursive-extras", "extra cu128")
    assert selection(project, cu128, asked("--extra gpu")) == ("--extra", "cu128")


def test_what_the_user_selects_is_not_said_again() -> None:
    project = layout("names-spelled-differently")
    cpu = chosen("names-spelled-differently", "extra Torch_CPU")
    assert selection(project, cpu, asked("--extra torch-cpu")) == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("extras-documented", "--extra CPU"),
        ("extras-documented", "--all-extras"),
        ("groups-with-default", "--group cu130"),
        ("groups-with-default", "--only-group dev"),
        ("groups-with-default", "--all-groups"),
        ("groups-included-by-a-default", "--only-group cpu"),
        ("recursive-extras", "--extra laptop"),
    ],
)
def test_options_of_the_users_own_settle_the_choice(name: str, words: str) -> None:
    assert asked(words).settles(layout(name).choices_for(PLATFORMS["linux"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("extras-documented", ""),
        ("extras-documented", "--extra docs --group dev"),
        ("extras-documented", "--all-extras --no-extra cpu --no-extra cu128"),
        ("extras-documented", "--all-groups"),
        ("groups-with-default", "--no-default-groups"),
        ("groups-with-default", "--all-extras"),
        ("groups-with-default", "--group dev"),
    ],
)
def test_options_about_other_things_leave_the_choice_open(name: str, words: str) -> None:
    assert not asked(words).settles(layout(name).choices_for(PLATFORMS["linux"]))


def test_what_the_user_excludes_is_no_choice() -> None:
    choices = layout("groups-with-default").choices_for(PLATFORMS["linux"])
    left = asked("--no-group cu130 --no-extra cpu").left(choices)
    assert [choice.name for choice in left] == ["cpu", "cu128"]


def test_a_default_group_is_named_where_the_user_turns_default_groups_off() -> None:
    project = layout("groups-with-default")
    options = asked("--no-default-groups")
    assert selection(project, chosen("groups-with-default", "group cpu"), options) == ("--group", "cpu")
    assert selection(project, chosen("groups-with-default", "group cu128"), options) == ("--group", "cu128")


def test_a_default_group_that_the_user_turned_off_is_not_turned_off_again() -> None:
    project = layout("groups-with-default")
    options = asked("--no-group CPU")
    assert selection(project, chosen("groups-with-default", "group cu128"), options) == ("--group", "cu128")


def test_a_choice_that_only_a_conflict_separates_from_a_default_group_turns_it_off() -> None:
    project = layout("groups-default-all")
    assert selection(project, chosen("groups-default-all", "extra gpu")) == ("--extra", "gpu", "--no-group", "cpu")


def test_a_mixed_choice_goes_by_torch() -> None:
    data = tables("extras-documented")
    data["tool"]["uv"]["sources"]["torchvision"][0]["index"] = "pytorch-cu128"
    cpu = read(data).choices_for(PLATFORMS["linux"])[0]
    assert (str(cpu.target), str(cpu.backend), cpu.packages) == ("extra cpu", "cpu", ("torch",))


def test_the_base_gets_what_leaks_only_where_the_leaking_source_holds() -> None:
    data = tables("extra-alone-inline")
    data["tool"]["uv"]["sources"]["torch"]["marker"] = "sys_platform == 'linux'"
    project = read(data)
    base = {name: project.choices_for(platform)[-1] for name, platform in PLATFORMS.items()}
    assert {name: row(choice) for name, choice in base.items()} == {
        "linux": "base ~ cpu: torch",
        "aarch64": "base ~ cpu: torch",
        "windows": "base ~ pypi: torch",
        "macos": "base ~ pypi: torch",
    }


def test_an_unrelated_member_of_a_workspace_is_not_given_the_roots_groups() -> None:
    member = tables("workspace-root-groups")
    member["project"]["dependencies"] = ["numpy"]
    project = read(member, tables("workspace-root-groups.root"))
    assert project.choices_for(PLATFORMS["linux"]) == ()
    assert project.pytorch_packages() == ()


def test_a_member_that_the_root_does_not_ask_for_counts_only_where_all_are_installed() -> None:
    root, member = tables("workspace-forwards-extras"), tables("workspace-forwards-extras.member")
    root["project"] |= {"dependencies": [], "optional-dependencies": {}}
    alone = read(root, members=[member])
    assert (alone.choices_for(PLATFORMS["linux"]), alone.pytorch_packages()) == ((), ())
    together = read(root, members=[member], together=True)
    assert [str(choice.target) for choice in together.choices_for(PLATFORMS["linux"])] == ["extra cpu", "extra cu128"]
    assert together.pytorch_packages() == ("torch",)


def test_a_members_pin_is_the_base_of_a_root_that_depends_on_it() -> None:
    root, member = tables("workspace-forwards-extras"), tables("pin-with-marker")
    root["project"]["dependencies"] = ["single"]
    project = read(root, members=[member])
    assert [row(choice) for choice in project.choices_for(PLATFORMS["linux"])] == ["base = cu126: torch torchvision"]
    assert project.pytorch_packages() == ("torch", "torchvision")

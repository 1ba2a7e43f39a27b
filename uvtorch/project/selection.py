"""What uv must be told to select a backend choice, and what the user's own options say already. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from uvtorch.project.choices import Project, conflicting, reached
from uvtorch.project.model import Choice, Target


class Asked(NamedTuple):
    """The options on a command line that select extras and groups; `--no-dev` counts as `--no-group dev`, and so on."""

    extras: tuple[str, ...] = ()
    no_extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    no_groups: tuple[str, ...] = ()
    only_groups: tuple[str, ...] = ()
    all_extras: bool = False
    all_groups: bool = False
    no_default_groups: bool = False

    @property
    def given(self) -> set[Target]:
        """The extras and groups that are asked for."""
        return _targets(self.extras, (*self.groups, *self.only_groups))

    @property
    def excluded(self) -> set[Target]:
        """Those that shall not come."""
        return _targets(self.no_extras, self.no_groups)


def _targets(extras: Iterable[str], groups: Iterable[str]) -> set[Target]:
    return {*(Target("extra", name) for name in extras), *(Target("group", name) for name in groups)}


NOTHING_ASKED = Asked()


def named(choices: Iterable[Choice], asked: Asked) -> tuple[Choice, ...]:
    """The choices that the user's options name, directly or by an alias; those win over any other."""
    given = asked.given
    return tuple(one for one in choices if any(Target(one.kind, name) in given for name in (one.name, *one.aliases)))


def open_to(choices: Iterable[Choice], asked: Asked) -> tuple[Choice, ...]:
    """The choices left when those that the user excludes (`--no-extra`, `--no-group`) are gone."""
    return tuple(one for one in choices if one.target not in asked.excluded)


def settled(choices: Iterable[Choice], asked: Asked) -> bool:
    """Whether the user's options leave nothing to choose: they name a choice, take all, or leave the project out."""
    choices = tuple(choices)
    kinds = {choice.kind for choice in open_to(choices, asked)}
    every = (asked.all_extras and "extra" in kinds) or (asked.all_groups and "group" in kinds)
    return every or bool(named(choices, asked) or asked.only_groups)


def selection(project: Project, chosen: Choice, asked: Asked = NOTHING_ASKED) -> tuple[str, ...]:
    """The options that make `uv sync`, `run` or `export` install `chosen`; nothing that is so already.

    Default groups that conflict with it, or that choose another backend, are switched off. A default group that
    includes such a group goes as well: uv refuses it otherwise.
    """
    defaults = [Target("group", name) for name in project.default_groups if not asked.no_default_groups]
    there = chosen.target in (*asked.given, *defaults) or (chosen.kind == "extra" and asked.all_extras)
    options = [] if there or chosen.kind == "base" else [f"--{chosen.kind}", chosen.name or ""]
    left = [group for group in defaults if group not in (chosen.target, *asked.excluded)]
    return (*options, *(word for group in _against(project, chosen, left) for word in ("--no-group", group.name or "")))


def _against(project: Project, chosen: Choice, groups: Iterable[Target]) -> list[Target]:
    """The groups that choose another build, or that conflict with the choice by what they bring in."""
    others = {row.target for row in project.choices()}
    apart = conflicting(project, chosen.target)
    return [group for group in groups if group in others or apart & reached({group}, project.brings)]

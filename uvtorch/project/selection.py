"""What uv must be told to select a backend choice, and what the user's own options say already. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from uvtorch.packages import normalize
from uvtorch.project.choices import Project, conflicting, reached
from uvtorch.project.model import Choice, Target, TargetKind


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

    def given(self, kind: TargetKind) -> set[str]:
        """The extras or the groups that are asked for, normalized."""
        return _normal({"base": (), "extra": self.extras, "group": (*self.groups, *self.only_groups)}[kind])

    def excluded(self, kind: TargetKind) -> set[str]:
        """Those that shall not come, normalized."""
        return _normal({"base": (), "extra": self.no_extras, "group": self.no_groups}[kind])


NOTHING_ASKED = Asked()


def _normal(names: Iterable[str | None]) -> set[str]:
    return {normalize(name) for name in names if name}


def named(choices: Iterable[Choice], asked: Asked) -> tuple[Choice, ...]:
    """The choices that the user's options name, directly or by an alias; those win over any other."""
    return tuple(one for one in choices if asked.given(one.kind) & _normal((one.name, *one.aliases)))


def open_to(choices: Iterable[Choice], asked: Asked) -> tuple[Choice, ...]:
    """The choices left when those that the user excludes (`--no-extra`, `--no-group`) are gone."""
    return tuple(one for one in choices if not asked.excluded(one.kind) & _normal([one.name]))


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
    own = _normal([chosen.name])
    defaults = () if asked.no_default_groups else project.default_groups
    unasked = _normal(defaults) if chosen.kind == "group" else set()
    there = own <= asked.given(chosen.kind) | unasked or (chosen.kind == "extra" and asked.all_extras)
    options = [] if there else [f"--{chosen.kind}", chosen.name or ""]
    kept = asked.excluded("group") | (own if chosen.kind == "group" else set())
    choosing = {row.name for row in project.choices() if row.kind == "group"}
    against = {target.normalized for target in conflicting(project, chosen.target)}
    for group in [group for group in defaults if normalize(group) not in kept]:
        if group in choosing or against & reached({Target("group", normalize(group))}, project.brings):
            options += ["--no-group", group]
    return tuple(options)

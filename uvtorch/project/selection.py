"""What uv must be told to select a backend choice, and what the user's own options say already. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from uvtorch.packages import normalize
from uvtorch.project.choices import conflicting
from uvtorch.project.facts import Choice, Project


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


NOTHING_ASKED = Asked()


def named(choices: Iterable[Choice], asked: Asked) -> tuple[Choice, ...]:
    """The choices that the user's options name, directly or by an alias; those win over any other."""
    extras = set(map(normalize, asked.extras))
    groups = set(map(normalize, (*asked.groups, *asked.only_groups)))
    found = []
    for choice in choices:
        wanted = {"extra": extras, "group": groups}.get(choice.kind, set())
        if wanted & {normalize(name) for name in (choice.name or "", *choice.aliases)}:
            found.append(choice)
    return tuple(found)


def settled(choices: Iterable[Choice], asked: Asked) -> bool:
    """Whether the user's options leave nothing to choose: they name a choice, take all, or leave the project out."""
    choices = tuple(choices)
    kinds = {choice.kind for choice in choices}
    return (
        bool(named(choices, asked))
        or bool(asked.only_groups)
        or (asked.all_extras and any(c.kind == "extra" and not _excluded(c, asked) for c in choices))
        or (asked.all_groups and "group" in kinds)
    )


def open_to(choices: Iterable[Choice], asked: Asked) -> tuple[Choice, ...]:
    """The choices left when those that the user excludes (`--no-extra`, `--no-group`) are gone."""
    return tuple(choice for choice in choices if not _excluded(choice, asked))


def selection(project: Project, chosen: Choice, asked: Asked = NOTHING_ASKED) -> tuple[str, ...]:
    """The options that make `uv sync`, `run` or `export` install `chosen`; nothing that is so already.

    Default groups that conflict with it, or that choose another backend, are switched off. A default group that
    includes such a group goes as well: uv refuses it otherwise.
    """
    options: list[str] = []
    defaults = () if asked.no_default_groups else project.default_groups
    name = chosen.name or ""
    if chosen.kind == "extra" and normalize(name) not in set(map(normalize, asked.extras)) and not asked.all_extras:
        options += ["--extra", name]
    if chosen.kind == "group" and normalize(name) not in {normalize(group) for group in (*asked.groups, *defaults)}:
        options += ["--group", name]
    off = set(map(normalize, asked.no_groups))
    for group in defaults:
        if normalize(group) not in off and _excludes(project, chosen, group):
            options += ["--no-group", group]
    return tuple(options)


def _excludes(project: Project, chosen: Choice, group: str) -> bool:
    """Whether a default group must be off for a choice to stand."""
    if chosen.kind == "group" and normalize(group) == normalize(chosen.name or ""):
        return False
    if any(row.kind == "group" and row.name == group for row in project.choices()):
        return True
    if chosen.kind == "base":
        return False
    against = {normalize(item.name or "") for item in conflicting(project, chosen.target) if item.kind == "group"}
    return bool(against & _with_included(project, group))


def _with_included(project: Project, group: str) -> set[str]:
    reached = {normalize(group)}
    while True:
        more = {normalize(inner) for outer, inner in project.includes if normalize(outer) in reached} - reached
        if not more:
            return reached
        reached |= more


def _excluded(choice: Choice, asked: Asked) -> bool:
    names = {"extra": asked.no_extras, "group": asked.no_groups}.get(choice.kind, ())
    return normalize(choice.name or "") in set(map(normalize, names))

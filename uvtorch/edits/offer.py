"""Backend choices: extras or dependency groups that hold PyTorch's packages, each from one backend's index.

uv locks all of them apart (`conflicts`), and every machine installs one.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, NamedTuple

from uvtorch.backend import marker, same_url
from uvtorch.choose import Decision
from uvtorch.edits import pin
from uvtorch.errors import ProjectError
from uvtorch.markers import MAIN_PLATFORMS
from uvtorch.packages import has_build, roles
from uvtorch.project import Choice, Item, Project, Requirement, Source, Target
from uvtorch.project.choices import torch_first
from uvtorch.project.model import BASE, GROUP
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import bare_requirement, with_extras, within, without_local

ChoiceKind = Literal["extra", "group"]


def stated(project: Project) -> tuple[Choice, ...]:
    """The extras and groups that choose a backend now."""
    return tuple(choice for choice in project.selectable() if choice.backend)


def model_requirements(project: Project) -> tuple[Requirement, ...]:
    """The PyTorch requirements that every choice holds: those of the first choice, else the project's dependencies."""
    place = next((choice.target for choice in stated(project)), BASE)
    held = (item for item in project.requirements if item.target == place and item.via is None)
    return tuple(item for item in held if project.is_pinned(item.package))


def editable(project: Project) -> tuple[Choice, ...]:
    """The choices that the project's own file has: those that sources state, and the alternatives without a source.

    Raises ProjectError where choices are the workspace root's alone.
    """
    found: dict[Target, Choice] = {}
    every = (project.choices(), *map(project.choices_for, MAIN_PLATFORMS))
    rows = [row for rows in every for row in rows if row.kind != "base"]
    for row in [row for row in rows if row.target in project.targets]:
        found.setdefault(row.target, row)
    if rows and not found:
        root = project.root_name or "the root"
        raise ProjectError(
            f"the backend choices are those of the workspace's root ({root}), not of {project.origin}",
            f"`--package {root}` changes them there",
        )
    return tuple(found.values())


def offer(file: PyProject, project: Project, offers: Sequence[Decision], kind: ChoiceKind, base: str) -> None:
    """Make the project offer the backends of these decisions and no other, as `extra`s or `group`s (`kind`).

    Choices that it has for one of them stay as they are, under their names. As extras the requirements move out of the
    project's dependencies; as groups they stay there too, since a group is not published. Raises ProjectError where a
    choice that is dropped is still referred to, or a name is taken by something else.
    """
    have = stated(project)
    texts = [(item.package, without_local(item.text)) for item in model_requirements(project)]
    if "torch" not in dict(texts):  # a source reaches direct requirements only
        texts = [("torch", "torch"), *texts]
    given_up = set() if have else _leave_base(file, project, offers, kind)
    sources: dict[str, list[Source]] = {name: [] for name in (*torch_first(dict(texts)), *sorted(given_up))}
    fresh: list[Target] = []
    for one in offers:
        if one.backend and one.backend not in {choice.backend for choice in have}:
            fresh.append(Target(kind, one.backend.index_name.removeprefix("pytorch-")))
            for source in _fill(file, project, one, fresh[-1], texts, base):
                sources.setdefault(source.package, []).append(source)
    file.exclude_from_defaults(fresh)
    wanted = {one.backend for one in offers}
    targets = [*(choice.target for choice in have if choice.backend in wanted), *fresh]
    _replace(file, project, [choice for choice in have if choice.backend not in wanted], sources, targets)
    pin.sweep(file, project)


def _fill(
    file: PyProject,
    project: Project,
    decision: Decision,
    target: Target,
    texts: Sequence[tuple[str, str]],
    base: str,
) -> list[Source]:
    """Write the requirements of a new choice and its index; the source that each of its packages needs."""
    if target in project.targets:
        raise ProjectError(
            f"the project has {'an extra' if target.kind == 'extra' else 'a group'} `{target.name}` of its own",
            f"rename it, or use --as {'groups' if target.kind == 'extra' else 'extras'}",
        )
    backend, bounds = decision.backend, dict(decision.bounds)
    assert backend is not None
    for _, text in (*texts, *pin.companion_texts(decision).items()):
        file.add_requirement(target, within(text, bounds))
    selector: dict[str, Any] = {target.kind: target.name}
    index, where = pin.index_in(file, project, backend, base), marker(decision.platforms)
    names = pin.built((*dict(texts), *decision.companions), backend, decision.torch)
    return [Source(name, index, marker=where, **selector) for name in names]


def withdraw(file: PyProject, project: Project, base: str) -> None:
    """Make a project of several choices one without any: its requirements move to the project's dependencies.

    The indexes below `base` stay, for the pin that follows; `pin.sweep` takes out what that leaves unused.
    """
    for item in model_requirements(project):
        if item.package not in project.packages_in(BASE):
            file.add_requirement(BASE, without_local(item.text))
    _replace(file, project, stated(project), {}, [])
    named = [(one.index, one.url, one.backend) for one in project.sources]
    pin.sweep(file, project, {name for name, url, it in named if it and not same_url(url, it.index_url(base))})


def _replace(
    file: PyProject,
    project: Project,
    dropped: Sequence[Choice],
    sources: dict[str, list[Source]],
    targets: Sequence[Target],
) -> None:
    """Take choices out and put the sources of others in: `targets` are the choices that there are from then on."""
    gone = {choice.target for choice in dropped}
    for choice in dropped:
        _drop(file, project, choice)
    for package in dict.fromkeys((*sources, *(one.package for one in project.own_sources if one.target in gone))):
        file.set_sources(package, sources.get(package, ()), at=gone | {BASE} if sources else gone)
    set_conflicts(file, project, targets, gone)


def set_conflicts(
    file: PyProject, project: Project, targets: Iterable[Target], gone: AbstractSet[Target] = frozenset()
) -> None:
    """The project's conflict sets without what is gone, and one that holds all the choices."""
    left = ([item for item in items if item.target not in gone] for items in project.own_conflicts)
    sets = [items for items in left if len(items) > 1 and not {item.target for item in items} <= {*targets}]
    choices = [Item(target.kind, target.name or "") for target in targets if target.kind != "base"]
    file.set_conflicts([*sets, *([choices] if len(choices) > 1 else [])])


def _drop(file: PyProject, project: Project, choice: Choice) -> None:
    """Take a choice's PyTorch packages out of it, and the extra or group with them if it holds nothing else."""
    if choice.aliases:
        raise ProjectError(
            f"the {choice.kind} `{choice.name}` cannot go: {', '.join(choice.aliases)} refers to it",
            f"take the reference out of {project.origin} first",
        )
    held = project.packages_in(choice.target)
    if all(map(project.is_pytorch, held)):
        file.remove_target(choice.target)
        file.exclude_from_defaults([choice.target])
    for name in filter(project.is_pytorch, held):
        file.remove_requirement(choice.target, name)


def _leave_base(file: PyProject, project: Project, offers: Sequence[Decision], kind: ChoiceKind) -> set[str]:
    """What a project without choices gives up: requirements that become extras, a single pin's group; what it had."""
    shared = dict(set.intersection(*(set(one.bounds) for one in offers)))
    texts: dict[str, list[str]] = {}
    for item in model_requirements(project):
        texts.setdefault(item.package, []).append(within(item.text, shared))
    for package, found in texts.items():
        file.set_requirement(BASE, package, *(found if kind == "group" else ()))
    grouped = project.packages_in(GROUP)
    if not grouped <= roles().keys():
        return set()
    file.leave_group(grouped)
    return grouped - {"torch"}


class Place(NamedTuple):
    """What a choice requires of a package, and the release of torch that it has, as far as that is known."""

    text: str
    torch: str | None = None


def place(
    file: PyProject, project: Project, package: str, places: Mapping[Choice, Place], base: str | None = None
) -> None:
    """Put a package where choices have theirs, and take it from the same indexes, where these have a build for it.

    `base`: its text in the project's dependencies, where those have PyTorch packages. Not through `uv add --optional`:
    uv refuses a source whose extra lacks the package, and without the sources it cannot solve (uv 0.13.9).
    Raises ProjectError where a choice takes its packages from no index, so that this one would be PyPI's.
    """
    rows = {choice.target: (choice.packages[0], one.text) for choice, one in places.items()}
    if base and any(map(project.is_pinned, project.packages_in(BASE))):
        rows[BASE] = ("torch", base)
    have = {source.target for source in project.own_sources if source.package == package}
    have |= {choice.target for choice, one in places.items() if not has_build(package, choice.backend, one.torch)}
    added: list[Source] = []
    for target, (model, text) in rows.items():
        _require(file, project, package, without_local(text.strip()), target)
        if target not in have:
            added += _sources_like(project, package, target, model)
    if added:
        file.set_sources(package, added, at=())


def _require(file: PyProject, project: Project, package: str, text: str, target: Target) -> None:
    present = [one for one in project.requirements if one.package == package and one.target == target]
    if text != bare_requirement(text):
        file.set_requirement(target, package, text)
    elif "[" in text and present:
        file.set_requirement(target, package, with_extras(present[0].text, text))
    else:
        file.add_requirement(target, text)


def _sources_like(project: Project, package: str, target: Target, model: str) -> list[Source]:
    """The sources that `model` has there. Raises ProjectError where one of them is no index."""
    theirs = [source for source in project.sources if source.package == model and source.target == target]
    if any(not source.index for source in theirs):
        raise ProjectError(
            f"{target} takes {model} from no index, so there is none to take {package} from",
            f"give {package} a source there, or name one choice that has an index: --optional NAME",
        )
    return theirs


def take_away(file: PyProject, names: Sequence[str], places: Sequence[Target]) -> None:
    """Remove packages from these extras, groups or the base, with the sources that served them there."""
    for name in names:
        for target in places:
            file.remove_requirement(target, name)
        file.set_sources(name, (), at=places)

"""Backend choices: extras or dependency groups that hold PyTorch's packages, each from one backend's index.

uv locks all of them apart (`conflicts`), and every machine installs one.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from uvtorch.backend import Backend, marker
from uvtorch.choose import Decision
from uvtorch.edits import pin
from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS, normalize, roles
from uvtorch.project import Choice, Item, Project, Requirement, Source, Target
from uvtorch.project.markers import MAIN_PLATFORMS
from uvtorch.project.pyproject import PyProject, SourceEntry
from uvtorch.requirement import bare_requirement, with_extras, without_local

BASE = Target("base")
ChoiceKind = Literal["extra", "group"]


class Offer(NamedTuple):
    """One backend that the project shall offer, and what choosing it by name comes to."""

    backend: Backend
    decision: Decision

    @property
    def name(self) -> str:
        """What its extra or group is called: `cu126`, `nightly-cu130`."""
        return self.backend.index_name.removeprefix("pytorch-")


def stated(project: Project) -> tuple[Choice, ...]:
    """The extras and groups that choose a backend now."""
    return tuple(choice for choice in project.selectable() if choice.backend)


def model_requirements(project: Project) -> tuple[Requirement, ...]:
    """The PyTorch requirements that every choice holds: those of the first choice, else the project's dependencies."""
    have = stated(project)
    place = have[0].target if have else BASE
    return tuple(
        item
        for item in project.requirements
        if item.target == place and item.via is None and project.is_pinned(item.package)
    )


def editable(project: Project) -> tuple[Choice, ...]:
    """The choices that the project's own file has: those that sources state, and the alternatives without a source.

    Raises ProjectError where choices are the workspace root's alone.
    """
    found: dict[Target, Choice] = {}
    rows = list(project.choices())
    for platform in MAIN_PLATFORMS:
        rows += project.choices_for(platform)
    for row in rows:
        if row.kind != "base" and project.declared(row.kind, row.name or ""):
            found.setdefault(row.target, row)
    if not found and any(row.kind != "base" for row in rows):
        root = project.root_name or "the root"
        raise ProjectError(
            f"the backend choices are those of the workspace's root ({root}), not of {project.origin}",
            f"`--package {root}` changes them there",
        )
    return tuple(found.values())


def offer(file: PyProject, project: Project, offers: Sequence[Offer], kind: ChoiceKind, base: str) -> None:
    """Make the project offer these backends and no other, as `extra`s or `group`s (`kind`).

    Choices that it has for one of them stay as they are, under their names. As extras the requirements move out of the
    project's dependencies; as groups they stay there too, since a group is not published. Raises ProjectError where a
    choice that is dropped is still referred to, or a name is taken by something else.
    """
    have = stated(project)
    wanted = {one.backend for one in offers}
    kept = [choice for choice in have if choice.backend in wanted]
    dropped = [choice for choice in have if choice.backend not in wanted]
    new = [one for one in offers if one.backend not in {choice.backend for choice in kept}]
    _check(project, dropped, new, kind)
    model = model_requirements(project)
    for choice in dropped:
        drop(file, project, choice)
    for one in new:
        _fill(file, one, model, kind)
    if not have:
        _leave_base(file, project, model, kind)
    indexes = {one.backend: pin.index_for(project, one.backend, base) for one in new}
    names = dict.fromkeys(("torch", *(item.package for item in model)))
    _set_sources(file, project, tuple(names), dropped, new, indexes, kind)
    _set_indexes(file, project, indexes.values(), _unused(project, dropped, bool(have)))
    if kind == "group" and new:
        _keep_out_of_defaults(file, project, dropped)
    targets = [choice.target for choice in kept] + [Target(kind, one.name) for one in new]
    _set_conflicts(file, project, targets, [choice.target for choice in dropped])


def _set_indexes(file: PyProject, project: Project, wanted: Iterable[pin.NamedIndex], unused: Sequence[str]) -> None:
    names = {index.name for index in wanted}
    for index in wanted:
        if not any(known.inherited and known.name == index.name for known in project.indexes):
            file.set_index(index.name, index.url)
    for name in unused:
        if name not in names:
            file.remove_index(name)


def _keep_out_of_defaults(file: PyProject, project: Project, dropped: Sequence[Choice]) -> None:
    """Spell out `default-groups = "all"`: it would make every choice a default one, and uv refuses two of them."""
    if _states_defaults(project) and set(project.default_groups) == set(project.groups):
        gone = {choice.name for choice in dropped if choice.kind == "group"}
        file.set_default_groups([name for name in project.default_groups if name not in gone])


def withdraw(file: PyProject, project: Project) -> None:
    """Make a project of several choices one without any: its requirements move to the project's dependencies."""
    have = stated(project)
    _check(project, have, (), "extra")
    in_base = {item.package for item in project.requirements if item.target == BASE}
    for item in model_requirements(project):
        if item.package not in in_base:
            file.add_requirement(BASE, without_local(item.text))
    for choice in have:
        drop(file, project, choice)
    gone = {choice.target for choice in have}
    for package in dict.fromkeys(one.package for one in project.sources if one.target in gone and not one.inherited):
        stays = [_entry(one) for one in project.sources if one.package == package and one.target not in gone]
        if stays:
            file.set_sources(package, stays)
        else:
            file.remove_sources(package)
    for name in _unused(project, have, had_choices=True):
        file.remove_index(name)
    _set_conflicts(file, project, [], [choice.target for choice in have])


def _check(project: Project, dropped: Sequence[Choice], new: Sequence[Offer], kind: ChoiceKind) -> None:
    for choice in dropped:
        if choice.aliases:
            raise ProjectError(
                f"the {choice.kind} `{choice.name}` cannot go: {', '.join(choice.aliases)} refers to it",
                f"take the reference out of {project.origin} first",
            )
    taken = {normalize(name) for name in (project.extras if kind == "extra" else project.groups)}
    for one in new:
        if normalize(one.name) in taken:
            raise ProjectError(
                f"the project has {'an extra' if kind == 'extra' else 'a group'} `{one.name}` of its own",
                f"rename it, or use --as {'groups' if kind == 'extra' else 'extras'}",
            )


def _fill(file: PyProject, one: Offer, model: Sequence[Requirement], kind: ChoiceKind) -> None:
    place = Target(kind, one.name)
    if not any(item.package == "torch" for item in model):
        file.add_requirement(place, "torch")  # a source reaches direct requirements only
    for item in model:
        file.add_requirement(place, without_local(item.text))
    where = marker(one.decision.platforms)
    for name in one.decision.companions:
        file.add_requirement(place, f"{name} ; {where}" if where else name)


def drop(file: PyProject, project: Project, choice: Choice) -> None:
    """Take a choice's PyTorch packages out of it, and the extra or group with them if it holds nothing else."""
    held = {item.package for item in project.requirements if item.target == choice.target}
    ours = {name for name in held if project.is_pytorch(name)}
    if held != ours:
        for name in sorted(ours):
            file.remove_requirement(choice.target, name)
        return
    file.remove_target(choice.target)
    if choice.kind == "group" and choice.name in project.default_groups and _states_defaults(project):
        file.set_default_groups([name for name in project.default_groups if name != choice.name])


def _states_defaults(project: Project) -> bool:
    return project.default_groups != tuple(name for name in project.groups if normalize(name) == "dev")


def _leave_base(file: PyProject, project: Project, model: Sequence[Requirement], kind: ChoiceKind) -> None:
    """What a project without choices gives up: requirements (for extras), a single pin's group."""
    if kind == "extra":
        for name in dict.fromkeys(item.package for item in model):
            file.remove_requirement(BASE, name)
    grouped = [item.package for item in project.requirements if item.target.name == ANCHORS]
    if grouped and all(name in roles() for name in grouped):
        file.remove_target(pin.GROUP)
        for name in grouped:
            if name != "torch" and any(source.package == name for source in project.sources):
                file.remove_sources(name)


def _entry(source: Source) -> SourceEntry:
    return SourceEntry(source.index or "", source.marker, source.extra, source.group)


def _set_sources(
    file: PyProject,
    project: Project,
    names: Sequence[str],
    dropped: Sequence[Choice],
    new: Sequence[Offer],
    indexes: dict[Backend, pin.NamedIndex],
    kind: ChoiceKind,
) -> None:
    """Each package's sources: those of the choices that stay, then one for each new choice."""
    gone = {choice.target for choice in dropped}
    own = [source for source in project.sources if not source.inherited and source.index]
    companions = [name for one in new for name in one.decision.companions]
    packages = dict.fromkeys([*names, *companions, *(source.package for source in own if source.target in gone)])
    for package in packages:
        stays = [
            _entry(source)
            for source in own
            if source.package == package and source.target != BASE and source.target not in gone
        ]
        for one in new:
            if package in names or package in one.decision.companions:
                entry = SourceEntry(indexes[one.backend].name, marker(one.decision.platforms))
                stays.append(entry._replace(**{kind: one.name}))
        if stays:
            file.set_sources(package, stays)
        else:
            file.remove_sources(package)


def _unused(project: Project, dropped: Sequence[Choice], had_choices: bool) -> list[str]:
    """Indexes of backends that no source names any more."""
    gone = {choice.target for choice in dropped}

    def leaves(source: Source) -> bool:
        if had_choices:
            return source.target in gone
        return project.is_pytorch(source.package)

    left = {source.index for source in project.sources if source.index and (source.target in gone or leaves(source))}
    stays = {source.index for source in project.sources if source.target not in gone and not leaves(source)}
    return [
        index.name
        for index in project.indexes
        if index.name and index.name in left - stays and index.explicit and index.backend and not index.inherited
    ]


def _set_conflicts(file: PyProject, project: Project, targets: Sequence[Target], dropped: Sequence[Target]) -> None:
    """The project's conflict sets, with one that holds all these choices."""
    choices = {(target.kind, target.name) for target in targets}
    gone = {(target.kind, normalize(target.name or "")) for target in dropped}
    sets: list[tuple[Item, ...]] = []
    for items in project.conflicts:
        members = tuple(item for item in items if (item.kind, normalize(item.name)) not in gone)
        if len(members) > 1 and not {(item.kind, item.name) for item in members} <= choices:
            sets.append(members)
    if len(targets) > 1:
        sets.append(tuple(Item(target.kind, target.name or "") for target in targets if target.kind != "base"))
    file.set_conflicts(sets)


def place(file: PyProject, project: Project, package: str, text: str, chosen: Sequence[Choice], *, base: bool) -> None:
    """Put a package where the chosen ones have theirs, and take it from the same indexes.

    `base`: into the project's dependencies too, where those have PyTorch packages. Not through `uv add --optional`: uv
    refuses a source whose extra lacks the package, and without the sources it cannot solve (uv 0.13.9).
    Raises ProjectError where a choice takes its packages from no index, so that this one would be PyPI's.
    """
    text = without_local(text.strip())
    places = {choice.target: choice.packages[0] for choice in chosen}
    if base and any(project.is_pinned(item.package) for item in project.requirements if item.target == BASE):
        places[BASE] = "torch"
    for target in places:
        _require(file, project, package, text, target)
    entries = [source for source in project.sources if source.package == package and not source.inherited]
    have = {source.target for source in entries}
    added = [
        source
        for target, model in places.items()
        if target not in have
        for source in _sources_like(project, package, target, model)
    ]
    if added:
        file.set_sources(package, [_entry(one) for one in (*entries, *added)])


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


def take_away(file: PyProject, project: Project, names: Sequence[str], places: Sequence[Target]) -> None:
    """Remove packages from these extras, groups or the base, with the sources that served them there."""
    present = {(item.package, item.target) for item in project.requirements if item.via is None and not item.inherited}
    for name in names:
        for target in places:
            if (name, target) in present:
                file.remove_requirement(target, name)
        kept = [
            _entry(source)
            for source in project.sources
            if source.package == name and not source.inherited and source.target not in places
        ]
        if kept:
            file.set_sources(name, kept)
        else:
            file.remove_sources(name)

"""From a project and a set of backends to the edits that make it offer exactly these. Pure.

A choice is an extra or a dependency group that holds PyTorch's packages and takes them from one backend's index; uv
locks all of them apart (`conflicts`), and every machine installs one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from uvtorch import edit, pinning
from uvtorch.backend import Backend, marker
from uvtorch.choose import Decision
from uvtorch.errors import ProjectError
from uvtorch.packages import ANCHORS, normalize, roles
from uvtorch.project import Choice, Project, Requirement, Target


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


def texts(project: Project) -> tuple[str, ...]:
    """The PyTorch requirements that every choice holds: those of the first choice, else the project's dependencies."""
    return tuple(item.text for item in _model(project, stated(project)))


def operations(project: Project, offers: Sequence[Offer], kind: str, base: str) -> list[edit.Operation]:
    """The edits after which the project offers these backends and no other, as `extra`s or `group`s (`kind`).

    Choices that it has for one of them stay as they are, under their names. As extras the requirements move out of the
    project's dependencies; as groups they stay there too, since a group is not published. Raises ProjectError where a
    choice that is dropped is still referred to, or a name is taken by something else.
    """
    have = stated(project)
    wanted = {offer.backend for offer in offers}
    kept = [choice for choice in have if choice.backend in wanted]
    dropped = [choice for choice in have if choice.backend not in wanted]
    new = [offer for offer in offers if offer.backend not in {choice.backend for choice in kept}]
    model = _model(project, have)
    names = tuple(dict.fromkeys(item.package for item in model))
    if "torch" not in names:
        names = ("torch", *names)
    _check(project, dropped, new, kind)
    indexes = {offer.backend: pinning.index_for(project, offer.backend, base) for offer in new}
    edits: list[edit.Operation] = []
    for choice in dropped:
        edits += _drop(project, choice)
    for offer in new:
        edits += _fill(offer, model, kind)
    if not have:
        edits += _leave_base(project, model, kind)
    edits += _sources(project, names, dropped, new, indexes, kind)
    for offer in new:
        inherited = any(one.inherited and one.name == indexes[offer.backend].name for one in project.indexes)
        if not inherited:
            edits.append(edit.SetIndex(*indexes[offer.backend]))
    edits += _unused(project, dropped, {index.name for index in indexes.values()}, bool(have))
    if kind == "group" and new and _states_defaults(project) and set(project.default_groups) == set(project.groups):
        # "all" would make every choice a default one, and uv refuses two of them.
        gone = {choice.name for choice in dropped if choice.kind == "group"}
        edits.append(edit.SetDefaultGroups(tuple(name for name in project.default_groups if name not in gone)))
    targets = [choice.target for choice in kept] + [Target(kind, offer.name) for offer in new]
    edits.append(_conflicts(project, targets, [choice.target for choice in dropped]))
    return edits


def _model(project: Project, have: Sequence[Choice]) -> list[Requirement]:
    """The PyTorch requirements of the first choice; without choices those of the project's dependencies."""
    place = have[0].target if have else Target("base")
    return [
        item
        for item in project.requirements
        if item.target == place and item.via is None and project.is_pinned(item.package)
    ]


def _check(project: Project, dropped: Sequence[Choice], new: Sequence[Offer], kind: str) -> None:
    for choice in dropped:
        if choice.aliases:
            raise ProjectError(
                f"the {choice.kind} `{choice.name}` cannot go: {', '.join(choice.aliases)} refers to it",
                f"take the reference out of {project.origin} first",
            )
    taken = project.extras if kind == "extra" else project.groups
    for offer in new:
        if normalize(offer.name) in {normalize(name) for name in taken}:
            raise ProjectError(
                f"the project has {'an extra' if kind == 'extra' else 'a group'} `{offer.name}` of its own",
                f"rename it, or use --as {'groups' if kind == 'extra' else 'extras'}",
            )


def _fill(offer: Offer, model: Sequence[Requirement], kind: str) -> list[edit.Operation]:
    place = edit.Target(kind, offer.name)
    edits: list[edit.Operation] = []
    if not any(item.package == "torch" for item in model):
        edits.append(edit.AddRequirement(place, "torch"))  # a source reaches direct requirements only
    edits += [edit.AddRequirement(place, pinning.unlocalized(item.text)) for item in model]
    where = marker(offer.decision.platforms)
    edits += [edit.AddRequirement(place, f"{name} ; {where}" if where else name) for name in offer.decision.companions]
    return edits


def _drop(project: Project, choice: Choice) -> list[edit.Operation]:
    """Take a choice's PyTorch packages out of it, and the extra or group with them if it holds nothing else."""
    place = edit.Target(choice.kind, choice.name or "")
    held = {item.package for item in project.requirements if item.target == choice.target}
    ours = {name for name in held if project.is_pytorch(name)}
    edits: list[edit.Operation] = (
        [edit.RemoveTarget(place)] if held == ours else [edit.RemoveRequirement(place, name) for name in sorted(ours)]
    )
    if held == ours and choice.kind == "group" and choice.name in project.default_groups and _states_defaults(project):
        left = tuple(name for name in project.default_groups if name != choice.name)
        edits.append(edit.SetDefaultGroups(left))
    return edits


def _states_defaults(project: Project) -> bool:
    return project.default_groups != tuple(name for name in project.groups if normalize(name) == "dev")


def _leave_base(project: Project, model: Sequence[Requirement], kind: str) -> list[edit.Operation]:
    """What a project without choices gives up: requirements (for extras), a single pin's anchors."""
    edits: list[edit.Operation] = []
    if kind == "extra":
        edits += [edit.RemoveRequirement(edit.Target("base"), name) for name in {item.package: None for item in model}]
    anchored = [item.package for item in project.requirements if item.target.name == ANCHORS]
    if anchored and all(name in roles() for name in anchored):
        edits.append(edit.RemoveTarget(edit.Target("group", ANCHORS)))
        edits += [
            edit.RemoveSources(name)
            for name in anchored
            if name != "torch" and any(source.package == name for source in project.sources)
        ]
    return edits


def _sources(
    project: Project,
    names: Sequence[str],
    dropped: Sequence[Choice],
    new: Sequence[Offer],
    indexes: dict[Backend, pinning.Indexed],
    kind: str,
) -> list[edit.Operation]:
    """Each package's sources: those of the choices that stay, then one for each new choice."""
    gone = {choice.target for choice in dropped}
    own = [source for source in project.sources if not source.inherited and source.kind == "index"]
    companions = {name: offer for offer in new for name in offer.decision.companions}
    packages = dict.fromkeys([*names, *companions, *(source.package for source in own if source.target in gone)])
    edits: list[edit.Operation] = []
    for package in packages:
        stays = [
            edit.Source(source.index or "", source.marker, source.extra, source.group)
            for source in own
            if source.package == package and source.target.kind != "base" and source.target not in gone
        ]
        for offer in new:
            if package in names or package in offer.decision.companions:
                where = marker(offer.decision.platforms)
                selector = {kind: offer.name}
                stays.append(edit.Source(indexes[offer.backend].name, where, **selector))
        edits.append(edit.SetSources(package, tuple(stays)) if stays else edit.RemoveSources(package))
    return edits


def _unused(project: Project, dropped: Sequence[Choice], kept: set[str], had_choices: bool) -> list[edit.Operation]:
    """Indexes of backends that no source names any more."""
    gone = {choice.target for choice in dropped}
    leaves = {
        source.index
        for source in project.sources
        if source.index and (source.target in gone or (not had_choices and project.is_pytorch(source.package)))
    }
    stays = {
        source.index
        for source in project.sources
        if source.target not in gone and (had_choices or not project.is_pytorch(source.package))
    }
    return [
        edit.RemoveIndex(index.name)
        for index in project.indexes
        if index.name in leaves - stays - kept and index.explicit and index.backend and not index.inherited
    ]


def _conflicts(project: Project, targets: Sequence[Target], dropped: Sequence[Target]) -> edit.SetConflicts:
    """The project's conflict sets, with one that holds all these choices."""
    choices = set(targets)
    others: list[tuple[edit.Target, ...]] = []
    for items in project.conflicts:
        members = tuple(
            edit.Target(item.kind, item.name, item.package)
            for item in items
            if not any(
                item.kind == gone.kind and normalize(item.name) == normalize(gone.name or "") for gone in dropped
            )
        )
        ours = {Target(item.kind, item.name) for item in members}
        if len(members) > 1 and not ours <= choices:
            others.append(members)
    mine = tuple(edit.Target(target.kind, target.name or "") for target in targets)
    return edit.SetConflicts((*others, mine) if len(mine) > 1 else tuple(others))

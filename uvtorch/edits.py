"""What is written into a project's file: pins to one backend, or extras and groups with a backend each.

The `Project` that an edit is given is what the file said before.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple

from uvtorch.backend import Backend, marker, same_url
from uvtorch.choose import Decision
from uvtorch.errors import ProjectError
from uvtorch.packages import extension_names, has_build, normalize, roles
from uvtorch.project import Choice, Index, Project, Source, Target
from uvtorch.project.choices import reached, torch_first
from uvtorch.project.model import BASE, GROUP, Item, Requirement
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import MAIN_PLATFORMS, bare_requirement, named_by, with_extras, within, without_local

ChoiceKind = Literal["extra", "group"]
_NONE: Set[str] = frozenset()


# One backend


def pin(
    file: PyProject,
    project: Project,
    packages: Sequence[str],
    decision: Decision,
    base: str,
    *,
    transitive: Sequence[str] = (),
    staying: Sequence[str] | None = None,
) -> None:
    """Take `packages` (normalized; those that the command is about to add included) from the decision's backend.

    So are all PyTorch packages that the project names, those that only others require (`transitive`), and those in the
    group already, as two builds in one environment do not work. What an earlier pin needs no more goes. `staying`:
    requirements that stay as they are (None: the project's); one with a local version and no marker is met by the
    backend's index alone, so its source holds everywhere. Raises ProjectError where the project takes a package from a
    repository, a path or a wheel.
    """
    backend = decision.backend
    assert backend is not None  # a refusal has no pins
    if staying is None:
        staying = [item.text for item in project.pytorch_requirements()]
    everywhere = {named_by(text) for text in staying if "+" in text and ";" not in text}
    direct = _built((*packages, *project.pytorch_direct), backend, decision.torch)
    others = _built(("torch", *in_group(project), *transitive), backend, decision.torch)
    bounds = dict(decision.bounds)
    group = {name: name + bounds.get(name, "") for name in others if name not in direct} | companion_texts(decision)
    pinned = direct | group
    _check_foreign(project, pinned.keys())
    _move_extensions(file, project, backend)
    index, where = _index_in(file, project, backend, base), marker(decision.platforms)
    for package in pinned:
        file.set_sources(package, [Source(package, index, marker=None if package in everywhere else where)])
    _remove_stale(file, project, pinned.keys(), decision)
    _set_group(file, project, group)
    sweep(file, project)


def _check_foreign(project: Project, pinned: Set[str]) -> None:
    for source in project.own_sources:
        if source.kind != "index" and source.package in pinned and project.is_pinned(source.package):
            raise ProjectError(
                f"{project.origin} takes {source.package} from {source.url or source.kind}, which a pin would replace",
                "remove that source first, if that is what you want",
            )


def _set_group(file: PyProject, project: Project, texts: Mapping[str, str]) -> None:
    # An exact release in the group is that of other packages' builds: it stays.
    fixed = {item.package for item in project.grouped if "==" in item.text.partition(";")[0]}
    file.leave_group((project.packages_in(GROUP) & roles().keys()) - texts.keys() - fixed)
    for name in [name for name in texts if name not in fixed]:
        file.set_requirement(GROUP, name, texts[name])


def _index_in(file: PyProject, project: Project, backend: Backend, base: str) -> str:
    name, url = backend.index_name, backend.index_url(base)
    known = next((one for one in project.indexes if one.name and same_url(one.url, url)), Index(name, url))
    if not (known.inherited and known.explicit):
        file.set_index(known.label, known.url)
    return known.label


def companion_texts(decision: Decision) -> dict[str, str]:
    """The requirements of a build's Triton: a source reaches direct requirements only."""
    where = marker(decision.platforms)
    return {name: f"{name} ; {where}" if where else name for name in decision.companions}


def _built(packages: Iterable[str], backend: Backend | None, torch: str | None) -> dict[str, None]:
    """Those that a backend's index has; others come from the default index, whatever the backend."""
    return dict.fromkeys(name for name in packages if has_build(name, backend, torch))


def _remove_stale(file: PyProject, project: Project, pinned: Set[str], decision: Decision) -> None:
    """Take out the sources of another backend's Triton that the user does not require, and of what this one lacks."""
    left = pinned | {item.package for item in project.requirements if item.target != GROUP}
    for name in {source.package for source in project.own_sources if source.backend}:
        companion = roles().get(name) == "companion" and name not in left
        if companion or not has_build(name, decision.backend, decision.torch):
            file.remove_sources(name)


def _move_extensions(file: PyProject, project: Project, backend: Backend) -> None:
    """Take what is compiled against torch from its index for the new backend. Whether that has a build, uv will say."""
    pins = (one.backend for one in project.sources if project.is_pinned(one.package) and one.index)
    for old in {one.name for one in pins if one} - {backend.name}:
        for package in sorted(extension_names()):
            _move_extension(file, project, package, old, backend.name)


def _move_extension(file: PyProject, project: Project, package: str, old: str, new: str) -> None:
    have = [one for one in project.own_sources if one.package == package]
    for source in have:
        if source.index and source.index.endswith(f"-{old}"):
            name, url = source.index.replace(old, new), (source.url or "").replace(old, new)
            file.set_sources(package, [Source(package, name, marker=one.marker) for one in have])
            file.set_index(name, url, flat=url.endswith(".html"))
            file.remove_index(source.index)
    for item in project.grouped:
        if item.package == package and item.text.endswith(old):
            file.set_requirement(GROUP, package, item.text.replace(old, new))


def pin_like(
    file: PyProject,
    project: Project,
    packages: Iterable[str],
    pins: Sequence[Source],
    transitive: Sequence[str] = (),
    torch: str | None = None,
) -> None:
    """Take `packages`, and those that only others require (`transitive`), from where `pins` take theirs.

    These are the project's or a workspace sibling's. `torch`: its release, if known.
    """
    direct, others = (_built(names, pins[0].backend, torch) for names in (packages, transitive))
    if "torch" not in {*direct, *others, *project.pytorch_direct, *in_group(project)}:
        others = {"torch": None} | others
    model = min(pins, key=lambda pin: pin.package != "torch").package
    have = {source.package for source in project.sources}
    for name in filter(lambda name: name not in have, direct | others):
        file.set_sources(name, [pin for pin in pins if pin.package == model])
    known = {index.name for index in project.indexes}
    for pin in pins:
        if pin.index and pin.url and pin.index not in known:
            file.set_index(pin.index, pin.url)
    for name in others:
        file.add_requirement(GROUP, name)
    # Two requirements would have to be kept in step. One that bounds the release stays: the machine needs that.
    file.leave_group({item.package for item in project.grouped if normalize(item.text) in direct})


def bound(file: PyProject, limits: Iterable[tuple[str, str]]) -> None:
    """Keep packages within (package, specifier) limits, beside the user's requirements."""
    for name, limit in limits:
        file.set_requirement(GROUP, name, name + limit)


def unpin(
    file: PyProject,
    project: Project,
    users: Mapping[str, Sequence[str]],
    gone: Set[str] = _NONE,
    target: Target | None = None,
) -> None:
    """The edits beside `uv remove` of `gone` from `target` (None: the base), and after any command.

    `users`: for each PyTorch package of the lock, the other packages that stay and require it. What they need the group
    names from then on. What nothing requires leaves the group, with its sources; where that is true of every PyTorch
    package, all that uvtorch wrote goes.
    """
    own = [item for item in project.requirements if item.target != GROUP and project.is_pinned(item.package)]
    stay = {item.package for item in own if item.package not in gone or item.target != (target or BASE)}
    grouped = set(in_group(project)) - stay
    left = grouped | ({item.package for item in own} - stay)
    needed = _needed(left, users)
    if not (stay or needed) and (left or gone):
        unpin_all(file, project, gone)
        return
    needed |= gone & {"torch"} - stay  # its sisters need it, whatever the lock says
    for name in sorted((needed - grouped).intersection(source.package for source in project.own_sources)):
        file.add_requirement(GROUP, name)
    _forget(file, grouped - needed)


def _needed(names: Set[str], users: Mapping[str, Sequence[str]]) -> set[str]:
    """Those of the names that something else requires, be it through one another."""
    uses = [(user, name) for name in names for user in users.get(name, ())]
    return reached({user for user, _ in uses} - names, uses) & names


def unpin_all(file: PyProject, project: Project, gone: Set[str] = _NONE) -> None:
    """Take out all that uvtorch wrote, as no PyTorch package is left once uv has removed `gone` and their sources.

    An index that the user named stays, as after `uv remove`.
    """
    _forget(file, project.packages_in(GROUP) & {*roles(), *in_group(project)}, gone)
    sweep(file, project, {one.index_name for index in project.indexes if (one := index.backend)}, gone)


def _forget(file: PyProject, grouped: Set[str], gone: Set[str] = _NONE) -> None:
    """Take packages out of the group, with their sources but for those that uv takes out."""
    file.leave_group(grouped)
    for name in sorted(grouped - gone):
        file.remove_sources(name)


def move(file: PyProject, project: Project, base: str) -> tuple[str, ...]:
    """Take the PyTorch indexes of the project's sources from another base; their new URLs."""
    named = {source.index for source in project.sources if project.is_pytorch(source.package)}
    found = {name: index for name, index in project.own_indexes.items() if name in named}
    urls = {name: index.backend.index_url(base) for name, index in found.items() if index.backend}
    file.move_indexes(urls, base)
    return tuple(urls.values())


def take_out(file: PyProject, project: Project) -> None:
    """Take every pin out: sources from PyTorch's indexes, those indexes, and what uvtorch put into its group.

    A source that is no backend's index (a house's index, a repository) is the user's own.
    """
    file.leave_group(project.packages_in(GROUP) & roles().keys())
    for name in sorted({one.package for one in project.own_sources if one.backend}):
        if project.is_pytorch(name) or name in extension_names():
            file.remove_sources(name)
    sweep(file, project, {index.name for index in project.indexes})


def sweep(file: PyProject, project: Project, names: Set[str | None] | None = None, gone: Set[str] = _NONE) -> None:
    """Take out the explicit indexes of backends that only sources of `gone` name, of these or (None) of used ones."""
    if names is None:
        names = {source.index for source in project.sources}
    used = file.indexes_used(gone)
    for name, index in project.own_indexes.items():
        if name in names and name not in used and index.backend and index.explicit:
            file.remove_index(name)


def in_group(project: Project) -> tuple[str, ...]:
    """The pinned packages that the group `uvtorch` names."""
    return tuple(item.package for item in project.grouped if project.is_pinned(item.package))


# Several backends: extras or groups with one each. uv locks all of them apart (`conflicts`), a machine installs one.


def stated(project: Project) -> tuple[Choice, ...]:
    """The extras and groups that choose a backend now."""
    return tuple(choice for choice in project.selectable() if choice.backend)


def model_requirements(project: Project) -> tuple[Requirement, ...]:
    """The PyTorch requirements of the first choice, else those of the project's dependencies."""
    place = next((choice.target for choice in stated(project)), BASE)
    held = (item for item in project.requirements if item.target == place and item.via is None)
    return tuple(item for item in held if project.is_pinned(item.package))


def editable(project: Project) -> tuple[Choice, ...]:
    """The choices in the project's own file, also those without a source. ProjectError where only its root has any."""
    every = (*project.choices(), *(row for platform in MAIN_PLATFORMS for row in project.choices_for(platform)))
    rows = [row for row in every if row.kind != "base"]
    found: dict[Target, Choice] = {}
    for row in rows:
        if row.target in project.targets:
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

    Choices that it has for one of them stay as they are. With extras the requirements leave the dependencies; with
    groups, which are not published, they stay. Raises ProjectError where a choice that goes is still referred to, or a
    name is taken.
    """
    have = stated(project)
    # A wheel's URL is that of one build, whatever the source.
    rows = [(item.package, item.text) for item in model_requirements(project)]
    texts = [(name, without_local(text) if named_by(text) else name) for name, text in rows]
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
    sweep(file, project)


def _fill(
    file: PyProject, project: Project, decision: Decision, target: Target, texts: Sequence[tuple[str, str]], base: str
) -> list[Source]:
    if target in project.targets:
        raise ProjectError(
            f"the project has {'an extra' if target.kind == 'extra' else 'a group'} `{target.name}` of its own",
            f"rename it, or use --as {'groups' if target.kind == 'extra' else 'extras'}",
        )
    backend, bounds = decision.backend, dict(decision.bounds)
    assert backend is not None
    for _, text in (*texts, *companion_texts(decision).items()):
        file.add_requirement(target, within(text, bounds))
    selector: dict[str, Any] = {target.kind: target.name}
    index, where = _index_in(file, project, backend, base), marker(decision.platforms)
    names = _built((*dict(texts), *decision.companions), backend, decision.torch)
    return [Source(name, index, marker=where, **selector) for name in names]


def withdraw(file: PyProject, project: Project, base: str) -> None:
    """Move what the choices require to the project's dependencies. The indexes below `base` stay, for a pin."""
    for item in model_requirements(project):
        if item.package not in project.packages_in(BASE):
            file.add_requirement(BASE, without_local(item.text))
    _replace(file, project, stated(project), {}, [])
    found = (one for one in project.sources if one.backend and not same_url(one.url, one.backend.index_url(base)))
    sweep(file, project, {one.index for one in found})


def _replace(
    file: PyProject,
    project: Project,
    dropped: Sequence[Choice],
    sources: dict[str, list[Source]],
    targets: Sequence[Target],
) -> None:
    gone = {choice.target for choice in dropped}
    for choice in dropped:
        _drop(file, project, choice)
    for package in dict.fromkeys((*sources, *(one.package for one in project.own_sources if one.target in gone))):
        file.set_sources(package, sources.get(package, ()), at=gone | {BASE} if sources else gone)
    set_conflicts(file, project, targets, gone)


def set_conflicts(
    file: PyProject, project: Project, targets: Iterable[Target], gone: Set[Target] = frozenset()
) -> None:
    """The conflict sets are those without what is gone, and one of all the choices."""
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
    """Take out what becomes extras and a single pin's group; what that had."""
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
    """What a choice requires of a package, and its release of torch, if that is known."""

    text: str
    torch: str | None = None


def place(
    file: PyProject, project: Project, package: str, places: Mapping[Choice, Place], base: str | None = None
) -> None:
    """Put a package where choices have theirs, and take it from the same indexes, where these have a build for it.

    `base`: its text in the dependencies, where those have PyTorch packages. Raises ProjectError where a choice takes
    its packages from no index, so that this one would be PyPI's.
    """
    # Not by `uv add --optional`: uv refuses a source whose extra lacks the package, and cannot solve without it.
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
    theirs = [source for source in project.sources if source.package == model and source.target == target]
    if any(not source.index for source in theirs):
        raise ProjectError(
            f"{target} takes {model} from no index, so there is none to take {package} from",
            f"give {package} a source there, or name one choice that has an index: --optional NAME",
        )
    return theirs


def take_away(file: PyProject, names: Sequence[str], places: Sequence[Target]) -> None:
    """Remove packages from these places, with the sources that served them there."""
    for name in names:
        for target in places:
            file.remove_requirement(target, name)
        file.set_sources(name, (), at=places)

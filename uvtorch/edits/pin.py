"""Pins: the sources, the explicit index and the group requirements that take PyTorch's packages from one backend."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from uvtorch.backend import Backend, marker, same_url
from uvtorch.choose import Decision
from uvtorch.errors import ProjectError
from uvtorch.packages import extension_names, has_build, normalize, roles
from uvtorch.project import Index, Project, Source, Target
from uvtorch.project.choices import reached
from uvtorch.project.model import BASE, GROUP
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import named_by


def index_in(file: PyProject, project: Project, backend: Backend, base: str) -> str:
    """The name of the index with this backend's builds: the project's own of that URL, else one that is written."""
    name, url = backend.index_name, backend.index_url(base)
    known = next((one for one in project.indexes if one.name and same_url(one.url, url)), Index(name, url))
    if not (known.inherited and known.explicit):
        file.set_index(known.label, known.url)
    return known.label


def to(
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

    Every PyTorch package that the project names is pinned with them: two builds in one environment do not work. So are
    those that only other packages require: `transitive`, and those in the group already. What an earlier pin needs no
    more goes: its index, its Triton.

    `staying` are the requirements that stay as they are written (None: all of the project's): one with a local version
    and no marker can be met by the backend's index alone, so its source holds on every platform.
    Raises ProjectError where the project takes one of them from a repository, a path or a wheel.
    """
    backend = decision.backend
    assert backend is not None  # a refusal has no pins
    if staying is None:
        staying = [item.text for item in project.pytorch_requirements()]
    everywhere = {named_by(text) for text in staying if "+" in text and ";" not in text}
    direct = built((*packages, *project.pytorch_direct), backend, decision.torch)
    others = built(("torch", *in_group(project), *transitive), backend, decision.torch)
    bounds = dict(decision.bounds)
    group = {name: name + bounds.get(name, "") for name in others if name not in direct} | companion_texts(decision)
    pinned = direct | group
    for source in project.own_sources:
        if source.kind != "index" and source.package in pinned and project.is_pinned(source.package):
            raise ProjectError(
                f"{project.origin} takes {source.package} from {source.url or source.kind}, which a pin would replace",
                "remove that source first, if that is what you want",
            )
    _move_extensions(file, project, backend)
    index, where = index_in(file, project, backend, base), marker(decision.platforms)
    for package in pinned:
        file.set_sources(package, [Source(package, index, marker=None if package in everywhere else where)])
    _remove_stale(file, project, pinned.keys(), decision)
    _set_group(file, project, group)
    sweep(file, project)


def companion_texts(decision: Decision) -> dict[str, str]:
    """The requirements of the Tritons that go with a build: a source reaches direct requirements only."""
    where = marker(decision.platforms)
    return {name: f"{name} ; {where}" if where else name for name in decision.companions}


def built(packages: Iterable[str], backend: Backend | None, torch: str | None) -> dict[str, None]:
    """Those that a backend's index has; the others' wheels on the default index go with every backend."""
    return dict.fromkeys(name for name in packages if has_build(name, backend, torch))


def _remove_stale(file: PyProject, project: Project, pinned: AbstractSet[str], decision: Decision) -> None:
    """Take out the sources of an earlier backend's Triton, unless the user requires it, and of what this one lacks."""
    left = pinned | {item.package for item in project.requirements if item.target != GROUP}
    for name in {source.package for source in project.own_sources if source.backend}:
        companion = roles().get(name) == "companion" and name not in left
        if companion or not has_build(name, decision.backend, decision.torch):
            file.remove_sources(name)


def _set_group(file: PyProject, project: Project, texts: Mapping[str, str]) -> None:
    """The group has these requirements of ours. An exact release is that of other packages' builds: it stays."""
    fixed = {item.package for item in project.grouped if "==" in item.text.partition(";")[0]}
    file.leave_group((project.packages_in(GROUP) & roles().keys()) - texts.keys() - fixed)
    for name in [name for name in texts if name not in fixed]:
        file.set_requirement(GROUP, name, texts[name])


def _move_extensions(file: PyProject, project: Project, backend: Backend) -> None:
    """Take what is compiled against torch from its index for the new backend. Whether that has a build, uv will say."""
    pins = (one.backend for one in project.sources if project.is_pinned(one.package) and one.index)
    for old in {one.name for one in pins if one} - {backend.name}:
        have = [one for one in project.own_sources if one.package in extension_names()]
        for source in have:
            if source.index and source.index.endswith(f"-{old}"):
                name, url = source.index.replace(old, backend.name), (source.url or "").replace(old, backend.name)
                theirs = [one._replace(index=name) for one in have if one.package == source.package]
                file.set_sources(source.package, theirs)
                file.set_index(name, url, flat=url.endswith(".html"))
                file.remove_index(source.index)
        for item in project.grouped:
            if item.package in extension_names() and item.text.endswith(old):
                file.set_requirement(GROUP, item.package, item.text.replace(old, backend.name))


def like(
    file: PyProject,
    project: Project,
    packages: Iterable[str],
    pins: Sequence[Source],
    transitive: Sequence[str] = (),
    torch: str | None = None,
) -> None:
    """Take `packages` from where the project already takes its PyTorch packages: the same entries.

    `torch` is its release, where that is known; `transitive` are those that only other packages require: they are named
    in the group. Where the pins are a workspace sibling's, its index is written here as well.
    """
    direct, others = (built(names, pins[0].backend, torch) for names in (packages, transitive))
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
    # The group is for what nobody names; `uv add` would otherwise leave two requirements to keep in step. One that
    # bounds the release stays: the machine needs it whoever names the package.
    file.leave_group({item.package for item in project.grouped if normalize(item.text) in direct})


def bound(file: PyProject, limits: Iterable[tuple[str, str]]) -> None:
    """Keep packages within (package, specifier) limits without touching the user's requirements."""
    for name, limit in limits:
        file.set_requirement(GROUP, name, name + limit)


def unpin(
    file: PyProject,
    project: Project,
    users: Mapping[str, Sequence[str]],
    gone: AbstractSet[str] = frozenset(),
    target: Target | None = None,
) -> None:
    """The edits beside `uv remove` of `gone` from `target` (None: the project's dependencies), and after any command.

    `users`: for each PyTorch package of the lock, the packages that require it, the project itself and what is removed
    left out. What they need stays routed: the group names it from then on. What nothing requires leaves the group,
    with its sources; where that is true of every PyTorch package, all that uvtorch wrote goes.
    """
    own = [item for item in project.requirements if item.target != GROUP and project.is_pinned(item.package)]
    stay = {item.package for item in own if item.package not in gone or item.target != (target or BASE)}
    grouped = set(in_group(project)) - stay
    left = grouped | ({item.package for item in own} - stay)
    uses = [(user, name) for name in left for user in users.get(name, ())]
    needed = reached({user for user, _ in uses} - left, uses) & left
    if not (stay or needed) and (left or gone):
        unpin_all(file, project, gone)
        return
    needed |= gone & {"torch"} - stay  # its sisters need it, whatever the lock says
    for name in sorted((needed - grouped).intersection(source.package for source in project.own_sources)):
        file.add_requirement(GROUP, name)
    _forget(file, grouped - needed)


def unpin_all(file: PyProject, project: Project, gone: AbstractSet[str] = frozenset()) -> None:
    """Take out all that uvtorch wrote, where no PyTorch package is left once `gone` are removed.

    uv takes out the sources of what it removes, but no index. One that the user named stays, as with `uv remove`. Left
    in place, ours would be no harm (it is explicit), but the next `uvtorch add` may choose another.
    """
    _forget(file, project.packages_in(GROUP) & {*roles(), *in_group(project)}, gone)
    sweep(file, project, {one.index_name for index in project.indexes if (one := index.backend)}, gone)


def _forget(file: PyProject, grouped: AbstractSet[str], gone: AbstractSet[str] = frozenset()) -> None:
    """Take packages out of the group, with their sources but for those that uv takes out."""
    file.leave_group(grouped)
    for name in sorted(grouped - gone):
        file.remove_sources(name)


def move(file: PyProject, project: Project, base: str) -> tuple[str, ...]:
    """Take the PyTorch indexes of the project's sources from another base; their new URLs."""
    named = {source.index for source in project.sources if project.is_pytorch(source.package)}
    found = {name: index.backend for name, index in project.own_indexes.items() if name in named}
    urls = {name: backend.index_url(base) for name, backend in found.items() if backend}
    for name, url in urls.items():
        file.set_index(name, url, explicit=False, moving=True)
    file.move_index_base(base)
    return tuple(urls.values())


def take_out(file: PyProject, project: Project) -> None:
    """Take every pin out: sources from PyTorch's indexes, those indexes, and what uvtorch put into its group.

    The requirements stay. A source that is no backend's index (a house's index, a repository) is the user's own.
    """
    file.leave_group(project.packages_in(GROUP) & roles().keys())
    for name in sorted({one.package for one in project.own_sources if one.backend}):
        if project.is_pytorch(name) or name in extension_names():
            file.remove_sources(name)
    sweep(file, project, {index.name for index in project.indexes})


def sweep(
    file: PyProject,
    project: Project,
    names: AbstractSet[str | None] | None = None,
    gone: AbstractSet[str] = frozenset(),
) -> None:
    """Take out the explicit indexes of backends that no source names any more, those of the packages `gone` aside.

    `names` are the indexes that may go; None: those that a source has named before the edits.
    """
    if names is None:
        names = {source.index for source in project.sources}
    used = file.indexes_used(gone)
    for name, index in project.own_indexes.items():
        if name in names and name not in used and index.backend and index.explicit:
            file.remove_index(name)


def in_group(project: Project) -> tuple[str, ...]:
    """The pinned packages that the group names: Triton goes with the backend, other packages' builds with those."""
    return tuple(item.package for item in project.grouped if project.is_pinned(item.package))

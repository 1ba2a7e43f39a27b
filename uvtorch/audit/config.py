"""What is wrong in pyproject.toml itself. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, combinations, product
from typing import Final

from uvtorch.audit.case import (
    Case,
    all_sources,
    ends_in_backend,
    entries,
    entry,
    places,
    platforms_text,
    rewritable,
    where,
)
from uvtorch.audit.finding import FIX_ROOT, USE, Edit, Finding, error, remove_index, set_index, set_sources, warning
from uvtorch.backend import Backend, marker, same_url
from uvtorch.choose import Decision, Request, choose
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.project import Index, Item, Project, Source, Target
from uvtorch.project.choices import conflicting, gaps
from uvtorch.project.markers import EVERYWHERE, can_hold, dead, mended
from uvtorch.project.model import GROUP
from uvtorch.project.pyproject import SourceEntry
from uvtorch.requirement import parse


def _own(project: Project) -> tuple[Index, ...]:
    return tuple(index for index in project.indexes if not index.inherited)


def _rewrite(
    project: Project, packages: Iterable[str], change: Callable[[Source], SourceEntry | None]
) -> tuple[Edit, ...]:
    """The edits that write the packages' own sources anew, without those of which None is made.

    None at all where edits cannot write one of them.
    """
    own = {package: entries(project, package) for package in packages}
    if not rewritable([*chain(*own.values())]):
        return ()
    return tuple(set_sources(package, filter(None, map(change, sources))) for package, sources in own.items())


# Indexes


def _twice(case: Case) -> Iterator[Finding]:
    hosts = case.hosts
    for first, second in combinations([index for index in _own(case.project) if not index.legacy], 2):
        same, pytorch = same_url(first.url, second.url), hosts.known(first.url)
        if first.name and first.name == second.name:
            what = f"The index `{first.name}` is defined twice, "
            if same:
                explicit = first.explicit or second.explicit or pytorch
                edits = (remove_index(first.name), set_index(first.name, first.url, explicit))
                yield error("index-twice", f"{what}with the same URL: uv refuses to read the file.", edits)
            else:
                what += f"with different URLs, {first.url} and {second.url}: uv refuses to read the file."
                yield error("index-twice", f"{what} Keep one of them, or give one another name.")
        elif same and pytorch:
            yield _same_url(case.project, first, second)


def _same_url(project: Project, first: Index, second: Index) -> Finding:
    keep, drop = (second, first) if first.name is None else (first, second)
    edits = _merged(project, keep.name, keep.url, drop.name) if keep.name and drop.name else ()
    names = f"The indexes `{first.label}` and `{second.label}` have the same URL: "
    if first.explicit and second.explicit:
        return warning("index-twice", f"{names}one of them is enough.", edits)
    bare = second if first.explicit else first
    why = f"`{bare.label}` is not explicit, so any package may come from it."
    return error("index-twice", names + why, edits)


def _merged(project: Project, keep: str, url: str, drop: str) -> tuple[Edit, ...]:
    """The edits that leave one of two indexes, and the sources with it."""
    names = dict.fromkeys(one.package for one in project.sources if one.index == drop and not one.inherited)
    edits = _rewrite(project, names, lambda one: entry(one, keep if one.index == drop else None))
    return (*edits, remove_index(drop), set_index(keep, url)) if len(edits) == len(names) else ()


def _missing(case: Case) -> Iterator[Finding]:
    sources = case.project.sources
    undefined = dict.fromkeys(source.index for source in sources if source.kind == "index")
    for name in (name for name in undefined if name not in {index.name for index in case.project.indexes}):
        packages = ", ".join(dict.fromkeys(source.package for source in sources if source.index == name))
        what = f"The sources of {packages} name the index `{name}`, which is not defined: uv cannot lock the "
        yield error("index-missing", f"{what}project. Define it in `[[tool.uv.index]]`, or name another.")


def _ignored(case: Case) -> Iterator[Finding]:
    if case.uv_toml and (own := _own(case.project)):
        bare = [index for index in own if not index.explicit]
        lost = ", ".join(index.label for index in bare or own)
        effect = f"Nothing comes from {lost}." if bare else f"Sources still find {lost}, and uv warns each time."
        what = f"uv takes its settings from {case.uv_toml} and ignores `index` in pyproject.toml beside it. {effect}"
        what += f" Move the settings of {case.uv_toml} into `[tool.uv]`, and remove it."
        yield (error if bare else warning)("index-ignored", what)


def _outside(case: Case) -> Iterator[Finding]:
    pinned = bool(case.pins or case.project.selectable())
    for one in case.outside:
        what = (
            f"{one.origin} gives uv the index {one.url} for every package: numpy, jinja2 and whatever else it has come "
        )
        what += "from it, mostly old versions. Remove it there"
        what += "." if pinned else "; the fix writes it into the project, for PyTorch's packages alone."
        fix = None if pinned else ("uvtorch", "torch", "use", str(one.backend))
        yield Finding("index-outside", "error", what, fix)


def _not_explicit(case: Case) -> Iterator[Finding]:
    hosts = case.hosts
    for index in case.project.indexes:
        if index.explicit or not hosts.known(index.url) or (index.default and not hosts.own(index.url)):
            continue  # a default index that is a mirror stands in for PyPI, with all that PyPI has
        what = f"The index `{index.label}` is not explicit: uv takes numpy, jinja2 and whatever else it "
        what += f"finds there from it, mostly old versions, and looks nowhere else for them.{_advice(index)}"
        in_root = index.inherited and not (index.legacy or index.default)
        yield error("index-not-explicit", what, _explicit(case, index), fix=FIX_ROOT if in_root else None)


def _advice(index: Index) -> str:
    if index.inherited:
        return " It stands in the pyproject.toml of the workspace's root."
    if index.legacy:
        return " Define it in `[[tool.uv.index]]` with `explicit = true`, and name it in `[tool.uv.sources]`."
    instead = " It is the default index too; give it `explicit = true` instead of `default = true`."
    return instead if index.default else ""


def _explicit(case: Case, index: Index) -> tuple[Edit, ...]:
    """The edits that make an index explicit and keep taking PyTorch's packages from it; none where that is unclear."""
    project = case.project
    name = index.name or (index.backend.index_name if index.backend else "pytorch")
    taken = index.name is None and name in {other.name for other in project.indexes}
    if index.inherited or index.legacy or index.default or taken:
        return ()
    named = {source.index for source in all_sources(project)}
    if index.name not in named and not case.hosts.own(index.url) and project.choices():
        return ()
    naming = Edit(name, lambda file: file.name_index(index.url, name))
    return (naming, set_index(name, index.url), *_sources_for(case, index, name))


def _sources_for(case: Case, index: Index, name: str) -> Iterator[Edit]:
    """The sources of the PyTorch packages that have none yet."""
    project = case.project
    if any(source.target.kind != "base" for source in project.sources):
        return
    model = [entry(source) for source in entries(project, "torch") if source.kind == "index"]
    if not model:
        model = [SourceEntry(name, marker(_decided(case, index.backend).platforms) if index.backend else None)]
    sourced = {source.package for source in project.sources}
    yield from (set_sources(package, model) for package in project.pytorch_packages() if package not in sourced)


def _unused(case: Case) -> Iterator[Finding]:
    named, hosts = {source.index for source in all_sources(case.project)}, case.hosts
    for index in _own(case.project):
        unused = index.explicit and index.name not in named and (ends_in_backend(index) or hosts.own(index.url))
        if index.name and unused:
            what = f"No source names the index `{index.name}`: it is explicit, so nothing comes from it."
            yield warning("index-unused", what, [remove_index(index.name)])


# Extras and groups


def _gaps(case: Case) -> Iterator[Finding]:
    project = case.project
    for package, target in gaps(project) if project.has_project else ():
        known = project.declared(target.kind, target.name) is not None
        fault = f"does not list {package}" if known else "does not exist"
        left = {one: None if one.target == target else entry(one) for one in entries(project, package)}
        edits = (_require(target, package),) if known else _rewrite(project, [package], left.get)
        what = f"A source of {package} is for the {target.kind} `{target.name}`, which {fault}: uv refuses to lock the "
        yield error("source-binds-nothing", f"{what}project.", edits)


def _require(target: Target, requirement: str) -> Edit:
    return Edit("", lambda file: file.add_requirement(target, requirement))


def _conflicts(case: Case) -> Iterator[Finding]:
    """Uv resolves extras and groups together unless `conflicts` says otherwise, and one index must serve them all.

    See https://docs.astral.sh/uv/concepts/projects/config/#conflicting-dependencies.
    """
    project = case.project
    own = [one for one in project.sources if project.declared(one.target.kind, one.target.name)]
    pairs = [pair for pair in combinations(own, 2) if _clash(project, *pair)]
    targets = dict.fromkeys(source.target for pair in pairs for source in pair)
    if targets:
        names = " and ".join(f"the {target.kind} `{target.name}`" for target in targets)
        what = f"{names[0].upper()}{names[1:]} take PyTorch from different indexes and are not declared as "
        what += "conflicting: uv resolves them together, and cannot lock the project."
        yield error("conflicts-missing", what, _declared_apart(project, targets))


def _declared_apart(project: Project, targets: Iterable[Target]) -> tuple[Edit, ...]:
    """The edit of `conflicts`; none where it would have to write what is declared for other members."""
    if project.root_name is not None or any(item.kind == "package" for item in chain(*project.conflicts)):
        return ()
    sets = (*project.conflicts, tuple(Item(one.kind, one.name or "") for one in targets if one.kind != "base"))
    return (Edit("", lambda file: file.set_conflicts(sets)),)


def _clash(project: Project, one: Source, other: Source) -> bool:
    """Whether two sources of a package apply at once if their extras or groups are selected together."""
    if one.package != other.package or one.index == other.index or not project.is_pytorch(one.package):
        return False
    mine, others = _spelled(project, one.target), _spelled(project, other.target)
    apart = mine == others or others in conflicting(project, mine)
    return not apart and not places(one.marker).isdisjoint(places(other.marker))


def _spelled(project: Project, target: Target) -> Target:
    return Target(target.kind, project.declared(target.kind, target.name))


# Markers and platforms


def _markers(case: Case) -> Iterator[Finding]:
    project = case.project
    for source in project.sources:
        faults = _faults(source.marker)
        if faults and project.is_pytorch(source.package) and not source.inherited:
            never = "never" in " ".join(faults)
            what = f"A source of {source.package} ({source.index or source.url}) has a marker that does not do what it "
            what += f"says: {'; '.join(faults)}."
            what += " The source may never apply, and PyPI's build is taken." if never else ""
            edits = _rewrite(project, [source.package], _mended) if _mended(source) != entry(source) else ()
            yield (error if never else warning)("marker-never-true", what, edits)


def _mended(source: Source) -> SourceEntry:
    return entry(source)._replace(marker=source.marker and (mended(source.marker) or source.marker))


def _faults(text: str | None) -> tuple[str, ...]:
    """What keeps a marker from meaning what it says; that another machine may fulfil a part of it is left open."""
    if not text or re.search("platform_machine|platform_python_implementation|extra", text) or can_hold(text):
        return dead(text or "")
    return dead(text) or (f"`{text}` is never true",)


def _dropped(case: Case) -> Iterator[Finding]:
    project = case.project
    kept = where(*project.environments)
    lost: dict[str, set[str]] = {}
    for source in project.sources if project.environments else ():
        platforms = where(source.marker) if source.marker and not dead(source.marker) else set()
        if platforms and project.is_pytorch(source.package) and platforms.isdisjoint(kept):
            lost.setdefault(source.package, set()).update(platforms)
    if lost:
        dropped = platforms_text(set().union(*lost.values()))
        what = f"`environments` leaves {dropped} out of the lock, where {', '.join(lost)} has a source: `uv sync` fails"
        what += " there. `required-environments` is what asks for wheels on some platforms without giving up the "
        yield error("environments-drop-platform", f"{what}others.", [REQUIRE_ENVIRONMENTS])


REQUIRE_ENVIRONMENTS: Final = Edit("", lambda file: file.require_environments())


def _torch_pins(case: Case) -> Iterator[tuple[Source, Backend]]:
    """The own sources of torch that name an index whose builds the catalog knows."""
    hosts = case.hosts
    for source in entries(case.project, "torch"):
        backend, plain = source.backend, not _faults(source.marker)
        if plain and backend and backend in case.catalog.builds and hosts.known(source.url):
            yield source, backend


def _no_wheels(case: Case) -> Iterator[Finding]:
    project = case.project
    for source, backend in _torch_pins(case):
        platforms = where(source.marker)
        if source.marker and platforms and platforms.isdisjoint(chain(*case.catalog.builds[backend].values())):
            what = f"torch is taken from {backend} where `{source.marker}`, and {backend} has no wheels for "
            what += f"{platforms_text(platforms)}: `uv sync` fails there. Without that source PyPI's build is taken."
            yield error("no-wheels", what, _without(project, source) if source.target.kind == "base" else ())


def _without(project: Project, source: Source) -> tuple[Edit, ...]:
    """The edits that take an index and its marker from all PyTorch packages."""
    same = [one for one in project.sources if (one.index, one.marker) == (source.index, source.marker)]
    names = dict.fromkeys(one.package for one in same if project.is_pytorch(one.package))
    return _rewrite(project, names, lambda one: None if one in same else entry(one))


def releases(case: Case) -> Iterator[Finding]:
    """Requirements that were raised beyond what the pinned index has; uv says no more than `no version of torch`.

    Not one of `CHECKS`: where uv is content with the lock, an override or a constraint says otherwise.
    """
    torch = [item for item in case.project.requirements if item.package == "torch"]
    for (source, backend), item in product(_torch_pins(case), torch):
        index, target = case.catalog.builds[backend], _spelled(case.project, source.target)
        together = item.target == target and places(source.marker) & places(item.marker)
        allowed = _allowed(case, item.text) if together else []
        if allowed and index.keys().isdisjoint(allowed):
            what = f"The project requires `{item.text}`, and the index of {backend} has no such torch, only "
            what += f"{next(iter(index))} to {list(index)[-1]}: uv cannot lock the project."
            yield error("release-missing", what, fix=USE if item.target.kind == "base" else None)


def _allowed(case: Case, text: str) -> list[str]:
    """The releases that a requirement allows; none where it names no version of the catalog's."""
    try:
        wanted = parse(text)
    except UsageError:  # uv will say it better
        return []
    return [release for release in case.catalog.releases if not wanted.url and release in wanted.specifier]


# Triton


def _companions(case: Case) -> Iterator[Finding]:
    project = case.project
    explicit = {index.name for index in project.indexes if index.explicit}
    pins = {(one.target, one.index): one for one in reversed(entries(project, "torch")) if one.index in explicit}
    for source in reversed(pins.values()):
        if _lacks_companion(case, source):
            names = _decided(case, source.backend).companions
            yield _companion_missing(project, source, names)


def _lacks_companion(case: Case, source: Source) -> bool:
    """Whether torch comes from ROCm's or XPU's index, to be sure, and no Triton does."""
    required = {item.target for item in case.project.requirements if item.package == "torch"}
    target, backend = _spelled(case.project, source.target), source.backend
    if backend is None or backend.family not in ("rocm", "xpu") or _has_companion(case, source, backend):
        return False
    return target in required or (target.kind == "base" and bool(required))


def _has_companion(case: Case, source: Source, backend: Backend) -> bool:
    """Whether the project takes a Triton from the same index."""
    names = (backend.family, backend._replace(channel="").name)
    known = {package for whose, _, _, packages in case.catalog.companions if whose in names for package in packages}
    url = source.url or ""
    return any(other.package in known and same_url(other.url or "", url) for other in all_sources(case.project))


def _decided(case: Case, backend: Backend | None) -> Decision:
    """What the project will get from a backend: the torch, its platforms and its companions."""
    project = case.project
    texts = tuple(item.text for item in project.requirements if item.package == "torch") or ("torch",)
    request = Request(texts[:1], requires_python=project.requires_python, backend=backend)
    return choose(Machine(EVERYWHERE[0]), request, case.catalog)


def _companion_missing(project: Project, source: Source, names: Iterable[str]) -> Finding:
    like = [one for one in entries(project, "torch") if (one.index, one.target) == (source.index, source.target)]
    place = GROUP if source.target.kind == "base" else source.target
    markers = [f"({one.marker})" if len(like) > 1 else one.marker for one in like if one.marker]
    suffix = f" ; {' or '.join(markers)}" if len(markers) == len(like) else ""
    own = {name: entries(project, name) for name in names}
    edits = [
        edit
        for name, theirs in own.items()
        for edit in (_require(place, name + suffix), set_sources(name, map(entry, (*theirs, *like))))
    ]
    what = f"torch comes from {source.backend}, and needs {', '.join(own)}, which only that index has: without a "
    what += "source and a requirement of its own uv cannot lock the project."
    return error("companion-missing", what, edits if rewritable([*chain(*own.values())]) else ())


CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    _twice, _missing, _gaps, _conflicts, _ignored, _outside, _not_explicit, _unused, _markers, _dropped, _no_wheels,
    _companions,
)  # fmt: skip
"""Those that keep uv from reading the file first."""

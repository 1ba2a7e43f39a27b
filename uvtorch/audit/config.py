"""What is wrong in pyproject.toml itself. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, combinations, product
from typing import Final

from uvtorch.audit.case import Case, all_sources, ends_in_backend, entries, entry, places
from uvtorch.audit.finding import FIX_ROOT, USE, Edit, Finding, error, warning
from uvtorch.backend import Backend, marker, same_url
from uvtorch.catalog import since
from uvtorch.choose import Decision, Request, choose
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.markers import EVERYWHERE, can_hold, dead
from uvtorch.project import Index, Item, Project, Source, Target
from uvtorch.project.choices import conflicting
from uvtorch.project.model import BASE
from uvtorch.project.pyproject import PyProject, SourceEntry
from uvtorch.requirement import parse, without_local


def _own(project: Project) -> tuple[Index, ...]:
    return tuple(index for index in project.indexes if not index.inherited)


# Indexes


def _outside(case: Case) -> Iterator[Finding]:
    pinned = bool(case.pins or case.project.selectable() or case.project.by_local_version())
    for one in case.outside:
        what = (
            f"{one.origin} gives uv the index {one.url} for every package: numpy, jinja2 and whatever else it has come "
        )
        fix = None if pinned else ("uvtorch", "torch", "use", str(one.backend))
        what += "from it, mostly old versions. Remove it there"
        what += "; the fix writes it into the project, for PyTorch's packages alone." if fix else "."
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
    if index.inherited or index.legacy or index.default or taken or project.by_local_version():
        return ()
    named = {source.index for source in all_sources(project)}
    if index.name not in named and not case.hosts.own(index.url) and project.choices():
        return ()

    define = partial(PyProject.set_index, name=name, url=index.url)
    return (Edit(name, define), *_sources_for(case, index, name))


def _sources_for(case: Case, index: Index, name: str) -> Iterator[Edit]:
    """The sources of the PyTorch packages that have none yet."""
    project = case.project
    if any(source.target.kind != "base" for source in project.sources):
        return
    model = [entry(source) for source in entries(project, "torch") if source.kind == "index"]
    if not model:
        model = [SourceEntry(name, marker(_decided(case, index.backend).platforms) if index.backend else None)]
    sourced = {source.package for source in project.sources}
    lacking = (package for package in project.pytorch_packages() if package not in sourced)
    yield from (Edit(one, partial(PyProject.set_sources, package=one, entries=model)) for one in lacking)


def _unused(case: Case) -> Iterator[Finding]:
    named, hosts = {source.index for source in all_sources(case.project)}, case.hosts
    for index in _own(case.project):
        unused = index.explicit and index.name not in named and (ends_in_backend(index) or hosts.own(index.url))
        if index.name and unused:
            what = f"No source names the index `{index.name}`: it is explicit, so nothing comes from it."
            yield warning("index-unused", what, [Edit(index.name, partial(PyProject.remove_index, name=index.name))])


# Extras and groups


def _conflicts(case: Case) -> Iterator[Finding]:
    """Uv resolves extras and groups together unless `conflicts` says otherwise, and one index must serve them all.

    See https://docs.astral.sh/uv/concepts/projects/config/#conflicting-dependencies.
    """
    project = case.project
    own = [one for one in project.sources if one.target in project.targets]
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
    apart = one.target == other.target or other.target in conflicting(project, one.target)
    return not apart and not places(one.marker).isdisjoint(places(other.marker))


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
            again = source.backend and source.target.kind == "base" and case.hosts.known(source.url)
            fix = ("uvtorch", "torch", "use", str(source.backend)) if never and again else None
            yield (error if never else warning)("marker-never-true", what, fix=fix)


def _faults(text: str | None) -> tuple[str, ...]:
    """What keeps a marker from meaning what it says; that another machine may fulfil a part of it is left open."""
    if not text or re.search("platform_machine|platform_python_implementation|extra", text) or can_hold(text):
        return dead(text or "")
    return dead(text) or (f"`{text}` is never true",)


def _torch_pins(case: Case) -> Iterator[tuple[Source, Backend]]:
    """The own sources of torch that name an index whose builds the catalog knows."""
    hosts = case.hosts
    for source in entries(case.project, "torch"):
        backend, plain = source.backend, not _faults(source.marker)
        if plain and backend and backend in case.catalog.builds and hosts.known(source.url):
            yield source, backend


def releases(case: Case) -> Iterator[Finding]:
    """Requirements that were raised beyond what the pinned index has; uv says no more than `no version of torch`.

    Not one of `CHECKS`: where uv is content with the lock, an override or a constraint says otherwise.
    """
    torch = [item for item in case.project.requirements if item.package == "torch"]
    for (source, backend), item in product(_torch_pins(case), torch):
        index, target = case.catalog.builds[backend], source.target
        together = target in (BASE, item.target) and places(source.marker) & places(item.marker)
        allowed = _allowed(case, item.text) if together else []
        if allowed and index.keys().isdisjoint(allowed):
            what = f"The project requires `{item.text}`, and the index of {backend} has no such torch, only "
            what += f"{next(iter(index))} to {list(index)[-1]}: uv cannot lock the project."
            yield error("release-missing", what, fix=USE if target == BASE else None)


def _allowed(case: Case, text: str) -> list[str]:
    """The releases that a requirement allows; none where it names no version of the catalog's."""
    try:
        wanted = parse(text)
    except UsageError:  # uv will say it better
        return []
    return [release for release in case.catalog.releases if not wanted.url and release in wanted.specifier]


# Triton


def _companions(case: Case) -> Iterator[Finding]:
    for source in (one for one in entries(case.project, "torch") if _lacks_companion(case, one)):
        names = ", ".join(_decided(case, source.backend).companions)
        what = f"torch comes from {source.backend}, and needs {names}, which only that index has: without a source and "
        what += "a requirement of its own uv cannot lock the project."
        fix = ("uvtorch", "torch", "use", str(source.backend)) if source.target.kind == "base" else None
        yield error("companion-missing", what, fix=fix)


def _lacks_companion(case: Case, source: Source) -> bool:
    """Whether torch comes from ROCm's or XPU's index, to be sure, and no Triton does."""
    required = {item.target for item in case.project.requirements if item.package == "torch"}
    target, backend = source.target, source.backend
    explicit = any(index.explicit for index in case.project.indexes if index.name == source.index)
    if not explicit or backend is None or backend.family not in ("rocm", "xpu"):
        return False
    if _has_companion(case, source, backend):
        return False
    return target in required or (target.kind == "base" and bool(required))


def _has_companion(case: Case, source: Source, backend: Backend) -> bool:
    """Whether the project takes a Triton from the same index."""
    rows = (packages for first, _, packages in case.catalog.companions if since(backend, (first,)))
    known = {package for packages in rows for package in packages}
    return any(other.package in known and same_url(other.url, source.url) for other in all_sources(case.project))


def _decided(case: Case, backend: Backend | None) -> Decision:
    """What the project will get from a backend: the torch, its platforms and its companions."""
    project = case.project
    texts = [without_local(item.text) for item in project.requirements if item.package == "torch"] or ["torch"]
    request = Request((texts[0],), requires_python=project.requires_python, backend=backend)
    return choose(Machine(EVERYWHERE[0]), request, case.catalog)


CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    _conflicts, _outside, _not_explicit, _unused, _markers, _companions
)  # fmt: skip

"""What is wrong in pyproject.toml itself. Pure."""

import re
from collections.abc import Iterator
from functools import cache, partial
from itertools import combinations, product

from uvtorch import edits
from uvtorch.audit import USE, Case, Edit, Finding, error, warning
from uvtorch.backend import Backend, marker, same_url
from uvtorch.choose import Decision, Request, choose
from uvtorch.machine import Machine
from uvtorch.packages import has_build, roles
from uvtorch.project import Environment, Index, Project, Source
from uvtorch.project.choices import conflicting
from uvtorch.project.indexes import catalogued
from uvtorch.project.model import BASE
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import EVERYWHERE, PYTHONS, can_hold, dead, holds, understood, without_local


def check(case: Case) -> Iterator[Finding]:
    """What is wrong in the project's file."""
    for look in (_conflicts, _outside, _not_explicit, _unused, _markers, _companions):
        yield from look(case)


# Indexes


def _outside(case: Case) -> Iterator[Finding]:
    pinned = case.pins or case.project.selectable() or case.project.by_local_version()
    remedy = "." if pinned else "; the fix writes it into the project, for PyTorch's packages alone."
    for one in case.outside:
        what = (
            f"{one.origin} gives uv the index {one.url} for every package: numpy, jinja2 and whatever else it has "
            f"come from it, mostly old versions. Remove it there{remedy}"
        )
        yield error("index-outside", what, None if pinned else (*USE, str(one.backend)))


def _not_explicit(case: Case) -> Iterator[Finding]:
    for index in case.project.indexes:
        # A default index that is a mirror stands in for PyPI, with all that PyPI has.
        if index.explicit or not case.serves_pytorch(index) or (index.default and not case.is_own(index.url)):
            continue
        what = (
            f"The index `{index.label}` is not explicit: uv takes numpy, jinja2 and whatever else it finds there "
            "from it, mostly old versions, and looks nowhere else for them."
        )
        if index.inherited:
            what += " It stands in the pyproject.toml of the workspace's root."
        elif index.legacy or index.default:
            what += " Define it in `[[tool.uv.index]]` with `explicit = true`, and name it in `[tool.uv.sources]`."
        yield error("index-not-explicit", what, case.fix_in_root(index), _explicit(case, index))


def _explicit(case: Case, index: Index) -> Edit | None:
    """Make an index explicit, and keep taking PyTorch's packages from it; None where it is unclear what is meant."""
    project = case.project
    name = index.name or (index.backend.index_name if index.backend else "pytorch")
    taken = index.name is None and name in {other.name for other in project.indexes}
    named = index.name in {source.index for source in project.every_source} or case.is_own(index.url)
    unclear = (index.inherited, index.legacy, index.default, taken, project.by_local_version())
    if any(unclear) or (project.choices() and not named):
        return None
    where = marker(_decided(case, index.backend).platforms)
    entries = _of_torch(case) or [Source("torch", name, backend=index.backend, marker=where)]
    have = {source.package for source in project.sources}
    lacking = [one for one in project.pytorch_packages() if one not in have and has_build(one, entries[0].backend)]
    if any(source.target != BASE for source in project.sources):
        lacking = []

    def edit(file: PyProject) -> None:
        file.set_index(name, index.url)
        for package in lacking:
            file.set_sources(package, entries)

    return edit


def _unused(case: Case) -> Iterator[Finding]:
    named = {source.index for source in case.project.every_source}
    for name, index in case.project.own_indexes.items():
        if name not in named and index.explicit and (index.ends_in_backend or case.is_own(index.url)):
            what = f"No source names the index `{name}`: it is explicit, so nothing comes from it."
            yield warning("index-unused", what, edit=partial(PyProject.remove_index, name=name))


# Extras and groups


def _conflicts(case: Case) -> Iterator[Finding]:
    """Uv resolves extras and groups together unless `conflicts` says otherwise, and one index must serve them all.

    See https://docs.astral.sh/uv/concepts/projects/config/#conflicting-dependencies.
    """
    project = case.project
    own = [one for one in project.sources if one.target in project.targets]
    pairs = [pair for pair in combinations(own, 2) if _clash(project, *pair)]
    targets = tuple(dict.fromkeys(source.target for pair in pairs for source in pair))
    if targets:
        names = " and ".join(f"the {target.kind} `{target.name}`" for target in targets)
        what = (
            f"T{names[1:]} take PyTorch from different indexes and are not declared as conflicting: uv resolves them "
            "together, and cannot lock the project."
        )
        edit = partial(edits.set_conflicts, project=project, targets=targets)
        yield error("conflicts-missing", what, edit=None if project.root_name else edit)


def _clash(project: Project, one: Source, other: Source) -> bool:
    if one.package != other.package or one.index == other.index or not project.is_pytorch(one.package):
        return False
    apart = one.target == other.target or other.target in conflicting(project, one.target)
    return not apart and _meet(one.marker, other.marker)


def _meet(one: str | None, other: str | None) -> bool:
    return not _places(one).isdisjoint(_places(other))


@cache
def _places(text: str | None) -> set[Environment]:
    every = (Environment(*pair) for pair in product(EVERYWHERE, PYTHONS))
    return {place for place in every if holds(text, place)}


# Markers and platforms


def _markers(case: Case) -> Iterator[Finding]:
    for source in case.project.own_sources:
        faults = "; ".join(_faults(source.marker or "")) if case.project.is_pytorch(source.package) else ""
        what = (
            f"A source of {source.package} ({source.index or source.url}) has a marker that does not do what it "
            f"says: {faults}."
        )
        if "never" in faults:
            again = source.target == BASE and catalogued(source.url or "", source.package)
            what += " The source may never apply, and PyPI's build is taken."
            yield error("marker-never-true", what, (*USE, str(again)) if again else None)
        elif faults:
            yield warning("marker-never-true", what)


def _faults(text: str) -> tuple[str, ...]:
    """What keeps a marker from meaning what it says; that another machine may fulfil a part of it is left open."""
    may_hold = re.search("platform_machine|platform_python_implementation|extra", text) or can_hold(text)
    return dead(text) or (() if may_hold else (f"`{text}` is never true",))


def releases(case: Case) -> Iterator[Finding]:
    """Requirements that were raised beyond what the pinned index has; uv says no more than `no version of torch`.

    Not a part of `check`: where uv is content with the lock, an override or a constraint says otherwise.
    """
    for source, item in product(_of_torch(case), case.project.requirements):
        backend, wanted = catalogued(source.url or "", "torch"), understood(item.text)
        index = case.catalog.builds.get(backend, {}) if backend else {}
        applies = item.package == "torch" and source.target in (BASE, item.target) and _meet(source.marker, item.marker)
        allowed = [release for release in case.catalog.releases if wanted and release in wanted.specifier]
        if index and applies and allowed and index.keys().isdisjoint(allowed):
            what = (
                f"The project requires `{item.text}`, and the index of {backend} has no such torch, only "
                f"{next(iter(index))} to {list(index)[-1]}: uv cannot lock the project."
            )
            yield error("release-missing", what, case.use if source.target == BASE else None)


def _of_torch(case: Case) -> list[Source]:
    return [source for source in case.project.own_sources if source.package == "torch"]


# Triton


def _companions(case: Case) -> Iterator[Finding]:
    project = case.project
    explicit = {index.name for index in project.indexes if index.explicit}
    tritons = [one.url for one in project.every_source if roles().get(one.package) == "companion"]
    required = {item.target for item in project.requirements if item.package == "torch"}
    for source in _of_torch(case):
        asked = required if source.target == BASE else required & {source.target}
        if not asked or not source.backend or source.index not in explicit or same_url(source.url, *tritons):
            continue
        if names := ", ".join(_decided(case, source.backend).companions):
            what = (
                f"torch comes from {source.backend}, and needs {names}, which only that index has: without a source "
                "and a requirement of its own uv cannot lock the project."
            )
            fix = (*USE, str(source.backend)) if source.target == BASE else None
            yield error("companion-missing", what, fix)


def _decided(case: Case, backend: Backend | None) -> Decision:
    """What the project will get from a backend: the torch, its platforms and its companions."""
    torch = (without_local(item.text) for item in case.project.requirements if item.package == "torch")
    request = Request((next(torch, "torch"),), requires_python=case.project.requires_python, backend=backend)
    return choose(Machine(EVERYWHERE[0]), request, case.catalog)

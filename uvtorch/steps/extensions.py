"""`uvtorch add|remove flash-attn`: packages compiled against torch, from the indexes of `catalog/extensions.toml`.

Which builds an index has today is asked through uv, whose answer is what `uv add` will find.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

from uvtorch import catalog, edits, files
from uvtorch.argv import forwarded
from uvtorch.backend import DEFAULT_INDEX_BASE, Backend, same_url
from uvtorch.choose import Decision, Request, choose
from uvtorch.errors import NoBuild, UsageError
from uvtorch.index_query import compiled, reason
from uvtorch.project import Choice, Project, Source
from uvtorch.project.indexes import check_index_url
from uvtorch.project.model import GROUP
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import bare_requirement, named_by
from uvtorch.session import Session, decision_line, requirements_of
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_and_sync
from uvtorch.steps.pins import Requested, pins_of, words_with
from uvtorch.transaction import content

_RELEASES = 8  # of torch are asked about at most: each page of links is a question of its own


# The table


class Index(NamedTuple):
    """An index with wheels of extensions."""

    name: str
    url: str | None  # With `{backend}` and `{torch}` (a minor release); None: the backend's own PyTorch index
    backends: frozenset[Backend]
    platforms: frozenset[str]
    flat: bool  # A page of links
    declares: bool  # Its wheels require the torch they were built for
    builds: Mapping[tuple[str, Backend], str]
    """(minor torch release, backend) -> the exact version to name there; empty: the index tells them apart."""

    def located(self, backend: Backend, torch: str, base: str) -> str:
        """Its URL for a backend and a minor torch release; `base` is where PyTorch's indexes are."""
        if self.url is None:
            return backend.index_url(base)
        return self.url.replace("{backend}", backend.name).replace("{torch}", torch)

    def written_name(self, backend: Backend, torch: str) -> str:
        """Its name in a project: `astral-cu130`, `pyg-2.12-cu130`."""
        if self.url is None:
            return backend.index_name
        varying = (("{torch}", torch), ("{backend}", backend.name))
        return "-".join((self.name, *(text for placeholder, text in varying if placeholder in self.url)))

    def wrote(self, name: str, url: str) -> bool:
        """Whether a project's index of that name and URL was written for this one."""
        ours = self.url is not None and url.startswith(self.url.partition("{")[0])
        return ours and name.partition("-")[0] == self.name


class Extension(NamedTuple):
    """A package that is compiled against torch."""

    package: str  # Normalized
    indexes: tuple[Index, ...]  # In order of preference
    build: Mapping[str, str]  # What a build needs for `cuda` and for `other` backends; empty: PyPI has wheels
    text: str = ""  # The requirement that the command line adds

    def needs(self, backend: Backend | None) -> str:
        """What a build for one backend needs."""
        if backend is None or backend.family != "cu":
            return self.build["other"]
        return self.build["cuda"].replace("{cuda}", ".".join(map(str, backend.version)))


def table(env: Mapping[str, str]) -> Mapping[str, Extension]:
    """The extensions by name, of uvtorch's own table or the file that `UVTORCH_EXTENSIONS` names.

    Raises UsageError where that cannot be read, or has a URL that may not be written.
    """
    path = env.get("UVTORCH_EXTENSIONS") or os.path.join(os.path.dirname(catalog.__file__), "extensions.toml")
    try:
        data = tomllib.loads(files.read(path).decode())
        indexes = {name: _index(name, row) for name, row in data["index"].items()}
        builds = {name: {key: str(row[key]) for key in ("cuda", "other")} for name, row in data["build"].items()}
        return {
            name: Extension(name, tuple(indexes[index] for index in row["indexes"]), builds[row["build"]])
            for name, row in data["package"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"UVTORCH_EXTENSIONS={path} cannot be read: {why}") from None


def _index(name: str, row: Mapping[str, Any]) -> Index:
    builds = {
        (torch, backend): version.replace("{backend}", backend.name)
        for torch, names, version in row.get("builds", ())
        for backend in catalog.backends_in(names)
    }
    backends, platforms = frozenset(catalog.backends_in(row["backends"])), frozenset(row["platforms"].split())
    index = Index(name, row.get("url"), backends, platforms, bool(row.get("flat")), bool(row.get("declares")), builds)
    url = index.located(Backend("cpu"), "2.9", DEFAULT_INDEX_BASE)
    if not {"{", "}"}.isdisjoint(check_index_url(url, f"the URL of index {name}")):
        raise ValueError(f"a brace in the URL of index {name}")
    return index


# `add` and `remove`


def add_extensions(session: Session, requested: Sequence[Requested]) -> tuple[int | None, tuple[str, ...]]:
    """Add the extensions that the command line names, with the PyTorch packages `requested` beside them.

    The exit code; None: uv is to do it, and the warnings say what to know then. Raises NoBuild.
    """
    wanted, project, choice = _wanted(session), session.project, None
    if not wanted:
        return None, ()
    names, backend = " ".join(one.package for one in wanted), _backend(session, requested)
    requirements = (*(item.text for item in requested), *requirements_of(project))
    if offered := project.selectable():
        choice = next((one for one in offered if one.target == session.target), None)
        if requested or choice is None or choice.backend is None:
            return None, (_needs_choice(offered, names),)
        # The bound that wheels need which do not require their torch would hold for all choices.
        wanted = [one._replace(indexes=tuple(index for index in one.indexes if index.declares)) for one in wanted]
        requirements, backend = choices.requirements_of_choice(project, choice), choice.backend
    first = session.decide(requirements, backend)
    query = Query(session, session.request(requirements, backend), first.backend) if first.backend else None
    try:
        found = query.best(wanted) if query else None
        if found is None:
            return None, tuple(_built_from_source(first, wanted, query))
    except NoBuild as error:
        return None, (f"{error}: {names} is left to uv, and may be built for another torch or CUDA",)
    return _take(session, requested, found, choice), ()


def _needs_choice(offered: Sequence[Choice], names: str) -> str:
    cuda = next((one for one in offered if one.family == "cu"), offered[0])
    option = f"{'--optional' if cuda.kind == 'extra' else '--group'} {cuda.name}"
    return f"{names} is built for one backend: `uvtorch add {option} {names}` adds it to that choice"


def _backend(session: Session, requested: Sequence[Requested]) -> Backend | None:
    wanted = session.wanted([item.text for item in requested], here=True)
    pins = () if wanted.insists else pins_of(session)
    return (pins[0].backend if pins else None) or session.backend_for(wanted)


def _wanted(session: Session) -> list[Extension]:
    """What is named of the table, where PyTorch packages come from backends' indexes alone."""
    project, known = session.project, table(session.env)
    own = {source.package for source in project.sources if source.backend is None}
    if session.is_script or session.frozen or any(map(project.is_pinned, own)):
        return []
    have = {source.package for source in project.sources}
    found = {named_by(text) or "": text for text in session.line.positionals}
    new = [name for name in found if name in known.keys() - have and not project.is_pinned(name)]
    return [known[name]._replace(text=found[name]) for name in new]


def _take(session: Session, requested: Sequence[Requested], match: "Match", choice: Choice | None) -> int:
    project, file, decision = session.project, session.file(), match.decision
    packages, pins = tuple(dict.fromkeys(item.package for item in requested)), pins_of(session)
    if choice is None and pins and all(one.backend == match.backend for one in pins):
        edits.pin_like(file, project, packages, pins)
    elif choice is None:
        edits.pin(file, project, packages, decision, session.index_base)
    _write(file, project, match, choice)
    rows = ", ".join(f"{one.package} {one.version.partition('+')[0]} from {one.url}" for one in match.found)
    where = f"into {choice.target}" if choice else decision_line(decision)
    with session.transaction() as tx:
        tx.say(f"{rows}, built for torch {match.torch}: {where}")
        tx.warn(*(() if choice else decision.warnings))
        before = content(session.required_site.lock)
        session.edit(tx, file)
        tx.uv(*words_with(session, requested, decision))
        follow_and_sync(session, tx, before)
    return tx.code


def _write(file: PyProject, project: Project, match: "Match", choice: Choice | None) -> None:
    """Take extensions from their indexes, and keep torch at its minor release."""
    for one in match.found:
        known = (index.name for index in project.indexes if index.name and same_url(index.url, one.url))
        name = next(known, one.taken.written_name(match.backend, match.torch))
        selector: dict[str, Any] = {choice.kind: choice.name} if choice else {}
        # Without a marker: where the index has no wheel uv says so, instead of building PyPI's on that platform.
        file.set_sources(one.package, [Source(one.package, name, **selector)])
        file.set_index(name, one.url, flat=one.taken.flat)
        if one.taken.builds:
            file.set_requirement(GROUP, one.package, f"{one.package}=={one.version}")
    if not all(one.taken.declares for one in match.found):
        file.set_requirement(GROUP, "torch", f"torch=={match.torch}.*")


def leave(session: Session, file: PyProject, gone: set[str]) -> None:
    """The edits beside `uv remove` of extensions: their indexes, if uvtorch wrote them, and bounds."""
    project, extensions = session.project, table(session.env)
    known = {index.name: index for one in extensions.values() for index in one.indexes}
    leaving = gone & extensions.keys()
    kept = file.indexes_used(leaving)
    left = {source.index for source in project.own_sources if source.package in leaving} - kept
    for name, index in project.own_indexes.items():
        if name and name in left and any(one.wrote(name, index.url) for one in known.values()):
            file.remove_index(name)
    file.leave_group(leaving)
    # Wheels of some indexes do not say which torch they need: that release stays as long as one of them is there.
    declare = (one.declares for name in kept if (one := known.get(name.partition("-")[0])))
    if left and all(declare) and any(one.package == "torch" and "==" in one.text for one in project.grouped):
        if "torch" in project.pytorch_direct:
            file.leave_group({"torch"})
        else:
            file.set_requirement(GROUP, "torch", "torch")


# Asking


class Found(NamedTuple):
    """Where an extension is taken from."""

    package: str  # Normalized
    version: str
    taken: Index
    url: str


class Match(NamedTuple):
    """The newest torch of a backend for which every extension has a build."""

    backend: Backend
    decision: Decision
    torch: str  # Its minor release
    found: tuple[Found, ...]


class Query(NamedTuple):
    """Asks the indexes, for one session, request and backend."""

    session: Session
    request: Request
    backend: Backend

    def best(self, wanted: Sequence[Extension]) -> Match | None:
        """The newest torch of the backend that runs here and that all of `wanted` have builds for.

        Raises NoBuild where an index cannot be asked: that is not a no.
        """
        if not all(map(self._offered, wanted)):
            return None
        names = ", ".join(one.package for one in wanted)
        with self.session.out.working(f"asking for {self.backend} builds of {names}"):
            for decision, torch in islice(self._releases(wanted), _RELEASES):
                found = tuple(takewhile(bool, (self._found(one, torch) for one in wanted)))
                if len(found) == len(wanted):
                    return Match(self.backend, decision, torch, tuple(filter(None, found)))
        return None

    def _offered(self, item: Extension) -> list[Index]:
        platform = self.session.machine.platform.key
        return [one for one in item.indexes if self.backend in one.backends and platform in one.platforms]

    def _releases(self, wanted: Sequence[Extension]) -> Iterator[tuple[Decision, str]]:
        """The decisions for the minor torch releases worth a question, newest first."""
        known = self.session.catalog
        newest = min((catalog.number(limit) for one in wanted if (limit := self._newest(one))), default=None)
        minors = dict.fromkeys(release.rpartition(".")[0] for release in reversed(list(known.releases)))
        for minor in (one for one in minors if newest is None or catalog.number(one) <= newest):
            texts = (*self.request.requirements, f"torch=={minor}.*")
            request = self.request._replace(requirements=texts, backend=self.backend)
            decision = choose(self.session.machine, request, known)
            if decision.backend and not decision.refusal:
                yield decision, minor

    def _newest(self, item: Extension) -> str | None:
        """The newest minor torch release that an extension's builds require; None where that takes more questions."""
        indexes = self._offered(item)
        if not all(index.declares for index in indexes):
            return None
        answers = (self._resolve(index, item, "torch") for index in indexes)
        minors = (answer["torch"].partition("+")[0].rpartition(".")[0] for answer in answers if answer)
        return max(minors, key=catalog.number, default="0")

    def _found(self, item: Extension, torch: str) -> Found | None:
        for index in self._offered(item):
            url = index.located(self.backend, torch, self.session.index_base)
            exact = index.builds.get((torch, self.backend))
            if index.declares:
                versions = self._resolve(index, item, f"torch=={torch}.*")
            elif index.builds and exact is None:
                continue
            else:
                text = f"{bare_requirement(item.text)}=={exact}" if exact else item.text
                versions = self._ask(url, ("--no-index", "--find-links", url, "--no-deps", "--no-config"), text)
            if version := versions.get(item.package):
                return Found(item.package, version, index, url)
        return None

    def _resolve(self, index: Index, item: Extension, torch: str) -> dict[str, str]:
        """What uv makes of an extension and torch, each from its index."""
        base = self.session.index_base
        url = index.located(self.backend, "", base)
        indexes = [word for place in dict.fromkeys((url, self.backend.index_url(base))) for word in ("--index", place)]
        options = (*indexes, "--emit-index-annotation", *forwarded(self.session.line, "pip compile"))
        versions = self._ask(url, options, item.text, torch, *self.request.requirements)
        # Another index may have the package as well, with builds for who knows which torch.
        return versions if same_url(url, versions.get(f"{item.package} from")) else {}

    def _ask(self, url: str, options: Sequence[str], *texts: str) -> dict[str, str]:
        """What uv resolves these to, from wheels alone; empty where it cannot."""
        request, session = self.request._replace(requirements=texts), self.session
        platform = session.machine.platform.key
        code, versions, err = compiled(session.uv, ("--no-build", *options), request, platform, patient=False)
        if code > 1 and "HTTP status client error (4" not in err:
            raise NoBuild(f"{url} could not be asked{reason(err)}")
        return versions if code == 0 else {}


def _built_from_source(first: Decision, wanted: Sequence[Extension], query: Query | None) -> Iterator[str]:
    """A warning for each extension: what the build needs, and the torch for which none is."""
    if query:
        alone = query.request._replace(requirements=())
        query = query._replace(request=alone) if query.request != alone else None
    for item in wanted:
        name, other = item.package, query.best((item,)) if query else None
        hint = f"; torch {other.torch} has one: `uvtorch add 'torch=={other.torch}.*' {name}`" if other else ""
        lack = f"no index known for {name} has a build for torch {first.torch} and {first.backend}{hint}"
        needs = item.needs(first.backend)
        yield (
            f"{lack}. uv will build it from source, which needs {needs}, and torch at build time: "
            f'`[tool.uv.extra-build-dependencies] {name} = [{{ requirement = "torch", match-runtime = true }}]` '
            f'or `[tool.uv] no-build-isolation-package = ["{name}"]`'
            if needs
            else f"{lack}; PyPI's may be for another torch or CUDA"
        )

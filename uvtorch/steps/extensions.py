"""`uvtorch add flash-attn`: packages compiled against torch, from the index with their builds, and a torch to match.

Which builds an index has is asked through uv, whose answer is what `uv add` will find.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from uvtorch import cuda_extensions
from uvtorch.argv import forwarded
from uvtorch.backend import Backend, same_url
from uvtorch.catalog import number
from uvtorch.choose import Decision, Request, choose
from uvtorch.cuda_extensions import Extension, Found, Index
from uvtorch.edits import extensions, pin
from uvtorch.index_query import compiled, reason
from uvtorch.project import Choice
from uvtorch.requirement import bare_requirement, named_by
from uvtorch.session import Session, decision_line, requirements_of
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_and_sync
from uvtorch.steps.pins import pins_of
from uvtorch.steps.requested import Requested, words_with
from uvtorch.transaction import content

_RELEASES = 8
"""So many minor releases of torch are asked about: each page of links is a question of its own."""


def add_extensions(session: Session, requested: Sequence[Requested]) -> tuple[int | None, tuple[str, ...]]:
    """Add the extensions that the command line names, with the PyTorch packages `requested` beside them.

    The exit code; None: nothing was done, and the warnings say what to know when uv does it. Raises as
    `Session.decide` does.
    """
    wanted, project = _wanted(session), session.project
    if not wanted:
        return None, ()
    names = " ".join(item.package for item in wanted)
    choice, backend = None, _backend(session, requested)
    requirements = (*(item.text for item in requested), *requirements_of(project))
    if offered := project.selectable():
        choice = next((one for one in offered if one.target == choices.target_of(session.line)), None)
        if requested or choice is None or choice.backend is None:
            return None, (_needs_choice(offered, names),)
        # The bound that wheels need which do not require their torch would hold for all choices.
        wanted = [one._replace(indexes=tuple(index for index in one.indexes if index.declares)) for one in wanted]
        requirements, backend = choices.requirements_of_choice(project, choice), choice.backend
    first = session.decide(requirements, backend)
    query = Query(session, session.request(requirements, backend))
    try:
        found = query.best(first.backend, wanted) if first.backend else None
        if found is None:
            return None, tuple(_built_from_source(first, wanted, query))
    except OutOfReachError as error:
        return None, (f"{error}: {names} is left to uv, and may be built for another torch or CUDA",)
    return _take(session, requested, found, choice), ()


def _needs_choice(offered: Sequence[Choice], names: str) -> str:
    cuda = next((one for one in offered if one.family == "cu"), offered[0])
    option = f"{'--optional' if cuda.kind == 'extra' else '--group'} {cuda.name}"
    return f"{names} is built for one backend: `uvtorch add {option} {names}` adds it to that choice"


def _wanted(session: Session) -> list[Extension]:
    """What the table has of what is named, in a project that takes its PyTorch packages from backends' indexes."""
    project, table = session.project, cuda_extensions.table(session.env)
    own = {source.package for source in project.sources if source.backend is None}
    if session.is_script or session.frozen or any(map(project.is_pinned, own)):
        return []
    have = {source.package for source in project.sources}
    found = {named_by(text) or "": text for text in session.line.positionals}
    new = [name for name in found if name in table.packages.keys() - have and not project.is_pinned(name)]
    return [table.packages[name]._replace(text=found[name]) for name in new]


def _backend(session: Session, requested: Sequence[Requested]) -> Backend | None:
    wanted = session.wanted([item.text for item in requested], here=True)
    pins = () if wanted.insists else pins_of(session)
    return (pins[0].backend if pins else None) or session.backend_for(wanted)


def _take(session: Session, requested: Sequence[Requested], match: "Match", choice: Choice | None) -> int:
    project, file = session.project, session.file()
    packages, pins = tuple(dict.fromkeys(item.package for item in requested)), pins_of(session)
    if choice is None and pins and all(one.backend == match.decision.backend for one in pins):
        pin.like(file, project, packages, pins)
    elif choice is None:
        pin.to(file, project, packages, match.decision, session.index_base)
    extensions.take(file, project, match.found, match.torch, choice)
    rows = ", ".join(f"{item.package} {item.version.partition('+')[0]} from {item.url}" for item in match.found)
    where = f"into {choice.target}" if choice else decision_line(match.decision)
    with session.transaction() as tx:
        tx.say(f"{rows}, built for torch {match.torch}: {where}")
        tx.warn(*(() if choice else match.decision.warnings))
        before = content(session.required_site.lock)
        session.edit(tx, file)
        tx.uv(*words_with(session, requested, match.decision))
        follow_and_sync(session, tx, before)
    return tx.code


# Asking


class OutOfReachError(Exception):
    """An index cannot be asked; the message says which, and why."""


class Match(NamedTuple):
    """A decision, and the minor torch release of it for which every extension has a build."""

    decision: Decision
    torch: str
    found: tuple[Found, ...]


class Query(NamedTuple):
    """Asks the indexes for one session and one request."""

    session: Session
    request: Request

    def best(self, backend: Backend, wanted: Sequence[Extension]) -> Match | None:
        """The newest torch of a backend that runs here and that all of `wanted` have builds for.

        Raises OutOfReachError where an index cannot be asked: that is not a no.
        """
        if not all(item.offered(backend, self._platform) for item in wanted):
            return None
        with self.session.out.working(f"asking for {backend} builds of {', '.join(item.package for item in wanted)}"):
            for decision, torch in islice(self._releases(backend, wanted), _RELEASES):
                found = tuple(takewhile(bool, (self._found(item, backend, torch) for item in wanted)))
                if len(found) == len(wanted):
                    return Match(decision, torch, tuple(filter(None, found)))
        return None

    @property
    def _platform(self) -> str:
        return self.session.machine.platform.key

    def _releases(self, backend: Backend, wanted: Sequence[Extension]) -> Iterator[tuple[Decision, str]]:
        """The decisions for a backend and the minor torch releases worth a question, newest first."""
        known = self.session.catalog
        newest = min((number(limit) for item in wanted if (limit := self._newest(backend, item))), default=None)
        minors = dict.fromkeys(release.rpartition(".")[0] for release in reversed(list(known.releases)))
        for minor in (one for one in minors if newest is None or number(one) <= newest):
            texts = (*self.request.requirements, f"torch=={minor}.*")
            request = self.request._replace(requirements=texts, backend=backend)
            decision = choose(self.session.machine, request, known)
            if decision.backend == backend and not decision.refusal:
                yield decision, minor

    def _newest(self, backend: Backend, item: Extension) -> str | None:
        """The newest minor torch release that an extension's builds require; None where that takes more questions."""
        indexes = item.offered(backend, self._platform)
        if not all(index.declares for index in indexes):
            return None
        answers = (self._resolve(index, backend, item, "torch") for index in indexes)
        minors = (answer["torch"].partition("+")[0].rpartition(".")[0] for answer in answers if answer)
        return max(minors, key=number, default="0")

    def _found(self, item: Extension, backend: Backend, torch: str) -> Found | None:
        """Where an extension has a build for a backend and a minor torch release."""
        for index in item.offered(backend, self._platform):
            url = index.located(backend, torch, self.session.index_base)
            exact = index.builds.get((torch, backend))
            if index.declares:
                versions = self._resolve(index, backend, item, f"torch=={torch}.*")
            elif index.builds and exact is None:
                continue
            else:
                text = f"{bare_requirement(item.text)}=={exact}" if exact else item.text
                versions = self._ask(("--no-index", "--find-links", url, "--no-deps", "--no-config"), [text], url)
            if version := versions.get(item.package):
                return Found(item.package, version, index, index.written_name(backend, torch), url)
        return None

    def _resolve(self, index: Index, backend: Backend, item: Extension, torch: str) -> dict[str, str]:
        """What uv makes of an extension and torch, each from its index and what else they need from the user's."""
        url, base = index.located(backend, "", self.session.index_base), self.session.index_base
        indexes = [word for place in dict.fromkeys((url, backend.index_url(base))) for word in ("--index", place)]
        options = (*indexes, "--emit-index-annotation", *forwarded(self.session.line, "pip compile"))
        versions = self._ask(options, [item.text, torch, *self.request.requirements], url)
        # Another index may have the package as well, with builds for who knows which torch.
        return versions if same_url(url, versions.get(f"{item.package} from")) else {}

    def _ask(self, options: Sequence[str], texts: Sequence[str], url: str) -> dict[str, str]:
        """Name -> version as uv resolves these requirements for this machine from wheels; empty where it cannot."""
        words, python = ("--no-build", *options), self.request.python
        code, versions, err = compiled(self.session.uv, words, texts, self._platform, python, patient=False)
        if code > 1 and "HTTP status client error (4" not in err:
            raise OutOfReachError(f"{url} could not be asked{reason(err)}")
        return versions if code == 0 else {}


def _built_from_source(first: Decision, wanted: Sequence[Extension], query: Query) -> Iterator[str]:
    """A line for each extension: what is built, what for, what that needs; and the torch that would spare it."""
    backend = first.backend
    for item in wanted:
        name, needs = item.package, item.needs(backend)
        alone = query._replace(request=query.request._replace(requirements=()))
        other = alone.best(backend, (item,)) if backend and query.request.requirements else None
        hint = f"; torch {other.torch} has one: `uvtorch add 'torch=={other.torch}.*' {name}`" if other else ""
        lack = f"no index known for {name} has a build for torch {first.torch} and {backend}{hint}"
        yield (
            f"{lack}. uv will build it from source, which needs {needs}, and torch at build time: "
            f'`[tool.uv.extra-build-dependencies] {name} = [{{ requirement = "torch", match-runtime = true }}]` '
            f'or `[tool.uv] no-build-isolation-package = ["{name}"]`'
            if needs
            else f"{lack}; PyPI's may be for another torch or CUDA"
        )

"""Which builds the indexes of CUDA extensions have: asked through uv, whose answer is what `uv add` will find."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from uvtorch.argv import forwarded
from uvtorch.backend import Backend, same_url
from uvtorch.catalog import number
from uvtorch.choose import Decision, Request, choose
from uvtorch.cuda_extensions import Extension, Index
from uvtorch.edits.extensions import Found
from uvtorch.index_query import compiled, reason
from uvtorch.requirement import bare_requirement
from uvtorch.session import Session

_RELEASES = 8
"""So many minor releases of torch are asked about: each page of links is a question of its own."""


class OutOfReachError(Exception):
    """An index cannot be asked; the message says which, and why."""


class Match(NamedTuple):
    """A backend and a minor torch release for which every extension has a build."""

    decision: Decision
    backend: Backend
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
                if found := self._at(backend, torch, wanted):
                    return Match(decision, backend, torch, found)
        return None

    @property
    def _platform(self) -> str:
        return self.session.machine.platform.key

    def _releases(self, backend: Backend, wanted: Sequence[Extension]) -> Iterator[tuple[Decision, str]]:
        """The decisions for a backend and the minor torch releases worth a question, newest first."""
        known = self.session.catalog
        newest = min((number(limit) for item in wanted if (limit := self._newest(backend, item))), default=None)
        for minor in dict.fromkeys(release.rpartition(".")[0] for release in reversed(list(known.releases))):
            if newest and number(minor) > newest:
                continue
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

    def _at(self, backend: Backend, torch: str, wanted: Sequence[Extension]) -> tuple[Found, ...]:
        found = []
        for item in wanted:
            answers = (
                (index, self._version(index, backend, torch, item)) for index in item.offered(backend, self._platform)
            )
            first = next((Found(item.package, index, version) for index, version in answers if version), None)
            if first is None:
                return ()
            found.append(first)
        return tuple(found)

    def _version(self, index: Index, backend: Backend, torch: str, item: Extension) -> str | None:
        """The version of an extension that an index has for a backend and a minor torch release."""
        if index.declares:
            return self._resolve(index, backend, item, f"torch=={torch}.*").get(item.package)
        exact = index.builds.get((torch, backend))
        if index.builds and exact is None:
            return None
        text = f"{bare_requirement(item.text)}=={exact}" if exact else item.text
        url = index.located(backend, torch, self.session.index_base)
        places = ["--no-index", "--find-links", url]
        return self._ask([*places, "--no-deps", "--no-config"], [text], url).get(item.package)

    def _resolve(self, index: Index, backend: Backend, item: Extension, torch: str) -> dict[str, str]:
        """What uv makes of an extension and torch, each from its index and what else they need from the user's."""
        base = self.session.index_base
        url, own = index.located(backend, "", base), backend.index_url(base)
        places = ["--index", url, *(["--index", own] if own != url else []), "--emit-index-annotation"]
        texts = [item.text, torch, *self.request.requirements]
        versions = self._ask([*places, *forwarded(self.session.line, "pip compile")], texts, url)
        # Another index may have the package as well, with builds for who knows which torch.
        return versions if same_url(url, versions.get(f"{item.package} from")) else {}

    def _ask(self, options: Sequence[str], texts: Sequence[str], url: str) -> dict[str, str]:
        """Name -> version as uv resolves these requirements for this machine from wheels; empty where it cannot."""
        options = ("--no-build", *options)
        code, versions, err = compiled(
            self.session.uv, options, texts, self._platform, self.request.python, patient=False
        )
        if code > 1 and "HTTP status client error (4" not in err:
            raise OutOfReachError(f"{url} could not be asked{reason(err)}")
        return versions if code == 0 else {}


def built_from_source(first: Decision, wanted: Sequence[Extension], query: Query) -> Iterator[str]:
    """A line for each extension: what is built, what for, what that needs; and the torch that would spare it."""
    backend = first.backend
    for item in wanted:
        needs = item.needs(backend)
        alone = query._replace(request=query.request._replace(requirements=()))
        other = alone.best(backend, (item,)) if backend and query.request.requirements else None
        name = item.package
        hint = f"; torch {other.torch} has one: `uvtorch add 'torch=={other.torch}.*' {name}`" if other else ""
        lack = f"no index known for {name} has a build for torch {first.torch} and {backend}{hint}"
        if not needs:
            yield f"{lack}; PyPI's may be for another torch or CUDA"
            continue
        yield (
            f"{lack}. uv will build it from source, which needs {needs}, and torch at build time: "
            f'`[tool.uv.extra-build-dependencies] {name} = [{{ requirement = "torch", match-runtime = true }}]` '
            f'or `[tool.uv] no-build-isolation-package = ["{name}"]`'
        )

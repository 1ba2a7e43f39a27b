"""Which builds the indexes of CUDA extensions have: asked through uv, whose answer is what `uv add` will find."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from uvtorch import uv
from uvtorch.argv import carried
from uvtorch.backend import Backend
from uvtorch.catalog import number
from uvtorch.choose import Decision, Request, choose
from uvtorch.cuda_extensions import Extension, Index
from uvtorch.edits.extensions import Found
from uvtorch.index_query import answered, reason, target
from uvtorch.requirement import bare_requirement
from uvtorch.session import Session

_RELEASES = 8
"""So many minor releases of torch are asked about: each page of links is a question of its own."""


class OutOfReachError(Exception):
    """An index cannot be asked; the message says which, and why."""


class Wanted(NamedTuple):
    """An extension that the command line adds and the project has no source for."""

    extension: Extension
    text: str

    @property
    def package(self) -> str:
        """Its normalized name."""
        return self.extension.package


class Match(NamedTuple):
    """A backend and a minor torch release for which every extension has a build."""

    decision: Decision
    torch: str
    found: tuple[Found, ...]


class Query(NamedTuple):
    """Asks the indexes for one session and one request."""

    session: Session
    request: Request

    def best(self, backend: Backend, wanted: Sequence[Wanted]) -> Match | None:
        """The newest torch of a backend that runs here and that all of `wanted` have builds for.

        Raises OutOfReachError where an index cannot be asked: that is not a no.
        """
        if not all(item.extension.offered(backend, self._platform) for item in wanted):
            return None
        with self.session.out.working(f"asking for {backend} builds of {', '.join(item.package for item in wanted)}"):
            for decision, torch in islice(self._releases(backend, wanted), _RELEASES):
                found = self._at(backend, torch, wanted)
                if found:
                    return Match(decision, torch, found)
        return None

    @property
    def _platform(self) -> str:
        return self.session.machine.platform.key

    def _releases(self, backend: Backend, wanted: Sequence[Wanted]) -> Iterator[tuple[Decision, str]]:
        """The decisions for a backend and the minor torch releases worth a question, newest first."""
        known = self.session.catalog
        minors = dict.fromkeys(release.rpartition(".")[0] for release in reversed(list(known.releases)))
        limits = [limit for item in wanted for limit in [self._newest(backend, item)] if limit]
        newest = min(limits, key=number, default=None)
        for minor in minors:
            if newest and number(minor) > number(newest):
                continue
            texts = (*self.request.requirements, f"torch=={minor}.*")
            request = self.request._replace(requirements=texts, backend=backend)
            decision = choose(self.session.machine, request, known)
            if decision.backend == backend and not decision.refusal:
                yield decision, minor

    def _newest(self, backend: Backend, item: Wanted) -> str | None:
        """The newest minor torch release that an extension's builds require; None where only a page tells."""
        newest: list[str] = []
        for index in item.extension.offered(backend, self._platform):
            if index.builds:
                newest += [torch for torch, named in index.builds if named == backend]
            elif not index.declares:
                return None
            else:
                versions = self._resolve(index, backend, item, "torch")
                if versions:
                    newest.append(versions["torch"].partition("+")[0].rpartition(".")[0])
        return max(newest, key=number, default="0")

    def _at(self, backend: Backend, torch: str, wanted: Sequence[Wanted]) -> tuple[Found, ...]:
        found = []
        for item in wanted:
            for index in item.extension.offered(backend, self._platform):
                version = self._version(index, backend, torch, item)
                if version:
                    found.append(Found(item.package, index, version))
                    break
            else:
                return ()
        return tuple(found)

    def _version(self, index: Index, backend: Backend, torch: str, item: Wanted) -> str | None:
        if index.builds:
            version = index.version(backend, torch)
            text = item.text if version is None else f"{bare_requirement(item.text)}=={version}"
            return version if version and self._listed(index, backend, torch, item, text) else None
        if not index.declares:
            return self._listed(index, backend, torch, item, item.text)
        versions = self._resolve(index, backend, item, f"torch=={torch}.*")
        return versions.get(item.package) if versions else None

    def _listed(self, index: Index, backend: Backend, torch: str, item: Wanted, text: str) -> str | None:
        """The version that a page of links has."""
        url = index.located(backend, torch, self.session.index_base)
        places = ["--no-index", "--find-links", url]
        versions = self._ask([*places, "--no-deps", "--no-config"], [text], url)
        return versions.get(item.package) if versions else None

    def _resolve(self, index: Index, backend: Backend, item: Wanted, torch: str) -> dict[str, str] | None:
        """What uv makes of an extension and torch, each from its index and what else they need from the user's."""
        base = self.session.index_base
        url, own = index.located(backend, "", base), backend.index_url(base)
        places = ["--index", url, *(["--index", own] if own != url else []), "--emit-index-annotation"]
        texts = [item.text, torch, *self.request.requirements]
        versions = self._ask([*places, *carried(self.session.line)], texts, url)
        # Another index may have the package as well, with builds for who knows which torch.
        return versions if versions and versions.get(f"{item.package} from") == url.rstrip("/") else None

    def _ask(self, options: list[str], texts: Sequence[str], url: str) -> dict[str, str] | None:
        """Name -> version as uv resolves these requirements for this machine from wheels; None where it cannot."""
        command = ["pip", "compile", "-q", "--no-header", "--no-build", "--no-annotate", *options]
        command += target(self._platform, self.request.python)
        code, out, err = uv.ask(self.session.uv, [*command, "-"], given="\n".join(texts) + "\n", patient=False)
        if code == 1 or (code and "HTTP status client error (4" in err):
            return None
        if code:
            raise OutOfReachError(f"{url} could not be asked{reason(err)}")
        return answered(out)


def told(match: Match, base: str) -> str:
    """The clause that tells a match: `flash-attn 2.8.3 from https://…, built for torch 2.12`."""
    backend = match.decision.backend
    assert backend is not None
    rows = [
        f"{item.package} {item.version.partition('+')[0]} from {item.index.located(backend, match.torch, base)}"
        for item in match.found
    ]
    return f"{', '.join(rows)}, built for torch {match.torch}"


def built_from_source(first: Decision, wanted: Sequence[Wanted], query: Query) -> Iterator[str]:
    """A line for each extension: what is built, what for, what that needs; and the torch that would spare it."""
    backend = first.backend
    for item in wanted:
        needs = item.extension.build.needs(backend)
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

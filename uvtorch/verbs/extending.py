"""`uvtorch add flash-attn`: packages compiled against torch, from the index with their builds, and a torch to match.

An index is asked through uv, which resolves the package together with torch: its answer is what `uv add` will find.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from uvtorch import extensions, uv
from uvtorch.argv import CommandLine, carried
from uvtorch.errors import NoBuild
from uvtorch.packages import bare_requirement, named_by
from uvtorch.verbs.deciding import (
    Asked,
    Opened,
    Requested,
    UvFinder,
    asked,
    decide,
    index_base,
    interpreter,
    requirements_of,
)

if TYPE_CHECKING:
    from uvtorch.backend import Backend
    from uvtorch.choose import Decision, Request
    from uvtorch.edit import Operation
    from uvtorch.extensions import Extension, Extensions, Index
    from uvtorch.machine import Machine
    from uvtorch.plan import Plan
    from uvtorch.project import Choice, Project, Source


_RELEASES = 8
"""So many minor releases of torch are asked about: each page of links is a question of its own."""


class Wanted(NamedTuple):
    """An extension that the command line adds and the project has no source for."""

    extension: "Extension"
    text: str
    at: int
    """Where it stands in `CommandLine.argv`."""


class Found(NamedTuple):
    """Where an extension is taken from."""

    wanted: Wanted
    place: "Index"
    version: str
    """What the index has; for one page with every build, what has to be named."""


class Match(NamedTuple):
    """A backend and a minor torch release for which every extension has a build."""

    decision: "Decision"
    torch: str
    found: tuple[Found, ...]


def requested(line: CommandLine, env: Mapping[str, str], project: "Project") -> tuple[Wanted, ...]:
    """The extensions among the requirements, those left out for which the project has a source."""
    have = {source.package for source in project.sources}
    found = []
    rows: Extensions | None = None
    for text, at in zip(line.positionals, line.positionals_at, strict=True):
        name = named_by(text)
        if name is None or name in have or project.is_pinned(name):
            continue
        rows = rows or extensions.table(env)
        if name in rows.packages:
            found.append(Wanted(rows.packages[name], text, at))
    return tuple(found)


def matched(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    wanted: tuple[Wanted, ...],
    requirements: Sequence[str],
    pins: "tuple[Source, ...]",
    find_uv: UvFinder,
) -> "Match | tuple[str, ...]":
    """The newest torch that this machine runs and that all of `wanted` have builds for; else what is built instead.

    `requirements` are the command line's of PyTorch packages; a project that is pinned keeps its backend.
    Raises NoBuild where an index cannot be asked: a network failure is not a no; and as `decide` does.
    """
    from uvtorch.choose import Request
    from uvtorch.hardware import detect

    machine = detect(env)
    base = index_base(env, opened.project)
    said = asked(line, env, tuple(requirements), machine)
    request = Request(
        requirements=(*requirements, *requirements_of(opened.project)),
        python=interpreter(line, env, opened.site),
        requires_python=opened.project.requires_python,
        backend=_backend(said, opened.project, pins),
    )
    first = decide(machine, request, base, find_uv)
    seeker = _Seeker(line, machine, request, base, find_uv)
    for backend in _backends(first):
        match = seeker.best(backend, wanted)
        if match:
            return match
    return tuple(_built(first, wanted, seeker))


def _backend(said: Asked, project: "Project", pins: "tuple[Source, ...]") -> "Backend | None":
    pinned = next((pin.backend for pin in pins), None)
    if said.backend or (said.auto and not pinned):
        return said.backend
    return pinned or project.config.backend


def _backends(decision: "Decision") -> "list[Backend]":
    """The backend that was decided on, then the others that would run here, as the choice ranks them."""
    if decision.backend is None:
        return []
    accepted = [row.backend for row in decision.candidates if row.accepted]
    family = [backend for backend in accepted if backend.family == decision.backend.family]  # never a silent CPU build
    return list(dict.fromkeys([decision.backend, *family]))


class _Seeker(NamedTuple):
    """Asks the indexes."""

    line: CommandLine
    machine: "Machine"
    request: "Request"
    base: str
    find_uv: UvFinder

    def best(self, backend: "Backend", wanted: tuple[Wanted, ...]) -> Match | None:
        """The newest torch of a backend that runs here and that all of `wanted` have builds for."""
        platform = self.machine.platform.key
        if not all(item.extension.offered(backend, platform) for item in wanted):
            return None
        for decision, torch in islice(self._releases(backend, wanted), _RELEASES):
            found = self._at(backend, torch, wanted)
            if found:
                return Match(decision, torch, found)
        return None

    def _releases(self, backend: "Backend", wanted: tuple[Wanted, ...]) -> "Iterator[tuple[Decision, str]]":
        """The decisions for a backend and the minor torch releases worth a question, newest first."""
        from uvtorch import catalog
        from uvtorch.choose import choose

        known = catalog.load()
        minors = dict.fromkeys(release.rpartition(".")[0] for release in reversed(known.releases))
        limits = [limit for item in wanted for limit in [self._newest(backend, item)] if limit]
        newest = min(limits, key=catalog.number, default=None)
        for minor in minors:
            if newest and catalog.number(minor) > catalog.number(newest):
                continue
            texts = (*self.request.requirements, f"torch=={minor}.*")
            decision = choose(self.machine, self.request._replace(requirements=texts, backend=backend), known)
            if decision.backend == backend and not decision.refusal:
                yield decision, minor

    def _newest(self, backend: "Backend", item: Wanted) -> str | None:
        """The newest minor torch release that an extension's builds require; None where only a page tells."""
        newest: list[str] = []
        for index in item.extension.offered(backend, self.machine.platform.key):
            if index.builds:
                newest += [torch for torch, named in index.builds if named == backend]
            elif not index.declares:
                return None
            else:
                versions = self._resolve(index, backend, item, "torch")
                if versions:
                    newest.append(versions["torch"].partition("+")[0].rpartition(".")[0])
        from uvtorch.catalog import number

        return max(newest, key=number, default="0")

    def _at(self, backend: "Backend", torch: str, wanted: tuple[Wanted, ...]) -> tuple[Found, ...]:
        found = []
        for item in wanted:
            for index in item.extension.offered(backend, self.machine.platform.key):
                version = self._version(index, backend, torch, item)
                if version:
                    found.append(Found(item, index, version))
                    break
            else:
                return ()
        return tuple(found)

    def _version(self, index: "Index", backend: "Backend", torch: str, item: Wanted) -> str | None:
        if index.builds:
            version = index.version(backend, torch)
            text = item.text if version is None else f"{bare_requirement(item.text)}=={version}"
            return version if version and self._listed(index, backend, torch, item, text) else None
        if not index.declares:
            return self._listed(index, backend, torch, item, item.text)
        versions = self._resolve(index, backend, item, f"torch=={torch}.*")
        return versions.get(item.extension.package) if versions else None

    def _listed(self, index: "Index", backend: "Backend", torch: str, item: Wanted, text: str) -> str | None:
        """The version that a page of links has."""
        url = index.located(backend, torch, self.base)
        places = ["--no-index", "--find-links", url]
        versions = self._ask([*places, "--no-deps", "--no-config"], [text], url)
        return versions.get(item.extension.package) if versions else None

    def _resolve(self, index: "Index", backend: "Backend", item: Wanted, torch: str) -> dict[str, str] | None:
        """What uv makes of an extension and torch, each from its index and what else they need from the user's."""
        url, own = index.located(backend, "", self.base), backend.index_url(self.base)
        places = ["--index", url, *(["--index", own] if own != url else []), "--emit-index-annotation"]
        texts = [item.text, torch, *self.request.requirements]
        versions = self._ask([*places, *carried(self.line)], texts, url)
        # Another index may have the package as well, with builds for who knows which torch.
        return versions if versions and versions.get(f"{item.extension.package} from") == url.rstrip("/") else None

    def _ask(self, options: list[str], texts: Sequence[str], url: str) -> dict[str, str] | None:
        """Name -> version as uv resolves these requirements for this machine from wheels; None where it cannot."""
        from uvtorch.asking import target

        command = ["pip", "compile", "-q", "--no-header", "--no-build", "--no-annotate", *options]
        command += target(self.machine.platform.key, self.request.python)
        code, out, err = uv.ask(self.find_uv(), [*command, "-"], given="\n".join(texts) + "\n")
        if code == 1 or (code and "HTTP status client error (4" in err):
            return None
        if code:
            reasons = [row.strip() for row in err.splitlines() if "cause:" in row or row.startswith("error:")]
            reason = "".join(f" ({row.partition(': ')[2]})" for row in reasons[-1:])
            raise NoBuild(f"{url} could not be asked{reason}", "try again when the index answers")
        return _answered(out)


def _answered(out: str) -> dict[str, str]:
    """`uv pip compile`'s output: name -> version, and `name from` -> the index it comes from."""
    found: dict[str, str] = {}
    last = ""
    for row in out.splitlines():
        text = row.strip()
        if text.startswith("# from "):
            found[f"{last} from"] = text.removeprefix("# from ").rstrip("/")
        elif "==" in text and not text.startswith("#"):
            last, _, version = text.partition(";")[0].strip().partition("==")
            found[last] = version.partition(" ")[0]
    return found


def _built(first: "Decision", wanted: tuple[Wanted, ...], seeker: _Seeker) -> Iterator[str]:
    """A line for each extension: what is built, what for, what that needs; and the torch that would spare it."""
    backend = first.backend
    for item in wanted:
        name = item.extension.package
        needs = item.extension.build.needs(backend)
        alone = seeker._replace(request=seeker.request._replace(requirements=()))
        other = alone.best(backend, (item,)) if backend and seeker.request.requirements else None
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


def compile_add(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    wanted: tuple[Wanted, ...],
    requested: tuple[Requested, ...],
    find_uv: UvFinder,
) -> "Plan | tuple[str, ...]":
    """`add` of extensions that have a build, with the PyTorch packages of the same command line.

    Where they have none, the lines that say what is built from source: the rest goes on without them.
    """
    from uvtorch import pinning
    from uvtorch.plan import Plan
    from uvtorch.verbs.deciding import decision_line, edited, pins_of
    from uvtorch.verbs.transitive import follow

    project, site = opened.project, opened.site
    pins = pins_of(project)
    match = matched(line, env, opened, wanted, [item.text for item in requested], pins, find_uv)
    if not isinstance(match, Match):
        return match
    packages = tuple(dict.fromkeys(item.package for item in requested))
    base = index_base(env, project)
    if pins and all(pin.backend == match.decision.backend for pin in pins):
        edits = pinning.like(project, packages, pins)
    else:
        edits = pinning.operations(project, packages, match.decision, base)
    argv = [*line.argv]
    bounds = dict(match.decision.bounds)
    for item in requested:
        if item.at is not None:
            text = pinning.unlocalized(item.text)
            argv[item.at] = pinning.bounded(text, bounds[item.package]) if item.package in bounds else text
    decision = f"{told(match, base)}: {decision_line(match.decision)}"
    plan = Plan((tuple(argv),), edited(opened, [*edits, *operations(project, match, base)]))
    plan = plan._replace(guarded=(site.manifest.path, site.lock), styled=(site.manifest.path,), decisions=(decision,))
    plan = plan._replace(warnings=(*match.decision.warnings, *_undeclared(project, match, packages)))
    return plan._replace(then=follow(line, env, find_uv, site.lock))


def compile_choice(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    wanted: tuple[Wanted, ...],
    choices: "tuple[Choice, ...]",
    find_uv: UvFinder,
) -> "Plan | tuple[str, ...]":
    """The same in a project of several backends, for the choice that `--optional` or `--group` names.

    Only from indexes whose wheels require their torch: a bound would hold for all choices. Without such a target, or
    without a build, the lines that say so.
    """
    from uvtorch.choose import Request
    from uvtorch.hardware import detect
    from uvtorch.plan import Plan
    from uvtorch.verbs.deciding import edited
    from uvtorch.verbs.several import requirements_of_choice, target_of
    from uvtorch.verbs.transitive import follow

    names = " ".join(item.extension.package for item in wanted)
    target = target_of(line)
    choice = next((one for one in choices if one.target == target and one.backend), None)
    if choice is None or choice.backend is None:
        first = next((one for one in choices if one.backend and one.backend.family == "cu"), choices[0])
        option = f"{'--optional' if first.kind == 'extra' else '--group'} {first.name}"
        return (f"{names} is built for one backend: `uvtorch add {option} {names}` adds it to that choice",)
    project, site = opened.project, opened.site
    own = tuple(
        item._replace(
            extension=item.extension._replace(indexes=tuple(one for one in item.extension.indexes if one.declares))
        )
        for item in wanted
    )
    base, machine = index_base(env, project), detect(env)
    request = Request(
        requirements=requirements_of_choice(project, choice),
        python=interpreter(line, env, site),
        requires_python=project.requires_python,
        backend=choice.backend,
    )
    seeker = _Seeker(line, machine, request, base, find_uv)
    match = seeker.best(choice.backend, own)
    if match is None:
        return tuple(_built(decide(machine, request, base, find_uv), own, seeker))
    edits = edited(opened, operations(project, match, base, choice))
    guarded = (site.manifest.path, site.lock)
    said = (f"{told(match, base)}: into {choice.target}",)
    return Plan((tuple(line.argv),), edits, guarded, said, then=follow(line, env, find_uv, site.lock))


def _undeclared(project: "Project", match: Match, packages: tuple[str, ...]) -> Iterator[str]:
    """The warning that torch is not installed with what does not say it needs it."""
    silent = [item.wanted.extension.package for item in match.found if not item.place.declares]
    if silent and not {*project.pytorch_packages(), *packages}.intersection(("torch",)):
        yield f"{', '.join(silent)} does not require torch by itself: `uvtorch add torch` adds it"


def operations(project: "Project", match: Match, base: str, choice: "Choice | None" = None) -> "list[Operation]":
    """The edits that take the extensions of a match from their indexes, explicitly, and keep torch at its release.

    `choice`: for this backend choice only.

    The source has no marker: where the index has no wheel uv says so, instead of building PyPI's on that platform.
    """
    from uvtorch import edit
    from uvtorch.packages import ANCHORS

    backend = match.decision.backend
    assert backend is not None
    group = edit.Target("group", ANCHORS)
    edits: list[Operation] = []
    for item in match.found:
        package, url = item.wanted.extension.package, item.place.located(backend, match.torch, base)
        name = item.place.written_name(backend, match.torch)
        name = next((one.name for one in project.indexes if one.name and one.url.rstrip("/") == url.rstrip("/")), name)
        selected = {choice.kind: choice.name} if choice else {}
        edits += [edit.SetSources(package, (edit.Source(name, **selected),))]
        edits += [edit.SetIndex(name, url, flat=item.place.flat)]
        if item.place.builds:
            edits.append(edit.SetRequirement(group, package, f"{package}=={item.version}"))
    if not all(item.place.declares for item in match.found):
        edits.append(edit.SetRequirement(group, "torch", f"torch=={match.torch}.*"))
    return edits


def told(match: Match, base: str) -> str:
    """The clause that tells a match: `flash-attn 2.8.3 (built for torch 2.12 and cu130) from https://…`."""
    backend = match.decision.backend
    assert backend is not None
    rows = [
        f"{item.wanted.extension.package} {item.version.partition('+')[0]}"
        f" from {item.place.located(backend, match.torch, base)}"
        for item in match.found
    ]
    return f"{', '.join(rows)}, built for torch {match.torch}"


def abandoned(project: "Project", env: Mapping[str, str], gone: set[str]) -> "list[Operation]":
    """The edits beside `uv remove` of extensions: indexes that uvtorch wrote for them, bounds that they needed."""
    from uvtorch import edit
    from uvtorch.packages import ANCHORS

    rows = extensions.table(env)
    leaving = gone & rows.packages.keys()
    if not leaving:
        return []
    group = edit.Target("group", ANCHORS)
    kept = {source.index for source in project.sources if source.package not in leaving}
    used = {source.index for source in project.sources if source.package in leaving} - kept
    edits: list[Operation] = [
        edit.RemoveIndex(one.name)
        for one in project.indexes
        if one.name and one.name in used and not one.inherited and rows.wrote(one.name, one.url)
    ]
    anchors = [item for item in project.requirements if item.target.name == ANCHORS]
    exact = [item.package for item in anchors if item.package in leaving]
    edits += [edit.RemoveRequirement(group, name) for name in exact]
    silent = {name for name, index in rows.indexes.items() if not index.declares}
    bound = any((source.index or "").partition("-")[0] in silent for source in project.sources if source.index in kept)
    for item in anchors:
        if item.package == "torch" and "==" in item.text and not bound and used:
            direct = "torch" in {one.package for one in project.requirements if one.target.name != ANCHORS}
            edits.append(
                edit.RemoveRequirement(group, "torch") if direct else edit.SetRequirement(group, "torch", "torch")
            )
            if direct and len(anchors) == len(exact) + 1:
                edits.append(edit.RemoveTarget(group))
    return edits

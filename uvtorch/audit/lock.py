"""What is wrong in uv.lock. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from uvtorch import edits
from uvtorch.audit import USE, Case, Finding, Installed, Package, error, installed, warning
from uvtorch.backend import PLATFORMS, from_url, parse, same_url
from uvtorch.catalog import Catalog, number
from uvtorch.choose.compatibility import platform_name
from uvtorch.packages import has_build, roles
from uvtorch.project import Environment, Index, Project, Source
from uvtorch.project.indexes import catalogued
from uvtorch.project.lock import Lock, stray
from uvtorch.project.model import BASE, GROUP
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import MAIN_PLATFORMS


def check(case: Case, lock: Lock) -> Iterator[Finding]:
    """What is wrong in the lock: where packages come from, and whether the builds of an environment fit together."""
    yield from _generic(case, lock)
    # Intel Macs and Windows on Arm have few builds, and those from PyPI.
    seen = installed(lock, case.exports, dict.fromkeys((case.machine.platform, *MAIN_PLATFORMS)))
    # Every index has the same builds for macOS.
    built = [(one, _builds(case, one)) for one in seen if one.platform.system != "macos"]
    mixes: dict[tuple[str, ...], list[tuple[Installed, Builds]]] = {}
    for one, builds in built:
        if len({*builds.values()}) > 1:
            mixes.setdefault(tuple(package.name for package in builds), []).append((one, builds))
    for names, places in mixes.items():
        yield _mixed(case, lock, names, places)
    leaks = _leaks(case, lock)
    yield from _strays(case, lock, built, {name for names in (*mixes, *leaks.values()) for name in names})
    yield from _mismatches(case.project, seen)
    yield from _without_wheels(case, seen)
    for (name, url), packages in leaks.items():
        what = (
            f"{', '.join(packages)} comes from {url} because {name}, which comes from a repository or a path, says so "
            "in its own `[tool.uv.sources]`: that decides the build here, and a pin of another backend would "
            f"contradict it. Pin the packages here to the same index, or take {name} as a package without sources."
        )
        yield warning("source-leaked", what)


def _generic(case: Case, lock: Lock) -> Iterator[Finding]:
    project = case.project
    right = {*roles(), *project.config.packages, *(source.package for source in project.every_source)}
    copies: dict[str, dict[str, str]] = {}
    for one in lock.packages:
        if one.kind == "registry" and one.name not in right:
            copies.setdefault(one.location, {})[one.name] = f"{one.name} {one.version}"
    for url, named in copies.items():
        known = (index for index in project.indexes if same_url(index.url, url))
        index = next(known, Index(None, url, legacy=True))
        if index.default or not case.serves_pytorch(index):
            continue
        names = ", ".join([*named.values()][:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
        what = (
            f"The lock takes {names} from {url}, which has old copies of such packages; uv looks no further once it "
            "finds one. Locking again moves them once the index is explicit."
        )
        fix = case.fix_in_root(index)
        yield error("generic-from-pytorch-index", what, fix, upgrade=() if fix or index.legacy else tuple(named))


def _leaks(case: Case, lock: Lock) -> dict[tuple[str, str], dict[str, None]]:
    """(a dependency, the index that its own sources bring) -> the PyTorch packages from there."""
    project = case.project
    known = [index.url for one in project.with_members for index in one.indexes]
    local = {one.name for one in lock.packages if one.kind not in ("registry", "virtual")} - case.names
    found: dict[tuple[str, str], dict[str, None]] = {}
    for package in lock.packages:
        foreign = package.kind == "registry" and not same_url(package.location, *known)
        if foreign and package.backend and project.is_pytorch(package.name):
            for name in local.intersection(lock.dependents(package.name)):
                found.setdefault((name, package.location), {})[package.name] = None
    return found


# What environments get

Builds = dict[Package, str]
"""What one environment gets, each with the backend that it was built for, where that is known."""


def _builds(case: Case, one: Installed) -> Builds:
    return {package: build for package in one.packages if (build := _build_of(case, package, one))}


def _build_of(case: Case, package: Package, one: Installed) -> str | None:
    """The name of the backend that a package was built for.

    None where that is not known, and where neither its name nor the sources ask for a backend's index.
    """
    if not case.project.is_pinned(package.name) or any(_exempts(source, package) for source in case.project.sources):
        return None
    _, plus, local = package.version.partition("+")
    if plus or not package.url:
        return local if parse(local) else None
    if from_url(package.url):
        backend = catalogued(package.url, package.name)
        return backend.name if backend else None
    # torchtext and most releases of torchcodec are the same for every backend.
    torchs = package.name in ("torch", "torchvision", "torchaudio")
    if not torchs and package.version not in case.catalog.with_cuda.get(package.name, ()):
        return None
    pypi, _ = case.catalog.on_pypi(one.torch, one.platform.key)
    return pypi.name if pypi else "PyPI's own build"


def _exempts(source: Source, package: Package) -> bool:
    if source.package != package.name or source.kind != "index":
        return source.package == package.name
    return same_url(source.url, package.url) and not catalogued(package.url, package.name)


def _mixed(case: Case, lock: Lock, names: tuple[str, ...], places: Sequence[tuple[Installed, Builds]]) -> Finding:
    labels = dict.fromkeys(one.label for one, _ in places)
    options = f" with `{'`, `'.join(labels)}`" if all(labels) else ""
    builds = ", ".join(f"{package.name} {package.version} ({build})" for package, build in places[0][1].items())
    what = (
        f"One environment gets builds of different backends: {builds}, on "
        f"{_platforms({one.platform.key for one, _ in places})}{options}. "
        "Their compiled parts do not fit together: importing or using them fails."
    )
    # The odd ones, be it torch itself, are those that no source reaches; else the lock is older than the sources.
    sourced = {one.package for one in case.project.sources if one.kind == "index" and one.backend}
    others = [name for name in names if name not in sourced & _required_always(case.project)]
    return _routed(case, lock, others, "mixed-builds", what) if others else error("mixed-builds", what, upgrade=names)


def _strays(
    case: Case, lock: Lock, built: Iterable[tuple[Installed, Builds]], explained: set[str]
) -> Iterator[Finding]:
    found: dict[str, tuple[Package, set[str]]] = {}
    for one, builds in built:
        elsewhere = stray(lock, case.project, Environment(one.platform))
        for package in builds:
            urls = [row.location for row in elsewhere if row.name == package.name]
            if same_url(package.url, *urls) and package.name not in explained:
                found.setdefault(package.name, (package, set()))[1].add(one.platform.key)
    for name, (package, platforms) in found.items():
        what = f"{name} {package.version} comes from {package.url} on {_platforms(platforms)}, though the project "
        yield _stray(case, lock, name, what)


def _stray(case: Case, lock: Lock, name: str, what: str) -> Finding:
    required = name in {item.package for item in case.project.every_requirement}
    if required and name in {source.package for source in case.project.sources}:
        what += "has a source for it: the lock is not made from this pyproject.toml."
        return error("lock-outdated", what, upgrade=(name,))
    users = [] if required else [user for user in lock.dependents(name) if user != case.project.name]
    what += "pins its PyTorch packages. A source reaches only what the project itself requires and names"
    what += f"; {', '.join(users[:3])} needs it." if users else "."
    return _routed(case, lock, [name], "not-anchored", what)


# Remedies


def _routed(case: Case, lock: Lock, names: Sequence[str], code: str, what: str) -> Finding:
    """The error that is fixed by taking packages from the project's indexes, at their releases where that may be.

    Left alone, uv takes the newest release of what comes from an index for the first time, and torch has to follow.
    A source of the user's own, which pins nothing, stays.
    """
    project, pins = case.project, _pins(case.project)
    foreign = {source.package for source in project.own_sources if source not in pins}
    moved = [name for name in names if name not in foreign]
    if not moved or not (project.selectable() or any(one.target == BASE for one in pins)):
        return error(code, what, case.use if moved and not project.selectable() else None)  # members may differ
    upgrade = tuple(_kept(lock, name) if _serve(pins, name) else name for name in names)
    return error(code, what, edit=partial(_route, case=case, names=moved), upgrade=upgrade)


def _route(file: PyProject, case: Case, names: Sequence[str]) -> None:
    """Take packages from every choice, else from where the pins are; of what those lack, a build without CUDA code."""
    project, pins = case.project, _pins(case.project)
    if choices := project.selectable():
        for name in names:
            edits.place(file, project, name, dict.fromkeys(choices, edits.Place(name)))
        return
    own = _required_always(project) - project.packages_in(GROUP)
    base = [one for one in pins if one.target == BASE]
    edits.pin_like(file, project, own.intersection(names), base, [name for name in names if name not in own])
    left = [name for name in names if name in case.catalog.with_cuda and not _serve(pins, name)]
    edits.bound(file, [(name, _without_cuda(case.catalog, name)) for name in left])


def _pins(project: Project) -> list[Source]:
    return [one for one in project.sources if one.index and one.backend and project.is_pinned(one.package)]


def _serve(pins: Iterable[Source], name: str) -> bool:
    return any(has_build(name, one.backend) for one in pins)


def _without_cuda(catalog: Catalog, name: str) -> str:
    """The bound below which PyPI's builds of a package have no CUDA code."""
    cuda = catalog.with_cuda[name]
    last = max(number(version) for version in catalog.pairs[name] if version not in cuda)
    return f"<{next(version for version in cuda if number(version) > last)}"


def _required_always(project: Project) -> set[str]:
    """What the project and its members require on every platform: where they do not, a source does not reach it."""
    return {item.package for item in project.every_requirement if item.marker is None}


def _kept(lock: Lock, name: str) -> str:
    releases = {(package.version or "").partition("+")[0] for package in lock.named(name)}
    return f"{name}=={releases.pop()}" if len(releases) == 1 else name


# Releases and wheels


def torchaudio_breaks(torch: str, torchaudio: str) -> bool:
    """Whether importing torchaudio fails beside this torch: from 2.11 on it declares none, and needs 2.11 or newer.

    Source: its metadata on PyPI; with an older torch its library has undefined symbols.
    """
    return (0,) < number(torch) < (2, 11) <= number(torchaudio)


def _mismatches(project: Project, seen: Iterable[Installed]) -> Iterator[Finding]:
    pairs = ((one.torch, package.version) for one in seen for package in one.packages if package.name == "torchaudio")
    if pair := next((pair for pair in pairs if torchaudio_breaks(*pair)), None):
        what = (
            f"The lock has torchaudio {pair[1]} with torch {pair[0]}: from 2.11 on torchaudio needs torch 2.11 or "
            "newer, which its metadata does not say, and importing it fails."
        )
        yield error("torchaudio-mismatch", what, ("uvtorch", "add", "torchaudio<2.11", *_place(project, "torchaudio")))


def _place(project: Project, name: str) -> tuple[str, ...]:
    owners = (owner for owner in project.with_members if any(item.package == name for item in owner.requirements))
    owner = next(owners, project)
    words = ("--package", owner.name or "") if owner != project else ()
    targets = {item.target for item in owner.requirements if item.package == name}
    target = targets.pop() if len(targets) == 1 and not owner.selectable() else BASE
    option = {"extra": "--optional", "group": "--group"}.get(target.kind)
    return (*words, option, target.name or "") if option else words


def _without_wheels(case: Case, seen: Sequence[Installed]) -> Iterator[Finding]:
    """Packages of which a platform can install no locked version, whatever its Python and the selection."""
    here = case.machine.platform.key
    served: dict[str, set[str]] = {}
    meant: dict[Package, set[str]] = {}
    for key, package in ((one.platform.key, package) for one in seen for package in one.packages):
        # Companions are required without a marker as often as not; where torch has no build they matter to nobody.
        if case.project.is_pinned(package.name):
            meant.setdefault(package._replace(marker=None), set()).add(key)
            if package.sdist or not package.wheels or key in package.platforms:
                served.setdefault(package.name, set()).add(key)
    for package, platforms in meant.items():
        lacking = platforms - served.get(package.name, set())
        what, backend = f"{package.name} {package.version} from {package.url}", from_url(package.url)
        if lacking == platforms:
            what += f" is locked for {_platforms(lacking)}, and has no wheel there: `uv sync` fails. It has wheels "
            yield error("no-wheels", f"{what}for {_platforms(package.platforms) or 'no platform'}.")
        elif here in lacking:
            what += f" has no wheel for this machine's platform, {platform_name(here)}: `uv sync` fails here. "
            what += "A marker on its source leaves this platform to PyPI's build."
            yield error("no-wheels", what, (*USE, str(backend)) if backend else None)


def _platforms(keys: set[str]) -> str:
    """Platforms as a person reads them: `Linux x86_64 and macOS on Apple silicon`."""
    names = [platform_name(key) for key in sorted(keys, key=[*PLATFORMS, *keys].index)]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))

"""What is wrong in uv.lock. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from packaging.version import InvalidVersion, Version

from uvtorch.audit.case import Case, platforms_text
from uvtorch.audit.exports import Installed, Package, installed
from uvtorch.audit.finding import FIX_ROOT, NO_EDITS, USE, Edits, Finding, error, warning
from uvtorch.backend import from_url, parse, same_url
from uvtorch.catalog import number
from uvtorch.edits import offer, pin
from uvtorch.machine import Platform
from uvtorch.markers import MAIN_PLATFORMS
from uvtorch.packages import has_build, roles
from uvtorch.project import Environment, Index, Project, Source
from uvtorch.project.hosts import catalogued
from uvtorch.project.lock import Lock, stray
from uvtorch.project.model import BASE, GROUP
from uvtorch.project.pyproject import PyProject


def _generic(case: Case, lock: Lock) -> Iterator[Finding]:
    """Packages that are not PyTorch's, and come from its index."""
    project = case.project
    right = {*roles(), *project.config.packages, *(source.package for source in project.every_source)}
    others = [one for one in lock.packages if one.kind == "registry" and one.name not in right]
    for url in dict.fromkeys(one.location for one in others):
        indexes = (index for index in project.indexes if same_url(index.url, url))
        index = next(indexes, Index(None, url, legacy=True))
        if index.default or not case.serves_pytorch(index):
            continue
        copies = {one.name: f"{one.name} {one.version}" for one in others if one.location == url}
        names = ", ".join([*copies.values()][:4]) + (f" and {len(copies) - 4} more" if len(copies) > 4 else "")
        what = f"The lock takes {names} from {url}, which has old copies of such packages; uv looks no further once it "
        what += "finds one. Locking again moves them once the index is explicit."
        of_root = index.inherited and not (index.explicit or index.legacy)
        upgrade = () if of_root or (index.legacy and not index.explicit) else tuple(copies)
        yield error("generic-from-pytorch-index", what, upgrade=upgrade, fix=FIX_ROOT if of_root else None)


def _leaks(case: Case, lock: Lock) -> dict[tuple[str, str], list[str]]:
    """(a dependency, the index that its own sources bring) -> the PyTorch packages from there."""
    project = case.project
    known = [index.url for one in project.with_members for index in one.indexes]
    ours = {project.root_name, *case.names, *(one.name for one in project.with_members)}
    local = {package.name for package in lock.packages if package.kind not in ("registry", "virtual")} - ours
    found: dict[tuple[str, str], list[str]] = {}
    for package in lock.packages:
        foreign = package.kind == "registry" and not same_url(package.location, *known)
        if foreign and package.backend and project.is_pytorch(package.name):
            for name in local.intersection(lock.dependents(package.name)):
                found.setdefault((name, package.location), []).append(package.name)
    return found


def _leaked(case: Case, lock: Lock) -> Iterator[Finding]:
    for (name, url), packages in _leaks(case, lock).items():
        what = f"{', '.join(dict.fromkeys(packages))} comes from {url} because {name}, which comes from a repository "
        what += "or a path, says so in its own `[tool.uv.sources]`: that decides the build for this project, and a pin "
        what += "of another backend here would contradict it. Pin the packages here to the same index, or take "
        yield warning("source-leaked", f"{what}{name} as a package without sources.")


# What environments get


def _builds(case: Case, lock: Lock) -> Iterator[Finding]:
    """Whether the builds that environments get fit together, come from where the project says, and install."""
    # Intel Macs and Windows on Arm have few builds, and those from PyPI.
    seen = installed(lock, case.exports, {one.key: one for one in (case.machine.platform, *MAIN_PLATFORMS)}.values())
    # Every index has the same builds for macOS.
    judged = [one for one in seen if one.platform.system != "macos"]
    mixes = _mixes(case, judged)
    for mix, environments in mixes.values():
        yield _mixed(case, lock, mix, environments)
    explained = {name for names in _leaks(case, lock).values() for name in names}.union(*mixes)
    yield from _strays(case, lock, judged, explained)
    yield from _mismatches(case.project, seen)
    yield from _without_wheels(case, seen)


Mix = dict[Package, str]
"""Those that meet in one environment, torch first, each with its build."""


def _mixes(case: Case, seen: Iterable[Installed]) -> dict[frozenset[str], tuple[Mix, list[Installed]]]:
    """By the names that meet: the builds of different backends that do, and where."""
    mixes: dict[frozenset[str], tuple[Mix, list[Installed]]] = {}
    for one in seen:
        packages = sorted(one.packages, key=lambda package: (package.name != "torch", package.name))
        builds = ((package, _build_of(case, package, one.torch, one.platform)) for package in packages)
        mix = {package: build for package, build in builds if build}
        if len({*mix.values()}) > 1:
            mixes.setdefault(frozenset(package.name for package in mix), (mix, []))[1].append(one)
    return mixes


def _build_of(case: Case, package: Package, torch: str, platform: Platform) -> str | None:
    """The backend that a package was built for, by name.

    None where that is not known, and for what need not come from a backend's index: by its name, or as a source says
    that it comes from elsewhere. `torch`: the release beside it, which says what PyPI's build of the package goes with.
    """
    sources = (source for source in case.project.sources if source.package == package.name)
    if not case.project.is_pinned(package.name) or any(_exempts(source, package.url) for source in sources):
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
    pypi, _ = case.catalog.on_pypi(torch, platform.key)
    return pypi.name if pypi else "PyPI's own build"


def _exempts(source: Source, url: str) -> bool:
    """Whether a source says that what comes from this URL comes from elsewhere than a backend's index."""
    if source.kind != "index" or source.url is None:
        return source.kind != "index"
    return not catalogued(source.url, source.package) and same_url(source.url, url)


def _mixed(case: Case, lock: Lock, mix: Mix, seen: Sequence[Installed]) -> Finding:
    """The finding for the environments in which the same packages meet."""
    labels = dict.fromkeys(one.label for one in seen)
    options = f" with `{'`, `'.join(labels)}`" if all(labels) else ""
    builds = ", ".join(f"{package.name} {package.version} ({build})" for package, build in mix.items())
    what = f"One environment gets builds of different backends: {builds}, on "
    what += f"{platforms_text({one.platform.key for one in seen})}{options}. "
    what += "Their compiled parts do not fit together: importing or using them fails."
    # The odd ones, be it torch itself, are those that no source reaches; else the lock is older than the sources.
    sourced = {one.package for one in case.project.sources if one.kind == "index" and one.backend}
    reached = sourced & _required_always(case.project)
    others = tuple(package.name for package in mix if package.name not in reached)
    names = tuple(package.name for package in mix)
    return error("mixed-builds", what, *(_routed(case, lock, others) if others else (NO_EDITS, names)))


def _strays(case: Case, lock: Lock, seen: Sequence[Installed], explained: set[str]) -> Iterator[Finding]:
    """Pinned packages that a platform gets from anywhere but the indexes the project chose for them."""
    found: dict[str, tuple[Package, set[str]]] = {}
    for one in seen:
        elsewhere = stray(lock, case.project, Environment(one.platform))
        for package in one.packages:
            urls = [row.location for row in elsewhere if row.name == package.name]
            odd = same_url(package.url, *urls) and package.name not in explained
            if odd and _build_of(case, package, package.release, one.platform):
                found.setdefault(package.name, (package, set()))[1].add(one.platform.key)
    for package, platforms in found.values():
        yield _stray(case, lock, package, platforms)


def _stray(case: Case, lock: Lock, package: Package, platforms: set[str]) -> Finding:
    name, required = package.name, {item.package for item in case.project.every_requirement}
    what = f"{name} {package.version} comes from {package.url} on {platforms_text(platforms)}, though the project "
    if name in required and any(source.package == name for source in case.project.sources):
        what += "has a source for it: the lock is not made from this pyproject.toml."
        return error("lock-outdated", what, upgrade=(name,))
    users = [user for user in lock.dependents(name) if user != case.project.name]
    what += "pins its PyTorch packages. A source reaches only what the project itself requires and names"
    what += f"; {', '.join(users[:3])} needs it." if users and name not in required else "."
    return error("not-anchored", what, *_routed(case, lock, (name,)))


# Remedies


def _routed(case: Case, lock: Lock, names: tuple[str, ...]) -> tuple[Edits, tuple[str, ...]]:
    """The edits that take packages from the project's indexes, and the releases that are locked, where they may stay.

    Left alone, uv takes the newest release of what comes from an index for the first time, and torch has to follow.
    A source of the user's own, which pins nothing, stays.
    """
    project, choices = case.project, case.project.selectable()
    sources = [one for one in project.sources if one.index and one.backend and project.is_pinned(one.package)]
    pins = [source for source in sources if source.target == BASE]
    foreign = {source.package for source in project.own_sources if source not in sources}
    unserved = [name for name in names if not any(has_build(name, source.backend) for source in sources)]

    def route(name: str, file: PyProject) -> None:
        if choices:
            offer.place(file, project, name, dict.fromkeys(choices, offer.Place(name)))
        elif name in unserved:  # the newest of the default index that has no CUDA code
            cuda = case.catalog.with_cuda[name]
            last = max((one for one in case.catalog.pairs[name] if one not in cuda), key=number)
            pin.bound(file, [(name, f"<{next(one for one in cuda if number(one) > number(last))}")])
        else:
            own = name in _required_always(project) - project.packages_in(GROUP)
            pin.like(file, project, [name] if own else [], pins, [] if own else [name])

    moved = [name for name in names if name not in foreign] if choices or pins else []
    kept = tuple(name if name in unserved else _kept(lock, name) for name in names)
    return {name: partial(route, name) for name in moved}, kept if moved else ()


def _required_always(project: Project) -> set[str]:
    """What the project and its members require on every platform: where they do not, a source does not reach it."""
    return {item.package for item in project.every_requirement if item.marker is None}


def _kept(lock: Lock, name: str) -> str:
    """`name==release` where the lock has one release of a package; else its name."""
    releases = {(package.version or "").partition("+")[0] for package in lock.named(name)}
    return f"{name}=={releases.pop()}" if len(releases) == 1 else name


# Releases and wheels


def torchaudio_breaks(torch: str, torchaudio: str) -> bool:
    """Whether importing torchaudio fails beside this torch: from 2.11 on it declares none, and needs 2.11 or newer.

    Source: its metadata on PyPI; with an older torch its library has undefined symbols.
    """
    try:
        return Version(torch).release < (2, 11) <= Version(torchaudio).release
    except InvalidVersion:
        return False


def _mismatches(project: Project, seen: Iterable[Installed]) -> Iterator[Finding]:
    pairs = ((one.torch, package.version) for one in seen for package in one.packages if package.name == "torchaudio")
    if pair := next((pair for pair in pairs if torchaudio_breaks(*pair)), None):
        what = f"The lock has torchaudio {pair[1]} with torch {pair[0]}: from 2.11 on torchaudio needs torch 2.11 or "
        what += "newer, which its metadata does not say, and importing it fails."
        fix = ("uvtorch", "add", "torchaudio<2.11", *_place_options(project, "torchaudio"))
        yield error("torchaudio-mismatch", what, fix=fix)


def _place_options(project: Project, name: str) -> tuple[str, ...]:
    """The options of `add` for the place where a package is required; none where uvtorch finds it by itself."""
    targets = {item.target for item in project.requirements if item.package == name}
    for member in project.members if not targets else ():
        if any(item.package == name for item in member.requirements):
            return ("--package", member.name or "", *_place_options(member, name))
    target = targets.pop() if len(targets) == 1 and not project.selectable() else BASE
    return {"extra": ("--optional", target.name or ""), "group": ("--group", target.name or "")}.get(target.kind, ())


def _without_wheels(case: Case, seen: Sequence[Installed]) -> Iterator[Finding]:
    """Packages of which a platform can install no locked version, whatever its Python and the selection."""
    here = case.machine.platform.key
    # Companions are required without a marker as often as not; where torch has no build they matter to nobody.
    rows = [(one.platform.key, row) for one in seen for row in one.packages if case.project.is_pinned(row.name)]
    served = {(package.name, platform) for platform, package in rows if package.installs_on(platform)}
    meant: dict[Package, set[str]] = {}
    for platform, package in rows:
        meant.setdefault(package._replace(marker=None), set()).add(platform)
    for package, platforms in meant.items():
        lacking = {platform for platform in platforms if (package.name, platform) not in served}
        what, backend = f"{package.name} {package.version} from {package.url}", from_url(package.url)
        if lacking == platforms:
            what += f" is locked for {platforms_text(lacking)}, and has no wheel there: `uv sync` fails. It has wheels "
            yield error("no-wheels", f"{what}for {platforms_text(package.platforms) or 'no platform'}.")
        elif here in lacking:
            what += f" has no wheel for this machine's platform, {platforms_text({here})}: `uv sync` fails here. "
            what += "A marker on its source leaves this platform to PyPI's build."
            yield error("no-wheels", what, fix=(*USE, str(backend)) if backend else None)


CHECKS: Final = (_generic, _builds, _leaked)

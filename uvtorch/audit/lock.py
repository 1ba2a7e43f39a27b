"""What is wrong in uv.lock. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Final

from packaging.version import InvalidVersion, Version

from uvtorch.audit.case import Case, all_sources, entries, platforms_text, required, rewritable, together
from uvtorch.audit.exports import Installed, Package, installed
from uvtorch.audit.finding import FIX_ROOT, Edit, Finding, error, warning
from uvtorch.backend import from_url, parse, same_url
from uvtorch.catalog import number
from uvtorch.edits import offer, pin
from uvtorch.machine import Platform
from uvtorch.markers import MAIN_PLATFORMS, holds
from uvtorch.packages import has_build, roles
from uvtorch.project import Choice, Environment, Index, Project, Source
from uvtorch.project.lock import Lock
from uvtorch.project.lock import Package as LockedPackage
from uvtorch.project.pyproject import PyProject


def _generic(case: Case, lock: Lock) -> Iterator[Finding]:
    """Packages that are not PyTorch's, and come from its index."""
    for url, packages in _copies(case, lock).items():
        indexes = (index for index in case.project.indexes if same_url(index.url, url))
        index = next(indexes, Index(None, url, legacy=True))
        what = _generic_text(url, packages, index.explicit)
        if index.inherited and not (index.explicit or index.legacy or index.default):
            yield error("generic-from-pytorch-index", what, fix=FIX_ROOT)
        elif not index.default:
            upgrade = tuple(packages) if index.explicit or not index.legacy else ()
            yield error("generic-from-pytorch-index", what, upgrade=upgrade)


def _copies(case: Case, lock: Lock) -> dict[str, dict[str, LockedPackage]]:
    """By the URL of one of PyTorch's indexes: the packages from there that are not PyTorch's."""
    project, known = case.project, case.hosts.known
    right = {*roles(), *project.config.packages, *(source.package for source in all_sources(project))}
    found: dict[str, dict[str, LockedPackage]] = {}
    for package in lock.packages:
        if package.kind == "registry" and package.name not in right and known(package.location):
            found.setdefault(package.location, {})[package.name] = package
    return found


def _generic_text(url: str, packages: Mapping[str, LockedPackage], explicit: bool) -> str:
    what = ", ".join(f"{name} {package.version}" for name, package in [*packages.items()][:4])
    what += f" and {len(packages) - 4} more" if len(packages) > 4 else ""
    what += f" {'come' if len(packages) > 1 else 'comes'} from {url}: PyTorch's indexes have old copies of such "
    what += "packages, and uv looks no further once it finds one. "
    now = "The index is explicit now, but that alone does not change what is locked."
    return what + (now if explicit else "Locking again moves them once the index is explicit.")


def _leaks(case: Case, lock: Lock) -> dict[tuple[str, str], dict[str, None]]:
    """(a dependency, the index that its own sources bring) -> the PyTorch packages from there."""
    projects = together(case.project)
    known = [index.url for index in chain(*(one.indexes for one in projects))]
    local = {package.name for package in lock.packages if package.kind not in ("registry", "virtual")}
    members = case.site.members() if case.site and not case.script else ()
    local -= {case.project.root_name, *(one.name for one in (*projects, *members))}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for package in lock.packages:
        foreign = package.kind == "registry" and not same_url(package.location, *known)
        if foreign and package.backend and case.project.is_pytorch(package.name):
            for name in local.intersection(lock.dependents(package.name)):
                found.setdefault((name, package.location), {})[package.name] = None
    return found


def _leaked(case: Case, lock: Lock) -> Iterator[Finding]:
    for (name, url), names in _leaks(case, lock).items():
        what = f"{', '.join(names)} comes from {url} because {name}, which comes from a repository or a path, says so "
        what += "in its own `[tool.uv.sources]`: that decides the build for this project, and a pin of another backend "
        what += "here would contradict it. Pin the packages here to the same index, or take "
        yield warning("source-leaked", f"{what}{name} as a package without sources.")


# What environments get


def _builds(case: Case, lock: Lock) -> Iterator[Finding]:
    """Whether the builds that environments get fit together, come from where the project says, and install."""
    if not case.exports or not any(case.project.is_pytorch(package.name) for package in lock.packages):
        return
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


Mix = list[tuple[str, str, str | None]]
"""(package, version, build) of those that meet in one environment, torch first."""


def _mixes(case: Case, seen: Iterable[Installed]) -> dict[frozenset[str], tuple[Mix, list[Installed]]]:
    """By the names that meet: the builds of different backends that do, and where."""
    mixes: dict[frozenset[str], tuple[Mix, list[Installed]]] = {}
    for one in seen:
        mix = _mix(case, one)
        if len({build for _, _, build in mix}) > 1:
            mixes.setdefault(frozenset(name for name, _, _ in mix), (mix, []))[1].append(one)
    return mixes


def _mix(case: Case, one: Installed) -> Mix:
    judged = (package for package in one.packages if _judged(case, package))
    builds = ((package.name, package.version, _build_of(case, package, one.torch, one.platform)) for package in judged)
    return sorted(filter(itemgetter(2), builds), key=lambda row: (row[0] != "torch", row[0]))


def _build_of(case: Case, package: Package, torch: str, platform: Platform) -> str | None:
    """The backend that a package was built for, by name; None where that is not known.

    `torch`: the release beside it, which says what PyPI's build of the package goes with.
    """
    _, plus, local = package.version.partition("+")
    if plus or not package.url:
        return local if parse(local) else None
    if backend := from_url(package.url):
        return backend.name if case.hosts.known(package.url) else None
    # torchtext and most releases of torchcodec are the same for every backend.
    torchs = package.name in ("torch", "torchvision", "torchaudio")
    if not torchs and package.version not in case.catalog.with_cuda.get(package.name, ()):
        return None
    pypi, _ = case.catalog.on_pypi(torch, platform.key)
    return pypi.name if pypi else "PyPI's own build"


def _judged(case: Case, package: Package) -> bool:
    """Whether it has to come from a backend's index, and no source says that this comes from elsewhere."""
    sources = [source for source in case.project.sources if source.package == package.name]
    return case.project.is_pinned(package.name) and not any(_exempts(case, one, package.url) for one in sources)


def _exempts(case: Case, source: Source, url: str) -> bool:
    """Whether a source says that what comes from this URL comes from elsewhere than a backend's index."""
    if source.kind != "index" or source.url is None:
        return source.kind != "index" or source.is_pypi
    return (source.is_pypi or not case.hosts.known(source.url)) and same_url(source.url, url)


def _mixed(case: Case, lock: Lock, mix: Mix, seen: Sequence[Installed]) -> Finding:
    """The finding for the environments in which the same packages meet."""
    labels = dict.fromkeys(one.label for one in seen)
    options = f" with `{'`, `'.join(labels)}`" if all(labels) else ""
    builds = ", ".join(f"{name} {version} ({build})" for name, version, build in mix)
    what = f"One environment gets builds of different backends: {builds}, on "
    what += f"{platforms_text({one.platform.key for one in seen})}{options}. "
    what += "Their compiled parts do not fit together: importing or using them fails."
    # The odd ones, be it torch itself, are those that no source reaches; else the lock is older than the sources.
    sourced = {one.package for one in case.project.sources if one.kind == "index" and one.backend}
    names = tuple(name for name, _, _ in mix)
    others = tuple(name for name in names if name not in sourced & _required_always(case.project))
    return error("mixed-builds", what, *(_routed(case, lock, others) if others else ((), names)))


def _required_always(project: Project) -> set[str]:
    """What the project and its members require on every platform: where they do not, a source does not reach it."""
    return {item.package for one in together(project) for item in one.requirements if item.marker is None}


def _strays(case: Case, lock: Lock, seen: Sequence[Installed], explained: set[str]) -> Iterator[Finding]:
    """Pinned packages that a platform gets from anywhere but the indexes the project chose for them."""
    found: dict[str, tuple[Package, set[str]]] = {}
    for platform in dict.fromkeys(one.platform for one in seen):
        given = dict.fromkeys(chain(*(one.packages for one in seen if one.platform == platform)))
        for package in _strays_on(case, platform, given):
            if package.name not in explained:
                found.setdefault(package.name, (package, set()))[1].add(platform.key)
    for package, keys in found.values():
        yield _stray(case, lock, package, keys)


def _strays_on(case: Case, platform: Platform, given: Collection[Package]) -> list[Package]:
    """The builds that come from elsewhere, where that is wrong.

    With one pin, that is any build from elsewhere; in a project of several choices, whose base may well be PyPI's,
    a package of which no choice has a build.
    """
    sources = _routing(case, platform)
    urls = [source.url for source in sources if source.url]
    chosen = {package.name for package in given if same_url(package.url, *urls)}
    right = chosen if any(source.target.kind != "base" for source in sources) else set()
    return [
        package for package in given if urls and package.name not in right and _is_stray(case, package, urls, platform)
    ]


def _is_stray(case: Case, package: Package, urls: Sequence[str], platform: Platform) -> bool:
    elsewhere = not same_url(package.url, *urls) and _judged(case, package)
    return elsewhere and _build_of(case, package, package.release, platform) is not None


def _routing(case: Case, platform: Platform) -> list[Source]:
    """The sources that take PyTorch's packages from a backend's index there."""
    named = [one for one in all_sources(case.project) if one.backend and case.project.is_pytorch(one.package)]
    return [one for one in named if one.url and holds(one.marker, Environment(platform))]


def _stray(case: Case, lock: Lock, package: Package, platforms: set[str]) -> Finding:
    name, own = package.name, required(case.project)
    what = f"{name} {package.version} comes from {package.url or 'elsewhere'} on {platforms_text(platforms)}"
    if name in own and any(source.package == name for source in case.project.sources):
        what += ", though the project has a source for it: the lock is not made from this pyproject.toml."
        return error("lock-outdated", what, upgrade=(name,))
    users = [user for user in lock.dependents(name) if user != case.project.name]
    by = f"{', '.join(users[:3])} needs it, and a" if users and name not in own else "A"
    what += f", though the project pins its PyTorch packages. {by} source reaches only what the project itself"
    return error("not-anchored", f"{what} requires and names.", *_routed(case, lock, (name,)))


# Remedies


def _routed(case: Case, lock: Lock, names: tuple[str, ...]) -> tuple[tuple[Edit, ...], tuple[str, ...]]:
    """The edits that take packages from the project's indexes, and the releases at which they can stay."""
    project, choices = case.project, case.project.selectable()
    pins = [one for one in project.sources if one.backend and one.kind == "index" and one.target.kind == "base"]
    pins = [one for one in pins if project.is_pinned(one.package)]
    moved = _movable(project, choices, {one.package for one in pins}, names)
    own = _required_always(project) - {item.package for item in project.grouped}
    # Without a build for this backend: the newest of the default index that has no CUDA code.
    bounded = [name for name in moved if not choices and not any(has_build(name, one.backend) for one in pins)]

    def route(name: str, file: PyProject) -> None:
        if name in bounded:
            cuda = case.catalog.with_cuda[name]
            last = max((one for one in case.catalog.pairs[name] if one not in cuda), key=number)
            pin.bound(file, [(name, f"<{next(one for one in cuda if number(one) > number(last))}")])
        elif choices:
            offer.place(file, project, name, dict.fromkeys(choices, offer.Place(name)))
        else:
            pin.like(file, project, [name] if name in own else [], pins, [] if name in own else [name])

    kept = _kept(case, lock, tuple(name for name in names if name not in bounded)) if moved else ()
    return tuple(Edit(name, partial(route, name)) for name in moved), (*kept, *bounded)


def _movable(project: Project, choices: tuple[Choice, ...], pinned: set[str], names: tuple[str, ...]) -> list[str]:
    """The packages whose sources can be written; a source of the user's own, which pins nothing, stays."""
    if not choices:
        return [name for name in names if pinned and (name in pinned or not entries(project, name))]
    models = {(choice.target, choice.packages[0]) for choice in choices}
    theirs = [source for source in project.sources if (source.target, source.package) in models]
    return [name for name in names if rewritable((*entries(project, name), *theirs))]


def _kept(case: Case, lock: Lock, names: tuple[str, ...]) -> tuple[str, ...]:
    """`name==release` of the packages that move to another index and can stay at the release that is locked.

    Left alone, uv takes the newest release of what comes from an index for the first time, and torch has to follow.
    """
    torch = _releases(lock, "torch")
    pins = {one.backend for one in case.project.sources if one.backend and case.project.is_pinned(one.package)}
    built = [case.catalog.builds.get(backend._replace(channel=""), {}) for backend in pins]
    if len(torch) != 1 or not all(torch <= known.keys() for known in built):
        return ()
    return tuple(f"{name}=={release}" for name in names for release in _staying(case, lock, name, torch))


def _staying(case: Case, lock: Lock, name: str, torch: set[str]) -> set[str]:
    """The one locked release of a package, if it goes with that torch."""
    releases = _releases(lock, name)
    pairs = torch if name == "torch" else case.catalog.pairs.get(name, {}).get("".join(releases), ())
    return releases if len(releases) == 1 and not torch.isdisjoint(pairs) else set()


def _releases(lock: Lock, name: str) -> set[str]:
    return {(package.version or "").partition("+")[0] for package in lock.named(name)}


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
    for torch, package in {(one.torch, package): None for one in seen for package in one.packages}:
        if torch and package.name == "torchaudio" and torchaudio_breaks(torch, package.version):
            what = f"The lock has torchaudio {package.version} with torch {torch}: from 2.11 on torchaudio needs torch "
            what += "2.11 or newer, which its metadata does not say, and importing it fails."
            place = _place_options(project, "torchaudio")
            yield error("torchaudio-mismatch", what, fix=("uvtorch", "add", "torchaudio<2.11", *place))
            return


def _place_options(project: Project, name: str) -> tuple[str, ...]:
    """The options of `add` for the place where a package is required; none where uvtorch finds it by itself."""
    targets = {item.target for item in project.requirements if item.package == name}
    if not targets and (member := next((one for one in project.members if name in required(one)), None)):
        return ("--package", member.name or "", *_place_options(member, name))
    if project.selectable() or len(targets) != 1:
        return ()
    (target,) = targets
    return {"extra": ("--optional", target.name or ""), "group": ("--group", target.name or "")}.get(target.kind, ())


def _without_wheels(case: Case, seen: Iterable[Installed]) -> Iterator[Finding]:
    """Packages of which a platform can install no locked version, whatever its Python and the selection."""
    here = case.machine.platform.key
    meant: dict[Package, set[str]] = {}
    served: set[tuple[str, str]] = set()
    for platform, package in ((one.platform.key, package) for one in seen for package in one.packages):
        # Companions are required without a marker as often as not; where torch has no build they matter to nobody.
        if case.project.is_pinned(package.name):
            meant.setdefault(package._replace(marker=None), set()).add(platform)
            served |= {(package.name, platform)} if package.installs_on(platform) else set()
    for package, platforms in meant.items():
        lacking = {platform for platform in platforms if (package.name, platform) not in served}
        what, use = f"{package.name} {package.version} from {package.url}", None
        if lacking == platforms:
            what += f" is locked for {platforms_text(lacking)}, and has no wheel there: `uv sync` fails. It has wheels "
            yield error("no-wheels", f"{what}for {platforms_text(package.platforms) or 'no platform'}.")
        elif here in lacking:
            if backend := from_url(package.url):
                use = ("uvtorch", "torch", "use", str(backend))
            what += f" has no wheel for this machine's platform, {platforms_text({here})}: `uv sync` "
            what += "fails here. A marker on its source leaves this platform to PyPI's build."
            yield error("no-wheels", what, fix=use)


CHECKS: Final = (_generic, _builds, _leaked)

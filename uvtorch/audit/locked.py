"""What is wrong in uv.lock. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from uvtorch import edit
from uvtorch.audit.configuration import entries, entry, is_pytorch_index, platforms_text, rewritable
from uvtorch.audit.finding import MEND, Finding
from uvtorch.audit.installs import PLATFORMS, Installed, installed, selections, supports
from uvtorch.backend import Backend, from_url, parse, same_url
from uvtorch.catalog import Catalog
from uvtorch.packages import ANCHORS, from_pytorch_index
from uvtorch.project import Choice, Environment, Index, Project, Source
from uvtorch.project.lock import Lock, Package, stray

_WHEEL: Final = re.compile(r"/[^/\"]+?-([^-/\"]+)\.whl[\"#]")
_SDIST: Final = "\nsdist = "


def findings(project: Project, lock: Lock, catalog: Catalog, here: Environment | None) -> list[Finding]:
    """The faults of the lock."""
    leaks = _leaks(project, lock)
    leaked = {name for _, names, _ in leaks for name in names}
    platforms = list(PLATFORMS)
    if here is not None and here.platform.key not in {platform.key for platform in platforms}:
        platforms.append(here.platform)
    found = [*_generic(project, lock), *_left_out(lock, here)]
    seen = list(installed(lock, project, selections(project), platforms))
    mixed = _mixes(project, seen, catalog)
    if mixed:  # what a plain sync meets is told as such, rather than as part of everything
        plain = list(installed(lock, project, selections(project, full=False), platforms))
        mixed = {**mixed, **_mixes(project, plain, catalog)}
    found += _mixed_findings(project, lock, mixed, catalog)
    told = {name for mix in mixed for name in mix.names}
    found += _strays(project, lock, told | leaked, catalog)
    found += [_leak_finding(*leak) for leak in leaks]
    found += _without_wheels(project, seen, here)
    return found


# Generic packages


def _generic(project: Project, lock: Lock) -> Iterator[Finding]:
    right = from_pytorch_index() | set(project.config.packages) | {source.package for source in _sources(project)}
    known = {index.url.rstrip("/"): index for index in project.indexes}
    counted: dict[str, list[Package]] = {}
    for package in lock.packages:
        if package.kind == "registry" and package.name not in right:
            counted.setdefault(package.location.rstrip("/"), []).append(package)
    by_index: dict[str, list[Package]] = {}
    for url, packages in counted.items():
        of_project = known.get(url) or Index(None, url, backend=from_url(url))
        if is_pytorch_index(of_project) and not of_project.default:
            by_index[url] = packages
    total = sum(package.kind == "registry" for package in lock.packages)
    for url, packages in by_index.items():
        if url not in known and 2 * len(packages) > total:
            continue  # not the project's: somebody's default index, whatever its URL ends in
        names = tuple(dict.fromkeys(package.name for package in packages))
        some = ", ".join(f"{package.name} {package.version}" for package in packages[:4])
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        index = known.get(url)
        mendable = index is not None and (index.explicit or not (index.legacy or index.inherited))
        yield Finding(
            "generic-from-pytorch-index",
            "error",
            f"{some}{more} {'come' if len(names) > 1 else 'comes'} from {url}: PyTorch's indexes have old copies of "
            "such packages, and uv looks no further once it finds one. "
            + (
                "The index is explicit now, but that alone does not change what is locked."
                if index and index.explicit
                else "Locking anew moves them once the index is explicit."
            ),
            MEND if mendable else None,
            upgrade=names if mendable else (),
        )


def _required(project: Project) -> set[str]:
    """What the project and the members read with it require themselves: what a source reaches."""
    return {item.package for one in (project, *project.members) for item in one.requirements}


def _sources(project: Project) -> Iterator[Source]:
    yield from project.sources
    for member in project.members:
        yield from member.sources


# Builds of two backends in one environment


class _Mix(NamedTuple):
    """Builds that meet in one environment."""

    builds: tuple[tuple[str, str, str], ...]
    """(package, version, build)."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self.builds)


def _mixes(project: Project, seen: Iterable[Installed], catalog: Catalog) -> dict[_Mix, list[Installed]]:
    found: dict[_Mix, list[Installed]] = {}
    for one in seen:
        if one.situation.platform.system == "macos":
            continue  # every index has the same builds there
        torch = next((package for package in one.packages if package.name == "torch"), None)
        release = (torch.version or "").partition("+")[0] if torch else ""
        builds = []
        for package in one.packages:
            if project.is_pinned(package.name) and not _stated_elsewhere(project, package):
                build = build_of(package, release, one.situation.platform.key, catalog)
                if build:
                    builds.append((package.name, package.version or "", build))
        if len({build for _, _, build in builds}) > 1:
            builds.sort(key=lambda row: (row[0] != "torch", row[0]))
            found.setdefault(_Mix(tuple(builds)), []).append(one)
    return found


def build_of(package: Package, torch: str, platform: str, catalog: Catalog) -> str | None:
    """The backend a locked package was built for, by name; None where that is not told (a repository, a path).

    `torch`: the release beside it, which says what PyPI's build of the package goes with.
    """
    _, plus, local = (package.version or "").partition("+")
    if plus and parse(local):
        return local
    if package.kind in ("git", "directory", "editable", "virtual"):
        return None
    if package.backend:
        return package.backend.name
    if plus or package.kind != "registry":
        return None
    backend = catalog.pypi.get(torch, {}).get(platform, (None, None))[0]
    return backend.name if isinstance(backend, Backend) else "PyPI's own build"


def _stated_elsewhere(project: Project, package: Package) -> bool:
    """Whether the user says in so many words that this comes from PyPI, a repository, a URL."""
    return any(
        source.package == package.name
        and (source.kind != "index" or source.is_pypi or (source.url and not source.backend))
        and (source.url is None or source.kind != "index" or same_url(source.url, package.location))
        for source in project.sources
    )


def _mixed_findings(
    project: Project, lock: Lock, mixed: dict[_Mix, list[Installed]], catalog: Catalog
) -> Iterator[Finding]:
    grouped: dict[tuple[str, ...], list[tuple[_Mix, Installed]]] = {}
    for mix, where in mixed.items():
        grouped.setdefault(tuple(sorted({*mix.names})), []).extend((mix, one) for one in where)
    for rows in grouped.values():
        mix = rows[0][0]
        platforms = {one.situation.platform.key for _, one in rows}
        options = list(dict.fromkeys(one.situation.selection.options for _, one in rows))
        with_ = f" with `{'`, `'.join(option for option in options if option)}`" if all(options) else ""
        builds = ", ".join(f"{name} {version} ({build})" for name, version, build in mix.builds)
        pinned = {source.package for source in project.sources if source.kind == "index" and source.backend}
        direct = _required(project)
        # The odd ones, be it torch itself, are those that no source reaches; else the lock is older than the sources.
        others = tuple(name for name in mix.names if name not in pinned or name not in direct)
        edits = _anchored(project, others)
        upgrade = _kept(project, lock, others, catalog) if edits else mix.names if not others else ()
        yield Finding(
            "mixed-builds",
            "error",
            f"One environment gets builds of different backends: {builds}, on {platforms_text(platforms)}{with_}. "
            "Their compiled parts do not fit together: importing or using them fails.",
            MEND if edits or upgrade else None,
            edits,
            upgrade,
        )


def _anchored(project: Project, names: tuple[str, ...]) -> tuple[edit.Operation, ...]:
    """The edits that take packages from where the project takes its others: sources, and an anchor where needed."""
    choices = project.selectable()
    if choices:
        return tuple(change for name in names for change in _into_choices(project, name, choices))
    pins = [
        source
        for source in project.sources
        if source.kind == "index"
        and source.backend
        and source.target.kind == "base"
        and project.is_pinned(source.package)
    ]
    if not pins:
        return ()
    model = next((pin.package for pin in pins if pin.package == "torch"), pins[0].package)
    like = tuple(entry(source) for source in project.sources if source.package == model)
    edits: list[edit.Operation] = []
    direct = _required(project)
    for name in names:
        have = entries(project, name)
        if not any(pin.package == name for pin in pins):
            if have:
                continue
            edits.append(edit.SetSources(name, like))
        if name not in direct:
            edits.append(edit.AddRequirement(edit.Target("group", ANCHORS), name))
    return tuple(edits)


def _into_choices(project: Project, name: str, choices: tuple[Choice, ...]) -> Iterator[edit.Operation]:
    """The edits that put a package into every choice, with the sources that torch has there."""
    have = entries(project, name)
    if not rewritable(have):
        return
    targets = dict.fromkeys(choice.target for choice in choices)
    model = {choice.target: choice.packages[0] for choice in choices}
    added = [
        entry(source)
        for target in targets
        if target not in {source.target for source in have}
        for source in project.sources
        if source.target == target and source.package == model[target] and source.kind == "index"
    ]
    for target in targets:
        if not any(item.target == target and item.package == name for item in project.requirements):
            yield edit.AddRequirement(edit.Target(target.kind, target.name or ""), name)
    if added:
        yield edit.SetSources(name, (*map(entry, have), *added))


# From elsewhere than the pins say


def _kept(project: Project, lock: Lock, names: tuple[str, ...], catalog: Catalog) -> tuple[str, ...]:
    """`name==release` of the packages that move to another index and can stay at the release that is locked.

    Left alone, uv takes the newest release of what comes from an index for the first time, and torch has to follow.
    """
    backends = {
        source.backend._replace(channel="")
        for source in project.sources
        if source.backend and project.is_pinned(source.package)
    }
    locked = {
        name: {(package.version or "").partition("+")[0] for package in lock.named(name)} for name in ("torch", *names)
    }

    def built(release: str) -> bool:
        return all(release in catalog.builds.get(backend, {}) for backend in backends)

    found = []
    for name in names:
        if len(locked[name]) == 1 and len(locked["torch"]) == 1:
            (version,), (torch,) = locked[name], locked["torch"]
            paired = (version,) if name == "torch" else catalog.pairs.get(name, {}).get(version, ())
            if torch in paired and built(torch):
                found.append(f"{name}=={version}")
    return tuple(found)


def _strays(project: Project, lock: Lock, told: set[str], catalog: Catalog) -> Iterator[Finding]:
    where: dict[str, set[str]] = {}
    builds: dict[str, Package] = {}
    for platform in PLATFORMS:
        environment = Environment(platform)
        if platform.system == "macos" or not supports(lock, environment):
            continue
        for package in stray(lock, project, environment):
            if package.name not in told and not _stated_elsewhere(project, package):
                where.setdefault(package.name, set()).add(platform.key)
                builds.setdefault(package.name, package)
    for name, platforms in where.items():
        package = builds[name]
        required = name in _required(project)
        bound = [source for source in project.sources if source.package == name]
        text = f"{name} {package.version or ''} comes from {package.location} on {platforms_text(platforms)}"
        if required and bound:
            yield Finding(
                "lock-outdated",
                "error",
                f"{text}, though the project has a source for it: the lock is not made from this pyproject.toml.",
                MEND,
                upgrade=(name,),
            )
            continue
        users = [user for user in lock.dependents(name) if user != project.name]
        by = f"{', '.join(users[:3])} needs it, and a" if users and not required else "A"
        edits = _anchored(project, (name,))
        yield Finding(
            "not-anchored",
            "error",
            f"{text}, though the project pins its PyTorch packages. {by} source reaches only what the project itself "
            "requires and names.",
            MEND if edits else None,
            edits,
            _kept(project, lock, (name,), catalog) if edits else (),
        )


# Sources of dependencies


def _leaks(project: Project, lock: Lock) -> list[tuple[str, tuple[str, ...], str]]:
    """(the dependency, the PyTorch packages, the index) that sources of a dependency bring."""
    members = {project.name, project.root_name, *(member.name for member in project.members)}
    urls = [index.url for one in (project, *project.members) for index in one.indexes]
    found: dict[tuple[str, str], list[str]] = {}
    for package in lock.packages:
        if package.kind != "registry" or not project.is_pytorch(package.name) or package.backend is None:
            continue
        if any(same_url(url, package.location) for url in urls):
            continue
        for name in lock.dependents(package.name):
            for user in lock.named(name):
                if user.kind in ("git", "directory", "editable", "path", "url") and name not in members:
                    found.setdefault((name, package.location), []).append(package.name)
    return [(name, tuple(dict.fromkeys(names)), url) for (name, url), names in found.items()]


def _leak_finding(name: str, names: tuple[str, ...], url: str) -> Finding:
    return Finding(
        "source-leaked",
        "warning",
        f"{', '.join(names)} comes from {url} because {name}, which comes from a repository or a path, says so in its "
        "own `[tool.uv.sources]`: that decides the build for this project, and a pin of another backend here would "
        f"contradict it. Pin the packages here to the same index, or take {name} as a package without sources.",
    )


# Nothing to install


def _without_wheels(project: Project, seen: Iterable[Installed], here: Environment | None) -> Iterator[Finding]:
    meant: dict[tuple[str, str | None, str], tuple[Package, set[str]]] = {}
    for one in seen:
        for package in one.packages:
            key = package.name, package.version, package.location
            meant.setdefault(key, (package, set()))[1].add(one.situation.platform.key)
    for package, platforms in meant.values():
        # Companions are required without a marker as often as not; where torch has no build they matter to nobody.
        if package.kind != "registry" or not project.is_pinned(package.name) or has_sdist(package):
            continue
        has = wheel_platforms(package)
        if not platforms & has:
            yield Finding(
                "no-wheels",
                "error",
                f"{package.name} {package.version} from {package.location} is locked for {platforms_text(platforms)}, "
                f"and has no wheel there: `uv sync` fails. It has wheels for {platforms_text(has) or 'no platform'}.",
            )
        elif here is not None and here.platform.key in platforms - has:
            yield Finding(
                "no-wheels",
                "error",
                f"{package.name} {package.version} from {package.location} has no wheel for this machine's platform, "
                f"{platforms_text({here.platform.key})}: `uv sync` fails here. A marker on its source leaves this "
                "platform to PyPI's build.",
                ("uvtorch", "torch", "use", str(package.backend)) if package.backend else None,
            )


def wheel_platforms(package: Package) -> set[str]:
    """The platforms, as keys, that the lock has wheels of a package for."""
    if package.parsed is not None:
        tags = [
            str(row.get("url", row.get("filename", ""))).rpartition("-")[2] for row in package.parsed.get("wheels", ())
        ]
    else:
        tags = _WHEEL.findall(package.text)
    found: set[str] = set()
    for tag in dict.fromkeys(tags):
        for part in tag.removesuffix(".whl").split("."):
            found |= _platforms_of(part)
    return found


def _platforms_of(tag: str) -> set[str]:
    if tag == "any":
        return {"linux_x86_64", "linux_aarch64", "windows_amd64", "windows_arm64", "macos_arm64", "macos_x86_64"}
    if tag.startswith("win"):
        return {"win_amd64": {"windows_amd64"}, "win_arm64": {"windows_arm64"}}.get(tag, set())
    if tag.startswith("macosx"):
        machines = {"arm64": {"arm64"}, "x86_64": {"x86_64"}, "universal2": {"arm64", "x86_64"}}
        return {f"macos_{machine}" for end, names in machines.items() if tag.endswith(end) for machine in names}
    return {f"linux_{machine}" for machine in ("x86_64", "aarch64") if tag.endswith(f"_{machine}")}


def has_sdist(package: Package) -> bool:
    """Whether it can be built where it has no wheel."""
    return "sdist" in package.parsed if package.parsed is not None else _SDIST in package.text


def _left_out(lock: Lock, here: Environment | None) -> Iterator[Finding]:
    if here is not None and not supports(lock, here):
        only = ", ".join(f"`{marker}`" for marker in lock.supported)
        yield Finding(
            "environments-drop-platform",
            "error",
            f"The lock is made for {only} only (`[tool.uv] environments`), which this machine is not: `uv sync` fails "
            "here. `required-environments` asks for wheels on some platforms without giving up the others.",
            MEND,
            (edit.RequireEnvironments(),),
        )

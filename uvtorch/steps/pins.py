"""Requirements, pins and lower bounds of a command and a whole workspace, and changing all of its files together."""

import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from packaging.version import Version

from uvtorch import edits, files
from uvtorch.backend import Backend, same_url
from uvtorch.choose import Decision
from uvtorch.errors import NoBuild, UvtorchError
from uvtorch.packages import normalize
from uvtorch.project import Project, Source, Target, read
from uvtorch.project.indexes import uv_toml
from uvtorch.project.lock import Lock
from uvtorch.project.model import BASE
from uvtorch.project.pyproject import PyProject
from uvtorch.project.script import script_block
from uvtorch.requirement import bare_requirement, can_hold, named_by, parse, within, without_local
from uvtorch.session import Session
from uvtorch.transaction import Transaction


def pins_of(session: Session) -> tuple[Source, ...]:
    """The sources of the project's PyTorch packages for no extra or group, else a workspace sibling's."""
    for project in session.projects:
        if found := tuple(one for one in _pins(project) if one.target == BASE):
            return found
    return ()


def selected_pins(session: Session) -> tuple[Source, ...]:
    """All of the workspace, with those for an extra or a group."""
    return tuple(pin for project in session.projects for pin in _pins(project))


def _pins(project: Project) -> Iterator[Source]:
    indexed = (one for one in project.sources if one.index and project.is_pinned(one.package))
    return (one for one in indexed if can_hold(one.marker))


def pins_unsaid(session: Session) -> tuple[Source, ...]:
    """Where torch comes from though no base's source says so: a member's extra or group does, or a dependency.

    uv applies the sources of a dependency from a repository or a path: another index beside that is an error.
    """
    if found := selected_pins(session):
        alike = {one.url for one in found} == {found[0].url}
        return tuple(one._replace(extra=None, group=None) for one in found if alike)
    lock, members = session.locked(), {project.name for project in session.projects}
    local = {one.name for one in lock.packages if one.kind != "registry"} - members
    builds = [] if local.isdisjoint(lock.dependents("torch")) else lock.named("torch")
    rows = [(one.backend, one.location) for one in builds if one.kind == "registry"]
    return tuple(Source("torch", backend.index_name, url, backend) for backend, url in rows if backend)


class Change:
    """Edits of every file of the workspace."""

    def __init__(self, session: Session, tx: Transaction) -> None:
        self.session = session
        self.tx = tx
        self._pins = False
        self.files: dict[str, tuple[Project, PyProject]] = {
            manifest.path: (project, session.file(manifest)) for manifest, project in session.files
        }
        """By their paths, the project's own first."""

    def to(
        self,
        decision: Decision,
        packages: Sequence[str] = (),
        transitive: Sequence[str] = (),
        *,
        keeping: Sequence[str] | None = None,
    ) -> None:
        """Pin every project that names PyTorch packages or pins them; this one if no other does.

        At a workspace's root its members' packages are pinned in the root's file, whose sources they inherit.
        `keeping`: the requirements that keep their local version; None: all of this project.
        """
        self._pins, base = True, self.session.index_base
        own, *others = self.files
        shared, pinned = tuple(packages), False
        for path in others:
            project, file = self.files[path]
            overridden = self._overridden(path)
            names = (*project.pytorch_packages(), *overridden)
            if self.session.required_site.at_root and not any(source.index for source in project.own_sources):
                shared += names
            elif names:
                pinned = True
                edits.pin(file, project, overridden, decision, base, staying=())
        project, file = self.files[own]
        shared += self._overridden(own)
        if shared or transitive or project.pytorch_packages() or project.own_indexes or not pinned:
            edits.pin(file, project, [*dict.fromkeys(shared)], decision, base, transitive=transitive, staying=keeping)
        standing = {*self.session.packages} - {*packages}  # what is added has its bounds already
        edits.bound(file, [(name, limit) for name, limit in decision.bounds if name in standing])

    def _overridden(self, path: str) -> tuple[str, ...]:
        """What the workspace's root overrides: its sources alone reach that."""
        return _overridden(self.session) if path == self.session.required_site.root.path else ()

    def take_out(self) -> None:
        """Take every pin out."""
        for project, file in self.files.values():
            edits.take_out(file, project)

    def strip_local_versions(self) -> None:
        """`torch==2.9.1+cu128` becomes `torch==2.9.1`: the source names the backend."""
        for project, file in self.files.values():
            texts: dict[tuple[Target, str], list[str]] = {}
            for item in project.pytorch_requirements():
                texts.setdefault((item.target, item.package), []).append(item.text)
            for (target, package), found in texts.items():
                if any("+" in text for text in found):
                    file.set_requirement(target, package, *map(without_local, found))

    def bound_anew(self, lowered: "Iterable[Lowered]", lock: Lock | None = None, kind: str | None = None) -> list[str]:
        """Give requirements the bound they had or one that a lock admits, without a lock none; what was lowered."""
        told: dict[str, None] = {}
        for path, target, package, before in lowered:
            project, file = self.files[path]
            specifier, text = parse(before).specifier, with_bound(before)
            if lowest := lock and _lowest_locked(lock, project, package, target):
                text = before if specifier and lowest in specifier else with_bound(before, _bound(lowest, kind))
                if specifier and text != before:
                    told[f"{before.partition(';')[0].strip()} to {text.partition(' ;')[0]}"] = None
            file.set_requirement(target, package, text)
        return [*told]

    def write(self) -> bool:
        """Write the files; whether any of them changed."""
        told = [*_beside_pins(self.session)] if self._pins else []
        first = self._pins and not pins_of(self.session)
        changed = [path for path, (_, file) in self.files.items() if self.session.edit(self.tx, file, path)]
        self.tx.warn(*(told if changed else ()))
        if changed and first and _is_published(self.session.required_site.manifest.data):
            self.tx.say(
                "the pin is for development: sources are not published, so users install the build that fits them"
            )
        return bool(changed)


def _overridden(session: Session) -> tuple[str, ...]:
    """The pinned packages that the workspace overrides, and does not override away."""
    texts = session.required_site.root.data.get("tool", {}).get("uv", {}).get("override-dependencies", ())
    names = (named_by(text) for text in texts if can_hold(text.partition(";")[2]))
    return tuple(name for name in names if name and session.project.is_pinned(name))


def _is_published(data: Mapping[str, Any]) -> bool:
    table = data.get("project", {})
    private = any(str(text).startswith("Private ::") for text in table.get("classifiers", ()))
    return "build-system" in data and not private and not table.keys().isdisjoint(("classifiers", "urls", "license"))


def _beside_pins(session: Session) -> Iterator[str]:
    """What uv does beside pins because of its configuration."""
    root = session.required_site.root
    path = None if root.script else uv_toml(root.directory, root.data)
    name, own = os.path.relpath(path or root.path), os.path.relpath(root.path)
    if path and os.path.dirname(path) == root.directory:
        yield f"uv will warn that `index` is ignored beside {name}; where a source names it, as here, it is not"
    elif path and "uv" not in root.data.get("tool", {}):
        yield f"uv reads {own} in the place of {name} from now on, for it has a `[tool.uv]`: copy what it still needs"
    for one in session.outside:
        yield f"{one.origin} gives uv {one.url} for every package: remove it there, or numpy comes from it too"


# Lower bounds


class Lowered(NamedTuple):
    """A requirement that lost its bound, or gets one, as it was before."""

    path: str
    target: Target
    package: str
    before: str

    @property
    def place(self) -> tuple[str, Target, str]:
        """Where it stands: its file, target and package."""
        return self[:3]


def decide_lowering(
    session: Session, requirements: Sequence[str], backend: Backend | None
) -> tuple[Decision, tuple[Lowered, ...]]:
    """The decision, and the lower bounds that alone stood in its way. Raises NoBuild."""
    try:
        first: Decision | NoBuild = session.decide(requirements, backend)
    except NoBuild as error:
        first = error
    if isinstance(first, Decision) and (first.torch or first.backend not in session.catalog.builds):
        return first, ()
    if lowered := tuple(lower_bounds(session)):
        with suppress(NoBuild):
            found = session.decide(without_bounds(requirements, lowered), backend)
            if found.torch or isinstance(first, NoBuild):
                return found, lowered
    if isinstance(first, NoBuild):
        raise first
    return first, ()


def lower_bounds(session: Session) -> Iterator[Lowered]:
    """The single `>=` bounds of direct PyTorch requirements: nobody asked for those. What is overridden has none."""
    overridden = _overridden(session)
    for manifest, project in session.files:
        places = [(one.target, one.package) for one in project.requirements]
        for item in project.pytorch_requirements():
            alone = places.count((item.target, item.package)) == 1 and item.package not in overridden
            if alone and [one.operator for one in parse(item.text).specifier] == [">="]:
                yield Lowered(manifest.path, item.target, item.package, item.text)


def with_bound(text: str, bound: str = "") -> str:
    """`torch[opt]>=2.15.0 ; m` with another specifier, or without one."""
    _, semicolon, tail = text.partition(";")
    return bare_requirement(text) + bound + (f" ;{tail}" if semicolon else "")


def without_bounds(requirements: Iterable[str], lowered: Iterable[Lowered]) -> tuple[str, ...]:
    """The same, those that are lowered without their bounds."""
    texts = {one.before for one in lowered}
    return tuple(with_bound(text) if text in texts else text for text in requirements)


def bound_anew(session: Session, tx: Transaction, lowered: Sequence[Lowered], kind: str | None = None) -> None:
    """Give requirements the bound they had or one that the lock admits, and tell that; `kind`: of `uv add --bounds`."""
    if tx.dry or not lowered:
        return
    change = Change(session, tx)
    told = change.bound_anew(lowered, session.locked(), kind)
    if change.write():
        tx.uv(*session.relock, "--quiet")
    if told:
        tx.say(f"lowered {' and '.join(told)}")


def unbounded(session: Session) -> list[Lowered]:
    """The project's own PyTorch requirements that have no bound."""
    path, items = session.required_site.manifest.path, session.project.pytorch_requirements()
    return [Lowered(path, one.target, one.package, one.text) for one in items if not parse(one.text).specifier]


def _lowest_locked(lock: Lock, project: Project, package: str, target: Target) -> Version | None:
    """The lowest from its own indexes, else of all: the base must admit every choice's."""
    urls = [one.url for one in project.sources if (one.package, one.target) == (package, target)]
    found = [(Version(row.version), row.location) for row in lock.named(package) if row.version]
    own = [version for version, url in found if same_url(url, *urls)]
    return min(own or [version for version, _ in found], default=None)


def _bound(version: Version, kind: str | None) -> str:
    """What `uv add --bounds KIND` writes; None: `lower`."""
    if kind == "exact":
        return f"=={version.public}"
    if kind not in ("major", "minor"):
        return f">={version.public}"
    digits = [*version.release, 0, 0][:3]
    place = (kind == "minor") + (digits[0] == 0)  # below 1.0 each part stands for the one before it
    upper = [*digits[:place], digits[place] + 1, 0, 0][:3]
    return f">={version.public},<{'.'.join(map(str, upper))}"


# What a command names in its words and files


class Requested(NamedTuple):
    """A PyTorch package that the command line adds."""

    package: str
    """Normalized."""
    text: str
    position: int | None = None
    """Where it stands in `CommandLine.argv`; None: in a requirements file."""


def requested_by(session: Session) -> tuple[Requested, ...]:
    """The PyTorch packages that the words and the requirements files name."""
    line, directory = session.line, files.current_directory(session.line, session.env)
    rows: list[tuple[str, int | None]] = [*zip(line.positionals, line.positionals_at, strict=True)]
    for path in line.values("--requirements"):
        file = path if path == "-" else os.path.join(directory, path)
        rows += ((text, None) for text in requirements_in(file))
    named = (Requested(named_by(text) or "", text, position) for text, position in rows)
    return tuple(one for one in named if session.project.is_pinned(one.package))


def words_with(session: Session, requested: Sequence[Requested], decision: Decision) -> list[str]:
    """uv's arguments, without local versions and within the decision's bounds."""
    words, bounds = [*session.line.argv], dict(decision.bounds)
    for item in requested:
        if item.position is not None:
            words[item.position] = within(without_local(item.text), bounds)
    return words


def requirements_in(path: str, keys: Collection[str] = ("base",), seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The requirements in a file as pip reads them, or in the metadata of a script or pyproject.toml.

    `keys`, for pyproject.toml: `base`, `extra NAME` (`*`: all), `group NAME`. What cannot be read gives nothing: uv
    says so better.
    """
    text = None if path in seen else files.text(path)
    if text is None:
        return
    if path.endswith((".toml", ".py")):
        yield from _metadata_requirements(path, text, keys)
        return
    for row in text.replace("\\\n", " ").splitlines():
        entry = row.partition(" #")[0].strip()
        if entry.startswith(("-r", "--requirement")):
            name = entry.removeprefix("--requirement").removeprefix("-r").lstrip(" =")
            yield from requirements_in(os.path.join(os.path.dirname(path), name), keys, seen | {path})
        elif entry and not entry.startswith(("#", "-")):
            yield entry.partition(" --")[0].rstrip()


def _metadata_requirements(path: str, text: str, keys: Collection[str]) -> Iterator[str]:
    script = path.endswith(".py")
    try:
        data = tomllib.loads((script_block(text) or "") if script else text)
        project = read({"project": data} if script else data)
    except (tomllib.TOMLDecodeError, UvtorchError):
        return
    named = {*map(normalize, keys)}
    for item in project.requirements:
        if not named.isdisjoint((normalize(str(item.target)), f"{item.target.kind} *")):
            yield item.text

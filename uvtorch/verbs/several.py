"""Projects that offer several backends: the choice that fits here, and packages that go into every choice."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from uvtorch.argv import CommandLine, carried, frozen, is_set, options_for, unsynced
from uvtorch.backend import Backend, same_url
from uvtorch.errors import MachineError, NoBuild, ProjectError, UsageError
from uvtorch.packages import bare_requirement, normalize, roles
from uvtorch.plan import Plan, hand_over
from uvtorch.project import Choice, Project, Target, selection
from uvtorch.recall import remembering
from uvtorch.verbs.deciding import OPTION, VARIABLE, Asked, Opened, Requested, asked, edited, interpreter, open_project

if TYPE_CHECKING:
    from packaging.version import Version

    from uvtorch.choose import Ranking
    from uvtorch.edit import Operation
    from uvtorch.locate import Site
    from uvtorch.machine import Machine, Problem


def compile_sync(line: CommandLine, env: Mapping[str, str], opened: Opened, wanted: Asked) -> Plan:
    """`sync|run|export --auto`: the same command with the options of the choice that fits.

    An option of the user's own that names a choice wins. Nothing is edited. A backend that is asked for by name is
    taken, with one warning where it would not run here. Raises NoBuild where no choice has it, MachineError where the
    driver that a choice needs is broken: that machine's CPU choice must be asked for.
    """
    project = opened.project
    if line.verb == "lock":  # a lock holds every choice
        return hand_over(line.argv)
    said = options_of(line, env)
    named = project.selectable()
    if selection.settled(named, said):
        return _completed(line, project, selection.named(named, said), said)
    from uvtorch.hardware import detect

    machine = detect(env)
    choices = selection.open_to(project.choices_for(machine.platform), said)
    upgrades = line.has("--upgrade") or "torch" in map(normalize, line.values("--upgrade-package"))
    ranking = rank(machine, opened, choices, interpreter(line, env, opened.site), use_lock=not upgrades)
    best, warnings = ranking.best, ranking.warnings
    if wanted.backend:
        best = _named(project, choices, wanted.backend)
        option = ranking.options[best]
        who = "" if option.reason.startswith("torch ") else "it "
        warnings = () if option.fits else (f"{wanted.backend} will not run on this machine: {who}{option.reason}",)
    elif problem := broken(machine, choices, ranking):
        raise _refusal(problem, project, choices, said)
    if best is None:
        return hand_over(line.argv, *warnings)
    chosen = choices[best]
    extra = selection.selection(project, chosen, said)
    option = ranking.options[best]
    release = f", torch {option.torch}" if option.torch else ""
    build = chosen.backend or ("PyPI's build" if chosen.origin == "pypi" else "an index that names no backend")
    why = f": {option.reason}" if option.fits else ""
    text = f"using {' '.join(extra) or 'the project as it is'} ({build}{release}){why}"
    plan = Plan(last=tuple(line.with_options(*extra)), decisions=(text,), warnings=warnings)
    return remembering(plan, line, env, machine, extra)


def _completed(line: CommandLine, project: Project, named: Sequence[Choice], said: selection.Asked) -> Plan:
    """The user's own choice. Where an alias names it (`gpu = ["proj[cu128]"]`), with the extra or group it stands for.

    uv 0.13.8 takes a source only where its own extra or group is asked for: by the alias alone comes PyPI's build.
    """
    own = {normalize(name) for name in (*said.extras, *said.groups, *said.only_groups)}
    if len(named) != 1 or said.only_groups or normalize(named[0].name or "") in own:
        return hand_over(line.argv)
    extra = selection.selection(project, named[0], said)
    text = f"using {' '.join(extra)} with what stands for it: its index is taken where it is named itself"
    return Plan(last=tuple(line.with_options(*extra)), decisions=(text,) if extra else ())


def rank(
    machine: "Machine", opened: Opened, choices: Sequence[Choice], python: str | None, *, use_lock: bool = True
) -> "Ranking":
    """The choices of a project as `machine` sees them, best first in `Ranking.best`.

    What uv.lock holds counts, where the requirements still admit it: what else a choice might give, it does not give.
    A choice whose index does not say what it serves is never the best; the base, where no source speaks of it, only if
    no extra or group fits.
    """
    from uvtorch import catalog
    from uvtorch.choose import Option, Ranking, Request, rank_choices

    project = opened.project

    def among(places: Sequence[int]) -> Ranking:
        backends = [choices[at].backend for at in places]
        ranking = rank_choices(
            machine,
            Request((), python=python, requires_python=project.requires_python),
            backends,
            catalog.load(),
            torch=locked_releases(opened.site.lock, backends) if use_lock else (),
            requirements=[requirements_of_choice(project, choices[at]) for at in places],
        )
        options = [Option(None, None, False, "its index or wheel does not say what it was built for")] * len(choices)
        for at, option in zip(places, ranking.options, strict=True):
            options[at] = option
        best = None if ranking.best is None else places[ranking.best]
        return Ranking(best, tuple(options), ranking.warnings)

    silent = [str(choice.target) for choice in choices if choice.origin == "unknown"]
    known = [at for at, choice in enumerate(choices) if choice.origin != "unknown"]
    ranking = among(known)
    said = [at for at in known if choices[at].kind != "base" or choices[at].stated]
    if len(said) < len(known):
        named = among(said)
        if named.best is not None and named.options[named.best].fits:
            ranking = ranking._replace(best=named.best)
    if silent and ranking.warnings:
        ranking = ranking._replace(warnings=(f"{ranking.warnings[0]} ({', '.join(silent)}: no backend in the URL)",))
    return ranking


def requirements_of_choice(project: Project, choice: Choice) -> tuple[str, ...]:
    """The PyTorch requirements that come with a choice: its own, the base's, and those of default groups."""
    others = {row.target for row in project.choices()} - {choice.target}
    defaults = {Target("group", name) for name in project.default_groups} - others
    texts = [
        item.text
        for item in project.requirements
        if item.target in (choice.target, Target("base"), *defaults) and project.is_pinned(item.package)
    ]
    for source in project.sources:
        if source.target == choice.target and source.package == "torch" and source.kind == "url" and source.url:
            name = source.url.rpartition("/")[2].replace("%2B", "+").replace("%2b", "+")
            if name.count("-") >= 4:  # a wheel: its name has its version
                texts.append("torch==" + name.split("-")[1].partition("+")[0])
    return tuple(dict.fromkeys(texts)) or ("torch",)


def locked_releases(path: str, backends: Sequence[Backend | None]) -> tuple[str | None, ...]:
    """The torch release that a uv.lock has from each backend's index (None: PyPI's); None where not exactly one."""
    from uvtorch.project.lock import read_lock

    try:
        with open(path, encoding="utf-8") as file:
            builds = read_lock(file.read(), only="torch")
    except (OSError, UnicodeDecodeError, ProjectError):  # absent, or uv will say what is wrong with it
        return ()
    found = []
    for backend in backends:
        versions = {
            build.version.partition("+")[0]
            for build in builds.named("torch")
            if build.version and build.kind in ("registry", "url") and build.backend == backend
        }
        found.append(versions.pop() if len(versions) == 1 else None)
    return tuple(found)


def broken(machine: "Machine", choices: Iterable[Choice], ranking: "Ranking") -> "Problem | None":
    """The broken driver that keeps a choice of this project from running; None where there is no such thing."""
    from uvtorch.choose.fit import FAMILY

    choices = tuple(choices)
    best = choices[ranking.best].backend if ranking.best is not None else None
    if best and best.family != "cpu" and ranking.options[ranking.best or 0].fits:
        return None
    families = {choice.backend.family for choice in choices if choice.backend}
    if any(choice.origin == "pypi" for choice in choices) and machine.platform.system != "macos":
        families.add("cu")
    return next((one for one in machine.problems if one.kind == "broken" and FAMILY.get(one.vendor) in families), None)


def _refusal(problem: "Problem", project: Project, choices: Sequence[Choice], said: selection.Asked) -> MachineError:
    spare = next((choice for choice in choices if choice.backend and choice.backend.family == "cpu"), None)
    hints = [problem.remedy] if problem.remedy else []
    if spare:
        told = " ".join(selection.selection(project, spare, said))
        hints.append(
            f"the CPU choice is there without --auto: {told}" if told else "the CPU choice is what comes without --auto"
        )
    return MachineError(f"{problem.reason.rstrip('.')}.", *hints)


def _named(project: Project, choices: Sequence[Choice], backend: Backend) -> int:
    """The choice that gives this backend, here or on another platform. Raises NoBuild where none does."""
    for rows in (choices, project.choices()):
        for row in rows:
            if row.backend == backend:
                at = next((at for at, choice in enumerate(choices) if choice.target == row.target), None)
                if at is not None:
                    return at
    raise no_such_choice(project.choices(), backend)


def no_such_choice(choices: Iterable[Choice], backend: Backend) -> NoBuild:
    """The error for a backend that a project does not offer."""
    offered = list(dict.fromkeys(str(choice.backend) for choice in choices if choice.backend))
    return NoBuild(
        f"the project offers no {backend}, only {', '.join(offered)}",
        f"`uvtorch torch backends {' '.join([*offered, str(backend)])}` adds it",
    )


def options_of(line: CommandLine, env: Mapping[str, str]) -> selection.Asked:
    """The options of `sync`, `run` and `export` that select extras and groups, and uv's variables for them."""

    def every(name: str) -> tuple[str, ...]:
        return tuple(part for value in line.values(name) for part in value.replace(",", " ").split())

    def last(on: str, *off: str) -> bool:
        given = [name for name, _ in line.options if name in (on, *off)]
        return bool(given) and given[-1] == on

    no_groups = every("--no-group") + tuple(env.get("UV_NO_GROUP", "").replace(",", " ").split())
    if last("--no-dev", "--dev") or (is_set(env, "UV_NO_DEV") and not line.has("--dev")):
        no_groups += ("dev",)
    return selection.Asked(
        extras=every("--extra"),
        no_extras=every("--no-extra"),
        groups=every("--group") + (("dev",) if last("--dev", "--no-dev") else ()),
        no_groups=no_groups,
        only_groups=every("--only-group") + (("dev",) if line.has("--only-dev") else ()),
        all_extras=last("--all-extras", "--no-all-extras"),
        all_groups=line.has("--all-groups"),
        no_default_groups=line.has("--no-default-groups") or is_set(env, "UV_NO_DEFAULT_GROUPS"),
    )


def target_of(line: CommandLine) -> Target | None:
    """The extra or group that `add` and `remove` are told to change; None: the project's dependencies."""
    extra, group = line.value("--optional"), line.value("--group")
    if extra is not None:
        return Target("extra", extra)
    if group is not None or line.has("--dev"):
        return Target("group", group or "dev")
    return None


def editable(project: Project) -> tuple[Choice, ...]:
    """The choices that the project's own file has: those that sources state, and the alternatives without a source.

    Raises ProjectError where choices are the workspace root's alone.
    """
    from uvtorch.machine import Platform

    found: dict[Target, Choice] = {}
    rows = list(project.choices())
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("windows", "x86_64"), ("macos", "arm64")):
        rows += project.choices_for(Platform(system, machine))
    for row in rows:
        if row.kind != "base" and project.declared(row.kind, row.name or ""):
            found.setdefault(row.target, row)
    if not found and any(row.kind != "base" for row in rows):
        root = project.root_name or "the root"
        raise ProjectError(
            f"the backend choices are those of the workspace's root ({root}), not of {project.origin}",
            f"`--package {root}` changes them there",
        )
    return tuple(found.values())


def compile_add(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    requested: tuple[Requested, ...],
) -> Plan:
    """`add` of PyTorch packages: into every choice, with the sources that torch has there; into one if one is named.

    Other requirements of the same command line go where uv puts them. Raises UsageError for a target that is no choice,
    NoBuild where a backend is named that no choice has, ProjectError where a choice has no index to take them from.
    """
    project = opened.project
    choices = editable(project)
    target = target_of(line)
    chosen = _choices_at(target, choices)
    if target is not None and not chosen:
        offered = ", ".join(str(choice.target) for choice in choices)
        raise UsageError(
            f"{requested[0].package} in {target} would come from PyPI, whatever backend is chosen",
            f"without a target it goes into every choice ({offered}); `uv add` puts it there as it is",
        )
    wanted = asked(line, env, [item.text for item in requested])
    if wanted.backend and wanted.origin != VARIABLE:
        backend = wanted.backend
        stated = {row.target for row in project.choices() if _serves(row, backend, wanted.origin)}
        chosen = tuple(choice for choice in chosen if choice.target in stated)
        if not chosen:
            raise no_such_choice(project.choices(), backend)
    full = target is None and len(chosen) == len(choices)
    before = {(item.package, item.target) for item in project.requirements}
    operations: list[Operation] = []
    for item in requested:
        text = _as_told(line, item.text)
        operations += placed(project, item._replace(text=text), chosen, base=full)
    rest = _without(line, env, requested)
    names = [item.package for item in requested]
    places = (Target("base"), *(choice.target for choice in chosen))
    fresh = tuple((name, place) for name in names for place in places if (name, place) not in before)
    text = f"{', '.join(names)} into {', '.join(str(place) for place in places[1:])}"
    return _plan(line, env, opened, operations, [tuple(rest)] if rest else [], text, fresh)


def _serves(choice: Choice, backend: Backend, origin: str) -> bool:
    """Whether a choice is the one that is meant; a local version names a nightly build as it does a stable one."""
    if choice.backend is None:
        return False
    return choice.backend == backend or (origin != OPTION and choice.backend.name == backend.name)


def _choices_at(target: Target | None, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    if target is None:
        return choices
    name = normalize(target.name or "")
    return tuple(choice for choice in choices if choice.kind == target.kind and normalize(choice.name or "") == name)


def _as_told(line: CommandLine, text: str) -> str:
    """A requirement with what `--extra` and `--marker` add to it."""
    head, semicolon, marker = text.partition(";")
    extras = [part for value in line.values("--extra") for part in value.replace(",", " ").split()]
    if extras:
        name = bare_requirement(head).partition("[")[0]
        before = bare_requirement(head).partition("[")[2].rstrip("] ")
        listed = dict.fromkeys([*(part.strip() for part in before.split(",") if part.strip()), *extras])
        head = f"{name}[{','.join(listed)}]{head.strip()[len(bare_requirement(head)) :]}"
    told = (line.values("--marker") or line.values("-m"))[-1:]
    if told:
        marker = f" ({marker.strip()}) and ({told[0]})" if semicolon else f" {told[0]}"
        return f"{head.strip()} ;{marker}"
    return head + semicolon + marker


def placed(project: Project, item: Requested, chosen: tuple[Choice, ...], base: bool) -> "list[Operation]":
    """The edits that put a package where the chosen ones have theirs, and take it from the same indexes.

    Raises ProjectError where a choice takes its packages from no index, so that this one would be PyPI's.
    """
    from uvtorch import edit
    from uvtorch.pinning import unlocalized

    text = unlocalized(item.text.strip())
    places = {choice.target: choice.packages[0] for choice in chosen}
    base_packages = {one.package for one in project.requirements if one.target.kind == "base"}
    if base and any(project.is_pinned(name) for name in base_packages):
        places[Target("base")] = "torch"
    entries = [source for source in project.sources if source.package == item.package and not source.inherited]
    have = {source.target for source in entries}
    added = []
    for target, model in places.items():
        if target in have:
            continue
        theirs = [source for source in project.sources if source.package == model and source.target == target]
        if any(source.kind != "index" for source in theirs):
            raise ProjectError(
                f"{target} takes {model} from no index, so there is none to take {item.package} from",
                f"give {item.package} a source there, or name one choice that has an index: --optional NAME",
            )
        added += theirs
    operations: list[Operation] = []
    for target in places:
        where = edit.Target(target.kind, target.name or "")
        present = [one for one in project.requirements if one.package == item.package and one.target == target]
        bare = text == bare_requirement(text)
        if bare and "[" in text and present:
            text_here = _with_extras(present[0].text, text)
            operations.append(edit.SetRequirement(where, item.package, text_here))
        elif bare:
            operations.append(edit.AddRequirement(where, text))
        else:
            operations.append(edit.SetRequirement(where, item.package, text))
    sources = tuple(edit.Source(one.index or "", one.marker, one.extra, one.group) for one in (*entries, *added))
    if added:
        operations.append(edit.SetSources(item.package, sources))
    return operations


def _with_extras(present: str, told: str) -> str:
    """A requirement that a project has, with the extras of one that is added."""
    head = bare_requirement(present)
    name, _, mine = head.partition("[")
    listed = [part.strip() for part in (mine.rstrip("] ") + "," + told.partition("[")[2].rstrip("] ")).split(",")]
    extras = ",".join(dict.fromkeys(part for part in listed if part))
    return f"{name.strip()}[{extras}]{present.strip()[len(head) :]}"


def _without(line: CommandLine, env: Mapping[str, str], requested: tuple[Requested, ...]) -> list[str]:
    """The command line less the PyTorch requirements, which does not sync; empty if nothing is left to add."""
    gone = {item.at for item in requested if item.at is not None}
    names = {item.package for item in requested}
    left = [text for text, at in zip(line.positionals, line.positionals_at, strict=True) if at not in gone]
    files = line.values("--requirements")
    if any(item.at is None for item in requested):
        left += _others(line, env, files, names)
        files = []
    if not left and not files:
        return []
    words = ["add"] if unsynced(line, env) else ["add", "--no-sync"]
    for name, value in line.options:
        if name != "--requirements":
            words += [name] if value is None else [name, value]
    words += [word for file in files for word in ("--requirements", file)]
    return [*words, *(["--"] if any(text.startswith("-") for text in left) else []), *left]


def _others(line: CommandLine, env: Mapping[str, str], files: Sequence[str], names: set[str]) -> list[str]:
    """What requirements files ask for besides the PyTorch packages. UsageError where they say more than that."""
    from uvtorch.locate import current_directory
    from uvtorch.packages import named_by
    from uvtorch.verbs.add import requirements_in

    directory = current_directory(line, env)
    found = []
    for name in files:
        path = os.path.join(directory, name)
        with open(path, encoding="utf-8-sig") as file:
            rows = [row.strip() for row in file]
        more = next((row for row in rows if row.startswith("-") and not row.startswith(("-r", "--requirement"))), None)
        if more:
            raise UsageError(
                f"{name} holds PyTorch packages beside an option of its own: {more}",
                "add those packages by their names: the project takes each from several indexes",
            )
        found += [text for text in requirements_in(path) if named_by(text) not in names]
    return found


def _plan(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    operations: "list[Operation]",
    commands: list[tuple[str, ...]],
    text: str,
    fresh: tuple[tuple[str, Target], ...] = (),
) -> Plan:
    """Edit, lock, bound what is `fresh` as `uv add` does, see to what came along, and sync to the choice that fits."""
    site = opened.site
    edits = edited(opened, operations)
    locking = not frozen(line, env)
    if locking:
        commands.append(("lock", *options_for(line, "lock")))
    closing, warnings = ((), ()) if unsynced(line, env) else sync_to_choice(line, env, opened)
    bounded = bool(fresh) and locking and not line.has("--raw")
    then = None
    if locking:
        from uvtorch import uv
        from uvtorch.verbs.transitive import follow

        after = follow(line, env, lambda: uv.find(env), site.lock, resync=False)
        then = partial(_followed, line, env, site, fresh if bounded else (), after)
    decisions = (text + ("; bounds follow from the lock, as with `uv add`" if bounded else ""),)
    guarded = (site.manifest.path, site.lock)
    return Plan(
        tuple(commands), edits, guarded, decisions, warnings, then=then, closing=closing, styled=(site.manifest.path,)
    )


def sync_to_choice(
    line: CommandLine, env: Mapping[str, str], opened: Opened
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The `uv sync` to the choice that fits here, and the warnings about it. Raises MachineError as `compile_sync`."""
    from uvtorch.hardware import detect

    machine = detect(env)
    project = opened.project
    choices = project.choices_for(machine.platform)
    ranking = rank(machine, opened, choices, interpreter(line, env, opened.site))
    if problem := broken(machine, choices, ranking):
        refusal = _refusal(problem, project, choices, selection.NOTHING_ASKED)
        raise MachineError(str(refusal), *refusal.hints, f"--no-sync leaves the environment out of `{line.verb}`")
    best = ranking.best
    extra = selection.selection(project, choices[best]) if best is not None else ()
    package = line.value("--package")
    inexact = ("--inexact",) if line.verb == "add" else ()  # as uv: add keeps what else is installed, remove does not
    named = ("--package", package) if package else ()
    target = target_of(line)
    if line.verb == "add" and target and not _choices_at(target, choices):
        named = (f"--{target.kind}", target.name or "", *named)
    return (("sync", *inexact, *extra, *named, *options_for(line, "sync")),), ranking.warnings


def _followed(
    line: CommandLine,
    env: Mapping[str, str],
    site: "Site",
    fresh: tuple[tuple[str, Target], ...],
    after: Callable[[], Plan],
) -> Plan:
    """What a lock calls for: bounds for bare `fresh` requirements, then sources for what other packages brought."""
    opened = open_project(line, env) if fresh else None
    edits = edited(opened, _bounds(opened.project, site.lock, fresh, line.value("--bounds"))) if opened else ()
    return Plan((("lock", "--quiet", *carried(line)),), edits, then=after) if edits else after()


def _bounds(
    project: Project, lock: str, fresh: tuple[tuple[str, Target], ...], kind: str | None
) -> "Iterator[Operation]":
    """The lowest version that a choice has locked, as a bound of its bare requirements."""
    from uvtorch import edit

    versions = _locked_versions(lock)
    for item in project.requirements:
        head, semicolon, tail = item.text.partition(";")
        if (item.package, item.target) not in fresh or item.via or head.strip() != bare_requirement(item.text):
            continue
        urls = {one.url or "" for one in project.sources if one.package == item.package and one.target == item.target}
        rows = versions.get(item.package, [])
        # The base is resolved with each choice, so it must admit what each of them has.
        own = [version for version, url in rows if any(same_url(url, source) for source in urls)]
        lowest = min(own or [version for version, _ in rows], default=None)
        if lowest is not None:
            text = head.strip() + bound(lowest.public, kind)
            where = edit.Target(item.target.kind, item.target.name or "")
            yield edit.SetRequirement(where, item.package, f"{text} ;{tail}" if semicolon else text)


def bound(version: str, kind: str | None) -> str:
    """The specifier that `uv add --bounds KIND` writes for a version; `lower` if no kind is given."""
    if kind == "exact":
        return f"=={version}"
    if kind not in ("major", "minor"):
        return f">={version}"
    digits = [int(part) for part in (version + ".0.0").split(".")[:3] if part.isdigit()]
    at = (kind == "minor") + (digits[0] == 0)  # below 1.0 each part stands for the one before it
    upper = [*digits[:at], digits[at] + 1, 0, 0][:3]
    return f">={version},<{'.'.join(map(str, upper))}"


def _locked_versions(path: str) -> "dict[str, list[tuple[Version, str]]]":
    """The versions of each package in a uv.lock, each with where it comes from."""
    from packaging.version import InvalidVersion, Version

    from uvtorch.project.lock import read_lock

    try:
        with open(path, encoding="utf-8") as file:
            rows = read_lock(file.read(), path).packages
    except (OSError, ProjectError):
        return {}
    found: dict[str, list[tuple[Version, str]]] = {}
    for row in rows:
        try:
            found.setdefault(row.name, []).append((Version(row.version or ""), row.location))
        except InvalidVersion:
            continue
    return found


def compile_remove(line: CommandLine, env: Mapping[str, str], opened: Opened) -> Plan:
    """`remove` of PyTorch packages: out of every choice, with their sources; out of one if one is named.

    Other names of the same command line go as uv has it. Raises as `compile_add`.
    """
    from uvtorch import edit

    project = opened.project
    choices = editable(project)
    target = target_of(line)
    chosen = _choices_at(target, choices)
    places = [choice.target for choice in chosen] + ([Target("base")] if target is None else [])
    present = {(item.package, item.target) for item in project.requirements if item.via is None and not item.inherited}
    ours = {
        normalize(name)
        for name in line.positionals
        if project.is_pinned(normalize(name)) and any((normalize(name), choice.target) in present for choice in chosen)
    }
    if not ours:
        return hand_over(line.argv)
    asked_for = sorted(ours)
    for place in places:  # Triton is there for torch alone
        held = {name for name, where in present if where == place}
        if not any(project.is_pinned(name) for name in held - ours):
            ours |= {name for name in held if roles().get(name) == "companion"}
    operations: list[Operation] = []
    for name in sorted(ours):
        operations += [
            edit.RemoveRequirement(edit.Target(place.kind, place.name or ""), name)
            for place in places
            if (name, place) in present
        ]
        kept = tuple(
            edit.Source(source.index or "", source.marker, source.extra, source.group)
            for source in project.sources
            if source.package == name and not source.inherited and source.target not in places
        )
        operations.append(edit.SetSources(name, kept) if kept else edit.RemoveSources(name))
    gone = {at for at, text in zip(line.positionals_at, line.positionals, strict=True) if normalize(text) in ours}
    commands = []
    if len(gone) < len(line.positionals):
        words = [word for at, word in enumerate(line.argv) if at not in gone]
        at = line.verb_at + 1 - len([place for place in gone if place < line.verb_at])
        quiet = [] if unsynced(line, env) else ["--no-sync"]
        commands.append((*words[:at], *quiet, *words[at:]))
    names = ", ".join(str(place) for place in places if any((name, place) in present for name in ours))
    return _plan(line, env, opened, operations, commands, f"{', '.join(asked_for)} out of {names}")

"""Projects that offer several backends: the choice that fits here, and packages that go into every choice."""

from collections.abc import Mapping, Sequence
from functools import partial

from uvtorch import edit
from uvtorch.argv import CommandLine, carried, is_set
from uvtorch.backend import Backend
from uvtorch.choose import Ranking, Request, rank_choices
from uvtorch.errors import NoBuild, UsageError
from uvtorch.locate import Site
from uvtorch.machine import Machine
from uvtorch.packages import bare_requirement, normalize
from uvtorch.plan import Plan, hand_over
from uvtorch.project import Choice, Project, Target, selection
from uvtorch.verbs.deciding import (
    Asked,
    Opened,
    Requested,
    asked,
    edited,
    interpreter,
    open_project,
    requirements_of,
)


def compile_sync(line: CommandLine, env: Mapping[str, str], opened: Opened, wanted: Asked) -> Plan | None:
    """`sync|run|export --auto`: the same command with the options of the choice that fits; None without choices.

    An option of the user's own that names a choice wins. Nothing is edited. Raises NoBuild where `--torch-backend`
    names a backend that no choice has.
    """
    project = opened.project
    stated = tuple(choice for choice in project.choices() if choice.kind != "base")
    if not stated:
        return None
    if line.verb == "lock":  # a lock holds every choice
        return hand_over(line.argv)
    said = options_of(line, env)
    if selection.settled(stated, said):
        return hand_over(line.argv)
    from uvtorch.hardware import detect

    machine = detect(env)
    choices = selection.open_to(project.choices_for(machine.platform), said)
    ranking = rank(machine, opened, choices, interpreter(line, env, opened.site))
    if wanted.backend:
        best: int | None = _named(choices, wanted.backend)
        warnings: tuple[str, ...] = ()
    else:
        best, warnings = ranking.best, ranking.warnings
    if best is None:
        return hand_over(line.argv, *warnings)
    chosen = choices[best]
    extra = selection.selection(project, chosen, said)
    option = ranking.options[best]
    release = f", torch {option.torch}" if option.torch else ""
    build = chosen.backend or "PyPI's build"
    text = f"using {' '.join(extra) or 'the project as it is'} ({build}{release}): {option.reason}"
    return Plan(last=tuple(line.with_options(*extra)), decisions=(text,), warnings=warnings)


def rank(machine: Machine, opened: Opened, choices: Sequence[Choice], python: str | None) -> Ranking:
    """The choices of a project as `machine` sees them, best first in `Ranking.best`."""
    from uvtorch import catalog

    project = opened.project
    request = Request(requirements_of(project), python=python, requires_python=project.requires_python)
    return rank_choices(machine, request, [choice.backend for choice in choices], catalog.load())


def _named(choices: Sequence[Choice], backend: Backend) -> int:
    """The choice that gives this backend. Raises NoBuild where none does."""
    for at, choice in enumerate(choices):
        if choice.backend == backend:
            return at
    offered = ", ".join(dict.fromkeys(str(choice.backend) for choice in choices if choice.backend))
    raise NoBuild(
        f"the project offers no {backend}, only {offered}", f"`uvtorch torch backends --add {backend}` adds it"
    )


def options_of(line: CommandLine, env: Mapping[str, str]) -> selection.Asked:
    """The options of `sync`, `run` and `export` that select extras and groups, and uv's variables for them."""

    def every(name: str) -> tuple[str, ...]:
        return tuple(part for value in line.values(name) for part in value.replace(",", " ").split())

    def last(on: str, *off: str) -> bool:
        given = [name for name, _ in line.options if name in (on, *off)]
        return bool(given) and given[-1] == on

    no_groups = every("--no-group") + tuple(env.get("UV_NO_GROUP", "").split())
    if last("--no-dev", "--dev") or is_set(env, "UV_NO_DEV"):
        no_groups += ("dev",)
    return selection.Asked(
        extras=every("--extra"),
        no_extras=every("--no-extra"),
        groups=every("--group") + (("dev",) if line.has("--dev") else ()),
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


def compile_add(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    requested: tuple[Requested, ...],
    choices: tuple[Choice, ...],
) -> Plan:
    """`add` of PyTorch packages: into every choice, with the sources that torch has there; into one if one is named.

    Other requirements of the same command line go where uv puts them. Raises UsageError for a target that is no choice,
    NoBuild where a backend is named that no choice has.
    """
    project = opened.project
    target = target_of(line)
    chosen = _choices_at(target, choices)
    if target is not None and not chosen:
        names = ", ".join(str(choice.target) for choice in choices)
        raise UsageError(
            f"{requested[0].package} in {target} would come from PyPI, whatever backend is chosen",
            f"without a target it goes into every choice ({names}); `uv add` puts it there as it is",
        )
    texts = [item.text for item in requested]
    wanted = asked(line, env, texts)
    if wanted.backend and wanted.origin != "UV_TORCH_BACKEND":
        chosen = (chosen[_named(chosen, wanted.backend)],)
    operations: list[edit.Operation] = []
    for item in requested:
        operations += placed(project, item, chosen, base=target is None and len(chosen) == len(choices))
    rest = _without(line, requested)
    commands = [tuple(rest)] if rest else []
    return _plan(line, env, opened, operations, commands, tuple(item.package for item in requested))


def _choices_at(target: Target | None, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    if target is None:
        return choices
    name = normalize(target.name or "")
    return tuple(choice for choice in choices if choice.kind == target.kind and normalize(choice.name or "") == name)


def placed(project: Project, item: Requested, chosen: tuple[Choice, ...], base: bool) -> list[edit.Operation]:
    """The edits that put a package where the chosen ones have theirs, and take it from the same indexes."""
    from uvtorch.pinning import unlocalized

    text = unlocalized(item.text.strip())
    places: list[tuple[Target, str]] = [(choice.target, choice.packages[0]) for choice in chosen]
    base_packages = {one.package for one in project.requirements if one.target.kind == "base"}
    if base and project.pytorch_packages() and any(project.is_pinned(name) for name in base_packages):
        places.append((Target("base"), "torch"))
    entries = [source for source in project.sources if source.package == item.package and not source.inherited]
    have = {source.target for source in entries}
    added = [
        source
        for target, model in places
        if target not in have
        for source in project.sources
        if source.package == model and source.target == target and source.kind == "index"
    ]
    operations: list[edit.Operation] = []
    for target, _ in places:
        where = edit.Target(target.kind, target.name or "")
        if text == bare_requirement(text):
            operations.append(edit.AddRequirement(where, text))
        else:
            operations.append(edit.SetRequirement(where, item.package, text))
    sources = tuple(edit.Source(one.index or "", one.marker, one.extra, one.group) for one in (*entries, *added))
    if added:
        operations.append(edit.SetSources(item.package, sources))
    return operations


def _without(line: CommandLine, requested: tuple[Requested, ...]) -> list[str]:
    """The command line less the PyTorch requirements; empty if nothing is left to add."""
    gone = {item.at for item in requested if item.at is not None}
    left = [text for text, at in zip(line.positionals, line.positionals_at, strict=True) if at not in gone]
    if not left and not line.has("--requirements"):
        return []
    argv = [word for at, word in enumerate(line.argv) if at not in gone]
    at = line.verb_at + 1
    return [*argv[:at], "--no-sync", *argv[at:]] if not _unsynced(line, {}) else argv


def _unsynced(line: CommandLine, env: Mapping[str, str]) -> bool:
    return line.has("--no-sync", "--frozen") or is_set(env, "UV_NO_SYNC") or is_set(env, "UV_FROZEN")


def _plan(
    line: CommandLine,
    env: Mapping[str, str],
    opened: Opened,
    operations: list[edit.Operation],
    commands: list[tuple[str, ...]],
    fresh: tuple[str, ...] = (),
) -> Plan:
    """Edit, lock, give `fresh` packages their lower bounds as `uv add` does, and sync to the choice that fits here."""
    site = opened.site
    edits = edited(opened, operations)
    frozen = line.has("--frozen") or is_set(env, "UV_FROZEN")
    if not frozen:
        commands.append(("lock", *carried(line)))
    closing = () if _unsynced(line, env) else (_sync_command(line, env, opened),)
    then = partial(_bounded, line, env, site, fresh) if fresh and not frozen and not line.has("--raw") else None
    return Plan(tuple(commands), edits, (site.manifest.path, site.lock), then=then, closing=closing)


def _sync_command(line: CommandLine, env: Mapping[str, str], opened: Opened) -> tuple[str, ...]:
    from uvtorch.hardware import detect

    machine = detect(env)
    choices = opened.project.choices_for(machine.platform)
    best = rank(machine, opened, choices, interpreter(line, env, opened.site)).best
    extra = selection.selection(opened.project, choices[best]) if best is not None else ()
    package = line.value("--package")
    inexact = ("--inexact",) if line.verb == "add" else ()  # as uv: add keeps what else is installed, remove does not
    return ("sync", *inexact, *extra, *(("--package", package) if package else ()), *carried(line))


def _bounded(line: CommandLine, env: Mapping[str, str], site: Site, packages: tuple[str, ...]) -> Plan:
    """The follow-up of a lock: bare requirements of `packages` get the lowest version that any choice locked."""
    opened = open_project(line, env)
    if opened is None:
        return Plan()
    versions = locked_versions(site.lock)
    operations: list[edit.Operation] = []
    for item in opened.project.requirements:
        lowest = versions.get(item.package)
        bare = item.text.strip() == bare_requirement(item.text)
        if lowest and bare and item.package in packages and item.via is None:
            where = edit.Target(item.target.kind, item.target.name or "")
            operations.append(edit.SetRequirement(where, item.package, f"{item.text.strip()}>={lowest}"))
    edits = edited(opened, operations)
    return Plan((("lock", "--quiet", *carried(line)),), edits) if edits else Plan()


def locked_versions(path: str) -> dict[str, str]:
    """The lowest version of each package in a uv.lock, without its local part."""
    import tomllib

    from packaging.version import InvalidVersion, Version

    try:
        with open(path, "rb") as file:
            rows = tomllib.load(file).get("package", ())
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    lowest: dict[str, Version] = {}
    for row in rows:
        try:
            version = Version(row["version"])
        except (InvalidVersion, KeyError):
            continue
        if row["name"] not in lowest or version < lowest[row["name"]]:
            lowest[row["name"]] = version
    return {name: version.public for name, version in lowest.items()}


def compile_remove(line: CommandLine, env: Mapping[str, str], opened: Opened, choices: tuple[Choice, ...]) -> Plan:
    """`remove` of PyTorch packages: out of every choice, with their sources; out of one if one is named."""
    project = opened.project
    target = target_of(line)
    chosen = _choices_at(target, choices)
    names = [normalize(text) for text in line.positionals]
    ours = [name for name in names if any(name in choice.packages for choice in chosen)]
    if not ours:
        return hand_over(line.argv)
    places = [choice.target for choice in chosen] + ([Target("base")] if target is None else [])
    operations: list[edit.Operation] = []
    for name in ours:
        present = {item.target for item in project.requirements if item.package == name and item.via is None}
        operations += [
            edit.RemoveRequirement(edit.Target(place.kind, place.name or ""), name)
            for place in places
            if place in present
        ]
        kept = tuple(
            edit.Source(source.index or "", source.marker, source.extra, source.group)
            for source in project.sources
            if source.package == name and not source.inherited and source.target not in places
        )
        operations.append(edit.SetSources(name, kept) if kept else edit.RemoveSources(name))
    left = [word for word in line.argv if word not in line.positionals or normalize(word) not in ours]
    commands = [tuple(left)] if len(ours) < len(names) else []
    return _plan(line, env, opened, operations, commands)

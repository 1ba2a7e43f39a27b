"""Projects that offer several backends: which choice fits a machine, and what uv must be told to select it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from uvtorch import files
from uvtorch.argv import CommandLine, forwarded, is_set
from uvtorch.backend import Backend
from uvtorch.choose import Option, Ranking, rank_choices
from uvtorch.choose.compatibility import FAMILY
from uvtorch.edits.offer import Place
from uvtorch.errors import MachineError, NoBuild, ProjectError
from uvtorch.machine import Machine, Problem
from uvtorch.project import Choice, Project, Target, selection
from uvtorch.project.hosts import covers
from uvtorch.project.lock import Lock, read_lock
from uvtorch.requirement import named_by, within, without_local
from uvtorch.session import Session


class Fitting(NamedTuple):
    """The choices of a project as a machine sees them."""

    options: Mapping[Choice, Option]
    """What each is worth."""
    best: Choice | None
    """The one that fits best."""
    warnings: tuple[str, ...] = ()
    """Said where that does not use the machine's GPU."""


def fitting(
    session: Session, machine: Machine, choices: Sequence[Choice] | None = None, *, use_lock: bool = True
) -> Fitting:
    """The choices (None: all) of the workspace on a machine.

    What uv.lock holds counts, where the requirements still admit it: what else a choice might give, it does not give.
    A choice whose index does not say what it serves is never the best, unless it is made for this very machine; the
    base, where no source speaks of it, only if no extra or group fits.
    """
    rows = session.workspace.choices_for(machine.platform) if choices is None else choices
    known = [one for one in rows if one.origin != "unknown"]
    ranking = _ranked(session, machine, known, use_lock=use_lock)
    options = dict(zip(known, ranking.options, strict=True))
    options = {one: options.get(one) or _of_vendor(machine, one) for one in rows}
    if made := [one for one in rows if one.origin == "unknown" and options[one].fits]:
        return Fitting(options, made[-1])
    return Fitting(options, None if ranking.best is None else known[ranking.best], ranking.warnings)


def _ranked(session: Session, machine: Machine, rows: Sequence[Choice], *, use_lock: bool) -> Ranking:
    backends = [one.backend for one in rows]
    return rank_choices(
        machine,
        session.request(()),
        backends,
        session.catalog,
        torch=locked_releases(session.required_site.lock, backends) if use_lock else (),
        requirements=[requirements_of_choice(session.workspace, one) for one in rows],
        last=[at for at, one in enumerate(rows) if one.kind == "base" and not one.stated],
    )


def _of_vendor(machine: Machine, choice: Choice) -> Option:
    """Another vendor's builds, which the catalog does not know: NVIDIA's for Jetsons, AMD's for one family of GPUs."""
    if choice.vendor is None:
        return Option(None, None, False, "its index or wheel does not say what it was built for")
    if choice.vendor == "jetson":
        fits = machine.platform.machine == "aarch64" and any(gpu.name.endswith(_JETSONS) for gpu in machine.gpus)
        reason = "NVIDIA's builds for this Jetson" if fits else "is for NVIDIA Jetsons, which this machine is not"
    else:
        fits = any(gpu.architecture and covers(choice.vendor, gpu.architecture) for gpu in machine.gpus)
        reason = f"AMD's builds for {choice.vendor}" if fits else f"is for {choice.vendor}, which this machine has not"
    return Option(None, None, fits, reason)


_JETSONS = ("Orin", "Thor", "Xavier")
"""What NVML and device trees call the GPU of a Jetson (NVIDIA's Jetson developer guide)."""


def requirements_of_choice(project: Project, choice: Choice) -> tuple[str, ...]:
    """The PyTorch requirements that come with a choice: its own, the base's, and those of default groups."""
    others = {row.target for row in project.choices()} - {choice.target}
    defaults = {Target("group", name) for name in project.default_groups} - others
    texts = [
        item.text
        for item in project.requirements
        if item.target in (choice.target, Target("base"), *defaults) and project.is_pinned(item.package)
    ]
    return tuple(dict.fromkeys((*texts, *_of_wheels(project, choice)))) or ("torch",)


def _of_wheels(project: Project, choice: Choice) -> Iterator[str]:
    """The release of torch that a choice takes from a wheel's URL."""
    for source in project.sources:
        if (source.target, source.package, source.kind) == (choice.target, "torch", "url"):
            parts = re.split(r"[-+]|%2B", (source.url or "").rpartition("/")[2], flags=re.IGNORECASE)
            yield from [f"torch=={parts[1]}"] if len(parts) > 4 else []  # a wheel: its name has its version


def places_for(session: Session, choices: Sequence[Choice], texts: Sequence[str]) -> tuple[dict[Choice, Place], ...]:
    """For each requirement what it is in each choice: within what its torch asks of packages that name none."""
    found = {choice: _places(session, choice, texts) for choice in choices}
    return tuple({choice: places[at] for choice, places in found.items()} for at in range(len(texts)))


def _places(session: Session, choice: Choice, texts: Sequence[str]) -> list[Place]:
    names = set(map(named_by, texts))
    standing = (text for text in requirements_of_choice(session.workspace, choice) if named_by(text) not in names)
    releases = () if "torch" in names else locked_releases(session.required_site.lock, (choice.backend,))
    asked = map(without_local, (*texts, *standing, *(f"torch=={release}" for release in releases if release)))
    if choice.backend and not choice.vendor:
        with suppress(NoBuild):
            decision = session.decide([*asked], choice.backend)
            return [Place(within(text, dict(decision.bounds)), decision.torch) for text in texts]
    return [*map(Place, texts)]


def read(path: str, only: str | None = None) -> Lock:
    """A uv.lock, empty where there is none or it cannot be read: uv says better what is wrong with it."""
    try:
        return read_lock(files.text(path) or "", path, only=only)
    except ProjectError:
        return Lock()


def locked_releases(path: str, backends: Sequence[Backend | None]) -> tuple[str | None, ...]:
    """The torch release that a uv.lock has from each backend's index (None: PyPI's); None where not exactly one."""
    builds = read(path, only="torch").named("torch")
    found = []
    for backend in backends:
        versions = {
            build.version.partition("+")[0]
            for build in builds
            if build.version and build.kind in ("registry", "url") and build.backend == backend
        }
        found.append(versions.pop() if len(versions) == 1 else None)
    return tuple(found) if builds else ()


def broken_driver(machine: Machine, fit: Fitting) -> Problem | None:
    """The broken driver that keeps a choice of this project from running; None where there is no such thing."""
    if fit.best and fit.best.family not in ("", "cpu") and fit.options[fit.best].fits:
        return None
    families = {one.family for one in fit.options}
    if machine.platform.system != "macos" and "pypi" in {one.origin for one in fit.options}:
        families.add("cu")
    return next((one for one in machine.problems if one.kind == "broken" and FAMILY.get(one.vendor) in families), None)


def driver_error(problem: Problem, project: Project, fit: Fitting, said: selection.Asked, *hints: str) -> MachineError:
    """The error for a broken driver: the CPU choice must be asked for, of `uv sync` where there are `hints`."""
    spare = next((choice for choice in fit.options if choice.family == "cpu"), None)
    told = " ".join(selection.selection(project, spare, said)) if spare else ""
    remedies = [problem.remedy, f"`{'uv sync ' if hints else ''}{told}` takes the CPU choice" if told else ""]
    return MachineError(f"{problem.reason.rstrip('.')}.", *filter(None, remedies), *hints)


def choice_of(project: Project, choices: Collection[Choice], backend: Backend) -> Choice:
    """The choice that gives this backend, here or on another platform. Raises NoBuild where none does."""
    targets = [row.target for row in (*choices, *project.choices()) if row.backend == backend]
    found = {choice.target: choice for choice in choices}
    for target in targets:
        if target in found:
            return found[target]
    raise no_such_choice(project.choices(), backend)


def no_such_choice(choices: Iterable[Choice], backend: Backend) -> NoBuild:
    """The error for a backend that a project does not offer."""
    offered = list(dict.fromkeys(str(choice.backend) for choice in choices if choice.backend))
    return NoBuild(
        f"the project offers no {backend}, only {', '.join(offered)}",
        f"`uvtorch torch backends {' '.join([*offered, str(backend)])}` adds it",
    )


def options_of(session: Session) -> selection.Asked:
    """The options of `sync`, `run` and `export` that select extras and groups, and uv's variables for them."""
    line, env = session.line, session.env

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


def choices_in(target: Target | None, choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices that a target means: None means all."""
    return tuple(choice for choice in choices if target in (None, choice.target))


def sync_command(session: Session) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The `uv sync` that follows an `add` or a `remove`, to the choice that fits here; and the warnings about it.

    Raises MachineError where the driver that a choice needs is broken.
    """
    line = session.line
    inexact = ("--inexact",) if line.verb == "add" else ()  # as uv: add keeps what else is installed, remove does not
    package = line.value("--package")
    named = ("--package", package) if package else ()
    target = target_of(line)
    extra: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    project = session.project
    if project.selectable():
        fit = fitting(session, session.machine)
        if problem := broken_driver(session.machine, fit):
            hint = f"`--no-sync` leaves the environment out of `{line.verb}`"
            raise driver_error(problem, project, fit, selection.NOTHING_ASKED, hint)
        extra = selection.selection(project, fit.best) if fit.best else ()
        warnings = fit.warnings
        if target and choices_in(target, [*fit.options]):
            target = None
    if target and line.verb == "add":
        named = (f"--{target.kind}", target.name or "", *named)
    return ("sync", *inexact, *extra, *named, *forwarded(line, "sync")), warnings


def relock_command(session: Session) -> tuple[str, ...]:
    """The `uv lock` that resolves as the command did, and upgrades nothing more."""
    return ("lock", *forwarded(session.line, "lock"))

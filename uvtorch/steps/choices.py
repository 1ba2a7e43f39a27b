"""Projects that offer several backends: which choice fits a machine, and what uv must be told to select it."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from uvtorch.argv import forwarded, is_set
from uvtorch.backend import Backend
from uvtorch.choose import Option, rank_choices
from uvtorch.choose.compatibility import FAMILY
from uvtorch.edits import Place
from uvtorch.errors import MachineError, NoBuild
from uvtorch.machine import Machine
from uvtorch.packages import normalize
from uvtorch.project import Choice, Project, Target
from uvtorch.project.choices import conflicting, reached
from uvtorch.project.indexes import covers
from uvtorch.project.lock import Lock
from uvtorch.project.model import BASE, TargetKind
from uvtorch.requirement import named_by, within, without_local
from uvtorch.session import Session, Wanted
from uvtorch.transaction import quoted


class Asked(NamedTuple):
    """What a command says of extras and groups; `--no-dev` is `--no-group dev`."""

    given: Collection[Target] = ()
    excluded: Collection[Target] = ()
    every: Collection[str] = ()
    """The kinds of which all are asked for."""
    apart: bool = False
    """Groups are asked for without the project."""
    defaults: bool = True
    """The default groups come along."""

    def named(self, choices: Iterable[Choice]) -> tuple[Choice, ...]:
        """The choices that are asked for, directly or by an alias."""
        given = set(self.given)
        return tuple(one for one in choices if given & {Target(one.kind, name) for name in (one.name, *one.aliases)})

    def left(self, choices: Iterable[Choice]) -> tuple[Choice, ...]:
        """The choices that are not excluded."""
        return tuple(one for one in choices if one.target not in self.excluded)

    def settles(self, choices: Sequence[Choice]) -> bool:
        """Whether a choice is named, all are taken, or the project is left out."""
        return self.apart or bool(self.named(choices)) or any(one.kind in self.every for one in self.left(choices))


NOTHING = Asked()


def options_of(session: Session) -> Asked:
    """What the options of `sync`, `run` and `export` and uv's variables say."""
    line, env = session.line, session.env

    def targets(kind: TargetKind, *values: str) -> list[Target]:
        return [Target(kind, part) for value in values for part in value.replace(",", " ").split()]

    def last(*names: str) -> str:
        return next((name for name, _ in reversed(line.options) if name in names), "")

    dev = last("--dev", "--no-dev") or ("--no-dev" if is_set(env, "UV_NO_DEV") else "")
    groups = [*line.values("--group", "--only-group"), "dev" if dev == "--dev" or line.has("--only-dev") else ""]
    no_groups = [*line.values("--no-group"), env.get("UV_NO_GROUP", ""), "dev" if dev == "--no-dev" else ""]
    return Asked(
        [*targets("extra", *line.values("--extra")), *targets("group", *groups)],
        [*targets("extra", *line.values("--no-extra")), *targets("group", *no_groups)],
        [kind for kind in ("extra", "group") if last(f"--all-{kind}s", f"--no-all-{kind}s") == f"--all-{kind}s"],
        apart=line.has("--only-group", "--only-dev"),
        defaults=not (line.has("--no-default-groups") or is_set(env, "UV_NO_DEFAULT_GROUPS")),
    )


def selection(project: Project, chosen: Choice, asked: Asked = NOTHING) -> tuple[str, ...]:
    """The options that make `uv sync`, `run` or `export` install a choice, but for what is so already.

    Default groups that conflict with it, choose another build or include such a group are switched off.
    """
    defaults = [Target("group", name) for name in project.default_groups if asked.defaults]
    there = chosen.target in (*asked.given, *defaults) or chosen.kind in asked.every
    options = [] if there else [*chosen.target.words()]
    others, apart = {row.target for row in project.choices()}, conflicting(project, chosen.target)
    for group in defaults:
        against = group in others or apart & reached({group}, project.brings)
        if against and group not in (chosen.target, *asked.excluded):
            options += group.words("--no-")
    return tuple(options)


class Fitting(NamedTuple):
    """Choices as a machine sees them."""

    options: Mapping[Choice, Option]
    """What each is worth."""
    best: Choice | None
    warnings: tuple[str, ...] = ()
    """Said where the best does not use the machine's GPU."""


def fitting(session: Session, machine: Machine, choices: Sequence[Choice], *, use_lock: bool = True) -> Fitting:
    """Choices of the workspace on a machine, by what uv.lock holds where the requirements still admit it.

    One whose index does not say what it serves is best only where it is made for this machine, and a base of which no
    source speaks only if nothing else fits.
    """
    known = [one for one in choices if one.origin != "unknown"]
    backends = [one.backend for one in known]
    lock = session.locked() if use_lock else Lock()
    ranking = rank_choices(
        machine,
        session.request(()),
        backends,
        session.catalog,
        torch=[locked_release(lock, backend) for backend in backends],
        requirements=[session.request(requirements_of_choice(session.workspace, one)).requirements for one in known],
        last=[at for at, one in enumerate(known) if one.kind == "base" and not one.stated],
    )
    options = dict(zip(known, ranking.options, strict=True))
    options = {one: options.get(one) or _of_vendor(machine, one) for one in choices}
    if made := [one for one in choices if one.origin == "unknown" and options[one].fits]:
        return Fitting(options, made[-1])
    return Fitting(options, None if ranking.best is None else known[ranking.best], ranking.warnings)


def offered(project: Project) -> tuple[Choice, ...]:
    """The extras and groups that choose a build on any platform, by sources or by local versions."""
    return project.selectable() or project.by_local_version()


def selected(session: Session, wanted: Wanted, said: Asked = NOTHING) -> Fitting:
    """The choices that a command leaves open; the best is the one of a backend that is asked for.

    Raises NoBuild where none has it, MachineError as `check_driver` does.
    """
    line, project, machine = session.line, session.workspace, session.machine
    upgrades = line.has("--upgrade") or "torch" in map(normalize, line.values("--upgrade-package"))
    rows = said.left(project.choices_for(machine.platform) or offered(project))
    fit = fitting(session, machine, rows, use_lock=not upgrades or line.verb == "add")
    backend = wanted.backend
    if backend is None:
        check_driver(session, machine, fit)
        return fit
    elsewhere = {row.target for row in project.choices() if row.backend == backend}
    named = [one for one in rows if one.backend == backend] or [one for one in rows if one.target in elsewhere]
    if not named:
        raise no_such_choice(project, backend)
    option = fit.options[named[0]]
    warning = f"{backend} does not fit this machine: {clause(option)}"
    return Fitting(fit.options, named[0], () if option.fits else (warning,))


def clause(option: Option) -> str:
    """Why something does not fit, with a subject."""
    subject = {"for": "it is ", "would": "it "}.get(option.reason.partition(" ")[0], "")
    return subject + option.reason


def build_of(choice: Choice) -> str:
    """What a choice gives, in words."""
    return str(choice.backend or ("PyPI's build" if choice.origin == "pypi" else "another index"))


def _of_vendor(machine: Machine, choice: Choice) -> Option:
    """Builds that the catalog does not know: NVIDIA's for Jetsons, AMD's for a family of GPUs."""
    devices = choice.vendor
    if devices is None:
        return Option(None, None, False, "its index or wheel does not say what it was built for")
    if devices == "jetson":
        devices = "NVIDIA Jetsons"
        fits = machine.platform.machine == "aarch64" and any(gpu.name.endswith(_JETSONS) for gpu in machine.gpus)
    else:
        fits = any(gpu.architecture and covers(devices, gpu.architecture) for gpu in machine.gpus)
    return Option(None, None, fits, f"for {devices}" + ("" if fits else "; this machine has none"))


_JETSONS = ("Orin", "Thor", "Xavier")
"""What NVML and device trees call the GPU of a Jetson (NVIDIA's Jetson developer guide)."""


def requirements_of_choice(project: Project, choice: Choice) -> tuple[str, ...]:
    """The PyTorch requirements that come with a choice: its own, the base's, and wheels by URL."""
    required = [*project.required(BASE), *project.required(choice.target)]
    texts = [item.text for item in required if project.is_pinned(item.package)]
    wheels = [one.url or "" for one in project.sources if (one.target, one.package) == (choice.target, "torch")]
    texts += [f"torch=={release}" for url in wheels for release in re.findall(r"/torch-([\w.]+)[^/]*\.whl$", url)]
    return tuple(dict.fromkeys(texts)) or ("torch",)


def places_for(session: Session, choices: Sequence[Choice], texts: Sequence[str]) -> tuple[dict[Choice, Place], ...]:
    """Each requirement as it is in each choice: within the bounds of that choice's torch."""
    rows = zip(*(_places(session, choice, texts) for choice in choices), strict=True)
    return tuple(dict(zip(choices, row, strict=True)) for row in rows)


def _places(session: Session, choice: Choice, texts: Sequence[str]) -> list[Place]:
    names = set(map(named_by, texts))
    standing = [text for text in requirements_of_choice(session.workspace, choice) if named_by(text) not in names]
    release = None if "torch" in names else locked_release(session.locked(), choice.backend)
    if release:
        standing.append(f"torch=={release}")
    if choice.backend and not choice.vendor:
        with suppress(NoBuild):
            decision = session.decide([*map(without_local, (*texts, *standing))], choice.backend)
            return [Place(within(text, dict(decision.bounds)), decision.torch) for text in texts]
    return [*map(Place, texts)]


def locked_release(lock: Lock, backend: Backend | None) -> str | None:
    """The one torch release that a lock has from a backend's index (None: PyPI's), if it is one."""
    builds = [one for one in lock.named("torch") if one.kind in ("registry", "url") and one.backend == backend]
    versions = {one.version.partition("+")[0] for one in builds if one.version}
    return versions.pop() if len(versions) == 1 else None


def check_driver(session: Session, machine: Machine, fit: Fitting) -> None:
    """Raise MachineError where a broken driver keeps a choice from running: a CPU choice must be asked for."""
    families = {"cu" if one.origin == "pypi" else one.family for one in fit.options}
    broken = [one for one in machine.problems if one.kind == "broken" and FAMILY.get(one.vendor) in families]
    if not broken or (fit.best and fit.best.family not in ("", "cpu") and fit.options[fit.best].fits):
        return
    hints, verb = [broken[0].remedy], session.line.verb
    changes = verb in ("add", "remove")
    if spare := next((one for one in fit.options if one.family == "cpu"), None):
        options = selection(session.workspace, spare)
        words = ("sync", *options) if changes else session.line.with_options(*options)
        hints.append(f"`{quoted(('uv', *words))}` takes the CPU choice")
    if changes:
        hints.append(f"`--no-sync` leaves the environment out of `{verb}`")
    raise MachineError(f"{broken[0].reason.rstrip('.')}.", *filter(None, hints))


def no_such_choice(project: Project, backend: Backend) -> NoBuild:
    """The error for a backend that a project does not offer."""
    names = dict.fromkeys(str(choice.backend) for choice in project.choices() if choice.backend)
    return NoBuild(
        f"the project offers no {backend}, only {', '.join(names)}",
        f"`uvtorch torch backends {' '.join([*names, str(backend)])}` adds it",
    )


def sync_command(session: Session) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The `uv sync` after an `add` or a `remove`, to the choice that fits, and warnings. Raises MachineError."""
    line, target = session.line, session.target
    options = ["--inexact"] if line.verb == "add" else []  # as uv: add keeps what else is installed, remove does not
    warnings: tuple[str, ...] = ()
    if session.project.selectable():
        fit = selected(session, Wanted())
        options += selection(session.workspace, fit.best) if fit.best else ()
        warnings = fit.warnings
        target = None if target in [choice.target for choice in fit.options] else target
    if target and line.verb == "add":
        options += target.words()
    if package := line.value("--package"):
        options += ["--package", package]
    return ("sync", *options, *forwarded(line, "sync")), warnings

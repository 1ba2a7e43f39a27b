"""What this machine makes of the project's builds, and what is wrong with those that are installed. Pure."""

from collections.abc import Iterator

from uvtorch.audit import Case, Finding, Package, error, warning
from uvtorch.audit.lock import torchaudio_breaks
from uvtorch.backend import Backend, from_url, same_url
from uvtorch.choose import Request, choose
from uvtorch.choose.compatibility import labels
from uvtorch.environment import Build, Trial, Venv, expects_gpu
from uvtorch.project.indexes import catalogued


def check(case: Case, trial: Trial | None = None) -> Iterator[Finding]:
    """What is wrong with the machine, with builds on it, with the files of the environment, and with what was tried."""
    broken = [problem for problem in case.machine.problems if problem.kind == "broken"]
    for problem in broken:
        what = f"{problem.reason}. No PyTorch build can use this GPU until that is fixed. {problem.remedy}"
        yield error("gpu-broken", what.strip())
    if not broken:
        yield from _chosen(case)
    if case.installed:
        yield from _installed(case, case.installed, judged=not broken)
    if trial:
        yield from _tried(case, trial)


# Builds that the project chooses


def _chosen(case: Case) -> Iterator[Finding]:
    """What the project's choices, its pin, else PyPI's build that the lock has are worth here."""
    pins = [pin for pin in case.pins if case.project.is_pinned(pin.package) and not pin.is_pypi]
    if case.choices:
        if not any(option.fits for _, option in case.choices):
            yield _none_fits(case, case.choices[0][1].reason)
    elif pins:
        pin = min(pins, key=lambda pin: pin.package != "torch")
        if backend := catalogued(pin.url or "", pin.package):
            yield from judge(case, backend, case.release(), f"The {case.kind} pins {backend}, which")
    elif backends := {backend for one in case.locked_torch() if (backend := _brought(case, one))}:
        for backend in backends:
            what = f"Nothing here pins PyTorch, and torch comes from {backend}, which"
            yield from (one._replace(fix=None) for one in judge(case, backend, case.release(), what))
    elif not any("+" in one.version or from_url(one.url) for one in case.locked_torch()):
        release = case.release()
        backend, _ = case.catalog.on_pypi(release, case.machine.platform.key)
        if backend and _needs_a_look(case, backend):
            what = f"Nothing pins PyTorch, so torch {release} comes from PyPI, built for {backend}, which"
            yield from judge(case, backend, release, what)


def _brought(case: Case, package: Package) -> Backend | None:
    """The backend of a package that comes from an index which the project does not name: a dependency's, uv.toml's."""
    own = same_url(package.url, *(index.url for index in case.project.indexes))
    return None if own else from_url(package.url)


def _none_fits(case: Case, why: str) -> Finding:
    best = case.best.backend
    offered = dict.fromkeys(choice.backend for choice in case.project.choices() if choice.backend)
    able = [one for one in offered if choose(case.machine, case.request._replace(backend=one), case.catalog).torch]
    what = f"None of the project's backend choices fits this machine ({why})."
    fix = ("uvtorch", "torch", "backends", *map(str, (*able, best))) if best else None
    return warning("no-choice-fits", what, fix=fix)


def _needs_a_look(case: Case, backend: Backend) -> bool:
    """Whether a build that nobody asked for can be wrong here: one for CUDA works without a GPU, too."""
    return bool(case.machine.gpus) or backend.family != "cu"


def judge(
    case: Case, backend: Backend, release: str | None, what: str, *, installed: bool = False
) -> Iterator[Finding]:
    """What is wrong with a build on this machine; `what` begins the sentence."""
    fix, asked = case.sync if installed else case.use, Request((f"torch=={release}",) if release else ())
    if wrong := choose(case.machine, asked._replace(backend=backend), case.catalog).fault:
        code = "installed-cannot-run" if installed else "cannot-run-here"
        # Without such a GPU the build still imports, and computes on the processor.
        fails = installed or backend.family == "cpu" or expects_gpu(backend, case.machine.gpus)
        yield (error if fails else warning)(code, f"{what} does not run on this machine: {wrong}.", fix=fix)
    elif backend.family == "cpu":
        best = case.best
        if best.table and best.backend and best.backend.family != "cpu":
            idle = f"{backend} leaves {labels(best.table.hardware.gpus)} idle; {best.backend} would use it"
            code = "installed-idle" if installed else "gpu-idle"
            yield warning(code, f"{what} does not use this machine's GPU: {idle}.", fix=fix)


# Builds that are installed


def _installed(case: Case, place: Venv, *, judged: bool) -> Iterator[Finding]:
    torch = place.torch
    for build in place.builds:
        if build.broken:
            what = f"{build.name} {build.version} in {place.shown} is incomplete: {build.broken}."
            yield error("installed-broken", what, (*case.sync, "--reinstall-package", build.name))
        if build.name == "torchaudio" and torch and torchaudio_breaks(torch.version, build.version):
            what = f"{place.shown} has torchaudio {build.version} with torch {torch.version}: importing it fails."
            yield error("installed-torchaudio", what, case.sync)
    if torch is None:
        return
    yield from _differs(case, place, torch)
    others = [build for build in place.builds if torch.backend and build.backend not in (None, torch.backend)]
    if others:
        builds = ", ".join(f"{build.name} {build.version} ({build.backend})" for build in (torch, *others))
        what = f"{place.shown} has builds of different backends: {builds}. Their compiled parts do not fit together."
        yield error("installed-mixed", what, case.sync)
    elif torch.backend and judged:
        yield from _suits(case, place, torch, torch.backend)


def _differs(case: Case, place: Venv, torch: Build) -> Iterator[Finding]:
    """The installed torch is none of those that the lock has for this platform.

    Without a lock uv does not notice that a script's environment has another build than the script pins.
    """
    locked, unnoticed = case.locked_torch(), case.kind == "script" and case.lock is None
    pins = {pin.backend for pin in case.pins if pin.package == "torch" and unnoticed}
    built = f" (built for {torch.backend})" if torch.backend else ""
    what = f"{place.shown} has torch {torch.version}{built}, and the"
    if locked and not any(_is(torch, package) for package in locked):
        versions = " or ".join(dict.fromkeys(package.version or "?" for package in locked))
        yield warning("installed-differs", f"{what} lock has {versions} for this platform.", case.sync)
    elif torch.backend and pins and pins.isdisjoint((None, torch.backend)):
        yield error("installed-differs", f"{what} script pins {', '.join(map(str, pins))}.", case.sync)


def _is(torch: Build, package: Package) -> bool:
    backend = from_url(package.url)
    if backend and torch.backend:
        return backend == torch.backend and package.release == torch.release
    return package.version == torch.version


def _suits(case: Case, place: Venv, torch: Build, backend: Backend) -> Iterator[Finding]:
    """What a build that no pin names, of which enough has been said, is worth here."""
    pinned = {pin.backend for pin in case.pins if pin.backend}
    if backend in pinned or not (pinned or _needs_a_look(case, backend)):
        return
    # An idle GPU is told of where `case.sync` gives another build.
    helps = pinned or any(option.fits and choice.family not in ("", "cpu") for choice, option in case.choices)
    what = f"torch {torch.version} in {place.shown} is built for {backend}, which"
    found = judge(case, backend, torch.release, what, installed=True)
    yield from (one for one in found if helps or one.code != "installed-idle")


def _tried(case: Case, trial: Trial) -> Iterator[Finding]:
    if trial.failure:
        yield error("torch-fails", f"Importing torch fails: {trial.failure}.", case.sync)
        return
    for name, fault in trial.devices:
        if fault:
            yield error("gpu-fails", f"torch {trial.version} cannot compute on {name}: {fault}.")
    torch = case.installed.torch if case.installed else None
    if not trial.devices and torch and expects_gpu(torch.backend, case.machine.gpus):
        what = f"torch {trial.version} is built for {torch.backend} and sees no GPU, though this machine has one: its "
        yield error("gpu-unseen", f"{what}driver may be too old, or its device files out of reach.")

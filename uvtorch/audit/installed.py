"""What is wrong with an installed environment, told from its files, the lock's export and a trial. Pure."""

from collections.abc import Iterator

from uvtorch.audit.case import Case, Finding, error, warning
from uvtorch.audit.exports import Package
from uvtorch.audit.lock import torchaudio_breaks
from uvtorch.audit.machine import judge, needs_a_look
from uvtorch.backend import Backend, from_url
from uvtorch.environment import Build, Trial, Venv, expects_gpu


def check(case: Case, place: Venv) -> Iterator[Finding]:
    """What is wrong with the files of an environment."""
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
    elif torch.backend and not case.broken:
        yield from _suits(case, place, torch, torch.backend)


def _differs(case: Case, place: Venv, torch: Build) -> Iterator[Finding]:
    """The installed torch is none of those that the lock has for this platform; for a script, not what it pins.

    Without a lock uv does not notice that a script's environment has another build.
    """
    locked, pins = case.locked_torch(), {pin.backend for pin in case.pins if pin.package == "torch"}
    built = f" (built for {torch.backend})" if torch.backend else ""
    what = f"{place.shown} has torch {torch.version}{built}, and the"
    if locked and not any(_is(torch, package) for package in locked):
        versions = " or ".join(dict.fromkeys(package.version or "?" for package in locked))
        yield warning("installed-differs", f"{what} lock has {versions} for this platform.", case.sync)
    elif case.script and case.lock is None and torch.backend and pins and pins.isdisjoint((None, torch.backend)):
        yield error("installed-differs", f"{what} script pins {', '.join(map(str, pins))}.", case.sync)


def _is(torch: Build, package: Package) -> bool:
    backend = from_url(package.url)
    if backend and torch.backend:
        return backend == torch.backend and package.release == torch.release
    return package.version == torch.version


def _suits(case: Case, place: Venv, torch: Build, backend: Backend) -> Iterator[Finding]:
    """What a build that no pin names, of which enough has been said, is worth here."""
    pinned = {pin.backend for pin in case.pins if pin.backend}
    if backend in pinned or not (pinned or needs_a_look(case, backend)):
        return
    # An idle GPU is told of where `case.sync` gives another build.
    helps = pinned or any(option.fits and choice.family not in ("", "cpu") for choice, option in case.choices)
    what = f"torch {torch.version} in {place.shown} is built for {backend}, which"
    found = judge(case, backend, torch.release, what, installed=True)
    yield from (one for one in found if helps or one.code != "installed-idle")


def tried(case: Case, trial: Trial) -> Iterator[Finding]:
    """What went wrong when the installed torch was tried."""
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

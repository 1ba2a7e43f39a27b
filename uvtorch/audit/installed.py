"""What is wrong with an installed environment, told from its files, the lock's export and a trial. Pure."""

from collections.abc import Iterator
from typing import Final

from uvtorch.audit.case import Case
from uvtorch.audit.exports import Package
from uvtorch.audit.finding import Finding, error, warning
from uvtorch.audit.lock import torchaudio_breaks
from uvtorch.audit.machine import judge, needs_a_look
from uvtorch.backend import from_url
from uvtorch.environment import Build, Trial, Venv, expects_gpu


def _not_whole(case: Case, place: Venv) -> Iterator[Finding]:
    for build in place.builds:
        if build.broken:
            what = f"{build.name} {build.version} in {place.shown} is incomplete: {build.broken}."
            yield error("installed-broken", what, fix=(*case.sync, "--reinstall-package", build.name))


def _torch(case: Case, place: Venv) -> Iterator[Finding]:
    """Whether the installed torch fits the packages beside it, what the lock and the pins say, and the machine."""
    torch = place.torch
    if torch is None:
        return
    others = [build for build in place.builds if torch.backend and build.backend not in (None, torch.backend)]
    if others:
        builds = ", ".join(f"{build.name} {build.version} ({build.backend})" for build in (torch, *others))
        what = f"{place.shown} has builds of different backends: {builds}. Their compiled parts do not fit together."
        yield error("installed-mixed", what, fix=case.sync)
    yield from _differs(case, place, torch)
    for audio in place.builds:
        if audio.name == "torchaudio" and torchaudio_breaks(torch.version, audio.version):
            what = f"{place.shown} has torchaudio {audio.version} with torch {torch.version}: importing it fails."
            yield error("installed-torchaudio", what, fix=case.sync)
    if not others and not case.broken:
        yield from _suits(case, place, torch)


def _differs(case: Case, place: Venv, torch: Build) -> Iterator[Finding]:
    """The installed torch is none of those that the lock has for this platform; for a script, not what it pins.

    Without a lock uv does not notice that a script's environment has another build.
    """
    locked, built = case.locked_torch(), f" (built for {torch.backend})" if torch.backend else ""
    what = f"{place.shown} has torch {torch.version}{built}, and the {'lock has' if locked else 'script pins'}"
    if locked and not any(_is(torch, package) for package in locked):
        versions = " or ".join(dict.fromkeys(package.version or "?" for package in locked))
        yield warning("installed-differs", f"{what} {versions} for this platform.", fix=case.sync)
    pins = {pin.backend for pin in case.pins if pin.package == "torch"}
    if case.script and case.lock is None and torch.backend and pins and not pins & {None, torch.backend}:
        yield error("installed-differs", f"{what} {', '.join(map(str, pins))}.", fix=case.sync)


def _is(torch: Build, package: Package) -> bool:
    backend = from_url(package.url)
    if package.version == torch.version:
        return backend is None or torch.backend in (None, backend)
    return backend is not None and backend == torch.backend and package.release == torch.release


def _suits(case: Case, place: Venv, torch: Build) -> Iterator[Finding]:
    """What a build that no pin names, of which enough has been said, is worth here, if `case.sync` gives another."""
    pinned = {pin.backend for pin in case.pins if pin.backend}
    offered = {choice.backend.family for choice, option in case.choices if option.fits and choice.backend}
    if torch.backend and torch.backend not in pinned and (pinned or needs_a_look(case, torch.backend)):
        what = f"torch {torch.version} in {place.shown} is built for {torch.backend}, which"
        found = judge(case, torch.backend, torch.release, what, installed=True)
        yield from (one for one in found if one.code != "installed-idle" or pinned or offered - {"cpu"})


def tried(case: Case, trial: Trial) -> Iterator[Finding]:
    """What went wrong when the installed torch was tried."""
    if trial.failure:
        yield error("torch-fails", f"Importing torch fails: {trial.failure}.", fix=case.sync)
        return
    for name, fault in trial.devices:
        if fault:
            yield error("gpu-fails", f"torch {trial.version} cannot compute on {name}: {fault}.")
    torch = case.installed.torch if case.installed else None
    if not trial.devices and torch and expects_gpu(torch.backend, case.machine.gpus):
        what = f"torch {trial.version} is built for {torch.backend} and sees no GPU, though this machine has one: its "
        yield error("gpu-unseen", f"{what}driver may be too old, or its device files out of reach.")


CHECKS: Final = (_not_whole, _torch)

"""What is wrong with an installed environment, told from its files, the lock's export and a trial. Pure."""

from collections.abc import Iterator
from typing import Final

from uvtorch.audit.case import Case
from uvtorch.audit.exports import Package
from uvtorch.audit.finding import Finding, error, warning
from uvtorch.audit.lock import torchaudio_breaks
from uvtorch.backend import Backend, from_url
from uvtorch.choose import cannot_run, leaves_idle
from uvtorch.environment import Build, Trial, Venv, expects_gpu


def _not_whole(case: Case, place: Venv) -> Iterator[Finding]:
    for build in place.builds:
        if build.broken:
            what = f"{build.name} {build.version} in {place.shown} is incomplete: {build.broken}."
            yield error("installed-broken", what, fix=(*case.sync, "--reinstall-package", build.name))


def _mixed(case: Case, place: Venv) -> Iterator[Finding]:
    if place.torch and (others := _others(place)):
        builds = ", ".join(f"{build.name} {build.version} ({build.backend})" for build in (place.torch, *others))
        what = f"{place.shown} has builds of different backends: {builds}. Their compiled parts do not fit together."
        yield error("installed-mixed", what, fix=case.sync)


def _others(place: Venv) -> list[Build]:
    """The builds of other backends than torch's."""
    backend = place.torch.backend if place.torch else None
    return [build for build in place.builds if backend and build.backend not in (None, backend)]


def _differs(case: Case, place: Venv) -> Iterator[Finding]:
    """The installed torch is none of those that the lock has for this platform."""
    torch, locked = place.torch, case.locked_torch()
    if torch and locked and not any(_is(torch, package) for package in locked):
        versions = " or ".join(dict.fromkeys(package.version or "?" for package in locked))
        built = f" (built for {torch.backend})" if torch.backend else ""
        what = f"{place.shown} has torch {torch.version}{built}, and the lock has {versions} for this platform."
        yield warning("installed-differs", what, fix=case.sync)


def _unpinned(case: Case, place: Venv) -> Iterator[Finding]:
    """A script's environment has another build than the script pins: without a lock uv does not notice."""
    torch, pins = place.torch, {pin.backend for pin in case.pins if pin.package == "torch"}
    if case.script and case.lock is None and torch and torch.backend and pins - {None, torch.backend} == pins != set():
        what = f"The script pins {', '.join(map(str, pins))}, and its environment has torch {torch.version} (built for "
        yield error("installed-differs", f"{what}{torch.backend}).", fix=case.sync)


def _is(torch: Build, package: Package) -> bool:
    backend = from_url(package.url)
    if package.version == torch.version:
        return backend is None or torch.backend in (None, backend)
    return backend is not None and backend == torch.backend and package.release == torch.release


def _mismatch(case: Case, place: Venv) -> Iterator[Finding]:
    torch, audio = place.torch, next((build for build in place.builds if build.name == "torchaudio"), None)
    if torch and audio and torchaudio_breaks(torch.version, audio.version):
        what = f"{place.shown} has torchaudio {audio.version} with torch {torch.version}: importing it fails."
        yield error("installed-torchaudio", what, fix=case.sync)


def _suits(case: Case, place: Venv) -> Iterator[Finding]:
    """What a build that no pin names, of which enough has been said, is worth here."""
    pinned = {pin.backend for pin in case.pins if pin.backend}
    torch, backend = place.torch, place.torch and place.torch.backend
    if torch and backend and backend not in pinned and not case.broken and not _others(place):
        what = f"torch {torch.version} in {place.shown} is built for {backend}"
        yield from _worth(case, backend, torch.release, bool(pinned), what)


def _worth(case: Case, backend: Backend, release: str, pinned: bool, what: str) -> Iterator[Finding]:
    if wrong := cannot_run(case.machine, backend, release, case.catalog):
        if case.machine.gpus or pinned or backend.family != "cu":  # a CUDA build works without a GPU, too
            yield error("installed-cannot-run", f"{what} and does not run on this machine: {wrong}.", fix=case.sync)
    elif (pinned or _offers_gpu(case)) and (idle := leaves_idle(case.machine, backend, release, case.catalog)):
        yield warning("installed-idle", f"{what} and leaves the GPU idle: {idle}.", fix=case.sync)


def _offers_gpu(case: Case) -> bool:
    """Whether the project offers a build for this machine's GPU, besides others."""
    fitting = (choice.backend for choice, option in case.choices() if option.fits)
    return any(backend and backend.family != "cpu" for backend in fitting)


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


CHECKS: Final = (_not_whole, _mixed, _differs, _unpinned, _mismatch, _suits)

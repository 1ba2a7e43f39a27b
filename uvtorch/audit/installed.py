"""What is wrong with an installed environment, told from its files, the lock's export and a trial. Pure."""

import os
from collections.abc import Iterator
from typing import Final

from uvtorch.audit.case import Case
from uvtorch.audit.exports import Package
from uvtorch.audit.finding import Finding
from uvtorch.audit.lock import torchaudio_breaks
from uvtorch.backend import from_url
from uvtorch.choose import cannot_run, leaves_idle
from uvtorch.environment import Build, Environment, Trial, expects_gpu, shadowing


def _not_whole(case: Case, place: Environment) -> Iterator[Finding]:
    by_name: dict[str, list[Build]] = {}
    for build in place.builds:
        by_name.setdefault(build.name, []).append(build)
    for name, builds in by_name.items():
        again, where = (*case.sync, "--reinstall-package", name), os.path.relpath(place.path)
        if len(builds) > 1:
            versions = " and ".join(build.version for build in builds)
            yield Finding("installed-twice", "error", f"{where} has the metadata of {name} {versions}.", again)
        elif builds[0].broken:
            what = f"{name} {builds[0].version} in {where} is incomplete: {builds[0].broken}."
            yield Finding("installed-broken", "error", what, again)


def _others(place: Environment) -> list[Build]:
    """The builds of other backends than torch's."""
    backend = place.torch.backend if place.torch else None
    return [build for build in place.builds if backend and build.backend not in (None, backend)]


def _mixed(case: Case, place: Environment) -> Iterator[Finding]:
    if place.torch and (others := _others(place)):
        builds = ", ".join(f"{build.name} {build.version} ({build.backend})" for build in (place.torch, *others))
        what = f"{os.path.relpath(place.path)} has builds of different backends: {builds}. Their compiled parts do not "
        yield Finding("installed-mixed", "error", f"{what}fit together.", case.sync)


def _differs(case: Case, place: Environment) -> Iterator[Finding]:
    """The installed torch is none of those that the lock has for this platform."""
    torch, locked = place.torch, case.locked_torch()
    if torch and locked and not any(_is(torch, package) for package in locked):
        versions = " or ".join(dict.fromkeys(package.version or "?" for package in locked))
        built = f" (built for {torch.backend})" if torch.backend else ""
        what = f"{os.path.relpath(place.path)} has torch {torch.version}{built}, and the lock has {versions} for this "
        yield Finding("installed-differs", "warning", f"{what}platform.", case.sync)


def _unpinned(case: Case, place: Environment) -> Iterator[Finding]:
    """A script's environment has another build than the script pins: without a lock uv does not notice."""
    torch, pins = place.torch, {pin.backend for pin in case.pins if pin.package == "torch"}
    if case.script and case.lock is None and torch and torch.backend and pins - {None, torch.backend} == pins != set():
        what = f"The script pins {', '.join(map(str, pins))}, and its environment has torch {torch.version} (built for "
        yield Finding("installed-differs", "error", f"{what}{torch.backend}).", case.sync)


def _is(torch: Build, package: Package) -> bool:
    backend = from_url(package.url)
    if package.version == torch.version:
        return backend is None or torch.backend in (None, backend)
    return backend is not None and backend == torch.backend and package.release == torch.version.partition("+")[0]


def _mismatch(case: Case, place: Environment) -> Iterator[Finding]:
    for build in place.builds if place.torch else ():
        if place.torch and build.name == "torchaudio" and torchaudio_breaks(place.torch.version, build.version):
            what = f"{os.path.relpath(place.path)} has torchaudio {build.version} with torch {place.torch.version}: "
            yield Finding("installed-torchaudio", "error", f"{what}importing it fails.", case.sync)


def _suits(case: Case, place: Environment) -> Iterator[Finding]:
    """What a build that no pin names, of which enough has been said, is worth here."""
    pinned = {pin.backend for pin in case.pins if pin.backend}
    if place.torch and place.torch.backend not in (None, *pinned) and not case.broken and not _others(place):
        what = f"torch {place.torch.version} in {os.path.relpath(place.path)} is built for {place.torch.backend}"
        yield from _judged(case, place.torch, bool(pinned), what)


def _judged(case: Case, torch: Build, pinned: bool, what: str) -> Iterator[Finding]:
    release, backend = torch.version.partition("+")[0], torch.backend
    if backend is None:
        return
    if wrong := cannot_run(case.machine, backend, release, case.catalog):
        if case.machine.gpus or pinned or backend.family != "cu":  # a CUDA build works without a GPU, too
            yield Finding(
                "installed-cannot-run", "error", f"{what} and does not run on this machine: {wrong}.", case.sync
            )
    elif (pinned or _offers_gpu(case)) and (idle := leaves_idle(case.machine, backend, release, case.catalog)):
        yield Finding("installed-idle", "warning", f"{what} and leaves the GPU idle: {idle}.", case.sync)


def _offers_gpu(case: Case) -> bool:
    """Whether the project offers a build for this machine's GPU, besides others."""
    fitting = (choice.backend for choice, option in case.choices() if option.fits)
    return any(backend and backend.family != "cpu" for backend in fitting)


def _library_path(case: Case, place: Environment) -> Iterator[Finding]:
    """Libraries of an `LD_LIBRARY_PATH` that torch's CUDA build would load in place of its own."""
    backend = place.torch.backend if place.torch and case.machine.platform.system == "linux" else None
    found = shadowing(case.library_path, place.libraries) if backend and backend.family == "cu" else ()
    if found:
        what = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        what = f"LD_LIBRARY_PATH puts {what} before the libraries that torch brings: another release of cuDNN, cuBLAS "
        what += "or NCCL makes importing or using torch fail, or slow. Unset it, or take those directories out of it: "
        yield Finding("library-path", "warning", f"{what}torch needs none.")


def tried(case: Case, trial: Trial) -> Iterator[Finding]:
    """What went wrong when the installed torch was tried."""
    if trial.failure:
        yield Finding("torch-fails", "error", f"Importing torch fails: {trial.failure}.", case.sync)
        return
    for name, fault in trial.devices:
        if fault:
            yield Finding("gpu-fails", "error", f"torch {trial.version} cannot compute on {name}: {fault}.")
    torch = case.installed.torch if case.installed else None
    if not trial.devices and torch and expects_gpu(torch.backend, case.machine.gpus):
        what = f"torch {trial.version} is built for {torch.backend} and sees no GPU, though this machine has one: its "
        yield Finding("gpu-unseen", "error", f"{what}driver may be too old, or its device files out of reach.")


CHECKS: Final = (_not_whole, _mixed, _differs, _unpinned, _mismatch, _suits, _library_path)

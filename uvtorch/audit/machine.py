"""What the machine makes of the project's pins and choices. Pure."""

from collections.abc import Iterator
from typing import Final

from uvtorch.audit.case import Case
from uvtorch.audit.finding import USE, Finding, error, warning
from uvtorch.backend import Backend, from_url
from uvtorch.choose import Request, cannot_run, choose, leaves_idle
from uvtorch.environment import expects_gpu


def _gpus(case: Case) -> Iterator[Finding]:
    for problem in case.machine.problems:
        if problem.kind == "broken":
            what = f"{problem.reason}. No PyTorch build can use this GPU until that is fixed. {problem.remedy}"
            yield error("gpu-broken", what.strip())


def _builds(case: Case) -> Iterator[Finding]:
    """What the project's choices, its pin, else PyPI's build that the lock has are worth here."""
    pins = [pin for pin in case.pins if case.project.is_pinned(pin.package) and not pin.is_pypi]
    if case.broken:
        return
    if choices := case.choices():
        if not any(option.fits for _, option in choices):
            yield _none_fits(case, choices[0][1].reason)
    elif pins:
        pin = min(pins, key=lambda pin: pin.package != "torch")
        if pin.backend and case.hosts.known(pin.url):
            subject = "The script" if case.script else "The project"
            yield from _suits(case, pin.backend, f"{subject} pins {pin.backend}, which")
    else:
        yield from _unpinned(case)


def _unpinned(case: Case) -> Iterator[Finding]:
    release = case.release()
    of_pytorch = any("+" in one.version or from_url(one.url) for one in case.locked_torch())
    backend, _ = case.catalog.on_pypi(release, case.machine.platform.key)
    # CUDA builds work without a GPU, too.
    if backend and (case.machine.gpus or backend.family != "cu") and not of_pytorch:
        what = f"Nothing pins PyTorch, so torch {release} comes from PyPI, built for {backend}, which"
        yield from _suits(case, backend, what)


def _none_fits(case: Case, why: str) -> Finding:
    request = Request(case.requirements, python=case.python, requires_python=case.project.requires_python)
    best = choose(case.machine, request, case.catalog).backend
    offered = dict.fromkeys(choice.backend for choice in case.project.choices() if choice.backend)
    able = [one for one in offered if choose(case.machine, request._replace(backend=one), case.catalog).torch]
    what = f"None of the project's backend choices fits this machine ({why})."
    fix = ("uvtorch", "torch", "backends", *map(str, (*able, best))) if best else None
    return warning("no-choice-fits", what, fix=fix)


def _suits(case: Case, backend: Backend, what: str) -> Iterator[Finding]:
    machine, release = case.machine, case.release()
    if wrong := cannot_run(machine, backend, release, case.catalog):
        # Without such a GPU the build still imports, and computes on the processor.
        fails = backend.family == "cpu" or expects_gpu(backend, machine.gpus)
        yield (error if fails else warning)(
            "cannot-run-here", f"{what} does not run on this machine: {wrong}.", fix=USE
        )
    elif idle := leaves_idle(machine, backend, release, case.catalog):
        yield warning("gpu-idle", f"{what} does not use this machine's GPU: {idle}.", fix=USE)


CHECKS: Final = (_gpus, _builds)

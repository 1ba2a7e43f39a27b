"""What the machine makes of the project's pins and choices, and of any build. Pure."""

from collections.abc import Iterator

from uvtorch.audit.case import USE, Case, Finding, error, warning
from uvtorch.backend import Backend, from_url
from uvtorch.choose import Request, choose
from uvtorch.choose.compatibility import labels
from uvtorch.environment import expects_gpu
from uvtorch.project.indexes import catalogued


def gpus(case: Case) -> Iterator[Finding]:
    """The GPUs whose driver does not answer."""
    for problem in case.machine.problems:
        if problem.kind == "broken":
            what = f"{problem.reason}. No PyTorch build can use this GPU until that is fixed. {problem.remedy}"
            yield error("gpu-broken", what.strip())


def builds(case: Case) -> Iterator[Finding]:
    """What the project's choices, its pin, else PyPI's build that the lock has are worth here."""
    pins = [pin for pin in case.pins if case.project.is_pinned(pin.package) and not pin.is_pypi]
    if case.broken:
        return
    if case.choices:
        if not any(option.fits for _, option in case.choices):
            yield _none_fits(case, case.choices[0][1].reason)
    elif pins:
        pin = min(pins, key=lambda pin: pin.package != "torch")
        if backend := catalogued(pin.url or "", pin.package):
            yield from judge(case, backend, case.release(), f"The {case.kind} pins {backend}, which")
    else:
        release = case.release()
        backend, _ = case.catalog.on_pypi(release, case.machine.platform.key)
        of_pytorch = any("+" in one.version or from_url(one.url) for one in case.locked_torch())
        if backend and needs_a_look(case, backend) and not of_pytorch:
            what = f"Nothing pins PyTorch, so torch {release} comes from PyPI, built for {backend}, which"
            yield from judge(case, backend, release, what)


def _none_fits(case: Case, why: str) -> Finding:
    request = Request(case.requirements, python=case.python, requires_python=case.project.requires_python)
    best = choose(case.machine, request, case.catalog).backend
    offered = dict.fromkeys(choice.backend for choice in case.project.choices() if choice.backend)
    able = [one for one in offered if choose(case.machine, request._replace(backend=one), case.catalog).torch]
    what = f"None of the project's backend choices fits this machine ({why})."
    fix = ("uvtorch", "torch", "backends", *map(str, (*able, best))) if best else None
    return warning("no-choice-fits", what, fix=fix)


def needs_a_look(case: Case, backend: Backend) -> bool:
    """Whether a build that nobody asked for can be wrong here: one for CUDA works without a GPU, too."""
    return bool(case.machine.gpus) or backend.family != "cu"


def judge(
    case: Case, backend: Backend, release: str | None, what: str, *, installed: bool = False
) -> Iterator[Finding]:
    """What is wrong with a build on this machine; `what` begins the sentence."""
    fix, asked = case.sync if installed else (*USE, "auto"), Request((f"torch=={release}",) if release else ())
    if wrong := choose(case.machine, asked._replace(backend=backend), case.catalog).fault:
        code = "installed-cannot-run" if installed else "cannot-run-here"
        # Without such a GPU the build still imports, and computes on the processor.
        fails = installed or backend.family == "cpu" or expects_gpu(backend, case.machine.gpus)
        yield (error if fails else warning)(code, f"{what} does not run on this machine: {wrong}.", fix=fix)
    elif backend.family == "cpu":
        best = choose(case.machine, asked if release in case.catalog.releases else Request(), case.catalog)
        if best.table and best.backend and best.backend.family != "cpu":
            idle = f"{backend} leaves {labels(best.table.hardware.gpus)} idle; {best.backend} would use it"
            code = "installed-idle" if installed else "gpu-idle"
            yield warning(code, f"{what} does not use this machine's GPU: {idle}.", fix=fix)

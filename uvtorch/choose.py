"""The choice: (machine, request, catalog) -> Decision, with a reason for every candidate. Pure, no I/O.

A backend fits if it has a wheel for the platform and the Python, its kernels cover every GPU that counts, and the
driver runs it (`fit`). Of those that fit, the newest torch that the request allows; for that torch, the newest CUDA major that the
driver runs, and within it the highest build that the driver supports natively, else the lowest by minor-version
compatibility. Of ROCm's builds the highest, those with their libraries in the wheel first.

The CPU build is chosen where there is no GPU, and, with one warning, where PyTorch has no build for the GPU at all
(`fit.hardware`). Otherwise what does not fit is a refusal that names what would. The catalog ends somewhere: a request that
admits only releases it does not know is for the indexes to answer (`Decision.ask`, `after_asking`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from uvtorch import fit
from uvtorch.backend import CHANNELS, PLATFORMS, Backend, parse
from uvtorch.catalog import PYTHONS, Catalog, number, pythons
from uvtorch.errors import UsageError
from uvtorch.machine import Gpu, Machine
from uvtorch.specifier import Wish, allows, applies, clauses, wish

CPU = Backend("cpu")


class Request(NamedTuple):
    """What the command and the project ask of PyTorch."""

    requirements: tuple[str, ...] = ()
    """PEP 508 requirements of PyTorch packages: those on the command line and those the project already has."""
    python: str | None = None
    """The interpreter the project uses, `3.12` or `3.14t`; None where it is not known."""
    requires_python: str | None = None
    """The project's `requires-python`, a PEP 440 specifier set."""
    backend: Backend | None = None
    """Asked for by name: an option, an environment variable, configuration. It is obeyed."""
    families: tuple[str, ...] = ()
    """Restrict to these backend families (`("cu",)`); empty: any. Used where a project offers only some."""


class Candidate(NamedTuple):
    """One (backend, newest torch it could give for this request), and what was made of it."""

    backend: Backend
    torch: str | None
    accepted: bool
    reason: str
    """Why it was rejected, or why it was accepted: a clause a person can read, in ASCII."""
    native: bool = False
    """The driver's own CUDA is at least the build's (else it runs by minor-version compatibility)."""
    certainty: str = ""
    """How sure the catalog is that this build exists (`catalog.CERTAINTIES`)."""


class Decision(NamedTuple):
    """What `choose` decided. Exactly one of `backend` and `refusal` is set, unless `ask` is not empty."""

    backend: Backend | None
    torch: str | None = None
    """The newest known torch release that the choice gives."""
    native: bool = False
    reason: str = ""
    """One clause for the decision line: `driver 570.124.06 supports CUDA 12.8; H100 (9.0)`."""
    platforms: frozenset[str] | None = None
    """The platforms that have wheels of this torch on this index (`backend.PLATFORMS` keys); None: all."""
    companions: tuple[str, ...] = ()
    """Packages torch needs from the same index by another name: `triton-rocm`."""
    bounds: tuple[tuple[str, str], ...] = ()
    """(package, specifier) bounds without which uv would resolve to a build that cannot run: `("torch", "<2.12")`."""
    prerelease: bool = False
    """The channel holds only pre-releases, which uv must be told to allow."""
    warnings: tuple[str, ...] = ()
    refusal: str | None = None
    """One sentence saying what the request needs and what this machine has."""
    hints: tuple[str, ...] = ()
    """With a refusal: what would fit."""
    ask: tuple[Backend, ...] = ()
    """The catalog does not know the requested version or backend: ask these indexes, in this order, through uv."""
    candidates: tuple[Candidate, ...] = ()


class Verdict(NamedTuple):
    """Whether a build runs on a machine, and why not."""

    runs: bool
    reason: str = ""
    """A clause if it does not run: `torch 2.15.0 needs a driver >= 580; this machine has 535.183.01`."""


class Option(NamedTuple):
    """What `rank_choices` made of one of the backends it was given."""

    backend: Backend | None
    """As given; None is what PyPI gives on this platform."""
    torch: str | None
    fits: bool
    reason: str
    native: bool = False


class Ranking(NamedTuple):
    """The best of a given set of backends."""

    best: int | None
    """Index of the best one in what was given; None if not even a CPU build is among them."""
    options: tuple[Option, ...]
    """One for each given, in the same order."""
    warnings: tuple[str, ...] = ()
    """Said where the best one does not use this machine's GPU."""


class _Need(NamedTuple):
    """A request, read for one machine."""

    releases: tuple[str, ...]
    """The known torch releases it admits, newest first."""
    text: str
    """For messages: `torch==2.15.0`, or `torch`."""
    wishes: tuple[Wish, ...]
    """Those that apply on this platform."""
    pythons: frozenset[str]
    conflict: str | None = None
    """Why no torch can satisfy all of it, though each requirement alone can be."""


def choose(machine: Machine, request: Request, catalog: Catalog) -> Decision:
    """Choose the build for a machine and a request.

    UsageError for a request that cannot be read or contradicts itself: no requirement, two local versions, a local
    version beside another `request.backend`. The caller has settled which of option, environment and configuration counts.
    """
    local = local_backend(request.requirements, machine)
    if local and request.backend and local != request.backend:
        raise UsageError(
            f"the requirement names the backend {local}, but {request.backend} is asked for",
            f"leave out one of them: the local version +{local.name}, or --torch-backend {request.backend}",
        )
    backend = request.backend or local
    need = _need(machine, request, catalog)
    if backend:
        return _obey(machine, need, backend, catalog)
    unsupported = fit.unsupported_platform(machine.platform)
    if unsupported:
        return Decision(None, refusal=unsupported, candidates=_none_fits(catalog, need, unsupported))
    hardware = fit.hardware(machine, catalog)
    if hardware.refusal:
        return _refuse_hardware(machine, need, hardware, catalog)
    family = hardware.family
    if request.families and family not in request.families:
        wanted = " or ".join(request.families)
        return Decision(
            None,
            refusal=f"This machine needs a build of the family {family}, and only {wanted} is on offer.",
            candidates=_candidates(machine, need, hardware, None, catalog),
        )
    if need.conflict:
        return Decision(
            None, refusal=need.conflict, candidates=_none_fits(catalog, need, "the requirements contradict")
        )
    if not _known(need, family, catalog):
        return _unknown(machine, need, hardware, catalog)
    best = _best(machine, hardware.gpus, need.releases, need.pythons, family, catalog)
    candidates = _candidates(machine, need, hardware, best, catalog)
    if best is None:
        refusal, hints = _explain_refusal(machine, need, hardware, catalog)
        return Decision(None, refusal=refusal, hints=hints, candidates=candidates)
    return _decide(machine, need, hardware, best, candidates, catalog)


def after_asking(decision: Decision, found: Backend | None, request: Request, catalog: Catalog) -> Decision:
    """Settle a decision whose `ask` was put to the indexes: `found` is the first that had a match, None if none had."""
    if found is None:
        text = _wishes_text([wish(text) for text in request.requirements])
        asked = ", ".join(map(str, decision.ask))
        return decision._replace(
            backend=None,
            ask=(),
            refusal=f"No index that fits this machine has {text} (asked: {asked}).",
            hints=decision.hints,
        )
    return decision._replace(
        backend=found,
        ask=(),
        hints=(),
        platforms=_platforms(found, None, catalog),
        companions=_companions(found, None, catalog),
        candidates=tuple(
            candidate._replace(accepted=True, reason="its index has it") if candidate.backend == found else candidate
            for candidate in decision.candidates
        ),
    )


def local_backend(requirements: Sequence[str], machine: Machine | None = None) -> Backend | None:
    """The backend that local versions in `requirements` name (`torch==2.9.1+cu126`), or None.

    With a machine, only requirements whose marker holds there count. UsageError if two name different backends for the same
    platform, whichever platform that is.
    """
    local = [(item, named) for item in map(wish, requirements) for named in [_named(item)] if named]
    if not local:
        return None
    for platform in PLATFORMS:
        here = {named: item.text for item, named in local if _applies(item, platform, None)}
        if len(here) > 1:
            one, other = list(here.items())[:2]
            raise UsageError(
                f"{one[1]} and {other[1]} name two backends, {one[0]} and {other[0]}",
                "use the same local version on all PyTorch packages, or none",
            )
    for item, named in local:
        if machine is None or _applies(item, machine.platform.key, None):
            return named
    return None


def runs_here(machine: Machine, backend: Backend, torch: str | None, catalog: Catalog) -> Verdict:
    """Whether a pinned build runs on this machine: (runs, reason).

    `torch` is the release that is locked or pinned; None asks whether any release of the backend runs. A release that the
    catalog does not know is judged by its driver and by the newest known kernels of its backend.
    """
    unsupported = fit.unsupported_platform(machine.platform)
    if unsupported:
        return Verdict(False, unsupported.rstrip("."))
    gpus = _gpus_for(machine, backend)
    if backend.family != "cpu" and not gpus:
        problem = next(
            (problem for problem in machine.problems if fit.FAMILY.get(problem.vendor) == backend.family), None
        )
        maker = {"cu": "an NVIDIA", "rocm": "an AMD", "xpu": "an Intel"}[backend.family]
        return Verdict(False, problem.reason if problem else f"{backend} needs {maker} GPU, and none is visible here")
    stable = backend._replace(channel="")
    index = catalog.builds.get(stable, {})
    every = frozenset(PYTHONS)
    if torch is None or torch not in index:
        if not index or (torch is not None and torch not in catalog.releases):
            fault = _unknown_fault(machine, gpus, stable, catalog)
            return Verdict(fault is None, f"{backend} {fault}" if fault else "")
        if torch is not None:
            return Verdict(False, f"torch {torch} is not built for {backend}")
    faults = [
        (release, fit.fault(machine, gpus, stable, release, every, catalog))
        for release in ([torch] if torch else reversed(index))
    ]
    if any(fault is None for _, fault in faults):
        return Verdict(True)
    release, worst = max(faults, key=lambda pair: fit.STEPS.index(pair[1].step) if pair[1] else -1)
    return Verdict(False, f"torch {release} ({backend}) {worst}")


def leaves_idle(machine: Machine, backend: Backend, torch: str | None, catalog: Catalog) -> str | None:
    """Why a pinned build that runs here leaves the GPU idle, a clause that names what would use it; None if it does not.

    True of a CPU build beside a GPU that some build of `torch` (None: of any release) would use.
    """
    if backend.family != "cpu" or fit.unsupported_platform(machine.platform):
        return None
    hardware = fit.hardware(machine, catalog)
    if hardware.refusal or hardware.family == "cpu":
        return None
    releases = (torch,) if torch in catalog.releases else tuple(reversed(catalog.releases))
    best = _best(machine, hardware.gpus, releases, frozenset(PYTHONS), hardware.family, catalog)
    if best is None:
        return None
    return f"{backend} leaves {fit.labels(hardware.gpus)} idle; {best[0]} would use it"


def rank_choices(
    machine: Machine,
    request: Request,
    backends: Sequence[Backend | None],
    catalog: Catalog,
    torch: Sequence[str | None] = (),
) -> Ranking:
    """Pick the best of the backends that a project offers.

    `backends`: one for each choice; None is the build that PyPI gives on this platform. `torch`: the release that each choice
    has locked, if known; else the newest that `request` allows on that backend counts. The order is that of `choose`:
    builds that use the GPU, newest torch first; then the CPU build, with a warning if a GPU stays idle; then None.
    Between equals a named backend comes before PyPI's. `request.backend` and `request.families` do not count here.
    """
    need = _need(machine, request, catalog)
    unsupported = fit.unsupported_platform(machine.platform)
    hardware = fit.Hardware("cpu") if unsupported else fit.hardware(machine, catalog)
    locked = [*torch, *([None] * len(backends))]
    options = tuple(
        _option(machine, need, hardware, backend, locked[at], catalog) for at, backend in enumerate(backends)
    )
    cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)

    def order(at: int) -> tuple[object, ...]:
        option = options[at]
        real = option.backend or _pypi(machine, option.torch, catalog)[0] or CPU
        newest = number(option.torch) if option.torch else (0,)
        return newest, _preference(real._replace(channel=""), cuda, catalog), option.backend is not None, -at

    fitting = [at for at, option in enumerate(options) if option.fits]
    gpu = hardware.family != "cpu"
    if fitting:
        return Ranking(max(fitting, key=order), options, () if gpu else hardware.warnings)
    why = hardware.refusal or _first_reason(options) or "no choice is offered"
    spare = [at for at, backend in enumerate(backends) if backend and backend.family == "cpu"]
    spare += [at for at, backend in enumerate(backends) if backend is None]
    if not spare:
        return Ranking(None, options, (f"no backend choice fits this machine: {why.rstrip('.')}",))
    best = spare[0]
    if gpu or hardware.refusal:
        taken = "the CPU choice" if backends[best] else "what PyPI gives"
        return Ranking(best, options, (f"no GPU choice fits this machine ({why.rstrip('.')}): taking {taken}",))
    return Ranking(best, options, hardware.warnings)


def _first_reason(options: Sequence[Option]) -> str | None:
    gpu = [option for option in options if option.backend is None or option.backend.family != "cpu"]
    return next((option.reason for option in gpu or options), None)


def _option(
    machine: Machine, need: _Need, hardware: fit.Hardware, backend: Backend | None, torch: str | None, catalog: Catalog
) -> Option:
    releases = (torch,) if torch in catalog.releases else need.releases
    if backend is None:
        return _pypi_option(machine, need, hardware, releases, catalog)
    stable = backend._replace(channel="")
    if hardware.refusal and backend.family != "cpu":
        return Option(backend, torch, False, hardware.refusal.rstrip("."))
    if backend.family != hardware.family:
        return Option(backend, torch, False, _wrong_family(backend, hardware))
    index = catalog.builds.get(stable, {})
    native = fit.is_native(machine, stable, catalog)
    if not index or (torch is not None and torch not in catalog.releases) or not releases or backend.channel:
        fault = None if stable.family == "cpu" else _unknown_fault(machine, hardware.gpus, stable, catalog)
        return Option(backend, torch, fault is None, str(fault or "not in the catalog; the driver runs it"), native)
    nearest: tuple[int, str] = (-1, f"has no torch that {need.text} admits")
    for release in releases:
        fault = fit.fault(machine, hardware.gpus, stable, release, need.pythons, catalog)
        if fault is None:
            return Option(backend, release, True, _why(machine, hardware, stable, catalog), native)
        if fit.STEPS.index(fault.step) > nearest[0]:
            nearest = fit.STEPS.index(fault.step), f"torch {release} {fault}"
    return Option(backend, torch, False, nearest[1], native)


def _pypi_option(
    machine: Machine, need: _Need, hardware: fit.Hardware, releases: Sequence[str], catalog: Catalog
) -> Option:
    """What PyPI gives: the newest release with a wheel here, whatever it was built for."""
    for release in releases:
        backend, tags = _pypi(machine, release, catalog)
        if backend is None or not tags & need.pythons or fit.libc_fault(machine.platform, release, catalog):
            continue
        if hardware.refusal:
            return Option(None, release, False, hardware.refusal.rstrip("."))
        if backend.family != hardware.family:
            # PyPI's CUDA build works without a GPU; no other family is on PyPI.
            runs = hardware.family == "cpu"
            reason = f"PyPI's torch {release} is the {backend} build"
            return Option(None, release, runs, reason if runs else f"{reason}: {_wrong_family(backend, hardware)}")
        fault = fit.fault(machine, hardware.gpus, backend, release, need.pythons, catalog)
        reason = f"PyPI's torch {release} ({backend}) {fault}" if fault else _why(machine, hardware, backend, catalog)
        return Option(None, release, fault is None, reason, fit.is_native(machine, backend, catalog))
    return Option(None, None, False, "PyPI has no wheel for this platform and Python")


def _pypi(machine: Machine, release: str | None, catalog: Catalog) -> tuple[Backend | None, frozenset[str]]:
    return catalog.pypi.get(release or "", {}).get(machine.platform.key, (None, frozenset()))


# --- reading the request


def _need(machine: Machine, request: Request, catalog: Catalog) -> _Need:
    """Read a request for one machine. UsageError for one that cannot be read."""
    platform = machine.platform.key
    tags = _pythons(request)
    newest = max(tags & set(PYTHONS[: PYTHONS.index("3.13t")]), key=number, default=None)
    wishes = [item for item in map(wish, request.requirements) if not item.url]
    wishes = [item for item in wishes if item.package == "torch" or item.package in catalog.pairs]
    wishes = [item for item in wishes if _applies(item, platform, request.python or newest)]
    releases = [*reversed(catalog.releases)]
    admitted = {item: _admitted(item, releases, tags, catalog) for item in wishes}
    common = [release for release in releases if all(release in known for known in admitted.values())]
    conflict = None
    if not common and admitted and all(admitted.values()):
        said = [_says(item, known) for item, known in admitted.items()]
        conflict = f"No torch satisfies {_wishes_text(wishes)} together: {'; '.join(said)}."
    return _Need(tuple(common), _wishes_text(wishes), tuple(wishes), tags, conflict)


def _says(item: Wish, known: frozenset[str]) -> str:
    ordered = sorted(known, key=number)
    span = ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
    return f"{item.text} means torch {span}"


def _wishes_text(wishes: Sequence[Wish]) -> str:
    texts = [item.text.partition(";")[0].strip() for item in wishes]
    torch = [text for text, item in zip(texts, wishes, strict=True) if item.package == "torch" and item.clauses]
    return " and ".join(torch or [text for text, item in zip(texts, wishes, strict=True) if item.clauses]) or "torch"


def _admitted(item: Wish, releases: Sequence[str], tags: frozenset[str], catalog: Catalog) -> frozenset[str]:
    """The known torch releases that one requirement admits, by itself or through the package's pairs."""
    if item.package == "torch":
        return frozenset(release for release in releases if allows(item.clauses, release))
    found: set[str] = set()
    for version, torch in catalog.pairs[item.package].items():
        known = catalog.paired_pythons.get((item.package, version))
        if allows(item.clauses, version) and (known is None or known & tags):
            found.update(torch)
    return frozenset(found)


def _pythons(request: Request) -> frozenset[str]:
    """The Pythons that a wheel may be for: the interpreter used, else all that requires-python allows, not free-threaded."""
    if request.python:
        parts = request.python.removeprefix("cpython").lstrip("@-").split(".")
        threaded = request.python.endswith(("t", "+freethreaded"))
        minor = "".join(char for char in (parts[1] if len(parts) > 1 else "") if char.isdigit())
        return frozenset([f"{parts[0]}.{minor}{'t' if threaded else ''}"])
    plain = [tag for tag in PYTHONS if not tag.endswith("t")]
    if not request.requires_python:
        return frozenset(plain)
    wanted = clauses(request.requires_python)
    return frozenset(tag for tag in plain if any(allows(wanted, f"{tag}.{patch}") for patch in range(30)))


def _applies(item: Wish, platform: str, python: str | None) -> bool:
    """Whether a requirement's marker holds on a platform; one that cannot be told without a Python is taken to hold."""
    if item.marker is None:
        return True
    system, _, machine = platform.partition("_")
    names = {
        "linux": ("linux", "Linux", "posix"),
        "windows": ("win32", "Windows", "nt"),
        "macos": ("darwin", "Darwin", "posix"),
    }
    sys_platform, platform_system, os_name = names.get(system, (system, system.capitalize(), "posix"))
    minor = (python or "3.12").removesuffix("t")
    return applies(
        item.marker,
        {
            "sys_platform": sys_platform,
            "platform_system": platform_system,
            "os_name": os_name,
            "platform_machine": machine.upper() if system == "windows" else machine,
            "python_version": minor,
            "python_full_version": f"{minor}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        },
    )


def _named(item: Wish) -> Backend | None:
    """The backend of a requirement's local version; a development version's is on the nightly channel."""
    for clause in item.clauses:
        backend = parse(clause.local) if clause.local else None
        if backend:
            return backend._replace(channel=CHANNELS[1]) if ".dev" in clause.version else backend
    return None


# --- what fits


def _best(
    machine: Machine,
    gpus: tuple[Gpu, ...],
    releases: Sequence[str],
    tags: frozenset[str],
    family: str,
    catalog: Catalog,
) -> tuple[Backend, str] | None:
    """The best (backend, release) of a family, releases given newest first; None if none fits."""
    cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
    backends = [backend for backend in catalog.builds if backend.family == family]
    for release in releases:
        fitting = [
            backend
            for backend in backends
            if release in catalog.builds[backend] and not fit.fault(machine, gpus, backend, release, tags, catalog)
        ]
        if fitting:
            return max(fitting, key=lambda backend: _preference(backend, cuda, catalog)), release
    return None


def _preference(backend: Backend, cuda: tuple[int, int] | None, catalog: Catalog) -> tuple[object, ...]:
    """Sort key among backends of one family with the same torch: the greatest is taken."""
    if backend.family != "cu":
        return 0, backend not in catalog.split, backend.rank
    native = cuda is not None and backend.version <= cuda
    # Natively supported: the highest. By minor-version compatibility: the lowest, so that as little as possible differs.
    return backend.version[0], native, backend.version[1] if native else -backend.version[1]


def _known(need: _Need, family: str, catalog: Catalog) -> bool:
    """Whether the catalog knows a release that the request admits, for this family."""
    served = {release for backend, index in catalog.builds.items() if backend.family == family for release in index}
    if any(release in served for release in need.releases):
        return True
    return any(release not in catalog.unseen or not _unseen(release, family, catalog) for release in need.releases)


def _unseen(release: str, family: str, catalog: Catalog) -> tuple[Backend, ...]:
    return tuple(backend for backend in catalog.unseen.get(release, ()) if backend.family == family)


def _decide(
    machine: Machine,
    need: _Need,
    hardware: fit.Hardware,
    best: tuple[Backend, str],
    candidates: tuple[Candidate, ...],
    catalog: Catalog,
) -> Decision:
    backend, release = best
    warnings = list(hardware.warnings)
    blind = [gpu for gpu in hardware.gpus if backend.family == "cu" and fit.capability(gpu) is None]
    if blind:
        warnings.append(
            f"the compute capability of {fit.labels(tuple(blind))} is not known: whether {backend} has kernels for it is not checked"
        )
    return Decision(
        backend,
        release,
        fit.is_native(machine, backend, catalog),
        _why(machine, hardware, backend, catalog),
        _platforms(backend, release, catalog),
        _companions(backend, release, catalog),
        _bounds(need, backend, release, catalog),
        warnings=tuple(warnings),
        candidates=candidates,
    )


def _why(machine: Machine, hardware: fit.Hardware, backend: Backend, catalog: Catalog) -> str:
    """Why a backend is taken, one clause."""
    if backend.family == "cpu":
        if machine.platform.system == "macos":
            arm = machine.platform.key == "macos_arm64"
            return "macOS: the default wheel has Metal (MPS)" if arm else "macOS on Intel: torch ends at 2.2.2"
        return "no GPU that PyTorch can use" if machine.gpus or machine.problems else "no GPU"
    names = fit.labels(hardware.gpus)
    if backend.family != "cu":
        return names
    driver = machine.nvidia_driver
    cuda = fit.driver_cuda(driver, machine.platform.system, catalog)
    text = f"driver {driver.version if driver else '?'} supports CUDA {'.'.join(map(str, cuda or ('?',)))}"
    compatible = "" if fit.is_native(machine, backend, catalog) else f" ({backend} by minor-version compatibility)"
    return f"{text}{compatible}; {names}"


def _platforms(backend: Backend, release: str | None, catalog: Catalog) -> frozenset[str] | None:
    """The platforms with wheels on an index: of a known release, else of the backend's or its family's newest one."""
    if backend.family == "cpu":
        return None
    stable = backend._replace(channel="")
    index = catalog.builds.get(stable, {})
    if release in index:
        return frozenset(index[release])
    like = [index] if index else [known for other, known in catalog.builds.items() if other.family == backend.family]
    newest = max((list(known)[-1] for known in like), key=number)
    return frozenset(platform for known in like for platform in known.get(newest, {}))


def _companions(backend: Backend, release: str | None, catalog: Catalog) -> tuple[str, ...]:
    """Packages that torch requires and only this index has; of an unknown release, those of the newest."""
    name = backend._replace(channel="").name
    return tuple(
        package
        for whose, releases, newer, packages in catalog.companions
        if whose in (backend.family, name) and (release in releases if release else newer)
        for package in packages
    )


def _bounds(need: _Need, backend: Backend, release: str, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    """Bounds on what uv would resolve to: torch on this index, and packages whose wheels do not say which torch they need."""
    bounds = []
    index = catalog.builds.get(backend, {})
    newer = [other for other in need.releases if other in index and number(other) > number(release)]
    if newer:
        bounds.append(("torch", _below(newer[-1])))
    for item in need.wishes:
        versions = catalog.pairs.get(item.package, {})
        paired = [version for version, torch in versions.items() if release in torch and allows(item.clauses, version)]
        if not paired:
            continue
        last = max(map(number, paired))
        loose = [
            version
            for version in versions
            if (item.package, version) in catalog.loose and number(version) > last and allows(item.clauses, version)
        ]
        if loose:
            bounds.append((item.package, _below(min(loose, key=number))))
    return tuple(dict.fromkeys(bounds))


def _below(version: str) -> str:
    while version.endswith(".0") and version.count(".") > 1:
        version = version.removesuffix(".0")
    return f"<{version}"


# --- explaining


def _candidates(
    machine: Machine, need: _Need, hardware: fit.Hardware, best: tuple[Backend, str] | None, catalog: Catalog
) -> tuple[Candidate, ...]:
    """Every backend of the catalog, highest first, with what was made of it."""
    found = []
    for backend in sorted(catalog.builds, key=lambda backend: backend.rank, reverse=True):
        index = catalog.builds[backend]
        offered = [release for release in need.releases if release in index]
        release = offered[0] if offered else None
        fits = None
        reason = ""
        if not offered:
            last = list(index)
            reason = f"has torch {last[0]} to {last[-1]} only" if len(last) > 1 else f"has torch {last[0]} only"
        elif backend.family != hardware.family:
            reason = _wrong_family(backend, hardware)
        else:
            faults = [(fit.fault(machine, hardware.gpus, backend, one, need.pythons, catalog), one) for one in offered]
            fits = next((one for fault, one in faults if fault is None), None)
            release = fits or max(faults, key=lambda pair: (_step(pair[0]), number(pair[1])))[1]
            reason = next((str(fault) for fault, one in faults if one == release and fault), "")
        accepted = best is not None and (backend, fits) == best
        if accepted:
            reason = _why(machine, hardware, backend, catalog)
        elif fits and best:
            reason = _worse(machine, backend, fits, best, catalog)
        cell = index.get(release or "", {}).get(machine.platform.key)
        native = backend.family == hardware.family and fit.is_native(machine, backend, catalog)
        found.append(Candidate(backend, release, accepted, reason, native, cell.certainty if cell else ""))
    return tuple(found)


def _step(fault: fit.Fault | None) -> int:
    return fit.STEPS.index(fault.step) if fault else len(fit.STEPS)


def _worse(machine: Machine, backend: Backend, release: str, best: tuple[Backend, str], catalog: Catalog) -> str:
    """Why a backend that fits is not the one taken."""
    if release != best[1]:
        return f"runs here, but ends at torch {release}: {best[0]} has {best[1]}"
    if backend.family == "cu" and backend.version[0] != best[0].version[0]:
        return f"runs here, but the driver also runs CUDA {best[0].version[0]}: {best[0]}"
    if backend.family == "cu":
        mine, theirs = (fit.is_native(machine, one, catalog) for one in (backend, best[0]))
        if theirs and not mine:
            return f"runs by minor-version compatibility only; {best[0]} natively"
        return f"runs here, but {best[0]} is {'newer and as native' if mine else 'nearer to the driver'}"
    if backend in catalog.split:
        return f"runs here, but needs rocm-sdk packages for every GPU; {best[0]} brings its libraries"
    return f"runs here, but {best[0]} is newer"


def _wrong_family(backend: Backend, hardware: fit.Hardware) -> str:
    """Why a backend of another family than the machine's is not taken."""
    if backend.family == "cpu":
        return f"would leave {fit.labels(hardware.gpus)} idle"
    maker = {"cu": "NVIDIA", "rocm": "AMD", "xpu": "Intel"}[backend.family]
    return f"for {maker} GPUs; this machine has {fit.labels(hardware.gpus) or 'no GPU that PyTorch can use'}"


def _none_fits(catalog: Catalog, need: _Need, reason: str) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            backend, next((release for release in need.releases if release in index), None), False, reason.rstrip(".")
        )
        for backend, index in sorted(catalog.builds.items(), key=lambda item: item[0].rank, reverse=True)
    )


def _refuse_hardware(machine: Machine, need: _Need, hardware: fit.Hardware, catalog: Catalog) -> Decision:
    reason = (hardware.refusal or "").rstrip(".")
    candidates = [
        candidate._replace(reason=reason) if candidate.backend.family != "cpu" and candidate.torch else candidate
        for candidate in _candidates(machine, need, hardware, None, catalog)
    ]
    return Decision(None, refusal=hardware.refusal, hints=hardware.hints, candidates=tuple(candidates))


def _explain_refusal(
    machine: Machine, need: _Need, hardware: fit.Hardware, catalog: Catalog
) -> tuple[str, tuple[str, ...]]:
    """(refusal, hints) where no build of the machine's family fits: the nearest miss, then what would fit."""
    family, gpus = hardware.family, hardware.gpus
    newest = need.releases[0]
    misses = [
        (fit.fault(machine, gpus, backend, newest, need.pythons, catalog), backend)
        for backend, index in catalog.builds.items()
        if backend.family == family and newest in index
    ]
    hints: list[str] = []
    if misses:
        cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
        fault, nearest = max(
            misses, key=lambda miss: (_step(miss[0]), tuple(map(str, _preference(miss[1], cuda, catalog))))
        )
        sentence = f"torch {newest} {fault}."
        if fault and fault.step == "driver" and "needs a driver >=" in fault.text:
            hints.append(f"with {fault.text.removeprefix('needs ')}, torch {newest} runs here ({nearest})")
    else:
        kind = {"cu": "CUDA", "rocm": "ROCm", "xpu": "XPU", "cpu": "CPU"}[family]
        sentence = f"torch {newest} has no {kind} build."
    every = tuple(reversed(catalog.releases))
    fits = _best(machine, gpus, every, need.pythons, family, catalog)
    if fits:
        sentence += f" The newest that fits is {fits[1]} ({fits[0]})."
    else:
        hints += _other_python(machine, need, hardware, catalog)
    hints += _gpu_sets(machine, need, hardware, catalog)
    if any(fit.capability(gpu) == (8, 7) for gpu in gpus):
        hints.append("builds for Jetson Orin are on NVIDIA's own Jetson index")
    if family != "cpu":
        cpu = _best(machine, (), need.releases, need.pythons, "cpu", catalog)
        if cpu:
            hints.append(f"--torch-backend cpu gives torch {cpu[1]} without the GPU")
    return sentence, tuple(hints)


def _other_python(machine: Machine, need: _Need, hardware: fit.Hardware, catalog: Catalog) -> list[str]:
    """Hints: the newest Python with which something would fit."""
    for tag in sorted(pythons("3.9-3.15"), key=number, reverse=True):
        for releases in (need.releases, tuple(reversed(catalog.releases))):
            best = _best(machine, hardware.gpus, releases, frozenset([tag]), hardware.family, catalog)
            if best:
                return [f"with Python {tag}, torch {best[1]} ({best[0]}) fits"]
    return []


def _gpu_sets(machine: Machine, need: _Need, hardware: fit.Hardware, catalog: Catalog) -> list[str]:
    """Hints for GPUs that no build serves together: what each kind of them could run by itself."""
    kinds = {fit.label(gpu): gpu for gpu in hardware.gpus}
    if len(kinds) < 2:
        return []
    variable = "CUDA_VISIBLE_DEVICES" if hardware.family == "cu" else "HIP_VISIBLE_DEVICES"
    hints = []
    for name, gpu in kinds.items():
        best = _best(machine, (gpu,), need.releases, need.pythons, hardware.family, catalog)
        if best:
            hints.append(f"with only {name} visible ({variable}), torch {best[1]} ({best[0]}) fits")
    return hints


# --- what the catalog does not know


def _unknown(machine: Machine, need: _Need, hardware: fit.Hardware, catalog: Catalog) -> Decision:
    """The decision for a request that admits only releases the catalog does not know."""
    family = hardware.family
    fits = _best(machine, hardware.gpus, tuple(reversed(catalog.releases)), need.pythons, family, catalog)
    newest = f" The newest that fits is {fits[1]} ({fits[0]})." if fits else ""
    candidates = tuple(
        candidate
        if candidate.torch
        else candidate._replace(reason=f"not known to have {need.text}; {candidate.reason}")
        for candidate in _candidates(machine, need, hardware, None, catalog)
    )
    if family in ("cpu", "xpu"):
        # One index, so nothing to choose: uv says whether it has the version.
        backend = Backend(family)
        decided = _decide(machine, need, hardware, (backend, ""), candidates, catalog)
        return decided._replace(
            torch=None, platforms=_platforms(backend, None, catalog), companions=_companions(backend, None, catalog)
        )
    floor = _floor(need, catalog)
    first = next(iter(catalog.releases))
    if number(floor) < number(first):
        return Decision(
            None,
            refusal=f"{need.text} is older than what uvtorch knows (torch {first} and later).{newest}",
            hints=("name its backend: --torch-backend cu117",),
            candidates=candidates,
        )
    ask = _askable(machine, need, hardware, floor, catalog)
    if not ask:
        return Decision(
            None,
            refusal=f"{need.text} is newer than what uvtorch knows, and no index that may have it serves "
            f"{fit.labels(hardware.gpus)} with this driver.{newest}",
            candidates=candidates,
        )
    hints = (newest.strip(),) if newest else ()
    return Decision(
        None,
        reason=f"{need.text} is not in the catalog",
        hints=hints,
        warnings=hardware.warnings,
        ask=ask,
        candidates=candidates,
    )


def _floor(need: _Need, catalog: Catalog) -> str:
    """About the lowest release that a request admits; the newest known one where it has no lower end."""
    lows = [
        clause.version.removesuffix(".*")
        for item in need.wishes
        if item.package == "torch"
        for clause in item.clauses
        if clause.operator in ("==", "===", ">=", ">", "~=")
    ]
    highs = [
        clause.version
        for item in need.wishes
        if item.package == "torch"
        for clause in item.clauses
        if clause.operator in ("<", "<=")
    ]
    newest = list(catalog.releases)[-1]
    if lows:
        return max(lows, key=number)
    first = next(iter(catalog.releases))
    return "0" if any(number(high) <= number(first) for high in highs) else newest


def _askable(
    machine: Machine, need: _Need, hardware: fit.Hardware, floor: str, catalog: Catalog
) -> tuple[Backend, ...]:
    """The indexes that may have a release the catalog does not know, best first."""
    family = hardware.family
    unseen = [backend for release in need.releases for backend in _unseen(release, family, catalog)]
    newest = list(catalog.releases)[-1]
    # The release before the wanted one: an index that ended before it gets no more builds.
    before = max(
        (release for release in catalog.releases if number(release) <= number(floor)), key=number, default=newest
    )
    alive = [
        backend
        for backend, index in catalog.builds.items()
        if backend.family == family and number(list(index)[-1]) >= number(before)
    ]
    if family == "rocm" and number(floor) >= number(newest):
        alive += [backend for release in catalog.unseen for backend in _unseen(release, family, catalog)]
    if number(floor) > number(newest):
        alive += [backend for backend in catalog.announced if backend.family == family]
    cuda = fit.driver_cuda(machine.nvidia_driver, machine.platform.system, catalog)
    fitting = [
        backend
        for backend in dict.fromkeys(unseen or alive)
        if not _unknown_fault(machine, hardware.gpus, backend, catalog)
    ]
    return tuple(sorted(fitting, key=lambda backend: _preference(backend, cuda, catalog), reverse=True))


def _unknown_fault(machine: Machine, gpus: tuple[Gpu, ...], backend: Backend, catalog: Catalog) -> fit.Fault | None:
    """Why a release or a backend that the catalog does not know would not run here, as far as can be told.

    Architectures come and go: a GPU that the newest known kernels serve, or that is newer than all of them, is taken as served.
    """
    if backend.family == "cpu":
        return None
    if not _platforms_include(machine, backend, catalog):
        return fit.Fault("platform", f"has no wheels for {fit.platform_name(machine.platform.key)}")
    family = [(other, index) for other, index in catalog.builds.items() if other.family == backend.family]
    like, index = max(family, key=lambda pair: (pair[0] == backend, pair[0].version))
    release = next((one for one in reversed(index) if machine.platform.key in index[one]), None)
    if release:
        for gpu in gpus:
            missing = fit.kernel_fault(machine, (gpu,), like, release, catalog)
            if missing and missing.step == "kernels" and not _newer(gpu, like, release, machine, catalog):
                return fit.Fault("kernels", f"has no kernels for {fit.label(gpu)}")
    return fit.driver_fault(machine, backend, catalog) if backend.family == "cu" else None


def _platforms_include(machine: Machine, backend: Backend, catalog: Catalog) -> bool:
    platforms = _platforms(backend, None, catalog)
    return platforms is None or machine.platform.key in platforms


def _newer(gpu: Gpu, backend: Backend, release: str, machine: Machine, catalog: Catalog) -> bool:
    """Whether a GPU is newer than all that a build has kernels for, so that a later build may serve it."""
    if backend.family == "cu":
        kernels = catalog.kernels.get((backend, release, machine.platform.key))
        device = fit.capability(gpu)
        return kernels is not None and device is not None and device > max(kernels.codes)
    if backend.family == "rocm":
        return not any(gpu.architecture in devices.architectures for devices in catalog.devices.values())
    return False


# --- asked for by name


def _obey(machine: Machine, need: _Need, backend: Backend, catalog: Catalog) -> Decision:
    """The decision for a backend that was asked for, with one warning if it would not run here."""
    stable = backend._replace(channel="")
    index = catalog.builds.get(stable, {})
    gpus = _gpus_for(machine, backend)
    known = [release for release in need.releases if release in index] if not backend.channel else []
    fits = next((one for one in known if not fit.fault(machine, gpus, stable, one, need.pythons, catalog)), None)
    present = [
        one
        for one in known
        if machine.platform.key in index[one] and index[one][machine.platform.key].pythons & need.pythons
    ]
    release = fits or next(iter(present or known), None)
    warning = (
        None
        if fits and (gpus or backend.family == "cpu")
        else _will_not_run(machine, need, backend, known, gpus, catalog)
    )
    candidates = tuple(
        Candidate(
            other,
            next((one for one in need.releases if one in catalog.builds[other]), None) if other != stable else release,
            other == stable,
            "asked for" if other == stable else f"{backend} is asked for",
            fit.is_native(machine, other, catalog),
        )
        for other in sorted(dict.fromkeys([*catalog.builds, stable]), key=lambda one: one.rank, reverse=True)
        if other in catalog.builds or other == stable
    )
    return Decision(
        backend,
        release,
        bool(gpus or backend.family == "cpu") and fit.is_native(machine, stable, catalog),
        "asked for",
        _platforms(backend, release, catalog),
        _companions(backend, release, catalog),
        _bounds(need, stable, release, catalog) if release and (fits or present) else (),
        prerelease=bool(backend.channel),
        warnings=(warning,) if warning else (),
        candidates=candidates,
    )


def _will_not_run(
    machine: Machine,
    need: _Need,
    backend: Backend,
    known: Sequence[str],
    gpus: tuple[Gpu, ...],
    catalog: Catalog,
) -> str | None:
    """The warning for a backend that was asked for and would not run on this machine, None where it would."""
    unsupported = fit.unsupported_platform(machine.platform)
    if unsupported:
        return f"{backend} will not run on this machine: {unsupported.rstrip('.')}"
    stable = backend._replace(channel="")
    if backend.family != "cpu" and not gpus:
        # A wrong platform says more than a missing GPU.
        if not _platforms_include(machine, backend, catalog):
            where = fit.platform_name(machine.platform.key)
            return f"{backend} will not run on this machine: it has no wheels for {where}"
        return f"{backend} will not run on this machine: {runs_here(machine, backend, None, catalog).reason}"
    index = catalog.builds.get(stable)
    if index and need.releases and not known and not backend.channel:
        ends = list(index)
        return f"{backend} has no build for {need.text}: its index has torch {ends[0]} to {ends[-1]}"
    if not known:
        fault = _unknown_fault(machine, gpus, stable, catalog)
        return f"{backend} will not run on this machine: it {fault}" if fault else None
    faults = [(fit.fault(machine, gpus, stable, release, need.pythons, catalog), release) for release in known]
    worst, release = max(faults, key=lambda pair: (_step(pair[0]), number(pair[1])))
    return f"{backend} will not run on this machine: torch {release} {worst}"


def _gpus_for(machine: Machine, backend: Backend) -> tuple[Gpu, ...]:
    """The GPUs that a backend is for; of AMD's and Intel's, cards before those in the processor."""
    gpus = tuple(gpu for gpu in machine.gpus if fit.FAMILY.get(gpu.vendor) == backend.family)
    cards = tuple(gpu for gpu in gpus if not gpu.integrated)
    return gpus if backend.family == "cu" else cards or gpus

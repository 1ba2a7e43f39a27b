"""The choice: (machine, request, catalog) -> Decision, with a reason for every candidate. Pure, no I/O.

A backend fits if it has a wheel for the platform and the Python, its kernels cover every GPU that counts, and the
driver runs it (`fit`). Of those that fit, the newest torch that the request allows; for that torch, the newest CUDA
major that the driver runs, and within it the highest build that the driver supports natively, else the lowest by
minor-version compatibility. Of ROCm's builds the highest, those with their libraries in the wheel first.

The CPU build is chosen where there is no GPU, and, with one warning, where PyTorch has no build for the GPU at all
(`fit.hardware`). Otherwise what does not fit is a refusal that names what would. The catalog ends somewhere: a request
that admits only releases it does not know is for the indexes to answer (`Decision.ask`, `after_asking`).

| module | job |
| --- | --- |
| `decision` | the values that go in and come out |
| `specifier` | plain requirements, read without `packaging` |
| `need` | a request, as one machine has to meet it |
| `fit` | does one build run on one machine, and if not, why |
| `ranking` | the best of a given set of backends: projects that offer several, pins |
| `unknown` | releases and backends that the catalog does not know |
| `reasons` | refusals and rejections in words |
"""

from collections.abc import Sequence

from uvtorch.backend import Backend
from uvtorch.catalog import Catalog, number
from uvtorch.choose import fit, need, reasons, unknown
from uvtorch.choose.decision import Candidate, Decision, Request
from uvtorch.choose.need import Need, local_backend
from uvtorch.choose.ranking import Option, Ranking, Verdict, leaves_idle, rank_choices, runs_here
from uvtorch.choose.specifier import allows
from uvtorch.errors import UsageError
from uvtorch.machine import Gpu, Machine

__all__ = [
    "Candidate",
    "Decision",
    "Option",
    "Ranking",
    "Request",
    "Verdict",
    "after_asking",
    "choose",
    "leaves_idle",
    "local_backend",
    "rank_choices",
    "runs_here",
]


def choose(machine: Machine, request: Request, catalog: Catalog) -> Decision:
    """Choose the build for a machine and a request.

    UsageError for a request that cannot be read or contradicts itself: no requirement, two local versions, a local
    version beside another `request.backend`. Which of option, environment and configuration counts, the caller knows.
    """
    local = local_backend(request.requirements, machine)
    if local and request.backend and local != request.backend:
        raise UsageError(
            f"the requirement names the backend {local}, but {request.backend} is asked for",
            f"leave out one of them: the local version +{local.name}, or --torch-backend {request.backend}",
        )
    backend = request.backend or local
    wanted = need.read(machine, request, catalog)
    if backend:
        return _obey(machine, wanted, backend, catalog)
    unsupported = fit.unsupported_platform(machine.platform)
    if unsupported:
        return Decision(None, refusal=unsupported, candidates=reasons.none_fits(catalog, wanted, unsupported))
    hardware = fit.hardware(machine, catalog)
    if hardware.refusal:
        return _refuse_hardware(machine, wanted, hardware, catalog)
    family = hardware.family
    if request.families and family not in request.families:
        offered = " or ".join(request.families)
        return Decision(
            None,
            refusal=f"This machine needs a build of the family {family}, and only {offered} is on offer.",
            candidates=reasons.candidates(machine, wanted, hardware, None, catalog),
        )
    if wanted.conflict:
        return Decision(
            None, refusal=wanted.conflict, candidates=reasons.none_fits(catalog, wanted, "the requirements contradict")
        )
    if not unknown.is_known(wanted, family, catalog):
        return _unknown(machine, wanted, hardware, catalog)
    best = fit.best_of(machine, hardware.gpus, wanted.releases, wanted.pythons, family, catalog)
    candidates = reasons.candidates(machine, wanted, hardware, best, catalog)
    if best is None:
        refusal, hints = reasons.refusal(machine, wanted, hardware, catalog)
        return Decision(None, refusal=refusal, hints=hints, candidates=candidates)
    return _decide(machine, wanted, hardware, best, candidates, catalog)


def after_asking(decision: Decision, found: Backend | None, request: Request, catalog: Catalog) -> Decision:
    """Settle a decision whose `ask` was put to the indexes: `found` is the first that had a match, None if none had."""
    if found is None:
        wanted = " ".join(request.requirements) or "torch"
        asked = ", ".join(map(str, decision.ask))
        return decision._replace(
            backend=None, ask=(), refusal=f"No index that fits this machine has {wanted} (asked: {asked})."
        )
    accepted = Candidate(found, None, True, "its index has it")
    others = tuple(candidate for candidate in decision.candidates if candidate.backend != found)
    return decision._replace(
        backend=found,
        reason=f"{decision.reason}; its index has it",
        ask=(),
        hints=(),
        platforms=unknown.platforms(found, None, catalog),
        companions=_companions(found, None, catalog),
        candidates=(accepted, *others),
    )


def _decide(
    machine: Machine,
    need: Need,
    hardware: fit.Hardware,
    best: tuple[Backend, str],
    candidates: tuple[Candidate, ...],
    catalog: Catalog,
) -> Decision:
    backend, release = best
    warnings = list(hardware.warnings)
    blind = [gpu for gpu in hardware.gpus if backend.family == "cu" and fit.capability(gpu) is None]
    if blind:
        who = fit.labels(tuple(blind))
        warnings.append(f"the compute capability of {who} is not known, so {backend} is chosen by the driver alone")
    return Decision(
        backend,
        release,
        fit.is_native(machine, backend, catalog),
        reasons.why(machine, hardware, backend, catalog),
        unknown.platforms(backend, release, catalog),
        _companions(backend, release, catalog),
        _bounds(need, backend, release, catalog),
        warnings=tuple(warnings),
        candidates=candidates,
    )


def _companions(backend: Backend, release: str | None, catalog: Catalog) -> tuple[str, ...]:
    """Packages that torch requires and only this index has; of an unknown release, those of the newest."""
    name = backend._replace(channel="").name
    return tuple(
        package
        for whose, releases, newer, packages in catalog.companions
        if whose in (backend.family, name) and (release in releases if release else newer)
        for package in packages
    )


def _bounds(need: Need, backend: Backend, release: str, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    """Bounds on what uv would resolve to: torch on this index, and packages that do not say which torch they need."""
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


def _refuse_hardware(machine: Machine, need: Need, hardware: fit.Hardware, catalog: Catalog) -> Decision:
    reason = (hardware.refusal or "").rstrip(".")
    candidates = [
        candidate._replace(reason=reason) if candidate.backend.family != "cpu" and candidate.torch else candidate
        for candidate in reasons.candidates(machine, need, hardware, None, catalog)
    ]
    return Decision(None, refusal=hardware.refusal, hints=hardware.hints, candidates=tuple(candidates))


def _unknown(machine: Machine, need: Need, hardware: fit.Hardware, catalog: Catalog) -> Decision:
    """The decision for a request that admits only releases the catalog does not know."""
    family = hardware.family
    fits = fit.best_of(machine, hardware.gpus, tuple(reversed(catalog.releases)), need.pythons, family, catalog)
    newest = f" The newest that fits is {fits[1]} ({fits[0]})." if fits else ""
    candidates = tuple(
        candidate
        if candidate.torch
        else candidate._replace(reason=f"not known to have {need.text}; {candidate.reason}")
        for candidate in reasons.candidates(machine, need, hardware, None, catalog)
    )
    floor = unknown.floor(need, catalog)
    index = catalog.builds[Backend(family)] if family in ("cpu", "xpu") else {}
    newer = number(floor) > number(list(catalog.releases)[-1])
    if index and newer and machine.platform.key not in list(index.values())[-1]:
        where = fit.platform_name(machine.platform.key)
        return Decision(
            None,
            refusal=f"{need.text} is newer than what uvtorch knows, and torch has no more wheels for {where}.{newest}",
            candidates=candidates,
        )
    if index:
        # One index, so nothing to choose: uv says whether it has the version.
        backend = Backend(family)
        candidates = tuple(
            candidate._replace(accepted=True, reason=f"the only index that may have {need.text}")
            if candidate.backend == backend
            else candidate
            for candidate in candidates
        )
        decided = _decide(machine, need, hardware, (backend, ""), candidates, catalog)
        return decided._replace(
            torch=None,
            platforms=unknown.platforms(backend, None, catalog),
            companions=_companions(backend, None, catalog),
        )
    first = next(iter(catalog.releases))
    if number(floor) < number(first):
        return Decision(
            None,
            refusal=f"{need.text} is older than what uvtorch knows (torch {first} and later).{newest}",
            hints=("name its backend with --torch-backend",),
            candidates=candidates,
        )
    ask = unknown.askable(machine, need, hardware, floor, catalog)
    if not ask:
        return Decision(
            None,
            refusal=f"{need.text} is newer than what uvtorch knows, and no index that may have it serves "
            f"{fit.labels(hardware.gpus)}{' with this driver' if family == 'cu' else ''}.{newest}",
            hints=("--torch-backend cpu asks the CPU index for it",),
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


def _obey(machine: Machine, need: Need, backend: Backend, catalog: Catalog) -> Decision:
    """The decision for a backend that was asked for, with one warning if it would not run here."""
    stable = backend._replace(channel="")
    index = catalog.builds.get(stable, {})
    gpus = fit.gpus_for(machine, backend, catalog)
    known = [release for release in need.releases if release in index] if not backend.channel else []
    fits = next((one for one in known if not fit.fault(machine, gpus, stable, one, need.pythons, catalog)), None)
    present = [
        one
        for one in known
        if machine.platform.key in index[one] and index[one][machine.platform.key].pythons & need.pythons
    ]
    release = fits or next(iter(present or known), None)
    runs = fits and (gpus or backend.family == "cpu") and not fit.unsupported_platform(machine.platform)
    warning = None if runs else _will_not_run(machine, need, backend, known, gpus, catalog)
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
        unknown.platforms(backend, release, catalog),
        _companions(backend, release, catalog),
        _bounds(need, stable, release, catalog) if release and (fits or present) else (),
        prerelease=bool(backend.channel),
        warnings=(warning,) if warning else (),
        candidates=candidates,
    )


def _will_not_run(
    machine: Machine,
    need: Need,
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
        if not unknown.may_serve(machine, backend, catalog):
            where = fit.platform_name(machine.platform.key)
            return f"{backend} will not run on this machine: it has no wheels for {where}"
        return f"{backend} will not run on this machine: {runs_here(machine, backend, None, catalog).reason}"
    index = catalog.builds.get(stable)
    if index and need.releases and not known and not backend.channel:
        ends = list(index)
        return f"{backend} has no build for {need.text}: its index has torch {ends[0]} to {ends[-1]}"
    if not known:
        fault = unknown.fault(machine, gpus, stable, catalog)
        return f"{backend} will not run on this machine: it {fault}" if fault else None
    faults = [(fit.fault(machine, gpus, stable, release, need.pythons, catalog), release) for release in known]
    worst, release = max(faults, key=lambda pair: (reasons.step(pair[0]), number(pair[1])))
    return f"{backend} will not run on this machine: torch {release} {worst}"

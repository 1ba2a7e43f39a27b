"""What holds of the choice for every machine and request."""

from hypothesis import assume
from hypothesis import strategies as st

from tests.choose.described import PLATFORMS
from tests.examples import given
from uvtorch import catalog as catalogs
from uvtorch.backend import Backend
from uvtorch.catalog import Build, Catalog, Kernels, number
from uvtorch.choose import Decision, Request, choose, evaluate
from uvtorch.choose.compatibility import Judge, select
from uvtorch.machine import Driver, Gpu, Machine, Platform, Problem
from uvtorch.verbs.explain import candidates

CATALOG = catalogs.load()


RELEASES = list(CATALOG.releases)

DRIVERS = ["440.33", "450.80.02", "470.256.02", "515.65.01", "520.61.05", "525.60.12", "525.60.13", "527.41", "528.33"]
DRIVERS += ["535.183.01", "550.54.15", "555.42.06", "560.35.05", "565.57.01", "570.124.06", "575.57.08", "580.65.06"]
DRIVERS += ["590.48.01", "595.58.03", "610.43.02", "615.10", "720.1"]
CAPABILITIES = ["3.5", "3.7", "5.0", "5.2", "5.3", "6.0", "6.1", "6.2", "7.0", "7.2", "7.5", "8.0", "8.6", "8.7", "8.9"]
CAPABILITIES += ["9.0", "10.0", "10.1", "10.3", "11.0", "12.0", "12.1", "13.0"]
GFX = sorted({gfx for devices in CATALOG.devices.values() for gfx in devices} | {"gfx803", "gfx9999"})

nvidia = st.sampled_from(CAPABILITIES).map(lambda cc: Gpu("nvidia", f"N{cc}", compute_capability=cc))
amd = st.builds(
    lambda gfx, apu: Gpu("amd", f"A{gfx}", architecture=gfx, integrated=apu), st.sampled_from(GFX), st.booleans()
)
intel = st.sampled_from(["8086:56a0", "8086:46a6", "8086:0bd5"]).map(lambda pci: Gpu("intel", "I", pci_id=pci))
platforms = st.sampled_from(list(PLATFORMS.values()))
pythons = st.none() | st.sampled_from(["3.8", "3.9", "3.10", "3.12", "3.13t", "3.14", "3.14t", "3.15", "3.16"])
specifiers = (
    st.just("")
    | st.sampled_from(["", "<2.8", ">=2.8", "==2.7.*", "~=2.9.0", ">2.13", "<2.1"])
    | st.sampled_from([f"=={release}" for release in RELEASES])
)


@st.composite
def machines(draw: st.DrawFn, platform: Platform | None = None) -> Machine:
    gpus = tuple(
        draw(st.lists(nvidia, max_size=2)) + draw(st.lists(amd, max_size=1)) + draw(st.lists(intel, max_size=1))
    )
    driver = Driver(draw(st.sampled_from(DRIVERS))) if any(gpu.vendor == "nvidia" for gpu in gpus) else None
    return Machine(platform or draw(platforms), gpus, driver)


cuda_machines = st.builds(
    lambda platform, gpus, others: Machine(platform, (*gpus, *others)),
    st.sampled_from([PLATFORMS[name] for name in ("linux", "arm", "windows", "wsl", "centos7")]),
    st.lists(nvidia, min_size=1, max_size=2),
    st.lists(amd | intel, max_size=1),
)
requests = st.builds(lambda text, python: Request((f"torch{text}",), python), specifiers, pythons)


def code_runs(code: tuple[int, int], device: tuple[int, int], cuda: tuple[int, ...], platform: str) -> bool:
    """NVIDIA's rule, written again from PyTorch's own check."""
    device = (11, 0) if device == (10, 1) else device
    if device == (8, 7) and code in ((8, 0), (8, 6)):
        return platform == "linux_aarch64" and cuda >= (13, 2)
    exceptions = {((5, 0), (5, 3)), ((5, 2), (5, 3)), ((6, 0), (6, 2)), ((6, 1), (6, 2)), ((7, 0), (7, 2))}
    return code[0] == device[0] and code[1] <= device[1] and (code, device) not in exceptions


def chosen(decision: Decision) -> tuple[Backend, str]:
    assume(decision.backend is not None and decision.torch is not None)
    assert decision.backend
    assert decision.torch
    return decision.backend, decision.torch


@given(machines(), requests)
def test_a_choice_violates_no_constraint(machine: Machine, request: Request) -> None:
    backend, torch = chosen(choose(machine, request, CATALOG))
    platform = machine.platform.key
    build = CATALOG.builds[backend][torch][platform]
    assert request.python is None or request.python in build.pythons
    if machine.platform.libc == "glibc 2.17":
        assert number(torch) < (2, 7) or platform != "linux_x86_64"
    if backend.family == "rocm":
        used = select(Judge(machine, CATALOG)).gpus
        assert all(gpu.architecture in CATALOG.devices[backend] for gpu in used)
    if backend.family != "cu":
        return
    assert machine.nvidia_driver
    driver = number(machine.nvidia_driver.version)
    system = "windows" if machine.platform.system == "windows" else "linux"
    assert driver >= number(CATALOG.minimum_driver[backend.version[0]][system])
    kernels = CATALOG.kernels[backend, torch, platform]
    reported = [cuda for first, cuda in CATALOG.reports[system] if first <= driver][-1]
    for gpu in select(Judge(machine, CATALOG)).gpus:
        if gpu.vendor == "nvidia" and not Judge(machine, CATALOG).is_newer(gpu):
            major, minor = number(gpu.compute_capability or "")
            compiled = any(code_runs(code, (major, minor), backend.version, platform) for code in kernels.codes)
            ptx = kernels.ptx is not None and kernels.ptx <= (major, minor) and reported >= backend.version
            assert compiled or ptx


@given(machines(), requests)
def test_no_newer_torch_would_have_run(machine: Machine, request: Request) -> None:
    assume(machine.gpus and evaluate(machine, request, CATALOG).best())
    backend, torch = chosen(choose(machine, request, CATALOG))
    assume(backend.family != "cpu")
    newer = Request((*request.requirements, f"torch>{torch}"), request.python)
    assert choose(machine, newer, CATALOG).torch is None


@given(cuda_machines, requests, st.sampled_from(DRIVERS), st.sampled_from(DRIVERS))
def test_a_newer_driver_never_gives_an_older_torch(machine: Machine, request: Request, one: str, other: str) -> None:
    """But for a GPU newer than the catalog, which is to try the newest build of the newest CUDA of its driver."""
    assume(not any(map(Judge(machine, CATALOG).is_newer, machine.gpus)))
    older, newer = sorted((one, other), key=number)
    old = machine._replace(nvidia_driver=Driver(older))
    assume(evaluate(old, request, CATALOG).best())  # a refusal takes longer to word than a choice to make
    before = choose(old, request, CATALOG)
    after = choose(machine._replace(nvidia_driver=Driver(newer)), request, CATALOG)
    assume(before.backend is not None and before.backend.family == "cu")
    assert after.backend is not None
    assert number(after.torch or "") >= number(before.torch or "")


@given(machines(), requests)
def test_a_refusal_names_something_that_fits_if_anything_does(machine: Machine, request: Request) -> None:
    decision = choose(machine, request, CATALOG)
    assume(decision.refusal is not None)
    said = " ".join((decision.refusal or "", *decision.hints))
    unpinned = choose(machine, Request(("torch",), request.python), CATALOG)
    if unpinned.backend is not None:
        assert f"{unpinned.torch} ({unpinned.backend})" in said
    cpu = choose(machine, request._replace(backend=Backend("cpu")), CATALOG)
    if not cpu.warnings:
        assert "cpu" in said


def complete(decision: Decision, catalog: Catalog) -> None:
    """A decision says one thing, and has a reason for every candidate."""
    assert (decision.backend is not None) + (decision.refusal is not None) + bool(decision.ask) == 1
    rows = [*candidates(decision)]
    assert len({candidate.backend for candidate in rows}) == len(rows)
    assert {candidate.backend for candidate in rows} >= set(catalog.builds)
    assert all(candidate.reason and candidate.reason.isascii() for candidate in rows)
    accepted = [candidate for candidate in rows if candidate.accepted]
    if decision.backend:
        assert [(one.backend, one.torch) for one in accepted] == [(decision.backend, decision.torch)]
    else:
        assert not accepted
    for package, bound in decision.bounds:
        assert package
        assert bound.startswith("<")


@given(machines(), requests)
def test_every_decision_is_complete(machine: Machine, request: Request) -> None:
    complete(choose(machine, request, CATALOG), CATALOG)


@st.composite
def grown(draw: st.DrawFn) -> Catalog:
    """The catalog with one more build in it, of a backend that may be new."""
    family = draw(st.sampled_from(["cu", "rocm", "xpu", "cpu"]))
    version = draw(st.tuples(st.integers(10, 15), st.integers(0, 9))) if family in ("cu", "rocm") else ()
    backend = Backend(family, version)
    release = draw(st.sampled_from([*RELEASES, "2.16.0"]))
    platform = draw(st.sampled_from(["linux_x86_64", "windows_amd64", "macos_arm64"]))
    index = {**CATALOG.builds.get(backend, {})}
    build = Build(frozenset(draw(st.lists(st.sampled_from(["3.12", "3.14t", "3.16"]), min_size=1))), "inferred", "test")
    index[release] = {**index.get(release, {}), platform: build}
    releases = {**CATALOG.releases, release: "2027-01-01"}
    catalog = CATALOG._replace(
        releases=releases,
        builds={**CATALOG.builds, backend: {one: index[one] for one in releases if one in index}},
        kernels={**CATALOG.kernels, (backend, release, platform): Kernels(((9, 0),), None, "inferred", "test")},
    )
    if family == "rocm":
        catalog = catalog._replace(devices={**CATALOG.devices, backend: frozenset(["gfx942"])})
    return catalog


@given(grown(), machines(), requests)
def test_one_more_row_never_breaks_totality(catalog: Catalog, machine: Machine, request: Request) -> None:
    complete(choose(machine, request, catalog), catalog)


odd = st.text(max_size=8)


@given(
    st.builds(
        Machine,
        st.builds(
            Platform, odd | st.sampled_from(["linux", "windows", "macos"]), odd | st.just("x86_64"), st.none() | odd
        ),
        st.lists(
            st.builds(
                Gpu, odd | st.sampled_from(["nvidia", "amd", "intel"]), odd, st.none() | odd, st.none() | odd, st.none()
            )
        ).map(tuple),
        st.none() | st.builds(Driver, odd, st.none() | odd),
        st.lists(st.builds(Problem, st.sampled_from(["nvidia", "amd"]), odd | st.just("broken"), odd, odd)).map(tuple),
    ),
    requests,
)
def test_the_choice_is_total_over_whatever_a_description_may_say(machine: Machine, request: Request) -> None:
    decision = choose(machine, request, CATALOG)
    assert (decision.backend is not None) + (decision.refusal is not None) + bool(decision.ask) == 1

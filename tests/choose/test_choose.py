"""What a decision says beside its build: warnings, hints, bounds, platforms, companions, candidates."""

import pytest

from tests.choose.described import machine, request
from uvtorch import catalog as catalogs
from uvtorch.backend import Backend, parse
from uvtorch.choose import Decision, Request, after_asking, choose, evaluate, local_backend
from uvtorch.choose.compatibility import Judge
from uvtorch.errors import UsageError
from uvtorch.machine import Driver
from uvtorch.verbs.explain import candidates

CATALOG = catalogs.load()


def decide(described: str, asked: str = "torch") -> Decision:
    return choose(machine(described), request(asked), CATALOG)


def backend(name: str) -> Backend:
    found = parse(name)
    assert found
    return found


@pytest.mark.parametrize(
    ("described", "asked", "warning"),
    [
        (
            "linux 535.183.01 9.0",
            "torch backend=cu130",
            "torch 2.15.0 needs a driver >= 580; this machine has 535.183.01",
        ),
        ("linux 595.58.03 7.0", "torch backend=cu130", "torch 2.15.0 has no kernels for GPU (7.0)"),
        ("linux 595.58.03 12.0", "torch backend=cu126", "torch 2.14.1 has no kernels for GPU (12.0)"),
        ("linux", "torch backend=cu130", "cu130 needs an NVIDIA GPU, and none is visible here"),
        ("linux", "torch backend=rocm7.2", "rocm7.2 needs an AMD GPU, and none is visible here"),
        ("linux", "torch backend=xpu", "xpu needs an Intel GPU, and none is visible here"),
        ("linux broken:nvidia", "torch backend=cu130", "nvidia is broken"),
        ("linux gfx950", "torch backend=rocm6.4", "torch 2.9.1 has no kernels for Radeon (gfx950)"),
        ("linux 8086:46a6", "torch backend=xpu", "torch 2.15.0 does not support Intel"),
        ("mac", "torch backend=cu126", "it has no wheels for macOS on Apple silicon"),
        ("windows", "torch backend=rocm7.2", "it has no wheels for Windows"),
        ("windows gfx1100", "torch backend=rocm7.2", "torch 2.14.1 has no wheel for Windows"),
        ("arm 560.35.05 9.0", "torch==2.7.1 backend=cu126", "torch 2.7.1 has no wheel for Linux aarch64"),
        (
            "linux 580.95.05 9.0",
            "torch backend=cu130 python=3.9",
            "torch 2.15.0 has no wheel for Python 3.9 on Linux x86_64",
        ),
        ("linux 550.144.03 9.0", "torch backend=cu140", "it needs a driver for CUDA 14; this machine has 550.144.03"),
        ("linux 550.144.03 9.0", "torch backend=cu134", "it needs a driver >= 580; this machine has 550.144.03"),
        ("linux 580.95.05 7.0", "torch backend=nightly/cu132", "it has no kernels for GPU (7.0)"),
        ("alpine", "torch backend=cpu", "PyTorch has no wheels for musl libc (Alpine and the like); it needs glibc"),
    ],
)
def test_a_backend_asked_for_is_obeyed_with_one_warning_where_it_would_not_run(
    described: str, asked: str, warning: str
) -> None:
    decision = decide(described, asked)
    assert decision.backend == request(asked).backend
    assert decision.refusal is None
    (said,) = decision.warnings
    assert said == f"{decision.backend} will not run on this machine: {warning}"


def test_a_backend_without_the_version_asked_for_is_obeyed_with_a_warning() -> None:
    (said,) = decide("linux 580.95.05 9.0", "torch==2.15.0 backend=cu126").warnings
    assert said == "cu126 will not run on this machine: its index has torch 2.6.0 to 2.14.1, not torch==2.15.0"


@pytest.mark.parametrize(
    ("described", "asked"),
    [
        ("linux 580.95.05 9.0", "torch backend=cu130"),
        ("linux 580.95.05 9.0", "torch backend=cu126"),
        ("linux 580.95.05 9.0", "torch backend=cpu"),
        ("linux 580.95.05 9.0", "torch backend=cu134"),
        ("linux 580.95.05 9.0", "torch backend=nightly/cu130"),
        ("linux 550.144.03 9.0", "torch backend=cu128"),
        ("linux gfx942", "torch backend=rocm10.0"),
        ("linux 8086:56a0", "torch backend=test/xpu"),
        ("mac", "torch backend=cpu"),
    ],
)
def test_a_backend_asked_for_that_runs_gives_no_warning(described: str, asked: str) -> None:
    assert decide(described, asked).warnings == ()


@pytest.mark.parametrize(
    ("described", "warning"),
    [
        ("linux 8086:46a6", "Intel stays idle: PyTorch's XPU backend does not support it"),
        (
            "windows gfx1100",
            "Radeon (gfx1100) stays idle: PyTorch has no ROCm wheels for Windows; AMD's own index has them, as "
            "torch[device-gfx1100]: https://repo.amd.com/rocm/whl-multi-arch/ (AMD says so; not tried by uvtorch)",
        ),
        ("arm gfx942", "Radeon (gfx942) stays idle: PyTorch has no ROCm wheels for Linux aarch64"),
        ("linux apu:gfx90c", "APU (gfx90c) stays idle: no known PyTorch build has kernels for it"),
        ("windows-arm 581.29 12.1", "GPU (12.1) stays idle: PyTorch has no CUDA wheels for Windows on Arm"),
        ("linux unreachable:nvidia", "nvidia is unreachable: taking the CPU build"),
        ("linux gfx803", "Radeon (gfx803) stays idle: no known PyTorch build has kernels for it"),
        ("linux gfx803 8086:56a0", "Radeon (gfx803) stays idle: no known PyTorch build has kernels for it"),
        ("linux gfx803 gfx1100", "Radeon (gfx803) stays idle: no known PyTorch build has kernels for it"),
        ("linux gfx9999 8086:56a0", "No known PyTorch build has kernels for Radeon (gfx9999)."),
        ("linux 470.256.02 3.5", "GPU (3.5) stays idle: no known PyTorch build has kernels for it"),
        ("linux 470.256.02 3.5 gfx1100", "GPU (3.5) stays idle: no known PyTorch build has kernels for it"),
        ("linux 470.256.02 3.5 8.6", "GPU (3.5) stays idle: no known PyTorch build has kernels for it"),
        (
            "linux apu:gfx1033",
            "APU (gfx1033) stays idle: rocm7.14 is built for it, but it computes wrong results on gfx1033",
        ),
        (
            "linux apu:gfx1036",
            "APU (gfx1036) stays idle: it is too small to be worth it; to use it, say --torch-backend rocm7.14",
        ),
        (
            "linux 595.58.03 13.0",
            "GPU (13.0) is newer than uvtorch's catalog (as of 2026-11-20); cu132 is the newest build that this "
            "driver runs",
        ),
        ("linux 550.144.03 ?", "the compute capability of GPU is not known, so cu126 is chosen by the driver alone"),
    ],
)
def test_what_is_passed_over_is_said(described: str, warning: str) -> None:
    assert decide(described).warnings == (warning,)


@pytest.mark.parametrize(
    "described", ["linux 570.124.06 9.0 8086:46a6", "linux 580.95.05 9.0 unreachable:nvidia", "linux", "mac"]
)
def test_what_does_not_matter_is_not_said(described: str) -> None:
    assert decide(described).warnings == ()


def test_a_refusal_says_what_a_newer_driver_another_python_or_the_cpu_would_give() -> None:
    assert decide("linux 535.183.01 9.0", "torch==2.15.0").hints == (
        "with a driver >= 580, torch 2.15.0 (cu130) fits",
        "`--torch-backend cpu` gives torch 2.15.0 without the GPU",
    )
    assert decide("linux 440.33 7.5").hints[:3] == (
        "with a driver >= 450.80.02, torch 2.7.1 (cu118) fits",
        "with a driver >= 525.60.13, torch 2.14.1 (cu126) fits",
        "with a driver >= 580, torch 2.15.0 (cu130) fits",
    )
    assert decide("linux", "torch python=3.16").hints == ("with Python 3.15, torch 2.15.0 (cpu) fits",)
    assert decide("linux", "torchaudio python=3.15").hints == ("torchaudio 2.11.0 has no wheel for Python 3.15",)
    assert "builds for Jetsons are on NVIDIA's own Jetson index" in decide("arm 540.4.0 8.7").hints
    assert decide("linux broken:nvidia").hints == ("mend it", "`--torch-backend cpu` takes the CPU build")


def test_gpus_that_no_build_serves_together_are_told_apart() -> None:
    hints = decide("linux 580.95.05 7.0 9.0 10.0", "torch>=2.11").hints
    assert hints[:2] == (
        "with only GPU (7.0), GPU (9.0) visible (CUDA_VISIBLE_DEVICES), torch 2.14.1 (cu126) fits",
        "with only GPU (9.0), GPU (10.0) visible (CUDA_VISIBLE_DEVICES), torch 2.15.0 (cu130) fits",
    )
    assert not any(hint.startswith("with only GPU (7.0) visible") for hint in hints)


@pytest.mark.parametrize(
    ("described", "asked", "companions"),
    [
        ("linux gfx942", "torch==2.9.1", ("pytorch-triton-rocm",)),
        ("linux gfx942", "torch==2.10.0", ("triton-rocm",)),
        ("linux 8086:56a0", "torch==2.9.1", ("pytorch-triton-xpu",)),
        ("linux 8086:56a0", "torch==2.10.0", ("triton-xpu",)),
        ("linux 8086:56a0", "torch>=2.16", ("triton-xpu",)),
        ("linux", "torch backend=nightly/xpu", ("triton-xpu",)),
        ("linux 580.95.05 9.0", "torch", ()),
        ("linux", "torch", ()),
    ],
)
def test_companions_have_the_name_of_their_time(described: str, asked: str, companions: tuple[str, ...]) -> None:
    assert decide(described, asked).companions == companions


def test_rocm_libraries_that_only_the_index_has_come_along() -> None:
    companions = decide("linux gfx1103").companions
    assert decide("linux", "torch backend=rocm10.0").companions == companions
    assert decide("linux", "torch backend=rocm10.1").companions == companions
    assert decide("linux", "torch backend=rocm7.2").companions == ("triton-rocm",)
    assert companions[:4] == ("triton-rocm", "rocm", "rocm-sdk-core", "rocm-sdk-libraries")
    assert "rocm-sdk-device-gfx1103" in companions


@pytest.mark.parametrize(
    ("described", "asked", "platforms"),
    [
        ("linux 570.124.06 9.0", "torch", {"linux_x86_64", "linux_aarch64", "windows_amd64"}),
        ("linux 570.124.06 12.0", "torch", {"linux_x86_64", "linux_aarch64"}),
        ("linux 570.124.06 9.0", "torch==2.7.1 backend=cu126", {"linux_x86_64", "windows_amd64"}),
        ("linux gfx942", "torch", {"linux_x86_64"}),
        ("linux 8086:56a0", "torch", {"linux_x86_64", "windows_amd64"}),
        ("linux", "torch", None),
        ("linux", "torch backend=cu140", {"linux_x86_64", "linux_aarch64", "windows_amd64"}),
        ("linux", "torch backend=rocm10.0", {"linux_x86_64"}),
        ("linux", "torch backend=nightly/cu130", {"linux_x86_64", "linux_aarch64", "windows_amd64"}),
    ],
)
def test_platforms_are_those_with_wheels_on_the_index(described: str, asked: str, platforms: set[str] | None) -> None:
    assert decide(described, asked).platforms == platforms


def test_native_is_told_from_minor_version_compatibility() -> None:
    native, compatible = decide("linux 560.35.05 9.0"), decide("linux 535.183.01 9.0")
    assert native.backend == compatible.backend
    assert (native.native, compatible.native) == (True, False)
    assert native.reason == "driver 560.35.05 supports CUDA 12.6; GPU (9.0)"
    assert compatible.reason == "driver 535.183.01 supports CUDA 12.2 (cu126 by minor-version compatibility); GPU (9.0)"


def test_a_driver_that_reports_a_newer_cuda_is_believed_where_nvidia_says_so() -> None:
    # NVIDIA's forward-compatibility packages put a newer libcuda on an older driver.
    here = machine("linux 535.183.01 9.0")._replace(nvidia_driver=Driver("535.183.01", "13.0"))
    assert str(choose(here, Request(), CATALOG).backend) == "cu130"
    geforce = here._replace(gpus=(here.gpus[0]._replace(name="NVIDIA GeForce RTX 4090"),))
    assert str(choose(geforce, Request(), CATALOG).backend) == "cu126"
    older = here._replace(nvidia_driver=Driver("530.30.02", "13.0"))
    assert str(choose(older, Request(), CATALOG).backend) == "cu126"


def test_a_driver_below_the_oldest_is_refused_though_it_reports_cuda_11() -> None:
    here = machine("linux 450.36.06 7.5")._replace(nvidia_driver=Driver("450.36.06", "11.0"))
    assert choose(here, Request(), CATALOG).refusal == (
        "torch 2.15.0 needs a driver >= 580; this machine has 450.36.06."
    )


def test_every_candidate_has_its_reason() -> None:
    found = {str(one.backend): one for one in candidates(decide("linux 580.95.05 9.0", "torch==2.9.1"))}
    assert found["cu130"].accepted
    assert found["cu129"].reason == "runs here, but the driver also runs CUDA 13: cu130"
    assert found["cu118"].reason == "has torch 2.0.0 to 2.7.1 only"
    assert found["cpu"].reason == "would leave GPU (9.0) idle"
    assert found["rocm6.4"].reason == "for AMD GPUs; this machine has GPU (9.0)"
    found = {str(one.backend): one for one in candidates(decide("linux 595.58.03 9.0"))}
    assert found["cu130"].reason == "runs here, but cu132 is newer and as native"
    assert found["cu126"].reason == "runs here, but ends at torch 2.14.1: cu132 has 2.15.0"
    found = {str(one.backend): one for one in candidates(decide("linux 580.95.05 9.0"))}
    assert found["cu132"].reason == "runs by minor-version compatibility only; cu130 natively"
    found = {str(one.backend): one for one in candidates(decide("linux 525.147.05 9.0", "torch==2.9.1"))}
    assert found["cu129"].reason == "runs here, but cu126 is nearer to the driver"
    found = {str(one.backend): one for one in candidates(decide("linux gfx942"))}
    assert found["rocm7.14"].reason.startswith("runs here, but needs rocm-sdk packages")


def test_each_candidate_beside_a_backend_that_is_asked_for_has_its_reason() -> None:
    for asked in ("torch backend=cpu", "torch==2.9.1+cpu", "torch backend=cu118", "torch==2.9.1 backend=rocm6.4"):
        decision = decide("linux 580.95.05 9.0", asked)
        reasons = {one.backend: one.reason for one in candidates(decision)}
        assert decision.backend
        assert reasons.pop(decision.backend) == "asked for"
        assert set(reasons.values()) == {f"{decision.backend} is asked for"}


def test_candidates_are_ordered_by_number() -> None:
    names = [str(candidate.backend) for candidate in candidates(decide("linux"))]
    assert names[:2] == ["cu132", "cu130"]
    assert names.index("rocm7.14") < names.index("rocm7.2") < names.index("rocm6.4")
    assert names[-1] == "cpu"


@pytest.mark.parametrize(
    "requirements",
    [
        ("torch==2.5.1+cu124", "torchvision==0.20.1+cu121"),
        ("torch==2.5.1+cu124; sys_platform == 'linux'", "torchaudio==2.5.1+cpu; platform_machine == 'x86_64'"),
    ],
)
def test_two_local_versions_for_one_platform_are_an_error(requirements: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="name two backends"):
        choose(machine("mac"), Request(requirements), CATALOG)


def test_local_versions_for_different_platforms_are_not() -> None:
    requirements = ("torch==2.5.1+cu124; sys_platform == 'linux'", "torch==2.5.1+cpu; sys_platform == 'win32'")
    assert local_backend(requirements, machine("linux")) == backend("cu124")
    assert local_backend(requirements, machine("windows")) == backend("cpu")
    assert local_backend(requirements, machine("mac")) is None
    assert str(choose(machine("windows"), Request(requirements), CATALOG).backend) == "cpu"


def test_local_versions_of_other_packages_name_no_backend() -> None:
    assert local_backend(["something==1.0+cpu", "torch==2.5.1", "torch==2.1.0+git1234"]) is None


def test_a_local_version_beside_another_backend_is_an_error() -> None:
    with pytest.raises(UsageError, match="names the backend cu126, but cu128 is asked for"):
        choose(machine("linux"), Request(("torch==2.9.1+cu126",), backend=backend("cu128")), CATALOG)
    same = choose(machine("linux"), Request(("torch==2.9.1+cu126",), backend=backend("cu126")), CATALOG)
    assert same.backend == backend("cu126")


def test_what_is_no_requirement_is_an_error() -> None:
    with pytest.raises(UsageError, match="is not a requirement"):
        choose(machine("linux"), Request(("torch==",)), CATALOG)
    with pytest.raises(UsageError, match="is not a version specifier"):
        choose(machine("linux"), Request((), requires_python="three"), CATALOG)


def test_after_asking_the_first_index_that_answers_is_taken() -> None:
    asked = request("torch>=2.16")
    decision = choose(machine("linux 580.95.05 9.0"), asked, CATALOG)
    settled = after_asking(decision, backend("cu132"), asked, CATALOG)
    assert settled.backend == backend("cu132")
    assert settled.torch is None
    assert settled.ask == ()
    assert settled.platforms == frozenset(("linux_x86_64", "linux_aarch64", "windows_amd64"))
    assert [str(one.backend) for one in candidates(settled) if one.accepted] == ["cu132"]


def test_after_asking_in_vain_the_refusal_names_what_fits() -> None:
    asked = request("torch>=2.16")
    decision = choose(machine("linux 580.95.05 9.0"), asked, CATALOG)
    refused = after_asking(decision, None, asked, CATALOG)
    assert refused.backend is None
    assert refused.refusal == "No index that fits this machine has torch>=2.16 (asked: cu130, cu132, cu134)."
    assert refused.hints == ("The newest that fits is 2.15.0 (cu130).",)


@pytest.mark.parametrize(
    ("asked", "release"),
    [
        ("torch", "torch 2.15.0 or newer"),
        ("torch>=2.9", "torch 2.15.0 or newer"),
        ("torch torchvision torchaudio", "torch 2.15.0 or newer"),
        ("torch==2.15.0", "torch 2.15.0"),
        ("torch<2.16,!=2.15.1", "torch 2.15.0"),
        ("torch==2.14.1", "torch 2.14.1"),
        ("torchvision==0.29.2", "torch 2.15.0 or newer"),
        ("torch<2.15 python=3.10", "torch 2.14.1"),
        ("torch backend=cu126", "torch 2.14.1"),
        ("torch backend=cu130", "torch 2.15.0 or newer"),
        ("torch backend=cu140", ""),
    ],
)
def test_the_message_says_or_newer_only_where_uv_may_take_a_newer_one(asked: str, release: str) -> None:
    assert decide("linux 580.95.05 9.0", asked).release == release


def test_what_requires_python_costs_is_said_with_the_way_out() -> None:
    (said,) = decide("linux 580.95.05 9.0", "torch requires-python=>=3.9").warnings
    assert said == (
        "requires-python allows Python 3.9, which cu130 has no torch for: without it, torch 2.15.0 (cu130) fits"
    )
    refused = decide("linux 580.95.05 9.0", "torch==2.15.0 python=3.12 requires-python=>=3.10")
    assert refused.hints[0] == 'with requires-python = ">=3.11", torch 2.15.0 (cu130) fits'
    # Any Python of the range would do for uv as long as the oldest one has a torch.
    assert decide("linux 580.95.05 9.0", "torch==2.9.1 requires-python=>=3.10").warnings == ()


def test_another_implementation_of_python_is_told_the_way_out() -> None:
    for python in ("pypy3.10", "graalpy"):
        decision = decide("linux 580.95.05 9.0", f"torch python={python}")
        assert decision.refusal == f"PyTorch is built for CPython only, and this project's Python is {python}."
        assert decision.hints[0].startswith("`uv python pin 3.12` chooses CPython")


def test_a_torch_older_than_the_catalog_is_refused_with_a_way_that_is_obeyed() -> None:
    for here, name in (("linux 595.58.03 8.6", "cu117"), ("linux gfx906", "rocm5.2")):
        assert f"`--torch-backend {name}` has torch 1.13.1" in decide(here, "torch==1.13.1").hints[0]
        obeyed = decide(here, f"torch==1.13.1 backend={name}")
        assert (obeyed.backend, obeyed.warnings, obeyed.bounds) == (backend(name), (), ())
    assert decide("linux", "torch==1.13.1").backend == backend("cpu")


def test_a_torch_that_the_catalog_does_not_know_is_told() -> None:
    decision = decide("linux 595.58.03 9.0")
    assert decision.beyond("2.15.0") == decide("linux 595.58.03 9.0", "torch==2.15.0").beyond("2.16.0") == ()
    (said,) = decision.beyond("2.16.0")
    assert said.startswith("torch 2.16.0 is newer than uvtorch's catalog, which ends at 2.15.0: update uvtorch")


def test_gfx90a_is_not_given_a_rocm_build_of_torch_2_12_whose_code_objects_are_invalid() -> None:
    amd = machine("linux gfx90a")
    for release, fits in (("2.12.1", False), ("2.14.1", True)):
        fault = Judge(amd, CATALOG).kernel_fault(amd.gpus, backend("rocm7.14"), release)
        assert (fault is None) == fits


def test_a_jetsons_gpu_counts_as_a_card_does() -> None:
    both = machine("arm 540.4.0 8.7 8.0")
    orin = both._replace(gpus=(both.gpus[0]._replace(integrated=True), both.gpus[1]))
    assert evaluate(orin, Request(), CATALOG).hardware.gpus == orin.gpus
    assert evaluate(orin, Request(), CATALOG, backend("cu126")).hardware.gpus == orin.gpus
    assert evaluate(machine("linux apu:gfx1151 gfx1100"), Request(), CATALOG).hardware.gpus[0].architecture == "gfx1100"


def test_an_amd_gpu_of_unknown_architecture_is_refused_with_the_variable_that_names_it() -> None:
    amd = machine("linux gfx1100")
    nameless = amd._replace(gpus=(amd.gpus[0]._replace(architecture=None),))
    decision = choose(nameless, Request(), CATALOG)
    assert decision.refusal == "The architecture of Radeon is not known."
    assert decision.hints[0].startswith("UV_AMD_GPU_ARCHITECTURE names it")


def test_a_gpu_in_the_catalog_is_not_taken_for_a_newer_one() -> None:
    here = machine("linux 580 12.1 9.0 11.0")
    assert not any(Judge(here, CATALOG).is_newer(gpu) for gpu in here.gpus)
    assert decide("linux 580.95.05 12.1").warnings == ()


def test_the_table_has_each_build_once() -> None:
    table = evaluate(machine("linux 595.58.03 9.0"), Request(("torch", "torchaudio")), CATALOG)
    assert len({(row.backend, row.release) for row in table.rows}) == len(table.rows)
    assert len(table.rows) == sum(map(len, CATALOG.builds.values()))
    lacks = table.find(backend("cu132"), "2.15.0")
    assert lacks
    assert str(lacks.fault) == "has no torchaudio on the index of cu132"
    assert table.best() == table.find(backend("cu130"), "2.15.0")

"""What the indexes hold: a thin slice of the real ones, with their oddities.

Real are: the releases that each backend has, the pairs of torch, torchvision and torchaudio, the platforms of each
build, the local versions (none on macOS), the names of Triton on ROCm and XPU before and after torch 2.10, PyPI's own
untagged builds, and the old generic packages that each PyTorch index mirrors.
"""

from collections.abc import Iterator
from typing import Final

from tests.index.wheels import Wheel

PYTHONS: Final = ("cp311", "cp312", "cp313", "cp314")
LINUX: Final = "manylinux_2_28_x86_64"
ARM: Final = "manylinux_2_28_aarch64"
WINDOWS: Final = "win_amd64"
MACOS: Final = "macosx_11_0_arm64"

PAIRS: Final = {
    "2.6.0": ("0.21.0", "2.6.0"),
    "2.8.0": ("0.23.0", "2.8.0"),
    "2.9.1": ("0.24.1", "2.9.1"),
    "2.10.0": ("0.25.0", "2.10.0"),
    "2.11.0": ("0.26.0", "2.11.0"),
    "2.14.1": ("0.29.1", None),
    "2.15.0": ("0.29.2", None),
}
"""torch -> torchvision, torchaudio. From 0.29.1 on torchvision asks for `torch>=2.14.0`, and torchaudio 2.11.0, the
last one, for nothing."""

BACKENDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "cpu": dict.fromkeys(PAIRS, (LINUX, ARM, WINDOWS, MACOS)),
    "cu118": {"2.6.0": (LINUX, WINDOWS)},
    "cu124": {"2.6.0": (LINUX, WINDOWS)},
    "cu126": {
        "2.6.0": (LINUX, ARM, WINDOWS),
        "2.8.0": (LINUX, WINDOWS),
        **dict.fromkeys(("2.9.1", "2.10.0", "2.11.0", "2.14.1"), (LINUX, ARM, WINDOWS)),
    },
    "cu128": {"2.8.0": (LINUX, WINDOWS), **dict.fromkeys(("2.9.1", "2.10.0", "2.11.0"), (LINUX, ARM, WINDOWS))},
    "cu130": dict.fromkeys(("2.9.1", "2.10.0", "2.11.0", "2.14.1", "2.15.0"), (LINUX, ARM, WINDOWS)),
    "cu132": {"2.16.0": (LINUX, ARM, WINDOWS)},
    "cu129": dict.fromkeys(("2.9.1", "2.10.0", "2.11.0"), (LINUX, ARM)),
    "rocm7.2": dict.fromkeys(("2.11.0", "2.14.1"), (LINUX,)),
    "rocm6.4": dict.fromkeys(("2.8.0", "2.9.1"), (LINUX,)),
    "xpu": dict.fromkeys(PAIRS, (LINUX, WINDOWS)),
}
"""backend -> torch release -> platforms. 2.16.0 is one that no catalog knows yet."""

NIGHTLY: Final = "nightly/cu130"
"""An index of pre-releases alone, which need a Triton that is nowhere else."""

HOUSE: Final = "house/wheels"
"""A company's mirror of cu128, whose URL names no backend."""
JETSON: Final = "jp6/cu126"
"""Builds for Jetsons, which are not PyTorch's cu126."""

STALE: Final = (
    Wheel("numpy", "1.26.3"),
    Wheel("jinja2", "3.1.4"),
    Wheel("filelock", "3.13.1"),
    Wheel("typing-extensions", "4.9.0"),
    Wheel("nvidia-cublas", "12.8.4.1"),
)
CURRENT: Final = (
    Wheel("numpy", "2.3.5"),
    Wheel("jinja2", "3.1.6"),
    Wheel("filelock", "3.20.0"),
    Wheel("typing-extensions", "4.15.0"),
    Wheel("nvidia-cublas", "13.1.0.3"),
    Wheel("timm", "1.0.22", requires=("torch", "torchvision", "numpy")),
    Wheel("toml-cli", "0.1"),
    # What depends on PyTorch without a build of its own; uvtorch knows timm, transformers[torch] and accelerate.
    Wheel("any-models", "1.0", requires=("torch", "torchvision")),
    Wheel("old-models", "1.0", requires=("torch==2.8.0", "torchvision==0.23.0")),
    Wheel("capped-models", "1.0", requires=("torch<2.12", "torchvision")),
    Wheel("first-models", "1.0", requires=("torch==2.6.0",)),
    Wheel("newest-models", "1.0", requires=("torch>=2.15",)),
    Wheel("sound-models", "1.0", requires=("torchaudio", "any-models")),
    Wheel("accelerate", "1.12.0", requires=("torch>=2.0.0", "numpy")),
    Wheel("transformers", "5.0.0", requires=("numpy", "torch>=2.4 ; extra == 'torch'"), extras=("torch",)),
)
GENERIC: Final = tuple(wheel.name for wheel in CURRENT)
"""Packages that must never come from a PyTorch index."""


def default_index() -> Iterator[Wheel]:
    """What PyPI has: current generic packages, and PyTorch's packages without a local version."""
    yield from CURRENT
    for torch in PAIRS:
        platforms = (LINUX, ARM, WINDOWS, MACOS)
        yield from _release(torch, "", platforms, ("nvidia-cublas ; platform_system == 'Linux'",))


def pytorch_index(backend: str) -> Iterator[Wheel]:
    """What PyTorch's index of a backend has, or a mirror or a vendor."""
    if backend == JETSON:
        yield from _release("2.11.0", "", ("linux_aarch64",), ())
        return
    backend = "cu128" if backend == HOUSE else backend
    if backend in ("cu126", "cu130"):
        yield Wheel("xformers", f"0.0.35+{backend}", f"cp39-abi3-{LINUX}", ("torch==2.11.0",))
    yield from STALE
    if backend == NIGHTLY:
        yield from _nightly()
    for torch, platforms in BACKENDS.get(backend, {}).items():
        companion = _triton(backend, torch)
        requires: tuple[str, ...] = ()
        if companion:
            requires = (f"{companion.name}=={companion.version} ; platform_system == 'Linux'",)
            for platform in platforms:
                yield companion._replace(tag=f"py3-none-{platform}")
        elif backend.startswith("cu"):
            requires = ("nvidia-cublas ; platform_system == 'Linux'",)
        yield from _release(torch, f"+{backend}", platforms, requires)


def _nightly() -> Iterator[Wheel]:
    triton = Wheel("triton", "3.9.0+git1a2b3c4d", f"py3-none-{LINUX}")
    yield triton
    requires = ("filelock", "jinja2", f"triton=={triton.version} ; platform_system == 'Linux'")
    for day in ("20261101", "20261119"):
        for platform in (LINUX, WINDOWS):
            for python in PYTHONS:
                tag = f"{python}-{python}-{platform}"
                torch = f"2.17.0.dev{day}"
                yield Wheel("torch", f"{torch}+cu130", tag, requires)
                yield Wheel("torchvision", f"0.31.0.dev{day}+cu130", tag, ("numpy", f"torch=={torch}"))


def _triton(backend: str, torch: str) -> Wheel | None:
    family = backend.rstrip(".0123456789")
    if family not in ("rocm", "xpu"):
        return None
    version, old = {"2.8.0": ("3.4.0", True), "2.9.1": ("3.5.1", True)}.get(torch, ("3.6.0", False))
    return Wheel(f"pytorch-triton-{family}" if old else f"triton-{family}", version)


def _release(torch: str, local: str, platforms: tuple[str, ...], requires: tuple[str, ...]) -> Iterator[Wheel]:
    """torch and what goes with it, for each platform and Python."""
    vision, audio = PAIRS.get(torch, ("0.30.0", None))
    exact = f"torch=={torch}"
    for platform in platforms:
        tagged = "" if platform == MACOS else local
        for python in PYTHONS:
            tag = f"{python}-{python}-{platform}"
            yield Wheel("torch", torch + tagged, tag, ("filelock", "jinja2", "typing-extensions", *requires))
            pair = "torch>=2.14.0" if vision >= "0.29.1" else exact
            yield Wheel("torchvision", vision + tagged, tag, ("numpy", pair))
            if audio:
                yield Wheel("torchaudio", audio + tagged, tag, () if audio == "2.11.0" else (exact,))

"""Reading an installed environment from its files, and trying it in a child that cannot hang uvtorch."""

from pathlib import Path

import pytest

from uvtorch.backend import parse
from uvtorch.environment import Build, expects_gpu, read
from uvtorch.machine import Gpu


def venv(root: Path, site: str = "lib/python3.12/site-packages") -> Path:
    (root / site).mkdir(parents=True)
    (root / "pyvenv.cfg").write_text("home = /usr/bin\nimplementation = CPython\nversion_info = 3.12.4\n")
    return root / site


def install(site: Path, name: str, version: str, module: str | None = "", info: str = "") -> None:
    """A package as a wheel leaves it; `module` is the text of its version.py, None: no files."""
    folder = site / (info or f"{name.replace('-', '_')}-{version}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 9.9\n")
    if module is not None:
        (site / name).mkdir(exist_ok=True)
        (site / name / "version.py").write_text(module)


def torch_version(version: str, cuda: str = "None", hip: str = "None", xpu: str | None = None) -> str:
    """torch/version.py as torch's own build writes it."""
    lines = [
        "from typing import Optional",
        "",
        "__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']",
        f"__version__ = '{version}'",
        "debug = False",
        f"cuda: Optional[str] = {cuda}",
        "git_version = '0123456789abcdef0123456789abcdef01234567'",
        f"hip: Optional[str] = {hip}",
    ]
    return "\n".join([*lines, *([f"xpu: Optional[str] = {xpu}"] if xpu else [])]) + "\n"


@pytest.mark.parametrize(
    ("version", "module", "backend"),
    [
        ("2.9.1+cu126", torch_version("2.9.1+cu126", "'12.6'"), "cu126"),
        ("2.9.1+cpu", torch_version("2.9.1+cpu"), "cpu"),
        ("2.9.1", torch_version("2.9.1+cu128", "'12.8'"), "cu128"),  # PyPI's wheel for Linux
        ("2.15.0", torch_version("2.15.0", "'13.2'"), "cu132"),
        ("2.9.1", torch_version("2.9.1+cpu"), "cpu"),  # PyPI's wheel for Windows
        ("2.9.1", torch_version("2.9.1"), "cpu"),  # macOS
        ("2.9.1+rocm6.4", torch_version("2.9.1+rocm6.4", hip="'6.4.43484-123eb5128'"), "rocm6.4"),
        ("2.9.1", torch_version("2.9.1", hip="'6.4.43484-123eb5128'"), "rocm6.4"),
        ("2.9.1+xpu", torch_version("2.9.1+xpu", xpu="'20250301'"), "xpu"),
        ("2.9.1", torch_version("2.9.1", xpu="'20250301'"), "xpu"),
        ("2.10.0a0+git1234567", torch_version("2.10.0a0+git1234567", "'12.8'"), "cu128"),  # built by hand
        ("2.9.1", "", None),
        ("2.9.1", "not python at all \x00 = '", None),
        ("2.9.1", "cuda: Optional[str] = some_call()\n", None),
    ],
)
def test_the_build_is_told_by_its_version_else_by_what_it_says_of_itself(
    tmp_path: Path, version: str, module: str, backend: str | None
) -> None:
    install(venv(tmp_path), "torch", version, module)
    found = read(str(tmp_path))
    assert found is not None
    assert found.torch == Build("torch", version, parse(backend) if backend else None)
    assert found.python == "3.12.4"


def test_sister_packages_are_told_the_same_way_and_others_are_not_read(tmp_path: Path) -> None:
    site = venv(tmp_path)
    install(site, "torchvision", "0.24.1", "__version__ = '0.24.1+cu128'\ngit_version = 'a'\n")
    install(site, "torch", "2.9.1", torch_version("2.9.1+cu128", "'12.8'"))
    install(site, "numpy", "2.3.5")
    found = read(str(tmp_path))
    assert found is not None
    assert [(build.name, str(build.backend)) for build in found.builds] == [
        ("torch", "cu128"),
        ("torchvision", "cu128"),
    ]


def test_the_layout_of_windows_is_read(tmp_path: Path) -> None:
    install(venv(tmp_path, "Lib/site-packages"), "torch", "2.9.1+cu126", torch_version("2.9.1+cu126", "'12.6'"))
    found = read(str(tmp_path))
    assert found is not None
    assert found.torch is not None


def test_no_environment_and_an_empty_one(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none")) is None
    venv(tmp_path / "empty")
    found = read(str(tmp_path / "empty"))
    assert found is not None
    assert (found.torch, found.builds) == (None, ())


def test_half_an_installation_is_broken(tmp_path: Path) -> None:
    site = venv(tmp_path)
    install(site, "torch", "2.9.1+cpu", None)
    (site / "torchvision-0.24.1+cpu.dist-info").mkdir()
    found = read(str(tmp_path))
    assert found is not None
    assert [(build.name, build.broken) for build in found.builds] == [
        ("torch", "its files are missing"),
        ("torchvision", "its metadata is missing"),
    ]


def test_two_sets_of_metadata_are_two_builds(tmp_path: Path) -> None:
    site = venv(tmp_path)
    install(site, "torch", "2.9.1+cpu", torch_version("2.9.1+cpu"))
    install(site, "torch", "2.8.0+cpu", torch_version("2.9.1+cpu"))
    found = read(str(tmp_path))
    assert found is not None
    assert sorted(build.version for build in found.builds) == ["2.8.0+cpu", "2.9.1+cpu"]


@pytest.mark.parametrize(
    ("backend", "vendor", "expected"),
    [("cu126", "nvidia", True), ("rocm6.4", "amd", True), ("xpu", "intel", True), ("cpu", "nvidia", False)],
)
def test_a_gpu_is_expected_of_a_build_for_it(backend: str, vendor: str, expected: bool) -> None:
    assert expects_gpu(parse(backend), (Gpu(vendor, "a GPU"),)) is expected
    assert expects_gpu(parse(backend), ()) is False
    assert expects_gpu(None, (Gpu(vendor, "a GPU"),)) is False

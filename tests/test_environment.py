"""Reading an installed environment from its files, and trying it in a child that cannot hang uvtorch."""

import os
import sys
import time
from pathlib import Path

import pytest

from uvtorch import environment
from uvtorch.backend import parse
from uvtorch.environment import Build, Trial, attempt, expects_gpu, read
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
    (tmp_path / "Scripts").mkdir()
    (tmp_path / "Scripts" / "python.exe").touch()
    found = read(str(tmp_path))
    assert found is not None
    assert found.torch is not None
    assert found.interpreter == os.path.join(tmp_path, "Scripts", "python.exe")


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


# The trial


def a_torch(folder: Path, text: str) -> str:
    """A script that puts a stand-in for torch first, then does the trial."""
    folder.joinpath("torch.py").write_text(text)
    return f"import sys; sys.path.insert(0, {str(folder)!r})\n{environment._SCRIPT}"


STAND_IN = """
__version__ = "2.9.1+cu126"
class cuda:
    device_count = staticmethod(lambda: 3)
class backends: pass
class Tensor:
    def __init__(self, device): self.device = device
    def __matmul__(self, other):
        if self.device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available\\nCompile with TORCH_USE_CUDA_DSA")
        return self
    def sum(self): return self
    def item(self): return 511.0 if self.device == "cuda:2" else 512.0
def ones(*size, device): return Tensor(device)
"""


@pytest.mark.processes
def test_every_gpu_is_tried_and_one_that_fails_does_not_hide_the_others(tmp_path: Path) -> None:
    trial = attempt(sys.executable, os.environ, a_torch(tmp_path, STAND_IN))
    assert trial == Trial(
        "",
        "2.9.1+cu126",
        (
            ("cuda:0", ""),
            ("cuda:1", "RuntimeError: CUDA error: no kernel image is available Compile with TORCH_USE_CUDA_DSA"),
            ("cuda:2", "a product of matrices came out wrong"),
        ),
    )


@pytest.mark.processes
@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "OSError: libcudart.so.12: cannot open"),
        ("import os; os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("import os; print('about to go'); os._exit(3)", "exit 3"),
        ("raise SystemExit(1)", "SystemExit: 1"),
    ],
)
def test_a_torch_that_cannot_be_imported_is_a_failure_with_its_reason(tmp_path: Path, text: str, failure: str) -> None:
    assert attempt(sys.executable, os.environ, a_torch(tmp_path, text)).failure.startswith(failure)


@pytest.mark.processes
def test_no_torch_at_all() -> None:
    assert attempt(sys.executable, os.environ).failure == "ModuleNotFoundError: No module named 'torch'"


@pytest.mark.processes
@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_a_trial_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    trial = attempt(sys.executable, os.environ, a_torch(tmp_path, text), seconds=2)
    assert trial.failure == "it took more than 2 s"
    grandchild = int(pid.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{grandchild}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            break
        if state == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("what the trial started is still there")


def test_a_program_that_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    assert "could not be started" in attempt(str(tmp_path / "python"), os.environ).failure


@pytest.mark.parametrize(
    ("backend", "vendor", "expected"),
    [("cu126", "nvidia", True), ("rocm6.4", "amd", True), ("xpu", "intel", True), ("cpu", "nvidia", False)],
)
def test_a_gpu_is_expected_of_a_build_for_it(backend: str, vendor: str, expected: bool) -> None:
    assert expects_gpu(parse(backend), (Gpu(vendor, "a GPU"),)) is expected
    assert expects_gpu(parse(backend), ()) is False
    assert expects_gpu(None, (Gpu(vendor, "a GPU"),)) is False

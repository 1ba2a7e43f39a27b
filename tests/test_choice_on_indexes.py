"""The choice carried out by the real uv: which build each driver ends up with, and what the catalog does not know."""

import json
import sys
from pathlib import Path

import pytest

from tests.index.project import Project

pytest_plugins = ["tests.index.fixtures"]


def machine(path: Path, driver: str, cuda: str, capability: str = "8.9") -> str:
    """A description of a Linux machine with one NVIDIA GPU; the path of its file."""
    file = path / f"machine-{driver}.json"
    gpu = {"vendor": "nvidia", "name": "NVIDIA GPU", "compute_capability": capability}
    file.write_text(
        json.dumps(
            {
                "schema": 1,
                "platform": {"system": "linux", "machine": "x86_64"},
                "gpus": [gpu],
                "nvidia_driver": {"version": driver, "cuda": cuda},
            }
        )
    )
    return str(file)


@pytest.mark.parametrize(
    ("driver", "cuda", "backend"),
    [
        # By minor-version compatibility the lowest CUDA 12 build; from 570 on what the driver supports natively.
        ("525.147.05", "12.0", "cu126"),
        ("535.183.01", "12.2", "cu126"),
        ("550.54.15", "12.4", "cu126"),
        ("570.124.06", "12.8", "cu128"),
        ("580.95.05", "13.0", "cu130"),
    ],
)
def test_a_pinned_torch_comes_from_the_index_that_the_driver_runs(
    project: Project, tmp_path: Path, driver: str, cuda: str, backend: str
) -> None:
    project.uvtorch("add", "torch==2.9.1", UVTORCH_HARDWARE=machine(tmp_path, driver, cuda)).must()
    assert ("2.9.1+" + backend, f"whl/{backend}") in project.locked()["torch"]
    project.check(backend)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="torch 2.6 has no wheels for this Python")
@pytest.mark.parametrize(
    ("driver", "cuda", "backend"),
    [("470.256.02", "11.4", "cu118"), ("535.183.01", "12.2", "cu124"), ("580.95.05", "13.0", "cu126")],
)
def test_a_pinned_torchvision_decides_torch(
    project: Project, tmp_path: Path, driver: str, cuda: str, backend: str
) -> None:
    project.uvtorch("add", "torchvision==0.21.0", UVTORCH_HARDWARE=machine(tmp_path, driver, cuda)).must()
    locked = project.locked()
    assert ("0.21.0+" + backend, f"whl/{backend}") in locked["torchvision"]
    assert ("2.6.0+" + backend, f"whl/{backend}") in locked["torch"]
    project.check(backend)


def test_what_the_catalog_knows_is_asked_of_nobody(project: Project, tmp_path: Path) -> None:
    project.home.server.requests.clear()
    hardware = machine(tmp_path, "570.124.06", "12.8")
    project.uvtorch("add", "torch==2.9.1", "--frozen", UVTORCH_HARDWARE=hardware).must()
    assert project.home.server.requests == []


def test_a_release_newer_than_the_catalog_is_asked_of_the_indexes(project: Project, tmp_path: Path) -> None:
    hardware = machine(tmp_path, "595.71.05", "13.2")
    wanted = "torch==2.16.0 ; sys_platform == 'linux'"  # the default index does not have it yet
    done = project.uvtorch("add", wanted, UVTORCH_HARDWARE=hardware).must()
    assert "cu132 (torch 2.16.0)" in done.ours[0]
    assert done.ours[1].startswith("uvtorch: torch 2.16.0 is newer than uvtorch's catalog, which ends at 2.15.0: ")
    assert ("2.16.0+cu132", "whl/cu132") in project.locked()["torch"]


def test_a_release_that_no_index_has_is_refused(project: Project, tmp_path: Path) -> None:
    before = project.state()
    done = project.uvtorch("add", "torch==99", UVTORCH_HARDWARE=machine(tmp_path, "595.71.05", "13.2")).must(2)
    assert done.err.startswith("error: ")
    assert "torch==99" in done.err
    assert project.state() == before


def test_an_index_that_cannot_be_asked_is_an_error_and_no_answer(project: Project, tmp_path: Path) -> None:
    before = project.state()
    done = project.uvtorch(
        "add",
        "torch==2.16.0",
        UVTORCH_HARDWARE=machine(tmp_path, "595.71.05", "13.2"),
        UVTORCH_INDEX_BASE="http://127.0.0.1:1/whl",
        UV_HTTP_RETRIES="0",
    ).must(2)
    assert "could not be asked" in done.err
    assert project.state() == before


def test_a_nightly_build_brings_its_triton_from_the_same_index(project: Project, tmp_path: Path) -> None:
    hardware = machine(tmp_path, "580.95.05", "13.0")
    add = ("add", "torch", "torchvision", "--torch-backend", "nightly/cu130")
    project.uvtorch(*add, UVTORCH_HARDWARE=hardware).must()
    assert ("2.17.0.dev20261119+cu130", "whl/nightly/cu130") in project.locked()["torch"]
    assert project.locked()["triton"] == {("3.9.0+git1a2b3c4d", "whl/nightly/cu130")}
    project.uv("lock", "--check").must()
    project.uv("sync", "--locked").must()
    before = project.state()
    project.uvtorch(*add, UVTORCH_HARDWARE=hardware).must()
    assert project.state() == before


def test_leaving_a_nightly_build_takes_its_triton_along(project: Project, tmp_path: Path) -> None:
    hardware = machine(tmp_path, "580.95.05", "13.0")
    project.uvtorch("add", "torch", "--torch-backend", "nightly/cu130", UVTORCH_HARDWARE=hardware).must()
    project.uvtorch("torch", "use", "cu130", UVTORCH_HARDWARE=hardware).must()
    assert "nightly" not in project.text
    assert "triton" not in project.text
    assert ("2.15.0+cu130", "whl/cu130") in project.locked()["torch"]


def test_a_local_version_that_the_project_has_leads_to_an_index_for_every_platform(
    project: Project, tmp_path: Path
) -> None:
    """No other index could meet it, wherever the lock is solved for."""
    project.write(project.text.replace("dependencies = []", 'dependencies = ["torch==2.9.1+cu128", "torchvision"]'))
    hardware = machine(tmp_path, "580.95.05", "13.0")
    project.uvtorch("sync", "--auto", UVTORCH_HARDWARE=hardware).must()
    assert project.data["tool"]["uv"]["sources"]["torch"] == [{"index": "pytorch-cu128"}]
    assert "marker" in project.data["tool"]["uv"]["sources"]["torchvision"][0]
    assert project.locked()["torch"] == {("2.9.1+cu128", "whl/cu128")}
    project.uv("lock", "--check").must()
    before = project.state()
    project.uvtorch("add", "torchvision", UVTORCH_HARDWARE=hardware).must()
    assert project.state()["uv.lock"] == before["uv.lock"]


def test_a_local_version_with_a_marker_keeps_the_index_to_its_platforms(project: Project, tmp_path: Path) -> None:
    wanted = "[\"torch==2.9.1+cu128 ; sys_platform == 'linux'\", \"torch==2.9.1 ; sys_platform != 'linux'\"]"
    project.write(project.text.replace("dependencies = []", f"dependencies = {wanted}"))
    project.uvtorch("lock", "--torch-backend", "auto", UVTORCH_HARDWARE=machine(tmp_path, "580.95.05", "13.0")).must()
    assert "marker" in project.data["tool"]["uv"]["sources"]["torch"][0]
    assert ("2.9.1", "simple") in project.locked()["torch"]


def test_a_local_version_in_a_requirements_file_names_the_backend(project: Project, tmp_path: Path) -> None:
    (project.path / "requirements.txt").write_text("torch==2.9.1+cu126  # for the old driver\nnumpy\n")
    hardware = machine(tmp_path, "580.95.05", "13.0")
    project.uvtorch("add", "-r", "requirements.txt", UVTORCH_HARDWARE=hardware).must()
    assert project.locked()["torch"] == {("2.9.1+cu126", "whl/cu126")}
    project.uv("lock", "--check").must()

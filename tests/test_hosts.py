"""Whose builds an index serves, and which URLs may be written."""

import pytest

from uvtorch.errors import UsageError
from uvtorch.output import masked
from uvtorch.project.indexes import check_index_url, covers, pytorch_backend, vendor

URLS = [
    ("https://download.pytorch.org/whl/cu128", "torch", "cu128", None),
    ("https://user:secret@download.pytorch.org/whl/nightly/cu130/", "torch", "nightly/cu130", None),
    ("https://download.pytorch.org/whl", None, None, None),
    ("https://download-r2.pytorch.org/whl/cpu/torch-2.9.0%2Bcpu-cp312-x.whl", "torch", "cpu", None),
    ("https://mirror.example.com/pytorch-wheels/cu126", "torchvision", "cu126", None),
    ("http://127.0.0.1:8000/whl/cu126", None, "cu126", None),
    ("wheels/torch-2.7.1+cpu-cp311-cp311-linux_x86_64.whl", "torch", "cpu", None),
    ("https://kernels.example.com/whl/cu128", "flashinfer-jit-cache", None, None),
    ("https://flashinfer.ai/whl/cu128", "torch", None, None),
    ("https://data.pyg.org/whl/torch-2.7.0+cu128.html", None, None, None),
    ("https://wheels.vllm.ai/nightly/cu130", "vllm", None, None),
    ("https://pypi.nvidia.com", "torch", None, None),
    ("https://example.com/corp/torch/simple", "torch", None, None),
    ("https://pypi.jetson-ai-lab.io/jp6/cu126/+simple", "torch", None, "jetson"),
    ("http://127.0.0.1:8000/jp6/cu126", "torch", None, "jetson"),
    ("https://developer.download.nvidia.com/compute/redist/jp/v61", "torch", None, "jetson"),
    ("https://pypi.jetson-ai-lab.io/sbsa/cu129", "torch", None, None),
    ("https://rocm.nightlies.amd.com/v2/gfx1151/", "torch", None, "gfx1151"),
    ("https://repo.amd.com/rocm/whl/gfx120X-all/", "torch", None, "gfx120X-all"),
    ("https://repo.example.com/rocm/manylinux/rocm-rel-7.0/", "torch", "rocm7.0", None),
    ("https://[broken/cu126", "torch", "cu126", None),
    ("", None, None, None),
]


@pytest.mark.parametrize(("url", "package", "backend", "devices"), URLS)
def test_an_index_is_known_by_its_url(url: str, package: str | None, backend: str | None, devices: str | None) -> None:
    found = pytorch_backend(url, package)
    assert (str(found) if found else None, vendor(url)) == (backend, devices)


@pytest.mark.parametrize(
    ("family", "gfx", "expected"),
    [
        ("gfx1151", "gfx1151", True),
        ("gfx1151", "gfx1150", False),
        ("gfx120X-all", "gfx1201", True),
        ("gfx120X-all", "gfx1100", False),
        ("gfx94X-dcgpu", "gfx942", True),
        ("gfx90X-dcgpu", "gfx90a", True),
    ],
)
def test_a_family_of_gpus_covers_its_members(family: str, gfx: str, expected: bool) -> None:
    assert covers(family, gfx) is expected


@pytest.mark.parametrize("url", ["https://mirror.example.com/whl", "http://127.0.0.1:8000/whl/", "http://localhost/x"])
def test_a_base_that_may_be_written(url: str) -> None:
    assert check_index_url(url, "UVTORCH_INDEX_BASE") == url


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("mirror", "not a URL"),
        ("https://", "not a URL"),
        ("https://[broken/whl", "not a URL"),
        ("ftp://mirror.example.com/whl", "not a URL"),
        ("file:///srv/whl", "not a URL"),
        ("http://mirror.example.com/whl", "not encrypted"),
        ("https://me:secret@mirror.example.com/whl", "credentials"),
        ("https://token@mirror.example.com/whl", "credentials"),
        ("https://mirror.example.com/whl?token=secret", "remove the query or the white space"),
        ("https://mirror.example.com/w hl", "remove the query or the white space"),
        ("https://mirror.example.com/whl\n", "remove the query or the white space"),
        ("https://mirror.example.com/\x1b[31m", "remove the query or the white space"),
    ],
)
def test_a_base_that_may_not(url: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault) as caught:
        check_index_url(url, "UVTORCH_INDEX_BASE")
    assert str(caught.value).startswith("UVTORCH_INDEX_BASE is ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:se@cret@example.com/whl", "https://****@example.com/whl"),
        ("see https://token@example.com/x and https://example.com/a@b", "see https://****@example.com/x and https://example.com/a@b"),
        ("git+ssh://git@example.com/x.git", "git+ssh://****@example.com/x.git"),
    ],
)  # fmt: skip
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    assert masked(url) == shown

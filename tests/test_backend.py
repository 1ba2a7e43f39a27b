"""Backends as index URLs name them."""

import pytest

from uvtorch.backend import from_url, parse

URLS = [
    ("https://download.pytorch.org/whl/cpu", "cpu"),
    ("https://download.pytorch.org/whl/cu128/", "cu128"),
    ("https://download.pytorch.org/whl/xpu", "xpu"),
    ("https://download.pytorch.org/whl/rocm6.4", "rocm6.4"),
    ("https://download.pytorch.org/whl/rocm7.14", "rocm7.14"),
    ("https://download.pytorch.org/whl/nightly/cu130", "nightly/cu130"),
    ("https://download.pytorch.org/whl/test/cu132/", "test/cu132"),
    ("https://download.pytorch.org/whl/cu128?x=1#frag", "cu128"),
    ("https://download.pytorch.org/whl/CU128", "cu128"),
    ("https://download.pytorch.org/whl/cu118/torch_stable.html", "cu118"),
    ("https://user:token@mirror.example.com:8080/pytorch-wheels/cu126", "cu126"),
    ("http://127.0.0.1:8123/whl/cu126", "cu126"),
    ("file:///srv/wheels/cu126", "cu126"),
    ("https://devpi.example.com/jp6/cu126/+simple", "cu126"),
    ("https://example.com/stable/xpu/us/", "xpu"),
    ("https://example.com/stable/xpu/cn/", "xpu"),
    ("https://example.com/cu126/simple/", "cu126"),
    ("https://nexus.example.com/repository/pytorch-cu128/simple", "cu128"),
    ("https://art.example.com/api/pypi/pytorch-nightly-cu130-remote/simple", "nightly/cu130"),
    ("https://example.com/deps/cu126_torch260/simple", "cu126"),
    ("https://example.com/rocm/manylinux/rocm-rel-7.0/", "rocm7.0"),
    ("https://example.com/rocm/manylinux/rocm-rel-6.4.1/", "rocm6.4.1"),
    ("https://example.com/whl/torch-2.7.0+cu128.html", "cu128"),
    ("https://download.pytorch.org/whl/cu128/torch-2.7.1%2Bcu128-cp311-cp311-manylinux_2_28_x86_64.whl", "cu128"),
    ("https://download.pytorch.org/whl/cpu/torch-2.7.1-cp311-none-macosx_11_0_arm64.whl", "cpu"),
    ("https://example.com/files/torch-2.7.1+rocm6.3-cp311-cp311-linux_x86_64.whl#sha256=ab", "rocm6.3"),
    ("wheels/torch-2.7.1+cpu-cp311-cp311-linux_x86_64.whl", "cpu"),
    ("https://example.com/torch-2.5.0a0+872d972e41.nv24.08-cp310-cp310-linux_aarch64.whl", None),
    ("https://download.pytorch.org/whl", None),
    ("https://download.pytorch.org/whl/nightly", None),
    ("https://download.pytorch.org/whl/preview/forge", None),
    ("https://cpu.example.com", None),
    ("https://example.com/v2/gfx1151/", None),
    ("https://example.com/jp/v61", None),
    ("https://example.com/cpu-or-cu128/simple", None),
    ("https://example.com/cu/simple", None),
    ("https://example.com/simple", None),
    ("https://example.com/cpuinfo", None),
    ("", None),
]


@pytest.mark.parametrize(("url", "backend"), URLS)
def test_an_index_is_told_by_its_url(url: str, backend: str | None) -> None:
    assert from_url(url) == (parse(backend) if backend else None)

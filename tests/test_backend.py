"""Backends: their names, their order, their index URLs and markers."""

import pytest
from hypothesis import strategies as st

from tests.examples import given
from uvtorch.backend import DEFAULT_INDEX_BASE, PLATFORMS, Backend, from_url, marker, parse, same_url
from uvtorch.machine import Platform
from uvtorch.project import Environment
from uvtorch.requirement import holds

NAMES = [
    ("cpu", Backend("cpu")),
    ("xpu", Backend("xpu")),
    ("cu92", Backend("cu", (9, 2))),
    ("cu118", Backend("cu", (11, 8))),
    ("cu126", Backend("cu", (12, 6))),
    ("cu1210", Backend("cu", (12, 10))),
    ("rocm6.4", Backend("rocm", (6, 4))),
    ("rocm7.14", Backend("rocm", (7, 14))),
    ("rocm6.4.1", Backend("rocm", (6, 4, 1))),
    ("nightly/cu130", Backend("cu", (13, 0), "nightly")),
    ("test/cpu", Backend("cpu", (), "test")),
]
NOT_NAMES = [
    *["", "cuda", "cu", "cu1", "cu012", "cu12345", "cu1206", "cu12.6", "CU126", "cu126 ", "cu-126", "cu१२६", "cpu1"],
    *["rocm", "rocm6", "rocm6.", "rocm.6", "rocm6.04", "rocm6.4.1.2", "rocm-6.4", "mps", "gfx942", "auto"],
    *["/cpu", "stable/cpu", "nightly/", "nightly//cpu", "nightly/test/cpu", "nightly"],
]


@pytest.mark.parametrize(("name", "backend"), NAMES)
def test_a_well_formed_name_is_read_and_written_alike(name: str, backend: Backend) -> None:
    assert parse(name) == backend
    assert str(backend) == name


@pytest.mark.parametrize("name", NOT_NAMES)
def test_anything_else_is_no_backend(name: str) -> None:
    assert parse(name) is None


@given(st.text(alphabet="cupxrom0123456789./nightlyes", max_size=12))
def test_what_is_read_is_written_as_it_was(text: str) -> None:
    backend = parse(text)
    assert backend is None or str(backend) == text


def test_versions_order_as_numbers() -> None:
    names = ["cu130", "rocm7.14", "cpu", "cu92", "rocm7.2", "xpu", "cu126", "rocm10.0", "cu118"]
    backends = [backend for backend in map(parse, names) if backend]
    ranked = [str(backend) for backend in sorted(backends, key=lambda backend: backend.rank)]
    assert ranked == ["cpu", "xpu", "rocm7.2", "rocm7.14", "rocm10.0", "cu92", "cu118", "cu126", "cu130"]


@pytest.mark.parametrize(("name", "backend"), NAMES)
def test_an_index_url_tells_its_backend(name: str, backend: Backend) -> None:
    assert backend.index_url() == f"{DEFAULT_INDEX_BASE}/{name}"
    assert from_url(backend.index_url("https://mirror.example.com/whl/")) == backend
    assert backend.index_name == "pytorch-" + name.replace("/", "-")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://example.com/cpu", "https://example.com/cpu/", True),
        ("https://example.com/cpu", "https://example.com/cpu", True),
        ("https://example.com/cpu", "http://example.com/cpu", False),
        ("https://example.com/cpu", "https://example.com/CPU", False),
    ],
)
def test_urls_are_the_same_but_for_a_slash(one: str, other: str, same: bool) -> None:
    assert same_url(one, other) is same


MACHINES = {
    "linux_x86_64": Platform("linux", "x86_64"),
    "linux_aarch64": Platform("linux", "aarch64"),
    "windows_amd64": Platform("windows", "x86_64"),
    "macos_arm64": Platform("macos", "arm64"),
    "macos_x86_64": Platform("macos", "x86_64"),
}


@pytest.mark.parametrize(
    "platforms",
    [
        {"linux_x86_64"},
        {"linux_aarch64"},
        {"linux_x86_64", "linux_aarch64"},
        {"linux_x86_64", "windows_amd64"},
        {"linux_x86_64", "linux_aarch64", "windows_amd64"},
        {"windows_amd64"},
    ],
    ids=lambda platforms: " ".join(sorted(platforms)),
)
def test_a_marker_holds_on_its_platforms_and_on_no_other(platforms: set[str]) -> None:
    text = marker(frozenset(platforms))
    assert text is not None
    assert {key for key, machine in MACHINES.items() if holds(text, Environment(machine, "3.12"))} == platforms


@pytest.mark.parametrize("platforms", [None, frozenset(PLATFORMS), frozenset({"macos_arm64", "linux_x86_64"})])
def test_an_index_that_serves_macs_needs_no_marker(platforms: frozenset[str] | None) -> None:
    assert marker(platforms) is None


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

"""Requirements: read as `packaging` reads them, and edited without a change of spelling."""

import pytest

from uvtorch.errors import UsageError
from uvtorch.requirement import (
    allows,
    bare_requirement,
    named_by,
    parse,
    specifiers,
    with_extras,
    within,
    without_local,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Torch_Vision >= 0.20", "torch-vision"),
        ("torch[opt]==2.9.1+cu126 ; sys_platform == 'linux'", "torch"),
        ("torch [opt-einsum] >= 2 ; sys_platform == 'linux'", "torch"),
        ("torch(>=2)", "torch"),
        ("torch @ https://example.com/torch-2.9.1%2Bcu126-cp312-cp312-linux_x86_64.whl", None),
        ("", None),
        ("./wheels/torch.whl", None),
        ("git+https://example.com/torch", None),
    ],
)
def test_the_name_of_what_an_index_can_serve(text: str, expected: str | None) -> None:
    assert named_by(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch==2.9.1+cu126", "torch==2.9.1"),
        ("torch === 2.6.0+rocm6.2.4 ;  sys_platform == 'linux'", "torch === 2.6.0 ;  sys_platform == 'linux'"),
        ("Torch[a] ( == 2.9.1+cpu, !=3 )", "Torch[a] ( == 2.9.1, !=3 )"),
        ("torch>=2.9", "torch>=2.9"),
        ("torch @ https://example.com/torch==2+cu1.whl", "torch @ https://example.com/torch==2+cu1.whl"),
    ],
)
def test_a_local_version_is_taken_out_and_nothing_else(text: str, expected: str) -> None:
    assert without_local(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch", "torch<2.12"),
        ("Torch [opt]  ; python_version < '3.12'", "Torch [opt]<2.12  ; python_version < '3.12'"),
        ("torch >= 2.0", "torch >= 2.0,<2.12"),
        ("torch>=2.0,", "torch>=2.0,<2.12"),
        ("torch (>=2.0)", "torch (>=2.0,<2.12)"),
        ("torch @ https://example.com/t.whl", "torch @ https://example.com/t.whl"),
    ],
)
def test_a_bound_is_added_and_the_rest_kept(text: str, expected: str) -> None:
    assert within(text, {"torch": "<2.12"}) == expected
    assert within(text, {"other": "<2.12"}) == text
    parse(expected)


@pytest.mark.parametrize(
    ("text", "told", "expected"),
    [
        ("torch", "torch[opt, b]", "torch[opt,b]"),
        ("Torch [a] >= 2 ; os_name == 'nt'", "torch[b,a]", "Torch[a,b]>= 2 ; os_name == 'nt'"),
        ("torch>=2", "torch", "torch>=2"),
        ("torch @ https://example.com/t.whl", "torch[a]", "torch[a]@ https://example.com/t.whl"),
    ],
)
def test_extras_are_added_and_the_rest_kept(text: str, told: str, expected: str) -> None:
    assert with_extras(text, told) == expected


@pytest.mark.parametrize("text", ["torch[opt] >= 2 ; m", "torch[opt](>=2)", "torch[opt]"])
def test_a_bare_requirement_has_no_version_and_no_marker(text: str) -> None:
    assert bare_requirement(text) == "torch[opt]"


def test_a_final_release_is_admitted_whatever_the_local_version() -> None:
    assert allows("torch==2.9.1+cu126", "2.9.1")
    assert allows("torch>=2.9.0.dev1", "2.9.0")
    assert not allows("torch~=2.9.0", "2.10.0")


@pytest.mark.parametrize("text", ["", "torch==", "torch 2.0", "torch>>2", "torch==2.0 foo", "-torch", "torch;x"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a requirement"):
        parse(text)


@pytest.mark.parametrize("text", ["3.10", ">=x", "~=3"])
def test_what_is_no_specifier_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a version specifier"):
        specifiers(text)

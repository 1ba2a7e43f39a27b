"""The light reading of requirements and specifiers says what `packaging` says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from uvtorch.choose.specifier import allows, applies, clauses, wish
from uvtorch.errors import UsageError

NUMBERS = st.lists(st.integers(0, 15), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
RELEASES = st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(0, 3)).map(lambda p: ".".join(map(str, p)))
SUFFIXES = st.sampled_from(["", "", "", ".*", ".dev1", "rc1", ".post1", "a0"])


@st.composite
def specifiers(draw: st.DrawFn) -> str:
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        operator = draw(st.sampled_from(["==", "!=", ">=", "<=", ">", "<", "~="]))
        version = draw(NUMBERS)
        suffix = draw(SUFFIXES)
        if suffix == ".*" and operator not in ("==", "!="):
            suffix = ""
        if operator == "~=" and "." not in version:
            version += ".0"
        space = draw(st.sampled_from(["", " "]))
        parts.append(f"{operator}{space}{version}{suffix}")
    return draw(st.sampled_from([",", ", "])).join(parts)


@given(specifiers(), RELEASES)
def test_a_specifier_admits_what_packaging_says(specifier: str, release: str) -> None:
    expected = SpecifierSet(specifier).contains(release, prereleases=True)
    assert allows(clauses(specifier), release) == expected


@given(
    st.sampled_from(["torch", "Torch", "torch-vision", "torch_audio", "a.b"]),
    st.sampled_from(["", "[x]", "[x,y]"]),
    specifiers(),
    st.sampled_from(["", "; sys_platform == 'linux'", " ; python_version >= '3.10'"]),
    st.booleans(),
)
def test_a_requirement_is_read_as_packaging_reads_it(
    name: str, extras: str, specifier: str, marker: str, brackets: bool
) -> None:
    text = f"{name}{extras} ({specifier}){marker}" if brackets and specifier else f"{name}{extras}{specifier}{marker}"
    found, expected = wish(text), Requirement(text)
    assert found.package == canonicalize_name(expected.name)
    assert {f"{clause.operator}{clause.version}" for clause in found.clauses} == {
        f"{clause.operator}{clause.version}" for clause in expected.specifier
    }
    assert found.marker == (str(expected.marker) if expected.marker else None)


def test_a_local_version_is_taken_apart() -> None:
    (clause,) = wish("torch==2.5.1+cu124").clauses
    assert (clause.version, clause.local) == ("2.5.1", "cu124")
    (clause,) = wish("torch===2.6.0+rocm6.2.4 ; sys_platform == 'linux'").clauses
    assert (clause.version, clause.local) == ("2.6.0", "rocm6.2.4")


def test_a_url_is_kept_as_one() -> None:
    found = wish("torch @ https://example.com/torch-2.9.1%2Bcu126-cp312-cp312-linux_x86_64.whl")
    assert found.package == "torch"
    assert found.url
    assert not found.clauses


@pytest.mark.parametrize(
    "text", ["", "==2.0", "torch==", "torch 2.0", "torch>>2", "torch==2.0 foo", "-torch", "torch;x"]
)
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a requirement"):
        wish(text)


@pytest.mark.parametrize("text", ["3.10", ">=x", ">=3.10,", "~=3"])
def test_what_is_no_specifier_is_refused(text: str) -> None:
    if text == ">=3.10,":
        assert allows(clauses(text), "3.10.0")  # a trailing comma is allowed
        return
    with pytest.raises(UsageError, match="is not a version specifier"):
        clauses(text)


def test_a_marker_is_evaluated_for_the_environment_given() -> None:
    assert applies("sys_platform == 'linux' and extra != 'x'", {"sys_platform": "linux"})
    assert not applies("platform_machine == 'aarch64'", {"platform_machine": "x86_64"})

"""The light NamedTuple is typing's, for what uvtorch does with it."""

import subprocess
import sys
import typing

import pytest

from uvtorch import named


class Light(named.NamedTuple):
    """What it is."""

    name: str
    """A field's own docstring is no field."""
    size: int = 3

    @property
    def twice(self) -> int:
        return 2 * self.size

    def __str__(self) -> str:
        return f"{self.name}!"


class Full(typing.NamedTuple):
    """What it is."""

    name: str
    size: int = 3

    @property
    def twice(self) -> int:
        return 2 * self.size

    def __str__(self) -> str:
        return f"{self.name}!"


def test_it_is_a_tuple_with_names_defaults_and_methods() -> None:
    one = Light("a")
    assert one == ("a", 3)
    assert one == Light(name="a", size=3)
    assert hash(one) == hash(("a", 3))
    assert (one.name, one.size, one.twice) == ("a", 3, 6)
    assert repr(one) == "Light(name='a', size=3)"
    assert str(one) == "a!"
    assert one._replace(size=1) == ("a", 1)
    assert one._asdict() == {"name": "a", "size": 3}
    with pytest.raises(AttributeError):
        one.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Light()  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["_fields", "_field_defaults", "__doc__", "__module__"])
def test_the_class_says_of_itself_what_typings_does(name: str) -> None:
    assert getattr(Light, name) == getattr(Full, name)
    assert Light.__mro__[1:] == Full.__mro__[1:]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="typing's own there")
def test_a_field_without_default_after_one_with_is_refused() -> None:
    with pytest.raises(TypeError, match="a field without a default"):
        exec("class Bad(named.NamedTuple):\n    a: int = 1\n    b: int\n", {"named": named, "__name__": "x"})


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="typing's own there")
def test_it_does_not_import_typing() -> None:
    code = "import sys; sys.modules.pop('typing', None); import uvtorch.machine; print('typing' in sys.modules)"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"

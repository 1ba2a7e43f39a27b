"""The shape that the tables of pyproject.toml must have to be read. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from uvtorch.errors import ProjectError, UsageError

_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("a string", "one string", "strings"), str),
    **dict.fromkeys(("true", "false"), bool),
    **dict.fromkeys(("a table", "tables"), Mapping),
    **dict.fromkeys(("an array", "arrays"), list),
    "requirements and `include-group` tables": (str, Mapping),
}
CONFIG: Final = {
    "backend": "a string",
    "auto": "true or false",
    "index-base": "a string",
    "packages": "an array of strings",
    "catalog": "a string",
}
"""`[tool.uvtorch]`."""

_SOURCE: Final = ("index", "url", "git", "path", "marker", "extra", "group")
_PYPROJECT: Final = (
    ("project.name", "a string"),
    ("project.requires-python", "a string"),
    ("project.dependencies", "an array of strings"),
    ("project.optional-dependencies.*", "an array of strings"),
    ("dependency-groups.*", "an array"),
    ("dependency-groups.*", "an array of requirements and `include-group` tables"),
    ("tool.uv.dev-dependencies", "an array of strings"),
    ("tool.uv.default-groups", 'an array of strings or "all"'),
    ("tool.uv.index", "an array of tables"),
    *((f"tool.uv.index.#.{key}", "a string") for key in ("name", "url")),
    *((f"tool.uv.index.#.{key}", "true or false") for key in ("explicit", "default")),
    ("tool.uv.extra-index-url", "an array of strings or one string"),
    ("tool.uv.index-url", "a string"),
    ("tool.uv.sources.*", "a table or an array of tables"),
    *((f"tool.uv.sources.*.#.{key}", "a string") for key in _SOURCE),
    ("tool.uv.conflicts", "an array of arrays"),
    ("tool.uv.conflicts", "an array of arrays of tables of strings"),
    ("tool.uv.environments", "an array of strings or one string"),
    *((f"tool.uvtorch.{key}", wanted) for key, wanted in CONFIG.items()),
)
"""What is read of a pyproject.toml: a dotted key (`*`: any key; `#`: each table of an array), and what is wanted."""


def check(data: Mapping[str, Any], origin: str) -> None:
    """Hold a pyproject.toml against the shape; what is missing or unknown is no fault.

    `origin` names the file. Raises ProjectError, within `[tool.uvtorch]` UsageError.
    """
    for pattern, wanted in _PYPROJECT:
        for key, value in _found(data, pattern.split("."), origin):
            _demand(value, wanted, origin, key)


def _found(value: Any, parts: Sequence[str], origin: str, key: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted key and the value of all that a pattern names below a value."""
    if not parts:
        yield key, value
    elif parts[0] == "#":
        for one in value if isinstance(value, list) else [value]:
            yield from _found(one, parts[1:], origin, key)
    else:
        _demand(value, "a table", origin, key)
        for name in value if parts[0] == "*" else value.keys() & {parts[0]}:
            yield from _found(value[name], parts[1:], origin, f"{key}.{name}" if key else name)


def _demand(value: Any, wanted: str, origin: str, key: str) -> None:
    if not any(_fits(value, one) for one in wanted.split(" or ")):
        error = UsageError if key.startswith("tool.uvtorch") else ProjectError
        raise error(f"{origin}: `{key}` must be {wanted}, not {_described(value)}")


def _fits(value: Any, wanted: str) -> bool:
    """Whether a value is what the words say: `an array of arrays of tables of strings`."""
    if wanted == '"all"':
        return bool(value == "all")
    kind, _, inner = wanted.partition(" of ")
    parts = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, _KINDS[kind]) and (not inner or all(_fits(part, inner) for part in parts))


def _described(value: Any) -> str:
    if isinstance(value, list) and value:
        return f"an array with {_described(value[0])} first"
    kinds = {bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "an array", dict: "a table"}
    return kinds.get(type(value), "a date or time")

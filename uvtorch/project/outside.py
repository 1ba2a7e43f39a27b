"""The indexes that uv is given outside of pyproject.toml: by option, variable, uv.toml, user's or system's file.

https://docs.astral.sh/uv/concepts/configuration-files/ tells which files count. Sources find none of them (uv 0.13.9:
"indexes referenced via `tool.uv.sources` must be defined in the project's `pyproject.toml`"), so pins go into
pyproject.toml whatever stands here; and what stands here serves every package, unless it is explicit.
"""

import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from uvtorch import files
from uvtorch.argv import CommandLine, is_set
from uvtorch.project.hosts import is_below, pytorch_backend
from uvtorch.project.model import Index

_GIVEN = (
    ("--default-index", "UV_DEFAULT_INDEX"),
    ("--index-url", "UV_INDEX_URL"),
    ("--index", "UV_INDEX"),
    ("--extra-index-url", "UV_EXTRA_INDEX_URL"),
)
"""Options with their variables, those of the default index first."""


def given(line: CommandLine, env: Mapping[str, str]) -> Iterator[Index]:
    """The indexes of the command line, else of the variables."""
    for option, variable in _GIVEN:
        values = line.values(option)
        for text in values or env.get(variable, "").split():
            named = "=" in text.partition("://")[0]
            name, url = (text.partition("=")[0], text.partition("=")[2]) if named else (None, text)
            default, origin = (option, variable) in _GIVEN[:2], option if values else variable
            yield Index(name, url, default=default, backend=pytorch_backend(url), origin=origin)


def configured(directory: str, data: Mapping[str, Any], line: CommandLine, env: Mapping[str, str]) -> Iterator[Index]:
    """The indexes of uv's configuration files, for a project in `directory` whose pyproject.toml says `data`."""
    for path, settings in tables(directory, data, line, env):
        for table in _list(settings, "index") if path else ():
            if isinstance(table, Mapping) and isinstance(url := table.get("url"), str):
                flags = {key: bool(table.get(key)) for key in ("explicit", "default")}
                yield Index(table.get("name"), url, backend=pytorch_backend(url), origin=os.path.relpath(path), **flags)


def tables(
    directory: str, data: Mapping[str, Any], line: CommandLine, env: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The paths and settings of uv's configuration files, what counts most first; `[tool.uv]` of `data` has no path."""
    if one := line.value("--config-file") or env.get("UV_CONFIG_FILE"):
        yield one, _read(one)
    elif not line.has("--no-config") and not is_set(env, "UV_NO_CONFIG"):
        if own := uv_toml(directory, data):
            yield own, _read(own)
        else:
            yield "", data.get("tool", {}).get("uv", {})
        yield from ((path, _read(path)) for path in _of_user_and_system(env))


def of_pytorch(found: Iterable[Index], bases: Iterable[str]) -> Iterator[Index]:
    """Those that serve PyTorch's builds to every package; a default index stands in for PyPI unless below a base."""
    for one in found:
        alike = "torch" in f"{one.name} {one.url}" and not one.default
        if one.backend and not one.explicit and (alike or is_below(one.url, *bases)):
            yield one


def uv_toml(directory: str, data: Mapping[str, Any]) -> str | None:
    """The uv.toml that counts for a project: beside its pyproject.toml, or above where that has no `[tool.uv]`."""
    while not os.path.isfile(path := os.path.join(directory, "uv.toml")):
        above = os.path.dirname(directory)
        if "uv" in data.get("tool", {}) or above == directory:
            return None
        directory, data = above, _read(os.path.join(above, "pyproject.toml"))
    return path


def _of_user_and_system(env: Mapping[str, str]) -> Iterator[str]:
    if sys.platform == "win32":
        yield from (os.path.join(env[name], "uv", "uv.toml") for name in ("APPDATA", "PROGRAMDATA") if env.get(name))
        return
    yield os.path.join(files.of_user(env.get("XDG_CONFIG_HOME"), "~/.config"), "uv", "uv.toml")
    folders = (*(env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc")
    paths = (os.path.join(folder, "uv", "uv.toml") for folder in folders)
    yield from [path for path in paths if os.path.isfile(path)][:1]


def _list(table: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = table.get(key)
    return found if isinstance(found, list) else ()


def _read(path: str | None) -> Mapping[str, Any]:
    """A file's tables; none where there is no such file or it is not TOML: uv says better what is wrong with it."""
    try:
        return tomllib.loads(files.text(path or "") or "")
    except (ValueError, RecursionError):
        return {}

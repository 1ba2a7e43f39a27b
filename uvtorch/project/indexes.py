"""Package indexes: whose builds one serves, told by its URL, and which ones uv is given outside of pyproject.toml.

Those outside serve every package, unless they are explicit, and no source finds them (uv 0.13.9: "must be defined in
the project's `pyproject.toml`"). https://docs.astral.sh/uv/concepts/configuration-files/ tells which files count.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from uvtorch import files
from uvtorch.argv import CommandLine, is_set
from uvtorch.backend import DEFAULT_INDEX_BASE, Backend, from_url
from uvtorch.errors import UsageError
from uvtorch.output import masked
from uvtorch.packages import roles

_PYTORCH: Final = ("download.pytorch.org", "download-r2.pytorch.org")
# Texts, which `re` compiles when they are used: most commands use none.
_FOREIGN: Final = (
    r"flashinfer\.ai|data\.pyg\.org|wheels\.vllm\.ai|pypi\.nvidia\.com|whl\.natten\.org|pypi\.jetson-ai-lab\.[a-z]+"
)
"""Hosts whose indexes end in a backend's name and do not serve PyTorch's builds."""
_VENDOR: Final = (
    r"(?i)/jp[0-9]+/|//developer\.download\.nvidia\.com/compute/redist/jp/|/(?P<gfx>gfx[0-9a-fx]+(-[a-z]+)?)(?=/|$)"
)
_VENDORS_OWN: Final = "jetson|nvidia|rocm-rel|/xpu/us"
"""In URLs of NVIDIA's, AMD's and Intel's indexes, which may end in a backend's name."""
_GIVEN: Final = (
    ("--default-index", "UV_DEFAULT_INDEX", True),
    ("--index-url", "UV_INDEX_URL", True),
    ("--index", "UV_INDEX", False),
    ("--extra-index-url", "UV_EXTRA_INDEX_URL", False),
)
"""Options, their variables; whether they name the default index."""


class Index(NamedTuple):
    """A package index."""

    name: str | None
    url: str
    explicit: bool = False
    default: bool = False
    inherited: bool = False
    """It stands in the workspace's root."""
    legacy: bool = False
    """It is one of `index-url` and `extra-index-url`, which can be neither named nor explicit."""
    origin: str | None = None
    """The option, variable or file that names it; None: pyproject.toml."""

    @property
    def label(self) -> str:
        """Its name, or its URL where it has none."""
        return self.name or self.url

    @property
    def backend(self) -> Backend | None:
        """The backend whose PyTorch builds it has."""
        return pytorch_backend(self.url)

    @property
    def ends_in_backend(self) -> bool:
        """Whether its URL ends in the backend's name and nothing else, as PyTorch's do."""
        url = self.url.rstrip("/").removesuffix("/+simple").removesuffix("/simple")
        return self.backend is not None and url.endswith(f"/{self.backend.name}")

    @property
    def is_pypi(self) -> bool:
        """Whether it is PyPI, or stands in for it as the project's default index."""
        host = re.fullmatch(r"pypi\.(python\.)?[^.]+", _split(self.url).hostname or "")
        return self.default or host is not None or (self.name or "").lower() == "pypi"


def vendor(url: str) -> str | None:
    """The devices for which an index has a vendor's own builds of PyTorch: `jetson`, `gfx1151`, `gfx120X-all`."""
    found = re.search(_VENDOR, url) if _split(url).hostname not in _PYTORCH else None
    return (found["gfx"] or "jetson") if found else None


def covers(family: str, gfx: str) -> bool:
    """Whether a family of AMD's GPUs (`gfx120X-all`) has an architecture (`gfx1201`)."""
    pattern = family.partition("-")[0].lower().removeprefix("gfx").replace("x", "[0-9a-f]")
    return re.fullmatch(f"gfx{pattern}", gfx.lower()) is not None


def pytorch_backend(url: str, package: str | None = None) -> Backend | None:
    """The backend whose PyTorch builds are at the URL of an index or a wheel.

    None where the URL does not say, and for builds that are not PyTorch's own: `…/jp6/cu126` is not PyTorch's cu126.
    An unknown host is a mirror, unless the package (normalized; None: any) that is taken from it is not PyTorch's own.
    """
    host = _split(url).hostname or ""
    foreign = re.fullmatch(_FOREIGN, host) or vendor(url) or "/sbsa/" in url
    mirror = not foreign and (package is None or package in roles())
    return from_url(url) if mirror or host in _PYTORCH else None


def catalogued(url: str, package: str | None = None) -> Backend | None:
    """The same, None for a vendor's own builds under PyTorch's names, which the catalog does not know."""
    return None if re.search(_VENDORS_OWN, url) else pytorch_backend(url, package)


def is_below(url: str, *bases: str | None) -> bool:
    """Whether an index is under one of the bases."""
    return url.startswith(tuple(f"{base.rstrip('/')}/" for base in bases if base))


def check_index_url(text: str, origin: str) -> str:
    """The URL, if it may be written into a file: https (http for this machine), a host, nothing secret.

    Raises UsageError, in which `origin` names the setting.
    """
    parsed = _split(text)
    shown = f"{origin} is {masked(re.split('[?#]', text)[0])!r}"
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise UsageError(f"{shown}, which is not a URL", f"it looks like {DEFAULT_INDEX_BASE}")
    if parsed.scheme == "http" and not re.fullmatch(r"localhost|127\.[0-9.]+|::1", parsed.hostname):
        raise UsageError(f"{shown}, which is not encrypted", "use https://")
    if "@" in parsed.netloc:
        raise UsageError(
            f"{shown}, which holds credentials",
            "uv takes them from UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD, a netrc file or `uv auth login`",
        )
    if parsed.query or parsed.fragment or not text.isprintable() or " " in text:
        raise UsageError(f"{shown}, and more than a host and a path: remove the query or the white space")
    return text


def _split(url: str) -> SplitResult:
    """The parts of a URL; those of an empty one for `http://[` or a port that is no number."""
    try:
        parsed = urlsplit(url)
        _ = parsed.hostname, parsed.port
    except ValueError:
        return urlsplit("")
    return parsed


def given(line: CommandLine, env: Mapping[str, str]) -> Iterator[Index]:
    """The indexes of the command line, else of the variables."""
    for option, variable, default in _GIVEN:
        values = line.values(option)
        for text in values or env.get(variable, "").split():
            name, _, url = text.partition("=") if "=" in text.partition("://")[0] else (None, "", text)
            yield Index(name, url, default=default, origin=option if values else variable)


def configured(directory: str, data: Mapping[str, Any], line: CommandLine, env: Mapping[str, str]) -> Iterator[Index]:
    """The indexes of uv's configuration files for a project, whose pyproject.toml says `data`."""
    for path, settings in uv_settings(directory, data, line, env):
        tables = settings.get("index")
        for table in tables if path and isinstance(tables, list) else ():
            if isinstance(table, Mapping) and isinstance(url := table.get("url"), str):
                flags = {key: bool(table.get(key)) for key in ("explicit", "default")}
                yield Index(table.get("name"), url, origin=os.path.relpath(path), **flags)


def uv_settings(
    directory: str, data: Mapping[str, Any], line: CommandLine, env: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """uv's configuration files and their settings, what counts most first; `data`'s `[tool.uv]` has no path."""
    if one := line.value("--config-file") or env.get("UV_CONFIG_FILE"):
        yield one, _read(one)
    elif not line.has("--no-config") and not is_set(env, "UV_NO_CONFIG"):
        if own := uv_toml(directory, data):
            yield own, _read(own)
        else:
            yield "", data.get("tool", {}).get("uv", {})
        yield from ((path, _read(path)) for path in _of_user_and_system(env))


def of_pytorch(found: Iterable[Index], bases: Iterable[str]) -> Iterator[Index]:
    """Those that serve PyTorch's builds to every package; a default index is PyPI's mirror unless below a base."""
    for one in found:
        alike = "torch" in f"{one.name} {one.url}" and not one.default
        if one.backend and not one.explicit and (alike or is_below(one.url, *bases)):
            yield one


def uv_toml(directory: str, data: Mapping[str, Any]) -> str | None:
    """A project's uv.toml: beside its pyproject.toml, or above where that has no `[tool.uv]`."""
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
    yield from list(filter(os.path.isfile, paths))[:1]


def _read(path: str) -> Mapping[str, Any]:
    """A file's tables; none where it is missing or not TOML, which uv says better."""
    try:
        return tomllib.loads(files.text(path) or "")
    except (ValueError, RecursionError):
        return {}

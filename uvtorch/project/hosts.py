"""Whose builds an index serves, told by its URL; and which URLs may be written into a file."""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from uvtorch.backend import DEFAULT_INDEX_BASE, Backend, from_url
from uvtorch.errors import UsageError
from uvtorch.output import masked
from uvtorch.packages import roles

_PYTORCH: Final = ("download.pytorch.org", "download-r2.pytorch.org")
# Texts, which `re` compiles when they are used: most commands use none.
_FOREIGN: Final = (
    r"flashinfer\.ai|data\.pyg\.org|wheels\.vllm\.ai|pypi\.nvidia\.com|whl\.natten\.org|pypi\.jetson-ai-lab\.[a-z]+"
)
"""Hosts whose indexes end in a backend's name and serve packages of their own, not PyTorch's builds."""
_VENDOR: Final = (
    r"(?i)/jp[0-9]+/|//developer\.download\.nvidia\.com/compute/redist/jp/|/(?P<gfx>gfx[0-9a-fx]+(-[a-z]+)?)(?=/|$)"
)
_VENDORS_OWN: Final = "jetson|nvidia|rocm-rel|/xpu/us"
"""Parts of URLs of NVIDIA's, AMD's and Intel's indexes, which may end in a backend's name."""
_LOOPBACK: Final = r"localhost|127\.[0-9.]+|::1"


def vendor(url: str) -> str | None:
    """The devices that an index has a vendor's own builds of PyTorch for; None: it has none such.

    `jetson`: NVIDIA's for Jetsons (`…/jp6/cu126`); else AMD's for one family of GPUs, as the URL writes it: `gfx1151`,
    `gfx120X-all`.
    """
    found = re.search(_VENDOR, url) if _split(url).hostname not in _PYTORCH else None
    return (found["gfx"] or "jetson") if found else None


def covers(family: str, gfx: str) -> bool:
    """Whether AMD's builds for a family (`gfx120X-all`) are meant for an architecture (`gfx1201`)."""
    pattern = family.partition("-")[0].lower().removeprefix("gfx").replace("x", "[0-9a-f]")
    return re.fullmatch(f"gfx{pattern}", gfx.lower()) is not None


def pytorch_backend(url: str, package: str | None = None) -> Backend | None:
    """The backend whose PyTorch builds are at the URL of an index or a wheel. Pure: nothing is asked.

    None where the URL does not say, and for builds that are not PyTorch's own: `…/jp6/cu126` is not PyTorch's cu126.
    `package`: a normalized name for which the index is meant. Only PyTorch's own packages make an unknown host's index
    a mirror of PyTorch's; None: any package, a mirror where the URL looks like one.
    """
    host = _split(url).hostname or ""
    foreign = re.fullmatch(_FOREIGN, host) or vendor(url) or "/sbsa/" in url
    mirror = not foreign and (package is None or package in roles())
    return from_url(url) if mirror or host in _PYTORCH else None


def catalogued(url: str, package: str | None = None) -> Backend | None:
    """The same, None for builds of a vendor's own under PyTorch's names, of which the catalog knows nothing."""
    return None if re.search(_VENDORS_OWN, url) else pytorch_backend(url, package)


def is_below(url: str, *bases: str | None) -> bool:
    """Whether an index is one of those that are under a base."""
    return url.startswith(tuple(f"{base.rstrip('/')}/" for base in bases if base))


def check_index_url(text: str, origin: str) -> str:
    """The base of PyTorch's indexes as it may be written into a file: https, a host, nothing secret.

    http is for this machine only. `origin` names the setting in messages. Raises UsageError.
    """
    parsed = _split(text)
    shown = f"{origin} is {masked(re.split('[?#]', text)[0])!r}"
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise UsageError(f"{shown}, which is not a URL", f"it looks like {DEFAULT_INDEX_BASE}")
    if parsed.scheme == "http" and not re.fullmatch(_LOOPBACK, parsed.hostname):
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
    """The parts of a URL; those of an empty one where it has none (`http://[`, a port that is no number)."""
    try:
        parsed = urlsplit(url)
        _ = parsed.hostname, parsed.port
    except ValueError:
        return urlsplit("")
    return parsed

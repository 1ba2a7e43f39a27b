"""The backend: what a PyTorch build was compiled for, and how indexes and markers name it.

Imports nothing beyond the standard library's lightest parts: this module lies on warm paths.
"""

from typing import Final, NamedTuple

DEFAULT_INDEX_BASE: Final = "https://download.pytorch.org/whl"
"""Root of PyTorch's own indexes; `UVTORCH_INDEX_BASE` or `[tool.uvtorch] index-base` replaces it."""

PLATFORMS: Final = (
    "linux_x86_64",
    "linux_aarch64",
    "windows_amd64",
    "windows_arm64",
    "macos_arm64",
    "macos_x86_64",
)
"""The platforms PyTorch publishes wheels for; the same keys in the catalog and in a machine's description."""

CHANNELS: Final = ("", "nightly", "test")


class Backend(NamedTuple):
    """A backend such as `cpu`, `cu126`, `rocm6.4` or `xpu`, on the stable, `nightly` or `test` channel.

    Compares only by equality; order with `Backend.rank`, in which versions are numbers (`rocm7.14` > `rocm7.2`).
    """

    family: str
    """`cpu`, `cu`, `rocm` or `xpu`."""
    version: tuple[int, ...] = ()
    """CUDA's or ROCm's version: `cu126` is `(12, 6)`; empty for `cpu` and `xpu`."""
    channel: str = ""
    """`""` (stable), `nightly` or `test`."""

    @property
    def name(self) -> str:
        """The name without its channel, as the last part of an index URL and as a wheel's local version: `cu126`."""
        if self.family == "cu":
            return "cu" + "".join(map(str, self.version))
        return self.family + ".".join(map(str, self.version))

    def __str__(self) -> str:
        return f"{self.channel}/{self.name}" if self.channel else self.name

    @property
    def rank(self) -> tuple[int, tuple[int, ...]]:
        """Sort key: `cpu` < `xpu` < `rocm…` < `cu…`, then by version as numbers."""
        return ("cpu", "xpu", "rocm", "cu").index(self.family), self.version

    @property
    def index_name(self) -> str:
        """The name of the index uvtorch writes: `pytorch-cu126`, `pytorch-nightly-cu130`."""
        return "-".join(part for part in ("pytorch", self.channel, self.name) if part)

    def index_url(self, base: str = DEFAULT_INDEX_BASE) -> str:
        """The URL of this backend's index under `base`."""
        return f"{base.rstrip('/')}/{self}"


def parse(text: str) -> Backend | None:
    """Read a backend's name, `[nightly/|test/]NAME`; None if it is not well formed.

    Any well-formed name is accepted, also one newer than the catalog: `cu` and at least two digits (the last ones are
    the minor version: `cu92` is 9.2, `cu126` 12.6), `rocm` and a dotted version, `cpu`, `xpu`.
    """
    channel, slash, name = text.rpartition("/")
    if slash and channel not in CHANNELS[1:]:
        return None
    if name in ("cpu", "xpu"):
        return Backend(name, (), channel)
    if name.startswith("cu"):
        digits = name[2:]
        if not (digits.isascii() and digits.isdigit() and 2 <= len(digits) <= 4 and digits[0] != "0"):
            return None
        split = 1 if len(digits) == 2 else 2
        minor = digits[split:]
        if len(minor) > 1 and minor[0] == "0":
            return None
        return Backend("cu", (int(digits[:split]), int(minor)), channel)
    if name.startswith("rocm"):
        parts = name[4:].split(".")
        if not 2 <= len(parts) <= 3 or not all(_is_number(part) for part in parts):
            return None
        return Backend("rocm", tuple(map(int, parts)), channel)
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and (text == "0" or text[0] != "0")


def from_url(url: str) -> Backend | None:
    """The backend that an index URL ends in, or None: PyTorch's own indexes, mirrors, nightly and test channels.

    A trailing slash, a query or fragment, a page (`torch_stable.html`) and the suffixes that index servers put behind
    the backend (`/simple`, `/+simple`, `/us`) do not count. The last part may say more than the backend
    (`pytorch-cu128`, `cu126_torch260`, `rocm-rel-7.0`) as long as it names one only. A wheel's URL or path is told by
    its local version, else by its directory.
    """
    path = url.partition("#")[0].partition("?")[0].lower().replace("%2b", "+").replace("%20", " ")
    if "://" in path:
        path = path.partition("://")[2].partition("/")[2]
    parts = [part for part in path.split("/") if part]
    if parts and parts[-1].endswith(".whl"):
        local = parts.pop().partition("+")[2].partition("-")[0]
        if backend := parse(local):
            return backend
    if parts and parts[-1].endswith((".html", ".htm")) and len(parts) > 1 and parse(parts[-2]):
        parts.pop()
    while parts and parts[-1] in _SERVER_SUFFIXES:
        parts.pop()
    if not parts:
        return None
    last = parts[-1].removesuffix(".html")
    backend = parse(last) or _named_within(last)
    if backend is None or backend.channel:
        return backend
    return backend._replace(channel=parts[-2]) if len(parts) > 1 and parts[-2] in CHANNELS[1:] else backend


_SERVER_SUFFIXES: Final = ("simple", "+simple", "us", "cn")


def _named_within(part: str) -> Backend | None:
    """The one backend that a part of a URL names among other words; None for none and for two."""
    words = part.replace("rocm-rel-", "rocm").replace("rocm-", "rocm").replace("_", "-").replace("+", "-").split("-")
    found = [backend for backend in map(parse, words) if backend]
    if len(found) != 1:
        return None
    return found[0]._replace(channel="nightly") if "nightly" in words else found[0]


def same_url(one: str, other: str) -> bool:
    """Whether two index URLs are the same to uv: it ignores one trailing slash, nothing else."""
    return one.rstrip("/") == other.rstrip("/")


def marker(platforms: frozenset[str] | None) -> str | None:
    """The marker of the platforms that have wheels on an index, None where no marker is needed (all platforms).

    `platforms` is a subset of `PLATFORMS`; None means every platform. Windows is one platform here, as PyTorch's own
    instructions have it.
    """
    if platforms is None or any(platform.startswith("macos") for platform in platforms):
        return None
    linux = [machine for machine in ("x86_64", "aarch64") if f"linux_{machine}" in platforms]
    parts = []
    if len(linux) == 2:
        parts.append("sys_platform == 'linux'")
    elif linux:
        parts.append(f"sys_platform == 'linux' and platform_machine == '{linux[0]}'")
    if any(platform.startswith("windows") for platform in platforms):
        parts.append("sys_platform == 'win32'")
    if len(parts) > 1:
        parts = [f"({part})" if " and " in part else part for part in parts]
    return " or ".join(parts)

"""The backend: what a PyTorch build was compiled for. On warm paths: no imports."""

import re
from typing import Final, NamedTuple

DEFAULT_INDEX_BASE: Final = "https://download.pytorch.org/whl"
"""Replaced by `UVTORCH_INDEX_BASE` or `[tool.uvtorch] index-base`."""

PLATFORMS: Final = (
    "linux_x86_64",
    "linux_aarch64",
    "windows_amd64",
    "windows_arm64",
    "macos_arm64",
    "macos_x86_64",
)
"""Those that PyTorch has wheels for, as the catalog and `Platform.key` name them."""

CHANNELS: Final = ("", "nightly", "test")


class Backend(NamedTuple):
    """A backend such as `cpu`, `cu126`, `rocm6.4` or `xpu`, on a channel. `rank` orders them."""

    family: str
    """`cpu`, `cu`, `rocm` or `xpu`."""
    version: tuple[int, ...] = ()
    """CUDA's or ROCm's: `cu126` is `(12, 6)`."""
    channel: str = ""
    """One of `CHANNELS`; `""` is stable."""

    @property
    def name(self) -> str:
        """Without the channel, as in URLs and local versions: `cu126`."""
        return self.family + ("" if self.family == "cu" else ".").join(map(str, self.version))

    def __str__(self) -> str:
        return f"{self.channel}/{self.name}" if self.channel else self.name

    @property
    def rank(self) -> tuple[int, tuple[int, ...]]:
        """Sort key: `cpu` < `xpu` < `rocm…` < `cu…`, then by version (`rocm7.14` > `rocm7.2`)."""
        return ("cpu", "xpu", "rocm", "cu").index(self.family), self.version

    @property
    def index_name(self) -> str:
        """What uvtorch calls its index: `pytorch-cu126`, `pytorch-nightly-cu130`."""
        return "-".join(part for part in ("pytorch", self.channel, self.name) if part)

    def index_url(self, base: str = DEFAULT_INDEX_BASE) -> str:
        """The URL of its index."""
        return f"{base.rstrip('/')}/{self}"


_NAME: Final = re.compile(
    r"(?:(nightly|test)/)?(cpu$|xpu$|cu(?=[1-9][0-9]{1,3}$)|rocm(?=[0-9]{1,3}(?:\.[0-9]{1,3}){1,2}$))([0-9.]*)"
)


def parse(text: str) -> Backend | None:
    """Read a backend's name, `[nightly/|test/]NAME`; None if it is not well formed.

    Also one newer than the catalog: `cpu`, `xpu`, `rocm` and a dotted version, `cu` and two to four digits (`cu92` is
    9.2, `cu126` 12.6).
    """
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    channel, family, number = found.groups("")
    if family == "cu":
        minor = min(2, len(number) - 1)
        number = f"{number[:minor]}.{number[minor:]}"
    backend = Backend(family, tuple(map(int, number.split("."))) if number else (), channel)
    return backend if str(backend) == text else None  # `rocm6.04` is no name


def meant(text: str) -> str | None:
    """The name that was probably meant: `cu126` for `CU126`, `cu12.6`, `cuda-12.6`."""
    plain = re.sub(r"[\s_=-]|(?<=cu)da", "", text.lower())
    plain = re.sub(r"^(.*cu\d+)\.(\d+)[.\d]*$", r"\1\2", plain)
    plain = re.sub(r"^(.*rocm\d)(\d)$", r"\1.\2", plain)
    return plain if parse(plain) else None


def from_url(url: str) -> Backend | None:
    """The backend that an index's URL ends in, whosever index it is.

    A trailing slash, a query, a page (`torch_stable.html`) and the suffixes of index servers (`/simple`, `/+simple`,
    `/us`) do not count. The last part may say more (`pytorch-cu128`, `cu126_torch260`, `rocm-rel-7.0`) as long as it
    names one backend. A wheel's URL or path is told by its local version, else by its directory.
    """
    path = re.split("[?#]", url, maxsplit=1)[0].lower().replace("%2b", "+").replace("%20", " ")
    parts = ["", "", *filter(None, re.sub("^.*?://[^/]*", "", path).split("/"))]
    if parts[-1].endswith(".whl"):
        if backend := parse(parts.pop().partition("+")[2].partition("-")[0]):
            return backend
    elif parts[-1].endswith((".html", ".htm")) and parse(parts[-2]):
        parts.pop()
    while parts[-1] in ("simple", "+simple", "us", "cn"):
        parts.pop()
    above, last = parts[-2], parts[-1].removesuffix(".html")
    backend = parse(last) or _named_within(last)
    return backend._replace(channel=backend.channel or above) if backend and above in CHANNELS else backend


def _named_within(part: str) -> Backend | None:
    words = re.split("[-_+]", part.replace("rocm-rel-", "rocm").replace("rocm-", "rocm"))
    found = [backend for backend in map(parse, words) if backend]
    if len(found) != 1:
        return None
    return found[0]._replace(channel="nightly") if "nightly" in words else found[0]


def same_url(one: str | None, *others: str | None) -> bool:
    """Whether uv takes an index's URL for one of the others: a trailing slash does not count."""
    return one is not None and one.rstrip("/") in [other.rstrip("/") for other in others if other]


def marker(platforms: frozenset[str] | None) -> str | None:
    """The marker of the `PLATFORMS` that have wheels on an index (None: all); None where no marker is needed.

    Windows is one platform here, as in PyTorch's own instructions.
    """
    if platforms is None or any(platform.startswith("macos") for platform in platforms):
        return None
    linux = [machine for machine in ("x86_64", "aarch64") if f"linux_{machine}" in platforms]
    windows = any(platform.startswith("windows") for platform in platforms)
    parts = ["sys_platform == 'linux'"] * bool(linux) + ["sys_platform == 'win32'"] * windows
    if len(linux) == 1:
        parts[0] += f" and platform_machine == '{linux[0]}'"
        parts[0] = f"({parts[0]})" if windows else parts[0]
    return " or ".join(parts)

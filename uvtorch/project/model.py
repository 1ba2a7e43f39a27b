"""The values that pyproject.toml's tables are read into.

Names of packages are normalized, others as the file spells them. What is `inherited` is from the workspace's root.
"""

from typing import Literal, NamedTuple

from uvtorch.backend import Backend, from_url
from uvtorch.packages import ANCHORS, normalize

TargetKind = Literal["base", "extra", "group"]
SourceKind = Literal["index", "url", "git", "path", "workspace"]
ItemKind = Literal["extra", "group", "package"]
Origin = Literal["index", "pypi", "unknown"]
"""Who gives a build; `unknown`: an index or URL that is another vendor's or does not say."""


class Target(NamedTuple):
    """Where a requirement stands. It equals any other spelling."""

    kind: TargetKind
    """`base` is `project.dependencies`."""
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind

    def words(self, prefix: str = "--") -> tuple[str, ...]:
        """The option that selects it: `--extra NAME`; none for the base."""
        return (f"{prefix}{self.kind}", self.name) if self.name else ()

    @property
    def _meaning(self) -> tuple[str, str]:
        return self.kind, normalize(self.name or "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self._meaning == other._meaning

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._meaning)


BASE = Target("base")
GROUP = Target("group", ANCHORS)
"""Here stands what no requirement of the user's names: uv applies a source to direct requirements only.

A group that is no default is locked with the rest, not installed by itself and not published; a constraint would not
route the package, an override would erase what other packages ask of it.
https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources
"""


class Requirement(NamedTuple):
    """A requirement of the project."""

    package: str
    text: str
    target: Target
    extras: tuple[str, ...] = ()
    """Normalized: `("cu128",)` for `proj[cu128]`."""
    via: str | None = None
    """The included group in which it is written; None: in `target` itself."""
    inherited: bool = False

    @property
    def marker(self) -> str | None:
        """Its marker, as it is written."""
        return self.text.partition(";")[2].strip() or None


class Source(NamedTuple):
    """An entry of `[tool.uv.sources]`."""

    package: str
    index: str | None = None  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """The index's name."""
    url: str | None = None
    """The index's URL (None: there is no such index), or that of the wheel, the repository, the path."""
    backend: Backend | None = None
    """None where the URL does not tell it, and for builds that are not PyTorch's own."""
    marker: str | None = None
    extra: str | None = None
    group: str | None = None
    kind: SourceKind = "index"
    inherited: bool = False
    is_pypi: bool = False
    """Its index is PyPI or the project's default index, and no backend's."""

    @property
    def target(self) -> Target:
        """The extra or group that selects it, else the base."""
        if self.extra is not None:
            return Target("extra", self.extra)
        return Target("group", self.group) if self.group is not None else BASE

    @property
    def chooses(self) -> bool:
        """Whether it chooses a build, as an index or a file does, and source code does not."""
        return self.kind in ("index", "url")

    @property
    def named(self) -> Backend | None:
        """The backend that its URL names, whosever builds those are: cu126 for a Jetson's `…/jp6/cu126`."""
        return from_url(self.url) if self.url and self.kind in ("index", "url", "path") else None


class Item(NamedTuple):
    """One of a conflict set."""

    kind: ItemKind
    name: str
    package: str | None = None
    """The workspace member it belongs to; None: the file's project."""

    @property
    def target(self) -> Target | None:
        """The extra or group; None for a package."""
        return Target(self.kind, self.name) if self.kind != "package" else None


class Choice(NamedTuple):
    """A way to choose a build of PyTorch."""

    target: Target
    """The extra or group; `BASE`: neither."""
    backend: Backend | None
    """What the URL names; PyTorch's own where `origin` is `index`."""
    packages: tuple[str, ...]
    """Those that it decides, torch first."""
    origin: Origin = "index"
    stated: bool = True
    """A source says so; False: it follows from there being none, as for a base beside a CUDA extra."""
    aliases: tuple[str, ...] = ()
    """Others that bring this one in: `gpu` where `gpu = ["proj[cu128]"]`."""
    vendor: str | None = None
    """See `indexes.vendor`."""

    @property
    def kind(self) -> TargetKind:
        """The target's."""
        return self.target.kind

    @property
    def name(self) -> str | None:
        """The target's."""
        return self.target.name

    @property
    def family(self) -> str:
        """The backend's, empty where the URL names none."""
        return self.backend.family if self.backend else ""


class Config(NamedTuple):
    """`[tool.uvtorch]`."""

    backend: Backend | None = None
    auto: bool = False
    index_base: str | None = None
    packages: tuple[str, ...] = ()
    """More names to pin."""
    catalog: str | None = None
    """The folder of another copy."""

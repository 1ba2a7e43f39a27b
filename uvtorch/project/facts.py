"""What pyproject.toml says about PyTorch, as values, and what follows from them. Pure."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from uvtorch import packages
from uvtorch.backend import Backend
from uvtorch.packages import normalize
from uvtorch.project.markers import Environment, holds

if TYPE_CHECKING:
    from uvtorch.machine import Platform


class Target(NamedTuple):
    """Where a requirement stands: `project.dependencies`, an extra or a dependency group."""

    kind: str
    """`base`, `extra` or `group`."""
    name: str | None = None
    """As the file spells it; None for `base`."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


class Requirement(NamedTuple):
    """One PEP 508 requirement of the project."""

    package: str
    """Normalized."""
    text: str
    target: Target
    extras: tuple[str, ...] = ()
    """The extras it asks for, normalized: `("cu128",)` for `proj[cu128]`."""
    via: str | None = None
    """The included group (`include-group`) in which it is written; None: in `target` itself."""
    inherited: bool = False
    """It stands in a group of the workspace's root, which can be selected from a member too."""

    @property
    def marker(self) -> str | None:
        """Its environment marker."""
        return self.text.partition(";")[2].strip() or None


class Index(NamedTuple):
    """A package index of `[tool.uv]`."""

    name: str | None
    url: str
    explicit: bool = False
    default: bool = False
    backend: Backend | None = None
    """Told by its URL; None where that cannot be."""
    inherited: bool = False
    """It stands in the workspace's root rather than in the project's own file."""
    legacy: bool = False
    """It is one of `index-url` and `extra-index-url`, which can be neither named nor explicit."""

    @property
    def is_pypi(self) -> bool:
        """Whether it is PyPI itself, under whatever name, or stands in for it as the project's default index."""
        host = self.url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].lower().split(".")
        own_host = host[0] == "pypi" and (len(host) == 2 or host[1:2] == ["python"])
        return self.default or own_host or (self.name or "").lower() == "pypi"


class Source(NamedTuple):
    """One entry of `[tool.uv.sources]`."""

    package: str
    """Normalized."""
    index: str | None = None  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    """The index's name; None where the source is no index."""
    url: str | None = None
    """The index's URL (None: no index of that name), or that of the wheel, the repository, the path."""
    backend: Backend | None = None
    marker: str | None = None
    extra: str | None = None
    group: str | None = None
    kind: str = "index"
    """`index`, `url`, `git`, `path` or `workspace`."""
    inherited: bool = False
    """It stands in the workspace's root rather than in the project's own file."""
    is_pypi: bool = False
    """Its index is PyPI or the project's default index: a statement that no backend's index is meant."""

    @property
    def target(self) -> Target:
        """What selects it."""
        if self.extra is not None:
            return Target("extra", self.extra)
        return Target("group", self.group) if self.group is not None else Target("base")


class Item(NamedTuple):
    """One member of a conflict set."""

    kind: str
    """`extra`, `group` or `package` (the package's own dependencies)."""
    name: str
    package: str | None = None
    """The workspace member it belongs to, normalized; None: the project of the file."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Choice(NamedTuple):
    """A way to choose a build of PyTorch: an extra, a dependency group, or neither (`base`)."""

    kind: str
    """`extra`, `group` or `base`."""
    name: str | None
    backend: Backend | None
    """None: see `origin`."""
    packages: tuple[str, ...]
    """The PyTorch packages it decides, torch first."""
    origin: str = "index"
    """Who gives the build: `index` (one whose URL names the backend), `pypi` (what PyPI has for the platform), or
    `unknown` (an index or URL that does not say)."""
    stated: bool = True
    """A source says so; False: it follows from there being none, such as a base beside a CUDA extra."""
    aliases: tuple[str, ...] = ()
    """Other extras or groups that bring this one in: `gpu` where `gpu = ["proj[cu128]"]`."""

    @property
    def target(self) -> Target:
        """The extra, the group or the base as a Target."""
        return Target(self.kind, self.name)


class Config(NamedTuple):
    """`[tool.uvtorch]`."""

    backend: Backend | None = None
    auto: bool = False
    index_base: str | None = None
    packages: tuple[str, ...] = ()
    """More names to pin, normalized."""


class Project(NamedTuple):
    """What the file (and its workspace's root) says."""

    name: str | None = None
    """Normalized."""
    requires_python: str | None = None
    requirements: tuple[Requirement, ...] = ()
    """Those of included groups are repeated in each group that includes them."""
    indexes: tuple[Index, ...] = ()
    """In order of priority; in a workspace, the root's follow the member's."""
    sources: tuple[Source, ...] = ()
    """A member's entry for a package replaces the root's."""
    conflicts: tuple[tuple[Item, ...], ...] = ()
    default_groups: tuple[str, ...] = ()
    """The groups that uv installs unasked (`"all"` spelled out), as the file spells them."""
    config: Config = Config()
    has_project: bool = False
    extras: tuple[str, ...] = ()
    """Every extra declared, also an empty one, as the file spells it."""
    groups: tuple[str, ...] = ()
    includes: tuple[tuple[str, str], ...] = ()
    """(group, group it includes directly)."""
    dynamic: tuple[str, ...] = ()
    """Fields that the build backend fills in: requirements may be missing here."""
    overrides: tuple[Requirement, ...] = ()
    """`override-dependencies` of the workspace's root; their target is the base."""
    environments: tuple[str, ...] = ()
    """Markers of the platforms that the lock is limited to; empty: none."""
    origin: str = "pyproject.toml"
    root_name: str | None = None
    """The workspace root's name, normalized, where the project is a member."""
    members: "tuple[Project, ...]" = ()
    """The workspace's other members, where they were read along."""
    together: bool = False
    """The members are installed along with it: `--all-packages`, or a workspace's root that is no project."""

    def is_pytorch(self, package: str) -> bool:
        """Whether a normalized name is a package whose source decides the build of PyTorch.

        That is torch itself, its sister packages, its compiler, and what `[tool.uvtorch] packages` adds. Packages that
        merely have builds for single backends (vllm, torchao) are not.
        """
        role = packages.roles().get(package)
        return role in ("pin", "companion") or package in self.config.packages

    def is_pinned(self, package: str) -> bool:
        """Whether a normalized name is a package that always comes from the backend's index."""
        return packages.roles().get(package) == "pin" or package in self.config.packages

    def drawn_on(self) -> "tuple[Project, ...]":
        """The members that come with it: all of them together, else those that a requirement names."""
        named = {item.package for item in self.requirements}
        return tuple(member for member in self.members if self.together or member.name in named)

    def pytorch_packages(self) -> tuple[str, ...]:
        """The pinned packages that any requirement of the project and of its members names, torch first."""
        own = (item.package for item in self.requirements if self.is_pinned(item.package) and not item.inherited)
        theirs = (package for member in self.drawn_on() for package in member.pytorch_packages())
        return _torch_first((*own, *theirs))

    def pytorch_requirements(self) -> tuple[Requirement, ...]:
        """The requirements that name pinned packages; those of included groups once, where they are written."""
        return tuple(
            item
            for item in self.requirements
            if self.is_pinned(item.package) and item.via is None and not item.inherited
        )

    def pins(self, environment: "Environment | Platform") -> tuple[Source, ...]:
        """The sources of PyTorch packages that hold there whatever extra or group is chosen."""
        environment = environment if isinstance(environment, Environment) else Environment(environment)
        return tuple(
            source
            for source in self.sources
            if source.extra is None
            and source.group is None
            and self.is_pytorch(source.package)
            and holds(source.marker, environment)
        )

    def choices(self) -> tuple[Choice, ...]:
        """The backend choices that sources state, on any platform; a name has a row for each backend it can mean."""
        from uvtorch.project import choices

        return choices.stated(self)

    def selectable(self) -> tuple[Choice, ...]:
        """The extras and groups that choose a backend, on any platform; empty where the project has one or none."""
        if not any(source.extra or source.group for one in (self, *self.members) for source in one.sources):
            return ()  # the usual project, told without loading `choices`
        return tuple(choice for choice in self.choices() if choice.kind != "base")

    def choices_for(self, environment: "Environment | Platform") -> tuple[Choice, ...]:
        """The choices as they are on one platform, one row a name, implied ones included."""
        from uvtorch.project import choices

        environment = environment if isinstance(environment, Environment) else Environment(environment)
        return choices.on_platform(self, environment)

    def declared(self, kind: str, name: str) -> str | None:
        """The file's own spelling of an extra or group; None if there is no such one."""
        names = self.extras if kind == "extra" else self.groups
        return next((item for item in names if normalize(item) == normalize(name)), None)


def _torch_first(names: Iterable[str]) -> tuple[str, ...]:
    """The names once each in their order, except that torch leads."""
    return tuple(sorted(dict.fromkeys(names), key=lambda name: name != "torch"))

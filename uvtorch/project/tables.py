"""The tables of pyproject.toml that bear on PyTorch: their shape, and what they say."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from uvtorch import requirement
from uvtorch.backend import parse
from uvtorch.errors import ProjectError, UsageError
from uvtorch.packages import normalize, roles
from uvtorch.project.choices import Project
from uvtorch.project.indexes import Index, check_index_url, pytorch_backend
from uvtorch.project.model import BASE, Config, Item, ItemKind, Requirement, Source, SourceKind, Target

Tables = Mapping[str, Any]

_STRING: Final = "a string"
_STRINGS: Final = "an array of strings"
_FLAG: Final = "true or false"
_CONFIG: Final = {
    "backend": _STRING,
    "auto": _FLAG,
    "index-base": _STRING,
    "packages": _STRINGS,
    "catalog": _STRING,
}
_SHAPE: Final[Tables] = {
    "project": {
        "name": _STRING,
        "requires-python": _STRING,
        "dependencies": _STRINGS,
        "optional-dependencies": {"*": _STRINGS},
    },
    "dependency-groups": {"*": "an array of requirements and `include-group` tables"},
    "tool": {
        "uv": {
            "dev-dependencies": _STRINGS,
            "default-groups": 'an array of strings or "all"',
            "index": ("an array of tables", {"name": _STRING, "url": _STRING, "explicit": _FLAG, "default": _FLAG}),
            "extra-index-url": "an array of strings or one string",
            "index-url": _STRING,
            "sources": {
                "*": (
                    "a table or an array of tables",
                    dict.fromkeys(("index", "url", "git", "path", "marker", "extra", "group"), _STRING),
                )
            },
            "conflicts": "an array of arrays of tables of strings",
            "environments": "an array of strings or one string",
        },
        "uvtorch": _CONFIG,
    },
}
"""What is read of a pyproject.toml (`*`: any key). A pair: what is wanted, and what of its tables."""
_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    **dict.fromkeys((_STRING, "one string", "strings"), str),
    **dict.fromkeys(("true", "false"), bool),
    **dict.fromkeys(("a table", "tables"), Mapping),
    **dict.fromkeys(("an array", "arrays"), list),
    "requirements and `include-group` tables": (str, Mapping),
}


def check(value: Any, origin: str, key: str = "", shape: Any = _SHAPE) -> None:
    """Hold a pyproject.toml, or what is at a key of it, against a shape; what is missing or unknown is no fault.

    Raises ProjectError, within `[tool.uvtorch]` UsageError.
    """
    words, inner = shape if isinstance(shape, tuple) else (shape, {}) if isinstance(shape, str) else ("a table", shape)
    if not any(_fits(value, one) for one in words.split(" or ")):
        error = UsageError if key.startswith("tool.uvtorch") else ProjectError
        raise error(f"{origin}: `{key}` must be {words}, not {_described(value)}")
    for table in value if isinstance(value, list) else [value]:
        for name, wanted in inner.items():
            for found in table if name == "*" else table.keys() & {name}:
                check(table[found], origin, f"{key}.{found}" if key else found, wanted)


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


def read(
    data: Tables,
    root: Tables | None = None,
    origin: str = "pyproject.toml",
    members: Sequence[Tables] = (),
    together: bool = False,
) -> Project:
    """Read what a parsed pyproject.toml says and, for a workspace's member, that of its root.

    `members` are those of the workspace of which `data` is the root: a choice of theirs counts where a requirement of
    the root asks for it (`gpu = ["member[cu128]"]`), or where all are installed `together`, as they always are if the
    root is no project. `origin` names the file. Raises ProjectError, UsageError for a mistake in `[tool.uvtorch]`.
    """
    if root is data:
        root = None
    file, above = _File(data, origin), _File(root or {}, f"{origin} (the workspace's root)", inherited=True)
    name, root_name = (normalize(one.project.get("name", "")) for one in (file, above))
    config = file.config(above.config(Config()))
    indexes = _with_others(file.indexes(), above.indexes(), "name")
    own_conflicts = tuple(file.conflicts(None))
    return Project(
        name=name or None,
        requires_python=file.project.get("requires-python"),
        requirements=(*file.requirements(), *above.groups_beside(file)),
        indexes=indexes,
        sources=_with_others(file.sources(indexes, config), above.sources(indexes, config), "package"),
        conflicts=(*own_conflicts, *above.conflicts(root_name)),
        own_conflicts=own_conflicts,
        default_groups=file.default_groups(),
        config=config,
        has_project="project" in data,
        targets=tuple(file.targets()),
        includes=tuple(file.includes()),
        origin=origin,
        root_name=root_name if root else None,
        members=tuple(read(one, data, f"{origin} of a member") for one in members),
        together=together or (bool(members) and "project" not in data),
    )


def _with_others(own: Iterable[Any], above: Iterable[Any], key: str) -> tuple[Any, ...]:
    own = tuple(own)
    taken = {getattr(row, key) for row in own} - {None}
    return (*own, *(row for row in above if getattr(row, key) not in taken))


def _spelled(names: Iterable[str]) -> dict[str, str]:
    return {normalize(name): name for name in names}


class _File:
    def __init__(self, data: Tables, origin: str, *, inherited: bool = False) -> None:
        check(data, origin)
        tool = data.get("tool", {})
        self.origin, self.inherited = origin, inherited
        self.project: Tables = data.get("project", {})
        self.extras: Tables = self.project.get("optional-dependencies", {})
        self.groups = dict(data.get("dependency-groups", {}))
        self.uv: Tables = tool.get("uv", {})
        self.uvtorch: Tables = tool.get("uvtorch", {})
        self.spelled = _spelled(self.groups)
        if "dev-dependencies" in self.uv and "dev" not in self.spelled:
            self.groups["dev"], self.spelled["dev"] = [], "dev"

    def error(self, text: str) -> ProjectError:
        return ProjectError(f"{self.origin}: {text}")

    def targets(self) -> Iterator[Target]:
        yield from (Target("extra", name) for name in self.extras)
        yield from (Target("group", name) for name in self.groups)

    def includes(self) -> Iterator[tuple[Target, Target]]:
        for group in self.groups:
            yield from ((Target("group", group), Target("group", inner)) for inner in self.included(group))

    def requirements(self) -> Iterator[Requirement]:
        yield from self._listed("project.dependencies", self.project.get("dependencies", ()), BASE)
        for extra, texts in self.extras.items():
            yield from self._listed(f"project.optional-dependencies.{extra}", texts, Target("extra", extra))
        for group in self.groups:
            yield from self.of_group(group)
        dev = Target("group", self.spelled.get("dev", "dev"))
        yield from self._listed("tool.uv.dev-dependencies", self.uv.get("dev-dependencies", ()), dev)

    def _listed(self, key: str, texts: Iterable[str], target: Target, via: str | None = None) -> Iterator[Requirement]:
        for text in texts:
            parsed = requirement.understood(text)
            if parsed is None:
                raise self.error(f"`{key}` holds {text!r}, which is not a requirement")
            extras = tuple(sorted(map(normalize, parsed.extras)))
            yield Requirement(normalize(parsed.name), text, target, extras, via, self.inherited)

    def groups_beside(self, member: "_File") -> Iterator[Requirement]:
        """What the root's groups require that a member has not: `uv sync --group` takes these as well."""
        for name, group in self.spelled.items():
            if name not in member.spelled:
                yield from self.of_group(group)

    def of_group(self, *path: str) -> Iterator[Requirement]:
        """The requirements of the last group of a path of includes, for the first one."""
        group, key = path[-1], f"dependency-groups.{path[-1]}"
        if group in path[:-1]:
            raise self.error(f"`{key}` includes itself: {' -> '.join(path)}")
        texts = [entry for entry in self.groups[group] if isinstance(entry, str)]
        yield from self._listed(key, texts, Target("group", path[0]), group if len(path) > 1 else None)
        for inner in self.included(group):
            yield from self.of_group(*path, inner)

    def included(self, group: str) -> Iterator[str]:
        """The groups that one includes directly, as they are declared."""
        for entry in self.groups[group]:
            if not isinstance(entry, str) and isinstance(name := entry.get("include-group"), str):
                if normalize(name) not in self.spelled:
                    raise self.error(f"`dependency-groups.{group}` includes the group `{name}`, which is missing")
                yield self.spelled[normalize(name)]

    def default_groups(self) -> tuple[str, ...]:
        wanted = self.uv.get("default-groups", ["dev"])
        names = self.spelled if wanted == "all" else map(normalize, wanted)
        return tuple(self.spelled[name] for name in names if name in self.spelled)

    def indexes(self) -> Iterator[Index]:
        for entry in self.uv.get("index", ()):
            if "url" not in entry:
                raise self.error("an entry of `tool.uv.index` has no `url`")
            explicit, default = entry.get("explicit", False), entry.get("default", False)
            yield Index(entry.get("name"), entry["url"], explicit, default, self.inherited)
        for key, default in (("extra-index-url", False), ("index-url", True)):
            urls = self.uv.get(key, ())
            for url in [urls] if isinstance(urls, str) else urls:
                yield Index(None, url, default=default, inherited=self.inherited, legacy=True)

    def sources(self, indexes: tuple[Index, ...], config: Config) -> Iterator[Source]:
        by_name = {index.name: index for index in reversed(indexes) if index.name}
        for name, value in self.uv.get("sources", {}).items():
            for entry in [value] if isinstance(value, Mapping) else value:
                kind: SourceKind | None = next((kind for kind in get_args(SourceKind) if kind in entry), None)
                if kind is None:
                    raise self.error(f"`tool.uv.sources.{name}` names no index, URL, repository, path or workspace")
                yield self._source(normalize(name), kind, entry, by_name.get(entry.get("index", "")), config)
        for item in self.requirements():  # `torch @ https://…` says where torch comes from, as a source does
            parsed = requirement.parse(item.text)
            if parsed.url:
                place = {item.target.kind: item.target.name or "", "marker": parsed.marker and str(parsed.marker)}
                yield self._source(item.package, "url", {"url": parsed.url, **place}, None, config)

    def _source(self, package: str, kind: SourceKind, entry: Tables, index: Index | None, config: Config) -> Source:
        url = index.url if index else {**entry, "index": None, "workspace": None}[kind]
        ours = package in roles() or package in config.packages
        backend = pytorch_backend(url, None if ours else package) if url and kind != "git" else None
        return Source(
            package,
            entry.get("index"),
            url,
            backend,
            entry.get("marker"),
            _spelled(self.extras).get(normalize(entry.get("extra", "")), entry.get("extra")),
            self.spelled.get(normalize(entry.get("group", "")), entry.get("group")),
            kind,
            self.inherited,
            bool(index and index.is_pypi and not backend),
        )

    def conflicts(self, root_name: str | None) -> Iterator[tuple[Item, ...]]:
        """The root's conflicts carry its name where they name no package."""
        for entry in self.uv.get("conflicts", ()):
            yield tuple(self._item(item, root_name) for item in entry)

    def _item(self, item: Tables, root_name: str | None) -> Item:
        for kind in get_args(ItemKind):
            if kind in item:
                return Item(kind, item[kind], normalize(item["package"]) if "package" in item else root_name)
        raise self.error("an item of `tool.uv.conflicts` names no extra, group or package")

    def config(self, above: Config) -> Config:
        """`[tool.uvtorch]`; its keys replace those of the root's. Raises UsageError."""
        key, found = f"{self.origin}: `tool.uvtorch", {name.replace("-", "_"): it for name, it in self.uvtorch.items()}
        if unknown := next((name for name in self.uvtorch if name not in _CONFIG), None):
            raise UsageError(f"{key}.{unknown}` is not a setting", f"the settings are: {', '.join(_CONFIG)}")
        if "index_base" in found:
            check_index_url(found["index_base"], f"{key}.index-base`")
        if "packages" in found:
            found["packages"] = tuple(dict.fromkeys(map(normalize, found["packages"])))
        if (backend := found.get("backend")) is not None:
            found["backend"] = parse(backend)
            if found["backend"] is None and backend != "auto":
                raise UsageError(
                    f"{key}.backend` is {backend!r}, which is no backend",
                    "a backend is cpu, xpu, cuNNN as in cu126, rocmN.N as in rocm6.4; nightly/ or test/ may precede it",
                )
        return above._replace(**found)

"""The tables of pyproject.toml that bear on PyTorch, as values. Pure: from parsed TOML to NamedTuples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from uvtorch import requirement
from uvtorch.backend import parse
from uvtorch.errors import ProjectError, UsageError
from uvtorch.packages import normalize, roles
from uvtorch.project.choices import Project
from uvtorch.project.hosts import check_index_url, pytorch_backend
from uvtorch.project.model import BASE, Config, Index, Item, ItemKind, Requirement, Source, SourceKind, Target
from uvtorch.project.shape import CONFIG, check

Tables = Mapping[str, Any]


def read(
    data: Tables,
    root: Tables | None = None,
    origin: str = "pyproject.toml",
    members: Sequence[Tables] = (),
    together: bool = False,
) -> Project:
    """Read what a parsed pyproject.toml says and, for a workspace's member, that of its root.

    `members` are those of the workspace of which `data` is the root: a choice of theirs counts where a requirement of
    the root asks for it (`gpu = ["member[cu128]"]`), or where all are installed `together`, as they are in any case if
    the root is no project. `origin` names the file in messages. Raises ProjectError for a table of the wrong shape,
    UsageError for a mistake in `[tool.uvtorch]`. What uv alone cares about is left to uv.
    """
    file = _File(data, origin)
    member = root is not None and root is not data
    above = _File(root if root and member else {}, f"{origin} (the workspace's root)", inherited=True)
    root_name = normalize(above.project.get("name", "")) if member else None
    config = file.config(above.config(Config()))
    indexes = _with_others(file.indexes(), above.indexes(), "name")
    name = file.project.get("name")
    return Project(
        name=normalize(name) if name else None,
        requires_python=file.project.get("requires-python"),
        requirements=(*file.requirements(), *above.groups_beside(file)),
        indexes=indexes,
        sources=_with_others(file.sources(indexes, config), above.sources(indexes, config), "package"),
        conflicts=(*file.conflicts(None), *above.conflicts(root_name)),
        own_conflicts=tuple(file.conflicts(None)),
        default_groups=file.default_groups(),
        config=config,
        has_project="project" in data,
        extras=tuple(file.extras),
        groups=file.group_names,
        includes=tuple((group, inner) for group in file.groups for inner in file.included(group)),
        environments=_strings((above if member else file).uv.get("environments", ())),
        origin=origin,
        root_name=root_name,
        members=tuple(read(one, data, f"{origin} of a member") for one in members),
        together=together or (bool(members) and "project" not in data),
    )


def _with_others(own: Iterable[Any], above: Iterable[Any], key: str) -> tuple[Any, ...]:
    """The rows of a member and those of the root whose name or package the member has not."""
    own = tuple(own)
    taken = {getattr(row, key) for row in own} - {None}
    return (*own, *(row for row in above if getattr(row, key) not in taken))


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _spelled(names: Iterable[str]) -> dict[str, str]:
    """Normalized name -> as the file spells it."""
    return {normalize(name): name for name in names}


class _File:
    """The tables of one file, of the right shape, and what they say."""

    def __init__(self, data: Tables, origin: str, *, inherited: bool = False) -> None:
        check(data, origin)
        tool = data.get("tool", {})
        self.origin, self.inherited = origin, inherited
        self.project: Tables = data.get("project", {})
        self.extras: Tables = self.project.get("optional-dependencies", {})
        self.groups: Tables = data.get("dependency-groups", {})
        self.uv: Tables = tool.get("uv", {})
        self.uvtorch: Tables = tool.get("uvtorch", {})
        self.dev = self.uv.get("dev-dependencies")
        unnamed = self.dev is not None and "dev" not in _spelled(self.groups)
        self.group_names = (*self.groups, *(["dev"] if unnamed else ()))

    def error(self, text: str) -> ProjectError:
        return ProjectError(f"{self.origin}: {text}")

    def requirements(self) -> Iterator[Requirement]:
        yield from self._listed("project.dependencies", self.project.get("dependencies", ()), BASE)
        for extra, texts in self.extras.items():
            yield from self._listed(f"project.optional-dependencies.{extra}", texts, Target("extra", extra))
        for group in self.groups:
            yield from self.of_group(group)
        dev = Target("group", _spelled(self.groups).get("dev", "dev"))
        yield from self._listed("tool.uv.dev-dependencies", self.dev or (), dev)

    def _listed(self, key: str, texts: Iterable[str], target: Target, via: str | None = None) -> Iterator[Requirement]:
        for text in texts:
            parsed = requirement.understood(text)
            if parsed is None:
                raise self.error(f"`{key}` holds {text!r}, which is not a requirement")
            extras = tuple(sorted(map(normalize, parsed.extras)))
            yield Requirement(normalize(parsed.name), text, target, extras, via, self.inherited)

    def groups_beside(self, member: "_File") -> Iterator[Requirement]:
        """What the root's groups require that a member has not: `uv sync --group` takes these as well."""
        for group in self.groups:
            if normalize(group) not in _spelled(member.groups):
                yield from self.of_group(group)

    def of_group(self, *path: str) -> Iterator[Requirement]:
        """The requirements of the last group of `path`, and of those it includes, for the first one."""
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
                if normalize(name) not in _spelled(self.groups):
                    raise self.error(f"`dependency-groups.{group}` includes the group `{name}`, which is missing")
                yield _spelled(self.groups)[normalize(name)]

    def default_groups(self) -> tuple[str, ...]:
        wanted, spelled = self.uv.get("default-groups", ["dev"]), _spelled(self.group_names)
        names = spelled if wanted == "all" else map(normalize, wanted)
        return tuple(spelled[name] for name in names if name in spelled)

    def indexes(self) -> Iterator[Index]:
        for entry in self.uv.get("index", ()):
            if "url" not in entry:
                raise self.error("an entry of `tool.uv.index` has no `url`")
            yield self._index(entry["url"], **{k: entry[k] for k in ("name", "explicit", "default") if k in entry})
        for url in _strings(self.uv.get("extra-index-url", ())):
            yield self._index(url, legacy=True)
        if default := self.uv.get("index-url"):
            yield self._index(default, default=True, legacy=True)

    def _index(self, url: str, name: str | None = None, **flags: Any) -> Index:
        return Index(name, url, backend=pytorch_backend(url), inherited=self.inherited, **flags)

    def sources(self, indexes: tuple[Index, ...], config: Config) -> Iterator[Source]:
        by_name = {index.name: index for index in reversed(indexes) if index.name}
        for name, value in self.uv.get("sources", {}).items():
            for entry in [value] if isinstance(value, Mapping) else value:
                kind: SourceKind | None = next((kind for kind in get_args(SourceKind) if kind in entry), None)
                if kind is None:
                    raise self.error(f"`tool.uv.sources.{name}` names no index, URL, repository, path or workspace")
                yield self._source(normalize(name), kind, entry, by_name.get(entry.get("index", "")), config)

    def _source(self, package: str, kind: SourceKind, entry: Tables, index: Index | None, config: Config) -> Source:
        url = index.url if index else {**entry, "index": None, "workspace": None}[kind]
        ours = package in roles() or package in config.packages
        extra, group = entry.get("extra"), entry.get("group")
        backend = pytorch_backend(url, None if ours else package) if url and kind != "git" else None
        return Source(
            package=package,
            index=entry.get("index"),
            url=url,
            backend=backend,
            marker=entry.get("marker"),
            extra=extra and _spelled(self.extras).get(normalize(extra), extra),
            group=group and _spelled(self.groups).get(normalize(group), group),
            kind=kind,
            inherited=self.inherited,
            is_pypi=bool(index and index.is_pypi and not backend),
        )

    def conflicts(self, root_name: str | None) -> Iterator[tuple[Item, ...]]:
        """The conflict sets; those of a workspace's root carry the root's name where they name no package."""
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
        if unknown := next((name for name in self.uvtorch if name not in CONFIG), None):
            raise UsageError(f"{key}.{unknown}` is not a setting", f"the settings are: {', '.join(CONFIG)}")
        if "index_base" in found:
            check_index_url(found["index_base"], f"{key}.index-base`")
        if "packages" in found:
            found["packages"] = tuple(dict.fromkeys(map(normalize, found["packages"])))
        if "backend" in found:
            found["backend"] = parse(self.uvtorch["backend"])
            if found["backend"] is None and self.uvtorch["backend"] != "auto":
                raise UsageError(
                    f"{key}.backend` is {self.uvtorch['backend']!r}, which is no backend",
                    "a backend is cpu, xpu, cuNNN as in cu126, rocmN.N as in rocm6.4; nightly/ or test/ may precede it",
                )
        return above._replace(**found)

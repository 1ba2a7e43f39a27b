"""The tables of pyproject.toml that bear on PyTorch, as facts. Pure: from parsed TOML to NamedTuples."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from uvtorch.backend import from_url, parse
from uvtorch.errors import ProjectError, UsageError
from uvtorch.packages import normalize
from uvtorch.project.facts import Config, Index, Item, Project, Requirement, Source, Target

Tables = Mapping[str, Any]

_REQUIREMENT: Final = re.compile(
    r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*(?=$|[@<>=!~;(])"
)
_CONFIG_KEYS: Final = ("backend", "auto", "index-base", "packages")
_SOURCE_KINDS: Final = ("index", "url", "git", "path", "workspace")


def read(
    data: Tables,
    root: Tables | None = None,
    origin: str = "pyproject.toml",
    members: Sequence[Tables] = (),
    together: bool = False,
) -> Project:
    """Read the facts from a parsed pyproject.toml and, for a workspace's member, from that of its root.

    `members` are those of the workspace of which `data` is the root: a choice of theirs counts where a requirement of
    the root asks for it (`gpu = ["member[cu128]"]`), or where all are installed `together`, as they are in any case if
    the root is no project. `origin` names the file in messages. Raises ProjectError for a table of the wrong shape,
    UsageError for a mistake in `[tool.uvtorch]`. What uv alone cares about is left to uv.
    """
    file = _File(data, origin)
    root_file = _File(root, f"{origin} (the workspace's root)") if root is not None and root is not data else None
    name = file.string("project.name")
    groups = file.table("dependency-groups")
    extras = file.table("project.optional-dependencies")
    indexes = _indexes(file)
    if root_file:
        own = {index.name for index in indexes if index.name}
        above = (index._replace(inherited=True) for index in _indexes(root_file))
        indexes += tuple(index for index in above if index.name is None or index.name not in own)
    requirements = tuple(_requirements(file, extras, groups))
    root_name = None
    if root_file:
        root_name = normalize(root_file.string("project.name") or "")
        requirements += tuple(_inherited(root_file, groups))
    return Project(
        name=normalize(name) if name else None,
        requires_python=file.string("project.requires-python"),
        requirements=requirements,
        indexes=indexes,
        sources=_sources(file, root_file, indexes),
        conflicts=_conflicts(file) + (_conflicts(root_file, file_is_root=False) if root_file else ()),
        default_groups=_default_groups(file, groups),
        config=_config(file, root_file),
        has_project=file.has("project"),
        extras=tuple(extras),
        groups=_group_names(file, groups),
        includes=tuple(_includes(groups)),
        dynamic=file.strings("project.dynamic"),
        overrides=tuple(_overrides(root_file or file)),
        environments=_environments(root_file or file),
        origin=origin,
        root_name=root_name,
        members=tuple(read(member, data, f"{origin} of a member") for member in members),
        together=together or (bool(members) and not file.has("project")),
    )


class _File:
    """Parsed TOML with typed access by dotted key; a wrong type is a ProjectError naming the key."""

    def __init__(self, data: Tables, origin: str) -> None:
        self.data = data
        self.origin = origin

    def get(self, key: str) -> Any:
        """The value of a dotted key, None where it or a table above it is missing."""
        here: Any = self.data
        path: list[str] = []
        for part in key.split("."):
            if not isinstance(here, Mapping):
                raise self.wrong(".".join(path), "a table", here)
            if part not in here:
                return None
            here = here[part]
            path.append(part)
        return here

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def table(self, key: str) -> Tables:
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a table", value)
        return value

    def string(self, key: str) -> str | None:
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string", value)
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        return self.check_strings(key, self.get(key))

    def check_strings(self, key: str, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "an array of strings", value)
        return tuple(value)

    def wrong(self, key: str, wanted: str, value: Any) -> ProjectError:
        return ProjectError(f"{self.origin}: `{key}` must be {wanted}, not {_described(value)}")


def _described(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "an array"}
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list) and value:
        return f"an array with {_described(value[0])} first"
    return names.get(type(value), "a date or time")


def _requirements(file: _File, extras: Tables, groups: Tables) -> Iterator[Requirement]:
    for text in file.strings("project.dependencies"):
        yield _requirement(file, "project.dependencies", text, Target("base"))
    for extra, texts in extras.items():
        key = f"project.optional-dependencies.{extra}"
        for text in file.check_strings(key, texts):
            yield _requirement(file, key, text, Target("extra", extra))
    legacy = file.strings("tool.uv.dev-dependencies")
    names = {normalize(group): group for group in groups}
    for group in groups:
        yield from _group(file, groups, names, (group,))
    for text in legacy:
        yield _requirement(file, "tool.uv.dev-dependencies", text, Target("group", names.get("dev", "dev")))


def _inherited(root: _File, own: Tables) -> Iterator[Requirement]:
    """The requirements of the root's groups that the member does not have itself: `uv sync --group` finds those too."""
    groups = root.table("dependency-groups")
    names = {normalize(group): group for group in groups}
    taken = {normalize(group) for group in own}
    for group in groups:
        if normalize(group) not in taken:
            yield from (item._replace(inherited=True) for item in _group(root, groups, names, (group,)))


def _group(file: _File, groups: Tables, names: Mapping[str, str], path: tuple[str, ...]) -> Iterator[Requirement]:
    """The requirements of the last group of `path`, and of those it includes, for the first one."""
    group, target = path[-1], Target("group", path[0])
    key = f"dependency-groups.{group}"
    if group in path[:-1]:
        raise ProjectError(f"{file.origin}: `{key}` includes itself: {' -> '.join(path)}")
    entries = groups[group]
    if not isinstance(entries, list):
        raise file.wrong(key, "an array", entries)
    for entry in entries:
        if isinstance(entry, str):
            yield _requirement(file, key, entry, target)._replace(via=group if len(path) > 1 else None)
        elif isinstance(entry, Mapping) and isinstance(entry.get("include-group"), str):
            included = names.get(normalize(entry["include-group"]))
            if included is None:
                raise ProjectError(
                    f"{file.origin}: `{key}` includes the group `{entry['include-group']}`, which is missing"
                )
            yield from _group(file, groups, names, (*path, included))
        elif not isinstance(entry, Mapping):
            raise file.wrong(key, "an array of requirements and `include-group` tables", entries)


def _includes(groups: Tables) -> Iterator[tuple[str, str]]:
    names = {normalize(group): group for group in groups}
    for group, entries in groups.items():
        for entry in entries:
            if isinstance(entry, Mapping) and isinstance(entry.get("include-group"), str):
                yield group, names[normalize(entry["include-group"])]


def _requirement(file: _File, key: str, text: str, target: Target) -> Requirement:
    match = _REQUIREMENT.match(text)
    if match is None:
        raise ProjectError(f"{file.origin}: `{key}` holds {text!r}, which is not a requirement")
    extras = tuple(normalize(extra.strip()) for extra in (match[2] or "").split(",") if extra.strip())
    return Requirement(normalize(match[1]), text, target, extras)


def _overrides(file: _File) -> Iterator[Requirement]:
    key = "tool.uv.override-dependencies"
    value = file.get(key)
    if value is not None and not isinstance(value, list):
        raise file.wrong(key, "an array", value)
    for entry in value or ():
        if isinstance(entry, str):  # uv also takes tables here, for overrides of a package's metadata
            yield _requirement(file, key, entry, Target("base"))


def _environments(file: _File) -> tuple[str, ...]:
    value = file.get("tool.uv.environments")
    if isinstance(value, str):
        return (value,)
    return file.check_strings("tool.uv.environments", value)


def _indexes(file: _File) -> tuple[Index, ...]:
    key = "tool.uv.index"
    value = file.get(key)
    if value is None:
        value = []
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise file.wrong(key, "an array of tables", value)
    found = []
    for entry in value:
        url, name = entry.get("url"), entry.get("name")
        if not isinstance(url, str):
            raise file.wrong(f"{key}.url", "a string", url) if url is not None else _missing(file, key, "url")
        if name is not None and not isinstance(name, str):
            raise file.wrong(f"{key}.name", "a string", name)
        flags = {}
        for flag in ("explicit", "default"):
            flags[flag] = entry.get(flag, False)
            if not isinstance(flags[flag], bool):
                raise file.wrong(f"{key}.{flag}", "true or false", flags[flag])
        found.append(Index(name, url, backend=from_url(url), **flags))
    extra = file.get("tool.uv.extra-index-url")
    if extra is not None:
        texts = (extra,) if isinstance(extra, str) else file.check_strings("tool.uv.extra-index-url", extra)
        found += [Index(None, url, backend=from_url(url), legacy=True) for url in texts]
    default = file.string("tool.uv.index-url")
    if default is not None:
        found.append(Index(None, default, default=True, backend=from_url(default), legacy=True))
    return tuple(found)


def _missing(file: _File, key: str, part: str) -> ProjectError:
    return ProjectError(f"{file.origin}: an entry of `{key}` has no `{part}`")


def _sources(file: _File, root: _File | None, indexes: tuple[Index, ...]) -> tuple[Source, ...]:
    own = list(_own_sources(file, indexes))
    if root:
        named = {source.package for source in own}
        inherited = (source for source in _own_sources(root, indexes) if source.package not in named)
        own += [source._replace(inherited=True) for source in inherited]
    return tuple(own)


def _own_sources(file: _File, indexes: tuple[Index, ...]) -> Iterator[Source]:
    by_name = {index.name: index for index in reversed(indexes) if index.name}
    spellings: dict[str, dict[str, str]] = {
        "extra": {normalize(name): name for name in file.table("project.optional-dependencies")},
        "group": {normalize(name): name for name in file.table("dependency-groups")},
    }
    for package, value in file.table("tool.uv.sources").items():
        key = f"tool.uv.sources.{package}"
        entries = [value] if isinstance(value, Mapping) else value
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise file.wrong(key, "a table or an array of tables", value)
        for entry in entries:
            for part in ("index", "url", "git", "path", "marker", "extra", "group"):
                if part in entry and not isinstance(entry[part], str):
                    raise file.wrong(f"{key}.{part}", "a string", entry[part])
            kind = next((kind for kind in _SOURCE_KINDS if kind in entry), None)
            if kind is None:
                raise ProjectError(f"{file.origin}: `{key}` names no index, URL, repository, path or workspace")
            index = by_name.get(entry["index"]) if kind == "index" else None
            url = index.url if index else entry[kind] if kind in ("url", "git", "path") else None
            selectors = {
                part: spellings[part].get(normalize(entry[part]), entry[part])
                for part in ("extra", "group")
                if part in entry
            }
            yield Source(
                package=normalize(package),
                index=entry["index"] if kind == "index" else None,
                url=url,
                backend=index.backend if index else from_url(url) if kind in ("url", "path") and url else None,
                marker=entry.get("marker"),
                kind=kind,
                is_pypi=bool(index and index.is_pypi and not index.backend),
                **selectors,
            )


def _conflicts(file: _File, file_is_root: bool = True) -> tuple[tuple[Item, ...], ...]:
    """The conflict sets; those of a workspace's root carry the root's name where they name no package."""
    key = "tool.uv.conflicts"
    value = file.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, list) for entry in value):
        raise file.wrong(key, "an array of arrays", value)
    root_name = None if file_is_root else normalize(file.string("project.name") or "")
    sets = []
    for entry in value:
        items = []
        for item in entry:
            if not isinstance(item, Mapping) or not all(isinstance(part, str) for part in item.values()):
                raise file.wrong(key, "an array of arrays of tables of strings", value)
            package = normalize(item["package"]) if "package" in item else root_name
            kind = next((kind for kind in ("extra", "group", "package") if kind in item), None)
            if kind is None:
                raise ProjectError(f"{file.origin}: an item of `{key}` names no extra, group or package")
            items.append(Item(kind, item[kind], package))
        sets.append(tuple(items))
    return tuple(sets)


def _group_names(file: _File, groups: Tables) -> tuple[str, ...]:
    names = tuple(groups)
    if file.has("tool.uv.dev-dependencies") and "dev" not in {normalize(name) for name in names}:
        names += ("dev",)
    return names


def _default_groups(file: _File, groups: Tables) -> tuple[str, ...]:
    names = _group_names(file, groups)
    value = file.get("tool.uv.default-groups")
    if value is None:
        wanted: tuple[str, ...] = ("dev",)
    elif value == "all":
        return names
    else:
        if isinstance(value, str):
            raise file.wrong("tool.uv.default-groups", 'an array of strings or "all"', value)
        wanted = file.check_strings("tool.uv.default-groups", value)
    spelled = {normalize(name): name for name in names}
    return tuple(spelled[normalize(name)] for name in wanted if normalize(name) in spelled)


def _config(file: _File, root: _File | None) -> Config:
    table: dict[str, Any] = {}
    for source in (root, file):
        if source is None:
            continue
        own = source.get("tool.uvtorch")
        if own is None:
            continue
        if not isinstance(own, Mapping):
            raise UsageError(f"{source.origin}: `tool.uvtorch` must be a table, not {_described(own)}")
        for key in own:
            if key not in _CONFIG_KEYS:
                known = ", ".join(_CONFIG_KEYS)
                raise UsageError(
                    f"{source.origin}: `tool.uvtorch.{key}` is not a setting", f"the settings are: {known}"
                )
        _check_config(source, own)
        table.update(own)
    backend = table.get("backend")
    return Config(
        backend=parse(backend) if backend and backend != "auto" else None,
        auto=table.get("auto", False),
        index_base=table.get("index-base"),
        packages=tuple(dict.fromkeys(normalize(name) for name in table.get("packages", ()))),
    )


def _check_config(file: _File, own: Tables) -> None:
    def wrong(key: str, wanted: str) -> UsageError:
        return UsageError(f"{file.origin}: `tool.uvtorch.{key}` must be {wanted}, not {_described(own[key])}")

    if not isinstance(own.get("auto", False), bool):
        raise wrong("auto", "true or false")
    for key in ("backend", "index-base"):
        if not isinstance(own.get(key, ""), str):
            raise wrong(key, "a string")
    names = own.get("packages", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise wrong("packages", "an array of strings")
    backend = own.get("backend", "auto")
    if backend != "auto" and parse(backend) is None:
        raise UsageError(
            f"{file.origin}: `tool.uvtorch.backend` is {backend!r}, which is no backend",
            "a backend is cpu, xpu, cuNNN as in cu126, rocmN.N as in rocm6.4, or one of these after nightly/ or test/",
        )
    if "://" not in own.get("index-base", "://"):
        raise UsageError(f"{file.origin}: `tool.uvtorch.index-base` is {own['index-base']!r}, which is not a URL")

"""What is wrong in pyproject.toml itself. Pure."""

from collections.abc import Iterator

from uvtorch import edit
from uvtorch.audit.finding import MEND, Finding
from uvtorch.backend import DEFAULT_INDEX_BASE, PLATFORMS, Backend, marker, same_url
from uvtorch.catalog import Catalog
from uvtorch.choose import unknown
from uvtorch.machine import Platform
from uvtorch.packages import ANCHORS, normalize, roles
from uvtorch.project import Environment, Index, Project, Source, Target
from uvtorch.project.choices import gaps
from uvtorch.project.markers import dead, holds, mended

EVERYWHERE = tuple(
    Platform(
        key.partition("_")[0],
        {"amd64": "x86_64", "arm64": "arm64"}.get(key.partition("_")[2], key.partition("_")[2]),
    )
    for key in PLATFORMS
)
"""Every platform that PyTorch has wheels for."""
_PYTHONS = tuple(f"3.{minor}" for minor in range(8, 16))
_NAMES = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}


def findings(project: Project, catalog: Catalog, uv_toml: str | None) -> list[Finding]:
    """The faults of the file, those that keep uv from reading it first."""
    return [
        *_twice(project),
        *_missing(project),
        *_gaps(project),
        *_ignored(project, uv_toml),
        *_not_explicit(project, catalog),
        *_unused(project),
        *_markers(project),
        *_dropped(project),
        *_no_wheels(project, catalog),
        *_companions(project, catalog),
    ]


def is_pytorch_index(index: Index) -> bool:
    """Whether an index is one of PyTorch's, or a mirror of one: it also has old builds of generic packages."""
    return index.backend is not None or _under(index.url, DEFAULT_INDEX_BASE)


def _is_mirror(index: Index) -> bool:
    """Whether an index is laid out as PyTorch's are: its URL ends in the backend and nothing else."""
    url = index.url.rstrip("/").removesuffix("/+simple").removesuffix("/simple")
    return index.backend is not None and url.endswith(f"/{index.backend.name}")


def _under(url: str, base: str) -> bool:
    return url.rstrip("/") == base or url.startswith(base + "/")


def entry(source: Source, index: str | None = None) -> edit.Source:
    """A source that names an index, as an operation writes it."""
    return edit.Source(index or source.index or "", source.marker, source.extra, source.group)


def entries(project: Project, package: str) -> tuple[Source, ...]:
    """The package's sources in the project's own file."""
    return tuple(source for source in project.sources if source.package == package and not source.inherited)


def rewritable(sources: tuple[Source, ...]) -> bool:
    """Whether the operations can write these sources: they all name an index."""
    return all(source.kind == "index" for source in sources)


def platforms_text(platforms: set[str]) -> str:
    """Platform keys as a person reads them: `Linux x86_64 and macOS arm64`."""
    words = [
        f"{_NAMES[key.partition('_')[0]]} {key.partition('_')[2]}"
        for key in (*PLATFORMS, *sorted(platforms))
        if key in platforms
    ]
    words = list(dict.fromkeys(words))
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _own(project: Project) -> tuple[Index, ...]:
    return tuple(index for index in project.indexes if not index.inherited)


def _all_sources(project: Project) -> Iterator[Source]:
    yield from project.sources
    for member in project.members:
        yield from member.sources


def _twice(project: Project) -> Iterator[Finding]:
    indexes = [index for index in _own(project) if not index.legacy]
    for at, index in enumerate(indexes):
        for other in indexes[:at]:
            same = same_url(index.url, other.url)
            if index.name and index.name == other.name:
                edits: tuple[edit.Operation, ...] = ()
                if same:
                    explicit = index.explicit or other.explicit or is_pytorch_index(index)
                    edits = (edit.RemoveIndex(index.name), edit.SetIndex(index.name, other.url, explicit))
                where = "with the same URL" if same else f"with different URLs, {other.url} and {index.url}"
                advice = "" if same else " Keep one of them, or give one another name."
                yield Finding(
                    "index-twice",
                    "error",
                    f"The index `{index.name}` is defined twice, {where}: uv refuses to read the file.{advice}",
                    MEND if edits else None,
                    edits,
                )
            elif same and (is_pytorch_index(index) or is_pytorch_index(other)):
                yield _same_url_twice(project, other, index)


def _same_url_twice(project: Project, first: Index, second: Index) -> Finding:
    keep, drop = (second, first) if first.name is None else (first, second)
    edits: list[edit.Operation] = []
    packages = {source.package for source in project.sources if source.index == drop.name and not source.inherited}
    simple = keep.name and drop.name and all(rewritable(entries(project, name)) for name in packages)
    if simple:
        assert keep.name is not None
        assert drop.name is not None
        for name in sorted(packages):
            moved = tuple(
                entry(source, keep.name if source.index == drop.name else None) for source in entries(project, name)
            )
            edits.append(edit.SetSources(name, tuple(dict.fromkeys(moved))))
        edits += [edit.RemoveIndex(drop.name), edit.SetIndex(keep.name, keep.url)]
    open_one = next((index for index in (first, second) if not index.explicit), None)
    why = (
        f"`{open_one.name or open_one.url}` is not explicit, so everything may come from it whatever the other says"
        if open_one
        else "one of them is enough"
    )
    return Finding(
        "index-twice",
        "error" if open_one else "warning",
        f"The indexes `{first.name or first.url}` and `{second.name or second.url}` have the same URL: {why}.",
        MEND if edits else None,
        tuple(edits),
    )


def _missing(project: Project) -> Iterator[Finding]:
    names = {index.name for index in project.indexes}
    for name in dict.fromkeys(source.index for source in project.sources if source.kind == "index"):
        if name not in names:
            packages = ", ".join(dict.fromkeys(one.package for one in project.sources if one.index == name))
            yield Finding(
                "index-missing",
                "error",
                f"The sources of {packages} name the index `{name}`, which is not defined: uv cannot lock the project."
                " Define it in `[[tool.uv.index]]`, or name another.",
            )


def _gaps(project: Project) -> Iterator[Finding]:
    for gap in gaps(project) if project.has_project else ():
        package, _, place = gap.partition(" is not in ")
        kind, _, name = place.partition(" ")
        known = project.declared(kind, name) is not None
        kept = tuple(
            source for source in entries(project, package) if (source.target.kind, source.target.name) != (kind, name)
        )
        edits: tuple[edit.Operation, ...] = ()
        if not known and rewritable(entries(project, package)):
            rest = tuple(entry(source) for source in kept)
            edits = (edit.SetSources(package, rest) if rest else edit.RemoveSources(package),)
        elif known:
            edits = (edit.AddRequirement(edit.Target(kind, name), package),)
        yield Finding(
            "source-binds-nothing",
            "error",
            f"A source of {package} is for the {kind} `{name}`, which "
            + (f"does not list {package}" if known else "does not exist")
            + ": uv refuses to lock the project.",
            MEND if edits else None,
            edits,
        )


def _ignored(project: Project, uv_toml: str | None) -> Iterator[Finding]:
    own = _own(project)
    if uv_toml is None or not own:
        return
    bare = [index for index in own if not index.explicit]
    lost = ", ".join(index.name or index.url for index in bare or own)
    yield Finding(
        "index-ignored",
        "error" if bare else "warning",
        f"uv takes its settings from {uv_toml} and ignores `index` in pyproject.toml beside it. "
        + (
            f"Nothing comes from {lost}."
            if bare
            else f"Sources still find {lost}, but nothing else in uv does, and uv warns each time."
        )
        + f" Move what {uv_toml} says into `[tool.uv]`, and remove it.",
    )


def _not_explicit(project: Project, catalog: Catalog) -> Iterator[Finding]:
    for index in project.indexes:
        if index.explicit or not is_pytorch_index(index):
            continue
        naming = [source for source in _all_sources(project) if source.index == index.name and index.name]
        own = _under(index.url, DEFAULT_INDEX_BASE)
        if index.default and not own:
            continue  # a mirror that stands in for PyPI, with all that PyPI has
        serves = any(project.is_pytorch(source.package) for source in naming)
        if not own and not serves and (naming or not _is_mirror(index)):
            continue  # an index of another project's (vllm, flashinfer), which has nothing else
        settled = naming or own or not project.choices()
        fixed = index.legacy or index.default or index.inherited or not settled
        edits = () if fixed else _explicit(project, index, catalog)
        label = index.name or index.url
        why = (
            f"The index `{label}` is not explicit: uv takes numpy, jinja2 and whatever else it finds there from it, "
            "mostly old versions, and looks nowhere else for them."
        )
        if index.legacy:
            why += " Define it in `[[tool.uv.index]]` with `explicit = true`, and name it in `[tool.uv.sources]`."
        elif index.default:
            why += " It is the default index too; give it `explicit = true` instead of `default = true`."
        elif index.inherited:
            why += " It stands in the workspace's root: mend it there."
        yield Finding("index-not-explicit", "error", why, MEND if edits else None, edits)


def _explicit(project: Project, index: Index, catalog: Catalog) -> tuple[edit.Operation, ...]:
    """The edits that make an index explicit and keep taking PyTorch's packages from it."""
    name = index.name or (index.backend.index_name if index.backend else "pytorch")
    if index.name is None and any(other.name == name for other in project.indexes):
        return ()
    edits: list[edit.Operation] = [] if index.name else [edit.NameIndex(index.url, name)]
    edits.append(edit.SetIndex(name, index.url))
    if any(source.extra is not None or source.group is not None for source in project.sources):
        return tuple(edits)
    have = {source.package for source in project.sources}
    names = [package for package in project.pytorch_packages() if package not in have]
    model = tuple(entry(source) for source in entries(project, "torch") if source.kind == "index")
    if names and not model:
        where = None
        if index.backend is not None:
            where = marker(unknown.platforms(index.backend, None, catalog))
        model = (edit.Source(name, where),)
    edits += [edit.SetSources(package, model) for package in names]
    return tuple(edits)


def _unused(project: Project) -> Iterator[Finding]:
    named = {source.index for source in _all_sources(project)}
    for index in _own(project):
        if (
            index.explicit
            and index.name
            and index.name not in named
            and (_is_mirror(index) or _under(index.url, DEFAULT_INDEX_BASE))
        ):
            yield Finding(
                "index-unused",
                "warning",
                f"No source names the index `{index.name}`: it is explicit, so nothing comes from it.",
                MEND,
                (edit.RemoveIndex(index.name),),
            )


def _markers(project: Project) -> Iterator[Finding]:
    for source in dict.fromkeys(project.sources):
        if source.marker is None or source.inherited or not project.is_pytorch(source.package):
            continue
        faults = dead(source.marker)
        never = not faults and _contradicts_itself(source.marker)
        if not faults and not never:
            continue
        better = mended(source.marker)
        own = entries(project, source.package)
        edits: tuple[edit.Operation, ...] = ()
        if better and rewritable(own):
            right = tuple(
                entry(one)._replace(marker=(mended(one.marker) if one.marker else None) or one.marker) for one in own
            )
            edits = (edit.SetSources(source.package, right),)
        what = "; ".join(faults) if faults else f"`{source.marker}` is never true"
        use = any("never" in fault for fault in faults) or never
        yield Finding(
            "marker-never-true",
            "error" if use else "warning",
            f"A source of {source.package} ({source.index or source.url}) has a marker that does not do what it says: "
            f"{what}." + (" The source may never apply, and PyPI's build is taken." if use else ""),
            MEND if edits else None,
            edits,
        )


def _contradicts_itself(text: str) -> bool:
    if "platform_machine" in text or "platform_python_implementation" in text or "extra" in text:
        return False
    return not any(holds(text, Environment(platform, python)) for platform in EVERYWHERE for python in _PYTHONS)


def _dropped(project: Project) -> Iterator[Finding]:
    if not project.environments:
        return
    kept = _where(*project.environments)
    lost: dict[str, set[str]] = {}
    for source in project.sources:
        if source.marker and project.is_pytorch(source.package) and not dead(source.marker):
            where = _where(source.marker)
            if where and not where & kept:
                lost.setdefault(source.package, set()).update(where)
    if lost:
        dropped = platforms_text(set().union(*lost.values()))
        yield Finding(
            "environments-drop-platform",
            "error",
            f"`environments` leaves {dropped} out of the lock, where {', '.join(lost)} has a source: `uv sync` fails "
            "there. `required-environments` is what asks for wheels on some platforms without giving up the others.",
            MEND,
            (edit.RequireEnvironments(),),
        )


def _where(*markers: str | None) -> set[str]:
    """The platforms on which one of these markers holds, for some Python."""
    return {
        platform.key
        for platform in EVERYWHERE
        for python in _PYTHONS
        if any(holds(marker, Environment(platform, python)) for marker in markers)
    }


def _no_wheels(project: Project, catalog: Catalog) -> Iterator[Finding]:
    for source in project.sources:
        if source.package != "torch" or source.backend is None or source.inherited or not source.marker:
            continue
        index = catalog.builds.get(source.backend._replace(channel=""))
        if index is None or dead(source.marker) or _contradicts_itself(source.marker):
            continue
        has = {platform for cells in index.values() for platform in cells}
        where = _where(source.marker)
        if not where or where & has:
            continue
        edits: list[edit.Operation] = []
        if source.target.kind == "base":
            for package in dict.fromkeys(one.package for one in project.sources if project.is_pytorch(one.package)):
                own = entries(project, package)
                left = tuple(entry(one) for one in own if (one.index, one.marker) != (source.index, source.marker))
                if len(left) < len(own) and rewritable(own):
                    edits.append(edit.SetSources(package, left) if left else edit.RemoveSources(package))
        yield Finding(
            "no-wheels",
            "error",
            f"torch is taken from {source.backend} where `{source.marker}`, and {source.backend} has no wheels for "
            f"{platforms_text(where)}: `uv sync` fails there. Without that source PyPI's build is taken.",
            MEND if edits else None,
            tuple(edits),
        )


def _companions(project: Project, catalog: Catalog) -> Iterator[Finding]:
    seen: set[tuple[Target, str | None]] = set()
    for source in project.sources:
        if source.package != "torch" or source.inherited or not source.backend or not source.index:
            continue
        index = next((one for one in project.indexes if one.name == source.index), None)
        if source.backend.family not in ("rocm", "xpu") or index is None or not index.explicit:
            continue
        if (source.target, source.index) in seen or not _required(project, source.target):
            continue
        seen.add((source.target, source.index))
        named = {
            other.package
            for other in _all_sources(project)
            if roles().get(other.package) == "companion" and other.url and same_url(other.url, index.url)
        }
        candidates = _companion_names(source.backend, catalog)
        if named & {name for names in candidates for name in names}:
            continue
        names = _companion_of(project, source.backend, catalog)
        yield _companion_missing(project, source, names)


def _required(project: Project, target: Target) -> bool:
    name = normalize(target.name or "")
    return any(
        item.package == "torch"
        and (target.kind == "base" or (item.target.kind, normalize(item.target.name or "")) == (target.kind, name))
        for item in project.requirements
    )


def _companion_names(backend: Backend, catalog: Catalog) -> list[tuple[str, ...]]:
    names = (backend.family, backend._replace(channel="").name)
    return [packages for whose, _, _, packages in catalog.companions if whose in names]


def _companion_of(project: Project, backend: Backend, catalog: Catalog) -> tuple[str, ...]:
    """The companions of the torch that the project will get from a backend."""
    from uvtorch.choose import Request, choose
    from uvtorch.machine import Machine

    texts = tuple(item.text for item in project.requirements if item.package == "torch")
    request = Request(texts[:1], requires_python=project.requires_python, backend=backend)
    return choose(Machine(EVERYWHERE[0]), request, catalog).companions


def _companion_missing(project: Project, source: Source, names: tuple[str, ...]) -> Finding:
    edits: list[edit.Operation] = []
    like = [one for one in entries(project, "torch") if (one.index, one.target) == (source.index, source.target)]
    target = source.target
    place = edit.Target("group", ANCHORS) if target.kind == "base" else edit.Target(target.kind, target.name or "")
    where = " or ".join(f"({one.marker})" if len(like) > 1 else one.marker for one in like if one.marker)
    for name in names:
        own = entries(project, name)
        if not rewritable(own):
            edits = []
            break
        every = all(one.marker for one in like)
        edits.append(edit.AddRequirement(place, f"{name} ; {where}" if where and every else name))
        edits.append(edit.SetSources(name, (*map(entry, own), *map(entry, like))))
    return Finding(
        "companion-missing",
        "error",
        f"torch comes from {source.backend}, and needs {', '.join(names)}, which only that index has: without a source "
        "and a requirement of its own uv cannot lock the project.",
        MEND if edits else None,
        tuple(edits),
    )

"""Which packages are PyTorch's, and what tells so where nothing is parsed. Every `uv pip install` loads it: light."""

import os
from functools import cache

from uvtorch.files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from uvtorch.argv import CommandLine
    from uvtorch.backend import Backend

ANCHORS = "uvtorch"
"""The name of `project.model.GROUP`."""


def normalize(name: str) -> str:
    """A name as PEP 503 normalizes it: `Torch_Vision` is `torch-vision`."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))


def _lines(file: str) -> list[str]:
    with open(os.path.join(os.path.dirname(__file__), "catalog", file), encoding="ascii") as lines:
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@cache
def roles() -> dict[str, str]:
    """The packages of PyTorch's indexes and their roles, from `packages.txt`.

    `pin`: it always comes from the backend's index; `companion`: torch's compiler; `specific`: built for some backends.
    """
    return dict(line.split()[:2] for line in _lines("packages.txt"))


@cache
def has_build(package: str, backend: "Backend | None", torch: str | None = None) -> bool:
    """Whether a backend's index has wheels of a package for a release of torch (None: for any)."""
    row = next((row for row in map(str.split, _lines("packages.txt")) if row[0] == package), [])
    first = dict(map(_version, row[2:]))
    if torch and tuple(map(int, torch.split(".")[:2])) < first.get("torch", ()):
        return False
    return not backend or not first or backend.version >= first.get(backend.family, (1000,))


def _version(text: str) -> tuple[str, tuple[int, ...]]:
    """`rocm10.0` as `("rocm", (10, 0))`."""
    family = text.rstrip("0123456789.")
    return family, tuple(map(int, filter(None, text.removeprefix(family).split("."))))


@cache
def dependents() -> dict[str, str]:
    """Packages known to require torch, with the extra that does, or "", from `dependents.txt`."""
    rows = (line.rstrip("]").partition("[") for line in _lines("dependents.txt"))
    return {name: extra for name, _, extra in rows}


@cache
def extension_names() -> frozenset[str]:
    """The packages compiled against torch with an index of their own, from `extensions.toml`."""
    rows = (line for line in _lines("extensions.toml") if line.startswith("[package."))
    return frozenset(line.removeprefix("[package.").rstrip("]") for line in rows)


def begins_with(text: str) -> str:
    """The normalized name that a requirement begins with; for a path or a URL alone, any text."""
    text = text.lstrip()
    end = next((at for at, char in enumerate(text) if not (char.isalnum() or char in "._-")), len(text))
    return normalize(text[:end])


def extras_of(text: str) -> list[str]:
    """The extras that a requirement asks for, as they are written."""
    listed = text.partition(";")[0].partition("[")[2].partition("]")[0]
    return [extra.strip() for extra in listed.split(",") if extra.strip()]


def brings_torch(requirements: "Iterable[str]", extras: "Sequence[str]") -> bool:
    """Whether one of these, with these extras besides its own, is known to require torch."""
    known = dependents()
    for text in requirements:
        name = begins_with(text)
        if name in known and (not known[name] or known[name] in (*extras_of(text), *extras)):
            return True
    return False


def rows_in(lock: bytes) -> list[bytes]:
    """The pieces of a uv.lock that are PyTorch's own packages."""
    import re  # noqa: PLC0415  an `add` that changes nothing loads nothing that it does not need

    names = "|".join(name for name, role in roles().items() if role == "pin")
    return re.findall(rb'\nname = "(?:%b)"(?s:.*?)(?=\n\[\[package\]\]|\s*\Z)' % names.encode(), lock)


def pinned_in(pyproject: bytes) -> set[str]:
    """The packages that a pyproject.toml takes from an index, whoever installs it.

    Empty unless the sources are as plain as uv's guide has them: without extras, groups, comments, names of platforms
    that may be wrong (`Linux`), and anything of uvtorch's own.
    """
    table = pyproject.partition(b"\n[tool.uv.sources]\n")[2].partition(b"\n[")[0]
    if b"uvtorch" in pyproject or any(word in table for word in (b"extra", b"group", b"#")) or not table.islower():
        return set()
    rows = table.replace(b"\n ", b" ").decode("utf-8", "replace").splitlines()
    return {row.partition(" = ")[0] for row in rows if "index = " in row}


def configures(pyproject: bytes) -> bool:
    """Whether a pyproject.toml has a `[tool.uvtorch]`, however it is spelled."""
    text = b"\n" + pyproject.translate(None, b" \t\"'\r")
    return any(part in text for part in (b"tool.uvtorch", b"uvtorch={", b"\nuvtorch.", b"{uvtorch.", b",uvtorch."))


# What a `pip`, `tool` or `run --with` command line names.


def names_pytorch(line: "CommandLine", env: "Mapping[str, str]") -> bool:
    """Whether a PyTorch package is named, or a file that may name one.

    For `run` and with `UV_TORCH_BACKEND=auto` what is known to bring torch along counts too; with that also what cannot
    be read (a URL).
    """
    texts, files = arguments(line, env)
    auto = env.get("UV_TORCH_BACKEND") == "auto"
    known = dependents() if auto or line.verb == "run" else {}
    if any(roles().get(name) == "pin" or name in known for name in map(begins_with, texts)):
        return True
    return any(_may_name(path, ("torch", *known), unread=auto) for path, _ in files)


def arguments(line: "CommandLine", env: "Mapping[str, str]") -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The requirements, and the files (a folder means its pyproject.toml) with the keys for `requirements_in`."""
    texts = [text for value in line.values("--with", "--with-executables-from") for text in _separated(value)]
    if line.verb == "pip install":
        texts += line.positionals
    elif line.verb in ("tool install", "tool run"):
        texts += map(_requirement, line.values("--from") or line.positionals[:1])
    base = line.value("--directory") or env.get("UV_WORKING_DIR") or ""
    return texts, [(path if path == "-" else os.path.join(base, path), keys) for path, keys in _files(line, texts)]


def _files(line: "CommandLine", texts: "Iterable[str]") -> "Iterator[tuple[str, list[str]]]":
    extras, groups = [], []
    if (line.verb or "").startswith("pip"):
        extras = [f"extra {name}" for name in (["*"] if line.has("--all-extras") else line.values("--extra"))]
        groups = line.values("--group")
    named = line.values("--requirements", "--with-requirements")
    named += line.positionals if line.verb in ("pip sync", "pip compile") else ()
    yield from ((file, ["base", *extras]) for file in named)
    folders = [text for text in texts if text.startswith(".") or "/" in text.partition("@")[0]]
    for text in [*line.values("--editable", "-e", "--with-editable"), *folders]:
        folder, _, own = text.partition("[")
        keys = (f"extra {name.strip()}" for name in own.rstrip("]").split(","))
        yield os.path.join(folder, "pyproject.toml"), ["base", *extras, *keys]
    for path, _, group in (value.rpartition(":") for value in groups):
        yield path or "pyproject.toml", [f"group {group}"]


def _separated(value: str) -> list[str]:
    """The requirements of a `--with`, as uv separates them: `a[b,c]>=1,<2,d` are `a[b,c]>=1,<2` and `d`."""
    found: list[str] = []
    for part in filter(str.strip, value.split(",")):
        if found and (found[-1].count("[") > found[-1].count("]") or not part.lstrip()[:1].isalpha()):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _requirement(word: str) -> str:
    """The requirement that a tool's name is: `torch@2.9.1` is `torch==2.9.1`, `torch@latest` is `torch`."""
    name, at, version = word.partition("@")
    if not at or version[:1] in ("", " "):
        return word
    return name if version == "latest" else f"{name}=={version}"


def _may_name(path: str, names: "Iterable[str]", *, unread: bool) -> bool:
    try:
        text = read(path).lower().replace(b"_", b"-")
    except OSError:
        return unread
    return any(name.encode() in text for name in (*names, "--requirement")) or b"\n-r" in b"\n" + text

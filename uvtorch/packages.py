"""Which packages are PyTorch's, and what tells so where nothing is parsed."""

import os
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uvtorch.backend import Backend

ANCHORS = "uvtorch"
"""The name of `project.model.GROUP`."""


def normalize(name: str) -> str:
    """A name as PEP 503 normalizes it: `Torch_Vision` is `torch-vision`."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))


def _lines(file: str) -> list[str]:
    """A list of the catalog, without comments."""
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

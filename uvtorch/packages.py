"""Which packages are PyTorch's: names only, read from a text file so that the door can ask without parsing TOML."""

import os
from functools import cache

ANCHORS = "uvtorch"
"""The dependency group that names what no requirement of the user's names, so that the sources apply to it.

uv applies a source to direct requirements only. A group that is not a default group is locked with the rest, is never
installed by itself and stays out of published metadata; a constraint would not route the package, an override would
erase what other packages ask of it.
"""


def normalize(name: str) -> str:
    """The normalized form of a distribution name (PEP 503): `Torch_Vision` is `torch-vision`."""
    name = name.lower().replace("_", "-").replace(".", "-")
    while "--" in name:
        name = name.replace("--", "-")
    return name


@cache
def roles() -> dict[str, str]:
    """Every package of the PyTorch ecosystem with its role, `pin`, `companion` or `specific` (see `packages.txt`)."""
    path = os.path.join(os.path.dirname(__file__), "catalog", "packages.txt")
    with open(path, encoding="ascii") as lines:
        rows = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    return {name: role.strip() for name, role in rows}


@cache
def dependents() -> dict[str, str]:
    """Packages known to require torch, with the extra that does so, or "" (see `dependents.txt`)."""
    path = os.path.join(os.path.dirname(__file__), "catalog", "dependents.txt")
    with open(path, encoding="ascii") as lines:
        rows = [line.strip().rstrip("]") for line in lines if line.strip() and not line.startswith("#")]
    return {name: extra for name, _, extra in (row.partition("[") for row in rows)}


def extension(name: str) -> bool:
    """Whether a normalized name is a package compiled against torch (see `extensions.toml`), told without TOML."""
    path = os.path.join(os.path.dirname(__file__), "catalog", "extensions.toml")
    with open(path, "rb") as file:
        return f"\n[package.{name}]\n".encode() in file.read()


def configures(pyproject: bytes) -> bool:
    """Whether a pyproject.toml has a `[tool.uvtorch]`, however it is spelled, told without reading TOML.

    The dependency group `uvtorch`, and the name among requirements, configure nothing.
    """
    text = b"\n" + pyproject.translate(None, b" \t\"'\r")
    return any(part in text for part in (b"tool.uvtorch", b"uvtorch={", b"\nuvtorch.", b"{uvtorch.", b",uvtorch."))


def pinned() -> frozenset[str]:
    """The packages that always come from the backend's index: role `pin`."""
    return frozenset(name for name, role in roles().items() if role == "pin")


def from_pytorch_index() -> frozenset[str]:
    """The packages that a PyTorch index serves by right: all of `roles()`."""
    return frozenset(roles())


def named_by(requirement: str) -> str | None:
    """The normalized name of a requirement that an index can serve; None for a URL, a path, a repository."""
    text = requirement.strip()
    end = 0
    while end < len(text) and (text[end].isalnum() or text[end] in "._-"):
        end += 1
    name, rest = text[:end], text[end:].lstrip()
    if not name or not name[0].isalnum():
        return None
    if rest.startswith("["):
        rest = rest.partition("]")[2].lstrip()
    if rest and rest[0] not in "<>=!~;(":
        return None
    return normalize(name.rstrip("._-"))


def bare_requirement(requirement: str) -> str:
    """A registry requirement without version and marker: `torch[opt] >= 2 ; m` is `torch[opt]`."""
    head = requirement.partition(";")[0]
    end = min((at for sign in "<>=!~(" if (at := head.find(sign)) >= 0), default=len(head))
    return head[:end].strip()

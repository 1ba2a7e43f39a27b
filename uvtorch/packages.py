"""Which packages are PyTorch's: names only, read from text files so that the door can ask without parsing TOML."""

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


def _lines(file: str) -> list[str]:
    """The lines of one of the catalog's lists, without comments."""
    with open(os.path.join(os.path.dirname(__file__), "catalog", file), encoding="ascii") as lines:
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@cache
def roles() -> dict[str, str]:
    """Every package that a PyTorch index serves by right, with its role (see `packages.txt`).

    `pin`: it always comes from the backend's index; `companion`: torch's compiler; `specific`: built for some backends.
    """
    return dict(line.split()[:2] for line in _lines("packages.txt"))


@cache
def dependents() -> dict[str, str]:
    """Packages known to require torch, with the extra that does so, or "" (see `dependents.txt`)."""
    rows = (line.rstrip("]").partition("[") for line in _lines("dependents.txt"))
    return {name: extra for name, _, extra in rows}


def configures(pyproject: bytes) -> bool:
    """Whether a pyproject.toml has a `[tool.uvtorch]`, however it is spelled, told without reading TOML.

    The dependency group `uvtorch`, and the name among requirements, configure nothing.
    """
    text = b"\n" + pyproject.translate(None, b" \t\"'\r")
    return any(part in text for part in (b"tool.uvtorch", b"uvtorch={", b"\nuvtorch.", b"{uvtorch.", b",uvtorch."))

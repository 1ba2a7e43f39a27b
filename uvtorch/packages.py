"""Which packages are PyTorch's: names only, read from a text file so that the door can ask without parsing TOML."""

import os
from functools import cache


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


def pinned() -> frozenset[str]:
    """The packages that always come from the backend's index: role `pin`."""
    return frozenset(name for name, role in roles().items() if role == "pin")


def from_pytorch_index() -> frozenset[str]:
    """The packages that a PyTorch index serves by right: all of `roles()`."""
    return frozenset(roles())

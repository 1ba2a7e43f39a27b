"""The requirements, and the files of requirements, on a `pip`, `tool` or `run --with` command line.

Light: this lies on the way of every `uv pip install`.
"""

import os

from uvtorch.files import read
from uvtorch.packages import begins_with, dependents, roles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from uvtorch.argv import CommandLine


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
    """Whether a file has one of the names in it, or refers to another file."""
    try:
        text = read(path).lower().replace(b"_", b"-")
    except OSError:
        return unread
    return any(name.encode() in text for name in (*names, "--requirement")) or b"\n-r" in b"\n" + text

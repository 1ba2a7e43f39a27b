"""What a `pip`, `tool` or `run --with` command line names: requirements, and files that hold requirements.

Light: this lies on the way of every `uv pip install`.
"""

import os

from uvtorch.files import read
from uvtorch.packages import begins_with, dependents, roles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from uvtorch.argv import CommandLine


def names_pytorch(line: "CommandLine", env: "Mapping[str, str]") -> bool:
    """Whether a PyTorch package is named, or a file that may name one.

    With `UV_TORCH_BACKEND=auto`, packages that are known to bring torch along count as well.
    """
    texts, files = arguments(line, env)
    known = dependents() if env.get("UV_TORCH_BACKEND") == "auto" else {}
    names = [*map(begins_with, texts)]
    return any(roles().get(name) == "pin" or name in known for name in names) or any(map(_may_name, files))


def arguments(line: "CommandLine", env: "Mapping[str, str]") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The requirements that the command line names, and the paths of the files; a folder means its pyproject.toml."""
    verb, positionals = line.verb or "", line.positionals
    files = [*line.values("--requirements"), *line.values("--with-requirements")]
    folders = [*line.values("--editable"), *line.values("-e"), *line.values("--with-editable")]
    listed = [*line.values("--with"), *line.values("--with-executables-from")]
    texts = [text for value in listed for text in _separated(value)]
    if verb in ("pip sync", "pip compile"):
        files += positionals
    elif verb == "pip install":
        texts += positionals
    elif verb.startswith("tool"):
        texts += map(_requirement, line.values("--from") or positionals[:1])
    folders += [text for text in texts if text.startswith(".") or "/" in text.partition("@")[0]]
    files += [os.path.join(folder.partition("[")[0], "pyproject.toml") for folder in folders]
    base = line.value("--directory") or env.get("UV_WORKING_DIR") or ""
    return tuple(texts), tuple(os.path.join(base, file) for file in files)


def _separated(value: str) -> "Iterator[str]":
    """The requirements of `--with a[b,c]>=1,<2,d`, as uv separates them: `a[b,c]>=1,<2` and `d`."""
    text = ""
    for part in value.split(","):
        if text and (text.count("[") > text.count("]") or not part.strip()[:1].isalpha()):
            text += f",{part}"
            continue
        if text:
            yield text
        text = part.strip()
    yield text


def _requirement(word: str) -> str:
    """The requirement that a tool's name is: `torch@2.9.1` is `torch==2.9.1`, `torch@latest` is `torch`."""
    name, at, version = word.partition("@")
    if not at or version[:1] in ("", " "):
        return word
    return name if version == "latest" else f"{name}=={version}"


def _may_name(path: str) -> bool:
    """Whether a file has the name of a PyTorch package in it, or refers to another file."""
    try:
        text = read(path).lower()  # not a pipe's (`-r <(…)`): what is read there is lost to uv
    except OSError:
        return False
    return b"torch" in text or b"\n-r" in b"\n" + text or b"--requirement" in text

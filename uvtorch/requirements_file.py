"""Requirements files as pip and uv read them, as far as the names in them matter."""

import os
import tomllib
from collections.abc import Collection, Iterator

from uvtorch import files
from uvtorch.errors import UvtorchError
from uvtorch.packages import normalize
from uvtorch.project import read
from uvtorch.project.script import script_block


def requirements_in(path: str, keys: Collection[str] = ("base",), seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The requirements in a file as pip reads them: `-r` files included, comments and options left out.

    Files of other kinds that uv takes here (pyproject.toml, scripts) give what their metadata requires, pyproject.toml
    for `keys`: `base`, `extra NAME` (`*`: all), `group NAME`. A file that cannot be read gives nothing: uv says so
    better.
    """
    if path in seen:
        return
    text = files.text(path)
    if text is None:
        return
    if path.endswith((".toml", ".py")):
        yield from _metadata_requirements(path, text, keys)
        return
    for row in text.replace("\\\n", " ").splitlines():
        entry = row.partition(" #")[0].strip()
        if entry.startswith(("-r", "--requirement")):
            name = entry.removeprefix("--requirement").removeprefix("-r").lstrip(" =")
            yield from requirements_in(os.path.join(os.path.dirname(path), name), keys, seen | {path})
        elif entry and not entry.startswith(("#", "-")):
            yield entry.partition(" --")[0].rstrip()


def _metadata_requirements(path: str, text: str, keys: Collection[str]) -> Iterator[str]:
    script = path.endswith(".py")
    try:
        data = tomllib.loads((script_block(text) or "") if script else text)
        project = read({"project": data} if script else data)
    except (tomllib.TOMLDecodeError, UvtorchError):
        return
    named = {*map(normalize, keys)}
    for item in project.requirements:
        if not named.isdisjoint((normalize(str(item.target)), f"{item.target.kind} *")):
            yield item.text

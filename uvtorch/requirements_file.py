"""Requirements files as pip and uv read them, as far as the names in them matter."""

import os
import tomllib
from collections.abc import Iterator

from uvtorch import files
from uvtorch.project.script import script_block


def requirements_in(path: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """The requirements in a file as pip reads them: `-r` files included, comments and options left out.

    Files of other kinds that uv takes here (pyproject.toml, scripts) give what their metadata requires. A file that
    cannot be read gives nothing: uv says so better.
    """
    if path in seen:
        return
    text = files.text(path)
    if text is None:
        return
    if path.endswith((".toml", ".py")):
        yield from _metadata_requirements(path, text)
        return
    for row in text.replace("\\\n", " ").splitlines():
        entry = row.partition(" #")[0].strip()
        if entry.startswith(("-r", "--requirement")):
            name = entry.removeprefix("--requirement").removeprefix("-r").lstrip(" =")
            yield from requirements_in(os.path.join(os.path.dirname(path), name), seen | {path})
        elif entry and not entry.startswith(("#", "-")):
            yield entry.partition(" --")[0].rstrip()


def _metadata_requirements(path: str, text: str) -> Iterator[str]:
    try:
        data = tomllib.loads((script_block(text) or "") if path.endswith(".py") else text)
    except tomllib.TOMLDecodeError:
        return
    table = data if path.endswith(".py") else data.get("project", {})
    dependencies = table.get("dependencies", ()) if isinstance(table, dict) else ()
    yield from (entry for entry in dependencies if isinstance(entry, str))

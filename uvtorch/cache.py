"""What `--auto` came to the last time, kept in `.venv`: reading TOML costs more than starting Python.

The inputs are compared by a hash: files by time, size and inode, options, variables, and a fingerprint of the hardware.
No variable's value is written: `.venv` ends in image layers. Imports little.
"""

import os

from uvtorch import __version__, files
from uvtorch.argv import CommandLine
from uvtorch.errors import ProjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uvtorch.session import Session


def recall(line: CommandLine, env: "Mapping[str, str]") -> "tuple[tuple[str, ...], tuple[str, ...]] | None":
    """(options to add, lines to say) for a command that was worked out before, if nothing has changed since."""
    found = _record(line, env)
    if found is None or os.path.islink(found[0]):
        return None
    try:
        digest, *rows, end = files.read(found[0], 65536).decode().split("\n")
    except (OSError, ValueError):
        return None
    if digest != found[1] or end != "end":
        return None
    options, said = [], []
    for row in rows:
        kind, _, text = row.partition(" ")
        if kind == "say":
            said.append(text)
        elif kind in ("--extra", "--group", "--no-group") and text and text[0].isalnum():
            options += [kind, text]
        else:
            return None
    return tuple(options), tuple(said)


def remember(session: "Session", options: "Sequence[str]", said: "Sequence[str]", warned: "Sequence[str]") -> None:
    """Write the record by which `recall` finds this result again, if that is possible."""
    if session.dry or session.line.has("--dry-run") or session.is_script or session.catalog_directory:
        return
    found = _record(session.line, session.env)
    if found is None:
        return
    pairs = map(" ".join, zip(options[::2], options[1::2], strict=True))
    rows = [found[1], *pairs, *(f"say uvtorch: {text}" for text in said), *(f"say warning: {text}" for text in warned)]
    text = "\n".join([*rows, "end"])
    if text.splitlines() != [*rows, "end"]:  # a name with a line break in it
        return
    temporary = f"{found[0]}-{os.urandom(6).hex()}"
    try:
        files.create(temporary, text.encode("utf-8", "surrogateescape"))
        os.replace(temporary, found[0])
    except OSError:
        pass


def _directory(line: CommandLine, env: "Mapping[str, str]") -> str | None:
    """The project's, where it stands alone and decides, and not a workspace or a script."""
    if line.has("--script", "--package", "--all-packages", "--dry-run") or "UV_PROJECT_ENVIRONMENT" in env:
        return None
    try:
        script = files.script_of_run(line, env)
        project = files.find_project(files.project_directory(line, env))
    except ProjectError:
        return None
    if project is None or files.may_be_member(project) or (script and "# /// script" in (files.text(script) or "")):
        return None
    return os.path.dirname(project)


def _record(line: CommandLine, env: "Mapping[str, str]") -> tuple[str, str] | None:
    """The record's path, and a hash of the inputs; None for what is not remembered."""
    directory = _directory(line, env)
    if directory is None:
        return None
    environment = os.path.join(directory, ".venv")
    config = os.path.join(environment, "pyvenv.cfg")
    if not os.path.isfile(config):
        return None
    from uvtorch.fingerprint import fingerprint, state  # noqa: PLC0415  only where there is an environment

    hardware = fingerprint(env)
    if not hardware:
        return None
    names = ("pyproject.toml", "uv.lock", "uv.toml", ".python-version", config)
    states = [state(os.path.join(directory, name)) for name in names]
    variables = sorted((name, value) for name, value in env.items() if name.startswith(("UV_", "UVTORCH_")))
    package = state(os.path.dirname(__file__))
    inputs = (__version__, package, directory, line.verb, line.options, line.ours, variables, states, hardware)
    return os.path.join(environment, f".uvtorch-{line.verb}"), _digest(repr(inputs))


def _digest(text: str) -> str:
    try:
        from _blake2 import blake2b  # noqa: PLC0415  only where there is an environment
    except ImportError:
        from hashlib import blake2b  # noqa: PLC0415  only where there is an environment
    return str(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest())

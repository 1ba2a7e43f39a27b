"""Where uv looks for a project. Light: this lies on the way of a plain `uv run`."""

import os

from uvtorch import files
from uvtorch.errors import ProjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from uvtorch.argv import CommandLine


def current_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv works: `--directory` or `UV_WORKING_DIR`. Raises ProjectError where there is no such directory."""
    try:
        here = os.getcwd()
    except OSError:
        raise ProjectError("the current directory does not exist any more") from None
    named = line.value("--directory") or env.get("UV_WORKING_DIR")
    directory = os.path.realpath(os.path.join(here, named)) if named else here  # uv changes to it
    if not os.path.isdir(directory):
        raise ProjectError(f"there is no directory {named} to work in")
    return directory


def project_directory(line: "CommandLine", env: "Mapping[str, str]") -> str:
    """Where uv looks for a project: `--project` or `UV_PROJECT`, a directory or the pyproject.toml in it.

    Raises ProjectError where there is no such directory.
    """
    here, named = current_directory(line, env), line.value("--project") or env.get("UV_PROJECT")
    directory = os.path.normpath(os.path.join(here, named)) if named else here
    if os.path.basename(directory) == "pyproject.toml" and os.path.isfile(directory):
        return os.path.dirname(directory)
    if not os.path.isdir(directory):
        raise ProjectError(f"the project directory {named} does not exist")
    return directory


def script_of_run(line: "CommandLine", env: "Mapping[str, str]") -> str | None:
    """The file that `run` is given, whose own metadata, if any, takes the project's place."""
    if line.verb != "run" or not line.positionals or line.has("--module", "-m"):
        return None
    path = os.path.join(current_directory(line, env), line.positionals[0])
    return path if path.endswith(".py") or line.has("--script", "-s") else None


def find(directory: str) -> str | None:
    """The pyproject.toml in `directory` or the nearest of its parents."""
    path = os.path.join(directory, "pyproject.toml")
    while not os.path.isfile(path):
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory, path = parent, os.path.join(parent, "pyproject.toml")
    return path


def may_be_member(path: str) -> bool:
    """Whether the nearest pyproject.toml above this one, which decides for uv, speaks of a workspace."""
    directory = os.path.dirname(path)
    above = find(os.path.dirname(directory)) if os.path.dirname(directory) != directory else None
    return above is not None and "workspace" in (files.text(above) or "workspace")

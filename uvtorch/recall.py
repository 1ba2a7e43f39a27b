"""What `--auto` came to the last time, remembered beside the environment that it was for.

`uvtorch run --auto` is typed all day, and reading TOML costs more than starting Python. The choice is a pure function;
here its inputs are compared instead: the files by their time, size and inode, the options, uv's and uvtorch's
variables, and the machine, which is asked anew each time. One record a verb, and only for projects that stand alone,
not for workspaces.
"""

import os

from uvtorch import __version__, locate
from uvtorch.errors import ProjectError
from uvtorch.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from uvtorch.argv import CommandLine
    from uvtorch.machine import Machine


def recall(line: "CommandLine", env: "Mapping[str, str]") -> Plan | None:
    """The plan for a command line that was planned before, if nothing has changed since; else None.

    Raises UsageError and MachineError as `hardware.detect` does.
    """
    subject = _subject(line, env)
    if subject is None:
        return None
    path, inputs = subject
    try:
        with open(path, encoding="utf-8") as file:
            rows = file.read().split("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if len(rows) < 3 or rows[0] != inputs or rows[-1]:  # the last row is whole only where it has ended
        return None
    from uvtorch.hardware import detect

    if rows[1] != _told(detect(env)):
        return None
    kinds: dict[str, list[str]] = {"option": [], "decision": [], "warning": []}
    for row in rows[2:-1]:
        kind, _, text = row.partition(" ")
        if kind not in kinds:
            return None
        kinds[kind].append(text)
    last = tuple(line.with_options(*kinds["option"]))
    return Plan(last=last, decisions=tuple(kinds["decision"]), warnings=tuple(kinds["warning"]))


def remembering(
    plan: Plan, line: "CommandLine", env: "Mapping[str, str]", machine: "Machine", options: tuple[str, ...]
) -> Plan:
    """The same plan with the record by which `recall` finds it again.

    `options` are those that it adds to the command line.
    """
    subject = _subject(line, env)
    if subject is None:
        return plan
    path, inputs = subject
    rows = [inputs, _told(machine)]
    rows += [f"option {text}" for text in options]
    rows += [f"decision {text}" for text in plan.decisions]
    rows += [f"warning {text}" for text in plan.warnings]
    if any("\n" in row or "\r" in row for row in rows):
        return plan
    return plan._replace(remembered=(path, ("\n".join(rows) + "\n").encode("utf-8", "surrogatepass")))


def _told(machine: "Machine") -> str:
    return repr(machine._replace(probes=()))


def _subject(line: "CommandLine", env: "Mapping[str, str]") -> tuple[str, str] | None:
    """The record's path, and all that the choice rests on besides the machine; None for what is not remembered."""
    if line.has("--script", "--package", "--all-packages") or "UV_PROJECT_ENVIRONMENT" in env:
        return None
    if line.verb == "run" and line.positionals and _may_be_script(line, env):
        return None
    try:
        manifest = locate.find(locate.project_directory(line, env))
        if manifest is None:
            return None
        directory = os.path.dirname(manifest)
        above = os.path.dirname(directory)
        if above != directory and locate.find(above) is not None:
            return None
    except ProjectError:
        return None
    environment = os.path.join(directory, ".venv")
    files = [os.path.join(directory, name) for name in ("pyproject.toml", "uv.lock", ".python-version")]
    config = os.path.join(environment, "pyvenv.cfg")
    if not os.path.isfile(config):
        return None
    variables = sorted((name, value) for name, value in env.items() if name.startswith(("UV_", "UVTORCH_")))
    states = [_state(path) for path in (*files, config)]
    inputs = repr((__version__, directory, line.verb, line.options, line.ours, variables, states))
    return os.path.join(environment, f".uvtorch-{line.verb}"), inputs


def _may_be_script(line: "CommandLine", env: "Mapping[str, str]") -> bool:
    """Whether `run` is given a file with metadata of its own, which takes the project's place."""
    if line.has("--script", "-s"):
        return True
    path = line.positionals[0]
    if not path.endswith(".py") or line.has("--module", "-m"):
        return False
    try:
        with open(os.path.join(locate.current_directory(line, env), path), "rb") as file:
            return b"# /// script" in file.read()
    except OSError:
        return False


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

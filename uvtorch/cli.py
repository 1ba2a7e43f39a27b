"""The door: act, or hand the command line over to uv. One catcher for errors; exit codes.

On the hand-over path nothing is imported but `argv` and `uv`, no file is read and no hardware is asked.
"""

import os
import sys

from uvtorch import argv as command_lines
from uvtorch import uv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from uvtorch.argv import CommandLine
    from uvtorch.errors import UvtorchError
    from uvtorch.plan import Plan
    from uvtorch.verbs.deciding import UvFinder


def main() -> int:
    """Run uvtorch on `sys.argv`; the exit code. Does not return where uv takes over."""
    words = sys.argv[1:]
    try:
        return _act(words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our stdout is gone; so is what is buffered
        return 141
    except Exception as error:
        from uvtorch.errors import UvtorchError

        if isinstance(error, UvtorchError):
            return _refuse(error)
        raise


def _act(words: list[str]) -> int:
    line = command_lines.parse(words)
    if line.verb is None:
        if line.has("--version") and line.unknown is None:
            return _with_uv(words, _version)
        if line.has("--help") and line.unknown is None:
            return _with_uv(words, _help)
    elif line.verb == "torch":
        return _torch(line)
    elif line.verb in command_lines.VERBS:
        if line.has("--help") and line.verb != "help":
            return _with_uv(line.argv, lambda: _help_on(line.verb or ""))
        if line.unknown is not None:
            return _unknown(line)
        if _concerns_us(line):
            return _plan(line)
    elif words == ["help"]:
        return _with_uv(words, _help)
    return uv.hand_over(uv.find(os.environ), words)


def _concerns_us(line: "CommandLine") -> bool:
    """Whether there may be something to do, told without reading more than a pyproject.toml that names uvtorch."""
    if line.ours:
        return True
    if line.verb in ("add", "remove"):
        from uvtorch.packages import named_by, pinned

        if line.has("--requirements"):
            return True
        names = pinned()
        return any(named_by(text) in names for text in line.positionals) or _configured(line)
    if line.verb in ("sync", "run", "export"):
        return bool(os.environ.get("UV_TORCH_BACKEND")) or _configured(line)
    return line.verb == "lock" and bool(os.environ.get("UV_TORCH_BACKEND"))


def _configured(line: "CommandLine") -> bool:
    """Whether a pyproject.toml here or above speaks of uvtorch."""
    directory = os.path.join(os.getcwd(), line.value("--directory") or os.environ.get("UV_WORKING_DIR") or "")
    directory = os.path.join(directory, line.value("--project") or os.environ.get("UV_PROJECT") or "")
    directory = os.path.normpath(directory)
    while True:
        try:
            with open(os.path.join(directory, "pyproject.toml"), "rb") as file:
                if b"uvtorch" in file.read():
                    return True
        except OSError:
            pass
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent


def _plan(line: "CommandLine") -> int:
    from uvtorch.verbs.deciding import UvFinder

    find_uv = UvFinder(os.environ)
    compiled = _compiled(line, find_uv)
    only_show = line.ours_has("--dry-run") or bool(compiled.edits and line.has("--dry-run"))
    return _carry_out(compiled, find_uv, quiet=line.has("--quiet"), only_show=only_show)


def _carry_out(compiled: "Plan", find_uv: "Callable[[], str]", *, quiet: bool, only_show: bool) -> int:
    from uvtorch import plan

    if only_show:
        print(plan.show(compiled), end="")
        return 0
    path = find_uv()
    plan.report(compiled, quiet)
    return plan.apply(compiled, path)


def _compiled(line: "CommandLine", find_uv: "UvFinder") -> "Plan":
    if line.verb == "add":
        from uvtorch.verbs.add import compile_add

        return compile_add(line, os.environ, find_uv)
    if line.verb == "remove":
        from uvtorch.verbs.remove import compile_remove

        return compile_remove(line, os.environ)
    from uvtorch.verbs.sync import compile_sync

    return compile_sync(line, os.environ, find_uv)


def _unknown(line: "CommandLine") -> int:
    """An option that no table knows: its arguments cannot be told from the rest, so uv gets all, or nobody."""
    if line.ours:
        from uvtorch.errors import UsageError

        raise UsageError(
            f"uvtorch does not know the option {line.unknown} of `uv {line.verb}`",
            "without uvtorch's own options the command goes to uv as it is",
        )
    return uv.hand_over(uv.find(os.environ), line.argv)


def _torch(line: "CommandLine") -> int:
    from uvtorch.locate import project_directory
    from uvtorch.verbs import torch

    result = torch.run(line.positionals, torch.Context(os.environ, project_directory(line, os.environ), line))
    if isinstance(result, int):
        return result
    return _carry_out(result.plan, lambda: uv.find(os.environ), quiet=line.has("--quiet"), only_show=result.dry_run)


def _with_uv(words: list[str], then: "Callable[[], str]") -> int:
    """Let uv speak first; add our words if it is well."""
    with uv.Interrupted() as interrupted:
        code = uv.run(uv.find(os.environ), words, interrupted)
    if code == 0:
        print(then(), flush=True)
    return code


def _version() -> str:
    from uvtorch import __version__

    return f"uvtorch {__version__}"


_ADDED = {
    "--torch-backend": "PyTorch build: auto, cpu, cu126, rocm6.4, xpu, nightly/cu130 … [env: UV_TORCH_BACKEND=]",
    "--auto": "The same as --torch-backend auto",
    "--dry-run": "Print the decision, the edits and the uv commands; change nothing",
}


def _help() -> str:
    verbs: dict[str, list[str]] = {name: [] for name in _ADDED}
    for table in (command_lines.OUR_VALUES, command_lines.OUR_FLAGS):
        for verb, names in table.items():
            for name in names:
                verbs[name].append(verb)
    rows = [f"  {', '.join(verbs[name])} {name}\n          {text}" for name, text in _ADDED.items()]
    rows.append("  torch <VERB>\n          What this machine is, what it can run, and why: `uvtorch torch --help`")
    return "\n".join(["", "uvtorch adds:", *rows])


def _help_on(verb: str) -> str:
    ours = (*command_lines.OUR_VALUES.get(verb, ()), *command_lines.OUR_FLAGS.get(verb, ()))
    return "\n".join(["", "uvtorch adds:", *(f"      {name:<16} {_ADDED[name]}" for name in ours)]) if ours else ""


def _refuse(error: "UvtorchError") -> int:
    print(f"error: {error}", file=sys.stderr)
    for hint in error.hints:
        print(f"hint: {hint}", file=sys.stderr)
    return error.exit_code

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
    from typing import NoReturn

    from uvtorch.argv import CommandLine
    from uvtorch.errors import UvtorchError
    from uvtorch.plan import Plan


def main() -> "NoReturn":
    """The program: `run`, and the end of the process, without taking the interpreter apart piece by piece.

    That takes a third of a bare start of Python, and all that it would do for us is to write what is buffered.
    """
    code = run()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            pass
    os._exit(code)


def run() -> int:
    """Run uvtorch on `sys.argv`; the exit code. Does not return where uv takes over."""
    try:
        code = _act(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is not None or error.errno not in _STDOUT_FAILURES:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
        if isinstance(error, BrokenPipeError):
            return 141
        from uvtorch.errors import UvtorchError

        return _refuse(UvtorchError(f"cannot write the output: {error.strerror}"))
    except Exception as error:
        from uvtorch.errors import UvtorchError

        if isinstance(error, UvtorchError):
            return _refuse(error)
        raise


_STDOUT_FAILURES = (5, 28, 32)
"""EIO, ENOSPC, EPIPE: what our own output can meet."""


def _act(words: list[str]) -> int:
    line = command_lines.parse(words)
    if line.unknown is not None:
        return _unknown(line)
    if line.verb is None:
        if line.has("--version"):
            return _with_uv(words, _version)
        if line.has("--help"):
            return _with_uv(words, _help)
    elif line.verb == "torch":
        return _torch(line)
    elif line.verb == "help":
        return _help_verb(line)
    elif line.verb in command_lines.VERBS:
        if line.has("--help"):
            return _with_uv(line.argv, lambda: _help_on(line.verb or ""))
        if _concerns_us(line):
            return _plan(line)
    return uv.hand_over(uv.find(os.environ), words)


def _concerns_us(line: "CommandLine") -> bool:
    """Whether there may be something to do, told without reading more than a pyproject.toml that names uvtorch."""
    if line.verb in ("add", "remove", "lock"):  # whatever changes the lock may bring PyTorch along
        return True
    return bool(line.ours or os.environ.get("UV_TORCH_BACKEND")) or _configured(line)


def _names_pytorch(line: "CommandLine") -> bool:
    """Whether an `add`, `remove` or `lock` speaks of PyTorch; if not, only what uv makes of it may concern us."""
    if line.ours_has("--torch-backend") or os.environ.get("UV_TORCH_BACKEND"):
        return True
    if line.verb == "lock":
        return False
    if line.has("--requirements"):
        return True
    from uvtorch.packages import extension, named_by, pinned

    names = pinned()
    found = [named_by(text) for text in line.positionals]
    return any(name in names or extension(name or "") for name in found) or _configured(line)


def _configured(line: "CommandLine") -> bool:
    """Whether a pyproject.toml here or above configures uvtorch.

    Not by `locate`: on the way to a plain `uv run` its imports would cost more than all else.
    """
    try:
        directory = os.getcwd()
    except OSError:
        return False
    named = line.value("--directory") or os.environ.get("UV_WORKING_DIR")
    directory = os.path.realpath(os.path.join(directory, named)) if named else directory
    directory = os.path.join(directory, line.value("--project") or os.environ.get("UV_PROJECT") or "")
    directory = os.path.normpath(directory)
    while True:
        try:
            with open(os.path.join(directory, "pyproject.toml"), "rb") as file:
                text = file.read()
                if b"uvtorch" in text:
                    from uvtorch.packages import configures

                    if configures(text):
                        return True
        except OSError:
            pass
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent


def _plan(line: "CommandLine") -> int:
    import gc

    gc.disable()  # a short life: collecting costs milliseconds and finds nothing worth it
    command_lines.torch_backend(line)  # a mistake in our own options is told wherever it is made
    compiled = _compiled(line)
    only_show = line.ours_has("--dry-run") or bool(compiled.edits and line.has("--dry-run"))
    return _carry_out(compiled, quiet=line.has("--quiet"), only_show=only_show)


def _find_uv() -> str:
    return uv.find(os.environ)


def _carry_out(compiled: "Plan", *, quiet: bool, only_show: bool) -> int:
    from uvtorch import plan

    if only_show:
        _speak_safely()
        print(plan.show(compiled), end="")
        return 0
    path = _find_uv()
    plan.report(compiled, quiet)
    return plan.apply(compiled, path, quiet)


def _compiled(line: "CommandLine") -> "Plan":
    if line.verb in ("add", "remove", "lock") and not _names_pytorch(line):
        from uvtorch.verbs.transitive import compile_watched

        return compile_watched(line, os.environ, _find_uv)
    if line.verb == "add":
        from uvtorch.verbs.add import compile_add

        return compile_add(line, os.environ, _find_uv)
    if line.verb == "remove":
        from uvtorch.verbs.remove import compile_remove

        return compile_remove(line, os.environ, _find_uv)
    from uvtorch.recall import recall

    known = recall(line, os.environ) if line.verb != "lock" else None
    if known is not None:
        return known
    from uvtorch.verbs.sync import compile_sync

    return compile_sync(line, os.environ, _find_uv)


def _unknown(line: "CommandLine") -> int:
    """An option that no table knows: its arguments cannot be told from the rest, so uv gets all, or nobody."""
    if line.ours or line.verb == "torch":
        from uvtorch.errors import UsageError

        verb = f" of `uv {line.verb}`" if line.ours else ""
        raise UsageError(
            f"uvtorch does not know the option {line.unknown}{verb}",
            "without uvtorch's own options the command goes to uv as it is",
        )
    return uv.hand_over(uv.find(os.environ), line.argv)


def _help_verb(line: "CommandLine") -> int:
    """`uv help`, `uv help add`; our own verbs are ours to explain."""
    if line.positionals[:1] == ["torch"]:
        line.positionals = [*line.positionals[1:], "--help"]
        return _torch(line)
    verb = line.positionals[0] if line.positionals else None
    if verb is None:
        return _with_uv(line.argv, _help)
    if verb in command_lines.VERBS:
        return _with_uv(line.argv, lambda: _help_on(verb))
    return uv.hand_over(uv.find(os.environ), line.argv)


def _torch(line: "CommandLine") -> int:
    from uvtorch.locate import project_directory
    from uvtorch.verbs import torch

    _speak_safely()
    result = torch.run(line.positionals, torch.Context(os.environ, project_directory(line, os.environ), line))
    if isinstance(result, int):
        return result
    return _carry_out(result.plan, quiet=line.has("--quiet"), only_show=result.dry_run)


def _with_uv(words: list[str], then: "Callable[[], str]") -> int:
    """Let uv speak first; add our words if it is well."""
    with uv.Interrupted() as interrupted:
        code = uv.run(uv.find(os.environ), words, interrupted)
    if code == 0:
        text = then()
        if text:
            _speak_safely()
            print(text, flush=True)
    return code


def _speak_safely() -> None:
    """Names and texts may hold characters that stdout's encoding lacks: they are escaped, as stderr does."""
    if sys.stdout is not None and getattr(sys.stdout, "errors", None) == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


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
    if sys.stderr is not None:  # closed: print would take stdout in its place
        for line in (f"error: {error}", *(f"hint: {hint}" for hint in error.hints)):
            print(line, file=sys.stderr)
    return error.exit_code

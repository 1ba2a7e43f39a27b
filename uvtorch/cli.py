"""The door: act, or hand the command line over to uv, with nothing imported but `argv` and `uv`. Catches errors."""

import os
import sys

from uvtorch import argv as command_lines
from uvtorch import uv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from uvtorch.argv import CommandLine
    from uvtorch.output import Output

    Added = tuple[Callable[[Output], None], int] | None


def main() -> "NoReturn":
    """Run uvtorch on `sys.argv` and end the process at once: Python's own end takes a third of its start."""
    os._exit(run())


def run() -> int:
    """Run uvtorch on `sys.argv`; the exit code. Does not return where uv takes over."""
    try:
        code = _act(command_lines.parse(sys.argv[1:]))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from uvtorch.errors import UvtorchError

        stdout_failures = 5, 28, 32  # EIO, ENOSPC, EPIPE
        if isinstance(error, OSError) and error.filename is None and error.errno in stdout_failures:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
            if isinstance(error, BrokenPipeError):
                return 141
            error = UvtorchError(f"cannot write the output: {error.strerror}")
        if not isinstance(error, UvtorchError):
            raise
        from uvtorch.output import Output

        Output(command_lines.parse(sys.argv[1:]), os.environ).error(error)
        return error.exit_code


def _act(line: "CommandLine") -> int:
    if line.unknown is not None:
        return _unknown(line)
    if line.verb == "torch":
        return _torch(line)
    if line.verb == "help":  # `uv help`, `uv help add`
        if line.positionals[:1] == ["torch"]:
            line.positionals = [*line.positionals[1:], "--help"]
            return _torch(line)
        added = _helped(*line.positionals[:1])
    else:
        added = _added(line)
    if added:
        return _with_uv(line, *added)
    if line.verb in command_lines.VERBS and _concerns_us(line):
        return _do(line)
    return uv.hand_over(uv.find(os.environ), line.typed)


def _helped(verb: str | None = None) -> "Added":
    return (lambda out: _help(out, verb), 0) if verb in (None, *command_lines.VERBS) else None


def _added(line: "CommandLine") -> "Added":
    """What is ours to say after uv, and on which exit code."""
    if line.verb is None and line.has("--version"):
        from uvtorch import __version__

        return lambda out: out.line(f"uvtorch {__version__}"), 0
    if line.has("--help"):
        return _helped(line.verb)
    if not line.typed:  # uv's to refuse, as is a verb of ours without its `torch`
        hint = "`uvtorch torch` is about PyTorch's builds, and `uvtorch --help` shows what else it adds"
    elif line.verb in command_lines.TORCH_VERBS:
        hint = f"did you mean `uvtorch torch {line.verb}`?"
    else:
        return None
    return lambda out: out.tell("hint", hint), 2


def _concerns_us(line: "CommandLine") -> bool:
    if line.verb in ("add", "remove", "lock"):  # whatever changes the lock may bring PyTorch along
        return True
    if line.verb in command_lines.INSTALLERS:
        return _names_pytorch(line) or ("--torch-backend", "auto") in line.ours
    return (line.verb == "run" and _names_pytorch(line)) or _asks(line) or _configured(line)


def _asks(line: "CommandLine") -> bool:
    return bool(line.ours or os.environ.get("UV_TORCH_BACKEND"))


def _names_pytorch(line: "CommandLine") -> bool:
    if line.verb == "run" and not line.has("--with", "--with-requirements", "--with-editable"):
        return False
    listed = line.has("--requirements", "--editable", "-e", "--group", "--with-requirements", "--with-editable")
    words = line.positionals[: 1 if line.verb == "tool run" else None]  # then come the arguments of the tool
    text = " ".join(["", *words, *line.values("--with", "--from", "--with-executables-from")]).lower()
    named = line.verb == "run" or "torch" in text or "/" in text or " ." in text
    if not (named or listed or line.verb in ("pip sync", "pip compile") or "UV_TORCH_BACKEND" in os.environ):
        return False
    from uvtorch.packages import names_pytorch

    return names_pytorch(line, os.environ)


def _configured(line: "CommandLine") -> bool:
    """Whether a pyproject.toml here or above configures uvtorch. Not by `files`: a plain `run` waits for no import."""
    env = os.environ
    try:
        directory = os.path.realpath(line.value("--directory") or env.get("UV_WORKING_DIR") or "")
    except OSError:  # the working directory is gone
        return False
    directory = os.path.normpath(os.path.join(directory, line.value("--project") or env.get("UV_PROJECT") or ""))
    above = ""
    while directory != above:
        try:
            with open(os.path.join(directory, "pyproject.toml"), "rb") as file:
                text = file.read()
        except OSError:
            text = b""
        if b"uvtorch" in text:
            from uvtorch.packages import configures

            if configures(text):
                return True
        directory, above = os.path.dirname(directory), directory
    return False


def _do(line: "CommandLine") -> int:
    import gc

    gc.disable()  # a short life: collecting costs milliseconds and finds nothing worth it
    command_lines.torch_backend(line)  # a mistake in our own options is told wherever it is made
    if line.verb in ("sync", "run", "export"):
        _as_before(line)
    if line.verb in ("add", "remove") or (line.verb == "lock" and not _asks(line)):
        from uvtorch.command import Command
        from uvtorch.steps.watch import names_pytorch, watch

        command = Command(line, os.environ)
        if line.verb == "lock" or not (line.ours_has("--torch-backend") or names_pytorch(command) or _configured(line)):
            return watch(command)
    return _act_on_project(line)


def _as_before(line: "CommandLine") -> None:
    """Hand over to uv where `cache` knows the result."""
    from uvtorch.cache import recall

    if known := recall(line, os.environ):
        options, said = known
        if said:
            from uvtorch.output import Output

            out = Output(line, os.environ)
            for text in said:
                out.tell(*text.split(": ", 1))
        uv.hand_over(uv.find(os.environ), line.with_options(*options))


def _act_on_project(line: "CommandLine") -> int:
    from uvtorch.session import Session

    if line.verb == "add":
        from uvtorch.verbs.add import add as act
    elif line.verb in command_lines.INSTALLERS:
        from uvtorch.steps.route import install as act
    elif line.verb == "remove":
        from uvtorch.verbs.remove import remove as act
    else:
        from uvtorch.verbs.sync import sync as act
    session = Session(line, os.environ)
    if line.verb in ("add", "remove"):
        session.claim()
    return act(session)


def _unknown(line: "CommandLine") -> int:
    """An option that no table knows: what follows it may be its value, so uv gets all, or nobody."""
    if (line.ours and line.verb not in command_lines.INSTALLERS) or line.verb == "torch":
        from uvtorch.errors import UsageError

        verb = f" of `uv {line.verb}`" if line.ours else ""
        raise UsageError(
            f"uvtorch does not know the option {line.unknown}{verb}",
            "without uvtorch's own options the command goes to uv as it is",
        )
    return uv.hand_over(uv.find(os.environ), line.typed)


def _torch(line: "CommandLine") -> int:
    from uvtorch.errors import UsageError
    from uvtorch.output import COLORS
    from uvtorch.session import Session
    from uvtorch.steps import verb

    color = line.value("--color")
    if color not in (None, *COLORS):
        raise UsageError(f"--color {color} is none of {', '.join(COLORS)}")
    return verb.run(line.positionals, Session(line, os.environ))


def _with_uv(line: "CommandLine", then: "Callable[[Output], None]", on: int) -> int:
    code, missing = 0, None
    try:
        path = uv.find(os.environ)
    except Exception as error:  # UvNotFound, told after what is ours; to name it would cost its import
        missing = error
    else:
        with uv.Interrupted() as interrupted:
            code = uv.run(path, line.argv, interrupted)
    if code == on:
        from uvtorch.output import Output

        then(Output(line, os.environ))
    if missing:
        raise missing
    return code


_ADDED = {
    "--torch-backend": "PyTorch build: auto, cpu, cu126, rocm6.4, xpu, nightly/cu130 … [env: UV_TORCH_BACKEND=]",
    "--auto": "Take the build for this machine where the project has none pinned",
    "--dry-run": "Print the decision, the edits and the uv commands; change nothing",
}


_EXAMPLES = {
    "add": (
        ("uvtorch add torch torchvision", "The build that runs here"),
        ("uvtorch add torch --dry-run", "Only show"),
    ),
    "remove": (("uvtorch remove torchvision", "Its sources and index go too"),),
    "sync": (("uvtorch sync --auto", "What runs here of what the project offers"),),
    "run": (("uvtorch run --auto train.py", "The same, then the script"),),
    "export": (("uvtorch export --auto -o requirements.txt", "The same, as requirements"),),
    "pip": (("uvtorch pip install torch", "The build that runs here, without a project"),),
    "tool": (("uvtorch tool run --with torch python", "The same, for a tool"),),
    "lock": (("uvtorch lock --torch-backend auto", "Choose anew for what is locked"),),
}


def _help(out: "Output", verb: str | None) -> None:
    ours = {verb: command_lines.OURS.get(verb, ())} if verb else command_lines.OURS
    rows = []
    for name, text in _ADDED.items():
        if on := [one for one, names in ours.items() if name in names]:
            rows.append(("", name, text if verb else f"{text} ({', '.join(on)})"))
    if not verb:
        rows += [("", "torch <VERB>", "What this machine is, what it can run, and why: `uvtorch torch --help`")]
    if rows:
        out.table([(), ("uvtorch adds:",), *rows])
        out.table([(), ("Examples:",), *(("", *example) for one in ours for example in _EXAMPLES[one])])

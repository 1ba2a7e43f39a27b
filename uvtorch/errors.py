"""The errors a user can meet, each with its remedy and its exit code.

One catcher, in `cli`, has `output` print them; nothing else prints an error. Anything that is not one of these is a
fault of uvtorch and keeps its traceback.
"""


class UvtorchError(Exception):
    """uvtorch refuses: nothing was written and uv did not run.

    Rendered as one `error:` line (`str(self)`) and a `hint:` line for each of `hints`; `exit_code` is the process's.
    """

    exit_code = 2

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.hints = hints


class UsageError(UvtorchError):
    """The command line, an environment variable or `[tool.uvtorch]` asks for something that cannot be."""


class UvNotFound(UvtorchError):
    """There is no uv on this machine, or none that is not uvtorch itself."""


class UvTooOld(UvtorchError):
    """The uv found does not know an option or a setting that this command needs."""


class ProjectError(UvtorchError):
    """pyproject.toml (or a script, or uv.lock) cannot be read, or cannot be edited without harm."""


class MachineError(UvtorchError):
    """Hardware is present but cannot be asked, or its description cannot be read."""


class NoBuild(UvtorchError):
    """No PyTorch build fits the machine and the request."""

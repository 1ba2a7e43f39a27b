"""The errors that a user can meet, caught in `cli`. Any other is a fault of uvtorch and keeps its traceback."""


class UvtorchError(Exception):
    """uvtorch refuses: one `error:` line, a `hint:` line for each of `hints`, and the process's `exit_code`."""

    exit_code = 2

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.hints = hints


class UsageError(UvtorchError):
    """The command line, a variable or `[tool.uvtorch]` asks for what cannot be."""


class UvNotFound(UvtorchError):
    """There is no uv that can be started."""


class UvTooOld(UvtorchError):
    """uv does not know a setting that the command needs."""


class ProjectError(UvtorchError):
    """A pyproject.toml, a script or a uv.lock cannot be read, or not be edited without harm."""


class MachineError(UvtorchError):
    """Hardware is present but cannot be asked, or its description cannot be read."""


class NoBuild(UvtorchError):
    """No PyTorch build fits the machine and the request."""

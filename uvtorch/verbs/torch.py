"""`uvtorch torch …`: uvtorch's own verbs, with click. Each is a module of its own, loaded when it is called."""

import importlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import click

from uvtorch.argv import CommandLine
from uvtorch.plan import Plan

_VERBS: Final = {
    "detect": ("detect", "detect"),
    "explain": ("explain", "explain"),
    "list": ("list", "list_"),
    "use": ("use", "use"),
    "backends": ("backends", "backends"),
    "doctor": ("doctor", "doctor"),
}
"""Verb -> (module in `uvtorch.verbs`, name of its click command)."""


class Context(NamedTuple):
    """What a verb gets from the command line before it, as click's `obj`."""

    env: Mapping[str, str]
    directory: str
    """Where to look for a project."""
    line: CommandLine
    """The whole command line, for uv's global options."""


class Outcome(NamedTuple):
    """What a verb that changes the project returns instead of printing."""

    plan: Plan
    dry_run: bool = False


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        module, name = _VERBS[cmd_name]
        command = getattr(importlib.import_module(f"uvtorch.verbs.{module}"), name)
        assert isinstance(command, click.Command)
        return command


@click.command("torch", cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def torch() -> None:
    """PyTorch builds: what this machine is, what it can run, and why."""


def run(args: list[str], context: Context) -> int | Outcome:
    """Run one verb; its exit code, or what it would do.

    Raises UsageError for a command line that click cannot read, UvtorchError as the verb does.
    """
    from uvtorch.errors import UsageError

    try:
        code = torch.main(args, prog_name="uvtorch torch", standalone_mode=False, obj=context)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.Abort:
        return 130
    except click.ClickException as error:
        raise UsageError(_one_line(error.format_message()), "`uvtorch torch --help` lists the verbs") from None
    return code if isinstance(code, int | Outcome) else 0


def _one_line(message: str) -> str:
    text = " ".join(message.split()).rstrip(".")
    return text[:1].lower() + text[1:]

"""`uvtorch torch …`: uvtorch's own verbs, with click. Each is a module of its own, loaded when it is called."""

import importlib
import sys
from difflib import get_close_matches
from typing import Final

import click

from uvtorch.argv import TORCH_VERBS
from uvtorch.errors import UsageError
from uvtorch.output import WIDTH
from uvtorch.session import Session
from uvtorch.steps.verb import Verb


class _Verbs(Verb, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(TORCH_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        if cmd_name not in TORCH_VERBS:
            return None
        module = importlib.import_module(f"uvtorch.verbs.{cmd_name}")
        command = getattr(module, cmd_name.replace("list", "list_"))
        assert isinstance(command, click.Command)
        return command


_EXAMPLES: Final = (
    ("explain --hardware gtx1080", "What a described machine would get"),
    ("use auto", "Pin the project to what runs here"),
    ("doctor", "What is wrong, and how to fix it"),
)


@click.command(
    "torch",
    cls=_Verbs,
    examples=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
def torch() -> None:
    """PyTorch builds: what this machine is, what it can run, and why."""


def run(args: list[str], session: Session) -> int:
    """Run one verb, which gets the session as click's `obj`; its exit code.

    Raises UsageError for a command line that click cannot read, UvtorchError as the verb does.
    """
    color = session.out.in_color(sys.stdout)
    try:
        code = torch.main(args, prog_name="uvtorch torch", standalone_mode=False, obj=session, color=color)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.Abort:
        return 130
    except click.ClickException as error:
        text = " ".join(error.format_message().split()).rstrip(".")
        raise UsageError(text[:1].lower() + text[1:], _remedy(args)) from None
    return code if isinstance(code, int) else 0


def _remedy(args: list[str]) -> str:
    verb = next((word for word in args if not word.startswith("-")), "")
    if verb in TORCH_VERBS:
        return f"`uvtorch torch {verb} --help` shows what it takes"
    near = get_close_matches(verb, TORCH_VERBS, 1)
    return f"did you mean `uvtorch torch {near[0]}`?" if near else "`uvtorch torch --help` lists the verbs"

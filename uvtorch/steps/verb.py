"""`uvtorch torch` as a command of click: its verbs, loaded when they are called, and what they share."""

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import click

from uvtorch import hardware
from uvtorch.argv import TORCH_VERBS
from uvtorch.choose.compatibility import summary
from uvtorch.errors import UsageError
from uvtorch.machine import Machine
from uvtorch.output import WIDTH
from uvtorch.session import Session


class _Formatter(click.HelpFormatter):
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        prefix = click.style("Usage:", "green", bold=True) + " "
        super().write_usage(click.style(prog, "cyan", bold=True), click.style(args, "cyan"), prefix)

    def write_heading(self, heading: str) -> None:
        super().write_heading(click.style(heading, "green", bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        styled = [(click.style(typed, "cyan", bold=True), text) for typed, text in rows]
        super().write_dl(styled, col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class Verb(click.Command):
    """A verb; its help has uv's colours and, below the options, `examples`: words after `torch`, what they do."""

    context_class = _Context

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples = examples

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002  click's signature
        """The whole sentence: a narrow terminal wraps it, where click would cut it off."""
        return super().get_short_help_str(1000)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """Write the examples."""
        rows = [(f"uvtorch torch {words}", text) for words, text in self.examples]
        with formatter.section("Examples"):
            formatter.write_dl(rows, col_max=formatter.width - 34)


class _Verbs(Verb, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(TORCH_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        if cmd_name not in TORCH_VERBS:
            return None
        module = importlib.import_module(f"uvtorch.verbs.{cmd_name}")
        command: click.Command = getattr(module, cmd_name.replace("list", "list_"))
        return command


@click.command(
    "torch",
    cls=_Verbs,
    examples=(
        ("explain --hardware gtx1080", "What a described machine would get"),
        ("use auto", "Pin the project to what runs here"),
        ("doctor", "What is wrong, and how to fix it"),
    ),
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


def hardware_option(does: str) -> Callable[[Any], Any]:
    """The option, for a verb that `does` something for a machine."""
    text = f"{does} the machine that a file describes ('-': standard input), or one that `--hardware list` names."
    return click.option("--hardware", "described", metavar="FILE|NAME", callback=_list, help=text)


def _list(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value == "list":
        rows = [(name, summary(machine)) for name, machine in hardware.described().items()]
        context.obj.out.table(rows, ("name", "machine"))
        context.exit()
    return value


def machine_of(session: Session, described: str | None) -> Machine:
    """The machine that the option names, else the session's. Raises MachineError."""
    return session.machine if described is None else hardware.read_description(described)

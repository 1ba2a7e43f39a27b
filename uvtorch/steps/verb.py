"""What the verbs of `uvtorch torch` share: examples and uv's colours in their help, the option `--hardware`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from uvtorch import hardware
from uvtorch.choose.compatibility import summary
from uvtorch.machine import Machine
from uvtorch.session import Session

Examples = Sequence[tuple[str, str]]
"""A command line without its `uvtorch torch`, and what it does."""


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
    """A verb; its `examples` stand below its options."""

    context_class = _Context

    def __init__(self, *args: Any, examples: Examples = (), **options: Any) -> None:
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


def hardware_option(does: str) -> Callable[[Any], Any]:
    """The option, for a verb that `does` something for a machine; `--hardware list` prints the names and ends it."""
    text = f"{does} the machine that a file describes ('-': standard input), or one of those that `list` names."
    return click.option("--hardware", "described", metavar="FILE|NAME", callback=_list, help=text)


def _list(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value == "list":
        rows = [(name, summary(machine)) for name, machine in hardware.described().items()]
        context.obj.out.table(rows, ("name", "machine"))
        context.exit()
    return value


def machine_of(session: Session, described: str | None) -> Machine:
    """The machine that the option names, else the session's. Raises MachineError for what cannot be read."""
    return session.machine if described is None else hardware.read_description(described)

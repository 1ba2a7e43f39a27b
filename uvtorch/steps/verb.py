"""What the verbs of `uvtorch torch` share as commands of click: examples in their help, and uv's colours."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

Examples = Sequence[tuple[str, str]]
"""A command line without its `uvtorch torch`, and what it does."""


class _Formatter(click.HelpFormatter):
    """Headings in green and what is typed in cyan, as uv has them."""

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

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """Write the examples, each beside what it does, or above it where there is no room."""
        rows = [(f"uvtorch torch {words}", text) for words, text in self.examples]
        with formatter.section("Examples"):
            formatter.write_dl(rows, col_max=formatter.width - 34)


class Verbs(Verb, click.Group):
    """The group of them."""

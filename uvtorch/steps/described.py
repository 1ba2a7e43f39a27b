"""The option `--hardware`: another machine than this one, by a description or by its name."""

from collections.abc import Callable
from typing import Any

import click

from uvtorch import hardware
from uvtorch.choose import summary
from uvtorch.machine import Machine
from uvtorch.session import Session


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

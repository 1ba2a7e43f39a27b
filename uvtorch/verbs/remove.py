"""`uvtorch remove`: uv's own, shown on request; the anchors of what goes go with it."""

from uvtorch.argv import CommandLine
from uvtorch.plan import Plan, hand_over


def compile_remove(line: CommandLine) -> Plan:
    """What `remove` comes to."""
    return hand_over(line.argv)

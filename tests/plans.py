"""A transaction as a value, so that the tests can say in one place what is done: edits, then uv, then what follows."""

import os
from collections.abc import Callable
from typing import NamedTuple

from uvtorch.argv import parse
from uvtorch.journal import Claim
from uvtorch.output import Output
from uvtorch.transaction import Transaction


class Edit(NamedTuple):
    path: str
    before: bytes
    after: bytes


class Plan(NamedTuple):
    commands: tuple[tuple[str, ...], ...] = ()
    edits: tuple[Edit, ...] = ()
    guarded: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    then: "Callable[[], Plan] | None" = None
    closing: tuple[tuple[str, ...], ...] = ()
    last: tuple[str, ...] | None = None


def hand_over(words: list[str]) -> Plan:
    return Plan(last=tuple(words))


def apply(plan: Plan, path: str, quiet: bool = False) -> int:
    claim = Claim(os.getcwd(), os.environ)
    claim.take("a test", print)
    with Transaction(lambda: path, Output(parse(["-q"] if quiet else []), {}), claim=claim) as tx:
        _do(plan, tx)
    return tx.code


def show(plan: Plan) -> None:
    with Transaction(lambda: "uv", Output(parse([]), {}), dry=True) as tx:
        _do(plan, tx)


def _do(plan: Plan, tx: Transaction) -> None:
    tx.say(*plan.decisions)
    tx.warn(*plan.warnings)
    tx.guard(*plan.guarded)
    for edit in plan.edits:
        tx.edit(*edit)
    for command in plan.commands:
        tx.uv(*command)
    if plan.then:
        _do(plan.then(), tx)
    for command in plan.closing:
        tx.uv(*command)
    if plan.last is not None:
        tx.become(plan.last)

"""How many examples the properties are held against: `EXAMPLES=500` in the environment looks longer."""

import os
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.strategies import SearchStrategy

EXAMPLES = settings(
    max_examples=int(os.environ.get("EXAMPLES", "20")),
    deadline=None,  # these run beside others on few cores
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)

Test = Callable[..., None]


def given(*strategies: SearchStrategy[Any], **named: SearchStrategy[Any]) -> Callable[[Test], Test]:
    """hypothesis's `given` without a time limit, for as many examples as are asked for."""
    return lambda test: EXAMPLES(hypothesis.given(*strategies, **named)(test))

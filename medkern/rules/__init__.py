"""Argument rules of the public functions, without torch, so that NumPy users share them.

Every message has the form `medkern.f: <argument> must <rule>, got <value>; <what to do>`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real


def message(op: str, argument: str, rule: str, got: object, remedy: str) -> str:
    return f"medkern.{op}: {argument} must {rule}, got {got}; {remedy}"


def choice(op: str, argument: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    # By type too: 2.0 == 2, and True == 1.
    if not any(type(value) is type(c) and value == c for c in choices):
        names = ", ".join(map(repr, choices))
        raise ValueError(
            message(op, argument, f"be one of {names}", repr(value), "pass one of these")
        )


def number(
    op: str,
    argument: str,
    value: object,
    low: float,
    high: float = math.inf,
    *,
    remedy: str = "pass one",
    above: bool = False,
) -> None:
    """Raise unless `value` is a finite number from `low`, or `above` it, to `high`."""
    if isinstance(value, Real) and not isinstance(value, bool):
        x = float(value)
        if math.isfinite(x) and (low < x if above else low <= x) and x <= high:
            return
    bound = f"{'above' if above else 'from' if high < math.inf else 'of at least'} {low:g}"
    rule = f"be a {'' if high < math.inf else 'finite '}number {bound}"
    rule += f" to {high:g}" if high < math.inf else ""
    raise ValueError(message(op, argument, rule, repr(value), remedy))


def at_least(op: str, argument: str, value: object, least: int) -> None:
    """Raise unless `value` is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(message(op, argument, "be an int", repr(value), "pass a whole number"))
    if value < least:
        raise ValueError(message(op, argument, f"be at least {least}", value, "raise it"))

"""Rules of the Euclidean distance and of the surface metrics, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from medkern.rules import message
from medkern.rules.grid import ndim_of, spacing_of

LABELS = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")
DISTANCES = ("float32", "float64")


class Plan(NamedTuple):
    """How a mask is laid out: as [batch, sets, *space], one row of spacing per sample."""

    batch: int
    sets: int
    space: tuple[int, ...]
    spacing: list[tuple[float, ...]]


def plan(
    op: str, argument: str, shape: Sequence[int], dtype: str, ndim: int | None, spacing: Any
) -> Plan:
    """The layout of a mask [B, K, *space], leading axes optional, after checking it."""
    if dtype not in LABELS:
        remedy = f"compare it with something, for example {argument} > 0.5"
        raise TypeError(message(op, argument, "be bool or integers", dtype, remedy))
    axes = ndim_of(op, argument, shape, ndim, spacing)
    lead = (1,) * (2 + axes - len(shape)) + tuple(shape[: len(shape) - axes])
    space = tuple(shape[len(shape) - axes :])
    if any(n == 0 for n in space):
        remedy = "only batch axes may be empty"
        raise ValueError(message(op, argument, "have no empty spatial axis", tuple(shape), remedy))
    rows = spacing_of(op, spacing, axes, lead[0])
    return Plan(lead[0], lead[1], space, rows * lead[0] if len(rows) == 1 else rows)


def wants_float64(op: str, dtype: object) -> bool:
    """Whether distances are to be float64 rather than float32; by name, or None for float32."""
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if name not in DISTANCES:
        remedy = "pass torch.float32 or torch.float64"
        raise ValueError(message(op, "dtype", "be float32 or float64", name, remedy))
    return name == "float64"


def same_shape(op: str, a: Sequence[int], b: Sequence[int]) -> None:
    if tuple(a) != tuple(b):
        rule = f"have the shape of a, {tuple(a)}"
        raise ValueError(message(op, "b", rule, tuple(b), "resample or expand one of them"))


def fraction_of(op: str, percentile: object) -> float:
    """A percentile as a fraction of 1; None is the maximum."""
    if percentile is None:
        return 1.0
    number = isinstance(percentile, (int, float)) and not isinstance(percentile, bool)
    if not number or not 0 <= percentile <= 100:  # type: ignore[operator]
        rule = "be a number from 0 to 100, or None for the maximum"
        raise ValueError(message(op, "percentile", rule, repr(percentile), "95 is usual"))
    return float(percentile) / 100  # type: ignore[arg-type]


def tolerances_of(op: str, tolerance: Any, sets: int) -> list[float]:
    """One tolerance per set, from a number or a sequence."""
    values = tolerance.tolist() if hasattr(tolerance, "tolist") else tolerance
    values = list(values) if isinstance(values, Sequence) else [values] * sets
    if len(values) != sets or not all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 0 for v in values
    ):
        rule = f"be a number of at least 0, or one for each of {sets} sets"
        remedy = "give it in the units of the spacing"
        raise ValueError(message(op, "tolerance", rule, repr(tolerance), remedy))
    return [float(v) for v in values]

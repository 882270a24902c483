"""Exact Euclidean distances of NumPy arrays: see `medkern.ops.euclidean`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkern.numpy.arrays import Array, _core, array, as_batch, threads_for
from medkern.rules import euclidean as rules


def euclidean_distance(
    mask: Array,
    *,
    spacing: Any = None,
    signed: bool = False,
    return_indices: bool = False,
    ndim: int | None = None,
    dtype: Any = None,
) -> Any:
    """Exact Euclidean distances: see `medkern.euclidean_distance`."""
    op = "euclidean_distance"
    mask = array(op, "mask", mask, rules.LABELS)
    plan = rules.plan(op, "mask", mask.shape, mask.dtype.name, ndim, spacing)
    wide = rules.wants_float64(op, dtype)
    labels = as_batch(mask, len(plan.space))
    rows = np.array(plan.spacing, dtype=np.float64).reshape(plan.batch, len(plan.space))
    out = _core.euclidean_distance(
        labels, rows, bool(signed), wide, bool(return_indices), threads_for(mask)
    )
    if not return_indices:
        return out.reshape(mask.shape)
    return tuple(one.reshape(mask.shape) for one in out)

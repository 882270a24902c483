"""Rules of functions on voxel grids: rank, seeds, spacing and neighbourhoods, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

from medkern.rules import message

MOST_AXES = 3
# scipy's structuring elements count the axes that may change at once; image processing counts the
# neighbours.
NAMED = {"face": 1, "full": MOST_AXES}
COUNTED = {(1, 2): 1, (2, 4): 1, (2, 8): 2, (3, 6): 1, (3, 18): 2, (3, 26): 3}


class Layout(NamedTuple):
    """How an image and its seeds (or a mask alone) are laid out: see `layout_of`."""

    ndim: int
    space: tuple[int, ...]
    batch: int
    channels: int
    sets: int  # seed sets per image: the K of [B, K, *space]


def ndim_of(op: str, argument: str, shape: Sequence[int], ndim: int | None, spacing: Any) -> int:
    """The number of spatial axes: given, or of the spacing, or of [B, C, *space] or [*space]."""
    if ndim is not None:
        if isinstance(ndim, bool) or not isinstance(ndim, int) or not 1 <= ndim <= MOST_AXES:
            raise ValueError(message(op, "ndim", "be 1, 2 or 3", repr(ndim), "pass one of these"))
        found = ndim
    elif (axes := _axes_of_spacing(spacing)) is not None:
        found = axes
    elif len(shape) in (1, 2):
        found = len(shape)
    elif len(shape) in (4, 5):
        found = len(shape) - 2
    else:
        rule = "be [*space] or [B, C, *space] where ndim is not given"
        remedy = "pass ndim=2 or ndim=3 to say which axes are spatial"
        raise ValueError(message(op, argument, rule, tuple(shape), remedy))
    if not found <= len(shape) <= found + 2:
        rule = f"have {found} to {found + 2} axes, [B, C, *space], for ndim={found}"
        raise ValueError(message(op, argument, rule, tuple(shape), "reshape it or pass ndim"))
    return found


def _axes_of_spacing(spacing: Any) -> int | None:
    """How many axes a spacing names: that of a sequence, or of the rows of [B, ndim]."""
    shape = getattr(spacing, "shape", None)
    if shape is not None:
        return int(shape[-1]) if len(shape) else None
    if isinstance(spacing, Sequence) and len(spacing):
        first = spacing[0]
        return len(first) if isinstance(first, Sequence) else len(spacing)
    return None


def layout_of(
    op: str,
    image: Sequence[int],
    seeds: Sequence[int],
    ndim: int | None = None,
    spacing: Any = None,
    names: tuple[str, str] = ("image", "seeds"),
) -> Layout:
    """The common layout of an image [B, C, *space] and seeds [B, K, *space]; leading axes may be
    missing, and a batch of 1 goes with any batch."""
    found = ndim_of(op, names[0], image, ndim, spacing)
    space = tuple(image[len(image) - found :])
    if any(n == 0 for n in space):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, names[0], rule, tuple(image), "only batch axes may be empty"))
    if not found <= len(seeds) <= found + 2 or tuple(seeds[len(seeds) - found :]) != space:
        rule = f"be [B, K, *{space}] as {names[0]} is {tuple(image)}, leading axes optional"
        remedy = "give both the same spatial size"
        raise ValueError(message(op, names[1], rule, tuple(seeds), remedy))
    lead = [(1,) * (2 + found - len(s)) + tuple(s[: len(s) - found]) for s in (image, seeds)]
    batches = {lead[0][0], lead[1][0]}
    if len(batches - {1}) > 1:
        rule = f"have a batch of {lead[0][0]} as {names[0]} is {tuple(image)}, or of 1"
        raise ValueError(message(op, names[1], rule, tuple(seeds), "repeat or select samples"))
    batch = lead[0][0] if lead[1][0] == 1 else lead[1][0]
    return Layout(found, space, batch, lead[0][1], lead[1][1])


def connectivity_of(op: str, value: object, ndim: int) -> int:
    """How many axes may change in one step: 1 to ndim.

    >>> [connectivity_of("f", c, 3) for c in ("face", "full", 18, 26)]
    [1, 3, 2, 3]
    """
    if isinstance(value, str) and value in NAMED:
        return min(NAMED[value], ndim)
    if isinstance(value, int) and not isinstance(value, bool) and (ndim, value) in COUNTED:
        return COUNTED[ndim, value]
    counts = [str(count) for axes, count in COUNTED if axes == ndim]
    rule = f"be 'face', 'full' or, for ndim={ndim}, {' or '.join(counts)}"
    raise ValueError(message(op, "connectivity", rule, repr(value), "pass one of these"))


def spacing_of(op: str, value: Any, ndim: int, batch: int) -> list[tuple[float, ...]]:
    """One row of `ndim` voxel edge lengths (mm) per sample, or a single row for all of them.

    None means 1; a number serves every axis; nested rows, or an array [B, ndim], are per sample.

    >>> spacing_of("f", (1, 2.5), 2, 4)
    [(1.0, 2.5)]
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None or (isinstance(value, Real) and not isinstance(value, bool)):
        value = [1.0 if value is None else value] * ndim
    rows = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else None
    if rows is None or (rows and not isinstance(rows[0], Sequence)):
        rows = [rows] if rows is not None else []
    rule = f"be a positive number, {ndim} of them, or such a row for each of {batch} samples"
    remedy = "pass edge lengths of a voxel in the order of the axes, for example in mm"
    if len(rows) not in (1, batch) or any(
        not isinstance(row, Sequence) or len(row) != ndim or not all(map(_positive, row))
        for row in rows
    ):
        raise ValueError(message(op, "spacing", rule, repr(value), remedy))
    return [tuple(map(float, row)) for row in rows]


def _positive(value: object) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value) and value > 0  # type: ignore[arg-type,operator]

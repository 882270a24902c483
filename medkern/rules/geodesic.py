"""Rules of the geodesic family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

from medkern.rules import at_least, choice, message
from medkern.rules.grid import Layout

METRICS = ("l1", "l2", "fastgeodis", "geodistk", "geos", "mcp", "node")
SCALAR_METRICS = ("mcp", "node")  # the image is a cost, not something to difference
CHANNEL_NORMS = ("l1", "l2", "linf")
EXACT_METHODS = ("auto", "bucket", "tiles", "sweeps")
METHODS = (*EXACT_METHODS, "exact", "raster")
METHOD_NAMES = ("bucket", "tiles", "sweeps", "raster")  # by the code in the op's info


class GeodesicInfo(NamedTuple):
    """How a solve went; the numbers are [B, K] tensors or arrays.

    Attributes:
        method: "bucket", "tiles", "sweeps" or "raster" ("" for an empty batch).
        rounds: how often the method went over its work (see the documentation of the methods).
        converged: whether the distance is exact.
        residual: the largest amount by which one more relaxation would lower a distance; 0 when
            converged.
    """

    method: str
    rounds: Any
    converged: Any
    residual: Any


class Geodesic(NamedTuple):
    """A distance and what was asked for beside it; None where it was not.

    Attributes:
        distance: [B, K, *space].
        labels: int64 [B, K, *space], row-major index of the nearest seed; -1 where none is reached.
        predecessors: int64 [B, K, *space], row-major index of the voxel before each one on its
            path; a seed's is its own, -1 where no seed is reached.
        info: a GeodesicInfo.
    """

    distance: Any
    labels: Any = None
    predecessors: Any = None
    info: GeodesicInfo | None = None


def check_metric(op: str, metric: str, channel_norm: str, lam: float, channels: int) -> None:
    choice(op, "metric", metric, METRICS)
    choice(op, "channel_norm", channel_norm, CHANNEL_NORMS)
    most, rule = (math.inf, "be finite and at least 0") if metric == "geos" else (1, "be in [0, 1]")
    real = isinstance(lam, Real) and not isinstance(lam, bool)
    if not real or not math.isfinite(lam) or not 0 <= lam <= most:
        remedy = "it weighs the image against the length of a step"
        raise ValueError(message(op, "lam", f"{rule} for metric={metric!r}", repr(lam), remedy))
    if channels == 0 or (channels != 1 and metric in SCALAR_METRICS):
        rule = f"have {'one channel' if metric in SCALAR_METRICS else 'a channel'}"
        remedy = "reduce the channels to one cost first" if channels else "drop the empty axis"
        raise ValueError(message(op, "image", f"{rule} for metric={metric!r}", channels, remedy))


def method_of(
    op: str, method: str, iterations: int | None, ndim: int, *, needs_exact: bool
) -> tuple[str, int]:
    """The op's method and its number of iterations, which only the approximate one heeds."""
    choice(op, "method", method, METHODS)
    if method == "raster":
        if needs_exact:
            rule = "be exact where labels or predecessors are asked for"
            raise ValueError(message(op, "method", rule, repr(method), "use method='auto'"))
        if iterations is None:
            return method, 2 if ndim < 3 else 4
        at_least(op, "iterations", iterations, 1)
        return method, iterations
    if iterations is not None:
        rule = f"be None for the exact method={method!r}"
        remedy = "exact methods stop by themselves; only method='raster' counts"
        raise ValueError(message(op, "iterations", rule, repr(iterations), remedy))
    return ("auto" if method == "exact" else method), 1


def check_device(op: str, method: str, device: str) -> None:
    """Sweeps go from voxel to voxel in order, which a GPU cannot."""
    if method == "raster" and device == "cuda":
        remedy = "use method='auto', which is exact there; or the CPU"
        raise ValueError(message(op, "method", "be exact on a GPU", repr(method), remedy))


def limit_of(op: str, max_distance: float | None) -> float:
    """The largest distance wanted; inf where there is none."""
    if max_distance is None:
        return math.inf
    real = isinstance(max_distance, Real) and not isinstance(max_distance, bool)
    if not real or not max_distance > 0:
        remedy = "voxels farther than it come back as inf; None means no limit"
        raise ValueError(message(op, "max_distance", "be positive", repr(max_distance), remedy))
    return float(max_distance)


def check_mask(op: str, dtype: str, shape: Sequence[int], layout: Layout) -> None:
    lead = tuple(shape[: len(shape) - layout.ndim])
    fits = len(lead) <= 2 and tuple(shape[len(lead) :]) == layout.space
    if (
        not fits
        or any(n not in (1, layout.batch) for n in lead[:-1])
        or lead[-1:] not in ((), (1,))
    ):
        rule = f"be [B, 1, *{layout.space}] with a batch of {layout.batch} or 1, or [*space]"
        raise ValueError(message(op, "mask", rule, tuple(shape), "give it the size of the image"))
    if dtype != "bool":
        remedy = "compare it, for example mask > 0"
        raise TypeError(message(op, "mask", "be bool", dtype, remedy))


def check_targets(op: str, ndim: int, shape: Sequence[int]) -> None:
    if not 1 <= ndim <= 3:
        rule = "be the map of one sample and class, [*space] with 1 to 3 axes"
        remedy = "index it, for example predecessors[0, 0]"
        raise ValueError(message(op, "predecessors", rule, f"{ndim} axes", remedy))
    if len(shape) != 2 or shape[1] != ndim:
        rule = f"be [n, {ndim}], one row of voxel coordinates per target"
        raise ValueError(message(op, "targets", rule, tuple(shape), "put a single one in a list"))


def result_lead(image_axes: int, seed_axes: int, layout: Layout) -> tuple[int, ...]:
    """The leading axes of a result: those of the seeds, all of them where there is a batch."""
    if image_axes == layout.ndim + 2 or seed_axes == layout.ndim + 2:
        return (layout.batch, layout.sets)
    return (layout.sets,) if seed_axes == layout.ndim + 1 else ()


def check_values(
    op: str, metric: str, least: float, earliest: float, earliest_inside: float
) -> None:
    """Refuse values that no distance is defined for.

    Args:
        least: the smallest image value inside the mask, NaN if there is one.
        earliest, earliest_inside: the smallest start cost, and that inside the mask.
    """
    if math.isnan(least):
        remedy = "exclude such voxels with mask"
        raise ValueError(message(op, "image", "have no NaN inside the mask", "NaN", remedy))
    if metric in SCALAR_METRICS and least < 0:
        rule = f"be at least 0 for metric={metric!r}"
        raise ValueError(message(op, "image", rule, least, "shift it"))
    if math.isnan(earliest) or earliest == -math.inf:
        rule = "be start costs, finite or inf"
        remedy = "pass inf where there is no seed"
        raise ValueError(message(op, "seeds", rule, earliest, remedy))
    if earliest == math.inf:
        remedy = "mark at least one voxel"
        raise ValueError(message(op, "seeds", "hold a seed", "none", remedy))
    if earliest_inside == math.inf:
        remedy = "mark a voxel inside the mask"
        raise ValueError(message(op, "seeds", "hold a seed inside the mask", "none", remedy))

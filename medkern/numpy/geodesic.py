"""Geodesic distances of NumPy arrays: see `medkern.ops.geodesic`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkern.numpy.arrays import FLOATS, Array, _core, array, full_rank, get_num_threads
from medkern.rules import geodesic as rules
from medkern.rules.geodesic import Geodesic, GeodesicInfo
from medkern.rules.grid import connectivity_of, layout_of, ndim_of, spacing_of

_GREY = ("uint8", "int8", "int16", "uint16", *FLOATS)


def geodesic_distance(
    image: Array,
    seeds: Array,
    *,
    lam: float = 0.5,
    metric: str = "l1",
    channel_norm: str = "l1",
    spacing: Any = None,
    connectivity: str | int = "full",
    mask: Array | None = None,
    max_distance: float | None = None,
    method: str = "auto",
    iterations: int | None = None,
    ndim: int | None = None,
    return_labels: bool = False,
    return_predecessors: bool = False,
    return_info: bool = False,
) -> Any:
    """The cheapest path over the image from a seed: see `medkern.geodesic_distance`."""
    op = "geodesic_distance"
    image = array(op, "image", image, _GREY)
    seeds = array(op, "seeds", seeds, ("bool", *FLOATS))
    layout = layout_of(op, image.shape, seeds.shape, ndim, spacing)
    rules.check_metric(op, metric, channel_norm, lam, layout.channels)
    exact = return_labels or return_predecessors
    chosen = rules.method_of(op, method, iterations, layout.ndim, needs_exact=exact)
    limit = rules.limit_of(op, max_distance)
    steps = connectivity_of(op, connectivity, layout.ndim)
    rows = np.array(spacing_of(op, spacing, layout.ndim, layout.batch))
    dtype = np.dtype(np.float64 if image.dtype.itemsize == 8 else np.float32)

    if mask is not None:
        mask = array(op, "mask", mask, ("bool",))
        rules.check_mask(op, "bool", mask.shape, layout)
        mask = full_rank(mask, layout)
    starts = np.where(seeds, 0, np.inf) if seeds.dtype == bool else seeds
    problem = (
        *(full_rank(image, layout, dtype), full_rank(starts, layout, dtype), mask),
        *(np.ascontiguousarray(np.broadcast_to(rows, (layout.batch, layout.ndim))), float(lam)),
        *(metric, channel_norm, steps),
    )
    _check_geodesic(op, metric, *problem[:3])
    threads = get_num_threads()
    distance, numbers = _core.geodesic_info(*problem, limit, *chosen, threads)
    shape = (*rules.result_lead(image.ndim, seeds.ndim, layout), *layout.space)
    if not (exact or return_info):
        return distance.reshape(shape)
    parents = _core.geodesic_parents(distance, *problem, threads) if exact else None
    return Geodesic(
        distance.reshape(shape),
        _core.tree_roots(parents, threads).reshape(shape) if return_labels else None,
        parents.reshape(shape) if parents is not None and return_predecessors else None,
        _geodesic_info(numbers, shape[: len(shape) - layout.ndim]) if return_info else None,
    )


def intensity_distance(image: Array, seeds: Array, **options: Any) -> Any:
    """The least sum of intensity steps along a path: see `medkern.intensity_distance`."""
    for name in ("lam", "metric", "spacing"):
        if name in options:
            raise TypeError(f"intensity_distance() got an unexpected keyword argument {name!r}")
    return geodesic_distance(image, seeds, lam=0.0, **options)


def chamfer_distance(
    seeds: Array, *, spacing: Any = None, ndim: int | None = None, **options: Any
) -> Any:
    """The length of the shortest path of steps: see `medkern.chamfer_distance`."""
    op = "chamfer_distance"
    for name in ("lam", "metric", "channel_norm"):
        if name in options:
            raise TypeError(f"chamfer_distance() got an unexpected keyword argument {name!r}")
    seeds = array(op, "seeds", seeds, ("bool", *FLOATS))
    axes = ndim_of(op, "seeds", seeds.shape, ndim, spacing)
    dtype = np.float64 if seeds.dtype.itemsize == 8 else np.float32
    flat = np.broadcast_to(np.zeros((), dtype), seeds.shape[seeds.ndim - axes :])
    return geodesic_distance(flat, seeds, lam=1.0, spacing=spacing, ndim=axes, **options)


def _check_geodesic(op: str, metric: str, image: Array, starts: Array, mask: Array | None) -> None:
    if not image.size or not starts.size:
        return
    # Not the `where` of the reductions, which NumPy does slowly.
    least = image.min() if mask is None else np.where(mask, image, 0).min()
    earliest = starts.min()
    within = earliest if mask is None else np.where(mask, starts, np.inf).min()
    rules.check_values(op, metric, float(least), float(earliest), float(within))


def _geodesic_info(numbers: Array, lead: tuple[int, ...]) -> GeodesicInfo:
    code, rounds, converged, residual = np.moveaxis(numbers, -1, 0)
    name = rules.METHOD_NAMES[int(code.flat[0])] if code.size else ""
    return GeodesicInfo(
        name,
        rounds.astype(np.int64).reshape(lead),
        (converged > 0).reshape(lead),
        residual.reshape(lead),
    )

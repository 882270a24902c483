"""Minimum barrier distances of NumPy arrays: see `medkern.ops.barrier`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkern.numpy.arrays import Array, _core, array, full_rank, get_num_threads
from medkern.rules import barrier as rules
from medkern.rules import choice
from medkern.rules.barrier import BarrierBounds, BarrierInfo
from medkern.rules.grid import connectivity_of


def minimum_barrier_distance(
    image: Array,
    seeds: Array,
    *,
    connectivity: str | int = "full",
    mask: Array | None = None,
    method: str = "exact",
    iterations: int | None = None,
    vectorial: bool = False,
    channel_norm: str = "l2",
    ndim: int | None = None,
    return_bounds: bool = False,
    return_info: bool = False,
) -> Any:
    """The smallest intensity range of a path: see `medkern.minimum_barrier_distance`."""
    op = "minimum_barrier_distance"
    most = rules.half_scans(op, method, iterations, vectorial, return_bounds)
    choice(op, "channel_norm", channel_norm, rules.NORMS)
    call = _BarrierCall(op, image, seeds, mask, connectivity, ndim, vectorial)
    channels = call.image.shape[1]
    scans = None
    if channels > 1:
        distance = call.run(_core.barrier_vectorial, channel_norm)
    elif method == "raster":
        distance, scans = call.run(_core.barrier_raster, most)
    else:
        distance = call.run(_core.minimum_barrier_distance)
    results = [distance.reshape(call.shape)]
    if return_bounds:
        if channels > 1:
            split = (np.ascontiguousarray(c) for c in np.split(call.image, channels, axis=1))
            sides = [call.run_on(_core.minimum_barrier_distance, c) for c in split]
            order = {"l1": 1, "l2": 2, "linf": np.inf}[channel_norm]
            lower, upper = np.linalg.norm(np.stack(sides), order, axis=0), distance
        else:
            signed = call.image if call.image.dtype.kind == "f" else call.image.astype(np.float32)
            minimax, maximin = (
                call.run_on(_core.max_distance_along_path, i) for i in (signed, -signed)
            )
            lower = minimax + maximin
            upper = distance if scans is not None else call.run(_core.barrier_raster, most)[0]
        results.append(BarrierBounds(lower.reshape(call.shape), upper.reshape(call.shape)))
    if return_info:
        exact = method == "exact" and channels == 1
        counted = (None, True) if scans is None else (np.abs(scans).astype(np.int64), scans > 0)
        results.append(BarrierInfo(method, exact, *counted))
    return results[0] if len(results) == 1 else tuple(results)


def max_distance_along_path(
    image: Array,
    seeds: Array,
    *,
    connectivity: str | int = "full",
    mask: Array | None = None,
    ndim: int | None = None,
) -> Array:
    """The lowest maximum of a path: see `medkern.max_distance_along_path`."""
    call = _BarrierCall("max_distance_along_path", image, seeds, mask, connectivity, ndim, False)
    out: Array = call.run(_core.max_distance_along_path)
    return out.reshape(call.shape)


class _BarrierCall:
    """The checked arguments of a barrier function, as the kernels take them."""

    def __init__(
        self,
        op: str,
        image: Array,
        seeds: Array,
        mask: Array | None,
        connectivity: str | int,
        ndim: int | None,
        vectorial: bool,
    ) -> None:
        image = array(op, "image", image, (*rules.IMAGES, "float16"))
        mask_dtype = None if mask is None else mask.dtype.name
        rules.dtypes(op, image.dtype.name, seeds.dtype.name, mask_dtype)
        space = None if mask is None else mask.shape
        layout = rules.layout(op, image.shape, seeds.shape, space, ndim, vectorial)
        self.connectivity = connectivity_of(op, connectivity, layout.ndim)
        self.shape = rules.result_shape(layout, image.shape, seeds.shape)

        widened = image.astype(np.float32) if image.dtype == np.float16 else image
        self.image, self.seeds = full_rank(widened, layout), full_rank(seeds, layout)
        self.mask = None if mask is None else full_rank(mask, layout)
        if self.image.size and self.seeds.size:
            finite = np.isfinite(self.image)
            inside = finite if self.mask is None else finite | ~self.mask
            rules.values(op, bool(inside.all()), bool(self.seeds.any()))

    def run(self, kernel: Any, *options: Any) -> Any:
        return self.run_on(kernel, self.image, *options)

    def run_on(self, kernel: Any, image: Array, *options: Any) -> Any:
        args = (image, self.seeds, self.mask, self.connectivity, *options)
        return kernel(*args, get_num_threads())

"""The ops on NumPy arrays, without torch: for scripts and services that never import it.

Same names, arguments and results as in `medkern`; arrays in, new C-contiguous arrays out, computed
by `medkern._core` on `get_num_threads()` threads. bfloat16 and gradients need torch.

>>> import numpy as np, medkern.numpy as mkn
>>> mkn.haar_pool(np.array([[1.0, 2.0], [3.0, 4.0]]), "iewa")
array([[2.]])
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkern import _library
from medkern.rules import at_least, choice, message
from medkern.rules import barrier as barrier_rules
from medkern.rules import euclidean as euclidean_rules
from medkern.rules import geodesic as geodesic_rules
from medkern.rules import haar as rules
from medkern.rules.barrier import BarrierBounds, BarrierInfo
from medkern.rules.geodesic import Geodesic, GeodesicInfo
from medkern.rules.grid import Layout, connectivity_of, layout_of, ndim_of, spacing_of

try:
    from medkern import _core
except ImportError as error:
    raise ImportError(
        f"medkern.numpy: the compiled module medkern._core must be there, got: {error}; install "
        "g++ and reinstall medkern, or use the functions of medkern itself, which need torch only"
    ) from error

__all__ = [
    "chamfer_distance",
    "euclidean_distance",
    "geodesic_distance",
    "get_num_threads",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "intensity_distance",
    "max_distance_along_path",
    "minimum_barrier_distance",
    "set_num_threads",
]

Array = np.ndarray[Any, Any]

_library.select_isa(_library.core_isa())

_FLOATS = ("float16", "float32", "float64")
_IMAGES = ("uint8", "int16")  # by the reversible transform, to ...
_LIFTED = ("int16", "int32")
_GREY = ("uint8", "int8", "int16", "uint16", *_FLOATS)
_PADS = {"zero": 0, "replicate": 1, "symmetric": 1, "reflect": 2, "periodic": 3}


class _Threads:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def set_num_threads(count: int) -> None:
    """Use this many threads per call from now on."""
    at_least("numpy.set_num_threads", "count", count, 1)
    _Threads.count = count


def get_num_threads() -> int:
    """The number of threads per call; at first, all processors this process may use."""
    return _Threads.count or 1


def haar_dwt(x: Array, *, ndim: int = 2, pad: str = "symmetric") -> Array:
    """One level of the Haar transform: see `medkern.haar_dwt`."""
    x = _array("haar_dwt", "x", x, (*_FLOATS, *_IMAGES))
    space = rules.space_of("haar_dwt", x.shape, ndim, pad)
    out: Array = _core.haar_dwt(_as_batch(x, ndim), ndim, _PADS[pad], _threads(x))
    return out.reshape((*x.shape[: x.ndim - ndim], 2**ndim, *map(rules.half, space)))


def haar_idwt(bands: Array, *, ndim: int = 2, size: Sequence[int] | None = None) -> Array:
    """The inverse of `haar_dwt`: see `medkern.haar_idwt`."""
    bands = _array("haar_idwt", "bands", bands, (*_FLOATS, *_LIFTED))
    fine = rules.size_of("haar_idwt", bands.shape, ndim, size)
    out: Array = _core.haar_idwt(_as_batch(bands, ndim + 1), list(fine), _threads(bands))
    return out.reshape((*bands.shape[: bands.ndim - ndim - 1], *fine))


def haar_wavedec(
    x: Array, levels: int | None = None, *, ndim: int = 2, pad: str = "symmetric"
) -> list[Array]:
    """The multi-level Haar transform: see `medkern.haar_wavedec`."""
    x = _array("haar_wavedec", "x", x, (*_FLOATS, *_IMAGES))
    space = rules.space_of("haar_wavedec", x.shape, ndim, pad)
    approximation, details = x, []
    for _ in range(rules.levels_of("haar_wavedec", space, levels)):
        bands = np.moveaxis(haar_dwt(approximation, ndim=ndim, pad=pad), -ndim - 1, 0)
        approximation = bands[0].astype(x.dtype, copy=False)
        details.append(np.moveaxis(bands[1:], 0, -ndim - 1))
    return [approximation, *reversed(details)]


def haar_waverec(
    coefficients: Sequence[Array], *, ndim: int = 2, size: Sequence[int] | None = None
) -> Array:
    """The inverse of `haar_wavedec`: see `medkern.haar_waverec`."""
    arrays = [np.asarray(c) for c in coefficients]
    shapes, dtypes = [a.shape for a in arrays], [a.dtype.name for a in arrays]
    targets = rules.waverec_targets(shapes, dtypes, ndim, size)
    approximation = arrays[0]
    for detail, target in zip(arrays[1:], targets, strict=True):
        low = np.expand_dims(approximation, -ndim - 1).astype(detail.dtype, copy=False)
        bands = np.concatenate([low, detail], axis=-ndim - 1)
        approximation = haar_idwt(bands, ndim=ndim, size=target)
    return approximation


def haar_pool(x: Array, mode: str = "iewa", *, ndim: int = 2, pad: str = "symmetric") -> Array:
    """Halve every spatial axis by combining the Haar bands: see `medkern.haar_pool`."""
    x = _array("haar_pool", "x", x, _FLOATS)
    space = rules.pool_space("haar_pool", x.shape, mode, ndim, pad)
    outputs = rules.pool_outputs(mode, ndim)
    out: Array = _core.haar_pool(_as_batch(x, ndim), mode, ndim, _PADS[pad], _threads(x))
    lead = list(x.shape[: x.ndim - ndim])
    if outputs > 1:
        lead[-1] *= outputs
    return out.reshape((*lead, *map(rules.half, space)))


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
    mask = _array(op, "mask", mask, euclidean_rules.LABELS)
    plan = euclidean_rules.plan(op, "mask", mask.shape, mask.dtype.name, ndim, spacing)
    wide = euclidean_rules.wants_float64(op, dtype)
    labels = _as_batch(mask, len(plan.space))
    rows = np.array(plan.spacing, dtype=np.float64).reshape(plan.batch, len(plan.space))
    out = _core.euclidean_distance(
        labels, rows, bool(signed), wide, bool(return_indices), _threads(mask)
    )
    if not return_indices:
        return out.reshape(mask.shape)
    return tuple(one.reshape(mask.shape) for one in out)


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
    image = _array(op, "image", image, _GREY)
    seeds = _array(op, "seeds", seeds, ("bool", *_FLOATS))
    layout = layout_of(op, image.shape, seeds.shape, ndim, spacing)
    geodesic_rules.check_metric(op, metric, channel_norm, lam, layout.channels)
    exact = return_labels or return_predecessors
    chosen = geodesic_rules.method_of(op, method, iterations, layout.ndim, needs_exact=exact)
    limit = geodesic_rules.limit_of(op, max_distance)
    steps = connectivity_of(op, connectivity, layout.ndim)
    rows = np.array(spacing_of(op, spacing, layout.ndim, layout.batch))
    dtype = np.dtype(np.float64 if image.dtype.itemsize == 8 else np.float32)

    if mask is not None:
        mask = _array(op, "mask", mask, ("bool",))
        geodesic_rules.check_mask(op, "bool", mask.shape, layout)
        mask = _full_rank(mask, layout)
    starts = np.where(seeds, 0, np.inf) if seeds.dtype == bool else seeds
    problem = (
        *(_full_rank(image, layout, dtype), _full_rank(starts, layout, dtype), mask),
        *(np.ascontiguousarray(np.broadcast_to(rows, (layout.batch, layout.ndim))), float(lam)),
        *(metric, channel_norm, steps),
    )
    _check_geodesic(op, metric, *problem[:3])
    threads = get_num_threads()
    distance, numbers = _core.geodesic_info(*problem, limit, *chosen, threads)
    shape = (*geodesic_rules.result_lead(image.ndim, seeds.ndim, layout), *layout.space)
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
    seeds = _array(op, "seeds", seeds, ("bool", *_FLOATS))
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
    geodesic_rules.check_values(op, metric, float(least), float(earliest), float(within))


def _geodesic_info(numbers: Array, lead: tuple[int, ...]) -> GeodesicInfo:
    code, rounds, converged, residual = np.moveaxis(numbers, -1, 0)
    name = geodesic_rules.METHOD_NAMES[int(code.flat[0])] if code.size else ""
    return GeodesicInfo(
        name,
        rounds.astype(np.int64).reshape(lead),
        (converged > 0).reshape(lead),
        residual.reshape(lead),
    )


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
    most = barrier_rules.half_scans(op, method, iterations, vectorial, return_bounds)
    choice(op, "channel_norm", channel_norm, barrier_rules.NORMS)
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
        image = _array(op, "image", image, (*barrier_rules.IMAGES, "float16"))
        mask_dtype = None if mask is None else mask.dtype.name
        barrier_rules.dtypes(op, image.dtype.name, seeds.dtype.name, mask_dtype)
        space = None if mask is None else mask.shape
        layout = barrier_rules.layout(op, image.shape, seeds.shape, space, ndim, vectorial)
        self.connectivity = connectivity_of(op, connectivity, layout.ndim)
        self.shape = barrier_rules.result_shape(layout, image.shape, seeds.shape)

        widened = image.astype(np.float32) if image.dtype == np.float16 else image
        self.image, self.seeds = _full_rank(widened, layout), _full_rank(seeds, layout)
        self.mask = None if mask is None else _full_rank(mask, layout)
        if self.image.size and self.seeds.size:
            finite = np.isfinite(self.image)
            inside = finite if self.mask is None else finite | ~self.mask
            barrier_rules.values(op, bool(inside.all()), bool(self.seeds.any()))

    def run(self, kernel: Any, *options: Any) -> Any:
        return self.run_on(kernel, self.image, *options)

    def run_on(self, kernel: Any, image: Array, *options: Any) -> Any:
        args = (image, self.seeds, self.mask, self.connectivity, *options)
        return kernel(*args, get_num_threads())


def _array(op: str, argument: str, value: object, dtypes: Sequence[str]) -> Array:
    if not isinstance(value, np.ndarray):
        kind = type(value).__name__
        raise TypeError(
            message(f"numpy.{op}", argument, "be a NumPy array", kind, "use np.asarray, or medkern")
        )
    if value.dtype.name not in dtypes:
        names = ", ".join(dtypes)
        remedy = f"convert it, for example {argument}.astype(np.float32)"
        raise TypeError(message(f"numpy.{op}", argument, f"be one of {names}", value.dtype, remedy))
    return value


def _as_batch(x: Array, trailing: int) -> Array:
    """[..., *trailing axes] as C-contiguous [B, C, *trailing axes] in native byte order."""
    lead = x.shape[: x.ndim - trailing]
    shape = (math.prod(lead[:-1]), *lead[-1:]) if lead else (1, 1)
    native = x.dtype.newbyteorder("=")
    return np.ascontiguousarray(x, dtype=native).reshape((*shape, *x.shape[len(lead) :]))


def _full_rank(a: Array, layout: Layout, dtype: Any = None) -> Array:
    """[leading axes, *space] as C-contiguous [B, N, *space], in native byte order."""
    a = a.reshape((1,) * (layout.ndim + 2 - a.ndim) + a.shape)
    a = np.broadcast_to(a, (layout.batch, *a.shape[1:]))
    return np.ascontiguousarray(a, dtype=dtype or a.dtype.newbyteorder("="))


def _threads(x: Array) -> int:
    # Starting a thread costs about as much as transforming this many samples.
    return max(1, min(get_num_threads(), x.size >> 16))

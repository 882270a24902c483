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
from medkern.rules import at_least, message
from medkern.rules import euclidean as euclidean_rules
from medkern.rules import haar as rules

try:
    from medkern import _core
except ImportError as error:
    raise ImportError(
        f"medkern.numpy: the compiled module medkern._core must be there, got: {error}; install "
        "g++ and reinstall medkern, or use the functions of medkern itself, which need torch only"
    ) from error

__all__ = [
    "euclidean_distance",
    "get_num_threads",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "set_num_threads",
]

Array = np.ndarray[Any, Any]

_library.select_isa(_library.core_isa())

_FLOATS = ("float16", "float32", "float64")
_IMAGES = ("uint8", "int16")  # by the reversible transform, to ...
_LIFTED = ("int16", "int32")
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


def _threads(x: Array) -> int:
    # Starting a thread costs about as much as transforming this many samples.
    return max(1, min(get_num_threads(), x.size >> 16))

"""What the families share: the compiled module, threads, and arrays as the kernels take them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkern import _library
from medkern.rules import at_least, message
from medkern.rules.grid import Layout

try:
    from medkern import _core
except ImportError as error:
    raise ImportError(
        f"medkern.numpy: the compiled module medkern._core must be there, got: {error}; install "
        "g++ and reinstall medkern, or use the functions of medkern itself, which need torch only"
    ) from error

__all__ = [
    "FLOATS",
    "Array",
    "_core",
    "array",
    "as_batch",
    "full_rank",
    "get_num_threads",
    "set_num_threads",
    "threads_for",
]

Array = np.ndarray[Any, Any]

_library.select_isa(_library.core_isa())

FLOATS = ("float16", "float32", "float64")


class _Threads:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def set_num_threads(count: int) -> None:
    """Use this many threads per call from now on."""
    at_least("numpy.set_num_threads", "count", count, 1)
    _Threads.count = count


def get_num_threads() -> int:
    """The number of threads per call; at first, all processors this process may use."""
    return _Threads.count or 1


def array(op: str, argument: str, value: object, dtypes: Sequence[str]) -> Array:
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


def as_batch(x: Array, trailing: int) -> Array:
    """[..., *trailing axes] as C-contiguous [B, C, *trailing axes] in native byte order."""
    lead = x.shape[: x.ndim - trailing]
    shape = (math.prod(lead[:-1]), *lead[-1:]) if lead else (1, 1)
    native = x.dtype.newbyteorder("=")
    return np.ascontiguousarray(x, dtype=native).reshape((*shape, *x.shape[len(lead) :]))


def full_rank(a: Array, layout: Layout, dtype: Any = None) -> Array:
    """[leading axes, *space] as C-contiguous [B, N, *space], in native byte order."""
    a = a.reshape((1,) * (layout.ndim + 2 - a.ndim) + a.shape)
    a = np.broadcast_to(a, (layout.batch, *a.shape[1:]))
    return np.ascontiguousarray(a, dtype=dtype or a.dtype.newbyteorder("="))


def threads_for(x: Array) -> int:
    # Starting a thread costs about as much as transforming this many samples.
    return max(1, min(get_num_threads(), x.size >> 16))

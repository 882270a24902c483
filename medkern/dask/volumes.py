"""What the chunked transforms share: Dask itself, and checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from medkern.rules import message

try:
    import dask.array as da
    from dask.base import compute
    from dask.delayed import delayed
except ImportError as error:
    raise ImportError(
        f"medkern.dask: Dask must be installed, got: {error}; pip install 'medkern[dask]'"
    ) from error

__all__ = ["Array", "Index", "check", "compute", "da", "delayed"]

Array = np.ndarray[Any, Any]
Index = tuple[int, ...]


def check(op: str, argument: str, array: object) -> None:
    """Refuse anything but one image in chunks of known sizes."""
    op, remedy = f"dask.{op}", "use dask.array.from_array, or medkern itself"
    if not isinstance(array, da.Array):
        kind = type(array).__name__
        raise TypeError(message(op, argument, "be a Dask array", kind, remedy))
    if not 1 <= array.ndim <= 3 or 0 in array.shape:
        rule = "be [*space] with 1 to 3 axes, none empty"
        raise ValueError(message(op, argument, rule, array.shape, "select one image"))
    if any(np.isnan(n) for axis in array.chunks for n in axis):
        rule = "have known chunk sizes"
        raise ValueError(message(op, argument, rule, array.chunks, "call compute_chunk_sizes()"))

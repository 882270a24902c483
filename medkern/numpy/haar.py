"""Haar wavelets on NumPy arrays: see `medkern.ops.haar`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medkern.numpy.arrays import FLOATS, Array, _core, array, as_batch, threads_for
from medkern.rules import haar as rules

_IMAGES = ("uint8", "int16")  # by the reversible transform, to ...
_LIFTED = ("int16", "int32")
_PADS = {"zero": 0, "replicate": 1, "symmetric": 1, "reflect": 2, "periodic": 3}


def haar_dwt(x: Array, *, ndim: int = 2, pad: str = "symmetric") -> Array:
    """One level of the Haar transform: see `medkern.haar_dwt`."""
    x = array("haar_dwt", "x", x, (*FLOATS, *_IMAGES))
    space = rules.space_of("haar_dwt", x.shape, ndim, pad)
    out: Array = _core.haar_dwt(as_batch(x, ndim), ndim, _PADS[pad], threads_for(x))
    return out.reshape((*x.shape[: x.ndim - ndim], 2**ndim, *map(rules.half, space)))


def haar_idwt(bands: Array, *, ndim: int = 2, size: Sequence[int] | None = None) -> Array:
    """The inverse of `haar_dwt`: see `medkern.haar_idwt`."""
    bands = array("haar_idwt", "bands", bands, (*FLOATS, *_LIFTED))
    fine = rules.size_of("haar_idwt", bands.shape, ndim, size)
    out: Array = _core.haar_idwt(as_batch(bands, ndim + 1), list(fine), threads_for(bands))
    return out.reshape((*bands.shape[: bands.ndim - ndim - 1], *fine))


def haar_wavedec(
    x: Array, levels: int | None = None, *, ndim: int = 2, pad: str = "symmetric"
) -> list[Array]:
    """The multi-level Haar transform: see `medkern.haar_wavedec`."""
    x = array("haar_wavedec", "x", x, (*FLOATS, *_IMAGES))
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
    x = array("haar_pool", "x", x, FLOATS)
    space = rules.pool_space("haar_pool", x.shape, mode, ndim, pad)
    outputs = rules.pool_outputs(mode, ndim)
    out: Array = _core.haar_pool(as_batch(x, ndim), mode, ndim, _PADS[pad], threads_for(x))
    lead = list(x.shape[: x.ndim - ndim])
    if outputs > 1:
        lead[-1] *= outputs
    return out.reshape((*lead, *map(rules.half, space)))

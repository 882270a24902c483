"""Haar wavelets by slicing, one axis at a time (Das et al., ICPR 2024, section 3).

Half-precision inputs are computed in float32, like in the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SQRT_HALF = math.sqrt(0.5)


def haar_dwt(x: Tensor, ndim: int, pad: str) -> Tensor:
    """x [B, C, *size] -> [B, C, 2**ndim, *half]; bit i of a band: high-pass along axis i."""
    return torch.stack(_analyse(_widen(x), ndim, pad, _haar_pair), dim=2).to(x.dtype)


def haar_idwt(bands: Tensor, size: Sequence[int], pad: str) -> Tensor:
    """bands [B, C, 2**ndim, *half] -> [B, C, *size]: the adjoint of haar_dwt with this pad.

    With pad "zero" it drops the samples past `size`: the inverse, for any pad of the analysis.
    """
    out = _synthesise(list(_widen(bands).unbind(2)), len(size), _haar_unpair)
    return _fold(out, size, pad).to(bands.dtype)


def haar_lift(x: Tensor, ndim: int, pad: str) -> Tensor:
    """Integer x -> bands of the next wider signed type, reversible (the S-transform)."""
    wide = torch.int16 if x.dtype == torch.uint8 else torch.int32
    return torch.stack(_analyse(x.to(wide), ndim, pad, _lift_pair), dim=2)


def haar_unlift(bands: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of haar_lift."""
    narrow = torch.uint8 if bands.dtype == torch.int16 else torch.int16
    out = _synthesise(list(bands.unbind(2)), len(size), _unlift_pair)
    return _fold(out, size, "zero").to(narrow)


def haar_pool(x: Tensor, mode: str, ndim: int, pad: str) -> Tensor:
    """x [B, C, *size] -> [B, outputs * C, *half] for the modes ll, iewa, all and bands."""
    if mode == "bands":
        return haar_dwt(x, ndim, pad).transpose(1, 2).flatten(1, 2)
    corners = _analyse(_widen(x), ndim, pad, _place_pair)
    terms = [w * c for w, c in zip(_stencil(mode, ndim), corners, strict=True) if w != 0]
    return (torch.stack(terms).sum(0) * 2 ** (-ndim / 2)).to(x.dtype)


def haar_pool_backward(grad: Tensor, size: Sequence[int], mode: str, pad: str) -> Tensor:
    """The adjoint of haar_pool: grad [B, outputs * C, *half] -> [B, C, *size]."""
    ndim = len(size)
    if mode == "bands":
        return haar_idwt(grad.unflatten(1, (2**ndim, -1)).transpose(1, 2), size, pad)
    unit = _widen(grad) * 2 ** (-ndim / 2)
    corners = [w * unit if w != 0 else torch.zeros_like(unit) for w in _stencil(mode, ndim)]
    return _fold(_synthesise(corners, ndim, _place_pair), size, pad).to(grad.dtype)


def _stencil(mode: str, ndim: int) -> list[int]:
    """Weight of each corner of a block, times 2**(ndim / 2).

    The sum of all bands is the first corner alone; IEWA takes the last band away from it.
    """
    corners = range(2**ndim)
    if mode == "ll":
        return [1 for _ in corners]
    all_bands = [2**ndim if q == 0 else 0 for q in corners]
    if mode == "all":
        return all_bands
    return [w - (-1) ** q.bit_count() for q, w in zip(corners, all_bands, strict=True)]


def haar_max_concat(x: Tensor, keys: Tensor, ndim: int, pad: str) -> Tensor:
    """[LL of x, x where keys are largest] along the channels; keys = x is Souza's pooling."""
    chosen = _corners(_widen(x), ndim, pad).gather(2, _winners(keys, ndim, pad)).squeeze(2)
    return torch.cat([haar_pool(x, "ll", ndim, pad), chosen.to(x.dtype)], dim=1)


def haar_max_concat_backward(grad: Tensor, keys: Tensor, ndim: int, pad: str) -> Tensor:
    """The adjoint of haar_max_concat in x."""
    size = keys.shape[2:]
    low, high = _widen(grad).chunk(2, dim=1)
    corners = torch.zeros(*low.shape[:2], 2**ndim, *low.shape[2:], dtype=low.dtype)
    corners = corners.to(low.device).scatter(2, _winners(keys, ndim, pad), high.unsqueeze(2))
    spread = _fold(_synthesise(list(corners.unbind(2)), ndim, _place_pair), size, pad)
    return (haar_pool_backward(low, size, "ll", pad) + spread).to(grad.dtype)


Pair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _haar_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return (a + b) * SQRT_HALF, (a - b) * SQRT_HALF


_haar_unpair = _haar_pair  # orthonormal and symmetric


def _lift_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    detail = a - b
    return b + (detail >> 1), detail


def _unlift_pair(mean: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
    b = mean - (detail >> 1)
    return b + detail, b


def _place_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, b


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _analyse(x: Tensor, ndim: int, pad: str, pair: Pair) -> list[Tensor]:
    """Split along every spatial axis, the first one first: bit i of the band index is axis i."""
    bands = [x]
    for axis in range(-ndim, 0):
        pairs = [pair(*_even_odd(band, axis, pad)) for band in bands]
        bands = [low for low, _ in pairs] + [high for _, high in pairs]
    return bands


def _synthesise(bands: list[Tensor], ndim: int, unpair: Pair) -> Tensor:
    """The inverse of `_analyse` on extents 2 * half."""
    for axis in reversed(range(-ndim, 0)):
        lows, highs = bands[: len(bands) // 2], bands[len(bands) // 2 :]
        pairs = zip(lows, highs, strict=True)
        bands = [_interleave(*unpair(low, high), axis) for low, high in pairs]
    return bands[0]


def _even_odd(x: Tensor, axis: int, pad: str) -> tuple[Tensor, Tensor]:
    n = x.shape[axis]
    if n % 2 == 1:
        x = torch.cat([x, _extension(x, axis, pad)], dim=axis)
    pairs = x.unflatten(axis, (-1, 2))
    return pairs.select(axis, 0), pairs.select(axis, 1)


def _extension(x: Tensor, axis: int, pad: str) -> Tensor:
    n = x.shape[axis]
    if pad == "zero":
        return torch.zeros_like(x.narrow(axis, 0, 1))
    source = {"reflect": n - 2, "periodic": 0}.get(pad, n - 1)
    return x.narrow(axis, source, 1)


def _interleave(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    return torch.stack([even, odd], dim=axis).flatten(axis - 1, axis)


def _fold(padded: Tensor, size: Sequence[int], pad: str) -> Tensor:
    """Adjoint of the extension: cut each axis to size, adding what the padding copied."""
    for i, n in enumerate(size):
        axis = i - len(size)
        if n % 2 == 1:
            extra = padded.narrow(axis, n, 1)
            padded = padded.narrow(axis, 0, n)
            if pad != "zero":
                source = {"reflect": n - 2, "periodic": 0}.get(pad, n - 1)
                index = torch.tensor([source], device=padded.device)
                padded = padded.index_add(axis, index, extra)
    return padded


def _corners(x: Tensor, ndim: int, pad: str) -> Tensor:
    """The samples of each block [B, C, 2**ndim, *half], in band order."""
    return torch.stack(_analyse(x, ndim, pad, _place_pair), dim=2)


def _winners(keys: Tensor, ndim: int, pad: str) -> Tensor:
    """Which corner is largest: the first in row-major order, or the last NaN (as max_pool)."""
    corners = _corners(keys, ndim, pad)
    order = [int(format(i, f"0{ndim}b")[::-1], 2) for i in range(2**ndim)]
    best, winner = corners[:, :, 0], torch.zeros_like(corners[:, :, 0], dtype=torch.int64)
    for corner in order[1:]:
        key = corners[:, :, corner]
        take = (key > best) | key.isnan()
        best, winner = torch.where(take, key, best), torch.where(take, corner, winner)
    return winner.unsqueeze(2)

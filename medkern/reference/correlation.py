"""Sums of correlation coefficients over arrays and over rings of half spectra, as defined.

Half-precision arrays are computed in float32, like in the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medkern.reference.half_spectrum import column_counts
from medkern.reference.segmentation import widen

# More than a radius can be rounded inwards, less than those inside an edge are away from it.
OUTWARDS = 1 + 1e-13

# The last axis of the sums.
PRODUCT, P_SQUARED, Y_SQUARED = range(3)


def correlation_sums(
    p: Tensor, y: Tensor, size: Sequence[int], rings: int, low: float, high: float, edge: float
) -> Tensor:
    """Sums of p y, p^2 and y^2: of arrays [B, C, *space] -> [B, C, 1, 3], or, where `size` is that
    of the real arrays, of half spectra [B, C, *half, 2] -> [B, C, rings + 1, 3], corners last."""
    a, b = widen(p), widen(y)
    terms = torch.stack([a * b, a * a, b * b], dim=-1)
    if not size:
        return terms.sum(tuple(range(2, p.dim()))).unsqueeze(2)
    ring, weight = rings_and_weights(size, rings, low, high, edge, a)
    terms = terms.sum(-2) * weight.unsqueeze(-1)  # of real and imaginary part
    space = tuple(range(2, 2 + len(size)))
    return torch.stack(
        [(terms * (ring == r).unsqueeze(-1)).sum(space) for r in range(rings + 1)], dim=2
    )


def correlation_sums_backward(
    p: Tensor,
    grad: Tensor,
    y: Tensor,
    size: Sequence[int],
    rings: int,
    low: float,
    high: float,
    edge: float,
) -> Tensor:
    """The gradient of correlation_sums in p, for grad of the shape of the sums."""
    a, b = widen(p), widen(y)
    if size:
        ring, weight = rings_and_weights(size, rings, low, high, edge, a)
        g = grad[:, :, ring] * weight.unsqueeze(-1)  # [B, C, *half, 3]
        g = g.unsqueeze(-2)
    else:
        g = grad.reshape(*grad.shape[:2], *[1] * (p.dim() - 2), 3)
    return (g[..., PRODUCT] * b + 2 * g[..., P_SQUARED] * a).to(p.dtype)


def radii(size: Sequence[int], device: torch.device) -> Tensor:
    """|k| of a half spectrum [*half] in float64; 1 is the Nyquist frequency of an axis."""
    total = torch.zeros((), dtype=torch.float64, device=device)
    for axis, n in enumerate(size):
        k = torch.arange(n, dtype=torch.float64, device=device)
        k = torch.where(2 * k > n, k - n, k)[: n if axis < len(size) - 1 else n // 2 + 1]
        f = (2 * k / n).reshape(-1, *[1] * (len(size) - 1 - axis))
        total = total + f * f
    return total.sqrt()


def rings_and_weights(
    size: Sequence[int], rings: int, low: float, high: float, edge: float, like: Tensor
) -> tuple[Tensor, Tensor]:
    """The ring of every frequency, `rings` in the corners, and its weight, both [*half].

    A frequency on the edge of two rings is in the outer one, however its radius rounds."""
    radius = radii(size, like.device) * OUTWARDS
    ring = (radius * rings).long().clamp(max=rings)
    if edge == 0:
        band = ((radius >= low) & (radius < high)).double()
    else:
        rise, fall = (radius - low) / edge + 0.5, (high - radius) / edge + 0.5
        band = rise.clamp(0, 1) * fall.clamp(0, 1)
    return ring, (band * column_counts(band, size[-1])).to(like.dtype)

"""Augmentations in the Fourier domain.

Amplitude jitter: Yang and Yu, "A Single Source Generalization Model via Spatial Amplitude
Perturbation and Sensitivity Guidance", ICPR 2024, equations 1 to 5. Amplitude swap: Yang and
Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020, equation 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medkern.reference.philox import WORD, normals, philox

DC_FLOOR = 0.1


def amplitude_jitter(
    x: Tensor, stream: Tensor, alpha: float, beta: float, per_channel: bool, dc_clamp: bool
) -> Tensor:
    """x [B, C, H, W] with its spectrum multiplied by `amplitude_noise`."""
    if x.numel() == 0:
        return x.clone()
    channels = x.shape[1] if per_channel else 1
    size = (x.shape[-2], x.shape[-1])
    mu = amplitude_noise(stream, channels, size, alpha, beta, dc_clamp)
    jittered: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * mu.to(x.dtype), s=size)
    return jittered


def amplitude_noise(
    stream: Tensor,
    channels: int,
    size: tuple[int, int],
    alpha: float,
    beta: float,
    dc_clamp: bool,
) -> Tensor:
    """Multipliers of the half spectrum [B, C, H, K] in float64.

    stream: [B, 2] int64, the seed and the index of each sample.

    The paper draws mu(k) ~ N(1, s^2) for every bin k of the full spectrum, with s^2 = alpha D +
    beta and D = |k|^2 over its largest value. The real part of the inverse transform is that of the
    mean of mu(k) and mu(-k): one normal number for a pair of conjugate bins, of variance s^2 / 2,
    or s^2 where a bin is its own conjugate.
    """
    height, width = size
    rows = torch.arange(height, device=stream.device)
    columns = torch.arange(width // 2 + 1, device=stream.device)
    square = (torch.minimum(rows, height - rows).square()[:, None] + columns.square()).double()
    distance = square / max((height // 2) ** 2 + (width // 2) ** 2, 1)
    edge = (columns == 0) | (2 * columns == width)  # where both bins of a pair lie in the column
    alone = edge & (2 * rows % height == 0)[:, None]
    deviation = ((alpha * distance + beta) * torch.where(alone, 1.0, 0.5)).sqrt()
    own = _normals(stream, channels, height, len(columns))
    of_pair = own[..., torch.minimum(rows, (height - rows) % height), :]
    mu = 1 + deviation * torch.where(edge, of_pair, own)
    if dc_clamp:
        mu[..., 0, 0].clamp_(min=DC_FLOOR)
    return mu


def _normals(stream: Tensor, channels: int, height: int, columns: int) -> Tensor:
    """[B, C, H, K]: counter (g, row, channel, sample), key seed; output i is of column g + i G."""
    groups = math.ceil(columns / 4)

    def along(count: int, axis: int) -> Tensor:
        shape = [1, 1, 1, 1]
        shape[axis] = count
        return torch.arange(count, device=stream.device).reshape(shape)

    seed, sample = (stream[:, i].reshape(-1, 1, 1, 1) for i in (0, 1))
    counter = along(groups, 3), along(height, 2), along(channels, 1), sample & WORD
    drawn = normals(philox(counter, (seed & WORD, (seed >> 32) & WORD)))
    return torch.cat(drawn, dim=-1)[..., :columns]


def low_modes(x: Tensor, radius: int) -> Tensor:
    """x [B, C, H, W] -> sum_hw x e^(-2 pi i (k h / H + l w / W)), [B, C, 2r + 1, r + 1, 2].

    Rows are k = -r .. r, columns l = 0 .. r.
    """
    rows, columns = _waves(x, radius)
    return torch.view_as_real((rows @ x.to(rows.dtype) @ columns.mT).conj().resolve_conj())


def add_low_modes(x: Tensor, modes: Tensor) -> Tensor:
    """x + the real part of sum_kl modes e^(2 pi i (k h / H + l w / W)); the sum is the adjoint of
    low_modes."""
    rows, columns = _waves(x, modes.shape[-2] - 1)
    weights = torch.view_as_complex(modes.contiguous())
    return x + (rows.mT @ weights @ columns).real


def _waves(x: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """e^(2 pi i k h / H) [2r + 1, H] and e^(2 pi i l w / W) [r + 1, W]."""

    def waves(first: int, last: int, size: int) -> Tensor:
        k = torch.arange(first, last + 1, device=x.device)[:, None]
        turns = (k * torch.arange(size, device=x.device)) % size
        angle = 2 * math.pi / size * turns.double()
        real, imaginary = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        return torch.complex(real, imaginary)

    height, width = x.shape[-2:]
    return waves(-radius, radius, height), waves(0, radius, width)

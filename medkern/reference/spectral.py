"""The truncated Fourier transform and the mixing of its modes, through torch's own FFT.

Drozdov and Sorokin, "FNOReg", section 3; Li et al., "Fourier neural operator", ICLR 2021. Kept
spectra are real: [..., *modes, 2], the real part first. Half precision is computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dft_kept(
    x: Tensor, modes: Sequence[int], grid: Sequence[int], weighted: bool, power: float, method: str
) -> Tensor:
    """N**power c_l sum_x x exp(-2 pi i k.x / size) on the kept modes k.

    x [B, C, *size] -> [B, C, *modes, 2]. Full axes keep k = -(m // 2) .. (m - 1) // 2, the last one
    l = 0 .. m - 1. On `grid`, N counts the samples, c_l counts l and -l if weighted, else it is 1,
    and the Nyquist mode along an axis is a cosine.
    """
    if x.numel() == 0:  # which torch's FFT refuses
        return widen(x).reshape(*x.shape[:2], *modes, 2)
    size, modes_last = x.shape[2:], modes[-1]
    z = torch.fft.rfft(widen(x)).narrow(-1, 0, modes_last)
    z = cosine_at_nyquist(z, grid[-1])
    if x.dim() > 3:
        z = torch.fft.fftn(z, dim=list(range(2, x.dim() - 1)))
    for axis, n, m, period in zip(range(2, x.dim() - 1), size, modes, grid, strict=False):
        k = signed(m, x.device)
        kept = z.index_select(axis, k % n)
        if 2 * (m // 2) == period:
            mirrored = z.index_select(axis, -k % n)
            is_nyquist = along(2 * k == -period, axis, z.dim())
            kept = torch.where(is_nyquist, (kept + mirrored) / 2, kept)
        z = kept
    if weighted:
        z = z * multiplicity(modes_last, grid[-1], z.real)
    return torch.view_as_real(z * math.prod(grid) ** power)


def idft_kept(
    z: Tensor,
    size: Sequence[int],
    grid: Sequence[int],
    weighted: bool,
    power: float,
    dtype: torch.dtype,
    method: str,
) -> Tensor:
    """N**power Re sum_k c_l z_k exp(2 pi i k.x / size) over the kept modes k.

    z [B, C, *modes, 2] -> [B, C, *size] in `dtype`; modes, c_l and N as in dft_kept.
    """
    if z.numel() == 0:
        return z.reshape(*z.shape[:2], *size).to(dtype)
    y = torch.view_as_complex(z.contiguous())
    modes = y.shape[2:]
    if weighted:
        y = y * multiplicity(modes[-1], grid[-1], y.real)
    y = y / multiplicity(modes[-1], size[-1], y.real)  # irfft counts both signs again
    for axis, n, m, period in zip(range(2, y.dim() - 1), size, modes, grid, strict=False):
        k = signed(m, z.device)
        full = y.new_zeros([*y.shape[:axis], n, *y.shape[axis + 1 :]])
        if 2 * (m // 2) == period:
            is_nyquist = along(2 * k == -period, axis, y.dim())
            y = torch.where(is_nyquist, y / 2, y)
            full = full.index_add(axis, -k % n, torch.where(is_nyquist, y, 0))
        y = full.index_add(axis, k % n, y)
    if y.dim() > 3:
        y = torch.fft.ifftn(y, dim=list(range(2, y.dim() - 1)), norm="forward")
    y = cosine_at_nyquist(y, grid[-1])
    out: Tensor = torch.fft.irfft(y, n=size[-1], norm="forward") * math.prod(grid) ** power
    return out.to(dtype)


def mode_mix(a: Tensor, b: Tensor, conj_a: bool, conj_b: bool) -> Tensor:
    """c_xy = sum_s a_xs b_ys for every mode; a [X, S, K, 2], b [Y, S, K, 2] -> [X, Y, K, 2]."""
    left = torch.view_as_complex(a.contiguous())
    right = torch.view_as_complex(b.contiguous())
    left, right = left.conj() if conj_a else left, right.conj() if conj_b else right
    c: Tensor = torch.einsum("xsk,ysk->xyk", left, right)
    return torch.view_as_real(c)


def widen(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def signed(modes: int, device: torch.device) -> Tensor:
    return torch.arange(-(modes // 2), (modes + 1) // 2, device=device)


def along(t: Tensor, axis: int, dims: int) -> Tensor:
    return t.reshape([-1 if i == axis else 1 for i in range(dims)])


def cosine_at_nyquist(z: Tensor, grid: int) -> Tensor:
    """The Nyquist mode of the last axis has no sine, on whatever grid it is sampled."""
    imaginary = torch.where(2 * torch.arange(z.shape[-1], device=z.device) == grid, 0, z.imag)
    return torch.complex(z.real, imaginary)


def multiplicity(modes: int, grid: int, like: Tensor) -> Tensor:
    """How many of l and -l are different modes of a real signal on `grid`: 1 or 2."""
    frequency = torch.arange(modes, device=like.device)
    single = (frequency == 0) | (2 * frequency == grid)
    return torch.where(single, 1, 2).to(like.dtype)

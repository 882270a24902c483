"""Half spectra of real arrays.

A half spectrum is rfftn of an array over its spatial axes, orthonormal, as real and imaginary
parts: [B, C, *half, 2], where `half` is the size of the array, its last axis cut to
width // 2 + 1 columns. Those between the first and the last (width even) stand for their mirror
images too, so that sums over the spectrum count them twice.
"""

from __future__ import annotations

import torch
from torch import Tensor


def half_spectrum(x: Tensor) -> Tensor:
    """x [B, C, *space] -> its half spectrum [B, C, *half, 2]."""
    if x.numel() == 0:  # torch has no transform of nothing
        return x.sum().expand(*x.shape[:-1], x.shape[-1] // 2 + 1, 2)
    spectrum = torch.fft.rfftn(x, dim=tuple(range(2, x.dim())), norm="ortho")
    return torch.view_as_real(spectrum)


def half_spectrum_adjoint(spectrum: Tensor, width: int) -> Tensor:
    """The adjoint of half_spectrum: [B, C, *half, 2] -> [B, C, *space], the last axis of `width`.

    The inverse counts interior columns twice, the adjoint once. The last axis by itself, as an
    inverse over several may take for granted that the spectrum is one of a real array.
    """
    if spectrum.numel() == 0:
        return spectrum.sum().expand(*spectrum.shape[:-2], width)
    once = spectrum / column_counts(spectrum, width).unsqueeze(-1)
    rows = torch.view_as_complex(once.contiguous())
    if rows.dim() > 3:
        rows = torch.fft.ifftn(rows, dim=tuple(range(2, rows.dim() - 1)), norm="ortho")
    x: Tensor = torch.fft.irfft(rows, n=width, norm="ortho")
    return x


def column_counts(like: Tensor, width: int) -> Tensor:
    """How many bins of the full spectrum a column of the half spectrum stands for [K]."""
    counts = torch.full((width // 2 + 1,), 2.0, dtype=like.dtype, device=like.device)
    counts[0] = 1.0
    if width % 2 == 0:
        counts[-1] = 1.0
    return counts

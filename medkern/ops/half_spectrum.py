"""Half spectra of real arrays, and the adjoint of taking them: the transforms of losses and
augmentations.

The transforms are torch's. For even widths the adjoint on the CPU is one complex transform of half
the width, as torch's inverse is slow there. See `medkern.reference.half_spectrum`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.reference import half_spectrum as reference
from medkern.testing import image_layouts

SPECTRAL = (torch.float32, torch.float64)


def _fake(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-1] // 2 + 1, 2)


def _fake_adjoint(spectrum: Tensor, width: int) -> Tensor:
    return spectrum.new_empty(*spectrum.shape[:-2], width)


def _remember_width(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.width = inputs[0].shape[-1] if len(inputs) == 1 else inputs[1]


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x, _ in image_layouts(dtype):
        yield Sample(name, (x,))


def spectrum_samples(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, int]]:
    """Half spectra of every kind of layout, and their widths."""
    random = torch.Generator().manual_seed(4)

    def spectrum(*shape: int) -> Tensor:
        return torch.randn(*shape, 2, generator=random, dtype=torch.float64).to(dtype)

    yield "contiguous", spectrum(2, 3, 4, 4), 6
    yield "odd", spectrum(1, 2, 5, 35), 69
    yield "transposed", spectrum(2, 2, 3, 4).transpose(2, 3), 5
    yield "sliced", spectrum(2, 2, 9, 4)[:, 1:, 1::2], 6
    yield "expanded", spectrum(1, 2, 1, 3).expand(2, 2, 4, 3, 2), 4
    yield "channels_last", spectrum(2, 3, 4, 2).movedim(3, 1), 7
    yield "empty-batch", spectrum(0, 2, 3, 3), 5
    yield "size-1", spectrum(1, 1, 1, 1), 1
    yield "line", spectrum(2, 3, 5), 8
    yield "line-odd", spectrum(2, 3, 5), 9
    yield "volume", spectrum(1, 2, 3, 4, 3), 4
    yield "volume-odd", spectrum(1, 2, 4, 3, 3).transpose(2, 3), 5


def _adjoint_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, spectrum, width in spectrum_samples(dtype):
        yield Sample(name, (spectrum, width))


_half_spectrum: Op = register(
    OpSpec(
        name="_half_spectrum",
        schema="(Tensor x) -> Tensor",
        reference=reference.half_spectrum,
        fake=_fake,
        samples=_samples,
        setup_context=_remember_width,
        backward=lambda ctx, grad: _half_spectrum_adjoint(grad, ctx.width),
        jvp=lambda ctx, tangent: _half_spectrum(tangent),
        autocast="float32",
        dtypes=SPECTRAL,
        triton="medkern.kernels.half_spectrum:half_spectrum",
    )
)
_half_spectrum_adjoint: Op = register(
    OpSpec(
        name="_half_spectrum_adjoint",
        schema="(Tensor spectrum, SymInt width) -> Tensor",
        reference=reference.half_spectrum_adjoint,
        fake=_fake_adjoint,
        samples=_adjoint_samples,
        setup_context=_remember_width,
        backward=lambda ctx, grad: (_half_spectrum(grad), None),
        jvp=lambda ctx, tangent, _: _half_spectrum_adjoint(tangent, ctx.width),
        autocast="float32",
        dtypes=SPECTRAL,
        triton="medkern.kernels.half_spectrum:half_spectrum_adjoint",
    )
)

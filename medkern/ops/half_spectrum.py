"""Half spectra of real arrays, and the adjoint of taking them: the transforms of losses and
augmentations.

The transforms are torch's; on the CPU, whose inverse is slow, packed. See
`medkern.reference.half_spectrum`.
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


def _adjoint_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Spectra of no real array, strided like the images, of odd and even widths in turn."""
    for i, (name, x, _) in enumerate(image_layouts(dtype)):
        spectrum = torch.stack([x, 1 - x]).movedim(0, -1)
        columns = x.shape[-1]
        yield Sample(name, (spectrum, 2 * columns - 1 - i % 2 * (columns > 1)))


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

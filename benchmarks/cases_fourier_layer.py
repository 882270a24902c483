"""The Fourier layer of FNO and FNOReg, and its epilogue alone, against torch's own ops."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F

import medkern
from medkern.benchmarks.registry import Case

Tensor = torch.Tensor
CONVS = (F.conv1d, F.conv2d, F.conv3d)
VOLUME, IMAGE = (1, 12, 80, 96, 112), (1, 64, 256, 256)


def cases() -> Iterable[Case]:
    yield epilogue_case((1, 32, 128, 128), quick=True)
    yield epilogue_case(VOLUME)
    yield epilogue_case(IMAGE)
    yield layer_case(VOLUME, (20, 24, 14))
    yield layer_case(IMAGE, (40, 24))


def epilogue_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    array, products = 4 * math.prod(shape), 2 * math.prod(shape) * shape[1]
    return Case(
        op="fourier_epilogue",
        name=f"fourier_epilogue/{'x'.join(map(str, shape))}/float32",
        inputs=lambda: inputs(shape),
        native=medkern.fourier_epilogue,
        reference=plain,
        tolerance=1e-6,
        tolerance_backward=1e-4,  # torch's own sums over pixels lose that much in float32
        bytes_moved=3 * array,
        bytes_backward=5 * array,
        flops=products,
        flops_backward=3 * products,
        quick=quick,
    )


def layer_case(shape: tuple[int, ...], modes: tuple[int, ...]) -> Case:
    """With the spectral convolution, the same in both: what the layer gains as a whole."""
    array, products = 4 * math.prod(shape), 2 * math.prod(shape) * shape[1]
    name = f"{'x'.join(map(str, shape))}/layer_modes_{'x'.join(map(str, modes))}/float32"

    def fused(k: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return medkern.fourier_epilogue(medkern.spectral_conv(x, k, modes), x, w, b)

    def unfused(k: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return plain(medkern.spectral_conv(x, k, modes, bias=b), x, w)

    return Case(
        op="fourier_epilogue",
        name=f"fourier_epilogue/{name}",
        inputs=lambda: layer_inputs(shape, modes),
        native=fused,
        reference=unfused,
        tolerance=1e-5,
        tolerance_backward=1e-4,
        bytes_moved=5 * array,
        bytes_backward=7 * array,
        flops=products,
        flops_backward=3 * products,
    )


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    k, x = torch.randn(2, *shape, generator=random).unbind()
    channels = shape[1]
    weight = torch.randn(channels, channels, generator=random) / channels**0.5
    return k, x, weight, torch.randn(channels, generator=random)


def layer_inputs(shape: tuple[int, ...], modes: tuple[int, ...]) -> tuple[Tensor, ...]:
    _, *rest = inputs(shape)
    random = torch.Generator().manual_seed(1)
    kernel = torch.randn(shape[1], shape[1], *modes, 2, generator=random) / shape[1]
    return kernel, *rest


def plain(k: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    conv = CONVS[x.dim() - 3]
    return F.gelu(k + conv(x, weight[(..., *[None] * (x.dim() - 2))], bias)) + x

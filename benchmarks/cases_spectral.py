"""Spectral convolution: the sizes that Fourier neural operators run at, and FNOReg's own.

The reference is the layer that everyone writes: rfftn, a product per corner, irfftn. The peers are
neuraloperator's layer and the truncated transform written as plain matrix products in torch.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch

import medkern
from medkern.benchmarks.registry import Case, Peer

Tensor = torch.Tensor


def cases() -> Iterable[Case]:
    yield conv_case((8, 32, 128, 128), (24, 12), quick=True)
    yield conv_case((8, 32, 128, 128), (32, 16))
    yield conv_case((8, 32, 128, 128), (64, 32))
    yield conv_case((8, 32, 128, 128), (96, 48))
    yield conv_case((8, 32, 128, 128), (128, 65))
    yield conv_case((8, 32, 160, 192), (40, 24))
    yield conv_case((8, 32, 160, 192), (60, 36))
    yield conv_case((8, 32, 127, 129), (24, 12))
    yield conv_case((16, 32, 4096), (64,))
    yield conv_case((1, 16, 64, 64, 64), (16, 16, 8))
    yield conv_case((1, 8, 128, 128, 128), (16, 16, 8))
    yield conv_case((1, 8, 128, 128, 128), (32, 32, 16))
    yield conv_case((1, 12, 160, 192, 224), (40, 48, 28))


def conv_case(shape: tuple[int, ...], modes: tuple[int, ...], *, quick: bool = False) -> Case:
    batch, channels, *space = shape
    image = 4 * math.prod(shape)
    kept, weights = 8 * batch * channels * math.prod(modes), 8 * channels**2 * math.prod(modes)
    flops = 2 * batch * channels * products(space, modes)
    mixing = 8 * batch * channels**2 * math.prod(modes)
    moved = 2 * image + 2 * kept + weights
    name = f"{'x'.join(map(str, shape))}/modes_{'x'.join(map(str, modes))}/float32"
    peers = {"matrix products": Peer(lambda: lambda x, w: matrix_products(x, w, modes))}
    if all(n % 2 == 0 for n in space):  # the released neuraloperator is wrong on odd sizes
        peers["neuraloperator"] = Peer(lambda: neuraloperator(modes), "neuraloperator")
    return Case(
        op="spectral_conv",
        name=f"spectral_conv/{name}",
        inputs=lambda: inputs(shape, modes),
        native=lambda x, w: medkern.spectral_conv(x, w, modes),
        reference=lambda x, w: fft_layer(x, w, modes),
        tolerance=1e-5,
        peers=peers,
        bytes_moved=moved,
        bytes_backward=moved + kept + weights,
        flops=2 * flops + mixing,
        flops_backward=2 * flops + 2 * mixing,
        quick=quick,
    )


def products(space: Sequence[int], modes: Sequence[int]) -> int:
    """Multiplications of one truncated transform, every axis folded as far as it goes."""
    total, rest, rows = 0.0, math.prod(space), 1
    for n, m in zip(space[:-1], modes[:-1], strict=True):
        total += rows * rest * (m + 1) / (4 if n % 2 == 0 else 2)
        rows, rest = rows * (m + 1), rest // n
    return int(total + rows * rest * modes[-1])


def inputs(shape: tuple[int, ...], modes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random)
    weight = torch.randn(shape[1], shape[1], *modes, 2, generator=random) / shape[1]
    return x, weight


def as_complex(weight: Tensor) -> Tensor:
    return torch.complex(weight[..., 0], weight[..., 1])


def fft_layer(x: Tensor, weight: Tensor, modes: Sequence[int]) -> Tensor:
    axes, w = tuple(range(2, x.dim())), as_complex(weight)
    spectrum = torch.fft.rfftn(x, dim=axes)
    out = spectrum.new_zeros(x.shape[0], w.shape[1], *spectrum.shape[2:])
    for corner, block in corners(modes):
        out[corner] = torch.einsum("bi...,io...->bo...", spectrum[corner], w[block])
    return torch.fft.irfftn(out, s=x.shape[2:], dim=axes)


def corners(modes: Sequence[int]) -> Iterable[tuple[tuple[object, ...], tuple[object, ...]]]:
    """Where the blocks of modes are in a spectrum, and in the weights."""
    last = slice(0, modes[-1])
    for signs in itertools.product((False, True), repeat=len(modes) - 1):
        corner: list[object] = [...]
        block: list[object] = [...]
        for negative, m in zip(signs, modes, strict=False):
            corner.append(slice(-(m // 2), None) if negative else slice(0, m - m // 2))
            block.append(slice(0, m // 2) if negative else slice(m // 2, None))
        yield (*corner, last), (*block, last)


def matrix_products(x: Tensor, weight: Tensor, modes: Sequence[int]) -> Tensor:
    """The truncated transform, one complex matrix product per axis."""
    ndim = len(modes)
    z = torch.complex(x, torch.zeros_like(x))
    for axis in reversed(range(ndim)):  # the axis leaves at the end, its modes come first
        wave = waves(x.shape[2 + axis], modes, axis, x)
        z = torch.tensordot(z, wave.conj(), ([-1], [1])).movedim(-1, 2)
    z = torch.einsum("bi...,io...->bo...", z, as_complex(weight))
    counted = torch.where(torch.arange(modes[-1], device=x.device) == 0, 1, 2)
    if 2 * (modes[-1] - 1) == x.shape[-1]:
        counted[-1] = 1
    z = z * counted
    for axis in range(ndim):
        z = torch.tensordot(z, waves(x.shape[2 + axis], modes, axis, x), ([2], [0]))
    return z.real / math.prod(x.shape[2:])


def waves(size: int, modes: Sequence[int], axis: int, like: Tensor) -> Tensor:
    """exp(2 pi i k x / size) [modes, size]."""
    last = axis == len(modes) - 1
    m = modes[axis]
    k = torch.arange(m, device=like.device) - (0 if last else m // 2)
    phase = 2 * math.pi * (k[:, None] * torch.arange(size, device=like.device) % size) / size
    return torch.polar(torch.ones_like(phase), phase)


def neuraloperator(modes: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
    """Its layer with our weights: last axes of n modes keep n // 2 + 1 there."""
    module = importlib.import_module("neuralop.layers.spectral_convolution")
    layers: dict[int, torch.nn.Module] = {}

    def run(x: Tensor, weight: Tensor) -> Tensor:
        channels = x.shape[1]
        if channels not in layers:
            counts = (*modes[:-1], 2 * (modes[-1] - 1))
            layer = module.SpectralConv(channels, channels, counts, bias=False)
            del layer.weight
            layers[channels] = layer
        layers[channels].weight = as_complex(weight)
        return layers[channels](x)  # type: ignore[no-any-return]

    return run

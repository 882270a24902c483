"""Losses on spectra, and augmentation in the Fourier domain.

Their references are what users write: the published package or formula, full complex transforms.
Peers take the half spectrum of the difference, in plain torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable

import torch

import medkern
from medkern.benchmarks.registry import Case, Peer
from medkern.reference import augment

Tensor = torch.Tensor
SEED = 7


def cases() -> Iterable[Case]:
    for shape in ((8, 1, 128, 128), (8, 3, 256, 256), (8, 1, 512, 512)):
        yield focal_case(shape, quick=shape[-1] == 128)
    yield amplitude_case((8, 1, 128, 128), quick=True)
    yield amplitude_case((8, 3, 256, 256))
    for shape in ((8, 1, 128, 128), (8, 3, 256, 256), (8, 3, 512, 512)):
        yield jitter_case(shape, quick=shape[-1] == 128)
    for shape in ((8, 1, 128, 128), (8, 3, 256, 256), (4, 3, 512, 512)):
        tolerance = 5e-5 if shape[-1] == 512 else 1e-5
        yield swap_case(shape, 0.05, tolerance=tolerance, quick=shape[-1] == 128)


def name_of(op: str, shape: tuple[int, ...], *more: str) -> str:
    return "/".join([op, "x".join(map(str, shape)), *more, "float32"])


def images(shape: tuple[int, ...], count: int = 2) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(0)
    return tuple(torch.rand(shape, generator=random) for _ in range(count))


def focal_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    size = torch.Size(shape).numel() * 4
    return Case(
        op="focal_frequency_loss",
        name=name_of("focal_frequency_loss", shape),
        inputs=lambda: images(shape),
        native=medkern.focal_frequency_loss,
        reference=published_focal_loss,
        tolerance=1e-5,
        peers={
            "focal-frequency-loss": Peer(focal_package, "focal-frequency-loss"),
            "rfft2 of the difference": Peer(lambda: half_spectrum_focal_loss),
        },
        bytes_moved=2 * size,
        bytes_backward=2 * size,
        bound="read",
        quick=quick,
    )


def focal_package() -> Callable[[Tensor, Tensor], Tensor]:
    module = importlib.import_module("focal_frequency_loss")
    loss: Callable[[Tensor, Tensor], Tensor] = module.FocalFrequencyLoss()
    return loss


def published_focal_loss(pred: Tensor, target: Tensor) -> Tensor:
    x, y = (torch.view_as_real(torch.fft.fft2(t, norm="ortho")) for t in (pred, target))
    square = (x - y).square().sum(-1)
    weight = square.detach().sqrt()
    weight = weight / weight.amax((-2, -1), keepdim=True)
    return (weight.nan_to_num(0).clamp(0, 1) * square).mean()


def half_spectrum_focal_loss(pred: Tensor, target: Tensor) -> Tensor:
    spectrum = torch.view_as_real(torch.fft.rfft2(pred - target, norm="ortho"))
    square = spectrum.square().sum(-1)
    weight = square.detach().sqrt()
    weight = (weight / weight.amax((-2, -1), keepdim=True)).nan_to_num(0).clamp(0, 1)
    bins = weight * square
    last = None if pred.shape[-1] % 2 else -1
    return (bins.sum() + bins[..., 1:last].sum()) / pred.numel()


def amplitude_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    size = torch.Size(shape).numel() * 4
    return Case(
        op="fft_amplitude_loss",
        name=name_of("fft_amplitude_loss", shape),
        inputs=lambda: images(shape),
        native=medkern.fft_amplitude_loss,
        reference=amplitude_loss,
        tolerance=1e-5,
        tolerance_backward=1e-3,  # the sign of gaps that rounding decides
        bytes_moved=2 * size,
        bytes_backward=4 * size,
        bound="read",
        quick=quick,
    )


def amplitude_loss(a: Tensor, b: Tensor) -> Tensor:
    x, y = (torch.fft.fft2(t, norm="ortho").abs() for t in (a, b))
    return (x - y).abs().mean()


def jitter_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    size = torch.Size(shape).numel() * 4
    return Case(
        op="spectral_amplitude_jitter",
        name=name_of("spectral_amplitude_jitter", shape),
        inputs=lambda: images(shape, 1),
        native=lambda x: medkern.spectral_amplitude_jitter(x, seed=SEED),
        reference=None,
        oracle=jitter_oracle,
        tolerance=1e-5,
        # Noise of its own, hence another answer.
        peers={"fft2, angle, polar": Peer(lambda: literal_jitter, approximate=True)},
        bytes_moved=2 * size,
        bytes_backward=2 * size,
        quick=quick,
        compile=False,
    )


def jitter_oracle(x: Tensor) -> Tensor:
    index = torch.arange(x.shape[0])
    stream = torch.stack([torch.full_like(index, SEED), index], dim=1)
    return augment.amplitude_jitter(x, stream, 6.0, 0.5, True, False)


def literal_jitter(x: Tensor) -> Tensor:
    """The paper's equations, one by one."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    rows = torch.arange(height, device=x.device) - height // 2
    columns = torch.arange(width, device=x.device) - width // 2
    square = (rows.square()[:, None] + columns.square()).to(x.dtype)
    deviation = (6.0 * square / square.max() + 0.5).sqrt()
    noise = 1 + deviation * torch.randn_like(x)
    jittered = torch.polar(spectrum.abs() * noise, spectrum.angle())
    return torch.fft.ifft2(torch.fft.ifftshift(jittered, dim=(-2, -1))).real


def swap_case(
    shape: tuple[int, ...], beta: float, *, tolerance: float = 1e-5, quick: bool = False
) -> Case:
    """The gradient divides by amplitudes. Among the more modes of larger images are smaller ones,
    where plain FFTs in float32 err by 2.5e-5 too."""
    size = torch.Size(shape).numel() * 4
    return Case(
        op="amplitude_swap",
        name=name_of("amplitude_swap", shape, f"beta_{beta}"),
        inputs=lambda: images(shape),
        native=lambda x, y: medkern.amplitude_swap(x, y, beta),
        reference=lambda x, y: published_swap(x, y, beta),
        tolerance=tolerance,
        peers={"half spectra": Peer(lambda: lambda x, y: half_spectrum_swap(x, y, beta))},
        bytes_moved=4 * size,
        bytes_backward=5 * size,
        quick=quick,
    )


def published_swap(source: Tensor, target: Tensor, beta: float) -> Tensor:
    """The authors' NumPy code, in torch."""
    x, y = (torch.fft.fft2(t) for t in (source, target))
    phase = x.angle()
    amplitude, other = (torch.fft.fftshift(s.abs(), dim=(-2, -1)) for s in (x, y))
    height, width = source.shape[-2:]
    b, middle, centre = int(min(height, width) * beta), height // 2, width // 2
    rows, columns = slice(middle - b, middle + b + 1), slice(centre - b, centre + b + 1)
    amplitude = amplitude.clone()
    amplitude[..., rows, columns] = other[..., rows, columns]
    swapped = torch.fft.ifftshift(amplitude, dim=(-2, -1))
    return torch.fft.ifft2(torch.polar(swapped, phase)).real


def half_spectrum_swap(source: Tensor, target: Tensor, beta: float) -> Tensor:
    """Without angles, on half spectra, of the window only."""
    x, y = (torch.fft.rfft2(t) for t in (source, target))
    b = int(min(source.shape[-2:]) * beta)
    changed = x.clone()
    for rows in (slice(0, b + 1), slice(x.shape[-2] - b, None)):
        window = (..., rows, slice(0, b + 1))
        changed[window] = x[window] * (y[window].abs() / x[window].abs())
    return torch.fft.irfft2(changed, s=source.shape[-2:])

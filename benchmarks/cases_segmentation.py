"""Fused cross-entropy, Dice and spectral correlation at the sizes of 3-D and 2-D segmentation.

The reference of the loss is what everybody writes: softmax, one-hot labels, products, means. The
peer is MONAI's DiceCELoss. The reference of the spectral correlation is its printed form, two
complex transforms and their sums; the peers are cleverer: half spectra, and for the full spectrum
what Parseval's theorem makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional

import medkern
from medkern.benchmarks.registry import Case, Peer

Tensor = torch.Tensor
SMOOTH = 1e-5
BINS = 8


def cases() -> Iterable[Case]:
    yield loss_case((2, 4, 48, 48, 48), quick=True)
    yield loss_case((2, 4, 96, 96, 96))
    yield loss_case((2, 4, 96, 96, 96), labels=torch.int64)
    yield loss_case((2, 4, 96, 96, 96), dtype=torch.bfloat16)
    yield loss_case((2, 4, 96, 96, 96), channels_last=True)
    yield loss_case((1, 14, 96, 96, 96))
    yield loss_case((8, 1, 512, 512))
    yield correlation_case((8, 9, 112, 112), "full", quick=True)
    yield correlation_case((8, 9, 224, 224), "full")
    yield correlation_case((8, 9, 224, 224), "binned")
    yield correlation_case((1, 3, 96, 96, 96), "binned")


def loss_case(
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    labels: torch.dtype = torch.uint8,
    channels_last: bool = False,
    quick: bool = False,
) -> Case:
    batch, classes, *space = shape
    voxels = batch * math.prod(space)
    logits_bytes = voxels * classes * dtype.itemsize
    kinds = [str(dtype)[6:], f"{str(labels)[6:]}_labels", *["channels_last"] * channels_last]
    terms = ("bce" if classes == 1 else "ce", "dice")
    return Case(
        op="segmentation_loss",
        name=f"segmentation_loss/{'x'.join(map(str, shape))}/{'/'.join(kinds)}",
        inputs=lambda: loss_inputs(shape, dtype, labels, channels_last),
        native=lambda z, y: medkern.segmentation_loss(z, y, terms),
        reference=plain_loss,
        tolerance=1e-5 if dtype == torch.float32 else 2e-2,
        peers={"MONAI": Peer(monai_loss(classes), "monai")},
        differentiable=(0,),
        bytes_moved=logits_bytes + voxels * labels.itemsize,
        bytes_backward=2 * logits_bytes + voxels * labels.itemsize,
        bound="read",
        quick=quick,
    )


def loss_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, labels: torch.dtype, channels_last: bool
) -> tuple[Tensor, Tensor]:
    batch, classes, *space = shape
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(shape, generator=random)
    if channels_last:
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    target = torch.randint(max(classes, 2), (batch, *space), generator=random, dtype=labels)
    return logits.to(dtype), target


def plain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    classes, space = logits.shape[1], tuple(range(2, logits.dim()))
    if classes == 1:
        p, y = logits.sigmoid(), labels.unsqueeze(1).to(logits.dtype)
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, y)
    else:
        hot = functional.one_hot(labels.long(), classes).movedim(-1, 1)
        p, y = logits.softmax(1)[:, 1:], hot[:, 1:].to(logits.dtype)
        cross_entropy = functional.cross_entropy(logits, labels.long())
    overlap = (p * y).sum(space)
    dice = (2 * overlap + SMOOTH) / (p.sum(space) + y.sum(space) + SMOOTH)
    return cross_entropy + 1 - dice.mean()


def monai_loss(classes: int) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        from monai.losses import DiceCELoss

        if classes == 1:
            loss = DiceCELoss(sigmoid=True)
            return lambda z, y: loss(z, y.unsqueeze(1).to(z.dtype))
        loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
        return lambda z, y: loss(z, y.unsqueeze(1))

    return make


def correlation_case(shape: tuple[int, ...], mode: str, *, quick: bool = False) -> Case:
    count = 4 * math.prod(shape)
    peers = {"rfftn": Peer(lambda: half_spectra(mode, shape))}
    if mode == "full":
        peers["in space"] = Peer(lambda: in_space)
    return Case(
        op="spectral_correlation",
        name=f"spectral_correlation/{'x'.join(map(str, shape))}/{mode}",
        inputs=lambda: correlation_inputs(shape),
        native=lambda p, y: medkern.spectral_correlation(p, y, mode, bins=BINS),
        reference=whole_spectra(mode, shape),
        tolerance=1e-5,
        peers=peers,
        differentiable=(0,),
        bytes_moved=2 * count,
        bytes_backward=3 * count,
        bound="read",
        quick=quick,
        compile=False,  # complex numbers fall back
    )


def correlation_inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    batch, classes, *space = shape
    random = torch.Generator().manual_seed(0)
    p = (3 * torch.randn(shape, generator=random)).softmax(1)
    labels = torch.randint(classes, (batch, *space), generator=random)
    return p, functional.one_hot(labels, classes).movedim(-1, 1).float().contiguous()


def radius(size: list[int], half: bool) -> Tensor:
    total = torch.zeros(())
    for axis, n in enumerate(size):
        last = half and axis == len(size) - 1
        f = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(n, dtype=torch.float64)
        total = total.unsqueeze(-1) + (2 * f) ** 2
    return total.sqrt() + 1e-12  # on the edge of two rings: in the outer one


def whole_spectra(mode: str, shape: tuple[int, ...]) -> Callable[[Tensor, Tensor], Tensor]:
    """The printed equation."""
    size = list(shape[2:])
    axes = tuple(range(2, len(shape)))

    def similarity(p: Tensor, y: Tensor) -> Tensor:
        a, b = (torch.fft.fftn(t, dim=axes, norm="ortho") for t in (p, y))
        both = a.real * b.real + a.imag * b.imag
        power = a.abs() ** 2 + b.abs() ** 2
        return ratio(both, power, None, radius(size, half=False), mode)

    return similarity


def half_spectra(mode: str, shape: tuple[int, ...]) -> Callable[[Tensor, Tensor], Tensor]:
    size = list(shape[2:])
    axes = tuple(range(2, len(shape)))
    weight = torch.full((size[-1] // 2 + 1,), 2.0)
    weight[0] = 1
    if size[-1] % 2 == 0:
        weight[-1] = 1
    radii = radius(size, half=True)

    def similarity(p: Tensor, y: Tensor) -> Tensor:
        a, b = (torch.view_as_real(torch.fft.rfftn(t, dim=axes, norm="ortho")) for t in (p, y))
        return ratio((a * b).sum(-1), (a * a + b * b).sum(-1), weight.to(p), radii, mode)

    return similarity


def ratio(both: Tensor, power: Tensor, weight: Tensor | None, radii: Tensor, mode: str) -> Tensor:
    if weight is not None:
        both, power = both * weight, power * weight
    both, power = both.flatten(2), power.flatten(2)
    if mode == "full":
        return ((2 * both.sum(2) + SMOOTH) / (power.sum(2) + SMOOTH)).mean()
    ring = (radii * BINS).long().clamp(max=BINS - 1).flatten().to(both.device)
    zeros = both.new_zeros(*both.shape[:2], BINS)
    both, power = zeros.index_add(2, ring, both), zeros.index_add(2, ring, power)
    return ((2 * both + SMOOTH) / (power + SMOOTH)).mean()


def in_space(p: Tensor, y: Tensor) -> Tensor:
    both, power = (p * y).flatten(2).sum(2), (p * p).flatten(2).sum(2) + (y * y).flatten(2).sum(2)
    return ((2 * both + SMOOTH) / (power + SMOOTH)).mean()

"""Similarities at the sizes of registration: a volume of the tests, and of brain MR at half size.

The reference of the local correlation sums by average pooling along each axis, which is how
VoxelMorph's authors write it today. A dense convolution with a box would be slower still, and with
a batch of 1 conv3d takes torch's slow path. Oracles are the definitions, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional

import medkern
from medkern.benchmarks.registry import Case, Peer
from medkern.reference import similarity

Tensor = torch.Tensor


def cases() -> Iterable[Case]:
    yield local_case((1, 1, 64, 64, 64), quick=True)
    yield local_case((1, 1, 96, 128, 96))
    yield local_case((1, 1, 96, 128, 96), dtype=torch.float16)
    yield local_case((4, 1, 512, 512))
    yield global_case((1, 1, 96, 128, 96), quick=True)
    yield global_case((4, 64, 64, 64))
    yield information_case((1, 1, 48, 48, 48), quick=True)
    yield information_case((1, 1, 96, 128, 96))


def local_case(
    shape: tuple[int, ...], *, dtype: torch.dtype = torch.float32, quick: bool = False
) -> Case:
    return Case(
        op="local_ncc_loss",
        name=f"local_ncc_loss/{size(shape)}/window9/{str(dtype)[6:]}",
        inputs=lambda: images(shape, dtype),
        native=medkern.local_ncc_loss,
        reference=pooled_ncc,
        oracle=lambda a, b: -similarity.local_ncc(a, b, 9, 1e-5, True, True, False).mean(),
        tolerance=1e-5,
        tolerance_backward=1e-3 if dtype == torch.float32 else 1e-2,
        peers={
            "monai": monai(lambda m: m.LocalNormalizedCrossCorrelationLoss(len(shape) - 2, 9)),
            "avg_pool": Peer(lambda: dense_ncc),
        },
        differentiable=(0,),
        bytes_moved=2 * math.prod(shape) * dtype.itemsize,
        bytes_backward=3 * math.prod(shape) * dtype.itemsize,
        bound="read",
        quick=quick,
    )


def global_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    return Case(
        op="global_ncc",
        name=f"global_ncc/{size(shape)}/float32",
        inputs=lambda: images(shape, torch.float32),
        native=medkern.global_ncc,
        reference=eager_correlation,
        tolerance=1e-5,
        differentiable=(0,),
        bytes_moved=2 * math.prod(shape) * 4,
        bytes_backward=3 * math.prod(shape) * 4,
        bound="read",
        quick=quick,
    )


def information_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    return Case(
        op="mutual_information_loss",
        name=f"mutual_information_loss/{size(shape)}/bins32/float32",
        inputs=lambda: images(shape, torch.float32),
        native=medkern.mutual_information_loss,
        reference=dense_information,
        tolerance=1e-4,
        peers={"monai": monai(lambda m: m.GlobalMutualInformationLoss(num_bins=32))},
        differentiable=(0,),
        bytes_moved=2 * math.prod(shape) * 4,
        bytes_backward=3 * math.prod(shape) * 4,
        bound="read",
        quick=quick,
    )


def size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def images(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    a = torch.rand(shape, generator=random)
    b = 0.5 * (a + torch.rand(shape, generator=random))
    return a.to(dtype), b.to(dtype)


def monai(loss: Callable[[Any], Any]) -> Peer:
    def make() -> Any:
        from monai import losses

        return loss(losses)

    return Peer(make, package="monai")


def pooled_ncc(a: Tensor, b: Tensor) -> Tensor:
    def box(x: Tensor) -> Tensor:
        if x.dim() == 4:
            x = functional.avg_pool2d(x, (9, 1), 1, (4, 0))
            return 81 * functional.avg_pool2d(x, (1, 9), 1, (0, 4))
        for axis in range(3):
            window, padding = (
                [n if i == axis else m for i in range(3)] for n, m in ((9, 1), (4, 0))
            )
            x = functional.avg_pool3d(x, window, 1, padding)
        return 729 * x

    return ncc_of(a, b, box)


def dense_ncc(a: Tensor, b: Tensor) -> Tensor:
    def box(x: Tensor) -> Tensor:
        if x.dim() == 4:
            return 81 * functional.avg_pool2d(x, 9, 1, 4)
        return 729 * functional.avg_pool3d(x, 9, 1, 4)

    return ncc_of(a, b, box)


def ncc_of(a: Tensor, b: Tensor, box: Callable[[Tensor], Tensor]) -> Tensor:
    a, b = (x.float() if x.dtype == torch.float16 else x for x in (a, b))
    n = 9 ** (a.dim() - 2)
    sum_a, sum_b = box(a), box(b)
    cross = box(a * b) - sum_a * sum_b / n
    var_a, var_b = box(a * a) - sum_a**2 / n, box(b * b) - sum_b**2 / n
    return -(cross**2 / (var_a.clamp(min=1e-5) * var_b.clamp(min=1e-5))).mean()


def eager_correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (x.flatten(2) - x.flatten(2).mean(2, keepdim=True) for x in (a, b))
    return (a * b).mean(2) / ((a * a).mean(2) * (b * b).mean(2)).sqrt()


def dense_information(a: Tensor, b: Tensor) -> Tensor:
    def weights(x: Tensor) -> Tensor:
        distance = x.clamp(0, 1).flatten(1).unsqueeze(2) * 31 - torch.arange(32, device=x.device)
        return (-2 * distance**2).softmax(2)

    p = weights(a).transpose(1, 2) @ weights(b) / a[0].numel()
    product = p.sum(2, keepdim=True) * p.sum(1, keepdim=True)
    return -(p * ((p + 1e-7) / (product + 1e-7) + 1e-7).log()).sum((1, 2)).mean()

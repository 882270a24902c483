"""Minimum barrier and bottleneck distances of smooth noisy images, from one and ten seeds.

The reference is a threshold decomposition in plain PyTorch: for every lowest level, the least
highest level by max pooling until nothing changes. It takes seconds on small images of few levels
already. On other images the reference is the op itself on the negative, transposed image in
float64, which other code computes in another order: this checks the answer, and its time says
nothing but what float64 costs. mc-mbd, which calls itself exact, gives wrong answers; other packages
have no exact distance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
from torch.nn import functional

import medkern
from medkern.benchmarks.registry import Case

Tensor = torch.Tensor
Distance = Callable[[Tensor, Tensor], Tensor]
FAR = 1e4  # above every level
DTYPES = (torch.uint8, torch.float32)


def cases() -> Iterable[Case]:
    yield barrier_case((64, 64), 1, torch.uint8, levels=16, quick=True)
    for dtype, seeds in itertools.product(DTYPES, (1, 10)):
        yield barrier_case((128, 128), seeds, dtype, levels=16)
    for shape in ((256, 256), (512, 512), (2048, 2048), (96, 96, 96)):
        for dtype, seeds in itertools.product(DTYPES, (1, 10)):
            yield barrier_case(shape, seeds, dtype)
    yield bottleneck_case((256, 256), 1, torch.uint8, quick=True)
    yield bottleneck_case((256, 256), 10, torch.float32)


def barrier_case(
    shape: tuple[int, ...],
    seeds: int,
    dtype: torch.dtype,
    levels: int | None = None,
    quick: bool = False,
) -> Case:
    return make_case(
        "minimum_barrier_distance",
        medkern.minimum_barrier_distance,
        by_negative if levels is None else by_thresholds,
        shape,
        seeds,
        dtype,
        levels,
        quick,
    )


def bottleneck_case(
    shape: tuple[int, ...], seeds: int, dtype: torch.dtype, quick: bool = False
) -> Case:
    return make_case(
        "max_distance_along_path",
        medkern.max_distance_along_path,
        flood,
        shape,
        seeds,
        dtype,
        None,
        quick,
    )


def make_case(
    op: str,
    native: Distance,
    reference: Distance,
    shape: tuple[int, ...],
    seeds: int,
    dtype: torch.dtype,
    levels: int | None,
    quick: bool,
) -> Case:
    kind = f"{'x'.join(map(str, shape))}/{seeds}_seeds/{str(dtype).removeprefix('torch.')}"
    return Case(
        op=op,
        name=f"{op}/{kind}" + (f"/{levels}_levels" if levels else ""),
        inputs=lambda: (noisy_image(shape, dtype, levels), random_seeds(shape, seeds)),
        native=native,
        reference=reference,
        tolerance=1e-6,
        backward=False,
        quick=quick,
        devices=("cpu",),
    )


def noisy_image(shape: tuple[int, ...], dtype: torch.dtype, levels: int | None) -> Tensor:
    """Noise smoothed to a scale of 3 voxels, scaled to 0..255, and some noise again."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, *shape, generator=generator)
    weight = torch.exp(-(torch.arange(-9.0, 10.0) ** 2) / 18)
    convolve = {2: functional.conv2d, 3: functional.conv3d}[len(shape)]
    for axis in range(len(shape)):
        along = [1] * len(shape)
        along[axis] = len(weight)
        image = convolve(image, weight.reshape(1, 1, *along), padding="same")
    image = 255 * (image - image.min()) / (image.max() - image.min())
    image = (image + 5 * torch.randn(image.shape, generator=generator)).clamp(0, 255)
    if levels is not None:
        image = (image * (levels / 256)).floor() * (256 / levels)
    return image.to(dtype)


def random_seeds(shape: tuple[int, ...], count: int) -> Tensor:
    flags = torch.zeros(1, 1, *shape, dtype=torch.bool)
    chosen = torch.randperm(flags.numel(), generator=torch.Generator().manual_seed(1))[:count]
    flags.view(-1)[chosen] = True
    return flags


def flood(image: Tensor, seeds: Tensor) -> Tensor:
    """The least highest level to every voxel, by max pooling: image [B, 1, *space]."""
    pool = {4: functional.max_pool2d, 5: functional.max_pool3d}[image.dim()]
    image = image if image.is_floating_point() else image.float()
    cost = torch.where(seeds, image, FAR)
    while True:
        lower = torch.minimum(cost, torch.maximum(image, -pool(-cost, 3, stride=1, padding=1)))
        if torch.equal(lower, cost):
            return cost
        cost = lower


def by_thresholds(image: Tensor, seeds: Tensor) -> Tensor:
    """Over all floors, the least highest level above the floor, minus the floor."""
    image = image if image.is_floating_point() else image.float()
    levels = image.unique()
    floors = levels[levels <= image[seeds].max()].reshape(-1, *[1] * (image.dim() - 1))
    inside = image >= floors  # [floors, 1, *space]
    cost = flood(torch.where(inside, image, FAR), seeds & inside)
    return torch.where(cost < FAR, cost - floors, FAR).amin(0, keepdim=True)


def by_negative(image: Tensor, seeds: Tensor) -> Tensor:
    turned = medkern.minimum_barrier_distance(-image.double().mT, seeds.mT)
    return turned.mT.to(image.dtype if image.is_floating_point() else torch.float32)

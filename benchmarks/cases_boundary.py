"""The boundary loss at the sizes of its paper: 2-D batches, and a volume.

The reference is what the paper's authors and users of the original boundary loss write: softmax,
products, an index of the labelled voxels, means. The peer takes torch's own fused cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import functional

import medkern
from medkern.benchmarks.registry import Case, Peer

Tensor = torch.Tensor
LABELLED = 0.001  # a few points per image


def cases() -> Iterable[Case]:
    yield loss_case((8, 4, 256, 256), quick=True)
    yield loss_case((8, 4, 256, 256), maps=torch.float16)
    yield loss_case((8, 4, 256, 256), dtype=torch.bfloat16)
    yield loss_case((8, 4, 256, 256), channels_last=True)
    yield loss_case((2, 4, 64, 128, 128))
    yield loss_case((1, 14, 96, 96, 96))


def loss_case(
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    maps: torch.dtype = torch.float32,
    channels_last: bool = False,
    quick: bool = False,
) -> Case:
    batch, classes, *space = shape
    voxels = batch * math.prod(space)
    logits_bytes = voxels * classes * dtype.itemsize
    read = logits_bytes + voxels * ((classes - 1) * maps.itemsize + 1)
    kinds = [f"{str(dtype)[6:]}", f"{str(maps)[6:]}_maps", *["channels_last"] * channels_last]
    return Case(
        op="boundary_loss",
        name=f"boundary_loss/{'x'.join(map(str, shape))}/{'/'.join(kinds)}",
        inputs=lambda: inputs(shape, dtype, maps, channels_last),
        native=medkern.boundary_loss,
        reference=eager_loss,
        tolerance=1e-5 if dtype == torch.float32 else 2e-2,
        peers={"cross_entropy": Peer(lambda: loss_by_cross_entropy)},
        differentiable=(0,),
        bytes_moved=read,
        bytes_backward=read + logits_bytes,
        bound="read",
        quick=quick,
    )


def inputs(
    shape: tuple[int, ...], dtype: torch.dtype, maps: torch.dtype, channels_last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, maps of the foreground in 0..255 and few labels, in bytes."""
    batch, classes, *space = shape
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(shape, generator=random)
    phi = 255 * torch.rand(batch, classes - 1, *space, generator=random) - 20
    points = torch.randint(1, classes, (batch, *space), generator=random, dtype=torch.uint8)
    points[torch.rand(batch, *space, generator=random) > LABELLED] = 255
    if channels_last:
        logits, phi = (t.contiguous(memory_format=torch.channels_last) for t in (logits, phi))
    return logits.to(dtype), phi.to(maps), points


def eager_loss(logits: Tensor, maps: Tensor, points: Tensor) -> Tensor:
    s = functional.softmax(logits, dim=1)
    boundary = (s[:, 1:] * maps).mean()
    labelled = points != 255
    target = torch.where(labelled, points, 0).long().unsqueeze(1)
    chosen = s.gather(1, target).squeeze(1)
    cross_entropy = -torch.where(labelled, chosen, 1).log().sum() / labelled.sum().clamp(min=1)
    return cross_entropy + boundary


def loss_by_cross_entropy(logits: Tensor, maps: Tensor, points: Tensor) -> Tensor:
    boundary = (functional.softmax(logits, dim=1)[:, 1:] * maps).mean()
    labels = torch.where(points != 255, points.long(), -1)
    return functional.cross_entropy(logits, labels, ignore_index=-1) + boundary

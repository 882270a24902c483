"""Inputs that break kernels: for the samples of op specs, and for tests of other projects."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def image_layouts(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, int]]:
    """Images of every kind of layout, size and rank: (name, x [B, C, *size], spatial axes).

    Floating values are standard normal, integers cover the whole range; the same on every call.

    >>> import torch, medkern.testing
    >>> name, x, ndim = next(medkern.testing.image_layouts(torch.float32))
    >>> name, x.shape, ndim
    ('contiguous', torch.Size([2, 3, 4, 6]), 2)
    """
    generator = torch.Generator().manual_seed(0)

    def image(*shape: int) -> Tensor:
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(dtype)
        limits = torch.iinfo(dtype)
        return torch.randint(limits.min, limits.max + 1, shape, generator=generator).to(dtype)

    yield "contiguous", image(2, 3, 4, 6), 2
    yield "wide", image(1, 2, 3, 70), 2
    yield "transposed", image(2, 3, 6, 4).transpose(2, 3), 2
    yield "batch-transposed", image(3, 2, 5, 6).transpose(0, 1), 2
    yield "sliced", image(2, 3, 9, 9)[:, 1:, 1::2, :-1], 2
    yield "expanded", image(1, 3, 1, 5).expand(2, 3, 5, 5), 2
    yield "channels_last", image(2, 5, 4, 7).contiguous(memory_format=torch.channels_last), 2
    many = image(1, 33, 3, 4).contiguous(memory_format=torch.channels_last)
    yield "channels_last-many", many, 2
    yield "empty-batch", image(0, 3, 4, 4), 2
    yield "empty-channels", image(2, 0, 4, 4), 2
    yield "size-1", image(1, 1, 1, 1), 2
    yield "line", image(2, 3, 9), 1
    yield "volume", image(1, 2, 3, 4, 5), 3
    volume = image(1, 4, 2, 3, 4).contiguous(memory_format=torch.channels_last_3d)
    yield "channels_last_3d", volume, 3

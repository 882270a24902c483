"""A U-Net for registration, after VoxelMorph.

Source: Balakrishnan et al., "VoxelMorph", IEEE TMI 38, 2019; with the parameter counts of the
baselines in the FNOReg paper.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from medkern.rules import at_least, choice, message

LEVELS = 3  # poolings


class VoxelMorph(nn.Module):
    """The displacement that takes a moving image to a fixed one, by a small U-Net.

    Args:
        ndim: 2 or 3 spatial axes.
        width: channels at full resolution; half of those at the others. 16 as published (91
            thousand parameters in 2-D), 128 for "VoxelMorph-Large" (5.8 million).

    Shapes: moving and fixed [B, 1, *space] to [B, D, *space], in the normalized units of
    `medkern.warp`, as those of `FNOReg`; sizes are multiples of 8.

    >>> import torch, medkern as mk
    >>> net = mk.models.VoxelMorph()
    >>> net(torch.rand(1, 1, 16, 24), torch.rand(1, 1, 16, 24)).shape
    torch.Size([1, 2, 16, 24])
    """

    def __init__(self, ndim: int = 2, *, width: int = 16) -> None:
        super().__init__()
        choice("models.VoxelMorph", "ndim", ndim, (2, 3))
        at_least("models.VoxelMorph", "width", width, 1)
        fine, coarse = width, 2 * width
        self.conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.pool = nn.MaxPool2d(2) if ndim == 2 else nn.MaxPool3d(2)
        self.down = self._chain(2, fine, coarse, coarse, coarse)
        self.bottom = self._chain(coarse, coarse)
        self.up = nn.ModuleList(
            [
                *self._chain(2 * coarse, coarse),
                *self._chain(2 * coarse, coarse),
                *self._chain(coarse + fine, coarse),
            ]
        )
        self.last = self._chain(coarse, fine, fine)
        self.flow = self.conv(fine, ndim, 3, padding=1)
        nn.init.normal_(self.flow.weight, std=1e-5)  # the identity to begin with
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def _chain(self, *channels: int) -> nn.ModuleList:
        return nn.ModuleList(self.conv(i, o, 3, padding=1) for i, o in pairwise(channels))

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        if any(size % 2**LEVELS for size in moving.shape[2:]):
            rule, got = f"have sides that are multiples of {2**LEVELS}", tuple(moving.shape[2:])
            raise ValueError(message("models.VoxelMorph", "moving", rule, got, "pad both images"))
        x = torch.cat([moving, fixed], dim=1)
        skips = []
        for level, conv in enumerate(self.down):
            x = _activated(conv(self.pool(x) if level else x))
            skips.append(x)
        x = _activated(self.bottom[0](x))
        for conv, skip in zip(self.up, skips[-2::-1], strict=True):
            larger = functional.interpolate(x, scale_factor=2.0)
            x = _activated(conv(torch.cat([larger, skip], dim=1)))
        for conv in self.last:
            x = _activated(conv(x))
        u: Tensor = self.flow(x)
        return u


def _activated(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)

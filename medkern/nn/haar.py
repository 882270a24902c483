"""Haar pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medkern.ops.haar import haar_idwt, haar_pool
from medkern.rules import choice
from medkern.rules import haar as rules


class _HaarPool(nn.Module):
    ndim: int

    def __init__(self, mode: str = "iewa", *, pad: str = "symmetric") -> None:
        super().__init__()
        choice(type(self).__name__, "mode", mode, rules.POOL_MODES)
        choice(type(self).__name__, "pad", pad, rules.PADS)
        self.mode = mode
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return haar_pool(x, self.mode, ndim=self.ndim, pad=self.pad)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, pad={self.pad!r}"


class HaarPool1d(_HaarPool):
    """`haar_pool` over [B, C, L], as a layer: see HaarPool2d."""

    ndim = 1


class HaarPool2d(_HaarPool):
    """`haar_pool` over [B, C, H, W], in place of MaxPool2d(2): no parameters.

    Args:
        mode: "ll", "iewa" (the paper's), "all", "bands" (4 times the channels) or "max_concat"
            (twice the channels).
        pad: extension of odd axes.

    >>> import torch, medkern as mk
    >>> mk.nn.HaarPool2d("bands")(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 12, 4, 4])
    """

    ndim = 2


class HaarPool3d(_HaarPool):
    """`haar_pool` over [B, C, D, H, W], as a layer: see HaarPool2d."""

    ndim = 3


class HaarUnpool(nn.Module):
    """The inverse of the pooling mode "bands": [..., 2**ndim * C, *half] -> [..., C, *size].

    Args:
        ndim: 1, 2 or 3.

    >>> import torch, medkern as mk
    >>> x = torch.randn(2, 3, 7, 8)
    >>> y = mk.nn.HaarUnpool()(mk.nn.HaarPool2d("bands")(x), size=(7, 8))
    >>> torch.allclose(x, y, atol=1e-6)
    True
    """

    def __init__(self, ndim: int = 2) -> None:
        super().__init__()
        choice("HaarUnpool", "ndim", ndim, rules.NDIMS)
        self.ndim = ndim

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        bands = rules.unstack("HaarUnpool", x.shape, self.ndim)
        channel = -self.ndim - 1
        stacked: Tensor = x.unflatten(channel, bands)
        return haar_idwt(stacked.transpose(channel - 1, channel), ndim=self.ndim, size=size)

    def extra_repr(self) -> str:
        return f"ndim={self.ndim}"

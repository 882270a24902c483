"""Poolings that halve a feature map and keep its channels, under one name each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medkern.nn.haar import HaarPool2d
from medkern.rules import choice

POOLINGS = (
    "iewa",
    "ll",
    "all",
    "bands",
    "max_concat",
    "max",
    "avg",
    "mixed",
    "polynomial",
    "second_order",
    "stochastic",
)


class Pooling(nn.Module):
    """[B, C, H, W] to [B, C, H/2, W/2], by blocks of 2 x 2; H and W are even.

    Args:
        kind: "iewa", "ll", "all": as `medkern.haar_pool`.
            "bands", "max_concat": as there, and a 1x1 convolution back to C channels; the latter is
            the pooling of Souza et al.
            "max", "avg": the usual ones.
            "mixed": a max + (1 - a) avg, one a for all channels, learnt (Lee et al., 2016).
            "polynomial": sum x^(a + 1) / sum x^a with a learnt a >= 0 per channel (Wei et al.,
            2019); from average (a = 0) to maximum. x >= 0, as after a ReLU.
            "second_order": the root of the mean square.
            "stochastic": in training one of the four with a probability proportional to its value,
            in evaluation their mean by these probabilities (Zeiler and Fergus, 2013). x >= 0.
        channels: C.

    >>> import torch
    >>> from medkern.models.pooling import Pooling
    >>> Pooling("second_order", 1)(torch.tensor([[[[1.0, 5.0], [5.0, 7.0]]]]))
    tensor([[[[5.]]]])
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        choice("models.Pooling", "kind", kind, POOLINGS)
        self.kind = kind
        if kind in ("iewa", "ll", "all", "bands", "max_concat"):
            self.haar = HaarPool2d(kind)
        if kind in ("bands", "max_concat"):
            maps = 4 if kind == "bands" else 2
            self.reduce = nn.Conv2d(maps * channels, channels, 1, bias=False)
        if kind == "mixed":
            self.share = nn.Parameter(torch.zeros(()))  # of max: its logit
        if kind == "polynomial":
            self.power = nn.Parameter(torch.zeros(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind in ("iewa", "ll", "all"):
            pooled: Tensor = self.haar(x)
        elif self.kind in ("bands", "max_concat"):
            pooled = self.reduce(self.haar(x))
        elif self.kind == "max":
            pooled = functional.max_pool2d(x, 2)
        elif self.kind == "avg":
            pooled = functional.avg_pool2d(x, 2)
        elif self.kind == "mixed":
            mean, share = functional.avg_pool2d(x, 2), torch.sigmoid(self.share)
            pooled = mean + share * (functional.max_pool2d(x, 2) - mean)
        elif self.kind == "second_order":
            # The offset keeps the slope of the root finite at blocks of zeros.
            pooled = (functional.avg_pool2d(x.square(), 2) + 1e-12).sqrt()
        else:
            pooled = self._weighted(blocks(x))
        return pooled

    def _weighted(self, x: Tensor) -> Tensor:
        """Blocks x [B, C, H/2, W/2, 4] weighted by their values, or one of four drawn so."""
        logs = (x.clamp_min(0) + 1e-6).log()  # a block of zeros weighs its samples alike
        if self.kind == "polynomial":
            logs = functional.softplus(self.power) * logs
        weight = torch.softmax(logs, -1)
        if self.kind == "stochastic" and self.training:
            edges = weight.detach().cumsum(-1)[..., :3]
            drawn = (torch.rand_like(edges[..., :1]) >= edges).sum(-1, keepdim=True)
            x, weight = x.gather(-1, drawn), torch.ones_like(weight[..., :1])
        pooled: Tensor = (weight * x).sum(-1)
        return pooled

    def extra_repr(self) -> str:
        return repr(self.kind)


def blocks(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, C, H/2, W/2, 4]."""
    split: Tensor = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [B, C, H/2, 2, W/2, 2]
    return split.movedim(3, 4).flatten(4)

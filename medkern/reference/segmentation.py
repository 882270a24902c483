"""The sums that segmentation losses are made of, as their formulas have them.

Half-precision logits are computed in float32, like in the kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# The last axis of the sums.
PRODUCT, P, P_SQUARED, Y, Y_SQUARED, CROSS_ENTROPY, VOXELS = range(7)


def segmentation_sums(logits: Tensor, target: Tensor, softmax: bool, ignore: int) -> Tensor:
    """Sums over voxels per sample and class: p y, p, p^2, y, y^2, cross-entropy, number of voxels.

    logits [B, K, *space], target [B, *space] of labels or [B, K, *space] of values -> [B, K, 7].
    """
    z = widen(logits)
    y, valid = values(z, target, ignore)
    p = z.softmax(1) if softmax else z.sigmoid()
    p = torch.where(valid, p, 0)
    surprise = torch.where(valid, cross_entropy(z, y, softmax), 0)
    terms = (p * y, p, p * p, y, y * y, surprise, valid.to(z.dtype).expand_as(z))
    return torch.stack([space_sum(t) for t in terms], dim=2)


def segmentation_sums_backward(
    logits: Tensor, grad: Tensor, target: Tensor, softmax: bool, ignore: int
) -> Tensor:
    """The gradient of segmentation_sums in the logits, for grad [B, K, 7]."""
    z = widen(logits)
    y, valid = values(z, target, ignore)
    g = [per_class(grad[..., i], z) for i in range(7)]
    if softmax:
        p = z.softmax(1)
        slope = g[PRODUCT] * y + g[P] + 2 * g[P_SQUARED] * p
        pull = g[CROSS_ENTROPY] * y
        out = p * (slope + (pull - p * slope).sum(1, keepdim=True)) - pull
    else:
        p = z.sigmoid()
        slope = g[PRODUCT] * y + g[P] + 2 * g[P_SQUARED] * p
        out = p * (1 - p) * slope + g[CROSS_ENTROPY] * (p - y)
    return torch.where(valid, out, 0).to(logits.dtype)


def widen(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def values(z: Tensor, target: Tensor, ignore: int) -> tuple[Tensor, Tensor]:
    """y [B, K, *space], and which voxels count [B, 1, *space]; labels as one-hot values."""
    if target.dim() == z.dim():
        return target.to(z.dtype), torch.ones_like(z[:, :1], dtype=torch.bool)
    labels = target.long().unsqueeze(1)
    valid = labels != ignore
    size = [z.shape[0], max(z.shape[1], 2), *z.shape[2:]]  # one class: labels 0 and 1
    one_hot = z.new_zeros(size).scatter(1, torch.where(valid, labels, 0), 1.0)
    return torch.where(valid, one_hot, 0)[:, -z.shape[1] :], valid


def cross_entropy(z: Tensor, y: Tensor, softmax: bool) -> Tensor:
    """Of each class; what has y = 0 costs nothing under softmax, however unlikely."""
    if softmax:
        return torch.where(y == 0, 0, y * -z.log_softmax(1))
    return -functional.logsigmoid(-z) - y * z


def space_sum(t: Tensor) -> Tensor:
    """[B, K, *space] -> [B, K]."""
    return t.sum(tuple(range(2, t.dim())))


def per_class(sums: Tensor, z: Tensor) -> Tensor:
    """sums [B, K] as [B, K, 1, ..., 1] beside z [B, K, *space]."""
    return sums.reshape(*sums.shape, *[1] * (z.dim() - 2))

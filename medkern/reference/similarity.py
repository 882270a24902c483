"""Local and global normalised cross-correlation and the joint Parzen histogram, as defined.

All are computed in float64 and rounded at the end, as in the kernels: the variance of an image with
a large offset is a small difference of large sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def local_ncc(
    a: Tensor, b: Tensor, window: int, eps: float, clamp: bool, squared: bool, per_voxel: bool
) -> Tensor:
    """The local correlation of a and b [B, C, *space], or its mean over the voxels [B, C]."""
    cc: Tensor = _Local(a.double(), b.double(), window, eps, clamp, squared).cc
    return (cc if per_voxel else cc.flatten(2).mean(2)).to(result_type(a))


def local_ncc_backward(
    a: Tensor,
    b: Tensor,
    grad: Tensor,
    window: int,
    eps: float,
    clamp: bool,
    squared: bool,
    per_voxel: bool,
    both: bool,
) -> Tensor:
    """Gradient of local_ncc in a, and in b if `both`: [B, 1 or 2, C, *space]."""
    x, y, g = a.double(), b.double(), grad.double()
    if not per_voxel:
        g = g.reshape(*g.shape, *[1] * (a.dim() - 2)) / voxels(a)
    local = _Local(x, y, window, eps, clamp, squared)
    gradients = [local.gradient(g)]
    if both:
        gradients.append(_Local(y, x, window, eps, clamp, squared).gradient(g))
    return torch.stack(gradients, dim=1).to(a.dtype)


class _Local:
    """Everything of windows: sums over window**space voxels, zeros outside of the image."""

    def __init__(
        self, a: Tensor, b: Tensor, window: int, eps: float, clamp: bool, squared: bool
    ) -> None:
        self.a, self.b, self.window, self.squared = a, b, window, squared
        self.count = window ** (a.dim() - 2)
        self.sum_a, self.sum_b = box_sum(a, window), box_sum(b, window)
        self.cross = box_sum(a * b, window) - self.sum_a * self.sum_b / self.count
        least = eps if clamp else 0.0
        var_a = box_sum(a * a, window) - self.sum_a**2 / self.count
        var_b = box_sum(b * b, window) - self.sum_b**2 / self.count
        self.varies = var_a > least
        self.var_b = torch.where(var_b > least, var_b, least)
        product = torch.where(self.varies, var_a, least) * self.var_b
        self.denominator = product if clamp else product + eps
        root = self.denominator.sqrt()
        self.cc = self.cross**2 / self.denominator if squared else self.cross / root

    def gradient(self, g: Tensor) -> Tensor:
        """In a: every window holding a voxel pulls at it."""
        if self.squared:
            by_cross = 2 * self.cross / self.denominator
            by_var = -self.cc * self.var_b / self.denominator
        else:
            by_cross = self.denominator.rsqrt()
            by_var = -0.5 * self.cc * self.var_b / self.denominator
        by_cross, by_var = g * by_cross, 2 * g * torch.where(self.varies, by_var, 0)
        means = (by_cross * self.sum_b + by_var * self.sum_a) / self.count
        w = self.window
        return self.b * box_sum(by_cross, w) + self.a * box_sum(by_var, w) - box_sum(means, w)


def box_sum(x: Tensor, window: int) -> Tensor:
    """Sum over the window around every voxel of [B, C, *space], zeros outside."""
    for axis in range(2, x.dim()):
        before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        lines = x.reshape(before, 1, x.shape[axis], after)
        sums = functional.avg_pool2d(lines, (window, 1), 1, (window // 2, 0), divisor_override=1)
        x = sums.reshape(x.shape)
    return x


def voxels(a: Tensor) -> int:
    return math.prod(a.shape[2:])


def result_type(a: Tensor) -> torch.dtype:
    return torch.float64 if a.dtype == torch.float64 else torch.float32


def joint_moments(a: Tensor, b: Tensor) -> Tensor:
    """Variance of a, variance of b, covariance, over the voxels of [B, C, *space] -> [B, C, 3]."""
    x, y = centred(a), centred(b)
    moments = torch.stack([(x * x).mean(2), (y * y).mean(2), (x * y).mean(2)], dim=2)
    return moments.to(result_type(a))


def joint_moments_backward(a: Tensor, b: Tensor, grad: Tensor, both: bool) -> Tensor:
    """Gradient of joint_moments in a, and in b if `both`: [B, 1 or 2, C, *space]."""
    x, y, g = centred(a), centred(b), grad.double().unsqueeze(2) / voxels(a)
    gradients = [2 * g[..., 0] * x + g[..., 2] * y]
    if both:
        gradients.append(2 * g[..., 1] * y + g[..., 2] * x)
    return torch.stack(gradients, dim=1).to(a.dtype).reshape(a.shape[0], 1 + both, *a.shape[1:])


def centred(a: Tensor) -> Tensor:
    """[B, C, *space] -> [B, C, voxels] without its mean."""
    flat = a.double().flatten(2)
    return flat - flat.mean(2, keepdim=True)


def joint_histogram(a: Tensor, b: Tensor, bins: int, sigma_ratio: float, spline: bool) -> Tensor:
    """Mean over channels and voxels of the outer product of the voxels' weights: [B, bins, bins].

    Memory: two arrays [B, C * voxels, bins].
    """
    weights = [parzen_weights(t.double().flatten(1), bins, sigma_ratio, spline) for t in (a, b)]
    joint = weights[0].transpose(1, 2) @ weights[1] / max(weights[0].shape[1], 1)
    return joint.to(result_type(a))


def joint_histogram_backward(
    a: Tensor, b: Tensor, grad: Tensor, bins: int, sigma_ratio: float, spline: bool, both: bool
) -> Tensor:
    """Gradient of joint_histogram in a, and in b if `both`: [B, 1 or 2, C, *space]."""
    x, y = a.double().flatten(1), b.double().flatten(1)
    g = grad.double() / max(x.shape[1], 1)
    pairs = [(x, y, g), (y, x, g.transpose(1, 2))][: 1 + both]
    gradients = [
        (
            parzen_slopes(one, bins, sigma_ratio, spline)
            * (parzen_weights(other, bins, sigma_ratio, spline) @ pull.transpose(1, 2))
        ).sum(2)
        for one, other, pull in pairs
    ]
    return torch.stack(gradients, dim=1).to(a.dtype).reshape(a.shape[0], 1 + both, *a.shape[1:])


def parzen_weights(x: Tensor, bins: int, sigma_ratio: float, spline: bool) -> Tensor:
    """How much each of the bins takes of each intensity, in sum 1: [..., N] -> [..., N, bins]."""
    distance = bin_distance(x, bins, spline)
    if not spline:
        return (-(distance**2) / (2 * sigma_ratio**2)).softmax(-1)
    u = distance.abs()
    near, far = (4 - 6 * u**2 + 3 * u**3) / 6, (2 - u) ** 3 / 6
    return torch.where(u < 1, near, torch.where(u < 2, far, 0))


def parzen_slopes(x: Tensor, bins: int, sigma_ratio: float, spline: bool) -> Tensor:
    """The derivative of parzen_weights in x, 0 where x is clamped."""
    distance = bin_distance(x, bins, spline)
    u = distance.abs()
    if spline:
        near, far = (-12 * u + 9 * u**2) / 6, -((2 - u) ** 2) / 2
        slope = distance.sign() * torch.where(u < 1, near, torch.where(u < 2, far, 0))
    else:
        weights = parzen_weights(x, bins, sigma_ratio, spline)
        mean = (weights * distance).sum(-1, keepdim=True)
        slope = weights * (mean - distance) / sigma_ratio**2
    inside = ((x >= 0) & (x <= 1)).unsqueeze(-1)
    return torch.where(inside, slope * (bins - 5 if spline else bins - 1), 0)


def bin_distance(x: Tensor, bins: int, spline: bool) -> Tensor:
    """Position among the bins minus their number. Splines keep two bins free on either side."""
    x = x.clamp(0, 1)
    position = 2 + x * (bins - 5) if spline else x * (bins - 1)
    return position.unsqueeze(-1) - torch.arange(bins, dtype=x.dtype, device=x.device)

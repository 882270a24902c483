"""Interpolation at displaced positions, its transpose and its derivatives.

Axis by axis the value at position i + f (i whole, 0 <= f < 1) is sum_k w_k(f) image[i + o + k]:

    nearest  o = 0, 1 w = 1, where i + o is the nearest voxel, of two the even one
    linear   o = 0    w = 1 - f, f
    cubic    o = -1   the convolution kernel of Keys (1981) with a = -0.75, as in torch's bicubic

A position is whole(p) + (part(p) + scale u): voxel p of the output lies at whole + part, and only
part + scale u, which is small, is rounded. Derivatives of the weights give those of the image: so
`sample` with orders (1, 0, 0) is the derivative along the first axis, and `spread` the transpose.
All of it is torch operations, which torch can differentiate again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FAR = 2.0**30  # voxels; whoever is farther outside is there
A = -0.75


class How(NamedTuple):
    mode: str
    padding: str
    normalized: bool


class Taps(NamedTuple):
    """Of one axis, for every output voxel: indices and weights, [taps] of [B, *out]."""

    where: list[Tensor]
    inside: list[Tensor]
    weight: list[Tensor]


def widen(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def compute_dtype(t: Tensor) -> torch.dtype:
    """What positions and sums are computed in beside an image (or a gradient) t."""
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def axis_scale(size: int, out: int, how: How) -> tuple[float, float]:
    """Voxels of the image per output voxel, and per unit of displacement."""
    if not how.normalized:
        return 1.0, 1.0
    return (size - 1) / (out - 1) if out > 1 else 0.0, (size - 1) / 2


def taps(u: Tensor, axis: int, size: int, how: How, order: int) -> Taps:
    """For displacements u [B, *out] along an axis of `size` voxels: the weights' derivative."""
    step, scale = axis_scale(size, u.shape[axis + 1], how)
    start = torch.arange(u.shape[axis + 1], dtype=torch.float64, device=u.device) * step
    view = [1] * u.dim()
    view[axis + 1] = -1
    part = (start - start.floor()).to(u.dtype).view(view)
    t = part + u * scale
    lost = t.isnan() | t.isinf() if how.padding == "reflection" else t.isnan()
    t = torch.where(lost, 0, t).clamp(-FAR, FAR)
    floor = t.detach().floor()
    i, f = floor.long() + start.floor().long().view(view), t - floor
    sign = torch.ones_like(f)
    if how.mode != "cubic":
        i, f, sign = pad_position(i, f, sign, size, how.padding)
    offset, weights = kernel(i, f, how.mode, order)
    index, inside, weight = [], [], []
    for k, w in enumerate(weights):
        j, within = pad_index(i + (offset + k), size, how.padding)
        w = w * (sign * scale) ** order
        index.append(j)
        inside.append(within)
        weight.append(torch.where(lost, torch.nan, w))
    return Taps(index, inside, weight)


def pad_position(
    i: Tensor, f: Tensor, sign: Tensor, size: int, padding: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The position in the image, and the sign of its derivative; at an edge the derivative is 0."""
    if padding == "zeros":
        return i, f, sign
    if padding == "reflection":
        period = max(2 * (size - 1), 1)
        i = i % period
        back = i >= size - 1
        whole = back & (f == 0)
        i = torch.where(back, period - i - torch.where(whole, 0, 1), i)
        f = torch.where(back & ~whole, 1 - f, f)
        sign = torch.where(back, -sign, sign)
    low, high = (i < 0) | ((i == 0) & (f == 0)), i >= size - 1
    i = torch.where(low, 0, torch.where(high, size - 1, i))
    return i, torch.where(low | high, 0, f), torch.where(low | high, 0, sign)


def pad_index(i: Tensor, size: int, padding: str) -> tuple[Tensor, Tensor]:
    """The voxel that stands for index i, and whether there is one."""
    inside = (i >= 0) & (i < size) if padding == "zeros" else torch.ones_like(i, dtype=torch.bool)
    if padding == "reflection":
        period = max(2 * (size - 1), 1)
        i = i % period
        i = torch.where(i >= size, period - i, i)
    return i.clamp(0, size - 1), inside


def kernel(i: Tensor, f: Tensor, mode: str, order: int) -> tuple[Tensor | int, list[Tensor]]:
    """The first tap's offset and the derivative of the weights in f."""
    zero = torch.zeros_like(f)
    if mode == "nearest":  # one tap: with a weight of 0, a neighbour of inf would give NaN
        up = (f > 0.5) | ((f == 0.5) & (i % 2 == 1))
        return up.long(), [torch.ones_like(f) if order == 0 else zero]
    if mode == "linear":
        return 0, [[1 - f, f], [zero - 1, zero + 1], [zero, zero]][min(order, 2)]
    signs = (1, 1, (-1) ** order, (-1) ** order)
    distances = (1 + f, f, 1 - f, 2 - f)
    pieces = (outer, inner, inner, outer)
    return -1, [s * p(x, order) for s, p, x in zip(signs, pieces, distances, strict=True)]


def inner(x: Tensor, order: int) -> Tensor:
    if order == 0:
        return ((A + 2) * x - (A + 3)) * x * x + 1
    return (3 * (A + 2) * x - 2 * (A + 3)) * x if order == 1 else 6 * (A + 2) * x - 2 * (A + 3)


def outer(x: Tensor, order: int) -> Tensor:
    if order == 0:
        return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return (3 * A * x - 10 * A) * x + 8 * A if order == 1 else 6 * A * x - 10 * A


def corners(
    displacement: Tensor, size: Sequence[int], how: How, orders: Sequence[int]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Flat index, inside, weight, [B, 1, *out] each, of every voxel that takes part."""
    axes = [
        taps(displacement[:, a], a, n, how, order)
        for a, (n, order) in enumerate(zip(size, orders, strict=True))
    ]
    found = []
    for choice in itertools.product(*(range(len(a.where)) for a in axes)):
        index = torch.zeros_like(axes[0].where[0])
        inside = torch.ones_like(axes[0].inside[0])
        weight = torch.ones_like(axes[0].weight[0])
        for a, k, n in zip(axes, choice, size, strict=True):
            index = index * n + a.where[k]
            inside = inside & a.inside[k]
            weight = weight * a.weight[k]
        found.append((index.unsqueeze(1), inside.unsqueeze(1), weight.unsqueeze(1)))
    return found


def sample(
    image: Tensor, displacement: Tensor, how: How, orders: Sequence[int] | None = None
) -> Tensor:
    """[B, C, *out]: the image, or its derivative of these orders, at the displaced positions."""
    size = image.shape[2:]
    space = displacement.shape[2:]
    flat = image.flatten(2)
    total = image.new_zeros(*image.shape[:2], *space)
    for index, inside, weight in corners(displacement, size, how, orders or [0] * len(size)):
        where = index.flatten(2).expand(-1, flat.shape[1], -1)
        value = flat.gather(2, where).unflatten(2, space)
        lost = torch.where(weight.isnan(), torch.nan, 0.0).to(weight.dtype)
        total = total + torch.where(inside, weight * value, lost)
    return total


def spread(
    grad: Tensor,
    displacement: Tensor,
    size: Sequence[int],
    how: How,
    orders: Sequence[int] | None = None,
) -> Tensor:
    """[B, C, *size]: the transpose of `sample`. Voxels without a position give nothing."""
    total = grad.new_zeros(*grad.shape[:2], *size).flatten(2)
    for index, inside, weight in corners(displacement, size, how, orders or [0] * len(size)):
        part = torch.where(inside & (weight != 0) & ~weight.isnan(), weight * grad, 0.0)
        where = index.flatten(2).expand(-1, grad.shape[1], -1)
        total = total.scatter_add(2, where, part.flatten(2))
    volume: Tensor = total.unflatten(2, tuple(size))
    return volume


def along(axes: int, *which: int) -> list[int]:
    """Orders of the derivative along these axes."""
    return [which.count(axis) for axis in range(axes)]


def warp(image: Tensor, displacement: Tensor, mode: str, padding: str, normalized: bool) -> Tensor:
    """image [B, C, *space] at p + u(p), u = displacement [B, D, *out] -> [B, C, *out]."""
    how = How(mode, padding, normalized)
    if not image.is_floating_point():
        return _warp_integers(image, displacement.float(), how)
    dtype = compute_dtype(image)
    return sample(image.to(dtype), displacement.to(dtype), how).to(image.dtype)


def _warp_integers(image: Tensor, u: Tensor, how: How) -> Tensor:
    out = image.new_zeros(*image.shape[:2], *u.shape[2:])
    for index, inside, weight in corners(u, image.shape[2:], how, [0] * (u.dim() - 2)):
        where = index.flatten(2).expand(-1, image.shape[1], -1)
        value = image.flatten(2).gather(2, where).unflatten(2, u.shape[2:])
        out = torch.where(inside & (weight == 1), value, out)
    return out


def warp_transpose(
    grad: Tensor,
    displacement: Tensor,
    size: Sequence[int],
    mode: str,
    padding: str,
    normalized: bool,
) -> Tensor:
    """The gradient of `warp` in the image, for grad [B, C, *out] -> [B, C, *size]."""
    dtype = compute_dtype(grad)
    how = How(mode, padding, normalized)
    return spread(grad.to(dtype), displacement.to(dtype), size, how).to(grad.dtype)


def warp_slope(
    grad: Tensor, image: Tensor, displacement: Tensor, mode: str, padding: str, normalized: bool
) -> Tensor:
    """The gradient of `warp` in the displacement, for grad [B, C, *out] -> [B, D, *out]."""
    if mode == "nearest":
        return torch.zeros_like(displacement)
    dtype = compute_dtype(image)
    how = How(mode, padding, normalized)
    g, x, u = grad.to(dtype), image.to(dtype), displacement.to(dtype)
    axes = u.shape[1]
    parts = [(g * sample(x, u, how, along(axes, a))).sum(1) for a in range(axes)]
    return torch.stack(parts, dim=1).to(displacement.dtype)


def compose(u: Tensor, v: Tensor, padding: str) -> Tensor:
    """The displacement of (id + u) after (id + v): v(p) + u(p + v(p))."""
    dtype = compute_dtype(u)
    moved = sample(u.to(dtype), v.to(dtype), How("linear", padding, False))
    return (v.to(dtype) + moved).to(u.dtype)

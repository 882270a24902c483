"""What a displacement field does to volume, and how rough it is, from finite differences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medkern.reference.warp import compute_dtype


def jacobian_determinant(displacement: Tensor, spacing: Tensor) -> Tensor:
    """det(1 + du/dx) for u [B, D, *space], spacing [B, D] -> [B, 1, *space]."""
    u = displacement.to(compute_dtype(displacement))
    return determinant(with_identity(gradient(u, spacing))).unsqueeze(1).to(displacement.dtype)


def jacobian_folding(displacement: Tensor, spacing: Tensor) -> tuple[Tensor, Tensor]:
    """The determinant, and how many voxels of each sample [B] have one of at most 0."""
    det = jacobian_determinant(displacement, spacing)
    return det, (det <= 0).flatten(1).sum(1)


def jacobian_backward(grad: Tensor, displacement: Tensor, spacing: Tensor) -> Tensor:
    """The gradient of jacobian_determinant, for grad [B, 1, *space]."""
    dtype = compute_dtype(displacement)
    u, g = displacement.to(dtype), grad.to(dtype)
    slopes = g.unsqueeze(1) * cofactors(with_identity(gradient(u, spacing)))
    return gradient_transpose(slopes, spacing).to(displacement.dtype)


def gradient(u: Tensor, spacing: Tensor) -> Tensor:
    """du_i/dx_j [B, i, j, *space]: central differences, one-sided at borders, as numpy.gradient."""
    return torch.stack([difference(u, j, spacing) for j in range(u.dim() - 2)], dim=2)


def gradient_transpose(slopes: Tensor, spacing: Tensor) -> Tensor:
    """The transpose of `gradient`: [B, i, j, *space] -> [B, i, *space]."""
    parts = [difference_transpose(slopes[:, :, j], j, spacing) for j in range(slopes.shape[2])]
    return torch.stack(parts).sum(0)


def difference(u: Tensor, axis: int, spacing: Tensor) -> Tensor:
    n, dim = u.shape[axis + 2], axis + 2
    if n == 1:
        return torch.zeros_like(u)
    step = u.narrow(dim, 1, n - 1) - u.narrow(dim, 0, n - 1)
    inside = (u.narrow(dim, 2, n - 2) - u.narrow(dim, 0, n - 2)) / 2
    ends = [step.narrow(dim, 0, 1), inside, step.narrow(dim, n - 2, 1)]
    return torch.cat(ends, dim) / per_sample(spacing[:, axis], u)


def difference_transpose(s: Tensor, axis: int, spacing: Tensor) -> Tensor:
    n, dim = s.shape[axis + 2], axis + 2
    if n == 1:
        return torch.zeros_like(s)
    ones = [2.0, *[1.0] * (n - 2), 2.0]
    view = [-1 if d == dim else 1 for d in range(s.dim())]
    s = s * (torch.tensor(ones, dtype=s.dtype, device=s.device).view(view) / 2)
    s = s / per_sample(spacing[:, axis], s)
    none = torch.zeros_like(s.narrow(dim, 0, 1))
    # Voxel x reads x + 1 and x - 1, but the first itself and the last itself.
    up = torch.cat([none, s.narrow(dim, 0, n - 1)], dim)
    down = torch.cat([s.narrow(dim, 1, n - 1), none], dim)
    first, last = s.narrow(dim, 0, 1), s.narrow(dim, n - 1, 1)
    rest = torch.zeros_like(s.narrow(dim, 0, n - 2))
    return up - down + torch.cat([-first, rest, last], dim)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))


def with_identity(slopes: Tensor) -> Tensor:
    axes = slopes.shape[1]
    eye = torch.eye(axes, dtype=slopes.dtype, device=slopes.device)
    return slopes + eye.view(1, axes, axes, *[1] * axes)


def determinant(j: Tensor) -> Tensor:
    """[B, i, j, *space] -> [B, *space]."""
    if j.shape[1] == 2:
        return j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] * j[:, 1, 0]
    return (j[:, 0] * cross(j[:, 1], j[:, 2])).sum(1)


def cofactors(j: Tensor) -> Tensor:
    """The derivative of the determinant in every entry."""
    if j.shape[1] == 2:
        rows = [[j[:, 1, 1], -j[:, 1, 0]], [-j[:, 0, 1], j[:, 0, 0]]]
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    pairs = ((1, 2), (2, 0), (0, 1))
    return torch.stack([cross(j[:, a], j[:, b]) for a, b in pairs], dim=1)


def cofactors_slope(j: Tensor, k: Tensor) -> Tensor:
    """The derivative of the cofactors along k."""
    if j.shape[1] == 2:
        return cofactors(k)
    pairs = ((1, 2), (2, 0), (0, 1))
    parts = [cross(k[:, a], j[:, b]) + cross(j[:, a], k[:, b]) for a, b in pairs]
    return torch.stack(parts, dim=1)


def cross(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.cross(a, b, dim=1)
    return product


def smoothness(displacement: Tensor, spacing: Tensor, penalty: str) -> Tensor:
    """Per sample [B, 1]: over the axes, the mean of the means of |forward difference|^1 or ^2."""
    u = displacement.to(compute_dtype(displacement))
    total = u.new_zeros(u.shape[0])
    for axis, step in forward_differences(u, spacing):
        size = step.abs() if penalty == "l1" else step * step
        total = total + size.flatten(1).sum(1) * weight(u.shape, axis)
    return total.unsqueeze(1)


def smoothness_backward(
    grad: Tensor, displacement: Tensor, spacing: Tensor, penalty: str
) -> Tensor:
    """The gradient of `smoothness`, for grad [B, 1]."""
    u = displacement.to(compute_dtype(displacement))
    out = torch.zeros_like(u)
    for axis, step in forward_differences(u, spacing):
        slope = step.sign() if penalty == "l1" else 2 * step
        slope = slope * weight(u.shape, axis) / per_sample(spacing[:, axis], u)
        none = torch.zeros_like(u.narrow(axis + 2, 0, 1))
        higher = torch.cat([none, slope], axis + 2)
        lower = torch.cat([slope, none], axis + 2)
        out = out + higher - lower
    return (out * per_sample(grad, u)).to(displacement.dtype)


def forward_differences(u: Tensor, spacing: Tensor) -> list[tuple[int, Tensor]]:
    """Along every axis of 2 voxels or more."""
    found = []
    for axis, n in enumerate(u.shape[2:]):
        if n > 1:
            step = u.narrow(axis + 2, 1, n - 1) - u.narrow(axis + 2, 0, n - 1)
            found.append((axis, step / per_sample(spacing[:, axis], u)))
    return found


def weight(shape: Sequence[int], axis: int) -> float:
    """One over the number of axes and of differences along this one."""
    _, channels, *space = shape
    count = channels * (space[axis] - 1)
    for other, n in enumerate(space):
        count *= n if other != axis else 1
    return 1 / (len(space) * count) if count else 0.0

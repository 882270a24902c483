"""Exact Euclidean distances by definition, one axis after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def euclidean_distance(labels: Tensor, spacing: Tensor, signed: bool, float64: bool) -> Tensor:
    """Distance of every voxel to the nearest one of another label; 0 where the label is 0.

    labels: [B, K, *space] integers or bool; spacing: [B, ndim] float64. With `signed`, label 0 is a
    label like any other and labelled voxels are negative.

        D(p)^2 = min over z of (s_z dz)^2 + min over y of (s_y dy)^2 + min over x of (s_x dx)^2

    over voxels of other labels: a minimum along one axis after the other, of the squares found so
    far where the labels agree and of 0 where they differ. O(N (D + H + W)).
    """
    return euclidean_indices(labels, spacing, signed, float64)[0]


def euclidean_indices(
    labels: Tensor, spacing: Tensor, signed: bool, float64: bool
) -> tuple[Tensor, Tensor]:
    """The distance, and the row-major index of the nearest voxel: the lowest of equals, or -1."""
    space = labels.shape[2:]
    dtype = torch.float64 if float64 else torch.float32
    own = torch.arange(space.numel(), device=labels.device).reshape(space).expand(labels.shape)
    background = (labels == 0) & (not signed)
    square = torch.where(background, 0.0, torch.inf).to(dtype)
    index = torch.where(background, own, -1)
    # Lengths relative to those along the last axis keep squares integers on isotropic grids.
    ratio = (spacing / spacing[:, -1:]).square()  # [B, ndim]
    for axis in range(labels.dim() - 1, 1, -1):
        square, index = _nearest_along(axis, labels, own, ratio[:, axis - 2], square, index)
    scale = spacing[:, -1].to(dtype).reshape(-1, *[1] * (labels.dim() - 1))
    # torch's float32 root is off by an ulp at times; by way of float64 it is correctly rounded.
    distance = square.double().sqrt().to(dtype) * scale
    if signed:
        distance = torch.where(labels != 0, -distance, distance)
    return distance, index


def _nearest_along(
    axis: int, labels: Tensor, own: Tensor, weight: Tensor, square: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    n = labels.shape[axis]
    best, nearest = torch.full_like(square, torch.inf), torch.full_like(index, -1)
    rows = torch.arange(n, dtype=torch.float64, device=labels.device)
    for s in range(n):
        steps = ((rows - s).square() * weight[:, None]).to(square.dtype)  # [B, n]
        shape = [1] * labels.dim()
        shape[0], shape[axis] = steps.shape
        same = labels == labels.narrow(axis, s, 1)
        value = torch.where(same, square.narrow(axis, s, 1), 0.0) + steps.reshape(shape)
        source = torch.where(same, index.narrow(axis, s, 1), own.narrow(axis, s, 1))
        nearer = value < best
        best, nearest = torch.where(nearer, value, best), torch.where(nearer, source, nearest)
    return best, nearest

"""Distances between the surfaces of two masks, on exact Euclidean maps.

The surface of a mask is its border voxels: those inside that have a face neighbour outside, or
outside the image. With d(p, B) the distance from p to the nearest surface voxel of B, in the units
of the spacing,

    directed Hausdorff      q-quantile over p in A of d(p, B)
    Hausdorff               the greater of the two directions
    average surface dist.   mean of d(p, B) over p in A and d(p, A) over p in B, taken together
    surface Dice at tol     share of those, of both surfaces, that are at most tol

A structure that one mask lacks is as far as can be: inf, and a Dice of 0. Two empty masks agree:
0, and a Dice of 1. Metrics are float64; they have no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops.euclidean import euclidean_distance
from medkern.rules import euclidean as rules


def hausdorff_distance(
    a: ArrayT,
    b: ArrayT,
    *,
    percentile: float | None = 95,
    spacing: Any = None,
    directed: bool = False,
    ndim: int | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The Hausdorff distance of the surfaces of two masks, or its percentile (HD95).

    Args:
        a, b: [B, K, *space], leading axes optional; bool or integers, inside where not 0.
        percentile: 0 to 100, between samples linearly (as numpy.percentile); 100 or None is the
            maximum. Of each direction by itself, of which the greater counts (as in MONAI; medpy
            takes the percentile of both together).
        spacing: as for `euclidean_distance`.
        directed: only from the surface of a to that of b.
        ndim, backend: as for `euclidean_distance`.

    Returns:
        float64, shaped as the leading axes of a. inf where one mask is empty, 0 where both are.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    >>> import torch, medkern as mk
    >>> a = torch.zeros(8, 8, dtype=torch.bool)
    >>> a[2:5, 2:5] = True
    >>> mk.hausdorff_distance(a, a.roll(2, 1), percentile=None, spacing=(1, 0.5))
    tensor(1., dtype=torch.float64)
    """
    fraction = rules.fraction_of("hausdorff_distance", percentile)

    def metric(there: Tensor, back: Tensor, _: int) -> Tensor:
        sides = [there] if directed else [there, back]
        return torch.stack([_quantile(side, fraction) for side in sides]).amax()

    return _per_pair("hausdorff_distance", a, b, spacing, ndim, backend, metric, 0.0, torch.inf)


def average_surface_distance(
    a: ArrayT,
    b: ArrayT,
    *,
    symmetric: bool = True,
    spacing: Any = None,
    ndim: int | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The mean distance between the surfaces of two masks.

    Args:
        a, b, spacing, ndim, backend: as for `hausdorff_distance`.
        symmetric: the mean over the voxels of both surfaces (as in MONAI); False: from the surface
            of a to that of b only.

    Returns:
        float64, shaped as the leading axes of a. inf where one mask is empty, 0 where both are.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    >>> import torch, medkern as mk
    >>> a, b = torch.zeros(2, 7, dtype=torch.bool)
    >>> a[2], b[2], b[6] = True, True, True
    >>> mk.average_surface_distance(a, b, symmetric=False), mk.average_surface_distance(a, b)
    (tensor(0., dtype=torch.float64), tensor(1.3333, dtype=torch.float64))
    """

    def metric(there: Tensor, back: Tensor, _: int) -> Tensor:
        return (torch.cat([there, back]) if symmetric else there).mean()

    return _per_pair(
        "average_surface_distance", a, b, spacing, ndim, backend, metric, 0.0, torch.inf
    )


def normalized_surface_dice(
    a: ArrayT,
    b: ArrayT,
    tolerance: float | Sequence[float] | Tensor,
    *,
    spacing: Any = None,
    ndim: int | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The share of both surfaces that lies within a tolerance of the other one.

    Args:
        a, b, spacing, ndim, backend: as for `hausdorff_distance`.
        tolerance: in the units of the spacing; a number, or one for each of the K sets.

    Returns:
        float64, shaped as the leading axes of a: 0 to 1. 0 where one mask is empty, 1 where both
        are. Surface voxels count one each, as in MONAI (not by the area of a mesh).

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    >>> import torch, medkern as mk
    >>> a, b = torch.zeros(2, 9, dtype=torch.bool)
    >>> a[2:5], b[2:8] = True, True
    >>> mk.normalized_surface_dice(a, b, tolerance=1)
    tensor(0.5000, dtype=torch.float64)
    """
    op = "normalized_surface_dice"
    t, _ = as_tensor(op, "a", a)
    sets = rules.plan(op, "a", t.shape, dtype_name(t.dtype), ndim, spacing).sets
    limits = rules.tolerances_of(op, tolerance, sets)

    def metric(there: Tensor, back: Tensor, k: int) -> Tensor:
        return (torch.cat([there, back]) <= limits[k]).double().mean()

    return _per_pair(op, a, b, spacing, ndim, backend, metric, 1.0, 0.0)


def _per_pair(
    op: str,
    a: ArrayT,
    b: ArrayT,
    spacing: Any,
    ndim: int | None,
    backend: str | None,
    metric: Callable[[Tensor, Tensor, int], Tensor],
    both_empty: float,
    one_empty: float,
) -> ArrayT:
    """metric(distances from a's surface, those from b's, k) of every pair of masks."""
    ta, restore = as_tensor(op, "a", a)
    tb, _ = as_tensor(op, "b", b)
    rules.same_shape(op, ta.shape, tb.shape)
    plan = rules.plan(op, "a", ta.shape, dtype_name(ta.dtype), ndim, spacing)
    rules.plan(op, "b", tb.shape, dtype_name(tb.dtype), len(plan.space), None)
    shape = (plan.batch, plan.sets, *plan.space)
    pair = torch.stack([surface(t.reshape(shape) != 0, len(plan.space)) for t in (ta, tb)], dim=2)
    pair = _cropped(pair)  # [B, K, 2, *box]
    far = euclidean_distance(
        ~pair.flatten(1, 2),
        spacing=plan.spacing,
        ndim=len(plan.space),
        dtype=torch.float64,
        backend=backend,
    ).reshape(pair.shape)
    values = torch.empty(shape[:2], dtype=torch.float64, device=ta.device)
    for n in range(plan.batch):
        for k in range(plan.sets):
            there, back = far[n, k, 1][pair[n, k, 0]], far[n, k, 0][pair[n, k, 1]]
            if there.numel() and back.numel():
                values[n, k] = metric(there, back, k)
            else:
                values[n, k] = one_empty if there.numel() or back.numel() else both_empty
    return restore(values.reshape(ta.shape[: ta.dim() - len(plan.space)]))


def surface(mask: Tensor, ndim: int) -> Tensor:
    """The voxels of a bool mask [..., *space] with a face neighbour outside it, or the image."""
    inside = mask.clone()
    for axis in range(-ndim, 0):
        n = mask.shape[axis]
        inside.narrow(axis, 1, n - 1).logical_and_(mask.narrow(axis, 0, n - 1))
        inside.narrow(axis, 0, n - 1).logical_and_(mask.narrow(axis, 1, n - 1))
        inside.narrow(axis, 0, 1).fill_(False)
        inside.narrow(axis, n - 1, 1).fill_(False)
    return mask & ~inside


def _cropped(pair: Tensor) -> Tensor:
    """[B, K, 2, *space] cut to the smallest box that holds every surface of the batch."""
    for axis in range(3, pair.dim()):
        others = [i for i in range(pair.dim()) if i != axis]
        found = pair.any(dim=others).nonzero().flatten()
        if found.numel():
            first, last = int(found[0]), int(found[-1])
            pair = pair.narrow(axis, first, last - first + 1)
    return pair


def _quantile(values: Tensor, fraction: float) -> Tensor:
    """Between neighbouring samples linearly; torch.quantile refuses more than 2**24 of them."""
    ordered = values.sort().values
    at = fraction * (ordered.numel() - 1)
    low = int(at)
    high = min(low + 1, ordered.numel() - 1)
    return torch.lerp(ordered[low], ordered[high], at - low)

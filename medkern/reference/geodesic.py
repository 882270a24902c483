"""Geodesic distance on a grid by its definition: relax every edge until nothing changes.

Neighbouring voxels q, p are joined by an edge of cost w(q, p) >= 0 (`edge_weight`). The distance
is the greatest map with D <= starts and D(p) <= D(q) + w(q, p) in the arithmetic of the image's
dtype: the weight is rounded first, then the sum. It is unique, so all exact methods give its bits.

image [B, C, *space], starts and distance [B, K, *space] (inf: no seed), mask bool [B, 1, *space],
spacing float64 [B, ndim]. A voxel outside the mask, or where the image is NaN, is a wall.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def edge_weight(
    image_p: Tensor, image_q: Tensor, length: Tensor, lam: float, metric: str, channel_norm: str
) -> Tensor:
    """Cost of the step from q to p: images [B, C, ...], length float64 [B, ...] -> [B, 1, ...]."""
    dtype = image_p.dtype
    step = length.unsqueeze(1)

    def rounded(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value, dtype=dtype, device=image_p.device)

    if metric == "node":
        return image_p
    if metric == "mcp":
        return (image_q + image_p) * rounded(step / 2)
    difference = channel_difference(
        image_p - image_q, "l2" if metric == "geodistk" else channel_norm
    )
    if metric == "l1":
        return rounded(1 - lam) * difference + rounded(lam * step)
    if metric == "fastgeodis":
        return rounded(lam) * difference + rounded((1 - lam) * step)
    if metric == "l2":
        squares = rounded(1 - lam) * (difference * difference) + rounded(lam * step * step)
        return square_root(squares)
    if metric == "geos":
        squares = rounded(lam * lam) * (difference * difference) + rounded(step * step)
        return square_root(squares)
    slowness = rounded(1 - lam) + rounded(lam) / (difference + 1e-5)
    return rounded(step) / slowness


def channel_difference(change: Tensor, norm: str) -> Tensor:
    """The norm of change [B, C, ...] over its channels, added one by one: [B, 1, ...]."""
    if norm == "linf":
        largest: Tensor = change.abs().amax(1, keepdim=True)
        return largest
    if norm == "l1" or change.shape[1] == 1:
        return sum_channels(change.abs())
    return square_root(sum_channels(change * change))


def sum_channels(values: Tensor) -> Tensor:
    total = values[:, :1]
    for channel in range(1, values.shape[1]):
        total = total + values[:, channel : channel + 1]
    return total


def square_root(x: Tensor) -> Tensor:
    """sqrt with slope 0 at 0, where paths of no cost meet."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), x)


class Step(NamedTuple):
    """To a neighbour: its axes' changes, the same in row-major indices, and its length [B]."""

    change: tuple[int, ...]
    offset: int
    length: Tensor


def steps(space: Sequence[int], connectivity: int, spacing: Tensor) -> list[Step]:
    """The stencil in row-major order: steps along at most `connectivity` axes at once."""
    strides = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
    found = []
    for change in itertools.product((-1, 0, 1), repeat=len(space)):
        if not 1 <= sum(map(abs, change)) <= connectivity:
            continue
        squares = [(c * spacing[:, axis]) ** 2 for axis, c in enumerate(change)]
        offset = sum(c * stride for c, stride in zip(change, strides, strict=True))
        found.append(Step(change, offset, torch.stack(squares).sum(0).sqrt()))
    return found


def neighbour(values: Tensor, change: Sequence[int], outside: float) -> Tensor:
    """values [B, N, *space] at p + change, for every p."""
    padding = [1] * (2 * len(change))
    padded = torch.nn.functional.pad(values, padding, value=outside)
    for axis, c in enumerate(change):
        padded = padded.narrow(2 + axis, 1 + c, values.shape[2 + axis])
    return padded


def passable(image: Tensor, mask: Tensor | None) -> Tensor:
    """The image with NaN at every wall."""
    return image if mask is None else torch.where(mask, image, math.nan)


def weights(
    image: Tensor,
    mask: Tensor | None,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
    connectivity: int,
) -> Iterator[tuple[Step, Tensor]]:
    """Every step to a neighbour q with w(q, p) for all p; inf where the edge is missing."""
    image = passable(image, mask)
    # NaN in any channel or at either end: x - x is NaN there, and 0 elsewhere.
    for step in steps(image.shape[2:], connectivity, spacing):
        other = neighbour(image, step.change, math.nan)
        length = step.length.view(-1, *[1] * (image.dim() - 2))
        cost = edge_weight(image, other, length, lam, metric, channel_norm)
        whole = ~(image.isnan() | other.isnan()).any(1, keepdim=True) & ~cost.isnan()
        yield step, torch.where(whole, cost, math.inf)


def solve(
    image: Tensor,
    starts: Tensor,
    mask: Tensor | None,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
    connectivity: int,
    limit: float,
) -> tuple[Tensor, Tensor]:
    """The distance, and [B, K]: after how many rounds nothing changed."""
    edges = list(weights(image, mask, spacing, lam, metric, channel_norm, connectivity))
    distance = starts if mask is None else torch.where(mask, starts, math.inf)
    rounds = torch.ones(starts.shape[:2], device=starts.device)
    while True:
        before = distance
        for step, weight in edges:
            distance = torch.minimum(distance, neighbour(distance, step.change, math.inf) + weight)
        changed = (distance != before).flatten(2).any(2)
        if not bool(changed.any()):
            break
        rounds = rounds + changed
    return torch.where(distance.double() <= limit, distance, math.inf), rounds


def geodesic_distance(
    image: Tensor,
    starts: Tensor,
    mask: Tensor | None,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
    connectivity: int,
    limit: float,
    method: str,
    iterations: int,
) -> Tensor:
    """The distance [B, K, *space], exact whatever the method, as a sum along the shortest paths."""
    del method, iterations
    metric_args = (spacing, lam, metric, channel_norm)
    exact, _ = solve(image.detach(), starts.detach(), mask, *metric_args, connectivity, limit)
    parents = geodesic_parents(
        exact, image.detach(), starts.detach(), mask, *metric_args, connectivity
    )
    distance = tree_paths(tree_edges(image, starts, parents, *metric_args), parents)
    return torch.where(parents >= 0, distance, math.inf)


def geodesic_info(image: Tensor, starts: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    """The distance, and [B, K, 4]: method code, rounds, whether it converged, and the residual."""
    distance, rounds = solve(image, starts, *rest[:-2])  # type: ignore[arg-type]
    nothing, one = torch.zeros_like(rounds), torch.ones_like(rounds)
    return distance, torch.stack([nothing, rounds, one, nothing], dim=-1).double()


def geodesic_parents(
    distance: Tensor,
    image: Tensor,
    starts: Tensor,
    mask: Tensor | None,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
    connectivity: int,
) -> Tensor:
    """Row-major index of the voxel before each one on a shortest path, int64 [B, K, *space].

    A seed is its own, an unreachable voxel's is -1. Of several, the first in the stencil's order
    that is nearer than p. Where all are as near as p (edges of no cost), the first of those settled
    already, breadth first.
    """
    own = row_major(distance)
    reached = distance < math.inf
    parents = torch.where(reached & (distance == starts), own, -1)
    edges = []
    for step, weight in weights(image, mask, spacing, lam, metric, channel_norm, connectivity):
        other = neighbour(distance, step.change, math.inf)
        tight = reached & (other + weight == distance)
        edges.append((step, tight & (other == distance)))
        parents = torch.where(
            (parents < 0) & tight & (other < distance), own + step.offset, parents
        )
    while True:
        settled = parents >= 0
        for step, level in edges:
            takes = (parents < 0) & level & neighbour(settled, step.change, False)
            parents = torch.where(takes, own + step.offset, parents)
        if torch.equal(settled, parents >= 0):
            break
    if bool((reached & ~settled).any()):
        raise RuntimeError(
            "medkern: distance must be exact, got a voxel that no neighbour explains"
        )
    return parents


def row_major(like: Tensor) -> Tensor:
    space = like.shape[2:]
    return torch.arange(math.prod(space), device=like.device).view(space)


def tree_edges(
    image: Tensor,
    starts: Tensor,
    parents: Tensor,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
) -> Tensor:
    """What each voxel adds to its parent's distance [B, K, *space]; the start cost at a root."""
    ends = tree_ends(image, parents, spacing)
    cost = edge_weight(*ends, lam, metric, channel_norm).reshape(starts.shape)
    roots = parents == row_major(parents)
    return torch.where(roots, starts, torch.where(parents >= 0, cost, 0))


def tree_ends(image: Tensor, parents: Tensor, spacing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both ends of every tree edge, and its length: [B, C, K, N], the same, float64 [B, K, N].

    Voxels without an edge (roots, unreachable ones) get one of length 0 to themselves.
    """
    above = parent_or_self(parents).flatten(2)  # [B, K, N]
    flat = image.flatten(2).unsqueeze(2).expand(-1, -1, parents.shape[1], -1)
    flat = torch.where(flat.isnan(), 0, flat)
    image_q = flat.gather(3, above.unsqueeze(1).expand(flat.shape))
    squares, rest = (
        torch.zeros_like(above, dtype=torch.float64),
        (row_major(parents).flatten(), above),
    )
    for axis in reversed(range(parents.dim() - 2)):
        size = parents.shape[2 + axis]
        change = rest[0] % size - rest[1] % size
        squares = squares + (change * spacing[:, axis].view(-1, 1, 1)) ** 2
        rest = (rest[0] // size, rest[1] // size)
    return flat, image_q, squares.sqrt()


def edge_slopes(
    ends: tuple[Tensor, Tensor, Tensor], lam: float, metric: str, channel_norm: str
) -> tuple[Tensor, Tensor]:
    """Derivatives of every tree edge's cost in the image at its two ends: [B, C, K, N] each."""
    p, q, length = ends

    def cost(p: Tensor, q: Tensor) -> Tensor:
        return edge_weight(p, q, length, lam, metric, channel_norm)

    value, pull, *_ = torch.func.vjp(cost, p, q)
    slopes: tuple[Tensor, Tensor] = pull(torch.ones_like(value))
    return slopes


def geodesic_pull(
    flow: Tensor,
    parents: Tensor,
    image: Tensor,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
) -> Tensor:
    """The gradient in the image of the sum over all tree edges of flow(p) w(parent(p), p)."""
    slope_p, slope_q = edge_slopes(tree_ends(image, parents, spacing), lam, metric, channel_norm)
    # No flatten, which the vmap of gradgradcheck does not know.
    through = torch.where(tree_has_edge(parents), flow, 0).reshape(slope_q[:, :1].shape)
    above = parent_or_self(parents).flatten(2).unsqueeze(1).expand(slope_q.shape)
    at_q = torch.zeros_like(slope_q).scatter_add(3, above, slope_q * through)
    return (slope_p * through + at_q).sum(2).reshape(image.shape)


def geodesic_push(
    change: Tensor,
    parents: Tensor,
    image: Tensor,
    spacing: Tensor,
    lam: float,
    metric: str,
    channel_norm: str,
) -> Tensor:
    """The adjoint, the derivative of every tree edge's cost along a change of the image."""
    slope_p, slope_q = edge_slopes(tree_ends(image, parents, spacing), lam, metric, channel_norm)
    at_p, at_q, _ = tree_ends(change, parents, spacing)
    along = (slope_p * at_p + slope_q * at_q).sum(1).reshape(parents.shape)
    return torch.where(tree_has_edge(parents), along, 0)


def tree_has_edge(parents: Tensor) -> Tensor:
    return (parents >= 0) & (parents != row_major(parents))


def parent_or_self(parents: Tensor) -> Tensor:
    return torch.where(parents >= 0, parents, row_major(parents))


def tree_levels(parents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(voxels, their parents) at each depth below the roots, as indices into all maps."""
    own = torch.arange(parents.numel(), device=parents.device)
    above = parents.flatten() + (own - row_major(parents).expand(parents.shape).flatten())
    settled = parents.flatten() == row_major(parents).expand(parents.shape).flatten()
    waiting = own[~settled & (parents.flatten() >= 0)]
    while True:
        ready = settled[above[waiting]]
        if not bool(ready.any()):
            return
        level, waiting = waiting[ready], waiting[~ready]
        settled[level] = True
        yield level, above[level]


def tree_paths(values: Tensor, parents: Tensor) -> Tensor:
    """The sum of values [B, K, *space] from the root to each voxel, both included."""
    check_tree(values, parents)
    roots = (parents == row_major(parents)).flatten()
    sums = torch.where(roots, values.flatten(), 0)
    for level, above in tree_levels(parents):
        sums = sums.index_put((level,), sums[above] + values.flatten()[level])
    return sums.reshape(values.shape)


def tree_subtrees(values: Tensor, parents: Tensor) -> Tensor:
    """The sum of values [B, K, *space] over each voxel's subtree: the adjoint of tree_paths."""
    check_tree(values, parents)
    sums = torch.where(parents >= 0, values, 0).flatten()
    for level, above in reversed(list(tree_levels(parents))):
        sums = sums.index_add(0, above, sums[level])
    return sums.reshape(values.shape)


def tree_roots(parents: Tensor) -> Tensor:
    """The root of each voxel's tree; -1 where there is none."""
    own = row_major(parents).expand(parents.shape).flatten()
    roots = torch.where(parents.flatten() == own, own, -1)
    for level, above in tree_levels(parents):
        roots[level] = roots[above]
    return roots.reshape(parents.shape)


def check_tree(values: Tensor, parents: Tensor) -> None:
    if values.shape != parents.shape:
        raise RuntimeError(f"medkern: values and parents differ: {values.shape}, {parents.shape}")

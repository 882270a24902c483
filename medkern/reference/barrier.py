"""Minimum barrier and bottleneck distances in plain Python, by heaps.

image [B, C, *space], seeds [B, K, *space] bool, mask [B, 1, *space] bool or None (everywhere);
results [B, K, *space]. C is 1 but for `barrier_vectorial`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def minimum_barrier_distance(
    image: Tensor, seeds: Tensor, mask: Tensor | None, connectivity: int
) -> Tensor:
    """min over paths of (max - min) of the image along the path; inf where there is no path."""
    highest, lowest = barrier_witnesses(image, seeds, mask, connectivity).unbind(1)
    barrier = _pick(image, highest) - _pick(image, lowest)
    return torch.where(highest < 0, math.inf, barrier)


def max_distance_along_path(
    image: Tensor, seeds: Tensor, mask: Tensor | None, connectivity: int
) -> Tensor:
    """min over paths of the maximum of the image along the path; inf where there is no path."""
    highest = bottleneck_witness(image, seeds, mask, connectivity)
    return torch.where(highest < 0, math.inf, _pick(image, highest))


def barrier_witnesses(
    image: Tensor, seeds: Tensor, mask: Tensor | None, connectivity: int
) -> Tensor:
    """Where a best path attains its maximum and its minimum, [B, 2, K, *space] row-major; or -1."""
    sets = _each_set(_best_barriers, image, seeds, mask, connectivity)
    ends = [_indices([ends[i] for ends in sets], seeds) for i in (0, 1)]
    return torch.stack(ends, dim=1)


def bottleneck_witness(
    image: Tensor, seeds: Tensor, mask: Tensor | None, connectivity: int
) -> Tensor:
    """Row-major voxel where a path of the lowest maximum attains it; -1: no path."""
    return _indices(_each_set(_best_bottlenecks, image, seeds, mask, connectivity), seeds)


def barrier_raster(
    image: Tensor, seeds: Tensor, mask: Tensor | None, connectivity: int, iterations: int
) -> tuple[Tensor, Tensor]:
    """FastMBD: one path kept per voxel; and the half scans run [B, K], negative if not idle yet."""

    def solve(values: list[Any], start: list[int], near: list[list[int]]) -> tuple[Any, int]:
        return _raster_scans([v[0] for v in values], start, near, iterations)

    sets = _each_set(solve, image, seeds, mask, connectivity)
    dtype = _value_dtype(image)
    distance = torch.tensor([d for d, _ in sets], dtype=dtype, device=image.device)
    scans = torch.tensor([n for _, n in sets], dtype=dtype, device=image.device)
    return distance.reshape(seeds.shape), scans.reshape(seeds.shape[:2])


def barrier_vectorial(
    image: Tensor, seeds: Tensor, mask: Tensor | None, connectivity: int, norm: str
) -> Tensor:
    """Norm over channels of the sides of the path's bounding box of colours, greedily small."""

    def solve(values: list[Any], start: list[int], near: list[list[int]]) -> list[float]:
        return _greedy_boxes(values, start, near, NORMS[norm])

    sets = _each_set(solve, image, seeds, mask, connectivity)
    out = torch.tensor(sets, dtype=_value_dtype(image), device=image.device)
    return out.reshape(seeds.shape)


NORMS: dict[str, Callable[[list[float]], float]] = {
    "l1": sum,
    "l2": lambda sides: math.sqrt(sum(s * s for s in sides)),
    "linf": max,
}


def _best_barriers(
    values: list[Any], start: list[int], near: list[list[int]]
) -> tuple[list[int], list[int]]:
    """All paths that no other beats in both ends, by rising maximum, then by falling minimum."""
    floor, best = [-math.inf] * len(values), [math.inf] * len(values)
    highest, lowest = [-1] * len(values), [-1] * len(values)
    heap = [(values[s][0], -values[s][0], s, s, s) for s in start]
    heapq.heapify(heap)
    while heap:
        top, negative, voxel, high, low = heapq.heappop(heap)
        if -negative <= floor[voxel]:
            continue
        floor[voxel] = -negative
        if top + negative < best[voxel]:
            best[voxel], highest[voxel], lowest[voxel] = top + negative, high, low
        for n in near[voxel]:
            value = values[n][0]
            if min(-negative, value) > floor[n]:
                up, down = value > top, value < -negative
                ends = (n if up else high, n if down else low)
                heapq.heappush(heap, (max(top, value), max(negative, -value), n, *ends))
    return highest, lowest


def _best_bottlenecks(values: list[Any], start: list[int], near: list[list[int]]) -> list[int]:
    highest = [-1] * len(values)
    heap = [(values[s][0], s, s) for s in start]
    heapq.heapify(heap)
    while heap:
        top, high, voxel = heapq.heappop(heap)
        if highest[voxel] >= 0:
            continue
        highest[voxel] = high
        for n in near[voxel]:
            value = values[n][0]
            heapq.heappush(heap, (value, n, n) if value > top else (top, high, n))
    return highest


def _raster_scans(
    values: list[float], start: list[int], near: list[list[int]], iterations: int
) -> tuple[list[float], int]:
    low, high = [-math.inf] * len(values), [math.inf] * len(values)
    for s in start:
        low[s] = high[s] = values[s]
    scans = idle = 0
    while scans < iterations and idle < 2:
        forward, changed = scans % 2 == 0, False
        voxels = range(len(values))
        for voxel in voxels if forward else reversed(voxels):
            before = [n for n in near[voxel] if (n < voxel) == forward]
            for n in before if forward else reversed(before):
                box = min(low[n], values[voxel]), max(high[n], values[voxel])
                if box[1] - box[0] < high[voxel] - low[voxel]:
                    (low[voxel], high[voxel]), changed = box, True
        scans += 1
        idle = 0 if changed else idle + 1
    distance = [h - v for h, v in zip(high, low, strict=True)]
    return distance, scans if idle == 2 else -scans


def _greedy_boxes(
    values: list[Any],
    start: list[int],
    near: list[list[int]],
    norm: Callable[[list[float]], float],
) -> list[float]:
    cost: list[float] = [math.inf] * len(values)
    boxes: dict[int, list[tuple[float, float]]] = {}
    heap = [(0.0, s) for s in start]
    for s in start:
        cost[s], boxes[s] = 0.0, [(v, v) for v in values[s]]
    heapq.heapify(heap)
    while heap:
        reached, voxel = heapq.heappop(heap)
        if reached > cost[voxel]:
            continue
        for n in near[voxel]:
            colours = zip(boxes[voxel], values[n], strict=True)
            box = [(min(low, v), max(high, v)) for (low, high), v in colours]
            candidate = norm([high - low for low, high in box])
            if candidate < cost[n]:
                cost[n], boxes[n] = candidate, box
                heapq.heappush(heap, (candidate, n))
    return cost


def _each_set(
    solve: Callable[..., Any],
    image: Tensor,
    seeds: Tensor,
    mask: Tensor | None,
    connectivity: int,
) -> list[Any]:
    """solve(colours, seeds, neighbours of every voxel) for each set of seeds of each sample."""
    if image.dtype.is_complex or image.dim() < 3:
        raise RuntimeError(f"image must be real [B, C, *space], got {image.dtype} {image.shape}")
    space, found = image.shape[2:], []
    steps = [
        step
        for step in itertools.product((-1, 0, 1), repeat=len(space))
        if 0 < sum(map(abs, step)) <= connectivity
    ]
    for b in range(image.shape[0]):
        inside = [True] * math.prod(space) if mask is None else mask[b].flatten().tolist()
        near = [_neighbours(voxel, space, steps, inside) for voxel in range(len(inside))]
        values = image[b].detach().flatten(1).T.tolist()
        for k in range(seeds.shape[1]):
            flags = seeds[b, k].flatten().tolist()
            start = [voxel for voxel, flag in enumerate(flags) if flag and inside[voxel]]
            found.append(solve(values, start, near))
    return found


def _neighbours(
    voxel: int, space: Sequence[int], steps: list[tuple[int, ...]], inside: list[bool]
) -> list[int]:
    strides = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
    place = [voxel // stride % n for stride, n in zip(strides, space, strict=True)]
    found = []
    for step in steps:
        to = [p + s for p, s in zip(place, step, strict=True)]
        if all(0 <= t < n for t, n in zip(to, space, strict=True)):
            index = sum(t * stride for t, stride in zip(to, strides, strict=True))
            if inside[voxel] and inside[index]:
                found.append(index)
    return found


def _indices(sets: list[list[int]], seeds: Tensor) -> Tensor:
    return torch.tensor(sets, dtype=torch.int64, device=seeds.device).reshape(seeds.shape)


def _value_dtype(image: Tensor) -> torch.dtype:
    return torch.float64 if image.dtype == torch.float64 else torch.float32


def _pick(image: Tensor, index: Tensor) -> Tensor:
    """The image's value at each index [B, K, *space]; anything where the index is -1."""
    values = image.to(_value_dtype(image)).flatten(2).expand(-1, index.shape[1], -1)
    return values.gather(2, index.clamp(min=0).flatten(2)).reshape(index.shape)

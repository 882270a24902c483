"""The Euclidean distance of a volume in chunks.

A chunk is solved in a window around it. A voxel's distance in the window is right if it is less
than the distance to what the window leaves out, and otherwise says how far the window must reach to
make it right. So the first window that holds a second label gives the final one, wider or narrower;
one with a single label is doubled. Nothing but the windows' bounds is kept. The result is lazy: it
solves each chunk again, in its final window, when it is computed or stored.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from medkern.dask.volumes import Array, Index, check, compute, da, delayed
from medkern.rules import euclidean as rules

__all__ = ["euclidean_distance"]

Bounds = tuple[tuple[int, int], ...]  # per axis, from and to


def euclidean_distance(
    mask: da.Array,
    *,
    spacing: Any = None,
    signed: bool = False,
    return_indices: bool = False,
    dtype: Any = None,
) -> Any:
    """`medkern.euclidean_distance` of one mask or label image in chunks.

    Args:
        mask: [*space], 1 to 3 axes, in chunks of any size; bool or integers, 0 is background.
        spacing, signed, return_indices, dtype: as in memory.

    Returns:
        [*space], lazy, in the mask's chunks; with `return_indices` a pair of these and the int64
        row-major indices in the whole volume.

    Raises:
        ValueError, TypeError: a bad argument.

    The windows are found at once. Memory of a worker: a chunk of n voxels a side, none farther
    than d voxels from another label, takes a window of up to n + 2 d a side, with its labels and
    distances. Distances as long as the volume therefore need all of it; large chunks
    repeat less work, small ones need less memory.
    """
    op = "dask.euclidean_distance"
    check("euclidean_distance", "mask", mask)
    plan = rules.plan(op, "mask", mask.shape, str(mask.dtype), mask.ndim, spacing)
    out = np.dtype(np.float64 if rules.wants_float64(op, dtype) else np.float32)
    options = {"spacing": plan.spacing[0], "signed": signed, "dtype": out.name}
    windows = {at: _window(mask, chunk) for at, chunk in _chunks(mask).items()}
    _widen(mask, windows, options)
    distance = _assemble(mask, windows, options, out)
    if not return_indices:
        return distance
    return distance, _assemble(
        mask, windows, options | {"return_indices": True}, np.dtype(np.int64)
    )


def _chunks(mask: da.Array) -> dict[Index, Bounds]:
    ends = [np.cumsum(axis).tolist() for axis in mask.chunks]
    bounds = [list(zip([0, *e[:-1]], e, strict=True)) for e in ends]
    indices = itertools.product(*map(range, mask.numblocks))
    return {at: tuple(b[i] for b, i in zip(bounds, at, strict=True)) for at in indices}


def _window(mask: da.Array, chunk: Bounds, wider: int = 0) -> Bounds:
    """The chunk and a quarter of it, doubled `wider` times, on every side."""
    return tuple(
        (max(0, a - ((b - a) * 2**wider + 3) // 4), min(n, b + ((b - a) * 2**wider + 3) // 4))
        for (a, b), n in zip(chunk, mask.shape, strict=True)
    )


def _widen(mask: da.Array, windows: dict[Index, Bounds], options: dict[str, Any]) -> None:
    """Make every window such that its chunk is solved in it as in the whole volume."""
    whole = tuple((0, n) for n in mask.shape)
    active = chunks = _chunks(mask)
    for wider in itertools.count(1):
        tasks = [_reach(_cut(mask, windows[at]), windows[at], chunks[at], options) for at in active]
        reached = dict(zip(active, compute(*tasks), strict=True))
        active = {}
        for at, reach in reached.items():
            if reach is not None:
                windows[at] = tuple(
                    (max(0, a), min(n, b)) for (a, b), n in zip(reach, mask.shape, strict=True)
                )
            elif windows[at] != whole:
                windows[at] = _window(mask, chunks[at], wider)
                active[at] = chunks[at]
        if not active:
            return


def _assemble(
    mask: da.Array, windows: dict[Index, Bounds], options: dict[str, Any], dtype: np.dtype[Any]
) -> Any:
    blocks = np.empty(mask.numblocks, dtype=object)
    for at, chunk in _chunks(mask).items():
        solved = _solved(_cut(mask, windows[at]), windows[at], chunk, mask.shape, options)
        blocks[at] = da.from_delayed(solved, [b - a for a, b in chunk], dtype=dtype)
    return da.block(blocks.tolist())


def _cut(mask: da.Array, window: Bounds) -> Any:
    """The labels in a window, as one delayed array."""
    cut = mask[tuple(slice(a, b) for a, b in window)]
    return cut.rechunk(cut.shape).to_delayed().item()


def _solve(labels: Array, window: Bounds, chunk: Bounds, options: dict[str, Any]) -> Any:
    """The results of the in-memory function in a window, cut down to the chunk."""
    import medkern

    results = medkern.euclidean_distance(labels, ndim=labels.ndim, **options)
    inner = tuple(slice(c - a, d - a) for (a, _), (c, d) in zip(window, chunk, strict=True))
    return tuple(r[inner] for r in results) if isinstance(results, tuple) else results[inner]


@delayed  # type: ignore[untyped-decorator,unused-ignore]
def _reach(labels: Array, window: Bounds, chunk: Bounds, options: dict[str, Any]) -> Bounds | None:
    """The window that holds all voxels as near as those found in this one; None if it has none."""
    distance = np.abs(_solve(labels, window, chunk, options))
    if np.isinf(distance).any():
        return None
    reach = []
    for axis, ((first, last), edge) in enumerate(zip(chunk, options["spacing"], strict=True)):
        others = tuple(i for i in range(distance.ndim) if i != axis)
        # In voxels, rounded up; strictly within, as equally near voxels decide on indices.
        voxels = distance.max(axis=others) / edge * (1 + 1e-6)
        at = np.arange(first, last)
        reach.append((int(np.ceil((at + 1 - voxels).min())) - 1, int((at + voxels).max()) + 1))
    return tuple(reach)


@delayed  # type: ignore[untyped-decorator,unused-ignore]
def _solved(
    labels: Array, window: Bounds, chunk: Bounds, shape: Index, options: dict[str, Any]
) -> Array:
    """The chunk's distances or, if the options ask for them, its indices in the whole volume."""
    results = _solve(labels, window, chunk, options)
    if not isinstance(results, tuple):
        return np.ascontiguousarray(results)
    nearest = results[1]
    places = np.unravel_index(np.maximum(nearest, 0), labels.shape)
    whole = np.ravel_multi_index(
        [place + a for place, (a, _) in zip(places, window, strict=True)], shape
    )
    indices: Array = np.where(nearest < 0, nearest, whole)
    return indices

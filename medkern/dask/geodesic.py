"""The geodesic distance of a volume in chunks.

What a chunk needs of the others are the distances on the voxels around it, so only the surfaces of
chunks are exchanged, and chunks are solved again until no surface changes: the result is then the
in-memory one, as the shortest paths are the unique least solution of the chunks' equations
together. The interior of a chunk is never kept: the result is a lazy array that solves each chunk
once more, from its final surroundings, when it is computed or stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from medkern.dask.volumes import Array, Index, check, compute, da, delayed
from medkern.rules import message

_NOTHING = np.array(np.inf)


def geodesic_distance(
    image: da.Array,
    seeds: da.Array,
    *,
    lam: float = 0.5,
    metric: str = "l1",
    spacing: Any = None,
    connectivity: str | int = "full",
    max_rounds: int | None = None,
) -> da.Array:
    """`medkern.geodesic_distance` of one image in chunks.

    Args:
        image: [*space], 1 to 3 axes, in chunks of any size; float32, float64, or integers, which
            become float32.
        seeds: [*space] bool, or start costs (inf: no seed), chunked as the image or rechunked to
            it.
        lam, metric, spacing, connectivity: as in memory.
        max_rounds: give up, with an error, after this many exchanges; None means never.

    Returns:
        [*space], lazy, in the image's chunks. Unreachable voxels are inf.

    Raises:
        ValueError, TypeError: a bad argument. RuntimeError: `max_rounds` were not enough.

    The exchange runs at once: about as many rounds as the longest shortest path enters chunks, of
    which each solves only the chunks whose surroundings changed. The caller's process holds the
    surfaces of all chunks; a worker holds one chunk and its distances.
    """
    check("geodesic_distance", "image", image)
    check("geodesic_distance", "seeds", seeds)
    if image.shape != seeds.shape:
        rule = f"be {image.shape} as image is"
        raise ValueError(
            message("dask.geodesic_distance", "seeds", rule, seeds.shape, "give one image")
        )
    options = {
        "lam": lam,
        "metric": metric,
        "spacing": spacing,
        "connectivity": connectivity,
        "ndim": image.ndim,
    }
    volume = _Volume(image, seeds.rechunk(image.chunks), options)
    distance: da.Array = volume.assemble(volume.exchange(max_rounds))
    return distance


class _Volume(NamedTuple):
    """An image in chunks, and how to solve one."""

    image: da.Array
    seeds: da.Array
    options: dict[str, Any]

    def exchange(self, max_rounds: int | None) -> dict[Index, dict[Index, Array]]:
        """Solve chunks until no surface changes; what surrounds each of them then."""
        around: dict[Index, dict[Index, Array]] = {at: {} for at in self._chunks()}
        active, rounds, images = set(around), 0, self._delayed()
        while active:
            if rounds == max_rounds:
                raise RuntimeError(
                    f"medkern.dask.geodesic_distance: max_rounds must be enough for the shortest "
                    f"paths, got {max_rounds}; pass None, or larger chunks"
                )
            order = sorted(active)
            tasks = [_surface(*images[at], around[at], _low(at), self.options) for at in order]
            active, rounds = set(), rounds + 1
            for at, surface in zip(order, compute(*tasks), strict=True):
                for step, values in surface.items():
                    to = tuple(a + s for a, s in zip(at, step, strict=True))
                    back = tuple(-s for s in step)
                    # At first nothing is known around a chunk, which is the same as all inf.
                    known = around[to].get(back, _NOTHING) if to in around else values
                    if not np.array_equal(np.broadcast_to(known, values.shape), values):
                        around[to][back] = values
                        active.add(to)
        return around

    def assemble(self, around: dict[Index, dict[Index, Array]]) -> Any:
        dtype = self.image.dtype if self.image.dtype == np.float64 else np.dtype(np.float32)
        images = self._delayed()
        blocks = np.empty(self.image.numblocks, dtype=object)
        for at in self._chunks():
            shape = tuple(self.image.chunks[axis][i] for axis, i in enumerate(at))
            solved = _distance(*images[at], around[at], _low(at), self.options)
            blocks[at] = da.from_delayed(solved, shape, dtype=dtype)
        return da.block(blocks.tolist())

    def _chunks(self) -> Iterator[Index]:
        return itertools.product(*map(range, self.image.numblocks))

    def _delayed(self) -> dict[Index, tuple[Any, Any]]:
        """Per chunk the image with one voxel of its neighbours around it, and the seeds without."""
        wide = da.overlap.overlap(self.image, depth=1, boundary="none").to_delayed()
        seeds = self.seeds.to_delayed()
        return {at: (wide[at], seeds[at]) for at in self._chunks()}


def _low(at: Index) -> Index:
    return tuple(int(i > 0) for i in at)


def _solve(
    image: Array, seeds: Array, around: dict[Index, Array], low: Index, options: dict[str, Any]
) -> Array:
    """Distances in a chunk, given those around it; where `around` has none, nothing comes in.

    image: the chunk and the voxels around it that exist. low: per axis, whether there are some
    before the chunk.
    """
    import medkern

    image = image if image.dtype == np.float64 else image.astype(np.float32)
    inner = tuple(slice(f, f + n) for f, n in zip(low, seeds.shape, strict=True))
    starts = np.full(image.shape, np.inf, dtype=image.dtype)
    starts[inner] = np.where(seeds, 0, np.inf) if seeds.dtype == bool else seeds
    for step, values in around.items():
        place = {-1: slice(0, 1), 1: slice(-1, None)}
        starts[tuple(place.get(s, i) for s, i in zip(step, inner, strict=True))] = values
    if np.isinf(starts).all():
        return starts[inner]
    distance: Array = medkern.geodesic_distance(image, starts, **options)
    return distance[inner]


@delayed  # type: ignore[untyped-decorator,unused-ignore]
def _distance(*args: Any) -> Array:
    return np.ascontiguousarray(_solve(*args))


@delayed  # type: ignore[untyped-decorator,unused-ignore]
def _surface(*args: Any) -> dict[Index, Array]:
    """What each neighbour, by the step to it, sees of this chunk's distances."""
    distance = _solve(*args)
    side = {-1: slice(0, 1), 0: slice(None), 1: slice(-1, None)}
    steps = itertools.product((-1, 0, 1), repeat=distance.ndim)
    return {step: distance[tuple(side[s] for s in step)].copy() for step in steps if any(step)}

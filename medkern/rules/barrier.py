"""Rules of the minimum barrier distance and the bottleneck distance."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import at_least, choice, grid, message

IMAGES = ("uint8", "int16", "uint16", "float32", "float64")
HALVES = ("float16", "bfloat16")  # computed in float32
METHODS = ("exact", "raster")
NORMS = ("l1", "l2", "linf")
UNTIL_IDLE = 2**31 - 1  # half scans


def dtypes(op: str, image: str, seeds: str, mask: str | None) -> None:
    """Raise TypeError unless the arrays have dtypes of an image and of flags."""
    if image not in (*IMAGES, *HALVES):
        rule = f"be one of {', '.join((*IMAGES, *HALVES))}"
        raise TypeError(message(op, "image", rule, image, "convert it"))
    if seeds != "bool":
        rule = "be bool (no soft seeds: a barrier has no start cost)"
        raise TypeError(message(op, "seeds", rule, seeds, "compare it, for example labels == 1"))
    if mask not in (None, "bool"):
        raise TypeError(message(op, "mask", "be bool", mask, "compare it, for example mask > 0"))


def layout(
    op: str,
    image: Sequence[int],
    seeds: Sequence[int],
    mask: Sequence[int] | None,
    ndim: int | None,
    vectorial: bool = False,
) -> grid.Layout:
    """The layout of an image of one channel (vectorial: any), its seeds and its mask."""
    found = grid.layout_of(op, image, seeds, ndim)
    if vectorial and found.channels == 0:
        raise ValueError(message(op, "image", "have a channel", tuple(image), "add one"))
    if not vectorial and found.channels != 1:
        remedy = "pass one channel at a time"
        if op == "minimum_barrier_distance":
            remedy += ", or vectorial=True"
        raise ValueError(message(op, "image", "have one channel", tuple(image), remedy))
    if mask is not None:
        lead = (1,) * (2 + found.ndim - len(mask)) + tuple(mask[: len(mask) - found.ndim])
        fits = tuple(mask[len(mask) - found.ndim :]) == found.space and len(lead) == 2
        if not fits or lead[0] not in (1, found.batch) or lead[1] != 1:
            rule = f"be [B, 1, *{found.space}] as image is {tuple(image)}, leading axes optional"
            raise ValueError(message(op, "mask", rule, tuple(mask), "give both the same size"))
    return found


def result_shape(
    layout: grid.Layout, image: Sequence[int], seeds: Sequence[int]
) -> tuple[int, ...]:
    """[B, K, *space] where image or seeds have a batch axis, else the leading axes of the seeds."""
    if max(len(image), len(seeds)) == layout.ndim + 2:
        return (layout.batch, layout.sets, *layout.space)
    return tuple(seeds)


def half_scans(
    op: str, method: str, iterations: int | None, vectorial: bool, return_bounds: bool
) -> int:
    """The most half scans of the raster method; checks what goes with what."""
    choice(op, "method", method, METHODS)
    if vectorial and method == "raster":
        rule = "be 'exact' where vectorial=True (greedy, there is no raster scan)"
        raise ValueError(message(op, "method", rule, repr(method), "leave it out"))
    if iterations is None:
        return UNTIL_IDLE
    at_least(op, "iterations", iterations, 1)
    if method != "raster" and (vectorial or not return_bounds):
        rule = "be None but for method='raster' and return_bounds"
        raise ValueError(message(op, "iterations", rule, iterations, "leave it out"))
    return iterations


def values(op: str, finite: bool, seeded: bool) -> None:
    """Raise ValueError unless the image is finite inside the mask and there is a seed."""
    if not finite:
        rule, remedy = "be finite inside the mask", "mask these voxels out or replace them"
        raise ValueError(message(op, "image", rule, "NaN or inf", remedy))
    if not seeded:
        raise ValueError(message(op, "seeds", "hold a seed", "none at all", "set one to True"))

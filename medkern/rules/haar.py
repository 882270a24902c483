"""Rules and shapes of the Haar family."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import at_least, choice, message

PADS = ("zero", "replicate", "symmetric", "reflect", "periodic")
POOL_MODES = ("ll", "iewa", "all", "bands", "max_concat")
NDIMS = (1, 2, 3)


def half(n: int) -> int:
    """Coarse extent of an axis of `n` samples: n / 2, rounded up."""
    return (n + 1) // 2


def pool_space(op: str, shape: Sequence[int], mode: str, ndim: int, pad: str) -> tuple[int, ...]:
    """`space_of` for pooling: modes that stack maps along the channels need a channel axis."""
    choice(op, "mode", mode, POOL_MODES)
    choice(op, "ndim", ndim, NDIMS)
    return space_of(op, shape, ndim, pad, lead=int(pool_outputs(mode, ndim) > 1))


def pool_outputs(mode: str, ndim: int) -> int:
    """How many maps per channel a pooling mode yields."""
    outputs: dict[str, int] = {"bands": 2**ndim, "max_concat": 2}
    return outputs.get(mode, 1)


def space_of(op: str, shape: Sequence[int], ndim: int, pad: str, lead: int = 0) -> tuple[int, ...]:
    """The spatial extents of an input of at least `lead` more axes, checked."""
    choice(op, "ndim", ndim, NDIMS)
    choice(op, "pad", pad, PADS)
    if len(shape) < ndim + lead:
        axes = f"at least {ndim + lead} axes" + (" (channels first)" if lead else "")
        raise ValueError(
            message(op, "x", f"have {axes} for ndim={ndim}", tuple(shape), "add axes or lower ndim")
        )
    space = tuple(shape[len(shape) - ndim :])
    for n in space:
        if n == 0:
            rule = "have no empty spatial axis"
            raise ValueError(message(op, "x", rule, tuple(shape), "only batch axes may be empty"))
        if n == 1 and pad == "reflect":
            rule = "have at least 2 samples along every spatial axis for pad='reflect'"
            raise ValueError(message(op, "x", rule, tuple(shape), "use pad='symmetric'"))
    return space


def size_of(
    op: str, shape: Sequence[int], ndim: int, size: Sequence[int] | None
) -> tuple[int, ...]:
    """The fine extents that bands of `shape` belong to; `size` must be 2n or 2n - 1 per axis."""
    choice(op, "ndim", ndim, NDIMS)
    bands = 2**ndim
    if len(shape) < ndim + 1 or shape[len(shape) - ndim - 1] != bands:
        rule = f"be [..., {bands}, *half] for ndim={ndim}"
        raise ValueError(message(op, "bands", rule, tuple(shape), "pass what haar_dwt returned"))
    coarse = tuple(shape[len(shape) - ndim :])
    if any(n == 0 for n in coarse):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, "bands", rule, tuple(shape), "only batch axes may be empty"))
    if size is None:
        return tuple(2 * n for n in coarse)
    remedy = "pass the spatial shape of the original"
    if not isinstance(size, Sequence) or any(isinstance(s, float) for s in size):
        rule = f"be a sequence of {ndim} ints"
        raise TypeError(message(op, "size", rule, repr(size), remedy))
    fits = len(size) == ndim and all(s in (2 * n, 2 * n - 1) for s, n in zip(size, coarse))  # noqa: B905
    if not fits:
        rule = f"be 2n or 2n - 1 for each coarse extent n of {coarse}"
        raise ValueError(message(op, "size", rule, tuple(size), remedy))
    return tuple(size)


def levels_of(op: str, space: Sequence[int], levels: int | None) -> int:
    """The number of levels; None means as many as the smallest axis allows."""
    most = max(min(space).bit_length() - 1, 1)
    if levels is None:
        return most
    at_least(op, "levels", levels, 1)
    if levels > most:
        rule = f"be at most {most} for extents {tuple(space)}"
        raise ValueError(message(op, "levels", rule, levels, "lower it or pass levels=None"))
    return levels


def unstack(op: str, shape: Sequence[int], ndim: int) -> tuple[int, int]:
    """(bands, channels) of a map [..., bands * C, *half]."""
    bands = 2**ndim
    if len(shape) < ndim + 1 or shape[len(shape) - ndim - 1] % bands:
        rule = f"be [..., {bands} * C, *half] for ndim={ndim}"
        remedy = "pass what mode='bands' returned"
        raise ValueError(message(op, "x", rule, tuple(shape), remedy))
    return bands, shape[len(shape) - ndim - 1] // bands


def waverec_targets(
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[str],
    ndim: int,
    size: Sequence[int] | None,
) -> list[Sequence[int] | None]:
    """The size to reconstruct at each level, after checking that the coefficients fit."""
    op, remedy = "haar_waverec", "pass what haar_wavedec returned, with the same ndim"
    choice(op, "ndim", ndim, NDIMS)
    if len(shapes) < 2:
        rule = "have an approximation and at least one level of details"
        raise ValueError(message(op, "coefficients", rule, f"{len(shapes)} entries", remedy))
    # The approximation of lifted images has the images' own dtype.
    low_dtype = {"int16": "uint8", "int32": "int16"}.get(dtypes[1], dtypes[1])
    if any(d != dtypes[1] for d in dtypes[1:]) or dtypes[0] != low_dtype:
        rule = f"have one dtype (the approximation {low_dtype}, the details {dtypes[1]})"
        raise TypeError(message(op, "coefficients", rule, ", ".join(dtypes), remedy))
    low = tuple(shapes[0])
    targets: list[Sequence[int] | None] = [tuple(s[len(s) - ndim :]) for s in shapes[2:]]
    for detail, target in zip(shapes[1:], [*targets, None], strict=True):
        lead, coarse = low[: len(low) - ndim], low[len(low) - ndim :]
        if len(low) < ndim or tuple(detail) != (*lead, 2**ndim - 1, *coarse):
            rule = f"have details [..., {2**ndim - 1}, *half] that fit the level below"
            got = f"details {tuple(detail)} on a low-pass band {low}"
            raise ValueError(message(op, "coefficients", rule, got, remedy))
        if target is not None:
            low = (*lead, *size_of(op, (2**ndim, *coarse), ndim, target))
    return [*targets, size]

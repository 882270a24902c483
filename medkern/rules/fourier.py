"""Rules of the losses on spectra and of the augmentations in the Fourier domain."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medkern.rules import message, number

REDUCTIONS = ("mean", "sum", "none")
NORMS = ("ortho", "backward", "forward")


def check_images(op: str, argument: str, shape: Sequence[int]) -> None:
    """Raise unless the shape is one of images that have a spectrum."""
    if len(shape) < 3:
        rule = "be [B, ..., H, W]"
        raise ValueError(message(op, argument, rule, tuple(shape), "add the missing axes"))
    if shape[-1] == 0 or shape[-2] == 0:
        rule = "have no empty spatial axis"
        raise ValueError(
            message(op, argument, rule, tuple(shape), "only batch and channels may be empty")
        )


def check_pair(op: str, first: str, a: Sequence[int], second: str, b: Sequence[int]) -> None:
    check_images(op, first, a)
    if tuple(a) != tuple(b):
        rule = f"have the shape of {first}, {tuple(a)}"
        raise ValueError(message(op, second, rule, tuple(b), "crop or resize one of them"))


def check_patches(op: str, factor: object, height: int, width: int) -> None:
    if not isinstance(factor, int) or isinstance(factor, bool) or factor < 1:
        rule = "be an int of at least 1"
        raise ValueError(message(op, "patch_factor", rule, repr(factor), "pass 1 for no patches"))
    if height % factor or width % factor:
        rule = f"divide H and W, {height} and {width}"
        raise ValueError(message(op, "patch_factor", rule, factor, "pad or crop the images"))


def check_matrix(op: str, matrix: Sequence[int], spectrum: Sequence[int]) -> None:
    """Raise unless the weights broadcast to [N, patches, C, h, w] without enlarging it."""
    fits = len(matrix) <= len(spectrum) and all(
        m in (1, s) for m, s in zip(reversed(matrix), reversed(spectrum), strict=False)
    )
    if not fits or tuple(matrix[-2:]) != tuple(spectrum[-2:]):
        rule = f"broadcast to the spectrum, {tuple(spectrum)}, with its last two axes"
        remedy = "pass one weight per bin of the full spectrum of a patch"
        raise ValueError(message(op, "matrix", rule, tuple(matrix), remedy))


def check_reduction_of_average(op: str, reduction: str, ave_spectrum: bool) -> None:
    if ave_spectrum and reduction == "none":
        rule = "be 'mean' or 'sum' with ave_spectrum"
        remedy = "the average spectrum has no samples"
        raise ValueError(message(op, "reduction", rule, "'none'", remedy))


def check_order(op: str, p: object) -> None:
    if type(p) is not int or p not in (1, 2):
        raise ValueError(message(op, "p", "be 1 or 2", repr(p), "pass one of these"))


def norm_scale(norm: str, height: int, width: int) -> float:
    """What the amplitudes of this norm are, relative to the orthonormal transform's."""
    return {"ortho": 1.0, "backward": math.sqrt(height * width)}.get(
        norm, 1 / math.sqrt(height * width)
    )


def window_radius(op: str, beta: object, height: int, width: int) -> int:
    """The largest frequency, along either axis, of a centred window: floor(beta * min(H, W))."""
    remedy = "it is the window's half width relative to the shorter side"
    number(op, "beta", beta, 0, 0.5, remedy=remedy)
    return math.floor(min(height, width) * beta)  # type: ignore[operator]


def check_stream(op: str, seed: object, generator: object, first: object) -> None:
    """Raise unless at most one source of noise is given, and numbers fit their counters."""
    if seed is not None and generator is not None:
        rule = "be None where a generator is given"
        raise ValueError(message(op, "seed", rule, repr(seed), "pass one of them"))
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if seed is not None and not (whole and 0 <= seed < 2**63):  # type: ignore[operator]
        rule = "be an int from 0 to 2**63 - 1"
        raise ValueError(message(op, "seed", rule, repr(seed), "pass one, or a generator"))
    whole = isinstance(first, int) and not isinstance(first, bool)
    if not whole or not 0 <= first < 2**31:  # type: ignore[operator]
        rule = "be an int from 0 to 2**31 - 1"
        raise ValueError(
            message(op, "first_sample", rule, repr(first), "pass the index of the first sample")
        )


def check_share(op: str, lam: object) -> None:
    number(op, "lam", lam, 0, 1, remedy="pass the share of the target")

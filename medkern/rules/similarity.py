"""Rules of the image similarities."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import at_least, message, number

REDUCTIONS = ("mean", "sum", "none")
LOCAL_REDUCTIONS = (*REDUCTIONS, "map")
VARIANTS = ("monai", "voxelmorph")
PARZEN_KERNELS = ("gaussian", "b-spline")


def check_pair(op: str, a: Sequence[int], b: Sequence[int], axes: Sequence[int]) -> None:
    """Two images [B, C, *space] of one shape, with one of these numbers of spatial axes."""
    if len(a) - 2 not in axes:
        spatial = f"{axes[0]} to {axes[-1]} spatial axes" if axes[-1] < 9 else "*space"
        rule = f"be [B, C, *space] with {spatial}" if axes[-1] < 9 else "be [B, C, *space]"
        raise ValueError(message(op, "a", rule, tuple(a), "add the missing axes, a[None, None]"))
    if any(n == 0 for n in a[2:]):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, "a", rule, tuple(a), "only batch and channels may be empty"))
    if tuple(a) != tuple(b):
        rule = f"have the shape of a, {tuple(a)}"
        raise ValueError(message(op, "b", rule, tuple(b), "resample or crop one of the images"))


def check_window(op: str, window: object) -> None:
    at_least(op, "window", window, 1)
    if int(window) % 2 == 0:  # type: ignore[call-overload]
        raise ValueError(
            message(op, "window", "be odd", window, "a window has its voxel in the middle")
        )


def check_sigma(op: str, sigma_ratio: object) -> None:
    remedy = "it counts distances between bins; 0.5 is usual"
    number(op, "sigma_ratio", sigma_ratio, 0.05, 16, remedy=remedy)


def check_bins(op: str, bins: object, kernel: str) -> None:
    # Two bins of a cubic spline lie outside the range of intensities on either side.
    at_least(op, "bins", bins, 6 if kernel == "b-spline" else 2)
    if int(bins) > 256:  # type: ignore[call-overload]
        rule = "be at most 256"
        raise ValueError(message(op, "bins", rule, bins, "32 to 64 serve images of millions"))

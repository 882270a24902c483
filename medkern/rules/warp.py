"""Rules of the ops on displacement fields."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import message

MODES = ("linear", "nearest", "cubic")
PADDINGS = ("zeros", "border", "reflection")
UNITS = ("voxel", "normalized")
PENALTIES = ("l2", "l1")


def check_space(op: str, argument: str, shape: Sequence[int], axes: tuple[int, ...]) -> None:
    """[B, C, *space] with one of these numbers of spatial axes, none of them empty."""
    if len(shape) - 2 not in axes:
        names = " or ".join(str(n + 2) for n in axes)
        rule = f"have {names} axes, [B, C, *space]"
        raise ValueError(message(op, argument, rule, tuple(shape), "add the missing axes"))
    if any(n == 0 for n in shape[2:]):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, argument, rule, tuple(shape), "only the batch may be empty"))


def check_field(op: str, argument: str, shape: Sequence[int]) -> None:
    """[B, D, *space] with one component per spatial axis."""
    check_space(op, argument, shape, (2, 3))
    if shape[1] != len(shape) - 2:
        rule = f"have a component per spatial axis, [B, {len(shape) - 2}, *space]"
        remedy = "give them in the order of the axes, for example movedim(-1, 1)"
        raise ValueError(message(op, argument, rule, tuple(shape), remedy))


def check_warp(op: str, image: Sequence[int], displacement: Sequence[int]) -> None:
    check_space(op, "image", image, (2, 3))
    check_field(op, "displacement", displacement)
    if len(displacement) != len(image):
        rule = f"have {len(image)} axes as image is {tuple(image)}"
        remedy = "give both the same number of spatial axes"
        raise ValueError(message(op, "displacement", rule, tuple(displacement), remedy))
    if displacement[0] != image[0]:
        rule = f"have the image's batch, {image[0]}"
        remedy = "expand or select samples"
        raise ValueError(message(op, "displacement", rule, tuple(displacement), remedy))


def check_same_fields(op: str, u: Sequence[int], v: Sequence[int]) -> None:
    check_field(op, "u", u)
    if tuple(u) != tuple(v):
        raise ValueError(message(op, "v", f"have the shape of u, {tuple(u)}", tuple(v), "resample"))

"""Rules of signed distance maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from medkern.rules import at_least, choice, message
from medkern.rules.grid import ndim_of

KINDS = ("euclidean", "chamfer", "geodesic", "intensity", "mbd")
KINDS_OF_IMAGES = ("geodesic", "intensity", "mbd")
INSIDES = ("complement", "boundary", "complement-1")


def check_kind(op: str, kind: str, inside: str, absent: float, has_image: bool) -> None:
    choice(op, "kind", kind, KINDS)
    choice(op, "inside", inside, INSIDES)
    if not isinstance(absent, Real) or not math.isfinite(absent):
        remedy = "pass the value of the map of a class that is not there"
        raise ValueError(message(op, "absent", "be a finite number", repr(absent), remedy))
    if has_image != (kind in KINDS_OF_IMAGES):
        rule = f"be {'given' if kind in KINDS_OF_IMAGES else 'None'} for kind={kind!r}"
        got = "an image" if has_image else None
        remedy = f"only {', '.join(KINDS_OF_IMAGES)} look at it"
        raise ValueError(message(op, "image", rule, got, remedy))


def label_axes(
    op: str,
    labels: Sequence[int],
    is_index: bool,
    image: Sequence[int] | None,
    ndim: int | None,
    spacing: Any,
) -> int:
    """The number of spatial axes; labels are [B, *space] where `is_index`, else [B, K, *space]."""
    if image is not None:
        found = ndim_of(op, "image", image, ndim, spacing)
    else:
        with_classes = len(labels) + (is_index and len(labels) > 3)
        found = ndim_of(op, "labels", (*labels, *[1] * (with_classes - len(labels))), ndim, spacing)
    most = found + (1 if is_index else 2)
    if not found <= len(labels) <= most:
        axes = "[B, *space]" if is_index else "[B, K, *space]"
        rule = f"be {axes} with {found} spatial axes, leading axes optional"
        remedy = "reshape them or pass ndim; masks, one per class, are bool"
        raise ValueError(message(op, "labels", rule, tuple(labels), remedy))
    if any(n == 0 for n in labels[len(labels) - found :]):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, "labels", rule, tuple(labels), "only the batch may be empty"))
    return found


def class_count(op: str, classes: int | None, largest: int) -> int:
    """How many classes there are, the background included; `largest` is the largest label."""
    if classes is None:
        return max(largest + 1, 2)
    at_least(op, "classes", classes, 2)
    if largest >= classes:
        rule = f"be below classes={classes}"
        remedy = "raise classes, or mark unlabelled voxels with -1"
        raise ValueError(message(op, "labels", rule, largest, remedy))
    return classes

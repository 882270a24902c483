"""Signed distance maps: what the boundary loss multiplies probabilities with.

For the voxels Y of a class, and D a distance to the nearest voxel of a set,

    complement    phi = D(p, Y) outside, -D(p, complement of Y) inside
    boundary      phi = D(p, dY) outside, -D(p, dY) inside;  dY: voxels of Y beside other voxels
    complement-1  as complement, but -(D - 1) inside

Source: Breznik et al., on point annotations with the boundary loss, equation 1 ("boundary") and its
code ("complement"); Kervadec et al., Medical Image Analysis 2021, whose code has "complement-1".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops.barrier import minimum_barrier_distance
from medkern.ops.euclidean import euclidean_distance
from medkern.ops.geodesic import chamfer_distance, geodesic_distance, intensity_distance
from medkern.reference.boundary import UNLABELLED_BYTE
from medkern.rules import maps as rules
from medkern.rules import message
from medkern.rules.grid import connectivity_of, layout_of, spacing_of

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def signed_distance_map(
    labels: ArrayT,
    image: ArrayT | None = None,
    *,
    kind: str = "euclidean",
    inside: str = "complement",
    absent: float = 0.0,
    classes: int | None = None,
    include_background: bool = False,
    lam: float = 0.5,
    spacing: Any = None,
    connectivity: str | int = "full",
    ndim: int | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The signed distance map of every class, both sides in one call: negative inside.

    Args:
        labels: [B, *space] integer class labels, or [B, K, *space] bool masks, one per class;
            leading axes optional. Negative labels, and 255 in uint8, belong to no class.
        image: [B, C, *space], leading axes optional, for the kinds that look at it. The boundary
            loss of the paper has it in 0..255.
        kind: "euclidean", exact; "chamfer", the cheapest path of steps to neighbours, which the
            paper calls Euclid; "geodesic", `geodesic_distance` with `lam`; "intensity", the same
            with lam=0; "mbd", `minimum_barrier_distance` (vectorial for several channels).
        inside: what is measured inside a class, as defined at the top of this module: "complement"
            (default), "boundary", or "complement-1".
        absent: the value of the whole map of a class that has no voxel. The paper takes 0 or 1. A
            class without a boundary because it has all voxels gets -absent.
        classes: number of classes K, the background included; None means the largest label plus
            1, so give it where a batch may lack a class.
        include_background: whether integer labels give a map of class 0 too.
        lam: weight of length against intensity, for "geodesic".
        spacing: edge lengths of a voxel (mm), one row or [B, ndim]; None means 1.
        connectivity: "full", "face", or the number of neighbours: of paths, and of boundaries.
        ndim: 1, 2 or 3 spatial axes, where shapes and spacing leave it open ([B, H, W]).
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, K - 1, *space], or [B, K, *space] with the background or for masks; float32, float64 for
        a float64 image. The batch axis is missing where neither labels nor image have one.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    "intensity" and "mbd" may be 0 far from the class: only the image counts. Gradients flow to a
    floating image where the distance has them. Memory: two distances and two masks per class.

    >>> import torch, medkern as mk
    >>> labels = torch.tensor([0, 0, 1, 1, 1, 0])
    >>> mk.signed_distance_map(labels)
    tensor([[ 2.,  1., -1., -2., -1.,  1.]])
    >>> mk.signed_distance_map(labels, inside="boundary")
    tensor([[ 2.,  1.,  0., -1.,  0.,  1.]])
    """
    op = "signed_distance_map"
    rules.check_kind(op, kind, inside, absent, image is not None)
    t, restore = as_tensor(op, "labels", labels)
    picture = None if image is None else as_tensor(op, "image", image)[0]
    if t.dtype != torch.bool and t.dtype not in INTEGERS:
        names = ", ".join(map(dtype_name, (torch.bool, *INTEGERS)))
        remedy = "pass masks as bool, for example labels > 0.5"
        raise TypeError(message(op, "labels", f"be one of {names}", dtype_name(t.dtype), remedy))
    image_shape = None if picture is None else picture.shape
    ndim = rules.label_axes(op, t.shape, t.dtype != torch.bool, image_shape, ndim, spacing)
    masks = t if t.dtype == torch.bool else _masks(op, t, ndim, classes, include_background)
    layout = layout_of(op, image_shape or masks.shape, masks.shape, ndim, names=("image", "labels"))
    steps = connectivity_of(op, connectivity, ndim)
    spacing_of(op, spacing, ndim, layout.batch)

    full = masks[(None,) * (ndim + 2 - masks.dim())]  # [B, K, *space]
    measure = _distance(kind, picture, lam, spacing, connectivity, ndim, backend)
    if inside == "boundary":
        edge = _boundary(full, ndim, steps)
        distance = measure(edge)
        phi = torch.where(full, 0 - distance, distance)  # 0, not -0, on the boundary
    elif kind == "euclidean":  # one pass measures both sides
        phi = euclidean_distance(full, spacing=spacing, signed=True, ndim=ndim, backend=backend)
    else:
        outer, inner = measure(torch.cat([full, ~full], dim=1)).chunk(2, dim=1)
        phi = outer - inner
    if inside == "complement-1":
        phi = torch.where(full, phi + 1, phi)
    phi = _fill(phi, full, absent)
    has_batch = masks.dim() == ndim + 2 or (picture is not None and picture.dim() == ndim + 2)
    return restore(phi if has_batch else phi.reshape(masks.shape))


def _masks(op: str, labels: Tensor, ndim: int, classes: int | None, background: bool) -> Tensor:
    """[B, *space] labels as masks [B, K, *space] of the classes; without a batch [K, *space]."""
    known = labels[labels != UNLABELLED_BYTE] if labels.dtype == torch.uint8 else labels
    largest = int(known.max()) if known.numel() else 0
    count = rules.class_count(op, classes, largest)
    first = 0 if background else 1
    return torch.stack([labels == k for k in range(first, count)], dim=labels.dim() - ndim)


def _distance(
    kind: str,
    image: Any,
    lam: float,
    spacing: Any,
    connectivity: str | int,
    ndim: int,
    backend: str | None,
) -> Callable[[Tensor], Any]:
    """The distance to sets [B, K, *space], inf of an empty one."""
    grid: dict[str, Any] = {"connectivity": connectivity, "ndim": ndim, "backend": backend}

    def measure(sets: Tensor) -> Any:
        if not sets.any():
            return torch.full(sets.shape, torch.inf, device=sets.device)
        if kind == "euclidean":
            return euclidean_distance(~sets, spacing=spacing, ndim=ndim, backend=backend)
        if kind == "chamfer":
            return chamfer_distance(sets, spacing=spacing, **grid)
        if kind == "geodesic":
            return geodesic_distance(image, sets, lam=lam, spacing=spacing, **grid)
        if kind == "intensity":
            return intensity_distance(image, sets, **grid)
        several = image.dim() > ndim and image.shape[-ndim - 1] > 1
        return minimum_barrier_distance(image, sets, vectorial=several, **grid)

    return measure


def _boundary(masks: Tensor, ndim: int, connectivity: int) -> Tensor:
    """The voxels of each mask that have a neighbour outside it; the image's border is none."""
    outside = functional.pad(~masks, [1, 1] * ndim)
    beside = torch.zeros_like(masks)
    for step in itertools.product((0, 1, 2), repeat=ndim):
        if 0 < sum(s != 1 for s in step) <= connectivity:
            space = zip(step, masks.shape[-ndim:], strict=True)
            window: tuple[Any, ...] = (..., *(slice(s, s + n) for s, n in space))
            beside |= outside[window]
    return masks & beside


def _fill(phi: Tensor, masks: Tensor, absent: float) -> Tensor:
    """Maps of classes that have no boundary, where distances are infinite."""
    space = tuple(range(2, phi.dim()))
    phi = torch.where(masks.any(space, keepdim=True), phi, absent)
    return torch.where(masks.all(space, keepdim=True), -absent, phi)

"""The minimum barrier distance, and the bottleneck distance beside it.

Over all paths p from a seed to a voxel, through voxels of the mask,

    barrier     min over p of (max I - min I)
    bottleneck  min over p of max I

with I the image along the path, both ends included. Both are exact. A path has no length here: two
voxels joined by a path of one value are at distance 0.

Source: Strand et al., "The minimum barrier distance", CVIU 2013; Breznik et al. use it for boundary
losses from point annotations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import OPS, Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import barrier as reference
from medkern.rules import barrier as rules
from medkern.rules import choice, message
from medkern.rules.barrier import BarrierBounds, BarrierInfo
from medkern.rules.grid import connectivity_of
from medkern.testing import image_layouts

DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int16, torch.uint16)


def minimum_barrier_distance(
    image: ArrayT,
    seeds: Any,
    *,
    connectivity: str | int = "full",
    mask: Any = None,
    method: str = "exact",
    iterations: int | None = None,
    vectorial: bool = False,
    channel_norm: str = "l2",
    ndim: int | None = None,
    return_bounds: bool = False,
    return_info: bool = False,
    backend: str | None = None,
) -> Any:
    """The smallest intensity range (max - min) that a path from the seeds to each voxel spans.

    Args:
        image: [B, 1, *space] (vectorial: [B, C, *space]), leading axes optional; uint8, int16,
            uint16, float16 and bfloat16 (both computed in float32), float32, float64.
        seeds: [B, K, *space] bool, leading axes optional: K sets of seeds.
        connectivity: "face", "full", or the number of neighbours (4, 8; 6, 18, 26).
        mask: [B, 1, *space] bool, leading axes optional; paths stay where it is True.
        method: "exact", or "raster": approximate, never below the exact distance.
        iterations: half scans of "raster"; None means until nothing changes.
        vectorial: the norm over channels of the sides of the path's bounding box of colours,
            minimised greedily: an upper bound (exact for one channel).
        channel_norm: "l1", "l2" or "linf", for `vectorial`.
        ndim: number of spatial axes; None: all of [*space] (1-D, 2-D) and [B, C, *space].
        return_bounds: also return `BarrierBounds`: the lower bound minimax - maximin (vectorial:
            the norm of the channels' exact distances) and the upper bound by raster scans
            (vectorial: the result).
        return_info: also return `BarrierInfo`.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, K, *space] (without the leading axes that neither input has): float64 for float64
        images, else float32, which is exact for integers; inf where no path leads. With
        `return_bounds` or `return_info`, a tuple of it and these.

    Raises:
        ValueError, TypeError: a bad argument: among others, no seed at all, or NaN or inf inside
            the mask (one pass over the image; not looked for under torch.compile and torch.func).

    Differentiable with respect to a float image, with "exact" and one channel: +1 where the best
    path attains its maximum, -1 where its minimum; among equally good ones, those of the path that
    the sweep over rising intensities finds first, the same in every run. Time is 1 to 4 visits of
    every voxel and its neighbours on most 8-bit images, more with more levels. Memory: the result
    and, for each thread, 1.5 words of 4 bytes per voxel for uint8, 3 for float64, else 2, up to one
    more for the voxels that wait on plateaus, and 4 more for a gradient.

    >>> import torch, medkern as mk
    >>> image = torch.tensor([[3, 9, 4, 1]], dtype=torch.uint8)
    >>> seeds = torch.tensor([[True, False, False, False]])
    >>> mk.minimum_barrier_distance(image, seeds)
    tensor([[0., 6., 6., 8.]])
    """
    op = "minimum_barrier_distance"
    most = rules.half_scans(op, method, iterations, vectorial, return_bounds)
    choice(op, "channel_norm", channel_norm, rules.NORMS)
    call = _Call(op, image, seeds, mask, connectivity, ndim, vectorial, backend)
    scans = None
    if vectorial and call.image.shape[1] > 1:
        call.refuse_gradient("leave vectorial=True")
        distance = call.run(_barrier_vectorial, channel_norm)
    elif method == "raster":
        call.refuse_gradient("use method='exact'")
        distance, scans = call.run(_barrier_raster, most)
    else:
        distance = call.run(_minimum_barrier_distance)
    results = [call.finish(distance)]
    if return_bounds:
        results.append(_bounds(call, distance, method, most, channel_norm))
    if return_info:
        exact = method == "exact" and call.image.shape[1] == 1
        counted = (None, True) if scans is None else (scans.abs().long(), scans > 0)
        results.append(BarrierInfo(method, exact, *counted))
    return results[0] if len(results) == 1 else tuple(results)


def max_distance_along_path(
    image: ArrayT,
    seeds: Any,
    *,
    connectivity: str | int = "full",
    mask: Any = None,
    ndim: int | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The bottleneck distance: the lowest maximum of the image that a path to each voxel can have.

    Also called minimax or flooding distance; fuzzy connectedness is 1 minus it for an image of
    1 - affinity. The seed's own value counts.

    Args:
        image, seeds, connectivity, mask, ndim, backend: as for `minimum_barrier_distance`, with
            one channel.

    Returns:
        [B, K, *space]: float64 for float64 images, else float32; inf where no path leads.

    Raises:
        ValueError, TypeError: a bad argument, as for `minimum_barrier_distance`.

    Differentiable with respect to a float image: 1 where the path attains its maximum; among equal
    voxels, the one whose level reached the voxel first in row-major order. O(N) after sorting the
    intensities. Memory: the result and up to 6 words of 4 bytes per voxel (float64: 7) per thread.

    >>> import torch, medkern as mk
    >>> image = torch.tensor([[3, 9, 4, 1]], dtype=torch.uint8)
    >>> mk.max_distance_along_path(image, torch.tensor([[False, False, False, True]]))
    tensor([[9., 9., 4., 1.]])
    """
    op = "max_distance_along_path"
    call = _Call(op, image, seeds, mask, connectivity, ndim, False, backend)
    finished: ArrayT = call.finish(call.run(_max_distance_along_path))
    return finished


class _Call:
    """The checked arguments of a public function, as the ops take them."""

    def __init__(
        self,
        op: str,
        image: Any,
        seeds: Any,
        mask: Any,
        connectivity: str | int,
        ndim: int | None,
        vectorial: bool,
        backend: str | None,
    ) -> None:
        given, self.restore = as_tensor(op, "image", image)
        starts, _ = as_tensor(op, "seeds", seeds)
        inside = None if mask is None else as_tensor(op, "mask", mask)[0]
        names = [None if t is None else dtype_name(t.dtype) for t in (given, starts, inside)]
        rules.dtypes(op, names[0] or "", names[1] or "", names[2])
        space = None if inside is None else inside.shape
        layout = rules.layout(op, given.shape, starts.shape, space, ndim, vectorial)
        self.connectivity = connectivity_of(op, connectivity, layout.ndim)
        self.op, self.backend = op, backend
        self.shape = rules.result_shape(layout, given.shape, starts.shape)
        widened = given.float() if names[0] in rules.HALVES else given
        self.image = _full_rank(widened, layout.ndim, layout.batch)
        self.seeds = _full_rank(starts, layout.ndim, layout.batch)
        self.mask = None if inside is None else _full_rank(inside, layout.ndim, layout.batch)
        if self.image.numel() and self.seeds.numel() and _can_look(self.image, self.seeds):
            rules.values(op, _finite(self.image, self.mask), bool(self.seeds.any()))

    def run(self, op: Op, *options: Any) -> Any:
        return self.run_on(op, self.image, *options)

    def run_on(self, op: Op, image: Tensor, *options: Any) -> Any:
        args = (image, self.seeds, self.mask, self.connectivity, *options)
        return op(*args, backend=self.backend)

    def refuse_gradient(self, remedy: str) -> None:
        if self.image.requires_grad and torch.is_grad_enabled():
            rule, got = "not require a gradient here", "requires_grad=True"
            remedy = f"pass image.detach(), or {remedy}"
            raise ValueError(message(self.op, "image", rule, got, remedy))

    def finish(self, result: Tensor) -> Any:
        return self.restore(result.reshape(self.shape))


def _full_rank(t: Tensor, ndim: int, batch: int) -> Tensor:
    """[B, C, *space], with missing leading axes and a batch of 1 expanded."""
    t = t[(None,) * (ndim + 2 - t.dim())]
    return t.expand(batch, *t.shape[1:])


def _can_look(*tensors: Tensor) -> bool:
    """Whether values may decide what happens: not while torch traces or transforms."""
    if any(t.is_meta for t in tensors):
        return False
    transformed: bool = torch._C._are_functorch_transforms_active()
    return not (transformed or torch.compiler.is_compiling())


def _finite(image: Tensor, mask: Tensor | None) -> bool:
    if not image.is_floating_point():
        return True
    finite = torch.isfinite(image)
    return bool((finite if mask is None else finite | ~mask).all())


def _bounds(call: _Call, distance: Tensor, method: str, most: int, norm: str) -> BarrierBounds:
    with torch.no_grad():
        if call.image.shape[1] > 1:
            channels = call.image.split(1, dim=1)
            sides = torch.stack([call.run_on(_minimum_barrier_distance, c) for c in channels])
            order = {"l1": 1, "l2": 2, "linf": math.inf}[norm]
            lower, upper = torch.linalg.vector_norm(sides, order, dim=0), distance
        else:
            signed = call.image if call.image.is_floating_point() else call.image.float()
            minimax = call.run_on(_max_distance_along_path, signed)
            lower = minimax + call.run_on(_max_distance_along_path, -signed)
            scanned = method == "raster"
            upper = distance if scanned else call.run(_barrier_raster, most)[0]
        return BarrierBounds(call.finish(lower), call.finish(upper.detach()))


def _fake_distance(image: Tensor, seeds: Tensor, *_: Any) -> Tensor:
    dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    return image.new_empty((image.shape[0], seeds.shape[1], *image.shape[2:]), dtype=dtype)


def _fake_index(image: Tensor, seeds: Tensor, *_: Any) -> Tensor:
    shape = (image.shape[0], seeds.shape[1], *image.shape[2:])
    return image.new_empty(shape, dtype=torch.int64)


def _fake_witnesses(image: Tensor, seeds: Tensor, *_: Any) -> Tensor:
    shape = (image.shape[0], 2, seeds.shape[1], *image.shape[2:])
    return image.new_empty(shape, dtype=torch.int64)


def _fake_raster(image: Tensor, seeds: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    distance = _fake_distance(image, seeds)
    return distance, distance.new_empty(distance.shape[:2])


# The distances are values of the image, or differences of two, at voxels that count as constant: a
# tangent is gathered there, a gradient added there, and both are linear to any order.


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    image, seeds, mask, ctx.connectivity = inputs
    ctx.save_for_backward(image, seeds, mask)
    ctx.save_for_forward(image, seeds, mask)


def _witnesses(name: str, ctx: Any) -> Tensor:
    image, seeds, mask = ctx.saved_tensors
    found: Tensor = OPS[name](image.detach(), seeds, mask, ctx.connectivity)
    return found


def _barrier_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None, None]:
    highest, lowest = _witnesses("_barrier_witnesses", ctx).unbind(1)
    image = ctx.saved_tensors[0]
    return _put(image, highest, grad) - _put(image, lowest, grad), None, None, None


def _barrier_jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
    highest, lowest = _witnesses("_barrier_witnesses", ctx).unbind(1)
    return _take(tangent, highest) - _take(tangent, lowest)


def _bottleneck_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None, None]:
    highest = _witnesses("_bottleneck_witness", ctx)
    return _put(ctx.saved_tensors[0], highest, grad), None, None, None


def _bottleneck_jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
    return _take(tangent, _witnesses("_bottleneck_witness", ctx))


def _take(image: Tensor, index: Tensor) -> Tensor:
    """image [B, 1, *space] at index [B, K, *space]; 0 where the index is -1."""
    batch, sets, voxels = *index.shape[:2], math.prod(index.shape[2:])
    values = image.reshape(batch, 1, voxels).expand(batch, sets, voxels)
    taken = values.gather(2, index.clamp(min=0).reshape(batch, sets, voxels)).reshape(index.shape)
    return torch.where(index < 0, 0, taken)


def _put(image: Tensor, index: Tensor, grad: Tensor) -> Tensor:
    """The adjoint of `_take`: grad [B, K, *space] added up at its indices, in the image's shape."""
    batch, voxels = image.shape[0], math.prod(image.shape[2:])
    rows = voxels * torch.arange(batch, device=index.device)
    # One axis, for which torch has a deterministic sum on every device.
    where = (index.clamp(min=0) + rows.reshape(-1, *[1] * (index.dim() - 1))).reshape(-1)
    added = torch.where(index < 0, 0, grad).reshape(index.numel())
    return grad.new_zeros(batch * voxels).scatter_add(0, where, added).reshape(image.shape)


def _images(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, int]]:
    """`image_layouts` in one channel, without ties among a sample's voxels."""
    generator = torch.Generator().manual_seed(1)
    for name, x, ndim in image_layouts(dtype):
        if name == "expanded":
            yield name, x[:1, :1, :1].mT.expand(2, 1, 5, 1), ndim
        elif name == "size-1":
            row = 100 * torch.rand(1, 1, 1, 6, generator=generator, dtype=torch.float64)
            yield name, row.to(dtype), ndim
        elif name == "empty-batch":
            yield name, x.new_empty(0, 1, 4, 4), ndim
        elif name != "empty-channels":
            yield name, x[:, :1], ndim


def _seeds_for(image: Tensor, sets: int) -> Tensor:
    """Set k of sample b holds voxels b + 2k and, in even sets, the last one."""
    flags = torch.zeros(image.shape[0], sets, math.prod(image.shape[2:]), dtype=torch.bool)
    for b in range(image.shape[0]):
        for k in range(sets):
            flags[b, k, (b + 2 * k) % flags.shape[2]] = True
            flags[b, k, -1] |= k % 2 == 0
    return flags.reshape(image.shape[0], sets, *image.shape[2:])


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, image, ndim in _images(dtype):
        for connectivity in range(1, ndim + 1):
            args = (image, _seeds_for(image, 2), None, connectivity)
            yield Sample(f"{name}-{connectivity}", args)
        everywhere = torch.ones_like(image, dtype=torch.bool)
        yield Sample(f"{name}-masked", (image, _seeds_for(image, 1), everywhere, ndim))


def _raster_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for sample in _samples(dtype):
        for iterations in (1, 4, rules.UNTIL_IDLE):
            yield Sample(f"{sample.name}-{iterations}", (*sample.args, iterations))


def _vectorial_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, image, ndim in image_layouts(dtype):
        if name != "empty-channels":
            for norm in rules.NORMS:
                yield Sample(f"{name}-{norm}", (image, _seeds_for(image, 2), None, ndim, norm))


_SCHEMA = "(Tensor image, Tensor seeds, Tensor? mask, int connectivity) -> "
# The witnesses are integers, whatever the image; contract tests compare them for integer images,
# and the gradients compare them for the others.
_WITNESSED = (torch.int16, torch.uint16)

_minimum_barrier_distance: Op = register(
    OpSpec(
        name="minimum_barrier_distance",
        schema=_SCHEMA + "Tensor",
        reference=reference.minimum_barrier_distance,
        fake=_fake_distance,
        samples=_samples,
        setup_context=_remember,
        backward=_barrier_backward,
        jvp=_barrier_jvp,
        autocast="float32",
        dtypes=DTYPES,
    )
)
_barrier_witnesses: Op = register(
    OpSpec(
        name="_barrier_witnesses",
        schema=_SCHEMA + "Tensor",
        reference=reference.barrier_witnesses,
        fake=_fake_witnesses,
        samples=_samples,
        dtypes=_WITNESSED,
        cuda=False,
        host=True,
    )
)
_max_distance_along_path: Op = register(
    OpSpec(
        name="max_distance_along_path",
        schema=_SCHEMA + "Tensor",
        reference=reference.max_distance_along_path,
        fake=_fake_distance,
        samples=_samples,
        setup_context=_remember,
        backward=_bottleneck_backward,
        jvp=_bottleneck_jvp,
        autocast="float32",
        dtypes=DTYPES,
    )
)
_bottleneck_witness: Op = register(
    OpSpec(
        name="_bottleneck_witness",
        schema=_SCHEMA + "Tensor",
        reference=reference.bottleneck_witness,
        fake=_fake_index,
        samples=_samples,
        dtypes=_WITNESSED,
        cuda=False,
        host=True,
    )
)
_barrier_raster: Op = register(
    OpSpec(
        name="_barrier_raster",
        schema=_SCHEMA.replace(")", ", int iterations)") + "(Tensor, Tensor)",
        reference=reference.barrier_raster,
        fake=_fake_raster,
        samples=_raster_samples,
        autocast="float32",
        dtypes=DTYPES,
        cuda=False,
        host=True,
    )
)
_barrier_vectorial: Op = register(
    OpSpec(
        name="_barrier_vectorial",
        schema=_SCHEMA.replace(")", ", str norm)") + "Tensor",
        reference=reference.barrier_vectorial,
        fake=_fake_distance,
        samples=_vectorial_samples,
        autocast="float32",
        dtypes=DTYPES,
        cuda=False,
        host=True,
    )
)

"""Geodesic distance: the cheapest path over the image from the nearest seed to every voxel.

A path steps between neighbouring voxels. A step from q to p costs

    l1          (1 - lam) dI + lam len
    l2          sqrt((1 - lam) dI**2 + lam len**2)
    fastgeodis  (1 - lam) len + lam dI
    geodistk    len / ((1 - lam) + lam / (dI + 1e-5)),  dI always the l2 norm
    geos        sqrt(len**2 + lam**2 dI**2)
    mcp         len (I_q + I_p) / 2
    node        I_p

with len the step's length (mm, or voxels) and dI = |I_p - I_q|, a norm over the channels.

Source: Breznik et al., on point annotations with the boundary loss, equation 3 for l2, and its L1
form; the other names are those of the packages whose definition they follow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, _needs_function, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import geodesic as reference
from medkern.rules import geodesic as rules
from medkern.rules import message
from medkern.rules.geodesic import Geodesic, GeodesicInfo
from medkern.rules.grid import Layout, connectivity_of, layout_of, ndim_of, spacing_of
from medkern.testing import image_layouts

Spacing = float | Sequence[float] | Sequence[Sequence[float]] | Any
FLOATS = (torch.float32, torch.float64)
# Every value of these is a float32.
WIDENED = (
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.uint16,
)


def geodesic_distance(
    image: ArrayT,
    seeds: ArrayT,
    *,
    lam: float = 0.5,
    metric: str = "l1",
    channel_norm: str = "l1",
    spacing: Spacing = None,
    connectivity: str | int = "full",
    mask: ArrayT | None = None,
    max_distance: float | None = None,
    method: str = "auto",
    iterations: int | None = None,
    ndim: int | None = None,
    return_labels: bool = False,
    return_predecessors: bool = False,
    return_info: bool = False,
    backend: str | None = None,
) -> Any:
    """Exact geodesic distance of every voxel from its nearest seed.

    Args:
        image: [B, C, *space], leading axes optional, 1 to 3 spatial axes. float32, float64; or
            float16, bfloat16 and integers of up to 16 bits, computed in float32.
        seeds: [B, K, *space], K seed sets per image, leading axes optional: bool, or floating
            start costs (inf: no seed). A batch of 1 goes with any batch of images.
        lam: how image and length are mixed, 0 to 1 (metric "geos": any weight of at least 0). For
            "l1" and "l2" 0 is the image alone, for "fastgeodis" and "geodistk" 1 is. Metrics "mcp"
            and "node" have no use for it.
        metric: what a step costs, as listed at the top of this module.
        channel_norm: "l1", "l2" or "linf", the norm of the intensity step over the channels.
        spacing: edge lengths of a voxel in the order of the spatial axes, one row for all samples
            or [B, ndim]; None means 1.
        connectivity: "full", "face", or the number of neighbours: 4, 8; 6, 18, 26.
        mask: bool [B, 1, *space], leading axes optional; paths stay where it is True.
        max_distance: farther voxels come back as inf, and may save time.
        method: "auto" ("exact" is the same) chooses between "bucket", "tiles" and "sweeps", which
            are exact and give the same bits. "raster" is approximate, never below the exact
            distance: `iterations` pairs of forward and backward sweeps over the image; on the CPU
            only. A GPU has one exact method, whatever the name.
        iterations: for "raster", at least 1; None means 2, or 4 for volumes.
        ndim: 1, 2 or 3 spatial axes, where shape and spacing leave it open ([C, H, W], [D, H, W]).
        return_labels, return_predecessors, return_info: return a `Geodesic` with these as well.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, K, *space] with the leading axes of the seeds, or all if the image has a batch: float32,
        or float64 for a float64 image; inf where no path leads. Or a `Geodesic`, see above.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed. Bad are also an image that
            is NaN inside the mask, negative costs for "mcp" and "node", and no seed at all inside
            the mask (one empty set among others is all inf). These take one pass over the inputs
            and are left out under torch.compile and torch.vmap.

    The gradient with respect to the image and to start costs follows the shortest path that
    `predecessors` describes: exact where that path is the only one, a subgradient elsewhere. One
    backward pass is O(N), in a fixed order. Derivatives of any order and forward mode are there;
    "raster" has none. The same bits on every run and for any number of threads and batch split.

    Memory: the result and about two words per voxel and seed set in work; a backward pass takes
    two int64, two int32 and a value for every voxel and set, and the gradient.

    >>> import torch, medkern as mk
    >>> image = torch.tensor([[0.0, 0.0, 8.0], [0.0, 0.0, 0.0]])
    >>> seeds = torch.zeros(2, 3, dtype=torch.bool)
    >>> seeds[0, 0] = True
    >>> mk.geodesic_distance(image, seeds, connectivity="face")
    tensor([[0.0000, 0.5000, 5.0000],
            [0.5000, 1.0000, 1.5000]])
    """
    return _distance(
        "geodesic_distance",
        as_tensor("geodesic_distance", "image", image),
        seeds,
        lam=lam,
        metric=metric,
        channel_norm=channel_norm,
        spacing=spacing,
        connectivity=connectivity,
        mask=mask,
        max_distance=max_distance,
        method=method,
        iterations=iterations,
        ndim=ndim,
        labels=return_labels,
        predecessors=return_predecessors,
        info=return_info,
        backend=backend,
    )


def intensity_distance(
    image: ArrayT,
    seeds: ArrayT,
    *,
    channel_norm: str = "l1",
    connectivity: str | int = "full",
    mask: ArrayT | None = None,
    max_distance: float | None = None,
    method: str = "auto",
    iterations: int | None = None,
    ndim: int | None = None,
    return_labels: bool = False,
    return_predecessors: bool = False,
    return_info: bool = False,
    backend: str | None = None,
) -> Any:
    """The least sum of intensity steps along a path: `geodesic_distance` with lam = 0.

    A pseudo-distance: 0 between voxels that a path of constant intensity joins. Lengths do not
    count, so there is no spacing. Arguments, results and errors as for `geodesic_distance`.

    >>> import torch, medkern as mk
    >>> seeds = torch.tensor([True, False, False, False])
    >>> mk.intensity_distance(torch.tensor([1.0, 3.0, 3.0, 2.0]), seeds)
    tensor([0., 2., 2., 3.])
    """
    return _distance(
        "intensity_distance",
        as_tensor("intensity_distance", "image", image),
        seeds,
        lam=0.0,
        channel_norm=channel_norm,
        connectivity=connectivity,
        mask=mask,
        max_distance=max_distance,
        method=method,
        iterations=iterations,
        ndim=ndim,
        labels=return_labels,
        predecessors=return_predecessors,
        info=return_info,
        backend=backend,
    )


def chamfer_distance(
    seeds: ArrayT,
    *,
    spacing: Spacing = None,
    connectivity: str | int = "full",
    mask: ArrayT | None = None,
    max_distance: float | None = None,
    method: str = "auto",
    iterations: int | None = None,
    ndim: int | None = None,
    return_labels: bool = False,
    return_predecessors: bool = False,
    return_info: bool = False,
    backend: str | None = None,
) -> Any:
    """The length of the shortest path of steps: `geodesic_distance` with lam = 1, without an image.

    Steps go to the neighbours that `connectivity` allows, so it exceeds the Euclidean distance by
    up to 8 % in 2-D and 13 % in 3-D with all neighbours, and is the city-block distance with
    "face". With a `mask`, it is the distance inside the mask. Arguments, results and errors as for
    `geodesic_distance`; float32, or float64 for float64 start costs.

    >>> import torch, medkern as mk
    >>> seeds = torch.tensor([[True, False, False], [False, False, False]])
    >>> mk.chamfer_distance(seeds, spacing=(3.0, 4.0))
    tensor([[0., 4., 8.],
            [3., 5., 9.]])
    """
    t, restore = as_tensor("chamfer_distance", "seeds", seeds)
    found = ndim_of("chamfer_distance", "seeds", t.shape, ndim, spacing)
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    nothing = torch.zeros((), dtype=dtype, device=t.device).expand(t.shape[t.dim() - found :])
    return _distance(
        "chamfer_distance",
        (nothing, restore),
        t,
        lam=1.0,
        spacing=spacing,
        connectivity=connectivity,
        mask=mask,
        max_distance=max_distance,
        method=method,
        iterations=iterations,
        ndim=found,
        labels=return_labels,
        predecessors=return_predecessors,
        info=return_info,
        backend=backend,
    )


def geodesic_path(predecessors: ArrayT, targets: Any) -> list[ArrayT]:
    """The shortest paths from targets back to their nearest seeds.

    Args:
        predecessors: int64 [*space], the predecessors of one sample and one seed set.
        targets: [n, ndim] integer voxel coordinates: an array or nested lists.

    Returns:
        For each target, the voxels of its path [length, ndim], int64, from the target to the seed,
        both included; [0, ndim] where no seed is reached.

    Raises:
        ValueError, TypeError: a bad argument.

    >>> import torch, medkern as mk
    >>> image, seeds = torch.zeros(1, 4), torch.tensor([[True, False, False, False]])
    >>> found = mk.geodesic_distance(image, seeds, return_predecessors=True)
    >>> mk.geodesic_path(found.predecessors, [[0, 2]])[0].tolist()
    [[0, 2], [0, 1], [0, 0]]
    """
    op = "geodesic_path"
    parents, restore = as_tensor(op, "predecessors", predecessors)
    if parents.dtype != torch.int64:
        remedy = "pass what return_predecessors=True returns"
        got = dtype_name(parents.dtype)
        raise TypeError(message(op, "predecessors", "be int64", got, remedy))
    points = torch.as_tensor(targets, device=parents.device)
    rules.check_targets(op, parents.dim(), points.shape)
    if points.dtype in (torch.bool, torch.uint8) or points.is_floating_point():
        got = dtype_name(points.dtype)
        raise TypeError(message(op, "targets", "be signed integers", got, "pass voxel coordinates"))
    size = torch.tensor(parents.shape, device=parents.device)
    if bool(((points < 0) | (points >= size)).any()):
        rule = f"lie within {tuple(parents.shape)}"
        raise ValueError(message(op, "targets", rule, points.tolist(), "count from 0"))
    return [restore(path) for path in _walk(parents, points.long())]


def _walk(parents: Tensor, points: Tensor) -> list[Tensor]:
    """All paths at once, one step of each per round."""
    flat, space = parents.flatten(), parents.shape
    place = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
    here = (points * torch.tensor(place, device=points.device)).sum(1)
    rows = [torch.where(flat[here] >= 0, here, -1)]
    while len(rows) <= flat.numel():
        here = flat[here.clamp_min(0)]
        moved = (rows[-1] >= 0) & (here != rows[-1])
        if not bool(moved.any()):
            break
        rows.append(torch.where(moved, here, -1))
    walked = torch.stack(rows)  # [longest, n], -1 past the seed
    return [
        torch.stack(torch.unravel_index(path[path >= 0], space), 1) for path in walked.unbind(1)
    ]


def _distance(
    op: str,
    image: tuple[Tensor, Callable[[Tensor], Any]],
    seeds: Any,
    *,
    lam: float,
    metric: str = "l1",
    channel_norm: str = "l1",
    spacing: Spacing = None,
    connectivity: str | int,
    mask: Any,
    max_distance: float | None,
    method: str,
    iterations: int | None,
    ndim: int | None,
    labels: bool,
    predecessors: bool,
    info: bool,
    backend: str | None,
) -> Any:
    """Check, bring to full rank, solve, and give back in the caller's rank and kind of array."""
    t, restore = image
    s, _ = as_tensor(op, "seeds", seeds)
    m = None if mask is None else as_tensor(op, "mask", mask)[0]
    layout = layout_of(op, t.shape, s.shape, ndim, spacing)
    rules.check_metric(op, metric, channel_norm, lam, layout.channels)
    wants_tree = labels or predecessors
    chosen = rules.method_of(op, method, iterations, layout.ndim, needs_exact=wants_tree)
    rules.check_device(op, method, t.device.type)
    limit = rules.limit_of(op, max_distance)
    steps = connectivity_of(op, connectivity, layout.ndim)
    rows = torch.tensor(
        spacing_of(op, spacing, layout.ndim, layout.batch), dtype=torch.float64, device=t.device
    )
    full = _tensors(op, t, s, m, layout)
    _check_values(op, metric, *full)
    problem = (
        *full,
        rows.expand(layout.batch, layout.ndim),
        float(lam),
        metric,
        channel_norm,
        steps,
    )

    lead = rules.result_lead(t.dim(), s.dim(), layout)

    def ranked(out: Tensor) -> Any:
        return restore(out.reshape((*lead, *out.shape[2:])))

    if not (wants_tree or info):
        return ranked(_geodesic_distance(*problem, limit, *chosen, backend=backend))
    details = None
    if info:
        distance, numbers = _geodesic_info(
            *map(_detached, problem), limit, *chosen, backend=backend
        )
        details = _info(numbers, ranked)
    if not info or _is_tracked(full):
        distance = _geodesic_distance(*problem, limit, *chosen, backend=backend)
    if not wants_tree:
        return Geodesic(ranked(distance), info=details)
    parents = _geodesic_parents(*map(_detached, (distance, *problem)), backend=backend)
    roots = ranked(_tree_roots(parents, backend=backend)) if labels else None
    return Geodesic(ranked(distance), roots, ranked(parents) if predecessors else None, details)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _is_tracked(tensors: Sequence[Tensor | None]) -> bool:
    """Whether derivatives may be asked for."""
    recorded = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return recorded or _needs_function()


def _info(numbers: Tensor, ranked: Callable[[Tensor], Any]) -> GeodesicInfo:
    code, rounds, converged, residual = numbers.unbind(-1)
    name = rules.METHOD_NAMES[int(code.flatten()[0])] if code.numel() else ""
    return GeodesicInfo(name, ranked(rounds.long()), ranked(converged > 0), ranked(residual))


def _tensors(
    op: str, image: Tensor, seeds: Tensor, mask: Tensor | None, layout: Layout
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Image, start costs and mask in full rank: a common batch, a common floating dtype."""
    if image.dtype not in (*FLOATS, *WIDENED):
        names = ", ".join(map(dtype_name, (*FLOATS, *WIDENED)))
        got = dtype_name(image.dtype)
        raise TypeError(message(op, "image", f"be one of {names}", got, "convert it first"))
    if seeds.dtype != torch.bool and not seeds.is_floating_point():
        remedy = "pass seeds > 0, or start costs with inf where there is no seed"
        rule = "be bool, or floating start costs"
        raise TypeError(message(op, "seeds", rule, dtype_name(seeds.dtype), remedy))
    for name, other in (("seeds", seeds), ("mask", mask)):
        if other is not None and other.device != image.device:
            rule = f"be on {image.device}, where the image is"
            raise ValueError(message(op, name, rule, other.device, "move one of them"))
    values = image if image.dtype in FLOATS else image.float()
    if seeds.dtype == torch.bool:
        starts = torch.where(seeds, 0.0, math.inf).to(values.dtype)
    else:
        starts = seeds.to(values.dtype)
    full = (layout.batch, -1, *layout.space)
    if mask is not None:
        rules.check_mask(op, dtype_name(mask.dtype), mask.shape, layout)
        mask = _ranked(mask, layout.ndim).expand(full)
    return (
        _ranked(values, layout.ndim).expand(full),
        _ranked(starts, layout.ndim).expand(full),
        mask,
    )


def _ranked(t: Tensor, ndim: int) -> Tensor:
    """[leading axes, *space] as [B, N, *space]."""
    return t[(None,) * (ndim + 2 - t.dim())]


def _check_values(op: str, metric: str, image: Tensor, starts: Tensor, mask: Tensor | None) -> None:
    """One pass over each input; nothing that stops a trace or a vmap."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    if not image.numel() or not starts.numel() or image.is_meta or starts.is_meta:
        return
    image, starts = image.detach(), starts.detach()
    least = image.amin()  # NaN if there is one
    earliest = inside = starts.amin()
    if mask is not None:
        inside = torch.where(mask, starts, math.inf).amin()
        if not least >= 0:
            least = torch.where(mask, image, 0.0).amin()
    rules.check_values(op, metric, least.item(), earliest.item(), inside.item())


def _fake_distance(image: Tensor, starts: Tensor, *rest: Any) -> Tensor:
    return starts.new_empty(starts.shape)


def _fake_info(image: Tensor, starts: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    info = starts.new_empty(*starts.shape[:2], 4, dtype=torch.float64)
    return starts.new_empty(starts.shape), info


def _fake_parents(distance: Tensor, *rest: Any) -> Tensor:
    return distance.new_empty(distance.shape, dtype=torch.int64)


def _fake_pull(flow: Tensor, parents: Tensor, image: Tensor, *rest: Any) -> Tensor:
    return image.new_empty(image.shape)


def _fake_tree(values: Tensor, *rest: Any) -> Tensor:
    return values.new_empty(values.shape)


# The distance is a sum of edge costs along the path to the root. Its derivatives are those of the
# edges, summed along paths (forward) or over subtrees (backward); the tree itself is constant.


def _remember_problem(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, starts, mask, spacing, *constants = inputs
    *ctx.edge, ctx.connectivity, _, ctx.method, _ = constants
    saved = (output, image, starts, mask, spacing)
    ctx.save_for_backward(*saved)
    ctx.save_for_forward(*saved)


def _tree_of(ctx: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Predecessors of the solved problem, its image and its spacing."""
    if ctx.method == "raster":
        rule, remedy = "be exact where derivatives are asked for", "use method='auto'"
        raise RuntimeError(message("geodesic_distance", "method", rule, "'raster'", remedy))
    distance, image, starts, mask, spacing = ctx.saved_tensors
    problem = (distance, image, starts, mask, spacing)
    parents = _geodesic_parents(*map(_detached, problem), *ctx.edge, ctx.connectivity)
    return parents, image, spacing


def _distance_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    parents, image, spacing = _tree_of(ctx)
    flow = _tree_subtrees(grad, parents)  # through each voxel to its root
    roots = parents == reference.row_major(parents)
    at_image = _geodesic_pull(flow, parents, image, spacing, *ctx.edge)
    return at_image, torch.where(roots, flow, 0), *[None] * 9


def _distance_jvp(ctx: Any, image_t: Tensor | None, starts_t: Tensor | None, *_: Any) -> Any:
    parents, image, spacing = _tree_of(ctx)
    edges: Tensor | float = 0.0
    if image_t is not None:
        edges = reference.geodesic_push(image_t, parents, image, spacing, *ctx.edge)
    roots = parents == reference.row_major(parents)
    starts_t = torch.zeros_like(parents, dtype=image.dtype) if starts_t is None else starts_t
    return _tree_paths(torch.where(roots, starts_t, edges), parents)


def _remember_pull(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    saved, ctx.edge = inputs[:4], inputs[4:]
    ctx.save_for_backward(*saved)
    ctx.save_for_forward(*saved)


def _pull_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    flow, parents, image, spacing = ctx.saved_tensors

    def pull(flow: Tensor, image: Tensor) -> Tensor:
        return reference.geodesic_pull(flow, parents, image, spacing, *ctx.edge)

    _, adjoint, *_ = torch.func.vjp(pull, flow, image)
    at_flow, at_image = adjoint(grad)
    return at_flow, None, at_image, *[None] * 4


def _pull_jvp(ctx: Any, flow_t: Tensor | None, _: Any, image_t: Tensor | None, *__: Any) -> Any:
    flow, parents, image, spacing = ctx.saved_tensors
    moved = torch.zeros_like(image)
    if flow_t is not None:
        moved = moved + _geodesic_pull(flow_t, parents, image, spacing, *ctx.edge)
    if image_t is not None:
        # The Hessian in the image is symmetric: its product with a direction is an adjoint.
        def pushed(image: Tensor) -> Tensor:
            slopes = reference.geodesic_push(image_t, parents, image, spacing, *ctx.edge)
            total: Tensor = (slopes * flow).sum()
            return total

        value, adjoint, *_ = torch.func.vjp(pushed, image)
        moved = moved + adjoint(torch.ones_like(value))[0]
    return moved


def _remember_parents(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.save_for_forward(inputs[1])


def _paths_backward(ctx: Any, grad: Tensor) -> tuple[Any, None]:
    return _tree_subtrees(grad, *ctx.saved_tensors), None


def _subtrees_backward(ctx: Any, grad: Tensor) -> tuple[Any, None]:
    return _tree_paths(grad, *ctx.saved_tensors), None


def _paths_jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
    return _tree_paths(tangent, *ctx.saved_tensors)


def _subtrees_jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
    return _tree_subtrees(tangent, *ctx.saved_tensors)


METRIC_ARGS = (
    (0.5, "l1", "l1"),
    (0.3, "l2", "l2"),
    (0.6, "fastgeodis", "linf"),
    (0.7, "geodistk", "l1"),
    (1.5, "geos", "l1"),
    (0.0, "mcp", "l1"),
    (0.0, "node", "l1"),
)


def _layouts(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, int]]:
    """`image_layouts` where every path is the only shortest one and has at least one step."""
    for name, image, ndim in image_layouts(dtype):
        if name == "expanded":
            yield name, image[:1, :, :1, :4].clone().expand(2, 3, 1, 4), ndim
        elif name == "size-1":
            yield name, torch.tensor([[[[0.3, -1.1, 0.8]]]], dtype=dtype), ndim
        elif name != "empty-channels":
            yield name, image, ndim


def _seeds(image: Tensor, ndim: int) -> Tensor:
    """Two seed sets, the second with two start costs, in the layout of the image."""
    batch, space = image.shape[0], image.shape[2:]
    starts = torch.full((batch, 2, math.prod(space)), math.inf, dtype=image.dtype)
    starts[:, 0, 0] = 0
    starts[:, 1, math.prod(space) // 2] = 0.25
    starts[:, 1, -1] = 0.125
    return starts.reshape(batch, 2, *space).transpose(-1, -ndim).contiguous().transpose(-1, -ndim)


def _spacings(image: Tensor, ndim: int) -> Tensor:
    rows = torch.tensor([1.0, 1.25, 0.8][:ndim], dtype=torch.float64)
    return rows * (1 + 0.5 * torch.arange(image.shape[0], dtype=torch.float64)).unsqueeze(1)


def _problem_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """The arguments up to the connectivity; all metrics in turn."""
    for turn, (name, image, ndim) in enumerate(_layouts(dtype)):
        for args in (METRIC_ARGS[turn % 7], METRIC_ARGS[(turn + 3) % 7]):
            scalar = args[1] in rules.SCALAR_METRICS
            values = image[:, :1].abs() + 0.1 if scalar else image
            starts, spacing = _seeds(image, ndim), _spacings(image, ndim)
            mask = torch.ones_like(starts[:, :1], dtype=torch.bool) if turn % 2 else None
            connectivity = ndim if turn % 3 else 1
            problem = (values, starts, mask, spacing, *args, connectivity)
            yield Sample(f"{name}-{args[1]}", problem)


def _distance_samples(dtype: torch.dtype) -> Iterator[Sample]:
    methods = ("auto", "bucket", "tiles", "sweeps")
    for turn, sample in enumerate(_problem_samples(dtype)):
        method = methods[turn % 4]
        yield Sample(f"{sample.name}-{method}", (*sample.args, math.inf, method, 1))


def _info_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for sample in _problem_samples(dtype):
        yield Sample(sample.name, (*sample.args, math.inf, "bucket", 1))


def _parents_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Exact in every dtype, and equal when samples or the last axis are reversed, for vmap."""
    for name, image, ndim in _layouts(dtype):
        whole = image.detach().mul(4).round()
        whole = (whole + whole.flip(-1) + whole.flip(0) + whole.flip(0, -1)).abs()
        image = torch.empty_like(image).copy_(whole)
        starts = _seeds(image, ndim).roll(image.shape[-1] // 2, -1)
        starts = torch.minimum(starts, starts.flip(-1))
        spacing = torch.ones(image.shape[0], ndim, dtype=torch.float64)
        edge = (image, starts, None, spacing, 0.5, "l1", "linf", 1)
        yield Sample(name, (reference.geodesic_distance(*edge, math.inf, "auto", 1), *edge))


def _pull_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """One metric for each layout, on the trees of its shortest paths."""
    generator = torch.Generator().manual_seed(4)
    for sample in itertools.islice(_problem_samples(dtype), 0, None, 2):
        problem: tuple[Any, ...] = sample.args
        image, starts, _mask, spacing, *edge, _connectivity = problem
        exact = reference.geodesic_distance(*problem, math.inf, "auto", 1)  # type: ignore[call-arg]
        parents = reference.geodesic_parents(exact, *problem)
        flow = torch.empty_like(starts).copy_(
            torch.randn(starts.shape, generator=generator, dtype=torch.float64)
        )
        yield Sample(sample.name, (flow, parents, image, spacing, *edge))


def _trees(dtype: torch.dtype) -> Iterator[tuple[Tensor, str, Tensor]]:
    """Values in all layouts, each with a random forest; some voxels are in no tree."""
    generator = torch.Generator().manual_seed(0)
    for name, values, _ in image_layouts(dtype):
        voxels = math.prod(values.shape[2:])
        own = torch.arange(voxels).expand(*values.shape[:2], voxels)
        above = (torch.rand(own.shape, generator=generator) * own).long()  # before the voxel
        kind = torch.rand(own.shape, generator=generator)
        above = torch.where((kind < 0.2) | (own == 0), own, above)
        alone = (kind > 0.9) & (own > 0)
        for _ in range(voxels):  # what hangs on such a voxel is in no tree either
            alone = alone | alone.gather(2, above)
        yield values, name, torch.where(alone, -1, above).reshape(values.shape)


def _tree_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for values, name, parents in _trees(dtype):
        yield Sample(name, (values, parents))


def _root_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """One chain down the first axis, so that trees with reversed rows are trees again, for vmap."""
    for name, values, ndim in image_layouts(torch.float32):
        rows = math.prod(values.shape[2:-1]) if ndim > 1 else 1
        width = values.shape[-1]
        chain = (torch.arange(rows) - 1).clamp_min(0) * width + width // 2
        parents = chain.repeat_interleave(width).view(values.shape[2:]).expand(values.shape)
        yield Sample(name, (torch.empty_like(values, dtype=dtype).copy_(parents),))


PROBLEM = (
    "Tensor image, Tensor starts, Tensor? mask, Tensor spacing, float lam, str metric, "
    "str channel_norm, int connectivity"
)
SOLVER = "float limit, str method, int iterations"

_geodesic_distance: Op = register(
    OpSpec(
        name="geodesic_distance",
        schema=f"({PROBLEM}, {SOLVER}) -> Tensor",
        reference=reference.geodesic_distance,
        fake=_fake_distance,
        samples=_distance_samples,
        setup_context=_remember_problem,
        backward=_distance_backward,
        jvp=_distance_jvp,
        autocast="float32",
        dtypes=FLOATS,
    )
)
_geodesic_info: Op = register(
    OpSpec(
        name="_geodesic_info",
        schema=f"({PROBLEM}, {SOLVER}) -> (Tensor, Tensor)",
        reference=reference.geodesic_info,
        fake=_fake_info,
        samples=_info_samples,
        autocast="float32",
        dtypes=FLOATS,
    )
)
_geodesic_parents: Op = register(
    OpSpec(
        name="_geodesic_parents",
        schema=f"(Tensor distance, {PROBLEM}) -> Tensor",
        reference=reference.geodesic_parents,
        fake=_fake_parents,
        samples=_parents_samples,
        dtypes=FLOATS,
    )
)
_geodesic_pull: Op = register(
    OpSpec(
        name="_geodesic_pull",
        schema=(
            "(Tensor flow, Tensor parents, Tensor image, Tensor spacing, float lam, str metric, "
            "str channel_norm) -> Tensor"
        ),
        reference=reference.geodesic_pull,
        fake=_fake_pull,
        samples=_pull_samples,
        setup_context=_remember_pull,
        backward=_pull_backward,
        jvp=_pull_jvp,
        autocast="float32",
        dtypes=FLOATS,
    )
)
_tree_paths: Op = register(
    OpSpec(
        name="_tree_paths",
        schema="(Tensor values, Tensor parents) -> Tensor",
        reference=reference.tree_paths,
        fake=_fake_tree,
        samples=_tree_samples,
        setup_context=_remember_parents,
        backward=_paths_backward,
        jvp=_paths_jvp,
        autocast="float32",
        dtypes=FLOATS,
    )
)
_tree_subtrees: Op = register(
    OpSpec(
        name="_tree_subtrees",
        schema="(Tensor values, Tensor parents) -> Tensor",
        reference=reference.tree_subtrees,
        fake=_fake_tree,
        samples=_tree_samples,
        setup_context=_remember_parents,
        backward=_subtrees_backward,
        jvp=_subtrees_jvp,
        autocast="float32",
        dtypes=FLOATS,
    )
)
_tree_roots: Op = register(
    OpSpec(
        name="_tree_roots",
        schema="(Tensor parents) -> Tensor",
        reference=reference.tree_roots,
        fake=_fake_tree,
        samples=_root_samples,
        dtypes=(torch.int64,),
    )
)

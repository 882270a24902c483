"""Warping by displacement fields.

    warp(I, u)(p) = I(p + u(p))

A displacement is [B, D, *space]: component d moves along spatial axis d, in the order of the axes
(y, x or z, y, x). No grid of positions is ever made.

Source: Jaderberg et al., NeurIPS 2015 for the derivatives of linear interpolation; Keys, 1981 for
the cubic kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import warp as reference
from medkern.reference.warp import How, along, compute_dtype, sample, spread
from medkern.rules import choice, message
from medkern.rules import warp as rules

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LABELS = (torch.uint8, torch.int16, torch.int32, torch.int64)


def warp(
    image: ArrayT,
    displacement: ArrayT,
    *,
    units: str = "voxel",
    mode: str = "linear",
    padding: str = "zeros",
    backend: str | None = None,
) -> ArrayT:
    """The image at displaced positions: out(p) = image(p + u(p)).

    Args:
        image: [B, C, *space], 2 or 3 spatial axes. float16, bfloat16 (both computed in float32),
            float32, float64; with mode "nearest" also uint8, int16, int32, int64, which stay so.
        displacement: [B, D, *out], component d along spatial axis d (z, y, x; not x, y, z). Any
            floating dtype, computed in float64 beside a float64 image, else in float32. `out` may
            differ from `space`.
        units: "voxel": u counts voxels of the image, and voxel p of the output is at voxel p of
            the image. "normalized": both span [-1, 1], their corner voxels' centres at -1 and 1
            (align_corners=True of grid_sample), so that a field fits images of every resolution.
        mode: "linear"; "nearest", halfway to the even index; "cubic", a = -0.75 along every axis,
            as grid_sample's bicubic. Cubic may overshoot.
        padding: "zeros": voxels outside are 0. "border": the nearest voxel. "reflection": about
            the centres of the outermost voxels.
        backend: "native", "triton" or "reference"; None lets medkern choose.

    Returns:
        [B, C, *out] in the image's dtype, contiguous.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    The position keeps all digits of u: p is never added to it, so that volumes of any size lose
    nothing, and whole displacements copy exactly. Where u is NaN the result is NaN (0 for integers)
    and the image's gradient receives nothing; infinite u is outside the image, with "reflection" it
    counts as NaN. A NaN in the image spreads to the outputs that read it.

    Gradients of any order in image and displacement, forward mode; that of the displacement is 0
    for "nearest", and beyond a border with "border". First derivatives are kernels; those of the
    gradients themselves are torch operations. The result, the image's gradient included, has the
    same bits for every number of threads, and in every run on a GPU, but for that gradient where
    CUDA's kernels are not installed.

    Memory: the output, and where the image has 2 or more channels, or is of half precision, a
    rearranged copy in compute precision of 4 or 8 of its channels. Other strides than contiguous
    ones, and a displacement of another precision, are copied first. On a GPU nothing is rearranged;
    the image's gradient needs 12 bytes (float64: 20) per voxel, at most 256 MiB at a time.

    >>> import torch, medkern as mk
    >>> image = torch.arange(5.0).expand(1, 1, 1, 5)
    >>> u = torch.zeros(1, 2, 1, 5)
    >>> u[:, 1] = 0.5  # along the last axis
    >>> mk.warp(image, u)
    tensor([[[[0.5000, 1.5000, 2.5000, 3.5000, 2.0000]]]])
    >>> mk.warp(image, u, padding="border")
    tensor([[[[0.5000, 1.5000, 2.5000, 3.5000, 4.0000]]]])
    """
    op = "warp"
    choice(op, "units", units, rules.UNITS)
    choice(op, "mode", mode, rules.MODES)
    choice(op, "padding", padding, rules.PADDINGS)
    x, restore = as_tensor(op, "image", image)
    u, _ = as_tensor(op, "displacement", displacement)
    rules.check_warp(op, x.shape, u.shape)
    check_dtype(op, "image", x, FLOATS if mode != "nearest" else (*FLOATS, *LABELS))
    check_dtype(op, "displacement", u, FLOATS)
    check_device(op, "displacement", u, x, "image")
    return restore(_warp(x, u, mode, padding, units == "normalized", backend=backend))


def check_dtype(op: str, argument: str, t: Tensor, dtypes: Sequence[torch.dtype]) -> None:
    if t.dtype not in dtypes:
        names = ", ".join(map(dtype_name, dtypes))
        remedy = f"convert it, for example {argument}.to(torch.{dtype_name(dtypes[-1])})"
        raise TypeError(message(op, argument, f"be one of {names}", dtype_name(t.dtype), remedy))


def check_device(op: str, argument: str, t: Tensor, other: Tensor, name: str) -> None:
    if t.device != other.device:
        rule = f"be on the device of {name}, {other.device}"
        raise ValueError(message(op, argument, rule, t.device, "move one of them"))


def _fake_warp(
    image: Tensor, displacement: Tensor, mode: str, padding: str, normalized: bool
) -> Tensor:
    return image.new_empty(*image.shape[:2], *displacement.shape[2:])


def _fake_transpose(grad: Tensor, displacement: Tensor, size: Sequence[int], *_: Any) -> Tensor:
    return grad.new_empty(*grad.shape[:2], *size)


def _fake_slope(grad: Tensor, image: Tensor, displacement: Tensor, *_: Any) -> Tensor:
    return displacement.new_empty(displacement.shape)


def remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [t for t in inputs if isinstance(t, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.rest = inputs[len(tensors) :]


def directional(x: Tensor, u: Tensor, k: Tensor, how: How) -> Tensor:
    """The derivative of the warped image x in the displacement u along k."""
    axes = range(u.shape[1])
    return sum_of([k[:, a, None] * sample(x, u, how, along(len(axes), a)) for a in axes])


def directional_transpose(g: Tensor, u: Tensor, k: Tensor, size: Sequence[int], how: How) -> Tensor:
    """The transpose of `directional` in the image."""
    axes = range(u.shape[1])
    return sum_of([spread(g * k[:, a, None], u, size, how, along(len(axes), a)) for a in axes])


def curvature(g: Tensor, x: Tensor, u: Tensor, k: Tensor, how: How) -> Tensor:
    """The second derivative of <g, warped x> in the displacement, times k [B, D, *out]."""
    axes = range(u.shape[1])
    rows = []
    for a in axes:
        second = [k[:, b, None] * sample(x, u, how, along(len(axes), a, b)) for b in axes]
        rows.append((g * sum_of(second)).sum(1))
    return torch.stack(rows, dim=1)


def sum_of(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class _Wide(NamedTuple):
    """Saved tensors in the compute dtype, and what else the formulas need."""

    tensors: list[Tensor]
    how: How

    @classmethod
    def of(cls, ctx: Any, *more: Tensor) -> _Wide:
        saved = [*ctx.saved_tensors, *more]
        dtype = compute_dtype(saved[0])
        return cls([t.to(dtype) for t in saved], How(*ctx.rest[-3:]))


def warp_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    image, displacement = ctx.saved_tensors
    d_image = d_displacement = None
    if ctx.needs_input_grad[0]:
        d_image = _warp_transpose(grad, displacement, list(image.shape[2:]), *ctx.rest)
    if ctx.needs_input_grad[1]:
        d_displacement = _warp_slope(grad, image, displacement, *ctx.rest)
    return d_image, d_displacement, None, None, None


def warp_jvp(ctx: Any, tangent: Any, moved: Any, *_: Any) -> Tensor:
    image, displacement = ctx.saved_tensors
    parts = [] if tangent is None else [_warp(tangent, displacement, *ctx.rest)]
    if moved is not None:
        (x, u, k), how = _Wide.of(ctx, moved)
        parts.append(directional(x, u, k, how).to(image.dtype))
    return sum_of(parts)


def _transpose_backward(ctx: Any, h: Tensor) -> tuple[Any, ...]:
    grad, displacement = ctx.saved_tensors
    _, *how = ctx.rest
    d_grad = _warp(h, displacement, *how) if ctx.needs_input_grad[0] else None
    d_displacement = _warp_slope(grad, h, displacement, *how) if ctx.needs_input_grad[1] else None
    return d_grad, d_displacement, None, None, None, None


def _transpose_jvp(ctx: Any, tangent: Any, moved: Any, *_: Any) -> Tensor:
    grad, displacement = ctx.saved_tensors
    parts = [] if tangent is None else [_warp_transpose(tangent, displacement, *ctx.rest)]
    if moved is not None:
        (g, u, k), how = _Wide.of(ctx, moved)
        parts.append(directional_transpose(g, u, k, ctx.rest[0], how).to(grad.dtype))
    return sum_of(parts)


def _slope_backward(ctx: Any, k: Tensor) -> tuple[Any, ...]:
    grad, image, displacement = ctx.saved_tensors
    (g, x, u, wide_k), how = _Wide.of(ctx, k)
    d_grad = d_image = d_displacement = None
    if ctx.needs_input_grad[0]:
        d_grad = directional(x, u, wide_k, how).to(grad.dtype)
    if ctx.needs_input_grad[1]:
        d_image = directional_transpose(g, u, wide_k, x.shape[2:], how).to(image.dtype)
    if ctx.needs_input_grad[2]:
        d_displacement = curvature(g, x, u, wide_k, how).to(displacement.dtype)
    return d_grad, d_image, d_displacement, None, None, None


def _slope_jvp(ctx: Any, tangent: Any, d_image: Any, moved: Any, *_: Any) -> Tensor:
    grad, image, displacement = ctx.saved_tensors
    parts = []
    if tangent is not None:
        parts.append(_warp_slope(tangent, image, displacement, *ctx.rest))
    if d_image is not None:
        parts.append(_warp_slope(grad, d_image, displacement, *ctx.rest))
    if moved is not None:
        (g, x, u, k), how = _Wide.of(ctx, moved)
        parts.append(curvature(g, x, u, k, how).to(displacement.dtype))
    return sum_of(parts)


def _field(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Displacements of about two voxels: some positions are outside."""
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def warp_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Every layout; all modes, paddings and units, and every way of holding channels."""
    generator = torch.Generator().manual_seed(4)
    floating = dtype.is_floating_point

    def image(*shape: int) -> Tensor:
        if floating:
            return torch.randn(shape, generator=generator).to(dtype)
        return torch.randint(0, 100, shape, generator=generator).to(dtype)

    def case(name: str, x: Tensor, out: Sequence[int], *how: Any, turn: bool = False) -> Sample:
        of = dtype if floating else torch.float32
        u = _field((x.shape[0], len(out), *out), generator, of)
        u = u / 8 if name == "size-1" else u
        u = u.transpose(0, 1).contiguous().transpose(0, 1) if turn else u
        mode, *rest = how
        return Sample(name, (x, u, mode if floating else "nearest", *rest))

    yield case("contiguous", image(2, 1, 4, 6), (4, 6), "linear", "zeros", False)
    yield case("empty-batch", image(0, 3, 4, 4), (4, 4), "linear", "zeros", False)
    yield case("size-1", image(1, 2, 1, 1), (1, 1), "linear", "zeros", False)
    yield case("wide", image(1, 1, 3, 37), (3, 37), "linear", "border", False)
    yield case("transposed", image(2, 3, 6, 4).transpose(2, 3), (4, 6), "linear", "border", False)
    strided = image(2, 6, 9, 9)[:, 1:, 1::2, :-1]
    yield case("sliced", strided, (4, 8), "cubic", "reflection", False, turn=True)
    yield case("expanded", image(1, 1, 1, 5).expand(2, 1, 5, 5), (5, 5), "cubic", "zeros", False)
    yield case("nearest", image(1, 2, 2, 3, 4), (2, 3, 4), "nearest", "zeros", False)
    if not floating:
        return
    last = image(2, 5, 4, 7).contiguous(memory_format=torch.channels_last)
    yield case("channels_last", last, (4, 7), "linear", "reflection", False)
    yield case("volume", image(1, 1, 3, 4, 5), (3, 4, 5), "linear", "reflection", False)
    yield case("volume-normalized", image(1, 2, 3, 4, 5), (2, 3, 4), "linear", "zeros", True)
    yield case("cubic", image(1, 17, 2, 3, 4), (2, 3, 4), "cubic", "border", False)


def _backward_samples(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor, Tensor, Any]]:
    generator = torch.Generator().manual_seed(5)
    for name, (image, u, *how) in ((s.name, s.args) for s in warp_samples(dtype)):
        shape = (*image.shape[:2], *u.shape[2:])
        yield name, torch.randn(shape, generator=generator).to(dtype), image, u, how


def _transpose_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, grad, image, u, how in _backward_samples(dtype):
        yield Sample(name, (grad, u, list(image.shape[2:]), *how))


def _slope_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, grad, image, u, how in _backward_samples(dtype):
        if name != "nearest":
            yield Sample(name, (grad, image, u, *how))


_HOW = "str mode, str padding, bool normalized"

_warp: Op = register(
    OpSpec(
        name="warp",
        schema=f"(Tensor image, Tensor displacement, {_HOW}) -> Tensor",
        reference=reference.warp,
        fake=_fake_warp,
        samples=warp_samples,
        setup_context=remember,
        backward=warp_backward,
        jvp=warp_jvp,
        autocast="widest",
        dtypes=(*FLOATS, *LABELS),
        triton="medkern.kernels.warp:warp",
    )
)
_warp_transpose: Op = register(
    OpSpec(
        name="_warp_transpose",
        schema=f"(Tensor grad, Tensor displacement, SymInt[] size, {_HOW}) -> Tensor",
        reference=reference.warp_transpose,
        fake=_fake_transpose,
        samples=_transpose_samples,
        setup_context=remember,
        backward=_transpose_backward,
        jvp=_transpose_jvp,
        autocast="widest",
    )
)
_warp_slope: Op = register(
    OpSpec(
        name="_warp_slope",
        schema=f"(Tensor grad, Tensor image, Tensor displacement, {_HOW}) -> Tensor",
        reference=reference.warp_slope,
        fake=_fake_slope,
        samples=_slope_samples,
        setup_context=remember,
        backward=_slope_backward,
        jvp=_slope_jvp,
        autocast="widest",
        triton="medkern.kernels.warp:warp_slope",
    )
)

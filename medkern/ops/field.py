"""What a displacement field does to volume, and how rough it is.

    jacobian_determinant          det(1 + du/dx), and how many voxels fold
    diffusion_smoothness_loss     the mean square (or size) of forward differences

Source: Balakrishnan et al., IEEE TMI 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, _needs_function, register
from medkern.interop import ArrayT, as_tensor
from medkern.ops.euclidean import spacing_tensor
from medkern.ops.warp import FLOATS, check_dtype, remember, sum_of
from medkern.reference import field as reference
from medkern.reference.warp import compute_dtype
from medkern.rules import choice
from medkern.rules import warp as rules
from medkern.rules.grid import spacing_of
from medkern.testing import image_layouts


def jacobian_determinant(
    displacement: ArrayT,
    *,
    spacing: Any = None,
    return_folding: bool = False,
    backend: str | None = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """The determinant of the Jacobian of p + u(p): the volume of a displaced voxel, signed.

    Args:
        displacement: [B, D, *space], D = 2 or 3 components in the order of the axes; float16,
            bfloat16 (both computed in float32), float32, float64.
        spacing: edge lengths of a voxel in the order of the axes, one number for all of them, or
            a row per sample [B, D], in the units of the displacement. None: 1, for displacements
            in voxels, for which the determinant is the same in mm. For displacements in the
            normalized units of `warp`: 2 / (n - 1) per axis.
        return_folding: also return how many voxels of each sample fold, where the determinant is
            0 or less.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, 1, *space] in the displacement's dtype; with `return_folding` also [B] int64.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Central differences, one-sided at the border, as numpy.gradient; an axis of size 1 has none.
    NaN in u makes NaN where it is read, and a NaN does not fold. Gradients of any order and forward
    mode; nothing but the displacement is kept for them. One pass, the folding count included; no
    temporaries but a few rows (backward: a few planes) per thread.

    >>> import torch, medkern as mk
    >>> y, x = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
    >>> u = torch.stack([0.5 * y, -2.0 * x])[None]  # folded along x
    >>> det, folding = mk.jacobian_determinant(u, return_folding=True)
    >>> det[0, 0, 0], folding
    (tensor([-1.5000, -1.5000, -1.5000, -1.5000, -1.5000]), tensor([20]))
    """
    op = "jacobian_determinant"
    u, restore = as_tensor(op, "displacement", displacement)
    rules.check_field(op, "displacement", u.shape)
    check_dtype(op, "displacement", u, FLOATS)
    lengths = _lengths(op, spacing, u)
    if not return_folding:
        return restore(_jacobian_determinant(u, lengths, backend=backend))
    if (u.requires_grad and torch.is_grad_enabled()) or _needs_function():
        det = _jacobian_determinant(u, lengths, backend=backend)
        folding = (det.detach() <= 0).flatten(1).sum(1)
    else:
        det, folding = _jacobian_folding(u, lengths, backend=backend)
    return restore(det), restore(folding)


def diffusion_smoothness_loss(
    displacement: ArrayT,
    *,
    spacing: Any = None,
    penalty: str = "l2",
    backend: str | None = None,
) -> ArrayT:
    """How rough a field is: the mean over the axes of the mean |forward difference|^2 along each.

    Equal to VoxelMorph's Grad loss: means over components, voxels and samples.

    Args:
        displacement: [B, C, *space], any number of components, 1 to 3 spatial axes; float16,
            bfloat16 (both computed in float32), float32, float64.
        spacing: what differences are divided by, as in `jacobian_determinant`; None: 1.
        penalty: "l2": squares. "l1": absolute values; where a difference is 0 so is its gradient.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        A scalar: float64 for a float64 displacement, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Axes of size 1 have no differences and count as 0; an empty batch costs 0; NaN spreads. One
    read forward, one read and one write backward; sums in float64 in a fixed order, the same bits
    for every number of threads. Gradients of any order and forward mode.

    >>> import torch, medkern as mk
    >>> u = torch.zeros(1, 2, 3, 3)
    >>> u[:, 0] = torch.tensor([0.0, 1.0, 3.0])  # differences 1 and 2 along x
    >>> mk.diffusion_smoothness_loss(u)  # (1 + 4) / 2, half the components, half the axes
    tensor(0.6250)
    """
    op = "diffusion_smoothness_loss"
    choice(op, "penalty", penalty, rules.PENALTIES)
    u, restore = as_tensor(op, "displacement", displacement)
    rules.check_space(op, "displacement", u.shape, (1, 2, 3))
    check_dtype(op, "displacement", u, FLOATS)
    each = _smoothness(u, _lengths(op, spacing, u), penalty, backend=backend)
    return restore(each.sum() / max(u.shape[0], 1))


def _lengths(op: str, spacing: Any, u: Tensor) -> Tensor:
    """[B, D] float64."""
    rows = spacing_of(op, spacing, u.dim() - 2, u.shape[0])
    lengths = spacing_tensor(rows, u.dim() - 2, u.device)
    return lengths.expand(u.shape[0], -1) if len(rows) == 1 else lengths


def _fake_jacobian(displacement: Tensor, spacing: Tensor) -> Tensor:
    return displacement.new_empty(displacement.shape[0], 1, *displacement.shape[2:])


def _fake_folding(displacement: Tensor, spacing: Tensor) -> tuple[Tensor, Tensor]:
    count = displacement.new_empty(displacement.shape[0], dtype=torch.int64)
    return _fake_jacobian(displacement, spacing), count


def _fake_same(grad: Tensor, displacement: Tensor, *_: Any) -> Tensor:
    return displacement.new_empty(displacement.shape)


def _fake_smoothness(displacement: Tensor, spacing: Tensor, penalty: str) -> Tensor:
    return displacement.new_empty(displacement.shape[0], 1, dtype=compute_dtype(displacement))


def _matrix(u: Tensor, spacing: Tensor) -> Tensor:
    return reference.with_identity(reference.gradient(u, spacing))


def _slope_along(u: Tensor, k: Tensor, spacing: Tensor) -> Tensor:
    """The derivative of the determinant along k [B, 1, *space]."""
    slopes = reference.cofactors(_matrix(u, spacing)) * reference.gradient(k, spacing)
    return slopes.sum((1, 2)).unsqueeze(1)


def _curvature(g: Tensor, u: Tensor, k: Tensor, spacing: Tensor) -> Tensor:
    """The second derivative of <g, det> times k."""
    turned = reference.cofactors_slope(_matrix(u, spacing), reference.gradient(k, spacing))
    return reference.gradient_transpose(g.unsqueeze(1) * turned, spacing)


def _wide(*tensors: Tensor) -> list[Tensor]:
    return [t.to(compute_dtype(t)) for t in tensors]


def _jacobian_backward_formula(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _jacobian_backward(grad, *ctx.saved_tensors), None


def _jacobian_jvp(ctx: Any, tangent: Tensor, _: Any) -> Tensor:
    displacement, spacing = ctx.saved_tensors
    u, k = _wide(displacement, tangent)
    return _slope_along(u, k, spacing).to(displacement.dtype)


def _jacobian_backward_backward(ctx: Any, k: Tensor) -> tuple[Any, ...]:
    grad, displacement, spacing = ctx.saved_tensors
    g, u, wide_k = _wide(grad, displacement, k)
    d_grad = _slope_along(u, wide_k, spacing).to(grad.dtype) if ctx.needs_input_grad[0] else None
    if not ctx.needs_input_grad[1]:
        return d_grad, None, None
    return d_grad, _curvature(g, u, wide_k, spacing).to(displacement.dtype), None


def _jacobian_backward_jvp(ctx: Any, tangent: Any, moved: Any, _: Any) -> Tensor:
    grad, displacement, spacing = ctx.saved_tensors
    parts = [] if tangent is None else [_jacobian_backward(tangent, displacement, spacing)]
    if moved is not None:
        g, u, k = _wide(grad, displacement, moved)
        parts.append(_curvature(g, u, k, spacing).to(displacement.dtype))
    return sum_of(parts)


def _smoothness_backward_formula(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _smoothness_backward(grad, *ctx.saved_tensors, *ctx.rest), None, None


def _smoothness_slope(u: Tensor, k: Tensor, spacing: Tensor, penalty: str) -> Tensor:
    """The derivative of each sample's loss along k [B, 1]."""
    wide = u.to(compute_dtype(u))
    slope = _smoothness_backward(wide.new_ones(u.shape[0], 1), wide, spacing, penalty)
    along: Tensor = (slope * k.to(slope.dtype)).sum(tuple(range(1, u.dim())))
    return along.unsqueeze(1)


def _smoothness_jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
    displacement, spacing = ctx.saved_tensors
    return _smoothness_slope(displacement, tangent, spacing, *ctx.rest)


def _smoothness_backward_backward(ctx: Any, k: Tensor) -> tuple[Any, ...]:
    grad, displacement, spacing = ctx.saved_tensors
    (penalty,) = ctx.rest
    d_grad = (
        _smoothness_slope(displacement, k, spacing, penalty) if ctx.needs_input_grad[0] else None
    )
    # The squares' gradient is a symmetric linear map of u, that of the absolute values constant.
    linear = penalty == "l2" and ctx.needs_input_grad[1]
    return d_grad, _smoothness_backward(grad, k, spacing, penalty) if linear else None, None, None


def _smoothness_backward_jvp(ctx: Any, tangent: Any, moved: Any, *_: Any) -> Tensor:
    grad, displacement, spacing = ctx.saved_tensors
    (penalty,) = ctx.rest
    parts = [torch.zeros_like(displacement)]
    if tangent is not None:
        parts.append(_smoothness_backward(tangent, displacement, spacing, penalty))
    if moved is not None and penalty == "l2":
        parts.append(_smoothness_backward(grad, moved, spacing, penalty))
    return sum_of(parts)


def _spacing_for(x: Tensor) -> Tensor:
    rows = torch.tensor([[2.5, 1.0, 0.8], [0.7, 0.9, 0.7], [1.0, 2.0, 3.0]], dtype=torch.float64)
    return rows[: x.shape[0], : x.dim() - 2]


_LAYOUTS = (
    "contiguous",
    "transposed",
    "sliced",
    "expanded",
    "channels_last",
    "empty-batch",
    "size-1",
    "volume",
)


def _fields(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(6)
    for name, x, axes in image_layouts(dtype):
        if name not in _LAYOUTS:
            continue
        if name == "size-1":  # along one axis only: else nothing depends on anything
            x = torch.randn(1, axes, 1, 4, generator=generator).to(dtype)
        elif name == "volume":
            x = torch.randn(1, axes, 3, 4, 5, generator=generator).to(dtype)
        yield name, x[:, :axes], _spacing_for(x)


def _jacobian_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, u, spacing in _fields(dtype):
        yield Sample(name, (u, spacing))


def _jacobian_backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(7)
    for name, u, spacing in _fields(dtype):
        grad = torch.randn(u.shape[0], 1, *u.shape[2:], generator=generator).to(dtype)
        yield Sample(name, (grad, u, spacing))


def _smoothness_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, u, spacing in _fields(dtype):  # l1 where no differences are 0
        yield Sample(name, (u, spacing, "l1" if name in ("transposed", "volume") else "l2"))


def _smoothness_backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(8)
    for sample in _smoothness_samples(dtype):
        u = sample.args[0]
        grad = torch.randn(u.shape[0], 1, generator=generator).to(compute_dtype(u))
        yield Sample(sample.name, (grad, *sample.args))


_jacobian_determinant: Op = register(
    OpSpec(
        name="jacobian_determinant",
        schema="(Tensor displacement, Tensor spacing) -> Tensor",
        reference=reference.jacobian_determinant,
        fake=_fake_jacobian,
        samples=_jacobian_samples,
        setup_context=remember,
        backward=_jacobian_backward_formula,
        jvp=_jacobian_jvp,
        autocast="float32",
    )
)
_jacobian_folding: Op = register(
    OpSpec(
        name="_jacobian_folding",
        schema="(Tensor displacement, Tensor spacing) -> (Tensor, Tensor)",
        reference=reference.jacobian_folding,
        fake=_fake_folding,
        samples=_jacobian_samples,
        autocast="float32",
    )
)
_jacobian_backward: Op = register(
    OpSpec(
        name="_jacobian_backward",
        schema="(Tensor grad, Tensor displacement, Tensor spacing) -> Tensor",
        reference=reference.jacobian_backward,
        fake=_fake_same,
        samples=_jacobian_backward_samples,
        setup_context=remember,
        backward=_jacobian_backward_backward,
        jvp=_jacobian_backward_jvp,
        autocast="float32",
    )
)
_smoothness: Op = register(
    OpSpec(
        name="diffusion_smoothness_loss",
        schema="(Tensor displacement, Tensor spacing, str penalty) -> Tensor",
        reference=reference.smoothness,
        fake=_fake_smoothness,
        samples=_smoothness_samples,
        setup_context=remember,
        backward=_smoothness_backward_formula,
        jvp=_smoothness_jvp,
        autocast="float32",
    )
)
_smoothness_backward: Op = register(
    OpSpec(
        name="_diffusion_smoothness_loss_backward",
        schema="(Tensor grad, Tensor displacement, Tensor spacing, str penalty) -> Tensor",
        reference=reference.smoothness_backward,
        fake=_fake_same,
        samples=_smoothness_backward_samples,
        setup_context=remember,
        backward=_smoothness_backward_backward,
        jvp=_smoothness_backward_jvp,
        autocast="float32",
    )
)

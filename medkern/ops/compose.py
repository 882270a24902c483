"""Composition of displacement fields, and the integration of velocities by it.

    compose(u, v)(p) = v(p) + u(p + v(p))     so id + compose(u, v) = (id + u) after (id + v)

Source: Arsigny et al., MICCAI 2006 for scaling and squaring.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor
from medkern.ops.warp import (
    FLOATS,
    check_device,
    check_dtype,
    remember,
    warp_backward,
    warp_jvp,
    warp_samples,
)
from medkern.reference import warp as reference
from medkern.rules import at_least, choice
from medkern.rules import warp as rules


def compose(u: ArrayT, v: ArrayT, *, padding: str = "zeros", backend: str | None = None) -> ArrayT:
    """The displacement of (id + u) after (id + v): v(p) + u(p + v(p)).

    Warping by it is warping by u, then by v: warp(warp(I, u), v) = warp(I, compose(u, v)) but for
    one interpolation less.

    Args:
        u, v: [B, D, *space], D = 2 or 3 components in voxels, in the order of the axes; float16,
            bfloat16 (both computed in float32), float32, float64, the same for both.
        padding: what u is outside: "zeros": 0, as in VoxelMorph and MONAI; "border": as at the
            border; "reflection".
        backend: "native", "triton" or "reference"; None lets medkern choose.

    Returns:
        [B, D, *space], contiguous.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    One pass, linear interpolation. NaN, gradients and memory as `warp`.

    >>> import torch, medkern as mk
    >>> u, v = torch.full((1, 2, 4, 4), 1.0), torch.full((1, 2, 4, 4), -2.0)
    >>> mk.compose(u, v, padding="border")[0, :, 0, 0]
    tensor([-1., -1.])
    """
    op = "compose"
    choice(op, "padding", padding, rules.PADDINGS)
    first, restore = as_tensor(op, "u", u)
    second, _ = as_tensor(op, "v", v)
    rules.check_same_fields(op, first.shape, second.shape)
    check_dtype(op, "u", first, FLOATS)
    check_dtype(op, "v", second, (first.dtype,))
    check_device(op, "v", second, first, "u")
    return restore(_compose(first, second, padding, backend=backend))


def integrate_velocity(
    velocity: ArrayT, steps: int = 7, *, padding: str = "zeros", backend: str | None = None
) -> ArrayT:
    """The displacement at time 1 of points that follow a stationary velocity field.

    Scaling and squaring: u = velocity / 2^steps, then `steps` times u = compose(u, u).

    Args:
        velocity: [B, D, *space], D = 2 or 3 components in voxels per unit of time, in the order of
            the axes; dtypes as `compose`. Half precision loses digits in every step.
        steps: 0 returns the velocity. 7, as in VoxelMorph and MONAI, suits displacements of up to
            some ten voxels.
        padding, backend: as `compose`.

    Returns:
        The displacement [B, D, *space], contiguous.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    -velocity gives the inverse, up to interpolation. Gradients of any order through all steps; for
    them the field of every step is kept, `steps` times the memory of the velocity.

    >>> import torch, medkern as mk
    >>> velocity = torch.full((1, 2, 8, 8), 0.5)
    >>> mk.integrate_velocity(velocity, padding="border")[0, :, 4, 4]
    tensor([0.5000, 0.5000])
    """
    op = "integrate_velocity"
    at_least(op, "steps", steps, 0)
    choice(op, "padding", padding, rules.PADDINGS)
    v, restore = as_tensor(op, "velocity", velocity)
    rules.check_field(op, "velocity", v.shape)
    check_dtype(op, "velocity", v, FLOATS)
    u = v * 0.5**steps
    for _ in range(steps):
        u = _compose(u, u, padding, backend=backend)
    return restore(u.contiguous())


def _fake_compose(u: Tensor, v: Tensor, padding: str) -> Tensor:
    return u.new_empty(u.shape)


def _remember_compose(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    u, v, padding = inputs
    remember(ctx, (u, v, "linear", padding, False), output)


def _compose_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    d_u, d_v, *_ = warp_backward(ctx, grad)
    return d_u, None if d_v is None else grad + d_v, None


def _compose_jvp(ctx: Any, d_u: Any, d_v: Any, _: Any) -> Tensor:
    out = warp_jvp(ctx, d_u, d_v)
    return out if d_v is None else d_v + out


def _compose_samples(dtype: torch.dtype) -> Iterator[Sample]:
    names = ("contiguous", "transposed", "sliced", "expanded", "empty-batch", "size-1", "volume")
    for name, (image, u, *_) in ((s.name, s.args) for s in warp_samples(dtype)):
        if name in (*names, "channels_last"):
            axes = u.shape[1]
            moving = image[:, :axes] if image.shape[1] >= axes else image.expand_as(u)
            yield Sample(name, (moving, u, "border" if name == "sliced" else "zeros"))


_compose: Op = register(
    OpSpec(
        name="compose",
        schema="(Tensor u, Tensor v, str padding) -> Tensor",
        reference=reference.compose,
        fake=_fake_compose,
        samples=_compose_samples,
        setup_context=_remember_compose,
        backward=_compose_backward,
        jvp=_compose_jvp,
        autocast="widest",
        triton="medkern.kernels.warp:compose",
    )
)

"""The ops of image similarity, and how an op that is symmetric in two images is registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.reference import similarity as reference


def symmetric_op(
    name: str,
    parameters: str,
    forward: Callable[..., Tensor],
    backward: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    samples: Callable[[torch.dtype], Iterator[Sample]],
    swap: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> Op:
    """An op f(a, b, *how), and the op of its gradients.

    The latter is `backward`(a, b, grad, *how, both) -> [B, 1 or 2, C, *space]: the gradient in a
    and, if `both`, in b. f is symmetric, but that `swap` turns grad where a and b change places.
    All other derivatives are those of the reference.
    """
    types = [parameter.split()[0] for parameter in parameters.split(", ") if parameter]
    nothing = (None,) * len(types)
    listed = f", {parameters}" if parameters else ""

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [t for t in inputs if isinstance(t, Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.how = inputs[len(tensors) :]

    def pull(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        a, b = ctx.saved_tensors
        for_a, for_b = ctx.needs_input_grad[:2]
        if for_a:
            gradients = gradient(a, b, grad, *ctx.how, for_b)
            return gradients[:, 0], gradients[:, 1] if for_b else None, *nothing
        return None, gradient(b, a, swap(grad), *ctx.how, False)[:, 0], *nothing

    def push(ctx: Any, *tangents: Any) -> Tensor:
        return _push(lambda *t: forward(*t, *ctx.how), ctx.saved_tensors, tangents)

    def pull_gradient(ctx: Any, u: Tensor) -> tuple[Any, ...]:
        _, back, *_ = torch.func.vjp(lambda *t: backward(*t, *ctx.how), *ctx.saved_tensors)
        return *back(u), *nothing, None

    def push_gradient(ctx: Any, *tangents: Any) -> Tensor:
        return _push(lambda *t: backward(*t, *ctx.how), ctx.saved_tensors, tangents)

    def fake_gradient(a: Tensor, b: Tensor, grad: Tensor, *how: Any) -> Tensor:
        return a.new_empty(a.shape[0], 1 + how[-1], *a.shape[1:])

    def gradient_samples(dtype: torch.dtype) -> Iterator[Sample]:
        generator = torch.Generator().manual_seed(2)
        for i, sample in enumerate(samples(dtype)):
            out = fake(*sample.args)
            grad = torch.randn(out.shape, generator=generator).to(out.dtype)
            a, b, *how = sample.args
            yield Sample(sample.name, (a, b, grad, *how, i % 2 == 0))

    gradient = register(
        OpSpec(
            name=f"_{name}_backward",
            schema=f"(Tensor a, Tensor b, Tensor grad{listed}, bool both) -> Tensor",
            reference=backward,
            fake=fake_gradient,
            samples=gradient_samples,
            setup_context=remember,
            backward=pull_gradient,
            jvp=push_gradient,
            autocast="widest",
        )
    )
    return register(
        OpSpec(
            name=name,
            schema=f"(Tensor a, Tensor b{listed}) -> Tensor",
            reference=forward,
            fake=fake,
            samples=samples,
            setup_context=remember,
            backward=pull,
            jvp=push,
            autocast="widest",
        )
    )


def _push(f: Callable[..., Tensor], at: tuple[Tensor, ...], tangents: tuple[Any, ...]) -> Tensor:
    """The derivative of f along the tangents, as the transpose of its transpose: forward mode does
    not nest, and this runs inside it."""
    value, back, *_ = torch.func.vjp(f, *at)
    _, forth, *_ = torch.func.vjp(back, torch.zeros_like(value))
    along = tuple(
        torch.zeros_like(t) if d is None else d for t, d in zip(at, tangents, strict=False)
    )
    tangent: Tensor = forth(along)[0]
    return tangent


def _fake_local(
    a: Tensor, b: Tensor, window: int, eps: float, clamp: bool, squared: bool, per_voxel: bool
) -> Tensor:
    return a.new_empty(a.shape if per_voxel else a.shape[:2], dtype=reference.result_type(a))


def _fake_moments(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(*a.shape[:2], 3, dtype=reference.result_type(a))


def _fake_histogram(a: Tensor, b: Tensor, bins: int, sigma_ratio: float, spline: bool) -> Tensor:
    return a.new_empty(a.shape[0], bins, bins, dtype=reference.result_type(a))


def _pairs(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Related images in 0..1 of every kind of layout."""
    generator = torch.Generator().manual_seed(1)

    def image(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).mul(0.9).add(0.05)

    # Finite differences take the small ones; the others are too large for them.
    layouts: list[tuple[str, tuple[int, ...], Callable[[Tensor], Tensor]]] = [
        ("contiguous", (2, 2, 2, 3), lambda t: t),
        ("transposed", (2, 1, 19, 13), lambda t: t.transpose(2, 3)),
        ("sliced", (2, 3, 25, 22), lambda t: t[:, 1:, 1::2, :-1]),
        ("expanded", (1, 2, 1, 13), lambda t: t.expand(2, 2, 9, 13)),
        ("channels_last", (2, 3, 9, 5), lambda t: t.contiguous(memory_format=torch.channels_last)),
        ("empty-batch", (0, 3, 4, 4), lambda t: t),
        ("empty-channels", (2, 0, 4, 4), lambda t: t),
        ("size-2", (1, 1, 1, 2), lambda t: t),
        ("line", (1, 2, 7), lambda t: t),
        ("volume", (1, 1, 2, 2, 3), lambda t: t),
    ]
    for name, shape, lay_out in layouts:
        a = image(*shape)
        b = 0.5 * (a + image(*shape))
        yield name, lay_out(a.to(dtype)), lay_out(b.to(dtype))


def _local_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, (name, a, b) in enumerate(_pairs(dtype)):
        how = (1 + 2 * (1 + i % 3), 0.1, i % 2 == 0, i % 3 != 1, i % 4 == 1)
        yield Sample(name, (a, b, *how))


def _moments_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, a, b in _pairs(dtype):
        yield Sample(name, (a, b))


def _histogram_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, (name, a, b) in enumerate(_pairs(dtype)):
        yield Sample(name, (a, b, 6 + i, 0.5 + 0.3 * (i % 3), i % 3 == 1))


local_ncc: Op = symmetric_op(
    "local_ncc_loss",
    "int window, float eps, bool clamp, bool squared, bool per_voxel",
    reference.local_ncc,
    reference.local_ncc_backward,
    _fake_local,
    _local_samples,
)
global_ncc: Op = symmetric_op(
    "global_ncc",
    "",
    reference.joint_moments,
    reference.joint_moments_backward,
    _fake_moments,
    _moments_samples,
    swap=lambda grad: grad[..., [1, 0, 2]],
)
mutual_information: Op = symmetric_op(
    "mutual_information_loss",
    "int bins, float sigma_ratio, bool spline",
    reference.joint_histogram,
    reference.joint_histogram_backward,
    _fake_histogram,
    _histogram_samples,
    swap=lambda grad: grad.transpose(1, 2),
)

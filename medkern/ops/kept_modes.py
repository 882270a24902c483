"""The three ops that spectral convolutions are made of: to the kept modes, back, and their mixing.

Layouts as in medkern/reference/spectral.py. A derivative of any of them is made of the same three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern._registry import OPS, Op, OpSpec, Sample, register
from medkern.reference import spectral as reference

# The transforms are linear and each other's adjoint: a derivative is the same map of the tangent,
# the backward the other map. The mixing is linear in either argument, up to conjugation.


def _fake_dft(
    x: Tensor, modes: Sequence[int], grid: Sequence[int], weighted: bool, power: float, method: str
) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(*x.shape[:2], *modes, 2, dtype=dtype)


def _fake_idft(
    z: Tensor,
    size: Sequence[int],
    grid: Sequence[int],
    weighted: bool,
    power: float,
    dtype: torch.dtype,
    method: str,
) -> Tensor:
    return z.new_empty(*z.shape[:2], *size, dtype=dtype)


def _fake_mix(a: Tensor, b: Tensor, conj_a: bool, conj_b: bool) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[0], *a.shape[2:])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.shape, ctx.dtype = inputs[0].shape[2:], inputs[0].dtype
    ctx.constants = inputs[1:]


def _dft_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    _, grid, weighted, power, method = ctx.constants
    dx = _idft_kept(grad, ctx.shape, grid, weighted, power, ctx.dtype, method)
    return dx, *[None] * len(ctx.constants)


def _idft_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    _, grid, weighted, power, _, method = ctx.constants
    dz = _dft_kept(grad, ctx.shape[:-1], grid, weighted, power, method)
    return dz, *[None] * len(ctx.constants)


def _linear_jvp(name: str) -> Any:
    return lambda ctx, tangent, *_: OPS[name](tangent, *ctx.constants)


def _remember_factors(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    a, b, ctx.conj_a, ctx.conj_b = inputs
    ctx.save_for_backward(a, b)
    ctx.save_for_forward(a, b)


def _mix_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    a, b = ctx.saved_tensors
    same = ctx.conj_a == ctx.conj_b
    da = db = None
    if ctx.needs_input_grad[0]:
        da = _mode_mix(grad, b.transpose(0, 1), ctx.conj_a, same)
    if ctx.needs_input_grad[1]:
        turned, rows = grad.transpose(0, 1), a.transpose(0, 1)
        if b.stride(0) < b.stride(1):  # as weights [C_in, C_out, ...] come: the gradient too
            db = _mode_mix(rows, turned, same, ctx.conj_b).transpose(0, 1)
        else:
            db = _mode_mix(turned, rows, ctx.conj_b, same)
    return da, db, None, None


def _mix_jvp(ctx: Any, a_tangent: Any, b_tangent: Any, *_: Any) -> Any:
    a, b = ctx.saved_tensors
    terms = []
    if a_tangent is not None:
        terms.append(_mode_mix(a_tangent, b, ctx.conj_a, ctx.conj_b))
    if b_tangent is not None:
        terms.append(_mode_mix(a, b_tangent, ctx.conj_a, ctx.conj_b))
    return sum(terms[1:], terms[0])


def _layouts(dtype: torch.dtype, trailing: Sequence[int] = ()) -> Iterator[tuple[str, Tensor]]:
    """[B, C, *space, *trailing] of every kind of layout."""
    generator = torch.Generator().manual_seed(3)

    def image(*shape: int) -> Tensor:
        return torch.randn(*shape, *trailing, generator=generator, dtype=torch.float64).to(dtype)

    yield "contiguous", image(2, 3, 4, 6)
    yield "transposed", image(1, 2, 6, 5).transpose(2, 3)
    yield "sliced", image(2, 2, 7, 9)[:, 1:, 1:, :-1]
    yield "expanded", image(1, 2, 3, 1).expand(2, 2, 3, 4, *trailing)
    yield "channels_last", image(1, 4, 5, 3).movedim(-1 - len(trailing), 1)
    yield "empty-batch", image(0, 2, 4, 4)
    yield "size-1", image(1, 1, 1, 1)
    yield "line", image(2, 2, 9)
    yield "volume", image(1, 2, 4, 3, 6)


def _dft_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, (name, x) in enumerate(_layouts(dtype)):
        size = list(x.shape[2:])
        modes = [max(1, n - i % 2) for n in size[:-1]] + [size[-1] // 2 + 1]
        finer = [n + i % 3 for n in size]
        yield Sample(name, (x, modes, size, False, -0.5, "dft"))
        yield Sample(f"{name}-adjoint", (x, modes, finer, True, 0.0, "dft"))


def _idft_samples(dtype: torch.dtype) -> Iterator[Sample]:
    outputs = (dtype, torch.bfloat16, torch.float16)
    for i, (name, z) in enumerate(_layouts(dtype, (2,))):
        modes = list(z.shape[2:-1])
        size = [*modes[:-1], 2 * modes[-1] - 1 - i % 2]
        size = [max(n, 1) for n in size]
        grid = [n + (i + 1) % 2 for n in size]
        yield Sample(name, (z, size, size, True, -0.5, dtype, "dft"))
        out = dtype if dtype == torch.float64 else outputs[i % 3]
        yield Sample(f"{name}-resampled", (z, [n + 2 for n in size], grid, False, 0.0, out, "dft"))


def _mix_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(4)

    def planes(*shape: int) -> Tensor:
        return torch.randn(*shape, 2, generator=generator, dtype=torch.float64).to(dtype)

    yield Sample("contiguous", (planes(2, 3, 5), planes(4, 3, 5), False, False))
    yield Sample("transposed", (planes(3, 2, 7).transpose(0, 1), planes(4, 3, 7), True, False))
    yield Sample("sliced", (planes(5, 6, 9)[1::2, ::2, 1:], planes(2, 3, 8), False, True))
    yield Sample("expanded", (planes(1, 3, 20).expand(6, 3, 20, 2), planes(1, 3, 20), True, True))
    yield Sample("channels_last", (planes(2, 3, 4), planes(3, 2, 4).transpose(0, 1), False, False))
    yield Sample("empty-batch", (planes(0, 3, 5), planes(0, 3, 5), False, False))
    yield Sample("size-1", (planes(1, 1, 1), planes(1, 1, 1), False, False))
    yield Sample("long", (planes(3, 2, 70), planes(2, 2, 70), False, False))


_dft_kept: Op = register(
    OpSpec(
        name="_dft_kept",
        schema="(Tensor x, SymInt[] modes, SymInt[] grid, bool weighted, float power, str method)"
        " -> Tensor",
        reference=reference.dft_kept,
        fake=_fake_dft,
        samples=_dft_samples,
        setup_context=_remember,
        backward=_dft_backward,
        jvp=_linear_jvp("_dft_kept"),
        fused=True,
    )
)
_idft_kept: Op = register(
    OpSpec(
        name="_idft_kept",
        schema="(Tensor z, SymInt[] size, SymInt[] grid, bool weighted, float power,"
        " ScalarType dtype, str method) -> Tensor",
        reference=reference.idft_kept,
        fake=_fake_idft,
        samples=_idft_samples,
        setup_context=_remember,
        backward=_idft_backward,
        jvp=_linear_jvp("_idft_kept"),
        autocast="float32",
        dtypes=(torch.float32, torch.float64),
        fused=True,
    )
)
_mode_mix: Op = register(
    OpSpec(
        name="_mode_mix",
        schema="(Tensor a, Tensor b, bool conj_a, bool conj_b) -> Tensor",
        reference=reference.mode_mix,
        fake=_fake_mix,
        samples=_mix_samples,
        setup_context=_remember_factors,
        backward=_mix_backward,
        jvp=_mix_jvp,
        autocast="widest",
        dtypes=(torch.float32, torch.float64),
        fold=False,
        fused=True,
    )
)

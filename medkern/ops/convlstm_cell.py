"""One step of a ConvLSTM: the fused gates, and the checks that a sequence shares with a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops._by_reference import beyond_first_order, pull_back, push_forward
from medkern.reference import convlstm as reference
from medkern.rules import convlstm as rules
from medkern.rules import message
from medkern.testing import image_layouts

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def convlstm_gates(
    gates_x: ArrayT,
    gates_h: ArrayT | None,
    c: ArrayT,
    *,
    peephole: ArrayT | None = None,
    backend: str | None = None,
) -> tuple[ArrayT, ArrayT]:
    """The next h and c of a ConvLSTM from its pre-activations, in one pass.

    Args:
        gates_x: [B, 4 C, *space], the part of the input and the bias; the gates i, f, o, g follow
            one another along axis 1. float16, bfloat16, float32 or float64.
        gates_h: the part of the hidden state, or None where gates_x holds the sum.
        c: [B, C, *space], the cell state: float64 for float64 gates, else float32.
        peephole: [3, C] or [3, C, *space]: weights of the old c in i and f, and of the new in o.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        (h, c): h in the dtype of the gates, c in that of the state, in the layout of gates_x.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Computed in float32 for half precision. sigmoid and tanh are right to 3 units in the last place,
    the same bits for every number of threads. Infinite pre-activations saturate their gate; NaN
    stays in its voxel. Gradients of any order: the first is a kernel that reads the inputs again,
    later ones are torch's of the reference. Allocates the results and nothing else; 13 numbers per
    voxel and channel are moved.

    >>> import torch, medkern as mk
    >>> h, c = mk.convlstm_gates(torch.zeros(1, 4, 2), None, torch.ones(1, 1, 2))
    >>> c, h  # 1/2 c, and 1/2 tanh(c)
    (tensor([[[0.5000, 0.5000]]]), tensor([[[0.2311, 0.2311]]]))
    """
    op = "convlstm_gates"
    x, restore = as_tensor(op, "gates_x", gates_x)
    h = None if gates_h is None else as_tensor(op, "gates_h", gates_h)[0]
    state = as_tensor(op, "c", c)[0]
    p = None if peephole is None else as_tensor(op, "peephole", peephole)[0]
    given = {"gates_x": x, "gates_h": h, "c": state, "peephole": p}
    check_kinds(op, given, x)
    rules.gate_shapes(op, x.shape, shape_of(h), state.shape, shape_of(p))
    if p is not None:
        p = spread(p, state.dim() - 2).expand(state.shape[0], 3, *state.shape[1:])
    new_h, new_c = _convlstm_gates(x, h, state, p, backend=backend)
    return restore(new_h), restore(new_c)


def shape_of(t: Tensor | None) -> tuple[int, ...] | None:
    return None if t is None else tuple(t.shape)


def spread(peephole: Tensor, axes: int) -> Tensor:
    """[3, C] as [3, C, 1, ...]."""
    return peephole.reshape(*peephole.shape, *[1] * (axes + 2 - peephole.dim()))


def check_kinds(op: str, given: dict[str, Tensor | None], first: Tensor) -> None:
    for name, t in given.items():
        if t is None:
            continue
        if t.dtype not in FLOATS:
            rule = f"be one of {', '.join(map(dtype_name, FLOATS))}"
            remedy = f"convert it, for example {name}.float()"
            raise TypeError(message(op, name, rule, dtype_name(t.dtype), remedy))
        if t.device != first.device:
            rule = f"be on the device of {next(iter(given))}, {first.device}"
            raise ValueError(message(op, name, rule, t.device, "move one of them"))


def _like(t: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """[B, channels, *space of t] in the layout of t."""
    batch, given, *space = t.shape
    if given > 1 and t.stride(1) == 1 and t.stride(-1) != 1:  # channels_last
        return t.new_empty(batch, *space, channels, dtype=dtype).movedim(-1, 1)
    return t.new_empty(batch, channels, *space, dtype=dtype)


def _gate_dtype(gates_x: Tensor, gates_h: Tensor | None) -> torch.dtype:
    return gates_x.dtype if gates_h is None else torch.promote_types(gates_x.dtype, gates_h.dtype)


def fake_gates(
    gates_x: Tensor, gates_h: Tensor | None, c: Tensor, peephole: Tensor | None
) -> tuple[Tensor, Tensor]:
    dtype, hidden = _gate_dtype(gates_x, gates_h), gates_x.shape[1] // 4
    state = reference.state_dtype(dtype)
    return _like(gates_x, hidden, dtype), _like(gates_x, hidden, state)


def fake_gates_backward(
    gates_x: Tensor,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    gates_h: Tensor | None,
    c: Tensor,
    peephole: Tensor | None,
) -> tuple[Tensor, Tensor]:
    dtype = _gate_dtype(gates_x, gates_h)
    state = reference.state_dtype(dtype)
    channels = gates_x.shape[1]
    return _like(gates_x, channels, dtype), _like(gates_x, channels // 4, state)


def _remember_gates(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.save_for_forward(*inputs)
    ctx.set_materialize_grads(False)


def _gates_backward(ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None) -> tuple[Any, ...]:
    gates_x, gates_h, c, peephole = args = ctx.saved_tensors
    if beyond_first_order():
        return pull_back(reference.convlstm_gates, args, (grad_h, grad_c))
    d_gates, d_c = _convlstm_gates_backward(gates_x, grad_h, grad_c, gates_h, c, peephole)
    d_peephole = None
    if peephole is not None and ctx.needs_input_grad[3]:
        _, after = _convlstm_gates(*args)
        d_i, d_f, d_o, _ = d_gates.to(d_c.dtype).chunk(4, 1)
        d_peephole = torch.stack([d_i * c, d_f * c, d_o * after], 1).to(peephole.dtype)
    return (
        d_gates.to(gates_x.dtype),
        None if gates_h is None else d_gates.to(gates_h.dtype),
        d_c.to(c.dtype),
        d_peephole,
    )


def _gates_jvp(ctx: Any, *tangents: Any) -> tuple[Any, ...]:
    return push_forward(reference.convlstm_gates, ctx.saved_tensors, tangents, 2)


def _gates_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Every layout of the gates; half of them in two parts, half with peepholes."""
    generator = torch.Generator().manual_seed(7)
    wide = reference.state_dtype(dtype)
    for i, (name, x, _) in enumerate(image_layouts(dtype)):
        if name in ("wide", "batch-transposed", "empty-channels", "channels_last-many"):
            continue
        gates_x = torch.cat([x] * 4, 1) if "expanded" not in name else x[:, :1].expand(2, 4, 5, 5)
        if "channels_last" in name:
            gates_x = gates_x.contiguous(memory_format=_channels_last(gates_x))
        batch, channels, *space = gates_x.shape
        c = torch.randn(batch, channels // 4, *space, generator=generator).to(wide)
        gates_h = None if i % 2 else torch.randn(gates_x.shape, generator=generator).to(dtype)
        peephole = None
        if i % 3 == 2:
            peephole = torch.randn(1, 3, channels // 4, *[1] * len(space), generator=generator)
            peephole = peephole.to(wide).expand(batch, 3, channels // 4, *space)
        yield Sample(name, (gates_x, gates_h, c, peephole))


def _channels_last(t: Tensor) -> torch.memory_format:
    return torch.channels_last if t.dim() == 4 else torch.channels_last_3d


def _gates_backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(8)
    for i, sample in enumerate(_gates_samples(dtype)):
        gates_x, gates_h, c, peephole = sample.args
        grad_h = torch.randn(c.shape, generator=generator).to(dtype) if i % 4 != 1 else None
        grad_c = torch.randn(c.shape, generator=generator).to(c.dtype) if i % 4 != 2 else None
        yield Sample(sample.name, (gates_x, grad_h, grad_c, gates_h, c, peephole))


_convlstm_gates: Op = register(
    OpSpec(
        name="convlstm_gates",
        schema="(Tensor gates_x, Tensor? gates_h, Tensor c, Tensor? peephole) -> (Tensor, Tensor)",
        reference=reference.convlstm_gates,
        fake=fake_gates,
        samples=_gates_samples,
        setup_context=_remember_gates,
        backward=_gates_backward,
        jvp=_gates_jvp,
        triton="medkern.kernels.convlstm:convlstm_gates",
    )
)
_convlstm_gates_backward: Op = register(
    OpSpec(
        name="_convlstm_gates_backward",
        schema="(Tensor gates_x, Tensor? grad_h, Tensor? grad_c, Tensor? gates_h, Tensor c, "
        "Tensor? peephole) -> (Tensor, Tensor)",
        reference=reference.convlstm_gates_backward,
        fake=fake_gates_backward,
        samples=_gates_backward_samples,
        triton="medkern.kernels.convlstm:convlstm_gates_backward",
    )
)

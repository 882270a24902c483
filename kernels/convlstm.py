"""The gates of a ConvLSTM on Triton, forward and backward: one pass over memory.

From the pre-activations a of the gates i, f, o, g, in one or two summands, and the cell c,

    c' = sigmoid(a_f) c + sigmoid(a_i) tanh(a_g)      h = sigmoid(a_o) tanh(c')

with optional peepholes: see csrc/core/convlstm.hpp, whose definition this is. The steps of a
sequence write into the tensors of its loop, among them a running sum of h, in place.

Shapes:      gates [B, 4 C, *space], states [B, C, *space], peepholes [B, 3, C, *space].
Strides:     any; a sample that is neither contiguous nor channels_last is copied first. Lanes run
             over all elements of a sample's state in the order of its memory, so that every access
             but that of peepholes is contiguous.
Arithmetic:  float16, bfloat16 and float32 in float32, float64 in float64; tanh is right to a few
             units in the last place of its value. Addresses in int64.
Cost:        forward reads 9 numbers per element and writes 2, 7 in all where the gates are one
             summand; backward 16 at the most. No temporaries, no atomics.

`LAUNCHERS` take what the ops in medkern/ops/convlstm_cell.py take, and allocate as their fakes.
"""

# Triton has no stubs, and infers the types of device functions itself.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: disable-error-code="assignment, import-untyped, import-not-found"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medkern.kernels import _runtime
from medkern.kernels._compile import Variant
from medkern.kernels._runtime import NAMES, jit, tl, triton, why_not  # noqa: F401

WARPS = 4


@jit()
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@jit()
def _tanh(x):
    """Near 0, where the exponential would cancel, a convergent of tanh's continued fraction."""
    z = x * x
    near = x * (135135 + z * (17325 + z * (378 + z))) / (135135 + z * (62370 + z * (3150 + 28 * z)))
    far = 1 - 2 / (tl.exp(2 * x) + 1)
    return tl.where(tl.abs(x) < 0.5, near, far)


@jit()
def _load(pointer, offset, here, ACC: tl.constexpr):
    return tl.load(pointer + offset, mask=here, other=0).to(ACC)


@jit()
def _place(hidden, voxels, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr):
    """This program's sample and elements of its state: (batch, offset, of gate i, stride of the
    gates, channel, voxel, which exist)."""
    state = tl.cast(hidden, tl.int64) * voxels
    program = tl.program_id(0).to(tl.int64)
    tiles = (state + (BLOCK - 1)) // BLOCK
    n = program % tiles * BLOCK + tl.arange(0, BLOCK)
    if CHANNELS_LAST:
        voxel = n // hidden
        channel = n - voxel * hidden
        gate = n + 3 * tl.cast(hidden, tl.int64) * voxel
        between = tl.cast(hidden, tl.int64)
    else:
        channel = n // voxels
        voxel = n - channel * voxels
        gate = n
        between = state
    return program // tiles, n, gate, between, channel, voxel, n < state


@jit()
def _pre_activations(gates_x, gates_h, x_offset, h_offset, between, here, ACC: tl.constexpr):
    a = ()
    for j in tl.static_range(4):
        value = _load(gates_x, x_offset + j * between, here, ACC)
        if gates_h is not None:
            value += _load(gates_h, h_offset + j * between, here, ACC)
        a = a + (value,)  # noqa: RUF005
    return a


@jit()
def _peepholes(peephole, offset, gate, here, ACC: tl.constexpr):
    """The weights in i, f and o."""
    stride = tl.cast(gate, tl.int64)
    p_i = _load(peephole, offset, here, ACC)
    p_f = _load(peephole, offset + stride, here, ACC)
    return p_i, p_f, _load(peephole, offset + 2 * stride, here, ACC)


@jit()
def _cell(a, old, p):
    """i, f, o, g, the new c and its tanh; p holds the peepholes, or zeros."""
    i = _sigmoid(a[0] + p[0] * old)
    f = _sigmoid(a[1] + p[1] * old)
    g = _tanh(a[3])
    new = f * old + i * g
    return i, f, _sigmoid(a[2] + p[2] * new), g, new, _tanh(new)


# Arguments of both: tensors, or None; the sizes of a sample; then strides, that of the batch for
# each tensor. Inside a sample all but peepholes are dense, the channels innermost or outermost.


@jit()
def gates_fwd_kernel(
    gates_x,
    gates_h,
    c,
    peephole,
    h,
    c_out,
    pre,
    total,
    hidden,
    voxels,
    gates_x_batch,
    gates_h_batch,
    c_batch,
    peephole_batch,
    peephole_gate,
    peephole_channel,
    peephole_voxel,
    h_batch,
    c_out_batch,
    pre_batch,
    total_batch,
    CHANNELS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, n, gate, between, channel, voxel, here = _place(hidden, voxels, CHANNELS_LAST, BLOCK)
    x_offset = b * gates_x_batch + gate
    h_offset = b * gates_h_batch + gate
    a = _pre_activations(gates_x, gates_h, x_offset, h_offset, between, here, ACC)
    old = tl.zeros([BLOCK], ACC)
    p = (old, old, old)
    if c is not None:
        old = _load(c, b * c_batch + n, here, ACC)
    if peephole is not None:
        offset = b * peephole_batch + channel * peephole_channel + voxel * peephole_voxel
        p = _peepholes(peephole, offset, peephole_gate, here, ACC)
    _, _, o, _, new, s = _cell(a, old, p)
    if pre is not None:
        for j in tl.static_range(4):
            tl.store(pre + (b * pre_batch + gate + j * between), a[j], mask=here)
    tl.store(h + (b * h_batch + n), o * s, mask=here)
    tl.store(c_out + (b * c_out_batch + n), new, mask=here)
    if total is not None:
        at = b * total_batch + n
        tl.store(total + at, _load(total, at, here, ACC) + o * s, mask=here)


@jit()
def gates_bwd_kernel(
    gates_x,
    gates_h,
    c,
    peephole,
    grad_h,
    grad_h2,
    grad_c,
    d_gates,
    d_c,
    h,
    hidden,
    voxels,
    gates_x_batch,
    gates_h_batch,
    c_batch,
    peephole_batch,
    peephole_gate,
    peephole_channel,
    peephole_voxel,
    grad_h_batch,
    grad_h2_batch,
    grad_c_batch,
    d_gates_batch,
    d_c_batch,
    h_batch,
    CHANNELS_LAST: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, n, gate, between, channel, voxel, here = _place(hidden, voxels, CHANNELS_LAST, BLOCK)
    x_offset = b * gates_x_batch + gate
    h_offset = b * gates_h_batch + gate
    a = _pre_activations(gates_x, gates_h, x_offset, h_offset, between, here, ACC)
    old = tl.zeros([BLOCK], ACC)
    d_h = old
    d_new = old
    p = (old, old, old)
    if c is not None:
        old = _load(c, b * c_batch + n, here, ACC)
    if peephole is not None:
        offset = b * peephole_batch + channel * peephole_channel + voxel * peephole_voxel
        p = _peepholes(peephole, offset, peephole_gate, here, ACC)
    if grad_h is not None:
        d_h = _load(grad_h, b * grad_h_batch + n, here, ACC)
    if grad_h2 is not None:
        d_h += _load(grad_h2, b * grad_h2_batch + n, here, ACC)
    if grad_c is not None:
        d_new = _load(grad_c, b * grad_c_batch + n, here, ACC)
    i, f, o, g, _, s = _cell(a, old, p)
    d_o = d_h * s * (o * (1 - o))
    d_new += d_h * (o * (1 - s * s)) + d_o * p[2]
    d_i = d_new * g * (i * (1 - i))
    d_f = d_new * old * (f * (1 - f))
    at = b * d_gates_batch + gate
    tl.store(d_gates + at, d_i, mask=here)
    tl.store(d_gates + (at + between), d_f, mask=here)
    tl.store(d_gates + (at + 2 * between), d_o, mask=here)
    tl.store(d_gates + (at + 3 * between), d_new * i * (1 - g * g), mask=here)
    tl.store(d_c + (b * d_c_batch + n), d_new * f + (d_i * p[0] + d_f * p[1]), mask=here)
    if h is not None:
        tl.store(h + (b * h_batch + n), o * s, mask=here)


def _is_dense(t: Tensor, channels_last: bool) -> bool:
    sample = t.movedim(1, -1) if channels_last else t
    return t.shape[0] == 0 or sample[0].is_contiguous()


def _dense(t: Tensor | None, channels_last: bool) -> Tensor | None:
    """An input as the kernels take it: a copy where its samples are not dense."""
    if t is None or _is_dense(t, channels_last):
        return t
    return t.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else t.contiguous()


def block_of(itemsize: int) -> int:
    """Elements per program: 16 bytes of each tensor of the gates per thread."""
    return 32 * WARPS * max(16 // max(itemsize, 4), 2)


def arguments(
    gates_x: Tensor, tensors: tuple[Tensor | None, ...], peephole: Tensor | None, after: int
) -> tuple[int, tuple[int | Tensor | None, ...], dict[str, Any]]:
    """(number of programs, arguments, options), with the peephole `after` so many tensors."""
    batch, channels, *space = gates_x.shape
    hidden, voxels = channels // 4, torch.Size(space).numel()
    wide = torch.float64 in (t.dtype for t in tensors if t is not None)
    strides: list[int] = [0 if t is None else t.stride(0) for t in tensors]
    spread = (0, 0, 0, 0)
    if peephole is not None:
        peephole = peephole.flatten(3)
        spread = tuple(peephole.stride())
    channels_last = _is_channels_last(gates_x)
    block = block_of(gates_x.element_size())
    options = {
        "CHANNELS_LAST": channels_last,
        "ACC": tl.float64 if wide else tl.float32,
        "BLOCK": block,
        "num_warps": WARPS,
    }
    pointers = (*tensors[:after], peephole, *tensors[after:])
    numbers = (hidden, voxels, *strides[:after], *spread, *strides[after:])
    return batch * -(-hidden * voxels // block), (*pointers, *numbers), options


def _is_channels_last(t: Tensor) -> bool:
    return bool(t.shape[1] > 1 and t.stride(1) == 1 and t.stride(-1) != 1)


def _run(
    kernel: Any,
    gates_x: Tensor,
    inputs: tuple[Tensor | None, ...],
    outputs: tuple[Tensor | None, ...],
    peephole: Tensor | None,
) -> None:
    """Launch over gates_x, then `inputs` with the peephole after the second, then `outputs`."""
    _runtime.check("convlstm", gates_x, *inputs, *outputs, peephole)
    batch, _, *space = gates_x.shape
    for t in (*inputs, *outputs):
        if t is not None and (t.shape[0] != batch or list(t.shape[2:]) != space):
            shapes = f"{tuple(gates_x.shape)} and {tuple(t.shape)}"
            raise ValueError(f"medkern.kernels.convlstm: shapes do not fit: {shapes}")
    last = _is_channels_last(gates_x)
    if any(t is not None and not _is_dense(t, last) for t in outputs):
        raise ValueError("medkern.kernels.convlstm: an output must be dense like the gates")
    if gates_x.numel() == 0:
        return
    given = tuple(_dense(t, last) for t in (gates_x, *inputs))
    programs, positional, options = arguments(gates_x, (*given, *outputs), peephole, 3)
    with torch.cuda.device_of(gates_x):
        kernel[(programs,)](*positional, **options)


def convlstm_gates(
    gates_x: Tensor, gates_h: Tensor | None, c: Tensor, peephole: Tensor | None
) -> tuple[Tensor, Tensor]:
    h, c_out = _ops().fake_gates(gates_x, gates_h, c, peephole)
    _run(gates_fwd_kernel, gates_x, (gates_h, c), (h, c_out, None, None), peephole)
    return h, c_out


def convlstm_gates_backward(
    gates_x: Tensor,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    gates_h: Tensor | None,
    c: Tensor,
    peephole: Tensor | None,
) -> tuple[Tensor, Tensor]:
    d_gates, d_c = _ops().fake_gates_backward(gates_x, grad_h, grad_c, gates_h, c, peephole)
    inputs = (gates_h, c, grad_h, None, grad_c)
    _run(gates_bwd_kernel, gates_x, inputs, (d_gates, d_c, None), peephole)
    return d_gates, d_c


def step_(
    gates_x: Tensor,
    gates_h: Tensor | None,
    c: Tensor | None,
    peephole: Tensor | None,
    h: Tensor,
    c_out: Tensor,
    pre: Tensor | None,
    total: Tensor | None,
) -> None:
    """One step of a sequence, as `medkern._convlstm_step_`; c may be c_out, and pre gates_x."""
    _run(gates_fwd_kernel, gates_x, (gates_h, c), (h, c_out, pre, total), peephole)


def step_backward_(
    pre: Tensor,
    grad_h: Tensor | None,
    grad_h2: Tensor | None,
    c: Tensor | None,
    peephole: Tensor | None,
    d_c: Tensor,
    d_gates: Tensor,
    h: Tensor | None,
) -> None:
    """One step back, as `medkern._convlstm_step_backward_`: d_c is read and written."""
    _run(gates_bwd_kernel, pre, (None, c, grad_h, grad_h2, d_c), (d_gates, d_c, h), peephole)


def _ops() -> Any:
    """The ops, whose fakes allocate; not imported above, as they may import this."""
    from medkern.ops import convlstm_cell

    return convlstm_cell


# The kernel of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "convlstm_gates": convlstm_gates,
    "_convlstm_gates_backward": convlstm_gates_backward,
}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    dtype: torch.dtype
    shape: tuple[int, ...]  # of the state
    channels_last: bool = False
    split: bool = True  # gates in two summands
    peephole: bool = False
    in_loop: bool = False  # with all that a step of a sequence reads and writes
    adjoint: bool = False


_PLANE, _ODD_PLANE = (4, 64, 64, 80), (2, 7, 33, 35)

AOT_VARIANTS: dict[str, Case] = {
    f"{'bwd' if adjoint else 'fwd'}-{name}": case._replace(adjoint=adjoint)
    for adjoint in (False, True)
    for name, case in {
        "split": Case(torch.float32, _PLANE),
        "joint-half": Case(torch.float16, _PLANE, split=False),
        "loop": Case(torch.float32, _PLANE, in_loop=True),
        "loop-bf16": Case(torch.bfloat16, _PLANE, in_loop=True),
        "channels-last": Case(torch.float32, _PLANE, channels_last=True, in_loop=True),
        "peephole": Case(torch.float32, _PLANE, peephole=True),
        "double": Case(torch.float64, _PLANE, peephole=True, in_loop=True),
        "odd": Case(torch.float32, _ODD_PLANE),
    }.items()
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launchers."""
    batch, hidden, *space = case.shape
    state = torch.float64 if case.dtype == torch.float64 else torch.float32

    def tensor(channels: int, dtype: torch.dtype) -> Tensor:
        if case.channels_last:
            return torch.empty(batch, *space, channels, dtype=dtype, device="meta").movedim(-1, 1)
        return torch.empty(batch, channels, *space, dtype=dtype, device="meta")

    gates, h, c = tensor(4 * hidden, case.dtype), tensor(hidden, case.dtype), tensor(hidden, state)
    other = gates if case.split else None
    peephole = None
    if case.peephole:
        peephole = torch.empty(1, 3, hidden, *[1] * len(space), dtype=state, device="meta")
        peephole = peephole.expand(batch, 3, hidden, *space)
    looped = (lambda t: t) if case.in_loop else (lambda t: None)
    if case.adjoint:
        kernel, tensors = gates_bwd_kernel, (other, c, h, looped(h), c, gates, c, looped(h))
    else:
        kernel, tensors = gates_fwd_kernel, (other, c, h, c, looped(gates), looped(c))
    _, positional, options = arguments(gates, (gates, *tensors), peephole, 3)
    constexprs, signature, aligned = dict(options), {}, []
    del constexprs["num_warps"]
    for name, value in zip(kernel.arg_names, positional, strict=False):
        if value is None or (isinstance(value, int) and value == 1):
            constexprs[name] = value
            continue
        if isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
        if isinstance(value, Tensor) or value % 16 == 0:
            aligned.append(name)
    return Variant(kernel, signature, constexprs, tuple(aligned), {"num_warps": WARPS})

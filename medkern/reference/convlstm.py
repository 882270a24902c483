"""The ConvLSTM, as written in the papers.

Shi et al., "Convolutional LSTM network", NeurIPS 2015, with optional peepholes; the sums over time
of SISOM and DIDOM are equations 7 and 8 of SpecSlice-ConvLSTM (Hu et al.). The gates are in the
order i, f, o, g. Half precision is computed in float32, which also is the dtype of its cell state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def convlstm_gates(
    gates_x: Tensor, gates_h: Tensor | None, c: Tensor, peephole: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The next h and c from the pre-activations [B, 4 C, *space] and c [B, C, *space].

    peephole [B, 3, C, *space] multiplies the old c in i and f, and the new one in o.
    """
    dtype = gates_x.dtype if gates_h is None else torch.promote_types(gates_x.dtype, gates_h.dtype)
    wide = state_dtype(dtype)
    a = gates_x.to(wide) if gates_h is None else gates_x.to(wide) + gates_h.to(wide)
    c = c.to(wide)
    a_i, a_f, a_o, a_g = a.chunk(4, 1)
    if peephole is not None:
        p_i, p_f, p_o = peephole.to(wide).unbind(1)
        a_i, a_f = a_i + p_i * c, a_f + p_f * c
    i, f, g = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh()
    c = f * c + i * g
    if peephole is not None:
        a_o = a_o + p_o * c
    h = a_o.sigmoid() * c.tanh()
    return h.to(dtype), c


def convlstm_gates_backward(
    gates_x: Tensor,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    gates_h: Tensor | None,
    c: Tensor,
    peephole: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradients of the pre-activations and of the old c."""
    dtype = gates_x.dtype if gates_h is None else torch.promote_types(gates_x.dtype, gates_h.dtype)
    wide = state_dtype(dtype)
    a = gates_x.to(wide) if gates_h is None else gates_x.to(wide) + gates_h.to(wide)
    old = c.to(wide)
    a_i, a_f, a_o, a_g = a.chunk(4, 1)
    p_i, p_f, p_o = (0.0, 0.0, 0.0) if peephole is None else peephole.to(wide).unbind(1)
    i, f, g = (a_i + p_i * old).sigmoid(), (a_f + p_f * old).sigmoid(), a_g.tanh()
    new = f * old + i * g
    o, s = (a_o + p_o * new).sigmoid(), new.tanh()
    d_h = torch.zeros_like(new) if grad_h is None else grad_h.to(wide)
    d_o = d_h * s * o * (1 - o)
    d_new = d_h * o * (1 - s * s) + d_o * p_o
    if grad_c is not None:
        d_new = d_new + grad_c.to(wide)
    d_i, d_f = d_new * g * i * (1 - i), d_new * old * f * (1 - f)
    d_gates = torch.cat([d_i, d_f, d_o, d_new * i * (1 - g * g)], dim=1)
    return d_gates.to(dtype), d_new * f + d_i * p_i + d_f * p_f


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Sequence[int], padding_mode: str
) -> Tensor:
    """The convolution that keeps the size of x [N, C, *space]."""
    reach = [size // 2 * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
    conv = CONVOLUTIONS[x.dim() - 2]
    if padding_mode == "zeros":
        return conv(x, weight, bias, padding=reach, dilation=list(dilation))
    margins = [r for r in reversed(reach) for _ in range(2)]
    return conv(functional.pad(x, margins, padding_mode), weight, bias, dilation=list(dilation))


def convlstm(
    x: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    b: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    peephole: Tensor | None,
    lengths: Tensor | None,
    reduce: str,
    direction: str,
    dilation: Sequence[int],
    padding_mode: str,
    algorithm: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Steps of `convlstm_gates` over x [B, T, C, *space].

    h0, c0 and the last states are [B, directions, hidden, *space]; peephole is [3, hidden, *space],
    or ones for the space. With `save` also the pre-activations [directions, B, T, 4 hidden, *space]
    and the cells [directions, B, T, hidden, *space] of every step, else two empty tensors.
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, w_x.dtype), w_h.dtype)
    wide = state_dtype(dtype)
    batch, steps, _, *space = x.shape
    hidden = w_h.shape[1]
    weight, bias = w_h.to(wide), None if b is None else b.to(wide)
    flat = convolution(x.flatten(0, 1).to(wide), w_x.to(wide), bias, dilation, padding_mode)
    gates_x = flat.unflatten(0, (batch, steps))  # [B, T, 4 hidden, *space]
    if peephole is not None:
        peephole = peephole.expand(batch, 3, hidden, *space)
    runs = []
    for d, backwards in enumerate(directions_of(direction)):
        zero = gates_x.new_zeros(batch, hidden, *space)
        h = zero if h0 is None else h0[:, d].to(wide)
        c = zero if c0 is None else c0[:, d].to(wide)
        hs, gates, cells = [zero] * steps, [zero] * steps, [zero] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            gates[t] = gates_x[:, t] + convolution(h, weight, None, dilation, padding_mode)
            new_h, new_c = convlstm_gates(gates[t], None, c, peephole)
            running = is_running(lengths, t, c)
            h, c = torch.where(running, new_h, h), torch.where(running, new_c, c)
            hs[t], cells[t] = torch.where(running, h, 0), c
        stacks = torch.stack(hs, 1), torch.stack(gates, 1), torch.stack(cells, 1)
        runs.append((h, c, *stacks))
    h, c, states, pre, kept = (torch.stack(parts) for parts in zip(*runs, strict=True))
    out = reduced(states.sum(0), h.sum(0), lengths, reduce)
    saved = (pre.to(dtype), kept) if save else (x.new_empty(0, dtype=dtype), c.new_empty(0))
    return out.to(dtype), h.transpose(0, 1).to(dtype), c.transpose(0, 1), *saved


def directions_of(direction: str) -> list[bool]:
    """Whether each direction of the batch runs backwards."""
    return {"forward": [False], "backward": [True], "both": [False, True]}[direction]


def is_running(lengths: Tensor | None, t: int, like: Tensor) -> Tensor:
    """Whether step t is inside each sample's length [B, 1, ...]; outside, states stay."""
    if lengths is None:
        return torch.ones((), dtype=torch.bool, device=like.device)
    return (t < lengths).reshape(-1, *[1] * (like.dim() - 1))


def reduced(states: Tensor, last: Tensor, lengths: Tensor | None, reduce: str) -> Tensor:
    """From the states [B, T, C, *space], zero outside the lengths, and the last one."""
    if reduce == "none":
        return states
    if reduce == "last":
        return last
    total = states.sum(1)
    return total if reduce == "sum" else total / counts(lengths, states.shape[1], total)


def counts(lengths: Tensor | None, steps: int, like: Tensor) -> Tensor | int:
    """How many steps each sample has, at least 1: the denominator of the mean."""
    if lengths is None:
        return steps
    most = lengths.clamp(1, steps).to(like.dtype)
    return most.reshape(-1, *[1] * (like.dim() - 1))

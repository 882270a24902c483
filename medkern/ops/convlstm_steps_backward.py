"""The backward loop of the ConvLSTM: see convlstm_steps for what it has in common with the forward.

A step undoes the gates and convolves their gradients to that of the hidden state before; the
gradients of the input and of all weights follow for all steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from medkern.ops.convlstm_steps import FUSED, Problem, Steps, as_images
from medkern.reference import convlstm as reference

Grads = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def backward(
    x: Tensor,
    grad_out: Tensor | None,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    w_x: Tensor,
    w_h: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    peephole: Tensor | None,
    lengths: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    reduce: str,
    direction: str,
    dilation: Sequence[int],
    padding_mode: str,
    algorithm: str,
    needs: Sequence[bool],
    steps: Steps = FUSED,
) -> Grads:
    """The gradients of x, w_x, w_h, b, h0, c0 and peephole; empty where `needs` is False."""
    s = Problem(x, w_x, w_h, peephole, lengths, direction, dilation, padding_mode)
    run = _BackwardRun(s, gates, cells, h0, c0, steps)
    run.start(grad_out, grad_h, grad_c, reduce)
    for step in reversed(range(s.steps)):
        run.step(step, carry=step > 0 or needs[4])
    shared = run.d_gates.sum(0) if len(s.backwards) > 1 else run.d_gates[0]
    (weight_x, weight_h), images = s.weights(), as_images(x, s.dtype, last=s.last)
    needs_x = (needs[0], needs[1], needs[3])
    d_x, d_wx, d_b = _pull_back(s, shared.flatten(0, 1), images, weight_x, needs_x)
    inputs, d_gates = run.inputs.flatten(0, 2), run.d_gates.flatten(0, 2)
    _, d_wh, _ = _pull_back(s, d_gates, inputs, weight_h, (False, needs[2], False))
    if d_x is not None:
        whole = s.empty((s.batch, s.steps), x.shape[2], x.dtype)
        d_x = whole.copy_(d_x.unflatten(0, (s.batch, s.steps)))
    d_h0 = None if run.d_h is None else s.part(run.d_h)
    found = (
        d_x,
        None if d_wx is None else d_wx.contiguous(),
        None if d_wh is None else d_wh.contiguous(),
        d_b,
        d_h0,
        s.part(run.d_c),
        run.d_peephole,
    )
    return cast(
        Grads,
        tuple(
            x.new_empty(0) if grad is None or not needed else grad
            for grad, needed in zip(found, needs, strict=True)
        ),
    )


class _BackwardRun:
    """The gradients of a backward loop: d_h and d_c [directions B, hidden, *space].

    inputs holds the hidden state that each step started from [directions, B, T, hidden, *space].
    """

    def __init__(
        self,
        s: Problem,
        gates: Tensor,
        cells: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        steps: Steps,
    ) -> None:
        self.s, self.gates, self.cells, self.c0, self.steps = s, gates, cells, c0, steps
        self.weight_h = s.weights()[1]
        self.peephole = s.peepholes()
        lead = (len(s.backwards), s.batch, s.steps)
        self.d_gates = s.empty(lead, 4 * s.hidden, s.dtype)
        self.inputs = s.empty(lead, s.hidden, s.dtype)
        self.h0 = s.start(h0, s.dtype)[0]
        self.d_h: Tensor | None = None
        self.d_peephole: Tensor | None = None
        if s.peephole is not None:
            self.d_peephole = torch.zeros_like(s.peephole, dtype=s.state)

    def start(
        self, grad_out: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None, reduce: str
    ) -> None:
        s = self.s
        self.d_c, _ = s.start(grad_c, s.state)
        if grad_h is not None:
            self.d_h, _ = s.start(grad_h, s.dtype)
        self.grad_out, self.reduce = grad_out, reduce
        if grad_out is None or reduce == "none":
            return
        if reduce == "mean":
            self.grad_out = grad_out / reference.counts(s.lengths, s.steps, grad_out)
        if reduce == "last":
            whole, _ = s.start(
                grad_out.unsqueeze(1).expand(-1, len(s.backwards), *grad_out.shape[1:]), s.dtype
            )
            self.d_h = whole if self.d_h is None else self.d_h + whole
            self.grad_out = None

    def step(self, step: int, *, carry: bool) -> None:
        """The gates of each direction, then one convolution for all."""
        s = self.s
        now, carried = [], []
        for d, backwards in enumerate(s.backwards):
            t = s.time(step, backwards)
            carried.append(self.retreat(d, step, t))
            now.append(self.d_gates[d, :, t])
        if not carry:
            return
        d_gates = now[0] if len(now) == 1 else torch.cat(now)
        d_h = _pull_back(s, d_gates, self.h0, self.weight_h, (True, False, False))[0]
        for d, kept in enumerate(carried):
            if kept is not None:
                cast(Tensor, d_h)[s.rows(d)] += kept
        self.d_h = d_h

    def retreat(self, d: int, step: int, t: int) -> Tensor | None:
        """Undo the gates of a step; the d_h of samples that had none comes back."""
        s, rows, running = self.s, self.s.rows(d), self.s.running(t)
        following = s.time(step + 1, s.backwards[d])
        h = self.inputs[d, :, following] if step + 1 < s.steps else None
        d_h, d_c = None if self.d_h is None else self.d_h[rows], self.d_c[rows]
        c, d_gates = self.cell_before(d, step), self.d_gates[d, :, t]
        finished = d_c.clone() if running is not None else None
        grads = (d_h, self.grad_of(t))
        self.steps.backward(self.gates[d, :, t], *grads, c, self.peephole, d_c, d_gates, h)
        if step == 0:
            self.inputs[d, :, t] = self.h0[rows]
        if running is not None and finished is not None:
            d_gates.masked_fill_(~running, 0)
            d_c.copy_(torch.where(running, d_c, finished))
            if h is not None:
                h.copy_(torch.where(running, h, self.h0[rows]))
        self.add_to_peephole(d, t, c)
        return None if running is None or d_h is None else torch.where(running, 0, d_h)

    def grad_of(self, t: int) -> Tensor | None:
        """The gradient of h_t that does not come through later steps."""
        if self.grad_out is None or self.reduce != "none":
            return self.grad_out
        return self.grad_out[:, t]

    def cell_before(self, d: int, step: int) -> Tensor | None:
        if step == 0:
            return None if self.c0 is None else self.c0[:, d]
        return self.cells[d, :, self.s.time(step - 1, self.s.backwards[d])]

    def add_to_peephole(self, d: int, t: int, c: Tensor | None) -> None:
        """i and f look at the cell before, o at the one after."""
        if self.d_peephole is None:
            return
        d_i, d_f, d_o, _ = self.d_gates[d, :, t].to(self.s.state).chunk(4, 1)
        after = self.cells[d, :, t]
        before = torch.zeros_like(after) if c is None else c
        terms = torch.stack([d_i * before, d_f * before, d_o * after], 1)
        self.d_peephole += terms.sum(0).sum_to_size(self.d_peephole.shape)


def _pull_back(
    s: Problem, grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of a convolution's input, weight and bias, as far as needed."""
    return convolution_backward(grad, x, weight, s.dilation, s.padding_mode, needs)


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    dilation: Sequence[int],
    padding_mode: str,
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of `reference.convolution` in x, weight and bias."""
    if not any(needs):
        return None, None, None
    reach = [size // 2 * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
    zeros = padding_mode == "zeros"
    margins = [r for r in reversed(reach) for _ in range(2)]
    padded = x if zeros else torch.nn.functional.pad(x, margins, padding_mode)
    axes = len(reach)
    found = torch.ops.aten.convolution_backward(
        grad,
        padded,
        weight,
        [weight.shape[0]],
        [1] * axes,
        reach if zeros else [0] * axes,
        list(dilation),
        False,
        [0] * axes,
        1,
        list(needs),
    )
    d_x = found[0] if zeros or not needs[0] else unpad(found[0], reach, padding_mode)
    return (
        d_x if needs[0] else None,
        *(g if n else None for g, n in zip(found[1:], needs[1:], strict=True)),
    )


def unpad(grad: Tensor, reach: Sequence[int], padding_mode: str) -> Tensor:
    """The adjoint of replicate or circular padding, axis by axis."""
    for axis, r in enumerate(reach, 2):
        n = grad.shape[axis] - 2 * r
        low, inside, high = grad.split([r, n, r], axis)
        grad = inside.clone()
        if padding_mode == "replicate":
            grad.narrow(axis, 0, 1).add_(low.sum(axis, keepdim=True))
            grad.narrow(axis, n - 1, 1).add_(high.sum(axis, keepdim=True))
        else:
            grad.narrow(axis, n - r, r).add_(low)
            grad.narrow(axis, 0, r).add_(high)
    return grad

"""The time loop of the ConvLSTM, out of convolutions and fused steps.

The input convolution runs once for all steps, and so do the gradients of the input and of all
weights, after the loop. Between them a step is one convolution of the hidden state and one pass of
the fused gates. Both directions of shared weights are one batch. Runs on any device; the fused
steps are ops that write into their arguments, below autograd. No step looks at values or waits for
the device: what runs depends on shapes alone, so that a CUDA graph can hold the whole loop. The way
back is convlstm_steps_backward.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medkern import _registry, backend
from medkern.reference import convlstm as reference

Saved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


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
    """One step into h and c_out; the summed pre-activations into pre; total += h."""
    a = gates_x if gates_h is None else gates_x + gates_h
    old = torch.zeros_like(c_out) if c is None else c
    new_h, new_c = reference.convlstm_gates(gates_x, gates_h, old, peephole)
    if pre is not None:
        pre.copy_(a)
    h.copy_(new_h)
    c_out.copy_(new_c)
    if total is not None:
        total.add_(new_h)


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
    """d_c from the gradient of a step's c to that of c before it; h into h, if wanted."""
    grads = [g for g in (grad_h, grad_h2) if g is not None]
    old = torch.zeros_like(d_c) if c is None else c
    whole = sum(grads[1:], grads[0]) if grads else None
    if h is not None:
        h.copy_(reference.convlstm_gates(pre, None, old, peephole)[0])
    gates, cell = reference.convlstm_gates_backward(pre, whole, d_c, None, old, peephole)
    d_gates.copy_(gates)
    d_c.copy_(cell)


def _or_triton(step: Callable[..., None]) -> Callable[..., None]:
    """The step, or Triton's of the same name on a GPU for which there is no native library."""

    def run(*args: Any) -> None:
        chosen = step
        if args[0].is_cuda and backend.prefers_triton():
            module = importlib.import_module("medkern.kernels.convlstm")
            chosen = getattr(module, step.__name__)
        chosen(*args)

    return run


for _name, _schema, _step in (
    (
        "_convlstm_step_",
        "(Tensor gates_x, Tensor? gates_h, Tensor? c, Tensor? peephole, Tensor(a!) h, "
        "Tensor(b!) c_out, Tensor(c!)? pre, Tensor(d!)? total) -> ()",
        step_,
    ),
    (
        "_convlstm_step_backward_",
        "(Tensor pre, Tensor? grad_h, Tensor? grad_h2, Tensor? c, Tensor? peephole, "
        "Tensor(a!) d_c, Tensor(b!) d_gates, Tensor(c!)? h) -> ()",
        step_backward_,
    ),
):
    _registry._library.define(_name + _schema)
    _registry._library.impl(_name, _or_triton(_step), "CompositeExplicitAutograd")


@dataclass(frozen=True)
class Steps:
    """The fused steps: the ops, or their definitions."""

    forward: Callable[..., None]
    backward: Callable[..., None]


FUSED = Steps(torch.ops.medkern._convlstm_step_, torch.ops.medkern._convlstm_step_backward_)
PLAIN = Steps(step_, step_backward_)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of x [B, T, C, *space] are its innermost axis."""
    return bool(x.shape[2] > 1 and x.stride(2) == 1 and x.stride(-1) != 1)


def empty(
    x: Tensor, lead: Sequence[int], channels: int, dtype: torch.dtype, *, last: bool
) -> Tensor:
    """[*lead, channels, *space of x], its channels innermost where `last`."""
    space = x.shape[3:]
    if last:
        return x.new_empty(*lead, *space, channels, dtype=dtype).movedim(-1, len(lead))
    return x.new_empty(*lead, channels, *space, dtype=dtype)


def compute_dtype(x: Tensor, w_x: Tensor, w_h: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x.dtype, w_x.dtype), w_h.dtype)


def as_images(x: Tensor, dtype: torch.dtype, *, last: bool) -> Tensor:
    """x [B, T, C, *space] as [B T, C, *space]."""
    images = x.to(dtype).flatten(0, 1)
    if last and x.dim() > 4:
        form = torch.channels_last if x.dim() == 5 else torch.channels_last_3d
        return images.contiguous(memory_format=form)
    return images


@dataclass(frozen=True)
class Problem:
    """What forward and backward share: sizes, layout, directions and convolutions."""

    x: Tensor
    w_x: Tensor
    w_h: Tensor
    peephole: Tensor | None
    lengths: Tensor | None
    direction: str
    dilation: Sequence[int]
    padding_mode: str

    @property
    def dtype(self) -> torch.dtype:
        return compute_dtype(self.x, self.w_x, self.w_h)

    @property
    def state(self) -> torch.dtype:
        return reference.state_dtype(self.dtype)

    @property
    def batch(self) -> int:
        return self.x.shape[0]

    @property
    def steps(self) -> int:
        return self.x.shape[1]

    @property
    def hidden(self) -> int:
        return self.w_h.shape[1]

    @property
    def backwards(self) -> list[bool]:
        return reference.directions_of(self.direction)

    @property
    def last(self) -> bool:
        return is_channels_last(self.x)

    def rows(self, d: int) -> slice:
        """The samples of direction d in a batch of all directions."""
        return slice(d * self.batch, (d + 1) * self.batch)

    def time(self, step: int, backwards: bool) -> int:
        return self.steps - 1 - step if backwards else step

    def empty(self, lead: Sequence[int], channels: int, dtype: torch.dtype) -> Tensor:
        return empty(self.x, lead, channels, dtype, last=self.last)

    def weights(self) -> tuple[Tensor, Tensor]:
        return self.w_x.to(self.dtype), self.w_h.to(self.dtype)

    def peepholes(self) -> Tensor | None:
        if self.peephole is None:
            return None
        shape = (self.batch, 3, self.hidden, *self.x.shape[3:])
        return self.peephole.to(self.state).expand(shape)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return reference.convolution(x, weight, bias, self.dilation, self.padding_mode)

    def start(self, given: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, bool]:
        """The first state [directions B, hidden, *space], and whether it is more than zeros."""
        state = self.empty((len(self.backwards) * self.batch,), self.hidden, dtype)
        if given is None:
            return state.zero_(), False
        return state.copy_(self.merge(given)), True

    def merge(self, states: Tensor) -> Tensor:
        """States [B, directions, ...] as [directions B, ...]."""
        return states.transpose(0, 1).flatten(0, 1)

    def part(self, states: Tensor) -> Tensor:
        """The reverse of merge."""
        parts: Tensor = states.unflatten(0, (len(self.backwards), self.batch))
        return parts.transpose(0, 1)

    def running(self, t: int) -> Tensor | None:
        """Which samples have a step t [B, 1, ...]; None where all have."""
        if self.lengths is None:
            return None
        return reference.is_running(self.lengths, t, self.x[:, 0])


def forward(
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
) -> Saved:
    """`reference.convlstm` with fused steps."""
    s = Problem(x, w_x, w_h, peephole, lengths, direction, dilation, padding_mode)
    weight_x, weight_h = s.weights()
    count, hidden = len(s.backwards), s.hidden
    bias = None if b is None else b.to(s.dtype)
    images = as_images(x, s.dtype, last=s.last)
    gates_x = s.convolve(images, weight_x, bias).unflatten(0, (s.batch, s.steps))
    pre = cells = None
    if save:
        pre = s.empty((count, s.batch, s.steps), 4 * hidden, s.dtype)
        if count == 1 and pre.stride() == gates_x.unsqueeze(0).stride():
            pre = gates_x.unsqueeze(0)  # the sum takes the place of its first summand
        cells = s.empty((count, s.batch, s.steps), hidden, s.state)
    run = _Run(s, reduce, gates_x, pre, cells, h0, c0)
    for step in range(s.steps):
        run.step(step, weight_h)
    h_n, c_n = s.part(run.h), s.part(run.c)
    if pre is None or cells is None:
        pre, cells = x.new_empty(0, dtype=s.dtype), x.new_empty(0, dtype=s.state)
    return run.result(), h_n, c_n, pre, cells


class _Run:
    """The states of a forward loop: h and c [directions B, hidden, *space]."""

    def __init__(
        self,
        s: Problem,
        reduce: str,
        gates_x: Tensor,
        pre: Tensor | None,
        cells: Tensor | None,
        h0: Tensor | None,
        c0: Tensor | None,
    ) -> None:
        self.s, self.reduce, self.gates_x, self.pre, self.cells = s, reduce, gates_x, pre, cells
        self.peephole = s.peepholes()
        lead = (len(s.backwards) * s.batch,)
        self.h, self.has_h = s.start(h0, s.dtype)
        self.c, self.has_c = s.start(c0, s.state)
        self.total = self.out = None
        if reduce in ("sum", "mean"):
            self.total = s.empty(lead, s.hidden, s.state).zero_()
        if reduce == "none":
            self.out = s.empty((s.batch, s.steps), s.hidden, s.dtype).zero_()

    def step(self, step: int, weight_h: Tensor) -> None:
        """One convolution for all directions, and for each its gates."""
        gates_h = self.s.convolve(self.h, weight_h) if self.has_h else None
        for d, backwards in enumerate(self.s.backwards):
            t = self.s.time(step, backwards)
            self.advance(d, t, None if gates_h is None else gates_h[self.s.rows(d)])
        self.has_h = self.has_c = True

    def advance(self, d: int, t: int, gates_h: Tensor | None) -> None:
        rows, running = self.s.rows(d), self.s.running(t)
        h, c = self.h[rows], self.c[rows]
        before = None if running is None else (h.clone(), c.clone())
        FUSED.forward(
            self.gates_x[:, t],
            gates_h,
            c if self.has_c else None,
            self.peephole,
            h,
            c,
            None if self.pre is None else self.pre[d, :, t],
            None if self.total is None or running is not None else self.total[rows],
        )
        if running is not None and before is not None:  # a sample without this step stays
            h.copy_(torch.where(running, h, before[0]))
            c.copy_(torch.where(running, c, before[1]))
            if self.total is not None:
                self.total[rows] += torch.where(running, h, 0)
        if self.cells is not None:
            self.cells[d, :, t] = c
        if self.out is not None:
            self.out[:, t] += h if running is None else torch.where(running, h, 0)

    def result(self) -> Tensor:
        s = self.s
        if self.out is not None:
            return self.out
        given = self.h if self.total is None else self.total
        whole = s.part(given).sum(1)
        if self.reduce == "mean":
            whole = whole / reference.counts(s.lengths, s.steps, whole)
        return s.empty((s.batch,), s.hidden, s.dtype).copy_(whole)

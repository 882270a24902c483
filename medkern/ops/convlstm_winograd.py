"""Whole sequences of 3 x 3 ConvLSTMs on the CPU in Winograd's form, forward and backward.

See csrc/core/convlstm_winograd.hpp. Everything inside a sequence is channels-last with channels
padded to a multiple of 16: x and the states [steps, images, H, W, channels], pre-activations
[steps, images, H, W, 4 hidden], in the order in which the steps run, with one image per direction
and sample. In one direction the convolution of x is part of that of h; in both it is done before,
once for the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from medkern import _registry, backend
from medkern.ops.convlstm_steps import FUSED, Grads, Problem, Saved, compute_dtype
from medkern.reference import convlstm as reference
from medkern.rules import convlstm as rules

for _schema in (
    "_winograd_weights(Tensor w, Tensor? w2, bool adjoint) -> Tensor",
    "_winograd_convolution_(Tensor x, Tensor weights, Tensor? bias, Tensor? running, bool adjoint, "
    "Tensor(a!) out) -> ()",
    "_winograd_step_(Tensor? x, Tensor? given, Tensor? given2, Tensor? h, Tensor weights, "
    "Tensor? bias, Tensor? peephole, Tensor? running, Tensor? c, Tensor(a!) h_out, "
    "Tensor(b!) c_out, Tensor(c!)? pre, Tensor(d!)? total) -> ()",
    "_winograd_pack_(Tensor planes, Tensor(a!) out) -> ()",
    "_winograd_unpack_(Tensor padded, bool adds, Tensor(a!) out) -> ()",
):
    _registry._library.define(_schema)
_ops = torch.ops.medkern


def why_not(
    x: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    peephole: Tensor | None,
    dilation: Sequence[int],
    padding_mode: str,
) -> str | None:
    """Why a sequence cannot take this form; None where it can."""
    kernels = [w.shape[2:] for w in (w_x, w_h)]
    dtype = str(compute_dtype(x, w_x, w_h)).removeprefix("torch.")
    reason = rules.why_not_winograd(kernels, dilation, padding_mode, dtype)
    if reason is not None:
        return reason
    if x.device.type != "cpu":
        return "it runs on the CPU"
    if peephole is not None and peephole.shape[2:].numel() != 1:
        return "it takes one peephole weight per channel"
    return backend.native().reason


def chosen(
    x: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    peephole: Tensor | None,
    dilation: Sequence[int],
    padding_mode: str,
    algorithm: str,
) -> bool:
    """Whether a sequence takes this form."""
    if algorithm == "direct":
        return False
    if why_not(x, w_x, w_h, peephole, dilation, padding_mode) is not None:
        return False
    return algorithm == "winograd" or pays(w_h.shape[1], x.shape[3:])


def pays(hidden: int, space: Sequence[int]) -> bool:
    """Channels are padded to 16 and the image to tiles of 4 x 4: small ones are mostly padding."""
    return hidden >= 8 and space[0] * space[1] >= 64


def padded(channels: int) -> int:
    return -(-channels // 16) * 16


def empty_saved(s: Problem) -> tuple[Tensor, Tensor]:
    """Pre-activations and cells of every step."""
    lead = (s.steps, len(s.backwards) * s.batch, *s.x.shape[3:])
    hidden = padded(s.hidden)
    return s.x.new_empty(*lead, 4 * hidden), s.x.new_empty(*lead, hidden)


class _Padded:
    """A sequence in padded channels-last, and what its loops share."""

    def __init__(self, s: Problem) -> None:
        self.s = s
        self.count = len(s.backwards)
        self.images = self.count * s.batch
        self.space = tuple(s.x.shape[3:])
        self.hidden, self.inputs = padded(s.hidden), padded(s.x.shape[2])
        self.w_x, self.w_h = s.w_x.float(), s.w_h.float()
        # In one direction the steps of x are in the order in which they run.
        self.turned = s.backwards == [True]

    def empty(self, *lead: int, channels: int) -> Tensor:
        return self.s.x.new_empty(*lead, *self.space, channels, dtype=torch.float32)

    def pack(self, planes: Tensor) -> Tensor:
        """[N, C, H, W] in padded channels-last."""
        out = self.empty(planes.shape[0], channels=padded(planes.shape[1]))
        self.pack_into(out, planes)
        return out

    def pack_into(self, out: Tensor, planes: Tensor) -> None:
        planes = planes.float()
        if planes.stride(2) != planes.shape[3] * planes.stride(3):
            planes = planes.contiguous()
        _ops._winograd_pack_(planes, out)

    def unpack(self, out: Tensor, images: Tensor, *, adds: bool = False) -> None:
        _ops._winograd_unpack_(images, adds, out)

    def time(self, step: int) -> int:
        return self.s.time(step, self.turned)

    def packed_inputs(self) -> Tensor:
        """[steps, B, H, W, inputs]"""
        out = self.empty(self.s.steps, self.s.batch, channels=self.inputs)
        for step in range(self.s.steps):
            self.pack_into(out[step], self.s.x[:, self.time(step)])
        return out

    def by_gate(self, vector: Tensor | None, parts: int) -> Tensor | None:
        """[parts hidden] or [parts, hidden, 1, 1] with the padding of the channels."""
        if vector is None:
            return None
        rows = vector.float().reshape(parts, self.s.hidden)
        return functional.pad(rows, (0, self.hidden - self.s.hidden)).contiguous()

    def state(self, given: Tensor | None) -> Tensor | None:
        return None if given is None else self.pack(self.s.merge(given))

    def running(self, step: int) -> Tensor | None:
        """[images], for all directions."""
        if self.s.lengths is None:
            return None
        times = [self.s.time(step, backwards) for backwards in self.s.backwards]
        return torch.cat([t < self.s.lengths for t in times])

    def states(self, images: Tensor) -> Tensor:
        """[B, directions, hidden, H, W] of [images, H, W, padded]."""
        out = self.s.empty((self.images,), self.s.hidden, torch.float32)
        self.unpack(out, images)
        return self.s.part(out)


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
    """`reference.convlstm`; pre-activations and cells as in `empty_saved`."""
    s = Problem(x, w_x, w_h, peephole, lengths, direction, dilation, padding_mode)
    p = _Padded(s)
    inputs, bias = p.packed_inputs(), p.by_gate(b, 4)
    given = None
    weights = _ops._winograd_weights(p.w_x, None if p.count == 2 else p.w_h, False)
    if p.count == 2:
        given = p.empty(s.steps, s.batch, channels=4 * p.hidden)
        flat = given.flatten(0, 1)
        _ops._winograd_convolution_(inputs.flatten(0, 1), weights, bias, None, False, flat)
        weights, bias = _ops._winograd_weights(p.w_h, None, False), None
    pre, cells = empty_saved(s) if save else (None, None)
    h, c = p.state(h0), p.state(c0)
    spare = [p.empty(p.images, channels=p.hidden) for _ in range(3 if cells is None else 2)]
    total = None
    if reduce in ("sum", "mean"):
        total = p.empty(p.images, channels=p.hidden).zero_()
    out = s.empty((s.batch, s.steps), s.hidden, torch.float32) if reduce == "none" else None
    gates = p.by_gate(peephole, 3)
    for step in range(s.steps):
        new_h = spare[step % 2]
        new_c = spare[2] if cells is None else cells[step]
        _ops._winograd_step_(
            None if given is not None else inputs[step],
            None if given is None else given[step],
            None if given is None else given[s.steps - 1 - step],
            h,
            weights,
            bias,
            gates,
            p.running(step),
            c,
            new_h,
            new_c,
            None if pre is None else pre[step],
            total,
        )
        h, c = new_h, new_c
        if out is not None:
            _emit(p, out, h, step)
    last_h, last_c = p.states(cast(Tensor, h)), p.states(cast(Tensor, c))
    if out is None:
        whole = last_h if total is None else p.states(total)
        whole = whole.sum(1)
        if reduce == "mean":
            whole = whole / reference.counts(lengths, s.steps, whole)
        out = s.empty((s.batch,), s.hidden, torch.float32).copy_(whole)
    if pre is None or cells is None:
        pre, cells = x.new_empty(0, dtype=s.dtype), x.new_empty(0, dtype=s.state)
    return out, last_h, last_c, pre, cells


def _emit(p: _Padded, out: Tensor, h: Tensor, step: int) -> None:
    """The hidden states of a step into out [B, T, ...]; the later direction adds."""
    s = p.s
    for d, backwards in enumerate(s.backwards):
        t, rows = s.time(step, backwards), s.rows(d)
        second = p.count == 2 and (2 * step >= s.steps or (d == 1 and 2 * step == s.steps - 1))
        images = h[rows]
        running = s.running(t)
        if running is not None:
            images = torch.where(running.reshape(-1, 1, 1, 1), images, 0)
        p.unpack(out[:, t], images, adds=second)


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
) -> Grads:
    """`steps.backward` for what `forward` saved."""
    raise NotImplementedError

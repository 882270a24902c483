"""Whole sequences of 3 x 3 ConvLSTMs on the CPU in Winograd's form, forward and backward.

See csrc/core/convlstm_winograd.hpp. Everything inside a sequence is channels-last with channels
padded to a multiple of 16: x and the states [steps, images, H, W, channels], pre-activations
[steps, images, H, W, 4 hidden], in the order in which the steps run, with one image per direction
and sample. In one direction the convolution of x is part of that of h; in both it is done before,
once for the two. Arguments of half precision are widened, results narrowed; what is between them,
states and pre-activations, is float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from medkern import _registry, backend
from medkern.ops.convlstm_steps import FUSED, Problem, Saved, compute_dtype
from medkern.ops.convlstm_steps_backward import Grads
from medkern.reference import convlstm as reference
from medkern.rules import convlstm as rules

for _schema in (
    "_winograd_weights(Tensor w, Tensor? w2, bool adjoint) -> Tensor",
    "_winograd_convolution_(Tensor x, Tensor weights, Tensor? bias, Tensor? running, bool adjoint, "
    "Tensor(a!) out) -> ()",
    "_winograd_step_(Tensor? x, Tensor? given, Tensor? given2, Tensor? h, Tensor weights, "
    "Tensor? bias, Tensor? peephole, Tensor? running, Tensor? c, Tensor(a!) h_out, "
    "Tensor(b!) c_out, Tensor(c!)? pre, Tensor(d!)? total) -> ()",
    "_winograd_weight_gradient_(Tensor x, Tensor? x2, Tensor grad, Tensor(a!) d_w, "
    "Tensor(b!)? d_w2) -> ()",
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
    gates = s.x.new_empty(*lead, 4 * hidden, dtype=torch.float32)
    return gates, s.x.new_empty(*lead, hidden, dtype=torch.float32)


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

    def without_padding(self, rows: Tensor, parts: int) -> Tensor:
        """The reverse of by_gate, as [parts hidden]."""
        return rows.reshape(parts, self.hidden)[:, : self.s.hidden].flatten()

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
    return out.to(s.dtype), last_h.to(s.dtype), last_c, pre, cells


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
    s = Problem(x, w_x, w_h, peephole, lengths, direction, dilation, padding_mode)
    run = _BackwardRun(_Padded(s), gates, cells, h0, c0)
    run.start(grad_out, grad_h, grad_c, reduce)
    for step in reversed(range(s.steps)):
        run.step(step, carry=step > 0 or needs[4])
    p, d_x = run.p, None
    inputs = p.packed_inputs()
    shared = run.d_gates
    if p.count == 2:  # of the two directions at the same time
        shared = shared[:, s.rows(0)] + shared[:, s.rows(1)].flip(0)
    if needs[0]:
        d_x = s.empty((s.batch, s.steps), x.shape[2], torch.float32)
        padded_x = p.empty(s.steps, s.batch, channels=p.inputs)
        weights = _ops._winograd_weights(p.w_x, None, True)
        flat = padded_x.flatten(0, 1)
        _ops._winograd_convolution_(shared.flatten(0, 1), weights, None, None, True, flat)
        for step in range(s.steps):
            p.unpack(d_x[:, p.time(step)], padded_x[step])
    d_wx, d_wh = run.weight_gradients(inputs, shared, of_x=needs[1], of_h=needs[2])
    d_peephole = None
    if run.d_peephole is not None and peephole is not None:
        d_peephole = p.without_padding(run.d_peephole, 3).reshape(peephole.shape)
    found = (
        (d_x, x.dtype),
        (d_wx, w_x.dtype),
        (d_wh, w_h.dtype),
        (p.without_padding(shared.sum((0, 1, 2, 3)), 4) if needs[3] else None, w_x.dtype),
        (None if run.d_h is None else p.states(run.d_h), s.dtype),
        (p.states(run.d_c), s.state),
        (d_peephole, s.state),
    )
    return cast(
        Grads,
        tuple(
            x.new_empty(0) if grad is None or not needed else grad.to(dtype)
            for (grad, dtype), needed in zip(found, needs, strict=True)
        ),
    )


class _BackwardRun:
    """The gradients of a backward loop: d_h and d_c [images, H, W, hidden].

    inputs holds the hidden state that each step started from [steps, images, H, W, hidden].
    """

    def __init__(
        self, p: _Padded, gates: Tensor, cells: Tensor, h0: Tensor | None, c0: Tensor | None
    ) -> None:
        s = p.s
        self.p, self.s, self.gates, self.cells = p, s, gates, cells
        self.d_gates = torch.empty_like(gates)
        self.inputs = torch.empty_like(cells)
        self.h0, self.c0 = p.state(h0), p.state(c0)
        self.weights = _ops._winograd_weights(p.w_h, None, True)
        self.peephole = p.by_gate(s.peephole, 3)  # [3, hidden]
        self.d_peephole = None if self.peephole is None else torch.zeros_like(self.peephole)
        self.d_h: Tensor | None = None

    def start(
        self, grad_out: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None, reduce: str
    ) -> None:
        p, s = self.p, self.s
        self.d_h = p.state(grad_h)
        d_c = p.state(grad_c)
        self.d_c = p.empty(p.images, channels=p.hidden).zero_() if d_c is None else d_c
        self.every: Tensor | None = None  # what each step adds, where that is always the same
        self.grad_out = grad_out if reduce == "none" else None
        if grad_out is None or reduce == "none":
            return
        if reduce == "mean":
            grad_out = grad_out.float()
            grad_out = grad_out / reference.counts(s.lengths, s.steps, grad_out)
        whole = p.pack(grad_out).repeat(p.count, 1, 1, 1)
        if reduce == "last":
            self.d_h = whole if self.d_h is None else self.d_h + whole
        else:
            self.every = whole

    def grad_of(self, step: int) -> Tensor | None:
        """The gradient of this step's h that does not come through later steps."""
        if self.grad_out is None:
            return self.every
        out, s = self.p.empty(self.p.images, channels=self.p.hidden), self.s
        for d, backwards in enumerate(s.backwards):
            self.p.pack_into(out[s.rows(d)], self.grad_out[:, s.time(step, backwards)])
        return out

    def step(self, step: int, *, carry: bool) -> None:
        d_h, running = self.d_h, self.p.running(step)
        c = self.c0 if step == 0 else self.cells[step - 1]
        h = self.inputs[step + 1] if step + 1 < self.s.steps else None
        finished = None if running is None else self.d_c.clone()
        FUSED.backward(
            _planes(self.gates[step]),
            None if d_h is None else _planes(d_h),
            _optional_planes(self.grad_of(step)),
            _optional_planes(c),
            None if self.peephole is None else self.peephole_planes(),
            _planes(self.d_c),
            _planes(self.d_gates[step]),
            _optional_planes(h),
        )
        if step == 0:
            self.inputs[0] = 0 if self.h0 is None else self.h0
        if running is not None and finished is not None:
            mask = running.reshape(-1, 1, 1, 1)
            self.d_gates[step].masked_fill_(~mask, 0)
            self.d_c.copy_(torch.where(mask, self.d_c, finished))
            if h is not None:
                h.copy_(torch.where(mask, h, 0 if self.h0 is None else self.h0))
        self.add_to_peephole(step, c)
        if carry:
            # Samples without this step keep their d_h: the convolution leaves their images alone.
            new = torch.empty_like(self.d_c)
            if running is not None:
                new.copy_(d_h) if d_h is not None else new.zero_()
            _ops._winograd_convolution_(self.d_gates[step], self.weights, None, running, True, new)
            self.d_h = new

    def peephole_planes(self) -> Tensor:
        weights = cast(Tensor, self.peephole)[None, :, :, None, None]
        return weights.expand(self.p.images, -1, -1, *self.p.space)

    def add_to_peephole(self, step: int, c: Tensor | None) -> None:
        if self.d_peephole is None:
            return
        d_i, d_f, d_o, _ = self.d_gates[step].chunk(4, -1)
        after = self.cells[step]
        before = torch.zeros_like(after) if c is None else c
        terms = (d_i * before, d_f * before, d_o * after)
        self.d_peephole += torch.stack([term.sum((0, 1, 2)) for term in terms])

    def weight_gradients(
        self, inputs: Tensor, shared: Tensor, *, of_x: bool, of_h: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of w_x and of w_h; in one pass where both have the same gradient of the gates."""
        p = self.p
        d_x = torch.empty_like(p.w_x, memory_format=torch.contiguous_format) if of_x else None
        d_h = torch.empty_like(p.w_h, memory_format=torch.contiguous_format) if of_h else None
        x, h = inputs.flatten(0, 1), self.inputs.flatten(0, 1)
        grad = shared.flatten(0, 1)
        if d_x is not None and d_h is not None and p.count == 1:
            _ops._winograd_weight_gradient_(x, h, grad, d_x, d_h)
            return d_x, d_h
        if d_x is not None:
            _ops._winograd_weight_gradient_(x, None, grad, d_x, None)
        if d_h is not None:
            _ops._winograd_weight_gradient_(h, None, self.d_gates.flatten(0, 1), d_h, None)
        return d_x, d_h


def _planes(images: Tensor) -> Tensor:
    return images.movedim(-1, 1)


def _optional_planes(images: Tensor | None) -> Tensor | None:
    return None if images is None else _planes(images)

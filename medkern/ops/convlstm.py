"""ConvLSTM over whole sequences; a single step is in convlstm_cell.

With * a convolution, the gates i, f, o, g of a step and its states are

    i = sigmoid(w_xi * x + w_hi * h + b_i)    f = sigmoid(w_xf * x + w_hf * h + b_f)
    o = sigmoid(w_xo * x + w_ho * h + b_o)    g = tanh(w_xg * x + w_hg * h + b_g)
    c' = f c + i g                            h' = o tanh(c')

Source: Shi et al., "Convolutional LSTM network", NeurIPS 2015; the sums of h over time in one or
both directions are SISOM and DIDOM of Hu et al., SpecSlice-ConvLSTM.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medkern._registry import Op, OpSpec, Sample, _library, _needs_function, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops import convlstm_steps as steps
from medkern.ops import convlstm_steps_backward as steps_backward
from medkern.ops import convlstm_winograd as winograd
from medkern.ops._by_reference import beyond_first_order, pull_back, push_forward
from medkern.ops.convlstm_cell import check_kinds, spread
from medkern.reference import convlstm as reference
from medkern.rules import at_least, message
from medkern.rules import convlstm as rules


def convlstm(
    x: ArrayT,
    w_x: ArrayT,
    w_h: ArrayT,
    b: ArrayT | None = None,
    h0: ArrayT | None = None,
    c0: ArrayT | None = None,
    *,
    reduce: str = "none",
    direction: str = "forward",
    peephole: ArrayT | None = None,
    lengths: ArrayT | None = None,
    dilation: int | Sequence[int] = 1,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
    checkpoint_every: int | None = None,
    backend: str | None = None,
) -> tuple[ArrayT, tuple[ArrayT, ArrayT]]:
    """A ConvLSTM over a whole sequence.

    Args:
        x: [B, T, C, *space] with 1, 2 or 3 spatial axes. float16, bfloat16, float32 or float64.
            Channels may be innermost (channels_last); results then are in this layout too.
        w_x: [4 hidden, C, *kernel], the gates i, f, o, g in this order; kernel sizes 1, 3, 5, 7.
        w_h: [4 hidden, hidden, *kernel].
        b: [4 hidden].
        h0, c0: first states [B, hidden, *space], zeros if None; for both directions [2, B, ...].
        reduce: what becomes of the hidden states h_t. "none": [B, T, hidden, *space]; "last": that
            of the last step; "sum" over the steps; "mean".
        direction: "forward", "backward" (from the last step to the first) or "both": two runs of
            the same weights, whose h_t are added before they are reduced. The sum forward is
            SISOM, that in both directions DIDOM.
        peephole: [3, hidden] or [3, hidden, *space], as in convlstm_gates.
        lengths: [B] integers: steps of each sample; h_t is 0 in later ones, states stay, and the
            backward direction starts at the sample's own end. None: all T.
        dilation: of both kernels, a number or one per spatial axis.
        padding_mode: "zeros", "replicate" or "circular"; the size is kept.
        algorithm: "direct" convolutions, "winograd" or "auto", which takes Winograd's where it is
            faster: 3 x 3 kernels on the CPU up to float32, whose error is below 2e-5. It computes
            float16 and bfloat16 in float32.
        checkpoint_every: for the gradients, keep the states of every k-th step only and compute the
            steps between again: 1/k of the memory for about a third more time.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        (out, (h, c)): the reduced hidden states, and the states after the last step,
        [B, hidden, *space], or [2, B, hidden, *space] for both directions. c is float64 for float64
        x, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Under autocast x, the weights and h are taken in its dtype, as in torch's convolutions.

    Gradients of any order in all floating arguments: the first by a backward loop that keeps
    pre-activations and cells of every step (5 hidden numbers per voxel and step) and computes the
    gradients of x and of the weights for all steps at once; later ones are torch's of the
    reference. Without gradients nothing is kept, and unless reduce="none" no hidden states are
    stacked. An empty batch gives empty results, and the gradients of its weights are 0.

    >>> import torch, medkern as mk
    >>> x, w_x, w_h = torch.randn(2, 5, 3, 8, 8), torch.randn(16, 3, 3, 3), torch.randn(16, 4, 3, 3)
    >>> total, (h, c) = mk.convlstm(x, w_x, w_h, reduce="sum", direction="both")
    >>> total.shape, h.shape
    (torch.Size([2, 4, 8, 8]), torch.Size([2, 2, 4, 8, 8]))
    """
    op = "convlstm"
    rules.check_choices(op, reduce, direction, padding_mode, algorithm)
    t, restore = as_tensor(op, "x", x)
    names = ("w_x", "w_h", "b", "h0", "c0", "peephole")
    arrays = (w_x, w_h, b, h0, c0, peephole)
    found = {
        name: None if array is None else as_tensor(op, name, array)[0]
        for name, array in zip(names, arrays, strict=True)
    }
    check_kinds(op, {"x": t, **found}, t)
    given = cast(dict[str, Tensor], found)
    layout = rules.layout_of(op, t.shape, given["w_x"].shape, given["w_h"].shape)
    stride = rules.dilation_of(op, dilation, len(layout.space))
    if found["b"] is not None:
        rules.check_bias(op, given["b"].shape, layout.hidden)
    for name in ("h0", "c0"):
        if found[name] is not None:
            rules.check_state(op, name, given[name].shape, layout, direction)
    if found["peephole"] is not None:
        rules.peephole_shape(op, given["peephole"].shape, layout.hidden, layout.space)
        given["peephole"] = spread(given["peephole"], len(layout.space))
    kernels = [tuple(given[name].shape[2:]) for name in ("w_x", "w_h")]
    if padding_mode == "circular":
        for kernel in kernels:
            rules.check_reach(op, kernel, stride, layout.space)
    ends = None if lengths is None else _lengths(op, lengths, t)
    for name in ("h0", "c0"):
        if found[name] is not None:
            state = given[name]
            given[name] = state.transpose(0, 1) if direction == "both" else state.unsqueeze(1)
    tensors = _as_autocast([t, *(found[name] for name in names)], t.device.type)
    sequence = (*tensors, ends, reduce, direction, stride, padding_mode, algorithm)
    if algorithm == "winograd":
        _check_winograd(op, sequence)
    if checkpoint_every is not None:
        at_least(op, "checkpoint_every", checkpoint_every, 1)
        out, h, c = _in_parts(sequence, checkpoint_every, backend)
    else:
        out, h, c = _run(sequence, backend)
    if direction == "both":
        return restore(out), (restore(h.transpose(0, 1)), restore(c.transpose(0, 1)))
    return restore(out), (restore(h[:, 0]), restore(c[:, 0]))


def _lengths(op: str, lengths: Any, x: Tensor) -> Tensor:
    ends = as_tensor(op, "lengths", lengths)[0]
    if ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool:
        rule = "be integers"
        raise TypeError(message(op, "lengths", rule, dtype_name(ends.dtype), "use .long()"))
    least = 0
    if ends.numel() and ends.device.type == "cpu" and not torch.compiler.is_compiling():
        least = int(ends.min())  # elsewhere, looking would mean waiting for the device
    rules.check_lengths(op, ends.shape, x.shape[0], least, max(least, 0))
    return ends.to(x.device, torch.int64)


def _as_autocast(tensors: list[Tensor | None], device: str) -> list[Tensor | None]:
    """In autocast's dtype where it is on: all but float64 and the cell state, which is at 5."""
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return [
        t if t is None or i == 5 or t.dtype == torch.float64 else t.to(dtype)
        for i, t in enumerate(tensors)
    ]


def _check_winograd(op: str, sequence: tuple[Any, ...]) -> None:
    x, w_x, w_h, peephole = *sequence[:3], sequence[6]
    reason = winograd.why_not(x, w_x, w_h, peephole, *sequence[10:12])
    if reason is not None:
        rule = "be 'auto' or 'direct' here"
        raise ValueError(message(op, "algorithm", rule, f"'winograd'; {reason}", "leave it out"))


def _run(sequence: tuple[Any, ...], backend: str | None) -> tuple[Tensor, Tensor, Tensor]:
    """The op, which keeps what its backward needs if there will be one."""
    transformed = not torch.compiler.is_compiling() and _needs_function()
    wanted = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in sequence[:7]
    )
    out, h, c, _, _ = _convlstm(*sequence, wanted or transformed, backend=backend)
    return out, h, c


def _in_parts(
    sequence: tuple[Any, ...], every: int, backend: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Part by part, direction by direction; a part keeps the states it starts from."""
    x, w_x, w_h, b, h0, c0, peephole, lengths, reduce, direction, *how = sequence
    inner = "sum" if reduce == "mean" else reduce
    runs: list[tuple[Any, ...]] = []
    for d, backwards in enumerate(reference.directions_of(direction)):
        way = "backward" if backwards else "forward"

        def part(
            piece: Tensor, ends: Tensor | None, h: Tensor | None, c: Tensor | None, way: str = way
        ) -> tuple[Tensor, Tensor, Tensor]:
            return _run((piece, w_x, w_h, b, h, c, peephole, ends, inner, way, *how), backend)

        h = None if h0 is None else h0[:, d : d + 1]
        c = None if c0 is None else c0[:, d : d + 1]
        outs = []
        firsts = range(0, x.shape[1], every)
        for first in reversed(firsts) if backwards else firsts:
            piece = x[:, first : first + every]
            ends = None if lengths is None else (lengths - first).clamp(0, piece.shape[1])
            out, h, c = checkpoint(part, piece, ends, h, c, use_reentrant=False)
            outs.append(out)
        if reduce == "none":
            whole = torch.cat(outs[::-1] if backwards else outs, 1)
        else:
            whole = outs[-1] if reduce == "last" else torch.stack(outs).sum(0)
        runs.append((whole, h, c))
    out = torch.stack([run[0] for run in runs]).sum(0)
    if reduce == "mean":
        out = out / reference.counts(lengths, x.shape[1], out)
    return out, torch.cat([run[1] for run in runs], 1), torch.cat([run[2] for run in runs], 1)


_TENSORS = "Tensor w_x, Tensor w_h, {b}Tensor? h0, Tensor? c0, Tensor? peephole, Tensor? lengths, "
_HOW = "str reduce, str direction, int[] dilation, str padding_mode, str algorithm, "


def _fake_convlstm(
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
) -> steps.Saved:
    s = steps.Problem(x, w_x, w_h, peephole, lengths, direction, dilation, padding_mode)
    count, hidden = len(s.backwards), s.hidden
    lead = (s.batch, s.steps) if reduce == "none" else (s.batch,)
    h, c = (s.part(s.empty((count * s.batch,), hidden, d)) for d in (s.dtype, s.state))
    out = s.empty(lead, hidden, s.dtype)
    if not save:
        return out, h, c, x.new_empty(0, dtype=s.dtype), x.new_empty(0, dtype=s.state)
    if winograd.chosen(x, w_x, w_h, peephole, dilation, padding_mode, algorithm):
        return out, h, c, *winograd.empty_saved(s)
    sequence = (count, s.batch, s.steps)
    return out, h, c, s.empty(sequence, 4 * hidden, s.dtype), s.empty(sequence, hidden, s.state)


def _fake_convlstm_backward(
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
) -> steps_backward.Grads:
    s = steps.Problem(x, w_x, w_h, peephole, lengths, direction, dilation, padding_mode)
    state = (len(s.backwards) * s.batch,)
    found = (
        s.empty((s.batch, s.steps), x.shape[2], x.dtype),
        w_x.new_empty(w_x.shape),
        w_h.new_empty(w_h.shape),
        w_x.new_empty(w_x.shape[0]),
        s.part(s.empty(state, s.hidden, s.dtype)),
        s.part(s.empty(state, s.hidden, s.state)),
        x.new_empty(0) if peephole is None else peephole.new_empty(peephole.shape, dtype=s.state),
    )
    return cast(
        steps_backward.Grads,
        tuple(f if n else x.new_empty(0) for f, n in zip(found, needs, strict=True)),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.reduce, ctx.direction, dilation, padding_mode, algorithm, _ = inputs
    ctx.how = (list(dilation), padding_mode, algorithm)
    ctx.save_for_backward(*tensors, *output[3:])
    ctx.save_for_forward(*tensors)
    ctx.mark_non_differentiable(*output[3:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    *tensors, gates, cells = ctx.saved_tensors
    x, w_x, w_h, b, *states, lengths = tensors
    how = (ctx.reduce, ctx.direction, *ctx.how)
    if beyond_first_order():
        return pull_back(reference.convlstm, (*tensors, *how, False), grads[:3])
    needs = [bool(n) for n in ctx.needs_input_grad[:7]]
    found = _convlstm_backward(x, *grads[:3], w_x, w_h, *states, lengths, gates, cells, *how, needs)
    given = (x, w_x, w_h, b, *states)
    return (
        *(g.to(t.dtype) if n else None for g, n, t in zip(found, needs, given, strict=True)),
        *[None] * 7,
    )


def _jvp(ctx: Any, *tangents: Any) -> tuple[Any, ...]:
    args = (*ctx.saved_tensors[:8], ctx.reduce, ctx.direction, *ctx.how, False)
    return (*push_forward(reference.convlstm, args, tangents, 3), None, None)


def _sequences(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    """Small sequences [B, T, C, *space] of every layout, and how they are run."""
    generator = torch.Generator().manual_seed(11)

    def sequence(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    yield "contiguous", sequence(2, 2, 1, 2, 3), {"reduce": "sum", "direction": "both"}
    yield "contiguous-states", sequence(2, 3, 2, 5, 6), {"states": True, "peephole": True}
    yield "transposed", sequence(2, 3, 1, 3, 2).transpose(0, 1), {"lengths": True}
    yield "sliced", sequence(2, 4, 2, 3, 5)[:, ::2, 1:, :, 1::2], {"peephole": True}
    yield "expanded", sequence(1, 1, 1, 2, 3).expand(2, 2, 1, 2, 3), {"reduce": "mean"}
    last = sequence(1, 2, 2, 3, 2).movedim(-1, 2)
    yield "channels_last", last, {"direction": "backward", "bias": False}
    yield "channels_last-sum", sequence(2, 2, 3, 3, 3).movedim(-1, 2), {"reduce": "sum"}
    yield "empty", sequence(0, 2, 1, 2, 3), {"direction": "both", "reduce": "sum"}
    yield "size", sequence(1, 1, 1, 1, 1), {"reduce": "last"}
    how = {"padding_mode": "circular", "direction": "both", "lengths": True, "states": True}
    yield "line", sequence(2, 3, 1, 4), {**how, "reduce": "mean", "dilation": 2}
    yield "volume", sequence(1, 2, 1, 2, 2, 3), {"padding_mode": "replicate", "reduce": "last"}


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(12)

    def tensor(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return (0.4 * torch.randn(shape, generator=generator)).to(kind)

    for name, x, how in _sequences(dtype):
        batch, steps_, inputs, *space = x.shape
        axes, hidden, wide = len(space), min(inputs, 2), reference.state_dtype(dtype)
        direction = how.get("direction", "forward")
        state = (batch, 2 if direction == "both" else 1, hidden, *space)
        lengths = torch.arange(batch) * 5 % (steps_ + 1) if "lengths" in how else None
        yield Sample(
            name,
            (
                x,
                tensor(4 * hidden, inputs, *[3] * axes),
                tensor(4 * hidden, hidden, *[1 if name == "sliced" else 3] * axes),
                tensor(4 * hidden) if how.get("bias", True) else None,
                tensor(*state) if "states" in how else None,
                tensor(*state, kind=wide) if "states" in how else None,
                tensor(3, hidden, *[1] * axes, kind=wide) if "peephole" in how else None,
                lengths,
                how.get("reduce", "none"),
                direction,
                [how.get("dilation", 1)] * axes,
                how.get("padding_mode", "zeros"),
                "auto",
                True,
            ),
        )


def _backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, sample in enumerate(_samples(dtype)):
        x, w_x, w_h, b, *states, lengths, reduce, direction, dilation, mode, algorithm, _ = (
            sample.args
        )
        out, h, c, gates, cells = _convlstm.packet(*sample.args)
        grads = (out * 0.5 if i % 5 != 3 else None, h if i % 3 else None, c if i % 2 else None)
        needs = [True, True, True, b is not None, *[i % 4 != 1] * 2, states[2] is not None]
        how = (reduce, direction, dilation, mode, algorithm)
        args = (x, *grads, w_x, w_h, *states, lengths, gates, cells, *how, needs)
        yield Sample(sample.name, args)


_convlstm: Op = register(
    OpSpec(
        name="convlstm",
        schema=f"(Tensor x, {_TENSORS.format(b='Tensor? b, ')}{_HOW}bool save)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
        reference=reference.convlstm,
        fake=_fake_convlstm,
        samples=_samples,
        setup_context=_remember,
        backward=_backward,
        jvp=_jvp,
        fold=False,
        cuda=False,
    )
)
_convlstm_backward: Op = register(
    OpSpec(
        name="_convlstm_backward",
        schema="(Tensor x, Tensor? grad_out, Tensor? grad_h, Tensor? grad_c, "
        f"{_TENSORS.format(b='')}Tensor gates, Tensor cells, {_HOW}bool[] needs)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        reference=functools.partial(steps_backward.backward, steps=steps.PLAIN),
        fake=_fake_convlstm_backward,
        samples=_backward_samples,
        fold=False,
        cuda=False,
    )
)


def _without_autocast(run: Callable[..., Any]) -> Callable[..., Any]:
    """The loop computes in the dtypes it is given: convolutions in it must not choose."""

    def kernel(x: Tensor, *args: Any) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            return run(x, *args)

    return kernel


def _choose_forward(x: Tensor, w_x: Tensor, w_h: Tensor, *args: Any) -> steps.Saved:
    peephole, (dilation, padding_mode, algorithm, _) = args[3], args[7:]
    if winograd.chosen(x, w_x, w_h, peephole, dilation, padding_mode, algorithm):
        return winograd.forward(x, w_x, w_h, *args)
    return steps.forward(x, w_x, w_h, *args)


def _choose_backward(x: Tensor, *args: Any) -> steps_backward.Grads:
    w_x, w_h, peephole, how = args[3], args[4], args[7], args[13:16]
    if winograd.chosen(x, w_x, w_h, peephole, *how):
        return winograd.backward(x, *args)
    return steps_backward.backward(x, *args)


for _key in ("CPU", "CUDA"):
    _library.impl("convlstm", _without_autocast(_choose_forward), _key)
    _library.impl("_convlstm_backward", _without_autocast(_choose_backward), _key)

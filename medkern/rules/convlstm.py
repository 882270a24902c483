"""Rules of the ConvLSTM: what goes with what, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from medkern.rules import at_least, choice, message

REDUCTIONS = ("none", "last", "sum", "mean")
DIRECTIONS = ("forward", "backward", "both")
PADDING_MODES = ("zeros", "replicate", "circular")
ALGORITHMS = ("auto", "direct", "winograd")
KERNEL_SIZES = (1, 3, 5, 7)
GATES = 4


class Layout(NamedTuple):
    """The sizes of a sequence: x is [batch, steps, inputs, *space]."""

    batch: int
    steps: int
    inputs: int
    hidden: int
    space: tuple[int, ...]


def gate_shapes(
    op: str,
    gates_x: Sequence[int],
    gates_h: Sequence[int] | None,
    c: Sequence[int],
    peephole: Sequence[int] | None,
) -> None:
    """Check [B, 4 C, *space] twice, [B, C, *space] and [3, C] or [3, C, *space]."""
    if len(c) < 3:
        remedy = "add the missing axes"
        raise ValueError(message(op, "c", "be [B, C, *space]", tuple(c), remedy))
    expected = (c[0], GATES * c[1], *c[2:])
    for name, given in (("gates_x", gates_x), ("gates_h", gates_h)):
        if given is not None and tuple(given) != expected:
            rule = f"be [B, 4 C, *space], {expected}, for c of shape {tuple(c)}"
            remedy = "the gates i, f, o, g follow one another along axis 1"
            raise ValueError(message(op, name, rule, tuple(given), remedy))
    if peephole is not None:
        peephole_shape(op, peephole, c[1], tuple(c[2:]))


def peephole_shape(op: str, given: Sequence[int], hidden: int, space: tuple[int, ...]) -> None:
    if tuple(given) not in ((3, hidden), (3, hidden, *space)):
        rule = f"be [3, C] or [3, C, *space], {(3, hidden)} or {(3, hidden, *space)}"
        remedy = "pass the weights of the gates i, f and o, in this order"
        raise ValueError(message(op, "peephole", rule, tuple(given), remedy))


def layout_of(op: str, x: Sequence[int], w_x: Sequence[int], w_h: Sequence[int]) -> Layout:
    """The sizes of a sequence, after checking it and the weights."""
    if not 4 <= len(x) <= 6:
        rule = "be [B, T, C, *space] with 1, 2 or 3 spatial axes"
        raise ValueError(message(op, "x", rule, tuple(x), "add or merge axes"))
    if x[1] == 0 or any(n == 0 for n in x[3:]):
        rule = "have at least one step and no empty spatial axis"
        raise ValueError(message(op, "x", rule, tuple(x), "only the batch may be empty"))
    axes = len(x) - 3
    hidden = w_h[1] if len(w_h) > 1 else 0
    for name, weight, inputs in (("w_x", w_x, x[2]), ("w_h", w_h, hidden)):
        if len(weight) != axes + 2 or weight[0] != GATES * hidden or weight[1] != inputs:
            rule = f"be [4 hidden, {'inputs' if name == 'w_x' else 'hidden'}, *kernel]"
            remedy = f"x has {x[2]} channels and {axes} spatial axes; gates are i, f, o, g"
            raise ValueError(message(op, name, rule, tuple(weight), remedy))
        if any(n not in KERNEL_SIZES for n in weight[2:]):
            rule = "have kernel sizes of 1, 3, 5 or 7"
            remedy = "pad the kernel with zeros to an odd size"
            raise ValueError(message(op, name, rule, tuple(weight[2:]), remedy))
    if hidden == 0:
        rule = "have hidden channels"
        raise ValueError(message(op, "w_h", rule, tuple(w_h), "give it at least one"))
    return Layout(x[0], x[1], x[2], hidden, tuple(x[3:]))


def check_bias(op: str, b: Sequence[int], hidden: int) -> None:
    if tuple(b) != (GATES * hidden,):
        rule = f"be [4 hidden], {(GATES * hidden,)}"
        raise ValueError(message(op, "b", rule, tuple(b), "one number per row of w_x"))


def check_state(op: str, name: str, given: Sequence[int], layout: Layout, direction: str) -> None:
    expected = (layout.batch, layout.hidden, *layout.space)
    if direction == "both":
        expected = (2, *expected)
    if tuple(given) != expected:
        rule = f"be {expected} for direction={direction!r}"
        remedy = "one state per direction, forward first" if direction == "both" else "reshape it"
        raise ValueError(message(op, name, rule, tuple(given), remedy))


def dilation_of(op: str, dilation: int | Sequence[int], axes: int) -> list[int]:
    values = [dilation] * axes if isinstance(dilation, int) else list(dilation)
    if len(values) != axes:
        rule = f"be a number or {axes} numbers"
        raise ValueError(message(op, "dilation", rule, dilation, "one per spatial axis"))
    for value in values:
        at_least(op, "dilation", value, 1)
    return values


def check_reach(
    op: str, kernel: Sequence[int], dilation: Sequence[int], space: Sequence[int]
) -> None:
    """Circular padding takes at most the whole axis."""
    for size, step, n in zip(kernel, dilation, space, strict=True):
        if (size // 2) * step > n:
            rule = f"fit circular padding, {(size // 2) * step} voxels, into every spatial axis"
            remedy = "use padding_mode='zeros' or smaller kernels"
            raise ValueError(message(op, "x", rule, tuple(space), remedy))


def check_lengths(op: str, lengths: Sequence[int], batch: int, least: int, most: int) -> None:
    """Shape [B] and values from `least` to `most`, which the caller found."""
    if tuple(lengths) != (batch,):
        rule = f"be [B], {(batch,)}"
        raise ValueError(message(op, "lengths", rule, tuple(lengths), "one length per sample"))
    if batch and (least < 0 or most < least):
        raise ValueError(message(op, "lengths", "be at least 0", least, "0 means no step at all"))


def check_choices(op: str, reduce: str, direction: str, padding_mode: str, algorithm: str) -> None:
    choice(op, "reduce", reduce, REDUCTIONS)
    choice(op, "direction", direction, DIRECTIONS)
    choice(op, "padding_mode", padding_mode, PADDING_MODES)
    choice(op, "algorithm", algorithm, ALGORITHMS)


def why_not_winograd(
    kernels: Sequence[Sequence[int]], dilation: Sequence[int], padding_mode: str, dtype: str
) -> str | None:
    """Why a sequence has no Winograd form; None where it has."""
    if any(tuple(kernel) != (3, 3) for kernel in kernels):
        return "it needs 3 x 3 kernels"
    if tuple(dilation) != (1, 1) or padding_mode != "zeros":
        return "it needs dilation 1 and zero padding"
    if dtype == "float64":
        return "it computes in float32"
    return None

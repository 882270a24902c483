"""Rules of the epilogue of a Fourier layer."""

from __future__ import annotations

from collections.abc import Sequence

from medkern.rules import message

ACTIVATIONS = ("gelu", "none")
OP = "fourier_epilogue"


def check_shapes(
    k: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    bias: Sequence[int] | None,
    residual: bool,
) -> None:
    if len(k) < 3 or k[1] == 0:
        rule = "be [B, C_out, *space] with at least one channel"
        raise ValueError(message(OP, "k", rule, tuple(k), "add the missing axes"))
    expected = f"[{k[0]}, C_in, {', '.join(map(str, k[2:]))}]"
    if len(x) != len(k) or (x[0], *x[2:]) != (k[0], *k[2:]) or x[1] == 0:
        rule = f"be {expected}, as k"
        raise ValueError(message(OP, "x", rule, tuple(x), "pass the input of the layer"))
    if tuple(weight) != (k[1], x[1]):
        rule = f"be [C_out, C_in], {(k[1], x[1])}"
        remedy = "flatten the weight of a 1x1 convolution, weight.flatten(1)"
        raise ValueError(message(OP, "weight", rule, tuple(weight), remedy))
    if bias is not None and tuple(bias) != (k[1],):
        rule = f"be [C_out], ({k[1]},)"
        raise ValueError(message(OP, "bias", rule, tuple(bias), "pass a number per channel of k"))
    if residual and k[1] != x[1]:
        rule = f"have the {k[1]} channels of k where it is added to the result"
        raise ValueError(message(OP, "x", rule, x[1], "pass residual=False"))

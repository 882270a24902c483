"""Derivatives of an op from its reference: beyond the first order, and in forward mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern._registry import _needs_function


def beyond_first_order() -> bool:
    """Whether a backward is itself differentiated, or transformed."""
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or _needs_function()


def pull_back(
    function: Callable[..., tuple[Tensor, ...]],
    args: Sequence[Any],
    grads: Sequence[Tensor | None],
) -> tuple[Any, ...]:
    """The gradients of all floating arguments of a reference, differentiable again."""
    chosen = _floating(args)

    def outputs(*tensors: Tensor) -> tuple[Tensor, ...]:
        values = list(args)
        for i, t in zip(chosen, tensors, strict=True):
            values[i] = t
        out = function(*values)[: len(grads)]
        return tuple(o for o, g in zip(out, grads, strict=True) if g is not None)

    _, pull, *_ = torch.func.vjp(outputs, *(args[i] for i in chosen))
    found = pull(tuple(g for g in grads if g is not None))
    by_argument = dict(zip(chosen, found, strict=True))
    return tuple(by_argument.get(i) for i in range(len(args)))


def push_forward(
    function: Callable[..., tuple[Tensor, ...]],
    args: Sequence[Any],
    tangents: Sequence[Any],
    outputs: int,
) -> tuple[Any, ...]:
    """The tangents of a reference's first outputs."""
    chosen = [i for i in _floating(args) if tangents[i] is not None]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        values = list(args)
        for i, t in zip(chosen, tensors, strict=True):
            values[i] = t
        return function(*values)[:outputs]

    # J v is the gradient of u -> (J^T u) v: torch does not nest forward mode.
    out, pull, *_ = torch.func.vjp(run, *(args[i] for i in chosen))
    _, push, *_ = torch.func.vjp(pull, tuple(map(torch.zeros_like, out)))
    found: tuple[Any, ...] = push(tuple(tangents[i] for i in chosen))[0]
    return found


def _floating(args: Sequence[Any]) -> list[int]:
    return [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.is_floating_point()]

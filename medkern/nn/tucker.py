"""Complex tensors in Tucker form, with real parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medkern.rules import message


def tucker_ranks(shape: Sequence[int], share: float) -> tuple[int, ...]:
    """Ranks c * shape of a core and factors that have `share` of the dense number of parameters.

    c solves c**n prod(shape) + c sum(shape**2) = share * prod(shape), as in TensorLy.

    >>> tucker_ranks((3, 4, 6, 5), 0.5)
    (2, 3, 5, 4)
    """
    if not 0 < share <= 1:
        raise ValueError(
            message("SpectralConv", "rank", "be in (0, 1]", share, "pass a share of the parameters")
        )
    dense, squares = math.prod(shape), sum(n * n for n in shape)
    low, high = 0.0, 1.0
    for _ in range(60):
        c = (low + high) / 2
        low, high = (c, high) if c ** len(shape) * dense + c * squares < share * dense else (low, c)
    return tuple(max(round(n * high), 1) for n in shape)


class TuckerWeight(nn.Module):
    """[*shape, 2] as a core times a factor along each axis, all complex in real numbers."""

    def __init__(self, shape: Sequence[int], share: float, **made: Any) -> None:
        super().__init__()
        ranks = tucker_ranks(shape, share)
        self.core = nn.Parameter(torch.empty(*ranks, 2, **made))
        self.factors = nn.ParameterList(
            nn.Parameter(torch.empty(n, r, 2, **made)) for n, r in zip(shape, ranks, strict=True)
        )
        self._made: tuple[Any, Tensor] | None = None

    def reset_parameters(self, std: float) -> None:
        """Normal, such that the product has this root mean square."""
        ranks = self.core.shape[:-1]
        # Each entry of the product sums prod(ranks) terms of len(ranks) + 1 numbers each.
        each = (std / math.sqrt(math.prod(ranks))) ** (1 / (len(ranks) + 1))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=each / math.sqrt(2))

    def forward(self) -> Tensor:
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            self._made = None
            return self.product(self.core, list(self.factors))
        state = [(p.data_ptr(), p._version, p.dtype) for p in self.parameters()]
        if self._made is None or self._made[0] != state:
            self._made = (state, self.product(self.core, list(self.factors)))
        return self._made[1]

    @staticmethod
    def product(core: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """core [*ranks, 2] times factors [n_i, r_i, 2] along axes i -> [*n, 2]."""
        made = core
        for factor in factors:  # the first axis leaves, its product comes last
            re, im = factor.unbind(-1)
            block = torch.stack([torch.cat([re, -im], 1), torch.cat([im, re], 1)], 1)
            made = made.movedim(0, -2).transpose(-2, -1).flatten(-2)  # [..., 2 r]
            made = made @ block.flatten(0, 1).T
            made = made.unflatten(-1, (factor.shape[0], 2))
        return made

    def load(self, core: Tensor | None, factors: Sequence[Tensor], op: str) -> None:
        given = [t.shape for t in (core, *factors) if t is not None]
        mine = [p.shape[:-1] for p in self.parameters()]
        if core is None or given != mine:
            rule = f"have the Tucker shapes {[tuple(s) for s in mine]}"
            remedy = "build this layer with the same rank, or with dense weights"
            raise ValueError(message(op, "state", rule, [tuple(s) for s in given], remedy))
        for parameter, value in zip(self.parameters(), (core, *factors), strict=True):
            parameter.copy_(torch.view_as_real(value) if value.is_complex() else value)

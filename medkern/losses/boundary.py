"""The boundary loss as a module."""

from __future__ import annotations

from torch import Tensor, nn

from medkern.ops.boundary import boundary_loss
from medkern.rules import boundary as rules
from medkern.rules import choice


class BoundaryLoss(nn.Module):
    """`boundary_loss` as a module, without state.

    Args:
        alpha, include_background, reduction: as for `medkern.boundary_loss`; `alpha` may be changed
            between steps, as schedules of the boundary term do.

    >>> import torch, medkern as mk
    >>> logits, maps = torch.zeros(1, 2, 1, 4), torch.tensor([[[[2.0, 1.0, -1.0, -3.0]]]])
    >>> mk.losses.BoundaryLoss()(logits, maps)
    tensor(-0.1250)
    """

    def __init__(
        self, alpha: float = 1.0, *, include_background: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__()
        choice(type(self).__name__, "reduction", reduction, rules.REDUCTIONS)
        self.alpha = alpha
        self.include_background = include_background
        self.reduction = reduction

    def forward(self, logits: Tensor, maps: Tensor, points: Tensor | None = None) -> Tensor:
        return boundary_loss(
            logits,
            maps,
            points,
            alpha=self.alpha,
            include_background=self.include_background,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        background = f"include_background={self.include_background}"
        return f"alpha={self.alpha}, {background}, reduction={self.reduction!r}"

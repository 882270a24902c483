"""Segmentation losses as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medkern.ops.correlation import MODES, spectral_correlation
from medkern.ops.segmentation import segmentation_loss
from medkern.rules import choice
from medkern.rules import segmentation as rules


class SegmentationLoss(nn.Module):
    """`segmentation_loss` as a module, without state.

    Args:
        terms, weights, include_background, per, smooth, ignore_index, reduction: as for
            `medkern.segmentation_loss`.

    >>> import torch, medkern as mk
    >>> loss = mk.losses.SegmentationLoss(("ce", "dice", "scc"))
    >>> loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    tensor(1.2598)
    """

    def __init__(
        self,
        terms: Sequence[str] = ("ce", "dice"),
        weights: Sequence[float] | None = None,
        *,
        include_background: bool = False,
        per: str = "sample",
        smooth: float = 1e-5,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        rules.term_weights(type(self).__name__, terms, weights)
        choice(type(self).__name__, "per", per, rules.PER)
        choice(type(self).__name__, "reduction", reduction, rules.REDUCTIONS)
        self.terms = terms
        self.weights = weights
        self.include_background = include_background
        self.per = per
        self.smooth = smooth
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return segmentation_loss(
            logits,
            target,
            self.terms,
            self.weights,
            include_background=self.include_background,
            per=self.per,
            smooth=self.smooth,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        return f"terms={self.terms}, weights={self.weights}, per={self.per!r}"


class SpectralCorrelationLoss(nn.Module):
    """weight (1 - scc), to be added to another loss of the same probabilities; without state.

    Args:
        mode: "full" (in `SegmentationLoss` it is the term "scc" at no cost), "band" or "binned".
        weight: 0.2, as published.
        bins, band, edge, per, smooth: as for `medkern.spectral_correlation`.

    >>> import torch, medkern as mk
    >>> y = torch.ones(1, 1, 4, 4)
    >>> mk.losses.SpectralCorrelationLoss()(0.5 * y, y)
    tensor(0.0400)
    """

    def __init__(
        self,
        mode: str = "full",
        *,
        weight: float = 0.2,
        bins: int = 8,
        band: tuple[float, float] | None = None,
        edge: float = 0.05,
        per: str = "sample",
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        choice(type(self).__name__, "mode", mode, MODES)
        choice(type(self).__name__, "per", per, rules.PER)
        if mode == "band":
            rules.check_band(type(self).__name__, band, edge)
        self.mode = mode
        self.weight = weight
        self.bins = bins
        self.band = band
        self.edge = edge
        self.per = per
        self.smooth = smooth

    def forward(self, p: Tensor, y: Tensor) -> Tensor:
        similarity = spectral_correlation(
            p,
            y,
            self.mode,
            bins=self.bins,
            band=self.band,
            edge=self.edge,
            per=self.per,
            smooth=self.smooth,
        )
        return self.weight * (1 - similarity)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, weight={self.weight}, per={self.per!r}"

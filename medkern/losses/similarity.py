"""Losses of image registration as modules."""

from __future__ import annotations

from torch import Tensor, nn

from medkern.ops.similarity import global_ncc, local_ncc_loss, mutual_information_loss
from medkern.rules import choice, number
from medkern.rules import similarity as rules


class LocalNCCLoss(nn.Module):
    """`local_ncc_loss` as a module, without state.

    Args:
        window, eps, variant, squared, reduction: as for `medkern.local_ncc_loss`.

    >>> import torch, medkern as mk
    >>> a = torch.arange(100.0).reshape(1, 1, 10, 10) ** 2
    >>> mk.losses.LocalNCCLoss(window=5)(a, -2 * a)
    tensor(-1.)
    """

    def __init__(
        self,
        window: int = 9,
        *,
        eps: float = 1e-5,
        variant: str = "monai",
        squared: bool = True,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        choice(name, "variant", variant, rules.VARIANTS)
        choice(name, "reduction", reduction, rules.LOCAL_REDUCTIONS)
        rules.check_window(name, window)
        number(name, "eps", eps, 0, above=True)
        self.window, self.eps, self.variant = window, eps, variant
        self.squared, self.reduction = squared, reduction

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return local_ncc_loss(
            a,
            b,
            window=self.window,
            eps=self.eps,
            variant=self.variant,
            squared=self.squared,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        how = f"eps={self.eps}, variant={self.variant!r}, squared={self.squared}"
        return f"window={self.window}, {how}, reduction={self.reduction!r}"


class GlobalNCCLoss(nn.Module):
    """Minus `global_ncc`, or minus its square, as a module without state.

    Args:
        eps: as for `medkern.global_ncc`.
        squared: whether to square the correlation: inverted contrast then is as good.
        reduction: "mean" or "sum" over samples and channels, "none": [B, C].

    >>> import torch, medkern as mk
    >>> a = torch.arange(6.0).reshape(1, 2, 3)
    >>> mk.losses.GlobalNCCLoss()(a, 1000 - 2 * a)
    tensor(1.)
    """

    def __init__(
        self, *, eps: float = 1e-8, squared: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__()
        choice(type(self).__name__, "reduction", reduction, rules.REDUCTIONS)
        number(type(self).__name__, "eps", eps, 0, above=True)
        self.eps, self.squared, self.reduction = eps, squared, reduction

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        correlation = global_ncc(a, b, eps=self.eps)
        loss = -(correlation.square() if self.squared else correlation)
        if self.reduction == "none":
            return loss
        return loss.sum() if self.reduction == "sum" else loss.sum() / max(loss.numel(), 1)

    def extra_repr(self) -> str:
        return f"eps={self.eps}, squared={self.squared}, reduction={self.reduction!r}"


class MutualInformationLoss(nn.Module):
    """`mutual_information_loss` as a module, without state.

    Args:
        bins, sigma_ratio, kernel, eps, reduction: as for `medkern.mutual_information_loss`.

    >>> import torch, medkern as mk
    >>> mk.losses.MutualInformationLoss(bins=16)
    MutualInformationLoss(bins=16, sigma_ratio=0.5, kernel='gaussian', eps=1e-07, reduction='mean')
    """

    def __init__(
        self,
        bins: int = 32,
        *,
        sigma_ratio: float = 0.5,
        kernel: str = "gaussian",
        eps: float = 1e-7,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        choice(name, "kernel", kernel, rules.PARZEN_KERNELS)
        choice(name, "reduction", reduction, rules.REDUCTIONS)
        rules.check_bins(name, bins, kernel)
        rules.check_sigma(name, sigma_ratio)
        number(name, "eps", eps, 0, above=True)
        self.bins, self.sigma_ratio, self.kernel = bins, sigma_ratio, kernel
        self.eps, self.reduction = eps, reduction

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return mutual_information_loss(
            a,
            b,
            bins=self.bins,
            sigma_ratio=self.sigma_ratio,
            kernel=self.kernel,
            eps=self.eps,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        how = f"kernel={self.kernel!r}, eps={self.eps}, reduction={self.reduction!r}"
        return f"bins={self.bins}, sigma_ratio={self.sigma_ratio}, {how}"

"""The focal frequency loss as a module."""

from __future__ import annotations

from torch import Tensor, nn

from medkern.ops.fourier import focal_frequency_loss


class FocalFrequencyLoss(nn.Module):
    """`focal_frequency_loss` as a module, without state.

    Takes the place of `focal_frequency_loss.FocalFrequencyLoss` of the package of that name: the
    same arguments, defaults and numbers.

    Args:
        loss_weight: factor of the loss.
        alpha, patch_factor, ave_spectrum, log_matrix, batch_matrix: as for
            `medkern.focal_frequency_loss`, which checks them.

    >>> import torch, medkern as mk
    >>> x = torch.eye(4)[None, None]
    >>> mk.losses.FocalFrequencyLoss(loss_weight=2.0)(x, torch.zeros_like(x))
    tensor(0.5000)
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        alpha: float = 1.0,
        patch_factor: int = 1,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.patch_factor = patch_factor
        self.ave_spectrum = ave_spectrum
        self.log_matrix = log_matrix
        self.batch_matrix = batch_matrix

    def forward(self, pred: Tensor, target: Tensor, matrix: Tensor | None = None) -> Tensor:
        loss = focal_frequency_loss(
            pred,
            target,
            matrix,
            alpha=self.alpha,
            patch_factor=self.patch_factor,
            ave_spectrum=self.ave_spectrum,
            log_matrix=self.log_matrix,
            batch_matrix=self.batch_matrix,
        )
        return loss * self.loss_weight

    def extra_repr(self) -> str:
        names = ("alpha", "patch_factor", "ave_spectrum", "log_matrix", "batch_matrix")
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"loss_weight={self.loss_weight}, {options}"

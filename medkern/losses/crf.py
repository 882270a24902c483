"""The dense CRF loss, by brute force: for small grids.

    L = -w mean_ij sum_k s_ik A_ij s_jk
    A_ij = exp(-|I_i - I_j|^2 / 2 a^2 - |p_i - p_j|^2 / 2 b^2)

with s the softmax of the logits, I the colours, p the positions, i and j any two pixels. It rewards
equal classes of pixels that are near and look alike.

Source: Tang et al., "On regularized losses for weakly-supervised CNN segmentation", ECCV 2018.
Their code filters through a permutohedral lattice; here all pairs are summed, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 1024  # of the affinity matrix that are in memory at once


class DenseCRFLoss(nn.Module):
    """The dense CRF loss, computed at `scale` times the resolution.

    Args:
        weight: w. The published 2e-9 is for sums over the pairs of 128 x 128 pixels; as this is a
            mean over pairs, that is 0.54 on any grid.
        sigma_rgb: a, in grey levels of images in 0..255.
        sigma_xy: b, in pixels before scaling. 100 for images of 256 x 256, as published.
        scale: images are resized by this first.

    `forward(logits, image)`: logits [B, K, H, W], image [B, C, H, W] in 0..255; a scalar. Time is
    quadratic in the number of pixels, memory 1024 rows of the affinity; first derivatives only.

    >>> import torch, medkern as mk
    >>> crf = mk.losses.DenseCRFLoss(weight=1.0)
    >>> crf(torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8))  # halves, all alike
    tensor(-0.4995)
    """

    def __init__(
        self,
        weight: float = 0.54,
        sigma_rgb: float = 15.0,
        sigma_xy: float = 100.0,
        scale: float = 0.5,
    ) -> None:
        super().__init__()
        self.weight, self.sigma_rgb, self.sigma_xy, self.scale = weight, sigma_rgb, sigma_xy, scale

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        probabilities, colours = (
            functional.interpolate(t, scale_factor=self.scale, mode="bilinear", align_corners=False)
            for t in (logits.softmax(1), image.to(logits.dtype))
        )
        s = probabilities.flatten(2).mT  # [B, N, K]
        features = self._features(colours)  # [B, N, C + 2]
        with torch.no_grad():
            filtered = torch.cat(
                [
                    _affinity(features[:, i : i + ROWS], features) @ s
                    for i in range(0, s.shape[1], ROWS)
                ],
                dim=1,
            )
        # The value is s A s; as A is symmetric, its gradient is 2 A s, not the A s that is left
        # where A s counts as a constant.
        agreement = ((2 * s - s.detach()) * filtered).sum((1, 2)) / s.shape[1] ** 2
        return -self.weight * agreement.mean()

    def _features(self, colours: Tensor) -> Tensor:
        height, width = colours.shape[2:]
        at = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        positions = torch.stack(at).to(colours) / (self.scale * self.sigma_xy)
        batch = positions.expand(colours.shape[0], *positions.shape)
        return torch.cat([colours / self.sigma_rgb, batch], dim=1).flatten(2).mT

    def extra_repr(self) -> str:
        sigmas = f"sigma_rgb={self.sigma_rgb}, sigma_xy={self.sigma_xy}"
        return f"weight={self.weight}, {sigmas}, scale={self.scale}"


def _affinity(rows: Tensor, features: Tensor) -> Tensor:
    return (-0.5 * torch.cdist(rows, features).square()).exp()

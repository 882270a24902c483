"""Segmentation metrics that several recipes report."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import medkern


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Bool masks [B, K - 1, *space] of the classes 1 to K - 1 of label maps [B, *space]."""
    return torch.stack([labels == k for k in range(1, classes)], dim=1)


def dice_scores(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Dice per sample and foreground class [B, K - 1] of label maps [B, *space]; NaN where neither
    has the class.

    >>> import torch
    >>> from medkern.train.metrics import dice_scores
    >>> dice_scores(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 1, 1]]), classes=3)
    tensor([[0.8000,    nan]])
    """
    a, b = (one_hot(t, classes).flatten(2) for t in (predicted, labels))
    both = (a & b).sum(-1).float()
    return 2 * both / (a.sum(-1) + b.sum(-1))


def hausdorff95(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """HD95 in pixels per sample and foreground class [B, K - 1], float64: the image's diagonal
    where one side lacks the class, NaN where both do."""
    a, b = one_hot(predicted, classes), one_hot(labels, classes)
    diagonal = math.hypot(*labels.shape[1:])
    far = medkern.hausdorff_distance(a, b, percentile=95, ndim=labels.dim() - 1)
    far = far.nan_to_num(posinf=diagonal)
    present = (a | b).flatten(2).any(-1)
    return torch.where(present, far, torch.nan)

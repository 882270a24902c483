"""Calibration errors of a segmentation: how far confidence and accuracy are apart.

Source: Naeini et al., AAAI 2015; Guo et al., ICML 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medkern.interop import ArrayT, as_tensor
from medkern.ops.segmentation import FLOATS, INTEGERS, check_kind
from medkern.rules import at_least
from medkern.rules import segmentation as rules


def expected_calibration_error(
    probabilities: ArrayT, target: ArrayT, *, bins: int = 15, ignore_index: int = -100
) -> ArrayT:
    """sum over bins m of n_m / n |accuracy_m - confidence_m|.

    A voxel's confidence is its largest probability; it is right where that class is its label. Bin
    m of M holds the confidences in ((m - 1) / M, m / M].

    Args:
        probabilities: [B, K, *space], in any floating dtype. K = 1: of the foreground, so that the
            background has the rest, and 1/2 counts as foreground.
        target: [B, *space] or [B, 1, *space] integer labels.
        bins: M.
        ignore_index: the label of voxels that take no part.

    Returns:
        A float64 scalar in [0, 1]; 0 where no voxel counts.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Plain torch operations; O(N). NaN confidences make it NaN. Differentiable within a bin.

    >>> import torch, medkern as mk
    >>> p = torch.tensor([[[0.9, 0.8, 0.3]]])
    >>> mk.expected_calibration_error(p, torch.tensor([[1, 0, 0]]))
    tensor(0.4000, dtype=torch.float64)
    """
    op = "expected_calibration_error"
    count, gap, restore = _bins(op, probabilities, target, bins, ignore_index)
    return restore((gap.abs() / count.sum().clamp(min=1)).sum())


def maximum_calibration_error(
    probabilities: ArrayT, target: ArrayT, *, bins: int = 15, ignore_index: int = -100
) -> ArrayT:
    """max over bins m of |accuracy_m - confidence_m|, empty bins left out.

    Arguments, bins, errors and result as for `expected_calibration_error`.

    >>> import torch, medkern as mk
    >>> p = torch.tensor([[[0.9, 0.8, 0.3]]])
    >>> mk.maximum_calibration_error(p, torch.tensor([[1, 0, 0]]))
    tensor(0.8000, dtype=torch.float64)
    """
    op = "maximum_calibration_error"
    count, gap, restore = _bins(op, probabilities, target, bins, ignore_index)
    return restore((gap.abs() / count.clamp(min=1)).amax())


def _bins(
    op: str, probabilities: ArrayT, target: ArrayT, bins: int, ignore_index: int
) -> tuple[Tensor, Tensor, Callable[[Tensor], ArrayT]]:
    """Per bin the number of voxels and the sum of accuracy - confidence, and how to return."""
    at_least(op, "bins", bins, 1)
    p, restore = as_tensor(op, "probabilities", probabilities)
    labels, _ = as_tensor(op, "target", target)
    rules.check_logits(op, "probabilities", p.shape)
    check_kind(op, "probabilities", p, FLOATS, p)
    check_kind(op, "target", labels, INTEGERS, p)
    rules.check_labels(op, labels.shape, p.shape)
    confidence, guess = _most_likely(p.double())
    labels = labels.reshape(guess.shape).long()
    kept = labels != ignore_index
    confidence, right = confidence[kept], (guess == labels)[kept]
    index = ((confidence.detach() * bins).ceil() - 1).nan_to_num(0).long().clamp(0, bins - 1)
    zeros = torch.zeros(bins, dtype=torch.float64, device=p.device)
    count = zeros.index_add(0, index, torch.ones_like(confidence))
    return count, zeros.index_add(0, index, right.double() - confidence), restore


def _most_likely(p: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and class of every voxel [B, *space]."""
    if p.shape[1] > 1:
        confidence, guess = p.max(1)
        return confidence, guess
    p = p.squeeze(1)
    return torch.maximum(p, 1 - p), (p >= 0.5).long()

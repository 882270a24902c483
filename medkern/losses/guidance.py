"""Losses between an image and its perturbed copy: sensitivity guidance, and consistency.

Source: Yang and Yu, "A single source generalization model via spatial amplitude perturbation and
sensitivity guidance", ICPR 2024; equations 6, 7, 10 and 11.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medkern.rules import message

EPSILON = 1e-3  # attention and sensitivity are kept this far from 0 and 1, where the log is not


def channel_sensitivity(clean: Tensor, perturbed: Tensor) -> Tensor:
    """How far each channel moved, from 0 (least) to 1 (most) within its sample.

    The mean absolute difference of the features, its minimum over the channels taken off, over what
    is then its maximum.

    Args:
        clean, perturbed: features [B, C, *space] of an image and of its perturbed copy.

    Returns:
        [B, C], without gradient: it is a target. 0 where all channels moved alike.

    >>> import torch, medkern as mk
    >>> f = torch.zeros(1, 3, 4, 4)
    >>> mk.losses.channel_sensitivity(f, f + torch.tensor([1.0, 2.0, 5.0])[:, None, None])
    tensor([[0.0000, 0.2500, 1.0000]])
    """
    _same_shape("channel_sensitivity", "perturbed", perturbed, "clean", clean)
    moved = (clean.detach() - perturbed.detach()).abs().flatten(2).mean(2)
    moved = moved - moved.amin(1, keepdim=True)
    largest = moved.amax(1, keepdim=True)
    return moved / torch.where(largest > 0, largest, 1)


def sensitivity_guidance_loss(
    attention: Tensor, sensitivity: Tensor, *, epsilon: float = EPSILON
) -> Tensor:
    """Close the gate of channels that moved: the norm of log(attention) log(sensitivity) - 1.

    It vanishes on the curve attention = exp(1 / log(sensitivity)): near 1 for channels that stay,
    near 0 for those that move.

    Args:
        attention: [B, C] in [0, 1].
        sensitivity: [B, C] in [0, 1]: `channel_sensitivity`.
        epsilon: how far both are kept from 0 and 1. Where the attention is nearer, no gradient.

    Returns:
        The root of the mean square over the channels, and its mean over the samples, so that its
        size depends neither on the number of channels nor on that of samples.

    >>> import torch, medkern as mk
    >>> s = torch.tensor([[0.05, 0.37, 0.60]])
    >>> mk.losses.sensitivity_guidance_loss((1 / s.log()).exp(), s) < 1e-5
    tensor(True)
    """
    _same_shape("sensitivity_guidance_loss", "sensitivity", sensitivity, "attention", attention)
    log_a, log_s = (t.clamp(epsilon, 1 - epsilon).log() for t in (attention, sensitivity))
    norm: Tensor = torch.linalg.vector_norm(log_a * log_s - 1, dim=1)
    return norm.mean() / math.sqrt(attention.shape[1])


def consistency_loss(logits: Tensor, perturbed: Tensor) -> Tensor:
    """The mean squared difference of two predictions' sigmoids.

    >>> import torch, medkern as mk
    >>> mk.losses.consistency_loss(torch.zeros(2), torch.tensor([0.0, 40.0]))
    tensor(0.1250)
    """
    _same_shape("consistency_loss", "perturbed", perturbed, "logits", logits)
    return (logits.sigmoid() - perturbed.sigmoid()).square().mean()


def _same_shape(op: str, name: str, t: Tensor, other: str, like: Tensor) -> None:
    if t.shape != like.shape:
        rule = f"have the shape of {other}, {tuple(like.shape)}"
        raise ValueError(message(f"losses.{op}", name, rule, tuple(t.shape), "pass a pair"))

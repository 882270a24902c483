"""The boundary loss, as written in the papers.

Kervadec et al., "Boundary loss for highly unbalanced segmentation", Medical Image Analysis 2021;
Breznik et al., the same for point annotations, equations 2 and 5. Half-precision logits are
computed in float32, like in the kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNLABELLED_BYTE = 255


def boundary_loss(logits: Tensor, maps: Tensor, labels: Tensor | None) -> Tensor:
    """Per sample: the boundary term, the cross-entropy of the labelled voxels, and their number.

    logits [B, K, *space], maps [B, M, *space] of the last M classes, labels [B, *space] -> [B, 3].
    """
    z = widen(logits)
    boundary = sample_sum(z.softmax(1) * padded_maps(z, maps))
    if labels is None:
        return torch.stack([boundary, 0 * boundary, 0 * boundary], dim=1)
    target, labelled = targets(labels, z.shape[1] - maps.shape[1])
    surprise = -z.log_softmax(1).gather(1, target).squeeze(1)
    cross_entropy = sample_sum(torch.where(labelled, surprise, 0))
    return torch.stack([boundary, cross_entropy, sample_sum(labelled).to(z.dtype)], dim=1)


def boundary_loss_backward(
    logits: Tensor, grad: Tensor, maps: Tensor, labels: Tensor | None
) -> Tensor:
    """The gradient of boundary_loss in the logits, for grad [B, 3]."""
    z = widen(logits)
    s, phi = z.softmax(1), padded_maps(z, maps)
    push, pull = (per_sample(grad[:, i], z) for i in (0, 1))
    out = push * s * (phi - (s * phi).sum(1, keepdim=True))
    if labels is not None:
        target, labelled = targets(labels, z.shape[1] - maps.shape[1])
        out = out + pull * labelled.unsqueeze(1) * (s - one_hot(target, z))
    return out.to(logits.dtype)


def widen(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def padded_maps(z: Tensor, maps: Tensor) -> Tensor:
    """A map for every class [B, K, *space]: 0 for the first ones, which have none."""
    rest = z.shape[1] - maps.shape[1]
    if rest == 0:
        return maps.to(z.dtype)
    return torch.cat([torch.zeros_like(z[:, :rest]), maps.to(z.dtype)], dim=1)


def targets(labels: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The class of each voxel [B, 1, *space], 0 if unlabelled, and whether it is labelled."""
    labelled = labels >= first
    if labels.dtype == torch.uint8:
        labelled = labelled & (labels != UNLABELLED_BYTE)
    return torch.where(labelled, labels.long(), 0).unsqueeze(1), labelled


def one_hot(target: Tensor, z: Tensor) -> Tensor:
    return torch.zeros_like(z).scatter(1, target, 1.0)


def per_sample(values: Tensor, z: Tensor) -> Tensor:
    """values [B] as [B, 1, ..., 1] beside z [B, K, *space]."""
    return values.reshape(-1, *[1] * (z.dim() - 1))


def sample_sum(t: Tensor) -> Tensor:
    """[B, ...] -> [B]."""
    return t.sum(tuple(range(1, t.dim())))

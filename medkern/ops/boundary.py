"""Boundary loss for full or point annotations, fused.

With s = softmax of the logits over the classes, phi the signed distance maps and y the labels,

    boundary      = sum_i sum_k s_ik phi_ik                  over voxels i and classes k
    cross-entropy = sum_i -log s_iy                          over the labelled voxels i

Source: Kervadec et al., Medical Image Analysis 2021; Breznik et al. for points and for maps that
know the image, equations 2 and 5. `signed_distance_map` makes the maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import boundary as reference
from medkern.rules import boundary as rules
from medkern.rules import choice, message
from medkern.testing import image_layouts

# Label dtypes that kernels read as they are; other integers are converted to int64.
READ_AS_THEY_ARE = (torch.uint8, torch.int64)
INTEGERS = (*READ_AS_THEY_ARE, torch.int8, torch.int16, torch.int32)


def boundary_loss(
    logits: ArrayT,
    maps: ArrayT,
    points: ArrayT | None = None,
    *,
    alpha: float = 1.0,
    include_background: bool = False,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Cross-entropy of the labelled voxels plus `alpha` times the boundary loss.

    Args:
        logits: [B, K, *space], K >= 2, any number of spatial axes; class 0 is the background.
            float16, bfloat16 (both computed in float32), float32, float64. channels_last is read
            and its gradient written without a copy.
        maps: [B, K, *space], or [B, K - 1, *space] without the background: the signed distance map
            of each class, negative inside. Any floating dtype; float16 halves their traffic. They
            must be finite: an infinite one makes the loss infinite, or NaN where s is 0.
        points: [B, *space] integer class labels; negative, or 255 in uint8, where a voxel has none.
            uint8 and int64 are read as they are, other integers converted.
        alpha: weight of the boundary term. 1 suits maps of images in 0..255 (points) as well as
            maps in voxels (full labels, where `points` is None and another loss is added).
        include_background: whether class 0 takes part. If not, its map (if given) is not read, and
            label 0 means unlabelled.
        reduction: "mean": the boundary term is the mean over samples, classes that take part and
            voxels, the cross-entropy the mean over the labelled voxels of the batch (0 if there are
            none), and the result a scalar. "sum": both are sums, as printed in the paper. "none":
            [B], as "mean" with every sample on its own.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 logits, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.
        RuntimeError: a label of K or more; found while computing. On a GPU, where an error would
            mean waiting for the device, the loss and the gradient at its voxel are NaN instead.

    Softmax and cross-entropy are taken relative to the largest logit, so no logit is too large and
    nothing is clamped: a label of probability 0 costs inf. NaN spreads. Under autocast, float32
    maps may come with half-precision logits; the loss stays float32. An empty batch costs 0.

    Gradients of any order in logits and maps; the kernels compute the loss and the gradient of the
    logits, torch the others. The forward reads all inputs once and allocates nothing of their size;
    the backward reads them again and writes the gradient. The result does not depend on the number
    of threads.

    >>> import torch, medkern as mk
    >>> logits, maps = torch.zeros(1, 2, 1, 4), torch.tensor([[[[2.0, 1.0, -1.0, -3.0]]]])
    >>> mk.boundary_loss(logits, maps)
    tensor(-0.1250)
    >>> points = torch.tensor([[[-1, -1, 1, -1]]])
    >>> mk.boundary_loss(logits, maps, points, alpha=0.0)  # log 2
    tensor(0.6931)
    """
    op = "boundary_loss"
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    z, restore = as_tensor(op, "logits", logits)
    phi, _ = as_tensor(op, "maps", maps)
    mapped = rules.mapped_classes(op, z.shape, phi.shape, include_background)
    _check_kind(op, "logits", z, _boundary_loss.spec.dtypes, z, ".float()")
    _check_kind(op, "maps", phi, _boundary_loss.spec.dtypes, z, ".float()")
    labels = None
    if points is not None:
        labels, _ = as_tensor(op, "points", points)
        rules.check_points(op, labels.shape, z.shape)
        _check_kind(op, "points", labels, INTEGERS, z, ".long()")
        labels = labels if labels.dtype in READ_AS_THEY_ARE else labels.long()
    phi = phi[:, phi.shape[1] - mapped :]
    return restore(_reduce(_boundary_loss(z, phi, labels, backend=backend), phi, alpha, reduction))


def _check_kind(
    op: str, argument: str, t: Tensor, dtypes: tuple[torch.dtype, ...], logits: Tensor, cast: str
) -> None:
    if t.dtype not in dtypes:
        names = ", ".join(map(dtype_name, dtypes))
        remedy = f"convert it, for example {argument}{cast}"
        raise TypeError(message(op, argument, f"be one of {names}", dtype_name(t.dtype), remedy))
    if t.device != logits.device:
        rule = f"be on the device of the logits, {logits.device}"
        raise ValueError(message(op, argument, rule, t.device, "move one of them"))


def _reduce(terms: Tensor, maps: Tensor, alpha: float, reduction: str) -> Tensor:
    """The loss, from the op's terms [B, 3] of each sample."""
    if reduction != "none":
        terms = terms.sum(0)
    boundary, cross_entropy, labelled = terms.unbind(-1)
    if reduction != "sum":
        samples = 1 if reduction == "none" else max(maps.shape[0], 1)
        boundary = boundary / (samples * maps.shape[1:].numel())
        cross_entropy = cross_entropy / labelled.clamp(min=1)
    return cross_entropy + alpha * boundary


def _fake_loss(logits: Tensor, maps: Tensor, labels: Tensor | None) -> Tensor:
    return logits.new_empty(logits.shape[0], 3, dtype=_compute_dtype(logits))


def _fake_backward(logits: Tensor, grad: Tensor, maps: Tensor, labels: Tensor | None) -> Tensor:
    batch, classes, *space = logits.shape
    if classes > 1 and logits.stride(1) == 1 and logits.stride(-1) != 1:  # channels_last
        return logits.new_empty(batch, *space, classes).movedim(-1, 1)
    return logits.new_empty(logits.shape)


def _compute_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.save_for_forward(*inputs)


def _loss_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    logits, maps, labels = ctx.saved_tensors
    d_logits = d_maps = None
    if ctx.needs_input_grad[0]:
        d_logits = _boundary_loss_backward(logits, grad, maps, labels)
    if ctx.needs_input_grad[1]:
        z = reference.widen(logits)
        s = z.softmax(1)[:, -maps.shape[1] :]
        d_maps = (reference.per_sample(grad[:, 0], z) * s).to(maps.dtype)
    return d_logits, d_maps, None


def _loss_jvp(ctx: Any, tangent: Any, maps_tangent: Any, _: Any) -> Tensor:
    logits, maps, labels = ctx.saved_tensors
    local = _Local(logits, maps, labels)
    boundary = cross_entropy = local.z.new_zeros(local.z.shape[0])
    if tangent is not None:
        boundary = boundary + reference.sample_sum(local.covariance(tangent))
        cross_entropy = cross_entropy + local.surprise_slope(tangent)
    if maps_tangent is not None:
        moved = reference.padded_maps(local.z, maps_tangent)
        boundary = boundary + reference.sample_sum(local.mean(moved))
    return torch.stack([boundary, cross_entropy, torch.zeros_like(boundary)], dim=1)


def _backward_backward(ctx: Any, u: Tensor) -> tuple[Any, ...]:
    logits, grad, maps, labels = ctx.saved_tensors
    local = _Local(logits, maps, labels)
    boundary, cross_entropy = reference.sample_sum(local.covariance(u)), local.surprise_slope(u)
    d_grad = torch.stack([boundary, cross_entropy, torch.zeros_like(boundary)], dim=1)
    push = reference.per_sample(grad[:, 0], local.z)
    d_maps = (push * local.s * (u - local.mean(u)))[:, -maps.shape[1] :]
    return local.hessian(u, grad).to(logits.dtype), d_grad, d_maps.to(maps.dtype), None


def _backward_jvp(ctx: Any, tangent: Any, grad_tangent: Any, maps_tangent: Any, _: Any) -> Tensor:
    logits, grad, maps, labels = ctx.saved_tensors
    local = _Local(logits, maps, labels)
    out = torch.zeros_like(local.s)
    if tangent is not None:
        out = out + local.hessian(tangent, grad)
    if grad_tangent is not None:
        out = out + _boundary_loss_backward(logits, grad_tangent, maps, labels)
    if maps_tangent is not None:
        moved = reference.padded_maps(local.z, maps_tangent)
        push = reference.per_sample(grad[:, 0], local.z)
        out = out + push * local.s * (moved - local.mean(moved))
    return out.to(logits.dtype)


class _Local:
    """Second derivatives, voxel by voxel, in torch: for directions u [B, K, *space].

    Mean and covariance are those over the classes of a voxel, with probabilities s.
    """

    def __init__(self, logits: Tensor, maps: Tensor, labels: Tensor | None) -> None:
        self.z = reference.widen(logits)
        self.s = self.z.softmax(1)
        self.phi = reference.padded_maps(self.z, maps)
        self.labelled = None
        if labels is not None:
            self.target, labelled = reference.targets(labels, logits.shape[1] - maps.shape[1])
            self.labelled = labelled.unsqueeze(1)

    def mean(self, u: Tensor) -> Tensor:
        return (self.s * u).sum(1, keepdim=True)

    def covariance(self, u: Tensor) -> Tensor:
        """Of u and the maps [B, 1, *space]: the slope of the boundary term along u."""
        return self.mean(u * (self.phi - self.mean(self.phi)))

    def surprise_slope(self, u: Tensor) -> Tensor:
        """The slope of each sample's cross-entropy along u [B]."""
        if self.labelled is None:
            return self.z.new_zeros(self.z.shape[0])
        slope = self.mean(u) - u.gather(1, self.target)
        return reference.sample_sum(torch.where(self.labelled, slope, 0))

    def hessian(self, u: Tensor, grad: Tensor) -> Tensor:
        """The Hessian in the logits of grad . terms, times u."""
        push, pull = (reference.per_sample(grad[:, i], self.z) for i in (0, 1))
        off = u - self.mean(u)
        out = push * self.s * (off * (self.phi - self.mean(self.phi)) - self.covariance(u))
        return out if self.labelled is None else out + pull * self.labelled * self.s * off


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Every layout, with and without a map of the background, times every kind of labels."""
    generator = torch.Generator().manual_seed(1)
    layouts = [one for one in image_layouts(dtype) if one[1].shape[1] != 0]
    for i, (name, x, _) in enumerate(layouts):
        logits = x if x.shape[1] > 1 else torch.cat([x, 0.5 - x], dim=1)
        batch, classes, *space = logits.shape
        maps = torch.randn(batch, classes - i % 2, *space, generator=generator).to(dtype)
        labels = torch.randint(-2, classes, (batch, *space), generator=generator)
        as_bytes = torch.where(labels < 0, reference.UNLABELLED_BYTE, labels).to(torch.uint8)
        yield Sample(f"{name}-no_labels", (logits, maps, None))
        yield Sample(f"{name}-labels", (logits, maps, labels))
        yield Sample(f"{name}-bytes", (logits, maps, as_bytes))


def _backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(2)
    for sample in _samples(dtype):
        logits, *rest = sample.args
        grad = torch.randn(logits.shape[0], 3, generator=generator)
        yield Sample(sample.name, (logits, grad.to(_compute_dtype(logits)), *rest))


_boundary_loss: Op = register(
    OpSpec(
        name="boundary_loss",
        schema="(Tensor logits, Tensor maps, Tensor? labels) -> Tensor",
        reference=reference.boundary_loss,
        fake=_fake_loss,
        samples=_samples,
        setup_context=_remember,
        backward=_loss_backward,
        jvp=_loss_jvp,
    )
)
_boundary_loss_backward: Op = register(
    OpSpec(
        name="_boundary_loss_backward",
        schema="(Tensor logits, Tensor grad, Tensor maps, Tensor? labels) -> Tensor",
        reference=reference.boundary_loss_backward,
        fake=_fake_backward,
        samples=_backward_samples,
        setup_context=_remember,
        backward=_backward_backward,
        jvp=_backward_jvp,
        autocast="widest",
    )
)

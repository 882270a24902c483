"""Cross-entropy, Dice and spectral correlation of a segmentation, fused.

With p = softmax or sigmoid of the logits and y the target, all of them are made of the same sums
over voxels: sum p y, sum p, sum p^2, sum y, sum y^2 and the cross-entropy. One kernel reads logits
and target once and returns these per sample and class; the loss is arithmetic on them.

    dice = (2 sum p y + smooth) / (sum p + sum y + smooth)
    scc  = (2 sum p y + smooth) / (sum p^2 + sum y^2 + smooth)

Source: Milletari et al., "V-Net", 3DV 2016; Gorade et al., "Harmonized spatial and spectral
learning", equation 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import segmentation as reference
from medkern.reference.segmentation import (
    CROSS_ENTROPY,
    P_SQUARED,
    PRODUCT,
    VOXELS,
    Y_SQUARED,
    P,
    Y,
)
from medkern.rules import choice, message, number
from medkern.rules import segmentation as rules
from medkern.testing import image_layouts

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int64, torch.int8, torch.int16, torch.int32, torch.bool)


def segmentation_loss(
    logits: ArrayT,
    target: ArrayT,
    terms: Sequence[str] = ("ce", "dice"),
    weights: Sequence[float] | None = None,
    *,
    include_background: bool = False,
    per: str = "sample",
    smooth: float = 1e-5,
    ignore_index: int = -100,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """A weighted sum of cross-entropy, soft Dice loss and spectral correlation loss.

    Args:
        logits: [B, K, *space], any number of spatial axes. float16, bfloat16 (both computed in
            float32), float32, float64. channels_last is read and its gradient written in place.
        target: integer labels [B, *space] or, with K >= 2, [B, 1, *space]; uint8 and int64 are read
            as they are. Or a value per class [B, K, *space]: one-hot or several at once in any
            integer dtype or bool, probabilities in any floating dtype. K = 1: 1 where the class is.
        terms: any of
            "ce": cross-entropy of the softmax over the K >= 2 classes, mean over voxels;
            "bce": cross-entropy of the sigmoid of every logit, mean over voxels and classes;
            "dice": 1 - dice; "scc": 1 - scc, means over what `per` and `include_background` say.
            With "bce", or with K = 1, p is the sigmoid of each logit, else the softmax.
        weights: one per term; None: 1, and 0.2 for "scc", as published.
        include_background: whether class 0 of a softmax takes part in "dice" and "scc". It always
            does in "ce"; classes of a sigmoid are all alike.
        per: what has a dice and an scc of its own: each "sample" and class; each "class", with
            sums over the batch (nnU-Net's batch Dice); or the "batch" as a whole.
        smooth: added to numerator and denominator; what is empty and stays so costs 0.
        ignore_index: the label of voxels that take no part in anything.
        reduction: "mean": a scalar. "none": [B], each sample on its own; needs `per="sample"`.
        backend: "native", "triton" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 logits, else float32. An empty batch costs 0.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.
        RuntimeError: a label that names no class; found while computing. On a GPU it is left out.

    Nothing is clamped: probabilities are taken relative to the largest logit, and a label of
    probability 0 costs inf. NaN spreads, but not from voxels that are ignored.

    Gradients of any order in logits and floating targets. The forward reads the inputs once and
    allocates [B, K, 7] sums; the backward reads them again and writes the gradient. The result does
    not depend on the number of threads.

    >>> import torch, medkern as mk
    >>> logits = torch.tensor([[[0.0, 2.0, -1.0]]])  # one class, three voxels
    >>> labels = torch.tensor([[0, 1, 1]])
    >>> mk.segmentation_loss(logits, labels, ("bce",))
    tensor(0.7111)
    >>> mk.segmentation_loss(logits, labels, ("bce", "dice"), weights=(0.0, 1.0))
    tensor(0.3700)
    """
    op = "segmentation_loss"
    weight_of = rules.term_weights(op, terms, weights)
    choice(op, "per", per, rules.PER)
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    if reduction == "none" and per != "sample":
        rule = "be 'sample' for reduction 'none'"
        raise ValueError(message(op, "per", rule, repr(per), "reduce to the mean"))
    number(op, "smooth", smooth, 0)
    z, restore = as_tensor(op, "logits", logits)
    rules.check_logits(op, "logits", z.shape)
    check_kind(op, "logits", z, FLOATS, z)
    softmax = rules.uses_softmax(op, terms, z.shape[1])
    y = _as_read(op, as_tensor(op, "target", target)[0], z)
    sums = _segmentation_sums(z, y, softmax, ignore_index, backend=backend)
    first = 0 if include_background or not softmax else 1
    return restore(_reduce(sums, weight_of, first, per, smooth, reduction))


def check_kind(
    op: str, argument: str, t: Tensor, dtypes: tuple[torch.dtype, ...], beside: Tensor
) -> None:
    if t.dtype not in dtypes:
        names = ", ".join(map(dtype_name, dtypes))
        remedy = f"convert it, for example {argument}.float()"
        raise TypeError(message(op, argument, f"be one of {names}", dtype_name(t.dtype), remedy))
    if t.device != beside.device:
        rule = f"be on the device of the first argument, {beside.device}"
        raise ValueError(message(op, argument, rule, t.device, "move one of them"))


def _as_read(op: str, target: Tensor, logits: Tensor) -> Tensor:
    """The target in a shape and dtype that the kernels read: uint8, int64 or floating."""
    check_kind(op, "target", target, (*FLOATS, *INTEGERS), logits)
    integer = target.dtype in INTEGERS
    if rules.target_is_labels(op, target.shape, logits.shape, integer=integer):
        labels = target.squeeze(1) if target.dim() == logits.dim() else target
        if labels.dtype == torch.bool:
            return labels.view(torch.uint8)
        return labels if labels.dtype in (torch.uint8, torch.int64) else labels.long()
    if target.dtype == torch.bool:
        return target.view(torch.uint8)
    narrow = integer and target.dtype != torch.uint8
    return target.to(reference.widen(logits).dtype) if narrow else target


def overlap(sums: Tensor, masses: tuple[int, int], per: str, smooth: float) -> Tensor:
    """(2 product + smooth) / (mass + mass + smooth) of sums [B, K, n]; [B, K], [1, K] or [1, 1]."""
    if per != "sample":
        sums = sums.sum((0,) if per == "class" else (0, 1), keepdim=True)
    mass = sums[..., masses[0]] + sums[..., masses[1]]
    return (2 * sums[..., PRODUCT] + smooth) / (mass + smooth)


def _reduce(
    sums: Tensor, weights: dict[str, float], first: int, per: str, smooth: float, reduction: str
) -> Tensor:
    """The loss, from the sums [B, K, 7]."""
    loss = sums.new_zeros(sums.shape[0] if reduction == "none" else ())
    for term, weight in weights.items():
        if term in ("ce", "bce"):
            loss = loss + weight * _mean_cross_entropy(sums, term, reduction)
        else:
            masses = (P, Y) if term == "dice" else (P_SQUARED, Y_SQUARED)
            rest = 1 - overlap(sums[:, first:], masses, per, smooth)
            each = rest.mean(1)
            loss = loss + weight * (each if reduction == "none" else _mean(each))
    return loss


def _mean(t: Tensor) -> Tensor:
    """0 for none."""
    return t.sum() / max(t.numel(), 1)


def _mean_cross_entropy(sums: Tensor, term: str, reduction: str) -> Tensor:
    total, voxels = sums[..., CROSS_ENTROPY].sum(1), sums[:, 0, VOXELS]
    if reduction != "none":
        total, voxels = total.sum(), voxels.sum()
    return total / (voxels.clamp(min=1) * (sums.shape[1] if term == "bce" else 1))


def _fake_sums(logits: Tensor, target: Tensor, softmax: bool, ignore: int) -> Tensor:
    return logits.new_empty(*logits.shape[:2], 7, dtype=_compute_dtype(logits))


def _fake_backward(
    logits: Tensor, grad: Tensor, target: Tensor, softmax: bool, ignore: int
) -> Tensor:
    batch, classes, *space = logits.shape
    if classes > 1 and logits.stride(1) == 1 and logits.stride(-1) != 1:  # channels_last
        return logits.new_empty(batch, *space, classes).movedim(-1, 1)
    return logits.new_empty(logits.shape)


def _compute_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.softmax, ctx.ignore = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _sums_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    logits, target = ctx.saved_tensors
    d_logits = d_target = None
    if ctx.needs_input_grad[0]:
        d_logits = _segmentation_sums_backward(logits, grad, target, ctx.softmax, ctx.ignore)
    if ctx.needs_input_grad[1]:
        local = _Local(logits, target, ctx)
        d_target = local.target_slope(grad).to(target.dtype)
    return d_logits, d_target, None, None


def _sums_jvp(ctx: Any, tangent: Any, target_tangent: Any, *_: Any) -> Tensor:
    logits, target = ctx.saved_tensors
    local = _Local(logits, target, ctx)
    out = local.z.new_zeros(*local.z.shape[:2], 7)
    if tangent is not None:
        out = out + local.sums_along(tangent)
    if target_tangent is not None:
        out = out + local.sums_along_target(target_tangent)
    return out


def _backward_backward(ctx: Any, u: Tensor) -> tuple[Any, ...]:
    logits, grad, target = ctx.saved_tensors
    local = _Local(logits, target, ctx)
    d_logits = local.gradient_along(reference.widen(u), grad).to(logits.dtype)
    d_target = None
    if ctx.needs_input_grad[2]:
        d_target = local.target_curvature(reference.widen(u), grad).to(target.dtype)
    return d_logits, local.sums_along(reference.widen(u)), d_target, None, None


def _backward_jvp(ctx: Any, tangent: Any, grad_tangent: Any, target_tangent: Any, *_: Any) -> Any:
    logits, grad, target = ctx.saved_tensors
    local = _Local(logits, target, ctx)
    out = torch.zeros_like(local.z)
    if tangent is not None:
        out = out + local.gradient_along(tangent, grad)
    if grad_tangent is not None:
        args = (target, ctx.softmax, ctx.ignore)
        out = out + _segmentation_sums_backward(logits, grad_tangent, *args)
    if target_tangent is not None:
        out = out + local.gradient_along_target(target_tangent, grad)
    return out.to(logits.dtype)


class _Local:
    """Second derivatives and those in the target, voxel by voxel, in torch.

    u is a direction of the logits [B, K, *space], w one of the target, grad [B, K, 7].
    """

    def __init__(self, logits: Tensor, target: Tensor, ctx: Any) -> None:
        self.z, self.softmax = reference.widen(logits), ctx.softmax
        self.y, self.valid = reference.values(self.z, target, ctx.ignore)
        self.p = self.z.softmax(1) if self.softmax else self.z.sigmoid()

    def mean(self, u: Tensor) -> Tensor:
        """Over the classes of a voxel [B, 1, *space]."""
        return (self.p * u).sum(1, keepdim=True)

    def p_along(self, u: Tensor) -> Tensor:
        return self.p * (u - self.mean(u)) if self.softmax else self.p * (1 - self.p) * u

    def surprise_along(self, u: Tensor) -> Tensor:
        return self.y * (self.mean(u) - u) if self.softmax else (self.p - self.y) * u

    def sums_along(self, u: Tensor) -> Tensor:
        dp, nothing = self.p_along(u), torch.zeros_like(self.z)
        return self.sums(self.y * dp, dp, 2 * self.p * dp, nothing, nothing, self.surprise_along(u))

    def sums_along_target(self, w: Tensor) -> Tensor:
        w, nothing = w.to(self.z.dtype), torch.zeros_like(self.z)
        return self.sums(self.p * w, nothing, nothing, w, 2 * self.y * w, self.price() * w)

    def sums(self, *terms: Tensor) -> Tensor:
        """[B, K, 7] of six terms, where valid; the number of voxels does not change."""
        kept = [reference.space_sum(torch.where(self.valid, t, 0)) for t in terms]
        return torch.stack([*kept, torch.zeros_like(kept[0])], dim=2)

    def price(self) -> Tensor:
        """The slope of the cross-entropy in the target."""
        return -self.z.log_softmax(1) if self.softmax else -self.z

    def weights(self, grad: Tensor) -> list[Tensor]:
        return [reference.per_class(grad[..., i], self.z) for i in range(7)]

    def target_slope(self, grad: Tensor) -> Tensor:
        g = self.weights(grad)
        return (
            g[PRODUCT] * self.p + g[Y] + 2 * g[Y_SQUARED] * self.y + g[CROSS_ENTROPY] * self.price()
        )

    def target_curvature(self, u: Tensor, grad: Tensor) -> Tensor:
        """The slope of the first-order gradient, times u, in the target."""
        g = self.weights(grad)
        moved = self.mean(u) - u if self.softmax else -u
        return g[PRODUCT] * self.p_along(u) + g[CROSS_ENTROPY] * moved

    def gradient_along_target(self, w: Tensor, grad: Tensor) -> Tensor:
        g, w = self.weights(grad), w.to(self.z.dtype)
        slope, pull = g[PRODUCT] * w, g[CROSS_ENTROPY] * w
        if not self.softmax:
            return self.p * (1 - self.p) * slope - pull
        return self.p * (slope - self.mean(slope) + pull.sum(1, keepdim=True)) - pull

    def gradient_along(self, u: Tensor, grad: Tensor) -> Tensor:
        """The Hessian in the logits of grad . sums, times u."""
        g, dp = self.weights(grad), self.p_along(u)
        slope = g[PRODUCT] * self.y + g[P] + 2 * g[P_SQUARED] * self.p
        bend = 2 * g[P_SQUARED] * dp
        if not self.softmax:
            dp_slope = (1 - 2 * self.p) * slope + self.p * (1 - self.p) * 2 * g[P_SQUARED]
            out = dp * (dp_slope + g[CROSS_ENTROPY])
        else:
            pull = (g[CROSS_ENTROPY] * self.y).sum(1, keepdim=True)
            drift = self.mean(bend) + (dp * slope).sum(1, keepdim=True)
            out = dp * (slope - self.mean(slope) + pull) + self.p * (bend - drift)
        return torch.where(self.valid, out, 0)


def few_layouts(dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Of `image_layouts`, what differs to kernels that take the spatial axes as one."""
    merged = ("wide", "batch-transposed", "channels_last-many", "line", "channels_last_3d")
    for name, x, _ in image_layouts(dtype):
        if name not in merged and x.shape[1] > 0:
            yield "contiguous-volume" if name == "volume" else name, x


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Every layout, with labels and with values, under softmax and sigmoid in turn."""
    generator = torch.Generator().manual_seed(1)
    for i, (name, logits) in enumerate(few_layouts(dtype)):
        batch, classes, *space = logits.shape
        labels = torch.randint(max(classes, 2), (batch, *space), generator=generator)
        labels[..., 1::3] = -1
        softmax = classes > 1 and i % 3 != 2
        if i % 2 == 0:
            as_bytes = torch.where(labels < 0, 255, labels).to(torch.uint8)
            labelled = (labels, -1) if i % 4 == 0 else (as_bytes, 255)
            yield Sample(f"{name}-labels", (logits, labelled[0], softmax, labelled[1]))
        else:
            values = torch.rand(batch, classes, *space, generator=generator).to(dtype)
            yield Sample(f"{name}-values", (logits, values, softmax, -1))


def _backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(2)
    for sample in _samples(dtype):
        logits, *rest = sample.args
        grad = torch.randn(*logits.shape[:2], 7, generator=generator)
        yield Sample(sample.name, (logits, grad.to(_compute_dtype(logits)), *rest))


_segmentation_sums: Op = register(
    OpSpec(
        name="_segmentation_sums",
        schema="(Tensor logits, Tensor target, bool softmax, int ignore) -> Tensor",
        reference=reference.segmentation_sums,
        fake=_fake_sums,
        samples=_samples,
        setup_context=_remember,
        backward=_sums_backward,
        jvp=_sums_jvp,
        triton="medkern.kernels.segmentation:segmentation_sums",
    )
)
_segmentation_sums_backward: Op = register(
    OpSpec(
        name="_segmentation_sums_backward",
        schema="(Tensor logits, Tensor grad, Tensor target, bool softmax, int ignore) -> Tensor",
        reference=reference.segmentation_sums_backward,
        fake=_fake_backward,
        samples=_backward_samples,
        setup_context=_remember,
        backward=_backward_backward,
        jvp=_backward_jvp,
        triton="medkern.kernels.segmentation:segmentation_sums_backward",
        autocast="widest",
    )
)

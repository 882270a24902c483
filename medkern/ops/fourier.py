"""Losses between the spectra of images.

Everything runs on half spectra, of one forward transform per image, in real and imaginary parts:
see `medkern.reference.half_spectrum`. What lies between the transforms is one sweep.

Source: Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops.half_spectrum import SPECTRAL, _half_spectrum, spectrum_samples
from medkern.reference import fourier as reference
from medkern.reference.half_spectrum import column_counts
from medkern.rules import choice, message, number
from medkern.rules import fourier as rules
from medkern.testing import image_layouts

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def focal_frequency_loss(
    pred: ArrayT,
    target: ArrayT,
    matrix: ArrayT | None = None,
    *,
    alpha: float = 1.0,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Focal frequency loss: squared distance of spectra, weighted by that distance itself.

    With D the orthonormal spectrum of pred - target, the mean of w |D|^2 over its bins, where
    w = |D|^alpha over the largest of the image, a constant for derivatives.

    Args:
        pred, target: [B, ..., H, W]. float16, bfloat16 (both computed in float32), float32,
            float64.
        matrix: weights to take for w, of the full spectrum in the order of `torch.fft.fft2`:
            broadcast to [B, patches, ..., h, w]; a constant. They should be from 0 to 1, which is
            not checked.
        alpha: at least 0; 0 makes it the mean squared error, by Parseval's theorem.
        patch_factor: cuts each axis into this many patches, each with a spectrum of its own.
        ave_spectrum: take the mean of the spectra over the batch (axis 0) first.
        log_matrix: take log(1 + |D|^alpha) for |D|^alpha.
        batch_matrix: divide by the largest of the batch, not of each image and channel.
        reduction: "mean" over the bins of the batch, "sum", or "none": [B], the mean of each.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 images, else float32.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    The same numbers as the package focal-frequency-loss 0.3.0, from one half spectrum of the
    difference instead of two full ones. NaN and inf make the loss NaN; equal images and an empty
    batch cost 0. Nothing waits for a device.

    Gradients to pred and target, of any order (w being a constant), and forward mode. O(N log N):
    beside the transforms, one sweep over the half spectrum each way. Memory: the difference and its
    half spectrum, which is kept for the backward; that allocates two more half spectra.

    >>> import torch, medkern as mk
    >>> x = torch.eye(4)[None, None]
    >>> mk.focal_frequency_loss(x, torch.zeros_like(x))
    tensor(0.2500)
    >>> mk.focal_frequency_loss(2 * x, torch.zeros_like(x), alpha=0.0)  # mean squared error
    tensor(1.)
    """
    op = "focal_frequency_loss"
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    number(op, "alpha", alpha, 0)
    rules.check_reduction_of_average(op, reduction, ave_spectrum)
    (p, t), restore = _pair(op, "pred", pred, "target", target)
    rules.check_patches(op, patch_factor, *p.shape[-2:])
    weights = None
    if matrix is not None:
        weights, _ = as_tensor(op, "matrix", matrix)
        check_kind(op, "matrix", weights, p)
        lead = (1 if ave_spectrum else p.shape[0], patch_factor**2, *p.shape[1:-2])
        size = (p.shape[-2] // patch_factor, p.shape[-1] // patch_factor)
        rules.check_matrix(op, weights.shape, (*lead, *size))
    difference = p - t
    if ave_spectrum:
        difference = difference.sum(0, keepdim=True) / max(p.shape[0], 1)
    images = _patches(difference, patch_factor)  # [B, patches, ..., h, w]
    width = images.shape[-1]
    spectrum = _half_spectrum(images.flatten(1, -3), backend=backend)
    if weights is None:
        keys = spectrum.detach()
        peak = _peak_of_batch(keys) if batch_matrix else None
        how = (peak, width, "focal", float(alpha), log_matrix)
        sums = _spectrum_loss(spectrum, keys, *how, backend=backend)
    else:
        sums = _weighted(spectrum, weights.detach(), images)
    return restore(reduce_sums(sums, images.numel(), reduction))


def fft_amplitude_loss(
    a: ArrayT,
    b: ArrayT,
    *,
    p: int = 1,
    norm: str = "ortho",
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Distance of amplitude spectra: the mean of ||A| - |B||^p over the bins of the full spectrum.

    Args:
        a, b: [B, ..., H, W]. float16, bfloat16 (both computed in float32), float32, float64.
        p: 1 or 2.
        norm: of the transform, as in torch.fft: "ortho", "backward" (no factor) or "forward".
        reduction: "mean" over the bins of the batch, "sum", or "none": [B], the mean of each.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 images, else float32. It does not change when an image is
        shifted circularly. An empty batch costs 0; NaN and inf make it NaN.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Gradients of any order to both images, and forward mode; a bin of amplitude 0, which has no
    direction, gets the gradient 0. Memory: two half spectra, kept for the backward, which allocates
    two more per image.

    >>> import torch, medkern as mk
    >>> x = torch.eye(4)[None, None]
    >>> mk.fft_amplitude_loss(x, x.roll(1, -1)).abs() < 1e-6
    tensor(True)
    >>> mk.fft_amplitude_loss(x, 3 * x, p=2)
    tensor(1.)
    """
    op = "fft_amplitude_loss"
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    choice(op, "norm", norm, rules.NORMS)
    rules.check_order(op, p)
    (x, y), restore = _pair(op, "a", a, "b", b)
    sums = _distance(x, y, f"amplitude_l{p}", 0.0, backend)
    factor = rules.norm_scale(norm, *x.shape[-2:]) ** p
    return restore(factor * reduce_sums(sums, x.numel(), reduction))


def fft_phase_loss(
    a: ArrayT,
    b: ArrayT,
    *,
    floor: float = 0.0,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Distance of phase spectra: the mean of 1 - cos(arg A - arg B) over the full spectrum.

    The cosine is Re(A conj B) / |A B|: no angle is taken, so none wraps around. Half the squared
    distance of the unit vectors A / |A| and B / |B|; from 0 to 2.

    Args:
        a, b: [B, ..., H, W]. float16, bfloat16 (both computed in float32), float32, float64.
        floor: a bin where either amplitude (of the orthonormal transform) is not above this has no
            phase: it costs nothing and has no gradient, but counts in the mean. At 0 these are the
            bins that vanish exactly; rounding leaves others a random phase, and the gradient grows
            as 1 / amplitude, so set it above the noise of flat images.
        reduction: "mean" over the bins of the batch, "sum", or "none": [B], the mean of each.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The loss: float64 for float64 images, else float32. It does not change when an image is
        multiplied by a positive number. An empty batch costs 0.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Gradients of any order to both images, and forward mode. NaN and inf make it NaN. Memory as for
    `fft_amplitude_loss`.

    >>> import torch, medkern as mk
    >>> x = torch.eye(4)[None, None]
    >>> mk.fft_phase_loss(x, -x, floor=1e-3)  # 4 of 16 bins, all opposite
    tensor(0.5000)
    """
    op = "fft_phase_loss"
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    number(op, "floor", floor, 0)
    (x, y), restore = _pair(op, "a", a, "b", b)
    sums = _distance(x, y, "phase", float(floor), backend)
    return restore(reduce_sums(sums, x.numel(), reduction))


def _pair(
    op: str, first: str, a: ArrayT, second: str, b: ArrayT
) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor], ArrayT]]:
    """Two images [B, ..., H, W] in the dtype of the arithmetic."""
    x, restore = as_tensor(op, first, a)
    y, _ = as_tensor(op, second, b)
    rules.check_pair(op, first, x.shape, second, y.shape)
    check_kind(op, first, x, x)
    check_kind(op, second, y, x)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return (x.to(dtype), y.to(dtype)), restore


def check_kind(op: str, argument: str, t: Tensor, like: Tensor) -> None:
    if t.dtype not in FLOATS:
        names = ", ".join(map(dtype_name, FLOATS))
        remedy = f"convert it, for example {argument}.float()"
        raise TypeError(message(op, argument, f"be one of {names}", dtype_name(t.dtype), remedy))
    if t.device != like.device:
        rule = f"be on the device of the others, {like.device}"
        raise ValueError(message(op, argument, rule, t.device, "move one of them"))


def as_images(t: Tensor) -> Tensor:
    """[B, ..., H, W] as [B, C, H, W]."""
    return t.unsqueeze(1) if t.dim() == 3 else t.flatten(1, -3)


def reduce_sums(sums: Tensor, count: int, reduction: str) -> Tensor:
    """The loss, from the sums [B, C] of images with `count` bins in all."""
    if reduction == "sum":
        return sums.sum()
    if reduction == "none":
        return sums.sum(1) / max(count // max(sums.shape[0], 1), 1)
    return sums.sum() / max(count, 1)


def _distance(x: Tensor, y: Tensor, kind: str, parameter: float, backend: str | None) -> Tensor:
    a, b = (_half_spectrum(as_images(t), backend=backend) for t in (x, y))
    how = (None, x.shape[-1], kind, parameter, False)
    sums: Tensor = _spectrum_loss(a, b, *how, backend=backend)
    return sums


def _patches(x: Tensor, factor: int) -> Tensor:
    """[B, ..., H, W] -> [B, factor**2, ..., H / factor, W / factor], row by row."""
    if factor == 1:
        return x.unsqueeze(1)
    tiles: Tensor = x.unflatten(-1, (factor, -1)).unflatten(-3, (factor, -1))  # [..., p, h, q, w]
    return tiles.movedim((-4, -2), (1, 2)).flatten(1, 2)


def _peak_of_batch(spectrum: Tensor) -> Tensor:
    """The largest squared amplitude, for every image [B, C]."""
    square = spectrum.square().sum(-1)
    largest = square.amax() if square.numel() else square.sum()
    return largest.expand(spectrum.shape[:2]).contiguous()


def _weighted(spectrum: Tensor, weights: Tensor, images: Tensor) -> Tensor:
    """Sums [B, C] of weights (broadcast to images [B, patches, ..., h, w]) times |spectrum|^2."""
    columns, width = spectrum.shape[-2], images.shape[-1]
    mirrored = weights.flip(-2, -1).roll((1, 1), (-2, -1))  # of bin -k
    half = (0.5 * (weights + mirrored))[..., :columns]
    half = half.to(spectrum.dtype) * column_counts(spectrum, width)
    half = half.expand(*images.shape[:-2], *half.shape[-2:]).flatten(1, -3)
    return (half * spectrum.square().sum(-1)).sum((2, 3))


def _fake_loss(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[:2])


def _fake_loss_backward(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [t for t in inputs[:-4] if t is None or isinstance(t, Tensor)]
    ctx.how = inputs[-4:]  # width, kind, parameter, log
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _bins(ctx: Any, peak: Tensor | None) -> tuple[Any, ...]:
    _, kind, parameter, log = ctx.how
    return peak, kind, parameter, log


def _loss_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, y, peak = ctx.saved_tensors
    needs_x, needs_y = ctx.needs_input_grad[:2]
    d_x = _spectrum_loss_backward(x, y, grad, peak, *ctx.how) if needs_x else None
    d_y = None
    if needs_y and ctx.how[1] != "focal":  # the other losses are symmetric
        d_y = _spectrum_loss_backward(y, x, grad, peak, *ctx.how)
    return d_x, d_y, None, None, None, None, None


def _loss_jvp(ctx: Any, x_tangent: Any, y_tangent: Any, *_: Any) -> Tensor:
    x, y, peak = ctx.saved_tensors
    how, counts = _bins(ctx, peak), column_counts(x, ctx.how[0])[:, None]
    moved: Tensor = x.new_zeros(x.shape[:2])
    if x_tangent is not None:
        bins = reference.slope(x, y, *how) * x_tangent * counts
        moved = moved + bins.sum((2, 3, 4))
    if y_tangent is not None and ctx.how[1] != "focal":
        bins = reference.slope(y, x, *how) * y_tangent * counts
        moved = moved + bins.sum((2, 3, 4))
    return moved


def _backward_backward(ctx: Any, along: Tensor) -> tuple[Any, ...]:
    x, y, grad, peak = ctx.saved_tensors
    how, scale = _bins(ctx, peak), reference.scale(x, grad, ctx.how[0])
    counts = column_counts(x, ctx.how[0])[:, None]
    d_grad = (reference.slope(x, y, *how) * along * counts).sum((2, 3, 4))
    d_y = None
    if ctx.how[1] == "focal":
        d_x = _spectrum_loss_backward(along, y, grad, peak, *ctx.how)
    else:
        d_x = scale * reference.curvature(x, y, along, *how)
        d_y = scale * reference.mixed(x, y, along, *how)
    return d_x, d_y, d_grad, None, None, None, None, None


def _backward_jvp(ctx: Any, x_tangent: Any, y_tangent: Any, grad_tangent: Any, *_: Any) -> Tensor:
    x, y, grad, peak = ctx.saved_tensors
    how, scale = _bins(ctx, peak), reference.scale(x, grad, ctx.how[0])
    moved = torch.zeros_like(x)
    if x_tangent is not None:
        moved = moved + scale * reference.curvature(x, y, x_tangent, *how)
    if y_tangent is not None:
        moved = moved + scale * reference.mixed(y, x, y_tangent, *how)
    if grad_tangent is not None:
        moved = moved + _spectrum_loss_backward(x, y, grad_tangent, peak, *ctx.how)
    return moved


def image_samples(dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Pictures with channels, one of every kind of layout and of size."""
    left_out = {"batch-transposed", "channels_last-many", "empty-channels"}
    for name, x, ndim in image_layouts(dtype):
        if ndim == 2 and name not in left_out:
            yield name, x


def _loss_samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Every kind of loss on the first spectrum, and one, in turn, on the others."""
    kinds = itertools.cycle(reference.KINDS)
    for name, x, width in spectrum_samples(dtype):
        if x.dim() != 5:
            continue
        y = x.flip(0, -1) - 0.25
        for kind in reference.KINDS if name == "contiguous" else [next(kinds)]:
            parameter = 0.3 if kind == "phase" else 1.0
            yield Sample(f"{name}-{kind}", (x, y, None, width, kind, parameter, False))
        if name == "odd":
            peak = torch.full(x.shape[:2], 3.0, dtype=dtype)
            yield Sample("odd-log", (x, y, peak, width, "focal", 1.5, True))


def _loss_backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    random = torch.Generator().manual_seed(5)
    for sample in _loss_samples(dtype):
        x, y, *rest = sample.args
        grad = torch.randn(x.shape[:2], generator=random, dtype=torch.float64).to(dtype)
        yield Sample(sample.name, (x, y, grad, *rest))


_spectrum_loss: Op = register(
    OpSpec(
        name="_spectrum_loss",
        schema=(
            "(Tensor x, Tensor y, Tensor? peak, SymInt width, str kind, float parameter, bool log)"
            " -> Tensor"
        ),
        reference=reference.spectrum_loss,
        fake=_fake_loss,
        samples=_loss_samples,
        setup_context=_remember,
        backward=_loss_backward,
        jvp=_loss_jvp,
        autocast="float32",
        dtypes=SPECTRAL,
        triton="medkern.kernels.fourier:spectrum_loss",
    )
)
_spectrum_loss_backward: Op = register(
    OpSpec(
        name="_spectrum_loss_backward",
        schema=(
            "(Tensor x, Tensor y, Tensor grad, Tensor? peak, SymInt width, str kind, "
            "float parameter, bool log) -> Tensor"
        ),
        reference=reference.spectrum_loss_backward,
        fake=_fake_loss_backward,
        samples=_loss_backward_samples,
        setup_context=_remember,
        backward=_backward_backward,
        jvp=_backward_jvp,
        autocast="float32",
        dtypes=SPECTRAL,
        triton="medkern.kernels.fourier:spectrum_loss_backward",
    )
)

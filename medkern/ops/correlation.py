"""Spectral correlation coefficient of two arrays, and Fourier ring (shell) correlation.

With P and Y the Fourier transforms of p and y, and sums over frequencies k,

    scc = 2 sum w_k Re(P_k conj Y_k) / sum w_k (|P_k|^2 + |Y_k|^2).

Over the full spectrum, w = 1, Parseval's theorem makes it 2 sum p y / (sum p^2 + sum y^2), the soft
Dice coefficient of V-Net: no transform is needed. Over a band, or as the mean over rings, it is a
spectral quantity: half spectra by torch, then one pass over both for the sums.

Source: Gorade et al., "Harmonized spatial and spectral learning", equation 2; Saxton and
Baumeister, Journal of Microscopy 127, 1982.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops.half_spectrum import SPECTRAL, _half_spectrum
from medkern.ops.segmentation import FLOATS, check_kind, few_layouts
from medkern.reference import correlation as reference
from medkern.reference.correlation import P_SQUARED, PRODUCT, Y_SQUARED
from medkern.rules import at_least, choice, message, number
from medkern.rules import segmentation as rules

MODES = ("full", "band", "binned")
EVERYWHERE = (-10.0, 10.0)  # radii that leave out nothing, with edges up to 1


def spectral_correlation(
    p: ArrayT,
    y: ArrayT,
    mode: str = "full",
    *,
    bins: int = 8,
    band: tuple[float, float] | None = None,
    edge: float = 0.05,
    per: str = "sample",
    smooth: float = 1e-5,
    reduction: str = "mean",
    backend: str | None = None,
) -> ArrayT:
    """Similarity of two masks' spectra: 1 where equal, 0 where disjoint.

    Args:
        p: [B, C, *space]: probabilities. float32, float64; for "full" also float16 and bfloat16,
            computed in float32. Transforms run over all spatial axes.
        y: the same shape: the target, one-hot or probabilities; other dtypes are converted.
        mode: "full": over all frequencies, computed in space.
            "band": over those with radius |k| between the two of `band`, in units of the Nyquist
            frequency of an axis; corners reach sqrt(axes).
            "binned": the mean over `bins` rings of equal width, corners in the last.
        bins: rings of "binned".
        band: (low, high) for "band". low = 0 includes frequency 0, high >= sqrt(axes) the corners.
        edge: width of the band's linear edges, at whose middle its ends are; 0 cuts sharply.
        per: what has a coefficient of its own: each "sample" and channel, each "class" with sums
            over the batch, or the "batch" as a whole, as the paper's text has it.
        smooth: added to numerator and denominator: two arrays of zeros have the coefficient 1.
        reduction: "mean": a scalar, 1 for an empty batch. "none": [B, C], [C] or [], as `per` says.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        The coefficient in [-1, 1], and in [0, 1] for masks in "full": float64 for float64 inputs,
        else float32. A loss is 1 - scc: the paper prints the sign of the similarity.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Gradients of any order in p and y. "full" reads both once and allocates next to nothing; the
    others hold two half spectra, which the backward reads again, O(N log N). NaN spreads. The
    result does not depend on the number of threads.

    >>> import torch, medkern as mk
    >>> y = torch.zeros(1, 1, 8, 8)
    >>> y[..., 2:6, 2:6] = 1
    >>> mk.spectral_correlation(y, y), mk.spectral_correlation(0.5 * y, y)
    (tensor(1.), tensor(0.8000))
    >>> mk.spectral_correlation(y.roll(1, -1), y, "binned", bins=2)
    tensor(0.4571)
    """
    op = "spectral_correlation"
    choice(op, "mode", mode, MODES)
    choice(op, "per", per, rules.PER)
    choice(op, "reduction", reduction, rules.REDUCTIONS)
    number(op, "smooth", smooth, 0)
    at_least(op, "bins", bins, 1)
    if mode == "band":
        rules.check_band(op, band, edge)
    a, b, restore = _pair(op, ("p", "y"), p, y, FLOATS if mode == "full" else SPECTRAL)
    if mode == "full":
        sums = _correlation_sums(a, b, [], 1, *EVERYWHERE, 0.0, backend=backend)
    elif mode == "band":
        low, high = band or EVERYWHERE
        low = EVERYWHERE[0] if low == 0 else low
        sums = _ring_sums(a, b, 1, low, high, edge, backend).sum(2, keepdim=True)
    else:
        rings = _ring_sums(a, b, bins, *EVERYWHERE, 0.0, backend)
        corners = torch.nn.functional.pad(rings[:, :, bins:], (0, 0, bins - 1, 0))
        sums = rings[:, :, :bins] + corners
    if per != "sample":
        sums = sums.sum((0,) if per == "class" else (0, 1))
    mass = sums[..., P_SQUARED] + sums[..., Y_SQUARED]
    each = ((2 * sums[..., PRODUCT] + smooth) / (mass + smooth)).mean(-1)
    return restore(each if reduction == "none" else 1 - (1 - each).sum() / max(each.numel(), 1))


def frequency_ring_correlation(
    a: ArrayT, b: ArrayT, bins: int | None = None, *, backend: str | None = None
) -> ArrayT:
    """Fourier ring (2-D) or shell (3-D) correlation: agreement of two images, ring by ring.

    frc_r = Re sum A_k conj B_k / sqrt(sum |A_k|^2 sum |B_k|^2) over the frequencies k of ring r.

    Args:
        a, b: [B, C, *space], float32 or float64, any number of spatial axes.
        bins: rings of equal width between 0 and the Nyquist frequency of an axis (the corners
            beyond it are left out); None: half the shortest axis, at least 1.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, C, bins] in [-1, 1]; NaN for a ring in which an image has no power, or which is empty.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Where it falls below 1/7, two independent halves of the data agree no more: the resolution.
    Differentiable like `spectral_correlation`; holds two half spectra.

    >>> import torch, medkern as mk
    >>> image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> mk.frequency_ring_correlation(image, -2 * image, bins=3)
    tensor([[[-1.0000, -1.0000, -1.0000]]])
    """
    op = "frequency_ring_correlation"
    x, y, restore = _pair(op, ("a", "b"), a, b, SPECTRAL)
    rings = max(min(x.shape[2:]) // 2, 1) if bins is None else bins
    at_least(op, "bins", rings, 1)
    sums = _ring_sums(x, y, rings, *EVERYWHERE, 0.0, backend)[:, :, :rings]
    power = sums[..., P_SQUARED].sqrt() * sums[..., Y_SQUARED].sqrt()
    return restore(sums[..., PRODUCT] / power)


def _pair(
    op: str, names: tuple[str, str], p: ArrayT, y: ArrayT, dtypes: tuple[torch.dtype, ...]
) -> tuple[Tensor, Tensor, Callable[[Tensor], ArrayT]]:
    a, restore = as_tensor(op, names[0], p)
    b, _ = as_tensor(op, names[1], y)
    rules.check_logits(op, names[0], a.shape)
    check_kind(op, names[0], a, dtypes, a)
    if b.shape != a.shape:
        rule = f"have the shape of {names[0]}, {tuple(a.shape)}"
        remedy = "bring both to one shape; labels as torch.nn.functional.one_hot"
        raise ValueError(message(op, names[1], rule, tuple(b.shape), remedy))
    if b.is_complex():
        raise TypeError(message(op, names[1], "be real", dtype_name(b.dtype), "pass real numbers"))
    check_kind(op, names[1], b, (b.dtype,), a)
    return a, b.to(a.dtype), restore


def _ring_sums(
    p: Tensor, y: Tensor, rings: int, low: float, high: float, edge: float, backend: str | None
) -> Tensor:
    """[B, C, rings + 1, 3], corners last."""
    size = list(p.shape[2:])
    spectra = (_half_spectrum(t, backend=backend) for t in (p, y))
    return _correlation_sums(*spectra, size, rings, low, high, edge, backend=backend)  # type: ignore[no-any-return]


def _fake_sums(p: Tensor, y: Tensor, size: Sequence[int], rings: int, *_: float) -> Tensor:
    dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
    return p.new_empty(*p.shape[:2], rings + 1 if size else 1, 3, dtype=dtype)


def _fake_backward(p: Tensor, grad: Tensor, y: Tensor, *_: Any) -> Tensor:
    return p.new_empty(p.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [t for t in inputs if isinstance(t, Tensor)]
    ctx.rings = inputs[len(tensors) :]
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _only(grad: Tensor, column: int) -> Tensor:
    """The gradient of one of the sums, zeros for the others."""
    keep = torch.zeros(3, dtype=grad.dtype, device=grad.device)
    keep[column] = 1
    return grad * keep


def _sums_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    p, y = ctx.saved_tensors
    dp = dy = None
    if ctx.needs_input_grad[0]:
        dp = _correlation_sums_backward(p, grad, y, *ctx.rings)
    if ctx.needs_input_grad[1]:
        dy = _correlation_sums_backward(y, grad[..., [0, 2, 1]], p, *ctx.rings)
    return dp, dy, *[None] * 5


def _sums_jvp(ctx: Any, p_tangent: Any, y_tangent: Any, *_: Any) -> Tensor:
    p, y = ctx.saved_tensors
    nothing = torch.zeros_like(p)
    u = nothing if p_tangent is None else p_tangent
    w = nothing if y_tangent is None else y_tangent
    return _slopes(u, w, p, y, ctx.rings)


def _slopes(u: Tensor, w: Tensor, p: Tensor, y: Tensor, rings: tuple[Any, ...]) -> Tensor:
    """How the sums change as p moves along u, and y along w."""

    def product(a: Tensor, b: Tensor) -> Tensor:
        return _correlation_sums(a, b, *rings)[..., PRODUCT]  # type: ignore[no-any-return]

    terms = [product(u, y) + product(p, w), 2 * product(u, p), 2 * product(w, y)]
    return torch.stack(terms, dim=-1)


def _backward_backward(ctx: Any, u: Tensor) -> tuple[Any, ...]:
    p, grad, y = ctx.saved_tensors
    d_grad = _slopes(u, torch.zeros_like(y), p, y, ctx.rings)
    dp = _correlation_sums_backward(u, _only(grad, P_SQUARED), u, *ctx.rings)
    dy = _correlation_sums_backward(u, _only(grad, PRODUCT), u, *ctx.rings)
    return dp, d_grad, dy, *[None] * 5


def _backward_jvp(ctx: Any, u: Any, h: Any, w: Any, *_: Any) -> Tensor:
    p, grad, y = ctx.saved_tensors
    out = torch.zeros_like(p)
    if u is not None:
        out = out + _correlation_sums_backward(u, _only(grad, P_SQUARED), u, *ctx.rings)
    if h is not None:
        out = out + _correlation_sums_backward(p, h, y, *ctx.rings)
    if w is not None:
        out = out + _correlation_sums_backward(w, _only(grad, PRODUCT), w, *ctx.rings)
    return out


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Arrays and spectra in turn: any array of an even last axis can be taken for a spectrum."""
    generator = torch.Generator().manual_seed(1)
    for i, (name, x) in enumerate(few_layouts(dtype)):
        if i % 2 == 0 or dtype not in SPECTRAL:
            y = torch.rand(x.shape, generator=generator).to(dtype)
            yield Sample(name, (x, y, [], 1, *EVERYWHERE, 0.0))
        else:
            s = torch.stack([x, 1 - x], dim=-1)
            y = torch.rand(s.shape, generator=generator).to(dtype)
            size = [*x.shape[2:-1], 2 * x.shape[-1] - 1 - i // 2 % 2 * (x.shape[-1] > 1)]
            radial = (4, *EVERYWHERE, 0.0) if i % 4 == 1 else (1, 0.25, 0.8, 0.1)
            yield Sample(name, (s, y, size, *radial))


def _backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(2)
    for sample in _samples(dtype):
        p, *rest = sample.args
        sums = _fake_sums(*sample.args)
        grad = torch.randn(sums.shape, generator=generator).to(sums.dtype)
        yield Sample(sample.name, (p, grad, *rest))


_RADIAL = "int[] size, int rings, float low, float high, float edge"

_correlation_sums: Op = register(
    OpSpec(
        name="_correlation_sums",
        schema=f"(Tensor p, Tensor y, {_RADIAL}) -> Tensor",
        reference=reference.correlation_sums,
        fake=_fake_sums,
        samples=_samples,
        setup_context=_remember,
        backward=_sums_backward,
        jvp=_sums_jvp,
        autocast="widest",
        triton="medkern.kernels.correlation:correlation_sums",
    )
)
_correlation_sums_backward: Op = register(
    OpSpec(
        name="_correlation_sums_backward",
        schema=f"(Tensor p, Tensor grad, Tensor y, {_RADIAL}) -> Tensor",
        reference=reference.correlation_sums_backward,
        fake=_fake_backward,
        samples=_backward_samples,
        setup_context=_remember,
        backward=_backward_backward,
        jvp=_backward_jvp,
        autocast="widest",
        triton="medkern.kernels.correlation:correlation_sums_backward",
    )
)

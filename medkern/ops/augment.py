"""Augmentations in the Fourier domain: amplitudes are changed, phases are kept.

Sources: Yang and Yu, ICPR 2024 (amplitude jitter, SAPM); Yang and Soatto, CVPR 2020 (amplitude
swap, FDA); Xu et al., "A Fourier-based Framework for Domain Generalization", CVPR 2021 (mixing).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor
from medkern.ops.fourier import as_images, check_kind, image_samples
from medkern.ops.half_spectrum import SPECTRAL, _half_spectrum, _half_spectrum_adjoint
from medkern.reference import augment as reference
from medkern.reference.fourier import amplitude
from medkern.reference.half_spectrum import column_counts
from medkern.rules import fourier as rules
from medkern.rules import message, number

# Windows of up to a width's 8th part are transformed alone; beyond, whole transforms are faster.
NARROW = 8


def spectral_amplitude_jitter(
    x: ArrayT,
    alpha: float = 6.0,
    beta: float = 0.5,
    *,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    first_sample: int = 0,
    per_channel: bool = True,
    dc_clamp: bool = False,
    backend: str | None = None,
) -> ArrayT:
    """Multiply every Fourier amplitude by Gaussian noise of mean 1; keep the phases (SAPM).

    The variance of the noise at frequency k is alpha D(k) + beta, where D = |k|^2 over its largest
    value. The result is Re IFFT(mu F), in distribution exactly what the paper's chain of fft2, abs,
    angle and polar gives; see docs/ops/augment.md.

    Args:
        x: [B, ..., H, W]. float16, bfloat16 (both computed in float32), float32, float64.
        alpha, beta: at least 0; the defaults are the paper's. Both 0: nothing changes.
        seed: 0 to 2**63 - 1. The same seed gives the same noise on every backend and device, for
            every number of threads and however the data set is cut into batches.
        generator: to draw a seed from, instead; None of both: torch's default generator.
        first_sample: the index in the data set of x[0], for batches of one seed: sample i has the
            noise of first_sample + i.
        per_channel: whether every channel has noise of its own, or one for all.
        dc_clamp: keep the multiplier of the mean at 0.1 or above. With the paper's beta it is
            negative with a probability of 8 %, which inverts the image.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, ..., H, W] in the dtype of x; not clamped to the range of x.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    The map is linear in x and its own adjoint: gradients of any order and forward mode. NaN and inf
    spread over their image. The noise takes no memory; beside the result one half spectrum, twice.

    >>> import torch, medkern as mk
    >>> x = torch.rand(4, 3, 32, 32)
    >>> y = mk.spectral_amplitude_jitter(x, seed=7)
    >>> torch.equal(y[2:], mk.spectral_amplitude_jitter(x[2:], seed=7, first_sample=2))
    True
    >>> torch.allclose(mk.spectral_amplitude_jitter(x, 0.0, 0.0), x, atol=1e-5)
    True
    """
    op = "spectral_amplitude_jitter"
    number(op, "alpha", alpha, 0)
    number(op, "beta", beta, 0)
    rules.check_stream(op, seed, generator, first_sample)
    t, restore = as_tensor(op, "x", x)
    rules.check_images(op, "x", t.shape)
    check_kind(op, "x", t, t)
    stream = _stream(t, seed, generator, first_sample)
    images = as_images(t if t.dtype in SPECTRAL else t.float())
    how = (float(alpha), float(beta), per_channel, dc_clamp)
    out = _amplitude_jitter(images, stream, *how, backend=backend)
    return restore(out.reshape(t.shape).to(t.dtype))


def amplitude_swap(
    source: ArrayT, target: ArrayT, beta: float = 0.05, *, backend: str | None = None
) -> ArrayT:
    """Give the source the low-frequency amplitudes of the target; keep its phases (FDA).

    The centred window of frequencies from -b to b along both axes, b = floor(beta min(H, W)), as in
    the authors' NumPy code (their torch code leaves the frequency b out).

    Args:
        source, target: [B, ..., H, W]. float16, bfloat16 (both computed in float32), float32,
            float64.
        beta: 0 (the mean alone) to 0.5 (all amplitudes).
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, ..., H, W] in the dtype of the source; not clamped to its range.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    `amplitude_mix` with lam = 1, which says more.

    >>> import torch, medkern as mk
    >>> x, y = torch.rand(2, 3, 32, 32), 2 + torch.rand(2, 3, 32, 32)
    >>> swapped = mk.amplitude_swap(x, y, 0.0)
    >>> torch.allclose(swapped.mean((-2, -1)), y.mean((-2, -1)))
    True
    """
    return _mix("amplitude_swap", source, target, 1.0, beta, backend)


def amplitude_mix(
    source: ArrayT,
    target: ArrayT,
    lam: float | ArrayT = 0.5,
    beta: float = 0.5,
    *,
    backend: str | None = None,
) -> ArrayT:
    """Mix low-frequency amplitudes of two images: (1 - lam) |X| + lam |Y|; keep the source's phase.

    Args:
        source, target, backend: as for `amplitude_swap`.
        lam: 0 to 1, a number, or one per sample [B] (whose range is not checked).
        beta: as for `amplitude_swap`; the default mixes the whole spectrum.

    Returns:
        [B, ..., H, W] in the dtype of the source; not clamped to its range.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Only the (2b + 1)^2 frequencies of the window are transformed, as sums over the pixels, where
    the window is narrow: O(N b), exact for any size. Wide windows take whole half spectra. A bin
    where the source vanishes has phase 0. Gradients of any order to source, target and a tensor
    `lam`. Memory beside the result: a narrow window takes 4 (b + 16) / W of an image, a wide one
    about five half spectra.

    >>> import torch, medkern as mk
    >>> x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    >>> torch.allclose(mk.amplitude_mix(x, y, 0.0), x, atol=1e-6)
    True
    """
    return _mix("amplitude_mix", source, target, lam, beta, backend)


def _stream(
    t: Tensor, seed: int | None, generator: torch.Generator | None, first_sample: int
) -> Tensor:
    """[B, 2]: the seed and the index of each sample."""
    index = torch.arange(first_sample, first_sample + t.shape[0], device=t.device)
    if seed is None:
        where = t.device if generator is None else generator.device
        drawn = torch.randint(2**63 - 1, (1,), generator=generator, device=where).to(t.device)
    else:
        drawn = torch.full((1,), seed, dtype=torch.int64, device=t.device)
    return torch.stack([drawn.expand_as(index), index], dim=1)


def _mix(
    op: str, source: ArrayT, target: ArrayT, lam: Any, beta: float, backend: str | None
) -> ArrayT:
    x, restore = as_tensor(op, "source", source)
    y, _ = as_tensor(op, "target", target)
    rules.check_pair(op, "source", x.shape, "target", y.shape)
    check_kind(op, "source", x, x)
    check_kind(op, "target", y, x)
    height, width = x.shape[-2:]
    radius = rules.window_radius(op, beta, height, width)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    share = _share(op, lam, x, dtype)
    a, b = (as_images(t.to(dtype)) for t in (x, y))
    if NARROW * (radius + 1) <= width:
        modes, others = (_low_modes(t, radius, backend=backend) for t in (a, b))
        change = _change(modes, others, share) * _bin_weights(a, radius)
        out = _add_low_modes(a, change, backend=backend)
    else:
        spectrum, other = (_half_spectrum(t, backend=backend) for t in (a, b))
        change = _change(spectrum, other, share) * _window(a, radius)
        out = a + _half_spectrum_adjoint(change, width, backend=backend)
    return restore(out.reshape(x.shape).to(x.dtype))


def _share(op: str, lam: Any, x: Tensor, dtype: torch.dtype) -> Tensor | float:
    """lam, to multiply bins [B, C, k, l, 2] with."""
    if isinstance(lam, int | float):
        rules.check_share(op, lam)
        return float(lam)
    share, _ = as_tensor(op, "lam", lam)
    if share.shape != x.shape[:1]:
        rule = f"be a number or have one value per sample, {tuple(x.shape[:1])}"
        raise ValueError(message(op, "lam", rule, tuple(share.shape), "reshape it"))
    check_kind(op, "lam", share, x)
    return share.to(dtype).reshape(-1, 1, 1, 1, 1)


def _change(x: Tensor, y: Tensor, share: Tensor | float) -> Tensor:
    """What share * (|y| - |x|) adds to the bins x [..., 2] along their own direction."""
    zero = x.square().sum(-1, keepdim=True) == 0
    forward = torch.stack([torch.ones_like(x[..., 0]), torch.zeros_like(x[..., 0])], dim=-1)
    directed = torch.where(zero, forward, x)  # of phase 0 where the source vanishes
    length = amplitude(directed).unsqueeze(-1)
    wanted = directed * (_safe_amplitude(y) / length)
    return share * (wanted - x)


def _safe_amplitude(y: Tensor) -> Tensor:
    """|y| [..., 1], with gradient 0 where it is 0."""
    square = y.square().sum(-1, keepdim=True)
    return torch.where(square == 0, 0, torch.where(square == 0, 1, square).sqrt())


def _bin_weights(x: Tensor, radius: int) -> Tensor:
    """What turns a sum over low modes [2r + 1, r + 1, 1] into the inverse transform."""
    height, width = x.shape[-2:]
    rows = torch.ones(2 * radius + 1, dtype=x.dtype, device=x.device)
    if 2 * radius == height:
        rows[-1] = 0  # the same frequency as -r
    columns = column_counts(x, width)[: radius + 1] / (height * width)
    return (rows[:, None] * columns).unsqueeze(-1)


def _window(x: Tensor, radius: int) -> Tensor:
    """The counts of the columns within the window, else 0 [H, K, 1]."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device)
    inside = torch.minimum(rows, height - rows) <= radius
    columns = column_counts(x, width) * (torch.arange(width // 2 + 1, device=x.device) <= radius)
    return (inside[:, None] * columns).unsqueeze(-1)


def _fake_jitter(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _fake_low_modes(x: Tensor, radius: int) -> Tensor:
    return x.new_empty(*x.shape[:2], 2 * radius + 1, radius + 1, 2)


def _remember_stream(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, stream, *ctx.how = inputs
    ctx.save_for_backward(stream)
    ctx.save_for_forward(stream)


def _jitter_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (stream,) = ctx.saved_tensors
    return _amplitude_jitter(grad, stream, *ctx.how), None, None, None, None, None


def _jitter_jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
    (stream,) = ctx.saved_tensors
    return _amplitude_jitter(tangent, stream, *ctx.how)  # type: ignore[no-any-return]


def _remember_size(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, ctx.radius = inputs
    ctx.size = x.shape


def _low_modes_backward(ctx: Any, grad: Tensor) -> tuple[Any, None]:
    zero = grad.new_zeros(()).expand(ctx.size)
    return _add_low_modes(zero, grad), None


def _remember_radius(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.size, ctx.radius = inputs[0].shape, inputs[1].shape[-2] - 1


def _add_low_modes_backward(ctx: Any, grad: Tensor) -> tuple[Any, Any]:
    needs_x, needs_modes = ctx.needs_input_grad
    return grad if needs_x else None, _low_modes(grad, ctx.radius) if needs_modes else None


def _add_low_modes_jvp(ctx: Any, x_tangent: Any, modes_tangent: Any) -> Any:
    if modes_tangent is None:
        return x_tangent.clone()
    if x_tangent is None:
        x_tangent = modes_tangent.new_zeros(()).expand(ctx.size)
    return _add_low_modes(x_tangent, modes_tangent)


def _jitter_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for i, (name, x) in enumerate(image_samples(dtype)):
        index = torch.arange(x.shape[0]) + 5
        stream = torch.stack([torch.full_like(index, 2**40 + 3), index], dim=1)
        yield Sample(name, (x, stream, 6.0, 0.5, i % 3 != 2, i % 2 == 1))


def _low_modes_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x in image_samples(dtype):
        yield Sample(name, (x, min(x.shape[-2:]) // 2))


def _add_low_modes_samples(dtype: torch.dtype) -> Iterator[Sample]:
    random = torch.Generator().manual_seed(6)
    for name, x in image_samples(dtype):
        radius = min(x.shape[-2:]) // 2
        shape = (*x.shape[:2], 2 * radius + 1, radius + 1, 2)
        modes = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
        yield Sample(name, (x, modes))


_amplitude_jitter: Op = register(
    OpSpec(
        name="_amplitude_jitter",
        schema=(
            "(Tensor x, Tensor stream, float alpha, float beta, bool per_channel, bool dc_clamp)"
            " -> Tensor"
        ),
        reference=reference.amplitude_jitter,
        fake=_fake_jitter,
        samples=_jitter_samples,
        setup_context=_remember_stream,
        backward=_jitter_backward,
        jvp=_jitter_jvp,
        autocast="float32",
        dtypes=SPECTRAL,
        triton="medkern.kernels.augment:amplitude_jitter",
    )
)
_low_modes: Op = register(
    OpSpec(
        name="_low_modes",
        schema="(Tensor x, SymInt radius) -> Tensor",
        reference=reference.low_modes,
        fake=_fake_low_modes,
        samples=_low_modes_samples,
        setup_context=_remember_size,
        backward=_low_modes_backward,
        jvp=lambda ctx, tangent, _: _low_modes(tangent, ctx.radius),
        autocast="float32",
        dtypes=SPECTRAL,
    )
)
_add_low_modes: Op = register(
    OpSpec(
        name="_add_low_modes",
        schema="(Tensor x, Tensor modes) -> Tensor",
        reference=reference.add_low_modes,
        fake=_fake_jitter,
        samples=_add_low_modes_samples,
        setup_context=_remember_radius,
        backward=_add_low_modes_backward,
        jvp=_add_low_modes_jvp,
        autocast="float32",
        dtypes=SPECTRAL,
    )
)

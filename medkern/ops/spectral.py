"""Truncated spectral convolution: only the kept low modes are ever computed.

For x [B, C_in, *space] and complex weights R of every kept mode k,

    X_k = sum_x x exp(-2 pi i k.x / N)        Y_ok = sum_i X_ik R_iok
    y_o(x) = 1/N Re sum_k c_k Y_ok exp(2 pi i k.x / N) + bias_o

Of the last axis the non-negative modes l = 0 .. m - 1 are kept, with c = 1 for l = 0 (and for the
Nyquist mode, if kept), 2 for the others; of every other axis m signed modes, in ascending order:
k = -(m // 2) .. (m - 1) // 2. The rest of the spectrum is zero.

Source: Li et al., "Fourier neural operator", ICLR 2021; Drozdov and Sorokin, "FNOReg", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern import backend as _backend
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops.kept_modes import _dft_kept, _idft_kept, _mode_mix
from medkern.rules import choice, message
from medkern.rules import spectral as rules

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def spectral_conv(
    x: ArrayT,
    weight: ArrayT,
    modes: Sequence[int],
    *,
    bias: ArrayT | None = None,
    norm: str = "backward",
    method: str = "auto",
    output_size: Sequence[int] | None = None,
    backend: str | None = None,
) -> ArrayT:
    """Convolution by multiplying the low Fourier modes, as in Fourier neural operators.

    Args:
        x: [B, C_in, *space], 1, 2 or 3 spatial axes of any size, periodic. float16, bfloat16 (both
            computed in float32), float32 or float64.
        weight: complex [C_in, C_out, *modes], or the same as real numbers [C_in, C_out, *modes, 2].
            Index j of a full axis is the mode k = j - m // 2, index l of the last axis the mode l.
            Computed in float64 where x is float64, else in float32.
        modes: the number m of kept modes per axis: of both signs along full axes, at most their
            extent N; of the non-negative ones along the last axis, at most N // 2 + 1.
        bias: [C_out], added to the result.
        norm: which transform carries the factor 1 / N: "backward" the inverse one, "forward" the
            forward one, "ortho" both its root. It moves rounding, not the result.
        method: "dft": truncated transforms by small matrix products, of cost proportional to the
            modes. "fft": torch's FFT, then all but the modes dropped. "auto": the cheaper by an
            estimate, which `medkern.explain("spectral_conv", x, weight, modes)` tells; "dft" in a
            graph with symbolic sizes and under `torch.use_deterministic_algorithms`.
        output_size: spatial shape of the result; None means that of x. The result is then the
            trigonometric polynomial of the kept modes sampled on that grid, which is exact Fourier
            resampling. The modes must fit both grids.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, C_out, *output_size] in the dtype of x, contiguous.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Gradients of any order, in x, weight and bias. The backward needs the kept modes of x and the
    weights, and nothing else is saved. No complex tensor is made from real weights, so that
    compilation, export and autocast see real ops only. NaN and inf spread over their whole sample.

    Peak memory: the kept modes twice, beside the result; per thread one channel's partial
    transforms, of about modes / extent of its size; a copy of x if it is not contiguous. With
    "fft" a complex half spectrum too. The result does not depend on the number of threads, but for
    the last bits of "fft", which are torch's.

    >>> import torch, medkern as mk
    >>> x = torch.randn(1, 1, 8, 9)
    >>> low_pass = torch.ones(1, 1, 3, 2, dtype=torch.complex64)
    >>> y = mk.spectral_conv(x, low_pass, modes=(3, 2))
    >>> y.shape, torch.allclose(y.mean(), x.mean(), atol=1e-6)
    (torch.Size([1, 1, 8, 9]), True)
    """
    call = _Call("spectral_conv", x, weight, modes, norm, method, output_size)

    def mix(z: Tensor) -> Tensor:
        rules.check_weight(call.op, call.weight.shape, z.shape[1], call.modes)
        w = call.weight.flatten(2, -2)
        mixed = _mode_mix(z.flatten(2, -2), w.transpose(0, 1), False, False, backend=backend)
        unflat: Tensor = mixed.unflatten(2, call.modes)
        return unflat

    out: ArrayT = call.run(mix, bias, backend)
    return out


def hartley_conv(
    x: ArrayT,
    weight: ArrayT,
    modes: Sequence[int],
    *,
    bias: ArrayT | None = None,
    method: str = "auto",
    output_size: Sequence[int] | None = None,
    backend: str | None = None,
) -> ArrayT:
    """`spectral_conv` with real weights: multiplies the low modes of the Hartley transform.

    H_k = sum_x x (cos + sin)(2 pi k.x / N) is real, and H_k and H_-k hold what X_k does.

    Args:
        x, modes, bias, method, output_size, backend: as for `spectral_conv`. Along the last axis,
            too, modes of both signs take part: k = -(m - 1) .. m - 1.
        weight: real; [C_in, C_out], shared by all modes, or [C_in, C_out, *modes, 2], for H_k and
            H_-k of every kept mode k. Where the last index is 0, both k and -k are kept: of their
            two weights the mean counts.

    Returns:
        [B, C_out, *output_size] in the dtype of x, contiguous.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    Source: Wong et al., "HNOSeg", 2023.

    >>> import torch, medkern as mk
    >>> x = torch.randn(1, 2, 9, 9)
    >>> y = mk.hartley_conv(x, torch.eye(2), modes=(9, 5))
    >>> torch.allclose(x, y, atol=1e-5)
    True
    """
    call = _Call("hartley_conv", x, weight, modes, "backward", method, output_size)

    def mix(z: Tensor) -> Tensor:
        w = call.weight
        if w.dim() == 2:
            rules.check_shared_weight(call.op, w.shape, z.shape[1])
            return torch.einsum("bi...,io->bo...", z, w)
        rules.check_weight(call.op, w.shape, z.shape[1], call.modes)
        re, im = z.unbind(-1)
        mixed = torch.einsum("bi...,io...->bo...", torch.stack([re - im, re + im], -1), w)
        plus, minus = mixed.unbind(-1)
        return torch.stack([plus + minus, minus - plus], -1) / 2

    out: ArrayT = call.run(mix, bias, backend)
    return out


def fourier_planes(x: Tensor, axes: int, norm: str) -> Tensor:
    """All modes of the last `axes` axes of a real x, as real numbers: [..., *modes, 2]."""
    lead, size = x.shape[: x.dim() - axes], list(x.shape[x.dim() - axes :])
    modes = [*size[:-1], size[-1] // 2 + 1]
    power, _ = rules.POWERS[norm]
    flat = x.reshape(lead[0], -1, *size)
    # torch's FFT on the CPU has no half precision.
    wide = flat.float() if flat.dtype.itemsize == 2 else flat
    method = choose_method(size, size, modes, "auto")
    planes: Tensor = _dft_kept(wide, modes, size, False, power, method)
    return planes.reshape(*lead, *modes, 2)


def inverse_fourier_planes(
    planes: Tensor, size: Sequence[int], norm: str, dtype: torch.dtype
) -> Tensor:
    """The inverse of `fourier_planes`, for any planes as irfftn: [..., *size]."""
    axes, size = len(size), list(size)
    lead, modes = planes.shape[: planes.dim() - axes - 1], planes.shape[planes.dim() - axes - 1 :]
    _, power = rules.POWERS[norm]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    flat = planes.reshape(lead[0], -1, *modes).to(compute)
    method = choose_method(size, size, list(modes[:-1]), "auto")
    out: Tensor = _idft_kept(flat, size, size, True, power, compute, method)
    return out.reshape(*lead, *size).to(dtype)


class _Call:
    """The checked arguments of a spectral convolution."""

    def __init__(
        self,
        op: str,
        x: Any,
        weight: Any,
        modes: Sequence[int],
        norm: str,
        method: str,
        output_size: Sequence[int] | None,
    ) -> None:
        choice(op, "norm", norm, rules.NORMS)
        choice(op, "method", method, rules.METHODS)
        self.op = op
        self.x, self.restore = as_tensor(op, "x", x)
        w, _ = as_tensor(op, "weight", weight)
        self.modes = list(rules.kept_modes(op, modes))
        self.space = list(rules.space_of(op, self.x.shape, len(self.modes)))
        self.size = list(rules.output_of(op, self.space, output_size))
        rules.check_fits(op, self.modes, self.space, "the grid of x,")
        rules.check_fits(op, self.modes, self.size, "the output grid,")
        _check_dtype(op, "x", self.x)
        if w.device != self.x.device:
            rule = f"be on the device of x, {self.x.device}"
            raise ValueError(message(op, "weight", rule, w.device, "move one of them"))
        real = torch.view_as_real(w) if w.is_complex() else w
        _check_dtype(op, "weight", real)
        self.dtype = self.x.dtype
        compute = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.weight = real.to(compute)
        self.powers = rules.POWERS[norm]
        self.method = choose_method(self.space, self.size, self.modes, method)
        # torch's FFT on the CPU has no half precision.
        self.wide = compute if self.method == "fft" else self.dtype
        self.x = self.x.to(self.wide)

    def run(self, mix: Callable[[Tensor], Tensor], bias: Any, backend: str | None) -> Any:
        """Transform, mix [B, C_in, *modes, 2] -> [B, C_out, *modes, 2], transform back."""
        there, back = self.powers
        z = _dft_kept(self.x, self.modes, self.space, False, there, self.method, backend=backend)
        mixed = mix(z)
        if bias is not None:
            offset, _ = as_tensor(self.op, "bias", bias)
            rules.check_bias(self.op, offset.shape, mixed.shape[1])
            factor = math.prod(self.space) ** -back
            mixed = _add_constant(mixed, offset.to(mixed.dtype) * factor, self.modes)
        y = _idft_kept(
            mixed, self.size, self.space, True, back, self.wide, self.method, backend=backend
        )
        return self.restore(y.to(self.dtype))


def choose_method(
    space: Sequence[int], size: Sequence[int], modes: Sequence[int], method: str
) -> str:
    if method != "auto":
        return method
    # The bits of torch's FFT depend on the threads. Symbolic sizes would be bound by a comparison.
    symbolic = not all(type(n) is int for n in (*space, *size))
    if symbolic or torch.are_deterministic_algorithms_enabled():
        return "dft"
    there, back = rules.cost_of(space, modes), rules.cost_of(size, modes)
    return rules.Cost(there.dft + back.dft, there.fft + back.fft).method


def _add_constant(mixed: Tensor, offset: Tensor, modes: Sequence[int]) -> Tensor:
    """Add to the real part of mode 0: mixed [B, O, *modes, 2], offset [O]."""
    zero = 0
    for m in modes[:-1]:
        zero = zero * m + m // 2
    zero *= modes[-1]
    flat = mixed.flatten(2)
    return flat.select_scatter(flat[..., 2 * zero] + offset, -1, 2 * zero).view_as(mixed)


def _check_dtype(op: str, argument: str, t: Tensor) -> None:
    if t.dtype not in DTYPES:
        names = ", ".join(map(dtype_name, DTYPES))
        remedy = f"convert it, for example {argument}.float()"
        raise TypeError(message(op, argument, f"be one of {names}", dtype_name(t.dtype), remedy))


def _explain(
    x: Any, weight: Any, modes: Sequence[int], method: str = "auto"
) -> _backend.Explanation:
    call = _Call("spectral_conv", x, weight, modes, "backward", method, None)
    runs = _backend.explain("_dft_kept", call.x)
    cost = rules.cost_of(call.space, call.modes)
    other = "fft" if call.method == "dft" else "dft"
    why = str(cost) if method == "auto" else f"method={method!r} was asked for"
    reasons = {**runs.reasons, f"method {other}": why}
    return _backend.Explanation("spectral_conv", f"{runs.runs}, method {call.method}", reasons)


_backend.EXPLAIN["spectral_conv"] = _explain

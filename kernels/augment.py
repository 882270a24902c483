"""Amplitude jitter on Triton: a half spectrum times Gaussian noise that is made in registers.

Every bin of a half spectrum [B, C, H, K, 2], K = width // 2 + 1, is multiplied by 1 + s z, z being
a standard normal number and s^2 = (alpha D + beta) / 2, or without the half where the bin is its
own conjugate; D is |k|^2 over its largest value. Words are those of Philox 4x32-10, bit for bit
those of csrc/core/common/philox.hpp: key (seed), counter (g, row, channel, sample), and output i of
four belongs to column g + i G, G = ceil(K / 4). Bins of the outer columns have their conjugate in
the same column; both take the number of the upper row.

Normals are Box and Muller's by the series of philox.hpp, not by Triton's approximate logarithm and
cosine, and differ from those of the CPU by rounding alone.

Strides:     any; the transform of x, torch's, gives a contiguous spectrum.
Arithmetic:  float32 in float32, float64 in float64. Addresses in int64.
Cost:        one read and one write of the half spectrum; one kernel for the inner columns, where a
             lane makes the numbers of four bins, and one for the outer ones. Memory: a second half
             spectrum, while the first is read.

`LAUNCHERS` take what the op in medkern/ops/augment.py takes, and allocate as its fake.
"""

# Triton has no stubs, and infers the types of device functions itself.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: disable-error-code="assignment, import-untyped, import-not-found"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medkern.kernels import _runtime
from medkern.kernels._compile import Variant
from medkern.kernels._device import quotient, root
from medkern.kernels._runtime import NAMES, jit, tl, why_not  # noqa: F401
from medkern.reference.augment import DC_FLOOR

WARPS = 4
BLOCK = 32 * WARPS

# Arguments for which Triton compiles no special cases: all numbers.
_PLAIN = (
    *("images", "channels", "height", "columns", "width", "shared"),
    *("stream_sample", "stream_word", "alpha", "beta", "floor"),
)


@jit()
def _philox(a, b, c, d, key, other):
    """Four words of each counter, all uint32."""
    for _ in tl.static_range(10):
        high_a = tl.umulhi(a, 0xD2511F53 + 0 * a)
        high_c = tl.umulhi(c, 0xCD9E8D57 + 0 * c)
        a, b, c, d = high_c ^ b ^ key, c * 0xCD9E8D57, high_a ^ d ^ other, a * 0xD2511F53
        key += 0x9E3779B9
        other += 0xBB67AE85
    return a, b, c, d


@jit()
def _log(n, ACC: tl.constexpr):
    """log(n / 2^24) for n from 1 to 2^24: of the mantissa, 2 artanh((m - 1) / (m + 1))."""
    TERMS: tl.constexpr = 11 if ACC.primitive_bitwidth == 64 else 5
    low = 0x3F3504F3  # sqrt(1/2)
    adjusted = n.to(tl.float32).to(tl.int32, bitcast=True) - low
    exponent = ((adjusted >> 23) - 24).to(ACC)
    m = ((adjusted & 0x7FFFFF) + low).to(tl.float32, bitcast=True).to(ACC)
    s = quotient(m - 1, m + 1)
    square = s * s
    series = square * 0 + 1 / (2 * TERMS - 1)
    for k in tl.static_range(TERMS - 2, -1, -1):
        series = series * square + 1 / (2 * k + 1)
    return exponent * 0.69314718055994530942 + (s + s) * series


@jit()
def _cos_sin(n, ACC: tl.constexpr):
    """cos and sin of 2 pi n / 2^24 for n from 0 to 2^24 - 1, from the nearest quarter of a turn."""
    LAST: tl.constexpr = 9 if ACC.primitive_bitwidth == 64 else 5
    quarter = (n + (1 << 21)) >> 22
    angle = (n - (quarter << 22)).to(ACC) * (6.28318530717958647693 / (1 << 24))
    square = angle * angle
    c = square * 0 + 1
    s = c
    for k in tl.static_range(LAST, 0, -1):
        c = 1 - c * square * (1 / (2 * k * (2 * k - 1)))
        s = 1 - s * square * (1 / (2 * k * (2 * k + 1)))
    s = s * angle
    odd = (quarter & 1) == 1
    cosine = tl.where(odd, s, c) * (1 - ((quarter + 1) & 2)).to(ACC)
    return cosine, tl.where(odd, c, s) * (1 - (quarter & 2)).to(ACC)


@jit()
def _normal_pair(u, v, ACC: tl.constexpr):
    radius = root(-2 * _log((u >> 8).to(tl.int32) + 1, ACC))
    cosine, sine = _cos_sin((v >> 8).to(tl.int32), ACC)
    return radius * cosine, radius * sine


@jit()
def _draw(
    stream, image, group, row, here, channels, shared, stream_sample, stream_word, ACC: tl.constexpr
):
    """The four normal numbers of a group."""
    at = stream + image // channels * stream_sample
    seed = tl.load(at, mask=here, other=0)
    sample = tl.load(at + tl.cast(stream_word, tl.int64), mask=here, other=0)
    channel = tl.where(shared != 0, 0, image % channels)
    words = _philox(
        group.to(tl.uint32),
        row.to(tl.uint32),
        channel.to(tl.uint32),
        sample.to(tl.uint32),
        seed.to(tl.uint32),
        (seed >> 32).to(tl.uint32),
    )
    first, second = _normal_pair(words[0], words[1], ACC)
    third, fourth = _normal_pair(words[2], words[3], ACC)
    return first, second, third, fourth


@jit()
def _variance(row, column, height, alpha, beta, ACC: tl.constexpr):
    """alpha is divided by the largest squared frequency."""
    up = tl.minimum(row, height - row)
    square = (column * column + up * up).to(ACC)
    return tl.full([1], alpha, ACC) * square + tl.full([1], beta, ACC)


@jit()
def _multiply(x, out, at, here, mu):
    """The bins whose real parts are at `at`."""
    both = at[:, None] + tl.arange(0, 2)[None, :]
    bins = tl.load(x + both, mask=here[:, None], other=0)
    tl.store(out + both, bins * mu[:, None], mask=here[:, None])


# Arguments of both: spectra [B, C, H, K, 2], contiguous, and the stream [B, 2].


@jit(do_not_specialize=_PLAIN)
def noise_fwd_kernel(
    x,
    out,
    stream,
    images,
    channels,
    height,
    columns,
    width,
    shared,
    stream_sample,
    stream_word,
    alpha: tl.float64,
    beta: tl.float64,
    floor: tl.float64,
    BLOCK: tl.constexpr,
):
    """The inner columns: a lane takes the group of a row."""
    ACC: tl.constexpr = x.dtype.element_ty
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    groups = (tl.cast(columns, tl.int64) + 3) // 4
    line = i // groups
    group = i - line * groups
    image = line // height
    row = line - image * height
    here = image < images
    z = _draw(stream, image, group, row, here, channels, shared, stream_sample, stream_word, ACC)
    for j in tl.static_range(4):
        column = group + j * groups
        inner = (column > 0) & (column < columns) & (2 * column != width)
        mu = 1 + z[j] * root(0.5 * _variance(row, column, height, alpha, beta, ACC))
        _multiply(x, out, 2 * (line * columns + column), here & inner, mu)


@jit(do_not_specialize=_PLAIN)
def edge_fwd_kernel(
    x,
    out,
    stream,
    images,
    channels,
    height,
    columns,
    width,
    shared,
    stream_sample,
    stream_word,
    alpha: tl.float64,
    beta: tl.float64,
    floor: tl.float64,
    BLOCK: tl.constexpr,
):
    """The outer columns: a lane takes a bin. The last column is an outer one of an even width."""
    ACC: tl.constexpr = x.dtype.element_ty
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    edges = 2 - width % 2
    line = i // edges
    column = i % edges * (width // 2)
    image = line // height
    row = line - image * height
    here = image < images
    upper = tl.minimum(row, height - row)
    groups = (tl.cast(columns, tl.int64) + 3) // 4
    j = column // groups
    group = column - j * groups
    z = _draw(stream, image, group, upper, here, channels, shared, stream_sample, stream_word, ACC)
    number = tl.where(j == 0, z[0], tl.where(j == 1, z[1], tl.where(j == 2, z[2], z[3])))
    share = tl.where((row == 0) | (2 * row == height), 1, 0.5).to(ACC)  # 1: its own conjugate
    mu = 1 + number * root(share * _variance(row, column, height, alpha, beta, ACC))
    least = tl.full([1], floor, ACC)
    mu = tl.where((row == 0) & (column == 0) & (mu < least), least, mu)
    _multiply(x, out, 2 * (line * columns + column), here, mu)


def arguments(
    spectrum: Tensor,
    out: Tensor,
    stream: Tensor,
    width: int,
    alpha: float,
    beta: float,
    per_channel: bool,
    dc_clamp: bool,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(arguments, options) of both kernels."""
    batch, channels, height, columns, _ = spectrum.shape
    farthest = max((height // 2) ** 2 + (width // 2) ** 2, 1)
    floor = DC_FLOOR if dc_clamp else -float("inf")
    sizes = (batch * channels, channels, height, columns, width, int(not per_channel))
    numbers = (*stream.stride(), float(alpha) / farthest, float(beta), floor)
    return (spectrum, out, stream, *sizes, *numbers), {"BLOCK": BLOCK, "num_warps": WARPS}


def amplitude_jitter(
    x: Tensor, stream: Tensor, alpha: float, beta: float, per_channel: bool, dc_clamp: bool
) -> Tensor:
    _runtime.check("augment", x, stream)
    if x.dim() != 4 or tuple(stream.shape) != (x.shape[0], 2):
        shapes = f"{tuple(x.shape)} and {tuple(stream.shape)}"
        raise ValueError(f"medkern.kernels.augment: shapes do not fit: {shapes}")
    if x.numel() == 0:
        return x.new_empty(x.shape)
    batch, channels, height, width = x.shape
    spectrum = torch.view_as_real(torch.fft.rfft2(x)).contiguous()
    out = spectrum.new_empty(spectrum.shape)
    how = (alpha, beta, per_channel, dc_clamp)
    positional, options = arguments(spectrum, out, stream, width, *how)
    with torch.cuda.device_of(x):
        for kernel, lanes in (
            (noise_fwd_kernel, -(-spectrum.shape[3] // 4)),
            (edge_fwd_kernel, 2 - width % 2),
        ):
            programs = -(-batch * channels * height * lanes // BLOCK)
            kernel[(programs,)](*positional, **options)
    del positional, spectrum
    image: Tensor = torch.fft.irfft2(torch.view_as_complex(out), s=(height, width))
    return image.contiguous()


# The function of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {"_amplitude_jitter": amplitude_jitter}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    kernel: str  # noise or edge
    dtype: torch.dtype = torch.float32


AOT_VARIANTS: dict[str, Case] = {
    "noise": Case("noise"),
    "edge-double": Case("edge", torch.float64),
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launcher."""
    x = torch.empty(8, 3, 256, 129, 2, dtype=case.dtype, device="meta")
    stream = torch.empty(8, 2, dtype=torch.int64, device="meta")
    positional, options = arguments(x, x, stream, 256, 6.0, 0.5, True, True)
    kernel = noise_fwd_kernel if case.kernel == "noise" else edge_fwd_kernel
    constexprs, signature, aligned = dict(options), {}, []
    del constexprs["num_warps"]
    for name, value in zip(kernel.arg_names, positional, strict=False):
        if isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
            aligned.append(name)
        else:
            signature[name] = "i32" if isinstance(value, int) else "fp64"
    return Variant(kernel, signature, constexprs, tuple(aligned), {"num_warps": WARPS})

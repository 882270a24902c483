"""Warping by a displacement field on Triton, and its derivative in the field: gathers, no grid.

    out(p) = image(p + u(p))

u counts voxels, or halves of the image; nearest, linear or cubic along every axis, outside zeros,
the border or a reflection: see csrc/core/warp.hpp and csrc/core/warp_axis.hpp, whose definitions
these are. 2-D is 3-D with a depth of 1. A program takes a tile of [M, L] voxels of one plane of the
output, finds the voxels that they read and their weights once, and walks the channels with them.

Shapes:      image [B, C, *space], u [B, D, *out], grad [B, C, *out]; results are contiguous.
Strides:     any, and nothing is copied. Lanes run along the output's last axis.
Arithmetic:  float16, bfloat16 and float32 in float32, float64 in float64, u whatever its dtype
             along with the image; integers are copied. A position is never rounded as a whole.
             Products are not fused with sums, so that results have the CPU's bits, but for
             the derivative, which adds up channels in another order. Addresses in int64.
Cost:        reads u once per program, the image through the caches, grad once; writes the result
             once. No temporaries, no atomics: one thread writes a voxel.
Source:      Jaderberg et al., NeurIPS 2015; Keys, 1981 for the cubic kernel.

`LAUNCHERS` take what the ops in medkern/ops/warp.py and compose.py take, and allocate as their
fakes do. The gradient of the image scatters, which has no Triton kernel: see docs/ops/warp.md.
"""

# Triton has no `(*a, b)`, no stubs, and infers the types of device functions itself.
# ruff: noqa: RUF005
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: disable-error-code="assignment, import-untyped, import-not-found"

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medkern.kernels import _runtime
from medkern.kernels._compile import Variant
from medkern.kernels._runtime import NAMES, jit, tl, triton, why_not  # noqa: F401

WARPS = 4
PROGRAMS = 1024  # at the least, if there are channels to share out: eight per multiprocessor
LONGEST = 2**29  # voxels of an axis, so that positions fit in int32

_SPACE = ("d", "h", "w")
# Arguments for which Triton compiles no special cases. The strides of lanes are not among them, as
# stride 1 is the case that matters.
_PLAIN = (
    *("channels", "channels_each"),
    *(f"{kind}_{axis}" for kind in ("size", "out", "step") for axis in _SPACE),
    *(
        f"{view}_{axis}"
        for view in ("image", "u", "grad")
        for axis in ("batch", "channel", "d", "h")
    ),
)


@jit()
def _fold(i, period):
    i = i % period  # with the sign of i
    return tl.where(i < 0, i + period, i)


@jit()
def _period(size):
    """Of reflections, after which voxels come again."""
    return tl.maximum(2 * (size - 1), 1)


@jit()
def _reflect(i, f, slope, size):
    i = _fold(i, _period(size))
    back = i >= size - 1
    inside = f != 0
    i = tl.where(back, _period(size) - i - inside.to(tl.int32), i)
    f = tl.where(back & inside, 1 - f, f)
    return i, f, tl.where(back, -slope, slope)


@jit()
def _stop(i, f, slope, size):
    """To the border, where the derivative is 0, as it is beyond."""
    low = (i < 0) | ((i == 0) & (f == 0))
    high = i >= size - 1
    i = tl.where(low, 0, tl.where(high, size - 1, i))
    return i, tl.where(low | high, 0, f), tl.where(low | high, 0, slope)


@jit()
def _start(voxel, step, RESAMPLED: tl.constexpr, ACC: tl.constexpr):
    """Where that voxel of the output lies along an axis: (whole, part)."""
    if RESAMPLED:
        at = voxel.to(tl.float64) * tl.cast(step, tl.int64).to(tl.float64, bitcast=True)
        whole = tl.floor(at)
        part = (at - whole).to(ACC)
        whole = whole.to(tl.int32)
    else:
        whole = voxel
        part = tl.zeros_like(voxel).to(ACC)
    return whole, part


@jit()
def _locate(
    u,
    voxel,
    size,
    step,
    PADDING: tl.constexpr,
    NORMALIZED: tl.constexpr,
    RESAMPLED: tl.constexpr,
    ACC: tl.constexpr,
    TAPS: tl.constexpr,
):
    """Between voxels i and i + 1, at i + f: (i, f, derivative of f in u, whether u is a number)."""
    whole, part = _start(voxel, step, RESAMPLED, ACC)
    slope = tl.full(u.shape, 1, ACC)
    if NORMALIZED:
        slope = slope * tl.cast(size - 1, ACC) * 0.5
    t = part + u * slope
    known = t == t
    if PADDING == "reflection":
        known = tl.abs(t) < float("inf")
    t = tl.where(known, t, 0)
    # Whoever is farther outside is there: 2**30 voxels.
    t = tl.where(t < -1073741824.0, -1073741824.0, tl.where(t > 1073741824.0, 1073741824.0, t))
    below = tl.floor(t)
    i = below.to(tl.int32) + whole
    f = t - below
    if TAPS != 4:
        if PADDING == "reflection":
            i, f, slope = _reflect(i, f, slope, size)
        if PADDING != "zeros":
            i, f, slope = _stop(i, f, slope, size)
    return i, f, slope, known


@jit()
def _tap(axis, k, size, PADDING: tl.constexpr, TAPS: tl.constexpr):
    """The voxel that tap k reads, and whether there is one; always, but for padding by zeros."""
    i, f, _, _ = axis
    if TAPS == 1:  # of two that are as near the even one
        i = i + ((f > 0.5) | ((f == 0.5) & ((i & 1) == 1))).to(tl.int32)
    if TAPS == 2:
        i = i + k
    if TAPS == 4:
        i = i + (k - 1)
        if PADDING == "reflection":
            i = _fold(i, _period(size))
            i = tl.where(i >= size, _period(size) - i, i)
    inside = (i >= 0) & (i < size)
    if PADDING != "zeros":
        i = tl.maximum(tl.minimum(i, size - 1), 0)
        inside = i >= 0
    return i, inside


@jit()
def _weight(axis, k, TAPS: tl.constexpr):
    _, f, _, _ = axis
    if TAPS == 1:
        w = tl.full(f.shape, 1, f.dtype)
    elif TAPS == 2:
        w = tl.where(k == 0, 1 - f, f)
    else:  # Keys' kernel with a = -0.75 at the distance of the tap
        x = tl.abs(f - (k - 1))
        near = (1.25 * x - 2.25) * x * x + 1
        far = ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0
        w = tl.where((k == 0) | (k == 3), far, near)
    return w


@jit()
def _weight_slope(axis, k, TAPS: tl.constexpr):
    _, f, slope, _ = axis
    if TAPS == 2:
        w = tl.where(k == 0, -slope, slope)
    else:
        x = tl.abs(f - (k - 1))
        near = (3.75 * x - 4.5) * x
        far = (-2.25 * x + 7.5) * x - 6.0
        w = tl.where((k == 0) | (k == 3), far, near) * tl.where(k < 2, slope, -slope)
    return w


@jit()
def _taps(axis, size, stride, PADDING: tl.constexpr, TAPS: tl.constexpr, SLOPES: tl.constexpr):
    """Per tap of an axis: (offsets, insides, weights, their derivatives)."""
    offsets = ()
    insides = ()
    weights = ()
    slopes = ()
    for k in tl.static_range(TAPS):
        i, inside = _tap(axis, k, size, PADDING, TAPS)
        offsets = offsets + (i.to(tl.int64) * stride,)
        insides = insides + (inside,)
        weights = weights + (_weight(axis, k, TAPS),)
        if SLOPES:
            slopes = slopes + (_weight_slope(axis, k, TAPS),)
    return offsets, insides, weights, slopes


@jit()
def _place(out, channels, channels_each, M: tl.constexpr, L: tl.constexpr):
    """This program's sample and first channel, and its voxels: (z, y [M, 1], x [1, L])."""
    program = tl.program_id(0)
    across = tl.cdiv(out[2], L)
    x = program % across * L + tl.arange(0, L)[None, :]
    program = program // across
    down = tl.cdiv(out[1], M)
    y = program % down * M + tl.arange(0, M)[:, None]
    program = program // down
    z = program % out[0]
    program = program // out[0]
    groups = tl.cdiv(channels, channels_each)
    return program // groups, program % groups * channels_each, (z, y, x)


@jit()
def _offset(at, strides):
    offset = tl.cast(at[0], tl.int64) * strides[0]
    return offset + at[1].to(tl.int64) * strides[1] + at[2].to(tl.int64) * strides[2]


@jit()
def _find(
    u,
    at,
    here,
    sizes,
    steps,
    strides,
    component,
    PADDING: tl.constexpr,
    NORMALIZED: tl.constexpr,
    RESAMPLED: tl.constexpr,
    ACC: tl.constexpr,
    N: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPES: tl.constexpr,
):
    """Where voxels are read: (position, extent and stride along d; taps along h; taps along w;
    whether the displacement is a number; whether some tap is within the image)."""
    known = here
    some = here
    found = ()
    for a in tl.static_range(3 - N, 3):
        moved = tl.load(u + (a - 3 + N) * component, mask=here, other=0).to(ACC)
        axis = _locate(moved, at[a], sizes[a], steps[a], PADDING, NORMALIZED, RESAMPLED, ACC, TAPS)
        known = known & axis[3]
        if PADDING == "zeros":
            some = some & (axis[0] >= -TAPS // 2) & (axis[0] < sizes[a] + TAPS // 4)
        found = found + (axis,)
    deep = (found[0], sizes[0], strides[0])
    rows = _taps(found[N - 2], sizes[1], strides[1], PADDING, TAPS, SLOPES)
    lanes = _taps(found[N - 1], sizes[2], strides[2], PADDING, TAPS, SLOPES)
    return deep, rows, lanes, known, some


@jit()
def _weighted(values, weights, TAPS: tl.constexpr):
    total = weights[0] * values[0]
    for k in tl.static_range(1, TAPS):
        total = total + weights[k] * values[k]
    return total


@jit()
def _plane(
    image,
    offset,
    here,
    rows,
    lanes,
    PADDING: tl.constexpr,
    ACC: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPES: tl.constexpr,
):
    """Interpolation within a plane of the image: (value, and its derivatives along h and w)."""
    values = ()
    along = ()
    for j in tl.static_range(TAPS):
        row = ()
        for k in tl.static_range(TAPS):
            mask = here
            if PADDING == "zeros":
                mask = mask & rows[1][j] & lanes[1][k]
            at = image + (offset + (rows[0][j] + lanes[0][k]))
            row = row + (tl.load(at, mask=mask, other=0).to(ACC),)
        values = values + (_weighted(row, lanes[2], TAPS),)
        if SLOPES:
            along = along + (_weighted(row, lanes[3], TAPS),)
    out = (_weighted(values, rows[2], TAPS),)
    if SLOPES:
        out = out + (_weighted(values, rows[3], TAPS), _weighted(along, rows[2], TAPS))
    return out


@jit()
def _add_plane(
    sums,
    k,
    image,
    here,
    deep,
    rows,
    lanes,
    PADDING: tl.constexpr,
    ACC: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPES: tl.constexpr,
):
    """Plus tap k along d: (value, and its derivatives along d, h and w)."""
    axis, size, stride = deep
    i, inside = _tap(axis, k, size, PADDING, TAPS)
    by = _weight(axis, k, TAPS)
    if PADDING == "zeros":
        here = here & inside
    offset = i.to(tl.int64) * stride
    found = _plane(image, offset, here, rows, lanes, PADDING, ACC, TAPS, SLOPES)
    out = (sums[0] + by * found[0],)
    if SLOPES:
        out = out + (sums[1] + _weight_slope(axis, k, TAPS) * found[0],)
        out = out + (sums[2] + by * found[1], sums[3] + by * found[2])
    return out


@jit()
def _interpolate(
    image,
    here,
    deep,
    rows,
    lanes,
    PADDING: tl.constexpr,
    ACC: tl.constexpr,
    N: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPES: tl.constexpr,
):
    """Of one channel (value, and its derivatives along the axes)."""
    if N == 2:
        out = _plane(image, 0, here, rows, lanes, PADDING, ACC, TAPS, SLOPES)
    else:
        zero = tl.zeros(here.shape, ACC)
        out = (zero, zero, zero, zero) if SLOPES else (zero,)
        if TAPS == 4:  # 64 taps at once would not fit in registers
            for k in range(TAPS):
                out = _add_plane(out, k, image, here, deep, rows, lanes, PADDING, ACC, TAPS, SLOPES)
        else:
            for k in tl.static_range(TAPS):
                out = _add_plane(out, k, image, here, deep, rows, lanes, PADDING, ACC, TAPS, SLOPES)
    return out


@jit()
def _nearest(image, here, deep, rows, lanes, PADDING: tl.constexpr, N: tl.constexpr):
    """Of one channel the voxel as it is stored, 0 where there is none."""
    offset = rows[0][0] + lanes[0][0]
    mask = here & rows[1][0] & lanes[1][0]
    if N == 3:
        axis, size, stride = deep
        i, inside = _tap(axis, 0, size, PADDING, 1)
        offset += i.to(tl.int64) * stride
        mask = mask & inside
    return tl.load(image + offset, mask=mask, other=0)


# Arguments of all: tensors; the channels, and how many a program takes; the extents of image and
# output; voxels of the image per voxel of the output, as the bits of a float64; then strides.


@jit(do_not_specialize=_PLAIN)
def warp_fwd_kernel(
    image,
    u,
    y,
    channels,
    channels_each,
    size_d,
    size_h,
    size_w,
    out_d,
    out_h,
    out_w,
    step_d,
    step_h,
    step_w,
    image_batch,
    image_channel,
    image_d,
    image_h,
    image_w,
    u_batch,
    u_channel,
    u_d,
    u_h,
    u_w,
    TAPS: tl.constexpr,
    PADDING: tl.constexpr,
    NORMALIZED: tl.constexpr,
    RESAMPLED: tl.constexpr,
    ADD: tl.constexpr,
    INTEGER: tl.constexpr,
    ACC: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
):
    out = (out_d, out_h, out_w)
    batch, first, at = _place(out, channels, channels_each, M, L)
    here = (at[1] < out_h) & (at[2] < out_w)
    component = tl.cast(u_channel, tl.int64)
    u += batch.to(tl.int64) * u_batch + _offset(at, (u_d, u_h, u_w))
    deep, rows, lanes, known, _ = _find(
        u,
        at,
        here,
        (size_d, size_h, size_w),
        (step_d, step_h, step_w),
        (image_d, image_h, image_w),
        component,
        PADDING,
        NORMALIZED,
        RESAMPLED,
        ACC,
        N,
        TAPS,
        False,
    )
    step = tl.cast(image_channel, tl.int64)
    image += batch.to(tl.int64) * image_batch + first * step
    plane = tl.cast(out_w, tl.int64)
    volume = plane * out_h * out_d
    y += (batch.to(tl.int64) * channels + first) * volume
    stored = _offset(at, (plane * out_h, plane, 1))
    for c in range(first, tl.minimum(first + channels_each, channels)):
        if TAPS == 1:
            value = _nearest(image, here, deep, rows, lanes, PADDING, N)
        else:
            value = _interpolate(image, here, deep, rows, lanes, PADDING, ACC, N, TAPS, False)[0]
        if INTEGER:
            value = tl.where(known, value, 0)
        else:
            value = tl.where(known, value.to(ACC), float("nan"))
        if ADD:
            value += tl.load(u + c * component, mask=here, other=0).to(ACC)
        tl.store(y + stored, value, mask=here)
        image += step
        y += volume


@jit(do_not_specialize=_PLAIN)
def warp_slope_bwd_kernel(
    grad,
    image,
    u,
    d_u,
    channels,
    size_d,
    size_h,
    size_w,
    out_d,
    out_h,
    out_w,
    step_d,
    step_h,
    step_w,
    image_batch,
    image_channel,
    image_d,
    image_h,
    image_w,
    u_batch,
    u_channel,
    u_d,
    u_h,
    u_w,
    grad_batch,
    grad_channel,
    grad_d,
    grad_h,
    grad_w,
    TAPS: tl.constexpr,
    PADDING: tl.constexpr,
    NORMALIZED: tl.constexpr,
    RESAMPLED: tl.constexpr,
    ACC: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
):
    out = (out_d, out_h, out_w)
    batch, _, at = _place(out, 1, 1, M, L)
    batch = batch.to(tl.int64)
    here = (at[1] < out_h) & (at[2] < out_w)
    u += batch * u_batch + _offset(at, (u_d, u_h, u_w))
    deep, rows, lanes, known, some = _find(
        u,
        at,
        here,
        (size_d, size_h, size_w),
        (step_d, step_h, step_w),
        (image_d, image_h, image_w),
        tl.cast(u_channel, tl.int64),
        PADDING,
        NORMALIZED,
        RESAMPLED,
        ACC,
        N,
        TAPS,
        True,
    )
    image += batch * image_batch
    image_step = tl.cast(image_channel, tl.int64)
    grad_step = tl.cast(grad_channel, tl.int64)
    grad += batch * grad_batch + _offset(at, (grad_d, grad_h, grad_w))
    zero = tl.zeros([M, L], ACC)
    d = (zero, zero, zero) if N == 3 else (zero, zero)
    for _ in range(channels):
        g = tl.load(grad, mask=some, other=0).to(ACC)
        slopes = _interpolate(image, here, deep, rows, lanes, PADDING, ACC, N, TAPS, True)
        if N == 3:
            d = (d[0] + g * slopes[1], d[1] + g * slopes[2], d[2] + g * slopes[3])
        else:
            d = (d[0] + g * slopes[1], d[1] + g * slopes[2])
        grad += grad_step
        image += image_step
    plane = tl.cast(out_w, tl.int64)
    volume = plane * out_h * out_d
    d_u += batch * N * volume + _offset(at, (plane * out_h, plane, 1))
    for a in tl.static_range(N):
        tl.store(d_u + a * volume, tl.where(known, d[a], float("nan")), mask=here)


def tile(height: int, width: int, voxels: int) -> tuple[int, int]:
    """(M, L), the rows and lanes of a program: powers of two, patches of rows of 32 if they can."""
    lanes = min(32, triton.next_power_of_2(width))
    rows = min(voxels // lanes, triton.next_power_of_2(height))
    return rows, min(voxels // rows, triton.next_power_of_2(width))


def _padded(values: Sequence[int], missing: int) -> tuple[int, int, int]:
    """Of the axes (d, h, w); a picture has no d."""
    d, h, w = (missing,) * (3 - len(values)) + tuple(values)
    return d, h, w


def _strides(t: Tensor) -> tuple[int, ...]:
    """batch, channel, d, h, w."""
    return t.stride()[:2] + _padded(t.stride()[2:], 0)


def _step(size: int, out: int) -> float:
    return (size - 1) / (out - 1) if out > 1 else 0.0


def _bits(step: float) -> int:
    """Triton passes numbers as float32, and integers as they are."""
    return int(struct.unpack("<q", struct.pack("<d", step))[0])


class How(NamedTuple):
    mode: str
    padding: str
    normalized: bool


TAPS = {"nearest": 1, "linear": 2, "cubic": 4}


def _wide(dtype: torch.dtype) -> Any:
    return tl.float64 if dtype == torch.float64 else tl.float32


def arguments(image: Tensor, u: Tensor, how: How) -> tuple[int, tuple[int, ...], dict[str, Any]]:
    """(tiles of all samples, extents and steps, options) of both kernels."""
    ndim = image.dim() - 2
    size, out = _padded(image.shape[2:], 1), _padded(u.shape[2:], 1)
    steps = [_step(n, m) if how.normalized else 1.0 for n, m in zip(size, out, strict=True)]
    taps = TAPS[how.mode]
    m, lane_block = tile(out[1], out[2], 32 * WARPS)
    tiles = image.shape[0] * out[0] * -(-out[1] // m) * -(-out[2] // lane_block)
    resampled = any(step != 1 for step, n in zip(steps, out, strict=True) if n > 1)
    options = {
        "TAPS": taps,
        "PADDING": how.padding,
        "NORMALIZED": how.normalized,
        "RESAMPLED": resampled,
        "ACC": _wide(image.dtype),
        "N": ndim,
        "M": m,
        "L": lane_block,
        "num_warps": WARPS,
        "enable_fp_fusion": False,
    }
    return tiles, (*size, *out, *map(_bits, steps)), options


def _check(image: Tensor, u: Tensor, how: How, *others: Tensor) -> None:
    _runtime.check("warp", image, u, *others)
    shapes = ", ".join(str(tuple(t.shape)) for t in (image, u, *others))
    ndim = image.dim() - 2
    if ndim not in (2, 3) or u.shape[:2] != (image.shape[0], ndim) or u.dim() != ndim + 2:
        raise ValueError(f"medkern.kernels.warp: shapes do not fit: {shapes}")
    if not all(0 < n < LONGEST for n in (*image.shape[2:], *u.shape[2:])):
        raise ValueError(f"medkern.kernels.warp: axes must have 1 to 2^29 voxels: {shapes}")
    if how.mode not in TAPS or how.padding not in ("zeros", "border", "reflection"):
        raise ValueError(f"medkern.kernels.warp: unknown {how}")
    if not u.is_floating_point() or not (image.is_floating_point() or how.mode == "nearest"):
        raise ValueError("medkern.kernels.warp: integers are images of mode nearest")


def _share(channels: int, tiles: int) -> int:
    """How many channels a program takes, such that there are enough programs."""
    groups = min(channels, -(-PROGRAMS // tiles))
    return -(-channels // groups)


def _warp(image: Tensor, u: Tensor, how: How, add: bool = False) -> Tensor:
    _check(image, u, how)
    out = image.new_empty(*image.shape[:2], *u.shape[2:])
    if out.numel() == 0:
        return out
    tiles, numbers, options = arguments(image, u, how)
    channels = image.shape[1]
    each = _share(channels, tiles)
    options |= {"ADD": add, "INTEGER": not image.is_floating_point()}
    strides = (*_strides(image), *_strides(u))
    with torch.cuda.device_of(image):
        warp_fwd_kernel[(tiles * -(-channels // each),)](
            image, u, out, channels, each, *numbers, *strides, **options
        )
    return out


def warp(image: Tensor, displacement: Tensor, mode: str, padding: str, normalized: bool) -> Tensor:
    return _warp(image, displacement, How(mode, padding, normalized))


def compose(u: Tensor, v: Tensor, padding: str) -> Tensor:
    return _warp(u, v, How("linear", padding, False), add=True)


def warp_slope(
    grad: Tensor, image: Tensor, displacement: Tensor, mode: str, padding: str, normalized: bool
) -> Tensor:
    how = How(mode, padding, normalized)
    _check(image, displacement, how, grad)
    if grad.shape != (*image.shape[:2], *displacement.shape[2:]) or grad.dtype != image.dtype:
        raise ValueError("medkern.kernels.warp: grad must be [B, C, *out] in the image's dtype")
    out = displacement.new_empty(displacement.shape)
    if mode == "nearest" or image.shape[1] == 0:
        return out.zero_()
    if out.numel() == 0:
        return out
    tiles, numbers, options = arguments(image, displacement, how)
    strides = (*_strides(image), *_strides(displacement), *_strides(grad))
    with torch.cuda.device_of(image):
        warp_slope_bwd_kernel[(tiles,)](
            grad, image, displacement, out, image.shape[1], *numbers, *strides, **options
        )
    return out


# The kernel of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {
    "warp": warp,
    "_warp_slope": warp_slope,
    "compose": compose,
}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    mode: str
    padding: str
    dtype: torch.dtype
    shape: tuple[int, ...]  # of the image, [B, C, *space]
    field: torch.dtype = torch.float32
    channels_last: bool = False
    zoom: int = 1  # normalized units, and an output that is so many times as large
    compose: bool = False
    adjoint: bool = False


_PLANE, _VOLUME, _DOUBLE = (8, 3, 500, 500), (2, 3, 91, 109, 91), torch.float64

AOT_VARIANTS: dict[str, Case] = {
    "fwd-linear-2d": Case("linear", "border", torch.float32, _PLANE, channels_last=True),
    "fwd-linear-3d": Case("linear", "zeros", torch.float32, _VOLUME),
    "fwd-linear-3d-half": Case("linear", "reflection", torch.float16, _VOLUME),
    "fwd-linear-3d-zoomed": Case("linear", "border", torch.float64, _VOLUME, _DOUBLE, zoom=2),
    "fwd-cubic-2d": Case("cubic", "zeros", torch.float32, _PLANE),
    "fwd-cubic-3d": Case("cubic", "reflection", torch.float32, _VOLUME),
    "fwd-nearest-3d": Case("nearest", "zeros", torch.int64, _VOLUME),
    "fwd-compose-3d": Case("linear", "zeros", torch.float32, _VOLUME, compose=True),
    "bwd-linear-3d": Case("linear", "zeros", torch.float32, _VOLUME, adjoint=True),
    "bwd-cubic-2d": Case("cubic", "reflection", torch.float32, _PLANE, adjoint=True),
    "bwd-cubic-3d": Case("cubic", "zeros", torch.float64, _VOLUME, _DOUBLE, adjoint=True),
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launchers."""
    batch, channels, *space = case.shape
    image = torch.empty(case.shape, dtype=case.dtype, device="meta")
    if case.channels_last:
        image = torch.empty(batch, *space, channels, device="meta").movedim(-1, 1)
    out = [n * case.zoom for n in space]
    u = torch.empty(batch, len(space), *out, dtype=case.field, device="meta")
    how = How(case.mode, case.padding, case.zoom > 1)
    _, numbers, options = arguments(image, u, how)
    strides = (*_strides(image), *_strides(u))
    if case.adjoint:
        kernel, tensors = warp_slope_bwd_kernel, (image, image, u, u)
        positional = (*tensors, channels, *numbers, *strides, *_strides(u[:, :1]))
    else:
        kernel, tensors = warp_fwd_kernel, (image, u, image)
        positional = (*tensors, channels, channels, *numbers, *strides)
        options |= {"ADD": case.compose, "INTEGER": not case.dtype.is_floating_point}
    settings = {name: options.pop(name) for name in ("num_warps", "enable_fp_fusion")}
    constexprs, signature, aligned = dict(options), {}, []
    for name, value in zip(kernel.arg_names, positional, strict=False):
        if isinstance(value, Tensor):
            aligned.append(name)
            signature[name] = "*" + NAMES[value.dtype]
        elif value == 1 and name not in _PLAIN:
            constexprs[name] = 1
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
    return Variant(kernel, signature, constexprs, tuple(aligned), settings)

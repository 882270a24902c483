"""Haar wavelet analysis, synthesis and pooling on Triton: one pass over memory, 1-D, 2-D and 3-D.

A block is 2**N neighbouring samples; corner q of a block sits at offset (bit i of q) along spatial
axis i, bit N - 1 being W. With s = 2**(-N / 2), band k of a block is

    y_k = s * sum_q (-1)**popcount(q & k) * x_q

and the pooling modes combine the bands of a block: see csrc/core/haar.hpp, whose definition this
is. `haar_fwd_kernel` maps x to y in every mode; `haar_bwd_kernel` is its exact adjoint for every
pad, which with pad "zero" is the inverse too. The adjoint gathers: a sample that the padding of odd
axes copies adds up all block corners that read it, so each address is written once, by one program,
and equal inputs give equal bits.

Shapes:      x, keys [B, C, *size]; y [B, C, outputs, *half], half = ceil(size / 2), its outputs
             stacked along the channels in the pooled maps.
Strides:     any. Lanes run along W (pairs of samples: one vector load, split in registers) or,
             in channels-last tensors, along the channels; both are fast where the lanes are
             contiguous, and correct elsewhere.
Arithmetic:  float16, bfloat16 and float32 in float32, float64 in float64; lifting in the type of
             the bands. Addresses in int64.
Cost:        reads the input (and the keys) once, writes the output once; no temporaries.
Source:      Das et al., "SFRSeg-Net", ICPR 2024, section 3 and equation 6.

The functions have the signatures of the ops in medkern/ops/haar.py and allocate as their fakes do.
"""

# Triton has no `(*a, b)`, no stubs, and infers the types of device functions itself.
# ruff: noqa: RUF005
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: disable-error-code="assignment, import-untyped, import-not-found"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medkern.kernels import _runtime
from medkern.kernels._compile import Variant
from medkern.kernels._runtime import NAMES, constant, jit, tl, triton, why_not  # noqa: F401
from medkern.rules import haar as rules

# Arguments for which Triton compiles no special cases: ALIGN_* says all that is worth knowing. The
# lanes' strides are not among them, as stride 1 is the case that matters.
_PLAIN = (
    *("rows", "lanes", "channels", "size_d", "size_h", "size_w"),
    *(f"{view}_{axis}" for view in ("x", "keys", "y") for axis in ("batch", "d", "h", "row")),
    "y_band",
)


@constant
def _parity(q):
    return (q ^ (q >> 1) ^ (q >> 2)) & 1


@constant
def _row_major(i, N):
    """Corner that max pooling visits i-th: the bits of i reversed, as W runs fastest."""
    return ((i & 1) << (N - 1)) | (i & 2 if N == 3 else 0) | (i >> (N - 1))


@jit()
def _butterfly(v, N: tl.constexpr):
    """Unnormalised Walsh-Hadamard transform over the bits of the index; its own transpose."""
    for axis in tl.static_range(N):
        out = ()
        for q in tl.static_range(2**N):
            if q & (1 << axis):
                out = out + (v[q ^ (1 << axis)] - v[q],)
            else:
                out = out + (v[q] + v[q | (1 << axis)],)
        v = out
    return v


@jit()
def _lift(v, N: tl.constexpr):
    """S-transform, the first axis first: detail = a - b, mean = b + floor(detail / 2)."""
    for axis in tl.static_range(N):
        out = ()
        for q in tl.static_range(2**N):
            if q & (1 << axis):
                out = out + (v[q ^ (1 << axis)] - v[q],)
            else:
                b = v[q | (1 << axis)]
                out = out + (b + ((v[q] - b) >> 1),)
        v = out
    return v


@jit()
def _unlift(v, N: tl.constexpr):
    for axis in tl.static_range(N - 1, -1, -1):
        out = ()
        for q in tl.static_range(2**N):
            if q & (1 << axis):
                out = out + (v[q ^ (1 << axis)] - (v[q] >> 1),)
            else:
                detail = v[q | (1 << axis)]
                out = out + (detail + (v[q] - (detail >> 1)),)
        v = out
    return v


@jit()
def _lowpass(x, SCALE: tl.constexpr, N: tl.constexpr):
    total = x[0]
    for q in tl.static_range(1, 2**N):
        total = total + x[q]
    return total * SCALE


@jit()
def _winner(keys, N: tl.constexpr):
    """Place, in row-major order, of the first maximum of a block, or of its last NaN."""
    best = keys[0]
    winner = tl.zeros(best.shape, tl.int32)
    for i in tl.static_range(1, 2**N):
        key = keys[_row_major(i, N)]
        take = (key > best) | (key != key)
        best = tl.where(take, key, best)
        winner = tl.where(take, i, winner)
    return winner


@jit()
def _forward(x, keys, MODE: tl.constexpr, N: tl.constexpr):
    """The outputs of a block, given its corners."""
    SCALE: tl.constexpr = 2.0 ** (-0.5 * N)
    if MODE == "dwt":
        bands = _butterfly(x, N)
        y = ()
        for k in tl.static_range(2**N):
            y = y + (bands[k] * SCALE,)
    elif MODE == "lift":
        y = _lift(x, N)
    elif MODE == "ll":
        y = (_lowpass(x, SCALE, N),)
    elif MODE == "all":
        y = (x[0] * (SCALE * 2**N),)
    elif MODE == "iewa":
        total = x[0] * (2**N - 1)
        for q in tl.static_range(1, 2**N):
            total = total + x[q] if _parity(q) else total - x[q]
        y = (total * SCALE,)
    else:
        winner = _winner(keys, N)
        chosen = x[0]
        for i in tl.static_range(1, 2**N):
            chosen = tl.where(winner == i, x[_row_major(i, N)], chosen)
        y = (_lowpass(x, SCALE, N), chosen)
    return y


@jit()
def _adjoint(y, keys, MODE: tl.constexpr, N: tl.constexpr):
    """The gradients of a block's corners, given those of its outputs; lifting: the inverse."""
    SCALE: tl.constexpr = 2.0 ** (-0.5 * N)
    if MODE == "dwt":
        bands = ()
        for k in tl.static_range(2**N):
            bands = bands + (y[k] * SCALE,)
        x = _butterfly(bands, N)
    elif MODE == "lift":
        x = _unlift(y, N)
    elif MODE == "max_concat":
        winner = _winner(keys, N)
        low = y[0] * SCALE
        x = ()
        for q in tl.static_range(2**N):
            # Reversing the bits is its own inverse: the place of corner q.
            x = x + (tl.where(winner == _row_major(q, N), low + y[1], low),)
    else:
        unit = y[0] * SCALE
        x = ()
        for q in tl.static_range(2**N):
            if MODE == "ll":
                x = x + (unit,)
            elif MODE == "all":
                x = x + (unit * 2**N if q == 0 else tl.zeros_like(unit),)
            elif q == 0:
                x = x + (unit * (2**N - 1),)
            else:
                x = x + ((unit if _parity(q) else -unit),)
    return x


@jit()
def _multiple(n, ALIGN: tl.constexpr):
    """n in int64. ALIGN divides it: said so that the compiler sees it, which allows vectors."""
    return tl.cast(n, tl.int64) // ALIGN * ALIGN


@jit()
def _strides(batch, d, h, row, lane, ALIGN: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """(batch, channel, (d, h, w)); `row` belongs to whichever of channel and w is not the lane."""
    batch = _multiple(batch, ALIGN)
    d = _multiple(d, ALIGN)
    h = _multiple(h, ALIGN)
    row = _multiple(row, ALIGN)
    lane = _multiple(lane, 1)
    if CHANNELS_LAST:
        channel, w = lane, row
    else:
        channel, w = row, lane
    return batch, channel, (d, h, w)


@jit()
def _source(n, PAD: tl.constexpr):
    """Where the sample one past the end of an axis of odd length n comes from."""
    if PAD == "periodic":
        source = n * 0
    elif PAD == "reflect":
        source = n - 2
    else:
        source = n - 1
    return source


@jit()
def _split(m, n):
    """(m % n, m // n) by one division: 64-bit ones take a hundred instructions."""
    quotient = m // n
    return m - quotient * n, quotient


@jit()
def _blocks(
    rows,
    lanes,
    channels,
    sizes,
    CHANNELS_LAST: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
):
    """The blocks of this program: first lane, (rows, lanes) that exist, batch, channel, (d, h, w).

    Rows run over batch, channel, D, H; channels-last over batch, D, H, W, and lanes over channels.
    """
    program = tl.program_id(0).to(tl.int64)
    tiles = (lanes + (L - 1)) // L
    lane0 = program % tiles * L
    m = program // tiles * M + tl.arange(0, M)[:, None]  # [M, 1]
    k = lane0 + tl.arange(0, L)[None, :]  # [1, L]
    here = (m < rows, k < lanes)
    w = k
    if CHANNELS_LAST:
        w, m = _split(m, (sizes[2] + 1) // 2)
    h = tl.zeros_like(m)
    d = tl.zeros_like(m)
    if N >= 2:
        h, m = _split(m, (sizes[1] + 1) // 2)
    if N == 3:
        d, m = _split(m, (sizes[0] + 1) // 2)
    if CHANNELS_LAST:
        batch, channel = m, k
    else:
        channel, batch = _split(m, channels)
    return lane0, here, batch, channel, (d, h, w)


@jit()
def _corner(
    q: tl.constexpr,
    at,
    sizes,
    strides,
    PAD: tl.constexpr,
    N: tl.constexpr,
    ODD: tl.constexpr,
    END: tl.constexpr,
):
    """Offset of corner q along the axes before END, and whether that sample is stored.

    Where it is not, the offset is that of the sample which the padding copies.
    """
    offset = 0
    stored = True
    for axis in tl.static_range(3 - N, END):
        i = 2 * at[axis] + ((q >> (axis - 3 + N)) & 1)
        # Only the second sample of an odd axis can be past the end: even axes cost nothing.
        if (q >> (axis - 3 + N)) & (ODD >> axis) & 1:
            before_end = i < sizes[axis]
            if PAD != "zero":
                i = tl.where(before_end, i, _source(sizes[axis], PAD))
            stored = stored & before_end
        offset = offset + i * strides[axis]
    return offset, stored


@jit()
def _read_corners(
    x,
    base,
    at,
    here,
    lane0,
    sizes,
    strides,
    PAD: tl.constexpr,
    N: tl.constexpr,
    ODD: tl.constexpr,
    ACC: tl.constexpr,
    L: tl.constexpr,
):
    """The corners of the blocks `here` = (rows [M, 1], lanes [1, L]), padding included.

    L > 0: the lanes are blocks lane0, lane0 + 1, ... along W, read as rows of 2L samples.
    """
    evens = ()
    odds = ()
    for r in tl.static_range(2 ** (N - 1)):
        if L > 0:
            offset, stored = _corner(r, at, sizes, strides, PAD, N, ODD, 2)
            i = 2 * lane0 + tl.arange(0, 2 * L)[None, :]
            readable = i < sizes[2]
            if PAD != "zero" and ODD & 4:
                i = tl.where(readable, i, _source(sizes[2], PAD))
                readable = i >= 0
            if PAD == "zero":
                readable = readable & stored
            pairs = tl.load(x + (base + offset + i * strides[2]), mask=here[0] & readable, other=0)
            even, odd = tl.split(tl.reshape(pairs.to(ACC), (pairs.shape[0], L, 2)))
        else:
            offset, stored = _corner(r, at, sizes, strides, PAD, N, ODD, 3)
            mask = here[0] & here[1]
            if PAD == "zero":
                mask = mask & stored
            even = tl.load(x + (base + offset), mask=mask, other=0).to(ACC)
            offset, stored = _corner(r + 2 ** (N - 1), at, sizes, strides, PAD, N, ODD, 3)
            mask = here[0] & here[1]
            if PAD == "zero":
                mask = mask & stored
            odd = tl.load(x + (base + offset), mask=mask, other=0).to(ACC)
        evens = evens + (even,)
        odds = odds + (odd,)
    return evens + odds


@jit()
def _read_outputs(
    y, base, at, here, band, strides, ACC: tl.constexpr, N: tl.constexpr, OUTPUTS: tl.constexpr
):
    offset = base
    for axis in tl.static_range(3 - N, 3):
        offset = offset + at[axis] * strides[axis]
    out = ()
    for o in tl.static_range(OUTPUTS):
        value = tl.load(y + (offset + o * band), mask=here[0] & here[1], other=0)
        out = out + (value.to(ACC),)
    return out


@jit()
def _add_copied(corners, gained, SET: tl.constexpr, PAD: tl.constexpr, N: tl.constexpr):
    """Add, to the corners which the padding copies along the axes of SET, their copies' gradients.

    Of the pair of samples along such an axis, "reflect" copies the second, all others the first.
    """
    out = ()
    for q in tl.static_range(2**N):
        if (q & SET) == (SET if PAD == "reflect" else 0):
            out = out + (corners[q] + gained[q | SET],)
        else:
            out = out + (corners[q],)
    return out


# Arguments of both: x and keys [B, C, *size], y [B, C, OUTPUTS, *half]. rows x lanes blocks (in
# channels-last, rows of blocks x channels), of which a program takes M x L. ODD: bit a is set where
# axis a of (D, H, W) is odd; axes that are not transformed have size 1 and no bit. ALIGN_*: divides
# all strides but the lane's, and the extent along the lanes.


@jit(do_not_specialize=_PLAIN)
def haar_fwd_kernel(
    x,
    keys,
    y,
    rows,
    lanes,
    channels,
    size_d,
    size_h,
    size_w,
    x_batch,
    x_d,
    x_h,
    x_row,
    x_lane,
    keys_batch,
    keys_d,
    keys_h,
    keys_row,
    keys_lane,
    y_batch,
    y_band,
    y_d,
    y_h,
    y_row,
    y_lane,
    MODE: tl.constexpr,
    PAD: tl.constexpr,
    N: tl.constexpr,
    ODD: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN_X: tl.constexpr,
    ALIGN_Y: tl.constexpr,
    ACC: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
):
    sizes = (size_d, size_h, _multiple(size_w, 1 if CHANNELS_LAST else ALIGN_X))
    lane0, here, batch, channel, at = _blocks(
        rows, _multiple(lanes, ALIGN_Y), channels, sizes, CHANNELS_LAST, N, M, L
    )
    PAIRS: tl.constexpr = 0 if CHANNELS_LAST else L

    xb, xc, xs = _strides(x_batch, x_d, x_h, x_row, x_lane, ALIGN_X, CHANNELS_LAST)
    base = batch * xb + channel * xc
    corners = _read_corners(x, base, at, here, lane0, sizes, xs, PAD, N, ODD, ACC, PAIRS)
    key_corners = corners
    if MODE == "max_concat":
        kb, kc, ks = _strides(
            keys_batch, keys_d, keys_h, keys_row, keys_lane, ALIGN_X, CHANNELS_LAST
        )
        base = batch * kb + channel * kc
        key_corners = _read_corners(keys, base, at, here, lane0, sizes, ks, PAD, N, ODD, ACC, PAIRS)
    outputs = _forward(corners, key_corners, MODE, N)

    yb, yc, ys = _strides(y_batch, y_d, y_h, y_row, y_lane, ALIGN_Y, CHANNELS_LAST)
    band = _multiple(y_band, ALIGN_Y)
    offset = batch * yb + channel * yc
    for axis in tl.static_range(3 - N, 3):
        offset = offset + at[axis] * ys[axis]
    for o in tl.static_range(OUTPUTS):
        tl.store(y + (offset + o * band), outputs[o], mask=here[0] & here[1])


@jit(do_not_specialize=_PLAIN)
def haar_bwd_kernel(
    x,
    keys,
    y,
    rows,
    lanes,
    channels,
    size_d,
    size_h,
    size_w,
    x_batch,
    x_d,
    x_h,
    x_row,
    x_lane,
    keys_batch,
    keys_d,
    keys_h,
    keys_row,
    keys_lane,
    y_batch,
    y_band,
    y_d,
    y_h,
    y_row,
    y_lane,
    MODE: tl.constexpr,
    PAD: tl.constexpr,
    N: tl.constexpr,
    ODD: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGN_X: tl.constexpr,
    ALIGN_Y: tl.constexpr,
    ACC: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
):
    sizes = (size_d, size_h, _multiple(size_w, 1 if CHANNELS_LAST else ALIGN_X))
    lane0, here, batch, channel, at = _blocks(
        rows, _multiple(lanes, ALIGN_Y), channels, sizes, CHANNELS_LAST, N, M, L
    )
    PAIRS: tl.constexpr = 0 if CHANNELS_LAST else L

    xb, xc, xs = _strides(x_batch, x_d, x_h, x_row, x_lane, ALIGN_X, CHANNELS_LAST)
    kb, kc, ks = _strides(keys_batch, keys_d, keys_h, keys_row, keys_lane, ALIGN_X, CHANNELS_LAST)
    yb, yc, ys = _strides(y_batch, y_d, y_h, y_row, y_lane, ALIGN_Y, CHANNELS_LAST)
    band = _multiple(y_band, ALIGN_Y)
    y_base = batch * yb + channel * yc
    k_base = batch * kb + channel * kc

    outputs = _read_outputs(y, y_base, at, here, band, ys, ACC, N, OUTPUTS)
    key_corners = outputs
    if MODE == "max_concat":
        key_corners = _read_corners(
            keys, k_base, at, here, lane0, sizes, ks, PAD, N, ODD, ACC, PAIRS
        )
    corners = _adjoint(outputs, key_corners, MODE, N)

    # A sample that the padding copies along the axes of SET is read, too, by the corners at the far
    # ends of the last blocks along those axes.
    if PAD != "zero":
        for SET in tl.static_range(1, 8):
            if SET & ODD == SET:
                copied_rows = here[0]
                copied_lanes = here[1]
                reader = ()
                for axis in tl.static_range(3):
                    if SET & (1 << axis):
                        copied = at[axis] == _source(sizes[axis], PAD) // 2
                        if axis == 2 and not CHANNELS_LAST:
                            copied_lanes = copied_lanes & copied
                        else:
                            copied_rows = copied_rows & copied
                        reader = reader + (tl.zeros_like(at[axis]) + sizes[axis] // 2,)
                    else:
                        reader = reader + (at[axis],)
                if tl.max((copied_rows & copied_lanes).to(tl.int32)) > 0:
                    there = (copied_rows, copied_lanes)
                    outputs = _read_outputs(y, y_base, reader, there, band, ys, ACC, N, OUTPUTS)
                    key_corners = outputs
                    if MODE == "max_concat":
                        key_corners = _read_corners(
                            keys, k_base, reader, there, lane0, sizes, ks, PAD, N, ODD, ACC, 0
                        )
                    gained = _adjoint(outputs, key_corners, MODE, N)
                    corners = _add_copied(corners, gained, SET >> (3 - N), PAD, N)

    base = batch * xb + channel * xc
    for r in tl.static_range(2 ** (N - 1)):
        even = corners[r]
        odd = corners[r + 2 ** (N - 1)]
        if CHANNELS_LAST:
            offset, stored = _corner(r, at, sizes, xs, PAD, N, ODD, 3)
            tl.store(x + (base + offset), even, mask=here[0] & here[1] & stored)
            offset, stored = _corner(r + 2 ** (N - 1), at, sizes, xs, PAD, N, ODD, 3)
            tl.store(x + (base + offset), odd, mask=here[0] & here[1] & stored)
        else:
            offset, stored = _corner(r, at, sizes, xs, PAD, N, ODD, 2)
            pairs = tl.reshape(tl.join(even, odd), (M, 2 * L))
            i = 2 * lane0 + tl.arange(0, 2 * L)[None, :]
            tl.store(x + (base + offset + i * xs[2]), pairs, mask=here[0] & (i < sizes[2]) & stored)


def _ops() -> Any:
    """The ops, whose fakes allocate; not imported above, as they may import this."""
    from medkern.ops import haar

    return haar


class Config(NamedTuple):
    """How a kernel is cut into programs: `warps` of 32 threads, `blocks` Haar blocks per thread."""

    warps: int
    blocks: int


# What a tuner may try; `choose_config` needs no device and no measurement.
CONFIGS = tuple(Config(warps, blocks) for warps in (2, 4, 8) for blocks in (1, 2, 4, 8))


def choose_config(itemsize: int, ndim: int, align: int, odd: bool) -> Config:
    """Enough blocks per thread for 16-byte accesses, as long as their corners fit in registers.

    Where odd extents rule out vectors, and in the 3-D adjoints of odd extents, more than two blocks
    only cost registers: with four, some kernels take 150 and a fifth of the warps fit.
    """
    blocks = min(16 // itemsize, 4 if ndim == 3 else 8)
    return Config(4, min(blocks, 2) if align == 1 or (ndim == 3 and odd) else blocks)


def tile(rows: int, lanes: int, config: Config) -> tuple[int, int]:
    """(M, L), the rows and lanes of a program: powers of two, L wide but wasting few lanes."""
    blocks = 32 * config.warps * config.blocks
    widths = [2**i for i in range(blocks.bit_length()) if 2**i < 2 * lanes]
    widths = [w for w in widths if w >= 16] or widths[-1:]
    # Narrow tiles idle less, but in a wide one a thread shares the addresses of its row.
    width = max((w for w in widths if -(-lanes // w) * w <= 1.25 * lanes), default=widths[0])
    return min(blocks // width, triton.next_power_of_2(rows)), width


class _View(NamedTuple):
    """Strides of a [B, C, (outputs,) *space] tensor whose space is padded to (D, H, W)."""

    batch: int
    channel: int
    band: int
    space: tuple[int, ...]

    def arguments(self, channels_last: bool) -> tuple[int, ...]:
        """batch, d, h, row, lane, as the kernels want them."""
        d, h, w = self.space
        row, lane = (w, self.channel) if channels_last else (self.channel, w)
        return self.batch, d, h, row, lane


def _view(t: Tensor, ndim: int) -> _View:
    strides = t.stride()
    banded = t.dim() == ndim + 3
    space = (0,) * (3 - ndim) + strides[2 + banded :]
    return _View(strides[0], strides[1], strides[2] if banded else 0, space)


def _alignment(itemsize: int, *numbers: int) -> int:
    """The power of two, of at most 16 bytes, that divides all numbers."""
    align = 16 // itemsize
    while any(n % align for n in numbers):
        align //= 2
    return align


def _wide(dtype: torch.dtype) -> Any:
    """The type of the arithmetic: that of the bands, but float32 for the halves."""
    return {
        torch.float16: tl.float32,
        torch.bfloat16: tl.float32,
        torch.float32: tl.float32,
        torch.float64: tl.float64,
        torch.int16: tl.int16,
        torch.int32: tl.int32,
    }[dtype]


def arguments(
    x: Tensor,
    keys: Tensor,
    y: Tensor,
    mode: str,
    pad: str,
    channels_last: bool,
    config: Config | None = None,
) -> tuple[int, tuple[int | Tensor, ...], dict[str, Any]]:
    """(number of programs, arguments, options) of both kernels, for x and keys [B, C, *size] and
    y [B, C, outputs, *half]."""
    ndim = x.dim() - 2
    size = (1,) * (3 - ndim) + tuple(x.shape[2:])
    half = tuple((n + 1) // 2 for n in size)
    batch, channels, outputs = y.shape[:3]
    lanes = channels if channels_last else half[2]
    rows = batch * half[0] * half[1] * (half[2] if channels_last else channels)
    fine, choosing, coarse = _view(x, ndim), _view(keys, ndim), _view(y, ndim)
    fine_arguments = fine.arguments(channels_last)
    key_arguments = choosing.arguments(channels_last)
    b, d, h, row, lane = coarse.arguments(channels_last)
    along = (channels, channels) if channels_last else (size[2], half[2])
    align_x = _alignment(x.element_size(), along[0], *fine_arguments[:-1], *key_arguments[:-1])
    align_y = _alignment(y.element_size(), along[1], b, coarse.band, d, h, row)
    odd = sum((n % 2) << axis for axis, n in enumerate(size) if axis >= 3 - ndim)
    config = config or choose_config(x.element_size(), ndim, align_x, odd > 0)
    m, lane_block = tile(rows, lanes, config)
    options = {
        "MODE": mode,
        # Without odd axes all pads are the same kernel.
        "PAD": {"symmetric": "replicate"}.get(pad, pad) if odd else "zero",
        "N": ndim,
        "ODD": odd,
        "OUTPUTS": outputs,
        "CHANNELS_LAST": channels_last,
        "ALIGN_X": align_x,
        "ALIGN_Y": align_y,
        "ACC": _wide(y.dtype),
        "M": m,
        "L": lane_block,
        "num_warps": config.warps,
    }
    programs = -(-rows // m) * -(-lanes // lane_block)
    coarse_arguments = (b, coarse.band, d, h, row, lane)
    numbers = (rows, lanes, channels, *size, *fine_arguments, *key_arguments, *coarse_arguments)
    return programs, (x, keys, y, *numbers), options


def _run(
    kernel: Any,
    mode: str,
    pad: str,
    x: Tensor,
    y: Tensor,
    channels_last: bool,
    keys: Tensor | None = None,
    config: Config | None = None,
) -> None:
    """Launch over x, keys [B, C, *size] and y [B, C, outputs, *half]; one of them is the result."""
    keys = x if keys is None else keys
    _runtime.check("haar", x, y, keys)
    half = [(n + 1) // 2 for n in x.shape[2:]]
    if pad not in ("zero", "replicate", "symmetric", "reflect", "periodic"):
        raise ValueError(f"medkern.kernels.haar: unknown pad {pad!r}")
    if pad == "reflect" and 1 in x.shape[2:]:
        raise ValueError("medkern.kernels.haar: pad 'reflect' needs 2 samples along every axis")
    if list(y.shape[3:]) != half or x.shape[:2] != y.shape[:2] or keys.shape != x.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, keys, y))
        raise ValueError(f"medkern.kernels.haar: shapes do not fit: x, keys, y = {shapes}")
    if keys.dtype != x.dtype:
        raise RuntimeError("medkern.kernels.haar: all tensors must have one dtype")
    if x.numel() == 0:
        return
    programs, positional, options = arguments(x, keys, y, mode, pad, channels_last, config)
    with torch.cuda.device_of(x):
        kernel[(programs,)](*positional, **options)


def _by_channel(y: Tensor, mode: str, ndim: int) -> Tensor:
    """Pooled maps [B, outputs * C, *half] as [B, C, outputs, *half]."""
    outputs = rules.pool_outputs(mode, ndim)
    split: Tensor = y.unflatten(1, (outputs, y.shape[1] // outputs))
    return split.transpose(1, 2)


def _kernel_mode(mode: str) -> str:
    modes = {"bands": "dwt", "ll": "ll", "iewa": "iewa", "all": "all"}
    if mode not in modes:
        raise ValueError(f"medkern.kernels.haar: unknown mode {mode!r}")
    return modes[mode]


def haar_dwt(x: Tensor, ndim: int, pad: str) -> Tensor:
    ops = _ops()
    y: Tensor = ops._fake_dwt(x, ndim, pad)
    _run(haar_fwd_kernel, "dwt", pad, x, y, ops._is_channels_last(x))
    return y


def haar_idwt(bands: Tensor, size: Sequence[int], pad: str) -> Tensor:
    ops = _ops()
    x: Tensor = ops._fake_idwt(bands, size, pad)
    _run(haar_bwd_kernel, "dwt", pad, x, bands, ops._is_channels_last(bands))
    return x


def haar_lift(x: Tensor, ndim: int, pad: str) -> Tensor:
    ops = _ops()
    y: Tensor = ops._fake_lift(x, ndim, pad)
    _run(haar_fwd_kernel, "lift", pad, x, y, ops._is_channels_last(x))
    return y


def haar_unlift(bands: Tensor, size: Sequence[int]) -> Tensor:
    ops = _ops()
    channels_last = ops._is_channels_last(bands)
    # The fake converts a temporary; this allocates the same without one.
    like = bands.new_empty((bands.shape[0], 0), dtype=ops.UNLIFTED[bands.dtype])
    x: Tensor = ops._allocate(like, bands.shape[1], size, channels_last)
    _run(haar_bwd_kernel, "lift", "zero", x, bands, channels_last)
    return x


def haar_pool(x: Tensor, mode: str, ndim: int, pad: str) -> Tensor:
    ops = _ops()
    y: Tensor = ops._fake_pool(x, mode, ndim, pad)
    by_channel = _by_channel(y, mode, ndim)
    _run(haar_fwd_kernel, _kernel_mode(mode), pad, x, by_channel, ops._is_channels_last(x))
    return y


def haar_pool_backward(grad: Tensor, size: Sequence[int], mode: str, pad: str) -> Tensor:
    ops = _ops()
    x: Tensor = ops._fake_pool_backward(grad, size, mode, pad)
    by_channel = _by_channel(grad, mode, len(size))
    _run(haar_bwd_kernel, _kernel_mode(mode), pad, x, by_channel, ops._is_channels_last(grad))
    return x


def haar_max_concat(x: Tensor, keys: Tensor, ndim: int, pad: str) -> Tensor:
    ops = _ops()
    y: Tensor = ops._fake_max_concat(x, keys, ndim, pad)
    by_channel = _by_channel(y, "max_concat", ndim)
    _run(haar_fwd_kernel, "max_concat", pad, x, by_channel, ops._is_channels_last(keys), keys)
    return y


def haar_max_concat_backward(grad: Tensor, keys: Tensor, ndim: int, pad: str) -> Tensor:
    ops = _ops()
    x: Tensor = ops._fake_max_concat_backward(grad, keys, ndim, pad)
    by_channel = _by_channel(grad, "max_concat", ndim)
    _run(haar_bwd_kernel, "max_concat", pad, x, by_channel, ops._is_channels_last(keys), keys)
    return x


# The kernel of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {
    "haar_dwt": haar_dwt,
    "haar_idwt": haar_idwt,
    "_haar_lift": haar_lift,
    "_haar_unlift": haar_unlift,
    "haar_pool": haar_pool,
    "_haar_pool_backward": haar_pool_backward,
    "_haar_max_concat": haar_max_concat,
    "_haar_max_concat_backward": haar_max_concat_backward,
}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    mode: str
    pad: str
    dtype: torch.dtype
    shape: tuple[int, ...]  # of x, [B, C, *size]
    channels_last: bool = False
    adjoint: bool = False


_PLANE, _ODD_PLANE, _TAIL_PLANE = (8, 64, 128, 128), (8, 64, 181, 217), (8, 64, 500, 500)
_VOLUME, _ODD_VOLUME, _LINE = (2, 16, 64, 64, 64), (2, 16, 91, 109, 91), (8, 64, 4096)

AOT_VARIANTS: dict[str, Case] = {
    f"{'bwd' if adjoint else 'fwd'}-{name}": case._replace(adjoint=adjoint)
    for adjoint in (False, True)
    for name, case in {
        "dwt-1d": Case("dwt", "symmetric", torch.float32, _LINE),
        "dwt-2d": Case("dwt", "symmetric", torch.float32, _PLANE),
        "dwt-2d-half": Case("dwt", "symmetric", torch.float16, _PLANE),
        "dwt-2d-bf16": Case("dwt", "symmetric", torch.bfloat16, _PLANE),
        "dwt-2d-double": Case("dwt", "symmetric", torch.float64, _PLANE),
        "dwt-2d-tail": Case("dwt", "symmetric", torch.float32, _TAIL_PLANE),
        "dwt-2d-odd": Case("dwt", "symmetric", torch.float32, _ODD_PLANE),
        "dwt-2d-channels-last": Case("dwt", "symmetric", torch.float32, _PLANE, True),
        "dwt-2d-channels-last-half": Case("dwt", "symmetric", torch.float16, _PLANE, True),
        "dwt-3d": Case("dwt", "symmetric", torch.float32, _VOLUME),
        "dwt-3d-half": Case("dwt", "symmetric", torch.float16, _VOLUME),
        "dwt-3d-odd": Case("dwt", "reflect", torch.float32, _ODD_VOLUME),
        "dwt-3d-odd-double": Case("dwt", "periodic", torch.float64, _ODD_VOLUME),
        "dwt-3d-channels-last": Case("dwt", "symmetric", torch.float32, _VOLUME, True),
        "dwt-3d-odd-channels-last": Case("dwt", "symmetric", torch.float32, _ODD_VOLUME, True),
        "ll-2d": Case("ll", "symmetric", torch.float32, _PLANE),
        "iewa-2d": Case("iewa", "symmetric", torch.float32, _PLANE),
        "iewa-2d-half": Case("iewa", "symmetric", torch.float16, _PLANE),
        "iewa-2d-channels-last": Case("iewa", "symmetric", torch.float32, _PLANE, True),
        "iewa-3d-odd": Case("iewa", "symmetric", torch.float32, _ODD_VOLUME),
        "all-2d": Case("all", "symmetric", torch.float32, _PLANE),
        "max-2d": Case("max_concat", "symmetric", torch.float32, _PLANE),
        "max-2d-half": Case("max_concat", "symmetric", torch.float16, _PLANE),
        "max-3d-odd": Case("max_concat", "zero", torch.float32, _ODD_VOLUME),
        "lift-2d-bytes": Case("lift", "zero", torch.uint8, _PLANE),
        "lift-3d-shorts": Case("lift", "zero", torch.int16, _VOLUME),
    }.items()
}


def variant(case: Case, config: Config | None = None) -> Variant:
    """What Triton would compile for that call of the launchers."""
    ops = _ops()
    ndim = len(case.shape) - 2
    like = torch.empty(case.shape[0], 0, dtype=case.dtype, device="meta")
    x = ops._allocate(like, case.shape[1], case.shape[2:], case.channels_last)
    if case.mode == "dwt":
        y = ops._fake_dwt(x, ndim, case.pad)
    elif case.mode == "lift":
        y = ops._fake_lift(x, ndim, case.pad)
    else:
        y = _by_channel(ops._fake_pool(x, case.mode, ndim, case.pad), case.mode, ndim)
    _, positional, options = arguments(x, x, y, case.mode, case.pad, case.channels_last, config)
    kernel = haar_bwd_kernel if case.adjoint else haar_fwd_kernel
    constexprs, signature = dict(options), {}
    del constexprs["num_warps"]
    for name, value in zip(kernel.arg_names, positional, strict=False):
        if isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
        elif value == 1 and name.endswith("_lane"):
            constexprs[name] = 1
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
    warps = {"num_warps": options["num_warps"]}
    return Variant(kernel, signature, constexprs, aligned=("x", "keys", "y"), options=warps)

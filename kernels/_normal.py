"""The normal distribution and the GELU for Triton kernels, as in csrc/core/common/normal.hpp.

Exact down to the lower tail, where (1 + erf) / 2 has cancelled all digits; Triton has no erfc that
its interpreter can run. The exponential is its Taylor series. float32 or float64.
"""

# Triton has no stubs, and infers the types of device functions itself.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from __future__ import annotations

import math

from medkern.kernels._runtime import constant, jit, tl

# For a >= 0, Phi(-a) = exp(-a^2 / 2) P(t) / (a + 4) with t = (a - 4) / (a + 4), where P is the
# polynomial of least relative error up to `largest`, beyond which the exponential counts as 0.
_SERIES = {
    32: (
        *(0.755285135450375971, -0.607896610278312314, 0.387136882954421302),
        *(-0.186522842474763235, 0.0604045056836554604, -0.00752912601056212734),
        *(-0.0035184755438915481, 0.00157546084397066023, 0.000193158530973744066),
        -0.000125689933358592295,
    ),
    64: (
        *(0.755285130415751479, -0.607896641971892044, 0.387137400742219401),
        *(-0.186521857959665953, 0.0603965748906701949, -0.0075401889664179637),
        *(-0.00347969236168350963, 0.00163081845302113045, 0.000133344249265878244),
        *(-0.000231094901541966618, -1.90784797163060029e-6, 0.0000351445585500069801),
        *(7.14987986854474066e-7, -5.91997528858967074e-6, -6.25250056118655977e-7),
        *(1.0217832827392355e-6, 2.64170597286564966e-7, -1.56498657898253113e-7),
        *(-7.72038317779319636e-8, 1.60030332136976177e-8, 1.4599932997868333e-8),
        *(-3.18928042029489433e-10, -1.18738646103351264e-9),
    ),
}
# exp r = 1 + r (1 + r (1/2! + r (1/3! + ...))); log 2 in two parts, of which n times the first is
# exact; below `lowest`, 2^n would be subnormal.
_NUMBERS = {
    32: {
        **{"largest": 14.0, "lowest": -87.0, "mantissa": 23, "bias": 127, "degree": 7},
        "log_2_high": float.fromhex("0x1.63p-1"),
        "log_2_low": float.fromhex("-0x1.bd0106p-13"),
    },
    64: {
        **{"largest": 39.0, "lowest": -708.0, "mantissa": 52, "bias": 1023, "degree": 13},
        "log_2_high": float.fromhex("0x1.62e42feep-1"),
        "log_2_low": float.fromhex("0x1.a39ef35793c76p-33"),
    },
}


@constant
def _number(bits, name):
    return _NUMBERS[bits][name]


@constant
def _terms(bits):
    return len(_SERIES[bits])


@constant
def _term(bits, i):
    return _SERIES[bits][i]


@constant
def _inverse_factorial(i):
    return 1 / math.factorial(i)


@jit()
def _power_of_two(n, BITS: tl.constexpr):
    """2^n of whole numbers n, by its bits."""
    INTEGER: tl.constexpr = tl.int64 if BITS == 64 else tl.int32
    power = (n.to(INTEGER) + _number(BITS, "bias")) << _number(BITS, "mantissa")
    return power.to(n.dtype, bitcast=True)


@jit()
def _exp_of_half_square(a, BITS: tl.constexpr):
    """exp(-a^2 / 2); a^2 as an exact square and a small rest, for rounded it would lose digits."""
    INTEGER: tl.constexpr = tl.int64 if BITS == 64 else tl.int32
    KEPT: tl.constexpr = -(2**27) if BITS == 64 else -(2**12)
    upper = (a.to(INTEGER, bitcast=True) & KEPT).to(a.dtype, bitcast=True)
    x = upper * upper * -0.5
    low = (a - upper) * (a + upper) * -0.5
    n = tl.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * _number(BITS, "log_2_high")) + (low - n * _number(BITS, "log_2_low"))
    DEGREE: tl.constexpr = _number(BITS, "degree")
    series = tl.zeros_like(r) + _inverse_factorial(DEGREE)
    for i in tl.static_range(DEGREE - 1, -1, -1):
        series = series * r + _inverse_factorial(i)
    return tl.where(x < _number(BITS, "lowest"), 0.0, series * _power_of_two(n, BITS))


@jit()
def _tail(x, BITS: tl.constexpr):
    """With a = |x|, cut off: a, exp(-a^2 / 2), and Phi(-a) divided by it."""
    LARGEST: tl.constexpr = _number(BITS, "largest")
    a = tl.abs(x)
    a = tl.where(a > LARGEST, LARGEST, a)  # NaN stays NaN
    inverse = 1.0 / (a + 4.0)
    t = (a - 4.0) * inverse
    LAST: tl.constexpr = _terms(BITS) - 1
    series = tl.zeros_like(t) + _term(BITS, LAST)
    for i in tl.static_range(LAST - 1, -1, -1):
        series = series * t + _term(BITS, i)
    return a, _exp_of_half_square(a, BITS), series * inverse


@jit()
def gelu(x, BITS: tl.constexpr):
    """x Phi(x), to some 7 units in the last place; -inf gives NaN, as torch's in float64."""
    _, exponential, ratio = _tail(x, BITS)
    beyond = exponential * ratio
    return x * tl.where(x < 0, beyond, 1 - beyond)


@jit()
def gelu_slope(x, BITS: tl.constexpr):
    """The derivative, Phi(x) + x phi(x); of an infinite x the limit."""
    a, exponential, ratio = _tail(x, BITS)
    beyond = exponential * (ratio - a * 0.3989422804014327)  # phi(0)
    return tl.where(x < 0, beyond, 1 - beyond)

"""Rules, shapes and costs of the spectral family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medkern.rules import at_least, choice, message

# The forward and the inverse transform are multiplied by these powers of the number of samples.
POWERS = {"backward": (0.0, -1.0), "forward": (-1.0, 0.0), "ortho": (-0.5, -0.5)}
NORMS = tuple(POWERS)
METHODS = ("auto", "dft", "fft")
COUNTS = ("kept", "total", "neuraloperator", "per_sign")


def kept_modes(op: str, modes: Sequence[int], count: str = "kept") -> tuple[int, ...]:
    """How many modes each axis keeps, from another way of counting them.

    "kept": as they are: full axes count both signs, the last axis the non-negative ones.
    "total": every axis counts both signs; the last one keeps half of them (FNOReg's k_max).
    "neuraloperator": as "total", but the last axis keeps n // 2 + 1.
    "per_sign": every axis counts the non-negative ones (the first FNO: modes1, modes2).
    """
    choice(op, "count", count, COUNTS)
    if not isinstance(modes, Sequence) or not 1 <= len(modes) <= 3:
        rule = "be a sequence of 1, 2 or 3 ints"
        raise TypeError(message(op, "modes", rule, repr(modes), "pass one number per axis"))
    for m in modes:
        at_least(op, "modes", m, 1)
    *full, last = modes
    if count == "per_sign":
        return (*(2 * m for m in full), last)
    if count == "total":
        at_least(op, "modes", last, 2)
        return (*full, last // 2)
    return (*full, last // 2 + 1) if count == "neuraloperator" else tuple(modes)


def space_of(op: str, shape: Sequence[int], ndim: int) -> tuple[int, ...]:
    """The spatial extents of x, checked."""
    if len(shape) != ndim + 2:
        rule = f"be [B, C, *space] with {ndim} spatial axes, one for each of the modes"
        raise ValueError(message(op, "x", rule, tuple(shape), "add or remove axes"))
    if any(n == 0 for n in shape[2:]):
        rule = "have no empty spatial axis"
        raise ValueError(message(op, "x", rule, tuple(shape), "only the batch may be empty"))
    return tuple(shape[2:])


def check_fits(op: str, modes: Sequence[int], size: Sequence[int], where: str) -> None:
    """The modes must be distinct on the grid."""
    most = (*size[:-1], size[-1] // 2 + 1)
    if any(m > n for m, n in zip(modes, most, strict=True)):
        rule = f"be at most {most} on {where} {tuple(size)}"
        remedy = "keep fewer modes or take a finer grid"
        raise ValueError(message(op, "modes", rule, tuple(modes), remedy))


def check_weight(op: str, weight: Sequence[int], channels: int, modes: Sequence[int]) -> None:
    """weight [C_in, C_out, *modes, 2], as real numbers."""
    if len(weight) != len(modes) + 3 or weight[0] != channels or tuple(weight[2:-1]) != (*modes,):
        rule = (
            f"be complex [{channels}, C_out, {', '.join(map(str, modes))}], or real with another"
            " axis of 2"
        )
        remedy = "its first axis is the channels of x, its last ones are the modes"
        raise ValueError(message(op, "weight", rule, tuple(weight), remedy))


def check_shared_weight(op: str, weight: Sequence[int], channels: int) -> None:
    if weight[0] != channels:
        rule = f"be [{channels}, C_out], or have a number per mode"
        remedy = "its first axis is the channels of x"
        raise ValueError(message(op, "weight", rule, tuple(weight), remedy))


def check_bias(op: str, bias: Sequence[int], channels: int) -> None:
    if tuple(bias) != (channels,):
        rule = f"be [C_out], ({channels},)"
        raise ValueError(message(op, "bias", rule, tuple(bias), "pass one number per channel"))


def output_of(op: str, space: Sequence[int], output_size: Sequence[int] | None) -> tuple[int, ...]:
    if output_size is None:
        return tuple(space)
    remedy = "pass the spatial shape of the result"
    if not isinstance(output_size, Sequence) or len(output_size) != len(space):
        rule = f"be a sequence of {len(space)} ints"
        raise TypeError(message(op, "output_size", rule, repr(output_size), remedy))
    for n in output_size:
        at_least(op, "output_size", n, 1)
    return tuple(output_size)


# Measured on one core with AVX-512, in nanoseconds: a product of the truncated transform, its cost
# per voxel, and the FFT's per voxel, and per voxel and bit along the last and along other axes.
DFT_PER_PRODUCT, DFT_PER_VOXEL = 0.04, 0.35
FFT_PER_VOXEL, FFT_PER_BIT, FFT_PER_OTHER_BIT = 1.1, 0.1, 0.9
ROUGH = 4  # times slower is an FFT of a size with a large prime factor


@dataclass(frozen=True)
class Cost:
    """Estimated nanoseconds per channel of one transform, by either method."""

    dft: float
    fft: float

    @property
    def method(self) -> str:
        return "dft" if self.dft <= self.fft else "fft"

    def __str__(self) -> str:
        return f"dft about {self.dft / 1e3:.3g} us, fft about {self.fft / 1e3:.3g} us per channel"


def cost_of(size: Sequence[int], modes: Sequence[int]) -> Cost:
    """What transforming one channel to its modes costs; back, about as much."""
    voxels = math.prod(size)
    products, rest, rows = 0.0, voxels, 1
    for n, m in zip(size[:-1], modes[:-1], strict=True):
        kept = 2 * (m // 2) + 1
        products += rows * rest * kept / (4 if n % 2 == 0 else 2)  # after folding
        rows, rest = rows * kept, rest // n
    quartered = size[-1] % 2 == 0 and modes[-1] > 16
    products += rows * size[-1] * -(-modes[-1] // 16) * 16 / (2 if quartered else 1)
    dft = DFT_PER_PRODUCT * products + DFT_PER_VOXEL * voxels
    fft = FFT_PER_VOXEL + FFT_PER_BIT * effective_bits(size[-1])
    kept_columns = modes[-1] / size[-1]
    fft += FFT_PER_OTHER_BIT * kept_columns * sum(map(effective_bits, size[:-1]))
    return Cost(dft, voxels * fft)


def effective_bits(n: int) -> float:
    rest = n
    for prime in (2, 3, 5, 7, 11, 13):
        while rest % prime == 0:
            rest //= prime
    return math.log2(n) * (1 if rest == 1 else ROUGH)

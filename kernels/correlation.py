"""The sums of correlation coefficients on Triton, forward and backward.

Of two arrays p and y, or of their half spectra,

    sum w p y,  sum w p^2,  sum w y^2,

in this order, per image, of spectra per ring of frequencies too, and their gradient in p: see
csrc/core/correlation.hpp, whose definition this is.

Shapes:      p, y [B, C, *space], w = 1, or [B, C, *half, 2] with the size of the real arrays.
Strides:     any; what is not contiguous is copied first. Lanes run over an image in the order of
             its memory.
Arithmetic:  float16, bfloat16 and float32 in float32, float64 in float64. A lane adds up 16 numbers
             in that type; all further sums are in float64. Addresses in int64; indices inside an
             image in int32 where they fit.
Rings:       of all frequencies, and their weights, by torch in float64, once for all images: those
             of the reference. A program has a sum per ring and lane, of 8 rings at the most;
             further ones are programs of their own, which read the numbers of these rings alone.
Cost:        one read of p and y, and for the gradient one write; of spectra also 8 bytes (float64:
             12) per frequency and 8 rings, which the caches hold. Sums of programs are joined by
             torch: no atomics, and the bits are a function of the image alone.

The transforms are torch's. `LAUNCHERS` take what the ops in medkern/ops/correlation.py take, and
allocate as their fakes.
"""

# Triton has no stubs, and infers the types of device functions itself.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
# mypy: disable-error-code="assignment, import-untyped, import-not-found"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medkern.kernels import _runtime
from medkern.kernels._compile import Variant
from medkern.kernels._device import multiple
from medkern.kernels._runtime import NAMES, jit, tl, triton, why_not  # noqa: F401
from medkern.reference import correlation as reference

WARPS = 4
STEPS = 16  # blocks that a program adds up
MOST_RINGS = 8  # that a program has sums of

# Arguments for which Triton compiles no special cases: all numbers.
_PLAIN = ("elements", "rings")


@jit()
def _place(elements, parts, INDEX: tl.constexpr, ALIGN: tl.constexpr):
    """(elements, image, part) of this program."""
    program = tl.program_id(0).to(tl.int64)
    return multiple(elements, INDEX, ALIGN), program // parts, (program % parts).to(INDEX)


@jit()
def _load(pointer, at, here, ACC: tl.constexpr):
    return tl.load(pointer + at, mask=here, other=0).to(ACC)


@jit(do_not_specialize=_PLAIN)
def array_fwd_kernel(
    p,
    y,
    partial,
    elements,
    INDEX: tl.constexpr,
    ALIGN: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
    STEPS: tl.constexpr,
):
    """partial [images, parts, 3]."""
    parts = (tl.cast(elements, tl.int64) + (BLOCK * STEPS - 1)) // (BLOCK * STEPS)
    many, image, part = _place(elements, parts, INDEX, ALIGN)
    product = tl.zeros([BLOCK], ACC)
    p_squared = tl.zeros([BLOCK], ACC)
    y_squared = tl.zeros([BLOCK], ACC)
    first = part * STEPS * BLOCK
    for start in range(first, tl.minimum(first + STEPS * BLOCK, many), BLOCK):
        i = start + tl.arange(0, BLOCK)
        at = image * many + i.to(tl.int64)
        a = _load(p, at, i < many, ACC)
        b = _load(y, at, i < many, ACC)
        product += a * b
        p_squared += a * a
        y_squared += b * b
    out = 3 * (image * parts + part)
    tl.store(partial + out, tl.sum(product.to(tl.float64), 0))
    tl.store(partial + (out + 1), tl.sum(p_squared.to(tl.float64), 0))
    tl.store(partial + (out + 2), tl.sum(y_squared.to(tl.float64), 0))


@jit()
def _add(sums, mine, term):
    """Of each ring, the lanes that are in it."""
    return sums + tl.where(mine, term[None, :], 0)


@jit(do_not_specialize=_PLAIN)
def spectrum_fwd_kernel(
    p,
    y,
    ring_of,
    weight_of,
    partial,
    elements,
    rings,
    INDEX: tl.constexpr,
    ALIGN: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
    STEPS: tl.constexpr,
    RINGS: tl.constexpr,
):
    """partial [images, parts, rings, 3]; `elements` are bins, `rings` include the corners."""
    parts = (tl.cast(elements, tl.int64) + (BLOCK * STEPS - 1)) // (BLOCK * STEPS)
    many, image, part = _place(elements, parts, INDEX, ALIGN)
    ring = tl.program_id(1) * RINGS + tl.arange(0, RINGS)
    product = tl.zeros([RINGS, BLOCK], ACC)
    p_squared = tl.zeros([RINGS, BLOCK], ACC)
    y_squared = tl.zeros([RINGS, BLOCK], ACC)
    first = part * STEPS * BLOCK
    for start in range(first, tl.minimum(first + STEPS * BLOCK, many), BLOCK):
        i = start + tl.arange(0, BLOCK)
        its_ring = tl.load(ring_of + i.to(tl.int64), mask=i < many, other=-1)
        here = (its_ring // RINGS == tl.program_id(1)) & (i < many)
        weight = tl.load(weight_of + i.to(tl.int64), mask=here, other=0)
        at = 2 * (image * many + i.to(tl.int64))[:, None] + tl.arange(0, 2)[None, :]
        re, im = tl.split(_load(p, at, here[:, None], ACC))
        y_re, y_im = tl.split(_load(y, at, here[:, None], ACC))
        mine = its_ring[None, :] == ring[:, None]
        product = _add(product, mine, (re * y_re + im * y_im) * weight)
        p_squared = _add(p_squared, mine, (re * re + im * im) * weight)
        y_squared = _add(y_squared, mine, (y_re * y_re + y_im * y_im) * weight)
    out = 3 * ((image * parts + part) * rings + ring)
    tl.store(partial + out, tl.sum(product.to(tl.float64), 1), mask=ring < rings)
    tl.store(partial + (out + 1), tl.sum(p_squared.to(tl.float64), 1), mask=ring < rings)
    tl.store(partial + (out + 2), tl.sum(y_squared.to(tl.float64), 1), mask=ring < rings)


@jit(do_not_specialize=_PLAIN)
def array_bwd_kernel(
    p,
    y,
    grad,
    out,
    elements,
    INDEX: tl.constexpr,
    ALIGN: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    tiles = (tl.cast(elements, tl.int64) + (BLOCK - 1)) // BLOCK
    many, image, tile = _place(elements, tiles, INDEX, ALIGN)
    i = tile * BLOCK + tl.arange(0, BLOCK)
    at = image * many + i.to(tl.int64)
    of_y = tl.load(grad + 3 * image)
    of_p = 2 * tl.load(grad + (3 * image + 1))
    slope = of_y * _load(y, at, i < many, ACC) + of_p * _load(p, at, i < many, ACC)
    tl.store(out + at, slope, mask=i < many)


@jit(do_not_specialize=_PLAIN)
def spectrum_bwd_kernel(
    p,
    y,
    grad,
    ring_of,
    weight_of,
    out,
    elements,
    rings,
    INDEX: tl.constexpr,
    ALIGN: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`elements` are real and imaginary parts, both in a lane of their own."""
    tiles = (tl.cast(elements, tl.int64) + (BLOCK - 1)) // BLOCK
    many, image, tile = _place(elements, tiles, INDEX, ALIGN)
    i = tile * BLOCK + tl.arange(0, BLOCK)
    here = i < many
    at = image * many + i.to(tl.int64)
    ring = tl.load(ring_of + i.to(tl.int64) // 2, mask=here, other=0)
    weight = tl.load(weight_of + i.to(tl.int64) // 2, mask=here, other=0)
    row = 3 * (image * rings + ring)
    of_y = weight * tl.load(grad + row, mask=here, other=0)
    of_p = weight * 2 * tl.load(grad + (row + 1), mask=here, other=0)
    slope = of_y * _load(y, at, here, ACC) + of_p * _load(p, at, here, ACC)
    tl.store(out + at, slope, mask=here)


def _ops() -> Any:
    """The ops, whose fakes allocate; not imported above, as they may import this."""
    from medkern.ops import correlation

    return correlation


def options_of(p: Tensor, elements: int, wide: bool) -> dict[str, Any]:
    """How an image is cut into programs, and how it may be accessed; wide: 16 bytes a thread."""
    align = max(16 // p.element_size(), 1)
    while elements % align:
        align //= 2
    return {
        "INDEX": tl.int32 if elements < 2**29 else tl.int64,
        "ALIGN": align,
        "ACC": tl.float64 if p.dtype == torch.float64 else tl.float32,
        "BLOCK": 32 * WARPS * (16 // p.element_size() if wide else 1),
        "num_warps": WARPS,
    }


class Launch(NamedTuple):
    """A kernel, with the grid and the arguments of a call."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def run(self, device: Tensor) -> None:
        with torch.cuda.device_of(device):
            self.kernel[self.grid](*self.arguments, **self.options)


def array_sums(p: Tensor, y: Tensor, images: int) -> tuple[Launch, Tensor]:
    """For contiguous arrays, and the partial sums [images, parts, 1, 3] that it fills."""
    elements = p.numel() // images
    options = {**options_of(p, elements, wide=True), "STEPS": STEPS}
    parts = -(-elements // (options["BLOCK"] * STEPS))
    partial = p.new_empty(images, parts, 1, 3, dtype=torch.float64)
    grid = (images * parts,)
    return Launch(array_fwd_kernel, grid, (p, y, partial, elements), options), partial


def spectrum_sums(
    p: Tensor, y: Tensor, ring: Tensor, weight: Tensor, images: int, rings: int
) -> tuple[Launch, Tensor]:
    """For contiguous spectra, and the partial sums [images, parts, rings, 3] that it fills."""
    bins = p.numel() // images // 2
    taken = min(triton.next_power_of_2(rings), MOST_RINGS)
    options = {**options_of(p, bins, wide=False), "STEPS": STEPS, "RINGS": taken}
    parts = -(-bins // (options["BLOCK"] * STEPS))
    partial = p.new_empty(images, parts, rings, 3, dtype=torch.float64)
    grid = (images * parts, -(-rings // taken))
    given = (p, y, ring, weight, partial, bins, rings)
    return Launch(spectrum_fwd_kernel, grid, given, options), partial


def slopes(
    p: Tensor, y: Tensor, grad: Tensor, table: tuple[Tensor, ...], out: Tensor, images: int
) -> Launch:
    """table: rings and weights, of arrays nothing."""
    elements = p.numel() // images
    options = options_of(p, elements, wide=True)
    grid = (images * -(-elements // options["BLOCK"]),)
    if table:
        numbers = (elements, grad.shape[2])
        return Launch(spectrum_bwd_kernel, grid, (p, y, grad, *table, out, *numbers), options)
    return Launch(array_bwd_kernel, grid, (p, y, grad, out, elements), options)


def _check(p: Tensor, y: Tensor, grad: Tensor | None, size: Sequence[int]) -> None:
    _runtime.check("correlation", p, y, grad)
    half = [*size[:-1], size[-1] // 2 + 1, 2] if size else list(p.shape[2:])
    if p.shape != y.shape or list(p.shape[2:]) != half:
        shapes = f"{tuple(p.shape)} and {tuple(y.shape)} of size {list(size)}"
        raise ValueError(f"medkern.kernels.correlation: shapes do not fit: {shapes}")
    if p.dtype != y.dtype:
        raise RuntimeError("medkern.kernels.correlation: both tensors must have one dtype")


def _table(
    p: Tensor, size: Sequence[int], rings: int, low: float, high: float, edge: float
) -> tuple[Tensor, ...]:
    """Rings and weights of the bins of a spectrum; of arrays nothing."""
    if not size:
        return ()
    like = p.new_empty(0, dtype=torch.float64 if p.dtype == torch.float64 else torch.float32)
    ring, weight = reference.rings_and_weights(size, rings, low, high, edge, like)
    return ring.int().contiguous(), weight.contiguous()


def correlation_sums(
    p: Tensor, y: Tensor, size: Sequence[int], rings: int, low: float, high: float, edge: float
) -> Tensor:
    if p.numel() == 0:
        out: Tensor = _ops()._fake_sums(p, y, size, rings)
        return out.zero_()
    _check(p, y, None, size)
    images, given = p.shape[0] * p.shape[1], (p.contiguous(), y.contiguous())
    if size:
        table = _table(p, size, rings, low, high, edge)
        launch, partial = spectrum_sums(*given, *table, images, rings + 1)
    else:
        launch, partial = array_sums(*given, images)
    launch.run(p)
    sums = partial.sum(1).unflatten(0, p.shape[:2])
    return sums if p.dtype == torch.float64 else sums.float()


def correlation_sums_backward(
    p: Tensor,
    grad: Tensor,
    y: Tensor,
    size: Sequence[int],
    rings: int,
    low: float,
    high: float,
    edge: float,
) -> Tensor:
    out: Tensor = _ops()._fake_backward(p, grad, y)
    if out.numel() == 0:
        return out
    _check(p, y, grad, size)
    given = (p.contiguous(), y.contiguous(), grad.contiguous())
    table = _table(p, size, rings, low, high, edge)
    slopes(*given, table, out, p.shape[0] * p.shape[1]).run(p)
    return out


# The function of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {
    "_correlation_sums": correlation_sums,
    "_correlation_sums_backward": correlation_sums_backward,
}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    shape: tuple[int, ...]  # of an image, or of a half spectrum [..., 2]
    dtype: torch.dtype = torch.float32
    rings: int = 0  # with the corners; 0: an array
    adjoint: bool = False


AOT_VARIANTS: dict[str, Case] = {
    "fwd-array-half": Case((256, 256), torch.bfloat16),
    "fwd-rings": Case((256, 129, 2), rings=9),
    "fwd-rings-double": Case((256, 129, 2), torch.float64, 9),
    "bwd-array-half": Case((256, 256), torch.bfloat16, adjoint=True),
    "bwd-rings": Case((256, 129, 2), rings=9, adjoint=True),
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launchers."""
    p = torch.empty(24, *case.shape, dtype=case.dtype, device="meta")
    wide = p.new_empty(0, dtype=torch.promote_types(case.dtype, torch.float32))
    table: tuple[Tensor, ...] = ()
    if case.rings:
        size = case.shape[:-1]
        table = (p.new_empty(size, dtype=torch.int32), wide.new_empty(size))
    if case.adjoint:
        launch = slopes(p, p, wide.new_empty(24, 1, max(case.rings, 1), 3), table, p, 24)
    elif case.rings:
        launch, _ = spectrum_sums(p, p, *table, 24, case.rings)
    else:
        launch, _ = array_sums(p, p, 24)
    constexprs, signature, aligned = dict(launch.options), {}, []
    del constexprs["num_warps"]
    for name, value in zip(launch.kernel.arg_names, launch.arguments, strict=False):
        if isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
            aligned.append(name)
        else:
            signature[name] = "i32"
    return Variant(launch.kernel, signature, constexprs, tuple(aligned), {"num_warps": WARPS})

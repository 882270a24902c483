"""The losses on half spectra on Triton, forward and backward: one sweep between the transforms.

A half spectrum [B, C, H, K, 2], K = width // 2 + 1, holds the bins of real images [B, C, H, width];
those that are no outer column count twice. With sums over the whole spectrum of an image

    focal          sum w(|y|) |x|^2, w = f(|y|) / f(largest |y|), f(a) = a^p or log(1 + a^p)
    amplitude_l1   sum ||x| - |y||
    amplitude_l2   sum (|x| - |y|)^2
    phase          sum 1 - cos(arg x - arg y), 0 where an amplitude is at most p

and their gradients in x: see csrc/core/fourier.hpp, whose definition this is.

Strides:     any; what is not contiguous is copied first. Lanes run over the bins of an image in the
             order of their memory.
Arithmetic:  float32 in float32, with roots and quotients rounded correctly, float64 in float64;
             powers other than 0, 1 and 2, and logarithms, in float64. Sums in float64. Addresses in
             int64; indices inside an image in int32 where they fit.
Cost:        forward one read of x and y, and 8 bytes written per program; backward the same read
             and one write. The focal loss without a given peak reads y once before. Where x and y
             are one tensor it is read once. Sums and largest values are taken within programs, the
             programs of an image joined by torch: no atomics, and the same bits for equal inputs,
             as the number of programs depends on the size of the image alone.

The transforms on both sides are torch's. `LAUNCHERS` take what the ops in medkern/ops/fourier.py
take, and allocate as their fakes.
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
from medkern.kernels._device import multiple, quotient, root
from medkern.kernels._runtime import NAMES, jit, tl, why_not  # noqa: F401
from medkern.reference import fourier as reference

WARPS = 4
MOST_PARTS = 256  # programs that share an image in a sum

# Arguments for which Triton compiles no special cases: all numbers.
_SUM_PLAIN = ("bins", "columns", "width", "parts", "parameter")
_PLAIN = ("bins", "columns", "width", "parameter")


@jit()
def _numbers(base, start, many, BLOCK: tl.constexpr):
    """Offsets of BLOCK bins from `start` on, and which exist: [2 BLOCK], for wide accesses."""
    j = tl.arange(0, 2 * BLOCK)
    return base + 2 * tl.cast(start, tl.int64) + j, 2 * start + j < 2 * many


@jit()
def _load(spectrum, at, here, BLOCK: tl.constexpr):
    """Real and imaginary parts."""
    return tl.split(tl.reshape(tl.load(spectrum + at, mask=here, other=0), (BLOCK, 2)))


@jit()
def _square(re, im):
    return re * re + im * im


@jit()
def _count(i, columns, width):
    """How many bins of the whole spectrum those of the half stand for."""
    column = i % columns.to(i.dtype)
    return tl.where((column == 0) | (2 * column == width.to(i.dtype)), 1, 2)


@jit()
def _focal(square, exponent, POWER: tl.constexpr, LOG: tl.constexpr):
    """f of an amplitude, given its square; POWER is the exponent where that is 0, 1 or 2."""
    if POWER == 0:
        power = tl.where(square == square, 1.0, 1.0).to(square.dtype)
    elif POWER == 1:
        power = root(square)
    elif POWER == 2:
        power = square
    else:
        wide = tl.where(square == 0, 1, square).to(tl.float64)
        power = tl.where(square == 0, 0, tl.exp(exponent * (0.5 * tl.log(wide))))
    if LOG:
        power = tl.log(power.to(tl.float64) + 1)
    return power


@jit()
def _weight(square, exponent, of_top, POWER: tl.constexpr, LOG: tl.constexpr):
    """From 0 to 1; what is undefined, such as 0 / 0, is 0."""
    f = _focal(square, exponent, POWER, LOG)
    w = quotient(f, tl.where(of_top == 0, 1, of_top))
    w = tl.where(w < 1, w, tl.where(w == w, 1, 0))
    return tl.where(of_top == 0, (f > 0).to(w.dtype), w).to(square.dtype)


@jit()
def _of_top(peak, image, exponent, POWER: tl.constexpr, LOG: tl.constexpr):
    """f of the largest amplitude of an image."""
    return _focal(tl.load(peak + image + tl.zeros([1], tl.int64)), exponent, POWER, LOG)


@jit()
def _value(x, y, parameter, KIND: tl.constexpr):
    """The loss of a bin, but the focal one."""
    a = root(_square(x[0], x[1]))
    b = root(_square(y[0], y[1]))
    if KIND == "phase":
        none = (a <= parameter) | (b <= parameter)
        value = 1 - quotient(x[0] * y[0] + x[1] * y[1], tl.where(none, 1, a * b))
        value = tl.where(none, 0, value)
    elif KIND == "amplitude_l2":
        value = (a - b) * (a - b)
    else:
        value = tl.abs(a - b)
    return value


@jit()
def _slope(x, y, parameter, KIND: tl.constexpr):
    """The gradient in x of a bin's loss, but the focal one."""
    a = root(_square(x[0], x[1]))
    b = root(_square(y[0], y[1]))
    if KIND == "phase":
        # -(v - (u . v) u) / a for the units u and v is their cross product times u, turned.
        none = (a <= parameter) | (b <= parameter)
        a = tl.where(none, 1, a)
        b = tl.where(none, 1, b)
        u = (quotient(x[0], a), quotient(x[1], a))
        v = (quotient(y[0], b), quotient(y[1], b))
        cross = quotient(u[0] * v[1] - u[1] * v[0], a)
        re = tl.where(none, 0, u[1] * cross)
        im = tl.where(none, 0, -(u[0] * cross))
    else:
        gap = a - b
        if KIND == "amplitude_l2":
            pull = 2 * gap
        else:
            pull = tl.where(gap > 0, 1, tl.where(gap < 0, -1, gap))  # a NaN stays
        push = tl.where(a == 0, 0, quotient(pull, tl.where(a == 0, 1, a)))
        re = push * x[0]
        im = push * x[1]
    return re, im


# Programs `image * parts + part` of the first two take every parts-th run of BLOCK bins.


@jit(do_not_specialize=("bins", "parts"))
def top_fwd_kernel(
    y, partial, bins, parts, INDEX: tl.constexpr, ALIGN: tl.constexpr, BLOCK: tl.constexpr
):
    """The largest |y|^2, or NaN where there is one."""
    program = tl.program_id(0).to(tl.int64)
    many = multiple(bins, INDEX, ALIGN)
    base = program // parts * many * 2
    step = BLOCK * parts.to(INDEX)
    top = tl.zeros([BLOCK], partial.dtype.element_ty)
    undefined = tl.zeros([BLOCK], tl.int32)
    for start in range((program % parts).to(INDEX) * BLOCK, many, step):
        at, here = _numbers(base, start, many, BLOCK)
        re, im = _load(y, at, here, BLOCK)
        square = _square(re, im)
        top = tl.where(square > top, square, top)
        undefined = tl.where(square == square, undefined, 1)
    largest = tl.where(tl.max(undefined, 0) > 0, float("nan"), tl.max(top, 0))
    tl.store(partial + program, largest)


@jit(do_not_specialize=_SUM_PLAIN)
def sum_fwd_kernel(
    x,
    y,
    peak,
    partial,
    bins,
    columns,
    width,
    parts,
    parameter: tl.float64,
    KIND: tl.constexpr,
    POWER: tl.constexpr,
    LOG: tl.constexpr,
    INDEX: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    image = program // parts
    many = multiple(bins, INDEX, ALIGN)
    base = image * many * 2
    step = BLOCK * parts.to(INDEX)
    exponent = tl.full([1], parameter, tl.float64)
    if KIND == "focal":
        of_top = _of_top(peak, image, exponent, POWER, LOG)
    floor = tl.full([1], parameter, x.dtype.element_ty)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range((program % parts).to(INDEX) * BLOCK, many, step):
        i = start + tl.arange(0, BLOCK)
        at, here = _numbers(base, start, many, BLOCK)
        of_x = _load(x, at, here, BLOCK)
        of_y = of_x
        if y is not None:
            of_y = _load(y, at, here, BLOCK)
        if KIND == "focal":
            w = _weight(_square(of_y[0], of_y[1]), exponent, of_top, POWER, LOG)
            value = w * _square(of_x[0], of_x[1])
        else:
            value = _value(of_x, of_y, floor, KIND)
        value = tl.where(i < many, value * _count(i, columns, width), 0.0)
        total += value.to(tl.float64)
    tl.store(partial + program, tl.sum(total, 0))


@jit(do_not_specialize=_PLAIN)
def slope_bwd_kernel(
    x,
    y,
    peak,
    grad,
    out,
    bins,
    columns,
    width,
    parameter: tl.float64,
    KIND: tl.constexpr,
    POWER: tl.constexpr,
    LOG: tl.constexpr,
    INDEX: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    many = multiple(bins, INDEX, ALIGN)
    tiles = (tl.cast(many, tl.int64) + (BLOCK - 1)) // BLOCK
    image = program // tiles
    base = image * many * 2
    start = (program % tiles).to(INDEX) * BLOCK
    at, here = _numbers(base, start, many, BLOCK)
    of_x = _load(x, at, here, BLOCK)
    of_y = of_x
    if y is not None:
        of_y = _load(y, at, here, BLOCK)
    if KIND == "focal":
        exponent = tl.full([1], parameter, tl.float64)
        of_top = _of_top(peak, image, exponent, POWER, LOG)
        w = 2 * _weight(_square(of_y[0], of_y[1]), exponent, of_top, POWER, LOG)
        re = w * of_x[0]
        im = w * of_x[1]
    else:
        re, im = _slope(of_x, of_y, tl.full([1], parameter, x.dtype.element_ty), KIND)
    i = start + tl.arange(0, BLOCK)
    scale = tl.load(grad + image) * _count(i, columns, width)
    tl.store(out + at, tl.reshape(tl.join(re * scale, im * scale), (2 * BLOCK,)), mask=here)


def _ops() -> Any:
    """The ops, whose fakes allocate; not imported above, as they may import this."""
    from medkern.ops import fourier

    return fourier


def block_of(itemsize: int) -> int:
    """Bins per program: two 16-byte accesses per thread and spectrum."""
    return 32 * WARPS * 32 // (2 * itemsize)


def parts_of(bins: int) -> int:
    """Programs that share an image: a function of its size alone, hence the bits too."""
    return min(max(bins // 2048, 1), MOST_PARTS)


class Call(NamedTuple):
    """What a kernel runs on. x, y: contiguous [B, C, H, K, 2]; y is None where it is x."""

    x: Tensor
    y: Tensor | None
    peak: Tensor | None
    width: int
    kind: str
    parameter: float
    log: bool

    @property
    def images(self) -> int:
        return self.x.shape[0] * self.x.shape[1]

    @property
    def bins(self) -> int:
        return self.x.shape[2] * self.x.shape[3]

    def sizes(self) -> tuple[int, int, int]:
        return self.bins, self.x.shape[3], self.width

    def cut(self) -> dict[str, Any]:
        """How the bins are cut into programs, and how they may be accessed."""
        return {
            "INDEX": tl.int32 if self.bins < 2**29 else tl.int64,
            "ALIGN": 2 - self.bins % 2,
            "BLOCK": block_of(self.x.element_size()),
            "num_warps": WARPS,
        }

    def options(self) -> dict[str, Any]:
        focal = self.kind == "focal"
        exact = focal and self.parameter in (0, 1, 2)
        return {
            "KIND": self.kind,
            "POWER": int(self.parameter) if exact else -1,
            "LOG": bool(self.log) and focal,
            **self.cut(),
        }

    def tops(self) -> tuple[int, tuple[Any, ...], dict[str, Any]]:
        """(number of programs, arguments, options), the partial results second."""
        parts = parts_of(self.bins)
        partial = self.x.new_empty(self.images, parts)
        y = self.x if self.y is None else self.y
        return self.images * parts, (y, partial, self.bins, parts), self.cut()

    def sums(self) -> tuple[int, tuple[Any, ...], dict[str, Any]]:
        """The same, the partial results fourth."""
        parts = parts_of(self.bins)
        partial = self.x.new_empty(self.images, parts, dtype=torch.float64)
        numbers = (*self.sizes(), parts, float(self.parameter))
        return self.images * parts, (self.x, self.y, self.peak, partial, *numbers), self.options()

    def slopes(self, grad: Tensor, out: Tensor) -> tuple[int, tuple[Any, ...], dict[str, Any]]:
        tiles = -(-self.bins // block_of(self.x.element_size()))
        numbers = (*self.sizes(), float(self.parameter))
        return self.images * tiles, (self.x, self.y, self.peak, grad, out, *numbers), self.options()


def _call(
    x: Tensor, y: Tensor, peak: Tensor | None, width: int, kind: str, parameter: float, log: bool
) -> Call:
    _runtime.check("fourier", x, y, peak)
    if kind not in reference.KINDS:
        raise ValueError(f"medkern.kernels.fourier: unknown kind {kind!r}")
    if x.shape != y.shape or x.dim() != 5 or tuple(x.shape[3:]) != (width // 2 + 1, 2):
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)} of width {width}"
        raise ValueError(f"medkern.kernels.fourier: shapes do not fit: {shapes}")
    if any(t is not None and t.dtype != x.dtype for t in (y, peak)):
        raise RuntimeError("medkern.kernels.fourier: all tensors must have one dtype")
    same = x.data_ptr() == y.data_ptr() and x.stride() == y.stride()
    given = x.contiguous()
    call = Call(given, None if same else y.contiguous(), peak, width, kind, parameter, log)
    if kind != "focal":
        return call._replace(peak=None)
    if peak is None and call.images:
        programs, positional, options = call.tops()
        with torch.cuda.device_of(x):
            top_fwd_kernel[(programs,)](*positional, **options)
        peak = positional[1].amax(1)
    return call._replace(peak=None if peak is None else peak.contiguous())


def spectrum_loss(
    x: Tensor, y: Tensor, peak: Tensor | None, width: int, kind: str, parameter: float, log: bool
) -> Tensor:
    if x.numel() == 0:
        out: Tensor = _ops()._fake_loss(x)
        return out.zero_()
    call = _call(x, y, peak, width, kind, parameter, log)
    programs, positional, options = call.sums()
    with torch.cuda.device_of(x):
        sum_fwd_kernel[(programs,)](*positional, **options)
    return positional[3].sum(1).to(x.dtype).view(x.shape[:2])


def spectrum_loss_backward(
    x: Tensor,
    y: Tensor,
    grad: Tensor,
    peak: Tensor | None,
    width: int,
    kind: str,
    parameter: float,
    log: bool,
) -> Tensor:
    out: Tensor = _ops()._fake_loss_backward(x)
    if out.numel() == 0:
        return out
    call = _call(x, y, peak, width, kind, parameter, log)
    programs, positional, options = call.slopes(grad.contiguous(), out)
    with torch.cuda.device_of(x):
        slope_bwd_kernel[(programs,)](*positional, **options)
    return out


# The function of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {
    "_spectrum_loss": spectrum_loss,
    "_spectrum_loss_backward": spectrum_loss_backward,
}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    kernel: str  # top, sum or slope
    kind: str = "focal"
    dtype: torch.dtype = torch.float32
    height: int = 256
    width: int = 256
    same: bool = False
    parameter: float = 1.0
    log: bool = False


AOT_VARIANTS: dict[str, Case] = {
    "top-fwd": Case("top"),
    "sum-fwd-focal": Case("sum", same=True),
    "sum-fwd-focal-log": Case("sum", parameter=1.5, log=True),
    "sum-fwd-phase-double": Case("sum", "phase", torch.float64),
    "slope-bwd-focal-odd": Case("slope", height=181, width=217, same=True),
    "slope-bwd-amplitude_l2": Case("slope", "amplitude_l2"),
    "slope-bwd-phase": Case("slope", "phase"),
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launchers."""
    shape = (8, 3, case.height, case.width // 2 + 1, 2)
    x = torch.empty(shape, dtype=case.dtype, device="meta")
    peak = x.new_empty(24) if case.kind == "focal" else None
    how = (case.width, case.kind, case.parameter, case.log)
    call = Call(x, None if case.same else x, peak, *how)
    kernel, (_, positional, options) = {
        "top": (top_fwd_kernel, call.tops()),
        "sum": (sum_fwd_kernel, call.sums()),
        "slope": (slope_bwd_kernel, call.slopes(x.new_empty(24), x)),
    }[case.kernel]
    constexprs, signature, aligned = dict(options), {}, []
    del constexprs["num_warps"]
    for name, value in zip(kernel.arg_names, positional, strict=False):
        if value is None:
            constexprs[name] = None
        elif isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
            aligned.append(name)
        else:
            signature[name] = "i32" if isinstance(value, int) else "fp64"
    return Variant(kernel, signature, constexprs, tuple(aligned), {"num_warps": WARPS})

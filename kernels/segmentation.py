"""The sums of segmentation losses on Triton, forward and backward: one pass over memory each way.

With p = softmax over the classes or sigmoid of the logits z, and y the target, every sample and
class has the sums over its voxels

    sum p y,  sum p,  sum p^2,  sum y,  sum y^2,  cross-entropy,  number of voxels

and their gradient in the logits: see csrc/core/segmentation.hpp, whose definition this is. As in
the CUDA kernels, labels that name no class are left out like `ignore`: telling would mean waiting
for the device.

Shapes:      logits [B, K, *space], target [B, *space] of labels or [B, K, *space] of values.
Strides:     any; where the spatial axes do not merge into one, a tensor is copied first. Lanes run
             over voxels, the classes in a loop, so that any number of them is the same code.
Arithmetic:  float16, bfloat16 and float32 in float32, float64 in float64. A program adds up its
             voxels in a tree, torch the programs of a sample in float64: no atomics, and equal
             inputs give equal bits. Addresses in int64.
Cost:        two walks over the classes, of which the caches serve the second where they hold the
             voxels at work; the forward writes 56 bytes per program and class, the backward the
             gradient. Softmax takes its statistics in the first walk, relative to the largest
             logit so far; the backward adds up its mean slope along with them.

`LAUNCHERS` take what the ops in medkern/ops/segmentation.py take, and allocate as their fakes.
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
from medkern.kernels._runtime import NAMES, jit, tl, why_not  # noqa: F401

SUMS = 7
WARPS = 4

# Arguments for which Triton compiles no special cases.
_PLAIN = ("classes", "ignore")


@jit()
def _place(target, voxels, classes, ignore, y_batch, y_voxel, LABELS: tl.constexpr, BLOCK):
    """This program's sample and voxels: (batch, voxel, which exist, which count, label).

    A label is the class that it names, or -1.
    """
    program = tl.program_id(0).to(tl.int64)
    parts = (tl.cast(voxels, tl.int64) + (BLOCK - 1)) // BLOCK
    b = program // parts
    n = program % parts * BLOCK + tl.arange(0, BLOCK)
    here = n < voxels
    label = tl.full([BLOCK], -1, tl.int32)
    counts = here
    if LABELS:
        given = tl.load(target + (b * y_batch + n * y_voxel), mask=here, other=0).to(tl.int64)
        single = tl.cast(classes == 1, tl.int32)  # whose label is 1, and 0 that of none
        counts = here & (given != ignore) & (given >= 0) & (given < classes + single)
        label = tl.where(counts, given.to(tl.int32) - single, -1)
    return b, n, here, counts, label


@jit()
def _logit(z, at, here, ACC: tl.constexpr):
    """Also of voxels that do not count: a mask that labels make would allow no vectors."""
    return tl.load(z + at, mask=here, other=0).to(ACC)


@jit()
def _value(target, at, k, here, label, LABELS: tl.constexpr, ACC: tl.constexpr):
    """y of class k."""
    y = label == k if LABELS else tl.load(target + at, mask=here, other=0)
    return y.to(ACC)


@jit()
def _join(z, largest):
    """A logit joins those before it: (largest, what scales their sums, its own exponential).

    The equality keeps -inf after -inf from becoming NaN.
    """
    ratio = tl.where(z == largest, 1, tl.exp(-tl.abs(z - largest)))
    above = z > largest
    return tl.where(above, z, largest), tl.where(above, ratio, 1), tl.where(above, 1, ratio)


@jit()
def _log1p(e):
    """log(1 + e) for e from 0 to 1, with its digits: 2 atanh(e / (2 + e)) by its series."""
    TERMS: tl.constexpr = 17 if e.dtype == tl.float64 else 8
    s = e / (2 + e)
    square = s * s
    series = tl.full(s.shape, 1.0 / (2 * TERMS - 1), s.dtype)
    for i in tl.static_range(TERMS - 2, -1, -1):
        series = series * square + 1.0 / (2 * i + 1)
    return 2 * s * series


@jit()
def _sigmoid(z):
    """p, and exp(-|z|)."""
    e = tl.exp(-tl.abs(z))
    return tl.where(z < 0, e, 1) / (1 + e), e


@jit()
def _weight(weights, k, COLUMN: tl.constexpr, ACC: tl.constexpr):
    return tl.load(weights + (k * 7 + COLUMN)).to(ACC)


@jit()
def _slope(weights, k, p, y, ACC: tl.constexpr):
    """Of the sums in p of class k."""
    linear = _weight(weights, k, 0, ACC) * y + _weight(weights, k, 1, ACC)
    return linear + 2 * _weight(weights, k, 2, ACC) * p


@jit()
def _stack(x):
    """Eight [BLOCK] as [BLOCK, 8], within each thread. A join makes the last bit of the column."""
    even = tl.join(tl.join(x[0], x[4]), tl.join(x[2], x[6]))
    odd = tl.join(tl.join(x[1], x[5]), tl.join(x[3], x[7]))
    return tl.reshape(tl.join(even, odd), (x[0].shape[0], 8))


@jit(do_not_specialize=_PLAIN)
def segmentation_fwd_kernel(
    z,
    target,
    partial,
    voxels,
    classes,
    ignore,
    z_batch,
    z_class,
    z_voxel,
    y_batch,
    y_class,
    y_voxel,
    SOFTMAX: tl.constexpr,
    LABELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """partial: [programs, classes, 7] in float64."""
    b, n, here, counts, label = _place(
        target, voxels, classes, ignore, y_batch, y_voxel, LABELS, BLOCK
    )
    z_at = b * z_batch + n * z_voxel
    y_at = b * y_batch + n * y_voxel
    largest = tl.full([BLOCK], float("-inf"), ACC)
    total = tl.zeros([BLOCK], ACC)
    log_total = total
    if SOFTMAX:
        for class_ in range(classes):
            k = tl.cast(class_, tl.int64)
            largest, scale, e = _join(_logit(z, z_at + k * z_class, here, ACC), largest)
            total = total * scale + e
        total += largest - largest  # NaN where all are -inf or one is inf
        log_total = tl.log(total)
    column = tl.arange(0, 8)
    out = partial + tl.program_id(0).to(tl.int64) * classes * 7
    for class_ in range(classes):
        k = tl.cast(class_, tl.int64)
        x = _logit(z, z_at + k * z_class, here, ACC)
        y = _value(target, y_at + k * y_class, class_, here, label, LABELS, ACC)
        if SOFTMAX:
            p = tl.exp(x - largest) / total
            surprise = tl.where(y == 0, 0, y * ((largest - x) + log_total))
        else:
            p, e = _sigmoid(x)
            surprise = (tl.maximum(x, 0) - y * x) + _log1p(e)
            surprise = tl.where(counts, surprise, 0)
        p = tl.where(counts, p, 0)
        terms = _stack((p * y, p, p * p, y, y * y, surprise, counts.to(ACC), tl.zeros_like(p)))
        tl.store(out + (k * 7 + column), tl.sum(terms, 0), mask=column < 7)


@jit(do_not_specialize=_PLAIN)
def segmentation_bwd_kernel(
    z,
    target,
    weights,
    grad,
    voxels,
    classes,
    ignore,
    z_batch,
    z_class,
    z_voxel,
    y_batch,
    y_class,
    y_voxel,
    grad_batch,
    grad_class,
    grad_voxel,
    SOFTMAX: tl.constexpr,
    LABELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """weights: [B, classes, 7], contiguous, the gradients of the sums; grad: of the logits."""
    b, n, here, counts, label = _place(
        target, voxels, classes, ignore, y_batch, y_voxel, LABELS, BLOCK
    )
    z_at = b * z_batch + n * z_voxel
    y_at = b * y_batch + n * y_voxel
    grad_at = b * grad_batch + n * grad_voxel
    weights += b * classes * 7
    largest = tl.full([BLOCK], float("-inf"), ACC)
    total = tl.zeros([BLOCK], ACC)
    shift = total
    if SOFTMAX:
        # The mean slope sum p (a + b p), a and b being free of p, as two sums of exponentials.
        linear = total
        square = total
        for class_ in range(classes):
            k = tl.cast(class_, tl.int64)
            x = _logit(z, z_at + k * z_class, here, ACC)
            y = _value(target, y_at + k * y_class, class_, here, label, LABELS, ACC)
            largest, scale, e = _join(x, largest)
            total = total * scale + e
            of_p = _weight(weights, k, 0, ACC) * y + _weight(weights, k, 1, ACC)
            linear = linear * scale + e * of_p
            square = square * (scale * scale) + 2 * _weight(weights, k, 2, ACC) * (e * e)
            shift += _weight(weights, k, 5, ACC) * y
        total += largest - largest
        shift -= (linear + square / total) / total
    for class_ in range(classes):
        k = tl.cast(class_, tl.int64)
        x = _logit(z, z_at + k * z_class, here, ACC)
        y = _value(target, y_at + k * y_class, class_, here, label, LABELS, ACC)
        pull = _weight(weights, k, 5, ACC)
        if SOFTMAX:
            p = tl.exp(x - largest) / total
            d = p * (_slope(weights, k, p, y, ACC) + shift) - pull * y
        else:
            p, _ = _sigmoid(x)
            d = p * (1 - p) * _slope(weights, k, p, y, ACC) + pull * (p - y)
        tl.store(grad + (grad_at + k * grad_class), tl.where(counts, d, 0), mask=here)


def _merged(t: Tensor, first: int) -> Tensor:
    """The axes from `first` on as one; a copy where their strides do not allow it."""
    shape = (*t.shape[:first], t.shape[first:].numel())
    try:
        return t.view(shape)
    except RuntimeError:
        return t.contiguous().view(shape)


def block_of(itemsize: int, *, adjoint: bool) -> int:
    """Voxels of a program: 16 bytes of logits per lane; 32 in the arithmetic where they add up."""
    return 32 * WARPS * (16 // itemsize if adjoint else 32 // max(itemsize, 4))


def arguments(
    logits: Tensor, target: Tensor, tensors: tuple[Tensor, ...], softmax: bool, ignore: int
) -> tuple[tuple[int | Tensor, ...], dict[str, Any]]:
    """(arguments, options) of both kernels, for logits [B, K, voxels], target [B, voxels] or
    [B, K, voxels], and tensors = (partial,) or (weights, grad [B, K, voxels])."""
    labels, adjoint = target.dim() == 2, len(tensors) == 2
    options = {
        "SOFTMAX": softmax,
        "LABELS": labels,
        "ACC": tl.float64 if logits.dtype == torch.float64 else tl.float32,
        "BLOCK": block_of(logits.element_size(), adjoint=adjoint),
        "num_warps": WARPS,
    }
    of_target = (target.stride(0), 0, target.stride(1)) if labels else target.stride()
    of_grad = tensors[1].stride() if adjoint else ()
    numbers = (logits.shape[2], logits.shape[1], ignore, *logits.stride(), *of_target, *of_grad)
    return (logits, target, *tensors, *numbers), options


def _checked(logits: Tensor, target: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and target with one spatial axis."""
    _runtime.check("segmentation", logits, target, *others)
    batch, _, *space = logits.shape
    if target.shape not in (logits.shape, (batch, *space)):
        shapes = f"{tuple(logits.shape)} and {tuple(target.shape)}"
        raise ValueError(f"medkern.kernels.segmentation: shapes do not fit: {shapes}")
    return _merged(logits, 2), _merged(target, 2 - (target.dim() < logits.dim()))


def _run(
    kernel: Any, programs: int, positional: tuple[int | Tensor, ...], options: dict[str, Any]
) -> None:
    if programs > 0:
        with torch.cuda.device_of(positional[0]):
            kernel[(programs,)](*positional, **options)


def segmentation_sums(logits: Tensor, target: Tensor, softmax: bool, ignore: int) -> Tensor:
    z, y = _checked(logits, target)
    batch, classes, voxels = z.shape
    parts = -(-voxels // block_of(z.element_size(), adjoint=False))
    partial = z.new_empty(batch, parts, classes, SUMS, dtype=torch.float64)
    _run(segmentation_fwd_kernel, batch * parts, *arguments(z, y, (partial,), softmax, ignore))
    return partial.sum(1).to(_ops()._compute_dtype(logits))


def segmentation_sums_backward(
    logits: Tensor, grad: Tensor, target: Tensor, softmax: bool, ignore: int
) -> Tensor:
    z, y = _checked(logits, target, grad)
    batch, classes, voxels = z.shape
    if grad.shape != (batch, classes, SUMS):
        raise ValueError(f"medkern.kernels.segmentation: grad must be [B, K, {SUMS}]")
    out: Tensor = _ops()._fake_backward(logits, grad, target, softmax, ignore)
    tensors = (grad.contiguous(), _merged(out, 2))
    parts = -(-voxels // block_of(z.element_size(), adjoint=True))
    _run(segmentation_bwd_kernel, batch * parts, *arguments(z, y, tensors, softmax, ignore))
    return out


def _ops() -> Any:
    """The ops, whose fakes allocate; not imported above, as they may import this."""
    from medkern.ops import segmentation

    return segmentation


# The kernel of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Tensor]] = {
    "_segmentation_sums": segmentation_sums,
    "_segmentation_sums_backward": segmentation_sums_backward,
}


class Case(NamedTuple):
    """A call whose kernel is worth compiling ahead of time; see `variant`."""

    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] = (2, 4, 128, 128, 128)
    target: torch.dtype = torch.uint8
    labels: bool = True
    softmax: bool = True
    channels_last: bool = False
    adjoint: bool = False


AOT_VARIANTS: dict[str, Case] = {
    f"{'bwd' if adjoint else 'fwd'}-{name}": case._replace(adjoint=adjoint)
    for adjoint in (False, True)
    for name, case in {
        "softmax": Case(),
        "softmax-half": Case(torch.float16, target=torch.int64),
        "softmax-values": Case(torch.bfloat16, target=torch.float32, labels=False),
        "softmax-double": Case(torch.float64, target=torch.float64, labels=False),
        "softmax-channels-last": Case(channels_last=True),
        "softmax-odd": Case(shape=(2, 5, 91, 109, 91)),
        "sigmoid": Case(softmax=False),
    }.items()
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launchers."""
    batch, classes, *space = case.shape
    size, voxels = (batch, classes), torch.Size(space).numel()

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    z = empty(*size, voxels, dtype=case.dtype)
    if case.channels_last:
        z = empty(batch, voxels, classes, dtype=case.dtype).movedim(-1, 1)
    y = empty(*(size[:1] if case.labels else size), voxels, dtype=case.target)
    sums = torch.float64 if case.dtype == torch.float64 else torch.float32
    if case.adjoint:
        kernel, tensors = segmentation_bwd_kernel, (empty(*size, SUMS, dtype=sums), z)
    else:
        kernel, tensors = segmentation_fwd_kernel, (empty(1, dtype=torch.float64),)
    positional, options = arguments(z, y, tensors, case.softmax, -100)
    constexprs, signature, aligned = dict(options), {}, []
    del constexprs["num_warps"]
    for name, value in zip(kernel.arg_names, positional, strict=False):
        plain = name in _PLAIN
        if not plain and not isinstance(value, Tensor) and value == 1:
            constexprs[name] = 1
            continue
        if isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if isinstance(value, Tensor) or (not plain and value % 16 == 0):
            aligned.append(name)
    return Variant(kernel, signature, constexprs, tuple(aligned), {"num_warps": WARPS})

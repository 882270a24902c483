"""Haar wavelet transform and pooling.

A block of 2**ndim neighbouring samples becomes 2**ndim bands, orthonormally. Bit i of a band's
index is set where the band is high-pass along spatial axis i, counted from the first. In 2-D, for a
block [[a, b], [c, d]], the bands are

    LL = (a + b + c + d) / 2        LH = (a + b - c - d) / 2
    HL = (a - b + c - d) / 2        HH = (a - b - c + d) / 2

so a name's letters go from the last axis to the first: LH is low along rows (W), high along columns
(H). PyWavelets calls them `aa, da, ad, dd`, or `cA, (cH, cV, cD)`.

Source: Das et al., "SFRSeg-Net", ICPR 2024, section 3; equation 6 for the IEWA pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from medkern._registry import OPS, Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.reference import haar as reference
from medkern.rules import haar as rules
from medkern.rules import message
from medkern.testing import image_layouts

LIFTED = {torch.uint8: torch.int16, torch.int16: torch.int32}
UNLIFTED = {wide: narrow for narrow, wide in LIFTED.items()}


def haar_dwt(
    x: ArrayT, *, ndim: int = 2, pad: str = "symmetric", backend: str | None = None
) -> ArrayT:
    """One level of the Haar wavelet transform.

    Args:
        x: [..., *size], the last `ndim` axes spatial (with a channel axis before them, memory
            formats such as channels_last are kept). float16, bfloat16 (both computed in float32),
            float32, float64; or uint8, int16 for the reversible integer transform (lifting: per
            axis `detail = a - b`, `mean = b + floor(detail / 2)`), which returns int16, int32.
        ndim: 1, 2 or 3.
        pad: how an odd axis is extended by one sample: "symmetric" (as in PyWavelets; the same as
            "replicate"), "zero", "reflect" or "periodic".
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [..., 2**ndim, *half] with half = ceil(size / 2); bands as described at the top of
        this module.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    NaN and inf spread to the bands of their block only. Gradients of any order. O(N): reads the
    input once, writes the output once, and allocates nothing else, but for a copy of an input whose
    last axis and channels are both strided.

    >>> import torch, medkern as mk
    >>> mk.haar_dwt(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).flatten()
    tensor([ 5., -2., -1.,  0.])
    """
    t, restore = as_tensor("haar_dwt", "x", x)
    space = rules.space_of("haar_dwt", t.shape, ndim, pad)
    _check_dtype("haar_dwt", "x", t, LIFTED)
    op = _haar_lift if t.dtype in LIFTED else _haar_dwt
    out = op(_as_batch(t, ndim), ndim, pad, backend=backend)
    return restore(out.reshape(*t.shape[: t.dim() - ndim], 2**ndim, *map(rules.half, space)))


def haar_idwt(
    bands: ArrayT,
    *,
    ndim: int = 2,
    size: Sequence[int] | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The inverse of `haar_dwt`, for any size and any pad.

    Args:
        bands: [..., 2**ndim, *half], as returned by `haar_dwt`; int16 or int32 bands are those of
            uint8 and int16 images, and give these back exactly.
        ndim: 1, 2 or 3.
        size: spatial size of the result, 2n or 2n - 1 for a coarse extent n; None means 2n.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [..., *size].

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    >>> import torch, medkern as mk
    >>> x = torch.randn(2, 3, 5, 8)
    >>> torch.allclose(mk.haar_idwt(mk.haar_dwt(x), size=(5, 8)), x, atol=1e-6)
    True
    """
    t, restore = as_tensor("haar_idwt", "bands", bands)
    fine = rules.size_of("haar_idwt", t.shape, ndim, size)
    _check_dtype("haar_idwt", "bands", t, UNLIFTED)
    lead = t.shape[: t.dim() - ndim - 1]
    batch = _as_batch(t, ndim + 1)
    if t.dtype in UNLIFTED:
        out = _haar_unlift(batch, fine, backend=backend)
    else:
        out = _haar_idwt(batch, fine, "zero", backend=backend)
    return restore(out.reshape(*lead, *fine))


def haar_wavedec(
    x: ArrayT,
    levels: int | None = None,
    *,
    ndim: int = 2,
    pad: str = "symmetric",
    backend: str | None = None,
) -> list[ArrayT]:
    """The multi-level Haar transform: `haar_dwt` applied again to the low-pass band.

    Args:
        x: as for `haar_dwt`.
        levels: number of levels; None means floor(log2(smallest extent)), as in PyWavelets.
        ndim, pad, backend: as for `haar_dwt`.

    Returns:
        [approximation, details of the coarsest level, ..., details of the finest]: the first
        [..., *coarse], the others [..., 2**ndim - 1, *half] (every band but the low-pass one).

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    >>> import torch, medkern as mk
    >>> [tuple(c.shape) for c in mk.haar_wavedec(torch.randn(1, 1, 20, 12), levels=2)]
    [(1, 1, 5, 3), (1, 1, 3, 5, 3), (1, 1, 3, 10, 6)]
    """
    t, restore = as_tensor("haar_wavedec", "x", x)
    space = rules.space_of("haar_wavedec", t.shape, ndim, pad)
    approximation, details = t, []
    for _ in range(rules.levels_of("haar_wavedec", space, levels)):
        bands = haar_dwt(approximation, ndim=ndim, pad=pad, backend=backend)
        approximation, rest = bands.split([1, 2**ndim - 1], dim=-ndim - 1)
        # The lifted mean stays in the range of the samples.
        approximation = approximation.squeeze(-ndim - 1).to(t.dtype)
        details.append(rest)
    return [restore(c) for c in [approximation, *reversed(details)]]


def haar_waverec(
    coefficients: Sequence[ArrayT],
    *,
    ndim: int = 2,
    size: Sequence[int] | None = None,
    backend: str | None = None,
) -> ArrayT:
    """The inverse of `haar_wavedec`.

    Args:
        coefficients: what `haar_wavedec` returned.
        ndim, backend: as for `haar_wavedec`.
        size: spatial size of the original; None means twice the finest details' extents.

    Returns:
        [..., *size].

    Raises:
        ValueError, TypeError: a bad argument.

    >>> import torch, medkern as mk
    >>> x = torch.randn(1, 2, 9, 31)
    >>> torch.allclose(mk.haar_waverec(mk.haar_wavedec(x), size=(9, 31)), x, atol=1e-5)
    True
    """
    if not isinstance(coefficients, Sequence):
        rule, got = "be a list of arrays", type(coefficients).__name__
        raise TypeError(
            message("haar_waverec", "coefficients", rule, got, "pass what haar_wavedec returned")
        )
    pairs = [as_tensor("haar_waverec", "coefficients", c) for c in coefficients]
    shapes, dtypes = [t.shape for t, _ in pairs], [dtype_name(t.dtype) for t, _ in pairs]
    targets = rules.waverec_targets(shapes, dtypes, ndim, size)
    approximation, restore = pairs[0]
    for (detail, _), target in zip(pairs[1:], targets, strict=True):
        low = approximation.unsqueeze(-ndim - 1).to(detail.dtype)
        bands = torch.cat([low, detail], dim=-ndim - 1)
        approximation = haar_idwt(bands, ndim=ndim, size=target, backend=backend)
    return restore(approximation)


def haar_pool(
    x: ArrayT,
    mode: str = "iewa",
    *,
    ndim: int = 2,
    pad: str = "symmetric",
    backend: str | None = None,
) -> ArrayT:
    """Halve every spatial axis by combining the Haar bands.

    Args:
        x: [..., *size] floating point; modes "bands" and "max_concat" need [..., C, *size].
        mode: "ll": the low-pass band. "iewa": the sum of all bands but the one that is high-pass
            along every axis (the paper's pooling; 2-D: LL + LH + HL). "all": the sum of all bands,
            which is 2**(ndim/2) times every other sample. "bands": all bands stacked along the
            channels, LL of all channels first. "max_concat": LL and the maximum of the block,
            stacked along the channels.
        ndim, pad, backend: as for `haar_dwt`.

    Returns:
        [..., *half] with half = ceil(size / 2), the channels multiplied by 2**ndim for "bands" and
        by 2 for "max_concat".

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    "max_concat" takes the first maximum in row-major order and propagates NaN, like max_pool. Of
    its derivatives, the choice of the maximum counts as constant. A forward reads the input once
    and writes the pooled map; no temporaries; "max_concat" saves its input for the backward, the
    other modes save nothing.

    >>> import torch, medkern as mk
    >>> mk.haar_pool(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "iewa")
    tensor([[2.]])
    """
    t, restore = as_tensor("haar_pool", "x", x)
    space = rules.pool_space("haar_pool", t.shape, mode, ndim, pad)
    outputs = rules.pool_outputs(mode, ndim)
    _check_dtype("haar_pool", "x", t, {})
    batch = _as_batch(t, ndim)
    if mode == "max_concat":
        out = _haar_max_concat(batch, batch, ndim, pad, backend=backend)
    else:
        out = _haar_pool(batch, mode, ndim, pad, backend=backend)
    lead = list(t.shape[: t.dim() - ndim])
    if outputs > 1:
        lead[-1] *= outputs
    return restore(out.reshape(*lead, *map(rules.half, space)))


def _check_dtype(
    op: str, argument: str, t: Tensor, integers: dict[torch.dtype, torch.dtype]
) -> None:
    dtypes = [*_haar_dwt.spec.dtypes, *integers]
    if t.dtype not in dtypes:
        names = ", ".join(map(dtype_name, dtypes))
        remedy = f"convert it, for example {argument}.float()"
        raise TypeError(message(op, argument, f"be one of {names}", dtype_name(t.dtype), remedy))


def _as_batch(t: Tensor, trailing: int) -> Tensor:
    """[..., *trailing axes] as [B, C, *trailing axes]."""
    lead = t.dim() - trailing
    if lead == 2:
        return t
    if lead < 2:
        return t[(None,) * (2 - lead)]
    return t.flatten(0, lead - 2)


def _is_channels_last(t: Tensor) -> bool:
    """Whether kernels run along the channels of t [B, C, ...] rather than along its last axis."""
    return bool(t.shape[1] > 1 and t.stride(1) == 1 and t.stride(-1) != 1)


def _allocate(like: Tensor, channels: int, space: Sequence[int], channels_last: bool) -> Tensor:
    batch = like.shape[0]
    if channels_last:
        return like.new_empty(batch, *space, channels).movedim(-1, 1)
    return like.new_empty(batch, channels, *space)


def _fake_bands(x: Tensor, ndim: int, dtype: torch.dtype) -> Tensor:
    half = [rules.half(n) for n in x.shape[2:]]
    batch, channels = x.shape[:2]
    if _is_channels_last(x):
        return x.new_empty(batch, *half, 2**ndim, channels, dtype=dtype).movedim((-1, -2), (1, 2))
    return x.new_empty(batch, channels, 2**ndim, *half, dtype=dtype)


def _fake_dwt(x: Tensor, ndim: int, pad: str) -> Tensor:
    return _fake_bands(x, ndim, x.dtype)


def _fake_lift(x: Tensor, ndim: int, pad: str) -> Tensor:
    return _fake_bands(x, ndim, LIFTED[x.dtype])


def _fake_idwt(bands: Tensor, size: Sequence[int], pad: str) -> Tensor:
    return _allocate(bands, bands.shape[1], size, _is_channels_last(bands))


def _fake_unlift(bands: Tensor, size: Sequence[int]) -> Tensor:
    return _fake_idwt(bands, size, "zero").to(UNLIFTED[bands.dtype])


def _fake_pool(x: Tensor, mode: str, ndim: int, pad: str) -> Tensor:
    half = [rules.half(n) for n in x.shape[2:]]
    channels = x.shape[1] * rules.pool_outputs(mode, ndim)
    return _allocate(x, channels, half, _is_channels_last(x))


def _fake_pool_backward(grad: Tensor, size: Sequence[int], mode: str, pad: str) -> Tensor:
    channels = grad.shape[1] // rules.pool_outputs(mode, len(size))
    return _allocate(grad, channels, size, _is_channels_last(grad))


def _fake_max_concat(x: Tensor, keys: Tensor, ndim: int, pad: str) -> Tensor:
    return _fake_pool(keys, "max_concat", ndim, pad)


def _fake_max_concat_backward(grad: Tensor, keys: Tensor, ndim: int, pad: str) -> Tensor:
    return _allocate(keys, keys.shape[1], keys.shape[2:], _is_channels_last(keys))


# Every map here is linear (with the keys of max_concat held constant), so a derivative is the same
# map of the tangent, and the backward is its adjoint; the two call each other to any order.


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.constants = inputs[1:]
    ctx.size = inputs[0].shape[2:]


def _dwt_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None]:
    _, pad = ctx.constants
    return _haar_idwt(grad, ctx.size, pad), None, None


def _idwt_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None]:
    size, pad = ctx.constants
    return _haar_dwt(grad, len(size), pad), None, None


def _pool_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None, None]:
    mode, _, pad = ctx.constants
    return _haar_pool_backward(grad, ctx.size, mode, pad), None, None, None


def _pool_backward_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None, None]:
    size, mode, pad = ctx.constants
    return _haar_pool(grad, mode, len(size), pad), None, None, None


def _remember_keys(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, keys, ctx.ndim, ctx.pad = inputs
    ctx.save_for_backward(keys)
    ctx.save_for_forward(keys)


def _max_concat_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None, None]:
    (keys,) = ctx.saved_tensors
    return _haar_max_concat_backward(grad, keys, ctx.ndim, ctx.pad), None, None, None


def _max_concat_backward_backward(ctx: Any, grad: Tensor) -> tuple[Any, None, None, None]:
    (keys,) = ctx.saved_tensors
    return _haar_max_concat(grad, keys, ctx.ndim, ctx.pad), None, None, None


def _linear_jvp(name: str) -> Callable[..., Any]:
    return lambda ctx, tangent, *_: OPS[name](tangent, *ctx.constants)


def _keyed_jvp(name: str) -> Callable[..., Any]:
    return lambda ctx, tangent, *_: OPS[name](tangent, ctx.saved_tensors[0], ctx.ndim, ctx.pad)


def _pads(x: Tensor) -> Iterator[str]:
    yield from ("zero", "symmetric", "periodic")
    if min(x.shape[2:]) > 1:
        yield "reflect"


def _dwt_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x, ndim in image_layouts(dtype):
        for pad in _pads(x):
            yield Sample(f"{name}-{pad}", (x, ndim, pad))


def _idwt_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x, ndim in image_layouts(dtype):
        for pad in _pads(x):
            bands = _fake_dwt(x, ndim, pad).copy_(reference.haar_dwt(x, ndim, pad))
            yield Sample(f"{name}-{pad}", (bands, list(x.shape[2:]), pad))


def _unlift_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x, ndim in image_layouts(UNLIFTED[dtype]):
        bands = _fake_lift(x, ndim, "zero").copy_(reference.haar_lift(x, ndim, "zero"))
        yield Sample(name, (bands, list(x.shape[2:])))


def _pool_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x, ndim in image_layouts(dtype):
        for mode in ("ll", "iewa", "all", "bands"):
            for pad in _pads(x):
                yield Sample(f"{name}-{mode}-{pad}", (x, mode, ndim, pad))


def _pool_backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for sample in _pool_samples(dtype):
        x, mode, ndim, pad = sample.args
        grad = _fake_pool(x, mode, ndim, pad).copy_(reference.haar_pool(x, mode, ndim, pad))
        yield Sample(sample.name, (grad, list(x.shape[2:]), mode, pad))


def _max_concat_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for name, x, ndim in image_layouts(dtype):
        for pad in _pads(x):
            yield Sample(f"{name}-{pad}", (x, x.clone(), ndim, pad))
            yield Sample(f"{name}-{pad}-other-keys", (x.flip(-1).contiguous(), x, ndim, pad))


def _max_concat_backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    for sample in _max_concat_samples(dtype):
        x, keys, ndim, pad = sample.args
        grad = reference.haar_max_concat(x, keys, ndim, pad)
        yield Sample(sample.name, (grad, keys, ndim, pad))


_haar_dwt: Op = register(
    OpSpec(
        name="haar_dwt",
        schema="(Tensor x, int ndim, str pad) -> Tensor",
        reference=reference.haar_dwt,
        fake=_fake_dwt,
        samples=_dwt_samples,
        setup_context=_remember,
        backward=_dwt_backward,
        jvp=_linear_jvp("haar_dwt"),
        triton="medkern.kernels.haar:haar_dwt",
    )
)
_haar_idwt: Op = register(
    OpSpec(
        name="haar_idwt",
        schema="(Tensor bands, SymInt[] size, str pad) -> Tensor",
        reference=reference.haar_idwt,
        fake=_fake_idwt,
        samples=_idwt_samples,
        setup_context=_remember,
        backward=_idwt_backward,
        jvp=_linear_jvp("haar_idwt"),
        triton="medkern.kernels.haar:haar_idwt",
    )
)
_haar_lift: Op = register(
    OpSpec(
        name="_haar_lift",
        schema="(Tensor x, int ndim, str pad) -> Tensor",
        reference=reference.haar_lift,
        fake=_fake_lift,
        samples=_dwt_samples,
        dtypes=tuple(LIFTED),
        triton="medkern.kernels.haar:haar_lift",
    )
)
_haar_unlift: Op = register(
    OpSpec(
        name="_haar_unlift",
        schema="(Tensor bands, SymInt[] size) -> Tensor",
        reference=reference.haar_unlift,
        fake=_fake_unlift,
        samples=_unlift_samples,
        dtypes=tuple(UNLIFTED),
        triton="medkern.kernels.haar:haar_unlift",
    )
)
_haar_pool: Op = register(
    OpSpec(
        name="haar_pool",
        schema="(Tensor x, str mode, int ndim, str pad) -> Tensor",
        reference=reference.haar_pool,
        fake=_fake_pool,
        samples=_pool_samples,
        setup_context=_remember,
        backward=_pool_backward,
        jvp=_linear_jvp("haar_pool"),
        triton="medkern.kernels.haar:haar_pool",
    )
)
_haar_pool_backward: Op = register(
    OpSpec(
        name="_haar_pool_backward",
        schema="(Tensor grad, SymInt[] size, str mode, str pad) -> Tensor",
        reference=reference.haar_pool_backward,
        fake=_fake_pool_backward,
        samples=_pool_backward_samples,
        setup_context=_remember,
        backward=_pool_backward_backward,
        jvp=_linear_jvp("_haar_pool_backward"),
        triton="medkern.kernels.haar:haar_pool_backward",
    )
)
_haar_max_concat: Op = register(
    OpSpec(
        name="_haar_max_concat",
        schema="(Tensor x, Tensor keys, int ndim, str pad) -> Tensor",
        reference=reference.haar_max_concat,
        fake=_fake_max_concat,
        samples=_max_concat_samples,
        setup_context=_remember_keys,
        backward=_max_concat_backward,
        jvp=_keyed_jvp("_haar_max_concat"),
        autocast="widest",
        triton="medkern.kernels.haar:haar_max_concat",
    )
)
_haar_max_concat_backward: Op = register(
    OpSpec(
        name="_haar_max_concat_backward",
        schema="(Tensor grad, Tensor keys, int ndim, str pad) -> Tensor",
        reference=reference.haar_max_concat_backward,
        fake=_fake_max_concat_backward,
        samples=_max_concat_backward_samples,
        setup_context=_remember_keys,
        backward=_max_concat_backward_backward,
        jvp=_keyed_jvp("_haar_max_concat_backward"),
        autocast="widest",
        triton="medkern.kernels.haar:haar_max_concat_backward",
    )
)

"""What follows the spectral convolution in a Fourier layer, on Triton: act(k + W x + b) + x.

    s = k + W x + b,  y = act(s) + x,  d_k = g act'(s),  d_x = W^T d_k + g,
    d_W = sum d_k x^T,  d_b = sum d_k  over samples and pixels

see csrc/core/fourier_epilogue.hpp, whose definition this is.

`epilogue_product_kernel` takes a tile of outputs and pixels through the product and all that
follows. `epilogue_bwd_kernel` does the whole backward in one pass where a program can hold all
channels, up to 32 of each: it goes through the tiles of its part of the pixels and leaves one sum
for each weight. Of more channels, the product kernel makes d_k, then d_x with W transposed, and the
backward kernel, given d_k, sums only.

Shapes:      k, y [B, outputs, pixels], x [B, inputs, pixels], W [outputs, inputs], b [outputs].
Strides:     any of batch, channel and pixel, channels_last among them; a space that has no single
             stride is copied first. Results are contiguous.
Arithmetic:  float16, bfloat16 and float32 in float32, float64 in float64. Products of float32 are
             exact ones (no TF32); halves fit TF32 and take tensor cores, the float32 factor in
             parts, three products each, to 22 bits. Sums over pixels: in this type within a tile,
             in float64 over tiles and over parts, whose number depends on shapes alone.
Cost:        forward reads k and x, writes y; backward reads k, x and g, writes d_k and d_x, and
             (inputs + 1) outputs float64 numbers for each of at most 256 parts. Of more channels it
             also writes and reads d_k, in float32 if half, and reads x and g again. No atomics.
Source:      Drozdov and Sorokin, "FNOReg", section 3.

`LAUNCHERS` take what the ops in medkern/ops/fourier_epilogue.py take, and allocate as their fakes.
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
from medkern.kernels._normal import gelu, gelu_slope
from medkern.kernels._runtime import NAMES, jit, tl, triton, why_not  # noqa: F401

MOST_PARTS, MOST_SUMS = 256, 2**22
# Numbers for which Triton compiles no special cases.
_PLAIN = ("tiles", "parts")


@jit()
def _load(pointer, at, here, ACC: tl.constexpr):
    return tl.load(pointer + at, mask=here, other=0).to(ACC)


@jit()
def _place(sample, channel, pixel, batch_stride, channel_stride, pixel_stride):
    """Offsets of channels [C, 1] and pixels [1, P]."""
    return sample * batch_stride + (channel * channel_stride + pixel * pixel_stride)


@jit()
def _range(first, BLOCK: tl.constexpr):
    return tl.cast(first, tl.int64) + tl.arange(0, BLOCK)


@jit()
def epilogue_product_kernel(
    x,
    weight,
    bias,
    k,
    other,
    y,
    wide,
    inputs,
    outputs,
    pixels,
    x_batch,
    x_channel,
    x_pixel,
    weight_row,
    weight_column,
    bias_stride,
    k_batch,
    k_channel,
    k_pixel,
    other_batch,
    other_channel,
    other_pixel,
    LAST: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """y = s + other, s = W x + (k + b); LAST "gelu": GELU(s) + other; "slope": GELU'(s) other.

    All but x and W are optional. wide: y once more, in the compute type.
    """
    program = tl.program_id(0).to(tl.int64)
    output_blocks = (outputs + (BLOCK_O - 1)) // BLOCK_O
    pixel_blocks = (tl.cast(pixels, tl.int64) + (BLOCK_P - 1)) // BLOCK_P
    tile = program // output_blocks
    sample = tile // pixel_blocks
    o = _range(program % output_blocks * BLOCK_O, BLOCK_O)[:, None]
    p = _range(tile % pixel_blocks * BLOCK_P, BLOCK_P)[None, :]
    here = (o < outputs) & (p < pixels)
    s = tl.zeros([BLOCK_O, BLOCK_P], ACC)
    for first in range(0, inputs, BLOCK_I):
        i = _range(first, BLOCK_I)
        column = i[None, :]
        row = i[:, None]
        weight_at = o * weight_row + column * weight_column
        w = _load(weight, weight_at, (o < outputs) & (column < inputs), ACC)
        x_at = _place(sample, row, p, x_batch, x_channel, x_pixel)
        value = _load(x, x_at, (row < inputs) & (p < pixels), ACC)
        s = tl.dot(w, value, s, input_precision=PRECISION, out_dtype=ACC)
    if bias is not None:
        s += _load(bias, o * bias_stride, o < outputs, ACC)
    if k is not None:
        s += _load(k, _place(sample, o, p, k_batch, k_channel, k_pixel), here, ACC)
    if LAST == "gelu":
        s = gelu(s, ACC.primitive_bitwidth)
    if other is not None:
        at = _place(sample, o, p, other_batch, other_channel, other_pixel)
        value = _load(other, at, here, ACC)
        if LAST == "slope":
            s = value * gelu_slope(s, ACC.primitive_bitwidth)
        else:
            s += value
    at = (sample * outputs + o) * pixels + p
    tl.store(y + at, s, mask=here)
    if wide is not None:
        tl.store(wide + at, s, mask=here)


@jit(do_not_specialize=_PLAIN)
def epilogue_bwd_kernel(
    x,
    weight,
    bias,
    k,
    grad,
    d_k,
    d_x,
    d_weight,
    d_bias,
    inputs,
    outputs,
    pixels,
    tiles,
    parts,
    x_batch,
    x_channel,
    x_pixel,
    weight_row,
    weight_column,
    bias_stride,
    k_batch,
    k_channel,
    k_pixel,
    grad_batch,
    grad_channel,
    grad_pixel,
    RESIDUAL: tl.constexpr,
    ACC: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Sums of a part: d_weight [parts, outputs, inputs], d_bias [parts, outputs].

    k: of the GELU, None without one. d_k, d_x: None, and then grad is d_k; else a block holds all
    channels.
    """
    program = tl.program_id(0).to(tl.int64)
    input_blocks = (inputs + (BLOCK_I - 1)) // BLOCK_I
    blocks = (outputs + (BLOCK_O - 1)) // BLOCK_O * input_blocks
    part = program // blocks
    block = program % blocks
    first_input = block % input_blocks * BLOCK_I
    o = _range(block // input_blocks * BLOCK_O, BLOCK_O)[:, None]
    i = _range(first_input, BLOCK_I)[:, None]
    column = _range(first_input, BLOCK_I)[None, :]
    weight_here = (o < outputs) & (column < inputs)
    if d_x is not None:
        w = _load(weight, o * weight_row + column * weight_column, weight_here, ACC)
    if bias is not None:
        b = _load(bias, o * bias_stride, o < outputs, ACC)
    pixel_blocks = (tl.cast(pixels, tl.int64) + (BLOCK_P - 1)) // BLOCK_P
    of_weights = tl.zeros([BLOCK_O, BLOCK_I], tl.float64)
    of_biases = tl.zeros([BLOCK_O, 1], tl.float64)
    for tile in range(part * tiles // parts, (part + 1) * tiles // parts):
        sample = tile // pixel_blocks
        p = _range((tile - sample * pixel_blocks) * BLOCK_P, BLOCK_P)[None, :]
        here = (o < outputs) & (p < pixels)
        x_here = (i < inputs) & (p < pixels)
        value = _load(x, _place(sample, i, p, x_batch, x_channel, x_pixel), x_here, ACC)
        grad_at = _place(sample, o, p, grad_batch, grad_channel, grad_pixel)
        slope = _load(grad, grad_at, here, ACC)
        if k is not None:
            s = tl.dot(w, value, input_precision=PRECISION, out_dtype=ACC)
            if bias is not None:
                s += b
            s += _load(k, _place(sample, o, p, k_batch, k_channel, k_pixel), here, ACC)
            # Where there is nothing, an infinite x would leave NaN.
            slope = tl.where(here, slope * gelu_slope(s, ACC.primitive_bitwidth), 0)
        if d_k is not None:
            tl.store(d_k + ((sample * outputs + o) * pixels + p), slope, mask=here)
        if d_x is not None:
            back = tl.dot(tl.trans(w), slope, input_precision=PRECISION, out_dtype=ACC)
            if RESIDUAL:
                back += _load(grad, grad_at, here, ACC)
            tl.store(d_x + ((sample * inputs + i) * pixels + p), back, mask=x_here)
        products = tl.dot(slope, tl.trans(value), input_precision=PRECISION, out_dtype=ACC)
        of_weights += products.to(tl.float64)
        of_biases += tl.sum(slope, 1)[:, None].to(tl.float64)
    row = part * outputs + o
    tl.store(d_weight + (row * inputs + column), of_weights, mask=weight_here)
    tl.store(d_bias + row, of_biases, mask=o < tl.where(first_input == 0, outputs, 0))


class Config(NamedTuple):
    """What a program takes at once, and with how many warps of 32 threads."""

    outputs: int
    inputs: int
    pixels: int
    warps: int
    stages: int = 2


def _block(channels: int, most: int) -> int:
    """A power of two from 16, the least that a product of tiles takes in every Triton."""
    return min(max(triton.next_power_of_2(channels), 16), most)


def product_config(inputs: int, outputs: int, dtype: torch.dtype) -> Config:
    double = dtype == torch.float64
    return Config(_block(outputs, 32 if double else 64), 16, 32 if double else 64, 4)


def backward_config(inputs: int, outputs: int, dtype: torch.dtype) -> Config:
    """All channels in a block, up to the 32 that registers hold beside three products of tiles."""
    block_o, block_i = _block(outputs, 32), _block(inputs, 32)
    area, warps = {2: (512, 4), 4: (1024, 8), 8: (256, 4)}[dtype.itemsize]
    return Config(block_o, block_i, max(area // max(block_o, block_i), 16), warps)


def _rows(t: Tensor) -> Tensor:
    """[B, C, pixels]; a copy where the pixels have no single stride."""
    try:
        return t.view(*t.shape[:2], -1)
    except RuntimeError:
        return t.contiguous().view(*t.shape[:2], -1)


def _strides(name: str, t: Tensor | None) -> dict[str, int]:
    strides = (0, 0, 0) if t is None else t.stride()
    axes = ("batch", "channel", "pixel")
    return {f"{name}_{axis}": stride for axis, stride in zip(axes, strides, strict=True)}


def _weights(weight: Tensor, bias: Tensor | None) -> dict[str, int]:
    row, column = weight.stride()
    stride = 0 if bias is None else bias.stride(0)
    return {"weight_row": row, "weight_column": column, "bias_stride": stride}


class Call(NamedTuple):
    """A launch: number of programs, and arguments and options by name."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    options: dict[str, Any]

    def launch(self, on: Tensor) -> None:
        with torch.cuda.device_of(on):
            self.kernel[(self.programs,)](**self.arguments, **self.options)


def _options(config: Config, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "ACC": tl.float64 if dtype == torch.float64 else tl.float32,
        "PRECISION": "tf32x3" if dtype.itemsize == 2 else "ieee",
        "BLOCK_O": config.outputs,
        "BLOCK_I": config.inputs,
        "BLOCK_P": config.pixels,
        "num_warps": config.warps,
        "num_stages": config.stages,
    }


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: Tensor | None,
    other: Tensor | None,
    y: Tensor,
    wide: Tensor | None,
    last: str,
    dtype: torch.dtype,
    config: Config | None = None,
) -> Call:
    """Of tensors [B, C, pixels]; without any of the weight's columns, of no product."""
    (outputs, inputs), (batch, _, pixels) = weight.shape, y.shape
    config = config or product_config(inputs, outputs, dtype)
    tensors = {"x": x, "weight": weight, "bias": bias, "k": k, "other": other, "y": y}
    numbers = {"inputs": inputs, "outputs": outputs, "pixels": pixels, **_strides("x", x)}
    numbers |= {**_weights(weight, bias), **_strides("k", k), **_strides("other", other)}
    programs = batch * -(-pixels // config.pixels) * -(-outputs // config.outputs)
    options = {"LAST": last, **_options(config, dtype)}
    return Call(epilogue_product_kernel, programs, {**tensors, "wide": wide, **numbers}, options)


class Sums(NamedTuple):
    """How the sums over pixels are cut: tiles of all samples, into parts, each with its own sums.

    A part has four tiles at least, and all sums together take 32 MB, or there is one part.
    """

    tiles: int
    parts: int

    @staticmethod
    def of(batch: int, inputs: int, outputs: int, pixels: int, config: Config) -> Sums:
        tiles = batch * -(-pixels // config.pixels)
        parts = min(MOST_PARTS, MOST_SUMS // (outputs * (inputs + 1)), -(-tiles // 4))
        return Sums(tiles, max(parts, 1))


def backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: Tensor | None,
    grad: Tensor,
    d_k: Tensor | None,
    d_x: Tensor | None,
    residual: bool,
    dtype: torch.dtype,
    config: Config | None = None,
) -> Call:
    """Of tensors [B, C, pixels]; d_weight and d_bias, the sums of every part, are its arguments."""
    (outputs, inputs), (batch, _, pixels) = weight.shape, x.shape
    config = config or backward_config(inputs, outputs, dtype)
    tiles, parts = Sums.of(batch, inputs, outputs, pixels, config)
    d_weight = x.new_empty((parts, outputs, inputs), dtype=torch.float64)
    d_bias = x.new_empty((parts, outputs), dtype=torch.float64)
    tensors = {"x": x, "weight": weight, "bias": bias, "k": k, "grad": grad, "d_k": d_k, "d_x": d_x}
    tensors |= {"d_weight": d_weight, "d_bias": d_bias}
    numbers = {"inputs": inputs, "outputs": outputs, "pixels": pixels}
    numbers |= {"tiles": tiles, "parts": parts, **_strides("x", x)}
    numbers |= {**_weights(weight, bias), **_strides("k", k), **_strides("grad", grad)}
    programs = parts * -(-outputs // config.outputs) * -(-inputs // config.inputs)
    options = {"RESIDUAL": residual, **_options(config, dtype)}
    return Call(epilogue_bwd_kernel, programs, {**tensors, **numbers}, options)


def _check(
    k: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, residual: bool, grad: Tensor
) -> None:
    _runtime.check("fourier_epilogue", k, x, weight, bias, grad)
    outputs, inputs = k.shape[1], x.shape[1]
    fits = x.shape[:1] + x.shape[2:] == k.shape[:1] + k.shape[2:] and grad.shape == k.shape
    fits = fits and tuple(weight.shape) == (outputs, inputs) and (outputs == inputs or not residual)
    if not fits or (bias is not None and tuple(bias.shape) != (outputs,)):
        shapes = ", ".join(str(tuple(t.shape)) for t in (k, x, weight))
        raise ValueError(f"medkern.kernels.fourier_epilogue: shapes do not fit: {shapes}")


def fourier_epilogue(
    k: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, residual: bool
) -> Tensor:
    _check(k, x, weight, bias, residual, k)
    dtype = torch.promote_types(k.dtype, x.dtype)
    y = k.new_empty(k.shape, dtype=dtype)
    if y.numel() > 0:
        of_k, of_x = _rows(k), _rows(x)
        skip = of_x if residual else None
        call = product(of_x, weight, bias, of_k, skip, y.flatten(2), None, activation, dtype)
        call.launch(k)
    return y


def fourier_epilogue_backward(
    grad: Tensor,
    k: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(k, x, weight, bias, residual, grad)
    dtype = torch.promote_types(k.dtype, x.dtype)
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    d_k, d_x = k.new_empty(k.shape, dtype=dtype), x.new_empty(x.shape, dtype=dtype)
    if d_k.numel() == 0:
        zeros = weight.new_zeros(weight.shape, dtype=compute)
        return d_k, d_x, zeros, zeros.new_zeros(weight.shape[0])
    of_k = _rows(k) if activation == "gelu" else None
    tensors = (_rows(grad), of_k, _rows(x), weight, bias, d_k.flatten(2), d_x.flatten(2))
    *_, last = calls = backward_calls(*tensors, residual, dtype)
    for call in calls:
        call.launch(k)
    d_weight, d_bias = (last.arguments[name].sum(0) for name in ("d_weight", "d_bias"))
    return d_k, d_x, d_weight.to(compute), d_bias.to(compute)


def backward_calls(
    grad: Tensor,
    k: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    d_k: Tensor,
    d_x: Tensor,
    residual: bool,
    dtype: torch.dtype,
) -> list[Call]:
    """One launch, or three of more channels than a program holds; the last one has the sums."""
    outputs, inputs = weight.shape
    config = backward_config(inputs, outputs, dtype)
    if outputs <= config.outputs and inputs <= config.inputs:
        return [backward(x, weight, bias, k, grad, d_k, d_x, residual, dtype)]
    copy = None if dtype.itemsize > 2 else d_k.new_empty(d_k.shape, dtype=torch.float32)
    wide = d_k if copy is None else copy
    if k is None:
        first = product(x, weight[:, :0], None, None, grad, d_k, copy, "none", dtype)
    else:
        first = product(x, weight, bias, k, grad, d_k, copy, "slope", dtype)
    skip = grad if residual else None
    return [
        first,
        product(wide, weight.T, None, None, skip, d_x, None, "none", dtype),
        backward(x, weight, None, None, wide, None, None, False, dtype, Config(32, 32, 32, 4)),
    ]


# The kernel of each registered op, with the very arguments of the op.
LAUNCHERS: dict[str, Callable[..., Any]] = {
    "fourier_epilogue": fourier_epilogue,
    "_fourier_epilogue_backward": fourier_epilogue_backward,
}


class Case(NamedTuple):
    """A call of which a kernel is worth compiling ahead of time; see `variant`."""

    dtype: torch.dtype
    inputs: int
    outputs: int
    pixels: int = 128 * 128
    launch: int | None = None  # of the backward; None: forward


_ODD_PLANE = 33 * 35

AOT_VARIANTS: dict[str, Case] = {
    "fwd": Case(torch.float32, 64, 64),
    "fwd-bf16": Case(torch.bfloat16, 64, 64),
    "fwd-odd-double": Case(torch.float64, 33, 70, _ODD_PLANE),
    "bwd": Case(torch.float32, 32, 32, launch=0),
    "bwd-odd-half": Case(torch.float16, 32, 32, _ODD_PLANE, launch=0),
    "bwd-double": Case(torch.float64, 32, 32, launch=0),
    "bwd-sums-half": Case(torch.float16, 64, 64, launch=2),
}


def variant(case: Case) -> Variant:
    """What Triton would compile for that call of the launchers."""
    compute = torch.float64 if case.dtype == torch.float64 else torch.float32
    weight = torch.empty(case.outputs, case.inputs, dtype=compute, device="meta")
    x, k = (
        torch.empty(8, channels, case.pixels, dtype=case.dtype, device="meta")
        for channels in (case.inputs, case.outputs)
    )
    bias, residual = weight.new_empty(case.outputs), case.inputs == case.outputs
    if case.launch is None:
        call = product(x, weight, bias, k, x if residual else None, k, None, "gelu", case.dtype)
    else:
        calls = backward_calls(k, k, x, weight, bias, k, x, residual, case.dtype)
        call = calls[case.launch]
    constexprs, signature, aligned = dict(call.options), {}, []
    cut = {name: constexprs.pop(name) for name in ("num_warps", "num_stages")}
    for name in call.kernel.arg_names[: len(call.arguments)]:
        value = call.arguments[name]
        if value is None or (isinstance(value, int) and value == 1 and name not in _PLAIN):
            constexprs[name] = value
            continue
        if isinstance(value, Tensor):
            signature[name] = "*" + NAMES[value.dtype]
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
        if isinstance(value, Tensor) or (value % 16 == 0 and name not in _PLAIN):
            aligned.append(name)
    return Variant(call.kernel, signature, constexprs, tuple(aligned), cut)

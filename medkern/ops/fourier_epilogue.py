"""What follows the spectral convolution in a Fourier layer, fused: act(k + W x + b) + x.

Source: Drozdov and Sorokin, "FNOReg", section 3; Hendrycks and Gimpel, "Gaussian error linear
units", 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from medkern._registry import Op, OpSpec, Sample, register
from medkern.interop import ArrayT, as_tensor, dtype_name
from medkern.ops._by_reference import beyond_first_order, pull_back, push_forward
from medkern.reference import fourier_epilogue as reference
from medkern.rules import choice, message
from medkern.rules import fourier_epilogue as rules
from medkern.testing import image_layouts


def fourier_epilogue(
    k: ArrayT,
    x: ArrayT,
    weight: ArrayT,
    bias: ArrayT | None = None,
    *,
    activation: str = "gelu",
    residual: bool = True,
    backend: str | None = None,
) -> ArrayT:
    """act(k + W x + b) + x in one pass: a 1x1 convolution, two sums, the activation, the residual.

    Args:
        k: [B, C_out, *space], the result of the spectral convolution; any number of spatial axes.
            float16, bfloat16 (both computed in float32), float32 or float64.
        x: [B, C_in, *space], the input of the layer.
        weight: [C_out, C_in], W; computed in float64 where k or x is float64, else in float32.
        bias: [C_out], b.
        activation: "gelu": s Phi(s), exact, as `torch.nn.GELU()`. "none".
        residual: whether x is added after the activation; needs C_in = C_out.
        backend: "native" or "reference"; None lets medkern choose.

    Returns:
        [B, C_out, *space], contiguous, in the dtype of k and x (the wider one if they differ);
        autocast does not change it.

    Raises:
        ValueError, TypeError: a bad argument; nothing has been computed.

    The GELU is right to 7 units in the last place, in its lower tail too. NaN stays in its pixel;
    of an infinite sum the GELU is inf, or NaN if negative, as torch's in float64. An empty batch or
    space gives an empty result. Gradients of any order: the first is a kernel that reads k and x
    again, and nothing else is saved; later ones are torch's of the reference. Results and gradients
    do not depend on the number of threads.

    Peak memory: the result. The backward: the gradients, and sums of at most 32 MB, or of C_out
    (C_in + 1) float64 numbers if these are more. k and x are copied where the pixels of a channel
    are not next to each other, as in channels_last.

    >>> import torch, medkern as mk
    >>> k, x = torch.zeros(1, 1, 3), torch.tensor([[[-1.0, 0.0, 1.0]]])
    >>> mk.fourier_epilogue(k, x, torch.eye(1))  # GELU(x) + x
    tensor([[[-1.1587,  0.0000,  1.8413]]])
    >>> mk.fourier_epilogue(k, x, 2 * torch.eye(1), torch.ones(1), activation="none")
    tensor([[[-2.,  1.,  4.]]])
    """
    op = rules.OP
    choice(op, "activation", activation, rules.ACTIVATIONS)
    of_k, restore = as_tensor(op, "k", k)
    of_x, _ = as_tensor(op, "x", x)
    w, _ = as_tensor(op, "weight", weight)
    b = None if bias is None else as_tensor(op, "bias", bias)[0]
    for name, t in (("k", of_k), ("x", of_x), ("weight", w), ("bias", b)):
        if t is not None:
            _check_kind(name, t, of_k.device)
    b_shape = None if b is None else b.shape
    rules.check_shapes(of_k.shape, of_x.shape, w.shape, b_shape, residual)
    compute = _compute_dtype(of_k, of_x)
    b = None if b is None else b.to(compute)
    args = (of_k, of_x, w.to(compute), b, activation, residual)
    return restore(_fourier_epilogue(*args, backend=backend))


def _check_kind(name: str, t: Tensor, device: torch.device) -> None:
    if t.dtype not in _fourier_epilogue.spec.dtypes:
        rule = f"be one of {', '.join(map(dtype_name, _fourier_epilogue.spec.dtypes))}"
        remedy = f"convert it, for example {name}.float()"
        raise TypeError(message(rules.OP, name, rule, dtype_name(t.dtype), remedy))
    if t.device != device:
        rule = f"be on the device of k, {device}"
        raise ValueError(message(rules.OP, name, rule, t.device, "move one of them"))


def _compute_dtype(k: Tensor, x: Tensor) -> torch.dtype:
    wide = torch.float64 in (k.dtype, x.dtype)
    return torch.float64 if wide else torch.float32


def _fake_epilogue(
    k: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, residual: bool
) -> Tensor:
    return k.new_empty(k.shape, dtype=torch.promote_types(k.dtype, x.dtype))


def _fake_backward(
    grad: Tensor,
    k: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype, compute = torch.promote_types(k.dtype, x.dtype), _compute_dtype(k, x)
    return (
        k.new_empty(k.shape, dtype=dtype),
        x.new_empty(x.shape, dtype=dtype),
        weight.new_empty(weight.shape, dtype=compute),
        weight.new_empty(weight.shape[:1], dtype=compute),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.activation, ctx.residual = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    k, x, weight, bias = tensors = ctx.saved_tensors
    args = (*tensors, ctx.activation, ctx.residual)
    if beyond_first_order():
        return pull_back(_outputs, args, (grad,))
    d_k, d_x, d_weight, d_bias = _fourier_epilogue_backward(grad, *args)
    return (
        d_k.to(k.dtype),
        d_x.to(x.dtype),
        d_weight.to(weight.dtype),
        None if bias is None else d_bias.to(bias.dtype),
        None,
        None,
    )


def _jvp(ctx: Any, *tangents: Any) -> Tensor:
    args = (*ctx.saved_tensors, ctx.activation, ctx.residual)
    found: Tensor = push_forward(_outputs, args, tangents, 1)[0]
    return found


def _outputs(*args: Any) -> tuple[Tensor]:
    return (reference.fourier_epilogue(*args),)


def _samples(dtype: torch.dtype) -> Iterator[Sample]:
    """Every layout of k and x; with and without a bias, an activation and a residual."""
    generator = torch.Generator().manual_seed(5)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    left_out = ("wide", "batch-transposed", "channels_last-many", "empty-channels", "volume")
    layouts = [one for one in image_layouts(dtype) if one[0] not in left_out]
    for i, (name, k, _) in enumerate(layouts):
        outputs = k.shape[1]
        inputs = outputs if i % 3 else max(1, outputs - 1)
        x = k.flip(1)[:, :inputs]
        weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64).to(wide)
        bias = torch.randn(outputs, generator=generator).to(wide) if i % 4 else None
        activation = "none" if i % 5 == 2 else "gelu"
        yield Sample(name, (k, x, weight, bias, activation, outputs == inputs and i % 4 != 1))


def _backward_samples(dtype: torch.dtype) -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(6)
    for sample in _samples(dtype):
        shape = sample.args[0].shape
        grad = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        yield Sample(sample.name, (grad, *sample.args))


_fourier_epilogue: Op = register(
    OpSpec(
        name="fourier_epilogue",
        schema="(Tensor k, Tensor x, Tensor weight, Tensor? bias, str activation, bool residual)"
        " -> Tensor",
        reference=reference.fourier_epilogue,
        fake=_fake_epilogue,
        samples=_samples,
        setup_context=_remember,
        backward=_backward,
        jvp=_jvp,
        fold=False,
        fused=True,
        triton="medkern.kernels.fourier_epilogue:fourier_epilogue",
    )
)
_fourier_epilogue_backward: Op = register(
    OpSpec(
        name="_fourier_epilogue_backward",
        schema="(Tensor grad, Tensor k, Tensor x, Tensor weight, Tensor? bias, str activation, "
        "bool residual) -> (Tensor, Tensor, Tensor, Tensor)",
        reference=reference.fourier_epilogue_backward,
        fake=_fake_backward,
        samples=_backward_samples,
        fold=False,
        fused=True,
        triton="medkern.kernels.fourier_epilogue:fourier_epilogue_backward",
    )
)

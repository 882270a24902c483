"""What follows the spectral convolution in a Fourier layer: act(k + W x + b) + x.

Drozdov and Sorokin, "FNOReg", section 3. Half precision is computed in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fourier_epilogue(
    k: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, residual: bool
) -> Tensor:
    """act(k + W x + b) + x; k [B, C_out, *space], x [B, C_in, *space], weight [C_out, C_in]."""
    dtype = torch.promote_types(k.dtype, x.dtype)
    x = widen(x, dtype)
    y = pre_activation(widen(k, dtype), x, weight, bias)
    if activation == "gelu":
        y = torch.nn.functional.gelu(y)
    return (y + x if residual else y).to(dtype)


def fourier_epilogue_backward(
    grad: Tensor,
    k: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of k, x, weight and bias."""
    dtype = torch.promote_types(k.dtype, x.dtype)
    x, grad = widen(x, dtype), widen(grad, dtype)
    d_k = grad
    if activation == "gelu":
        d_k = grad * gelu_slope(pre_activation(widen(k, dtype), x, weight, bias))
    rows, columns = d_k.flatten(2), x.flatten(2)
    d_weight = torch.einsum("bop,bip->oi", rows, columns)
    d_x = torch.einsum("oi,bo...->bi...", weight.to(d_k.dtype), d_k)
    d_x = d_x + grad if residual else d_x
    return d_k.to(dtype), d_x.to(dtype), d_weight, rows.sum((0, 2))


def pre_activation(k: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    s = k + torch.einsum("oi,bi...->bo...", weight.to(x.dtype), x)
    return s if bias is None else s + bias.to(s.dtype).view(-1, *[1] * (s.dim() - 2))


def gelu_slope(s: Tensor) -> Tensor:
    """Phi(s) + s phi(s); of an infinite s the limit."""
    bounded = s.clamp(-40, 40)
    density = torch.exp(-(bounded**2) / 2) / math.sqrt(2 * math.pi)
    slope: Tensor = torch.special.erfc(-s / math.sqrt(2)) / 2 + bounded * density
    return slope


def widen(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.to(torch.float32 if dtype.itemsize == 2 else dtype)

"""Layers of Fourier neural operators: spectral convolutions and what is built of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medkern.nn.tucker import TuckerWeight
from medkern.ops.fourier_epilogue import fourier_epilogue
from medkern.ops.spectral import hartley_conv, spectral_conv
from medkern.rules import choice, message
from medkern.rules import spectral as rules

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SpectralConv(nn.Module):
    """`spectral_conv` with its weights, in 1-D, 2-D or 3-D: one layer for all resolutions.

    Args:
        in_channels, out_channels: C_in, C_out.
        modes: kept modes per axis; their number makes the layer 1-D, 2-D or 3-D.
        count: how `modes` counts. "kept": as `spectral_conv`, the last axis its non-negative modes.
            "total": both signs everywhere, as k_max in the FNOReg paper. "neuraloperator": as
            n_modes there. "per_sign": as modes1, modes2 in the first FNO.
        bias: whether to add a number per channel.
        norm, method: as for `spectral_conv`.
        factorization: None for dense weights, "tucker" for a core and a complex factor per axis,
            from which the weights are made in every step (in eval mode without gradients, once).
        rank: of "tucker": the share of the dense number of parameters.
        init_std: root mean square of a complex weight; None means 1 / (C_in C_out).
        device, dtype: of the parameters; real, float32 by default.

    Parameters are real, complex numbers being a last axis of 2: `weight` [C_in, C_out, *kept, 2],
    `bias` [C_out]. Optimisers, mixed precision and distributed training see nothing unusual.

    >>> import torch, medkern as mk
    >>> layer = mk.nn.SpectralConv(3, 8, modes=(12, 12), count="per_sign")
    >>> layer(torch.randn(2, 3, 64, 65)).shape
    torch.Size([2, 8, 64, 65])
    >>> layer(torch.randn(2, 3, 64, 65), output_size=(128, 130)).shape
    torch.Size([2, 8, 128, 130])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        *,
        count: str = "kept",
        bias: bool = True,
        norm: str = "backward",
        method: str = "auto",
        factorization: str | None = None,
        rank: float = 0.42,
        init_std: float | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        op = "SpectralConv"
        choice(op, "norm", norm, rules.NORMS)
        choice(op, "method", method, rules.METHODS)
        choice(op, "factorization", factorization, (None, "tucker"))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.modes = rules.kept_modes(op, modes, count)
        self.norm, self.method = norm, method
        self.init_std = 1 / (in_channels * out_channels) if init_std is None else init_std
        shape = (in_channels, out_channels, *self.modes)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight: nn.Parameter | TuckerWeight
        if factorization is None:
            self.weight = nn.Parameter(torch.empty(*shape, 2, **made))
        else:
            self.weight = TuckerWeight(shape, rank, **made)
        self.bias = nn.Parameter(torch.empty(out_channels, **made)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if isinstance(self.weight, TuckerWeight):
            self.weight.reset_parameters(self.init_std)
        else:
            nn.init.normal_(self.weight, std=self.init_std / math.sqrt(2))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def dense_weight(self) -> Tensor:
        """[C_in, C_out, *kept, 2], made of the factors if there are."""
        made: Tensor = self.weight() if isinstance(self.weight, TuckerWeight) else self.weight
        return made

    def forward(
        self, x: Tensor, output_size: Sequence[int] | None = None, *, add_bias: bool = True
    ) -> Tensor:
        """`spectral_conv` of x; `add_bias=False` leaves the bias to the caller."""
        return spectral_conv(
            x,
            self.dense_weight(),
            self.modes,
            bias=self.bias if add_bias else None,
            norm=self.norm,
            method=self.method,
            output_size=output_size,
        )

    @torch.no_grad()
    def load_neuraloperator(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Take the weights of a neuraloperator `SpectralConv`, dense or Tucker, from a state dict.

        Args:
            state: the state dict of that layer, or of a model that has it.
            prefix: the name of the layer in the model with a dot, for example
                "fno_blocks.convs.0.".

        Build this layer with `count="neuraloperator"` and that layer's n_modes; a Tucker checkpoint
        becomes dense weights unless this layer has the same ranks. The layers then agree to
        rounding on even sizes; on odd ones neuraloperator 2.0.0 is wrong.

        Raises:
            ValueError: the checkpoint is of another shape or kind; nothing has been loaded.
        """
        op = "SpectralConv.load_neuraloperator"
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if any(m % 2 for m in self.modes[:-1]):
            rule = "be even along full axes, where neuraloperator keeps another mode"
            raise ValueError(message(op, "modes", rule, self.modes, "there is no equivalent layer"))
        core, factors = found.get("weight.core"), _factors_of(found)
        dense = found.get("weight.tensor", found.get("weight"))
        if core is not None:
            dense = TuckerWeight.product(as_real(core), [as_real(f) for f in factors])
        if dense is None:
            rule = "hold weight.tensor, weight.core or weight under the prefix"
            raise ValueError(message(op, "state", rule, sorted(found), "check the prefix"))
        dense, expected = as_real(dense), (self.in_channels, self.out_channels, *self.modes, 2)
        if dense.shape != expected:
            rule = f"have weights {expected[:-1]}"
            remedy = "build this layer with count='neuraloperator' and the same n_modes"
            raise ValueError(message(op, "state", rule, tuple(dense.shape[:-1]), remedy))
        offset = found.get("bias")
        if (offset is None) != (self.bias is None):
            rule = f"{'not ' if self.bias is None else ''}hold a bias"
            raise ValueError(message(op, "state", rule, sorted(found), "build with bias to match"))
        if isinstance(self.weight, TuckerWeight):
            self.weight.load(core, factors, op)
        else:
            self.weight.copy_(dense)
        if self.bias is not None and offset is not None:
            self.bias.copy_(offset.reshape(-1))

    def extra_repr(self) -> str:
        shape = f"{self.in_channels}, {self.out_channels}, modes={self.modes}"
        return f"{shape}, norm={self.norm!r}, method={self.method!r}, bias={self.bias is not None}"


def as_real(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


def _factors_of(state: Mapping[str, Tensor]) -> list[Tensor]:
    names = [f"weight.factors.factor_{i}" for i in range(5)]
    return [state[name] for name in names if name in state]


class FourierLayer(nn.Module):
    """GELU(K x + W x + b) + x: spectral convolution K with bias b, and a 1x1 convolution W.

    Args:
        channels: C, in and out.
        modes: of K.
        activation: a module; None means GELU, torch.nn.Identity() is none.
        residual: whether x is added after the activation (FNOReg) or not (the first FNO).
        options: of `SpectralConv`.

    All after K is `medkern.fourier_epilogue` where the activation is the exact GELU or none, and
    torch's ops otherwise.

    >>> import torch, medkern as mk
    >>> mk.nn.FourierLayer(8, (12, 6))(torch.randn(1, 8, 32, 40)).shape
    torch.Size([1, 8, 32, 40])
    """

    def __init__(
        self,
        channels: int,
        modes: Sequence[int],
        *,
        activation: nn.Module | None = None,
        residual: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.spectral = SpectralConv(channels, channels, modes, **options)
        made = {k: v for k, v in options.items() if k in ("device", "dtype")}
        conv = _CONVS[len(self.spectral.modes) - 1]
        self.pointwise = conv(channels, channels, 1, bias=False, **made)
        self.activation = nn.GELU() if activation is None else activation
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        activation = self._fused_activation()
        if activation is None:
            y: Tensor = self.activation(self.spectral(x) + self.pointwise(x))
            return y + x if self.residual else y
        k: Tensor = self.spectral(x, add_bias=False)  # the epilogue adds it at no cost
        w, b = self.pointwise.weight.flatten(1), self.spectral.bias
        return fourier_epilogue(k, x, w, b, activation=activation, residual=self.residual)

    def _fused_activation(self) -> str | None:
        """What the epilogue calls the activation, where it computes what these modules do."""
        if type(self.spectral) is not SpectralConv or type(self.pointwise) not in _CONVS:
            return None  # replaced, for example by a quantized or an adapted one
        if any(m._forward_hooks or m._forward_pre_hooks for m in (self.spectral, self.pointwise)):
            return None  # which expect to see whole results
        if type(self.activation) is nn.Identity:
            return "none"
        exact = type(self.activation) is nn.GELU and self.activation.approximate == "none"
        return "gelu" if exact else None

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


class HartleyConv(nn.Module):
    """`hartley_conv` with its real weights: half the parameters of a spectral convolution.

    Args:
        in_channels, out_channels: C_in, C_out.
        modes, count: as for `SpectralConv`.
        weights: "shared": one matrix [C_in, C_out] for all modes. "individual": one per mode and
            sign [C_in, C_out, *kept, 2].
        bias: whether to add a number per channel.
        method: as for `spectral_conv`.
        device, dtype: of the parameters.

    Source: Wong et al., "HNOSeg", 2023; HartleyMHA, 2023.

    >>> import torch, medkern as mk
    >>> layer = mk.nn.HartleyConv(2, 4, (6, 6, 4))
    >>> layer(torch.randn(1, 2, 12, 13, 14)).shape, layer.weight.shape
    (torch.Size([1, 4, 12, 13, 14]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        *,
        count: str = "kept",
        weights: str = "shared",
        bias: bool = False,
        method: str = "auto",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        choice("HartleyConv", "weights", weights, ("shared", "individual"))
        choice("HartleyConv", "method", method, rules.METHODS)
        self.modes = rules.kept_modes("HartleyConv", modes, count)
        self.method = method
        each = (*self.modes, 2) if weights == "individual" else ()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, *each, **made))
        self.bias = nn.Parameter(torch.empty(out_channels, **made)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[0] ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return hartley_conv(
            x,
            self.weight,
            self.modes,
            bias=self.bias,
            method=self.method,
            output_size=output_size,
        )

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, modes={self.modes}, bias={self.bias is not None}"

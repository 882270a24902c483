"""The global branch of fast Fourier convolutions: Fourier unit and spectral transform."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medkern.ops.spectral import fourier_planes, inverse_fourier_planes
from medkern.rules import choice, message
from medkern.rules import spectral as rules

PRESETS = ("fixed", "paper")
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _fft_axes(op: str, ndim: int, fft_dims: Sequence[int] | None, preset: str) -> tuple[int, ...]:
    """The spatial axes to transform, counted from the first spatial one."""
    choice(op, "ndim", ndim, (1, 2, 3))
    choice(op, "preset", preset, PRESETS)
    if fft_dims is None:
        # The authors' 2-D code transforms columns only, their 3-D code all axes.
        fft_dims = (-2,) if preset == "paper" and ndim == 2 else tuple(range(-ndim, 0))
    axes = tuple(sorted(fft_dims))
    if not axes or len(set(axes)) < len(axes) or not all(-ndim <= a < 0 for a in axes):
        rule = f"be different spatial axes from {-ndim} to -1"
        raise ValueError(message(op, "fft_dims", rule, fft_dims, "count axes from the last"))
    return tuple(a + ndim for a in axes)


class FourierUnit(nn.Module):
    """A 1x1 convolution, batch normalisation and ReLU of the whole spectrum.

    Args:
        in_channels, out_channels: C_in, C_out of [B, C, *space].
        ndim: number of spatial axes, 1 to 3.
        fft_dims: the axes to transform, negative, counted from the last; None means those of the
            preset.
        norm: of the transforms, "backward", "forward" or "ortho"; None means that of the preset.
        preset: "fixed": all axes, norm "forward", under which a spectrum does not depend on the
            resolution, so that batch statistics hold on others. "paper": as the authors' code, norm
            "ortho" and, in 2-D, columns only.

    Real and imaginary parts are neighbouring channels: 2c and 2c + 1.

    >>> import torch, medkern as mk
    >>> mk.nn.FourierUnit(4, 6)(torch.randn(2, 4, 10, 13)).shape
    torch.Size([2, 6, 10, 13])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int = 2,
        *,
        fft_dims: Sequence[int] | None = None,
        norm: str | None = None,
        preset: str = "fixed",
    ) -> None:
        super().__init__()
        self.axes = _fft_axes("FourierUnit", ndim, fft_dims, preset)
        self.ndim = ndim
        self.norm = norm or ("ortho" if preset == "paper" else "forward")
        choice("FourierUnit", "norm", self.norm, rules.NORMS)
        self.conv = _CONVS[ndim - 1](2 * in_channels, 2 * out_channels, 1)
        self.batch_norm = _BATCH_NORMS[ndim - 1](2 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != self.ndim + 2:
            rule = f"be [B, C, *space] with {self.ndim} spatial axes"
            raise ValueError(message("FourierUnit", "x", rule, tuple(x.shape), "set ndim"))
        dims = [a + 2 for a in self.axes]
        last = list(range(x.dim() - len(dims), x.dim()))
        moved = x.movedim(dims, last)  # [B, C, *rest, *size]
        planes = fourier_planes(moved, len(dims), self.norm)  # [B, C, *rest, *modes, 2]
        z = planes.movedim(-1, 2).flatten(1, 2)
        z = torch.relu(self.batch_norm(self.conv(z.to(x.dtype))))
        planes = z.unflatten(1, (-1, 2)).movedim(2, -1)
        size = moved.shape[moved.dim() - len(dims) :]
        y = inverse_fourier_planes(planes, size, self.norm, x.dtype)
        return y.movedim(last, dims)

    def extra_repr(self) -> str:
        return f"fft_dims={tuple(a - self.ndim for a in self.axes)}, norm={self.norm!r}"


class SpectralTransform(nn.Module):
    """r = ReLU(BN(conv x)); ReLU(BN(conv(r + FourierUnit(r)))), with half the channels in r.

    Args:
        in_channels, out_channels: C_in, C_out, the latter even.
        ndim, fft_dims, norm, preset: as for `FourierUnit`.

    Source: Chi et al., "Fast Fourier convolution", NeurIPS 2020; the layer that FNOReg puts before
    and after its Fourier layers.

    >>> import torch, medkern as mk
    >>> mk.nn.SpectralTransform(8, 8)(torch.randn(2, 8, 10, 12)).shape
    torch.Size([2, 8, 10, 12])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int = 2,
        *,
        fft_dims: Sequence[int] | None = None,
        norm: str | None = None,
        preset: str = "fixed",
    ) -> None:
        super().__init__()
        if out_channels % 2:
            rule = "be even"
            raise ValueError(
                message("SpectralTransform", "out_channels", rule, out_channels, "add one")
            )
        half = out_channels // 2
        self.unit = FourierUnit(half, half, ndim, fft_dims=fft_dims, norm=norm, preset=preset)
        conv, batch_norm = _CONVS[ndim - 1], _BATCH_NORMS[ndim - 1]
        self.reduce = nn.Sequential(
            conv(in_channels, half, 1, bias=False), batch_norm(half), nn.ReLU()
        )
        self.expand = nn.Sequential(
            conv(half, out_channels, 1, bias=False), batch_norm(out_channels), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        r: Tensor = self.reduce(x)
        y: Tensor = self.expand(r + self.unit(r))
        return y

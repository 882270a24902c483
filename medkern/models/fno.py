"""Fourier neural operators, and FNOReg: registration that does not depend on the resolution.

Source: Li et al., "Fourier neural operator", ICLR 2021; Drozdov and Sorokin, "FNOReg".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medkern.nn.ffc import SpectralTransform
from medkern.nn.spectral import FourierLayer
from medkern.rules import choice, message

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class FNO(nn.Module):
    """A 1x1 convolution to `width` channels, Fourier layers, and two 1x1 convolutions.

    Args:
        in_channels, out_channels: C_in, C_out.
        modes: kept modes per axis, both signs counted (k_max in the FNOReg paper); their number is
            that of the spatial axes.
        width: channels of the Fourier layers.
        layers: number of Fourier layers.
        projection: channels between the two last convolutions; None means 2 width.
        residual: whether each Fourier layer adds its input after the activation.
        transforms: spectral transforms (the global branch of fast Fourier convolutions) before the
            Fourier layers, as a residual block, and as many after them; FNOReg has 2.
        preset: of these, "fixed" or "paper": see `medkern.nn.FourierUnit`.
        options: of `medkern.nn.SpectralConv`, for example `factorization="tucker"`, `rank=0.42`.

    Shapes: [B, in_channels, *space] to [B, out_channels, *space], for any sizes that have so many
    modes. The same weights serve every resolution.

    >>> import torch, medkern as mk
    >>> net = mk.models.FNO(1, 1, (8, 8), width=4, layers=2)
    >>> net(torch.zeros(1, 1, 16, 20)).shape, net(torch.zeros(1, 1, 32, 40)).shape
    (torch.Size([1, 1, 16, 20]), torch.Size([1, 1, 32, 40]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        *,
        width: int = 32,
        layers: int = 4,
        projection: int | None = None,
        residual: bool = False,
        transforms: int = 0,
        preset: str = "fixed",
        **options: Any,
    ) -> None:
        super().__init__()
        ndim = len(modes)
        conv = _CONVS[ndim - 1]
        between = 2 * width if projection is None else projection

        def block() -> nn.Sequential:
            parts = (
                SpectralTransform(width, width, ndim, preset=preset) for _ in range(transforms)
            )
            return nn.Sequential(*parts)

        options = {"count": "total", **options}
        self.lift = conv(in_channels, width, 1)
        self.before, self.after = block(), block()
        self.layers = nn.Sequential(
            *(FourierLayer(width, modes, residual=residual, **options) for _ in range(layers))
        )
        self.project = nn.Sequential(
            conv(width, between, 1), nn.ReLU(), conv(between, out_channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        if len(self.before):
            x = x + self.before(x)
        x = self.layers(x)
        if len(self.after):
            x = x + self.after(x)
        y: Tensor = self.project(x)
        return y


class Size(NamedTuple):
    """A configuration of the FNOReg paper."""

    width: int
    layers: int
    modes: tuple[int, ...]


SIZES = {
    2: {
        "small": Size(16, 6, (40, 48)),
        "medium": Size(32, 12, (40, 48)),
        "large": Size(32, 12, (60, 72)),
    },
    3: {"large": Size(12, 15, (40, 48, 56))},
}


class FNOReg(nn.Module):
    """The displacement that takes a moving image to a fixed one, by a Fourier neural operator.

    Args:
        modes: as for `FNO`; their number, 2 or 3, is that of the spatial axes.
        width, layers, projection, preset, options: as for `FNO`.
        residual, transforms: what distinguishes FNOReg from the plain FNO, which is
            `residual=False, transforms=0`.

    Shapes: moving and fixed [B, 1, *space] to [B, D, *space], in the normalized units of
    `medkern.warp`: `warp(moving, u, units="normalized")` looks like fixed. So the weights learnt at
    one resolution serve others.

    `FNOReg.of("small")` builds the configurations of the paper.

    >>> import torch, medkern as mk
    >>> net = mk.models.FNOReg((8, 8), width=4, layers=2)
    >>> moving, fixed = torch.rand(2, 1, 1, 16, 20)
    >>> u = net(moving, fixed)
    >>> u.shape, mk.warp(moving, u, units="normalized").shape
    (torch.Size([1, 2, 16, 20]), torch.Size([1, 1, 16, 20]))
    """

    def __init__(
        self,
        modes: Sequence[int],
        *,
        width: int = 32,
        layers: int = 12,
        projection: int | None = None,
        residual: bool = True,
        transforms: int = 2,
        preset: str = "fixed",
        **options: Any,
    ) -> None:
        super().__init__()
        if len(modes) not in (2, 3):
            rule = "be numbers for 2 or 3 axes"
            raise ValueError(message("models.FNOReg", "modes", rule, modes, "pass one per axis"))
        self.operator = FNO(
            2,
            len(modes),
            modes,
            width=width,
            layers=layers,
            projection=projection,
            residual=residual,
            transforms=transforms,
            preset=preset,
            **options,
        )
        last = self.operator.project[-1]
        # The identity to begin with.
        nn.init.normal_(last.weight, std=1e-5)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    @classmethod
    def of(cls, size: str, ndim: int = 2, **options: Any) -> FNOReg:
        """A configuration of the paper: "small", "medium" or "large" in 2-D, "large" in 3-D.

        Options default to the paper's: weights in Tucker form with 0.42 of the dense number of
        parameters; 1.3, 10.0, 22.8 and, in 3-D, 98.1 million in all.

        >>> import medkern as mk
        >>> sum(p.numel() for p in mk.models.FNOReg.of("small").parameters())
        1263570
        """
        choice("models.FNOReg.of", "ndim", ndim, tuple(SIZES))
        choice("models.FNOReg.of", "size", size, tuple(SIZES[ndim]))
        width, layers, modes = SIZES[ndim][size]
        options = {"factorization": "tucker", "rank": 0.42, **options}
        return cls(modes, width=width, layers=layers, **options)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        u: Tensor = self.operator(torch.cat([moving, fixed], dim=1))
        return u

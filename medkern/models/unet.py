"""The U-Net, in two and three dimensions.

Source: Ronneberger et al., "U-Net", MICCAI 2015; with padded convolutions, so that the output has
the size of the input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medkern.rules import at_least, choice, message

NORMS = ("batch", "group", "none")


class UNet(nn.Module):
    """Encoder and decoder of `levels` resolutions, joined by skip connections.

    Level l, from 0, has `width * 2**l` channels; each level has two convolutions of size 3 on the
    way down and two on the way up, with a transposed convolution of stride 2 in between.

    Args:
        in_channels, classes: channels of the image, and of the logits.
        width: channels at full resolution.
        levels: number of resolutions, at least 1; the image's size must be a multiple of
            2**(levels - 1).
        norm: "batch", "group" (8 groups, or as many as divide the width) or "none", after each
            convolution but the last.
        ndim: 2 or 3 spatial axes.

    Shapes: [B, in_channels, *space] to [B, classes, *space].

    >>> import torch, medkern as mk
    >>> mk.models.UNet(1, 4, width=8, levels=3)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 4, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        width: int = 32,
        levels: int = 4,
        norm: str = "batch",
        ndim: int = 2,
    ) -> None:
        super().__init__()
        for name, value in {"in_channels": in_channels, "classes": classes, "width": width}.items():
            at_least("models.UNet", name, value, 1)
        at_least("models.UNet", "levels", levels, 1)
        choice("models.UNet", "norm", norm, NORMS)
        choice("models.UNet", "ndim", ndim, (2, 3))
        widths = [width * 2**level for level in range(levels)]
        conv, up, pool = _LAYERS[ndim]
        ins = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            _block(i, o, norm, ndim) for i, o in zip(ins, widths, strict=True)
        )
        self.pool = pool(2)
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]  # from coarse to fine
        self.up = nn.ModuleList(up(coarse, fine, 2, stride=2) for coarse, fine in pairs)
        self.merge = nn.ModuleList(_block(2 * fine, fine, norm, ndim) for _, fine in pairs)
        self.head = conv(width, classes, 1)
        self.factor = 2 ** (levels - 1)

    def forward(self, image: Tensor) -> Tensor:
        if any(size % self.factor for size in image.shape[2:]):
            rule = f"have spatial axes that are multiples of {self.factor}"
            got = tuple(image.shape[2:])
            raise ValueError(
                message("models.UNet", "image", rule, got, "pad it or use fewer levels")
            )
        skips = []
        x = image
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


_LAYERS = {
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d),
}


def _norm(norm: str, channels: int, ndim: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels) if ndim == 2 else nn.BatchNorm3d(channels)
    groups = next(g for g in range(min(8, channels), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels) if norm == "group" else nn.Identity()


def _block(in_channels: int, channels: int, norm: str, ndim: int) -> nn.Sequential:
    conv = _LAYERS[ndim][0]
    layers: list[nn.Module] = []
    for inputs in (in_channels, channels):
        layers += [
            conv(inputs, channels, 3, padding=1, bias=norm == "none"),
            _norm(norm, channels, ndim),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)

"""SFRSeg-Net: a small U-Net whose pooling adds three of the four Haar bands.

Source: Das et al., "SFRSeg-Net: synovial fluid region segmentation", ICPR 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medkern.models.pooling import Pooling
from medkern.rules import at_least, message

LEVELS = 4  # poolings


class SFRSegNet(nn.Module):
    """Five resolutions of two 3x3 convolutions each, batch normalisation and ReLU after each; with
    transposed convolutions and skip connections on the way up.

    Args:
        in_channels, classes: channels of the image, and of the logits.
        width: channels at full resolution, doubled with every pooling; 16 as published.
        pool: "iewa", the paper's, or one of the others of `medkern.models.pooling.Pooling`. With
            "max" this is the U-Net that the paper compares with.

    Shapes: [B, in_channels, H, W] to logits [B, classes, H, W], H and W multiples of 16. 1.94
    million parameters, the paper's 18 convolutions; 0.76 G multiply-adds at 128 x 128.

    >>> import torch, medkern as mk
    >>> net = mk.models.SFRSegNet()
    >>> net(torch.zeros(2, 3, 32, 48)).shape
    torch.Size([2, 1, 32, 48])
    """

    def __init__(
        self, in_channels: int = 3, classes: int = 1, *, width: int = 16, pool: str = "iewa"
    ) -> None:
        super().__init__()
        for name, value in {"in_channels": in_channels, "classes": classes, "width": width}.items():
            at_least("models.SFRSegNet", name, value, 1)
        widths = [width * 2**level for level in range(LEVELS + 1)]
        ins = [in_channels, *widths]
        self.down = nn.ModuleList(block(i, o) for i, o in zip(ins, widths, strict=False))
        self.pool = nn.ModuleList(Pooling(pool, channels) for channels in widths[:-1])
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]  # from coarse to fine
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairs)
        self.merge = nn.ModuleList(block(2 * o, o) for _, o in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        if any(size % 2**LEVELS for size in image.shape[2:]):
            rule, got = f"have sides that are multiples of {2**LEVELS}", tuple(image.shape[2:])
            raise ValueError(message("models.SFRSegNet", "image", rule, got, "pad it"))
        skips = []
        x = self.down[0](image)
        for pool, convolve in zip(self.pool, self.down[1:], strict=True):
            skips.append(x)
            x = convolve(pool(x))
        for up, merge, skip in zip(self.up, self.merge, skips[::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def block(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (in_channels, channels):
        layers += [
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)

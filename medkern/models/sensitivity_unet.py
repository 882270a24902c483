"""The U-Net of SAPM: a ResNet encoder whose shallow features pass a gate.

Source: Yang and Yu, "A single source generalization model via spatial amplitude perturbation and
sensitivity guidance", ICPR 2024; Hu et al., "Squeeze-and-excitation networks", CVPR 2018.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from medkern.models.resnet import resnet, stem_of
from medkern.rules import at_least, choice, message

LEVELS = ("stem", "layer1", "none")


class SensitivityGuidedUNet(nn.Module):
    """ResNet U-Net with a squeeze-and-excitation gate on its shallow features.

    `model(image)` gives the logits. Training also needs `model.guided(image)`: the logits, the
    features that enter the gate, and its attention, for `sensitivity_guidance_loss`.

    The gate is one 1x1 convolution of the features' means, a sigmoid, and a product per channel.
    It stands behind the normalisation of the stem: one before it would be undone by the
    normalisation wherever it is the same for all samples.

    Args:
        in_channels, classes: channels of the image, and of the logits.
        depth, width: of the `resnet`: 34 and 64 are the paper's.
        decoder: channels of each of the four decoder blocks, half from below and half from the
            skip connection; even.
        level: where the gate is: behind the "stem", "layer1", or "none": a plain U-Net.
        weights: a file for the encoder, as for `resnet`.

    Shapes: [B, in_channels, H, W] to [B, classes, H, W], both sizes multiples of 32.

    >>> import torch, medkern as mk
    >>> model = mk.models.SensitivityGuidedUNet(depth=18, width=8, decoder=16)
    >>> logits, features, attention = model.guided(torch.zeros(1, 3, 64, 64))
    >>> tuple(logits.shape), tuple(features.shape), tuple(attention.shape)
    ((1, 2, 64, 64), (1, 8, 32, 32), (1, 8))
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 2,
        *,
        depth: int = 34,
        width: int = 64,
        decoder: int = 256,
        level: str = "stem",
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        at_least("models.SensitivityGuidedUNet", "classes", classes, 1)
        at_least("models.SensitivityGuidedUNet", "decoder", decoder, 2)
        choice("models.SensitivityGuidedUNet", "level", level, LEVELS)
        self.level = level
        self.encoder = resnet(depth, in_channels=in_channels, width=width, weights=weights)
        self.gate = Gate(width) if level != "none" else nn.Identity()
        below = (8 * width, decoder, decoder, decoder)
        skips = (4 * width, 2 * width, width, width)
        self.decoder = nn.ModuleList(Up(b, s, decoder) for b, s in zip(below, skips, strict=True))
        self.head = nn.ConvTranspose2d(decoder, classes, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.guided(image)[0]

    def guided(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, features before the gate [B, C, h, w], and its attention [B, C]."""
        if any(size % 32 for size in image.shape[2:]):
            rule = "have sizes that are multiples of 32"
            got = tuple(image.shape[2:])
            raise ValueError(message("models.SensitivityGuidedUNet", "image", rule, got, "pad it"))
        net, attention = self.encoder, None
        stem = features = stem_of(net, image)
        if self.level == "stem":
            stem, attention = self.gate(stem)
        first = net.layer1(net.maxpool(stem))
        if self.level == "layer1":
            features = first
            first, attention = self.gate(first)
        second = net.layer2(first)
        third = net.layer3(second)
        x = net.layer4(third)
        for up, skip in zip(self.decoder, (third, second, first, stem), strict=True):
            x = up(x, skip)
        if attention is None:
            attention = features.new_ones(features.shape[:2])
        return self.head(x), features, attention


class Gate(nn.Module):
    """Squeeze and excitation: the gated features, and the attention [B, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        attention = self.excite(x.mean((2, 3), keepdim=True)).sigmoid()
        return attention * x, attention.flatten(1)


class Up(nn.Module):
    """Twice the size: half of the channels from below, half from the skip connection."""

    def __init__(self, below: int, skip: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(below, channels // 2, 2, stride=2)
        self.side = nn.Conv2d(skip, channels - channels // 2, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.norm(torch.cat([self.up(x), self.side(skip)], dim=1).relu())
        return out

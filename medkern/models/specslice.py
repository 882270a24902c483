"""Segmentation of hyperspectral cubes by spectral slicing and ConvLSTMs.

Source: Hu et al., SpecSlice-ConvLSTM. A cube is cut into slices of a few adjacent bands; one 2-D
encoder sees each slice as a picture, and at the skip connections a ConvLSTM runs over the slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from medkern.models.resnet import resnet, stages
from medkern.nn import ConvLSTM
from medkern.rules import at_least, choice, message

AGGREGATES = ("mean", "classical", "sisom", "didom")
REDUCTIONS = ("sum", "mean")
LEVELS = (1, 2, 3, 4)


class SpecSliceConvLSTM(nn.Module):
    """A U-Net over the spectral slices of a cube.

    Level 1 of the encoder is the stem at 1/2 of the size, levels 2, 3 and 4 are the first three
    layers of the ResNet at 1/4 to 1/16. Their features of all slices become one by a ConvLSTM where
    `levels` says so, by their mean elsewhere, as do those of the last layer at 1/32. One decoder
    makes a map of them.

    Args:
        bands: of the cube.
        classes: channels of the logits.
        bands_per_slice: adjacent bands that the encoder sees as one picture; the last slice repeats
            the last band where it lacks some.
        aggregate: what becomes of the ConvLSTM's hidden states. "classical": the last one; "sisom":
            their sum; "didom": their sum in both directions, with the same weights, to which the
            order of the slices may be reversed; "mean": no ConvLSTM, all levels are means, which
            see no order at all.
        levels: where ConvLSTMs are, of 1 to 4; in the paper 2, 3 and 4 are best.
        reduce: "sum", or "mean" for sums over the number of slices.
        forget_bias: what the bias of the forget gates starts at beside noise: 1 remembers longer.
        depth, width: of the ResNet: 18 or 34, and the channels of its stem, 64 in the paper.
        weights: a file with a state dict of torchvision's ResNet.

    Shapes: [B, bands, H, W] to [B, classes, H, W], H and W multiples of 32.

    >>> import torch, medkern as mk
    >>> net = mk.models.SpecSliceConvLSTM(bands=12, depth=18, width=8)
    >>> net(torch.zeros(1, 12, 32, 64)).shape
    torch.Size([1, 1, 32, 64])
    """

    def __init__(
        self,
        bands: int = 60,
        classes: int = 1,
        *,
        bands_per_slice: int = 3,
        aggregate: str = "didom",
        levels: Sequence[int] = (2, 3, 4),
        reduce: str = "sum",
        forget_bias: float = 0.0,
        depth: int = 34,
        width: int = 64,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        name = "models.SpecSliceConvLSTM"
        for argument, value in (("bands", bands), ("classes", classes), ("width", width)):
            at_least(name, argument, value, 1)
        choice(name, "aggregate", aggregate, AGGREGATES)
        choice(name, "reduce", reduce, REDUCTIONS)
        for level in levels:
            choice(name, "levels", level, LEVELS)
        if not 1 <= bands_per_slice <= bands:
            rule = f"be between 1 and the {bands} bands"
            raise ValueError(message(name, "bands_per_slice", rule, bands_per_slice, "take fewer"))
        self.bands, self.bands_per_slice = bands, bands_per_slice
        self.slices = -(-bands // bands_per_slice)
        self.encoder = resnet(depth, in_channels=bands_per_slice, width=width, weights=weights)
        widths = (width, width, 2 * width, 4 * width)
        self.recurrent = nn.ModuleDict()
        for level in () if aggregate == "mean" else sorted(set(levels)):
            channels = widths[level - 1]
            self.recurrent[str(level)] = ConvLSTM(
                channels,
                channels,
                bidirectional="shared" if aggregate == "didom" else False,
                reduce="last" if aggregate == "classical" else reduce,
                forget_bias=forget_bias,
            )
        self.decoder = Decoder(8 * width, widths[::-1])
        self.head = nn.Conv2d(width // 4, classes, 3, padding=1)

    def forward(self, cube: Tensor) -> Tensor:
        self.check(cube)
        features = stages(self.encoder, self.sliced(cube).flatten(0, 1))
        merged = [
            self.merge(level, f.unflatten(0, (cube.shape[0], self.slices)))
            for level, f in enumerate(features, 1)
        ]
        logits: Tensor = self.head(self.decoder(merged))
        return logits

    def sliced(self, cube: Tensor) -> Tensor:
        """[B, bands, H, W] as [B, slices, bands per slice, H, W]; a view where these divide."""
        missing = self.slices * self.bands_per_slice - self.bands
        if missing:
            cube = torch.cat([cube, cube[:, -1:].expand(-1, missing, -1, -1)], 1)
        slices: Tensor = cube.unflatten(1, (self.slices, self.bands_per_slice))
        return slices

    def merge(self, level: int, features: Tensor) -> Tensor:
        """One feature map [B, C, H, W] of those of all slices [B, T, C, H, W]."""
        if str(level) in self.recurrent:
            merged: Tensor = self.recurrent[str(level)](features)
            return merged
        return features.mean(1)

    def check(self, cube: Tensor) -> None:
        if cube.dim() != 4 or cube.shape[1] != self.bands or any(n % 32 for n in cube.shape[2:]):
            rule = f"be [B, {self.bands}, H, W] with H and W multiples of 32"
            remedy = "pad it, or set bands"
            raise ValueError(
                message("models.SpecSliceConvLSTM", "cube", rule, tuple(cube.shape), remedy)
            )


class Decoder(nn.Module):
    """From the deepest features up, each time with the skip of that size, to twice the first."""

    def __init__(self, channels: int, skips: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        outs = [channels // 2**i for i in range(1, len(skips) + 2)]
        for skip, out in zip((*skips, 0), outs, strict=True):
            self.blocks.append(nn.Sequential(*_convolution(channels + skip, out)))
            channels = out

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: from the finest to the coarsest."""
        *skips, x = features
        for block in self.blocks:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            if skips:
                x = torch.cat([x, skips.pop()], 1)
            x = block(x)
        return x


def _convolution(channels: int, out: int) -> list[nn.Module]:
    """Twice convolution, batch norm and ReLU."""
    layers: list[nn.Module] = []
    for inputs in (channels, out):
        conv = nn.Conv2d(inputs, out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return layers

"""ENet, a small and quick segmentation network.

Source: Paszke et al., "ENet: A deep neural network architecture for real-time semantic
segmentation", 2016, table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medkern.rules import message

# Stages 2 and 3: kind of the middle convolution, and its dilation or length.
MIDDLE = (
    ("plain", 1),
    ("plain", 2),
    ("asymmetric", 5),
    ("plain", 4),
    ("plain", 1),
    ("plain", 8),
    ("asymmetric", 5),
    ("plain", 16),
)


class ENet(nn.Module):
    """Bottlenecks of 1x1, 3x3 (plain, dilated or 5x1 and 1x5) and 1x1 convolutions; the decoder
    puts values back where max pooling found them.

    Args:
        in_channels, classes: channels of the image, and of the logits.

    Shapes: [B, in_channels, H, W] to [B, classes, H, W], H and W multiples of 8. About 0.36 million
    parameters.

    >>> import torch, medkern as mk
    >>> mk.models.ENet(1, 4)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 4, 32, 32])
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.initial = Initial(in_channels, 16)
        self.down1 = Down(16, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = Down(64, 128)
        self.stage2 = nn.Sequential(*(Bottleneck(128, kind, reach) for kind, reach in MIDDLE))
        self.stage3 = nn.Sequential(*(Bottleneck(128, kind, reach) for kind, reach in MIDDLE))
        self.up4 = Up(128, 64)
        self.stage4 = nn.Sequential(*(Bottleneck(64, activation=nn.ReLU) for _ in range(2)))
        self.up5 = Up(64, 16)
        self.stage5 = Bottleneck(16, activation=nn.ReLU)
        self.head = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[2] % 8 or image.shape[3] % 8:
            got = tuple(image.shape[2:])
            raise ValueError(
                message("models.ENet", "image", "have sides that are multiples of 8", got, "pad it")
            )
        x, where1 = self.down1(self.initial(image))
        x, where2 = self.down2(self.stage1(x))
        x = self.stage3(self.stage2(x))
        x = self.stage4(self.up4(x, where2))
        logits: Tensor = self.head(self.stage5(self.up5(x, where1)))
        return logits


class Initial(nn.Module):
    """A strided convolution beside max pooling."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels - in_channels, 3, 2, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(channels), nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.conv(x), functional.max_pool2d(x, 2)], dim=1)
        out: Tensor = self.act(self.norm(joined))
        return out


class Bottleneck(nn.Module):
    """A residual block at one resolution; the middle works on a quarter of the channels."""

    def __init__(
        self,
        channels: int,
        kind: str = "plain",
        reach: int = 1,
        *,
        dropout: float = 0.1,
        activation: type[nn.Module] = nn.PReLU,
    ) -> None:
        super().__init__()
        inner = channels // 4
        if kind == "asymmetric":
            middle: nn.Module = nn.Sequential(
                nn.Conv2d(inner, inner, (reach, 1), padding=(reach // 2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, reach), padding=(0, reach // 2), bias=False),
            )
        else:
            middle = nn.Conv2d(inner, inner, 3, padding=reach, dilation=reach, bias=False)
        self.branch = nn.Sequential(
            *_unit(nn.Conv2d(channels, inner, 1, bias=False), inner, activation),
            *_unit(middle, inner, activation),
            *_unit(nn.Conv2d(inner, channels, 1, bias=False), channels, nn.Identity),
            nn.Dropout2d(dropout),
        )
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.branch(x))
        return out


class Down(nn.Module):
    """Halves the resolution; also returns where the maxima were."""

    def __init__(self, in_channels: int, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        inner, self.more = in_channels // 4, channels - in_channels
        self.branch = nn.Sequential(
            *_unit(nn.Conv2d(in_channels, inner, 2, stride=2, bias=False), inner, nn.PReLU),
            *_unit(nn.Conv2d(inner, inner, 3, padding=1, bias=False), inner, nn.PReLU),
            *_unit(nn.Conv2d(inner, channels, 1, bias=False), channels, nn.Identity),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, where = functional.max_pool2d(x, 2, return_indices=True)
        padded = functional.pad(pooled, (0, 0, 0, 0, 0, self.more))  # channels of zeros
        return self.act(padded + self.branch(x)), where


class Up(nn.Module):
    """Doubles the resolution: max unpooling beside a transposed convolution."""

    def __init__(self, in_channels: int, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        inner = in_channels // 4
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        grow = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
        self.branch = nn.Sequential(
            *_unit(nn.Conv2d(in_channels, inner, 1, bias=False), inner, nn.ReLU),
            *_unit(grow, inner, nn.ReLU),
            *_unit(nn.Conv2d(inner, channels, 1, bias=False), channels, nn.Identity),
            nn.Dropout2d(dropout),
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor, where: Tensor) -> Tensor:
        grown = self.branch(x)
        # Windows do not overlap, so this is max unpooling; torch's own refuses to be deterministic.
        spread = torch.zeros_like(grown).flatten(2)
        spread = spread.scatter(2, where.flatten(2), self.shortcut(x).flatten(2))
        out: Tensor = self.act(spread.view_as(grown) + grown)
        return out


def _unit(
    conv: nn.Module, channels: int, activation: type[nn.Module]
) -> tuple[nn.Module, nn.Module, nn.Module]:
    return conv, nn.BatchNorm2d(channels), activation()

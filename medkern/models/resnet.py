"""ResNet-18 and ResNet-34 as encoders, with the state dict of torchvision's.

Source: He et al., "Deep residual learning for image recognition", CVPR 2016.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from medkern.rules import at_least, choice

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def resnet(
    depth: int = 34,
    *,
    in_channels: int = 3,
    width: int = 64,
    weights: str | Path | None = None,
) -> ResNet:
    """A ResNet without its classifier: torchvision's where it is installed and can be had as asked
    for, ours otherwise. Both have the same modules, state dict and numbers; see `stages`.

    Args:
        depth: 18 or 34.
        in_channels, width: 3 and 64 in torchvision's; stage l of 1 to 4 has width * 2**(l - 1)
            channels.
        weights: a file with a state dict, as torchvision's ``resnet34-*.pth``, read without
            running what is in it; those of the classifier are left out. Nothing is downloaded.

    Raises:
        ValueError: another depth.
        RuntimeError: the weights do not fit.

    >>> import torch
    >>> from medkern.models.resnet import resnet, stages
    >>> [tuple(f.shape[1:]) for f in stages(resnet(18, width=8), torch.zeros(1, 3, 64, 64))]
    [(8, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    """
    choice("models.resnet", "depth", depth, tuple(BLOCKS))
    at_least("models.resnet", "in_channels", in_channels, 1)
    at_least("models.resnet", "width", width, 1)
    if (in_channels, width) == (3, 64) and importlib.util.find_spec("torchvision") is not None:
        theirs = getattr(importlib.import_module("torchvision.models"), f"resnet{depth}")()
        theirs.fc = nn.Identity()
        net: ResNet = theirs  # in all that is used of it
    else:
        net = ResNet(depth, in_channels, width)
    if weights is not None:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        net.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    return net


def stages(net: ResNet, x: Tensor) -> list[Tensor]:
    """The features after the stem and after each of the four layers of `resnet(...)`: at 1/2, 1/4,
    1/8, 1/16 and 1/32 of the size."""
    x = stem_of(net, x)
    out = [x]
    x = net.maxpool(x)
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
        out.append(x)
    return out


def stem_of(net: ResNet, x: Tensor) -> Tensor:
    """The features of `net` at 1/2 of the size."""
    out: Tensor = net.relu(net.bn1(net.conv1(x)))
    return out


class ResNet(nn.Module):
    """The encoder: `resnet` makes one and says what it is."""

    def __init__(self, depth: int, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        first, second, third, fourth = BLOCKS[depth]
        self.layer1 = _layer(width, width, first, stride=1)
        self.layer2 = _layer(width, 2 * width, second, stride=2)
        self.layer3 = _layer(2 * width, 4 * width, third, stride=2)
        self.layer4 = _layer(4 * width, 8 * width, fourth, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        return stages(self, x)


class BasicBlock(nn.Module):
    """Two convolutions of size 3, beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


def _layer(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

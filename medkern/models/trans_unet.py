"""A small TransUNet: a ResNet down to 1/16 of the size, a transformer there, and a U-Net's way up.

Source: Chen et al., "TransUNet: transformers make strong encoders for medical image segmentation",
2021; pre-normalised blocks as in Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medkern.models.resnet import resnet, stem_of
from medkern.rules import at_least, message


class TransUNet(nn.Module):
    """ResNet-18 to layer3, a transformer on its pixels as tokens (patch size 1), and a decoder with
    skip connections from 1/8, 1/4 and 1/2.

    Args:
        in_channels, classes: channels of the image, and of the logits.
        width: of the ResNet's stem; layer3 has 4 times as many channels.
        hidden, layers, heads: of the transformer; the original has 768, 12 and 12, and the paper of
            the spectral correlation 8 heads.
        grid: rows and columns of tokens for which position embeddings are learned: the size / 16.
            Those of other sizes are interpolated.
        dropout: of the transformer.

    Shapes: [B, in_channels, H, W] to [B, classes, H, W], both sizes multiples of 16.

    >>> import torch, medkern as mk
    >>> mk.models.TransUNet(1, 5, width=8, hidden=32)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 5, 64, 64])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        width: int = 32,
        hidden: int = 192,
        layers: int = 2,
        heads: int = 8,
        grid: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in {"classes": classes, "layers": layers, "heads": heads}.items():
            at_least("models.TransUNet", name, value, 1)
        if hidden % heads:
            rule = f"be a multiple of the {heads} heads"
            raise ValueError(message("models.TransUNet", "hidden", rule, hidden, "change either"))
        self.encoder = resnet(18, in_channels=in_channels, width=width)
        del self.encoder.layer4
        self.embed = nn.Conv2d(4 * width, hidden, 1)
        self.position = nn.Parameter(0.02 * torch.randn(1, hidden, grid, grid))
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.back = _conv(hidden, 8 * width)
        ins = (8 * width + 2 * width, 4 * width + width, 2 * width + width, width)
        outs = (4 * width, 2 * width, width, width)
        self.up = nn.ModuleList(_conv(i, o) for i, o in zip(ins, outs, strict=True))
        self.head = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        if any(size % 16 for size in image.shape[2:]):
            rule, got = "have sizes that are multiples of 16", tuple(image.shape[2:])
            raise ValueError(message("models.TransUNet", "image", rule, got, "pad it"))
        net = self.encoder
        stem = stem_of(net, image)
        first = net.layer1(net.maxpool(stem))
        second = net.layer2(first)
        x = self.back(self.transform(net.layer3(second)))
        for up, skip in zip(self.up, (second, first, stem, None), strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(x if skip is None else torch.cat([x, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits

    def transform(self, features: Tensor) -> Tensor:
        """The transformer [B, C, h, w] to [B, hidden, h, w]."""
        x = self.embed(features)
        at: Tensor = self.position
        if at.shape[2:] != x.shape[2:]:
            at = functional.interpolate(at, x.shape[2:], mode="bilinear", align_corners=False)
        tokens = (x + at).flatten(2).transpose(1, 2)  # [B, h w, hidden]
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.norm(tokens).transpose(1, 2).unflatten(2, x.shape[2:])
        return out


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each normalised before and added."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.merge = nn.Linear(hidden, hidden)
        self.between = nn.LayerNorm(hidden)
        self.perceptron = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # [B, tokens, hidden]
        qkv = self.queries_keys_values(self.before(x))
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.dropout(self.perceptron(self.between(x)))
        return out


def _conv(in_channels: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

"""Phantoms of ultrasound: a dark pocket of fluid in layered tissue, under speckle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from medkern.data.seeding import generator_of
from medkern.rules import at_least, choice

NOISES = ("gaussian", "speckle", "poisson", "salt_pepper")
FLUID, BONE, SHADOW = 0.12, 0.95, 0.08


@dataclass(frozen=True)
class UltrasoundLesions(Dataset[dict[str, Tensor]]):
    """Made-up B-mode images of a joint: layers of tissue that darken with depth, an irregular dark
    pocket of fluid with brighter tissue behind it, and a bright bone surface that throws a shadow,
    which is as dark as the fluid but is none.

    Item i depends on `seed` and i alone. It is a dict of

    - `image`: float32 [3, size, size] in [0, 1], in steps of 1/255, three equal channels;
    - `label`: int64 [size, size], 1 in the fluid.

    Args:
        length: number of images.
        size: pixels per side, at least 32.
        seed: of everything.
        speckle: standard deviation of the multiplicative speckle.

    >>> from medkern.data import UltrasoundLesions
    >>> item = UltrasoundLesions(4, size=64, seed=1)[2]
    >>> tuple(item["image"].shape), item["label"].unique().tolist()
    ((3, 64, 64), [0, 1])
    """

    length: int
    size: int = 128
    seed: int = 0
    speckle: float = 0.15

    def __post_init__(self) -> None:
        at_least("data.UltrasoundLesions", "length", self.length, 0)
        at_least("data.UltrasoundLesions", "size", self.size, 32)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = generator_of("ultrasound", self.seed, index)
        fluid, echo = _anatomy(self.size, random)
        grain = torch.randn(self.size, self.size, generator=random)
        # Speckle is as wide as the pulse, which is longer across the beam than along it.
        grain = functional.avg_pool2d(grain[None, None], (1, 3), 1, (0, 1))[0, 0] * math.sqrt(3)
        grey = _stepped(echo * (1 + self.speckle * grain))
        return {"image": grey.expand(3, -1, -1).contiguous(), "label": fluid.long()}


def corrupted(
    image: Tensor, noise: str, generator: torch.Generator, *, variance: float = 0.01
) -> Tensor:
    """An image in [0, 1] with noise, clipped to [0, 1] again: as the tests of SFRSeg-Net.

    Args:
        image: any shape.
        noise: "gaussian": x + n. "speckle": x + x n. "poisson": counts of 255 x photons.
            "salt_pepper": this share of the samples set to 0 or 1.
        generator: of the noise.
        variance: of n; the share for "salt_pepper"; unused for "poisson".

    >>> import torch
    >>> from medkern.data.ultrasound import corrupted
    >>> corrupted(torch.zeros(3), "speckle", torch.Generator())
    tensor([0., 0., 0.])
    """
    choice("data.corrupted", "noise", noise, NOISES)
    if noise == "poisson":
        return (torch.poisson(255 * image, generator=generator) / 255).clamp(0, 1)
    if noise == "salt_pepper":
        drawn = torch.rand(image.shape, generator=generator)
        return image.masked_fill(drawn < variance / 2, 0.0).masked_fill(
            drawn > 1 - variance / 2, 1.0
        )
    n = math.sqrt(variance) * torch.randn(image.shape, generator=generator)
    return (image + (n if noise == "gaussian" else image * n)).clamp(0, 1)


def _anatomy(size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """The mask of the fluid, and the echo without speckle; lengths in units of the size."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    at = (torch.arange(size) + 0.5) / size
    depth, x = at[:, None], at[None, :]

    # Layers that bend together, each with an echo of its own, and attenuation.
    bend = between(0.02, 0.08) * torch.sin(2 * math.pi * (between(0.3, 1.0) * x + between(0, 1)))
    layers = 0.35 + 0.35 * torch.rand(1, 1, 9, 1, generator=random)
    profile = functional.interpolate(layers, (4 * size, 1), mode="bilinear", align_corners=True)
    row = ((depth + bend).clamp(0, 1) * (4 * size - 1)).long()
    echo = profile[0, 0, :, 0][row] * torch.exp(-between(0.2, 0.7) * depth)

    # The pocket: an ellipse with a wavy rim.
    row0, column0 = between(0.3, 0.55), between(0.3, 0.7)
    height, width, turn = between(0.07, 0.14), between(0.13, 0.26), between(-0.5, 0.5)
    dy, dx = depth - row0, x - column0
    along = (dx * math.cos(turn) + dy * math.sin(turn)) / width
    across = (dy * math.cos(turn) - dx * math.sin(turn)) / height
    angle = torch.atan2(across, along)
    rim = 1 + sum(
        between(0.03, 0.10) * torch.sin(k * angle + between(0, 2 * math.pi)) for k in (2, 3, 5)
    )
    inside = (rim - torch.hypot(along, across)) * min(height, width) * size  # pixels from the rim
    cover = torch.sigmoid(2 * inside)
    behind = torch.sigmoid(40 * (0.75 * width - dx.abs())) * torch.sigmoid(40 * dy)
    echo = echo * (1 + 0.3 * behind)
    echo = echo + cover * (FLUID * between(0.7, 1.4) - echo)

    # Bone, below the pocket and on one side.
    side = 1.0 if between(0, 1) < 0.5 else -1.0
    reach = between(0.25, 0.45)
    over = (0.5 + side * 0.5 - x) * side  # distance from that side
    surface = between(0.72, 0.85) + 0.25 * (over / reach) ** 2 * between(0.2, 0.8)
    under = (depth - surface) * size
    here = over < reach
    echo = torch.where(here & (under > 0), SHADOW, echo)
    shine = torch.exp(-((under / 1.5) ** 2)) * here
    echo = echo + shine * (BONE - echo)
    return (inside > 0) & ~(here & (under > 0)), echo


def _stepped(grey: Tensor) -> Tensor:
    return (255 * grey).round().clamp(0, 255) / 255

"""Phantoms of four overlapping shapes under a mottled background."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from medkern.data.seeding import generator_of
from medkern.rules import at_least

CLASSES = ("background", "disk", "box", "triangle", "ring")
LEVELS = (0.25, 0.85, 0.7, 0.55, 0.4)  # mean grey levels; each shape's is up to 0.06 off


@dataclass(frozen=True)
class OverlappingShapes(Dataset[dict[str, Tensor]]):
    """Made-up images of a disk, a box, a triangle and a ring, each of an even grey, in front of
    each other.

    Item i depends on `seed` and i alone. It is a dict of

    - `image`: float32 [1, size, size], in [0, 1] but for the noise;
    - `label`: int64 [size, size], 0 background, 1 disk, 2 box, 3 triangle, 4 ring: of overlapping
      shapes, the one in front.

    Position, size, turn, grey level and the order from back to front are random. Grey levels tell
    the shapes from the background, and nearly from each other.

    Args:
        length: number of images.
        size: pixels per side, at least 32.
        seed: of everything.
        noise: standard deviation of the noise that is added.

    >>> from medkern.data import OverlappingShapes
    >>> item = OverlappingShapes(4, size=64, seed=1)[2]
    >>> tuple(item["image"].shape), item["label"].unique().tolist()
    ((1, 64, 64), [0, 1, 2, 3, 4])
    """

    length: int
    size: int = 64
    seed: int = 0
    noise: float = 0.05

    def __post_init__(self) -> None:
        at_least("data.OverlappingShapes", "length", self.length, 0)
        at_least("data.OverlappingShapes", "size", self.size, 32)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = generator_of("shapes", self.seed, index)
        label = torch.zeros(self.size, self.size, dtype=torch.int64)
        coarse = torch.randn(1, 1, 6, 6, generator=random)
        field = functional.interpolate(coarse, label.shape, mode="bicubic", align_corners=True)
        image = LEVELS[0] + 0.06 * field[0, 0]
        for k in (1 + torch.randperm(len(CLASSES) - 1, generator=random)).tolist():
            inside = _shape(CLASSES[k], self.size, random)
            label[inside] = k
            level = LEVELS[k] + 0.12 * (float(torch.rand((), generator=random)) - 0.5)
            image = torch.where(inside, level + 0.2 * (image - LEVELS[0]), image)
        image = functional.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)
        noise = torch.randn(image.shape, generator=random)
        return {"image": image.clamp(0, 1) + self.noise * noise, "label": label}


def _shape(name: str, size: int, random: torch.Generator) -> Tensor:
    """The pixels [size, size] of one shape, somewhere; lengths are in units of the size."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    at = (torch.arange(size) + 0.5) / size
    dy, dx = at[:, None] - between(0.25, 0.75), at[None, :] - between(0.25, 0.75)
    turn, reach = between(0, 2 * math.pi), between(0.12, 0.2)
    u = dy * math.cos(turn) - dx * math.sin(turn)
    v = dy * math.sin(turn) + dx * math.cos(turn)
    if name == "box":
        return (u.abs() < 0.85 * reach) & (v.abs() < 0.85 * reach)
    if name == "triangle":
        return (u < 0.6 * reach) & (u > 2 * v.abs() - 1.2 * reach)
    radius = (u**2 + v**2).sqrt()
    return (radius < reach) & (radius > 0.55 * reach) if name == "ring" else radius < reach

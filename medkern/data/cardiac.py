"""Phantoms of cardiac MRI: short-axis slices with both ventricles, and one point in each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from medkern.data.seeding import generator_of
from medkern.rules import at_least

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
RIGHT, MYOCARDIUM, LEFT = 1, 2, 3
UNLABELLED = -1

# Grey levels, as in cine MRI: blood is bright, muscle dark, lung almost black.
LUNG, CHEST, MUSCLE, BLOOD = 0.10, 0.46, 0.25, 0.72


@dataclass(frozen=True)
class CardiacSlices(Dataset[dict[str, Tensor]]):
    """Made-up short-axis slices: a round left ventricle in its ring of myocardium, and the crescent
    of a right ventricle beside it, between lungs, under noise and an uneven coil.

    Item i depends on `seed` and i alone. It is a dict of

    - `image`: float32 [1, size, size] in [0, 1], in steps of 1/255;
    - `label`: int64 [size, size] with the classes 0 background, 1 right ventricle, 2 myocardium,
      3 left ventricle;
    - `points`: int64 [size, size], the class at one random pixel of each structure, -1 elsewhere.

    Position, size, wall, turn and contrast vary. One slice in eight is apical: small, without a
    right ventricle. The left ventricle holds dark papillary muscles, which are labelled as part of
    it, as is the convention.

    Args:
        length: number of slices.
        size: pixels per side, at least 32.
        seed: of everything.
        noise: standard deviation of the noise, in grey levels of 0..255.

    >>> from medkern.data import CardiacSlices
    >>> data = CardiacSlices(4, size=64, seed=1)
    >>> item = data[2]
    >>> tuple(item["image"].shape), (item["points"] >= 0).sum().item()
    ((1, 64, 64), 3)
    """

    length: int
    size: int = 128
    seed: int = 0
    noise: float = 8.0

    def __post_init__(self) -> None:
        at_least("data.CardiacSlices", "length", self.length, 0)
        at_least("data.CardiacSlices", "size", self.size, 32)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = generator_of("cardiac", self.seed, index)
        label, papillary, lungs = _anatomy(self.size, random)
        image = _image(label, papillary, lungs, self.noise / 255, random)
        return {"image": image[None], "label": label, "points": random_points(label, random)}


def random_points(labels: Tensor, generator: torch.Generator) -> Tensor:
    """One random pixel of each class of a label map [*space] (0 and below left out), -1 elsewhere.

    >>> import torch
    >>> from medkern.data.cardiac import random_points
    >>> random_points(torch.tensor([[0, 3, 0], [0, 0, 0]]), torch.Generator())
    tensor([[-1,  3, -1],
            [-1, -1, -1]])
    """
    points = torch.full_like(labels, UNLABELLED)
    for k in labels.unique().tolist():
        if k > 0:
            inside = (labels == k).nonzero()
            chosen = torch.randint(len(inside), (), generator=generator)
            points[tuple(inside[chosen])] = k
    return points


def _anatomy(size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The label map, and the masks of papillary muscles and lungs; lengths in units of the size."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    y, x = _grid(size)
    apical = between(0, 1) < 1 / 8
    radius = between(0.07, 0.09) if apical else between(0.10, 0.16)
    wall = between(0.045, 0.07)
    row, column, turn = between(0.45, 0.55), between(0.5, 0.6), between(-0.5, 0.5)
    stretch = between(0.88, 1.12)

    left = _ellipse(y, x, row, column, radius * stretch, radius / stretch, turn)
    outer = (radius + wall) * stretch, (radius + wall) / stretch
    heart = _ellipse(y, x, row, column, *outer, turn)
    # The crescent is what the heart leaves of an ellipse beside it, a wall apart.
    away = radius + wall + between(0.01, 0.04)
    beside = row - away * math.sin(turn), column - away * math.cos(turn)
    right = _ellipse(y, x, *beside, between(0.16, 0.21), between(0.10, 0.13), turn)

    label = torch.zeros(size, size, dtype=torch.int64)
    if not apical:
        label[right] = RIGHT
    label[heart] = MYOCARDIUM
    label[left] = LEFT

    papillary = torch.zeros_like(left)
    for side in (-1, 1):
        at = turn + side * between(0.7, 1.1)
        spot = row + 0.6 * radius * math.sin(at), column + 0.6 * radius * math.cos(at)
        papillary |= _ellipse(y, x, *spot, 0.17 * radius, 0.17 * radius, 0.0)
    lungs = _ellipse(y, x, between(0.3, 0.4), 1.0, 0.33, 0.20, 0.3)
    lungs |= _ellipse(y, x, between(0.3, 0.4), 0.0, 0.33, 0.17, -0.3)
    return label, papillary & left, lungs & (label == 0)


def _image(
    label: Tensor, papillary: Tensor, lungs: Tensor, noise: float, random: torch.Generator
) -> Tensor:
    size = label.shape[0]

    def jitter(level: float) -> float:
        return level + 0.03 * float(torch.randn((), generator=random))

    blood, muscle = jitter(BLOOD), jitter(MUSCLE)
    image = jitter(CHEST) + 0.06 * _smooth(size, 9, random)
    image[lungs] = LUNG
    image[(label == RIGHT) | (label == LEFT)] = blood
    image[(label == MYOCARDIUM) | papillary] = muscle
    blurred = functional.avg_pool2d(image[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    coil = 1 + 0.12 * _smooth(size, 2, random)
    noisy = blurred * coil + noise * torch.randn(size, size, generator=random)
    return (255 * noisy).round().clamp(0, 255) / 255


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Pixel centres, in units of the size."""
    at = (torch.arange(size) + 0.5) / size
    return at[:, None], at[None, :]


def _ellipse(
    y: Tensor, x: Tensor, row: float, column: float, height: float, width: float, turn: float
) -> Tensor:
    """The pixels inside an ellipse with these half axes, turned by so many radians."""
    dy, dx = y - row, x - column
    along = dy * math.cos(turn) - dx * math.sin(turn)
    across = dy * math.sin(turn) + dx * math.cos(turn)
    return (along / height) ** 2 + (across / width) ** 2 <= 1


def _smooth(size: int, knots: int, random: torch.Generator) -> Tensor:
    """A smooth random field of roughly unit variance, [size, size]."""
    coarse = torch.randn(1, 1, knots, knots, generator=random)
    return functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0, 0]

"""Phantoms of brain MRI with label maps, in 2-D and 3-D, and pairs of them to register."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from medkern.data.seeding import generator_of
from medkern.rules import at_least, choice, message

STRUCTURES = (
    "background",
    "cortex",
    "white matter",
    "ventricles",
    "caudate",
    "putamen",
    "thalamus",
)
# Grey levels, as in a T1-weighted image without the skull.
LEVELS = (0.0, 0.52, 0.82, 0.14, 0.56, 0.62, 0.66)

# Deep structures of half the brain: label, centre (z, y, x), half axes (z, y, x), turn in radians;
# lengths in units in which the image is [-1, 1] along every axis. y runs from front to back.
DEEP = (
    (6, (-0.05, 0.10, 0.16), (0.24, 0.21, 0.13), 0.35),
    (5, (-0.05, -0.12, 0.37), (0.26, 0.24, 0.10), -0.30),
    (4, (0.02, -0.30, 0.22), (0.26, 0.18, 0.095), 0.25),
    (3, (0.08, -0.26, 0.09), (0.26, 0.22, 0.07), 0.30),
    (3, (0.08, 0.38, 0.19), (0.24, 0.23, 0.085), -0.45),
)


@dataclass(frozen=True)
class BrainPhantoms(Dataset[dict[str, Tensor]]):
    """Made-up brains without skull, as affinely aligned subjects are: a folded cortex around white
    matter, ventricles, caudate, putamen and thalamus, each brain a smooth deformation of one atlas.

    Item i depends on `seed` and i alone; up to its noise it is the same brain at every size, so
    that methods can be trained at one resolution and tested at another. It is a dict of

    - `image`: float32 [1, *size] in [0, 1];
    - `label`: int64 [*size] with the classes of `STRUCTURES`: 0 background, 1 cortex, 2 white
      matter, 3 ventricles, 4 caudate, 5 putamen, 6 thalamus.

    Args:
        length: number of brains.
        size: (rows, columns) of an axial slice, or (slices, rows, columns); each at least 16.
        seed: of everything.
        deform: root mean square of the deformation; 1 is half the image.
        noise: standard deviation of the noise.

    >>> from medkern.data import BrainPhantoms
    >>> item = BrainPhantoms(4, size=(48, 40), seed=1)[2]
    >>> tuple(item["image"].shape), item["label"].unique().tolist()
    ((1, 48, 40), [0, 1, 2, 3, 4, 5, 6])
    """

    length: int
    size: Sequence[int] = (192, 160)
    seed: int = 0
    deform: float = 0.04
    noise: float = 0.02

    def __post_init__(self) -> None:
        at_least("data.BrainPhantoms", "length", self.length, 0)
        if len(self.size) not in (2, 3) or any(n < 16 for n in self.size):
            rule = "be 2 or 3 numbers of at least 16"
            raise ValueError(message("data.BrainPhantoms", "size", rule, self.size, "enlarge it"))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = generator_of("brain", self.seed, index)
        label, image = _brain(self.size, self.deform, random)
        noisy = image + self.noise * torch.randn(image.shape, generator=random)
        return {"image": noisy.clamp(0, 1)[None], "label": label}


class Items(Protocol):
    """A list of items, or a map-style dataset that knows its length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Pairs(Dataset[dict[str, Tensor]]):
    """Pairs of the items of a dataset with `image` and `label`, kept in memory, to register.

    An item is a dict of `moving`, `fixed` (the images), `moving_label` and `fixed_label`.

    Args:
        subjects: the items; a dataset will do.
        pairing: "all": all n (n - 1) ordered pairs. "neighbours": (i, i + 1).

    >>> from medkern.data import BrainPhantoms, Pairs
    >>> pairs = Pairs(BrainPhantoms(3, size=(32, 32)))
    >>> len(pairs), sorted(pairs[5])
    (6, ['fixed', 'fixed_label', 'moving', 'moving_label'])
    """

    subjects: Items
    pairing: str = "all"

    def __post_init__(self) -> None:
        choice("data.Pairs", "pairing", self.pairing, ("all", "neighbours"))
        kept = [self.subjects[i] for i in range(len(self.subjects))]
        object.__setattr__(self, "subjects", kept)

    def __len__(self) -> int:
        n = len(self.subjects)
        return max(n - 1, 0) if self.pairing == "neighbours" else n * max(n - 1, 0)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first, second = index, index + 1
        if self.pairing == "all":
            first, other = divmod(index, len(self.subjects) - 1)
            second = other + (other >= first)
        moving, fixed = self.subjects[first], self.subjects[second]
        return {
            "moving": moving["image"],
            "fixed": fixed["image"],
            "moving_label": moving["label"],
            "fixed_label": fixed["label"],
        }


def _brain(size: Sequence[int], deform: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Label map and image of the atlas at smoothly displaced positions."""
    z, y, x = _positions(size, deform, random)
    sharp = min(size) / 4  # edges are as wide as two pixels

    # The brain is an ellipsoid; folds move the boundary of the white matter more than its own.
    folds = torch.sin(14 * y + 2) * torch.cos(13 * x) + torch.sin(19 * x + 8 * y) * torch.cos(
        15 * z
    )
    radius = torch.sqrt((z / 0.85) ** 2 + (y / 0.84) ** 2 + (x / 0.70) ** 2)
    gap = 0.05 * torch.exp(-((x / 0.025) ** 2))  # between the hemispheres
    layers = [(1, 1 - radius - gap), (2, 0.80 - radius + 0.07 * folds - 2 * gap)]
    side = x.abs()
    for label, (cz, cy, cx), (hz, hy, hx), turn in DEEP:
        dy, dx = y - cy, side - cx
        along = dy * math.cos(turn) + dx * math.sin(turn)
        across = dx * math.cos(turn) - dy * math.sin(turn)
        reach = torch.sqrt(((z - cz) / hz) ** 2 + (along / hy) ** 2 + (across / hx) ** 2)
        layers.append((label, (1 - reach) * hx))

    label_map = torch.zeros(list(size), dtype=torch.int64)
    image = torch.zeros(list(size))
    for label, depth in layers:  # positive inside
        level = LEVELS[label] + 0.02 * float(torch.randn((), generator=random))
        image = image + torch.sigmoid(4 * sharp * depth) * (level - image)
        label_map = torch.where(depth > 0, label, label_map)
    shade = 1 + 0.06 * (float(torch.rand((), generator=random)) * y + 0.5 * x)  # of the coil
    return label_map, image * shade


def _positions(size: Sequence[int], deform: float, random: torch.Generator) -> list[Tensor]:
    """Where in the atlas each voxel is: (z, y, x), the grid [-1, 1] and a sum of cosines."""
    axes = [torch.linspace(-1, 1, n) for n in size]
    grid = list(torch.meshgrid(*axes, indexing="ij"))
    # Drawn for three axes always, so that a slice is that of the volume.
    waves = torch.randn(3, 3, 3, 3, generator=random)  # component, and frequency along z, y, x
    cosines = [
        torch.stack([torch.cos(math.pi / 2 * k * (axis + 1)) for k in range(3)]) for axis in axes
    ]
    if len(size) == 2:
        middle = torch.tensor([math.cos(math.pi / 2 * k) for k in range(3)])[:, None]
        cosines = [middle, *cosines]
        grid = [torch.zeros(list(size)), *grid]
    moved = torch.einsum("cijk,iz,jy,kx->czyx", waves, *cosines).reshape(3, *size)
    # Of 27 cosines of unit variance; a constant has mean square 1 and a wave 1/2, per axis.
    return [p + deform / math.sqrt(8) * u for p, u in zip(grid, moved, strict=True)]

"""Hyperspectral cubes: stained tissue through a microscope, and a task that only order solves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from medkern.data.seeding import generator_of
from medkern.rules import at_least, message

FIRST, LAST = 550.0, 1000.0  # nm, of the choledoch data set
SHIFT = 18.0  # nm by which the stain's peak lies further to the red in a lesion


@dataclass(frozen=True)
class TissueCubes(Dataset[dict[str, Tensor]]):
    """Made-up slides of stained tissue, seen from 550 to 1000 nm, some of it a lesion.

    Light falls off by the law of Beer and Lambert: each pixel transmits exp(-absorbance), the sum
    of what hematoxylin (in nuclei), eosin (everywhere) and scattering take, times an uneven lamp.
    A lesion and a healthy gland both have many nuclei and look alike in any one band; in the lesion
    the stain absorbs 18 nm further to the red. Item i depends on `seed` and i alone: a dict of

    - `image`: float32 [bands, size, size], about 0 to 1;
    - `label`: int64 [size, size], 1 in a lesion.

    Args:
        length: number of cubes.
        size: pixels per side, at least 16.
        bands: number of bands, from 550 to 1000 nm.
        seed: of everything.
        noise: standard deviation of the noise of each band.

    >>> from medkern.data import TissueCubes
    >>> item = TissueCubes(2, size=32)[1]
    >>> tuple(item["image"].shape), tuple(item["label"].shape)
    ((60, 32, 32), (32, 32))
    """

    length: int
    size: int = 64
    bands: int = 60
    seed: int = 0
    noise: float = 0.02

    def __post_init__(self) -> None:
        at_least("data.TissueCubes", "length", self.length, 0)
        at_least("data.TissueCubes", "size", self.size, 16)
        at_least("data.TissueCubes", "bands", self.bands, 1)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random, size = generator_of("tissue", self.seed, index), self.size
        wave = torch.linspace(FIRST, LAST, self.bands)[:, None, None]
        glands = smooth_field(size, 4, random) > 0.5
        lesion = (smooth_field(size, 4, random) > 0.5) & ~glands
        nuclei = smooth_field(size, size // 3, random).sigmoid()
        dense = (glands | lesion).float()
        hematoxylin = (0.25 + 0.9 * dense) * (0.4 + nuclei)
        eosin = 0.5 + 0.15 * smooth_field(size, 6, random)
        peak = 590 + SHIFT * lesion
        absorbed = hematoxylin * _peak(wave, peak, 55) + eosin * _peak(wave, 535, 30)
        absorbed = absorbed + 0.15 * (FIRST / wave) ** 2
        lamp = 1 + 0.08 * smooth_field(size, 2, random)
        image = lamp * torch.exp(-absorbed)
        image += self.noise * torch.randn(image.shape, generator=random)
        return {"image": image, "label": lesion.long()}


@dataclass(frozen=True)
class OrderCubes(Dataset[dict[str, Tensor]]):
    """Cubes whose classes differ by where along the spectrum a bump is, and by nothing else.

    Every pixel has the same bump, one slice of `bands_per_slice` bands wide: at slice `early` in
    regions of class 1, at slice `late` elsewhere. The slices of both classes are the same set, so
    that what looks at them without regard to order, such as their mean, cannot tell; nor can the
    sum over both directions if early and late are mirror images. Item i depends on `seed` and i
    alone. It is a dict of

    - `image`: float32 [bands, size, size], a bump of height 1 in noise;
    - `label`: int64 [size, size], 1 where the bump comes early; about half of all pixels.

    Args:
        length: number of cubes.
        size: pixels per side, at least 4.
        bands, bands_per_slice: number of bands, and of them in a slice.
        early, late: slices of the bump.
        noise: its standard deviation.
        seed: of everything.

    >>> from medkern.data import OrderCubes
    >>> item = OrderCubes(1, size=16)[0]
    >>> chosen = item["image"][:, item["label"] == 1].mean(1)  # [60]
    >>> chosen.round().nonzero().flatten().tolist()  # slice 2
    [6, 7, 8]
    """

    length: int
    size: int = 32
    bands: int = 60
    bands_per_slice: int = 3
    early: int = 2
    late: int = 10
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        name = "data.OrderCubes"
        for argument, least in (("length", 0), ("size", 4), ("bands", 1), ("bands_per_slice", 1)):
            at_least(name, argument, getattr(self, argument), least)
        slices = self.bands // self.bands_per_slice
        for argument in ("early", "late"):
            value = getattr(self, argument)
            if not 0 <= value < slices:
                rule = f"be a slice, 0 to {slices - 1}"
                raise ValueError(message(name, argument, rule, value, "count from 0"))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        random = generator_of("order", self.seed, index)
        label = smooth_field(self.size, 3, random) > 0
        image = self.noise * torch.randn(self.bands, self.size, self.size, generator=random)
        for at, where in ((self.early, label), (self.late, ~label)):
            first = at * self.bands_per_slice
            image[first : first + self.bands_per_slice] += where.float()
        return {"image": image, "label": label.long()}


def smooth_field(size: int, knots: int, random: torch.Generator) -> Tensor:
    """A smooth random field [size, size], roughly of mean 0 and unit variance."""
    coarse = torch.randn(1, 1, max(knots, 2), max(knots, 2), generator=random)
    field = functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
    return field[0, 0]


def _peak(wave: Tensor, centre: Tensor | float, width: float) -> Tensor:
    return torch.exp(-(((wave - centre) / width) ** 2) / 2)

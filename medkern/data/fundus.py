"""Phantoms of colour fundus photographs: optic disc and cup, as seen by four cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from medkern.data.seeding import generator_of
from medkern.rules import at_least, choice

CLASSES = ("background", "rim", "cup")
RIM, CUP = 1, 2

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """What a clinic does to the picture of an eye: its colours, and then its optics.

    Colours are red, green, blue in [0, 1]. `blur` is the standard deviation of a Gaussian in units
    of the image's size, `shade` the strength of uneven illumination, `noise` a standard deviation.
    """

    background: Colour
    rim: Colour
    cup: Colour
    vessel: Colour
    gamma: float
    blur: float
    shade: float
    noise: float


CAMERAS = {
    "source": Camera(
        background=(0.72, 0.36, 0.16),
        rim=(0.92, 0.64, 0.34),
        cup=(0.98, 0.84, 0.60),
        vessel=(0.48, 0.15, 0.07),
        gamma=1.0,
        blur=0.008,
        shade=0.10,
        noise=0.02,
    ),
    "dark": Camera(
        background=(0.42, 0.16, 0.10),
        rim=(0.62, 0.34, 0.16),
        cup=(0.72, 0.50, 0.26),
        vessel=(0.28, 0.07, 0.05),
        gamma=1.3,
        blur=0.012,
        shade=0.30,
        noise=0.02,
    ),
    "pale": Camera(
        background=(0.78, 0.56, 0.50),
        rim=(0.90, 0.74, 0.62),
        cup=(0.96, 0.90, 0.80),
        vessel=(0.62, 0.34, 0.34),
        gamma=0.8,
        blur=0.016,
        shade=0.20,
        noise=0.03,
    ),
    "green": Camera(
        background=(0.34, 0.44, 0.22),
        rim=(0.56, 0.68, 0.34),
        cup=(0.74, 0.86, 0.52),
        vessel=(0.20, 0.22, 0.12),
        gamma=1.0,
        blur=0.010,
        shade=0.25,
        noise=0.03,
    ),
}
TARGETS = tuple(name for name in CAMERAS if name != "source")


@dataclass(frozen=True)
class FundusImages(Dataset[dict[str, Tensor]]):
    """Made-up fundus photographs around the optic disc: a bright disc, a brighter cup within it,
    vessels that leave it above and below, on a mottled background.

    Item i depends on `seed`, `camera` and i alone, and its anatomy on `seed` and i: the four
    cameras see the same eyes. It is a dict of

    - `image`: float32 [3, size, size], RGB in [0, 1];
    - `label`: int64 [size, size] with the classes 0 background, 1 rim, 2 cup. The disc is both.

    Position, size and shape of disc and cup, their ratio (0.35 to 0.7), vessels, mottling,
    illumination and the colours themselves vary from eye to eye.

    Args:
        length: number of images.
        size: pixels per side, at least 32.
        camera: "source", or one of the targets "dark", "pale" and "green", which differ from it in
            colours, gamma, blur, evenness of the illumination and noise.
        seed: of everything.

    >>> from medkern.data import FundusImages
    >>> here, there = FundusImages(4, size=64), FundusImages(4, size=64, camera="pale")
    >>> tuple(here[2]["image"].shape), here[2]["label"].unique().tolist()
    ((3, 64, 64), [0, 1, 2])
    >>> bool((here[2]["label"] == there[2]["label"]).all())
    True
    """

    length: int
    size: int = 128
    camera: str = "source"
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("data.FundusImages", "length", self.length, 0)
        at_least("data.FundusImages", "size", self.size, 32)
        choice("data.FundusImages", "camera", self.camera, tuple(CAMERAS))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        eye = _eye(self.size, generator_of("eye", self.seed, index))
        random = generator_of("camera", self.camera, self.seed, index)
        return {"image": _photograph(eye, CAMERAS[self.camera], random), "label": eye.label}


@dataclass(frozen=True)
class _Eye:
    """What there is to see: shares in [0, 1] of the pixels [S, S], so that edges are smooth."""

    disc: Tensor
    cup: Tensor
    vessels: Tensor
    mottling: Tensor
    label: Tensor


def _eye(size: int, random: torch.Generator) -> _Eye:
    """Lengths are in units of the size."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    at = (torch.arange(size) + 0.5) / size
    y, x = at[:, None], at[None, :]
    row, column = between(0.38, 0.62), between(0.38, 0.62)
    radius, stretch, turn = between(0.15, 0.24), between(1.0, 1.15), between(-0.4, 0.4)
    disc = _inside(y - row, x - column, radius * stretch, radius / stretch, turn)
    ratio = between(0.35, 0.7)
    room = 0.3 * (1 - ratio) * radius
    lower, right = row + between(-room, room), column + between(-room, room)
    tall, wide = ratio * radius * between(0.95, 1.1), ratio * radius * between(0.9, 1.05)
    cup = torch.minimum(_inside(y - lower, x - right, tall, wide, turn), disc)

    vessels = torch.zeros(size, size)
    for side in (-1, -1, -1, 1, 1, 1):
        away = side * (y - lower)  # along the vessel
        slope, bend = between(-0.7, 0.7), between(-1.2, 1.2)
        middle = right + between(-0.03, 0.03) + (slope + bend * away) * away
        steep = (1 + (slope + 2 * bend * away) ** 2).sqrt()
        width = between(0.008, 0.018) * (1 - 0.6 * away.clamp(0, 1))
        near = ((width - (x - middle).abs() / steep) * size + 0.5).clamp(0, 1)
        vessels = torch.maximum(vessels, near * (away > 0))

    label = torch.zeros(size, size, dtype=torch.int64)
    label[disc >= 0.5] = RIM
    label[cup >= 0.5] = CUP
    mottling = 0.6 * _smooth(size, 7, random) + 0.4 * _smooth(size, 15, random)
    return _Eye(disc, cup, vessels, mottling, label)


def _photograph(eye: _Eye, camera: Camera, random: torch.Generator) -> Tensor:
    size = eye.disc.shape[0]

    def colour(base: Colour) -> Tensor:
        tint = 0.02 * torch.randn(3, generator=random)
        return (torch.tensor(base) + tint)[:, None, None]

    image = colour(camera.background) * (1 + 0.12 * eye.mottling)
    image = torch.lerp(image, colour(camera.rim), eye.disc)
    image = torch.lerp(image, colour(camera.cup), eye.cup)
    image = torch.lerp(image, colour(camera.vessel), 0.8 * eye.vessels)
    image = image * (1 + camera.shade * _smooth(size, 3, random))
    image = _blurred(image.clamp(min=0) ** camera.gamma, camera.blur * size)
    return (image + camera.noise * torch.randn(3, size, size, generator=random)).clamp(0, 1)


def _inside(dy: Tensor, dx: Tensor, height: float, width: float, turn: float) -> Tensor:
    """The share of each pixel inside an ellipse about (0, 0), turned by so many radians."""
    along = dy * math.cos(turn) - dx * math.sin(turn)
    across = dy * math.sin(turn) + dx * math.cos(turn)
    radius = ((along / height) ** 2 + (across / width) ** 2).sqrt()
    pixels = (1 - radius) * math.sqrt(height * width) * dy.shape[0]  # to the edge, about
    return (pixels + 0.5).clamp(0, 1)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur [C, H, W], the edges repeated."""
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum())[None, None]
    padded = functional.pad(image[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, taps[..., None])
    return functional.conv2d(rows, taps[:, :, None])[:, 0]


def _smooth(size: int, knots: int, random: torch.Generator) -> Tensor:
    """A smooth random field of roughly unit variance [size, size]."""
    coarse = torch.randn(1, 1, knots, knots, generator=random)
    return functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0, 0]

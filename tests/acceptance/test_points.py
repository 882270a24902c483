"""System 13, points: what its specification asks for, on made-up images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import medkern as mk
from medkern.data.cardiac import _ellipse, _grid, random_points
from medkern.data.seeding import generator_of
from medkern.recipes.points import Points
from medkern.train import Training

pytestmark = pytest.mark.slow

SIZE, OBJECT, GROUND = 64, 160, 80
KINDS = ("euclidean", "chamfer", "geodesic", "intensity", "mbd")
Shape = Callable[[torch.Generator], Tensor]


# Shape recovery: how well a threshold of the map of one point finds the object.


def disk(_: torch.Generator) -> Tensor:
    return _ellipse(*_grid(SIZE), 0.5, 0.5, 0.28, 0.28, 0.0)


def ellipse(_: torch.Generator) -> Tensor:
    return _ellipse(*_grid(SIZE), 0.5, 0.5, 0.4, 0.14, 0.6)


def c_shape(_: torch.Generator) -> Tensor:
    y, x = _grid(SIZE)
    ring = _ellipse(y, x, 0.5, 0.5, 0.4, 0.4, 0.0) & ~_ellipse(y, x, 0.5, 0.5, 0.24, 0.24, 0.0)
    return ring & ~((x > 0.5) & ((y - 0.5).abs() < 0.15))


SHAPES: dict[str, Shape] = {"disk": disk, "ellipse": ellipse, "C-shape": c_shape}


def picture(mask: Tensor, noise: float, random: torch.Generator) -> Tensor:
    grey = torch.where(mask, float(OBJECT), float(GROUND))
    return (grey + noise * torch.randn(mask.shape, generator=random)).round().clamp(0, 255).byte()


def best_dice(distance: Tensor, mask: Tensor) -> float:
    """Of all masks `distance <= t`."""
    inside = mask.flatten()[distance.flatten().argsort()].double().cumsum(0)
    chosen = torch.arange(1, inside.numel() + 1)
    values = distance.flatten().sort().values
    last = torch.cat([values[1:] != values[:-1], torch.tensor([True])])  # of equal distances
    return (2 * inside / (chosen + mask.sum()))[last].max().item()


def recovery(shape: Shape, kind: str, noise: float, repeats: int = 20) -> float:
    found = []
    for i in range(repeats):
        random = generator_of("recovery", i)
        mask = shape(random)
        image = picture(mask, noise, random)
        points = random_points(mask.long(), random)
        looked_at = None if kind in ("euclidean", "chamfer") else image
        phi = mk.signed_distance_map(points, looked_at, kind=kind, classes=2, ndim=2)
        found.append(best_dice(phi, mask))
    return statistics.mean(found)


def test_shape_recovery(record):
    table = {
        f"sigma {noise}": {
            name: {kind: round(recovery(shape, kind, noise), 3) for kind in KINDS}
            for name, shape in SHAPES.items()
        }
        for noise in (10, 20)
    }
    record("shape recovery", {"images": 20, "best-threshold Dice": table})
    for dice in table["sigma 10"].values():
        assert dice["mbd"] >= 0.95
        assert dice["euclidean"] <= 0.75
        assert dice["mbd"] > dice["intensity"] >= dice["geodesic"] - 0.02 > dice["euclidean"]


# Point supervision: the curves of validation Dice over the epochs.


class Ellipses(Dataset[dict[str, Tensor]]):
    """One ellipse per image, of 160 on 80 under noise."""

    def __init__(self, length: int, seed: int, noise: float = 10.0) -> None:
        self.length, self.seed, self.noise = length, seed, noise

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        random = generator_of("ellipses", self.seed, index)
        a, b, c, d, e = torch.rand(5, generator=random).tolist()
        centre, axes = (0.35 + 0.3 * a, 0.35 + 0.3 * b), (0.12 + 0.16 * c, 0.12 + 0.16 * d)
        mask = _ellipse(*_grid(SIZE), *centre, *axes, 3.14 * e)
        image = picture(mask, self.noise, random).float()[None] / 255
        return {"image": image, "label": mask.long(), "points": random_points(mask.long(), random)}


class EllipsePoints(Points):
    """The specification's experiment: 64 images, a small U-Net, Adam at 5e-4, batches of 8."""

    learning_rate, epochs = 5e-4, 40

    def __init__(self, options) -> None:
        super().__init__(options)
        self.classes = 2

    def training_images(self):
        return Ellipses(64, self.options.seed)

    def validation_data(self):
        return Ellipses(32, self.options.seed + 1000)

    def model(self):
        return mk.models.UNet(1, 2, width=16, levels=3)

    def names(self) -> tuple[str, ...]:
        return ("object",)


def variants() -> Iterator[tuple[str, list[str]]]:
    yield "full", ["--loss", "full"]
    yield "points", ["--loss", "points"]
    for kind in ("euclidean", "geodesic", "intensity", "mbd"):
        yield kind, ["--map", kind]


def test_point_supervision_curves(record):
    """MBD maps degrade slower than Euclidean ones, and are as good at their best."""
    table = {}
    for name, own in variants():
        recipe = EllipsePoints.with_options("--no-augment", *own, seed=0)
        dice = [r.metrics["dice"] for r in Training(recipe).run().history]
        table[name] = {
            "best": round(max(dice), 3),
            "mean": round(statistics.mean(dice), 3),
            "every 5 epochs": [round(value, 2) for value in dice[4::5]],
        }
    record("point supervision", {"seed": 0, "epochs": 40, "images": 64, "validation Dice": table})
    assert table["mbd"]["mean"] >= table["euclidean"]["mean"] + 0.1
    assert table["mbd"]["best"] >= table["euclidean"]["best"] - 0.005


def test_losses_on_cardiac_phantoms(record):
    """The rows of the paper's table 1, on the phantoms of `medkern train points --quick`."""
    table = {}
    for name, own in [*variants(), ("crf", ["--loss", "crf"])]:
        recipe = Points.with_options(*own, seed=0, quick=True)
        best = Training(recipe).run().best
        table[name] = {metric: round(value, 3) for metric, value in best.metrics.items()}
    record("cardiac phantoms", {"seed": 0, "epochs": Points.quick_epochs, "best epoch": table})
    assert table["mbd"]["dice"] >= Points.threshold
    assert table["full"]["dice"] > table["mbd"]["dice"] > table["points"]["dice"] + 0.2

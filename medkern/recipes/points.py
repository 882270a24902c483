"""Segmentation from one point per object: partial cross-entropy and boundary loss.

Source: Breznik et al., boundary loss with intensity-aware distance maps for point annotations.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import medkern as mk
from medkern.data.cardiac import CLASSES, UNLABELLED, CardiacSlices, random_points
from medkern.data.kept import Kept
from medkern.data.seeding import generator_of
from medkern.train.folder import FolderData
from medkern.train.metrics import dice_scores, hausdorff95
from medkern.train.recipe import Batch, Options, Recipe, Step

MAPS = ("euclidean", "chamfer", "geodesic", "intensity", "mbd")
LOSSES = ("boundary", "crf", "points", "full")


class Points(Recipe):
    name = "points"
    summary = "cardiac segmentation from one point per structure, with the boundary loss"
    metric = "dice"
    threshold = 0.8
    epochs, quick_epochs, batch_size, learning_rate = 60, 30, 8, 2e-3

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--map", choices=MAPS, default="mbd", help="distance of the maps; default: mbd")
        add("--loss", choices=LOSSES, default="boundary", help="beside the points' cross-entropy")
        add("--model", choices=("unet", "enet"), default="unet", help="default: unet")
        add("--alpha", type=float, default=1.0, help="weight of the boundary loss; default: 1")
        add("--classes", type=int, default=4, help="of --data, the background included; default: 4")
        still = "leave out turns, flips and zooms; maps are then measured once and kept"
        add("--no-augment", action="store_true", help=still)

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.classes = self.own.classes if self.options.data else len(CLASSES)

    def train_data(self) -> Dataset[Batch]:
        data = self.training_images()
        if self.own.no_augment and self.own.loss == "boundary":
            return Kept(WithMaps(data, self.maps))
        return data

    def training_images(self) -> Dataset[Batch]:
        if self.options.data:
            marked = (self.options.data / "points").is_dir() and self.own.loss != "full"
            return self.own_images("train", "points" if marked else "labels")
        return self.slices(64 if self.quick else 256, self.options.seed)

    def validation_data(self) -> Dataset[Batch]:
        if self.options.data:
            return self.own_images("validation", "labels")
        return self.slices(32 if self.quick else 64, self.options.seed + 1)

    def slices(self, length: int, seed: int) -> Dataset[Batch]:
        return CardiacSlices(length, 64 if self.quick else 128, seed=seed)

    def own_images(self, split: str, target: str) -> Dataset[Batch]:
        assert self.options.data is not None
        images = FolderData(self.options.data, split, classes=self.classes, targets=(target,))
        return WithPoints(images, self.options.seed)

    def model(self) -> nn.Module:
        if self.own.model == "enet":
            return mk.models.ENet(1, self.classes)
        return mk.models.UNet(1, self.classes, width=16)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), self.learning_rate, betas=(0.9, 0.99))

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        """Turn image and point, then measure: no map is ever warped."""
        if not self.own.no_augment:
            item = turned(item, generator)
        if self.own.loss == "boundary" and "maps" not in item:
            item["maps"] = self.maps(item)
        return item

    def maps(self, item: Batch) -> Tensor:
        """Signed distance maps [K - 1, H, W] in grey levels, of the classes with a point."""
        looks = self.own.map not in ("euclidean", "chamfer")
        grey = (255 * item["image"]).round().to(torch.uint8) if looks else None
        points, kind = item["points"], self.own.map
        maps: Tensor = mk.signed_distance_map(points, grey, kind=kind, classes=self.classes, ndim=2)
        return maps

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        logits = model(batch["image"])
        kind = self.own.loss
        if kind == "boundary":
            alpha = self.own.alpha
            return {"loss": mk.boundary_loss(logits, batch["maps"], batch["points"], alpha=alpha)}
        target = batch["label"] if kind == "full" else batch["points"]
        loss = functional.cross_entropy(logits, target, ignore_index=UNLABELLED)
        if kind == "crf":
            crf = mk.losses.DenseCRFLoss(sigma_xy=100 / 256 * logits.shape[-1])
            loss = loss + crf(logits, 255 * batch["image"])
        return {"loss": loss}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        dice, far = [], []
        for batch in self.batches(data):
            predicted = model(batch["image"]).argmax(1)
            dice.append(dice_scores(predicted, batch["label"], self.classes))
            far.append(hausdorff95(predicted, batch["label"], self.classes))
        per_class = torch.cat(dice).nanmean(0).nan_to_num(1.0)  # a class that nobody has: agreed
        return {
            "dice": per_class.mean().item(),
            "hd95": torch.cat(far).nanmean().nan_to_num(0.0).item(),
            **{f"dice_{name}": d for name, d in zip(self.names(), per_class.tolist(), strict=True)},
        }

    def names(self) -> tuple[str, ...]:
        """Of the foreground classes."""
        own = self.options.data is not None
        return tuple(map(str, range(1, self.classes))) if own else ("rv", "myo", "lv")

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        batch = next(self.batches(data))
        predicted = model(batch["image"]).argmax(1)
        titles = (
            "image and points",
            f"{self.own.map} map, {self.names()[-1]}",
            "prediction",
            "truth",
        )
        rows = min(4, len(predicted))
        figure, axes = figures.grid(titles, rows)
        for row, axis in enumerate(axes):
            item = {name: value[row].cpu() for name, value in batch.items()}
            figures.show_image(axis[0], item["image"][0])
            for y, x in (item["points"] > 0).nonzero().tolist():
                colour = figures.COLOURS[item["points"][y, x] - 1]
                axis[0].plot(x, y, "o", color=colour, markersize=5)
            axis[1].imshow(self.maps(item)[-1].numpy(), cmap="viridis")
            figures.show_labels(axis[2], item["image"][0], predicted[row])
            figures.show_labels(axis[3], item["image"][0], item["label"])
        return figure


class WithMaps(Dataset[Batch]):
    """Items and their maps."""

    def __init__(self, data: Dataset[Batch], measure: Callable[[Batch], Tensor]) -> None:
        self.data, self.measure = data, measure

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Batch:
        item = self.data[index]
        return {**item, "maps": self.measure(item)}


class WithPoints(Dataset[Batch]):
    """Items that have points: their own, 0 where there is none, or drawn from their label maps."""

    def __init__(self, data: FolderData, seed: int) -> None:
        self.data, self.seed = data, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Batch:
        item = self.data[index]
        if "points" in item:
            item["points"] = torch.where(item["points"] > 0, item["points"], UNLABELLED)
        else:
            item["points"] = random_points(item["label"], generator_of("points", self.seed, index))
        return item


def turned(item: Batch, generator: torch.Generator) -> Batch:
    """Image, label map and points under one random turn, zoom and flip; a point stays a point."""
    uniform = torch.rand(3, generator=generator)
    angle, zoom = math.radians(30 * (2 * uniform[0].item() - 1)), 0.9 + 0.2 * uniform[1].item()
    flip = 1.0 if uniform[2] < 0.5 else -1.0
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    backward = torch.tensor([[cos * flip, -sin, 0.0], [sin * flip, cos, 0.0]])  # target to source
    shape = [1, *item["image"].shape]
    grid = functional.affine_grid(backward[None], shape, align_corners=False)

    def sample(t: Tensor, mode: str) -> Tensor:
        drawn = functional.grid_sample(
            t[None].float(), grid, mode=mode, padding_mode="border", align_corners=False
        )
        return drawn[0]

    changed = {
        "image": (255 * sample(item["image"], "bilinear")).round() / 255,
        "points": _moved(item["points"], backward[:, :2].inverse()),
    }
    if "label" in item:
        changed["label"] = sample(item["label"][None], "nearest")[0].long()
    return changed


def _moved(points: Tensor, forward: Tensor) -> Tensor:
    """Points [H, W] under a linear map of (x, y) about the centre; those that leave are gone."""
    moved = torch.full_like(points, UNLABELLED)
    size = torch.tensor(points.shape)
    for at in (points > 0).nonzero():
        centred = (2 * at + 1) / size - 1  # as grid_sample counts
        target = ((forward @ centred.flip(0)).flip(0) + 1) * size / 2
        target = target.floor().long()
        if ((target >= 0) & (target < size)).all():
            moved[tuple(target)] = points[tuple(at)]
    return moved

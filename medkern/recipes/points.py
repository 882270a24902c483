"""Segmentation from one point per object: partial cross-entropy and boundary loss.

Source: Breznik et al., boundary loss with intensity-aware distance maps for point annotations.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import medkern as mk
from medkern.data.cardiac import CLASSES, CardiacSlices
from medkern.train.metrics import dice_scores, hausdorff95
from medkern.train.recipe import Batch, Recipe, Step

MAPS = ("euclidean", "chamfer", "geodesic", "intensity", "mbd")
LOSSES = ("boundary", "crf", "points", "full")


class Points(Recipe):
    name = "points"
    summary = "cardiac segmentation from one point per structure, with the boundary loss"
    metric = "dice"
    threshold = 0.85
    epochs, quick_epochs, batch_size, learning_rate = 60, 30, 8, 5e-4

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--map", choices=MAPS, default="mbd", help="distance of the maps; default: mbd")
        add("--loss", choices=LOSSES, default="boundary", help="beside the points' cross-entropy")
        add("--model", choices=("unet", "enet"), default="unet", help="default: unet")
        add("--alpha", type=float, default=1.0, help="weight of the boundary loss; default: 1")
        add("--no-augment", action="store_true", help="leave out turns, flips and zooms")

    def train_data(self) -> Dataset[Batch]:
        return CardiacSlices(64 if self.quick else 256, self.size, seed=self.options.seed)

    def validation_data(self) -> Dataset[Batch]:
        return CardiacSlices(32 if self.quick else 64, self.size, seed=self.options.seed + 1)

    @property
    def size(self) -> int:
        return 64 if self.quick else 128

    def model(self) -> nn.Module:
        classes = len(CLASSES)
        if self.options.own["model"] == "enet":
            return mk.models.ENet(1, classes)
        return mk.models.UNet(1, classes, width=16)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), self.learning_rate, betas=(0.9, 0.99))

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        """Turn image and point, then measure: no map is ever warped."""
        if not self.options.own["no_augment"]:
            item = turned(item, generator)
        if self.options.own["loss"] == "boundary":
            item["maps"] = self.maps(item)
        return item

    def maps(self, item: Batch) -> Tensor:
        """Signed distance maps [K - 1, H, W] in grey levels, of the classes with a point."""
        grey = (255 * item["image"]).round().to(torch.uint8)
        kind = self.options.own["map"]
        phi: Tensor = mk.signed_distance_map(
            item["points"], grey, kind=kind, classes=len(CLASSES), ndim=2
        )
        return phi

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        logits = model(batch["image"])
        kind = self.options.own["loss"]
        if kind == "boundary":
            alpha = self.options.own["alpha"]
            return {"loss": mk.boundary_loss(logits, batch["maps"], batch["points"], alpha=alpha)}
        target = batch["label"] if kind == "full" else batch["points"]
        loss = functional.cross_entropy(logits, target, ignore_index=-1)
        if kind == "crf":
            crf = mk.losses.DenseCRFLoss(sigma_xy=100 / 256 * logits.shape[-1])
            loss = loss + crf(logits, 255 * batch["image"])
        return {"loss": loss}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        dice, far = [], []
        for batch in self.batches(data):
            predicted = model(batch["image"]).argmax(1)
            dice.append(dice_scores(predicted, batch["label"], len(CLASSES)))
            far.append(hausdorff95(predicted, batch["label"], len(CLASSES)))
        per_class = torch.cat(dice).nanmean(0)
        return {
            "dice": per_class.mean().item(),
            "hd95": torch.cat(far).nanmean().item(),
            **{f"dice_{name}": per_class[k].item() for k, name in enumerate(("rv", "myo", "lv"))},
        }

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        batch = next(self.batches(data))
        predicted = model(batch["image"]).argmax(1)
        titles = ("image and points", f"{self.options.own['map']} map", "prediction", "truth")
        rows = min(4, len(predicted))
        figure, axes = figures.grid(titles, rows)
        for row, axis in enumerate(axes):
            item = {name: value[row].cpu() for name, value in batch.items()}
            figures.show_image(axis[0], item["image"][0])
            for k, y, x in (
                (item["points"][y, x], y, x) for y, x in (item["points"] > 0).nonzero()
            ):
                axis[0].plot(x, y, "o", color=figures.COLOURS[k - 1], markersize=5)
            axis[1].imshow(self.maps(item)[-1].numpy(), cmap="viridis")
            figures.show_labels(axis[2], item["image"][0], predicted[row])
            figures.show_labels(axis[3], item["image"][0], item["label"])
        return figure


def turned(item: Batch, generator: torch.Generator) -> Batch:
    """Image, label map and points under one random turn, zoom and flip; a point stays a point."""
    uniform = torch.rand(3, generator=generator)
    angle, zoom = math.radians(30 * (2 * uniform[0].item() - 1)), 0.9 + 0.2 * uniform[1].item()
    flip = 1.0 if uniform[2] < 0.5 else -1.0
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    backward = torch.tensor([[cos * flip, -sin, 0.0], [sin * flip, cos, 0.0]])  # target to source
    grid = functional.affine_grid(backward[None], [1, 1, *item["label"].shape], align_corners=False)

    def sample(t: Tensor, mode: str) -> Tensor:
        drawn = functional.grid_sample(
            t[None].float(), grid, mode=mode, padding_mode="border", align_corners=False
        )
        return drawn[0]

    return {
        "image": (255 * sample(item["image"], "bilinear")).round() / 255,
        "label": sample(item["label"][None], "nearest")[0].long(),
        "points": _moved(item["points"], backward[:, :2].inverse()),
    }


def _moved(points: Tensor, forward: Tensor) -> Tensor:
    """Points [H, W] under a linear map of (x, y) about the centre; those that leave are gone."""
    moved = torch.full_like(points, -1)
    size = torch.tensor(points.shape)
    for at in (points > 0).nonzero():
        centred = (2 * at + 1) / size - 1  # as grid_sample counts
        target = ((forward @ centred.flip(0)).flip(0) + 1) * size / 2
        target = target.floor().long()
        if ((target >= 0) & (target < size)).all():
            moved[tuple(target)] = points[tuple(at)]
    return moved

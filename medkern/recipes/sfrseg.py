"""Segmentation of fluid in ultrasound with SFRSeg-Net and its wavelet pooling.

Source: Das et al., "SFRSeg-Net: synovial fluid region segmentation", ICPR 2024.
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
from medkern.data.seeding import generator_of
from medkern.data.ultrasound import NOISES, UltrasoundLesions, corrupted
from medkern.models.pooling import POOLINGS
from medkern.train.folder import FolderData
from medkern.train.metrics import dice_scores
from medkern.train.recipe import Batch, Recipe, Step

TURNS = (0, 30, 45, 75, 90, 115, 135, 150, 175, 200, 225, 250, 270, 315)  # degrees


class SFRSeg(Recipe):
    name = "sfrseg"
    summary = "fluid in ultrasound, with a U-Net that pools by Haar wavelets"
    metric = "dice"
    threshold = 0.90
    epochs, quick_epochs, batch_size, learning_rate = 100, 40, 16, 1e-3

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--pool", choices=POOLINGS, default="iewa", help="the pooling; default: iewa")
        add("--variance", type=float, default=0.03, help="of the noise in tests; default: 0.03")
        add("--no-augment", action="store_true", help="leave out turns, flips and zooms")

    def train_data(self) -> Dataset[Batch]:
        return self.images("train", 64 if self.quick else 256, self.options.seed)

    def validation_data(self) -> Dataset[Batch]:
        return self.images("validation", 32 if self.quick else 64, self.options.seed + 1)

    def images(self, split: str, length: int, seed: int) -> Dataset[Batch]:
        """Of --data: RGB images with sides that are multiples of 16, labels 0 and 1."""
        if self.options.data:
            return FolderData(self.options.data, split, classes=2, channels=3)
        return UltrasoundLesions(length, 64 if self.quick else 128, seed=seed)

    def model(self) -> nn.Module:
        return mk.models.SFRSegNet(3, 1, width=8 if self.quick else 16, pool=self.own.pool)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """The paper's "decaying lr 0.005", read as that of Keras: lr / (1 + 0.005 t)."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + 0.005 * t))

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        return item if self.own.no_augment else turned(item, generator)

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        logits = model(batch["image"])
        loss = mk.segmentation_loss(logits, batch["label"], ("bce", "dice"), smooth=1.0)
        return {"loss": loss}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        """Dice, and Dice under the paper's four noises."""
        return {
            "dice": self.dice(model, data, None),
            **{f"dice_{noise}": self.dice(model, data, noise) for noise in NOISES},
        }

    def dice(self, model: nn.Module, data: Dataset[Batch], noise: str | None) -> float:
        """The mean over the images, each with the noise that is its own."""
        scores = []
        random = generator_of("noise", noise or "", self.options.seed)
        for batch in self.batches(data):
            image = batch["image"]
            if noise is not None:
                variance = self.own.variance
                image = corrupted(image.cpu(), noise, random, variance=variance).to(image.device)
            predicted = (model(image)[:, 0] > 0).long()
            scores.append(dice_scores(predicted, batch["label"], 2))
        return torch.cat(scores).nanmean().item()

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        batch = next(self.batches(data))
        random = generator_of("panel", self.options.seed)
        variance = self.own.variance
        noisy = corrupted(batch["image"].cpu(), "speckle", random, variance=variance)
        columns = ("image", "truth", "prediction", "more speckle", "prediction")
        rows = min(4, len(noisy))
        figure, axes = figures.grid(columns, rows)
        clean, under = (
            (model(x[:rows].to(self.options.device))[:, 0] > 0).long()
            for x in (batch["image"], noisy)
        )
        for row, axis in enumerate(axes):
            grey = batch["image"][row, 0], noisy[row, 0]
            figures.show_image(axis[0], grey[0])
            figures.show_labels(axis[1], grey[0], batch["label"][row])
            figures.show_labels(axis[2], grey[0], clean[row])
            figures.show_image(axis[3], grey[1])
            figures.show_labels(axis[4], grey[1], under[row])
        return figure


def turned(item: Batch, generator: torch.Generator) -> Batch:
    """One of the paper's turns, flips and a zoom; what comes from outside is 0."""
    turn, flips, zoom = torch.rand(3, generator=generator).tolist()
    angle = math.radians(TURNS[int(turn * len(TURNS))])
    scale = 1.0 - 0.5 * zoom * (zoom > 0.5)  # half of the images as they are, others up to twice
    flip_x, flip_y = (-1.0 if int(4 * flips) >> bit & 1 else 1.0 for bit in (0, 1))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    backward = torch.tensor([[[cos * flip_x, -sin, 0.0], [sin * flip_x, cos * flip_y, 0.0]]])
    backward[0, 0, 1] *= flip_y
    planes = torch.cat([item["image"], item["label"][None].float()])[None]
    grid = functional.affine_grid(backward, list(planes.shape), align_corners=False)
    image = functional.grid_sample(planes[:, :-1], grid, align_corners=False)
    label = functional.grid_sample(planes[:, -1:], grid, mode="nearest", align_corners=False)
    return {"image": image[0], "label": label[0, 0].long()}

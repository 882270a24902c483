"""Hyperspectral segmentation by spectral slicing and ConvLSTMs.

Source: Hu et al., SpecSlice-ConvLSTM, medical hyperspectral image segmentation.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import medkern as mk
from medkern.data.cubes import OrderCubes, TissueCubes
from medkern.models.specslice import AGGREGATES, LEVELS
from medkern.train.folder import FolderData
from medkern.train.metrics import dice_scores
from medkern.train.recipe import Batch, Options, Recipe, Step

TASKS = ("order", "tissue")


class SpecSlice(Recipe):
    name = "specslice"
    summary = "hyperspectral segmentation, a ConvLSTM over the slices of the spectrum"
    metric = "accuracy"
    threshold = 0.95
    epochs, quick_epochs, batch_size, learning_rate = 100, 24, 4, 1e-3

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--task", choices=TASKS, default="order", help="generated cubes; default: order")
        add("--aggregate", choices=AGGREGATES, default="didom", help="of slices; default: didom")
        add("--levels", type=int, nargs="*", choices=LEVELS, default=[2, 3, 4], help="of ConvLSTMs")
        add("--bands", type=int, default=60, help="of the cubes; default: 60")
        add("--bands-per-slice", type=int, default=3, help="default: 3")
        add("--depth", type=int, choices=(18, 34), help="of the ResNet; default: 34, 18 if quick")
        add("--width", type=int, help="of the ResNet's stem; default: 64, 8 if quick")
        add("--forget-bias", type=float, default=1.0, help="of the ConvLSTMs at first; default: 1")

    def __init__(self, options: Options | None = None) -> None:
        options = options or Options()
        if options.quick and options.learning_rate is None:  # a small network
            options = replace(options, learning_rate=5e-3)
        super().__init__(options)

    def train_data(self) -> Dataset[Batch]:
        return self.cubes("train", 96 if self.quick else 256, self.options.seed)

    def validation_data(self) -> Dataset[Batch]:
        return self.cubes("validation", 16 if self.quick else 64, self.options.seed + 1)

    def cubes(self, split: str, length: int, seed: int) -> Dataset[Batch]:
        if self.options.data:
            return FolderData(self.options.data, split, classes=2, channels=self.own.bands)
        size, bands = 32 if self.quick else 64, self.own.bands
        if self.own.task == "tissue":
            return TissueCubes(length, size, bands=bands, seed=seed)
        slices = bands // 3  # bumps at 2 and 10 of 20
        early, late = slices // 10, slices // 2
        return OrderCubes(length, size, bands=bands, early=early, late=late, seed=seed)

    def model(self) -> nn.Module:
        return mk.models.SpecSliceConvLSTM(
            self.own.bands,
            bands_per_slice=self.own.bands_per_slice,
            aggregate=self.own.aggregate,
            levels=self.own.levels,
            forget_bias=self.own.forget_bias,
            depth=self.own.depth or (18 if self.quick else 34),
            width=self.own.width or (8 if self.quick else 64),
        )

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        """One of the turns and flips that keep the pixels."""
        turns, flip = torch.randint(0, 4, (2,), generator=generator).tolist()
        if item["label"].shape[0] != item["label"].shape[1]:
            turns = 2 * (turns % 2)
        turned = {k: v.rot90(turns, (-2, -1)) for k, v in item.items()}
        return {k: v.flip(-1) if flip % 2 else v for k, v in turned.items()}

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Cross-entropy and Dice, both of the foreground against nothing."""
        logit = model(batch["image"])
        both = torch.cat([torch.zeros_like(logit), logit], 1)
        return {"loss": mk.segmentation_loss(both, batch["label"], ("ce", "dice"))}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        right, dice = [], []
        for batch in self.batches(data):
            predicted = (model(batch["image"])[:, 0] > 0).long()
            right.append((predicted == batch["label"]).float().mean((1, 2)))
            dice.append(dice_scores(predicted, batch["label"], 2))
        return {
            "accuracy": torch.cat(right).mean().item(),
            "dice": torch.cat(dice).nanmean().item(),
        }

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        batch = next(self.batches(data))
        predicted = (model(batch["image"])[:, 0] > 0).long().cpu()
        rows = min(4, len(predicted))
        figure, axes = figures.grid(("mean of bands", "spectra", "prediction", "truth"), rows)
        for row, axis in enumerate(axes):
            cube, label = batch["image"][row].cpu(), batch["label"][row].cpu()
            grey = cube.mean(0)
            figures.show_image(axis[0], grey)
            axis[1].set_axis_on()
            axis[1].set_xticks([])
            axis[1].set_yticks([])
            for k, colour in ((0, "grey"), (1, figures.COLOURS[0])):
                if (label == k).any():
                    axis[1].plot(cube[:, label == k].mean(1).numpy(), color=colour, linewidth=1)
            figures.show_labels(axis[2], grey, predicted[row])
            figures.show_labels(axis[3], grey, label)
        return figure

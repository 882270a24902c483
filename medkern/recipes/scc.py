"""Segmentation with the spectral correlation coefficient beside cross-entropy and Dice.

Source: Gorade et al., "Harmonized spatial and spectral learning for robust and generalized medical
image segmentation".
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import medkern as mk
from medkern.data.kept import Kept
from medkern.data.seeding import generator_of
from medkern.data.shapes import CLASSES, OverlappingShapes
from medkern.train.folder import FolderData
from medkern.train.metrics import dice_scores
from medkern.train.recipe import Batch, Options, Recipe, Step

NOISE = 0.1  # standard deviation of what is added at test: a variance of 0.01
DROPPED = 0.01  # share of the pixels that Bernoulli noise sets to 0
MID_BAND = (0.15, 0.4)  # of the Nyquist frequency


class Scc(Recipe):
    name = "scc"
    summary = "overlapping shapes with the spectral correlation loss, tested under noise"
    metric = "dice"
    threshold = 0.7
    epochs, quick_epochs, batch_size, learning_rate = 60, 20, 8, 2e-3

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--model", choices=("unet", "transunet"), default="unet", help="default: unet")
        add("--mode", choices=("full", "band", "binned"), default="full", help="default: full")
        add("--weight", type=float, default=0.2, help="of 1 - SCC; below 0: the printed sign")
        add("--classes", type=int, default=2, help="of --data, the background included; default: 2")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.classes = self.own.classes if self.options.data else len(CLASSES)

    def train_data(self) -> Dataset[Batch]:
        if self.options.data:
            return FolderData(self.options.data, "train", classes=self.classes)
        return self.shapes(128 if self.quick else 512, self.options.seed)

    def validation_data(self) -> Dataset[Batch]:
        if self.options.data:
            return FolderData(self.options.data, "validation", classes=self.classes)
        return self.shapes(32 if self.quick else 128, self.options.seed + 1)

    def shapes(self, length: int, seed: int) -> Dataset[Batch]:
        return Kept(OverlappingShapes(length, 64 if self.quick else 128, seed))

    def model(self) -> nn.Module:
        width = 16 if self.quick else 32
        if self.own.model == "transunet":
            return mk.models.TransUNet(1, self.classes, width=width, hidden=8 * width)
        return mk.models.UNet(1, self.classes, width=width, levels=3 if self.quick else 4)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        """Flips and quarter turns."""
        turns, flip = torch.randint(4, (2,), generator=generator).tolist()
        axes = [-1] if flip % 2 else []
        return {name: value.rot90(turns, (-2, -1)).flip(axes) for name, value in item.items()}

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        logits, labels = model(batch["image"]), batch["label"]
        weight, mode = self.own.weight, self.own.mode
        if mode == "full":
            # Over all frequencies it is a sum over pixels, which the same kernel makes by the way.
            terms, weights = ("ce", "dice", "scc"), (1.0, 1.0, weight)
            return {"loss": mk.segmentation_loss(logits, labels, terms, weights)}
        spatial = mk.segmentation_loss(logits, labels, ("ce", "dice"))
        band = MID_BAND if mode == "band" else None
        spectral = mk.losses.SpectralCorrelationLoss(mode, weight=1.0, band=band)
        unlike = spectral(*foreground(logits.softmax(1), labels))
        return {"loss": spatial + weight * unlike, "spatial": spatial, "spectral": unlike}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        random = generator_of("noise", self.options.seed)
        labels, clean, gaussian, bernoulli = [], [], [], []
        for batch in self.batches(data):
            image = batch["image"]
            labels.append(batch["label"])
            clean.append(model(image).softmax(1))
            gaussian.append(model(noisy(image, random)).softmax(1))
            kept = torch.rand(image.shape, generator=random) >= DROPPED
            bernoulli.append(model(image * kept.to(image)).softmax(1))
        y, p, q, r = map(torch.cat, (labels, clean, gaussian, bernoulli))
        return {
            "dice": mean_dice(p, y),
            "dice_gaussian": mean_dice(q, y),
            "dice_bernoulli": mean_dice(r, y),
            "ece": mk.expected_calibration_error(p, y).item(),
            "mce": mk.maximum_calibration_error(p, y).item(),
            "ece_noise": mk.expected_calibration_error(q, y).item(),
            "mid_band": mk.spectral_correlation(*foreground(q, y), "band", band=MID_BAND).item(),
        }

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        batch = next(self.batches(data))
        image = batch["image"]
        disturbed = noisy(image, generator_of("noise", self.options.seed))
        guess, guess_of_disturbed = model(image).argmax(1), model(disturbed).argmax(1)
        titles = ("image", "prediction", "under noise", "prediction", "truth")
        figure, axes = figures.grid(titles, min(4, len(image)))
        for row, axis in enumerate(axes):
            before, after = image[row, 0], disturbed[row, 0]
            figures.show_image(axis[0], before, vmin=0, vmax=1)
            figures.show_labels(axis[1], before, guess[row])
            figures.show_image(axis[2], after, vmin=0, vmax=1)
            figures.show_labels(axis[3], after, guess_of_disturbed[row])
            figures.show_labels(axis[4], before, batch["label"][row])
        return figure


def noisy(image: Tensor, random: torch.Generator) -> Tensor:
    return image + NOISE * torch.randn(image.shape, generator=random).to(image)


def foreground(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and one-hot labels [B, K - 1, H, W], class 0 left out."""
    target = functional.one_hot(labels, probabilities.shape[1]).movedim(-1, 1)
    return probabilities[:, 1:], target[:, 1:].to(probabilities)


def mean_dice(probabilities: Tensor, labels: Tensor) -> float:
    scores = dice_scores(probabilities.argmax(1), labels, probabilities.shape[1])
    return scores.nanmean().item()

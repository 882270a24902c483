"""Single-source generalisation: amplitude jitter, consistency and sensitivity guidance (SAPM).

Source: Yang and Yu, "A single source generalization model via spatial amplitude perturbation and
sensitivity guidance", ICPR 2024.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset

import medkern as mk
from medkern.data.fundus import CAMERAS, CLASSES, CUP, RIM, FundusImages
from medkern.data.kept import Kept
from medkern.losses import channel_sensitivity, consistency_loss, sensitivity_guidance_loss
from medkern.train.folder import FolderData
from medkern.train.recipe import Batch, Recipe, Step

METHODS = ("plain", "jitter", "consistency", "guided")


class Sapm(Recipe):
    name = "sapm"
    summary = "optic disc and cup of unseen cameras, trained on one (SAPM)"
    metric = "dice"  # mean of disc and cup, on the cameras that are not trained on
    threshold = 0.5
    epochs, quick_epochs, batch_size, learning_rate = 60, 30, 8, 2e-3

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--method", choices=METHODS, default="guided", help="how much of it; default: all")
        add("--alpha", type=float, default=6.0, help="of the jitter; default: 6")
        add("--beta", type=float, default=0.5, help="of the jitter; default: 0.5")
        add("--depth", type=int, choices=(18, 34), help="of the ResNet; default: 34, quick: 18")
        add("--weights", metavar="FILE", help="state dict of a ResNet, to start the encoder from")

    def train_data(self) -> Dataset[Batch]:
        if self.options.data:
            return self.own_images("train")
        return self.eyes(96 if self.quick else 256, "source", self.options.seed)

    def validation_data(self) -> Dataset[Batch]:
        """Other eyes than in training: by the source first, then by the other cameras."""
        if self.options.data:
            return self.own_images("validation")
        each, seed = 16 if self.quick else 32, self.options.seed + 1
        return ConcatDataset([self.eyes(each, camera, seed) for camera in CAMERAS])

    def eyes(self, length: int, camera: str, seed: int) -> Dataset[Batch]:
        return Kept(FundusImages(length, 64 if self.quick else 128, camera, seed))

    def own_images(self, split: str) -> Dataset[Batch]:
        assert self.options.data is not None
        return FolderData(self.options.data, split, classes=len(CLASSES), channels=3)

    def model(self) -> nn.Module:
        sizes = {"width": 16, "decoder": 64} if self.quick else {"width": 32, "decoder": 128}
        if self.own.weights:
            sizes = {}  # those that there are weights for
        return mk.models.SensitivityGuidedUNet(
            depth=self.own.depth or (18 if self.quick else 34),
            level="stem" if self.own.method == "guided" else "none",
            weights=self.own.weights,
            **sizes,
        )

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        flips = torch.rand(2, generator=generator) < 0.5
        axes = [axis for axis, flip in zip((-2, -1), flips.tolist(), strict=True) if flip]
        return {name: value.flip(axes) for name, value in item.items()}

    def loss(self, model: Any, batch: Batch, step: Step) -> dict[str, Tensor]:
        image, masks, method = batch["image"], disc_and_cup(batch["label"]), self.own.method
        if method == "plain":
            return {"loss": segmentation(model(image), masks)}
        how = self.own.alpha, self.own.beta
        jittered = mk.spectral_amplitude_jitter(image, *how, generator=step.generator).clamp(0, 1)
        # As one batch, so that the normalisation learns the statistics of both.
        logits, features, attention = model.guided(torch.cat([image, jittered]))
        parts = {"segmentation": 2 * segmentation(logits, masks.repeat(2, 1, 1, 1))}
        loss = parts["segmentation"]
        if method in ("consistency", "guided"):
            parts["consistency"] = consistency_loss(*logits.chunk(2))
            loss = loss + 0.5 * parts["consistency"]
        if method == "guided":
            sensitivity = channel_sensitivity(*features.chunk(2)).repeat(2, 1)
            parts["guidance"] = sensitivity_guidance_loss(attention, sensitivity)
            loss = loss + 0.5 * parts["guidance"]
        return {"loss": loss, **parts}

    def is_better(self, value: float, than: float | None) -> bool:
        """The last epoch counts: what is never trained on must not choose one either."""
        return True

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        scores = [
            dice(model(batch["image"]) > 0, disc_and_cup(batch["label"]))
            for batch in self.batches(data)
        ]
        each = torch.cat(scores)  # [images, 2]
        if self.options.data:
            return named(each.mean(0))
        source, *targets = each.unflatten(0, (len(CAMERAS), -1)).mean(1)
        found = named(torch.stack(targets).mean(0))
        return {**found, "source_disc": source[0].item(), "source_cup": source[1].item()}

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        figure, axes = figures.grid(("image", "prediction", "truth"), len(CAMERAS))
        total = len(data)  # type: ignore[arg-type]
        for row, axis in enumerate(axes):
            item = data[row * total // len(CAMERAS)]
            image = item["image"]
            masks = model(image[None].to(self.options.device))[0] > 0
            figures.show_image(axis[0], image)
            figures.show_labels(axis[1], image, as_labels(masks))
            figures.show_labels(axis[2], image, item["label"])
        return figure


def segmentation(logits: Tensor, masks: Tensor) -> Tensor:
    loss: Tensor = mk.segmentation_loss(logits, masks, ("bce", "dice"), smooth=1.0)
    return loss


def disc_and_cup(label: Tensor) -> Tensor:
    """Bool masks [B, 2, H, W]; the cup is part of the disc."""
    return torch.stack([label >= RIM, label == CUP], dim=1)


def as_labels(masks: Tensor) -> Tensor:
    """The label map of masks [2, H, W]."""
    disc, cup = masks
    return torch.where(disc & cup, CUP, torch.where(disc, RIM, 0))


def dice(a: Tensor, b: Tensor) -> Tensor:
    """Of masks [B, 2, H, W]: [B, 2]; 1 where both are empty."""
    a, b = a.flatten(2), b.flatten(2)
    mass = a.sum(-1) + b.sum(-1)
    return torch.where(mass > 0, 2 * (a & b).sum(-1) / mass, 1.0)


def named(scores: Tensor) -> dict[str, float]:
    disc, cup = scores.tolist()
    return {"dice": (disc + cup) / 2, "disc": disc, "cup": cup}

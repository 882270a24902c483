"""Unsupervised registration of brains with a Fourier neural operator.

Source: Drozdov and Sorokin, "FNOReg".
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import medkern as mk
from medkern.data.brain import STRUCTURES, BrainPhantoms, Pairs
from medkern.train.folder import FolderData
from medkern.train.metrics import dice_scores
from medkern.train.recipe import Batch, Options, Recipe, Step

# Of the images that are registered in the end, with --quick and without.
SIZES = {2: ((64, 64), (192, 160)), 3: ((32, 40, 32), (112, 96, 80))}
MODELS = ("fnoreg", "fno", "voxelmorph")


class FNORegistration(Recipe):
    name = "fnoreg"
    summary = "registration of brains, learnt at one resolution for all"
    metric = "dice"
    threshold = 0.79
    epochs, quick_epochs, batch_size, learning_rate = 80, 3, 8, 1e-4

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--ndim", type=int, choices=(2, 3), default=2, help="slices or volumes; default: 2")
        add("--model", choices=MODELS, default="fnoreg", help="default: fnoreg")
        add("--half", action="store_true", help="train at half the resolution, test at the full")
        add("--similarity", choices=("mse", "ncc"), default="mse", help="default: mse")
        add("--smooth", type=float, default=0.01, help="weight of the smoothness; default: 0.01")
        add("--classes", type=int, default=36, help="of --data, background included; default: 36")
        add("--segment", type=float, default=0.0, help="weight of the labels' Dice; default: 0")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        if self.quick:
            self.learning_rate = self.options.learning_rate or 2e-3
        if self.own.ndim == 3:
            self.batch_size = self.options.batch_size or (2 if self.quick else 1)
        self.classes = self.own.classes if self.options.data else len(STRUCTURES)

    def train_data(self) -> Dataset[Batch]:
        """Pairs of subjects in both orders."""
        return Pairs(self.subjects("train", 24 if self.own.ndim == 3 else 40, self.options.seed))

    def validation_data(self) -> Dataset[Batch]:
        """Pairs of subsequent subjects."""
        subjects = self.subjects("validation", 17 if self.quick else 33, self.options.seed + 1)
        return Pairs(subjects, "neighbours")

    def subjects(self, split: str, count: int, seed: int) -> list[Batch]:
        half = split == "train" and self.own.half
        if self.options.data:
            folder = FolderData(
                self.options.data, split, classes=self.own.classes, ndim=self.own.ndim
            )
            items = [folder[i] for i in range(len(folder))]
            return [halved(item) for item in items] if half else items
        size = SIZES[self.own.ndim][not self.quick]
        brains = BrainPhantoms(count, [n // 2 for n in size] if half else size, seed=seed)
        return [brains[i] for i in range(count)]

    def model(self) -> nn.Module:
        kind, ndim = self.own.model, self.own.ndim
        if kind == "voxelmorph":
            return mk.models.VoxelMorph(ndim)
        plain: dict[str, Any] = {"residual": False, "transforms": 0} if kind == "fno" else {}
        if not self.quick:
            return mk.models.FNOReg.of("small" if ndim == 2 else "large", ndim, **plain)
        return mk.models.FNOReg((16,) * ndim, width=12, layers=4, **plain)

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        u = model(batch["moving"], batch["fixed"])
        moved = mk.warp(batch["moving"], u, units="normalized")
        if self.own.similarity == "ncc":
            similarity = mk.local_ncc_loss(moved, batch["fixed"])
        else:
            similarity = (moved - batch["fixed"]).square().mean()
        smooth = mk.diffusion_smoothness_loss(u, spacing=[2 / n for n in u.shape[2:]])
        loss = similarity + self.own.smooth * smooth
        parts = {"similarity": similarity, "smoothness": smooth}
        if self.own.segment:
            names = ("moving_label", "fixed_label")
            masks = [one_hot(batch[name], self.classes) for name in names]
            overlap = mk.spectral_correlation(mk.warp(masks[0], u, units="normalized"), masks[1])
            loss = loss + self.own.segment * (1 - overlap)
            parts["overlap"] = overlap
        return {"loss": loss, **parts}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        """Mean Dice of the structures with and without registration; folding in percent."""
        before, after, folding = [], [], []
        for batch in self.batches(data):
            moved, u = registered(model, batch)
            before.append(dice_scores(batch["moving_label"], batch["fixed_label"], self.classes))
            after.append(dice_scores(moved, batch["fixed_label"], self.classes))
            folding.append(folded(u))
        return {
            "dice": torch.cat(after).nanmean().item(),
            "dice_before": torch.cat(before).nanmean().item(),
            "folding_percent": torch.cat(folding).mean().item(),
        }

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        from medkern.train import figures

        batch = next(self.batches(data))
        moved_label, u = registered(model, batch)
        moved = mk.warp(batch["moving"], u, units="normalized")
        labels, truth, u = middle(moved_label), middle(batch["fixed_label"]), middle(u)
        moving, fixed, moved = (middle(t)[:, 0] for t in (batch["moving"], batch["fixed"], moved))
        rows = min(4, len(moved))
        columns = ("moving", "fixed", "moved", "moved labels", "fixed labels", "displacement")
        figure, axes = figures.grid(columns, rows)
        for row, axis in enumerate(axes):
            for i, image in enumerate((moving, fixed, moved)):
                figures.show_image(axis[i], image[row], vmin=0, vmax=1)
            figures.show_labels(axis[3], moved[row], labels[row])
            figures.show_labels(axis[4], fixed[row], truth[row])
            draw_grid(axis[5], u[row])
        return figure


def registered(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The moved label maps and the displacements."""
    u = model(batch["moving"], batch["fixed"])
    label = batch["moving_label"][:, None]
    return mk.warp(label, u, units="normalized", mode="nearest")[:, 0], u


def folded(u: Tensor) -> Tensor:
    """The share of voxels that fold [B], in percent, of displacements in normalized units."""
    spacing = [2 / (n - 1) for n in u.shape[2:]]
    determinant, count = mk.jacobian_determinant(u, spacing=spacing, return_folding=True)
    percent: Tensor = 100 * count / determinant[0].numel()
    return percent


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """[B, *space] to float32 [B, K, *space], background included."""
    return torch.stack([labels == k for k in range(classes)], 1).float()


def halved(item: Batch) -> Batch:
    """A subject at half the resolution."""
    image, label = item["image"][None], item["label"][None, None].float()
    size = [n // 2 for n in image.shape[2:]]
    return {
        "image": functional.interpolate(image, size, mode="area")[0],
        "label": functional.interpolate(label, size, mode="nearest-exact")[0, 0].long(),
    }


def middle(t: Tensor) -> Tensor:
    """The middle slice of volumes [..., D, H, W] that have one; the last two components."""
    deep = t.dim() == 5 or (t.dim() == 4 and t.dtype == torch.int64)
    if not deep:
        return t
    axis = -3
    cut = t.select(axis, t.shape[axis] // 2)
    return cut[:, 1:] if t.dim() == 5 and t.shape[1] == 3 else cut


def draw_grid(axis: Any, u: Tensor, lines: int = 24) -> None:
    """Where the lines of a regular grid are sampled, for u [2, H, W] in normalized units."""
    height, width = u.shape[1:]
    scale = torch.tensor([height - 1.0, width - 1.0])[:, None, None] / 2
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    y, x = (u.cpu() * scale + torch.stack([rows + 0 * columns, columns + 0 * rows])).unbind(0)
    step: Sequence[int] = (max(1, height // lines), max(1, width // lines))
    axis.plot(x[:: step[0]].T.numpy(), y[:: step[0]].T.numpy(), color="black", linewidth=0.5)
    axis.plot(x[:, :: step[1]].numpy(), y[:, :: step[1]].numpy(), color="black", linewidth=0.5)
    axis.set(aspect="equal", ylim=(height, -1))

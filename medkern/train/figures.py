"""The pictures that a run leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from medkern.train.loop import Progress
from medkern.train.recipe import Recipe

# Classes 1, 2, ... of label maps: apart for the colour-blind too (after Okabe and Ito).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=100)
    plt.close(figure)


def curves(recipe: Recipe, progress: Progress) -> Any:
    """Losses, and the metric with its best epoch, over the epochs."""
    history = progress.history
    epochs = [record.epoch for record in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for name in history[0].losses:
        left.plot(epochs, [record.losses[name] for record in history], label=name)
    for name in history[0].metrics:
        if name == recipe.metric or _on_one_scale(recipe.metric, name, history):
            width = 2.5 if name == recipe.metric else 1
            values = [record.metrics[name] for record in history]
            right.plot(epochs, values, label=name, linewidth=width)
    if progress.best is not None:
        value = progress.best.metrics[recipe.metric]
        right.plot(progress.best.epoch, value, "o", color="black", label=f"best: {value:.3f}")
    if recipe.quick:
        right.axhline(recipe.threshold, color="grey", linestyle=":", linewidth=1, label="threshold")
    for axis, title in ((left, "training loss"), (right, "validation")):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(f"{recipe.name}: {recipe.summary}", fontsize=10)
    return figure


def _on_one_scale(first: str, second: str, history: Sequence[Any]) -> bool:
    """Whether two metrics can share an axis: both in 0..1, as Dice and its parts are."""
    return all(0 <= record.metrics[name] <= 1 for record in history for name in (first, second))


def grid(columns: Sequence[str], rows: int, *, size: float = 1.8) -> tuple[Any, Any]:
    """A figure with rows x columns axes without ticks, titled by column."""
    figure, axes = plt.subplots(
        rows,
        len(columns),
        figsize=(size * len(columns), size * rows + 0.25),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=9)
    return figure, axes


def show_image(axis: Any, image: Tensor, **options: Any) -> None:
    """A grey [H, W] or RGB [3, H, W] image."""
    pixels = image.detach().cpu()
    if pixels.dim() == 3:
        axis.imshow(pixels.movedim(0, -1).clamp(0, 1).numpy(), interpolation="nearest")
    else:
        axis.imshow(pixels.numpy(), **{"cmap": "gray", "interpolation": "nearest", **options})


def show_labels(axis: Any, image: Tensor, labels: Tensor, *, alpha: float = 0.55) -> None:
    """A grey image [H, W] under its label map [H, W]; 0 and negative labels are clear."""
    show_image(axis, image)
    labels = labels.detach().cpu()
    overlay = torch.zeros(*labels.shape, 4)
    for k in range(1, int(labels.max()) + 1):
        colour = matplotlib.colors.to_rgb(COLOURS[(k - 1) % len(COLOURS)])
        overlay[labels == k] = torch.tensor([*colour, alpha])
    axis.imshow(overlay.numpy(), interpolation="nearest")

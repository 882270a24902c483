"""`medkern demo`: a picture of what each op family makes of a real image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

import medkern as mk
from medkern import data
from medkern.rules import haar as rules

matplotlib.use("Agg")

from matplotlib import pyplot as plt

BANDS = ("LL", "LH: detail along H", "HL: detail along W", "HH: both")


def draw(name: str, out: Path) -> None:
    """Write a panel of the Haar bands and pooled maps of image `name` as a PNG.

    Raises:
        ValueError, ImportError: as `medkern.data.load`.
    """
    sample = data.load(name)
    x = middle_slice(sample)
    bands = mk.haar_dwt(x)
    figure, axes = plt.subplots(2, 5, figsize=(12.5, 4.9), layout="constrained")
    show(axes[0, 0], x, f"{sample.name}: {sample.modality}")
    for axis, band, title in zip(axes[0, 1:], bands, BANDS, strict=True):
        show(axis, band, title, centred=not title.startswith("LL"))
    show(axes[1, 0], mosaic(mk.haar_wavedec(x, levels=2)), "haar_wavedec, 2 levels")
    maps = [mode for mode in rules.POOL_MODES if mode != "bands"]
    for axis, mode in zip(axes[1, 1:], maps, strict=True):
        show(axis, mk.haar_pool(x[None], mode)[-1], f'haar_pool "{mode}"')
    figure.suptitle(sample.description, fontsize=9)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def middle_slice(sample: data.Sample) -> Tensor:
    """One grey slice [H, W] in [0, 1], with rows from anterior to posterior for volumes."""
    planes = torch.from_numpy(data.as_planes(sample))
    plane = planes[len(planes) // 2].mean(0)
    return plane.flip(0) if "D" in sample.axes else plane


def mosaic(coefficients: list[Tensor]) -> Tensor:
    """The usual nested square: the approximation in the corner, details around it."""
    low = coefficients[0] / coefficients[0].abs().max()
    for detail in coefficients[1:]:
        lh, hl, hh = 4 * detail / coefficients[0].abs().max() + 0.5
        rows, columns = lh.shape
        low = low[:rows, :columns]
        low = torch.cat([torch.cat([low, hl], 1), torch.cat([lh, hh], 1)], 0).clamp(0, 1)
    return low


def show(axis: Any, image: Tensor, title: str, centred: bool = False) -> None:
    limit = image.abs().max().item() / 3
    limits = {"vmin": -limit, "vmax": limit} if centred else {}
    axis.imshow(image.numpy(), cmap="gray", interpolation="nearest", **limits)
    axis.set_title(f"{title}\n{image.shape[0]} x {image.shape[1]}", fontsize=8)
    axis.set_axis_off()

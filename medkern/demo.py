"""`medkern demo`: pictures of what each op family makes of a real image, or of your own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

import medkern as mk
from medkern import data
from medkern.rules import haar as rules

matplotlib.use("Agg")

from matplotlib import pyplot as plt

BANDS = ("LL", "LH: detail along H", "HL: detail along W", "HH: both")


def draw(image: str, out: Path, points: Sequence[tuple[int, int]] = ()) -> list[Path]:
    """Write panels of `image`, a name of `medkern.data` or a file, as PNGs; returns their paths.

    The Haar panel goes to `out`, the distances from the clicks to `<out>-distances.png`. `points`
    are the clicks (x, y), by default one in the middle; where they are given, the distances are the
    only panel, and go to `out`.

    Raises:
        ValueError, ImportError, OSError: as `medkern.data.load`, or what reading the file raises.
    """
    x, title, description = slice_of(image)
    if points:
        draw_distances(x, points, description, out)
        return [out]
    draw_haar(x, title, description, out)
    second = out.with_name(f"{out.stem}-distances{out.suffix}")
    draw_distances(x, [(x.shape[1] // 2, x.shape[0] // 2)], description, second)
    return [out, second]


def slice_of(image: str) -> tuple[Tensor, str, str]:
    """One grey slice [H, W] in [0, 1], its title and what it shows."""
    if Path(image).is_file():
        return read_file(Path(image)), Path(image).name, image
    sample = data.load(image)
    return middle_slice(sample), f"{sample.name}: {sample.modality}", sample.description


def read_file(path: Path) -> Tensor:
    """The middle slice of a NIfTI or DICOM file, or a picture in grey, in [0, 1]."""
    if path.name.endswith((".nii", ".nii.gz")):
        volume = np.asanyarray(importlib.import_module("nibabel").load(path).dataobj)
        values = volume.reshape(*volume.shape[:2], -1).T  # [slices, H, W]
    elif path.suffix == ".dcm":
        dataset = importlib.import_module("pydicom").dcmread(path)
        values = dataset.pixel_array
        if dataset.get("SamplesPerPixel", 1) > 1:
            values = values.mean(-1)
    else:
        values = plt.imread(path)
        values = values[..., :3].mean(-1) if values.ndim == 3 else values
    plane = torch.from_numpy(np.array(values, dtype=np.float32))
    if plane.dim() == 3:
        plane = plane[len(plane) // 2]
    low, high = plane.aminmax()
    return (plane - low) / (high - low).clamp(min=1e-12)


def draw_distances(
    x: Tensor, points: Sequence[tuple[int, int]], description: str, out: Path
) -> None:
    """The figure of Breznik et al.: a click, and the distances from it that maps can be made of."""
    height, width = x.shape
    seeds = torch.zeros(x.shape, dtype=torch.bool)
    for column, row in points:
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"medkern.demo: points must be inside the image, {width} x {height}, "
                f"got {column},{row}; a point is x,y counted from the upper left corner, from 0"
            )
        seeds[row, column] = True
    grey = (255 * x).round()
    maps = {
        "euclidean_distance": mk.euclidean_distance(~seeds),
        "geodesic_distance": mk.geodesic_distance(grey, seeds, ndim=2),
        "intensity_distance": mk.intensity_distance(grey, seeds, ndim=2),
        "minimum_barrier_distance": mk.minimum_barrier_distance(grey, seeds, ndim=2),
    }
    size = (12.5, 2.5 * height / width + 0.8)
    figure, axes = plt.subplots(1, 5, figsize=size, layout="constrained")
    show(axes[0], x, "one click" if len(points) == 1 else f"{len(points)} clicks")
    for axis, (name, distance) in zip(axes[1:], maps.items(), strict=True):
        axis.imshow(distance.numpy(), cmap="viridis", interpolation="nearest")
        axis.set_title(f"{name}\nto {distance.max().item():.0f}", fontsize=8)
        axis.set_axis_off()
    for axis in axes:
        axis.plot(*zip(*points, strict=True), "+", color="red", markersize=8)
    figure.suptitle(description, fontsize=9)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def draw_haar(x: Tensor, title: str, description: str, out: Path) -> None:
    bands = mk.haar_dwt(x)
    figure, axes = plt.subplots(2, 5, figsize=(12.5, 4.9), layout="constrained")
    show(axes[0, 0], x, title)
    for axis, band, name in zip(axes[0, 1:], bands, BANDS, strict=True):
        show(axis, band, name, centred=not name.startswith("LL"))
    show(axes[1, 0], mosaic(mk.haar_wavedec(x, levels=2)), "haar_wavedec, 2 levels")
    maps = [mode for mode in rules.POOL_MODES if mode != "bands"]
    for axis, mode in zip(axes[1, 1:], maps, strict=True):
        show(axis, mk.haar_pool(x[None], mode)[-1], f'haar_pool "{mode}"')
    figure.suptitle(description, fontsize=9)
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

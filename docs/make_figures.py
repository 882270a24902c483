"""Draw docs/images/*.png on a real MRI slice: the Haar bands and the pooling modes; a warp.

Run it with the `docs` extra installed: python docs/make_figures.py
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from PIL import Image
from torch import Generator, from_numpy, randn, zeros
from torch.nn.functional import interpolate, max_pool2d

import medkern as mk
from medkern import data

CROP = np.s_[184:256, 112:184]
NAMES = ("LH", "HL", "HH")
IMAGES = Path(__file__).parent / "images"
GAIN = 2.0  # of a constant image, in every mode but max


def main() -> None:
    draw_haar()
    draw_warp()


def draw_haar() -> None:
    image = data.as_planes(data.load("mr_abdomen"))  # [1, 1, H, W]
    low, *details = mk.haar_dwt(image)[0, 0]
    crop = np.ascontiguousarray(image[(..., *CROP)])
    top = [("input", image[0, 0], 0.0, 0.6), ("LL / 2", low / GAIN, 0.0, 0.6)]
    top += [(name, band, -0.06, 0.06) for name, band in zip(NAMES, details, strict=True)]
    maximum = max_pool2d(from_numpy(crop), 2)[0, 0].numpy()
    bottom = [("input, enlarged", crop[0, 0], 0.0, 0.9), ("MaxPool2d(2)", maximum, 0.0, 0.9)]
    bottom += [
        (f'"{mode}" / 2', mk.haar_pool(crop, mode)[0, 0] / GAIN, 0.0, 0.9)
        for mode in ("ll", "iewa", "all")
    ]
    figure, axes = pyplot.subplots(
        2, 5, figsize=(10, 3.7), layout="constrained", height_ratios=(300 / 484, 1)
    )
    for axis, panel in zip(axes.flat, [*top, *bottom], strict=True):
        draw(axis, *panel)
    save(figure, "haar.png")


def draw_warp() -> None:
    """A slice, the grid lines it was sampled at, the warped slice, and where volume changed."""
    image = from_numpy(data.as_planes(data.load("brain4d"))[12:13])  # [1, 1, 96, 128]
    image = mk.warp(image, zeros(1, 2, 192, 256), units="normalized", mode="cubic")
    coarse = randn(1, 2, 7, 9, generator=Generator().manual_seed(2))
    velocity = interpolate(6 * coarse, size=image.shape[2:], mode="bicubic", align_corners=True)
    u = mk.integrate_velocity(velocity, padding="border")
    moved = mk.warp(image, u, padding="border")
    determinant, folding = mk.jacobian_determinant(u, return_folding=True)
    figure, axes = pyplot.subplots(1, 3, figsize=(8, 2.25), layout="constrained")
    draw(axes[0], "image, and p + u(p) on a grid", image[0, 0], 0.0, 0.8)
    rows, columns = np.mgrid[: image.shape[2], : image.shape[3]] + u[0].numpy()
    for k in range(0, image.shape[2], 16):
        axes[0].plot(columns[k], rows[k], color="white", linewidth=0.5)
    for k in range(0, image.shape[3], 16):
        axes[0].plot(columns[:, k], rows[:, k], color="white", linewidth=0.5)
    axes[0].set(xlim=(0, image.shape[3] - 1), ylim=(image.shape[2] - 1, 0))
    draw(axes[1], "warp(image, u)", moved[0, 0], 0.0, 0.8)
    title = f"jacobian_determinant(u), {int(folding)} voxels fold"
    draw(axes[2], title, determinant[0, 0].clamp(0, 2), 0.0, 2.0)
    save(figure, "warp.png")


def draw(axis: Any, title: str, image: Any, low: float, high: float) -> None:
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def save(figure: Any, name: str) -> None:
    """As an 8-bit grey PNG."""
    target = IMAGES / name
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    Image.open(buffer).convert("L").save(target, optimize=True)
    print(f"wrote {target.name}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

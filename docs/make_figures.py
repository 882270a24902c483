"""Draw docs/images from a real MRI slice: Haar bands and poolings, Fourier augmentation.

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
from torch import from_numpy
from torch.nn.functional import interpolate, max_pool2d

import medkern as mk
from medkern import data

CROP = np.s_[184:256, 112:184]
NAMES = ("LH", "HL", "HH")
IMAGES = Path(__file__).parent / "images"
GAIN = 2.0  # of a constant image, in every mode but max


def main() -> None:
    draw_haar()
    draw_augment()


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


def draw_augment() -> None:
    image = from_numpy(data.as_planes(data.load("mr_abdomen")))  # [1, 1, H, W]
    ct = from_numpy(data.as_planes(data.load("ct")))
    ct = interpolate(ct, size=image.shape[-2:], mode="bilinear")
    jitter = mk.spectral_amplitude_jitter(image, seed=4, dc_clamp=True)
    mild = mk.spectral_amplitude_jitter(image, alpha=1.0, beta=0.1, seed=4, dc_clamp=True)
    swapped = mk.amplitude_swap(image, ct, beta=0.02)
    panels = [
        ("input", image, 0.6),
        ("jitter, alpha 6, beta 0.5", jitter, 0.6),
        ("jitter, alpha 1, beta 0.1", mild, 0.6),
        ("amplitudes of the CT, beta 0.02", swapped, 0.8),
        ("CT", ct, 1.0),
    ]
    figure, axes = pyplot.subplots(1, 5, figsize=(10, 1.7), layout="constrained")
    for axis, (title, panel, high) in zip(axes.flat, panels, strict=True):
        draw(axis, title, panel[0, 0].numpy(), 0.0, high)
    save(figure, "augment.png", dpi=100)


def draw(axis: Any, title: str, image: Any, low: float, high: float) -> None:
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def save(figure: Any, name: str, dpi: int = 110) -> None:
    """As an 8-bit grey PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    target = IMAGES / name
    Image.open(buffer).convert("L").save(target, optimize=True)
    print(f"wrote {name}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

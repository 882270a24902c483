"""The Haar bands and the pooling modes on a real MRI slice."""

from __future__ import annotations

import numpy as np
from common import draw, save
from matplotlib import pyplot
from torch import from_numpy
from torch.nn.functional import max_pool2d

import medkern as mk
from medkern import data

CROP = np.s_[184:256, 112:184]
NAMES = ("LH", "HL", "HH")
GAIN = 2.0  # of a constant image, in every mode but max


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


if __name__ == "__main__":
    draw_haar()

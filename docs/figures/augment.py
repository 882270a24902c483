"""Fourier augmentation of a real MRI slice."""

from __future__ import annotations

from common import draw, save
from matplotlib import pyplot
from torch import from_numpy
from torch.nn.functional import interpolate

import medkern as mk
from medkern import data


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
    figure, axes = pyplot.subplots(1, 5, figsize=(10, 1.5), layout="constrained")
    for axis, (title, panel, high) in zip(axes.flat, panels, strict=True):
        draw(axis, title, panel[0, 0].numpy(), 0.0, high)
    save(figure, "augment.png", dpi=100)


if __name__ == "__main__":
    draw_augment()

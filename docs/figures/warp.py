"""A slice, a displacement, the warped slice, and where volume changed."""

from __future__ import annotations

import numpy as np
from common import draw, save
from matplotlib import pyplot
from torch import Generator, from_numpy, randn, zeros
from torch.nn.functional import interpolate

import medkern as mk
from medkern import data


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


if __name__ == "__main__":
    draw_warp()

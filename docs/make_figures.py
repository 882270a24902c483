"""Draw the figures of the docs, in docs/images.

haar.png: the Haar bands and the pooling modes on a real MRI slice. learned_metric.png: gradients of
the geodesic distance move a contour.
"""Draw docs/images: the Haar bands and pooling modes, and Fourier augmentation, of a real MRI slice.

Run it with the `docs` extra installed: python docs/make_figures.py
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
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
    draw_learned_metric()
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
    save(figure, "haar.png", "L")
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


def save(figure: Any, name: str, mode: str) -> None:
    """As an 8-bit PNG: "L" is grey, "P" has a palette."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    picture = Image.open(buffer).convert("RGB")
    picture = (
        picture.convert("L") if mode == "L" else picture.quantize(128, Image.Quantize.FASTOCTREE)
    )
    picture.save(IMAGES / name, optimize=True)
    print(f"wrote {name}, {(IMAGES / name).stat().st_size / 1e3:.0f} kB")


# A learned metric: a small network turns an image into what it costs to cross each pixel, so that
# the pixels within a fixed cost of a click are the object that was clicked on.


def crescent(size: int = 96) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An image under uneven light, the object in it, and one click on the object."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    outer = (y - 50) ** 2 + (x - 46) ** 2 < 34**2
    shape = outer & ((y - 36) ** 2 + (x - 56) ** 2 > 25**2)
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    image = 0.3 * shape + 0.5 * (x + y) / (2 * size) + 0.06 * noise
    seeds = torch.zeros(size, size, dtype=torch.bool)
    seeds[70, 30] = True
    return image, shape, seeds


def learn_metric(steps: int = 100) -> dict[str, Any]:
    """Fit the network; the contours are the distances' level of RADIUS before and after."""
    torch.manual_seed(0)
    image, shape, seeds = crescent()
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 5, padding=2, padding_mode="replicate"),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 5, padding=2, padding_mode="replicate"),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 1, 5, padding=2, padding_mode="replicate"),
        torch.nn.Softplus(),
    )
    torch.nn.init.zeros_(network[4].weight)  # every pixel costs the same at first
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    distances, losses = [], []
    for _ in range(steps):
        cost = network(image[None, None])[0, 0]
        distance = mk.geodesic_distance(cost, seeds, metric="mcp")
        inside = (RADIUS - distance) / SOFTNESS
        loss = torch.nn.functional.binary_cross_entropy_with_logits(inside, shape.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        distances.append(distance.detach())
        losses.append(loss.item())
    return {
        "image": image,
        "shape": shape,
        "seeds": seeds,
        "cost": cost.detach(),
        "first": distances[0],
        "last": distances[-1],
        "losses": losses,
    }


RADIUS, SOFTNESS = 20.0, 2.0


def draw_learned_metric() -> None:
    found = learn_metric()
    figure, axes = pyplot.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
    for axis, title, distance in (
        (axes[0], "before", found["first"]),
        (axes[1], "after", found["last"]),
    ):
        axis.imshow(found["image"], cmap="gray", interpolation="nearest")
        axis.contour(distance, [RADIUS], colors="#ff9500", linewidths=1.8)
        axis.contour(found["shape"], [0.5], colors="#00e5ff", linewidths=1.4, linestyles="dotted")
        overlap = dice(distance <= RADIUS, found["shape"])
        axis.set_title(f"{title}: Dice {overlap:.2f}", fontsize=9)
    axes[2].imshow(found["cost"], cmap="gray", interpolation="nearest")
    axes[2].set_title("learned cost of a pixel", fontsize=9)
    for axis in axes[:3]:
        at = found["seeds"].nonzero()[0]
        axis.plot(at[1], at[0], "o", color="#ff0000", markersize=5)
        axis.set_axis_off()
    axes[3].plot(found["losses"], color="black", linewidth=1.2)
    axes[3].set_title("loss by step", fontsize=9)
    axes[3].set_ylim(bottom=0)
    axes[3].tick_params(labelsize=8)
    save(figure, "learned_metric.png", "P")
    pyplot.close(figure)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return 2 * (a & b).sum().item() / (a.sum() + b.sum()).item()
def save(figure: Any, name: str, dpi: int = 110) -> None:
    """As an 8-bit grey PNG."""
    figure.savefig(buffer, dpi=dpi, format="png")
    target = IMAGES / name
    Image.open(buffer).convert("L").save(target, optimize=True)
    print(f"wrote {name}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

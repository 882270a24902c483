"""A learned metric: gradients of the geodesic distance move a contour.

A small network turns an image into what it costs to cross each pixel, so that the pixels within a
fixed cost of a click are the object that was clicked on.
"""

from __future__ import annotations

from typing import Any

import torch
from common import save
from matplotlib import pyplot

import medkern as mk

RADIUS, SOFTNESS = 20.0, 2.0


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
    save(figure, "learned_metric.png", grey=False)
    pyplot.close(figure)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return 2 * (a & b).sum().item() / (a.sum() + b.sum()).item()


if __name__ == "__main__":
    draw_learned_metric()

"""Displacement fields: warping, composition, integration, Jacobians and smoothness, at batch 1.

The reference builds the grid that `grid_sample` wants from the displacement, as every registration
network does: add the identity, normalise, flip the components, move them last. VoxelMorph's layer
is that formula; MONAI's is measured where it is installed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional

import medkern
from medkern.benchmarks.registry import Case, Peer

Tensor = torch.Tensor
STEPS = 7


def cases() -> Iterable[Case]:
    yield warp_case((1, 1, 96, 96, 96), quick=True)
    yield warp_case((1, 1, 160, 192, 224))
    yield warp_case((1, 16, 64, 64, 64))
    yield warp_case((8, 1, 256, 256))
    yield warp_case((1, 1, 96, 96, 96), mode="nearest")
    yield compose_case((1, 3, 80, 96, 80), steps=1, quick=True)
    yield compose_case((1, 3, 80, 96, 80), steps=STEPS)
    yield jacobian_case((1, 3, 96, 96, 96), quick=True)
    yield jacobian_case((1, 3, 96, 96, 96), folding=True)
    yield smoothness_case((1, 3, 96, 96, 96), quick=True)
    yield smoothness_case((1, 3, 160, 192, 224))


def warp_case(shape: tuple[int, ...], *, mode: str = "linear", quick: bool = False) -> Case:
    batch, _channels, *space = shape
    axes = len(space)
    image_bytes, field_bytes = 4 * math.prod(shape), 4 * batch * axes * math.prod(space)
    return Case(
        op="warp",
        name=f"warp/{'x'.join(map(str, shape))}/float32" + (f"/{mode}" if mode != "linear" else ""),
        inputs=lambda: (noise(shape), displacement((batch, axes, *space))),
        native=lambda x, u: medkern.warp(x, u, mode=mode),
        reference=lambda x, u: by_grid(x, u, mode),
        # The peers round p + u to float32, which is all of their error.
        tolerance=1e-4,
        tolerance_backward=1e-3,
        peers={"MONAI": monai_warp(mode)},
        backward=mode == "linear",
        bytes_moved=2 * image_bytes + field_bytes,
        bytes_backward=3 * image_bytes + 2 * field_bytes,
        flops=math.prod(shape) * (21 if axes == 3 else 9),
        quick=quick,
    )


def compose_case(shape: tuple[int, ...], *, steps: int, quick: bool = False) -> Case:
    """One step of scaling and squaring, or all of them."""
    once = steps == 1
    field_bytes = 4 * math.prod(shape)
    peers = {} if once else {"MONAI": monai_integration(steps)}
    return Case(
        op="compose",
        name=f"compose/{'x'.join(map(str, shape))}/float32/"
        + ("step" if once else f"{steps}_steps"),
        inputs=lambda: (displacement(shape),),
        native=lambda u: medkern.compose(u, u) if once else medkern.integrate_velocity(u, steps),
        reference=lambda u: u + by_grid(u, u) if once else integrate(u, steps),
        tolerance=1e-4,
        tolerance_backward=1e-2,
        peers=peers,
        bytes_moved=steps * 3 * field_bytes,
        bytes_backward=steps * 4 * field_bytes,
        flops=steps * math.prod(shape) * 22,
        quick=quick,
    )


def jacobian_case(shape: tuple[int, ...], *, folding: bool = False, quick: bool = False) -> Case:
    field_bytes, voxels = 4 * math.prod(shape), math.prod(shape[2:])
    how = {"return_folding": True} if folding else {}
    return Case(
        op="jacobian_determinant",
        name=f"jacobian_determinant/{'x'.join(map(str, shape))}/float32" + "/folding" * folding,
        inputs=lambda: (displacement(shape),),
        native=lambda u: medkern.jacobian_determinant(u, **how),
        reference=lambda u: determinant(u, folding),
        tolerance=1e-5,
        backward=not folding,
        bytes_moved=field_bytes + 4 * voxels,
        bytes_backward=2 * field_bytes + 4 * voxels,
        quick=quick,
    )


def smoothness_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    field_bytes = 4 * math.prod(shape)
    return Case(
        op="diffusion_smoothness_loss",
        name=f"diffusion_smoothness_loss/{'x'.join(map(str, shape))}/float32",
        inputs=lambda: (displacement(shape),),
        native=medkern.diffusion_smoothness_loss,
        reference=gradient_loss,
        tolerance=1e-5,
        bytes_moved=field_bytes,
        bytes_backward=2 * field_bytes,
        bound="read",
        quick=quick,
    )


def determinant(u: Tensor, folding: bool) -> Any:
    """As evaluation scripts have it, with torch.gradient for numpy's."""
    axes = tuple(range(1, u.dim() - 1))
    (dz, dy, dx) = torch.gradient(u[0], dim=axes)
    j = torch.stack([dz, dy, dx], dim=1)  # [i, j, D, H, W]
    j = j + torch.eye(3, dtype=u.dtype, device=u.device).view(3, 3, 1, 1, 1)
    minors = torch.linalg.cross(j[:, 1], j[:, 2], dim=0)
    det = (j[:, 0] * minors).sum(0)[None, None]
    return (det, (det <= 0).flatten(1).sum(1)) if folding else det


def gradient_loss(u: Tensor) -> Tensor:
    """VoxelMorph's Grad("l2")."""
    d = torch.mean((u[:, :, 1:] - u[:, :, :-1]) ** 2)
    d = d + torch.mean((u[:, :, :, 1:] - u[:, :, :, :-1]) ** 2)
    d = d + torch.mean((u[:, :, :, :, 1:] - u[:, :, :, :, :-1]) ** 2)
    return d / 3


def noise(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def displacement(shape: tuple[int, ...]) -> Tensor:
    """Smooth, of some voxels, as a registration network predicts."""
    _, axes, *space = shape
    coarse = torch.randn(1, axes, *[6] * axes, generator=torch.Generator().manual_seed(1))
    mode = "trilinear" if axes == 3 else "bilinear"
    fine = 2 * functional.interpolate(coarse, size=space, mode=mode, align_corners=True)
    return fine.expand(shape).contiguous()


def by_grid(image: Tensor, u: Tensor, mode: str = "linear") -> Tensor:
    space = image.shape[2:]
    axes = [torch.arange(n, dtype=u.dtype, device=u.device) for n in space]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij")) + u
    parts = [2 * position[:, d] / (n - 1) - 1 for d, n in enumerate(space)]
    grid = torch.stack(parts[::-1], dim=-1)
    kind = "bilinear" if mode == "linear" else mode
    return functional.grid_sample(image, grid, mode=kind, align_corners=True)


def integrate(velocity: Tensor, steps: int) -> Tensor:
    u = velocity / 2**steps
    for _ in range(steps):
        u = u + by_grid(u, u)
    return u


def monai_warp(mode: str) -> Peer:
    def make() -> Callable[..., Any]:
        blocks = importlib.import_module("monai.networks.blocks")
        layer = blocks.Warp("bilinear" if mode == "linear" else mode, "zeros")
        return lambda x, u: layer(x, u)

    return Peer(make, "monai", devices=("cpu",))


def monai_integration(steps: int) -> Peer:
    def make() -> Callable[..., Any]:
        blocks = importlib.import_module("monai.networks.blocks")
        layer = blocks.DVF2DDF(num_steps=steps, mode="bilinear", padding_mode="zeros")
        return lambda velocity: layer(velocity)

    return Peer(make, "monai", devices=("cpu",))

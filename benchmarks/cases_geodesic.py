"""Geodesic distance from points: smooth noise of growing size, a real volume, every peer's metric.

The reference relaxes every edge until nothing changes, in plain PyTorch, as far as that ends in
seconds. FastGeodis stops after a fixed number of passes and is timed with the error it leaves;
scikit-image and dijkstra3d are exact for their own metric and are measured against ours for it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import medkern
from medkern import data
from medkern.benchmarks.registry import Case, Peer
from medkern.reference import geodesic as definition

Tensor = torch.Tensor
TOLERANCE = 1e-5
LAM = 0.5
MOST_VOXELS = {2: 512**2, 3: 64**3}  # of a reference that ends in seconds


def cases() -> Iterable[Case]:
    yield from point_cases()
    yield class_case((256, 256), classes=4)
    yield class_case((64, 64, 64), classes=4)
    yield brain_case()
    yield gradient_case((256, 256), quick=True)
    yield gradient_case((48, 48, 48))
    yield from peer_metric_cases()
    yield chamfer_case((512, 512), quick=True)
    yield chamfer_case((64, 64, 64))
    yield intensity_case((512, 512), quick=True)
    yield intensity_case((64, 64, 64))


def point_cases() -> Iterable[Case]:
    quick = ((512, 512), (64, 64, 64))
    large = ((2048, 2048), (128, 128, 128), (256, 256, 128))
    for space in ((256, 256), *quick, *large):
        for seeds in (1, 10):
            yield distance_case(
                name_of("geodesic_distance", space, f"{seeds}_seeds"),
                lambda space=space, seeds=seeds: (smooth_noise(space), points(space, seeds)),
                space,
                quick=space in quick and seeds == 1,
            )


def class_case(space: tuple[int, ...], *, classes: int) -> Case:
    def inputs() -> tuple[Tensor, Tensor]:
        sets = [points(space, 1, seed=seed) for seed in range(classes)]
        return smooth_noise(space), torch.cat(sets, dim=1)

    return distance_case(
        name_of("geodesic_distance", space, f"{classes}_classes"), inputs, space, classes
    )


def brain_case() -> Case:
    """The first volume of nibabel's 4-D example, at its own spacing, from one click."""
    sample_space = (24, 96, 128)
    spacing = (2.2, 2.0, 2.0)

    def inputs() -> tuple[Tensor, Tensor]:
        sample = data.load("brain4d")
        if sample.spacing is None or not np.allclose(sample.spacing, spacing, atol=1e-3):
            raise ValueError(f"this case was made for a spacing of {spacing}, got {sample.spacing}")
        volume = torch.from_numpy(data.as_volume(sample))[:1] * 255
        return volume, points(sample_space, 1)

    name = "geodesic_distance/brain4d/24x96x128/1_seeds/float32"
    return distance_case(name, inputs, sample_space, spacing=spacing, quick=True)


def distance_case(
    name: str,
    inputs: Callable[[], tuple[Tensor, Tensor]],
    space: tuple[int, ...],
    classes: int = 1,
    spacing: tuple[float, ...] | None = None,
    quick: bool = False,
) -> Case:
    """Our metric l1 at 0.5, where FastGeodis' lambda means the same."""
    options = {"lam": LAM, "spacing": spacing}
    return Case(
        op="geodesic_distance",
        name=name,
        inputs=inputs,
        native=lambda image, seeds: medkern.geodesic_distance(image, seeds, **options),
        reference=relaxation(space, LAM, "l1", spacing),
        oracle=lambda image, seeds: medkern.geodesic_distance(
            image, seeds, method="bucket", **options
        ),
        tolerance=TOLERANCE,
        peers={"FastGeodis": fastgeodis(len(space), spacing)},
        backward=False,
        bytes_moved=4 * math.prod(space) * (1 + classes),
        quick=quick,
        compile=False,
        devices=("cpu",),
    )


def gradient_case(space: tuple[int, ...], *, quick: bool = False) -> Case:
    """On whole numbers and along faces, where float32 is exact: else paths that are equal up to
    rounding differ from those of the float64 oracle. No peer has a gradient."""
    options = {"lam": LAM, "connectivity": "face"}
    return Case(
        op="geodesic_distance",
        name=name_of("geodesic_distance", space, "gradient"),
        inputs=lambda: (smooth_noise(space).round(), points(space, 1)),
        native=lambda image, seeds: medkern.geodesic_distance(image, seeds, **options),
        reference=relaxation(space, LAM, "l1", None, connectivity=1),
        tolerance=TOLERANCE,
        tolerance_backward=TOLERANCE,
        bytes_moved=8 * math.prod(space),
        bytes_backward=8 * math.prod(space),
        quick=quick,
        compile=False,
        devices=("cpu",),
    )


def peer_metric_cases() -> Iterable[Case]:
    peers = {"mcp": {"scikit-image": scikit_image()}, "node": {"dijkstra3d": dijkstra3d()}}
    for metric, found in peers.items():
        for space in ((512, 512), (2048, 2048), (64, 64, 64), (128, 128, 128)):
            yield Case(
                op="geodesic_distance",
                name=name_of("geodesic_distance", space, metric),
                inputs=lambda space=space: (smooth_noise(space) + 1, points(space, 1)),
                native=lambda image, seeds, metric=metric: medkern.geodesic_distance(
                    image, seeds, metric=metric
                ),
                reference=relaxation(space, 0.0, metric, None),
                oracle=lambda image, seeds, metric=metric: medkern.geodesic_distance(
                    image, seeds, metric=metric, method="bucket"
                ),
                tolerance=TOLERANCE,
                peers=found,
                backward=False,
                bytes_moved=8 * math.prod(space),
                quick=space == (512, 512),
                compile=False,
                devices=("cpu",),
            )


def chamfer_case(space: tuple[int, ...], *, quick: bool = False) -> Case:
    reference = relaxation(space, 1.0, "l1", None)
    return Case(
        op="chamfer_distance",
        name=name_of("chamfer_distance", space, "1_seeds"),
        inputs=lambda: (points(space, 1),),
        native=medkern.chamfer_distance,
        reference=lambda seeds: reference(torch.zeros(seeds.shape), seeds),
        oracle=lambda seeds: medkern.chamfer_distance(torch.where(seeds, 0, math.inf).double()),
        tolerance=TOLERANCE,
        backward=False,
        bytes_moved=5 * math.prod(space),
        quick=quick,
        compile=False,
        devices=("cpu",),
    )


def intensity_case(space: tuple[int, ...], *, quick: bool = False) -> Case:
    return Case(
        op="intensity_distance",
        name=name_of("intensity_distance", space, "1_seeds"),
        inputs=lambda: (smooth_noise(space), points(space, 1)),
        native=medkern.intensity_distance,
        reference=relaxation(space, 0.0, "l1", None),
        tolerance=TOLERANCE,
        peers={"FastGeodis": fastgeodis(len(space), None, 1.0)},
        backward=False,
        bytes_moved=8 * math.prod(space),
        quick=quick,
        compile=False,
        devices=("cpu",),
    )


def name_of(op: str, space: tuple[int, ...], what: str) -> str:
    return f"{op}/{'x'.join(map(str, space))}/{what}/float32"


def smooth_noise(space: tuple[int, ...]) -> Tensor:
    """[1, 1, *space], Gaussian-filtered noise stretched to 0..255."""
    noise = np.random.default_rng(0).standard_normal(space, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, 3.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    return torch.from_numpy(smooth)[None, None]


def points(space: tuple[int, ...], count: int, seed: int = 1) -> Tensor:
    """[1, 1, *space], `count` random seeds."""
    chosen = np.random.default_rng(seed).choice(math.prod(space), count, replace=False)
    seeds = torch.zeros(math.prod(space), dtype=torch.bool)
    seeds[torch.from_numpy(chosen)] = True
    return seeds.reshape(1, 1, *space)


def relaxation(
    space: tuple[int, ...],
    lam: float,
    metric: str,
    spacing: tuple[float, ...] | None,
    connectivity: int | None = None,
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """All neighbours' minima until nothing changes; None where that takes too long."""
    ndim = len(space)
    if math.prod(space) > MOST_VOXELS[ndim]:
        return None
    rows = torch.tensor([spacing or (1.0,) * ndim], dtype=torch.float64)

    def distance(image: Tensor, seeds: Tensor) -> Tensor:
        starts = torch.where(seeds, 0.0, math.inf).to(image.dtype)
        args = (image, starts, None, rows, lam, metric, "l1", connectivity or ndim)
        return definition.geodesic_distance(*args, math.inf, "auto", 1)

    return distance


def fastgeodis(ndim: int, spacing: tuple[float, ...] | None, lam: float = 1 - LAM) -> Peer:
    """Its raster scan with its usual number of passes: 2, or 4 for volumes."""

    def make() -> Callable[..., Any]:
        package = importlib.import_module("FastGeodis")

        def one(image: Tensor, seeds: Tensor) -> Tensor:
            away = (~seeds).to(torch.float32)
            if ndim == 2:
                return package.generalised_geodesic2d(image, away, 1e10, lam, 2)
            mm = list(spacing or (1.0,) * 3)
            return package.generalised_geodesic3d(image, away, mm, 1e10, lam, 4)

        return lambda image, seeds: torch.cat([one(image, s) for s in seeds.split(1, 1)], dim=1)

    return Peer(make, "FastGeodis", backward=False, devices=("cpu",), approximate=True)


def scikit_image() -> Peer:
    def make() -> Callable[..., Any]:
        graph = importlib.import_module("skimage.graph")

        def distance(image: Tensor, seeds: Tensor) -> Any:
            found, _ = graph.MCP_Geometric(image[0, 0].numpy()).find_costs(
                np.argwhere(seeds[0, 0].numpy())
            )
            return found

        return distance

    return Peer(make, "scikit-image", with_batch, backward=False, devices=("cpu",))


def dijkstra3d() -> Peer:
    def make() -> Callable[..., Any]:
        package = importlib.import_module("dijkstra3d")

        def distance(image: Tensor, seeds: Tensor) -> Any:
            source = np.argwhere(seeds[0, 0].numpy())
            return package.distance_field(image[0, 0].numpy(), source=source)

        return distance

    return Peer(make, "dijkstra3d", with_batch, backward=False, devices=("cpu",))


def with_batch(found: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(found))[None, None]

"""Exact Euclidean distances: masks of blobs, one far voxel, labels, nearest voxels, surfaces.

Peers are the exact transforms of other libraries; each takes one mask, so those of a batch are
given in a loop. The reference is what a user of torch writes: scipy on the NumPy view.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

import medkern
from medkern.benchmarks.registry import Case, Peer

Tensor = torch.Tensor
Array = np.ndarray[Any, Any]
TOLERANCE = 1e-6
PLANE, VOLUME = (1.0, 1.0), (1.0, 1.0, 1.0)
SCANNER = (2.5, 0.8, 0.8)  # mm


def cases() -> Iterable[Case]:
    yield distance_case("blobs", (256, 256), quick=True)
    yield distance_case("blobs", (512, 512))
    yield distance_case("blobs", (2048, 2048))
    yield distance_case("blobs", (64, 64, 64))
    yield distance_case("blobs", (128, 128, 128))
    yield distance_case("blobs", (128, 256, 256), spacing=SCANNER)
    yield distance_case("point", (512, 512))
    yield distance_case("point", (128, 128, 128))
    yield distance_case("noise", (512, 512))
    yield distance_case("blobs", (256, 256), batch=(8, 4))
    yield labels_case((128, 128, 128))
    yield signed_case((512, 512))
    yield indices_case((512, 512))
    yield indices_case((128, 128, 128), quick=True)
    yield hausdorff_case((1, 3, 128, 128, 128))


def distance_case(
    kind: str,
    shape: tuple[int, ...],
    *,
    spacing: tuple[float, ...] | None = None,
    batch: tuple[int, int] = (1, 1),
    quick: bool = False,
) -> Case:
    spacing = spacing or (1.0,) * len(shape)
    size = "x".join(map(str, shape if batch == (1, 1) else (*batch, *shape)))
    voxels = int(np.prod(batch) * np.prod(shape))
    return Case(
        op="euclidean_distance",
        name=f"euclidean_distance/{kind}/{size}",
        inputs=lambda: (MASKS[kind]((*batch, *shape)),),
        native=lambda mask: medkern.euclidean_distance(mask, spacing=spacing),
        reference=each(lambda m: scipy_distance(m, spacing)),
        tolerance=TOLERANCE,
        peers=distance_peers(spacing),
        backward=False,
        bytes_moved=5 * voxels,
        quick=quick,
        devices=("cpu",),
    )


def labels_case(shape: tuple[int, ...]) -> Case:
    """A label image in one pass; scipy needs one pass per label."""
    spacing = (1.0,) * len(shape)

    def per_label(labels: Array) -> Array:
        total = np.zeros(labels.shape)
        for label in np.unique(labels[labels != 0]):
            total += scipy_distance(labels == label, spacing)
        return total

    return Case(
        op="euclidean_distance",
        name=f"euclidean_distance/labels/{'x'.join(map(str, shape))}",
        inputs=lambda: (label_image((1, 1, *shape)),),
        native=medkern.euclidean_distance,
        reference=each(per_label),
        tolerance=TOLERANCE,
        peers={"edt": Peer(lambda: each(edt_distance(spacing)), "edt")},
        backward=False,
        bytes_moved=5 * int(np.prod(shape)),
        devices=("cpu",),
    )


def signed_case(shape: tuple[int, ...]) -> Case:
    spacing = (1.0,) * len(shape)

    def both(distance: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return lambda mask: distance(mask == 0) - distance(mask)

    peers = {
        name: Peer(lambda make=make: each(both(make(spacing))), package)
        for name, (make, package) in BINARY.items()
        if name != "OpenCV" or len(shape) == 2
    }
    return Case(
        op="euclidean_distance",
        name=f"euclidean_distance/signed/{'x'.join(map(str, shape))}",
        inputs=lambda: (blobs((1, 1, *shape)),),
        native=lambda mask: medkern.euclidean_distance(mask, signed=True),
        reference=each(both(lambda m: scipy_distance(m, spacing))),
        tolerance=TOLERANCE,
        peers=peers,
        backward=False,
        bytes_moved=5 * int(np.prod(shape)),
        devices=("cpu",),
    )


def indices_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    """With the nearest voxel. Only the distances are compared: of equals, peers take any."""

    def scipy_indices(mask: Array) -> Array:
        ndimage = importlib.import_module("scipy.ndimage")
        return ndimage.distance_transform_edt(mask, return_indices=True)[0]

    return Case(
        op="euclidean_distance",
        name=f"euclidean_distance/indices/{'x'.join(map(str, shape))}",
        inputs=lambda: (blobs((1, 1, *shape)),),
        native=lambda mask: medkern.euclidean_distance(mask, return_indices=True)[0],
        reference=each(scipy_indices),
        tolerance=TOLERANCE,
        peers={
            "without indices": Peer(lambda: medkern.euclidean_distance, "medkern"),
        },
        backward=False,
        bytes_moved=13 * int(np.prod(shape)),
        quick=quick,
        devices=("cpu",),
    )


def hausdorff_case(shape: tuple[int, ...]) -> Case:
    """HD95 of two segmentations; the reference crops to the masks, as MONAI does."""

    def reference(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(a.flatten(0, 1).numpy(), b.flatten(0, 1).numpy(), strict=True)
        return torch.tensor([scipy_hd95(m, n) for m, n in pairs]).reshape(shape[:2])

    def monai() -> Callable[..., Any]:
        compute = importlib.import_module("monai.metrics").compute_hausdorff_distance
        return lambda a, b: compute(a, b, include_background=True, percentile=95)

    return Case(
        op="hausdorff_distance",
        name=f"hausdorff_distance/95/{'x'.join(map(str, shape))}",
        inputs=lambda: (balls(shape, 0), balls(shape, 1)),
        native=medkern.hausdorff_distance,
        reference=reference,
        tolerance=1e-5,
        peers={"MONAI": Peer(monai, "monai")},
        backward=False,
        quick=True,
        devices=("cpu",),
    )


# Inputs: uint8 masks [B, K, *space], as label files come.


def blobs(shape: tuple[int, ...]) -> Tensor:
    """Half of the voxels, in regions some 20 voxels across, with smooth borders."""
    return (smooth_noise(shape) > 0).to(torch.uint8)


def label_image(shape: tuple[int, ...]) -> Tensor:
    """Five levels of smooth noise: regions that touch, and a background."""
    return (smooth_noise(shape) * 2 + 2.5).clamp(0, 4).to(torch.uint8)


def point(shape: tuple[int, ...]) -> Tensor:
    """One background voxel: the longest distances."""
    mask = torch.ones(shape, dtype=torch.uint8)
    mask[(..., *(n // 3 for n in shape[2:]))] = 0
    return mask


def noise(shape: tuple[int, ...]) -> Tensor:
    """Every other voxel, at random: the shortest runs."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, shape, generator=generator, dtype=torch.uint8)


def balls(shape: tuple[int, ...], seed: int) -> Tensor:
    """One rough ball per mask, a third of the image wide."""
    grid = torch.stack(
        torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape[2:]], indexing="ij")
    )
    centre = 0.05 * torch.randn(len(grid), generator=torch.Generator().manual_seed(seed))
    radius = (grid - centre.reshape(-1, *[1] * len(grid))).square().sum(0).sqrt()
    return (radius + 0.03 * smooth_noise(shape, seed) < 0.35).to(torch.uint8)


def smooth_noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Noise of unit variance, smoothed over some 8 voxels along every spatial axis."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    taps = torch.exp(-0.5 * (torch.arange(-20, 21) / 8.0) ** 2)
    for axis in range(2, x.dim()):
        lines = x.movedim(axis, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = torch.nn.functional.conv1d(flat, taps.reshape(1, 1, -1), padding=20)
        x = flat.reshape(lines.shape).movedim(-1, axis)
    return x / x.std()


MASKS = {"blobs": blobs, "point": point, "noise": noise}


# The reference and the peers: one NumPy mask in, its distances out.


def each(distance: Callable[[Array], Array]) -> Callable[[Tensor], Tensor]:
    """`distance` of every mask of [B, K, *space]."""

    def run(masks: Tensor) -> Tensor:
        lead, space = masks.shape[:2], masks.shape[2:]
        found = [torch.from_numpy(np.asarray(distance(m))) for m in masks.flatten(0, 1).numpy()]
        return torch.stack(found).reshape(*lead, *space) if len(found) > 1 else found[0][None, None]

    return run


def scipy_distance(mask: Array, spacing: Sequence[float]) -> Array:
    ndimage = importlib.import_module("scipy.ndimage")
    found: Array = ndimage.distance_transform_edt(mask, sampling=spacing)
    return found


def edt_distance(spacing: Sequence[float]) -> Callable[[Array], Array]:
    edt = importlib.import_module("edt")
    return lambda mask: edt.edt(mask, anisotropy=spacing, parallel=1)


def opencv_distance(spacing: Sequence[float]) -> Callable[[Array], Array]:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(torch.get_num_threads())
    return lambda mask: cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 0)


def diplib_distance(spacing: Sequence[float]) -> Callable[[Array], Array]:
    dip = importlib.import_module("diplib")
    dip.SetNumberOfThreads(torch.get_num_threads())
    order = list(reversed(spacing))

    def distance(mask: Array) -> Array:
        image = dip.Image(mask != 0)
        image.SetPixelSize(order)
        return np.asarray(dip.EuclideanDistanceTransform(image, "object", "separable"))

    return distance


def sitk_distance(spacing: Sequence[float]) -> Callable[[Array], Array]:
    sitk = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())

    def distance(mask: Array) -> Array:
        image = sitk.GetImageFromArray((mask == 0).astype(np.uint8))
        image.SetSpacing(list(reversed(spacing)))
        found = sitk.SignedMaurerDistanceMap(
            image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
        )
        return np.maximum(sitk.GetArrayViewFromImage(found), 0)

    return distance


BINARY: dict[str, tuple[Callable[..., Callable[[Array], Array]], str]] = {
    "edt": (edt_distance, "edt"),
    "DIPlib": (diplib_distance, "diplib"),
    "SimpleITK": (sitk_distance, "SimpleITK"),
    "OpenCV": (opencv_distance, "opencv-python-headless"),
}


def distance_peers(spacing: tuple[float, ...]) -> dict[str, Peer]:
    """OpenCV knows pictures without spacing only."""
    return {
        name: Peer(lambda make=make: each(make(spacing)), package)
        for name, (make, package) in BINARY.items()
        if name != "OpenCV" or spacing == PLANE
    }


def scipy_hd95(a: Array, b: Array) -> float:
    ndimage = importlib.import_module("scipy.ndimage")
    boxes = ndimage.find_objects((a | b).astype(np.uint8))[0]
    border = [m[boxes] & ~ndimage.binary_erosion(m[boxes]) for m in (a != 0, b != 0)]
    far = [ndimage.distance_transform_edt(~m) for m in border]
    return max(np.percentile(far[1][border[0]], 95), np.percentile(far[0][border[1]], 95))

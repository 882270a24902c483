"""Surface metrics against their definitions, MONAI where it is installed, and every error."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

import medkern as mk

POEM = (2.07, 2.07, 8.0)


def blobs(shape, ndim, seed):
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = [0] * (len(shape) - ndim) + [1.5] * ndim
    return ndimage.gaussian_filter(noise, smooth) > 0.02


def surface_points(mask, spacing):
    cross = ndimage.generate_binary_structure(mask.ndim, 1)
    border = mask & ~ndimage.binary_erosion(mask, cross, border_value=0)
    return np.argwhere(border) * np.asarray(spacing)


def both_ways(a, b, spacing):
    """Distances of a's surface voxels from b's surface, and the other way round: all pairs."""
    pairs = cdist(surface_points(a, spacing), surface_points(b, spacing))
    return pairs.min(1), pairs.min(0)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([(40,), (9, 14), (14, 9), (1, 12), (5, 7, 6), (1, 8, 9)]),
    st.integers(0, 10_000),
    st.sampled_from([(1.0, 1.0, 1.0), POEM, (0.5, 3.0, 1.0)]),
    st.sampled_from([None, 100, 95, 50, 0, 12.5]),
)
def test_equals_the_definition(shape, seed, spacing, percentile):
    ndim = len(shape)
    spacing = spacing[-ndim:]
    a, b = blobs(shape, ndim, seed), blobs(shape, ndim, seed + 1)
    if not (a.any() and b.any()):
        return
    there, back = both_ways(a, b, spacing)
    q = 100 if percentile is None else percentile
    args = {"spacing": spacing, "ndim": ndim}
    want = {
        True: np.percentile(there, q),
        False: max(np.percentile(there, q), np.percentile(back, q)),
    }
    for directed, value in want.items():
        got = mk.hausdorff_distance(a, b, percentile=percentile, directed=directed, **args)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, value, rtol=1e-12)
    together = np.concatenate([there, back])
    for symmetric, values in ((True, together), (False, there)):
        got = mk.average_surface_distance(a, b, symmetric=symmetric, **args)
        np.testing.assert_allclose(got, values.mean(), rtol=1e-12)
    tolerance = 1.1 * min(spacing)  # no distance falls on it
    got = mk.normalized_surface_dice(a, b, tolerance, **args)
    np.testing.assert_allclose(got, (together <= tolerance).mean(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore")  # its own deprecations
@pytest.mark.parametrize("ndim", [2, 3])
def test_equals_monai(ndim):
    metrics = pytest.importorskip("monai.metrics")
    shape = (3, 2, *(17, 14, 12)[:ndim])
    a, b = (torch.from_numpy(blobs(shape, ndim, seed)) for seed in (0, 1))
    spacing = [float(s) for s in POEM[-ndim:]]
    theirs = {"include_background": True, "spacing": spacing}
    for percentile in (None, 95):
        for directed in (False, True):
            args = {"percentile": percentile, "directed": directed}
            got = mk.hausdorff_distance(a, b, spacing=spacing, **args)
            want = metrics.compute_hausdorff_distance(a.float(), b.float(), **args, **theirs)
            torch.testing.assert_close(got, want.double(), rtol=1e-5, atol=0)
    for symmetric in (False, True):
        got = mk.average_surface_distance(a, b, symmetric=symmetric, spacing=spacing)
        want = metrics.compute_average_surface_distance(
            a.float(), b.float(), symmetric=symmetric, **theirs
        )
        torch.testing.assert_close(got, want.double(), rtol=1e-5, atol=0)
    got = mk.normalized_surface_dice(a, b, [3.0, 9.0], spacing=spacing)
    want = metrics.compute_surface_dice(a.float(), b.float(), [3.0, 9.0], **theirs)
    torch.testing.assert_close(got, want.double(), rtol=1e-5, atol=0)


METRICS = {
    "hausdorff": (mk.hausdorff_distance, 0.0, torch.inf),
    "directed": (lambda a, b, **k: mk.hausdorff_distance(a, b, directed=True, **k), 0.0, torch.inf),
    "average": (mk.average_surface_distance, 0.0, torch.inf),
    "one-way average": (
        lambda a, b, **k: mk.average_surface_distance(a, b, symmetric=False, **k),
        0.0,
        torch.inf,
    ),
    "dice": (lambda a, b, **k: mk.normalized_surface_dice(a, b, 1.0, **k), 1.0, 0.0),
}


@pytest.mark.parametrize("name", METRICS)
def test_empty_masks(name):
    metric, both_empty, one_empty = METRICS[name]
    full = torch.ones(6, 7, dtype=torch.bool)
    none = torch.zeros_like(full)
    assert metric(none, none).item() == both_empty
    assert metric(full, none).item() == one_empty
    assert metric(none, full).item() == one_empty
    assert metric(full, full).item() == both_empty  # equal masks agree, too
    # An empty mask says nothing about the others in its batch.
    a, b = torch.stack([full, none, full]), torch.stack([full, full, full])
    assert metric(a, b, ndim=2).tolist() == [both_empty, one_empty, both_empty]


def test_the_image_border_belongs_to_the_surface():
    """A mask that touches the border has its surface there."""
    a = np.zeros((9, 9), bool)
    a[0:3, 0:3] = True
    b = np.zeros((9, 9), bool)
    b[0:3, 0:4] = True
    assert mk.hausdorff_distance(a, b, percentile=None) == 1
    there, back = both_ways(a, b, (1, 1))
    assert len(there) == 8
    assert mk.average_surface_distance(a, b) == np.concatenate([there, back]).mean()


def test_surfaces_are_not_filled():
    """From a point inside, the distance is to the border of the other mask, not 0."""
    outer = np.ones((11, 11), bool)
    inner = np.zeros((11, 11), bool)
    inner[5, 5] = True
    assert mk.hausdorff_distance(inner, outer, percentile=None, directed=True) == 5


@pytest.mark.parametrize("name", METRICS)
def test_a_batch_is_its_samples(name):
    metric = METRICS[name][0]
    a, b = (torch.from_numpy(blobs((3, 2, 13, 16), 2, seed)) for seed in (3, 4))
    b[1, 0] = False
    a[2, 1] = b[2, 1] = False
    spacing = [(1.0, 1.0), (2.07, 8.0), (0.3, 0.5)]
    together = metric(a, b, spacing=spacing)
    assert together.shape == (3, 2)
    for n in range(3):
        for k in range(2):
            assert metric(a[n, k], b[n, k], spacing=spacing[n]) == together[n, k]
    assert torch.equal(metric(a.byte(), b.int() * 3, spacing=spacing), together)
    arrays = metric(a.numpy(), b.numpy(), spacing=spacing)
    np.testing.assert_array_equal(arrays, together.numpy())
    assert metric(a[:0], b[:0]).shape == (0, 2)


def test_symmetric_metrics_are():
    a, b = blobs((12, 13, 14), 3, 0), blobs((12, 13, 14), 3, 5)
    for metric in (mk.hausdorff_distance, mk.average_surface_distance):
        assert metric(a, b, ndim=3) == metric(b, a, ndim=3)
    assert mk.hausdorff_distance(a, b, ndim=3, spacing=2.0) == 2 * mk.hausdorff_distance(
        a, b, ndim=3
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda a: mk.hausdorff_distance(a, a[1:]),
            ValueError,
            "hausdorff_distance: b must have the shape of a, (4, 5), got (3, 5); resample",
        ),
        (
            lambda a: mk.hausdorff_distance(a.float(), a),
            TypeError,
            "hausdorff_distance: a must be bool or integers, got float32; compare",
        ),
        (
            lambda a: mk.average_surface_distance(a, a.double()),
            TypeError,
            "average_surface_distance: b must be bool or integers, got float64",
        ),
        (
            lambda a: mk.hausdorff_distance(a, a, percentile=101),
            ValueError,
            "hausdorff_distance: percentile must be a number from 0 to 100",
        ),
        (
            lambda a: mk.hausdorff_distance(a, a, percentile="95"),
            ValueError,
            "hausdorff_distance: percentile must be a number from 0 to 100",
        ),
        (
            lambda a: mk.normalized_surface_dice(a, a, -1.0),
            ValueError,
            "normalized_surface_dice: tolerance must be a number of at least 0",
        ),
        (
            lambda a: mk.normalized_surface_dice(a[None], a[None], [1.0, 2.0], ndim=2),
            ValueError,
            "normalized_surface_dice: tolerance must be a number of at least 0, or one for each",
        ),
        (
            lambda a: mk.average_surface_distance(a, a, spacing=0),
            ValueError,
            "average_surface_distance: spacing must be a positive number",
        ),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=re.escape(f"medkern.{text}")):
        call(torch.ones(4, 5, dtype=torch.bool))

"""Chunked distance transforms equal the in-memory ones, bit for bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import medkern as mk

da = pytest.importorskip("dask.array")
mkd = pytest.importorskip("medkern.dask")


def smooth_noise(shape, dtype=np.float32, seed=0):
    ndimage = pytest.importorskip("scipy.ndimage")
    noise = np.random.default_rng(seed).standard_normal(shape)
    return (ndimage.gaussian_filter(noise, 1.5) * 500).astype(dtype)


def random_seeds(shape, count, seed=1):
    seeds = np.zeros(shape, dtype=bool)
    seeds.ravel()[np.random.default_rng(seed).choice(seeds.size, count, replace=False)] = True
    return seeds


def maze(size):
    """Corridors of 0 between walls of 1000, open at alternate ends: one long shortest path."""
    image = np.zeros((size, size), dtype=np.float32)
    image[1::4] = 1000
    image[1::8, -1] = 0
    image[5::8, 0] = 0
    return image


@pytest.mark.parametrize(
    ("shape", "chunks", "options"),
    [
        ((24, 20, 22), 12, {}),  # 2 x 2 x 2 chunks
        ((24, 20, 22), 12, {"spacing": (2.5, 1.0, 0.7), "lam": 0.2, "connectivity": "face"}),
        ((40, 37), ((7, 1, 32), (30, 7)), {"metric": "l2"}),
        ((61,), 8, {"lam": 0.0}),
        ((9, 9), 9, {}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_equals_in_memory(shape, chunks, options, dtype):
    image = np.abs(smooth_noise(shape)).astype(dtype)
    seeds = random_seeds(shape, 2)
    expected = mk.geodesic_distance(image, seeds, ndim=image.ndim, **options)
    chunked = da.from_array(image, chunks=chunks)
    actual = mkd.geodesic_distance(chunked, da.from_array(seeds), **options)
    assert isinstance(actual, da.Array)
    assert actual.chunks == chunked.chunks
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual.compute(), expected)


def test_a_path_that_comes_back_to_a_chunk_many_times():
    image = maze(33)
    seeds = np.zeros(image.shape, dtype=bool)
    seeds[0, 0] = True
    expected = mk.geodesic_distance(image, seeds, lam=0.01)
    chunked = da.from_array(image, chunks=8)
    actual = mkd.geodesic_distance(chunked, seeds_of(seeds), lam=0.01)
    np.testing.assert_array_equal(actual, expected)
    with pytest.raises(RuntimeError, match=r"max_rounds must be enough .*, got 2; pass None"):
        mkd.geodesic_distance(chunked, seeds_of(seeds), lam=0.01, max_rounds=2)


def seeds_of(seeds):
    return da.from_array(seeds, chunks=5)


def test_start_costs_and_unreachable_chunks():
    image = smooth_noise((16, 16))
    starts = np.full(image.shape, np.inf, dtype=np.float32)
    starts[3, 3], starts[12, 9] = 4.0, 0.5
    expected = mk.geodesic_distance(image, starts)
    actual = mkd.geodesic_distance(da.from_array(image, chunks=8), da.from_array(starts, chunks=8))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("image", "seeds", "error", "text"),
    [
        (np.ones((4, 4)), da.ones((4, 4)), TypeError, "image must be a Dask array, got ndarray"),
        (da.ones((4, 4)), da.ones((4, 5)), ValueError, r"seeds must be \(4, 4\) .*got \(4, 5\)"),
        (da.ones((1, 1, 4, 4)), da.ones((1, 1, 4, 4)), ValueError, "1 to 3 axes, none empty"),
        (da.ones((4, 4))[da.ones(4) > 0], da.ones((4, 4)), ValueError, "have known chunk sizes"),
    ],
)
def test_errors(image, seeds, error, text):
    with pytest.raises(error, match=f"medkern.dask.geodesic_distance: .*{text}"):
        mkd.geodesic_distance(image, seeds)


def blobs(shape, labels, seed=0):
    """Large regions of few labels."""
    noise = smooth_noise(shape, seed=seed) / 30
    return np.clip(noise + labels / 2, 0, labels).astype(np.uint16)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("labels", "chunks", "spacing"),
    [
        (blobs((24, 20, 22), 4), 12, None),
        (blobs((24, 20, 22), 2) > 0, 11, (2.5, 1.0, 0.7)),
        (blobs((40, 37), 3), ((7, 1, 32), (30, 7)), 0.3),
        (np.arange(61) == 60, 8, None),
        (np.pad(np.zeros((1, 1)), ((2, 29), (24, 2)), constant_values=9).astype(np.int64), 9, None),
        (np.zeros((9, 9), np.uint8), 4, None),
        (np.full((9, 9), 5, np.uint8), 4, None),
    ],
)
def test_euclidean_equals_in_memory(labels, chunks, spacing, signed):
    options = {"spacing": spacing, "signed": signed, "return_indices": True}
    expected = mk.euclidean_distance(labels, ndim=labels.ndim, **options)
    chunked = da.from_array(labels, chunks=chunks)
    actual = mkd.euclidean_distance(chunked, **options)
    for a, e in zip(actual, expected, strict=True):
        assert (a.chunks, a.dtype) == (chunked.chunks, e.dtype)
        np.testing.assert_array_equal(a.compute(), e)
    only = mkd.euclidean_distance(chunked, spacing=spacing, signed=signed, dtype="float64")
    expected = mk.euclidean_distance(
        labels, ndim=labels.ndim, spacing=spacing, signed=signed, dtype="float64"
    )
    np.testing.assert_array_equal(only.compute(), expected)


def test_euclidean_windows_are_no_larger_than_needed():
    from medkern.dask import euclidean

    labels = np.zeros((64, 64), np.uint8)
    labels[20:28] = 1  # a slab of 8 voxels: nothing is farther than 4 from its outside
    mask = da.from_array(labels, chunks=16)
    windows = {at: euclidean._window(mask, c) for at, c in euclidean._chunks(mask).items()}
    euclidean._widen(mask, windows, {"spacing": (1.0, 1.0), "signed": False, "dtype": "float32"})
    assert windows[1, 1] == ((16, 32), (12, 36))
    assert windows[0, 0] == ((0, 16), (0, 16))


@pytest.mark.parametrize(
    ("mask", "options", "error", "text"),
    [
        (np.ones((4, 4), bool), {}, TypeError, "mask must be a Dask array, got ndarray"),
        (da.ones((4, 4)), {}, TypeError, "mask must be bool or integers, got float64"),
        (
            da.ones((4, 4), dtype=bool),
            {"spacing": 0.0},
            ValueError,
            r"spacing must .*got \[0.0, 0.0\]",
        ),
        (da.ones((4, 4), dtype=bool), {"dtype": "int8"}, ValueError, "dtype must be float32 or"),
    ],
)
def test_euclidean_errors(mask, options, error, text):
    with pytest.raises(error, match=f"medkern.dask.euclidean_distance: .*{text}"):
        mkd.euclidean_distance(mask, **options)


def test_without_dask_the_import_says_what_to_install():
    code = "import sys; sys.modules['dask'] = None\nimport medkern.dask"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Dask must be installed" in result.stderr
    assert "pip install 'medkern[dask]'" in result.stderr

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


def test_without_dask_the_import_says_what_to_install():
    code = "import sys; sys.modules['dask'] = None\nimport medkern.dask"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Dask must be installed" in result.stderr
    assert "pip install 'medkern[dask]'" in result.stderr

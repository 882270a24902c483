"""Exact Euclidean distances against scipy, edt and the definition, and every error."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import medkern as mk
from medkern import _library, backend
from medkern.reference import euclidean as reference

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"]
POEM = (2.07, 2.07, 8.0)  # the voxels of a whole-body MRI, in mm
SPACINGS = [1.0, 2.07, 8.0, 0.3]


def masks(shape, density=0.9, seed=0):
    return np.random.default_rng(seed).random(shape) < density


def blobs(shape, smooth=3.0, seed=0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, smooth) > 0


def by_definition(labels, spacing, signed=False):
    """Distance and lowest nearest index, over all pairs of voxels."""
    points = np.indices(labels.shape).reshape(labels.ndim, -1).T * np.asarray(spacing)
    flat = labels.ravel()
    square = ((points[:, None] - points) ** 2).sum(-1)
    square[flat[:, None] == flat] = np.inf
    if not signed:
        square[flat == 0] = np.where(np.eye(flat.size)[flat == 0], 0.0, np.inf)
    nearest = square.argmin(1)
    distance = np.sqrt(square[np.arange(flat.size), nearest])
    nearest[np.isinf(distance)] = -1
    if signed:
        distance = np.where(flat != 0, -distance, distance)
    return distance.reshape(labels.shape), nearest.reshape(labels.shape)


def length_to(nearest, spacing):
    """The distance of every voxel to the voxel that `nearest` names."""
    there = np.stack(np.unravel_index(nearest, nearest.shape))
    here = np.indices(nearest.shape)
    steps = (there - here) * np.reshape(spacing, (-1, *[1] * nearest.ndim))
    return np.sqrt((steps**2).sum(0))


def assert_close(got, want, rtol=1e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=0)


# -- against scipy --


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("density", [0.3, 0.9, 0.999])
def test_equals_scipy(ndim, density, dtype):
    shape = {1: (997,), 2: (61, 83), 3: (19, 23, 37)}[ndim]
    mask = masks(shape, density)
    mask.flat[0] = False
    for spacing in (None, 0.7, POEM[-ndim:], POEM[::-1][-ndim:]):
        got = mk.euclidean_distance(mask, spacing=spacing, ndim=ndim, dtype=dtype)
        assert got.dtype == dtype
        rtol = 1e-6 if dtype == "float32" else 1e-14
        assert_close(got, ndimage.distance_transform_edt(mask, sampling=spacing), rtol)


@pytest.mark.parametrize(
    "shape", [(1, 300), (300, 1), (1000, 3), (3, 1000), (300, 300), (2, 1, 300), (300, 2, 17)]
)
@pytest.mark.parametrize("density", [0.5, 0.99])
def test_thin_and_wide_images_equal_scipy(shape, density):
    mask = masks(shape, density)
    assert_close(mk.euclidean_distance(mask, ndim=len(shape)), ndimage.distance_transform_edt(mask))


@pytest.mark.parametrize("shape", [(400, 500), (40, 60, 70)])
def test_far_single_voxels_equal_scipy(shape):
    """One background voxel: every envelope is one parabola over empty rows."""
    for corner in (0, -1, 12345):
        mask = np.ones(shape, bool)
        mask.flat[corner] = False
        for spacing in (1.0, POEM[-len(shape) :]):
            got = mk.euclidean_distance(mask, spacing=spacing, ndim=len(shape))
            assert_close(got, ndimage.distance_transform_edt(mask, sampling=spacing))


def test_balls_equal_scipy():
    """Every centre row is equally far from many sources: the hardest envelope."""
    at = np.indices((120, 130)) - np.array([60, 64])[:, None, None]
    for radius in (5, 31.5, 59):
        mask = (at**2).sum(0) < radius**2
        assert_close(mk.euclidean_distance(mask), ndimage.distance_transform_edt(mask))


def test_isotropic_distances_are_roots_of_integers():
    mask = blobs((300, 310), 12)
    squares = np.rint(ndimage.distance_transform_edt(mask) ** 2)
    np.testing.assert_array_equal(mk.euclidean_distance(mask), np.sqrt(squares).astype(np.float32))
    np.testing.assert_array_equal(
        mk.euclidean_distance(mask, spacing=0.7),
        np.sqrt(squares).astype(np.float32) * np.float32(0.7),
    )


# -- labels, sides, nearest voxels --

grids = st.integers(1, 3).flatmap(
    lambda ndim: st.tuples(
        st.tuples(*[st.integers(1, 20 if ndim < 3 else 7)] * ndim),
        st.tuples(*[st.sampled_from(SPACINGS)] * ndim),
        st.integers(0, 10_000),
        st.sampled_from([1, 2, 3, 9]),
        st.booleans(),
    )
)


@settings(max_examples=150, deadline=None)
@given(grids)
def test_equals_the_definition(grid):
    shape, spacing, seed, most, signed = grid
    labels = np.random.default_rng(seed).integers(0, most + 1, shape)
    if seed % 3 == 0:  # larger regions
        labels = labels // most * most
    want, _ = by_definition(labels, spacing, signed)
    distance, nearest = mk.euclidean_distance(
        labels, spacing=spacing, signed=signed, return_indices=True, ndim=len(shape)
    )
    assert_close(distance, want)
    np.testing.assert_array_equal(nearest < 0, np.isinf(want))
    found = nearest >= 0
    assert_close(length_to(np.where(found, nearest, 0), spacing)[found], np.abs(want)[found])
    differs = labels.ravel()[np.where(found, nearest, 0)] != labels
    assert (differs | ~found | ((labels == 0) & (not signed))).all()


@settings(max_examples=100, deadline=None)
@given(grids)
def test_the_reference_gives_the_same_bits(grid):
    shape, spacing, seed, most, signed = grid
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, most + 1, shape))
    args = {"spacing": spacing, "signed": signed, "return_indices": True, "ndim": len(shape)}
    for ours, theirs in zip(
        mk.euclidean_distance(labels, **args),
        mk.euclidean_distance(labels, **args, backend="reference"),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(13, 9), (5, 6, 7), (40,)])
def test_of_equally_near_voxels_the_lowest_counts(shape, signed):
    for most, seed in ((1, 0), (1, 1), (4, 2)):
        labels = np.random.default_rng(seed).integers(0, most + 1, shape)
        _, want = by_definition(labels, [1.0] * len(shape), signed)
        _, nearest = mk.euclidean_distance(
            labels, signed=signed, return_indices=True, ndim=len(shape)
        )
        assert nearest.dtype == np.int64
        np.testing.assert_array_equal(nearest, want)


def test_labels_equal_edt():
    edt = pytest.importorskip("edt")
    rng = np.random.default_rng(0)
    regions = np.kron(rng.integers(0, 5, (6, 5, 4)), np.ones((9, 8, 7), int)).astype(np.uint16)
    for labels in (regions, regions[20], rng.integers(0, 3, (30, 40)).astype(np.uint8)):
        spacing = POEM[-labels.ndim :]
        want = edt.edt(labels, anisotropy=spacing)
        assert_close(mk.euclidean_distance(labels, spacing=spacing), want, rtol=2e-6)


def test_labels_are_one_transform_per_label():
    labels = np.kron(np.random.default_rng(1).integers(0, 4, (9, 9)), np.ones((7, 5), int))
    got = mk.euclidean_distance(labels)
    for label in (1, 2, 3):
        of_one = ndimage.distance_transform_edt(labels == label)
        assert_close(got[labels == label], of_one[labels == label])
    assert (got[labels == 0] == 0).all()


def test_signed_is_minus_inside_plus_outside():
    mask = blobs((70, 90))
    inside, outside = map(ndimage.distance_transform_edt, (mask, ~mask))
    assert_close(mk.euclidean_distance(mask, signed=True), outside - inside)


def test_the_border_does_not_count():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    assert mk.euclidean_distance(mask)[0, 0] == np.float32(np.sqrt(8))


def test_without_another_label_all_is_infinite():
    full, none = torch.ones(2, 40, 50, dtype=torch.bool), torch.zeros(2, 40, 50, dtype=torch.bool)
    for labels in (full, full.int() * 3):
        distance, nearest = mk.euclidean_distance(labels, return_indices=True, ndim=2)
        assert (distance == torch.inf).all()
        assert (nearest == -1).all()
    assert (mk.euclidean_distance(none, ndim=2) == 0).all()
    own = mk.euclidean_distance(none, return_indices=True, ndim=2)[1]
    assert torch.equal(own[1], torch.arange(2000).reshape(40, 50))
    assert (mk.euclidean_distance(full, ndim=2, signed=True) == -torch.inf).all()
    assert (mk.euclidean_distance(none, ndim=2, signed=True) == torch.inf).all()


def test_volumes_of_a_batch_do_not_touch():
    """Also where some have background only, no background, or several labels."""
    one = torch.from_numpy(blobs((20, 33)))
    volumes = [one, torch.ones_like(one), torch.zeros_like(one), ~one]
    images = torch.stack([v.int() for v in volumes] + [one.int() + 1, one.int() * 2 + ~one * 3])
    for signed in (False, True):
        together = mk.euclidean_distance(images[:, None], signed=signed, return_indices=True)
        for i, image in enumerate(images):
            alone = mk.euclidean_distance(image, signed=signed, return_indices=True)
            for a, b in zip(together, alone, strict=True):
                assert torch.equal(a[i, 0], b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_array_kind(dtype):
    labels = (np.random.default_rng(0).integers(0, 3, (15, 18)) // 2).astype(dtype)
    want = ndimage.distance_transform_edt(labels)
    assert_close(mk.euclidean_distance(labels), want)
    assert_close(mk.euclidean_distance(torch.from_numpy(labels)).numpy(), want)
    high = labels.astype(dtype) * np.array(np.iinfo(dtype).max if dtype != "bool" else 1, dtype)
    assert_close(mk.euclidean_distance(high), want)


def test_spacing_per_sample():
    mask = masks((3, 2, 17, 19))
    rows = [(1, 1), POEM[:2], (0.5, 8)]
    together = mk.euclidean_distance(mask, spacing=rows)
    assert_close(together, mk.euclidean_distance(mask, spacing=np.array(rows)))
    for n, row in enumerate(rows):
        for k in range(2):
            want = ndimage.distance_transform_edt(mask[n, k], sampling=row)
            assert_close(together[n, k], want)


def test_swapped_spacing_is_seen():
    mask = np.ones((9, 9), bool)
    mask[4, 4] = False
    got = mk.euclidean_distance(mask, spacing=(3, 1))
    assert (got[0, 4], got[4, 0]) == (12, 4)


def test_strides_and_empty_batches():
    x = torch.from_numpy(masks((2, 3, 14, 22)))
    for view in (x.transpose(2, 3), x[:, :, ::2, 1:-1], x[:1].expand(4, 3, 14, 22), x.flip(0)):
        assert torch.equal(mk.euclidean_distance(view), mk.euclidean_distance(view.contiguous()))
    assert mk.euclidean_distance(x[:0]).shape == (0, 3, 14, 22)
    assert mk.euclidean_distance(x[:, :0], return_indices=True)[1].shape == (2, 0, 14, 22)


def test_laws():
    mask, spacing = torch.from_numpy(blobs((2, 1, 25, 30, 35))), (1.0, 2.0, 0.5)
    plain = mk.euclidean_distance(mask, spacing=spacing)
    for axis in (2, 3, 4):
        flipped = mk.euclidean_distance(mask.flip(axis), spacing=spacing)
        assert torch.equal(flipped.flip(axis), plain)
    turned = mk.euclidean_distance(mask.permute(0, 1, 4, 2, 3), spacing=(0.5, 1.0, 2.0))
    torch.testing.assert_close(turned.permute(0, 1, 3, 4, 2), plain, rtol=1e-6, atol=0)
    doubled = mk.euclidean_distance(mask, spacing=[2 * s for s in spacing])
    assert torch.equal(doubled, 2 * plain)


# -- the same bits --


@pytest.mark.parametrize("labels", [blobs((3, 2, 90, 333), 5), masks((2, 70, 60, 50), 0.99)])
def test_same_bits_for_any_threads_batch_and_instruction_set(labels):
    image = torch.from_numpy(labels.astype(np.int16) * (1 + np.arange(labels.shape[-1]) // 100))
    image = image.to(torch.int16)
    if image.shape[0] == 2:
        image = image[:, None]
    ndim = image.dim() - 2
    spacing = POEM[-ndim:]

    def run(x):
        return mk.euclidean_distance(x, spacing=spacing, signed=True, return_indices=True)

    expected = run(image)
    switch, threads = _library.native_isa(backend.native().path), torch.get_num_threads()
    before = switch.active
    try:
        for isa in switch.names:
            switch.select(isa)
            for count in (1, 2):
                torch.set_num_threads(count)
                parts = [run(image[n : n + 1]) for n in range(image.shape[0])]
                for i in (0, 1):
                    assert torch.equal(run(image)[i], expected[i])
                    assert torch.equal(torch.cat([p[i] for p in parts]), expected[i])
    finally:
        switch.select(before)
        torch.set_num_threads(threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_module_gives_the_same_bits(threads):
    mkn = pytest.importorskip("medkern.numpy", exc_type=ImportError)
    before = mkn.get_num_threads()
    mkn.set_num_threads(threads)
    try:
        for labels in (blobs((400, 500), 9), masks((2, 3, 30, 40), 0.9).astype(np.uint16) * 7):
            for args in (
                {},
                {"signed": True, "return_indices": True, "spacing": (0.5, 3)},
                {"dtype": "float64"},
            ):
                ours, theirs = (m.euclidean_distance(labels, **args) for m in (mkn, mk))
                pairs = zip(ours, theirs, strict=True) if len(args) == 3 else [(ours, theirs)]
                for a, b in pairs:
                    assert a.dtype == b.dtype
                    np.testing.assert_array_equal(a, b)
    finally:
        mkn.set_num_threads(before)


def test_float64_reference_agrees_with_float32_kernel():
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 2, 15, 16)))
    spacing = torch.tensor([POEM[:2], POEM[1:]], dtype=torch.float64)
    want = reference.euclidean_distance(labels, spacing, True, True)
    got = mk.euclidean_distance(labels, spacing=spacing, signed=True)
    torch.testing.assert_close(got.double(), want, rtol=3e-7, atol=0)


def test_vmap_and_compile():
    mask = torch.from_numpy(masks((4, 2, 3, 12, 13)))
    expected = torch.stack([mk.euclidean_distance(m) for m in mask])
    assert torch.equal(torch.vmap(mk.euclidean_distance)(mask), expected)
    compiled = torch.compile(lambda m: mk.euclidean_distance(m, spacing=(1, 2)), fullgraph=True)
    assert torch.equal(compiled(mask[0]), mk.euclidean_distance(mask[0], spacing=(1, 2)))


# -- errors --


@pytest.mark.parametrize(
    ("mask", "kwargs", "error", "text"),
    [
        (torch.rand(4, 4), {}, TypeError, "mask must be bool or integers, got float32; compare"),
        (torch.ones(2, 4, 4).int(), {}, ValueError, "mask must be [*space] or [B, C, *space]"),
        (torch.ones(4, 4).int(), {"ndim": 3}, ValueError, "mask must have 3 to 5 axes"),
        (torch.ones(4, 4).int(), {"ndim": 4}, ValueError, "ndim must be 1, 2 or 3, got 4"),
        (torch.ones(4, 0).int(), {}, ValueError, "mask must have no empty spatial axis"),
        (torch.ones(4, 4).int(), {"spacing": (1, 0)}, ValueError, "spacing must be a positive"),
        (torch.ones(4, 4).int(), {"spacing": -1}, ValueError, "spacing must be a positive"),
        (torch.ones(4, 4).int(), {"dtype": "float16"}, ValueError, "dtype must be float32 or"),
        ([1, 2], {}, TypeError, "mask must be a torch tensor, a NumPy array"),
    ],
)
def test_errors(mask, kwargs, error, text):
    with pytest.raises(error, match=re.escape(f"medkern.euclidean_distance: {text}")):
        mk.euclidean_distance(mask, **kwargs)


@pytest.mark.parametrize(
    ("labels", "spacing", "text"),
    [
        (torch.rand(1, 1, 4, 4), torch.ones(1, 2).double(), "integers or bool"),
        (torch.ones(1, 1, 2, 2, 2, 2).int(), torch.ones(1, 4).double(), "1 to 3 axes"),
        (torch.ones(2, 1, 4, 4).int(), torch.ones(1, 2).double(), "spacing must be"),
        (torch.ones(2, 1, 4, 4).int(), torch.ones(2, 3).double(), "spacing must be"),
        (torch.ones(1, 1, 4, 4).int(), torch.ones(1, 2), "float64"),
        (torch.ones(1, 1, 4, 4).int(), torch.zeros(1, 2).double(), "positive"),
    ],
)
def test_direct_calls_are_checked(labels, spacing, text):
    with pytest.raises(RuntimeError, match=text):
        torch.ops.medkern.euclidean_distance(labels, spacing, False, False)

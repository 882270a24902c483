"""Signed distance maps against scipy, brute force, and the figures of the paper."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import medkern as mk

KINDS = ("euclidean", "chamfer", "geodesic", "intensity", "mbd")
OF_IMAGES = KINDS[2:]


def picture_for(kind, *shape):
    if kind not in OF_IMAGES:
        return None
    return torch.rand(shape, generator=torch.Generator().manual_seed(5)) * 255


def distance(kind, picture, sets, **how):
    """One set at a time, by the functions that signed_distance_map calls with all of them."""
    if kind == "euclidean":
        return mk.euclidean_distance(~sets, **how)
    if kind == "chamfer":
        return mk.chamfer_distance(sets, **how)
    if kind == "geodesic":
        return mk.geodesic_distance(picture, sets, **how)
    how.pop("spacing", None)
    op = mk.intensity_distance if kind == "intensity" else mk.minimum_barrier_distance
    return op(picture, sets, **how)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", [None, (2.0, 0.5)], ids=["unit", "anisotropic"])
def test_each_class_and_side_alone(kind, spacing):
    labels = torch.randint(0, 4, (2, 9, 11), generator=torch.Generator().manual_seed(1))
    picture = picture_for(kind, 2, 1, 9, 11)
    maps = mk.signed_distance_map(labels, picture, kind=kind, spacing=spacing, ndim=2)
    assert maps.shape == (2, 3, 9, 11)
    for b, k in itertools.product(range(2), range(1, 4)):
        mask = (labels[b] == k)[None, None]
        one = None if picture is None else picture[b : b + 1]
        how = {"spacing": spacing, "ndim": 2}
        phi = distance(kind, one, mask, **how) - distance(kind, one, ~mask, **how)
        torch.testing.assert_close(maps[b, k - 1], phi[0, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_boundary_measures_both_sides_to_the_edge(kind):
    labels = torch.zeros(12, 12, dtype=torch.int64)
    labels[2:9, 3:10] = 1
    picture = picture_for(kind, 12, 12)
    edge = labels.bool() & torch.from_numpy(ndimage.binary_dilation(labels == 0, np.ones((3, 3))))
    far = distance(kind, picture, edge[None, None] if picture is None else edge, ndim=2)
    expected = torch.where(labels == 1, -far.reshape(12, 12), far.reshape(12, 12))
    maps = mk.signed_distance_map(labels, picture, kind=kind, inside="boundary")
    torch.testing.assert_close(maps[0], expected, rtol=1e-6, atol=1e-6)


def test_single_point_by_either_reading_of_the_paper():
    labels = torch.full((5, 5), -1)
    labels[2, 2] = 1
    complement = mk.signed_distance_map(labels)[0]
    boundary = mk.signed_distance_map(labels, inside="boundary")[0]
    assert complement[2, 2] == -1
    assert boundary[2, 2] == 0
    outside = labels != 1
    assert torch.equal(complement[outside], boundary[outside])


def test_boundary_heeds_the_connectivity():
    labels = torch.ones(4, 4, dtype=torch.int64)
    labels[0, 0] = 0  # voxel (1, 1) touches it by a corner alone
    for connectivity, on_the_boundary in (("full", True), ("face", False)):
        how = {"inside": "boundary", "connectivity": connectivity}
        phi = mk.signed_distance_map(labels, **how)[0]
        assert (phi[1, 1] == 0) == on_the_boundary
        assert phi[0, 1] == phi[1, 0] == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(2, 4),
    st.integers(0, 2**16),
)
def test_euclidean_equals_scipy(space, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (2, *space), generator=generator)
    spacing = (0.5 + torch.rand(len(space), generator=generator)).tolist()
    maps = mk.signed_distance_map(
        labels, classes=classes, include_background=True, spacing=spacing, ndim=len(space), absent=7
    )
    for b, k in itertools.product(range(2), range(classes)):
        mask = (labels[b] == k).numpy()
        if mask.any() and not mask.all():
            outside = ndimage.distance_transform_edt(~mask, spacing)
            inside = ndimage.distance_transform_edt(mask, spacing)
            np.testing.assert_allclose(maps[b, k], outside - inside, rtol=1e-6, atol=1e-6)
        else:
            assert (maps[b, k] == (-7 if mask.any() else 7)).all()


def test_the_map_of_the_original_boundary_loss():
    """`one_hot2dist` of LIVIAETS/boundary-loss: the inside is short of one voxel."""
    masks = torch.zeros(2, 3, 16, 18, dtype=torch.bool)
    masks[:, 1, 4:9, 5:12] = True
    masks[0, 2, 11:14, 2:6] = True
    masks[:, 0] = ~masks[:, 1] & ~masks[:, 2]
    maps = mk.signed_distance_map(masks, inside="complement-1")
    for b, k in itertools.product(range(2), range(3)):
        mask = masks[b, k].numpy()
        classic = np.zeros_like(mask, dtype=float)
        if mask.any():
            outside, inside = (ndimage.distance_transform_edt(m) for m in (~mask, mask))
            classic = outside * ~mask - (inside - 1) * mask
        np.testing.assert_allclose(maps[b, k], classic, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["complement", "boundary", "complement-1"])
def test_classes_without_a_boundary(kind, inside):
    labels = torch.ones(1, 4, 5, dtype=torch.int64)
    how = {"kind": kind, "inside": inside, "ndim": 2, "classes": 3}
    picture = picture_for(kind, 1, 1, 4, 5)
    maps = mk.signed_distance_map(labels, picture, absent=1.0, **how)
    assert (maps[:, 0] == -1).all()
    assert (maps[:, 1] == 1).all()
    assert (mk.signed_distance_map(labels, picture, **how) == 0).all()


def test_intensity_sees_no_length_and_geodesic_mixes_both():
    picture = torch.zeros(1, 1, 6, 8)
    picture[..., 4:] = 30.0
    labels = torch.full((1, 6, 8), -1)
    labels[0, 3, 1] = 1
    intensity = mk.signed_distance_map(labels, picture, kind="intensity")[0, 0]
    assert (intensity[:, :4] == 0).all()
    assert (intensity[:, 4:] == 30).all()
    geodesic = mk.signed_distance_map(labels, picture, kind="geodesic", lam=0.25)[0, 0]
    assert geodesic[3, 5].item() == pytest.approx(0.75 * 30 + 0.25 * 4)


def test_label_and_mask_forms_agree():
    labels = torch.randint(0, 3, (2, 7, 8), generator=torch.Generator().manual_seed(2))
    masks = torch.stack([labels == k for k in range(3)], dim=1)
    whole = mk.signed_distance_map(masks)
    same = mk.signed_distance_map(labels, ndim=2, include_background=True)
    assert torch.equal(whole, same)
    assert torch.equal(whole[:, 1:], mk.signed_distance_map(labels, ndim=2))
    as_bytes = torch.where(labels == 0, 255, labels).to(torch.uint8)
    assert torch.equal(whole[:, 1:], mk.signed_distance_map(as_bytes, ndim=2))
    assert torch.equal(whole[1, 1:], mk.signed_distance_map(labels[1]))
    assert torch.equal(whole[1], mk.signed_distance_map(masks[1], ndim=2))


def test_an_image_without_a_batch_and_labels_with_one():
    labels = torch.randint(0, 2, (3, 6, 7), generator=torch.Generator().manual_seed(2))
    picture = picture_for("geodesic", 6, 7)
    maps = mk.signed_distance_map(labels, picture, kind="geodesic")
    assert maps.shape == (3, 1, 6, 7)
    alone = mk.signed_distance_map(labels[1], picture, kind="geodesic")
    assert alone.shape == (1, 6, 7)
    assert torch.equal(maps[1], alone)


def test_volumes_and_numpy():
    labels = np.random.default_rng(0).integers(0, 2, (2, 4, 5, 6))
    maps = mk.signed_distance_map(labels, spacing=(8.0, 2.07, 2.07))
    assert isinstance(maps, np.ndarray)
    assert maps.shape == (2, 1, 4, 5, 6)


def test_empty_batch():
    assert mk.signed_distance_map(torch.zeros(0, 4, 5).long(), ndim=2).shape == (0, 1, 4, 5)


def test_gradient_flows_to_the_image():
    labels = torch.full((1, 4, 5), -1)
    labels[0, 1, 1] = 1
    picture = picture_for("geodesic", 1, 1, 4, 5).double().requires_grad_()

    def phi(x):
        return mk.signed_distance_map(labels, x, kind="geodesic")

    assert torch.autograd.gradcheck(phi, (picture,))


def test_feeds_the_boundary_loss():
    labels = torch.randint(0, 4, (2, 8, 9), generator=torch.Generator().manual_seed(2))
    maps = mk.signed_distance_map(labels, ndim=2, classes=4)
    logits = torch.zeros(2, 4, 8, 9, requires_grad=True)
    loss = mk.boundary_loss(logits, maps)
    loss.backward()
    truth = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    # Going down the gradient moves probability to the inside of the classes.
    assert (logits.grad * truth)[:, 1:].sum() < 0


def shapes():
    """The objects of the paper's test: 160 on 80 in 64 x 64."""
    rows, columns = np.mgrid[:64, :64] - 32
    radius = np.hypot(rows, columns)
    angle = np.arctan2(rows, columns)
    return {
        "disk": radius < 16,
        "ellipse": (rows / 8) ** 2 + (columns / 24) ** 2 < 1,
        "C": (radius > 14) & (radius < 22) & (np.abs(angle) > 0.7),
    }


def best_dice(phi, mask):
    """Over all thresholds of the map."""
    order = phi.ravel().argsort(stable=True)
    sizes = np.arange(1, mask.size + 1)
    values = phi.ravel()[order]
    ends = np.append(values[1:] != values[:-1], True)
    hits = mask.ravel()[order].cumsum()
    return (2 * hits / (sizes + mask.sum()))[ends].max()


def recovered(sigma):
    """Mean best Dice by kind of map and shape, over ten noises and points."""
    found = {kind: {} for kind in KINDS}
    for name, mask in shapes().items():
        scores = {kind: [] for kind in KINDS}
        for seed in range(10):
            random = np.random.default_rng(seed)
            picture = np.where(mask, 160.0, 80.0) + sigma * random.standard_normal(mask.shape)
            picture = picture.clip(0, 255).round().astype(np.float32)
            labels = np.full(mask.shape, -1)
            labels[tuple(random.choice(np.argwhere(mask)))] = 1
            for kind in KINDS:
                given_image = picture if kind in OF_IMAGES else None
                phi = mk.signed_distance_map(labels, given_image, kind=kind)[0]
                scores[kind].append(best_dice(phi, mask))
        for kind in KINDS:
            found[kind][name] = np.mean(scores[kind])
    return found


def test_shape_recovery_from_one_point():
    """Acceptance test 5 of the paper's specification, at noise 10 grey levels."""
    dice = recovered(10)
    for name in shapes():
        assert dice["mbd"][name] >= 0.95
        assert dice["euclidean"][name] <= 0.75
        assert dice["mbd"][name] > dice["intensity"][name]
        assert dice["intensity"][name] >= dice["geodesic"][name] - 0.02
        assert dice["geodesic"][name] > dice["euclidean"][name]


def test_shape_recovery_in_strong_noise():
    dice = recovered(20)
    assert dice["mbd"]["C"] >= 0.95
    assert max(dice[kind]["C"] for kind in KINDS if kind != "mbd") < 0.75


BAD = {
    "kind": (((4, 5), None), {"kind": "manhattan"}, r"kind must be one of 'euclidean', .* got"),
    "inside": (
        ((4, 5), None),
        {"inside": "in"},
        r"inside must be one of 'complement', .* got 'in'",
    ),
    "absent": (
        ((4, 5), None),
        {"absent": float("nan")},
        r"absent must be a finite .*, got nan",
    ),
    "image missing": (
        ((4, 5), None),
        {"kind": "mbd"},
        r"image must be given for kind='mbd', got None; only geodesic, intensity, mbd look at it",
    ),
    "image not wanted": (
        ((4, 5), (4, 5)),
        {},
        r"image must be None for kind='euclidean', got an image",
    ),
    "which axes": (((2, 4, 5), None), {}, r"labels must be .*; pass ndim=2 or ndim=3"),
    "another size": (
        ((4, 5), (4, 6)),
        {"kind": "mbd"},
        r"labels must be \[B, K, \*\(4, 6\)\]",
    ),
    "too many axes": (
        ((1, 1, 4, 5), (1, 1, 4, 5)),
        {"kind": "geodesic"},
        r"labels must be \[B, \*space\] with 2 spatial axes, .*, got \(1, 1, 4, 5\)",
    ),
    "no space": (((0, 5), None), {}, r"labels must have no empty spatial axis, got \(0, 5\)"),
    "few classes": (((4, 5), None), {"classes": 1}, r"classes must be at least 2, got 1"),
    "label above": (
        ((4, 5), None),
        {"classes": 2},
        r"labels must be below classes=2, got 3; raise classes",
    ),
    "spacing": (((4, 5), None), {"spacing": (1.0, -1.0)}, r"spacing must be a positive number"),
    "connectivity": (((4, 5), None), {"connectivity": 6}, r"connectivity must be 'face', 'full'"),
}


@pytest.mark.parametrize(("shape", "how", "text"), BAD.values(), ids=list(BAD))
def test_errors_say_what_is_wrong(shape, how, text):
    labels = torch.full(shape[0], 3)
    picture = None if shape[1] is None else torch.zeros(shape[1])
    with pytest.raises(ValueError, match="medkern.signed_distance_map: " + text):
        mk.signed_distance_map(labels, picture, **how)


def test_floating_labels_are_refused():
    with pytest.raises(TypeError, match=r"labels must be one of bool, .* got float32; pass masks"):
        mk.signed_distance_map(torch.zeros(4, 5))

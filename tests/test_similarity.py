"""Image similarities against MONAI, NumPy, SciPy and brute force; their laws; every error."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import medkern as mk
from medkern.reference import similarity as reference

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)
SHAPES = [(2, 3, 40), (2, 2, 21, 34), (1, 2, 9, 11, 13)]


def pair(shape=(2, 2, 12, 15), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(shape, generator=generator, dtype=torch.float64)
    b = 0.5 * (a + torch.rand(shape, generator=generator, dtype=torch.float64))
    return a.to(dtype), b.to(dtype)


def in_double(make):
    """MONAI keeps its constants in the default dtype."""
    torch.set_default_dtype(torch.float64)
    try:
        return make()
    finally:
        torch.set_default_dtype(torch.float32)


def both_gradients(f, a, b):
    leaves = a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
    return torch.autograd.grad(f(*leaves), leaves)


LOSSES = {
    "local": mk.local_ncc_loss,
    "global": lambda a, b: -mk.global_ncc(a, b).mean(),
    "information": mk.mutual_information_loss,
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))


# Local correlation


@pytest.mark.parametrize("window", [1, 3, 9, 15])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_local_equals_monai(shape, window):
    losses = pytest.importorskip("monai.losses")
    a, b = pair(shape)
    for reduction, ours in (("mean", "mean"), ("sum", "sum"), ("none", "map")):
        theirs = losses.LocalNormalizedCrossCorrelationLoss(
            len(shape) - 2, window, reduction=reduction
        ).double()
        got = mk.local_ncc_loss(a, b, window=window, reduction=ours)
        torch.testing.assert_close(got, theirs(a, b), rtol=1e-9, atol=1e-9)
    if window == 1:
        return  # every window is flat but for the zeros; MONAI halves the slope at its bound

    def peer(x, y):
        return losses.LocalNormalizedCrossCorrelationLoss(len(shape) - 2, window)(x, y)

    def ours(x, y):
        return mk.local_ncc_loss(x, y, window=window)

    for got, want in zip(both_gradients(ours, a, b), both_gradients(peer, a, b), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-12)


def neurite_ncc(a, b, window, eps):
    """VoxelMorph's and neurite's formula on SciPy's filter."""
    axes = tuple(range(2, a.ndim))
    n = window ** len(axes)

    def box(x):
        return n * ndimage.uniform_filter(x, window, axes=axes, mode="constant")

    cross = box(a * b) - box(a) * box(b) / n
    var_a, var_b = (box(x * x) - box(x) ** 2 / n for x in (a, b))
    return cross**2 / (var_a * var_b + eps)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_local_equals_the_formula_of_neurite_on_scipy(shape):
    a, b = pair(shape)
    for window in (3, 7):
        want = neurite_ncc(a.numpy(), b.numpy(), window, 1e-5)
        how = {"window": window, "variant": "voxelmorph"}
        got = mk.local_ncc_loss(a, b, reduction="map", **how)
        np.testing.assert_allclose(-got.numpy(), want, rtol=1e-9, atol=1e-9)
        each = mk.local_ncc_loss(a, b, reduction="none", **how)
        np.testing.assert_allclose(-each.numpy(), want.mean(tuple(range(2, want.ndim))))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=3, max_size=3)
    | st.lists(st.integers(1, 70), min_size=1, max_size=2),
    st.sampled_from([1, 3, 5, 9, 21]),
    st.sampled_from(FLOATS),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_local_of_any_shape(space, window, dtype, clamp, squared, per_voxel, both):
    a, b = pair((2, 2, *space), dtype)
    how = (window, 1e-2, clamp, squared, per_voxel)
    got = mk.ops.similarity._local_ncc(a, b, *how)
    want = reference.local_ncc(a.double(), b.double(), *how)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
    grad = torch.randn(got.shape, dtype=torch.float64).to(got.dtype)
    backward = torch.ops.medkern._local_ncc_loss_backward
    got = backward(a, b, grad, *how, both)
    want = reference.local_ncc_backward(a.double(), b.double(), grad.double(), *how, both)
    tolerance = {torch.float64: 1e-11, torch.float32: 3e-6}.get(dtype, 8e-3)
    # In flat windows gradients vanish as differences of coefficients up to grad / eps.
    coefficients = 10 * grad.abs().max().item() / (1 if per_voxel else a[0, 0].numel())
    atol = tolerance * max(want.abs().max().item(), coefficients)
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=atol)


@pytest.mark.parametrize(
    "shape", [(1, 1, 600), (1, 1, 70, 530), (1, 1, 33, 65, 30), (1, 2, 31, 5, 257)], ids=str
)
def test_local_across_tiles(shape):
    a, b = pair(shape)
    how = (9, 1e-5, True, True, True)
    got = mk.ops.similarity._local_ncc(a, b, *how)
    want = reference.local_ncc(a, b, *how)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    mean = mk.local_ncc_loss(a, b, reduction="none")
    torch.testing.assert_close(-mean, want.flatten(2).mean(2), rtol=1e-11, atol=0)
    grad = torch.randn_like(want)
    args = (a, b, grad, *how, True)
    got = torch.ops.medkern._local_ncc_loss_backward(*args)
    want = reference.local_ncc_backward(*args)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_many_volumes_in_groups():
    """The backward holds the coefficients of so many volumes at once."""
    a, b = pair((3, 1, 1500, 1500), torch.float32)
    leaves = a.requires_grad_(), b
    (grad,) = torch.autograd.grad(mk.local_ncc_loss(*leaves, window=3, reduction="sum"), a)
    for i in range(3):
        one = a[i : i + 1].detach().requires_grad_()
        loss = mk.local_ncc_loss(one, b[i : i + 1], window=3, reduction="sum")
        assert torch.equal(torch.autograd.grad(loss, one)[0][0], grad[i])


@pytest.mark.parametrize("variant", ["monai", "voxelmorph"])
def test_local_under_an_offset_as_in_raw_ct(variant):
    """MONAI returns -1e12 here, neurite raises. Few bits leave the shifted images exact."""
    a, b = ((x * 4096).round() / 4096 for x in pair((1, 1, 16, 18, 20)))
    inner = (slice(None), slice(None), *[slice(4, -4)] * 3)  # zeros outside become contrast
    for offset in (1000.0, -1024.0):
        how = {"window": 9, "variant": variant, "reduction": "map"}
        got = mk.local_ncc_loss(a.float() + offset, b.float() + offset, **how)
        want = mk.local_ncc_loss(a, b, **how)
        torch.testing.assert_close(got[inner].double(), want[inner], rtol=1e-6, atol=1e-6)
        whole = mk.local_ncc_loss(a + offset, b + offset, **how)
        torch.testing.assert_close(got.double(), whole, rtol=1e-6, atol=1e-6)
        grads = [
            both_gradients(
                lambda x, y: mk.local_ncc_loss(x, y, variant=variant),
                a.to(t) + offset,
                b.to(t) + offset,
            )
            for t in (torch.float32, torch.float64)
        ]
        for x, y in zip(*grads, strict=True):
            torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=1e-5 * y.abs().max().item())


def test_sums_of_integers_are_exact():
    """Flat air beside tissue: no noise reaches the bound of the variance."""
    a = torch.full((1, 1, 40, 40), -1000.0)
    a[..., 25:] = torch.randint(-50, 3000, (15,)).float()
    b = torch.randint(0, 4000, a.shape).float()
    b[..., :20] = 17.0
    cc = mk.local_ncc_loss(a, b, window=5, reduction="map")
    assert (cc[..., 4:-4, 4:16] == 0).all()
    assert cc.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("squared", [True, False])
def test_local_laws(squared):
    a, b = pair((1, 2, 11, 12, 13))
    how = {"window": 5, "eps": 1e-9, "squared": squared, "reduction": "map"}
    ncc = mk.local_ncc_loss(a, b, **how)
    torch.testing.assert_close(mk.local_ncc_loss(b, a, **how), ncc, rtol=1e-12, atol=1e-12)
    scaled = mk.local_ncc_loss(3 * a, -2 * b, **how)
    torch.testing.assert_close(scaled, ncc if squared else -ncc, rtol=1e-9, atol=1e-9)
    shifted = mk.local_ncc_loss(2 * a + 1000, b, **how)
    inner = (slice(None), slice(None), *[slice(2, -2)] * 3)
    torch.testing.assert_close(shifted[inner], ncc[inner], rtol=1e-7, atol=1e-7)
    for axis in (2, 3, 4):
        flipped = mk.local_ncc_loss(a.flip(axis), b.flip(axis), **how)
        torch.testing.assert_close(flipped.flip(axis), ncc, rtol=1e-11, atol=1e-11)
    turned = mk.local_ncc_loss(a.transpose(2, 4), b.transpose(2, 4), **how)
    torch.testing.assert_close(turned.transpose(2, 4), ncc, rtol=1e-11, atol=1e-11)
    same = mk.local_ncc_loss(a, a, **how)
    torch.testing.assert_close(same, -torch.ones_like(same), rtol=1e-9, atol=0)


@each_loss
def test_constant_images_have_finite_gradients(loss):
    for dtype in FLOATS:
        a, b = pair((1, 1, 12, 15), dtype)
        flat = torch.full_like(a, 0.75)
        for x, y in ((flat, flat), (flat, b), (a, flat), (0 * a, b)):
            assert loss(x, y).isfinite()
            assert all(g.isfinite().all() for g in both_gradients(loss, x, y))


def test_one_voxel():
    a, b = torch.tensor([[[0.3]]]), torch.tensor([[[0.7]]])
    assert mk.local_ncc_loss(a, b).item() == pytest.approx(-1)
    assert torch.equal(mk.global_ncc(a, b), torch.zeros(1, 1))
    assert mk.mutual_information_loss(a, b).item() == pytest.approx(0, abs=1e-5)


# Global correlation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("voxels", [2, 31, 4095, 4097, 20000])
def test_global_equals_numpy(voxels, dtype):
    a, b = pair((2, 2, voxels), dtype)
    for offset in (0, 1000):
        x, y = a * 0.5 + offset, b - offset
        want = [
            [np.corrcoef(x[i, c].double(), y[i, c].double())[0, 1] for c in (0, 1)] for i in (0, 1)
        ]
        tolerance = 1e-11 if dtype == torch.float64 else 1e-6
        np.testing.assert_allclose(mk.global_ncc(x, y), want, rtol=tolerance, atol=tolerance)


def test_global_laws():
    a, b = pair((2, 3, 40, 50))
    ncc = mk.global_ncc(a, b)
    torch.testing.assert_close(mk.global_ncc(b, a), ncc)
    torch.testing.assert_close(mk.global_ncc(2 * a + 1000, -3 * b), -ncc, rtol=1e-9, atol=0)
    torch.testing.assert_close(mk.global_ncc(a, a), torch.ones_like(ncc))
    order = torch.randperm(2000)
    shuffled = [t.flatten(2)[..., order] for t in (a, b)]
    torch.testing.assert_close(mk.global_ncc(*shuffled), ncc, rtol=1e-12, atol=0)


def test_global_gradient_of_many_blocks():
    a, b = pair((1, 2, 90, 100))
    grad = torch.randn(1, 2, 3, dtype=torch.float64)
    for both in (False, True):
        got = torch.ops.medkern._global_ncc_backward(a + 1e6, b - 1e6, grad, both)
        want = reference.joint_moments_backward(a, b, grad, both)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-13)


# Mutual information


@pytest.mark.parametrize(("bins", "sigma"), [(23, 0.5), (32, 0.5), (8, 1.3), (40, 0.2), (64, 3.0)])
def test_information_equals_monai(bins, sigma):
    losses = pytest.importorskip("monai.losses")
    a, b = pair((2, 1, 20, 30))
    a[0, 0, 0, :4] = torch.tensor([-0.5, 0.0, 1.0, 2.0])
    peer = in_double(lambda: losses.GlobalMutualInformationLoss(num_bins=bins, sigma_ratio=sigma))

    def ours(x, y):
        return mk.mutual_information_loss(x, y, bins=bins, sigma_ratio=sigma)

    torch.testing.assert_close(ours(a, b), peer(a, b), rtol=1e-11, atol=1e-11)
    for got, want in zip(both_gradients(ours, a, b), both_gradients(peer, a, b), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-12)


def brute_histogram(x, y, bins):
    """Cubic B-splines from SciPy, voxel by voxel."""
    from scipy.interpolate import BSpline

    spline = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    joint = np.zeros((bins, bins))
    for u, v in zip(x, y, strict=True):
        rows, columns = (
            np.nan_to_num(spline(2 + np.clip(t, 0, 1) * (bins - 5) - np.arange(bins)))
            for t in (u, v)
        )
        joint += np.outer(rows, columns)
    return joint / len(x)


@pytest.mark.parametrize("bins", [6, 17])
def test_spline_histogram_by_brute_force(bins):
    a, b = pair((1, 2, 150))
    a[0, 0, :3] = torch.tensor([0.0, 1.0, 1.5])
    got = torch.ops.medkern.mutual_information_loss(a, b, bins, 0.5, True)
    want = brute_histogram(a.flatten().numpy(), b.flatten().numpy(), bins)
    np.testing.assert_allclose(got[0].numpy(), want, rtol=1e-12, atol=1e-15)


def test_sharp_histogram_is_that_of_numpy():
    a, b = (torch.randint(0, 8, (1, 1, 5000)).double() / 7 for _ in range(2))
    got = torch.ops.medkern.mutual_information_loss(a, b, 8, 0.05, False)[0]
    want, _, _ = np.histogram2d(a.flatten(), b.flatten(), bins=8, range=[[0, 1], [0, 1]])
    np.testing.assert_allclose(got, want / 5000, atol=1e-15)
    joint = want / 5000
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    information = (joint * np.log(joint / product)).sum()
    loss = mk.mutual_information_loss(a, b, bins=8, sigma_ratio=0.05, eps=1e-12)
    assert -loss.item() == pytest.approx(information, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(6, 40),
    st.floats(0.05, 6),
    st.booleans(),
    st.sampled_from(FLOATS),
    st.booleans(),
)
def test_histogram_of_any_size(voxels, bins, sigma, spline, dtype, both):
    a, b = pair((2, 1, voxels), dtype)
    how = (bins, sigma, spline)
    got = torch.ops.medkern.mutual_information_loss(a, b, *how)
    want = reference.joint_histogram(a.double(), b.double(), *how)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-7
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(got.sum((1, 2)).double(), torch.ones(2).double())
    grad = torch.randn(got.shape, dtype=torch.float64).to(got.dtype)
    got = torch.ops.medkern._mutual_information_loss_backward(a, b, grad, *how, both)
    want = reference.joint_histogram_backward(a.double(), b.double(), grad.double(), *how, both)
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-5}.get(dtype, 8e-3)
    atol = tolerance * want.abs().max().item()
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=atol)


def test_histogram_of_many_parts():
    a, b = pair((2, 1, 70000), torch.float32)
    how = (32, 0.5, False)
    got = torch.ops.medkern.mutual_information_loss(a, b, *how)
    want = reference.joint_histogram(a.double(), b.double(), *how)
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-9)


def test_information_laws():
    a, b = pair((2, 1, 60, 70))
    loss = mk.mutual_information_loss(a, b, reduction="none")
    torch.testing.assert_close(mk.mutual_information_loss(b, a, reduction="none"), loss)
    mirrored = mk.mutual_information_loss(1 - a, b, reduction="none")
    torch.testing.assert_close(mirrored, loss, rtol=1e-9, atol=0)
    assert (mk.mutual_information_loss(a, a, reduction="none") < loss).all()
    noise, _ = pair(a.shape, seed=1)
    assert (mk.mutual_information_loss(a, noise, reduction="none") > loss).all()
    out = a.clone().requires_grad_()
    out.data[0, 0, 0, 0], out.data[0, 0, 0, 1] = -1, 3
    mk.mutual_information_loss(out, b).backward()
    assert out.grad[0, 0, 0, :2].abs().max() == 0
    assert out.grad.abs().max() > 0


# All of them


@each_loss
@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (2, 1, 2, 2, 3)], ids=str)
def test_derivatives_in_both_images(loss, shape):
    a, b = pair(shape)
    leaves = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(loss, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, leaves)


@each_loss
def test_gradient_of_one_image_only(loss):
    a, b = pair()
    in_a, in_b = both_gradients(loss, a, b)
    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(loss(x, b), x)[0], in_a)
    torch.testing.assert_close(torch.autograd.grad(loss(a, y), y)[0], in_b)


@each_loss
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_shows_in_its_sample(loss, bad):
    for dtype in FLOATS:
        a, b = pair((2, 1, 30, 20), dtype)
        a[1, 0, 7, 9] = bad
        if loss is mk.mutual_information_loss and bad == torch.inf:
            assert loss(a, b).isfinite()  # clamped to 1
            continue
        each = [loss(a[i : i + 1], b[i : i + 1]) for i in (0, 1)]
        assert each[0].isfinite()
        assert each[1].isnan()
        assert loss(a, b).isnan()


@each_loss
def test_inputs_are_all_that_is_kept(loss):
    a, b = pair((1, 1, 20, 20))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        loss(a.requires_grad_(), b.requires_grad_())
    assert sum(kept) < 2 * a.numel() + 20 * 32 * 32
    assert kept.count(a.numel()) == 2


@each_loss
def test_half_images_as_in_autocast(loss):
    for half in HALVES:
        a, b = pair((2, 1, 16, 16), half)
        got = loss(a, b)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), loss(a.double(), b.double()), rtol=1e-5, atol=1e-5)
        with torch.autocast("cpu", dtype=half):
            assert loss(a, b.float()).dtype == torch.float32


MODULES = {
    "local": (
        lambda: mk.losses.LocalNCCLoss(
            5, eps=1e-3, variant="voxelmorph", squared=False, reduction="sum"
        ),
        lambda a, b: mk.local_ncc_loss(
            a, b, window=5, eps=1e-3, variant="voxelmorph", squared=False, reduction="sum"
        ),
    ),
    "global": (
        lambda: mk.losses.GlobalNCCLoss(eps=1e-3, squared=True, reduction="sum"),
        lambda a, b: -mk.global_ncc(a, b, eps=1e-3).square().sum(),
    ),
    "information": (
        lambda: mk.losses.MutualInformationLoss(
            12, sigma_ratio=0.7, kernel="b-spline", eps=1e-4, reduction="sum"
        ),
        lambda a, b: mk.mutual_information_loss(
            a, b, bins=12, sigma_ratio=0.7, kernel="b-spline", eps=1e-4, reduction="sum"
        ),
    ),
}


@pytest.mark.parametrize(("module", "function"), MODULES.values(), ids=list(MODULES))
def test_modules(module, function):
    a, b = pair()
    loss = module()
    assert not list(loss.state_dict())
    assert torch.equal(loss(a, b), function(a, b))
    assert "reduction='sum'" in repr(loss)
    loss.reduction = "none"
    assert loss(a, b).shape[0] == 2


def test_modules_compile_whole_and_register():
    a, b = pair((1, 1, 12, 12), torch.float32)
    shift = torch.zeros(1, requires_grad=True)
    compiled = torch.compile(mk.losses.LocalNCCLoss(5), fullgraph=True)
    torch.testing.assert_close(compiled(a + shift, b), mk.local_ncc_loss(a, b, window=5))


def test_empty_batch_costs_nothing():
    a = torch.zeros(0, 2, 5, 5)
    for loss in LOSSES.values():
        if loss is not LOSSES["global"]:
            assert torch.equal(loss(a, a), torch.zeros(()))
    assert mk.global_ncc(a, a).shape == (0, 2)
    assert mk.losses.GlobalNCCLoss()(a, a) == 0


def test_numpy_in_numpy_out():
    a, b = (t.numpy() for t in pair())
    for f in (mk.local_ncc_loss, mk.global_ncc, mk.mutual_information_loss):
        got = f(a, b)
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, f(*pair()).numpy())


BAD = {
    "even window": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"window": 4}, ValueError,
        r"window must be odd, got 4; a window has",
    ),
    "no window": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"window": 0}, ValueError,
        r"window must be at least 1, got 0",
    ),
    "window of floats": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"window": 3.0}, TypeError,
        r"window must be an int, got 3.0",
    ),
    "no eps": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"eps": 0.0}, ValueError,
        r"eps must be a finite number above 0, got 0.0",
    ),
    "unknown variant": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"variant": "ants"}, ValueError,
        r"variant must be one of 'monai', 'voxelmorph', got 'ants'",
    ),
    "unknown reduction": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"reduction": "max"}, ValueError,
        r"reduction must be one of 'mean', 'sum', 'none', 'map', got 'max'",
    ),
    "squared is a number": (
        mk.local_ncc_loss, lambda a, b: (a, b), {"squared": 2}, ValueError,
        r"squared must be one of True, False, got 2",
    ),
    "no channels": (
        mk.local_ncc_loss, lambda a, b: (a[0, 0], b[0, 0]), {}, ValueError,
        r"a must be \[B, C, \*space\] with 1 to 3 spatial axes, got \(12, 15\); add",
    ),
    "four axes": (
        mk.local_ncc_loss, lambda a, b: (a[..., None, None], b[..., None, None]), {}, ValueError,
        r"a must be .* 1 to 3 spatial axes, got \(2, 2, 12, 15, 1, 1\)",
    ),
    "no space": (
        mk.global_ncc, lambda a, b: (a[0], b[0, 0]), {}, ValueError,
        r"b must have the shape of a, \(2, 12, 15\), got \(12, 15\); resample",
    ),
    "only two axes": (
        mk.global_ncc, lambda a, b: (a[0, 0], b[0, 0]), {}, ValueError,
        r"a must be \[B, C, \*space\], got \(12, 15\); add",
    ),
    "empty space": (
        mk.global_ncc, lambda a, b: (a[..., :0], b[..., :0]), {}, ValueError,
        r"a must have no empty spatial axis, got \(2, 2, 12, 0\); only batch",
    ),
    "eps of infinity": (
        mk.global_ncc, lambda a, b: (a, b), {"eps": np.inf}, ValueError,
        r"eps must be a finite number above 0, got inf",
    ),
    "integers": (
        mk.global_ncc, lambda a, b: (a.long(), b.long()), {}, TypeError,
        r"a must be one of float16, .*, got int64; convert it, for example a.float\(\)",
    ),
    "two dtypes": (
        mk.mutual_information_loss, lambda a, b: (a, b.float()), {}, TypeError,
        r"b must have the dtype of a, float64, got float32; convert one",
    ),
    "two devices": (
        mk.mutual_information_loss, lambda a, b: (a, b.to("meta")), {}, ValueError,
        r"b must be on the device of a, cpu, got meta; move one",
    ),
    "few bins": (
        mk.mutual_information_loss, lambda a, b: (a, b), {"bins": 5, "kernel": "b-spline"},
        ValueError, r"bins must be at least 6, got 5",
    ),
    "many bins": (
        mk.mutual_information_loss, lambda a, b: (a, b), {"bins": 257}, ValueError,
        r"bins must be at most 256, got 257; 32 to 64",
    ),
    "thin kernel": (
        mk.mutual_information_loss, lambda a, b: (a, b), {"sigma_ratio": 0.01}, ValueError,
        r"sigma_ratio must be a number from 0.05 to 16, got 0.01; it counts",
    ),
    "unknown kernel": (
        mk.mutual_information_loss, lambda a, b: (a, b), {"kernel": "box"}, ValueError,
        r"kernel must be one of 'gaussian', 'b-spline', got 'box'",
    ),
    "unknown reduction of information": (
        mk.mutual_information_loss, lambda a, b: (a, b), {"reduction": "map"}, ValueError,
        r"reduction must be one of 'mean', 'sum', 'none', got 'map'",
    ),
    "no eps of information": (
        mk.mutual_information_loss, lambda a, b: (a, b), {"eps": -1}, ValueError,
        r"eps must be a finite number above 0, got -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("f", "change", "how", "error", "text"), BAD.values(), ids=list(BAD))
def test_errors_say_what_is_wrong(f, change, how, error, text):
    with pytest.raises(error, match=f"medkern.{f.__name__}: {text}"):
        f(*change(*pair()), **how)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mk.losses.LocalNCCLoss(4), "LocalNCCLoss: window must be odd, got 4"),
        (lambda: mk.losses.GlobalNCCLoss(reduction="map"), "GlobalNCCLoss: reduction must be one"),
        (lambda: mk.losses.MutualInformationLoss(1), "MutualInformationLoss: bins must be at"),
    ],
)
def test_modules_refuse_at_once(make, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()


def test_direct_calls_are_checked():
    a, b = pair()
    grad, moments = torch.ones(2, 2).double(), torch.ones(2, 2, 3).double()
    joint, ops = torch.ones(2, 8, 8).double(), torch.ops.medkern
    local, bins = (3, 1e-5, True, True, False), (8, 0.5, False)
    for call in [
        lambda: ops.local_ncc_loss(a, b[..., :-1], *local),
        lambda: ops.local_ncc_loss(a, b.float(), *local),
        lambda: ops.local_ncc_loss(a.long(), b.long(), *local),
        lambda: ops.local_ncc_loss(a, b, 2, *local[1:]),
        lambda: ops.local_ncc_loss(a[..., None, None], b[..., None, None], *local),
        lambda: ops._local_ncc_loss_backward(a, b, grad[:1], *local, True),
        lambda: ops._local_ncc_loss_backward(a, b, grad.float(), *local, True),
        lambda: ops._local_ncc_loss_backward(a, b, a, *local, True),
        lambda: ops.global_ncc(a, b[:1]),
        lambda: ops._global_ncc_backward(a, b, moments[..., :2], True),
        lambda: ops.mutual_information_loss(a, b, 1, 0.5, False),
        lambda: ops.mutual_information_loss(a, b, 8, 0.0, False),
        lambda: ops._mutual_information_loss_backward(a, b, joint[:, :7], *bins, True),
    ]:
        with pytest.raises(RuntimeError):
            call()

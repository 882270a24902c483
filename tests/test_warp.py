"""Warping against grid_sample, SciPy and MONAI, its laws, and every error it can raise."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import medkern as mk
from medkern.ops.warp import _warp_slope, _warp_transpose
from medkern.reference import warp as reference

HALVES = (torch.float16, torch.bfloat16)
MODES = ("linear", "nearest", "cubic")
PADDINGS = ("zeros", "border", "reflection")
EACH_WAY = [
    (mode, padding, axes)
    for mode, padding, axes in itertools.product(MODES, PADDINGS, (2, 3))
    if (mode, axes) != ("cubic", 3)  # grid_sample has none
]


def problem(size=(5, 6, 7), out=None, channels=3, batch=2, scale=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    out = out or size
    image = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    u = scale * torch.randn(batch, len(out), *out, generator=generator, dtype=torch.float64)
    return image.to(dtype), u.to(dtype)


def by_grid(image, u, mode="linear", padding="zeros", normalized=False):
    """The grid that users build: normalised, last axis first."""
    size, out = image.shape[2:], u.shape[2:]
    kind = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    if normalized:
        axes = [torch.linspace(-1, 1, n, dtype=u.dtype) for n in out]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")) + u
    else:
        axes = [torch.arange(n, dtype=u.dtype) for n in out]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")) + u
        grid = torch.stack([2 * grid[:, d] / (n - 1) - 1 for d, n in enumerate(size)], dim=1)
    grid = grid.flip(1).movedim(1, -1)
    return F.grid_sample(image, grid, mode=kind, padding_mode=padding, align_corners=True)


@pytest.mark.parametrize(("mode", "padding", "axes"), EACH_WAY)
@pytest.mark.parametrize("scale", [0.7, 20.0])
def test_equals_grid_sample_with_gradients(mode, padding, axes, scale):
    for channels, out in ((1, (4, 3, 9)), (3, (5, 6, 70)), (9, (3, 2, 5))):
        leaves = problem((5, 6, 7)[:axes], out[-axes:], channels, scale=scale)
        for normalized in (False, True):
            x, u = leaves[0].clone().requires_grad_(), leaves[1].clone().requires_grad_()
            units = "normalized" if normalized else "voxel"
            got = mk.warp(x, u, mode=mode, padding=padding, units=units)
            want = by_grid(x, u, mode, padding, normalized)
            grad = torch.randn_like(got)
            for a, b in zip(
                (got, *torch.autograd.grad(got, (x, u), grad)),
                (want, *torch.autograd.grad(want, (x, u), grad)),
                strict=True,
            ):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * max(1.0, scale))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=3),
    st.integers(0, 18),
    st.integers(1, 140),
    st.sampled_from(MODES),
    st.sampled_from(PADDINGS),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_kernels_equal_the_reference(size, channels, width, mode, padding, normalized, dtype):
    """Any shape: groups of channels with a rest, rows shorter and longer than a chunk."""
    out = (*[2] * (len(size) - 1), width)
    x, u = problem(size, out, channels, 1, dtype=dtype)
    grad = torch.randn(1, channels, *out, dtype=torch.float64).to(dtype)
    how = (mode, padding, normalized)
    ops, tolerance = torch.ops.medkern, 1e-13 if dtype == torch.float64 else 2e-5
    wide = [t.double() for t in (grad, x, u)]
    for got, want in (
        (ops.warp(x, u, *how), reference.warp(*wide[1:], *how)),
        (
            ops._warp_transpose(grad, u, size, *how),
            reference.warp_transpose(wide[0], wide[2], size, *how),
        ),
        (ops._warp_slope(grad, x, u, *how), reference.warp_slope(*wide, *how)),
    ):
        scale = max(1.0, want.abs().max().item()) if want.numel() else 1.0
        torch.testing.assert_close(got.double(), want, rtol=0, atol=10 * tolerance * scale)


@pytest.mark.parametrize("axes", [2, 3])
def test_equals_scipy(axes):
    x, u = problem((8, 9, 10)[:axes], scale=1.0, channels=1, batch=1)
    where = np.stack(np.meshgrid(*map(np.arange, x.shape[2:]), indexing="ij")) + u[0].numpy()
    border = ndimage.map_coordinates(x[0, 0].numpy(), where, order=1, mode="nearest")
    got = mk.warp(x, u, padding="border")[0, 0].numpy()
    np.testing.assert_allclose(got, border, rtol=0, atol=1e-13)
    mirrored = ndimage.map_coordinates(x[0, 0].numpy(), where, order=1, mode="mirror")
    got = mk.warp(x, u, padding="reflection")[0, 0].numpy()
    np.testing.assert_allclose(got, mirrored, rtol=0, atol=1e-12)
    nearest = ndimage.map_coordinates(x[0, 0].numpy(), where, order=0, mode="nearest")
    got = mk.warp(x, u, mode="nearest", padding="border")[0, 0].numpy()
    np.testing.assert_array_equal(got, nearest)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("axes", [2, 3])
def test_equals_monai(axes):
    monai = pytest.importorskip("monai.networks.blocks")
    x, u = problem((8, 9, 10)[:axes], scale=1.0, dtype=torch.float32)
    torch.testing.assert_close(
        mk.warp(x, u), monai.Warp("bilinear", "zeros")(x, u), rtol=0, atol=2e-5
    )
    want = monai.DVF2DDF(num_steps=5, mode="bilinear", padding_mode="zeros")(u)
    torch.testing.assert_close(mk.integrate_velocity(u, 5), want, rtol=0, atol=5e-5)


def test_cubic_in_3d_is_separable():
    """Along one axis at a time, where the others are whole, it is grid_sample's bicubic."""
    x, u = problem((5, 6, 7), scale=1.5, batch=1)
    plane = x[:, :, 2]
    flat = u.clone()
    flat[:, 0] = 0
    want = mk.warp(plane, u[:, 1:, 2], mode="cubic", padding="border")
    got = mk.warp(x, flat, mode="cubic", padding="border")[:, :, 2]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)
    turned = mk.warp(x.transpose(2, 4), u.flip(1).transpose(2, 4), mode="cubic").transpose(2, 4)
    torch.testing.assert_close(mk.warp(x, u, mode="cubic"), turned, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64], ids=str)
def test_whole_shifts_copy(mode, dtype):
    x, _ = problem((4, 6, 70), dtype=dtype)
    zero = torch.zeros(2, 3, 4, 6, 70, dtype=dtype)
    assert torch.equal(mk.warp(x, zero, mode=mode), x)
    shift = zero.clone()
    shift[:, 1], shift[:, 2] = -2, 3
    got = mk.warp(x, shift, mode=mode)
    assert torch.equal(got[:, :, :, 2:, :-3], x[:, :, :, :-2, 3:])
    assert not got[:, :, :, :2].any()
    assert not got[..., -3:].any()


def test_large_volumes_lose_no_digits():
    """grid_sample rounds p + u to float32; the fraction of u is kept here."""
    x = torch.randn(1, 1, 2, 100_000, generator=torch.Generator().manual_seed(0))
    u = torch.zeros(1, 2, 2, 100_000)
    u[:, 1] = 0.123456789
    want = mk.warp(x.double(), u.double())
    assert (mk.warp(x, u) - want).abs().max() < 1e-6
    assert (by_grid(x, u)[..., 50_000:] - want[..., 50_000:]).abs().max() > 1e-4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("channels", [1, 5])
def test_transpose_is_adjoint(mode, padding, channels):
    x, u = problem((5, 6, 7), (4, 5, 70), channels)
    y = torch.randn(2, channels, 4, 5, 70, dtype=torch.float64)
    back = torch.ops.medkern._warp_transpose(y, u, [5, 6, 7], mode, padding, False)
    left = (mk.warp(x, u, mode=mode, padding=padding) * y).sum()
    torch.testing.assert_close(left, (x * back).sum(), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_derivatives_in_image_and_displacement(mode, padding):
    x, u = problem((3, 4), channels=2, batch=1, scale=1.3)
    leaves = (x.requires_grad_(), u.requires_grad_())

    def f(image, displacement):
        return mk.warp(image, displacement, mode=mode, padding=padding)

    assert torch.autograd.gradcheck(f, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, leaves, check_fwd_over_rev=True)


def test_derivatives_of_the_gradients():
    x, u = problem((3, 3, 2), channels=1, batch=1, scale=0.8)
    grad = torch.randn(1, 1, 3, 3, 2, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (grad, x, u)]
    how = ("linear", "zeros", False)

    def slope(g, image, displacement):
        return _warp_slope(g, image, displacement, *how)

    def transpose(g, displacement):
        return _warp_transpose(g, displacement, [3, 3, 2], *how)

    assert torch.autograd.gradcheck(slope, leaves, check_forward_ad=True)
    assert torch.autograd.gradcheck(transpose, (grad, u), check_forward_ad=True)


def test_compose_and_integrate_derivatives():
    u, v = (t.requires_grad_() for t in (problem((3, 4), batch=1)[1], problem((3, 4), batch=1)[1]))
    assert torch.autograd.gradcheck(mk.compose, (u, 0.3 * v.detach()), check_forward_ad=True)
    assert torch.autograd.gradcheck(mk.compose, (u.detach(), v), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(mk.compose, (u, v))
    assert torch.autograd.gradcheck(lambda w: mk.integrate_velocity(w, 3), (u,))


def smooth(axes=3, size=20, scale=2.0):
    coarse = torch.randn(
        1, axes, *[4] * axes, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    mode = "trilinear" if axes == 3 else "bilinear"
    fine = F.interpolate(coarse, size=[size] * axes, mode=mode, align_corners=True)
    window = torch.hann_window(size, periodic=False, dtype=torch.float64)
    for axis in range(axes):
        fine = fine * window.view([-1 if a == axis else 1 for a in range(axes)])
    return scale * fine


def test_compose_is_one_warp_after_the_other():
    u, v = smooth(), smooth(scale=1.0).flip(2)
    want = v + mk.warp(u, v)
    torch.testing.assert_close(mk.compose(u, v), want, rtol=0, atol=1e-14)
    ramp = torch.arange(20.0, dtype=torch.float64).expand(1, 1, 20, 20, 20)
    inner = (..., slice(5, 15), slice(5, 15), slice(5, 15))
    twice = mk.warp(mk.warp(ramp, u), v)
    torch.testing.assert_close(
        mk.warp(ramp, mk.compose(u, v))[inner], twice[inner], atol=1e-12, rtol=0
    )


def test_integration_of_a_constant_and_its_inverse():
    velocity = torch.tensor([1.5, -0.25], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 9, 9)
    got = mk.integrate_velocity(velocity, padding="border")
    torch.testing.assert_close(got, velocity.contiguous())
    assert torch.equal(mk.integrate_velocity(velocity, 0), velocity)
    v = smooth(size=32, scale=1.0)
    there, back = mk.integrate_velocity(v), mk.integrate_velocity(-v)
    assert there.abs().max() > 1.0
    assert mk.compose(back, there).abs().max() < 0.1
    assert mk.compose(there, there).abs().max() > 1.0


def test_integration_converges():
    """To the flow, by many small Euler steps."""
    v = smooth(axes=2, size=33)
    flow = torch.zeros_like(v)
    for _ in range(400):
        flow = flow + mk.warp(v, flow) / 400
    assert (mk.integrate_velocity(v, 9) - flow).abs().max() < 0.06


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_labels_stay_labels(dtype):
    labels = torch.randint(0, 100, (2, 2, 5, 6, 7)).to(dtype)
    _, u = problem((5, 6, 7), scale=3.0, dtype=torch.float32)
    for padding in PADDINGS:
        got = mk.warp(labels, u, mode="nearest", padding=padding)
        assert got.dtype == dtype
        want = mk.warp(labels.double(), u.double(), mode="nearest", padding=padding)
        assert torch.equal(got.double(), want)
    u.requires_grad_()
    assert not mk.warp(labels, u, mode="nearest").requires_grad
    huge = torch.full_like(labels, torch.iinfo(dtype).max)
    still = torch.zeros_like(u.detach())
    assert torch.equal(mk.warp(huge, still, mode="nearest"), huge)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_computes_in_float32(dtype):
    x, u = problem((5, 6, 7), channels=5, dtype=torch.float32)
    x = x.to(dtype)
    want = mk.warp(x.float(), u)
    assert torch.equal(mk.warp(x, u), want.to(dtype))
    grad = torch.ones_like(x).requires_grad_()
    back = torch.ops.medkern._warp_transpose(grad, u, [5, 6, 7], "linear", "zeros", False)
    wide = torch.ops.medkern._warp_transpose(grad.float(), u, [5, 6, 7], "linear", "zeros", False)
    assert torch.equal(back, wide.to(dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_nan_and_infinite_displacements(mode, padding):
    x, u = problem((5, 6, 37), channels=2)
    u = u.clamp(-0.4, 0.4)
    u[0, 0, 1, 2, 3], u[0, 2, 4, 5, 36] = torch.nan, torch.nan
    u[0, 1, 0, 0, 5], u[0, 2, 0, 0, 6] = torch.inf, -torch.inf
    got = mk.warp(x, u, mode=mode, padding=padding)
    lost = {(1, 2, 3), (4, 5, 36)} | ({(0, 0, 5), (0, 0, 6)} if padding == "reflection" else set())
    assert set(map(tuple, got[0, 1].isnan().nonzero().tolist())) == lost
    assert got[1].isfinite().all()
    if padding == "zeros":
        assert got[0, :, 0, 0, 5:7].abs().sum() == 0
    want = reference.warp(x, u, mode, padding, False)
    torch.testing.assert_close(got, want, equal_nan=True, rtol=0, atol=1e-13)
    grad = torch.ops.medkern._warp_transpose(x, u, [5, 6, 37], mode, padding, False)
    assert grad.isfinite().all()
    labels = mk.warp(x.long(), u, mode="nearest", padding=padding)
    assert labels[0, 1, 1, 2, 3] == 0


def test_far_displacements_stay_in_memory():
    x, u = problem((5, 6, 37), channels=2, dtype=torch.float32)
    for far in (1e9, -3e9, 1e30, -3e38):
        for mode, padding in itertools.product(MODES, PADDINGS):
            got = mk.warp(x, torch.full_like(u, far), mode=mode, padding=padding)
            assert got.isfinite().all()
            assert padding != "zeros" or not got.any()


def test_nan_in_the_image_spreads_to_its_readers():
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 0, 3] = torch.nan
    u = torch.full((1, 2, 8, 8), 0.25)
    assert mk.warp(x, u).isnan().nonzero()[:, 2:].tolist() == [[0, 2], [0, 3]]
    far = torch.full((1, 2, 8, 8), -100.0)
    assert not mk.warp(x, far).isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("axes", [2, 3])
def test_nearest_of_two_is_the_even_one(axes, dtype):
    x = torch.arange(40, dtype=dtype).expand(1, 2, *[3] * (axes - 1), 40)
    u = torch.zeros(1, axes, *[3] * (axes - 1), 40, dtype=dtype)
    u[:, -1] = 0.5
    p = torch.arange(39, dtype=dtype)
    got = mk.warp(x, u, mode="nearest", padding="border")[..., :39]
    assert torch.equal(got, (p + p % 2).expand_as(got))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_infinite_voxels(mode, padding):
    """They reach the positions that read them and no others: as infinity or, with zeros, as NaN."""
    x, u = problem((9, 10), channels=2, scale=4.0)
    x[0, 0, 0, 3], x[0, 1, 8, 9], x[1, 0, 4, 4] = torch.inf, -torch.inf, torch.nan
    got = mk.warp(x, u, mode=mode, padding=padding)
    want = reference.warp(x, u, mode, padding, False)
    finite = want.isfinite()
    assert torch.equal(got.isfinite(), finite)
    torch.testing.assert_close(got[finite], want[finite], rtol=0, atol=1e-13)
    assert mode != "nearest" or not got[0].isnan().any()


def test_infinite_gradients_stay_in_their_voxels():
    """A tap of weight 0 takes nothing, not even 0 times infinity."""
    grad = torch.ones(1, 1, 4, 40)
    grad[0, 0, 1, 7], grad[0, 0, 2, 9] = torch.inf, torch.nan
    still = torch.zeros(1, 2, 4, 40)
    got = torch.ops.medkern._warp_transpose(grad, still, [4, 40], "linear", "zeros", False)
    torch.testing.assert_close(got, grad, rtol=0, atol=0, equal_nan=True)


def test_bits_do_not_depend_on_threads_or_layout():
    x, u = problem((19, 21, 37), channels=5, scale=6.0, dtype=torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(
                [
                    torch.ops.medkern._warp_transpose(x, u, [19, 21, 37], mode, padding, False)
                    for mode, padding in itertools.product(MODES, PADDINGS)
                ]
            )
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*results, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(mk.warp(last, u.movedim(1, -1).contiguous().movedim(-1, 1)), mk.warp(x, u))


def test_numpy_in_numpy_out():
    x, u = (t.numpy() for t in problem())
    assert isinstance(mk.warp(x, u), np.ndarray)
    assert isinstance(mk.compose(u, u), np.ndarray)
    assert isinstance(mk.integrate_velocity(u), np.ndarray)


def test_compiles_whole():
    x, u = problem((5, 6), dtype=torch.float32)
    compiled = torch.compile(lambda a, b: mk.warp(a, mk.integrate_velocity(b, 2)), fullgraph=True)
    leaf = u.clone().requires_grad_()
    torch.testing.assert_close(compiled(x, leaf), mk.warp(x, mk.integrate_velocity(u, 2)))
    compiled(x, leaf).sum().backward()


def test_empty_batch_and_no_channels():
    assert mk.warp(torch.zeros(0, 2, 3, 4), torch.zeros(0, 2, 3, 4)).shape == (0, 2, 3, 4)
    x, u = torch.zeros(1, 0, 3, 4, requires_grad=True), torch.zeros(1, 2, 5, 6, requires_grad=True)
    y = mk.warp(x, u)
    assert y.shape == (1, 0, 5, 6)
    (grad,) = torch.autograd.grad(y.sum(), u)
    assert not grad.any()


BAD = {
    "mode": (lambda x, u: (x, u), {"mode": "bilinear"}, ValueError, "mode must be one of 'linear'"),
    "padding": (lambda x, u: (x, u), {"padding": "wrap"}, ValueError, "padding must be one of"),
    "units": (lambda x, u: (x, u), {"units": "mm"}, ValueError, "units must be one of 'voxel'"),
    "line": (
        lambda x, u: (x[:, :, 0, 0], u),
        {},
        ValueError,
        r"image must have 4 or 5 axes, \[B, C, \*space\], got \(2, 3, 7\); add",
    ),
    "empty": (lambda x, u: (x[..., :0], u), {}, ValueError, "image must have no empty spatial"),
    "last": (
        lambda x, u: (x, u.movedim(1, -1)),
        {},
        ValueError,
        r"displacement must have a component per spatial axis, \[B, 3, \*space\], got .*movedim",
    ),
    "flat": (lambda x, u: (x, u[:, :2, 0]), {}, ValueError, r"displacement must have 5 axes as"),
    "batch": (lambda x, u: (x, u[:1]), {}, ValueError, "must have the image's batch, 2, got"),
    "integers": (
        lambda x, u: (x.long(), u),
        {},
        TypeError,
        r"image must be one of float16, .*got int64; convert it, for example image.to\(torch",
    ),
    "bool": (
        lambda x, u: (x > 0, u),
        {"mode": "nearest"},
        TypeError,
        "image must be one of .*int64",
    ),
    "whole": (lambda x, u: (x, u.long()), {}, TypeError, "displacement must be one of float16"),
}


@pytest.mark.parametrize(("change", "how", "error", "text"), BAD.values(), ids=list(BAD))
def test_errors_say_what_is_wrong(change, how, error, text):
    with pytest.raises(error, match=r"medkern.warp: .*" + text):
        mk.warp(*change(*problem()), **how)


def test_errors_of_compose_and_integrate():
    u = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"medkern.compose: v must have the shape of u, .*; resam"):
        mk.compose(u, u[..., 1:])
    with pytest.raises(ValueError, match=r"medkern.compose: u must have a component per spatial"):
        mk.compose(u[:, :1], u[:, :1])
    with pytest.raises(TypeError, match=r"medkern.compose: v must be one of float32, got float64"):
        mk.compose(u, u.double())
    with pytest.raises(ValueError, match=r"medkern.integrate_velocity: steps must be at least 0"):
        mk.integrate_velocity(u, -1)
    with pytest.raises(TypeError, match=r"medkern.integrate_velocity: velocity must be one of"):
        mk.integrate_velocity(u.long())


def test_direct_calls_are_checked():
    ops, x, u = torch.ops.medkern, torch.zeros(1, 1, 3, 4), torch.zeros(1, 2, 3, 4)
    for call in (
        lambda: ops.warp(x, u, "bilinear", "zeros", False),
        lambda: ops.warp(x, u, "linear", "wrap", False),
        lambda: ops.warp(x.long(), u, "linear", "zeros", False),
        lambda: ops.warp(x, u[:, :1], "linear", "zeros", False),
        lambda: ops._warp_slope(x[..., 1:], x, u, "linear", "zeros", False),
        lambda: ops._warp_transpose(x, u[..., 1:], [3, 4], "linear", "zeros", False),
        lambda: ops.compose(u, u[..., 1:], "zeros"),
    ):
        with pytest.raises(RuntimeError):
            call()

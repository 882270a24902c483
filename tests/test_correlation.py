"""Spectral correlation against transforms and ring correlation against a brute-force definition."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medkern as mk
from medkern.ops import correlation as ops
from medkern.reference import correlation as reference
from medkern.reference.half_spectrum import half_spectrum

HALVES = (torch.float16, torch.bfloat16)


def masks(shape=(2, 3, 12, 10), dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    p = torch.rand(shape, generator=generator, dtype=torch.float64)
    y = (torch.rand(shape, generator=generator) < 0.4).double()
    return p.to(dtype), y.to(dtype)


def by_transform(p, y, norm="ortho", weight=1.0):
    """Equation 2 as printed, over the two-sided spectrum; per sample and channel."""
    axes = tuple(range(2, p.dim()))
    a, b = (torch.fft.fftn(t, dim=axes, norm=norm) for t in (p, y))
    both = a.real * b.real + a.imag * b.imag
    power = a.abs() ** 2 + b.abs() ** 2
    return 2 * (weight * both).sum(axes) / (weight * power).sum(axes)


def two_sided_radius(size):
    """By loops: |k| of every frequency of the full spectrum, 1 at Nyquist."""
    radius = torch.zeros(size, dtype=torch.float64)
    for index in itertools.product(*map(range, size)):
        f = [2 * min(k, n - k) / n for k, n in zip(index, size, strict=True)]
        radius[index] = math.sqrt(sum(x * x for x in f))
    return radius


def two_sided_ring(size, bins):
    """In whole numbers, where nothing rounds: the largest r with r^2 <= (bins |k|)^2."""
    common = math.lcm(*size) ** 2
    ring = torch.zeros(size, dtype=torch.int64)
    for index in itertools.product(*map(range, size)):
        folded = [min(k, n - k) for k, n in zip(index, size, strict=True)]
        squared = sum((2 * k) ** 2 * (common // n**2) for k, n in zip(folded, size, strict=True))
        ring[index] = math.isqrt(bins**2 * squared // common)
    return ring


@pytest.mark.parametrize("norm", ["ortho", "backward", "forward"])
@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 12, 7), (1, 2, 4, 5, 6)], ids=str)
def test_full_needs_no_transform(shape, norm):
    for dtype, error in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        p, y = masks(shape, dtype)
        got = mk.spectral_correlation(p, y, smooth=0.0, reduction="none")
        torch.testing.assert_close(got, by_transform(p, y, norm), rtol=0, atol=error)
        space = tuple(range(2, p.dim()))
        v_net = 2 * (p * y).sum(space) / ((p * p).sum(space) + (y * y).sum(space))
        torch.testing.assert_close(got, v_net, rtol=0, atol=error)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (8, 9), (7,), (1, 1), (4, 6, 5), (5, 2)], ids=str)
@pytest.mark.parametrize("per", ["sample", "class", "batch"])
def test_one_ring_is_everything(size, per):
    p, y = masks((2, 3, *size))
    full = mk.spectral_correlation(p, y, per=per, reduction="none")
    binned = mk.spectral_correlation(p, y, "binned", bins=1, per=per, reduction="none")
    band = mk.spectral_correlation(p, y, "band", band=(0, 2), per=per, reduction="none")
    assert full.shape == {"sample": (2, 3), "class": (3,), "batch": ()}[per]
    torch.testing.assert_close(binned, full, rtol=0, atol=1e-12)
    torch.testing.assert_close(band, full, rtol=0, atol=1e-12)


def test_half_spectrum_without_its_mirror_image_differs():
    """What an unweighted one-sided sum returns is another number."""
    p, y = masks()
    a, b = (torch.fft.rfft2(t) for t in (p, y))
    wrong = 2 * (a * b.conj()).real.sum() / (a.abs() ** 2 + b.abs() ** 2).sum()
    right = mk.spectral_correlation(p, y, "binned", bins=1, per="batch")
    assert abs(wrong - right) > 0.02
    torch.testing.assert_close(right, mk.spectral_correlation(p, y, per="batch"))


@pytest.mark.parametrize("size", [(8, 10), (9, 7), (16,), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("bins", [1, 3, 8])
def test_rings_equal_the_two_sided_spectrum(size, bins):
    p, y = masks((2, 2, *size))
    ring = two_sided_ring(size, bins).clamp(max=bins - 1)
    rings = [r for r in range(bins) if (ring == r).any()]
    each = torch.stack([by_transform(p, y, weight=(ring == r).double()) for r in rings])
    want = (each.sum(0) + bins - len(rings)) / bins  # a ring without a frequency is no difference
    got = mk.spectral_correlation(p, y, "binned", bins=bins, reduction="none", smooth=1e-13)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("bins", [3, 7, 8])
@pytest.mark.parametrize("size", [(28, 28), (14, 14, 14), (30, 75)], ids=str)
def test_a_frequency_on_an_edge_is_in_the_outer_ring(size, bins, backend):
    """Also where rounding takes its radius below the edge."""
    half = (..., slice(size[-1] // 2 + 1))
    ring = two_sided_ring(size, bins)[half].clamp(max=bins)
    ones = torch.ones(1, 1, *ring.shape, 2, dtype=torch.float64)
    grad = torch.zeros(1, 1, bins + 1, 3, dtype=torch.float64)
    grad[..., ops.PRODUCT] = torch.arange(1, bins + 2)
    radial = (list(size), bins, *ops.EVERYWHERE, 0.0)
    weighted = ops._correlation_sums_backward(ones, grad, ones, *radial, backend=backend)
    column = torch.arange(size[-1] // 2 + 1)
    mirrored = torch.where((column == 0) | (2 * column == size[-1]), 1, 2)
    assert torch.equal((weighted[0, 0, ..., 0] / mirrored).long() - 1, ring)


@pytest.mark.parametrize(("band", "edge"), [((0.2, 0.7), 0.0), ((0.2, 0.7), 0.1), ((0, 0.5), 0.3)])
def test_band_equals_the_two_sided_spectrum(band, edge):
    for size in ((8, 10), (9, 7), (4, 5, 6)):
        p, y = masks((2, 2, *size))
        r, (low, high) = two_sided_radius(size), band
        if edge == 0:
            weight = ((r >= low) & (r < high)).double()
        else:
            rise = ((r - low) / edge + 0.5).clamp(0, 1) if low else 1.0
            weight = rise * ((high - r) / edge + 0.5).clamp(0, 1)
        how = {"band": band, "edge": edge, "smooth": 0.0, "reduction": "none"}
        got = mk.spectral_correlation(p, y, "band", **how)
        torch.testing.assert_close(got, by_transform(p, y, weight=weight), rtol=0, atol=1e-12)


def test_rings_partition_the_sums():
    p, y = masks((2, 3, 13, 12))
    whole = ops._correlation_sums(p, y, [], 1, *ops.EVERYWHERE, 0.0)
    for bins in (1, 2, 5, 40):
        rings = ops._ring_sums(p, y, bins, *ops.EVERYWHERE, 0.0, None)
        torch.testing.assert_close(rings.sum(2, keepdim=True), whole, rtol=1e-12, atol=1e-12)


def test_bounds():
    _, y = masks((2, 3, 16, 16))
    for how in ({}, {"mode": "binned"}, {"mode": "band", "band": (0.1, 0.6)}):
        assert mk.spectral_correlation(y, y, **how).item() == pytest.approx(1, abs=1e-12)
        assert mk.losses.SpectralCorrelationLoss(**how)(y, y).item() == pytest.approx(0, abs=1e-12)
        half = mk.spectral_correlation(0.5 * y, y, smooth=0.0, **how)
        assert half.item() == pytest.approx(0.8, abs=1e-12)
        opposite = mk.spectral_correlation(-y, y, smooth=0.0, **how)
        assert opposite.item() == pytest.approx(-1, abs=1e-12)
    assert mk.spectral_correlation(1 - y, y, smooth=0.0) == 0
    nothing = torch.zeros_like(y)
    for mode in ("full", "binned"):
        assert mk.spectral_correlation(nothing, nothing, mode) == 1
        assert mk.spectral_correlation(nothing, nothing, mode, smooth=0.0).isnan()
        assert mk.spectral_correlation(nothing[:0], nothing[:0], mode) == 1


def test_a_shift_shows_in_high_rings_only():
    """What "full" cannot tell apart and rings can."""
    wide, fine = torch.zeros(2, 1, 1, 32, 32, dtype=torch.float64)
    wide[..., 8:24, 8:24] = 1
    fine[..., ::2, :] = 1
    low, high = (
        mk.spectral_correlation(wide.roll(1, -1), wide, "band", band=b)
        for b in ((0, 0.1), (0.6, 1.0))
    )
    assert low > 0.95 > high
    frc = mk.frequency_ring_correlation(fine.roll(1, -2), fine, bins=4)
    assert frc[0, 0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"per": "class"},
        {"mode": "binned", "bins": 3},
        {"mode": "band", "band": (0.2, 0.9)},
        {"mode": "band", "band": (0, 0.7), "per": "batch", "edge": 0.0},
    ],
    ids=str,
)
def test_derivatives_in_both(how):
    p, y = masks((2, 1, 3, 4) if "band" in how else (2, 1, 2, 5))
    leaves = (p.requires_grad_(), (0.8 * y + 0.1).requires_grad_())

    def similarity(a, b):
        return mk.spectral_correlation(a, b, **how)

    assert torch.autograd.gradcheck(similarity, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(similarity, leaves, check_fwd_over_rev=True)


def test_backward_op_is_differentiable_in_all_its_inputs():
    p, y = masks((1, 2, 3, 3))
    s, t = (half_spectrum(x) for x in (p, y))
    for a, b, size in ((p, y, []), (s, t, [3, 3])):
        grad = torch.randn(1, 2, 3 if size else 1, 3, dtype=torch.float64)
        leaves = tuple(x.detach().requires_grad_() for x in (a, grad, b))

        def backward(a, g, b, size=size):
            return ops._correlation_sums_backward(a, g, b, size, 2, 0.2, 0.9, 0.1)

        assert torch.autograd.gradcheck(backward, leaves, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(backward, leaves)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(1, 40),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_any_size(size, rings, dtype, sharp):
    p, y = masks((1, 2, *size), dtype)
    s, t = (half_spectrum(x) for x in (p, y))
    radial = (size, rings, 0.1, 0.8, 0.0 if sharp else 0.2)
    sums = ops._correlation_sums(s, t, *radial)
    want = reference.correlation_sums(s.double(), t.double(), *radial)
    error = 1e-13 if dtype == torch.float64 else 1e-6
    scale = want.abs().max().item() + 1
    torch.testing.assert_close(sums.double(), want, rtol=error, atol=error * scale)
    grad = torch.randn_like(sums)
    got = ops._correlation_sums_backward(s, grad, t, *radial)
    want = reference.correlation_sums_backward(s.double(), grad.double(), t.double(), *radial)
    torch.testing.assert_close(got.double(), want, rtol=10 * error, atol=10 * error * scale)


@pytest.mark.parametrize("elements", [1, 15, 17, 1023, 1025, 16383, 16385, 40000])
def test_around_rows_and_blocks(elements):
    for dtype, error in ((torch.float32, 3e-7), (torch.float64, 1e-13)):
        p, y = masks((2, 1, elements), dtype)
        plain = ([], 1, *ops.EVERYWHERE, 0.0)
        got = ops._correlation_sums(p, y, *plain).double()
        want = reference.correlation_sums(p.double(), y.double(), *plain)
        torch.testing.assert_close(got, want, rtol=error, atol=error)
        grad = torch.randn(2, 1, 1, 3, dtype=dtype)
        torch.testing.assert_close(
            ops._correlation_sums_backward(p, grad, y, *plain),
            reference.correlation_sums_backward(p, grad, y, *plain),
        )


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_precision(half):
    p, y = masks((2, 2, 20, 30), half)
    p.requires_grad_()
    got = mk.spectral_correlation(p, y)
    assert got.dtype == torch.float32
    torch.testing.assert_close(
        got.double(), mk.spectral_correlation(p.double(), y.double()), rtol=1e-6, atol=0
    )
    (grad,) = torch.autograd.grad(got, p)
    assert grad.dtype == half
    with torch.autocast("cpu", dtype=half):
        binned = mk.spectral_correlation(p.float(), y.float(), "binned")
    assert binned.dtype == torch.float32


def brute_ring_correlation(a, b, bins):
    fa, fb = np.fft.fftn(a), np.fft.fftn(b)
    ring = two_sided_ring(a.shape, bins).numpy()
    curve = []
    for r in range(bins):
        x, y = fa[ring == r], fb[ring == r]
        top = np.sum(x * y.conj()).real
        curve.append(top / np.sqrt(np.sum(abs(x) ** 2) * np.sum(abs(y) ** 2)))
    return curve


@pytest.mark.parametrize("size", [(16, 16), (15, 12), (8, 10, 9)], ids=str)
def test_ring_correlation_equals_its_definition(size):
    a, b = torch.randn(2, 1, 2, *size, dtype=torch.float64)
    got = mk.frequency_ring_correlation(a, b)
    bins = min(size) // 2
    assert got.shape == (1, 2, bins)
    for c in range(2):
        want = brute_ring_correlation(a[0, c].numpy(), b[0, c].numpy(), bins)
        np.testing.assert_allclose(got[0, c].numpy(), want, atol=1e-12)


def test_ring_correlation_laws():
    a, b = torch.randn(2, 1, 1, 24, 24, dtype=torch.float64)
    frc = mk.frequency_ring_correlation(a, b)
    torch.testing.assert_close(frc, mk.frequency_ring_correlation(b, a))
    torch.testing.assert_close(frc, mk.frequency_ring_correlation(3 * a, 0.2 * b))
    torch.testing.assert_close(frc, mk.frequency_ring_correlation(a.flip(-1), b.flip(-1)))
    torch.testing.assert_close(frc, mk.frequency_ring_correlation(a.mT, b.mT))
    torch.testing.assert_close(
        mk.frequency_ring_correlation(a, -a), -torch.ones(1, 1, 12, dtype=torch.float64)
    )
    assert mk.frequency_ring_correlation(a, torch.zeros_like(a)).isnan().all()
    numpy = mk.frequency_ring_correlation(a.numpy(), b.numpy())
    np.testing.assert_array_equal(numpy, frc.numpy())


def test_other_dtypes_of_the_target_are_converted():
    p, y = masks()
    for kind in (torch.bool, torch.uint8, torch.float32):
        assert torch.equal(mk.spectral_correlation(p, y.to(kind)), mk.spectral_correlation(p, y))


def test_nan_spreads_within_its_channel():
    p, y = masks()
    p[1, 2, 3, 4] = torch.nan
    for mode in ("full", "binned"):
        each = mk.spectral_correlation(p, y, mode, reduction="none")
        assert each.isnan().nonzero().tolist() == [[1, 2]]


def test_module_and_segmentation_loss_agree():
    logits = torch.randn(2, 4, 9, 8)
    labels = torch.randint(4, (2, 9, 8))
    y = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    loss = mk.losses.SpectralCorrelationLoss()
    want = loss(logits.softmax(1)[:, 1:], y[:, 1:])
    torch.testing.assert_close(mk.segmentation_loss(logits, labels, ("scc",)), want)
    assert "mode='full', weight=0.2" in repr(loss)


BAD = {
    "mode": ({"mode": "ring"}, ValueError, r"mode must be one of 'full', 'band', 'binned', got"),
    "per": ({"per": "voxel"}, ValueError, r"per must be one of 'sample', 'class', 'batch', got"),
    "reduction": ({"reduction": "sum"}, ValueError, r"reduction must be one of 'mean', 'none'"),
    "smooth": ({"smooth": -1.0}, ValueError, r"smooth must be a finite number of at least 0"),
    "bins": ({"bins": 0}, ValueError, r"bins must be at least 1, got 0"),
    "no band": ({"mode": "band"}, ValueError, r"band must be \(low, high\) for mode 'band', got"),
    "empty band": (
        {"mode": "band", "band": (0.5, 0.5)},
        ValueError,
        r"band must be radii 0 <= low < high, got \(0.5, 0.5\); 1 is the Nyquist",
    ),
    "edge": (
        {"mode": "band", "band": (0, 1), "edge": -1.0},
        ValueError,
        r"edge must be in \[0, 1\], got -1.0; 0 cuts sharply",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    how, error, text = BAD[name]
    with pytest.raises(error, match=r"medkern\.spectral_correlation: " + text):
        mk.spectral_correlation(*masks(), **how)


def test_errors_of_arrays():
    p, y = masks()
    with pytest.raises(ValueError, match=r"y must have the shape of p, \(2, 3, 12, 10\), got"):
        mk.spectral_correlation(p, y[:, :1])
    with pytest.raises(ValueError, match=r"p must be \[B, K, \*space\], got \(12, 10\)"):
        mk.spectral_correlation(p[0, 0], y[0, 0])
    with pytest.raises(TypeError, match=r"p must be one of float32, float64, got float16"):
        mk.spectral_correlation(p.half(), y.half(), "binned")
    with pytest.raises(TypeError, match=r"y must be real, got complex128"):
        mk.spectral_correlation(p, y + 0j)
    with pytest.raises(ValueError, match=r"a must have a channel and no empty spatial axis"):
        mk.frequency_ring_correlation(p[..., :0], y[..., :0])
    with pytest.raises(ValueError, match=r"band must be"):
        mk.losses.SpectralCorrelationLoss("band")

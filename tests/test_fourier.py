"""The losses on spectra against the published package, full spectra in NumPy, and their errors."""

import re

import numpy as np
import pytest
import torch

import medkern as mk
from medkern.reference import fourier as reference
from medkern.reference.half_spectrum import half_spectrum

HALVES = (torch.float16, torch.bfloat16)
SHAPES = [(2, 3, 16, 20), (1, 2, 9, 7), (3, 1, 5, 8), (2, 2, 1, 6), (2, 1, 4, 1)]
OPTIONS = [
    {},
    {"alpha": 0.5},
    {"alpha": 0.0},
    {"alpha": 2.0, "batch_matrix": True},
    {"log_matrix": True},
    {"ave_spectrum": True, "log_matrix": True, "batch_matrix": True},
]


def pair(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype), torch.randn(*shape, dtype=dtype)


def published(**options):
    package = pytest.importorskip("focal_frequency_loss")
    return package.FocalFrequencyLoss(**options)


def gradients(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_focal_loss_equals_the_package(options):
    peer = published(loss_weight=0.7, **options)
    ours = mk.losses.FocalFrequencyLoss(loss_weight=0.7, **options)
    for shape in SHAPES:
        x, y = (t.requires_grad_() for t in pair(*shape))
        actual, expected = ours(x, y), peer(x, y)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
        for a, e in zip(gradients(actual, x, y), gradients(expected, x, y), strict=True):
            torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("batch_matrix", [False, True])
def test_patches_equal_the_package(factor, batch_matrix):
    x, y = (t.requires_grad_() for t in pair(2, 3, 8, 12))
    for ave_spectrum in (False, True):
        how = {
            "patch_factor": factor,
            "batch_matrix": batch_matrix,
            "ave_spectrum": ave_spectrum,
        }
        actual, expected = mk.focal_frequency_loss(x, y, **how), published(**how)(x, y)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradients(actual, x), gradients(expected, x))


def test_given_weights_equal_the_package():
    for shape, factor in (((2, 3, 8, 10), 1), ((2, 2, 9, 7), 1), ((2, 3, 8, 12), 2)):
        x, y = (t.requires_grad_() for t in pair(*shape))
        size = (shape[2] // factor, shape[3] // factor)
        for lead in ((shape[0], factor**2, shape[1]), (factor**2, 1), ()):
            matrix = torch.rand(*lead, *size, dtype=torch.float64)
            actual = mk.focal_frequency_loss(x, y, matrix, patch_factor=factor)
            expected = published(patch_factor=factor)(x, y, matrix)
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
            for a, e in zip(gradients(actual, x, y), gradients(expected, x, y), strict=True):
                torch.testing.assert_close(a, e)


def test_float32_equals_the_package_on_a_large_batch():
    x, y = (t.requires_grad_() for t in pair(8, 3, 64, 64, dtype=torch.float32))
    actual, expected = mk.focal_frequency_loss(x, y), published()(x, y)
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=0)
    (a,), (e,) = gradients(actual, x), gradients(expected, x)
    assert (a - e).abs().max() < 2e-6 * e.abs().max()


def full_spectrum_loss(a, b, kind, reduction="mean", norm="ortho"):
    """By NumPy, over the whole spectrum."""
    x, y = (np.fft.fft2(t.numpy(), norm=norm) for t in (a, b))
    if kind == "phase":
        bins = 1 - np.cos(np.angle(x) - np.angle(y))
    else:
        bins = np.abs(np.abs(x) - np.abs(y)) ** int(kind)
    return bins.sum() if reduction == "sum" else bins.mean()


@pytest.mark.parametrize("shape", [*SHAPES, (2, 5, 6), (1, 2, 3, 4, 5)], ids=str)
def test_amplitude_and_phase_losses_equal_numpy(shape):
    a, b = pair(*shape)
    for reduction in ("mean", "sum"):
        for p in (1, 2):
            for norm in ("ortho", "backward", "forward"):
                got = mk.fft_amplitude_loss(a, b, p=p, norm=norm, reduction=reduction)
                want = full_spectrum_loss(a, b, p, reduction, norm)
                assert got.item() == pytest.approx(want, rel=1e-12)
        got = mk.fft_phase_loss(a, b, reduction=reduction)
        assert got.item() == pytest.approx(full_spectrum_loss(a, b, "phase", reduction), rel=1e-9)


@pytest.mark.parametrize(
    "loss", [mk.focal_frequency_loss, mk.fft_amplitude_loss, mk.fft_phase_loss]
)
class TestEveryLoss:
    def test_each_sample_alone(self, loss):
        a, b = pair(3, 2, 6, 8)
        each = loss(a, b, reduction="none")
        alone = [loss(a[i : i + 1], b[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(each, torch.stack(alone))
        torch.testing.assert_close(each.mean(), loss(a, b))
        torch.testing.assert_close(loss(a, b, reduction="sum"), each.sum() * a[0].numel())

    def test_half_precision_is_computed_in_float32(self, loss):
        for half in HALVES:
            a, b = (t.to(half) for t in pair(2, 1, 8, 8))
            got = loss(a.requires_grad_(), b)
            assert got.dtype == torch.float32
            torch.testing.assert_close(got, loss(a.float(), b.float()))
            assert gradients(got, a)[0].dtype == half

    def test_unchanged_by_turns_of_both(self, loss):
        a, b = pair(2, 1, 7, 8)
        want = loss(a, b)
        turned = [lambda t: t.flip(-1), lambda t: t.mT, lambda t: t.roll((2, 3), (-2, -1))]
        for turn in turned:
            torch.testing.assert_close(loss(turn(a).contiguous(), turn(b)), want)

    def test_empty_batch_costs_nothing(self, loss):
        for reduction, shape in (("mean", ()), ("sum", ()), ("none", (0,))):
            got = loss(torch.zeros(0, 2, 4, 4), torch.zeros(0, 2, 4, 4), reduction=reduction)
            assert torch.equal(got, torch.zeros(shape))

    def test_nan_spreads_within_its_sample(self, loss):
        a, b = pair(3, 2, 6, 8)
        for bad in (torch.nan, torch.inf):
            a[1, 0, 2, 3] = bad
            each = loss(a, b, reduction="none")
            assert each.isnan().tolist() == [False, True, False]

    @pytest.mark.parametrize("backend", ["native", "reference"])
    def test_nan_of_one_image_reaches_the_gradient_of_the_other(self, loss, backend):
        a, b = pair(2, 1, 6, 8)
        b[1, 0, 2, 3] = torch.nan
        got = loss(a.requires_grad_(), b, reduction="none", backend=backend)
        slope = gradients(got[1], a)[0]
        assert slope[1].isnan().all()
        assert not slope[0].isnan().any()

    def test_compiles_whole(self, loss):
        a, b = pair(2, 2, 6, 8, dtype=torch.float32)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        leaf = a.clone().requires_grad_()
        got, want = compiled(leaf, b), loss(a.requires_grad_(), b)
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(gradients(got, leaf), gradients(want, a))

    def test_numpy_in_numpy_out(self, loss):
        a, b = pair(2, 2, 6, 8)
        got = loss(a.numpy(), b.numpy())
        assert isinstance(got, np.ndarray)
        assert got == pytest.approx(loss(a, b).item())

    def test_reference_backend(self, loss):
        a, b = pair(2, 2, 5, 8)
        torch.testing.assert_close(loss(a, b, backend="reference"), loss(a, b))

    @pytest.mark.parametrize(
        ("change", "error", "text"),
        [
            (lambda a, b: (a[0, 0], b), ValueError, r"must be \[B, ..., H, W\], got \(4, 6\)"),
            (lambda a, b: (a[..., :0], b), ValueError, r"must have no empty spatial axis, got"),
            (
                lambda a, b: (a, b[:1]),
                ValueError,
                r"must have the shape of .*, \(2, 3, 4, 6\), got",
            ),
            (lambda a, b: (a.long(), b), TypeError, r"must be one of float16, .* got int64; conv"),
            (lambda a, b: (a, b.cfloat()), TypeError, r"must be one of .*, got complex64"),
            (lambda a, b: (a, b.to("meta")), ValueError, r"must be on the device of the others"),
            (lambda a, b: ("a", b), TypeError, r"must be a torch tensor"),
        ],
    )
    def test_bad_images(self, loss, change, error, text):
        with pytest.raises(error, match=f"medkern.{loss.__name__}: [a-z]+ {text}"):
            loss(*change(*pair(2, 3, 4, 6)))

    def test_unknown_reduction(self, loss):
        with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', 'none', got"):
            loss(*pair(2, 3, 4, 6), reduction="median")


BAD = [
    ({"alpha": -1.0}, "alpha must be a finite number of at least 0, got -1.0"),
    ({"alpha": "1"}, "alpha must be a finite number of at least 0, got '1'"),
    ({"patch_factor": 4}, "patch_factor must divide H and W, 4 and 6, got 4; pad or crop"),
    ({"patch_factor": 0}, "patch_factor must be an int of at least 1, got 0; pass 1"),
    ({"ave_spectrum": True, "reduction": "none"}, "reduction must be 'mean' or 'sum' with ave"),
    ({"matrix": torch.ones(4, 4)}, r"matrix must broadcast to the spectrum, \(2, 1, 3, 4, 6\), wi"),
    ({"matrix": torch.ones(3, 1, 3, 4, 6)}, r"matrix must broadcast .* got \(3, 1, 3, 4, 6\)"),
]


@pytest.mark.parametrize(("how", "text"), BAD)
def test_bad_options_of_the_focal_loss(how, text):
    with pytest.raises(ValueError, match="medkern.focal_frequency_loss: " + text):
        mk.focal_frequency_loss(*pair(2, 3, 4, 6), **how)


def test_bad_options_of_the_others():
    a, b = pair(2, 3, 4, 6)
    with pytest.raises(ValueError, match=r"fft_amplitude_loss: p must be 1 or 2, got 3"):
        mk.fft_amplitude_loss(a, b, p=3)
    with pytest.raises(ValueError, match=r"norm must be one of 'ortho', .* got 'no'"):
        mk.fft_amplitude_loss(a, b, norm="no")
    with pytest.raises(ValueError, match=r"floor must be a finite number of at least 0, got inf"):
        mk.fft_phase_loss(a, b, floor=float("inf"))


def test_parseval():
    """alpha = 0 is the mean squared error; a half spectrum summed without its counts is not."""
    for shape in SHAPES:
        a, b = pair(*shape)
        mse = (a - b).square().mean()
        torch.testing.assert_close(mk.focal_frequency_loss(a, b, alpha=0.0), mse)
        spectrum = half_spectrum(a - b)
        if shape[-1] > 2:
            assert spectrum.square().sum() < 0.99 * (a - b).square().sum()


def test_shift_and_scale_invariances():
    a, b = pair(2, 1, 8, 10)
    moved = a.roll((3, 1), (-2, -1))
    torch.testing.assert_close(mk.fft_amplitude_loss(moved, b), mk.fft_amplitude_loss(a, b))
    torch.testing.assert_close(mk.fft_phase_loss(3 * a, b), mk.fft_phase_loss(a, b))
    torch.testing.assert_close(mk.fft_phase_loss(a, -a), torch.tensor(2.0).double())


def test_vanishing_bins():
    """No direction, no gradient; no phase, no cost."""
    flat = torch.ones(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    other = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    for p in (1, 2):
        (grad,) = gradients(mk.fft_amplitude_loss(flat, other, p=p), flat)
        assert torch.allclose(grad, grad.mean())  # through the mean alone
    phase = mk.fft_phase_loss(flat, other, floor=1e-9, reduction="sum")
    assert phase.item() == pytest.approx(0 if other.mean() > 0 else 2)
    assert mk.focal_frequency_loss(flat, flat) == 0
    (grad,) = gradients(mk.focal_frequency_loss(flat, flat.detach()), flat)
    assert torch.equal(grad, torch.zeros_like(grad))


def test_derivatives_of_the_losses():
    a, b = (t.requires_grad_() for t in pair(1, 2, 3, 4))
    for loss in (
        lambda x, y: mk.fft_amplitude_loss(x, y),
        lambda x, y: mk.fft_amplitude_loss(x, y, p=2),
        lambda x, y: mk.fft_phase_loss(x, y, floor=0.01),
        lambda x, y: mk.focal_frequency_loss(x, y, alpha=0.0),
        lambda x, y: mk.focal_frequency_loss(x, y, torch.rand(3, 4).double().fill_(0.3)),
    ):
        assert torch.autograd.gradcheck(loss, (a, b), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(loss, (a, b))


def test_second_derivative_holds_the_weights():
    a, b = (t.requires_grad_() for t in pair(2, 2, 5, 6))
    seconds = []
    for loss in (mk.focal_frequency_loss, published()):
        (grad,) = torch.autograd.grad(loss(a, b), a, create_graph=True)
        seconds.append(torch.autograd.grad(grad.square().sum(), (a, b)))
    for ours, theirs in zip(*seconds, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", reference.KINDS)
@pytest.mark.parametrize("log", [False, True])
def test_kernels_on_long_and_many_rows(kind, log):
    """Several runs of a row, rows of every tail, and images that are cut into blocks."""
    loss, backward = torch.ops.medkern._spectrum_loss, torch.ops.medkern._spectrum_loss_backward
    for height, width in [(3, 1200), (200, 130), *((2, w) for w in range(1, 70, 3))]:
        x, y = (torch.randn(1, 2, height, width // 2 + 1, 2).double() for _ in range(2))
        args = (None, width, kind, 0.7 if kind == "focal" else 0.1, log)
        torch.testing.assert_close(loss(x, y, *args), reference.spectrum_loss(x, y, *args))
        grad = torch.randn(1, 2).double()
        want = reference.spectrum_loss_backward(x, y, grad, *args)
        torch.testing.assert_close(backward(x, y, grad, *args), want)


def test_autocast_and_mixed_dtypes():
    a, b = pair(2, 2, 8, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(mk.focal_frequency_loss(a, b), published()(a, b))
    mixed = mk.fft_amplitude_loss(a.double(), b.half())
    assert mixed.dtype == torch.float64


def test_module_is_a_drop_in():
    module = mk.losses.FocalFrequencyLoss(1.0, 2.0, 1, False, True, False)
    assert not list(module.state_dict())
    assert "alpha=2.0" in repr(module)
    assert "log_matrix=True" in repr(module)
    with pytest.raises(ValueError, match=re.escape("patch_factor must divide H and W")):
        mk.losses.FocalFrequencyLoss(patch_factor=3)(*pair(1, 1, 4, 4))


def test_direct_calls_are_checked():
    x = torch.randn(2, 3, 4, 4, 2)
    loss, backward = torch.ops.medkern._spectrum_loss, torch.ops.medkern._spectrum_loss_backward
    good = (None, 6, "focal", 1.0, False)
    loss(x, x, *good)
    for args in [
        (x, x[:1], *good),
        (x, x.double(), *good),
        (x[..., :1], x[..., :1], *good),
        (x, x, None, 8, *good[2:]),
        (x, x, None, 0, *good[2:]),
        (x, x, torch.ones(2), *good[1:]),
        (x, x, None, 6, "focus", 1.0, False),
    ]:
        with pytest.raises(RuntimeError):
            loss(*args)
    for grad in (torch.ones(2), torch.ones(2, 3).double(), torch.ones(3, 2)):
        with pytest.raises(RuntimeError):
            backward(x, x, grad, *good)

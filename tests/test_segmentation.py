"""The segmentation losses against their plain form, MONAI, and every error they can raise."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import medkern as mk
from medkern.reference import segmentation as reference

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)
SMOOTH = 1e-5
SUMS, BACKWARD = "_segmentation_sums", "_segmentation_sums_backward"


def problem(shape=(2, 4, 5, 7), dtype=torch.float64):
    """Logits, labels, and probabilities as another target."""
    generator = torch.Generator().manual_seed(3)
    batch, classes, *space = shape
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(max(classes, 2), (batch, *space), generator=generator)
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    return logits.to(dtype), labels, values.to(dtype)


def one_hot(labels, classes):
    """[B, *space] -> [B, K, *space], foreground only for a single class."""
    return F.one_hot(labels, max(classes, 2)).movedim(-1, 1).double()[:, -classes:]


def ratio(p, y, squared, axes):
    mass = p * p + y * y if squared else p + y
    return (2 * (p * y).sum(axes) + SMOOTH) / (mass.sum(axes) + SMOOTH)


def plain(logits, y, terms, weights, *, background=False, per="sample"):
    """As everybody writes it, in float64: probabilities, products, means. y [B, K, *space]."""
    z, y = logits.double(), y.double()
    softmax = z.shape[1] > 1 and "bce" not in terms
    p = z.softmax(1) if softmax else z.sigmoid()
    first = 1 if softmax and not background else 0
    space = tuple(range(2, z.dim()))
    axes = {"sample": space, "class": (0, *space), "batch": tuple(range(z.dim()))}[per]
    loss = 0
    for term, weight in zip(terms, weights, strict=True):
        if term == "ce":
            value = F.cross_entropy(z, y)
        elif term == "bce":
            value = F.binary_cross_entropy_with_logits(z, y)
        else:
            value = (1 - ratio(p[:, first:], y[:, first:], term == "scc", axes)).mean()
        loss = loss + weight * value
    return loss


def tolerance(dtype):
    return {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 3e-6, "atol": 0}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "shape", [(3, 1, 9), (2, 2, 700), (2, 4, 5, 7), (1, 3, 4, 5, 6), (2, 5, 1, 1)], ids=str
)
def test_equals_the_plain_form(shape, dtype):
    logits, labels, values = problem(shape, dtype)
    hot = one_hot(labels, shape[1])
    leaf = logits.detach().requires_grad_()
    for first, per in (("bce", "sample"), ("ce", "class"), ("dice", "batch")):
        if first == "ce" and shape[1] == 1:
            continue
        terms = dict.fromkeys((first, "dice", "scc"))
        weights = [0.3, 1.2, 0.5][: len(terms)]
        for background in (False, True):
            how = {"include_background": background, "per": per}
            for target in (labels, labels.to(torch.uint8), hot.bool(), hot.int(), values):
                loss = mk.segmentation_loss(leaf, target, tuple(terms), weights, **how)
                y = target if target.shape == hot.shape else hot
                want = plain(leaf, y, terms, weights, background=background, per=per)
                assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                torch.testing.assert_close(loss.double(), want, **tolerance(dtype))
            (grad,) = torch.autograd.grad(loss, leaf)
            (expected,) = torch.autograd.grad(want, leaf)
            torch.testing.assert_close(
                grad,
                expected,
                rtol=1e-2 if dtype in HALVES else 1e-4,
                atol=1e-4 if dtype in HALVES else 1e-7,
            )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 1200),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([torch.uint8, torch.int64, *FLOATS]),
)
def test_any_size_of_either_kind_of_target(batch, classes, voxels, softmax, dtype, kind):
    logits, labels, values = problem((batch, classes, voxels), dtype)
    target = values.to(kind) if kind.is_floating_point else labels.to(kind)
    args = (target, softmax and classes > 1, 1)
    check_sums_and_gradient(logits, args)


def check_sums_and_gradient(logits, args):
    exact = 1e-12 if logits.dtype == torch.float64 else 2e-6
    sums = getattr(torch.ops.medkern, SUMS)(logits, *args)
    want = reference.segmentation_sums(logits.double(), *args)
    scale = want.abs().max().item()
    torch.testing.assert_close(sums.double(), want, rtol=exact, atol=exact * scale)
    grad = torch.randn(sums.shape, dtype=sums.dtype)
    got = getattr(torch.ops.medkern, BACKWARD)(logits, grad, *args)
    want = reference.segmentation_sums_backward(logits.double(), grad.double(), *args)
    torch.testing.assert_close(got.double(), want, rtol=10 * exact, atol=10 * exact)


@pytest.mark.parametrize("voxels", [15, 16, 17, 511, 512, 513, 8191, 8192, 8193, 20000])
def test_around_lanes_tiles_and_blocks(voxels):
    logits, labels, values = problem((2, 3, voxels))
    for target in (labels, values):
        for softmax in (False, True):
            check_sums_and_gradient(logits, (target, softmax, -1))


def test_float32_sums_of_many_voxels_keep_their_digits():
    logits, labels, _ = problem((1, 2, 1 << 20), torch.float32)
    for softmax in (False, True):
        args = (labels, softmax, -100)
        got = getattr(torch.ops.medkern, SUMS)(logits, *args).double()
        want = reference.segmentation_sums(logits.double(), *args)
        assert (got / want - 1).abs().max() < 1.5e-7


def test_log_of_confident_logits_keeps_its_digits():
    """Where exp(-|z|) vanishes beside 1, the sigmoid's cross-entropy still is exp(-|z|)."""
    logits = torch.full((1, 1, 40), 30.0)
    loss = mk.segmentation_loss(logits, torch.ones(1, 40).long(), ("bce",))
    assert loss.item() == pytest.approx(np.exp(-30.0), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_monai(classes):
    losses = pytest.importorskip("monai.losses")
    logits, labels, _ = problem((2, classes, 6, 7, 8), torch.float32)
    for background in (False, True):
        for batch in (False, True):
            theirs = losses.DiceCELoss(
                include_background=background, to_onehot_y=True, softmax=True, batch=batch
            )
            want = theirs(logits, labels.unsqueeze(1))
            per = "class" if batch else "sample"
            got = mk.segmentation_loss(logits, labels, include_background=background, per=per)
            torch.testing.assert_close(got, want, rtol=2e-6, atol=0)
    theirs = losses.DiceLoss(sigmoid=True, squared_pred=True)
    hot = one_hot(labels, classes)
    got = mk.segmentation_loss(logits, hot.bool(), ("bce", "scc"), (0.0, 1.0))
    torch.testing.assert_close(got, theirs(logits, hot.float()), rtol=2e-6, atol=0)


def test_labels_with_a_channel_are_labels():
    logits, labels, _ = problem()
    want = mk.segmentation_loss(logits, labels)
    assert torch.equal(mk.segmentation_loss(logits, labels.unsqueeze(1)), want)
    assert torch.equal(mk.segmentation_loss(logits, labels.to(torch.int16)), want)
    two = mk.segmentation_loss(logits[:, :2], labels > 1)
    assert torch.equal(two, mk.segmentation_loss(logits[:, :2], (labels > 1).long()))


@pytest.mark.parametrize("terms", [("ce", "dice", "scc"), ("bce", "dice", "scc")])
def test_ignored_voxels_take_no_part(terms):
    """The same as cutting them out; not even their NaN is seen."""
    logits, labels, _ = problem((1, 3, 60))
    ignored = torch.arange(60) % 4 == 1
    cut = mk.segmentation_loss(logits[..., ~ignored], labels[..., ~ignored], terms)
    for dtype, index in ((torch.uint8, 255), (torch.int64, -100), (torch.int64, 2**40)):
        marked = labels.clone()
        marked[..., ignored] = index
        z = logits.clone()
        z[..., ignored] = torch.nan
        z.requires_grad_()
        loss = mk.segmentation_loss(z, marked.to(dtype), terms, ignore_index=index)
        torch.testing.assert_close(loss, cut)
        (grad,) = torch.autograd.grad(loss, z)
        assert torch.equal(grad[..., ignored], torch.zeros_like(grad[..., ignored]))
        assert grad[..., ~ignored].ne(0).all()
    nowhere = torch.full_like(labels, -100)
    assert mk.segmentation_loss(logits, nowhere, terms) == 0
    only = mk.segmentation_loss(logits[:, :1], labels.clamp(max=1), ("bce",), ignore_index=0)
    ones = (labels > 0).double()
    expected = (F.softplus(-logits[:, 0]) * ones).sum() / ones.sum()
    torch.testing.assert_close(only, expected, rtol=1e-7, atol=0)


def test_none_reduces_each_sample_alone():
    logits, labels, _ = problem((3, 4, 5, 7))
    labels[1, :4] = -100
    terms = ("ce", "dice", "scc")
    each = mk.segmentation_loss(logits, labels, terms, reduction="none")
    alone = [mk.segmentation_loss(logits[i : i + 1], labels[i : i + 1], terms) for i in range(3)]
    torch.testing.assert_close(each, torch.stack(alone))


def test_absent_class_costs_nothing_where_it_is_not_predicted():
    logits = torch.tensor([[[200.0, 200.0], [0.0, 0.0], [0.0, 0.0]]])
    assert mk.segmentation_loss(logits, torch.zeros(1, 2).long(), ("dice", "scc")) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_huge_logits(dtype):
    logits = torch.tensor([[[3e4, -3e4, 0.0], [-1e5, 1e5, -1e5]]], dtype=dtype).requires_grad_()
    labels = torch.tensor([[0, 0, 0]])
    loss = mk.segmentation_loss(logits, labels, ("ce",))
    assert loss.item() == pytest.approx((0 + 130000 + 0) / 3)
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad.isfinite().all()
    loss = mk.segmentation_loss(logits, labels, ("bce",))
    torch.testing.assert_close(
        loss, F.binary_cross_entropy_with_logits(logits, one_hot(labels, 2).to(dtype))
    )


def test_impossible_class_costs_infinity_and_masked_class_nothing():
    logits = torch.tensor([[[0.0], [-torch.inf], [1.0]]])
    assert mk.segmentation_loss(logits, torch.tensor([[1]]), ("ce",)) == torch.inf
    want = F.cross_entropy(logits[:, ::2], torch.tensor([[1]]))
    torch.testing.assert_close(mk.segmentation_loss(logits, torch.tensor([[2]]), ("ce",)), want)
    values = torch.tensor([[[0.0], [0.0], [1.0]]])
    torch.testing.assert_close(mk.segmentation_loss(logits, values, ("ce",)), want)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("terms", [("ce", "dice"), ("bce", "dice")])
def test_nan_spreads_within_its_sample(terms, dtype):
    logits, labels, _ = problem((3, 4, 5, 70), dtype)
    logits[1, 2, 3, 66] = torch.nan
    logits.requires_grad_()
    each = mk.segmentation_loss(logits, labels, terms, reduction="none")
    assert each.isnan().tolist() == [False, True, False]
    assert mk.segmentation_loss(logits, labels, terms).isnan()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "lay_out",
    [
        lambda t: t.transpose(2, 3),
        lambda t: t[:, :, ::2, 1:],
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
        lambda t: t[:, :, :1].expand(-1, -1, 4, -1),
    ],
    ids=["transposed", "sliced", "channels_last", "batch_inside", "expanded"],
)
def test_strides_do_not_change_bits(lay_out, dtype):
    logits, labels, values = problem((2, 4, 6, 137), dtype)
    z, y = lay_out(logits), lay_out(values)
    flat = lay_out(labels.unsqueeze(1)).squeeze(1)
    sums, backward = (getattr(torch.ops.medkern, name) for name in (SUMS, BACKWARD))
    for target in (y, flat, flat.to(torch.uint8)):
        packed = (z.contiguous(), target.contiguous())
        grad = torch.randn_like(sums(*packed, True, -1))
        assert torch.equal(sums(z, target, True, -1), sums(*packed, True, -1))
        got = backward(z, grad, target, True, -1)
        assert torch.equal(got, backward(packed[0], grad, packed[1], True, -1))


def test_channels_last_gradient_keeps_its_format():
    logits, labels, _ = problem((2, 4, 6, 9), torch.float32)
    logits = logits.contiguous(memory_format=torch.channels_last).requires_grad_()
    (grad,) = torch.autograd.grad(mk.segmentation_loss(logits, labels), logits)
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_permuting_classes_permutes_the_gradient():
    logits, labels, _ = problem()
    order = torch.tensor([2, 0, 3, 1])
    grads = []
    for z, y in ((logits, labels), (logits[:, order], order.argsort()[labels])):
        z = z.detach().requires_grad_()
        loss = mk.segmentation_loss(z, y, ("ce", "dice", "scc"), include_background=True)
        grads.append((loss.detach(), torch.autograd.grad(loss, z)[0]))
    torch.testing.assert_close(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1][:, order], grads[1][1])


@pytest.mark.parametrize("terms", [("ce", "dice", "scc"), ("bce", "dice", "scc")])
def test_derivatives_in_logits_and_probabilities(terms):
    logits, _, values = problem((2, 3, 2, 3))
    leaves = (logits.requires_grad_(), values.requires_grad_())

    def loss(z, y):
        return mk.segmentation_loss(z, y, terms, (0.7, 1.1, 0.4))

    assert torch.autograd.gradcheck(loss, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, leaves, check_fwd_over_rev=True)


@pytest.mark.parametrize("softmax", [True, False])
def test_backward_op_is_differentiable_in_all_its_inputs(softmax):
    logits, _, values = problem((2, 3, 2, 3))
    grad = torch.randn(2, 3, 7, dtype=torch.float64)
    leaves = tuple(t.requires_grad_() for t in (logits, grad, values))
    op = mk.ops.segmentation._segmentation_sums_backward

    def backward(z, g, y):
        return op(z, g, y, softmax, -1)

    assert torch.autograd.gradcheck(backward, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(backward, leaves)


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_logits_under_autocast(half):
    logits, labels, values = problem((2, 4, 16, 16), half)
    logits.requires_grad_()
    with torch.autocast("cpu", dtype=half):
        loss = mk.segmentation_loss(logits, labels)
        soft = mk.segmentation_loss(logits, values.float())
    assert loss.dtype == soft.dtype == torch.float32
    want = plain(logits, one_hot(labels, 4), ("ce", "dice"), (1, 1))
    torch.testing.assert_close(loss.double(), want, rtol=2e-6, atol=0)
    loss.backward()
    assert logits.grad.dtype == half


def test_module_trains():
    logits, labels, _ = problem((2, 4, 6, 9), torch.float32)
    module = mk.losses.SegmentationLoss(("ce", "dice", "scc"), per="class", smooth=1.0)
    assert not list(module.state_dict())
    want = mk.segmentation_loss(logits, labels, ("ce", "dice", "scc"), per="class", smooth=1.0)
    assert torch.equal(module(logits, labels), want)
    assert "per='class'" in repr(module)
    logits.requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=1.0)
    before = module(logits, labels)
    before.backward()
    optimizer.step()
    assert module(logits, labels) < before


def test_compiles_whole():
    logits, labels, _ = problem((2, 4, 6, 9), torch.float32)
    compiled = torch.compile(mk.losses.SegmentationLoss(), fullgraph=True)
    torch.testing.assert_close(compiled(logits, labels), mk.segmentation_loss(logits, labels))


def test_empty_batch_costs_nothing():
    for reduction, shape in (("mean", ()), ("none", (0,))):
        loss = mk.segmentation_loss(
            torch.zeros(0, 2, 3), torch.zeros(0, 3).long(), reduction=reduction
        )
        assert torch.equal(loss, torch.zeros(shape))


def test_numpy_in_numpy_out():
    logits, labels, _ = problem()
    loss = mk.segmentation_loss(logits.numpy(), labels.numpy())
    assert isinstance(loss, np.ndarray)
    assert loss == pytest.approx(plain(logits, one_hot(labels, 4), ("ce", "dice"), (1, 1)).item())


def test_only_inputs_are_kept_for_the_backward():
    logits, labels, _ = problem((1, 3, 40))
    logits.requires_grad_()
    kept = []

    def pack(t):
        kept.append(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        getattr(torch.ops.medkern, SUMS)(logits, labels, True, -100)
    assert set(kept) == {t.data_ptr() for t in (logits, labels)}


def edges(probabilities, bins):
    return [
        np.where((probabilities > m / bins) & (probabilities <= (m + 1) / bins))[0]
        for m in range(bins)
    ]


def brute_calibration(confidence, right, bins):
    """ECE and MCE by their definition, bin by bin."""
    gaps, shares = [], []
    for members in edges(confidence, bins):
        if len(members):
            gaps.append(abs(right[members].mean() - confidence[members].mean()))
            shares.append(len(members) / len(confidence))
    return float(np.dot(shares, gaps)), max(gaps)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_errors_equal_their_definition(bins):
    logits, labels, _ = problem((2, 4, 30, 20))
    p = logits.softmax(1)
    labels[0, :3] = -100
    kept = (labels != -100).numpy()
    confidence, guess = p.max(1)
    want = brute_calibration(confidence.numpy()[kept], (guess == labels).numpy()[kept], bins)
    ece = mk.expected_calibration_error(p, labels, bins=bins)
    mce = mk.maximum_calibration_error(p, labels.unsqueeze(1), bins=bins)
    assert (ece.item(), mce.item()) == pytest.approx(want, abs=1e-14)
    assert mk.expected_calibration_error(p.numpy(), labels.numpy(), bins=bins) == ece.numpy()


def test_calibration_of_one_class_is_that_of_two():
    p = torch.rand(2, 1, 40, dtype=torch.float64)
    labels = torch.randint(2, (2, 40))
    both = torch.cat([1 - p, p], dim=1)
    for error in (mk.expected_calibration_error, mk.maximum_calibration_error):
        torch.testing.assert_close(error(p, labels), error(both, labels))
        sure = error(labels.unsqueeze(1).double(), labels)
        assert sure == 0
        assert error(p[:0], labels[:0]) == 0
        assert error(p * torch.nan, labels).isnan()


def test_calibration_bins_are_closed_above():
    p = torch.tensor([[[0.6, 0.6, 0.8]]], dtype=torch.float64)
    error = mk.maximum_calibration_error(p, torch.tensor([[1, 1, 0]]), bins=5)
    assert error == pytest.approx(0.8)


BAD = {
    "too few axes": (
        lambda z, y: (z[0, 0], y[0]),
        {},
        ValueError,
        r"logits must be \[B, K, \*space\], got \(5, 7\); add",
    ),
    "empty space": (
        lambda z, y: (z[..., :0], y[..., :0]),
        {},
        ValueError,
        r"logits must have a channel and no empty spatial axis, got \(2, 4, 5, 0\); only",
    ),
    "target of another size": (
        lambda z, y: (z, y[..., 1:]),
        {},
        ValueError,
        r"target must be labels \(2, 5, 7\) or values \(2, 4, 5, 7\), got \(2, 5, 6\); give",
    ),
    "floating labels": (
        lambda z, y: (z, y.double()),
        {},
        TypeError,
        r"target must be \(2, 4, 5, 7\) where it is floating, got \(2, 5, 7\); convert labels",
    ),
    "complex target": (
        lambda z, y: (z, y.cfloat()),
        {},
        TypeError,
        r"target must be one of float16, .*, got complex64",
    ),
    "integer logits": (
        lambda z, y: (z.long(), y),
        {},
        TypeError,
        r"logits must be one of float16, .*, got int64; convert it, for example logits.float",
    ),
    "softmax of one class": (
        lambda z, y: (z[:, :1], y),
        {},
        ValueError,
        r"terms must be 'bce' rather than 'ce' for logits of one channel, got \('ce', 'dice'\)",
    ),
    "no such term": (
        lambda z, y: (z, y),
        {"terms": ("focal",)},
        ValueError,
        r"terms must be different ones of 'ce', 'bce', 'dice', 'scc', got \('focal',\); pass a",
    ),
    "a string": (lambda z, y: (z, y), {"terms": "ce"}, ValueError, r"got 'ce'; pass a tuple"),
    "a term twice": (lambda z, y: (z, y), {"terms": ("ce", "ce")}, ValueError, "different ones"),
    "both activations": (
        lambda z, y: (z, y),
        {"terms": ("ce", "bce")},
        ValueError,
        r"terms must not hold both 'ce' \(softmax\) and 'bce' \(sigmoid\), got",
    ),
    "weights of other terms": (
        lambda z, y: (z, y),
        {"weights": (1.0,)},
        ValueError,
        r"weights must be one per term, 2, got \(1.0,\); pass None",
    ),
    "no such per": (
        lambda z, y: (z, y),
        {"per": "voxel"},
        ValueError,
        r"per must be one of 'sample', 'class', 'batch', got 'voxel'",
    ),
    "no such reduction": (
        lambda z, y: (z, y),
        {"reduction": "sum"},
        ValueError,
        r"reduction must be one of 'mean', 'none', got 'sum'",
    ),
    "samples of a batch": (
        lambda z, y: (z, y),
        {"per": "batch", "reduction": "none"},
        ValueError,
        r"per must be 'sample' for reduction 'none', got 'batch'; reduce",
    ),
    "negative smooth": (
        lambda z, y: (z, y),
        {"smooth": -1.0},
        ValueError,
        r"smooth must be a finite number of at least 0, got -1.0; pass one",
    ),
    "label above the classes": (
        lambda z, y: (z, y + 1),
        {},
        RuntimeError,
        r"target must hold labels from 0 to 3 or ignore_index, got \d+ others in sample 0; set",
    ),
    "255 unless ignored": (
        lambda z, y: (z, torch.full_like(y, 255).to(torch.uint8)),
        {},
        RuntimeError,
        r"got 35 others in sample 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    change, how, error, text = BAD[name]
    logits, labels, _ = problem()
    if error is RuntimeError and not mk.backend.native().loaded:
        pytest.skip("the reference has torch's own message")
    with pytest.raises(error, match=r"medkern\.segmentation_loss: .*" + text):
        mk.segmentation_loss(*change(logits, labels), **how)


def test_calibration_errors_name_themselves():
    p, labels = torch.rand(2, 3, 5), torch.zeros(2, 5).long()
    with pytest.raises(ValueError, match=r"expected_calibration_error: bins must be at least 1"):
        mk.expected_calibration_error(p, labels, bins=0)
    with pytest.raises(ValueError, match=re.escape("target must be labels (2, 5), got (2, 4);")):
        mk.maximum_calibration_error(p, labels[:, 1:])
    with pytest.raises(ValueError, match=r"terms must be"):
        mk.losses.SegmentationLoss(("nothing",))

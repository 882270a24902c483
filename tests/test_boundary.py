"""The boundary loss against the papers' eager code, closed forms, and every error it can raise."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import medkern as mk
from medkern.reference import boundary as reference

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)


def eager(logits, maps, points=None, *, alpha=1.0, include_background=False, reduction="mean"):
    """As the papers' code has it: probabilities, an index of classes, means."""
    first = 0 if include_background else 1
    probabilities = logits.double().softmax(1)
    phi = maps.double()[:, maps.shape[1] - (logits.shape[1] - first) :]
    product = probabilities[:, first:] * phi
    boundary = product.mean() if reduction == "mean" else product.sum()
    if points is None:
        return alpha * boundary
    chosen = (points.long() >= first) & (points.long() != 255)
    log_s = logits.double().log_softmax(1).movedim(1, -1)[chosen]
    labels = points.long()[chosen]
    cross_entropy = -log_s[torch.arange(len(labels)), labels].sum()
    if reduction == "mean":
        cross_entropy = cross_entropy / max(len(labels), 1)
    return cross_entropy + alpha * boundary


def problem(shape=(2, 4, 5, 7), dtype=torch.float64, maps_dtype=None, scale=50.0, mapped=None):
    generator = torch.Generator().manual_seed(3)
    batch, classes, *space = shape
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    maps = torch.randn(batch, mapped or classes, *space, generator=generator, dtype=torch.float64)
    points = torch.randint(-classes, classes, (batch, *space), generator=generator)
    return logits.to(dtype), (scale * maps).to(maps_dtype or dtype), points


def tolerance(dtype):
    return 1e-13 if dtype == torch.float64 else 2e-6


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(3, 2, 9), (2, 4, 5, 7), (1, 3, 4, 5, 6), (2, 5, 1, 1)], ids=str)
def test_equals_the_papers_code(shape, dtype):
    for include_background in (False, True):
        for reduction in ("mean", "sum"):
            logits, maps, points = problem(shape, dtype)
            how = {"include_background": include_background, "reduction": reduction}
            for labels in (None, points, points.where(points >= 0, 255).to(torch.uint8)):
                got = mk.boundary_loss(logits, maps, labels, alpha=0.3, **how)
                want = eager(logits, maps, labels, alpha=0.3, **how)
                assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                assert got.shape == ()
                torch.testing.assert_close(
                    got.double(), want, rtol=tolerance(dtype), atol=50 * tolerance(dtype)
                )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 9),
    st.lists(st.integers(1, 700), min_size=1, max_size=1)
    | st.lists(st.integers(1, 30), max_size=2),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(FLOATS),
    st.integers(0, 2),
)
def test_any_shape_and_mixture_of_dtypes(
    batch, classes, space, background, dtype, maps_dtype, kind
):
    space = space or [3]
    logits, maps, points = problem(
        (batch, classes, *space), dtype, maps_dtype, mapped=classes - (not background)
    )
    points = [None, points, points.to(torch.int16)][kind]
    logits.requires_grad_()
    got = mk.boundary_loss(logits, maps, points, include_background=background)
    want = eager(logits, maps, points, include_background=background)
    torch.testing.assert_close(
        got.double(), want, rtol=tolerance(dtype), atol=50 * tolerance(dtype)
    )
    (actual,) = torch.autograd.grad(got, logits)
    (expected,) = torch.autograd.grad(want, logits)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=50 * tolerance(dtype))


@pytest.mark.parametrize("voxels", [255, 256, 257, 8191, 8192, 8193, 20000])
def test_around_tiles_and_blocks(voxels):
    logits, maps, points = problem((2, 3, voxels))
    terms = torch.ops.medkern.boundary_loss(logits, maps, points)
    torch.testing.assert_close(
        terms, reference.boundary_loss(logits, maps, points), rtol=1e-12, atol=1e-9
    )
    grad = torch.tensor([[0.5, 2.0, 0.0], [-1.0, 0.25, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        torch.ops.medkern._boundary_loss_backward(logits, grad, maps, points),
        reference.boundary_loss_backward(logits, grad, maps, points),
        rtol=1e-12,
        atol=1e-12,
    )


def test_float32_sums_of_many_voxels_keep_their_digits():
    logits, maps, points = problem((1, 2, 1 << 20), torch.float32, scale=255.0)
    got = mk.boundary_loss(logits, maps.abs(), points, reduction="sum")
    want = eager(logits, maps.abs(), points, reduction="sum")
    assert abs(got.item() / want.item() - 1) < 1e-7


def signed_euclidean(mask):
    """The map of the original boundary loss (LIVIAETS/boundary-loss, `one_hot2dist`)."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return outside * ~mask - (inside - 1) * mask


def test_full_labels_and_euclidean_maps_give_the_classic_loss():
    rows, columns = np.mgrid[:20, :24]
    disk = (rows - 8) ** 2 + (columns - 11) ** 2 < 36
    box = np.zeros_like(disk)
    box[14:18, 3:9] = True
    masks = np.stack([~(disk | box), disk, box])
    maps = torch.from_numpy(np.stack([signed_euclidean(mask) for mask in masks])[None])
    logits = torch.randn(1, 3, 20, 24, dtype=torch.float64)
    foreground = torch.einsum("bkwh,bkwh->bkwh", logits.softmax(1)[:, 1:], maps[:, 1:])
    torch.testing.assert_close(mk.boundary_loss(logits, maps), foreground.mean())
    # Certain of the truth, the loss is the mean of the maps inside their classes.
    certain = 1e4 * torch.from_numpy(masks[None]).double()
    expected = (maps * torch.from_numpy(masks[None])).double()[:, 1:].mean()
    torch.testing.assert_close(mk.boundary_loss(certain, maps), expected)


def test_maps_without_the_background_and_ignored_background_agree():
    logits, maps, points = problem()
    whole = mk.boundary_loss(logits, maps, points)
    assert torch.equal(mk.boundary_loss(logits, maps[:, 1:], points), whole)
    maps[:, 0] = torch.nan
    assert torch.equal(mk.boundary_loss(logits, maps, points), whole)
    no_background = torch.where(points == 0, -1, points)
    assert torch.equal(mk.boundary_loss(logits, maps, no_background), whole)
    assert mk.boundary_loss(logits, maps, points, include_background=True).isnan()


def test_no_label_costs_nothing():
    logits, maps, points = problem()
    for nowhere in (torch.full_like(points, -1), torch.full_like(points, 255).to(torch.uint8)):
        logits.requires_grad_()
        loss = mk.boundary_loss(logits, maps, nowhere)
        assert torch.equal(loss, mk.boundary_loss(logits, maps))
        (grad,) = torch.autograd.grad(mk.boundary_loss(logits, maps, nowhere, alpha=0.0), logits)
        assert torch.equal(grad, torch.zeros_like(grad))


def test_none_reduces_each_sample_alone():
    logits, maps, points = problem((3, 4, 5, 7))
    points[1] = -1
    each = mk.boundary_loss(logits, maps, points, alpha=0.5, reduction="none")
    alone = [
        mk.boundary_loss(logits[i : i + 1], maps[i : i + 1], points[i : i + 1], alpha=0.5)
        for i in range(3)
    ]
    torch.testing.assert_close(each, torch.stack(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_huge_logits(dtype):
    logits = torch.tensor([[3e4, -3e4, 0.0], [-1e5, 1e5, -1e5]], dtype=dtype)[None]
    maps = torch.tensor([[-2.0, 3.0, 4.0]], dtype=dtype)[None]
    assert mk.boundary_loss(logits, maps).item() == pytest.approx((0 + 3 + 0) / 3)
    points = torch.tensor([[0, 0, 0]])
    kept = logits.requires_grad_()
    loss = mk.boundary_loss(kept, maps.expand(1, 2, 3), points, alpha=0.0, include_background=True)
    assert loss.item() == pytest.approx((0 + 130000 + 0) / 3)
    want = eager(kept, maps.expand(1, 2, 3), points, alpha=0.0, include_background=True)
    torch.testing.assert_close(loss.double(), want)
    (grad,) = torch.autograd.grad(loss, kept)
    assert grad.isfinite().all()


def test_impossible_class_costs_infinity_and_masked_class_costs_nothing():
    logits = torch.tensor([[[0.0], [-torch.inf], [1.0]]])
    maps = torch.full((1, 3, 1), 7.0)
    torch.testing.assert_close(
        mk.boundary_loss(logits, maps, reduction="sum"),
        7 * torch.tensor([0.0, 1.0]).softmax(0)[1],
    )
    assert mk.boundary_loss(logits, maps, torch.tensor([[1]])) == torch.inf


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_spreads_within_its_sample(dtype):
    for where in ("logits", "maps"):
        logits, maps, points = problem((3, 4, 5, 70), dtype, scale=1.0)
        (logits if where == "logits" else maps)[1, 2, 3, 66] = torch.nan
        logits.requires_grad_()
        each = mk.boundary_loss(logits, maps, points, reduction="none")
        assert each.isnan().tolist() == [False, True, False]
        (grad,) = torch.autograd.grad(each.sum(), logits)
        touched = grad.isnan().any(1).nonzero().tolist()
        assert touched == [[1, 3, 66]]


def test_positive_infinity_is_nan_as_in_softmax():
    logits = torch.tensor([[[torch.inf], [0.0]]])
    assert logits.softmax(1).isnan().any()
    assert mk.boundary_loss(logits, torch.ones(1, 1, 1)).isnan()


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
    logits, maps, points = problem((2, 4, 6, 37), dtype)
    strided = [lay_out(t) for t in (logits, maps)]
    labels = lay_out(points.unsqueeze(1)).squeeze(1)
    packed = [t.contiguous() for t in (*strided, labels)]
    grad = torch.tensor([[0.5, 2.0, 0.0], [-1.0, 0.25, 0.0]])
    grad = grad.to(torch.float64 if dtype == torch.float64 else torch.float32)
    loss, backward = torch.ops.medkern.boundary_loss, torch.ops.medkern._boundary_loss_backward
    assert torch.equal(loss(*strided, labels), loss(*packed))
    assert torch.equal(
        backward(strided[0], grad, strided[1], labels), backward(packed[0], grad, *packed[1:])
    )


def test_channels_last_gradient_keeps_its_format():
    logits, maps, points = problem((2, 4, 6, 9), torch.float32)
    logits = logits.contiguous(memory_format=torch.channels_last).requires_grad_()
    (grad,) = torch.autograd.grad(mk.boundary_loss(logits, maps, points), logits)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("background", [False, True])
def test_derivatives_in_logits_and_maps(background):
    logits, maps, points = problem((2, 3, 2, 3), scale=2.0)
    leaves = (logits.requires_grad_(), maps.requires_grad_())

    def loss(z, phi):
        how = {"alpha": 0.7, "include_background": background}
        return mk.boundary_loss(z, phi, points, **how)

    assert torch.autograd.gradcheck(loss, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, leaves, check_fwd_over_rev=True)


def test_backward_op_is_differentiable_in_all_its_inputs():
    logits, maps, points = problem((2, 3, 2, 3), scale=2.0, mapped=2)
    grad = torch.randn(2, 3, dtype=torch.float64)
    leaves = tuple(t.requires_grad_() for t in (logits, grad, maps))
    op = mk.ops.boundary._boundary_loss_backward

    def backward(z, g, phi):
        return op(z, g, phi, points)

    assert torch.autograd.gradcheck(backward, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(backward, leaves)


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_logits_with_float32_maps(half):
    """What autocast makes of a network beside maps that were computed before."""
    logits, maps, points = problem((2, 4, 16, 16), torch.float32)
    lowered = logits.to(half).requires_grad_()
    with torch.autocast("cpu", dtype=half):
        loss = mk.boundary_loss(lowered, maps, points)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), eager(lowered, maps, points), rtol=2e-6, atol=1e-5)
    loss.backward()
    assert lowered.grad.dtype == half


def test_module_trains():
    logits, maps, points = problem((2, 4, 6, 9), torch.float32)
    module = mk.losses.BoundaryLoss(alpha=0.2, include_background=True, reduction="sum")
    assert not list(module.state_dict())
    want = mk.boundary_loss(
        logits, maps, points, alpha=0.2, include_background=True, reduction="sum"
    )
    assert torch.equal(module(logits, maps, points), want)
    module.alpha = 0.4
    assert module(logits, maps, points) != want
    assert "alpha=0.4" in repr(module)
    logits.requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=1.0)
    before = mk.losses.BoundaryLoss()(logits, maps, points)
    before.backward()
    optimizer.step()
    assert mk.losses.BoundaryLoss()(logits, maps, points) < before


def test_compiles_whole():
    logits, maps, points = problem((2, 4, 6, 9), torch.float32)
    logits.requires_grad_()
    compiled = torch.compile(mk.losses.BoundaryLoss(), fullgraph=True)
    torch.testing.assert_close(
        compiled(logits, maps, points), mk.boundary_loss(logits, maps, points)
    )


def test_empty_batch_costs_nothing():
    for reduction, shape in (("mean", ()), ("sum", ()), ("none", (0,))):
        loss = mk.boundary_loss(
            torch.zeros(0, 2, 3),
            torch.zeros(0, 2, 3),
            torch.zeros(0, 3).long(),
            reduction=reduction,
        )
        assert torch.equal(loss, torch.zeros(shape))


def test_numpy_in_numpy_out():
    logits, maps, points = (t.numpy() for t in problem())
    loss = mk.boundary_loss(logits, maps, points)
    assert isinstance(loss, np.ndarray)
    assert loss == pytest.approx(eager(*problem()).item())


def test_peak_memory_of_the_backward_is_one_gradient():
    """No softmax is kept between forward and backward: only the inputs are."""
    logits, maps, points = problem((1, 3, 40))
    logits.requires_grad_()
    kept = []

    def pack(t):
        kept.append(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        torch.ops.medkern.boundary_loss(logits, maps, points)
    assert set(kept) == {t.data_ptr() for t in (logits, maps, points)}


BAD = {
    "one class": (
        lambda z, m, p: (z[:, :1], m[:, :1], p),
        {},
        ValueError,
        r"logits must have at least 2 classes, got \(2, 1, 5, 7\); give the background a channel",
    ),
    "too few axes": (
        lambda z, m, p: (z[0, 0], m[0, 0], None),
        {},
        ValueError,
        r"logits must be \[B, K, \*space\], got \(5, 7\); add",
    ),
    "empty space": (
        lambda z, m, p: (z[..., :0], m[..., :0], None),
        {},
        ValueError,
        r"logits must have no empty spatial axis, got \(2, 4, 5, 0\); only the batch",
    ),
    "maps of other classes": (
        lambda z, m, p: (z, m[:, :2], p),
        {},
        ValueError,
        r"maps must be \[B, 4 or 3, \*space\] for logits \(2, 4, 5, 7\), got \(2, 2, 5, 7\)",
    ),
    "maps of the foreground only": (
        lambda z, m, p: (z, m[:, 1:], p),
        {"include_background": True},
        ValueError,
        r"maps must be \[B, 4, \*space\] for logits \(2, 4, 5, 7\), got \(2, 3, 5, 7\)",
    ),
    "maps of another size": (
        lambda z, m, p: (z, m[..., 1:], p),
        {},
        ValueError,
        r"maps must be .*, got \(2, 4, 5, 6\)",
    ),
    "points with a channel": (
        lambda z, m, p: (z, m, p[:, None]),
        {},
        ValueError,
        r"points must be \[B, \*space\], \(2, 5, 7\), got \(2, 1, 5, 7\); pass one label",
    ),
    "floating points": (
        lambda z, m, p: (z, m, p.double()),
        {},
        TypeError,
        r"points must be one of uint8, int64, .*, got float64; convert it, for example points.long",
    ),
    "integer logits": (
        lambda z, m, p: (z.long(), m, p),
        {},
        TypeError,
        r"logits must be one of float16, .*, got int64; convert it, for example logits.float",
    ),
    "boolean maps": (
        lambda z, m, p: (z, m > 0, p),
        {},
        TypeError,
        r"maps must be one of .*, got bool",
    ),
    "no such reduction": (
        lambda z, m, p: (z, m, p),
        {"reduction": "median"},
        ValueError,
        r"reduction must be one of 'mean', 'sum', 'none', got 'median'",
    ),
    "label above the classes": (
        lambda z, m, p: (z, m, torch.full_like(p, 4)),
        {},
        RuntimeError,
        r"points must be below 4, the number of classes, got 35 labels above in sample 0; mark",
    ),
}


@pytest.mark.parametrize(("change", "how", "error", "text"), BAD.values(), ids=list(BAD))
def test_errors_say_what_is_wrong(change, how, error, text):
    with pytest.raises(error, match="medkern.boundary_loss: " + text):
        mk.boundary_loss(*change(*problem()), **how)


def test_module_refuses_an_unknown_reduction():
    with pytest.raises(ValueError, match=re.escape("BoundaryLoss: reduction must be one of")):
        mk.losses.BoundaryLoss(reduction="max")


def test_direct_calls_are_checked():
    logits, maps, points = problem()
    loss, backward = torch.ops.medkern.boundary_loss, torch.ops.medkern._boundary_loss_backward
    grad = torch.ones(2, 3, dtype=torch.float64)
    for args in [
        (logits, maps[:1], points),
        (logits, maps[:, :0], points),
        (logits[:, :2], maps, points),
        (logits, maps[..., :-1], points),
        (logits, maps, points[:, :-1]),
        (logits, maps, points.int()),
        (logits, maps.long(), points),
        (logits[0], maps[0], points[0]),
    ]:
        with pytest.raises(RuntimeError):
            loss(*args)
    for wrong in (grad[:1], grad[:, :2], grad.float()):
        with pytest.raises(RuntimeError):
            backward(logits, wrong, maps, points)
    # A label that names no class is met as an error by the forward; the backward must only be safe.
    far = torch.full_like(points, 1 << 40)
    assert backward(logits, grad, maps, far).isfinite().all()


def test_cross_entropy_of_full_labels_is_torchs():
    logits, maps, _ = problem((2, 4, 16, 16), torch.float32)
    labels = torch.randint(0, 4, (2, 16, 16))
    got = mk.boundary_loss(logits, maps, labels, alpha=0.0, include_background=True)
    torch.testing.assert_close(got, F.cross_entropy(logits, labels))

"""Jacobian determinants against NumPy and SimpleITK, the smoothness loss against VoxelMorph's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medkern as mk
from medkern.ops.field import _jacobian_backward, _smoothness_backward
from medkern.reference import field as reference

HALVES = (torch.float16, torch.bfloat16)


def field(*shape, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def by_numpy(u, spacing):
    """det(1 + du/dx) of one field [D, *space]."""
    axes = u.shape[0]
    slopes = [
        [np.gradient(u[i].numpy(), spacing[j], axis=j) for j in range(axes)] for i in range(axes)
    ]
    jacobian = np.moveaxis(np.array(slopes), (0, 1), (-2, -1)) + np.eye(axes)
    return np.linalg.det(jacobian)


@pytest.mark.parametrize("space", [(5, 7), (2, 40), (4, 5, 6), (2, 3, 70)], ids=str)
def test_determinant_equals_numpy(space):
    u = field(2, len(space), *space)
    spacing = (2.5, 1.0, 0.8)[: len(space)]
    got = mk.jacobian_determinant(u, spacing=spacing)
    assert got.shape == (2, 1, *space)
    for sample in range(2):
        want = by_numpy(u[sample], spacing)
        np.testing.assert_allclose(got[sample, 0].numpy(), want, rtol=0, atol=1e-12)
    rows = [[1.0] * len(space), list(spacing)]
    each = mk.jacobian_determinant(u, spacing=rows)
    assert torch.equal(each[1], got[1])
    assert torch.equal(each[:1], mk.jacobian_determinant(u[:1]))


def test_determinant_equals_simpleitk_inside():
    sitk = pytest.importorskip("SimpleITK")
    u = field(1, 3, 8, 9, 10, scale=0.3)
    image = sitk.GetImageFromArray(u[0].flip(0).movedim(0, -1).numpy(), isVector=True)
    want = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inside = (slice(1, -1),) * 3
    got = mk.jacobian_determinant(u)[0, 0].numpy()
    np.testing.assert_allclose(got[inside], want[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_linear_fields(axes):
    space = (6, 7, 5)[:axes]
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in space], indexing="ij"))
    for a in (0.0, 0.25, -0.5):
        det, folds = mk.jacobian_determinant(a * grid[None], return_folding=True)
        torch.testing.assert_close(det, torch.full_like(det, (1 + a) ** axes))
        assert folds.tolist() == [0]
    det, folds = mk.jacobian_determinant(-2.0 * grid[None, :], return_folding=True)
    assert (det == (-1.0) ** axes).all()
    assert folds.tolist() == [det.numel() if axes == 3 else 0]
    matrix = torch.tensor([[0.1, 0.4, -0.2], [0.3, -0.2, 0.5], [0.7, 0.1, 0.2]])[:axes, :axes]
    linear = torch.einsum("ij,j...->i...", matrix, grid)[None]
    det = mk.jacobian_determinant(linear)
    torch.testing.assert_close(
        det, torch.full_like(det, torch.linalg.det(matrix + torch.eye(axes)))
    )


def test_a_constructed_fold_is_counted():
    u = torch.zeros(2, 2, 10, 12)
    u[1, 1, 4, 6] = -3.0  # columns 5 and 7 see a slope of -1.5 and +1.5
    det, folds = mk.jacobian_determinant(u, return_folding=True)
    assert folds.dtype == torch.int64
    assert folds.tolist() == [0, 1]
    assert (det <= 0).nonzero().tolist() == [[1, 0, 4, 5]]
    leaf = u.clone().requires_grad_()
    with_grad = mk.jacobian_determinant(leaf, return_folding=True)
    assert torch.equal(with_grad[0], det)
    assert torch.equal(with_grad[1], folds)
    assert with_grad[0].requires_grad
    u[0, 0, 0, 0] = torch.nan
    det, folds = mk.jacobian_determinant(u, return_folding=True)
    assert folds.tolist() == [0, 1]
    assert det[0].isnan().any()
    assert det[1].isfinite().all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=2),
    st.integers(1, 70),
    st.sampled_from([*HALVES, torch.float32, torch.float64]),
    st.sampled_from(["l1", "l2"]),
)
def test_kernels_equal_the_reference(lead, width, dtype, penalty):
    space = (*lead, width)
    u = field(2, len(space), *space, dtype=dtype)
    spacing = torch.tensor([[2.0, 0.5, 1.25], [1.0, 3.0, 0.7]], dtype=torch.float64)
    spacing = spacing[:, : len(space)]
    grad, each = field(2, 1, *space, dtype=dtype), field(2, 1)
    wide = u.double()
    ops = torch.ops.medkern
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    pairs = (
        (ops.jacobian_determinant(u, spacing), reference.jacobian_determinant(wide, spacing)),
        (
            ops._jacobian_backward(grad, u, spacing),
            reference.jacobian_backward(grad.double(), wide, spacing),
        ),
        (
            ops.diffusion_smoothness_loss(u, spacing, penalty),
            reference.smoothness(wide, spacing, penalty),
        ),
        (
            ops._diffusion_smoothness_loss_backward(each.to(compute), u, spacing, penalty),
            reference.smoothness_backward(each.to(compute).double(), wide, spacing, penalty),
        ),
    )
    eps = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 1e-5, torch.float64: 1e-13}
    for got, want in pairs:
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got.double(), want, rtol=0, atol=eps[dtype] * scale)


def grad_loss(u, penalty, spacing=(1.0, 1.0, 1.0)):
    """VoxelMorph's Grad, differences divided by the spacing."""
    terms = []
    for axis in range(u.dim() - 2):
        d = torch.diff(u, dim=axis + 2) / spacing[axis]
        d = d.abs() if penalty == "l1" else d * d
        terms.append(d.flatten(1).mean(1))
    return (sum(terms) / len(terms)).mean()


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("space", [(9,), (5, 33), (4, 5, 6)], ids=str)
def test_smoothness_equals_voxelmorphs(penalty, space):
    u = field(3, 2, *space).requires_grad_()
    spacing = (2.5, 1.0, 0.8)[: len(space)]
    got = mk.diffusion_smoothness_loss(u, spacing=spacing, penalty=penalty)
    want = grad_loss(u, penalty, spacing)
    torch.testing.assert_close(got, want, rtol=1e-13, atol=0)
    (a,), (b,) = torch.autograd.grad(got, u), torch.autograd.grad(want, u)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_float32_sums_keep_their_digits():
    u = field(1, 1, 64, 64, 64, dtype=torch.float32)
    got, want = mk.diffusion_smoothness_loss(u), grad_loss(u.double(), "l2")
    assert got.dtype == torch.float32
    assert abs(got.item() / want.item() - 1) < 3e-7


def test_derivatives():
    for shape in ((1, 2, 3, 4), (1, 3, 2, 3, 2)):
        u = field(*shape).requires_grad_()
        spacing = torch.tensor([[1.2, 0.7, 0.9]], dtype=torch.float64)[:, : shape[1]]
        grad = field(1, 1, *shape[2:]).requires_grad_()

        def det(t, s=spacing):
            return mk.jacobian_determinant(t, spacing=s)

        assert torch.autograd.gradcheck(det, u, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(det, u)
        backward = lambda g, t, s=spacing: _jacobian_backward(g, t, s)  # noqa: E731
        assert torch.autograd.gradcheck(backward, (grad, u), check_forward_ad=True)
        one = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
        for penalty in ("l1", "l2"):
            slope = lambda g, t, s=spacing, p=penalty: _smoothness_backward(g, t, s, p)  # noqa: E731
            assert torch.autograd.gradcheck(slope, (one, u), check_forward_ad=True)


def test_special_sizes():
    assert mk.diffusion_smoothness_loss(torch.zeros(0, 2, 3, 4)) == 0
    assert mk.diffusion_smoothness_loss(torch.ones(1, 2, 1, 1)) == 0
    assert mk.diffusion_smoothness_loss(torch.full((1, 1, 4), torch.nan)).isnan()
    assert torch.equal(mk.jacobian_determinant(torch.ones(1, 2, 1, 1)), torch.ones(1, 1, 1, 1))
    det, folds = mk.jacobian_determinant(torch.zeros(0, 3, 2, 3, 4), return_folding=True)
    assert det.shape == (0, 1, 2, 3, 4)
    assert folds.shape == (0,)


def test_numpy_in_numpy_out_and_compile():
    u = field(1, 2, 6, 7, dtype=torch.float32)
    det, folds = mk.jacobian_determinant(u.numpy(), return_folding=True)
    assert isinstance(det, np.ndarray)
    assert isinstance(folds, np.ndarray)

    def loss(t):
        det, folds = mk.jacobian_determinant(t, return_folding=True)
        return (-det).relu().mean() + mk.diffusion_smoothness_loss(t), folds

    leaf = u.requires_grad_()
    compiled, folds = torch.compile(loss, fullgraph=True)(leaf)
    torch.testing.assert_close(compiled, loss(leaf)[0])
    compiled.backward()


BAD = {
    "components": (
        mk.jacobian_determinant,
        lambda u: (u[:, :1], {}),
        ValueError,
        r"displacement must have a component per spatial axis, \[B, 2, \*space\], got",
    ),
    "integers": (
        mk.jacobian_determinant,
        lambda u: (u.long(), {}),
        TypeError,
        "displacement must be one of float16, .* got int64; convert",
    ),
    "spacing": (
        mk.jacobian_determinant,
        lambda u: (u, {"spacing": (1.0, -1.0)}),
        ValueError,
        "spacing must be a positive number",
    ),
    "penalty": (
        mk.diffusion_smoothness_loss,
        lambda u: (u, {"penalty": "l3"}),
        ValueError,
        "penalty must be one of 'l2', 'l1', got 'l3'",
    ),
    "axes": (
        mk.diffusion_smoothness_loss,
        lambda u: (u[0, 0], {}),
        ValueError,
        r"displacement must have 3 or 4 or 5 axes, \[B, C, \*space\], got \(5, 6\)",
    ),
    "empty": (
        mk.diffusion_smoothness_loss,
        lambda u: (u[..., :0], {}),
        ValueError,
        "displacement must have no empty spatial axis",
    ),
}


@pytest.mark.parametrize(("op", "change", "error", "text"), BAD.values(), ids=list(BAD))
def test_errors_say_what_is_wrong(op, change, error, text):
    u, how = change(field(1, 2, 5, 6))
    with pytest.raises(error, match=rf"medkern.{op.__name__}: .*" + text):
        op(u, **how)


def test_direct_calls_are_checked():
    ops, u, ones = torch.ops.medkern, field(1, 2, 3, 4), torch.ones(1, 2, dtype=torch.float64)
    for call in (
        lambda: ops.jacobian_determinant(u[:, :1], ones),
        lambda: ops.jacobian_determinant(u, ones[:, :1]),
        lambda: ops._jacobian_backward(u, u, ones),
        lambda: ops.diffusion_smoothness_loss(u, ones, "l3"),
        lambda: ops._diffusion_smoothness_loss_backward(u, u, ones, "l2"),
    ):
        with pytest.raises(RuntimeError):
            call()

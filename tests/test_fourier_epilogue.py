"""The fused epilogue of a Fourier layer against torch's own ops, and its GELU against mpmath."""

import re

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import medkern as mk
from medkern.ops.fourier_epilogue import _fourier_epilogue_backward

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)
# A tile is 256 pixels, or 64 of more than 128 channels; a chunk of the sums is four tiles or more.
SIZES = [
    (1, 12, 12, (5, 11, 37)),
    (2, 3, 5, (700,)),
    (3, 1, 1, (16, 16)),
    (1, 64, 64, (9, 31)),
    (1, 33, 17, (257,)),
    (1, 150, 130, (13, 7)),
    (2, 16, 16, (1, 1)),
    (5, 4, 4, (80, 81)),
]


def problem(batch, inputs, outputs, space, dtype=torch.float64):
    def numbers(*shape):
        return torch.randn(shape, dtype=torch.float64).to(dtype)

    compute = torch.float64 if dtype == torch.float64 else torch.float32
    k, x = numbers(batch, outputs, *space), numbers(batch, inputs, *space)
    weight = (numbers(outputs, inputs) / inputs**0.5).to(compute)
    return k, x, weight, numbers(outputs).to(compute)


def plain(k, x, weight, bias=None, *, activation="gelu", residual=True):
    """As everyone writes it: a 1x1 convolution, then elementwise."""
    conv = (F.conv1d, F.conv2d, F.conv3d)[k.dim() - 3]
    y = k + conv(x, weight[(..., *[None] * (k.dim() - 2))], bias)
    y = F.gelu(y) if activation == "gelu" else y
    return y + x if residual else y


def tolerance(dtype):
    eps = torch.finfo(dtype).eps
    return {"rtol": 2 * eps if dtype in HALVES else 8 * eps, "atol": 32 * eps}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_plain_layer(size, dtype):
    k, x, weight, bias = problem(*size, dtype)
    wide = [t.double() for t in (k, x, weight, bias)]
    for activation in ("gelu", "none"):
        for residual in {False, size[1] == size[2]}:
            how = {"activation": activation, "residual": residual}
            for given in (3, 4):
                got = mk.fourier_epilogue(*(k, x, weight, bias)[:given], **how)
                assert got.dtype == dtype
                assert got.is_contiguous()
                torch.testing.assert_close(
                    got.double(), plain(*wide[:given], **how), **tolerance(dtype)
                )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_equal_the_plain_layers(size, dtype):
    tensors = problem(*size, dtype)
    grad = torch.randn(tensors[0].shape).to(dtype)
    for activation, residual in (("gelu", size[1] == size[2]), ("none", False), ("gelu", False)):
        how = {"activation": activation, "residual": residual}
        ours = [t.detach().clone().requires_grad_() for t in tensors]
        theirs = [t.detach().double().clone().requires_grad_() for t in tensors]
        mk.fourier_epilogue(*ours, **how).backward(grad)
        plain(*theirs, **how).backward(grad.double())
        for a, b in zip(ours, theirs, strict=True):
            assert a.grad.dtype == a.dtype
            scale = b.grad.abs().max()
            eps = torch.finfo(a.dtype).eps
            torch.testing.assert_close(
                a.grad.double() / scale, b.grad / scale, rtol=0, atol=64 * eps
            )


def test_finite_differences():
    *tensors, weight, bias = problem(2, 3, 3, (2, 5))
    inputs = [t.requires_grad_() for t in (*tensors, weight, bias)]
    assert torch.autograd.gradcheck(
        mk.fourier_epilogue, inputs, check_forward_ad=True, check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(mk.fourier_epilogue, inputs)
    k, x, weight, _ = problem(1, 2, 4, (3,))

    def run(*tensors):
        return mk.fourier_epilogue(*tensors, activation="none", residual=False)

    assert torch.autograd.gradcheck(run, [t.requires_grad_() for t in (k, x, weight)])


def test_sums_over_many_pixels_keep_their_digits():
    """Of ones, float32 sums would stop at 2^24; of a large mean they would drift."""
    k, x, _, _ = problem(1, 2, 2, (1 << 20,), torch.float32)
    x = x * 0.01 + 100
    weight = torch.zeros(2, 2, requires_grad=True)
    bias = torch.zeros(2, requires_grad=True)
    mk.fourier_epilogue(k, x, weight, bias, activation="none", residual=False).sum().backward()
    expected = x.double().sum((0, 2)).expand(2, 2)
    torch.testing.assert_close(weight.grad.double(), expected, rtol=2e-7, atol=0)
    assert bias.grad.tolist() == [2.0**20] * 2


def test_threads_change_no_bit():
    tensors = problem(3, 12, 12, (65, 130), torch.float32)
    grad = torch.randn(tensors[0].shape)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = mk.fourier_epilogue(*tensors)
            results.append((y, *_fourier_epilogue_backward(grad, *tensors, "gelu", True)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))


def test_layouts_change_no_bit():
    k, x, weight, bias = problem(2, 6, 6, (10, 12), torch.float32)
    expected = mk.fourier_epilogue(k, x, weight, bias)
    last = {"memory_format": torch.channels_last}
    padded = F.pad(x, (1, 2, 3, 1))[..., 3:-1, 1:-2]
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    swapped = x.transpose(0, 1).contiguous().transpose(0, 1)
    for other in (x.contiguous(**last), padded, turned, swapped):
        assert torch.equal(mk.fourier_epilogue(k.contiguous(**last), other, weight, bias), expected)
        assert torch.equal(mk.fourier_epilogue(k, other, weight.T.contiguous().T, bias), expected)
    row = x[:, :, :1].expand(-1, -1, 10, -1)
    packed = mk.fourier_epilogue(k, row.contiguous(), weight, bias)
    assert torch.equal(mk.fourier_epilogue(k, row, weight, bias), packed)
    leaf = x.clone().requires_grad_()
    (ones,) = torch.autograd.grad(mk.fourier_epilogue(k, leaf, weight).sum(), leaf)
    grad = torch.ones_like(k).contiguous(**last)
    (last_ones,) = torch.autograd.grad(mk.fourier_epilogue(k, leaf, weight), leaf, grad)
    assert torch.equal(ones, last_ones)


def test_batch_does_not_matter():
    k, x, weight, bias = problem(3, 5, 5, (9, 40), torch.float32)
    whole = mk.fourier_epilogue(k, x, weight, bias)
    for i in range(3):
        alone = mk.fourier_epilogue(k[i : i + 1], x[i : i + 1], weight, bias)
        assert torch.equal(alone, whole[i : i + 1])


def test_dtypes_meet_in_the_wider_one():
    k, x, weight, bias = problem(1, 4, 4, (20,), torch.float32)
    for of_k in FLOATS:
        for of_x in FLOATS:
            dtype = torch.promote_types(of_k, of_x)
            inputs = [t.clone().requires_grad_() for t in (k.to(of_k), x.to(of_x), weight, bias)]
            y = mk.fourier_epilogue(*inputs)
            assert y.dtype == dtype
            compute = dtype if dtype == torch.float64 else torch.float32
            expected = plain(*(t.detach().to(compute) for t in inputs)).to(dtype)
            torch.testing.assert_close(y, expected)
            y.sum().backward()
            assert all(t.grad.dtype == t.dtype for t in inputs)


def test_autocast_keeps_dtypes():
    k, x, weight, bias = problem(1, 4, 4, (20,), torch.float32)
    for dtype in HALVES:
        low = mk.fourier_epilogue(k.to(dtype), x.to(dtype), weight, bias)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(mk.fourier_epilogue(k.to(dtype), x.to(dtype), weight, bias), low)
            wide = mk.fourier_epilogue(k, x, weight, bias)
        assert torch.equal(wide, mk.fourier_epilogue(k, x, weight, bias))


def gelu(values, dtype=torch.float64):
    """Of the values, and the derivative: all by the kernel."""
    s = torch.as_tensor(values, dtype=dtype).view(1, 1, -1)
    nothing, zero = torch.zeros_like(s), torch.zeros(1, 1, dtype=dtype)
    y = mk.fourier_epilogue(s, nothing, zero, residual=False)
    ones = torch.ones_like(s)
    slope, *_ = _fourier_epilogue_backward(ones, s, nothing, zero, None, "gelu", False)
    return y.flatten(), slope.flatten()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gelu_to_its_last_digits(dtype):
    """Relative to the value also where Phi is tiny, down to the smallest normal numbers."""
    lowest = -12.9 if dtype == torch.float32 else -37.4
    dense = torch.linspace(-6, 6, 1500, dtype=torch.float64)
    tail = torch.linspace(lowest, -6, 500, dtype=torch.float64)
    small = torch.logspace(-30, -1, 200, dtype=torch.float64)
    s = torch.cat([dense, tail, small, -small, torch.linspace(6, 60, 50)]).to(dtype)
    eps = torch.finfo(dtype).eps
    for value, y, slope in zip(s.tolist(), *map(torch.Tensor.tolist, gelu(s, dtype)), strict=True):
        with mpmath.workdps(50):
            z = mpmath.mpf(value)
            cdf, pdf = mpmath.ncdf(z), mpmath.npdf(z)
            assert abs(y - z * cdf) <= 7 * eps * abs(z * cdf), value
            assert abs(slope - (cdf + z * pdf)) <= 2 * eps, value
            if value < -2:
                assert abs(slope - (cdf + z * pdf)) <= 8 * eps * abs(cdf + z * pdf), value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_special_values(dtype):
    special = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e30, -1e30, -14.5, -39.5, 1e-40, 100.0]
    s = torch.tensor(special, dtype=dtype)
    y, slope = gelu(s, dtype)
    expected = F.gelu(s.double()).to(dtype)  # in float32 torch makes NaN of inf, too
    torch.testing.assert_close(y, expected, equal_nan=True, rtol=1e-6, atol=1e-37)
    limits = torch.tensor([0.5, 0.5, 1, 0, torch.nan, 1, 0, 0, 0, 0.5, 1], dtype=dtype)
    torch.testing.assert_close(slope, limits, equal_nan=True, rtol=1e-6, atol=1e-37)


def test_nan_and_inf_stay_in_their_pixels():
    k, x, weight, bias = problem(1, 3, 3, (4, 90), torch.float32)
    k[0, 1, 2, 7], x[0, 2, 0, 5], x[0, 0, 3, 89] = torch.nan, torch.nan, torch.inf
    bad = ~mk.fourier_epilogue(k, x, weight, bias).isfinite()
    assert bad[0].any(0).nonzero().tolist() == [[0, 5], [2, 7], [3, 89]]
    assert bad[0, :, 2, 7].tolist() == [False, True, False]


def test_empty_batch_and_space():
    for shape in ((0, 3, 4), (2, 3, 0), (2, 3, 4, 0)):
        tensors = [torch.zeros(shape), torch.zeros(shape), torch.eye(3), torch.zeros(3)]
        tensors = [t.requires_grad_() for t in tensors]
        y = mk.fourier_epilogue(*tensors)
        assert y.shape == shape
        y.sum().backward()
        assert [t.grad.abs().sum().item() for t in tensors] == [0] * 4


def test_numpy_in_numpy_out():
    k, x, weight, bias = (t.numpy() for t in problem(1, 2, 2, (5,)))
    y = mk.fourier_epilogue(k, x, weight, bias)
    assert isinstance(y, np.ndarray)
    torch.testing.assert_close(
        torch.from_numpy(y), plain(*map(torch.from_numpy, (k, x, weight, bias)))
    )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"k": torch.zeros(3, 4)}, ValueError, "k must be [B, C_out, *space]"),
        ({"k": torch.zeros(1, 0, 4)}, ValueError, "with at least one channel, got (1, 0, 4)"),
        ({"x": torch.zeros(1, 3, 5)}, ValueError, "x must be [1, C_in, 4], as k, got (1, 3, 5)"),
        ({"x": torch.zeros(2, 3, 4)}, ValueError, "x must be [1, C_in, 4], as k"),
        ({"weight": torch.eye(4)}, ValueError, "weight must be [C_out, C_in], (3, 3), got (4, 4)"),
        ({"weight": torch.zeros(3, 3, 1)}, ValueError, "flatten the weight of a 1x1 convolution"),
        ({"bias": torch.zeros(4)}, ValueError, "bias must be [C_out], (3,), got (4,)"),
        (
            {"x": torch.zeros(1, 2, 4), "weight": torch.zeros(3, 2)},
            ValueError,
            "x must have the 3 channels of k where it is added to the result, got 2; pass residual",
        ),
        ({"activation": "relu"}, ValueError, "activation must be one of 'gelu', 'none', got"),
        ({"k": torch.zeros(1, 3, 4).long()}, TypeError, "k must be one of float16, bfloat16"),
        ({"bias": torch.zeros(3).to(torch.complex64)}, TypeError, "bias must be one of"),
        ({"x": torch.zeros(1, 3, 4, device="meta")}, ValueError, "x must be on the device of k"),
        ({"weight": [1.0]}, TypeError, "weight must be a torch tensor"),
    ],
)
def test_errors(change, error, text):
    given = {"k": torch.zeros(1, 3, 4), "x": torch.zeros(1, 3, 4), "weight": torch.eye(3)}
    with pytest.raises(
        error, match=re.escape("medkern.fourier_epilogue: ") + ".*" + re.escape(text)
    ):
        mk.fourier_epilogue(**{**given, **change})


def test_direct_calls_are_checked():
    op = torch.ops.medkern.fourier_epilogue
    k, x, weight, _ = problem(1, 3, 3, (4,), torch.float32)
    for args, text in (
        ((k, x[:, :2], weight[:, :2], None, "gelu", True), "a residual needs"),
        ((k, x, weight[:2], None, "gelu", True), "weight must be"),
        ((k, x, weight, torch.zeros(2), "gelu", True), "bias must be"),
        ((k, x[..., :3], weight, None, "gelu", True), "the same space"),
        ((k, x, weight, None, "silu", True), "activation must be"),
    ):
        with pytest.raises(RuntimeError, match=text):
            op(*args)
    with pytest.raises(RuntimeError, match="grad must have the shape of k"):
        _fourier_epilogue_backward(k[..., :2], k, x, weight, None, "gelu", True)

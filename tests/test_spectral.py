"""Truncated spectral convolution: against the FFT layer, brute force and SciPy, and its laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.signal
import torch

import medkern as mk
from medkern.ops.kept_modes import _dft_kept, _idft_kept, _mode_mix
from medkern.rules import spectral as rules

FLOAT64 = torch.float64
HALVES = (torch.float16, torch.bfloat16)


def problem(shape, modes, out=3, dtype=FLOAT64):
    x = torch.randn(shape, dtype=FLOAT64).to(dtype)
    wide = dtype if dtype == FLOAT64 else torch.float32
    weight = torch.randn(shape[1], out, *modes, 2, dtype=FLOAT64).to(wide)
    return x, torch.view_as_complex(weight)


def fft_layer(x, weight, modes, norm="backward"):
    """What users of Fourier neural operators write: rfftn, a product of the corners, irfftn."""
    axes, size = tuple(range(2, x.dim())), x.shape[2:]
    spectrum = torch.fft.rfftn(x, dim=axes, norm=norm)
    out = spectrum.new_zeros(x.shape[0], weight.shape[1], *spectrum.shape[2:])
    last = slice(0, modes[-1])
    for signs in itertools.product((False, True), repeat=len(modes) - 1):
        corner, block = [], []
        for negative, m in zip(signs, modes, strict=False):
            half = m // 2
            corner.append(slice(-half, None) if negative else slice(0, m - half))
            block.append(slice(0, half) if negative else slice(half, None))
        if any(s and m == 1 for s, m in zip(signs, modes, strict=False)):
            continue
        corner, block = (..., *corner, last), (..., *block, last)
        out[corner] = torch.einsum("bi...,io...->bo...", spectrum[corner], weight[block])
    return torch.fft.irfftn(out, s=size, dim=axes, norm=norm)


def brute_force(x, weight, modes, size):
    """The definition, one exponential at a time, sampled on any grid."""
    space = x.shape[2:]
    signed = [np.arange(-(m // 2), (m + 1) // 2) for m in modes[:-1]] + [np.arange(modes[-1])]
    y = np.zeros((x.shape[0], weight.shape[1], *size))
    for index in itertools.product(*(range(m) for m in modes)):
        k = [s[i] for s, i in zip(signed, index, strict=True)]

        def wave(grid, sign, k=k):
            phase = sum(
                a * np.arange(n).reshape([-1 if i == j else 1 for i in range(len(grid))]) / n
                for j, (a, n) in enumerate(zip(k, grid, strict=True))
            )
            return np.exp(sign * 2j * np.pi * phase)

        coefficient = (x * wave(space, -1)).sum(tuple(range(2, x.ndim)))
        mixed = coefficient @ weight[(..., *index)]
        count = 1 if k[-1] == 0 or 2 * k[-1] == space[-1] else 2
        y += count * (mixed[(..., *[None] * len(size))] * wave(size, 1)).real
    return y / math.prod(space)


GRIDS = [
    ((9,), (3,)),
    ((8,), (5,)),  # the Nyquist mode is kept
    ((1,), (1,)),
    ((40,), (18,)),
    ((8, 10), (4, 3)),
    ((8, 10), (8, 6)),  # everything is kept
    ((7, 9), (5, 5)),
    ((7, 9), (7, 5)),
    ((6, 5), (1, 1)),
    ((10, 6), (5, 4)),
    ((2, 3), (2, 2)),
    ((18, 150), (4, 20)),
    ((31, 33), (12, 11)),
    ((4, 6, 8), (2, 4, 3)),
    ((5, 4, 7), (5, 4, 4)),
    ((6, 3, 70), (3, 2, 9)),
]
each_grid = pytest.mark.parametrize(("space", "modes"), GRIDS, ids=str)


@each_grid
@pytest.mark.parametrize("method", ["dft", "fft"])
def test_equals_fft_layer(space, modes, method):
    x, weight = problem((2, 3, *space), modes, out=2)
    expected = fft_layer(x, weight, modes)
    for norm in rules.NORMS:
        y = mk.spectral_conv(x, weight, modes, norm=norm, method=method)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    single = mk.spectral_conv(x.float(), weight.to(torch.complex64), modes, method=method)
    error = (single.double() - expected).abs().max() / expected.abs().max()
    assert single.dtype == torch.float32
    assert error < 1e-5


@each_grid
def test_gradients_equal_those_of_the_fft_layer(space, modes):
    x, weight = problem((2, 3, *space), modes, out=2)
    leaves = (x.requires_grad_(), weight.requires_grad_())
    grad = torch.randn(2, 2, *space, dtype=FLOAT64)
    expected = torch.autograd.grad(fft_layer(*leaves, modes), leaves, grad)
    for method in ("dft", "fft"):
        y = mk.spectral_conv(*leaves, modes, method=method)
        for a, e in zip(torch.autograd.grad(y, leaves, grad), expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("space", "modes", "size"),
    [
        ((5,), (2,), (8,)),
        ((6,), (4,), (9,)),
        ((4, 5), (3, 3), (7, 4)),
        ((5, 4), (4, 2), (5, 3)),
        ((3, 4, 5), (2, 3, 2), (4, 4, 3)),
    ],
    ids=str,
)
def test_equals_brute_force_on_any_grid(space, modes, size):
    x, weight = problem((1, 2, *space), modes, out=2)
    expected = brute_force(x.numpy(), weight.numpy(), modes, size)
    if space == (6,):  # the Nyquist mode of a real signal is a cosine
        expected = brute_force(x.numpy(), weight.numpy()[..., :3], (3,), size)
        nyquist = (x.numpy() * (-1.0) ** np.arange(6)).sum(-1) @ weight.numpy()[..., 3].real
        wave = np.cos(2 * np.pi * 3 * np.arange(9) / 9)
        expected = expected + nyquist[..., None] * wave / 6
    for method in ("dft", "fft"):
        y = mk.spectral_conv(x, weight, modes, method=method, output_size=size)
        np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-12)


def identity(channels, modes):
    one = torch.eye(channels, dtype=torch.complex128).reshape(channels, channels, *[1] * len(modes))
    return one.expand(channels, channels, *modes)


@pytest.mark.parametrize(
    ("space", "size"), [((7, 9), (14, 12)), ((8, 10), (13, 25)), ((9,), (33,))]
)
def test_resampling_is_scipys(space, size):
    """All modes kept, identity weights: exact Fourier interpolation, the Nyquist modes included."""
    modes = (*space[:-1], space[-1] // 2 + 1)
    x = torch.randn(2, 2, *space, dtype=FLOAT64)
    expected = x.numpy()
    for axis, n in enumerate(size):
        expected = scipy.signal.resample(expected, n, axis=axis + 2)
    for method in ("dft", "fft"):
        y = mk.spectral_conv(x, identity(2, modes), modes, output_size=size, method=method)
        np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-12)


def test_coarsening_is_scipys():
    x = torch.randn(1, 1, 15, 21, dtype=FLOAT64)
    y = mk.spectral_conv(x, identity(1, (9, 6)), (9, 6), output_size=(9, 11))
    expected = scipy.signal.resample(scipy.signal.resample(x.numpy(), 9, axis=2), 11, axis=3)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-12)


def band_limited(space, scale):
    """A random trigonometric polynomial, sampled `scale` times as finely."""
    size = [scale * n for n in space]
    modes = (*[n - 1 + n % 2 for n in space[:-1]], (space[-1] + 1) // 2)
    z = torch.randn(1, 2, *modes, 2, generator=torch.Generator().manual_seed(1), dtype=FLOAT64)
    return mk.ops.spectral._idft_kept(z, size, size, True, 0.0, FLOAT64, "dft")


@pytest.mark.parametrize("space", [(16, 12), (9, 15), (6, 5, 8)], ids=str)
@pytest.mark.parametrize("norm", ["backward", "forward"])
def test_resolution_equivariance(space, norm):
    modes = (*[3] * (len(space) - 1), 3)
    _, weight = problem((1, 2, *space), modes)
    coarse = mk.spectral_conv(band_limited(space, 1), weight, modes, norm=norm)
    fine = mk.spectral_conv(band_limited(space, 2), weight, modes, norm=norm)
    every_other = fine[(..., *[slice(None, None, 2)] * len(space))]
    torch.testing.assert_close(every_other, coarse, rtol=1e-12, atol=1e-12)


@each_grid
@pytest.mark.parametrize("weighted", [False, True])
def test_transforms_are_adjoint(space, modes, weighted):
    """<A x, z> = <x, A* z>, on grids of which the Nyquist modes lie elsewhere too."""
    x = torch.randn(1, 2, *space, dtype=FLOAT64)
    z = torch.randn(1, 2, *modes, 2, dtype=FLOAT64)
    for grid in (list(space), [max(2 * m - 2, m, 1) for m in modes]):
        for method in ("dft", "fft"):
            there = _dft_kept(x, modes, grid, weighted, -0.7, method)
            back = _idft_kept(z, space, grid, weighted, -0.7, FLOAT64, method)
            torch.testing.assert_close((there * z).sum(), (x * back).sum())


def test_mixing_is_adjoint_in_both_arguments():
    for conj_a, conj_b in itertools.product((False, True), repeat=2):
        a, b, c = (torch.randn(n, m, 5, 2, dtype=FLOAT64) for n, m in ((2, 3), (4, 3), (2, 4)))
        leaves = (a.requires_grad_(), b.requires_grad_())
        product = (_mode_mix(a, b, conj_a, conj_b) * c).sum()
        da, db = torch.autograd.grad(product, leaves)
        torch.testing.assert_close((da * a).sum(), product)
        torch.testing.assert_close((db * b).sum(), product)


def test_real_and_complex_weights_are_the_same():
    x, weight = problem((2, 3, 8, 9), (4, 3))
    real = torch.view_as_real(weight).clone().requires_grad_()
    leaf = weight.clone().requires_grad_()
    a, b = mk.spectral_conv(x, real, (4, 3)), mk.spectral_conv(x, leaf, (4, 3))
    assert torch.equal(a, b)
    a.sum().backward()
    b.sum().backward()
    assert torch.equal(real.grad, torch.view_as_real(leaf.grad))
    assert leaf.grad.stride() == leaf.stride()


@each_grid
def test_bias_is_a_constant(space, modes):
    x, weight = problem((2, 2, *space), modes)
    bias = torch.randn(3, dtype=FLOAT64, requires_grad=True)
    for norm in rules.NORMS:
        y = mk.spectral_conv(x, weight, modes, bias=bias, norm=norm)
        plain = mk.spectral_conv(x, weight, modes, norm=norm)
        constant = bias.reshape(-1, *[1] * len(space)).expand_as(y)
        torch.testing.assert_close(y - plain, constant, rtol=1e-11, atol=1e-11)
        (grad,) = torch.autograd.grad(y.sum(), bias)
        torch.testing.assert_close(grad, torch.full_like(grad, 2.0 * math.prod(space)))


@pytest.mark.parametrize("method", ["dft", "fft"])
@pytest.mark.parametrize("size", [None, (5, 7)])
def test_derivatives(method, size):
    x, weight = problem((2, 2, 4, 5), (3, 3), out=1)
    bias = torch.randn(1, dtype=FLOAT64)
    leaves = tuple(t.requires_grad_() for t in (x, torch.view_as_real(weight).clone(), bias))

    def f(x, w, b):
        how = {"method": method, "output_size": size}
        return mk.spectral_conv(x, w, (3, 3), bias=b, **how)

    assert torch.autograd.gradcheck(f, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, leaves)


@pytest.mark.parametrize(("conj_a", "conj_b"), list(itertools.product((False, True), repeat=2)))
def test_derivatives_of_the_mixing(conj_a, conj_b):
    a, b = torch.randn(2, 3, 2, 2, dtype=FLOAT64), torch.randn(3, 3, 2, 2, dtype=FLOAT64)
    leaves = (a.requires_grad_(), b.transpose(0, 1).requires_grad_())

    def f(a, b):
        return _mode_mix(a, b, conj_a, conj_b)

    assert torch.autograd.gradcheck(f, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, leaves, check_fwd_over_rev=True)


def saved_bytes(run):
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = run()
    return kept, out


def test_backward_needs_the_kept_modes_only():
    x, weight = problem((2, 4, 32, 32), (6, 4), out=4, dtype=torch.float32)
    real = torch.view_as_real(weight).clone().requires_grad_()
    kept, _ = saved_bytes(lambda: mk.spectral_conv(x.requires_grad_(), real, (6, 4)))
    weights = kept.pop(real.untyped_storage().data_ptr())
    assert weights == real.numel() * 4
    assert sum(kept.values()) == 2 * 4 * 6 * 4 * 2 * 4  # B C modes, complex float32


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("method", ["dft", "fft"])
def test_half_precision_is_computed_in_float32(dtype, method):
    x, weight = problem((2, 3, 40, 50), (8, 6), dtype=dtype)
    x = x.abs().requires_grad_()  # sums to far above the range of float16
    y = mk.spectral_conv(x * 30, weight, (8, 6), method=method)
    wide = x.detach().double().requires_grad_()
    expected = fft_layer((wide * 30).to(dtype).double(), weight.to(torch.complex128), (8, 6))
    assert y.dtype == dtype
    scale = expected.abs().max().item()
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=scale * torch.finfo(dtype).eps)
    grad = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, grad)
    (reference,) = torch.autograd.grad(expected, wide, grad.double())
    assert dx.dtype == dtype
    bound = 2 * reference.abs().max().item() * torch.finfo(dtype).eps
    torch.testing.assert_close(dx.double(), reference, rtol=0, atol=bound)


def test_half_weights_and_autocast():
    x, weight = problem((2, 3, 8, 9), (4, 3), dtype=torch.bfloat16)
    real = torch.view_as_real(weight)
    low = mk.spectral_conv(x, real.bfloat16(), (4, 3))
    assert torch.equal(low, mk.spectral_conv(x, real.bfloat16().float(), (4, 3)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mk.spectral_conv(x, weight, (4, 3)), mk.spectral_conv(x, real, (4, 3)))
        assert mk.spectral_conv(x.float(), weight, (4, 3)).dtype == torch.float32


@pytest.mark.parametrize("method", ["dft", "fft"])
def test_strides_do_not_change_bits(method):
    x, weight = problem((2, 4, 6, 10), (4, 3), dtype=torch.float32)
    for strided in (
        x.contiguous(memory_format=torch.channels_last),
        x.transpose(2, 3)[..., :6],
        x[:, :, ::2],
        x[:, :, :1].expand(-1, -1, 4, -1),
        x.flip(3)[..., 1:],
    ):
        y = mk.spectral_conv(strided, weight[:, :, :3], (3, 3), method=method)
        packed = strided.contiguous(memory_format=torch.contiguous_format)
        assert torch.equal(y, mk.spectral_conv(packed, weight[:, :, :3], (3, 3), method=method))
        assert y.is_contiguous()
    turned = weight.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(
        mk.spectral_conv(x, turned, (4, 3)), mk.spectral_conv(x, weight.contiguous(), (4, 3))
    )


def test_shifts_commute():
    x, weight = problem((1, 2, 9, 12), (5, 4))
    moved = mk.spectral_conv(x.roll((2, -3), (2, 3)), weight, (5, 4))
    expected = mk.spectral_conv(x, weight, (5, 4)).roll((2, -3), (2, 3))
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


def test_compiles_and_exports_whole():
    x, weight = problem((2, 3, 8, 10), (4, 3), dtype=torch.float32)
    real = torch.view_as_real(weight).clone().requires_grad_()
    bias = torch.randn(3)

    def f(x, w):
        return mk.spectral_conv(x, w, (4, 3), bias=bias).relu()

    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, real), f(x, real))
    (actual,) = torch.autograd.grad(compiled(x, real).sum(), real)
    (expected,) = torch.autograd.grad(f(x, real).sum(), real)
    torch.testing.assert_close(actual, expected)

    layer = mk.nn.SpectralConv(3, 3, (4, 3))
    sizes = {"x": {2: torch.export.Dim("height", min=8, max=64)}}
    program = torch.export.export(layer, (x,), dynamic_shapes=sizes)
    values = [n.meta.get("val") for n in program.graph.nodes]
    assert not any(torch.is_tensor(v) and v.is_complex() for v in values)
    taller = torch.randn(2, 3, 12, 10)
    torch.testing.assert_close(program.module()(taller), layer(taller))


def test_numpy_in_numpy_out():
    x, weight = problem((1, 2, 6, 7), (3, 2))
    y = mk.spectral_conv(x.numpy(), weight.numpy(), (3, 2))
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, mk.spectral_conv(x, weight, (3, 2)).numpy())


def test_special_values_stay_in_their_sample():
    x, weight = problem((3, 2, 6, 7), (3, 2))
    x[1, 0, 2, 3] = torch.nan
    y = mk.spectral_conv(x, weight, (3, 2))
    assert y.isnan().flatten(1).all(1).tolist() == [False, True, False]
    x[1, 0, 2, 3] = torch.inf
    assert not mk.spectral_conv(x, weight, (3, 2))[1].isfinite().any()
    assert mk.spectral_conv(x[:0], weight, (3, 2)).shape == (0, 3, 6, 7)


def test_explain_tells_the_method():
    torch.use_deterministic_algorithms(False)
    x, weight = problem((1, 2, 256, 256), (256, 129), dtype=torch.float32)
    everything = mk.explain("spectral_conv", x, weight, (256, 129))
    few = mk.explain("spectral_conv", x, weight[:, :, :8, :4], (8, 4))
    assert few.runs == "native, method dft"
    assert "method fft" in few.reasons
    assert few.reasons["method fft"].startswith("dft about")
    forced = mk.explain("spectral_conv", x, weight, (256, 129), "fft")
    assert forced.reasons["method dft"] == "method='fft' was asked for"
    assert everything.runs.endswith("method fft")
    torch.use_deterministic_algorithms(True)
    assert mk.explain("spectral_conv", x, weight, (256, 129)).runs.endswith("method dft")


def test_method_auto_is_one_of_both():
    torch.use_deterministic_algorithms(False)
    for modes in ((4, 3), (96, 49)):
        x, weight = problem((1, 1, 96, 96), modes, out=1, dtype=torch.float32)
        auto = mk.spectral_conv(x, weight, modes)
        both = [mk.spectral_conv(x, weight, modes, method=m) for m in ("dft", "fft")]
        assert any(torch.equal(auto, one) for one in both)


X = torch.zeros(2, 3, 8, 10)
W = torch.zeros(3, 4, 4, 3, 2)
BAD = {
    "no such norm": ((X, W, (4, 3)), {"norm": "unitary"}, ValueError, "norm must be one of"),
    "no such method": ((X, W, (4, 3)), {"method": "fht"}, ValueError, "method must be one of"),
    "modes not a sequence": ((X, W, 4), {}, TypeError, "modes must be a sequence of 1, 2 or 3"),
    "no modes": ((X, W, (0, 3)), {}, ValueError, "modes must be at least 1, got 0"),
    "fractional modes": ((X, W, (4, 3.0)), {}, TypeError, "modes must be an int, got 3.0"),
    "axes": (
        (X[0], W, (4, 3)),
        {},
        ValueError,
        r"x must be \[B, C, \*space\] with 2 spatial axes, .*, got \(3, 8, 10\)",
    ),
    "empty space": ((X[..., :0], W, (4, 3)), {}, ValueError, "x must have no empty spatial axis"),
    "more rows than the grid": (
        (X, W, (9, 3)),
        {},
        ValueError,
        r"modes must be at most \(8, 6\) on the grid of x, \(8, 10\), got \(9, 3\); keep fewer",
    ),
    "more columns than the half spectrum": (
        (X, W, (8, 7)),
        {},
        ValueError,
        r"modes must be at most \(8, 6\) on the grid of x, \(8, 10\), got \(8, 7\)",
    ),
    "more modes than the result": (
        (X, W, (4, 3)),
        {"output_size": (3, 10)},
        ValueError,
        r"modes must be at most \(3, 6\) on the output grid, \(3, 10\), got \(4, 3\)",
    ),
    "weight of other channels": (
        (X[:, :2], W, (4, 3)),
        {},
        ValueError,
        r"weight must be complex \[2, C_out, 4, 3\], or real .*, got \(3, 4, 4, 3, 2\)",
    ),
    "weight of other modes": ((X, W, (4, 2)), {}, ValueError, "weight must be complex"),
    "integers": ((X.long(), W, (4, 3)), {}, TypeError, "x must be one of float16, .*, got int64"),
    "integer weight": ((X, W.long(), (4, 3)), {}, TypeError, "weight must be one of float16"),
    "bias": (
        (X, W, (4, 3)),
        {"bias": torch.zeros(3)},
        ValueError,
        r"bias must be \[C_out\], \(4,\), got \(3,\)",
    ),
    "output_size": (
        (X, W, (4, 3)),
        {"output_size": (8,)},
        TypeError,
        "output_size must be a sequence of 2 ints",
    ),
    "device": (
        (X, W.to("meta"), (4, 3)),
        {},
        ValueError,
        "weight must be on the device of x, cpu, got meta",
    ),
}


@pytest.mark.parametrize(("args", "how", "error", "text"), BAD.values(), ids=list(BAD))
def test_errors_say_what_is_wrong(args, how, error, text):
    with pytest.raises(error, match="medkern.spectral_conv: " + text):
        mk.spectral_conv(*args, **how)


def test_direct_calls_are_checked():
    dft, idft, mix = (
        getattr(torch.ops.medkern, n) for n in ("_dft_kept", "_idft_kept", "_mode_mix")
    )
    z = torch.zeros(1, 1, 4, 3, 2)
    for args in (
        (X, [9, 3], [9, 10], False, 1.0, "dft"),
        (X, [4, 3], [3, 10], False, 1.0, "dft"),
        (X, [4], [8, 10], False, 1.0, "dft"),
        (X, [4, 3], [8, 10], False, 1.0, "dht"),
        (X.long(), [4, 3], [8, 10], False, 1.0, "dft"),
        (torch.zeros(1, 1, 2, 2, 2, 2), [1] * 4, [2] * 4, False, 1.0, "dft"),
    ):
        with pytest.raises(RuntimeError):
            dft(*args)
    for args in (
        (z, [3, 5], [8, 10], True, 1.0, torch.float32, "dft"),
        (z, [8, 10], [8, 10], True, 1.0, torch.float64, "dft"),
        (z, [8, 10], [8, 10], True, 1.0, torch.int64, "dft"),
        (z[..., :1], [8, 10], [8, 10], True, 1.0, torch.float32, "dft"),
    ):
        with pytest.raises(RuntimeError):
            idft(*args)
    a = torch.zeros(2, 3, 4, 2)
    for b in (a[:, :2], a[:, :, :3], a.double(), a[..., :1], a[0]):
        with pytest.raises(RuntimeError):
            mix(a, b, False, False)


@pytest.mark.parametrize(
    ("count", "modes", "kept"),
    [
        ("kept", (60, 36), (60, 36)),
        ("total", (60, 72), (60, 36)),
        ("neuraloperator", (60, 72), (60, 37)),
        ("per_sign", (12, 12), (24, 12)),
        ("total", (40, 48, 56), (40, 48, 28)),
    ],
)
def test_ways_of_counting_modes(count, modes, kept):
    assert rules.kept_modes("f", modes, count) == kept


def dht(x, axes):
    spectrum = torch.fft.fftn(x, dim=axes)
    return spectrum.real - spectrum.imag


@pytest.mark.parametrize(("space", "modes"), [((9, 8), (5, 3)), ((6, 5, 8), (3, 3, 2))], ids=str)
def test_hartley_convolution(space, modes):
    """Against the full Hartley transform of all axes, one real weight per signed mode."""
    axes = tuple(range(2, 2 + len(space)))
    x = torch.randn(2, 3, *space, dtype=FLOAT64)
    shared = torch.randn(3, 2, dtype=FLOAT64)
    each = torch.randn(3, 2, *modes, 2, dtype=FLOAT64)
    grid = torch.zeros(3, 2, *space, dtype=FLOAT64)
    ones = torch.zeros(space, dtype=FLOAT64)
    for index in itertools.product(*(range(m) for m in modes)):
        k = [i - m // 2 for i, m in zip(index[:-1], modes[:-1], strict=True)] + [index[-1]]
        for sign in (0, 1):
            at = tuple((-a if sign else a) % n for a, n in zip(k, space, strict=True))
            share = 0.5 if k[-1] == 0 else 1.0
            grid[(..., *at)] += share * each[(..., *index, sign)]
            ones[at] = 1
    spectrum = dht(x, axes)
    for weight, dense in ((each, grid), (shared, shared[(..., *[None] * len(space))] * ones)):
        mixed = torch.einsum("bi...,io...->bo...", spectrum, dense.expand(3, 2, *space))
        expected = dht(mixed, axes) / math.prod(space)
        for method in ("dft", "fft"):
            y = mk.hartley_conv(x, weight, modes, method=method)
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    bias = torch.ones(2, dtype=FLOAT64)
    lifted = mk.hartley_conv(x, shared, modes, bias=bias) - mk.hartley_conv(x, shared, modes)
    torch.testing.assert_close(lifted, torch.ones_like(lifted))
    layer = mk.nn.HartleyConv(3, 2, modes, weights="individual", bias=True, dtype=FLOAT64)
    assert torch.equal(layer(x), mk.hartley_conv(x, layer.weight, modes, bias=layer.bias))
    with pytest.raises(ValueError, match=r"hartley_conv: weight must be \[3, C_out\], or have"):
        mk.hartley_conv(x, torch.zeros(2, 2), modes)

"""Layers of Fourier neural operators, and weights of neuraloperator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import medkern as mk
from medkern.nn.tucker import TuckerWeight, tucker_ranks

FLOAT64 = torch.float64


def complex_weight(layer):
    return torch.view_as_complex(layer.dense_weight().contiguous())


@pytest.mark.parametrize("factorization", [None, "tucker"])
@pytest.mark.parametrize(
    ("modes", "shape"), [((5,), (2, 3, 12)), ((6, 4), (2, 3, 9, 10)), ((4, 3, 2), (1, 3, 6, 5, 7))]
)
def test_spectral_layer_calls_the_op(modes, shape, factorization):
    layer = mk.nn.SpectralConv(3, 4, modes, factorization=factorization, rank=0.6)
    nn.init.normal_(layer.bias)
    x = torch.randn(shape)
    expected = mk.spectral_conv(x, complex_weight(layer), modes, bias=layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    size = [n + 3 for n in shape[2:]]
    assert layer(x, output_size=size).shape == (shape[0], 4, *size)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
    assert "modes=" in repr(layer)


def test_tucker_product_is_the_complex_one():
    layer = mk.nn.SpectralConv(3, 4, (6, 5), factorization="tucker", rank=0.5, dtype=FLOAT64)
    core = torch.view_as_complex(layer.weight.core.detach())
    u = [torch.view_as_complex(f.detach()) for f in layer.weight.factors]
    expected = torch.einsum("abcd,ia,jb,kc,ld->ijkl", core, *u)
    torch.testing.assert_close(complex_weight(layer).detach(), expected)


def test_initial_weights_have_the_given_size():
    for factorization in (None, "tucker"):
        layer = mk.nn.SpectralConv(
            8, 8, (20, 12), factorization=factorization, rank=0.5, init_std=0.3
        )
        found = complex_weight(layer).abs().square().mean().sqrt().item()
        assert found == pytest.approx(0.3, rel=0.5 if factorization else 0.03)
    default = mk.nn.SpectralConv(8, 4, (20, 12))
    assert complex_weight(default).abs().square().mean().sqrt().item() == pytest.approx(
        1 / 32, rel=0.05
    )


def test_tucker_weights_are_made_once_in_eval_mode():
    layer = mk.nn.SpectralConv(2, 2, (4, 3), factorization="tucker").eval()
    with torch.no_grad():
        first = layer.dense_weight()
        assert layer.dense_weight() is first
        layer.weight.core.mul_(2)
        torch.testing.assert_close(layer.dense_weight(), 2 * first)
    assert layer.dense_weight().requires_grad
    assert set(layer.state_dict()) == {"bias", "weight.core"} | {
        f"weight.factors.{i}" for i in range(4)
    }


@pytest.mark.parametrize(
    ("width", "layers", "total", "reported"),
    [
        (16, 6, (40, 48), 1.3e6),
        (32, 12, (40, 48), 10.0e6),
        (32, 12, (60, 72), 22.8e6),
        (12, 15, (40, 48, 56), 98.1e6),
    ],
)
def test_numbers_of_parameters_are_those_of_the_paper(width, layers, total, reported):
    dense = mk.nn.SpectralConv(width, width, total, count="total", bias=False, device="meta")
    assert dense.weight.numel() == width**2 * math.prod(total)
    tucker = TuckerWeight((width, width, *dense.modes), 0.42, device="meta")
    count = layers * sum(p.numel() for p in tucker.parameters())
    assert count == pytest.approx(reported, rel=0.06 if reported < 2e6 else 0.03)


@pytest.mark.parametrize(
    ("space", "modes"), [((12,), (4,)), ((8, 9), (4, 3)), ((4, 6, 5), (2, 3, 2))]
)
def test_fourier_layer(space, modes):
    layer = mk.nn.FourierLayer(3, modes, count="kept", norm="forward")
    x = torch.randn(2, 3, *space)
    plain = nn.functional.gelu(layer.spectral(x) + layer.pointwise(x))
    torch.testing.assert_close(layer(x), plain + x)
    layer.residual = False
    torch.testing.assert_close(layer(x), plain)
    assert isinstance(mk.nn.FourierLayer(3, modes, activation=nn.ReLU()).activation, nn.ReLU)


@pytest.mark.parametrize(
    ("activation", "fused"),
    [
        (None, True),
        (nn.Identity(), True),
        (nn.GELU("tanh"), False),
        (nn.ReLU(), False),
        (nn.Sequential(nn.GELU()), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_fourier_layer_fuses_what_follows_the_spectral_convolution(
    activation, fused, bias, residual, monkeypatch
):
    calls = []

    def counted(*args, **how):
        calls.append(how)
        return mk.fourier_epilogue(*args, **how)

    monkeypatch.setattr("medkern.nn.spectral.fourier_epilogue", counted)
    layer = mk.nn.FourierLayer(
        3, (4, 3), activation=activation, residual=residual, bias=bias, dtype=FLOAT64
    )
    if bias:
        nn.init.normal_(layer.spectral.bias)
    x = torch.randn(2, 3, 8, 9, dtype=FLOAT64, requires_grad=True)
    y = layer(x)
    plain = layer.activation(layer.spectral(x) + layer.pointwise(x))
    plain = plain + x if residual else plain
    torch.testing.assert_close(y, plain)
    assert len(calls) == fused
    grad, parameters = torch.randn_like(y), [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(y, parameters, grad),
        torch.autograd.grad(plain, parameters, grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_fourier_layer_calls_modules_that_took_the_place_of_its_own():
    layer, x = mk.nn.FourierLayer(3, (4, 3)), torch.randn(1, 3, 8, 9)
    nn.init.normal_(layer.spectral.bias)
    before = layer(x)
    for module in (layer.pointwise, layer.spectral):
        seen = []
        hook = module.register_forward_hook(lambda *_, seen=seen: seen.append(_[2]))
        torch.testing.assert_close(layer(x), before)
        hook.remove()
        torch.testing.assert_close(seen, [module(x)])
    layer.pointwise = nn.Sequential(layer.pointwise, nn.Tanh())
    assert not torch.equal(layer(x), before)


def test_fourier_layer_keeps_its_state_dict_and_autocast_its_dtypes():
    layer = mk.nn.FourierLayer(3, (4, 3))
    assert list(layer.state_dict()) == ["spectral.weight", "spectral.bias", "pointwise.weight"]
    x = torch.randn(1, 3, 8, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), layer(x.float()))
        low = layer(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(x), rtol=0.03, atol=0.03)


class FirstLayer(nn.Module):
    """The layer of the first FNO: both corners of the spectrum, each with weights of its own."""

    def __init__(self, width, modes1, modes2):
        super().__init__()
        self.weights1, self.weights2 = (
            nn.Parameter(torch.randn(width, width, modes1, modes2, dtype=torch.complex64) / width)
            for _ in range(2)
        )
        self.w = nn.Conv2d(width, width, 1)

    def forward(self, x):
        m1, m2 = self.weights1.shape[2:]
        z = torch.fft.rfft2(x)
        out = torch.zeros_like(z)
        for rows, weights in ((slice(m1), self.weights1), (slice(-m1, None), self.weights2)):
            out[:, :, rows, :m2] = torch.einsum("bixy,ioxy->boxy", z[:, :, rows, :m2], weights)
        return nn.functional.gelu(torch.fft.irfft2(out, s=x.shape[-2:]) + self.w(x))


def test_takes_the_place_of_the_first_fnos_layer():
    theirs = FirstLayer(4, 5, 6)
    ours = mk.nn.FourierLayer(4, (5, 6), count="per_sign", residual=False)
    with torch.no_grad():
        corners = torch.cat([theirs.weights2, theirs.weights1], dim=2)  # from -m to m - 1
        ours.spectral.weight.copy_(torch.view_as_real(corners))
        ours.spectral.bias.copy_(theirs.w.bias)
        ours.pointwise.weight.copy_(theirs.w.weight)
    for space in ((16, 20), (23, 17)):
        x = torch.randn(2, 4, *space)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_fourier_layer_compiles_and_trains():
    torch._dynamo.reset()
    layer = mk.nn.FourierLayer(3, (4, 3), factorization="tucker", rank=0.5)
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(
        torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x)
    )
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    target, losses = torch.randn(2, 3, 9, 8), []
    for _ in range(8):
        loss = (layer(x) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def plain_fourier_unit(unit, x, dims):
    """As the authors write it: complex numbers, stacked."""
    size = [x.shape[d] for d in dims]
    z = (
        torch.view_as_real(torch.fft.rfftn(x, dim=dims, norm=unit.norm))
        .movedim(-1, 2)
        .flatten(1, 2)
    )
    z = torch.relu(unit.batch_norm(unit.conv(z)))
    z = torch.view_as_complex(z.unflatten(1, (-1, 2)).movedim(2, -1).contiguous())
    return torch.fft.irfftn(z, s=size, dim=dims, norm=unit.norm)


@pytest.mark.parametrize(
    ("space", "how", "dims"),
    [
        ((9, 12), {}, (2, 3)),
        ((8, 7), {"preset": "paper"}, (2,)),
        ((8, 7), {"fft_dims": (-1,), "norm": "backward"}, (3,)),
        ((4, 5, 6), {"preset": "paper"}, (2, 3, 4)),
        ((4, 5, 6), {"fft_dims": (-3, -1)}, (2, 4)),
        ((11,), {}, (2,)),
    ],
    ids=str,
)
def test_fourier_unit(space, how, dims):
    unit = mk.nn.FourierUnit(3, 4, len(space), **how).double()
    x = torch.randn(2, 3, *space, dtype=FLOAT64)
    torch.testing.assert_close(unit(x), plain_fourier_unit(unit, x, dims))
    preset = how.get("preset", "fixed")
    assert unit.norm == how.get("norm", "ortho" if preset == "paper" else "forward")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert unit.float()(x.bfloat16()).shape == (2, 4, *space)


def test_fixed_spectra_do_not_depend_on_the_resolution_and_the_papers_do():
    def mean_spectrum(n, preset):
        t = torch.arange(n, dtype=FLOAT64) / n
        x = torch.cos(2 * torch.pi * (t[:, None] + 2 * t)).expand(1, 1, n, n)
        unit = mk.nn.FourierUnit(1, 1, preset=preset, fft_dims=(-2, -1)).double()
        seen = []
        unit.conv.register_forward_hook(lambda m, args, out: seen.append(args[0]))
        unit(x)
        return seen[0].abs().max()

    assert mean_spectrum(32, "fixed") == pytest.approx(mean_spectrum(16, "fixed"))
    assert mean_spectrum(32, "paper") == pytest.approx(2 * mean_spectrum(16, "paper"))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_spectral_transform(ndim):
    layer = mk.nn.SpectralTransform(4, 6, ndim)
    x = torch.randn(2, 4, *[6, 5, 7][:ndim], requires_grad=True)
    r = layer.reduce(x)
    y = layer(x)
    torch.testing.assert_close(y, layer.expand(r + layer.unit(r)))
    y.sum().backward()
    assert x.grad is not None
    torch._dynamo.reset()
    if ndim == 2:
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), y)


# neuraloperator


def neuralop_layer(*args, **how):
    module = pytest.importorskip("neuralop.layers.spectral_convolution")
    layer = module.SpectralConv(*args, **how)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.mark.parametrize("factorization", [None, "tucker"])
@pytest.mark.parametrize(
    ("n_modes", "space"), [((10,), (24,)), ((8, 6), (16, 20)), ((4, 6, 8), (8, 10, 12))], ids=str
)
def test_equals_neuraloperator(n_modes, space, factorization):
    theirs = neuralop_layer(3, 4, n_modes, factorization=factorization, rank=0.5)
    state = {f"fno.convs.0.{k}": v for k, v in theirs.state_dict().items()}
    ours = mk.nn.SpectralConv(3, 4, n_modes, count="neuraloperator")
    ours.load_neuraloperator(state, prefix="fno.convs.0.")
    x = torch.randn(2, 3, *space)
    expected = theirs(x)
    error = (ours(x) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5
    if factorization:
        same = mk.nn.SpectralConv(
            3, 4, n_modes, count="neuraloperator", factorization="tucker", rank=0.5
        )
        same.load_neuraloperator(theirs.state_dict())
        torch.testing.assert_close(same(x), ours(x), rtol=1e-4, atol=1e-4)


def test_the_released_neuraloperator_is_wrong_on_odd_sizes_and_when_it_resamples():
    """Unit weights on all modes of a band-limited image: the layer must return it."""
    version = pytest.importorskip("importlib.metadata").version
    theirs = neuralop_layer(1, 1, (8, 8), bias=False)
    if version("neuraloperator") != "2.0.0":
        pytest.skip("known of 2.0.0")
    with torch.no_grad():
        theirs.weight.tensor.fill_(1)
    ours = mk.nn.SpectralConv(1, 1, (8, 8), count="neuraloperator", bias=False)
    ours.load_neuraloperator(theirs.state_dict())

    def image(*space):
        rows, columns = (torch.arange(n) / n for n in space)
        wave = 3 * columns - 2 * rows[:, None]
        return torch.cos(2 * torch.pi * wave).reshape(1, 1, *space)

    odd = image(33, 33)
    torch.testing.assert_close(ours(odd), odd, rtol=0, atol=1e-5)
    assert (theirs(odd) - odd).abs().max() > 0.5
    fine = image(64, 64)
    torch.testing.assert_close(ours(image(32, 32), output_size=(64, 64)), fine, rtol=0, atol=1e-5)
    assert (theirs(image(32, 32), output_shape=(64, 64)) - fine).abs().max() > 0.5


def test_checkpoints_that_do_not_fit_are_refused():
    layer = mk.nn.SpectralConv(2, 3, (4, 4), count="neuraloperator")
    before = layer.weight.clone()
    weight, bias = torch.randn(2, 3, 4, 3, dtype=torch.complex64), torch.randn(3, 1, 1)
    for state, text in (
        ({"weight.tensor": weight[:, :2], "bias": bias}, r"have weights \(2, 3, 4, 3\), got"),
        ({"weight.tensor": weight}, "hold a bias"),
        ({"bias": bias}, "hold weight.tensor, weight.core or weight"),
    ):
        with pytest.raises(ValueError, match=text):
            layer.load_neuraloperator(state)
    assert torch.equal(layer.weight, before)
    layer.load_neuraloperator({"weight": weight, "bias": bias})
    assert torch.equal(complex_weight(layer), weight)
    odd = mk.nn.SpectralConv(2, 3, (5, 4), count="neuraloperator")
    with pytest.raises(ValueError, match="modes must be even along full axes"):
        odd.load_neuraloperator({"weight": weight, "bias": bias})
    factored = mk.nn.SpectralConv(2, 3, (4, 3), factorization="tucker")
    with pytest.raises(ValueError, match="have the Tucker shapes"):
        factored.load_neuraloperator({"weight": weight, "bias": bias})


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: mk.nn.SpectralConv(2, 2, (4, 3), norm="l2"), ValueError, "norm must be one of"),
        (lambda: mk.nn.SpectralConv(2, 2, (4, 3), count="half"), ValueError, "count must be one"),
        (lambda: mk.nn.SpectralConv(2, 2, (4, 1), count="total"), ValueError, "at least 2, got 1"),
        (
            lambda: mk.nn.SpectralConv(2, 2, (4, 3), factorization="cp"),
            ValueError,
            "factorization must be one of None, 'tucker', got 'cp'",
        ),
        (lambda: tucker_ranks((3, 4), 0.0), ValueError, r"rank must be in \(0, 1\], got 0.0"),
        (lambda: mk.nn.HartleyConv(2, 2, (4, 3), weights="all"), ValueError, "weights must be one"),
        (lambda: mk.nn.FourierUnit(2, 2, 4), ValueError, "ndim must be one of 1, 2, 3, got 4"),
        (lambda: mk.nn.FourierUnit(2, 2, preset="new"), ValueError, "preset must be one of"),
        (
            lambda: mk.nn.FourierUnit(2, 2, fft_dims=(-3,)),
            ValueError,
            r"fft_dims must be different spatial axes from -2 to -1, got \(-3,\)",
        ),
        (lambda: mk.nn.SpectralTransform(2, 3), ValueError, "out_channels must be even, got 3"),
        (
            lambda: mk.nn.FourierUnit(2, 2)(torch.zeros(1, 2, 3)),
            ValueError,
            r"x must be \[B, C, \*space\] with 2 spatial axes, got \(1, 2, 3\)",
        ),
    ],
)
def test_errors_say_what_is_wrong(build, error, text):
    with pytest.raises(error, match=text):
        build()

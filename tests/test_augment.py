"""Fourier augmentation: Philox against published vectors, the literal chains, noise statistics."""

import numpy as np
import pytest
import torch

import medkern as mk
from medkern.reference import augment as reference
from medkern.reference.philox import normals, philox

SIZES = [(8, 10), (9, 7), (1, 6), (5, 1), (16, 64), (7, 33)]


def images(*shape, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype)


def stream(seed, first, count):
    index = torch.arange(first, first + count)
    return torch.stack([torch.full_like(index, seed), index], dim=1)


# -- the generator --

# counter, key and result, from kat_vectors of the authors' Random123
VECTORS = [
    ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_equals_the_authors_vectors(counter, key, expected):
    words = [torch.tensor(int(w, 16)) for w in counter.split()]
    keys = [torch.tensor(int(w, 16)) for w in key.split()]
    got = philox(tuple(words), tuple(keys))
    assert [f"{int(w):08x}" for w in got] == expected.split()


def test_normals_are_box_and_mullers():
    words = tuple(torch.randint(2**32, (4, 100)).unbind())
    u, v = ((words[0] >> 8) + 1).numpy() / 2**24, (words[1] >> 8).numpy() / 2**24
    z = np.sqrt(-2 * np.log(u)) * np.exp(2j * np.pi * v)
    first, second, *_ = normals(words)
    np.testing.assert_allclose(first, z.real, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(second, z.imag, rtol=1e-12, atol=1e-13)


# -- amplitude jitter --


def multipliers(size, seed, first=0, count=1, channels=1, dtype=torch.float64, **how):
    """What the kernel multiplied the half spectrum of a white image by."""
    x = torch.zeros(count, channels, *size, dtype=dtype)
    x[..., 0, 0] = 1
    y = mk.spectral_amplitude_jitter(x, seed=seed, first_sample=first, **how)
    spectrum = torch.fft.rfft2(y.double())
    assert spectrum.imag.abs().max() < 1e-6 * spectrum.abs().max()
    return spectrum.real


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-13)])
def test_kernel_noise_is_the_reference_stream(size, dtype, tolerance):
    for seed in (0, 2**63 - 1, 12345678901):
        want = reference.amplitude_noise(stream(seed, 2**31 - 3, 2), 3, size, 6.0, 0.5, False)
        got = multipliers(size, seed, 2**31 - 3, 2, 3, dtype)
        assert (got - want).abs().max() < tolerance * want.abs().max()


def test_noise_is_that_of_the_literal_chain():
    """Re IFFT of independent noise over the full spectrum: half the difference's variance off the
    bins that are their own conjugates, all of it there, and conjugate bins alike."""
    size, draws = (6, 8), 8192
    rows, columns = torch.meshgrid(
        torch.fft.fftfreq(6, 1 / 6), torch.fft.rfftfreq(8, 1 / 8), indexing="ij"
    )
    variance = 6.0 * (rows**2 + columns**2) / (3**2 + 4**2) + 0.5
    mu = torch.randn(draws, 6, 8, dtype=torch.float64)
    full = torch.cat([variance, variance[:, 1:-1].flip(-1)], dim=-1)
    mu = 1 + mu * full.sqrt()
    x = torch.zeros(1, 1, *size, dtype=torch.float64)
    x[..., 0, 0] = 1
    spectrum = torch.fft.fft2(x)
    chain = torch.fft.ifft2(torch.polar(spectrum.abs() * mu, spectrum.angle())).real
    literal = torch.fft.rfft2(chain).real[0]
    ours = multipliers(size, 3, 0, draws)[:, 0]
    for noise in (literal, ours):
        measured = noise.var(0)
        own = (rows * 2 % 6 == 0) & (columns * 2 % 8 == 0)
        expected = torch.where(own, variance, variance / 2)
        assert (noise.mean(0) - 1).abs().max() < 5 * (expected.max() / draws) ** 0.5
        assert (measured / expected - 1).abs().max() < 5 * (2 / draws) ** 0.5
        torch.testing.assert_close(noise[:, 1:, 0], noise[:, 1:, 0].flip(1))
        torch.testing.assert_close(noise[:, 1:, -1], noise[:, 1:, -1].flip(1))


def test_noise_is_normal_and_independent():
    mu = multipliers((64, 64), 11, 0, 4, 4)
    flat = reference.amplitude_noise(stream(11, 0, 4), 4, (64, 64), 0.0, 1.0, False)
    torch.testing.assert_close(
        multipliers((64, 64), 11, 0, 4, 4, alpha=0.0, beta=1.0), flat, rtol=1e-9, atol=1e-9
    )
    z = (flat[..., 1:-1] - 1) * 2**0.5  # [4, 4, 64, 31], one number a bin
    n = z.numel()
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert abs((z**3).mean()) < 5 * (15 / n) ** 0.5
    for axis in range(4):  # samples, channels, rows, columns
        a, b = z.narrow(axis, 0, z.shape[axis] - 1), z.narrow(axis, 1, z.shape[axis] - 1)
        assert abs((a * b).mean()) < 5 / a.numel() ** 0.5
    assert mu.flatten(0, 1).flatten(1).unique(dim=0).shape[0] == 16


def test_seed_splits_and_orders():
    x = images(5, 3, 12, 18, dtype=torch.float32)
    whole = mk.spectral_amplitude_jitter(x, seed=9)
    parts = [
        mk.spectral_amplitude_jitter(x[i : i + 2], seed=9, first_sample=i) for i in range(0, 5, 2)
    ]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert torch.equal(mk.spectral_amplitude_jitter(x, seed=9), whole)
    assert not torch.equal(mk.spectral_amplitude_jitter(x, seed=10), whole)
    reference_chain = mk.spectral_amplitude_jitter(x, seed=9, backend="reference")
    torch.testing.assert_close(reference_chain, whole, rtol=0, atol=2e-6 * whole.abs().max().item())


def test_generators():
    x = images(2, 1, 8, 8)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return mk.spectral_amplitude_jitter(x, generator=generator)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    torch.manual_seed(5)
    first = mk.spectral_amplitude_jitter(x)
    assert not torch.equal(mk.spectral_amplitude_jitter(x), first)
    torch.manual_seed(5)
    assert torch.equal(mk.spectral_amplitude_jitter(x), first)


def test_channels_share_noise_on_demand():
    x = images(1, 1, 8, 10).expand(1, 3, 8, 10)
    shared = mk.spectral_amplitude_jitter(x, seed=1, per_channel=False)
    torch.testing.assert_close(shared, shared[:, :1].expand_as(shared))
    own = mk.spectral_amplitude_jitter(x, seed=1)
    torch.testing.assert_close(own[:, 0], shared[:, 0])
    assert not torch.allclose(own[:, 1], own[:, 0])


def test_mean_keeps_its_sign_on_demand():
    mu = multipliers((8, 8), 2, 0, 500)[:, 0, 0, 0]
    assert 0.04 < (mu < 0).double().mean() < 0.13  # 8 %
    kept = multipliers((8, 8), 2, 0, 500, dc_clamp=True)[:, 0, 0, 0]
    torch.testing.assert_close(kept, mu.clamp(min=reference.DC_FLOOR))


def test_jitter_is_linear_and_its_own_adjoint():
    x, y = images(2, 2, 7, 12), images(2, 2, 7, 12)

    def jitter(t):
        return mk.spectral_amplitude_jitter(t, seed=4)

    torch.testing.assert_close(jitter(x - 2 * y), jitter(x) - 2 * jitter(y))
    torch.testing.assert_close((jitter(x) * y).sum(), (x * jitter(y)).sum())


# -- amplitude swap and mix --


def published_swap(source, target, beta):
    """The authors' NumPy code: shifted full spectra, a window, angles."""
    x, y = (np.fft.fft2(t.numpy()) for t in (source, target))
    amplitude, other = (np.fft.fftshift(np.abs(s), axes=(-2, -1)) for s in (x, y))
    h, w = x.shape[-2:]
    b, ch, cw = int(np.floor(min(h, w) * beta)), h // 2, w // 2
    window = np.s_[..., ch - b : ch + b + 1, cw - b : cw + b + 1]
    amplitude[window] = other[window]
    amplitude = np.fft.ifftshift(amplitude, axes=(-2, -1))
    return torch.from_numpy(np.fft.ifft2(amplitude * np.exp(1j * np.angle(x))).real)


@pytest.mark.parametrize("size", [*SIZES, (33, 32), (64, 65), (70, 20)], ids=str)
def test_swap_equals_the_authors_code(size):
    x, y = images(2, 3, *size), images(2, 3, *size)
    for beta in (0.0, 0.03, 0.09, 0.2, 0.37, 0.5):
        want = published_swap(x, y, beta)
        torch.testing.assert_close(mk.amplitude_swap(x, y, beta), want, rtol=0, atol=1e-12)
        single = mk.amplitude_swap(x.float(), y.float(), beta)
        torch.testing.assert_close(single.double(), want, rtol=0, atol=2e-6)


def test_mix_interpolates_amplitudes_and_keeps_phases():
    x, y = images(3, 2, 16, 16), images(3, 2, 16, 16)
    lam = torch.tensor([0.0, 0.3, 1.0])
    mixed = mk.amplitude_mix(x, y, lam)
    source, target, got = (torch.fft.fft2(t) for t in (x, y, mixed))
    share = lam.double().reshape(3, 1, 1, 1)
    torch.testing.assert_close(got.abs(), (1 - share) * source.abs() + share * target.abs())
    turned = got / got.abs() - source / source.abs()
    assert turned.abs().max() < 1e-8
    torch.testing.assert_close(mixed[2:], mk.amplitude_swap(x[2:], y[2:], 0.5))
    torch.testing.assert_close(mk.amplitude_mix(x, y, 0.3)[1], mixed[1])


def test_narrow_and_wide_windows_agree(monkeypatch):
    x, y = images(1, 2, 40, 64), images(1, 2, 40, 64)
    narrow = mk.amplitude_mix(x, y, 0.7, beta=0.1)
    monkeypatch.setattr(mk.ops.augment, "NARROW", 10**6)
    torch.testing.assert_close(mk.amplitude_mix(x, y, 0.7, beta=0.1), narrow)


def test_vanishing_source_takes_phase_zero():
    y = images(1, 1, 8, 32)
    zero = torch.zeros_like(y, requires_grad=True)
    out = mk.amplitude_swap(zero, y, 0.1)
    torch.testing.assert_close(torch.fft.fft2(out)[..., 0, 0].real, y.sum((-2, -1)))
    (grad,) = torch.autograd.grad(out.sum(), zero)
    assert grad.isfinite().all()


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_derivatives_of_the_mix(beta):
    x, y = (images(1, 1, 4, 17).requires_grad_() for _ in range(2))
    lam = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)

    def mix(a, b, share):
        return mk.amplitude_mix(a, b, share, beta)

    assert torch.autograd.gradcheck(mix, (x, y, lam), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(mix, (x, y, lam), fast_mode=True)


def test_truncated_transforms_of_many_modes():
    """More modes than a vector, in rows of every tail and blocks of every size."""
    low, add = torch.ops.medkern._low_modes, torch.ops.medkern._add_low_modes
    for height, width, radius in [(37, 80, 17), (6, 41, 33), (3, 5, 2), (1, 1, 0), (2, 300, 1)]:
        x = torch.randn(1, 2, height, width, dtype=torch.float64)
        modes = low(x, radius)
        torch.testing.assert_close(modes, reference.low_modes(x, radius))
        torch.testing.assert_close(add(x, modes), reference.add_low_modes(x, modes))
        other = torch.randn_like(modes)
        left, right = (modes * other).sum(), (x * (add(x, other) - x)).sum()
        torch.testing.assert_close(left, right)


def test_float32_modes_beside_a_large_mean():
    """The mean, 0.5 * 256^2, dwarfs the modes; their phases and amplitudes must not feel it."""
    x, y = images(2, 1, 1, 256, 256, dtype=torch.float32).unbind()
    modes = torch.ops.medkern._low_modes(x, 12)
    exact = torch.ops.medkern._low_modes(x.double(), 12)
    error = (modes - exact).abs()
    error[..., 12, 0, :] = 0
    assert error.max() < 1e-4  # of modes of size 100; 3e-4 by plain sums

    def gradients(source, target):
        leaves = [t.clone().requires_grad_() for t in (source, target)]
        out = mk.amplitude_swap(*leaves, 0.05)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).sin().reshape(out.shape)
        return torch.autograd.grad(out, leaves, weight.roll(7777))

    for single, double in zip(gradients(x, y), gradients(x.double(), y.double()), strict=True):
        assert (single - double).abs().max() < 4e-6 * double.abs().max()


# -- all of them --

CALLS = {
    "spectral_amplitude_jitter": lambda x, **how: mk.spectral_amplitude_jitter(x, seed=1, **how),
    "amplitude_swap": lambda x, **how: mk.amplitude_swap(x, x.flip(0), **how),
    "amplitude_mix": lambda x, **how: mk.amplitude_mix(x, x.flip(0), **how),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
class TestEveryAugmentation:
    def test_dtype_and_leading_axes_are_kept(self, call):
        for shape in ((2, 8, 32), (2, 3, 8, 32), (2, 1, 3, 8, 32)):
            x = images(*shape, dtype=torch.float32)
            for half in (torch.float16, torch.bfloat16):
                y = call(x.to(half))
                assert (y.shape, y.dtype) == (x.shape, half)
                torch.testing.assert_close(y.float(), call(x), rtol=2e-2, atol=6e-2)

    def test_compiles_whole(self, call):
        x = images(2, 2, 8, 32, dtype=torch.float32)
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(x)
        torch.testing.assert_close(compiled, call(x), rtol=1e-5, atol=1e-5)

    def test_numpy_in_numpy_out(self, call):
        x = images(2, 2, 8, 32)
        y = mk.spectral_amplitude_jitter(x.numpy(), seed=1)
        assert isinstance(y, np.ndarray)
        assert mk.amplitude_mix(x.numpy(), x.flip(0).numpy()).dtype == np.float64

    def test_empty_batch(self, call):
        assert call(torch.zeros(0, 3, 8, 32)).shape == (0, 3, 8, 32)

    def test_nan_stays_in_its_image(self, call):
        x = images(3, 2, 8, 32)
        x[0, 1, 2, 3] = torch.nan
        spoilt = call(x).isnan().any(-1).any(-1)
        assert spoilt[0, 1]
        assert not spoilt[:, 0].any()
        assert not spoilt[1].any()

    def test_bad_images(self, call):
        with pytest.raises(ValueError, match=r"must be \[B, ..., H, W\], got \(4, 5\); add"):
            call(torch.zeros(4, 5))
        with pytest.raises(ValueError, match=r"must have no empty spatial axis, got \(2, 0, 5\)"):
            call(torch.zeros(2, 0, 5))
        with pytest.raises(TypeError, match=r"must be one of float16, .*, got int64; convert"):
            call(torch.zeros(2, 4, 5).long())


BAD_JITTER = [
    ({"alpha": -1}, "alpha must be a finite number of at least 0, got -1"),
    ({"beta": float("nan")}, "beta must be a finite number of at least 0, got nan"),
    ({"seed": -1}, r"seed must be an int from 0 to 2\*\*63 - 1, got -1; pass one"),
    ({"seed": 2**63}, "seed must be an int from 0 to"),
    ({"seed": 1.0}, "seed must be an int from 0 to"),
    ({"seed": 1, "generator": torch.Generator()}, "seed must be None where a generator is given"),
    ({"first_sample": -1}, r"first_sample must be an int from 0 to 2\*\*31 - 1, got -1; pass"),
]


@pytest.mark.parametrize(("how", "text"), BAD_JITTER)
def test_bad_options_of_the_jitter(how, text):
    with pytest.raises(ValueError, match="medkern.spectral_amplitude_jitter: " + text):
        mk.spectral_amplitude_jitter(images(2, 1, 4, 4), **how)


BAD_MIX = [
    ({"beta": 0.6}, "beta must be a number from 0 to 0.5, got 0.6; it is the window's half width"),
    ({"beta": "0"}, "beta must be a number from 0 to 0.5, got '0'"),
    ({"lam": 1.5}, "lam must be a number from 0 to 1, got 1.5; pass the share"),
    ({"lam": torch.rand(3)}, r"lam must be a number or have one value per sample, \(2,\), got \(3"),
]


@pytest.mark.parametrize(("how", "text"), BAD_MIX)
def test_bad_options_of_the_mix(how, text):
    x = images(2, 1, 4, 4)
    with pytest.raises(ValueError, match="medkern.amplitude_mix: " + text):
        mk.amplitude_mix(x, x, **how)


def test_other_bad_pairs():
    x = images(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"amplitude_swap: target must have the shape of source"):
        mk.amplitude_swap(x, x[..., :3])
    with pytest.raises(ValueError, match="target must be on the device of the others, cpu"):
        mk.amplitude_swap(x, x.to("meta"))


def test_direct_calls_are_checked():
    x, keys = torch.randn(2, 3, 4, 6), stream(1, 0, 2)
    jitter = torch.ops.medkern._amplitude_jitter
    how = (6.0, 0.5, True, False)
    for args in [
        (x, keys[:1], *how),
        (x, keys.int(), *how),
        (x, keys[:, :1], *how),
        (x, keys, -1.0, 0.5, True, False),
        (x[..., :0], keys, *how),
    ]:
        with pytest.raises(RuntimeError):
            jitter(*args)
    for radius in (-1, 7):
        with pytest.raises(RuntimeError):
            torch.ops.medkern._low_modes(x, radius)
    for modes in (
        torch.zeros(2, 3, 3, 3, 2),
        torch.zeros(2, 3, 0, 0, 2),
        torch.zeros(2, 2, 3, 2, 2),
    ):
        with pytest.raises(RuntimeError):
            torch.ops.medkern._add_low_modes(x, modes)

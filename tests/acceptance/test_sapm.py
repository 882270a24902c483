"""Section 7 of the specification of SAPM; its first four items are also unit tests of the ops."""

import statistics
import time

import pytest
import torch

import medkern as mk
from medkern.recipes.sapm import METHODS, Sapm
from medkern.train import Training

pytestmark = pytest.mark.slow
SEEDS = (0, 1)


def test_jitter_is_the_papers_chain():
    """With the noise made visible: a delta's spectrum is 1, so the jittered delta is the noise."""
    height, width = 24, 30
    delta = torch.zeros(2, 3, height, width, dtype=torch.float64)
    delta[..., 0, 0] = 1
    mu = torch.fft.fft2(mk.spectral_amplitude_jitter(delta, seed=3)).real
    x = torch.rand(2, 3, height, width)
    spectrum = torch.fft.fft2(x.double())
    chain = torch.fft.ifft2(torch.polar(spectrum.abs(), spectrum.angle()) * mu).real
    found = mk.spectral_amplitude_jitter(x, seed=3).double()
    assert (found - chain).abs().max() < 1e-5 * chain.abs().max()
    assert (mk.spectral_amplitude_jitter(x, 0.0, 0.0) - x).abs().max() < 1e-6


def test_variance_by_radius():
    """4096 draws: alpha D + beta, halved away from the bins that are their own conjugates."""
    size, alpha, beta = 16, 6.0, 0.5
    delta = torch.zeros(4096, 1, size, size)
    delta[..., 0, 0] = 1
    mu = torch.fft.rfft2(mk.spectral_amplitude_jitter(delta, alpha, beta, seed=0)).real[:, 0]
    k = torch.fft.fftfreq(size) * size
    radius = (k[:, None] ** 2 + k[None, : size // 2 + 1] ** 2) / (2 * (size / 2) ** 2)
    expected = alpha * radius + beta
    alone = torch.zeros_like(radius, dtype=torch.bool)
    alone[:: size // 2, :: size // 2] = True
    ratio = mu.var(0) / torch.where(alone, expected, expected / 2)
    assert (mu.mean(0) - 1).abs().max() < 0.2
    for low in torch.arange(0, 1, 0.125):
        ring = (radius >= low) & (radius < low + 0.125)
        assert ratio[ring].mean() == pytest.approx(1, abs=0.05)
    again = mk.spectral_amplitude_jitter(delta, alpha, beta, seed=0)
    assert torch.equal(torch.fft.rfft2(again).real[:, 0], mu)
    reference = mk.spectral_amplitude_jitter(delta[:64], alpha, beta, seed=0, backend="reference")
    torch.testing.assert_close(again[:64], reference, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def results(record):
    """Validation metrics of the last epoch, by method and seed."""
    found = {}
    for method in METHODS:
        for seed in SEEDS:
            start = time.perf_counter()
            recipe = Sapm.with_options("--method", method, quick=True, seed=seed)
            history = Training(recipe).run().history
            found[method, seed] = history[-1].metrics
            seconds = round(time.perf_counter() - start)
            entry = {name: round(value, 4) for name, value in history[-1].metrics.items()}
            record(f"{method}, seed {seed}", {**entry, "seconds": seconds})
    return found


def mean(results, method, name):
    return statistics.mean(results[method, seed][name] for seed in SEEDS)


@pytest.mark.parametrize("method", METHODS[1:])
def test_gain_on_the_targets(results, method):
    assert mean(results, method, "disc") >= mean(results, "plain", "disc") + 0.15
    assert mean(results, method, "cup") >= mean(results, "plain", "cup") + 0.25


@pytest.mark.parametrize("method", METHODS[1:])
def test_no_loss_on_the_source(results, method):
    assert mean(results, method, "source_disc") >= mean(results, "plain", "source_disc") - 0.03


def test_the_threshold_of_quick_tells_them_apart(results):
    for seed in SEEDS:
        assert results["guided", seed]["dice"] >= Sapm.threshold > results["plain", seed]["dice"]

"""System 11, FNOReg: what its specification asks for, on made-up brains."""

from __future__ import annotations

import math
import resource
import subprocess
import sys

import pytest
import torch

import medkern as mk
from medkern.models import FNOReg
from medkern.models.fno import SIZES
from medkern.recipes.fnoreg import FNORegistration
from medkern.train import Training

pytestmark = pytest.mark.slow

MODELS = ("fno", "fnoreg", "voxelmorph")


def by_rfftn(x, weight, modes):
    """The layer as the paper writes it, in float64: rfftn, corners, einsum, irfftn."""
    space = tuple(range(2, x.dim()))
    spectrum = torch.fft.rfftn(x.double(), dim=space)
    index = [torch.arange(m) - m // 2 for m in modes[:-1]] + [torch.arange(modes[-1])]
    corner = torch.meshgrid(*[k % n for k, n in zip(index, spectrum.shape[2:], strict=True)])
    mixed = torch.zeros(x.shape[0], weight.shape[1], *spectrum.shape[2:], dtype=torch.complex128)
    where = (slice(None), slice(None), *corner)
    mixed[where] = torch.einsum("bi...,io...->bo...", spectrum[where], weight)
    return torch.fft.irfftn(mixed, x.shape[2:], dim=space)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(
    ("size", "modes"),
    [((32, 40), (12, 8)), ((31, 33), (7, 17)), ((16, 16), (16, 9)), ((12, 14, 15), (6, 5, 8))],
)
def test_spectral_convolution_is_that_of_the_paper(size, modes):
    weight = torch.randn(3, 2, *modes, dtype=torch.complex128)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = by_rfftn(x, weight, modes)
    largest = expected.abs().max()
    assert (mk.spectral_conv(x, weight, modes) - expected).abs().max() < 1e-12 * largest
    single = mk.spectral_conv(x.float(), weight.to(torch.complex64), modes)
    assert (single - expected).abs().max() < 1e-5 * largest
    with pytest.raises(ValueError, match="modes must"):
        mk.spectral_conv(x, weight, [m + n for m, n in zip(modes, size, strict=True)])


def test_twice_the_resolution_of_a_band_limited_field():
    weight = torch.randn(2, 2, 12, 7, dtype=torch.complex128)
    waves = torch.randn(2, 2, 12, 7, dtype=torch.complex128)
    fine = mk.spectral_conv(torch.randn(1, 2, 64, 64, dtype=torch.float64), waves, (12, 7))
    coarse = fine[..., ::2, ::2]
    high, low = (mk.spectral_conv(x, weight, (12, 7)) for x in (fine, coarse))
    assert (high[..., ::2, ::2] - low).abs().max() < 1e-5 * low.abs().max()


def test_parameters_follow_their_law(record):
    found = {}
    for ndim, sizes in SIZES.items():
        for name, (width, layers, modes) in sizes.items():
            with torch.device("meta"):
                dense = FNOReg.of(name, ndim, factorization=None)
                tucker = FNOReg.of(name, ndim)
            spectral = [p.numel() for n, p in dense.named_parameters() if "spectral.weight" in n]
            assert sum(spectral) == width**2 * math.prod(modes) * layers
            found[f"{name} {ndim}-D"] = round(sum(p.numel() for p in tucker.parameters()) / 1e6, 3)
    paper = {"small 2-D": 1.3, "medium 2-D": 10.0, "large 2-D": 22.8, "large 3-D": 98.1}
    assert found == pytest.approx(paper, rel=0.03)
    record("million parameters", found)


def test_jacobian_determinant():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    grid = torch.stack([y, x])[None]
    for a in (0.0, 0.5, -0.25):
        determinant = mk.jacobian_determinant(a * grid)
        torch.testing.assert_close(determinant, torch.full_like(determinant, (1 + a) ** 2))
    flipped = grid * torch.tensor([-2.0, 0.0])[:, None, None]
    assert (mk.jacobian_determinant(flipped) == -1).all()
    u = torch.randn(1, 2, 8, 9)
    dy, dx = torch.gradient(u[0], dim=(1, 2))  # of both components
    expected = (1 + dy[0]) * (1 + dx[1]) - dx[0] * dy[1]
    torch.testing.assert_close(mk.jacobian_determinant(u)[0, 0], expected, rtol=1e-4, atol=1e-5)


def trained(model: str, *own: str) -> tuple[FNORegistration, Training]:
    """585 steps of 8 pairs."""
    recipe = FNORegistration.with_options("--model", model, *own, quick=True, epochs=3)
    training = Training(recipe)
    training.run()
    return recipe, training


def test_half_the_resolution(record):
    """Trained at 64 x 64 and at 32 x 32, tested at 64 x 64."""
    table = {}
    for model in MODELS:
        at, training = trained(model)
        full = training.progress.history[-1].metrics
        half = trained(model, "--half")[1].progress.history[-1].metrics
        # The same brains, smaller: what was trained at the full size is tested at half.
        small = mk.data.Pairs(mk.data.BrainPhantoms(17, (32, 32), seed=1), "neighbours")
        with torch.no_grad():
            below = at.evaluate(training.model.eval(), small)["dice"]
        table[model] = {
            "before": round(full["dice_before"], 4),
            "full": round(full["dice"], 4),
            "half": round(half["dice"], 4),
            "change in percent": round(100 * (half["dice"] / full["dice"] - 1), 2),
            "full, tested at 32": round(below, 4),
            "folding full": round(full["folding_percent"], 3),
            "folding half": round(half["folding_percent"], 3),
        }
        record("dice at half the resolution", dict(table))
    for model in MODELS:
        assert table[model]["full"] > table[model]["before"] + 0.15
    assert abs(table["fno"]["change in percent"]) <= 1.5
    assert table["voxelmorph"]["change in percent"] <= -1.5


MEASURE = """
import resource, sys, torch, medkern as mk
from contextlib import nullcontext
layer = mk.nn.SpectralConv(12, 12, (40, 48, 56), count="total")
x = torch.randn(1, 12, 160, 192, 224, requires_grad=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with mk.use_backend("reference") if sys.argv[1] == "reference" else nullcontext():
    layer(x).backward(torch.ones_like(x))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not hasattr(resource, "getrusage"), reason="no peak memory on this system")
def test_peak_memory_of_a_layer_in_3d(record):
    """Forward and backward at the paper's size, each in a process of its own."""
    peaks = {}
    for backend in ("native", "reference"):
        command = [sys.executable, "-c", MEASURE, backend]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[backend] = round(int(run.stdout) / 1024)
    record("peak MiB of a 3-D layer", peaks)
    assert peaks["reference"] > 1.5 * peaks["native"]

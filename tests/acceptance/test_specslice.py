"""Section 7 of the specification of SpecSlice-ConvLSTM; counts and laws are in the unit tests.

The order task: a bump at slice 2 or 10 of 20 tells two classes apart, by nothing but its place.
"""

import statistics
import time

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import default_collate

import medkern as mk
from medkern.data import OrderCubes
from medkern.models import SpecSliceConvLSTM
from medkern.recipes.specslice import SpecSlice
from medkern.train import Training

pytestmark = pytest.mark.slow

HOW = {
    "classical": {"reduce": "last"},
    "sisom": {"reduce": "sum"},
    "didom": {"reduce": "sum", "bidirectional": "shared"},
}


class Slices(nn.Module):
    """Slices of three bands, one ConvLSTM of 8 channels (or a convolution and the mean), a head."""

    def __init__(self, aggregate):
        super().__init__()
        self.mean = aggregate == "mean"
        self.features = nn.Conv2d(3, 8, 3, padding=1)
        self.recurrent = None if self.mean else mk.nn.ConvLSTM(3, 8, **HOW[aggregate])
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, cube):
        slices = cube.unflatten(1, (20, 3))
        if self.mean:
            each = self.features(slices.flatten(0, 1)).relu().unflatten(0, slices.shape[:2])
            return self.head(each.mean(1))[:, 0]
        return self.head(self.recurrent(slices))[:, 0]


def trained_accuracy(aggregate, steps, rate, seed=0):
    torch.manual_seed(seed)
    model = Slices(aggregate)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    data = OrderCubes(8 * steps, size=16, seed=seed)
    for step in range(steps):
        batch = default_collate([data[8 * step + i] for i in range(8)])
        logits = model(batch["image"])
        loss = functional.binary_cross_entropy_with_logits(logits, batch["label"].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = default_collate(list(OrderCubes(32, size=16, seed=seed + 1000)))
    with torch.no_grad():
        right = (model(held_out["image"]) > 0) == held_out["label"].bool()
    return right.float().mean().item()


@pytest.mark.parametrize(
    ("aggregate", "steps", "rate"),
    [("mean", 700, 1e-2), ("classical", 200, 1e-2), ("didom", 200, 1e-2), ("sisom", 700, 3e-3)],
)
def test_order_task(aggregate, steps, rate, record):
    accuracy = trained_accuracy(aggregate, steps, rate)
    value = {"accuracy": round(accuracy, 4), "steps": steps, "rate": rate, "seed": 0}
    record(f"order task, {aggregate}", value)
    if aggregate == "mean":
        assert accuracy <= 0.6
    else:
        assert accuracy >= 0.95


@pytest.mark.parametrize(("aggregate", "epochs"), [("mean", 12), ("sisom", 24), ("didom", 24)])
def test_whole_network_on_the_order_task(aggregate, epochs, record):
    recipe = SpecSlice.with_options("--aggregate", aggregate, quick=True, epochs=epochs)
    best = Training(recipe).run().best
    found = {name: round(value, 4) for name, value in best.metrics.items()}
    record(f"recipe, {aggregate}", {**found, "epochs": epochs, "seed": 0})
    if aggregate == "mean":
        assert best.metrics["accuracy"] <= 0.6
    else:
        assert best.metrics["accuracy"] >= SpecSlice.threshold


def test_throughput_rises_with_the_bands_of_a_slice(record):
    """Table 5; at a quarter of its channels and of the size, so that it takes seconds."""
    rates = {}
    for bands in (2, 3, 4, 5, 6, 10, 12):
        torch.manual_seed(0)
        model = SpecSliceConvLSTM(bands_per_slice=bands, width=16).eval()
        cube, times = torch.randn(1, 60, 64, 96), []
        with torch.no_grad():
            model(cube)
            for _ in range(7):
                start = time.perf_counter()
                model(cube)
                times.append(time.perf_counter() - start)
        rates[bands] = round(1 / statistics.median(times), 2)
    record("cubes per second by bands of a slice", rates)
    ordered = list(rates.values())
    assert ordered == sorted(ordered)

"""The recipe scc: what its loss is made of, and that it runs with every mode and network."""

import json
import math

import pytest
import torch

import medkern as mk
from medkern.data import OverlappingShapes
from medkern.recipes.scc import Scc, foreground
from medkern.train import Training
from medkern.train.cli import run


class Tiny(Scc):
    """One epoch of two steps."""

    epochs, batch_size = 1, 2

    def shapes(self, length, seed):
        return OverlappingShapes(4, 32, seed)

    def model(self):
        if self.own.model == "transunet":
            return mk.models.TransUNet(1, 5, width=4, hidden=8, layers=1, grid=2)
        return mk.models.UNet(1, 5, width=4, levels=2)


@pytest.mark.parametrize("mode", ["full", "band", "binned"])
@pytest.mark.parametrize("model", ["unet", "transunet"])
def test_every_mode_and_network(mode, model):
    recipe = Tiny.with_options("--mode", mode, "--model", model)
    record = Training(recipe).run().history[0]
    assert all(math.isfinite(value) for value in record.losses.values())
    assert 0 <= record.metrics["ece"] <= record.metrics["mce"] <= 1
    assert {"dice", "dice_gaussian", "dice_bernoulli", "mid_band"} <= set(record.metrics)


def test_over_the_full_spectrum_the_loss_is_one_kernel_and_the_same():
    full, weight = Tiny.with_options("--weight", "0.7"), 0.7
    training = Training(full)
    batch = next(training.batches(0, 0))
    loss = full.loss(training.model, batch, training.position())["loss"]
    logits = training.model(batch["image"])
    spatial = mk.segmentation_loss(logits, batch["label"], ("ce", "dice"))
    spectral = mk.losses.SpectralCorrelationLoss("full", weight=weight)
    expected = spatial + spectral(*foreground(logits.softmax(1), batch["label"]))
    torch.testing.assert_close(loss, expected)
    # The printed sign differs by twice the term, up to a constant.
    printed = Tiny.with_options("--weight", "-0.7")
    found = printed.loss(training.model, batch, training.position())["loss"]
    torch.testing.assert_close(loss - found, 2 * (expected - spatial))


def test_augmentation_is_a_symmetry_of_the_square():
    recipe, item = Tiny(), OverlappingShapes(1, 32)[0]
    seen = set()
    for seed in range(60):
        out = recipe.augment(item, torch.Generator().manual_seed(seed))
        assert out["image"].sum() == pytest.approx(item["image"].sum().item(), rel=1e-5)
        # The label map moves with the image: each class keeps its mean grey level.
        for k in range(5):
            before, after = item["image"][0][item["label"] == k], out["image"][0][out["label"] == k]
            assert after.mean().item() == pytest.approx(before.mean().item(), rel=1e-4)
        seen.add(tuple(out["label"].flatten().tolist()))
    assert len(seen) == 8


def test_command(tmp_path):
    assert run(Tiny, ["--out", str(tmp_path), "--no-progress"]) == 0
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["metric"] == "dice"
    assert (tmp_path / "panel.png").stat().st_size > 1000

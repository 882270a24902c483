"""The recipe of SFRSeg-Net, in small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medkern.data import UltrasoundLesions
from medkern.recipes.sfrseg import SFRSeg, turned
from medkern.train import Training


@pytest.fixture
def recipe(monkeypatch):
    made = SFRSeg.with_options("--pool", "max", quick=True, epochs=1, batch_size=4)
    monkeypatch.setattr(made, "train_data", lambda: UltrasoundLesions(8, 32))
    monkeypatch.setattr(made, "validation_data", lambda: UltrasoundLesions(4, 32, seed=1))
    return made


def test_an_epoch_gives_losses_metrics_and_a_panel(recipe):
    training = Training(recipe)
    (record,) = training.run().history
    assert 0 < record.losses["loss"] < 3
    assert set(record.metrics) == {
        "dice",
        "dice_gaussian",
        "dice_speckle",
        "dice_poisson",
        "dice_salt_pepper",
    }
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / (1 + 0.005 * 2))
    with torch.no_grad():
        assert len(recipe.panel(training.model.eval(), training.validation).axes) == 4 * 5


def test_dice_is_1_for_the_truth_and_noise_does_not_depend_on_the_model(recipe):
    data = recipe.validation_data()
    seen = []

    def truth(image):
        seen.append(image)
        return 2.0 * torch.stack([item["label"] for item in data])[:, None] - 1

    assert recipe.dice(truth, data, None) == 1
    assert recipe.dice(truth, data, "speckle") == recipe.dice(truth, data, "speckle") == 1
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_turns_move_image_and_label_alike():
    item = UltrasoundLesions(1, 64)[0]
    item["image"] = 0.9 * item["label"].float().expand(3, -1, -1) + 0.1
    areas = []
    for seed in range(12):
        moved = turned(item, torch.Generator().manual_seed(seed))
        inside = moved["image"][0] > 0.55
        assert (inside == (moved["label"] == 1)).float().mean() > 0.97
        areas.append(moved["label"].sum().item() / item["label"].sum().item())
        assert moved["image"].dtype == torch.float32
        assert moved["label"].dtype == torch.int64
    assert min(areas) > 0.3
    assert max(areas) > 1.3


def test_own_images(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i, item in enumerate(UltrasoundLesions(5, 32)):
        np.save(tmp_path / "images" / f"{i}.npy", item["image"].movedim(0, -1).numpy())
        np.save(tmp_path / "labels" / f"{i}.npy", item["label"].numpy())
    recipe = SFRSeg.with_options(data=tmp_path)
    assert len(recipe.train_data()) == 4
    assert recipe.validation_data()[0]["image"].shape == (3, 32, 32)
    np.save(tmp_path / "images" / "0.npy", np.zeros((32, 32)))
    with pytest.raises(ValueError, match=r"must hold 3 channel"):
        recipe.train_data()

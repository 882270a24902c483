"""The recipe of FNOReg, in small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import medkern as mk
from medkern.data import BrainPhantoms, Pairs
from medkern.models import FNOReg
from medkern.recipes.fnoreg import FNORegistration, folded, halved, one_hot, registered
from medkern.train import Training


def small(monkeypatch, *own):
    made = FNORegistration.with_options(*own, quick=True, epochs=1, batch_size=2)
    size = (16,) * made.own.ndim
    monkeypatch.setattr(made, "train_data", lambda: Pairs(BrainPhantoms(3, size)))
    brains = BrainPhantoms(3, size, seed=1)
    monkeypatch.setattr(made, "validation_data", lambda: Pairs(brains, "neighbours"))
    return made


@pytest.mark.parametrize(
    ("own", "parts"),
    [
        ((), {"loss", "similarity", "smoothness"}),
        (("--model", "voxelmorph", "--similarity", "ncc"), {"loss", "similarity", "smoothness"}),
        (
            ("--ndim", "3", "--model", "fno", "--segment", "0.01"),
            {"loss", "similarity", "smoothness", "overlap"},
        ),
    ],
)
def test_an_epoch_gives_losses_metrics_and_a_panel(own, parts, monkeypatch):
    recipe = small(monkeypatch, *own)
    if recipe.own.model != "voxelmorph":
        ndim = recipe.own.ndim
        monkeypatch.setattr(recipe, "model", lambda: FNOReg((6,) * ndim, width=4, layers=2))
    training = Training(recipe)
    (record,) = training.run().history
    assert set(record.losses) == parts
    assert set(record.metrics) == {"dice", "dice_before", "folding_percent"}
    with torch.no_grad():
        figure = recipe.panel(training.model.eval(), training.validation)
    assert len(figure.axes) == 2 * 6


def test_half_the_resolution_to_train_and_all_of_it_to_test():
    recipe = FNORegistration.with_options("--half", quick=True)
    assert recipe.train_data()[0]["moving"].shape == (1, 32, 32)
    assert recipe.validation_data()[0]["moving"].shape == (1, 64, 64)


def test_the_right_displacement_moves_labels_and_smoothness_counts_pixels():
    label = BrainPhantoms(1, (33, 33))[0]["label"][None]
    shift = torch.zeros(1, 2, 33, 33)
    shift[:, 1] = 2 * 2 / 32  # two pixels along the rows

    def model(moving, fixed):
        return shift

    batch = {"moving_label": label, "moving": label[:, None].float(), "fixed": None}
    moved, u = registered(model, batch)
    assert torch.equal(moved[..., :-2], label[..., 2:])
    y = torch.linspace(-1, 1, 33)[:, None].expand(33, 33)
    flipped = torch.stack([-2 * y, 0 * y])[None]  # along the columns: everything folds
    assert folded(u).item() == 0
    assert folded(flipped).item() == 100
    assert mk.jacobian_determinant(0.1 * flipped, spacing=2 / 32).mean().item() == pytest.approx(
        0.8
    )


def test_halved_subjects_keep_their_structures():
    item = BrainPhantoms(1, (64, 64))[0]
    small = halved(item)
    assert small["image"].shape == (1, 32, 32)
    areas = [one_hot(t["label"][None], 7).mean((0, 2, 3)) for t in (item, small)]
    torch.testing.assert_close(areas[0], areas[1], rtol=0.25, atol=0.003)


def test_own_images(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i, item in enumerate(BrainPhantoms(10, (32, 32))):
        np.save(tmp_path / "images" / f"{i}.npy", item["image"][0].numpy())
        np.save(tmp_path / "labels" / f"{i}.npy", item["label"].numpy())
    recipe = FNORegistration.with_options("--half", "--classes", "7", data=tmp_path, quick=True)
    assert recipe.train_data()[0]["moving"].shape == (1, 16, 16)
    assert len(recipe.train_data()) == 8 * 7
    assert recipe.validation_data()[0]["fixed_label"].shape == (32, 32)
    with pytest.raises(ValueError, match="must hold labels from 0 to 2"):
        FNORegistration.with_options("--classes", "3", data=tmp_path).train_data()

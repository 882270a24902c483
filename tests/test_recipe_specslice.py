"""The specslice recipe, in miniature."""

import numpy as np
import pytest
import torch

from medkern.recipes.specslice import SpecSlice
from medkern.train import Training

TINY = ("--bands", "12", "--width", "8", "--depth", "18")


class Tiny(SpecSlice):
    """Two steps an epoch."""

    def cubes(self, split, length, seed):
        if self.options.data:
            return super().cubes(split, length, seed)
        data = super().cubes(split, 8 if split == "train" else 4, seed)
        return data


@pytest.mark.parametrize(
    ("task", "aggregate"), [("order", "didom"), ("tissue", "sisom"), ("order", "mean")]
)
def test_trains_an_epoch(task, aggregate):
    own = (*TINY, "--aggregate", aggregate)
    own = (*own, "--bands-per-slice", "1") if task == "order" else (*own, "--task", task)
    recipe = Tiny.with_options(*own, quick=True, epochs=1)
    training = Training(recipe)
    (epoch,) = training.run().history
    assert 0 < epoch.losses["loss"] < 5
    assert 0 <= epoch.metrics["accuracy"] <= 1
    assert set(epoch.metrics) == {"accuracy", "dice"}
    assert len(training.model.recurrent) == (0 if aggregate == "mean" else 3)


def test_loss_is_cross_entropy_and_dice_of_the_foreground():
    recipe = Tiny.with_options(*TINY, quick=True)
    logit = torch.randn(2, 1, 4, 4)
    label = torch.randint(0, 2, (2, 4, 4))
    loss = recipe.loss(lambda _: logit, {"image": None, "label": label}, None)["loss"]
    y, p = label.float(), logit[:, 0].sigmoid()
    entropy = torch.nn.functional.binary_cross_entropy(p, y)
    dice = 1 - (2 * (p * y).sum((1, 2)) + 1e-5) / (p.sum((1, 2)) + y.sum((1, 2)) + 1e-5)
    torch.testing.assert_close(loss, entropy + dice.mean(), rtol=1e-4, atol=1e-5)


def test_augmentation_moves_cube_and_labels_alike():
    recipe = Tiny.with_options(quick=True)
    label = torch.arange(12).reshape(3, 4)
    image = label.float().expand(5, 3, 4)
    found = set()
    for seed in range(20):
        item = {"image": image, "label": label}
        turned = recipe.augment(item, torch.Generator().manual_seed(seed))
        assert torch.equal(turned["image"][2], turned["label"].float())
        assert turned["label"].shape == (3, 4)
        found.add(tuple(turned["label"].flatten().tolist()))
    assert len(found) == 4
    square = {"image": image[:, :, :3], "label": label[:, :3]}
    generators = (torch.Generator().manual_seed(seed) for seed in range(40))
    turns = {tuple(recipe.augment(square, g)["label"].flatten().tolist()) for g in generators}
    assert len(turns) == 8


def test_draws_its_panel():
    recipe = Tiny.with_options(*TINY, "--bands-per-slice", "1", quick=True)
    with torch.no_grad():
        figure = recipe.panel(recipe.model().eval(), recipe.validation_data())
    assert len(figure.axes) == 16


def test_reads_cubes_of_its_own(tmp_path):
    folder = pytest.importorskip("medkern.train.folder")
    assert folder
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for i in range(5):
        np.save(tmp_path / "images" / f"{i}.npy", np.random.rand(32, 32, 12).astype(np.float32))
        np.save(tmp_path / "labels" / f"{i}.npy", np.random.randint(0, 2, (32, 32)))
    recipe = Tiny.with_options(*TINY, quick=True, data=tmp_path)
    assert recipe.train_data()[0]["image"].shape == (12, 32, 32)
    assert len(recipe.validation_data()) == 1

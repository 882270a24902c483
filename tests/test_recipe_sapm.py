"""The recipe sapm: what its loss is made of, and that it runs with every method."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import medkern as mk
from medkern.recipes.sapm import METHODS, Sapm, as_labels, dice, disc_and_cup
from medkern.train import Training
from medkern.train.cli import run


class Tiny(Sapm):
    """One epoch of two steps."""

    epochs, batch_size = 1, 2

    def eyes(self, length, camera, seed):
        return mk.data.FundusImages(4, 32, camera, seed)

    def model(self):
        level = "stem" if self.own.method == "guided" else "none"
        return mk.models.SensitivityGuidedUNet(depth=18, width=4, decoder=8, level=level)


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method):
    recipe = Tiny.with_options("--method", method)
    record = Training(recipe).run().history[0]
    parts = {"plain": 0, "jitter": 1, "consistency": 2, "guided": 3}[method]
    assert len(record.losses) == 1 + parts
    assert all(math.isfinite(value) for value in record.losses.values())
    assert set(record.metrics) == {"dice", "disc", "cup", "source_disc", "source_cup"}


def test_loss_is_the_sum_of_the_paper():
    recipe = Tiny.with_options("--method", "guided")
    training = Training(recipe)
    batch = next(training.batches(0, 0))
    parts = recipe.loss(training.model, batch, training.position())
    expected = parts["segmentation"] + 0.5 * parts["consistency"] + 0.5 * parts["guidance"]
    torch.testing.assert_close(parts["loss"], expected)
    assert recipe.loss(training.model, batch, training.position())["loss"] == parts["loss"]


def test_without_jitter_both_branches_are_one():
    recipe = Tiny.with_options("--method", "guided", "--alpha", "0", "--beta", "0")
    training = Training(recipe)
    training.model.eval()  # the statistics of tiny batches enlarge rounding
    batch = next(training.batches(0, 0))
    parts = recipe.loss(training.model, batch, training.position())
    assert parts["consistency"] < 1e-8
    model, masks = training.model, disc_and_cup(batch["label"])
    plain = mk.segmentation_loss(model(batch["image"]), masks, ("bce", "dice"), smooth=1.0)
    torch.testing.assert_close(parts["segmentation"], 2 * plain, rtol=1e-3, atol=1e-4)


def test_flips_take_the_labels_along():
    recipe, item = Tiny(), mk.data.FundusImages(1, 32)[0]
    seen = set()
    for seed in range(20):
        out = recipe.augment(item, torch.Generator().manual_seed(seed))
        axes = [
            a
            for a in ([], [-2], [-1], [-2, -1])
            if torch.equal(item["image"].flip(a), out["image"])
        ]
        assert torch.equal(item["label"].flip(axes[0]), out["label"])
        seen.add(tuple(axes[0]))
    assert len(seen) == 4


def test_masks_and_their_dice():
    label = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 0]])
    masks = disc_and_cup(label[None])
    assert masks.sum((2, 3)).tolist() == [[4, 2]]
    assert torch.equal(as_labels(masks[0]), label)
    other = disc_and_cup(torch.tensor([[[0, 1, 1, 2], [0, 0, 0, 0]]]))
    torch.testing.assert_close(dice(masks, other), torch.tensor([[6 / 7, 2 / 3]]))
    nothing = torch.zeros_like(masks)
    assert dice(nothing, nothing).tolist() == [[1, 1]]


def test_the_last_epoch_counts():
    recipe = Tiny()
    assert recipe.is_better(0.1, 0.9)


def test_own_images(tmp_path):
    for folder, camera in ((tmp_path, "source"), (tmp_path / "validation", "green")):
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True)
        for i, item in enumerate(mk.data.FundusImages(4, 32, camera)):
            pixels = (255 * item["image"].movedim(0, -1)).round().numpy().astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
            label = item["label"].numpy().astype(np.uint8)
            Image.fromarray(label).save(folder / "labels" / f"{i}.png")
    out = tmp_path / "run"
    assert run(Tiny, ["--data", str(tmp_path), "--out", str(out), "--no-progress"]) == 0
    assert {"metrics.json", "curves.png", "panel.png", "checkpoint.pt"} <= {
        path.name for path in out.iterdir()
    }

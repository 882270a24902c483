"""Point-supervised training: what is fed to the loss, and that it runs with every option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import medkern as mk
from medkern.data import CardiacSlices
from medkern.losses import DenseCRFLoss
from medkern.recipes.points import LOSSES, MAPS, Points, turned
from medkern.train import Options, Training
from medkern.train.cli import run
from medkern.train.metrics import dice_scores, hausdorff95


class Tiny(Points):
    """Two steps on four slices."""

    epochs, batch_size = 1, 2

    def slices(self, length, seed):
        return CardiacSlices(4, 32, seed=seed)

    def model(self):
        return mk.models.ENet(1, 4) if self.own.model == "enet" else mk.models.UNet(1, 4, width=2)


@pytest.mark.parametrize("kind", MAPS)
def test_every_map(kind):
    recipe = Tiny.with_options("--map", kind)
    training = Training(recipe)
    batch = next(training.batches(0, 0))
    assert batch["maps"].shape == (2, 3, 32, 32)
    # Measured after the augmentation: what an item is given is the map of its own turned image.
    expected = mk.signed_distance_map(
        batch["points"],
        (255 * batch["image"]).round() if kind in ("geodesic", "intensity", "mbd") else None,
        kind=kind,
        classes=4,
        ndim=2,
    )
    torch.testing.assert_close(batch["maps"], expected, atol=1e-3, rtol=1e-5)
    metrics = training.run().history[0].metrics
    assert {"dice", "hd95", "dice_rv", "dice_myo", "dice_lv"} == set(metrics)


def test_without_augmentation_maps_are_measured_once(monkeypatch):
    recipe, calls = Tiny.with_options("--no-augment"), []
    measure = recipe.maps
    monkeypatch.setattr(recipe, "maps", lambda item: calls.append(1) or measure(item))
    training = Training(recipe)
    for epoch in range(2):
        for step in range(2):
            batch = next(training.batches(epoch, step))
            grey = (255 * batch["image"]).round()
            expected = mk.signed_distance_map(batch["points"], grey, kind="mbd", classes=4, ndim=2)
            torch.testing.assert_close(batch["maps"], expected, atol=1e-3, rtol=1e-5)
    assert len(calls) == 4  # slices


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss):
    history = Training(Tiny.with_options("--loss", loss, "--model", "enet")).run().history
    assert np.isfinite(history[0].losses["loss"])


def test_the_boundary_term_is_added_to_the_cross_entropy():
    found = {}
    for alpha in ("0", "1"):
        recipe = Tiny.with_options("--alpha", alpha)
        training = Training(recipe)
        batch = next(training.batches(0, 0))
        found[alpha] = recipe.loss(training.model, batch, training.position())["loss"]
    probabilities = training.model(batch["image"]).softmax(1)
    term = (probabilities[:, 1:] * batch["maps"]).mean()
    torch.testing.assert_close(found["1"] - found["0"], term, rtol=1e-4, atol=1e-4)


def test_turning_takes_the_points_along():
    """A point is in the turned label map where it was in the label map."""
    hits = total = 0
    for i, item in enumerate(CardiacSlices(30, 64)):
        out = turned(item, torch.Generator().manual_seed(i))
        marked = out["points"] > 0
        hits += int((out["points"][marked] == out["label"][marked]).sum())
        total += int(marked.sum())
        assert marked.sum() <= (item["points"] > 0).sum()
        levels = 255 * out["image"]
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert total > 70
    assert hits > 0.93 * total  # the others sit on an edge


def test_a_turn_is_what_scipy_makes_of_it():
    item = CardiacSlices(1, 64)[0]
    random = torch.Generator().manual_seed(2)
    uniform = torch.rand(3, generator=torch.Generator().manual_seed(2)).tolist()
    out = turned(item, random)
    angle, zoom = np.radians(30 * (2 * uniform[0] - 1)), 0.9 + 0.2 * uniform[1]
    flip = 1 if uniform[2] < 0.5 else -1
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # rows first
    matrix = turn @ np.diag([1, flip]) / zoom
    centre = np.array([31.5, 31.5])
    expected = ndimage.affine_transform(
        item["image"][0].numpy(), matrix, centre - matrix @ centre, order=1, mode="nearest"
    )
    np.testing.assert_allclose(out["image"][0], expected, atol=1.01 / 255)


def test_dice_and_hausdorff():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 2:5, 2:5] = 1
    moved = labels.roll(1, 2)
    assert dice_scores(moved, labels, 3)[0, 0] == pytest.approx(2 / 3)
    assert dice_scores(moved, labels, 3)[0, 1].isnan()
    assert hausdorff95(moved, labels, 3)[0, 0] == 1
    assert hausdorff95(torch.zeros_like(labels), labels, 3)[0, 0] == pytest.approx(128**0.5)
    assert hausdorff95(moved, labels, 3)[0, 1].isnan()


# The CRF loss of the baseline.


def crf_by_pairs(logits, image, weight, sigma_rgb, sigma_xy):
    s, total = logits.softmax(1), 0.0
    batch, _, height, width = s.shape
    at = [(y, x) for y in range(height) for x in range(width)]
    for b in range(batch):
        for p in at:
            for q in at:
                colour = (image[b, :, p[0], p[1]] - image[b, :, q[0], q[1]]).square().sum()
                away = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2
                affinity = (-colour / 2 / sigma_rgb**2 - away / 2 / sigma_xy**2).exp()
                total = total - affinity * (s[b, :, p[0], p[1]] * s[b, :, q[0], q[1]]).sum()
    return weight * total / batch / len(at) ** 2


def test_crf_is_the_sum_over_all_pairs_and_its_gradient():
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    image = 40 * torch.rand(2, 1, 3, 4, dtype=torch.float64)
    crf = DenseCRFLoss(0.7, 15.0, 2.0, scale=1.0)
    loss, expected = crf(logits, image), crf_by_pairs(logits, image, 0.7, 15.0, 2.0)
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), wanted)


def test_crf_in_several_blocks_of_rows(monkeypatch):
    logits, image = torch.randn(1, 2, 12, 12), 255 * torch.rand(1, 3, 12, 12)
    whole = DenseCRFLoss()(logits, image)
    monkeypatch.setattr("medkern.losses.crf.ROWS", 7)
    torch.testing.assert_close(DenseCRFLoss()(logits, image), whole)
    assert "sigma_rgb=15.0" in repr(DenseCRFLoss())


# Your own images.


def fill(root: Path, points: bool) -> None:
    for i, item in enumerate(CardiacSlices(10, 32)):
        for name in ("images", "labels", *["points"] * points):
            (root / name).mkdir(exist_ok=True)
        np.save(root / "images" / f"{i}.npy", (255 * item["image"][0]).byte().numpy())
        np.save(root / "labels" / f"{i}.npy", item["label"].numpy())
        if points:
            np.save(root / "points" / f"{i}.npy", item["points"].clamp(min=0).numpy())


@pytest.mark.parametrize("points", [True, False])
def test_your_own_images(points, tmp_path):
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", points)
    recipe = Points(Options(data=tmp_path / "data"))
    item = recipe.train_data()[0]
    assert (item["points"] > 0).sum() == 3
    assert ("label" in item) != points
    given = CardiacSlices(10, 32)[0]["points"]
    assert torch.equal(item["points"], given) == points
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert run(Tiny, [*arguments, "--epochs", "1", "--batch-size", "4"]) == 0
    assert (tmp_path / "run" / "panel.png").stat().st_size > 5000

"""Cardiac phantoms: the same whoever asks, with the anatomy that the labels claim."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from medkern.data import CardiacSlices
from medkern.data.cardiac import LEFT, MYOCARDIUM, RIGHT, random_points
from medkern.data.seeding import generator_of


def test_an_item_depends_on_seed_and_index_alone():
    data, again = CardiacSlices(6, 48, seed=3), CardiacSlices(9, 48, seed=3)
    for name in ("image", "label", "points"):
        assert torch.equal(data[5][name], again[5][name])
    assert not torch.equal(data[5]["image"], data[4]["image"])
    assert not torch.equal(data[5]["image"], CardiacSlices(6, 48, seed=4)[5]["image"])
    loaded = next(iter(DataLoader(data, batch_size=6, num_workers=1)))
    assert torch.equal(loaded["image"][5], data[5]["image"])


def test_images_are_bytes_in_0_to_1():
    item = CardiacSlices(1)[0]
    levels = 255 * item["image"]
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert item["image"].shape == (1, 128, 128)
    assert 0 <= item["image"].min() < 0.2 < 0.7 < item["image"].max() <= 1


def test_the_anatomy():
    """Blood is bright, muscle dark; the ventricle lies in its ring, the right one to the left."""
    apical = 0
    for item in CardiacSlices(40, 64, noise=0.0):
        image, label = item["image"][0], item["label"]
        assert image[label == LEFT].mean() > image[label == MYOCARDIUM].mean() + 0.2
        inside = (label == LEFT).nonzero()
        for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            beside = inside + torch.tensor(shift)
            kinds = label[beside[:, 0], beside[:, 1]].unique().tolist()
            assert set(kinds) <= {LEFT, MYOCARDIUM}
        if (label == RIGHT).any():
            columns = [(label == k).nonzero()[:, 1].float().mean() for k in (RIGHT, LEFT)]
            assert columns[0] < columns[1]
        else:
            apical += 1
    assert 1 <= apical <= 12


def test_one_point_in_each_structure():
    for item in CardiacSlices(10, 64):
        points, label = item["points"], item["label"]
        marked = points >= 0
        assert (points[marked] == label[marked]).all()
        assert sorted(points[marked].tolist()) == [k for k in label.unique().tolist() if k > 0]


def test_points_are_spread_evenly_over_the_structure():
    labels = torch.zeros(4, 4, dtype=torch.int64)
    labels[1:3, 1:3] = 2
    random = generator_of("test")
    counts = sum((random_points(labels, random) == 2).long() for _ in range(400))
    assert (counts[1:3, 1:3] > 60).all()
    assert counts.sum() == 400


def test_bad_arguments():
    with pytest.raises(ValueError, match="size must be at least 32, got 16"):
        CardiacSlices(1, 16)
    with pytest.raises(IndexError):
        CardiacSlices(2, 32)[2]

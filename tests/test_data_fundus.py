"""The generators of the systems sapm and scc."""

import re

import pytest
import torch

from medkern.data import FundusImages, OverlappingShapes
from medkern.data.fundus import CAMERAS, CUP, RIM
from medkern.data.kept import Kept


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("make", [FundusImages, OverlappingShapes])
def test_an_item_depends_on_seed_and_index_alone(make):
    few, many = make(3, size=32, seed=5), make(9, size=32, seed=5)
    backwards = {i: few[i] for i in (2, 0, 1)}
    torch.manual_seed(1)
    assert all(same(many[i], backwards[i]) for i in range(3))
    assert not same(few[0], few[1])
    assert not same(few[0], make(3, size=32, seed=6)[0])
    with pytest.raises(IndexError):
        few[3]
    assert len(list(few)) == 3


@pytest.mark.parametrize("camera", CAMERAS)
def test_fundus_images_hold_a_cup_in_a_disc(camera):
    data = FundusImages(16, size=48, camera=camera)
    ratios, levels = [], [[], [], []]
    for item in data:
        image, label = item["image"], item["label"]
        assert image.shape == (3, 48, 48)
        assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
        assert 0 <= image.min() <= image.max() <= 1
        disc, cup = label >= RIM, label == CUP
        assert 0.04 < disc.float().mean() < 0.25
        ratios.append((cup.sum() / disc.sum()).sqrt().item())
        for k, found in enumerate(levels):
            found.append(image.mean(0)[label == k])
        # The rim is closed: hardly a pixel of the cup touches the background.
        around = torch.nn.functional.max_pool2d((label == 0).float()[None], 3, 1, 1)[0] > 0
        assert (around & cup).sum() <= 0.2 * cup.sum()
    assert 0.3 < min(ratios) < max(ratios) < 0.8
    # Vessels apart, the cup is the brightest and the background the darkest, in every camera.
    background, rim, cup = (torch.cat(found).quantile(0.7).item() for found in levels)
    assert cup > rim > background


def test_cameras_see_the_same_eyes_in_other_colours():
    source = FundusImages(8, size=32)
    mean = torch.stack([item["image"].mean((1, 2)) for item in source]).mean(0)
    for camera in CAMERAS:
        other = FundusImages(8, size=32, camera=camera)
        assert all(torch.equal(a["label"], b["label"]) for a, b in zip(source, other, strict=True))
        colour = torch.stack([item["image"].mean((1, 2)) for item in other]).mean(0)
        assert (camera == "source") == bool((colour - mean).abs().max() < 0.1)


def test_shapes_are_where_their_labels_are():
    data = OverlappingShapes(40, size=64, noise=0.0)
    counts = torch.zeros(5)
    for item in data:
        image, label = item["image"][0], item["label"]
        counts += torch.bincount(label.flatten(), minlength=5) > 0
        assert 0.05 < (label > 0).float().mean() < 0.6
        assert image[label > 0].mean() > image[label == 0].mean() + 0.1
    assert counts.min() >= 36  # a shape can be hidden, but rarely is
    noisy = OverlappingShapes(1, size=64, noise=0.5)[0]["image"] - data[0]["image"]
    assert noisy.std() == pytest.approx(0.5, rel=0.05)


def test_kept_items_are_made_once():
    made = []

    class Counting(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            made.append(index)
            return index

    data = Kept(Counting())
    assert [data[1], data[1], data[0], len(data)] == [1, 1, 0, 2]
    assert made == [1, 0]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: FundusImages(-1), "medkern.data.FundusImages: length must be at least 0, got -1"),
        (lambda: FundusImages(1, 31), "medkern.data.FundusImages: size must be at least 32"),
        (lambda: FundusImages(1, camera="red"), "camera must be one of 'source', 'dark'"),
        (lambda: OverlappingShapes(-1), "medkern.data.OverlappingShapes: length must be at least"),
        (lambda: OverlappingShapes(1, 8), "medkern.data.OverlappingShapes: size must be at least"),
    ],
)
def test_errors(make, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        make()

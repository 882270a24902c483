"""Phantoms of ultrasound, and the noises of SFRSeg-Net's tests."""

from __future__ import annotations

import pytest
import torch

from medkern.data import UltrasoundLesions
from medkern.data.ultrasound import NOISES, corrupted


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_an_item_depends_on_seed_and_index_alone():
    data = UltrasoundLesions(4, size=64, seed=3)
    last = data[3]
    assert same(UltrasoundLesions(9, size=64, seed=3)[3], last)
    assert not same(UltrasoundLesions(4, size=64, seed=4)[3], last)
    assert not same(data[2], last)
    assert len(list(data)) == 4


def test_the_fluid_is_dark_and_speckle_is_multiplicative():
    for item in UltrasoundLesions(6, size=96, seed=1):
        image, label = item["image"], item["label"]
        assert image.shape == (3, 96, 96)
        assert image.dtype == torch.float32
        assert torch.equal(image[0], image[2])
        assert 0.01 < label.float().mean() < 0.25
        assert torch.equal((255 * image).round() / 255, image)
        assert image[0][label == 1].mean() < 0.6 * image[0][label == 0].mean()
    smooth = UltrasoundLesions(1, size=128, seed=1, speckle=0.0)[0]["image"]
    rough = UltrasoundLesions(1, size=128, seed=1, speckle=0.15)[0]["image"]
    tissue = (smooth > 0.2) & (smooth < 0.7)
    ratio = (rough / smooth)[tissue]
    assert ratio.mean().item() == pytest.approx(1, abs=0.02)
    assert ratio.std().item() == pytest.approx(0.15, rel=0.05)


def test_noises_have_the_variance_they_are_asked_for():
    flat = torch.full((200, 200), 0.5)
    for noise, expected in {
        "gaussian": 0.01,
        "speckle": 0.01 * 0.5**2,
        "poisson": 0.5 / 255,
        "salt_pepper": 0.01 * 0.5**2,
    }.items():
        noisy = corrupted(flat, noise, torch.Generator().manual_seed(0))
        assert noisy.var().item() == pytest.approx(expected, rel=0.1), noise
        assert 0 <= noisy.min() <= noisy.max() <= 1
    assert set(NOISES) == {"gaussian", "speckle", "poisson", "salt_pepper"}


def test_errors():
    with pytest.raises(ValueError, match=r"medkern.data.UltrasoundLesions: size must be at least"):
        UltrasoundLesions(1, size=8)
    with pytest.raises(ValueError, match=r"medkern.data.corrupted: noise must be one of"):
        corrupted(torch.zeros(1), "pink", torch.Generator())
    with pytest.raises(IndexError):
        UltrasoundLesions(2)[2]

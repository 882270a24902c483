"""Phantoms of brains, and pairs of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from medkern.data import BrainPhantoms, Pairs
from medkern.data.brain import STRUCTURES
from medkern.train.metrics import dice_scores


@pytest.mark.parametrize("size", [(48, 40), (20, 24, 18)])
def test_an_item_depends_on_seed_and_index_alone(size):
    last = BrainPhantoms(3, size, seed=3)[2]
    again = BrainPhantoms(8, size, seed=3)[2]
    assert all(torch.equal(last[k], again[k]) for k in last)
    assert not torch.equal(BrainPhantoms(3, size, seed=4)[2]["image"], last["image"])
    assert last["image"].shape == (1, *size)
    assert last["image"].dtype == torch.float32
    assert last["label"].shape == size
    assert last["label"].unique().tolist() == list(range(len(STRUCTURES)))


def test_it_is_the_same_brain_at_every_size():
    """On grids that share every other sample, up to the softness of the edges."""
    coarse, fine = (BrainPhantoms(2, (n, n), seed=1, noise=0.0)[1] for n in (65, 129))
    torch.testing.assert_close(fine["label"][::2, ::2], coarse["label"])
    assert (fine["image"][:, ::2, ::2] - coarse["image"]).abs().mean() < 0.02


def test_a_slice_is_the_middle_of_the_volume():
    volume = BrainPhantoms(1, (33, 32, 40), seed=2)[0]["label"]
    assert torch.equal(BrainPhantoms(1, (32, 40), seed=2)[0]["label"], volume[16])


def test_structures_have_their_grey_levels_and_brains_differ():
    brains = list(BrainPhantoms(6, (64, 64), seed=0))
    for item in brains:
        means = [item["image"][0][item["label"] == k].mean().item() for k in range(3)]
        assert means[0] < 0.1 < means[1] < means[2]
    pairs = Pairs(brains)
    dice = [dice_scores(p["moving_label"][None], p["fixed_label"][None], 7) for p in pairs]
    assert 0.4 < torch.cat(dice).nanmean() < 0.75


def test_pairs_are_all_ordered_ones_or_neighbours():
    brains = list(BrainPhantoms(4, (16, 16), seed=0))
    every = Pairs(brains)
    found = {(id(p["moving"]), id(p["fixed"])) for p in every}
    images = [id(b["image"]) for b in brains]
    assert len(every) == 12
    assert found == {(a, b) for a in images for b in images if a != b}
    near = Pairs(brains, "neighbours")
    assert [(id(p["moving"]), id(p["fixed"])) for p in near] == list(pairwise(images))
    assert len(Pairs([])) == len(Pairs([], "neighbours")) == 0


def test_errors():
    with pytest.raises(ValueError, match=r"medkern.data.BrainPhantoms: size must be 2 or 3"):
        BrainPhantoms(1, (64,))
    with pytest.raises(ValueError, match=r"medkern.data.Pairs: pairing must be one of"):
        Pairs([], "some")
    with pytest.raises(IndexError):
        BrainPhantoms(2)[2]
    with pytest.raises(IndexError):
        Pairs([])[0]

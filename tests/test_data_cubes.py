"""The hyperspectral cubes: reproducible, and what they promise of their classes."""

import pytest
import torch
from torch.utils.data import DataLoader

from medkern.data import OrderCubes, TissueCubes

SMALL = {"order": OrderCubes(6, size=16, seed=3), "tissue": TissueCubes(6, size=16, seed=3)}
each_kind = pytest.mark.parametrize("data", SMALL.values(), ids=SMALL)


@each_kind
def test_an_item_depends_on_seed_and_index_alone(data):
    kind = type(data)
    alone = data[4]
    for i in (0, 4, 2):
        again = kind(9, size=16, seed=3)[i]
        for name, value in data[i].items():
            assert torch.equal(value, again[name])
    other = kind(6, size=16, seed=4)[4]
    assert not torch.equal(alone["image"], other["image"])
    batch = next(iter(DataLoader(data, batch_size=5)))
    assert torch.equal(batch["image"][4], alone["image"])
    assert len(data) == 6
    assert len(list(data)) == 6
    with pytest.raises(IndexError):
        data[6]


@each_kind
def test_shapes_and_types(data):
    item = data[0]
    assert (item["image"].shape, item["image"].dtype) == ((60, 16, 16), torch.float32)
    assert (item["label"].shape, item["label"].dtype) == ((16, 16), torch.int64)
    assert set(item["label"].unique().tolist()) <= {0, 1}


def test_the_classes_of_order_cubes_differ_by_order_alone():
    data = OrderCubes(40, size=16, early=1, late=4, bands=18, noise=0.1)
    early, late, other = [], [], []
    for item in data:
        slices = item["image"].unflatten(0, (6, 3))
        for k, kept in ((1, early), (0, late)):
            kept.append(slices[:, :, item["label"] == k].mean(2))
        other.append(item["label"].float().mean())
    assert 0.4 < torch.stack(other).mean() < 0.6
    early, late = (torch.stack(t).nanmean(0) for t in (early, late))
    bump = torch.zeros(6, 3)
    bump[1] = 1
    torch.testing.assert_close(early, bump, rtol=0, atol=0.02)
    torch.testing.assert_close(late, bump.roll(3, 0), rtol=0, atol=0.02)
    swapped = [0, 4, 2, 3, 1, 5]
    torch.testing.assert_close(early[swapped], late, rtol=0, atol=0.03)


def test_lesions_and_glands_of_tissue_differ_in_the_shape_of_their_spectra():
    lesions, rest = [], []
    for item in TissueCubes(30, size=32):
        log = -item["image"].clamp(1e-3).log()
        label = item["label"].bool()
        dense = log[:20].mean(0) > log[:20].mean(0)[label].quantile(0.3) if label.any() else label
        lesions.append(log[:, label & dense].mean(1))
        rest.append(log[:, ~label & dense].mean(1))
    lesion, gland = (torch.stack(t).nanmean(0) for t in (lesions, rest))
    bands = torch.arange(60.0)
    centre = [(bands * t.clamp(0)).sum() / t.clamp(0).sum() for t in (lesion, gland)]
    assert centre[0] > centre[1] + 0.5  # further to the red
    assert 0.05 < torch.stack([i["label"].float().mean() for i in TissueCubes(30)]).mean() < 0.5


def test_errors():
    for make, text in (
        (lambda: TissueCubes(1, size=8), "size must be at least 16, got 8"),
        (lambda: TissueCubes(-1), "length must be at least 0, got -1"),
        (lambda: OrderCubes(1, bands=0), "bands must be at least 1, got 0"),
        (lambda: OrderCubes(1, late=20), "late must be a slice, 0 to 19, got 20; count from 0"),
    ):
        with pytest.raises(ValueError, match=text):
            make()

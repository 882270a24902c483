"""SFRSeg-Net and the poolings that its paper compares."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import medkern as mk
from medkern.models import SFRSegNet
from medkern.models.pooling import POOLINGS, Pooling, blocks

WITH_WEIGHTS = ("bands", "max_concat", "mixed", "polynomial")


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_and_convolutions_of_the_paper():
    net = SFRSegNet()
    assert parameters(net) == 1_942_577  # 1.94 M
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 18 + 1  # and the head
    deepest = []
    net.down[-1].register_forward_hook(lambda *args: deepest.append(args[2].shape))
    assert net(torch.rand(2, 3, 128, 128)).shape == (2, 1, 128, 128)
    assert deepest == [(2, 256, 8, 8)]


@pytest.mark.parametrize("pool", POOLINGS)
def test_every_pooling_trains_and_halves(pool):
    torch.manual_seed(0)
    net = SFRSegNet(1, 2, width=4, pool=pool)
    x = torch.rand(2, 1, 32, 48)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert (parameters(net) > parameters(SFRSegNet(1, 2, width=4))) == (pool in WITH_WEIGHTS)
    net.load_state_dict(SFRSegNet(1, 2, width=4, pool=pool).state_dict())


def test_poolings_are_what_they_are_called():
    x = torch.rand(2, 3, 6, 8) + 0.1
    maximum, mean = functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2)
    for kind, expected in {
        "max": maximum,
        "avg": mean,
        "mixed": (maximum + mean) / 2,
        "second_order": functional.lp_pool2d(x, 2, 2) / 2,
        "ll": 2 * mean,
        "all": 2 * x[..., ::2, ::2],
        "iewa": mk.haar_pool(x, "iewa"),
    }.items():
        torch.testing.assert_close(Pooling(kind, 3)(x), expected, msg=kind)
    assert torch.equal(blocks(x)[..., 1], x[..., ::2, 1::2])


def test_polynomial_pooling_goes_from_average_to_maximum():
    x, pool = torch.rand(1, 2, 4, 4) + 0.1, Pooling("polynomial", 2)
    for power, expected, error in (
        (-30.0, functional.avg_pool2d(x, 2), 1e-5),
        (300.0, functional.max_pool2d(x, 2), 1e-2),
    ):
        torch.nn.init.constant_(pool.power, power)
        torch.testing.assert_close(pool(x), expected, rtol=0, atol=error)


def test_stochastic_pooling_draws_by_value_and_averages_in_evaluation():
    torch.manual_seed(0)
    block = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    x, pool = block.repeat(100, 100)[None, None], Pooling("stochastic", 1)
    drawn = pool(x)
    shares = [(drawn == value).float().mean().item() for value in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.02)
    pool.eval()
    torch.testing.assert_close(pool(x)[0, 0, 0, 0], torch.tensor(3.0))  # 30 / 10
    assert torch.equal(pool(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("pool", ["iewa", "stochastic"])
def test_it_compiles_as_one_graph(pool):
    net = SFRSegNet(1, 1, width=2, pool=pool).eval()
    x = torch.rand(1, 1, 16, 32)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))


def test_errors():
    with pytest.raises(ValueError, match=r"medkern.models.Pooling: kind must be one of"):
        SFRSegNet(pool="median")
    with pytest.raises(ValueError, match=r"image must have sides that are multiples of 16"):
        SFRSegNet()(torch.zeros(1, 3, 24, 32))
    with pytest.raises(ValueError, match=r"medkern.models.SFRSegNet: width must be at least 1"):
        SFRSegNet(width=0)

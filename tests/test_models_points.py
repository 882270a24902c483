"""U-Net and ENet: shapes, parameters, the paper's structure, compilation, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from medkern.models import ENet, UNet


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_unet_keeps_the_size(norm, ndim):
    model = UNet(2, 3, width=6, levels=2, norm=norm, ndim=ndim)
    out = model(torch.rand(2, 2, *(8, 12, 4)[:ndim]))
    assert out.shape == (2, 3, *(8, 12, 4)[:ndim])
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_unet_parameters_by_hand():
    """Two levels of 4 and 8 channels, without norm: convolutions of 3x3, one of 2x2, one of 1x1."""
    convs = [(1, 4, 9), (4, 4, 9), (4, 8, 9), (8, 8, 9), (8, 4, 4), (8, 4, 9), (4, 4, 9), (4, 5, 1)]
    assert parameters(UNet(1, 5, width=4, levels=2, norm="none")) == sum(
        i * o * k + o for i, o, k in convs
    )


def test_unet_of_one_level_is_two_convolutions():
    assert UNet(1, 2, width=4, levels=1)(torch.rand(1, 1, 5, 7)).shape == (1, 2, 5, 7)


def test_unet_state_names():
    names = {name.split(".")[0] for name in UNet(1, 2, width=4, levels=2).state_dict()}
    assert names == {"down", "up", "merge", "head"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"norm": "layer"}, "norm must be one of 'batch', 'group', 'none', got 'layer'"),
        ({"ndim": 4}, "ndim must be one of 2, 3, got 4"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"width": 1.5}, "width must be an int, got 1.5"),
    ],
)
def test_unet_refuses(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        UNet(1, 2, **settings)


def test_sizes_that_do_not_halve():
    with pytest.raises(
        ValueError, match=r"models\.UNet: image must .* multiples of 8, got \(12, 1"
    ):
        UNet(1, 2, width=2)(torch.rand(1, 1, 12, 16))
    with pytest.raises(ValueError, match=r"models\.ENet: image must have sides that are multiples"):
        ENet(1, 2)(torch.rand(1, 1, 12, 16))


def test_enet_is_as_published():
    """0.36 to 0.37 million parameters for colour images: "0.37 M" in the paper's table."""
    model = ENet(3, 12)
    assert 0.34e6 < parameters(model) < 0.38e6
    x = torch.rand(2, 3, 32, 48)
    assert model(x).shape == (2, 12, 32, 48)
    stages = {}
    hooks = [
        module.register_forward_hook(lambda m, i, o, n=name: stages.setdefault(n, o))
        for name, module in model.named_children()
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    shape = {n: (o[0] if isinstance(o, tuple) else o).shape[1:] for n, o in stages.items()}
    assert shape["initial"] == (16, 16, 24)
    assert shape["stage1"] == (64, 8, 12)
    assert shape["stage2"] == shape["stage3"] == (128, 4, 6)
    assert shape["stage4"] == (64, 8, 12)
    assert shape["stage5"] == (16, 16, 24)


@pytest.mark.parametrize("model", [UNet(1, 2, width=2, levels=2), ENet(1, 2)], ids=["unet", "enet"])
def test_compiles_in_one_graph(model):
    model.eval()
    x = torch.rand(1, 1, 16, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))

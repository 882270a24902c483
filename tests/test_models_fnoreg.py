"""FNO, FNOReg and the U-Net they are compared with."""

from __future__ import annotations

import pytest
import torch

import medkern as mk
from medkern.models import FNO, FNOReg, VoxelMorph
from medkern.models.fno import SIZES


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("size", "ndim", "millions"),
    [("small", 2, 1.3), ("medium", 2, 10.0), ("large", 2, 22.8), ("large", 3, 98.1)],
)
def test_parameter_counts_of_the_paper(size, ndim, millions):
    with torch.device("meta"):
        assert parameters(FNOReg.of(size, ndim)) == pytest.approx(1e6 * millions, rel=0.03)
        plain = FNOReg.of(size, ndim, residual=False, transforms=0)
        assert parameters(plain) == pytest.approx(1e6 * millions, rel=0.035)
        dense = FNOReg.of(size, ndim, factorization=None)
    width, layers, modes = SIZES[ndim][size]
    spectral = width**2 * torch.Size(modes).numel() * layers
    assert sum(p.numel() for n, p in dense.named_parameters() if "spectral.weight" in n) == spectral


def test_parameter_counts_of_voxelmorph():
    assert parameters(VoxelMorph()) == 90_706  # 91 K
    with torch.device("meta"):
        assert parameters(VoxelMorph(width=128)) == pytest.approx(5.8e6, rel=0.01)


@pytest.mark.parametrize("size", [(16, 24), (16, 8, 16)])
def test_networks_give_a_displacement_with_gradients(size):
    moving, fixed = torch.rand(2, 2, 1, *size)
    for net in (
        FNOReg((6,) * len(size), width=4, layers=2),
        FNOReg((6,) * len(size), width=4, layers=2, factorization="tucker", preset="paper"),
        VoxelMorph(len(size), width=4),
    ):
        u = net(moving, fixed)
        assert u.shape == (2, len(size), *size)
        mk.warp(moving, u, units="normalized").square().sum().backward()
        assert all(p.grad is not None for p in net.parameters())
        net.load_state_dict(net.state_dict())


def test_voxelmorph_begins_with_the_identity():
    assert VoxelMorph()(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)).abs().max() < 1e-3


def test_the_plain_fno_is_the_same_function_at_twice_the_resolution():
    """Of band-limited images; activations add higher modes, which are small here."""
    torch.manual_seed(0)
    net = FNO(2, 1, (8, 8), width=4, layers=2).double()
    waves = torch.randn(1, 2, 3, 3, dtype=torch.complex128)
    fine = mk.spectral_conv(
        torch.randn(1, 2, 64, 64, dtype=torch.float64), 0.1 * waves.new_ones(2, 2, 4, 3), (4, 3)
    )
    coarse = fine[..., ::2, ::2].contiguous()
    torch.testing.assert_close(net(fine)[..., ::2, ::2], net(coarse), rtol=0, atol=1e-3)


@pytest.mark.parametrize("make", [lambda: FNOReg((4, 4), width=4, layers=1), VoxelMorph])
def test_they_compile_as_one_graph(make):
    net = make().eval()
    moving, fixed = torch.rand(2, 1, 1, 16, 16)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(moving, fixed), net(moving, fixed))


def test_errors():
    with pytest.raises(ValueError, match=r"medkern.models.FNOReg: modes must be numbers for 2 or"):
        FNOReg((8,))
    with pytest.raises(ValueError, match=r"medkern.models.FNOReg.of: size must be one of 'large'"):
        FNOReg.of("small", 3)
    with pytest.raises(ValueError, match=r"moving must have sides that are multiples of 8"):
        VoxelMorph()(torch.zeros(1, 1, 12, 16), torch.zeros(1, 1, 12, 16))

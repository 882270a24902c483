"""SpecSlice-ConvLSTM: the counts of the paper, and the laws of its aggregations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import medkern as mk
from medkern.models import SpecSliceConvLSTM

AGGREGATES = ("mean", "classical", "sisom", "didom")


def tiny(aggregate="didom", **how):
    torch.manual_seed(0)
    return SpecSliceConvLSTM(
        bands=8, bands_per_slice=2, aggregate=aggregate, depth=18, width=8, **how
    ).eval()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_paper(aggregate="didom", **how):
    with torch.device("meta"):
        return SpecSliceConvLSTM(aggregate=aggregate, **how).eval()


def giga_macs(model, *, shared=False):
    """Of one cube of 256 x 320; `shared` counts the convolution of x once for both directions."""

    def convlstm(x, w_x, w_h, *rest, out_val=None, **_):
        batch, steps, _, *space = x
        ways = 2 if rest[6] == "both" else 1
        per_pixel = (1 if shared else ways) * torch.Size(w_x).numel() + ways * torch.Size(
            w_h
        ).numel()
        return 2 * batch * steps * torch.Size(space).numel() * per_pixel

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.medkern.convlstm: convlstm})
    with counter, torch.no_grad():
        model(torch.empty(1, model.bands, 256, 320, device="meta"))
    return counter.get_total_flops() / 2e9


def test_parameters_of_the_paper():
    plain, sisom, didom = (parameters(on_paper(a)) for a in ("mean", "sisom", "didom"))
    assert plain == 24_436_369  # a U-Net on a ResNet-34
    assert sisom == didom == plain + 295_168 + 1_180_160 + 4_719_616
    assert parameters(on_paper(levels=(2,))) == plain + 295_168


def test_operations_of_the_paper():
    """Table 2, in 10^9 multiplications: 123.96, 214.60 and 305.24."""
    plain, sisom, didom = (giga_macs(on_paper(a)) for a in ("mean", "sisom", "didom"))
    assert sisom - plain == pytest.approx(90.6, abs=0.05)
    assert didom - sisom == pytest.approx(90.6, abs=0.05)
    assert didom == pytest.approx(305.24, rel=0.005)
    # What is done: the input convolution serves both directions.
    shared = giga_macs(on_paper("didom"), shared=True)
    assert (shared - plain) / (didom - plain) == pytest.approx(0.75)


@pytest.mark.parametrize("bands_per_slice", [2, 5, 12])
def test_operations_follow_the_number_of_slices(bands_per_slice):
    """Table 5 is the line 14.88 T + 7.68."""
    model = on_paper(bands_per_slice=bands_per_slice)
    expected = 14.88 * model.slices + 7.68
    assert giga_macs(model) == pytest.approx(expected, rel=0.03)


def slices_in_order(cube, order):
    return cube.unflatten(1, (4, 2))[:, order].flatten(1, 2)


def test_mean_sees_no_order():
    cube = torch.randn(2, 8, 32, 32)
    model = tiny("mean")
    turned = slices_in_order(cube, [2, 0, 3, 1])
    torch.testing.assert_close(model(cube), model(turned), rtol=1e-4, atol=1e-5)


def test_didom_sees_order_but_not_its_direction():
    cube = torch.randn(2, 8, 32, 32).double()
    reverse, other = (slices_in_order(cube, order) for order in ([3, 2, 1, 0], [1, 0, 2, 3]))
    for aggregate in ("classical", "sisom", "didom"):
        model = tiny(aggregate).double()
        for p in model.recurrent.parameters():
            torch.nn.init.normal_(p, std=0.2)
        out = model(cube)
        differs = (out - model(reverse)).abs().max()
        if aggregate == "didom":
            assert differs < 1e-9
        else:
            assert differs > 1e-5
        assert (out - model(other)).abs().max() > 1e-5


def test_didom_is_sisom_both_ways():
    both, one = tiny("didom"), tiny("sisom")
    features = torch.randn(1, 4, 8, 8, 8)
    one.load_state_dict(both.state_dict())
    merged = one.merge(2, features) + one.merge(2, features.flip(1))
    torch.testing.assert_close(both.merge(2, features), merged)
    assert torch.equal(one.merge(1, features), features.mean(1))


def test_bands_that_do_not_divide_repeat_the_last():
    model = SpecSliceConvLSTM(bands=7, bands_per_slice=3, depth=18, width=8)
    cube = torch.arange(7.0).reshape(1, 7, 1, 1).expand(1, 7, 32, 32)
    assert model.slices == 3
    assert model.sliced(cube)[0, :, :, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    whole = torch.randn(1, 6, 32, 32)
    sliced = SpecSliceConvLSTM(bands=6, depth=18, width=8).sliced(whole)
    assert sliced.data_ptr() == whole.data_ptr()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_gradients_reach_every_parameter(aggregate):
    model = tiny(aggregate).train()
    out = model(torch.randn(2, 8, 32, 64))
    assert out.shape == (2, 1, 32, 64)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_compiles_whole():
    model = tiny("didom", classes=3)
    cube = torch.randn(1, 8, 32, 32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(cube), model(cube))


def test_state_dict_is_stable():
    keys = list(tiny().state_dict())
    assert keys[0] == "encoder.conv1.weight"
    assert "recurrent.2.cells.0.weight_x" in keys
    assert "recurrent.4.cells.0.bias" in keys
    assert "decoder.blocks.4.4.running_var" in keys
    assert keys[-1] == "head.bias"


def test_errors():
    for make, text in (
        (
            lambda: SpecSliceConvLSTM(aggregate="max"),
            "aggregate must be one of 'mean', 'classical'",
        ),
        (lambda: SpecSliceConvLSTM(levels=(0,)), "levels must be one of 1, 2, 3, 4, got 0"),
        (lambda: SpecSliceConvLSTM(reduce="none"), "reduce must be one of 'sum', 'mean'"),
        (lambda: SpecSliceConvLSTM(4, bands_per_slice=5), "bands_per_slice must be between 1 and"),
        (
            lambda: tiny()(torch.zeros(1, 8, 30, 32)),
            r"cube must be \[B, 8, H, W\] with H and W mul",
        ),
        (lambda: tiny()(torch.zeros(1, 6, 32, 32)), r"cube must be \[B, 8, H, W\]"),
    ):
        with pytest.raises(ValueError, match="medkern.models.SpecSliceConvLSTM: " + text):
            make()


def test_exported():
    assert mk.models.SpecSliceConvLSTM is SpecSliceConvLSTM

"""The networks of the systems sapm and scc: shapes, sizes, names, weights, compilation."""

import importlib.util
import re

import pytest
import torch

import medkern as mk
from medkern.models import SensitivityGuidedUNet, TransUNet
from medkern.models.resnet import ResNet, resnet, stages


def parameters(model):
    return sum(p.numel() for p in model.parameters())


# torchvision's counts are 11,689,512 and 21,797,672, of which the classifier has 513,000.
@pytest.mark.parametrize(
    ("depth", "count", "entries"), [(18, 11_176_512, 120), (34, 21_284_672, 216)]
)
def test_resnet_has_torchvisions_state(depth, count, entries):
    net = ResNet(depth)
    state = net.state_dict()
    assert (parameters(net), len(state)) == (count, entries)
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer1.0.bn2.running_var"].shape == (64,)
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)
    assert "layer1.0.downsample.0.weight" not in state


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_ours_and_torchvisions_are_one():
    theirs, ours = resnet(18).eval(), ResNet(18).eval()
    assert type(theirs) is not ResNet
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(stages(theirs, x), ours(x), strict=True):
        torch.testing.assert_close(a, b)


def test_weights_come_from_a_file_without_the_classifier(tmp_path):
    given = ResNet(18, width=4)
    state = {**given.state_dict(), "fc.weight": torch.zeros(10, 32), "fc.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "resnet18.pth")
    loaded = resnet(18, width=4, weights=tmp_path / "resnet18.pth")
    assert all(torch.equal(v, given.state_dict()[k]) for k, v in loaded.state_dict().items())
    model = SensitivityGuidedUNet(depth=18, width=4, decoder=8, weights=tmp_path / "resnet18.pth")
    assert torch.equal(model.encoder.conv1.weight, given.conv1.weight)
    with pytest.raises(RuntimeError, match="size mismatch"):
        resnet(18, width=8, weights=tmp_path / "resnet18.pth")


def test_the_papers_size():
    assert parameters(SensitivityGuidedUNet()) == 22_014_850
    gate = SensitivityGuidedUNet(depth=18).gate
    assert parameters(gate) == 64 * 64 + 64


@pytest.mark.parametrize("level", ["stem", "layer1", "none"])
def test_gate_scales_the_features_of_its_level(level):
    model = SensitivityGuidedUNet(depth=18, width=4, decoder=8, level=level).eval()
    image = torch.rand(2, 3, 64, 96)
    logits, features, attention = model.guided(image)
    assert logits.shape == (2, 2, 64, 96)
    assert torch.equal(model(image), logits)
    stem, first, *_ = stages(model.encoder, image)
    torch.testing.assert_close(features, stem if level != "layer1" else features)
    assert attention.shape == (2, 4)
    if level == "none":
        assert torch.equal(attention, torch.ones(2, 4))
        return
    torch.testing.assert_close(features, stem if level == "stem" else first)
    gate = model.gate.excite
    expected = (features.mean((2, 3)) @ gate.weight[:, :, 0, 0].T + gate.bias).sigmoid()
    torch.testing.assert_close(attention, expected)
    # Closed, the gate of the stem lets nothing through, whatever the image.
    torch.nn.init.zeros_(gate.weight)
    torch.nn.init.constant_(gate.bias, -1e9)
    closed, of_black = model(image), model(torch.zeros_like(image))
    assert torch.allclose(closed, of_black) == (level == "stem")
    assert not torch.allclose(logits, closed)


def test_trans_unet_mixes_far_apart_pixels():
    model = TransUNet(1, 3, width=4, hidden=16, layers=1, grid=8).eval()
    image = torch.randn(1, 1, 128, 128, requires_grad=True)
    (grad,) = torch.autograd.grad(model(image)[0, :, 2, 2].sum(), image)
    assert grad[0, 0, -4:, -4:].abs().max() > 0
    assert model(torch.zeros(2, 1, 64, 96)).shape == (2, 3, 64, 96)  # another grid of tokens


def test_trans_unet_attention_is_torchs():
    from medkern.models.trans_unet import Block

    block = Block(16, 4, 0.0).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, 64, 0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": block.queries_keys_values.weight,
            "self_attn.in_proj_bias": block.queries_keys_values.bias,
            "self_attn.out_proj.weight": block.merge.weight,
            "self_attn.out_proj.bias": block.merge.bias,
            "linear1.weight": block.perceptron[0].weight,
            "linear1.bias": block.perceptron[0].bias,
            "linear2.weight": block.perceptron[2].weight,
            "linear2.bias": block.perceptron[2].bias,
            "norm1.weight": block.before.weight,
            "norm1.bias": block.before.bias,
            "norm2.weight": block.between.weight,
            "norm2.bias": block.between.bias,
        }
    )
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        SensitivityGuidedUNet(depth=18, width=4, decoder=8),
        TransUNet(3, 2, width=4, hidden=8, layers=1, heads=2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_compiles_as_one_graph(model):
    x = torch.randn(1, 3, 64, 64)
    compiled = torch.compile(model.eval(), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: resnet(50), "medkern.models.resnet: depth must be one of 18, 34, got 50"),
        (lambda: resnet(18, width=0), "medkern.models.resnet: width must be at least 1"),
        (lambda: SensitivityGuidedUNet(level="deep"), "level must be one of 'stem', 'layer1', 'no"),
        (
            lambda: SensitivityGuidedUNet(depth=18, width=4, decoder=8)(torch.zeros(1, 3, 40, 64)),
            "image must have sizes that are multiples of 32, got (40, 64)",
        ),
        (lambda: TransUNet(1, 2, hidden=30), "hidden must be a multiple of the 8 heads, got 30"),
        (
            lambda: mk.models.TransUNet(1, 2, width=4, hidden=8)(torch.zeros(1, 1, 40, 64)),
            "image must have sizes that are multiples of 16, got (40, 64)",
        ),
    ],
)
def test_errors(make, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        make()

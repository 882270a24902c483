"""Sensitivity and guidance: eager formulas, closed forms, and what a free gate converges to."""

import math
import re

import pytest
import torch
from scipy.stats import spearmanr

from medkern.losses import channel_sensitivity, consistency_loss, sensitivity_guidance_loss


def test_sensitivity_grows_with_the_noise_of_a_channel():
    channels = 32
    random = torch.Generator().manual_seed(0)
    clean = torch.randn(3, channels, 24, 24, generator=random)
    noise = torch.randn(clean.shape, generator=random)
    strength = torch.arange(channels) / channels
    s = channel_sensitivity(clean, clean + strength[:, None, None] * noise)
    assert s.shape == (3, channels)
    assert s.min() == 0
    assert s.max() == 1
    for sample in s:
        assert spearmanr(sample.numpy(), strength.numpy()).statistic > 0.99


def test_sensitivity_is_per_sample_without_gradient_and_safe():
    clean = torch.randn(2, 5, 6, 6, requires_grad=True)
    moved = torch.randn(2, 5, 6, 6, requires_grad=True)
    s = channel_sensitivity(clean, moved)
    assert not s.requires_grad
    torch.testing.assert_close(channel_sensitivity(clean[1:], moved[1:]), s[1:])
    far = (clean - moved).abs().mean((2, 3))
    low, high = far.min(1, keepdim=True).values, far.max(1, keepdim=True).values
    torch.testing.assert_close(s, ((far - low) / (high - low)).detach())
    assert torch.equal(channel_sensitivity(clean, clean), torch.zeros(2, 5))


@pytest.mark.parametrize("s", [0.05, 0.37, 0.9])
def test_a_free_gate_converges_to_the_curve(s):
    """CA = exp(1 / ln S), or within 0.02 of it where that is nearer to 0 than the clamp."""
    gate = torch.zeros(1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([gate], lr=0.1)
    sensitivity = torch.full((1, 1), s)
    for _ in range(200):
        optimizer.zero_grad()
        sensitivity_guidance_loss(gate.sigmoid(), sensitivity).backward()
        optimizer.step()
    assert gate.sigmoid().item() == pytest.approx(math.exp(1 / math.log(s)), abs=0.02)


def test_guidance_is_the_formula_and_does_not_depend_on_sizes():
    attention, s = torch.rand(4, 7, dtype=torch.float64), torch.rand(4, 7, dtype=torch.float64)
    loss = sensitivity_guidance_loss(attention, s)
    a, b = (t.clamp(1e-3, 1 - 1e-3) for t in (attention, s))
    expected = ((a.log() * b.log() - 1) ** 2).mean(1).sqrt().mean()
    torch.testing.assert_close(loss, expected)
    each = [sensitivity_guidance_loss(attention[i : i + 1], s[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(torch.stack(each).mean(), loss)
    torch.testing.assert_close(
        sensitivity_guidance_loss(attention.repeat(1, 3), s.repeat(1, 3)), loss
    )


def test_guidance_at_the_singular_values_of_the_logs():
    attention = torch.tensor([[0.0, 1.0, 0.5, 0.5]], requires_grad=True)
    s = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    loss = sensitivity_guidance_loss(attention, s)
    (grad,) = torch.autograd.grad(loss, attention)
    assert loss.isfinite()
    assert grad.isfinite().all()
    optimum = torch.full((1, 2), 0.5, requires_grad=True)
    at_optimum = (1 / optimum.detach().log()).exp()
    (grad,) = torch.autograd.grad(sensitivity_guidance_loss(optimum, at_optimum), optimum)
    assert grad.isfinite().all()  # the norm has no slope at 0


def test_gradients():
    attention = (0.1 + 0.8 * torch.rand(2, 5, dtype=torch.float64)).requires_grad_()
    s = torch.rand(2, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: sensitivity_guidance_loss(a, s), attention)
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(consistency_loss, (logits, logits.detach().flip(0)))


def test_consistency_is_the_mean_squared_error_of_probabilities():
    a, b = torch.randn(2, 2, 5, 5), torch.randn(2, 2, 5, 5)
    expected = torch.nn.functional.mse_loss(a.sigmoid(), b.sigmoid())
    torch.testing.assert_close(consistency_loss(a, b), expected)
    assert consistency_loss(a, a) == 0


@pytest.mark.parametrize(
    ("loss", "error"),
    [
        (
            channel_sensitivity,
            "channel_sensitivity: perturbed must have the shape of clean, (2, 3)",
        ),
        (
            sensitivity_guidance_loss,
            "sensitivity must have the shape of attention, (2, 3), got (2,",
        ),
        (
            consistency_loss,
            "consistency_loss: perturbed must have the shape of logits, (2, 3), got",
        ),
    ],
)
def test_errors(loss, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        loss(torch.zeros(2, 3), torch.zeros(2, 4))

"""Losses between the half spectra of real images [B, C, H, K, 2], bin by bin.

Focal frequency loss: Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis",
ICCV 2021, equations 8 to 10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medkern.reference.half_spectrum import column_counts

KINDS = ("focal", "amplitude_l1", "amplitude_l2", "phase")


def spectrum_loss(
    x: Tensor, y: Tensor, peak: Tensor | None, width: int, kind: str, parameter: float, log: bool
) -> Tensor:
    """Sum over the full spectrum of a function of the bins of x and y [B, C, H, K, 2] -> [B, C].

    focal: w(|y|) |x|^2, with w from `focal_weight`; peak [B, C]: the largest |y|^2 to divide by,
    None for that of the image itself.
    amplitude_l1, amplitude_l2: ||x| - |y|| and its square.
    phase: 1 - cos(arg x - arg y), 0 where an amplitude is at most `parameter`.
    """
    if kind == "focal":
        bins = focal_weight(y, peak, parameter, log) * x.square().sum(-1)
    elif kind == "phase":
        u, v, valid = _directions(x, y, parameter)
        bins = torch.where(valid, 1 - (u * v).sum(-1), 0)
    else:
        gap = amplitude(x) - amplitude(y)
        bins = gap * _sign(gap.detach()) if kind == "amplitude_l1" else gap.square()
    return (bins * column_counts(x, width)).sum((2, 3))


def spectrum_loss_backward(
    x: Tensor,
    y: Tensor,
    grad: Tensor,
    peak: Tensor | None,
    width: int,
    kind: str,
    parameter: float,
    log: bool,
) -> Tensor:
    """The gradient of spectrum_loss in x, for grad [B, C]."""
    return scale(x, grad, width) * slope(x, y, peak, kind, parameter, log)


def scale(x: Tensor, grad: Tensor, width: int) -> Tensor:
    """grad [B, C] times the counts of the columns [B, C, 1, K, 1]."""
    return (grad[..., None, None] * column_counts(x, width)).unsqueeze(-1)


def amplitude(x: Tensor) -> Tensor:
    return x.square().sum(-1).sqrt()


def focal_weight(y: Tensor, peak: Tensor | None, alpha: float, log: bool) -> Tensor:
    """|y|^alpha (log: of one more than that) over the largest of the image, a constant [..., H, K].

    0 / 0 is 0, as in the published code: equal images cost nothing.
    """
    square = y.detach().square().sum(-1)
    top = square.amax((-2, -1)) if peak is None else peak

    def raw(s: Tensor) -> Tensor:
        power = s.sqrt() ** alpha
        return (power + 1).log() if log else power

    weight = raw(square) / raw(top)[..., None, None]
    return torch.where(weight.isnan(), 0, weight).clamp(0, 1)


def slope(
    x: Tensor, y: Tensor, peak: Tensor | None, kind: str, parameter: float, log: bool
) -> Tensor:
    """The gradient of a bin's loss in x, [..., 2]; 0 at amplitude 0."""
    if kind == "focal":
        return 2 * focal_weight(y, peak, parameter, log).unsqueeze(-1) * x
    if kind == "phase":
        u, v, valid = _directions(x, y, parameter)
        return torch.where(valid.unsqueeze(-1), -_across(u, v) / _length(x), 0)
    gap = (amplitude(x) - amplitude(y)).unsqueeze(-1)
    return (_sign(gap) if kind == "amplitude_l1" else 2 * gap) * _unit(x)


def _sign(t: Tensor) -> Tensor:
    """NaN stays; torch takes its sign for 0."""
    return torch.where(t.isnan(), t, t.sign())


def curvature(
    x: Tensor,
    y: Tensor,
    along: Tensor,
    peak: Tensor | None,
    kind: str,
    parameter: float,
    log: bool,
) -> Tensor:
    """The derivative of slope(x, y) for a change `along` of x."""
    if kind == "focal":
        return slope(along, y, peak, kind, parameter, log)
    u, across, length = _unit(x), _across(_unit(x), along), _length(x)
    if kind == "phase":
        _, v, valid = _directions(x, y, parameter)
        turn = _across(u, v)
        bent = turn * _dot(u, along) + _dot(turn, along) * u + _dot(u, v) * across
        return torch.where(valid.unsqueeze(-1), bent / length**2, 0)
    gap = (amplitude(x) - amplitude(y)).unsqueeze(-1)
    present = (amplitude(x) > 0).unsqueeze(-1)
    if kind == "amplitude_l1":
        return torch.where(present, _sign(gap) * across / length, 0)
    return torch.where(present, 2 * (u * _dot(u, along) + gap * across / length), 0)


def mixed(
    x: Tensor,
    y: Tensor,
    along: Tensor,
    peak: Tensor | None,
    kind: str,
    parameter: float,
    log: bool,
) -> Tensor:
    """The gradient in y of slope(x, y) . along: how a change of x moves the slope in y."""
    if kind in ("focal", "amplitude_l1"):
        return torch.zeros_like(y)
    if kind == "amplitude_l2":
        return -2 * _dot(_unit(x), along) * _unit(y)
    u, v, valid = _directions(x, y, parameter)
    bent = -_across(v, _across(u, along)) / (_length(x) * _length(y))
    return torch.where(valid.unsqueeze(-1), bent, 0)


def _directions(x: Tensor, y: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The units x / |x| and y / |y|, and where neither amplitude is at or below the floor."""
    return _unit(x), _unit(y), ~((amplitude(x) <= floor) | (amplitude(y) <= floor))


def _length(x: Tensor) -> Tensor:
    """|x| [..., 1], and 1 where it is 0."""
    square = x.square().sum(-1, keepdim=True)
    return torch.where(square == 0, 1, square).sqrt()


def _unit(x: Tensor) -> Tensor:
    return x / _length(x)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True)


def _across(unit: Tensor, x: Tensor) -> Tensor:
    """The part of x at right angles to the unit."""
    return x - unit * _dot(unit, x)

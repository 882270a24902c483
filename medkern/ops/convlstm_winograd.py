"""Whole sequences of 3 x 3 ConvLSTMs in Winograd's form: see csrc/core/convlstm_winograd.hpp."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medkern.ops.convlstm_steps import Problem


def why_not(
    x: Tensor, w_x: Tensor, w_h: Tensor, dilation: Sequence[int], padding_mode: str
) -> str | None:
    """Why a sequence cannot take this form; None where it can."""
    return "it is not built"


def chosen(
    x: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    dilation: Sequence[int],
    padding_mode: str,
    algorithm: str,
) -> bool:
    return False


def empty_saved(s: Problem) -> tuple[Tensor, Tensor]:
    raise NotImplementedError

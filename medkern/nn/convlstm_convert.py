"""Weights of other ConvLSTMs as state dicts of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medkern.rules import message

OURS = "ifog"


def convlstm_state_dict(
    state: Mapping[str, Tensor],
    *,
    order: str = OURS,
    layer: str = "cell_list.{}.conv",
    hidden_first: bool = False,
) -> dict[str, Tensor]:
    """The state dict of ConvLSTM from cells with one convolution over the channels of x and h.

    Args:
        state: of the other module; entries that are no layer's weight or bias are left out.
        order: of its gates: "ifog" (i, f, o, g), "ifgo" or any other; c is another name of g.
        layer: the name of a layer's convolution, {} for its number. Without {}, the module is one
            cell and so is the result, for ConvLSTMCell.
        hidden_first: whether the channels of h come before those of x.

    >>> import torch, medkern as mk
    >>> conv = torch.nn.Conv2d(3 + 8, 4 * 8, 3, padding=1)  # of a copied cell, gates i, f, g, o
    >>> cell = mk.nn.ConvLSTMCell(3, 8)
    >>> state = mk.nn.convlstm_state_dict(conv.state_dict(), order="ifgo", layer="")
    >>> cell.load_state_dict(state)
    <All keys matched successfully>
    """
    rows = _order(order)
    name = f"{layer}." if layer else ""
    pattern = re.compile(re.escape(name).replace(re.escape("{}"), r"(\d+)") + "(weight|bias)")
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        match = pattern.fullmatch(key)
        if match is None:
            continue
        *number, kind = match.groups()
        prefix = f"cells.{number[0]}." if number else ""
        gates = value.unflatten(0, (4, -1))[rows].flatten(0, 1)
        if kind == "bias":
            found[f"{prefix}bias"] = gates.clone()
            continue
        hidden = value.shape[0] // 4
        first = hidden if hidden_first else value.shape[1] - hidden
        halves = gates[:, :first].clone(), gates[:, first:].clone()
        names = ("weight_h", "weight_x") if hidden_first else ("weight_x", "weight_h")
        found |= {prefix + n: half for n, half in zip(names, halves, strict=True)}
    if not found:
        rule = f"hold a convolution named {layer!r}"
        remedy = "pass layer, the name of your cells' convolution"
        raise ValueError(message("nn.convlstm_state_dict", "state", rule, list(state), remedy))
    return found


def convlstm_from_keras(
    kernel: Any, recurrent_kernel: Any, bias: Any | None = None
) -> dict[str, Tensor]:
    """The state dict of ConvLSTMCell from the weights of Keras's ConvLSTM1D, 2D or 3D.

    Args: the arrays of `layer.get_weights()`: kernel [*size, C, 4 hidden], recurrent_kernel
    [*size, hidden, 4 hidden] and bias [4 hidden], with the gates i, f, c, o. The Keras layer must
    have padding="same" and the activations "tanh" and "sigmoid", which are its defaults in Keras 3.

    >>> import numpy as np, medkern as mk
    >>> weights = [np.zeros((3, 3, 2, 16)), np.zeros((3, 3, 4, 16)), np.zeros(16)]
    >>> mk.nn.ConvLSTMCell(2, 4).load_state_dict(mk.nn.convlstm_from_keras(*weights))
    <All keys matched successfully>
    """
    rows = _order("ifco")
    arrays = {"weight_x": kernel, "weight_h": recurrent_kernel, "bias": bias}
    found = {}
    for name, array in arrays.items():
        if array is None:
            continue
        t = torch.as_tensor(array)
        if name != "bias":
            t = t.movedim((-1, -2), (0, 1))  # [4 hidden, C, *size]
        found[name] = t.unflatten(0, (4, -1))[rows].flatten(0, 1).contiguous()
    return found


def _order(order: str) -> list[int]:
    """Where each of our gates is in another order."""
    letters = order.replace("c", "g")
    if sorted(letters) != sorted(OURS):
        rule = "name the gates i, f, o and g (or c) once each"
        remedy = "see in which order the cell splits its convolution"
        raise ValueError(message("nn.convlstm_state_dict", "order", rule, repr(order), remedy))
    return [letters.index(gate) for gate in OURS]

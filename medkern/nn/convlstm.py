"""Convolutional recurrent layers over sequences: ConvLSTM and ConvGRU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medkern.nn.convlstm_cell import Cell, ConvGRUCell, ConvLSTMCell
from medkern.rules import at_least, choice, message
from medkern.rules import convlstm as rules

BIDIRECTIONAL = (False, "separate", "shared")


class _Layers(nn.Module):
    """Layers of cells over a sequence."""

    def __init__(
        self,
        cell: Callable[..., Cell],
        in_channels: int,
        hidden_channels: int | Sequence[int],
        kernel_size: int | Sequence[int],
        num_layers: int,
        *,
        bidirectional: bool | str,
        reduce: str,
        return_sequence: bool | None,
        batch_first: bool,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        choice(name, "bidirectional", bidirectional, BIDIRECTIONAL)
        choice(name, "reduce", reduce, rules.REDUCTIONS)
        at_least(name, "num_layers", num_layers, 1)
        if return_sequence is not None:
            if reduce != "none":
                rule = "be None where reduce is given"
                raise ValueError(
                    message(name, "return_sequence", rule, return_sequence, "give one of the two")
                )
            reduce = "none" if return_sequence else "last"
        widths = hidden_channels
        widths = [widths] * num_layers if isinstance(widths, int) else list(widths)
        if len(widths) != num_layers:
            rule = f"be an int or {num_layers} of them"
            raise ValueError(
                message(name, "hidden_channels", rule, hidden_channels, "one per layer")
            )
        self.bidirectional, self.reduce, self.batch_first = bidirectional, reduce, batch_first
        self.cells, self.cells_reverse = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            made = cell(in_channels, width, kernel_size)
            self.cells.append(made)
            if bidirectional == "separate":
                self.cells_reverse.append(cell(in_channels, width, kernel_size))
            in_channels = made.state_channels * (2 if bidirectional == "separate" else 1)

    def forward(
        self,
        x: Tensor,
        state: Sequence[Any] | None = None,
        lengths: Tensor | None = None,
        *,
        return_state: bool = False,
    ) -> Any:
        x = x if self.batch_first else x.transpose(0, 1)
        states, last = [], len(self.cells) - 1
        for i in range(len(self.cells)):
            given = None if state is None else state[i]
            x, new = self.layer(i, x, given, lengths, self.reduce if i == last else "none")
            states.append(new)
        if self.reduce == "none" and not self.batch_first:
            x = x.transpose(0, 1)
        return (x, states) if return_state else x

    def layer(
        self, i: int, x: Tensor, state: Any, lengths: Tensor | None, reduce: str
    ) -> tuple[Tensor, Any]:
        direction = "both" if self.bidirectional == "shared" else "forward"
        if self.bidirectional != "separate":
            return self.run(self.cells[i], x, state, lengths, reduce, direction)
        forth, back = (None, None) if state is None else state
        out, forth = self.run(self.cells[i], x, forth, lengths, reduce, "forward")
        other, back = self.run(self.cells_reverse[i], x, back, lengths, reduce, "backward")
        return torch.cat([out, other], 2 if reduce == "none" else 1), (forth, back)

    def run(self, cell: nn.Module, *args: Any) -> tuple[Tensor, Any]:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"bidirectional={self.bidirectional!r}, reduce={self.reduce!r}"


class ConvLSTM(_Layers):
    """A ConvLSTM of one or more layers over [B, T, C, *space].

    Args:
        in_channels: C.
        hidden_channels: of every layer, or one number per layer.
        kernel_size: 1, 3, 5 or 7 for all axes, or one per axis.
        num_layers: each runs over the hidden states of the one before.
        ndim: 1, 2 or 3 spatial axes.
        bidirectional: "separate" gives the backward direction weights of its own and concatenates
            the channels; "shared" runs the same weights both ways and adds, which is DIDOM of
            SpecSlice-ConvLSTM with reduce="sum" (SISOM: forward only).
        reduce: of the last layer: "none" returns [B, T, hidden, *space]; "last", "sum" and "mean"
            over the steps [B, hidden, *space].
        return_sequence: other words for reduce: True "none", False "last".
        batch_first: False for [T, B, C, *space].
        algorithm, checkpoint_every: as in `medkern.convlstm`.
        bias, dilation, padding_mode, peephole, norm, forget_bias, proj_channels: as in
            ConvLSTMCell. With norm or proj_channels the steps run one by one.

    Call it with x and, if wanted, `state`, one entry per layer as returned with
    `return_state=True`: (h, c), for "shared" with a leading axis of 2 directions, for "separate" a
    pair of these; and `lengths` [B], the steps of each sample in a batch that was padded.

    Parameters: `cells.<layer>.*` of ConvLSTMCell, and `cells_reverse.<layer>.*` where separate;
    `convlstm_state_dict` and `convlstm_from_keras` convert those of other libraries.

    >>> import torch, medkern as mk
    >>> x = torch.randn(2, 5, 3, 16, 16)
    >>> mk.nn.ConvLSTM(3, 8, reduce="sum", bidirectional="shared")(x).shape
    torch.Size([2, 8, 16, 16])
    >>> y, states = mk.nn.ConvLSTM(3, [8, 4], num_layers=2)(x, return_state=True)
    >>> y.shape, [tuple(c.shape) for _, c in states]
    (torch.Size([2, 5, 4, 16, 16]), [(2, 8, 16, 16), (2, 4, 16, 16)])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int | Sequence[int],
        kernel_size: int | Sequence[int] = 3,
        num_layers: int = 1,
        *,
        ndim: int = 2,
        bidirectional: bool | str = False,
        reduce: str = "none",
        return_sequence: bool | None = None,
        batch_first: bool = True,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
        peephole: bool = False,
        norm: str | None = None,
        forget_bias: float = 0.0,
        proj_channels: int | None = None,
        algorithm: str = "auto",
        checkpoint_every: int | None = None,
    ) -> None:
        choice("ConvLSTM", "algorithm", algorithm, rules.ALGORITHMS)
        if checkpoint_every is not None:
            at_least("ConvLSTM", "checkpoint_every", checkpoint_every, 1)

        def cell(inputs: int, hidden: int, kernel: int | Sequence[int]) -> Cell:
            return ConvLSTMCell(
                inputs,
                hidden,
                kernel,
                ndim=ndim,
                bias=bias,
                dilation=dilation,
                padding_mode=padding_mode,
                peephole=peephole,
                norm=norm,
                forget_bias=forget_bias,
                proj_channels=proj_channels,
            )

        super().__init__(
            cell,
            in_channels,
            hidden_channels,
            kernel_size,
            num_layers,
            bidirectional=bidirectional,
            reduce=reduce,
            return_sequence=return_sequence,
            batch_first=batch_first,
        )
        self.algorithm, self.checkpoint_every = algorithm, checkpoint_every

    def run(self, cell: nn.Module, *args: Any) -> tuple[Tensor, Any]:
        how = {"algorithm": self.algorithm, "checkpoint_every": self.checkpoint_every}
        result: tuple[Tensor, Any] = cell.run(*args, **how)  # type: ignore[operator]
        return result


class ConvGRU(_Layers):
    """A convolutional GRU of one or more layers; arguments and shapes are those of ConvLSTM.

    A state is h alone, for "shared" with a leading axis of 2 directions.

    >>> import torch, medkern as mk
    >>> gru = mk.nn.ConvGRU(3, 8, bidirectional="separate", reduce="last")
    >>> gru(torch.randn(2, 5, 3, 9, 9)).shape
    torch.Size([2, 16, 9, 9])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int | Sequence[int],
        kernel_size: int | Sequence[int] = 3,
        num_layers: int = 1,
        *,
        ndim: int = 2,
        bidirectional: bool | str = False,
        reduce: str = "none",
        return_sequence: bool | None = None,
        batch_first: bool = True,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        def cell(inputs: int, hidden: int, kernel: int | Sequence[int]) -> Cell:
            return ConvGRUCell(
                inputs,
                hidden,
                kernel,
                ndim=ndim,
                bias=bias,
                dilation=dilation,
                padding_mode=padding_mode,
            )

        super().__init__(
            cell,
            in_channels,
            hidden_channels,
            kernel_size,
            num_layers,
            bidirectional=bidirectional,
            reduce=reduce,
            return_sequence=return_sequence,
            batch_first=batch_first,
        )

    def run(self, cell: nn.Module, *args: Any) -> tuple[Tensor, Any]:
        x, state, *rest = args
        out, (h,) = cell.run(x, None if state is None else (state,), *rest)  # type: ignore[operator]
        return out, h

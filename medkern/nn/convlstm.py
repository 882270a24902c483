"""Convolutional recurrent layers: ConvLSTM, ConvGRU and their cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medkern.ops.convlstm import convlstm, convlstm_gates
from medkern.reference.convlstm import convolution, counts, directions_of, is_running
from medkern.rules import at_least, choice, message
from medkern.rules import convlstm as rules

State = tuple[Tensor, ...]
BIDIRECTIONAL = (False, "separate", "shared")
NORMS = (None, "layer")


class _Cell(nn.Module):
    """Weights of one layer, and the loop over a sequence that every cell can run.

    A subclass defines `parts` (how many gates), `step`, and what its state holds.
    """

    parts: int

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        ndim: int = 2,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        choice(name, "ndim", ndim, (1, 2, 3))
        choice(name, "padding_mode", padding_mode, rules.PADDING_MODES)
        for argument, value in (
            ("in_channels", in_channels),
            ("hidden_channels", hidden_channels),
            ("dilation", dilation),
        ):
            at_least(name, argument, value, 1)
        kernel = [kernel_size] * ndim if isinstance(kernel_size, int) else list(kernel_size)
        if len(kernel) != ndim or any(size not in rules.KERNEL_SIZES for size in kernel):
            rule = f"be 1, 3, 5 or 7, or {ndim} of these"
            raise ValueError(message(name, "kernel_size", rule, kernel_size, "pass an odd size"))
        self.in_channels, self.hidden_channels = in_channels, hidden_channels
        self.kernel_size, self.dilation = tuple(kernel), (dilation,) * ndim
        self.padding_mode, self.ndim = padding_mode, ndim
        rows = self.parts * hidden_channels
        self.weight_x = nn.Parameter(torch.empty(rows, in_channels, *kernel))
        self.weight_h = nn.Parameter(torch.empty(rows, self.state_channels, *kernel))
        self.bias = nn.Parameter(torch.empty(rows)) if bias else None

    @property
    def state_channels(self) -> int:
        """Channels of h, which the layer returns."""
        return self.hidden_channels

    def reset_parameters(self) -> None:
        """As one convolution over the channels of x and h together."""
        fan_in = (self.in_channels + self.state_channels) * math.prod(self.kernel_size)
        for parameter in (self.weight_x, self.weight_h, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return convolution(x, weight, bias, self.dilation, self.padding_mode)

    def step(self, gates_x: Tensor, state: State) -> State:
        """The next state from the input's part of the gates; its first tensor is h."""
        raise NotImplementedError

    def inputs(self, x: Tensor) -> Tensor:
        """The input's part of the gates for all steps [B, T, ...] at once."""
        flat = self.convolve(x.flatten(0, 1), self.weight_x, self.bias)
        gates: Tensor = flat.unflatten(0, x.shape[:2])
        return gates

    def zeros(self, x: Tensor) -> State:
        """The first state for x [B, C, *space]."""
        raise NotImplementedError

    def run(
        self, x: Tensor, state: State | None, lengths: Tensor | None, reduce: str, direction: str
    ) -> tuple[Tensor, State]:
        """A sequence [B, T, C, *space], as `medkern.convlstm` runs it."""
        gates, runs = self.inputs(x), []
        for d, backwards in enumerate(directions_of(direction)):
            first = self.zeros(x[:, 0]) if state is None else state
            if state is not None and direction == "both":
                first = tuple(one[d] for one in state)
            runs.append(self.loop(gates, first, lengths, reduce, backwards))
        if len(runs) == 1:
            return runs[0]
        last = tuple(torch.stack(pair) for pair in zip(runs[0][1], runs[1][1], strict=True))
        return runs[0][0] + runs[1][0], last

    def loop(
        self, gates: Tensor, state: State, lengths: Tensor | None, reduce: str, backwards: bool
    ) -> tuple[Tensor, State]:
        steps = gates.shape[1]
        hs: list[Tensor] = [state[0]] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            new = self.step(gates[:, t], state)
            running = is_running(lengths, t, new[0])
            state = tuple(
                torch.where(running, n, s.to(n.dtype)) for n, s in zip(new, state, strict=True)
            )
            hs[t] = torch.where(running, new[0], 0)
        if reduce == "none":
            return torch.stack(hs, 1), state
        if reduce == "last":
            return state[0], state
        total = torch.stack(hs, 1).sum(1)
        return total if reduce == "sum" else total / counts(lengths, steps, total), state

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.hidden_channels}, kernel_size={self.kernel_size}, "
            f"padding_mode={self.padding_mode!r}"
        )


class ConvLSTMCell(_Cell):
    """One step of a ConvLSTM: (x, (h, c)) -> (h, c).

    Args:
        in_channels, hidden_channels: channels of x, and of c (and h, without a projection).
        kernel_size: 1, 3, 5 or 7 for all axes, or one per axis; the size is kept.
        ndim: 1, 2 or 3 spatial axes.
        bias: whether the gates have a bias.
        dilation, padding_mode: of both convolutions; "zeros", "replicate" or "circular".
        peephole: whether the gates see c, with one weight per channel and gate.
        norm: "layer" normalises the parts of x and of h in each gate over channels and space (a
            GroupNorm of 4 groups, so that any size of image will do); None does not.
        forget_bias: added to the bias of the forget gate when it is initialised; Keras takes 1.
        proj_channels: h becomes a 1 x 1 convolution of o tanh(c) with so many channels.

    Parameters: weight_x [4 hidden, in, *kernel], weight_h [4 hidden, channels of h, *kernel], bias
    [4 hidden], with the gates i, f, o, g one after another; peephole [3, hidden] for i, f, o.

    >>> import torch, medkern as mk
    >>> cell = mk.nn.ConvLSTMCell(3, 8)
    >>> h, c = cell(torch.randn(2, 3, 16, 16))
    >>> h, c = cell(torch.randn(2, 3, 16, 16), (h, c))
    >>> h.shape
    torch.Size([2, 8, 16, 16])
    """

    parts = rules.GATES

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        ndim: int = 2,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
        peephole: bool = False,
        norm: str | None = None,
        forget_bias: float = 0.0,
        proj_channels: int | None = None,
    ) -> None:
        choice("ConvLSTMCell", "norm", norm, NORMS)
        if proj_channels is not None:
            at_least("ConvLSTMCell", "proj_channels", proj_channels, 1)
        self._state_channels = proj_channels or hidden_channels
        super().__init__(
            in_channels,
            hidden_channels,
            kernel_size,
            ndim=ndim,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
        )
        self.forget_bias = forget_bias
        self.peephole = nn.Parameter(torch.empty(3, hidden_channels)) if peephole else None
        rows = self.parts * hidden_channels
        self.norm_x = nn.GroupNorm(rules.GATES, rows) if norm else None
        self.norm_h = nn.GroupNorm(rules.GATES, rows) if norm else None
        shape = (self.state_channels, hidden_channels, *[1] * ndim)
        self.weight_proj = nn.Parameter(torch.empty(shape)) if proj_channels else None
        self.reset_parameters()

    @property
    def state_channels(self) -> int:
        return self._state_channels

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            if self.bias is not None:
                self.bias[self.hidden_channels : 2 * self.hidden_channels] += self.forget_bias
            if self.peephole is not None:
                self.peephole.zero_()
            if self.weight_proj is not None:
                bound = 1 / math.sqrt(self.hidden_channels)
                nn.init.uniform_(self.weight_proj, -bound, bound)

    @property
    def is_plain(self) -> bool:
        """Whether whole sequences are one op."""
        return self.norm_x is None and self.weight_proj is None

    def zeros(self, x: Tensor) -> State:
        batch, _, *space = x.shape
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        h = x.new_zeros(batch, self.state_channels, *space)
        return h, x.new_zeros(batch, self.hidden_channels, *space, dtype=wide)

    def inputs(self, x: Tensor) -> Tensor:
        if self.norm_x is None:
            return super().inputs(x)
        flat = self.norm_x(self.convolve(x.flatten(0, 1), self.weight_x))
        if self.bias is not None:
            flat = flat + self.bias.reshape(-1, *[1] * self.ndim)
        gates: Tensor = flat.unflatten(0, x.shape[:2])
        return gates

    def step(self, gates_x: Tensor, state: State) -> State:
        h, c = state
        gates_h = self.convolve(h, self.weight_h)
        if self.norm_h is not None:
            gates_h = self.norm_h(gates_h)
        h, c = convlstm_gates(gates_x, gates_h, c, peephole=self.peephole)
        if self.weight_proj is not None:
            h = convolution(h, self.weight_proj, None, [1] * self.ndim, "zeros")
        return h, c

    def run(
        self,
        x: Tensor,
        state: State | None,
        lengths: Tensor | None,
        reduce: str,
        direction: str,
        **how: Any,
    ) -> tuple[Tensor, State]:
        if not self.is_plain:
            return super().run(x, state, lengths, reduce, direction)
        h0, c0 = (None, None) if state is None else state
        return convlstm(
            x,
            self.weight_x,
            self.weight_h,
            self.bias,
            h0,
            c0,
            reduce=reduce,
            direction=direction,
            peephole=self.peephole,
            lengths=lengths,
            dilation=self.dilation,
            padding_mode=self.padding_mode,
            **how,
        )

    def forward(self, x: Tensor, state: State | None = None) -> State:
        return self.run(x.unsqueeze(1), state, None, "last", "forward")[1]


class ConvGRUCell(_Cell):
    """One step of a convolutional GRU: (x, h) -> h.

    With r = sigmoid(w_xr * x + w_hr * h + b_r) and z likewise,
    n = tanh(w_xn * x + w_hn * (r h) + b_n) and h' = z h + (1 - z) n (Ballas et al., ICLR 2016).

    Args: as for ConvLSTMCell. Parameters: weight_x [3 hidden, in, *kernel], weight_h
    [3 hidden, hidden, *kernel], bias [3 hidden], with the gates r, z, n one after another. Runs in
    torch operations, with the convolution of the input done once for a sequence.

    >>> import torch, medkern as mk
    >>> mk.nn.ConvGRUCell(3, 8)(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """

    parts = 3

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        ndim: int = 2,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(
            in_channels,
            hidden_channels,
            kernel_size,
            ndim=ndim,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
        )
        self.reset_parameters()

    def zeros(self, x: Tensor) -> State:
        return (x.new_zeros(x.shape[0], self.hidden_channels, *x.shape[2:]),)

    def step(self, gates_x: Tensor, state: State) -> State:
        (h,) = state
        hidden = self.hidden_channels
        gates_h = self.convolve(h, self.weight_h[: 2 * hidden])
        r, z = (gates_x[:, : 2 * hidden] + gates_h).sigmoid().chunk(2, 1)
        n = (gates_x[:, 2 * hidden :] + self.convolve(r * h, self.weight_h[2 * hidden :])).tanh()
        return (z * h + (1 - z) * n,)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        state = None if h is None else (h,)
        return self.run(x.unsqueeze(1), state, None, "last", "forward")[1][0]


class _Layers(nn.Module):
    """Layers of cells over a sequence."""

    def __init__(
        self,
        cell: Callable[..., _Cell],
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

        def cell(inputs: int, hidden: int, kernel: int | Sequence[int]) -> _Cell:
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
        def cell(inputs: int, hidden: int, kernel: int | Sequence[int]) -> _Cell:
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

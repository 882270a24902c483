"""The cells of convolutional recurrent layers: ConvLSTMCell and ConvGRUCell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medkern.ops.convlstm import convlstm
from medkern.ops.convlstm_cell import convlstm_gates
from medkern.reference.convlstm import convolution, counts, directions_of, is_running
from medkern.rules import at_least, choice, message
from medkern.rules import convlstm as rules

State = tuple[Tensor, ...]
NORMS = (None, "layer")


class Cell(nn.Module):
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


class ConvLSTMCell(Cell):
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


class ConvGRUCell(Cell):
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

"""ConvLSTM sequences of video cells, and at the levels of SpecSlice-ConvLSTM.

The reference is the cell that everybody copies: one convolution over the channels of x and h, and
torch's own gates. Peers: the same with the input convolution taken out of the loop, the copied cell
under bfloat16 autocast, ours with checkpoints, for its memory, and Keras. In the case "autocast"
all are under it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional

import medkern
from medkern.benchmarks.registry import Case, Peer, same

Tensor = torch.Tensor


def cases() -> Iterable[Case]:
    yield gates_case((2, 32, 64, 64), quick=True)
    yield gates_case((2, 64, 64, 64))
    yield sequence_case(2, 8, 16, 32, (64, 64), quick=True)
    yield sequence_case(2, 8, 64, 64, (64, 64))
    yield sequence_case(2, 8, 16, 32, (128, 128))
    for channels, space in ((64, (64, 80)), (128, (32, 40)), (256, (16, 20))):
        yield sequence_case(1, 20, channels, channels, space, reduce="sum")
        yield sequence_case(1, 20, channels, channels, space, reduce="sum", direction="both")
        yield sequence_case(4, 20, channels, channels, space, reduce="sum")
    yield sequence_case(2, 8, 64, 64, (64, 64), dtype=torch.bfloat16)
    yield sequence_case(2, 8, 64, 64, (64, 64), autocast=True)


def gates_case(shape: tuple[int, ...], *, quick: bool = False) -> Case:
    batch, hidden, *space = shape
    numbers = 4 * torch.Size(shape).numel()  # bytes of one state

    def inputs() -> tuple[Tensor, ...]:
        random = torch.Generator().manual_seed(0)
        gates = (batch, 4 * hidden, *space)
        made = (torch.randn(s, generator=random) for s in (gates, gates, shape))
        return tuple(made)

    return Case(
        op="convlstm_gates",
        name=f"convlstm_gates/{'x'.join(map(str, shape))}/float32",
        inputs=inputs,
        native=medkern.convlstm_gates,
        reference=eager_gates,
        tolerance=1e-5,
        bytes_moved=11 * numbers,
        bytes_backward=16 * numbers,
        quick=quick,
    )


def sequence_case(
    batch: int,
    steps: int,
    channels: int,
    hidden: int,
    space: tuple[int, int],
    *,
    reduce: str = "none",
    direction: str = "forward",
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
    quick: bool = False,
) -> Case:
    exact = dtype == torch.float32 and not autocast
    ways = 2 if direction == "both" else 1
    per_step = 2 * 9 * 4 * hidden * batch * space[0] * space[1]
    flops = per_step * steps * (channels + ways * hidden)
    kind = "autocast" if autocast else str(dtype)[6:]
    kinds = [kind, *[reduce] * (reduce != "none"), *["both"] * (ways == 2)]
    shape = "x".join(map(str, (batch, steps, channels, *space)))

    def native(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
        out, _ = medkern.convlstm(x, w_x, w_h, b, reduce=reduce, direction=direction)
        return out

    def copied(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
        return both_ways(x, direction, reduce, lambda t: copied_sequence(t, w_x, w_h, b))

    def hoisted(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
        return both_ways(x, direction, reduce, lambda t: hoisted_sequence(t, w_x, w_h, b))

    def checkpointed(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
        how = {"reduce": reduce, "direction": direction, "checkpoint_every": 4}
        return medkern.convlstm(x, w_x, w_h, b, **how)[0]

    dressed = in_autocast if autocast else same
    peers = {"input convolution hoisted": Peer(lambda: dressed(hoisted))}
    if exact:
        peers["bfloat16 autocast"] = Peer(lambda: in_autocast(copied), approximate=True)
        peers["ours, checkpoint_every=4"] = Peer(lambda: checkpointed)
    if direction == "forward" and reduce == "none" and exact:
        peers["keras"] = Peer(keras_layer, "keras", backward=False, devices=("cpu",))
    return Case(
        op="convlstm",
        name=f"convlstm/{shape}/hidden{hidden}/{'/'.join(kinds)}",
        inputs=lambda: inputs(batch, steps, channels, hidden, space, dtype),
        native=dressed(native),
        reference=dressed(copied),
        tolerance=2e-5 if exact else 2e-2,
        tolerance_backward=1e-4 if exact else 4e-2,
        peers=peers,
        flops=flops,
        flops_backward=2 * flops,
        memory=True,
        compile=steps <= 8 and exact,  # the loop is unrolled: minutes for 20 steps
        quick=quick,
    )


def inputs(
    batch: int, steps: int, channels: int, hidden: int, space: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(0)
    bound = (9 * (channels + hidden)) ** -0.5

    def weight(*shape: int) -> Tensor:
        return (2 * bound * torch.rand(shape, generator=random) - bound).to(dtype)

    x = torch.randn(batch, steps, channels, *space, generator=random).to(dtype)
    rows = 4 * hidden
    return x, weight(rows, channels, 3, 3), weight(rows, hidden, 3, 3), weight(rows)


def eager_gates(gates_x: Tensor, gates_h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, o, g = (gates_x + gates_h).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def copied_sequence(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    h = c = x.new_zeros(x.shape[0], w_h.shape[1], *x.shape[3:])
    weight, hs = torch.cat([w_x, w_h], 1), []
    for t in range(x.shape[1]):
        both = torch.cat([x[:, t], h], 1)
        i, f, o, g = functional.conv2d(both, weight, b, padding=1).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hs.append(h)
    return torch.stack(hs, 1)


def hoisted_sequence(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    gates = functional.conv2d(x.flatten(0, 1), w_x, b, padding=1).unflatten(0, x.shape[:2])
    h = c = x.new_zeros(x.shape[0], w_h.shape[1], *x.shape[3:])
    hs = []
    for t in range(x.shape[1]):
        h, c = eager_gates(gates[:, t], functional.conv2d(h, w_h, padding=1), c)
        hs.append(h)
    return torch.stack(hs, 1)


def both_ways(x: Tensor, direction: str, reduce: str, run: Callable[[Tensor], Tensor]) -> Tensor:
    hs = run(x)
    if direction == "both":
        hs = hs + run(x.flip(1)).flip(1)
    return hs.sum(1) if reduce == "sum" else hs


def in_autocast(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Tensor, *weights: Tensor) -> Tensor:
        with torch.autocast("cuda" if x.is_cuda else "cpu", dtype=torch.bfloat16):
            return run(x, *weights).float()

    return call


def keras_layer() -> Callable[..., Any]:
    """Keras's layer on torch; its weights are set once, from the first call's."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers: dict[int, Any] = {}

    def call(x: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Any:
        if id(w_x) not in layers:
            layer = keras.layers.ConvLSTM2D(w_h.shape[1], 3, padding="same", return_sequences=True)
            layer.build((None, x.shape[1], *x.shape[3:], x.shape[2]))
            layer.set_weights([as_keras(t).detach().numpy() for t in (w_x, w_h, b)])
            layers[id(w_x)] = layer
        return layers[id(w_x)](x.movedim(2, -1)).movedim(-1, 2)

    return call


def as_keras(t: Tensor) -> Tensor:
    """[4 hidden, C, *size], gates i, f, o, g, as [*size, C, 4 hidden], gates i, f, g, o."""
    t = t.unflatten(0, (4, -1))[[0, 1, 3, 2]].flatten(0, 1)
    return t if t.dim() == 1 else t.movedim((0, 1), (-1, -2))

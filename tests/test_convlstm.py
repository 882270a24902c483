"""The ConvLSTM against the cell that everybody copies, Keras, laws, and every error."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import medkern as mk
from medkern import _library
from medkern.reference import convlstm as reference

HALVES = (torch.float16, torch.bfloat16)
TIGHT = {torch.float32: 1e-5, torch.float64: 1e-12}


def copied_cell(x, h, c, weight, bias):
    """One convolution over the channels of x and h, gates i, f, o, g."""
    both = torch.cat([x, h], 1)
    conv = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    i, f, o, g = conv(both, weight, bias, padding=weight.shape[-1] // 2).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def copied_sequence(x, w_x, w_h, b, h0=None, c0=None):
    batch, steps, _, *space = x.shape
    h = x.new_zeros(batch, w_h.shape[1], *space) if h0 is None else h0
    c = torch.zeros_like(h) if c0 is None else c0
    weight, hs = torch.cat([w_x, w_h], 1), []
    for t in range(steps):
        h, c = copied_cell(x[:, t], h, c, weight, b)
        hs.append(h)
    return torch.stack(hs, 1), h, c


def problem(
    batch=2, steps=3, inputs=3, hidden=5, space=(7, 9), kernel=3, dtype=torch.float64, scale=1.0
):
    generator = torch.Generator().manual_seed(5)

    def tensor(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    size = [kernel] * len(space)
    bound = scale / (((inputs + hidden) * kernel ** len(space)) ** 0.5)
    tensors = (
        tensor(batch, steps, inputs, *space),
        bound * tensor(4 * hidden, inputs, *size),
        bound * tensor(4 * hidden, hidden, *size),
        0.3 * tensor(4 * hidden),
    )
    return tuple(t.to(dtype) for t in tensors)


def states(x, hidden, dtype=None, directions=None):
    generator = torch.Generator().manual_seed(6)
    shape = (x.shape[0], hidden, *x.shape[3:])
    shape = shape if directions is None else (directions, *shape)
    return tuple(torch.randn(shape, generator=generator).to(dtype or x.dtype) for _ in range(2))


# -- gates --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gates_are_right_to_a_few_units_in_the_last_place(dtype):
    """sigmoid and tanh alone, over the whole range."""
    values = torch.cat([torch.linspace(-100, 100, 40_001), torch.linspace(-1, 1, 40_001)])
    values = torch.cat([values, torch.logspace(-30, 2, 1000)]).double().to(dtype)
    n = len(values)
    zeros, large = torch.zeros(n, dtype=dtype), torch.full((n,), 200.0, dtype=dtype)
    ones = torch.ones(1, 1, n, dtype=dtype)

    def gates(i, f, o, g, c):
        return mk.convlstm_gates(torch.stack([i, f, o, g])[None], None, c)

    _, forget = gates(-large, values, zeros, zeros, ones)
    _, candidate = gates(large, -large, zeros, values, ones)
    for got, exact in ((forget, values.double().sigmoid()), (candidate, values.double().tanh())):
        unit = torch.finfo(dtype).eps * exact.abs()
        error = (got.double().flatten() - exact).abs()
        tiny = 2 * torch.finfo(dtype).smallest_normal  # below, they are flushed
        assert (error <= 3 * unit + tiny).all()


def test_gates_saturate_and_spread_nan_within_their_voxel():
    inf, nan = torch.inf, torch.nan
    gates = torch.tensor([[inf, -inf, 0.0], [-inf, inf, nan], [inf, inf, 0.0], [inf, -inf, 0.0]])
    h, c = mk.convlstm_gates(gates[None], None, torch.full((1, 1, 3), 2.0))
    assert c[0, 0, :2].tolist() == [1.0, 2.0]
    torch.testing.assert_close(h[0, 0, :2], torch.tensor([1.0, 2.0]).tanh())
    assert c[0, 0, 2].isnan()
    assert h[0, 0, 2].isnan()


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 17, 3, 5), (1, 2, 3, 4, 5), (0, 3, 4), (2, 1, 1)])
@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_gates_keep_a_float32_state(shape, half):
    batch, hidden, *space = shape
    gates = torch.randn(batch, 4 * hidden, *space).to(half)
    c = torch.randn(shape)
    h, new = mk.convlstm_gates(gates, gates, c)
    wide, expected = reference.convlstm_gates(gates.float() * 2, None, c, None)
    assert (h.dtype, new.dtype) == (half, torch.float32)
    torch.testing.assert_close(new, expected)
    torch.testing.assert_close(h, wide.to(half))


@pytest.mark.parametrize("full", [False, True])
def test_peepholes_look_at_the_cells_of_the_paper(full):
    """i and f at the old cell, o at the new one."""
    gates, c = torch.randn(2, 12, 4, 5).double(), torch.randn(2, 3, 4, 5).double()
    p = torch.randn(3, 3, *((4, 5) if full else ())).double()
    h, new = mk.convlstm_gates(gates, None, c, peephole=p)
    p_i, p_f, p_o = p if full else p[..., None, None]
    i, f, o, g = gates.chunk(4, 1)
    want = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
    torch.testing.assert_close(new, want)
    torch.testing.assert_close(h, torch.sigmoid(o + p_o * want) * torch.tanh(want))


def test_gates_gradcheck_in_all_arguments():
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 8, 3), (2, 8, 3), (2, 2, 3), (3, 2))
    leaves = [torch.randn(s, generator=generator).double().requires_grad_() for s in shapes]

    def gates(x, h, c, p):
        return mk.convlstm_gates(x, h, c, peephole=p)

    assert torch.autograd.gradcheck(gates, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(gates, leaves)


# -- sequences --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("space", [(11,), (7, 9), (3, 4, 5)], ids=str)
def test_equals_the_copied_cell_and_its_gradients(space, kernel, dtype):
    tensors = problem(space=space, kernel=kernel, dtype=dtype)
    tensors = [t.requires_grad_() for t in (*tensors, *states(tensors[0], 5))]
    out, (h, c) = mk.convlstm(*tensors)
    want = copied_sequence(*tensors)
    for actual, expected in zip((out, h, c), want, strict=True):
        torch.testing.assert_close(actual, expected, rtol=TIGHT[dtype], atol=TIGHT[dtype])
    seeds = [torch.randn_like(t) for t in want]
    actual = torch.autograd.grad((out, h, c), tensors, seeds)
    expected = torch.autograd.grad(want, tensors, seeds)
    for a, e in zip(actual, expected, strict=True):
        scale = e.abs().max().item()
        torch.testing.assert_close(a, e, rtol=0, atol=TIGHT[dtype] * max(scale, 1))


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("direction", ["forward", "both"])
def test_half_precision_follows_float32(half, direction):
    tensors = problem(steps=4, dtype=torch.float32)
    low = [t.to(half).requires_grad_() for t in tensors]
    high = [t.detach().float().requires_grad_() for t in low]
    out, (h, c) = mk.convlstm(*low, reduce="sum", direction=direction)
    want, _ = mk.convlstm(*high, reduce="sum", direction=direction)
    assert (out.dtype, h.dtype, c.dtype) == (half, half, torch.float32)
    torch.testing.assert_close(out.float(), want, rtol=2e-2, atol=2e-2)
    actual = torch.autograd.grad(out.float().sum(), low)
    expected = torch.autograd.grad(want.sum(), high)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == half
        scale = e.abs().max().item()
        torch.testing.assert_close(a.float(), e, rtol=0, atol=2e-2 * scale)


@pytest.mark.parametrize("reduce", ["none", "last", "sum", "mean"])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_reductions_and_directions(reduce, direction):
    tensors = problem(steps=4)
    out, _ = mk.convlstm(*tensors, reduce=reduce, direction=direction)
    forward = copied_sequence(*tensors)[0]
    turned = copied_sequence(tensors[0].flip(1), *tensors[1:])[0].flip(1)
    hs = {"forward": forward, "backward": turned, "both": forward + turned}[direction]
    last = {"forward": hs[:, -1], "backward": hs[:, 0], "both": forward[:, -1] + turned[:, 0]}
    want = {"none": hs, "last": last[direction], "sum": hs.sum(1), "mean": hs.mean(1)}[reduce]
    torch.testing.assert_close(out, want)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_laws_of_the_two_sums(steps, algorithm):
    x, *weights = problem(steps=steps, dtype=torch.float32, space=(13, 18), hidden=9)
    how = {"reduce": "sum", "algorithm": algorithm}
    sisom, _ = mk.convlstm(x, *weights, **how)
    turned, _ = mk.convlstm(x.flip(1), *weights, **how)
    didom, (h, c) = mk.convlstm(x, *weights, **how, direction="both")
    mirror, (h2, c2) = mk.convlstm(x.flip(1), *weights, **how, direction="both")
    torch.testing.assert_close(didom, sisom + turned)
    torch.testing.assert_close(didom, mirror)
    torch.testing.assert_close(h, h2.flip(0))
    torch.testing.assert_close(c, c2.flip(0))
    if steps > 1:
        assert (sisom - turned).abs().max() > 1e-2


def test_a_sequence_is_its_steps_and_goes_on_from_its_state():
    x, *weights = problem(steps=6)
    whole, (h, c) = mk.convlstm(x, *weights)
    first, state = mk.convlstm(x[:, :4], *weights)
    second, (h2, c2) = mk.convlstm(x[:, 4:], *weights, *state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close((h, c), (h2, c2))
    gates_x = F.conv2d(x[:, 0], weights[0], weights[2], padding=1)
    h1, _ = mk.convlstm_gates(gates_x, None, torch.zeros_like(h))
    torch.testing.assert_close(h1, whole[:, 0])


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("reduce", ["none", "last", "sum", "mean"])
def test_ragged_batches_equal_their_samples_alone(reduce, direction):
    tensors = problem(batch=4, steps=5, hidden=2)
    x = tensors[0].clone().requires_grad_()
    lengths = torch.tensor([3, 0, 5, 1])
    first = states(x, 2, directions=2 if direction == "both" else None)
    how = {"reduce": reduce, "direction": direction}
    poisoned = torch.where(torch.arange(5)[None, :, None, None, None] < 3, x, torch.nan)
    out, (h, c) = mk.convlstm(poisoned[:1], *tensors[1:], lengths=lengths[:1], **how)
    assert not out.isnan().any()
    out, (h, c) = mk.convlstm(x, *tensors[1:], *first, lengths=lengths, **how)
    axis = 1 if direction == "both" else 0
    total = 0
    for i, n in enumerate(lengths.tolist()):
        alone = [s.narrow(axis, i, 1) for s in first]
        if n == 0:
            torch.testing.assert_close(h.narrow(axis, i, 1), alone[0])
            if reduce != "last":
                assert (out[i] == 0).all()
            continue
        want, state = mk.convlstm(x[i : i + 1, :n], *tensors[1:], *alone, **how)
        torch.testing.assert_close((h.narrow(axis, i, 1), c.narrow(axis, i, 1)), state)
        torch.testing.assert_close(out[i : i + 1, :n] if reduce == "none" else out[i : i + 1], want)
        total = total + (want**2).sum() + state[0].sum()
    assert reduce != "none" or (out[0, 3:] == 0).all()
    kept = [0, 2, 3]
    whole = (out[kept] ** 2).sum() + h.index_select(axis, torch.tensor(kept)).sum()
    (actual,) = torch.autograd.grad(whole, x)
    (expected,) = torch.autograd.grad(total, x)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("mode", ["replicate", "circular"])
def test_padding_modes_and_dilation(mode):
    x, w_x, w_h, b = problem(steps=2, kernel=5)
    leaves = [t.requires_grad_() for t in (x, w_x, w_h, b)]
    out, _ = mk.convlstm(*leaves, padding_mode=mode, dilation=(1, 2))

    def conv(t, weight, bias=None):
        return F.conv2d(F.pad(t, (4, 4, 2, 2), mode), weight, bias, dilation=(1, 2))

    h1, c1 = reference.convlstm_gates(conv(x[:, 0], w_x, b), None, x.new_zeros(2, 5, 7, 9), None)
    h2, _ = reference.convlstm_gates(conv(x[:, 1], w_x, b), conv(h1, w_h), c1, None)
    want = torch.stack([h1, h2], 1)
    torch.testing.assert_close(out, want)
    seed = torch.randn_like(want)
    actual = torch.autograd.grad(out, leaves, seed)
    torch.testing.assert_close(actual, torch.autograd.grad(want, leaves, seed))
    if mode == "circular":  # a law: rolling the input rolls the output
        rolled, _ = mk.convlstm(x.roll(3, -1), w_x, w_h, b, padding_mode=mode, dilation=(1, 2))
        torch.testing.assert_close(rolled, out.roll(3, -1))


def test_gradcheck_in_all_arguments():
    x, w_x, w_h, b = problem(batch=1, steps=2, inputs=1, hidden=2, space=(2, 3))
    h0, c0 = states(x, 2, directions=2)
    leaves = [t.requires_grad_() for t in (x, w_x, w_h, b, h0, c0, torch.randn(3, 2).double())]

    def sequence(*tensors):
        *given, peephole = tensors
        how = {"direction": "both", "lengths": torch.tensor([1]), "reduce": "sum"}
        out, (h, c) = mk.convlstm(*given, peephole=peephole, **how)
        return out, h, c

    assert torch.autograd.gradcheck(sequence, leaves)


def test_second_order_in_the_weights():
    x, w_x, w_h, _ = problem(batch=1, steps=2, inputs=1, hidden=1, space=(3,))
    leaves = [t.requires_grad_() for t in (x, w_x, w_h)]
    assert torch.autograd.gradgradcheck(lambda *t: mk.convlstm(*t, reduce="sum")[0], leaves)


@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("reduce", ["none", "mean", "last"])
def test_checkpoints_change_memory_only(reduce, direction):
    tensors = [t.requires_grad_() for t in problem(steps=5)]
    lengths = torch.tensor([5, 2])
    kept = []

    def pack(t):
        kept.append(t.numel())
        return t

    def run(every):
        kept.clear()
        how = {"reduce": reduce, "direction": direction, "lengths": lengths}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out, _ = mk.convlstm(*tensors, **how, checkpoint_every=every)
        return out, torch.autograd.grad(out.square().sum(), tensors), sum(kept)

    (out, grads, memory), (out2, grads2, less) = run(None), run(2)
    torch.testing.assert_close(out, out2)
    torch.testing.assert_close(grads, grads2)
    assert less < memory


def test_saves_pre_activations_and_cells_only():
    tensors = [t.requires_grad_() for t in problem(steps=4)]
    kept = []

    def pack(t):
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        mk.convlstm(*tensors, reduce="sum")
    per_step = 2 * 7 * 9
    assert sum(kept) == sum(t.numel() for t in tensors) + 4 * per_step * (4 * 5 + 5)
    *_, gates, cells = torch.ops.medkern.convlstm(
        *tensors, None, None, None, None, "sum", "forward", [1, 1], "zeros", "auto", False
    )
    assert gates.numel() == cells.numel() == 0


def test_channels_last_is_kept():
    x, *weights = problem(dtype=torch.float32)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2).requires_grad_()
    for reduce in ("none", "sum"):
        out, _ = mk.convlstm(last, *weights, reduce=reduce)
        assert out.stride(-3) == 1
        want, _ = mk.convlstm(x, *weights, reduce=reduce)
        torch.testing.assert_close(out, want)
    (grad,) = torch.autograd.grad(out.sum(), last)
    assert grad.stride() == last.stride()


def test_empty_batch():
    x, *weights = problem(batch=0)
    leaves = [w.requires_grad_() for w in weights]
    out, (h, c) = mk.convlstm(x, *leaves, reduce="sum", direction="both")
    assert (out.shape, h.shape, c.shape) == ((0, 5, 7, 9), (2, 0, 5, 7, 9), (2, 0, 5, 7, 9))
    for grad in torch.autograd.grad(out.sum(), leaves):
        assert (grad == 0).all()


def test_nan_spreads_as_far_as_the_kernels_reach():
    x, *weights = problem(steps=2, batch=2, space=(9, 9), dtype=torch.float32)
    x[0, 0, 0, 4, 4] = torch.nan
    out, _ = mk.convlstm(x, *weights)
    assert not out[1].isnan().any()
    for t, reach in ((0, 1), (1, 2)):
        found = out[0, t].isnan().any(0).nonzero()
        assert found.amin().item() == 4 - reach
        assert found.amax().item() == 4 + reach


def test_numpy_in_numpy_out():
    tensors = problem()
    out, (h, c) = mk.convlstm(*(t.numpy() for t in tensors), reduce="sum")
    assert all(isinstance(a, np.ndarray) for a in (out, h, c))
    want, _ = mk.convlstm(*tensors, reduce="sum")
    np.testing.assert_array_equal(out, want.numpy())


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_autocast_takes_its_dtype(half):
    tensors = [t.requires_grad_() for t in problem(dtype=torch.float32)]
    with torch.autocast("cpu", dtype=half):
        out, (h, c) = mk.convlstm(*tensors)
    assert (out.dtype, h.dtype, c.dtype) == (half, half, torch.float32)
    out.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in tensors)


def test_compiles_whole_and_exports():
    x = problem(dtype=torch.float32)[0]
    layer = mk.nn.ConvLSTM(3, 5, reduce="sum", bidirectional="shared")
    compiled = torch.compile(layer, fullgraph=True)
    want = layer(x)
    got = compiled(x)
    torch.testing.assert_close(got, want)
    actual = torch.autograd.grad(got.sum(), list(layer.parameters()))
    torch.testing.assert_close(actual, torch.autograd.grad(want.sum(), list(layer.parameters())))
    program = torch.export.export(layer, (x,))
    assert "medkern.convlstm.default" in str(program.graph)


# -- Winograd's form --

WINOGRAD = [  # batch, steps, inputs, hidden, space: tiles cut at both ends, channels not of 16
    (1, 1, 1, 1, (1, 1)),
    (2, 3, 3, 5, (7, 9)),
    (1, 2, 17, 33, (13, 18)),
    (3, 3, 40, 24, (5, 30)),
]


def winograd_problem(shape, direction, reduce, ragged):
    batch, steps, inputs, hidden, space = shape
    tensors = list(problem(batch, steps, inputs, hidden, space, dtype=torch.float32))
    how = {"direction": direction, "reduce": reduce}
    if ragged:
        tensors += states(tensors[0], hidden, directions=2 if direction == "both" else None)
        tensors += [0.3 * torch.randn(3, hidden)]
        how["lengths"] = torch.arange(batch) * 2 % (steps + 1)
    return tensors, how


def run_with_gradients(tensors, how, **kind):
    leaves = [t.detach().requires_grad_() for t in tensors]
    peephole = leaves[6] if len(leaves) > 6 else None
    out, (h, c) = mk.convlstm(*leaves[:6], peephole=peephole, **how, **kind)
    seeds = [torch.cos(torch.arange(t.numel())).reshape(t.shape).to(t.dtype) for t in (out, h, c)]
    return [out, h, c], torch.autograd.grad((out, h, c), leaves, seeds)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("shape", WINOGRAD, ids=str)
def test_winograd_errs_by_less_than_2e_5(shape, direction, ragged):
    for reduce in ("none", "sum", "last", "mean"):
        tensors, how = winograd_problem(shape, direction, reduce, ragged)
        values, grads = run_with_gradients(tensors, how, algorithm="winograd")
        exact = run_with_gradients([t.double() for t in tensors], how, backend="reference")
        for actual, expected in zip(values, exact[0], strict=True):
            torch.testing.assert_close(actual.double(), expected, rtol=0, atol=2e-5)
        for actual, expected in zip(grads, exact[1], strict=True):
            scale = max(expected.abs().max().item(), 1)
            torch.testing.assert_close(actual.double(), expected, rtol=0, atol=2e-5 * scale)


def test_winograd_is_chosen_where_it_pays_and_says_why_not():
    from medkern.ops import convlstm_winograd as winograd

    x, w_x, w_h, _ = problem(hidden=16, space=(12, 12), dtype=torch.float32)
    how = (None, [1, 1], "zeros")
    assert winograd.chosen(x, w_x, w_h, *how, "auto")
    assert not winograd.chosen(x, w_x, w_h, *how, "direct")
    assert not winograd.chosen(x[..., :3, :3], w_x, w_h, *how, "auto")
    for change, text in (
        ((x, w_x[..., :1, :1], w_h, *how), "3 x 3 kernels"),
        ((x, w_x, w_h, None, [2, 1], "zeros"), "dilation 1"),
        ((x, w_x, w_h, None, [1, 1], "circular"), "zero padding"),
        ((x.double(), w_x, w_h, *how), "computes in float32"),
        ((x.to("meta"), w_x, w_h, *how), "runs on the CPU"),
        ((x, w_x, w_h, torch.ones(3, 16, 12, 12), *how[1:]), "one peephole weight per channel"),
    ):
        assert text in winograd.why_not(*change)


def test_weight_gradients_of_long_sequences_do_not_drift():
    """Of 10,240 tiles; summed one after the other their error would be four times as large."""
    tensors = problem(2, 20, 16, 16, (64, 64), dtype=torch.float32)
    how = {"reduce": "sum"}
    _, grads = run_with_gradients(tensors, how, algorithm="winograd")
    _, exact = run_with_gradients([t.double() for t in tensors], how)
    for actual, expected in zip(grads[1:], exact[1:], strict=True):
        error = (actual.double() - expected).abs().max() / expected.abs().max()
        assert error < 5e-6


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("direction", ["forward", "both"])
def test_winograd_of_half_precision_is_that_of_float32_rounded_once(half, direction):
    for reduce in ("none", "mean"):
        tensors, how = winograd_problem((2, 3, 17, 24, (9, 13)), direction, reduce, True)
        low = [t.to(half) for t in tensors]
        values, grads = run_with_gradients(low, how)  # "auto" takes it
        wide = run_with_gradients([t.float() for t in low], how, algorithm="winograd")
        for actual, expected in zip(values, wide[0], strict=True):
            assert torch.equal(actual, expected.to(actual.dtype))
        for tensor, actual, expected in zip(low, grads, wide[1], strict=True):
            assert actual.dtype == tensor.dtype
            error = 0.02 * expected.abs().max().item()  # the seeds are rounded too
            torch.testing.assert_close(actual.float(), expected, rtol=0, atol=error)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_winograd_keeps_layouts_and_dtypes_that_the_fake_promises(dtype):
    x, *weights = problem(hidden=16, inputs=16, space=(12, 13), dtype=dtype)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    for given in (x, last, x.transpose(3, 4), x[..., ::2, 1:]):
        for reduce, direction in (("none", "both"), ("sum", "backward")):
            args = (given, *weights, *[None] * 4, reduce, direction, [1, 1], "zeros", "winograd")
            torch.library.opcheck(
                torch.ops.medkern.convlstm.default,
                (*args, True),
                test_utils=("test_schema", "test_faketensor"),
            )
            leaf = given.detach().clone(memory_format=torch.preserve_format).requires_grad_()
            out = mk.convlstm(leaf, *weights, reduce=reduce, algorithm="winograd")[0]
            (grad,) = torch.autograd.grad(out.square().sum(), leaf)
            plain = torch.tensor(given.tolist()).requires_grad_()
            wide = [w.float() for w in weights]
            want = mk.convlstm(plain, *wide, reduce=reduce, algorithm="direct")[0]
            (expected,) = torch.autograd.grad(want.square().sum(), plain)
            rounding = 0 if dtype == torch.float32 else torch.finfo(dtype).eps
            torch.testing.assert_close(out.float(), want, rtol=1e-5 + rounding, atol=2e-5)
            error = 2e-4 + 2 * rounding * expected.abs().max().item()  # out is rounded too
            torch.testing.assert_close(grad.float(), expected, rtol=1e-4, atol=error)


def test_winograd_bits_do_not_depend_on_threads_and_hardly_on_the_instruction_set():
    tensors, how = winograd_problem((2, 2, 24, 40, (18, 30)), "both", "sum", True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run_with_gradients(tensors, how, algorithm="winograd")
        torch.set_num_threads(2)
        two = run_with_gradients(tensors, how, algorithm="winograd")
    finally:
        torch.set_num_threads(before)
    flat = [*one[0], *one[1]]
    assert all(map(torch.equal, flat, [*two[0], *two[1]]))
    switch = _library.native_isa(_library.find("_native"))
    active = switch.active
    try:
        for name in switch.names:
            switch.select(name)
            values, grads = run_with_gradients(tensors, how, algorithm="winograd")
            for a, b in zip([*values, *grads], flat, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(b.abs().max().item(), 1))
    finally:
        switch.select(active)


# -- layers --


@pytest.mark.parametrize(
    ("channels", "parameters"), [(64, 295_168), (128, 1_180_160), (256, 4_719_616)]
)
def test_parameters_and_operations_of_the_paper(channels, parameters):
    cell = mk.nn.ConvLSTMCell(channels, channels)
    assert sum(p.numel() for p in cell.parameters()) == parameters
    pixels = 64 * 80 * 64**2 // channels**2
    macs = sum(w.numel() for w in (cell.weight_x, cell.weight_h)) * pixels
    assert macs == 1_509_949_440  # 1.510 G a step at every level; 3 levels x 20 steps: 90.6 G


@pytest.mark.parametrize("order", ["ifog", "ifgo", "ifco"])
@pytest.mark.parametrize("hidden_first", [False, True])
def test_state_dicts_of_copied_cells_load(order, hidden_first):
    hidden = 5
    convs = [torch.nn.Conv2d(n + hidden, 4 * hidden, 3, padding=1) for n in (3, hidden)]
    state = {
        f"cell_list.{i}.conv.{k}": v for i, c in enumerate(convs) for k, v in c.state_dict().items()
    }
    state["other"] = torch.zeros(1)
    layer = mk.nn.ConvLSTM(3, hidden, num_layers=2)
    layer.load_state_dict(mk.nn.convlstm_state_dict(state, order=order, hidden_first=hidden_first))
    hs = problem()[0].float()
    for conv in convs:
        h = c = torch.zeros(2, hidden, 7, 9)
        outs = []
        for t in range(hs.shape[1]):
            pair = (h, hs[:, t]) if hidden_first else (hs[:, t], h)
            chunks = conv(torch.cat(pair, 1)).chunk(4, 1)
            gate = dict(zip(order.replace("c", "g"), chunks, strict=True))
            c = gate["f"].sigmoid() * c + gate["i"].sigmoid() * gate["g"].tanh()
            h = gate["o"].sigmoid() * c.tanh()
            outs.append(h)
        hs = torch.stack(outs, 1)
    torch.testing.assert_close(layer(problem()[0].float()), hs, rtol=1e-5, atol=1e-5)


KERAS = """
import numpy as np, keras, sys
rng = np.random.default_rng(0)
x = rng.standard_normal((2, 4, 6, 7, 3)).astype("float32")
layer = keras.layers.ConvLSTM2D(5, 3, padding="same", return_sequences=True, return_state=True)
out, h, c = (np.asarray(keras.ops.convert_to_numpy(t)) for t in layer(x))
bias = rng.standard_normal(20).astype("float32")
layer.set_weights([*layer.get_weights()[:2], bias])
out, h, c = (np.asarray(keras.ops.convert_to_numpy(t)) for t in layer(x))
np.savez(sys.argv[1], x=x, out=out, h=h, c=c, **{f"w{i}": w for i, w in
         enumerate(layer.get_weights())})
"""


def test_keras_agrees(tmp_path):
    if importlib.util.find_spec("keras") is None:  # importing it would choose its backend
        pytest.skip("keras is not installed")
    path = tmp_path / "keras.npz"
    subprocess.run(
        [sys.executable, "-c", KERAS, str(path)],
        check=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    data = {k: torch.from_numpy(v) for k, v in np.load(path).items()}
    layer = mk.nn.ConvLSTM(3, 5)
    cell = mk.nn.convlstm_from_keras(data["w0"], data["w1"], data["w2"])
    layer.cells[0].load_state_dict(cell)
    out, [(h, c)] = layer(data["x"].movedim(-1, 2), return_state=True)
    for name, t in (("out", out), ("h", h), ("c", c)):
        torch.testing.assert_close(t.movedim(-3, -1), data[name], rtol=1e-5, atol=1e-5)


LAYERS = {
    "plain": {},
    "peephole": {"peephole": True, "forget_bias": 1.0},
    "norm": {"norm": "layer"},
    "projection": {"proj_channels": 2},
    "norm and projection": {"norm": "layer", "proj_channels": 2, "peephole": True},
}


@pytest.mark.parametrize("how", LAYERS.values(), ids=LAYERS)
def test_layer_is_its_cell_step_by_step(how):
    x = problem(steps=3, dtype=torch.float32)[0]
    layer = mk.nn.ConvLSTM(3, 5, **how)
    cell, state, outs = layer.cells[0], None, []
    torch.nn.init.normal_(cell.weight_h)
    for t in range(3):
        state = cell(x[:, t], state)
        outs.append(state[0])
    out, [last] = layer(x, return_state=True)
    torch.testing.assert_close(out, torch.stack(outs, 1))
    torch.testing.assert_close(last, state)
    assert out.shape[2] == how.get("proj_channels", 5)
    lengths = torch.tensor([2, 3])
    ragged = layer(x, lengths=lengths)
    torch.testing.assert_close(ragged[0, :2], out[0, :2])
    assert (ragged[0, 2] == 0).all()


def test_norm_is_that_of_each_gate():
    cell = mk.nn.ConvLSTMCell(2, 3, norm="layer", bias=False)
    x = torch.randn(2, 2, 6, 6)
    gates = F.conv2d(x, cell.weight_x, padding=1).unflatten(1, (4, 3)).flatten(2)
    normed = F.layer_norm(gates, gates.shape[2:]).unflatten(2, (3, 6, 6)).flatten(1, 2)
    want = mk.convlstm_gates(normed, None, torch.zeros(2, 3, 6, 6))
    torch.testing.assert_close(cell(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [mk.nn.ConvLSTM, mk.nn.ConvGRU])
def test_bidirectional_layers(kind):
    x = problem(steps=3, dtype=torch.float32)[0]
    shared = kind(3, 4, bidirectional="shared", reduce="sum")
    single = kind(3, 4, reduce="sum")
    single.load_state_dict(shared.state_dict())
    torch.testing.assert_close(shared(x), single(x) + single(x.flip(1)))
    separate = kind(3, 4, bidirectional="separate", num_layers=2)
    out, states_ = separate(x, return_state=True)
    assert out.shape == (2, 3, 8, 7, 9)
    again = separate(x, states_)
    assert (again - out).abs().max() > 1e-3
    one = kind(3, 4, bidirectional="separate")
    forth, back = kind(3, 4), kind(3, 4)
    forth.cells, back.cells = one.cells, one.cells_reverse
    want = torch.cat([forth(x), back(x.flip(1)).flip(1)], 2)
    torch.testing.assert_close(one(x), want)


def test_gru_is_its_formula():
    x = problem(steps=2, dtype=torch.float64)[0]
    layer = mk.nn.ConvGRU(3, 4, kernel_size=(3, 5)).double()
    cell, h = layer.cells[0], x.new_zeros(2, 4, 7, 9)
    for t in range(2):
        wx = F.conv2d(x[:, t], cell.weight_x, cell.bias, padding=(1, 2)).chunk(3, 1)
        w_r, w_z, w_n = cell.weight_h.chunk(3)
        r = (wx[0] + F.conv2d(h, w_r, padding=(1, 2))).sigmoid()
        z = (wx[1] + F.conv2d(h, w_z, padding=(1, 2))).sigmoid()
        n = (wx[2] + F.conv2d(r * h, w_n, padding=(1, 2))).tanh()
        h = z * h + (1 - z) * n
        torch.testing.assert_close(cell(x[:, 0]) if t == 0 else layer(x)[:, 1], h)


def test_batch_first_and_return_sequence():
    x = problem(dtype=torch.float32)[0]
    layer = mk.nn.ConvLSTM(3, 5)
    other = mk.nn.ConvLSTM(3, 5, batch_first=False)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x.transpose(0, 1)), layer(x).transpose(0, 1))
    last = mk.nn.ConvLSTM(3, 5, return_sequence=False)
    last.load_state_dict(layer.state_dict())
    torch.testing.assert_close(last(x), layer(x)[:, -1])
    assert mk.nn.ConvLSTM(3, 5, return_sequence=True).reduce == "none"


def test_forget_bias_and_repr():
    torch.manual_seed(0)
    plain = mk.nn.ConvLSTMCell(2, 3)
    torch.manual_seed(0)
    one = mk.nn.ConvLSTMCell(2, 3, forget_bias=1.0)
    want = torch.tensor([0.0] * 3 + [1.0] * 3 + [0.0] * 6)
    torch.testing.assert_close(one.bias - plain.bias, want)
    assert "kernel_size=(3, 3)" in repr(plain)
    assert "bidirectional='shared'" in repr(mk.nn.ConvLSTM(1, 1, bidirectional="shared"))


def test_order_task_of_the_paper_tells_mean_from_sum():
    """A bump at slice 1 or 4 of 6: invisible to a mean over slices, not to DIDOM."""
    torch.manual_seed(0)
    layer = mk.nn.ConvLSTM(1, 8, reduce="sum", bidirectional="shared")
    head = torch.nn.Conv2d(8, 1, 1)
    x = 0.1 * torch.randn(8, 6, 1, 8, 8)
    labels = (torch.rand(8, 8, 8) < 0.5).float()
    x[:, 1, 0] += labels
    x[:, 3, 0] += 1 - labels
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(head(layer(x))[:, 0], labels)
        loss.backward()
        optimizer.step()
    accuracy = ((head(layer(x))[:, 0] > 0) == (labels > 0.5)).float().mean()
    assert accuracy > 0.95


def test_example_with_the_layer_in_place_of_a_copied_cell(tmp_path):
    pytest.importorskip("PIL")
    example = runpy.run_path(str(Path(__file__).parent.parent / "docs/examples/moving_blobs.py"))
    picture = tmp_path / "strip.png"
    curves = example["main"](picture, steps=4, hidden=8, batch=1, frames=3, size=12)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-3)
    assert curves[0][-1] < curves[0][0]
    assert picture.stat().st_size > 0


# -- errors --

BAD = {
    "rank": (lambda a: (a[0][0, 0], *a[1:]), {}, ValueError, r"x must be \[B, T, C, \*space\]"),
    "no step": (lambda a: (a[0][:, :0], *a[1:]), {}, ValueError, "x must have at least one step"),
    "channels": (lambda a: (a[0][:, :, :2], *a[1:]), {}, ValueError, r"w_x must be \[4 hidden, in"),
    "rows": (lambda a: (a[0], a[1][:-1], *a[2:]), {}, ValueError, r"w_x must be \[4 hidden, in"),
    "hidden": (lambda a: (a[0], a[1], a[2][:-1], a[3]), {}, ValueError, "w_h must be"),
    "even": (lambda a: (a[0], a[1][..., :2], *a[2:]), {}, ValueError, "w_x must have kernel sizes"),
    "bias": (lambda a: (*a[:3], a[3][:-1]), {}, ValueError, r"b must be \[4 hidden\], \(20,\)"),
    "h0": (lambda a: (*a, a[0][:, 0]), {}, ValueError, r"h0 must be \(2, 5, 7, 9\)"),
    "c0": (
        lambda a: (*a, None, a[0].new_zeros(2, 5, 7, 9)),
        {"direction": "both"},
        ValueError,
        r"c0 must be \(2, 2, 5, 7, 9\) for direction='both'",
    ),
    "integers": (lambda a: (a[0].long(), *a[1:]), {}, TypeError, "x must be one of float16"),
    "device": (lambda a: (a[0], a[1].to("meta"), *a[2:]), {}, ValueError, "w_x must be on the dev"),
    "reduce": (lambda a: a, {"reduce": "max"}, ValueError, "reduce must be one of 'none', 'last'"),
    "direction": (lambda a: a, {"direction": "up"}, ValueError, "direction must be one of"),
    "padding": (lambda a: a, {"padding_mode": "reflect"}, ValueError, "padding_mode must be one"),
    "algorithm": (lambda a: a, {"algorithm": "fft"}, ValueError, "algorithm must be one of 'auto'"),
    "winograd": (  # in float64
        lambda a: a,
        {"algorithm": "winograd"},
        ValueError,
        "algorithm must be 'auto' or 'direct' here, got 'winograd'; ",
    ),
    "dilation": (
        lambda a: a,
        {"dilation": (1, 2, 3)},
        ValueError,
        "dilation must be a number or 2",
    ),
    "dilation 0": (lambda a: a, {"dilation": 0}, ValueError, "dilation must be at least 1"),
    "reach": (
        lambda a: a,
        {"padding_mode": "circular", "dilation": 8},
        ValueError,
        "x must fit circular padding, 8 voxels",
    ),
    "peephole": (
        lambda a: a,
        {"peephole": torch.zeros(2, 5).double()},
        ValueError,
        r"peephole must be \[3, C\] or \[3, C, \*space\], \(3, 5\) or \(3, 5, 7, 9\)",
    ),
    "lengths": (lambda a: a, {"lengths": torch.ones(3).long()}, ValueError, r"lengths must be \[B"),
    "negative": (lambda a: a, {"lengths": torch.tensor([-1, 2])}, ValueError, "lengths must be at"),
    "float": (lambda a: a, {"lengths": torch.ones(2)}, TypeError, "lengths must be integers"),
    "every": (
        lambda a: a,
        {"checkpoint_every": 0},
        ValueError,
        "checkpoint_every must be at least",
    ),
    "list": (lambda a: ([1.0], *a[1:]), {}, TypeError, "x must be a torch tensor"),
}


@pytest.mark.parametrize(("change", "how", "kind", "text"), BAD.values(), ids=BAD)
def test_errors_of_sequences(change, how, kind, text):
    with pytest.raises(kind, match="medkern.convlstm: " + text):
        mk.convlstm(*change(problem()), **how)


def test_errors_of_gates():
    gates, c = torch.zeros(2, 12, 4), torch.zeros(2, 3, 4)
    for args, how, text in (
        ((gates, None, c[0]), {}, "c must be [B, C, *space]"),
        ((gates[:, 1:], None, c), {}, "gates_x must be [B, 4 C, *space], (2, 12, 4), for c"),
        ((gates, gates[:1], c), {}, "gates_h must be [B, 4 C, *space], (2, 12, 4), for c"),
        ((gates, None, c), {"peephole": c}, "peephole must be [3, C] or [3, C, *space], (3, 3) or"),
    ):
        with pytest.raises(ValueError, match=re.escape("medkern.convlstm_gates: " + text)):
            mk.convlstm_gates(*args, **how)
    with pytest.raises(TypeError, match="gates_x must be one of"):
        mk.convlstm_gates(gates.long(), None, c)


def test_errors_of_layers():
    for build, text in (
        (lambda: mk.nn.ConvLSTM(1, 1, 2), "kernel_size must be 1, 3, 5 or 7, or 2 of these, got 2"),
        (lambda: mk.nn.ConvLSTM(0, 1), "in_channels must be at least 1, got 0"),
        (lambda: mk.nn.ConvLSTM(1, [1, 2]), "hidden_channels must be an int or 1 of them"),
        (lambda: mk.nn.ConvLSTM(1, 1, bidirectional=True), "bidirectional must be one of False"),
        (lambda: mk.nn.ConvLSTM(1, 1, reduce="max"), "reduce must be one of"),
        (lambda: mk.nn.ConvLSTM(1, 1, num_layers=0), "num_layers must be at least 1"),
        (lambda: mk.nn.ConvLSTM(1, 1, norm="batch"), "norm must be one of None, 'layer'"),
        (lambda: mk.nn.ConvLSTM(1, 1, proj_channels=0), "proj_channels must be at least 1"),
        (lambda: mk.nn.ConvGRU(1, 1, padding_mode="reflect"), "padding_mode must be one of"),
        (lambda: mk.nn.ConvGRU(1, 1, ndim=4), "ndim must be one of 1, 2, 3"),
        (
            lambda: mk.nn.ConvLSTM(1, 1, reduce="sum", return_sequence=True),
            "return_sequence must be None where reduce is given",
        ),
        (lambda: mk.nn.convlstm_state_dict({}), "state must hold a convolution named"),
        (lambda: mk.nn.convlstm_state_dict({}, order="ifo"), "order must name the gates"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            build()

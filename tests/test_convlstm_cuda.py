"""What a CUDA graph asks of the ConvLSTM's time loop, as far as it shows without a GPU: that it
never looks at values, never leaves the device, and always runs the same operations."""

import contextlib
import importlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import medkern as mk
from medkern.ops import convlstm_steps as steps
from medkern.ops import convlstm_steps_backward as steps_backward

# Each makes the host wait for the device, or shapes depend on values.
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "unique", "equal"}
CASES = [
    ("none", "forward", False, 1, "zeros"),
    ("last", "backward", True, 1, "circular"),
    ("sum", "both", False, 2, "zeros"),
    ("mean", "both", True, 1, "replicate"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c[:3])))


class Recorded(TorchDispatchMode):
    """What ran: operations with the shapes, dtypes and devices of their tensors."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = torch.utils._pytree.tree_leaves((args, kwargs, out))
        described = [
            (tuple(t.shape), t.dtype, t.device) for t in tensors if isinstance(t, torch.Tensor)
        ]
        self.calls.append((function.overloadpacket.__name__, described))
        return out


def problem(case, device="cpu", seed=0):
    reduce, direction, ragged, dilation, mode = case
    generator = None if device == "meta" else torch.Generator().manual_seed(seed)

    def tensor(*shape):
        return torch.randn(shape, generator=generator, device=device)

    lengths = torch.randint(0, 5, (2,), generator=generator, device=device) if ragged else None
    state = (2, 2 if direction == "both" else 1, 4, 6, 7)
    tensors = (tensor(2, 4, 3, 6, 7), tensor(16, 3, 3, 3), tensor(16, 4, 3, 3), tensor(16))
    tensors = (*tensors, tensor(*state), tensor(*state), tensor(3, 4, 1, 1), lengths)
    return tensors, (reduce, direction, [dilation] * 2, mode, "direct")


def both_loops(tensors, how):
    """Forward and backward, as the op runs them on a GPU."""
    x, w_x, w_h, _, *rest = tensors
    out, h, c, gates, cells = steps.forward(*tensors, *how, True)
    return steps_backward.backward(
        x, out, h, c, w_x, w_h, *rest, gates, cells, *how, needs=[True] * 7
    )


@each_case
def test_the_loop_runs_on_a_device_without_values(case):
    """Tensors without data: looking at one, or copying it to the host, raises."""
    with Recorded() as recorded:
        both_loops(*problem(case, "meta"))
    assert len(recorded.calls) > 50
    for name, described in recorded.calls:
        # Scalars may come from the host: they are arguments of a kernel.
        assert all(d.type == "meta" or shape == () for shape, _, d in described), name


@each_case
def test_what_runs_does_not_depend_on_values(case):
    runs = []
    for seed in (1, 2):
        tensors, how = problem(case, seed=seed)
        with Recorded() as recorded:
            both_loops(tensors, how)
        runs.append(recorded.calls)
    assert runs[0] == runs[1]
    assert WAITS.isdisjoint(name for name, _ in runs[0])


def test_a_look_at_a_value_would_be_noticed(monkeypatch):
    """The tests above can fail: a loop that skips steps which no sample has."""
    running = steps.Problem.running

    def looking(self, t):
        mask = running(self, t)
        return mask if mask is None or mask.any() else None

    monkeypatch.setattr(steps.Problem, "running", looking)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        both_loops(*problem(CASES[3], "meta"))
    with Recorded() as recorded:
        both_loops(*problem(CASES[3]))
    assert not WAITS.isdisjoint(name for name, _ in recorded.calls)


def test_lengths_on_a_device_are_not_looked_at():
    op = importlib.import_module("medkern.ops.convlstm")
    lengths = torch.ones(2, dtype=torch.int32, device="meta")
    assert op._lengths("convlstm", lengths, torch.zeros(2, 3, 1, 4, device="meta")).is_meta


def test_a_layer_runs_on_meta_tensors():
    layer = mk.nn.ConvLSTM(3, 5, reduce="sum", bidirectional="shared").to("meta")
    assert layer(torch.empty(2, 4, 3, 8, 9, device="meta")).shape == (2, 5, 8, 9)


@pytest.mark.gpu
@pytest.mark.parametrize("how", [{}, {"bidirectional": "shared", "reduce": "sum"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_training_step_is_captured_and_replayed(how, dtype):
    torch.manual_seed(0)
    layer = mk.nn.ConvLSTM(3, 8, **how).to("cuda", dtype)
    parameters = list(layer.parameters())
    lengths = torch.tensor([5, 3], device="cuda")

    def step(x):
        loss = layer(x, lengths=lengths).float().square().mean()
        return loss, *torch.autograd.grad(loss, parameters)

    static = torch.zeros(2, 5, 3, 12, 13, device="cuda", dtype=dtype)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    with contextlib.ExitStack() as stack:
        stack.callback(torch.cuda.set_sync_debug_mode, "default")
        with torch.cuda.graph(graph):
            captured = step(static)
    for seed in (1, 2):
        torch.manual_seed(seed)
        static.copy_(torch.randn(static.shape))
        graph.replay()
        tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
        for actual, expected in zip(captured, step(static), strict=True):
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)

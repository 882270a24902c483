"""Every op on a GPU: `pytest -m gpu`. The oracle is the same op on the CPU, which the other tests
hold against the reference, so nothing here repeats what they say about values.

A machine without a GPU skips all of this, but for the tests of the last section: they see to it
that the module still collects and still covers every op.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import medkern
from medkern import backend as backends
from medkern._registry import OPS as ALL_OPS
from medkern._registry import Op, Sample

gpu = pytest.mark.gpu
DEVICE = torch.device("cuda", 0)
OPS = {name: op for name, op in ALL_OPS.items() if op.spec.cuda}
HALVES = (torch.float16, torch.bfloat16)
BACKENDS = ("native", "triton")
# Against the CPU kernel, relative to the largest value: nvcc contracts a * b + c, GCC does not.
TOLERANCE = {
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
    torch.float32: 1e-6,
    torch.float64: 1e-14,
}
# Ops that look at the device's memory while they run: fixpoints do so to learn when to stop, and a
# spacing, a tensor, is checked on the host. They wait, so a graph cannot capture them.
WAITS = {
    "geodesic_distance",
    "_geodesic_parents",
    "_geodesic_pull",
    "euclidean_distance",
    "_euclidean_indices",
    "max_distance_along_path",
    "minimum_barrier_distance",
}
# Ops with memory of their own in work; their docstrings say how much.
WITH_WORKSPACE = {
    *WAITS,
    "_add_low_modes",
    "_correlation_sums",
    "_correlation_sums_backward",
    "_dft_kept",
    "_half_spectrum",
    "_half_spectrum_adjoint",
    "_idft_kept",
    "_low_modes",
    "_spectrum_loss",
    "_tree_paths",
    "_tree_roots",
    "_tree_subtrees",
    "boundary_loss",
}
ALLOCATION = 512  # bytes to which torch's allocator rounds
SLEEP_CYCLES = 400_000_000  # some 0.2 s: far longer than any launch


@functools.cache
def samples(name: str, dtype: torch.dtype) -> list[Sample]:
    return list(ALL_OPS[name].spec.samples(dtype))


def few_samples(op: Op, dtype: torch.dtype) -> list[Sample]:
    """One sample of each layout."""
    return list({s.name.split("-")[0]: s for s in samples(op.spec.name, dtype)}.values())


def contiguous_sample(op: Op, dtype: torch.dtype | None = None) -> Sample:
    return next(
        s
        for s in samples(op.spec.name, dtype or op.spec.dtypes[0])
        if s.name.startswith("contiguous")
    )


def each_sample(choose: Callable[[Op, torch.dtype], Iterable[Sample]]) -> Any:
    """Parametrise over op x dtype x chosen sample."""
    return pytest.mark.parametrize(
        ("op", "dtype", "sample"),
        [
            pytest.param(op, dtype, s, id=f"{op.spec.name}-{str(dtype)[6:]}-{s.name}")
            for op in OPS.values()
            for dtype in op.spec.dtypes
            for s in choose(op, dtype)
        ],
    )


each_op = pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))


def each_op_but(names: set[str]) -> Any:
    chosen = {name: op for name, op in OPS.items() if name not in names}
    return pytest.mark.parametrize("op", chosen.values(), ids=list(chosen))


each_differentiable = pytest.mark.parametrize(
    ("op", "sample"),
    [
        pytest.param(op, s, id=f"{op.spec.name}-{s.name}")
        for op in OPS.values()
        if op.spec.differentiable
        for s in few_samples(op, torch.float64)
    ],
)
each_host_op = pytest.mark.parametrize(
    "op", [op for op in ALL_OPS.values() if op.spec.host], ids=lambda op: op.spec.name
)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def to_device(args: tuple[Any, ...], device: torch.device | None = None) -> tuple[Any, ...]:
    """The arguments on the GPU with the same strides and offsets, which `Tensor.to` would drop."""
    return tuple(moved(a, device or DEVICE) if isinstance(a, Tensor) else a for a in args)


def moved(t: Tensor, device: torch.device) -> Tensor:
    count = t.untyped_storage().nbytes() // t.element_size()
    whole = t.as_strided((count,), (1,), 0).to(device)
    return whole.as_strided(t.shape, t.stride(), t.storage_offset())


def many(args: tuple[Any, ...], times: int) -> tuple[Any, ...]:
    """The same with every tensor repeated along the batch; channels_last is kept."""
    return tuple(torch.cat([a] * times) if isinstance(a, Tensor) else a for a in args)


def huge(args: tuple[Any, ...], times: int) -> tuple[Any, ...]:
    """As `many`, without a list of so many tensors."""
    return tuple(
        a.repeat(times, *[1] * (a.dim() - 1)) if isinstance(a, Tensor) else a for a in args
    )


def tensors_of(value: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(value) if isinstance(t, Tensor)]


def skip_without(backend: str, op: Op, args: tuple[Any, ...]) -> None:
    """Triton may be missing; missing native kernels are what this file is here to tell."""
    reason = backends.why_not(op, backend, args)
    if backend == "triton" and reason is not None:
        pytest.skip(reason)


def assert_same_bits(actual: Any, expected: Any) -> None:
    for a, e in zip(tensors_of(actual), tensors_of(expected), strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        a, e = a.cpu(), e.cpu()
        assert torch.equal(a.isnan(), e.isnan())
        assert torch.equal(a.nan_to_num(), e.nan_to_num())


def assert_equals_cpu(actual: Any, expected: Any) -> None:
    """Integers bit for bit, floats within the tolerance of their dtype."""
    for a, e in zip(tensors_of(actual), tensors_of(expected), strict=True):
        assert a.device.type == DEVICE.type
        if not e.is_floating_point():
            assert_same_bits(a, e)
            continue
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        scale = max(e.abs().max().item(), 1.0) if e.numel() else 1.0
        bound = TOLERANCE[e.dtype] * scale
        torch.testing.assert_close(a.cpu().double(), e.double(), rtol=0, atol=bound)


def assert_promised_strides(actual: Any, promised: Any) -> None:
    for a, p in zip(tensors_of(actual), tensors_of(promised), strict=True):
        assert (a.shape, a.dtype) == (p.shape, p.dtype)
        assert a.numel() == 0 or a.stride() == p.stride()


# Values, layouts, derivatives.


@gpu
def test_the_native_library_is_loaded():
    """Without it the references run, and everything else here would say so one by one."""
    assert backends.native("cuda").reason is None
    for op in OPS.values():
        assert torch._C._dispatch_has_kernel_for_dispatch_key(op.qualname, "CUDA")


@gpu
@each_backend
@each_sample(lambda op, dtype: samples(op.spec.name, dtype))
def test_equals_cpu_op(op, dtype, sample, backend, verifies):
    args = to_device(sample.args)
    skip_without(backend, op, args)
    verifies(op.spec.name, "run on hardware")
    before = [t.clone() for t in tensors_of(args)]
    actual = op(*args, backend=backend)
    assert_equals_cpu(actual, op(*sample.args))
    assert_promised_strides(actual, op.spec.fake(*sample.args))
    assert_same_bits(tensors_of(args), before)


@gpu
@each_backend
@each_op
def test_crosses_block_borders(op, backend):
    """Sizes that fill many blocks and leave a rest in the last one."""
    for dtype in op.spec.dtypes:
        for sample in few_samples(op, dtype):
            # A result over pairs of rows grows with both tensors.
            args = many(sample.args, 997 if op.spec.fold else 61)
            on_gpu = to_device(args)
            skip_without(backend, op, on_gpu)
            assert_equals_cpu(op(*on_gpu, backend=backend), op(*args))


@gpu
@each_host_op
def test_ops_of_the_host_take_tensors_of_the_device(op):
    for dtype in op.spec.dtypes:
        for sample in samples(op.spec.name, dtype):
            actual = op(*to_device(sample.args))
            assert_same_bits(actual, op(*sample.args))
            assert {t.device for t in tensors_of(actual)} == {DEVICE}


@gpu
@each_sample(few_samples)
def test_triton_equals_native(op, dtype, sample):
    args = to_device(sample.args)
    skip_without("triton", op, args)
    native = tensors_of(op(*args, backend="native"))
    assert_equals_cpu(op(*args, backend="triton"), [t.cpu() for t in native])


@gpu
@each_sample(few_samples)
def test_opcheck(op, dtype, sample):
    args = to_device(sample.args)
    torch.library.opcheck(op.packet.default, args)
    if op.spec.differentiable:
        first = args[0].detach().clone(memory_format=torch.preserve_format).requires_grad_()
        torch.library.opcheck(op.packet.default, (first, *args[1:]))


@gpu
@each_backend
@each_differentiable
def test_gradients(op, sample, backend):
    args = to_device(sample.args)
    skip_without(backend, op, args)
    leaf = args[0].detach().clone(memory_format=torch.preserve_format).requires_grad_()
    if leaf.numel() == 0 or sum(t.numel() for t in tensors_of(args)) > 400:
        pytest.skip("finite differences need a small, non-empty input")

    def f(x):
        return op(x, *args[1:])

    # Forced for the whole block, as backward runs other ops.
    with medkern.use_backend(backend):
        assert torch.autograd.gradcheck(f, (leaf,), check_batched_grad=True)
        assert torch.autograd.gradgradcheck(f, (leaf,))


@gpu
@each_differentiable
def test_forward_mode(op, sample):
    args = to_device(sample.args)
    x = args[0].clone()
    tangent = torch.randn_like(x)
    _, actual = torch.func.jvp(lambda t: op(t, *args[1:]), (x,), (tangent,))
    _, expected = torch.func.jvp(
        lambda t: op(t, *sample.args[1:]), (sample.args[0].clone(),), (tangent.cpu(),)
    )
    assert_equals_cpu(actual, expected)


@gpu
@pytest.mark.parametrize("half", HALVES, ids=str)
@each_op
def test_autocast(op, half):
    if not op.spec.differentiable:
        pytest.skip("an op of integers")
    args = to_device(contiguous_sample(op, torch.float32).args)
    lowered = tuple(a.to(half) if isinstance(a, Tensor) else a for a in args)
    mixed = (lowered[0], *args[1:])
    with torch.autocast("cuda", dtype=half):
        assert {t.dtype for t in tensors_of(op(*args))} == {torch.float32}
        kept = {t.dtype for t in tensors_of(op(*lowered))}
        assert kept == {torch.float32 if op.spec.autocast == "float32" else half}
        if op.spec.autocast == "widest":
            assert {t.dtype for t in tensors_of(op(*mixed))} == {torch.float32}


@gpu
@each_op
def test_compiles_without_graph_breaks(op):
    torch._dynamo.reset()
    args = to_device(contiguous_sample(op).args)
    expected = op(*args)
    assert_same_bits(torch.compile(lambda *a: op(*a), fullgraph=True)(*args), expected)


# Streams, devices, graphs, memory.


@gpu
@each_backend
@each_op_but(WAITS)
def test_runs_on_the_current_stream_and_waits_for_nothing(op, backend):
    """The input gets its values late on a side stream: whoever reads it elsewhere reads zeros."""
    first, *rest = to_device(contiguous_sample(op).args)
    skip_without(backend, op, (first, *rest))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = op(first, *rest, backend=backend)
        op(first, *rest, backend=backend)  # its memory is in the side stream's pool from now on
        late = torch.zeros_like(first)
        side.synchronize()
        torch.cuda._sleep(SLEEP_CYCLES)
        late.copy_(first)
        torch.cuda.set_sync_debug_mode("error")
        try:
            actual = op(late, *rest, backend=backend)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        done = side.record_event()
    # The debug mode knows torch's own waits; that the stream still sleeps excludes all others.
    assert not done.query()
    side.synchronize()
    assert_same_bits(actual, expected)


@gpu
@each_backend
@each_op
def test_runs_on_the_device_of_its_input(op, backend):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    second = torch.device("cuda", 1)
    sample = contiguous_sample(op)
    args = to_device(sample.args, second)
    skip_without(backend, op, args)
    with torch.cuda.device(0):
        out = op(*args, backend=backend)
        assert torch.cuda.current_device() == 0
    assert {t.device for t in tensors_of(out)} == {second}
    assert_equals_cpu(out, op(*sample.args))


@gpu
@each_backend
@each_op_but(WAITS)
def test_is_captured_and_replayed_in_a_graph(op, backend):
    first, *rest = to_device(contiguous_sample(op).args)
    skip_without(backend, op, (first, *rest))
    other = first.flip(-1).contiguous()
    expected = op(other, *rest, backend=backend)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    static = first.clone()
    with torch.cuda.graph(graph):
        out = op(static, *rest, backend=backend)
    for _ in range(2):
        static.copy_(other)
        graph.replay()
        assert_same_bits(out, expected)
        static.zero_()


@gpu
@each_backend
@each_op
def test_ten_runs_give_the_same_bits(op, backend):
    for dtype in op.spec.dtypes:
        args = to_device(many(contiguous_sample(op, dtype).args, 1001))
        skip_without(backend, op, args)
        first = op(*args, backend=backend)
        for _ in range(9):
            assert_same_bits(op(*args, backend=backend), first)


@gpu
@each_backend
@each_op_but(WITH_WORKSPACE)
def test_allocates_nothing_but_its_output(op, backend):
    for sample in samples(op.spec.name, op.spec.dtypes[0]):
        # Other layouts, and two that differ, may be copied; the docstrings say when.
        dense = sample.name.startswith(("contiguous", "channels_last", "line", "volume"))
        if not dense or "other-keys" in sample.name:
            continue
        args = to_device(many(sample.args, 64))
        skip_without(backend, op, args)
        op(*args, backend=backend)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        out = op(*args, backend=backend)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        assert peak <= sum(-(-t.nbytes // ALLOCATION) * ALLOCATION for t in tensors_of(out))


def smallest_dtype(op: Op) -> torch.dtype:
    return min(op.spec.dtypes, key=lambda dtype: dtype.itemsize)


def skip_unless_free(nbytes: int) -> None:
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    if free < nbytes:
        pytest.skip(f"needs {nbytes / 1e9:.0f} GB of free GPU memory, has {free / 1e9:.0f}")


@gpu
@pytest.mark.slow
@each_backend
@each_op
def test_more_than_two_to_the_31_elements(op, backend):
    """A huge batch: the last samples are those of a small one."""
    if not op.spec.fold:
        pytest.skip("its result grows with both of its tensors")
    sample = contiguous_sample(op, smallest_dtype(op))
    times = 2**31 // sample.args[0].numel() + 1
    inputs = sum(t.nbytes for t in tensors_of(sample.args))
    outputs = sum(t.nbytes for t in tensors_of(op.spec.fake(*sample.args)))
    skip_unless_free(int(1.1 * times * (inputs + outputs)))
    args = to_device(sample.args)
    skip_without(backend, op, args)
    expected = tensors_of(op(*args, backend=backend))
    for out, small in zip(
        tensors_of(op(*huge(args, times), backend=backend)), expected, strict=True
    ):
        assert_same_bits(out[: len(small)], small)
        assert_same_bits(out[-len(small) :], small)


@gpu
@pytest.mark.slow
@each_backend
def test_an_image_of_more_than_two_to_the_31_pixels(backend):
    height, width = 2**15 + 2, 2**16 + 2
    skip_unless_free(int(2.2 * 2 * height * width))
    x = torch.randn(1, 1, 2, width, device=DEVICE, dtype=torch.float16)
    x = x.repeat(1, 1, height // 2, 1)
    skip_without(backend, OPS["haar_dwt"], (x,))
    bands = medkern.haar_dwt(x, backend=backend)
    expected = medkern.haar_dwt(x[:, :, -2:], backend=backend)
    assert_same_bits(bands[..., :1, :], expected)
    assert_same_bits(bands[..., -1:, :], expected)


# CuPy.


@gpu
@pytest.mark.parametrize("side_stream", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: medkern.haar_dwt(x),
        lambda x: medkern.haar_pool(x, mode="max_concat"),
        lambda x: medkern.haar_wavedec(x)[1],
    ],
    ids=["dwt", "pool", "wavedec"],
)
def test_cupy_in_cupy_out(call, side_stream):
    """DLPack orders the streams: the array is written on CuPy's, late, and read on torch's."""
    cupy = pytest.importorskip("cupy")
    image = torch.randn(2, 3, 33, 64)
    stream = cupy.cuda.Stream(non_blocking=True) if side_stream else cupy.cuda.Stream.null
    late = cupy.zeros(image.shape, dtype=cupy.float32)
    values = cupy.asarray(image.numpy())
    cupy.cuda.Device().synchronize()
    shared = torch.cuda.ExternalStream(stream.ptr) if side_stream else torch.cuda.default_stream()
    with stream:
        with torch.cuda.stream(shared):
            torch.cuda._sleep(SLEEP_CYCLES)
        late[...] = values
        out = call(late)
    assert isinstance(out, cupy.ndarray)
    assert_equals_cpu(torch.from_dlpack(out), call(image))


# Without a GPU: that the tests above still cover everything.


def parameters_of(test: Any) -> set[tuple[Any, ...]]:
    """What the test's parametrisation by samples holds."""
    marks = [m for m in test.pytestmark if m.name == "parametrize" and "sample" in m.args[0]]
    return {param.id for mark in marks for param in mark.args[1]}


def test_every_op_and_every_sample_is_covered():
    wanted = {
        f"{name}-{str(dtype)[6:]}-{s.name}"
        for name, op in OPS.items()
        for dtype in op.spec.dtypes
        for s in op.spec.samples(dtype)
    }
    assert parameters_of(test_equals_cpu_op) == wanted
    differentiable = {name for name, op in OPS.items() if op.spec.differentiable}
    for test in (test_gradients, test_forward_mode):
        assert {one.split("-")[0] for one in parameters_of(test)} == differentiable
    for op in OPS.values():
        assert all(d in TOLERANCE or not d.is_floating_point for d in op.spec.dtypes)
        assert contiguous_sample(op, smallest_dtype(op)).args[0].numel() > 0


def test_every_other_test_is_marked():
    unmarked = {
        name
        for name, value in globals().items()
        if name.startswith("test_")
        and not any(mark.name == "gpu" for mark in getattr(value, "pytestmark", ()))
    }
    assert unmarked == {
        "test_every_op_and_every_sample_is_covered",
        "test_every_other_test_is_marked",
        "test_moving_keeps_values_strides_and_offsets",
    }


@each_op
def test_moving_keeps_values_strides_and_offsets(op):
    for dtype, device in itertools.product(op.spec.dtypes, ("cpu", "meta")):
        for sample in samples(op.spec.name, dtype):
            copies = tensors_of(to_device(sample.args, torch.device(device)))
            for copy, t in zip(copies, tensors_of(sample.args), strict=True):
                assert (copy.device.type, copy.shape) == (device, t.shape)
                assert (copy.stride(), copy.storage_offset()) == (t.stride(), t.storage_offset())
                assert device == "meta" or torch.equal(copy, t)

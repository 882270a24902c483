"""What every op promises, checked for every OpSpec: a new op is covered by being registered.

The samples of a spec are contiguous, transposed, sliced, expanded, channels-last, empty and size-1
inputs. See DESIGN.md, section 4, for the promises.
"""

from __future__ import annotations

import functools
import itertools
import operator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import medkern
from medkern import _library, backend
from medkern._registry import OPS, Op, Sample

HALVES = (torch.float16, torch.bfloat16)
# Against the reference computed in float64, relative to the largest value.
TOLERANCE = {
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
    torch.float32: 2e-6,
    torch.float64: 1e-14,
}
# Outputs that tell how a result was found.
REPORTS = {"_geodesic_info": (1,)}
# Outputs that only the op's own backward reads, and have no gradient.
SAVED = {"convlstm": (3, 4)}
# Halves are rounded between steps: float32 outputs have the error of the first argument's dtype.
ROUNDED_INSIDE = {"convlstm", "_convlstm_backward"}
# Tensor arguments without a batch axis, such as weights.
UNBATCHED = {
    "convlstm": {1, 2, 3, 6},
    "_convlstm_backward": set(range(12)),  # or with the batch along another axis
    "fourier_epilogue": {2, 3},
    "_fourier_epilogue_backward": {3, 4},
}
# Of torch's own convolutions and transforms, which round otherwise with another number of threads.
ROUNDED_BY_TORCH = {
    "_amplitude_jitter",
    "_convlstm_backward",
    "_half_spectrum",
    "_half_spectrum_adjoint",
}
TRACED = {"contiguous", "transposed", "expanded", "empty", "size"}
PUBLIC = [op for op in OPS.values() if op.spec.public]
DIFFERENTIABLE = [op for op in OPS.values() if op.spec.differentiable]


@functools.cache
def samples(name: str, dtype: torch.dtype) -> list[Sample]:
    return list(OPS[name].spec.samples(dtype))


def each_sample(ops, dtypes=None):
    """Parametrise over op x dtype x sample."""
    return pytest.mark.parametrize(
        ("op", "dtype", "sample"),
        [
            pytest.param(op, dtype, s, id=f"{op.spec.name}-{str(dtype)[6:]}-{s.name}")
            for op in ops
            for dtype in dtypes or op.spec.dtypes
            for s in samples(op.spec.name, dtype)
        ],
    )


def few_samples(op: Op, dtype: torch.dtype) -> list[Sample]:
    """One sample of each layout: for checks whose cost is compiling, not running."""
    chosen = {s.name.split("-")[0]: s for s in samples(op.spec.name, dtype)}
    return list(chosen.values())


def each_op_few(ops, dtype=None):
    return pytest.mark.parametrize(
        ("op", "sample"),
        [
            pytest.param(op, s, id=f"{op.spec.name}-{s.name}")
            for op in ops
            for s in few_samples(op, dtype or op.spec.dtypes[0])
        ],
    )


def tensors_of(args) -> list[Tensor]:
    return [a for a in args if isinstance(a, Tensor)]


def outputs_of(value) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(value) if isinstance(t, Tensor)]


def values_of(op, value) -> list[Tensor]:
    """The outputs that every implementation of the op must agree on."""
    return [t for i, t in enumerate(outputs_of(value)) if i not in REPORTS.get(op.spec.name, ())]


def joined(op, value) -> Tensor:
    """The differentiable outputs as one tensor."""
    if isinstance(value, Tensor):
        return value
    dropped = SAVED.get(op.spec.name, ())
    return torch.cat([t.flatten() for i, t in enumerate(value) if i not in dropped])


def call(op, *args, **kwargs) -> Tensor:
    return joined(op, op(*args, **kwargs))


def to_dtype(args, dtype):
    """The floating arguments in another dtype, but for a spacing, which always is float64."""
    given = args[0].dtype
    return tuple(
        a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() and a.dtype == given else a
        for a in args
    )


def small(args) -> bool:
    return sum(t.numel() for t in tensors_of(args)) <= 400


def with_leaf(args):
    """The arguments with the first tensor requiring a gradient, and that tensor."""
    leaf = args[0].detach().clone(memory_format=torch.preserve_format).requires_grad_()
    return (leaf, *args[1:]), leaf


def assert_same_bits(actual, expected):
    for a, b in zip(outputs_of(actual), outputs_of(expected), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a.nan_to_num(nan=7e4), b.nan_to_num(nan=7e4))
        assert torch.equal(a.isnan(), b.isnan())


def test_every_family_is_registered():
    assert {"haar_dwt", "haar_idwt", "haar_pool"} <= set(OPS)


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_spec_is_complete(op):
    assert op.spec.reference.__doc__ or not op.spec.public
    for dtype in op.spec.dtypes:
        names = [s.name for s in samples(op.spec.name, dtype)]
        assert len(names) == len(set(names))
        layouts = {n.split("-")[0] for n in names}
        assert {"contiguous", "transposed", "sliced", "expanded", "empty", "size"} <= layouts


@pytest.mark.parametrize("op", PUBLIC, ids=lambda o: o.spec.name)
def test_public_op_has_a_page_and_a_benchmark(op):
    root = Path(__file__).parent.parent
    pages = "".join(p.read_text() for p in (root / "docs/ops").glob("*.md"))
    assert f"`{op.spec.name}" in pages or f"medkern.{op.spec.name}" in pages
    from medkern.benchmarks import registry

    assert op.spec.name in registry.op_names(registry.load_cases())
    assert hasattr(medkern, op.spec.name)


@each_sample(OPS.values())
def test_equals_float64_reference(op, dtype, sample):
    actual = values_of(op, op(*sample.args))
    expected = values_of(op, op.spec.reference(*to_dtype(sample.args, torch.float64)))
    for a, e in zip(actual, expected, strict=True):
        if not a.dtype.is_floating_point:
            assert torch.equal(a, e)
            continue
        finite = e[e.isfinite()]
        scale = finite.abs().max().item() if finite.numel() else 1.0
        assert a.shape == e.shape
        assert not a.isnan().any()
        rounded = dtype if op.spec.name in ROUNDED_INSIDE else a.dtype
        atol = TOLERANCE[rounded] * max(scale, 1.0)
        torch.testing.assert_close(a.double(), e.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_every_instruction_set(op, isa, verifies):
    switch = _library.native_isa(backend.native().path)
    if isa not in switch.names:
        pytest.skip(f"this processor has no {isa}")
    cases = [(op, s.args) for d in op.spec.dtypes for s in samples(op.spec.name, d)]
    expected = [op(*args) for op, args in cases]
    verifies(op.spec.name, f"CPU {isa}")
    before = switch.active
    switch.select(isa)
    try:
        for (_, args), e in zip(cases, expected, strict=True):
            if isa == "baseline" and op.spec.fused:
                torch.testing.assert_close(op(*args), e)
            else:
                assert_same_bits(op(*args), e)
    finally:
        switch.select(before)


@each_sample(OPS.values(), dtypes=None)
def test_fake_matches_kernel(op, dtype, sample):
    real = outputs_of(op(*sample.args))
    promised = outputs_of(op.spec.fake(*sample.args))
    for r, p in zip(real, promised, strict=True):
        assert (r.shape, r.dtype) == (p.shape, p.dtype)
        assert r.numel() == 0 or r.stride() == p.stride()


@each_op_few(OPS.values())
def test_opcheck(op, sample):
    """Aliasing and fakes for every layout; traced with symbolic sizes, which takes a hundred times
    as long, for those whose sizes or strides are special."""
    traced = sample.name.split("-")[0] in TRACED
    without, derived = ("test_schema", "test_faketensor"), ("test_autograd_registration",)
    trace = ("test_aot_dispatch_dynamic",) if traced else ()
    packet = op.packet.default
    if not op.spec.differentiable:
        torch.library.opcheck(packet, sample.args, test_utils=(*without, *derived, *trace))
        return
    torch.library.opcheck(packet, sample.args, test_utils=without)
    args, _ = with_leaf(to_dtype(sample.args, torch.float32))
    torch.library.opcheck(packet, args, test_utils=(*without, *derived, *trace))


@each_op_few(OPS.values())
def test_fallback_matches_kernel(op, sample):
    """Without a compiled library the reference runs behind the same op, with the same strides."""
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    fallback = op.packet.default._op_dk(key, *sample.args)
    native = op(*sample.args)
    for f, n in zip(outputs_of(fallback), outputs_of(native), strict=True):
        assert n.numel() == 0 or f.stride() == n.stride()
    for f, n in zip(values_of(op, fallback), values_of(op, native), strict=True):
        torch.testing.assert_close(f, n, rtol=4e-3, atol=4e-3)


@each_op_few(DIFFERENTIABLE, torch.float64)
def test_gradients(op, sample):
    args, leaf = with_leaf(sample.args)
    if not small(args) or leaf.numel() == 0:
        pytest.skip("finite differences need a small, non-empty input")

    def f(x):
        return call(op, x, *args[1:])

    assert torch.autograd.gradcheck(f, (leaf,), check_forward_ad=True, check_batched_grad=True)
    # Along random directions: element by element, this is a test of the backward's own op.
    assert torch.autograd.gradgradcheck(f, (leaf,), check_fwd_over_rev=True, fast_mode=True)


@each_sample(DIFFERENTIABLE, dtypes=(torch.float64,))
def test_gradient_equals_reference(op, dtype, sample):
    """Also where finite differences are too slow: torch's own derivative of the reference."""
    args, leaf = with_leaf(sample.args)
    out = call(op, *args)
    grad = torch.randn_like(out)
    (actual,) = torch.autograd.grad(out, leaf, grad)
    (expected,) = torch.autograd.grad(call(op, *args, backend="reference"), leaf, grad)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    assert actual.shape == leaf.shape


@each_op_few(DIFFERENTIABLE, torch.float64)
def test_gradient_layouts(op, sample):
    """Backward takes expanded, transposed and zero-size output gradients."""
    args, leaf = with_leaf(sample.args)
    (from_sum,) = torch.autograd.grad(call(op, *args).sum(), leaf)
    ones = torch.ones_like(call(op, *args))
    (from_ones,) = torch.autograd.grad(call(op, *args), leaf, ones)
    torch.testing.assert_close(from_sum, from_ones)
    grad = torch.randn_like(call(op, *args)).contiguous()
    axis = min(1, grad.dim() - 1)
    turned = grad.transpose(-1, axis).contiguous().transpose(-1, axis)
    (a,) = torch.autograd.grad(call(op, *args), leaf, grad)
    (b,) = torch.autograd.grad(call(op, *args), leaf, turned)
    torch.testing.assert_close(a, b)


@each_op_few(DIFFERENTIABLE, torch.float64)
def test_functorch_transforms(op, sample):
    x, *rest = sample.args
    if not small(sample.args) or x.numel() == 0:
        pytest.skip("needs a small, non-empty input")

    x = x.clone()  # forward-mode refuses overlapping memory

    def f(t):
        return call(op, t, *rest)

    tangent = torch.randn(x.shape, dtype=x.dtype)
    step = 1e-6
    _, forward = torch.func.jvp(f, (x,), (tangent,))
    difference = (f(x + step * tangent) - f(x - step * tangent)) / (2 * step)
    assert forward.abs().max() > 0
    torch.testing.assert_close(forward, difference, rtol=1e-6, atol=1e-6)

    def loss(t):
        return (f(t) ** 2).sum()

    leaf = x.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    hessian_row = torch.func.jvp(torch.func.grad(loss), (x,), (tangent,))[1]
    (second,) = torch.autograd.grad(
        torch.autograd.grad(loss(leaf), leaf, create_graph=True)[0], leaf, tangent
    )
    torch.testing.assert_close(hessian_row, second)


@each_op_few(OPS.values())
def test_vmap(op, sample):
    tensors = tensors_of(sample.args)
    if not op.spec.fold or any(t.shape[0] == 0 for t in tensors):
        pytest.skip("no fold rule, or nothing to map")
    first, *others = sample.args
    stacked = torch.stack([first, first.flip(0), first.flip(-1)], dim=1)
    mapped = torch.vmap(lambda t: op(t, *others), in_dims=1)(stacked)
    looped = [outputs_of(op(t.contiguous(), *others)) for t in stacked.unbind(1)]
    for a, parts in zip(outputs_of(mapped), zip(*looped, strict=True), strict=True):
        torch.testing.assert_close(a, torch.stack(parts), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda o: o.spec.name)
def test_compiles_without_graph_breaks(op):
    torch._dynamo.reset()
    named = {s.name.split("-")[0]: s for s in samples(op.spec.name, torch.float32)}
    x, *rest = named["channels_last"].args

    def f(t):
        return call(op, t * 2, *rest).sin()

    leaf = x.detach().clone().requires_grad_()
    compiled = torch.compile(f, fullgraph=True)(leaf)
    torch.testing.assert_close(compiled, f(leaf))
    (actual,) = torch.autograd.grad(compiled.sum(), leaf)
    (expected,) = torch.autograd.grad(f(leaf).sum(), leaf)
    torch.testing.assert_close(actual, expected)
    assert torch._dynamo.explain(f)(leaf).graph_break_count == 0


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_exports_as_one_op(op):
    dtype = torch.float32 if op.spec.differentiable else op.spec.dtypes[0]
    args = samples(op.spec.name, dtype)[0].args

    class Module(torch.nn.Module):
        def forward(self, *tensors: Tensor):
            given = iter(tensors)
            return op(*(next(given) if isinstance(a, Tensor) else a for a in args))

    program = torch.export.export(Module(), tuple(tensors_of(args)))
    calls = [n.target for n in program.graph.nodes if n.op == "call_function"]
    targets = [str(t) for t in calls if t is not operator.getitem]  # of several results
    assert targets == [f"medkern.{op.spec.name}.default"]
    assert_same_bits(program.module()(*tensors_of(args)), op(*args))


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda o: o.spec.name)
@pytest.mark.parametrize("half", HALVES, ids=str)
def test_autocast_on_cpu(op, half):
    first = samples(op.spec.name, torch.float32)[0].args
    with torch.autocast("cpu", dtype=half):
        out = op(*first)
        assert all(o.dtype == torch.float32 for o in outputs_of(out))
        if len(tensors_of(first)) == 1:
            low = to_dtype(first, half)
            kept = [torch.float32]
            if op.spec.autocast != "float32":
                kept = [o.dtype for o in outputs_of(op.spec.fake(*low))]
            assert [o.dtype for o in outputs_of(op(*low))] == kept
        else:  # "widest" and "float32"
            mixed = (first[0].to(half), *first[1:])
            assert all(o.dtype == torch.float32 for o in outputs_of(op(*mixed)))


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_autocast_is_the_same_policy_on_cuda(op):
    """A missing CUDA registration is a silent no-op; this can be read without a device."""
    has = [
        torch._C._dispatch_has_kernel_for_dispatch_key(op.qualname, key)
        for key in ("AutocastCPU", "AutocastCUDA")
    ]
    assert has == [op.spec.autocast != "keep"] * 2


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_thread_count_does_not_change_bits(op):
    before = torch.get_num_threads()
    try:
        for dtype in op.spec.dtypes:
            for sample in samples(op.spec.name, dtype):
                whole = UNBATCHED.get(op.spec.name, ())
                big = tuple(
                    torch.cat([a] * 40) if isinstance(a, Tensor) and i not in whole else a
                    for i, a in enumerate(sample.args)
                )
                torch.set_num_threads(1)
                one = op(*big)
                torch.set_num_threads(2)
                if op.spec.name in ROUNDED_BY_TORCH:
                    torch.testing.assert_close(op(*big), one, equal_nan=True)
                else:
                    assert_same_bits(op(*big), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_inputs_are_not_written(op):
    for sample in samples(op.spec.name, op.spec.dtypes[0]):
        before = [t.clone() for t in tensors_of(sample.args)]
        op(*sample.args)
        assert_same_bits(tensors_of(sample.args), before)


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_wrong_calls_raise(op):
    """A direct call with a wrong dtype or rank raises and touches nothing."""
    args = samples(op.spec.name, op.spec.dtypes[0])[0].args
    with pytest.raises(RuntimeError):
        op.packet(args[0].to(torch.complex64), *args[1:])
    with pytest.raises((RuntimeError, IndexError)):
        op.packet(args[0].flatten(), *args[1:])


def _in_worker(names: list[str]) -> list[str]:
    return [n for n in names if outputs_of(OPS[n](*samples(n, OPS[n].spec.dtypes[0])[0].args))]


class _RunsEveryOp(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return len(_in_worker(list(OPS)))


def test_runs_in_a_forked_data_loader_worker():
    _in_worker(list(OPS))  # the parent has used its threads before
    loader = torch.utils.data.DataLoader(
        _RunsEveryOp(), num_workers=1, batch_size=1, multiprocessing_context="fork", timeout=120
    )
    assert [int(b) for b in loader] == [len(OPS)] * 2


def test_runs_on_several_python_threads():
    from concurrent.futures import ThreadPoolExecutor

    calls = [
        (op, s.args)
        for op, s in itertools.product(OPS.values(), range(3))
        for s in [samples(op.spec.name, op.spec.dtypes[0])[s]]
    ]
    expected = [op(*args) for op, args in calls]
    with ThreadPoolExecutor(4) as pool:
        for actual, e in zip(pool.map(lambda c: c[0](*c[1]), calls * 5), expected * 5, strict=True):
            assert_same_bits(actual, e)


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_backend_choice(op):
    args = samples(op.spec.name, op.spec.dtypes[0])[0].args
    explanation = medkern.explain(op.spec.name, *args)
    assert explanation.runs == "native"
    assert_same_bits(op(*args, backend="native"), op(*args))
    with medkern.use_backend("reference"):
        assert medkern.explain(op.spec.name, *args).runs == "reference"
        assert_same_bits(op(*args), op.spec.reference(*args))
    with pytest.raises(RuntimeError, match=r"got 'triton'; ."):
        op(*args, backend="triton")
    with pytest.raises(ValueError, match="got 'fastest'"):
        op(*args, backend="fastest")

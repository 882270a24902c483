"""The CUDA kernels, run on the CPU by csrc/emulation, against the same oracles as the CPU kernels.

Needs the library that `pip install -Ccmake.define.MEDKERN_EMULATED=ON` builds (`make test` does).
"""

from __future__ import annotations

import functools
import itertools
import os

import pytest
import torch
from torch.utils import _pytree as pytree

from medkern import _library, _registry
from medkern._registry import OPS as ALL_OPS
from medkern._registry import Op, Sample

# A sanitized build is named by the environment: build_support/emulated_sanitize.sh.
EMULATED = os.environ.get("MEDKERN_EMULATED_LIBRARY") or _library.find("_emulated")
pytestmark = pytest.mark.skipif(EMULATED is None, reason="built without MEDKERN_EMULATED")
WIDTHS = (1, 31, 33, 257, 1000)
SUMMED = {
    "_boundary_loss_backward",
    "_low_modes",
    "_segmentation_sums",
    "_segmentation_sums_backward",
    "_spectrum_loss",
    "_tree_paths",
    "boundary_loss",
}
# exp and tanh are the device's own.
ROUNDED = {"convlstm_gates", "_convlstm_gates_backward"}
OPS = {name: op for name, op in ALL_OPS.items() if op.spec.cuda}


library = torch.library.Library("medkern_emulated", "DEF")  # lives as long as its ops


@functools.cache
def emulated() -> dict[str, Op]:
    """Every op again, as `torch.ops.medkern_emulated`, on the device code."""
    ops = {name: _registry.define(op.spec, library, "medkern_emulated") for name, op in OPS.items()}
    torch.ops.load_library(EMULATED)
    return ops


def each_sample():
    return pytest.mark.parametrize(
        ("name", "sample"),
        [
            pytest.param(name, s, id=f"{name}-{str(dtype)[6:]}-{s.name}")
            for name, op in OPS.items()
            for dtype in op.spec.dtypes
            for s in op.spec.samples(dtype)
        ],
    )


def assert_equals_cpu_kernel(name: str, sample: Sample) -> None:
    """Bit for bit, the same arithmetic in the same order with no contraction; or closely, where
    sums are cut into other parts or functions are others'."""
    results = emulated()[name](*sample.args), OPS[name](*sample.args)
    for actual, expected in zip(*map(pytree.tree_leaves, results), strict=True):
        assert actual.dtype == expected.dtype
        assert actual.numel() == 0 or actual.stride() == expected.stride()
        if name in SUMMED | ROUNDED:
            torch.testing.assert_close(actual, expected, equal_nan=True)
        else:
            assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_device_code(name):
    emulated()
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"medkern_emulated::{name}", "CPU")


@each_sample()
def test_equals_cpu_kernel(name, sample, verifies):
    verifies(name, "CUDA emulated")
    assert_equals_cpu_kernel(name, sample)


def haar_shapes(dtype):
    """Sizes that cross block borders and take every kernel: rows, channels and blocks."""
    for width, height in itertools.product(WIDTHS, (1, 2, 5)):
        yield torch.randn(1, 2, height, width).to(dtype), 2
    yield torch.randn(3, 2, 6, 256).to(dtype), 2
    yield torch.randn(1, 2, 4, 264).to(dtype)[..., :263], 2  # odd, but in aligned rows
    yield torch.randn(1, 2, 4, 130).to(dtype)[..., :128], 2  # even, in rows that are not aligned
    yield torch.randn(2, 32, 6, 5).to(dtype).contiguous(memory_format=torch.channels_last), 2
    yield torch.randn(1, 33, 7, 4).to(dtype).contiguous(memory_format=torch.channels_last), 2
    yield torch.randn(1, 2, 3, 5, 33).to(dtype), 3
    yield torch.randn(1, 1, 5, 7, 64).to(dtype), 3
    yield torch.randn(2, 3, 257).to(dtype), 1
    yield torch.randn(2, 3, 1024).to(dtype), 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("pad", ["zero", "symmetric", "reflect", "periodic"])
def test_haar_sizes(dtype, pad):
    for x, ndim in haar_shapes(dtype):
        size = list(x.shape[2:])
        if pad == "reflect" and min(size) == 1:
            continue
        bands = OPS["haar_dwt"](x, ndim, pad)
        calls = [
            ("haar_dwt", (x, ndim, pad)),
            ("haar_idwt", (bands, size, pad)),
            ("_haar_max_concat", (x, x, ndim, pad)),
        ]
        calls.append(
            ("_haar_max_concat_backward", (OPS["_haar_max_concat"](x, x, ndim, pad), x, ndim, pad))
        )
        for mode in ("ll", "iewa", "all", "bands"):
            pooled = OPS["haar_pool"](x, mode, ndim, pad)
            calls.append(("haar_pool", (x, mode, ndim, pad)))
            calls.append(("_haar_pool_backward", (pooled, size, mode, pad)))
        for name, args in calls:
            assert_equals_cpu_kernel(name, Sample("", args))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_lifting_sizes(dtype):
    for shape, ndim in (((1, 2, 5, 1000), 2), ((2, 1, 3, 5, 33), 3), ((2, 257), 1)):
        x = torch.randint(0, 256, (1, *shape) if ndim == 1 else shape, dtype=dtype)
        assert_equals_cpu_kernel("_haar_lift", Sample("", (x, ndim, "symmetric")))
        bands = OPS["_haar_lift"](x, ndim, "symmetric")
        assert_equals_cpu_kernel("_haar_unlift", Sample("", (bands, list(x.shape[2:]))))


@pytest.mark.parametrize("order", ["0", "1", "7"])
def test_thread_order_does_not_matter(order, monkeypatch):
    monkeypatch.setenv("MEDKERN_EMULATION_ORDER", order)
    x = torch.randn(2, 3, 33, 130)
    assert_equals_cpu_kernel("haar_dwt", Sample("", (x, 2, "periodic")))
    bands = OPS["haar_dwt"](x, 2, "periodic")
    assert_equals_cpu_kernel("haar_idwt", Sample("", (bands, [33, 130], "periodic")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["l1", "l2", "fastgeodis", "geodistk", "geos", "mcp", "node"])
def test_geodesic_sizes(dtype, metric):
    """Equal to the CPU's bits, whatever order the tiles are visited in; so are the predecessors,
    and the gradient that flows along them."""
    for space in ((35, 300), (2, 1000), (257,), (9, 10, 17)):
        channels = 1 if metric in ("mcp", "node") else 2
        image = torch.rand(2, channels, *space, dtype=dtype) * 50
        starts = torch.full((2, 2, *space), torch.inf, dtype=dtype)
        starts[:, 0].flatten(1)[:, 0] = 0
        starts[:, 1].flatten(1)[:, ::50] = torch.rand(1, dtype=dtype) * 20
        mask = torch.rand(2, 1, *space) < 0.9
        spacing = torch.rand(2, len(space), dtype=torch.float64) + 0.5
        problem = (image, starts, mask, spacing, 0.6, metric, "l1", len(space))
        assert_equals_cpu_kernel("geodesic_distance", Sample("", (*problem, 500.0, "auto", 1)))
        distance = OPS["geodesic_distance"](*problem, torch.inf, "auto", 1)
        assert_equals_cpu_kernel("_geodesic_parents", Sample("", (distance, *problem)))
        flow, parents = follow_trees(distance, *problem)
        for norm in ("l1", "l2", "linf"):
            edge = (image, spacing, 0.6, metric, norm)
            assert_equals_cpu_kernel("_geodesic_pull", Sample("", (flow, parents, *edge)))


def follow_trees(distance, *problem):
    """Checks the ops on the trees of a problem; returns sums over subtrees, and the parents."""
    parents = OPS["_geodesic_parents"](distance, *problem)
    values = torch.rand_like(distance)  # of one sign: paths are added in another order
    for name, args in (
        ("_tree_subtrees", (values, parents)),
        ("_tree_paths", (values, parents)),
        ("_tree_roots", (parents,)),
    ):
        assert_equals_cpu_kernel(name, Sample("", args))
    return OPS["_tree_subtrees"](values, parents), parents


@pytest.mark.parametrize("order", ["0", "1", "7"])
@pytest.mark.parametrize("width", [1, 31, 33, 257, 1000])
def test_trees_on_plateaus(width, order, monkeypatch):
    """Where steps cost nothing predecessors are a breadth-first search: round by round."""
    monkeypatch.setenv("MEDKERN_EMULATION_ORDER", order)
    space = (3, width)
    image = torch.randint(0, 2, (1, 1, *space)).float()
    starts = torch.full((1, 2, *space), torch.inf)
    starts[0, 0, 1, 0] = 0
    starts[0, 1].flatten()[:: max(width // 2, 1)] = 0
    spacing = torch.ones(1, 2, dtype=torch.float64)
    problem = (image, starts, None, spacing, 0.0, "l1", "l1", 2)
    distance = OPS["geodesic_distance"](*problem, torch.inf, "auto", 1)
    assert_equals_cpu_kernel("_geodesic_parents", Sample("", (distance, *problem)))
    follow_trees(distance, *problem)


def test_predecessors_of_an_inexact_map_are_refused():
    image, starts = torch.rand(1, 1, 5, 40), torch.full((1, 1, 5, 40), torch.inf)
    starts[..., 0] = 0
    problem = (image, starts, None, torch.ones(1, 2, dtype=torch.float64), 0.5, "l1", "l1", 2)
    distance = 0.9 * OPS["geodesic_distance"](*problem, torch.inf, "auto", 1)
    for ops in (OPS, emulated()):
        with pytest.raises((RuntimeError, ValueError), match="distance must be exact"):
            ops["_geodesic_parents"](distance, *problem)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
@pytest.mark.parametrize("space", [(9, 1), (33, 31), (3, 257), (31, 300), (2, 1000), (5, 7, 9)])
def test_barrier_sizes(dtype, space):
    """More levels than fit at once; floats of a volume are all different."""
    image = torch.randint(0, 11, (2, 1, *space)) * (700 if dtype.itemsize == 2 else 9)
    if dtype.is_floating_point:
        image = image / 7 - 11 if len(space) < 3 else torch.randn(2, 1, *space)
    seeds = torch.zeros(2, 2, *space, dtype=torch.bool)
    seeds[:, 0].flatten(1)[:, -2] = True
    seeds[:, 1].flatten(1)[:, ::200] = True
    mask = torch.rand(2, 1, *space) < 0.9
    for inside, connectivity in ((mask, len(space)), (None, 1)):
        args = (image.to(dtype), seeds, inside, connectivity)
        assert_equals_cpu_kernel("minimum_barrier_distance", Sample("", args))
        assert_equals_cpu_kernel("max_distance_along_path", Sample("", args))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_euclidean_sizes(dtype, signed, wide):
    for space in ((33, 300), (2, 1000), (257,), (9, 10, 17), (1, 31)):
        labels = (torch.rand(2, 2, *space) < 0.02).to(dtype) + (torch.rand(2, 2, *space) < 0.3)
        spacing = torch.rand(2, len(space), dtype=torch.float64) + 0.5
        args = (labels, spacing, signed, wide)
        assert_equals_cpu_kernel("euclidean_distance", Sample("", args))
        whole = (labels, torch.ones_like(spacing), signed, wide)
        assert_equals_cpu_kernel("_euclidean_indices", Sample("", whole))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_boundary_sizes(dtype):
    for space in ((33, 300), (2, 1000), (257,), (5, 7, 9), (1, 1)):
        logits, maps = torch.randn(2, 5, *space).to(dtype), torch.randn(2, 4, *space)
        labels = torch.randint(-3, 5, (2, *space))
        loss = ("boundary_loss", (logits, maps, labels))
        grad = torch.rand(2, 3, dtype=OPS["boundary_loss"](*loss[1]).dtype)
        for name, args in (loss, ("_boundary_loss_backward", (logits, grad, maps, labels))):
            assert_equals_cpu_kernel(name, Sample("", args))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_a_label_that_names_no_class_is_nan(dtype):
    """In its own sample; the CPU, which need not wait for anything, raises."""
    logits, maps = torch.randn(3, 4, 9, 300), torch.randn(3, 4, 9, 300)
    labels = torch.full((3, 9, 300), 255 if dtype == torch.uint8 else -1, dtype=dtype)
    labels[:, 0, :5] = 3
    labels[1, 5, 280] = 4
    with pytest.raises(RuntimeError, match="points must be below 4"):
        OPS["boundary_loss"](logits, maps, labels)
    terms = emulated()["boundary_loss"](logits, maps, labels)
    assert terms.isnan().tolist() == [[False] * 3, [False, True, False], [False] * 3]
    grad = emulated()["_boundary_loss_backward"](logits, torch.ones(3, 3), maps, labels)
    where = grad.isnan().any(1).nonzero().tolist()
    assert where == [[1, 5, 280]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("last", [False, True])
def test_convlstm_steps_in_place(dtype, last):
    """The sums of a sequence's steps, in place, against the ops that the CPU's loop calls."""
    for name in ("_convlstm_step_", "_convlstm_step_backward_"):
        if not hasattr(torch.ops.medkern_emulated, name):
            schema = str(getattr(torch.ops.medkern, name).default._schema)
            library.define(schema.replace("medkern::", ""))
    emulated()
    state = torch.float64 if dtype == torch.float64 else torch.float32

    def tensor(channels, kind=dtype):
        if last:
            return torch.randn(2, 9, 33, channels).to(kind).movedim(-1, 1)
        return torch.randn(2, channels, 9, 33).to(kind)

    gates, c = tensor(4 * 5), tensor(5, state)
    peephole = torch.randn(1, 3, 5, 1, 1).to(state).expand(2, 3, 5, 9, 33)
    forward = [gates, tensor(20), c, peephole, tensor(5), tensor(5, state), tensor(20)]
    backward = [gates, tensor(5), tensor(5), c, peephole, tensor(5, state), tensor(20), tensor(5)]
    for name, args in (
        ("_convlstm_step_", [*forward, tensor(5, state)]),
        ("_convlstm_step_backward_", backward),
    ):
        ours = [a.clone(memory_format=torch.preserve_format) for a in args]
        getattr(torch.ops.medkern_emulated, name)(*ours)
        getattr(torch.ops.medkern, name)(*args)
        for actual, expected in zip(ours, args, strict=True):
            torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("softmax", [True, False])
def test_segmentation_sizes(dtype, softmax):
    for space in ((33, 60), (2, 1000), (257,), (5, 7, 9), (1, 1)):
        logits = torch.randn(2, 3, *space).to(dtype)
        labels = torch.randint(3, (2, *space))
        for target in (labels, labels.to(torch.uint8), torch.rand_like(logits)):
            sums = ("_segmentation_sums", (logits, target, softmax, 1))
            grad = torch.rand_like(OPS[sums[0]](*sums[1]))
            backward = ("_segmentation_sums_backward", (logits, grad, target, softmax, 1))
            for name, args in (sums, backward):
                assert_equals_cpu_kernel(name, Sample("", args))

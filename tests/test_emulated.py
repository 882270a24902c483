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
    "_correlation_sums",
    "_dft_kept",
    "_idft_kept",
    "_mode_mix",
    "_global_ncc_backward",
    "_local_ncc_loss_backward",
    "_mutual_information_loss_backward",
    "_low_modes",
    "_segmentation_sums",
    "_segmentation_sums_backward",
    "_spectrum_loss",
    "_tree_paths",
    "_warp_transpose",
    "boundary_loss",
    "global_ncc",
    "local_ncc_loss",
    "mutual_information_loss",
    "diffusion_smoothness_loss",
}
# Outputs that tell how a result was found.
REPORTS = {"_geodesic_info": (1,)}
# exp, tanh and erfc are the device's own; the CPU packs spectra before an inverse transform.
ROUNDED = {
    "_amplitude_jitter",
    "_convlstm_gates_backward",
    "_fourier_epilogue_backward",
    "_half_spectrum_adjoint",
    "convlstm_gates",
    "fourier_epilogue",
}
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
    for i, (actual, expected) in enumerate(zip(*map(pytree.tree_leaves, results), strict=True)):
        assert actual.dtype == expected.dtype
        assert actual.numel() == 0 or actual.stride() == expected.stride()
        if i in REPORTS.get(name, ()):
            continue
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


def test_geodesic_info():
    """Tiles of 32 x 32, one after the other; nothing is left to do."""
    image, starts = torch.zeros(1, 1, 1, 130), torch.full((1, 2, 1, 130), torch.inf)
    starts[:, :, :, 0] = 0
    problem = (image, starts, None, torch.ones(1, 2, dtype=torch.float64), 0.5, "l1", "l1", 2)
    distance, info = emulated()["_geodesic_info"](*problem, torch.inf, "auto", 1)
    assert torch.equal(distance, OPS["geodesic_distance"](*problem, torch.inf, "auto", 1))
    assert (info[..., [0, 2, 3]] == torch.tensor([1, 1, 0])).all()
    assert 2 <= info[..., 1].min() == info[..., 1].max() <= 8


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_spectral_sizes(dtype):
    """More lines, outputs and sums than a block has, odd and even; all modes and few."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for space, modes in (
        ((257,), (129,)),
        ((66, 40), (66, 21)),
        ((33, 31), (5, 16)),
        ((5, 34, 6), (3, 7, 4)),
    ):
        x, grid = torch.randn(2, 3, *space).to(dtype), [n + 1 for n in space]
        forward = ("_dft_kept", (x, modes, grid, True, -0.5, "dft"))
        z = torch.randn(2, 3, *modes, 2, dtype=wide)
        inverse = ("_idft_kept", (z, space, grid, False, -0.5, dtype, "dft"))
        for name, args in (forward, inverse):
            assert_equals_cpu_kernel(name, Sample("", args))
    if dtype == torch.float16:
        return
    for a, b, k in ((9, 17, 33), (3, 1, 70), (1, 18, 5)):
        left, right = (torch.randn(n, 7, k, 2, dtype=dtype) for n in (a, b))
        assert_equals_cpu_kernel("_mode_mix", Sample("", (left, right, True, False)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fourier_epilogue_sizes(dtype):
    """More pixels, inputs and outputs than a block has; parts of the sums that cross samples."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for batch, inputs, outputs, space in (
        (1, 3, 3, (33, 61)),
        (2, 70, 19, (7, 40)),
        (3, 16, 16, (257,)),
        (1, 15, 33, (3, 5, 7)),
        (2, 1, 1, (1, 1)),
    ):
        k, grad = (torch.randn(batch, outputs, *space).to(dtype) for _ in range(2))
        x = torch.randn(batch, inputs, *space).to(dtype)
        weight, bias = torch.randn(outputs, inputs, dtype=wide), torch.randn(outputs, dtype=wide)
        for activation in ("gelu", "none"):
            how = (activation, inputs == outputs)
            forward = (k, x, weight / inputs**0.5, bias, *how)
            assert_equals_cpu_kernel("fourier_epilogue", Sample("", forward))
            pairs = zip(
                emulated()["_fourier_epilogue_backward"](grad, *forward),
                OPS["_fourier_epilogue_backward"](grad, *forward),
                strict=True,
            )
            for actual, expected in pairs:
                scale = expected.abs().max().item()
                eps = torch.finfo(actual.dtype).eps
                torch.testing.assert_close(actual, expected, rtol=2 * eps, atol=32 * eps * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fourier_epilogue_of_special_values(dtype):
    special = [0.0, torch.inf, -torch.inf, torch.nan, 1e30, -1e30, -14.5, -39.5, 100.0]
    s = torch.tensor(special, dtype=dtype).view(1, 1, -1)
    args = (s, torch.zeros_like(s), torch.zeros(1, 1, dtype=dtype), None, "gelu", False)
    assert_equals_cpu_kernel("fourier_epilogue", Sample("", args))
    backward = (torch.ones_like(s), *args)
    d_k = emulated()["_fourier_epilogue_backward"](*backward)[0]
    expected = OPS["_fourier_epilogue_backward"](*backward)[0]
    torch.testing.assert_close(d_k, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectral_sizes_by_fft(dtype):
    for space, modes in (((9,), (4,)), ((8, 7), (5, 3)), ((4, 6, 5), (4, 3, 3))):
        x, z = torch.randn(2, 2, *space, dtype=dtype), torch.randn(2, 2, *modes, 2, dtype=dtype)
        forward = ("_dft_kept", (x, modes, space, True, 0.0, "fft"))
        inverse = ("_idft_kept", (z, space, space, True, -1.0, dtype, "fft"))
        for name, args in (forward, inverse):
            assert_equals_cpu_kernel(name, Sample("", args))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_correlation_sizes(dtype):
    """More rings than a block has, more columns than a warp, several blocks per image."""
    for size, rings in (((5, 70), 8), ((40, 130), 300), ((1, 9), 1), ((4, 3, 33), 20)):
        p, y = (torch.randn(2, 2, *size[:-1], size[-1] // 2 + 1, 2, dtype=dtype) for _ in "py")
        for radial in ((-10.0, 10.0, 0.0), (0.2, 0.8, 0.1)):
            call = (p, y, size, rings, *radial)
            grad = torch.randn_like(OPS["_correlation_sums"](*call))
            assert_equals_cpu_kernel("_correlation_sums", Sample("", call))
            backward = (p, grad, y, size, rings, *radial)
            assert_equals_cpu_kernel("_correlation_sums_backward", Sample("", backward))
    for count in (1, 257, 9000):
        p, y = torch.randn(2, 1, count, dtype=dtype), torch.randn(2, 1, count, dtype=dtype)
        assert_equals_cpu_kernel("_correlation_sums", Sample("", (p, y, [], 1, -1.0, 1.0, 0.0)))


def image_pair(dtype, *shape):
    a = torch.rand(shape)
    return a.to(dtype), (0.5 * (a + torch.rand(shape))).to(dtype)


def assert_gradients_equal(name, a, b, *how):
    """The op and both forms of its backward, on the emulated device and on the CPU."""
    assert_equals_cpu_kernel(name, Sample("", (a, b, *how)))
    grad = torch.rand_like(OPS[name](a, b, *how))
    for both in (False, True):
        args = (a, b, grad, *how, both)
        results = emulated()[f"_{name}_backward"](*args), OPS[f"_{name}_backward"](*args)
        scale = max(results[1].abs().max().item(), 1e-30)
        actual, expected = (result.double() / scale for result in results)
        atol = 1e-11 if a.dtype == torch.float64 else 2 * torch.finfo(a.dtype).eps
        torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_local_ncc_sizes(dtype):
    """Tiles and their ends, windows beyond the image, and those whose sums leave shared memory."""
    for i, (space, window) in enumerate(
        [((40,), 9), ((17, 33), 3), ((1, 1), 5), ((5, 3), 21), ((18, 3, 35), 5), ((2, 5, 7), 1)]
    ):
        a, b = image_pair(dtype, 2, 2, *space)
        how = (window, 1e-3, i % 2 == 0, i % 3 != 1, i % 2 == 1)
        assert_gradients_equal("local_ncc_loss", a, b, *how)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_local_ncc_with_an_offset_sizes(dtype):
    """As raw CT: the sums are those of the images less one of their own values."""
    a, b = (image.mul(256).round() / 256 for image in image_pair(dtype, 1, 2, 19, 34))
    how = (9, 1e-5, True, True, False)
    there = emulated()["local_ncc_loss"](a + 1000, b + 1000, *how)
    assert torch.equal(there, emulated()["local_ncc_loss"](b + 1000, a + 1000, *how))
    torch.testing.assert_close(there, OPS["local_ncc_loss"](a + 1000, b + 1000, *how))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_global_ncc_sizes(dtype):
    for shape in ((2, 3, 4097), (1, 1, 1), (3, 1, 9, 11), (1, 2, 5000)):
        assert_gradients_equal("global_ncc", *image_pair(dtype, *shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_mutual_information_sizes(dtype):
    """Histograms of four warps, of one, and those that leave shared memory; values to clamp."""
    for shape, *how in (
        ((2, 2, 4, 33), 32, 0.5, False),
        ((1, 1, 3), 6, 0.5, True),
        ((1, 1, 5, 7), 100, 2.0, False),
        ((1, 2, 40), 130, 16.0, False),
    ):
        a, b = (2 * image - 0.5 for image in image_pair(dtype, *shape))
        assert_gradients_equal("mutual_information_loss", a, b, *how)


@pytest.mark.parametrize("order", ["0", "1", "7"])
def test_similarity_in_any_order(order, monkeypatch):
    """The same bits, whatever the order of threads and blocks, and in any batch."""
    a, b = torch.rand(2, 3, 2, 9, 40, generator=torch.Generator().manual_seed(1)).unbind()
    a, b = a.unsqueeze(1), b.unsqueeze(1)
    for name, how in (
        ("local_ncc_loss", (5, 1e-5, True, True, False)),
        ("global_ncc", ()),
        ("mutual_information_loss", (16, 0.5, False)),
    ):
        monkeypatch.setenv("MEDKERN_EMULATION_ORDER", "0")
        expected = emulated()[name](a, b, *how)
        monkeypatch.setenv("MEDKERN_EMULATION_ORDER", order)
        assert torch.equal(emulated()[name](a, b, *how), expected)
        assert torch.equal(emulated()[name](a[1:2], b[1:2], *how), expected[1:2])


WARPS = [("linear", "zeros"), ("linear", "reflection"), ("cubic", "border"), ("nearest", "zeros")]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("how", WARPS)
def test_warp_sizes(dtype, how):
    """Positions beside and far outside the image, lost ones, channels in groups with a rest."""
    for size, out, channels in (((5, 9), (3, 100), 11), ((3, 4, 5), (2, 3, 65), 3)):
        image = torch.randn(2, channels, *size).to(dtype)
        u = 3 * torch.randn(2, len(size), *out)
        special = torch.tensor([torch.nan, torch.inf, 1e30, -1e9, 0.5, -1])
        u.flatten()[:: u.numel() // 6 + 1] = special
        grad = torch.randn(2, channels, *out).to(dtype)
        for normalized in (False, True):
            rest = (*how, normalized)
            assert_same_values("warp", (image, u, *rest))
            assert_same_values("_warp_slope", (grad, image, u.to(dtype), *rest))
            assert_same_values("_warp_transpose", (grad, u, list(size), *rest))


def assert_same_values(name, args):
    actual, expected = emulated()[name](*args), OPS[name](*args)
    close = {"rtol": 0, "atol": 0}
    if name in SUMMED:  # the CPU adds up to a hundred floats in a voxel
        eps = torch.finfo(actual.dtype).eps
        close = {"rtol": 2 * eps, "atol": 1e-12 if actual.dtype == torch.float64 else 1e-4}
    torch.testing.assert_close(actual, expected, equal_nan=True, **close)


@pytest.mark.parametrize("order", ["0", "7"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_image_gradients_are_sums_in_no_order(order, dtype, monkeypatch):
    """Nearer to the exact sum than any addition of floats: its rounding, and hardly more; of
    thousands of terms of all magnitudes in one voxel as well."""
    monkeypatch.setenv("MEDKERN_EMULATION_ORDER", order)
    generator = torch.Generator().manual_seed(3)
    grad = torch.randn(1, 2, 40, 50, generator=generator, dtype=torch.float64)
    grad *= 10.0 ** torch.randint(-30, 30, grad.shape, generator=generator)
    u = torch.randn(1, 2, 40, 50, generator=generator, dtype=torch.float64)
    u = (1024 * u).round() / 1024  # weights are exact
    u[..., 25:] = -1e6  # with a border: all in one column
    args = (u.to(dtype), [40, 50], "linear", "border", False)
    actual = emulated()["_warp_transpose"](grad.to(dtype), *args)
    again = emulated()["_warp_transpose"](grad.to(dtype), *args)
    assert torch.equal(actual, again)
    wide = (u.to(dtype).double(), *args[1:])
    exact = OPS["_warp_transpose"](grad.to(dtype).double(), *wide)
    sizes = OPS["_warp_transpose"](grad.to(dtype).double().abs(), *wide)
    eps = torch.finfo(dtype).eps
    # Terms are rounded before they are added; of float64 it is the oracle that errs.
    bound = (2 if dtype == torch.float32 else 32) * eps * sizes + torch.finfo(dtype).tiny
    assert ((actual.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_image_gradients_of_special_values(dtype):
    """Infinities and NaN stay in their voxels; the smallest and the largest numbers are exact."""
    tiny, largest = torch.finfo(dtype).smallest_normal / 4, torch.finfo(dtype).max
    values = [torch.inf, -torch.inf, torch.nan, tiny, -largest, 1, largest, largest, 0]
    targets = [0, 1, 2, 3, 4, 5, 6, 6, 7]
    values += [torch.inf, -torch.inf, torch.inf, 1, torch.nan, largest, torch.inf]
    targets += [8, 8, 9, 9, 10, 10, 0]
    grad = torch.tensor(values, dtype=dtype).view(1, 1, 1, -1)
    u = torch.zeros(1, 2, 1, len(values), dtype=torch.float64)
    u[0, 1, 0] = torch.tensor(targets) - torch.arange(len(values))
    args = (grad, u, [1, 12], "nearest", "zeros", False)
    got = emulated()["_warp_transpose"](*args)
    expected = [torch.inf, -torch.inf, torch.nan, tiny, -largest, 1, torch.inf, 0]
    expected += [torch.nan, torch.inf, torch.nan, 0]
    expected = torch.tensor(expected, dtype=dtype)
    torch.testing.assert_close(got.flatten(), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_field_sizes(dtype):
    for space in ((33, 100), (2, 1000), (5, 7, 65), (1, 9), (3, 1, 2)):
        u = (2 * torch.randn(2, len(space), *space)).to(dtype)
        spacing = torch.rand(2, len(space), dtype=torch.float64) + 0.5
        determinant = torch.randn(2, 1, *space).to(dtype)
        each = torch.rand(2, 1, dtype=torch.promote_types(dtype, torch.float32))
        for name, args in (
            ("_jacobian_folding", (u, spacing)),
            ("_jacobian_backward", (determinant, u, spacing)),
            ("diffusion_smoothness_loss", (u, spacing, "l1")),
            ("diffusion_smoothness_loss", (u, spacing, "l2")),
            ("_diffusion_smoothness_loss_backward", (each, u, spacing, "l2")),
        ):
            assert_equals_cpu_kernel(name, Sample("", args))


def test_modes_beside_a_large_mean():
    """The mean, 0.5 * 256^2, dwarfs the modes; summed in float32 they would be off by 3e-4."""
    x = torch.rand(1, 1, 256, 256)
    modes = emulated()["_low_modes"](x, 12)
    error = (modes - OPS["_low_modes"](x.double(), 12)).abs()
    error[..., 12, 0, :] = 0
    assert error.max() < 1e-4

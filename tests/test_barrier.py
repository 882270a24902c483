"""Minimum barrier and bottleneck distances against their definitions, laws, and every error."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.utils import _pytree as pytree

import medkern as mk
import medkern.numpy as mkn
from medkern import _registry
from medkern.reference import barrier as reference

DTYPES = (torch.uint8, torch.int16, torch.uint16, torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
OPS = torch.ops.medkern


def thresholds(image, seeds, connectivity, mask=None):
    """(barrier, bottleneck) of one image and one set by definition: the interval [low, high] of the
    least width, and of the least high end, through which a voxel is connected to a seed."""
    image = np.asarray(image, np.float64)
    structure = ndimage.generate_binary_structure(image.ndim, connectivity)
    inside = np.ones(image.shape, bool) if mask is None else np.asarray(mask)
    barrier = np.full(image.shape, np.inf)
    bottleneck = barrier.copy()
    levels = np.unique(image[inside])
    for low, high in itertools.combinations_with_replacement(levels, 2):
        parts, _ = ndimage.label((low <= image) & (image <= high) & inside, structure)
        reached = (parts > 0) & np.isin(parts, parts[np.asarray(seeds) & inside])
        barrier[reached] = np.minimum(barrier[reached], high - low)
        bottleneck[reached] = np.minimum(bottleneck[reached], high)
    return barrier, bottleneck


def random_case(generator, ndim, levels):
    sides = {1: (9,), 2: (5, 6), 3: (3, 3, 4)}[ndim]
    shape = tuple(int(generator.integers(1, n + 1)) for n in sides)
    image = generator.integers(0, levels, shape)
    seeds = generator.random((2, *shape)) < 0.15
    mask = generator.random(shape) < 0.8
    seeds.reshape(2, -1)[:, 0] = True
    return image, seeds, mask


def to_image(array, dtype):
    return torch.from_numpy(np.asarray(array, np.float64)).to(dtype)


# -- exactness --


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_equals_the_definition(ndim, dtype):
    generator = np.random.default_rng(ndim)
    for trial in range(12):
        image, seeds, mask = random_case(generator, ndim, levels=(4, 12, 250)[trial % 3])
        mask = mask if trial % 2 else None
        inside = None if mask is None else torch.from_numpy(mask)
        for connectivity in range(1, ndim + 1):
            count = {1: (2,), 2: (4, 8), 3: (6, 18, 26)}[ndim][connectivity - 1]
            options = {"connectivity": count, "mask": inside, "ndim": ndim}
            args = (to_image(image, dtype), torch.from_numpy(seeds))
            barrier = mk.minimum_barrier_distance(*args, **options)
            bottleneck = mk.max_distance_along_path(*args, **options)
            assert barrier.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            for k in range(2):
                expected = thresholds(image, seeds[k], connectivity, mask)
                np.testing.assert_array_equal(barrier[k], expected[0])
                np.testing.assert_array_equal(bottleneck[k], expected[1])


@pytest.mark.parametrize("count", [4, 8])
def test_8x8_white_noise_equals_the_definition(count):
    """Where keeping one path per voxel fails."""
    generator = np.random.default_rng(count)
    for _ in range(4):
        image = generator.integers(0, 256, (8, 8), dtype=np.uint8)
        seeds = np.zeros((8, 8), bool)
        seeds[generator.integers(8, size=2), generator.integers(8, size=2)] = True
        exact = mk.minimum_barrier_distance(image, seeds, connectivity=count)
        np.testing.assert_array_equal(exact, thresholds(image, seeds, count // 4)[0])
        raster = mk.minimum_barrier_distance(image, seeds, connectivity=count, method="raster")
        assert (raster >= exact).all()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_the_reference(data):
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=ndim, max_size=ndim)))
    dtype = data.draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    levels = data.draw(st.sampled_from([1, 3, 200]))
    image = torch.randint(levels, (2, 1, *shape), generator=generator).to(dtype)
    seeds = torch.rand(2, 3, *shape, generator=generator) < 0.2
    mask = torch.rand(2, 1, *shape, generator=generator) < 0.8 if levels == 3 else None
    for connectivity in range(1, ndim + 1):
        args = (image, seeds, mask, connectivity)
        for name, *options in (
            ("minimum_barrier_distance",),
            ("max_distance_along_path",),
            ("_barrier_vectorial", "l2"),
        ):
            kernel = getattr(OPS, name)(*args, *options)
            definition = getattr(reference, name.removeprefix("_"))(*args, *options)
            assert torch.equal(kernel, definition), name
        for iterations in (1, 3, 1000):
            kernel = OPS._barrier_raster(*args, iterations)
            for ours, theirs in zip(
                kernel, reference.barrier_raster(*args, iterations), strict=True
            ):
                assert torch.equal(ours, theirs)


W = 255
# The best path to (2, 4) goes round by 14..30; its prefix at (2, 3) is beaten there.
COUNTEREXAMPLE = np.array(
    [
        [W, W, W, W, W, W, W],
        [W, 10, 20, 18, W, W, W],
        [W, 16, W, 16, 30, 30, W],
        [W, 14, 26, 18, W, W, W],
        [W, W, W, W, W, W, W],
    ],
    np.uint8,
)


def test_a_worse_prefix_can_be_part_of_the_best_path():
    seeds = np.zeros(COUNTEREXAMPLE.shape, bool)
    seeds[2, 1] = True
    exact, bounds = mk.minimum_barrier_distance(
        COUNTEREXAMPLE, seeds, connectivity=4, return_bounds=True
    )
    assert exact[2, 4] == 16
    assert (bounds.lower[2, 4], bounds.upper[2, 4]) == (14, 20)


@pytest.mark.parametrize("shape", [(3, 300), (300, 3), (1, 1000), (1000, 1), (2, 1000), (7, 5, 33)])
def test_equals_the_reference_on_long_and_flat_grids(shape):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 1, *shape), generator=generator).to(torch.uint8)
    seeds = torch.rand(1, 2, *shape, generator=generator) < 0.01
    seeds.flatten(2)[..., -1] = True
    for connectivity in range(1, len(shape) + 1):
        args = (image, seeds, None, connectivity)
        ours = OPS.minimum_barrier_distance(*args)
        assert torch.equal(ours, reference.minimum_barrier_distance(*args))


def test_extremes_of_the_types():
    for dtype in (torch.uint8, torch.int16, torch.uint16):
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        image = torch.tensor([[low, high, low]]).to(dtype)
        got = mk.minimum_barrier_distance(image, torch.tensor([[True, False, False]]))
        assert got.tolist() == [[0, high - low, high - low]]
    image = torch.tensor([[-1e-40, 0.0, -0.0, 3e38]])
    got = mk.minimum_barrier_distance(image, torch.tensor([[False, True, False, False]]))
    torch.testing.assert_close(got, torch.tensor([[1e-40, 0.0, 0.0, 3e38]]), rtol=0, atol=0)


# -- laws --


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_laws(dtype):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 100, (23, 31), generator=generator)
    seeds = torch.rand(23, 31, generator=generator) < 0.01
    seeds[3, 4] = True

    def barrier(values, flags=seeds, **options):
        return mk.minimum_barrier_distance(values.to(dtype), flags, **options)

    distance = barrier(image)
    assert (distance[seeds] == 0).all()
    assert distance.max() <= image.max() - image.min()
    assert torch.equal(barrier(image + 7), distance)
    assert torch.equal(barrier(255 - image), distance)
    assert torch.equal(barrier(2 * image), 2 * distance)
    for axis in (0, 1):
        assert torch.equal(barrier(image.flip(axis), seeds.flip(axis)).flip(axis), distance)
    assert torch.equal(barrier(image.T, seeds.T).T, distance)
    assert (barrier(torch.full_like(image, 7)) == 0).all()
    assert (barrier(image, connectivity="face") >= distance).all()
    fewer = seeds.clone()
    fewer[3, 4] = False
    fewer[-1, -1] = True
    both = barrier(image, fewer | seeds)
    assert torch.equal(both, torch.minimum(barrier(image, fewer), distance))


def test_a_float_image_of_integers_gives_the_same():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 1, 20, 30), generator=generator).to(torch.uint8)
    seeds = torch.zeros(4, 2, 20, 30, dtype=torch.bool)
    seeds[:, 0, 3, 3] = seeds[:, 1, 9, 27] = True
    expected = mk.minimum_barrier_distance(image, seeds)
    for dtype in (*DTYPES, *HALVES):
        got = mk.minimum_barrier_distance(image.to(dtype), seeds)
        assert torch.equal(got.float(), expected)


def test_more_levels_than_16_bits():
    image = torch.randperm(90_000, generator=torch.Generator().manual_seed(0)).reshape(300, 300)
    seeds = torch.zeros(300, 300, dtype=torch.bool)
    seeds[100, 17] = True
    distance = mk.minimum_barrier_distance(image.float(), seeds)
    opposite = mk.minimum_barrier_distance(-image.double().T, seeds.T).T
    assert torch.equal(distance.double(), opposite)
    assert torch.equal(mk.max_distance_along_path(image.float(), seeds) >= image, distance >= 0)


# -- bounds, raster, vectorial --


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bounds_enclose_the_distance(dtype):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 1, 16, 16), generator=generator).to(dtype)
    seeds = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    seeds[..., 5, 9] = True
    distance, bounds, info = mk.minimum_barrier_distance(
        image, seeds, return_bounds=True, return_info=True
    )
    assert (bounds.lower <= distance).all()
    assert (distance <= bounds.upper).all()
    assert (bounds.lower < distance).any()
    assert (distance < bounds.upper).any()
    proven = bounds.lower == bounds.upper
    assert proven.any()
    assert info.exact
    assert info.converged


def test_raster_says_whether_it_converged():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 20, 20, generator=generator)
    seeds = torch.zeros(2, 2, 20, 20, dtype=torch.bool)
    seeds[..., 0, 0] = True
    exact = mk.minimum_barrier_distance(image, seeds)
    best = math.inf
    for iterations in (1, 2, 4, None):
        distance, info = mk.minimum_barrier_distance(
            image, seeds, method="raster", iterations=iterations, return_info=True
        )
        assert (distance >= exact).all()
        assert not info.exact
        assert info.converged.all() == (iterations is None)
        assert (info.iterations == iterations).all() if iterations else (info.iterations > 4).all()
        assert distance.sum() <= best
        best = distance.sum()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_vectorial_is_bounded_by_its_channels(norm):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 9, 9, generator=generator, dtype=torch.float64)
    seeds = torch.zeros(2, 1, 9, 9, dtype=torch.bool)
    seeds[..., 4, 2] = True
    options = {"vectorial": True, "channel_norm": norm, "connectivity": 4}
    distance, bounds = mk.minimum_barrier_distance(image, seeds, return_bounds=True, **options)
    assert (bounds.lower <= distance + 1e-12).all()
    assert torch.equal(bounds.upper, distance)
    sides = torch.cat(
        [mk.minimum_barrier_distance(c, seeds, connectivity=4) for c in image.split(1, 1)], 1
    )
    order = {"l1": 1, "l2": 2, "linf": math.inf}[norm]
    torch.testing.assert_close(bounds.lower, sides.norm(order, dim=1, keepdim=True))
    one = mk.minimum_barrier_distance(image[:, :1], seeds, **options)
    assert torch.equal(one, sides[:, :1])
    same = mk.minimum_barrier_distance(image[:, :1].expand(-1, 3, -1, -1), seeds, **options)
    factor = {"l1": 3, "l2": math.sqrt(3), "linf": 1}[norm]
    assert (same >= factor * one - 1e-12).all()


# -- gradients --


@pytest.mark.parametrize("function", [mk.minimum_barrier_distance, mk.max_distance_along_path])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_right(function, masked):
    image = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    seeds = torch.zeros(2, 2, 4, 5, dtype=torch.bool)
    seeds[:, 0, 0, 0] = seeds[:, 1, 2, 3] = True
    mask = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    mask[..., 1, :3] = not masked
    reached = function(image.detach(), seeds, mask=mask).isfinite()
    assert reached.all() != masked

    def finite(x):
        return function(x, seeds, mask=mask)[reached]

    assert torch.autograd.gradcheck(finite, (image,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(finite, (image,))


def test_the_gradient_is_at_the_barrier():
    image = torch.tensor([[3.0, 9.0, 4.0, 1.0]], requires_grad=True)
    seeds = torch.tensor([[True, False, False, False]])
    for voxel, expected in enumerate([[0, 0, 0, 0], [-1, 1, 0, 0], [-1, 1, 0, 0], [0, 1, 0, -1]]):
        distance = mk.minimum_barrier_distance(image, seeds)
        (grad,) = torch.autograd.grad(distance[0, voxel], image)
        assert grad.tolist() == [expected]


def test_unreachable_voxels_have_no_gradient():
    image = torch.rand(1, 5, requires_grad=True)
    mask = torch.tensor([[True, True, False, True, True]])
    distance = mk.minimum_barrier_distance(image, torch.tensor([[1, 0, 0, 0, 0]]) > 0, mask=mask)
    assert distance.isinf().tolist() == [[False, False, True, True, True]]
    distance.backward(torch.ones_like(distance))
    assert torch.equal(image.grad[0, 2:], torch.zeros(3))
    assert image.grad.isfinite().all()


def test_witnesses_with_ties_lie_on_a_best_path():
    generator = np.random.default_rng(0)
    for _ in range(20):
        image = generator.integers(0, 4, (5, 6)).astype(np.int16)
        seeds = np.zeros((5, 6), bool)
        seeds[2, 2] = True
        args = (torch.from_numpy(image)[None, None], torch.from_numpy(seeds)[None, None], None, 1)
        highest, lowest = (w.numpy().ravel() for w in OPS._barrier_witnesses(*args).unbind(1))
        expected, _ = thresholds(image, seeds, 1)
        values = image.ravel()
        assert (values[highest] - values[lowest] == expected.ravel()).all()
        for voxel in range(image.size):
            low, high = values[lowest[voxel]], values[highest[voxel]]
            parts, _ = ndimage.label((low <= image) & (image <= high))
            ends = {parts.ravel()[i] for i in (voxel, highest[voxel], lowest[voxel])}
            assert ends == {parts[2, 2]}


def test_learning_through_the_distance():
    """Lowering the wall between the seed and the target brings them together."""
    wall = torch.tensor([[0.0, 0.0, 5.0, 0.0, 0.0]], requires_grad=True)
    seeds = torch.tensor([[True, False, False, False, False]])
    for _ in range(5):
        loss = mk.minimum_barrier_distance(wall, seeds)[0, -1]
        (grad,) = torch.autograd.grad(loss, wall)
        wall = (wall - 0.5 * grad).detach().requires_grad_()
    assert wall[0, 2] == 2.5


# -- shapes and kinds of arrays --


def test_leading_axes():
    image, seeds = torch.rand(6, 7), torch.zeros(6, 7, dtype=torch.bool)
    seeds[2, 3] = True
    plain = mk.minimum_barrier_distance(image, seeds)
    assert plain.shape == (6, 7)
    sets = mk.minimum_barrier_distance(image, seeds.expand(3, 6, 7))
    assert torch.equal(sets, plain.expand(3, 6, 7))
    batch = mk.minimum_barrier_distance(image.expand(4, 1, 6, 7), seeds)
    assert torch.equal(batch, plain.expand(4, 1, 6, 7))
    one = mk.minimum_barrier_distance(image[None, None], seeds.expand(4, 2, 6, 7))
    assert torch.equal(one, plain.expand(4, 2, 6, 7))
    volume = mk.minimum_barrier_distance(torch.rand(2, 6, 7), seeds.expand(2, 6, 7), ndim=3)
    assert volume.shape == (2, 6, 7)
    assert mk.minimum_barrier_distance(image.expand(0, 1, 6, 7), seeds).shape == (0, 1, 6, 7)


def test_one_voxel():
    image, seeds = torch.tensor([[7.0]]), torch.tensor([[True]])
    assert mk.minimum_barrier_distance(image, seeds).tolist() == [[0.0]]
    assert mk.max_distance_along_path(image, seeds).tolist() == [[7.0]]


def test_a_set_without_seeds_is_unreachable():
    seeds = torch.zeros(2, 3, 3, dtype=torch.bool)
    seeds[0, 1, 1] = True
    distance = mk.minimum_barrier_distance(torch.rand(3, 3), seeds)
    assert distance[0].isfinite().all()
    assert (distance[1] == math.inf).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float16", "float32", "float64"])
def test_numpy_without_torch_gives_the_same(dtype):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 99, (2, 1, 9, 12)).astype(dtype)
    seeds = generator.random((2, 3, 9, 12)) < 0.05
    mask = generator.random((2, 1, 9, 12)) < 0.9
    options = {"mask": mask, "connectivity": "face", "return_bounds": True, "return_info": True}
    for extra in ({}, {"method": "raster", "iterations": 3}, {"vectorial": True}):
        ours = mk.minimum_barrier_distance(image, seeds, **options, **extra)
        theirs = mkn.minimum_barrier_distance(image, seeds, **options, **extra)
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            np.testing.assert_array_equal(a, b)
        assert ours[2].exact == theirs[2].exact
        np.testing.assert_array_equal(ours[2].converged, theirs[2].converged)
    colours = generator.random((2, 3, 9, 12)).astype(dtype)
    for norm in ("l1", "l2", "linf"):
        extra = {"vectorial": True, "channel_norm": norm, "return_bounds": True}
        ours = mk.minimum_barrier_distance(colours, seeds, **extra)
        theirs = mkn.minimum_barrier_distance(colours, seeds, **extra)
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_allclose(ours[1].lower, theirs[1].lower, rtol=1e-6)
    ours, theirs = (
        f(image, seeds) for f in (mk.max_distance_along_path, mkn.max_distance_along_path)
    )
    assert isinstance(ours, np.ndarray)
    assert ours.dtype == theirs.dtype == (np.float64 if dtype == "float64" else np.float32)
    np.testing.assert_array_equal(ours, theirs)


def test_compiles_in_full():
    image, seeds = torch.rand(1, 1, 8, 9), torch.zeros(1, 1, 8, 9, dtype=torch.bool)
    seeds[..., 3, 3] = True
    torch._dynamo.reset()
    compiled = torch.compile(mk.minimum_barrier_distance, fullgraph=True)
    assert torch.equal(compiled(image, seeds), mk.minimum_barrier_distance(image, seeds))


def test_transforms_of_the_public_function():
    images, seeds = torch.rand(3, 8, 9), torch.zeros(8, 9, dtype=torch.bool)
    seeds[3, 3] = True
    mapped = torch.vmap(lambda x: mk.minimum_barrier_distance(x, seeds))(images)
    looped = torch.stack([mk.minimum_barrier_distance(x, seeds) for x in images])
    assert torch.equal(mapped, looped)
    gradient = torch.func.grad(lambda x: mk.minimum_barrier_distance(x, seeds).sum())(images[0])
    leaf = images[0].clone().requires_grad_()
    mk.minimum_barrier_distance(leaf, seeds).sum().backward()
    assert torch.equal(gradient, leaf.grad)


# -- errors --

GOOD = (torch.rand(1, 1, 4, 5), torch.ones(1, 1, 4, 5, dtype=torch.bool))


def refuses(error, text, *args, function=mk.minimum_barrier_distance, **options):
    with pytest.raises(error, match=re.escape(text)):
        function(*args, **options)


@pytest.mark.parametrize("module", [mk, mkn])
def test_bad_arguments(module):
    image, seeds = (t.numpy() for t in GOOD)
    call = module.minimum_barrier_distance

    def refused(error, text, *args, **options):
        refuses(error, text, *args, function=call, **options)

    refused(TypeError, "image must be one of uint8", image.astype(np.int64), seeds)
    refused(TypeError, "seeds must be bool (no soft seeds", image, seeds.astype(np.float32))
    refused(TypeError, "mask must be bool, got uint8", image, seeds, mask=seeds.astype(np.uint8))
    refused(ValueError, "image must have one channel, got (1, 2", image.repeat(2, 1), seeds)
    refused(ValueError, "or vectorial=True", image.repeat(2, 1), seeds)
    refused(ValueError, "mask must be [B, 1, *(4, 5)]", image, seeds, mask=seeds[..., 1:])
    refused(ValueError, "mask must be [B, 1, *(4, 5)]", image, seeds, mask=seeds.repeat(2, 1))
    refused(ValueError, "seeds must be [B, K, *(4, 5)]", image, seeds[..., 1:])
    refused(ValueError, "connectivity must be 'face', 'full'", image, seeds, connectivity=6)
    refused(ValueError, "method must be one of 'exact', 'raster'", image, seeds, method="fast")
    refused(ValueError, "channel_norm must be one of", image, seeds, channel_norm="l3")
    refused(ValueError, "iterations must be None but for", image, seeds, iterations=3)
    refused(ValueError, "at least 1, got 0", image, seeds, method="raster", iterations=0)
    refused(
        ValueError, "method must be 'exact' where", image, seeds, method="raster", vectorial=True
    )
    refused(ValueError, "seeds must hold a seed, got none at all", image, ~seeds)
    refused(ValueError, "pass ndim=2 or ndim=3", image[0], seeds[0])
    for bad in (np.nan, np.inf):
        broken = image.copy()
        broken[0, 0, 1, 2] = bad
        refused(ValueError, "image must be finite inside the mask", broken, seeds)
        mask = np.isfinite(broken)
        assert np.isinf(call(broken, seeds, mask=mask)[0, 0, 1, 2])
        assert np.isfinite(call(broken, seeds, mask=mask)[mask]).all()


def test_approximations_have_no_gradient():
    image, seeds = GOOD
    leaf = image.clone().requires_grad_()
    refuses(ValueError, "image must not require a gradient here", leaf, seeds, method="raster")
    colours = leaf.repeat(1, 2, 1, 1)
    refuses(ValueError, "image must not require a gradient here", colours, seeds, vectorial=True)
    with torch.no_grad():
        mk.minimum_barrier_distance(leaf, seeds, method="raster")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("_barrier_witnesses", ()),
        ("_bottleneck_witness", ()),
        ("_barrier_raster", (4,)),
        ("_barrier_vectorial", ("l1",)),
    ],
)
def test_ops_of_the_host_have_an_entry_for_the_device(name, options):
    """It takes copies; here the device is the host."""
    op = getattr(OPS, name)
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"medkern::{name}", "CUDA")
    args = (torch.rand(1, 1, 4, 5), torch.rand(1, 2, 4, 5) < 0.3, None, 1, *options)
    copied, expected = _registry._on_host(op)(*args), op(*args)
    for ours, theirs in zip(*map(pytree.tree_leaves, (copied, expected)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["minimum_barrier_distance", "_barrier_witnesses"])
def test_direct_calls_are_checked(name):
    image, seeds = GOOD
    op = getattr(OPS, name)
    for args in [
        (image, seeds.float(), None, 1),
        (image, seeds[..., 1:], None, 1),
        (image, seeds, None, 3),
        (image, seeds, None, 0),
        (image.repeat(1, 2, 1, 1), seeds, None, 1),
        (image, seeds, seeds.repeat(1, 2, 1, 1), 1),
        (image, seeds, seeds[..., 1:], 1),
        (image.long(), seeds, None, 1),
    ]:
        with pytest.raises(RuntimeError):
            op(*args)

"""Laws of the geodesic distance on random small grids."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medkern as mk
from medkern.rules.geodesic import METRICS, SCALAR_METRICS

SOME = settings(max_examples=40, deadline=None)
LENGTHS = {1: (2,), 2: (4, 8), 3: (6, 18, 26)}


@st.composite
def problems(draw, metrics=METRICS, norms=("l1", "l2", "linf")):
    """(image [C, *space], seeds [*space], options) with ties, walls of one voxel and all ranks."""
    ndim = draw(st.integers(1, 3))
    space = tuple(draw(st.lists(st.integers(1, 6), min_size=ndim, max_size=ndim)))
    metric = draw(st.sampled_from(metrics))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = 1 if metric in SCALAR_METRICS else draw(st.integers(1, 3))
    levels = draw(st.sampled_from((1, 3, 255)))
    image = random.integers(0, levels, (channels, *space)).astype(np.float64)
    seeds = random.random(space) < draw(st.sampled_from((0.05, 0.5)))
    seeds.flat[random.integers(seeds.size)] = True
    options = {
        "metric": metric,
        "lam": draw(st.sampled_from((0.0, 0.3, 1.0))),
        "channel_norm": draw(st.sampled_from(norms)),
        "connectivity": draw(st.sampled_from(LENGTHS[ndim])),
        "spacing": draw(
            st.tuples(*[st.sampled_from((0.5, 1.0, 2.5))] * ndim),
        ),
        "ndim": ndim,
    }
    return torch.from_numpy(image), torch.from_numpy(seeds), options


# Without square roots, which torch does not round correctly.
RATIONAL = problems(("l1", "fastgeodis", "mcp", "node"), ("l1", "linf"))


@SOME
@given(RATIONAL, st.sampled_from(("bucket", "tiles", "sweeps")), st.booleans())
def test_methods_agree_with_the_reference_in_every_bit(problem, method, single):
    image, seeds, options = problem
    image = image.float() if single else image
    want = mk.geodesic_distance(image, seeds, backend="reference", **options)
    assert torch.equal(mk.geodesic_distance(image, seeds, method=method, **options), want)


@SOME
@given(problems(), st.booleans())
def test_methods_agree_in_every_bit(problem, single):
    image, seeds, options = problem
    image = image.float() if single else image
    bucket, tiles, sweeps, slow = (
        mk.geodesic_distance(image, seeds, **options, **how)
        for how in (
            {"method": "bucket"},
            {"method": "tiles"},
            {"method": "sweeps"},
            {"backend": "reference"},
        )
    )
    assert torch.equal(bucket, tiles)
    assert torch.equal(bucket, sweeps)
    torch.testing.assert_close(bucket, slow, rtol=16 * torch.finfo(image.dtype).eps, atol=0)


@SOME
@given(RATIONAL)
def test_predecessors_agree_with_the_reference(problem):
    image, seeds, options = problem
    native, slow = (
        mk.geodesic_distance(
            image, seeds, return_predecessors=True, return_labels=True, backend=backend, **options
        )
        for backend in (None, "reference")
    )
    assert torch.equal(native.predecessors, slow.predecessors)
    assert torch.equal(native.labels, slow.labels)


@SOME
@given(problems())
def test_it_is_a_fixpoint(problem):
    """Starting from its own distances changes nothing."""
    image, seeds, options = problem
    distance = mk.geodesic_distance(image, seeds, **options)
    assert torch.equal(mk.geodesic_distance(image, distance, **options), distance)
    assert not distance[seeds].any()


@SOME
@given(problems(), st.data())
def test_flips_and_permutations_of_axes(problem, data):
    image, seeds, options = problem
    ndim = options["ndim"]
    axes = data.draw(st.permutations(range(ndim)))
    flipped = [axis for axis in range(ndim) if data.draw(st.booleans())]

    def moved(t):
        lead = t.dim() - ndim
        t = t.permute(*range(lead), *(lead + axis for axis in axes))
        return t.flip([lead + axis for axis in flipped])

    turned = options | {"spacing": tuple(options["spacing"][axis] for axis in axes)}
    got = mk.geodesic_distance(moved(image), moved(seeds), **turned)
    want = moved(mk.geodesic_distance(image, seeds, **options))
    torch.testing.assert_close(got, want, rtol=1e-14, atol=0)


@SOME
@given(problems(("l1", "l2", "fastgeodis", "mcp", "node")))
def test_scaling_image_and_spacing_scales_the_distance(problem):
    """By a power of two: in every bit. For mcp the image alone is the cost."""
    image, seeds, options = problem
    alone = options["metric"] in SCALAR_METRICS
    scaled = options if alone else options | {"spacing": tuple(4 * s for s in options["spacing"])}
    got = mk.geodesic_distance(4 * image, seeds, **scaled)
    assert torch.equal(got, 4 * mk.geodesic_distance(image, seeds, **options))


@SOME
@given(problems([m for m in METRICS if m not in SCALAR_METRICS]), st.integers(-100, 100))
def test_adding_a_constant_changes_nothing(problem, constant):
    image, seeds, options = problem
    got = mk.geodesic_distance(constant - image, seeds, **options)
    assert torch.equal(got, mk.geodesic_distance(image, seeds, **options))


@SOME
@given(problems())
def test_more_seeds_and_more_neighbours_are_nearer(problem):
    image, seeds, options = problem
    distance = mk.geodesic_distance(image, seeds, **options)
    more = seeds.clone()
    more.view(-1)[-1] = True
    assert bool((mk.geodesic_distance(image, more, **options) <= distance).all())
    faces = options | {"connectivity": "face"}
    assert bool((mk.geodesic_distance(image, seeds, **faces) >= distance).all())


@SOME
@given(problems(), st.integers(0, 2**32 - 1))
def test_neighbours_differ_by_at_most_their_edge(problem, seed):
    """Also with walls: no voxel outside, and inside the mask the distance can only grow."""
    image, seeds, options = problem
    random = np.random.default_rng(seed)
    mask = torch.from_numpy(random.random(tuple(seeds.shape)) < 0.7) | seeds
    free = mk.geodesic_distance(image, seeds, **options)
    walled = mk.geodesic_distance(image, seeds, mask=mask, **options)
    assert bool((walled[~mask] == math.inf).all())
    assert bool((walled >= free).all())
    poisoned = torch.where(mask, image, math.nan)
    assert torch.equal(mk.geodesic_distance(poisoned, seeds, mask=mask, **options), walled)

"""Laws of the Haar family that hold for every shape, layout and padding."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import medkern as mk

LINEAR_MODES = ("ll", "iewa", "all", "bands")
MODES = (*LINEAR_MODES, "max_concat")
PADS = ("zero", "symmetric", "reflect", "periodic")

# The same examples on every run, however slow the machine.
laws = settings(derandomize=True, deadline=None, max_examples=80)


@dataclass
class Image:
    x: torch.Tensor  # [B, C, *size]
    ndim: int
    pad: str
    layout: str

    @property
    def size(self):
        return tuple(self.x.shape[2:])


def relayout(x, layout):
    """The same values in another memory layout."""
    if layout == "channels_last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "reversed":
        axes = list(range(x.dim()))[::-1]
        return x.permute(axes).contiguous().permute(axes)
    if layout == "gaps":
        wide = x.new_zeros(*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3)
        wide[..., 1:, 2:-1] = x
        return wide[..., 1:, 2:-1]
    return x


def numbers(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, shape, generator=generator).to(dtype)


@st.composite
def images(draw, dtypes=(torch.float64,), even=False, least=1):
    ndim = draw(st.integers(1, 3))
    layout = draw(st.sampled_from(["planar", "channels_last", "reversed", "gaps"]))
    long_rows = layout != "channels_last" and draw(st.booleans())
    channels = draw(st.integers(1, 40 if layout == "channels_last" else 3))
    size = [draw(st.integers(least, 7)) for _ in range(ndim)]
    if long_rows:
        size[-1] = draw(st.integers(least, 140))
    if even:
        size = [n + n % 2 for n in size]
    pads = PADS if min(size) > 1 else tuple(p for p in PADS if p != "reflect")
    dtype = draw(st.sampled_from(dtypes))
    x = numbers((draw(st.integers(1, 2)), channels, *size), draw(st.integers(0, 999)), dtype)
    return Image(relayout(x, layout), ndim, draw(st.sampled_from(pads)), layout)


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def transforms(image, modes=MODES):
    """Every map of the family on this image, by name."""
    options = {"ndim": image.ndim, "pad": image.pad}
    maps = {mode: (lambda t, m=mode: mk.haar_pool(t, m, **options)) for mode in modes}
    return {"dwt": lambda t: mk.haar_dwt(t, **options), **maps}


def dot(a, b):
    return (a * b).sum()


@laws
@given(images(), st.integers(0, 999))
def test_backward_is_the_adjoint(image, seed):
    """<Ax, g> = <x, A'g> for every padding; of max_concat with the choice of maxima held."""
    x = image.x.requires_grad_()
    for name, transform in transforms(image).items():
        y = transform(x)
        g = relayout(numbers(y.shape, seed), image.layout)
        (adjoint,) = torch.autograd.grad(y, x, g)
        torch.testing.assert_close(
            dot(y, g), dot(x, adjoint), rtol=1e-11, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@laws
@given(images(), st.integers(0, 999))
def test_backward_of_the_inverse_is_its_adjoint(image, seed):
    bands = mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad).detach().requires_grad_()
    y = mk.haar_idwt(bands, ndim=image.ndim, size=image.size)
    g = relayout(numbers(y.shape, seed), image.layout)
    (adjoint,) = torch.autograd.grad(y, bands, g)
    torch.testing.assert_close(dot(y, g), dot(bands, adjoint), rtol=1e-11, atol=1e-10)
    # On even sizes the transform is orthonormal: the adjoint of its inverse is itself.
    if not any(n % 2 for n in image.size):
        close(adjoint, mk.haar_dwt(g, ndim=image.ndim))


@laws
@given(images(), st.floats(-4, 4), st.integers(0, 999))
def test_linearity(image, factor, seed):
    other = relayout(numbers(image.x.shape, seed), image.layout)
    for transform in transforms(image, LINEAR_MODES).values():
        close(transform(image.x + factor * other), transform(image.x) + factor * transform(other))


@laws
@given(images(dtypes=(torch.float16, torch.bfloat16, torch.float32, torch.float64)))
def test_doubling_is_exact(image):
    """Powers of two change no rounding, so they pass through bit for bit, maxima included."""
    for transform in transforms(image).values():
        assert torch.equal(transform(2 * image.x), 2 * transform(image.x))


@laws
@given(images())
def test_inverse(image):
    bands = mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad)
    close(mk.haar_idwt(bands, ndim=image.ndim, size=image.size), image.x)


@laws
@given(images(dtypes=(torch.uint8, torch.int16)))
def test_lifting_is_lossless(image):
    bands = mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad)
    assert torch.equal(mk.haar_idwt(bands, ndim=image.ndim, size=image.size), image.x)


@laws
@given(images(dtypes=(torch.int16,)), st.integers(-1000, 1000))
def test_lifting_of_a_shifted_image(image, shift):
    """A constant moves the mean and no detail (padding other than zeros)."""
    assume(image.pad != "zero")
    x = image.x.clamp(-2000, 2000)
    low, *details = mk.haar_dwt(x, ndim=image.ndim, pad=image.pad).unbind(2)
    moved, *same = mk.haar_dwt(x + shift, ndim=image.ndim, pad=image.pad).unbind(2)
    assert torch.equal(moved, low + shift)
    assert all(map(torch.equal, same, details))


@laws
@given(images(even=True), st.data())
def test_flips_change_the_sign_of_the_high_bands(image, data):
    axis = data.draw(st.integers(0, image.ndim - 1))
    flipped = mk.haar_dwt(image.x.flip(axis - image.ndim), ndim=image.ndim, pad=image.pad)
    want = mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad).flip(axis - image.ndim)
    signs = [-1.0 if band >> axis & 1 else 1.0 for band in range(2**image.ndim)]
    close(flipped, want * torch.tensor(signs).double().reshape(-1, *[1] * image.ndim))


def permuted_band(band, order):
    """Index after a permutation: new axis i is old axis order[i], and bit i goes with axis i."""
    return sum((band >> old & 1) << new for new, old in enumerate(order))


@laws
@given(images())
def test_permuting_axes_permutes_the_bits_of_the_band_index(image):
    bands = mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad)
    for order in itertools.permutations(range(image.ndim)):
        turned = image.x.permute(0, 1, *(2 + i for i in order))
        got = mk.haar_dwt(turned, ndim=image.ndim, pad=image.pad)
        for band in range(2**image.ndim):
            want = bands[:, :, band].permute(0, 1, *(2 + i for i in order))
            close(got[:, :, permuted_band(band, order)], want)
        for mode in ("iewa", "all", "ll"):
            pooled = mk.haar_pool(image.x, mode, ndim=image.ndim, pad=image.pad)
            got = mk.haar_pool(turned, mode, ndim=image.ndim, pad=image.pad)
            close(got, pooled.permute(0, 1, *(2 + i for i in order)))


@laws
@given(images(), st.booleans())
def test_energy_is_preserved(image, zero):
    """On even sizes, and on any size where the extension adds no energy."""
    pad = "zero" if zero else image.pad
    x = image.x if zero else image.x[(..., *(slice(0, n - n % 2) for n in image.size))]
    assume(x.numel() and (pad != "reflect" or min(x.shape[2:]) > 1))
    bands = mk.haar_dwt(x, ndim=image.ndim, pad=pad)
    close(bands.square().sum(), x.square().sum())


@laws
@given(images())
def test_pools_are_sums_of_bands(image):
    bands = mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad)
    pools = {name: transform(image.x) for name, transform in transforms(image).items()}
    close(pools["ll"], bands[:, :, 0])
    close(pools["iewa"], bands.sum(2) - bands[:, :, -1])
    close(pools["all"], bands.sum(2))
    close(pools["bands"], bands.transpose(1, 2).flatten(1, 2))
    close(pools["max_concat"].chunk(2, dim=1)[0], bands[:, :, 0])


@laws
@given(images(dtypes=(torch.float16, torch.float32, torch.uint8), least=4), st.data())
def test_dropping_blocks_drops_their_coefficients(image, data):
    """A block's result depends on no neighbour and no place in memory, bit for bit."""
    assume(image.pad != "periodic")
    axis = data.draw(st.integers(-image.ndim, -1))
    blocks = data.draw(st.integers(1, (image.x.shape[axis] - 2) // 2))
    rest = image.x.narrow(axis, 2 * blocks, image.x.shape[axis] - 2 * blocks)
    maps = transforms(image)
    for transform in maps.values() if image.x.is_floating_point() else (maps["dwt"],):
        whole = transform(image.x)
        assert torch.equal(transform(rest), whole.narrow(axis, blocks, whole.shape[axis] - blocks))


@laws
@given(images(dtypes=(torch.float32,)))
def test_samples_and_channels_are_independent(image):
    maps = transforms(image)
    for name in ("dwt", "ll", "iewa", "all"):
        whole = maps[name](image.x)
        for b, c in itertools.product(range(image.x.shape[0]), range(min(image.x.shape[1], 4))):
            assert torch.equal(
                maps[name](image.x[b : b + 1, c : c + 1]), whole[b : b + 1, c : c + 1]
            )


@laws
@given(images(dtypes=(torch.float32, torch.uint8)))
def test_the_layout_changes_nothing_but_the_layout(image):
    dense = image.x.contiguous()
    maps = transforms(image)
    for transform in maps.values() if image.x.is_floating_point() else (maps["dwt"],):
        assert torch.equal(transform(image.x), transform(dense))


@laws
@given(images(), st.integers(1, 3))
def test_multilevel_inverse(image, levels):
    most = max(min(image.size).bit_length() - 1, 1)
    coefficients = mk.haar_wavedec(image.x, min(levels, most), ndim=image.ndim, pad=image.pad)
    close(mk.haar_waverec(coefficients, ndim=image.ndim, size=image.size), image.x)


@laws
@given(images(dtypes=(torch.float16, torch.bfloat16, torch.float32, torch.float64)))
def test_native_equals_reference(image):
    if mk.explain("haar_dwt", image.x).runs != "native":
        pytest.skip("no native kernels here")
    eps = torch.finfo(image.x.dtype).eps
    for forward in transforms(image).values():
        results = {}
        for backend in ("native", "reference"):
            with mk.use_backend(backend):
                x = image.x.detach().requires_grad_()
                y = forward(x)
                (grad,) = torch.autograd.grad(y, x, numbers(y.shape, 5, y.dtype))
                results[backend] = y.detach(), grad
        for got, want in zip(*results.values(), strict=True):
            torch.testing.assert_close(got, want, rtol=2 * eps, atol=16 * eps)


@laws
@given(images(dtypes=(torch.uint8, torch.int16)))
def test_native_equals_reference_on_integers(image):
    bands = [
        mk.haar_dwt(image.x, ndim=image.ndim, pad=image.pad, backend=b)
        for b in ("native", "reference")
    ]
    assert torch.equal(*bands)
    # Any bands of the type, not only those of an image: the arithmetic wraps alike.
    any_bands = numbers(bands[0].shape, 3, bands[0].dtype)
    back = [
        mk.haar_idwt(any_bands, ndim=image.ndim, size=image.size, backend=b)
        for b in ("native", "reference")
    ]
    assert torch.equal(*back)

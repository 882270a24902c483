"""The Haar family against PyWavelets, closed forms and the paper, and every error it can raise."""

import itertools
import re
import shutil
import subprocess

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F

import medkern as mk
import medkern.nn
from medkern.reference import haar as reference

PYWT_MODE = {
    "zero": "zero",
    "replicate": "constant",
    "symmetric": "symmetric",
    "reflect": "reflect",
    "periodic": "periodic",
}
POOL_MODES = ("ll", "iewa", "all", "bands", "max_concat")
HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)
SIZES = {
    1: [(1,), (2,), (5,), (16,), (37,), (131,)],
    2: [(1, 1), (2, 2), (3, 4), (4, 3), (5, 5), (1, 9), (9, 1), (6, 66), (7, 71)],
    3: [(1, 1, 1), (2, 2, 2), (3, 4, 5), (4, 3, 2), (5, 1, 7), (3, 3, 35), (2, 5, 68)],
}
OPS = torch.ops.medkern


def images(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, shape, generator=generator).to(dtype)


def band_names(ndim):
    """PyWavelets' key of every band, in our order."""
    return ["".join("ad"[k >> i & 1] for i in range(ndim)) for k in range(2**ndim)]


def pywt_bands(x, ndim, pad):
    """[..., 2**ndim, *half] in float64 by PyWavelets."""
    axes = tuple(range(-ndim, 0))
    bands = pywt.dwtn(x.double().numpy(), "haar", mode=PYWT_MODE[pad], axes=axes)
    return torch.from_numpy(np.stack([bands[name] for name in band_names(ndim)], axis=-ndim - 1))


def valid_pads(size):
    return [pad for pad in PYWT_MODE if pad != "reflect" or min(size) > 1]


def assert_close(got, want, dtype, scale=1.0):
    """Equal up to the rounding of `dtype`; `want` is float64."""
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        got.double(), want.double(), rtol=2 * eps, atol=2 * scale * eps, equal_nan=True
    )


def assert_same_bits(got, want):
    """Equal bit for bit; NaN equals NaN whatever its payload, but -0.0 is not 0.0."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if not got.dtype.is_floating_point:
        assert torch.equal(got, want)
        return
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[got.element_size()]
    assert torch.equal(got.isnan(), want.isnan())
    known = ~got.isnan()
    same = got.contiguous().view(integer) == want.contiguous().view(integer)
    assert bool(same[known].all()), f"{int((~same[known]).sum())} elements differ in their bits"


# -- against PyWavelets --


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_dwt_equals_pywavelets(ndim, dtype):
    for size in SIZES[ndim]:
        x = images(2, 3, *size, dtype=dtype)
        for pad in valid_pads(size):
            got = mk.haar_dwt(x, ndim=ndim, pad=pad)
            assert got.dtype == dtype
            assert_close(got, pywt_bands(x, ndim, pad), dtype, scale=8)


def test_2d_bands_are_pywavelets_dwt2():
    x = images(6, 9)
    approximation, (horizontal, vertical, diagonal) = pywt.dwt2(x.numpy(), "haar")
    ll, lh, hl, hh = mk.haar_dwt(x).numpy()
    for ours, theirs in [
        (ll, approximation),
        (lh, horizontal),
        (hl, vertical),
        (hh, diagonal),
    ]:
        np.testing.assert_allclose(ours, theirs, atol=1e-14)


def test_1d_bands_are_pywavelets_dwt():
    x = images(4, 21)
    for ours, theirs in zip(
        mk.haar_dwt(x, ndim=1).unbind(1), pywt.dwt(x.numpy(), "haar"), strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-14)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_idwt_equals_pywavelets_on_any_bands(ndim):
    """Not only on bands that come from an image."""
    for size in SIZES[ndim]:
        half = [(n + 1) // 2 for n in size]
        bands = images(2, 2**ndim, *half)
        named = dict(zip(band_names(ndim), bands.numpy().swapaxes(0, 1), strict=True))
        want = torch.from_numpy(pywt.idwtn(named, "haar", axes=tuple(range(-ndim, 0))))
        assert_close(mk.haar_idwt(bands, ndim=ndim), want, torch.float64, scale=8)
        cut = want[(..., *(slice(n) for n in size))]
        assert_close(mk.haar_idwt(bands, ndim=ndim, size=size), cut, torch.float64, scale=8)


@pytest.mark.parametrize("pad", PYWT_MODE)
@pytest.mark.parametrize(
    ("shape", "ndim"), [((2, 37), 1), ((2, 21, 34), 2), ((13, 8), 2), ((9, 12, 11), 3)]
)
def test_wavedec_equals_pywavelets(shape, ndim, pad):
    x = images(*shape)
    axes = tuple(range(-ndim, 0))
    for levels in (None, 1, 2, 3):
        want = pywt.wavedecn(x.numpy(), "haar", mode=PYWT_MODE[pad], level=levels, axes=axes)
        got = mk.haar_wavedec(x, levels, ndim=ndim, pad=pad)
        assert len(got) == len(want)
        np.testing.assert_allclose(got[0].numpy(), want[0], atol=1e-13)
        for details, named in zip(got[1:], want[1:], strict=True):
            stacked = np.stack([named[name] for name in band_names(ndim)[1:]], axis=-ndim - 1)
            np.testing.assert_allclose(details.numpy(), stacked, atol=1e-13)


def test_waverec_equals_pywavelets_waverec2():
    coefficients = pywt.wavedec2(images(2, 21, 34).numpy(), "haar", level=3)
    ours = [np.asarray(coefficients[0])]
    ours += [np.stack(details, axis=-3) for details in coefficients[1:]]
    want = pywt.waverec2(coefficients, "haar")
    np.testing.assert_allclose(mk.haar_waverec(ours), want, atol=1e-13)


def test_default_levels_are_pywavelets():
    for size in [(2,), (3,), (4,), (31,), (32,), (33,), (8, 100), (100, 9, 17)]:
        levels = pywt.dwtn_max_level(size, "haar")
        assert len(mk.haar_wavedec(torch.zeros(size), ndim=len(size))) == levels + 1


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pool_equals_band_sums_of_pywavelets(ndim, dtype):
    for size in SIZES[ndim]:
        x = images(2, 3, *size, dtype=dtype)
        for pad in valid_pads(size):
            bands = pywt_bands(x, ndim, pad)
            stacked = bands.transpose(1, 2).flatten(1, 2)
            wanted = {
                "ll": bands[:, :, 0],
                "iewa": bands[:, :, :-1].sum(2),
                "all": bands.sum(2),
                "bands": stacked,
            }
            for mode, want in wanted.items():
                got = mk.haar_pool(x, mode, ndim=ndim, pad=pad)
                assert got.dtype == dtype
                assert_close(got, want, dtype, scale=16)
            low, _ = mk.haar_pool(x, "max_concat", ndim=ndim, pad=pad).chunk(2, dim=1)
            assert_close(low, wanted["ll"], dtype, scale=8)


# -- closed forms --


def test_iewa_is_the_stencil():
    x = images(2, 3, 6, 8)
    a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    assert_close(mk.haar_pool(x, "iewa"), (3 * a + b + c - d) / 2, torch.float64, scale=4)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_iewa_drops_the_band_high_along_every_axis(ndim):
    x = images(2, 3, *[8] * ndim)
    bands = mk.haar_dwt(x, ndim=ndim)
    want = 2 ** (ndim / 2) * x[(..., *[slice(None, None, 2)] * ndim)] - bands[:, :, -1]
    assert_close(mk.haar_pool(x, "iewa", ndim=ndim), want, torch.float64, scale=8)


def test_all_is_twice_every_other_sample_exactly():
    for dtype in FLOATS:
        x = images(2, 3, 35, 66, dtype=dtype)
        assert torch.equal(mk.haar_pool(x, "all"), 2 * x[..., ::2, ::2])


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_max_concat_holds_max_pooling(ndim, dtype):
    """Replicate padding never changes a maximum, so ceil_mode max pooling is the oracle."""
    pool = [F.max_pool1d, F.max_pool2d, F.max_pool3d][ndim - 1]
    for size in SIZES[ndim]:
        x = images(2, 3, *size, dtype=dtype).mul(2).round()  # rounding makes ties
        _, high = mk.haar_pool(x, "max_concat", ndim=ndim).chunk(2, dim=1)
        assert_same_bits(high, pool(x.float(), 2, ceil_mode=True).to(dtype))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_max_concat_picks_the_sample_that_max_pooling_picks(ndim):
    """Ties and NaN: which of equal samples gets the gradient, for every pattern of a block."""
    pool = [F.max_pool1d, F.max_pool2d, F.max_pool3d][ndim - 1]
    values = (0.0, 1.0, float("nan")) if ndim < 3 else (1.0, float("nan"))
    blocks = torch.tensor(list(itertools.product(values, repeat=2**ndim)))
    for layout in (torch.contiguous_format, torch.channels_last):
        if layout == torch.channels_last and ndim != 2:
            continue
        x = blocks.reshape(1, -1, *[2] * ndim).contiguous(memory_format=layout).requires_grad_()
        _, high = mk.haar_pool(x, "max_concat", ndim=ndim).chunk(2, dim=1)
        want = pool(x, 2)
        assert_same_bits(high.detach(), want.detach())
        (got_grad,) = torch.autograd.grad(high.sum(), x)
        (want_grad,) = torch.autograd.grad(want.sum(), x)
        assert torch.equal(got_grad, want_grad)


def test_max_concat_ties_in_long_rows():
    """The vector path, of several vectors, against max_pool2d with the same tie rule."""
    x = images(1, 2, 6, 140, dtype=torch.float32).round()
    x[..., 3, 50] = float("nan")
    x = x.requires_grad_()
    _, high = mk.haar_pool(x, "max_concat").chunk(2, dim=1)
    want = F.max_pool2d(x, 2)
    weights = images(*want.shape, dtype=torch.float32, seed=1)
    (got_grad,) = torch.autograd.grad(high, x, weights)
    (want_grad,) = torch.autograd.grad(want, x, weights)
    assert torch.equal(got_grad, want_grad)


@pytest.mark.parametrize("pad", PYWT_MODE)
def test_max_concat_with_keys_of_another_tensor(pad):
    """What derivatives need: x where the keys are largest, forward and back, in both layouts."""
    for dtype, shape in itertools.product((torch.float32, torch.float16), [(5, 7), (4, 70)]):
        x, keys = images(2, 19, *shape, dtype=dtype), images(2, 19, *shape, dtype=dtype, seed=1)
        grad = images(2, 38, *((n + 1) // 2 for n in shape), dtype=dtype, seed=2)
        for layout in (torch.contiguous_format, torch.channels_last):
            choose = keys.contiguous(memory_format=layout)
            got = OPS._haar_max_concat(x, choose, 2, pad)
            assert_close(got, reference.haar_max_concat(x.double(), keys.double(), 2, pad), dtype)
            back = OPS._haar_max_concat_backward(grad, choose, 2, pad)
            want = reference.haar_max_concat_backward(grad.double(), keys.double(), 2, pad)
            assert_close(back, want, dtype, scale=4)


def test_padding_zeros_take_part_in_the_maximum():
    x = torch.full((1, 1, 3, 3), -1.0)
    _, high = mk.haar_pool(x, "max_concat", pad="zero").chunk(2, dim=1)
    assert high.flatten().tolist() == [-1, 0, 0, 0]


@pytest.mark.parametrize("mode", POOL_MODES)
def test_pool_of_a_constant(mode):
    """DC gain: 2 in 2-D for all modes; the high-pass bands vanish; a maximum is itself."""
    y = mk.haar_pool(torch.full((1, 1, 4, 70), 3.0), mode)
    gains = {"bands": (2, 0, 0, 0), "max_concat": (2, 1)}.get(mode, (2,))
    for channel, gain in zip(y[0], gains, strict=True):
        assert bool((channel == 3.0 * gain).all())


# -- the paper's acceptance tests (papers/09, section 7) --


def test_paper_1_iewa_is_a_two_pass_transform():
    x = images(2, 3, 16, 24, dtype=torch.float32)
    root = 0.5**0.5
    low, high = (root * (x[..., ::2] + s * x[..., 1::2]) for s in (1, -1))
    ll, lh = (root * (low[..., ::2, :] + s * low[..., 1::2, :]) for s in (1, -1))
    hl = root * (high[..., ::2, :] + high[..., 1::2, :])
    a, b, c, d = (x[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    got = mk.haar_pool(x, "iewa")
    torch.testing.assert_close(got, ll + lh + hl, rtol=0, atol=1e-6)
    torch.testing.assert_close(got, (3 * a + b + c - d) / 2, rtol=0, atol=1e-6)


def test_paper_1_gradients_in_float64():
    for size in [(4, 6), (3, 5)]:
        x = images(1, 2, *size).requires_grad_()
        assert torch.autograd.gradcheck(lambda t: mk.haar_pool(t, "iewa"), (x,))


def test_paper_1_gradient_stencil():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(mk.haar_pool(x, "iewa"), x, torch.ones(1, 1, 1, 1))
    assert grad.flatten().tolist() == [1.5, 0.5, 0.5, -0.5]


def test_paper_2_inverse_and_energy():
    x = images(2, 3, 32, 48, dtype=torch.float32)
    bands = mk.haar_dwt(x)
    torch.testing.assert_close(mk.haar_idwt(bands), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(bands.square().sum(), x.square().sum(), rtol=1e-6, atol=0)


def test_paper_3_all_bands_are_subsampling():
    x = images(2, 3, 32, 48, dtype=torch.float32)
    assert torch.equal(mk.haar_pool(x, "all"), 2 * x[..., ::2, ::2])


def test_paper_4_noise_gain():
    noise = images(4, 4, 256, 256, dtype=torch.float32)
    for mode, variance in {"iewa": 3, "ll": 1, "all": 4}.items():
        assert mk.haar_pool(noise, mode).var().item() == pytest.approx(variance, rel=0.02)


def test_paper_4_checkerboard_vanishes():
    board = 1.0 - 2.0 * (torch.arange(64)[:, None] + torch.arange(70)).remainder(2)
    bands = mk.haar_dwt(board)
    assert not bands[:3].any()
    assert bool((bands[3] == 2).all())
    assert not mk.haar_pool(board, "iewa").any()


# -- inverses --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("size", "ndim"),
    [
        ((1,), 1),
        ((77,), 1),
        ((128,), 1),
        ((1, 1), 2),
        ((45, 19), 2),
        ((16, 66), 2),
        ((9, 7, 35), 3),
    ],
)
def test_waverec_inverts_wavedec_at_every_level(size, ndim, dtype):
    x = images(2, 3, *size, dtype=dtype)
    for pad in valid_pads(size):
        for levels in range(1, max(min(size).bit_length() - 1, 1) + 1):
            coefficients = mk.haar_wavedec(x, levels, ndim=ndim, pad=pad)
            assert len(coefficients) == levels + 1
            back = mk.haar_waverec(coefficients, ndim=ndim, size=size)
            assert_close(back, x, dtype, scale=16)


def test_waverec_without_a_size_gives_the_even_extension():
    x = images(1, 7, 9)
    back = mk.haar_waverec(mk.haar_wavedec(x, 2))
    assert back.shape == (1, 8, 10)
    assert_close(back[:, :7, :9], x, torch.float64, scale=16)


def test_unpool_inverts_the_bands_layer():
    for ndim, size in [(1, (9,)), (2, (7, 8)), (3, (4, 5, 3))]:
        x = images(2, 3, *size)
        pool = [medkern.nn.HaarPool1d, medkern.nn.HaarPool2d, medkern.nn.HaarPool3d][ndim - 1]
        y = pool("bands")(x)
        assert y.shape == (2, 3 * 2**ndim, *((n + 1) // 2 for n in size))
        unpool = medkern.nn.HaarUnpool(ndim)
        assert_close(unpool(y, size=size), x, torch.float64, scale=8)
        assert_close(unpool(y[0], size=size), x[0], torch.float64, scale=8)  # unbatched


def test_layers_describe_and_use_their_options():
    layer = medkern.nn.HaarPool2d("ll", pad="periodic")
    assert "mode='ll', pad='periodic'" in repr(layer)
    assert "ndim=3" in repr(medkern.nn.HaarUnpool(3))
    x = images(1, 2, 5, 7)
    assert torch.equal(layer(x), mk.haar_pool(x, "ll", pad="periodic"))


# -- lifting --


EXTREMES = {torch.uint8: (0, 1, 254, 255), torch.int16: (-32768, -32767, 0, 32766, 32767)}


@pytest.mark.parametrize("dtype", EXTREMES, ids=str)
def test_lifting_is_lossless_on_every_extreme_block(dtype):
    blocks = torch.tensor(list(itertools.product(EXTREMES[dtype], repeat=4)), dtype=dtype)
    x = blocks.reshape(1, -1, 2, 2)
    wide = x.movedim(1, -1).reshape(2, 2, -1, 1).permute(0, 2, 1, 3).reshape(2, -1)  # [2, 2n]
    for image in (x, x.contiguous(memory_format=torch.channels_last), wide[None, None]):
        bands = mk.haar_dwt(image)
        assert bands.dtype == {torch.uint8: torch.int16, torch.int16: torch.int32}[dtype]
        back = mk.haar_idwt(bands)
        assert back.dtype == dtype
        assert torch.equal(back, image)


@pytest.mark.parametrize("dtype", EXTREMES, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_lifting_is_lossless(ndim, dtype):
    for size in SIZES[ndim]:
        x = images(2, 3, *size, dtype=dtype)
        extremes = torch.where(images(2, 3, *size) > 0, EXTREMES[dtype][0], EXTREMES[dtype][-1])
        for image, pad in itertools.product((x, extremes.to(dtype)), valid_pads(size)):
            back = mk.haar_idwt(mk.haar_dwt(image, ndim=ndim, pad=pad), ndim=ndim, size=size)
            assert torch.equal(back, image)


def floor_lift(a, b):
    detail = a - b
    return b + np.floor_divide(detail, 2), detail


def test_lifting_follows_its_definition():
    """The first axis first; NumPy's floor division on int64."""
    x = images(3, 10, 74, dtype=torch.int16)
    v = x.numpy().astype(np.int64)
    low, high = floor_lift(v[..., ::2, :], v[..., 1::2, :])
    ll, hl = floor_lift(low[..., ::2], low[..., 1::2])
    lh, hh = floor_lift(high[..., ::2], high[..., 1::2])
    want = np.stack([ll, lh, hl, hh], axis=1)
    np.testing.assert_array_equal(mk.haar_dwt(x).numpy(), want)


@pytest.mark.parametrize("dtype", EXTREMES, ids=str)
def test_multilevel_lifting_is_lossless(dtype):
    for ndim, size in [(1, (100,)), (2, (37, 70)), (3, (9, 8, 17))]:
        x = images(2, *size, dtype=dtype)
        coefficients = mk.haar_wavedec(x, ndim=ndim)
        assert coefficients[0].dtype == dtype  # the mean stays in the range of the samples
        assert torch.equal(mk.haar_waverec(coefficients, ndim=ndim, size=size), x)


# -- half precision --


def special(dtype):
    """Every bit pattern of a half type, in random order."""
    bits = torch.randperm(2**16, generator=torch.Generator().manual_seed(3)) - 2**15
    return bits.to(torch.int16).view(dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_half_value_passes_unchanged(dtype):
    """The maximum of (v, -inf) is v: loads and stores alone, subnormals, infinities and NaN."""
    v = special(dtype)
    x = torch.stack([v, torch.full_like(v, -torch.inf)], dim=1)  # [65536, 2]
    for image in (x.reshape(1, 1, -1), x.reshape(1, -1, 2), x.reshape(1, 2**16, 2)):
        y = mk.haar_pool(image, "max_concat", ndim=1)
        assert_same_bits(y[:, y.shape[1] // 2 :].flatten(), v)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_results_are_float32_results_rounded_once(dtype):
    v = special(dtype)
    for ndim, x in [(1, v.view(1, 4, -1)), (2, v.view(1, 4, 64, -1)), (3, v.view(1, 4, 8, 16, -1))]:
        bands = mk.haar_dwt(x, ndim=ndim)
        assert_same_bits(bands, mk.haar_dwt(x.float(), ndim=ndim).to(dtype))
        back = mk.haar_idwt(bands, ndim=ndim)
        assert_same_bits(back, mk.haar_idwt(bands.float(), ndim=ndim).to(dtype))
        for mode in POOL_MODES:
            y = mk.haar_pool(x, mode, ndim=ndim)
            assert_same_bits(y, mk.haar_pool(x.float(), mode, ndim=ndim).to(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_overflow_is_infinity_and_intermediates_do_not_overflow(dtype):
    top = torch.finfo(dtype).max
    pair = torch.tensor([top, top], dtype=dtype)
    assert mk.haar_dwt(pair, ndim=1).flatten().tolist() == [torch.inf, 0]
    if dtype == torch.float16:  # 3a + b + c overflows float16 but not float32
        x = torch.tensor([[top / 2, -top / 2], [-top / 2, 0]], dtype=dtype)
        assert mk.haar_pool(x, "iewa").item() == top / 4


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_subnormals_are_kept(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    step = tiny * torch.finfo(dtype).eps  # the smallest subnormal
    x = torch.full((2, 70), step, dtype=dtype)
    assert bool((mk.haar_dwt(x)[0] == 2 * step).all())
    assert bool((mk.haar_pool(x, "iewa") == 2 * step).all())


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_width_around_the_vector_lengths(dtype):
    """Rows of 1 to 70 samples, where a vector more or less makes the difference."""
    for width in range(1, 71):
        x = images(2, 3, width, dtype=dtype)
        want = pywt_bands(x, 2, "symmetric")
        assert_close(mk.haar_dwt(x), want, dtype, scale=8)
        assert_close(mk.haar_pool(x, "ll"), want[:, 0], dtype, scale=8)
        bands = want.to(dtype)
        back = mk.haar_idwt(bands, size=(3, width))
        exact = mk.haar_idwt(bands.double(), size=(3, width), backend="reference")
        assert_close(back, exact, dtype, scale=8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_channel_count_around_the_vector_lengths(dtype):
    for channels in range(1, 71):
        x = images(1, channels, 3, 4, dtype=dtype)
        last = x.contiguous(memory_format=torch.channels_last)
        assert_same_bits(mk.haar_dwt(last), mk.haar_dwt(x))
        assert_same_bits(mk.haar_pool(last, "max_concat"), mk.haar_pool(x, "max_concat"))
        bands = mk.haar_dwt(last)
        assert_same_bits(
            mk.haar_idwt(bands, size=(3, 4)), mk.haar_idwt(bands.contiguous(), size=(3, 4))
        )


# -- layouts --


@pytest.mark.parametrize("mode", POOL_MODES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_pool_keeps_channels_last(ndim, mode):
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[ndim]
    x = images(2, 20, *[5, 6, 7][:ndim])
    last = x.contiguous(memory_format=layout)
    y = mk.haar_pool(last, mode, ndim=ndim)
    assert y.is_contiguous(memory_format=layout)
    assert not y.is_contiguous()
    assert_same_bits(y, mk.haar_pool(x, mode, ndim=ndim))


def test_dwt_keeps_channels_innermost():
    x = images(2, 20, 5, 6)
    last = x.contiguous(memory_format=torch.channels_last)
    bands = mk.haar_dwt(last)
    assert bands.shape == (2, 20, 4, 3, 3)
    assert bands.stride() == (3 * 3 * 4 * 20, 1, 20, 3 * 4 * 20, 4 * 20)
    assert_same_bits(bands, mk.haar_dwt(x))
    back = mk.haar_idwt(bands, size=(5, 6))
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert_close(back, x, torch.float64, scale=8)


def test_planar_results_are_contiguous():
    x = images(2, 3, 5, 6)
    assert mk.haar_dwt(x).is_contiguous()
    assert all(mk.haar_pool(x, mode).is_contiguous() for mode in POOL_MODES)


def operators_inside(run):
    """Names of the torch operators that a call runs, those inside our ops included."""
    run()
    with torch.profiler.profile() as profile:
        run()
    return {event.name for event in profile.events()}


def test_strided_inputs_are_read_in_place():
    x = images(1, 32, 16, 16, dtype=torch.float32)
    last = x.contiguous(memory_format=torch.channels_last)
    copies = {"aten::copy_", "aten::clone", "aten::contiguous"}
    for view in (
        x[..., 3:],
        x[:, 1:, ::2],
        last,
        last[:, :, 1:, :-3],
        last[:, 4:],
        x.transpose(0, 1),
    ):
        for run in (
            lambda v=view: mk.haar_dwt(v),
            lambda v=view: mk.haar_pool(v, "iewa"),
            lambda v=view: mk.haar_pool(v, "max_concat"),
        ):
            assert not operators_inside(run) & copies
    bands = mk.haar_dwt(last)
    assert not operators_inside(lambda: mk.haar_idwt(bands)) & copies
    # The probe does see a copy where one is due: lanes of stride 2.
    assert operators_inside(lambda: mk.haar_dwt(x[..., ::2])) & copies


VIEWS = {
    "rows": lambda t: t[..., 1::2, :],
    "columns": lambda t: t[..., 1::2],
    "cut": lambda t: t[..., 2:-1, 3:-2],
    "transposed": lambda t: t.transpose(-1, -2),
    "batch-transposed": lambda t: t.transpose(0, 1),
    "expanded": lambda t: t[:1].expand(3, *t.shape[1:]),
    "expanded-row": lambda t: t[..., :1, :].expand(t.shape),
    "expanded-column": lambda t: t[..., :1].expand(t.shape),
    "channel-slice": lambda t: t[:, 1::2],
    "permuted": lambda t: t.permute(3, 2, 1, 0),
    "channels-last-slice": lambda t: t.contiguous(memory_format=torch.channels_last)[:, 1:, 1::2],
    "channels-last-cut": lambda t: t.contiguous(memory_format=torch.channels_last)[..., 1:-2],
}


@pytest.mark.parametrize("view", VIEWS)
def test_any_strides(view):
    for dtype in (torch.float32, torch.float16, torch.uint8):
        x = VIEWS[view](images(4, 6, 11, 42, dtype=dtype))
        dense = x.contiguous()
        assert_same_bits(mk.haar_dwt(x), mk.haar_dwt(dense))
        if dtype.is_floating_point:
            for mode in POOL_MODES:
                assert_same_bits(mk.haar_pool(x, mode), mk.haar_pool(dense, mode))
        bands = VIEWS[view](mk.haar_dwt(images(4, 6, 11, 42, dtype=dtype)[:1])[0])
        wanted = mk.haar_idwt(bands[..., None, :, :].expand(*bands.shape[:2], 4, *bands.shape[2:]))
        dense = bands[..., None, :, :].repeat(1, 1, 4, 1, 1)
        assert_same_bits(wanted, mk.haar_idwt(dense))


def test_inputs_are_never_written():
    for dtype in (torch.float32, torch.uint8):
        x = images(2, 3, 7, 40, dtype=dtype)
        before = x.clone()
        bands = mk.haar_dwt(x)
        bands_before = bands.clone()
        mk.haar_idwt(bands, size=(7, 40))
        assert torch.equal(x, before)
        assert torch.equal(bands, bands_before)


@pytest.mark.parametrize(
    "lead", [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (0,), (2, 0), (0, 2, 3)]
)
def test_leading_axes(lead):
    for ndim, size in [(1, (9,)), (2, (5, 6)), (3, (3, 4, 5))]:
        x = images(*lead, *size)
        half = tuple((n + 1) // 2 for n in size)
        bands = mk.haar_dwt(x, ndim=ndim)
        assert bands.shape == (*lead, 2**ndim, *half)
        if x.numel():
            assert_close(bands, pywt_bands(x, ndim, "symmetric"), torch.float64, scale=8)
        assert_close(mk.haar_idwt(bands, ndim=ndim, size=size), x, torch.float64, scale=8)
        assert mk.haar_pool(x, ndim=ndim).shape == (*lead, *half)
        if lead:
            stacked = mk.haar_pool(x, "bands", ndim=ndim)
            assert stacked.shape == (*lead[:-1], lead[-1] * 2**ndim, *half)
            want = bands.movedim(-ndim - 1, len(lead) - 1).reshape(stacked.shape)
            assert torch.equal(stacked, want)
            doubled = mk.haar_pool(x, "max_concat", ndim=ndim)
            assert doubled.shape == (*lead[:-1], lead[-1] * 2, *half)


def test_large_odd_shapes():
    """Many units and threads, far offsets."""
    for ndim, shape in [(1, (3, 100_003)), (2, (3, 517, 1031)), (3, (2, 67, 93, 129))]:
        x = images(*shape, dtype=torch.float32)
        bands = mk.haar_dwt(x, ndim=ndim, pad="reflect")
        assert_close(bands, pywt_bands(x, ndim, "reflect"), torch.float32, scale=16)
        back = mk.haar_idwt(bands, ndim=ndim, size=shape[1:])
        assert_close(back, x, torch.float32, scale=16)


def cache_bytes():
    """Size of the last-level cache, which decides when results are written past it; 0: unknown."""
    if shutil.which("getconf") is None:
        return 0
    run = subprocess.run(
        ["getconf", "LEVEL3_CACHE_SIZE"], capture_output=True, text=True, check=False
    )
    return int(run.stdout) if run.stdout.strip().isdigit() else 0


@pytest.mark.skipif(not 0 < cache_bytes() <= 96 << 20, reason="no cache, or too large a one")
@pytest.mark.parametrize("width", [2048, 2051])
def test_results_too_large_for_the_cache(width):
    """They are written past the caches where aligned: the same bits as written in small pieces."""
    rows = cache_bytes() // 2 // (4 * width) + 64  # of float32
    x = images(1, 1, rows + rows % 2, width, dtype=torch.float32)
    bands = mk.haar_dwt(x)
    pieces = [mk.haar_dwt(piece) for piece in x.split(64, dim=2)]
    assert_same_bits(bands, torch.cat(pieces, dim=3))
    back = mk.haar_idwt(bands, size=x.shape[2:])
    size = [(2 * p.shape[3], width) for p in pieces]
    small = [mk.haar_idwt(p, size=s) for p, s in zip(pieces, size, strict=True)]
    assert_same_bits(back, torch.cat(small, dim=2))


# -- NaN and infinity --


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("pad", PYWT_MODE)
def test_a_bad_sample_stays_in_the_blocks_that_read_it(pad, bad):
    shape = (1, 2, 5, 39)
    for place in [(0, 0), (2, 7), (3, 37), (4, 38), (4, 0), (0, 38), (1, 36)]:
        x = images(*shape, dtype=torch.float32)
        mark = torch.zeros(shape)
        x[(0, 1, *place)], mark[(0, 1, *place)] = bad, 1
        reached = mk.haar_dwt(mark, pad=pad).abs().amax(2, keepdim=True) > 0
        bands = mk.haar_dwt(x, pad=pad)
        assert torch.equal(~bands.isfinite(), reached.expand_as(bands))
        touched = reached.squeeze(2)
        for mode in ("ll", "iewa"):
            assert torch.equal(~mk.haar_pool(x, mode, pad=pad).isfinite(), touched)


def test_a_bad_band_stays_in_its_block():
    bands = torch.zeros(1, 1, 4, 3, 20)
    bands[0, 0, 2, 1, 18] = torch.nan
    bad = mk.haar_idwt(bands, size=(5, 39)).isnan()
    assert bad.sum() == 4
    assert bool(bad[0, 0, 2:4, 36:38].all())


def test_all_reads_one_sample_of_a_block():
    """By its closed form: NaN and infinity of the others do not reach it."""
    x = images(1, 2, 6, 70, dtype=torch.float32)
    x[..., 1::2, :], x[..., ::2, 1::2] = torch.nan, torch.inf
    assert torch.equal(mk.haar_pool(x, "all"), 2 * x[..., ::2, ::2])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("mode", POOL_MODES)
def test_backends_agree_on_bad_samples(mode, bad):
    for corner in range(4):
        x = torch.tensor([1.0, 2.0, 3.0, 4.0])
        x[corner] = bad
        x = x.reshape(1, 1, 2, 2)
        assert_same_bits(
            mk.haar_pool(x, mode, backend="native"), mk.haar_pool(x, mode, backend="reference")
        )


# -- errors --


def raises(kind, op, argument, got):
    """A message of our form that names the op, the argument and the value."""
    text = rf"^medkern\.{op}: {argument} must .*, got {re.escape(str(got))}; \S"
    return pytest.raises(kind, match=text)


def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")


X = torch.zeros(1, 2, 4, 6)
BANDS = torch.zeros(1, 2, 4, 3, 5)
ON_IMAGES = {"haar_dwt": mk.haar_dwt, "haar_wavedec": mk.haar_wavedec, "haar_pool": mk.haar_pool}


@pytest.mark.parametrize("op", ON_IMAGES)
class TestImageErrors:
    @pytest.mark.parametrize("ndim", [0, 4, -1, "2", None, 2.5, 2.0, True])
    def test_ndim(self, op, ndim):
        with raises(ValueError, op, "ndim", repr(ndim)):
            ON_IMAGES[op](X, ndim=ndim)

    @pytest.mark.parametrize("pad", ["wrap", "Zero", None, 0])
    def test_pad(self, op, pad):
        with raises(ValueError, op, "pad", repr(pad)):
            ON_IMAGES[op](X, pad=pad)

    @pytest.mark.parametrize("shape", [(), (4,)])
    def test_too_few_axes(self, op, shape):
        with raises(ValueError, op, "x", shape):
            ON_IMAGES[op](torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(1, 2, 0, 4), (1, 2, 4, 0), (0, 0)])
    def test_empty_spatial_axis(self, op, shape):
        with raises(ValueError, op, "x", shape):
            ON_IMAGES[op](torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(1, 2, 1, 4), (1, 2, 4, 1)])
    def test_one_sample_cannot_be_reflected(self, op, shape):
        with raises(ValueError, op, "x", shape):
            ON_IMAGES[op](torch.zeros(shape), pad="reflect")

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.complex64])
    def test_dtype(self, op, dtype):
        op_seen = "haar_dwt" if op == "haar_wavedec" else op
        with raises(TypeError, op_seen, "x", dtype_name(dtype)):
            ON_IMAGES[op](torch.zeros(1, 1, 4, 4, dtype=dtype))

    @pytest.mark.parametrize("x", [[[1.0, 2.0]], 3.0, None, "image"])
    def test_not_an_array(self, op, x):
        with raises(TypeError, op, "x", type(x).__name__):
            ON_IMAGES[op](x)


def test_sparse_tensors_are_refused():
    with raises(TypeError, "haar_pool", "x", "a tensor of layout torch.sparse_coo"):
        mk.haar_pool(torch.ones(4, 4).to_sparse())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_pool_refuses_integers(dtype):
    with raises(TypeError, "haar_pool", "x", dtype_name(dtype)):
        mk.haar_pool(torch.zeros(1, 1, 4, 4, dtype=dtype))


@pytest.mark.parametrize("mode", ["max", "LL", None, 0])
def test_pool_mode(mode):
    with raises(ValueError, "haar_pool", "mode", repr(mode)):
        mk.haar_pool(X, mode)


@pytest.mark.parametrize("mode", ["bands", "max_concat"])
def test_pool_modes_that_need_channels(mode):
    with raises(ValueError, "haar_pool", "x", (4, 6)):
        mk.haar_pool(X[0, 0], mode)


@pytest.mark.parametrize("levels", [0, -1, 3])
def test_levels(levels):
    with raises(ValueError, "haar_wavedec", "levels", levels):
        mk.haar_wavedec(X, levels)


@pytest.mark.parametrize("levels", [1.0, "2", True])
def test_levels_type(levels):
    with raises(TypeError, "haar_wavedec", "levels", repr(levels)):
        mk.haar_wavedec(X, levels)


@pytest.mark.parametrize("shape", [(), (3, 5), (1, 2, 3, 3, 5), (1, 2, 8, 3, 5)])
def test_idwt_needs_all_bands(shape):
    with raises(ValueError, "haar_idwt", "bands", shape):
        mk.haar_idwt(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 1, 4, 0, 5), (4, 3, 0)])
def test_idwt_empty_spatial_axis(shape):
    with raises(ValueError, "haar_idwt", "bands", shape):
        mk.haar_idwt(torch.zeros(shape))


@pytest.mark.parametrize(
    "size", [(4, 10), (6, 11), (7, 10), (6,), (6, 10, 1), (-6, 10), (0, 0), ()]
)
def test_idwt_size(size):
    with raises(ValueError, "haar_idwt", "size", size):
        mk.haar_idwt(BANDS, size=size)


@pytest.mark.parametrize("ndim", [0, 4, None])
def test_idwt_and_waverec_ndim(ndim):
    with raises(ValueError, "haar_idwt", "ndim", repr(ndim)):
        mk.haar_idwt(BANDS, ndim=ndim)
    with raises(ValueError, "haar_waverec", "ndim", repr(ndim)):
        mk.haar_waverec([X, BANDS], ndim=ndim)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64, torch.complex64])
def test_idwt_dtype(dtype):
    with raises(TypeError, "haar_idwt", "bands", dtype_name(dtype)):
        mk.haar_idwt(BANDS.to(dtype))


@pytest.mark.parametrize("size", [6, 6.0, {6, 10}])
def test_idwt_size_type(size):
    with raises(TypeError, "haar_idwt", "size", repr(size)):
        mk.haar_idwt(BANDS, size=size)


def test_idwt_size_of_floats():
    with pytest.raises(
        (TypeError, ValueError), match=r"^medkern\.haar_idwt: size must .*, got .*; "
    ):
        mk.haar_idwt(BANDS, size=(6.0, 10.0))


def test_idwt_not_an_array():
    with raises(TypeError, "haar_idwt", "bands", "list"):
        mk.haar_idwt([1.0])
    with raises(TypeError, "haar_waverec", "coefficients", "str"):
        mk.haar_waverec(["a", "b"])


def test_waverec_needs_details():
    for coefficients in ([], [X]):
        with raises(ValueError, "haar_waverec", "coefficients", f"{len(coefficients)} entries"):
            mk.haar_waverec(coefficients)


@pytest.mark.parametrize(
    ("low", "details"),
    [
        ((1, 2, 3), (1, 3, 2, 4)),
        ((1, 2, 3), (1, 4, 2, 3)),
        ((1, 2, 3), (2, 3, 2, 3)),
        ((1, 2, 3), (3, 2, 3)),
        ((3,), (3, 3)),
        ((), ()),
    ],
)
def test_waverec_details_must_fit(low, details):
    got = f"details {details} on a low-pass band {low}"
    with raises(ValueError, "haar_waverec", "coefficients", got):
        mk.haar_waverec([torch.zeros(low), torch.zeros(details)])


@pytest.mark.parametrize(
    "dtypes",
    [("float32", "float64"), ("int16", "int16"), ("float32", "int16"), ("uint8", "int32")],
)
def test_waverec_dtypes_must_fit(dtypes):
    """Nothing is cast in silence; lifted images have their own pairs of dtypes."""
    low, details = (getattr(torch, name) for name in dtypes)
    with raises(TypeError, "haar_waverec", "coefficients", ", ".join(dtypes)):
        mk.haar_waverec([torch.zeros(2, 2, dtype=low), torch.zeros(3, 2, 2, dtype=details)])


def test_waverec_middle_levels_must_fit():
    """Details of 3 extents follow a level that gives 2n or 2n - 1 of them, not 5."""
    levels = [torch.zeros(2, 2), torch.zeros(3, 2, 2), torch.zeros(3, 5, 4)]
    with raises(ValueError, "haar_waverec", "size", (5, 4)):
        mk.haar_waverec(levels)


@pytest.mark.parametrize("layer", ["HaarPool1d", "HaarPool2d", "HaarPool3d"])
def test_layer_options(layer):
    with raises(ValueError, layer, "mode", "'max'"):
        getattr(medkern.nn, layer)("max")
    with raises(ValueError, layer, "pad", "'wrap'"):
        getattr(medkern.nn, layer)(pad="wrap")


def test_unpool_errors():
    with raises(ValueError, "HaarUnpool", "ndim", 4):
        medkern.nn.HaarUnpool(4)
    for shape in [(1, 6, 3, 3), (3, 3), (1, 4, 3, 3, 3)]:
        with raises(ValueError, "HaarUnpool", "x", shape):
            medkern.nn.HaarUnpool()(torch.zeros(shape))
    with raises(ValueError, "haar_idwt", "size", (3, 3)):
        medkern.nn.HaarUnpool()(torch.zeros(1, 4, 3, 3), size=(3, 3))


def test_backend_errors():
    with pytest.raises(
        ValueError, match=r"medkern.haar_dwt: backend must be one of .*, got 'cuda'"
    ):
        mk.haar_dwt(X, backend="cuda")
    with pytest.raises(RuntimeError, match=r"medkern.haar_pool: backend .*, got 'triton'; \w+"):
        mk.haar_pool(X, backend="triton")


# -- direct calls: a bad one raises and never reads or writes where it must not --


IMAGE = torch.zeros(2, 3, 5, 7)
COARSE = torch.zeros(2, 3, 4, 3, 4)  # its bands
POOLED = torch.zeros(2, 3, 3, 4)
NDIM = r"ndim must be 1, 2 or 3, got "
AXES = r"input must have \d axes, got "
DIRECT = {
    "dwt-ndim-0": (OPS.haar_dwt, (IMAGE, 0, "zero"), NDIM + "0"),
    "dwt-ndim-4": (OPS.haar_dwt, (IMAGE, 4, "zero"), NDIM + "4"),
    "dwt-ndim-negative": (OPS.haar_dwt, (IMAGE, -1, "zero"), NDIM + "-1"),
    "dwt-ndim-huge": (OPS.haar_dwt, (IMAGE, 2**62, "zero"), NDIM + "4611"),
    "dwt-rank": (OPS.haar_dwt, (IMAGE[0], 2, "zero"), AXES + "3"),
    "dwt-scalar": (OPS.haar_dwt, (IMAGE[0, 0, 0, 0], 1, "zero"), AXES + "0"),
    "dwt-pad": (OPS.haar_dwt, (IMAGE, 2, "wrap"), "pad must be .*, got wrap"),
    "dwt-int64": (OPS.haar_dwt, (IMAGE.long(), 2, "zero"), "must be floating point"),
    "dwt-bool": (OPS.haar_dwt, (IMAGE.bool(), 2, "zero"), "must be floating point"),
    "dwt-complex": (OPS.haar_dwt, (IMAGE + 1j, 2, "zero"), "must be floating point"),
    "dwt-empty": (OPS.haar_dwt, (IMAGE[..., :0], 2, "zero"), "must not be empty"),
    "dwt-empty-row": (OPS.haar_dwt, (IMAGE[:, :, :0], 2, "zero"), "must not be empty"),
    "idwt-size-empty": (OPS.haar_idwt, (COARSE, [], "zero"), NDIM + "0"),
    "idwt-size-long": (OPS.haar_idwt, (COARSE, [1, 1, 5, 7], "zero"), NDIM + "4"),
    "idwt-size-short": (OPS.haar_idwt, (COARSE, [7], "zero"), AXES + "5"),
    "idwt-size-3": (OPS.haar_idwt, (COARSE, [1, 5, 7], "zero"), AXES + "5"),
    "idwt-size-big": (OPS.haar_idwt, (COARSE, [5, 9], "zero"), "size must be 2n"),
    "idwt-size-small": (OPS.haar_idwt, (COARSE, [4, 7], "zero"), "size must be 2n"),
    "idwt-size-zero": (OPS.haar_idwt, (COARSE[..., :0], [5, 0], "zero"), "must not be empty"),
    "idwt-size-negative": (OPS.haar_idwt, (COARSE, [-5, 7], "zero"), "size must be 2n"),
    "idwt-size-minus-1": (OPS.haar_idwt, (COARSE[..., :0], [5, -1], "zero"), "size must be|empty"),
    "idwt-size-huge": (OPS.haar_idwt, (COARSE, [2**63 - 1, 7], "zero"), "size must be 2n"),
    "idwt-size-lowest": (OPS.haar_idwt, (COARSE, [-(2**63), 7], "zero"), "size must be 2n"),
    "idwt-bands-3": (OPS.haar_idwt, (COARSE[:, :, :3], [5, 7], "zero"), "must have 4 bands, got 3"),
    "idwt-bands-0": (OPS.haar_idwt, (COARSE[:, :, :0], [5, 7], "zero"), "must have 4 bands, got 0"),
    "idwt-int32": (OPS.haar_idwt, (COARSE.int(), [5, 7], "zero"), "must be floating point"),
    "idwt-pad": (OPS.haar_idwt, (COARSE, [5, 7], ""), "pad must be"),
    "lift-float": (OPS._haar_lift, (IMAGE, 2, "zero"), "x must be uint8 or int16"),
    "lift-int8": (OPS._haar_lift, (IMAGE.char(), 2, "zero"), "x must be uint8 or int16"),
    "lift-int32": (OPS._haar_lift, (IMAGE.int(), 2, "zero"), "x must be uint8 or int16"),
    "lift-ndim": (OPS._haar_lift, (IMAGE.byte(), 4, "zero"), NDIM + "4"),
    "lift-rank": (OPS._haar_lift, (IMAGE.byte()[0], 2, "zero"), AXES + "3"),
    "lift-pad": (OPS._haar_lift, (IMAGE.byte(), 2, "wrap"), "pad must be"),
    "lift-empty": (OPS._haar_lift, (IMAGE.byte()[..., :0], 2, "zero"), "must not be empty"),
    "unlift-float": (OPS._haar_unlift, (COARSE, [5, 7]), "bands must be int16 or int32"),
    "unlift-uint8": (OPS._haar_unlift, (COARSE.byte(), [5, 7]), "bands must be int16 or int32"),
    "unlift-int64": (OPS._haar_unlift, (COARSE.long(), [5, 7]), "bands must be int16 or int32"),
    "unlift-size": (OPS._haar_unlift, (COARSE.short(), [7, 7]), "size must be 2n"),
    "unlift-size-empty": (OPS._haar_unlift, (COARSE.short(), []), NDIM + "0"),
    "unlift-bands": (OPS._haar_unlift, (COARSE.short()[:, :, :2], [5, 7]), "must have 4 bands"),
    "pool-mode": (OPS.haar_pool, (IMAGE, "max_concat", 2, "zero"), "mode must be .*, got max_conc"),
    "pool-ndim": (OPS.haar_pool, (IMAGE, "ll", 0, "zero"), NDIM + "0"),
    "pool-rank": (OPS.haar_pool, (IMAGE, "ll", 3, "zero"), AXES + "4"),
    "pool-pad": (OPS.haar_pool, (IMAGE, "ll", 2, "none"), "pad must be"),
    "pool-int64": (OPS.haar_pool, (IMAGE.long(), "ll", 2, "zero"), "must be floating point"),
    "pool-empty": (OPS.haar_pool, (IMAGE[..., :0], "ll", 2, "zero"), "must not be empty"),
    "pb-size-empty": (OPS._haar_pool_backward, (POOLED, [], "ll", "zero"), NDIM + "0"),
    "pb-size-4": (OPS._haar_pool_backward, (POOLED, [1, 1, 5, 7], "ll", "zero"), NDIM + "4"),
    "pb-size-1": (OPS._haar_pool_backward, (POOLED, [7], "ll", "zero"), AXES + "4"),
    "pb-size-big": (OPS._haar_pool_backward, (POOLED, [7, 7], "ll", "zero"), "size must be 2n"),
    "pb-size-neg": (OPS._haar_pool_backward, (POOLED, [-6, 7], "ll", "zero"), "size must be 2n"),
    "pb-mode": (OPS._haar_pool_backward, (POOLED, [5, 7], "dwt", "zero"), "mode must be"),
    "pb-pad": (OPS._haar_pool_backward, (POOLED, [5, 7], "ll", "dwt"), "pad must be"),
    "pb-int": (OPS._haar_pool_backward, (POOLED.int(), [5, 7], "ll", "zero"), "floating point"),
    "pb-bands": (
        OPS._haar_pool_backward,
        (POOLED, [5, 7], "bands", "zero"),
        "multiple of 4 .*got 3",
    ),
    "mc-ndim-0": (OPS._haar_max_concat, (IMAGE, IMAGE, 0, "zero"), NDIM + "0"),
    "mc-rank": (OPS._haar_max_concat, (IMAGE, IMAGE, 1, "zero"), AXES + "4"),
    "mc-pad": (OPS._haar_max_concat, (IMAGE, IMAGE, 2, "x"), "pad must be"),
    "mc-int64": (OPS._haar_max_concat, (IMAGE.long(), IMAGE.long(), 2, "zero"), "floating point"),
    "mc-keys-dtype": (OPS._haar_max_concat, (IMAGE, IMAGE.double(), 2, "zero"), "one dtype"),
    "mc-keys-half": (OPS._haar_max_concat, (IMAGE, IMAGE.half(), 2, "zero"), "one dtype"),
    "mc-keys-rank": (OPS._haar_max_concat, (IMAGE, IMAGE[0], 2, "zero"), "one shape"),
    "mc-keys-size": (OPS._haar_max_concat, (IMAGE, IMAGE[..., 1:], 2, "zero"), "one shape"),
    "mc-keys-batch": (OPS._haar_max_concat, (IMAGE, IMAGE[:1], 2, "zero"), "one shape"),
    "mc-keys-channels": (OPS._haar_max_concat, (IMAGE, IMAGE[:, :1], 2, "zero"), "one shape"),
    "mcb-ndim": (OPS._haar_max_concat_backward, (POOLED, IMAGE, 4, "zero"), NDIM + "4"),
    "mcb-rank": (OPS._haar_max_concat_backward, (POOLED[0], IMAGE[0], 2, "zero"), AXES + "3"),
    "mcb-channels": (OPS._haar_max_concat_backward, (POOLED, IMAGE, 2, "zero"), "2C"),
    "mcb-half-channel": (
        OPS._haar_max_concat_backward,
        (POOLED[:, :1].repeat(1, 7, 1, 1), IMAGE, 2, "zero"),
        "2C",
    ),
    "mcb-batch": (
        OPS._haar_max_concat_backward,
        (torch.zeros(1, 6, 3, 4), IMAGE, 2, "zero"),
        "2C",
    ),
    "mcb-size": (
        OPS._haar_max_concat_backward,
        (torch.zeros(2, 6, 3, 5), IMAGE, 2, "zero"),
        "size must be 2n",
    ),
    "mcb-dtype": (
        OPS._haar_max_concat_backward,
        (torch.zeros(2, 6, 3, 4, dtype=torch.float64), IMAGE, 2, "zero"),
        "one dtype",
    ),
    "mcb-grad-rank": (
        OPS._haar_max_concat_backward,
        (torch.zeros(2, 6, 3), IMAGE, 2, "zero"),
        "2C",
    ),
}


@pytest.mark.parametrize("call", DIRECT)
def test_bad_direct_call_raises(call):
    op, args, message = DIRECT[call]
    with pytest.raises(RuntimeError, match=message):
        op(*args)


def test_every_op_has_bad_direct_calls():
    from medkern._registry import OPS as REGISTERED

    called = {op.__name__ for op, _, _ in DIRECT.values()}
    assert called >= {name for name in REGISTERED if "haar" in name}


def test_huge_extents_raise():
    """2**53 expanded images: the result would fit no address space, and no offset wraps around."""
    huge = torch.zeros(1, 1, 2, 2).expand(2**53, 1, 2, 2)
    with pytest.raises(RuntimeError, match=r"(?i)memory|overflow|new_empty_strided"):
        mk.haar_dwt(huge)
    with pytest.raises(RuntimeError, match=r"(?i)memory|overflow|new_empty_strided"):
        mk.haar_pool(huge, "bands")

"""Half spectra and their adjoint against NumPy's transforms and their own inner products."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medkern.reference import half_spectrum as reference

transform = torch.ops.medkern._half_spectrum
adjoint = torch.ops.medkern._half_spectrum_adjoint
SIZES = [
    *[(9,), (8,), (1,), (2,)],
    *[(6, 8), (5, 7), (9, 7), (5, 8), (1, 1), (1, 2), (4, 1), (1, 6), (16, 20)],
    *[(3, 4, 5), (4, 3, 6), (2, 3, 2, 4)],
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_transform_is_that_of_numpy(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want = np.fft.rfftn(x.numpy(), axes=range(2, x.dim()), norm="ortho")
    torch.testing.assert_close(torch.view_as_complex(transform(x)), torch.from_numpy(want))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_adjoint_of_any_spectrum(size, dtype):
    """<F x, g> = <x, F* g>, where g is no spectrum of a real array."""
    x = torch.randn(2, 3, *size, dtype=dtype)
    g = torch.randn_like(transform(x))
    back = adjoint(g, size[-1])
    error = 1e-12 if dtype == torch.float64 else 1e-4
    left, right = (transform(x) * g).sum(), (x * back).sum()
    torch.testing.assert_close(left, right, rtol=error, atol=error / 10)
    torch.testing.assert_close(back, reference.half_spectrum_adjoint(g, size[-1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=0, max_size=2), st.integers(1, 70))
def test_any_size(others, width):
    g = torch.randn(1, 2, *others, width // 2 + 1, 2, dtype=torch.float64)
    torch.testing.assert_close(adjoint(g, width), reference.half_spectrum_adjoint(g, width))


def test_adjoint_of_a_weighted_spectrum_is_the_array():
    """F* N F = 1, with N the bins that a column stands for."""
    x = torch.randn(2, 1, 6, 5, 8, dtype=torch.float64)
    spectrum = transform(x)
    counts = reference.column_counts(spectrum, 8).unsqueeze(-1)
    torch.testing.assert_close(adjoint(spectrum * counts, 8), x)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(adjoint(spectrum, 8), x)


@pytest.mark.parametrize("width", [6, 7])
def test_spectra_that_start_between_two_pairs(width):
    """torch takes no such memory for complex numbers."""
    g = torch.randn(1 + 2 * 3 * 4 * 4 * 2, dtype=torch.float64)[1:].view(2, 3, 4, 4, 2)
    torch.testing.assert_close(adjoint(g, width), adjoint(g.clone(), width))


def test_direct_calls_are_checked():
    spectrum = torch.randn(2, 3, 4, 4, 2)
    assert transform(torch.zeros(2, 3, 0, 4)).shape == (2, 3, 0, 3, 2)
    assert adjoint(spectrum[:, :, :0], 6).shape == (2, 3, 0, 6)
    without_width = torch.zeros(2, 3, 4, 0)
    for x in (torch.zeros(2, 3), torch.zeros(2, 3, 4, dtype=torch.float16), without_width):
        with pytest.raises(RuntimeError):
            transform(x)
    for given_spectrum, width in [
        (spectrum, 4),
        (spectrum, 8),
        (spectrum[..., :1], 6),
        (spectrum, -1),
        (spectrum[..., :1, :], 0),
        (spectrum[0, 0], 6),
        (spectrum.half(), 6),
    ]:
        with pytest.raises(RuntimeError):
            adjoint(given_spectrum, width)

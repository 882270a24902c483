"""The Triton kernels of the Fourier epilogue beyond their samples: see test_triton.py for how."""

from __future__ import annotations

import re
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from triton_harness import (
    CAUGHT,
    ahead,
    check,
    compiled,
    in_wider_rows,
    interpreted,
    kernels,
    launcher_of,
    load_broken,
    naming,
    needs_triton,
    normal,
    outside,
    passed_in,
    run,
    start_interpreter,
)

import medkern as mk

pytestmark = pytest.mark.usefixtures("own_triton_cache")


FORWARD, BACKWARD = "fourier_epilogue", "_fourier_epilogue_backward"


def module() -> Any:
    return kernels("fourier_epilogue")


def problem(batch, inputs, outputs, space, dtype=torch.float32):
    """k, x, weight, bias."""
    compute = torch.promote_types(dtype, torch.float32)
    weight = normal(outputs, inputs, seed=3) / inputs**0.5
    k, x = normal(batch, outputs, *space, seed=1), normal(batch, inputs, *space, seed=2)
    return k.to(dtype), x.to(dtype), weight.to(compute), normal(outputs, seed=4).to(compute)


def check_both(tensors, activation="gelu", residual=None, grad=None, kernels=None):
    k, x, *_ = tensors
    kernels = kernels or module()
    residual = k.shape[1] == x.shape[1] if residual is None else residual
    grad = normal(*k.shape, seed=5, dtype=k.dtype) if grad is None else grad
    args = (*tensors, activation, residual)
    for name, given in ((FORWARD, args), (BACKWARD, (grad, *args))):
        with naming(name), np.errstate(all="ignore"):
            check(name, run(kernels.LAUNCHERS[name], given), given)


# One program holds 64 outputs and 64 pixels forward, 32 of float64; 32 channels backward, and of 16
# channels 64, 32 or 16 pixels.
@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ((1, 1, 1, (1,)), torch.float32),
        ((3, 16, 16, (64,)), torch.float32),
        ((2, 17, 15, (65,)), torch.float32),
        ((2, 32, 32, (3, 11)), torch.bfloat16),
        ((1, 5, 32, (7, 9)), torch.float64),
        ((1, 33, 33, (33,)), torch.float32),
        ((2, 32, 65, (5, 7)), torch.float32),
        ((1, 70, 3, (67,)), torch.float16),
        ((1, 33, 40, (17,)), torch.float64),
    ],
    ids=str,
)
def test_around_blocks(size, dtype):
    tensors = problem(*size, dtype)
    check_both(tensors)
    check_both((*tensors[:3], None), "none", False)


@interpreted
@needs_triton
@pytest.mark.parametrize("channels", [6, 34])
def test_strides(channels):
    """Channels last, in wider rows, transposed, of another order of axes, of one repeated row."""
    k, x, weight, bias = problem(2, channels, channels, (5, 7))
    grad = normal(*k.shape, seed=5).contiguous(memory_format=torch.channels_last)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    swapped = x.transpose(0, 1).contiguous().transpose(0, 1)
    row = x[:1, :, :1].expand(2, -1, 5, -1)
    check_both((grad, in_wider_rows(x), weight.T.contiguous().T, bias), grad=grad)
    check_both((turned, swapped, weight, bias[:1].expand(channels)), grad=in_wider_rows(k))
    check_both((k, row, in_wider_rows(weight), None), grad=row)


@interpreted
@needs_triton
def test_dtypes_meet_in_the_wider_one():
    k, x, weight, bias = problem(1, 4, 4, (20,))
    half, brain, double = torch.float16, torch.bfloat16, torch.float64
    for of_k, of_x in ((half, brain), (half, torch.float32), (torch.float32, double)):
        compute = torch.float64 if of_x is double else torch.float32
        tensors = (k.to(of_k), x.to(of_x), weight.to(compute), bias.to(compute))
        check_both(tensors, grad=normal(*k.shape, dtype=torch.promote_types(of_k, of_x)))


@interpreted
@needs_triton
@pytest.mark.parametrize("channels", [3, 33])
def test_nan_and_inf_stay_in_their_pixels(channels):
    """Also of blocks with rows and pixels that do not exist."""
    k, x, weight, bias = problem(1, channels, channels, (40,))
    k[0, 1, 7], x[0, 2, 39], x[0, 0, 11] = torch.nan, torch.nan, torch.inf
    check_both((k, x, weight, bias))
    with np.errstate(all="ignore"):
        args = (k, x, weight, bias, "gelu", True)
        y = module().fourier_epilogue(*args)
        d_k, d_x, *_ = module().fourier_epilogue_backward(normal(*k.shape), *args)
    assert y[0, :, 7].isfinite().sum() == channels - 1
    for t, bad in ((y, {7, 11, 39}), (d_k, {7, 39}), (d_x, {7, 39})):
        assert set((~t[0].isfinite()).any(0).nonzero().flatten().tolist()) == bad


def gelu(s):
    """Of the numbers, and the derivative: all by the kernels."""
    k, nothing = s.view(1, 1, -1), s.new_zeros(1, 1, s.numel())
    args = (k, nothing, s.new_zeros(1, 1), None, "gelu", False)
    with np.errstate(all="ignore"):
        y = module().fourier_epilogue(*args)
        slope, *_ = module().fourier_epilogue_backward(torch.ones_like(k), *args)
    return y.flatten(), slope.flatten()


@interpreted
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gelu_to_its_last_digits(dtype, patches_once):
    """Relative to the value also where Phi is tiny, down to the smallest normal numbers."""
    lowest = -12.9 if dtype == torch.float32 else -37.4
    small = torch.logspace(-30, -1, 40, dtype=torch.float64)
    dense = torch.linspace(lowest, 6, 200, dtype=torch.float64)
    s = torch.cat([dense, small, -small, torch.linspace(6, 60, 10)]).to(dtype)
    eps = torch.finfo(dtype).eps
    for value, y, slope in zip(s.tolist(), *map(Tensor.tolist, gelu(s)), strict=True):
        with mpmath.workdps(50):
            z = mpmath.mpf(value)
            cdf, pdf = mpmath.ncdf(z), mpmath.npdf(z)
            assert abs(y - z * cdf) <= 9 * eps * abs(z * cdf), value
            assert abs(slope - (cdf + z * pdf)) <= 2 * eps, value
            if value < -2:
                assert abs(slope - (cdf + z * pdf)) <= 10 * eps * abs(cdf + z * pdf), value


@interpreted
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gelu_of_special_values(dtype, patches_once):
    special = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e30, -1e30, -14.5, -39.5, 1e-40, 100.0]
    y, slope = gelu(torch.tensor(special, dtype=dtype))
    expected = torch.nn.functional.gelu(torch.tensor(special, dtype=torch.float64)).to(dtype)
    close = {"equal_nan": True, "rtol": 1e-6, "atol": 1e-37}
    torch.testing.assert_close(y, expected, **close)
    limits = torch.tensor([0.5, 0.5, 1, 0, torch.nan, 1, 0, 0, 0, 0.5, 1], dtype=dtype)
    torch.testing.assert_close(slope, limits, **close)


@interpreted
@needs_triton
def test_sums_over_many_pixels_keep_their_digits(monkeypatch, patches_once):
    """A float32 sum of all tiles would be off by 1e-6 and more."""
    monkeypatch.setattr(module(), "MOST_PARTS", 1)
    k, x, weight, _ = problem(1, 2, 2, (1 << 13,))
    x = x * 0.01 + 100
    args = (torch.ones_like(k), k, x, weight, None, "none", False)
    *_, d_weight, d_bias = module().fourier_epilogue_backward(*args)
    expected = x.double().sum((0, 2)).expand(2, 2)
    torch.testing.assert_close(d_weight.double(), expected, rtol=1e-7, atol=0)
    assert d_bias.tolist() == [2.0**13] * 2


@needs_triton
def test_sums_take_little_memory():
    """Four tiles in a part at least, at most 256 parts, and 32 MB unless of one part."""
    kernels = module()
    for channels, pixels in ((1, 1), (16, 1000), (64, 10**7), (512, 10**6), (5000, 10**6)):
        config = kernels.backward_config(channels, channels, torch.float32)
        tiles, parts = kernels.Sums.of(3, channels, channels, pixels, config)
        assert tiles == 3 * -(-pixels // config.pixels)
        assert 1 <= parts <= min(256, -(-tiles // 4))
        assert parts == 1 or 8 * parts * channels * (channels + 1) <= 1 << 25


@interpreted
@needs_triton
def test_backend_triton_of_the_public_function(patches_once):
    k, x, weight, bias = problem(2, 5, 5, (4, 6))
    for how in ({}, {"activation": "none", "residual": False}):
        results = []
        for backend in ("reference", "triton"):
            leaves = [t.clone().requires_grad_() for t in (k, x, weight, bias)]
            with mk.use_backend(backend):
                y = mk.fourier_epilogue(*leaves, **how)
                y.square().sum().backward()
            results.append([y, *(t.grad for t in leaves)])
        torch.testing.assert_close(*results)
    assert torch.equal(mk.fourier_epilogue(k, x, weight, bias, backend="triton", **how), y)


@interpreted
@needs_triton
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0), (2, 3, 4, 0)], ids=str)
def test_empty_batch_and_space(shape):
    tensors = (torch.zeros(shape), torch.zeros(shape), torch.eye(3), torch.ones(3))
    *of_images, d_weight, d_bias = launcher_of(BACKWARD)(tensors[0], *tensors, "gelu", True)
    assert all(t.shape == shape for t in of_images)
    assert d_weight.tolist() == torch.zeros(3, 3).tolist()
    assert d_bias.tolist() == [0.0] * 3
    check_both(tensors)


@interpreted
@needs_triton
def test_shapes_must_fit():
    k, x, weight, bias = problem(1, 3, 3, (4,))
    for args in (
        (k, x[..., :3], weight, None, "gelu", False),
        (k, x, weight[:2], None, "gelu", False),
        (k, x, weight, bias[:2], "gelu", False),
        (k, x[:, :2], weight[:, :2], None, "gelu", True),
    ):
        with pytest.raises(ValueError, match="shapes do not fit"):
            module().fourier_epilogue(*args)
    with pytest.raises(ValueError, match="shapes do not fit"):
        module().fourier_epilogue_backward(k[..., :2], k, x, weight, bias, "gelu", True)


# Part of the kernels' source, and what a slip of the pen might have made of it.
MUTANTS = {
    "outputs unmasked": (
        "here = (o < outputs) & (p < pixels)\n    s =",
        "here = p < pixels\n    s =",
    ),
    "inputs unmasked": ("(row < inputs) & (p < pixels)", "p < pixels"),
    "residual subtracted": ("            s += value", "            s -= value"),
    "bias forgotten backward": ("                s += b\n", "                s += 0 * b\n"),
    "infinity in padded rows": ("slope = tl.where(here, slope *", "slope = tl.where(True, slope *"),
    "the last tile left out": ("(part + 1) * tiles // parts)", "(part + 1) * tiles // parts - 1)"),
    "W not transposed": ("tl.dot(tl.trans(w), slope", "tl.dot(w, slope"),
    "residual forgotten backward": (
        "back += _load(grad, grad_at, here, ACC)",
        "back += 0 * _load(grad, grad_at, here, ACC)",
    ),
    "sums of another block": ("block // input_blocks * BLOCK_O", "block % input_blocks * BLOCK_O"),
    "biases of every block": ("tl.where(first_input == 0, outputs, 0)", "outputs"),
    "rounded d_k summed": ("wide = d_k if copy is None else copy", "wide = d_k"),
    "channels of all samples": ("return sample * batch_stride + (", "return 0 * sample + ("),
}


@interpreted
@needs_triton
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_kernel_is_caught(mutant, tmp_path):
    broken = load_broken("fourier_epilogue", MUTANTS[mutant], tmp_path)

    def run_all():
        check_both(problem(3, 5, 5, (129,)), kernels=broken)
        k, x, weight, bias = problem(1, 3, 3, (11,))
        x[0, 0, 5] = torch.inf
        check_both((k, x, weight, bias), kernels=broken)
        check_both(problem(1, 33, 34, (9,), torch.float16), kernels=broken)

    with pytest.raises(Exception, match=CAUGHT):
        run_all()


@needs_triton
@outside
def test_in_the_interpreter(tmp_path):
    assert passed_in(start_interpreter(__file__, tmp_path)) >= 35


@ahead
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", list(module().AOT_VARIANTS))
def test_compiles_without_spills(name, arch, record_property, verifies):
    verifies(FORWARD if name.startswith("fwd") else BACKWARD, f"Triton compiled sm_{arch}")
    code = compiled(name, arch, "fourier_epilogue")
    record_property("resources", code.summary())
    kernels = module()
    # Triton 3.6 wants a few more for the backward in float64.
    older = kernels.triton.__version__ < "3.8" and name == "bwd-double"
    assert code.spilled == 0 or older
    assert code.registers <= (160 if name.startswith("fwd") else 255)
    assert code.shared <= 48 * 1024
    assert code.count(r"(atom|red)(\.\w+)*") == 0
    offsets = re.findall(r"tt\.addptr .*: .*, (?:tensor<[\dx]*x)?(i\d+)", code.ttir)
    assert set(offsets) == {"i64"}
    # Halves take tensor cores by way of TF32; float32 never does.
    half = kernels.AOT_VARIANTS[name].dtype.itemsize == 2
    assert ("tf32" in code.ptx) == half
    assert "odd" in name or max(code.widths("st")) == 16


@pytest.mark.gpu
@ahead
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_many_channels_on_a_gpu(dtype):
    """Three launches backward; the samples take one."""
    k, x, weight, bias = problem(2, 70, 70, (9, 31), dtype)
    args = (k, x, weight, bias, "gelu", True)
    for name, given in ((FORWARD, args), (BACKWARD, (normal(*k.shape, dtype=dtype), *args))):
        on_gpu = (a.cuda() if isinstance(a, Tensor) else a for a in given)
        out = pytree.tree_map(Tensor.cpu, launcher_of(name)(*on_gpu))
        check(name, out, given)

"""Every instruction set and thread count gives the same bits; MEDKERN_ISA forces one."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import medkern as mk
from medkern import _library
from medkern._registry import OPS
from medkern.backend import native

pytestmark = pytest.mark.skipif(not native().loaded, reason="no native kernels here")

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32, torch.float64)


@pytest.fixture
def isa():
    switch = _library.native_isa(_library.find("_native"))
    before = switch.active
    yield switch
    switch.select(before)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def bits(t):
    """The bits as integers; all NaN alike, as IEEE 754 leaves their payload open."""
    if not t.dtype.is_floating_point:
        return t
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()]
    return t.contiguous().view(integer).masked_fill(t.isnan(), torch.iinfo(integer).max)


def assert_same_on_every_isa(isa, run, *, fused=False):
    """The same bits; with fused multiply-add, which the baseline lacks, to rounding."""
    results = {}
    for name in isa.names:
        isa.select(name)
        results[name] = [t if fused else bits(t) for t in pytree.tree_leaves(run())]
    if fused:
        torch.testing.assert_close(results[isa.names[-1]], results["baseline"])
        assert all(map(torch.equal, results[isa.names[-1]], results[isa.names[1]]))
        return
    for name in isa.names[1:]:
        for actual, expected in zip(results[name], results["baseline"], strict=True):
            assert torch.equal(actual, expected), f"{name} differs from baseline"


def images(*shape, dtype):
    if dtype.is_floating_point:
        return torch.randn(shape, dtype=torch.float64).to(dtype)
    info = torch.iinfo(dtype)
    return torch.randint(info.min, info.max + 1, shape).to(dtype)


def test_best_is_the_default_and_names_are_in_order(isa):
    assert isa.names == ("baseline", "avx2", "avx512")[: len(isa.names)]
    if not os.environ.get("MEDKERN_ISA"):
        assert isa.active == isa.names[-1]


def test_select_switches_and_refuses(isa):
    for name in isa.names:
        isa.select(name)
        assert isa.active == name
        assert mk.info.report()["isa"]["active"] == name
    with pytest.raises(ValueError, match=r"must be one of baseline.* on this machine, got 'sse9'"):
        isa.select("sse9")
    assert isa.active == isa.names[-1]


def test_the_two_libraries_switch_separately(isa):
    core = pytest.importorskip("medkern._core")
    before = core.active_isa()
    isa.select("baseline")
    assert core.active_isa() == before
    try:
        core.set_isa("baseline")
        isa.select(isa.names[-1])
        assert core.active_isa() == "baseline"
    finally:
        core.set_isa(before)


@pytest.mark.parametrize("name", OPS)
def test_samples_of_every_op(isa, name):
    spec = OPS[name].spec
    for dtype in spec.dtypes:
        for sample in spec.samples(dtype):
            run = functools.partial(OPS[name].packet, *sample.args)
            assert_same_on_every_isa(isa, run, fused=spec.fused)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.uint8, torch.int16], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last"])
def test_every_length_of_a_row(isa, dtype, layout):
    """Rows, or channels, of 1 to 140: from a scalar tail to several overlapping vectors."""
    for n in [*range(1, 71), 127, 128, 129, 130, 140]:
        x = images(1, 2, 5, n, dtype=dtype)
        if layout == "channels_last":
            x = x.movedim(-1, 1)
        size = list(x.shape[2:])
        bands = mk.haar_dwt(x)
        assert_same_on_every_isa(isa, lambda x=x: mk.haar_dwt(x))
        assert_same_on_every_isa(isa, lambda b=bands, s=size: mk.haar_idwt(b, size=s))
        if dtype.is_floating_point:
            for mode in ("ll", "iewa", "all", "bands", "max_concat"):
                assert_same_on_every_isa(isa, lambda x=x, m=mode: mk.haar_pool(x, m))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("pad", ["zero", "symmetric", "reflect", "periodic"])
def test_gradients(isa, dtype, pad):
    x = images(2, 3, 7, 69, dtype=dtype)
    for mode in ("ll", "iewa", "all", "bands", "max_concat"):

        def run(mode=mode):
            leaf = x.detach().requires_grad_()
            y = mk.haar_pool(leaf, mode, pad=pad)
            (grad,) = torch.autograd.grad(y, leaf, torch.full_like(y, 0.7))
            return grad

        assert_same_on_every_isa(isa, run)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_half_value(isa, dtype):
    """All bit patterns in random pairs: conversion in hardware equals conversion in software."""
    order = torch.randperm(2**16).sub(2**15).to(torch.int16).view(dtype)
    for shape in [(1, 1, 256, 256), (1, 256, 16, 16)]:
        x = order.reshape(shape)
        if shape[1] > 1:
            x = x.contiguous(memory_format=torch.channels_last)
        for mode in ("bands", "iewa", "max_concat"):
            assert_same_on_every_isa(isa, lambda x=x, m=mode: mk.haar_pool(x, m))
        assert_same_on_every_isa(isa, lambda x=x: mk.haar_pool(x.flatten(2), "max_concat", ndim=1))


def test_float32_extremes(isa):
    """Subnormals, infinities, NaN, signed zeros and overflow."""
    tiny = torch.finfo(torch.float32).smallest_normal
    top = torch.finfo(torch.float32).max
    values = [0.0, -0.0, tiny, -tiny, tiny / 8, 1.0, top, -top, torch.inf, -torch.inf, torch.nan]
    x = torch.tensor(values)[torch.randint(len(values), (1, 2, 64, 130))]
    for mode in ("bands", "ll", "iewa", "all", "max_concat"):
        assert_same_on_every_isa(isa, lambda m=mode: mk.haar_pool(x, m))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.uint8], ids=str)
def test_thread_count_changes_nothing(two_threads, dtype, ndim):
    """More than the 32768 samples that a thread takes, in odd shapes of both layouts."""
    shape = {1: (2, 5, 30_011), 2: (1, 5, 131, 299), 3: (1, 5, 23, 45, 67)}[ndim]
    for layout in ("planar", "channels_last"):
        x = images(*shape, dtype=dtype)
        if layout == "channels_last":
            x = x.movedim(1, -1).contiguous().movedim(-1, 1)

        def run(x=x):
            bands = mk.haar_dwt(x, ndim=ndim, pad="periodic")
            back = mk.haar_idwt(bands, ndim=ndim, size=shape[2:])
            results = [bands, back]
            if dtype.is_floating_point:
                leaf = x.detach().requires_grad_()
                y = mk.haar_pool(leaf, "max_concat", ndim=ndim, pad="reflect")
                results += [y.detach(), *torch.autograd.grad(y, leaf, torch.full_like(y, 0.3))]
            return [bits(t) for t in results]

        two = run()
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(2)
        assert all(map(torch.equal, one, two))


# -- the environment variable --


def python(code, isa):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "MEDKERN_ISA": isa},
        check=False,
    )


ACTIVE = "import torch, medkern; print(medkern.info.report()['isa']['active'])"
CORE_ACTIVE = "import medkern.numpy; from medkern import _core; print(_core.active_isa())"


def test_environment_forces_the_baseline():
    run = python(ACTIVE, "baseline")
    assert run.stdout.strip() == "baseline", run.stderr


def test_environment_forces_every_isa_for_numpy(isa):
    pytest.importorskip("medkern._core")
    for name in isa.names:
        run = python(CORE_ACTIVE, name)
        assert run.stdout.strip() == name, run.stderr


@pytest.mark.parametrize("code", [ACTIVE, CORE_ACTIVE], ids=["torch", "numpy"])
def test_environment_with_an_unknown_name(code):
    run = python(code, "AVX9")
    assert run.returncode != 0
    assert "ValueError: medkern: MEDKERN_ISA must be one of baseline" in run.stderr
    assert "on this machine, got 'AVX9'; unset it to use the best" in run.stderr


def test_numpy_gives_the_same_bits_on_every_isa(isa):
    core = pytest.importorskip("medkern._core")
    import medkern.numpy as mkn

    before = core.active_isa()
    results = []
    try:
        for name in isa.names:
            core.set_isa(name)
            x = np.random.default_rng(0).standard_normal((2, 3, 9, 70)).astype(np.float16)
            results.append((mkn.haar_dwt(x).tobytes(), mkn.haar_pool(x, "max_concat").tobytes()))
    finally:
        core.set_isa(before)
    assert len(set(results)) == 1

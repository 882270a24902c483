"""The Triton kernels of warping beyond their samples: see test_triton.py for how."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from triton_harness import (
    CAUGHT,
    ahead,
    check,
    compiled,
    in_wider_rows,
    interpreted,
    kernels,
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
from medkern._registry import OPS

pytestmark = pytest.mark.usefixtures("own_triton_cache")

PADDINGS = ("zeros", "border", "reflection")
SHAPES = {  # image, output: rows of several programs; a plane and volumes of less than one
    "wide": ((1, 2, 3, 150), (2, 130)),
    "tall": ((2, 3, 41, 5), (67, 4)),
    "volume": ((2, 3, 3, 5, 6), (2, 6, 7)),
    "thin": ((1, 1, 1, 1, 3), (1, 2, 3)),
}


def problem(shape, out, normalized=False, dtype=torch.float32, field=torch.float32):
    """grad, image, displacement; none of them contiguous."""
    axes = len(out)
    image = in_wider_rows(normal(*shape, dtype=dtype))
    u = normal(shape[0], *out, axes, seed=1).movedim(-1, 1) * (
        1.5 / max(shape) if normalized else 2
    )
    grad = normal(shape[0], *out, shape[1], seed=2, dtype=dtype).movedim(-1, 1)
    return grad, image, u.to(field)


def check_both(tensors, *how, module=None):
    launchers = (module or kernels("warp")).LAUNCHERS
    for name, args in (("warp", (*tensors[1:], *how)), ("_warp_slope", (*tensors, *how))):
        with naming(f"{name} {how}"):
            check(name, run(launchers[name], args), args)


@pytest.fixture
def shared_channels(monkeypatch):
    """Two channels to a program, of three, so that the last has fewer."""
    monkeypatch.setattr(kernels("warp"), "_share", lambda channels, tiles: min(channels, 2))


@interpreted
@needs_triton
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", SHAPES)
def test_around_programs(name, padding, shared_channels):
    """Sizes that cross a program's tile; strides of every kind; images of another size."""
    normalized = name in ("tall", "volume")
    check_both(problem(*SHAPES[name], normalized), "linear", padding, normalized)


@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("mode", "padding"), list(itertools.product(("nearest", "cubic"), PADDINGS))
)
def test_modes(mode, padding, shared_channels):
    for shape, out in (((1, 3, 4, 5), (5, 9)), ((1, 1, 3, 4, 3), (2, 3, 4))):
        tensors = problem(shape, out)
        if mode == "cubic":
            check_both(tensors, mode, padding, False)
            continue
        args = (*tensors[1:], mode, padding, False)
        check("warp", run(kernels("warp").warp, args), args)
        assert not kernels("warp").warp_slope(*tensors, mode, padding, False).any()


@interpreted
@needs_triton
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_bits_of_the_cpu(mode):
    """Positions included that are whole or halfway, at the border and far beyond."""
    image = normal(1, 1, 5, 6)
    u = (4 * normal(1, 2, 5, 6, seed=1)).round() / 4
    u[..., 0], u[..., 1] = 1e30, -3.5
    for padding in PADDINGS:
        args = (image, u, mode, padding, False)
        assert torch.equal(run(kernels("warp").warp, args), OPS["warp"](*args))
        if mode != "nearest":
            args = (normal(1, 1, 5, 6, seed=2), *args)
            out = run(kernels("warp").warp_slope, args)
            assert torch.equal(out, OPS["_warp_slope"](*args))


@interpreted
@needs_triton
@pytest.mark.parametrize("padding", PADDINGS)
def test_special_values(padding):
    """As the CPU's kernels: NaN where u is NaN, and where it reads one; infinite u is outside."""
    image, u, grad = normal(1, 2, 4, 6), normal(1, 2, 4, 6, seed=1), normal(1, 2, 4, 6, seed=2)
    image[0, 0, 1, 2] = torch.nan
    u[0, 0, 0, 1], u[0, 1, 2, 0], u[0, 1, 3, 3] = torch.nan, torch.inf, -torch.inf
    for mode in ("linear", "cubic"):
        args = (image, u, mode, padding, False)
        torch.testing.assert_close(
            run(kernels("warp").warp, args), OPS["warp"](*args), equal_nan=True
        )
        actual = run(kernels("warp").warp_slope, (grad, *args))
        torch.testing.assert_close(actual, OPS["_warp_slope"](grad, *args), equal_nan=True)
    labels = torch.arange(24).view(1, 1, 4, 6)
    for values in (labels.to(torch.uint8), labels + 2**40, labels.half()):
        args = (values, u, "nearest", padding, False)
        out = run(kernels("warp").warp, args)
        torch.testing.assert_close(out, OPS["warp"](*args), rtol=0, atol=0, equal_nan=True)


@interpreted
@needs_triton
def test_dtypes_of_the_field():
    """Computed in that of the image, stored in their own."""
    module = kernels("warp")
    for dtype, field in (
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float16),
    ):
        grad, *args = problem((1, 1, 3, 4), (3, 5), dtype=dtype, field=field)
        for name, given in (("warp", args), ("_warp_slope", (grad, *args))):
            given = (*given, "linear", "zeros", False)
            out, expected = run(module.LAUNCHERS[name], given), OPS[name](*given)
            torch.testing.assert_close(out, expected, rtol=0, atol=0)


@interpreted
@needs_triton
def test_empty():
    module = kernels("warp")
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4)):
        grad, image, u = torch.ones(shape), torch.ones(shape), torch.ones(shape[0], 2, 3, 4)
        assert module.warp(image, u, "linear", "zeros", False).shape == shape
        assert not module.warp_slope(grad, image, u, "linear", "zeros", False).any()
    with pytest.raises(ValueError, match="shapes do not fit"):
        module.warp(torch.ones(1, 1, 3, 4), torch.ones(1, 3, 3, 4), "linear", "zeros", False)
    with pytest.raises(ValueError, match="integers"):
        module.warp(torch.ones(1, 1, 3, 4).int(), torch.ones(1, 2, 3, 4), "linear", "zeros", False)


@interpreted
@needs_triton
def test_chosen_by_the_caller():
    image, velocity = normal(1, 2, 5, 6), normal(1, 2, 5, 6, seed=1)
    results = []
    for backend in ("native", "triton"):
        x, v = image.clone().requires_grad_(), velocity.clone().requires_grad_()
        u = mk.integrate_velocity(v, 2, backend=backend)
        out = mk.warp(x, u, padding="border", backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, v))))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


# Part of the kernels' source, and what a slip of the pen might have made of it.
MUTANTS = {
    "rows unmasked": ("here = (at[1] < out_h) & (at[2] < out_w)", "here = at[2] < out_w"),
    "lanes unmasked": ("here = (at[1] < out_h) & (at[2] < out_w)", "here = at[1] < out_h"),
    "zeros read": ("inside = (i >= 0) & (i < size)", "inside = i < size"),
    "reflected slope": ("tl.where(back, -slope, slope)", "slope"),
    "slope beyond the border": ("f), tl.where(low | high, 0, slope)", "f), slope"),
    "slope of the far taps": ("tl.where(k < 2, slope, -slope)", "slope"),
    "channels overlap": ("groups * channels_each, (z", "groups, (z"),
    "depth weight": ("sums[0] + by * found[0]", "sums[0] + found[0]"),
}


@interpreted
@needs_triton
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_kernel_is_caught(mutant, tmp_path, monkeypatch):
    broken = load_broken("warp", MUTANTS[mutant], tmp_path)
    monkeypatch.setattr(broken, "_share", lambda channels, tiles: min(channels, 2))

    def run_all():
        for padding in PADDINGS:
            check_both(problem((1, 3, 4, 5), (5, 9)), "linear", padding, False, module=broken)
            check_both(problem((1, 1, 4, 5), (5, 5)), "cubic", padding, False, module=broken)
        check_both(problem((1, 1, 3, 4, 3), (2, 3, 4)), "linear", "zeros", False, module=broken)

    with pytest.raises(Exception, match=CAUGHT):
        run_all()


@needs_triton
@outside
def test_in_the_interpreter(tmp_path):
    assert passed_in(start_interpreter(__file__, tmp_path)) >= len(MUTANTS) + 25


@ahead
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", list(kernels("warp").AOT_VARIANTS))
def test_compiles(name, arch, record_property, verifies):
    ops = {"fwd-compose": "compose", "fwd": "warp", "bwd": "_warp_slope"}
    op = next(op for start, op in ops.items() if name.startswith(start))
    verifies(op, f"Triton compiled sm_{arch}")
    code = compiled(name, arch, "warp")
    record_property("resources", code.summary())
    assert code.registers <= 144
    assert code.spilled <= (8 if arch == 80 else 0)  # one address, outside the loops over taps
    assert code.shared == 0
    assert code.count(r"(atom|red)(\.\w+)*") == 0
    assert code.count(r"fma\.rn\.f\d+") == 0
    offsets = re.findall(r"tt\.addptr .*: .*, (?:tensor<[\dx]*x)?(i\d+)", code.ttir)
    assert set(offsets) == {"i64"}


@ahead
def test_sizes_are_no_special_cases():
    """But for stride 1 of the last axis: an image of another size does not compile."""
    module = kernels("warp")
    for kernel in (module.warp_fwd_kernel, module.warp_slope_bwd_kernel):
        numbers = [p for p in kernel.params if not p.is_constexpr]
        special = {p.name for p in numbers if not p.do_not_specialize}
        assert special - {"image_w", "u_w", "grad_w"} == {
            name for name in ("image", "u", "y", "grad", "d_u") if name in kernel.arg_names
        }

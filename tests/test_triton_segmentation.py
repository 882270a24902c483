"""The Triton kernels of the segmentation sums beyond their samples: see test_triton.py for how."""

from __future__ import annotations

import re

import numpy as np
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
    needs_triton,
    outside,
    passed_in,
    run,
    start_interpreter,
)

import medkern as mk
from medkern.reference import segmentation as reference

pytestmark = pytest.mark.usefixtures("own_triton_cache")


FORWARD, BACKWARD = NAMES = ("_segmentation_sums", "_segmentation_sums_backward")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
IGNORE = 250


def problem(shape, kind=torch.int64, dtype=torch.float32):
    """Logits, and labels (some of them to be ignored) or, for a floating kind, values."""
    generator = torch.Generator().manual_seed(3)
    batch, classes, *space = shape
    logits = 3 * torch.randn(shape, generator=generator)
    if kind.is_floating_point:
        target = torch.rand(shape, generator=generator)
    else:
        target = torch.randint(max(classes, 2), (batch, *space), generator=generator)
        target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORE
    return logits.to(dtype), target.to(kind)


def calls(logits, target, softmax, ignore=IGNORE):
    """The arguments of both ops."""
    generator = torch.Generator().manual_seed(4)
    grad = torch.randn(*logits.shape[:2], 7, generator=generator)
    grad = grad.to(torch.promote_types(logits.dtype, torch.float32))
    yield FORWARD, (logits, target, softmax, ignore)
    yield BACKWARD, (logits, grad, target, softmax, ignore)


def check_all(logits, target, softmax, ignore=IGNORE, module=None, expected=None):
    """expected: (logits, target) that have the same results, where they are not these."""
    module = module or kernels("segmentation")
    same = expected or (logits, target)
    pairs = zip(calls(logits, target, softmax, ignore), calls(*same, softmax, ignore), strict=True)
    with np.errstate(all="ignore"):
        for (name, args), (_, wanted) in pairs:
            check(name, run(module.LAUNCHERS[name], args), wanted)


@interpreted
@needs_triton
@pytest.mark.parametrize("voxels", [1, 512, 513, 1024, 1025, 2100])
def test_around_blocks(voxels):
    for classes, kind, softmax in (
        (1, torch.uint8, False),
        (2, torch.int64, True),
        (5, torch.float32, True),
        (3, torch.float64, False),
    ):
        check_all(*problem((2, classes, voxels), kind), softmax)


@interpreted
@needs_triton
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, *FLOATS], ids=str)
def test_targets_of_every_type(kind):
    for dtype, softmax in ((torch.float32, True), (torch.float16, False), (torch.float64, True)):
        check_all(*problem((2, 3, 70), kind, dtype), softmax)
    if kind == torch.uint8:
        logits, _ = problem((2, 3, 70))
        check_all(logits, torch.randint(2, logits.shape, dtype=kind), False)


@interpreted
@needs_triton
def test_many_classes():
    logits, labels = problem((1, 258, 3))  # more than a byte names
    labels[0, 0] = 257
    check_all(logits, labels, True)


@interpreted
@needs_triton
def test_layouts_of_either_input():
    def last(t):
        return t.movedim(1, -1).contiguous().movedim(-1, 1)

    for kind in (torch.int64, torch.float32):
        logits, target = problem((2, 3, 6, 7), kind)
        turned = target.transpose(-1, -2).contiguous().transpose(-1, -2)
        check_all(logits, turned, True)
        check_all(last(logits), target if kind == torch.int64 else last(target), True)
        check_all(in_wider_rows(logits), target[:1].expand_as(target), True)
        check_all(logits[:, :, ::2], in_wider_rows(target)[..., ::2, :], True)


@interpreted
@needs_triton
@pytest.mark.parametrize("softmax", [False, True])
def test_labels_that_are_left_out(softmax):
    """Those to ignore, and on a GPU those that name no class; nothing at such a voxel is seen."""
    logits, labels = problem((2, 3, 40))
    for stray in (-1, 3, -(2**40), 2**32, 2**40 + 1):
        strays = torch.where(labels == IGNORE, stray, labels)
        check_all(logits, strays, softmax, expected=(logits, labels))
    bad = torch.where(labels[:, None] == IGNORE, torch.nan, logits)
    check_all(bad, labels, softmax, expected=(logits, labels))
    check_all(logits, labels.clamp(max=2), softmax, 1)  # a class of its own is ignored
    check_all(logits, torch.full_like(labels, IGNORE), softmax)
    for ignore in (-100, 2**40):
        check_all(logits, labels.clamp(max=2).to(torch.uint8), softmax, ignore)
    one, binary = problem((2, 1, 40), torch.uint8)
    check_all(one, torch.where(binary == IGNORE, 2, binary), False, expected=(one, binary))


@interpreted
@needs_triton
@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_special_logits(special):
    for kind in (torch.int64, torch.float32):
        for softmax in (False, True):
            logits, target = problem((4, 3, 2), kind)
            for sample, classes in enumerate(((0, 1), (2,), (0, 1, 2))):
                logits[sample, classes, 0] = special
            target = target.clamp(max=2)
            target[::2] = 0
            check_all(logits, target, softmax)


@interpreted
@needs_triton
def test_sums_keep_their_digits():
    sums = kernels("segmentation").segmentation_sums
    z = torch.linspace(0, 80, 30)[None, :, None]
    exact = torch.log1p(torch.exp(-z[0, :, 0].double()))
    for x, digits in ((z, 6e-6), (z.double(), 1e-14)):
        surprise = sums(x, torch.ones_like(x), False, -1)[0, :, 5]
        torch.testing.assert_close(surprise.double(), exact, rtol=digits, atol=0)
    logits, labels = problem((1, 2, 1 << 13))
    for softmax in (False, True):
        exact = reference.segmentation_sums(logits.double(), labels, softmax, IGNORE)
        assert (sums(logits, labels, softmax, IGNORE) / exact - 1).abs().max() < 5e-7


@interpreted
@needs_triton
def test_nothing_to_sum():
    for shape in ((0, 3, 4), (2, 3, 0), (0, 1, 0)):
        for kind in (torch.uint8, torch.float32):
            check_all(*problem(shape, kind), False)


@interpreted
@needs_triton
def test_the_loss_on_triton():
    """Through autograd; its backward takes Triton too where all is forced on it."""
    logits, labels = problem((2, 4, 5, 7), dtype=torch.float64)
    results = []
    for backend in ("reference", "triton"):
        z = logits.clone().requires_grad_()
        with mk.use_backend(backend):
            loss = mk.segmentation_loss(z, labels, ("ce", "dice", "scc"), ignore_index=IGNORE)
            loss.backward()
        results.append((loss.detach(), z.grad))
    torch.testing.assert_close(*results)
    loss = mk.segmentation_loss(logits, labels, ignore_index=IGNORE, backend="triton")
    torch.testing.assert_close(loss, mk.segmentation_loss(logits, labels, ignore_index=IGNORE))


@interpreted
@needs_triton
def test_what_does_not_fit_is_refused():
    module = kernels("segmentation")
    logits, labels = problem((2, 3, 8))
    with pytest.raises(ValueError, match="shapes do not fit"):
        module.segmentation_sums(logits, labels[:, 1:], True, -1)
    with pytest.raises(ValueError, match=r"grad must be \[B, K, 7\]"):
        module.segmentation_sums_backward(logits, torch.ones(2, 3, 6), labels, True, -1)
    with pytest.raises(RuntimeError, match="no bool"):
        module.segmentation_sums(logits, labels.bool(), True, -1)


# Part of the kernels' source, and what a slip of the pen might have made of it.
MUTANTS = {
    "tail unmasked": ("here = n < voxels", "here = n >= 0"),
    "tail counted": ("counts = here\n", "counts = n >= 0\n"),
    "programs overlap": ("n = program % parts * BLOCK", "n = program % parts * (BLOCK // 2)"),
    "ignored label counted": ("here & (given != ignore)", "here"),
    "one class too many": ("given < classes + single", "given <= classes + single"),
    "negative labels named": ("& (given >= 0)", ""),
    "single class shifted": ("given.to(tl.int32) - single", "given.to(tl.int32)"),
    "sums not rescaled": ("total = total * scale + e", "total = total + e"),
    "-inf after -inf": ("tl.where(z == largest, 1, tl.exp", "tl.where(z == 1e30, 1, tl.exp"),
    "infinite logits kept": ("total += largest - largest", "total += 0"),
    "no cost for improbable labels": ("(largest - x) + log_total", "largest - x"),
    "0 log 0": ("tl.where(y == 0, 0, y *", "tl.where(y != y, 0, y *"),
    "columns swapped": ("tl.join(x[2], x[6])", "tl.join(x[6], x[2])"),
    "p counted where ignored": ("p = tl.where(counts, p, 0)", "p = tl.where(here, p, 0)"),
    "square not rescaled twice": ("(scale * scale)", "scale"),
    "square halved": (
        "+ 2 * _weight(weights, k, 2, ACC) * (e",
        "+ _weight(weights, k, 2, ACC) * (e",
    ),
    "no mean slope": ("y, ACC) + shift)", "y, ACC))"),
    "pull's sign": ("- pull * y", "+ pull * y"),
    "gradient of ignored voxels": ("tl.where(counts, d, 0), mask", "tl.where(here, d, 0), mask"),
    "gradient past the end": ("d, 0), mask=here", "d, 0), mask=n >= 0"),
}


@interpreted
@needs_triton
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_kernel_is_caught(mutant, tmp_path):
    broken = load_broken("segmentation", MUTANTS[mutant], tmp_path)

    def run_all():
        check_all(*problem((1, 3, 1100)), True, module=broken)
        check_all(*problem((1, 1, 40)), False, module=broken)
        logits, labels = problem((2, 3, 40))
        check_all(logits, labels.clamp(max=2), True, 1, module=broken)
        strays = torch.where(labels == IGNORE, torch.tensor([-1, 3])[:, None], labels)
        bad = torch.where(labels[:, None] == IGNORE, torch.nan, logits)
        check_all(bad, strays, True, module=broken, expected=(logits, labels))
        logits[:, :-1, ::5], logits[0, -1, 7] = -torch.inf, torch.inf
        check_all(logits, labels, True, module=broken)
        for softmax in (False, True):
            check_all(*problem((1, 3, 40), torch.float32), softmax, module=broken)

    with pytest.raises(Exception, match=CAUGHT):
        run_all()


@needs_triton
@outside
def test_in_the_interpreter(tmp_path):
    assert passed_in(start_interpreter(__file__, tmp_path)) >= len(MUTANTS) + 20


CASES = list(kernels("segmentation").AOT_VARIANTS)


@ahead
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", CASES)
def test_compiles_without_spills(name, arch, record_property, verifies):
    verifies(FORWARD if name.startswith("fwd") else BACKWARD, f"Triton compiled sm_{arch}")
    code = compiled(name, arch, "segmentation")
    record_property("resources", code.summary())
    assert code.registers <= 128
    assert code.spilled == 0
    assert code.shared <= 4096
    assert code.count(r"(atom|red)(\.\w+)*") == 0
    offsets = re.findall(r"tt\.addptr .*: .*, (?:tensor<[\dx]*x)?(i\d+)", code.ttir)
    assert set(offsets) == {"i64"}
    if "channels-last" not in name and "odd" not in name:
        assert code.widths("ld")[16] > 0
        assert name.startswith("fwd") or set(code.widths("st")) == {16}


@pytest.mark.gpu
@ahead
@pytest.mark.parametrize("softmax", [False, True])
def test_large_volumes_on_a_gpu(softmax):
    module = kernels("segmentation")
    for kind in (torch.uint8, torch.float32):
        for name, args in calls(*problem((2, 4, 91, 109, 91), kind), softmax):
            on_gpu = (a.cuda() if isinstance(a, torch.Tensor) else a for a in args)
            check(name, module.LAUNCHERS[name](*on_gpu).cpu(), args)

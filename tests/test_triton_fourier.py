"""The Triton kernels between Fourier transforms beyond their samples: see test_triton.py."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from triton_harness import (
    CAUGHT,
    TOLERANCE,
    ahead,
    check,
    compiled,
    has_triton,
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
from medkern.reference import philox as reference
from medkern.reference.fourier import KINDS

pytestmark = pytest.mark.usefixtures("own_triton_cache")


LOSS, LOSS_BACKWARD = "_spectrum_loss", "_spectrum_loss_backward"
SUMS, SUMS_BACKWARD = "_correlation_sums", "_correlation_sums_backward"
EVERYWHERE = (-10.0, 10.0)
# focal: exponents with a kernel of their own, and the others.
HOW = [(kind, 0.3 if kind == "phase" else 1.0, False) for kind in KINDS] + [
    ("focal", 0.0, False),
    ("focal", 2.0, True),
    ("focal", 1.5, False),
]


def check_losses(x, y, width, hows=HOW, peak=None, module=None):
    module = module or kernels("fourier")
    grad = normal(x.shape[0], 1, seed=3, dtype=x.dtype).expand(x.shape[:2])
    for how in hows:
        for name, args in (
            (LOSS, (x, y, peak, width, *how)),
            (LOSS_BACKWARD, (x, y, grad, peak, width, *how)),
        ):
            with naming(f"{name} {how}"):
                check(name, run(module.LAUNCHERS[name], args), args)


@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("height", "width", "dtype"),
    [
        (1, 1, torch.float64),
        (1, 2, torch.float32),
        (16, 62, torch.float32),
        (16, 30, torch.float64),
        (19, 53, torch.float32),
    ],
    ids=str,
)
def test_losses_around_programs(height, width, dtype):
    """One bin, programs that end with an image (512 bins, of float64 256) and that do not."""
    shape = (2, 1, height, width // 2 + 1, 2)
    x, y = normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    check_losses(x, y, width, HOW if height < 19 else HOW[:4])


@interpreted
@needs_triton
def test_losses_in_several_parts():
    """The bits of an image are the same in every batch."""
    x, y = normal(1, 2, 70, 70, 2, seed=1), normal(1, 2, 70, 70, 2, seed=2)
    launch, args = launcher_of(LOSS), (x, y, None, 139, *HOW[0])
    assert kernels("fourier").parts_of(70 * 70) == 2
    both = run(launch, args)
    check(LOSS, both, args)
    alone = run(launch, (x[:, 1:], y[:, 1:], *args[2:]))
    assert torch.equal(alone, both[:, 1:])


@interpreted
@needs_triton
def test_losses_of_strided_spectra():
    x, y = normal(2, 3, 7, 9, 2, seed=1), normal(3, 2, 9, 7, 2, seed=2)
    peak = normal(2, 3, 2, seed=4).square()[..., 0]
    args = (in_wider_rows(x), y.transpose(0, 1).transpose(2, 3), 16)
    check_losses(*args, HOW[::3], peak=peak)
    check_losses(x, y.transpose(0, 1).transpose(2, 3)[:1].expand(2, -1, -1, -1, -1), 17, HOW[1:3])


@interpreted
@needs_triton
def test_one_spectrum_is_read_once(patches_once):
    x = normal(1, 2, 6, 9, 2)
    check(LOSS, launcher_of(LOSS)(x, x, None, 16, *HOW[0]), (x, x, None, 16, *HOW[0]))


@interpreted
@needs_triton
@pytest.mark.parametrize("special", [0.0, float("nan"), float("inf")], ids=str)
def test_losses_of_special_values(special):
    x, y = normal(1, 2, 5, 6, 2, seed=1), normal(1, 2, 5, 6, 2, seed=2)
    x[0, 0, 1, 2] = y[0, 0, 1, 2] = x[0, 0, 3, 3] = special
    x[0, 1] = y[0, 1] = 0.0  # the largest is 0
    y[0, 0, 4, 4] = 0.0
    with np.errstate(all="ignore"):
        check_losses(x, y, 11)
        check_losses(x, y, 11, HOW[:1], peak=torch.tensor([[0.0, special]]))


@interpreted
@needs_triton
@pytest.mark.parametrize("words", [(0, 0, 0, 0, 0, 0), (2**32 - 1,) * 6, None], ids=str)
def test_philox(words, patches_once):
    """Bit for bit the reference's, and the published vectors for counters and keys of one bit."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(2**32, (6, 64), generator=generator)
    given = drawn if words is None else torch.tensor(words)[:, None].expand(6, 64).contiguous()
    out = torch.empty(4, 64, dtype=torch.int64)
    philox_kernel[(1,)](given, out)
    expected = reference.philox(tuple(given[:4]), tuple(given[4:]))
    assert torch.equal(out, torch.stack(expected))
    if words is not None:
        assert out[0, 0] == (0x6627E8D5 if words[0] == 0 else 0x408F276D)


if has_triton:
    import triton
    import triton.language as tl

    _philox = kernels("augment")._philox
    _normal_pair = kernels("augment")._normal_pair

    @triton.jit
    def normals_kernel(u, v, out):
        i = tl.arange(0, 128)
        words = (tl.load(u + i).to(tl.uint32), tl.load(v + i).to(tl.uint32))
        first, second = _normal_pair(words[0], words[1], out.dtype.element_ty)
        tl.store(out + i, first)
        tl.store(out + 128 + i, second)

    @triton.jit
    def philox_kernel(given, out):
        i = tl.arange(0, 64)
        a = tl.load(given + i).to(tl.uint32)
        b = tl.load(given + 64 + i).to(tl.uint32)
        c = tl.load(given + 128 + i).to(tl.uint32)
        d = tl.load(given + 192 + i).to(tl.uint32)
        key = tl.load(given + 256 + i).to(tl.uint32)
        other = tl.load(given + 320 + i).to(tl.uint32)
        a, b, c, d = _philox(a, b, c, d, key, other)
        tl.store(out + i, a.to(tl.int64))
        tl.store(out + 64 + i, b.to(tl.int64))
        tl.store(out + 128 + i, c.to(tl.int64))
        tl.store(out + 192 + i, d.to(tl.int64))


def check_jitter(height, width, dtype, module=None):
    module = module or kernels("augment")
    channels = 1 if height * width > 256 else 2
    x = 4 + normal(2, channels, height, width, seed=5, dtype=dtype)[2 - channels :]
    stream = torch.tensor([[2**62 + 5, 3], [-7, 2**40]])[2 - channels :]
    for per_channel, dc_clamp in ((True, False), (False, True)):
        args = (x, stream, 6.0, 50.0 if dc_clamp else 0.5, per_channel, dc_clamp)
        out = run(module.LAUNCHERS["_amplitude_jitter"], args)
        check("_amplitude_jitter", out, args)


@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("height", "width", "dtype"),
    [
        (1, 1, torch.float32),
        (2, 2, torch.float64),
        (5, 8, torch.float64),
        (130, 4, torch.float32),
        (3, 360, torch.float32),
        (64, 23, torch.float64),
    ],
    ids=str,
)
def test_jitter_around_programs(height, width, dtype):
    check_jitter(height, width, dtype)


@interpreted
@needs_triton
def test_normals_of_extreme_words(patches_once):
    """The smallest and the largest radii, and every quarter of a turn."""
    ends = [0, 1, 255, 256, 2**31, 2**32 - 512, 2**32 - 256, 2**32 - 1]
    turns = [k << 29 for k in range(8)] + [2**31 - 256, (7 << 29) - 256, 2**32 - 1]
    words = torch.cartesian_prod(torch.tensor(ends), torch.tensor(turns))
    u, v = torch.nn.functional.pad(words, (0, 0, 0, 128 - len(words))).T.contiguous()
    expected = torch.stack(reference.normals((u, v, u, v))[:2])
    for dtype in (torch.float32, torch.float64):
        out = torch.empty(2, 128, dtype=dtype)
        normals_kernel[(1,)](u, v, out)
        atol = TOLERANCE[dtype]
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=atol)


def check_sums(shape, size, *how, dtype=torch.float32, module=None):
    module = module or kernels("correlation")
    p, y = normal(*shape, seed=8, dtype=dtype), normal(*shape, seed=9, dtype=dtype)
    how = how or (1, *EVERYWHERE, 0.0)
    rows = how[0] + 1 if size else 1
    wide = torch.promote_types(dtype, torch.float32)
    grad = normal(*shape[:2], rows, 3, seed=10, dtype=wide)
    for name, args in ((SUMS, (p, y)), (SUMS_BACKWARD, (p, grad, y))):
        with naming(name):
            out = run(module.LAUNCHERS[name], (*args, size, *how))
            check(name, out, (*args, size, *how))


@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("elements", "dtype"),
    [
        (1, torch.float64),
        (512, torch.float32),
        (1500, torch.bfloat16),
        (8229, torch.float32),
    ],
    ids=str,
)
def test_sums_of_arrays_around_programs(elements, dtype):
    check_sums((1, 2 if elements < 1000 else 1, elements), [], dtype=dtype)


@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("size", "how"),
    [
        ([1], (1, *EVERYWHERE, 0.0)),
        ([300], (16, *EVERYWHERE, 0.0)),
        ([70, 70], (2, 0.2, 0.7, 0.1)),
        ([6, 7, 9], (40, *EVERYWHERE, 0.0)),
    ],
    ids=str,
)
def test_sums_of_spectra_around_programs(size, how):
    """Two programs of bins, one ring more than a program has, and many more."""
    shape = (1 if size[0] == 70 else 2, 1, *size[:-1], size[-1] // 2 + 1, 2)
    check_sums(shape, size, *how)
    if size == [300]:
        check_sums(shape, size, *how, dtype=torch.float64)


@interpreted
@needs_triton
def test_nan_stays_in_its_ring():
    p = torch.ones(2, 1, 8, 5, 2)
    p[1, 0, 0, 2] = float("nan")  # of radius 1 / 2
    with np.errstate(invalid="ignore"):
        out = run(launcher_of(SUMS), (p, p, [8, 8], 4, *EVERYWHERE, 0.0))
    assert out.isnan().nonzero().tolist() == [[1, 0, 2, i] for i in range(3)]


@interpreted
@needs_triton
def test_public_functions(patches_once):
    """With a backend of their own, forced, and differentiated."""
    x, y = normal(2, 2, 12, 10, seed=6), normal(2, 2, 12, 10, seed=7)
    losses = {
        "focal": lambda a, **how: mk.focal_frequency_loss(a, y, patch_factor=2, **how),
        "batch": lambda a, **how: mk.focal_frequency_loss(a, y, batch_matrix=True, **how),
        "amplitude": lambda a, **how: mk.fft_amplitude_loss(a, y, **how),
        "phase": lambda a, **how: mk.fft_phase_loss(a, y, floor=0.1, **how),
        "full": lambda a, **how: mk.spectral_correlation(a, y, **how),
        "binned": lambda a, **how: mk.spectral_correlation(a, y, "binned", bins=3, **how),
        "rings": lambda a, **how: mk.frequency_ring_correlation(a, y, 3, **how).sum(),
        "jitter": lambda a, **how: (mk.spectral_amplitude_jitter(a, seed=3, **how) * y).sum(),
    }
    for name, loss in losses.items():
        with naming(name):
            a, b = x.clone().requires_grad_(), x.double().requires_grad_()
            with mk.use_backend("triton"):
                ours = loss(a)
                (slope,) = torch.autograd.grad(ours, a)
            expected = loss(b, backend="reference")
            (wanted,) = torch.autograd.grad(expected, b)
            torch.testing.assert_close(ours.double(), expected, rtol=2e-6, atol=2e-5)
            torch.testing.assert_close(slope.double(), wanted, rtol=0, atol=2e-6)
            assert torch.equal(loss(x, backend="triton"), ours.detach())


MUTANTS = {
    "fourier": {
        "inner columns once": ("(2 * column == width.to(i.dtype)), 1, 2)", "(column > 0), 1, 2)"),
        "last column twice": ("(column == 0) | (2 * column == width.to(i.dtype))", "column == 0"),
        "tail unmasked": ("2 * start + j < 2 * many", "2 * start + j >= 0"),
        "tail counted": ("tl.where(i < many, value", "tl.where(i >= 0, 1 + value"),
        "images overlap": ("base = image * many * 2", "base = image * many"),
        "turned the other way": ("re = tl.where(none, 0, u[1]", "re = tl.where(none, 0, -u[1]"),
        "floor on one side": (
            "none = (a <= parameter) | (b <= parameter)",
            "none = a <= parameter",
        ),
        "power of a square": ("exponent * (0.5 * tl.log", "exponent * (1.0 * tl.log"),
        "log forgotten": ("tl.log(power.to(tl.float64) + 1)", "power.to(tl.float64)"),
        "half a slope": ("w = 2 * _weight(", "w = _weight("),
        "parts overlap": ("step = BLOCK * parts.to(INDEX)\n    exp", "step = BLOCK\n    exp"),
        "smallest": ("square > top", "square < top"),
    },
    "correlation": {
        "tail of arrays": ("a = _load(p, at, i < many", "a = _load(p, at, i >= 0"),
        "parts of arrays overlap": ("first = part * STEPS", "first = part * (STEPS // 2)"),
        "images overlap": ("at = image * many +", "at = image * (many - 1) +"),
        "unweighted": ("(re * re + im * im) * weight", "re * re + im * im"),
        "first rings again": ("tl.program_id(1) * RINGS", "0 * RINGS"),
        "corners left out": ("rings + ring)", "rings + ring % (rings - 1))"),
        "one square": ("weight * 2 * tl", "weight * tl"),
        "one square of arrays": ("of_p = 2 * tl", "of_p = tl"),
        "conjugate forgotten": ("(re * y_re + im * y_im)", "(re * y_re - im * y_im)"),
        "ring of the next bin": ("ring_of + i.to(tl.int64) // 2", "ring_of + (i + 1) // 2"),
    },
    "augment": {
        "a round less": ("tl.static_range(10)", "tl.static_range(9)"),
        "keys swapped": ("high_c ^ b ^ key,", "high_c ^ b ^ other,"),
        "lower row": ("upper = tl.minimum(row, height - row)", "upper = row"),
        "half of all variances": ("(2 * row == height), 1, 0.5)", "(2 * row == height), 0.5, 0.5)"),
        "noise of another channel": ("tl.where(shared != 0, 0,", "tl.where(shared == 0, 0,"),
        "last column inside": ("& (2 * column != width)", ""),
        "columns unmasked": ("(column < columns)", "(column >= 0)"),
        "mean not clamped": ("(mu < least), least", "(mu > 1e30), least"),
        "sine and cosine": ("tl.where(odd, s, c)", "tl.where(odd, c, s)"),
        "columns in order": (
            "column = group + j * groups\n        inner",
            "column = 4 * group + j\n        inner",
        ),
    },
}


@interpreted
@needs_triton
@pytest.mark.parametrize(
    ("module", "mutant"), [(m, name) for m, of in MUTANTS.items() for name in of], ids=str
)
def test_a_broken_kernel_is_caught(module, mutant, tmp_path):
    broken = load_broken(module, MUTANTS[module][mutant], tmp_path)

    def run_all():
        if module == "augment":
            check_jitter(6, 10, torch.float32, broken)
        elif "array" in mutant:
            check_sums((1, 1, 8229), [], module=broken)
        elif module == "correlation":
            check_sums((2, 1, 4, 19, 2), [4, 36], 18, *EVERYWHERE, 0.0, module=broken)
        elif mutant == "parts overlap":
            check_losses(*2 * (normal(1, 1, 70, 70, 2),), 139, HOW[:1], module=broken)
        else:
            x, y = normal(2, 1, 14, 11, 2, seed=1), normal(2, 1, 14, 11, 2, seed=2)
            check_losses(x, y, 20, module=broken)

    with pytest.raises(Exception, match=CAUGHT), np.errstate(all="ignore"):
        run_all()


@needs_triton
@outside
def test_in_the_interpreter(tmp_path):
    assert passed_in(start_interpreter(__file__, tmp_path)) >= 50


OP_OF = {
    ("fourier", "top"): LOSS,
    ("fourier", "sum"): LOSS,
    ("fourier", "slope"): LOSS_BACKWARD,
    ("correlation", "fwd"): SUMS,
    ("correlation", "bwd"): SUMS_BACKWARD,
    ("augment", "noise"): "_amplitude_jitter",
    ("augment", "edge"): "_amplitude_jitter",
}
# Bytes per access, where a bin or an odd number of elements rules out 16.
NARROW = {"slope-bwd-focal-odd": 8, "noise": 8, "fwd-rings": 8}
POINTERS = {"x", "y", "p", "peak", "grad", "stream", "ring_of", "weight_of", "partial", "out"}
COMPILED = [(m, name) for m in MUTANTS for name in kernels(m).AOT_VARIANTS]


@ahead
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(("module", "name"), COMPILED)
def test_compiles_without_spills(module, name, arch, record_property, verifies):
    verifies(OP_OF[module, name.split("-")[0]], f"Triton compiled sm_{arch}")
    code = compiled(name, arch, module)
    record_property("resources", code.summary())
    assert code.registers <= 128
    assert code.spilled == 0
    assert code.shared <= 256  # sums of the warps of a program
    assert code.count(r"(atom|red)(\.\w+)*") == 0
    assert code.count(r"(sqrt|div)\.(approx|full)(\.\w+)*") == 0
    offsets = re.findall(r"tt\.addptr .*: .*, (?:tensor<[\dx]*x)?(i\d+)", code.ttir)
    assert set(offsets) == {"i64"}
    assert max(code.widths("ld")) == NARROW.get(name, 16)
    assert name[:3] in ("top", "sum", "fwd") or set(code.widths("st")) == {NARROW.get(name, 16)}


@ahead
@pytest.mark.parametrize("module", MUTANTS)
def test_numbers_are_no_part_of_the_code(module):
    """A spectrum of another size does not compile anew."""
    made = kernels(module)
    for name, kernel in vars(made).items():
        if name.endswith("_kernel"):
            special = [p.name for p in kernel.params if not (p.do_not_specialize or p.is_constexpr)]
            assert set(special) <= POINTERS

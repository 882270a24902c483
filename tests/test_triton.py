"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled ahead of time.

Every op that has Triton kernels runs its samples here; families other than Haar and ConvLSTM have
files of their own for the rest. How the interpreter is watched: triton_harness.py.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from triton_harness import (
    CAUGHT,
    MODULES,
    OPS_AND_DTYPES,
    ahead,
    check,
    compiled,
    in_wider_rows,
    interpreted,
    kernels,
    launcher_of,
    load_broken,
    load_source,
    naming,
    needs_triton,
    outside,
    passed_in,
    run,
    source_of,
    start_interpreter,
)

from medkern._registry import OPS
from medkern.reference import haar as reference

pytestmark = pytest.mark.usefixtures("own_triton_cache")


def few_blocks(module: Any, patch: pytest.MonkeyPatch) -> None:
    """Cut the work into programs of 32 blocks, so that small images take several."""
    patch.setattr(module, "choose_config", lambda *_: module.Config(1, 1))


@interpreted
@needs_triton
@pytest.mark.parametrize(("name", "dtype"), OPS_AND_DTYPES)
def test_every_sample(name, dtype, monkeypatch, verifies):
    verifies(name, "Triton interpreted")
    module = kernels(MODULES[name])
    assert module.why_not(torch.empty(1, dtype=dtype)) is None
    if dtype is torch.float32 and "haar" in name:
        few_blocks(module, monkeypatch)
    # The halves differ in how they are loaded and stored alone: each takes every other sample.
    share = {torch.float16: slice(0, None, 2), torch.bfloat16: slice(1, None, 2)}
    samples = list(OPS[name].spec.samples(dtype))
    for sample in samples[share.get(dtype, slice(None))]:
        if sample.name == "cubic":
            continue  # 64 taps of 17 channels take seconds: test_triton_warp.py has fewer
        with naming(sample.name):
            check(name, run(launcher_of(name), sample.args), sample.args)


def images(*shapes: tuple[int, ...]) -> Iterator[tuple[Tensor, str]]:
    """Random images inside larger ones and with the channels last, under every pad that matters."""
    generator = torch.Generator().manual_seed(1)
    for shape in shapes:
        x = torch.randn(shape, generator=generator)
        pads = ["zero"]
        if any(n % 2 for n in shape[2:]):
            pads += ["symmetric", "periodic"]
            pads += ["reflect"] if min(shape[2:]) > 1 else []
        for form in (in_wider_rows(x), x.movedim(1, -1).contiguous().movedim(-1, 1)):
            for pad in pads:
                yield form, pad


def calls(x: Tensor, pad: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """A call of every floating-point op for an image of float32."""
    ndim, size = x.dim() - 2, list(x.shape[2:])
    bands = reference.haar_dwt(x, ndim, pad)
    yield "haar_dwt", (x, ndim, pad)
    yield "haar_idwt", (bands, size, pad)
    yield "haar_pool", (x, "iewa", ndim, pad)
    yield "_haar_pool_backward", (reference.haar_pool(x, "iewa", ndim, pad), size, "iewa", pad)
    yield "_haar_max_concat", (x, x.clone(), ndim, pad)
    pooled = reference.haar_max_concat(x, x, ndim, pad)
    yield "_haar_max_concat_backward", (pooled, x, ndim, pad)


@interpreted
@needs_triton
@pytest.mark.parametrize("width", [1, 31, 33, 257, 1000])
def test_widths(width):
    haar = kernels("haar")
    for x, pad in images((2, 2, width), (1, 2, 3, width)):
        for name, args in calls(x, pad):
            check(name, run(haar.LAUNCHERS[name], args), args)


@interpreted
@needs_triton
@pytest.mark.parametrize("size", [(3, 5, 7), (1, 3, 4), (5, 2, 1)], ids=str)
def test_volumes(size, monkeypatch):
    haar = kernels("haar")
    few_blocks(haar, monkeypatch)
    for x, pad in images((1, 3, *size)):
        for name, args in calls(x, pad):
            check(name, run(haar.LAUNCHERS[name], args), args)


@interpreted
@needs_triton
@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_ties_and_special_values(special):
    """The first maximum wins, or the last NaN; NaN and inf stay within their block."""
    haar = kernels("haar")
    generator = torch.Generator().manual_seed(2)
    for shape in ((1, 2, 5, 6), (1, 2, 3, 3, 4)):
        x = torch.randint(0, 2, shape, generator=generator).float()
        x[torch.rand(shape, generator=generator) < 0.1] = special
        for name, args in calls(x, "symmetric"):
            if name in ("haar_dwt", "_haar_max_concat"):
                with np.errstate(invalid="ignore"):
                    check(name, run(haar.LAUNCHERS[name], args), args)
        grad = torch.randn(1, 4, *((n + 1) // 2 for n in shape[2:]), generator=generator)
        name, args = "_haar_max_concat_backward", (grad, x, len(shape) - 2, "symmetric")
        check(name, run(haar.LAUNCHERS[name], args), args)


@interpreted
@needs_triton
@pytest.mark.parametrize("name", ["convlstm_gates", "_convlstm_gates_backward"])
def test_gates_across_programs(name):
    """Samples of several programs with a rest, planar and channels_last, in one summand and two."""
    generator = torch.Generator().manual_seed(4)
    for shape in ((2, 3, 19, 23), (2, 37, 5, 9)):
        gates = torch.randn(shape[0], 4 * shape[1], *shape[2:], generator=generator)
        for x in (gates, gates.contiguous(memory_format=torch.channels_last), in_wider_rows(gates)):
            state, wide = torch.randn(3, *shape, generator=generator), in_wider_rows(gates)
            peephole = torch.randn(1, 3, shape[1], 1, 1, generator=generator)
            peephole = peephole.expand(shape[0], 3, *shape[1:])
            for other, p in ((None, None), (wide, peephole)):
                args = (x, other, state[0], p)
                if "backward" in name:
                    args = (x, state[1], state[2], *args[1:])
                check(name, run(launcher_of(name), args), args)


def looped_step(x: Tensor, *, peephole: bool) -> tuple[Tensor, ...]:
    """What a step of a sequence works on, given gates [B, 4 C, *space]."""
    generator = torch.Generator().manual_seed(5)

    def like(channels: int) -> Tensor:
        form = torch.empty_like(x[:, :channels].contiguous(memory_format=memory_format(x)))
        return form.copy_(torch.randn(form.shape, generator=generator))

    hidden = x.shape[1] // 4
    weights = torch.randn(x.shape[0], 3, *x.shape[2:], generator=generator)[:, :, None]
    p = weights.expand(-1, 3, hidden, *x.shape[2:]) if peephole else None
    return (x, like(4 * hidden), p, *(like(hidden) for _ in range(4)))


def memory_format(x: Tensor) -> torch.memory_format:
    last = x.stride(1) == 1 and x.stride(-1) != 1
    return torch.channels_last if last else torch.contiguous_format


@interpreted
@needs_triton
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gates_of_a_sequence_write_in_place(form, peephole):
    """pre over gates_x, the new c over the old, total += h, and d_c over itself."""
    from medkern.ops import convlstm_steps as steps

    module = kernels("convlstm")
    x = torch.randn(2, 12, 17, 11).contiguous(memory_format=form)
    for missing in (False, True):
        results = []
        for forward, backward in (
            (steps.step_, steps.step_backward_),
            (module.step_, module.step_backward_),
        ):
            gates, other, p, h, c, total, grad = looped_step(x.clone(), peephole=peephole)
            pre, old = (None, None) if missing else (gates, c)
            forward(gates, other, old, p, h, c, pre, None if missing else total)
            d_c, d_gates, again = grad.clone(), torch.empty_like(gates), torch.empty_like(h)
            backward(gates, h, None if missing else grad, old, p, d_c, d_gates, again)
            results.append((gates, h, c, total, d_c, d_gates, again))
        for expected, actual in zip(*results, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@interpreted
@needs_triton
def test_gates_saturate_and_keep_small_numbers():
    inf, nan = torch.inf, torch.nan
    gates = torch.tensor([[inf, -inf, 0.0], [-inf, inf, nan], [inf, inf, 0.0], [inf, -inf, 0.0]])
    with np.errstate(all="ignore"):
        h, c = launcher_of("convlstm_gates")(gates[None], None, torch.full((1, 1, 3), 2.0), None)
    assert c[0, 0, :2].tolist() == [1.0, 2.0]
    torch.testing.assert_close(h[0, 0, :2], torch.tensor([1.0, 2.0]).tanh())
    assert torch.stack([h, c])[..., 2].isnan().all()
    x = torch.cat([torch.logspace(-8, 1, 200), -torch.logspace(-8, 1, 200)]).double()
    zeros, open_gate = torch.zeros(400), torch.full((400,), 100.0)
    gates = torch.stack([open_gate, -open_gate, zeros, x.float()])[None]
    with np.errstate(over="ignore"):
        _, c = launcher_of("convlstm_gates")(gates, None, torch.zeros(1, 1, 400), None)
    torch.testing.assert_close(c.flatten().double(), x.float().double().tanh(), rtol=4e-7, atol=0)


GATE_MUTANTS = {
    "gates swapped": ("a[0] + p[0] * old", "a[1] + p[0] * old"),
    "forget term missing in dc": ("d_new * f + (d_i * p[0]", "d_new + (d_i * p[0]"),
    "tail unmasked": ("channel, voxel, n < state", "channel, voxel, n >= 0"),
    "channels_last gate stride": ("gate = n + 3 * tl", "gate = n + 4 * tl"),
    "programs overlap": ("% tiles * BLOCK +", "% tiles * (BLOCK // 2) +"),
}


@interpreted
@needs_triton
@pytest.mark.parametrize("mutant", GATE_MUTANTS)
def test_broken_gates_are_caught(mutant, tmp_path):
    broken = load_broken("convlstm", GATE_MUTANTS[mutant], tmp_path)

    def run_all():
        for name in ("convlstm_gates", "_convlstm_gates_backward"):
            for x in (torch.randn(1, 12, 9, 33), torch.randn(2, 9, 33, 12).movedim(-1, 1)):
                state = torch.randn(x.shape[0], 3, 9, 33)
                args = (x, state, state, None, state, None)
                args = args if "backward" in name else (x, None, state, None)
                check(name, run(broken.LAUNCHERS[name], args), args)

    with pytest.raises(Exception, match=CAUGHT):
        run_all()


# Part of the kernels' source, and what a slip of the pen might have made of it.
MUTANTS = {
    "rows unmasked": ("here = (m < rows, k < lanes)", "here = (m >= 0, k < lanes)"),
    "lanes unmasked": ("here = (m < rows, k < lanes)", "here = (m < rows, k >= 0)"),
    "lanes off by one": ("here = (m < rows, k < lanes)", "here = (m < rows, k <= lanes)"),
    "load past the row": ("readable = i < sizes[2]", "readable = i <= sizes[2]"),
    "zero padding read": ("readable = readable & stored", "readable = readable"),
    "store past the row": ("mask=here[0] & (i < sizes[2]) & stored", "mask=here[0] & stored"),
    "padding stored": ("mask=here[0] & (i < sizes[2]) & stored", "mask=here[0] & (i < sizes[2])"),
    "pixel padding stored": (
        "even, mask=here[0] & here[1] & stored",
        "even, mask=here[0] & here[1]",
    ),
    "outputs unmasked": ("o * band), mask=here[0] & here[1]", "o * band), mask=here[0]"),
    "copies forgotten": ("if SET & ODD == SET:", "if SET & ODD == SET and SET < 2:"),
    "copies of the wrong sample": ('SET if PAD == "reflect" else 0', "0"),
    "copies everywhere": ("copied_lanes = copied_lanes & copied", "copied_lanes = copied_lanes"),
    "wrong band": (
        "out = out + (v[q ^ (1 << axis)] - v[q],)",
        "out = out + (v[q ^ (1 << axis)] + v[q],)",
    ),
    "last maximum": ("take = (key > best) | (key != key)", "take = (key >= best) | (key != key)"),
    "programs overlap": ("lane0 = program % tiles * L", "lane0 = program % tiles * (L // 2)"),
}


@interpreted
@needs_triton
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_kernel_is_caught(mutant, tmp_path, monkeypatch):
    broken = load_broken("haar", MUTANTS[mutant], tmp_path)
    few_blocks(broken, monkeypatch)
    x = torch.randint(0, 3, (1, 3, 5, 37), generator=torch.Generator().manual_seed(3)).float()
    pixels = x[..., :5].contiguous(memory_format=torch.channels_last)

    def run_all():
        for image, pad in itertools.product((x, pixels), ("zero", "symmetric", "reflect")):
            for name, args in calls(image, pad):
                check(name, run(broken.LAUNCHERS[name], args), args)

    with pytest.raises(Exception, match=CAUGHT):
        run_all()


@needs_triton
@outside
def test_in_the_interpreter(tmp_path, merge_evidence):
    # Two processes for two cores.
    adjoint = "backward or idwt or unlift or broken or gates"
    runs = [
        start_interpreter(__file__, tmp_path, "-k", chosen, "--verification", f"{part}.json")
        for part, chosen in enumerate((adjoint, f"not ({adjoint})"))
    ]
    for part, process in enumerate(runs):
        assert passed_in(process) >= 20
        merge_evidence(tmp_path / f"{part}.json")


VARIANTS = list(kernels("haar").AOT_VARIANTS)
GATES = list(kernels("convlstm").AOT_VARIANTS)


def op_of(variant: str) -> str:
    """The op whose kernel this variant is an instance of, for example "bwd-dwt-2d"."""
    direction, mode = variant.split("-")[:2]
    forward, backward = {
        "dwt": ("haar_dwt", "haar_idwt"),
        "lift": ("_haar_lift", "_haar_unlift"),
        "max": ("_haar_max_concat", "_haar_max_concat_backward"),
    }.get(mode, ("haar_pool", "_haar_pool_backward"))
    return forward if direction == "fwd" else backward


@ahead
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", VARIANTS)
def test_compiles_without_spills(name, arch, record_property, verifies):
    verifies(op_of(name), f"Triton compiled sm_{arch}")
    code = compiled(name, arch, "haar")
    record_property("resources", code.summary())
    # 2 blocks of 128 threads at the least. Triton 3.6 wants a few more for float64 in 3-D.
    older = kernels("haar").triton.__version__ < "3.8" and "double" in name
    assert code.registers <= (144 if older else 128)
    assert code.spilled == 0 or older
    assert code.shared <= 4096
    assert code.count(r"(atom|red)(\.\w+)*") == 0


@ahead
@pytest.mark.parametrize("name", VARIANTS)
def test_accesses_are_vectors(name):
    """16 bytes per thread where extents and strides allow it; "tail" has rows of 500 and 250."""
    case = kernels("haar").AOT_VARIANTS[name]
    code = compiled(name, 90, "haar")
    found = {*code.widths("ld"), *code.widths("st")}
    if "tail" in name:
        assert found == {8, 16}
    elif "odd" in name and not case.channels_last:
        assert found <= {4, 8, 16}  # rows of 91 samples start anywhere
    elif "3d" in name and (case.dtype.itemsize == 2 or "odd" in name):
        assert found <= {8, 16}  # fewer blocks per thread, for the registers' sake
    else:
        assert found == {16}


@ahead
@pytest.mark.parametrize("name", VARIANTS)
def test_addresses_are_64_bits(name):
    offsets = re.findall(
        r"tt\.addptr .*: .*, (?:tensor<[\dx]*x)?(i\d+)", compiled(name, 90, "haar").ttir
    )
    assert offsets
    assert set(offsets) == {"i64"}


@ahead
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", GATES)
def test_gates_compile_without_spills(name, arch, record_property, verifies):
    ops = {"fwd": "convlstm_gates", "bwd": "_convlstm_gates_backward"}
    verifies(ops[name[:3]], f"Triton compiled sm_{arch}")
    code = compiled(name, arch, "convlstm")
    record_property("resources", code.summary())
    assert code.registers <= 128
    assert code.spilled == code.shared == 0
    assert code.count(r"(atom|red)(\.\w+)*") == 0
    found = {*code.widths("ld"), *code.widths("st")}
    if "odd" in name:  # samples of 7 x 33 x 35 elements start anywhere
        assert found == {4}
    else:
        narrow = {8} if code.widths("ld").keys() & {8} else set()
        assert found - ({4} if "peephole" in name else set()) == {16} | narrow
    offsets = re.findall(r"tt\.addptr .*: .*, (?:tensor<[\dx]*x)?(i\d+)", code.ttir)
    assert set(offsets) == {"i64"}


@ahead
def test_stride_1_is_the_only_special_case():
    """Other numbers are no part of the machine code: an image of another size does not compile."""
    haar = kernels("haar")
    plain = [p.name for p in haar.haar_fwd_kernel.params if not p.is_constexpr][3:]
    special = [p.name for p in haar.haar_fwd_kernel.params if not p.do_not_specialize]
    assert [name for name in plain if name in special] == ["x_lane", "keys_lane", "y_lane"]


def test_without_triton(tmp_path, monkeypatch):
    """The module can be imported, says what is missing, and raises when used."""
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setitem(sys.modules, "triton.language", None)
    kernels("haar")
    monkeypatch.delitem(sys.modules, "medkern.kernels._runtime")
    monkeypatch.delattr(sys.modules["medkern.kernels"], "_runtime")
    haar = load_source(source_of("haar"), tmp_path, "haar_without_triton")
    assert "pip install 'medkern[gpu]'" in haar.why_not()
    with pytest.raises(ImportError, match="Triton cannot be imported"):
        haar.haar_dwt(torch.ones(1, 1, 2, 2), 2, "zero")


@ahead
def test_why_not():
    haar = kernels("haar")
    assert "on CUDA devices, not on cpu" in haar.why_not(torch.ones(2))
    assert "no complex64" in haar.why_not(torch.ones(2, dtype=torch.complex64))
    if not torch.cuda.is_available():
        assert haar.why_not() == "there is no CUDA device"
    with pytest.raises(RuntimeError, match="not on cpu"):
        haar.haar_dwt(torch.ones(1, 1, 2, 2), 2, "zero")


def test_every_op_has_a_launcher():
    assert list(kernels("haar").LAUNCHERS) == [name for name in OPS if "haar" in name]
    for name, op in OPS.items():
        if name in MODULES:
            function = op.spec.triton.split(":")[1]
            assert getattr(kernels(MODULES[name]), function) is launcher_of(name)


@pytest.mark.gpu
@ahead
@pytest.mark.parametrize(("name", "dtype"), OPS_AND_DTYPES)
def test_every_sample_on_a_gpu(name, dtype):
    for sample in OPS[name].spec.samples(dtype):
        on_gpu = (a.cuda() if isinstance(a, Tensor) else a for a in sample.args)
        check(name, pytree.tree_map(Tensor.cpu, launcher_of(name)(*on_gpu)), sample.args)


@pytest.mark.gpu
@ahead
@pytest.mark.parametrize("shape", [(2, 2, 1000), (3, 5, 181, 217), (1, 3, 91, 109, 91)], ids=str)
def test_large_images_on_a_gpu(shape):
    haar = kernels("haar")
    for x, pad in images(shape):
        for name, args in calls(x, pad):
            on_gpu = (a.cuda() if isinstance(a, Tensor) else a for a in args)
            check(name, haar.LAUNCHERS[name](*on_gpu).cpu(), args)

"""The committed account of the compiled CUDA kernels: every op has kernels, and none spills."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkern._registry import OPS

BUDGET = json.loads((Path(__file__).parent.parent / "docs/gpu-budget.json").read_text())
REGISTERS_OF_A_THREAD = 255
COMPILED = {name: op for name, op in OPS.items() if op.spec.cuda}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("op", COMPILED.values(), ids=list(COMPILED))
def test_op_has_compiled_kernels(op, arch, verifies):
    verifies(op.spec.name, f"CUDA compiled {arch}")
    # Named for the family, or in a family of several formulas for the op's own.
    family = op.spec.reference.__module__.rsplit(".", 1)[1]
    formula = op.spec.reference.__name__.removesuffix("_backward")
    names = tuple(f"{name}_" for name in (family, formula))
    kernels = {k: v[arch] for k, v in BUDGET["kernels"].items() if k.startswith(names)}
    assert any("_fwd_" in k for k in kernels)
    for usage in kernels.values():
        assert usage["most_local"] == 0
        assert 0 < usage["most_registers"] < REGISTERS_OF_A_THREAD
        assert usage["least_occupancy"] > 0


def test_bounds_are_arithmetic():
    for bound in BUDGET["bounds"].values():
        by_device = bound["bound_samples_per_second"]
        assert by_device["H100 SXM"] > by_device["A100 SXM 80 GB"] > 0
        assert by_device["H100 SXM"] <= 3.35e12 / bound["bytes_per_sample"]

"""What all Triton kernels share: Triton itself, where there is one, and why they cannot run."""

# Triton has no stubs.
# mypy: disable-error-code="assignment, import-untyped, import-not-found"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError as error:  # kernels can be imported everywhere, and say why they cannot run
    triton = tl = None
    missing: str | None = f"Triton cannot be imported ({error}): pip install 'medkern[gpu]'"
else:
    missing = None

# As Triton calls them.
NAMES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}


def jit(**options: Any) -> Callable[[Any], Any]:
    return triton.jit(**options) if triton else lambda function: function


def constant(function: Any) -> Any:
    """A function of constants that the compiler evaluates; up to Triton 3.6 `jit` does not."""
    return triton.constexpr_function(function) if triton else function


INTERPRETED = triton is not None and bool(triton.knobs.runtime.interpret)


def why_not(*args: object) -> str | None:
    """Why Triton kernels cannot run here, or not on the tensors among `args`; None where they can.

    Kernels imported under TRITON_INTERPRET=1 run on the CPU, for tests.
    """
    if missing is not None:
        return missing
    tensors = [a for a in args if isinstance(a, Tensor)]
    for t in tensors:
        if t.dtype not in NAMES:
            return f"the Triton kernels take no {str(t.dtype).removeprefix('torch.')}"
    if INTERPRETED:
        return None
    for t in tensors:
        if t.device.type != "cuda":
            return f"Triton kernels run on CUDA devices, not on {t.device.type}"
    return None if torch.cuda.is_available() else "there is no CUDA device"


def check(module: str, *tensors: Tensor | None) -> None:
    """Raise where `why_not` has a reason."""
    reason = why_not(*tensors)
    if reason is not None:
        raise (ImportError if missing else RuntimeError)(f"medkern.kernels.{module}: {reason}")

"""Roots and quotients rounded correctly: Triton's own are approximations in float32."""

# Triton has no stubs, and infers the types of device functions itself.
# mypy: allow-untyped-defs

from __future__ import annotations

from medkern.kernels._runtime import jit, tl


@jit()
def root(x):
    return tl.sqrt_rn(x) if x.dtype == tl.float32 else tl.sqrt(x)


@jit()
def quotient(a, b):
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b

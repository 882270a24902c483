"""Device functions that several kernels share."""

# Triton has no stubs, and infers the types of device functions itself.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from __future__ import annotations

from medkern.kernels._runtime import jit, tl


@jit()
def root(x):
    """Rounded correctly; Triton's own is an approximation in float32."""
    return tl.sqrt_rn(x) if x.dtype == tl.float32 else tl.sqrt(x)


@jit()
def quotient(a, b):
    """Rounded correctly; Triton's own is an approximation in float32."""
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@jit()
def multiple(n, INDEX: tl.constexpr, ALIGN: tl.constexpr):
    """n, which ALIGN divides: said so that the compiler sees it, which allows wider accesses."""
    return n.to(INDEX) // ALIGN * ALIGN

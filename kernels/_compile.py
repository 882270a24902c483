"""Compile Triton kernels ahead of time, without a GPU, and read what they cost.

    for name, variant in medkern.kernels.haar.AOT_VARIANTS.items():
        print(name, compile_ahead(variant, 90).summary())

Needs Triton (which brings NVIDIA's ptxas and cuobjdump), no driver and no device, in a process
where TRITON_INTERPRET is not set.
"""

# Triton has no stubs.
# mypy: disable-error-code="import-untyped, import-not-found"

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90)


@dataclass(frozen=True)
class Variant:
    """One specialisation of a kernel.

    kernel: the @triton.jit function. signature: the type of each argument that is no constexpr,
    for example "*fp32" or "i32". constexprs: the value of every other one, also of arguments that
    Triton specialises by itself (stride 1). aligned: pointers and numbers divisible by 16.
    options: num_warps and the like.
    """

    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    aligned: tuple[str, ...] = ()
    options: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """A kernel's machine code and what it needs.

    registers: per thread. spilled: bytes of local memory per thread; Triton has no local arrays, so
    all of it is spilled registers. shared: bytes of shared memory per block.
    """

    arch: int
    registers: int
    spilled: int
    shared: int
    warps: int
    ttir: str
    ptx: str
    cubin: bytes

    def count(self, instruction: str) -> int:
        """How often a PTX instruction, given as a regular expression, occurs."""
        return len(re.findall(rf"\b(?:{instruction})(?![\w.])", self.ptx))

    def widths(self, access: str) -> dict[int, int]:
        """How many global accesses ("ld" or "st") there are, by bytes per thread."""
        found: dict[int, int] = {}
        pattern = rf"\b{access}\.global(?:\.\w+)*?(?:\.v(\d))?\.[bsuf](\d+)\b"
        for vector, bits in re.findall(pattern, self.ptx):
            width = int(vector or 1) * int(bits) // 8
            found[width] = found.get(width, 0) + 1
        return found

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's 64 warps that registers and shared memory let run."""
        per_warp = -(-self.registers * 32 // 256) * 256
        blocks = min(65536 // (per_warp * self.warps), 32)
        if self.shared:
            blocks = min(blocks, {80: 164, 90: 228}[self.arch] * 1024 // (self.shared + 1024))
        return min(blocks * self.warps, 64) / 64

    def summary(self) -> str:
        return (
            f"sm_{self.arch}: {self.registers} registers, {self.spilled} B spilled, "
            f"{self.shared} B shared, occupancy {self.occupancy:.2f}, "
            f"loads {_widths(self.widths('ld'))}, stores {_widths(self.widths('st'))}"
        )


def _widths(widths: dict[int, int]) -> str:
    return " + ".join(f"{n}x{width}B" for width, n in sorted(widths.items())) or "none"


def compile_ahead(variant: Variant, arch: int) -> Compiled:
    """Compile to sm_<arch>."""
    import triton
    from triton.backends.compiler import GPUTarget

    kernel = variant.kernel
    if not isinstance(kernel, triton.JITFunction):
        raise RuntimeError("compile_ahead needs a process without TRITON_INTERPRET")
    given = {**variant.signature, **dict.fromkeys(variant.constexprs, "constexpr")}
    source = triton.compiler.ASTSource(
        fn=kernel,
        signature={name: given[name] for name in kernel.arg_names},
        constexprs=dict(variant.constexprs),
        attrs={
            (kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned
        },
    )
    options = dict(variant.options)
    code = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx, cubin = code.asm["ptx"], code.asm["cubin"]
    return Compiled(
        arch=arch,
        shared=code.metadata.shared,
        warps=code.metadata.num_warps,
        ttir=code.asm["ttir"],
        ptx=ptx,
        cubin=cubin,
        **_usage(cubin),
    )


def _tool(name: str) -> str:
    import triton

    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def _usage(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [_tool("cuobjdump"), "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if found is None:
        raise RuntimeError(f"cuobjdump said nothing of registers:\n{text}")
    return {"registers": int(found[1]), "spilled": int(found[2])}

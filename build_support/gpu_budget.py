"""What the CUDA kernels cost in registers, memory and occupancy, read from their machine code.

    python build_support/gpu_budget.py build/cuda/_native_cuda.so           # writes the budget
    python build_support/gpu_budget.py build/cuda/_native_cuda.so --check   # fails when it is left

The budget, docs/gpu-budget.json, holds per kernel and architecture the worst of its instances. The
bounds in it are arithmetic: bytes moved over published peak bandwidth. Nobody timed anything.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from pathlib import Path
from typing import Any

BUDGET = Path(__file__).parent.parent / "docs/gpu-budget.json"
THREADS = 256  # per block, in all launches of csrc/cuda
# Per multiprocessor, the same for sm_80 and sm_90 (CUDA C++ programming guide, table 27).
REGISTERS, WARPS, SHARED = 65536, 64, {"sm_80": 164 * 1024, "sm_90": 228 * 1024}
# Published peaks: bytes/s, float32 FLOP/s outside tensor cores.
DEVICES = {"A100 SXM 80 GB": (2.039e12, 19.5e12), "H100 SXM": (3.35e12, 66.9e12)}
# What a map must move and compute per input sample: bytes, floating-point operations.
MAPS = {
    "haar_dwt 2-D float32": (8, 3),
    "haar_dwt 3-D float32": (8, 4),
    "haar_dwt 2-D bfloat16": (4, 3),
    "haar_pool iewa 2-D float32": (5, 1.25),
    "haar_pool iewa 2-D bfloat16": (2.5, 1.25),
    "haar_pool max_concat 2-D float32": (6, 2),
}


def cuobjdump() -> str:
    packaged = Path(sysconfig.get_paths()["purelib"]) / "nvidia/cu13/bin/cuobjdump"
    found = shutil.which("cuobjdump") or (str(packaged) if packaged.exists() else None)
    if found is None:
        sys.exit("gpu_budget: cuobjdump is needed; pip install nvidia-cuda-cuobjdump")
    return found


def instances(library: Path) -> list[tuple[str, str, dict[str, int]]]:
    """(kernel, architecture, resources) of every instance in the machine code."""
    text = subprocess.run(
        [cuobjdump(), "-res-usage", str(library)], check=True, capture_output=True, text=True
    ).stdout
    rows, arch, mangled = [], "", ""
    for line in text.splitlines():
        if match := re.match(r"arch = (sm_\d+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\w+):", line):
            mangled = match[1]
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            names = ("registers", "stack", "shared", "local")
            usage = dict(zip(names, map(int, match.groups()), strict=True))
            rows.append((kernel_name(mangled), arch, usage))
    return rows


def kernel_name(mangled: str) -> str:
    match = re.search(r"\d+([a-z]+_\w*?_kernel)", mangled)
    return match[1] if match else mangled


def occupancy(registers: int, shared: int, arch: str) -> float:
    """Share of a multiprocessor's warps that can be resident, at THREADS threads a block."""
    warps_per_block = THREADS // 32
    allocated = -(-registers // 8) * 8 * 32  # registers of a warp, in units of 256
    by_registers = REGISTERS // allocated // warps_per_block
    by_shared = SHARED[arch] // (shared + 1024) if shared else WARPS
    return min(by_registers, by_shared, WARPS // warps_per_block) * warps_per_block / WARPS


def summarise(rows: list[tuple[str, str, dict[str, int]]]) -> dict[str, Any]:
    groups: dict[str, dict[str, list[dict[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for kernel, arch, usage in rows:
        groups[kernel][arch].append(usage)
    return {
        kernel: {
            arch: {
                "instances": len(usages),
                **{f"most_{key}": max(u[key] for u in usages) for key in usages[0]},
                "least_occupancy": min(
                    occupancy(u["registers"], u["shared"], arch) for u in usages
                ),
            }
            for arch, usages in sorted(archs.items())
        }
        for kernel, archs in sorted(groups.items())
    }


def bounds() -> dict[str, Any]:
    """Samples per second that no implementation on the device can exceed."""
    return {
        name: {
            "bytes_per_sample": moved,
            "flops_per_sample": flops,
            "bound_samples_per_second": {
                device: min(bandwidth / moved, rate / flops)
                for device, (bandwidth, rate) in DEVICES.items()
            },
        }
        for name, (moved, flops) in MAPS.items()
    }


def excesses(found: dict[str, Any], budget: dict[str, Any]) -> list[str]:
    """Where a kernel needs more than the budget grants, or is not in it."""
    complaints = []
    for kernel, archs in found.items():
        for arch, usage in archs.items():
            granted = budget.get(kernel, {}).get(arch)
            if granted is None:
                complaints.append(f"{kernel} on {arch} is not in the budget")
                continue
            complaints += [
                f"{kernel} on {arch}: {key} {usage[key]}, budget {granted[key]}"
                for key in ("most_registers", "most_stack", "most_shared", "most_local")
                if usage[key] > granted[key]
            ]
    return complaints


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    kernels = summarise(instances(options.library))
    if not kernels:
        sys.exit(f"gpu_budget: no kernels in {options.library}")
    if options.check:
        complaints = excesses(kernels, json.loads(BUDGET.read_text())["kernels"])
        print("\n".join(complaints) or f"{len(kernels)} kernels within their budget")
        return int(bool(complaints))
    document = {"threads_per_block": THREADS, "kernels": kernels, "bounds": bounds()}
    BUDGET.write_text(json.dumps(document, indent=1) + "\n")
    print(f"wrote {BUDGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

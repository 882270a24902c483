"""What this machine is, and what its device in use (a CPU with so many threads) does at best.

The limits are measured, not looked up, because a fraction of a data sheet says little about a
shared virtual machine.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from medkern.benchmarks.device import Device

HEAP_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
PACKAGES = ("medkern", "torch", "numpy", "triton", "scipy")


@dataclass(frozen=True)
class Machine:
    """Facts, and measured limits of the device; all rates per second."""

    cpu: str
    cores: int
    isa: str
    l3_bytes: int
    system: str
    threads: int
    heap: str
    omp_wait_policy: str
    load_average: float
    compiler: str
    versions: dict[str, str]
    copy_bytes: float
    read_bytes: float
    sgemm_flops: float
    device: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect(device: Device, *, quick: bool = False) -> Machine:
    """Describe the machine and measure the limits of the device (with torch's present threads)."""
    repeats = 5 if quick else 15
    l3 = l3_bytes()
    nbytes = device.working_set(l3)
    return Machine(
        cpu=cpu_model(),
        cores=available_cores(),
        isa=torch.backends.cpu.get_cpu_capability(),
        l3_bytes=l3,
        system=f"{platform.system()} {platform.release()}",
        threads=torch.get_num_threads(),
        heap="kept" if heap_is_kept() else "default",
        omp_wait_policy=os.environ.get("OMP_WAIT_POLICY", "default"),
        load_average=round(os.getloadavg()[0], 2),
        compiler=compiler(),
        versions=versions(),
        copy_bytes=copy_bandwidth(device, nbytes, repeats),
        read_bytes=read_bandwidth(device, nbytes, repeats),
        sgemm_flops=sgemm_rate(device, repeats),
        device=device.facts(),
    )


def heap_is_kept() -> bool:
    """Whether this process was started with the heap that keeps freed memory."""
    return all(os.environ.get(key) == value for key, value in HEAP_KEPT.items())


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def l3_bytes() -> int:
    """Size of the last-level cache of CPU 0, or 0 where the kernel does not tell."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]])
    return max(sizes, default=0)


def compiler() -> str:
    """First line of the C++ compiler that torch.compile would call."""
    command = os.environ.get("CXX") or "c++"
    if shutil.which(command) is None:
        return "none"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def version_of(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    found = {name: version for name in PACKAGES if (version := version_of(name))}
    return {"python": platform.python_version(), **found}


def best_seconds(device: Device, call: Callable[[], object], repeats: int) -> float:
    """Shortest of `repeats` calls after one warm call: a limit is what once was reached."""
    call()
    return min(device.seconds(call, 1) for _ in range(repeats))


def copy_bandwidth(device: Device, nbytes: int, repeats: int) -> float:
    """Bytes read plus bytes written per second; on a CPU the better of copy_ and plain memmove."""
    source = torch.ones(nbytes // 4, device=device.target)
    target = torch.zeros(nbytes // 4, device=device.target)
    seconds = best_seconds(device, lambda: target.copy_(source), repeats)
    if device.kind == "cpu":
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            slices = best_seconds(device, lambda: memmove(pool, target, source), repeats)
        seconds = min(seconds, slices)
    return 2 * nbytes / seconds


def memmove(pool: ThreadPoolExecutor, target: torch.Tensor, source: torch.Tensor) -> None:
    """libc's memmove on one slice per thread: it stores past the cache, torch's copy may not."""
    total = source.numel() * source.element_size()
    share = -(-total // torch.get_num_threads())
    starts = range(0, total, share)
    jobs = [
        pool.submit(
            ctypes.memmove,
            target.data_ptr() + start,
            source.data_ptr() + start,
            min(share, total - start),
        )
        for start in starts
    ]
    for job in jobs:
        job.result()


def read_bandwidth(device: Device, nbytes: int, repeats: int) -> float:
    """Bytes per second of the faster of two plain reductions."""
    source = torch.ones(nbytes // 4, device=device.target)
    return nbytes / min(best_seconds(device, call, repeats) for call in (source.sum, source.amax))


def sgemm_rate(device: Device, repeats: int) -> float:
    """float32 operations per second of a large matrix product of random numbers.

    Products of ones switch fewer transistors, and a GPU then runs at a higher clock.
    """
    n = device.matrix_size
    a, b, out = (torch.randn(n, n, device=device.target) for _ in range(3))
    return 2 * n**3 / best_seconds(device, lambda: torch.mm(a, b, out=out), repeats)

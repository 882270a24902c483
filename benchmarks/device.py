"""The device a run is about: where tensors live, and how its time and memory are measured.

Everything else in this folder is the same for a CPU and for a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

from medkern.benchmarks.memory import LiveTensors
from medkern.benchmarks.registry import Kind

WARM_CALLS = 3


class NoDevice(RuntimeError):
    """A device was asked for that this process cannot use."""


def choose(kind: Kind) -> Device:
    """The device of that kind; on a GPU the settings that make float32 peers exact and fast."""
    if kind == "cpu":
        return Device()
    if not torch.cuda.is_available():
        way_out = f"torch {torch.__version__} has no CUDA, install a build that has"
        if torch.version.cuda:
            way_out = f"torch {torch.__version__} finds no GPU, see what nvidia-smi says"
        raise NoDevice(f"--device must be one that this process can use, got 'cuda'; {way_out}")
    # TF32 convolutions miss a float32 tolerance by far, and would be refused rather than timed.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return Cuda(torch.device("cuda", torch.cuda.current_device()))


class Device:
    """The CPU: wall time; memory as `LiveTensors` counts it.

    `backends` are those of ours that are forced and timed one by one; where there is none, our op
    runs on what medkern chooses by itself.
    """

    kind: Kind = "cpu"
    target = torch.device("cpu")
    backends: tuple[str, ...] = ()
    matrix_size = 1536

    def place(self, value: Any) -> Any:
        """Tensors on this device, in the same memory format; other values as they are."""
        return value.to(self.target) if isinstance(value, torch.Tensor) else value

    def warm(self, call: Callable[[], object]) -> None:
        """Nothing: the check of the answer was the warm call."""

    def seconds(self, call: Callable[[], object], repeats: int) -> float:
        """Time of `repeats` calls, one after the other."""
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - start

    def peak_bytes(self, call: Callable[[], object]) -> int | None:
        """The most memory a call has in use beyond what was in use before it: tensors alone."""
        with LiveTensors() as live:
            call()
        return live.peak

    def working_set(self, cache: int) -> int:
        """Bytes per array for the bandwidths: four caches, within what a small machine spares."""
        return min(max(4 * cache, 128 << 20), 512 << 20)

    def facts(self) -> dict[str, Any]:
        """What a reader must know of the device, beyond what is known of the machine."""
        return {}


class Cuda(Device):
    """A GPU: events on the current stream, each call with a cold L2 cache."""

    kind: Kind = "cuda"
    backends = ("native", "triton")
    matrix_size = 8192

    def __init__(self, target: torch.device) -> None:
        self.target = target
        self.properties = torch.cuda.get_device_properties(target)
        # Twice the cache: a write of just its size can leave old lines where it is not LRU.
        self.flushed = torch.empty(
            2 * self.properties.L2_cache_size, dtype=torch.uint8, device=target
        )
        self._events: list[tuple[Any, Any]] = []

    def warm(self, call: Callable[[], object]) -> None:
        for _ in range(WARM_CALLS):
            call()

    def seconds(self, call: Callable[[], object], repeats: int) -> float:
        """Time of the calls on the device; the flushes between them are not in it.

        The host waits once, at the end: while the GPU flushes, it enqueues the next call, so the
        cost of a launch counts only where it is longer than a flush.
        """
        while len(self._events) < repeats:
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events.append((pair[0], pair[1]))
        stream = torch.cuda.current_stream(self.target)
        for start, end in self._events[:repeats]:
            self.flushed.zero_()
            start.record(stream)
            call()
            end.record(stream)
        torch.cuda.synchronize(self.target)
        return 1e-3 * sum(float(start.elapsed_time(end)) for start, end in self._events[:repeats])

    def peak_bytes(self, call: Callable[[], object]) -> int | None:
        torch.cuda.synchronize(self.target)
        before = torch.cuda.memory_allocated(self.target)
        torch.cuda.reset_peak_memory_stats(self.target)
        call()
        torch.cuda.synchronize(self.target)
        return int(torch.cuda.max_memory_allocated(self.target)) - before

    def working_set(self, cache: int) -> int:
        """Four L2 caches, and enough that the launch does not count."""
        return max(4 * int(self.properties.L2_cache_size), 512 << 20)

    def facts(self) -> dict[str, Any]:
        known = self.properties
        return {
            "gpu": known.name,
            "capability": f"{known.major}.{known.minor}",
            "multiprocessors": known.multi_processor_count,
            "memory_bytes": known.total_memory,
            "l2_bytes": known.L2_cache_size,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
            **driver_facts(f"GPU-{known.uuid}"),
        }


def driver_facts(uuid: str) -> dict[str, str]:
    """Driver and clocks as nvidia-smi tells them, or nothing where it does not run."""
    fields = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            [*command, f"--id={uuid}"], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, map(str.strip, done.stdout.strip().split(",")), strict=False))

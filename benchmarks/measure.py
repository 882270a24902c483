"""Measure one case: check every contender against the oracle, then time those that are right.

Contenders are our op (on a GPU once per backend of ours), the plain reference, the compiled
reference and the peers. They take turns round by round, so that noise of the machine meets all of
them, and a speed-up is the median over the rounds of (time of the other) / (time of ours) in the
same round. A contender whose answer is wrong is refused and has no time. Oracle and comparison are
on the CPU, whatever the device.
"""

from __future__ import annotations

import functools
import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import torch

import medkern
from medkern.benchmarks.device import Device
from medkern.benchmarks.machine import Machine, version_of
from medkern.benchmarks.registry import Case, Peer, same

Role = Literal["ours", "reference", "compiled", "peer"]
Status = Literal["ok", "refused", "failed", "unavailable", "not installed", "left out"]
# Seconds per call, one entry per round, by contender; None where it sat a round out.
Samples = dict[str, list[float | None]]
# The time of so many calls of one contender, in seconds.
Clock = Callable[[int], float]
PASSES = ("forward", "forward+backward")
FEWEST_ROUNDS = 3
SHORTEST_SAMPLE_S = 1e-3
CANNOT_RUN = "backend must be able to run here"  # what a forced backend raises otherwise


@dataclass(frozen=True)
class Settings:
    """`budget_s` is the time spent on the rounds of one pass of one case."""

    budget_s: float = 3.0
    most_rounds: int = 200
    compile: bool = True


@dataclass
class Contender:
    """One way to compute a case, and what became of it in one pass.

    `backend` is the one of ours that is forced on its calls.
    """

    name: str
    role: Role
    call: Callable[..., Any] | None
    adapt: Callable[[Any], Any] = same
    backend: str | None = None
    version: str | None = None
    approximate: bool = False
    status: Status = "ok"
    detail: str = ""
    error: float | None = None
    first_call_s: float | None = None
    peak_bytes: int | None = None

    def refuse(self, detail: str) -> None:
        self.status, self.detail = "refused", detail

    def fail(self, reason: BaseException) -> None:
        self.status, self.detail = "failed", short_text(reason)
        if self.backend is not None and CANNOT_RUN in str(reason):
            self.status, self.detail = "unavailable", str(reason).split("; ", 1)[-1]

    def forced(self) -> AbstractContextManager[None]:
        return medkern.use_backend(self.backend) if self.backend else nullcontext()

    def function(self) -> Callable[..., Any]:
        if self.call is None:
            raise RuntimeError(f"{self.name} could not be made: {self.detail}")
        return self.call


@dataclass(frozen=True)
class Timing:
    """What is reported of a contender.

    `speedups` says, for each of ours that was timed, how many times faster it is than this one.
    `limit_fraction` is the share of the device's limit that one of ours reached.
    """

    name: str
    role: Role
    status: Status
    detail: str
    version: str | None
    error: float | None
    median_s: float | None = None
    spread: float | None = None
    samples: int = 0
    speedups: dict[str, float] = field(default_factory=dict)
    compile_s: float | None = None
    peak_bytes: int | None = None
    limit: str | None = None
    limit_fraction: float | None = None
    approximate: bool = False


@dataclass(frozen=True)
class Pass:
    """All contenders in one pass, ours first, and the least work of the pass."""

    timings: list[Timing]
    bytes_moved: int
    flops: int


@dataclass
class Result:
    """A measured case, or the reason why it could not be measured."""

    op: str
    name: str
    tolerance: float
    status: Literal["ok", "skipped", "failed"] = "ok"
    detail: str = ""
    inputs: list[str] = field(default_factory=list)
    passes: dict[str, Pass] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_case(case: Case, settings: Settings, machine: Machine, device: Device) -> Result:
    """Check and time all contenders of a case, forward and forward plus backward."""
    result = Result(case.op, case.name, case.tolerance)
    try:
        inputs = case.inputs()
        expected = Expected.of(case, inputs)
        inputs = tuple(map(device.place, inputs))
    except (ImportError, FileNotFoundError) as reason:  # a package of the case is not here
        result.status, result.detail = "skipped", short_text(reason)
        return result
    except Exception as reason:  # a broken case must not end the run of all others
        result.status, result.detail = "failed", f"inputs or oracle: {short_text(reason)}"
        return result
    result.inputs = [describe(value) for value in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' deprecation notes are theirs to read
        for name in PASSES if case.backward else PASSES[:1]:
            trial = Trial(case, inputs, expected, device, backward=name == PASSES[1])
            result.passes[name] = measure_pass(trial, settings, machine)
    return result


def measure_pass(trial: Trial, settings: Settings, machine: Machine) -> Pass:
    if settings.compile:
        torch.compiler.reset()  # graphs of earlier cases count towards the recompile limit
    contenders = trial.contenders(compiled=settings.compile)
    for contender in contenders:
        trial.check(contender)
    samples = time_contenders(contenders, trial, settings)
    ours = {one.name: samples[one.name] for one in contenders if is_timed(one, samples)}
    timings = [timing(one, samples.get(one.name, []), ours) for one in contenders]
    return with_limits(trial, timings, machine)


def is_timed(contender: Contender, samples: Samples) -> bool:
    return contender.role == "ours" and contender.name in samples


@dataclass(frozen=True)
class Trial:
    """One pass of one case on one device: its contenders, and whether they are right."""

    case: Case
    inputs: tuple[Any, ...]
    expected: Expected
    device: Device
    backward: bool

    def contenders(self, *, compiled: bool) -> list[Contender]:
        """Ours first; peers that cannot do the pass are left out, those that fail are kept."""
        case, torch_version = self.case, version_of("torch")
        found = [
            Contender(
                backend or "native", "ours", case.native, same, backend, version_of("medkern")
            )
            for backend in self.device.backends or (None,)
        ]
        if case.reference is not None:
            found.append(Contender("reference", "reference", case.reference, version=torch_version))
            if compiled and case.compile:
                call = torch.compile(case.reference, dynamic=False)
                found.append(Contender("torch.compile", "compiled", call, version=torch_version))
        for name, peer in case.peers.items():
            if peer.backward or not self.backward:
                found.append(make_peer(name, peer, self.device))
        return found

    def check(self, contender: Contender) -> None:
        """Run once and compare with the oracle; sets status, error and time of this first call."""
        if contender.status != "ok":
            return
        start = time.perf_counter()
        try:
            with contender.forced():
                found = (
                    self.gradients_of(contender) if self.backward else self.outputs_of(contender)
                )
            contender.first_call_s = time.perf_counter() - start
            wanted = self.expected.gradients if self.backward else self.expected.outputs
            contender.error = largest_error(found, wanted)
        except ShapeError as reason:
            contender.refuse(str(reason))
            return
        except Exception as reason:  # whatever a peer raises is its result
            contender.fail(reason)
            return
        allowed = self.case.tolerance
        if self.backward and self.case.tolerance_backward is not None:
            allowed = self.case.tolerance_backward
        if not contender.error <= allowed and not contender.approximate:
            what = "gradient error" if self.backward else "error"
            contender.refuse(f"{what} {contender.error:.2g} above the tolerance {allowed:.2g}")

    def outputs_of(self, contender: Contender) -> list[torch.Tensor]:
        with torch.no_grad():
            return tensors(contender.adapt(contender.function()(*self.inputs)))

    def gradients_of(self, contender: Contender) -> list[torch.Tensor]:
        with tracked(self.case, self.inputs) as (values, leaves):
            outputs = tensors(contender.adapt(contender.function()(*values)))
            compare_shapes(outputs, self.expected.outputs)
            pairs = zip(self.expected.cotangents, outputs, strict=True)
            return vjp(outputs, leaves, [seed.to(out) for seed, out in pairs])


def make_peer(name: str, peer: Peer, device: Device) -> Contender:
    contender = Contender(
        name,
        "peer",
        None,
        peer.adapt,
        version=version_of(peer.package or "torch"),
        approximate=peer.approximate,
    )
    if device.kind not in peer.devices:
        contender.status, contender.detail = "left out", f"takes no {device.kind} tensors"
        return contender
    try:
        with device.target:
            contender.call = peer.make()
    except ImportError as reason:
        contender.fail(reason)
        if contender.version is None:
            contender.status = "not installed"
    except Exception as reason:
        contender.fail(reason)
    return contender


@dataclass(frozen=True)
class Expected:
    """What the float64 oracle says: outputs, and input gradients for the given cotangents."""

    outputs: list[torch.Tensor]
    cotangents: list[torch.Tensor]
    gradients: list[torch.Tensor]

    @classmethod
    def of(cls, case: Case, inputs: tuple[Any, ...]) -> Expected:
        oracle = cast(Callable[..., Any], case.oracle or case.reference)
        if not case.backward:
            with torch.no_grad():
                return cls(tensors(oracle(*map(to_double, inputs))), [], [])
        exact = tuple(map(to_double, inputs))
        chosen = differentiable(case, inputs)
        if not chosen:
            raise ValueError("the case has a backward pass but no floating tensor as input")
        wanted = [exact[i].requires_grad_() for i in chosen]
        outputs = tensors(oracle(*exact))
        # Rounded to the dtype of the case, so that both sides are given the same numbers.
        dtype = inputs[chosen[0]].dtype
        random = torch.Generator().manual_seed(1)
        cotangents = [torch.randn(out.shape, generator=random).to(dtype) for out in outputs]
        gradients = vjp(outputs, wanted, [one.double() for one in cotangents])
        return cls([out.detach() for out in outputs], cotangents, gradients)


def differentiable(case: Case, inputs: tuple[Any, ...]) -> tuple[int, ...]:
    """Positions of the inputs whose gradient is computed: all floating tensors by default."""
    if case.differentiable is not None:
        return case.differentiable
    return tuple(
        i
        for i, value in enumerate(inputs)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    )


def vjp(
    outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], seeds: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Gradients of the differentiable outputs; outputs such as labels have none."""
    pairs = [(out, seed) for out, seed in zip(outputs, seeds, strict=True) if out.requires_grad]
    if not pairs:
        raise RuntimeError("no output is differentiable")
    outs, chosen = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outs, leaves, chosen))


@contextmanager
def tracked(
    case: Case, inputs: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], list[torch.Tensor]]]:
    """The inputs as seen by autograd; the same storage, so that no contender gains a warm copy."""
    chosen = differentiable(case, inputs)
    values = tuple(
        value.detach().requires_grad_() if i in chosen else value for i, value in enumerate(inputs)
    )
    with torch.enable_grad():
        yield values, [values[i] for i in chosen]


class ShapeError(ValueError):
    """An answer of another shape than the oracle's."""


def compare_shapes(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    shapes = [tuple(one.shape) for one in found]
    wanted = [tuple(one.shape) for one in expected]
    if shapes != wanted:
        raise ShapeError(f"shape {shapes} where the oracle has {wanted}")


def largest_error(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Largest over the outputs of max |y - oracle| / max |oracle|.

    Equal infinities and NaN in the same place agree (an unreachable voxel is infinitely far);
    any other value that is not finite is an infinite error.
    """
    compare_shapes(found, expected)
    return max(relative_error(y, exact) for y, exact in zip(found, expected, strict=True))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    if expected.numel() == 0:
        return 0.0
    y, exact = found.detach().to("cpu", torch.float64), expected.double()
    agree = (y == exact) | (y.isnan() & exact.isnan())
    gap = torch.where(agree, 0.0, (y - exact).abs()).max().item()
    scale = torch.where(exact.isfinite(), exact.abs(), 0.0).max().item()
    if not math.isfinite(gap):
        return math.inf
    return gap / scale if scale > 0 else gap


def time_contenders(contenders: Sequence[Contender], trial: Trial, settings: Settings) -> Samples:
    """Warm up everybody who is right and take the samples; nothing if none of ours can run."""
    rounds = functools.partial(
        warm_rounds, contenders, device=trial.device, settings=settings, memory=trial.case.memory
    )
    if trial.backward:
        with tracked(trial.case, trial.inputs) as (values, leaves):
            return rounds(lambda one: backward_call(one, values, leaves))
    with torch.no_grad():
        return rounds(lambda one: forward_call(one, trial.inputs))


def warm_rounds(
    contenders: Sequence[Contender],
    make_call: Callable[[Contender], Callable[[], object]],
    device: Device,
    settings: Settings,
    *,
    memory: bool,
) -> Samples:
    clocks: dict[str, Clock] = {}
    estimates: dict[str, float] = {}
    for one in contenders:
        if one.status != "ok":
            continue
        try:
            with one.forced():
                call = make_call(one)
                device.warm(call)
                if memory or device.kind == "cuda":
                    one.peak_bytes = device.peak_bytes(call)
            clock = clock_of(one, call, device)
            estimates[one.name] = clock(1)
            clocks[one.name] = clock
        except Exception as reason:  # out of memory, say, where the check still fitted
            one.fail(reason)
    any_of_ours = any(one.role == "ours" and one.name in clocks for one in contenders)
    return run_rounds(clocks, estimates, settings) if any_of_ours else {}


def clock_of(contender: Contender, call: Callable[[], object], device: Device) -> Clock:
    def clock(repeats: int) -> float:
        with contender.forced():
            return device.seconds(call, repeats)

    return clock


def forward_call(contender: Contender, inputs: tuple[Any, ...]) -> Callable[[], object]:
    function = contender.function()
    return lambda: function(*inputs)


def backward_call(
    contender: Contender, values: tuple[Any, ...], leaves: list[torch.Tensor]
) -> Callable[[], object]:
    """Forward and backward from random cotangents in the layout the contender itself returns."""
    function = contender.function()
    outputs = [out for out in tensors(function(*values)) if out.requires_grad]
    seeds = [torch.randn_like(out) for out in outputs]

    def call() -> object:
        outputs = [out for out in tensors(function(*values)) if out.requires_grad]
        return torch.autograd.grad(outputs, leaves, seeds)

    return call


def run_rounds(
    clocks: dict[str, Clock], estimates: dict[str, float], settings: Settings
) -> Samples:
    """Turn by turn until the budget is spent, at least three rounds.

    A contender whose one call takes longer than the whole budget is timed in the first round
    only; one that has used half of the budget alone stops after three.
    """
    samples: Samples = {name: [] for name in clocks}
    spent = dict.fromkeys(clocks, 0.0)
    repeats = {
        name: max(1, math.ceil(SHORTEST_SAMPLE_S / max(estimates[name], 1e-9))) for name in clocks
    }
    start = time.perf_counter()
    with collector_paused():
        for turn in range(settings.most_rounds):
            if turn >= FEWEST_ROUNDS and time.perf_counter() - start > settings.budget_s:
                break
            for name, clock in clocks.items():
                if sits_out(turn, estimates[name], spent[name], settings.budget_s):
                    samples[name].append(None)
                    continue
                seconds = clock(repeats[name])
                spent[name] += seconds
                samples[name].append(seconds / repeats[name])
    return samples


def sits_out(turn: int, estimate: float, spent: float, budget_s: float) -> bool:
    if estimate > budget_s:
        return turn > 0
    return turn >= FEWEST_ROUNDS and spent > budget_s / 2


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection inside a sample: it would be charged to whoever runs just then."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def timing(contender: Contender, samples: Sequence[float | None], ours: Samples) -> Timing:
    report = Timing(
        name=contender.name,
        role=contender.role,
        status=contender.status,
        detail=contender.detail,
        version=contender.version,
        error=contender.error,
        compile_s=contender.first_call_s if contender.role == "compiled" else None,
        peak_bytes=contender.peak_bytes,
        approximate=contender.approximate,
    )
    taken = [one for one in samples if one is not None]
    if not taken:
        return report
    median = statistics.median(taken)
    return replace(
        report,
        median_s=median,
        spread=interquartile_range(taken) / median,
        samples=len(taken),
        speedups={name: median_ratio(samples, own) for name, own in ours.items()},
    )


def median_ratio(others: Sequence[float | None], own: Sequence[float | None]) -> float:
    """Over the rounds in which both took part; all take part in the first."""
    pairs = zip(others, own, strict=True)
    return statistics.median(a / b for a, b in pairs if a is not None and b is not None)


def interquartile_range(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower


def with_limits(trial: Trial, timings: list[Timing], machine: Machine) -> Pass:
    """Hold each of ours against the tighter of the measured bandwidth and sgemm limits."""
    case, backward = trial.case, trial.backward
    moved = case.bytes_moved + (case.bytes_backward if backward else 0)
    flops = case.flops + (case.flops_backward if backward else 0)
    # Backward writes a full gradient whatever the forward pass does, so it copies.
    reads = case.bound == "read" and not backward
    bandwidth = machine.read_bytes if reads else machine.copy_bytes
    least = {"read" if reads else "copy": moved / bandwidth, "flop": flops / machine.sgemm_flops}
    limit = max(least, key=lambda name: least[name])
    held = [
        replace(one, limit=limit, limit_fraction=least[limit] / one.median_s)
        if one.role == "ours" and one.median_s and least[limit]
        else one
        for one in timings
    ]
    return Pass(held, moved, flops)


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors and arrays of a nested result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, np.ndarray):
        return [torch.from_numpy(np.ascontiguousarray(value))]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in tensors(one)]
    raise TypeError(f"a result must hold tensors or arrays, got {type(value).__name__}")


def to_double(value: Any) -> Any:
    """A float64 copy of floating data; other values as they are."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().to(torch.float64, copy=True)
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        return value.astype(np.float64)
    return value


def describe(value: Any) -> str:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}[{','.join(map(str, value.shape))}]"
    return repr(value)[:40]


def short_text(reason: BaseException) -> str:
    """One line of an exception, short enough for a table note."""
    lines = str(reason).strip().splitlines() or [""]
    return f"{type(reason).__name__}: {lines[0]}"[:160]

"""The benchmark machinery, on toy cases: what it refuses, what it keeps, what it flags."""

import contextlib
import copy
import functools
import json
import sys
import time
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import medkern
from medkern import backend
from medkern.benchmarks import device, machine, measure, registry, report, run
from medkern.benchmarks.registry import Case, Peer

FAST = ["--default-malloc", "--no-compile", "--budget", "0.01"]
PASSES = ("forward", "forward+backward")


def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def slow_square(x: torch.Tensor) -> torch.Tensor:
    time.sleep(2e-3)
    return x * x


def toy(**changes: Any) -> Case:
    case = Case(
        op="toy",
        name="toy/64/float32",
        inputs=lambda: (torch.linspace(-1, 1, 64),),
        native=square,
        reference=slow_square,
        tolerance=1e-6,
        bytes_moved=512,
        bytes_backward=512,
        quick=True,
    )
    return replace(case, **changes)


LIMITS = machine.Machine(
    cpu="toy",
    cores=1,
    isa="none",
    l3_bytes=0,
    system="toy",
    threads=1,
    heap="default",
    omp_wait_policy="default",
    load_average=0.0,
    compiler="none",
    versions={"torch": "0"},
    copy_bytes=1e9,
    read_bytes=2e9,
    sgemm_flops=1e9,
)


def measured(case: Case) -> measure.Result:
    settings = measure.Settings(budget_s=0.01, compile=False)
    return measure.measure_case(case, settings, LIMITS, device.Device())


def timing(result: measure.Result, name: str, pass_name: str = "forward") -> measure.Timing:
    return next(one for one in result.passes[pass_name].timings if one.name == name)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the command line find the given cases, on a machine whose limits need no measuring."""

    def install(*cases: Case) -> None:
        monkeypatch.setattr(registry, "load_cases", lambda: list(cases))
        monkeypatch.setattr(run, "inspect", lambda *_, **__: LIMITS)

    return install


# The registry.


def test_shipped_cases_have_unique_names_and_cover_the_haar_ops() -> None:
    cases = registry.load_cases()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert {"haar_dwt", "haar_idwt", "haar_pool", "haar_wavedec"} <= set(registry.op_names(cases))


def test_every_op_has_a_quick_case() -> None:
    cases = registry.load_cases()
    assert registry.op_names(registry.select(cases, quick=True)) == registry.op_names(cases)


def test_two_cases_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'toy/64/float32'; names must be unique"):
        registry.check_unique([toy(), toy()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"op": "other"}, "must start with 'other/'"), ({"tolerance": 0.0}, "must be positive")],
)
def test_a_malformed_case_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy(**changes)


def test_a_case_of_one_device_is_selected_there_only() -> None:
    cases = [toy(), toy(name="toy/gpu", devices=("cuda",))]
    assert registry.select(cases) == cases[:1]
    assert registry.select(cases, kind="cuda") == cases
    kept = {case.name for case in registry.select(registry.load_cases(), kind="cuda")}
    assert {"haar_dwt/8x64x128x128/float32", "haar_dwt/8x64x128x128/float32/cupy"} <= kept


def test_select_by_op_by_substring_and_quick() -> None:
    cases = [toy(), toy(name="toy/8/float32", quick=False), toy(op="other", name="other/64")]
    assert registry.select(cases, ops=["other"]) == [cases[2]]
    assert registry.select(cases, substring="/64") == [cases[0], cases[2]]
    assert registry.select(cases, quick=True) == [cases[0], cases[2]]
    with pytest.raises(registry.UnknownOp, match="'nope'; known ops: toy, other"):
        registry.select(cases, ops=["nope"])


# The measurement.


def test_peak_memory_on_a_cpu_is_that_of_the_tensors_alive() -> None:
    def call() -> None:
        first = torch.ones(1000)  # 4 kB
        second = first + 1  # 8 kB
        del first
        second += torch.ones(1000)  # 8 kB: nothing new is made in place
        second.view(10, 100).sum()

    assert device.Device().peak_bytes(call) == 8000
    result = measured(toy(memory=True))
    assert timing(result, "native").peak_bytes == 256
    assert timing(measured(toy()), "native").peak_bytes is None


def test_right_contenders_are_timed_in_both_passes() -> None:
    result = measured(toy(peers={"mul": Peer(lambda: lambda x: torch.mul(x, x))}))
    assert result.inputs == ["float32[64]"]
    assert tuple(result.passes) == PASSES
    for name in PASSES:
        for contender in ("native", "reference", "mul"):
            one = timing(result, contender, name)
            assert one.status == "ok"
            assert one.error is not None
            assert one.error < 1e-6
            assert one.samples >= 3
            assert one.median_s is not None
            assert one.median_s > 0


def test_speedup_is_the_time_of_the_other_over_ours() -> None:
    result = measured(toy(native=slow_square, reference=square))
    assert timing(result, "native").speedups == {"native": 1}
    assert 0 < timing(result, "reference").speedups["native"] < 0.5
    assert timing(measured(toy()), "reference").speedups["native"] > 2


def test_a_wrong_peer_is_refused_and_called_once_only() -> None:
    calls = []

    def wrong(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x * x + 1e-3

    result = measured(toy(backward=False, peers={"wrong": Peer(lambda: wrong)}))
    one = timing(result, "wrong")
    assert one.status == "refused"
    assert one.error == pytest.approx(1e-3, rel=0.01)
    assert one.detail == "error 0.001 above the tolerance 1e-06"
    assert (one.median_s, one.speedups, one.samples) == (None, {}, 0)
    assert len(calls) == 1
    assert timing(result, "native").median_s is not None


def test_an_approximate_peer_is_timed_with_its_error() -> None:
    rough = Peer(lambda: lambda x: x * x + 1e-3, backward=False, approximate=True)
    result = measured(toy(peers={"rough": rough}))
    one = timing(result, "rough")
    assert one.status == "ok"
    assert one.median_s is not None
    assert one.error == pytest.approx(1e-3, rel=0.01)
    assert report.label_of(one.__dict__) == "rough (off by 1e-03)"


def test_a_case_may_have_an_oracle_and_no_reference() -> None:
    result = measured(toy(reference=None, oracle=square, peers={"mul": Peer(lambda: square)}))
    assert {t.name for t in result.passes["forward"].timings} == {"native", "mul"}
    with pytest.raises(ValueError, match="oracle must be given where reference is not"):
        toy(reference=None)


def test_a_wrong_gradient_is_refused_although_the_answer_is_right() -> None:
    half = Peer(lambda: lambda x: x * x.detach())
    result = measured(toy(peers={"half": half}))
    assert timing(result, "half").status == "ok"
    one = timing(result, "half", PASSES[1])
    assert one.status == "refused"
    assert one.detail.startswith("gradient error 0.")
    assert one.median_s is None


def test_nobody_is_timed_beside_a_wrong_native() -> None:
    result = measured(toy(native=lambda x: x))
    assert timing(result, "native").status == "refused"
    assert timing(result, "reference").status == "ok"
    assert timing(result, "reference").median_s is None


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (lambda x: (x * x)[1:], "refused", r"shape [(63,)] where the oracle has [(64,)]"),
        (lambda x: x * x * float("nan"), "refused", "error inf above the tolerance 1e-06"),
        (lambda x: "text", "failed", "TypeError: a result must hold tensors or arrays, got str"),
        (lambda x: 1 // 0, "failed", "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_what_a_bad_peer_did_is_told(answer: Callable[..., Any], status: str, detail: str) -> None:
    one = timing(measured(toy(backward=False, peers={"bad": Peer(lambda: answer)})), "bad")
    assert (one.status, one.median_s) == (status, None)
    assert one.detail.startswith(detail)


def test_a_missing_package_is_not_a_failure() -> None:
    def make() -> Callable[..., Any]:
        raise ModuleNotFoundError("No module named 'no_such_package'")

    result = measured(
        toy(
            peers={
                "absent": Peer(make, "no-such-package"),
                "broken": Peer(make, "numpy"),
            }
        )
    )
    assert timing(result, "absent").status == "not installed"
    assert timing(result, "broken").status == "failed"  # installed, but cannot be imported
    assert timing(result, "native").status == "ok"


def test_peers_are_adapted_for_the_check_but_not_timed_with_it() -> None:
    adapted = []

    def adapt(answer: Any) -> torch.Tensor:
        adapted.append(1)
        return torch.from_numpy(answer["squares"])

    peer = Peer(lambda: lambda x: {"squares": np.square(x.numpy())}, "numpy", adapt, backward=False)
    result = measured(toy(peers={"numpy": peer}))
    one = timing(result, "numpy")
    assert (one.status, one.version) == ("ok", np.__version__)
    assert one.samples >= 3
    assert len(adapted) == 1
    assert "numpy" not in [one.name for one in result.passes[PASSES[1]].timings]


def test_an_input_whose_package_is_missing_skips_the_case() -> None:
    def inputs() -> tuple[Any, ...]:
        raise ImportError("needs nibabel")

    result = measured(toy(inputs=inputs))
    assert (result.status, result.detail) == ("skipped", "ImportError: needs nibabel")


def test_the_fraction_of_the_limit_uses_the_tighter_bound() -> None:
    case = toy(bytes_moved=10**6, bytes_backward=10**6, bound="read")
    forward, both = (measured(case).passes[name] for name in PASSES)
    ours = forward.timings[0]
    assert ours.median_s is not None
    assert ours.limit == "read"
    assert ours.limit_fraction == pytest.approx(10**6 / 2e9 / ours.median_s)
    assert forward.timings[1].limit is None
    assert (both.timings[0].limit, both.bytes_moved) == ("copy", 2 * 10**6)
    assert timing(measured(replace(case, flops=10**9)), "native").limit == "flop"


def test_equal_infinities_agree_and_others_do_not() -> None:
    inf = float("inf")
    expected = torch.tensor([1.0, inf, 4.0])
    assert measure.relative_error(torch.tensor([1.0, inf, 4.0]), expected) == 0
    assert measure.relative_error(torch.tensor([1.0, inf, 3.0]), expected) == 0.25
    assert measure.relative_error(torch.tensor([1.0, 5.0, 4.0]), expected) == inf
    assert measure.relative_error(torch.tensor([1.0, -inf, 4.0]), expected) == inf


def test_a_slow_contender_sits_out_later_rounds() -> None:
    counts = {"native": 0, "slow": 0}

    def count(name: str, seconds: float) -> measure.Clock:
        def clock(repeats: int) -> float:
            counts[name] += repeats
            time.sleep(seconds * repeats)
            return seconds * repeats

        return clock

    samples = measure.run_rounds(
        {"native": count("native", 2e-3), "slow": count("slow", 0.06)},
        {"native": 2e-3, "slow": 0.06},
        measure.Settings(budget_s=0.05, most_rounds=6),
    )
    assert counts["slow"] == 1
    assert counts["native"] >= 3
    assert samples["slow"][1:] == [None] * (len(samples["native"]) - 1)


# The command line.


def outcome(arguments: Sequence[str]) -> int:
    return run.main([*FAST, *arguments])


def test_a_good_run_prints_the_table_and_returns_zero(
    serve: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(toy(), toy(name="toy/unmatched"))
    assert outcome(["--case", "/64"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("| 64 "))
    assert [cell.strip() for cell in row.split("|")][2] == "fwd"
    assert "default malloc" in out
    assert "unmatched" not in out
    assert "\x1b" not in out
    assert max(map(len, (line for line in out.splitlines() if line.startswith("|")))) <= 120


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"native": lambda x: x}, "toy/64/float32 fwd: refused, error 2 above"),
        ({"native": lambda x: x * x.detach()}, "toy/64/float32 fwd+bwd: refused, gradient error"),
        ({"native": lambda x: 1 // 0}, "fwd: failed, ZeroDivisionError"),
        ({"inputs": lambda: 1 // 0}, "toy/64/float32: inputs or oracle: ZeroDivisionError"),
    ],
)
def test_our_failure_makes_the_exit_code_one(
    serve: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    told: str,
) -> None:
    serve(toy(**changes))
    assert outcome([]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert failed
    assert told in failed[0] + failed[-1]


def test_a_wrong_peer_does_not_change_the_exit_code(
    serve: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    serve(toy(peers={"wrong": Peer(lambda: lambda x: x)}))
    assert outcome([]) == 0
    assert "wrong refused: error 2 above the tolerance 1e-06" in capsys.readouterr().out


def stored(serve: Callable[..., None], path: Path) -> report.Document:
    serve(toy(peers={"wrong": Peer(lambda: lambda x: x / 0)}))
    assert outcome(["--json", str(path)]) == 0
    return report.load(path)


def test_json_keeps_everything_and_shows_the_same_table(
    serve: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = stored(serve, tmp_path / "a.json")
    shown = capsys.readouterr().out
    assert kept["schema"] == report.SCHEMA
    assert kept["machine"] == LIMITS.as_dict()
    assert kept["settings"]["budget_s"] == 0.01
    timings = {one["name"]: one for one in kept["results"][0]["passes"]["forward"]["timings"]}
    assert timings["wrong"]["error"] == "inf"
    assert timings["reference"]["median_s"] >= 2e-3
    report.save(kept, tmp_path / "b.json")
    assert report.load(tmp_path / "b.json") == kept
    report.show(kept, report.make_console())
    again = capsys.readouterr().out
    assert "| 64 " in again
    assert again in shown


def test_a_file_of_another_schema_is_refused(
    serve: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"schema": "medkern.bench/0"}))
    serve(toy())
    assert outcome(["--compare", str(old)]) == 2
    assert "schema 'medkern.bench/0'" in capsys.readouterr().err


def slower_native(kept: report.Document, factor: float) -> report.Document:
    """The same run on a machine three times as slow, with our op slower by `factor` besides."""
    changed = copy.deepcopy(kept)
    for one_pass in changed["results"][0]["passes"].values():
        for one in one_pass["timings"]:
            if one["median_s"]:
                one["median_s"] *= 3 * factor if one["role"] == "ours" else 3
                one["speedups"]["native"] /= 1 if one["role"] == "ours" else factor
    return changed


def test_compare_passes_an_equal_run_and_flags_a_planted_regression(
    serve: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = stored(serve, tmp_path / "a.json")
    console = report.make_console()
    capsys.readouterr()
    assert not report.show_changes(kept, slower_native(kept, 1.05), 10, console)
    assert "2 timings in both runs, 0 slower" in capsys.readouterr().out
    assert report.show_changes(kept, slower_native(kept, 1.2), 10, console)
    assert "slower by 20%: toy/64/float32 fwd+bwd" in capsys.readouterr().out
    assert not report.show_changes(kept, slower_native(kept, 1.2), 25, console)
    assert not report.show_changes(slower_native(kept, 1.2), kept, 10, console)
    assert "2 faster" in capsys.readouterr().out


def test_a_regression_makes_the_exit_code_one(
    serve: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "a.json"
    kept = stored(serve, old)
    # Toy timings are noisy, so plant a factor that no noise makes or hides.
    report.save(slower_native(kept, 1e-3), old)
    assert outcome(["--compare", str(old)]) == 1
    assert "slower by" in capsys.readouterr().out
    report.save(slower_native(kept, 1e3), old)
    assert outcome(["--compare", str(old)]) == 0
    assert "2 faster" in capsys.readouterr().out


def test_runs_without_a_common_timing_cannot_pass(
    serve: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "a.json"
    stored(serve, old)
    serve(toy(name="toy/other"))
    assert outcome(["--compare", str(old)]) == 1
    assert "no timing in common" in capsys.readouterr().out


def test_the_plot_is_a_picture_with_bars(serve: Callable[..., None], tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    serve(toy(), toy(op="other", name="other/64", backward=False))
    path = tmp_path / "a.png"
    assert outcome(["--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = pyplot.imread(path)[..., :3]
    grey = np.abs(pixels - 0xB0 / 255).max(axis=-1) < 0.01  # the bars of the reference
    assert grey.sum() > 10_000
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 900


def test_list_prints_names_and_measures_nothing(
    serve: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("a listed case was run")

    serve(toy(native=never, reference=never, inputs=never), toy(op="b", name="b/1"))
    assert outcome(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["toy/64/float32", "b/1"]
    assert outcome(["--list", "--op", "b"]) == 0
    assert capsys.readouterr().out.splitlines() == ["b/1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "nope"], "no benchmark case for op 'nope'; known ops: toy"),
        (["--case", "nope"], "no case is selected"),
        (["--json", "/no/such/folder/a.json"], "no such folder"),
        (["--compare", "/no/such/file.json"], "cannot read /no/such/file.json"),
        (["--device", "cuda"], "--device must be one that this process can use, got 'cuda'"),
    ],
)
def test_misuse_is_told_before_anything_runs(
    serve: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    serve(toy())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert outcome(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_an_interrupt_prints_what_was_measured(
    serve: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    serve(toy(), toy(name="toy/interrupted", native=interrupt))
    assert outcome([]) == 130
    out = capsys.readouterr().out
    assert "| 64 " in out
    assert "Interrupted" in out
    assert "| interrupted" not in out


def test_the_restart_keeps_the_arguments_and_sets_the_heap(
    serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaced(Exception):
        pass

    started: list[tuple[list[str], dict[str, str]]] = []

    def execve(_: str, command: list[str], environment: dict[str, str]) -> None:
        started.append((command, environment))
        raise Replaced

    serve(toy())
    monkeypatch.setattr("os.execve", execve)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    with contextlib.suppress(Replaced):
        run.main(["--quick", "--threads", "1"])
    ((command, environment),) = started
    assert command[-3:] == ["--quick", "--threads", "1"]
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert machine.HEAP_KEPT.items() <= environment.items()


def test_threads_are_set_for_the_run(serve: Callable[..., None]) -> None:
    seen = []

    def native(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return x * x

    serve(toy(native=native))
    before = torch.get_num_threads()
    try:
        assert outcome(["--threads", "1"]) == 0
        assert set(seen) == {1}
    finally:
        torch.set_num_threads(before)


def test_the_machine_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = device.Device()
    monkeypatch.setattr(cpu, "working_set", lambda _: 1 << 22)
    found = machine.inspect(cpu, quick=True)
    for rate in (found.copy_bytes, found.read_bytes, found.sgemm_flops):
        assert 1e8 < rate < 1e15
    assert found.versions["torch"] == machine.version_of("torch")
    assert found.threads == torch.get_num_threads()


def test_memmove_copies_every_byte() -> None:
    source = torch.arange(1001, dtype=torch.float32)
    target = torch.zeros(1001)
    with machine.ThreadPoolExecutor(2) as pool:
        machine.memmove(pool, target, source)
    assert torch.equal(target, source)


# CUDA, with torch.cuda replaced by a record of what is asked of it, on CPU tensors.

CONSTANTS = {
    "name": "Toy GPU",
    "major": 9,
    "minor": 0,
    "multi_processor_count": 2,
    "total_memory": 1 << 30,
    "L2_cache_size": 1 << 10,
    "uuid": "0",
}


class FakeCuda:
    """Streams and events that log; the clock of the events is the host's."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.allocated, self.peak = 100, 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replacements = {
            "Event": functools.partial(FakeEvent, self),
            "current_stream": lambda _: "stream",
            "synchronize": lambda _: self.log.append("synchronize"),
            "get_device_properties": lambda _: types.SimpleNamespace(**CONSTANTS),
            "memory_allocated": lambda _: self.allocated,
            "max_memory_allocated": lambda _: self.peak,
            "reset_peak_memory_stats": lambda _: self.log.append("reset peak"),
        }
        for name, value in replacements.items():
            monkeypatch.setattr(torch.cuda, name, value)


class FakeEvent:
    def __init__(self, cuda: FakeCuda, *, enable_timing: bool) -> None:
        assert enable_timing
        self.cuda, self.at = cuda, 0.0
        cuda.log.append("create")

    def record(self, stream: str) -> None:
        self.cuda.log.append(f"record on {stream}")
        self.at = time.perf_counter()

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert self.cuda.log[-1] == "synchronize"
        return (end.at - self.at) * 1e3


class LoggedBuffer:
    def __init__(self, cuda: FakeCuda, buffer: torch.Tensor) -> None:
        self.cuda, self.nbytes = cuda, buffer.nbytes

    def zero_(self) -> None:
        self.cuda.log.append("flush")
        time.sleep(5e-3)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    return cuda


def toy_gpu(cuda: FakeCuda) -> device.Cuda:
    gpu = device.Cuda(torch.device("cpu"))
    gpu.flushed = LoggedBuffer(cuda, gpu.flushed)  # type: ignore[assignment]
    return gpu


def test_every_call_on_a_gpu_is_flushed_then_timed_and_all_are_awaited_once(
    fake_cuda: FakeCuda,
) -> None:
    gpu = toy_gpu(fake_cuda)
    assert gpu.flushed.nbytes == 2 * CONSTANTS["L2_cache_size"]
    one = ["flush", "record on stream", "call", "record on stream"]
    seconds = gpu.seconds(lambda: fake_cuda.log.append("call"), 3)
    assert fake_cuda.log == ["create"] * 6 + one * 3 + ["synchronize"]
    assert 0 < seconds < 5e-3  # the flushes are not in it
    fake_cuda.log.clear()
    gpu.seconds(lambda: fake_cuda.log.append("call"), 2)
    assert fake_cuda.log == one * 2 + ["synchronize"]  # events are made once


def test_a_gpu_is_warm_before_it_is_timed(fake_cuda: FakeCuda) -> None:
    toy_gpu(fake_cuda).warm(lambda: fake_cuda.log.append("call"))
    assert fake_cuda.log == ["call"] * device.WARM_CALLS


def test_peak_memory_is_what_a_call_adds(fake_cuda: FakeCuda) -> None:
    def call() -> None:
        assert fake_cuda.log == ["synchronize", "reset peak"]
        fake_cuda.peak = fake_cuda.allocated + 7

    assert toy_gpu(fake_cuda).peak_bytes(call) == 7
    assert fake_cuda.log[-1] == "synchronize"


def test_no_nvidia_smi_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device.driver_facts("GPU-0") == {}
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nexit 9\n")
    smi.chmod(0o755)
    assert device.driver_facts("GPU-0") == {}
    smi.write_text("#!/bin/sh\necho '580.1, 1980 MHz, 1980 MHz, 3201 MHz, 700.00 W'\n")
    assert device.driver_facts("GPU-0")["driver_version"] == "580.1"


def test_exact_convolutions_are_asked_of_cudnn(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn = types.SimpleNamespace(allow_tf32=True, benchmark=False)
    monkeypatch.setattr("torch.backends.cudnn", cudnn)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr(device, "Cuda", lambda target: target)
    assert str(device.choose("cuda")) == "cuda:0"
    assert (cudnn.allow_tf32, cudnn.benchmark) == (False, True)


@pytest.fixture
def serve_gpu(
    serve: Callable[..., None], fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """As `serve`, for --device cuda."""

    def install(*cases: Case) -> None:
        serve(*cases)
        gpu = toy_gpu(fake_cuda)
        limits = replace(LIMITS, device=gpu.facts())
        monkeypatch.setattr(device, "choose", lambda _: gpu)
        monkeypatch.setattr(run, "inspect", lambda *_, **__: limits)
        monkeypatch.setattr(LoggedBuffer, "zero_", lambda _: None)

    return install


def with_backends(**squares: Callable[..., Any] | None) -> Callable[..., Any]:
    """An op that runs another function on each backend, and raises as ours do where it is None."""

    def native(x: torch.Tensor) -> torch.Tensor:
        name = backend._Forced.name
        assert name is not None
        square = squares[name]
        if square is None:
            medkern.haar_dwt(torch.ones(2, 2), backend="triton")  # no Triton on the CPU
            raise AssertionError("ran")
        return square(x)

    return native


def on_cuda(tmp_path: Path, *arguments: str) -> tuple[int, report.Document]:
    path = tmp_path / "cuda.json"
    code = outcome(["--device", "cuda", "--json", str(path), *arguments])
    return code, report.load(path)


def test_each_backend_of_ours_has_a_row_on_a_gpu(
    serve_gpu: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_gpu(toy(native=with_backends(native=square, triton=slow_square)))
    code, kept = on_cuda(tmp_path)
    assert code == 0
    assert kept["device"] == "cuda"
    assert kept["machine"]["device"]["gpu"] == "Toy GPU"
    timings = {one["name"]: one for one in kept["results"][0]["passes"]["forward"]["timings"]}
    assert timings["triton"]["speedups"]["native"] > 2
    assert timings["native"]["speedups"]["triton"] < 0.5
    assert timings["reference"]["speedups"].keys() == {"native", "triton"}
    assert timings["native"]["peak_bytes"] == -100
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if "| fwd" in line]
    assert [row.split("|")[3].strip() for row in rows] == ["native", "triton"] * 2
    assert "Toy GPU, compute capability 9.0" in out
    assert max(map(len, (line for line in out.splitlines() if line.startswith("|")))) <= 120


def test_a_backend_that_cannot_run_is_told_and_fails_nothing(
    serve_gpu: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_gpu(toy(native=with_backends(native=None, triton=square)))
    code, kept = on_cuda(tmp_path)
    assert code == 0
    timings = {one["name"]: one for one in kept["results"][0]["passes"]["forward"]["timings"]}
    assert timings["native"]["status"] == "unavailable"
    assert timings["reference"]["speedups"].keys() == {"triton"}
    out = capsys.readouterr().out
    assert "native unavailable: " in out
    assert [line.split("|")[3].strip() for line in out.splitlines() if "| fwd" in line] == [
        "triton",
        "triton",
    ]


def test_a_run_in_which_nothing_of_ours_ran_fails(
    serve_gpu: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_gpu(toy(native=with_backends(native=None, triton=None)))
    code, kept = on_cuda(tmp_path)
    assert code == 1
    assert kept["results"][0]["passes"]["forward"]["timings"][2]["median_s"] is None
    assert "FAILED nothing of ours was timed" in capsys.readouterr().out


def test_a_wrong_backend_fails_the_run_although_the_other_is_right(
    serve_gpu: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_gpu(toy(native=with_backends(native=square, triton=lambda x: 0 * x)))
    assert on_cuda(tmp_path)[0] == 1
    assert "FAILED toy/64/float32 fwd triton: refused, error 1" in capsys.readouterr().out


def test_a_peer_of_the_cpu_is_left_out_on_a_gpu(
    serve_gpu: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def never() -> Any:
        raise AssertionError("a peer of the CPU was made")

    peers = {"cpu only": Peer(never, "numpy", devices=("cpu",)), "mul": Peer(lambda: square)}
    serve_gpu(toy(native=with_backends(native=square, triton=None), peers=peers))
    assert on_cuda(tmp_path)[0] == 0
    assert "cpu only left out: takes no cuda tensors" in capsys.readouterr().out


def test_tensors_of_a_peer_are_made_on_the_device() -> None:
    seen = []

    def make() -> Callable[..., Any]:
        seen.append(torch.ones(2).device.type)
        return square

    assert measure.make_peer("peer", Peer(make), Meta()).status == "ok"
    assert seen == ["meta"]
    assert Meta().place(torch.ones(2)).device.type == "meta"
    assert Meta().place("text") == "text"


class OneDevice(TorchDispatchMode):
    """Refuses ops on tensors of two devices, as a GPU does and "meta" does not always."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = pytree.tree_leaves((args, kwargs))
        found = {a.device.type for a in leaves if isinstance(a, torch.Tensor) and a.dim()}
        assert len(found) < 2 or func is torch.ops.aten.copy_.default, func
        return func(*args, **kwargs or {})


class Meta(device.Device):
    """A GPU as far as the placing of tensors goes."""

    kind = "cuda"
    target = torch.device("meta")


def meta_cases() -> list[Case]:
    found = registry.select(registry.load_cases(), kind="cuda")
    return [case for case in found if not case.name.endswith("/cupy")]


@pytest.mark.parametrize("case", meta_cases(), ids=lambda case: case.name)
def test_shipped_cases_keep_to_the_device(case: Case) -> None:
    """A weight made on the CPU would fail on a GPU, where nobody here would see it."""
    try:
        inputs = tuple(map(Meta().place, case.inputs()))
    except ImportError as reason:
        pytest.skip(str(reason))
    peers = {name: measure.make_peer(name, peer, Meta()) for name, peer in case.peers.items()}
    with torch.no_grad(), warnings.catch_warnings(), OneDevice():
        warnings.simplefilter("ignore")
        if case.reference is not None:
            case.reference(*inputs)
        for one in peers.values():
            if one.status != "ok":
                continue
            try:
                found = measure.tensors(one.adapt(one.function()(*inputs)))
            except RuntimeError as reason:
                if "cannot be called on meta tensors" in str(reason):  # a peer that looks at values
                    continue
                raise
            assert {y.device.type for y in found} == {"meta"}


def test_a_weight_on_another_device_is_noticed() -> None:
    conv = load_case("haar_dwt/8x64x128x128/float32").peers["depthwise conv"].make()
    with OneDevice(), pytest.raises(AssertionError, match="convolution"):
        conv(torch.empty(8, 64, 128, 128, device="meta"))


def load_case(name: str) -> Case:
    return next(case for case in registry.load_cases() if case.name == name)


@pytest.mark.parametrize("installed", [False, True])
def test_a_cupy_array_goes_in_and_comes_out(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """With another array library in the place of CuPy, on the CPU."""
    monkeypatch.setitem(sys.modules, "cupy", np if installed else None)
    case = load_case("haar_dwt/8x64x128x128/float32/cupy")
    result = measured(case)
    if not installed:
        assert (result.status, result.detail.split(":")[0]) == ("skipped", "ModuleNotFoundError")
        return
    assert timing(result, "native").status == "ok"
    assert timing(result, "medkern on tensors").status == "ok"
    assert tuple(result.passes) == ("forward",)


def test_runs_of_two_devices_are_not_compared(
    serve_gpu: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_gpu(toy(native=with_backends(native=square, triton=square)))
    _, kept = on_cuda(tmp_path)
    same_gpu = tmp_path / "same.json"
    report.save(kept, same_gpu)
    assert outcome(["--device", "cuda", "--compare", str(same_gpu), "--regression", "1e6"]) == 0
    assert "4 timings in both runs" in capsys.readouterr().out
    assert outcome(["--compare", str(same_gpu)]) == 2
    told = capsys.readouterr().err
    assert f"same device, cpu; {same_gpu} was measured on cuda" in told


def test_limits_are_measured_on_the_device(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = toy_gpu(fake_cuda)
    monkeypatch.setattr(LoggedBuffer, "zero_", lambda _: None)
    monkeypatch.setattr(gpu, "working_set", lambda _: 1 << 22)
    monkeypatch.setattr(gpu, "matrix_size", 64)
    monkeypatch.setattr(machine, "memmove", None)  # copies on the host
    found = machine.inspect(gpu, quick=True)
    assert min(found.copy_bytes, found.read_bytes, found.sgemm_flops) > 0
    assert found.device["l2_bytes"] == CONSTANTS["L2_cache_size"]

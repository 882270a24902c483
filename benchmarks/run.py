"""The command line of `medkern bench`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from medkern.benchmarks import device, registry, report
from medkern.benchmarks.device import Device
from medkern.benchmarks.machine import HEAP_KEPT, Machine, heap_is_kept, inspect
from medkern.benchmarks.measure import Result, Settings, measure_case, short_text
from medkern.benchmarks.registry import Case
from medkern.benchmarks.report import Document

FULL_BUDGET_S, QUICK_BUDGET_S = 3.0, 0.4
QUICK_COMPILE_S = 20.0
INTERRUPTED = 130
# `python -c` puts the current folder on the path; a checkout there would hide the installation.
RESTART = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from medkern.benchmarks.run import main; sys.exit(main(sys.argv[1:]))"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `medkern bench`: 0 if all is well, 1 for a wrong answer or a regression, 2 for misuse.

    Unless told --default-malloc, this replaces the running process by one whose heap keeps freed
    memory. Call it with that option from a notebook or a test.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parse(arguments)
    try:
        chosen = registry.select(
            registry.load_cases(),
            ops=options.op,
            substring=options.case,
            quick=options.quick,
            kind=options.device,
        )
        old = check_files(options)
    except (registry.UnknownOp, report.NotAReport, OSError, ImportError) as reason:
        return complain(str(reason))
    if options.list:
        for case in chosen:
            print(case.name)
        return 0
    if not chosen:
        return complain("no case is selected; --list shows all names")
    try:
        where = device.choose(options.device)
    except device.NoDevice as reason:
        return complain(str(reason))
    tunable = where.kind == "cpu" and sys.platform == "linux"
    if tunable and not options.default_malloc and not heap_is_kept():
        restart(arguments, options.threads)
    return run(chosen, where, old, options)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="medkern bench",
        description="Time every op against its reference, torch.compile and other packages. "
        "Answers are checked first; a wrong one is refused and not timed.",
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to run; default: cpu")
    add("--quick", action="store_true", help="fewer cases and rounds, under two minutes")
    add("--op", action="append", default=[], metavar="NAME", help="only this op; may be repeated")
    add("--case", default="", metavar="SUBSTR", help="only cases whose name contains SUBSTR")
    add("--list", action="store_true", help="print the names of the selected cases and stop")
    add("--threads", type=positive_int, metavar="N", help="default: what torch would use")
    add("--budget", type=positive, metavar="SECONDS", help="time per case and pass")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--plot", type=Path, metavar="FILE", help="write a PNG of the speed-ups")
    add("--compare", type=Path, metavar="FILE", help="flag regressions against an earlier JSON")
    add("--regression", type=positive, default=10.0, metavar="PERCENT", help="default: 10")
    add("--no-compile", action="store_true", help="leave torch.compile out")
    add(
        "--default-malloc", action="store_true", help="do not restart with a heap that keeps memory"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def complain(message: str) -> int:
    print(f"medkern bench: {message}", file=sys.stderr)
    return 2


def check_files(options: argparse.Namespace) -> Document | None:
    """The run to compare with; and before the measurement, whether a result can be kept."""
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib; pip install 'medkern[bench]'")
    for path in (options.json, options.plot):
        if path and not path.resolve().parent.is_dir():
            raise FileNotFoundError(f"cannot write {path}: no such folder")
    if not options.compare:
        return None
    old = report.load(options.compare)
    if old["device"] != options.device:
        raise report.NotAReport(
            f"--compare must name a run on the same device, {options.device}; "
            f"{options.compare} was measured on {old['device']}"
        )
    return old


def restart(arguments: Sequence[str], threads: int | None) -> None:
    """Replace this process by one with the heap settings: malloc reads them only at its start."""
    environment = {**os.environ, **HEAP_KEPT}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)  # for peers with threads of their own
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-c", RESTART, *arguments], environment)


def run(
    cases: Sequence[Case], where: Device, old: Document | None, options: argparse.Namespace
) -> int:
    """Measure, show, store and compare."""
    console = report.make_console()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = inspect(where, quick=options.quick)
    settings: dict[str, Any] = {"quick": options.quick, "budget_s": budget(options)}
    results: list[Result] = []
    start = time.perf_counter()
    try:
        with fresh_compile_cache():
            settings["compile"] = "off" if options.no_compile else try_compiler(where)
            # Grows one by one, so that what was measured before a Ctrl-C is kept.
            results.extend(measured(cases, where, options, machine, settings, console))
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    settings["seconds"] = round(time.perf_counter() - start, 1)
    new = report.document(results, machine, settings, kind=where.kind, interrupted=interrupted)
    code = conclude(new, old, options, console)
    return INTERRUPTED if interrupted else code


@contextmanager
def fresh_compile_cache() -> Iterator[None]:
    """An empty Inductor cache: graphs kept from an earlier run would make compiling look free."""
    kept = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="medkern-bench-", ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            yield
        finally:
            if kept is None:
                os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
            else:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = kept


def try_compiler(where: Device) -> str:
    """Compile something trivial: "on", or why it fails.

    The first compilation of a process also loads Inductor and prepares its headers, which would
    be charged to the first case.
    """
    try:
        torch.compile(lambda x: x + 1)(where.place(torch.ones(2)))
    except Exception as reason:
        return short_text(reason)
    return "on"


def measured(
    cases: Sequence[Case],
    where: Device,
    options: argparse.Namespace,
    machine: Machine,
    settings: dict[str, Any],
    console: Console,
) -> Iterator[Result]:
    """The cases one after the other, with a progress bar."""
    compiled_ops: set[str] = set()
    compile_left = QUICK_COMPILE_S
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("benchmark", total=len(cases))
        for i, case in enumerate(cases):
            progress.update(task, description=case.name)
            if not console.is_terminal:
                print(f"[{i + 1}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
            enough = options.quick and (case.op in compiled_ops or compile_left <= 0)
            compiling = settings["compile"] == "on" and not enough
            result = measure_case(
                case, Settings(settings["budget_s"], compile=compiling), machine, where
            )
            yield result
            compiled_ops.add(case.op)
            compile_left -= compile_seconds(result)
            progress.advance(task)


def budget(options: argparse.Namespace) -> float:
    if options.budget is not None:
        return float(options.budget)
    return QUICK_BUDGET_S if options.quick else FULL_BUDGET_S


def compile_seconds(result: Result) -> float:
    timings = (one for one_pass in result.passes.values() for one in one_pass.timings)
    return sum(one.compile_s or 0.0 for one in timings)


def conclude(
    new: Document, old: Document | None, options: argparse.Namespace, console: Console
) -> int:
    """Show and store a run; 1 if one of ours is wrong, all are missing or one became slower."""
    report.show(new, console)
    if options.json:
        report.save(new, options.json)
        console.print(f"wrote {options.json}", markup=False)
    if options.plot:
        drawn = report.plot(new, options.plot)
        console.print(
            f"wrote {options.plot}" if drawn else "no plot: nothing was timed", markup=False
        )
    failed = report.failures(new)
    for line in failed:
        console.print(f"FAILED {line}", style="bold red", markup=False, soft_wrap=True)
    worse = report.show_changes(old, new, options.regression, console) if old else False
    return 1 if failed or worse else 0


if __name__ == "__main__":
    sys.exit(main())

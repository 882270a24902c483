"""Show, keep and compare what was measured.

Everything here works on the document (the content of the JSON file), so that a stored run prints,
plots and compares exactly as a fresh one.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medkern.benchmarks.machine import Machine
from medkern.benchmarks.measure import PASSES, Result
from medkern.benchmarks.registry import Kind

SCHEMA = "medkern.bench/2"
PLAIN_WIDTH = 120
PASS_LABELS = dict(zip(PASSES, ("fwd", "fwd+bwd"), strict=True))

Document = dict[str, Any]


class NotAReport(ValueError):
    """A file that `medkern bench --json` did not write, or not in this schema."""


def document(
    results: Sequence[Result],
    machine: Machine,
    settings: dict[str, Any],
    *,
    kind: Kind = "cpu",
    interrupted: bool,
) -> Document:
    report = {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "device": kind,
        "settings": settings,
        "machine": machine.as_dict(),
        "results": [result.as_dict() for result in results],
    }
    return dict(finite(report))


def save(report: Document, path: Path) -> None:
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same with "inf" and "nan" as text: strict JSON has no word for an infinite error."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def load(path: Path) -> Document:
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError) as reason:
        raise NotAReport(f"cannot read {path}: {reason}") from reason
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != SCHEMA:
        raise NotAReport(f"{path} has schema {schema!r}, this version reads {SCHEMA!r}")
    return dict(report)


# Looking things up.


def ours(one_pass: Document) -> list[Document]:
    """Our op, once per backend, without those that cannot run unless none can."""
    found = [one for one in one_pass["timings"] if one["role"] == "ours"]
    return [one for one in found if one["status"] != "unavailable"] or found[:1]


def ratios(one_pass: Document, own: Document, role: str) -> list[tuple[float, str]]:
    """How many times faster `own` is than the timed contenders of a role, with their names."""
    return [
        (float(one["speedups"][own["name"]]), label_of(one))
        for one in one_pass["timings"]
        if one["role"] == role and own["name"] in one["speedups"]
    ]


def label_of(timing: Document) -> str:
    """The name; of an approximate contender with its error."""
    off = f" (off by {short(timing['error'])})" if timing.get("approximate") else ""
    return f"{timing['name']}{off}"


def failures(report: Document) -> list[str]:
    """Our own failures: each makes the run fail."""
    found = []
    timed = False
    for result in report["results"]:
        if result["status"] == "failed":
            found.append(f"{result['name']}: {result['detail']}")
        for name, one_pass in result["passes"].items():
            for own in ours(one_pass):
                timed |= own["median_s"] is not None
                if own["status"] not in ("ok", "unavailable"):
                    label = row_key(result, name, own)
                    found.append(f"{label}: {own['status']}, {own['detail']}")
    return found if found or timed or report["interrupted"] else ["nothing of ours was timed"]


def row_key(result: Document, pass_name: str, own: Document) -> str:
    """Names a row of the table in messages; the native backend goes without saying."""
    key = f"{result['name']} {PASS_LABELS[pass_name]}"
    return key if own["name"] == "native" else f"{key} {own['name']}"


# The table.


def make_console(file: Any = None) -> Console:
    """Colours and line drawing on a terminal; plain ASCII of fixed width in a pipe or a file."""
    console = Console(file=file, highlight=False)
    if console.is_terminal:
        return console
    return Console(file=file, highlight=False, width=PLAIN_WIDTH, no_color=True, emoji=False)


def show(report: Document, console: Console) -> None:
    """Machine, one table per op, notes on everybody who has no time, and how to read it."""
    for line in machine_lines(report):
        console.print(line, soft_wrap=True)
    results = report["results"]
    gpu = report["device"] == "cuda"
    for op in dict.fromkeys(result["op"] for result in results):
        console.print()
        console.print(op_table(op, [one for one in results if one["op"] == op], console, gpu=gpu))
    console.print()
    for note in notes(results):
        console.print(Text(note), soft_wrap=True)
    console.print(
        "'ref', 'compiled', 'best peer': how many times faster medkern is (median of the ratios "
        "within a round).\n'error': max |y - oracle| / max |oracle| against float64. '+-': "
        "interquartile range.\n'limit': share of the measured copy or read bandwidth or sgemm rate "
        "(above 100 %: the data fit the cache).",
        style="dim",
    )
    if gpu:
        console.print(
            "'MB': the most device memory a call has in use beyond its inputs.", style="dim"
        )
    if report["interrupted"]:
        console.print("Interrupted: only the cases above were measured.", style="bold")


def machine_lines(report: Document) -> Iterator[str]:
    machine, settings = report["machine"], report["settings"]
    yield (
        f"{machine['cpu']}, {machine['isa']}, {machine['cores']} cores, "
        f"{machine['threads']} threads used, load {machine['load_average']}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{versions}; C++: {machine['compiler']}"
    yield from gpu_lines(machine["device"]) if report["device"] == "cuda" else heap_lines(machine)
    yield (
        f"measured limits: copy {machine['copy_bytes'] / 1e9:.1f} GB/s (read + write), "
        f"read {machine['read_bytes'] / 1e9:.1f} GB/s, sgemm {machine['sgemm_flops'] / 1e9:.0f} "
        "GFLOP/s"
    )
    if settings.get("compile", "on") != "on":
        yield f"torch.compile: {settings['compile']}"
    if settings["quick"]:
        yield "quick run: fewer cases and rounds, few compiled references"


def gpu_lines(facts: Document) -> Iterator[str]:
    """The GPU, and what is special about timing on it."""
    yield (
        f"{facts['gpu']}, compute capability {facts['capability']}, CUDA {facts['cuda']}, "
        f"driver {facts.get('driver_version', 'unknown')}, "
        f"clocks {facts.get('clocks.sm', 'unknown')} (at most {facts.get('clocks.max.sm', '?')})"
    )
    yield "device time by events, cold L2 cache before every call; convolutions without TF32"


def heap_lines(machine: Document) -> Iterator[str]:
    if machine["heap"] == "kept":
        yield (
            "heap: restarted with MALLOC_MMAP_MAX_=0 and no trimming, so that freed memory is "
            "kept (--default-malloc: as a plain process); OMP_WAIT_POLICY="
            f"{machine['omp_wait_policy']}"
        )
    else:
        yield "heap: default malloc; large results pay for page faults on every call"


def op_table(op: str, results: Iterable[Document], console: Console, *, gpu: bool) -> Table:
    drawn = box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN
    table = Table(title=op, title_justify="left", title_style="bold", box=drawn)
    table.add_column("case", overflow="fold")
    table.add_column("pass", no_wrap=True)
    if gpu:
        table.add_column("backend", no_wrap=True)
    for heading in ("ms", "+-", "ref", "compiled"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("best peer", overflow="fold")
    for heading in ("error", "limit", "MB") if gpu else ("error", "limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for row in rows(result, gpu=gpu):
            table.add_row(*row)
    return table


def rows(result: Document, *, gpu: bool) -> Iterator[list[Text]]:
    """One per pass, on a GPU one per pass and backend."""
    label = Text(case_label(result))
    if result["status"] != "ok":
        yield [label, Text(""), Text(result["status"], style="yellow")]
        return
    for name, one_pass in result["passes"].items():
        for own in ours(one_pass):
            backend, memory = ([Text(own["name"])], [megabytes(own)]) if gpu else ([], [])
            yield [label, Text(PASS_LABELS[name]), *backend, *numbers(one_pass, own), *memory]
            label = Text("")


def numbers(one_pass: Document, own: Document) -> list[Text]:
    if own["median_s"] is None:
        style = "yellow" if own["status"] == "unavailable" else "bold red"
        return [
            Text(own["status"], style=style),
            *[Text("")] * 4,
            Text(short(own["error"])),
            Text(),
        ]
    fraction = own["limit_fraction"]
    return [
        Text(milliseconds(own["median_s"])),
        Text(f"{own['spread']:.0%}"),
        smallest(ratios(one_pass, own, "reference")),
        smallest(ratios(one_pass, own, "compiled")),
        smallest(ratios(one_pass, own, "peer"), named=True),
        Text(short(own["error"])),
        Text("-" if fraction is None else f"{fraction:.0%} {own['limit']}"),
    ]


def megabytes(own: Document) -> Text:
    peak = own["peak_bytes"]
    return Text("-" if peak is None else figures(peak / 1e6))


def case_label(result: Document) -> str:
    """The name without the op and without the usual dtype."""
    return str(result["name"]).removeprefix(f"{result['op']}/").replace("/float32", "")


def figures(value: float) -> str:
    """Three significant figures or so, never an exponent."""
    return f"{value:.{0 if value >= 99.5 else 1 if value >= 9.95 else 2}f}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 1e-3 else figures(seconds * 1e3)


def times_text(times: float) -> str:
    return f"{figures(times)}x"


def smallest(timed: Sequence[tuple[float, str]], *, named: bool = False) -> Text:
    """The ratio to whoever is hardest to beat."""
    if not timed:
        return Text("-")
    times, name = min(timed)
    style = "green" if times >= 1 else "red"
    return Text.assemble((times_text(times), style), f" {name}" if named else "")


def short(error: float | str | None) -> str:
    return "-" if error is None else f"{float(error):.0e}"


def notes(results: Iterable[Document]) -> list[str]:
    """Why somebody has no time, one line per reason with the cases it concerns."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result["status"] != "ok":
            key = f"{result['status']}: {result['detail']}"
            reasons.setdefault(key, []).append(result["name"])
        for name, one_pass in result["passes"].items():
            for one in one_pass["timings"]:
                if one["status"] != "ok":
                    key = f"{one['name']} {one['status']}: {one['detail']}"
                    reasons.setdefault(key, []).append(f"{result['name']} {PASS_LABELS[name]}")
    return [f"{reason} ({listed(where)})" for reason, where in reasons.items()]


def listed(where: Sequence[str]) -> str:
    return where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more"


# Comparison with an earlier run.


@dataclass(frozen=True)
class Change:
    """Our time over the reference's time, then and now: the speed of the machine cancels."""

    name: str
    before: float
    now: float

    @property
    def growth(self) -> float:
        return self.now / self.before - 1

    @property
    def gain(self) -> float:
        return self.before / self.now - 1


def relative_times(report: Document) -> dict[str, float]:
    """Per row of the table, our time in units of the reference's time in the same run."""
    return {
        row_key(result, name, own): 1 / times
        for result in report["results"]
        for name, one_pass in result["passes"].items()
        for own in ours(one_pass)
        for times, _ in ratios(one_pass, own, "reference")
    }


def compare(old: Document, new: Document) -> list[Change]:
    """The rows both runs timed, worst first."""
    before, now = relative_times(old), relative_times(new)
    changes = [Change(name, before[name], now[name]) for name in now if name in before]
    return sorted(changes, key=lambda change: -change.growth)


def show_changes(old: Document, new: Document, percent: float, console: Console) -> bool:
    """Print what differs by more than `percent`; True for a regression or nothing in common."""
    console.print()
    for key in ("gpu",) if new["device"] == "cuda" else ("threads", "heap", "isa"):
        was, is_now = ({**one["machine"], **one["machine"]["device"]}[key] for one in (old, new))
        if was != is_now:
            console.print(f"compare: {key} differs, {was} before and {is_now} now", style="yellow")
    changes = compare(old, new)
    if not changes:
        console.print("compare: the two runs have no timing in common", style="bold red")
        return True
    slower = [one for one in changes if one.growth * 100 > percent]
    faster = [one for one in changes if one.gain * 100 > percent]
    for one in slower:
        print_change("slower", one.growth, one, "red", console)
    for one in faster:
        print_change("faster", one.gain, one, "green", console)
    console.print(
        f"compare: {len(changes)} timings in both runs, {len(slower)} slower and {len(faster)} "
        f"faster by more than {percent:g} %"
    )
    return bool(slower)


def print_change(kind: str, size: float, change: Change, style: str, console: Console) -> None:
    console.print(
        f"{kind} by {size:.0%}: {change.name} ({change.before:.4g} -> {change.now:.4g} of the "
        "reference's time)",
        style=style,
        markup=False,
        soft_wrap=True,
    )


# The picture.

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31")
OWN_COLOURS = {"reference": "#B0B0B0", "torch.compile": "#404040"}
BAR_INCHES = 0.17


@dataclass(frozen=True)
class Group:
    """The bars of one case: per pass (contender, speed-up), the hardest to beat last."""

    op: str
    label: str
    bars: dict[str, list[tuple[str, float]]]

    @property
    def slots(self) -> int:
        return max(map(len, self.bars.values())) + 1


def plot(report: Document, path: Path) -> bool:
    """Horizontal bars, one group per case: how many times faster medkern is than each other.

    False, and no file, where nothing was timed.
    """
    groups = bar_groups(report)
    if not groups:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import patches, pyplot

    passes = [name for name in PASSES if any(name in group.bars for group in groups)]
    colours = contender_colours(groups)
    slots = sum(group.slots for group in groups) + len({group.op for group in groups})
    figure, axes = pyplot.subplots(
        1,
        len(passes),
        figsize=(2.4 + 4.6 * len(passes), 1.9 + BAR_INCHES * slots),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes[0], passes, strict=True):
        axis.set_title(name.replace("+", " + "), fontsize=11, loc="left", fontweight="bold")
        draw_pass(axis, name, groups, colours)
    label_groups(axes[0][0], groups)
    handles = [patches.Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(plot_title(report), fontsize=11, x=0.01, ha="left")
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)
    return True


def bar_groups(report: Document) -> list[Group]:
    """Our first backend against all others, another backend of ours among them."""
    groups = []
    for result in report["results"]:
        bars = {}
        for name, one_pass in result["passes"].items():
            first = next((one["name"] for one in ours(one_pass) if one["median_s"]), None)
            timed = [
                (str(one["name"]), float(one["speedups"][first]))
                for one in one_pass["timings"]
                if one["name"] != first and first in one["speedups"]
            ]
            if timed:
                bars[name] = sorted(timed, key=lambda bar: -bar[1])
        if bars:
            groups.append(Group(result["op"], case_label(result), bars))
    order = list(dict.fromkeys(group.op for group in groups))
    return sorted(groups, key=lambda group: order.index(group.op))


def contender_colours(groups: Sequence[Group]) -> dict[str, str]:
    names = dict.fromkeys(
        name for group in groups for bars in group.bars.values() for name, _ in bars
    )
    peers = [name for name in names if name not in OWN_COLOURS]
    own = {name: colour for name, colour in OWN_COLOURS.items() if name in names}
    return own | {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(peers)}


def plot_title(report: Document) -> str:
    machine = report["machine"]
    where = f"{machine['cpu']}, {machine['isa']}, {machine['threads']} threads"
    if report["device"] == "cuda":
        where = f"{machine['device']['gpu']}, CUDA {machine['device']['cuda']}"
    return (
        "medkern is how many times faster than ...\n"
        f"{where}, torch {machine['versions'].get('torch', '?')}, {report['created'][:10]}"
    )


def positions(groups: Sequence[Group]) -> Iterator[tuple[Group, int, bool]]:
    """Each group with its first bar's place and whether it opens a new op (with a heading)."""
    place, op = 0, ""
    for group in groups:
        opens, op = group.op != op, group.op
        place += int(opens)
        yield group, place, opens
        place += group.slots


def draw_pass(axis: Any, name: str, groups: Sequence[Group], colours: dict[str, str]) -> None:
    every = [times for group in groups for _, times in group.bars.get(name, [])]
    for group, first, _ in positions(groups):
        for i, (contender, times) in enumerate(group.bars.get(name, [])):
            # From 1 outwards, so that a loss points to the left.
            axis.barh(first + i, times - 1, left=1, height=0.86, color=colours[contender], lw=0)
            axis.annotate(
                f"{times_text(times)} {contender}",
                (max(times, 1), first + i),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
            )
    low, high = min(0.8, *every, 0.8) * 0.9, max(2.0, *every, 2.0)
    axis.set_xscale("log")
    axis.set_xlim(low, high * (high / low) ** 0.5)  # room for the labels of the longest bars
    axis.axvline(1, color="black", lw=1)
    axis.grid(axis="x", which="major", color="#dddddd", lw=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axis.set_xlabel("speed-up (log scale)", fontsize=9)


def label_groups(axis: Any, groups: Sequence[Group]) -> None:
    """Case names at the middle of their bars, op names in bold above the first case."""
    ticks: list[tuple[float, str, bool]] = []
    end = 0
    for group, first, opens in positions(groups):
        if opens:
            ticks.append((first - 1, group.op, True))
        ticks.append((first + (group.slots - 2) / 2, group.label, False))
        end = first + group.slots
    axis.set_yticks([place for place, _, _ in ticks], [text for _, text, _ in ticks], fontsize=8)
    for label, (_, _, bold) in zip(axis.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if bold else "normal")
    axis.set_ylim(end - 1.2, -0.8)

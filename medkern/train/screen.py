"""What a run shows: a bar that moves with the steps, and a line per epoch that stays."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from medkern.train.loop import Epoch, Training, Watcher


class Screen(Watcher):
    """Prints to a console; the bar only where that is a terminal and `bar` is True."""

    def __init__(self, training: Training, console: Console, *, bar: bool = True) -> None:
        self.training, self.console = training, console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not (bar and console.is_terminal),
            expand=True,
        )
        self.task = self.bar.add_task("", total=training.steps * training.epochs, values="")
        self.metric = ""
        self.has_header = False

    def __enter__(self) -> Screen:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def begin(self, epoch: int, steps: int, done: int) -> None:
        self.bar.update(
            self.task,
            completed=(epoch - 1) * steps + done,
            description=f"epoch {epoch}/{self.training.epochs}",
        )

    def step(self, losses: dict[str, float]) -> None:
        values = f"loss {short(losses['loss'])}{self.metric}"
        self.bar.update(self.task, advance=1, values=values)

    def end(self, epoch: Epoch, is_best: bool) -> None:
        name = self.training.recipe.metric
        self.metric = f"  {name} {short(epoch.metrics[name])}"
        values = {**epoch.losses, **epoch.metrics}
        widths = [max(8, len(name)) for name in values]
        if not self.has_header:
            names = (f"{name:>{width}}" for name, width in zip(values, widths, strict=True))
            self.console.print(f"{'epoch':>9}", *names, f"{'time':>8}", soft_wrap=True)
            self.has_header = True
        cells = (f"{short(v):>{width}}" for v, width in zip(values.values(), widths, strict=True))
        number = f"{epoch.epoch}/{self.training.epochs}"
        seconds = f"{epoch.seconds:.1f} s"
        mark = "  best so far" if is_best else ""
        self.console.print(f"{number:>9}", *cells, f"{seconds:>8}{mark}", soft_wrap=True)


def short(value: float) -> str:
    """Four digits or so.

    >>> [short(v) for v in (0.91234, 12.3456, 12345.6, -0.0000123)]
    ['0.9123', '12.35', '1.23e+04', '-1.23e-05']
    """
    if value and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def make_console(*, quiet: bool) -> Console:
    settings: dict[str, Any] = {"highlight": False, "markup": False, "quiet": quiet}
    return Console(**settings)

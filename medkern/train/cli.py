"""`medkern train NAME`: run a recipe, show its progress, and leave its results in a folder."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import medkern
from medkern import recipes
from medkern.rules import message
from medkern.train import checkpoint, figures, parallel
from medkern.train.loop import Training, settings_of, size_of
from medkern.train.recipe import Options, Recipe
from medkern.train.screen import Screen, make_console
from medkern.train.stopping import Stopped

FILES = ("metrics.json", "curves.png", "panel.png", "checkpoint.pt")


def main(argv: Sequence[str]) -> int:
    """Run the recipe that the first argument names; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return 0 if argv else 2
    try:
        kind = recipes.load(argv[0])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return run(kind, argv[1:])


def overview() -> str:
    lines = ["usage: medkern train NAME [options]", "", "recipes:"]
    lines += [f"  {name:10} {recipes.load(name).summary}" for name in recipes.names()]
    return "\n".join([*lines, "", "medkern train NAME --help shows the options of one."])


def run(kind: type[Recipe], argv: Sequence[str]) -> int:
    """Train one kind of recipe with these arguments; returns the exit code.

    0: done, and with --quick the threshold is reached; 1: it is not, or an error, which is told;
    130 (SIGINT) or 143 (SIGTERM): stopped and saved.
    """
    arguments = parser_of(kind).parse_args(argv)
    try:
        recipe = kind(options_of(arguments))
        with parallel.joined() as world, backend_of(arguments.backend):
            return train(recipe, arguments, world, [a for a in argv if a != "--resume"])
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(error, file=sys.stderr)
        return 1


def parser_of(kind: type[Recipe]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"medkern train {kind.name}", description=kind.summary)
    add = parser.add_argument
    add("--quick", action="store_true", help="small and short; fails below the threshold")
    add("--seed", type=int, default=0, help="of data, weights and order; default: 0")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...; default: cpu")
    add("--epochs", type=positive, metavar="N", help=f"default: {kind.epochs}")
    add("--batch-size", type=positive, metavar="N", help=f"default: {kind.batch_size}")
    add("--learning-rate", type=float, metavar="X", help=f"default: {kind.learning_rate}")
    add("--out", type=Path, metavar="DIR", help=f"for the results; default: runs/{kind.name}")
    add("--data", type=Path, metavar="DIR", help="train on your own images; see the docs")
    add("--workers", type=int, default=0, metavar="N", help="processes that load data; default: 0")
    add("--backend", choices=("auto", "reference"), default="auto", help="kernels, or plain torch")
    add("--resume", action="store_true", help="go on with the run in DIR, if there is one")
    add("--no-progress", action="store_true", help="no moving bar; a line per epoch all the same")
    kind.add_options(parser.add_argument_group("of this recipe"))  # type: ignore[arg-type]
    return parser


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def options_of(arguments: argparse.Namespace) -> Options:
    given = dict(vars(arguments))
    for name in ("out", "resume", "no_progress"):
        given.pop(name)
    common = {name: given.pop(name) for name in Options.__dataclass_fields__ if name in given}
    return Options(**common, own=given)


def backend_of(name: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if name == "auto" else medkern.use_backend(name)


def train(
    recipe: Recipe, arguments: argparse.Namespace, world: parallel.World, argv: Sequence[str]
) -> int:
    folder = arguments.out or Path("runs") / recipe.name
    console = make_console(quiet=not world.is_first)
    found = check_folder(folder, arguments.resume)
    training = Training(recipe, folder, world)
    console.print(headline(training), soft_wrap=True)
    if found and arguments.resume:
        training.load()
        done = training.progress
        where = f"{done.epoch} epochs and {done.step} steps"
        console.print(f"resuming {folder} after {where}", soft_wrap=True)
    try:
        with Screen(training, console, bar=not arguments.no_progress) as screen:
            training.run(screen)
    except Stopped as stopped:
        again = f"medkern train {recipe.name} {shlex.join(argv)} --resume"
        console.print(f"stopped ({stopped}) and saved; go on with: {again}", soft_wrap=True)
        return stopped.exit_code
    if not world.is_first:
        return 0
    return conclude(training, folder, console)


def check_folder(folder: Path, resume: bool) -> bool:
    """Whether there is a run in the folder; one that is not to go on must not be lost."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return False
    if not resume and not checkpoint.load(path)["settings"]["quick"]:
        rule = "be a folder without a run"
        remedy = "go on with --resume, give --out another folder, or delete this one"
        raise ValueError(message("train", "out", rule, folder, remedy))
    return True


def headline(training: Training) -> str:
    recipe, model = training.recipe, training.model
    parameters = sum(p.numel() for p in model.parameters())
    own = ", ".join(f"{name} {value}" for name, value in vars(recipe.own).items())
    return (
        f"{recipe.name}: {recipe.summary}{f' ({own})' if own else ''}\n"
        f"{type(model).__name__} with {parameters:,} parameters, "
        f"{size_of(training.data)} training and {size_of(training.validation)} validation items, "
        f"{training.steps} steps of {training.batch_size} per epoch, "
        f"{recipe.options.device} with {torch.get_num_threads()} threads"
    )


def conclude(training: Training, folder: Path, console: Any) -> int:
    """Write the results and say whether they are what they should be."""
    recipe, progress = training.recipe, training.progress
    best = progress.best
    assert best is not None
    value = best.metrics[recipe.metric]
    passed = recipe.passes(value)
    write_metrics(training, passed, folder / "metrics.json")
    training.model.load_state_dict(best.model)
    training.model.eval()
    figures.save(figures.curves(recipe, progress), folder / "curves.png")
    with torch.no_grad():
        figures.save(recipe.panel(training.model, training.validation), folder / "panel.png")
    verdict = ""
    if recipe.quick:  # the threshold is for that data
        bound = "at most" if recipe.lower_is_better else "at least"
        outcome = "passed" if passed else "missed"
        verdict = f"; {bound} {recipe.threshold} expected: {outcome}"
    console.print(f"best {recipe.metric} {value:.4f} in epoch {best.epoch}{verdict}")
    console.print(f"wrote {', '.join(str(folder / name) for name in FILES)}", soft_wrap=True)
    return 1 if recipe.quick and not passed else 0


def write_metrics(training: Training, passed: bool, path: Path) -> None:
    recipe, progress = training.recipe, training.progress
    best = progress.best
    results = {
        "settings": settings_of(recipe),
        "versions": {"medkern": medkern.__version__, "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "processes": training.world.size,
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "metric": recipe.metric,
        "threshold": recipe.threshold,
        "passed": passed,
        "best": best and {"epoch": best.epoch, **best.metrics},
        "ms_per_step": statistics.median(record.ms_per_step for record in progress.history),
        "seconds": sum(record.seconds for record in progress.history),
        "history": [asdict(record) for record in progress.history],
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


def load_model(folder: str | Path, device: str = "cpu") -> torch.nn.Module:
    """The network of a finished run, with the weights of its best epoch, in evaluation mode.

    Args:
        folder: what `--out` was.
        device: where to put it.
    """
    state = checkpoint.load(Path(folder) / "checkpoint.pt", device)
    kept = state["settings"]
    names = ("seed", "epochs", "batch_size", "learning_rate", "quick", "own")
    data = kept["data"] and Path(kept["data"])
    options = Options(**{name: kept[name] for name in names}, data=data, device=device)
    model = recipes.load(kept["recipe"])(options).model().to(device)
    model.load_state_dict(state["progress"]["best"]["model"])
    return model.eval()

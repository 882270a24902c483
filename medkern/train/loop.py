"""The training loop, plain PyTorch: the one that every recipe runs in.

What happens in a step depends on the seed, the step and the process alone: the order of the items,
their augmentation and the random numbers are drawn anew from these. So a run that was stopped and
resumed, in the middle of an epoch too, is the run that was not, and one on two processes sees the
batches of one process, cut in half.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

import medkern
from medkern.data.seeding import generator_of, seed_of
from medkern.rules import message
from medkern.train import checkpoint
from medkern.train.parallel import World
from medkern.train.recipe import Batch, Recipe, Step
from medkern.train.stopping import Stopped, StopRequest, stop_requests


@dataclass
class Epoch:
    """What is kept of an epoch: means of the losses over its steps, metrics, and its pace."""

    epoch: int  # from 1
    losses: dict[str, float]
    metrics: dict[str, float]
    seconds: float
    ms_per_step: float  # median, data loading not included
    ms_data: float  # median wait for a batch


@dataclass
class Best:
    """The epoch with the best metric, and its weights."""

    epoch: int
    metrics: dict[str, float]
    model: dict[str, Tensor] = field(repr=False)


@dataclass
class Progress:
    """How far a run is: all that a checkpoint holds beside model, optimiser and scheduler."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch after these
    sums: dict[str, float] = field(default_factory=dict)  # of the losses of those steps
    history: list[Epoch] = field(default_factory=list)
    best: Best | None = None


class Watcher:
    """What the loop tells while it runs; this one does not listen."""

    def begin(self, epoch: int, steps: int, done: int) -> None:
        """An epoch of so many steps starts, or goes on after `done` of them."""

    def step(self, losses: dict[str, float]) -> None:
        """A step is done; the means so far of the epoch's losses."""

    def end(self, epoch: Epoch, is_best: bool) -> None:
        """An epoch is done and evaluated."""


class Objective(nn.Module):
    """A recipe's loss as a module, which DistributedDataParallel can wrap whatever it calls."""

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        super().__init__()
        self.recipe, self.model = recipe, model

    def forward(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        return self.recipe.loss(self.model, batch, step)


class Training:
    """A run: model, optimiser, scheduler and progress, which it can save and load."""

    def __init__(self, recipe: Recipe, folder: Path | None = None, world: World | None = None):
        options = recipe.options
        self.recipe, self.folder, self.world = recipe, folder, world or World()
        self.epochs, self.batch_size = recipe.epochs, recipe.batch_size
        self.data, self.validation = recipe.train_data(), recipe.validation_data()
        self.steps = check_sizes(size_of(self.data), self.batch_size, self.world.size)
        torch.manual_seed(options.seed)
        self.model = recipe.model().to(options.device)
        self.objective = self.world.wrap(Objective(recipe, self.model))
        self.optimizer = recipe.optimizer(self.model)
        self.scheduler = recipe.scheduler(self.optimizer, self.steps * self.epochs)
        self.progress = Progress()

    def run(self, watcher: Watcher | None = None) -> Progress:
        """Train to the last epoch; a checkpoint after each.

        Raises:
            Stopped: a signal came; the step was finished and a checkpoint written.
            FloatingPointError: the loss is not finite.
        """
        watcher = watcher or Watcher()
        with stop_requests() as stop:
            while self.progress.epoch < self.epochs:
                start = time.perf_counter()
                losses, paces = self.train_epoch(watcher, stop)
                metrics = self.world.from_first(self.evaluate)
                seconds = time.perf_counter() - start
                record = Epoch(self.progress.epoch + 1, losses, metrics, seconds, *paces)
                watcher.end(record, self.finish(record))
                self.save()
        return self.progress

    def train_epoch(
        self, watcher: Watcher, stop: StopRequest
    ) -> tuple[dict[str, float], list[float]]:
        """The steps of the current epoch that are still to do; mean losses, and ms per step."""
        progress = self.progress
        watcher.begin(progress.epoch + 1, self.steps, progress.step)
        self.model.train()
        waits, works = [], []
        ready = time.perf_counter()
        for batch in self.batches(progress.epoch, progress.step):
            begun = time.perf_counter()
            losses = self.train_step(batch)
            for name, value in losses.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.step += 1
            watcher.step({name: total / progress.step for name, total in progress.sums.items()})
            waits.append(begun - ready)
            ready = time.perf_counter()
            works.append(ready - begun)
            if self.world.any(bool(stop)):
                self.save()
                raise Stopped(stop.number or 2)
        means = {name: total / progress.step for name, total in progress.sums.items()}
        return means, [1e3 * statistics.median(times or [0.0]) for times in (works, waits)]

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Forward, backward and update; the losses, averaged over the processes."""
        step = self.position()
        losses = self.objective(self.recipe.to_device(batch), step)
        values = self.world.mean({name: value.item() for name, value in losses.items()})
        if not math.isfinite(values["loss"]):
            where = f"{values['loss']} in step {step.index} (epoch {step.epoch + 1})"
            remedy = "lower the learning rate or look for bad values in the data"
            raise FloatingPointError(message("train", "loss", "stay finite", where, remedy))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimizer.step()
        if self.scheduler is not None and not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        return values

    def position(self) -> Step:
        """The step to come; from here on, random numbers depend on it alone."""
        seed, device, progress = self.recipe.options.seed, self.recipe.options.device, self.progress
        index = progress.epoch * self.steps + progress.step
        torch.manual_seed(seed_of("dropout", seed, index, self.world.rank))
        return Step(
            index=index,
            steps=self.steps * self.epochs,
            epoch=progress.epoch,
            epochs=self.epochs,
            generator=generator_of("step", seed, index, self.world.rank, device=device),
        )

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """This process's share of the epoch's batches, from `first` on."""
        options = self.recipe.options
        random = generator_of("order", options.seed, epoch)
        order = torch.randperm(size_of(self.data), generator=random)
        whole = order[: self.steps * self.batch_size].view(self.steps, self.batch_size)
        share = whole[first:, self.world.rank :: self.world.size].tolist()
        augmented = Augmented(self.data, self.recipe, epoch)
        return iter(DataLoader(augmented, batch_sampler=share, num_workers=options.workers))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        return self.recipe.evaluate(self.model, self.validation)

    def finish(self, record: Epoch) -> bool:
        """Close the epoch; whether it is the best one so far."""
        recipe, progress = self.recipe, self.progress
        value = record.metrics[recipe.metric]
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(value)
        progress.epoch, progress.step, progress.sums = record.epoch, 0, {}
        progress.history.append(record)
        before = progress.best
        is_best = recipe.is_better(value, before.metrics[recipe.metric] if before else None)
        if is_best:
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            progress.best = Best(record.epoch, record.metrics, weights)
        return is_best

    def save(self) -> None:
        if self.folder is None or not self.world.is_first:
            return
        state = {
            "medkern": medkern.__version__,
            "settings": settings_of(self.recipe),
            "progress": {
                **vars(self.progress),
                "history": [vars(record) for record in self.progress.history],
                "best": self.progress.best and vars(self.progress.best),
            },
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler and self.scheduler.state_dict(),
        }
        checkpoint.save(state, self.folder / "checkpoint.pt")

    def load(self) -> None:
        """Go on where the checkpoint in the folder is.

        Raises:
            ValueError: it is of a run with other settings.
        """
        assert self.folder is not None
        state = checkpoint.load(self.folder / "checkpoint.pt", self.recipe.options.device)
        check_settings(state["settings"], settings_of(self.recipe))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        kept = state["progress"]
        best = kept["best"] and Best(**kept["best"])
        history = [Epoch(**record) for record in kept["history"]]
        self.progress = Progress(**{**kept, "history": history, "best": best})


@dataclass(frozen=True)
class Augmented(Dataset[Batch]):
    """The training items of one epoch, as the recipe augments them."""

    data: Dataset[Batch]
    recipe: Recipe
    epoch: int

    def __getitem__(self, index: int) -> Batch:
        generator = generator_of("augment", self.recipe.options.seed, self.epoch, index)
        return self.recipe.augment(self.data[index], generator)


def size_of(data: Dataset[Batch]) -> int:
    """The length that every map-style dataset has, though torch declares none."""
    return len(data)  # type: ignore[arg-type]


def check_sizes(items: int, batch_size: int, processes: int) -> int:
    """The number of steps of an epoch."""
    if batch_size % processes:
        rule = f"be a multiple of the {processes} processes"
        raise ValueError(message("train", "batch size", rule, batch_size, "pass --batch-size"))
    if items < batch_size:
        rule = f"be at most the number of training items, {items}"
        raise ValueError(message("train", "batch size", rule, batch_size, "pass --batch-size"))
    return items // batch_size


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """What a run is determined by, in plain values."""
    options = recipe.options
    return {
        "recipe": recipe.name,
        "seed": options.seed,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "quick": options.quick,
        "data": options.data and str(options.data),
        "backend": options.backend,
        "device": options.device,
        "own": vars(recipe.own),
    }


MAY_CHANGE = ("epochs", "device", "backend")


def check_settings(saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise unless a run with the settings `given` may go on from one with those `saved`."""
    for name in saved.keys() - set(MAY_CHANGE):
        if saved[name] != given[name]:
            rule = f"be that of the checkpoint, {saved[name]!r}"
            remedy = "give the run another --out, or the option of the checkpoint"
            raise ValueError(message("train", name, rule, repr(given[name]), remedy))

"""What a recipe says: data, model, loss and evaluation. The loop does the rest."""

from __future__ import annotations

import argparse
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Batch = dict[str, Tensor]
"""What collated items of a dataset are: tensors by name, the batch axis first."""


@dataclass(frozen=True)
class Options:
    """How to run a recipe; `own` holds the options that the recipe itself adds, by name.

    None leaves a number to the recipe.
    """

    seed: int = 0
    device: str = "cpu"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    quick: bool = False
    data: Path | None = None
    workers: int = 0
    backend: str = "auto"
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """Where a training step is in the run.

    `generator` is for the randomness of the step: it depends on the seed, the step and the process
    alone, so that a resumed run draws what an uninterrupted one would have drawn.
    """

    index: int  # among all steps of the run, from 0
    steps: int  # of the run
    epoch: int
    epochs: int
    generator: torch.Generator

    @property
    def progress(self) -> float:
        """The share of the run that is done: from 0 to less than 1. For ramps of weights."""
        return self.index / self.steps


class Recipe(ABC):
    """One system: its data, its model, its loss, and how it is evaluated.

    A subclass is a page of code. The loop calls, in this order, `train_data`, `validation_data`,
    `model`, `optimizer` and `scheduler` once; then for every step `augment` on the items and `loss`
    on the batch; after every epoch `evaluate`; and at the end `panel`, with the best weights.

    Attributes:
        name: what it is called on the command line: the name of its module in `medkern.recipes`.
        summary: one line for the help.
        metric: the entry of `evaluate` that chooses the best epoch.
        lower_is_better: whether that entry is an error rather than a score.
        threshold: what the metric must reach with `--quick`.
        epochs, batch_size, learning_rate: of the class, the defaults; of a recipe, what is used.
        quick_epochs: what `epochs` is with `--quick`.
        options: how it is run.
        own: the recipe's own options, `own.map` for `--map`.
        quick: short for `options.quick`: make the data smaller.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    metric: ClassVar[str] = "dice"
    lower_is_better: ClassVar[bool] = False
    threshold: ClassVar[float]
    epochs: int = 50
    quick_epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 1e-3

    def __init__(self, options: Options | None = None) -> None:
        self.options = options = options or Options()
        self.own = argparse.Namespace(**{**self.own_defaults(), **options.own})
        self.quick = options.quick
        self.epochs = options.epochs or (self.quick_epochs if self.quick else self.epochs)
        self.batch_size = options.batch_size or self.batch_size
        self.learning_rate = options.learning_rate or self.learning_rate

    # What a recipe must say.

    @abstractmethod
    def train_data(self) -> Dataset[Batch]:
        """A map-style dataset whose items are dicts of tensors."""

    @abstractmethod
    def validation_data(self) -> Dataset[Batch]:
        """As `train_data`, with full annotations."""

    @abstractmethod
    def model(self) -> nn.Module: ...

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Scalars by name. "loss" is minimised; the others are recorded. Means over the samples."""

    @abstractmethod
    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        """Metrics by name, `metric` among them. In evaluation mode, without gradients."""

    @abstractmethod
    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        """A matplotlib Figure of example predictions. In evaluation mode, without gradients."""

    # What it may say.

    @classmethod  # noqa: B027
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add the recipe's own options; they arrive in `self.own`."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.learning_rate)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """A scheduler or None. It is stepped after each of the `steps` steps of the run;
        ReduceLROnPlateau after each epoch, with the metric."""
        return None

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        """Change one training item, in the data pipeline. The generator depends on the seed, the
        epoch and the item alone, so that the outcome does not depend on workers or processes."""
        return item

    # What it may use.

    @classmethod
    def own_defaults(cls) -> dict[str, Any]:
        return cls._parsed(())

    @classmethod
    def with_options(cls, *own: str, **options: Any) -> Recipe:
        """The recipe as the command line makes it: own options as text, common ones by name.

        >>> from medkern.recipes.points import Points
        >>> recipe = Points.with_options("--map", "geodesic", quick=True)
        >>> recipe.own.map, recipe.epochs == Points.quick_epochs
        ('geodesic', True)
        """
        return cls(Options(own=cls._parsed(own), **options))

    @classmethod
    def _parsed(cls, own: Sequence[str]) -> dict[str, Any]:
        parser = argparse.ArgumentParser(prog=cls.name, add_help=False)
        cls.add_options(parser)
        return vars(parser.parse_args(own))

    def batches(self, data: Dataset[Batch]) -> Iterator[Batch]:
        """All of a dataset in order, batched, on the device: for `evaluate` and `panel`."""
        for batch in DataLoader(data, self.batch_size, num_workers=self.options.workers):
            yield self.to_device(batch)

    def to_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.options.device) for name, value in batch.items()}

    def is_better(self, value: float, than: float | None) -> bool:
        if than is None or math.isnan(than):
            return True
        return value < than if self.lower_is_better else value > than

    def passes(self, value: float) -> bool:
        """Whether the metric reaches the threshold."""
        return value <= self.threshold if self.lower_is_better else value >= self.threshold

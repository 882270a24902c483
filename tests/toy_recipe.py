"""The smallest recipe: a line through points. Quick, without batch norm, for tests of the loop.

As a script, what `medkern train toy` would be: for tests that need processes of their own.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import Dataset

from medkern.train import Batch, Recipe, Step
from medkern.train.cli import run


class Line(Dataset[Batch]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Batch:
        if index < 0 or index >= 24:
            raise IndexError(index)
        x = torch.tensor([index / 24])
        return {"x": x, "y": 2 * x + 1}


class Toy(Recipe):
    name, summary = "toy", "a line through points"
    metric, lower_is_better, threshold = "error", True, 0.5
    epochs, quick_epochs, batch_size, learning_rate = 4, 40, 6, 0.05

    @classmethod
    def add_options(cls, parser: Any) -> None:
        parser.add_argument("--noise", type=float, default=0.01)

    def train_data(self) -> Dataset[Batch]:
        return Line()

    validation_data = train_data

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4, 1))

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, steps)

    def augment(self, item: Batch, generator: torch.Generator) -> Batch:
        noise = self.own.noise * torch.randn(1, generator=generator)
        return {**item, "x": item["x"] + noise}

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        if os.environ.get("TOY_SIGNAL") == str(step.index):
            signal.raise_signal(int(os.environ["TOY_NUMBER"]))
        square = (model(batch["x"]) - batch["y"]).square().mean()
        return {"loss": square * (1 - 0.5 * step.progress), "square": square}

    def evaluate(self, model: nn.Module, data: Dataset[Batch]) -> dict[str, float]:
        errors = [(model(b["x"]) - b["y"]).abs().mean().item() for b in self.batches(data)]
        return {"error": sum(errors) / len(errors)}

    def panel(self, model: nn.Module, data: Dataset[Batch]) -> Any:
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([model(data[i]["x"]).item() for i in range(24)])
        return figure


class PlainToy(Toy):
    """Without dropout, so that two processes can do exactly what one does."""

    name = "plain"

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


if __name__ == "__main__":
    kind = {"toy": Toy, "plain": PlainToy}[sys.argv[1]]
    sys.exit(run(kind, sys.argv[2:]))

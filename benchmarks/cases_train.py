"""A whole training step of every recipe: forward, backward and update, with our kernels and with
the plain PyTorch references in their place.

A step includes loading its batch, where recipes measure maps and augment. Data and batch are those
of `medkern train NAME --quick`; the learning rate is 0, so that every call is the same step, whose
losses are compared. The list grows by itself as recipes do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import torch

import medkern
from medkern import recipes
from medkern.benchmarks.registry import Case
from medkern.train import Options, Training


def cases() -> Iterable[Case]:
    for name in recipes.names():
        yield step_case(name)
    yield step_case("points", batch_size=2, quick=True)


def step_case(name: str, *, batch_size: int | None = None, quick: bool = False) -> Case:
    step = functools.partial(step_of, name, batch_size)
    return Case(
        op="train",
        name=f"train/{name}" if batch_size is None else f"train/{name}/batch_{batch_size}",
        inputs=lambda: (),
        native=lambda: step()(),
        reference=lambda: by_reference(step()),
        tolerance=1e-3,
        backward=False,
        quick=quick,
        compile=False,
        memory=True,
        devices=("cpu",),
    )


@functools.cache
def step_of(name: str, batch_size: int | None) -> Callable[[], torch.Tensor]:
    """The first step of a recipe; its losses."""
    training = Training(recipes.load(name)(Options(quick=True, batch_size=batch_size)))
    training.model.train()
    training.scheduler = None
    for group in training.optimizer.param_groups:
        group["lr"] = 0.0

    @torch.enable_grad()  # a forward pass is timed without
    def step() -> torch.Tensor:
        losses = training.train_step(next(training.batches(0, 0)))
        return torch.tensor(list(losses.values()), dtype=torch.float64)

    return step


def by_reference(step: Callable[[], torch.Tensor]) -> torch.Tensor:
    with medkern.use_backend("reference"):
        return step()

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
        yield step_case(name, quick=name == "points")


def step_case(name: str, *, quick: bool) -> Case:
    return Case(
        op="train",
        name=f"train/{name}/quick",
        inputs=lambda: (),
        native=lambda: step_of(name)(),
        reference=lambda: by_reference(step_of(name)),
        tolerance=1e-3,
        backward=False,
        quick=quick,
        compile=False,
        memory=True,
        devices=("cpu",),
    )


@functools.cache
def step_of(name: str) -> Callable[[], torch.Tensor]:
    """The first step of a recipe; its losses."""
    training = Training(recipes.load(name)(Options(quick=True)))
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

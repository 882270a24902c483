"""The processes of one run: torchrun's, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """How many processes train together, and which one this is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Average the gradients over the processes; one alone stays as it is."""
        return module if self.size == 1 else DistributedDataParallel(module)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in one process at least."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of each value."""
        if self.size == 1:
            return values
        sums = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(sums)
        return dict(zip(values, (sums / self.size).tolist(), strict=True))

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them."""
        made: list[Any] = [make() if self.is_first else None]
        if self.size > 1:
            distributed.broadcast_object_list(made)
        value: T = made[0]
        return value


@contextmanager
def joined() -> Iterator[World]:
    """The world that torchrun describes in the environment, joined for the block (gloo)."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World()
        return
    distributed.init_process_group("gloo")
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()

"""Peak memory on a CPU, whose allocator keeps no count: that of the tensors alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all storages that operations inside the block make, until they are gone.

    `peak` is the most there were at the end of an operation; what a kernel allocates for its own
    use is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = set(storages((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        made = {ref: size for ref, size in storages(result).items() if ref not in given}
        kept = {ref: size for ref, size in self.alive.items() if not ref.expired()}
        self.alive = kept | made
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def storages(values: Any) -> dict[StorageWeakRef, int]:
    found = (t.untyped_storage() for t in tree_leaves(values) if isinstance(t, torch.Tensor))
    return {StorageWeakRef(storage): storage.nbytes() for storage in found}

"""A dataset whose items are made once."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, TypeVar

from torch.utils.data import Dataset

T = TypeVar("T")


class Kept(Dataset[T]):
    """The items of another dataset, each kept in memory from its first use on.

    What is returned is the item itself: augment a copy. With workers, each of these keeps its own.

    >>> from medkern.data.kept import Kept
    >>> from medkern.data import FundusImages
    >>> data = Kept(FundusImages(2, size=32))
    >>> data[1] is data[1], len(data)
    (True, 2)
    """

    def __init__(self, data: Dataset[T]) -> None:
        assert isinstance(data, Sized)
        self.data = data
        self.items: list[Any] = [None] * len(data)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> T:
        if self.items[index] is None:
            self.items[index] = self.data[index]
        item: T = self.items[index]
        return item

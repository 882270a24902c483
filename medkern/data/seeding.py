"""Random generators by key, so that an item does not depend on what was drawn before it."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*key: int | str) -> int:
    """A 63-bit seed that depends on every part of the key.

    >>> from medkern.data.seeding import seed_of
    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_of(*key: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator seeded with `seed_of(*key)`: `generator_of(seed, index)` for item `index`."""
    return torch.Generator(device).manual_seed(seed_of(*key))

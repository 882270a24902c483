"""Philox 4x32-10, a random number as a function of a counter and a key, and normals from it.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Words are int64 tensors with
values below 2**32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what each round adds to the key

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Four random words of each counter, all of one shape after broadcasting."""
    a, b, c, d = torch.broadcast_tensors(*counter)
    k, m = key
    for _ in range(10):
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]  # modulo 2**64
        a, b, c, d = (
            _high(second) ^ b ^ k,
            second & WORD,
            _high(first) ^ d ^ m,
            first & WORD,
        )
        k, m = (k + WEYL[0]) & WORD, (m + WEYL[1]) & WORD
    return a, b, c, d


def normals(words: Words) -> Words:
    """Four standard normal numbers in float64, by Box and Muller, from 24 bits of each word."""
    return (*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3]))


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    u = ((first >> 8) + 1).double() * 2.0**-24  # in (0, 1]
    angle = (second >> 8).double() * (2 * math.pi * 2.0**-24)
    radius = (-2 * u.log()).sqrt()
    return radius * angle.cos(), radius * angle.sin()


def _high(product: Tensor) -> Tensor:
    return (product >> 32) & WORD

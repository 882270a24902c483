"""Images to try things on: real ones that ship inside PyPI packages, and made-up ones.

`load` reads a real image from disk; nothing is ever downloaded. The generators are datasets of
phantoms whose item i depends on the seed and on i alone, whatever the number of workers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medkern.data.samples import Sample, as_planes, as_volume, available, describe, load, names

if TYPE_CHECKING:
    from medkern.data.brain import BrainPhantoms, Pairs
    from medkern.data.cardiac import CardiacSlices
    from medkern.data.cubes import OrderCubes, TissueCubes
    from medkern.data.fundus import FundusImages
    from medkern.data.shapes import OverlappingShapes
    from medkern.data.ultrasound import UltrasoundLesions

# Where the generators are; they need torch, which reading a real image does not.
_GENERATORS = {
    "BrainPhantoms": "brain",
    "CardiacSlices": "cardiac",
    "FundusImages": "fundus",
    "OrderCubes": "cubes",
    "OverlappingShapes": "shapes",
    "Pairs": "brain",
    "TissueCubes": "cubes",
    "UltrasoundLesions": "ultrasound",
}

__all__ = [
    "BrainPhantoms",
    "CardiacSlices",
    "FundusImages",
    "OrderCubes",
    "OverlappingShapes",
    "Pairs",
    "Sample",
    "TissueCubes",
    "UltrasoundLesions",
    "as_planes",
    "as_volume",
    "available",
    "describe",
    "load",
    "names",
]


def __getattr__(name: str) -> Any:
    if name not in _GENERATORS:
        raise AttributeError(f"module 'medkern.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"medkern.data.{_GENERATORS[name]}"), name)

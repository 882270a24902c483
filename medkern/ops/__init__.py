"""The ops: public functions, their definitions and their derivatives, one module per family."""

from medkern.backend import load_libraries
from medkern.ops.euclidean import euclidean_distance
from medkern.ops.haar import haar_dwt, haar_idwt, haar_pool, haar_wavedec, haar_waverec
from medkern.ops.surface import (
    average_surface_distance,
    hausdorff_distance,
    normalized_surface_dice,
)

__all__ = [
    "average_surface_distance",
    "euclidean_distance",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "hausdorff_distance",
    "normalized_surface_dice",
]

load_libraries()

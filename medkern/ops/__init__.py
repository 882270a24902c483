"""The ops: public functions, their definitions and their derivatives, one module per family."""

from medkern.backend import load_libraries
from medkern.ops.barrier import max_distance_along_path, minimum_barrier_distance
from medkern.ops.haar import haar_dwt, haar_idwt, haar_pool, haar_wavedec, haar_waverec

__all__ = [
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "max_distance_along_path",
    "minimum_barrier_distance",
]

load_libraries()

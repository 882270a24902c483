"""The ops: public functions, their definitions and their derivatives, one module per family."""

from medkern.backend import load_libraries
from medkern.ops.boundary import boundary_loss
from medkern.ops.haar import haar_dwt, haar_idwt, haar_pool, haar_wavedec, haar_waverec

__all__ = [
    "boundary_loss",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
]

load_libraries()

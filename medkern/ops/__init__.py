"""The ops: public functions, their definitions and their derivatives, one module per family."""

from medkern.backend import load_libraries
from medkern.ops.geodesic import (
    Geodesic,
    GeodesicInfo,
    chamfer_distance,
    geodesic_distance,
    geodesic_path,
    intensity_distance,
)
from medkern.ops.haar import haar_dwt, haar_idwt, haar_pool, haar_wavedec, haar_waverec

__all__ = [
    "Geodesic",
    "GeodesicInfo",
    "chamfer_distance",
    "geodesic_distance",
    "geodesic_path",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "intensity_distance",
]

load_libraries()

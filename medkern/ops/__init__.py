"""The ops: public functions, their definitions and their derivatives, one module per family."""

from medkern.backend import load_libraries
from medkern.ops.barrier import max_distance_along_path, minimum_barrier_distance
from medkern.ops.boundary import (
    boundary_loss,
)
from medkern.ops.euclidean import (
    euclidean_distance,
)
from medkern.ops.geodesic import (
    chamfer_distance,
    geodesic_distance,
    geodesic_path,
    intensity_distance,
)
from medkern.ops.haar import (
    haar_dwt,
    haar_idwt,
    haar_pool,
    haar_wavedec,
    haar_waverec,
)
from medkern.ops.maps import signed_distance_map
from medkern.ops.spectral import hartley_conv, spectral_conv
from medkern.ops.surface import (
    average_surface_distance,
    hausdorff_distance,
    normalized_surface_dice,
)
from medkern.rules.geodesic import Geodesic, GeodesicInfo

__all__ = [
    "Geodesic",
    "GeodesicInfo",
    "average_surface_distance",
    "boundary_loss",
    "chamfer_distance",
    "euclidean_distance",
    "geodesic_distance",
    "geodesic_path",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "hartley_conv",
    "hausdorff_distance",
    "intensity_distance",
    "max_distance_along_path",
    "minimum_barrier_distance",
    "normalized_surface_dice",
    "signed_distance_map",
    "spectral_conv",
]

load_libraries()

"""The ops: public functions, their definitions and their derivatives, one module per family."""

from medkern.backend import load_libraries
from medkern.ops.augment import amplitude_mix, amplitude_swap, spectral_amplitude_jitter
from medkern.ops.barrier import max_distance_along_path, minimum_barrier_distance
from medkern.ops.boundary import (
    boundary_loss,
)
from medkern.ops.calibration import expected_calibration_error, maximum_calibration_error
from medkern.ops.compose import compose, integrate_velocity
from medkern.ops.convlstm import convlstm
from medkern.ops.convlstm_cell import convlstm_gates
from medkern.ops.correlation import frequency_ring_correlation, spectral_correlation
from medkern.ops.euclidean import (
    euclidean_distance,
)
from medkern.ops.field import diffusion_smoothness_loss, jacobian_determinant
from medkern.ops.fourier import fft_amplitude_loss, fft_phase_loss, focal_frequency_loss
from medkern.ops.fourier_epilogue import fourier_epilogue
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
from medkern.ops.segmentation import segmentation_loss
from medkern.ops.similarity import global_ncc, local_ncc_loss, mutual_information_loss
from medkern.ops.spectral import hartley_conv, spectral_conv
from medkern.ops.surface import (
    average_surface_distance,
    hausdorff_distance,
    normalized_surface_dice,
)
from medkern.ops.warp import warp
from medkern.rules.geodesic import Geodesic, GeodesicInfo

__all__ = [
    "Geodesic",
    "GeodesicInfo",
    "amplitude_mix",
    "amplitude_swap",
    "average_surface_distance",
    "boundary_loss",
    "chamfer_distance",
    "compose",
    "convlstm",
    "convlstm_gates",
    "diffusion_smoothness_loss",
    "euclidean_distance",
    "expected_calibration_error",
    "fft_amplitude_loss",
    "fft_phase_loss",
    "focal_frequency_loss",
    "fourier_epilogue",
    "frequency_ring_correlation",
    "geodesic_distance",
    "geodesic_path",
    "global_ncc",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "hartley_conv",
    "hausdorff_distance",
    "integrate_velocity",
    "intensity_distance",
    "jacobian_determinant",
    "local_ncc_loss",
    "max_distance_along_path",
    "maximum_calibration_error",
    "minimum_barrier_distance",
    "mutual_information_loss",
    "normalized_surface_dice",
    "segmentation_loss",
    "signed_distance_map",
    "spectral_amplitude_jitter",
    "spectral_conv",
    "spectral_correlation",
    "warp",
]

load_libraries()

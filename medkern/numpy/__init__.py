"""The ops on NumPy arrays, without torch: for scripts and services that never import it.

Same names, arguments and results as in `medkern`; arrays in, new C-contiguous arrays out, computed
by `medkern._core` on `get_num_threads()` threads. bfloat16 and gradients need torch.

>>> import numpy as np, medkern.numpy as mkn
>>> mkn.haar_pool(np.array([[1.0, 2.0], [3.0, 4.0]]), "iewa")
array([[2.]])
"""

from __future__ import annotations

from medkern.numpy.arrays import get_num_threads, set_num_threads
from medkern.numpy.barrier import max_distance_along_path, minimum_barrier_distance
from medkern.numpy.euclidean import euclidean_distance
from medkern.numpy.geodesic import chamfer_distance, geodesic_distance, intensity_distance
from medkern.numpy.haar import haar_dwt, haar_idwt, haar_pool, haar_wavedec, haar_waverec

__all__ = [
    "chamfer_distance",
    "euclidean_distance",
    "geodesic_distance",
    "get_num_threads",
    "haar_dwt",
    "haar_idwt",
    "haar_pool",
    "haar_wavedec",
    "haar_waverec",
    "intensity_distance",
    "max_distance_along_path",
    "minimum_barrier_distance",
    "set_num_threads",
]

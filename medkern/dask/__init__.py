"""Distance transforms of volumes larger than memory, on Dask arrays.

Each chunk is solved by the kernel of the in-memory function, and the result is the in-memory one,
bit for bit. Dask schedules: threads, processes or a cluster, whatever the caller has set up.

>>> import dask.array as da, numpy as np, medkern.dask
>>> image = da.zeros((6, 8), chunks=4)
>>> seeds = da.from_array(np.eye(6, 8, dtype=bool), chunks=4)
>>> medkern.dask.geodesic_distance(image, seeds, lam=1.0)[0, 3:6].compute()
array([2.41421356, 2.82842712, 3.82842712])
>>> medkern.dask.euclidean_distance(~seeds)[0, 3:6].compute()
array([2.236068 , 2.828427 , 3.6055512], dtype=float32)
"""

from medkern.dask.euclidean import euclidean_distance
from medkern.dask.geodesic import geodesic_distance

__all__ = ["euclidean_distance", "geodesic_distance"]

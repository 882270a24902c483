"""A distance transform of a volume that does not fit the memory it is given.

    python -m medkern.benchmarks.larger_than_memory --op euclidean --limit 1 --size 1024 512 576

The volume is made chunk by chunk and never exists as a whole; the distances go to a file. The
limit, in GiB, holds for the private memory of this process (RLIMIT_DATA), which Python and torch
share: a kernel or a scheduler that keeps more fails with MemoryError instead of swapping.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np


def phantom(block_info: dict[int, dict[str, list[tuple[int, int]]]] | None = None) -> np.ndarray:
    """Smooth waves of 0 to 255 on the voxels of one chunk: a function of the position alone."""
    assert block_info is not None
    place = block_info[None]["array-location"]
    z, y, x = np.ogrid[tuple(slice(a, b) for a, b in place)]
    waves = np.sin(z * 0.11 + y * 0.05) + np.sin(y * 0.07 - x * 0.03) + np.sin(x * 0.13 + z * 0.02)
    return (waves * (255 / 6) + 127.5).astype(np.float32)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", choices=("geodesic", "euclidean"), default="geodesic")
    parser.add_argument("--limit", type=float, default=1.0, help="GiB of private memory")
    parser.add_argument("--size", type=int, nargs=3, default=(1024, 512, 576), help="voxels")
    parser.add_argument("--chunk", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--out", type=Path, help="where to write the distances (.npy)")
    options = parser.parse_args(argv)
    limit = int(options.limit * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    import dask
    import dask.array as da

    import medkern.dask

    image = da.map_blocks(
        phantom, chunks=da.core.normalize_chunks(options.chunk, options.size), dtype=np.float32
    )
    gib = 4 * image.size / 2**30
    print(f"{image.shape}: {gib:.2f} GiB, as much of distances; limit {options.limit} GiB")
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        path = options.out or Path(folder) / "distance.npy"
        out = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=image.shape)
        start = time.perf_counter()
        if options.op == "geodesic":
            seeds = da.zeros(options.size, chunks=options.chunk, dtype=bool)
            seeds[tuple(n // 2 for n in options.size)] = True
            distance = medkern.dask.geodesic_distance(image, seeds)
        else:
            distance = medkern.dask.euclidean_distance(image > 100, signed=True)
        exchanged = time.perf_counter()
        da.store(distance, out)
        end = time.perf_counter()
        finite = all(np.isfinite(plane).all() for plane in out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"exchange or windows {exchanged - start:.1f} s, then distances {end - exchanged:.1f} s")
    print(f"peak resident {peak:.2f} GiB (with the pages of the mapped output)")
    if not finite:
        print("wrong: every voxel can be reached, but some distances are not finite")
    return 0 if finite else 1


if __name__ == "__main__":
    raise SystemExit(main())

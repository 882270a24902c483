// CUDA kernels of the exact minimum barrier distance, by threshold decomposition:
//   rho(p) = min over levels u of M_u(p) - u,
// with M_u(p) the least max I over the paths from a seed through voxels of I >= u. For the level of
// a best path's minimum the difference is its barrier, for every other level it is a path's or
// more. The floods M_u are independent fixpoints of max(M(q), I(p)): items of active_tiles.cuh.
#pragma once

#include <cmath>

#include "active_tiles.cuh"
#include "barrier.hpp"

namespace medkern::MEDKERN_ISA {

// Floods of `at_once` levels, from `first` on, for every unit (a set of seeds of a sample): item
// unit * at_once + i has level first + i.
template <class T>
struct BarrierFront {
  using Value = T;

  BarrierArrays<T> a;
  T* floods;  // [units, at_once, D, H, W]
  int64_t first, at_once;

  struct Item {
    const T* image;

    MEDKERN_DEVICE_INLINE T offer(T value, int64_t, int64_t to, T) const {
      return image[to] > value ? image[to] : value;
    }
  };

  MEDKERN_DEVICE_INLINE int64_t voxels() const {
    return a.grid.size[0] * a.grid.size[1] * a.grid.size[2];
  }
  MEDKERN_DEVICE_INLINE const T* image_of(int64_t item) const {
    return a.image + item / at_once / a.sets * voxels();
  }
  MEDKERN_DEVICE_INLINE T* values(int64_t item) const { return floods + item * voxels(); }
  MEDKERN_DEVICE_INLINE Item item(int64_t item) const { return {image_of(item)}; }
  MEDKERN_DEVICE_INLINE T step(int64_t, int, int, int) const { return T{}; }

  MEDKERN_DEVICE_INLINE T start(int64_t item, int64_t voxel) const {
    const int64_t unit = item / at_once;
    const T intensity = image_of(item)[voxel];
    const bool masked = a.mask != nullptr && !a.mask[unit / a.sets * voxels() + voxel];
    if (masked || !(intensity >= a.levels[first + item % at_once])) return static_cast<T>(NAN);
    return a.seeds[unit * voxels() + voxel] ? intensity : static_cast<T>(INFINITY);
  }
};

template <class Tile, class T>
MEDKERN_GLOBAL void barrier_fwd_start_kernel(BarrierFront<T> front, TileGrid g, TileQueue queue,
                                             int64_t items) {
  start_tiles<Tile>(front, g, queue, items);
}

template <class Tile, class T>
MEDKERN_GLOBAL void barrier_fwd_round_kernel(BarrierFront<T> front, TileGrid g, TileQueue queue,
                                             int round) {
  visit_queued_tiles<Tile>(front, g, queue, round);
}

// The least M_u - u of these levels, and of those before. Walls, NaN, are never less.
template <class T>
MEDKERN_GLOBAL void barrier_fwd_least_kernel(BarrierFront<T> front) {
  const int64_t voxels = front.voxels();
  MEDKERN_GRID_STRIDE(i, front.a.batch * front.a.sets * voxels) {
    int64_t unit, voxel;
    split(i, voxels, unit, voxel);
    T least = front.first == 0 ? static_cast<T>(INFINITY) : front.a.distance[i];
    for (int64_t level = 0; level < front.at_once; ++level) {
      const T flood = front.values(unit * front.at_once + level)[voxel];
      const T barrier = flood - front.a.levels[front.first + level];
      if (barrier < least) least = barrier;
    }
    front.a.distance[i] = least;
  }
}

}  // namespace medkern::MEDKERN_ISA
